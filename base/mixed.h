#pragma once
/// One number from two, for tables in which a collision only costs time.
#include <cstdint>

namespace moesaic::base {

/// Other numbers with either of them changed; the upper bits are the best ones. The factor is 2^64 over the golden
/// ratio (Knuth, The Art of Computer Programming 3, 6.4).
inline std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  a = (a ^ b) * 0x9e3779b97f4a7c15U;
  return a ^ a >> 32;
}

}  // namespace moesaic::base
