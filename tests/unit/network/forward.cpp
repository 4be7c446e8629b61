#include "reference/network/forward.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <mutex>

#include "base/error.h"
#include "reference/network/evaluate.h"
#include "reference/network/gemm.h"
#include "reference/network/vector_math.h"
#include "tests/unit/network/tiny_model.h"

using namespace moesaic;
using namespace moesaic::tests;

namespace {

using Matrix = std::vector<std::vector<double>>;  // [row][column]

/// The whole network in double, written from the equations and sharing nothing with the code under test.
struct NaiveMixtral {
  std::map<std::string, TinyTensor> t;

  std::vector<double> linear(const std::string& name, const std::vector<double>& x) const {
    const TinyTensor& w = t.at(name);
    std::vector<double> y(static_cast<std::size_t>(w.shape[0]), 0.0);
    for (std::size_t o = 0; o < y.size(); ++o)
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += static_cast<double>(w.data[o * x.size() + i]) * x[i];
    return y;
  }
  std::vector<double> norm(const std::string& name, const std::vector<double>& x) const {
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + kTinyEps);
    std::vector<double> y;
    for (std::size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * scale * static_cast<double>(t.at(name).data[i]));
    return y;
  }
  static void rotate(std::vector<double>& x, std::size_t heads, std::size_t position) {
    constexpr std::size_t d = kTinyHeadDim;
    for (std::size_t h = 0; h < heads; ++h)
      for (std::size_t i = 0; i < d / 2; ++i) {
        const double angle = static_cast<double>(position) *
                             std::pow(kTinyTheta, -2.0 * static_cast<double>(i) / static_cast<double>(d));
        const double a = x[h * d + i];
        const double b = x[h * d + i + d / 2];
        x[h * d + i] = a * std::cos(angle) - b * std::sin(angle);
        x[h * d + i + d / 2] = b * std::cos(angle) + a * std::sin(angle);
      }
  }
  std::vector<double> experts(const std::string& prefix, const std::vector<double>& x) const {
    const std::vector<double> logits = linear(prefix + "block_sparse_moe.gate.weight", x);
    std::vector<std::size_t> order = {0, 1, 2, 3};
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    const double total = std::exp(logits[order[0]]) + std::exp(logits[order[1]]);
    std::vector<double> y(x.size(), 0.0);
    for (std::size_t slot = 0; slot < 2; ++slot) {
      const std::string one = prefix + "block_sparse_moe.experts." + std::to_string(order[slot]) + ".";
      std::vector<double> gate = linear(one + "w1.weight", x);
      const std::vector<double> up = linear(one + "w3.weight", x);
      for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      const std::vector<double> out = linear(one + "w2.weight", gate);
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += std::exp(logits[order[slot]]) / total * out[i];
    }
    return y;
  }
  Matrix logits(const std::vector<std::uint32_t>& tokens) const {
    constexpr std::size_t d = kTinyHeadDim;
    Matrix x;
    for (const std::uint32_t token : tokens) {
      const auto row = t.at("model.embed_tokens.weight").data.begin() + token * kTinyHidden;
      x.emplace_back(row, row + kTinyHidden);
    }
    for (int layer = 0; layer < kTinyLayers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".";
      Matrix q, k, v;
      for (std::size_t p = 0; p < x.size(); ++p) {
        const std::vector<double> n = norm(prefix + "input_layernorm.weight", x[p]);
        q.push_back(linear(prefix + "self_attn.q_proj.weight", n));
        k.push_back(linear(prefix + "self_attn.k_proj.weight", n));
        v.push_back(linear(prefix + "self_attn.v_proj.weight", n));
        rotate(q.back(), kTinyHeads, p);
        rotate(k.back(), kTinyKvHeads, p);
      }
      for (std::size_t p = 0; p < x.size(); ++p) {
        std::vector<double> attended(kTinyHeads * d, 0.0);
        for (std::size_t h = 0; h < kTinyHeads; ++h) {
          const std::size_t kv = h / (kTinyHeads / kTinyKvHeads);
          std::vector<double> share;
          double total = 0;
          for (std::size_t s = 0; s <= p; ++s) {
            double dot = 0;
            for (std::size_t i = 0; i < d; ++i) dot += q[p][h * d + i] * k[s][kv * d + i];
            share.push_back(std::exp(dot / std::sqrt(static_cast<double>(d))));
            total += share.back();
          }
          for (std::size_t s = 0; s <= p; ++s)
            for (std::size_t i = 0; i < d; ++i) attended[h * d + i] += share[s] / total * v[s][kv * d + i];
        }
        const std::vector<double> out = linear(prefix + "self_attn.o_proj.weight", attended);
        for (std::size_t i = 0; i < out.size(); ++i) x[p][i] += out[i];
      }
      for (std::vector<double>& row : x) {
        const std::vector<double> out = experts(prefix, norm(prefix + "post_attention_layernorm.weight", row));
        for (std::size_t i = 0; i < out.size(); ++i) row[i] += out[i];
      }
    }
    Matrix y;
    for (const std::vector<double>& row : x) y.push_back(linear("lm_head.weight", norm("model.norm.weight", row)));
    return y;
  }
};

