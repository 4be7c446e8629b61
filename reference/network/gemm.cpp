#include "reference/network/gemm.h"

#include <cstring>

namespace moesaic::network {
namespace {

// One panel row; the compiler splits it into the widest registers of the target.
typedef float PanelVector __attribute__((vector_size(kPanel * sizeof(float))));

// Rows kept in registers together: six accumulators hide the latency of the adds and still fit 16 AVX2 registers.
constexpr std::size_t kRows = 6;

template <std::size_t Rows>
[[gnu::always_inline]] inline void block(const float* x, std::size_t ldx, const float* panel, std::size_t k_used,
                                         float* y, std::size_t ldy, std::size_t columns) {
  PanelVector sum[Rows];
  for (std::size_t r = 0; r < Rows; ++r) sum[r] = PanelVector{};
  for (std::size_t k = 0; k < k_used; ++k) {
    PanelVector w;
    std::memcpy(&w, panel + k * kPanel, sizeof w);
    for (std::size_t r = 0; r < Rows; ++r) sum[r] += x[r * ldx + k] * w;
  }
  for (std::size_t r = 0; r < Rows; ++r) std::memcpy(y + r * ldy, &sum[r], columns * sizeof(float));
}

[[gnu::always_inline]] inline void all_blocks(const float* x, std::size_t m, std::size_t ldx, const float* panels,
                                              std::size_t panel_k, std::size_t k_used, std::size_t n_used, float* y,
                                              std::size_t ldy) {
  for (std::size_t n = 0; n < n_used; n += kPanel) {
    const float* panel = panels + n * panel_k;
    const std::size_t columns = n_used - n < kPanel ? n_used - n : kPanel;
    std::size_t row = 0;
    for (; row + kRows <= m; row += kRows)
      block<kRows>(x + row * ldx, ldx, panel, k_used, y + row * ldy + n, ldy, columns);
    const float* xr = x + row * ldx;
    float* yr = y + row * ldy + n;
    switch (m - row) {
      case 5:
        block<5>(xr, ldx, panel, k_used, yr, ldy, columns);
        break;
      case 4:
        block<4>(xr, ldx, panel, k_used, yr, ldy, columns);
        break;
      case 3:
        block<3>(xr, ldx, panel, k_used, yr, ldy, columns);
        break;
      case 2:
        block<2>(xr, ldx, panel, k_used, yr, ldy, columns);
        break;
      case 1:
        block<1>(xr, ldx, panel, k_used, yr, ldy, columns);
        break;
      default:
        break;
    }
  }
}

using MultiplyFunction = void (*)(const float*, std::size_t, std::size_t, const float*, std::size_t, std::size_t,
                                  std::size_t, float*, std::size_t);

// Chosen by hand rather than by target_clones: its resolvers run before the sanitizers are ready.
__attribute__((target("avx512f"))) void multiply_avx512(const float* x, std::size_t m, std::size_t ldx,
                                                        const float* panels, std::size_t panel_k, std::size_t k_used,
                                                        std::size_t n_used, float* y, std::size_t ldy) {
  all_blocks(x, m, ldx, panels, panel_k, k_used, n_used, y, ldy);
}
__attribute__((target("avx2"))) void multiply_avx2(const float* x, std::size_t m, std::size_t ldx, const float* panels,
                                                   std::size_t panel_k, std::size_t k_used, std::size_t n_used,
                                                   float* y, std::size_t ldy) {
  all_blocks(x, m, ldx, panels, panel_k, k_used, n_used, y, ldy);
}
void multiply_baseline(const float* x, std::size_t m, std::size_t ldx, const float* panels, std::size_t panel_k,
                       std::size_t k_used, std::size_t n_used, float* y, std::size_t ldy) {
  all_blocks(x, m, ldx, panels, panel_k, k_used, n_used, y, ldy);
}

MultiplyFunction choose_multiply() {
  if (__builtin_cpu_supports("avx512f")) return multiply_avx512;
  if (__builtin_cpu_supports("avx2")) return multiply_avx2;
  return multiply_baseline;
}

}  // namespace

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
  static const MultiplyFunction chosen = choose_multiply();
  chosen(x, m, ldx, panels, panel_k, k_used, n_used, y, ldy);
}

}  // namespace moesaic::network
