#include <cuda_runtime.h>

#include <algorithm>
#include <memory>

#include "reference/cuda/availability.h"
#include "reference/cuda/benchmark/cublaslt.h"
#include "reference/cuda/benchmark/group_epilogue.h"
#include "reference/cuda/benchmark/hopper.cuh"
#include "reference/cuda/device_buffer.h"
#include "reference/cuda/mpgemm.h"
#include "reference/numerics/integer.h"

namespace moesaic::cuda {
namespace {

constexpr int kTile = 128;  // tokens, columns and k of a block's step; also the group size and the swizzle's row
constexpr int kStages = 4;
constexpr int kOutputs = 64;  // a thread's share of 64 x 128 outputs
constexpr int kConsumers = 2;
constexpr int kBlockThreads = 128 * (1 + kConsumers);
constexpr int kRasterRows = 16;  // tiles down before the next column, so that operands are met again in the L2

struct Stage {
  std::int8_t x[kTile * kTile];
  std::uint8_t codes[kTile * kTile];
  int2 parameters[kTile];      // s, z of each column
  std::int32_t x_sums[kTile];  // X of each token
};
static_assert(sizeof(Stage) % 16 == 0);
constexpr std::uint32_t kStageBytes = 2 * kTile * kTile + kTile * (sizeof(int2) + sizeof(std::int32_t));
static_assert(sizeof(Stage) == kStageBytes);

/// Shared memory of a block. Operand tiles come first and 1024-byte aligned: the swizzle counts from there.
struct Shared {
  std::int8_t x[kStages][kTile * kTile];
  std::uint8_t codes[kStages][kTile * kTile];
  int2 parameters[kStages][kTile];
  std::int32_t x_sums[kStages][kTile];
  std::uint64_t full[kStages], empty[kStages];
};
constexpr std::size_t kSharedBytes = sizeof(Shared) + 1024;

enum class Variant { kNone, kExactS64, kExactF64, kPartialS32, kPartialS32Carry, kSplitS32 };

/// A thread's running sums, in the way of each variant. add() takes one group's D.
template <Variant kVariant>
struct Sums;

template <>
struct Sums<Variant::kExactS64> {
  using Multiplier = std::int32_t;
  std::int64_t sum[kOutputs];
  __device__ void clear(int i) { sum[i] = 0; }
  __device__ static Multiplier multiplier(std::int32_t s) { return s; }
  __device__ void add(int i, Multiplier s, std::int32_t d) { sum[i] += static_cast<std::int64_t>(s) * d; }
  __device__ void carry(int) {}
  __device__ std::int64_t total(int i) const { return sum[i]; }
};

/// Binary64 holds every integer below 2^53, so 48-bit sums stay exact. 0x43300000'00000000 is 2^52: an unsigned 32-bit
/// value put into its low word is that much more, which converts without the slow conversion instruction.
template <>
struct Sums<Variant::kExactF64> {
  using Multiplier = double;
  double sum[kOutputs];
  __device__ void clear(int i) { sum[i] = 0; }
  __device__ static Multiplier multiplier(std::int32_t s) {
    return __hiloint2double(0x43300000, s) - 4503599627370496.0;
  }
  __device__ void add(int i, Multiplier s, std::int32_t d) {
    const double exact = __hiloint2double(0x43300000, d ^ static_cast<std::int32_t>(0x80000000U)) - 4503601774854144.0;
    sum[i] = fma(s, exact, sum[i]);
  }
  __device__ void carry(int) {}
  __device__ std::int64_t total(int i) const { return static_cast<std::int64_t>(sum[i]); }
};

template <>
struct Sums<Variant::kPartialS32> {
  using Multiplier = std::int32_t;
  std::int32_t part[kOutputs];
  __device__ void clear(int i) { part[i] = 0; }
  __device__ static Multiplier multiplier(std::int32_t s) { return s; }
  __device__ void add(int i, Multiplier s, std::int32_t d) { part[i] += s * d; }
  __device__ void carry(int) {}
  __device__ std::int64_t total(int i) const { return part[i]; }
};

template <>
struct Sums<Variant::kPartialS32Carry> {
  using Multiplier = std::int32_t;
  std::int32_t part[kOutputs], high[kOutputs];
  __device__ void clear(int i) { part[i] = high[i] = 0; }
  __device__ static Multiplier multiplier(std::int32_t s) { return s; }
  __device__ void add(int i, Multiplier s, std::int32_t d) { part[i] += s * d; }
  __device__ void carry(int i) {
    high[i] += part[i] >> 16;
    part[i] &= 0xffff;
  }
  __device__ std::int64_t total(int i) const { return static_cast<std::int64_t>(high[i]) * 65536 + part[i]; }
};

/// The bytes of s apart: two int32 sums under the check of s < 2^8, for any s.
template <>
struct Sums<Variant::kSplitS32> {
  using Multiplier = int2;
  std::int32_t low[kOutputs], high[kOutputs];
  __device__ void clear(int i) { low[i] = high[i] = 0; }
  __device__ static Multiplier multiplier(std::int32_t s) { return make_int2(s & 255, s >> 8); }
  __device__ void add(int i, Multiplier s, std::int32_t d) {
    low[i] += s.x * d;
    high[i] += s.y * d;
  }
  __device__ void carry(int) {}
  __device__ std::int64_t total(int i) const { return static_cast<std::int64_t>(high[i]) * 256 + low[i]; }
};

/// One group into the sums: D = P - z X for the thread's 2 rows x 32 columns.
template <Variant kVariant, bool kOffset>
__device__ void add_group(Sums<kVariant>& sums, const std::int32_t (&p)[kOutputs], const int2* parameters,
                          const std::int32_t* x_sums, int row, int column) {
  const std::int32_t x[2] = {kOffset ? x_sums[row] : 0, kOffset ? x_sums[row + 8] : 0};
#pragma unroll
  for (int j = 0; j < kOutputs / 4; ++j) {
    const int4 pair = *reinterpret_cast<const int4*>(parameters + 8 * j + column);  // s, z, s, z of two columns
    const auto s0 = Sums<kVariant>::multiplier(pair.x), s1 = Sums<kVariant>::multiplier(pair.z);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int at = 4 * j + 2 * r;
      sums.add(at, s0, kOffset ? p[at] - pair.y * x[r] : p[at]);
      sums.add(at + 1, s1, kOffset ? p[at + 1] - pair.w * x[r] : p[at + 1]);
    }
  }
}

struct ProductArguments {
  int m, n, k;
  int groups_per_carry;
  const int2* parameters;      // [groups, N]: s, z
  const std::int32_t* x_sums;  // [groups, M]
  const std::uint16_t* mu;     // [N]
  const std::uint8_t* sigma;   // [N]
  std::int8_t* y;              // [M, N]
  std::int64_t* acc;           // [M, N], or null
};

struct TilePosition {
  int m0, n0;
};
__device__ TilePosition tile_position(int tile, int rows, int columns) {
  const int band = tile / (kRasterRows * columns), first = band * kRasterRows;
  const int height = min(kRasterRows, rows - first), in_band = tile - first * columns;
  return {(first + in_band % height) * kTile, in_band / height * kTile};
}

__device__ void write_pair(const ProductArguments& a, std::int64_t row, int column, std::int64_t first,
                           std::int64_t second) {
  const std::int64_t at = row * a.n + column;
  if (a.acc != nullptr) {
    a.acc[at] = first;
    a.acc[at + 1] = second;
  }
  char2 y;
  y.x = static_cast<signed char>(numerics::requantise(first, a.mu[column], a.sigma[column], 8));
  y.y = static_cast<signed char>(numerics::requantise(second, a.mu[column + 1], a.sigma[column + 1], 8));
  *reinterpret_cast<char2*>(a.y + at) = y;
}

/// One warpgroup (its first thread) feeds the stages by the copy engine; two compute 64 x 128 outputs each.
template <Variant kVariant, bool kOffset>
__global__ void __launch_bounds__(kBlockThreads, 1)
    product_kernel(const __grid_constant__ CUtensorMap map_x, const __grid_constant__ CUtensorMap map_codes,
                   const __grid_constant__ ProductArguments a) {
  extern __shared__ std::uint8_t raw[];
  Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<std::uintptr_t>(raw) + 1023) / 1024 * 1024);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      hopper::barrier_init(&shared.full[stage], 1);
      hopper::barrier_init(&shared.empty[stage], kConsumers * 4);  // one arrival a warp
    }
    hopper::barrier_init_done();
  }
  __syncthreads();

  const int rows = a.m / kTile, columns = a.n / kTile, groups = a.k / kTile;
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  int stage = 0;
  std::uint32_t parity = 0;
  const auto advance = [&] {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  };

  if (warpgroup == 0) {
    hopper::keep_registers<40>();
    if (threadIdx.x != 0) return;
    for (int tile = static_cast<int>(blockIdx.x); tile < rows * columns; tile += static_cast<int>(gridDim.x)) {
      const TilePosition at = tile_position(tile, rows, columns);
      for (int group = 0; group < groups; ++group) {
        hopper::barrier_wait(&shared.empty[stage], parity ^ 1);
        std::uint64_t* full = &shared.full[stage];
        hopper::barrier_expect(full, kStageBytes);
        hopper::copy_box(shared.x[stage], &map_x, group * kTile, at.m0, full);
        hopper::copy_box(shared.codes[stage], &map_codes, group * kTile, at.n0, full);
        hopper::copy_bytes(shared.parameters[stage], a.parameters + std::int64_t{group} * a.n + at.n0,
                           kTile * sizeof(int2), full);
        hopper::copy_bytes(shared.x_sums[stage], a.x_sums + std::int64_t{group} * a.m + at.m0,
                           kTile * sizeof(std::int32_t), full);
        advance();
      }
    }
    return;
  }

  hopper::take_registers<232>();
  const int lane = static_cast<int>(threadIdx.x) % 128, half = (warpgroup - 1) * 64;
  const int row = half + lane / 32 * 16 + lane % 32 / 4, column = lane % 4 * 2;
  std::int32_t p[kOutputs];
  for (int tile = static_cast<int>(blockIdx.x); tile < rows * columns; tile += static_cast<int>(gridDim.x)) {
    const TilePosition at = tile_position(tile, rows, columns);
    if constexpr (kVariant == Variant::kNone) {
      int previous = 0;
      for (int group = 0; group < groups; ++group) {
        hopper::barrier_wait(&shared.full[stage], parity);
        hopper::pin(p);
        hopper::wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; ++step)
          hopper::wgmma_m64n128k32_s8_u8(p, hopper::operand_descriptor(shared.x[stage] + half * kTile) + step * 2,
                                         hopper::operand_descriptor(shared.codes[stage]) + step * 2, group + step > 0);
        hopper::wgmma_commit();
        hopper::wgmma_wait<1>();  // the step before this one has read its operands
        if (group > 0) hopper::warp_arrive(&shared.empty[previous]);
        previous = stage;
        advance();
      }
      hopper::wgmma_wait<0>();
      hopper::pin(p);
      hopper::warp_arrive(&shared.empty[previous]);
#pragma unroll
      for (int i = 0; i < kOutputs; i += 2)
        write_pair(a, at.m0 + row + i / 2 % 2 * 8, at.n0 + column + i / 4 * 8, p[i], p[i + 1]);
    } else {
      Sums<kVariant> sums;
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) sums.clear(i);
      int until_carry = a.groups_per_carry;
      for (int group = 0; group < groups; ++group) {
        hopper::barrier_wait(&shared.full[stage], parity);
        hopper::pin(p);
        hopper::wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; ++step)
          hopper::wgmma_m64n128k32_s8_u8(p, hopper::operand_descriptor(shared.x[stage] + half * kTile) + step * 2,
                                         hopper::operand_descriptor(shared.codes[stage]) + step * 2, step > 0);
        hopper::wgmma_commit();
        hopper::wgmma_wait<0>();
        hopper::pin(p);
        add_group<kVariant, kOffset>(sums, p, shared.parameters[stage], shared.x_sums[stage], row, column);
        hopper::warp_arrive(&shared.empty[stage]);
        if (kVariant == Variant::kPartialS32Carry && --until_carry == 0) {
#pragma unroll
          for (int i = 0; i < kOutputs; ++i) sums.carry(i);
          until_carry = a.groups_per_carry;
        }
        advance();
      }
