/// Moments of the DRAM (recurring.h): what decides what it does while a single port reads.
#include <algorithm>
#include <array>
#include <stdexcept>

#include "base/mixed.h"
#include "models/memory/dram_channel.h"
#include "models/memory/dram_memory.h"

namespace moesaic::memory {

using base::mixed;

namespace {

/// Of a burst: its row is open in its bank, no row is, another one is.
enum RowState : std::uint64_t { kOpen = 0, kClosed = 1, kOther = 2 };

RowState state_of(std::int64_t open, std::int64_t row) { return open == row ? kOpen : open < 0 ? kClosed : kOther; }

/// What became of a bank's row: none is open, one that was read, one that a write which waited wanted.
enum RowIs : std::uint64_t { kIsClosed = 1, kIsRead = 2, kIsWritten = 3 };

/// What follows in the list of what waits.
enum Waits : std::uint64_t { kNothingWaits = 0, kWriteWaits = 1, kReadWaits = 2 };

/// Of the bank or group that is `number`, clocks from now on and other counts: those that are 0 cost nothing.
template <std::size_t Count>
void put_known(std::size_t number, const std::array<std::uint64_t, Count>& values, base::VarintWriter& out) {
  std::uint64_t known = 0;
  for (std::size_t i = 0; i < Count; ++i) known |= std::uint64_t{values[i] != 0 ? 1U : 0U} << i;
  if (known == 0) return;
  out.put(number + 1);
  out.put(known);
  for (const std::uint64_t value : values)
    if (value != 0) out.put(value);
}

template <std::size_t Count>
void take_known(base::VarintReader& in, std::array<std::uint64_t, Count>& values) {
  const std::uint64_t known = in.get();
  for (std::size_t i = 0; i < Count; ++i) values[i] = (known >> i & 1) != 0 ? in.get() : 0;
}

/// Those that are 0 cost nothing.
void put_counts(const DramCounts& counts, base::VarintWriter& out) {
  std::uint64_t known = 0, bit = 1;
  for_each_count(counts, counts, [&](std::uint64_t count, std::uint64_t) {
    known |= count != 0 ? bit : 0;
    bit <<= 1;
  });
  out.put(known);
  for_each_count(counts, counts, [&out](std::uint64_t count, std::uint64_t) {
    if (count != 0) out.put(count);
  });
}

DramCounts take_counts(base::VarintReader& in) {
  DramCounts counts;
  std::uint64_t known = in.get();
  for_each_count(counts, counts, [&](std::uint64_t& count, std::uint64_t) {
    if ((known & 1) != 0) count = in.get();
    known >>= 1;
  });
  return counts;
}

// All counts are powers of two.

/// The bank that is `number` when groups are counted from `group` on and banks from `bank` on.
unsigned turned_bank(const DramConfig& config, unsigned number, unsigned group, unsigned bank) {
  const auto groups = static_cast<unsigned>(config.bank_groups), banks = static_cast<unsigned>(config.banks);
  return (((number & ~(banks - 1)) + group * banks) & (groups * banks - 1)) | ((number + bank) & (banks - 1));
}

}  // namespace

// ---- a channel ----

void DramChannel::export_clocks(std::int64_t clock, unsigned group, unsigned bank, base::VarintWriter& moment) const {
  const auto from_now = [clock](std::int64_t when) {
    return static_cast<std::uint64_t>(std::max(when - clock, std::int64_t{0}));
  };
  const auto put = [&](std::int64_t when) { moment.put(from_now(when)); };
  put(next_cmd_), put(next_rd_), put(next_wr_), put(next_act_), put(all_act_), put(all_pre_);
  for (unsigned i = 0; i < 4; ++i) put(last_acts_[(oldest_act_ + i) % 4] + config_.timing.faw);
  moment.put(
      static_cast<std::uint64_t>(std::min<std::int64_t>(phase_, std::max(config_.write_high, config_.starvation_cap))));
  moment.put((writing_ ? 1U : 0U) | (open_ != 0 ? 2U : 0U));
  const Trouble trouble = this->trouble(clock);
  moment.put(static_cast<std::uint64_t>(trouble));
  if (trouble != Trouble::kNone) moment.put(static_cast<std::uint64_t>(clock - last_due(clock)));
  if (trouble == Trouble::kHeld) moment.put_signed(readable_ - clock);
  const auto groups = static_cast<unsigned>(config_.bank_groups);
  for (unsigned number = 0; number < groups; ++number) {
    const Group& of = groups_[(number + group) & (groups - 1)];
    put_known<4>(number, {from_now(of.next_rd), from_now(of.next_act), from_now(of.next_wr), from_now(of.next_masked)},
                 moment);
  }
  moment.put(0);
  for (unsigned number = 0; number < num_banks_; ++number) {
    const unsigned actual = turned_bank(config_, number, group, bank);
    const std::uint64_t bit = std::uint64_t{1} << actual;
    if ((lively_ & bit) == 0) continue;
    const Bank& of = banks_[actual];
    const std::array<List, 2>& lists = lists_[actual];
    if (std::max(std::max(of.next_act, of.next_pre), std::max(of.next_rd, of.next_wr)) <= clock &&
        (lists[kReads].overtaken | lists[kWrites].overtaken) == 0) {
      lively_ &= ~bit;
      continue;
    }
    put_known<6>(
        number,
        {from_now(of.next_pre), from_now(of.next_act), from_now(of.next_rd), from_now(of.next_wr),
         static_cast<std::uint64_t>(lists[kReads].overtaken), static_cast<std::uint64_t>(lists[kWrites].overtaken)},
        moment);
  }
  moment.put(0);
}

std::uint64_t DramChannel::glance(std::int64_t clock, unsigned group) const {
  std::uint64_t seen = queued_[kReads] + 64 * queued_[kWrites];
  const auto see = [&seen, clock](std::int64_t when) {
    if (when > clock) seen = mixed(seen, static_cast<std::uint64_t>(when - clock));
  };
  see(next_cmd_), see(next_rd_), see(next_act_), see(all_act_), see(all_pre_);
  seen = mixed(seen, static_cast<std::uint64_t>(trouble(clock)));
  if (trouble(clock) != Trouble::kNone) seen = mixed(seen, static_cast<std::uint64_t>(clock - last_due(clock)));
  const auto groups = static_cast<unsigned>(config_.bank_groups);
  for (unsigned number = 0; number < groups; ++number) {
    see(groups_[(number + group) & (groups - 1)].next_rd);
    seen = mixed(seen, number);
  }
  return seen;
}

void DramChannel::import_clocks(std::int64_t clock, unsigned group, unsigned bank, base::VarintReader& moment) {
  pending_.clear();
  streams_ = 0;
  entries_.clear();
  free_.clear();
  for (Choices& choices : choices_) {
    choices.active = choices.columns = choices.activates = choices.closes = choices.masked = 0;
    choices.stale = all_banks_;
    choices.oldest = choices.youngest = kNone;
  }
  queued_[kReads] = queued_[kWrites] = 0;
  ready_[kReads] = ready_[kWrites] = urgent_ = 0;
  waited_for_ = open_in_ = 0;
  open_row_ = -1;
  pick_known_ = false;
  now_ = std::max(now_, clock - 1);

  const auto at = [clock](std::uint64_t from_now) { return clock + static_cast<std::int64_t>(from_now); };
  const auto take = [&] { return at(moment.get()); };
  next_cmd_ = take(), next_rd_ = take(), next_wr_ = take(), next_act_ = take(), all_act_ = take(), all_pre_ = take();
  for (unsigned i = 0; i < 4; ++i) last_acts_[(oldest_act_ + i) % 4] = take() - config_.timing.faw;
  phase_ = static_cast<int>(moment.get());
  writing_ = (moment.get() & 1) != 0;
  const auto trouble = static_cast<Trouble>(moment.get());
  if (trouble != Trouble::kNone && static_cast<std::int64_t>(moment.get()) != clock - last_due(clock))
    throw std::logic_error("DRAM: a moment of another refresh");
  if (trouble == Trouble::kHeld) readable_ = clock + moment.get_signed();
  const auto groups = static_cast<unsigned>(config_.bank_groups);
  for (unsigned number = 0; number < groups; ++number) {
    Group& of = groups_[number];
    of.next_act = of.next_rd = of.next_wr = of.next_masked = clock;
  }
  while (const std::uint64_t number = moment.get()) {
    Group& of = groups_[(static_cast<unsigned>(number - 1) + group) % groups];
    std::array<std::uint64_t, 4> known{};
    take_known(moment, known);
    of.next_rd = at(known[0]), of.next_act = at(known[1]), of.next_wr = at(known[2]), of.next_masked = at(known[3]);
  }
  lively_ = 0;
  for (unsigned number = 0; number < num_banks_; ++number) {
    Bank& of = banks_[number];
    of.next_act = of.next_pre = of.next_rd = of.next_wr = clock;
    lists_[number] = {};
  }
  while (const std::uint64_t number = moment.get()) {
    const unsigned actual = turned_bank(config_, static_cast<unsigned>(number - 1), group, bank);
    Bank& of = banks_[actual];
    lively_ |= std::uint64_t{1} << actual;
    std::array<std::uint64_t, 6> known{};
    take_known(moment, known);
    of.next_pre = at(known[0]), of.next_act = at(known[1]), of.next_rd = at(known[2]), of.next_wr = at(known[3]);
    lists_[actual][kReads].overtaken = static_cast<int>(known[4]);
    lists_[actual][kWrites].overtaken = static_cast<int>(known[5]);
  }
}

void DramChannel::list_waiting(std::vector<Waiting>& waiting) const {
  for (const Direction direction : {kWrites, kReads})
    for (std::int32_t at = choices_[direction].oldest; at != kNone; at = entry(at).younger)
      waiting.push_back({&entry(at).access, entry(at).opened, entry(at).closed, true});
  for (std::size_t i = 0; i < pending_.size(); ++i) waiting.push_back({&pending_[i], false, false, false});
}

bool DramChannel::is_plain() const {
  if (writes_pending_ != 0 || sink_) return false;
  for (const Direction direction : {kReads, kWrites})
    for (std::int32_t at = choices_[direction].oldest; at != kNone; at = entry(at).younger)
      if (entry(at).blockers != 0 || entry(at).has_waiting) return false;
  return true;
}

DramChannel::Trouble DramChannel::trouble(std::int64_t clock) const {
  if (due_ < clock) return Trouble::kDue;
  bool held = readable_ > clock || (!pending_.empty() && pending_.front().arrival < readable_);
  for (std::int32_t at = choices_[kReads].oldest; !held && at != kNone; at = entry(at).younger)
    held = entry(at).access.arrival < readable_;
  return held ? Trouble::kHeld : Trouble::kNone;
}

void DramChannel::add_waiting(const DramAccess& access, bool opened, bool closed, bool queued) {
  if (!queued) {
    pending_.push_back(access);
    return;
  }
  Entry& added = enqueue(access);
  added.opened = opened;
  added.closed = closed;
}

void DramChannel::set_row(unsigned bank, std::int64_t row) {
  banks_[bank].row = row;
  const std::uint64_t bit = std::uint64_t{1} << bank;
  open_ = row < 0 ? open_ & ~bit : open_ | bit;
}

void DramChannel::close_rows() {
  for (; open_ != 0; open_ &= open_ - 1) banks_[static_cast<std::size_t>(__builtin_ctzll(open_))].row = -1;
}

void DramChannel::add(const DramCounts& counts) {
  for_each_count(counts_, counts, [](std::uint64_t& mine, std::uint64_t more) { mine += more; });
}

void DramChannel::pass_refresh(std::int64_t clocks, const DramCounts& counts) {
  DramRefresh refresh{due_, due_ + clocks, counts_};
  for_each_count(refresh.counts, counts, [](std::uint64_t& mine, std::uint64_t more) { mine += more; });
  keep_refresh(refresh);
  due_ += config_.timing.refi;
}

// ---- the memory ----

std::uint64_t DramMemory::burst_at(unsigned channel, unsigned flat_bank, std::int64_t row, std::int32_t column) const {
  const auto banks = static_cast<unsigned>(config_.banks);
  return field_at(AddressField::kChannel, channel) | field_at(AddressField::kBankGroup, flat_bank / banks) |
         field_at(AddressField::kBank, flat_bank % banks) |
         field_at(AddressField::kRow, static_cast<std::uint64_t>(row)) |
         field_at(AddressField::kColumn, static_cast<std::uint64_t>(column));
}

unsigned DramMemory::first_channel(std::uint64_t end, unsigned i) const {
  if (!turns_) return i;
  return (static_cast<unsigned>(field_of(AddressField::kChannel, end)) + i) &
         (static_cast<unsigned>(channels_.size()) - 1);
}

unsigned DramMemory::first_group(std::uint64_t end, unsigned channel) const {
  if (!turns_) return 0;
  const auto group = static_cast<unsigned>(field_of(AddressField::kBankGroup, end));
  return channel < field_of(AddressField::kChannel, end) ? group + 1 : group;
}

/// The number of a bank when they are counted from the end on.
unsigned DramMemory::turned_back(std::uint64_t end, unsigned channel, unsigned bank) const {
  const auto groups = static_cast<unsigned>(config_.bank_groups), banks = static_cast<unsigned>(config_.banks);
  return (bank / banks + groups - first_group(end, channel) % groups) % groups * banks +
         (bank % banks + banks - bank_of(end - 1)) % banks;
}

unsigned DramMemory::turned(std::uint64_t end, unsigned channel, unsigned number) const {
  return turned_bank(config_, number, first_group(end, channel), bank_of(end - 1));
}

/// The channel's banks with an open row, a bit each, counted from the end on.
std::uint64_t DramMemory::turned_open(std::uint64_t end, unsigned channel) const {
  const auto groups = static_cast<unsigned>(config_.bank_groups), banks = static_cast<unsigned>(config_.banks);
  const std::uint64_t of_group = ~std::uint64_t{0} >> (64 - banks), open = channels_[channel].open();
  const unsigned first = first_group(end, channel), bank = bank_of(end - 1);
  std::uint64_t all = 0;
  for (unsigned group = 0; group < groups; ++group) {
    const std::uint64_t some = open >> ((group + first) & (groups - 1)) * banks & of_group;
    all |= (bank == 0 ? some : some >> bank | (some << (banks - bank) & of_group)) << group * banks;
  }
  return all;
}

/// Nothing of the port is under way, but that writes may be in a queue.
bool DramMemory::rests(Port& port, bool is_write) {
  if (!port.finish.empty() || !port.reads.empty() || port.refused != 0) return false;
  if (is_write) return true;
  for (Credits& credits : port.credits)
    if (!has_at_most(credits, 0)) return false;
  return true;
}

bool DramMemory::is_alone(unsigned number) {
  const Port& port = ports_[number][0];
  if (!port.has_last || port.refused != 0 || !port.held.empty()) return false;
  bool troubled = port.latest_held.until != 0;
  for (const DramChannel& channel : channels_) {
    if (!channel.is_plain()) return false;
    troubled = troubled || channel.trouble(horizon_) != DramChannel::Trouble::kNone;
  }
  if (troubled && port.latest != port.shown) return false;
  for (unsigned other = 0; other < 2 * ports_used_; ++other)
    if (other != 2 * number && !rests(ports_[other / 2][other % 2], other % 2 != 0)) return false;
  return true;
}

bool DramMemory::export_moment(unsigned number, Cycles now, std::string& moment) {
  if (number >= kMaxPorts) refuse_port(number);
  settle_all(now.count());
  if (!is_alone(number)) return false;
  Port& port = ports_[number][0];
  std::uint64_t row_commands = 0;
  for (const DramChannel& channel : channels_) {
    const DramCounts& counts = channel.counts();
    row_commands += counts.activates + counts.precharges + counts.precharge_alls;
  }
  if (row_commands != row_commands_) open_blocks_ = {};
  row_commands_ = row_commands;
  const std::uint64_t end = port.last_burst + 1;
  base::VarintWriter out(moment);
  out.put(static_cast<std::uint64_t>(now_ * period_ - by_clock_.floor(now_ * period_) * config_.clock_period_fs));
  if (!turns_) out.put(end & ((std::uint64_t{1} << row_shift_) - 1));
  out.put(ports_used_);
  const auto channels = static_cast<unsigned>(channels_.size());
  for (unsigned i = 0; i < channels; ++i) {
    const unsigned number_of = first_channel(end, i);
    channels_[number_of].export_clocks(horizon_, first_group(end, number_of), bank_of(end - 1), out);
    export_waiting(port, number_of, out);
    export_credits(port.credits[number_of], out);
    for (unsigned writer = 0; writer < ports_used_; ++writer) export_credits(ports_[writer][1].credits[number_of], out);
  }
  export_port(port, out);
  return note_writes();
}

std::optional<std::uint64_t> DramMemory::glance(unsigned number, Cycles now) {
  if (number >= kMaxPorts) refuse_port(number);
  settle_all(now.count());
  if (!is_alone(number)) return std::nullopt;
  const Port& port = ports_[number][0];
  const std::uint64_t end = port.last_burst + 1;
  auto seen = static_cast<std::uint64_t>(now_ * period_ - by_clock_.floor(now_ * period_) * config_.clock_period_fs);
  const auto channels = static_cast<unsigned>(channels_.size());
  for (unsigned i = 0; i < channels; ++i) {
    const unsigned number_of = first_channel(end, i);
    seen = mixed(seen, channels_[number_of].glance(horizon_, first_group(end, number_of)));
  }
  return seen;
}

/// Where the writes lie that wait; whether all reads that do lie elsewhere.
bool DramMemory::note_writes() {
  written_ = {INT64_MAX, INT64_MIN};
  const auto has_writes = [](const DramChannel& channel) { return channel.queued_writes() != 0; };
  if (std::none_of(channels_.begin(), channels_.end(), has_writes)) return true;
  for (const bool writes : {true, false})
    for (unsigned channel = 0; channel < static_cast<unsigned>(channels_.size()); ++channel) {
      waiting_.clear();
      channels_[channel].list_waiting(waiting_);
      for (const DramChannel::Waiting& one : waiting_) {
        if (one.access->is_write != writes) continue;
        const std::int64_t block =
            block_of(burst_at(channel, one.access->flat_bank, one.access->row, one.access->column));
        if (writes) {
          written_.first = std::min(written_.first, block);
          written_.last = std::max(written_.last, block);
        } else if (block >= written_.first && block <= written_.last) {
          return false;
        }
      }
    }
  return true;
}

void DramMemory::export_credits(Credits& credits, base::VarintWriter& moment) const {
  has_at_most(credits, 0);
  moment.put(static_cast<std::uint64_t>(credits.used));
  for (std::size_t i = 0; i < credits.returns.size(); ++i)
    for (std::int32_t of = 0; of < credits.returns[i].count; ++of)
      moment.put(
          static_cast<std::uint64_t>(credits.returns[i].clock + std::int64_t{of} * credits.returns[i].clocks - seen_));
  moment.put(0);
}

void DramMemory::import_credits(Credits& credits, base::VarintReader& moment) const {
  credits.used = static_cast<std::int64_t>(moment.get());
  credits.returns.clear();
  while (const std::uint64_t clock = moment.get())
    credits.returns.push_back({seen_ + static_cast<std::int64_t>(clock), 0, 1});
}

/// What waits. Writes: in which bank, whether they are masked, which of those before in their bank is for the same row;
/// where they lie, the memory itself knows. Reads: how far before the end they lie, their numbers, when they arrive or,
/// where a refresh holds them up, arrived.
void DramMemory::export_waiting(const Port& port, unsigned channel, base::VarintWriter& moment) {
  const DramChannel& of = channels_[channel];
  const std::uint64_t end = port.last_burst + 1;
  const bool troubled = of.trouble(horizon_) != DramChannel::Trouble::kNone;
  const std::int64_t earliest = troubled ? of.last_due(horizon_) : horizon_;
  waiting_.clear();
  of.list_waiting(waiting_);
  for (std::size_t w = 0; w < waiting_.size(); ++w) {
    const DramChannel::Waiting& one = waiting_[w];
    const DramAccess& access = *one.access;
    const std::uint64_t flags = (one.queued ? 1U : 0U) | (one.opened ? 2U : 0U) | (one.closed ? 4U : 0U);
    if (access.is_write) {
      std::size_t same = 0;
      while (waiting_[same].access->row != access.row || waiting_[same].access->flat_bank != access.flat_bank) ++same;
      moment.put(kWriteWaits);
      moment.put(flags | state_of(of.row(access.flat_bank), access.row) << 3 |
                 (access.bytes == full_burst_ ? 32U : 0U));
      moment.put(turned_back(end, channel, access.flat_bank));
      moment.put(same);
      moment.put(access.port);
      continue;
    }
    for (std::int32_t i = 0; i < access.count; ++i) {
      const auto bank = static_cast<unsigned>(access.flat_bank + i * access.banks);
      const std::uint64_t burst = burst_at(channel, bank, access.row, access.column);
      moment.put(kReadWaits);
      moment.put_signed(static_cast<std::int64_t>(end - burst));  // a port may have gone back since
      moment.put(static_cast<std::uint64_t>(access.number + std::int64_t{i} * access.numbers - port.next_done));
      moment.put(flags | state_of(of.row(bank), access.row) << 3);
      moment.put_signed(block_of(end - 1) - block_of(burst));
      moment.put_signed(std::max(access.arrival, earliest) - horizon_);
    }
  }
  moment.put(kNothingWaits);
}

void DramMemory::import_waiting(unsigned number, unsigned channel, base::VarintReader& moment) {
  DramChannel& of = channels_[channel];
  const std::uint64_t end = ports_[number][0].last_burst + 1;
  std::size_t write = 0;
  while (const std::uint64_t what = moment.get()) {
    if (what == kWriteWaits) {
      const std::uint64_t flags = moment.get();
      for (int i = 0; i < 3; ++i) moment.get();  // the memory itself knows
      of.add_waiting(writes_[channel][write++], (flags & 2) != 0, (flags & 4) != 0, true);
      continue;
    }
    const Place place = place_of(end - static_cast<std::uint64_t>(moment.get_signed()));
    DramAccess read;
    read.row = place.row;
    read.column = place.column;
    read.flat_bank = place.flat_bank;
    read.port = static_cast<std::uint8_t>(number);
    read.number = ports_[number][0].next_done + static_cast<std::int64_t>(moment.get());
    const std::uint64_t flags = moment.get();
    moment.get_signed();  // follows from where it lies
    read.arrival = horizon_ + moment.get_signed();
    of.add_waiting(read, (flags & 2) != 0, (flags & 4) != 0, (flags & 1) != 0);
  }
}

/// The writes that wait in a channel, the oldest first.
void DramMemory::list_writes(unsigned channel, std::vector<DramAccess>& writes) {
  writes.clear();
  if (channels_[channel].queued_writes() == 0) return;  // none is still to arrive: is_plain()
  waiting_.clear();
  channels_[channel].list_waiting(waiting_);
  for (const DramChannel::Waiting& one : waiting_)
    if (one.access->is_write) writes.push_back(*one.access);
}

/// A clock such that what a refresh holds up does not depend on whether the port's last beat was there then or earlier.
std::int64_t DramMemory::held_floor() const {
  std::int64_t from = horizon_;
  for (const DramChannel& channel : channels_)
    if (channel.trouble(horizon_) != DramChannel::Trouble::kNone) from = std::min(from, channel.last_due(horizon_));
  return std::min(from + read_clocks_, horizon_ - 1);
}

void DramMemory::export_port(const Port& port, base::VarintWriter& moment) const {
  moment.put_signed(std::max(port.latest, held_floor()) - horizon_);
  for (std::size_t i = 0; i < port.reads.size(); ++i) {
    const Read& read = port.reads[i];
    const std::int64_t done = read.done == kUnknown ? 1
                              : read.done == kThere ? 2
                                                    : 3 + std::max(read.done - horizon_, std::int64_t{0});
    moment.put(static_cast<std::uint64_t>(done));
    moment.put(static_cast<std::uint64_t>(std::max(read.arrival - horizon_, std::int64_t{0})));
    moment.put(static_cast<std::uint64_t>(read.beats));
  }
  moment.put(0);
  std::int64_t there = 0;
  std::size_t i = 0;
  for (; i < port.finish.size() && port.finish[i].cycle <= now_; ++i) there += port.finish[i].beats;
  moment.put(static_cast<std::uint64_t>(there));
  for (; i < port.finish.size(); ++i) {
    moment.put(static_cast<std::uint64_t>(port.finish[i].cycle - now_));
    moment.put(static_cast<std::uint64_t>(port.finish[i].beats));
  }
  moment.put(0);
}

void DramMemory::import_moment(unsigned number, Cycles now, std::string_view moment) {
  enter(now.count());
  Port& port = port_of(number, false);
  const std::uint64_t end = port.last_burst + 1;
  port.has_last = true;
  base::VarintReader in(moment);
  in.get();
  if (!turns_) in.get();
  const auto writers = static_cast<unsigned>(in.get());  // there may be more now
  const auto channels = static_cast<unsigned>(channels_.size());
  for (unsigned i = 0; i < channels; ++i) {
    const unsigned number_of = first_channel(end, i);
    channels_[number_of].import_clocks(horizon_, first_group(end, number_of), bank_of(end - 1), in);
    import_waiting(number, number_of, in);
    import_credits(port.credits[number_of], in);
    for (unsigned writer = 0; writer < writers; ++writer) import_credits(ports_[writer][1].credits[number_of], in);
  }
  import_port(number, in);
  away_ = false;
  busy_ |= 1U << (2 * number);
  wake_ = DramChannel::kNever;
  for (unsigned channel = 0; channel < channels; ++channel) {
    wakes_[channel] = channels_[channel].next_event();
    wake_ = std::min(wake_, wakes_[channel]);
  }
}

void DramMemory::import_port(unsigned number, base::VarintReader& moment) {
  Port& port = ports_[number][0];
  port.latest = port.shown = horizon_ + moment.get_signed();
  port.shown_at = to_core(port.shown);
  port.latest_held = HeldAccess{};
  port.reads.clear();
  while (const std::uint64_t done = moment.get()) {
    Read& read = port.reads.append();
    read.done = done == 1 ? kUnknown : done == 2 ? kThere : horizon_ + static_cast<std::int64_t>(done) - 3;
    read.arrival = horizon_ + static_cast<std::int64_t>(moment.get());
    read.beats = static_cast<std::int64_t>(moment.get());
  }
  port.next_number = port.next_done + static_cast<std::int64_t>(port.reads.size());
  port.finish.clear();
  port.ripe = 0;
  port.finished = 0;
  if (const std::uint64_t there = moment.get()) port.push(now_, static_cast<std::int64_t>(there));
  while (const std::uint64_t cycle = moment.get())
    port.push(now_ + static_cast<std::int64_t>(cycle), static_cast<std::int64_t>(moment.get()));
}

/// Whether all of a block is in open rows.
bool DramMemory::is_row_open(std::int64_t block) {
  if (is_known_open(block)) return true;
  const std::uint64_t burst = static_cast<std::uint64_t>(block) << row_shift_;
  const auto row = static_cast<std::int64_t>(field_of(AddressField::kRow, burst));
  const auto banks = static_cast<unsigned>(config_.banks), all = static_cast<unsigned>(config_.banks_per_channel());
  for (const DramChannel& channel : channels_)
    for (unsigned bank = bank_of(burst); bank < all; bank += banks)
      if (channel.row(bank) != row) return false;
  open_blocks_[static_cast<std::size_t>(block) % kOpenBlocks] = block + 1;
  return true;
}

/// RowState of each burst, all of which lie in one block, behind `rows`.
std::uint64_t DramMemory::add_rows(std::uint64_t rows, std::uint64_t first, std::uint64_t last, bool at_mark) const {
  const auto row = static_cast<std::int64_t>(field_of(AddressField::kRow, first));
  const auto banks = static_cast<unsigned>(config_.banks);
  const unsigned bank = bank_of(first);
  const std::int64_t* const then = mark_.rows.data();
  for (std::uint64_t burst = first; burst <= last; ++burst) {
    const unsigned channel = channel_of(burst);
    const unsigned flat = static_cast<unsigned>(field_of(AddressField::kBankGroup, burst)) * banks + bank;
    const std::int64_t open = at_mark ? then[channel * static_cast<std::size_t>(config_.banks_per_channel()) + flat]
                                      : channels_[channel].row(flat);
    rows = rows << 2 | state_of(open, row);
  }
  return rows;
}

std::uint64_t DramMemory::plain_until(unsigned number) {
  const std::int64_t block = block_of(ports_[number][0].last_burst);
  if (place_bits_ > 32 || (block >= written_.first && block <= written_.last) || !is_row_open(block))
    return end(number);
  return static_cast<std::uint64_t>(block + 1) << (row_shift_ + burst_shift_);
}

std::optional<DramMemory::Pattern> DramMemory::pattern(std::uint64_t origin, std::uint64_t end, std::uint64_t address,
                                                       std::uint64_t bytes, bool at_mark) {
  constexpr std::uint64_t kMostBursts = 32;
  const std::uint64_t first = address >> burst_shift_, last = (address + bytes - 1) >> burst_shift_,
                      before = (end >> burst_shift_) - 1;
  if (place_bits_ > 32 || last - first >= kMostBursts || block_of(last) - block_of(first) > 1) return std::nullopt;
  const Written& written = at_mark ? mark_.written : written_;
  if (block_of(last) >= written.first && block_of(first) <= written.last) return std::nullopt;
  Pattern pattern;
  const unsigned alike = (turns_ ? stripe_shift_ : row_shift_) + burst_shift_;
  const auto banks = static_cast<unsigned>(config_.banks);
  pattern.exact = address - end;
  std::uint64_t place = pattern.exact & ((std::uint64_t{1} << alike) - 1);
  place = place * banks + ((bank_of(first) - bank_of(before)) & (banks - 1));
  place = place * banks + ((bank_of(last) - bank_of(before)) & (banks - 1));
  place = place * 2 + (first == before ? 1 : 0);
  pattern.place = static_cast<std::uint32_t>(place);
  // Which rows are opened, from where the reading began; and how many of the bursts are in the first of two blocks.
  const std::int64_t blocks = block_of(first) - block_of((origin >> burst_shift_) - 1);
  const std::uint64_t in_first =
      block_of(first) == block_of(last) ? 0 : (static_cast<std::uint64_t>(block_of(last)) << row_shift_) - first;
  constexpr std::int64_t kMostBlocks = std::int64_t{1} << 24;
  const bool is_far = blocks >= kMostBlocks || blocks < -kMostBlocks;
  pattern.blocks =
      is_far ? Pattern::kFar : static_cast<std::uint32_t>(blocks) << 6 | static_cast<std::uint32_t>(in_first);
  if (!at_mark && is_known_open(block_of(first)) && is_known_open(block_of(last))) return pattern;
  const std::uint64_t end_of_first = in_first == 0 ? last + 1 : first + in_first;
  pattern.rows = add_rows(0, first, end_of_first - 1, at_mark);
  pattern.rows = add_rows(pattern.rows, end_of_first, last, at_mark);
  return pattern;
}

/// All refreshes are due at multiples of tREFI.
std::int64_t DramMemory::until_refresh(Cycles now) const {
  const std::int64_t clock = to_dram(now.count()), every = config_.timing.refi;
  return (clock + every - 1) / every * every - clock;
}

Cycles DramMemory::undisturbed_until(Cycles now) const {
  const std::int64_t due = to_dram(now.count()) + until_refresh(now);
  // The last cycle c with to_dram(c) <= due.
  return Cycles(by_period_.floor((due - kSynchroniserCycles) * config_.clock_period_fs));
}

std::uint64_t DramMemory::owed(unsigned number) const {
  const Port& port = ports_[number][0];
  std::int64_t beats = 0;
  for (std::size_t i = 0; i < port.reads.size(); ++i) beats += port.reads[i].beats;
  for (std::size_t i = 0; i < port.finish.size(); ++i) beats += port.finish[i].beats;
  return static_cast<std::uint64_t>(beats);
}

void DramMemory::mark(unsigned number, Cycles now) {
  mark_.now = now.count();
  mark_.held.clear();
  mark_.stands = true;
  mark_.end = ports_[number][0].last_burst + 1;
  mark_.read_beats = read_beats_;
  mark_.read_bytes = read_bytes_;
  mark_.written = written_;
  mark_.counts.clear();
  mark_.rows.clear();
  mark_.writes.resize(channels_.size());
  for (unsigned number_of = 0; number_of < static_cast<unsigned>(channels_.size()); ++number_of) {
    const DramChannel& channel = channels_[number_of];
    mark_.counts.push_back(channel.counts());
    for (unsigned bank = 0; bank < static_cast<unsigned>(config_.banks_per_channel()); ++bank)
      mark_.rows.push_back(channel.row(bank));
    list_writes(number_of, mark_.writes[number_of]);
  }
}

/// Channels are counted from the reading's end on. Of each first the reads and how many found their row open, which is
/// all that most stretches have.
std::optional<DramMemory::Stretch> DramMemory::stretch(std::string& what) {
  if (!mark_.stands) return std::nullopt;
  mark_.stands = false;
  base::VarintWriter out(what);
  Stretch stretch;
  bool more = !mark_.held.empty(), twice = false;
  out.put_signed(held_known_until() - mark_.now);
  out.put(read_beats_ - mark_.read_beats);
  out.put(read_bytes_ - mark_.read_bytes);
  const auto channels = static_cast<unsigned>(channels_.size());
  for (unsigned i = 0; i < channels; ++i) {
    const unsigned number = first_channel(mark_.end, i);
    DramCounts counts = channels_[number].counts();
    for_each_count(counts, mark_.counts[number], [](std::uint64_t& mine, std::uint64_t before) { mine -= before; });
    out.put(counts.reads);
    out.put(counts.row_hits);
    counts.reads = counts.row_hits = 0;
    twice = twice || counts.refreshes > 1;
    stretch.closes = stretch.closes || counts.precharge_alls + counts.refreshes != 0;
    for_each_count(counts, counts, [&more](std::uint64_t& count, std::uint64_t) { more = more || count != 0; });
    waiting_.clear();
    channels_[number].list_waiting(waiting_);
    for (const DramChannel::Waiting& one : waiting_) stretch.waits = stretch.waits || !one.access->is_write;
  }
  if (twice) return std::nullopt;
  if (!more) return stretch;
  for (unsigned i = 0; i < channels; ++i) put_changes(i, out);
  for (const Held& held : mark_.held) {
    out.put_signed(held.begin.count() - mark_.now);
    out.put_signed(held.end.count() - mark_.now);
  }
  return stretch;
}

/// Of each channel whether the refresh had to close banks, and which were open before, counted as banks of a moment.
void DramMemory::export_open(std::string& open) const {
  base::VarintWriter out(open);
  const auto banks = static_cast<unsigned>(config_.banks_per_channel());
  for (unsigned i = 0; i < static_cast<unsigned>(channels_.size()); ++i) {
    const unsigned number = first_channel(mark_.end, i);
    const DramCounts &counts = channels_[number].counts(), &before = mark_.counts[number];
    bool is_open = false;  // now
    std::uint64_t mask = 0;
    for (unsigned turned_number = 0; turned_number < banks; ++turned_number) {
      const unsigned bank = turned(mark_.end, number, turned_number);
      is_open = is_open || channels_[number].row(bank) >= 0;
      if (mark_.rows[number * std::size_t{banks} + bank] >= 0) mask |= std::uint64_t{1} << turned_number;
    }
    const bool closes =
        counts.precharge_alls != before.precharge_alls || (counts.refreshes == before.refreshes && is_open);
    out.put(closes ? 1 : 0);
    out.put(mask);
  }
}

bool DramMemory::is_open_alike(unsigned number, std::string_view open) const {
  base::VarintReader in(open);
  const std::uint64_t end = ports_[number][0].last_burst + 1;
  for (unsigned i = 0; i < static_cast<unsigned>(channels_.size()); ++i) {
    const unsigned channel = first_channel(end, i);
    const bool closes = in.get() != 0;
    const std::uint64_t then = in.get(), now = turned_open(end, channel);
    if (closes ? (then & ~now) != 0 : then != now) return false;
  }
  return true;
}

/// Of a channel: its counts but those of reads, and how far they were at a refresh; rows that are open in the end and
/// were not, or the other way; of the writes that waited those that were done, the last first.
void DramMemory::put_changes(unsigned i, base::VarintWriter& out) {
  const unsigned number = first_channel(mark_.end, i);
  const DramChannel& channel = channels_[number];
  DramCounts counts = channel.counts();
  for_each_count(counts, mark_.counts[number], [](std::uint64_t& mine, std::uint64_t before) { mine -= before; });
  counts.reads = counts.row_hits = 0;
  put_counts(counts, out);
  if (counts.refreshes != 0) {
    DramRefresh refresh = channel.last_refresh();
    for_each_count(refresh.counts, mark_.counts[number],
                   [](std::uint64_t& mine, std::uint64_t before) { mine -= before; });
    out.put(static_cast<std::uint64_t>(refresh.open - refresh.due));
    put_counts(refresh.counts, out);
  }
  const bool closed = counts.precharge_alls + counts.refreshes != 0;  // all rows were
  const std::vector<DramAccess>& writes = mark_.writes[number];
  rows_.clear();
  const auto banks = static_cast<unsigned>(config_.banks_per_channel());
  for (unsigned turned_number = 0; turned_number < banks; ++turned_number) {
    const unsigned bank = turned(mark_.end, number, turned_number);
    const std::int64_t before = mark_.rows[number * std::size_t{banks} + bank], row = channel.row(bank);
    if (closed ? row < 0 : row == before) continue;
    const auto write = std::find_if(writes.begin(), writes.end(),
                                    [&](const DramAccess& one) { return one.flat_bank == bank && one.row == row; });
    const RowIs is = row < 0 ? kIsClosed : write != writes.end() ? kIsWritten : kIsRead;
    std::int64_t which = 0;
    if (is == kIsWritten) which = write - writes.begin();
    if (is == kIsRead) which = block_of(burst_at(number, bank, row, 0)) - block_of(mark_.end - 1);
    const auto same = std::find_if(rows_.begin(), rows_.end(),
                                   [&](const Rows& known) { return known.is == is && known.which == which; });
    if (same == rows_.end())
      rows_.push_back({is, which, std::uint64_t{1} << turned_number});
    else
      same->banks |= std::uint64_t{1} << turned_number;
  }
  for (const Rows& rows : rows_) {
    out.put(rows.is);
    out.put_signed(rows.which);
    out.put(rows.banks);
  }
  out.put(0);
  waiting_.clear();
  channel.list_waiting(waiting_);
  for (std::size_t w = writes.size(); w-- > 0;) {
    const auto is_same = [&](const DramChannel::Waiting& one) {
      return one.access->is_write && one.access->port == writes[w].port && one.access->number == writes[w].number;
    };
    if (std::none_of(waiting_.begin(), waiting_.end(), is_same)) out.put(w + 1);
  }
  out.put(0);
}

bool DramMemory::pass(unsigned number, const Stretch& stretch, std::uint64_t end_address, Cycles now) {
  Port& port = ports_[number][0];
  const std::uint64_t end = port.last_burst + 1;
  if (!away_) {
    away_ = true;
    writes_.resize(channels_.size());
    for (unsigned channel = 0; channel < static_cast<unsigned>(channels_.size()); ++channel)
      list_writes(channel, writes_[channel]);
  }
  base::VarintReader in(stretch.what);
  away_held_ = now.count() + in.get_signed();
  read_beats_ += in.get();
  read_bytes_ += in.get();
  const auto channels = static_cast<unsigned>(channels_.size());
  base::VarintReader counts = in;
  for (unsigned i = 0; i < 2 * channels; ++i) in.get();
  const bool changes = !in.is_over();
  if (changes) {
    open_blocks_ = {};
    for (unsigned i = 0; i < channels; ++i) pass_changes(end, first_channel(end, i), in);
    while (!in.is_over()) {
      const Cycles begin = now + Cycles(in.get_signed());
      held_.push_back({number, begin, now + Cycles(in.get_signed())});
    }
  }
  for (unsigned i = 0; i < channels; ++i) {  // behind what a refresh must not see yet
    const std::uint64_t reads = counts.get();
    channels_[first_channel(end, i)].add_reads(reads, counts.get());
  }
  port.last_burst = (end_address >> burst_shift_) - 1;
  return changes;
}

void DramMemory::pass_changes(std::uint64_t end, unsigned channel, base::VarintReader& in) {
  const DramCounts counts = take_counts(in);
  if (counts.refreshes != 0) {
    const auto clocks = static_cast<std::int64_t>(in.get());
    channels_[channel].pass_refresh(clocks, take_counts(in));
  }
  if (counts.precharge_alls + counts.refreshes != 0) channels_[channel].close_rows();
  channels_[channel].add(counts);
  const unsigned first = first_group(end, channel), first_bank = bank_of(end - 1);
  while (const std::uint64_t is = in.get()) {
    const std::int64_t which = in.get_signed();
    std::int64_t open = -1;
    if (is == kIsWritten) open = writes_[channel][static_cast<std::size_t>(which)].row;
    if (is == kIsRead)
      open = static_cast<std::int64_t>(
          field_of(AddressField::kRow, static_cast<std::uint64_t>(block_of(end - 1) + which) << row_shift_));
    for (std::uint64_t banks = in.get(); banks != 0; banks &= banks - 1)
      channels_[channel].set_row(turned_bank(config_, static_cast<unsigned>(__builtin_ctzll(banks)), first, first_bank),
                                 open);
  }
  while (const std::uint64_t which = in.get())
    writes_[channel].erase(writes_[channel].begin() + static_cast<std::ptrdiff_t>(which - 1));
}

}  // namespace moesaic::memory
