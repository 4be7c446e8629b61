#include "models/storage/dma_storage.h"

#include <algorithm>
#include <stdexcept>

#include "models/storage/storage_model.h"

namespace moesaic::storage {

using base::Bytes;
using base::Cycles;

std::string DmaStorage::name() const { return storage_->name() + describe_dma(piece_); }

void DmaStorage::advance(Cycles now) {
  while (const auto id = storage_->finished(now)) {
    storage_->take(*id);
    std::find_if(loads_.begin(), loads_.end(), [&id](const Load& load) { return load.id == *id; })->is_done = true;
  }
  retry_.reset();
  for (; written_ < loads_.size(); ++written_) {
    Load& load = loads_[written_];
    while (load.piece_cycle <= now && write_piece(load, now) && !load.is_written()) begin_piece(load);
    if (load.is_written()) continue;
    if (load.piece_cycle <= now) retry_ = memory_.next_change(now).value_or(now + Cycles(1));
    break;
  }
}

/// Whether the memory took all of the piece that was left.
bool DmaStorage::write_piece(Load& load, Cycles now) {
  while (load.next != load.piece_end) {
    const std::uint64_t end = std::min((load.next | (beat_bytes_ - 1)) + 1, load.piece_end);
    memory::Request beat{kPort, true, load.next, Bytes(static_cast<std::int64_t>(end - load.next))};
    beat.posted = true;
    if (!memory_.submit(beat, now)) return false;
    written_bytes_ += end - load.next;
    load.next = end;
  }
  return true;
}

void DmaStorage::begin_piece(Load& load) const {
  load.piece_end = std::min(load.next + static_cast<std::uint64_t>(piece_), load.end);
  load.piece_cycle = load.arrival(Bytes(static_cast<std::int64_t>(load.piece_end - load.begin)));
}

bool DmaStorage::submit(const StorageRequest& request, Cycles now) {
  if (!storage_->submit(request, now)) return false;
  Load load;
  load.id = request.id;
  load.begin = load.next = request.destination;
  load.end = load.begin + static_cast<std::uint64_t>(request.bytes.count());
  load.arrival = storage_->arrival();
  begin_piece(load);
  if (load.piece_cycle <= now) throw std::logic_error("storage: bytes that came through before they were asked for");
  loads_.push_back(std::move(load));
  return true;
}

std::optional<unsigned> DmaStorage::finished(Cycles) {
  for (std::size_t i = 0; i < written_; ++i)
    if (loads_[i].is_done) return loads_[i].id;
  return std::nullopt;
}

void DmaStorage::take(unsigned id) {
  loads_.erase(std::find_if(loads_.begin(), loads_.end(), [id](const Load& load) { return load.id == id; }));
  --written_;
}

std::optional<Cycles> DmaStorage::next_change(Cycles now) {
  std::optional<Cycles> next = storage_->next_change(now);
  if (written_ == loads_.size()) return next;
  const Cycles piece = std::max(retry_.value_or(loads_[written_].piece_cycle), now + Cycles(1));
  return next ? std::min(*next, piece) : piece;
}

std::unique_ptr<CoreStorage> through_memory(std::unique_ptr<CoreStorage> storage, memory::MemoryModel& memory,
                                            std::int64_t dma_bytes, unsigned beat_bytes) {
  if (dma_bytes == 0) return storage;
  return std::make_unique<DmaStorage>(std::move(storage), memory, Bytes(dma_bytes), beat_bytes);
}

std::unique_ptr<CoreStorage> make_storage(const SimpleStorageConfig& config, memory::MemoryModel& memory,
                                          unsigned beat_bytes) {
  return through_memory(std::make_unique<SimpleStorage>(config), memory, config.dma_bytes, beat_bytes);
}

}  // namespace moesaic::storage
