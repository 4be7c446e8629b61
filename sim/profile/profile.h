#pragma once
/// The latencies that the mapper budgets, measured by the fast engine.
///
/// profile() runs a workload once a format, every expert in it, with a barrier between experts
/// (program::LowerOptions::barriers): what an expert takes then depends on its own format alone, so that the sum over
/// the experts of any plan, with the rest of the layers, is what simulating that plan with barriers takes, to the
/// cycle. That holds where the memory keeps nothing from one expert to the next: behind the simple memory, not behind a
/// DRAM, whose open rows and refreshes do.
///
/// What the chip file states to pass beside the core before a phase (stated_costs) passes here as it does in a run, and
/// is the layer's rest.
///
/// Runs are cached by content. The key is a SHA-256 over all that decides the cycles: the engine's sources, the chip
/// file, and the lowered program, which shapes, formats, layout, group size, batches and routing went into.
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "reference/numerics/expert_formats.h"
#include "sim/fast/engine.h"
#include "sim/program/chip.h"
#include "sim/run/run_inputs.h"
#include "workloads/latency_table.h"

namespace moesaic::profile {

/// SHA-256 of the sources that make cycles of commands: sim/fast, sim/program, models.
std::string engine_hash();

/// SHA-256 of what the chip gets to do, formats apart: every batch's rows, shapes and choices, and the group size.
std::string work_hash(const run::RunInputs& inputs);

/// $XDG_CACHE_HOME/moesaic/profile or ~/.cache/moesaic/profile; empty when neither variable is set.
std::string default_cache();

struct Options {
  std::string cache;  ///< a folder, made when needed; empty: none
  unsigned threads = 1;
  /// Called under a lock as runs end; may be empty.
  std::function<void(std::size_t done, std::size_t total)> progress;
};

struct Profile {
  workloads::LatencyTable table;
  std::size_t runs = 0;    ///< programs: one a format
  std::size_t cached = 0;  ///< of them, those found in the cache
};

/// A row for each of `experts` experts of every layer that the workload runs, in every format, then the layer's rest.
/// Of `inputs` the plan does not matter, nor does the chip's storage: every expert is in the memory. A cached file that
/// does not read is replaced. base::ConfigError as lowering says, and for a chip without the stated costs that the
/// workload needs.
Profile profile(const run::RunInputs& inputs, const program::Chip& chip, std::int64_t experts,
                const std::vector<numerics::ExpertFormats>& formats, const Options& options);

}  // namespace moesaic::profile
