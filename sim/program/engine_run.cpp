#include "sim/program/engine_run.h"

#include <algorithm>

namespace moesaic::program {

Cause cause_of(std::uint64_t activity) {
  const auto is = [activity](Block block, Activity kind) {
    return ((activity >> (2 * static_cast<unsigned>(block))) & 3) == static_cast<unsigned>(kind);
  };
  if (is(Block::kPeArray, Activity::kBusy)) return Cause::kComputing;
  if (is(Block::kPeArray, Activity::kBlocked))
    return is(Block::kGroupDequant, Activity::kStarved) ? Cause::kWeights : Cause::kResults;
  if (!is(Block::kTileSequencer, Activity::kIdle)) return Cause::kWeights;
  if (!is(Block::kActLoader, Activity::kIdle)) return Cause::kActivations;
  if (is(Block::kGroupDequant, Activity::kBusy)) return Cause::kDequantisation;
  if (!is(Block::kDrain, Activity::kIdle)) return Cause::kDrain;
  if (is(Block::kScheduler, Activity::kBlocked)) return Cause::kIo;
  if (!is(Block::kScheduler, Activity::kIdle) || !is(Block::kCommandQueue, Activity::kIdle)) return Cause::kCommands;
  return Cause::kHost;
}

namespace {

std::vector<std::uint64_t> numbers_of(memory::History history) {
  std::vector<std::uint64_t> numbers;
  history.for_each_count([&numbers](std::uint64_t& count) { numbers.push_back(count); },
                         [&numbers](const auto& vector) { numbers.push_back(vector.size()); });
  return numbers;
}

}  // namespace

void Traffic::count(MemoryPort port, std::uint64_t address, std::uint64_t bytes) {
  const std::size_t p = index(port);
  total_[p] += bytes;
  if (image_ == nullptr) {
    padding_[p] += bytes;
    return;
  }
  const std::vector<MemoryImage::Region>& regions = image_->regions();
  const std::uint64_t end = address + bytes;
  std::size_t r = last_[p];
  if (r >= regions.size() || regions[r].end() <= address || (r > 0 && regions[r - 1].end() > address))
    r = static_cast<std::size_t>(
        std::upper_bound(regions.begin(), regions.end(), address,
                         [](std::uint64_t a, const MemoryImage::Region& one) { return a < one.end(); }) -
        regions.begin());
  last_[p] = r;
  std::uint64_t named = 0;
  for (; r < regions.size() && regions[r].address < end; ++r) {
    const std::uint64_t part = std::min(end, regions[r].end()) - std::max(address, regions[r].address);
    if (counts_[p].size() <= regions[r].counter) counts_[p].resize(image_->counters());
    counts_[p][regions[r].counter] += part;
    named += part;
  }
  padding_[p] += bytes - named;
}

std::size_t Traffic::counters() const {
  std::size_t most = 0;
  for (const auto& counts : counts_) most = std::max(most, counts.size());
  return most;
}

std::string first_run_difference(const EngineRun& a, const EngineRun& b, const std::string& a_name,
                                 const std::string& b_name) {
  std::string difference;
  const auto same = [&](const std::string& what, std::uint64_t left, std::uint64_t right) {
    if (left != right && difference.empty())
      difference = what + ": " + a_name + " " + std::to_string(left) + ", " + b_name + " " + std::to_string(right);
  };
  const auto numbered = [](const char* what, std::size_t i) { return std::string(what) + " " + std::to_string(i); };

  // The earliest in time first: it is the cause of the others.
  same("tiles", a.tiles.size(), b.tiles.size());
  for (std::size_t i = 0; i < std::min(a.tiles.size(), b.tiles.size()); ++i) {
    same(numbered("tile", i) + ", begin", a.tiles[i].begin, b.tiles[i].begin);
    same(numbered("tile", i) + ", end", a.tiles[i].end, b.tiles[i].end);
    if (!difference.empty()) return difference;
  }
  same("commands executed", a.retired.size(), b.retired.size());
  for (std::size_t i = 0; i < std::min(a.retired.size(), b.retired.size()); ++i)
    if (a.retired[i] != b.retired[i]) same(numbered("end of command", i), a.retired[i], b.retired[i]);
  for (std::size_t i = 0; i < std::min(a.work.size(), b.work.size()) && difference.empty(); ++i) {
    const std::string command = numbered("command", i) + ", ";
    same(command + "array begins", a.work[i].array.begin, b.work[i].array.begin);
    same(command + "array ends", a.work[i].array.end, b.work[i].array.end);
    same(command + "results begin", a.work[i].results.begin, b.work[i].results.begin);
    same(command + "results end", a.work[i].results.end, b.work[i].results.end);
  }
  for (std::size_t i = 0; i < std::min(a.tags.size(), b.tags.size()); ++i)
    if (a.tags[i] != b.tags[i]) same(numbered("tag of command", i), a.tags[i], b.tags[i]);
  same("tags", a.tags.size(), b.tags.size());
  same("loads", a.loads.size(), b.loads.size());
  for (std::size_t i = 0; i < std::min(a.loads.size(), b.loads.size()) && difference.empty(); ++i) {
    const std::string load = numbered("load", i) + ", ";
    same(load + "pushed", a.loads[i].pushed, b.loads[i].pushed);
    same(load + "issued", a.loads[i].issued, b.loads[i].issued);
    same(load + "completed", a.loads[i].completed, b.loads[i].completed);
    const DescriptorWords left = a.loads[i].descriptor.pack(), right = b.loads[i].descriptor.pack();
    for (std::size_t w = 0; w < kDescriptorWords; ++w) same(load + numbered("descriptor word", w), left[w], right[w]);
  }
  same("phases", a.phase_ends.size(), b.phase_ends.size());
  const auto same_end = [&](const std::string& phase, const EngineRun::PhaseEnd& left,
                            const EngineRun::PhaseEnd& right) {
    same(phase + "tag", left.tag, right.tag);
    same(phase + "begin", left.begin, right.begin);
    same(phase + "cycles", left.cycles, right.cycles);
    same(phase + "commands", left.commands, right.commands);
    for (std::size_t c = 0; c < kNumCauses; ++c)
      same(phase + "cause " + std::string(kCauseNames[c]), left.causes[c], right.causes[c]);
    for (std::size_t block = 0; block < kNumBlocks; ++block) {
      static const char* names[] = {"idle", "busy", "starved", "blocked"};
      for (std::size_t kind = 0; kind < 4; ++kind)
        same(phase + std::string(kBlocks[block].name) + " " + names[kind], left.activity[block][kind],
             right.activity[block][kind]);
    }
    for (std::size_t port = 0; port < kNumMemoryPorts; ++port)
      same(phase + std::string(kMemoryPortNames[port]) + " bytes", left.bytes[port], right.bytes[port]);
    same(phase + "bytes written by the storage", left.written_bytes, right.written_bytes);
    for (std::size_t port = 0; port < kNumMemoryPorts; ++port)
      same(phase + std::string(kMemoryPortNames[port]) + " refresh cycles", left.refresh[port], right.refresh[port]);
  };
  for (std::size_t p = 0; p < std::min(a.phase_ends.size(), b.phase_ends.size()); ++p)
    same_end(numbered("phase", p) + ", ", a.phase_ends[p], b.phase_ends[p]);
  same("stopped before the end", a.cut.has_value(), b.cut.has_value());
  if (a.cut && b.cut) same_end("at the cut, ", *a.cut, *b.cut);
  same("cycles", a.cycles, b.cycles);
  same("memory counters", a.memory_counters.size(), b.memory_counters.size());
  for (std::size_t i = 0; i < std::min(a.memory_counters.size(), b.memory_counters.size()); ++i)
    same("memory, " + std::string(a.memory_counters[i].name), a.memory_counters[i].value, b.memory_counters[i].value);
  const std::vector<std::uint64_t> left_history = numbers_of(a.memory_history),
                                   right_history = numbers_of(b.memory_history);
  same("numbers of the memory's history", left_history.size(), right_history.size());
  for (std::size_t i = 0; i < std::min(left_history.size(), right_history.size()); ++i)
    if (left_history[i] != right_history[i])
      same(numbered("memory's history, number", i), left_history[i], right_history[i]);
  same("storage bytes", a.storage_bytes, b.storage_bytes);
  same("host counters", a.host_counters.size(), b.host_counters.size());
  for (std::size_t i = 0; i < std::min(a.host_counters.size(), b.host_counters.size()); ++i)
    same("host, " + std::string(a.host_counters[i].name), a.host_counters[i].value, b.host_counters[i].value);
  same("layers of the cache", a.cache_layers.size(), b.cache_layers.size());
  for (std::size_t i = 0; i < std::min(a.cache_layers.size(), b.cache_layers.size()); ++i) {
    const auto &left = a.cache_layers[i], &right = b.cache_layers[i];
    const std::string of = numbered("cache, entry", i) + ", ";
    same(of + "layer", left.layer, right.layer);
    same(of + "jobs", left.jobs, right.jobs);
    same(of + "hits", left.hits, right.hits);
    same(of + "loaded bytes", left.loaded_bytes, right.loaded_bytes);
    same(of + "prefetched bytes", left.prefetched_bytes, right.prefetched_bytes);
    same(of + "dropped bytes", left.dropped_bytes, right.dropped_bytes);
  }
  for (std::size_t p = 0; p < kNumMemoryPorts && difference.empty(); ++p) {
    const auto port = static_cast<MemoryPort>(p);
    const std::string of = std::string(kMemoryPortNames[p]) + ", ";
    for (std::size_t c = 0; c < std::max(a.traffic.counters(), b.traffic.counters()); ++c)
      same(of + numbered("counter", c) + " bytes", a.traffic.counted(port, c), b.traffic.counted(port, c));
    same(of + "padding bytes", a.traffic.padding(port), b.traffic.padding(port));
    same(of + "bytes", a.traffic.total(port), b.traffic.total(port));
  }
  return difference;
}

}  // namespace moesaic::program
