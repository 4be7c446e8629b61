#pragma once
/// Timing of the storage behind a core's storage port (docs/io_queue.md), for every engine. Data does not pass through
/// here: a model says when a request is done, the engine moves the bytes. Time is the core's clock; StorageDevice
/// (storage_device.h) puts a device that keeps femtoseconds there.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/rng.h"
#include "base/units.h"

namespace moesaic::storage {

struct StorageRequest {
  unsigned id = 0;  ///< no two requests that are not taken have the same
  std::uint64_t source = 0;
  std::uint64_t destination = 0;
  base::Bytes bytes;  ///< >= 1
};

class CoreStorage {
 public:
  virtual ~CoreStorage() = default;
  /// Called before all else in each cycle that next_change() names, and in any others.
  virtual void advance(base::Cycles now) { static_cast<void>(now); }
  /// What results are labelled with.
  virtual std::string name() const = 0;
  /// Takes a request at `now`; false: its queue is full, try later. Never goes back in time.
  virtual bool submit(const StorageRequest& request, base::Cycles now) = 0;
  /// The id of a request that is done at `now` or before and has not been taken.
  virtual std::optional<unsigned> finished(base::Cycles now) = 0;
  /// Takes what finished() last returned.
  virtual void take(unsigned id) = 0;
  /// The earliest cycle after `now` at which a request will be done, or bytes that come through are to be submitted, if
  /// nothing more is submitted, here or to the memory that they go to; nothing when there is none. May be early, never
  /// late.
  virtual std::optional<base::Cycles> next_change(base::Cycles now) = 0;
  /// Bytes that the storage has written to a memory.
  virtual std::uint64_t written_bytes() const { return 0; }
  /// Bytes have come through that the memory has refused so far: what is submitted to it may change next_change().
  virtual bool waits_for_memory() const { return false; }
  /// Of the request that was taken last, in cycle t: the cycle in which its first so many bytes, 1 to all, have come
  /// through. After t, ascending, and for all bytes not after the request is done.
  using Arrival = std::function<base::Cycles(base::Bytes)>;
  virtual Arrival arrival() const = 0;
};

struct SimpleStorageConfig {
  std::int64_t latency_cycles = 200;
  std::int64_t bytes_per_cycle = 4;
  std::int64_t queue_depth = 32;   ///< requests taken and not done
  std::int64_t spread_cycles = 0;  ///< each request takes up to this much longer, drawn from `seed`: any order
  std::uint64_t seed = 1;
  std::int64_t dma_bytes = 0;  ///< as StorageConfig::dma_bytes
};

/// One bandwidth, first come, first served; a request of b bytes takes b / bytes_per_cycle cycles and is done
/// latency (plus its share of the spread) cycles after its last byte.
class SimpleStorage final : public CoreStorage {
 public:
  explicit SimpleStorage(const SimpleStorageConfig& config) : config_(config), rng_(config.seed) {}
  std::string name() const override;
  bool submit(const StorageRequest& request, base::Cycles now) override;
  std::optional<unsigned> finished(base::Cycles now) override;
  void take(unsigned id) override;
  std::optional<base::Cycles> next_change(base::Cycles now) override;
  Arrival arrival() const override;

 private:
  SimpleStorageConfig config_;
  base::Rng rng_;
  std::int64_t next_byte_ = 0;                 // bytes the storage could have moved until it is free
  std::int64_t first_byte_ = 0;                // the same, when the last request began
  std::multimap<std::int64_t, unsigned> due_;  // id by cycle
};

}  // namespace moesaic::storage
