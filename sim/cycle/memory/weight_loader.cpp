#include "sim/cycle/memory/weight_loader.h"

#include <algorithm>

namespace moesaic::cycle {

using program::Activity;

WeightLoader::WeightLoader(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_core::sc_module(name),
      params_(params),
      wide_cols_(std::min(params.cols, params.axi_data_bits / 16)),
      narrow_cols_(std::min(params.cols, params.axi_data_bits / 8)),
      walk_(params.rows, params.cols) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_params);
  sensitive << params_changed_;
  SC_METHOD(drive_requant);
  sensitive << requant_changed_;
  SC_METHOD(drive_weights);
  sensitive << changed_ << avail_i << data_i;
  SC_METHOD(drive_pop);
  sensitive << changed_ << avail_i << w_ready_i;
  SC_METHOD(drive_cmd_ready);
  sensitive << changed_ << avail_i << w_ready_i;
  SC_METHOD(drive_activity);
  sensitive << changed_ << avail_i << w_ready_i << cmd_valid_i;
}

WeightLoader::Step WeightLoader::plan() const {
  Step step;
  const TileWalk::Tile& tile = walk_.tile();
  if (!tile.valid) return step;
  step.stage = stage_ == Stage::kScale && !tile.group_end ? Stage::kPlane : stage_;
  unsigned most = wide_cols_, value_bits = 16;
  bool room = param_count_ != 2;
  switch (step.stage) {
    case Stage::kScale:
      break;
    case Stage::kZero:
      most = narrow_cols_;
      value_bits = 8;
      break;
    case Stage::kPlane:
      most = params_.load_cols();
      value_bits = tile.tile_k;
      room = w_ready_i.read();
      break;
    case Stage::kMu:
      room = rq_count_ != 2;
      break;
    case Stage::kSigma:
      most = narrow_cols_;
      value_bits = 8;
      room = rq_count_ != 2;
      break;
  }
  const unsigned left = tile.cols - col_;
  step.last = left <= most;
  step.cols = std::min(left, most);
  step.bits = step.cols * value_bits;
  step.pop = step.bits;
  if (step.stage == Stage::kPlane && step.last) step.pop += (8 - tile.tile_k * tile.cols % 8) % 8;
  const bool requant_follows = tile.block_end && command_.k_last;
  step.tile_done = step.last && (step.stage == Stage::kSigma ||
                                 (step.stage == Stage::kPlane && !requant_follows && plane_ + 1 == planes()));
  step.enough = avail_i.read() >= step.bits;
  step.goes = step.enough && room;
  return step;
}

void WeightLoader::take(const Step& step) {
  const Beat& data = data_i.read();
  Params& param = param_[param_write_];
  Requant& rq = rq_[rq_write_];
  switch (step.stage) {
    case Stage::kScale:
      if (col_ == 0) param = Params{};
      param.up = in_level() ? 1U : command_.up;  // a level is one plane of +1 and -1: 2 * bit - 1
      for (unsigned i = 0; i < step.cols; ++i) {
        param.s.push_back(static_cast<std::uint32_t>(take_bits(data, 16 * i, 16)));
      }
      if (step.last && offset_mode()) {
        param.z = Lanes<std::int32_t>(walk_.tile().cols, 1);
      }
      break;
    case Stage::kZero:
      for (unsigned i = 0; i < step.cols; ++i) {
        param.z.push_back(static_cast<std::int32_t>(take_bits(data, 8 * i, 8)) - command_.z_adjust);
      }
      break;
    case Stage::kMu:
      if (col_ == 0) rq = Requant{};
      for (unsigned i = 0; i < step.cols; ++i) {
        rq.mu.push_back(static_cast<std::uint32_t>(take_bits(data, 16 * i, 16)));
      }
      break;
    case Stage::kSigma:
      for (unsigned i = 0; i < step.cols; ++i) {
        rq.sigma.push_back(static_cast<std::uint32_t>(take_bits(data, 8 * i, 8)));
      }
      break;
    case Stage::kPlane:
      break;
  }
  col_ = step.last ? 0 : col_ + step.cols;
  stage_ = step.stage;
  if (!step.last) return;
  const bool params_done = step.stage == Stage::kZero || (step.stage == Stage::kScale && offset_mode());
  if (params_done) {
    param_write_ ^= 1;
    ++param_count_;
    params_changed_.notify(sc_core::SC_ZERO_TIME);
  }
  switch (step.stage) {
    case Stage::kScale:
      stage_ = offset_mode() ? Stage::kPlane : Stage::kZero;
      break;
    case Stage::kZero:
      stage_ = Stage::kPlane;
      break;
    case Stage::kPlane:
      if (plane_ + 1 == planes()) {
        plane_ = 0;
        stage_ = step.tile_done ? Stage::kScale : Stage::kMu;
      } else {
        ++plane_;
      }
      break;
    case Stage::kMu:
      stage_ = Stage::kSigma;
      break;
    case Stage::kSigma:
      stage_ = Stage::kScale;
      rq_write_ ^= 1;
      ++rq_count_;
      requant_changed_.notify(sc_core::SC_ZERO_TIME);
      break;
  }
  if (step.tile_done) walk_.advance();
}

