#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/registry.h"
#include "cli/child_process.h"
#include "cli/commands.h"
#include "cli/effort.h"
#include "cli/run_folder.h"
#include "cli/workload_run.h"
#include "sim/cosim/builds.h"
#include "sim/cosim/core_bench.h"
#include "sim/fast/engine.h"
#include "sim/run/run_files.h"
#include "sim/run/run_recorder.h"
#include "sim/run/streamed_program.h"
#include "sim/run/timed_run.h"

namespace moesaic::cli {
namespace {

/// One who counts cycles: refuses a chip it cannot be, then makes it in the engine's own process. The fast engine makes
/// nothing: it runs in this process.
struct SimulateEngine {
  std::function<void(const program::Chip&)> check;
  std::function<std::unique_ptr<cosim::CoreEngine>(const program::Chip&)> make;
};

base::Registry<SimulateEngine> simulate_engines() {
  base::Registry<SimulateEngine> engines;
  SimulateEngine fast;
  fast.check = [](const program::Chip&) {};  // runs any array
  engines.add("fast", fast);
  SimulateEngine cycle;
  cycle.check = [](const program::Chip&) {};  // runs any array
  cycle.make = [](const program::Chip& chip) { return cosim::make_cycle_engine(chip.core); };
  engines.add("cycle", cycle);
  SimulateEngine rtl;
  rtl.check = [](const program::Chip& chip) { cosim::find_build(chip.core, chip.path, "array"); };
  rtl.make = [](const program::Chip& chip) { return cosim::find_build(chip.core, chip.path, "array").make(chip.core); };
  engines.add("rtl", rtl);
  return engines;
}

struct SimulateOptions {
  std::string chip;
  std::string workload;
  std::string plan;
  std::string engine = "cycle";
  std::string out;
  std::uint64_t seed = 1;
  std::int64_t threads = 0;
  bool no_shortcuts = false, no_data = false, barriers = false, foreign_plan = false;
  bool json = false;
};

/// All that a run leaves behind, but for what lies in temporary files (run::RunFiles).
struct Results {
  run::RunTexts texts;
  double seconds = 0;                  ///< of the engine
  std::optional<fast::Effort> effort;  ///< of the fast engine
};

/// Texts and numbers as bytes, for the way from the engine's process.
class Bytes {
 public:
  Bytes() = default;
  explicit Bytes(std::string bytes) : bytes_(std::move(bytes)) {}
  template <class T>
  void put(const T& number) {
    bytes_.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  void put(const std::string& text) {
    put(text.size());
    bytes_ += text;
  }
  template <class T>
  void take(T& number) {
    std::memcpy(&number, next(sizeof number), sizeof number);
  }
  void take(std::string& text) {
    std::size_t size = 0;
    take(size);
    text.assign(next(size), size);
  }
  std::string text() const { return bytes_; }

 private:
  const char* next(std::size_t count) {
    if (count > bytes_.size() - at_) throw std::logic_error("an engine's answer is too short");
    at_ += count;
    return bytes_.data() + at_ - count;
  }
  std::string bytes_;
  std::size_t at_ = 0;
};

/// One run: from inputs to results.
class Simulation {
 public:
  Simulation(const SimulateOptions& options, const program::Chip& chip, const workloads::WorkloadFile& workload,
             const WorkloadRun& opened, const std::string& folder)
      : options_(options), chip_(chip), files_(chip, workload, opened.inputs(), folder) {
    files_options_.engine = options.engine;
    files_options_.seed = options.seed;
    files_options_.barriers = options.barriers;
    files_options_.data = !options.no_data;
    files_options_.threads = opened.threads();
    files_options_.scheduler = opened.scheduler();
    files_options_.progress = phase_progress;
  }

