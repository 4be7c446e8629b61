#pragma once
/// Turns a matmul command into the byte segments of its weights, in the order in which WeightLoader consumes them.
/// RTL twin: rtl/memory/moe_weight_fetch.sv. One segment a cycle; one cycle from a command to its first segment. A
/// segment with seg_resume_o begins in the beat in which the command's last one of its seg_keep_o ended. cmd_i is
/// stable until cmd_ready_o, which comes with the transfer of the command's last segment. Asynchronous reset.
#include <array>
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/command_signal.h"
#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/tile_walker.h"

namespace moesaic::cycle {

class WeightFetch : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> cmd_valid_i{"cmd_valid_i"};
  sc_core::sc_out<bool> cmd_ready_o{"cmd_ready_o"};
  sc_core::sc_in<program::Command> cmd_i{"cmd_i"};
  sc_core::sc_out<bool> seg_valid_o{"seg_valid_o"};
  sc_core::sc_in<bool> seg_ready_i{"seg_ready_i"};
  sc_core::sc_out<std::uint64_t> seg_addr_o{"seg_addr_o"};
  sc_core::sc_out<std::uint64_t> seg_bytes_o{"seg_bytes_o"};
  sc_core::sc_out<std::uint64_t> seg_keep_o{"seg_keep_o"};
  sc_core::sc_out<bool> seg_resume_o{"seg_resume_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(WeightFetch);
  WeightFetch(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  enum class Stage { kParams, kPlanes, kRequant };
  Stage stage() const;
  bool in_level() const { return walk_.tile().level != 0; }
  unsigned planes() const { return in_level() ? 1 : command_.planes_read; }  // read of the bundle
  unsigned plane_bytes() const;
  unsigned base_param_bytes() const;
  unsigned param_bytes() const;
  unsigned requant_bytes() const;
  std::uint64_t scattered_offset() const;  // of the present plane, from the first of all
  bool ends_tile() const;                  // the present segment is its tile's last
  struct Segment {
    std::uint64_t addr = 0, bytes = 0;
  };
  Segment segment() const;
  std::uint64_t beat_of(std::uint64_t addr) const { return addr / beat_bytes_; }
  void step();
  void reset();
  void on_clock();
  void drive_segment();
  void drive_cmd_ready();
  void drive_activity();

  static constexpr std::uint64_t kNone = ~std::uint64_t{0};
  const unsigned beat_bytes_;
  TileWalk walk_;
  program::Command command_;
  Stage stage_ = Stage::kParams;
  unsigned plane_ = 0;
  std::uint64_t plane_offset_ = 0, weight_ = 0, params_ = 0, requant_ = 0;
  std::uint64_t group_weight_ = 0;           // weight_ at the group's first tile
  std::uint64_t bundle_offset_ = 0;          // plane_major: the bundle's first plane, from the first of all
  std::uint64_t level_params_ = 0;           // level 1's of this group
  std::uint64_t level_offset_ = 0;           // this level's parameters, from level 1's
  std::array<std::uint64_t, 3> end_beat_{};  // of each stage that in which its last segment ended, or kNone
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
