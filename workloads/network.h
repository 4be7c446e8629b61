/// The shape of a Mixture-of-Experts network: what a mapper, a simulator and a report need to know of a model
/// without its weights. Read from a Hugging Face config.json (hf_config.h) or from the zoo (zoo.h).
/// Widths are in elements, counts are numbers of things; a layer index counts every decoder layer, dense ones too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moesaic::workloads {

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values of all heads are made from
/// one latent row a token, which is what the cache holds.
struct LatentAttention {
  std::int64_t q_rank = 0;    ///< width of the queries' latent row; 0: queries come from the hidden row directly
  std::int64_t kv_rank = 0;   ///< width of the latent row of keys and values
  std::int64_t nope_dim = 0;  ///< of a head's key and query, the part without position
  std::int64_t rope_dim = 0;  ///< the part with rotary embedding, one for all heads' keys
};

struct Network {
  std::string name;          ///< zoo name, or the name of the folder or file it was read from
  std::string architecture;  ///< model_type of config.json; empty for a zoo shape
  std::string source;        ///< where the facts come from; empty for a config.json

  std::int64_t hidden = 0;
  std::int64_t expert_intermediate = 0;  ///< width of one routed expert
  std::int64_t experts = 0;              ///< routed experts in a layer
  std::int64_t top_k = 0;                ///< routed experts a token takes
  std::int64_t shared_experts = 0;
  std::int64_t shared_intermediate = 0;  ///< width of all shared experts together
  std::int64_t layers = 0;
  std::vector<bool> has_experts;        ///< one entry a layer
  std::int64_t dense_first = 0;         ///< leading layers that the architecture exempts from having experts
  std::int64_t dense_intermediate = 0;  ///< width of a layer without experts; 0 where there is none
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;              ///< with latent attention: of the values
  std::optional<LatentAttention> latent;  ///< absent: every head has keys and values, shared by heads / kv_heads
  bool gated = true;                      ///< three matrices an expert (gate, up, down), else two

  std::optional<std::int64_t> vocab;  ///< of a zoo shape where its file says so

  // Known from a config.json only.
  std::optional<std::int64_t> max_positions;
  std::optional<double> rope_theta;
  std::optional<std::string> rope_type;  ///< "default" means plain rotary embedding
  std::optional<double> rms_eps;
  std::optional<bool> norm_topk_prob;  ///< router weights are renormalised over the chosen experts
  std::optional<bool> tie_embeddings;
  std::optional<std::int64_t> sliding_window;
  std::optional<std::string> activation;

  std::int64_t moe_layers() const;
  std::int64_t params_per_expert() const;
  std::int64_t routed_params() const;
  /// Weights of every routed expert at `bits` each, in whole bytes, without group multipliers, offsets or padding.
  std::int64_t routed_code_bytes(int bits) const;
};

/// InputError (`where`) for a network of more than 2^53 routed weights or, counted generously, weights of attention:
/// sizes in bits would not fit.
void check_size(const Network& network, const std::string& where);

}  // namespace moesaic::workloads
