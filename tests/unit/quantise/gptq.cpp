// GPTQ: what it minimises, and that it writes the integers that every implementation takes.
#include "reference/quantise/gptq.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.h"
#include "base/rng.h"
#include "reference/quantise/expert.h"
#include "reference/quantise/round_to_nearest.h"

using namespace moesaic;
using numerics::Format;
using numerics::WeightMatrix;

namespace {

constexpr std::int64_t kRows = 12, kDepth = 72;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// sum of x x^T over correlated inputs: a few directions carry most of them.
std::vector<double> correlated_hessian(base::Rng& rng, std::int64_t k) {
  const std::int64_t directions = 6;
  std::vector<double> basis(at(directions * k));
  for (double& v : basis) v = rng.normal();
  std::vector<double> h(at(k * k));
  for (int sample = 0; sample < 300; ++sample) {
    std::vector<double> x(at(k));
    for (double& v : x) v = 0.3 * rng.normal();
    for (std::int64_t d = 0; d < directions; ++d) {
      const double size = rng.normal();
      for (std::int64_t i = 0; i < k; ++i) x[at(i)] += size * basis[at(d * k + i)];
    }
    for (std::int64_t i = 0; i < k; ++i)
      for (std::int64_t j = 0; j < k; ++j) h[at(i * k + j)] += x[at(i)] * x[at(j)];
  }
  return h;
}

std::vector<float> normals(base::Rng& rng, std::int64_t count) {
  std::vector<float> w(at(count));
  for (float& v : w) v = static_cast<float>(0.1 * rng.normal());
  return w;
}

/// tr((W - Q) H (W - Q)^T): the squared error of the outputs.
double output_error(const std::vector<float>& w, const WeightMatrix& q, const std::vector<double>& h) {
  double error = 0;
  for (std::int64_t row = 0; row < q.n; ++row) {
    std::vector<double> d;
    for (std::int64_t i = 0; i < q.k; ++i)
      d.push_back(static_cast<double>(w[at(row * q.k + i)]) - quantise::dequantise(q, row, i, 1, 1));
    for (std::int64_t i = 0; i < q.k; ++i)
      for (std::int64_t j = 0; j < q.k; ++j) error += d[at(i)] * h[at(i * q.k + j)] * d[at(j)];
  }
  return error;
}

const quantise::MatrixUnits kUnits = {8, 1, 1, 0, 62};

}  // namespace

TEST_CASE("the inverse factor is upper triangular and inverts the damped Hessian", "[unit][quantise]") {
  base::Rng rng(1);
  const std::int64_t k = 40;
  const std::vector<double> h = correlated_hessian(rng, k);
  double mean = 0;
  for (std::int64_t i = 0; i < k; ++i) mean += h[at(i * k + i)] / static_cast<double>(k);
  const quantise::InverseFactor factor = quantise::factor_inverse(h, k, 0.01, "test");
  std::vector<double> inverse(at(k * k));
  for (std::int64_t m = 0; m < k; ++m)
    for (std::int64_t i = 0; i < k; ++i)
      for (std::int64_t j = 0; j < k; ++j) inverse[at(i * k + j)] += factor.u[at(m * k + i)] * factor.u[at(m * k + j)];
  double worst = 0;
  for (std::int64_t i = 0; i < k; ++i)
    for (std::int64_t j = 0; j < k; ++j) {
      if (j < i) CHECK(factor.u[at(i * k + j)] == 0);
      double sum = 0;
      for (std::int64_t m = 0; m < k; ++m)
        sum += inverse[at(i * k + m)] * (h[at(m * k + j)] + (m == j ? 0.01 * mean : 0));
      worst = std::max(worst, std::fabs(sum - (i == j ? 1 : 0)));
    }
  CHECK(worst < 1e-9);
}

TEST_CASE("a Hessian that says nothing, or is none, is refused", "[unit][quantise]") {
  CHECK_THROWS_WITH(quantise::factor_inverse({0, 0, 0, 0}, 2, 0.01, "layer 3"),
                    "layer 3: mean of the Hessian's diagonal: got 0, expected a finite number above 0");
  CHECK_THROWS_WITH(quantise::factor_inverse({1, 5, 5, 1}, 2, 0.01, "layer 3"), Catch::Contains("Hessian's pivot 0"));
}

TEST_CASE("GPTQ's output error is below round-to-nearest's in every format of its own copy", "[unit][quantise]") {
  base::Rng rng(2);
  const std::vector<double> h = correlated_hessian(rng, kDepth);
  const quantise::InverseFactor factor = quantise::factor_inverse(h, kDepth, 0.01, "test");
  const std::vector<float> w = normals(rng, kRows * kDepth);
  for (const Format format : numerics::all_formats()) {
    if (format.kind() == numerics::FormatKind::kNested && format.bits() < 8) continue;  // the copy is the 8-bit one
    if (format.levels() != format.stored_levels()) continue;                            // or that of all levels
    CAPTURE(format.name());
    const WeightMatrix nearest = quantise::quantise_matrix(w.data(), kRows, kDepth, format, 24, kUnits, "test");
    const WeightMatrix ours =
        quantise::quantise_matrix_gptq(w.data(), kRows, kDepth, factor, format, 24, kUnits, "test");
    CHECK(output_error(w, ours, h) < 0.8 * output_error(w, nearest, h));
  }
}

