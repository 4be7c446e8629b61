#pragma once
/// One column of PEs: a pipelined sum per lane, then the lanes shifted and added (DigitKind::common_shift).
/// RTL twin: rtl/array/moe_pe_column.sv. Rate 1 beat/cycle, latency log2(rows) + 1 cycles; only the output register is
/// reset.
#include <array>
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

class PeColumn : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<std::uint64_t> enable_i{"enable_i"};
  sc_core::sc_in<bool> advance_i{"advance_i"};
  sc_core::sc_in<bool> valid_i{"valid_i"};
  sc_core::sc_in<std::uint64_t> shift_i{"shift_i"};
  sc_core::sc_in<Lanes<std::int32_t>> x_i{"x_i"};
  sc_core::sc_in<Lanes<std::uint64_t>> digit_i{"digit_i"};  // one lane a plane, bit r is row r
  sc_core::sc_out<std::int64_t> sum_o{"sum_o"};

  SC_HAS_PROCESS(PeColumn);
  PeColumn(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  static constexpr unsigned kMaxLanes = 4;
  using LaneSums = std::array<std::int64_t, kMaxLanes>;
  void on_clock();
  void reset();
  const unsigned rows_;
  const unsigned lanes_;
  std::vector<LaneSums> level_;  // a level's registers, by the sums that they amount to
};

}  // namespace moesaic::cycle
