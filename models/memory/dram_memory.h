#pragma once
/// DRAM behind the chip's ports: channels in their own clock domain, the ports in the core's. Beats are combined into
/// bursts; the crossing costs two cycles of the clock that is entered. docs/memory.md says when exactly.
/// Lazy: what is known at a cycle depends on the beats submitted before it alone, never on how often the model was
/// asked. submit(), finished(), next_change() and counters() never go back in time.
/// Errors: base::CheckError for an address beyond the capacity, std::logic_error for a misuse of the interface.
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/memory/divider.h"
#include "models/memory/dram_channel.h"
#include "models/memory/memory_model.h"
#include "models/memory/ring.h"

namespace moesaic::memory {

/// Cycles that a synchroniser costs, of the clock that is entered.
inline constexpr std::int64_t kSynchroniserCycles = 2;

class DramMemory final : public MemoryModel, public Recurring {
 public:
  /// std::logic_error for numbers that first_fault() refuses: those of files are refused when they are read.
  DramMemory(const DramConfig& config, base::Femtoseconds period);

  std::string name() const override { return dram_name(config_); }
  bool submit(const Request& request, Cycles now) override;
  std::int64_t submit_row(const Request& first, std::int64_t count, Cycles now) override;
  std::int64_t finished(unsigned port, bool is_write, Cycles now) override;
  void take(unsigned port, bool is_write) override;
  std::optional<Cycles> next_change(Cycles now) override;
  bool takes_ports_apart() const override { return true; }
  void list_answers(unsigned port, std::vector<Cycles>& answers) const override;
  std::optional<Coming> coming(unsigned port, bool is_write, Cycles now) override;
  std::size_t take_as(unsigned port, bool is_write, Cycles origin, std::uint32_t first, const std::uint16_t* cycles,
                      std::size_t count) override;
  Cycles take_held(std::vector<Held>& held) override;
  void reset() override;
  std::vector<Counter> counters(Cycles now) override;
  void add_history(Cycles now, History& history) override;
  Cycles longest_wait() const override;

  // Moments: dram_moment.cpp.
  Recurring* recurring() override { return recurs_ ? this : nullptr; }
  bool export_moment(unsigned port, Cycles now, std::string& moment) override;
  std::optional<std::uint64_t> glance(unsigned port, Cycles now) override;
  void import_moment(unsigned port, Cycles now, std::string_view moment) override;
  Cycles undisturbed_until(Cycles now) const override;
  std::int64_t until_refresh(Cycles now) const override;
  std::uint64_t end(unsigned port) const override { return (ports_[port][0].last_burst + 1) << burst_shift_; }
  std::uint64_t end_of(std::uint64_t address, std::uint64_t bytes) const override {
    return (((address + bytes - 1) >> burst_shift_) + 1) << burst_shift_;
  }
  std::uint64_t owed(unsigned port) const override;
  std::uint64_t plain_until(unsigned port) override;
  std::optional<Pattern> pattern(std::uint64_t origin, std::uint64_t end, std::uint64_t address, std::uint64_t bytes,
                                 bool at_mark) override;
  void mark(unsigned port, Cycles now) override;
  std::optional<Stretch> stretch(std::string& what) override;
  void export_open(std::string& open) const override;
  bool is_open_alike(unsigned port, std::string_view open) const override;
  bool pass(unsigned port, const Stretch& stretch, std::uint64_t end, Cycles now) override;

  /// Called with every command of every channel from now on; commands of one channel are in order.
  void trace(std::function<void(const DramCommand&)> sink);

  /// The clock domains: first DRAM edge at or after core edge `now`, plus the synchroniser; and the other way.
  std::int64_t to_dram(std::int64_t now) const { return by_clock_.ceil(now * period_) + kSynchroniserCycles; }
  std::int64_t to_core(std::int64_t clock) const {
    return by_period_.ceil(clock * config_.clock_period_fs) + kSynchroniserCycles;
  }