#pragma unroll
      for (int i = 0; i < kOutputs; i += 2)
        write_pair(a, at.m0 + row + i / 2 % 2 * 8, at.n0 + column + i / 4 * 8, sums.total(i), sums.total(i + 1));
    }
  }
}

/// The same epilogue with no product: what the integer units alone allow. P stays in registers, opaque to the compiler.
template <Variant kVariant, bool kOffset>
__global__ void __launch_bounds__(128 * kConsumers, 1)
    epilogue_alone_kernel(int groups, int groups_per_carry, const int2* __restrict__ parameters,
                          const std::int32_t* __restrict__ x_sums, std::int64_t* __restrict__ out) {
  __shared__ int2 shared_parameters[kStages][kTile];
  __shared__ std::int32_t shared_x_sums[kStages][kTile];
  for (int i = static_cast<int>(threadIdx.x); i < kStages * kTile; i += 128 * kConsumers) {
    shared_parameters[i / kTile][i % kTile] = parameters[i];
    shared_x_sums[i / kTile][i % kTile] = x_sums[i];
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % 128, half = static_cast<int>(threadIdx.x) / 128 * 64;
  const int row = half + lane / 32 * 16 + lane % 32 / 4, column = lane % 4 * 2;
  std::int32_t p[kOutputs];
  Sums<kVariant> sums;
#pragma unroll
  for (int i = 0; i < kOutputs; ++i) {
    p[i] = static_cast<std::int32_t>(threadIdx.x) * 37 + i;
    sums.clear(i);
  }
  int until_carry = groups_per_carry;
#pragma unroll 1
  for (int group = 0; group < groups; ++group) {
    hopper::pin(p);
    add_group<kVariant, kOffset>(sums, p, shared_parameters[group % kStages], shared_x_sums[group % kStages], row,
                                 column);
    if (kVariant == Variant::kPartialS32Carry && --until_carry == 0) {
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) sums.carry(i);
      until_carry = groups_per_carry;
    }
  }
  std::int64_t total = 0;
#pragma unroll
  for (int i = 0; i < kOutputs; ++i) total ^= sums.total(i);
  out[std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x] = total;
}

