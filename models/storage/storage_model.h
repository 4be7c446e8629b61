#pragma once
/// Timing of the storage that experts are loaded from: NVMe, host memory over PCIe, UFS. Data does not pass through
/// here. Time is in femtoseconds. docs/memory.md has the law, the presets and their sources.
///
/// The law: a request is rounded up to whole granules; requests share the bandwidth first come, first served; each is
/// finished one latency after its last byte; at most `queue_depth` are outstanding. So latencies overlap, and a stream
/// of requests of b bytes moves min(bandwidth, queue_depth * b / (latency + b / bandwidth)).
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "base/yaml.h"

namespace moesaic::storage {

using base::Bytes;
using base::Femtoseconds;

struct StorageConfig {
  std::string kind;  ///< nvme, host, ufs
  std::string preset;
  Femtoseconds latency;  ///< from a request's last byte to its completion: what a request of no bytes takes
  std::int64_t bytes_per_second = 1;   ///< all requests together
  std::int64_t queue_depth = 1;        ///< requests outstanding
  std::int64_t granularity_bytes = 1;  ///< what a request is rounded up to
  /// Loads are written to the memory in pieces of so many bytes, which take its bandwidth (dma_storage.h); 0: they take
  /// nothing of it.
  std::int64_t dma_bytes = 0;
};
bool operator==(const StorageConfig& a, const StorageConfig& b);

struct Completion {
  std::uint64_t id = 0;
  Femtoseconds time;
};
inline bool operator==(const Completion& a, const Completion& b) { return a.id == b.id && a.time == b.time; }

class StorageModel {
 public:
  virtual ~StorageModel() = default;
  /// What results are labelled with: everything that decides timing.
  virtual std::string name() const = 0;
  /// Takes a request of `bytes` >= 1 at `now`; `now` never goes back. False: the queue is full, try later. `id` is the
  /// caller's and comes back with the completion.
  virtual bool submit(std::uint64_t id, Bytes bytes, Femtoseconds now) = 0;
  /// The oldest completion at `now` or before that has not been returned yet; in order of completion. A request leaves
  /// the queue when it completes, whether or not this is called.
  virtual std::optional<Completion> finished(Femtoseconds now) = 0;
  /// The earliest time after `now` at which, if nothing more is submitted, another request completes or a refused
  /// submit() could be taken; nothing when neither can happen. May be early, never late.
  virtual std::optional<Femtoseconds> next_change(Femtoseconds now) const = 0;
  /// Of the request that was taken last: the time at which its first so many bytes, 1 to all, have come through: one
  /// latency after they crossed the link.
  using Arrival = std::function<Femtoseconds(Bytes)>;
  virtual Arrival arrival() const = 0;
  /// Requests that have not completed at `now`.
  virtual std::int64_t outstanding(Femtoseconds now) const = 0;
  /// Bytes of all requests so far, rounded up to granules.
  virtual Bytes moved() const = 0;
  /// Forgets all requests and starts at time 0.
  virtual void reset() = 0;
};

/// The presets' names (of one kind, or all when `kind` is empty) in fixed order, and where one's numbers are from.
std::vector<std::string> storage_preset_names(const std::string& kind = "");
/// base::InputError for an unknown name.
StorageConfig storage_preset(const std::string& name);
std::string storage_preset_source(const std::string& name);

/// Reads {kind: nvme|host|ufs, preset: NAME} and, where they are to differ, latency_ns, bytes_per_second, queue_depth
/// and granularity_bytes. Refuses what cannot be: `file:line: key: got X, expected Y`.
StorageConfig read_storage_config(const base::YamlNode& node);
std::unique_ptr<StorageModel> make_storage(const StorageConfig& config);
/// The model's name, and what loads take of the memory.
std::string describe_storage(const StorageConfig& config);
/// ", written to the memory in pieces of 4096 bytes".
std::string describe_dma(std::int64_t dma_bytes);

}  // namespace moesaic::storage
