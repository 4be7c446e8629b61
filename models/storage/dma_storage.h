#pragma once
/// A storage whose loads are written to the memory through its model, on a port of their own, so that they take its
/// bandwidth (docs/memory.md).
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "models/memory/memory_model.h"
#include "models/storage/core_storage.h"

namespace moesaic::storage {

/// A request comes through in pieces. In the cycle of each its beats are submitted, before the core's, as many as the
/// memory takes; the rest in the cycles after it. They are posted. A request is done when the storage says so and the
/// memory has taken its last beat; of several, the one that was asked for first is the first.
class DmaStorage final : public CoreStorage {
 public:
  /// The memory's port: the core has those below.
  static constexpr unsigned kPort = 3;

  /// `memory` outlives it. A piece is `piece` bytes of a request from its first byte on, a beat `beat_bytes` of the
  /// memory, a power of two and aligned, but that pieces begin and end at any byte.
  DmaStorage(std::unique_ptr<CoreStorage> storage, memory::MemoryModel& memory, base::Bytes piece, unsigned beat_bytes)
      : storage_(std::move(storage)), memory_(memory), piece_(piece.count()), beat_bytes_(beat_bytes) {}

  std::string name() const override;
  void advance(base::Cycles now) override;
  bool submit(const StorageRequest& request, base::Cycles now) override;
  std::optional<unsigned> finished(base::Cycles now) override;
  void take(unsigned id) override;
  std::optional<base::Cycles> next_change(base::Cycles now) override;
  std::uint64_t written_bytes() const override { return written_bytes_; }
  bool waits_for_memory() const override { return retry_.has_value(); }
  Arrival arrival() const override { return storage_->arrival(); }

 private:
  struct Load {
    unsigned id = 0;
    std::uint64_t begin = 0, end = 0;  // addresses, of the first byte and behind the last
    std::uint64_t next = 0;            // of the first that the memory has not taken
    std::uint64_t piece_end = 0;       // of the piece in which that lies
    base::Cycles piece_cycle;          // in which it has come through
    Arrival arrival;
    bool is_done = false;  // says the storage
    bool is_written() const { return next == end; }
  };
  void begin_piece(Load& load) const;
  bool write_piece(Load& load, base::Cycles now);

  std::unique_ptr<CoreStorage> storage_;
  memory::MemoryModel& memory_;
  std::int64_t piece_;
  unsigned beat_bytes_;
  std::deque<Load> loads_;  // that are not taken
  std::uint64_t written_bytes_ = 0;
  std::size_t written_ = 0;            // the first so many of them are written
  std::optional<base::Cycles> retry_;  // the memory has refused a beat and may take it then
};

/// `storage` with its loads written to the memory in pieces of `dma_bytes`; as it is where that is 0.
std::unique_ptr<CoreStorage> through_memory(std::unique_ptr<CoreStorage> storage, memory::MemoryModel& memory,
                                            std::int64_t dma_bytes, unsigned beat_bytes);
/// A SimpleStorage, through the memory where the configuration says so.
std::unique_ptr<CoreStorage> make_storage(const SimpleStorageConfig& config, memory::MemoryModel& memory,
                                          unsigned beat_bytes);

}  // namespace moesaic::storage