 private:
  struct Place {
    unsigned channel = 0;
    std::uint8_t flat_bank = 0;
    std::int64_t row = 0;
    std::int32_t column = 0;
  };
  /// An access that a port reads, and the beats that are there when it and all before it are. Beats of a burst that
  /// was asked for earlier have one without a burst, kThere from the beginning.
  struct alignas(32) Read {
    std::int64_t done;     // DRAM clock from which it is there, or kUnknown
    std::int64_t arrival;  // of the beats, DRAM clock
    std::int64_t beats;
  };
  static constexpr std::int64_t kUnknown = -1, kThere = 0;
  /// Beats of a port that finish in one core cycle.
  struct Finish {
    std::int64_t cycle;
    std::int64_t beats;
  };
  /// An access that a refresh held up, DRAM clocks as in DramOutcome.
  struct HeldAccess {
    std::int64_t number = 0, from = 0, until = 0;
    unsigned port = 0;
  };
  /// Of a beat: first to last, those from `first_new` on need an access.
  struct Bursts {
    std::uint64_t first, first_new, last;
  };
  /// DRAM clocks at which places become free: `count` of them, so far apart.
  struct Return {
    std::int64_t clock;
    std::int32_t clocks, count;
  };
  /// Places of a port in one channel's queue, as the core sees them.
  struct alignas(64) Credits {
    std::int64_t used = 0;
    Ring<Return> returns;  // those that the core saw may be gone
  };
  struct Port {
    std::vector<Credits> credits;  // by channel
    bool has_last = false;         // a beat may join the burst of the one before
    std::uint64_t last_burst = 0;
    std::int64_t next_number = 0;  // of accesses
    Ring<Read> reads;              // number next_done.., whose finish is not known
    std::int64_t next_done = 0;
    std::int64_t latest = 0;       // DRAM clock until which all accesses before next_done are there
    HeldAccess latest_held;        // the access that is there at `latest`, if a refresh held it up
    std::vector<HeldAccess> held;  // of accesses from next_done on, ascending
    std::int64_t shown = -1;       // clock that the core sees in cycle shown_at
    std::int64_t shown_at = 0;
    Ring<Finish> finish;        // ascending
    std::size_t ripe = 0;       // of these, so many were over when last looked at,
    std::int64_t finished = 0;  // which are so many beats
    std::uint64_t refused = 0;  // channels that had no place for a beat and have taken none since

    void add_finished(std::int64_t cycle, std::int64_t beats) {
      if (finish.size() > ripe && finish.back().cycle == cycle)
        finish.back().beats += beats;
      else
        push(cycle, beats);
    }
    void push(std::int64_t cycle, std::int64_t beats) {
      Finish& last = finish.append();
      last.cycle = cycle;
      last.beats = beats;
    }
    /// Beats that are there at `now`.
    std::int64_t ripen(std::int64_t now) {
      for (; ripe < finish.size() && finish[ripe].cycle <= now; ++ripe) finished += finish[ripe].beats;
      return finished;
    }
    /// The oldest `beats` are taken, which finish in one cycle.
    void take(std::int64_t beats) {
      finished -= ripe > 0 ? beats : 0;
      finish.front().beats -= beats;
      if (finish.front().beats > 0) return;
      finish.pop_front();
      ripe -= ripe > 0 ? 1 : 0;
    }
  };

