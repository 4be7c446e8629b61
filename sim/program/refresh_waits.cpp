#include "sim/program/refresh_waits.h"

#include <algorithm>
#include <stdexcept>

namespace moesaic::program {

namespace {

std::uint64_t overlap(std::uint64_t begin, std::uint64_t end, const memory::MemoryModel::Held& held) {
  const std::uint64_t from = std::max(begin, static_cast<std::uint64_t>(held.begin.count()));
  const std::uint64_t until = std::min(end, static_cast<std::uint64_t>(held.end.count()));
  return from < until ? until - from : 0;
}

}  // namespace

RefreshWaits::RefreshWaits(memory::MemoryModel& memory, std::size_t room)
    : memory_(memory), least_room_(room), room_(room) {
  off_ = memory_.take_held(held_) == memory::MemoryModel::kNeverHeld;
}

void RefreshWaits::passed(MemoryPort port, std::uint64_t begin, std::uint64_t end) {
  if (off_) return;
  if (!passed_.empty()) {
    Passed& last = passed_.back();
    if (last.end == begin && last.waits == nullptr && last.port == port) {
      last.end = end;
      return;
    }
  }
  make_room();
  passed_.push_back({begin, end, nullptr, 0, port});
}

void RefreshWaits::passed(const Wait* waits, std::size_t count, std::uint64_t origin) {
  if (off_ || count == 0) return;
  make_room();
  passed_.push_back({origin, origin + waits[count - 1].end, waits, count, MemoryPort::kWeightRead});
}

void RefreshWaits::detach() {
  settle();
  std::deque<Passed> apart;
  for (const Passed& passed : passed_) {
    if (passed.waits == nullptr) {
      apart.push_back(passed);
      continue;
    }
    for (std::size_t i = 0; i < passed.count; ++i) {
      const Wait& wait = passed.waits[i];
      apart.push_back({passed.begin + wait.begin, passed.begin + wait.end, nullptr, 0, wait.port});
    }
  }
  passed_.swap(apart);
}

const RefreshWaits::Counts& RefreshWaits::counts(std::uint64_t now) {
  if (off_) return counts_;
  settle();
  for (const memory::MemoryModel::Held& held : held_)
    if (static_cast<std::uint64_t>(held.end.count()) > now)
      throw std::logic_error("a beat is held up beyond the end of a phase");
  for (const memory::MemoryModel::Held& held : held_) count(held);
  held_.clear();
  passed_.clear();
  return counts_;
}

void RefreshWaits::make_room() {
  if (passed_.size() < room_) return;
  settle();
  room_ = std::max(least_room_, 2 * passed_.size());
}

/// Counts the stretches that have passed, and forgets what no stretch can reach any more.
void RefreshWaits::settle() {
  const auto unknown = static_cast<std::uint64_t>(memory_.take_held(held_).count());
  const std::uint64_t now = passed_.empty() ? 0 : passed_.back().end;
  std::uint64_t needed = unknown;
  std::size_t kept = 0;
  for (const memory::MemoryModel::Held& held : held_) {
    if (static_cast<std::uint64_t>(held.end.count()) <= now) {
      count(held);
      continue;
    }
    needed = std::min(needed, static_cast<std::uint64_t>(held.begin.count()));
    held_[kept++] = held;
  }
  held_.resize(kept);
  while (!passed_.empty() && passed_.front().end <= needed) passed_.pop_front();
}

void RefreshWaits::count(const memory::MemoryModel::Held& held) {
  std::uint64_t& sum = counts_[held.port];
  const auto begin = static_cast<std::uint64_t>(held.begin.count()), end = static_cast<std::uint64_t>(held.end.count());
  auto passed = std::upper_bound(passed_.begin(), passed_.end(), begin,
                                 [](std::uint64_t cycle, const Passed& one) { return cycle < one.end; });
  for (; passed != passed_.end() && passed->begin < end; ++passed) {
    if (passed->waits == nullptr) {
      if (static_cast<unsigned>(passed->port) == held.port) sum += overlap(passed->begin, passed->end, held);
      continue;
    }
    for (std::size_t i = 0; i < passed->count; ++i) {
      const Wait& wait = passed->waits[i];
      if (static_cast<unsigned>(wait.port) == held.port)
        sum += overlap(passed->begin + wait.begin, passed->begin + wait.end, held);
    }
  }
}

}  // namespace moesaic::program
