#pragma once
/// What every quantiser does with the groups it has fitted: an empty matrix to fill, and a column's real scale folded
/// into mu and sigma. Used by round-to-nearest (expert.h) and GPTQ (gptq.h).
#include <cstdint>
#include <string>

#include "reference/numerics/format.h"
#include "reference/numerics/mpgemm.h"

namespace moesaic::quantise {

/// The units a matrix is quantised for: one unit of x is worth `x_unit`, one of y is to be worth `y_unit`, and sigma is
/// kept in least_sigma..greatest_sigma.
struct MatrixUnits {
  int act_bits = 8;
  double x_unit = 1;
  double y_unit = 1;
  int least_sigma = 0;
  int greatest_sigma = 62;
};

/// [n, k] with every array at its size and zero.
numerics::WeightMatrix empty_matrix(std::int64_t n, std::int64_t k, numerics::Format format, std::int64_t group_size);

/// The greatest s: as many of 16 bits as the accumulator's 48 allow for this k, when every bundle that `format` stores
/// may use them. InputError when not even one is.
int greatest_multiplier(numerics::Format format, std::int64_t k, int act_bits, const std::string& where);

/// InputError that names the first weight of w [n, k] that is not finite.
void check_finite(const float* w, std::int64_t n, std::int64_t k, const std::string& where);

/// mu * 2^-sigma = unit * x_unit / y_unit for row `row`, with mu's 16 bits in use where sigma's range allows it. `unit`
/// is the real value of s = 1. InputError (`where`, the row, `greatest`) when the scale is too large for sigma's range.
void fold_requantisation(numerics::WeightMatrix& q, std::int64_t row, double unit, double greatest, int top,
                         const MatrixUnits& units, const std::string& where);

}  // namespace moesaic::quantise
