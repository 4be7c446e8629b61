#include "reference/numerics/matmul_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace moesaic::numerics {

namespace {

void accumulate_baseline(const std::int16_t* w, const std::int16_t* x, std::int64_t pairs, std::int64_t group_pairs,
                         std::int64_t chunk_pairs, const std::uint16_t* s, std::int64_t* acc) {
  std::int64_t at = 0;
  for (std::int64_t g = 0; at < pairs; ++g) {
    const std::int64_t end = pairs - at < group_pairs ? pairs : at + group_pairs;
    while (at < end) {
      const std::int64_t stop = end - at < chunk_pairs ? end : at + chunk_pairs;
      std::int32_t sums[kTokenLanes] = {};
      for (; at < stop; ++at) {
        const std::int16_t* from = x + 2 * kTokenLanes * at;
        for (int t = 0; t < kTokenLanes; ++t) sums[t] += w[2 * at] * from[2 * t] + w[2 * at + 1] * from[2 * t + 1];
      }
      for (int t = 0; t < kTokenLanes; ++t) acc[t] += std::int64_t{s[g]} * sums[t];
    }
  }
}

#if defined(__x86_64__)

// Two adjacent int16 weights as the 32 bits that a broadcast takes.
inline std::int32_t pair_of(const std::int16_t* w) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::uint16_t>(w[0])) |
                                   static_cast<std::uint32_t>(static_cast<std::uint16_t>(w[1])) << 16);
}

// The signed 32 x 32 -> 64 multiply reads the low half of each 64-bit lane: even tokens as they stand, odd tokens after
// a shift. So even and odd tokens have accumulators of their own until the end. s is below 2^16, hence positive there.

[[gnu::target("avx2")]] void accumulate_avx2(const std::int16_t* w, const std::int16_t* x, std::int64_t pairs,
                                             std::int64_t group_pairs, std::int64_t chunk_pairs, const std::uint16_t* s,
                                             std::int64_t* acc) {
  constexpr int kVectors = kTokenLanes / 8;
  __m256i even[kVectors], odd[kVectors];
  for (int i = 0; i < kVectors; ++i) even[i] = odd[i] = _mm256_setzero_si256();
  std::int64_t at = 0;
  for (std::int64_t g = 0; at < pairs; ++g) {
    const __m256i scale = _mm256_set1_epi64x(s[g]);
    const std::int64_t end = pairs - at < group_pairs ? pairs : at + group_pairs;
    while (at < end) {
      const std::int64_t stop = end - at < chunk_pairs ? end : at + chunk_pairs;
      __m256i sums[kVectors];
      for (auto& sum : sums) sum = _mm256_setzero_si256();
      for (; at < stop; ++at) {
        const __m256i weights = _mm256_set1_epi32(pair_of(w + 2 * at));
        const auto* from = reinterpret_cast<const __m256i*>(x + 2 * kTokenLanes * at);
        for (int i = 0; i < kVectors; ++i)
          sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(_mm256_loadu_si256(from + i), weights));
      }
      for (int i = 0; i < kVectors; ++i) {
        even[i] = _mm256_add_epi64(even[i], _mm256_mul_epi32(sums[i], scale));
        odd[i] = _mm256_add_epi64(odd[i], _mm256_mul_epi32(_mm256_srli_epi64(sums[i], 32), scale));
      }
    }
  }
  for (int i = 0; i < kVectors; ++i) {
    std::int64_t lanes[2][4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes[0]), even[i]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes[1]), odd[i]);
    for (int t = 0; t < 8; ++t) acc[8 * i + t] += lanes[t % 2][t / 2];
  }
}

[[gnu::target("avx512f,avx512bw")]] void accumulate_avx512(const std::int16_t* w, const std::int16_t* x,
                                                           std::int64_t pairs, std::int64_t group_pairs,
                                                           std::int64_t chunk_pairs, const std::uint16_t* s,
                                                           std::int64_t* acc) {
  constexpr int kVectors = kTokenLanes / 16;
  constexpr __mmask8 kAll = 0xff;  // GCC 12's unmasked forms read an undefined register, which it then warns of
  __m512i even[kVectors], odd[kVectors];
  for (int i = 0; i < kVectors; ++i) even[i] = odd[i] = _mm512_setzero_si512();
  std::int64_t at = 0;
  for (std::int64_t g = 0; at < pairs; ++g) {
    const __m512i scale = _mm512_set1_epi64(s[g]);
    const std::int64_t end = pairs - at < group_pairs ? pairs : at + group_pairs;
    while (at < end) {
      const std::int64_t stop = end - at < chunk_pairs ? end : at + chunk_pairs;
      __m512i sums[kVectors];
      for (auto& sum : sums) sum = _mm512_setzero_si512();
      for (; at < stop; ++at) {
        const __m512i weights = _mm512_set1_epi32(pair_of(w + 2 * at));
        const std::int16_t* from = x + 2 * kTokenLanes * at;
        for (int i = 0; i < kVectors; ++i)
          sums[i] = _mm512_add_epi32(sums[i], _mm512_madd_epi16(_mm512_loadu_si512(from + 32 * i), weights));
      }
      for (int i = 0; i < kVectors; ++i) {
        even[i] = _mm512_add_epi64(even[i], _mm512_maskz_mul_epi32(kAll, sums[i], scale));
        odd[i] =
            _mm512_add_epi64(odd[i], _mm512_maskz_mul_epi32(kAll, _mm512_maskz_srli_epi64(kAll, sums[i], 32), scale));
      }
    }
  }
  for (int i = 0; i < kVectors; ++i) {
    std::int64_t lanes[2][8];
    _mm512_storeu_si512(lanes[0], even[i]);
    _mm512_storeu_si512(lanes[1], odd[i]);
    for (int t = 0; t < 16; ++t) acc[16 * i + t] += lanes[t % 2][t / 2];
  }
}

#endif

}  // namespace

int runnable_kernels(NamedKernel (&kernels)[3]) {
  int count = 0;
  kernels[count++] = {"baseline", accumulate_baseline};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) kernels[count++] = {"avx2", accumulate_avx2};
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
    kernels[count++] = {"avx512", accumulate_avx512};
#endif
  return count;
}

AccumulateRow accumulate_row() {
  static const AccumulateRow best = [] {
    NamedKernel kernels[3] = {};
    return kernels[runnable_kernels(kernels) - 1].run;
  }();
  return best;
}

}  // namespace moesaic::numerics
