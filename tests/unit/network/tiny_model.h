/// A Mixtral of random weights, small enough to check by hand: 2 layers, hidden 12, 4 experts of width 10, top 2, 4
/// heads over 2 key heads of width 6, vocabulary 17. Written in any spelling and precision that the reader must take.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/safetensors.h"
#include "tests/temporary_folder.h"

namespace moesaic::tests {

struct TinyTensor {
  std::vector<std::int64_t> shape;
  std::vector<float> data;
};

constexpr int kTinyHidden = 12, kTinyWidth = 10, kTinyExperts = 4, kTinyTopK = 2, kTinyLayers = 2, kTinyHeads = 4,
              kTinyKvHeads = 2, kTinyHeadDim = 6, kTinyVocab = 17;
constexpr double kTinyTheta = 10000.0, kTinyEps = 1e-5;

inline std::string tiny_config(bool transformers5 = false) {
  std::string text = R"({
  "architectures": ["MixtralForCausalLM"],
  "head_dim": 6,
  "hidden_act": "silu",
  "hidden_size": 12,
  "intermediate_size": 10,
  "max_position_embeddings": 64,
  "model_type": "mixtral",
  "num_attention_heads": 4,
  "num_experts_per_tok": 2,
  "num_hidden_layers": 2,
  "num_key_value_heads": 2,
  "num_local_experts": 4,
  "rms_norm_eps": 1e-05,
)";
  text += transformers5 ? "  \"rope_parameters\": {\"rope_theta\": 10000.0, \"rope_type\": \"default\"},\n"
                        : "  \"rope_theta\": 10000.0,\n";
  return text + "  \"sliding_window\": null,\n  \"tie_word_embeddings\": false,\n  \"vocab_size\": 17\n}\n";
}

/// Values are rounded to bf16, so that every precision stores the same model. f16 holds them too: none is tiny.
inline std::map<std::string, TinyTensor> tiny_tensors(std::uint64_t seed) {
  base::Rng rng(seed);
  std::map<std::string, TinyTensor> all;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape, double centre, double spread) {
    TinyTensor t;
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    t.shape = std::move(shape);
    for (std::int64_t i = 0; i < count; ++i)
      // Eighths of the spread: exact in bf16 and f16 alike.
      t.data.push_back(static_cast<float>(centre + spread * static_cast<double>(rng.range(-8, 8)) / 8.0));
    all[name] = std::move(t);
  };
  add("model.embed_tokens.weight", {kTinyVocab, kTinyHidden}, 0, 2);
  add("model.norm.weight", {kTinyHidden}, 1, 0.5);
  add("lm_head.weight", {kTinyVocab, kTinyHidden}, 0, 0.5);
  for (int layer = 0; layer < kTinyLayers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {kTinyHidden}, 1, 0.5);
    add(prefix + "post_attention_layernorm.weight", {kTinyHidden}, 1, 0.5);
    add(prefix + "self_attn.q_proj.weight", {kTinyHeads * kTinyHeadDim, kTinyHidden}, 0, 0.5);
    add(prefix + "self_attn.k_proj.weight", {kTinyKvHeads * kTinyHeadDim, kTinyHidden}, 0, 0.5);
    add(prefix + "self_attn.v_proj.weight", {kTinyKvHeads * kTinyHeadDim, kTinyHidden}, 0, 0.5);
    add(prefix + "self_attn.o_proj.weight", {kTinyHidden, kTinyHeads * kTinyHeadDim}, 0, 0.5);
    add(prefix + "block_sparse_moe.gate.weight", {kTinyExperts, kTinyHidden}, 0, 0.5);
    for (int expert = 0; expert < kTinyExperts; ++expert) {
      const std::string one = prefix + "block_sparse_moe.experts." + std::to_string(expert) + ".";
      add(one + "w1.weight", {kTinyWidth, kTinyHidden}, 0, 0.5);
      add(one + "w2.weight", {kTinyHidden, kTinyWidth}, 0, 0.5);
      add(one + "w3.weight", {kTinyWidth, kTinyHidden}, 0, 0.5);
    }
  }
  return all;
}

/// The spelling of Transformers 5 when nothing is converted back: experts fused, gate rows before up rows.
inline std::map<std::string, TinyTensor> fuse(const std::map<std::string, TinyTensor>& split) {
  std::map<std::string, TinyTensor> fused;
  for (const auto& entry : split)
    if (entry.first.find("block_sparse_moe") == std::string::npos) fused[entry.first] = entry.second;
  for (int layer = 0; layer < kTinyLayers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    fused[prefix + "mlp.gate.weight"] = split.at(prefix + "block_sparse_moe.gate.weight");
    TinyTensor& gate_up = fused[prefix + "mlp.experts.gate_up_proj"];
    TinyTensor& down = fused[prefix + "mlp.experts.down_proj"];
    gate_up.shape = {kTinyExperts, 2 * kTinyWidth, kTinyHidden};
    down.shape = {kTinyExperts, kTinyHidden, kTinyWidth};
    for (int expert = 0; expert < kTinyExperts; ++expert) {
      const std::string one = prefix + "block_sparse_moe.experts." + std::to_string(expert) + ".";
      for (const char* part : {"w1.weight", "w3.weight"}) {
        const std::vector<float>& w = split.at(one + part).data;
        gate_up.data.insert(gate_up.data.end(), w.begin(), w.end());
      }
      const std::vector<float>& w = split.at(one + "w2.weight").data;
      down.data.insert(down.data.end(), w.begin(), w.end());
    }
  }
  return fused;
}

/// Exact for the halves and eighths used here (normal f16 numbers of few significant bits).
inline std::uint16_t exact_f16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffU) == 0) return static_cast<std::uint16_t>(bits >> 16);
  const std::uint32_t exponent = ((bits >> 23) & 0xffU) - 127 + 15;
  return static_cast<std::uint16_t>(((bits >> 16) & 0x8000U) | (exponent << 10) | ((bits >> 13) & 0x3ffU));
}

inline void write_tensors(const std::string& path, const std::map<std::string, TinyTensor>& tensors,
                          base::DType dtype = base::DType::kF32) {
  std::map<std::string, std::vector<std::uint16_t>> halves;
  std::map<std::string, base::TensorView> views;
  for (const auto& entry : tensors) {
    base::TensorView view;
    view.dtype = dtype;
    view.shape = entry.second.shape;
    view.data = entry.second.data.data();
    if (dtype != base::DType::kF32) {
      std::vector<std::uint16_t>& half = halves[entry.first];
      for (const float v : entry.second.data)
        half.push_back(dtype == base::DType::kBf16 ? base::float_to_bf16(v) : exact_f16(v));
      view.data = half.data();
    }
    views[entry.first] = view;
  }
  base::write_safetensors(path, views);
}

/// Writes config.json and model.safetensors into a folder of `folder` and gives its path.
inline std::string write_tiny_model(const TemporaryFolder& folder, const std::string& name,
                                    const std::map<std::string, TinyTensor>& tensors,
                                    base::DType dtype = base::DType::kF32, bool transformers5 = false) {
  folder.write(name + "/config.json", tiny_config(transformers5));
  write_tensors(folder.file(name + "/model.safetensors"), tensors, dtype);
  return folder.file(name);
}

}  // namespace moesaic::tests
