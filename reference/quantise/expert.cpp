#include "reference/quantise/expert.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "reference/numerics/combine.h"
#include "reference/numerics/swiglu.h"
#include "reference/quantise/round_to_nearest.h"

namespace moesaic::quantise {

using numerics::Format;
using numerics::WeightMatrix;

namespace {

/// Sum over the bundles read of s * weight: the integer that (row, k) stands for, exact.
double weight_sum(const WeightMatrix& w, std::int64_t row, std::int64_t g, std::int64_t k) {
  const std::uint8_t code = w.codes[static_cast<std::size_t>(row * w.k + k)];
  const auto at = static_cast<std::size_t>(row * w.groups() + g);
  std::int64_t sum = std::int64_t{w.group_multiplier[at]} *
                     w.format.weight(code, w.zero_point.empty() ? std::uint8_t{0} : w.zero_point[at]);
  for (int level = 1; level <= w.format.levels(); ++level)
    sum += std::int64_t{w.multipliers(level, row)[g]} * w.format.level_weight(code, level);
  return static_cast<double>(sum);
}

/// The greatest e with range * headroom * 2^e <= top.
int greatest_exponent(double range, double headroom, double top) {
  return static_cast<int>(std::floor(std::log2(top / (range * headroom))));
}

}  // namespace

void LayerRanges::include(const LayerRanges& other) {
  x = std::max(x, other.x);
  up = std::max(up, other.up);
  hidden = std::max(hidden, other.hidden);
  output = std::max(output, other.output);
}

LayerScales choose_scales(const LayerRanges& ranges, int act_bits) {
  const double top = 32767;
  LayerScales s;
  s.x_exp = -greatest_exponent(ranges.x, 256, (1 << (act_bits - 1)) - 1);
  s.up_exp = greatest_exponent(ranges.up, 4, top);
  s.hidden_exp = greatest_exponent(ranges.hidden, 4, top);
  s.output_exp = greatest_exponent(ranges.output, 4, top);
  // sigma_h must be in 0..31: where it is not, the units of up and hidden move together.
  s.hidden_exp = std::min(s.hidden_exp, kGateExp + s.up_exp);
  s.up_exp = std::min(s.up_exp, s.hidden_exp + numerics::kMaxSigmaH - kGateExp);
  return s;
}

WeightMatrix quantise_matrix(const float* w, std::int64_t n, std::int64_t k, Format format, std::int64_t group_size,
                             const MatrixUnits& units, const std::string& where) {
  WeightMatrix q = empty_matrix(n, k, format, group_size);
  const std::int64_t groups = q.groups();
  const auto size = [](std::int64_t v) { return static_cast<std::size_t>(v); };
  const int top = greatest_multiplier(format, k, units.act_bits, where);
  check_finite(w, n, k, where);
  std::vector<GroupFit> fits(size(groups));
  for (std::int64_t row = 0; row < n; ++row) {
    double greatest = 0;
    for (std::int64_t g = 0; g < groups; ++g) {
      fits[size(g)] = fit_group(w + row * k + q.group_begin(g), q.group_end(g) - q.group_begin(g), format);
      greatest = std::max(greatest, fits[size(g)].scale);
    }

    const double unit = greatest / top;  // c[n]
    for (std::int64_t g = 0; g < groups; ++g) {
      const GroupFit& fit = fits[size(g)];
      const int s = unit > 0 ? static_cast<int>(std::lround(fit.scale / unit)) : 0;
      q.group_multiplier[size(row * groups + g)] = static_cast<std::uint16_t>(std::min(s, top));
      if (format.has_zero_point()) q.zero_point[size(row * groups + g)] = fit.zero_point;
      // Codes are rounded to the scale that s really stands for.
      GroupGrid grid(format, s * unit, fit.zero_point);
      const std::int64_t begin = q.group_begin(g), end = q.group_end(g);
      const std::vector<std::uint16_t> levels = fit_levels(w + row * k + begin, end - begin, unit, top, grid);
      for (std::size_t level = 0; level < levels.size(); ++level)
        q.level_multiplier[level * size(n * groups) + size(row * groups + g)] = levels[level];
      for (std::int64_t i = begin; i < end; ++i) q.codes[size(row * k + i)] = grid.encode(w[row * k + i]);
    }
    fold_requantisation(q, row, unit, greatest, top, units, where);
  }
  return q;
}

numerics::ExpertWeights quantise_expert(const float* gate, const float* up, const float* down, std::int64_t hidden,
                                        std::int64_t intermediate, const numerics::ExpertFormats& formats,
                                        std::int64_t group_size, int act_bits, const LayerScales& scales,
                                        const std::string& where, const ExpertCurvature* curvature) {
  const int first_top = numerics::kMaxRequantShift - kMaxTokenShift;
  const double x_unit = std::ldexp(1.0, scales.x_exp);
  const auto make = [&](const float* w, std::int64_t n, std::int64_t k, Format format, const MatrixUnits& units,
                        const InverseFactor* factor, const char* name) {
    return factor != nullptr ? quantise_matrix_gptq(w, n, k, *factor, format, group_size, units, where + name)
                             : quantise_matrix(w, n, k, format, group_size, units, where + name);
  };
  const InverseFactor* of_x = curvature != nullptr && curvature->x ? &*curvature->x : nullptr;
  const InverseFactor* of_hidden = curvature != nullptr && curvature->hidden ? &*curvature->hidden : nullptr;
  numerics::ExpertWeights e;
  e.gate = make(gate, intermediate, hidden, formats.gate, {act_bits, x_unit, std::ldexp(1.0, -kGateExp), 0, first_top},
                of_x, ": gate");
  e.up = make(up, intermediate, hidden, formats.up, {act_bits, x_unit, std::ldexp(1.0, -scales.up_exp), 0, first_top},
              of_x, ": up");
  e.down = make(down, hidden, intermediate, formats.down,
                {act_bits, std::ldexp(1.0, -scales.hidden_exp), std::ldexp(1.0, -scales.output_exp), kMaxHiddenShift,
                 numerics::kMaxRequantShift},
                of_hidden, ": down");
  e.sigma_h = scales.sigma_h();
  return e;
}

numerics::Activations quantise_rows(const float* x, std::int64_t rows, std::int64_t k, int act_bits, int x_exp) {
  numerics::Activations q;
  q.m = rows;
  q.k = k;
  q.act_bits = act_bits;
  q.values.resize(static_cast<std::size_t>(rows * k));
  q.token_shift.resize(static_cast<std::size_t>(rows));
  const double top = (1 << (act_bits - 1)) - 1;
  for (std::int64_t m = 0; m < rows; ++m) {
    const float* row = x + m * k;
    float greatest = 0;
    bool finite = true;
    for (std::int64_t i = 0; i < k; ++i) {
      greatest = std::max(greatest, std::fabs(row[i]));
      finite = finite && std::isfinite(row[i]);
    }
    if (!finite)
      throw base::ConfigError("activations", fmt::format("row {}", m), "a value that is not finite", "finite ones");
    int shift = 0;
    if (greatest > 0) {
      int exponent = 0;
      std::frexp(static_cast<double>(greatest), &exponent);
      shift = act_bits - 1 - exponent + x_exp;  // greatest lands in [2^(act_bits-2), 2^(act_bits-1))
      if (std::floor(std::ldexp(static_cast<double>(greatest), shift - x_exp) + 0.5) > top) --shift;
      shift = std::min(std::max(shift, 0), kMaxTokenShift);
    }
    const double factor = std::ldexp(1.0, shift - x_exp);
    for (std::int64_t i = 0; i < k; ++i) {
      const double v = std::floor(row[i] * factor + 0.5);
      q.values[static_cast<std::size_t>(m * k + i)] = static_cast<std::int16_t>(std::min(std::max(v, -top - 1), top));
    }
    q.token_shift[static_cast<std::size_t>(m)] = static_cast<std::uint8_t>(shift);
  }
  return q;
}

std::uint16_t router_weight(float weight) {
  const double r = std::floor(static_cast<double>(weight) * numerics::kRouterOne + 0.5);
  return static_cast<std::uint16_t>(std::min(std::max(r, 0.0), 65535.0));
}

double dequantise(const WeightMatrix& w, std::int64_t row, std::int64_t k, double x_unit, double y_unit) {
  const std::int64_t g = k / w.group_size;
  const double unit = std::ldexp(static_cast<double>(w.requant_multiplier[static_cast<std::size_t>(row)]),
                                 -w.requant_shift[static_cast<std::size_t>(row)]);
  return weight_sum(w, row, g, k) * unit * y_unit / x_unit;
}

std::vector<float> dequantise(const WeightMatrix& w, double x_unit, double y_unit) {
  std::vector<float> real;
  real.reserve(w.codes.size());
  for (std::int64_t row = 0; row < w.n; ++row) {
    const double unit = std::ldexp(static_cast<double>(w.requant_multiplier[static_cast<std::size_t>(row)]),
                                   -w.requant_shift[static_cast<std::size_t>(row)]) *
                        y_unit / x_unit;
    for (std::int64_t g = 0; g < w.groups(); ++g) {
      if (w.format.levels() > 0) {
        for (std::int64_t k = w.group_begin(g); k < w.group_end(g); ++k)
          real.push_back(static_cast<float>(weight_sum(w, row, g, k) * unit));
        continue;
      }
      // weight_sum() of one bundle, without asking the format again at every weight.
      const int cut = w.format.base_cut(), up = w.format.up(), z = w.offset(row, g), s = w.multipliers(0, row)[g];
      for (std::int64_t k = w.group_begin(g); k < w.group_end(g); ++k) {
        const int code = w.codes[static_cast<std::size_t>(row * w.k + k)];
        real.push_back(static_cast<float>(static_cast<double>(s * (((code >> cut) << up) - z)) * unit));
      }
    }
  }
  return real;
}

}  // namespace moesaic::quantise
