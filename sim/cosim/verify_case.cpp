#include "sim/cosim/verify_case.h"

#include <algorithm>

#include "base/error.h"
#include "base/rng.h"

namespace moesaic::cosim {

namespace {

/// Smaller buffers than the build has are legal for its commands.
program::CoreParams draw_lowering(base::Rng& rng, const program::CoreParams& build) {
  program::CoreParams params = build;
  if (rng.chance(1, 2)) params.max_tokens = static_cast<unsigned>(rng.range(1, build.max_tokens));
  if (rng.chance(1, 3)) params.act_depth = std::max(params.max_tokens, static_cast<unsigned>(rng.range(1, 12)));
  if (rng.chance(1, 3)) params.hidden_depth = static_cast<unsigned>(rng.range(1, 16));
  return params;
}

memory::MemoryConfig draw_memory(base::Rng& rng) {
  memory::MemoryConfig config;
  config.read_latency_cycles = rng.chance(1, 4) ? rng.range(30, 120) : rng.range(1, 24);
  config.write_latency_cycles = rng.range(1, 30);
  config.bytes_per_cycle = rng.pick(std::vector<std::int64_t>{4, 8, 13, 16, 32, 64});
  return config;
}

}  // namespace

std::size_t draw_build(std::uint64_t seed, std::uint64_t index, std::size_t builds) {
  return base::Rng(seed).stream("build", index).below(builds);
}

VerifyCase draw_case(std::uint64_t seed, std::uint64_t index, const Build& build, const program::Chip* chip) {
  base::Rng rng = base::Rng(seed).stream("case", index);
  VerifyCase c;
  c.lowering = draw_lowering(rng, build.params);

  // Sizes around the array's, so that a case has a few blocks and a few tiles, ragged ones included.
  numerics::CaseOptions options;
  options.max_act_bits = static_cast<int>(build.params.max_act_bits);
  const auto rows = static_cast<std::int64_t>(build.params.rows), cols = static_cast<std::int64_t>(build.params.cols);
  options.max_m = rng.chance(1, 3) ? 2 * static_cast<std::int64_t>(build.params.max_tokens) + 1 : 5;
  options.max_n = std::max<std::int64_t>(12, 2 * cols + cols / 2);
  options.max_k = std::max<std::int64_t>(40, 3 * rows);
  c.kernel = numerics::random_case(rng, options);

  c.placement.layout = rng.chance(1, 2) ? numerics::LayoutKind::kTileMajor : numerics::LayoutKind::kPlaneMajor;
  c.placement.base = rng.pick(std::vector<std::uint64_t>{0, 4096 - 64, (std::uint64_t{1} << 32) - 512,
                                                         (std::uint64_t{1} << 40) - (std::uint64_t{1} << 24)});
  c.placement.scatter = rng.chance(2, 3);
  c.placement.seed = rng.next();
  c.bench.memory = draw_memory(rng);
  if (rng.chance(3, 4)) c.bench.stall_seed = rng.next();
  if (chip != nullptr) {
    c.placement.layout = chip->layout;
    c.bench.memory = chip->memory;
  }

  const std::string layout = numerics::layout_kind_name(c.placement.layout);
  const std::string what = numerics::describe(c.kernel);
  c.text = build.name + " " + layout + (c.bench.stall_seed ? " stalls " : " ") + what;
  // Without the sizes: operation, format and activation width.
  std::string kind;
  std::size_t word = 0;
  for (std::size_t at = 0; at < what.size();) {
    const std::size_t end = std::min(what.find(' ', at), what.size());
    const std::string part = what.substr(at, end - at);
    const bool format = word == 1 && kind != " combine";
    if (word == 0 || format || part.rfind("act", 0) == 0) kind += " " + part;
    at = end + 1;
    ++word;
  }
  c.configuration = build.name + " " + layout + kind;
  return c;
}

VerifyOutcome run_case(CoreBench& bench, const VerifyCase& c) {
  program::KernelProgram program = program::kernel_program(c.kernel, c.lowering, c.placement, "verify");
  program::MemoryImage& memory = program.loaded.image;
  const BenchRun run = bench.run(program.loaded.commands, {0}, memory, c.bench);
  if (run.shift_error || run.memory_error || run.command_error) {
    throw base::CheckError("status register: got an error, expected none");
  }
  const std::string difference =
      numerics::first_difference(c.kernel, program::kernel_result(c.kernel, program, memory), numerics::run_case(c.kernel));
  if (!difference.empty()) throw base::CheckError("result differs from the CPU's: " + difference);
  return {run.bench_cycles, run.port_values_compared};
}

}  // namespace moesaic::cosim
