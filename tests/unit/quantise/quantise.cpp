// The round-to-nearest quantiser and the folding of real scales into the kernels' integers.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/rng.h"
#include "reference/quantise/expert.h"
#include "reference/quantise/round_to_nearest.h"

using namespace moesaic;
using numerics::Format;
using quantise::fit_group;
using quantise::group_error;

namespace {

std::vector<float> normals(base::Rng& rng, std::size_t count, double spread = 1, double mean = 0) {
  std::vector<float> w(count);
  for (float& v : w) v = static_cast<float>(mean + spread * rng.normal());
  return w;
}

double squares(const std::vector<float>& w) {
  double sum = 0;
  for (const float v : w) sum += static_cast<double>(v) * static_cast<double>(v);
  return sum;
}

/// Least error of any zero point and any of 2000 scales.
double best_integer_error(const std::vector<float>& w, Format format) {
  double most = 0;
  for (const float v : w) most = std::max(most, std::fabs(static_cast<double>(v)));
  double best = squares(w);
  for (int z = 0; z <= format.max_code(); ++z)
    for (int i = 1; i <= 2000; ++i) {
      const double scale = most * 1.2 * i / 2000;
      best = std::min(best, group_error(w.data(), static_cast<std::int64_t>(w.size()), scale,
                                        static_cast<std::uint8_t>(z), format));
    }
  return best;
}

}  // namespace

TEST_CASE("the integer fit is within 5 % of the least error any scale and zero point reach", "[unit][quantise]") {
  base::Rng rng(1);
  for (int bits = 1; bits <= 5; ++bits)
    for (int i = 0; i < 6; ++i) {
      const std::vector<float> w = normals(rng, 32, 0.1, i < 3 ? 0.0 : 0.05);
      const Format format = Format::integer(bits);
      const auto fit = fit_group(w.data(), 32, format);
      CAPTURE(bits, i);
      CHECK(group_error(w.data(), 32, fit.scale, fit.zero_point, format) <= 1.05 * best_integer_error(w, format));
    }
}

TEST_CASE("a code is the one whose weight is nearest", "[unit][quantise]") {
  base::Rng rng(2);
  for (const Format format : numerics::one_bundle_formats()) {
    if (format.kind() == numerics::FormatKind::kNested && format.bits() < 8) continue;  // codes are those of 8 bits
    for (int i = 0; i < 300; ++i) {
      const double w = rng.normal(), scale = 0.01 + rng.uniform();
      const auto z = static_cast<std::uint8_t>(rng.below(256));
      const int code = quantise::encode(w, scale, z, format);
      REQUIRE(code <= format.max_code());
      const double error = std::fabs(w - scale * format.weight(static_cast<std::uint8_t>(code), z));
      for (int other = 0; other <= format.max_code(); ++other)
        CHECK(error <= std::fabs(w - scale * format.weight(static_cast<std::uint8_t>(other), z)) * (1 + 1e-12));
    }
  }
}

TEST_CASE("binary takes the mean magnitude and ternary the best threshold", "[unit][quantise]") {
  base::Rng rng(3);
  const std::vector<float> w = normals(rng, 24);
  double mean = 0;
  for (const float v : w) mean += std::fabs(static_cast<double>(v)) / 24;
  CHECK(fit_group(w.data(), 24, Format::binary()).scale == Approx(mean).epsilon(1e-12));

  const double error =
      group_error(w.data(), 24, fit_group(w.data(), 24, Format::ternary()).scale, 0, Format::ternary());
  for (int i = 1; i <= 4000; ++i)
    CHECK(error <= group_error(w.data(), 24, 3.0 * i / 4000, 0, Format::ternary()) * (1 + 1e-9));
}

TEST_CASE("more bits never fit worse, and eight bits fit a normal group to 1e-4 of its energy", "[unit][quantise]") {
  base::Rng rng(4);
  const std::vector<float> w = normals(rng, 64);
  double before = squares(w);
  for (int bits = 1; bits <= 8; ++bits) {
    const Format format = Format::integer(bits);
    const auto fit = fit_group(w.data(), 64, format);
    const double error = group_error(w.data(), 64, fit.scale, fit.zero_point, format);
    CHECK(error < before);
    before = error;
  }
  CHECK(before < 1e-4 * squares(w));
}

