#pragma once
/// The core repeats itself behind a memory that is asked (docs/fast.md): to each state belongs a tree of legs. A path
/// down it is what the core did once, up to the next state; the memory is asked what the core asked for, and the path
/// holds as long as beats come as they did then. On a stocked path a beat of weights lay in the reader's buffer in
/// every cycle: then it does not matter when more of them come, as long as they are there in time, and the path holds
/// from all states of its kind.
#include <array>
#include <cstdint>
#include <vector>

#include "sim/fast/leg_recorder.h"
#include "sim/fast/machine.h"
#include "sim/fast/states.h"

namespace moesaic::fast {

/// Cycles that are stepped to one outcome at the most.
inline constexpr std::uint64_t kMostStepped = 300;
static_assert(kMostStepped <= Stock::kMostCycles);

class Paths {
 public:
  Paths(Machine& machine, States& states)
      : machine_(machine),
        states_(states),
        memory_(machine.memory()),
        recorder_(machine.core(), machine.feeds(), machine.beat_bytes()) {}

  /// Goes on from the state as it did before, as long as the memory answers as it did before. Returns the outcome,
  /// which is still to be passed, or null where this is something new: the machine must then record() from the same
  /// state.
  Outcome* follow(State& state);
  /// Steps on from a state, with what follow() came to know of it, and remembers what happened. Returns the state after
  /// it, or null when the agent was told something.
  State* record(State& state);
  /// What was recorded last is remembered.
  bool has_kept() const { return has_kept_; }

  /// The outcome to which a path was followed happens. Returns the state after it.
  State& pass(Outcome& outcome);
  /// The path that was followed to an outcome.
  struct Path {
    std::vector<Leg*> legs;                // but for the last
    std::vector<std::uint64_t> addresses;  // asked for at their ends
    const Leg* last = nullptr;
    bool is_stocked = false;
    Came came;  // of a stocked one
  };
  const Path& path() const { return path_; }

 private:
  bool is_next(const Leg& leg);
  Leg* follow_leg(Found<Leg>& legs);
  Leg* follow_stocked(Found<Leg>& legs);
  Found<Leg>* leave_stock(State& state);
  unsigned advance();
  void check_followed() const;
  void keep(State& state, State* next);
  void keep_stocked(Outcome& outcome, const State& next);

  Machine& machine_;
  States& states_;
  AskedMemory& memory_;
  LegRecorder recorder_;
  Path path_;
  std::array<unsigned, kNumFeeds> ahead_{};  // items that the path takes
  std::size_t leg_begin_ = 0;                // beats that came on the legs before this one
  std::uint32_t in_store_ = 0;               // Reader::in_store() on it
  std::uint64_t undisturbed_ = 0;            // cycles from its beginning on
  std::uint64_t moved_ = 0;                  // the last cycle in which, on what is recorded, Machine::moves_otherwise()
  bool has_kept_ = false;
  std::vector<Leg*> exact_;
  std::vector<Taken> taken_;  // before they are kept
};

}  // namespace moesaic::fast
