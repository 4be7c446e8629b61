#pragma once
/// The accumulators of two blocks, 48 bits each: one bank collects while the other is drained.
/// RTL twin: rtl/dequant/moe_acc_buffer.sv. Rate 1 add/cycle, reads combinational, asynchronous reset (contents are not
/// reset).
#include <array>
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

class AccBuffer : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};

  sc_core::sc_in<bool> add_valid_i{"add_valid_i"};
  sc_core::sc_out<bool> add_ready_o{"add_ready_o"};
  sc_core::sc_in<std::uint64_t> add_token_i{"add_token_i"};
  sc_core::sc_in<bool> add_first_i{"add_first_i"};
  sc_core::sc_in<bool> add_done_i{"add_done_i"};
  sc_core::sc_in<Lanes<std::int64_t>> add_value_i{"add_value_i"};

  sc_core::sc_out<bool> full_o{"full_o"};
  sc_core::sc_in<std::uint64_t> read_token_i{"read_token_i"};
  sc_core::sc_in<std::uint64_t> read_chunk_i{"read_chunk_i"};
  sc_core::sc_out<Lanes<std::int64_t>> read_acc_o{"read_acc_o"};
  sc_core::sc_in<bool> release_i{"release_i"};

  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(AccBuffer);
  AccBuffer(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  void on_clock();
  void reset();
  void drive_add_ready();
  void drive_full();
  void drive_read_acc();
  void drive_activity();

  const unsigned cols_;
  std::array<std::vector<std::int64_t>, 2> acc_;  // [bank][token * cols + column]
  std::array<bool, 2> full_{};
  unsigned wr_ = 0;
  unsigned rd_ = 0;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