  Port& port_of(unsigned port, bool is_write) {
    if (port >= kMaxPorts) refuse_port(port);
    return ports_[port][is_write ? 1 : 0];
  }
  // Apart, so that the calls for each beat stay small.
  [[noreturn]] static void refuse_port(unsigned port);
  [[noreturn]] void refuse(const Request& request) const;
  Place place_of(std::uint64_t burst) const {
    Place place;
    place.channel = channel_of(burst);
    place.flat_bank = static_cast<std::uint8_t>(field_of(AddressField::kBankGroup, burst) *
                                                    static_cast<std::uint64_t>(config_.banks) +
                                                field_of(AddressField::kBank, burst));
    place.row = static_cast<std::int64_t>(field_of(AddressField::kRow, burst));
    place.column = static_cast<std::int32_t>(field_of(AddressField::kColumn, burst));
    return place;
  }
  /// Settles everything that no beat submitted at `now` or later can change.
  void advance(std::int64_t now) {
    if (now != now_) enter(now);
    if (wake_ < horizon_) settle();
  }
  /// The same, with commands that finish nothing: rows opened, refreshes of idle channels.
  void settle_all(std::int64_t now);
  void enter(std::int64_t now);
  void settle();
  inline void resolve(Port& port);
  void note_held(const DramOutcome& outcome);
  void report_held(const Port& port, std::int64_t shown_before);
  std::int64_t held_known_until() const;
  unsigned channel_of(std::uint64_t burst) const {
    const auto field = static_cast<std::size_t>(AddressField::kChannel);
    return static_cast<unsigned>(burst >> shift_[field] & mask_[field]);
  }
  /// `needed` places in the channel's queue; notes that there are fewer.
  bool has_place(Port& port, bool is_write, unsigned channel, std::int64_t needed) {
    const std::int64_t most = (is_write ? config_.write_queue : config_.read_queue) - needed;
    return port.credits[channel].used <= most || frees_place(port, channel, most);
  }
  bool frees_place(Port& port, unsigned channel, std::int64_t most) {
    if (has_at_most(port.credits[channel], most)) return true;
    port.refused |= std::uint64_t{1} << channel;
    return false;
  }
  bool has_at_most(Credits& credits, std::int64_t most) const;
  bool has_places(Port& port, bool is_write, std::uint64_t first, std::uint64_t last);
  void accept(Port& port, const Request& request, const Bursts& bursts);
  inline void add_burst(Port& port, const Request& request, std::uint64_t burst, bool may_join);
  inline void add_read(Port& port, unsigned number, const Place& place, std::int64_t beats);
  bool add_reads(Port& port, unsigned number, std::uint64_t burst, std::uint64_t count, std::int64_t beats);
  inline DramAccess& announce(Port& port, unsigned number, const Place& place);
  bool rests(Port& port, bool is_write);
  bool note_writes();
  void export_credits(Credits& credits, base::VarintWriter& moment) const;
  void import_credits(Credits& credits, base::VarintReader& moment) const;
  void list_writes(unsigned channel, std::vector<DramAccess>& writes);
  bool is_alone(unsigned port);
  void export_waiting(const Port& port, unsigned channel, base::VarintWriter& moment);
  void import_waiting(unsigned port, unsigned channel, base::VarintReader& moment);
  void export_port(const Port& port, base::VarintWriter& moment) const;
  std::int64_t held_floor() const;
  void import_port(unsigned number, base::VarintReader& moment);
  std::uint64_t field_of(AddressField which, std::uint64_t burst) const {
    const auto field = static_cast<std::size_t>(which);
    return burst >> shift_[field] & mask_[field];
  }
  std::uint64_t field_at(AddressField which, std::uint64_t value) const {
    return value << shift_[static_cast<std::size_t>(which)];
  }
  unsigned bank_of(std::uint64_t burst) const { return static_cast<unsigned>(field_of(AddressField::kBank, burst)); }
  std::uint64_t burst_at(unsigned channel, unsigned flat_bank, std::int64_t row, std::int32_t column) const;
  std::int64_t block_of(std::uint64_t burst) const { return static_cast<std::int64_t>(burst >> row_shift_); }
  /// The i-th channel from burst `end` on, and the first group of a channel from there on.
  unsigned first_channel(std::uint64_t end, unsigned i) const;
  unsigned first_group(std::uint64_t end, unsigned channel) const;
  unsigned turned(std::uint64_t end, unsigned channel, unsigned number) const;
  unsigned turned_back(std::uint64_t end, unsigned channel, unsigned bank) const;
  std::uint64_t turned_open(std::uint64_t end, unsigned channel) const;
  bool is_row_open(std::int64_t block);
  bool is_known_open(std::int64_t block) const {
    return open_blocks_[static_cast<std::size_t>(block) % kOpenBlocks] == block + 1;
  }
  std::uint64_t add_rows(std::uint64_t rows, std::uint64_t first, std::uint64_t last, bool at_mark) const;
  void put_changes(unsigned i, base::VarintWriter& out);
  void pass_changes(std::uint64_t end, unsigned channel, base::VarintReader& in);
  inline void arrive(unsigned channel);
  void join_read(Port& port, std::int64_t beats);

