#pragma once
/// Runs load_act (memory or hidden rows into the activation buffer, in tiles) and combine (r and the experts' rows to
/// the accumulators). RTL twin: rtl/memory/moe_act_loader.sv. load_act: 4 elements a cycle; combine: per (token,
/// expert) one cycle for r, one per axi_data_bits of the row, one to offer. done_o pulses the cycle after the last
/// write or transfer. Asynchronous reset.
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/command_signal.h"
#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/tile_walker.h"
#include "sim/cycle/memory/beat.h"

namespace moesaic::cycle {

class ActLoader : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> start_i{"start_i"};
  sc_core::sc_in<program::Command> cmd_i{"cmd_i"};
  sc_core::sc_out<bool> done_o{"done_o"};
  sc_core::sc_out<std::uint64_t> row_token_o{"row_token_o"};
  sc_core::sc_in<std::uint64_t> row_in_addr_i{"row_in_addr_i"};
  sc_core::sc_out<bool> seg_valid_o{"seg_valid_o"};
  sc_core::sc_in<bool> seg_ready_i{"seg_ready_i"};
  sc_core::sc_out<std::uint64_t> seg_addr_o{"seg_addr_o"};
  sc_core::sc_out<std::uint64_t> seg_bytes_o{"seg_bytes_o"};
  sc_core::sc_in<std::uint64_t> avail_i{"avail_i"};
  sc_core::sc_in<Beat> data_i{"data_i"};
  sc_core::sc_out<std::uint64_t> pop_o{"pop_o"};
  sc_core::sc_out<std::uint64_t> hidden_addr_o{"hidden_addr_o"};
  sc_core::sc_in<Lanes<std::int32_t>> hidden_data_i{"hidden_data_i"};
  sc_core::sc_out<std::uint64_t> eh_token_o{"eh_token_o"};
  sc_core::sc_in<std::uint64_t> eh_i{"eh_i"};
  sc_core::sc_out<bool> act_write_valid_o{"act_write_valid_o"};
  sc_core::sc_out<std::uint64_t> act_write_addr_o{"act_write_addr_o"};
  sc_core::sc_out<Lanes<std::int32_t>> act_write_data_o{"act_write_data_o"};
  sc_core::sc_out<bool> direct_valid_o{"direct_valid_o"};
  sc_core::sc_in<bool> direct_ready_i{"direct_ready_i"};
  sc_core::sc_out<std::uint64_t> direct_token_o{"direct_token_o"};
  sc_core::sc_out<std::uint64_t> direct_s_o{"direct_s_o"};
  sc_core::sc_out<Lanes<std::int32_t>> direct_d_o{"direct_d_o"};
  sc_core::sc_out<bool> direct_first_o{"direct_first_o"};
  sc_core::sc_out<bool> direct_done_o{"direct_done_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(ActLoader);
  ActLoader(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  enum class State { kIdle, kLoad, kCombine };
  enum class Part { kR, kRow, kOffer };
  struct Issue {  // segments run ahead of what is consumed
    bool left = false;
    bool row = false;  // combine: the row follows its r
    unsigned token = 0;
    std::uint32_t expert = 0;
    std::uint32_t n = 0;     // combine: columns left, this block's included
    std::uint64_t r = 0;     // address of the next r
    std::uint64_t at = 0;    // bytes from the token's row to the block
    std::uint64_t step = 0;  // bytes from the first expert's row to this one's
  };
  unsigned load_count() const;  // elements of the present step
  unsigned load_bits() const;
  bool load_steps() const;
  bool load_ends() const;  // the present step ends its tile
  unsigned combine_cols() const { return n_ < params_.cols ? n_ : params_.cols; }
  unsigned take_cols() const;
  unsigned combine_bits() const;
  bool combine_steps() const;
  bool last_direct() const;  // of the block
  Lanes<std::int32_t> merged_word() const;
  void start();
  void advance_issue();
  void step_load();
  void step_combine();
  void reset();
  void on_clock();
  void drive_state();
  void drive_issue();
  void drive_seg_addr();
  void drive_act_write();
  void drive_pop();
  void drive_activity();

  const CoreParams params_;
  const unsigned row_cols_;  // int16 taken a cycle
  TileWalk walk_;
  program::Command command_;
  State state_ = State::kIdle;
  bool done_ = false;
  Issue issue_;
  unsigned token_ = 0;
  // load_act
  unsigned row_ = 0;
  std::uint64_t act_base_ = 0, act_addr_ = 0, hidden_base_ = 0, hidden_addr_ = 0;
  Lanes<std::int32_t> word_;
  // combine
  Part part_ = Part::kR;
  std::uint32_t expert_ = 0, n_ = 0;
  unsigned col_ = 0;
  std::uint64_t s_ = 0;
  Lanes<std::int32_t> row_data_;
  sc_core::sc_event changed_, issue_changed_;
};

}  // namespace moesaic::cycle
