#pragma once
/// Mixed-precision matrix product: acc[m][n] = sum over groups of s * D, exact in 48 bits, and its requantisation.
/// multiply_reference() is the definition, bit plane by bit plane; multiply() is the vectorised path, equal with ==.
#include <cstdint>
#include <string>
#include <vector>

#include "reference/numerics/format.h"
#include "reference/numerics/integer.h"

namespace moesaic::numerics {

/// Quantised weights, row-major over output channel n.
struct WeightMatrix {
  Format format;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t group_size = 0;                    ///< a positive multiple of 8; may exceed k
  std::vector<std::uint8_t> codes;                ///< [n, k]
  std::vector<std::uint8_t> zero_point;           ///< [n, groups]; empty for binary and ternary
  std::vector<std::uint16_t> group_multiplier;    ///< [n, groups], s of the first bundle
  std::vector<std::uint16_t> level_multiplier;    ///< [stored levels, n, groups], s of each level; empty without levels
  std::vector<std::uint16_t> requant_multiplier;  ///< [n], mu
  std::vector<std::uint8_t> requant_shift;        ///< [n], sigma

  std::int64_t groups() const { return (k - 1) / group_size + 1; }
  std::int64_t group_begin(std::int64_t g) const { return g * group_size; }
  std::int64_t group_end(std::int64_t g) const { return g * group_size > k - group_size ? k : (g + 1) * group_size; }
  /// s of every group of (bundle, row): bundle 0 is the base, bundle l level l.
  const std::uint16_t* multipliers(int bundle, std::int64_t row) const {
    return bundle == 0 ? group_multiplier.data() + row * groups()
                       : level_multiplier.data() + ((bundle - 1) * n + row) * groups();
  }
  /// z of the first bundle of (n, group).
  int offset(std::int64_t row, std::int64_t g) const {
    return format.offset(zero_point.empty() ? std::uint8_t{0}
                                            : zero_point[static_cast<std::size_t>(row * groups() + g)]);
  }
  /// Sum over the stored bundles, read or not, of max(1, greatest group multiplier).
  std::int64_t multiplier_sum() const;
};

/// Quantised activations, row-major over token m.
struct Activations {
  std::int64_t m = 0;
  std::int64_t k = 0;
  int act_bits = 8;                       ///< 4, 8 or 16
  std::vector<std::int16_t> values;       ///< [m, k], each in act_bits
  std::vector<std::uint8_t> token_shift;  ///< [m], e; empty means 0 everywhere
  int shift(std::int64_t token) const { return token_shift.empty() ? 0 : token_shift[static_cast<std::size_t>(token)]; }
};

/// Refuses (InputError, `where: key: got, expected`) what no implementation may see: an empty or inconsistent shape, a
/// group size that is not a positive multiple of 8, a code above max_code, a sum that could pass 48 bits
/// (fits_accumulator() of multiplier_sum()). `prefix` comes before tensor names ("gate.").
void validate(const WeightMatrix& w, int act_bits, const std::string& where, const std::string& prefix = "");
/// Refuses act_bits other than 4, 8, 16, a value out of range, an inconsistent shape.
void validate(const Activations& x, const std::string& where);
/// Refuses sigma[n] + e[m] above 62.
void validate_shifts(const WeightMatrix& w, const Activations& x, const std::string& where,
                     const std::string& prefix = "");
/// True when k * 2^(act_bits-1) * 255 * max(1, s_sum) <= 2^47 - 1; s_sum as multiplier_sum() gives it.
bool fits_accumulator(std::int64_t k, int act_bits, std::int64_t s_sum);

/// One group of one output and one bundle, as the formulas say: P = sum_k sum_j 2^j * plane_j * x, plane by plane.
std::int64_t plane_sum(const WeightMatrix& w, std::int64_t row, std::int64_t g, const std::int16_t* x_row,
                       int bundle = 0);
/// X = sum_k x over the group.
std::int64_t activation_sum(const WeightMatrix& w, std::int64_t g, const std::int16_t* x_row);

/// acc [m, n]; the operands have passed validate().
std::vector<std::int64_t> multiply_reference(const WeightMatrix& w, const Activations& x);
std::vector<std::int64_t> multiply(const WeightMatrix& w, const Activations& x);
/// As multiply(), over the output rows and the token rows given: for callers that schedule threads of their own.
/// `acc` is row-major [m, n] of the whole product; only the named part is written.
void multiply_part(const WeightMatrix& w, const Activations& x, std::int64_t row_begin, std::int64_t row_end,
                   std::int64_t token_begin, std::int64_t token_end, std::int64_t* acc);

/// y [m, n] in out_bits; shift[m] is added to sigma[n] (e, or -eh). InputError when a sum leaves 0..62.
std::vector<std::int16_t> requantise(const WeightMatrix& w, const std::vector<std::int64_t>& acc,
                                     const std::vector<int>& shift, int out_bits, const std::string& where,
                                     const std::string& prefix = "");
/// e[m] as integers.
std::vector<int> token_shifts(const Activations& x);

}  // namespace moesaic::numerics
