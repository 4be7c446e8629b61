#include "reference/cuda/combine.h"
#include "reference/cuda/launch.h"
#include "reference/numerics/integer.h"

namespace moesaic::cuda {
namespace {

__global__ void __launch_bounds__(kThreads)
    combine_s16_u16_s16_kernel(CombineShape shape, const std::int16_t* __restrict__ down,
                               const std::uint16_t* __restrict__ r, std::int16_t* __restrict__ y) {
  const std::int64_t elements = shape.m * shape.hidden;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < elements; i += stride) {
    const std::uint16_t* weights = r + i / shape.hidden * shape.experts;
    std::int64_t sum = 0;  // |term| < 2^31 and fewer than 2^31 experts: cannot overflow
    for (std::int64_t e = 0; e < shape.experts; ++e) sum += std::int64_t{weights[e]} * down[e * elements + i];
    y[i] = static_cast<std::int16_t>(numerics::saturate(numerics::rshift_round(sum, 15), 16));
  }
}

}  // namespace

Status combine_s16_u16_s16(const CombineShape& shape, const std::int16_t* down, const std::uint16_t* r, std::int16_t* y,
                           cudaStream_t stream) {
  Checker check("combine_s16_u16_s16");
  check.in_range("experts", shape.experts, 1, 2147483647);
  check.at_least("m", shape.m, 1);
  check.at_least("hidden", shape.hidden, 1);
  check.present("down", down);
  check.present("r", r);
  check.present("y", y);
  if (!check.is_ok()) return check.status();
  combine_s16_u16_s16_kernel<<<stride_blocks(shape.m * shape.hidden), kThreads, 0, stream>>>(shape, down, r, y);
  return launched("combine_s16_u16_s16");
}

}  // namespace moesaic::cuda
