#include "models/memory/dram_channel.h"

namespace moesaic::memory {

namespace {

bool is_column(DramCommandKind kind) { return kind == DramCommandKind::kRead || kind == DramCommandKind::kWrite; }
bool is_refresh(DramCommandKind kind) {
  return kind == DramCommandKind::kPrechargeAll || kind == DramCommandKind::kRefresh;
}

void raise(std::int64_t& clock, std::int64_t floor) { clock = std::max(clock, floor); }

}  // namespace

DramChannel::DramChannel(const DramConfig& config, unsigned index, std::size_t most_refreshes)
    : config_(config),
      index_(index),
      burst_(config.burst_clocks()),
      full_mask_(~std::uint64_t{0} >> (64 - config.burst_bytes())),
      group_shift_(static_cast<unsigned>(__builtin_ctzll(static_cast<std::uint64_t>(config.banks)))),
      first_column_(std::min(config.timing.rcd, config.timing.rcd_wr)),
      apart_(std::max({config.timing.ccd_s, config.timing.ccd_l, config.timing.cmd})),
      num_banks_(static_cast<std::size_t>(config.banks_per_channel())),
      all_banks_(~std::uint64_t{0} >> (64 - config.banks_per_channel())),
      due_(config.timing.refi),
      most_refreshes_(most_refreshes) {
  for (std::size_t groups = 1; groups <= static_cast<std::size_t>(config.bank_groups); ++groups)
    turns_[groups] = turns_[groups - 1] | std::uint64_t{1} << (groups - 1) * static_cast<std::size_t>(config.banks);
  std::fill(std::begin(last_acts_), std::end(last_acts_), -config.timing.faw);
}

std::int32_t DramChannel::first_ready(const List& list) const {
  std::int32_t at = list.first;
  while (entry(at).blockers > 0) at = entry(at).after;
  return at;
}

std::int32_t DramChannel::first_hit(std::int64_t row, const List& list) const {
  std::int32_t at = list.first;
  while (entry(at).blockers > 0 || entry(at).access.row != row) at = entry(at).after;
  return at;
}

void DramChannel::choose(unsigned number, Direction direction) {
  const std::uint64_t bit = std::uint64_t{1} << number;
  Choices& choices = choices_[direction];
  choices.stale &= ~bit;
  choices.columns &= ~bit;
  choices.activates &= ~bit;
  choices.closes &= ~bit;
  const Bank& bank = banks_[number];
  const List& list = lists_[number][direction];
  Choice& choice = choices.of[number];
  choice.entry = first_ready(list);
  if (bank.row < 0) {
    choices.activates |= bit;
    choice.clock = bank.next_act;
  } else if (list.hits > 0 && (entry(choice.entry).access.row == bank.row || list.overtaken < config_.starvation_cap)) {
    choice.entry = first_hit(bank.row, list);
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
  const Group& group = groups_[group_of(bank)];
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
    consider(bank, std::max(floor, std::max(choice.clock, groups_[group_of(bank)].next_act)),
             DramCommandKind::kActivate);
  }
}

/// Close what is open, then refresh. Of a bank that is closed the clock of its PRE is past.
void DramChannel::pick_refresh() {
  pick_ = Pick{};
  pick_.kind = open_ != 0 ? DramCommandKind::kPrechargeAll : DramCommandKind::kRefresh;
  pick_.clock = std::max(std::max(now_, next_cmd_), std::max(due_, open_ != 0 ? all_pre_ : all_act_));
}

/// The same where a single bank has anything to do.
void DramChannel::pick_only(unsigned bank) {
  const Choices& choices = choices_[mode()];
  const Choice& choice = choices.of[bank];
  const std::uint64_t bit = std::uint64_t{1} << bank;
  const std::int64_t soonest = std::max(now_, next_cmd_);
  pick_.bank = bank;
  pick_.entry = choice.entry;
  pick_.column = kNever;
  if ((choices.columns & bit) != 0) {
    pick_.kind = writing_ ? DramCommandKind::kWrite : DramCommandKind::kRead;
    pick_.clock = pick_.column = column_clock(bank, std::max(soonest, writing_ ? next_wr_ : next_rd_));
  } else if ((choices.closes & bit) != 0) {
    pick_.kind = DramCommandKind::kPrecharge;
    pick_.clock = std::max(soonest, choice.clock);
  } else {
    pick_.kind = DramCommandKind::kActivate;
    const std::int64_t floor = std::max(std::max(soonest, next_act_), last_acts_[oldest_act_] + config_.timing.faw);
    pick_.clock = std::max(floor, std::max(choice.clock, groups_[group_of(bank)].next_act));
  }
}

/// Sets pick_: the earliest command; at equal clocks a column command before a row command, then the oldest access.
void DramChannel::find_pick() {
  pick_known_ = true;
  pick_.clock = kNever;
  Choices& choices = choices_[mode()];
  const std::uint64_t idle = choices.stale & ~choices.active;
  choices.stale &= ~idle;
  choices.columns &= ~idle;
  choices.activates &= ~idle;
  choices.closes &= ~idle;
  while (choices.stale != 0) choose(static_cast<unsigned>(__builtin_ctzll(choices.stale)), mode());
  if (choices.active != 0 && (choices.active & (choices.active - 1)) == 0) {
    pick_only(static_cast<unsigned>(__builtin_ctzll(choices.active)));
  } else {
    pick_columns();
    pick_.column = pick_.clock;
    pick_rows();
  }
  if (pick_.clock >= due_) pick_refresh();
}

std::int64_t DramChannel::next_event() {
  const bool queued = ready_[kReads] + ready_[kWrites] > 0;
  const std::int64_t arrival = pending_.empty() ? kNever : first_outcome(pending_.front().arrival);
  if (!queued) return arrival;
  pick();
  // Before a row is opened it is not read. The direction changes by an arrival or a column command only.
  std::int64_t column = pick_.clock;
  if (!is_column(pick_.kind)) {
    column += first_column_;
    if (!is_refresh(pick_.kind)) column = std::min(column, pick_.column);
  }
  return std::min(arrival, column);
}

/// The clock of an RD that may go at `floor` as far as command and data bus are concerned.
std::int64_t DramChannel::column_clock(const DramAccess& read, std::int64_t floor) const {
  const std::int64_t of_group = groups_[group_of(read.flat_bank)].next_rd;
  return std::max(std::max(floor, read.arrival), std::max(banks_[read.flat_bank].next_rd, of_group));
}

/// Reads are served, and RDs of reads that are not queued do not end that.
bool DramChannel::may_stream() const {
  if (writing_) return false;
  return ready_[kWrites] == 0 || (ready_[kReads] > 0 && urgent_ == 0 && ready_[kWrites] < config_.write_high);
}

/// Whether an RD of `group` at `clock` leaves `pick`, which is later, what it was: then all clocks that it was compared
/// with are as they were, or were later and still are.
bool DramChannel::stands(const Pick& pick, std::uint32_t group, std::int64_t clock) const {
  const DramTiming& t = config_.timing;
  if (is_refresh(pick.kind)) return false;
  if (pick.clock < clock + t.cmd) return false;
  if (!is_column(pick.kind)) return true;
  return pick.clock >= clock + (group_of(pick.bank) == group ? std::max(t.ccd_s, t.ccd_l) : t.ccd_s);
}

bool DramChannel::finds_open(std::int64_t row, std::uint64_t banks) {
  if ((banks & waited_for_) != 0) return false;
  for (std::uint64_t left = banks; left != 0; left &= left - 1)
    if (banks_[static_cast<std::size_t>(__builtin_ctzll(left))].row != row) return false;
  open_in_ = row == open_row_ ? open_in_ | banks : banks;
  open_row_ = row;
  return true;
}

/// The plain part of stream(): as long as the first RD can go as soon as the last one lets it, long enough before what
/// is queued. Nothing can be earlier, so each is the next.
void DramChannel::stream_at_once(std::int64_t until, std::vector<DramOutcome>& outcomes) {
  const DramTiming& t = config_.timing;
  std::int64_t limit = std::min(until, due_);
  if (ready_[kReads] > 0) {
    pick();
    if (is_refresh(pick_.kind)) return;
    limit = std::min(limit, pick_.clock - apart_ + 1);
  }
  const std::int64_t step = std::max(t.ccd_s, t.cmd);
  std::int64_t clock = std::max(std::max(now_, next_cmd_), next_rd_), last = -1, closes = all_pre_;
  std::size_t runs = 0, known = streams_;  // runs that are over; that are known to stream
  std::int64_t unknown = known < pending_.size() ? pending_[known].arrival : kNever;
  std::int32_t all = 0;
  for (; runs < pending_.size(); ++runs) {
    DramAccess& run = pending_[runs];
    clock = std::max(clock, run.arrival);
    const bool held = run.arrival < readable_;
    std::int32_t done = 0;
    for (std::size_t bank = run.flat_bank; done < run.count; ++done, bank += run.banks, clock += step) {
      if (clock >= limit) break;
      while (clock >= unknown && known < pending_.size() && streams(pending_[known])) {
        ++known;
        unknown = known < pending_.size() ? pending_[known].arrival : kNever;
      }
      Bank& of = banks_[bank];
      Group& group = groups_[group_of(static_cast<unsigned>(bank))];
      if (clock >= unknown || of.next_rd > clock || group.next_rd > clock) break;
      if (sink_) report(DramCommandKind::kRead, clock, static_cast<unsigned>(bank), &run);
      group.next_rd = clock + t.ccd_l;
      raise(of.next_pre, clock + t.rtp);
      lively_ |= std::uint64_t{1} << bank;
      raise(closes, of.next_pre);
      lists_[bank][kReads].overtaken = 0;
    }
    if (done == 0) break;
    DramOutcome& outcome = outcomes.emplace_back();
    outcome.number = run.number;
    outcome.released = clock - done * step;
    outcome.count = done;
    outcome.numbers = run.numbers;
    outcome.clocks = static_cast<std::int32_t>(step);
    outcome.port = run.port;
    if (held) hold(run, outcome);
    last = clock - step;
    all += done;
    if (done == run.count) continue;
    run.count -= done;
    run.number += std::int64_t{done} * run.numbers;
    run.flat_bank = static_cast<std::uint8_t>(run.flat_bank + done * run.banks);
    break;
  }
  streams_ = known > runs ? known - runs : 0;
  if (all == 0) return;
  pending_.pop_front(runs);
  now_ = last;
  next_cmd_ = last + t.cmd;
  next_rd_ = last + t.ccd_s;
  raise(next_wr_, last + t.rtw);
  all_pre_ = closes;
  counts_.reads += static_cast<std::uint64_t>(all);
  counts_.row_hits += static_cast<std::uint64_t>(all);
  phase_ += all;
  if (ready_[kReads] == 0) pick_known_ = false;
}

/// As long as what arrives reads open rows of banks for which nothing is queued, it needs no row command and no queue:
/// the RDs follow from the clocks alone, and an access is issued from where it waits to arrive. What is queued goes
/// between them as it would if they were queued too, which no bank that it is for can tell. Returns whether all that
/// happens before `until` has; otherwise something else comes first, from which on the queues decide.
bool DramChannel::stream(std::int64_t until, std::vector<DramOutcome>& outcomes) {
  while (!pending_.empty()) {
    if (streams_ == 0 && !streams(pending_.front())) return false;
    stream_at_once(until, outcomes);
    if (pending_.empty() || (streams_ == 0 && !streams(pending_.front()))) return false;
    const DramAccess& read = pending_.front();
    const std::int64_t floor = std::max(std::max(now_, next_cmd_), std::max(next_rd_, read.arrival));
    const std::int64_t clock = column_clock(read, floor);
    if (clock >= due_) return false;
    // One that waits for its bank or its group may be overtaken.
    if (clock > floor && (read.count > 1 || (pending_.size() > 1 && pending_[1].arrival < clock))) return false;
    for (; streams_ < pending_.size() && pending_[streams_].arrival <= clock; ++streams_)
      if (!streams(pending_[streams_])) return false;
    const bool queued = ready_[kReads] > 0;
    if (queued) {
      pick();
      if (pick_.clock < clock || (pick_.clock == clock && is_column(pick_.kind))) {
        if (pick_.clock >= until) return true;
        // Behind the last read that is queued comes the next that streams: no write would.
        if (is_column(pick_.kind) && queued_[kWrites] > 0) return false;
        now_ = pick_.clock;
        issue(pick_, outcomes);
        update_mode();
        streams_ = 0;
        continue;
      }
    }
    if (clock >= until) return true;
    if (sink_) report(DramCommandKind::kRead, clock, read.flat_bank, &read);
    now_ = clock;
    next_cmd_ = clock + config_.timing.cmd;
    note_read(read.flat_bank, clock);
    lists_[read.flat_bank][kReads].overtaken = 0;
    ++counts_.row_hits;
    finish_read(read, clock, outcomes);
    pick_known_ = queued && stands(pick_, group_of(read.flat_bank), clock);
    if (read.count == 1) --streams_;
    pop_pending();
    ++phase_;
  }
  return false;
}

void DramChannel::note_read(unsigned bank, std::int64_t clock) {
  const DramTiming& t = config_.timing;
  raise(next_rd_, clock + t.ccd_s);
  raise(groups_[group_of(bank)].next_rd, clock + t.ccd_l);
  raise(next_wr_, clock + t.rtw);
  raise(banks_[bank].next_pre, clock + t.rtp);
  lively_ |= std::uint64_t{1} << bank;
  raise(all_pre_, banks_[bank].next_pre);
  ++counts_.reads;
}

/// What an RD at `clock` makes known.
void DramChannel::finish_read(const DramAccess& read, std::int64_t clock, std::vector<DramOutcome>& outcomes) const {
  DramOutcome& outcome = outcomes.emplace_back();
  outcome.number = read.number;
  outcome.released = clock;
  outcome.port = read.port;
  if (read.arrival < readable_) hold(read, outcome);
}

/// The last refresh was due one tREFI before the next one.
void DramChannel::hold(const DramAccess& read, DramOutcome& outcome) const {
  outcome.held_from = std::max(read.arrival, due_ - config_.timing.refi);
  outcome.held_until = readable_;
}

void DramChannel::finish_write(const DramAccess& write, std::int64_t clock, std::vector<DramOutcome>& outcomes) {
  DramOutcome& outcome = outcomes.emplace_back();
  outcome.number = write.number;
  outcome.released = clock;
  outcome.port = write.port;
  outcome.is_write = true;
}

void DramChannel::run(std::int64_t until, std::vector<DramOutcome>& outcomes) {
  for (;;) {
    if (!pending_.empty() && may_stream() && stream(until, outcomes)) return;
    if (pending_.empty() && queued_[kReads] + queued_[kWrites] == 0 && due_ >= until) return;
    streams_ = 0;
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
  if (access.is_write) {
    --writes_pending_;
    if (access.may_join) {
      --joins_pending_;
      if (join(access, outcomes)) {
        pop_pending();
        return;
      }
    }
  }
  enqueue(access).access.count = 1;
  pop_pending();
  update_mode();  // a read that is blocked may have made a write urgent
}

DramChannel::Entry& DramChannel::enqueue(const DramAccess& access) {
  std::int32_t at = 0;
  if (free_.empty()) {
    at = static_cast<std::int32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    at = free_.back();
    free_.pop_back();
  }
  const Direction direction = access.is_write ? kWrites : kReads;
  const Bank& bank = banks_[access.flat_bank];
  List& list = lists_[access.flat_bank][direction];
  Entry& added = entry(at);
  added.access = access;
  added.age = age_++;
  added.blockers = 0;
  added.has_waiting = added.urgent = added.opened = added.closed = false;
  ++queued_[direction];
  waited_for_ |= std::uint64_t{1} << added.access.flat_bank;
  open_in_ &= ~waited_for_;
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
  return added;
}

/// A write beat goes into the port's queued access to the same burst, unless somebody waits for that one.
bool DramChannel::join(const DramAccess& access, std::vector<DramOutcome>& outcomes) {
  const List& list = lists_[access.flat_bank][kWrites];
  for (std::int32_t at = list.last; at != kNone; at = entry(at).before) {
    Entry& queued = entry(at);
    if (!same_burst(queued.access, access)) continue;
    if (queued.access.port != access.port || queued.has_waiting) return false;
    queued.access.bytes |= access.bytes;
    ++counts_.joined_writes;
    finish_write(access, now_, outcomes);
    Choices& choices = choices_[kWrites];
    if (choices.of[access.flat_bank].entry != at) return true;
    choices.stale |= std::uint64_t{1} << access.flat_bank;  // it may no longer be a masked write
    if (writing_) pick_known_ = false;
    return true;
  }
  return false;
}

/// Reads wait for older writes to their burst, writes for every older access to theirs.
void DramChannel::block(Entry& added) {
  const std::array<List, 2>& lists = lists_[added.access.flat_bank];
  block_behind(lists[kWrites], added);
  if (added.access.is_write) block_behind(lists[kReads], added);
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
    const List& list = lists_[issued.access.flat_bank][direction];
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
  List& list = lists_[ready.access.flat_bank][direction];
  ++list.ready;
  if (banks_[ready.access.flat_bank].row == ready.access.row) ++list.hits;
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
  for (List& list : lists_[pick.bank]) {
    list.hits = list.overtaken = 0;
    for (std::int32_t at = list.first; at != kNone; at = entry(at).after)
      if (entry(at).blockers == 0 && entry(at).access.row == bank.row) ++list.hits;
  }
  bank.next_rd = pick.clock + t.rcd;
  bank.next_wr = pick.clock + t.rcd_wr;
  bank.next_pre = pick.clock + t.ras;
  lively_ |= std::uint64_t{1} << pick.bank;
  bank.next_act = pick.clock + t.rc;
  raise(all_pre_, bank.next_pre);
  raise(all_act_, bank.next_act);
  raise(groups_[group_of(pick.bank)].next_act, pick.clock + t.rrd_l);
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
  lively_ |= std::uint64_t{1} << pick.bank;
  raise(all_act_, bank.next_act);
  for (List& list : lists_[pick.bank]) list.hits = list.overtaken = 0;
  entry(pick.entry).closed = true;
  open_ &= ~(std::uint64_t{1} << pick.bank);
  open_in_ &= open_;
  forget_choices(std::uint64_t{1} << pick.bank);
  ++counts_.precharges;
}

void DramChannel::precharge_all(std::int64_t clock) {
  for (std::size_t number = 0; number < num_banks_; ++number) {
    banks_[number].row = -1;
    raise(banks_[number].next_act, clock + config_.timing.rp_ab);
    for (List& list : lists_[number]) list.hits = list.overtaken = 0;
  }
  raise(all_act_, clock + config_.timing.rp_ab);
  open_ = open_in_ = 0;
  lively_ = all_banks_;
  forget_choices(all_banks_);
  ++counts_.precharge_alls;
}

void DramChannel::issue_column(const Pick& pick, std::vector<DramOutcome>& outcomes) {
  const DramTiming& t = config_.timing;
  const std::int64_t clock = pick.clock;
  const std::uint64_t bit = std::uint64_t{1} << pick.bank;
  Bank& bank = banks_[pick.bank];
  Group& group = groups_[group_of(pick.bank)];
  Entry& issued = entry(pick.entry);
  const Direction direction = issued.access.is_write ? kWrites : kReads;
  List& list = lists_[pick.bank][direction];
  list.overtaken = first_ready(list) == pick.entry ? 0 : list.overtaken + 1;
  lively_ |= bit;
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
    finish_read(issued.access, clock, outcomes);
  else
    finish_write(issued.access, clock, outcomes);

  (issued.before == kNone ? list.first : entry(issued.before).after) = issued.after;
  (issued.after == kNone ? list.last : entry(issued.after).before) = issued.before;
  Choices& choices = choices_[direction];
  (issued.older == kNone ? choices.oldest : entry(issued.older).younger) = issued.younger;
  (issued.younger == kNone ? choices.youngest : entry(issued.younger).older) = issued.older;
  --list.hits;
  --queued_[direction];
  --ready_[direction];
  if (--list.ready == 0) choices.active &= ~bit;
  if (lists_[pick.bank][kReads].first == kNone && lists_[pick.bank][kWrites].first == kNone) waited_for_ &= ~bit;
  forget_choices(bit);
  if (issued.has_waiting) unblock_waiting(issued);
  free_.push_back(pick.entry);
  ++phase_;
}

void DramChannel::refresh(std::int64_t clock) {
  for (std::size_t number = 0; number < num_banks_; ++number)
    raise(banks_[number].next_act, clock + config_.timing.rfc);
  raise(all_act_, clock + config_.timing.rfc);
  lively_ = all_banks_;
  forget_choices(all_banks_);
  ++counts_.refreshes;
  counts_.refresh_clocks += static_cast<std::uint64_t>(clock + config_.timing.rfc - due_);
  keep_refresh({due_, clock + config_.timing.rfc, counts_});
  due_ += config_.timing.refi;
  readable_ = clock + config_.timing.rfc + config_.timing.rcd;
}

void DramChannel::keep_refresh(const DramRefresh& refresh) {
  last_refresh_ = refresh;
  if (refresh.counts.refreshes % every_ != 0) return;
  refreshes_.push_back(refresh);
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
    command.bank_group = group_of(bank);
    command.bank = bank - command.bank_group * static_cast<unsigned>(config_.banks);
    if (kind != DramCommandKind::kPrecharge) command.row = access->row;
    if (is_column(kind)) command.column = access->column;
    command.masked = kind == DramCommandKind::kWrite && access->bytes != full_mask_;
  }
  sink_(command);
}

}  // namespace moesaic::memory
