#include "sim/cycle/dequant/requant.h"

#include "reference/numerics/integer.h"
#include "sim/program/commands.h"
#include "sim/program/core_params.h"

namespace moesaic::cycle {

Requant::Requant(const sc_core::sc_module_name& name) : sc_module(name) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_in_ready);
  sensitive << out_ready_i << changed_;
  SC_METHOD(drive_activity);
  sensitive << in_valid_i << out_ready_i << changed_;
}

void Requant::reset() {
  stage1_ = {};
  stage2_valid_ = false;
  out_valid_o.write(false);
  out_y_o.write({});
  out_acc_o.write({});
  out_meta_o.write(0);
  shift_error_o.write(false);
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void Requant::on_clock() {
  if (!rst_ni.read()) return reset();
  if (!advance()) return;
  const bool in_fire = in_valid_i.read();
  if (!in_fire && !stage1_.valid && !stage2_valid_) return;
  changed_.notify(sc_core::SC_ZERO_TIME);
  stage2_valid_ = stage1_.valid;
  out_valid_o.write(stage1_.valid);
  out_y_o.write(stage1_.y);
  out_acc_o.write(stage1_.acc);
  out_meta_o.write(stage1_.meta);
  stage1_ = {};
  if (!in_fire) return;
  constexpr unsigned kLanes = program::CoreParams::kPostLanes;
  stage1_.valid = true;
  stage1_.acc = in_acc_i.read();
  stage1_.meta = in_meta_i.read();
  stage1_.y.resize(kLanes);
  for (unsigned i = 0; i < kLanes; ++i) {
    if ((in_mask_i.read() >> i & 1) == 0) continue;
    const std::int64_t shift = in_sigma_i.read().at_or_zero(i) + in_shift_i.read();
    if (shift < 0 || shift > numerics::kMaxRequantShift) {
      shift_error_o.write(true);
      continue;
    }
    stage1_.y[i] =
        numerics::requantise(in_acc_i.read().at_or_zero(i), static_cast<std::uint16_t>(in_mu_i.read().at_or_zero(i)),
                             static_cast<int>(shift), static_cast<int>(in_out_bits_i.read()));
  }
}

void Requant::drive_in_ready() { in_ready_o.write(advance()); }

void Requant::drive_activity() {
  program::Activity activity = program::Activity::kIdle;
  if (!advance()) {
    activity = program::Activity::kBlocked;
  } else if (in_valid_i.read() || stage1_.valid || stage2_valid_) {
    activity = program::Activity::kBusy;
  }
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
