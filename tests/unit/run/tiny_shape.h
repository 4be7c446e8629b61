#pragma once
/// A made-up network with everything in it: a dense first layer, routed and shared experts, attention, a head.

namespace moesaic::tests {

inline const char* const kTinyShape = R"(name: tiny
source: made up
hidden: 32
expert_intermediate: 24
experts: 4
top_k: 2
shared_experts: 1
shared_intermediate: 16
layers: 3
dense_first: 1
moe_every: 1
dense_intermediate: 40
heads: 4
kv_heads: 2
head_dim: 16
gated: true
vocab: 50
)";
/// In a workload file: all that runs beside its routed experts.
inline const char* const kTinyWholeLayers =
    "whole_layers: {shared_experts: int4, dense_layers: int3, attention: int5, head: int2}\n";

}  // namespace moesaic::tests
