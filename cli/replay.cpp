#include "models/host/replay.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/atomic_file.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "reference/numerics/format.h"
#include "reference/numerics/stored_layout.h"
#include "sim/program/cache_block.h"
#include "sim/program/chip.h"
#include "workloads/checkpoint.h"
#include "workloads/lines.h"
#include "workloads/network.h"
#include "workloads/plan.h"
#include "workloads/trace.h"
#include "workloads/zoo.h"

namespace moesaic::cli {
namespace {

using base::Bytes;

constexpr const char* kWho = "moesaic replay";
constexpr int kArray = 16;  // rows and columns without a chip, as in `workload describe`

struct ReplayCommand {
  std::string trace;
  std::vector<std::string> capacities;
  std::vector<std::string> policies;
  std::string network;
  std::string format;
  std::string plan;
  std::string chip;
  std::string layout;
  std::int64_t group = 64;
  bool group_given = false;
  std::string scope = "layer";
  std::string access = "sequence";
  std::string phase;
  std::uint64_t batch = 1;
  std::uint64_t warmup = 0;
  host::PrefetchConfig prefetch;
  bool recall_given = false;
  bool precision_given = false;
  bool seed_given = false;
  std::string popularity;
  std::string out;
  bool json = false;
};

struct Capacity {
  std::string text;
  Bytes bytes;
};

/// What the trace is replayed against: dense layer numbers, and bytes where there is a network.
struct Setting {
  std::optional<workloads::Network> network;
  std::vector<std::uint32_t> layers;             // that have experts: dense number -> layer of the trace
  std::map<std::uint32_t, std::uint32_t> dense;  // the reverse
  std::uint32_t experts = 0;
  std::unique_ptr<host::ExpertBytes> bytes;
  workloads::Plan plan;  // its experts by dense layer and expert; none without a network
  std::string stored;    // how experts are stored, in words
};

void need_network(const ReplayCommand& o) {
  const auto refuse = [](const char* key, const std::string& got) {
    throw base::ConfigError(kWho, key, got, "--network beside it, which says how large an expert is");
  };
  if (!o.format.empty()) refuse("--format", o.format);
  if (!o.plan.empty()) refuse("--plan", o.plan);
  if (!o.chip.empty()) refuse("--chip", o.chip);
  if (!o.layout.empty()) refuse("--layout", o.layout);
  if (o.group_given) refuse("--group", std::to_string(o.group));
}

/// Without a network: the layers and experts that the trace names; an expert is one unit of unknown size.
Setting setting_of_trace(const ReplayCommand& o) {
  need_network(o);
  Setting s;
  std::set<std::uint32_t> layers;
  std::uint32_t most = 0;
  base::refuse_pipe(o.trace);
  workloads::TraceReader reader(o.trace);
  for (workloads::TraceRow row; reader.next(row);) {
    layers.insert(row.layer);
    for (const std::uint32_t expert : row.experts) {
      if (expert >= UINT16_MAX)
        throw base::ConfigError(reader.where(), "experts", std::to_string(expert), "less than 65535");
      most = std::max(most, expert + 1);
    }
  }
  if (layers.empty()) throw base::ConfigError(o.trace, "rows", "none", "at least one");
  s.layers.assign(layers.begin(), layers.end());
  s.experts = most;
  s.bytes = std::make_unique<host::ExpertBytes>(static_cast<std::uint32_t>(layers.size()), most,
                                                host::whole_expert(Bytes(1)));
  s.stored = "no network given: an expert is one unit, bytes are not known";
  return s;
}

Setting setting_of_network(const ReplayCommand& o) {
  Setting s;
  s.network = workloads::find_network(o.network, kWho, "--network");
  const workloads::Network& n = *s.network;
  if (!n.gated)
    throw base::ConfigError(kWho, "--network", n.name + ", whose experts have two matrices",
                            "gated experts: no other has a stored layout");
  if (n.experts >= UINT16_MAX)
    throw base::ConfigError(kWho, "--network", std::to_string(n.experts) + " experts", "less");
  for (std::uint32_t layer = 0; layer < n.layers; ++layer)
    if (n.has_experts[layer]) s.layers.push_back(layer);
  s.experts = static_cast<std::uint32_t>(n.experts);
  if (!o.chip.empty() && !o.layout.empty())
    throw base::ConfigError(kWho, "--layout", o.layout, "none: the chip file says it");
  if (!o.format.empty() && !o.plan.empty())
    throw base::ConfigError(kWho, "--format", o.format, "none: the plan says it");
  numerics::LayoutSpec spec{numerics::LayoutKind::kTileMajor, kArray, kArray};
  if (!o.chip.empty())
    spec = program::read_chip(o.chip).layout_spec();
  else if (!o.layout.empty())
    spec.kind = numerics::parse_layout_kind(o.layout, kWho, "--layout");
  std::int64_t group = o.group;
  const std::size_t count = s.layers.size() * static_cast<std::size_t>(n.experts);
  if (!o.plan.empty()) {
    if (!std::filesystem::is_directory(o.network))
      throw base::ConfigError(kWho, "--plan", "it with --network " + o.network, "it with a model folder");
    const workloads::Checkpoint checkpoint(o.network);
    s.plan = workloads::read_plan(o.plan);
    workloads::check_plan(s.plan, o.plan, n, checkpoint.hash());
    if (o.group_given && group != s.plan.group_size)
      throw base::ConfigError(kWho, "--group", std::to_string(group),
                              std::to_string(s.plan.group_size) + ", as the plan says");
    group = s.plan.group_size;
    s.stored = "plan " + o.plan;
  } else {
    const std::string name = o.format.empty() ? "int4" : o.format;
    s.plan.experts.assign(count, {0, 0, numerics::Format::parse(name, kWho, "--format"), 0});
    s.stored = name;
  }
  if (group < 8 || group % 8 != 0)
    throw base::ConfigError(kWho, "--group", std::to_string(group), "a positive multiple of 8");
  std::vector<host::StoredExpert> kinds;
  std::vector<numerics::ExpertFormats> kind_formats;
  std::vector<std::uint32_t> kind_of;
  const auto shapes = numerics::expert_shapes(n.hidden, n.expert_intermediate, group);
  for (const workloads::PlanEntry& entry : s.plan.experts) {
    const numerics::ExpertFormats& format = entry.format;
    auto found = std::find(kind_formats.begin(), kind_formats.end(), format);
    if (found == kind_formats.end()) {
      kind_formats.push_back(format);
      if (format.is_one()) {
        kinds.push_back(host::stored_expert(numerics::stored_layout(format.gate, shapes, spec)));
      } else {  // read as it is, as `simulate` caches it
        const numerics::ExpertLayout stored(format, n.hidden, n.expert_intermediate, group, spec);
        kinds.push_back(host::whole_expert(base::Bytes(static_cast<std::int64_t>(program::cache_block(stored).bytes))));
      }
      found = std::prev(kind_formats.end());
    }
    kind_of.push_back(static_cast<std::uint32_t>(found - kind_formats.begin()));
  }
  s.stored += fmt::format(", {}, groups of {}, a {}x{} array", numerics::layout_kind_name(spec.kind), group, spec.rows,
                          spec.cols);
  s.bytes = std::make_unique<host::ExpertBytes>(static_cast<std::uint32_t>(s.layers.size()), s.experts,
                                                std::move(kinds), std::move(kind_of));
  return s;
}

/// What the replay was given.
struct Loaded {
  host::ReplayTrace trace;
  std::uint64_t rows = 0;
  std::uint64_t tokens = 0;
};

/// Gathers the rows of `batch` tokens, then gives their layers' steps, in ascending order when the batch is more than
/// one token, else in the order of the file; the experts of a step in a set are in ascending order, as a simulation
/// takes them.
class Batcher {
 public:
  Batcher(const Setting& setting, host::ReplayTrace& trace, std::uint64_t batch, bool in_sets)
      : setting_(setting), trace_(trace), batch_(batch), in_sets_(in_sets), at_(setting.layers.size()) {}