  /// The fast engine runs here, others in a child process.
  Results run(const SimulateEngine& engine) {
    if (!engine.make) return simulate(engine);
    Bytes answer(run_in_child([&] {
      Results results = simulate(engine);
      Bytes bytes;
      for (const std::string* text : texts_of(results)) bytes.put(*text);
      bytes.put(results.texts.cycles);
      bytes.put(results.seconds);
      return bytes.text();
    }));
    Results results;
    for (std::string* text : texts_of(results)) answer.take(*text);
    answer.take(results.texts.cycles);
    answer.take(results.seconds);
    return results;
  }

  void write_timeline(base::AtomicFile& file) {
    files_.write_timeline([&file](std::string_view piece) { file.write(piece); });
  }
  void write_steps(base::AtomicFile& file) {
    files_.write_steps([&file](std::string_view piece) { file.write(piece); });
  }

 private:
  static std::vector<std::string*> texts_of(Results& results) {
    run::RunTexts& texts = results.texts;
    return {&texts.summary, &texts.layers, &texts.experts, &texts.requests, &texts.page};
  }

  Results simulate(const SimulateEngine& engine) {
    Results results;
    results.texts = files_
                        .make(files_options_,
                              [&](run::StreamedProgram& program, run::RunRecorder& recorder) {
                                if (engine.make) return run_bench(engine, program, recorder, results);
                                run::FastRun fast = run::run_fast(chip_, program, recorder, {!options_.no_shortcuts});
                                results.seconds = fast.seconds;
                                results.effort = fast.effort;
                                return std::move(fast.run);
                              })
                        .value();
    return results;
  }

  program::EngineRun run_bench(const SimulateEngine& engine, run::StreamedProgram& program, run::RunRecorder& recorder,
                               Results& results) {
    cosim::BenchOptions bench_options;
    bench_options.memory = chip_.memory;
    bench_options.period = chip_.clock_period();
    bench_options.fresh_phases = options_.barriers;
    bench_options.make_storage = run::storage_of(chip_);
    bench_options.sink = &recorder;
    cosim::CoreBench bench(engine.make(chip_));
    const std::unique_ptr<program::HostAgent> agent = run::make_agent(chip_, program);
    const auto start = std::chrono::steady_clock::now();
    cosim::BenchRun run = bench.run(*agent, program.program().loaded.image, bench_options);
    results.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() - recorder.seconds_beside();
    run::check_errors(run.shift_error, run.memory_error, run.storage_error, run.command_error);
    return std::move(run.engine);
  }

