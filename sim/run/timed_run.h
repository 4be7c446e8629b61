#pragma once
/// A workload's run on a chip, the same for every command that wants one: as it comes into being (streamed_program.h)
/// with what the chip file says of storage, cache and stated costs, its steps waiting for their requests, its schedule
/// found where batching is continuous; and the fast engine's run of it. What `simulate` runs, and what `map` and
/// `pareto` state of a plan.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/storage/core_storage.h"
#include "sim/fast/engine.h"
#include "sim/program/chip.h"
#include "sim/run/run_inputs.h"
#include "sim/run/run_recorder.h"
#include "sim/run/schedule.h"
#include "sim/run/streamed_program.h"
#include "workloads/workload_file.h"

namespace moesaic::run {

/// What makes the storage behind the core's port; empty when the chip has none. The chip outlives it.
std::function<std::unique_ptr<storage::CoreStorage>(memory::MemoryModel&)> storage_of(const program::Chip& chip);

struct FastRun {
  program::EngineRun run;  ///< with a recorder without the lists that grow with the run
  fast::Effort effort;
  double seconds = 0;  ///< of the engine
};

/// How the fast engine goes: no result depends on it, but that of a run that is cut.
struct FastChoices {
  bool shortcuts = true;
  bool eager = false;                         ///< fast::Options::eager
  std::optional<std::size_t> state_bytes{};   ///< fast::Options::state_bytes, where not its own
  std::optional<std::uint64_t> max_cycles{};  ///< the run is cut there: EngineRun::cut
};

/// Runs the program here, and computes its data into the image as it goes, unless that has no bytes. CheckError when
/// the core reports an error.
FastRun run_fast(const program::Chip& chip, StreamedProgram& program, RunRecorder& recorder,
                 const FastChoices& choices = {});
/// The same of a program without data, with nobody to tell: the run has its lists, which grow with it.
FastRun run_fast(const program::Chip& chip, StreamedProgram& program, const FastChoices& choices);

/// CheckError that names the first error that the core reports, if there is any.
void check_errors(bool shift, bool memory, bool storage, bool command);

struct Timing {
  std::int64_t cycles = 0;
  std::map<int, std::int64_t> layer_cycles;  ///< over all batches
};

/// A schedule that follows from its own run, and that run's cycles.
struct ScheduledRun {
  Scheduler scheduler;
  Timing timing;
};

/// Of a workload with continuous batching. Runs schedules without data until one follows from its own run.
/// `options.schedule` and `options.weights` do not matter.
ScheduledRun find_schedule(const workloads::WorkloadFile& workload, const program::Chip& chip, InputOptions options,
                           bool barriers, const ShapesOf& shapes, bool shortcuts, const RunProgress& progress = {});

/// What `simulate` says the workload takes, without data. `inputs` are the workload's under `options`, without a
/// schedule; with continuous batching the schedule that follows from `shapes` is found first.
Timing time_run(const workloads::WorkloadFile& workload, const RunInputs& inputs, const InputOptions& options,
                const program::Chip& chip, const ShapesOf& shapes);

}  // namespace moesaic::run
