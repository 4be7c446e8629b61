// The quantised experts as a back end of the forward pass, and calibration, on a tiny network.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>

#include "reference/network/calibrate.h"
#include "reference/network/evaluate.h"
#include "reference/network/quantised_experts.h"
#include "reference/network/vector_math.h"
#include "reference/numerics/combine.h"
#include "tests/unit/network/tiny_model.h"

using namespace moesaic;
using numerics::Format;

namespace {

struct Tiny {
  tests::TemporaryFolder folder;
  workloads::Checkpoint checkpoint;
  network::Forward forward{checkpoint};
  std::shared_ptr<const network::ExpertStore> store = std::make_shared<network::ExpertStore>(forward, checkpoint, 8, 1);
  std::vector<std::uint32_t> tokens;

  explicit Tiny(const std::map<std::string, tests::TinyTensor>& tensors = tests::tiny_tensors(7))
      : checkpoint(tests::write_tiny_model(folder, "tiny", tensors)) {
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
              *experts.weights(batch.layer, static_cast<int>(batch.chosen[row * batch.top_k + slot])),
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

TEST_CASE("a matrix's integers are those of its format, whatever the formats of the expert's others",
          "[unit][quantise]") {
  const Tiny tiny;
  const auto int2 = Format::integer(2), nested = Format::nested(3), levels = Format::mwq(2, 1, 1);
  const auto mixed = tiny.store->get(0, 1, {int2, nested, levels});
  const auto same = [](const numerics::WeightMatrix& a, const numerics::WeightMatrix& b) {
    return a.format == b.format && a.codes == b.codes && a.zero_point == b.zero_point &&
           a.group_multiplier == b.group_multiplier && a.level_multiplier == b.level_multiplier &&
           a.requant_multiplier == b.requant_multiplier && a.requant_shift == b.requant_shift;
  };
  CHECK(same(mixed->gate, tiny.store->get(0, 1, int2)->gate));
  CHECK(same(mixed->up, tiny.store->get(0, 1, nested)->up));
  CHECK(same(mixed->down, tiny.store->get(0, 1, levels)->down));
  CHECK_FALSE(same(mixed->up, tiny.store->get(0, 1, int2)->up));

  // A plan of it reaches every expert.
  workloads::Plan plan = tiny.plan(int2);
  plan.experts[1].format = {int2, nested, levels};
  const network::QuantisedExperts experts(tiny.store, plan, 1);
  CHECK(experts.weights(0, 1)->formats() == plan.experts[1].format);
  CHECK(experts.weights(0, 0)->formats() == numerics::ExpertFormats(int2));
}

TEST_CASE("under a plan with classes each row reads what its class reads, and one class is the plan of its formats",
          "[unit][quantise]") {
  const Tiny tiny;
  workloads::Plan plan = tiny.plan(Format::mwq(2, 2, 2));
  plan.class_shares = {0.4, 0.6};
  for (workloads::PlanEntry& entry : plan.experts)
    for (const int levels : {0, 2}) entry.reads.push_back(Format::mwq(2, 2, levels));
  const auto bits = [&tiny](const workloads::Plan& of, const network::ClassDraw& draw) {
    const network::QuantisedExperts experts(tiny.store, of, 2, draw);
    return network::evaluate(tiny.forward, experts, tiny.tokens, 10, 2).window_bits;
  };
  const std::vector<double> narrow = bits(tiny.plan(Format::mwq(2, 2, 0)), {}),
                            wide = bits(tiny.plan(Format::mwq(2, 2, 2)), {});
  REQUIRE(narrow.size() > 3);
  const network::ClassDraw of_request{false, 3}, of_choice{true, 3};
  const std::vector<double> requests = bits(plan, of_request);
  std::set<std::size_t> seen;
  for (std::size_t w = 0; w < requests.size(); ++w) {
    seen.insert(of_request.at(plan.class_shares, w, 0, 0, 0));
    CHECK(requests[w] == (of_request.at(plan.class_shares, w, 0, 0, 0) == 0 ? narrow[w] : wide[w]));
  }
  CHECK(seen.size() == 2);
  const std::vector<double> choices = bits(plan, of_choice);
  CHECK(choices != requests);
  CHECK(choices != narrow);
  CHECK(choices != wide);
  CHECK(bits(plan, of_choice) == choices);

  // Each choice of a row on its own, as numerics computes the expert in the format of the class drawn.
  struct Check : network::MoeObserver {
    const network::QuantisedExperts& experts;
    const workloads::Plan& plan;
    const network::ClassDraw& draw;
    const network::ExpertStore& store;
    Check(const network::QuantisedExperts& e, const workloads::Plan& p, const network::ClassDraw& d,
          const network::ExpertStore& s)
        : experts(e), plan(p), draw(d), store(s) {}
    void on_moe(std::size_t window, const network::MoeBatch& batch) override {
      CHECK(batch.window == window);
      const auto block = experts.run_integers(batch);
      for (std::size_t row = 0; row < batch.rows; ++row)
        for (std::size_t slot = 0; slot < batch.top_k; ++slot) {
          const int expert = static_cast<int>(batch.chosen[row * batch.top_k + slot]);
          const std::size_t of_class = draw.at(plan.class_shares, window, batch.layer, row, slot);
          network::ExpertRows mine;
          mine.row.push_back(static_cast<std::uint32_t>(row));
          const auto result =
              numerics::expert_ffn(*store.get(batch.layer, expert, plan.at(batch.layer, expert).reads[of_class]),
                                   network::gather_rows(block.x, mine), numerics::Path::kReference);
          CHECK(std::equal(result.y.begin(), result.y.end(),
                           block.down.begin() + static_cast<std::ptrdiff_t>((slot * batch.rows + row) * batch.hidden)));
        }
    }
  };
  const network::QuantisedExperts experts(tiny.store, plan, 1, of_choice);
  Check check(experts, plan, of_choice, *tiny.store);
  tiny.forward.run(tiny.tokens.data(), 12, experts, 5, &check);

  plan.class_shares = {0.0, 1.0};
  CHECK(bits(plan, of_choice) == wide);
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
    options.losses = {kind};
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

namespace {

/// The tiny model's calibration tokens as a file, and GPTQ on them.
workloads::Quantiser tiny_gptq(const Tiny& tiny, std::int64_t minimum_tokens = 0) {
  std::string bytes;
  for (const std::uint32_t token : tiny.tokens) bytes.push_back(static_cast<char>(token));
  return workloads::gptq_quantiser(tiny.folder.write("calibration.bin", bytes), minimum_tokens, 0.01, 40);
}

/// The tiny model without what expert 1 of layer 0 and expert 2 of layer 1 give: zeros in w1 and in w2.
std::map<std::string, tests::TinyTensor> pruned_tensors() {
  std::map<std::string, tests::TinyTensor> all = tests::tiny_tensors(7);
  for (const char* name : {"0.block_sparse_moe.experts.1.w1", "1.block_sparse_moe.experts.2.w2"}) {
    std::vector<float>& data = all.at(std::string("model.layers.") + name + ".weight").data;
    std::fill(data.begin(), data.end(), 0.0F);
  }
  return all;
}

}  // namespace

TEST_CASE("a pruned expert loses nothing in any format, and GPTQ rounds what it never feeds to nearest",
          "[unit][quantise]") {
  const Tiny tiny(pruned_tensors());
  const auto quantiser = tiny_gptq(tiny);
  const auto gptq = std::make_shared<network::ExpertStore>(tiny.forward, tiny.checkpoint, 8, 1, 8, quantiser);
  for (const auto& store : {tiny.store, std::shared_ptr<const network::ExpertStore>(gptq)})
    for (const auto kind : {network::LossKind::kDivergence, network::LossKind::kError, network::LossKind::kFisher}) {
      network::CalibrateOptions options;
      options.formats = workloads::parse_formats("int2,int4,int8", "test", "formats");
      options.window = 40;
      options.losses = {kind};
      for (const auto& row : network::calibrate(tiny.forward, store, tiny.tokens, options)) {
        CAPTURE(row.layer, row.expert, row.format.name());
        const bool pruned = row.layer == 0 ? row.expert == 1 : row.expert == 2;
        CHECK(pruned == (row.loss == 0));
        CHECK(std::isfinite(row.loss));
      }
    }
  const Format format = Format::integer(3);
  CHECK(gptq->get(0, 1, format)->down.codes == tiny.store->get(0, 1, format)->down.codes);
  CHECK(gptq->get(0, 1, format)->up.codes != tiny.store->get(0, 1, format)->up.codes);
}

namespace {

std::vector<double> loss_under(const Tiny& tiny, std::size_t resident_layers, unsigned threads, Format format,
                               const workloads::Quantiser& quantiser) {
  const network::Forward forward(tiny.checkpoint, resident_layers);
  workloads::Plan plan = tiny.plan(format);
  plan.quantiser = quantiser;
  const network::QuantisedExperts experts(
      std::make_shared<network::ExpertStore>(forward, tiny.checkpoint, 8, threads, 8, quantiser), plan, threads);
  const network::Evaluation result =
      network::evaluate(forward, experts, tiny.tokens, 40, threads, {}, &forward.float_experts());
  std::vector<double> all = result.window_bits;
  all.insert(all.end(), result.reference_bits.begin(), result.reference_bits.end());
  all.insert(all.end(), result.divergence.begin(), result.divergence.end());
  return all;
}

}  // namespace

TEST_CASE("a network has the same bits with one layer in memory as with all, and on any number of threads",
          "[unit][quantise]") {
  const Tiny tiny;
  for (const workloads::Quantiser& quantiser : {workloads::Quantiser(), tiny_gptq(tiny), tiny_gptq(tiny, 400)}) {
    const std::vector<double> all = loss_under(tiny, 0, 1, Format::integer(3), quantiser);
    CHECK(loss_under(tiny, 1, 1, Format::integer(3), quantiser) == all);
    CHECK(loss_under(tiny, 1, 3, Format::integer(3), quantiser) == all);
    CHECK(loss_under(tiny, 0, 3, Format::integer(3), quantiser) == all);
  }
  CHECK(loss_under(tiny, 0, 1, Format::integer(3), tiny_gptq(tiny)) !=
        loss_under(tiny, 0, 1, Format::integer(3), tiny_gptq(tiny, 400)));
}

TEST_CASE("an evaluation against the float network holds the float network's own, and diverges from nothing in it",
          "[unit][quantise]") {
  const Tiny tiny;
  const auto& real = tiny.forward.float_experts();
  const network::Evaluation alone = network::evaluate(tiny.forward, real, tiny.tokens, 40, 1);
  CHECK(alone.reference_bits.empty());
  const network::Evaluation itself = network::evaluate(tiny.forward, real, tiny.tokens, 40, 1, {}, &real);
  CHECK(itself.window_bits == alone.window_bits);
  CHECK(itself.reference_bits == alone.window_bits);
  for (const double d : itself.divergence) CHECK(d == Approx(0).margin(1e-12));
  CHECK(itself.perplexity() == Approx(std::pow(2, alone.bits_per_byte)));

  const network::QuantisedExperts two(tiny.store, tiny.plan(Format::integer(2)), 1);
  const network::Evaluation worse = network::evaluate(tiny.forward, two, tiny.tokens, 40, 1, {}, &real);
  CHECK(worse.reference_bits == alone.window_bits);
  for (std::size_t w = 0; w < worse.windows; ++w) {
    const std::uint32_t* first = tiny.tokens.data() + w * 40;
    std::vector<float> wanted = tiny.forward.run(first, 40, real), got = tiny.forward.run(first, 40, two);
    wanted.resize(39 * tests::kTinyVocab);  // the last position predicts nothing that is there
    got.resize(wanted.size());
    CHECK(worse.divergence[w] == network::mean_divergence(wanted, got, tests::kTinyVocab));
    CHECK(worse.divergence[w] > 0);
  }
}

TEST_CASE("a plan carries its quantiser, and refuses calibration tokens of another hash", "[unit][quantise]") {
  const Tiny tiny;
  workloads::Plan plan = tiny.plan(Format::integer(2));
  plan.quantiser = tiny_gptq(tiny, 12);
  const std::string path = tiny.folder.file("plan.yaml");
  workloads::write_plan(plan, path);
  const workloads::Plan read = workloads::read_plan(path);
  CHECK(read.quantiser == plan.quantiser);
  CHECK(read.quantiser.kind == workloads::QuantiserKind::kGptq);
  CHECK(workloads::read_quantiser_tokens(read.quantiser) == tiny.tokens);
  const auto store = [&] {
    return std::make_shared<network::ExpertStore>(tiny.forward, tiny.checkpoint, 8, 1, 8, read.quantiser);
  };
  CHECK_NOTHROW(network::QuantisedExperts(store(), read, 1));
  tiny.folder.write("calibration.bin", std::string(80, 'a'));
  CHECK_THROWS_WITH(store(), Catch::Contains(path + ":7: quantiser.tokens: got ") && Catch::Contains(" of hash "));
  std::remove(tiny.folder.file("calibration.bin").c_str());
  CHECK_THROWS_WITH(store(), Catch::Contains("which is missing, expected the calibration tokens"));

  plan.quantiser = {};
  workloads::write_plan(plan, path);
  CHECK(workloads::read_plan(path).quantiser.kind == workloads::QuantiserKind::kRoundToNearest);
}

TEST_CASE("a plan in a folder that is reached by a link finds its calibration tokens", "[unit][quantise]") {
  const Tiny tiny;
  workloads::Plan plan = tiny.plan(Format::integer(2));
  const workloads::Quantiser quantiser = tiny_gptq(tiny, 12);
  const std::filesystem::path folder = tiny.folder.file("");
  std::filesystem::create_directories(folder / "deep/er/plans");
  std::filesystem::create_directory_symlink("deep/er/plans", folder / "plans");
  std::filesystem::create_directory_symlink(folder, folder / "deep/back");
  for (const char* tokens : {"calibration.bin", "deep/back/calibration.bin", "deep/er/../../calibration.bin"}) {
    plan.quantiser = quantiser;
    plan.quantiser.tokens = folder / tokens;
    for (const char* file : {"plans/plan.yaml", "deep/er/plans/plan.yaml", "deep/back/plans/plan.yaml"}) {
      INFO(tokens << ", " << file);
      workloads::write_plan(plan, folder / file);
      for (const char* seen : {"plans/plan.yaml", "deep/er/plans/plan.yaml"})
        CHECK(workloads::read_quantiser_tokens(workloads::read_plan(folder / seen).quantiser) == tiny.tokens);
    }
  }
}

TEST_CASE("an expert short of tokens borrows the rows that the router came nearest to sending it", "[unit][quantise]") {
  const float logits[] = {3, 2, 1, 0, 0, 3, 2.5F, 1, 2, 0, 3, 1.5F};  // [3 rows, 4 experts]
  const float weights[] = {0.75F, 0.25F, 0.625F, 0.375F, 0.75F, 0.25F};
  const std::uint32_t chosen[] = {0, 1, 1, 2, 2, 0};
  const float x[] = {1, 2, 3};
  network::MoeBatch batch;
  batch.rows = 3;
  batch.hidden = 1;
  batch.experts = 4;
  batch.top_k = 2;
  batch.x = x;
  batch.router_logits = logits;
  batch.weights = weights;
  batch.chosen = chosen;
  network::LayerInputs inputs(1);
  inputs.on_moe(0, batch);

  const auto own = inputs.samples(1, 0);
  REQUIRE(own.size() == 2);
  CHECK(own[0].row == 0);
  CHECK(own[0].weight == 0.25F);
  CHECK(own[1].row == 1);
  CHECK(own[1].weight == 0.625F);
  CHECK(inputs.samples(1, 2).size() == 2);
  CHECK(inputs.samples(3, 0).empty());
  // Expert 3 is behind the first choice by 3, 2 and 1.5.
  const auto borrowed = inputs.samples(3, 2);
  REQUIRE(borrowed.size() == 2);
  CHECK(borrowed[0].row == 1);
  CHECK(borrowed[1].row == 2);
  CHECK(static_cast<double>(borrowed[1].weight) == Approx(1 / (1 + std::exp(1.5))).epsilon(1e-5));
  CHECK(inputs.gather(borrowed, 0, 2) == std::vector<float>{2, 3});
  CHECK(inputs.samples(3, 9).size() == 3);
}

TEST_CASE("calibration by error is the same with one layer in memory, and other losses are refused there",
          "[unit][quantise]") {
  const Tiny tiny;
  network::CalibrateOptions options;
  options.formats = workloads::parse_formats("int2,int8", "test", "formats");
  options.window = 40;
  options.losses = {network::LossKind::kError};
  options.minimum_tokens = 300;
  const auto table = [&](std::size_t resident_layers, unsigned threads) {
    const network::Forward forward(tiny.checkpoint, resident_layers);
    const auto quantiser = tiny_gptq(tiny);
    options.threads = threads;
    return workloads::format_sensitivity(network::calibrate(
        forward, std::make_shared<network::ExpertStore>(forward, tiny.checkpoint, 8, threads, 8, quantiser),
        tiny.tokens, options));
  };
  const std::string all = table(0, 1);
  CHECK(table(1, 3) == all);
  options.losses = {network::LossKind::kDivergence};
  CHECK_THROWS_WITH(table(1, 1), Catch::Contains("expected error where not all layers are resident"));
}

TEST_CASE("per projection each matrix alone loses less than all three together, and the table says which",
          "[unit][quantise]") {
  const Tiny tiny;
  for (const auto kind : {network::LossKind::kDivergence, network::LossKind::kError, network::LossKind::kFisher}) {
    network::CalibrateOptions options;
    options.formats = workloads::parse_formats("int2,int5", "test", "formats");
    options.window = 40;
    options.losses = {kind};
    options.loss_windows = 16;
    const auto whole = network::calibrate(tiny.forward, tiny.store, tiny.tokens, options);
    options.per_projection = true;
    options.threads = 3;
    const auto parts = network::calibrate(tiny.forward, tiny.store, tiny.tokens, options);
    REQUIRE(whole.size() == 2 * 4 * 2);
    REQUIRE(parts.size() == 3 * whole.size());
    double of_whole = 0, of_parts = 0, of_part[3] = {};
    for (std::size_t i = 0; i < parts.size(); ++i) {
      CHECK(parts[i].expert == static_cast<int>(i / 6 % 4));
      CHECK(static_cast<std::size_t>(parts[i].projection) == 1 + i / 2 % 3);
      if (i % 2 == 0) of_part[i / 2 % 3] += parts[i].loss;  // int2
    }
    for (std::size_t i = 0; i < whole.size(); i += 2) of_whole += whole[i].loss;
    for (const double part : of_part) {
      CHECK(part > 0);
      CHECK(part < of_whole);
      of_parts += part;
    }
    CHECK(of_parts > 0.5 * of_whole);
    CHECK(of_parts < 2 * of_whole);
    const std::string text = workloads::format_sensitivity(parts);
    CHECK(workloads::format_sensitivity(workloads::parse_sensitivity(text, "t.csv").rows) == text);
    CHECK(text.substr(0, text.find('\n')) == "layer,expert,format,bits,loss,frequency,weight,projection");
  }
}

TEST_CASE("losses of several kinds in one run are those of each kind alone", "[unit][quantise]") {
  const Tiny tiny;
  using network::LossKind;
  for (const bool per_projection : {false, true}) {
    network::CalibrateOptions options;
    options.formats = workloads::parse_formats("int2,int6,binary", "test", "formats");
    options.window = 40;
    options.loss_windows = 5;
    options.minimum_tokens = 20;
    options.per_projection = per_projection;
    options.losses = {LossKind::kFisher, LossKind::kError, LossKind::kDivergence};
    options.threads = 2;
    std::size_t steps = 0;
    const auto together = network::calibrate(tiny.forward, tiny.store, tiny.tokens, options, [&] { ++steps; });
    CHECK(steps == network::calibrate_steps(tiny.tokens, options));
    CHECK(workloads::other_loss_columns(options.losses) == std::vector<std::string>{"loss_error", "loss_divergence"});
    std::vector<std::vector<workloads::SensitivityRow>> alone;
    for (const LossKind kind : {LossKind::kFisher, LossKind::kError, LossKind::kDivergence}) {
      options.losses = {kind};
      alone.push_back(network::calibrate(tiny.forward, tiny.store, tiny.tokens, options));
      REQUIRE(alone.back().size() == together.size());
    }
    double differs = 0;
    for (std::size_t i = 0; i < together.size(); ++i) {
      CAPTURE(per_projection, i);
      CHECK(together[i].format == alone[0][i].format);
      CHECK(together[i].projection == alone[0][i].projection);
      CHECK(together[i].frequency == alone[0][i].frequency);
      CHECK(together[i].loss == alone[0][i].loss);
      REQUIRE(together[i].other_losses.size() == 2);
      CHECK(together[i].other_losses[0] == alone[1][i].loss);
      CHECK(together[i].other_losses[1] == alone[2][i].loss);
      differs += std::abs(alone[0][i].loss - alone[1][i].loss) + std::abs(alone[1][i].loss - alone[2][i].loss);
    }
    CHECK(differs > 0);
  }
}

TEST_CASE("one matrix in another's place gives what the expert with that matrix gives, bit for bit",
          "[unit][quantise]") {
  const Tiny tiny;
  const auto& experts = tiny.forward.float_experts();
  const auto hidden = static_cast<std::size_t>(tiny.checkpoint.network().hidden);
  const auto width = static_cast<std::size_t>(tiny.checkpoint.network().expert_intermediate);
  const std::size_t rows = 7;
  std::vector<float> x(rows * hidden), whole(x.size()), replaced(x.size());
  base::Rng rng(31);
  for (float& v : x) v = static_cast<float>(rng.normal());
  network::ExpertInner inner;
  experts.run_expert(1, 2, x.data(), rows, whole.data(), &inner);
  const network::ExpertMatrices own = network::read_expert(tiny.checkpoint, 1, 2);
  const network::ExpertMatrices other = network::read_expert(tiny.checkpoint, 1, 3);
  const auto run = [&](workloads::Projection which, const std::vector<float>& matrix, std::size_t n, std::size_t k) {
    experts.run_replaced(1, 2, x.data(), rows, inner, which, network::pack_rows(matrix.data(), n, k), replaced.data());
    return replaced;
  };
  CHECK(run(workloads::Projection::kGate, own.gate, width, hidden) == whole);
  CHECK(run(workloads::Projection::kUp, own.up, width, hidden) == whole);
  CHECK(run(workloads::Projection::kDown, own.down, hidden, width) == whole);
  // From the definition, in the order of the sums.
  const auto expected = [&](const std::vector<float>& gate, const std::vector<float>& up,
                            const std::vector<float>& down) {
    std::vector<float> g(rows * width), u(rows * width), y(rows * hidden);
    network::multiply(x.data(), rows, network::pack_rows(gate.data(), width, hidden), g.data());
    network::multiply(x.data(), rows, network::pack_rows(up.data(), width, hidden), u.data());
    for (std::size_t i = 0; i < g.size(); ++i) g[i] = network::silu(g[i]) * u[i];
    network::multiply(g.data(), rows, network::pack_rows(down.data(), hidden, width), y.data());
    return y;
  };
  CHECK(run(workloads::Projection::kGate, other.gate, width, hidden) == expected(other.gate, own.up, own.down));
  CHECK(run(workloads::Projection::kUp, other.up, width, hidden) == expected(own.gate, other.up, own.down));
  CHECK(run(workloads::Projection::kDown, other.down, hidden, width) == expected(own.gate, own.up, other.down));
  CHECK(replaced != whole);
}

TEST_CASE("errors of an expert that borrows are put on its own number of tokens", "[unit][quantise]") {
  const Tiny tiny;
  network::CalibrateOptions options;
  options.formats = workloads::parse_formats("int2", "test", "formats");
  options.window = 40;
  options.losses = {network::LossKind::kError};
  const auto own = network::calibrate(tiny.forward, tiny.store, tiny.tokens, options);
  options.minimum_tokens = 1;  // all have more
  std::size_t steps = 0;
  CHECK(workloads::format_sensitivity(network::calibrate(tiny.forward, tiny.store, tiny.tokens, options,
                                                         [&] { ++steps; })) == workloads::format_sensitivity(own));
  CHECK(steps == network::calibrate_steps(tiny.tokens, options));
  options.minimum_tokens = 640;  // every row
  const auto borrowed = network::calibrate(tiny.forward, tiny.store, tiny.tokens, options);
  bool different = false;
  for (std::size_t i = 0; i < own.size(); ++i) {
    CHECK(borrowed[i].frequency == own[i].frequency);
    CHECK(borrowed[i].loss > own[i].loss / 4);
    CHECK(borrowed[i].loss < own[i].loss * 4);
    different = different || borrowed[i].loss != own[i].loss;
  }
  CHECK(different);
}

TEST_CASE("second-order losses add up to about the divergence that is measured", "[unit][quantise]") {
  const Tiny tiny;
  double total[2] = {};
  for (const auto kind : {network::LossKind::kDivergence, network::LossKind::kFisher}) {
    network::CalibrateOptions options;
    options.formats = workloads::parse_formats("int4", "test", "formats");
    options.window = 40;
    options.losses = {kind};
    options.loss_windows = 16;
    for (const auto& row : network::calibrate(tiny.forward, tiny.store, tiny.tokens, options))
      total[kind == network::LossKind::kFisher ? 1 : 0] += row.loss;
  }
  CHECK(total[1] > total[0] / 4);
  CHECK(total[1] < total[0] * 4);
}
