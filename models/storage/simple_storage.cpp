#include <algorithm>

#include "models/storage/core_storage.h"

namespace moesaic::storage {

using base::Cycles;

std::string SimpleStorage::name() const {
  return "simple storage(latency " + std::to_string(config_.latency_cycles) + " to " +
         std::to_string(config_.latency_cycles + config_.spread_cycles) + " cycles, " +
         std::to_string(config_.bytes_per_cycle) + " bytes/cycle, " + std::to_string(config_.queue_depth) +
         " requests)";
}

bool SimpleStorage::submit(const StorageRequest& request, Cycles now) {
  if (static_cast<std::int64_t>(due_.size()) >= config_.queue_depth) return false;
  first_byte_ = std::max(next_byte_, now.count() * config_.bytes_per_cycle);
  next_byte_ = first_byte_ + request.bytes.count();
  const std::int64_t end = base::ceil_div(next_byte_, config_.bytes_per_cycle) + config_.latency_cycles;
  due_.emplace(end + rng_.range(0, config_.spread_cycles), request.id);
  return true;
}

std::optional<unsigned> SimpleStorage::finished(Cycles now) {
  if (due_.empty() || due_.begin()->first > now.count()) return std::nullopt;
  return due_.begin()->second;
}

void SimpleStorage::take(unsigned id) {
  due_.erase(std::find_if(due_.begin(), due_.end(), [id](const auto& due) { return due.second == id; }));
}

std::optional<Cycles> SimpleStorage::next_change(Cycles now) {
  const auto later = due_.upper_bound(now.count());
  if (later == due_.end()) return std::nullopt;
  return Cycles(later->first);
}

CoreStorage::Arrival SimpleStorage::arrival() const {
  return [first = first_byte_, rate = config_.bytes_per_cycle, latency = config_.latency_cycles](base::Bytes bytes) {
    return Cycles(base::ceil_div(first + bytes.count(), rate) + latency);
  };
}

}  // namespace moesaic::storage
