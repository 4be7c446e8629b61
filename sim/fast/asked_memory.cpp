#include "sim/fast/asked_memory.h"

#include <algorithm>
#include <stdexcept>

namespace moesaic::fast {

unsigned AskedMemory::submit_reads(unsigned port, std::uint64_t address, unsigned count, std::uint64_t now) {
  auto taken = static_cast<unsigned>(std::min<std::uint64_t>(submits_known_, count));
  submits_known_ -= taken;
  if (taken < count) {
    const std::int64_t more =
        model_->submit_row(beat(port, false, address + taken * beat_bytes_), count - taken, cycles(now));
    taken += static_cast<unsigned>(more);
    owed_[port] += static_cast<std::uint64_t>(more);
    quiet_until_[port] = 0;
  }
  if (recorder_ == nullptr) return taken;
  if (taken > 0) recorder_->asked_row(port, address, taken, now);
  if (taken < count) recorder_->asked(port, address + taken * beat_bytes_, false, now);
  return taken;
}

/// Whether the memory has the port's next beat at `now`; where not, a cycle is noted before which it has not.
bool AskedMemory::is_there(unsigned port, bool is_write, std::uint64_t now) {
  if (!settles_) return model_->finished(port, is_write, cycles(now)) > 0;
  const auto coming = model_->coming(port, is_write, cycles(now));
  const std::uint64_t at = coming ? cycle_of(coming->cycle) : kNever;
  there_at_[port] = now;
  if (coming && coming->known && at <= now) return true;
  quiet_until_[port] = at;
  return false;
}

void AskedMemory::begin(std::uint64_t now) {
  begin_ = now;
  came_.clear();
  came_ports_.clear();
  came_at_ = 0;
  ask_from_ = now;
  for (unsigned p = 0; p < kNumPorts; ++p) {
    if (looked_)
      coming_[p].cycle = std::max(coming_[p].cycle, now);
    else
      look(p, now, now);
  }
  looked_ = true;
}

bool AskedMemory::came_as(const Leg& leg, std::size_t from) const {
  const auto first = static_cast<std::ptrdiff_t>(from);
  return std::equal(came_.begin() + first, came_.end(), leg.beats) &&
         std::equal(came_ports_.begin() + first, came_ports_.end(), leg.ports);
}

bool AskedMemory::came_all_as(const Leg& leg, std::size_t from) const {
  const std::size_t end = from + leg.num_beats;
  if (end > came_.size() || (end != came_.size() && came_[end] <= leg.until)) return false;
  const auto first = static_cast<std::ptrdiff_t>(from);
  return std::equal(leg.beats, leg.beats + leg.num_beats, came_.begin() + first) &&
         std::equal(leg.ports, leg.ports + leg.num_beats, came_ports_.begin() + first);
}

bool AskedMemory::come(const Leg& leg, std::size_t done) {
  const std::uint64_t until = begin_ + leg.until;
  for (;;) {
    const bool more = done < leg.num_beats;
    const std::uint64_t expected = more ? begin_ + leg.beats[done] : until + 1;
    unsigned port = 0;
    for (;;) {
      port = next_port();
      if (coming_[port].known || coming_[port].cycle > expected || coming_[port].cycle > until) break;
      look(port, coming_[port].cycle, coming_[port].cycle);  // a cycle before which nothing comes
    }
    const std::uint64_t next = coming_[port].cycle;
    if (!more && next > until) {
      ask_from_ = until + 1;
      return true;
    }
    if (!more || next != expected || port != leg.ports[done]) {
      ask_from_ = std::max(ask_from_, std::min(next, expected));
      return false;
    }
    take_row(leg, done);
  }
}

/// Takes the leg's next beat, which is there, and those after it on the same port that are known to come as on the leg
/// before any on another port does.
void AskedMemory::take_row(const Leg& leg, std::size_t& done) {
  const unsigned port = leg.ports[done];
  std::uint64_t limit = kNever;
  for (unsigned p = 0; p < kNumPorts; ++p)
    if (p != port) limit = std::min(limit, coming_[p].cycle);
  const LegCycle* const beats = leg.beats;
  const std::size_t all = leg.num_beats;
  std::size_t end = leg.of_one_port && begin_ + beats[all - 1] < limit ? all : done + 1;
  while (end < all && leg.ports[end] == port && begin_ + beats[end] < limit) ++end;
  const std::size_t taken =
      model_->take_as(port, port == kWrites, cycles(begin_), beats[done], beats + done, end - done);
  if (taken == 0) throw std::logic_error("fast: a beat that was known to come did not");
  owed_[port] -= taken;
  came_.insert(came_.end(), beats + done, beats + done + taken);
  came_ports_.insert(came_ports_.end(), leg.ports + done, leg.ports + done + taken);
  done += taken;
  const std::uint64_t last = begin_ + beats[done - 1];
  look(port, last, last + 1);
}

bool AskedMemory::come_stocked(const Leg& leg, std::uint32_t& in_store) {
  const std::uint64_t until = begin_ + leg.until;
  for (unsigned i = 0; i < leg.num_left; ++i) {
    if (in_store < 2) {
      const std::uint64_t cycle = begin_ + leg.left[i];
      if (!take_until(cycle, until, in_store)) return false;
      if (in_store < 2) {
        ask_from_ = std::max(ask_from_, cycle + 1);
        return false;
      }
    }
    --in_store;
  }
  if (!take_until(until, until, in_store)) return false;
  ask_from_ = until + 1;
  return true;
}

/// Takes the beats of weights that come up to the cycle, and those that come one a cycle behind them, up to the cycle
/// `end`: while one comes in each cycle the buffer does not get emptier. False: a beat of another port comes.
bool AskedMemory::take_until(std::uint64_t cycle, std::uint64_t end, std::uint32_t& in_store) {
  static constexpr auto kStraight = [] {
    std::array<LegCycle, Stock::kMostCycles + 1> all{};
    for (unsigned i = 0; i < all.size(); ++i) all[i] = static_cast<LegCycle>(i);
    return all;
  }();
  for (;;) {
    const unsigned port = next_port();
    const std::uint64_t next = coming_[port].cycle;
    if (next > cycle) return true;
    if (!coming_[port].known) {
      look(port, next, next);  // a cycle before which nothing comes
      continue;
    }
    if (port != kWeights) {
      ask_from_ = std::max(ask_from_, next);
      return false;
    }
    std::uint64_t last = end;
    for (unsigned p = 0; p < kNumPorts; ++p)
      if (p != kWeights) last = std::min(last, coming_[p].cycle);
    const std::uint64_t first = next - begin_;
    const std::size_t taken = model_->take_as(kWeights, false, cycles(begin_), static_cast<std::uint32_t>(first),
                                              &kStraight[first], static_cast<std::size_t>(last - next + 1));
    if (taken == 0) throw std::logic_error("fast: a beat that was known to come did not");
    owed_[kWeights] -= taken;
    in_store += static_cast<std::uint32_t>(taken);
    came_.insert(came_.end(), &kStraight[first], &kStraight[first] + taken);
    came_ports_.insert(came_ports_.end(), taken, static_cast<std::uint8_t>(kWeights));
    look(kWeights, next + taken - 1, next + taken);
  }
}

Came AskedMemory::sum_up(const Outcome& outcome) const {
  Came came;
  came.beats = static_cast<std::uint16_t>(came_.size());
  came.still = outcome.still;
  came.busy = outcome.stock->count_others(came_);
  if (!came_.empty()) came.still = std::min(came.still, outcome.cycles - came_.back());
  return came;
}

/// When the port's next beat comes, at `first` or later, as the memory knows at `now`.
void AskedMemory::look(unsigned port, std::uint64_t now, std::uint64_t first) {
  if (apart_) now = std::max(now, asked_about_);
  asked_about_ = now;
  if (owed_[port] == 0 || (apart_ && port == kWrites)) {
    coming_[port] = {kNever, false};
    return;
  }
  const auto coming = model_->coming(port, port == kWrites, cycles(now));
  coming_[port].known = coming && coming->known;
  coming_[port].cycle = !coming ? kNever : std::max(first, static_cast<std::uint64_t>(coming->cycle.count()));
}

void AskedMemory::set_apart(bool apart) {
  apart_ = apart;
  looked_ = false;
  answers_.clear();
  if (!apart) return;
  find_answers();
  if (answers_.size() != owed_[kWrites]) throw std::logic_error("fast: answers that are not settled");
}

void AskedMemory::take_answer() {
  constexpr LegCycle kThere = 0;
  if (model_->take_as(kWrites, true, cycles(answered_at_), 0, &kThere, 1) == 0)
    throw std::logic_error("fast: an answer that was known to come did not");
  --owed_[kWrites];
  answers_.erase(answers_.begin());
}

bool AskedMemory::ask(const Leg& leg, std::uint64_t address) {
  const std::uint64_t at = begin_ + leg.until;
  const std::int64_t accepted = model_->submit_row(beat(leg.port, leg.port == kWrites, address), leg.count, cycles(at));
  submits_known_ += static_cast<std::uint64_t>(accepted);
  owed_[leg.port] += static_cast<std::uint64_t>(accepted);
  quiet_until_[leg.port] = 0;
  if (accepted != leg.count) return false;
  for (unsigned p = 0; p < kNumPorts; ++p)
    if (!coming_[p].known) look(p, at, ask_from_);
  return true;
}

std::uint64_t AskedMemory::silence(std::uint64_t now) {
  const bool asked = asked_at_ == now;
  for (unsigned port = 0; asked && port < kNumPorts; ++port)
    if (model_->finished(port, port == kWrites, cycles(now)) > 0) return 0;
  const auto next = model_->next_change(cycles(asked ? now : now - 1));
  if (!next) return kNever;
  const auto cycle = static_cast<std::uint64_t>(next->count());
  return cycle > now ? cycle - now : 0;
}

}  // namespace moesaic::fast
