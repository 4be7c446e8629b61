#pragma once
/// What the fast engine counts, by cycles that were stepped or skipped or by outcomes that happened again: activity and
/// causes, the work on the command at hand, waits that may be a refresh's, tiles. Cycles of one activity are counted
/// together, an outcome's numbers times how often it happened: so what is due is added up (settle()) before it is read.
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "models/memory/memory_model.h"
#include "sim/fast/memo.h"
#include "sim/program/command_work.h"
#include "sim/program/engine_run.h"
#include "sim/program/refresh_waits.h"

namespace moesaic::fast {

class Counting {
 public:
  /// Tiles go to `tiles`; `waits_kept` is RefreshWaits' room.
  Counting(memory::MemoryModel& memory, std::size_t waits_kept, std::vector<program::TileTime>& tiles)
      : refresh_waits_(memory, waits_kept), tiles_(tiles) {}

  /// The cycle `now` passes with the core's activity_o at `activity`.
  void cycle(std::uint32_t activity, std::uint64_t now) {
    if (activity != activity_) {
      flush(now);
      activity_ = activity;
      moves_ = moves(activity);
    }
    ++same_;
  }
  /// So many cycles more pass like the last.
  void more(std::uint64_t count) { same_ += static_cast<std::uint32_t>(count); }
  /// What follows is like the cycle before a state in which nothing moves.
  void rest(std::uint32_t activity, std::uint64_t now) {
    flush(now);
    activity_ = activity;
    moves_ = false;
  }
  std::uint32_t activity() const { return activity_; }
  bool moves() const { return moves_; }  ///< a block does, in the last cycle
  static bool moves(std::uint32_t activity) { return (activity & ~(activity >> 1) & 0x55555555U) != 0; }
  /// In the cycle `now`.
  void tile_begins(std::uint64_t now);
  void tile_ends(std::uint64_t now);
  /// The outcome happens from `now` on. It must stay where it is until let_go().
  void happens(Outcome& outcome, std::uint64_t now) {
    flush(now);
    refresh_waits_.passed(outcome.waits, outcome.num_waits, now);
    for (std::uint32_t i = 0; i < outcome.num_begins; ++i) tiles_.push_back({now + outcome.tile_begins[i], 0});
    for (std::uint32_t i = 0; i < outcome.num_ends; ++i) tiles_[tiles_ended_++].end = now + outcome.tile_ends[i];
    work_.passed(outcome.work, now);
    if (outcome.times++ == 0) used_.push_back(&outcome);
  }

  static constexpr std::array<program::Block, 4> kResultBlocks{program::Block::kDrain, program::Block::kRequant,
                                                               program::Block::kSwiglu, program::Block::kOutputDma};
  /// What blocks of kResultBlocks did, told apart from the others, whose cycles say that these are idle: in the cycles
  /// `now` to `now` + `count` - 1.
  void results(std::uint32_t activity, std::uint64_t count, std::uint64_t now) {
    for (std::size_t i = 0; i < kResultBlocks.size(); ++i)
      results_[i][activity >> (2 * static_cast<unsigned>(kResultBlocks[i])) & 3] += count;
    results_cycles_ += count;
    if (moves(activity)) work_.results.add(now, now + count);
  }
  /// The same of cycles that hold so many of each, with blocks moving from the one cycle on to before the other.
  using ResultCounts = std::array<std::array<std::uint8_t, 4>, kResultBlocks.size()>;
  void results(const ResultCounts& counts, std::uint64_t cycles, std::uint64_t busy_from, std::uint64_t busy_end) {
    for (std::size_t i = 0; i < kResultBlocks.size(); ++i)
      for (std::size_t a = 0; a < counts[i].size(); ++a) results_[i][a] += counts[i][a];
    results_cycles_ += cycles;
    if (busy_from != busy_end) work_.results.add(busy_from, busy_end);
  }
  static void add(ResultCounts& counts, std::uint32_t activity) {
    for (std::size_t i = 0; i < kResultBlocks.size(); ++i)
      ++counts[i][activity >> (2 * static_cast<unsigned>(kResultBlocks[i])) & 3];
  }
  /// In a cycle of which the others say that the accumulators are idle, a block is released.
  void released() { ++released_; }

  /// Of what has passed: in so many cycles the weight reader was not blocked, but took a beat.
  void reader_is_busy(std::uint32_t cycles) { reader_busy_ += cycles; }

  /// Up to `now`, all cycles before which have been counted, and afterwards from there on.
  void flush(std::uint64_t now) {
    if (same_ != 0) add_same(now);
  }
  /// Of the command at hand; the next one's begins.
  program::CommandWork take_work(std::uint64_t now);
  /// What the core's idle cycles count as from `now` on.
  void set_idle_cause(program::Cause cause, std::uint64_t now);
  void settle(std::uint64_t now);
  const program::ActivityCounts& activities() const { return total_; }  ///< as of the last settle()
  const std::array<std::uint64_t, program::kNumCauses>& causes() const { return total_causes_; }
  /// RefreshWaits::counts().
  const program::RefreshWaits::Counts& refreshed(std::uint64_t now) { return refresh_waits_.counts(now); }
  /// No outcome that happened is looked at any more.
  void let_go(std::uint64_t now) {
    settle(now);
    refresh_waits_.detach();
  }

  /// What is counted from `now` on, without outcomes, is an outcome's, until end_recording().
  void begin_recording(std::uint64_t now);
  void end_recording(std::uint64_t now) {
    flush(now);
    recording_ = false;
  }
  /// What was recorded.
  void write(Outcome& outcome, Arena& arena) const;

 private:
  void add_same(std::uint64_t now);
  void note_wait(program::Cause cause, std::uint64_t now);
  void settle_stepped(std::uint64_t now);
  void add(const Counts& counts, std::uint64_t times);

  program::RefreshWaits refresh_waits_;
  std::vector<program::TileTime>& tiles_;
  std::size_t tiles_ended_ = 0;
  program::CommandWork work_;  // on the command that is not executed yet
  program::Cause idle_cause_ = program::Cause::kHost;

  // The last activity and for how many cycles, what is not yet in the total, the total.
  std::uint32_t activity_ = 0, same_ = 0;
  bool moves_ = false;
  Counts counts_;
  std::uint64_t reader_busy_ = 0;  // reader_is_busy(), not in the total
  // results() and released(), not in the total
  std::array<std::array<std::uint64_t, 4>, kResultBlocks.size()> results_{};
  std::uint64_t results_cycles_ = 0, released_ = 0;
  std::vector<Outcome*> used_;  // outcomes that happened and are not in the total
  program::ActivityCounts total_{};
  std::array<std::uint64_t, program::kNumCauses> total_causes_{};

  struct Recorded {
    std::vector<std::uint32_t> tile_begins, tile_ends;
    std::vector<program::RefreshWaits::Wait> waits;
    program::CommandWork work;
  };
  bool recording_ = false;
  Recorded recorded_;
  std::uint64_t record_begin_ = 0;
};

}  // namespace moesaic::fast
