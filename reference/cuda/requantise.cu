#include "reference/cuda/launch.h"
#include "reference/cuda/requantise.h"
#include "reference/numerics/integer.h"

namespace moesaic::cuda {
namespace {

__global__ void __launch_bounds__(kThreads)
    requantise_s64_s16_kernel(std::int64_t elements, std::int64_t n, int out_bits, const std::int64_t* __restrict__ acc,
                              const std::uint16_t* __restrict__ mu, const std::uint8_t* __restrict__ sigma,
                              const std::int32_t* __restrict__ shift, std::int16_t* __restrict__ y) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < elements; i += stride) {
    const std::int64_t column = i % n;
    y[i] = numerics::requantise(acc[i], mu[column], sigma[column] + shift[i / n], out_bits);
  }
}

}  // namespace

Status requantise_s64_s16(std::int64_t m, std::int64_t n, int out_bits, const std::int64_t* acc,
                          const std::uint16_t* mu, const std::uint8_t* sigma, const std::int32_t* shift,
                          std::int16_t* y, cudaStream_t stream) {
  Checker check("requantise_s64_s16");
  check.at_least("m", m, 1);
  check.at_least("n", n, 1);
  check.is_width("out_bits", out_bits);
  check.present("acc", acc);
  check.present("mu", mu);
  check.present("sigma", sigma);
  check.present("shift", shift);
  check.present("y", y);
  if (!check.is_ok()) return check.status();
  requantise_s64_s16_kernel<<<stride_blocks(m * n), kThreads, 0, stream>>>(m * n, n, out_bits, acc, mu, sigma, shift,
                                                                           y);
  return launched("requantise_s64_s16");
}

}  // namespace moesaic::cuda
