#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <systemc>
#include <vector>

#include "sim/program/commands.h"

namespace moesaic::cycle {

/// Every cycle out of reset counts once per block, under the block's activity. RTL twin: rtl/queue/moe_counters.sv,
/// whose activity_i is this one's ports side by side.
class Counters : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_vector<sc_core::sc_in<std::uint64_t>> activity_i;
  sc_core::sc_in<bool> snapshot_i{"snapshot_i"};
  sc_core::sc_in<std::uint64_t> window_addr_i{"window_addr_i"};  ///< word address
  sc_core::sc_out<std::uint64_t> window_data_o{"window_data_o"};

  SC_HAS_PROCESS(Counters);
  explicit Counters(sc_core::sc_module_name name, unsigned blocks = program::kNumBlocks);

  /// Live counts, by activity code.
  const std::array<std::uint64_t, 4>& counts(unsigned block) const { return live_[block]; }
  std::uint64_t cycles() const { return cycles_; }

 private:
  void on_clock();
  void drive();

  std::vector<std::array<std::uint64_t, 4>> live_, snapshot_;
  std::uint64_t cycles_ = 0, cycles_snapshot_ = 0;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
