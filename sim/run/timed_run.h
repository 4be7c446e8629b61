#pragma once
/// A workload's run on a chip, the same for every command that wants one: lowered with what the chip file says of
/// storage, cache and stated costs, its steps waiting for their requests, its schedule found where batching is
/// continuous; and the fast engine's run of it. What `simulate` runs, and what `map` and `pareto` state of a plan.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/storage/core_storage.h"
#include "sim/fast/engine.h"
#include "sim/program/chip.h"
#include "sim/program/host_agent.h"
#include "sim/program/layer_program.h"
#include "sim/run/run_inputs.h"
#include "sim/run/schedule.h"
#include "workloads/workload_file.h"

namespace moesaic::run {

/// What experts are in the place of what the inputs say: another plan's formats. Empty: the inputs' own.
using ShapesOf = std::function<program::ShapeOf(const RunInputs& inputs)>;

struct LowerChoices {
  bool barriers = false;  ///< not with a storage
  bool data = true;       ///< false: shapes only
  ShapesOf shapes;        ///< without data only
};

/// What an engine runs. InputError as program::lower_layers() and RunProgram::state_costs() say, and for a memory that
/// does not hold the run; ConfigError when the trace has fewer steps before the run than the cache is to start with.
program::RunProgram lower(const workloads::WorkloadFile& workload, const RunInputs& inputs, const program::Chip& chip,
                          const LowerChoices& choices);

/// Who offers the program's commands: the chip's cache, or the program with the times before its phases. `lowered`
/// outlives it, as does `phases`, its timed phases.
std::unique_ptr<program::HostAgent> make_agent(const program::Chip& chip, const program::RunProgram& lowered,
                                               const std::vector<program::TimedPhase>& phases);

/// What makes the storage behind the core's port; empty when the chip has none. The chip outlives it.
std::function<std::unique_ptr<storage::CoreStorage>()> storage_of(const program::Chip& chip);

struct FastOptions {
  bool shortcuts = true;
  /// Called with a run's name and the number of its program's commands when it begins; what it gives is called with how
  /// many of them were executed, and is gone when the run ends. May be empty.
  std::function<std::function<void(std::size_t)>(const std::string& label, std::size_t commands)> progress;
  std::string label = "simulate";
};

struct FastRun {
  program::EngineRun run;
  fast::Effort effort;
  double seconds = 0;  ///< of the engine
};

/// Runs the program here, then computes its data into the image, unless that has no bytes. CheckError when the core
/// reports an error.
FastRun run_fast(const program::Chip& chip, program::RunProgram& lowered, const FastOptions& options = {});

/// CheckError that names the first error that the core reports, if there is any.
void check_errors(bool shift, bool memory, bool storage, bool command);

/// When each step ended.
std::vector<std::uint64_t> step_ends(const RunInputs& inputs, const program::EngineRun& run);

/// A schedule that follows from its own run, and that run, without data.
struct ScheduledRun {
  Scheduler scheduler;
  RunInputs inputs;
  program::EngineRun run;  ///< phases are layers'
};

/// Of a workload with continuous batching. Runs schedules until one follows from its own run. `options.schedule` and
/// `options.weights` do not matter.
ScheduledRun find_schedule(const workloads::WorkloadFile& workload, const program::Chip& chip, InputOptions options,
                           bool barriers, const ShapesOf& shapes, FastOptions fast_options);

struct Timing {
  std::int64_t cycles = 0;
  std::map<int, std::int64_t> layer_cycles;  ///< over all batches
};

/// What `simulate` says the workload takes, without data. `inputs` are the workload's under `options`, without a
/// schedule; with continuous batching the schedule that follows from `shapes` is found first.
Timing time_run(const workloads::WorkloadFile& workload, const RunInputs& inputs, const InputOptions& options,
                const program::Chip& chip, const ShapesOf& shapes);

}  // namespace moesaic::run
