#include "reference/quantise/round_to_nearest.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace moesaic::quantise {

using numerics::Format;
using numerics::FormatKind;

namespace {

constexpr int kSteps = 32;       // shrink steps from the covering scale down to 0
constexpr int kRefinements = 8;  // least squares settles in two or three

double round_half_up(double v) { return std::floor(v + 0.5); }

/// Squared error of an integer grid; gives up (returns what it has) once above `limit`.
double grid_error(const float* w, std::int64_t count, double scale, int zero_point, int top, double limit) {
  const double inverse = 1.0 / scale;
  const double lo = -zero_point, hi = top - zero_point;
  double error = 0;
  for (std::int64_t begin = 0; begin < count && error < limit; begin += 16) {
    const std::int64_t end = std::min(begin + 16, count);
    for (std::int64_t i = begin; i < end; ++i) {
      const double q = std::min(std::max(round_half_up(w[i] * inverse), lo), hi);
      const double d = w[i] - scale * q;
      error += d * d;
    }
  }
  return error;
}

/// The scale that least squares gives to the codes chosen at `scale`; 0 when all of them mean zero.
double least_squares_scale(const float* w, std::int64_t count, double scale, int zero_point, int top) {
  const double inverse = 1.0 / scale;
  const double lo = -zero_point, hi = top - zero_point;
  double wq = 0, qq = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double q = std::min(std::max(round_half_up(w[i] * inverse), lo), hi);
    wq += w[i] * q;
    qq += q * q;
  }
  return qq > 0 ? wq / qq : 0;
}

GroupFit fit_integer(const float* w, std::int64_t count, int bits) {
  double lo = 0, hi = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    lo = std::min(lo, static_cast<double>(w[i]));
    hi = std::max(hi, static_cast<double>(w[i]));
  }
  if (lo == hi) return {};
  const int top = (1 << bits) - 1;
  const int spanning = static_cast<int>(round_half_up(-lo / (hi - lo) * top));
  const int first = bits <= 3 ? 0 : std::max(0, spanning - 3);
  const int last = bits <= 3 ? top : std::min(top, spanning + 3);
  // Fine grids gain little from clipping, so their search stops early.
  const int least_step = bits <= 3 ? kSteps / 4 : bits == 4 ? kSteps / 2 : kSteps * 4 / 5;

  GroupFit best;
  double best_error = 0;
  for (std::int64_t i = 0; i < count; ++i) best_error += static_cast<double>(w[i]) * w[i];
  for (int z = first; z <= last; ++z) {
    // The least scale at which neither end clips; a side without codes counts for nothing.
    double covering = 0;
    if (z < top) covering = std::max(covering, hi / (top - z));
    if (z > 0) covering = std::max(covering, -lo / z);
    if (covering == 0) continue;
    for (int step = kSteps; step >= least_step; --step) {
      const double scale = covering * step / kSteps;
      const double error = grid_error(w, count, scale, z, top, best_error);
      if (error < best_error) {
        best_error = error;
        best = {scale, static_cast<std::uint8_t>(z)};
      }
    }
  }
  if (best.scale == 0) return best;
  for (int i = 0; i < kRefinements; ++i) {
    const double scale = least_squares_scale(w, count, best.scale, best.zero_point, top);
    if (scale <= 0) break;
    const double error = grid_error(w, count, scale, best.zero_point, top, best_error);
    if (error >= best_error) break;
    best_error = error;
    best.scale = scale;
  }
  return best;
}

GroupFit fit_binary(const float* w, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += std::fabs(static_cast<double>(w[i]));
  return {sum / static_cast<double>(count), 0};
}

GroupFit fit_ternary(const float* w, std::int64_t count) {
  std::vector<double> magnitude(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    magnitude[static_cast<std::size_t>(i)] = std::fabs(static_cast<double>(w[i]));
  std::sort(magnitude.begin(), magnitude.end(), std::greater<>());
  // Scale t weights by their mean: the error falls by (sum of the t)^2 / t.
  double sum = 0, best_gain = 0, scale = 0, t = 0;
  for (const double m : magnitude) {
    sum += m;
    t += 1;
    if (sum * sum / t > best_gain) {
      best_gain = sum * sum / t;
      scale = sum / t;
    }
  }
  return {scale, 0};
}

}  // namespace

