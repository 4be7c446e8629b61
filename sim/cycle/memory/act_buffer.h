#pragma once
/// The activations of one command: a word is one tile's depth of one token.
/// RTL twin: rtl/memory/moe_act_buffer.sv. One write a cycle, visible the next cycle; combinational read. No reset.
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

class ActBuffer : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> write_valid_i{"write_valid_i"};
  sc_core::sc_in<std::uint64_t> write_addr_i{"write_addr_i"};
  sc_core::sc_in<Lanes<std::int32_t>> write_data_i{"write_data_i"};
  sc_core::sc_in<std::uint64_t> read_addr_i{"read_addr_i"};
  sc_core::sc_out<Lanes<std::int32_t>> read_data_o{"read_data_o"};

  SC_HAS_PROCESS(ActBuffer);
  ActBuffer(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  void on_clock();
  void drive_read();
  const unsigned rows_;
  std::vector<std::int32_t> memory_;  // rows values a word
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
