// The way back through the float network against finite differences of the way there.
#include <catch2/catch.hpp>
#include <cmath>

#include "reference/network/forward.h"
#include "tests/unit/network/tiny_model.h"

using namespace moesaic;
using namespace moesaic::tests;

namespace {

/// Sum of -ln p over the predicted tokens.
double loss(const std::vector<float>& logits, const std::vector<std::uint32_t>& tokens) {
  double sum = 0;
  for (std::size_t t = 0; t + 1 < tokens.size(); ++t) {
    const float* row = logits.data() + t * kTinyVocab;
    double total = 0;
    for (std::size_t v = 0; v < kTinyVocab; ++v) total += std::exp(static_cast<double>(row[v]));
    sum += std::log(total) - static_cast<double>(row[tokens[t + 1]]);
  }
  return sum;
}

struct Streams : network::MoeObserver {
  std::vector<std::vector<float>> after;
  void on_moe(std::size_t, const network::MoeBatch&) override {}
  void after_layer(std::size_t, int, const float* stream, std::size_t rows, std::size_t hidden) override {
    after.emplace_back(stream, stream + rows * hidden);
  }
};

struct Choices : network::MoeObserver {
  std::vector<std::uint32_t> all;
  void on_moe(std::size_t, const network::MoeBatch& b) override {
    all.insert(all.end(), b.chosen, b.chosen + b.rows * b.top_k);
  }
};

}  // namespace

TEST_CASE("gradients of the loss are its finite differences, at every layer's output", "[unit][network]") {
  const TemporaryFolder folder;
  const network::Forward forward(workloads::Checkpoint(write_tiny_model(folder, "m", tiny_tensors(7))));
  base::Rng rng(11);
  std::vector<std::uint32_t> tokens(24);
  for (std::uint32_t& t : tokens) t = static_cast<std::uint32_t>(rng.below(kTinyVocab));
  Streams streams;
  forward.run(tokens.data(), tokens.size(), forward.float_experts(), 0, &streams);
  const auto gradients = forward.output_gradients(tokens.data(), tokens.size());
  REQUIRE(gradients.size() == kTinyLayers);

  const float step = 1.0F / 128;
  std::size_t compared = 0;
  double greatest = 0;
  for (std::size_t layer = 0; layer < kTinyLayers; ++layer) {
    REQUIRE(gradients[layer].size() == tokens.size() * kTinyHidden);
    for (std::size_t i = 0; i < gradients[layer].size(); i += 7) {
      double side[2];
      Choices choices[2];
      for (const int sign : {0, 1}) {
        std::vector<float> moved = streams.after[layer];
        moved[i] += sign == 0 ? step : -step;
        side[sign] =
            loss(forward.resume(layer + 1, std::move(moved), tokens.size(), forward.float_experts(), 0, &choices[sign]),
                 tokens);
      }
      if (choices[0].all != choices[1].all) continue;  // the loss jumps where a choice does
      const double slope = (side[0] - side[1]) / 2 / static_cast<double>(step);
      CAPTURE(layer, i);
      CHECK(static_cast<double>(gradients[layer][i]) == Approx(slope).epsilon(0.01).margin(0.003));
      greatest = std::max(greatest, std::fabs(slope));
      ++compared;
    }
  }
  CHECK(compared > 50);
  CHECK(greatest > 0.1);
}
