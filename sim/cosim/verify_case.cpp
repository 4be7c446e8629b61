#include "sim/cosim/verify_case.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/rng.h"
#include "models/memory/dram_random.h"
#include "sim/cosim/drawn_agent.h"
#include "sim/fast/engine.h"
#include "sim/program/cache_agent.h"
#include "sim/program/host_agent.h"
#include "sim/program/interpreter.h"
#include "sim/program/random_offload.h"

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

storage::SimpleStorageConfig draw_storage(base::Rng& rng) {
  storage::SimpleStorageConfig config;
  config.latency_cycles = rng.chance(1, 4) ? rng.range(200, 1500) : rng.range(1, 60);
  config.bytes_per_cycle = rng.pick(std::vector<std::int64_t>{1, 3, 8, 32, 128});
  config.queue_depth = rng.range(1, 16);
  config.spread_cycles = rng.chance(1, 2) ? rng.range(1, 300) : 0;
  config.seed = rng.next();
  if (rng.chance(1, 2)) config.dma_bytes = rng.pick(std::vector<std::int64_t>{64, 100, 512, 4096});
  return config;
}

std::string dma_text(const BenchOptions& bench) {
  return bench.storage.dma_bytes == 0 ? "" : " dma " + std::to_string(bench.storage.dma_bytes);
}

/// A run of bytes of a stored object that one descriptor, or several, ask for.
struct Piece {
  std::uint64_t begin, end;  // within the object
  int rank;
};

/// What a read of matrix `m` touches; every plane apart when the layout has them so. Parameters have rank 0, as has
/// what holds all planes.
std::vector<Piece> pieces_of(const numerics::StoredLayout& layout, int m) {
  const bool last = m + 1 == static_cast<int>(layout.matrices().size());
  std::vector<Piece> pieces;
  const auto add = [&pieces](std::int64_t begin, std::int64_t end, int rank) {
    if (begin < end) pieces.push_back({static_cast<std::uint64_t>(begin), static_cast<std::uint64_t>(end), rank});
  };
  const bool has_levels = layout.format().stored_levels() > 0;
  if (layout.is_interleaved()) {
    const std::int64_t end = has_levels ? layout.level_params_offset(0) : layout.total_bytes();
    add(layout.planes_offset(m), last ? end : layout.planes_offset(m + 1), 0);
  } else if (layout.spec().kind == numerics::LayoutKind::kTileMajor) {
    add(layout.planes_offset(m), last ? layout.params_begin() : layout.planes_offset(m + 1), 0);
  } else {
    for (int rank = 1; rank <= layout.format().planes(); ++rank) {
      const std::int64_t first = layout.plane(0, 0, 0, 0, 0, rank).offset;  // of matrix 0
      const std::int64_t end = last ? layout.plane_stride() : layout.planes_offset(m + 1);
      add(first + layout.planes_offset(m), first + end, rank);
    }
  }
  const bool by_planes = layout.spec().kind == numerics::LayoutKind::kPlaneMajor;
  const bool levels_behind = !by_planes && has_levels;  // all matrices' parameters of the base
  if (!layout.is_interleaved())
    add(layout.params_offset(m),
        !last           ? layout.params_offset(m + 1)
        : levels_behind ? layout.level_params_offset(0)
                        : layout.requant_begin(),
        0);
  for (int level = 1; level <= layout.format().levels(); ++level) {
    const auto begin = [&](int matrix) { return layout.level_params(matrix, 0, 0, 0, level).offset; };
    const std::int64_t all = layout.level_stride() - (by_planes ? layout.plane_stride() : 0);
    add(begin(m), last ? begin(0) + all : begin(m + 1), by_planes ? layout.format().base_planes() + level : 0);
  }
  if (!layout.is_interleaved())
    add(layout.requant_offset(m), last ? layout.total_bytes() : layout.requant_offset(m + 1), 0);
  return pieces;
}

