#include "models/memory/dram_channel.h"

#include <algorithm>

namespace moesaic::memory {

namespace {

bool is_column(DramCommandKind kind) { return kind == DramCommandKind::kRead || kind == DramCommandKind::kWrite; }

void raise(std::int64_t& clock, std::int64_t floor) { clock = std::max(clock, floor); }

}  // namespace

DramChannel::DramChannel(const DramConfig& config, unsigned index)
    : config_(config),
      index_(index),
      burst_(config.burst_clocks()),
      full_mask_(~std::uint64_t{0} >> (64 - config.burst_bytes())),
      banks_(static_cast<std::size_t>(config.banks_per_channel())),
      groups_(static_cast<std::size_t>(config.bank_groups)),
      due_(config.timing.refi) {
  for (std::int64_t bank = 0; bank < config.banks_per_channel(); ++bank)
    group_of_.push_back(static_cast<std::uint8_t>(bank / config.banks));
  std::fill(std::begin(last_acts_), std::end(last_acts_), -config.timing.faw);
}

/// The earliest command; at equal clocks a column command before a row command, then the oldest access.
bool DramChannel::Pick::better_than(const Pick& other) const {
  if (clock != other.clock) return clock < other.clock;
  if (is_column(kind) != is_column(other.kind)) return is_column(kind);
  return age < other.age;
}

std::int32_t DramChannel::first_ready(const List& list) const {
  std::int32_t at = list.first;
  while (entries_[static_cast<std::size_t>(at)].blockers > 0) at = entries_[static_cast<std::size_t>(at)].after;
  return at;
}

std::int32_t DramChannel::first_hit(const Bank& bank, const List& list) const {
  std::int32_t at = list.first;
  for (;; at = entries_[static_cast<std::size_t>(at)].after) {
    const Entry& entry = entries_[static_cast<std::size_t>(at)];
    if (entry.blockers == 0 && entry.access.row == bank.row) return at;
  }
}

/// For a bank that has ready entries of the current direction.
void DramChannel::choose(Bank& bank) const {
  const List& list = bank.lists[mode()];
  Choice& choice = bank.choice;
  choice.known = true;
  choice.masked = false;
  choice.entry = first_ready(list);
  const Entry* entry = &entries_[static_cast<std::size_t>(choice.entry)];
  if (bank.row < 0) {
    choice.kind = DramCommandKind::kActivate;
  } else if (list.hits > 0 && (entry->access.row == bank.row || list.overtaken < config_.starvation_cap)) {
    choice.entry = first_hit(bank, list);
    entry = &entries_[static_cast<std::size_t>(choice.entry)];
    choice.kind = writing_ ? DramCommandKind::kWrite : DramCommandKind::kRead;
    choice.masked = writing_ && entry->access.bytes != full_mask_;
  } else {
    choice.kind = DramCommandKind::kPrecharge;
  }
  choice.age = entry->age;
}

DramChannel::Pick DramChannel::pick_of(unsigned number) {
  Bank& bank = banks_[number];
  if (!bank.choice.known) choose(bank);
  const Group& group = groups_[group_of_[number]];
  std::int64_t clock = std::max(now_, next_cmd_);
  switch (bank.choice.kind) {
    case DramCommandKind::kRead:
      clock = std::max(std::max(clock, next_rd_), std::max(bank.next_rd, group.next_rd));
      break;
    case DramCommandKind::kWrite:
      raise(clock, bank.choice.masked ? group.next_masked : group.next_wr);
      clock = std::max(std::max(clock, next_wr_), bank.next_wr);
      break;
    case DramCommandKind::kPrecharge:
      raise(clock, bank.next_pre);
      break;
    default:
      raise(clock, last_acts_[oldest_act_] + config_.timing.faw);
      clock = std::max(std::max(clock, next_act_), std::max(bank.next_act, group.next_act));
  }
  Pick pick;
  pick.clock = clock;
  pick.age = bank.choice.age;
  pick.kind = bank.choice.kind;
  pick.entry = bank.choice.entry;
  pick.bank = number;
  return pick;
}

/// Close what is open, then refresh.
DramChannel::Pick DramChannel::pick_refresh() const {
  Pick pick;
  pick.kind = DramCommandKind::kRefresh;
  pick.clock = std::max({now_, next_cmd_, due_});
  for (const Bank& bank : banks_)
    if (bank.row >= 0) pick.kind = DramCommandKind::kPrechargeAll;
  for (const Bank& bank : banks_) {
    if (pick.kind == DramCommandKind::kRefresh) raise(pick.clock, bank.next_act);
    if (pick.kind == DramCommandKind::kPrechargeAll && bank.row >= 0) raise(pick.clock, bank.next_pre);
  }
  return pick;
}

const DramChannel::Pick& DramChannel::pick() {
  if (pick_known_) return pick_;
  pick_ = Pick{};
  for (std::uint64_t left = active_[mode()]; left != 0; left &= left - 1) {
    const Pick candidate = pick_of(static_cast<unsigned>(__builtin_ctzll(left)));
    if (candidate.better_than(pick_)) pick_ = candidate;
  }
  if (pick_.clock >= due_) pick_ = pick_refresh();
  pick_known_ = true;
  return pick_;
}

std::int64_t DramChannel::next_event() {
  const std::int64_t arrival = pending_.empty() ? kNever : pending_.front().arrival;
  if (ready_[kReads] + ready_[kWrites] == 0) return arrival;
  return std::min(arrival, pick().clock);
}

void DramChannel::run(std::int64_t until, std::vector<DramOutcome>& outcomes) {
  for (;;) {
    const std::int64_t command = pick().clock;
    if (!pending_.empty() && pending_.front().arrival <= command) {
      if (pending_.front().arrival >= until) return;
      take_arrival(outcomes);
    } else {
      if (command >= until) return;
      const Pick next = pick_;
      pick_known_ = false;
      now_ = next.clock;
      issue(next, outcomes);
      update_mode();
    }
  }
}

void DramChannel::take_arrival(std::vector<DramOutcome>& outcomes) {
  const DramAccess access = pending_.front();
  pending_.pop_front();
  now_ = std::max(now_, access.arrival);
  if (access.is_write && access.may_join && join(access, outcomes)) return;
  std::int32_t at = 0;
  if (free_.empty()) {
    at = static_cast<std::int32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    at = free_.back();
    free_.pop_back();
  }
  Entry& entry = entries_[static_cast<std::size_t>(at)];
  entry = Entry{};
  entry.access = access;
  entry.age = age_++;
  ++queued_[access.is_write ? 1 : 0];
  block(entry);
  List& list = banks_[access.flat_bank].lists[access.is_write ? kWrites : kReads];
  entry.before = list.last;
  (list.last == kNone ? list.first : entries_[static_cast<std::size_t>(list.last)].after) = at;
  list.last = at;
  if (entry.blockers > 0) {
    update_mode();  // a read may have made a write urgent
    return;
  }
  make_ready(entry);
  const bool was_writing = writing_;
  update_mode();
  if (!pick_known_ || writing_ != was_writing || access.is_write != writing_) return;
  // Only this bank's choice is new.
  if (pick_.entry != kNone && pick_.bank == access.flat_bank) {
    pick_known_ = false;
    return;
  }
  const Pick candidate = pick_of(access.flat_bank);
  if (candidate.clock < due_ && (pick_.entry == kNone || candidate.better_than(pick_))) pick_ = candidate;
}

/// A write beat goes into the port's queued access to the same burst, unless somebody waits for that one.
bool DramChannel::join(const DramAccess& access, std::vector<DramOutcome>& outcomes) {
  const List& list = banks_[access.flat_bank].lists[kWrites];
  for (std::int32_t at = list.last; at != kNone; at = entries_[static_cast<std::size_t>(at)].before) {
    Entry& entry = entries_[static_cast<std::size_t>(at)];
    if (entry.access.row != access.row || entry.access.column != access.column) continue;
    if (entry.access.port != access.port || entry.has_waiting) return false;
    entry.access.bytes |= access.bytes;
    ++counts_.joined_writes;
    outcomes.push_back({access.port, true, access.number, now_, 0});
    banks_[access.flat_bank].choice.known = false;  // it may no longer be a masked write
    if (writing_) pick_known_ = false;
    return true;
  }
  return false;
}

/// Reads wait for older writes to their burst, writes for every older access to theirs.
void DramChannel::block(Entry& entry) {
  for (const Direction direction : {kReads, kWrites}) {
    if (direction == kReads && !entry.access.is_write) continue;
    const List& list = banks_[entry.access.flat_bank].lists[direction];
    for (std::int32_t at = list.first; at != kNone; at = entries_[static_cast<std::size_t>(at)].after) {
      Entry& older = entries_[static_cast<std::size_t>(at)];
      if (!same_burst(older, entry)) continue;
      ++entry.blockers;
      older.has_waiting = true;
      if (!older.access.is_write || entry.access.is_write || older.urgent) continue;
      older.urgent = true;
      if (older.blockers == 0) ++urgent_;
    }
  }
}

void DramChannel::unblock_waiting(const Entry& issued) {
  for (const Direction direction : {kReads, kWrites}) {
    if (direction == kReads && !issued.access.is_write) continue;
    const List& list = banks_[issued.access.flat_bank].lists[direction];
    for (std::int32_t at = list.first; at != kNone; at = entries_[static_cast<std::size_t>(at)].after) {
      Entry& entry = entries_[static_cast<std::size_t>(at)];
      if (entry.age > issued.age && same_burst(entry, issued) && --entry.blockers == 0) make_ready(entry);
    }
  }
}

void DramChannel::make_ready(Entry& entry) {
  const unsigned direction = entry.access.is_write ? kWrites : kReads;
  Bank& bank = banks_[entry.access.flat_bank];
  bank.choice.known = false;
  ++bank.lists[direction].ready;
  if (bank.row == entry.access.row) ++bank.lists[direction].hits;
  ++ready_[direction];
  active_[direction] |= std::uint64_t{1} << entry.access.flat_bank;
  if (entry.urgent) ++urgent_;
}

void DramChannel::issue(const Pick& pick, std::vector<DramOutcome>& outcomes) {
  next_cmd_ = pick.clock + config_.timing.cmd;
  if (sink_) report(pick);
  Bank& bank = banks_[pick.bank];
  bank.choice.known = false;
  switch (pick.kind) {
    case DramCommandKind::kActivate:
      activate(pick);
      break;
    case DramCommandKind::kPrecharge:
      bank.row = -1;
      raise(bank.next_act, pick.clock + config_.timing.rp);
      for (List& list : bank.lists) list.hits = list.overtaken = 0;
      entries_[static_cast<std::size_t>(pick.entry)].closed = true;
      ++counts_.precharges;
      break;
    case DramCommandKind::kPrechargeAll:
      for (Bank& each : banks_) {
        each.row = -1;
        each.choice.known = false;
        raise(each.next_act, pick.clock + config_.timing.rp_ab);
        for (List& list : each.lists) list.hits = list.overtaken = 0;
      }
      ++counts_.precharge_alls;
      break;
    case DramCommandKind::kRead:
    case DramCommandKind::kWrite:
      issue_column(pick, outcomes);
      break;
    case DramCommandKind::kRefresh:
      refresh(pick.clock);
      break;
  }
}

void DramChannel::activate(const Pick& pick) {
  const DramTiming& t = config_.timing;
  Bank& bank = banks_[pick.bank];
  Entry& opener = entries_[static_cast<std::size_t>(pick.entry)];
  opener.opened = true;
  bank.row = opener.access.row;
  for (List& list : bank.lists) {
    list.hits = list.overtaken = 0;
    for (std::int32_t at = list.first; at != kNone; at = entries_[static_cast<std::size_t>(at)].after) {
      const Entry& entry = entries_[static_cast<std::size_t>(at)];
      if (entry.blockers == 0 && entry.access.row == bank.row) ++list.hits;
    }
  }
  bank.next_rd = pick.clock + t.rcd;
  bank.next_wr = pick.clock + t.rcd_wr;
  bank.next_pre = pick.clock + t.ras;
  bank.next_act = pick.clock + t.rc;
  raise(groups_[group_of_[pick.bank]].next_act, pick.clock + t.rrd_l);
  raise(next_act_, pick.clock + t.rrd_s);
  last_acts_[oldest_act_] = pick.clock;
  oldest_act_ = (oldest_act_ + 1) % 4;
  ++counts_.activates;
}

void DramChannel::issue_column(const Pick& pick, std::vector<DramOutcome>& outcomes) {
  const DramTiming& t = config_.timing;
  const std::int64_t clock = pick.clock;
  Bank& bank = banks_[pick.bank];
  Group& group = groups_[group_of_[pick.bank]];
  Entry& entry = entries_[static_cast<std::size_t>(pick.entry)];
  const bool is_write = entry.access.is_write;
  List& list = bank.lists[is_write ? kWrites : kReads];
  list.overtaken = first_ready(list) == pick.entry ? 0 : list.overtaken + 1;
  if (is_write) {
    const std::int64_t last = clock + t.cwl + burst_;
    raise(next_wr_, clock + t.ccd_s);
    raise(group.next_wr, clock + t.ccd_l_wr);
    raise(group.next_masked, clock + t.ccd_l_mwr);
    raise(next_rd_, last + t.wtr_s);
    raise(group.next_rd, last + t.wtr_l);
    raise(bank.next_pre, last + t.wr);
    ++counts_.writes;
    if (entry.access.bytes != full_mask_) ++counts_.masked_writes;
    if (entry.urgent) --urgent_;
  } else {
    raise(next_rd_, clock + t.ccd_s);
    raise(group.next_rd, clock + t.ccd_l);
    raise(next_wr_, clock + t.rtw);
    raise(bank.next_pre, clock + t.rtp);
    ++counts_.reads;
  }
  ++(entry.closed ? counts_.row_conflicts : entry.opened ? counts_.row_misses : counts_.row_hits);
  outcomes.push_back({entry.access.port, is_write, entry.access.number, clock, clock + t.cl + burst_});

  (entry.before == kNone ? list.first : entries_[static_cast<std::size_t>(entry.before)].after) = entry.after;
  (entry.after == kNone ? list.last : entries_[static_cast<std::size_t>(entry.after)].before) = entry.before;
  --list.hits;
  --queued_[is_write ? 1 : 0];
  --ready_[is_write ? kWrites : kReads];
  if (--list.ready == 0) active_[is_write ? kWrites : kReads] &= ~(std::uint64_t{1} << pick.bank);
  if (entry.has_waiting) unblock_waiting(entry);
  free_.push_back(pick.entry);
  ++phase_;
}

void DramChannel::refresh(std::int64_t clock) {
  for (Bank& bank : banks_) raise(bank.next_act, clock + config_.timing.rfc);
  ++counts_.refreshes;
  counts_.refresh_clocks += static_cast<std::uint64_t>(clock + config_.timing.rfc - due_);
  due_ += config_.timing.refi;
}

/// Which direction is served: docs/memory.md, "Reads and writes".
void DramChannel::update_mode() {
  const int reads = ready_[kReads], writes = ready_[kWrites];
  bool writing = writing_;
  if (writing_) {
    const bool drained = writes <= config_.write_low || phase_ >= config_.write_high;
    if (writes == 0 || (reads > 0 && urgent_ == 0 && drained)) writing = false;
  } else if (writes > 0) {
    writing =
        reads == 0 || (urgent_ > 0 && phase_ > 0) || (writes >= config_.write_high && phase_ >= config_.starvation_cap);
  }
  if (writing == writing_) return;
  writing_ = writing;
  for (Bank& bank : banks_) bank.choice.known = false;
  phase_ = 0;
  pick_known_ = false;
}

void DramChannel::report(const Pick& pick) const {
  DramCommand command;
  command.clock = pick.clock;
  command.channel = index_;
  command.kind = pick.kind;
  if (pick.entry != kNone) {
    const DramAccess& access = entries_[static_cast<std::size_t>(pick.entry)].access;
    command.bank_group = group_of_[pick.bank];
    command.bank = static_cast<unsigned>(pick.bank - group_of_[pick.bank] * static_cast<unsigned>(config_.banks));
    if (pick.kind != DramCommandKind::kPrecharge) command.row = access.row;
    if (is_column(pick.kind)) command.column = access.column;
    command.masked = pick.kind == DramCommandKind::kWrite && access.bytes != full_mask_;
  }
  sink_(command);
}

}  // namespace moesaic::memory
