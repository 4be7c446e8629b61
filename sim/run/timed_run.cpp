#include "sim/run/timed_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "models/host/prefetch.h"
#include "models/storage/storage_device.h"
#include "sim/program/cache_agent.h"
#include "sim/program/interpreter.h"
#include "sim/program/timed_program.h"

namespace moesaic::run {

namespace {

/// The steps of the trace that the chip file has gone through the cache before the run.
std::vector<program::EarlierRows> earlier_rows(const program::CacheConfig& cache,
                                               const workloads::WorkloadFile& workload) {
  std::vector<program::EarlierRows> earlier;
  if (cache.replayed_steps == 0) return earlier;
  const auto wanted = static_cast<std::size_t>(cache.replayed_steps);
  const std::vector<workloads::EarlierStep> steps = workloads::read_earlier_steps(workload, wanted);
  if (steps.size() < wanted)
    throw base::ConfigError(
        cache.where_start, "cache.start.replay", std::to_string(wanted),
        fmt::format("at most {}: so many steps of {} come before the run's first", steps.size(), workload.trace));
  for (const workloads::EarlierStep& step : steps)
    for (const auto& [layer, experts] : step.rows) {
      program::EarlierRows rows;
      rows.layer = static_cast<int>(layer);
      for (const auto& [key, count] : experts)
        rows.readings.push_back({static_cast<int>(key.first), key.second, 0, count});
      earlier.push_back(std::move(rows));
    }
  return earlier;
}

/// What lowering has to know when the chip's experts lie in a storage.
std::optional<program::Offloading> offloading_of(const program::Chip& chip, const workloads::WorkloadFile& workload) {
  if (!chip.cache) return std::nullopt;
  program::Offloading offloading;
  offloading.capacity_bytes = chip.cache->capacity_bytes;
  offloading.capacity_experts = chip.cache->capacity_experts;
  offloading.experts = static_cast<int>(workload.network.experts);
  offloading.store_all = host::prefetch_kinds().at(chip.cache->prefetch.kind, chip.path, "cache.prefetch.kind").guesses;
  offloading.where = chip.cache->where;
  offloading.earlier = earlier_rows(*chip.cache, workload);
  return offloading;
}

/// The steps that wait for a request begin no earlier than it arrives.
void wait_for_arrivals(const RunInputs& inputs, program::RunProgram& lowered) {
  for (std::size_t p = 0; p < lowered.phases.size(); ++p)
    if (p == 0 || inputs.step_of[p] != inputs.step_of[p - 1])
      lowered.phases[p].at = inputs.steps[inputs.step_of[p]].not_before;
}

/// The chip's memory holds the image.
void check_capacity(const program::Chip& chip, const program::MemoryImage& image) {
  const auto holds = memory::capacity(chip.memory);
  if (!holds) return;
  std::uint64_t end = 0;
  for (const auto& region : image.regions()) end = std::max<std::uint64_t>(end, region.address + region.bytes);
  if (end <= static_cast<std::uint64_t>(holds->count())) return;
  throw base::ConfigError(chip.path, "memory", fmt::format("a capacity of {} bytes", holds->count()),
                          fmt::format("at least the workload's {}", end));
}

}  // namespace

program::RunProgram lower(const workloads::WorkloadFile& workload, const RunInputs& inputs, const program::Chip& chip,
                          const LowerChoices& choices) {
  const std::optional<program::Offloading> offloading = offloading_of(chip, workload);
  program::LowerOptions options;
  options.barriers = choices.barriers;
  options.offloading = offloading ? &*offloading : nullptr;
  options.shapes = choices.shapes ? choices.shapes(inputs) : inputs.shape;
  program::RunProgram lowered = choices.data
                                    ? program::lower_layers(inputs.layers, inputs.weights, chip.core, chip.layout,
                                                            chip.path, inputs.matrices, options)
                                    : program::lower_layers_without_data(inputs.layers, options.shapes, chip.core,
                                                                         chip.layout, chip.path, options);
  lowered.state_costs(inputs.layers, chip);
  wait_for_arrivals(inputs, lowered);
  check_capacity(chip, lowered.loaded.image);
  return lowered;
}

std::unique_ptr<program::HostAgent> make_agent(const program::Chip& chip, const program::RunProgram& lowered,
                                               const std::vector<program::TimedPhase>& phases) {
  if (chip.cache) return std::make_unique<program::CacheAgent>(lowered, *chip.cache, chip.core.io_jobs, chip.path);
  return std::make_unique<program::TimedProgram>(lowered.loaded.commands, phases);
}

std::function<std::unique_ptr<storage::CoreStorage>()> storage_of(const program::Chip& chip) {
  if (!chip.storage) return {};
  return [&chip] {
    return std::make_unique<storage::StorageDevice>(storage::make_storage(*chip.storage), chip.clock_period());
  };
}

void check_errors(bool shift, bool memory, bool storage, bool command) {
  for (const auto& [failed, what] :
       {std::pair(shift, "a requantisation shift out of range"), std::pair(memory, "a bus error"),
        std::pair(storage, "a completion of no request"), std::pair(command, "an unknown command")})
    if (failed) throw base::CheckError(std::string("the core reports ") + what);
}

FastRun run_fast(const program::Chip& chip, program::RunProgram& lowered, const FastOptions& options) {
  fast::Options fast_options;
  fast_options.memory = chip.memory;
  fast_options.period = chip.clock_period();
  fast_options.shortcuts = options.shortcuts;
  fast_options.fresh_phases = lowered.barriers;
  fast_options.keep_commands = lowered.loaded.image.has_bytes();  // for their data
  fast_options.make_storage = storage_of(chip);
  program::MemoryImage& image = lowered.loaded.image;
  const std::vector<program::TimedPhase> phases = lowered.timed_phases();
  const std::unique_ptr<program::HostAgent> agent = make_agent(chip, lowered, phases);
  fast_options.awaited = agent->prepare(image);
  if (options.progress)
    fast_options.progress = [&agent, step = options.progress(options.label, lowered.loaded.commands.size())](
                                std::size_t executed) { step(executed - agent->executed_waits()); };
  const auto start = std::chrono::steady_clock::now();
  fast::Run run = fast::run(chip.core, *agent, image, fast_options);
  FastRun result;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const bool shift_error =
      image.has_bytes() && program::execute_run(chip.core, run.commands, run.engine, agent->storage(), image);
  check_errors(shift_error, false, run.storage_error, run.command_error);
  result.run = std::move(run.engine);
  result.effort = run.effort;
  return result;
}

std::vector<std::uint64_t> step_ends(const RunInputs& inputs, const program::EngineRun& run) {
  std::vector<std::uint64_t> ends(inputs.steps.size());
  for (std::size_t p = 0; p < run.phase_ends.size(); ++p) ends[inputs.step_of[p]] = run.phase_ends[p].cycles;
  return ends;
}

ScheduledRun find_schedule(const workloads::WorkloadFile& workload, const program::Chip& chip, InputOptions options,
                           bool barriers, const ShapesOf& shapes, FastOptions fast_options) {
  options.weights = false;
  LowerChoices choices;
  choices.barriers = barriers;
  choices.data = false;
  choices.shapes = shapes;
  ScheduledRun found{{scheduled_requests(workload, chip.clock_period()), *workload.continuous_requests}, {}, {}};
  int runs = 0;
  for (bool settled = false; !settled;) {
    fast_options.label = fmt::format("schedule, run {}", ++runs);
    options.schedule = &found.scheduler.plan();
    found.inputs = gather_inputs(workload, options);
    program::RunProgram lowered = lower(workload, found.inputs, chip, choices);
    found.run = program::layer_ends(lowered, run_fast(chip, lowered, fast_options).run);
    settled = found.scheduler.settle(step_ends(found.inputs, found.run));
  }
  return found;
}

Timing time_run(const workloads::WorkloadFile& workload, const RunInputs& inputs, const InputOptions& options,
                const program::Chip& chip, const ShapesOf& shapes) {
  std::optional<ScheduledRun> scheduled;
  program::EngineRun run;
  if (workload.continuous_requests) {
    scheduled = find_schedule(workload, chip, options, false, shapes, {});
    run = std::move(scheduled->run);
  } else {
    LowerChoices choices;
    choices.data = false;
    choices.shapes = shapes;
    program::RunProgram lowered = lower(workload, inputs, chip, choices);
    run = run_fast(chip, lowered).run;
  }
  const std::vector<program::LayerRows>& layers = scheduled ? scheduled->inputs.layers : inputs.layers;
  Timing timing;
  for (std::size_t p = 0; p < run.phase_ends.size(); ++p) {
    const auto end = static_cast<std::int64_t>(run.phase_ends[p].cycles);
    timing.layer_cycles[layers[p].layer] += end - timing.cycles;
    timing.cycles = end;
  }
  return timing;
}

}  // namespace moesaic::run
