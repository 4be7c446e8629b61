#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "base/registry.h"
#include "cli/child_process.h"
#include "cli/commands.h"
#include "cli/plan_check.h"
#include "cli/run_folder.h"
#include "reference/network/forward.h"
#include "sim/cosim/builds.h"
#include "sim/cosim/core_bench.h"
#include "sim/fast/engine.h"
#include "sim/run/run_inputs.h"
#include "sim/run/schedule.h"
#include "sim/run/summary.h"
#include "sim/run/timed_run.h"
#include "sim/run/timeline.h"

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

/// Numbers as bytes, for the way from the engine's process.
class Bytes {
 public:
  Bytes() = default;
  explicit Bytes(std::string bytes) : bytes_(std::move(bytes)) {}
  void put(std::uint64_t value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof value); }
  void put(const std::vector<std::uint8_t>& block) { bytes_.append(block.begin(), block.end()); }
  void put(const std::string& text) {
    put(text.size());
    bytes_ += text;
  }
  std::string take_text() {
    std::string text(take(), '\0');
    take(reinterpret_cast<std::uint8_t*>(text.data()), text.size());
    return text;
  }
  std::uint64_t take() {
    std::uint64_t value = 0;
    take(reinterpret_cast<std::uint8_t*>(&value), sizeof value);
    return value;
  }
  void take(std::uint8_t* to, std::size_t count) {
    if (count > bytes_.size() - at_) throw std::logic_error("an engine's answer is too short");
    std::memcpy(to, bytes_.data() + at_, count);
    at_ += count;
  }
  std::string text() const { return bytes_; }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

void put_counters(Bytes& bytes, const std::vector<memory::Counter>& counters) {
  bytes.put(counters.size());
  for (const memory::Counter& counter : counters) {
    bytes.put(counter.name);
    bytes.put(counter.value);
  }
}

std::vector<memory::Counter> take_counters(Bytes& bytes) {
  std::vector<memory::Counter> counters(bytes.take());
  for (memory::Counter& counter : counters) {
    counter.name = bytes.take_text();
    counter.value = bytes.take();
  }
  return counters;
}

/// visit(std::uint64_t&) on all numbers of a run but the counters with names; `resize` on its vectors before that.
template <class Visit, class Resize>
void for_each_count(program::EngineRun& run, const Visit& visit, const Resize& resize) {
  visit(run.cycles);
  visit(run.storage_bytes);
  resize(run.retired);
  for (std::uint64_t& cycle : run.retired) visit(cycle);
  resize(run.tags);
  for (std::uint64_t& tag : run.tags) visit(tag);
  resize(run.phase_ends);
  for (auto& end : run.phase_ends) {
    for (std::uint64_t* count : {&end.tag, &end.begin, &end.cycles, &end.commands}) visit(*count);
    for (auto& block : end.activity)
      for (std::uint64_t& count : block) visit(count);
    for (std::uint64_t& count : end.causes) visit(count);
    for (std::uint64_t& count : end.bytes) visit(count);
    for (std::uint64_t& count : end.refresh) visit(count);
  }
  resize(run.loads);
  for (auto& load : run.loads) {
    program::DescriptorWords words = load.descriptor.pack();
    for (std::uint32_t& word : words) {
      std::uint64_t value = word;
      visit(value);
      word = static_cast<std::uint32_t>(value);
    }
    load.descriptor = program::Descriptor::unpack(words);
    for (std::uint64_t* cycle : {&load.pushed, &load.issued, &load.completed}) visit(*cycle);
  }
  resize(run.cache_layers);
  for (auto& of : run.cache_layers)
    for (std::uint64_t* count :
         {&of.layer, &of.jobs, &of.hits, &of.loaded_bytes, &of.prefetched_bytes, &of.dropped_bytes})
      visit(*count);
  run.memory_history.for_each_count(visit, resize);
  run.traffic.for_each_count(visit);
}

void put_run(Bytes& bytes, program::EngineRun& run) {
  for_each_count(
      run, [&bytes](std::uint64_t& value) { bytes.put(value); },
      [&bytes](const auto& vector) { bytes.put(vector.size()); });
  put_counters(bytes, run.memory_counters);
  put_counters(bytes, run.host_counters);
}

