#include "workloads/zoo.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/yaml.h"
#include "workloads/hf_config.h"
#include "workloads/zoo_files.h"

namespace moesaic::workloads {

std::vector<std::string> zoo_names() {
  std::vector<std::string> names;
  for (const ZooFile& file : zoo_files()) names.push_back(file.name);
  std::sort(names.begin(), names.end());
  return names;
}

Network parse_zoo_file(const std::string& text, const std::string& file) {
  const base::YamlNode root = base::YamlNode::parse(text, file);
  constexpr std::int64_t kMost = 1 << 24;  // with check_size(): every product stays below 2^63
  Network n;
  n.name = root.text("name");
  n.source = root.text("source");
  n.hidden = root.integer("hidden", 1, kMost);
  n.expert_intermediate = root.integer("expert_intermediate", 1, kMost);
  n.experts = root.integer("experts", 1, 65536);
  n.top_k = root.integer("top_k", 1, n.experts);
  n.shared_experts = root.integer("shared_experts", 0, 1024);
  n.shared_intermediate = root.integer("shared_intermediate", 0, kMost);
  n.layers = root.integer("layers", 1, 4096);
  n.dense_first = root.integer("dense_first", 0, n.layers);
  const std::int64_t every = root.integer("moe_every", 1, n.layers);
  n.dense_intermediate = root.integer("dense_intermediate", 0, kMost);
  n.heads = root.integer("heads", 1, 65536);
  n.kv_heads = root.integer("kv_heads", 1, n.heads);
  n.head_dim = root.integer("head_dim", 1, 65536);
  n.gated = root.boolean("gated");
  if (root.has("vocab")) n.vocab = root.integer("vocab", 1, kMost);
  if (const auto node = root.find("latent_attention")) {
    LatentAttention latent;
    latent.q_rank = node->integer("q_rank", 0, kMost);
    latent.kv_rank = node->integer("kv_rank", 1, kMost);
    latent.nope_dim = node->integer("nope_dim", 1, 65536);
    latent.rope_dim = node->integer("rope_dim", 1, 65536);
    n.latent = latent;
  }
  root.finish();
  if (n.shared_experts > 0 && n.shared_intermediate == 0)
    throw root.at("shared_intermediate").refused("a width above 0, as shared_experts is not 0");
  if (n.shared_experts == 0 && n.shared_intermediate > 0)
    throw root.at("shared_intermediate").refused("0, as shared_experts is 0");
  if ((n.dense_first > 0 || every > 1) && n.dense_intermediate == 0)
    throw root.at("dense_intermediate").refused("a width above 0, as some layers have no experts");
  if (n.dense_first > n.layers - every)
    throw root.at("dense_first").refused("at most " + std::to_string(n.layers - every) + ": a layer with experts");
  if (n.heads % n.kv_heads != 0) throw root.at("kv_heads").refused("a divisor of heads, " + std::to_string(n.heads));
  for (std::int64_t layer = 0; layer < n.layers; ++layer)
    n.has_experts.push_back(layer >= n.dense_first && (layer - n.dense_first + 1) % every == 0);
  check_size(n, root.where());
  return n;
}

Network zoo_network(const std::string& name, const std::string& where, const std::string& key) {
  for (const ZooFile& file : zoo_files())
    if (name == file.name) return parse_zoo_file(file.text, "data/zoo/" + name + ".yaml");
  std::string choices;
  for (const std::string& choice : zoo_names()) choices += (choices.empty() ? "" : ", ") + choice;
  throw base::ConfigError(where, key, "'" + name + "'",
                          "a model folder, a config.json, a shape file (.yaml) or a name of the zoo (" + choices + ")");
}

Network read_shape_file(const std::string& path) { return parse_zoo_file(base::read_file(path), path); }

bool is_shape_file(const std::string& path) {
  return path.size() > 5 && path.compare(path.size() - 5, 5, ".yaml") == 0;
}

Network find_network(const std::string& name, const std::string& where, const std::string& key) {
  struct stat status = {};
  if (stat(name.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return read_hf_config(name + "/config.json");
    return is_shape_file(name) ? read_shape_file(name) : read_hf_config(name);
  }
  return zoo_network(name, where, key);
}

}  // namespace moesaic::workloads
