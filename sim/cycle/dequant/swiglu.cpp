#include "sim/cycle/dequant/swiglu.h"

#include "reference/numerics/swiglu.h"
#include "sim/program/commands.h"
#include "sim/program/core_params.h"

namespace moesaic::cycle {

Swiglu::Swiglu(const sc_core::sc_module_name& name) : sc_module(name) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_in_ready);
  sensitive << out_ready_i << changed_;
  SC_METHOD(drive_activity);
  sensitive << in_valid_i << out_ready_i << changed_;
}

void Swiglu::reset() {
  stage_ = {};
  stage3_valid_ = false;
  out_valid_o.write(false);
  out_h_o.write({});
  out_meta_o.write(0);
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void Swiglu::on_clock() {
  if (!rst_ni.read()) return reset();
  if (!advance()) return;
  const bool in_fire = in_valid_i.read();
  if (!in_fire && !stage_[0].valid && !stage_[1].valid && !stage3_valid_) return;
  changed_.notify(sc_core::SC_ZERO_TIME);
  stage3_valid_ = stage_[1].valid;
  out_valid_o.write(stage_[1].valid);
  Lanes<std::int32_t> h(stage_[1].h.size());
  std::copy(stage_[1].h.begin(), stage_[1].h.end(), h.begin());
  out_h_o.write(h);
  out_meta_o.write(stage_[1].meta);
  stage_[1] = stage_[0];
  stage_[0] = {};
  if (!in_fire) return;
  constexpr unsigned kLanes = program::CoreParams::kPostLanes;
  stage_[0].valid = true;
  stage_[0].meta = in_meta_i.read();
  stage_[0].h.resize(kLanes);
  for (unsigned i = 0; i < kLanes; ++i) {
    stage_[0].h[i] =
        numerics::swiglu(static_cast<std::int16_t>(in_g_i.read().at_or_zero(i)),
                         static_cast<std::int16_t>(in_u_i.read().at_or_zero(i)), static_cast<int>(in_sigma_h_i.read()));
  }
}

void Swiglu::drive_in_ready() { in_ready_o.write(advance()); }

void Swiglu::drive_activity() {
  program::Activity activity = program::Activity::kIdle;
  if (!advance()) {
    activity = program::Activity::kBlocked;
  } else if (in_valid_i.read() || stage_[0].valid || stage_[1].valid || stage3_valid_) {
    activity = program::Activity::kBusy;
  }
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
