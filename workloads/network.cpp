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
  const auto of_layers = static_cast<double>(network.moe_layers() * network.experts);
  const double weights = of_layers * static_cast<double>(network.params_per_expert());
  if (weights > 0x1p53)
    throw base::ConfigError(where, "routed weights", fmt::format("{:.0f}", weights), "at most 2^53");
}

}  // namespace moesaic::workloads
