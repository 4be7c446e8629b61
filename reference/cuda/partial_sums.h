#pragma once
/// The check of the class that sums in int32: how many groups may be added before int32 could overflow, whatever the
/// activations are. Plain C++: it needs no GPU.
#include <cstdint>

#include "reference/numerics/mpgemm.h"

namespace moesaic::cuda {

/// What the check needs to know of a weight matrix; the extremes are over all its rows and groups, and over the bundles
/// that are read, each of which is summed by itself.
struct WeightBounds {
  std::int64_t longest_group = 0;   ///< in k
  std::int64_t max_multiplier = 0;  ///< greatest s
  std::int64_t max_weight = 0;      ///< greatest |code * 2^up - z| that a legal code can reach
  std::int64_t max_term = 0;        ///< greatest of code * 2^up and |z|: what P * 2^up and z * X are made of
};
WeightBounds weight_bounds(const numerics::WeightMatrix& w);

/// Groups that may be summed in int32, or 0 when the class must not be used: s >= 2^8, activations of more than 8 bits,
/// or one group alone could pass 2^31 - 1.
std::int64_t check_partial_sums(const WeightBounds& bounds, int act_bits);

}  // namespace moesaic::cuda
