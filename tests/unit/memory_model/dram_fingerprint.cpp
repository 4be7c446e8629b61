#include "tests/unit/memory_model/dram_fingerprint.h"

#include <vector>

#include "base/rng.h"
#include "models/memory/dram_memory.h"
#include "models/memory/dram_random.h"
#include "tests/unit/memory_model/dram_traffic.h"

namespace moesaic::testing {

using base::Bytes;
using base::Cycles;
using base::Femtoseconds;
using memory::DramConfig;
using memory::DramMemory;

namespace {

class Digest {
 public:
  template <class T>
  void add(T value) {
    state_ ^= static_cast<std::uint64_t>(value);
    state_ = base::splitmix64(state_);
  }
  std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0;
};

/// Commands by channel: only those of one channel are in order.
class Commands {
 public:
  Commands(DramMemory& model, const DramConfig& config) : channels_(static_cast<std::size_t>(config.channels)) {
    model.trace([this](const memory::DramCommand& c) {
      Digest& digest = channels_[c.channel];
      digest.add(c.clock);
      digest.add(c.kind);
      digest.add(c.bank_group * 64 + c.bank);
      digest.add(c.row);
      digest.add(c.column * 2 + (c.masked ? 1 : 0));
    });
  }
  void add_to(Digest& digest) const {
    for (const Digest& channel : channels_) digest.add(channel.value());
  }

 private:
  std::vector<Digest> channels_;
};

void add_counters(Digest& digest, DramMemory& model, std::int64_t now) {
  for (const memory::Counter& counter : model.counters(Cycles(now))) digest.add(counter.value);
}

/// Eight ports, four of which write, each with its own beat, stream and pauses; asked in every cycle.
void drive_ports(Digest& digest, DramMemory& model, const DramConfig& config, base::Rng& rng, std::int64_t cycles) {
  struct Source {
    std::int64_t bytes = 0;
    std::uint64_t address = 0;
    std::int64_t left = 0, pause = 0;
  };
  std::vector<Source> sources(memory::kMaxPorts);
  const std::uint64_t span = std::uint64_t{1} << rng.range(14, 28);
  const auto ports = static_cast<unsigned>(rng.range(1, memory::kMaxPorts));
  const std::int64_t longest = rng.chance(1, 2) ? 512 : 2;
  const std::uint64_t eager = rng.chance(1, 2) ? 64 : 3;  // 1 pause in so many beats
  for (Source& source : sources) source.bytes = std::int64_t{8} << rng.below(5);
  for (std::int64_t now = 0; now < cycles; ++now) {
    if (rng.chance(1, 2000)) now += rng.range(0, 3000);
    for (unsigned port = 0; port < ports; ++port) {
      Source& source = sources[port];
      const bool is_write = port % 2 == 1;
      const std::int64_t finished = model.finished(port, is_write, Cycles(now));
      digest.add(finished);
      if (finished > 0 && rng.chance(7, 8)) model.take(port, is_write);
      if (now < source.pause) continue;
      for (unsigned beat = 0; beat < 2; ++beat) {
        if (source.left == 0) {
          source.left = rng.range(1, longest);
          source.address = rng.below(span) / 8 * 8;
        }
        if (source.address + 256 > static_cast<std::uint64_t>(config.capacity().count())) source.address = 0;
        const bool taken = model.submit({port, is_write, source.address, Bytes(source.bytes)}, Cycles(now));
        digest.add(taken);
        if (!taken) break;
        source.address += static_cast<std::uint64_t>(source.bytes);
        --source.left;
        if (rng.chance(1, eager)) source.pause = now + rng.range(1, 40);
      }
    }
  }
  add_counters(digest, model, cycles + 5000);
}

}  // namespace

std::uint64_t fingerprint_of_random_parts(std::uint64_t seed, int runs) {
  base::Rng rng(seed);
  Digest digest;
  for (int i = 0; i < runs; ++i) {
    const DramConfig config = memory::random_dram(rng);
    DramMemory model(config, Femtoseconds(rng.range(150000, 6000000)));
    const Commands commands(model, config);
    TrafficShape shape;
    shape.span = std::uint64_t{1} << rng.range(9, 24);
    const TrafficRun run = drive(model, random_traffic(rng, shape), rng.chance(1, 4));
    for (const auto& port : run.ports) {
      for (const Done& beat : port) {
        digest.add(beat.submitted);
        digest.add(beat.finished);
      }
    }
    add_counters(digest, model, run.end + 1000);
    commands.add_to(digest);
  }
  return digest.value();
}

std::uint64_t fingerprint_of_presets(std::uint64_t seed, std::int64_t cycles) {
  base::Rng rng(seed);
  Digest digest;
  for (const std::string& name : memory::dram_preset_names()) {
    for (const std::int64_t channels : {1, 2, 4}) {
      DramConfig config = memory::dram_preset(name);
      config.channels = channels;
      DramMemory model(config, Femtoseconds(rng.range(300000, 2000000)));
      const Commands commands(model, config);
      drive_ports(digest, model, config, rng, cycles);
      commands.add_to(digest);
    }
  }
  return digest.value();
}

}  // namespace moesaic::testing
