#pragma once
/// One DRAM channel and its controller: open-page FR-FCFS with bounded overtaking, write drain by watermarks, all-bank
/// refresh that is never postponed. Time is the DRAM clock; the policy is written down in docs/memory.md.
/// Event-driven: run() jumps from command to command, and a command makes only those banks choose anew that it touched.
/// What is issued before clock t depends on nothing but the accesses that arrive up to t: run() may be called as seldom
/// or as often as one likes.
#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/varint.h"
#include "models/memory/dram_command.h"
#include "models/memory/dram_config.h"
#include "models/memory/ring.h"

namespace moesaic::memory {

// What lies in arrays has a power of two as its size: it is found without a multiplication.

/// A burst that the controller is asked for, or several that are read one behind the other.
struct alignas(64) DramAccess {
  std::int64_t arrival = 0;  ///< clock; accesses are given in this order
  std::int64_t row = 0;
  std::uint64_t bytes = 0;  ///< writes: bit i is byte i of the burst
  std::int64_t number = 0;  ///< the port's own, for DramOutcome
  std::int32_t column = 0;
  std::int32_t count = 1;      ///< bursts; of the next one the number and the bank are greater by
  std::int32_t numbers = 0;    ///< so much
  std::uint8_t banks = 0;      ///< and so much
  std::uint8_t flat_bank = 0;  ///< group * banks + bank
  std::uint8_t port = 0;
  bool is_write = false;
  bool may_join = false;  ///< writes: the port's last write beat was in the same burst
};

/// An access left its queue, or several that were read one behind the other.
struct alignas(64) DramOutcome {
  std::int64_t number = 0;
  std::int64_t released = 0;  ///< clock at which its place in the queue became free; of a read the clock of its RD
  std::int32_t count = 1;     ///< bursts; of the next one the number and the clock are greater by
  std::int32_t numbers = 0;   ///< so much
  std::int32_t clocks = 0;    ///< and so much
  /// Reads that a refresh held up: the first clock at which it did, and the first at which a row opened after the
  /// refresh could be read. Else the latter is 0.
  std::int64_t held_from = 0, held_until = 0;
  std::uint8_t port = 0;
  bool is_write = false;
};

/// Counts of one channel; clocks are DRAM clocks.
struct DramCounts {
  std::uint64_t activates = 0, precharges = 0, precharge_alls = 0, reads = 0, writes = 0, masked_writes = 0,
                refreshes = 0;
  std::uint64_t row_hits = 0;        ///< the row was open when its turn came
  std::uint64_t row_misses = 0;      ///< the bank was closed
  std::uint64_t row_conflicts = 0;   ///< another row had to be closed first
  std::uint64_t joined_writes = 0;   ///< write beats that went into a queued access
  std::uint64_t refresh_clocks = 0;  ///< from a refresh's due clock until banks may be opened again
};

/// visit(a's, b's) on every count of two.
template <class Counts, class Others, class Visit>
void for_each_count(Counts& a, Others& b, const Visit& visit) {
  visit(a.activates, b.activates), visit(a.precharges, b.precharges), visit(a.precharge_alls, b.precharge_alls);
  visit(a.reads, b.reads), visit(a.writes, b.writes), visit(a.masked_writes, b.masked_writes);
  visit(a.refreshes, b.refreshes), visit(a.row_hits, b.row_hits), visit(a.row_misses, b.row_misses);
  visit(a.row_conflicts, b.row_conflicts), visit(a.joined_writes, b.joined_writes);
  visit(a.refresh_clocks, b.refresh_clocks);
}

/// A refresh, and what its channel had done at its end.
struct DramRefresh {
  std::int64_t due = 0, open = 0;  ///< clocks: when it was due, when banks might be opened again
  DramCounts counts;
};

class DramChannel {
 public:
  /// Keeps at most so many refreshes, which are 2 or more.
  DramChannel(const DramConfig& config, unsigned index, std::size_t most_refreshes = 32);

