#pragma once
/// One processing element: the digits of one weight applied to one activation. Combinational.
/// RTL twin: rtl/array/moe_pe.sv.
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

/// What a PE does with a digit; see moe_pkg.sv.
enum class DigitKind { kCommonShift, kPerWeight };

class Pe : public sc_core::sc_module {
 public:
  sc_core::sc_in<std::int32_t> x_i{"x_i"};
  sc_core::sc_in<Lanes<std::uint64_t>> digit_i{"digit_i"};  // one lane a digit
  sc_core::sc_out<Lanes<std::int64_t>> term_o{"term_o"};

  SC_HAS_PROCESS(Pe);
  Pe(const sc_core::sc_module_name& name, unsigned planes_per_cycle, DigitKind kind);

 private:
  void drive_term();
  const unsigned lanes_;
  const DigitKind kind_;
};

}  // namespace moesaic::cycle