/// `run` has the traffic of the image's regions.
void take_run(Bytes& bytes, program::EngineRun& run) {
  for_each_count(
      run, [&bytes](std::uint64_t& value) { value = bytes.take(); },
      [&bytes](auto& vector) { vector.resize(bytes.take()); });
  run.memory_counters = take_counters(bytes);
  run.host_counters = take_counters(bytes);
}

struct Results {
  program::EngineRun run;
  double seconds = 0;
  std::optional<fast::Effort> effort;  ///< of the fast engine
};

class CommandProgress {
 public:
  CommandProgress(const std::string& label, std::size_t commands)
      : progress_(label, static_cast<std::int64_t>(commands)) {}
  /// So many of the program's commands are executed.
  void operator()(std::size_t executed) {
    progress_.step(static_cast<std::int64_t>(executed - executed_));
    executed_ = executed;
  }

 private:
  base::Progress progress_;
  std::size_t executed_ = 0;
};

/// Runs the program in a child process; the results come back into the image's regions of expert rows and outputs.
Results run_engine(const SimulateEngine& engine, const program::Chip& chip, program::RunProgram& lowered) {
  const auto is_result = [](const program::MemoryImage::Region& region) {
    return program::is_written(region.kind) && region.kind != program::Kind::kHidden;
  };
  program::MemoryImage& image = lowered.loaded.image;
  const auto start = std::chrono::steady_clock::now();
  Bytes answer(run_in_child([&] {
    CommandProgress progress("simulate", lowered.loaded.commands.size());
    cosim::BenchOptions options;
    options.memory = chip.memory;
    options.period = chip.clock_period();
    options.fresh_phases = lowered.barriers;
    cosim::CoreBench bench(engine.make(chip));
    options.make_storage = run::storage_of(chip);
    const std::vector<program::TimedPhase> phases = lowered.timed_phases();
    const std::unique_ptr<program::HostAgent> agent = run::make_agent(chip, lowered, phases);
    options.progress = [&](std::size_t executed) { progress(executed - agent->executed_waits()); };
    cosim::BenchRun run = bench.run(*agent, image, options);
    run::check_errors(run.shift_error, run.memory_error, run.storage_error, run.command_error);
    Bytes bytes;
    put_run(bytes, run.engine);
    for (const auto& region : image.regions()) {
      if (!is_result(region)) continue;
      std::vector<std::uint8_t> block(region.bytes);
      image.read(region.address, block.data(), region.bytes);
      bytes.put(block);
    }
    return bytes.text();
  }));
  Results results;
  results.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  results.run.traffic = program::Traffic(image);
  take_run(answer, results.run);
  for (const auto& region : std::vector<program::MemoryImage::Region>(image.regions())) {
    if (!is_result(region)) continue;
    std::vector<std::uint8_t> block(region.bytes);
    answer.take(block.data(), block.size());
    image.write(region.address, block.data(), block.size());
  }
  return results;
}

/// Every expert row and every combination against reference/numerics. Returns how many values were compared.
std::int64_t check_results(const run::RunInputs& inputs, const program::RunProgram& lowered,
                           const std::vector<program::LayerResult>& expected) {
  std::int64_t compared = 0;
  for (std::size_t p = 0; p < inputs.layers.size(); ++p) {
    const std::string difference =
        program::first_layer_difference(inputs.layers[p], expected[p], lowered.phases[p], lowered.loaded.image);
    if (!difference.empty()) throw base::CheckError(difference);
    compared += static_cast<std::int64_t>(expected[p].values());
  }
  return compared;
}

std::string host_json(const SimulateOptions& options, const Results& results) {
  nlohmann::ordered_json j;
  j["engine"] = options.engine;
  j["engine_seconds"] = results.seconds;
  j["simulated_cycles_per_second"] = static_cast<double>(results.run.cycles) / results.seconds;
  if (results.effort) {
    // How the engine got through the run's cycles: no result depends on it.
    const fast::Effort& effort = *results.effort;
    j["shortcuts"]["on"] = !options.no_shortcuts;
    j["shortcuts"]["cycles_stepped"] = effort.stepped;
    j["shortcuts"]["cycles_skipped"] = effort.skipped;
    j["shortcuts"]["cycles_repeated"] = effort.repeated;
    j["shortcuts"]["states"] = effort.states;
    j["shortcuts"]["states_forgotten"] = effort.forgotten;
  }
  return j.dump(2) + "\n";
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
    return 100.0 * static_cast<double>(cycles) / static_cast<double>(std::max<std::uint64_t>(results.run.cycles, 1));
  };
  return fmt::format("  cycles stepped {:.2f} %, skipped {:.2f} %, repeated {:.2f} % ({} states)\n",
                     percent(effort.stepped), percent(effort.skipped), percent(effort.repeated), effort.states);
}