  void add(const workloads::TraceRow& row, const std::string& where) {
    if (!any_ || row.request != request_ || row.position != position_) {
      if (any_ && ++tokens_in_batch_ == batch_) flush();
      if (any_) ++tokens_;
      any_ = true;
      request_ = row.request;
      position_ = row.position;
      seen_.clear();
    }
    const std::uint32_t layer = setting_.dense.at(row.layer);
    if (std::find(seen_.begin(), seen_.end(), layer) != seen_.end())
      throw base::ConfigError(
          where, "layer",
          fmt::format("request {} position {} layer {} a second time", row.request, row.position, row.layer),
          "each layer once for a token");
    seen_.push_back(layer);
    std::vector<host::Need>& needs = at_[layer];
    if (needs.empty()) order_.push_back(layer);
    for (std::size_t i = 0; i < row.experts.size(); ++i) {
      const int planes = planes_of(layer, row.experts[i], row.levels.empty() ? 0 : row.levels[i], where);
      const auto same = std::find_if(needs.begin(), needs.end(),
                                     [&](const host::Need& need) { return need.expert == row.experts[i]; });
      if (same == needs.end()) {
        needs.push_back({row.experts[i], planes, 1, host::kNeverUsed});
      } else {
        same->planes = std::max(same->planes, planes);
        ++same->requests;
      }
    }
  }
  void finish() {
    if (!any_) return;
    ++tokens_;
    flush();
  }
  std::uint64_t tokens() const { return tokens_; }

