#include "models/memory/dram_memory.h"

#include <algorithm>
#include <stdexcept>

#include "base/error.h"

namespace moesaic::memory {

namespace {

unsigned log2_of(std::int64_t power) {
  return static_cast<unsigned>(__builtin_ctzll(static_cast<std::uint64_t>(power)));
}

std::string hex(std::uint64_t value) {
  std::string digits;
  for (; value != 0 || digits.empty(); value >>= 4) digits.insert(digits.begin(), "0123456789abcdef"[value & 15]);
  return "0x" + digits;
}

}  // namespace

DramMemory::DramMemory(const DramConfig& config, base::Femtoseconds period) : config_(config), period_(period.count()) {
  if (const auto fault = first_fault(config_)) {
    const DramFault::Key& key = fault->keys.front();
    throw std::logic_error("DRAM: " + key.key + ": got " + key.got + ", expected " + key.expected);
  }
  if (period_ < 1) throw std::logic_error("DRAM: the core's clock period must be at least 1 fs");
  by_clock_ = Divider(config_.clock_period_fs);
  by_period_ = Divider(period_);
  capacity_ = static_cast<std::uint64_t>(config_.capacity().count());
  read_clocks_ = config_.timing.cl + config_.burst_clocks();
  burst_shift_ = log2_of(config_.burst_bytes());
  unsigned shift = 0;
  bool in_stripe = true;  // so far up from the least field
  for (std::size_t i = kNumAddressFields; i-- > 0;) {
    const auto field = static_cast<std::size_t>(config_.mapping[i]);
    const std::array<std::int64_t, kNumAddressFields> sizes{config_.rows, config_.banks, config_.bank_groups,
                                                            config_.columns(), config_.channels};
    shift_[field] = shift;
    mask_[field] = static_cast<std::uint64_t>(sizes[field] - 1);
    shift += log2_of(sizes[field]);
    if (sizes[field] == 1) continue;
    // The channels in turn, then the groups, or the groups alone.
    const bool of_stripe = config_.mapping[i] == AddressField::kBankGroup ||
                           (config_.mapping[i] == AddressField::kChannel && stripe_shift_ == 0);
    in_stripe = in_stripe && of_stripe;
    if (!in_stripe) continue;
    if (config_.mapping[i] == AddressField::kChannel) in_turn_ = static_cast<std::uint64_t>(sizes[field]);
    stripe_shift_ = shift;
  }
  const auto at = [this](AddressField which) { return shift_[static_cast<std::size_t>(which)]; };
  full_burst_ = ~std::uint64_t{0} >> (64 - config_.burst_bytes());
  row_shift_ = std::min(at(AddressField::kRow), at(AddressField::kBank));
  recurs_ = row_shift_ == shift - log2_of(config_.rows) - log2_of(config_.banks);
  turns_ = at(AddressField::kChannel) == 0 &&
           (config_.bank_groups == 1 || at(AddressField::kBankGroup) == log2_of(config_.channels));
  place_bits_ = (turns_ ? stripe_shift_ : row_shift_) + burst_shift_ + 2 * log2_of(config_.banks) + 1;
  reset();
}

void DramMemory::reset() {
  channels_.clear();
  const std::size_t refreshes =
      std::max(History::kFewest, History::kMostRefreshes / static_cast<std::size_t>(config_.channels));
  for (unsigned i = 0; i < config_.channels; ++i) channels_.emplace_back(config_, i, refreshes);
  for (auto& both : ports_)
    for (Port& port : both) {
      port = Port{};
      port.credits.resize(channels_.size());
    }
  outcomes_.clear();
  held_.clear();
  now_ = 0;
  horizon_ = to_dram(0);
  seen_ = -1;
  wakes_.assign(channels_.size(), DramChannel::kNever);
  wake_ = DramChannel::kNever;
  ports_used_ = 0;
  busy_ = 0;
  read_bytes_ = written_bytes_ = read_beats_ = written_beats_ = 0;
  open_blocks_ = {};
  row_commands_ = 0;
  mark_ = Mark{};
  away_ = false;
  if (sink_) trace(sink_);
}

void DramMemory::trace(std::function<void(const DramCommand&)> sink) {
  sink_ = std::move(sink);
  for (DramChannel& channel : channels_) channel.trace(sink_);
}

void DramMemory::refuse_port(unsigned port) {
  throw std::logic_error("DRAM: got port " + std::to_string(port) + ", expected one of 0.." +
                         std::to_string(kMaxPorts - 1));
}

void DramMemory::refuse(const Request& request) const {
  if (request.bytes.count() < 1) throw std::logic_error("DRAM: a beat of no bytes");
  throw base::CheckError("memory: got an access at " + hex(request.address) + ", expected one below the capacity of " +
                         std::to_string(capacity_) + " bytes");
}

void DramMemory::enter(std::int64_t now) {
  if (now < now_) throw std::logic_error("DRAM: asked about a cycle before the last one");
  now_ = now;
  horizon_ = to_dram(now);
  seen_ = now < kSynchroniserCycles ? -1 : by_clock_.floor((now - kSynchroniserCycles) * period_);
}

void DramMemory::settle() {
  wake_ = DramChannel::kNever;
  unsigned readers = 0;  // ports whose reads moved on, a bit each
  const std::size_t channels = channels_.size();
  for (std::size_t index = 0; index < channels; ++index) {
    if (wakes_[index] < horizon_) {
      DramChannel& channel = channels_[index];
      channel.run(horizon_, outcomes_);
      wakes_[index] = channel.next_event();
      for (const DramOutcome& outcome : outcomes_) {
        Port& port = ports_[outcome.port][outcome.is_write ? 1 : 0];
        Return& free = port.credits[index].returns.append();
        free.clock = outcome.released;
        free.clocks = outcome.clocks;
        free.count = outcome.count;
        if (outcome.is_write) continue;
        auto number = static_cast<std::size_t>(outcome.number - port.next_done);
        std::int64_t done = outcome.released + read_clocks_;
        for (std::int32_t left = outcome.count; left > 0; --left) {
          port.reads[number].done = done;
          number += static_cast<std::size_t>(outcome.numbers);
          done += outcome.clocks;
        }
        if (outcome.held_until != 0) note_held(outcome);
        readers |= 1U << outcome.port;
      }
      outcomes_.clear();
    }
    wake_ = std::min(wake_, wakes_[index]);
  }
  for (; readers != 0; readers &= readers - 1) resolve(ports_[static_cast<std::size_t>(__builtin_ctz(readers))][0]);
}

/// Beats are there in the port's order: one is when it has arrived and all accesses up to its last are done.
void DramMemory::resolve(Port& port) {
  std::size_t over = 0;
  for (const std::size_t size = port.reads.size(); over < size; ++over) {
    const Read& read = port.reads[over];
    if (read.done == kUnknown) break;
    HeldAccess held;
    if (!port.held.empty() && port.held.front().number == port.next_done + static_cast<std::int64_t>(over)) {
      held = port.held.front();
      port.held.erase(port.held.begin());
    }
    if (read.done > port.latest) {
      port.latest = read.done;
      port.latest_held = held;
    }
    if (read.beats > 0) {
      if (read.arrival > port.latest) {
        port.latest = read.arrival;
        port.latest_held = {};
      }
      if (port.latest != port.shown) {
        const std::int64_t before = port.shown_at;
        port.shown = port.latest;
        port.shown_at = to_core(port.latest);
        if (port.latest_held.until != 0) report_held(port, before);
      }
      port.add_finished(port.shown_at, read.beats);
    }
  }
  port.reads.pop_front(over);
  port.next_done += static_cast<std::int64_t>(over);
}

void DramMemory::note_held(const DramOutcome& outcome) {
  std::vector<HeldAccess>& held = ports_[outcome.port][0].held;
  auto place = held.end();  // row hits overtake, so that numbers hardly ever descend
  while (place != held.begin() && (place - 1)->number > outcome.number) --place;
  held.insert(place, {outcome.number, outcome.held_from, outcome.held_until, outcome.port});
}

/// The beat that is there at `shown_at` would have been read in the held clocks; the one before it was there at
/// `shown_before`.
void DramMemory::report_held(const Port& port, std::int64_t shown_before) {
  const std::int64_t begin = std::max(shown_before, to_core(port.latest_held.from + read_clocks_));
  const std::int64_t end = std::min(port.shown_at, to_core(port.latest_held.until + read_clocks_));
  if (begin >= end) return;
  held_.push_back({port.latest_held.port, Cycles(begin), Cycles(end)});
  if (!mark_.stands) return;
  constexpr std::size_t kMostHeld = 16;  // of a stretch
  mark_.held.push_back(held_.back());
  mark_.stands = mark_.held.size() <= kMostHeld;
}

Cycles DramMemory::take_held(std::vector<Held>& held) {
  if (!away_ && wake_ < horizon_) settle();  // writes were taken without that
  held.insert(held.end(), held_.begin(), held_.end());
  held_.clear();
  return Cycles(held_known_until());
}

/// A beat that waits is held up when the one before it is there at the earliest, one that is to come after now.
std::int64_t DramMemory::held_known_until() const {
  if (away_) return away_held_;
  std::int64_t from = now_;
  for (unsigned number = 0; number < ports_used_; ++number) {
    const Port& port = ports_[number][0];
    if (!port.reads.empty()) from = std::min(from, port.shown_at);
  }
  return from;
}

/// Counts the places that the core has seen become free; whether no more than `most` are then taken.
bool DramMemory::has_at_most(Credits& credits, std::int64_t most) const {
  while (!credits.returns.empty() && credits.returns.front().clock <= seen_) {
    Return& free = credits.returns.front();
    do {
      --credits.used;
      free.clock += free.clocks;
    } while (--free.count > 0 && free.clock <= seen_);
    if (free.count == 0) credits.returns.pop_front();
  }
  return credits.used <= most;
}

/// For each burst a place in its channel.
bool DramMemory::has_places(Port& port, bool is_write, std::uint64_t first, std::uint64_t last) {
  for (std::uint64_t burst = first; burst <= last; ++burst) {
    const unsigned channel = channel_of(burst);
    std::int64_t needed = 1;
    for (std::uint64_t before = first; before < burst; ++before) needed += channel_of(before) == channel ? 1 : 0;
    if (needed > std::min(config_.read_queue, config_.write_queue))
      throw std::logic_error("DRAM: a beat of more bursts than a queue holds");
    if (!has_place(port, is_write, channel, needed)) return false;
  }
  return true;
}

bool DramMemory::submit(const Request& request, Cycles now) {
  Port& port = port_of(request.port, request.is_write);
  const auto bytes = static_cast<std::uint64_t>(request.bytes.count());
  if (bytes == 0 || bytes > capacity_ || request.address > capacity_ - bytes) refuse(request);
  // A write that has a place as it is asks for nothing else.
  if (now.count() != now_) enter(now.count());
  if (!request.is_write && wake_ < horizon_) settle();

  const std::uint64_t first = request.address >> burst_shift_, last = (request.address + bytes - 1) >> burst_shift_;
  const bool joins = port.has_last && port.last_burst == first;
  // A read that joins needs no place; a write that joins gives it back on arrival.
  const std::uint64_t first_new = joins && !request.is_write ? first + 1 : first;
  busy_ |= 1U << (2 * request.port + (request.is_write ? 1 : 0));
  const auto has_all = [&] {
    return first_new == last ? has_place(port, request.is_write, channel_of(last), 1)
                             : has_places(port, request.is_write, first_new, last);
  };
  if (!has_all()) {
    if (wake_ >= horizon_) return false;
    settle();
    if (!has_all()) return false;
  }
  accept(port, request, {first, first_new, last});
  return true;
}

std::int64_t DramMemory::submit_row(const Request& first, std::int64_t count, Cycles now) {
  Port& port = port_of(first.port, first.is_write);
  const auto bytes = static_cast<std::uint64_t>(first.bytes.count());
  const std::uint64_t all = bytes * static_cast<std::uint64_t>(count);
  // Reads of which each lies in one burst; all others, and what is to be refused, one by one.
  if (first.is_write || bytes == 0 || (bytes & (bytes - 1)) != 0 || (first.address & (bytes - 1)) != 0 ||
      bytes > std::uint64_t{1} << burst_shift_ || all > capacity_ || first.address > capacity_ - all)
    return MemoryModel::submit_row(first, count, now);
  advance(now.count());
  busy_ |= 1U << (2 * first.port);
  const unsigned beat_shift = log2_of(first.bytes.count());
  const std::uint64_t last = (first.address + all - 1) >> burst_shift_;
  std::uint64_t address = first.address;
  std::int64_t taken = 0;
  while (taken < count) {
    const std::uint64_t burst = address >> burst_shift_, end = (burst + 1) << burst_shift_;
    const std::int64_t beats = std::min(count - taken, static_cast<std::int64_t>((end - address) >> beat_shift));
    if (port.has_last && port.last_burst == burst) {
      join_read(port, beats);
    } else {
      const std::uint64_t stripe = ((burst >> stripe_shift_) + 1) << stripe_shift_;
      const std::uint64_t bursts = std::min(stripe, last + 1) - burst;
      const std::int64_t most = std::int64_t{1} << (burst_shift_ - beat_shift);
      if (bursts > 1 && add_reads(port, first.port, burst, bursts, most)) {
        // Of the first burst the row may have the end only, of the last one the beginning.
        const std::int64_t rest = count - taken;
        const std::int64_t whole = std::min(rest, beats + static_cast<std::int64_t>(bursts - 1) * most);
        const std::size_t begin = port.reads.size() - bursts;
        port.reads[begin].beats = beats;
        port.reads.back().beats -= beats + static_cast<std::int64_t>(bursts - 1) * most - whole;
        port.last_burst = burst + bursts - 1;
        port.has_last = true;
        taken += whole;
        address = (burst + bursts) << burst_shift_;
        continue;
      }
      const Place place = place_of(burst);
      if (!has_place(port, false, place.channel, 1)) break;
      add_read(port, first.port, place, beats);
      port.last_burst = burst;
      port.has_last = true;
    }
    taken += beats;
    address = end;
  }
  if (taken > 0) ports_used_ = std::max(ports_used_, first.port + 1);
  read_beats_ += static_cast<std::uint64_t>(taken);
  read_bytes_ += static_cast<std::uint64_t>(taken) * bytes;
  return taken;
}

void DramMemory::accept(Port& port, const Request& request, const Bursts& bursts) {
  const auto [first, first_new, last] = bursts;
  const bool joins = port.has_last && port.last_burst == first;
  for (std::uint64_t burst = first_new; burst <= last; ++burst)
    add_burst(port, request, burst, joins && burst == first);
  port.has_last = true;
  ports_used_ = std::max(ports_used_, request.port + 1);
  port.last_burst = last;
  if (request.is_write) {
    for (unsigned number = 0; number < ports_used_; ++number) {
      Port& reader = ports_[number][0];
      if (reader.last_burst >= first && reader.last_burst <= last) reader.has_last = false;
    }
    if (!request.posted) port.add_finished(to_core(horizon_), 1);
    ++written_beats_;
    written_bytes_ += static_cast<std::uint64_t>(request.bytes.count());
  } else {
    if (first_new > last)
      join_read(port, 1);
    else
      port.reads.back().beats = 1;
    ++read_beats_;
    read_bytes_ += static_cast<std::uint64_t>(request.bytes.count());
  }
}

/// A beat or several in the burst that the port read last.
void DramMemory::join_read(Port& port, std::int64_t beats) {
  if (!port.reads.empty() && port.reads.back().arrival == horizon_) {
    port.reads.back().beats += beats;
    return;
  }
  port.reads.push_back({kThere, horizon_, beats});
  ++port.next_number;
  if (port.reads.size() == 1) resolve(port);
}

void DramMemory::add_burst(Port& port, const Request& request, std::uint64_t burst, bool may_join) {
  const Place place = place_of(burst);
  if (!request.is_write) {
    add_read(port, request.port, place, 0);
    return;
  }
  const std::uint64_t begin = burst << burst_shift_, size = std::uint64_t{1} << burst_shift_;
  const std::uint64_t from = std::max(request.address, begin) - begin;
  const std::uint64_t to =
      std::min(request.address + static_cast<std::uint64_t>(request.bytes.count()), begin + size) - begin;
  DramAccess& access = announce(port, request.port, place);
  access.bytes = (~std::uint64_t{0} >> (64 - (to - from))) << from;
  access.is_write = true;
  access.may_join = may_join;
  arrive(place.channel);
}

void DramMemory::add_read(Port& port, unsigned number, const Place& place, std::int64_t beats) {
  Read& read = port.reads.append();
  read.done = kUnknown;
  read.arrival = horizon_;
  read.beats = beats;
  announce(port, number, place);
  arrive(place.channel);
}

/// Reads of `count` bursts within a stripe, each for `beats`, if there is a place for each.
bool DramMemory::add_reads(Port& port, unsigned number, std::uint64_t burst, std::uint64_t count, std::int64_t beats) {
  const std::uint64_t channels = std::min(in_turn_, count);
  for (std::uint64_t i = 0; i < channels; ++i) {
    Credits& credits = port.credits[channel_of(burst + i)];
    const std::int64_t most = config_.read_queue - static_cast<std::int64_t>((count - i + in_turn_ - 1) / in_turn_);
    if (credits.used > most && !has_at_most(credits, most)) return false;
  }
  for (std::uint64_t i = 0; i < channels; ++i) {
    const Place place = place_of(burst + i);
    DramAccess& access = announce(port, number, place);
    access.count = static_cast<std::int32_t>((count - i + in_turn_ - 1) / in_turn_);
    access.numbers = static_cast<std::int32_t>(in_turn_);
    access.banks = static_cast<std::uint8_t>(config_.banks);
    port.credits[place.channel].used += access.count - 1;
    arrive(place.channel);
  }
  port.next_number += static_cast<std::int64_t>(count - channels);
  for (std::uint64_t i = 0; i < count; ++i) {
    Read& read = port.reads.append();
    read.done = kUnknown;
    read.arrival = horizon_;
    read.beats = beats;
  }
  return true;
}

/// An access of one burst, a read.
DramAccess& DramMemory::announce(Port& port, unsigned number, const Place& place) {
  port.refused &= ~(std::uint64_t{1} << place.channel);
  ++port.credits[place.channel].used;
  DramAccess& access = channels_[place.channel].announce();
  access.arrival = horizon_;
  access.row = place.row;
  access.bytes = 0;
  access.number = port.next_number++;
  access.column = place.column;
  access.count = 1;
  access.numbers = 0;
  access.banks = 0;
  access.flat_bank = place.flat_bank;
  access.port = static_cast<std::uint8_t>(number);
  access.is_write = false;
  access.may_join = false;
  return access;
}

void DramMemory::arrive(unsigned channel) {
  const std::int64_t outcome = channels_[channel].arrive();
  wakes_[channel] = std::min(wakes_[channel], outcome);
  wake_ = std::min(wake_, outcome);
}

std::int64_t DramMemory::finished(unsigned number, bool is_write, Cycles now) {
  if (!is_write) advance(now.count());  // when a write is over is known when it is taken
  return port_of(number, is_write).ripen(now.count());
}

void DramMemory::take(unsigned number, bool is_write) {
  Port& port = port_of(number, is_write);
  if (port.ripen(now_) == 0) throw std::logic_error("DRAM: took a beat that is not finished");
  port.take(1);
}

std::optional<Cycles> DramMemory::next_change(Cycles now) {
  advance(now.count());
  std::int64_t next = DramChannel::kNever;
  for (std::uint32_t left = busy_; left != 0; left &= left - 1) {
    const auto which = static_cast<std::size_t>(__builtin_ctz(left));
    Port& port = ports_[which / 2][which % 2];
    port.ripen(now_);
    if (port.ripe < port.finish.size()) {
      next = std::min(next, port.finish[port.ripe].cycle);
    } else if (!port.reads.empty()) {
      // An RD that is still to come, at the next event of any channel at the earliest.
      next = std::min(next, to_core(wake_ + read_clocks_));
    } else if (port.refused == 0) {
      busy_ &= ~(1U << which);
    }
    for (std::uint64_t channels = port.refused; channels != 0; channels &= channels - 1) {
      const Credits& credits = port.credits[static_cast<std::size_t>(__builtin_ctzll(channels))];
      next = std::min(next, to_core(credits.returns.empty() ? wake_ : credits.returns.front().clock));
    }
  }
  if (next == DramChannel::kNever) return std::nullopt;
  return Cycles(std::max(next, now_ + 1));
}

void DramMemory::list_answers(unsigned number, std::vector<Cycles>& answers) const {
  if (number >= kMaxPorts) refuse_port(number);
  const Ring<Finish>& finish = ports_[number][1].finish;
  for (std::size_t i = 0; i < finish.size(); ++i)
    for (std::int64_t beat = 0; beat < finish[i].beats; ++beat) answers.push_back(Cycles(finish[i].cycle));
}

std::optional<MemoryModel::Coming> DramMemory::coming(unsigned number, bool is_write, Cycles now) {
  const Port& port = port_of(number, is_write);
  if (!port.finish.empty()) return Coming{Cycles(port.finish.front().cycle), true};
  if (is_write) return std::nullopt;
  advance(now.count());
  if (!port.finish.empty()) return Coming{Cycles(port.finish.front().cycle), true};
  if (port.reads.empty()) return std::nullopt;
  // An RD that is still to come, at the next event of any channel at the earliest.
  return Coming{Cycles(std::max(to_core(wake_ + read_clocks_), now_ + 1)), false};
}

std::size_t DramMemory::take_as(unsigned number, bool is_write, Cycles origin, std::uint32_t first,
                                const std::uint16_t* cycles, std::size_t count) {
  Port& port = port_of(number, is_write);
  std::int64_t least = origin.count() + first;
  std::size_t taken = 0;
  while (taken < count && !port.finish.empty()) {
    const auto most = std::min(count - taken, static_cast<std::size_t>(port.finish.front().beats));
    std::int64_t next = std::max(port.finish.front().cycle, least) - origin.count();
    std::size_t here = 0;
    for (; here < most && cycles[taken + here] == next; ++here) ++next;
    if (here == 0) break;
    least = origin.count() + next;
    taken += here;
    port.take(static_cast<std::int64_t>(here));
    if (here < most) break;
  }
  return taken;
}

void DramMemory::settle_all(std::int64_t now) {
  advance(now);
  std::fill(wakes_.begin(), wakes_.end(), 0);
  settle();
}

void DramMemory::add_history(Cycles now, History& history) {
  settle_all(now.count());
  const auto clock_fs = static_cast<std::uint64_t>(config_.clock_period_fs);
  const auto counts = [this](const DramCounts& c) {
    const auto burst = static_cast<std::uint64_t>(config_.burst_bytes());
    return History::Counts{c.reads * burst, c.writes * burst, c.activates, c.row_hits, c.row_misses, c.row_conflicts};
  };
  history.channels.resize(channels_.size());
  for (std::size_t i = 0; i < channels_.size(); ++i) {
    const DramChannel& channel = channels_[i];
    History::Channel& kept = history.channels[i];
    if (kept.every != channel.every()) kept.refreshes.clear();
    kept.every = channel.every();
    for (std::size_t r = kept.refreshes.size(); r < channel.refreshes().size(); ++r) {
      const DramRefresh& refresh = channel.refreshes()[r];
      kept.refreshes.push_back({static_cast<std::uint64_t>(refresh.due) * clock_fs,
                                static_cast<std::uint64_t>(refresh.open) * clock_fs, counts(refresh.counts)});
    }
    kept.all = counts(channel.counts());
  }
}

std::vector<Counter> DramMemory::counters(Cycles now) {
  settle_all(now.count());
  DramCounts sum;
  std::uint64_t queued = 0;
  for (const DramChannel& channel : channels_) {
    const DramCounts& c = channel.counts();
    sum.activates += c.activates;
    sum.precharges += c.precharges;
    sum.precharge_alls += c.precharge_alls;
    sum.reads += c.reads;
    sum.writes += c.writes;
    sum.masked_writes += c.masked_writes;
    sum.refreshes += c.refreshes;
    sum.row_hits += c.row_hits;
    sum.row_misses += c.row_misses;
    sum.row_conflicts += c.row_conflicts;
    sum.joined_writes += c.joined_writes;
    sum.refresh_clocks += c.refresh_clocks;
    queued += channel.queued_writes();
  }
  const auto burst = static_cast<std::uint64_t>(config_.burst_bytes());
  return {{"activates", sum.activates},
          {"precharges", sum.precharges},
          {"precharge_alls", sum.precharge_alls},
          {"reads", sum.reads},
          {"writes", sum.writes},
          {"masked_writes", sum.masked_writes},
          {"refreshes", sum.refreshes},
          {"row_hits", sum.row_hits},
          {"row_misses", sum.row_misses},
          {"row_conflicts", sum.row_conflicts},
          {"refresh_clocks", sum.refresh_clocks},
          {"read_beats", read_beats_},
          {"written_beats", written_beats_},
          {"joined_write_beats", sum.joined_writes},
          {"queued_writes", queued},
          {"port_bytes_read", read_bytes_},
          {"port_bytes_written", written_bytes_},
          {"bus_bytes_read", sum.reads * burst},
          {"bus_bytes_written", sum.writes * burst}};
}

Cycles DramMemory::longest_wait() const {
  const DramTiming& t = config_.timing;
  const std::int64_t access = t.rc + t.ras + t.rp + std::max(t.rcd, t.rcd_wr) + t.rtw + t.cl + t.cwl +
                              config_.burst_clocks() + t.wr + t.wtr_l + t.rtp + std::max(t.ccd_l, t.ccd_l_mwr) +
                              t.rrd_l + t.faw + t.cmd;
  const std::int64_t clocks =
      2 * (4 * (config_.read_queue + config_.write_queue) * access + t.rfc + config_.longest_close());
  return Cycles(to_core(clocks) + kSynchroniserCycles);
}

}  // namespace moesaic::memory
