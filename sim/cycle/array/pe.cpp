#include "sim/cycle/array/pe.h"

namespace moesaic::cycle {

Pe::Pe(const sc_core::sc_module_name& name, unsigned planes_per_cycle, DigitKind kind)
    : sc_module(name), lanes_(planes_per_cycle), kind_(kind) {
  SC_METHOD(drive_term);
  sensitive << x_i << digit_i;
}

void Pe::drive_term() {
  Lanes<std::int64_t> term(lanes_);
  for (unsigned j = 0; j < lanes_; ++j) {
    const std::uint64_t digit = digit_i.read().at_or_zero(j);
    if ((digit & 1) == 0) continue;
    term[j] = x_i.read();
    if (kind_ == DigitKind::kPerWeight)
      term[j] = ((digit & 2) != 0 ? -term[j] : term[j]) * (std::int64_t{1} << (digit >> 2));
  }
  term_o.write(term);
}

}  // namespace moesaic::cycle
