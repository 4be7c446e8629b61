#pragma once
/// What a run says about itself: summary.json, tables by layer, expert and step, and a page for the terminal.
/// Everything follows from the inputs and the engine's run, so that two engines that agree write the same files, the
/// engine's name apart. Definitions are in docs/simulate.md.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "sim/program/chip.h"
#include "sim/program/engine_run.h"
#include "sim/program/layer_program.h"
#include "sim/run/run_inputs.h"
#include "sim/run/totals.h"

namespace moesaic::run {

struct Run {
  const program::Chip& chip;
  const workloads::WorkloadFile& workload;
  const RunInputs& inputs;
  const program::RunProgram& program;  ///< without its phases, jobs and commands
  const program::EngineRun& engine_run;
  const Totals& totals;  ///< closed
  std::string engine;
  std::uint64_t seed = 1;
  std::int64_t values_compared = 0;  ///< results held to reference/numerics, all equal
};

std::string summary_json(const Run& run);
std::string layers_csv(const Run& run);
std::string experts_csv(const Run& run);
/// steps.csv is its header and a row for each step, in the order in which they end.
inline constexpr std::string_view kStepsCsvHeader = "request,requests,step,phase,tokens,cycles\n";
std::string steps_csv_row(const Step& step, const StepTimes& times);
std::string requests_csv(const Run& run);
/// For people: a few tables with units.
std::string page(const Run& run);

}  // namespace moesaic::run
