#include "models/host/eviction_policy.h"

#include <stdexcept>

namespace moesaic::host {
namespace {

/// Counts uses and fetches, so that times are distinct.
class Recency {
 public:
  explicit Recency(std::uint32_t units) : last_(units, 0) {}
  void touch(std::uint32_t unit) { last_[unit] = ++now_; }
  std::uint64_t last(std::uint32_t unit) const { return last_[unit]; }
  std::uint64_t now() const { return now_; }

 private:
  std::vector<std::uint64_t> last_;
  std::uint64_t now_ = 0;
};

class LeastRecentlyUsed final : public EvictionPolicy {
 public:
  explicit LeastRecentlyUsed(const PolicyInputs& in) : recency_(in.space.units()) {}
  void used(std::uint32_t unit, std::uint64_t) override { recency_.touch(unit); }
  void fetched(std::uint32_t unit, std::uint64_t) override { recency_.touch(unit); }
  EvictionKey key(std::uint32_t unit) const override { return recency_.last(unit); }

 private:
  Recency recency_;
};

class LeastFrequentlyUsed final : public EvictionPolicy {
 public:
  explicit LeastFrequentlyUsed(const PolicyInputs& in) : recency_(in.space.units()), uses_(in.space.units(), 0) {}
  void used(std::uint32_t unit, std::uint64_t) override {
    recency_.touch(unit);
    ++uses_[unit];
  }
  void fetched(std::uint32_t unit, std::uint64_t) override { recency_.touch(unit); }
  EvictionKey key(std::uint32_t unit) const override { return make_key(uses_[unit], recency_.last(unit)); }

 private:
  Recency recency_;
  std::vector<std::uint64_t> uses_;
};

class Belady final : public EvictionPolicy {
 public:
  explicit Belady(const PolicyInputs& in) : recency_(in.space.units()), next_(in.space.units(), kNeverUsed) {}
  void used(std::uint32_t unit, std::uint64_t next_use) override {
    recency_.touch(unit);
    next_[unit] = next_use;
  }
  void fetched(std::uint32_t unit, std::uint64_t next_use) override { used(unit, next_use); }
  EvictionKey key(std::uint32_t unit) const override { return make_key(~next_[unit], recency_.last(unit)); }

 private:
  Recency recency_;
  std::vector<std::uint64_t> next_;
};

class PinnedByPopularity final : public EvictionPolicy {
 public:
  explicit PinnedByPopularity(const PolicyInputs& in) : space_(in.space), popularity_(in.popularity) {
    if (popularity_.size() != static_cast<std::size_t>(space_.layers) * space_.experts)
      throw std::logic_error("pinned: expected one popularity for each expert");
  }
  void used(std::uint32_t, std::uint64_t) override {}
  void fetched(std::uint32_t, std::uint64_t) override {}
  EvictionKey key(std::uint32_t unit) const override { return make_key(popularity_[space_.expert_of(unit)], ~unit); }

 private:
  UnitSpace space_;
  std::vector<std::uint64_t> popularity_;
};

class LeastSignificantPlanes final : public EvictionPolicy {
 public:
  explicit LeastSignificantPlanes(const PolicyInputs& in)
      : space_(in.space), recency_(in.space.units()), ended_(in.space.layers, 0) {}
  void used(std::uint32_t unit, std::uint64_t) override { recency_.touch(unit); }
  void fetched(std::uint32_t unit, std::uint64_t) override { recency_.touch(unit); }
  EvictionKey key(std::uint32_t unit) const override {
    const std::uint64_t kept = 255 - space_.unit_of(unit);
    return make_key(~ended_[space_.layer_of(unit)], (kept << 56) | recency_.last(unit));
  }
  void layer_begins(std::uint32_t layer, std::vector<std::uint32_t>& changed) override {
    if (running_ == layer) return;
    if (running_ != kNone) {
      ended_[running_] = ++runs_;
      changed.push_back(running_);
    }
    running_ = layer;
    if (ended_[layer] != 0) {
      ended_[layer] = 0;
      changed.push_back(layer);
    }
  }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  UnitSpace space_;
  Recency recency_;
  std::vector<std::uint64_t> ended_;  // how many runs of layers had ended when this one did; 0: it runs, or never has
  std::uint64_t runs_ = 0;
  std::uint32_t running_ = kNone;
};

template <class Policy>
std::unique_ptr<EvictionPolicy> make(const PolicyInputs& inputs) {
  return std::make_unique<Policy>(inputs);
}

}  // namespace

void add_builtin_policies(base::Registry<PolicyKind>& policies) {
  policies.add("lru", {make<LeastRecentlyUsed>, false, false});
  policies.add("lfu", {make<LeastFrequentlyUsed>, false, false});
  policies.add("belady", {make<Belady>, true, false});
  policies.add("pinned", {make<PinnedByPopularity>, false, true});
  policies.add("planes", {make<LeastSignificantPlanes>, false, false});
}

base::Registry<PolicyKind> eviction_policies() {
  base::Registry<PolicyKind> policies;
  add_builtin_policies(policies);
  return policies;
}

}  // namespace moesaic::host