TEST_CASE("groups without spread keep their value", "[unit][quantise]") {
  for (const Format format : numerics::all_formats()) {
    const std::vector<float> zeros(16, 0.0F), ones(16, 1.0F), minus(16, -1.0F);
    CHECK(fit_group(zeros.data(), 16, format).scale == 0);
    for (const auto& w : {ones, minus}) {
      const auto fit = fit_group(w.data(), 16, format);
      const bool mid_point = format.kind() == numerics::FormatKind::kNested && format.bits() < 8;
      if (!mid_point) CHECK(group_error(w.data(), 16, fit.scale, fit.zero_point, format) < 1e-12);
    }
  }
}

TEST_CASE("every width of a nested matrix has the same codes, multipliers and requantisation", "[unit][quantise]") {
  base::Rng rng(5);
  const std::vector<float> w = normals(rng, 12 * 40);
  const auto make = [&](int bits) {
    return quantise::quantise_matrix(w.data(), 12, 40, Format::nested(bits), 16, {8, 0.01, 0.01, 0, 62}, "test");
  };
  const numerics::WeightMatrix whole = make(8);
  for (int bits = 1; bits < 8; ++bits) {
    const numerics::WeightMatrix part = make(bits);
    CHECK(part.codes == whole.codes);
    CHECK(part.zero_point == whole.zero_point);
    CHECK(part.group_multiplier == whole.group_multiplier);
    CHECK(part.requant_multiplier == whole.requant_multiplier);
    CHECK(part.requant_shift == whole.requant_shift);
  }
}

TEST_CASE("every width of an MWQ matrix is one copy, whose base is the integer matrix of its width",
          "[unit][quantise]") {
  base::Rng rng(15);
  const std::vector<float> w = normals(rng, 12 * 40);
  const auto make = [&](Format format) {
    return quantise::quantise_matrix(w.data(), 12, 40, format, 16, {8, 0.01, 0.01, 0, 62}, "test");
  };
  for (int base = 1; base <= 4; ++base) {
    const numerics::WeightMatrix whole = make(Format::mwq(base, 3, 3)), plain = make(Format::integer(base));
    CHECK(whole.zero_point == plain.zero_point);
    CHECK(whole.group_multiplier == plain.group_multiplier);
    for (std::size_t i = 0; i < whole.codes.size(); ++i) CHECK(whole.codes[i] >> 3 == plain.codes[i]);
    for (int read = 0; read < 3; ++read) {
      const numerics::WeightMatrix part = make(Format::mwq(base, 3, read));
      CHECK(part.codes == whole.codes);
      CHECK(part.level_multiplier == whole.level_multiplier);
      CHECK(part.requant_multiplier == whole.requant_multiplier);
    }
    // A copy of fewer levels is the beginning of one with more.
    const numerics::WeightMatrix shorter = make(Format::mwq(base, 2, 2));
    for (std::size_t i = 0; i < whole.codes.size(); ++i) CHECK(whole.codes[i] >> 1 == shorter.codes[i]);
    CHECK(std::equal(shorter.level_multiplier.begin(), shorter.level_multiplier.end(), whole.level_multiplier.begin()));
  }
}

TEST_CASE("each MWQ level takes the best scale for the signs of what is left, a third of its error at least",
          "[unit][quantise]") {
  base::Rng rng(16);
  const std::vector<float> w = normals(rng, 64);
  for (int base = 1; base <= 4; ++base) {
    const Format format = Format::mwq(base, 3, 3);
    const quantise::GroupFit fit = fit_group(w.data(), 64, format);
    quantise::GroupGrid grid(format, fit.scale, fit.zero_point);
    const double unit = fit.scale / 65535;
    const std::vector<std::uint16_t> steps = quantise::fit_levels(w.data(), 64, unit, 65535, grid);
    REQUIRE(steps.size() == 3);
    std::vector<double> left;
    for (const float v : w) {
      const std::uint8_t code = quantise::encode(v, fit.scale, fit.zero_point, format);
      left.push_back(v - fit.scale * format.weight(code, fit.zero_point));
    }
    for (std::size_t l = 0; l < 3; ++l) {
      CHECK(grid.level[l] == steps[l] * unit);
      const auto error_at = [&](double scale) {
        double error = 0;
        for (const double v : left) error += std::pow(std::fabs(v) - scale, 2);
        return error;
      };
      CAPTURE(base, l);
      CHECK(3 * error_at(grid.level[l]) < 2 * error_at(0));
      for (int i = 0; i <= 200; ++i) CHECK(error_at(grid.level[l]) <= error_at(grid.level[l] * i / 100) * (1 + 1e-7));
      for (double& v : left) v -= v >= 0 ? grid.level[l] : -grid.level[l];
    }
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double value = grid.value(grid.encode(w[i]));
      CHECK(w[i] - value == Approx(left[i]).margin(1e-12));
    }
  }
}

