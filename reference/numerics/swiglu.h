#pragma once
/// SwiGLU in integers: h = silu(g) * u with a 65-entry sigmoid table. g has 1.0 = 2^10; sigmoid has 1.0 = 2^15.
#include <array>
#include <cstdint>
#include <vector>

#include "reference/numerics/integer.h"

namespace moesaic::numerics {

/// round(32768 / (1 + exp(-i / 8))), i = 0..64.
extern const std::array<std::uint16_t, 65> kSigmoidRom;

/// sigmoid(g / 1024) * 32768, interpolated between table entries 128 apart; 0..32768.
std::int32_t sigmoid(std::int16_t g);
/// saturate16(rshift_round(rshift_round(g * sigmoid(g), 15) * u, sigma_h)), sigma_h 0..31.
std::int16_t swiglu(std::int16_t g, std::int16_t u, int sigma_h);
/// eh: the least e >= 0 for which every rshift_round(h[i], e) fits act_bits; 0..13.
int hidden_shift(const std::int16_t* h, std::int64_t count, int act_bits);

constexpr int kMaxSigmaH = 31;

}  // namespace moesaic::numerics
