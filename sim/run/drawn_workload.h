#pragma once
/// A chip and a workload for it, drawn from a seed: array, bus, clock, buffers, layout, memory with its timings,
/// mapping and queues, a storage and a cache in front of it; a small Mixture-of-Experts network, what of it runs, a
/// routing trace, batches and the experts' formats. The files are those that `simulate` reads, so that a case can be
/// looked at, cut down and run by hand. They are drawn for the fast engine's shortcuts: runs of some million cycles,
/// mostly of weights that stream from a DRAM whose refreshes often come sooner than the part's own.
#include <cstdint>
#include <string>

#include "workloads/synth.h"

namespace moesaic::run {

struct DrawnWorkload {
  std::string chip, network, workload;  ///< of chip.yaml, network.yaml, workload.yaml; the last names the others
  workloads::SynthParameters trace;     ///< of trace.csv
  std::string plan;                     ///< one format or several, as `simulate --plan` takes them
  bool barriers = false;
  std::string text;           ///< "r32c32p4 w64 1000 MHz plane_major gddr6-16000 x1 refi 1900 cache lfu int4 ..."
  std::string configuration;  ///< array, bus, layout, memory, cache, format: a text without sizes
};

/// Number `index` of a seed is always the same, whatever else is drawn.
DrawnWorkload draw_workload(std::uint64_t seed, std::uint64_t index);

/// Writes chip.yaml, network.yaml, trace.csv and workload.yaml into a folder that is there, and run.txt, how `simulate`
/// runs them. base::InputError as base::write_file().
void write_files(const DrawnWorkload& drawn, const std::string& folder);

}  // namespace moesaic::run