/// Cuts a piece at random places now and then.
std::vector<Piece> cut(base::Rng& rng, const Piece& piece) {
  std::vector<Piece> pieces;
  std::uint64_t begin = piece.begin;
  while (rng.chance(1, 3) && piece.end - begin > 1) {
    const std::uint64_t end = begin + 1 + rng.below(piece.end - begin - 1);
    pieces.push_back({begin, end, piece.rank});
    begin = end;
  }
  pieces.push_back({begin, piece.end, piece.rank});
  return pieces;
}

program::Command wait_for(unsigned job) {
  program::Command command;
  command.opcode = program::Opcode::kWait;
  command.job = static_cast<std::uint8_t>(job);
  return command;
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
  options.mixed_experts = true;
  return numerics::random_case(rng, options);
}

program::OffloadCase offload_case(const VerifyCase& c) {
  base::Rng rng(*c.offload_seed);
  return program::random_offload(rng, c.lowering, c.offload_layout);
}

VerifyOutcome run_offload_case(CoreBench& bench, const VerifyCase& c) {
  const program::OffloadCase offload = offload_case(c);
  program::RunProgram lowered = offload.lower(c.lowering);
  program::CacheAgent agent(lowered, offload.cache, c.lowering.io_jobs, "verify");
  BenchRun run = bench.run(agent, lowered.loaded.image, c.bench);
  if (run.any_error()) throw base::CheckError("status register: got an error, expected none");
  const std::string difference = run.engine.cut ? std::string() : offload.difference(lowered, lowered.loaded.image);
  if (!difference.empty()) throw base::CheckError("result differs from the CPU's: " + difference);
  std::uint64_t bytes = 0;
  for (const program::EngineRun::Load& load : run.engine.loads)
    if (load.completed != 0) bytes += load.descriptor.bytes;
  if (bytes != run.engine.storage_bytes)
    throw base::CheckError("storage port: got " + std::to_string(run.engine.storage_bytes) + " bytes, expected " +
                           std::to_string(bytes) + ", the descriptors'");
  return {run.bench_cycles, run.port_values_compared, run.engine.loads.size(), std::move(run.engine),
          std::move(lowered.loaded.image)};
}

}  // namespace