  /// Returns a clock before which the access can cause no outcome.
  std::int64_t arrive(const DramAccess& access) {
    announce() = access;
    return arrive();
  }
  /// The same of an access that the caller fills in where it will lie, every field of it.
  DramAccess& announce() { return pending_.append(); }
  std::int64_t arrive() {
    const DramAccess& access = pending_.back();
    if (access.is_write) {
      ++writes_pending_;
      joins_pending_ += access.may_join ? 1 : 0;
    }
    return first_outcome(access.arrival);
  }
  /// Everything that happens at clocks < `until`; outcomes are appended in order of `released`.
  void run(std::int64_t until, std::vector<DramOutcome>& outcomes);
  /// No outcome that is not known yet is released before this clock; kNever without work. May be early.
  std::int64_t next_event();
  static constexpr std::int64_t kNever = INT64_MAX;

  const DramCounts& counts() const { return counts_; }
  /// Refreshes number every(), 2 * every(), …; every() doubles when there is no room for more.
  const std::vector<DramRefresh>& refreshes() const { return refreshes_; }
  std::uint64_t every() const { return every_; }
  std::uint64_t queued_writes() const { return queued_[1]; }

  // ---- moments (recurring.h): dram_moment.cpp ----

  /// No write is still to arrive, no access waits for another; and there is nobody who wants to know every command.
  bool is_plain() const;
  /// What a refresh has to do with what waits at `clock`.
  enum class Trouble : std::uint8_t { kNone, kDue, kHeld };  ///< kDue: one is not over; kHeld: one held something up
  Trouble trouble(std::int64_t clock) const;
  /// When the refresh was due that is the trouble.
  std::int64_t last_due(std::int64_t clock) const { return due_ < clock ? due_ : due_ - config_.timing.refi; }
  /// Clocks relative to `clock`, before which all has happened; groups are counted from `group` on, banks from `bank`
  /// on. What waits is not in it.
  void export_clocks(std::int64_t clock, unsigned group, unsigned bank, base::VarintWriter& moment) const;
  /// A number that follows from what export_clocks() appends, and from how much waits.
  std::uint64_t glance(std::int64_t clock, unsigned group) const;
  /// Becomes that, with nothing waiting.
  void import_clocks(std::int64_t clock, unsigned group, unsigned bank, base::VarintReader& moment);
  struct Waiting {
    const DramAccess* access = nullptr;
    bool opened = false, closed = false;  ///< a row was, for it
    bool queued = false;                  ///< or is still to arrive
  };
  /// Appends all that waits, writes first, each the oldest first.
  void list_waiting(std::vector<Waiting>& waiting) const;
  /// Puts an access of one burst in the queue, or a read where it waits to arrive. The oldest first.
  void add_waiting(const DramAccess& access, bool opened, bool closed, bool queued);
  const DramRefresh& last_refresh() const { return last_refresh_; }
  std::int64_t row(unsigned bank) const { return banks_[bank].row; }
  std::uint64_t open() const { return open_; }  ///< banks with an open row, a bit each
  /// What happened elsewhere in the same way: a row of a bank is open or, with -1, none; more was counted.
  void set_row(unsigned bank, std::int64_t row);
  void add(const DramCounts& counts);
  /// The refresh that is due next happened elsewhere: all rows were closed; after so many clocks banks might be opened
  /// again, when so much more had been counted.
  void pass_refresh(std::int64_t clocks, const DramCounts& counts);
  void close_rows();
  void add_reads(std::uint64_t reads, std::uint64_t row_hits) {
    counts_.reads += reads;
    counts_.row_hits += row_hits;
  }

  /// Called with every command, in order.
  void trace(std::function<void(const DramCommand&)> sink) { sink_ = std::move(sink); }

