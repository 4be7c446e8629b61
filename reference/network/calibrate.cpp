#include "reference/network/calibrate.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "reference/network/vector_math.h"

namespace moesaic::network {

namespace {

/// The format whose effect on the predictions sets a layer's gain: in the middle of the widths that plans choose among,
/// large enough that activations' own rounding does not matter.
const numerics::Format kProbe = numerics::Format::integer(3);

std::size_t index(int i) { return static_cast<std::size_t>(i); }

/// What one window adds to a layer's sums; [expert][format], the probing format last.
struct LayerSums {
  std::vector<std::vector<double>> error;
  std::vector<double> tokens;  // [expert]
  std::vector<double> weight;  // [expert]
};

class ErrorObserver : public MoeObserver {
 public:
  ErrorObserver(const Forward& forward, const ExpertStore& store, std::vector<numerics::Format> formats,
                std::size_t windows)
      : forward_(forward),
        store_(store),
        formats_(std::move(formats)),
        sums_(windows, std::vector<LayerSums>(static_cast<std::size_t>(store.network().layers))) {}

  void on_moe(std::size_t window, const MoeBatch& batch) override {
    LayerSums& sums = sums_[window][index(batch.layer)];
    sums.error.assign(batch.experts, std::vector<double>(formats_.size()));
    sums.tokens.assign(batch.experts, 0);
    sums.weight.assign(batch.experts, 0);
    const quantise::LayerScales& scales = store_.scales(batch.layer);
    const double unit = std::ldexp(1.0, -scales.output_exp);
    const numerics::Activations all =
        quantise::quantise_rows(batch.x, static_cast<std::int64_t>(batch.rows), static_cast<std::int64_t>(batch.hidden),
                                store_.act_bits(), scales.x_exp);
    const std::vector<ExpertRows> by_expert = rows_by_expert(batch);
    for (std::size_t e = 0; e < by_expert.size(); ++e) {
      const ExpertRows& mine = by_expert[e];
      const std::size_t rows = mine.row.size();
      if (rows == 0) continue;
      std::vector<double> weight(rows);
      for (std::size_t i = 0; i < rows; ++i) {
        weight[i] = static_cast<double>(batch.weights[mine.row[i] * batch.top_k + mine.slot[i]]);
        sums.weight[e] += weight[i];
      }
      sums.tokens[e] += static_cast<double>(rows);
      const std::vector<float> x = gather_rows(batch, mine);
      std::vector<float> wanted(x.size());
      forward_.float_experts().run_expert(batch.layer, static_cast<int>(e), x.data(), rows, wanted.data());
      const numerics::Activations integers = gather_rows(all, mine);
      for (std::size_t f = 0; f < formats_.size(); ++f) {
        const auto expert = store_.get(batch.layer, static_cast<int>(e), formats_[f]);
        const numerics::ExpertResult got = numerics::expert_ffn(*expert, integers);
        double error = 0;
        for (std::size_t i = 0; i < rows; ++i) {
          double row_error = 0;
          for (std::size_t h = i * batch.hidden; h < (i + 1) * batch.hidden; ++h) {
            const double d = got.y[h] * unit - static_cast<double>(wanted[h]);
            row_error += d * d;
          }
          error += weight[i] * weight[i] * row_error;
        }
        sums.error[e][f] += error;
      }
    }
  }

  /// All windows, added in their order.
  LayerSums layer(std::size_t layer) const {
    LayerSums all = sums_.front()[layer];
    for (std::size_t w = 1; w < sums_.size(); ++w) {
      const LayerSums& own = sums_[w][layer];
      for (std::size_t e = 0; e < all.error.size(); ++e) {
        for (std::size_t f = 0; f < formats_.size(); ++f) all.error[e][f] += own.error[e][f];
        all.tokens[e] += own.tokens[e];
        all.weight[e] += own.weight[e];
      }
    }
    return all;
  }

 private:
  const Forward& forward_;
  const ExpertStore& store_;
  std::vector<numerics::Format> formats_;
  std::vector<std::vector<LayerSums>> sums_;  // [window][layer]: windows run at once
};

/// One layer quantised, the others in float.
class OneLayer : public ExpertBackend {
 public:
  OneLayer(const ExpertBackend& quantised, const ExpertBackend& real, int layer)
      : quantised_(quantised), real_(real), layer_(layer) {}
  void run(const MoeBatch& batch, float* y) const override {
    (batch.layer == layer_ ? quantised_ : real_).run(batch, y);
  }

