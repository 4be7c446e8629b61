#include "models/memory/dram_channel.h"

namespace moesaic::memory {

namespace {

bool is_column(DramCommandKind kind) { return kind == DramCommandKind::kRead || kind == DramCommandKind::kWrite; }

void raise(std::int64_t& clock, std::int64_t floor) { clock = std::max(clock, floor); }

}  // namespace

DramChannel::DramChannel(const DramConfig& config, unsigned index, std::size_t most_refreshes)
    : config_(config),
      index_(index),
      burst_(config.burst_clocks()),
      full_mask_(~std::uint64_t{0} >> (64 - config.burst_bytes())),
      banks_(static_cast<std::size_t>(config.banks_per_channel())),
      groups_(static_cast<std::size_t>(config.bank_groups)),
      all_banks_(~std::uint64_t{0} >> (64 - config.banks_per_channel())),
      due_(config.timing.refi),
      most_refreshes_(most_refreshes) {
  for (Choices& choices : choices_) {
    choices.of.resize(banks_.size());
    for (std::size_t bank = 0; bank < banks_.size(); ++bank)
      choices.of[bank].group = static_cast<std::uint32_t>(bank) / static_cast<std::uint32_t>(config.banks);
  }
  std::fill(std::begin(last_acts_), std::end(last_acts_), -config.timing.faw);
}

std::int32_t DramChannel::first_ready(const List& list) const {
  std::int32_t at = list.first;
  while (entry(at).blockers > 0) at = entry(at).after;
  return at;
}

std::int32_t DramChannel::first_hit(const Bank& bank, const List& list) const {
  std::int32_t at = list.first;
  while (entry(at).blockers > 0 || entry(at).access.row != bank.row) at = entry(at).after;
  return at;
}

void DramChannel::choose(unsigned number, Direction direction) {
  const std::uint64_t bit = std::uint64_t{1} << number;
  Choices& choices = choices_[direction];
  choices.stale &= ~bit;
  choices.columns &= ~bit;
  choices.activates &= ~bit;
  choices.closes &= ~bit;
  if ((choices.active & bit) == 0) return;
  const Bank& bank = banks_[number];
  const List& list = bank.lists[direction];
  Choice& choice = choices.of[number];
  choice.entry = first_ready(list);
  if (bank.row < 0) {
    choices.activates |= bit;
    choice.clock = bank.next_act;
  } else if (list.hits > 0 && (entry(choice.entry).access.row == bank.row || list.overtaken < config_.starvation_cap)) {
    choice.entry = first_hit(bank, list);
    choices.columns |= bit;
    choice.clock = direction == kWrites ? bank.next_wr : bank.next_rd;
    const bool masked = direction == kWrites && entry(choice.entry).access.bytes != full_mask_;
    choices.masked = masked ? choices.masked | bit : choices.masked & ~bit;
  } else {
    choices.closes |= bit;
    choice.clock = bank.next_pre;
  }
  choice.age = entry(choice.entry).age;
}

void DramChannel::forget_choices(std::uint64_t banks) {
  choices_[kReads].stale |= banks;
  choices_[kWrites].stale |= banks;
  pick_known_ = false;
}

/// The clock of a bank's column command in the current direction, not before `floor`.
std::int64_t DramChannel::column_clock(unsigned bank, std::int64_t floor) const {
  const Choices& choices = choices_[mode()];
  const Choice& choice = choices.of[bank];
  const Group& group = groups_[choice.group];
  std::int64_t of_group = group.next_rd;
  if (writing_) of_group = (choices.masked >> bank & 1) != 0 ? group.next_masked : group.next_wr;
  return std::max(floor, std::max(choice.clock, of_group));
}

/// Streams: the oldest access whose turn it is in its bank, if it can go at `floor`, comes before all others. Looks at
/// the few oldest only; false when none of these can.
bool DramChannel::pick_oldest(std::int64_t floor) {
  const Choices& choices = choices_[mode()];
  std::int32_t at = choices.oldest;
  for (int tries = 0; tries < 4 && at != kNone; ++tries, at = entry(at).younger) {
    const unsigned bank = entry(at).access.flat_bank;
    if ((choices.columns >> bank & 1) == 0 || choices.of[bank].entry != at) continue;
    if (column_clock(bank, floor) > floor) continue;
    pick_.clock = floor;
    pick_.bank = bank;
    return true;
  }
  return false;
}

/// The earliest column command, at equal clocks the oldest access's.
void DramChannel::pick_columns() {
  const Choices& choices = choices_[mode()];
  if (choices.columns == 0) return;
  const std::int64_t floor = std::max(std::max(now_, next_cmd_), writing_ ? next_wr_ : next_rd_);
  if (!pick_oldest(floor)) {
    std::uint64_t age = 0;
    for (std::uint64_t left = choices.columns; left != 0; left &= left - 1) {
      const auto bank = static_cast<unsigned>(__builtin_ctzll(left));
      const std::int64_t clock = column_clock(bank, floor);
      if (clock > pick_.clock || (clock == pick_.clock && choices.of[bank].age > age)) continue;
      pick_.clock = clock;
      pick_.bank = bank;
      age = choices.of[bank].age;
    }
  }
  pick_.kind = writing_ ? DramCommandKind::kWrite : DramCommandKind::kRead;
  pick_.entry = choices.of[pick_.bank].entry;
}

/// An ACT or PRE that is earlier than the column command, at equal clocks the oldest access's.
void DramChannel::pick_rows() {
  const Choices& choices = choices_[mode()];
  const std::int64_t column = pick_.clock, soonest = std::max(now_, next_cmd_);
  if (soonest >= column) return;
  const Choice* best = nullptr;
  const auto consider = [&](unsigned bank, std::int64_t clock, DramCommandKind kind) {
    const Choice& choice = choices.of[bank];
    if (clock >= column || clock > pick_.clock || (clock == pick_.clock && choice.age > best->age)) return;
    best = &choice;
    pick_.clock = clock;
    pick_.bank = bank;
    pick_.kind = kind;
    pick_.entry = choice.entry;
  };
  for (std::uint64_t left = choices.closes; left != 0; left &= left - 1) {
    const auto bank = static_cast<unsigned>(__builtin_ctzll(left));
    consider(bank, std::max(soonest, choices.of[bank].clock), DramCommandKind::kPrecharge);
  }
  const std::int64_t floor = std::max({soonest, next_act_, last_acts_[oldest_act_] + config_.timing.faw});
  if (floor > pick_.clock || floor >= column) return;
  for (std::uint64_t left = choices.activates; left != 0; left &= left - 1) {
    const auto bank = static_cast<unsigned>(__builtin_ctzll(left));
    const Choice& choice = choices.of[bank];
    consider(bank, std::max(floor, std::max(choice.clock, groups_[choice.group].next_act)), DramCommandKind::kActivate);
  }
}

/// Close what is open, then refresh. Of a bank that is closed the clock of its PRE is past.
void DramChannel::pick_refresh() {
  pick_ = Pick{};
  pick_.kind = open_ != 0 ? DramCommandKind::kPrechargeAll : DramCommandKind::kRefresh;
  pick_.clock = std::max(std::max(now_, next_cmd_), std::max(due_, open_ != 0 ? all_pre_ : all_act_));
}

/// Sets pick_: the earliest command; at equal clocks a column command before a row command, then the oldest access.
void DramChannel::find_pick() {
  pick_known_ = true;
  pick_.clock = kNever;
  Choices& choices = choices_[mode()];
  while (choices.stale != 0) choose(static_cast<unsigned>(__builtin_ctzll(choices.stale)), mode());
  pick_columns();
  pick_rows();
  if (pick_.clock >= due_) pick_refresh();
}

std::int64_t DramChannel::next_event() {
  if (pending_.empty() && ready_[kReads] + ready_[kWrites] == 0) return kNever;
  if (hits_ > 0 && queued_[kReads] + queued_[kWrites] == 0)
    return std::max({pending_.front().arrival, next_cmd_, next_rd_});
  const std::int64_t arrival = pending_.empty() ? kNever : first_outcome(pending_.front().arrival);
  if (ready_[kReads] + ready_[kWrites] == 0) return arrival;
  pick();
  return std::min(arrival, pick_.clock);
}

/// The clock of an RD that may go at `floor` as far as command and data bus are concerned.
std::int64_t DramChannel::column_clock(const DramAccess& read, std::int64_t floor) const {
  const std::int64_t of_group = groups_[choices_[kReads].of[read.flat_bank].group].next_rd;
  return std::max({floor, read.arrival, banks_[read.flat_bank].next_rd, of_group});
}

/// As long as nothing is queued and all that arrives reads open rows: no row command competes, so that the RDs follow
/// from the clocks alone, and an access is issued from where it waits to arrive. Returns whether all that happens
/// before `until` has; otherwise something else comes first, from which on the queues decide.
bool DramChannel::stream(std::int64_t until, std::vector<DramOutcome>& outcomes) {
  while (!pending_.empty()) {
    if (hits_ == 0 && !hits(pending_.front())) return false;
    const std::int64_t floor = std::max({now_, next_cmd_, next_rd_});
    // The earliest, at equal clocks the oldest.
    std::int64_t clock = column_clock(pending_.front(), floor);
    std::size_t first = 0;
    for (std::size_t i = 1; clock > floor && i < pending_.size() && pending_[i].arrival < clock; ++i) {
      const std::int64_t other = column_clock(pending_[i], floor);
      if (other >= clock) continue;
      clock = other;
      first = i;
    }
    if (clock >= due_) return false;
    for (; hits_ < pending_.size() && pending_[hits_].arrival <= clock; ++hits_)
      if (!hits(pending_[hits_])) return false;
    if (clock >= until) return true;
    const DramAccess& read = pending_[first];
    if (sink_) report(DramCommandKind::kRead, clock, read.flat_bank, &read);
    now_ = clock;
    next_cmd_ = clock + config_.timing.cmd;
    note_read(read.flat_bank, clock);
    banks_[read.flat_bank].lists[kReads].overtaken = 0;
    ++counts_.row_hits;
    outcomes.push_back(read_outcome(read, clock));
    for (; first > 0; --first) pending_[first] = pending_[first - 1];
    pending_.pop_front();
    --hits_;
    ++phase_;
    pick_known_ = false;
  }
  return false;
}

void DramChannel::note_read(unsigned bank, std::int64_t clock) {
  const DramTiming& t = config_.timing;
  raise(next_rd_, clock + t.ccd_s);
  raise(groups_[choices_[kReads].of[bank].group].next_rd, clock + t.ccd_l);
  raise(next_wr_, clock + t.rtw);
  raise(banks_[bank].next_pre, clock + t.rtp);
  raise(all_pre_, banks_[bank].next_pre);
  ++counts_.reads;
}

/// What an RD at `clock` makes known. The last refresh was due one tREFI before the next one.
DramOutcome DramChannel::read_outcome(const DramAccess& read, std::int64_t clock) const {
  DramOutcome outcome{read.port, false, read.number, clock, clock + config_.timing.cl + burst_};
  if (read.arrival < readable_) {
    outcome.held_from = std::max(read.arrival, due_ - config_.timing.refi);
    outcome.held_until = readable_;
  }
  return outcome;
}

void DramChannel::run(std::int64_t until, std::vector<DramOutcome>& outcomes) {
  for (;;) {
    if (queued_[kReads] + queued_[kWrites] == 0) {
      if (!pending_.empty() && stream(until, outcomes)) return;
      if (pending_.empty() && due_ >= until) return;
    }
    hits_ = 0;
    // Before any command: no command is before now_, and with empty queues none is before a refresh is due.
    const std::int64_t idle_until = queued_[kReads] + queued_[kWrites] == 0 ? std::max(now_, due_) : now_;
    if (!pending_.empty() && pending_.front().arrival <= idle_until) {
      if (pending_.front().arrival >= until) return;
      take_arrival(outcomes);
      continue;
    }
    pick();
    if (!pending_.empty() && pending_.front().arrival <= pick_.clock) {
      if (pending_.front().arrival >= until) return;
      take_arrival(outcomes);
    } else {
      if (pick_.clock >= until) return;
      now_ = pick_.clock;
      issue(pick_, outcomes);
      update_mode();
    }
  }
}

void DramChannel::take_arrival(std::vector<DramOutcome>& outcomes) {
  const DramAccess& access = pending_.front();
  now_ = std::max(now_, access.arrival);
  if (access.is_write && access.may_join) {
    --joins_pending_;
    if (join(access, outcomes)) {
      pending_.pop_front();
      return;
    }
  }
  std::int32_t at = 0;
  if (free_.empty()) {
    at = static_cast<std::int32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    at = free_.back();
    free_.pop_back();
  }
  const Direction direction = access.is_write ? kWrites : kReads;
  Bank& bank = banks_[access.flat_bank];
  List& list = bank.lists[direction];
  Entry& added = entry(at);
  added.access = access;
  pending_.pop_front();
  added.age = age_++;
  added.blockers = 0;
  added.has_waiting = added.urgent = added.opened = added.closed = false;
  ++queued_[direction];
  block(added);
  added.before = list.last;
  added.after = kNone;
  (list.last == kNone ? list.first : entry(list.last).after) = at;
  list.last = at;
  Choices& choices = choices_[direction];
  added.older = choices.youngest;
  added.younger = kNone;
  (choices.youngest == kNone ? choices.oldest : entry(choices.youngest).younger) = at;
  choices.youngest = at;
  if (added.blockers == 0) {
    // The youngest access of a bank changes what the bank does only as its first one or as the first hit.
    const bool hits = added.access.row == bank.row;
    const bool changes = list.ready == 0 || (hits && list.hits == 0);
    make_ready(added);
    if (changes) {
      choices.stale |= std::uint64_t{1} << added.access.flat_bank;
      if (direction == mode()) pick_known_ = false;
    }
  }
  update_mode();  // a read that is blocked may have made a write urgent
}

/// A write beat goes into the port's queued access to the same burst, unless somebody waits for that one.
bool DramChannel::join(const DramAccess& access, std::vector<DramOutcome>& outcomes) {
  const List& list = banks_[access.flat_bank].lists[kWrites];
  for (std::int32_t at = list.last; at != kNone; at = entry(at).before) {
    Entry& queued = entry(at);
    if (!same_burst(queued.access, access)) continue;
    if (queued.access.port != access.port || queued.has_waiting) return false;
    queued.access.bytes |= access.bytes;
    ++counts_.joined_writes;
    outcomes.push_back({access.port, true, access.number, now_, 0});
    choices_[kWrites].stale |= std::uint64_t{1} << access.flat_bank;  // it may no longer be a masked write
    if (writing_) pick_known_ = false;
    return true;
  }
  return false;
}

/// Reads wait for older writes to their burst, writes for every older access to theirs.
void DramChannel::block(Entry& added) {
  const Bank& bank = banks_[added.access.flat_bank];
  block_behind(bank.lists[kWrites], added);
  if (added.access.is_write) block_behind(bank.lists[kReads], added);
}

void DramChannel::block_behind(const List& list, Entry& added) {
  for (std::int32_t at = list.first; at != kNone; at = entry(at).after) {
    Entry& older = entry(at);
    if (!same_burst(older.access, added.access)) continue;
    ++added.blockers;
    older.has_waiting = true;
    if (!older.access.is_write || added.access.is_write || older.urgent) continue;
    older.urgent = true;
    if (older.blockers == 0) ++urgent_;
  }
}

void DramChannel::unblock_waiting(const Entry& issued) {
  for (const Direction direction : {kReads, kWrites}) {
    if (direction == kReads && !issued.access.is_write) continue;
    const List& list = banks_[issued.access.flat_bank].lists[direction];
    for (std::int32_t at = list.first; at != kNone; at = entry(at).after) {
      Entry& waiting = entry(at);
      if (waiting.age > issued.age && same_burst(waiting.access, issued.access) && --waiting.blockers == 0) {
        make_ready(waiting);
        forget_choices(std::uint64_t{1} << waiting.access.flat_bank);
      }
    }
  }
}

void DramChannel::make_ready(const Entry& ready) {
  const Direction direction = ready.access.is_write ? kWrites : kReads;
  Bank& bank = banks_[ready.access.flat_bank];
  ++bank.lists[direction].ready;
  if (bank.row == ready.access.row) ++bank.lists[direction].hits;
  ++ready_[direction];
  choices_[direction].active |= std::uint64_t{1} << ready.access.flat_bank;
  if (ready.urgent) ++urgent_;
}

void DramChannel::issue(const Pick& pick, std::vector<DramOutcome>& outcomes) {
  next_cmd_ = pick.clock + config_.timing.cmd;
  if (sink_) report(pick);
  switch (pick.kind) {
    case DramCommandKind::kActivate:
      activate(pick);
      break;
    case DramCommandKind::kPrecharge:
      precharge(pick);
      break;
    case DramCommandKind::kPrechargeAll:
      precharge_all(pick.clock);
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
  Entry& opener = entry(pick.entry);
  opener.opened = true;
  bank.row = opener.access.row;
  for (List& list : bank.lists) {
    list.hits = list.overtaken = 0;
    for (std::int32_t at = list.first; at != kNone; at = entry(at).after)
      if (entry(at).blockers == 0 && entry(at).access.row == bank.row) ++list.hits;
  }
  bank.next_rd = pick.clock + t.rcd;
  bank.next_wr = pick.clock + t.rcd_wr;
  bank.next_pre = pick.clock + t.ras;
  bank.next_act = pick.clock + t.rc;
  raise(all_pre_, bank.next_pre);
  raise(all_act_, bank.next_act);
  raise(groups_[choices_[kReads].of[pick.bank].group].next_act, pick.clock + t.rrd_l);
  raise(next_act_, pick.clock + t.rrd_s);
  last_acts_[oldest_act_] = pick.clock;
  oldest_act_ = (oldest_act_ + 1) % 4;
  open_ |= std::uint64_t{1} << pick.bank;
  forget_choices(std::uint64_t{1} << pick.bank);
  ++counts_.activates;
}

void DramChannel::precharge(const Pick& pick) {
  Bank& bank = banks_[pick.bank];
  bank.row = -1;
  raise(bank.next_act, pick.clock + config_.timing.rp);
  raise(all_act_, bank.next_act);
  for (List& list : bank.lists) list.hits = list.overtaken = 0;
  entry(pick.entry).closed = true;
  open_ &= ~(std::uint64_t{1} << pick.bank);
  forget_choices(std::uint64_t{1} << pick.bank);
  ++counts_.precharges;
}

void DramChannel::precharge_all(std::int64_t clock) {
  for (Bank& bank : banks_) {
    bank.row = -1;
    raise(bank.next_act, clock + config_.timing.rp_ab);
    for (List& list : bank.lists) list.hits = list.overtaken = 0;
  }
  raise(all_act_, clock + config_.timing.rp_ab);
  open_ = 0;
  forget_choices(all_banks_);
  ++counts_.precharge_alls;
}

void DramChannel::issue_column(const Pick& pick, std::vector<DramOutcome>& outcomes) {
  const DramTiming& t = config_.timing;
  const std::int64_t clock = pick.clock;
  const std::uint64_t bit = std::uint64_t{1} << pick.bank;
  Bank& bank = banks_[pick.bank];
  Group& group = groups_[choices_[kReads].of[pick.bank].group];
  Entry& issued = entry(pick.entry);
  const Direction direction = issued.access.is_write ? kWrites : kReads;
  List& list = bank.lists[direction];
  list.overtaken = first_ready(list) == pick.entry ? 0 : list.overtaken + 1;
  if (direction == kWrites) {
    const std::int64_t last = clock + t.cwl + burst_;
    raise(next_wr_, clock + t.ccd_s);
    raise(group.next_wr, clock + t.ccd_l_wr);
    raise(group.next_masked, clock + t.ccd_l_mwr);
    raise(next_rd_, last + t.wtr_s);
    raise(group.next_rd, last + t.wtr_l);
    raise(bank.next_pre, last + t.wr);
    ++counts_.writes;
    if (issued.access.bytes != full_mask_) ++counts_.masked_writes;
    if (issued.urgent) --urgent_;
  } else {
    note_read(pick.bank, clock);
  }
  raise(all_pre_, bank.next_pre);
  ++(issued.closed ? counts_.row_conflicts : issued.opened ? counts_.row_misses : counts_.row_hits);
  if (direction == kReads)
    outcomes.push_back(read_outcome(issued.access, clock));
  else
    outcomes.push_back({issued.access.port, true, issued.access.number, clock, 0});

  (issued.before == kNone ? list.first : entry(issued.before).after) = issued.after;
  (issued.after == kNone ? list.last : entry(issued.after).before) = issued.before;
  Choices& choices = choices_[direction];
  (issued.older == kNone ? choices.oldest : entry(issued.older).younger) = issued.younger;
  (issued.younger == kNone ? choices.youngest : entry(issued.younger).older) = issued.older;
  --list.hits;
  --queued_[direction];
  --ready_[direction];
  if (--list.ready == 0) choices.active &= ~bit;
  forget_choices(bit);
  if (issued.has_waiting) unblock_waiting(issued);
  free_.push_back(pick.entry);
  ++phase_;
}

void DramChannel::refresh(std::int64_t clock) {
  for (Bank& bank : banks_) raise(bank.next_act, clock + config_.timing.rfc);
  raise(all_act_, clock + config_.timing.rfc);
  forget_choices(all_banks_);
  ++counts_.refreshes;
  counts_.refresh_clocks += static_cast<std::uint64_t>(clock + config_.timing.rfc - due_);
  keep_refresh(due_, clock + config_.timing.rfc);
  due_ += config_.timing.refi;
  readable_ = clock + config_.timing.rfc + config_.timing.rcd;
}

void DramChannel::keep_refresh(std::int64_t due, std::int64_t open) {
  if (counts_.refreshes % every_ != 0) return;
  refreshes_.push_back({due, open, counts_});
  if (refreshes_.size() < most_refreshes_) return;
  for (std::size_t i = 1; i < refreshes_.size(); i += 2) refreshes_[i / 2] = refreshes_[i];
  refreshes_.resize(refreshes_.size() / 2);
  every_ *= 2;
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
  phase_ = 0;
  pick_known_ = false;
}

void DramChannel::report(const Pick& pick) const {
  report(pick.kind, pick.clock, pick.bank, pick.entry == kNone ? nullptr : &entry(pick.entry).access);
}

void DramChannel::report(DramCommandKind kind, std::int64_t clock, unsigned bank, const DramAccess* access) const {
  DramCommand command;
  command.clock = clock;
  command.channel = index_;
  command.kind = kind;
  if (access != nullptr) {
    command.bank_group = choices_[kReads].of[bank].group;
    command.bank = bank - command.bank_group * static_cast<unsigned>(config_.banks);
    if (kind != DramCommandKind::kPrecharge) command.row = access->row;
    if (is_column(kind)) command.column = access->column;
    command.masked = kind == DramCommandKind::kWrite && access->bytes != full_mask_;
  }
  sink_(command);
}

}  // namespace moesaic::memory
