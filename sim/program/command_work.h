#pragma once
/// When the array and what follows it worked on a command. A core executes one command at a time, so what is busy
/// between the ends of two commands works on the second.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string_view>

#include "sim/program/commands.h"

namespace moesaic::program {

/// A block's lower bit in activity_o.
constexpr std::uint32_t activity_bit(std::string_view block) {
  for (std::size_t b = 0; b < kBlocks.size(); ++b)
    if (kBlocks[b].name == block) return std::uint32_t{1} << (2 * b);
  throw std::logic_error("no such block");
}
inline constexpr std::uint32_t kArrayBits = activity_bit("pe_array");
inline constexpr std::uint32_t kResultBits = activity_bit("group_dequant") | activity_bit("acc_buffer") |
                                             activity_bit("drain") | activity_bit("requant") | activity_bit("swiglu") |
                                             activity_bit("output_dma");

/// From the first cycle in which a block was busy up to the last; never when both are 0.
struct BusySpan {
  std::uint64_t begin = 0, end = 0;
  bool is_empty() const { return end == 0; }
  /// `from` < `until`.
  void add(std::uint64_t from, std::uint64_t until) {
    begin = end == 0 ? from : std::min(begin, from);
    end = std::max(end, until);
  }
};
inline bool operator==(const BusySpan& a, const BusySpan& b) { return a.begin == b.begin && a.end == b.end; }

struct CommandWork {
  BusySpan array;    ///< of the PE array
  BusySpan results;  ///< of post-processing: group dequantisation to output DMA

  /// Cycles `from` to `until` - 1 passed with the core's activity_o at `activity`.
  void passed(std::uint32_t activity, std::uint64_t from, std::uint64_t until) {
    const std::uint32_t busy = activity & ~(activity >> 1);
    if ((busy & kArrayBits) != 0) array.add(from, until);
    if ((busy & kResultBits) != 0) results.add(from, until);
  }
  /// The same for what another one saw, as seen from cycle `origin` on.
  void passed(const CommandWork& other, std::uint64_t origin) {
    if (!other.array.is_empty()) array.add(origin + other.array.begin, origin + other.array.end);
    if (!other.results.is_empty()) results.add(origin + other.results.begin, origin + other.results.end);
  }
};
inline bool operator==(const CommandWork& a, const CommandWork& b) {
  return a.array == b.array && a.results == b.results;
}

}  // namespace moesaic::program
