#include "reference/network/gemm.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace moesaic::network {
namespace {

void store(const float (&row)[kPanel], std::size_t columns, float* y) {
  if (columns == kPanel)
    std::memcpy(y, row, sizeof row);  // nearly always; a size that is known is a move or two
  else
    std::memcpy(y, row, columns * sizeof(float));
}

// A kernel computes Rows rows of one panel. Its sums stay in registers: kRows is as many rows as fit there, which also
// hides the latency of the adds. Every instruction set has a kernel in vectors of its own width, because the compiler
// takes wider ones apart before it knows what a function is compiled for, and then keeps the pieces in memory. For the
// same reason the sums' addresses are only taken once the sums are complete.

struct Baseline {
  static constexpr std::size_t kRows = 2;
  typedef float Vector __attribute__((vector_size(4 * sizeof(float))));

  template <std::size_t Rows>
  static void block(const float* x, std::size_t ldx, const float* panel, std::size_t k_used, float* y, std::size_t ldy,
                    std::size_t columns) {
    constexpr std::size_t kLanes = 4, kParts = kPanel / kLanes;
    Vector sum[Rows][kParts];
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t p = 0; p < kParts; ++p) sum[r][p] = Vector{};
    for (std::size_t k = 0; k < k_used; ++k) {
      Vector w[kParts];
      for (std::size_t p = 0; p < kParts; ++p) std::memcpy(&w[p], panel + k * kPanel + p * kLanes, sizeof w[p]);
      for (std::size_t r = 0; r < Rows; ++r)
        for (std::size_t p = 0; p < kParts; ++p) sum[r][p] += x[r * ldx + k] * w[p];
    }
    for (std::size_t r = 0; r < Rows; ++r) {
      float row[kPanel];
      for (std::size_t p = 0; p < kParts; ++p) std::memcpy(row + p * kLanes, &sum[r][p], sizeof sum[r][p]);
      store(row, columns, y + r * ldy);
    }
  }
};

#if defined(__x86_64__)

struct Avx2 {
  static constexpr std::size_t kRows = 6;  // 12 of 16 registers, and 3 for what is read

  template <std::size_t Rows>
  [[gnu::target("avx2")]] static void block(const float* x, std::size_t ldx, const float* panel, std::size_t k_used,
                                            float* y, std::size_t ldy, std::size_t columns) {
    __m256 sum[Rows][2];
    for (std::size_t r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
    for (std::size_t k = 0; k < k_used; ++k) {
      const __m256 low = _mm256_loadu_ps(panel + k * kPanel), high = _mm256_loadu_ps(panel + k * kPanel + 8);
      for (std::size_t r = 0; r < Rows; ++r) {
        const __m256 value = _mm256_set1_ps(x[r * ldx + k]);
        sum[r][0] = _mm256_add_ps(sum[r][0], _mm256_mul_ps(value, low));
        sum[r][1] = _mm256_add_ps(sum[r][1], _mm256_mul_ps(value, high));
      }
    }
    for (std::size_t r = 0; r < Rows; ++r) {
      float row[kPanel];
      _mm256_storeu_ps(row, sum[r][0]);
      _mm256_storeu_ps(row + 8, sum[r][1]);
      store(row, columns, y + r * ldy);
    }
  }
};

struct Avx512 {
  static constexpr std::size_t kRows = 12;  // of 32 registers; two adds of four cycles a clock want eight

  template <std::size_t Rows>
  [[gnu::target("avx512f")]] static void block(const float* x, std::size_t ldx, const float* panel, std::size_t k_used,
                                               float* y, std::size_t ldy, std::size_t columns) {
    __m512 sum[Rows];
    for (std::size_t r = 0; r < Rows; ++r) sum[r] = _mm512_setzero_ps();
    for (std::size_t k = 0; k < k_used; ++k) {
      const __m512 w = _mm512_loadu_ps(panel + k * kPanel);
      for (std::size_t r = 0; r < Rows; ++r)
        sum[r] = _mm512_add_ps(sum[r], _mm512_mul_ps(_mm512_set1_ps(x[r * ldx + k]), w));
    }
    for (std::size_t r = 0; r < Rows; ++r) {
      float row[kPanel];
      _mm512_storeu_ps(row, sum[r]);
      store(row, columns, y + r * ldy);
    }
  }
};

#endif

/// The last rows, fewer than Kernel::kRows.
template <class Kernel, std::size_t Rows>
void rest(std::size_t rows, const float* x, std::size_t ldx, const float* panel, std::size_t k_used, float* y,
          std::size_t ldy, std::size_t columns) {
  if (rows == Rows)
    Kernel::template block<Rows>(x, ldx, panel, k_used, y, ldy, columns);
  else if constexpr (Rows > 1)
    rest<Kernel, Rows - 1>(rows, x, ldx, panel, k_used, y, ldy, columns);
}

template <class Kernel>
void all_blocks(const float* x, std::size_t m, std::size_t ldx, const float* panels, std::size_t panel_k,
                std::size_t k_used, std::size_t n_used, float* y, std::size_t ldy) {
  for (std::size_t n = 0; n < n_used; n += kPanel) {
    const float* panel = panels + n * panel_k;
    const std::size_t columns = n_used - n < kPanel ? n_used - n : kPanel;
    std::size_t row = 0;
    for (; row + Kernel::kRows <= m; row += Kernel::kRows)
      Kernel::template block<Kernel::kRows>(x + row * ldx, ldx, panel, k_used, y + row * ldy + n, ldy, columns);
    rest<Kernel, Kernel::kRows - 1>(m - row, x + row * ldx, ldx, panel, k_used, y + row * ldy + n, ldy, columns);
  }
}

}  // namespace

int runnable_products(NamedProduct (&products)[3]) {
  int count = 0;
  products[count++] = {"baseline", all_blocks<Baseline>};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) products[count++] = {"avx2", all_blocks<Avx2>};
  if (__builtin_cpu_supports("avx512f")) products[count++] = {"avx512", all_blocks<Avx512>};
#endif
  return count;
}

PackedMatrix pack_rows(const float* w, std::size_t n, std::size_t k) {
  PackedMatrix packed;
  packed.n = n;
  packed.k = k;
  packed.data.assign((n + kPanel - 1) / kPanel * kPanel * k, 0.0F);
  for (std::size_t row = 0; row < n; ++row) {
    float* panel = packed.data.data() + row / kPanel * kPanel * k + row % kPanel;
    for (std::size_t i = 0; i < k; ++i) panel[i * kPanel] = w[row * k + i];
  }
  return packed;
}

PackedMatrix transpose(const PackedMatrix& w) {
  std::vector<float> rows(w.k * w.n);
  for (std::size_t n = 0; n < w.n; ++n) {
    const float* panel = w.data.data() + n / kPanel * kPanel * w.k + n % kPanel;
    for (std::size_t k = 0; k < w.k; ++k) rows[k * w.n + n] = panel[k * kPanel];
  }
  return pack_rows(rows.data(), w.k, w.n);
}

void multiply(const float* x, std::size_t m, std::size_t ldx, const float* panels, std::size_t panel_k,
              std::size_t k_used, std::size_t n_used, float* y, std::size_t ldy) {
  static const Product best = [] {
    NamedProduct products[3] = {};
    return products[runnable_products(products) - 1].run;
  }();
  best(x, m, ldx, panels, panel_k, k_used, n_used, y, ldy);
}

}  // namespace moesaic::network
