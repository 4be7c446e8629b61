#pragma once
/// The units of a cache that may be evicted, least key first. All operations cost at most log2 of what it holds.
/// Keys are made distinct by the policies; equal keys leave in an order that the history alone decides.
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace moesaic::host {

/// The higher half decides first.
using EvictionKey = unsigned __int128;
inline EvictionKey make_key(std::uint64_t high, std::uint64_t low) {
  return (static_cast<EvictionKey>(high) << 64) | low;
}

class VictimHeap {
 public:
  explicit VictimHeap(std::size_t units) : place_(units, kAbsent) {}
  bool empty() const { return heap_.empty(); }
  std::size_t size() const { return heap_.size(); }
  bool holds(std::uint32_t unit) const { return place_[unit] != kAbsent; }
  std::uint32_t least() const { return heap_.front().second; }

  void insert(std::uint32_t unit, EvictionKey key) {
    heap_.emplace_back(key, unit);
    place_[unit] = static_cast<std::uint32_t>(heap_.size() - 1);
    rise(heap_.size() - 1);
  }
  void erase(std::uint32_t unit) {
    const std::size_t at = place_[unit];
    place_[unit] = kAbsent;
    const Entry last = heap_.back();
    heap_.pop_back();
    if (at == heap_.size()) return;
    put(at, last);
    sink(rise(at));
  }
  void update(std::uint32_t unit, EvictionKey key) {
    const std::size_t at = place_[unit];
    heap_[at].first = key;
    sink(rise(at));
  }

 private:
  using Entry = std::pair<EvictionKey, std::uint32_t>;
  static constexpr std::uint32_t kAbsent = UINT32_MAX;
  void put(std::size_t at, const Entry& entry) {
    heap_[at] = entry;
    place_[entry.second] = static_cast<std::uint32_t>(at);
  }
  std::size_t rise(std::size_t at) {
    const Entry entry = heap_[at];
    while (at > 0 && entry.first < heap_[(at - 1) / 2].first) {
      put(at, heap_[(at - 1) / 2]);
      at = (at - 1) / 2;
    }
    put(at, entry);
    return at;
  }
  void sink(std::size_t at) {
    const Entry entry = heap_[at];
    for (;;) {
      std::size_t child = 2 * at + 1;
      if (child >= heap_.size()) break;
      if (child + 1 < heap_.size() && heap_[child + 1].first < heap_[child].first) ++child;
      if (!(heap_[child].first < entry.first)) break;
      put(at, heap_[child]);
      at = child;
    }
    put(at, entry);
  }
  std::vector<Entry> heap_;
  std::vector<std::uint32_t> place_;
};

}  // namespace moesaic::host
