#pragma once
/// What a run says about itself: summary.json, tables by layer, expert and step, and a page for the terminal.
/// Everything follows from the inputs and the engine's run, so that two engines that agree write the same files, the
/// engine's name apart. Definitions are in docs/simulate.md.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "sim/program/chip.h"
#include "sim/program/engine_run.h"
#include "sim/program/layer_program.h"
#include "sim/run/run_inputs.h"

namespace moesaic::run {

struct Run {
  const program::Chip& chip;
  const workloads::WorkloadFile& workload;
  const RunInputs& inputs;
  const program::RunProgram& program;
  const program::EngineRun& engine_run;
  std::string engine;
  std::uint64_t seed = 1;
  std::int64_t values_compared = 0;  ///< results held to reference/numerics, all equal
};

/// Throws base::CheckError when the counts do not add up: every block's and the causes' to the cycles, every phase; the
/// bytes of loads to those that came from the storage and to those that the host asked for; the cache's counts of
/// layers to its counts of the run.
void check_counts(const program::EngineRun& run);

/// Cycle in which a phase began: when the one before it had ended, what is stated had gone on and its request was
/// there.
std::uint64_t phase_begin(const Run& run, std::size_t phase);

/// Where each command of the run's program stands in the order of execution, in which a `wait` may stand between any
/// two. Without offloaded experts it is the program's own order.
std::vector<std::size_t> places_of_commands(const Run& run);

std::string summary_json(const Run& run);
std::string layers_csv(const Run& run);
std::string experts_csv(const Run& run);
std::string steps_csv(const Run& run);
std::string requests_csv(const Run& run);
/// For people: a few tables with units.
std::string page(const Run& run);

}  // namespace moesaic::run
