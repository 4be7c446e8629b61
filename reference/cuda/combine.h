#pragma once
/// Weighted sum of the experts' outputs on the GPU: y[m][h] = saturate16(rshift_round(sum_e r[m][e] * down[e][m][h],
/// 15)).
#include <cuda_runtime_api.h>

#include <cstdint>

#include "reference/cuda/status.h"

namespace moesaic::cuda {

struct CombineShape {
  std::int64_t experts = 0;  ///< 1..2^31-1
  std::int64_t m = 0;        ///< >= 1
  std::int64_t hidden = 0;   ///< >= 1
};

/// All pointers are on the device.
///   down  [E, M, H] int16
///   r     [M, E] uint16, 1.0 = 32768
///   y     [M, H] int16, overwritten
/// Errors: kBadShape, kNullPointer, kLaunchFailed.
[[nodiscard]] Status combine_s16_u16_s16(const CombineShape& shape, const std::int16_t* down, const std::uint16_t* r,
                                         std::int16_t* y, cudaStream_t stream);

}  // namespace moesaic::cuda
