#pragma once
/// A small memory: one write port, combinational read ports, not reset.
/// RTL twin: rtl/common/moe_regfile.sv. A word is one lane vector.
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

class Regfile : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> write_i{"write_i"};
  sc_core::sc_in<std::uint64_t> write_addr_i{"write_addr_i"};
  sc_core::sc_in<std::uint64_t> write_data_i{"write_data_i"};
  sc_core::sc_in<Lanes<std::uint64_t>> read_addr_i{"read_addr_i"};  // one lane a read port
  sc_core::sc_out<Lanes<std::uint64_t>> read_data_o{"read_data_o"};

  SC_HAS_PROCESS(Regfile);
  Regfile(const sc_core::sc_module_name& name, unsigned depth, unsigned reads);

 private:
  void on_clock();
  void drive_read_data();
  std::vector<std::uint64_t> memory_;
  const unsigned reads_;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
