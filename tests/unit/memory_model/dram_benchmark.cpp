// What the DRAM model costs: ns of CPU time for each burst on the bus, and for each beat. A program for people, not a
// test: times are this machine's. docs/memory.md has the numbers and says how to get them.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <vector>

#include "base/rng.h"
#include "models/memory/dram_memory.h"

using namespace moesaic;
using base::Bytes;
using base::Cycles;

namespace {

struct Pattern {
  const char* name;
  unsigned readers, writers;  // ports
  std::int64_t beat;          // bytes
  bool random;                // each beat anywhere in 256 MiB; else a stream for each port
  bool skips;                 // asks at next_change() only; else in every cycle
};

struct Cost {
  double ns_a_burst, ns_a_beat;
};

Cost measure(const memory::DramConfig& config, const Pattern& pattern, std::int64_t beats) {
  memory::DramMemory model(config, base::Femtoseconds(1000000));
  base::Rng rng(1);
  const unsigned ports = pattern.readers + pattern.writers;
  const auto beat = static_cast<std::uint64_t>(pattern.beat);
  std::vector<std::uint64_t> next(ports);
  for (unsigned port = 0; port < ports; ++port) next[port] = (std::uint64_t{port} << 26) + (std::uint64_t{port} << 13);
  std::int64_t submitted = 0, now = 0;
  const std::clock_t begin = std::clock();
  while (submitted < beats) {
    for (unsigned port = 0; port < ports; ++port) {
      const bool is_write = port >= pattern.readers;
      for (std::int64_t left = model.finished(port, is_write, Cycles(now)); left > 0; --left)
        model.take(port, is_write);
      while (model.submit({port, is_write, next[port], Bytes(pattern.beat)}, Cycles(now))) {
        ++submitted;
        next[port] = pattern.random ? rng.below((std::uint64_t{1} << 28) / beat) * beat : next[port] + beat;
      }
    }
    const auto change = pattern.skips ? model.next_change(Cycles(now)) : std::nullopt;
    now = change ? change->count() : now + 1;
  }
  const double ns = 1e9 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  double bursts = 0;
  for (const memory::Counter& counter : model.counters(Cycles(now)))
    if (counter.name == "reads" || counter.name == "writes") bursts += static_cast<double>(counter.value);
  return {ns / bursts, ns / static_cast<double>(submitted)};
}

}  // namespace

int main() {
  const Pattern patterns[] = {
      {"one port reads a stream, 64-byte beats, skipping", 1, 0, 64, false, true},
      {"one port reads a stream, 64-byte beats", 1, 0, 64, false, false},
      {"one port reads a stream, 16-byte beats, skipping", 1, 0, 16, false, true},
      {"one port writes a stream, 64-byte beats, skipping", 0, 1, 64, false, true},
      {"two ports read streams, one writes one, skipping", 2, 1, 64, false, true},
      {"one port reads at random, skipping", 1, 0, 64, true, true},
      {"two ports read and one writes at random, skipping", 2, 1, 64, true, true},
  };
  for (const char* preset : {"ddr5-6400", "hbm3-6400"}) {
    memory::DramConfig config = memory::dram_preset(preset);
    for (const Pattern& pattern : patterns) {
      Cost least{1e9, 1e9};
      for (int i = 0; i < 5; ++i) {
        const Cost cost = measure(config, pattern, 200000);
        least = {std::min(least.ns_a_burst, cost.ns_a_burst), std::min(least.ns_a_beat, cost.ns_a_beat)};
      }
      std::printf("%-10s %-50s %7.1f ns a burst %7.1f ns a beat\n", preset, pattern.name, least.ns_a_burst,
                  least.ns_a_beat);
    }
  }
}