std::vector<std::uint32_t> random_tokens(std::size_t count, std::uint64_t seed) {
  base::Rng rng(seed);
  std::vector<std::uint32_t> tokens(count);
  for (std::uint32_t& token : tokens) token = static_cast<std::uint32_t>(rng.below(kTinyVocab));
  return tokens;
}

struct Recorder : network::MoeObserver {
  std::mutex mutex;
  std::map<std::pair<std::size_t, int>, std::vector<std::uint32_t>> chosen;
  void on_moe(std::size_t window, const network::MoeBatch& batch) override {
    const std::lock_guard<std::mutex> lock(mutex);
    chosen[{window, batch.layer}].assign(batch.chosen, batch.chosen + batch.rows * batch.top_k);
  }
};

}  // namespace

TEST_CASE("the forward pass equals a naive one in double to 1e-4", "[unit][network]") {
  const TemporaryFolder folder;
  const NaiveMixtral naive{tiny_tensors(7)};
  const network::Forward forward(workloads::Checkpoint(write_tiny_model(folder, "m", naive.t)));
  // 61 rows: more than one block of query rows, and no multiple of any block.
  const std::vector<std::uint32_t> tokens = random_tokens(61, 3);
  const std::vector<float> logits = forward.run(tokens.data(), tokens.size(), forward.float_experts());
  const Matrix expected = naive.logits(tokens);
  double worst = 0;
  for (std::size_t p = 0; p < tokens.size(); ++p)
    for (std::size_t i = 0; i < kTinyVocab; ++i)
      worst = std::max(worst, std::abs(static_cast<double>(logits[p * kTinyVocab + i]) - expected[p][i]));
  CHECK(worst < 1e-4);
}

TEST_CASE("a prefix gives the same bits as the start of a longer window", "[unit][network]") {
  const TemporaryFolder folder;
  const network::Forward forward(workloads::Checkpoint(write_tiny_model(folder, "m", tiny_tensors(8))));
  const std::vector<std::uint32_t> tokens = random_tokens(64, 4);
  const std::vector<float> whole = forward.run(tokens.data(), 64, forward.float_experts());
  for (const std::size_t length : {1UL, 2UL, 5UL, 47UL, 50UL}) {
    const std::vector<float> part = forward.run(tokens.data(), length, forward.float_experts());
    CHECK(std::equal(part.begin(), part.end(), whole.begin()));
  }
}