__device__ std::uint64_t mix(std::uint64_t v) {  // splitmix64's finaliser
  v += 0x9e3779b97f4a7c15ULL;
  v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9ULL;
  v = (v ^ (v >> 27)) * 0x94d049bb133111ebULL;
  return v ^ (v >> 31);
}

/// out[i] = low .. low + span - 1, uniform.
template <class T>
__global__ void fill_kernel(std::int64_t elements, std::uint64_t seed, std::int32_t low, std::uint32_t span, T* out) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < elements; i += stride)
    out[i] = static_cast<T>(low + static_cast<std::int32_t>(mix(seed ^ mix(static_cast<std::uint64_t>(i))) % span));
}

/// parameters[g][n] = {s[n][g], z[n][g]}.
__global__ void pair_parameters_kernel(std::int64_t n, std::int64_t groups, const std::uint16_t* s,
                                       const std::int16_t* z, int2* parameters) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n * groups; i += stride) {
    const std::int64_t at = i % n * groups + i / n;
    parameters[i] = make_int2(s[at], z[at]);
  }
}

/// x_sums[g][m] = sum of the token's group; one warp each.
__global__ void activation_sums_kernel(std::int64_t m, std::int64_t k, const std::int8_t* x, std::int32_t* x_sums) {
  const std::int64_t groups = k / kTile, item = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
  if (item >= m * groups) return;
  const std::int64_t token = item / groups, group = item % groups;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int32_t word = *reinterpret_cast<const std::int32_t*>(x + token * k + group * kTile + lane * 4);
  const std::int32_t sum = __reduce_add_sync(0xffffffffU, __dp4a(word, 0x01010101, 0));
  if (lane == 0) x_sums[group * m + token] = sum;
}

