#pragma once
/// Which unit of a full cache leaves first. A policy gives every unit a key; the least key leaves first. Plug-ins, in a
/// base::Registry:
///
///   lru     the unit whose last use is the longest ago
///   lfu     the unit with the fewest uses since the start (uses count on while it is not resident); of equals, the one
///           whose last use is the longest ago
///   belady  the unit whose next use is the furthest ahead (Belady, 1966): needs the future. Of units never used again,
///           the one whose last use is the longest ago. With units of equal size, demand loading and no prefetch it is
///           optimal: no policy has fewer misses. With unequal sizes or with prefetch it is a heuristic.
///   pinned  the unit of the least popular expert, popularity being a fixed number for each expert; of equals, the
///           higher expert, and of one expert the higher plane. So the most popular experts stay, once loaded, and the
///           rest take turns in what is left.
///   planes  D2MoE's: the layer that ran last before the running one gives its least significant planes first, its most
///           significant plane (then its parameters) last; then the layer before it, and so on; the running layer's own
///           come last of all. Of equal planes of one layer, the one whose last use is the longest ago.
///
/// Within one expert a use touches the least significant plane first, so lru and lfu too give up the least significant
/// plane of an expert before its first one.
#include <cstdint>
#include <memory>
#include <vector>

#include "base/registry.h"
#include "models/host/victim_heap.h"

namespace moesaic::host {

/// No later use is known.
inline constexpr std::uint64_t kNeverUsed = UINT64_MAX;

/// The units that a policy ranks: `experts` experts for each of `layers` layers, `stride` unit numbers for each expert.
/// Unit u of (layer, expert) has number (layer * experts + expert) * stride + u; u = 0 is the whole expert or its
/// parameters, u >= 1 the plane of rank u.
struct UnitSpace {
  std::uint32_t layers = 1;
  std::uint32_t experts = 1;
  std::uint32_t stride = 1;

  std::uint32_t units() const { return layers * experts * stride; }
  std::uint32_t number(std::uint32_t layer, std::uint32_t expert, std::uint32_t unit) const {
    return (layer * experts + expert) * stride + unit;
  }
  std::uint32_t expert_of(std::uint32_t number) const { return number / stride; }  ///< counted over all layers
  std::uint32_t layer_of(std::uint32_t number) const { return number / (stride * experts); }
  std::uint32_t unit_of(std::uint32_t number) const { return number % stride; }
};

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  /// A request reads the unit now, resident or not; `next_use` is when the next one will, kNeverUsed if none or
  /// unknown. Any clock that does not go back will do.
  virtual void used(std::uint32_t unit, std::uint64_t next_use) = 0;
  /// The unit is loaded ahead of its use; as `used`, but it counts as no use.
  virtual void fetched(std::uint32_t unit, std::uint64_t next_use) = 0;
  /// The least leaves first.
  virtual EvictionKey key(std::uint32_t unit) const = 0;
  /// A layer begins to run. Layers whose units' keys this changes are appended to `changed`.
  virtual void layer_begins(std::uint32_t /*layer*/, std::vector<std::uint32_t>& /*changed*/) {}
};

/// What a policy may be made from.
struct PolicyInputs {
  UnitSpace space;
  std::vector<std::uint64_t> popularity;  ///< one per expert of every layer; empty unless the policy asks for it
};

struct PolicyKind {
  std::unique_ptr<EvictionPolicy> (*make)(const PolicyInputs&) = nullptr;
  bool needs_future = false;
  bool needs_popularity = false;
};

void add_builtin_policies(base::Registry<PolicyKind>& policies);
/// The registry with the built-in policies.
base::Registry<PolicyKind> eviction_policies();

}  // namespace moesaic::host
