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
std::function<std::unique_ptr<storage::CoreStorage>()> storage_of(const program::Chip& chip);

struct FastRun {
  program::EngineRun run;  ///< without the lists that grow with the run
  fast::Effort effort;
  double seconds = 0;  ///< of the engine
};

/// Runs the program here, and computes its data into the image as it goes, unless that has no bytes. CheckError when
/// the core reports an error.
FastRun run_fast(const program::Chip& chip, StreamedProgram& program, RunRecorder& recorder, bool shortcuts = true);

/// CheckError that names the first error that the core reports, if there is any.
void check_errors(bool shift, bool memory, bool storage, bool command);

/// Called with a run's name and the number of its phases when it begins; what it gives is called with how many
/// thousandths of phases are done, and is gone when the run ends. May be empty.
using RunProgress = std::function<std::function<void(std::size_t)>(const std::string& label, std::size_t phases)>;

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
