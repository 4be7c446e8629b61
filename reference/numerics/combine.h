#pragma once
/// Weighted sum of the experts' outputs: y[m][h] = saturate16(rshift_round(sum_e r[m][e] * down[e][m][h], 15)).
/// r is uint16 with 1.0 = 32768; a shared expert has 32768. The sum is exact in 64 bits for fewer than 2^32 experts.
#include <cstdint>
#include <vector>

#include "reference/numerics/integer.h"

namespace moesaic::numerics {

constexpr std::uint16_t kRouterOne = 32768;

/// down [E, M, H], r [M, E] -> y [M, H].
std::vector<std::int16_t> combine(const std::vector<std::int16_t>& down, const std::vector<std::uint16_t>& r,
                                  std::int64_t experts, std::int64_t m, std::int64_t hidden);

}  // namespace moesaic::numerics
