#include "sim/cycle/common/adder_tree.h"

#include <numeric>

namespace moesaic::cycle {

AdderTree::AdderTree(const sc_core::sc_module_name& name, unsigned inputs) : sc_module(name) {
  while ((1U << level_.size()) < inputs) level_.push_back(0);
  SC_METHOD(on_clock);
  sensitive << clk_i.pos();
  dont_initialize();
}

void AdderTree::on_clock() {
  const std::uint64_t enable = enable_i.read();
  for (std::size_t l = level_.size(); l-- > 0;) {
    if ((enable >> l & 1) == 0) continue;
    level_[l] = l > 0 ? level_[l - 1] : std::accumulate(in_i.read().begin(), in_i.read().end(), std::int64_t{0});
  }
  sum_o.write(level_.back());
}

}  // namespace moesaic::cycle
