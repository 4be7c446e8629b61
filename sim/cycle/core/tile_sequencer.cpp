#include "sim/cycle/core/tile_sequencer.h"

#include "sim/cycle/common/beat_tag.h"

namespace moesaic::cycle {

using program::Activity;
using program::Command;

TileSequencer::TileSequencer(sc_core::sc_module_name name, const CoreParams& params)
    : sc_module(name), params_(params), walk_(params.rows, params.cols) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_state);
  sensitive << changed_;
  SC_METHOD(drive_activity);
  sensitive << changed_ << start_i << beat_ready_i;
}

/// Fills the beat register from the walk's present tile and steps to the next digit set, token or tile.
void TileSequencer::issue() {
  const Command& command = cmd_i.read();
  const unsigned planes = walk_.tile().level != 0 ? 1U : command.planes_read;  // of the bundle
  const bool last_set = plane_ + params_.planes_per_cycle >= planes;
  const bool last_token = token_ + 1 == command.tokens;
  const bool block_done = walk_.tile().block_end && command.k_last && last_set && last_token;
  beat_.valid = true;
  beat_.x = read_data_i.read();
  beat_.plane = plane_;
  beat_.enable = 0;
  for (unsigned j = 0; j < params_.planes_per_cycle; ++j) {
    if (plane_ + j < planes) beat_.enable |= std::uint64_t{1} << j;
  }
  beat_.shift = (planes - 1 - plane_) & 7;
  BeatTag tag;
  tag.token = static_cast<unsigned>(token_);
  tag.digit_first = plane_ == 0;
  tag.group_first = walk_.tile().group_first;
  tag.group_end = walk_.tile().group_end && last_set;
  tag.acc_first = walk_.tile().acc_first;
  tag.block_done = block_done;
  beat_.tag = tag.pack();
  beat_.last = last_set && last_token;

  plane_ += params_.planes_per_cycle;
  if (!last_set) return;
  plane_ = 0;
  ++token_;
  row_ = (row_ + command.act_stride) % params_.act_depth;
  if (!last_token) return;
  token_ = 0;
  row_ = 0;
  tile_ = walk_.tile().block_end ? 0 : walk_.tile().rewind ? group_tile_ : (tile_ + 1) % params_.act_depth;
  if (walk_.tile().group_end && !walk_.tile().rewind) group_tile_ = tile_;
  walk_.advance();
}

void TileSequencer::on_clock() {
  if (!rst_ni.read()) {
    walk_.reset();
    active_ = false;
    tile_ = row_ = group_tile_ = 0;
    token_ = plane_ = flight_ = 0;
    beat_ = Beat{};
    changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  if (!active_ && !start_i.read()) return;
  const bool done = finishes(), issuing = issues(), beat_fire = beat_.valid && beat_ready_i.read();
  const bool sum_fire = sum_fire_i.read();
  if (!start_i.read() && !done && !issuing && !beat_fire && !sum_fire) return;
  flight_ += beat_fire;
  flight_ -= sum_fire;
  if (beat_fire) beat_ = Beat{};
  if (start_i.read()) {
    walk_.start(cmd_i.read());
    tile_ = row_ = group_tile_ = 0;
    token_ = plane_ = 0;
  } else if (issuing) {
    issue();
  }
  active_ = (active_ || start_i.read()) && !done;
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void TileSequencer::drive_state() {
  done_o.write(finishes());
  read_addr_o.write((row_ + tile_) % params_.act_depth);
  beat_valid_o.write(beat_.valid);
  beat_x_o.write(beat_.x);
  beat_plane_o.write(beat_.plane);
  beat_enable_o.write(beat_.enable);
  beat_shift_o.write(beat_.shift);
  beat_tag_o.write(beat_.tag);
  beat_last_o.write(beat_.last);
}

void TileSequencer::drive_activity() {
  const bool moves = start_i.read() || (beat_.valid && beat_ready_i.read()) || issues() || finishes();
  const Activity activity = moves         ? Activity::kBusy
                            : beat_.valid ? Activity::kBlocked
                            : active_     ? Activity::kStarved
                                          : Activity::kIdle;
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
