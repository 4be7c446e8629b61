#pragma once
/// Byte-accurate cache of stored experts: which units are resident, what leaves for a new one. Loading takes no time
/// here; the driver adds time. A unit that is held (hold counts) is never evicted.
///
/// Without addresses only bytes are counted, as if units could always be packed. With addresses, units get places from
/// a ByteSpace: contiguous, rounded up to 64 bytes; when free bytes suffice but no hole does, more is evicted, and
/// fragmentation_evictions() counts it.
///
/// Units of an expert with a room of its own (StoredExpert::room) share its place: unit 0 stands for all of them. It
/// takes the room, must come first, ranks and leaves for all; the others take nothing and lie at its address.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "models/host/byte_space.h"
#include "models/host/eviction_policy.h"
#include "models/host/expert_bytes.h"

namespace moesaic::host {

/// A unit that left: its number, and its address where there are addresses.
struct Evicted {
  std::uint32_t unit = 0;
  std::uint64_t address = 0;
};

class ExpertCache {
 public:
  /// The cache of layers first_layer .. first_layer + space.layers - 1 of `bytes`, which must outlive it.
  ExpertCache(const ExpertBytes& bytes, std::uint32_t first_layer, UnitSpace space, Bytes capacity,
              std::unique_ptr<EvictionPolicy> policy);
  /// Gives every unit an address from `base` on.
  void give_addresses(std::uint64_t base);

  const UnitSpace& space() const { return space_; }
  Bytes capacity() const { return capacity_; }
  Bytes used_bytes() const { return used_; }
  /// What a unit takes: with addresses, rounded up. In a room, unit 0 takes all of it.
  Bytes bytes_of(std::uint32_t unit) const { return size_[unit]; }
  bool resident(std::uint32_t unit) const { return state_[unit] != kAway; }
  std::uint64_t address_of(std::uint32_t unit) const { return address_.at(unit); }

  void layer_begins(std::uint32_t layer);
  /// A request reads the unit, resident or not.
  void use(std::uint32_t unit, std::uint64_t next_use) {
    policy_->used(unit, next_use);
    if (state_[unit] == kFree && !rides_[unit]) heap_.update(unit, policy_->key(unit));
  }
  /// The unit is about to be loaded ahead of its use.
  void fetch(std::uint32_t unit, std::uint64_t next_use) {
    policy_->fetched(unit, next_use);
    if (state_[unit] == kFree && !rides_[unit]) heap_.update(unit, policy_->key(unit));
  }

  /// Makes the unit resident, evicting in the policy's order what is in its way; `evicted` gets what left. False when
  /// what may be evicted was not enough: what was evicted then stays evicted. std::logic_error when it is resident.
  bool insert(std::uint32_t unit, std::vector<Evicted>& evicted);
  /// Takes the unit out, whatever the policy says, and with unit 0 of a room all that is in it. std::logic_error when
  /// it is not resident or held.
  void drop(std::uint32_t unit, std::vector<Evicted>& evicted);

  /// Keeps a resident unit, and the room that it is in, from being evicted until as many releases.
  void hold(std::uint32_t unit);
  void release(std::uint32_t unit);
  bool held(std::uint32_t unit) const { return state_[unit] == kHeld; }
  bool anything_held() const { return held_units_ > 0; }

  std::int64_t fragmentation_evictions() const { return fragmentation_evictions_; }

 private:
  enum State : std::uint8_t { kAway, kFree, kHeld };
  bool fits(Bytes bytes) const;
  std::uint32_t stands_for(std::uint32_t rider) const { return rider - space_.unit_of(rider); }
  void remove(std::uint32_t unit, std::vector<Evicted>& evicted);

  UnitSpace space_;
  Bytes capacity_, used_;
  std::unique_ptr<EvictionPolicy> policy_;
  VictimHeap heap_;  // the resident units that nobody holds, but for riders
  std::vector<Bytes> size_;
  std::vector<bool> rides_;  // in the room of its expert, and not unit 0
  std::vector<State> state_;
  std::vector<std::uint32_t> holds_;
  std::int64_t held_units_ = 0;
  std::optional<ByteSpace> addresses_;
  std::vector<std::uint64_t> address_;
  std::int64_t fragmentation_evictions_ = 0;
  std::vector<std::uint32_t> changed_;
};

}  // namespace moesaic::host
