#include "models/memory/simple_memory.h"

#include <algorithm>

#include "base/error.h"

namespace moesaic::memory {

bool operator==(const MemoryConfig& a, const MemoryConfig& b) {
  return a.kind == b.kind && a.read_latency_cycles == b.read_latency_cycles &&
         a.write_latency_cycles == b.write_latency_cycles && a.bytes_per_cycle == b.bytes_per_cycle;
}

MemoryConfig read_memory_config(const base::YamlNode& node) {
  MemoryConfig config;
  config.kind = node.choice("kind", {"simple"});
  config.read_latency_cycles = node.integer("read_latency_cycles", 1, 100000);
  config.write_latency_cycles = node.integer("write_latency_cycles", 1, 100000);
  config.bytes_per_cycle = node.integer("bytes_per_cycle", 1, 4096);
  return config;
}

std::unique_ptr<MemoryModel> make_memory(const MemoryConfig& config) { return std::make_unique<SimpleMemory>(config); }

std::string SimpleMemory::name() const {
  return "simple(read latency " + std::to_string(config_.read_latency_cycles) + " cycles, write latency " +
         std::to_string(config_.write_latency_cycles) + " cycles, " + std::to_string(config_.bytes_per_cycle) +
         " bytes/cycle)";
}

bool SimpleMemory::submit(const Request& request, Cycles now) {
  next_byte_ = std::max(next_byte_, now.count() * config_.bytes_per_cycle) + request.bytes.count();
  const std::int64_t latency = request.is_write ? config_.write_latency_cycles : config_.read_latency_cycles;
  queue(request.port, request.is_write).push_back(base::ceil_div(next_byte_, config_.bytes_per_cycle) + latency);
  return true;
}

std::int64_t SimpleMemory::finished(unsigned port, bool is_write, Cycles now) {
  const auto& due = queue(port, is_write);
  return std::upper_bound(due.begin(), due.end(), now.count()) - due.begin();
}

void SimpleMemory::take(unsigned port, bool is_write) { queue(port, is_write).pop_front(); }

std::optional<Cycles> SimpleMemory::next_change(Cycles now) {
  std::optional<Cycles> next;
  for (const auto& [port, due] : due_) {
    const auto later = std::upper_bound(due.begin(), due.end(), now.count());
    if (later != due.end() && (!next || Cycles(*later) < *next)) next = Cycles(*later);
  }
  return next;
}

void SimpleMemory::reset() {
  next_byte_ = 0;
  due_.clear();
}

}  // namespace moesaic::memory
