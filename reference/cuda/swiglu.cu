#include "reference/cuda/launch.h"
#include "reference/cuda/swiglu.h"
#include "reference/numerics/integer.h"
#include "reference/numerics/swiglu.h"

namespace moesaic::cuda {
namespace {

constexpr int kRomSize = 65;

struct SigmoidRom {
  std::uint16_t value[kRomSize];
};

__device__ std::int32_t sigmoid(std::int32_t g, const std::uint16_t* rom) {
  const std::int32_t a = g < 0 ? -g : g;
  std::int32_t value = rom[kRomSize - 1];
  if (a < 8192) {
    const std::int32_t i = a >> 7, f = a & 127;
    value = rom[i] + (((std::int32_t{rom[i + 1]} - rom[i]) * f + 64) >> 7);
  }
  return g < 0 ? 32768 - value : value;
}

__global__ void __launch_bounds__(kThreads)
    swiglu_s16_s16_s16_kernel(std::int64_t elements, int sigma_h, const __grid_constant__ SigmoidRom table,
                              const std::int16_t* __restrict__ g, const std::int16_t* __restrict__ u,
                              std::int16_t* __restrict__ h) {
  __shared__ std::uint16_t rom[kRomSize];  // threads look up different entries: shared memory serves them side by side
  if (threadIdx.x < kRomSize) rom[threadIdx.x] = table.value[threadIdx.x];
  __syncthreads();
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < elements; i += stride) {
    const std::int64_t silu = numerics::rshift_round(std::int64_t{g[i]} * sigmoid(g[i], rom), 15);
    h[i] = static_cast<std::int16_t>(numerics::saturate(numerics::rshift_round(silu * u[i], sigma_h), 16));
  }
}

/// One block a token: extremes of the row (rshift_round is monotone, so they decide), the shift, the shifted row.
__global__ void __launch_bounds__(kThreads)
    shift_rows_s16_s16_kernel(std::int64_t intermediate, int act_bits, const std::int16_t* __restrict__ h,
                              std::int32_t* __restrict__ eh, std::int16_t* __restrict__ shifted) {
  __shared__ std::int32_t low[kThreads], high[kThreads];
  const std::int64_t row = std::int64_t{blockIdx.x} * intermediate;
  const int lane = static_cast<int>(threadIdx.x);
  std::int32_t least = 0, greatest = 0;  // 0 fits everything, so it never decides
  for (std::int64_t i = lane; i < intermediate; i += kThreads) {
    least = min(least, std::int32_t{h[row + i]});
    greatest = max(greatest, std::int32_t{h[row + i]});
  }
  low[lane] = least;
  high[lane] = greatest;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (lane < half) {
      low[lane] = min(low[lane], low[lane + half]);
      high[lane] = max(high[lane], high[lane + half]);
    }
    __syncthreads();
  }
  int e = 0;
  while (!numerics::fits(numerics::rshift_round(low[0], e), act_bits) ||
         !numerics::fits(numerics::rshift_round(high[0], e), act_bits))
    ++e;
  if (lane == 0) eh[blockIdx.x] = e;
  for (std::int64_t i = lane; i < intermediate; i += kThreads)
    shifted[row + i] = static_cast<std::int16_t>(numerics::rshift_round(h[row + i], e));
}

}  // namespace

Status swiglu_s16_s16_s16(std::int64_t elements, int sigma_h, const std::int16_t* g, const std::int16_t* u,
                          std::int16_t* h, cudaStream_t stream) {
  Checker check("swiglu_s16_s16_s16");
  check.at_least("elements", elements, 1);
  check.in_range("sigma_h", sigma_h, 0, numerics::kMaxSigmaH);
  check.present("g", g);
  check.present("u", u);
  check.present("h", h);
  if (!check.is_ok()) return check.status();
  SigmoidRom table;
  static_assert(sizeof(table.value) == sizeof(numerics::kSigmoidRom));
  for (int i = 0; i < kRomSize; ++i) table.value[i] = numerics::kSigmoidRom[static_cast<std::size_t>(i)];
  swiglu_s16_s16_s16_kernel<<<stride_blocks(elements), kThreads, 0, stream>>>(elements, sigma_h, table, g, u, h);
  return launched("swiglu_s16_s16_s16");
}

Status shift_rows_s16_s16(std::int64_t m, std::int64_t intermediate, int act_bits, const std::int16_t* h,
                          std::int32_t* eh, std::int16_t* shifted, cudaStream_t stream) {
  Checker check("shift_rows_s16_s16");
  check.in_range("m", m, 1, kMaxBlocks);
  check.at_least("intermediate", intermediate, 1);
  check.is_width("act_bits", act_bits);
  check.present("h", h);
  check.present("eh", eh);
  check.present("shifted", shifted);
  if (!check.is_ok()) return check.status();
  shift_rows_s16_s16_kernel<<<static_cast<unsigned>(m), kThreads, 0, stream>>>(intermediate, act_bits, h, eh, shifted);
  return launched("shift_rows_s16_s16");
}

}  // namespace moesaic::cuda
