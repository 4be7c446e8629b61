#include "sim/fast/counting.h"

namespace moesaic::fast {

using program::kNumBlocks;
using program::kNumCauses;

void Counting::add_same(std::uint64_t now) {
  for (unsigned b = 0; b < kNumBlocks; ++b) counts_.activity[b][activity_ >> (2 * b) & 3] += same_;
  const program::Cause cause = program::cause_of(activity_);
  counts_.causes[static_cast<std::size_t>(cause)] += same_;
  work_.passed(activity_, now - same_, now);
  if (recording_) recorded_.work.passed(activity_, now - same_ - record_begin_, now - record_begin_);
  if (!refresh_waits_.is_off()) note_wait(cause, now);
  same_ = 0;
}

/// The last cycles, all of one activity, may turn out to be a refresh's.
void Counting::note_wait(program::Cause cause, std::uint64_t now) {
  const auto port = program::RefreshWaits::awaited(cause);
  if (!port) return;
  refresh_waits_.passed(*port, now - same_, now);
  if (!recording_) return;
  const auto end = static_cast<std::uint32_t>(now - record_begin_);
  recorded_.waits.push_back({end - same_, end, *port});
}

void Counting::tile_begins(std::uint64_t now) {
  tiles_.push_back({now, 0});
  if (recording_) recorded_.tile_begins.push_back(static_cast<std::uint32_t>(now - record_begin_));
}

void Counting::tile_ends(std::uint64_t now) {
  tiles_[tiles_ended_++].end = now;
  if (recording_) recorded_.tile_ends.push_back(static_cast<std::uint32_t>(now - record_begin_));
}

program::CommandWork Counting::take_work(std::uint64_t now) {
  flush(now);
  const program::CommandWork work = work_;
  work_ = program::CommandWork();
  return work;
}

void Counting::set_idle_cause(program::Cause cause, std::uint64_t now) {
  if (cause == idle_cause_) return;
  settle(now);
  idle_cause_ = cause;
}

void Counting::settle(std::uint64_t now) {
  settle_stepped(now);
  for (Outcome* outcome : used_) {
    add(read_counts(outcome->counts), outcome->times);
    outcome->times = 0;
  }
  used_.clear();
  auto& reader = total_[static_cast<std::size_t>(program::Block::kWeightReader)];
  reader[static_cast<std::size_t>(program::Activity::kBusy)] += reader_busy_;
  reader[static_cast<std::size_t>(program::Activity::kBlocked)] -= reader_busy_;
  reader_busy_ = 0;
  constexpr auto kIdle = static_cast<std::size_t>(program::Activity::kIdle);
  for (std::size_t i = 0; i < kResultBlocks.size(); ++i) {
    auto& block = total_[static_cast<std::size_t>(kResultBlocks[i])];
    for (std::size_t a = 0; a < results_[i].size(); ++a) block[a] += results_[i][a];
    block[kIdle] -= results_cycles_;
  }
  auto& accumulators = total_[static_cast<std::size_t>(program::Block::kAccBuffer)];
  accumulators[static_cast<std::size_t>(program::Activity::kBusy)] += released_;
  accumulators[kIdle] -= released_;
  results_ = {};
  results_cycles_ = released_ = 0;
}

/// What is of no outcome.
void Counting::settle_stepped(std::uint64_t now) {
  flush(now);
  add(counts_, 1);
  counts_ = Counts{};
}

void Counting::add(const Counts& counts, std::uint64_t times) {
  for (unsigned b = 0; b < kNumBlocks; ++b) {
    for (unsigned a = 0; a < 4; ++a) total_[b][a] += times * counts.activity[b][a];
  }
  for (std::size_t c = 0; c < kNumCauses; ++c) {
    const bool idle = c == static_cast<std::size_t>(program::Cause::kHost);
    total_causes_[idle ? static_cast<std::size_t>(idle_cause_) : c] += times * counts.causes[c];
  }
}

void Counting::begin_recording(std::uint64_t now) {
  settle_stepped(now);
  record_begin_ = now;
  recorded_.tile_begins.clear(), recorded_.tile_ends.clear(), recorded_.waits.clear();
  recorded_.work = program::CommandWork();
  recording_ = true;
}

void Counting::write(Outcome& outcome, Arena& arena) const {
  outcome.counts = keep_counts(counts_, arena);
  outcome.num_begins = static_cast<std::uint32_t>(recorded_.tile_begins.size());
  outcome.tile_begins = arena.copy(recorded_.tile_begins);
  outcome.num_ends = static_cast<std::uint32_t>(recorded_.tile_ends.size());
  outcome.tile_ends = arena.copy(recorded_.tile_ends);
  outcome.num_waits = static_cast<std::uint16_t>(recorded_.waits.size());
  outcome.waits = arena.copy(recorded_.waits);
  outcome.work = recorded_.work;
}

}  // namespace moesaic::fast
