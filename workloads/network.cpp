#include "workloads/network.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace moesaic::workloads {

std::int64_t Network::moe_layers() const { return std::count(has_experts.begin(), has_experts.end(), true); }

std::int64_t Network::params_per_expert() const { return (gated ? 3 : 2) * hidden * expert_intermediate; }

std::int64_t Network::routed_params() const { return moe_layers() * experts * params_per_expert(); }

std::int64_t Network::routed_code_bytes(int bits) const {
  // Per expert, so that an expert starts at a byte.
  return moe_layers() * experts * ((params_per_expert() * bits + 7) / 8);
}

void check_size(const Network& network, const std::string& where) {
  const auto refuse_many = [&where](const char* what, double weights) {
    if (weights > 0x1p53) throw base::ConfigError(where, what, fmt::format("{:.0f}", weights), "at most 2^53");
  };
  refuse_many("routed weights", static_cast<double>(network.moe_layers() * network.experts) *
                                    static_cast<double>(network.params_per_expert()));
  // Queries, keys, values and what joins the heads; with latent attention through the ranks' widths.
  std::int64_t head = network.head_dim, widest = network.hidden;
  if (const std::optional<LatentAttention>& latent = network.latent) {
    head += latent->nope_dim + latent->rope_dim;
    widest = std::max({widest, latent->q_rank, latent->kv_rank});
  }
  refuse_many("attention weights", 4.0 * static_cast<double>(network.layers) * static_cast<double>(widest) *
                                       static_cast<double>(network.heads * head));
}

}  // namespace moesaic::workloads
