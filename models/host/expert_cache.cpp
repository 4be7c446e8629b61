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
      rides_(space.units(), false),
      state_(space.units(), kAway),
      holds_(space.units(), 0) {
  for (std::uint32_t layer = 0; layer < space_.layers; ++layer)
    for (std::uint32_t expert = 0; expert < space_.experts; ++expert) {
      const StoredExpert& stored = bytes.at(first_layer + layer, expert);
      for (std::uint32_t unit = 0; unit < stored.units.size(); ++unit) {
        const std::uint32_t number = space_.number(layer, expert, unit);
        rides_[number] = stored.room > Bytes(0) && unit > 0;
        size_[number] = stored.room == Bytes(0) ? stored.units[unit].bytes : unit == 0 ? stored.room : Bytes(0);
      }
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
      if (state_[unit] == kFree && !rides_[unit]) heap_.update(unit, policy_->key(unit));
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
  for (std::uint32_t rider = unit + 1; rider < rides_.size() && rides_[rider]; ++rider) state_[rider] = kAway;
}

bool ExpertCache::insert(std::uint32_t unit, std::vector<Evicted>& evicted) {
  if (resident(unit)) throw std::logic_error("ExpertCache: insert of a resident unit");
  if (rides_[unit]) {
    if (!resident(stands_for(unit))) throw std::logic_error("ExpertCache: insert of a unit without its room");
    if (addresses_) address_[unit] = address_[stands_for(unit)];
    state_[unit] = kFree;
    return true;
  }
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
  if (state_[unit] != kFree || rides_[unit])
    throw std::logic_error("ExpertCache: drop of a unit that is away, held or in a room of others");
  remove(unit, evicted);
}

void ExpertCache::hold(std::uint32_t unit) {
  if (!resident(unit)) throw std::logic_error("ExpertCache: hold of a unit that is away");
  if (rides_[unit]) hold(stands_for(unit));
  if (holds_[unit]++ > 0) return;
  if (!rides_[unit]) heap_.erase(unit);
  state_[unit] = kHeld;
  ++held_units_;
}

void ExpertCache::release(std::uint32_t unit) {
  if (holds_[unit] == 0) throw std::logic_error("ExpertCache: release of a unit that nobody holds");
  if (rides_[unit]) release(stands_for(unit));
  if (--holds_[unit] > 0) return;
  state_[unit] = kFree;
  if (!rides_[unit]) heap_.insert(unit, policy_->key(unit));
  --held_units_;
}

}  // namespace moesaic::host
