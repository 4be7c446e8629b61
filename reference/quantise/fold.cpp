#include "reference/quantise/fold.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace moesaic::quantise {

numerics::WeightMatrix empty_matrix(std::int64_t n, std::int64_t k, numerics::Format format, std::int64_t group_size) {
  numerics::WeightMatrix q;
  q.format = format;
  q.n = n;
  q.k = k;
  q.group_size = group_size;
  const auto size = [](std::int64_t v) { return static_cast<std::size_t>(v); };
  q.codes.resize(size(n * k));
  q.group_multiplier.resize(size(n * q.groups()));
  q.level_multiplier.resize(size(format.stored_levels() * n * q.groups()));
  if (format.has_zero_point()) q.zero_point.resize(size(n * q.groups()));
  q.requant_multiplier.resize(size(n));
  q.requant_shift.resize(size(n));
  return q;
}

int greatest_multiplier(numerics::Format format, std::int64_t k, int act_bits, const std::string& where) {
  for (int bits = 16; bits >= 1; --bits) {
    const int top = (1 << bits) - 1;
    if (numerics::fits_accumulator(k, act_bits, (1 + format.stored_levels()) * top)) return top;
  }
  throw base::ConfigError(where, "k", std::to_string(k),
                          fmt::format("a depth that fits 48 bits at act_bits {}", act_bits));
}

void check_finite(const float* w, std::int64_t n, std::int64_t k, const std::string& where) {
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t i = 0; i < k; ++i)
      if (!std::isfinite(w[row * k + i]))
        throw base::ConfigError(where, fmt::format("weight [{}, {}]", row, i), fmt::format("{}", w[row * k + i]),
                                "a finite number");
}

void fold_requantisation(numerics::WeightMatrix& q, std::int64_t row, double unit, double greatest, int top,
                         const MatrixUnits& units, const std::string& where) {
  int exponent = 0;
  const double fraction = std::frexp(unit * units.x_unit / units.y_unit, &exponent);
  std::int64_t mu = std::llround(std::ldexp(fraction, 16));
  int sigma = 16 - exponent;
  if (mu == 65536) {
    mu = 32768;
    --sigma;
  }
  if (mu == 0) sigma = units.greatest_sigma;  // a column of zeros
  if (sigma > units.greatest_sigma) {
    mu = numerics::rshift_round(mu, std::min(sigma - units.greatest_sigma, 17));
    sigma = units.greatest_sigma;
  }
  if (sigma < units.least_sigma)
    throw base::ConfigError(
        where, fmt::format("row {}", row), fmt::format("a greatest group scale of {:g}", greatest),
        fmt::format("at most {:g}", std::ldexp(units.y_unit / units.x_unit * top, 16 - units.least_sigma)));
  q.requant_multiplier[static_cast<std::size_t>(row)] = static_cast<std::uint16_t>(mu);
  q.requant_shift[static_cast<std::size_t>(row)] = static_cast<std::uint8_t>(sigma);
}

}  // namespace moesaic::quantise
