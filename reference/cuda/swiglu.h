#pragma once
/// SwiGLU and the hidden row's own power of two, on the GPU.
#include <cuda_runtime_api.h>

#include <cstdint>

#include "reference/cuda/status.h"

namespace moesaic::cuda {

/// h[i] = saturate16(rshift_round(rshift_round(g[i] * sigmoid(g[i]), 15) * u[i], sigma_h)).
///   g, u  device, [elements] int16, 1.0 = 2^10 in g
///   h     device, [elements] int16, overwritten
/// Errors: kBadShape (elements, or sigma_h outside 0..31), kNullPointer, kLaunchFailed.
[[nodiscard]] Status swiglu_s16_s16_s16(std::int64_t elements, int sigma_h, const std::int16_t* g,
                                        const std::int16_t* u, std::int16_t* h, cudaStream_t stream);

/// eh[m] = the least e >= 0 for which every rshift_round(h[m][i], e) fits act_bits; shifted[m][i] = that value.
///   h        device, [M, I] int16
///   eh       device, [M] int32, overwritten
///   shifted  device, [M, I] int16, overwritten
/// Errors: kBadShape (m in 1..2^31-1, intermediate, act_bits other than 4, 8, 16), kNullPointer, kLaunchFailed.
[[nodiscard]] Status shift_rows_s16_s16(std::int64_t m, std::int64_t intermediate, int act_bits, const std::int16_t* h,
                                        std::int32_t* eh, std::int16_t* shifted, cudaStream_t stream);

}  // namespace moesaic::cuda
