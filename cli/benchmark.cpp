#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/child_process.h"
#include "cli/commands.h"
#include "sim/cosim/builds.h"
#include "sim/cosim/kernel_run.h"

namespace moesaic::cli {

namespace {

struct BenchmarkOptions {
  std::string build;
  double seconds = 1.0;
  bool json = false;
};

struct Speed {
  std::uint64_t cycles = 0;
  double cycles_per_second = 0;
  double array_busy = 0;  ///< share of cycles
};

/// A product that keeps the array busy: all tokens, 8 tiles deep, 4 blocks wide, int4, memory as wide as the port.
numerics::MpgemmCase workload(const program::CoreParams& params) {
  base::Rng rng(1);
  numerics::MpgemmCase c;
  c.w.format = numerics::Format::integer(4);
  c.w.n = 4 * static_cast<std::int64_t>(params.cols);
  c.w.k = 8 * static_cast<std::int64_t>(params.rows);
  c.w.group_size = std::max<std::int64_t>(8, 2 * static_cast<std::int64_t>(params.rows));
  c.x.m = params.max_tokens;
  c.x.k = c.w.k;
  c.x.act_bits = static_cast<int>(std::min(params.max_act_bits, 8u));
  const auto fill = [&rng](auto& values, std::int64_t count, std::int64_t lo, std::int64_t hi) {
    values.resize(static_cast<std::size_t>(count));
    for (auto& value : values) value = static_cast<std::decay_t<decltype(value)>>(rng.range(lo, hi));
  };
  const std::int64_t top = std::int64_t{1} << (c.x.act_bits - 1);
  fill(c.x.values, c.x.m * c.x.k, -top, top - 1);
  fill(c.w.codes, c.w.n * c.w.k, 0, 15);
  fill(c.w.zero_point, c.w.n * c.w.groups(), 0, 15);
  fill(c.w.group_multiplier, c.w.n * c.w.groups(), 1, 255);
  fill(c.w.requant_multiplier, c.w.n, 1, 65535);
  fill(c.w.requant_shift, c.w.n, 20, 30);
  return c;
}

Speed measure(const cosim::Build& build, bool rtl, double seconds) {
  cosim::CoreBench bench(rtl ? build.make(build.params) : cosim::make_cycle_engine(build.params));
  const numerics::KernelCase kernel_case = workload(build.params);
  cosim::BenchOptions options;
  options.memory.bytes_per_cycle = build.params.beat_bytes();
  program::KernelPlacement placement;
  const program::KernelProgram program = program::kernel_program(kernel_case, build.params, placement, "benchmark");
  Speed speed;
  std::uint64_t busy = 0, counted = 0;
  const auto begin = std::chrono::steady_clock::now();
  double elapsed = 0;
  do {
    program::MemoryImage memory = program.loaded.image;
    const cosim::BenchRun run = bench.run(program.loaded.commands, {0}, memory, options);
    speed.cycles += run.bench_cycles;
    const auto& array = run.engine.phase_ends.back().activity[static_cast<std::size_t>(program::Block::kPeArray)];
    busy += array[static_cast<std::size_t>(program::Activity::kBusy)];
    counted += run.engine.cycles;
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  } while (elapsed < seconds);
  speed.cycles_per_second = static_cast<double>(speed.cycles) / elapsed;
  speed.array_busy = static_cast<double>(busy) / static_cast<double>(counted);
  return speed;
}

Speed measure_in_child(const cosim::Build& build, bool rtl, double seconds) {
  const std::string text = run_in_child([&] {
    const Speed speed = measure(build, rtl, seconds);
    return nlohmann::json{{"cycles", speed.cycles}, {"rate", speed.cycles_per_second}, {"busy", speed.array_busy}}
        .dump();
  });
  const nlohmann::json json = nlohmann::json::parse(text);
  return {json.at("cycles").get<std::uint64_t>(), json.at("rate").get<double>(), json.at("busy").get<double>()};
}

void run_benchmark(const BenchmarkOptions& options) {
  std::vector<const cosim::Build*> builds;
  if (options.build.empty()) {
    for (const cosim::Build& build : cosim::builds()) builds.push_back(&build);
  } else {
    builds.push_back(&cosim::find_build(options.build, "moesaic benchmark", "--build"));
  }
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  if (!options.json)
    fmt::print("{:<12} {:>14} {:>14} {:>12} {:>12}\n", "build", "cycle [kHz]", "rtl [kHz]", "cycle / rtl",
               "array busy");
  for (const cosim::Build* build : builds) {
    // Side by side: half of each engine's time before the other's, half after.
    const double part = options.seconds / 2;
    const Speed cycle_1 = measure_in_child(*build, false, part), rtl_1 = measure_in_child(*build, true, part);
    const Speed rtl_2 = measure_in_child(*build, true, part), cycle_2 = measure_in_child(*build, false, part);
    const double cycle = (cycle_1.cycles_per_second + cycle_2.cycles_per_second) / 2;
    const double rtl = (rtl_1.cycles_per_second + rtl_2.cycles_per_second) / 2;
    if (options.json) {
      rows.push_back({{"build", build->name},
                      {"cycle_cycles_per_second", cycle},
                      {"rtl_cycles_per_second", rtl},
                      {"ratio", cycle / rtl},
                      {"array_busy", cycle_1.array_busy}});
    } else {
      fmt::print("{:<12} {:>14.1f} {:>14.1f} {:>12.2f} {:>11.0f}%\n", build->name, cycle / 1e3, rtl / 1e3, cycle / rtl,
                 100 * cycle_1.array_busy);
    }
  }
  if (options.json) fmt::print("{}\n", rows.dump(2));
}

}  // namespace

void add_benchmark(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("benchmark", "Simulated cycles per second of the engines cycle and rtl, side by side");
  const auto options = std::make_shared<BenchmarkOptions>();
  command->add_option("--build", options->build, "Only this build; all unless given")->type_name("NAME");
  command->add_option("--seconds", options->seconds, "How long each engine runs on each build")
      ->check(CLI::Range(0.01, 3600.0));
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] { run_benchmark(*options); });
}

}  // namespace moesaic::cli
