#pragma once
/// The tag that travels with a beat through the array; bit positions as in rtl/pkg/moe_pkg.sv.
#include <cstdint>

namespace moesaic::cycle {

struct BeatTag {
  static constexpr unsigned kBits = 10;
  unsigned token = 0;        // bits 4:0
  bool digit_first = false;  // first beat of this token and tile
  bool group_first = false;  // first tile of the group: P and X start anew
  bool group_end = false;    // last digit of the group's last tile: the group is dequantised
  bool acc_first = false;    // first group of the block: the accumulator starts anew
  bool block_done = false;   // group end of the last token of a block whose K is complete

  static constexpr BeatTag unpack(std::uint64_t bits) {
    return {static_cast<unsigned>(bits & 31),
            (bits >> 5 & 1) != 0,
            (bits >> 6 & 1) != 0,
            (bits >> 7 & 1) != 0,
            (bits >> 8 & 1) != 0,
            (bits >> 9 & 1) != 0};
  }
  constexpr std::uint64_t pack() const {
    return static_cast<std::uint64_t>(token) | static_cast<std::uint64_t>(digit_first) << 5 |
           static_cast<std::uint64_t>(group_first) << 6 | static_cast<std::uint64_t>(group_end) << 7 |
           static_cast<std::uint64_t>(acc_first) << 8 | static_cast<std::uint64_t>(block_done) << 9;
  }
};

}  // namespace moesaic::cycle