__global__ void widen_kernel(std::int64_t elements, const std::int8_t* x, std::int16_t* wide) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < elements; i += stride) wide[i] = x[i];
}

template <class T>
__global__ void count_differences_kernel(std::int64_t elements, const T* got, const std::int64_t* expected,
                                         unsigned long long* differences) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  unsigned long long found = 0;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < elements; i += stride)
    found += got[i] != expected[i] ? 1 : 0;
  if (found != 0) atomicAdd(differences, found);
}

void must(cudaError_t error, const char* doing) { require(to_status(error, doing)); }
void must_launch(const char* kernel) { require(launched(kernel)); }

template <class T>
void fill(const Stream& stream, DeviceBuffer<T>& to, std::int64_t elements, std::uint64_t seed, int low, int high) {
  fill_kernel<<<stride_blocks(elements), kThreads, 0, stream.handle()>>>(
      elements, seed, low, static_cast<std::uint32_t>(high - low + 1), to.data());
  must_launch("fill_kernel");
}

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                 const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                 CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

EncodeTiled find_encode_tiled() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  must(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
       "cudaGetDriverEntryPointByVersion");
  if (found != cudaDriverEntryPointSuccess) throw std::runtime_error("the driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<EncodeTiled>(function);
}

/// Boxes of 128 rows x 128 bytes of a [rows, k] byte matrix, in the 128-byte swizzle.
CUtensorMap byte_matrix_map(EncodeTiled encode, void* data, std::int64_t rows, std::int64_t k) {
  CUtensorMap map;
  const cuuint64_t extents[2] = {static_cast<cuuint64_t>(k), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(k)};
  const cuuint32_t box[2] = {kTile, kTile}, element[2] = {1, 1};
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, data, extents, strides, box, element,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) throw std::runtime_error("cuTensorMapEncodeTiled: error " + std::to_string(result));
  return map;
}

constexpr int kCodeTop = 15;

