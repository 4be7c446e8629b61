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
    : sc_core::sc_module(name), walk_(params.rows, params.cols) {
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
  } else {
    return;
  }
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void WeightFetch::drive_segment() {
  std::uint64_t addr = 0, bytes = 0;
  if (walk_.valid()) {
    switch (stage()) {
      case Stage::kParams:
        if (in_level())
          addr = (level_params_ + (command_.scattered ? scattered_offset() : level_offset_)) & kAddrMask;
        else
          addr = command_.interleaved ? weight_ : params_;
        bytes = param_bytes();
        break;
      case Stage::kRequant:
        addr = command_.interleaved ? weight_ : requant_;
        bytes = requant_bytes();
        break;
      case Stage::kPlanes:
        addr = command_.plane_major
                   ? (command_.scattered ? scattered_offset() : plane_offset_)
                   : plane_bytes() * (in_level() ? command_.planes_read + walk_.tile().level - 1U : 0U);
        addr = (weight_ + addr) & kAddrMask;
        bytes = plane_bytes() * (command_.plane_major ? 1u : planes());
        break;
    }
  }
  seg_valid_o.write(walk_.valid());
  seg_addr_o.write(addr);
  seg_bytes_o.write(bytes);
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
