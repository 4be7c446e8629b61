#include "cli/verify_workload.h"

#include <cstdio>
#include <memory>
#include <sstream>

#include "base/error.h"
#include "cli/child_process.h"
#include "sim/cosim/builds.h"
#include "sim/cosim/verify_case.h"
#include "sim/run/streamed_program.h"
#include "sim/run/timed_run.h"
#include "workloads/workload_file.h"

namespace moesaic::cli {
namespace {

VerifyWorkloadTotals compare(const VerifyWorkloadOptions& options, const workloads::WorkloadFile& workload,
                             const run::RunInputs& inputs) {
  const program::Chip& chip = options.chip;
  run::LowerChoices choices;
  choices.barriers = options.run.barriers;

  cosim::BenchOptions bench_options;
  bench_options.memory = chip.memory;
  bench_options.period = chip.clock_period();
  bench_options.make_storage = run::storage_of(chip);
  bench_options.fresh_phases = options.run.barriers;
  bench_options.watch_tiles = true;
  bench_options.max_cycles = options.max_cycles;
  bench_options.injection = options.injection;
  cosim::CoreBench bench(cosim::make_cycle_engine(chip.core),
                         options.rtl ? cosim::find_build(chip.core, chip.path, "array").make(chip.core) : nullptr);
  if (!options.waves.empty())
    for (const std::string& file : bench.open_waves(options.waves)) std::fprintf(stderr, "waves: %s\n", file.c_str());

  choices.data = options.run.data;
  run::StreamedProgram program(workload, inputs, chip, choices);
  if (!choices.data) {
    program.program().loaded.image.show_zeros();
    if (program.program().offloaded) program.program().offloaded->storage.show_zeros();
  }
  const std::unique_ptr<program::HostAgent> agent = run::make_agent(chip, program);
  const cosim::BenchRun twin = bench.run(*agent, program.program().loaded.image, bench_options);
  run::check_errors(twin.shift_error, twin.memory_error, twin.storage_error, twin.command_error);

  choices.data = false;
  const auto new_work = [&] {
    const auto again = std::make_shared<run::StreamedProgram>(workload, inputs, chip, choices);
    return cosim::Work{again, run::make_agent(chip, *again), &again->program().loaded.image};
  };
  cosim::compare_with_fast(twin.engine, "cycle", chip.core, new_work, bench_options);
  return {twin.engine.cycles,       twin.engine.retired.size(), twin.engine.tiles.size(),
          twin.engine.loads.size(), twin.port_values_compared,  !twin.engine.cut};
}

}  // namespace

VerifyWorkloadTotals verify_workload(const VerifyWorkloadOptions& options) {
  if (options.chip.storage && options.run.barriers)
    throw base::ConfigError("moesaic verify", "--barriers", "a chip with a storage", "one without");
  if (options.rtl) cosim::find_build(options.chip.core, options.chip.path, "array");
  const workloads::WorkloadFile workload = workloads::read_workload(options.workload);
  const WorkloadRun opened(options.chip, workload, options.run);
  // An engine elaborates once in a process.
  std::istringstream numbers(run_in_child([&] {
    const VerifyWorkloadTotals totals = compare(options, workload, opened.inputs());
    std::ostringstream text;
    text << totals.cycles << ' ' << totals.commands << ' ' << totals.tiles << ' ' << totals.loads << ' '
         << totals.port_values << ' ' << totals.ended;
    return text.str();
  }));
  VerifyWorkloadTotals totals;
  numbers >> totals.cycles >> totals.commands >> totals.tiles >> totals.loads >> totals.port_values >> totals.ended;
  if (!numbers || totals.cycles == 0) throw std::runtime_error("verify: nothing was compared");
  return totals;
}

}  // namespace moesaic::cli
