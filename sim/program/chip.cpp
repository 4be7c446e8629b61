#include "sim/program/chip.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <stdexcept>

#include "base/atomic_file.h"
#include "base/sha256.h"
#include "base/yaml.h"
#include "models/host/eviction_policy.h"
#include "sim/program/load_order.h"

namespace moesaic::program {

namespace {

bool is_power_of_two(std::int64_t value) { return value > 0 && (value & (value - 1)) == 0; }

unsigned power_of_two(const base::YamlNode& parent, const std::string& key, std::int64_t min, std::int64_t max) {
  const base::YamlNode node = parent.at(key);
  const std::string expected = "a power of two in [" + std::to_string(min) + ", " + std::to_string(max) + "]";
  std::int64_t value = 0;
  try {
    value = node.as_integer(min, max);
  } catch (const base::InputError&) {
    throw node.refused(expected);
  }
  if (!is_power_of_two(value)) throw node.refused(expected);
  return static_cast<unsigned>(value);
}

unsigned one_of(const base::YamlNode& parent, const std::string& key, std::initializer_list<std::int64_t> allowed) {
  const base::YamlNode node = parent.at(key);
  std::string expected;
  for (const std::int64_t* value = allowed.begin(); value != allowed.end(); ++value) {
    expected += (value == allowed.begin() ? "" : value + 1 == allowed.end() ? " or " : ", ") + std::to_string(*value);
  }
  std::int64_t value = 0;
  try {
    value = node.as_integer(*allowed.begin(), *(allowed.end() - 1));
  } catch (const base::InputError&) {
    throw node.refused(expected);
  }
  if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) throw node.refused(expected);
  return static_cast<unsigned>(value);
}

base::Femtoseconds read_period(const base::YamlNode& root) {
  const auto period = root.find("clock_period_fs"), mhz = root.find("clock_mhz");
  if (period && mhz) throw period->refused("either clock_period_fs or clock_mhz");
  if (period) return base::Femtoseconds(period->as_integer(1, 1000000000000));
  const base::YamlNode clock = root.at("clock_mhz");
  const std::int64_t value = clock.as_integer(1, 100000);
  if (1000000000 % value != 0)
    throw clock.refused("a divisor of 10^9, or clock_period_fs: a period is a whole number of femtoseconds");
  return base::Femtoseconds(1000000000 / value);
}

StatedCost read_cost(const base::YamlNode& parent, const char* what, const char* rate) {
  const base::YamlNode node = parent.at(what);
  StatedCost cost;
  cost.cycles = node.integer("cycles", 0, 1 << 30);
  cost.per_cycle = node.integer(rate, 1, 1 << 30);
  return cost;
}

/// `formats: [int2, int4, binary]`.
std::vector<numerics::Format> read_formats(const base::YamlNode& list) {
  std::vector<numerics::Format> formats;
  for (const base::YamlNode& item : list.items()) {
    const numerics::Format format = numerics::Format::parse(item.as_text(), item.where(), list.key());
    if (std::find(formats.begin(), formats.end(), format) != formats.end()) throw item.refused("each format once");
    formats.push_back(format);
  }
  if (formats.empty()) throw list.refused("at least one format, or no such key: all");
  return formats;
}

/// The storage and the cache come together.
void read_offloading(const base::YamlNode& root, Chip& chip) {
  const auto storage = root.find("storage"), cache = root.find("cache");
  if (storage && !cache) throw storage->refused("cache beside it");
  if (cache && !storage) throw cache->refused("storage beside it");
  if (!storage) return;
  chip.storage = storage::read_storage_config(*storage);
  chip.cache = read_cache_config(*cache);
}

Chip read(const base::YamlNode& root) {
  Chip chip;
  chip.path = root.file();
  chip.name = root.text("name");
  const base::YamlNode array = root.at("array");
  CoreParams& p = chip.core;
  p.rows = power_of_two(array, "rows", 4, 64);
  p.cols = power_of_two(array, "cols", 4, 64);
  p.planes_per_cycle = one_of(array, "planes_per_cycle", {1, 2, 4});
  p.max_act_bits = one_of(array, "max_act_bits", {4, 8, 16});
  p.axi_data_bits = one_of(root, "axi_data_bits", {64, 128, 256, 512});
  const base::YamlNode buffers = root.at("buffers");
  p.max_tokens = power_of_two(buffers, "max_tokens", 1, 128);
  p.act_depth = power_of_two(buffers, "activation_words", std::max(32U, p.max_tokens), 65536);
  p.hidden_depth = power_of_two(buffers, "hidden_words", 32, 65536);
  p.fifo_depth = power_of_two(buffers, "reader_beats", 16, 1024);
  p.command_depth = power_of_two(buffers, "commands", 4, 128);
  const base::YamlNode io_queue = root.at("io_queue");
  p.io_depth = power_of_two(io_queue, "descriptors", 4, 32);
  p.io_credits = power_of_two(io_queue, "requests", 1, 64);
  p.io_jobs = power_of_two(io_queue, "jobs", 2, 16);
  chip.period = read_period(root);
  const base::YamlNode layout = root.at("layout");
  chip.layout =
      numerics::parse_layout_kind(layout.as_choice(numerics::layout_kind_names()), layout.where(), layout.key());
  chip.memory = memory::read_memory_config(root.at("memory"));
  if (const std::optional<base::YamlNode> costs = root.find("stated_costs")) {
    StatedCosts stated;
    stated.norm = read_cost(*costs, "norm", "elements_per_cycle");
    stated.router = read_cost(*costs, "router", "macs_per_cycle");
    stated.softmax = read_cost(*costs, "softmax", "scores_per_cycle");
    chip.stated_costs = stated;
  }
  if (const std::optional<base::YamlNode> formats = root.find("formats")) chip.formats = read_formats(*formats);
  read_offloading(root, chip);
  root.finish();
  return chip;
}

}  // namespace

