#pragma once
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/command_signal.h"
#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/lanes.h"
#include "sim/cycle/common/tile_walker.h"

namespace moesaic::cycle {

/// Issues the beats of one matmul: for tile (a group's once a bundle), for token, for digit set. RTL twin:
/// rtl/core/moe_tile_sequencer.sv. Rate one beat per cycle, asynchronous reset.
class TileSequencer : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> start_i{"start_i"};
  sc_core::sc_in<program::Command> cmd_i{"cmd_i"};
  sc_core::sc_out<bool> done_o{"done_o"};
  sc_core::sc_out<std::uint64_t> read_addr_o{"read_addr_o"};
  sc_core::sc_in<Lanes<std::int32_t>> read_data_i{"read_data_i"};
  sc_core::sc_out<bool> beat_valid_o{"beat_valid_o"};
  sc_core::sc_in<bool> beat_ready_i{"beat_ready_i"};
  sc_core::sc_out<Lanes<std::int32_t>> beat_x_o{"beat_x_o"};
  sc_core::sc_out<std::uint64_t> beat_plane_o{"beat_plane_o"};
  sc_core::sc_out<std::uint64_t> beat_enable_o{"beat_enable_o"};
  sc_core::sc_out<std::uint64_t> beat_shift_o{"beat_shift_o"};
  sc_core::sc_out<std::uint64_t> beat_tag_o{"beat_tag_o"};
  sc_core::sc_out<bool> beat_last_o{"beat_last_o"};
  sc_core::sc_in<bool> sum_fire_i{"sum_fire_i"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(TileSequencer);
  TileSequencer(sc_core::sc_module_name name, const CoreParams& params);

 private:
  struct Beat {
    bool valid = false, last = false;
    Lanes<std::int32_t> x;
    std::uint64_t plane = 0, enable = 0, shift = 0, tag = 0;
  };
  bool finishes() const { return active_ && !walk_.valid() && !beat_.valid && flight_ == 0; }
  bool issues() const { return walk_.valid() && (!beat_.valid || beat_ready_i.read()); }
  void issue();
  void on_clock();
  void drive_state();
  void drive_activity();

  CoreParams params_;
  TileWalk walk_;
  bool active_ = false;
  std::uint64_t tile_ = 0, row_ = 0;
  std::uint64_t group_tile_ = 0;  // tile_ at the group's first tile
  unsigned token_ = 0, plane_ = 0, flight_ = 0;
  Beat beat_;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
