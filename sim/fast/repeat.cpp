#include "sim/fast/repeat.h"

#include <algorithm>
#include <array>
#include <vector>

#include "sim/fast/paths.h"
#include "sim/fast/rounds.h"
#include "sim/fast/states.h"

namespace moesaic::fast {

namespace {

constexpr std::uint64_t kFewestStepped = 64;
constexpr std::uint64_t kPartsAgain = 512;  // cycles after results could not be apart for long

/// Steps and skips to the next place where states are compared, or until there is something to tell.
void advance(Machine& machine) {
  const std::uint64_t begin = machine.effort().stepped + machine.effort().streamed,
                      begin_taken = machine.taken_singly();
  do {
    const std::uint64_t marks = machine.marked();
    machine.step();
    if (machine.has_news()) return;
    const unsigned still = machine.stillness();
    if (still != 0) machine.skip(still);
    machine.stream(kNever);
    const std::uint64_t stepped = machine.effort().stepped + machine.effort().streamed - begin;
    if (stepped >= kMostStepped || machine.taken_singly() - begin_taken >= Feeds::kMostTaken ||
        (stepped >= kFewestStepped && machine.marked() != marks))
      return;
  } while (true);
}

class RepeatAll {
 public:
  explicit RepeatAll(Machine& machine) : machine_(machine), states_(machine) {}

  void run() {
    State* state = nullptr;  // the machine's, or null when it is not known
    while (!machine_.done()) {
      if (states_.are_full()) {
        if (state != nullptr) states_.restore(*state);
        states_.forget();
        state = nullptr;
      }
      if (state == nullptr) state = states_.find();
      if (state == nullptr) {  // cannot be remembered
        advance(machine_);
        machine_.tell();
        continue;
      }
      Outcome* const outcome = match(*state);
      if (outcome != nullptr) {
        machine_.pass(*outcome);
        state = outcome->next;
        if (!machine_.has_news()) continue;
        states_.restore(*state);
        machine_.tell();
        state = nullptr;
        continue;
      }
      states_.restore(*state);
      state = record(*state);
    }
    machine_.let_go();
  }

 private:
  Outcome* match(State& state) {
    const std::uint64_t most = machine_.undisturbed();
    Outcome* before = nullptr;
    for (Outcome* outcome = state.outcomes.first; outcome != nullptr; before = outcome, outcome = outcome->beside) {
      if (outcome->cycles > most || !machine_.are_next(outcome->taken, outcome->num_taken, outcome->items) ||
          !machine_.ends_alike(*outcome))
        continue;
      state.outcomes.to_front(outcome, before);
      return outcome;
    }
    return nullptr;
  }

  /// Steps on from a state and remembers what happened, unless something came from outside meanwhile. Returns the
  /// state after it, or null when the agent was told something.
  State* record(State& state) {
    const Feeds& feeds = machine_.feeds();
    for (unsigned f = 0; f < kNumFeeds; ++f) begin_taken_[f] = feeds.taken(static_cast<Feed>(f));
    machine_.begin_recording();
    advance(machine_);
    machine_.end_recording();
    const bool news = machine_.has_news();
    State* next = machine_.is_alone() || !news ? states_.find() : nullptr;
    if (next != nullptr && machine_.can_keep()) {
      Outcome& outcome = machine_.keep(next, states_.arena());
      keep_taken(outcome);
      state.outcomes.add(&outcome);
    }
    if (!news) return next;
    machine_.tell();
    return nullptr;
  }

  /// What was taken since recording began.
  void keep_taken(Outcome& outcome) {
    const Feeds& feeds = machine_.feeds();
    taken_.clear();
    items_.clear();
    for (unsigned f = 0; f < kNumFeeds; ++f) {
      const auto feed = static_cast<Feed>(f);
      if (feeds.taken(feed) == begin_taken_[f]) continue;
      check_remembered(feeds.taken(feed) - begin_taken_[f]);
      taken_.push_back({feed, static_cast<std::uint8_t>(feeds.taken(feed) - begin_taken_[f])});
      for (std::uint64_t i = begin_taken_[f]; i < feeds.taken(feed); ++i) items_.push_back(feeds.item(feed, i));
    }
    outcome.num_taken = static_cast<std::uint8_t>(taken_.size());
    outcome.taken = states_.arena().copy(taken_);
    outcome.num_items = static_cast<std::uint16_t>(items_.size());
    outcome.items = states_.arena().copy(items_);
  }

  Machine& machine_;
  States states_;
  std::array<std::uint64_t, kNumFeeds> begin_taken_{};
  std::vector<Taken> taken_;  // before they are kept
  std::vector<Item> items_;
};

class RepeatCore {
 public:
  explicit RepeatCore(Machine& machine)
      : machine_(machine), states_(machine), paths_(machine, states_), rounds_(machine, states_) {}

