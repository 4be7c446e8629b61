#pragma once
/// Timing of the memory behind a chip's ports. Data does not pass through here: a model says when a beat may move, the
/// caller moves it. Time is the chip's clock; requests of one cycle are served in the order submitted.
/// One role, several implementations: SimpleMemory now, DRAM later.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/units.h"
#include "base/yaml.h"

namespace moesaic::memory {

using base::Bytes;
using base::Cycles;

/// One beat on one port.
struct Request {
  unsigned port = 0;  ///< 0..ports-1; answers of a port come in its order
  bool is_write = false;
  std::uint64_t address = 0;  ///< first byte
  Bytes bytes;                ///< of the beat, >= 1
};

class MemoryModel {
 public:
  virtual ~MemoryModel() = default;
  /// What results are labelled with: "simple(latency 20 cycles, 16 bytes/cycle)".
  virtual std::string name() const = 0;
  /// Takes a beat at `now`; submit() never goes back in time. False: the model's queue for this port is full, try
  /// later.
  virtual bool submit(const Request& request, Cycles now) = 0;
  /// How many beats of `port` finish at `now` or before and have not been taken.
  virtual std::int64_t finished(unsigned port, bool is_write, Cycles now) = 0;
  /// Takes one finished beat, oldest first.
  virtual void take(unsigned port, bool is_write) = 0;
  /// The earliest cycle after `now` at which, if nothing more is submitted or taken, finished() of some port grows or a
  /// refused submit() could be taken; nothing when neither can happen. May be early, never late: what is skipped up to
  /// here is skipped exactly.
  virtual std::optional<Cycles> next_change(Cycles now) = 0;
  /// Forgets all requests and starts at cycle 0.
  virtual void reset() = 0;
};

/// The `memory:` part of a chip file.
struct MemoryConfig {
  std::string kind = "simple";
  std::int64_t read_latency_cycles = 20;
  std::int64_t write_latency_cycles = 10;
  std::int64_t bytes_per_cycle = 16;  ///< shared by all ports
};
bool operator==(const MemoryConfig& a, const MemoryConfig& b);

/// Reads {kind: simple, read_latency_cycles, write_latency_cycles, bytes_per_cycle}.
MemoryConfig read_memory_config(const base::YamlNode& node);
std::unique_ptr<MemoryModel> make_memory(const MemoryConfig& config);

}  // namespace moesaic::memory