run::FastOptions fast_options_of(const SimulateOptions& options) {
  run::FastOptions chosen;
  chosen.shortcuts = !options.no_shortcuts;
  chosen.progress = [](const std::string& label, std::size_t commands) {
    return [progress = std::make_shared<CommandProgress>(label, commands)](std::size_t executed) {
      (*progress)(executed);
    };
  };
  return chosen;
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

  run::InputOptions input_options;
  input_options.plan = options.plan;
  input_options.seed = options.seed;
  input_options.weights = !options.no_data;
  input_options.threads =
      options.threads > 0 ? static_cast<unsigned>(options.threads) : std::max(1U, std::thread::hardware_concurrency());
  bool is_foreign = false;
  check_formats(chip, workload);
  input_options.check_plan = [&](const workloads::Plan& plan, bool from_file) {
    check_formats(chip, plan, from_file ? options.plan : "");
    if (!from_file) return;
    check_memory(plan, options.plan, chip, workload);
    try {
      check_made_for(plan, options.plan, chip, workload);
    } catch (const base::InputError&) {
      if (!options.foreign_plan) throw;
      is_foreign = true;
    }
  };
  std::unique_ptr<base::Progress> preparing;
  input_options.progress = [&preparing](std::size_t done, std::size_t total) {
    if (!preparing) preparing = std::make_unique<base::Progress>("quantise", static_cast<std::int64_t>(total));
    preparing->step();
    if (done == total) preparing.reset();
  };
  const run::FastOptions fast_options = fast_options_of(options);
  std::optional<run::ScheduledRun> scheduled;
  std::map<std::uint64_t, std::uint64_t> arrivals;
  if (workload.continuous_requests) {
    for (const run::ScheduledRequest& request : run::scheduled_requests(workload, chip.clock_period()))
      arrivals[request.id] = request.arrival;
    scheduled = run::find_schedule(workload, chip, input_options, options.barriers, {}, fast_options);
    input_options.schedule = &scheduled->scheduler.plan();
  }
  run::RunInputs inputs = run::gather_inputs(workload, input_options);
  inputs.arrivals = arrivals;
  if (is_foreign) inputs.facts.plan += ", made for another chip, trace or selection of its rows";
  run::LowerChoices choices;
  choices.barriers = options.barriers;
  choices.data = !options.no_data;
  program::RunProgram lowered = run::lower(workload, inputs, chip, choices);
  std::vector<program::LayerResult> expected(options.no_data ? 0 : inputs.layers.size());
  network::for_each_window(expected.size(), input_options.threads, [&](std::size_t p) {
    expected[p] = program::layer_reference(inputs.layers[p], inputs.weights, inputs.matrices, inputs.shape);
  });

  Results results;
  if (engine.make) {
    results = run_engine(engine, chip, lowered);
  } else {
    run::FastRun here = run::run_fast(chip, lowered, fast_options);
    results = {std::move(here.run), here.seconds, here.effort};
  }
  results.run = program::layer_ends(lowered, std::move(results.run));
  run::check_counts(results.run);
  if (scheduled && !scheduled->scheduler.follows_from(run::step_ends(inputs, results.run)))
    throw base::CheckError("continuous batching: got ends of steps from which another schedule follows");
  const std::int64_t compared = options.no_data ? 0 : check_results(inputs, lowered, expected);
  const run::Run run{chip, workload, inputs, lowered, results.run, options.engine, options.seed, compared};
  const std::string summary = run::summary_json(run);
  folder.commit({{"summary.json", summary},
                 {"layers.csv", run::layers_csv(run)},
                 {"experts.csv", run::experts_csv(run)},
                 {"steps.csv", run::steps_csv(run)},
                 {"requests.csv", run::requests_csv(run)},
                 {"timeline.json", run::timeline_json(run)},
                 {"host.json", host_json(options, results)}});
  if (options.json) {
    fmt::print("{}", summary);
  } else {
    fmt::print("{}\n{}  {:.1f} s of engine time, {:.0f} simulated cycles a second; files in {}\n", run::page(run),
               results.effort ? effort_line(results) : "", results.seconds,
               static_cast<double>(results.run.cycles) / results.seconds, options.out);
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
