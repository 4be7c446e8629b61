#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/child_process.h"
#include "cli/commands.h"
#include "sim/cosim/builds.h"
#include "sim/cosim/kernel_run.h"
#include "sim/fast/engine.h"

namespace moesaic::cli {

namespace {

constexpr std::int64_t kFemtosecondsOfMhz = 1000000000;  // the period of 1 MHz

struct BenchmarkOptions {
  std::string build;
  double seconds = 1.0;
  bool projection = false;
  std::int64_t clock_mhz = 640;  // a fifth of DDR5-6400's
  bool json = false;
};

struct Speed {
  std::uint64_t cycles = 0;
  double cycles_per_second = 0;  ///< of processor time
  double array_busy = 0;         ///< share of cycles
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

/// Of this process: what others do on the machine does not count.
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

/// Milliseconds of a loop of independent additions, which takes all that a core does in a cycle: so much longer as
/// other work has a share of the core, as a second thread on it has.
double addition_loop_ms() {
  const double begin = cpu_seconds();
  std::uint64_t a = 1, b = 2, c = 3, d = 4;
  for (int i = 0; i < 4000000; ++i) {
    a += 5, b += 6, c += 7, d += 8;
    asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
  }
  return 1e3 * (cpu_seconds() - begin);
}

enum class Engine { kFast, kCycle, kRtl };

Speed measure(const cosim::Build& build, Engine engine, double seconds) {
  std::unique_ptr<cosim::CoreBench> bench;
  if (engine != Engine::kFast)
    bench = std::make_unique<cosim::CoreBench>(engine == Engine::kRtl ? build.make(build.params)
                                                                      : cosim::make_cycle_engine(build.params));
  const numerics::KernelCase kernel_case = workload(build.params);
  cosim::BenchOptions options;
  options.memory.bytes_per_cycle = build.params.beat_bytes();
  fast::Options fast_options;
  fast_options.memory = options.memory;
  fast_options.shortcuts = false;  // every cycle is stepped, as in the other engines
  program::KernelPlacement placement;
  const program::KernelProgram program = program::kernel_program(kernel_case, build.params, placement, "benchmark");
  Speed speed;
  std::uint64_t busy = 0, counted = 0;
  const auto begin = std::chrono::steady_clock::now();
  const double cpu_begin = cpu_seconds();
  double elapsed = 0;
  do {
    program::EngineRun run;
    if (engine == Engine::kFast) {
      run = fast::run(build.params, program.loaded.commands, {0}, program.loaded.image, fast_options).engine;
      speed.cycles += run.cycles;
    } else {
      program::MemoryImage memory = program.loaded.image;
      cosim::BenchRun bench_run = bench->run(program.loaded.commands, {0}, memory, options);
      speed.cycles += bench_run.bench_cycles;
      run = std::move(bench_run.engine);
    }
    const auto& array = run.phase_ends.back().activity[static_cast<std::size_t>(program::Block::kPeArray)];
    busy += array[static_cast<std::size_t>(program::Activity::kBusy)];
    counted += run.cycles;
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  } while (elapsed < seconds);
  speed.cycles_per_second = static_cast<double>(speed.cycles) / (cpu_seconds() - cpu_begin);
  speed.array_busy = static_cast<double>(busy) / static_cast<double>(counted);
  return speed;
}

Speed measure_in_child(const cosim::Build& build, Engine engine, double seconds) {
  const std::string text = run_in_child([&] {
    const Speed speed = measure(build, engine, seconds);
    return nlohmann::json{{"cycles", speed.cycles}, {"rate", speed.cycles_per_second}, {"busy", speed.array_busy}}
        .dump();
  });
  const nlohmann::json json = nlohmann::json::parse(text);
  return {json.at("cycles").get<std::uint64_t>(), json.at("rate").get<double>(), json.at("busy").get<double>()};
}

/// One of Mixtral-8x7B's expert projections, K 4096 and N 14336 in int4 and groups of 128, without data, on a
/// 32x32 array whose activation buffer holds 128 rows of K.
struct Projection {
  std::int64_t tokens = 0;
  std::uint64_t cycles = 0, states = 0;
  double seconds = 0;  ///< of processor time, lowering included
  double loop_ms = 0;  ///< addition_loop_ms() right before and right after, the longer
  double stepped_share = 0, skipped_share = 0, repeated_share = 0;
  std::int64_t peak_kib = 0;
  std::string memory;
};

/// Behind two channels of DDR5-6400, and behind a simple memory of what these move at their peak.
std::vector<memory::MemoryConfig> projection_memories(base::Femtoseconds period) {
  memory::MemoryConfig simple;
  simple.read_latency_cycles = 60;
  simple.write_latency_cycles = 30;
  memory::MemoryConfig dram;
  dram.kind = "dram";
  dram.dram = memory::dram_preset("ddr5-6400");
  dram.dram.channels = 2;
  simple.bytes_per_cycle =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(memory::peak_bytes(dram, period, base::Cycles(1))));
  return {simple, dram};
}

Projection run_projection(const memory::MemoryConfig& memory, base::Femtoseconds period, std::int64_t tokens,
                          bool shortcuts) {
  program::CoreParams core;
  core.rows = core.cols = 32;
  core.planes_per_cycle = 2;
  core.max_act_bits = 8;
  core.axi_data_bits = 256;
  core.max_tokens = 128;
  core.act_depth = 16384;
  core.hidden_depth = 1024;
  core.fifo_depth = 64;
  core.command_depth = 8;
  const std::int64_t k = 4096, n = 14336;
  const double loop_before = addition_loop_ms(), begin = cpu_seconds();
  program::MemoryImage image = program::MemoryImage::without_bytes();
  program::ProgramBuilder builder(core, image);
  const program::WeightObject object = builder.reserve(
      "weights", std::make_shared<const numerics::StoredLayout>(numerics::stored_layout(
                     numerics::Format::integer(4), numerics::product_shapes(n, k, 128),
                     {numerics::LayoutKind::kInterleaved, static_cast<int>(core.rows), static_cast<int>(core.cols)})));
  const auto row = [](std::int64_t index, std::int64_t bytes) { return static_cast<std::uint64_t>(index * bytes); };
  const std::uint64_t x = image.allocate("x", program::Kind::kActivations, row(tokens, k)),
                      y = image.allocate("y", program::Kind::kOutputs, row(tokens, 2 * n));
  std::vector<program::TokenRow> rows;
  for (std::int64_t t = 0; t < tokens; ++t) rows.push_back({x + row(t, k), y + row(t, 2 * n), 0, 0});
  program::ProductOptions product;
  product.out_bits = 16;
  builder.product(object, rows, product);
  fast::Options options;
  options.memory = memory;
  options.period = period;
  options.shortcuts = shortcuts;
  const fast::Run run = fast::run(core, builder.commands(), {0}, image, options);
  Projection result;
  result.seconds = cpu_seconds() - begin;
  result.loop_ms = std::max(loop_before, addition_loop_ms());
  result.tokens = tokens;
  result.cycles = run.engine.cycles;
  result.states = run.effort.states;
  const auto share = [&run](std::uint64_t cycles) {
    return static_cast<double>(cycles) / static_cast<double>(run.engine.cycles);
  };
  result.stepped_share = share(run.effort.stepped);
  result.skipped_share = share(run.effort.skipped);
  result.repeated_share = share(run.effort.repeated);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  result.peak_kib = usage.ru_maxrss;
  result.memory = run.memory_name;
  return result;
}

/// In a process of its own, so that the peak of memory is this run's (and the program's own).
Projection projection_in_child(const memory::MemoryConfig& memory, base::Femtoseconds period, std::int64_t tokens,
                               bool shortcuts) {
  const std::string text = run_in_child([&] {
    const Projection p = run_projection(memory, period, tokens, shortcuts);
    return nlohmann::json{{"cycles", p.cycles},         {"states", p.states},         {"seconds", p.seconds},
                          {"stepped", p.stepped_share}, {"skipped", p.skipped_share}, {"repeated", p.repeated_share},
                          {"peak", p.peak_kib},         {"memory", p.memory},         {"loop", p.loop_ms}}
        .dump();
  });
  const nlohmann::json j = nlohmann::json::parse(text);
  Projection p;
  p.tokens = tokens;
  p.cycles = j.at("cycles");
  p.states = j.at("states");
  p.seconds = j.at("seconds");
  p.loop_ms = j.at("loop");
  p.stepped_share = j.at("stepped");
  p.skipped_share = j.at("skipped");
  p.repeated_share = j.at("repeated");
  p.peak_kib = j.at("peak");
  p.memory = j.at("memory");
  return p;
}

nlohmann::ordered_json benchmark_builds(const BenchmarkOptions& options) {
  std::vector<const cosim::Build*> builds;
  if (options.build.empty()) {
    for (const cosim::Build& build : cosim::builds()) builds.push_back(&build);
  } else {
    builds.push_back(&cosim::find_build(options.build, "moesaic benchmark", "--build"));
  }
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  if (!options.json)
    fmt::print("{:<12} {:>14} {:>14} {:>14} {:>12} {:>12} {:>12}\n", "build", "fast [kHz]", "cycle [kHz]", "rtl [kHz]",
               "fast / cycle", "cycle / rtl", "array busy");
  for (const cosim::Build* build : builds) {
    // Side by side: half of each engine's time before the others', half after.
    constexpr std::array<Engine, 3> kEngines{Engine::kFast, Engine::kCycle, Engine::kRtl};
    std::array<double, 3> rate{};
    double busy = 0;
    for (const bool back : {false, true})
      for (std::size_t i = 0; i < kEngines.size(); ++i) {
        const std::size_t e = back ? kEngines.size() - 1 - i : i;
        const Speed speed = measure_in_child(*build, kEngines[e], options.seconds / 2);
        rate[e] += speed.cycles_per_second / 2;
        busy = speed.array_busy;
      }
    if (options.json) {
      rows.push_back({{"build", build->name},
                      {"fast_cycles_per_second", rate[0]},
                      {"cycle_cycles_per_second", rate[1]},
                      {"rtl_cycles_per_second", rate[2]},
                      {"fast_over_cycle", rate[0] / rate[1]},
                      {"ratio", rate[1] / rate[2]},
                      {"array_busy", busy}});
    } else {
      fmt::print("{:<12} {:>14.1f} {:>14.1f} {:>14.1f} {:>12.1f} {:>12.2f} {:>11.0f}%\n", build->name, rate[0] / 1e3,
                 rate[1] / 1e3, rate[2] / 1e3, rate[0] / rate[1], rate[1] / rate[2], 100 * busy);
    }
  }
  return rows;
}

nlohmann::ordered_json projection_row(const BenchmarkOptions& options, const memory::MemoryConfig& memory,
                                      base::Femtoseconds period, std::int64_t tokens) {
  // What is short is run several times, some before and some after what is long: other jobs slow a machine for a while.
  constexpr int kBefore = 3, kAfter = 2;
  Projection on, slowest;
  const auto run_on = [&](int times) {
    for (int i = 0; i < times; ++i) {
      const Projection again = projection_in_child(memory, period, tokens, true);
      if (on.cycles != 0 && again.cycles != on.cycles)
        throw base::CheckError(
            fmt::format("projection, {} tokens: {} cycles with shortcuts, then {}", tokens, on.cycles, again.cycles));
      if (again.seconds > slowest.seconds) slowest = again;
      if (on.cycles == 0 || again.seconds < on.seconds) on = again;
    }
  };
  run_on(kBefore);
  const Projection off = projection_in_child(memory, period, tokens, false);
  run_on(kAfter);
  if (on.cycles != off.cycles)
    throw base::CheckError(
        fmt::format("projection, {} tokens: {} cycles with shortcuts, {} without", tokens, on.cycles, off.cycles));
  const auto rate = [](const Projection& p) { return static_cast<double>(p.cycles) / p.seconds; };
  if (!options.json)
    fmt::print(
        "{:>8} {:>12} {:>9.4f} {:>8.2f} {:>9.4f} {:>8.2f} {:>9.1f} {:>8.3f}% {:>8.3f}% {:>8.3f}% {:>9.1f} {:>14.3f} "
        "{:>9.1f}\n",
        tokens, on.cycles, on.seconds, on.loop_ms, slowest.seconds, slowest.loop_ms, rate(on) / 1e6,
        100 * on.repeated_share, 100 * on.skipped_share, 100 * on.stepped_share,
        static_cast<double>(on.peak_kib) / 1024, off.seconds, rate(off) / 1e6);
  return {{"tokens", tokens},
          {"cycles", on.cycles},
          {"memory", on.memory},
          {"clock_mhz", options.clock_mhz},
          {"cpu_seconds", on.seconds},
          {"addition_loop_ms", on.loop_ms},
          {"cpu_seconds_most", slowest.seconds},
          {"addition_loop_ms_most", slowest.loop_ms},
          {"cycles_per_second", rate(on)},
          {"stepped_share", on.stepped_share},
          {"skipped_share", on.skipped_share},
          {"repeated_share", on.repeated_share},
          {"states", on.states},
          {"peak_kib", on.peak_kib},
          {"cpu_seconds_without_shortcuts", off.seconds},
          {"cycles_per_second_without_shortcuts", rate(off)}};
}

nlohmann::ordered_json benchmark_projection(const BenchmarkOptions& options) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  const base::Femtoseconds period(kFemtosecondsOfMhz / options.clock_mhz);
  if (!options.json)
    fmt::print(
        "K 4096, N 14336, int4 in groups of 128, interleaved, 32x32 array at {} MHz; seconds of processor time, five "
        "runs with shortcuts and one without; a loop of additions beside each run takes longer where others use the "
        "core too\n",
        options.clock_mhz);
  for (const memory::MemoryConfig& memory : projection_memories(period)) {
    if (!options.json)
      fmt::print("\n{}\n{:>8} {:>12} {:>9} {:>8} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>14} {:>9}\n",
                 memory::make_memory(memory, period)->name(), "tokens", "cycles", "least s", "loop ms", "most s",
                 "loop ms", "MHz", "repeated", "skipped", "stepped", "peak MiB", "no shortcuts s", "MHz");
    for (const std::int64_t tokens : {1, 16, 128}) rows.push_back(projection_row(options, memory, period, tokens));
  }
  return rows;
}

void run_benchmark(const BenchmarkOptions& options) {
  if (kFemtosecondsOfMhz % options.clock_mhz != 0)
    throw base::ConfigError("moesaic benchmark", "--clock-mhz", std::to_string(options.clock_mhz),
                            "a divisor of 10^9, so that the period is a whole number of femtoseconds");
  nlohmann::ordered_json j;
  if (!options.projection) j["builds"] = benchmark_builds(options);
  if (!options.json && !options.projection && options.build.empty()) fmt::print("\n");
  if (options.projection || options.build.empty()) j["projection"] = benchmark_projection(options);
  if (options.json) fmt::print("{}\n", j.dump(2));
}

}  // namespace

void add_benchmark(CLI::App& app) {
  CLI::App* command = app.add_subcommand("benchmark", "Simulated cycles per second of the engines, side by side");
  const auto options = std::make_shared<BenchmarkOptions>();
  command->add_option("--build", options->build, "Only this build; all unless given")->type_name("NAME");
  command->add_option("--seconds", options->seconds, "How long each engine runs on each build")
      ->check(CLI::Range(0.01, 3600.0));
  command->add_flag("--projection", options->projection, "Only the large projection on the fast engine");
  CLI::Option* clock = command->add_option("--clock-mhz", options->clock_mhz, "The core's clock in the projection")
                           ->check(CLI::Range(std::int64_t{1}, std::int64_t{100000}))
                           ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, clock] {
    if (options->projection && !options->build.empty())
      throw base::ConfigError("moesaic benchmark", "--projection", "it with --build", "one of them");
    if (clock->count() > 0 && !options->build.empty())
      throw base::ConfigError("moesaic benchmark", "--clock-mhz", "it with --build",
                              "it without, or with --projection");
    run_benchmark(*options);
  });
}

}  // namespace moesaic::cli