 private:
  int planes_of(std::uint32_t layer, std::uint32_t expert, std::uint32_t level, const std::string& where) const {
    if (setting_.plan.experts.empty()) return 0;  // whole experts of unknown size
    const workloads::PlanEntry& entry =
        setting_.plan.experts[static_cast<std::size_t>(layer) * setting_.experts + expert];
    const std::optional<numerics::ExpertFormats> format = setting_.plan.read(entry, level);
    if (!format) throw base::ConfigError(where, "levels", std::to_string(level), setting_.plan.expected_level(entry));
    return format->is_one() ? format->gate.planes() : 0;
  }
  void flush() {
    if (batch_ > 1) std::sort(order_.begin(), order_.end());
    bool same_tokens = false;
    for (const std::uint32_t layer : order_) {
      if (in_sets_)
        std::sort(at_[layer].begin(), at_[layer].end(),
                  [](const host::Need& a, const host::Need& b) { return a.expert < b.expert; });
      trace_.add(layer, at_[layer], same_tokens, flushed_tokens_);
      at_[layer].clear();
      same_tokens = true;
    }
    order_.clear();
    tokens_in_batch_ = 0;
    flushed_tokens_ = tokens_ + 1;
  }

  const Setting& setting_;
  host::ReplayTrace& trace_;
  std::uint64_t batch_;
  bool in_sets_;
  std::vector<std::vector<host::Need>> at_;  // by dense layer
  std::vector<std::uint32_t> order_, seen_;
  bool any_ = false;
  std::uint64_t request_ = 0, position_ = 0;
  std::uint64_t tokens_in_batch_ = 0, tokens_ = 0, flushed_tokens_ = 0;
};

Loaded load(const ReplayCommand& o, const Setting& setting) {
  Loaded loaded{host::ReplayTrace(static_cast<std::uint32_t>(setting.layers.size()), setting.experts)};
  Batcher batcher(setting, loaded.trace, o.batch, o.access == "set");
  workloads::TraceReader reader(o.trace, setting.network ? &*setting.network : nullptr);
  for (workloads::TraceRow row; reader.next(row);) {
    if (!o.phase.empty() && o.phase != workloads::phase_name(row.phase)) continue;
    batcher.add(row, reader.where());
    ++loaded.rows;
  }
  batcher.finish();
  loaded.tokens = batcher.tokens();
  if (loaded.rows == 0)
    throw base::ConfigError(o.trace, "rows", o.phase.empty() ? "none" : "none of phase " + o.phase, "at least one");
  return loaded;
}

/// "2experts", "123456", "96KiB", "1.5MiB", "2GiB".
Capacity parse_capacity(const std::string& text, Bytes expert, bool sized) {
  const base::ConfigError refused(kWho, "--capacity", "'" + text + "'",
                                  sized ? "a list of experts (4experts) or bytes (123456, 96KiB, 1.5MiB, 2GiB)"
                                        : "a list of experts (4experts); bytes need --network");
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (error != std::errc() || !std::isfinite(value) || value < 0) throw refused;
  double scale = 0;
  if (unit == "experts" || unit == "expert") scale = static_cast<double>(expert.count());
  if (sized && unit.empty()) scale = 1;
  if (sized && unit == "KiB") scale = 1024;
  if (sized && unit == "MiB") scale = 1024.0 * 1024;
  if (sized && unit == "GiB") scale = 1024.0 * 1024 * 1024;
  const bool whole = unit.empty() || unit == "experts" || unit == "expert";
  if (scale == 0 || value * scale > 0x1p53 || (whole && value != std::floor(value))) throw refused;
  return {text, Bytes(static_cast<std::int64_t>(std::floor(value * scale)))};
}

/// CSV `layer,expert,count`: one number for some experts, 0 for the others.
std::vector<std::uint64_t> read_popularity(const std::string& path, const Setting& setting) {
  workloads::LineReader lines(path);
  std::string line;
  if (!lines.next(line) || line != "layer,expert,count")
    throw base::ConfigError(path + ":1", "header", "'" + line + "'", "layer,expert,count");
  std::vector<std::uint64_t> popularity(setting.layers.size() * setting.experts, 0);
  std::vector<bool> given(popularity.size(), false);
  while (lines.next(line)) {
    std::uint64_t cell[3] = {0, 0, 0};
    const char* at = line.data();
    const char* const end = line.data() + line.size();
    for (int i = 0; i < 3; ++i) {
      const auto parsed = std::from_chars(at, end, cell[i]);
      if (parsed.ec != std::errc() || (i < 2 ? parsed.ptr == end || *parsed.ptr != ',' : parsed.ptr != end))
        throw base::ConfigError(lines.where(), "row", "'" + line + "'", "three integers: layer,expert,count");
      at = parsed.ptr + 1;
    }
    const auto layer = setting.dense.find(static_cast<std::uint32_t>(std::min<std::uint64_t>(cell[0], UINT32_MAX)));
    if (layer == setting.dense.end() || cell[1] >= setting.experts)
      throw base::ConfigError(lines.where(), "row", "'" + line + "'", "a layer and an expert of the network or trace");
    const std::size_t index = static_cast<std::size_t>(layer->second) * setting.experts + cell[1];
    if (given[index]) throw base::ConfigError(lines.where(), "row", "'" + line + "' a second time", "each expert once");
    given[index] = true;
    popularity[index] = cell[2];
  }
  return popularity;
}

std::string in_units(Bytes bytes) {
  const auto value = static_cast<double>(bytes.count());
  if (value >= 1024.0 * 1024 * 1024) return fmt::format("{:.2f} GiB", value / (1024.0 * 1024 * 1024));
  if (value >= 1024.0 * 1024) return fmt::format("{:.2f} MiB", value / (1024.0 * 1024));
  if (value >= 1024.0) return fmt::format("{:.2f} KiB", value / 1024.0);
  return fmt::format("{} bytes", bytes.count());
}

struct Report {
  const ReplayCommand& command;
  const Setting& setting;
  const Loaded& loaded;
  Bytes expert;
  std::vector<Capacity> capacities;
  std::vector<std::string> policies;
  std::vector<host::ReplayResult> results;  // capacity-major

