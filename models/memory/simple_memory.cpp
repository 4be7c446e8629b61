#include "models/memory/simple_memory.h"

#include <algorithm>
#include <stdexcept>

namespace moesaic::memory {

std::string SimpleMemory::name() const {
  return "simple(read latency " + std::to_string(config_.read_latency_cycles) + " cycles, write latency " +
         std::to_string(config_.write_latency_cycles) + " cycles, " + std::to_string(config_.bytes_per_cycle) +
         " bytes/cycle)";
}

bool SimpleMemory::submit(const Request& request, Cycles now) {
  if (request.posted) {
    while (!posted_.empty() && posted_.front() <= now.count() * config_.bytes_per_cycle) posted_.pop_front();
    if (posted_.size() == kMostPosted) return false;
  }
  next_byte_ = std::max(next_byte_, now.count() * config_.bytes_per_cycle) + request.bytes.count();
  if (request.posted) {
    posted_.push_back(next_byte_);
    return true;
  }
  const std::int64_t latency = request.is_write ? config_.write_latency_cycles : config_.read_latency_cycles;
  queue(request.port, request.is_write).push_back(base::ceil_div(next_byte_, config_.bytes_per_cycle) + latency);
  return true;
}

std::int64_t SimpleMemory::finished(unsigned port, bool is_write, Cycles now) {
  const auto& due = queue(port, is_write);
  std::int64_t count = 0;  // few are finished and not taken
  for (auto beat = due.begin(); beat != due.end() && *beat <= now.count(); ++beat) ++count;
  return count;
}

void SimpleMemory::take(unsigned port, bool is_write) { queue(port, is_write).pop_front(); }

std::optional<Cycles> SimpleMemory::next_change(Cycles now) {
  std::optional<Cycles> next;
  for (const auto& due : due_) {
    const auto later = std::upper_bound(due.begin(), due.end(), now.count());
    if (later != due.end() && (!next || Cycles(*later) < *next)) next = Cycles(*later);
  }
  // A posted write may have been refused.
  if (posted_.size() == kMostPosted && posted_.front() > now.count() * config_.bytes_per_cycle) {
    const Cycles place(base::ceil_div(posted_.front(), config_.bytes_per_cycle));
    if (!next || place < *next) next = place;
  }
  return next;
}

Cycles SimpleMemory::longest_wait() const {
  return Cycles(4 * (config_.read_latency_cycles + config_.write_latency_cycles));
}

void SimpleMemory::reset() {
  next_byte_ = 0;
  due_.clear();
  posted_.clear();
}

// Bytes the memory is behind, then of each port and direction the number of beats and the cycles until each; a beat
// that has finished has finished, whenever that was. Then of posted writes that are not over the bytes until then.
bool SimpleMemory::export_state(Cycles now, std::vector<std::int64_t>& state) const {
  state.push_back(std::max<std::int64_t>(next_byte_ - now.count() * config_.bytes_per_cycle, 0));
  state.push_back(static_cast<std::int64_t>(due_.size()));
  for (const auto& due : due_) {
    state.push_back(static_cast<std::int64_t>(due.size()));
    for (const std::int64_t cycle : due) state.push_back(std::max<std::int64_t>(cycle - now.count(), 0));
  }
  const std::int64_t byte = now.count() * config_.bytes_per_cycle;
  for (const std::int64_t end : posted_)
    if (end > byte) state.push_back(end - byte);
  return true;
}

void SimpleMemory::import_state(Cycles now, const std::vector<std::int64_t>& state) {
  std::size_t at = 0;
  next_byte_ = now.count() * config_.bytes_per_cycle + state.at(at++);
  due_.assign(static_cast<std::size_t>(state.at(at++)), {});
  for (auto& due : due_) {
    due.resize(static_cast<std::size_t>(state.at(at++)));
    for (std::int64_t& cycle : due) cycle = now.count() + state.at(at++);
  }
  posted_.clear();
  while (at < state.size()) posted_.push_back(now.count() * config_.bytes_per_cycle + state[at++]);
}

bool MemoryModel::export_state(Cycles, std::vector<std::int64_t>&) const { return false; }

void MemoryModel::import_state(Cycles, const std::vector<std::int64_t>&) {
  throw std::logic_error("a memory whose state cannot be exported was given one");
}

}  // namespace moesaic::memory
