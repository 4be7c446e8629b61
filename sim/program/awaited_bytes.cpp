#include "sim/program/awaited_bytes.h"

#include <iterator>

namespace moesaic::program {

void AwaitedBytes::add(std::uint64_t begin, std::uint64_t end) {
  remove(begin, end);
  if (begin < end) ranges_[begin] = end;
}

void AwaitedBytes::remove(std::uint64_t begin, std::uint64_t end) {
  auto range = ranges_.upper_bound(begin);
  if (range != ranges_.begin()) --range;
  while (range != ranges_.end() && range->first < end) {
    const auto [from, to] = *range;
    if (to <= begin) {
      ++range;
      continue;
    }
    range = ranges_.erase(range);
    if (from < begin) ranges_[from] = begin;
    if (to > end) ranges_[end] = to;
  }
}

bool AwaitedBytes::contains(std::uint64_t address) const {
  const auto after = ranges_.upper_bound(address);
  return after != ranges_.begin() && address < std::prev(after)->second;
}

bool AwaitedBytes::contains_any(std::uint64_t begin, std::uint64_t end) const {
  const auto after = ranges_.lower_bound(end);
  return after != ranges_.begin() && begin < std::prev(after)->second;
}

}  // namespace moesaic::program
