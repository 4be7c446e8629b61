#include "sim/fast/rounds.h"

#include <stdexcept>

#include "base/mixed.h"

namespace moesaic::fast {

namespace {

constexpr std::size_t kLinks = 4, kFewLinks = 3;           // rounds of a chain
constexpr unsigned kMostRounds = 16, kMostRefreshed = 64;  // that are kept of a place

}  // namespace

// ---- what is remembered ----

/// Whether it is worth knowing at which moment the memory is after the outcome: it was followed often, and moments of
/// its state have saved asking often enough.
bool Rounds::is_familiar(Outcome& outcome, const State& next) const {
  constexpr std::uint8_t kFamiliar = 16;
  constexpr std::uint32_t kTrials = 64, kFewestSaved = 4;  // one of so many
  if (outcome.followed < kFamiliar) ++outcome.followed;
  const bool pays = next.tried < kTrials || kFewestSaved * next.passed >= next.tried;
  return (outcome.followed == kFamiliar && pays) || eager_;
}

Place* Rounds::find(State& state) {
  if (recurring_ == nullptr) return nullptr;
  ++state.tried;
  machine_.memory().set_asked(machine_.now());
  plain_from_ = kNever;
  // Most moments are met once: only what may be met a second time is looked at closely.
  if (!eager_) {
    const auto glance = recurring_->glance(kWeights, cycles(machine_.now()));
    if (!glance) return nullptr;
    if (met_.empty()) met_.resize(std::size_t{1} << 18);
    const std::uint64_t seen = base::mixed(*glance, state.number);
    std::uint32_t& met = met_[seen >> 46];
    const auto part = static_cast<std::uint32_t>(seen) | 1U;
    if (met != part) {
      met = part;
      return nullptr;
    }
  }
  key_.clear();
  key_.append(reinterpret_cast<const char*>(&state.number), sizeof state.number);
  if (!recurring_->export_moment(kWeights, cycles(machine_.now()), key_)) return nullptr;
  const std::size_t hash = memo_.hash(key_);
  if (Place* const found = memo_.find(key_, hash)) return found;
  ++machine_.effort().moments;
  return memo_.add(key_, hash);
}

void Rounds::mark() {
  recurring_->mark(kWeights, cycles(machine_.now()));
  marked_at_ = machine_.now();
  mark_end_ = recurring_->end(kWeights);
}

/// Whether a refresh is due within so many cycles from now on.
bool Rounds::refreshes_within(std::uint64_t count) {
  const std::uint64_t now = machine_.now();
  if (now > quiet_until_) quiet_until_ = static_cast<std::uint64_t>(recurring_->undisturbed_until(cycles(now)).count());
  return now + count > quiet_until_;
}

/// Of a stretch from the mark on that took so many cycles: Round::refresh.
std::int64_t Rounds::refresh_since_mark(std::uint64_t count) const {
  const base::Cycles begin = cycles(marked_at_);
  if (marked_at_ + count <= static_cast<std::uint64_t>(recurring_->undisturbed_until(begin).count())) return kNoRefresh;
  return recurring_->until_refresh(begin);
}

/// Whether the refreshes are now as they were at the beginning of a stretch of so many cycles.
bool Rounds::is_refreshed_alike(std::int64_t refresh, std::uint64_t count, const memory::Recurring::Stretch& stretch) {
  if (refresh == kNoRefresh) return !refreshes_within(count);
  return refreshes_within(count) && recurring_->until_refresh(cycles(machine_.now())) == refresh &&
         recurring_->is_open_alike(kWeights, stretch.open);
}

/// Of the path that was followed, which led to the outcome: what was taken and asked for. All rounds of an outcome have
/// the same path.
bool Rounds::note_path(Outcome& outcome, const Paths::Path& path) {
  for (const Leg* leg : path.legs)
    if (leg->port != kWeights) return false;
  if (outcome.items != nullptr || outcome.asked != nullptr) return true;
  const auto each_leg = [&path](const auto& visit) {
    for (const Leg* leg : path.legs) visit(*leg);
    visit(*path.last);
  };
  items_.clear();
  for (unsigned i = 0; i < outcome.num_taken; ++i)
    each_leg([&](const Leg& leg) {
      const Item* item = leg.items;
      for (unsigned t = 0; t < leg.num_taken; ++t) {
        if (leg.taken[t].feed == outcome.taken[i].feed) items_.insert(items_.end(), item, item + leg.taken[t].count);
        item += leg.taken[t].count;
      }
    });
  asked_.clear();
  for (const Leg* leg : path.legs) asked_.push_back({leg->offset, leg->item, leg->count, feed_of(leg->port)});
  outcome.num_items = static_cast<std::uint16_t>(items_.size());
  outcome.items = states_.arena().copy(items_);
  outcome.num_asked = static_cast<std::uint8_t>(asked_.size());
  outcome.asked = states_.arena().copy(asked_);
  return true;
}

/// What happened since the mark.
std::optional<memory::Recurring::Stretch> Rounds::keep_stretch(std::int64_t refresh) {
  stretch_.clear();
  auto stretch = recurring_->stretch(stretch_);
  if (!stretch) return std::nullopt;
  stretch->what = {memo_.arena().copy(stretch_.data(), stretch_.size()), stretch_.size()};
  if (refresh == kNoRefresh) return stretch;
  stretch_.clear();
  recurring_->export_open(stretch_);
  stretch->open = {memo_.arena().copy(stretch_.data(), stretch_.size()), stretch_.size()};
  return stretch;
}

void Rounds::add_skip(Place& place, std::uint64_t count, Place* next) {
  if (place.num_skips >= kMostRefreshed) return;
  const std::int64_t refresh = refresh_since_mark(count);
  const auto stretch = keep_stretch(refresh);
  if (!stretch) return;
  Skip& skip = *memo_.arena().make<Skip>();
  skip.cycles = count;
  skip.next = next;
  skip.stretch = *stretch;
  skip.refresh = refresh;
  place.skips.add(&skip);
  ++place.num_skips;
}

void Rounds::add_round(Place& place, Outcome& outcome, const Paths::Path& path, State& state, Place* next) {
  const std::int64_t refresh = refresh_since_mark(outcome.cycles);
  const bool is_free = refresh == kNoRefresh;
  if (is_free ? place.num_rounds >= kMostRounds : place.num_refreshed >= kMostRefreshed) return;
  if (!note_path(outcome, path)) return;
  patterns_.clear();
  std::uint64_t end = mark_end_;
  for (std::size_t i = 0; i < outcome.num_asked; ++i) {
    const std::uint64_t address = path.addresses[i], bytes = bytes_of(outcome.asked[i]);
    const auto pattern = recurring_->pattern(mark_end_, end, address, bytes, true);
    if (!pattern) return;
    patterns_.push_back(*pattern);
    end = recurring_->end_of(address, bytes);
  }
  const auto stretch = keep_stretch(refresh);
  if (!stretch) return;
  Round& round = *memo_.arena().make<Round>();
  round.outcome = outcome.stock == nullptr ? &outcome : &with_beats(outcome, path.came, &state, states_.arena());
  round.patterns = memo_.arena().copy(patterns_);
  round.stretch = *stretch;
  round.refresh = refresh;
  round.next = next;
  (is_free ? place.rounds : place.refreshed).add(&round);
  ++(is_free ? place.num_rounds : place.num_refreshed);
}

// ---- it happens again ----

const Round* Rounds::go(State& state, Place*& place) {
  if (place->rounds.first == nullptr && place->refreshed.first == nullptr && place->skips.first == nullptr)
    return nullptr;
  if (state.still != 0 && machine_.may_rest()) {
    const Skip* const skip = find_skip(*place);
    if (skip == nullptr) return nullptr;
    machine_.rest(state.activity);
    chain_.clear();
    pass(skip->stretch, recurring_->end(kWeights));
    if (skip->refresh != kNoRefresh) ++machine_.effort().refreshes;
    machine_.pass_rest(skip->cycles - skip->cycles % state.still);
    place = skip->next;
  }
  if (machine_.is_at_limit()) return nullptr;
  const std::uint64_t most = machine_.undisturbed();
  if (Round* const chain = place->chain; chain != nullptr && may_go(*chain, most)) {
    chain_.clear();
    machine_.effort().linked += chain->outcome->cycles;
    ++state.passed;
    return pass(*chain);
  }
  if (Round* const round = find_round(place->rounds, most)) {
    ++state.passed;
    begin_chain(*place);
    return go_on(*round);
  }
  chain_.clear();
  Round* const round = refreshes_within(kMostStepped) ? find_round(place->refreshed, most) : nullptr;
  return round != nullptr ? pass(*round) : nullptr;
}

const Skip* Rounds::find_skip(Place& place) {
  const std::uint64_t most = machine_.undisturbed() == 0 ? 0 : machine_.most_skipped();
  Skip* before = nullptr;
  for (Skip* skip = place.skips.first; skip != nullptr; before = skip, skip = skip->beside) {
    if (skip->cycles > most || !is_refreshed_alike(skip->refresh, skip->cycles, skip->stretch)) continue;
    place.skips.to_front(skip, before);
    return skip;
  }
  return nullptr;
}

Round* Rounds::find_round(Found<Round>& rounds, std::uint64_t most) {
  Round* before = nullptr;
  for (Round* round = rounds.first; round != nullptr; before = round, round = round->beside) {
    if (!may_go(*round, most)) continue;
    rounds.to_front(round, before);
    return round;
  }
  return nullptr;
}

bool Rounds::may_go(const Round& round, std::uint64_t most) {
  const std::uint64_t count = round.outcome->cycles;
  return count <= most && is_refreshed_alike(round.refresh, count, round.stretch) && fits(round);
}

bool Rounds::fits(const Round& round) {
  const Outcome& outcome = *round.outcome;
  if (!machine_.are_next(outcome.taken, outcome.num_taken, outcome.items) || !machine_.ends_alike(outcome))
    return false;
  const std::uint64_t origin = recurring_->end(kWeights);
  round_end_ = origin;
  if (origin < plain_from_ || (origin >= plain_until_ && origin != plain_from_)) {
    plain_from_ = origin;
    plain_until_ = recurring_->plain_until(kWeights);
  }
  for (std::size_t i = 0; i < outcome.num_asked; ++i) {
    const Asked& asked = outcome.asked[i];
    const std::uint64_t item = feeds_.taken(asked.feed) + static_cast<std::uint64_t>(asked.item);
    const std::uint64_t address = feeds_.origin_of(asked.feed, item) + static_cast<std::uint64_t>(asked.offset);
    const std::uint64_t bytes = bytes_of(asked);
    if (address == round_end_ && address >= plain_from_ && address + bytes <= plain_until_) {
      if (eager_) check_plain(origin, address, bytes);
      if (!memory::Recurring::Pattern().equals(round.patterns[i], round.stretch)) return false;
    } else {
      const auto pattern = recurring_->pattern(origin, round_end_, address, bytes, false);
      if (!pattern || !pattern->equals(round.patterns[i], round.stretch)) return false;
    }
    round_end_ = recurring_->end_of(address, bytes);
  }
  return true;
}

/// What is taken for reading straight on is that.
void Rounds::check_plain(std::uint64_t origin, std::uint64_t address, std::uint64_t bytes) {
  const auto pattern = recurring_->pattern(origin, round_end_, address, bytes, false);
  if (!pattern || !pattern->equals(memory::Recurring::Pattern(), {{}, true, true, {}}))
    throw std::logic_error("fast: reading that does not go straight on was taken for such");
}

void Rounds::pass(const memory::Recurring::Stretch& stretch, std::uint64_t end) {
  same_rows_ = !recurring_->pass(kWeights, stretch, end, cycles(machine_.now()));
  if (!same_rows_) plain_from_ = kNever;
  away_ = true;
}

const Round* Rounds::pass(const Round& round) {
  pass(round.stretch, round_end_);
  machine_.effort().unasked += round.outcome->cycles;
  if (round.refresh != kNoRefresh) ++machine_.effort().refreshes;
  machine_.pass(*round.outcome);
  return &round;
}

void Rounds::land(const Place* place) {
  chain_.clear();
  if (!away_) return;
  recurring_->import_moment(kWeights, cycles(machine_.now()), place->moment());
  machine_.memory().set_moment(recurring_->owed(kWeights), machine_.now());
  away_ = false;
}

// ---- several rounds as one ----

/// Where the same place is passed again and again, the rounds from it on are put together.
void Rounds::begin_chain(Place& place) {
  const std::uint16_t often = eager_ ? 2 : 16;
  if (!chain_.empty() || place.chain != nullptr || ++place.passes < often) return;
  place.passes = 0;
  mark();
  chain_from_ = &place;
  chain_begins_ = true;
}

const Round* Rounds::go_on(const Round& round) {
  const bool links = (chain_begins_ || !chain_.empty()) && may_link(round);
  chain_begins_ = false;
  if (!links) {
    chain_.clear();
    return pass(round);
  }
  chain_.push_back(&round);
  pass(round);
  if (!same_rows_)
    chain_.clear();
  else if (chain_.size() == (eager_ ? kFewLinks : kLinks))
    end_chain();
  return &round;
}

/// The rounds of the chain as one, with an outcome of its own.
void Rounds::end_chain() {
  const auto stretch = keep_stretch(kNoRefresh);
  if (stretch) chain_from_->chain = put_together(chain_, *stretch, states_.arena(), memo_.arena());
  chain_.clear();
}

}  // namespace moesaic::fast
