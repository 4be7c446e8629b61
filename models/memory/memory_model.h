#pragma once
/// Timing of the memory behind a chip's ports. Data does not pass through here: a model says when a beat may move, the
/// caller moves it. Time is the chip's clock; requests of one cycle are served in the order submitted.
/// One role, several implementations: SimpleMemory and DramMemory here, any TLM-2.0 target in sim/cosim.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "base/yaml.h"
#include "models/memory/dram_config.h"
#include "models/memory/recurring.h"

namespace moesaic::memory {

using base::Bytes;
using base::Cycles;

/// One beat on one port.
struct Request {
  unsigned port = 0;  ///< 0..ports-1; answers of a port come in its order
  bool is_write = false;
  std::uint64_t address = 0;  ///< first byte
  Bytes bytes;                ///< of the beat, >= 1
  /// A write without an answer: it never counts as finished().
  bool posted = false;
};

/// A number that a model reports on itself: "reads", in what its name says.
struct Counter {
  std::string name;
  std::uint64_t value = 0;
};
inline bool operator==(const Counter& a, const Counter& b) { return a.name == b.name && a.value == b.value; }

/// What a memory did over time, for pictures of a run. Bounded, however long the run is: of a long one only every 2nd,
/// 4th, 8th … refresh is kept.
struct History {
  /// Of a channel, since the beginning.
  struct Counts {
    std::uint64_t bytes_read = 0, bytes_written = 0;  ///< on the bus
    std::uint64_t activates = 0, row_hits = 0, row_misses = 0, row_conflicts = 0;
  };
  struct Refresh {
    std::uint64_t begin_fs = 0, end_fs = 0;  ///< from its due time until banks may be opened
    Counts before;                           ///< at its end
  };
  struct Channel {
    std::uint64_t every = 1;  ///< refresh number `every`, 2 * `every`, … are kept, 1 being the first
    std::vector<Refresh> refreshes;
    Counts all;
  };
  std::vector<Channel> channels;                       ///< none of a memory that does not refresh
  static constexpr std::size_t kMostRefreshes = 2048;  ///< of all channels together, but at least kFewest of each
  static constexpr std::size_t kFewest = 32;