CacheConfig read_cache_config(const base::YamlNode& node) {
  CacheConfig config;
  const base::YamlNode policy = node.at("policy");
  config.policy = policy.as_text();
  host::eviction_policies().at(config.policy, policy.where(), policy.key());
  const auto bytes = node.find("capacity_bytes"), experts = node.find("capacity_experts");
  if (bytes && experts) throw experts->refused("either capacity_bytes or capacity_experts");
  const base::YamlNode capacity = bytes ? *bytes : node.at("capacity_experts");
  (bytes ? config.capacity_bytes : config.capacity_experts) =
      capacity.as_integer(1, bytes ? std::int64_t{1} << 40 : std::int64_t{1} << 20);
  config.where = capacity.where();
  const base::YamlNode order = node.at("load_order");
  config.load_order = parse_load_order(order.as_text(), order.where(), order.key());
  config.decision_cycles = base::Cycles(node.integer("decision_cycles", 0, 1000000000));
  const base::YamlNode prefetch = node.at("prefetch"), kind = prefetch.at("kind");
  config.prefetch.kind = kind.as_text();
  if (host::prefetch_kinds().at(config.prefetch.kind, kind.where(), kind.key()).guesses) {
    config.prefetch.recall = prefetch.number("recall", 0, 1);
    config.prefetch.precision = prefetch.number("precision", 1e-6, 1);
    config.prefetch.seed = static_cast<std::uint64_t>(prefetch.integer("seed", 0, INT64_MAX));
  }
  const base::YamlNode start = node.at("start");
  config.where_start = start.where();
  if (start.is_map()) {
    config.replayed_steps = start.integer("replay", 1, 1000000000);
  } else {
    const std::string how = start.is_scalar() ? start.as_text() : "";
    if (how != "cold" && how != "popular") throw start.refused("cold, popular or {replay: STEPS}");
    config.start_popular = how == "popular";
  }
  return config;
}

bool Chip::has(numerics::Format format) const {
  return formats.empty() || std::find(formats.begin(), formats.end(), format) != formats.end();
}

std::string Chip::memory_name() const { return memory::make_memory(memory, clock_period())->name(); }

std::string Chip::storage_name() const {
  return storage ? storage::describe_storage(*storage) : "none: every expert lies in the memory";
}

std::string Chip::format_names() const {
  std::string names;
  for (const numerics::Format format : formats) names += (names.empty() ? "" : ",") + format.name();
  return names;
}

Chip read_chip(const std::string& path) { return parse_chip(base::read_file(path), path); }

Chip parse_chip(const std::string& text, const std::string& name) {
  Chip chip = read(base::YamlNode::parse(text, name));
  chip.hash = base::sha256_hex(text);
  return chip;
}

void check(const CoreParams& p) {
  const auto in = [](unsigned value, unsigned min, unsigned max) {
    return is_power_of_two(value) && value >= min && value <= max;
  };
  const bool good = in(p.rows, 4, 64) && in(p.cols, 4, 64) && in(p.planes_per_cycle, 1, 4) &&
                    in(p.max_act_bits, 4, 16) && in(p.axi_data_bits, 64, 512) && in(p.max_tokens, 1, 128) &&
                    in(p.act_depth, std::max(32U, p.max_tokens), 65536) && in(p.hidden_depth, 32, 65536) &&
                    in(p.fifo_depth, 16, 1024) && in(p.command_depth, 4, 128) && in(p.io_depth, 4, 32) &&
                    in(p.io_credits, 1, 64) && in(p.io_jobs, 2, 16);
  if (!good) throw std::logic_error("core parameters outside docs/core.md's table");
}

}  // namespace moesaic::program
