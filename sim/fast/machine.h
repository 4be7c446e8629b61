#pragma once
/// The machine that the fast engine runs: core, host, ports, memory and storage, with the host's agent, which is told
/// what happens. Time passes in these ways: a cycle is stepped; cycles in which nothing moves, or in which a tile's
/// tokens pass the array alike, are skipped; or what followed a state before happens again (an Outcome), which moves
/// everything but the machine's own state. That is then read from the state that the outcome led to. When which of them
/// is right is decided elsewhere (repeat.h).
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/fast/asked_memory.h"
#include "sim/fast/core.h"
#include "sim/fast/counting.h"
#include "sim/fast/engine.h"
#include "sim/fast/feeds.h"
#include "sim/fast/host.h"
#include "sim/fast/memo.h"
#include "sim/fast/memory_ports.h"
#include "sim/fast/results.h"
#include "sim/fast/storage_port.h"
#include "sim/program/stalls.h"

namespace moesaic::fast {

class Machine {
 public:
  /// All outlive the machine.
  Machine(const program::CoreParams& params, program::HostAgent& agent, const program::MemoryImage& image,
          const Options& options)
      : Machine(params, agent, image, options, draw_stalls(options)) {}

  const Options& options() const { return options_; }
  std::uint64_t now() const { return now_; }  ///< cycles passed
  Effort& effort() { return run_.effort; }
  bool done() const { return agent_.is_finished() || is_cut(); }
  /// What the run came to; the machine is of no use afterwards.
  Run finish();

  // ---- step ----

  void step();
  /// Whether there is something to tell at this edge, or the run is cut there.
  bool has_news() const {
    return is_cut() || events_.any() || events_.completed || (events_.idle && agent_.phase_is_pushed()) ||
           (agent_.wake() && *agent_.wake() <= now_);
  }
  /// Tells the agent what happened at this edge, in the order of its contract, and hears what it answers.
  void tell();
  /// No block has moved for so long that the run is stuck if none does in the next cycle.
  bool is_at_limit() const { return now_ - last_move_ > limit_; }

  // ---- results apart ----

  /// Whether results may go apart (Core::may_part()), and it seems worth the while.
  bool may_part() const {
    const bool is_stocked = core_.weight_reader().in_store() >= (options_.eager ? 1U : kFewestStored);
    return takes_ports_apart_ && is_stocked && core_.may_part(options_.eager ? 1 : kFewestChunks);
  }
  /// From here on results are on their way out on their own: no state or outcome has anything of them. What leads to
  /// an outcome then lets them run ahead of the others, as far as it is known what these do.
  void part();
  bool is_apart() const { return apart_; }
  /// They have something left to do.
  bool results_work() const { return results_.work(); }
  /// While apart, since recording began: the others have seen results or the other way round: what was recorded is no
  /// outcome.
  bool has_touched() const { return touched_; }
  /// While apart: sums were added to the accumulators in the last cycle that was stepped.
  bool has_added() const { return added_; }
  /// Results do what they do before the cycle `end`.
  void run_results(std::uint64_t end) { results_.run(end); }
  /// They are a part of the machine again. They must not be ahead.
  void join();

  // ---- skip ----

  /// After a step. 0: something changes in the next cycle. Otherwise nothing does until the memory, the storage or the
  /// agent says something, but that after so many cycles the host is where it was.
  unsigned stillness() const { return quiet_ ? host_.period(core_) : 0; }
  /// While nothing changes, with stillness() at `period`: the cycles in which nothing will.
  void skip(unsigned period);
  /// Cycles in which the memory says nothing.
  std::uint64_t silence() { return memory_.silence(now_); }
  /// After a step: passes tokens of a tile at once where nothing moves but the array, what it feeds and the sequencer,
  /// and these do what they did for the token before; at most `most` cycles. Returns how many passed. Not while results
  /// are apart.
  std::uint64_t stream(std::uint64_t most);
  /// Cycles that may be skipped, whatever the memory says.
  std::uint64_t most_skipped();

