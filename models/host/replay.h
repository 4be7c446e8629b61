#pragma once
/// Replays routing against caches, without time: what each policy at each capacity would have had resident.
///
/// The trace is held compactly (7 bytes a request, 8 a step), because belady needs each request's next use and pinned
/// the counts; then every case (capacity and policy) takes every step, in one pass.
///
/// Two readings of a step, which asks for k distinct experts of one layer:
///   sequence  one expert after the other, each looked up, loaded if missing and used before the next one is looked
///             at: textbook paging. Uniform independent choices of k of N then hit, in a full cache of c <= N experts,
///             with probability max(0, c - j) / (N - j) at place j = 0..k-1 under lru: those drawn before are resident
///             and cannot be drawn again.
///   set       the whole set is known, and used, first, as by the host driver: what is resident counts as hit and stays
///             until the step is over; misses are then loaded in order. Only if all that is held leaves no room, the
///             first expert that hit leaves. Uniform choices hit with probability c / N.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/host/expert_cache.h"
#include "models/host/prefetch.h"

namespace moesaic::host {

enum class Access : std::uint8_t { kSequence, kSet };
enum class Scope : std::uint8_t {
  kLayer,   ///< each layer has a cache of the stated capacity
  kGlobal,  ///< one cache of the stated capacity for all layers
};

class ReplayTrace {
 public:
  ReplayTrace(std::uint32_t layers, std::uint32_t experts);  ///< at most 65535 each
  /// The next step: distinct experts of one layer; next_use is ignored. `same_tokens`: the step before it was of the
  /// same tokens. `tokens` of the trace come before this step. base::InputError beyond 2^32 - 2 requests.
  void add(std::uint32_t layer, const std::vector<Need>& needs, bool same_tokens, std::uint64_t tokens_before);

  std::uint32_t layers() const { return layers_; }
  std::uint32_t experts() const { return experts_; }
  std::uint64_t steps() const { return steps_.size(); }
  std::uint64_t requests() const { return expert_.size(); }
  /// How many tokens chose each expert, layer by layer.
  const std::vector<std::uint64_t>& popularity() const { return popularity_; }
  std::uint64_t distinct_experts() const;
  std::size_t largest_step() const { return largest_step_; }  ///< most experts that one step asks for
  std::int64_t memory_bytes() const;

 private:
  friend class Replay;
  struct Step {
    std::uint32_t tokens_before;  // saturates
    std::uint16_t layer;
    std::uint16_t count : 15;
    std::uint16_t same_tokens : 1;
  };
  std::uint32_t layers_, experts_;
  std::vector<Step> steps_;
  std::vector<std::uint16_t> expert_;
  std::vector<std::uint8_t> planes_;
  std::vector<std::uint32_t> next_;  // index of the next request for the same expert; UINT32_MAX: none
  std::vector<std::uint32_t> last_;  // of each expert, while adding
  std::vector<std::uint64_t> popularity_;
  std::size_t largest_step_ = 0;
};

struct ReplayCounts {
  std::int64_t requests = 0;        ///< experts asked for
  std::int64_t hits = 0;            ///< of them, found with all units they read
  std::int64_t prefetch_hits = 0;   ///< of the hits, with a unit that was fetched ahead and not used since
  std::int64_t first_requests = 0;  ///< of the requests, the first ever for their expert: no cache could hold it
  Bytes requested;                  ///< of all requests' units
  Bytes loaded;                     ///< of units loaded on demand
  Bytes prefetched;                 ///< of units loaded ahead
  Bytes wasted;                     ///< of the prefetched, what left or ended without a use

  double hit_rate() const { return requests == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(requests); }
  /// Share of the requested bytes that needed no load on demand.
  double byte_hit_rate() const {
    return requests == 0 ? 0
                         : static_cast<double>((requested - loaded).count()) / static_cast<double>(requested.count());
  }
  ReplayCounts& operator+=(const ReplayCounts& o);
  ReplayCounts& operator-=(const ReplayCounts& o);
};

struct ReplayCase {
  std::string policy;
  Bytes capacity;  ///< of one layer's cache, or of the only one
};

struct ReplayConfig {
  Access access = Access::kSequence;
  Scope scope = Scope::kLayer;
  PrefetchConfig prefetch;
  std::uint64_t warmup_tokens = 0;  ///< replayed and not counted as warm
  /// One number per expert of every layer, for pinned; empty: the trace's own counts.
  std::vector<std::uint64_t> popularity;
};

struct ReplayResult {
  std::vector<ReplayCounts> layers;       ///< the whole trace, from empty caches
  std::vector<ReplayCounts> warm_layers;  ///< the same from the first step after the warm-up on
  ReplayCounts total() const;
  ReplayCounts warm() const;
};

/// One result per case, in their order. `where` stands in messages. base::ConfigError for an unknown policy and for a
/// capacity below the largest request of the trace (key "capacity"). `progress` is told now and then how many steps
/// were taken since it was last told.
std::vector<ReplayResult> replay(const ReplayTrace& trace, const ExpertBytes& bytes, const ReplayConfig& config,
                                 const std::vector<ReplayCase>& cases, const std::string& where,
                                 const std::function<void(std::int64_t)>& progress = nullptr);

/// Most bytes that one request of the trace reads: the least capacity.
Bytes largest_request(const ReplayTrace& trace, const ExpertBytes& bytes);

}  // namespace moesaic::host
