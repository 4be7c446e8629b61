#include "sim/cycle/array/pe_column.h"

namespace moesaic::cycle {

PeColumn::PeColumn(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_module(name), rows_(params.rows), lanes_(params.planes_per_cycle), level_(params.log2_rows()) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
}

void PeColumn::reset() { sum_o.write(0); }

void PeColumn::on_clock() {
  // The trees have no reset: they follow the clock alone.
  const bool is_clock_edge = clk_i.posedge();
  if (!rst_ni.read()) {
    reset();
  } else if (is_clock_edge && advance_i.read()) {
    std::int64_t sum = 0;
    if (valid_i.read()) {
      for (unsigned j = 0; j < lanes_; ++j) {
        if (level_.back()[j] != 0) sum += level_.back()[j] * (std::int64_t{1} << (shift_i.read() - j));
      }
    }
    sum_o.write(sum);
  }
  if (!is_clock_edge) return;
  for (std::size_t l = level_.size(); l-- > 0;) {
    if ((enable_i.read() >> l & 1) == 0) continue;
    if (l > 0) {
      level_[l] = level_[l - 1];
      continue;
    }
    for (unsigned j = 0; j < lanes_; ++j) {
      level_[0][j] = 0;
      const std::uint64_t digits = digit_i.read().at_or_zero(j);
      for (unsigned r = 0; r < rows_; ++r) {
        if ((digits >> r & 1) != 0) level_[0][j] += x_i.read().at_or_zero(r);
      }
    }
  }
}

}  // namespace moesaic::cycle
