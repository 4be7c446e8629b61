/// Float matrix product against packed weights: y[m, n] (+)= sum_k x[m, k] * w[n, k].
/// Each output adds its products in the order of k, one rounding per multiply and per add (nothing is contracted), so
/// the bits are the same with every instruction set and every blocking of m.
#pragma once

#include <cstddef>
#include <vector>

namespace moesaic::network {

/// Columns a panel holds; one or more vector registers.
inline constexpr std::size_t kPanel = 16;

/// w transposed into panels of kPanel columns: data[(n / kPanel) * k_extent * kPanel + k * kPanel + n % kPanel],
/// the last panel padded with zeros.
struct PackedMatrix {
  std::size_t n = 0;
  std::size_t k = 0;
  std::vector<float> data;
};

/// From w [n, k] row-major: a checkpoint's linear layer.
PackedMatrix pack_rows(const float* w, std::size_t n, std::size_t k);

/// The matrix [k, n] of w [n, k].
PackedMatrix transpose(const PackedMatrix& w);

/// y [m, ldy] = x [m, ldx] * w, over the first k_used of w's k (k_used <= w.k) and its first n_used columns.
/// Columns up to the end of the last panel touched must exist in y only below n_used.
void multiply(const float* x, std::size_t m, std::size_t ldx, const float* panels, std::size_t panel_k,
              std::size_t k_used, std::size_t n_used, float* y, std::size_t ldy);

/// Those that multiply() chooses from, of what this machine can run, the baseline first: for tests.
using Product = void (*)(const float* x, std::size_t m, std::size_t ldx, const float* panels, std::size_t panel_k,
                         std::size_t k_used, std::size_t n_used, float* y, std::size_t ldy);
struct NamedProduct {
  const char* name;
  Product run;
};
int runnable_products(NamedProduct (&products)[3]);

/// y [m, w.n] = x [m, w.k] * w, both dense.
inline void multiply(const float* x, std::size_t m, const PackedMatrix& w, float* y) {
  multiply(x, m, w.k, w.data.data(), w.k, w.k, w.n, y, w.n);
}

}  // namespace moesaic::network