  void run() {
    while (!machine_.done()) {
      make_room();
      if (place_ != nullptr) {
        if (const Round* const round = rounds_.go(*state_, place_)) {
          state_ = round->outcome->next;
          place_ = round->next;
          if (machine_.has_news()) tell();
          continue;
        }
        rounds_.land(place_);
      }
      if (machine_.waits_for_memory()) {
        if (state_ != nullptr) states_.restore(*state_);
        wait();
        machine_.tell();
        state_ = nullptr;
        place_ = nullptr;
        continue;
      }
      if (state_ == nullptr) state_ = states_.find();
      if (state_ == nullptr) {
        place_ = nullptr;
        if (machine_.now() >= part_from_ && machine_.may_part()) {
          run_apart();
          continue;
        }
        advance(machine_);
        machine_.tell();
        continue;
      }
      if (machine_.now() >= part_from_ && state_->may_part) {
        run_apart();
        continue;
      }
      if (state_->still != 0 && machine_.may_rest() && machine_.undisturbed() != 0) rest();
      if (machine_.is_at_limit()) {  // the watchdog's cycle
        states_.restore(*state_);
        machine_.step();
        tell();
        continue;
      }
      if (place_ != nullptr) rounds_.mark();
      Outcome* const outcome = paths_.follow(*state_);
      if (outcome != nullptr) {
        state_ = &paths_.pass(*outcome);
        if (machine_.has_news()) {
          tell();
          continue;
        }
        Place* const next = rounds_.find_after(*outcome, *state_);
        if (place_ != nullptr && next != nullptr) rounds_.add_round(*place_, *outcome, paths_.path(), *state_, next);
        place_ = next;
        continue;
      }
      place_ = nullptr;
      states_.restore(*state_);
      state_ = paths_.record(*state_);
    }
    rounds_.land(place_);
    machine_.let_go();
  }

 private:
  void make_room() {
    if (states_.are_full()) {
      rounds_.land(place_);
      if (state_ != nullptr) states_.restore(*state_);
      rounds_.forget();
      states_.forget();
      state_ = nullptr;
      place_ = nullptr;
    }
    if (rounds_.are_full()) {
      rounds_.land(place_);
      rounds_.forget();
      ++machine_.effort().moments_forgotten;
      place_ = nullptr;
    }
  }

  /// Until the memory has taken what the storage writes, or there is something to tell.
  void wait() {
    do {
      machine_.step();
      if (machine_.has_news()) return;
      const unsigned still = machine_.stillness();
      if (still != 0) machine_.skip(still);
    } while (machine_.waits_for_memory());
  }

  /// As long as results are on their way out and the others do not touch them, these go from state to state without
  /// them.
  void run_apart() {
    rounds_.land(place_);
    place_ = nullptr;
    if (state_ != nullptr) states_.restore(*state_);
    machine_.part();
    state_ = states_.find();
    bool goes_on = state_ != nullptr;
    while (goes_on && !machine_.is_at_limit() && !states_.are_full()) {
      Outcome* const outcome = paths_.follow(*state_);
      if (outcome != nullptr) {
        state_ = &paths_.pass(*outcome);
      } else {
        states_.restore(*state_);
        state_ = paths_.record(*state_);
        goes_on = state_ != nullptr && paths_.has_kept();
      }
      goes_on = goes_on && !machine_.has_news() && machine_.results_work();
    }
    if (state_ != nullptr) states_.restore(*state_);
    machine_.join();
    machine_.tell();
    state_ = nullptr;
    part_from_ = machine_.now() + (goes_on || machine_.options().eager ? 1 : kPartsAgain);
  }

  /// The agent hears something: no state is known after that.
  void tell() {
    rounds_.land(place_);
    states_.restore(*state_);
    machine_.tell();
    state_ = nullptr;
    place_ = nullptr;
  }

  /// From a state from which nothing changes until a beat comes: skips to where one does. The place is then the one
  /// after it.
  void rest() {
    machine_.rest(state_->activity);
    const std::uint64_t begin = machine_.now();
    const std::uint64_t of_memory = machine_.silence();
    if (place_ != nullptr) rounds_.mark();
    const bool is_free = of_memory <= machine_.most_skipped();
    machine_.skip_rest(state_->still);
    if (place_ == nullptr || machine_.now() == begin) return;
    Place* const next = is_free ? rounds_.find(*state_) : nullptr;
    if (next != nullptr) rounds_.add_skip(*place_, of_memory, next);
    place_ = next;
  }

  Machine& machine_;
  States states_;
  Paths paths_;
  Rounds rounds_;
  // The state that the machine is at; of the state and the memory, where that is known. Null where not.
  State* state_ = nullptr;
  Place* place_ = nullptr;
  std::uint64_t part_from_ = 0;  // no sooner do results go apart
};

}  // namespace

void repeat_all(Machine& machine) { RepeatAll(machine).run(); }
void repeat_core(Machine& machine) { RepeatCore(machine).run(); }

}  // namespace moesaic::fast
