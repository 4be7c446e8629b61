#include "reference/cuda/launch.h"
#include "reference/cuda/mpgemm.h"
#include "reference/numerics/format.h"
#include "reference/numerics/integer.h"

namespace moesaic::cuda {
namespace {

constexpr int kTile = 16;   // a block makes kTile x kTile outputs, one a thread
constexpr int kChunk = 64;  // k per step of the int64 kernel: 64 * 2^15 * 255 < 2^31
constexpr int kWords = 32;  // 4-byte words per step of the int32 kernel

/// One bundle of the codes and what it adds: a level is one bit, 2 bit - 1 times its group multiplier.
struct Bundle {
  int cut = 0;            // low bits of a code that are not its own
  int mask = 255;         // what is left of them
  int up = 0;             // left shift of a group's sum
  bool is_level = false;  // z is 1 everywhere
};

__device__ std::int64_t group_end(const MatmulShape& p, std::int64_t begin) {
  return p.group_size > p.k - begin ? p.k : begin + p.group_size;
}

__global__ void __launch_bounds__(kTile* kTile)
    matmul_s16_u8_s64_kernel(MatmulShape p, Bundle bundle, std::int64_t tiles_n, const std::int16_t* __restrict__ x,
                             const std::uint8_t* __restrict__ codes, const std::int16_t* __restrict__ z,
                             const std::uint16_t* __restrict__ s, std::int64_t* __restrict__ acc) {
  __shared__ std::int16_t xs[kTile]
                            [kChunk + 2];  // + 2: an odd number of banks a row, so that a column has no conflicts
  __shared__ std::int16_t ws[kTile][kChunk + 2];
  const std::int64_t m0 = blockIdx.x / tiles_n * kTile, n0 = blockIdx.x % tiles_n * kTile;
  const int tx = static_cast<int>(threadIdx.x) % kTile, ty = static_cast<int>(threadIdx.x) / kTile;
  const std::int64_t m = m0 + ty, n = n0 + tx;
  std::int64_t sum = 0;
  std::int64_t group = 0;
  for (std::int64_t begin = 0; begin < p.k; begin += p.group_size, ++group) {
    const std::int64_t end = group_end(p, begin);
    std::int64_t plane_sum = 0, x_sum = 0;
    for (std::int64_t k0 = begin; k0 < end; k0 += kChunk) {
      for (int i = static_cast<int>(threadIdx.x); i < kTile * kChunk; i += kTile * kTile) {
        const int row = i / kChunk, column = i % kChunk;
        const bool in_k = k0 + column < end;
        xs[row][column] = in_k && m0 + row < p.m ? x[(m0 + row) * p.k + k0 + column] : std::int16_t{0};
        ws[row][column] =
            in_k && n0 + row < p.n
                ? static_cast<std::int16_t>(codes[(n0 + row) * p.k + k0 + column] >> bundle.cut & bundle.mask)
                : std::int16_t{0};
      }
      __syncthreads();
      std::int32_t plane_part = 0, x_part = 0;
      for (int i = 0; i < kChunk; ++i) {
        plane_part += xs[ty][i] * ws[tx][i];
        x_part += xs[ty][i];
      }
      plane_sum += plane_part;
      x_sum += x_part;
      __syncthreads();
    }
    if (m < p.m && n < p.n) {
      const std::int64_t at = n * p.groups() + group;
      sum += numerics::dequantise_group(plane_sum, x_sum, bundle.up, bundle.is_level ? 1 : z[at], s[at]);
    }
    if (end == p.k) break;  // begin + group_size may not be representable
  }
  if (m < p.m && n < p.n) acc[m * p.n + n] = bundle.is_level ? acc[m * p.n + n] + sum : sum;
}

/// sum + four products of signed x with unsigned codes.
__device__ std::int32_t dot4_s8_u8(std::int32_t x, std::uint32_t codes, std::int32_t sum) {
  std::int32_t result;
  asm("dp4a.s32.u32 %0, %1, %2, %3;" : "=r"(result) : "r"(x), "r"(codes), "r"(sum));
  return result;
}

__global__ void __launch_bounds__(kTile* kTile)
    matmul_s8_u8_s64_partial_s32_kernel(MatmulShape p, Bundle bundle, std::int64_t groups_per_widening,
                                        std::int64_t tiles_n, const std::int8_t* __restrict__ x,
                                        const std::uint8_t* __restrict__ codes, const std::int16_t* __restrict__ z,
                                        const std::uint16_t* __restrict__ s, std::int64_t* __restrict__ acc) {
  __shared__ std::int32_t xs[kTile][kWords + 1];
  __shared__ std::uint32_t ws[kTile][kWords + 1];
  const std::int64_t m0 = blockIdx.x / tiles_n * kTile, n0 = blockIdx.x % tiles_n * kTile;
  const int tx = static_cast<int>(threadIdx.x) % kTile, ty = static_cast<int>(threadIdx.x) / kTile;
  const std::int64_t m = m0 + ty, n = n0 + tx;
  std::int64_t sum = 0;
  std::int32_t partial = 0;
  std::int64_t groups_in_partial = 0;
  std::int64_t group = 0;
  for (std::int64_t begin = 0; begin < p.k; begin += p.group_size, ++group) {
    const std::int64_t end = group_end(p, begin);
    std::int32_t plane_sum = 0, x_sum = 0;
    for (std::int64_t k0 = begin; k0 < end; k0 += kWords * 4) {
      for (int i = static_cast<int>(threadIdx.x); i < kTile * kWords; i += kTile * kTile) {
        const int row = i / kWords, word = i % kWords;
        std::uint32_t x_word = 0, code_word = 0;
        for (int byte = 0; byte < 4; ++byte) {
          const std::int64_t at = k0 + word * 4 + byte;
          if (at >= end) break;
          if (m0 + row < p.m)
            x_word |= std::uint32_t{static_cast<std::uint8_t>(x[(m0 + row) * p.k + at])} << (8 * byte);
          if (n0 + row < p.n)
            code_word |= static_cast<std::uint32_t>(codes[(n0 + row) * p.k + at] >> bundle.cut & bundle.mask)
                         << (8 * byte);
        }
        xs[row][word] = static_cast<std::int32_t>(x_word);
        ws[row][word] = code_word;
      }
      __syncthreads();
      for (int i = 0; i < kWords; ++i) {
        plane_sum = dot4_s8_u8(xs[ty][i], ws[tx][i], plane_sum);
        x_sum = dot4_s8_u8(xs[ty][i], 0x01010101U, x_sum);
      }
      __syncthreads();
    }
    if (m < p.m && n < p.n) {
      const std::int64_t at = n * p.groups() + group;
      const std::int32_t offset = bundle.is_level ? 1 : z[at];
      partial += std::int32_t{s[at]} * (plane_sum * (1 << bundle.up) - offset * x_sum);
      if (++groups_in_partial == groups_per_widening) {
        sum += partial;
        partial = 0;
        groups_in_partial = 0;
      }
    }
    if (end == p.k) break;
  }
  sum += partial;
  if (m < p.m && n < p.n) acc[m * p.n + n] = bundle.is_level ? acc[m * p.n + n] + sum : sum;
}

__global__ void __launch_bounds__(kThreads)
    narrow_s16_s8_kernel(std::int64_t elements, const std::int16_t* __restrict__ x, std::int8_t* __restrict__ narrow) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < elements; i += stride)
    narrow[i] = static_cast<std::int8_t>(x[i]);
}

