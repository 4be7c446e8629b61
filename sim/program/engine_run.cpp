#include "sim/program/engine_run.h"

#include <algorithm>

namespace moesaic::program {

Cause cause_of(std::uint64_t activity) {
  const auto is = [activity](Block block, Activity kind) {
    return ((activity >> (2 * static_cast<unsigned>(block))) & 3) == static_cast<unsigned>(kind);
  };
  if (is(Block::kPeArray, Activity::kBusy)) return Cause::kComputing;
  if (is(Block::kPeArray, Activity::kBlocked)) return Cause::kResults;
  if (!is(Block::kTileSequencer, Activity::kIdle)) return Cause::kWeights;
  if (!is(Block::kActLoader, Activity::kIdle)) return Cause::kActivations;
  if (!is(Block::kDrain, Activity::kIdle)) return Cause::kDrain;
  if (is(Block::kScheduler, Activity::kBlocked)) return Cause::kIo;
  if (!is(Block::kScheduler, Activity::kIdle) || !is(Block::kCommandQueue, Activity::kIdle)) return Cause::kCommands;
  return Cause::kHost;
}

Traffic::Traffic(const MemoryImage& image) {
  for (const MemoryImage::Region& region : image.regions()) {
    begin_.push_back(region.address);
    end_.push_back(region.address + region.bytes);
  }
  for (auto& counts : counts_) counts.assign(begin_.size(), 0);
}

void Traffic::count(MemoryPort port, std::uint64_t address, std::uint64_t bytes) {
  const std::size_t p = index(port);
  total_[p] += bytes;
  const std::uint64_t end = address + bytes;
  std::size_t r = last_[p];
  if (r >= begin_.size() || end_[r] <= address || (r > 0 && end_[r - 1] > address))
    r = static_cast<std::size_t>(std::upper_bound(end_.begin(), end_.end(), address) - end_.begin());
  last_[p] = r;
  std::uint64_t named = 0;
  for (; r < begin_.size() && begin_[r] < end; ++r) {
    const std::uint64_t part = std::min(end, end_[r]) - std::max(address, begin_[r]);
    counts_[p][r] += part;
    named += part;
  }
  padding_[p] += bytes - named;
}

}  // namespace moesaic::program
