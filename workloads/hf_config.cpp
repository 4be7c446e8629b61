#include "workloads/hf_config.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/yaml.h"
#include "workloads/json_text.h"

namespace moesaic::workloads {
namespace {

using base::YamlNode;
using Keys = std::vector<std::string>;

constexpr std::int64_t kMost = 1 << 24;  // with check_size(): every product stays below 2^63
constexpr double kHuge = 1e300;

std::optional<YamlNode> stated(const YamlNode& config, const std::string& key) {
  std::optional<YamlNode> node = config.find(key);
  if (node && node->is_null()) return std::nullopt;
  return node;
}

/// The value under any of several spellings of one key; two spellings that disagree are an error.
std::optional<std::int64_t> optional_integer(const YamlNode& config, const Keys& keys, std::int64_t min,
                                             std::int64_t max) {
  std::optional<std::int64_t> value;
  for (const std::string& key : keys) {
    const std::optional<YamlNode> node = stated(config, key);
    if (!node) continue;
    const std::int64_t found = node->as_integer(min, max);
    if (value && *value != found) throw node->refused(std::to_string(*value) + ", as " + keys.front() + " says");
    value = found;
  }
  return value;
}

std::int64_t integer(const YamlNode& config, const Keys& keys, std::int64_t min = 1, std::int64_t max = kMost) {
  const std::optional<std::int64_t> value = optional_integer(config, keys, min, max);
  if (value) return *value;
  std::string names;
  for (const std::string& key : keys) names += (names.empty() ? "" : " or ") + key;
  throw base::ConfigError(config.where(), keys.front(), "nothing", names + ", an integer");
}

std::optional<bool> optional_boolean(const YamlNode& config, const std::string& key) {
  const std::optional<YamlNode> node = stated(config, key);
  if (!node) return std::nullopt;
  return node->as_boolean();
}

bool boolean(const YamlNode& config, const std::string& key) {
  const std::optional<bool> value = optional_boolean(config, key);
  if (!value) throw base::ConfigError(config.where(), key, "nothing", "true or false");
  return *value;
}

void read_rope(const YamlNode& config, Network& n) {
  // Transformers 5 gathers everything in rope_parameters; 4 has rope_theta and, if scaled, rope_scaling.
  n.rope_type = "default";
  std::optional<YamlNode> theta = stated(config, "rope_theta");
  for (const char* group : {"rope_scaling", "rope_parameters"}) {
    const std::optional<YamlNode> rope = stated(config, group);
    if (!rope) continue;
    if (!rope->is_map()) throw rope->refused("a map");
    std::optional<YamlNode> type = stated(*rope, "rope_type");
    if (!type) type = stated(*rope, "type");
    if (type) n.rope_type = type->as_text();
    const std::optional<YamlNode> inner = stated(*rope, "rope_theta");
    if (inner && theta && inner->as_number(0, kHuge) != theta->as_number(0, kHuge))
      throw inner->refused(theta->as_text() + ", as rope_theta says");
    if (inner) theta = inner;
  }
  if (!theta)
    throw base::ConfigError(config.where(), "rope_theta", "nothing", "rope_theta or rope_parameters.rope_theta");
  n.rope_theta = theta->as_number(1, kHuge);
}

/// What every architecture states under the same names.
void read_common(const YamlNode& config, Network& n) {
  n.hidden = integer(config, {"hidden_size"});
  n.layers = integer(config, {"num_hidden_layers"}, 1, 4096);
  n.heads = integer(config, {"num_attention_heads"}, 1, 65536);
  n.kv_heads = optional_integer(config, {"num_key_value_heads"}, 1, n.heads).value_or(n.heads);
  if (n.heads % n.kv_heads != 0)
    throw config.at("num_key_value_heads").refused("a divisor of num_attention_heads, " + std::to_string(n.heads));
  n.vocab = integer(config, {"vocab_size"}, 1, 1LL << 32);
  n.max_positions = integer(config, {"max_position_embeddings"}, 1, 1LL << 40);
  const std::optional<YamlNode> eps = stated(config, "rms_norm_eps");
  if (eps) n.rms_eps = eps->as_number(0, 1);
  n.tie_embeddings = optional_boolean(config, "tie_word_embeddings");
  n.activation = config.text("hidden_act");
  n.sliding_window = optional_integer(config, {"sliding_window"}, 1, 1LL << 40);
  if (!optional_boolean(config, "use_sliding_window").value_or(true)) n.sliding_window.reset();
  n.has_experts.assign(static_cast<std::size_t>(n.layers), true);
  read_rope(config, n);
}

/// head_dim where stated, else the hidden width divided by the heads, as Transformers does.
void read_head_dim(const YamlNode& config, Network& n, const Keys& keys = {"head_dim"}) {
  const std::optional<std::int64_t> dim = optional_integer(config, keys, 1, 65536);
  if (!dim && n.hidden % n.heads != 0)
    throw base::ConfigError(
        config.where(), keys.front(), "nothing",
        "head_dim, as " + std::to_string(n.heads) + " heads do not divide hidden_size " + std::to_string(n.hidden));
  n.head_dim = dim.value_or(n.hidden / n.heads);
}

void read_experts(const YamlNode& config, Network& n, const Keys& experts, const std::string& intermediate) {
  n.experts = integer(config, experts, 1, 65536);
  n.top_k = integer(config, {"num_experts_per_tok", "experts_per_token"}, 1, n.experts);
  n.expert_intermediate = integer(config, {intermediate});
}

const Keys kExpertCount = {"num_experts", "num_local_experts"};

void read_mixtral(const YamlNode& config, Network& n) {
  read_head_dim(config, n);
  read_experts(config, n, {"num_local_experts", "num_experts"}, "intermediate_size");
  n.norm_topk_prob = true;  // its router always renormalises
}

void read_olmoe(const YamlNode& config, Network& n) {
  read_head_dim(config, n);
  read_experts(config, n, kExpertCount, "intermediate_size");
  n.norm_topk_prob = boolean(config, "norm_topk_prob");
}

void read_phimoe(const YamlNode& config, Network& n) {
  read_head_dim(config, n);
  read_experts(config, n, {"num_local_experts", "num_experts"}, "intermediate_size");
}

void read_gpt_oss(const YamlNode& config, Network& n) {
  read_head_dim(config, n);
  read_experts(config, n, {"num_local_experts", "num_experts"}, "intermediate_size");
  n.norm_topk_prob = true;  // softmax over the chosen logits alone
}

void read_qwen_moe(const YamlNode& config, Network& n) {
  read_head_dim(config, n);
  read_experts(config, n, kExpertCount, "moe_intermediate_size");
  n.norm_topk_prob = boolean(config, "norm_topk_prob");
  if (n.architecture == "qwen2_moe") {
    n.shared_experts = 1;
    n.shared_intermediate = integer(config, {"shared_expert_intermediate_size"});
  }
  const std::int64_t step = integer(config, {"decoder_sparse_step"}, 1, n.layers);
  for (std::int64_t layer = 0; layer < n.layers; ++layer)
    n.has_experts[static_cast<std::size_t>(layer)] = (layer + 1) % step == 0;
  const std::optional<YamlNode> dense = stated(config, "mlp_only_layers");
  if (dense)
    for (const YamlNode& layer : dense->items())
      n.has_experts[static_cast<std::size_t>(layer.as_integer(0, n.layers - 1))] = false;
  if (n.moe_layers() < n.layers) n.dense_intermediate = integer(config, {"intermediate_size"});
}

void read_deepseek(const YamlNode& config, Network& n) {
  // The head width is that of the values: with latent attention the keys have no single one.
  read_head_dim(config, n, {"v_head_dim"});
  if (const auto kv_rank = optional_integer(config, {"kv_lora_rank"}, 1, kMost)) {
    LatentAttention latent;
    latent.kv_rank = *kv_rank;
    latent.q_rank = optional_integer(config, {"q_lora_rank"}, 1, kMost).value_or(0);
    latent.nope_dim = integer(config, {"qk_nope_head_dim"}, 1, 65536);
    latent.rope_dim = integer(config, {"qk_rope_head_dim"}, 1, 65536);
    n.latent = latent;
  }
  read_experts(config, n, {"n_routed_experts", "num_local_experts", "num_experts"}, "moe_intermediate_size");
  n.norm_topk_prob = boolean(config, "norm_topk_prob");
  n.shared_experts = optional_integer(config, {"n_shared_experts"}, 0, 1024).value_or(0);
  n.shared_intermediate = n.shared_experts * n.expert_intermediate;
  const std::optional<YamlNode> types = stated(config, "mlp_layer_types");
  if (types) {
    const std::vector<YamlNode> items = types->items();
    if (static_cast<std::int64_t>(items.size()) != n.layers)
      throw base::ConfigError(types->where(), types->key(), std::to_string(items.size()) + " entries",
                              std::to_string(n.layers));
    for (std::size_t layer = 0; layer < items.size(); ++layer)
      n.has_experts[layer] = items[layer].as_choice({"dense", "sparse"}) == "sparse";
  } else {
    const std::int64_t first = integer(config, {"first_k_dense_replace"}, 0, n.layers);
    const std::int64_t frequency = optional_integer(config, {"moe_layer_freq"}, 1, n.layers).value_or(1);
    for (std::int64_t layer = 0; layer < n.layers; ++layer)
      n.has_experts[static_cast<std::size_t>(layer)] = layer >= first && layer % frequency == 0;
  }
  n.dense_first = std::find(n.has_experts.begin(), n.has_experts.end(), true) - n.has_experts.begin();
  if (n.moe_layers() < n.layers) n.dense_intermediate = integer(config, {"intermediate_size"});
}

void read_llama4(const YamlNode& config, Network& n) {
  read_head_dim(config, n);
  read_experts(config, n, {"num_local_experts", "num_experts"}, "intermediate_size");
  n.shared_experts = 1;  // every expert layer has one, as wide as a routed expert
  n.shared_intermediate = n.expert_intermediate;
  n.dense_intermediate = integer(config, {"intermediate_size_mlp"});
  const std::optional<YamlNode> listed = stated(config, "moe_layers");
  if (listed) {
    n.has_experts.assign(static_cast<std::size_t>(n.layers), false);
    for (const YamlNode& layer : listed->items())
      n.has_experts[static_cast<std::size_t>(layer.as_integer(0, n.layers - 1))] = true;
    return;
  }
  const std::int64_t step = integer(config, {"interleave_moe_layer_step"}, 1, n.layers);
  for (std::int64_t layer = 0; layer < n.layers; ++layer)
    n.has_experts[static_cast<std::size_t>(layer)] = (layer + 1) % step == 0;
}

using Reader = void (*)(const YamlNode&, Network&);
const std::vector<std::pair<std::string, Reader>>& readers() {
  static const std::vector<std::pair<std::string, Reader>> all = {
      {"mixtral", read_mixtral},    {"qwen2_moe", read_qwen_moe},   {"qwen3_moe", read_qwen_moe},
      {"deepseek", read_deepseek},  {"deepseek_v2", read_deepseek}, {"deepseek_v3", read_deepseek},
      {"kimi_k2", read_deepseek},   {"olmoe", read_olmoe},          {"phimoe", read_phimoe},
      {"llama4_text", read_llama4}, {"gpt_oss", read_gpt_oss},
  };
  return all;
}

}  // namespace

std::vector<std::string> hf_architectures() {
  std::vector<std::string> names;
  for (const auto& reader : readers()) names.push_back(reader.first);
  return names;
}

Network parse_hf_config(const std::string& text, const std::string& file, const std::string& name) {
  const YamlNode root = parse_json(text, file);
  if (!root.is_map()) throw root.refused("a map");
  std::optional<YamlNode> config = stated(root, "text_config");  // Llama 4 nests the language model
  if (!config) config = root;
  const YamlNode type = config->at("model_type");
  Network n;
  n.name = name;
  n.architecture = type.as_choice(hf_architectures());
  read_common(*config, n);
  for (const auto& reader : readers())
    if (reader.first == n.architecture) reader.second(*config, n);
  if (!n.tie_embeddings) n.tie_embeddings = optional_boolean(root, "tie_word_embeddings");
  if (n.moe_layers() == 0) throw base::ConfigError(config->where(), "layers", "none with experts", "at least one");
  check_size(n, config->where());
  return n;
}

bool is_config_file(const std::string& path) {
  return path.size() > 5 && path.compare(path.size() - 5, 5, ".json") == 0;
}

Network read_hf_config(const std::string& path) {
  std::string name = path;
  const std::string suffix = "/config.json";
  if (name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0)
    name.resize(name.size() - suffix.size());
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  name = name.substr(name.rfind('/') + 1);
  return parse_hf_config(base::read_file(path), path, name);
}

}  // namespace moesaic::workloads
