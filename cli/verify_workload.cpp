#include "cli/verify_workload.h"

#include <cstdio>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include "base/error.h"
#include "cli/child_process.h"
#include "sim/cosim/builds.h"
#include "sim/cosim/verify_case.h"
#include "sim/program/engine_run.h"
#include "sim/run/run_files.h"
#include "sim/run/streamed_program.h"
#include "sim/run/timed_run.h"
#include "workloads/workload_file.h"

namespace moesaic::cli {
namespace {

void check_storage(const VerifyWorkloadOptions& options) {
  if (options.chip.storage && options.run.barriers)
    throw base::ConfigError("moesaic verify", "--barriers", "a chip with a storage", "one without");
}

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

/// One way of the fast engine through a run.
struct Way {
  const char* name;
  run::FastChoices choices;
};

program::Chip slower_chip(program::Chip chip, std::int64_t clocks) {
  chip.memory.read_latency_cycles += clocks;
  chip.memory.dram.timing.cl += clocks;
  chip.memory.dram.timing.rtw += clocks;  // which leaves room for it
  return chip;
}

/// Little is remembered at once beside what eager runs remember: now and then it is forgotten.
constexpr std::size_t kEagerStateBytes = std::size_t{24} << 20;

/// The run on one way: its files, or where it is cut its numbers.
class FastWay {
 public:
  FastWay(const VerifyWorkloadOptions& options, const program::Chip& chip, const workloads::WorkloadFile& workload,
          const WorkloadRun& opened, Way way)
      : options_(options),
        chip_(chip),
        workload_(workload),
        opened_(opened),
        way_(std::move(way)),
        files_(chip, workload, opened.inputs(), "") {
    way_.choices.max_cycles = options.max_cycles;
  }

  /// `cut`: it is known that the run is.
  void go(bool cut) {
    run::FilesOptions files;
    files.engine = "fast";
    files.seed = options_.run.seed;
    files.barriers = options_.run.barriers;
    files.data = false;
    files.scheduler = opened_.scheduler();
    if (!cut)
      texts_ = files_.make(files, [&](run::StreamedProgram& program, run::RunRecorder& recorder) {
        return take(run::run_fast(chip_, program, recorder, way_.choices));
      });
    if (texts_) return;
    run::LowerChoices choices;
    choices.barriers = options_.run.barriers;
    choices.data = false;
    run::StreamedProgram program(workload_, opened_.inputs(), chip_, choices);
    numbers_ = take(run::run_fast(chip_, program, way_.choices));
  }

  /// base::CheckError where this run is not the stepped one.
  void compare(FastWay& stepped) {
    std::string difference;
    if (is_cut() != stepped.is_cut())
      difference = "cycles: " + std::string(is_cut() ? way_.name : stepped.way_.name) + " more than " +
                   std::to_string(*options_.max_cycles) + ", " + (is_cut() ? stepped : *this).way_.name + " " +
                   std::to_string((is_cut() ? stepped : *this).cycles());
    else if (is_cut())
      difference = program::first_run_difference(numbers_, stepped.numbers_, way_.name, stepped.way_.name);
    else
      difference =
          run::first_file_difference(files_, *texts_, stepped.files_, *stepped.texts_, way_.name, stepped.way_.name);
    if (!difference.empty()) throw base::CheckError(difference);
  }

  bool is_cut() const { return !texts_; }
  std::uint64_t cycles() const { return texts_ ? texts_->cycles : numbers_.cycles; }
  const fast::Effort& effort() const { return effort_; }

 private:
  program::EngineRun take(run::FastRun fast) {
    effort_ = fast.effort;
    const std::uint64_t all = effort_.stepped + effort_.skipped + effort_.repeated;
    if (all != fast.run.cycles || (!way_.choices.shortcuts && effort_.stepped != all) ||
        effort_.streamed > effort_.skipped || effort_.stocked + effort_.unasked > effort_.repeated ||
        effort_.linked > effort_.unasked)
      throw base::CheckError(std::string(way_.name) + ": stepped, skipped and repeated cycles do not add up");
    return std::move(fast.run);
  }

  const VerifyWorkloadOptions& options_;
  const program::Chip& chip_;
  const workloads::WorkloadFile& workload_;
  const WorkloadRun& opened_;
  Way way_;
  run::RunFiles files_;
  std::optional<run::RunTexts> texts_;
  program::EngineRun numbers_;
  fast::Effort effort_;
};

}  // namespace

VerifyShortcutsTotals verify_shortcuts(const VerifyWorkloadOptions& options) {
  check_storage(options);
  const workloads::WorkloadFile workload = workloads::read_workload(options.workload);
  const WorkloadRun opened(options.chip, workload, options.run);
  run::FastChoices shortcuts, eager, none;
  eager.eager = true;
  eager.state_bytes = kEagerStateBytes;
  none.shortcuts = false;
  const program::Chip slower = slower_chip(options.chip, options.slower);
  FastWay plain_way(options, options.chip, workload, opened, {"shortcuts", shortcuts});
  FastWay eager_way(options, options.chip, workload, opened, {"eager shortcuts", eager});
  FastWay stepped(options, slower, workload, opened, {"none", none});
  plain_way.go(false);
  stepped.go(plain_way.is_cut());
  plain_way.compare(stepped);
  eager_way.go(plain_way.is_cut());
  eager_way.compare(stepped);
  return {plain_way.cycles(), !plain_way.is_cut(), plain_way.effort(), eager_way.effort()};
}

VerifyWorkloadTotals verify_workload(const VerifyWorkloadOptions& options) {
  check_storage(options);
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
