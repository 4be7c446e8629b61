#include "models/memory/simple_memory.h"

#include <algorithm>

namespace moesaic::memory {

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

Cycles SimpleMemory::longest_wait() const {
  return Cycles(4 * (config_.read_latency_cycles + config_.write_latency_cycles));
}

void SimpleMemory::reset() {
  next_byte_ = 0;
  due_.clear();
}

}  // namespace moesaic::memory
