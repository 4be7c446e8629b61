#include "workloads/checkpoint.h"

#include <sys/stat.h>

#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/safetensors.h"
#include "base/sha256.h"
#include "base/yaml.h"
#include "workloads/hf_config.h"
#include "workloads/json_text.h"

namespace moesaic::workloads {
namespace {

bool exists(const std::string& path) {
  struct stat status = {};
  return stat(path.c_str(), &status) == 0;
}

}  // namespace

bool holds_weights(const std::string& folder) {
  return exists(folder + "/model.safetensors") || exists(folder + "/model.safetensors.index.json");
}

struct Checkpoint::Impl {
  std::string folder;
  Network network;
  std::vector<base::SafetensorsFile> shards;
  std::vector<std::string> shard_names;
  std::map<std::string, std::size_t> shard_of;
  mutable std::string hash;
  std::optional<base::ConfigError> quantised;  // why no tensor is read

  void open();
  const base::SafetensorsFile& file_of(const std::string& tensor, const std::vector<std::int64_t>& shape) const;
};

namespace {

/// The refusal of a checkpoint whose config.json says that its weights are quantised already.
std::optional<base::ConfigError> refuse_quantised(const base::YamlNode& config) {
  const std::optional<base::YamlNode> node = config.find("quantization_config");
  if (!node || node->is_null()) return std::nullopt;
  if (node->is_map() && node->keys().empty()) return std::nullopt;
  const std::optional<base::YamlNode> method = node->is_map() ? node->find("quant_method") : std::nullopt;
  const bool is_named = method && !method->is_null() && method->is_scalar();
  return base::ConfigError(node->where(), node->key(), is_named ? method->as_text() : "it",
                           "none: weights are read as bf16, f16 or f32");
}

/// Tensors of layers that the forward pass would leave out. The layers that predict further tokens stand behind those
/// that config.json counts.
void check_layers(const base::YamlNode& config, const Network& network, const std::string& folder,
                  const std::vector<std::string>& tensors) {
  const std::optional<base::YamlNode> further = config.find("num_nextn_predict_layers");
  const std::int64_t layers =
      network.layers + (further && !further->is_null() ? further->as_integer(0, 4096) : std::int64_t{0});
  const std::string prefix = "model.layers.";
  for (const std::string& tensor : tensors) {
    if (tensor.compare(0, prefix.size(), prefix) != 0) continue;
    const char* const begin = tensor.data() + prefix.size();
    std::int64_t layer = 0;
    const auto [end, error] = std::from_chars(begin, tensor.data() + tensor.size(), layer);
    if (error == std::errc() && end != begin && layer >= layers)
      throw base::ConfigError(folder, "tensor " + tensor, "layer " + std::to_string(layer),
                              "at most " + std::to_string(layers) + " layers, as config.json says");
  }
}

}  // namespace

void Checkpoint::Impl::open() {
  const std::string index = folder + "/model.safetensors.index.json";
  const std::string single = folder + "/model.safetensors";
  if (exists(single)) {
    if (exists(index))
      throw base::ConfigError(folder, "weights", "model.safetensors and model.safetensors.index.json", "one of them");
    shards.emplace_back(single);
    shard_names.push_back("model.safetensors");
    for (const auto& tensor : shards[0].tensors()) shard_of[tensor.first] = 0;
    return;
  }
  if (!exists(index))
    throw base::ConfigError(folder, "weights", "nothing", "model.safetensors or model.safetensors.index.json");
  const base::YamlNode map = parse_json(base::read_file(index), index).at("weight_map");
  std::map<std::string, std::size_t> opened;
  for (const std::string& tensor : map.keys()) {
    const base::YamlNode node = map.at(tensor);
    const std::string name = node.as_text();
    if (name.empty() || name.find('/') != std::string::npos) throw node.refused("a file beside the index");
    if (opened.count(name) == 0) {
      opened[name] = shards.size();
      shards.emplace_back(folder + "/" + name);
      shard_names.push_back(name);
    }
    shard_of[tensor] = opened[name];
    if (!shards[opened[name]].has(tensor)) throw node.refused("a shard that holds the tensor " + tensor);
  }
  for (std::size_t shard = 0; shard < shards.size(); ++shard)
    for (const auto& tensor : shards[shard].tensors())
      if (shard_of.count(tensor.first) == 0 || shard_of[tensor.first] != shard)
        throw base::ConfigError(shards[shard].path(), tensor.first, "a tensor that the index does not place here",
                                "the tensors of " + index);
}

Checkpoint::Checkpoint(const std::string& folder) : impl_(std::make_shared<Impl>()) {
  Impl& m = *impl_;
  m.folder = folder;
  while (m.folder.size() > 1 && m.folder.back() == '/') m.folder.pop_back();
  const std::string path = m.folder + "/config.json";
  m.network = read_hf_config(path);
  m.open();
  const base::YamlNode config = parse_json(base::read_file(path), path);
  m.quantised = refuse_quantised(config);
  check_layers(config, m.network, m.folder, tensor_names());
}

Checkpoint::~Checkpoint() = default;
Checkpoint::Checkpoint(const Checkpoint&) = default;
Checkpoint& Checkpoint::operator=(const Checkpoint&) = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;

const std::string& Checkpoint::folder() const { return impl_->folder; }
const Network& Checkpoint::network() const { return impl_->network; }
bool Checkpoint::has(const std::string& tensor) const { return impl_->shard_of.count(tensor) != 0; }

const std::optional<base::ConfigError>& Checkpoint::quantised() const { return impl_->quantised; }

std::vector<std::string> Checkpoint::tensor_names() const {
  std::vector<std::string> names;
  for (const auto& entry : impl_->shard_of) names.push_back(entry.first);
  return names;
}

const base::SafetensorsFile& Checkpoint::Impl::file_of(const std::string& tensor,
                                                       const std::vector<std::int64_t>& shape) const {
  if (quantised) throw base::ConfigError(*quantised);
  const auto found = shard_of.find(tensor);
  if (found == shard_of.end())
    throw base::ConfigError(folder, tensor, "nothing", "a tensor of shape " + base::shape_text(shape));
  const base::SafetensorsFile& file = shards[found->second];
  const base::TensorInfo& info = file.info(tensor);
  if (info.shape != shape)
    throw base::ConfigError(file.path(), tensor, "shape " + base::shape_text(info.shape), base::shape_text(shape));
  if (info.dtype != base::DType::kBf16 && info.dtype != base::DType::kF16 && info.dtype != base::DType::kF32)
    throw base::ConfigError(file.path(), tensor, base::dtype_name(info.dtype), "BF16, F16 or F32");
  return file;
}

void Checkpoint::check(const std::string& tensor, const std::vector<std::int64_t>& shape) const {
  impl_->file_of(tensor, shape);
}

namespace {

/// Of a tensor's elements from number `first` on.
void check_finite(const FloatTensor& read, const base::SafetensorsFile& file, const std::string& tensor,
                  std::int64_t first) {
  for (std::size_t i = 0; i < read.data.size(); ++i)
    if (!std::isfinite(read.data[i]))
      throw base::ConfigError(file.path(), "tensor " + tensor,
                              std::string(std::isnan(read.data[i]) ? "nan" : "infinity") + " as element " +
                                  std::to_string(first + static_cast<std::int64_t>(i)),
                              "finite numbers");
}

}  // namespace

FloatTensor Checkpoint::read(const std::string& tensor, const std::vector<std::int64_t>& shape) const {
  const base::SafetensorsFile& file = impl_->file_of(tensor, shape);
  FloatTensor read{shape, file.read_float(tensor)};
  check_finite(read, file, tensor, 0);
  return read;
}

FloatTensor Checkpoint::read_outer(const std::string& tensor, const std::vector<std::int64_t>& shape,
                                   std::int64_t outer) const {
  const base::SafetensorsFile& file = impl_->file_of(tensor, shape);
  const std::vector<std::int64_t> inner(shape.begin() + 1, shape.end());
  std::int64_t count = 1;
  for (const std::int64_t extent : inner) count *= extent;
  FloatTensor read{inner, file.read_float(tensor, outer * count, count)};
  check_finite(read, file, tensor, outer * count);
  return read;
}

const std::string& Checkpoint::hash() const {
  const Impl& m = *impl_;
  if (!m.hash.empty()) return m.hash;
  std::set<std::string> names(m.shard_names.begin(), m.shard_names.end());
  base::Sha256 all;
  all.add("config.json " + base::sha256_file(m.folder + "/config.json") + "\n");
  for (const std::string& name : names) all.add(name + " " + base::sha256_file(m.folder + "/" + name) + "\n");
  m.hash = all.hex();
  return m.hash;
}

}  // namespace moesaic::workloads
