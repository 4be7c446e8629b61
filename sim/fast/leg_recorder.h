#pragma once
/// Records what a stepping core does with a memory that is asked, as legs: beats that come, up to the next time that
/// it asks for some.
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/fast/core.h"
#include "sim/fast/feeds.h"
#include "sim/fast/memo.h"

namespace moesaic::fast {

/// Leg before it is kept.
struct RecordedLeg {
  std::vector<Taken> taken;
  std::vector<Item> items;
  std::vector<std::uint8_t> beats, ports;
  std::int64_t item = 0, offset = 0;
  std::uint8_t until = 0, port = 0, count = 0;
  void clear() {
    taken.clear(), items.clear(), beats.clear(), ports.clear();
    item = offset = 0;
    until = port = count = 0;
  }
};

class LegRecorder {
 public:
  LegRecorder(const Core& core, const Feeds& feeds, unsigned beat_bytes)
      : core_(core), feeds_(feeds), beat_bytes_(beat_bytes) {}

  /// Cycles are told from `now` on.
  void begin(std::uint64_t now);
  void came(unsigned port, std::uint64_t now) {
    leg().beats.push_back(static_cast<std::uint8_t>(now - begin_));
    leg().ports.push_back(static_cast<std::uint8_t>(port));
  }
  /// A beat was asked for. Where the memory refused it nothing more is recorded: this is no leg that can happen again.
  void asked(unsigned port, std::uint64_t address, bool accepted, std::uint64_t now);
  void end(std::uint64_t now) { end_leg(now); }

  bool is_whole() const { return whole_; }  ///< no beat was refused
  /// The last is the one that ended without asking.
  std::size_t size() const { return size_; }
  const RecordedLeg& operator[](std::size_t i) const { return legs_[i]; }
  /// Items that were taken from a feed.
  std::uint64_t taken(Feed feed) const { return feeds_.taken(feed) - begin_taken_[static_cast<unsigned>(feed)]; }

 private:
  RecordedLeg& leg(std::size_t back = 0) { return legs_[size_ - 1 - back]; }
  void begin_leg() {
    if (legs_.size() == size_) legs_.emplace_back();
    legs_[size_++].clear();
  }
  void end_leg(std::uint64_t now);
  std::uint64_t item_of(unsigned port) const;

  const Core& core_;
  const Feeds& feeds_;
  const unsigned beat_bytes_;
  std::uint64_t begin_ = 0;
  std::array<std::uint64_t, kNumFeeds> begin_taken_{}, leg_taken_{};  // at the beginning of all, of the leg
  bool whole_ = true;
  std::vector<RecordedLeg> legs_;  // the first `size_`
  std::size_t size_ = 0;
};

}  // namespace moesaic::fast