  /// Whether the machine, in a state in which nothing moves, may be skipped on from here. Not twice from one cycle. Not
  /// where the memory was asked for its counters: it cannot be asked about the cycle before then. Not where something
  /// has just moved: behind a beat another one may be there that the memory does not announce.
  bool may_rest() const { return rested_at_ != now_ && moved_at_ != now_ && !is_at_limit() && counted_at_ != now_; }
  /// It is in a state in which nothing moves. `activity` is that of the cycle before.
  void rest(std::uint32_t activity) { counting_.rest(activity, now_); }
  /// As skip(), or for so many cycles.
  void skip_rest(unsigned period) {
    skip(period);
    rested_at_ = now_;
  }
  void pass_rest(std::uint64_t count) {
    pass_still(count);
    rested_at_ = now_;
  }

  // ---- states ----

  /// The storage writes to the memory what that has refused so far.
  bool waits_for_memory() const { return storage_.waits_for_memory(); }
  /// Whether the memory's state is not part of the machine's: it does not export it, and is asked.
  bool asks() const { return asks_; }
  /// Between cycles: appends all that decides what comes next but what is ahead in the feeds. False: not now, there is
  /// something under way that no state holds.
  bool write_state(std::string& state);
  /// Becomes what was written: it has passed outcomes without moving itself.
  void read_state(std::string_view state, std::uint32_t weights_owed);
  /// It has.
  bool is_behind() const { return behind_; }
  /// In the last cycle that was stepped: whether the weight reader did more than to take a beat, and whether any block
  /// moved but for that.
  bool reader_works() const { return reader_works_; }
  bool moves_otherwise() const { return reader_works_ || Counting::moves(activity() & ~(3U << kReaderShift)); }
  /// Grows with every tile, eighth activation step and command: where states are likely to repeat.
  std::uint64_t marked() const {
    return feeds_.taken(Feed::kSequenceTile) + feeds_.taken(Feed::kActStep) / 8 + feeds_.taken(Feed::kExecute);
  }

  /// Items that were taken one by one and belong to outcomes: while results are apart, not theirs.
  std::uint64_t taken_singly() const {
    return feeds_.taken_singly() - (apart_ ? feeds_.taken(Feed::kChunk) + feeds_.taken(Feed::kBlock) : 0);
  }

  // ---- outcomes ----

  /// The cycles through which nothing comes from outside, neither from the storage nor from the host's agent, and the
  /// I/O queue rests: only what happens in so many may be what happened before.
  std::uint64_t undisturbed();
  /// Whether these items are the next of their feeds, behind `ahead` others of each.
  bool are_next(const Taken* taken, std::size_t count, const Item* items, const unsigned* ahead = nullptr) {
    for (std::size_t i = 0; i < count; ++i) {
      const Feed feed = taken[i].feed;
      if (!feeds_.matches(feed, items, taken[i].count, ahead == nullptr ? 0 : ahead[static_cast<unsigned>(feed)]))
        return false;
      if (feed == Feed::kQueue && !are_held(items, taken[i].count)) return false;
      items += taken[i].count;
    }
    return true;
  }
  /// Whether the state after the outcome is that one here too: Core::join_bursts() looks at segments behind it.
  bool ends_alike(const Outcome& outcome) const {
    return core_.joins_after(outcome.segments) == outcome.joins &&
           (outcome.joined == Outcome::kNotJoined || core_.joins_after(outcome.joined));
  }
  /// The outcome happens now: everything but the machine's own state moves on. It must stay where it is until let_go().
  void pass(Outcome& outcome) { pass(outcome, outcome.still); }
  /// A stocked one, with the beats of weights that come.
  void pass(Outcome& outcome, const Came& came);
  /// All that have passed may go.
  void let_go() { counting_.let_go(now_); }

