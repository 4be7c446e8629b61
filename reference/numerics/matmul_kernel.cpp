#include "reference/numerics/matmul_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace moesaic::numerics {

namespace {

// Walks groups and chunks; `Body::add(w, x, pairs, sums)` adds the pairs' products to kTokenLanes 32-bit sums.
template <class Body>
[[gnu::always_inline]] inline void walk_groups(const std::int16_t* w, const std::int16_t* x, std::int64_t pairs,
                                               std::int64_t group_pairs, std::int64_t chunk_pairs,
                                               const std::uint16_t* s, std::int64_t* acc) {
  std::int64_t at = 0;
  for (std::int64_t g = 0; at < pairs; ++g) {
    const std::int64_t end = pairs - at < group_pairs ? pairs : at + group_pairs;
    while (at < end) {
      const std::int64_t count = end - at < chunk_pairs ? end - at : chunk_pairs;
      Body::run(w + 2 * at, x + 2 * kTokenLanes * at, count, s[g], acc);
      at += count;
    }
  }
}

struct Baseline {
  static void run(const std::int16_t* w, const std::int16_t* x, std::int64_t pairs, std::int64_t s, std::int64_t* acc) {
    std::int32_t sums[kTokenLanes] = {};
    for (std::int64_t p = 0; p < pairs; ++p)
      for (int t = 0; t < kTokenLanes; ++t)
        sums[t] += w[2 * p] * x[2 * (kTokenLanes * p + t)] + w[2 * p + 1] * x[2 * (kTokenLanes * p + t) + 1];
    for (int t = 0; t < kTokenLanes; ++t) acc[t] += s * sums[t];
  }
};

void accumulate_baseline(const std::int16_t* w, const std::int16_t* x, std::int64_t pairs, std::int64_t group_pairs,
                         std::int64_t chunk_pairs, const std::uint16_t* s, std::int64_t* acc) {
  walk_groups<Baseline>(w, x, pairs, group_pairs, chunk_pairs, s, acc);
}

#if defined(__x86_64__)

// Two adjacent int16 weights as the 32 bits that a broadcast takes.
inline std::int32_t pair_of(const std::int16_t* w) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::uint16_t>(w[0])) |
                                   static_cast<std::uint32_t>(static_cast<std::uint16_t>(w[1])) << 16);
}

// acc[0..7] += s * sums; s is below 2^16, so the low halves of the 64-bit lanes multiply as signed numbers.
[[gnu::target("avx2")]] inline void scale_and_add(__m256i sums, __m256i s, std::int64_t* acc) {
  auto* to = reinterpret_cast<__m256i*>(acc);
  const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(sums));
  const __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(sums, 1));
  _mm256_storeu_si256(to, _mm256_add_epi64(_mm256_loadu_si256(to), _mm256_mul_epi32(low, s)));
  _mm256_storeu_si256(to + 1, _mm256_add_epi64(_mm256_loadu_si256(to + 1), _mm256_mul_epi32(high, s)));
}

struct Avx2 {
  [[gnu::target("avx2")]] static void run(const std::int16_t* w, const std::int16_t* x, std::int64_t pairs,
                                          std::int64_t s, std::int64_t* acc) {
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    for (std::int64_t p = 0; p < pairs; ++p) {
      const __m256i weights = _mm256_set1_epi32(pair_of(w + 2 * p));
      const auto* from = reinterpret_cast<const __m256i*>(x + 2 * kTokenLanes * p);
      for (int i = 0; i < 4; ++i)
        sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(_mm256_loadu_si256(from + i), weights));
    }
    const __m256i scale = _mm256_set1_epi64x(s);
    for (int i = 0; i < 4; ++i) scale_and_add(sums[i], scale, acc + 8 * i);
  }
};

struct Avx512 {
  [[gnu::target("avx512f,avx512bw")]] static void run(const std::int16_t* w, const std::int16_t* x, std::int64_t pairs,
                                                      std::int64_t s, std::int64_t* acc) {
    __m512i s0 = _mm512_setzero_si512();
    __m512i s1 = s0;
    for (std::int64_t p = 0; p < pairs; ++p) {
      const __m512i weights = _mm512_set1_epi32(pair_of(w + 2 * p));
      const std::int16_t* from = x + 2 * kTokenLanes * p;
      s0 = _mm512_add_epi32(s0, _mm512_madd_epi16(_mm512_loadu_si512(from), weights));
      s1 = _mm512_add_epi32(s1, _mm512_madd_epi16(_mm512_loadu_si512(from + 32), weights));
    }
    // Through memory: GCC 12's own headers for the 512-bit conversions do not compile without a warning.
    std::int32_t sums[kTokenLanes];
    _mm512_storeu_si512(sums, s0);
    _mm512_storeu_si512(sums + 16, s1);
    const __m256i scale = _mm256_set1_epi64x(s);
    for (int i = 0; i < kTokenLanes; i += 8)
      scale_and_add(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums + i)), scale, acc + i);
  }
};

void accumulate_avx2(const std::int16_t* w, const std::int16_t* x, std::int64_t pairs, std::int64_t group_pairs,
                     std::int64_t chunk_pairs, const std::uint16_t* s, std::int64_t* acc) {
  walk_groups<Avx2>(w, x, pairs, group_pairs, chunk_pairs, s, acc);
}

void accumulate_avx512(const std::int16_t* w, const std::int16_t* x, std::int64_t pairs, std::int64_t group_pairs,
                       std::int64_t chunk_pairs, const std::uint16_t* s, std::int64_t* acc) {
  walk_groups<Avx512>(w, x, pairs, group_pairs, chunk_pairs, s, acc);
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
