#include "models/memory/memory_model.h"

#include <algorithm>
#include <stdexcept>

#include "models/memory/dram_memory.h"
#include "models/memory/simple_memory.h"

namespace moesaic::memory {

bool operator==(const MemoryConfig& a, const MemoryConfig& b) {
  return a.kind == b.kind && a.read_latency_cycles == b.read_latency_cycles &&
         a.write_latency_cycles == b.write_latency_cycles && a.bytes_per_cycle == b.bytes_per_cycle && a.dram == b.dram;
}

MemoryConfig read_memory_config(const base::YamlNode& node) {
  MemoryConfig config;
  config.kind = node.choice("kind", {"simple", "dram"});
  if (config.kind == "dram") {
    config.dram = read_dram_config(node);
    return config;
  }
  config.read_latency_cycles = node.integer("read_latency_cycles", 1, 100000);
  config.write_latency_cycles = node.integer("write_latency_cycles", 1, 100000);
  config.bytes_per_cycle = node.integer("bytes_per_cycle", 1, 4096);
  return config;
}

std::optional<MemoryModel::Coming> MemoryModel::coming(unsigned port, bool is_write, Cycles now) {
  if (finished(port, is_write, now) > 0) return Coming{now, true};
  const auto next = next_change(now);
  if (!next) return std::nullopt;
  return Coming{std::max(*next, now + Cycles(1)), false};
}

std::int64_t MemoryModel::submit_row(const Request& first, std::int64_t count, Cycles now) {
  Request request = first;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!submit(request, now)) return i;
    request.address += static_cast<std::uint64_t>(request.bytes.count());
  }
  return count;
}

std::size_t MemoryModel::take_as(unsigned port, bool is_write, Cycles origin, std::uint32_t first,
                                 const std::uint16_t* cycles, std::size_t count) {
  static_cast<void>(first);  // only the first beat is looked at, and its cycle was asked about
  if (count == 0 || finished(port, is_write, origin + Cycles(*cycles)) == 0) return 0;
  take(port, is_write);
  return 1;
}

void MemoryModel::list_answers(unsigned, std::vector<Cycles>&) const {
  throw std::logic_error("a memory whose ports cannot be taken apart was asked for its answers");
}

Cycles MemoryModel::take_held(std::vector<Held>& held) {
  static_cast<void>(held);
  return kNeverHeld;
}

std::unique_ptr<MemoryModel> make_memory(const MemoryConfig& config, base::Femtoseconds period) {
  if (config.kind == "dram") return std::make_unique<DramMemory>(config.dram, period);
  return std::make_unique<SimpleMemory>(config);
}

double peak_bytes(const MemoryConfig& config, base::Femtoseconds period, Cycles cycles) {
  if (config.kind != "dram") return static_cast<double>(cycles.count()) * static_cast<double>(config.bytes_per_cycle);
  const DramConfig& dram = config.dram;
  const double bursts = static_cast<double>(cycles.count()) * static_cast<double>(period.count()) /
                        static_cast<double>(dram.burst_clocks() * dram.clock_period_fs);
  return bursts * static_cast<double>(dram.channels * dram.burst_bytes());
}

std::uint64_t least_cycles(const MemoryConfig& config, base::Femtoseconds period, Bytes bytes) {
  using Wide = unsigned __int128;  // bytes times femtoseconds
  const DramConfig& dram = config.dram;
  const bool simple = config.kind != "dram";
  const auto time = static_cast<Wide>(simple ? 1 : dram.burst_clocks() * dram.clock_period_fs);
  const auto moved = static_cast<Wide>(simple ? config.bytes_per_cycle : dram.channels * dram.burst_bytes()) *
                     static_cast<Wide>(simple ? 1 : period.count());
  return static_cast<std::uint64_t>((static_cast<Wide>(bytes.count()) * time + moved - 1) / moved);
}

std::optional<Bytes> capacity(const MemoryConfig& config) {
  if (config.kind != "dram") return std::nullopt;
  return config.dram.capacity();
}

}  // namespace moesaic::memory