TEST_CASE("both spellings and all precisions of a checkpoint give the same bits", "[unit][network]") {
  const TemporaryFolder folder;
  const std::map<std::string, TinyTensor> tensors = tiny_tensors(9);
  const std::vector<std::uint32_t> tokens = random_tokens(20, 5);
  const auto logits = [&](const std::string& model) {
    const network::Forward forward{workloads::Checkpoint(model)};
    return forward.run(tokens.data(), tokens.size(), forward.float_experts());
  };
  const std::vector<float> expected = logits(write_tiny_model(folder, "f32", tensors));
  CHECK(logits(write_tiny_model(folder, "bf16", tensors, base::DType::kBf16)) == expected);
  CHECK(logits(write_tiny_model(folder, "f16", tensors, base::DType::kF16)) == expected);
  CHECK(logits(write_tiny_model(folder, "fused", fuse(tensors), base::DType::kBf16, true)) == expected);
}

TEST_CASE("evaluation gives the same bits on 1, 2 and 5 threads", "[unit][network]") {
  const TemporaryFolder folder;
  const network::Forward forward(workloads::Checkpoint(write_tiny_model(folder, "m", tiny_tensors(10))));
  const std::vector<std::uint32_t> tokens = random_tokens(16 * 9 + 15, 6);
  const network::Evaluation one = network::evaluate(forward, forward.float_experts(), tokens, 16, 1);
  CHECK(one.windows == 9);  // the 15 tokens left over are dropped
  CHECK(one.predicted == 9 * 15);
  for (const unsigned threads : {2U, 5U}) {
    const network::Evaluation more = network::evaluate(forward, forward.float_experts(), tokens, 16, threads);
    CHECK(more.bits_per_byte == one.bits_per_byte);
    CHECK(more.window_bits == one.window_bits);
    CHECK(more.standard_error == one.standard_error);
  }
}

TEST_CASE("the evaluated loss is the mean of -log2 of the softmax at the next token", "[unit][network]") {
  const std::vector<float> logits = {0, 1, 2, 5, -1, 0, 9, 9, 9};  // the last row predicts nothing
  const std::uint32_t tokens[] = {0, 2, 0};
  const double first = std::log2(std::exp(0.0) + std::exp(1.0) + std::exp(2.0)) - 2 / std::log(2.0);
  const double second = std::log2(std::exp(5.0) + std::exp(-1.0) + std::exp(0.0)) - 5 / std::log(2.0);
  CHECK(network::window_bits(logits, tokens, 3, 3) == Approx((first + second) / 2).margin(1e-6));
  CHECK(network::standard_error({1.0, 2.0, 3.0, 6.0}).value() == Approx(std::sqrt(14.0 / 3.0 / 4.0)));
  CHECK(!network::standard_error({1.0}));
}

TEST_CASE("the observer sees every window and layer once, with distinct experts", "[unit][network]") {
  const TemporaryFolder folder;
  const network::Forward forward(workloads::Checkpoint(write_tiny_model(folder, "m", tiny_tensors(11))));
  const std::vector<std::uint32_t> tokens = random_tokens(8 * 3, 7);
  Recorder recorder;
  network::for_each_window(
      3, 2, [&](std::size_t w) { forward.run(tokens.data() + 8 * w, 8, forward.float_experts(), w, &recorder); });
  REQUIRE(recorder.chosen.size() == 3 * kTinyLayers);
  for (const auto& entry : recorder.chosen)
    for (std::size_t row = 0; row < 8; ++row) CHECK(entry.second[2 * row] != entry.second[2 * row + 1]);
}

