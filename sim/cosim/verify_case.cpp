#include "sim/cosim/verify_case.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/rng.h"
#include "models/memory/dram_random.h"
#include "sim/fast/engine.h"
#include "sim/program/interpreter.h"

namespace moesaic::cosim {

namespace {

constexpr std::uint64_t kLargestCase = std::uint64_t{1} << 24;  // bytes that a case's image stays below

/// Smaller buffers than the build has are legal for its commands.
program::CoreParams draw_lowering(base::Rng& rng, const program::CoreParams& build) {
  program::CoreParams params = build;
  if (rng.chance(1, 2)) params.max_tokens = static_cast<unsigned>(rng.range(1, build.max_tokens));
  if (rng.chance(1, 3)) params.act_depth = std::max(params.max_tokens, static_cast<unsigned>(rng.range(1, 12)));
  if (rng.chance(1, 3)) params.hidden_depth = static_cast<unsigned>(rng.range(1, 16));
  return params;
}

/// One in three has a DRAM, in a clock domain of its own.
void draw_memory(base::Rng& rng, BenchOptions& bench) {
  memory::MemoryConfig& config = bench.memory;
  if (rng.chance(1, 3)) {
    config.kind = "dram";
    config.dram = memory::random_dram(rng);
    bench.period = base::Femtoseconds(rng.range(800000, 4000000));
    return;
  }
  config.read_latency_cycles = rng.chance(1, 4) ? rng.range(30, 120) : rng.range(1, 24);
  config.write_latency_cycles = rng.range(1, 30);
  config.bytes_per_cycle = rng.pick(std::vector<std::int64_t>{4, 8, 13, 16, 32, 64});
}

/// Operation, format and activation width: a description without the sizes.
std::string kind_of(const std::string& description) {
  std::string kind;
  std::size_t word = 0;
  for (std::size_t at = 0; at < description.size(); ++word) {
    const std::size_t end = std::min(description.find(' ', at), description.size());
    const std::string part = description.substr(at, end - at);
    const bool format = word == 1 && kind != " combine";
    if (word == 0 || format || part.rfind("act", 0) == 0) kind += " " + part;
    at = end + 1;
  }
  return kind;
}

/// Sizes around the array's, so that a case has a few blocks and a few tiles, ragged ones included.
numerics::KernelCase draw_kernel(base::Rng& rng, const program::CoreParams& build) {
  numerics::CaseOptions options;
  options.max_act_bits = static_cast<int>(build.max_act_bits);
  const std::int64_t rows = build.rows, cols = build.cols, tokens = build.max_tokens;
  options.max_m = rng.chance(1, 3) ? 2 * tokens + 1 : 5;
  options.max_n = std::max<std::int64_t>(12, (rng.chance(1, 4) ? 5 : 2) * cols + cols / 2);
  options.max_k = std::max<std::int64_t>(40, (rng.chance(1, 4) ? 7 : 3) * rows);
  return numerics::random_case(rng, options);
}

}  // namespace

std::size_t draw_build(std::uint64_t seed, std::uint64_t index, std::size_t builds) {
  return base::Rng(seed).stream("build", index).below(builds);
}

VerifyCase draw_case(std::uint64_t seed, std::uint64_t index, const Build& build, const program::Chip* chip) {
  base::Rng rng = base::Rng(seed).stream("case", index);
  VerifyCase c;
  c.lowering = draw_lowering(rng, build.params);

  const std::uint64_t kernels = rng.chance(1, 2) ? 1 : static_cast<std::uint64_t>(rng.range(2, 3));
  for (std::uint64_t i = 0; i < kernels; ++i) c.kernels.push_back(draw_kernel(rng, build.params));
  c.in_phases = rng.chance(1, 3);

  c.placement.layout = rng.chance(1, 2) ? numerics::LayoutKind::kTileMajor : numerics::LayoutKind::kPlaneMajor;
  c.placement.base = rng.pick(std::vector<std::uint64_t>{0, 4096 - 64, (std::uint64_t{1} << 32) - 512,
                                                         (std::uint64_t{1} << 40) - kLargestCase});
  c.placement.scatter = rng.chance(2, 3);
  c.placement.seed = rng.next();
  draw_memory(rng, c.bench);
  if (rng.chance(3, 4)) c.bench.stall_seed = rng.next();
  if (chip != nullptr) {
    c.placement.layout = chip->layout;
    c.bench.memory = chip->memory;
    c.bench.period = chip->clock_period();
    const auto holds = memory::capacity(chip->memory);
    if (holds && c.placement.base + kLargestCase > static_cast<std::uint64_t>(holds->count())) c.placement.base = 0;
  }

  const std::string layout = numerics::layout_kind_name(c.placement.layout);
  const std::string& memory = c.bench.memory.kind;
  const std::string part = memory == "dram" ? " " + c.bench.memory.dram.preset : "";
  c.text = build.name + " " + layout + " " + memory + part + (c.bench.stall_seed ? " stalls" : "");
  for (const numerics::KernelCase& kernel : c.kernels) {
    const std::string what = numerics::describe(kernel);
    c.text += (&kernel == &c.kernels.front() ? " " : ", then ") + what;
    c.configurations.push_back(build.name + " " + layout + " " + memory + kind_of(what));
  }
  return c;
}

LoweredCase lower_case(const VerifyCase& c) {
  LoweredCase lowered;
  lowered.loaded.image = program::MemoryImage(c.placement.base);
  lowered.phases = {0};
  for (const numerics::KernelCase& kernel : c.kernels) {
    if (!lowered.places.empty() && c.in_phases) lowered.phases.push_back(lowered.loaded.commands.size());
    lowered.places.push_back(program::append_kernel(kernel, c.lowering, c.placement, "verify", lowered.loaded));
  }
  return lowered;
}

VerifyOutcome run_case(CoreBench& bench, const VerifyCase& c) {
  LoweredCase lowered = lower_case(c);
  BenchRun run = bench.run(lowered.loaded.commands, lowered.phases, lowered.loaded.image, c.bench);
  if (run.shift_error || run.memory_error || run.command_error) {
    throw base::CheckError("status register: got an error, expected none");
  }
  for (std::size_t i = 0; i < c.kernels.size(); ++i) {
    const numerics::KernelCase& kernel = c.kernels[i];
    const std::string difference = numerics::first_difference(
        kernel, program::kernel_result(kernel, lowered.places[i], lowered.loaded.image), numerics::run_case(kernel));
    if (!difference.empty()) throw base::CheckError("result differs from the CPU's: " + difference);
  }
  return {run.bench_cycles, run.port_values_compared, std::move(run.engine), std::move(lowered.loaded.image)};
}

VerifyCase draw_totals_case(std::uint64_t seed, std::uint64_t index, const Build& build, const program::Chip* chip) {
  VerifyCase c = draw_case(seed, index, build, chip);
  c.bench.watch_tiles = true;
  if (index % 2 == 0 && c.bench.stall_seed) {
    c.bench.stall_seed.reset();
    c.text += ", without the stalls";
  }
  return c;
}

TotalsOutcome run_totals_case(CoreBench& bench, const program::CoreParams& params, const VerifyCase& c) {
  const VerifyOutcome twin = run_case(bench, c);
  LoweredCase lowered = lower_case(c);
  fast::Options options;
  options.memory = c.bench.memory;
  options.period = c.bench.period;
  options.stall_seed = c.bench.stall_seed;
  options.watchdog_cycles = c.bench.watchdog_cycles;
  options.watch_tiles = c.bench.watch_tiles;
  TotalsOutcome outcome{twin.cycles, twin.port_values, twin.run.tiles.size(), 0};
  for (const bool shortcuts : {false, true}) {
    options.shortcuts = shortcuts;
    const fast::Run run = fast::run(params, lowered.loaded.commands, lowered.phases, lowered.loaded.image, options);
    const std::string difference = program::first_run_difference(twin.run, run.engine, "cycle", "fast");
    if (!difference.empty()) throw base::CheckError((shortcuts ? "shortcuts, " : "no shortcuts, ") + difference);
    const fast::Effort& effort = run.effort;
    const std::uint64_t all = effort.stepped + effort.skipped + effort.repeated;
    if (all != run.engine.cycles || (!shortcuts && effort.stepped != all))
      throw base::CheckError("stepped, skipped and repeated cycles do not add up");
    outcome.shortened += effort.skipped + effort.repeated;
  }
  program::MemoryImage& memory = lowered.loaded.image;
  program::Interpreter(params, memory).run(lowered.loaded.commands);
  for (std::uint64_t at = memory.base(); at < memory.end(); ++at)
    if (memory.read(at) != twin.memory.read(at))
      throw base::CheckError("memory: byte " + std::to_string(at) + ": cycle " + std::to_string(twin.memory.read(at)) +
                             ", fast " + std::to_string(memory.read(at)));
  return outcome;
}

Build draw_core(std::uint64_t seed, std::uint64_t index) {
  base::Rng rng = base::Rng(seed).stream("core", index);
  Build build{};
  program::CoreParams& p = build.params;
  p.rows = 4U << rng.below(rng.chance(1, 4) ? 5 : 3);
  p.cols = 4U << rng.below(rng.chance(1, 4) ? 5 : 3);
  p.planes_per_cycle = 1U << rng.below(3);
  p.max_act_bits = 4U << rng.below(3);
  p.axi_data_bits = 64U << rng.below(3);
  p.max_tokens = 1U << rng.below(5);
  p.act_depth = 32U << rng.below(4);
  p.hidden_depth = 32U << rng.below(6);
  p.fifo_depth = 16U << rng.below(3);
  p.command_depth = 4U << rng.below(3);
  for (const auto& [letter, value] :
       {std::pair('r', p.rows), std::pair('c', p.cols), std::pair('p', p.planes_per_cycle),
        std::pair('a', p.max_act_bits), std::pair('w', p.axi_data_bits), std::pair('t', p.max_tokens),
        std::pair('b', p.act_depth), std::pair('h', p.hidden_depth), std::pair('f', p.fifo_depth),
        std::pair('q', p.command_depth)})
    build.name += letter + std::to_string(value);
  return build;
}

}  // namespace moesaic::cosim
