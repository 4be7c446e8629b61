#include "sim/fast/paths.h"

#include <algorithm>
#include <stdexcept>

namespace moesaic::fast {

namespace {

constexpr std::uint64_t kFewestStepped = 24;  // shorter: what the memory answers repeats less

}  // namespace

Outcome* Paths::follow(State& state) {
  path_.legs.clear();
  path_.addresses.clear();
  ahead_ = {};
  undisturbed_ = machine_.undisturbed();
  memory_.begin(machine_.now());
  const Feeds& feeds = machine_.feeds();
  Found<Leg>* legs = &state.legs;
  for (;;) {
    Leg* const leg = follow_leg(*legs);
    if (leg == nullptr) return nullptr;
    path_.last = leg;
    if (leg->outcome != nullptr) {
      memory_.end();
      return leg->outcome;
    }
    const Feed feed = feed_of(leg->port);
    const std::uint64_t item = feeds.taken(feed) + static_cast<std::uint64_t>(leg->item);
    const std::uint64_t address = feeds.origin_of(feed, item) + static_cast<std::uint64_t>(leg->offset);
    if (!memory_.ask(*leg, address)) return nullptr;
    path_.legs.push_back(leg);
    path_.addresses.push_back(address);
    for (unsigned t = 0; t < leg->num_taken; ++t)
      ahead_[static_cast<unsigned>(leg->taken[t].feed)] += leg->taken[t].count;
    legs = &leg->next;
  }
}

Leg* Paths::follow_leg(Found<Leg>& legs) {
  const std::size_t begin = memory_.num_came();
  Leg* before = nullptr;
  for (Leg* leg = legs.first; leg != nullptr; before = leg, leg = leg->beside) {
    const std::size_t done = memory_.num_came() - begin;
    if (leg->until >= undisturbed_ || leg->num_beats < done || !memory_.may_come(*leg, done)) continue;
    if (!memory_.came_as(*leg, begin)) continue;
    if (!machine_.are_next(leg->taken, leg->num_taken, leg->items, ahead_.data()) || !memory_.come(*leg, done))
      continue;
    legs.to_front(leg, before);
    return leg;
  }
  return nullptr;
}

State* Paths::record(State& state) {
  machine_.begin_recording();
  recorder_.begin(machine_.now());
  memory_.record_to(&recorder_);
  const unsigned still = advance();
  recorder_.end(machine_.now());
  memory_.record_to(nullptr);
  machine_.end_recording();
  check_followed();
  memory_.end();

  const bool news = machine_.has_news();
  const bool is_whole = recorder_.is_whole();
  State* const next = (is_whole && machine_.is_alone()) || !news ? states_.find() : nullptr;
  if (next != nullptr && still != 0) {
    next->still = static_cast<std::uint8_t>(still);
    next->activity = machine_.activity();
  }
  if (next != nullptr && is_whole && machine_.can_keep()) keep(state, next);
  if (!news) return next;
  machine_.tell();
  return nullptr;
}

/// Steps to the next place where states are compared, at the latest until nothing moves or there is something to tell;
/// returns what State::still says.
unsigned Paths::advance() {
  const std::uint64_t begin = machine_.effort().stepped;
  do {
    const std::uint64_t marks = machine_.marked();
    machine_.step();
    if (machine_.has_news()) return 0;
    const unsigned still = machine_.stillness();
    const std::uint64_t stepped = machine_.effort().stepped - begin;
    if (still != 0 || stepped >= kMostStepped || (stepped >= kFewestStepped && machine_.marked() != marks))
      return still;
  } while (true);
}

/// The core did again what it had done on the path that was followed.
void Paths::check_followed() const {
  const std::size_t followed = path_.legs.size();
  const bool is_whole = recorder_.is_whole();
  bool same = memory_.is_told() && (!is_whole || followed < recorder_.size());
  for (std::size_t i = 0; same && is_whole && i < followed; ++i) {
    const RecordedLeg& did = recorder_[i];
    const Leg& had = *path_.legs[i];
    same = did.until == had.until && did.count == had.count && did.port == had.port && did.item == had.item &&
           did.offset == had.offset;
  }
  if (!same) throw std::logic_error("fast: a core in a known state did not do what it had done");
}

/// Hangs what was recorded to the path that was followed.
void Paths::keep(State& state, State* next) {
  Arena& arena = states_.arena();
  Outcome& outcome = machine_.keep(next, arena);
  taken_.clear();
  for (unsigned f = 0; f < kNumFeeds; ++f) {
    const std::uint64_t count = recorder_.taken(static_cast<Feed>(f));
    if (count != 0) taken_.push_back({static_cast<Feed>(f), static_cast<std::uint8_t>(count)});
  }
  outcome.num_taken = static_cast<std::uint8_t>(taken_.size());
  outcome.taken = arena.copy(taken_);
  const std::size_t followed = path_.legs.size();
  if (followed == recorder_.size()) throw std::logic_error("fast: a path that ends nowhere");
  Found<Leg>* legs = path_.legs.empty() ? &state.legs : &path_.legs.back()->next;
  for (std::size_t i = followed; i < recorder_.size(); ++i) {
    const RecordedLeg& from = recorder_[i];
    Leg& leg = *arena.make<Leg>();
    leg.num_taken = static_cast<std::uint8_t>(from.taken.size());
    leg.taken = arena.copy(from.taken);
    leg.items = arena.copy(from.items);
    leg.num_beats = static_cast<std::uint8_t>(from.beats.size());
    leg.beats = arena.copy(from.beats);
    leg.ports = arena.copy(from.ports);
    leg.of_one_port = !from.ports.empty() && std::count(from.ports.begin(), from.ports.end(), from.ports.front()) ==
                                                 static_cast<std::ptrdiff_t>(from.ports.size());
    leg.offset = from.offset;
    leg.item = static_cast<std::int32_t>(from.item);
    leg.until = from.until;
    leg.port = from.port;
    leg.count = from.count;
    if (i + 1 == recorder_.size()) leg.outcome = &outcome;
    legs->add(&leg);
    legs = &leg.next;
  }
}

}  // namespace moesaic::fast
