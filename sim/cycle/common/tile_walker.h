#pragma once
/// Walks the tiles of one command: for block of columns, for which (gate, up), for group, for bundle (the first, then
/// the levels), for tile over the group's k. A tile is at most rows deep, at most cols wide and never crosses a group.
/// With levels a command that ends inside a group closes it there. TileWalk is the walk itself, for twins that contain
/// one;
/// TileWalker is the twin of rtl/common/moe_tile_walker.sv: the first tile is valid the cycle after start_i, then one a
/// cycle. Asynchronous reset.
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/core_params.h"
#include "sim/program/commands.h"

namespace moesaic::cycle {

class TileWalk {
 public:
  struct Fields {
    std::uint32_t n = 0, k = 0, group_size = 0, group_left = 0;
    unsigned levels = 0;
    bool paired = false, acc_continue = false, group_continue = false, k_last = false;
  };

  TileWalk(unsigned rows, unsigned cols) : rows_(rows), cols_(cols) {}

  void reset();
  void start(const Fields& fields);
  void start(const program::Command& command);
  /// The present tile has been taken.
  void advance();

  /// The present tile; all 0 when there is none.
  struct Tile {
    bool valid = false;
    unsigned tile_k = 0;
    unsigned cols = 0;
    bool which = false;
    unsigned level = 0;  // 0: the first bundle
    bool group_first = false;
    bool group_end = false;
    bool rewind = false;  // the next tile is the group's first again, of the next level
    bool acc_first = false;
    bool block_first = false;
    bool block_end = false;
    bool last = false;
  };
  const Tile& tile() const { return tile_; }
  bool valid() const { return tile_.valid; }

 private:
  void begin_block();
  void settle();
  unsigned rows_, cols_;
  Fields fields_;
  std::uint32_t n_left_ = 0, k_left_ = 0, group_left_ = 0;
  std::uint32_t begin_k_ = 0, begin_group_ = 0;  // k_left_ and group_left_ at the group's first tile
  unsigned level_ = 0;
  bool which_ = false, block_first_ = false, group_first_ = false, acc_first_ = false;
  Tile tile_;
};

class TileWalker : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> start_i{"start_i"};
  sc_core::sc_in<std::uint64_t> n_i{"n_i"};
  sc_core::sc_in<std::uint64_t> k_i{"k_i"};
  sc_core::sc_in<std::uint64_t> group_size_i{"group_size_i"};
  sc_core::sc_in<std::uint64_t> group_left_i{"group_left_i"};
  sc_core::sc_in<bool> paired_i{"paired_i"};
  sc_core::sc_in<bool> acc_continue_i{"acc_continue_i"};
  sc_core::sc_in<bool> group_continue_i{"group_continue_i"};
  sc_core::sc_in<bool> k_last_i{"k_last_i"};
  sc_core::sc_in<std::uint64_t> levels_i{"levels_i"};
  sc_core::sc_out<bool> valid_o{"valid_o"};
  sc_core::sc_in<bool> ready_i{"ready_i"};
  sc_core::sc_out<std::uint64_t> tile_k_o{"tile_k_o"};
  sc_core::sc_out<std::uint64_t> cols_o{"cols_o"};
  sc_core::sc_out<bool> which_o{"which_o"};
  sc_core::sc_out<std::uint64_t> level_o{"level_o"};
  sc_core::sc_out<bool> group_first_o{"group_first_o"};
  sc_core::sc_out<bool> group_end_o{"group_end_o"};
  sc_core::sc_out<bool> rewind_o{"rewind_o"};
  sc_core::sc_out<bool> acc_first_o{"acc_first_o"};
  sc_core::sc_out<bool> block_first_o{"block_first_o"};
  sc_core::sc_out<bool> block_end_o{"block_end_o"};
  sc_core::sc_out<bool> last_o{"last_o"};

  SC_HAS_PROCESS(TileWalker);
  TileWalker(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  void on_clock();
  void drive_tile();
  TileWalk walk_;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
