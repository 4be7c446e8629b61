#include "workloads/workload_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/sha256.h"
#include "base/yaml.h"
#include "workloads/checkpoint.h"
#include "workloads/hf_config.h"
#include "workloads/routing_slice.h"
#include "workloads/zoo.h"

namespace moesaic::workloads {
namespace {

std::string beside(const std::string& file, const std::string& path) {
  if (!path.empty() && path[0] == '/') return path;
  const std::size_t slash = file.rfind('/');
  return slash == std::string::npos ? path : file.substr(0, slash + 1) + path;
}

bool is_folder(const std::string& path) {
  struct stat status = {};
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::string read_path(const base::YamlNode& node, const std::string& file) {
  const std::string path = beside(file, node.as_text());
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) throw node.refused("an existing file (" + path + " is none)");
  base::refuse_pipe(path);
  return path;
}

template <class T>
std::vector<T> read_selection(const base::YamlNode& root, const std::string& key, std::int64_t largest) {
  std::vector<T> values;
  const std::optional<base::YamlNode> node = root.find(key);
  if (!node) return values;
  for (const base::YamlNode& item : node->items()) values.push_back(static_cast<T>(item.as_integer(0, largest)));
  if (values.empty())
    throw base::ConfigError(node->where(), key, "an empty list", "at least one entry, or no such key");
  std::sort(values.begin(), values.end());
  if (std::adjacent_find(values.begin(), values.end()) != values.end())
    throw base::ConfigError(node->where(), key, "an entry twice", "distinct entries");
  return values;
}

template <class T>
bool selected(const std::vector<T>& selection, T value) {
  return selection.empty() || std::binary_search(selection.begin(), selection.end(), value);
}

WholeLayers read_whole_layers(const base::YamlNode& node, const Network& network) {
  WholeLayers whole;
  const auto read = [&node](const char* key) -> std::optional<numerics::Format> {
    const std::optional<base::YamlNode> format = node.find(key);
    if (!format) return std::nullopt;
    return numerics::Format::parse(format->as_text(), format->where(), std::string("whole_layers.") + key);
  };
  const auto refuse = [&node, &network](const char* key, const std::string& expected) {
    throw base::ConfigError(node.at(key).where(), std::string("whole_layers.") + key, "it with " + network.name,
                            expected);
  };
  whole.shared_experts = read("shared_experts");
  whole.dense_layers = read("dense_layers");
  whole.attention = read("attention");
  whole.head = read("head");
  node.finish();  // a misspelt part is no empty map
  if (!whole.any())
    throw base::ConfigError(node.where(), "whole_layers", "an empty map",
                            "shared_experts, dense_layers, attention or head with a format, or no such key");
  if (whole.shared_experts && network.shared_experts == 0) refuse("shared_experts", "a network with shared experts");
  if (whole.dense_layers && network.moe_layers() == network.layers)
    refuse("dense_layers", "a network with layers without experts");
  if (whole.head && !network.vocab) refuse("head", "a network whose file says its vocabulary (vocab)");
  const std::string& kind = network.architecture;
  if (whole.attention && !network.latent && (kind == "deepseek_v2" || kind == "deepseek_v3" || kind == "kimi_k2"))
    refuse("attention", "kv_lora_rank, q_lora_rank, qk_nope_head_dim and qk_rope_head_dim in its config.json");
  return whole;
}

}  // namespace

WorkloadFile read_workload(const std::string& path) {
  const base::YamlNode root = base::YamlNode::load(path);
  WorkloadFile w;
  w.path = path;
  const base::YamlNode model = root.at("model");
  w.model = beside(path, model.as_text());
  w.is_folder = is_folder(w.model);
  w.has_weights = w.is_folder && holds_weights(w.model);
  if (w.is_folder) {
    w.network = read_hf_config(w.model + "/config.json");
  } else if (is_config_file(w.model)) {
    w.network = read_hf_config(read_path(model, path));
  } else if (is_shape_file(w.model)) {
    w.network = read_shape_file(read_path(model, path));
  } else {
    w.model = model.as_text();
    w.network = zoo_network(w.model, model.where(), model.key());
  }
  w.trace = read_path(root.at("trace"), path);
  if (const std::optional<base::YamlNode> tokens = root.find("tokens")) w.tokens = read_path(*tokens, path);
  constexpr std::int64_t kLargest = (std::int64_t{1} << 53) - 1;
  if (const std::optional<base::YamlNode> starts = root.find("request_starts")) {
    if (!w.tokens) throw base::ConfigError(starts->where(), "request_starts", "it without tokens", "tokens beside it");
    for (const base::YamlNode& item : starts->items())
      w.request_starts.push_back(static_cast<std::uint64_t>(item.as_integer(0, kLargest)));
    if (w.request_starts.empty())
      throw base::ConfigError(starts->where(), "request_starts", "an empty list", "one entry per request");
  }
  if (const std::optional<base::YamlNode> phase = root.find("phase"))
    w.phase = phase->as_choice({"prefill", "decode"}) == "prefill" ? Phase::kPrefill : Phase::kDecode;
  w.requests = read_selection<std::uint64_t>(root, "requests", kLargest);
  w.steps = read_selection<std::uint64_t>(root, "steps", kLargest);
  if (const std::optional<base::YamlNode> whole = root.find("whole_layers"))
    w.whole = read_whole_layers(*whole, w.network);
  w.layers = read_selection<std::uint32_t>(root, "layers", w.network.layers - 1);
  bool any_experts = w.layers.empty();
  for (const std::uint32_t layer : w.layers) {
    any_experts = any_experts || w.network.has_experts[layer];
    if (!w.network.has_experts[layer] && !w.whole.layers_without_experts())
      throw base::ConfigError(root.at("layers").where(), "layers", fmt::format("{}, a layer without experts", layer),
                              "layers with experts of " + w.network.name);
  }
  if (!any_experts)
    throw base::ConfigError(root.at("layers").where(), "layers", "only layers without experts",
                            "at least one with experts: the trace says there which tokens run");
  if (root.has("max_tokens")) w.max_tokens = static_cast<std::uint64_t>(root.integer("max_tokens", 1, kLargest));
  w.batch_requests = static_cast<std::uint64_t>(root.integer_or("batch_requests", 1, 1, 1 << 20));
  if (const std::optional<base::YamlNode> continuous = root.find("continuous_batching")) {
    if (root.has("batch_requests")) throw continuous->refused("either continuous_batching or batch_requests");
    w.continuous_requests = static_cast<std::uint64_t>(continuous->integer("max_requests", 1, 1 << 20));
  }
  if (const std::optional<base::YamlNode> bits = root.find("act_bits")) {
    w.act_bits = static_cast<int>(bits->as_integer(4, 8));
    if (w.act_bits != 4 && w.act_bits != 8) throw bits->refused("4 or 8");
  }
  if (const std::optional<base::YamlNode> routing = root.find("routing")) w.routing = read_routing_rules(*routing);
  root.finish();
  return w;
}

std::vector<std::uint32_t> WorkloadFile::selected_layers() const {
  if (!layers.empty()) return layers;
  std::vector<std::uint32_t> all;
  for (std::uint32_t layer = 0; layer < network.layers; ++layer)
    if (network.has_experts[layer] || whole.layers_without_experts()) all.push_back(layer);
  return all;
}

std::string selection_hash(const WorkloadFile& workload) {
  const auto number = [](const auto& value) { return value ? fmt::format("{}", *value) : std::string("none"); };
  const auto format = [](const std::optional<numerics::Format>& f) { return f ? f->name() : std::string("none"); };
  const RoutingRules& rules = workload.routing;
  return base::sha256_hex(fmt::format(
      "phase {}\nrequests {}\nsteps {}\nlayers {}\nmax_tokens {}\nbatch_requests {}\ncontinuous_batching {}\n"
      "prune_ratio {}\ncapacity_factor {}\nround_to {}\nrenormalise {}\nshared_experts {}\ndense_layers {}\n"
      "attention {}\nhead {}\nact_bits {}\n",
      workload.phase ? phase_name(*workload.phase) : "both", fmt::join(workload.requests, " "),
      fmt::join(workload.steps, " "), fmt::join(workload.layers, " "), number(workload.max_tokens),
      workload.batch_requests, number(workload.continuous_requests),
      rules.prune_at_median ? std::string("median") : number(rules.prune_ratio), number(rules.capacity_factor),
      number(rules.round_to), rules.renormalise, format(workload.whole.shared_experts),
      format(workload.whole.dense_layers), format(workload.whole.attention), format(workload.whole.head),
      workload.act_bits));
}

std::vector<std::uint32_t> WorkloadFile::layers_with_experts() const {
  std::vector<std::uint32_t> with;
  for (const std::uint32_t layer : selected_layers())
    if (network.has_experts[layer]) with.push_back(layer);
  return with;
}

bool WorkloadFile::selects(const TraceRow& row) const {
  return (!phase || row.phase == *phase) && selected(requests, row.request) && selected(steps, row.step);
}

std::vector<EarlierStep> read_earlier_steps(const WorkloadFile& workload, std::size_t most) {
  const std::vector<std::uint32_t> layers = workload.layers_with_experts();
  std::deque<EarlierStep> steps;
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // request, step
  std::map<Key, std::uint64_t> number_of;               // of all that came before the slice, the first is 0
  std::uint64_t dropped = 0;                            // so many are no longer in `steps`
  bool begun = false;                                   // the slice
  TraceReader reader(workload.trace, &workload.network);
  TraceRow row;
  while (reader.next(row)) {
    if (!std::binary_search(layers.begin(), layers.end(), row.layer)) continue;
    begun = begun || workload.selects(row);
    const Key key(row.request, row.step);
    auto known = number_of.find(key);
    if (known == number_of.end()) {
      if (begun) continue;
      known = number_of.emplace(key, number_of.size()).first;
      steps.push_back({row.request, row.step, {}});
      if (steps.size() > most) {
        steps.pop_front();
        ++dropped;
      }
    }
    if (known->second < dropped) continue;
    auto& rows = steps[static_cast<std::size_t>(known->second - dropped)].rows[row.layer];
    for (std::size_t i = 0; i < row.experts.size(); ++i)
      ++rows[{row.experts[i], row.levels.empty() ? 0 : row.levels[i]}];
  }
  return {steps.begin(), steps.end()};
}

WorkloadSlice read_slice(const WorkloadFile& workload) {
  WorkloadSlice slice;
  RoutingSlice routing(workload, [&slice](std::size_t, const SliceToken& token) { slice.tokens.push_back(token); });
  slice.layers = routing.layers();
  slice.arrival_us = routing.arrival_us();
  slice.rows.resize(slice.layers.size());
  for (std::size_t l = 0; l < slice.layers.size(); ++l)
    for (std::size_t t = 0; t < slice.tokens.size(); ++t) slice.rows[l].push_back(routing.row(t, l));
  return slice;
}

}  // namespace moesaic::workloads
