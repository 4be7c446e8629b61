// The quantised experts as a back end of the forward pass, and calibration, on a tiny network.
#include <catch2/catch.hpp>
#include <cmath>

#include "reference/network/calibrate.h"
#include "reference/network/evaluate.h"
#include "reference/network/quantised_experts.h"
#include "reference/numerics/combine.h"
#include "tests/unit/network/tiny_model.h"

using namespace moesaic;
using numerics::Format;

namespace {

struct Tiny {
  tests::TemporaryFolder folder;
  workloads::Checkpoint checkpoint{tests::write_tiny_model(folder, "tiny", tests::tiny_tensors(7))};
  network::Forward forward{checkpoint};
  std::shared_ptr<const network::ExpertStore> store = std::make_shared<network::ExpertStore>(forward, checkpoint, 8, 1);
  std::vector<std::uint32_t> tokens;

  Tiny() {
    base::Rng rng(3);
    for (int i = 0; i < 16 * 40; ++i) tokens.push_back(static_cast<std::uint32_t>(rng.below(tests::kTinyVocab)));
  }
  workloads::Plan plan(Format format) const {
    return workloads::uniform_plan(checkpoint.network(), checkpoint.hash(), format, 8);
  }
};

}  // namespace

TEST_CASE("quantised experts give the same bits however rows are batched and threads share the work",
          "[unit][quantise]") {
  const Tiny tiny;
  const network::QuantisedExperts one(tiny.store, tiny.plan(Format::integer(4)), 1);
  const network::QuantisedExperts three(std::make_shared<network::ExpertStore>(tiny.forward, tiny.checkpoint, 8, 3),
                                        tiny.plan(Format::integer(4)), 3);
  const auto a = network::evaluate(tiny.forward, one, tiny.tokens, 40, 1);
  const auto b = network::evaluate(tiny.forward, three, tiny.tokens, 40, 3);
  CHECK(a.window_bits == b.window_bits);

  base::Rng rng(4);
  std::vector<float> x(6 * tests::kTinyHidden), weights;
  for (float& v : x) v = static_cast<float>(rng.normal());
  std::vector<std::uint32_t> chosen;
  for (int row = 0; row < 6; ++row) {
    chosen.push_back(static_cast<std::uint32_t>(row % 4));
    chosen.push_back(static_cast<std::uint32_t>((row + 1) % 4));
    weights.insert(weights.end(), {0.75F, 0.25F});
  }
  network::MoeBatch batch;
  batch.layer = 1;
  batch.hidden = tests::kTinyHidden;
  batch.experts = 4;
  batch.top_k = 2;
  std::vector<float> whole(x.size()), single(tests::kTinyHidden);
  batch.rows = 6;
  batch.x = x.data();
  batch.chosen = chosen.data();
  batch.weights = weights.data();
  one.run(batch, whole.data());
  batch.rows = 1;
  for (std::size_t row = 0; row < 6; ++row) {
    batch.x = x.data() + row * tests::kTinyHidden;
    batch.chosen = chosen.data() + row * 2;
    one.run(batch, single.data());
    CHECK(std::equal(single.begin(), single.end(),
                     whole.begin() + static_cast<std::ptrdiff_t>(row * tests::kTinyHidden)));
  }
}

TEST_CASE("the integer block is what the reference arithmetic computes from its own parts", "[unit][quantise]") {
  const Tiny tiny;
  const network::QuantisedExperts experts(tiny.store, tiny.plan(Format::nested(3)), 1);
  struct Check : network::MoeObserver {
    const network::QuantisedExperts& experts;
    int layers = 0;
    explicit Check(const network::QuantisedExperts& e) : experts(e) {}
    void on_moe(std::size_t, const network::MoeBatch& batch) override {
      ++layers;
      const auto block = experts.run_integers(batch);
      const auto rows = static_cast<std::int64_t>(batch.rows);
      for (std::size_t row = 0; row < batch.rows; ++row)
        for (std::size_t slot = 0; slot < batch.top_k; ++slot) {
          network::ExpertRows mine;
          mine.row = {static_cast<std::uint32_t>(row)};
          const auto result = numerics::expert_ffn(
              experts.weights(batch.layer, static_cast<int>(batch.chosen[row * batch.top_k + slot])),
              network::gather_rows(block.x, mine), numerics::Path::kReference);
          CHECK(std::equal(result.y.begin(), result.y.end(),
                           block.down.begin() + static_cast<std::ptrdiff_t>((slot * batch.rows + row) * batch.hidden)));
        }
      CHECK(block.y == numerics::combine(block.down, block.r, 2, rows, static_cast<std::int64_t>(batch.hidden)));
      std::vector<float> y(block.y.size());
      experts.run(batch, y.data());
      for (std::size_t i = 0; i < y.size(); ++i)
        CHECK(static_cast<double>(y[i]) == std::ldexp(block.y[i], -experts.scales(batch.layer).output_exp));
    }
  } check(experts);
  tiny.forward.run(tiny.tokens.data(), 12, experts, 0, &check);
  CHECK(check.layers == tests::kTinyLayers);
}

