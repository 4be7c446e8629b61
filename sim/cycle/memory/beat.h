#pragma once
/// A beat, or a stretch of the bit stream: 64-bit words, low word first. Bit operations on such words.
#include <cstdint>

#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

using Beat = Lanes<std::uint64_t, 8>;

/// Bits [at, at + count) of the words, 1 <= count <= 64; absent words read as 0.
inline std::uint64_t take_bits(const Beat& words, unsigned at, unsigned count) {
  const unsigned word = at / 64, shift = at % 64;
  std::uint64_t value = words.at_or_zero(word) >> shift;
  if (shift != 0 && shift + count > 64) value |= words.at_or_zero(word + 1) << (64 - shift);
  return count == 64 ? value : value & ((std::uint64_t{1} << count) - 1);
}

}  // namespace moesaic::cycle
