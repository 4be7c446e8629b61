#include "models/host/expert_cache.h"

#include <stdexcept>
#include <utility>

namespace moesaic::host {

ExpertCache::ExpertCache(const ExpertBytes& bytes, std::uint32_t first_layer, UnitSpace space, Bytes capacity,
                         std::unique_ptr<EvictionPolicy> policy)
    : space_(space),
      capacity_(capacity),
      policy_(std::move(policy)),
      heap_(space.units()),
      size_(space.units()),
      state_(space.units(), kAway),
      holds_(space.units(), 0) {
  for (std::uint32_t layer = 0; layer < space_.layers; ++layer)
    for (std::uint32_t expert = 0; expert < space_.experts; ++expert) {
      const StoredExpert& stored = bytes.at(first_layer + layer, expert);
      for (std::uint32_t unit = 0; unit < stored.units.size(); ++unit)
        size_[space_.number(layer, expert, unit)] = stored.units[unit].bytes;
    }
}

void ExpertCache::give_addresses(std::uint64_t base) {
  if (used_ != Bytes(0)) throw std::logic_error("give_addresses: expected an empty cache");
  addresses_.emplace(base, capacity_);
  capacity_ = addresses_->capacity();
  address_.assign(space_.units(), 0);
  for (Bytes& bytes : size_) bytes = ByteSpace::rounded(bytes);
}

void ExpertCache::layer_begins(std::uint32_t layer) {
  changed_.clear();
  policy_->layer_begins(layer, changed_);
  for (const std::uint32_t other : changed_) {
    const std::uint32_t end = space_.number(other + 1, 0, 0);
    for (std::uint32_t unit = space_.number(other, 0, 0); unit < end; ++unit)
      if (state_[unit] == kFree) heap_.update(unit, policy_->key(unit));
  }
}

bool ExpertCache::fits(Bytes bytes) const {
  return addresses_ ? addresses_->largest_hole() >= bytes : used_ + bytes <= capacity_;
}

void ExpertCache::remove(std::uint32_t unit, std::vector<Evicted>& evicted) {
  heap_.erase(unit);
  state_[unit] = kAway;
  used_ -= size_[unit];
  std::uint64_t address = 0;
  if (addresses_) {
    address = address_[unit];
    addresses_->release(address, size_[unit]);
  }
  evicted.push_back({unit, address});
}

bool ExpertCache::insert(std::uint32_t unit, std::vector<Evicted>& evicted) {
  if (resident(unit)) throw std::logic_error("ExpertCache: insert of a resident unit");
  const Bytes bytes = size_[unit];
  while (!fits(bytes)) {
    if (heap_.empty()) return false;
    if (used_ + bytes <= capacity_) ++fragmentation_evictions_;
    remove(heap_.least(), evicted);
  }
  if (addresses_) address_[unit] = addresses_->allocate(bytes).value();
  used_ += bytes;
  state_[unit] = kFree;
  heap_.insert(unit, policy_->key(unit));
  return true;
}

void ExpertCache::drop(std::uint32_t unit, std::vector<Evicted>& evicted) {
  if (state_[unit] != kFree) throw std::logic_error("ExpertCache: drop of a unit that is away or held");
  remove(unit, evicted);
}

void ExpertCache::hold(std::uint32_t unit) {
  if (!resident(unit)) throw std::logic_error("ExpertCache: hold of a unit that is away");
  if (holds_[unit]++ > 0) return;
  heap_.erase(unit);
  state_[unit] = kHeld;
  ++held_units_;
}

void ExpertCache::release(std::uint32_t unit) {
  if (holds_[unit] == 0) throw std::logic_error("ExpertCache: release of a unit that nobody holds");
  if (--holds_[unit] > 0) return;
  state_[unit] = kFree;
  heap_.insert(unit, policy_->key(unit));
  --held_units_;
}

}  // namespace moesaic::host
