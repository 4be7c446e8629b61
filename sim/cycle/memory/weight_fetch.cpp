#include "sim/cycle/memory/weight_fetch.h"

#include "sim/program/interleaved.h"
#include "sim/program/scattered_planes.h"

namespace moesaic::cycle {

using program::Activity;
using program::in_bursts;

namespace {
constexpr std::uint64_t kAddrMask = (std::uint64_t{1} << CoreParams::kAddrBits) - 1;
}

WeightFetch::WeightFetch(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_core::sc_module(name), beat_bytes_(params.beat_bytes()), walk_(params.rows, params.cols) {
  end_beat_.fill(kNone);
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_segment);
  sensitive << changed_;
  SC_METHOD(drive_cmd_ready);
  sensitive << changed_ << seg_ready_i;
  SC_METHOD(drive_activity);
  sensitive << changed_ << seg_ready_i << cmd_valid_i;
}

WeightFetch::Stage WeightFetch::stage() const {
  return stage_ == Stage::kParams && !walk_.tile().group_end ? Stage::kPlanes : stage_;
}

unsigned WeightFetch::plane_bytes() const { return (walk_.tile().tile_k * walk_.tile().cols + 7) / 8; }

std::uint64_t WeightFetch::scattered_offset() const {
  return program::scattered_offset(command_, in_level() ? command_.planes_read + walk_.tile().level - 1U : plane_);
}

unsigned WeightFetch::base_param_bytes() const { return walk_.tile().cols * (command_.offset_mode ? 2 : 3); }

unsigned WeightFetch::param_bytes() const { return in_level() ? walk_.tile().cols * 2 : base_param_bytes(); }

unsigned WeightFetch::requant_bytes() const { return walk_.tile().cols * 3; }

bool WeightFetch::ends_tile() const {
  if (stage() == Stage::kParams) return false;
  if (stage() == Stage::kRequant) return true;
  const bool last_plane = !command_.plane_major || plane_ + 1 == planes();
  return last_plane && !(walk_.tile().block_end && command_.k_last);
}

void WeightFetch::step() {
  const bool tile_done = ends_tile();
  const Segment taken = segment();
  end_beat_[static_cast<std::size_t>(stage())] = beat_of((taken.addr + taken.bytes - 1) & kAddrMask);
  switch (stage()) {
    case Stage::kParams:
      if (!in_level()) {
        params_ = (params_ + param_bytes()) & kAddrMask;
      } else if (walk_.tile().rewind) {
        level_offset_ = (level_offset_ + command_.level_stride) & kAddrMask;
      } else {
        level_offset_ = 0;
        level_params_ = (level_params_ + param_bytes()) & kAddrMask;
      }
      if (command_.interleaved) weight_ = (weight_ + in_bursts(base_param_bytes())) & kAddrMask;
      stage_ = Stage::kPlanes;
      break;
    case Stage::kRequant:
      requant_ = (requant_ + requant_bytes()) & kAddrMask;
      if (command_.interleaved) weight_ = group_weight_ = (weight_ + in_bursts(requant_bytes())) & kAddrMask;
      stage_ = Stage::kParams;
      break;
    case Stage::kPlanes:
      if (command_.plane_major && plane_ + 1 != planes()) {
        ++plane_;
        plane_offset_ = (plane_offset_ + command_.plane_stride) & kAddrMask;
        stage_ = Stage::kPlanes;
      } else {
        weight_ = (weight_ + plane_bytes() * (command_.plane_major ? 1u : command_.planes_stored)) & kAddrMask;
        plane_ = 0;
        if (walk_.tile().rewind) {
          bundle_offset_ = (plane_offset_ + (in_level() ? command_.level_stride : command_.plane_stride)) & kAddrMask;
          weight_ = group_weight_;
        } else if (walk_.tile().group_end) {
          bundle_offset_ = 0;
          group_weight_ = weight_;
        }
        plane_offset_ = bundle_offset_;
        stage_ = tile_done ? Stage::kParams : Stage::kRequant;
      }
      break;
  }
  if (tile_done) walk_.advance();
}

void WeightFetch::reset() {
  walk_.reset();
  stage_ = Stage::kParams;
  plane_ = 0;
  plane_offset_ = weight_ = params_ = requant_ = 0;
  group_weight_ = bundle_offset_ = level_params_ = level_offset_ = 0;
  end_beat_.fill(kNone);
}

void WeightFetch::on_clock() {
  if (!rst_ni.read()) {
    reset();
  } else if (walk_.valid()) {
    if (!seg_ready_i.read()) return;
    step();
  } else if (cmd_valid_i.read()) {
    command_ = cmd_i.read();
    walk_.start(command_);
    weight_ = group_weight_ = command_.weight_addr;
    plane_offset_ = bundle_offset_ = level_offset_ = 0;
    level_params_ = command_.level_params_addr;
    params_ = command_.params_addr;
    requant_ = command_.requant_addr;
    end_beat_.fill(kNone);
  } else {
    return;
  }
  changed_.notify(sc_core::SC_ZERO_TIME);
}

WeightFetch::Segment WeightFetch::segment() const {
  Segment segment;
  switch (stage()) {
    case Stage::kParams:
      if (in_level())
        segment.addr = (level_params_ + (command_.scattered ? scattered_offset() : level_offset_)) & kAddrMask;
      else
        segment.addr = command_.interleaved ? weight_ : params_;
      segment.bytes = param_bytes();
      break;
    case Stage::kRequant:
      segment.addr = command_.interleaved ? weight_ : requant_;
      segment.bytes = requant_bytes();
      break;
    case Stage::kPlanes:
      segment.addr = command_.plane_major
                         ? (command_.scattered ? scattered_offset() : plane_offset_)
                         : plane_bytes() * (in_level() ? command_.planes_read + walk_.tile().level - 1U : 0U);
      segment.addr = (weight_ + segment.addr) & kAddrMask;
      segment.bytes = plane_bytes() * (command_.plane_major ? 1u : planes());
      break;
  }
  return segment;
}

void WeightFetch::drive_segment() {
  const bool valid = walk_.valid();
  const Segment offered = valid ? segment() : Segment{};
  seg_valid_o.write(valid);
  seg_addr_o.write(offered.addr);
  seg_bytes_o.write(offered.bytes);
  seg_keep_o.write(valid ? static_cast<std::uint64_t>(stage()) : 0);
  seg_resume_o.write(valid && beat_of(offered.addr) == end_beat_[static_cast<std::size_t>(stage())]);
}

void WeightFetch::drive_cmd_ready() {
  cmd_ready_o.write(walk_.valid() && seg_ready_i.read() && walk_.tile().last && ends_tile());
}

void WeightFetch::drive_activity() {
  Activity activity = Activity::kIdle;
  if (walk_.valid()) {
    activity = seg_ready_i.read() ? Activity::kBusy : Activity::kBlocked;
  } else if (cmd_valid_i.read()) {
    activity = Activity::kBusy;
  }
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
