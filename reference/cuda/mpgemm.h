#pragma once
/// Mixed-precision matrix product on the GPU: acc[m][n] = sum over groups of s * (P * 2^up - z * X), exact in 64 bits.
/// Two kernels, one result:
///   matmul_s16_u8_s64             any legal case: int32 within 64 consecutive k, 64 bits beyond
///   matmul_s8_u8_s64_partial_s32  s < 2^8 and 8-bit activations: int32 over a checked number of groups, then widened
/// Both take every format: a code is cut by `cut` low bits (nested, MWQ's base), summed, and the sum shifted left by
/// `up`. MWQ's levels are one bit of the codes each, `levels` bits from bit cut - 1 down, worth +1 or -1.
#include <cuda_runtime_api.h>

#include <cstdint>

#include "reference/cuda/partial_sums.h"
#include "reference/cuda/status.h"

namespace moesaic::cuda {

struct MatmulShape {
  std::int64_t m = 0;           ///< tokens, >= 1
  std::int64_t n = 0;           ///< output channels, >= 1
  std::int64_t k = 0;           ///< >= 1
  std::int64_t group_size = 0;  ///< a positive multiple of 8, may exceed k
  int cut = 0;                  ///< low bits of a code that are not read, 0..7
  int up = 0;                   ///< left shift of a group's sum, 0..7
  int levels = 0;               ///< bundles after the first, 0..cut
  constexpr std::int64_t groups() const { return (k - 1) / group_size + 1; }
};

/// All pointers are on the device, row-major; the caller has validated the values (numerics::validate).
///   x      [M, K] int16, in the activations' bits
///   codes  [N, K] uint8, one code a byte
///   z      [N, groups] int16, the signed offset
///   s      [1 + levels, N, groups] uint16: the first bundle's, then each level's
///   acc    [M, N] int64, overwritten
/// Errors: kBadShape (an extent, or more than 2^31-1 tiles of 16 x 16), kNullPointer, kLaunchFailed.
[[nodiscard]] Status matmul_s16_u8_s64(const MatmulShape& shape, const std::int16_t* x, const std::uint8_t* codes,
                                       const std::int16_t* z, const std::uint16_t* s, std::int64_t* acc,
                                       cudaStream_t stream);

/// As above with x [M, K] int8 and `groups_per_widening` from check_partial_sums(), >= 1: that many groups are summed
/// in int32 before they are added to the 64-bit accumulator. The check is the caller's; without it bits are lost.
[[nodiscard]] Status matmul_s8_u8_s64_partial_s32(const MatmulShape& shape, std::int64_t groups_per_widening,
                                                  const std::int8_t* x, const std::uint8_t* codes,
                                                  const std::int16_t* z, const std::uint16_t* s, std::int64_t* acc,
                                                  cudaStream_t stream);

/// narrow[i] = x[i], for activations of at most 8 bits.
///   x, narrow  device, [elements]
/// Errors: kBadShape (elements), kNullPointer, kLaunchFailed.
[[nodiscard]] Status narrow_s16_s8(std::int64_t elements, const std::int16_t* x, std::int8_t* narrow,
                                   cudaStream_t stream);

/// cudaSuccess when the current device can run the kernels that were built, else why not.
cudaError_t can_run_kernels();

}  // namespace moesaic::cuda
