#pragma once
/// The host driver: which units of which experts to load, where to put them, what to evict. One object for all engines,
/// plain C++ and deterministic. It knows neither clocks nor queues: an engine tells it what happened, each with a time
/// in core cycles that never goes back, and takes its answers, each `decision_cycles` after the event it follows from.
/// Decisions do not wait for each other: the latency is a pipeline's.
///
///   routed      a layer's routing is known: one job for each (expert, bits)
///   completed   a descriptor's last byte is in the cache
///   released    the chip has released a job (all its units are resident); std::logic_error if one is still on its way
///   finished    the job reads nothing any more
///
/// Jobs are admitted in the order they came. An admitted job's units have places and are never evicted before the job
/// has finished; nor is a unit on its way. A job that finds no room waits, and those behind it, until a job finishes or
/// a load completes; what it could place is loaded meanwhile. What waiting jobs will find resident is evicted only when
/// nothing else is left, the last job's first. When only the first waiting job's own units are left and their places
/// leave no hole that is large enough, they are dropped and loaded again (counted as repacked). So a job always gets
/// its room in the end.
///
/// Destinations are those of a ByteSpace over the capacity (byte_space.h): nothing ever lies outside it.
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/host/expert_cache.h"
#include "models/host/prefetch.h"

namespace moesaic::host {

using JobId = std::uint64_t;         ///< 1, 2, ... in the order of routing
using DescriptorId = std::uint64_t;  ///< 1, 2, ... in the order issued

struct DriverConfig {
  std::string policy = "lru";
  Bytes capacity;                  ///< of the expert cache
  std::uint64_t cache_base = 0;    ///< its first byte, a multiple of 64
  std::uint64_t storage_base = 0;  ///< first byte of the stored experts
  Cycles decision_cycles;          ///< from an event to its answer, >= 0
  PrefetchConfig prefetch;
  std::vector<std::uint64_t> popularity;  ///< one per expert of every layer, for pinned
};

/// Load one unit.
struct Descriptor {
  DescriptorId id = 0;
  std::uint32_t layer = 0;
  std::uint32_t expert = 0;
  std::uint32_t plane = 0;  ///< rank, 1 the most significant; 0: the parameters, or the whole expert
  Bytes bytes;
  std::uint64_t source = 0;       ///< in the storage
  std::uint64_t destination = 0;  ///< in the cache
  std::uint32_t requests = 0;     ///< tokens that read this unit; 0 when it is fetched ahead
};

/// A unit that left, or with unit 0 of a room all that was in it; its place may be overwritten from now on.
struct Eviction {
  std::uint32_t layer = 0;
  std::uint32_t expert = 0;
  std::uint32_t plane = 0;
  std::uint64_t address = 0;
  Bytes bytes;
};

/// A job that has all its places.
struct JobPlan {
  JobId id = 0;
  std::uint32_t layer = 0;
  std::uint32_t expert = 0;
  std::vector<std::uint64_t> addresses;  ///< of its units, 0 first
  std::vector<DescriptorId> waits_for;   ///< loads still on their way, among them earlier jobs' and prefetches
};

struct Answer {
  Cycles at;
  std::vector<Eviction> evictions;  ///< before the loads: their places are reused
  std::vector<Descriptor> loads;
  std::vector<JobPlan> jobs;  ///< none or one: which has all its places now
};

/// The next step, for prefetch: what the engine knows and the driver may see as far as its prefetch kind allows.
struct NextStep {
  std::uint32_t layer = 0;
  std::vector<Need> needs;
  bool same_tokens = false;
};

struct DriverStats {
  std::int64_t jobs = 0;
  std::int64_t hits = 0;  ///< jobs all of whose units were resident, and not on their way, when they were routed
  Bytes loaded;           ///< on demand
  Bytes prefetched;
  std::int64_t evictions = 0;
  std::int64_t fragmentation_evictions = 0;  ///< free bytes sufficed, but no hole did
  std::int64_t repacked = 0;                 ///< jobs that had to drop units of their own
  std::int64_t waits = 0;                    ///< jobs that found no room at first
};

/// Of one layer, as DriverStats: summed over the layers they are the same.
struct LayerStats {
  std::int64_t jobs = 0, hits = 0;
  Bytes loaded, prefetched;
};

class HostDriver {
 public:
  /// `bytes` must outlive it. base::ConfigError (`where`, key) for an unknown policy or prefetch, and for a capacity
  /// below the largest expert; std::logic_error for pinned without popularity.
  HostDriver(const ExpertBytes& bytes, const DriverConfig& config, const std::string& where);

