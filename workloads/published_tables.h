#pragma once
/// Tables that other projects publish, read into ours. The project ships none of them.
#include <string>
#include <vector>

#include "workloads/sensitivity.h"

namespace moesaic::workloads {

/// MC-MoE's significance table of a network with top-2 routing: CSV with the columns
///
///   layer,expert,act_tokens,routing_weight_sum,qloss_1bit,qloss_2bit,qloss_3bit
///
/// binary, int2 and int3 take the three losses as they are. frequency is act_tokens over the layer's tokens, half the
/// sum of act_tokens; weight is routing_weight_sum over the layer's tokens. Refuses (InputError) what it does not know.
std::vector<SensitivityRow> import_mc_moe(const std::string& text, const std::string& path);

/// HAWQ-V3's tables: JSON with one object a network, whose arrays have one entry a layer: Hutchinson_trace,
/// delta_weights_8bit_square, delta_weights_4bit_square, parameters, bops, latency_int4, latency_int8.
///
/// Every layer is a layer with one expert, in int4 or int8, chosen by every token (frequency and weight 1). The loss is
/// trace * squared distance of the weights. The cost table has
///   cycles  latency in units of 10 ps (the tables have milliseconds with eight decimals)
///   size    bytes of the weights
///   bops    multiplications times the product of the operands' bits
/// Parameters and operations that are not whole numbers are millions.
struct HawqTables {
  std::vector<SensitivityRow> rows;
  std::string costs;  ///< the cost table's text
};
HawqTables import_hawq_v3(const std::string& text, const std::string& path, const std::string& network);

}  // namespace moesaic::workloads