void add_loads(base::Rng& rng, const program::KernelPlaces& places, const program::CoreParams& params,
               std::size_t first, std::size_t earliest, unsigned& next_job, program::Loaded& to,
               program::LoadProgram& loads) {
  // What products read one after the other: every matrix of every object, gate and up together or apart, then down.
  struct Stage {
    const program::WeightObject* object;
    int matrix;
  };
  std::vector<Stage> stages;
  for (const program::WeightObject& object : places.weights)
    for (int m = 0; m < static_cast<int>(object.layout->matrices().size()); ++m) stages.push_back({&object, m});
  const int jobs = stages.size() > 1 && rng.chance(1, 2) ? 2 : 1;
  const auto job_of = [&](std::size_t stage) { return jobs == 2 && stage + 1 == stages.size() ? 1 : 0; };
  std::vector<unsigned> ids;
  for (int j = 0; j < jobs; ++j) ids.push_back(next_job++ % params.io_jobs);

  // Waits: anywhere between the kernel's first command, or the wait before, and the first product that needs them.
  std::vector<std::size_t> waits;
  for (int j = 0; j < jobs; ++j) {
    const Stage& stage = j == 0 ? stages.front() : stages.back();
    const std::uint64_t matrix =
        stage.object->address + static_cast<std::uint64_t>(stage.object->layout->planes_offset(stage.matrix));
    std::size_t product = first;
    while (to.commands[product].opcode != program::Opcode::kMatmul || to.commands[product].weight_addr < matrix)
      ++product;
    const std::size_t begin = j == 0 ? first : waits.back() + 1;
    const auto at =
        static_cast<std::size_t>(rng.range(static_cast<std::int64_t>(begin), static_cast<std::int64_t>(product)));
    to.commands.insert(to.commands.begin() + static_cast<std::ptrdiff_t>(at),
                       wait_for(ids[static_cast<std::size_t>(j)]));
    waits.push_back(at);
  }

  std::vector<program::Descriptor> descriptors;
  const auto layer = static_cast<std::uint16_t>(rng.below(3)), expert = static_cast<std::uint16_t>(rng.below(4));
  const std::uint64_t hottest = rng.below(5);
  for (std::size_t s = 0; s < stages.size(); ++s) {
    for (const Piece& whole : pieces_of(*stages[s].object->layout, stages[s].matrix)) {
      for (const Piece& piece : cut(rng, whole)) {
        program::Descriptor d;
        d.job = static_cast<std::uint8_t>(ids[static_cast<std::size_t>(job_of(s))]);
        d.plane = static_cast<std::uint8_t>(piece.rank);
        d.layer = layer;
        d.expert = rng.chance(1, 4) ? static_cast<std::uint16_t>(rng.below(4)) : expert;
        d.requests = static_cast<std::uint32_t>(hottest - std::min<std::uint64_t>(hottest, rng.below(2)));
        d.bytes = static_cast<std::uint32_t>(piece.end - piece.begin);
        d.destination = stages[s].object->address + piece.begin;
        d.source =
            loads.storage.allocate("planes", program::Kind::kWeights, d.bytes, static_cast<unsigned>(rng.below(64)));
        std::vector<std::uint8_t> bytes(d.bytes);
        to.image.read(d.destination, bytes.data(), d.bytes);
        loads.storage.write(d.source, bytes.data(), d.bytes);
        descriptors.push_back(d);
      }
    }
  }
  if (rng.chance(1, 2)) rng.shuffle(descriptors);
  for (const unsigned id : ids) {
    const auto last =
        std::find_if(descriptors.rbegin(), descriptors.rend(), [id](const auto& d) { return d.job == id; });
    last->last = true;
  }
  std::size_t at = loads.loads.empty() ? earliest : std::max(earliest, loads.loads.back().command);
  for (const program::Descriptor& d : descriptors) {
    const std::size_t wait = waits[d.job == ids[0] ? 0 : ids.size() - 1];
    // The descriptors behind this one may have an earlier wait.
    const std::size_t latest = std::min(wait, waits.front());
    if (rng.chance(1, 3))
      at = static_cast<std::size_t>(
          rng.range(static_cast<std::int64_t>(at), static_cast<std::int64_t>(std::max(at, latest))));
    loads.loads.push_back({d, at});
  }
}

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

  c.placement.layout = rng.pick(numerics::layout_kinds());
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

  base::Rng load_rng = base::Rng(seed).stream("loads", index);
  if (load_rng.chance(2, 5)) {
    c.load_seed = load_rng.next();
    c.bench.storage = draw_storage(load_rng);
  }

  base::Rng offload_rng = base::Rng(seed).stream("offload", index);
  if (offload_rng.chance(1, 5)) {
    c.load_seed.reset();
    c.offload_seed = offload_rng.next();
    if (chip != nullptr) c.offload_layout = chip->layout;
    c.bench.storage = draw_storage(offload_rng);
    const program::OffloadCase offload = offload_case(c);
    c.text = build.name + " " + c.bench.memory.kind + (c.bench.stall_seed ? " stalls" : "") + " cache" +
             dma_text(c.bench) + " " + offload.text;
    const program::CacheConfig& cache = offload.cache;
    c.configurations.push_back(build.name + " " + numerics::layout_kind_name(offload.layout) + " " +
                               c.bench.memory.kind + " " + cache.policy + " " +
                               std::string(program::kLoadOrderNames[static_cast<std::size_t>(cache.load_order)]) + " " +
                               cache.prefetch.kind + (c.bench.storage.dma_bytes == 0 ? "" : " dma"));
    return c;
  }

  const std::string layout = numerics::layout_kind_name(c.placement.layout);
  const std::string& memory = c.bench.memory.kind;
  const std::string part = memory == "dram" ? " " + c.bench.memory.dram.preset : "";
  c.text = build.name + " " + layout + " " + memory + part + (c.bench.stall_seed ? " stalls" : "") +
           (c.load_seed ? " storage" + dma_text(c.bench) : "");
  for (const numerics::KernelCase& kernel : c.kernels) {
    const std::string what = numerics::describe(kernel);
    c.text += (&kernel == &c.kernels.front() ? " " : ", then ") + what;
    c.configurations.push_back(build.name + " " + layout + " " + memory +
                               (c.bench.storage.dma_bytes == 0 ? "" : " dma") + kind_of(what));
  }
  return c;
}