/// One set of operands.
struct Operands {
  Operands(const Stream& stream, const EpilogueProblem& p, EncodeTiled encode)
      : x(stream, static_cast<std::size_t>(p.m * p.k)),
        codes(stream, static_cast<std::size_t>(p.n * p.k)),
        full_range(stream, static_cast<std::size_t>(p.n * p.k)),
        s(stream, static_cast<std::size_t>(p.n * p.k / kTile)),
        z(stream, static_cast<std::size_t>(p.n * p.k / kTile)),
        parameters(stream, static_cast<std::size_t>(p.n * p.k / kTile)),
        x_sums(stream, static_cast<std::size_t>(p.m * p.k / kTile)),
        y(stream, static_cast<std::size_t>(p.m * p.n)),
        map_x(byte_matrix_map(encode, x.data(), p.m, p.k)),
        map_codes(byte_matrix_map(encode, codes.data(), p.n, p.k)) {}

  void sum_activations(const Stream& stream, const EpilogueProblem& p) {
    const std::int64_t threads = p.m * (p.k / kTile) * 32;
    activation_sums_kernel<<<static_cast<unsigned>((threads + kThreads - 1) / kThreads), kThreads, 0,
                             stream.handle()>>>(p.m, p.k, x.data(), x_sums.data());
    must_launch("activation_sums_kernel");
  }

  /// Multipliers and offsets of every group drawn anew, up to the tops given.
  void draw_parameters(const Stream& stream, const EpilogueProblem& p, std::uint64_t seed, int s_low, int s_top,
                       int z_top) {
    const std::int64_t count = p.n * p.k / kTile;
    fill(stream, s, count, seed + 1, s_low, s_top);
    fill(stream, z, count, seed + 2, 0, z_top);
    pair_parameters_kernel<<<stride_blocks(count), kThreads, 0, stream.handle()>>>(p.n, p.k / kTile, s.data(), z.data(),
                                                                                   parameters.data());
    must_launch("pair_parameters_kernel");
  }

  void draw(const Stream& stream, const EpilogueProblem& p, std::uint64_t seed) {
    fill(stream, x, p.m * p.k, seed + 3, -128, 127);
    fill(stream, codes, p.n * p.k, seed + 4, 0, kCodeTop);
    fill(stream, full_range, p.n * p.k, seed + 5, -128, 127);
    draw_parameters(stream, p, seed, 1, 255, kCodeTop);
    sum_activations(stream, p);
  }

  DeviceBuffer<std::int8_t> x;
  DeviceBuffer<std::uint8_t> codes;
  DeviceBuffer<std::int8_t> full_range;  // weights for cuBLASLt alone
  DeviceBuffer<std::uint16_t> s;
  DeviceBuffer<std::int16_t> z;
  DeviceBuffer<int2> parameters;
  DeviceBuffer<std::int32_t> x_sums;
  DeviceBuffer<std::int8_t> y;
  CUtensorMap map_x, map_codes;
};

