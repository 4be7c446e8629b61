// The quantiser writes the same integers on every machine: experts.csv here holds, for every format, the seed of an
// expert and the SHA-256 of all it became, rounded to nearest and by GPTQ. After a wanted change: golden_quantise
// '[.write]' rewrites it.
#include <catch2/catch.hpp>

#include "base/atomic_file.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "reference/quantise/expert.h"

using namespace moesaic;

namespace {

constexpr std::uint64_t kSeed = 20;
constexpr const char* kTable = "tests/golden/quantise/experts.csv";

/// Weights that are exact on every machine: Rng::uniform, no libm.
std::vector<float> weights(const char* name) {
  base::Rng rng = base::Rng(kSeed).stream(name);
  std::vector<float> w(24 * 56);
  for (float& v : w) v = static_cast<float>((rng.uniform() + rng.uniform() + rng.uniform() - 1.5) * 0.25);
  return w;
}

/// Curvature of 100 inputs that share a direction.
quantise::InverseFactor curvature(const char* name, std::int64_t k) {
  base::Rng rng = base::Rng(kSeed).stream(name);
  std::vector<double> h(static_cast<std::size_t>(k * k));
  for (int sample = 0; sample < 100; ++sample) {
    const double shared = rng.uniform() - 0.5;
    std::vector<double> x(static_cast<std::size_t>(k));
    for (double& v : x) v = shared + rng.uniform() - 0.5;
    for (std::size_t i = 0; i < x.size(); ++i)
      for (std::size_t j = 0; j < x.size(); ++j) h[i * x.size() + j] += x[i] * x[j];
  }
  return quantise::factor_inverse(h, k, 0.01, name);
}

std::string hash(numerics::Format format, const quantise::ExpertCurvature* of_inputs) {
  quantise::LayerScales scales;
  scales.x_exp = -4;
  scales.up_exp = 11;
  scales.hidden_exp = 9;
  scales.output_exp = 10;
  const auto gate = weights("gate"), up = weights("up"), down = weights("down");
  const numerics::ExpertWeights e = quantise::quantise_expert(gate.data(), up.data(), down.data(), 24, 56, format, 16,
                                                              8, scales, "golden", of_inputs);
  base::Sha256 sum;
  for (const numerics::WeightMatrix* w : {&e.gate, &e.up, &e.down}) {
    const auto add = [&](const auto& v) { sum.add(v.data(), v.size() * sizeof v[0]); };
    add(w->codes);
    add(w->zero_point);
    add(w->group_multiplier);
    add(w->level_multiplier);
    add(w->requant_multiplier);
    add(w->requant_shift);
  }
  return sum.hex();
}

std::string table() {
  const quantise::ExpertCurvature of_inputs = {curvature("x", 24), curvature("hidden", 56)};
  std::string text = "format,seed,sha256,gptq_sha256\n";
  std::vector<numerics::Format> formats = numerics::one_bundle_formats();
  for (const char* name : {"mwq1+1", "mwq1+3", "mwq2+1", "mwq2+1of2", "mwq2+2", "mwq3+1", "mwq4+4"})
    formats.push_back(numerics::Format::parse(name, "golden", "format"));
  for (const numerics::Format f : formats)
    text += f.name() + "," + std::to_string(kSeed) + "," + hash(f, nullptr) + "," + hash(f, &of_inputs) + "\n";
  return text;
}

}  // namespace

TEST_CASE("every format's integers are the recorded ones", "[golden][quantise]") {
  CHECK(table() == base::read_file(kTable));
}

TEST_CASE("write the table", "[.write]") { base::write_file(kTable, table()); }