  const host::ReplayResult& at(std::size_t capacity, std::size_t policy) const {
    return results[capacity * policies.size() + policy];
  }
  bool sized() const { return setting.network.has_value(); }
  bool counted(const std::string& policy) const { return policy == "pinned" && command.popularity.empty(); }
  std::string label(const std::string& policy) const {
    if (policy == "belady") return "belady (needs the future)";
    if (counted(policy)) return "pinned (counted on this trace: the future)";
    if (policy == "pinned") return "pinned (given)";
    return policy;
  }
  /// Empty when Belady's rule is optimal here.
  std::string why_heuristic() const {
    if (command.prefetch.kind != "none") return "experts are fetched ahead";
    if (!setting.bytes->equal_units()) return "units differ in size";
    const auto step = static_cast<std::int64_t>(loaded.trace.largest_step());
    for (const Capacity& capacity : capacities)
      if (command.access == "set" && capacity.bytes < expert * step) return "a step asks for more than a cache holds";
    return "";
  }
};

nlohmann::ordered_json counts_json(const host::ReplayCounts& c, bool sized) {
  nlohmann::ordered_json j;
  const auto bytes = [&](Bytes b) {
    return sized ? nlohmann::ordered_json(b.count()) : nlohmann::ordered_json(nullptr);
  };
  j["requests"] = c.requests;
  j["hits"] = c.hits;
  j["misses"] = c.requests - c.hits;
  j["first_requests"] = c.first_requests;
  j["hit_rate"] = c.requests == 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(c.hit_rate());
  j["prefetch_hits"] = c.prefetch_hits;
  j["byte_hit_rate"] = c.requests == 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(c.byte_hit_rate());
  j["bytes_requested"] = bytes(c.requested);
  j["bytes_loaded"] = bytes(c.loaded);
  j["bytes_prefetched"] = bytes(c.prefetched);
  j["bytes_prefetched_unused"] = bytes(c.wasted);
  j["bytes_moved"] = bytes(c.loaded + c.prefetched);
  return j;
}

void print_json(const Report& r) {
  nlohmann::ordered_json j;
  j["trace"] = r.command.trace;
  j["tokens"] = r.loaded.tokens;
  j["rows"] = r.loaded.rows;
  j["steps"] = r.loaded.trace.steps();
  j["layers"] = r.setting.layers.size();
  j["experts"] = r.setting.experts;
  j["network"] = r.sized() ? nlohmann::ordered_json(r.setting.network->name) : nlohmann::ordered_json(nullptr);
  j["stored"] = r.setting.stored;
  j["expert_bytes"] = r.sized() ? nlohmann::ordered_json(r.expert.count()) : nlohmann::ordered_json(nullptr);
  j["scope"] = r.command.scope;
  j["access"] = r.command.access;
  j["batch"] = r.command.batch;
  j["warmup_tokens"] = r.command.warmup;
  j["prefetch"] = {{"kind", r.command.prefetch.kind}};
  if (r.command.prefetch.kind == "next_layer") {
    j["prefetch"]["recall"] = r.command.prefetch.recall;
    j["prefetch"]["precision"] = r.command.prefetch.precision;
    j["prefetch"]["seed"] = r.command.prefetch.seed;
  }
  j["belady_is_optimal"] = r.why_heuristic().empty();
  j["trace_memory_bytes"] = r.loaded.trace.memory_bytes();
  j["results"] = nlohmann::ordered_json::array();
  for (std::size_t c = 0; c < r.capacities.size(); ++c)
    for (std::size_t p = 0; p < r.policies.size(); ++p) {
      const std::string& policy = r.policies[p];
      nlohmann::ordered_json one;
      one["capacity"] = r.capacities[c].text;
      one["capacity_bytes"] =
          r.sized() ? nlohmann::ordered_json(r.capacities[c].bytes.count()) : nlohmann::ordered_json(nullptr);
      one["policy"] = policy;
      one["needs_future"] = policy == "belady" || r.counted(policy);
      one.update(counts_json(r.at(c, p).total(), r.sized()));
      one["warm"] = counts_json(r.at(c, p).warm(), r.sized());
      j["results"].push_back(std::move(one));
    }
  fmt::print("{}\n", base::dump_json(j));
}

void print_table(const Report& r) {
  const ReplayCommand& o = r.command;
  fmt::print("{}: {} tokens, {} layers of {} experts, {} requests in {} steps\n", o.trace, r.loaded.tokens,
             r.setting.layers.size(), r.setting.experts, r.loaded.trace.requests(), r.loaded.trace.steps());
  fmt::print("stored: {}{}\n", r.setting.stored,
             r.sized() ? fmt::format("; an expert takes {}", in_units(r.expert)) : "");
  fmt::print("caches: {}, empty at the start; access {}, {} a batch; prefetch {}{}\n",
             o.scope == "layer" ? "one of the stated capacity for each layer" : "one for all layers", o.access,
             o.batch == 1 ? "1 token" : fmt::format("{} tokens", o.batch), o.prefetch.kind,
             o.prefetch.kind == "next_layer" ? fmt::format(" (recall {}, precision {}, seed {})", o.prefetch.recall,
                                                           o.prefetch.precision, o.prefetch.seed)
                                             : "");
  const bool has_belady = std::find(r.policies.begin(), r.policies.end(), "belady") != r.policies.end();
  if (has_belady && !r.why_heuristic().empty())
    fmt::print("belady is a heuristic here, not a bound: {}\n", r.why_heuristic());
  const bool ahead = o.prefetch.kind != "none";
  const std::string moved = r.sized() ? "loaded" : "misses";
  fmt::print("{:<14}{:<44}{:>9}{:>9}{:>9}{:>14}", "capacity", "policy", "hit rate", o.warmup > 0 ? "warm" : "",
             r.sized() ? "of bytes" : "", moved);
  if (ahead) fmt::print("{:>14}{:>14}", "prefetched", "of it unused");
  fmt::print("\n");
  for (std::size_t c = 0; c < r.capacities.size(); ++c)
    for (std::size_t p = 0; p < r.policies.size(); ++p) {
      const host::ReplayCounts all = r.at(c, p).total();
      const auto amount = [&](Bytes bytes) { return r.sized() ? in_units(bytes) : std::to_string(bytes.count()); };
      fmt::print("{:<14}{:<44}{:>7.2f} %{:>9}{:>9}{:>14}", r.capacities[c].text, r.label(r.policies[p]),
                 100 * all.hit_rate(), o.warmup > 0 ? fmt::format("{:.2f} %", 100 * r.at(c, p).warm().hit_rate()) : "",
                 r.sized() ? fmt::format("{:.2f} %", 100 * all.byte_hit_rate()) : "", amount(all.loaded));
      if (ahead) fmt::print("{:>14}{:>14}", amount(all.prefetched), amount(all.wasted));
      fmt::print("\n");
    }
}

void write_csv(const Report& r) {
  std::string text =
      "capacity,capacity_bytes,policy,needs_future,layer,requests,hits,prefetch_hits,first_requests,bytes_requested,"
      "bytes_loaded,bytes_prefetched,bytes_prefetched_unused\n";
  const auto bytes = [&](Bytes b) { return r.sized() ? std::to_string(b.count()) : std::string(); };
  for (std::size_t c = 0; c < r.capacities.size(); ++c)
    for (std::size_t p = 0; p < r.policies.size(); ++p)
      for (std::size_t layer = 0; layer < r.setting.layers.size(); ++layer) {
        const host::ReplayCounts& n = r.at(c, p).layers[layer];
        const std::string& policy = r.policies[p];
        text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{}\n", r.capacities[c].text,
                            bytes(r.capacities[c].bytes), policy, policy == "belady" || r.counted(policy) ? 1 : 0,
                            r.setting.layers[layer], n.requests, n.hits, n.prefetch_hits, n.first_requests,
                            bytes(n.requested), bytes(n.loaded), bytes(n.prefetched), bytes(n.wasted));
      }
  base::write_file(r.command.out, text);
}

void run_replay(const ReplayCommand& o) {
  const base::Registry<host::PolicyKind> known = host::eviction_policies();
  const std::vector<std::string> policies = o.policies.empty() ? known.names() : o.policies;
  for (std::size_t i = 0; i < policies.size(); ++i) {
    known.at(policies[i], kWho, "--policies");
    if (std::find(policies.begin(), policies.begin() + static_cast<std::ptrdiff_t>(i), policies[i]) !=
        policies.begin() + static_cast<std::ptrdiff_t>(i))
      throw base::ConfigError(kWho, "--policies", policies[i] + " twice", "each policy once");
  }
  const auto one_of = [](const char* key, const std::string& got, const std::string& a, const std::string& b) {
    if (got != a && got != b) throw base::ConfigError(kWho, key, "'" + got + "'", "one of " + a + ", " + b);
    return got == a;
  };
  host::ReplayConfig config;
  config.access = one_of("--access", o.access, "sequence", "set") ? host::Access::kSequence : host::Access::kSet;
  config.scope = one_of("--scope", o.scope, "layer", "global") ? host::Scope::kLayer : host::Scope::kGlobal;
  if (!o.phase.empty()) one_of("--phase", o.phase, "prefill", "decode");
  config.warmup_tokens = o.warmup;
  config.prefetch = o.prefetch;
  const host::PrefetchKind kind = host::check_prefetch(o.prefetch, kWho, "--");  // before the trace is read
  if (!kind.guesses && (o.recall_given || o.precision_given || o.seed_given))
    throw base::ConfigError(kWho,
                            o.recall_given      ? "--recall"
                            : o.precision_given ? "--precision"
                                                : "--seed",
                            "a value", "none: prefetch " + o.prefetch.kind + " does not guess");
  Setting setting = o.network.empty() ? setting_of_trace(o) : setting_of_network(o);
  for (std::uint32_t dense = 0; dense < setting.layers.size(); ++dense) setting.dense[setting.layers[dense]] = dense;
  if (!o.popularity.empty()) {
    if (std::find(policies.begin(), policies.end(), "pinned") == policies.end())
      throw base::ConfigError(kWho, "--popularity", o.popularity, "none: no policy that reads it is replayed");
    config.popularity = read_popularity(o.popularity, setting);
  }
  const Loaded loaded = load(o, setting);
  if (o.warmup >= loaded.tokens)
    throw base::ConfigError(kWho, "--warmup", std::to_string(o.warmup),
                            fmt::format("less than the trace's {} tokens", loaded.tokens));
  const Bytes expert = host::largest_request(loaded.trace, *setting.bytes);
  Report report{o, setting, loaded, expert, {}, policies, {}};
  std::vector<host::ReplayCase> cases;
  for (const std::string& text : o.capacities) {
    const Capacity capacity = parse_capacity(text, expert, setting.network.has_value());
    if (capacity.bytes < expert)
      throw base::ConfigError(kWho, "--capacity", text,
                              setting.network ? fmt::format("at least {} bytes, one expert", expert.count())
                                              : std::string("at least 1experts"));
    report.capacities.push_back(capacity);
    for (const std::string& policy : policies) cases.push_back({policy, capacity.bytes});
  }
  {
    base::Progress progress("replay", static_cast<std::int64_t>(loaded.trace.steps()));
    report.results = host::replay(loaded.trace, *setting.bytes, config, cases, kWho,
                                  [&](std::int64_t steps) { progress.step(steps); });
  }
  if (!o.out.empty()) write_csv(report);
  if (o.json)
    print_json(report);
  else
    print_table(report);
}

}  // namespace

