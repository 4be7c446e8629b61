#pragma once
/// The expert cache of a chip file (docs/cache.md): `cache:`, beside `storage:`.
#include <cstdint>
#include <string>

#include "base/units.h"
#include "base/yaml.h"
#include "models/host/prefetch.h"
#include "sim/program/commands.h"

namespace moesaic::program {

struct CacheConfig {
  std::string policy = "lru";
  std::int64_t capacity_bytes = 0;    ///< 0: capacity_experts says it
  std::int64_t capacity_experts = 0;  ///< times the largest expert of the run
  LoadOrder load_order = LoadOrder::kFifo;
  base::Cycles decision_cycles;  ///< from an event to what the host makes of it
  host::PrefetchConfig prefetch;
  bool start_popular = false;       ///< the experts with the most rows of the run are there from the beginning
  std::int64_t replayed_steps = 0;  ///< so many steps before the run went through the cache; 0, and not popular: cold
  std::string where;                ///< "chip.yaml:12", of the capacity, for messages
  std::string where_start;          ///< of `start`
};

/// ConfigError for what cannot be.
CacheConfig read_cache_config(const base::YamlNode& node);

}  // namespace moesaic::program