  const SimulateOptions& options_;
  const program::Chip& chip_;
  run::RunFiles files_;
  run::FilesOptions files_options_;
};

std::string host_json(const SimulateOptions& options, const Results& results) {
  nlohmann::ordered_json j;
  j["engine"] = options.engine;
  j["engine_seconds"] = results.seconds;
  j["simulated_cycles_per_second"] = static_cast<double>(results.texts.cycles) / results.seconds;
  if (results.effort) {
    // How the engine got through the run's cycles: no result depends on it.
    j["shortcuts"]["on"] = !options.no_shortcuts;
    put_effort(*results.effort, j["shortcuts"]);
  }
  return base::dump_json(j, 2) + "\n";
}

void check_options(const SimulateOptions& options) {
  if (options.foreign_plan && !std::filesystem::is_regular_file(options.plan))
    throw base::ConfigError("moesaic simulate", "--foreign-plan", "it without a plan file", "one as --plan");
  for (const auto& [given, name] :
       {std::pair(options.no_shortcuts, "--no-shortcuts"), std::pair(options.no_data, "--no-data")})
    if (given && options.engine != "fast")
      throw base::ConfigError("moesaic simulate", name, "--engine " + options.engine, "--engine fast with it");
}

/// The shares of cycles by how the fast engine got through them.
std::string effort_line(const Results& results) {
  const fast::Effort& effort = *results.effort;
  const auto percent = [&](std::uint64_t cycles) {
    return 100.0 * static_cast<double>(cycles) / static_cast<double>(std::max<std::uint64_t>(results.texts.cycles, 1));
  };
  return fmt::format("  cycles stepped {:.2f} %, skipped {:.2f} %, repeated {:.2f} % ({} states)\n",
                     percent(effort.stepped), percent(effort.skipped), percent(effort.repeated), effort.states);
}

void run_simulate(const SimulateOptions& options) {
  const program::Chip chip = program::read_chip(options.chip);
  const auto engines = simulate_engines();
  const SimulateEngine& engine = engines.at(options.engine, "moesaic simulate", "--engine");
  check_options(options);
  engine.check(chip);
  if (chip.storage && options.barriers)
    throw base::ConfigError("moesaic simulate", "--barriers", "a chip with a storage", "one without");
  const workloads::WorkloadFile workload = workloads::read_workload(options.workload);
  const RunFolder folder(options.out, {"summary.json", "layers.csv", "experts.csv", "steps.csv", "requests.csv",
                                       "timeline.json", "host.json"});

  WorkloadRunOptions opening;
  opening.plan = options.plan;
  opening.foreign_plan = options.foreign_plan;
  opening.seed = options.seed;
  opening.threads = options.threads;
  opening.data = !options.no_data;
  opening.barriers = options.barriers;
  opening.shortcuts = !options.no_shortcuts;
  const WorkloadRun opened(chip, workload, opening);
  Simulation simulation(options, chip, workload, opened, folder.parent());
  const Results results = simulation.run(engine);
  const auto text = [](const std::string& content) {
    return [&content](base::AtomicFile& file) { file.write(content); };
  };
  const std::string host = host_json(options, results);
  folder.commit({{"summary.json", text(results.texts.summary)},
                 {"layers.csv", text(results.texts.layers)},
                 {"experts.csv", text(results.texts.experts)},
                 {"steps.csv", [&simulation](base::AtomicFile& file) { simulation.write_steps(file); }},
                 {"requests.csv", text(results.texts.requests)},
                 {"timeline.json", [&simulation](base::AtomicFile& file) { simulation.write_timeline(file); }},
                 {"host.json", text(host)}});
  if (options.json) {
    fmt::print("{}", results.texts.summary);
  } else {
    fmt::print("{}\n{}  {:.1f} s of engine time, {:.0f} simulated cycles a second; files in {}\n", results.texts.page,
               results.effort ? effort_line(results) : "", results.seconds,
               static_cast<double>(results.texts.cycles) / results.seconds, options.out);
  }
}

}  // namespace

void add_simulate(CLI::App& app) {
  CLI::App* command = app.add_subcommand("simulate", "Run a workload on a chip, cycle by cycle");
  const auto options = std::make_shared<SimulateOptions>();
  command->add_option("--chip", options->chip, "The chip, YAML")->required()->type_name("FILE");
  command->add_option("--workload", options->workload, "The workload, YAML")->required()->type_name("FILE");
  command
      ->add_option("--plan", options->plan,
                   "A plan file, or one format for every expert (int1..int8, nested1..nested8, "
                   "binary, ternary); int8 when absent")
      ->type_name("PLAN|FORMAT");
  command->add_flag("--foreign-plan", options->foreign_plan,
                    "Take a plan file that was made for another chip, trace or selection of its rows");
  command->add_option("--engine", options->engine, "Who counts the cycles: " + simulate_engines().choices())
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--out", options->out, "Folder for the results: new, empty, or an earlier run's")
      ->required()
      ->type_name("DIR");
  command->add_option("--seed", options->seed, "For what the workload does not state")->capture_default_str();
  command
      ->add_option("--threads", options->threads,
                   "Threads before the engine runs; 0 takes all. No result depends on it")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1024}))
      ->capture_default_str();
  command->add_flag("--no-shortcuts", options->no_shortcuts, "With --engine fast: step every cycle; the same results");
  command->add_flag(
      "--no-data", options->no_data,
      "With --engine fast: cycles and bytes only, from shapes; no weights are made and no result computed");
  command->add_flag("--barriers", options->barriers,
                    "One expert at a time: the core is idle between them, as profile measures");
  command->add_flag("--json", options->json, "Print summary.json");
  command->callback([options] { run_simulate(*options); });
}

}  // namespace moesaic::cli
