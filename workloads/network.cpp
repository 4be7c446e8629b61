#include "workloads/network.h"

#include <algorithm>

namespace moesaic::workloads {

std::int64_t Network::moe_layers() const { return std::count(has_experts.begin(), has_experts.end(), true); }

std::int64_t Network::params_per_expert() const { return (gated ? 3 : 2) * hidden * expert_intermediate; }

std::int64_t Network::routed_params() const { return moe_layers() * experts * params_per_expert(); }

std::int64_t Network::routed_code_bytes(int bits) const {
  // Per expert, so that an expert starts at a byte; 2^53 parameters would still fit.
  return moe_layers() * experts * ((params_per_expert() * bits + 7) / 8);
}

}  // namespace moesaic::workloads