void WeightLoader::reset() {
  walk_.reset();
  stage_ = Stage::kScale;
  plane_ = col_ = 0;
  param_write_ = param_read_ = param_count_ = 0;
  rq_write_ = rq_read_ = rq_count_ = 0;
}

void WeightLoader::on_clock() {
  if (!rst_ni.read()) {
    reset();
    changed_.notify(sc_core::SC_ZERO_TIME);
    params_changed_.notify(sc_core::SC_ZERO_TIME);
    requant_changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  const Step step = plan();  // before the FIFOs are popped
  bool changed = false;
  if (param_count_ != 0 && param_ready_i.read()) {
    param_read_ ^= 1;
    --param_count_;
    params_changed_.notify(sc_core::SC_ZERO_TIME);
    changed = true;
  }
  if (rq_count_ != 0 && rq_ready_i.read()) {
    rq_read_ ^= 1;
    --rq_count_;
    requant_changed_.notify(sc_core::SC_ZERO_TIME);
    changed = true;
  }
  if (step.goes) {
    take(step);
    changed = true;
  } else if (!walk_.valid() && cmd_valid_i.read()) {
    command_ = cmd_i.read();
    walk_.start(command_);
    changed = true;
  }
  if (changed) changed_.notify(sc_core::SC_ZERO_TIME);
}

void WeightLoader::drive_params() {
  const bool valid = param_count_ != 0;
  param_valid_o.write(valid);
  param_s_o.write(valid ? param_[param_read_].s : Lanes<std::uint32_t>{});
  param_z_o.write(valid ? param_[param_read_].z : Lanes<std::int32_t>{});
  param_up_o.write(valid ? param_[param_read_].up : 0);
}

void WeightLoader::drive_requant() {
  const bool valid = rq_count_ != 0;
  rq_valid_o.write(valid);
  rq_mu_o.write(valid ? rq_[rq_read_].mu : Lanes<std::uint32_t>{});
  rq_sigma_o.write(valid ? rq_[rq_read_].sigma : Lanes<std::uint32_t>{});
}

void WeightLoader::drive_weights() {
  const Step step = plan();
  const bool valid = step.enough && step.stage == Stage::kPlane;
  Lanes<std::uint64_t> bits;
  if (valid) {
    const unsigned tile_k = walk_.tile().tile_k;
    const Beat& data = data_i.read();
    for (unsigned lane = 0; lane < step.cols; ++lane) bits.push_back(take_bits(data, lane * tile_k, tile_k));
  }
  w_valid_o.write(valid);
  w_plane_o.write(valid ? plane_ : 0);
  w_first_col_o.write(valid ? col_ : 0);
  w_bits_o.write(bits);
  w_mask_o.write(valid ? ~std::uint64_t{0} >> (64 - step.cols) : 0);
  w_last_o.write(valid && step.last && plane_ + 1 == planes());
}

void WeightLoader::drive_pop() {
  const Step step = plan();
  pop_o.write(step.goes ? step.pop : 0);
}

void WeightLoader::drive_cmd_ready() {
  const Step step = plan();
  cmd_ready_o.write(step.goes && step.tile_done && walk_.tile().last);
}

void WeightLoader::drive_activity() {
  const Step step = plan();
  Activity activity = Activity::kIdle;
  if (step.goes || (!walk_.valid() && cmd_valid_i.read())) {
    activity = Activity::kBusy;
  } else if (walk_.valid()) {
    activity = step.enough ? Activity::kBlocked : Activity::kStarved;
  }
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