void add_replay(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("replay", "Replay a routing trace against every cache policy: hit rates and bytes moved");
  const auto o = std::make_shared<ReplayCommand>();
  command->add_option("--trace", o->trace, "Routing trace: .csv or .jsonl, optionally .gz or .zst")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--capacity", o->capacities,
                   "One or several: 4experts (times the largest expert of the trace), 123456, 96KiB, 1.5MiB, 2GiB")
      ->required()
      ->delimiter(',')
      ->type_name("LIST");
  command
      ->add_option("--policies", o->policies, "Which, of " + host::eviction_policies().choices() + "; all when absent")
      ->delimiter(',')
      ->type_name("LIST");
  command
      ->add_option(
          "--network", o->network,
          "A folder, a config.json, a shape file or a zoo name: holds every row to it, and says how large experts are")
      ->type_name("NETWORK");
  command->add_option("--format", o->format, "With --network: how every expert is stored; int4 when absent")
      ->type_name("FORMAT");
  command->add_option("--plan", o->plan, "With --network, a model folder: how each expert is stored")
      ->type_name("PLAN");
  command->add_option("--group", o->group, "Weights that share a scale; a plan says its own")
      ->check(CLI::Range(std::int64_t{8}, std::int64_t{1} << 24))
      ->capture_default_str();
  command
      ->add_option(
          "--layout", o->layout,
          "tile_major: experts as a whole (when absent), plane_major: each plane on its own, or interleaved: as "
          "a whole, in the order in which they are read")
      ->type_name("NAME");
  command->add_option("--chip", o->chip, "Array shape and layout from a chip file; 16x16 when absent")
      ->type_name("FILE");
  command->add_option("--scope", o->scope, "layer: a cache of this capacity for each layer; global: one for all")
      ->capture_default_str()
      ->type_name("layer|global");
  command
      ->add_option("--access", o->access,
                   "sequence: a step's experts one after the other; set: all known first, as to the host driver")
      ->capture_default_str()
      ->type_name("sequence|set");
  command->add_option("--batch", o->batch, "Consecutive tokens whose experts a layer asks for together")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--phase", o->phase, "Only rows of this phase: prefill or decode")->type_name("PHASE");
  command->add_option("--warmup", o->warmup, "Also count without the first so many tokens, which fill the caches")
      ->capture_default_str();
  command->add_option("--prefetch", o->prefetch.kind, "What is loaded ahead: " + host::prefetch_kinds().choices())
      ->capture_default_str()
      ->type_name("NAME");
  CLI::Option* recall =
      command->add_option("--recall", o->prefetch.recall, "next_layer: share of needed experts that are guessed")
          ->capture_default_str();
  CLI::Option* precision =
      command->add_option("--precision", o->prefetch.precision, "next_layer: share of guesses that are needed")
          ->capture_default_str();
  CLI::Option* seed =
      command->add_option("--seed", o->prefetch.seed, "next_layer: of the guesses")->capture_default_str();
  command->add_option("--popularity", o->popularity, "For pinned: CSV layer,expert,count; the trace's own when absent")
      ->type_name("FILE");
  command->add_option("--out", o->out, "Also write the counts of each layer, CSV")->type_name("FILE");
  command->add_flag("--json", o->json, "Print JSON");
  CLI::Option* group = command->get_option("--group");
  command->callback([o, recall, precision, seed, group] {
    o->recall_given = recall->count() > 0;
    o->precision_given = precision->count() > 0;
    o->seed_given = seed->count() > 0;
    o->group_given = group->count() > 0;
    run_replay(*o);
  });
}

}  // namespace moesaic::cli
