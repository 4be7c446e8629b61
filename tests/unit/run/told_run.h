#pragma once
/// A run whose lists are all there, told to those who sum up as a running engine would tell it.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/program/phase_source.h"
#include "sim/run/run_inputs.h"
#include "sim/run/summary.h"
#include "sim/run/timeline.h"
#include "sim/run/totals.h"

namespace moesaic::tests {

/// As a recorder checks them, phase by phase and at the end.
inline void check_counts(const program::EngineRun& run) {
  const program::EngineRun::PhaseEnd zero;
  for (std::size_t p = 0; p < run.phase_ends.size(); ++p)
    run::check_phase(p, p == 0 ? zero : run.phase_ends[p - 1], run.phase_ends[p]);
  std::uint64_t loaded = 0;
  for (const program::EngineRun::Load& load : run.loads) loaded += load.descriptor.bytes;
  run::check_loads(run, loaded);
}

struct ToldRun {
  /// All outlive it; `inputs` are gather_inputs()'.
  ToldRun(const program::Chip& chip, const workloads::WorkloadFile& workload, const run::RunInputs& inputs,
          const program::RunProgram& program, const program::EngineRun& engine_run,
          std::size_t most = run::Timeline::kMost)
      : totals(chip, workload, inputs,
               [this](const run::Step& step, const run::StepTimes& times) {
                 steps_csv += run::steps_csv_row(step, times);
               }),
        run{chip, workload, inputs, program, engine_run, totals, "cycle", 1, 1234} {
    run::Timeline timeline(chip, workload.network, "", most);
    program::WholeProgram whole(program);
    std::vector<std::size_t> place(program.loaded.commands.size());
    for (std::size_t i = 0; i < engine_run.tags.size(); ++i)
      if (engine_run.tags[i] < place.size()) place[engine_run.tags[i]] = i;
    for (std::size_t l = 0; l < engine_run.loads.size(); ++l) timeline.load_issued(l, engine_run.loads[l]);
    const program::EngineRun::PhaseEnd zero;
    for (std::size_t p = 0; p < engine_run.phase_ends.size(); ++p) {
      const program::LoweredPhase& lowered = whole.phase(p);
      const std::size_t step = inputs.step_of[p];
      run::PhaseRecord record{p,
                              inputs.steps[step],
                              p == 0 || inputs.step_of[p - 1] != step,
                              p + 1 == inputs.step_of.size() || inputs.step_of[p + 1] != step,
                              inputs.layers[p],
                              lowered,
                              p == 0 ? zero : engine_run.phase_ends[p - 1],
                              engine_run.phase_ends[p],
                              {},
                              {},
                              {}};
      for (std::size_t c = lowered.phase.first_command; c < lowered.command_end(); ++c) {
        record.executed.push_back(engine_run.retired[place[c]]);
        record.executed_before.push_back(place[c] == 0 ? 0 : engine_run.retired[place[c] - 1]);
        record.work.push_back(place[c] < engine_run.work.size() ? engine_run.work[place[c]] : program::CommandWork());
      }
      totals.phase(record);
      timeline.phase(record);
    }
    for (std::size_t i = 0; i < engine_run.retired.size(); ++i) totals.command();
    for (std::size_t l = 0; l < engine_run.loads.size(); ++l) {
      totals.load(engine_run.loads[l]);
      timeline.load_completed(l, engine_run.loads[l]);
    }
    totals.close(program, engine_run);
    timeline.finish(engine_run, "cycle");
    timeline.write([this](std::string_view piece) { timeline_json += piece; });
  }
  ToldRun(const ToldRun&) = delete;
  ToldRun& operator=(const ToldRun&) = delete;

  std::string steps_csv = std::string(run::kStepsCsvHeader), timeline_json;
  run::Totals totals;
  run::Run run;
};

}  // namespace moesaic::tests