TEST_CASE("the matrix product adds in the order of k on every block size and instruction set", "[unit][network]") {
  network::NamedProduct products[3] = {};
  const int count = network::runnable_products(products);
  base::Rng rng(12);
  for (const std::size_t m : {1UL, 5UL, 6UL, 13UL, 23UL})
    for (const std::size_t n : {1UL, 16UL, 35UL})
      for (const std::size_t k : {1UL, 17UL, 64UL}) {
        std::vector<float> x(m * k), w(n * k), wanted(m * n);
        for (float& v : x) v = static_cast<float>(rng.normal());
        for (float& v : w) v = static_cast<float>(rng.normal());
        for (std::size_t r = 0; r < m; ++r)
          for (std::size_t c = 0; c < n; ++c) {
            volatile float sum = 0;  // no contraction and no reordering in the check either
            for (std::size_t i = 0; i < k; ++i) {
              const volatile float product = x[r * k + i] * w[c * k + i];
              sum = sum + product;
            }
            wanted[r * n + c] = sum;
          }
        const network::PackedMatrix packed = network::pack_rows(w.data(), n, k);
        std::vector<float> y(m * n);
        network::multiply(x.data(), m, packed, y.data());
        CHECK(y == wanted);
        for (int p = 0; p < count; ++p) {
          CAPTURE(products[p].name, m, n, k);
          std::fill(y.begin(), y.end(), 0.0F);
          products[p].run(x.data(), m, k, packed.data.data(), k, k, n, y.data(), n);
          CHECK(y == wanted);
        }
      }
}

TEST_CASE("the exponential is within 2e-7 of libm's and silu keeps its sign", "[unit][network]") {
  double worst = 0;
  for (int i = -86000; i <= 86000; ++i) {
    const float x = static_cast<float>(i) / 1000.0F;
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(network::exp_float(x)) / exact - 1));
  }
  CHECK(worst < 2e-7);
  CHECK(network::silu(-1000.0F) <= 0.0F);
  CHECK(network::silu(-1000.0F) > -1e-30F);
  CHECK(network::silu(1000.0F) == 1000.0F);
  CHECK(network::silu(0.0F) == 0.0F);
}

TEST_CASE("what the forward pass cannot run is refused with file and key", "[unit][network]") {
  const TemporaryFolder folder;
  const auto refused_as = [&](const std::string& from, const std::string& to, const std::string& text) {
    const std::string model = write_tiny_model(folder, "m", tiny_tensors(1));
    std::string config = tiny_config();
    config.replace(config.find(from), from.size(), to);
    folder.write("m/config.json", config);
    CHECK_THROWS_WITH(network::Forward(workloads::Checkpoint(model)), Catch::Contains(text));
  };
  refused_as("\"silu\"", "\"gelu\"", "m/config.json: hidden_act: got gelu, expected silu");
  refused_as("\"rope_theta\": 10000.0", "\"rope_theta\": 10000.0, \"rope_scaling\": {\"rope_type\": \"yarn\"}",
             "rope_type: got yarn, expected default");
  refused_as("\"hidden_size\": 12", "\"hidden_size\": 16", "got shape [17, 12], expected [17, 16]");
  refused_as("\"num_local_experts\": 4", "\"num_local_experts\": 5", "got shape [4, 12], expected [5, 12]");

  const network::Forward forward(workloads::Checkpoint(write_tiny_model(folder, "m", tiny_tensors(1))));
  const std::vector<std::uint32_t> tokens(65, 0);
  CHECK_THROWS_WITH(
      forward.run(tokens.data(), 65, forward.float_experts()),
      folder.file("m/config.json") + ": window: got 65 tokens, expected at most 64 (max_position_embeddings)");
  const std::uint32_t beyond[] = {1, 17};
  CHECK_THROWS_WITH(
      forward.run(beyond, 2, forward.float_experts(), 3),
      folder.file("m/config.json") + ": token 1 of window 3: got 17, expected less than the vocabulary, 17");
  CHECK_THROWS_WITH(network::evaluate(forward, forward.float_experts(), {1, 2, 3}, 4, 1),
                    "text: got 3 tokens, expected at least one window of 4");
}

TEST_CASE("the error of the lowest window is the one reported, whatever the threads", "[unit][network]") {
  for (const unsigned threads : {1U, 4U})
    CHECK_THROWS_WITH(network::for_each_window(64, threads,
                                               [](std::size_t i) {
                                                 if (i % 2 == 1) throw base::InputError(std::to_string(i));
                                               }),
                      "1");
}