  /// visit(std::uint64_t&) on every number, in a fixed order; resize(vector) before a vector's elements.
  template <class Visit, class Resize>
  void for_each_count(const Visit& visit, const Resize& resize) {
    const auto counts = [&visit](Counts& c) {
      for (std::uint64_t* count :
           {&c.bytes_read, &c.bytes_written, &c.activates, &c.row_hits, &c.row_misses, &c.row_conflicts})
        visit(*count);
    };
    resize(channels);
    for (Channel& channel : channels) {
      visit(channel.every);
      resize(channel.refreshes);
      for (Refresh& refresh : channel.refreshes) {
        visit(refresh.begin_fs);
        visit(refresh.end_fs);
        counts(refresh.before);
      }
      counts(channel.all);
    }
  }
};

class MemoryModel {
 public:
  virtual ~MemoryModel() = default;
  /// What results are labelled with: "simple(latency 20 cycles, 16 bytes/cycle)".
  virtual std::string name() const = 0;
  /// Takes a beat at `now`; submit() never goes back in time. False: the model's queue for this port is full, try
  /// later.
  virtual bool submit(const Request& request, Cycles now) = 0;
  /// As submit() of `count` beats, one behind the other from `first` on, up to one that is refused; returns how many
  /// were taken.
  virtual std::int64_t submit_row(const Request& first, std::int64_t count, Cycles now);
  /// How many beats of `port` finish at `now` or before and have not been taken.
  virtual std::int64_t finished(unsigned port, bool is_write, Cycles now) = 0;
  /// Takes one finished beat, oldest first. Decides nothing for other ports.
  virtual void take(unsigned port, bool is_write) = 0;
  /// The earliest cycle after `now` at which, if nothing more is submitted or taken, finished() of some port grows or a
  /// refused submit() could be taken; nothing when neither can happen. May be early, never late: what is skipped up to
  /// here is skipped exactly.
  virtual std::optional<Cycles> next_change(Cycles now) = 0;
  /// Of the oldest beat of `port` that was not taken: the cycle in which it finishes, where that is settled, whatever
  /// is submitted from now on; or else a cycle after `now` before which it does not finish if nothing more is
  /// submitted. Nothing when there is no such beat. Built on finished() and next_change() where a model knows no
  /// better.
  struct Coming {
    Cycles cycle;
    bool known = false;
  };
  virtual std::optional<Coming> coming(unsigned port, bool is_write, Cycles now);
  /// Takes beats, oldest first, as long as they can be taken in the cycles `origin` + `cycles[0]`, `origin` +
  /// `cycles[1]`, …, which ascend: each when it is finished, one a cycle, none before `origin` + `first`. Returns how
  /// many. Only beats whose finish is settled (coming()) count, whatever cycle the model was asked about last.
  virtual std::size_t take_as(unsigned port, bool is_write, Cycles origin, std::uint32_t first,
                              const std::uint16_t* cycles, std::size_t count);
  /// Whether ports that read and a port that writes may be asked apart from each other: a write's answer is settled
  /// when the write is taken; a bound that coming() gives for one port holds whatever is submitted to another; and
  /// beats that finished before the last cycle asked about are told and taken by the cycles in which they did. False
  /// (the default) of a model that does not promise that.
  virtual bool takes_ports_apart() const { return false; }
  /// Of a model that does, no other: appends the cycles in which the port's writes are answered that were taken and
  /// whose answer was not, oldest first.
  virtual void list_answers(unsigned port, std::vector<Cycles>& answers) const;
  /// A stretch of cycles, `begin` to `end` - 1, in which the oldest beat that `port` reads was held up by a refresh.
  struct Held {
    unsigned port = 0;
    Cycles begin, end;
  };
  /// Appends the stretches that have become known and were not given out before, and returns a cycle before which none
  /// begins that is still to become known; kNeverHeld (the default): this model knows no refresh. A stretch is known
  /// before its beat finishes; those of a port ascend and do not overlap. Asks the model about no cycle.
  virtual Cycles take_held(std::vector<Held>& held);
  static constexpr Cycles kNeverHeld{INT64_MAX};
  /// Forgets all requests and starts at cycle 0.
  virtual void reset() = 0;
  /// What the model counted in cycles before `now`, for results: the same names in the same order on every call. None
  /// when it counts nothing.
  virtual std::vector<Counter> counters(Cycles now) {
    static_cast<void>(now);
    return {};
  }
  /// Brings `history`, which is empty or what this model made of it at an earlier cycle, up to the cycles before `now`.
  virtual void add_history(Cycles now, History& history) {
    static_cast<void>(now);
    static_cast<void>(history);
  }
  /// A generous bound on how long a beat of a busy memory can take, so that a bench knows a slow memory from a dead
  /// one; 0 when the model cannot say.
  virtual Cycles longest_wait() const { return Cycles(0); }

  /// Appends all that decides what the model does from `now` on, relative to `now`, whatever addresses come: two models
  /// of one configuration with equal states answer alike from their `now`s on. False (the default), and nothing
  /// appended: this model's state does not repeat, depends on addresses, or is counted in counters().
  virtual bool export_state(Cycles now, std::vector<std::int64_t>& state) const;
  /// Becomes what export_state() appended, as of `now`, which may be another cycle than the state's was. Only for
  /// models that export.
  virtual void import_state(Cycles now, const std::vector<std::int64_t>& state);
  /// This model as one that comes back to moments; null (the default) when it does not.
  virtual Recurring* recurring() { return nullptr; }
};

/// The `memory:` part of a chip file. `kind` says which of the others count.
struct MemoryConfig {
  std::string kind = "simple";
  std::int64_t read_latency_cycles = 20;
  std::int64_t write_latency_cycles = 10;
  std::int64_t bytes_per_cycle = 16;  ///< shared by all ports
  DramConfig dram{};                  ///< of kind dram
};
bool operator==(const MemoryConfig& a, const MemoryConfig& b);

/// Reads {kind: simple, read_latency_cycles, write_latency_cycles, bytes_per_cycle} or {kind: dram, ...}.
MemoryConfig read_memory_config(const base::YamlNode& node);
/// `period` of the core's clock, whose cycles the model is asked in.
std::unique_ptr<MemoryModel> make_memory(const MemoryConfig& config, base::Femtoseconds period);
/// Most bytes that the memory could move in `cycles` of a core clock of `period`, refresh and latencies apart.
double peak_bytes(const MemoryConfig& config, base::Femtoseconds period, Cycles cycles);
/// Fewest such cycles in which it could move `bytes`.
std::uint64_t least_cycles(const MemoryConfig& config, base::Femtoseconds period, Bytes bytes);
/// Bytes that the memory holds; nothing when it has no end.
std::optional<Bytes> capacity(const MemoryConfig& config);

}  // namespace moesaic::memory