struct Event {
  Event() { must(cudaEventCreate(&handle), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(handle); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t handle = nullptr;
};

/// The GPU's time of one piece of queued work, to be read once the stream has been waited for.
class Timed {
 public:
  template <class Work>
  Timed(const Stream& stream, const Work& work) {
    must(cudaEventRecord(begin_.handle, stream.handle()), "cudaEventRecord");
    work();
    must(cudaEventRecord(end_.handle, stream.handle()), "cudaEventRecord");
  }
  double milliseconds() const {
    float elapsed = 0;
    must(cudaEventElapsedTime(&elapsed, begin_.handle, end_.handle), "cudaEventElapsedTime");
    return elapsed;
  }

 private:
  Event begin_, end_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void summarise(EpilogueTiming& timing, const std::vector<double>& times, double operations) {
  timing.median_ms = median(times);
  timing.fastest_ms = *std::min_element(times.begin(), times.end());
  timing.slowest_ms = *std::max_element(times.begin(), times.end());
  timing.tops = operations / (timing.median_ms * 1e-3) * 1e-12;
}

/// One way to compute the product, and one way to measure its epilogue alone.
struct Contender {
  EpilogueTiming timing, alone;
  std::function<void(Operands&, std::int64_t* acc)> launch;
  std::function<void()> launch_alone;  // empty: no epilogue
  bool takes_wide_s = false;           // any 16-bit s
  int z_top = kCodeTop;                // 0: built without the offset
  bool takes_parameters = true;        // false: s = 1
};

class Benchmark {
 public:
  Benchmark(const EpilogueProblem& problem, std::uint64_t seed)
      : problem_(problem), seed_(seed), encode_(find_encode_tiled()) {
    cudaDeviceProp properties{};
    must(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    multiprocessors_ = properties.multiProcessorCount;
    const double set_bytes = static_cast<double>((problem.m + problem.n) * problem.k);
    sets_wanted_ = std::clamp(static_cast<int>(4.0 * properties.l2CacheSize / set_bytes) + 1, 2, 32);
    mu_ = std::make_unique<DeviceBuffer<std::uint16_t>>(stream_, static_cast<std::size_t>(problem.n));
    sigma_ = std::make_unique<DeviceBuffer<std::uint8_t>>(stream_, static_cast<std::size_t>(problem.n));
    fill(stream_, *mu_, problem.n, seed + 10, 20000, 65535);
    fill(stream_, *sigma_, problem.n, seed + 11, 34, 36);
    for (int i = 0; i < sets_wanted_; ++i) {
      sets_.push_back(std::make_unique<Operands>(stream_, problem, encode_));
      sets_.back()->draw(stream_, problem, seed + 100 * static_cast<std::uint64_t>(i + 1));
    }
    acc_ = std::make_unique<DeviceBuffer<std::int64_t>>(stream_, outputs());
    alone_out_ = std::make_unique<DeviceBuffer<std::int64_t>>(
        stream_, static_cast<std::size_t>(multiprocessors_ * 128 * kConsumers));
    stream_.wait();
  }

  EpilogueReport run(int rounds, const std::function<void(const std::string&)>& progress) {
    EpilogueReport report;
    report.problem = problem_;
    report.rounds = rounds;
    report.operand_sets = sets_wanted_;
    report.operand_mib = static_cast<double>((problem_.m + problem_.n) * problem_.k) * sets_wanted_ / (1024.0 * 1024);
    report.groups_per_widening = groups_per_widening();
    make_contenders();

    progress("comparing every variant with the exact kernel");
    for (Contender& c : contenders_) verify(c);

    CublasLt library(problem_.m, problem_.n, problem_.k, stream_.handle());
    report.cublaslt = library.description();
    DeviceBuffer<std::int32_t> library_out(stream_, library.is_available() ? outputs() : 1);
    if (library.is_available()) {
      library.choose_algorithm(sets_[0]->x.data(), sets_[0]->codes.data(), library_out.data());
      library.run(sets_[0]->x.data(), sets_[0]->codes.data(), library_out.data());
    }
    EpilogueTiming library_timing;
    library_timing.name = "cublaslt_s8_s8_s32";
    library_timing.what = "cuBLASLt: int8 x int8 -> int32 written out, no group epilogue";
    if (library.is_available()) {
      library_timing.is_compared = true;
      reference(*sets_[0], 0, false);
      library_timing.mismatches = differences(library_out.data());
    }

    progress("timing");
    struct Series {
      std::function<void()> launch;
      std::vector<double> times;
    };
    std::vector<Series> products(contenders_.size()), alone(contenders_.size());
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      products[i].launch = [this, i] { contenders_[i].launch(next_set(), nullptr); };
      alone[i].launch = contenders_[i].launch_alone;
    }
    Series library_series, full_range_series, sums_series;
    if (library.is_available()) {
      library_series.launch = [&] {
        Operands& set = next_set();
        library.run(set.x.data(), set.codes.data(), library_out.data());
      };
      full_range_series.launch = [&] {
        Operands& set = next_set();
        library.run(set.x.data(), set.full_range.data(), library_out.data());
      };
    }
    sums_series.launch = [this] { next_set().sum_activations(stream_, problem_); };
    std::vector<Series*> order;
    for (Series& series : products) order.push_back(&series);
    order.insert(order.end(), {&library_series, &full_range_series, &sums_series});
    for (Series& series : alone) order.push_back(&series);
    constexpr int kWarmUp = 5;
    for (int round = 0; round < kWarmUp + rounds; ++round) {
      // The whole round is queued behind a product that nobody times, so that no launch waits for the CPU.
      contenders_[0].launch(next_set(), nullptr);
      std::vector<std::unique_ptr<Timed>> timed;
      for (Series* series : order)
        timed.push_back(series->launch ? std::make_unique<Timed>(stream_, series->launch) : nullptr);
      stream_.wait();
      if (round < kWarmUp) continue;
      for (std::size_t i = 0; i < order.size(); ++i)
        if (timed[i]) order[i]->times.push_back(timed[i]->milliseconds());
    }
    const double operations =
        2.0 * static_cast<double>(problem_.m) * static_cast<double>(problem_.n) * static_cast<double>(problem_.k);
    const double alone_operations = 2.0 * kTile * kTile * kTile * kAloneGroups * multiprocessors_;
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      summarise(contenders_[i].timing, products[i].times, operations);
      report.products.push_back(contenders_[i].timing);
      if (!contenders_[i].launch_alone) continue;
      summarise(contenders_[i].alone, alone[i].times, alone_operations);
      report.alone.push_back(contenders_[i].alone);
    }
    if (library.is_available()) {
      summarise(library_timing, library_series.times, operations);
      report.products.push_back(library_timing);
      EpilogueTiming full_range;
      full_range.name = "cublaslt_s8_s8_s32_full_range";
      full_range.what = "cuBLASLt with weights of -128..127: more bits toggle, so more power and a lower clock";
      summarise(full_range, full_range_series.times, operations);
      report.products.push_back(full_range);
    }
    report.activation_sums_ms = median(sums_series.times);
    report.copy_tb_per_s = copy_rate();
    return report;
  }

 private:
  static constexpr int kAloneGroups = 4096;

  std::size_t outputs() const { return static_cast<std::size_t>(problem_.m * problem_.n); }
  Operands& next_set() { return *sets_[turn_++ % sets_.size()]; }

  /// |D| <= 128 * 128 * 15 and s <= 255.
  static constexpr std::int64_t kLargestTerm = std::int64_t{kTile} * 128 * kCodeTop * 255;
  std::int64_t groups_per_widening() const { return 2147483647 / kLargestTerm; }
  /// What a carry leaves behind is below 2^16.
  static constexpr int kGroupsPerCarry = static_cast<int>((2147483647 - 65535) / kLargestTerm);

  template <Variant kVariant, bool kOffset>
  void add(const char* name, const char* what, bool takes_wide_s) {
    Contender c;
    c.timing.name = name;
    c.timing.what = what;
    c.alone = c.timing;
    c.timing.is_compared = true;
    c.takes_wide_s = takes_wide_s;
    c.z_top = kOffset ? kCodeTop : 0;
    c.takes_parameters = kVariant != Variant::kNone;
    must(cudaFuncSetAttribute(product_kernel<kVariant, kOffset>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(kSharedBytes)),
         "cudaFuncSetAttribute");
    c.launch = [this](Operands& set, std::int64_t* acc) {
      const ProductArguments arguments{static_cast<int>(problem_.m),
                                       static_cast<int>(problem_.n),
                                       static_cast<int>(problem_.k),
                                       kGroupsPerCarry,
                                       set.parameters.data(),
                                       set.x_sums.data(),
                                       mu_->data(),
                                       sigma_->data(),
                                       set.y.data(),
                                       acc};
      product_kernel<kVariant, kOffset>
          <<<static_cast<unsigned>(multiprocessors_), kBlockThreads, kSharedBytes, stream_.handle()>>>(
              set.map_x, set.map_codes, arguments);
      must_launch("product_kernel");
    };
    if constexpr (kVariant != Variant::kNone)
      c.launch_alone = [this] {
        epilogue_alone_kernel<kVariant, kOffset>
            <<<static_cast<unsigned>(multiprocessors_), 128 * kConsumers, 0, stream_.handle()>>>(
                kAloneGroups, kGroupsPerCarry, sets_[0]->parameters.data(), sets_[0]->x_sums.data(),
                alone_out_->data());
        must_launch("epilogue_alone_kernel");
      };
    contenders_.push_back(std::move(c));
  }

  void make_contenders() {
    add<Variant::kNone, false>("none", "no group epilogue: int32 over all of K, one scale a column at the end", false);
    add<Variant::kExactS64, true>("exact_s64", "sum64 += s * (P - z X), any s", true);
    add<Variant::kExactS64, false>("exact_s64_no_offset", "sum64 += s * P, any s; z taken off the weights beforehand",
                                   true);
    add<Variant::kExactF64, true>("exact_f64", "the same in binary64, exact below 2^53, any s", true);
    add<Variant::kExactF64, false>("exact_f64_no_offset", "the same in binary64 without the offset", true);
    add<Variant::kPartialS32Carry, true>(
        "partial_s32", "checked: sum32 += s * (P - z X), s < 2^8, carried out before it can overflow", false);
    add<Variant::kPartialS32Carry, false>("partial_s32_no_offset", "checked, without the offset", false);
    if (problem_.k / kTile <= groups_per_widening()) {
      add<Variant::kPartialS32, true>("partial_s32_whole_k",
                                      "checked: all groups of this K fit int32, widened once at the end", false);
      add<Variant::kPartialS32, false>("partial_s32_whole_k_no_offset", "checked, whole K, without the offset", false);
      add<Variant::kSplitS32, true>("split_s32_whole_k", "checked for any s: the two bytes of s summed apart in int32",
                                    true);
      add<Variant::kSplitS32, false>("split_s32_whole_k_no_offset", "split, without the offset", true);
    }
  }

  /// expected_ = the exact kernel's sums of a set, with s and z replaced where a contender does not use them.
  void reference(Operands& set, int z_top, bool takes_parameters) {
    if (!expected_) {
      expected_ = std::make_unique<DeviceBuffer<std::int64_t>>(stream_, outputs());
      wide_x_ =
          std::make_unique<DeviceBuffer<std::int16_t>>(stream_, static_cast<std::size_t>(problem_.m * problem_.k));
    }
    const std::int64_t count = problem_.n * (problem_.k / kTile);
    widen_kernel<<<stride_blocks(problem_.m * problem_.k), kThreads, 0, stream_.handle()>>>(
        problem_.m * problem_.k, set.x.data(), wide_x_->data());
    must_launch("widen_kernel");
    DeviceBuffer<std::uint16_t> ones(stream_, static_cast<std::size_t>(count));
    DeviceBuffer<std::int16_t> zeros(stream_, static_cast<std::size_t>(count));
    fill(stream_, ones, count, 0, 1, 1);
    fill(stream_, zeros, count, 0, 0, 0);
    MatmulShape shape;
    shape.m = problem_.m;
    shape.n = problem_.n;
    shape.k = problem_.k;
    shape.group_size = kTile;
    require(matmul_s16_u8_s64(shape, wide_x_->data(), set.codes.data(), z_top == 0 ? zeros.data() : set.z.data(),
                              takes_parameters ? set.s.data() : ones.data(), expected_->data(), stream_.handle()));
  }

  template <class T>
  std::uint64_t differences(const T* got) {
    const DeviceBuffer<unsigned long long> count(stream_, std::vector<unsigned long long>{0});
    count_differences_kernel<<<stride_blocks(static_cast<std::int64_t>(outputs())), kThreads, 0, stream_.handle()>>>(
        static_cast<std::int64_t>(outputs()), got, expected_->data(), const_cast<unsigned long long*>(count.data()));
    must_launch("count_differences_kernel");
    return count.read()[0];
  }

  void compare(Contender& c, Operands& set) {
    reference(set, c.z_top, c.takes_parameters);
    must(cudaMemsetAsync(acc_->data(), 0x5a, outputs() * sizeof(std::int64_t), stream_.handle()), "cudaMemsetAsync");
    c.launch(set, acc_->data());
    c.timing.mismatches += differences(acc_->data());
  }

  void verify(Contender& c) {
    compare(c, *sets_[0]);
    if (!c.takes_wide_s) return;
    sets_[1]->draw_parameters(stream_, problem_, seed_ + 7, 60000, 65535, kCodeTop);
    compare(c, *sets_[1]);
    sets_[1]->draw_parameters(stream_, problem_, seed_ + 8, 1, 255, kCodeTop);
  }

  double copy_rate() {
    constexpr std::size_t kBytes = std::size_t{1} << 31;
    DeviceBuffer<std::uint8_t> from(stream_, kBytes), to(stream_, kBytes);
    must(cudaMemsetAsync(from.data(), 0x35, kBytes, stream_.handle()), "cudaMemsetAsync");
    std::vector<double> times;
    for (int i = 0; i < 12; ++i) {
      const Timed timed(stream_, [&] {
        must(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, stream_.handle()),
             "cudaMemcpyAsync");
      });
      stream_.wait();
      if (i >= 2) times.push_back(timed.milliseconds());
    }
    return 2.0 * static_cast<double>(kBytes) / (median(times) * 1e-3) * 1e-12;
  }

  EpilogueProblem problem_;
  std::uint64_t seed_;
  EncodeTiled encode_;
  Stream stream_;
  int multiprocessors_ = 0, sets_wanted_ = 0;
  std::size_t turn_ = 0;
  std::unique_ptr<DeviceBuffer<std::uint16_t>> mu_;
  std::unique_ptr<DeviceBuffer<std::uint8_t>> sigma_;
  std::vector<std::unique_ptr<Operands>> sets_;
  std::unique_ptr<DeviceBuffer<std::int64_t>> acc_, expected_, alone_out_;
  std::unique_ptr<DeviceBuffer<std::int16_t>> wide_x_;
  std::vector<Contender> contenders_;
};

}  // namespace

std::string epilogue_benchmark_obstacle() {
  if (!availability().is_available) return availability().reason;
  const DeviceFacts facts = device_facts();
  if (facts.compute_capability != "9.0")
    return "compute capability " + facts.compute_capability + ": the benchmark's wgmma kernels need 9.0";
  return "";
}

EpilogueReport measure_group_epilogue(const EpilogueProblem& problem, int rounds, std::uint64_t seed,
                                      const std::function<void(const std::string&)>& progress) {
  Checker check("measure_group_epilogue");
  check.multiple_of("m", problem.m, kTile);
  check.multiple_of("n", problem.n, kTile);
  check.multiple_of("k", problem.k, kTile);
  check.in_range("rounds", rounds, 1, 100000);
  require(check.status());
  return Benchmark(problem, seed).run(rounds, progress);
}

}  // namespace moesaic::cuda