GroupFit fit_group(const float* w, std::int64_t count, Format format) {
  switch (format.kind()) {
    case FormatKind::kInt:
    case FormatKind::kMwq:
      return fit_integer(w, count, format.base_planes());
    case FormatKind::kNested:
      return fit_integer(w, count, 8);
    case FormatKind::kBinary:
      return fit_binary(w, count);
    case FormatKind::kTernary:
      return fit_ternary(w, count);
  }
  return {};
}

std::uint8_t encode(double w, double scale, std::uint8_t zero_point, Format format) {
  switch (format.kind()) {
    case FormatKind::kBinary:
      return w < 0 ? 0 : 1;
    case FormatKind::kTernary:
      return static_cast<std::uint8_t>(1 + (2 * w > scale ? 1 : 0) - (2 * w < -scale ? 1 : 0));
    case FormatKind::kInt:
    case FormatKind::kNested:
    case FormatKind::kMwq:
      break;
  }
  // The range of a double is wide enough for any quotient; the clamp comes before the conversion.
  const double q = scale > 0 ? round_half_up(w / scale) + zero_point : zero_point;
  const int levels = format.stored_levels();
  const auto code = static_cast<int>(std::min(std::max(q, 0.0), static_cast<double>(format.max_code() >> levels)));
  return static_cast<std::uint8_t>(code << levels);
}

double group_error(const float* w, std::int64_t count, double scale, std::uint8_t zero_point, Format format) {
  double error = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double d = w[i] - scale * format.weight(encode(w[i], scale, zero_point, format), zero_point);
    error += d * d;
  }
  return error;
}

GroupGrid::GroupGrid(Format format, double scale_of, std::uint8_t zero_point_of)
    : stored(format.kind() == FormatKind::kNested ? Format::nested(8)
             : format.kind() == FormatKind::kMwq
                 ? Format::mwq(format.base_planes(), format.stored_levels(), format.stored_levels())
                 : format),
      scale(scale_of),
      zero_point(zero_point_of) {}

std::uint8_t GroupGrid::encode(double w) const {
  std::uint8_t code = quantise::encode(w, scale, zero_point, stored);
  const int levels = stored.stored_levels();
  if (levels == 0) return code;
  double left = w - scale * stored.weight(code, zero_point);
  for (int l = 0; l < levels; ++l) {
    const double step = level[static_cast<std::size_t>(l)];
    if (left >= 0) code = static_cast<std::uint8_t>(code | 1 << (levels - 1 - l));
    left -= left >= 0 ? step : -step;
  }
  return code;
}

double GroupGrid::value(std::uint8_t code) const {
  double sum = scale * stored.weight(code, zero_point);
  for (int l = 0; l < stored.stored_levels(); ++l)
    sum += level[static_cast<std::size_t>(l)] * stored.level_weight(code, l + 1);
  return sum;
}

std::vector<std::uint16_t> fit_levels(const float* w, std::int64_t count, double unit, int top, GroupGrid& grid) {
  std::vector<std::uint16_t> multiples;
  std::vector<double> left;
  if (grid.stored.stored_levels() == 0) return multiples;
  for (std::int64_t i = 0; i < count; ++i)
    left.push_back(w[i] -
                   grid.scale * grid.stored.weight(quantise::encode(w[i], grid.scale, grid.zero_point, grid.stored),
                                                   grid.zero_point));
  for (int l = 0; l < grid.stored.stored_levels(); ++l) {
    double sum = 0;
    for (const double v : left) sum += std::fabs(v);
    const double steps = unit > 0 ? sum / static_cast<double>(count) / unit : 0;
    multiples.push_back(static_cast<std::uint16_t>(std::min<double>(round_half_up(steps), top)));
    const double step = multiples.back() * unit;
    for (double& v : left) v -= v >= 0 ? step : -step;
    grid.level[static_cast<std::size_t>(l)] = step;
  }
  return multiples;
}

}  // namespace moesaic::quantise