  /// Before the first event: an expert is there from the beginning, all its units, as if it had been fetched ahead.
  /// False when they do not fit beside what is there.
  bool prefill(std::uint32_t layer, std::uint32_t expert, std::uint64_t next_use);

  /// Before the first event: a step of `layer` that took no time. The cache and its policy become what they would have
  /// been, had every load come at once and nothing been fetched ahead; nothing of it is counted.
  void replay(std::uint32_t layer, const std::vector<Need>& needs);
  /// Where each unit of an expert is, unit 0 first; none: it is not resident.
  using Places = std::vector<std::optional<std::uint64_t>>;
  Places places_of(std::uint32_t layer, std::uint32_t expert) const;

  /// Gives the jobs' ids, in the order of `needs`. Several needs may name one expert with different planes.
  std::vector<JobId> routed(Cycles now, std::uint32_t layer, const std::vector<Need>& needs,
                            const std::optional<NextStep>& next = std::nullopt);
  void completed(Cycles now, DescriptorId descriptor);
  void released(Cycles now, JobId job);
  void finished(Cycles now, JobId job);

  /// When the oldest answer not taken is due.
  std::optional<Cycles> next_answer() const;
  /// The oldest answer due at `now` or before.
  std::optional<Answer> take(Cycles now);

  /// True when no job is unfinished, no load on its way and no answer waiting.
  bool idle() const { return jobs_.empty() && in_flight_.empty() && answers_.empty(); }
  DriverStats stats() const;
  const std::vector<LayerStats>& layer_stats() const { return layer_stats_; }
  Bytes capacity() const { return cache_.capacity(); }
  Bytes resident_bytes() const { return cache_.used_bytes(); }

 private:
  struct Job {
    JobId id = 0;
    std::uint32_t layer = 0, expert = 0, first_unit = 0, units = 0;
    std::vector<std::uint32_t> requests;  // of each unit
    std::vector<bool> holds;              // of each unit
    bool admitted = false, released = false, waited = false;
  };
  void at_time(Cycles now);
  bool give_up_a_waiting_hold(const Job& except);
  bool place(Job& job, Answer& answer);
  bool repack(Job& job, Answer& answer);
  void load(const Job& job, std::uint32_t unit, Answer& answer);
  void issue(std::uint32_t layer, std::uint32_t expert, std::uint32_t unit, std::uint32_t requests, Answer& answer);
  void note_evictions(Answer& answer);
  void release_holds(Job& job);
  void work(Cycles now);
  void prefetch(Answer& answer);
  void answer(Answer&& answer);

  const ExpertBytes& bytes_;
  DriverConfig config_;
  UnitSpace space_;
  ExpertCache cache_;
  Predictor predictor_;
  std::map<JobId, Job> jobs_;                            // unfinished, oldest first
  std::deque<JobId> waiting_;                            // not admitted, oldest first
  std::map<DescriptorId, std::uint32_t> in_flight_;      // -> unit
  std::map<std::uint32_t, DescriptorId> descriptor_of_;  // unit -> its load
  std::deque<Answer> answers_;
  std::optional<NextStep> guesses_;  // to be fetched once no job waits
  std::vector<Evicted> evicted_;
  DriverStats stats_;
  std::vector<LayerStats> layer_stats_;  // by layer
  std::int64_t replayed_fragmentation_ = 0;
  Cycles now_;
  JobId last_job_ = 0;
  DescriptorId last_descriptor_ = 0;
};

}  // namespace moesaic::host
