#include "sim/fast/paths.h"

#include <algorithm>
#include <stdexcept>

namespace moesaic::fast {

namespace {

constexpr std::uint64_t kFewestStepped = 24;  // shorter: what the memory answers repeats less

/// Whether the same is taken and asked for on both, and where they end nothing else follows.
bool is_alike(const Leg& a, const Leg& b) {
  const auto same = [](const Taken& x, const Taken& y) { return x.feed == y.feed && x.count == y.count; };
  return a.until == b.until && a.port == b.port && a.count == b.count && a.item == b.item && a.offset == b.offset &&
         (a.outcome == nullptr) == (b.outcome == nullptr) &&
         (a.outcome == nullptr || a.outcome->joins == b.outcome->joins) &&
         std::equal(a.taken, a.taken + a.num_taken, b.taken, b.taken + b.num_taken, same) &&
         std::equal(a.items, a.items + a.num_items, b.items, b.items + b.num_items);
}

/// Whether beats also come or leave alike.
bool is_same(const Leg& a, const Leg& b) {
  return is_alike(a, b) && std::equal(a.beats, a.beats + a.num_beats, b.beats, b.beats + b.num_beats) &&
         std::equal(a.ports, a.ports + a.num_beats, b.ports, b.ports + b.num_beats) &&
         std::equal(a.left, a.left + a.num_left, b.left, b.left + b.num_left);
}

}  // namespace

Outcome* Paths::follow(State& state) {
  path_.legs.clear();
  path_.addresses.clear();
  ahead_ = {};
  leg_begin_ = 0;
  undisturbed_ = machine_.undisturbed();
  memory_.begin(machine_.now());
  const Feeds& feeds = machine_.feeds();
  in_store_ = state.kind->used - state.owed;
  path_.is_stocked = in_store_ != 0 && state.kind->stocked.first != nullptr;
  if (machine_.is_apart() && !path_.is_stocked) return nullptr;
  Found<Leg>* legs = path_.is_stocked ? &state.kind->stocked : &state.legs;
  for (;;) {
    Leg* const leg = path_.is_stocked ? follow_stocked(*legs) : follow_leg(*legs);
    if (leg == nullptr) {
      legs = path_.is_stocked && !machine_.is_apart() ? leave_stock(state) : nullptr;
      if (legs == nullptr) return nullptr;
      continue;
    }
    path_.last = leg;
    if (leg->outcome != nullptr) {
      if (path_.is_stocked) path_.came = memory_.sum_up(*leg->outcome);
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
    leg_begin_ = memory_.num_came();
  }
}

/// What is taken on the leg comes next, and where it ends the state after it is the one.
bool Paths::is_next(const Leg& leg) {
  return machine_.are_next(leg.taken, leg.num_taken, leg.items, ahead_.data()) &&
         (leg.outcome == nullptr || machine_.ends_alike(*leg.outcome));
}

/// As follow_leg() on a stocked path: which leg it is follows from the items alone.
Leg* Paths::follow_stocked(Found<Leg>& legs) {
  if (memory_.owed(kWeights) >= kBeatsAccepted) return nullptr;  // the port takes no addresses
  Leg* before = nullptr;
  for (Leg* leg = legs.first; leg != nullptr; before = leg, leg = leg->beside) {
    if (leg->until >= undisturbed_ || !is_next(*leg)) continue;
    if (machine_.is_apart()) {
      if (in_store_ <= leg->num_left) return nullptr;  // it is not certain before results run ahead
      machine_.run_results(memory_.begin_cycle() + leg->until + (leg->outcome != nullptr ? 1 : 0));
    }
    legs.to_front(leg, before);
    return memory_.come_stocked(*leg, in_store_) ? leg : nullptr;
  }
  return nullptr;
}

/// The path was followed as a stocked one, and goes on as none: at these legs, behind such as are like those that were
/// followed. Null where there are none.
Found<Leg>* Paths::leave_stock(State& state) {
  Found<Leg>* legs = &state.legs;
  std::size_t begin = 0;
  exact_.clear();
  for (const Leg* const stocked : path_.legs) {
    Leg* leg = legs->first;
    while (leg != nullptr && !(is_alike(*leg, *stocked) && memory_.came_all_as(*leg, begin))) leg = leg->beside;
    if (leg == nullptr) return nullptr;
    exact_.push_back(leg);
    begin += leg->num_beats;
    legs = &leg->next;
  }
  path_.legs.swap(exact_);
  path_.is_stocked = false;
  leg_begin_ = begin;
  return legs;
}

State& Paths::pass(Outcome& outcome) {
  if (outcome.stock == nullptr) {
    machine_.pass(outcome);
    return *outcome.next;
  }
  machine_.pass(outcome, path_.came);
  State& next = states_.of(*outcome.stock->next, static_cast<std::uint32_t>(memory_.owed(kWeights)));
  if (outcome.stock->still != 0) {
    next.still = outcome.stock->still;
    next.activity = outcome.stock->activity;
  }
  return next;
}

Leg* Paths::follow_leg(Found<Leg>& legs) {
  const std::size_t begin = leg_begin_;
  Leg* before = nullptr;
  for (Leg* leg = legs.first; leg != nullptr; before = leg, leg = leg->beside) {
    const std::size_t done = memory_.num_came() - begin;
    if (leg->until >= undisturbed_ || leg->num_beats < done || !memory_.may_come(*leg, done)) continue;
    if (!memory_.came_as(*leg, begin)) continue;
    if (!is_next(*leg) || !memory_.come(*leg, done)) continue;
    legs.to_front(leg, before);
    return leg;
  }
  return nullptr;
}

State* Paths::record(State& state) {
  machine_.begin_recording();
  recorder_.begin(machine_.now(), machine_.is_apart());
  moved_ = kNever;
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
  has_kept_ = next != nullptr && is_whole && machine_.can_keep() &&
              (!machine_.is_apart() || (recorder_.is_stocked() && !machine_.has_touched()));
  if (has_kept_) keep(state, next);
  if (!news) return next;
  machine_.tell();
  return nullptr;
}

/// Steps to the next place where states are compared, at the latest until nothing moves or there is something to tell;
/// returns what State::still says.
unsigned Paths::advance() {
  const std::uint64_t begin = machine_.now(), begin_taken = machine_.taken_singly();
  const bool may_part = machine_.may_part();
  do {
    const std::uint64_t marks = machine_.marked();
    machine_.step();
    recorder_.cycle(machine_.reader_works(), machine_.has_added(), machine_.now() - 1);
    if (machine_.moves_otherwise()) moved_ = machine_.now() - 1;
    if (machine_.has_news()) return 0;
    const unsigned still = machine_.stillness();
    if (machine_.stream(begin + kMostStepped - machine_.now()) != 0) moved_ = machine_.now() - 1;
    const std::uint64_t stepped = machine_.now() - begin;
    if (stepped > kMostStepped) throw std::logic_error("fast: a path that is not told");
    if (memory_.is_told(machine_.now()) &&
        (still != 0 || stepped >= kMostStepped || machine_.taken_singly() - begin_taken >= Feeds::kMostTaken ||
         (stepped >= kFewestStepped && machine_.marked() != marks) ||
         (!may_part && !machine_.is_apart() && machine_.may_part())))
      return still;
  } while (true);
}

/// The core did again what it had done on the path that was followed.
void Paths::check_followed() const {
  const std::size_t followed = path_.legs.size();
  const bool is_whole = recorder_.is_whole();
  bool same = memory_.is_told(machine_.now()) && (!is_whole || followed < recorder_.size());
  for (std::size_t i = 0; same && is_whole && i < followed; ++i) {
    const RecordedLeg& did = recorder_[i];
    const Leg& had = *path_.legs[i];
    same = did.until == had.until && did.count == had.count && did.port == had.port && did.item == had.item &&
           did.offset == had.offset;
  }
  if (!same) throw std::logic_error("fast: a core in a known state did not do what it had done");
}

/// Makes what was recorded a stocked outcome.
void Paths::keep_stocked(Outcome& outcome, const State& next) {
  Stock& stock = *states_.arena().make<Stock>();
  stock.next = next.kind;
  stock.still = next.still;
  stock.activity = next.activity;
  stock.works = recorder_.works();
  stock.adds = recorder_.adds();
  outcome.stock = &stock;
  Came came;
  for (std::size_t i = 0; i < recorder_.size(); ++i) came.busy += stock.count_others(recorder_[i].beats);
  came.still = moved_ == kNever ? outcome.cycles + 1 : static_cast<std::uint32_t>(machine_.now() - moved_);
  leave_out_beats(outcome, came, states_.arena());
}

/// Hangs what was recorded to the path that was followed.
void Paths::keep(State& state, State* next) {
  Arena& arena = states_.arena();
  Outcome& outcome = machine_.keep(next, arena);
  taken_.clear();
  for (unsigned f = 0; f < kNumFeeds; ++f) {
    const std::uint64_t count = recorder_.taken(static_cast<Feed>(f));
    check_remembered(count);
    if (count != 0) taken_.push_back({static_cast<Feed>(f), static_cast<std::uint8_t>(count)});
  }
  outcome.num_taken = static_cast<std::uint8_t>(taken_.size());
  outcome.taken = arena.copy(taken_);
  const bool is_stocked = recorder_.is_stocked();
  if (is_stocked) keep_stocked(outcome, *next);
  // A path of the other sort begins at the root, and may go over legs that are known.
  const bool goes_on = is_stocked == path_.is_stocked && !path_.legs.empty();
  const std::size_t followed = goes_on ? path_.legs.size() : 0;
  if (followed == recorder_.size()) throw std::logic_error("fast: a path that ends nowhere");
  Found<Leg>* legs = goes_on ? &path_.legs.back()->next : is_stocked ? &state.kind->stocked : &state.legs;
  for (std::size_t i = followed; i < recorder_.size(); ++i) {
    const RecordedLeg& from = recorder_[i];
    Leg leg;
    leg.num_taken = static_cast<std::uint8_t>(from.taken.size());
    leg.taken = from.taken.data();
    leg.num_items = static_cast<std::uint16_t>(from.items.size());
    leg.items = from.items.data();
    if (is_stocked) {
      leg.num_left = static_cast<std::uint16_t>(from.left.size());
      leg.left = from.left.data();
    } else {
      leg.num_beats = static_cast<std::uint16_t>(from.beats.size());
      leg.beats = from.beats.data();
      leg.ports = from.ports.data();
    }
    leg.of_one_port = !is_stocked && !from.ports.empty() &&
                      std::count(from.ports.begin(), from.ports.end(), from.ports.front()) ==
                          static_cast<std::ptrdiff_t>(from.ports.size());
    leg.offset = from.offset;
    leg.item = static_cast<std::int32_t>(from.item);
    leg.until = from.until;
    leg.port = from.port;
    leg.count = from.count;
    if (i + 1 == recorder_.size()) leg.outcome = &outcome;
    Leg* known = goes_on ? nullptr : legs->first;
    while (known != nullptr && !is_same(*known, leg)) known = known->beside;
    if (known == nullptr) {
      known = arena.make<Leg>();
      *known = leg;
      known->taken = arena.copy(from.taken);
      known->items = arena.copy(from.items);
      known->beats = arena.copy(leg.beats, leg.num_beats);
      known->ports = arena.copy(leg.ports, leg.num_beats);
      known->left = arena.copy(leg.left, leg.num_left);
      legs->add(known);
    }
    legs = &known->next;
  }
}

}  // namespace moesaic::fast
