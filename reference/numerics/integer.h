#pragma once
/// The integer primitives that every implementation shares. No operation overflows for a legal case.
#include <cstdint>

namespace moesaic::numerics {

/// v >> t rounded half up, arithmetic, 0 <= t <= 62. Never adds 2^(t-1) to v, which would need 65 bits.
constexpr std::int64_t rshift_round(std::int64_t v, int t) { return t == 0 ? v : (v >> t) + ((v >> (t - 1)) & 1); }

/// The nearest value that fits `bits` signed bits.
constexpr std::int64_t saturate(std::int64_t v, int bits) {
  const std::int64_t top = (std::int64_t{1} << (bits - 1)) - 1;
  return v > top ? top : v < -top - 1 ? -top - 1 : v;
}

/// Whether v fits `bits` signed bits.
constexpr bool fits(std::int64_t v, int bits) { return saturate(v, bits) == v; }

/// s * D with D = P * 2^up - z * X: one group's share of the accumulator.
constexpr std::int64_t dequantise_group(std::int64_t p, std::int64_t x_sum, int up, int z, std::uint16_t s) {
  return s * (p * (std::int64_t{1} << up) - z * x_sum);
}

/// y = saturate(rshift_round(acc * mu, shift)), shift = sigma[n] + e[m] (or sigma[n] - eh[m]) in 0..62, |acc| < 2^47.
constexpr std::int16_t requantise(std::int64_t acc, std::uint16_t mu, int shift, int out_bits) {
  return static_cast<std::int16_t>(saturate(rshift_round(acc * mu, shift), out_bits));
}

constexpr int kAccumulatorBits = 48;
constexpr int kMaxRequantShift = 62;

}  // namespace moesaic::numerics