  /// What is stepped from here on may become an outcome.
  void begin_recording();
  void end_recording() { counting_.end_recording(now_); }
  /// Nothing has come from outside since recording began, completions of loads in the last cycle apart.
  bool is_alone() const { return alone_; }
  /// What was recorded can happen again: nothing came from outside. Up to where undisturbed() said so when recording
  /// began, or else the storage may have written to the memory, or something shorter that is known was left out.
  bool can_keep() const { return alone_ && !events_.completed && now_ - record_begin_ <= record_most_; }
  /// What was recorded, up to the state `next`; without what was taken from the feeds.
  Outcome& keep(State* next, Arena& arena);

  Feeds& feeds() { return feeds_; }
  const Core& core() const { return core_; }
  AskedMemory& memory() { return memory_; }
  std::uint32_t activity() const { return counting_.activity(); }
  unsigned beat_bytes() const { return beat_bytes_; }

 private:
  static constexpr unsigned kFewestChunks = 24;  // to drain, and beats of weights in stock, for results to go apart
  static constexpr unsigned kFewestStored = 16;
  static constexpr unsigned kReaderShift = 2 * static_cast<unsigned>(program::Block::kWeightReader);
  /// What the host's agent is told at the edge that ends a cycle.
  struct Events : News {
    std::optional<std::size_t> completed;
  };

  /// Of the host, seven of the memory's ports, two of the storage: in the order of CoreBench.
  using ManyStalls = std::array<program::Stalls, 10>;
  static ManyStalls draw_stalls(const Options& options);
  Machine(const program::CoreParams& params, program::HostAgent& agent, const program::MemoryImage& image,
          const Options& options, const ManyStalls& stalls);

  bool is_cut() const { return options_.max_cycles && now_ >= *options_.max_cycles; }
  void count(std::uint32_t activity);
  void note_flow(const Core::Wires& wires, bool disturbed);
  std::uint32_t count_results(const Core::Wires& w);
  void note_results();
  void watch_tiles(const Core::Wires& w);
  void hear();
  void end_phase();
  program::EngineRun::PhaseEnd phase_end();
  std::string stuck() const;
  std::uint64_t until(std::uint64_t cycle) const { return cycle > now_ ? cycle - now_ : 0; }
  void pass_still(std::uint64_t count);
  void pass(Outcome& outcome, std::uint32_t still);
  template <class Visit>
  void visit_state(Visit& visit);
  bool are_held(const Item* items, unsigned count) const;

  const Options& options_;
  program::HostAgent& agent_;
  const unsigned beat_bytes_;
  Run run_;
  program::RunLog log_;
  Feeds feeds_;
  Core core_;
  AskedMemory memory_;
  Counting counting_;
  Host host_;
  StoragePort storage_;
  MemoryPorts ports_;
  Results results_;
  std::uint64_t now_ = 0, limit_ = 0;
  std::uint64_t last_busy_ = 0, last_move_ = 0;  // of a block; of a block, the storage or the agent

  Events events_;                 // of the edge behind the last cycle, not told yet
  std::size_t known_ = 0;         // commands on offer that the feeds have
  Effort counted_;                // up to the last phase's end
  std::uint64_t counted_at_ = 0;  // cycle of that

  bool quiet_ = false;                // nothing changed in the last cycle
  std::uint64_t moved_at_ = kNever;   // the cycle behind one in which something moved
  std::uint64_t rested_at_ = kNever;  // the cycle to which was skipped from a state in which nothing moves

  // note_flow(): where a token began, cycles like this one since then; how many, where the next one has just begun.
  Core::Flow flow_;
  std::uint32_t flow_activity_ = 0;
  std::uint64_t flow_begin_ = kNever, flow_period_ = 0;

  bool apart_ = false, touched_ = false, added_ = false;

  bool behind_ = false;
  bool reader_works_ = false;
  bool asks_ = false, takes_ports_apart_ = false;
  std::vector<std::int64_t> exported_;

  bool joins_ = false;  // of the state that was written last

  bool alone_ = true;
  std::uint64_t begin_segments_ = 0;                    // of weights, taken where recording began
  std::uint64_t record_begin_ = 0, record_most_ = 0;    // where recording began; undisturbed() there
  std::array<std::uint64_t, kNumPorts> begin_beats_{};  // that had crossed where recording began
};

}  // namespace moesaic::fast