  DramConfig config_;
  std::int64_t period_;
  Divider by_clock_, by_period_;                     // of the DRAM, of the core
  std::uint64_t capacity_ = 0;                       // bytes
  std::int64_t read_clocks_ = 0;                     // from RD to the clock after its data
  std::array<unsigned, kNumAddressFields> shift_{};  // of each field, from the burst's number
  std::array<std::uint64_t, kNumAddressFields> mask_{};
  unsigned burst_shift_ = 0;
  unsigned stripe_shift_ = 0;  // of a stripe: 2^so many bursts, aligned, which go through the channels and groups
  std::uint64_t in_turn_ = 1;  // channels that they go through in turn
  std::vector<DramChannel> channels_;
  std::array<std::array<Port, 2>, kMaxPorts> ports_;  // [port][is_write]
  unsigned ports_used_ = 0;                           // ports below it have submitted
  std::uint32_t busy_ = 0;                            // bit 2 * port + is_write: something may change for it
  std::vector<DramOutcome> outcomes_;
  std::vector<Held> held_;                   // not given out yet
  std::int64_t now_ = 0, horizon_ = 0;       // core cycle asked last; DRAM clock before which all is settled
  std::int64_t seen_ = -1;                   // DRAM clock of which the core knows in now_
  std::vector<std::int64_t> wakes_;          // by channel: a clock before which it has no outcome
  std::int64_t wake_ = DramChannel::kNever;  // the least of them
  std::uint64_t read_bytes_ = 0, written_bytes_ = 0, read_beats_ = 0, written_beats_ = 0;
  std::function<void(const DramCommand&)> sink_;

  // Moments.
  bool recurs_ = false;
  bool turns_ = false;       // channels, then groups lie lowest: all bursts of a stripe are alike
  unsigned place_bits_ = 0;  // of Pattern::place
  unsigned row_shift_ = 0;   // of a block's number: a row of every channel and group
  static constexpr std::size_t kOpenBlocks = 8;
  std::array<std::int64_t, kOpenBlocks> open_blocks_{};  // of which all rows are open, plus 1
  std::uint64_t row_commands_ = 0;                       // as of which they are
  std::vector<DramChannel::Waiting> waiting_;
  /// What became of the rows of some banks, counted as those of a moment.
  struct Rows {
    std::uint64_t is = 0;
    std::int64_t which = 0;  // block of reads, write
    std::uint64_t banks = 0;
  };
  std::vector<Rows> rows_;
  std::uint64_t full_burst_ = 0;  // DramAccess::bytes of a burst that is written whole
  struct Written {
    std::int64_t first = 0, last = -1;           // blocks
  } written_;                                    // between which all writes lie that wait
  bool away_ = false;                            // stretches were passed: of what waits only this holds
  std::int64_t away_held_ = 0;                   // what take_held() returns then
  std::vector<std::vector<DramAccess>> writes_;  // by channel
  struct Mark {
    Written written;
    std::vector<DramCounts> counts;               // by channel
    std::vector<std::int64_t> rows;               // by channel and bank
    std::vector<std::vector<DramAccess>> writes;  // that waited, by channel
    std::uint64_t end = 0;                        // burst behind the one read last
    std::uint64_t read_beats = 0, read_bytes = 0;
    std::int64_t now = 0;
    std::vector<Held> held;  // since then
    bool stands = false;     // there was a mark, and what happened since is all there
  } mark_;
};

}  // namespace moesaic::memory