 private:
  static constexpr std::int32_t kNone = -1;
  enum Direction : unsigned { kReads = 0, kWrites = 1 };
  struct alignas(128) Entry {
    std::int32_t before = kNone, after = kNone;   // in its bank's list, oldest first
    std::int32_t older = kNone, younger = kNone;  // of all queued in its direction
    std::uint64_t age = 0;
    DramAccess access;
    int blockers = 0;                     // older accesses to the same burst that must go first
    bool has_waiting = false;             // somebody is blocked by this one
    bool urgent = false;                  // a write that a read is blocked by
    bool opened = false, closed = false;  // a row was opened, closed for it
  };
  struct List {
    std::int32_t first = kNone, last = kNone;
    int ready = 0;      // entries without blockers
    int hits = 0;       // of these, to the open row
    int overtaken = 0;  // row hits since the oldest ready entry is waiting for another row
  };
  static constexpr std::size_t kMostBanks = 64;  // of a channel: a bit each
  struct alignas(64) Bank {
    std::int64_t next_act = 0, next_pre = 0, next_rd = 0, next_wr = 0;
    std::int64_t row = -1;  // open row
  };
  struct Group {
    std::int64_t next_act = 0, next_rd = 0, next_wr = 0, next_masked = 0;
  };
  /// What a bank would do next in one direction, and the clock before which the bank itself does not allow it.
  struct alignas(32) Choice {
    std::int64_t clock = 0;
    std::uint64_t age = 0;
    std::int32_t entry = kNone;
  };
  /// The banks' choices in one direction, and sets of banks, a bit each.
  struct Choices {
    std::array<Choice, kMostBanks> of;                     // by bank
    std::uint64_t active = 0;                              // have ready entries
    std::uint64_t stale = 0;                               // choose again before looking
    std::uint64_t columns = 0, activates = 0, closes = 0;  // what those that are not stale would do
    std::uint64_t masked = 0;                              // columns that are masked writes
    std::int32_t oldest = kNone, youngest = kNone;         // of all queued accesses
  };
  /// The next command, if nothing arrives before.
  struct Pick {
    std::int64_t clock = kNever;
    std::uint64_t age = 0;
    DramCommandKind kind = DramCommandKind::kRefresh;
    std::int32_t entry = kNone;
    unsigned bank = 0;
    std::int64_t column = kNever;  // clock of the first column command
  };

  /// Of accesses that arrive at `arrival` or later: a write that joins leaves on arrival, others with a RD or WR.
  std::int64_t first_outcome(std::int64_t arrival) const {
    if (joins_pending_ > 0) return arrival;
    const bool reads_only = writes_pending_ + static_cast<std::int64_t>(queued_[kWrites]) == 0;
    return std::max(std::max(arrival, next_cmd_), reads_only ? next_rd_ : std::min(next_rd_, next_wr_));
  }
  Direction mode() const { return writing_ ? kWrites : kReads; }
  Entry& entry(std::int32_t at) { return entries_[static_cast<std::size_t>(at)]; }
  const Entry& entry(std::int32_t at) const { return entries_[static_cast<std::size_t>(at)]; }
  inline std::int32_t first_ready(const List& list) const;
  inline std::int32_t first_hit(std::int64_t row, const List& list) const;
  void choose(unsigned bank, Direction direction);
  inline std::int64_t column_clock(unsigned bank, std::int64_t floor) const;
  inline void forget_choices(std::uint64_t banks);
  inline bool pick_oldest(std::int64_t floor);
  inline void pick_columns();
  inline void pick_rows();
  inline void pick_only(unsigned bank);
  void pick_refresh();
  void find_pick();
  void pick() {
    if (!pick_known_) find_pick();
  }
  inline bool may_stream() const;
  bool stream(std::int64_t until, std::vector<DramOutcome>& outcomes);
  void stream_at_once(std::int64_t until, std::vector<DramOutcome>& outcomes);
  /// Reads of open rows of banks for which nothing is queued.
  bool streams(const DramAccess& access) {
    if (access.is_write) return false;
    const std::uint64_t banks = turns_[static_cast<std::size_t>(access.count)] << access.flat_bank;
    return (access.row == open_row_ && (banks & ~open_in_) == 0) || finds_open(access.row, banks);
  }
  bool finds_open(std::int64_t row, std::uint64_t banks);
  /// The first burst of the first access that is to come leaves pending_.
  void pop_pending() {
    DramAccess& access = pending_.front();
    if (--access.count == 0) return pending_.pop_front();
    access.number += access.numbers;
    access.flat_bank = static_cast<std::uint8_t>(access.flat_bank + access.banks);
  }
  inline bool stands(const Pick& pick, std::uint32_t group, std::int64_t clock) const;
  std::uint32_t group_of(unsigned bank) const { return bank >> group_shift_; }
  inline std::int64_t column_clock(const DramAccess& read, std::int64_t floor) const;
  inline void note_read(unsigned bank, std::int64_t clock);
  inline void finish_read(const DramAccess& read, std::int64_t clock, std::vector<DramOutcome>& outcomes) const;
  inline void hold(const DramAccess& read, DramOutcome& outcome) const;
  inline static void finish_write(const DramAccess& write, std::int64_t clock, std::vector<DramOutcome>& outcomes);
  inline void take_arrival(std::vector<DramOutcome>& outcomes);
  Entry& enqueue(const DramAccess& access);
  bool join(const DramAccess& access, std::vector<DramOutcome>& outcomes);
  inline void block(Entry& added);
  inline void block_behind(const List& list, Entry& added);
  void unblock_waiting(const Entry& issued);
  inline void make_ready(const Entry& ready);
  inline void issue(const Pick& pick, std::vector<DramOutcome>& outcomes);
  inline void issue_column(const Pick& pick, std::vector<DramOutcome>& outcomes);
  void activate(const Pick& pick);
  void precharge(const Pick& pick);
  void precharge_all(std::int64_t clock);
  void refresh(std::int64_t clock);
  void keep_refresh(const DramRefresh& refresh);
  inline void update_mode();
  void report(const Pick& pick) const;
  void report(DramCommandKind kind, std::int64_t clock, unsigned bank, const DramAccess* access) const;
  static bool same_burst(const DramAccess& a, const DramAccess& b) { return a.row == b.row && a.column == b.column; }

