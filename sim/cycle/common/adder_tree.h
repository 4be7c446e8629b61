#pragma once
/// Sums signed numbers in a binary tree with a register after each level.
/// RTL twin: rtl/common/moe_adder_tree.sv. Rate 1 sum/cycle, latency log2(inputs) cycles, registers not reset.
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

class AdderTree : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<std::uint64_t> enable_i{"enable_i"};
  sc_core::sc_in<Lanes<std::int32_t>> in_i{"in_i"};
  sc_core::sc_out<std::int64_t> sum_o{"sum_o"};

  SC_HAS_PROCESS(AdderTree);
  AdderTree(const sc_core::sc_module_name& name, unsigned inputs);

 private:
  void on_clock();
  std::vector<std::int64_t> level_;  // a level's registers, by the sum that they amount to
};

}  // namespace moesaic::cycle
