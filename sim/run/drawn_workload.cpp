#include "sim/run/drawn_workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/atomic_file.h"
#include "base/rng.h"
#include "models/memory/dram_config.h"
#include "models/storage/storage_model.h"
#include "workloads/trace.h"
#include "workloads/zoo.h"

namespace moesaic::run {
namespace {

using Json = nlohmann::ordered_json;  // JSON is YAML

/// Runs that are worth drawing, in the estimate below: most are long, some end soon.
constexpr double kFewestCycles = 2e5, kManyCycles = 1.5e6, kMostCycles = 30e6;

template <class T>
T pick(base::Rng& rng, const std::vector<T>& choices) {
  return rng.pick(choices);
}
std::string pick(base::Rng& rng, const std::vector<const char*>& choices) { return rng.pick(choices); }

struct DrawnChip {
  std::int64_t rows = 0, cols = 0, planes_per_cycle = 0, axi_bits = 0, max_act_bits = 8, max_tokens = 0;
  double period_fs = 0, memory_bytes_per_cycle = 0;
  std::string layout, memory_text;
  Json json;
};

/// Between the least that the part allows and a few times its own interval, where it is not its own.
std::int64_t draw_refresh_interval(base::Rng& rng, memory::DramConfig config) {
  const std::int64_t own = config.timing.refi;
  std::int64_t least = 1, most = own;  // the least without a fault: faults end where it grows
  while (least < most) {
    config.timing.refi = least + (most - least) / 2;
    if (first_fault(config))
      least = config.timing.refi + 1;
    else
      most = config.timing.refi;
  }
  const std::uint64_t kind = rng.below(8);
  if (kind == 0) return least;
  if (kind == 1) return least + rng.range(1, 900);
  return kind == 7 ? 4 * own : std::max(least, own / rng.range(2, 4));
}

/// At its peak, in cycles of the core.
double bytes_per_cycle(const memory::DramConfig& config, double period_fs) {
  return static_cast<double>(config.channels * config.burst_bytes()) /
         static_cast<double>(config.burst_clocks() * config.clock_period_fs) * period_fs;
}

/// Numbers of the part that are not its own, where they can be.
void draw_dram(base::Rng& rng, DrawnChip& chip) {
  Json& memory = chip.json["memory"];
  memory::DramConfig config = memory::dram_preset(rng.pick(memory::dram_preset_names()));
  config.channels = pick<std::int64_t>(rng, {1, 1, 2, 2, 4});
  // Behind a bus that is slower than the memory reading goes evenly.
  const double bus = static_cast<double>(chip.axi_bits) / 8;
  if (rng.chance(2, 3))
    while (config.channels < 8 && bytes_per_cycle(config, chip.period_fs) < 1.1 * bus) config.channels *= 2;
  config.rows = 524288;
  memory["kind"] = "dram";
  memory["preset"] = config.preset;
  memory["channels"] = config.channels;
  memory["rows"] = config.rows;
  const auto set = [&](const char* key, std::int64_t memory::DramConfig::*member, std::int64_t value) {
    memory::DramConfig other = config;
    other.*member = value;
    if (first_fault(other)) return;
    config = other;
    memory[key] = value;
  };
  // In short rows more of them are opened, and closed by refreshes.
  if (rng.chance(1, 3))
    set("row_bytes", &memory::DramConfig::row_bytes, pick<std::int64_t>(rng, {512, 512, 1024, 8192}));
  if (rng.chance(3, 10)) set("read_queue", &memory::DramConfig::read_queue, pick<std::int64_t>(rng, {8, 16, 64}));
  if (rng.chance(2, 10)) set("write_queue", &memory::DramConfig::write_queue, pick<std::int64_t>(rng, {24, 64}));
  if (rng.chance(2, 10))
    set("starvation_cap", &memory::DramConfig::starvation_cap, pick<std::int64_t>(rng, {1, 3, 16}));
  if (rng.chance(2, 10)) set("write_low", &memory::DramConfig::write_low, pick<std::int64_t>(rng, {0, 2}));
  if (rng.chance(2, 10)) set("write_high", &memory::DramConfig::write_high, pick<std::int64_t>(rng, {4, 12, 20}));
  if (rng.chance(1, 24)) {
    const std::int64_t own = config.clock_period_fs;
    set("clock_period_fs", &memory::DramConfig::clock_period_fs, rng.range(own * 4 / 5, own * 5 / 4));
  }
  if (rng.chance(1, 10))
    memory["mapping"] = pick(rng, {"row:bank:bankgroup:column:channel", "row:bank:channel:column:bankgroup",
                                   "row:bank:column:channel:bankgroup"});
  else if (rng.chance(1, 20))  // nothing is repeated unasked where row and bank are not above all other fields
    memory["mapping"] = pick(rng, {"row:column:bank:bankgroup:channel", "channel:row:bank:column:bankgroup",
                                   "bank:row:column:bankgroup:channel"});
  Json timing = Json::object();
  for (const auto& [key, member] :
       {std::pair("tRCD", &memory::DramTiming::rcd), std::pair("tRP", &memory::DramTiming::rp),
        std::pair("tRFC", &memory::DramTiming::rfc), std::pair("tFAW", &memory::DramTiming::faw)}) {
    if (!rng.chance(1, 20)) continue;
    memory::DramConfig other = config;
    other.timing.*member = std::max<std::int64_t>(1, config.timing.*member * rng.range(50, 200) / 100);
    if (first_fault(other)) continue;
    config = other;
    timing[key] = config.timing.*member;
  }
  if (rng.chance(1, 2)) timing["tREFI"] = config.timing.refi = draw_refresh_interval(rng, config);
  if (!timing.empty()) memory["timing"] = timing;
  chip.memory_text = fmt::format("{} x{}", config.preset, config.channels);
  if (timing.contains("tREFI")) chip.memory_text += fmt::format(" tREFI {}", config.timing.refi);
  if (memory.contains("mapping")) chip.memory_text += " " + memory["mapping"].get<std::string>();
  chip.memory_bytes_per_cycle = bytes_per_cycle(config, chip.period_fs);
}

/// `wide` is a stream of its own: what it leaves as it was is drawn as before.
DrawnChip draw_chip(base::Rng& rng, base::Rng& wide) {
  DrawnChip chip;
  chip.rows = pick<std::int64_t>(rng, {8, 8, 16, 16, 16, 32, 32, 32, 64});
  chip.cols = rng.chance(7, 10) ? chip.rows : pick<std::int64_t>(rng, {8, 16, 32});
  chip.planes_per_cycle = pick<std::int64_t>(rng, {1, 2, 4, 4});
  chip.axi_bits = pick<std::int64_t>(rng, {64, 64, 64, 128, 128, 256});
  if (chip.axi_bits != 64 && wide.chance(1, 4)) chip.axi_bits = 512;
  chip.max_act_bits = pick<std::int64_t>(rng, {8, 8, 8, 8, 4, 16});
  chip.max_tokens = pick<std::int64_t>(rng, {4, 16, 16, 32});
  if (wide.chance(1, 8)) chip.max_tokens = pick<std::int64_t>(wide, {64, 128});
  chip.layout = pick(
      rng, {"interleaved", "interleaved", "interleaved", "interleaved", "tile_major", "tile_major", "plane_major"});
  chip.json["name"] = "drawn";
  if (rng.chance(1, 24)) {
    const std::int64_t period = rng.range(400000, 2500000);
    chip.json["clock_period_fs"] = period;
    chip.period_fs = static_cast<double>(period);
  } else {
    const std::int64_t mhz = pick<std::int64_t>(rng, {500, 800, 1000, 1000, 1000, 2000});
    chip.json["clock_mhz"] = mhz;
    chip.period_fs = 1e9 / static_cast<double>(mhz);
  }
  chip.json["array"] = {{"rows", chip.rows},
                        {"cols", chip.cols},
                        {"planes_per_cycle", chip.planes_per_cycle},
                        {"max_act_bits", chip.max_act_bits}};
  chip.json["axi_data_bits"] = chip.axi_bits;
  chip.json["buffers"] = {{"max_tokens", chip.max_tokens},
                          {"activation_words", pick<int>(rng, {256, 1024, 4096})},
                          {"hidden_words", pick<int>(rng, {1024, 4096, 16384})},
                          {"reader_beats", pick<int>(rng, {32, 64, 128, 256})},
                          {"commands", pick<int>(rng, {8, 32})}};
  chip.json["io_queue"] = {{"descriptors", pick<int>(rng, {8, 16, 32})},
                           {"requests", pick<int>(rng, {8, 64})},
                           {"jobs", pick<int>(rng, {8, 16})}};
  chip.json["layout"] = chip.layout;
  if (rng.chance(1, 24)) {
    const std::int64_t bytes = pick<std::int64_t>(rng, {8, 13, 32, 64});
    chip.json["memory"] = {{"kind", "simple"},
                           {"read_latency_cycles", rng.range(5, 120)},
                           {"write_latency_cycles", rng.range(5, 60)},
                           {"bytes_per_cycle", bytes}};
    chip.memory_text = fmt::format("simple {}", bytes);
    chip.memory_bytes_per_cycle = static_cast<double>(bytes);
  } else {
    draw_dram(rng, chip);
  }
  chip.json["stated_costs"] = {{"norm", {{"cycles", 20}, {"elements_per_cycle", 8}}},
                               {"router", {{"cycles", 40}, {"macs_per_cycle", 256}}},
                               {"softmax", {{"cycles", 20}, {"scores_per_cycle", 8}}}};
  return chip;
}

struct DrawnPlan {
  std::string name;
  double planes = 0;  ///< of an expert's weight, on average
};

/// One format, or several: what is remembered of one expert then meets segments of other lengths in the next.
DrawnPlan draw_plan(base::Rng& rng) {
  const std::vector<DrawnPlan> formats{{"int1", 1},    {"int2", 2},
                                       {"int3", 3},    {"int4", 4},
                                       {"int5", 5},    {"int6", 6},
                                       {"int8", 8},    {"nested3", 3},
                                       {"nested5", 5}, {"binary", 1},
                                       {"ternary", 2}, {"mwq2+1of2", 3},
                                       {"int4", 4},    {"int2/int2/int4", 2.7}};
  if (rng.chance(1, 2)) return rng.pick(formats);
  const std::vector<DrawnPlan> plain{{"int1", 1}, {"int2", 2}, {"int3", 3},   {"int4", 4},
                                     {"int5", 5}, {"int6", 6}, {"ternary", 2}};
  const std::int64_t count = rng.range(2, 4);
  DrawnPlan plan;
  for (std::int64_t i = 0; i < count; ++i) {
    const DrawnPlan one = rng.pick(plain);
    plan.name += (i == 0 ? "" : "+") + one.name;
    plan.planes += one.planes / static_cast<double>(count);
  }
  return plan;
}

struct DrawnShape {
  std::int64_t hidden = 0, width = 0, experts = 0, top_k = 0;
  workloads::SynthParameters trace;
};

DrawnShape draw_shape(base::Rng& rng, const DrawnChip& chip) {
  DrawnShape shape;
  shape.hidden = 64 * pick<std::int64_t>(rng, {8, 16, 32, 33, 45, 64});
  shape.width = 64 * pick<std::int64_t>(rng, {4, 8, 11, 16, 32, 44});
  shape.experts = pick<std::int64_t>(rng, {4, 8, 16});
  shape.top_k = pick<std::int64_t>(rng, {1, 2, 2, 4});
  shape.trace.requests = pick<std::uint64_t>(rng, {1, 1, 2, 3});
  const bool fills = chip.max_tokens > 32;  // commands of as many tokens
  shape.trace.prompt_tokens =
      fills ? pick<std::uint64_t>(rng, {60, 130, 300, 600}) : pick<std::uint64_t>(rng, {1, 1, 4, 20});
  shape.trace.decode_tokens = pick<std::uint64_t>(rng, {1, 2, 6});
  return shape;
}

/// What the routed experts of a layer take, all steps, within a factor of two or three: only for the size of what is
/// drawn.
double estimate_cycles(const DrawnChip& chip, const DrawnShape& shape, double planes) {
  const double weights = 3.0 * static_cast<double>(shape.hidden * shape.width);
  const double loading =
      weights * planes / 8 / std::min(chip.memory_bytes_per_cycle, static_cast<double>(chip.axi_bits) / 8);
  const double computing = weights / static_cast<double>(chip.rows * chip.cols) *
                           std::max(1.0, planes / static_cast<double>(chip.planes_per_cycle));
  double cycles = 0;
  for (const auto& [tokens, steps] : {std::pair(shape.trace.prompt_tokens, std::uint64_t{1}),
                                      std::pair(std::uint64_t{1}, shape.trace.decode_tokens)}) {
    const double choices = static_cast<double>(tokens) * static_cast<double>(shape.top_k);
    const double used = std::min(choices, static_cast<double>(shape.experts));
    cycles += static_cast<double>(steps) * used * std::max(loading, computing * choices / used);
  }
  return cycles * static_cast<double>(shape.trace.requests);
}

/// Experts in a storage, most of the time so quick that the run is more than waits for it.
std::string draw_offloading(base::Rng& rng, const DrawnShape& shape, bool has_steps_before, Json& chip) {
  const storage::StorageConfig config = storage::storage_preset(rng.pick(storage::storage_preset_names()));
  Json& part = chip["storage"];
  part = {{"kind", config.kind}, {"preset", config.preset}};
  if (rng.chance(2, 3)) part["bytes_per_second"] = pick<std::int64_t>(rng, {30000000000, 200000000000});
  if (rng.chance(1, 3)) part["latency_ns"] = rng.range(500, 20000);
  Json& cache = chip["cache"];
  cache["policy"] = pick(rng, {"lru", "lfu", "planes", "belady", "pinned"});
  cache["capacity_experts"] = std::max(shape.top_k, pick<std::int64_t>(rng, {2, 4, 8, shape.experts * 3}));
  cache["load_order"] = pick(rng, {"fifo", "hebf", "expert_index"});
  cache["decision_cycles"] = pick<int>(rng, {0, 100, 1000});
  const std::string prefetch = pick(rng, {"none", "perfect", "next_layer"});
  cache["prefetch"] = {{"kind", prefetch}};
  if (prefetch == "next_layer")
    cache["prefetch"].update({{"recall", 0.7}, {"precision", 0.8}, {"seed", rng.below(100)}});
  cache["start"] = pick(rng, {"cold", "popular"});
  if (has_steps_before && rng.chance(1, 2)) cache["start"] = {{"replay", 1}};
  return fmt::format("{} cache {} {} {}", config.preset, cache["policy"].get<std::string>(), prefetch,
                     cache["load_order"].get<std::string>());
}

}  // namespace

DrawnWorkload draw_workload(std::uint64_t seed, std::uint64_t index) {
  base::Rng rng = base::Rng(seed).stream("workload", index);
  base::Rng wide = base::Rng(seed).stream("wide", index);
  DrawnChip chip = draw_chip(rng, wide);
  const DrawnPlan plan = draw_plan(rng);
  const std::int64_t layers = rng.range(2, 3);  // with experts
  DrawnShape shape = draw_shape(rng, chip);
  const bool is_short = rng.chance(1, 4);
  const double fewest = is_short ? kFewestCycles : kManyCycles, most = is_short ? kManyCycles : kMostCycles;
  for (int attempt = 0; attempt < 100; ++attempt) {
    const double cycles = estimate_cycles(chip, shape, plan.planes) * static_cast<double>(layers);
    if (cycles >= fewest && cycles <= most) break;
    shape = draw_shape(rng, chip);
  }

  DrawnWorkload drawn;
  drawn.plan = plan.name;
  drawn.trace = shape.trace;
  drawn.trace.seed = rng.next() >> 1;
  const bool has_dense_layer = rng.chance(1, 6), has_shared = rng.chance(1, 2);
  Json network{{"name", "drawn"},
               {"source", "drawn"},
               {"hidden", shape.hidden},
               {"expert_intermediate", shape.width},
               {"experts", shape.experts},
               {"top_k", shape.top_k},
               {"shared_experts", has_shared ? 1 : 0},
               {"shared_intermediate", has_shared ? 512 : 0},
               {"layers", has_dense_layer ? layers + 1 : layers},
               {"dense_first", has_dense_layer ? 1 : 0},
               {"moe_every", 1},
               {"dense_intermediate", has_dense_layer ? 704 : 0},
               {"heads", 8},
               {"kv_heads", pick<int>(rng, {2, 8})},
               {"head_dim", pick<int>(rng, {64, 128})},
               {"gated", true},
               {"vocab", 4096}};
  if (rng.chance(1, 5))
    network["latent_attention"] = {
        {"q_rank", pick<int>(rng, {0, 192})}, {"kv_rank", 128}, {"nope_dim", 64}, {"rope_dim", 32}};

  Json workload{{"model", "network.yaml"}, {"trace", "trace.csv"}};
  std::string rest;
  if (chip.max_act_bits == 4 || rng.chance(1, 10)) workload["act_bits"] = 4;
  if (rng.chance(3, 10)) {
    Json whole = Json::object();
    if (has_shared) whole["shared_experts"] = pick(rng, {"int8", "int4"});
    if (has_dense_layer) whole["dense_layers"] = pick(rng, {"int8", "int3"});
    if (rng.chance(7, 10)) whole["attention"] = pick(rng, {"int8", "int8", "int4"});
    if (whole.empty() || rng.chance(4, 10)) whole["head"] = "int4";
    workload["whole_layers"] = whole;
    rest += " whole_layers";
  }
  if (rng.chance(1, 12)) {
    const Json median = shape.top_k > 1 ? Json("median") : Json(0.5);
    workload["routing"] = pick<Json>(rng, {{{"prune_ratio", median}}, {{"capacity_factor", 1.0}}});
    rest += " routing";
  }
  if (drawn.plan.rfind("nested", 0) == 0 && rng.chance(1, 2)) {
    drawn.trace.levels = {0.6, 0.3, 0.1};
    drawn.trace.level_of_request = rng.chance(1, 2);
    rest += " levels";
  }
  const bool in_batches = drawn.trace.requests > 1 && rng.chance(2, 3);
  if (in_batches && rng.chance(1, 10)) {  // runs several times until its schedule is found
    workload["continuous_batching"] = {{"max_requests", 2}};
    drawn.trace.arrival_gap_us = 500;
    rest += " continuous";
  } else if (in_batches) {
    workload["batch_requests"] = 2;
    rest += " batched";
  }
  // Without the prefill, which has then gone through the cache before.
  const bool has_steps_before = rng.chance(1, 4) && chip.max_tokens <= 32;
  if (has_steps_before) workload["phase"] = "decode";
  std::string offloading;
  if (rng.chance(1, 4)) {
    offloading = draw_offloading(rng, shape, has_steps_before && !in_batches, chip.json);
    base::Rng dma = base::Rng(seed).stream("dma", index);
    if (dma.chance(1, 2)) {
      const auto bytes = pick<std::int64_t>(dma, {256, 1000, 4096, 4096, 65536});
      chip.json["storage"]["dma_bytes"] = bytes;
      offloading += fmt::format(" dma {}", bytes);
    }
  } else if (rng.chance(3, 20)) {
    drawn.barriers = true;
    rest += " barriers";
  }

  drawn.chip = chip.json.dump(1) + "\n";
  drawn.network = network.dump(1) + "\n";
  drawn.workload = workload.dump(1) + "\n";
  const std::string array = fmt::format("r{}c{}p{} w{}", chip.rows, chip.cols, chip.planes_per_cycle, chip.axi_bits);
  drawn.text = fmt::format("{} {:.0f} MHz {} {}{}{} {}{}", array, 1e9 / chip.period_fs, chip.layout, chip.memory_text,
                           offloading.empty() ? "" : " ", offloading, drawn.plan, rest);
  drawn.configuration =
      fmt::format("{} {} {}{}{} {}", array, chip.layout, chip.memory_text.substr(0, chip.memory_text.find(" tREFI")),
                  offloading.empty() ? "" : " ", offloading, drawn.plan);
  return drawn;
}

void write_files(const DrawnWorkload& drawn, const std::string& folder) {
  base::write_file(folder + "/chip.yaml", drawn.chip);
  base::write_file(folder + "/network.yaml", drawn.network);
  base::write_file(folder + "/workload.yaml", drawn.workload);
  base::write_file(folder + "/run.txt",
                   fmt::format("moesaic simulate --engine fast --no-data --chip chip.yaml --workload workload.yaml "
                               "--plan {}{} --out out\n",
                               drawn.plan, drawn.barriers ? " --barriers" : ""));
  const workloads::Network network = workloads::read_shape_file(folder + "/network.yaml");
  workloads::TraceWriter trace(folder + "/trace.csv", drawn.trace.arrival_gap_us > 0, !drawn.trace.levels.empty());
  workloads::synthesise(network, drawn.trace, [&trace](const workloads::TraceRow& row) { trace.write(row); });
  trace.commit();
}

}  // namespace moesaic::run