/// Bundle 0 is the first, bundle l level l.
Bundle bundle_of(const MatmulShape& shape, int index) {
  if (index == 0) return {shape.cut, 255, shape.up, false};
  return {shape.cut - index, 1, numerics::Format::kLevelUp, true};
}

std::int64_t tiles(std::int64_t extent) { return (extent - 1) / kTile + 1; }

void check_shape(Checker& check, const MatmulShape& shape) {
  check.at_least("m", shape.m, 1);
  check.at_least("n", shape.n, 1);
  check.at_least("k", shape.k, 1);
  check.multiple_of("group_size", shape.group_size, 8);
  check.in_range("cut", shape.cut, 0, 7);
  check.in_range("up", shape.up, 0, 7);
  check.in_range("levels", shape.levels, 0, shape.cut);
  if (!check.is_ok()) return;
  check.in_range("tiles of 16 columns", tiles(shape.n), 1, kMaxBlocks);
  if (check.is_ok()) check.in_range("tiles of 16 tokens", tiles(shape.m), 1, kMaxBlocks / tiles(shape.n));
}

}  // namespace

Status matmul_s16_u8_s64(const MatmulShape& shape, const std::int16_t* x, const std::uint8_t* codes,
                         const std::int16_t* z, const std::uint16_t* s, std::int64_t* acc, cudaStream_t stream) {
  Checker check("matmul_s16_u8_s64");
  check_shape(check, shape);
  check.present("x", x);
  check.present("codes", codes);
  check.present("z", z);
  check.present("s", s);
  check.present("acc", acc);
  if (!check.is_ok()) return check.status();
  const std::int64_t tiles_n = tiles(shape.n);
  for (int b = 0; b <= shape.levels; ++b) {
    matmul_s16_u8_s64_kernel<<<static_cast<unsigned>(tiles(shape.m) * tiles_n), kTile * kTile, 0, stream>>>(
        shape, bundle_of(shape, b), tiles_n, x, codes, z, s + b * shape.n * shape.groups(), acc);
    const Status status = launched("matmul_s16_u8_s64");
    if (!status.is_ok()) return status;
  }
  return {};
}

Status matmul_s8_u8_s64_partial_s32(const MatmulShape& shape, std::int64_t groups_per_widening, const std::int8_t* x,
                                    const std::uint8_t* codes, const std::int16_t* z, const std::uint16_t* s,
                                    std::int64_t* acc, cudaStream_t stream) {
  Checker check("matmul_s8_u8_s64_partial_s32");
  check_shape(check, shape);
  check.at_least("groups_per_widening", groups_per_widening, 1);
  check.present("x", x);
  check.present("codes", codes);
  check.present("z", z);
  check.present("s", s);
  check.present("acc", acc);
  if (!check.is_ok()) return check.status();
  const std::int64_t tiles_n = tiles(shape.n);
  for (int b = 0; b <= shape.levels; ++b) {
    matmul_s8_u8_s64_partial_s32_kernel<<<static_cast<unsigned>(tiles(shape.m) * tiles_n), kTile * kTile, 0, stream>>>(
        shape, bundle_of(shape, b), groups_per_widening, tiles_n, x, codes, z, s + b * shape.n * shape.groups(), acc);
    const Status status = launched("matmul_s8_u8_s64_partial_s32");
    if (!status.is_ok()) return status;
  }
  return {};
}

Status narrow_s16_s8(std::int64_t elements, const std::int16_t* x, std::int8_t* narrow, cudaStream_t stream) {
  Checker check("narrow_s16_s8");
  check.at_least("elements", elements, 1);
  check.present("x", x);
  check.present("narrow", narrow);
  if (!check.is_ok()) return check.status();
  narrow_s16_s8_kernel<<<stride_blocks(elements), kThreads, 0, stream>>>(elements, x, narrow);
  return launched("narrow_s16_s8");
}

cudaError_t can_run_kernels() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, matmul_s16_u8_s64_kernel);
}

}  // namespace moesaic::cuda
