#include "sim/fast/leg_recorder.h"

#include "sim/fast/ports.h"

namespace moesaic::fast {

void LegRecorder::begin(std::uint64_t now, bool apart) {
  apart_ = apart;
  begin_ = now;
  for (unsigned f = 0; f < kNumFeeds; ++f) begin_taken_[f] = leg_taken_[f] = feeds_.taken(static_cast<Feed>(f));
  whole_ = true;
  in_store_ = core_.weight_reader().in_store();
  stocked_ = is_stocked_now();
  came_ = 0;
  works_ = adds_ = {};
  size_ = 0;
  begin_leg();
}

bool LegRecorder::is_stocked_now() const {
  const Reader& reader = core_.weight_reader();
  return reader.in_store() != 0 && reader.owed < kBeatsAccepted;
}

void LegRecorder::cycle(bool works, bool adds, std::uint64_t now) {
  const std::uint64_t cycle = now - begin_;
  const std::uint32_t in_store = core_.weight_reader().in_store();
  if (in_store_ + came_ != in_store) leg().left.push_back(static_cast<LegCycle>(cycle));
  if (works) works_[cycle / 64] |= std::uint64_t{1} << cycle % 64;
  if (adds) adds_[cycle / 64] |= std::uint64_t{1} << cycle % 64;
  stocked_ = stocked_ && is_stocked_now();
  in_store_ = in_store;
  came_ = 0;
}

/// Of the leg: what was taken since the one before.
void LegRecorder::end_leg(std::uint64_t now) {
  RecordedLeg& last = leg();
  for (unsigned f = 0; f < kNumFeeds; ++f) {
    const auto feed = static_cast<Feed>(f);
    const std::uint64_t taken = feeds_.taken(feed);
    if (taken == leg_taken_[f] || is_left_out(feed)) continue;
    last.taken.push_back({feed, static_cast<std::uint8_t>(taken - leg_taken_[f])});
    for (; leg_taken_[f] < taken; ++leg_taken_[f]) last.items.push_back(feeds_.item(feed, leg_taken_[f]));
  }
  last.until = static_cast<LegCycle>(now - begin_ - (last.count == 0 ? 1 : 0));
}

std::uint64_t LegRecorder::item_of(unsigned port) const {
  return port == kWeights       ? core_.weight_reader().item
         : port == kActivations ? core_.act_reader().item
                                : core_.out_item();
}

void LegRecorder::asked(unsigned port, std::uint64_t address, bool accepted, std::uint64_t now) {
  whole_ = whole_ && accepted;
  if (!whole_) return;
  const Feed feed = feed_of(port);
  const std::uint64_t item = item_of(port);
  const auto from_begin = static_cast<std::int64_t>(item - begin_taken_[static_cast<unsigned>(feed)]);
  const auto offset = static_cast<std::int64_t>(address - feeds_.origin_of(feed, item));
  if (size_ > 1 && leg().beats.empty()) {  // more beats of the one before?
    RecordedLeg& last = leg(1);
    if (last.until == now - begin_ && last.port == port && last.item == from_begin &&
        last.offset + std::int64_t{last.count} * beat_bytes_ == offset) {
      ++last.count;
      return;
    }
  }
  RecordedLeg& asking = leg();
  asking.port = static_cast<std::uint8_t>(port);
  asking.count = 1;
  asking.item = from_begin;
  asking.offset = offset;
  end_leg(now);
  begin_leg();
}

}  // namespace moesaic::fast