TEST_CASE("resuming from a layer's own stream gives the run's bits", "[unit][quantise]") {
  const Tiny tiny;
  struct Keep : network::MoeObserver {
    std::vector<std::vector<float>> streams;
    void on_moe(std::size_t, const network::MoeBatch&) override {}
    void after_layer(std::size_t, int, const float* stream, std::size_t rows, std::size_t hidden) override {
      streams.emplace_back(stream, stream + rows * hidden);
    }
  } keep;
  const auto& experts = tiny.forward.float_experts();
  const auto logits = tiny.forward.run(tiny.tokens.data(), 20, experts, 0, &keep);
  REQUIRE(keep.streams.size() == tests::kTinyLayers);
  for (std::size_t layer = 0; layer < keep.streams.size(); ++layer)
    CHECK(tiny.forward.resume(layer + 1, keep.streams[layer], 20, experts) == logits);
}

TEST_CASE("divergence is 0 from itself, positive from another, and what its formula says", "[unit][quantise]") {
  const std::vector<float> a = {0, 1, 2, 0.5F, 0, 0}, b = {1, 1, 0, 0.5F, 0.25F, 0};
  CHECK(network::mean_divergence(a, a, 3) == Approx(0).margin(1e-12));
  double wanted = 0;
  for (std::size_t row = 0; row < 2; ++row) {
    double za = 0, zb = 0;
    for (std::size_t v = 3 * row; v < 3 * row + 3; ++v) {
      za += std::exp(static_cast<double>(a[v]));
      zb += std::exp(static_cast<double>(b[v]));
    }
    for (std::size_t v = 3 * row; v < 3 * row + 3; ++v) {
      const double p = std::exp(static_cast<double>(a[v])) / za, q = std::exp(static_cast<double>(b[v])) / zb;
      wanted += p * std::log2(p / q) / 2;
    }
  }
  CHECK(network::mean_divergence(a, b, 3) == Approx(wanted).epsilon(1e-9));
}

TEST_CASE("calibration is the same on any number of threads and falls with the width", "[unit][quantise]") {
  const Tiny tiny;
  for (const auto kind : {network::LossKind::kDivergence, network::LossKind::kError}) {
    network::CalibrateOptions options;
    options.formats = workloads::parse_formats("int2,int4,int8,nested3,binary", "test", "formats");
    options.window = 40;
    options.loss = kind;
    options.loss_windows = 5;
    std::size_t steps = 0;
    const auto rows = network::calibrate(tiny.forward, tiny.store, tiny.tokens, options, [&] { ++steps; });
    CHECK(steps == network::calibrate_steps(tiny.tokens, options));
    options.threads = 3;
    CHECK(workloads::format_sensitivity(network::calibrate(tiny.forward, tiny.store, tiny.tokens, options)) ==
          workloads::format_sensitivity(rows));
    REQUIRE(rows.size() == 2 * 4 * 5);
    double frequency = 0, weight = 0, by_format[5] = {};
    for (std::size_t i = 0; i < rows.size(); ++i) {
      CHECK(rows[i].layer == static_cast<int>(i / 20));
      CHECK(rows[i].expert == static_cast<int>(i / 5 % 4));
      CHECK(rows[i].format == options.formats[i % 5]);
      CHECK(rows[i].loss >= 0);
      by_format[i % 5] += rows[i].loss;
      frequency += rows[i].frequency / 5;
      weight += rows[i].weight / 5;
    }
    CHECK(frequency == Approx(2 * 2));  // two layers, two experts a token
    CHECK(weight == Approx(2));
    CHECK(by_format[0] > by_format[1]);
    CHECK(by_format[1] > by_format[2]);
    CHECK(by_format[4] > by_format[1]);
  }
}
