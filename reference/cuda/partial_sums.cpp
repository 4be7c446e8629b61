#include "reference/cuda/partial_sums.h"

#include <algorithm>
#include <cstdlib>

namespace moesaic::cuda {

WeightBounds weight_bounds(const numerics::WeightMatrix& w) {
  WeightBounds bounds;
  bounds.longest_group = std::min(w.group_size, w.k);
  const std::int64_t top = std::int64_t{w.format.max_code() >> w.format.base_cut()} << w.format.up();
  bounds.max_term = top;
  for (std::int64_t row = 0; row < w.n; ++row)
    for (std::int64_t g = 0; g < w.groups(); ++g) {
      const std::int64_t z = w.offset(row, g);
      bounds.max_weight = std::max({bounds.max_weight, std::abs(z), std::abs(top - z)});
      bounds.max_term = std::max(bounds.max_term, std::abs(z));
    }
  for (const std::uint16_t s : w.group_multiplier)
    bounds.max_multiplier = std::max<std::int64_t>(bounds.max_multiplier, s);
  for (int level = 1; level <= w.format.levels(); ++level) {
    bounds.max_weight = std::max<std::int64_t>(bounds.max_weight, 1);
    bounds.max_term = std::max<std::int64_t>(bounds.max_term, 1 << numerics::Format::kLevelUp);
    for (std::int64_t row = 0; row < w.n; ++row)
      for (std::int64_t g = 0; g < w.groups(); ++g)
        bounds.max_multiplier = std::max<std::int64_t>(bounds.max_multiplier, w.multipliers(level, row)[g]);
  }
  return bounds;
}

std::int64_t check_partial_sums(const WeightBounds& bounds, int act_bits) {
  constexpr std::int64_t kInt32Max = 2147483647;
  if (act_bits > 8 || bounds.max_multiplier > 255) return 0;
  const std::int64_t x_top = std::int64_t{1} << (act_bits - 1);
  if (bounds.longest_group > kInt32Max / (x_top * std::max<std::int64_t>(1, bounds.max_term))) return 0;
  const std::int64_t one_group = bounds.longest_group * x_top * std::max<std::int64_t>(1, bounds.max_weight) *
                                 std::max<std::int64_t>(1, bounds.max_multiplier);
  return kInt32Max / one_group;
}

}  // namespace moesaic::cuda
