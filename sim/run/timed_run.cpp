#include "sim/run/timed_run.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "models/storage/dma_storage.h"
#include "models/storage/storage_device.h"

namespace moesaic::run {

std::function<std::unique_ptr<storage::CoreStorage>(memory::MemoryModel&)> storage_of(const program::Chip& chip) {
  if (!chip.storage) return {};
  return [&chip](memory::MemoryModel& memory) {
    auto device = std::make_unique<storage::StorageDevice>(storage::make_storage(*chip.storage), chip.clock_period());
    return storage::through_memory(std::move(device), memory, chip.storage->dma_bytes, chip.core.beat_bytes());
  };
}

void check_errors(bool shift, bool memory, bool storage, bool command) {
  for (const auto& [failed, what] :
       {std::pair(shift, "a requantisation shift out of range"), std::pair(memory, "a bus error"),
        std::pair(storage, "a completion of no request"), std::pair(command, "an unknown command")})
    if (failed) throw base::CheckError(std::string("the core reports ") + what);
}

namespace {

fast::Options options_of(const program::Chip& chip, StreamedProgram& program, const FastChoices& choices) {
  fast::Options options;
  options.memory = chip.memory;
  options.period = chip.clock_period();
  options.shortcuts = choices.shortcuts;
  options.eager = choices.eager;
  if (choices.state_bytes) options.state_bytes = *choices.state_bytes;
  options.max_cycles = choices.max_cycles;
  options.fresh_phases = program.program().barriers;
  options.make_storage = storage_of(chip);
  return options;
}

}  // namespace

FastRun run_fast(const program::Chip& chip, StreamedProgram& program, RunRecorder& recorder,
                 const FastChoices& choices) {
  fast::Options options = options_of(chip, program, choices);
  options.sink = &recorder;
  program::MemoryImage& image = program.program().loaded.image;
  const std::unique_ptr<program::HostAgent> agent = make_agent(chip, program);
  options.awaited = agent->prepare(image);
  if (image.has_bytes()) recorder.compute_data(chip.core, agent->storage());
  const auto start = std::chrono::steady_clock::now();
  fast::Run run = fast::run(chip.core, *agent, image, options);
  FastRun result;
  result.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() - recorder.seconds_beside();
  check_errors(recorder.shift_error(), false, run.storage_error, run.command_error);
  result.run = std::move(run.engine);
  result.effort = run.effort;
  return result;
}

FastRun run_fast(const program::Chip& chip, StreamedProgram& program, const FastChoices& choices) {
  fast::Options options = options_of(chip, program, choices);
  program::MemoryImage& image = program.program().loaded.image;
  const std::unique_ptr<program::HostAgent> agent = make_agent(chip, program);
  options.awaited = agent->prepare(image);
  const auto start = std::chrono::steady_clock::now();
  fast::Run run = fast::run(chip.core, *agent, image, options);
  check_errors(false, false, run.storage_error, run.command_error);
  FastRun result;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() - program.seconds();
  result.run = std::move(run.engine);
  result.effort = run.effort;
  return result;
}

namespace {

/// Runs it on the fast engine without data. `step_ended` may be empty.
Timing time_inputs(const workloads::WorkloadFile& workload, const RunInputs& inputs, const program::Chip& chip,
                   const LowerChoices& choices, bool shortcuts, const std::function<void(std::size_t)>& progress,
                   const std::function<void(std::uint64_t end)>& step_ended) {
  StreamedProgram program(workload, inputs, chip, choices);
  Timing timing;
  RecorderOptions options;
  options.progress = progress;
  options.phase_ended = [&](const PhaseRecord& record) {
    timing.layer_cycles[record.rows.layer] += static_cast<std::int64_t>(record.end.cycles - record.before.cycles);
    timing.cycles = static_cast<std::int64_t>(record.end.cycles);
    if (step_ended && record.closes_step) step_ended(record.end.cycles);
  };
  RunRecorder recorder(inputs, program, std::move(options));
  run_fast(chip, program, recorder, {shortcuts});
  return timing;
}

}  // namespace

ScheduledRun find_schedule(const workloads::WorkloadFile& workload, const program::Chip& chip, InputOptions options,
                           bool barriers, const ShapesOf& shapes, bool shortcuts, const RunProgress& progress) {
  options.weights = false;
  LowerChoices choices;
  choices.barriers = barriers;
  choices.data = false;
  choices.shapes = shapes;
  ScheduledRun found{{scheduled_requests(workload, chip.clock_period()), *workload.continuous_requests}, {}};
  int runs = 0;
  for (bool settled = false; !settled;) {
    options.schedule = &found.scheduler.plan();
    const RunInputs inputs = open_inputs(workload, options);
    std::vector<std::uint64_t> ends;
    found.timing = time_inputs(
        workload, inputs, chip, choices, shortcuts,
        progress ? progress(fmt::format("schedule, run {}", ++runs), inputs.step_count * inputs.phases_per_step)
                 : std::function<void(std::size_t)>(),
        [&ends](std::uint64_t end) { ends.push_back(end); });
    settled = found.scheduler.settle(ends);
  }
  return found;
}

Timing time_run(const workloads::WorkloadFile& workload, const RunInputs& inputs, const InputOptions& options,
                const program::Chip& chip, const ShapesOf& shapes) {
  if (workload.continuous_requests) return find_schedule(workload, chip, options, false, shapes, true).timing;
  LowerChoices choices;
  choices.data = false;
  choices.shapes = shapes;
  return time_inputs(workload, inputs, chip, choices, true, {}, {});
}

}  // namespace moesaic::run
