#pragma once
/// The tag that travels with a beat through the array; bit positions as in rtl/pkg/moe_pkg.sv.
#include <cstdint>

namespace moesaic::cycle {

struct BeatTag {
  static constexpr unsigned kTokenBits = 7, kBits = kTokenBits + 5;
  unsigned token = 0;        // the low kTokenBits
  bool digit_first = false;  // first beat of this token and tile
  bool group_first = false;  // first tile of the group: P and X start anew
  bool group_end = false;    // last digit of the group's last tile: the group is dequantised
  bool acc_first = false;    // first group of the block: the accumulator starts anew
  bool block_done = false;   // group end of the last token of a block whose K is complete

  static constexpr BeatTag unpack(std::uint64_t bits) {
    const std::uint64_t flags = bits >> kTokenBits;
    return {static_cast<unsigned>(bits & ((1U << kTokenBits) - 1)),
            (flags & 1) != 0,
            (flags >> 1 & 1) != 0,
            (flags >> 2 & 1) != 0,
            (flags >> 3 & 1) != 0,
            (flags >> 4 & 1) != 0};
  }
  constexpr std::uint64_t pack() const {
    const std::uint64_t flags = static_cast<std::uint64_t>(digit_first) | static_cast<std::uint64_t>(group_first) << 1 |
                                static_cast<std::uint64_t>(group_end) << 2 |
                                static_cast<std::uint64_t>(acc_first) << 3 |
                                static_cast<std::uint64_t>(block_done) << 4;
    return static_cast<std::uint64_t>(token) | flags << kTokenBits;
  }
};

}  // namespace moesaic::cycle
