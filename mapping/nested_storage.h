#pragma once
/// What one nested copy of an expert takes, against a copy at every width (D2MoE, Wang et al., 2025: a base of the
/// least width, then one binary level for each further bit, so that one stored copy serves all widths).
#include <cstdint>

#include "workloads/network.h"

namespace moesaic::mapping {

/// Bits of a weight, its share of the group's parameters included. A nested copy has `most` planes and one 16-bit scale
/// a group for the base and for every level; a separate copy has its own planes and one 16-bit scale. With zero points,
/// the base and every separate copy have 8 bits a group more; levels are signs and have none.
struct NestedStorage {
  double nested = 0, separate = 0;
  double nested_zero = 0, separate_zero = 0;
};
NestedStorage nested_storage(int least, int most, std::int64_t group);

/// Copies of the whole model: what is no routed expert (attention, shared experts, dense layers; embeddings and routers
/// are left out) stands once beside nested experts, and once in every separate copy.
struct WholeModel {
  double expert_share = 0;  ///< of the weights that are counted
  double ratio = 0;         ///< nested / separate, with 16-bit scales alone
};
WholeModel whole_model_storage(const workloads::Network& network, const NestedStorage& storage, int least, int most,
                               int other_bits);

}  // namespace moesaic::mapping