TEST_CASE("a quantised product is the product of what its codes stand for", "[unit][quantise]") {
  base::Rng rng(6);
  const std::int64_t n = 9, k = 75, m = 5;
  const double x_unit = std::ldexp(1.0, -3), y_unit = std::ldexp(1.0, -10);
  for (const Format format : numerics::all_formats()) {
    for (const int act_bits : {4, 8, 16}) {
      const std::vector<float> w = normals(rng, static_cast<std::size_t>(n * k), 0.05);
      const numerics::WeightMatrix q =
          quantise::quantise_matrix(w.data(), n, k, format, 32, {act_bits, x_unit, y_unit, 0, 38}, "test");
      numerics::validate(q, act_bits, "test");
      const std::vector<float> real = normals(rng, static_cast<std::size_t>(m * k), 0.3);
      const numerics::Activations x = quantise::quantise_rows(real.data(), m, k, act_bits, -3);
      numerics::validate(x, "test");
      numerics::validate_shifts(q, x, "test");
      const auto y = numerics::requantise(q, numerics::multiply(q, x), numerics::token_shifts(x), 16, "test");
      for (std::int64_t t = 0; t < m; ++t)
        for (std::int64_t row = 0; row < n; ++row) {
          double wanted = 0, size = 0;
          for (std::int64_t i = 0; i < k; ++i) {
            const double x_real = std::ldexp(x.values[static_cast<std::size_t>(t * k + i)], -x.shift(t)) * x_unit;
            const double product = quantise::dequantise(q, row, i, x_unit, y_unit) * x_real;
            wanted += product;
            size += std::fabs(product);
          }
          CAPTURE(format.name(), act_bits, t, row);
          CHECK(std::fabs(y[static_cast<std::size_t>(t * n + row)] - wanted / y_unit) <= 0.5 + 1e-9 * size / y_unit);
        }
    }
  }
}

TEST_CASE("what a code stands for is the weight itself to within half a step", "[unit][quantise]") {
  base::Rng rng(7);
  const std::vector<float> w = normals(rng, 4 * 64, 0.1);
  const numerics::WeightMatrix q =
      quantise::quantise_matrix(w.data(), 4, 64, Format::integer(8), 32, {8, 1, 1, 0, 62}, "test");
  for (std::int64_t row = 0; row < 4; ++row)
    for (std::int64_t i = 0; i < 64; ++i)
      CHECK(quantise::dequantise(q, row, i, 1, 1) == Approx(w[static_cast<std::size_t>(row * 64 + i)]).margin(0.0025));
}

TEST_CASE("group multipliers leave room for the deepest sums", "[unit][quantise]") {
  const std::vector<float> w(std::size_t{1} << 17, 0.5F);
  const auto k = static_cast<std::int64_t>(w.size());
  const numerics::WeightMatrix q =
      quantise::quantise_matrix(w.data(), 1, k, Format::integer(4), 64, {16, 1, 1, 0, 62}, "test");
  CHECK(numerics::fits_accumulator(k, 16, q.multiplier_sum()));
  CHECK_FALSE(numerics::fits_accumulator(k, 16, 2 * q.multiplier_sum() + 1));
  const numerics::WeightMatrix levels =
      quantise::quantise_matrix(w.data(), 1, k, Format::mwq(2, 3, 1), 64, {16, 1, 1, 0, 62}, "test");
  CHECK_NOTHROW(numerics::validate(levels, 16, "test"));
}