  DramConfig config_;
  unsigned index_;
  std::int64_t burst_;
  std::uint64_t full_mask_;
  unsigned group_shift_;       // from a bank's number to its group's
  std::int64_t first_column_;  // from an ACT to the first RD or WR
  std::int64_t apart_;         // from an RD to the first command that it cannot delay
  std::size_t num_banks_;
  std::array<Bank, kMostBanks> banks_{};
  std::array<std::array<List, 2>, kMostBanks> lists_{};  // of the banks
  std::array<Group, kMostBanks> groups_{};
  std::uint64_t all_banks_;
  std::int64_t next_act_ = 0, next_rd_ = 0, next_wr_ = 0, next_cmd_ = 0;  // of the channel
  std::int64_t last_acts_[4];                                             // a ring: the fourth last is the next to go
  unsigned oldest_act_ = 0;
  std::int64_t due_;                        // of the next refresh
  std::int64_t readable_ = 0;               // when a row opened after the last refresh could first be read
  std::uint64_t open_ = 0;                  // banks with an open row
  mutable std::uint64_t lively_ = 0;        // all banks but these have no clock that is not past, and overtook nobody
  std::int64_t all_act_ = 0, all_pre_ = 0;  // the latest next_act, next_pre of any bank
  std::uint64_t waited_for_ = 0;            // banks for which something is queued
  std::int64_t open_row_ = -1;              // a row, and banks that are known to have it open with nothing queued
  std::uint64_t open_in_ = 0;
  std::array<std::uint64_t, kMostBanks + 1> turns_{};  // a bit in so many groups, from bank 0 on
  Ring<DramAccess> pending_;
  std::int64_t writes_pending_ = 0, joins_pending_ = 0;  // of pending_, writes and those that may join
  std::size_t streams_ = 0;                              // of pending_, so many are known to stream
  std::vector<Entry> entries_;
  std::vector<std::int32_t> free_;
  Choices choices_[2];
  std::uint64_t queued_[2] = {0, 0};
  int ready_[2] = {0, 0};
  int urgent_ = 0;  // ready writes that a read is blocked by
  int phase_ = 0;   // column commands since the direction changed
  bool writing_ = false;
  std::int64_t now_ = 0;
  std::uint64_t age_ = 0;
  Pick pick_;
  bool pick_known_ = false;
  DramCounts counts_;
  DramRefresh last_refresh_;
  std::vector<DramRefresh> refreshes_;
  std::size_t most_refreshes_;
  std::uint64_t every_ = 1;
  std::function<void(const DramCommand&)> sink_;
};

}  // namespace moesaic::memory