 private:
  const ExpertBackend& quantised_;
  const ExpertBackend& real_;
  int layer_;
};

/// log2 of softmax, in double.
std::vector<double> log_softmax(const float* logits, std::size_t vocab) {
  const double largest = static_cast<double>(*std::max_element(logits, logits + vocab));
  double total = 0;
  for (std::size_t v = 0; v < vocab; ++v) total += std::exp(static_cast<double>(logits[v]) - largest);
  const double shift = largest + std::log(total);
  std::vector<double> bits(vocab);
  for (std::size_t v = 0; v < vocab; ++v) bits[v] = (static_cast<double>(logits[v]) - shift) / std::log(2.0);
  return bits;
}

}  // namespace

double mean_divergence(const std::vector<float>& reference, const std::vector<float>& other, std::size_t vocab) {
  const std::size_t rows = reference.size() / vocab;
  double sum = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    const std::vector<double> p = log_softmax(reference.data() + row * vocab, vocab);
    const std::vector<double> q = log_softmax(other.data() + row * vocab, vocab);
    for (std::size_t v = 0; v < vocab; ++v) sum += std::exp2(p[v]) * (p[v] - q[v]);
  }
  return sum / static_cast<double>(rows);
}

std::size_t calibrate_steps(const Forward& forward, const std::vector<std::uint32_t>& tokens,
                            const CalibrateOptions& options) {
  return tokens.size() / options.window * static_cast<std::size_t>(1 + forward.network().layers);
}

std::vector<workloads::SensitivityRow> calibrate(const Forward& forward, const std::shared_ptr<const ExpertStore>& store,
                                                const std::vector<std::uint32_t>& tokens,
                                                const CalibrateOptions& options, const std::function<void()>& done) {
  const workloads::Network& network = forward.network();
  const std::size_t windows = tokens.size() / options.window;
  if (windows == 0)
    throw base::InputError("text: got " + std::to_string(tokens.size()) + " tokens, expected at least one window of " +
                           std::to_string(options.window));
  const auto step = [&](std::size_t) {
    if (done) done();
  };
  std::vector<numerics::Format> measured = options.formats;
  measured.push_back(kProbe);
  ErrorObserver observer(forward, *store, measured, windows);
  for_each_window(
      windows, options.threads,
      [&](std::size_t w) {
        forward.run(tokens.data() + w * options.window, options.window, forward.float_experts(), w, &observer);
      },
      step);

  const workloads::Plan probe =
      workloads::uniform_plan(network, std::string(64, '0'), kProbe, static_cast<int>(store->group_size()));
  const QuantisedExperts quantised(store, probe, options.threads);
  const double all_tokens = static_cast<double>(windows * options.window);
  std::vector<workloads::SensitivityRow> rows;
  for (int layer = 0; layer < static_cast<int>(network.layers); ++layer) {
    const OneLayer perturbed(quantised, forward.float_experts(), layer);
    std::vector<double> divergence(windows);
    for_each_window(
        windows, options.threads,
        [&](std::size_t w) {
          const std::uint32_t* first = tokens.data() + w * options.window;
          divergence[w] = mean_divergence(forward.run(first, options.window, forward.float_experts(), w),
                                          forward.run(first, options.window, perturbed, w),
                                          static_cast<std::size_t>(*network.vocab));
        },
        step);
    double total_divergence = 0;
    for (const double d : divergence) total_divergence += d;
    const LayerSums sums = observer.layer(index(layer));
    double probe_error = 0;
    for (const auto& expert : sums.error) probe_error += expert.back();
    const double gain = probe_error > 0 ? total_divergence / static_cast<double>(windows) / probe_error : 0;
    for (int expert = 0; expert < static_cast<int>(network.experts); ++expert)
      for (std::size_t f = 0; f < options.formats.size(); ++f)
        rows.push_back({layer, expert, options.formats[f], std::max(0.0, sums.error[index(expert)][f] * gain),
                        sums.tokens[index(expert)] / all_tokens, sums.weight[index(expert)] / all_tokens});
  }
  return rows;
}

}  // namespace moesaic::network
