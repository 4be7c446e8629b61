#include "reference/numerics/combine.h"

#include <cstddef>

namespace moesaic::numerics {

std::vector<std::int16_t> combine(const std::vector<std::int16_t>& down, const std::vector<std::uint16_t>& r,
                                  std::int64_t experts, std::int64_t m, std::int64_t hidden) {
  std::vector<std::int16_t> y(static_cast<std::size_t>(m * hidden));
  for (std::int64_t token = 0; token < m; ++token) {
    for (std::int64_t i = 0; i < hidden; ++i) {
      std::int64_t sum = 0;
      for (std::int64_t e = 0; e < experts; ++e) {
        const std::int64_t weight = r[static_cast<std::size_t>(token * experts + e)];
        sum += weight * down[static_cast<std::size_t>((e * m + token) * hidden + i)];
      }
      y[static_cast<std::size_t>(token * hidden + i)] = static_cast<std::int16_t>(saturate(rshift_round(sum, 15), 16));
    }
  }
  return y;
}

}  // namespace moesaic::numerics
