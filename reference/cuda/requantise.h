#pragma once
/// Requantisation on the GPU: y[m][n] = saturate_out_bits(rshift_round(acc[m][n] * mu[n], sigma[n] + shift[m])).
#include <cuda_runtime_api.h>

#include <cstdint>

#include "reference/cuda/status.h"

namespace moesaic::cuda {

/// All pointers are on the device.
///   acc    [M, N] int64, |acc| < 2^47
///   mu     [N] uint16
///   sigma  [N] uint8
///   shift  [M] int32: e[m], or -eh[m]; sigma[n] + shift[m] in 0..62 is the caller's to check
///   y      [M, N] int16, overwritten
/// Errors: kBadShape (m, n, or out_bits other than 4, 8, 16), kNullPointer, kLaunchFailed.
[[nodiscard]] Status requantise_s64_s16(std::int64_t m, std::int64_t n, int out_bits, const std::int64_t* acc,
                                        const std::uint16_t* mu, const std::uint8_t* sigma, const std::int32_t* shift,
                                        std::int16_t* y, cudaStream_t stream);

}  // namespace moesaic::cuda
