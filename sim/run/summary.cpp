#include "sim/run/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/dump_json.h"
#include "base/error.h"
#include "models/memory/memory_model.h"

namespace moesaic::run {

namespace {

using nlohmann::ordered_json;
using program::kCombination;
using program::Kind;
using program::kNumCauses;
using program::kNumKinds;
using program::kNumMemoryPorts;
using program::kNumParts;
using program::MemoryPort;

constexpr std::array<MemoryPort, kNumMemoryPorts> kPorts{MemoryPort::kWeightRead, MemoryPort::kActivationRead,
                                                         MemoryPort::kWrite};
constexpr std::array<program::Activity, 4> kActivities{program::Activity::kBusy, program::Activity::kStarved,
                                                       program::Activity::kBlocked, program::Activity::kIdle};
constexpr std::array<const char*, 4> kActivityNames{"busy", "starved", "blocked", "idle"};

std::uint64_t weights_per_expert(const Run& run) {
  return static_cast<std::uint64_t>(run.workload.network.params_per_expert());
}

bool is_head(const Run& run, int layer) { return layer == static_cast<int>(run.workload.network.layers); }
std::string layer_name(const Run& run, int layer) { return is_head(run, layer) ? "head" : std::to_string(layer); }

double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

/// Bit-plane additions that the array could do in these cycles.
std::uint64_t array_capacity(const Run& run, std::uint64_t cycles) {
  const program::CoreParams& core = run.chip.core;
  return cycles * core.rows * core.cols * core.planes_per_cycle;
}

double memory_share(const Run& run, std::uint64_t bytes, std::uint64_t cycles) {
  const double peak =
      memory::peak_bytes(run.chip.memory, run.chip.clock_period(), base::Cycles(static_cast<std::int64_t>(cycles)));
  return cycles == 0 ? 0.0 : static_cast<double>(bytes) / peak;
}

std::int64_t time_fs(const Run& run) {
  return run.chip.time(base::Cycles(static_cast<std::int64_t>(run.engine_run.cycles))).count();
}

std::int64_t tokens(const Run& run) { return run.totals.prefill_tokens + run.totals.decode_tokens; }

/// Experts of the simulated layers by format, in the order of all_formats(), then those of several.
std::vector<std::pair<std::string, std::int64_t>> histogram(const Run& run, const Totals& totals, double& average) {
  std::map<std::string, std::int64_t> count;
  std::int64_t bits = 0, matrices = 0;
  for (const auto& [layer, unused] : totals.layers) {
    if (is_head(run, layer) || !run.workload.network.has_experts[static_cast<std::size_t>(layer)]) continue;
    for (int expert = 0; expert < static_cast<int>(run.workload.network.experts); ++expert) {
      const numerics::ExpertFormats format = run.inputs.format(layer, expert);
      ++count[format.name()];
      bits += format.planes();
      matrices += 3;  // of equal sizes
    }
  }
  average = static_cast<double>(bits) / static_cast<double>(matrices);
  std::vector<std::pair<std::string, std::int64_t>> ordered;
  for (const numerics::Format& format : numerics::all_formats())
    if (const auto found = count.find(format.name()); found != count.end()) {
      ordered.emplace_back(*found);
      count.erase(found);
    }
  ordered.insert(ordered.end(), count.begin(), count.end());
  return ordered;
}

/// Cycles that each resource needs at its peak, whatever the others do; the greatest is the bound of the whole.
struct Roofline {
  std::vector<std::pair<std::string, std::uint64_t>> cycles;
  const std::pair<std::string, std::uint64_t>& bound() const {
    return *std::max_element(cycles.begin(), cycles.end(),
                             [](const auto& a, const auto& b) { return a.second < b.second; });
  }
};

/// `written_bytes` come from the storage.
Roofline roofline(const Run& run, std::uint64_t plane_adds,
                  const std::array<std::uint64_t, kNumMemoryPorts>& port_bytes, std::uint64_t written_bytes) {
  const auto cycles = [](std::uint64_t work, std::uint64_t per_cycle) { return (work + per_cycle - 1) / per_cycle; };
  std::uint64_t bytes = written_bytes;
  for (const std::uint64_t of_port : port_bytes) bytes += of_port;
  Roofline line;
  line.cycles.emplace_back("array", cycles(plane_adds, array_capacity(run, 1)));
  line.cycles.emplace_back("memory", memory::least_cycles(run.chip.memory, run.chip.clock_period(),
                                                          base::Bytes(static_cast<std::int64_t>(bytes))));
  for (const MemoryPort port : kPorts) {
    const auto p = static_cast<std::size_t>(port);
    line.cycles.emplace_back(std::string(program::kMemoryPortNames[p]) + "_port",
                             cycles(port_bytes[p], run.chip.core.axi_data_bits / 8));
  }
  return line;
}

/// Of the whole run: the storage bounds it too. Requests are whole granules.
Roofline whole_roofline(const Run& run, std::uint64_t plane_adds) {
  std::array<std::uint64_t, kNumMemoryPorts> port_bytes{};
  for (const MemoryPort port : kPorts) port_bytes[static_cast<std::size_t>(port)] = run.engine_run.traffic.total(port);
  Roofline line = roofline(run, plane_adds, port_bytes, run.engine_run.written_bytes);
  if (!run.chip.storage) return line;
  using Wide = unsigned __int128;  // bytes times femtoseconds
  const Wide work = static_cast<Wide>(run.totals.loaded_granules) * 1000000000000000U,
             per_cycle = static_cast<Wide>(run.chip.storage->bytes_per_second) *
                         static_cast<Wide>(run.chip.clock_period().count());
  line.cycles.emplace_back("storage", static_cast<std::uint64_t>((work + per_cycle - 1) / per_cycle));
  return line;
}

ordered_json roofline_json(const Roofline& line, std::uint64_t cycles) {
  ordered_json j;
  for (const auto& [resource, least] : line.cycles) j["least_cycles"][resource] = least;
  j["bound_by"] = line.bound().first;
  j["share_of_bound"] = share(line.bound().second, cycles);
  return j;
}

double milliseconds(const Run& run, double cycles) {
  return cycles * static_cast<double>(run.chip.clock_period().count()) * 1e-12;
}

/// Nearest-rank percentiles of cycles, in milliseconds.
ordered_json percentiles(const Run& run, std::vector<double> cycles) {
  std::sort(cycles.begin(), cycles.end());
  ordered_json j;
  for (const std::size_t percent : {std::size_t{50}, std::size_t{95}, std::size_t{99}})
    j[fmt::format("p{}_ms", percent)] = milliseconds(run, cycles[(percent * cycles.size() + 99) / 100 - 1]);
  return j;
}

ordered_json latency_json(const Run& run, const Totals& totals) {
  std::vector<double> first, per_token, whole;
  for (const auto& [request, times] : totals.requests) {
    if (const auto cycles = times.time_to_first_token()) first.push_back(static_cast<double>(*cycles));
    if (const auto cycles = times.time_per_output_token()) per_token.push_back(*cycles);
    whole.push_back(static_cast<double>(times.end_to_end()));
  }
  ordered_json j;
  j["requests"] = whole.size();
  if (!first.empty()) j["time_to_first_token"] = percentiles(run, first);
  if (!per_token.empty()) j["time_per_output_token"] = percentiles(run, per_token);
  j["end_to_end"] = percentiles(run, whole);
  j["tokens_per_second"] = static_cast<double>(tokens(run)) / (static_cast<double>(time_fs(run)) * 1e-15);
  return j;
}

ordered_json causes_json(const Causes& causes) {
  ordered_json j;
  for (std::size_t c = 0; c < kNumCauses; ++c) j[std::string(program::kCauseNames[c])] = causes[c];
  return j;
}

ordered_json blocks_json(const program::ActivityCounts& activity) {
  ordered_json j;
  for (std::size_t b = 0; b < program::kNumBlocks; ++b) {
    ordered_json& block = j[std::string(program::kBlocks[b].name)];
    for (std::size_t a = 0; a < 4; ++a)
      block[kActivityNames[a]] = activity[b][static_cast<std::size_t>(kActivities[a])];
  }
  return j;
}

ordered_json bytes_json(const KindBytes& bytes) {
  ordered_json j;
  for (std::size_t k = 0; k < kNumKinds; ++k) j[std::string(program::kKindNames[k])] = bytes[k];
  return j;
}

std::string with_commas(std::uint64_t value) {
  std::string digits = std::to_string(value), text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string percent(double part) { return fmt::format("{:.1f} %", 100 * part); }

std::string plural(std::int64_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string dataflow(const Run& run) {
  const program::CoreParams& core = run.chip.core;
  return fmt::format(
      "weight stationary: a tile of {} x {} weights stays while up to {} tokens pass, {} of a token's bit planes a "
      "cycle; "
      "experts in ascending order, then the combination; one command at a time",
      core.rows, core.cols, core.max_tokens, core.planes_per_cycle);
}

constexpr const char* kBarriers = "one expert at a time: the core is idle before each";
constexpr const char* kOverlap =
    "weights of the next tile load while one computes (two banks), and the weight reader runs ahead into the next "
    "product "
    "until its FIFO is full; activations load between products";

std::string left_out(const Run& run) {
  const workloads::WholeLayers& whole = run.workload.whole;
  if (!whole.any()) return "attention, router, normalisation, embeddings and shared experts are not simulated";
  std::string text = "embeddings, rotary embedding and residual additions";
  if (!whole.attention) text += ", attention";
  if (!whole.shared_experts && run.workload.network.shared_experts > 0) text += ", shared experts";
  if (!whole.dense_layers && run.workload.network.moe_layers() < run.workload.network.layers)
    text += ", layers without experts";
  if (!whole.head) text += ", the language-model head";
  return text + " are not simulated";
}

std::uint64_t refresh_of(const PortCounts& refresh, MemoryPort port) { return refresh[static_cast<std::size_t>(port)]; }

/// The cycles of a layer or of the run, each under one heading: they add up to `cycles`.
ordered_json split_json(const Causes& causes, const PortCounts& refresh, std::uint64_t stated, std::uint64_t arrivals) {
  const auto of = [&causes](program::Cause cause) { return causes[static_cast<std::size_t>(cause)]; };
  const std::uint64_t of_weights = refresh_of(refresh, MemoryPort::kWeightRead),
                      of_activations = refresh_of(refresh, MemoryPort::kActivationRead);
  ordered_json j;
  j["compute"] = of(program::Cause::kComputing);
  j["weight_wait"] = of(program::Cause::kWeights) - of_weights;
  j["io_wait"] = of(program::Cause::kIo);
  j["activation_wait"] = of(program::Cause::kActivations) - of_activations;
  j["dequantisation"] = of(program::Cause::kDequantisation);
  j["drain"] = of(program::Cause::kResults) + of(program::Cause::kDrain);
  j["refresh"] = of_weights + of_activations;
  j["stated"] = stated;
  j["arrivals"] = arrivals;
  j["idle"] = of(program::Cause::kCommands) + of(program::Cause::kHost) - stated - arrivals;
  return j;
}

bool is_offloaded(const Run& run, int expert) {
  return run.program.offloaded && expert < run.program.offloaded->experts;
}

std::uint64_t host_counter(const Run& run, const char* name) {
  for (const memory::Counter& counter : run.engine_run.host_counters)
    if (counter.name == name) return counter.value;
  throw std::logic_error(std::string("no host counter ") + name);
}

std::string prefetch_text(const host::PrefetchConfig& prefetch) {
  if (prefetch.kind == "perfect") return "perfect: the next layer's experts, known from the future";
  if (prefetch.kind == "none") return "none";
  return fmt::format("{}: recall {:g}, precision {:g}, seed {}", prefetch.kind, prefetch.recall, prefetch.precision,
                     prefetch.seed);
}

std::string policy_text(const program::CacheConfig& cache) {
  if (cache.policy == "belady") return "belady: knows the future";
  if (cache.policy == "pinned") return "pinned: popularity counted on this run, known from the future";
  return cache.policy;
}

std::string start_text(const Run& run) {
  if (const std::int64_t steps = run.chip.cache->replayed_steps; steps > 0)
    return fmt::format("replay: {} of the trace before the run went through the cache, {} are there",
                       plural(steps, "step"),
                       plural(static_cast<std::int64_t>(host_counter(run, "warm_experts")), "expert"));
  if (!run.chip.cache->start_popular) return "cold: the cache is empty";
  return fmt::format("popular: {} experts with the most rows of this run are there, known from the future",
                     host_counter(run, "warm_experts"));
}

ordered_json cache_json(const Run& run) {
  const program::CacheConfig& cache = *run.chip.cache;
  ordered_json j;
  j["policy"] = policy_text(cache);
  j["capacity_bytes"] = run.program.offloaded->cache_bytes;
  j["load_order"] = program::kLoadOrderNames[static_cast<std::size_t>(cache.load_order)];
  j["prefetch"] = prefetch_text(cache.prefetch);
  j["decision_cycles"] = cache.decision_cycles.count();
  j["start"] = start_text(run);
  const std::uint64_t jobs = host_counter(run, "jobs"), hits = host_counter(run, "hits");
  j["jobs"] = jobs;
  j["hits"] = hits;
  j["misses"] = jobs - hits;
  j["hit_rate"] = share(hits, jobs);
  for (const char* name : {"loaded_bytes", "prefetched_bytes", "dropped_bytes", "evictions", "fragmentation_evictions",
                           "repacked", "waits_for_room", "warm_bytes"})
    j[name] = host_counter(run, name);
  return j;
}

ordered_json layer_cache_json(const program::EngineRun::CacheOfLayer& cache) {
  ordered_json j;
  j["jobs"] = cache.jobs;
  j["hits"] = cache.hits;
  j["misses"] = cache.jobs - cache.hits;
  j["hit_rate"] = share(cache.hits, cache.jobs);
  j["loaded_bytes"] = cache.loaded_bytes;
  j["prefetched_bytes"] = cache.prefetched_bytes;
  j["dropped_bytes"] = cache.dropped_bytes;
  return j;
}

std::string batching(const Run& run) {
  const std::string steps = plural(static_cast<std::int64_t>(run.totals.steps), "step");
  if (run.workload.continuous_requests)
    return fmt::format(
        "continuous: between two steps, prefill of the requests that have arrived while fewer than {} run, else a "
        "decode "
        "step of all that run ({})",
        *run.workload.continuous_requests, steps);
  if (run.workload.batch_requests == 1) return fmt::format("one step of one request at a time ({})", steps);
  return fmt::format(
      "one step of up to {} requests at a time ({}); a group of requests begins when the one before it ends",
      run.workload.batch_requests, steps);
}

}  // namespace

std::string summary_json(const Run& run) {
  const Totals& totals = run.totals;
  const std::uint64_t cycles = run.engine_run.cycles;
  const program::CoreParams& core = run.chip.core;
  ordered_json j;
  j["summary_version"] = 1;
  j["engine"] = run.engine;
  j["tokens"] = tokens(run);
  j["tokens_prefill"] = totals.prefill_tokens;
  j["tokens_decode"] = totals.decode_tokens;
  j["steps"] = totals.steps;
  j["expert_rows"] = totals.expert_rows;
  j["commands"] = totals.commands;
  j["cycles"] = cycles;
  j["cycles_per_token"] = static_cast<double>(cycles) / static_cast<double>(tokens(run));
  j["time_fs"] = time_fs(run);
  j["time_ms"] = static_cast<double>(time_fs(run)) * 1e-12;
  j["latency"] = latency_json(run, totals);
  j["utilisation"]["array"] = share(totals.plane_adds, array_capacity(run, cycles));
  j["utilisation"]["array_computing"] =
      share(totals.last.causes[static_cast<std::size_t>(program::Cause::kComputing)], cycles);
  j["utilisation"]["memory"] = memory_share(run, totals.all_bytes + run.engine_run.written_bytes, cycles);
  j["roofline"] = roofline_json(whole_roofline(run, totals.plane_adds), cycles);
  j["plane_additions"] = totals.plane_adds;
  j["plane_addition_slots"] = array_capacity(run, cycles);

  double average = 0;
  ordered_json formats;
  for (const auto& [name, count] : histogram(run, totals, average)) formats[name] = count;
  j["bits"]["average"] = average;
  j["bits"]["average_per_row"] = share(totals.expert_plane_adds, totals.expert_rows * weights_per_expert(run));
  j["bits"]["experts_by_format"] = formats;
  if (!run.inputs.facts.choices_by_level.empty()) j["bits"]["choices_by_level"] = run.inputs.facts.choices_by_level;
  j["bits"]["group_size"] = run.inputs.facts.group_size;
  j["bits"]["activations"] = run.inputs.facts.act_bits;

  ordered_json& bytes = j["bytes"];
  bytes["total"] = totals.all_bytes;
  bytes["by_kind"] = bytes_json(totals.bytes);
  bytes["by_kind"]["padding"] = totals.padding;
  for (const MemoryPort port : kPorts)
    bytes["by_port"][std::string(program::kMemoryPortNames[static_cast<std::size_t>(port)])] =
        run.engine_run.traffic.total(port);

  for (const memory::Counter& counter : run.engine_run.memory_counters) j["memory"][counter.name] = counter.value;
  if (run.program.offloaded) {
    j["storage"]["name"] = run.chip.storage_name();
    j["storage"]["requests"] = totals.loads;
    j["storage"]["bytes"] = run.engine_run.storage_bytes;
    j["cache"] = cache_json(run);
  }

  j["cycles_by_cause"] = causes_json(totals.last.causes);
  j["cycles_split"] = split_json(totals.last.causes, totals.last.refresh, totals.stated, totals.arrivals);
  j["blocks"] = blocks_json(totals.last.activity);

  for (std::size_t p = 0; p < kNumParts; ++p) {
    const PartTotals& part = totals.parts[p];
    if (part.phases == 0) continue;
    ordered_json& one = j["parts"][std::string(program::kPartNames[p])];
    one["phases"] = part.phases;
    one["cycles"] = part.cycles;
    one["stated_cycles"] = part.stated;
    one["plane_additions"] = part.plane_adds;
    one["cycles_by_cause"] = causes_json(part.causes);
    one["refresh_cycles"] =
        refresh_of(part.refresh, MemoryPort::kWeightRead) + refresh_of(part.refresh, MemoryPort::kActivationRead);
    for (std::size_t i = 0; i < kNumMemoryPorts; ++i)
      one["bytes_by_port"][std::string(program::kMemoryPortNames[i])] = part.port_bytes[i];
  }
  for (const auto& [name, product] : totals.products) {
    ordered_json& one = j["products"][name];
    one["rows"] = product.rows;
    one["cycles"] = product.cycles;
    one["plane_additions"] = product.plane_adds;
  }

  for (const auto& [layer, total] : totals.layers) {
    ordered_json one;
    one["layer"] = is_head(run, layer) ? ordered_json("head") : ordered_json(layer);
    one["rows"] = total.rows;
    one["cycles"] = total.cycles;
    one["utilisation_array"] = share(total.plane_adds, array_capacity(run, total.cycles));
    one["roofline"] =
        roofline_json(roofline(run, total.plane_adds, total.port_bytes, total.written_bytes), total.cycles);
    one["cycles_by_cause"] = causes_json(total.causes);
    one["cycles_split"] = split_json(total.causes, total.refresh, total.stated, total.arrivals);
    for (std::size_t p = 0; p < kNumParts; ++p)
      if (total.part_cycles[p] > 0) one["cycles_by_part"][std::string(program::kPartNames[p])] = total.part_cycles[p];
    one["bytes_by_kind"] = bytes_json(total.bytes);
    if (run.program.offloaded && total.cache.jobs > 0) one["cache"] = layer_cache_json(total.cache);
    one["blocks"] = blocks_json(total.activity);
    j["layers"].push_back(one);
  }

  ordered_json& facts = j["facts"];
  facts["dataflow"] = dataflow(run);
  facts["preload_overlap"] = kOverlap;
  if (run.program.barriers) facts["barriers"] = kBarriers;
  facts["memory_model"] = run.chip.memory_name();
  facts["storage"] = run.chip.storage_name();
  facts["layout"] = numerics::layout_kind_name(run.chip.layout);
  facts["batching"] = batching(run);
  facts["whole_layers"] = run.inputs.facts.whole_layers.empty() ? "routed experts and their combination only"
                                                                : run.inputs.facts.whole_layers;
  facts["left_out"] = left_out(run);
  if (run.workload.whole.any() && run.chip.stated_costs) {
    const auto cost = [](const program::StatedCost& c, const char* unit) {
      return fmt::format("{} cycles and one for every {} {}", c.cycles, c.per_cycle, unit);
    };
    facts["stated_costs"]["norm"] = cost(run.chip.stated_costs->norm, "elements");
    facts["stated_costs"]["router"] = cost(run.chip.stated_costs->router, "multiplications");
    facts["stated_costs"]["softmax"] = cost(run.chip.stated_costs->softmax, "scores");
  }
  facts["activations"] = run.inputs.facts.activations;
  facts["routing"] = run.inputs.facts.routing;
  facts["weights"] = run.inputs.facts.weights;
  facts["plan"] = run.inputs.facts.plan;
  facts["seed"] = run.seed;
  if (run.workload.routing.any()) {
    const workloads::Dropped& dropped = run.inputs.facts.dropped;
    facts["routing_rules"]["dropped_by_pruning"] = dropped.pruned;
    facts["routing_rules"]["dropped_over_capacity"] = dropped.over_capacity;
    facts["routing_rules"]["dropped_by_rounding"] = dropped.rounded;
    if (!run.inputs.facts.prune_ratios.empty())
      facts["routing_rules"]["prune_ratio_by_layer"] = run.inputs.facts.prune_ratios;
    facts["routing_rules"]["renormalised"] = run.workload.routing.renormalise;
  }
  if (run.inputs.facts.rows_held_to_trace > 0) {
    facts["rows_held_to_trace"] = run.inputs.facts.rows_held_to_trace;
    facts["rows_of_near_ties"] = run.inputs.facts.rows_of_near_ties;
  }

  ordered_json& chip = j["chip"];
  chip["name"] = run.chip.name;
  chip["sha256"] = run.chip.hash;
  chip["clock_period_fs"] = run.chip.clock_period().count();
  chip["rows"] = core.rows;
  chip["cols"] = core.cols;
  chip["planes_per_cycle"] = core.planes_per_cycle;
  chip["max_act_bits"] = core.max_act_bits;
  chip["axi_data_bits"] = core.axi_data_bits;
  chip["max_tokens"] = core.max_tokens;
  chip["activation_words"] = core.act_depth;
  chip["hidden_words"] = core.hidden_depth;
  chip["reader_beats"] = core.fifo_depth;
  chip["commands"] = core.command_depth;
  chip["io_descriptors"] = core.io_depth;
  chip["io_requests"] = core.io_credits;
  chip["io_jobs"] = core.io_jobs;

  ordered_json& workload = j["workload"];
  workload["file"] = run.workload.path;
  workload["model"] = run.workload.network.name;
  workload["model_sha256"] =
      run.inputs.facts.model_hash.empty() ? ordered_json(nullptr) : ordered_json(run.inputs.facts.model_hash);
  workload["plan_sha256"] =
      run.inputs.facts.plan_hash.empty() ? ordered_json(nullptr) : ordered_json(run.inputs.facts.plan_hash);
  workload["hidden"] = run.workload.network.hidden;
  workload["expert_intermediate"] = run.workload.network.expert_intermediate;
  workload["experts"] = run.workload.network.experts;
  workload["top_k"] = run.workload.network.top_k;

  j["check"]["values_compared"] = run.values_compared;
  j["check"]["differences"] = 0;
  return base::dump_json(j, 2) + "\n";
}

std::string layers_csv(const Run& run) {
  const Totals& totals = run.totals;
  std::string text = "layer,rows,cycles,utilisation_array";
  for (const auto name : program::kCauseNames) text += fmt::format(",cycles_{}", name);
  text += ",refresh_of_weights,refresh_of_activations";
  for (const auto name : program::kKindNames) text += fmt::format(",bytes_{}", name);
  for (const auto name : program::kPartNames) text += fmt::format(",cycles_of_{}", name);
  text += ",cache_jobs,cache_hits,loaded_bytes,prefetched_bytes,dropped_bytes\n";
  for (const auto& [layer, total] : totals.layers) {
    text += fmt::format("{},{},{},{:.6f}", layer_name(run, layer), total.rows, total.cycles,
                        share(total.plane_adds, array_capacity(run, total.cycles)));
    for (const std::uint64_t count : total.causes) text += fmt::format(",{}", count);
    for (const MemoryPort port : {MemoryPort::kWeightRead, MemoryPort::kActivationRead})
      text += fmt::format(",{}", refresh_of(total.refresh, port));
    for (const std::uint64_t count : total.bytes) text += fmt::format(",{}", count);
    for (const std::uint64_t count : total.part_cycles) text += fmt::format(",{}", count);
    const auto& cache = total.cache;
    text += fmt::format(",{},{},{},{},{}\n", cache.jobs, cache.hits, cache.loaded_bytes, cache.prefetched_bytes,
                        cache.dropped_bytes);
  }
  return text;
}

std::string experts_csv(const Run& run) {
  const Totals& totals = run.totals;
  std::string text =
      "layer,expert,format,stored_bytes,steps,rows,cycles,bytes_read,utilisation_array,loads,loaded_bytes\n";
  for (const auto& stored : run.program.experts) {
    const ExpertTotals& total = totals.experts.at({stored.layer, stored.expert});
    text += fmt::format("{},{},{},{},{},{},{},{},{:.6f},{},{}\n", stored.layer,
                        expert_name(run.workload.network, stored.expert), stored.object.layout->formats().name(),
                        stored.object.layout->total_bytes(), total.steps, total.rows, total.cycles,
                        is_offloaded(run, stored.expert) ? std::string() : std::to_string(total.bytes_read),
                        share(total.plane_adds, array_capacity(run, total.cycles)), total.loads, total.loaded_bytes);
  }
  return text;
}

std::string steps_csv_row(const Step& step, const StepTimes& times) {
  return fmt::format("{},{},{},{},{},{}\n", step.first_request(), step.parts.size(), step.step,
                     workloads::phase_name(step.phase), step.tokens, times.cycles);
}

std::string requests_csv(const Run& run) {
  std::string text =
      "request,prefill_tokens,decode_tokens,arrival_ms,begin_ms,time_to_first_token_ms,time_per_output_token_ms,end_to_"
      "end_ms\n";
  const auto cell = [&run](const auto& cycles) {
    return cycles ? fmt::format("{:.9f}", milliseconds(run, static_cast<double>(*cycles))) : std::string();
  };
  for (const auto& [request, times] : run.totals.requests)
    text +=
        fmt::format("{},{},{},{:.9f},{:.9f},{},{},{:.9f}\n", request, times.prefill_tokens, times.decode_tokens,
                    milliseconds(run, static_cast<double>(times.arrival)),
                    milliseconds(run, static_cast<double>(times.begin)), cell(times.time_to_first_token()),
                    cell(times.time_per_output_token()), milliseconds(run, static_cast<double>(times.end_to_end())));
  return text;
}

std::string page(const Run& run) {
  const Totals& totals = run.totals;
  const std::uint64_t cycles = run.engine_run.cycles;
  const auto& end = totals.last;
  double average = 0;
  std::string formats;
  for (const auto& [name, count] : histogram(run, totals, average))
    formats += fmt::format("{}{} {}", formats.empty() ? "" : ", ", count, name);

  std::string text;
  text += fmt::format("{} on chip {}, engine {}\n\n", run.workload.network.name, run.chip.name, run.engine);
  const auto line = [&text](const char* name, const std::string& value) {
    text += fmt::format("  {:<13} {}\n", name, value);
  };
  const std::size_t heads = totals.layers.count(static_cast<int>(run.workload.network.layers));
  line("tokens",
       fmt::format("{} ({} prefill, {} decode) through {}{}", tokens(run), totals.prefill_tokens, totals.decode_tokens,
                   plural(static_cast<std::int64_t>(totals.layers.size() - heads), "layer"),
                   heads > 0 ? " and the head" : ""));
  line("bits",
       fmt::format("{:.3f} a weight on average over experts ({}); plan: {}", average, formats, run.inputs.facts.plan));
  line("cycles", fmt::format("{}, {:.0f} a token", with_commas(cycles),
                             static_cast<double>(cycles) / static_cast<double>(tokens(run))));
  line("time", fmt::format("{:.3f} ms at {:g} MHz", static_cast<double>(time_fs(run)) * 1e-12,
                           1e9 / static_cast<double>(run.chip.clock_period().count())));
  line("utilisation", fmt::format("array {}, memory {}", percent(share(totals.plane_adds, array_capacity(run, cycles))),
                                  percent(memory_share(run, totals.all_bytes + run.engine_run.written_bytes, cycles))));
  const auto bound = whole_roofline(run, totals.plane_adds).bound();
  line("bound", fmt::format("{}: it alone needs {} cycles, {} of the run", bound.first, with_commas(bound.second),
                            percent(share(bound.second, cycles))));
  line("memory", run.chip.memory_name());
  line("storage", run.chip.storage_name());
  if (run.program.offloaded) {
    const std::uint64_t jobs = host_counter(run, "jobs"), hits = host_counter(run, "hits"),
                        dropped = host_counter(run, "dropped_bytes");
    line("expert cache",
         fmt::format("{} bytes, {}, {}; {} of {} jobs hit ({}), {} bytes moved: {} on demand, {} ahead{}",
                     with_commas(run.program.offloaded->cache_bytes), run.chip.cache->policy,
                     program::kLoadOrderNames[static_cast<std::size_t>(run.chip.cache->load_order)], hits, jobs,
                     percent(share(hits, jobs)), with_commas(run.engine_run.storage_bytes),
                     with_commas(host_counter(run, "loaded_bytes")), with_commas(host_counter(run, "prefetched_bytes")),
                     dropped == 0 ? "" : ", less " + with_commas(dropped) + " dropped"));
  }
  if (run.program.barriers) line("barriers", kBarriers);
  line("activations", run.inputs.facts.activations);
  line("routing", run.inputs.facts.routing);
  if (run.workload.whole.any()) line("beside them", run.inputs.facts.whole_layers);
  if (run.workload.routing.any())
    line("left out",
         fmt::format("{} choices by the workload's routing rules: {} pruned, {} over capacity, {} rounded away",
                     run.inputs.facts.dropped.total(), run.inputs.facts.dropped.pruned,
                     run.inputs.facts.dropped.over_capacity, run.inputs.facts.dropped.rounded));
  line("checked", run.values_compared == 0 ? std::string("nothing: without data no result was computed")
                                           : fmt::format("{} results equal to the reference, 0 differences",
                                                         with_commas(static_cast<std::uint64_t>(run.values_compared))));

  text += "\n  where the cycles went\n";
  for (std::size_t c = 0; c < kNumCauses; ++c)
    text += fmt::format("    {:<12} {:>14}  {:>7}\n", program::kCauseNames[c], with_commas(end.causes[c]),
                        percent(share(end.causes[c], cycles)));
  const std::uint64_t of_weights = refresh_of(end.refresh, MemoryPort::kWeightRead),
                      of_activations = refresh_of(end.refresh, MemoryPort::kActivationRead);
  if (of_weights + of_activations > 0)
    text += fmt::format("    while the memory refreshed: {} of weights, {} of activations\n", with_commas(of_weights),
                        with_commas(of_activations));
  if (totals.stated + totals.arrivals > 0)
    text += fmt::format("    of host: {} stated (norms, router, softmax), {} waiting for requests\n",
                        with_commas(totals.stated), with_commas(totals.arrivals));
  if (run.workload.whole.any()) {
    text += "\n  parts of the layers\n";
    for (std::size_t p = 0; p < kNumParts; ++p)
      if (totals.parts[p].phases > 0)
        text += fmt::format("    {:<12} {:>14}  {:>7}\n", program::kPartNames[p], with_commas(totals.parts[p].cycles),
                            percent(share(totals.parts[p].cycles, cycles)));
  }
  text += "\n  bytes over the memory ports\n";
  for (std::size_t k = 0; k < kNumKinds; ++k)
    if (totals.bytes[k] > 0)
      text += fmt::format("    {:<12} {:>14}  {:>7}\n", program::kKindNames[k], with_commas(totals.bytes[k]),
                          percent(share(totals.bytes[k], totals.all_bytes)));
  text += fmt::format("    {:<12} {:>14}  {:>7}\n", "padding", with_commas(totals.padding),
                      percent(share(totals.padding, totals.all_bytes)));
  text += "\n  layer   rows         cycles    array   computing  weights  activations  results+drain\n";
  for (const auto& [layer, total] : totals.layers) {
    const auto of = [&total = total](program::Cause cause) { return total.causes[static_cast<std::size_t>(cause)]; };
    text +=
        fmt::format("  {:>5}  {:>5}  {:>13}  {:>7}  {:>9}  {:>7}  {:>11}  {:>13}\n", layer_name(run, layer), total.rows,
                    with_commas(total.cycles), percent(share(total.plane_adds, array_capacity(run, total.cycles))),
                    percent(share(of(program::Cause::kComputing), total.cycles)),
                    percent(share(of(program::Cause::kWeights), total.cycles)),
                    percent(share(of(program::Cause::kActivations), total.cycles)),
                    percent(share(of(program::Cause::kResults) + of(program::Cause::kDrain), total.cycles)));
  }
  return text;
}

}  // namespace moesaic::run