TEST_CASE("with inputs that do not correlate GPTQ is round-to-nearest but for the last bit of its scales",
          "[unit][quantise]") {
  base::Rng rng(3);
  std::vector<double> h(at(kDepth * kDepth));
  for (std::int64_t i = 0; i < kDepth; ++i) h[at(i * kDepth + i)] = 1 + rng.uniform();
  const quantise::InverseFactor factor = quantise::factor_inverse(h, kDepth, 0.01, "test");
  const std::vector<float> w = normals(rng, kRows * kDepth);
  for (const Format format : numerics::one_bundle_formats()) {
    CAPTURE(format.name());
    const WeightMatrix nearest = quantise::quantise_matrix(w.data(), kRows, kDepth, format, 24, kUnits, "test");
    const WeightMatrix ours =
        quantise::quantise_matrix_gptq(w.data(), kRows, kDepth, factor, format, 24, kUnits, "test");
    CHECK(ours.zero_point == nearest.zero_point);
    std::size_t different = 0;
    for (std::size_t i = 0; i < ours.codes.size(); ++i) different += ours.codes[i] != nearest.codes[i];
    CHECK(different <= 2);  // of 864: weights halfway between codes
    CHECK(2 * ours.multiplier_sum() <= nearest.multiplier_sum() + 1);
  }
}

TEST_CASE("working in blocks gives the codes of one column after the other", "[unit][quantise]") {
  base::Rng rng(4);
  const std::int64_t k = 300, n = 5;
  const quantise::InverseFactor factor = quantise::factor_inverse(correlated_hessian(rng, k), k, 0.01, "test");
  const std::vector<float> w = normals(rng, n * k);
  for (const std::int64_t group : {8, 24, 64, 136, 304}) {
    CAPTURE(group);
    const Format format = Format::integer(3);
    const WeightMatrix q = quantise::quantise_matrix_gptq(w.data(), n, k, factor, format, group, kUnits, "test");
    for (std::int64_t row = 0; row < n; ++row) {
      // The definition, with the multipliers that were chosen.
      std::vector<double> real(w.begin() + row * k, w.begin() + (row + 1) * k);
      double greatest = 0;
      for (std::int64_t g = 0; g < q.groups(); ++g)
        greatest = std::max(greatest, quantise::fit_group(w.data() + row * k + q.group_begin(g),
                                                          q.group_end(g) - q.group_begin(g), format)
                                          .scale);
      const double unit = 2 * greatest / 65535;
      for (std::int64_t j = 0; j < k; ++j) {
        const std::int64_t g = j / group;
        const std::size_t own = at(row * q.groups() + g);
        if (j == q.group_begin(g)) {
          const std::vector<float> now(real.begin() + j, real.begin() + q.group_end(g));
          const quantise::GroupFit fit = quantise::fit_group(now.data(), static_cast<std::int64_t>(now.size()), format);
          REQUIRE(q.zero_point[own] == fit.zero_point);
          REQUIRE(q.group_multiplier[own] == std::floor(fit.scale / unit + 0.5));
        }
        const double scale = q.group_multiplier[own] * unit;
        const std::uint8_t code = quantise::encode(real[at(j)], scale, q.zero_point[own], format);
        REQUIRE(q.codes[at(row * k + j)] == code);
        const double error = (real[at(j)] - scale * format.weight(code, q.zero_point[own])) / factor.u[at(j * k + j)];
        for (std::int64_t i = j + 1; i < k; ++i) real[at(i)] -= error * factor.u[at(j * k + i)];
      }
    }
  }
}

TEST_CASE("GPTQ's nested and MWQ copies are one whatever is read of them, and its integers pass validation",
          "[unit][quantise]") {
  base::Rng rng(5);
  const quantise::InverseFactor factor =
      quantise::factor_inverse(correlated_hessian(rng, kDepth), kDepth, 0.01, "test");
  std::vector<float> w = normals(rng, kRows * kDepth);
  std::fill_n(w.begin() + kDepth, kDepth, 0.0F);  // a column of zeros
  for (const int act_bits : {4, 8, 16}) {
    const quantise::MatrixUnits units = {act_bits, 0.01, 0.01, 0, 38};
    const WeightMatrix whole =
        quantise::quantise_matrix_gptq(w.data(), kRows, kDepth, factor, Format::nested(8), 24, units, "test");
    for (const Format format : numerics::all_formats()) {
      CAPTURE(format.name(), act_bits);
      const WeightMatrix q = quantise::quantise_matrix_gptq(w.data(), kRows, kDepth, factor, format, 24, units, "test");
      REQUIRE_NOTHROW(numerics::validate(q, act_bits, "test"));
      if (format.levels() < format.stored_levels()) {
        const Format all = Format::mwq(format.base_planes(), format.stored_levels(), format.stored_levels());
        const WeightMatrix copy =
            quantise::quantise_matrix_gptq(w.data(), kRows, kDepth, factor, all, 24, units, "test");
        CHECK(q.codes == copy.codes);
        CHECK(q.level_multiplier == copy.level_multiplier);
      }
      if (format.kind() != numerics::FormatKind::kNested) continue;
      CHECK(q.codes == whole.codes);
      CHECK(q.zero_point == whole.zero_point);
      CHECK(q.group_multiplier == whole.group_multiplier);
      CHECK(q.requant_multiplier == whole.requant_multiplier);
      CHECK(q.requant_shift == whole.requant_shift);
    }
  }
}

TEST_CASE("all of a matrix dequantised is each of its weights", "[unit][quantise]") {
  base::Rng rng(6);
  const std::vector<float> w = normals(rng, 3 * 40);
  const WeightMatrix q =
      quantise::quantise_matrix(w.data(), 3, 40, Format::nested(3), 16, {8, 0.5, 0.25, 0, 62}, "test");
  const std::vector<float> all = quantise::dequantise(q, 0.5, 0.25);
  REQUIRE(all.size() == w.size());
  for (std::int64_t row = 0; row < 3; ++row)
    for (std::int64_t i = 0; i < 40; ++i)
      CHECK(static_cast<double>(all[at(row * 40 + i)]) == Approx(quantise::dequantise(q, row, i, 0.5, 0.25)));
}