TEST_CASE("weights that no integer can stand for are refused", "[unit][quantise]") {
  std::vector<float> w(16, 1.0F);
  const auto quantise_it = [&](double x_unit) {
    return quantise::quantise_matrix(w.data(), 1, 16, Format::integer(4), 16, {8, x_unit, 1e-9, 13, 62}, "layer 0");
  };
  CHECK_THROWS_WITH(quantise_it(1e30), Catch::Contains("layer 0: row 0: got a greatest group scale of"));
  w[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(quantise_it(1), Catch::Contains("layer 0: weight [0, 3]: got nan, expected a finite number"));
}

TEST_CASE("a token's shift brings its greatest value into the upper half of the range", "[unit][quantise]") {
  base::Rng rng(8);
  for (const int act_bits : {4, 8, 16}) {
    const int top = (1 << (act_bits - 1)) - 1;
    for (int i = 0; i < 200; ++i) {
      std::vector<float> x = normals(rng, 20, std::ldexp(1.0, static_cast<int>(rng.range(-12, 8))));
      const numerics::Activations q = quantise::quantise_rows(x.data(), 1, 20, act_bits, 12 - act_bits);
      int most = 0;
      for (const std::int16_t v : q.values) most = std::max(most, std::abs(static_cast<int>(v)));
      CHECK(most <= top);
      CHECK(most >= top / 2);
    }
  }
  const std::vector<float> rows = {0, 0, 1e30F, -1e30F, 1e-30F, 0};
  const numerics::Activations q = quantise::quantise_rows(rows.data(), 3, 2, 8, 0);
  CHECK(q.token_shift == std::vector<std::uint8_t>{0, 0, quantise::kMaxTokenShift});
  CHECK(q.values == std::vector<std::int16_t>{0, 0, 127, -128, 0, 0});
  const std::vector<float> bad = {1, std::numeric_limits<float>::infinity()};
  CHECK_THROWS_AS(quantise::quantise_rows(bad.data(), 1, 2, 8, 0), base::InputError);
}

TEST_CASE("router weights are rounded to 1/32768", "[unit][quantise]") {
  CHECK(quantise::router_weight(0.0F) == 0);
  CHECK(quantise::router_weight(1.0F) == 32768);
  CHECK(quantise::router_weight(0.5F + 1.6F / 65536) == 16385);
}

TEST_CASE(
    "an int8 expert is within 3 % of the float one with 8-bit activations and 1 % with 16 and any expert passes "
    "validation",
    "[unit][quantise]") {
  base::Rng rng(9);
  const std::int64_t hidden = 48, width = 72, rows = 20;
  const auto gate = normals(rng, static_cast<std::size_t>(hidden * width), 0.2), up = normals(rng, gate.size(), 0.2),
             down = normals(rng, gate.size(), 0.2), x = normals(rng, static_cast<std::size_t>(rows * hidden));
  std::vector<double> wanted(static_cast<std::size_t>(rows * hidden));
  quantise::LayerRanges ranges;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::vector<double> h(static_cast<std::size_t>(width));
    for (std::int64_t i = 0; i < width; ++i) {
      double g = 0, u = 0;
      for (std::int64_t j = 0; j < hidden; ++j) {
        const auto v = static_cast<double>(x[static_cast<std::size_t>(r * hidden + j)]);
        g += v * static_cast<double>(gate[static_cast<std::size_t>(i * hidden + j)]);
        u += v * static_cast<double>(up[static_cast<std::size_t>(i * hidden + j)]);
        ranges.x = std::max(ranges.x, std::fabs(v));
      }
      h[static_cast<std::size_t>(i)] = g / (1 + std::exp(-g)) * u;
      ranges.up = std::max(ranges.up, std::fabs(u));
      ranges.hidden = std::max(ranges.hidden, std::fabs(h[static_cast<std::size_t>(i)]));
    }
    for (std::int64_t j = 0; j < hidden; ++j) {
      double y = 0;
      for (std::int64_t i = 0; i < width; ++i)
        y += h[static_cast<std::size_t>(i)] * static_cast<double>(down[static_cast<std::size_t>(j * width + i)]);
      wanted[static_cast<std::size_t>(r * hidden + j)] = y;
      ranges.output = std::max(ranges.output, std::fabs(y));
    }
  }
  for (const int act_bits : {4, 8, 16}) {
    const quantise::LayerScales scales = quantise::choose_scales(ranges, act_bits);
    const numerics::Activations q = quantise::quantise_rows(x.data(), rows, hidden, act_bits, scales.x_exp);
    for (const Format format : numerics::all_formats()) {
      const numerics::ExpertWeights expert = quantise::quantise_expert(gate.data(), up.data(), down.data(), hidden,
                                                                       width, format, 16, act_bits, scales, "test");
      CAPTURE(format.name(), act_bits);
      REQUIRE_NOTHROW(numerics::validate(expert, q, "test"));
      REQUIRE_NOTHROW(numerics::validate_hidden_shifts(expert.down, {0, 13}, "test"));
      if (format != Format::integer(8) || act_bits == 4) continue;
      const auto result = numerics::expert_ffn(expert, q);
      double error = 0, energy = 0;
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        error += std::pow(std::ldexp(result.y[i], -scales.output_exp) - wanted[i], 2);
        energy += wanted[i] * wanted[i];
      }
      CHECK(std::sqrt(error / energy) < (act_bits == 8 ? 0.03 : 0.01));
    }
  }
}
