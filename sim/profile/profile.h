#pragma once
/// The latencies that the mapper budgets, measured by the fast engine.
///
/// profile() runs a workload once a format, every expert in it, with a barrier between experts
/// (program::LowerOptions::barriers): what an expert takes then depends on its own format alone, so that the sum over
/// the experts of any plan, with the rest of the layers, is what simulating that plan with barriers takes, to the
/// cycle. That holds where the memory keeps nothing from one expert to the next: behind the simple memory, not behind a
/// DRAM, whose open rows and refreshes do.
///
/// Where rows are of several classes of requests (workloads/plan.h) an expert has a job for every width that some of
/// its rows read. A job's cycles depend on its format and on the classes that read so, whatever the others read: the
/// table has a row for each format and set of classes, and what an expert takes under a plan is the sum over its
/// widths. A run measures as many of them as it has widths, so that there are fewer runs than ways to read an expert.
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
#include <utility>
#include <vector>

#include "reference/numerics/expert_formats.h"
#include "sim/fast/engine.h"
#include "sim/program/chip.h"
#include "sim/run/run_inputs.h"
#include "workloads/class_set.h"
#include "workloads/latency_table.h"

namespace moesaic::profile {

/// SHA-256 of the sources that make cycles of commands: sim/fast, sim/program, models.
std::string engine_hash();

/// SHA-256 of what the chip gets to do, formats apart: every batch's rows, shapes and choices, and the group size.
std::string work_hash(const run::RunInputs& inputs);

/// $XDG_CACHE_HOME/moesaic/profile or ~/.cache/moesaic/profile; empty when neither variable is set.
std::string default_cache();

struct Options {
  std::string cache;              ///< a folder, made when needed; empty: none
  bool cache_by_default = false;  ///< nobody chose that folder: its refusal says how to choose another
  unsigned threads = 1;
  /// Called under a lock as runs end; may be empty.
  std::function<void(std::size_t done, std::size_t total)> progress;
};

/// What every class of requests reads of an expert; one: what all rows read.
using Reads = std::vector<numerics::ExpertFormats>;

/// The formats of `reads`, each with the classes that read it: kEveryRow where there is one.
std::vector<std::pair<numerics::ExpertFormats, workloads::ClassSet>> widths_of(const Reads& reads);

/// Some of `wanted` whose widths_of() are those of all of them: the one with the most that no earlier one has, the
/// first of equals, until none has any.
std::vector<Reads> covering(const std::vector<Reads>& wanted);

struct Profile {
  workloads::LatencyTable table;
  std::size_t runs = 0;    ///< programs: one a format, or one for each of covering()
  std::size_t cached = 0;  ///< of them, those found in the cache
};

/// A row for each of `experts` experts of every layer that the workload runs, in every format and by every set of
/// classes that `wanted` holds, then the layer's rest. All of `wanted` are of one number of classes, which the trace's
/// levels number where there are two or more (run::InputOptions::classes). Of `inputs` the plan does not matter, nor
/// does the chip's storage: every expert is in the memory. A cached file that does not read is replaced.
/// base::ConfigError as lowering says, and for a chip without the stated costs that the workload needs.
Profile profile(const run::RunInputs& inputs, const program::Chip& chip, std::int64_t experts,
                const std::vector<Reads>& wanted, const Options& options);

/// The same where all rows of an expert read one format.
Profile profile(const run::RunInputs& inputs, const program::Chip& chip, std::int64_t experts,
                const std::vector<numerics::ExpertFormats>& formats, const Options& options);

}  // namespace moesaic::profile