LoweredCase lower_case(const VerifyCase& c) {
  LoweredCase lowered;
  program::Loaded& loaded = lowered.loaded;
  program::LoadProgram& loads = lowered.loads;
  loaded.image = program::MemoryImage(c.placement.base);
  lowered.phases = {0};
  base::Rng rng(c.load_seed.value_or(0));
  if (c.load_seed) {
    loads.order = static_cast<program::LoadOrder>(rng.below(program::kLoadOrderNames.size()));
    if (rng.chance(1, 3)) loads.credits = static_cast<unsigned>(rng.range(1, c.lowering.io_credits));
    loads.storage = program::MemoryImage(rng.chance(1, 2) ? 0 : std::uint64_t{1} << 47);
  }
  unsigned next_job = 0;
  for (const numerics::KernelCase& kernel : c.kernels) {
    if (!lowered.places.empty() && c.in_phases) lowered.phases.push_back(loaded.commands.size());
    const std::size_t first = loaded.commands.size();
    lowered.places.push_back(program::append_kernel(kernel, c.lowering, c.placement, "verify", loaded));
    if (!c.load_seed || lowered.places.back().weights.empty()) continue;
    const std::size_t earliest = rng.chance(1, 2) ? 0 : first;  // a prefetch, or on demand
    add_loads(rng, lowered.places.back(), c.lowering, first, earliest, next_job, loaded, loads);
  }
  return lowered;
}

std::unique_ptr<program::HostAgent> agent_of(const VerifyCase& c, const LoweredCase& lowered) {
  const std::vector<program::Command>& commands = lowered.loaded.commands;
  if (c.agent_seed) return std::make_unique<DrawnAgent>(*c.agent_seed, commands, lowered.phases, lowered.loads);
  return std::make_unique<program::FixedProgram>(commands, lowered.phases, &lowered.loads);
}

VerifyOutcome run_case(CoreBench& bench, const VerifyCase& c) {
  if (c.offload_seed) return run_offload_case(bench, c);
  LoweredCase lowered = lower_case(c);
  const std::unique_ptr<program::HostAgent> agent = agent_of(c, lowered);
  BenchRun run = bench.run(*agent, lowered.loaded.image, c.bench);
  if (run.any_error()) throw base::CheckError("status register: got an error, expected none");
  for (std::size_t i = 0; i < c.kernels.size() && !run.engine.cut; ++i) {
    const numerics::KernelCase& kernel = c.kernels[i];
    const std::string difference = numerics::first_difference(
        kernel, program::kernel_result(kernel, lowered.places[i], lowered.loaded.image), numerics::run_case(kernel));
    if (!difference.empty()) throw base::CheckError("result differs from the CPU's: " + difference);
  }
  return {run.bench_cycles, run.port_values_compared, run.engine.loads.size(), std::move(run.engine),
          std::move(lowered.loaded.image)};
}

VerifyCase draw_totals_case(std::uint64_t seed, std::uint64_t index, const Build& build, const program::Chip* chip) {
  VerifyCase c = draw_case(seed, index, build, chip);
  c.bench.watch_tiles = true;
  base::Rng rng = base::Rng(seed).stream("agent", index);
  if (!c.offload_seed && rng.chance(1, 3)) {
    c.agent_seed = rng.next();
    c.text += ", offered while it runs";
  }
  if (index % 2 == 0 && c.bench.stall_seed) {
    c.bench.stall_seed.reset();
    c.text += ", without the stalls";
  }
  base::Rng cut_rng = base::Rng(seed).stream("cut", index);
  if (cut_rng.chance(1, 8)) {
    c.bench.max_cycles = static_cast<std::uint64_t>(cut_rng.range(1, cut_rng.chance(1, 2) ? 400 : 6000));
    c.text += ", cut at cycle " + std::to_string(*c.bench.max_cycles);
  }
  return c;
}

