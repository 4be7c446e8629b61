#include "reference/quantise/gptq.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/error.h"
#include "reference/quantise/round_to_nearest.h"

namespace moesaic::quantise {

using numerics::Format;
using numerics::WeightMatrix;

namespace {

/// Columns whose errors are spread within the block at once and over the rest of the row together: a block of U stays
/// in the cache while every row passes over it.
constexpr std::int64_t kBlock = 128;
/// Room for group scales above the greatest that the row's own weights ask for.
constexpr double kScaleRoom = 2;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// The greatest scale of a row's groups, fitted as they are.
double greatest_scale(const float* row, const WeightMatrix& q) {
  double greatest = 0;
  for (std::int64_t g = 0; g < q.groups(); ++g)
    greatest = std::max(greatest, fit_group(row + q.group_begin(g), q.group_end(g) - q.group_begin(g), q.format).scale);
  return greatest;
}

/// Where a block that begins at column `begin` ends: at a group's end where whole groups fit, else inside its group.
std::int64_t block_end(const WeightMatrix& q, std::int64_t begin) {
  const std::int64_t end = q.group_size <= kBlock ? begin + kBlock / q.group_size * q.group_size
                                                  : std::min(begin + kBlock, q.group_end(begin / q.group_size));
  return std::min(end, q.k);
}

}  // namespace

InverseFactor factor_inverse(const std::vector<double>& h, std::int64_t k, double damping, const std::string& where) {
  if (k < 1 || h.size() != at(k * k)) throw std::logic_error("factor_inverse: a matrix of another shape");
  double mean = 0;
  for (std::int64_t i = 0; i < k; ++i) mean += h[at(i * k + i)] / static_cast<double>(k);
  if (!(mean > 0) || !std::isfinite(mean))
    throw base::ConfigError(where, "mean of the Hessian's diagonal", fmt::format("{}", mean),
                            "a finite number above 0");
  // H = R R^T with R upper triangular, from the last column to the first, each taken off what is left of H; then
  // U = R^-1, because H^-1 = R^-T R^-1.
  std::vector<double> r(h);
  std::vector<double> column(at(k));
  for (std::int64_t j = k - 1; j >= 0; --j) {
    const double pivot = r[at(j * k + j)] + damping * mean;
    if (!(pivot > 0) || !std::isfinite(pivot))
      throw base::ConfigError(where, fmt::format("Hessian's pivot {}", j), fmt::format("{}", pivot),
                              "a finite number above 0 (more damping)");
    const double root = std::sqrt(pivot);
    r[at(j * k + j)] = root;
    for (std::int64_t i = 0; i < j; ++i) column[at(i)] = r[at(i * k + j)] /= root;
    for (std::int64_t i = 0; i < j; ++i) {
      double* ri = r.data() + i * k;
      const double own = column[at(i)];
      for (std::int64_t m = i; m < j; ++m) ri[m] -= own * column[at(m)];
    }
  }
  // Row i of U = (e_i - sum over m > i of R[i, m] * row m of U) / R[i, i].
  InverseFactor factor;
  factor.k = k;
  factor.u.assign(at(k * k), 0.0);
  for (std::int64_t i = k - 1; i >= 0; --i) {
    double* ui = factor.u.data() + i * k;
    const double* ri = r.data() + i * k;
    ui[i] = 1;
    for (std::int64_t m = i + 1; m < k; ++m) {
      const double* um = factor.u.data() + m * k;
      for (std::int64_t j = m; j < k; ++j) ui[j] -= ri[m] * um[j];
    }
    for (std::int64_t j = i; j < k; ++j) ui[j] /= ri[i];
  }
  return factor;
}

WeightMatrix quantise_matrix_gptq(const float* w, std::int64_t n, std::int64_t k, const InverseFactor& factor,
                                  Format format, std::int64_t group_size, const MatrixUnits& units,
                                  const std::string& where) {
  if (factor.k != k) throw std::logic_error("quantise_matrix_gptq: a factor of another depth");
  WeightMatrix q = empty_matrix(n, k, format, group_size);
  const int top = greatest_multiplier(format, k, units.act_bits, where);
  check_finite(w, n, k, where);
  std::vector<double> unit(at(n));  // real value of s = 1
  for (std::int64_t row = 0; row < n; ++row) unit[at(row)] = kScaleRoom * greatest_scale(w + row * k, q) / top;
  std::vector<double> real(w, w + n * k);
  std::vector<double> errors(at(kBlock));
  std::vector<GroupGrid> grids(at(n), GroupGrid(format, 0, 0));  // of each row's present group
  std::vector<float> group;
  for (std::int64_t begin = 0; begin < k;) {
    const std::int64_t end = block_end(q, begin);
    for (std::int64_t row = 0; row < n; ++row) {
      double* wr = real.data() + row * k;
      for (std::int64_t j = begin; j < end; ++j) {
        const std::int64_t g = j / group_size;
        const std::int64_t own = row * q.groups() + g;
        GroupGrid& grid = grids[at(row)];
        if (j == q.group_begin(g)) {
          group.clear();
          for (std::int64_t i = j; i < q.group_end(g); ++i) group.push_back(static_cast<float>(wr[i]));
          const GroupFit fit = fit_group(group.data(), static_cast<std::int64_t>(group.size()), format);
          const double steps = unit[at(row)] > 0 ? fit.scale / unit[at(row)] : 0;
          const auto s = static_cast<std::uint16_t>(std::min<double>(std::floor(steps + 0.5), top));
          q.group_multiplier[at(own)] = s;
          if (format.has_zero_point()) q.zero_point[at(own)] = fit.zero_point;
          grid = GroupGrid(format, s * unit[at(row)], fit.zero_point);
          const std::vector<std::uint16_t> levels =
              fit_levels(group.data(), static_cast<std::int64_t>(group.size()), unit[at(row)], top, grid);
          for (std::size_t level = 0; level < levels.size(); ++level)
            q.level_multiplier[level * at(n * q.groups()) + at(own)] = levels[level];
        }
        const std::uint8_t code = grid.encode(wr[j]);
        q.codes[at(row * k + j)] = code;
        const double* u = factor.u.data() + j * k;
        const double error = (wr[j] - grid.value(code)) / u[j];
        for (std::int64_t i = j + 1; i < end; ++i) wr[i] -= error * u[i];
        errors[at(j - begin)] = error;
      }
      for (std::int64_t j = begin; j < end; ++j) {
        const double* u = factor.u.data() + j * k;
        const double error = errors[at(j - begin)];
        for (std::int64_t i = end; i < k; ++i) wr[i] -= error * u[i];
      }
    }
    begin = end;
  }

  for (std::int64_t row = 0; row < n; ++row)
    fold_requantisation(q, row, unit[at(row)], unit[at(row)] * top, top, units, where);
  return q;
}

}  // namespace moesaic::quantise
