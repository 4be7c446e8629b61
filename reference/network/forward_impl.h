/// What the forward pass (forward.cpp) and its gradient (gradient.cpp) share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "reference/network/forward.h"
#include "reference/network/gemm.h"
#include "reference/network/layer_cache.h"

namespace moesaic::network {

/// Of one layer, but its experts.
struct Layer {
  std::vector<float> attention_norm;
  std::vector<float> expert_norm;
  PackedMatrix qkv;
  PackedMatrix output;
  PackedMatrix router;
};

struct Routing {
  std::vector<float> logits;          // [rows, experts]
  std::vector<std::uint32_t> chosen;  // [rows, top_k]
  std::vector<float> weights;         // [rows, top_k]
};

/// y [rows, n] = weight * x / sqrt(mean of x^2 + eps), n the size of weight.
void rms_norm(const float* x, std::size_t rows, const std::vector<float>& weight, float eps, float* y);

/// Fills chosen and weights from logits.
void choose_experts(Routing& routing, std::size_t rows, std::size_t experts, std::size_t top_k);

struct Forward::Impl {
  std::string config;  // the path, for messages
  workloads::Network network;
  std::size_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, experts = 0, top_k = 0, vocab = 0;
  float eps = 0;
  std::vector<float> embedding;  // [vocab, hidden]
  std::size_t layers = 0, resident = 0;
  std::unique_ptr<LayerCache<Layer>> weights;
  std::vector<float> final_norm;
  PackedMatrix lm_head;
  std::vector<double> inverse_frequency;  // [head_dim / 2]
  std::unique_ptr<FloatExperts> float_experts;

  /// Rotary embedding of every query and key head of qkv [length, heads + 2 kv_heads, head_dim]; its transpose where
  /// `back`.
  void rotate(std::vector<float>& qkv, std::size_t length, bool back = false) const;
  void attend(const std::vector<float>& qkv, std::size_t length, std::vector<float>& out) const;
};

}  // namespace moesaic::network