FastComparison compare_with_fast(const program::EngineRun& run, const std::string& name,
                                 const program::CoreParams& params, const std::function<Work()>& new_work,
                                 const BenchOptions& bench) {
  fast::Options options;
  options.keep_commands = true;
  options.memory = bench.memory;
  options.period = bench.period;
  options.make_memory = bench.make_memory;
  options.storage = bench.storage;
  options.make_storage = bench.make_storage;
  options.stall_seed = bench.stall_seed;
  options.watchdog_cycles = bench.watchdog_cycles;
  options.watch_tiles = bench.watch_tiles;
  options.fresh_phases = bench.fresh_phases;
  options.max_cycles = bench.max_cycles;
  FastComparison comparison;
  for (const bool shortcuts : {false, true}) {
    options.shortcuts = shortcuts;
    options.eager = true;
    const Work work = new_work();
    fast::Run fast = fast::run(params, *work.agent, *work.image, options);
    comparison.executed = std::move(fast.commands);
    const std::string difference = program::first_run_difference(run, fast.engine, name, "fast");
    if (!difference.empty()) throw base::CheckError((shortcuts ? "shortcuts, " : "no shortcuts, ") + difference);
    const fast::Effort& effort = fast.effort;
    const std::uint64_t all = effort.stepped + effort.skipped + effort.repeated;
    if (all != fast.engine.cycles || (!shortcuts && effort.stepped != all))
      throw base::CheckError("stepped, skipped and repeated cycles do not add up");
    comparison.shortened += effort.skipped + effort.repeated;
  }
  return comparison;
}

TotalsOutcome run_totals_case(CoreBench& bench, const program::CoreParams& params, const VerifyCase& c) {
  const VerifyOutcome twin = run_case(bench, c);
  LoweredCase lowered;
  std::optional<program::OffloadCase> offload;
  std::optional<program::RunProgram> run_program;
  if (c.offload_seed) {
    offload = offload_case(c);
    run_program = offload->lower(c.lowering);
  } else {
    lowered = lower_case(c);
  }
  program::MemoryImage& memory = run_program ? run_program->loaded.image : lowered.loaded.image;
  const auto new_agent = [&]() -> std::unique_ptr<program::HostAgent> {
    if (!run_program) return agent_of(c, lowered);
    return std::make_unique<program::CacheAgent>(*run_program, offload->cache, c.lowering.io_jobs, "verify");
  };
  const auto new_work = [&] { return Work{nullptr, new_agent(), &memory}; };
  const FastComparison fast = compare_with_fast(twin.run, "cycle", params, new_work, c.bench);
  const TotalsOutcome outcome{twin.cycles, twin.port_values, twin.run.tiles.size(), twin.loads, fast.shortened};
  if (twin.run.cut) return outcome;  // there is no data to compare before the end
  const std::unique_ptr<program::HostAgent> agent = new_agent();
  agent->prepare(memory);
  program::execute_run(params, fast.executed, twin.run, agent->storage(), memory);
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
  p.axi_data_bits = 64U << rng.below(4);
  p.max_tokens = 1U << rng.below(rng.chance(1, 4) ? 8 : 5);
  p.act_depth = std::max(32U << rng.below(4), p.max_tokens);
  p.hidden_depth = 32U << rng.below(6);
  p.fifo_depth = 16U << rng.below(3);
  p.command_depth = 4U << rng.below(3);
  p.io_depth = 4U << rng.below(4);
  p.io_credits = 1U << rng.below(7);
  p.io_jobs = 2U << rng.below(4);
  for (const auto& [letter, value] :
       {std::pair('r', p.rows), std::pair('c', p.cols), std::pair('p', p.planes_per_cycle),
        std::pair('a', p.max_act_bits), std::pair('w', p.axi_data_bits), std::pair('t', p.max_tokens),
        std::pair('b', p.act_depth), std::pair('h', p.hidden_depth), std::pair('f', p.fifo_depth),
        std::pair('q', p.command_depth), std::pair('d', p.io_depth), std::pair('o', p.io_credits),
        std::pair('j', p.io_jobs)})
    build.name += letter + std::to_string(value);
  return build;
}

}  // namespace moesaic::cosim
