/// The few real functions of the forward pass, written out so that their bits do not depend on the machine's libm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace moesaic::network {

/// e^x to about 2 units in the last place; x is held to [-87, 88], so the result is never 0, subnormal or infinite.
inline float exp_float(float x) {
  x = x < -87.0F ? -87.0F : (x > 88.0F ? 88.0F : x);
  // x = n ln 2 + r, |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to the nearest integer.
  const float magic = 12582912.0F;
  const float shifted = x * 1.44269504F + magic;
  const float n = shifted - magic;
  const float r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float e = p * (r * r) + r + 1.0F;
  std::int32_t bits = static_cast<std::int32_t>(n) + 127;
  bits = static_cast<std::int32_t>(static_cast<std::uint32_t>(bits) << 23);
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return e * scale;
}

/// Sum in 16 fixed lanes, folded in halves: the same order whatever the vector width.
inline float sum_lanes(const float (&lane)[16]) {
  float s[8];
  for (int i = 0; i < 8; ++i) s[i] = lane[i] + lane[i + 8];
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

inline float sum_of_squares(const float* x, std::size_t n) {
  float lane[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (std::size_t j = 0; j < 16; ++j) lane[j] += x[i + j] * x[i + j];
  for (std::size_t j = 0; i + j < n; ++j) lane[j] += x[i + j] * x[i + j];
  return sum_lanes(lane);
}

/// x[i] = e^(x[i] - the largest x) for i < n; returns the sum of the results.
inline float exponentials(float* x, std::size_t n) {
  float largest = x[0];
  for (std::size_t i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  for (std::size_t i = 0; i < n; ++i) x[i] = exp_float(x[i] - largest);
  float lane[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (std::size_t j = 0; j < 16; ++j) lane[j] += x[i + j];
  for (std::size_t j = 0; i + j < n; ++j) lane[j] += x[i + j];
  return sum_lanes(lane);
}

inline float silu(float x) { return x / (1.0F + exp_float(-x)); }

}  // namespace moesaic::network
