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
#include "sim/fast/ports.h"

namespace moesaic::fast {

/// Leg before it is kept.
struct RecordedLeg {
  std::vector<Taken> taken;
  std::vector<Item> items;
  std::vector<LegCycle> beats, left;
  std::vector<std::uint8_t> ports;
  std::int64_t item = 0, offset = 0;
  LegCycle until = 0;
  std::uint8_t port = 0, count = 0;
  void clear() {
    taken.clear(), items.clear(), beats.clear(), ports.clear(), left.clear();
    item = offset = 0;
    until = port = count = 0;
  }
};

class LegRecorder {
 public:
  LegRecorder(const Core& core, const Feeds& feeds, unsigned beat_bytes)
      : core_(core), feeds_(feeds), beat_bytes_(beat_bytes) {}

  /// Cycles are told from `now` on. `apart`: what results take is left out.
  void begin(std::uint64_t now, bool apart);
  void came(unsigned port, std::uint64_t now) {
    leg().beats.push_back(static_cast<LegCycle>(now - begin_));
    leg().ports.push_back(static_cast<std::uint8_t>(port));
    ++came_;
    if (port != kWeights) stocked_ = false;
  }
  /// After each cycle, as which `now` is over. `works`: the weight reader did more than to take a beat; `adds`: sums
  /// were added to the accumulators.
  void cycle(bool works, bool adds, std::uint64_t now);
  /// A beat was asked for. Where the memory refused it nothing more is recorded: this is no leg that can happen again.
  void asked(unsigned port, std::uint64_t address, bool accepted, std::uint64_t now);
  /// The same of so many beats one behind the other, which the memory took.
  void asked_row(unsigned port, std::uint64_t address, unsigned count, std::uint64_t now) {
    asked(port, address, true, now);
    if (whole_) leg(1).count = static_cast<std::uint8_t>(leg(1).count + count - 1);
  }
  void end(std::uint64_t now) { end_leg(now); }

  bool is_whole() const { return whole_; }  ///< no beat was refused
  /// At the beginning and after each cycle a beat of weights lay in the buffer, and the port took addresses; and no
  /// other port's beats came.
  bool is_stocked() const { return stocked_; }
  /// Stock::works.
  const Stock::Cycles& works() const { return works_; }
  const Stock::Cycles& adds() const { return adds_; }  ///< Stock::adds
  /// The last is the one that ended without asking.
  std::size_t size() const { return size_; }
  const RecordedLeg& operator[](std::size_t i) const { return legs_[i]; }
  /// Items that were taken from a feed.
  std::uint64_t taken(Feed feed) const {
    return is_left_out(feed) ? 0 : feeds_.taken(feed) - begin_taken_[static_cast<unsigned>(feed)];
  }

 private:
  bool is_stocked_now() const;
  bool is_left_out(Feed feed) const { return apart_ && (feed == Feed::kBlock || feed == Feed::kChunk); }
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
  bool stocked_ = false;
  std::uint32_t in_store_ = 0, came_ = 0;  // beats of weights in the buffer; that came, not in it yet
  Stock::Cycles works_{}, adds_{};
  bool apart_ = false;
  std::vector<RecordedLeg> legs_;  // the first `size_`
  std::size_t size_ = 0;
};

}  // namespace moesaic::fast
