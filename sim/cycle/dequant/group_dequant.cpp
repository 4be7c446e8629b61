#include "sim/cycle/dequant/group_dequant.h"

#include "sim/cycle/common/beat_tag.h"
#include "sim/cycle/common/wrap.h"
#include "sim/program/commands.h"

namespace moesaic::cycle {

GroupDequant::GroupDequant(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_module(name),
      cols_(params.cols),
      p_(static_cast<std::size_t>(params.max_tokens) * params.cols),
      x_(params.max_tokens) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_sum_ready);
  sensitive << param_valid_i << add_ready_i << changed_;
  SC_METHOD(drive_param_ready);
  sensitive << add_ready_i << changed_;
  SC_METHOD(drive_direct_ready);
  sensitive << add_ready_i << changed_;
  SC_METHOD(drive_idle);
  sensitive << changed_;
  SC_METHOD(drive_activity);
  sensitive << sum_valid_i << param_valid_i << direct_valid_i << add_ready_i << changed_;
}

void GroupDequant::reset() {
  open_ = false;
  stage1_ = {};
  stage2_ = {};
  stage3_ = {};
  add_valid_o.write(false);
  add_token_o.write(0);
  add_first_o.write(false);
  add_done_o.write(false);
  add_value_o.write({});
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void GroupDequant::on_clock() {
  if (!rst_ni.read()) return reset();
  const bool move3 = advance3();
  const bool move2 = advance2();
  const bool leave = leave1();
  const bool move1 = advance1();
  const bool sum_fire = sum_valid_i.read() && move1;
  const bool direct_fire = direct_valid_i.read() && direct_ready();
  if (!sum_fire && !direct_fire && !stage1_.valid && !stage2_.valid && !stage3_.valid) return;

  if (move3 && (stage2_.valid || stage3_.valid)) {
    Lanes<std::int64_t> value;
    stage3_ = stage2_.valid ? stage2_ : Stage{};
    if (stage2_.valid) {
      value.resize(cols_);
      for (unsigned c = 0; c < cols_; ++c) value[c] = mul48(s2_[c], d2_[c]);
    }
    add_valid_o.write(stage3_.valid);
    add_token_o.write(stage3_.token);
    add_first_o.write(stage3_.first);
    add_done_o.write(stage3_.done);
    add_value_o.write(value);
  }
  if (move2) stage2_.valid = leave || direct_fire;
  if (leave) {
    const Lanes<std::uint32_t>& s = param_s_i.read();
    const Lanes<std::int32_t>& z = param_z_i.read();
    stage2_ = stage1_;
    d2_.resize(cols_);
    s2_.resize(cols_);
    for (unsigned c = 0; c < cols_; ++c) {
      d2_[c] = add48(mul48(p1_[c], std::int64_t{1} << param_up_i.read()), mul48(-z.at_or_zero(c), x1_));
      s2_[c] = s.at_or_zero(c);
    }
  } else if (direct_fire) {
    stage2_ = {true, false, direct_first_i.read(), direct_done_i.read(), direct_token_i.read()};
    d2_.resize(cols_);
    s2_.resize(cols_);
    for (unsigned c = 0; c < cols_; ++c) {
      d2_[c] = direct_d_i.read().at_or_zero(c);
      s2_[c] = static_cast<std::uint32_t>(direct_s_i.read());
    }
  }
  if (move1) stage1_.valid = false;
  if (sum_fire) {
    const BeatTag tag = BeatTag::unpack(sum_tag_i.read());
    const Lanes<std::int64_t>& sum = sum_i.read();
    const bool fresh = tag.digit_first && tag.group_first;
    std::int64_t* p = &p_[static_cast<std::size_t>(tag.token) * cols_];
    for (unsigned c = 0; c < cols_; ++c) p[c] = add48(fresh ? 0 : p[c], sum.at_or_zero(c));
    x_[tag.token] = add48(fresh ? 0 : x_[tag.token], tag.digit_first ? rowsum_i.read() : 0);
    const bool last = tag.token + 1 == tokens_i.read();
    open_ = !(tag.group_end && last);
    if (tag.group_end) {
      stage1_ = {true, last, tag.acc_first, tag.block_done, tag.token};
      p1_.resize(cols_);
      std::copy_n(p, cols_, p1_.begin());
      x1_ = x_[tag.token];
    }
  }
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void GroupDequant::drive_sum_ready() { sum_ready_o.write(advance1()); }

void GroupDequant::drive_param_ready() { param_ready_o.write(stage1_.valid && stage1_.last && advance2()); }

void GroupDequant::drive_direct_ready() { direct_ready_o.write(direct_ready()); }

void GroupDequant::drive_idle() { idle_o.write(!stage1_.valid && !stage2_.valid && !stage3_.valid); }

void GroupDequant::drive_activity() {
  program::Activity activity = program::Activity::kIdle;
  if ((sum_valid_i.read() && advance1()) || leave1() || (direct_valid_i.read() && direct_ready()) ||
      (stage2_.valid && advance3()) || (stage3_.valid && add_ready_i.read())) {
    activity = program::Activity::kBusy;
  } else if (stage3_.valid) {
    activity = program::Activity::kBlocked;
  } else if (stage1_.valid || open_) {
    activity = program::Activity::kStarved;
  }
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
