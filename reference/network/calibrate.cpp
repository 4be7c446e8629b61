#include "reference/network/calibrate.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace moesaic::network {

namespace {

/// Formats of at most this many planes have their divergence measured; the widest of them scales the errors of the
/// rest.
constexpr int kMeasuredPlanes = 4;
const numerics::Format kProbe = numerics::Format::integer(kMeasuredPlanes);

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

/// The float run of one window: what entered every layer's experts, and the residual stream that left the layer.
class LayerRecorder : public MoeObserver {
 public:
  struct Layer {
    MoeBatch batch;  // its arrays are the vectors below
    std::vector<float> x, weights;
    std::vector<std::uint32_t> chosen;
    std::vector<float> stream;
  };

  void on_moe(std::size_t, const MoeBatch& batch) override {
    Layer& l = layers_.emplace_back();
    l.batch = batch;
    l.x.assign(batch.x, batch.x + batch.rows * batch.hidden);
    l.weights.assign(batch.weights, batch.weights + batch.rows * batch.top_k);
    l.chosen.assign(batch.chosen, batch.chosen + batch.rows * batch.top_k);
  }
  void after_layer(std::size_t, int, const float* stream, std::size_t rows, std::size_t hidden) override {
    layers_.back().stream.assign(stream, stream + rows * hidden);
  }
  std::vector<Layer>& layers() {
    for (Layer& l : layers_) {
      l.batch.x = l.x.data();
      l.batch.weights = l.weights.data();
      l.batch.chosen = l.chosen.data();
      l.batch.router_logits = nullptr;
    }
    return layers_;
  }

 private:
  std::vector<Layer> layers_;
};

/// Softmax distributions of a window, against which others are held.
class Predictions {
 public:
  Predictions(const std::vector<float>& logits, std::size_t vocab) : vocab_(vocab), p_(logits.size()) {
    for (std::size_t row = 0; row < logits.size() / vocab; ++row) {
      const float* z = logits.data() + row * vocab;
      const double shift = log_total(z);
      for (std::size_t v = 0; v < vocab; ++v) {
        const double log_p = static_cast<double>(z[v]) - shift;
        p_[row * vocab + v] = std::exp(log_p);
        entropy_ -= p_[row * vocab + v] * log_p;
      }
    }
  }

  /// sum over positions of p log(p / q), in bits, over the number of positions.
  double divergence(const std::vector<float>& other) const {
    double cross = 0;
    const std::size_t rows = p_.size() / vocab_;
    for (std::size_t row = 0; row < rows; ++row) {
      const float* z = other.data() + row * vocab_;
      const double* p = p_.data() + row * vocab_;
      double mean = 0, mass = 0;
      for (std::size_t v = 0; v < vocab_; ++v) {
        mean += p[v] * static_cast<double>(z[v]);
        mass += p[v];
      }
      cross += mass * log_total(z) - mean;
    }
    return std::max(0.0, cross - entropy_) / std::log(2.0) / static_cast<double>(rows);
  }

 private:
  /// log of the sum of e^z.
  double log_total(const float* z) const {
    const double largest = static_cast<double>(*std::max_element(z, z + vocab_));
    double total = 0;
    for (std::size_t v = 0; v < vocab_; ++v) total += std::exp(static_cast<double>(z[v]) - largest);
    return largest + std::log(total);
  }
  std::size_t vocab_;
  std::vector<double> p_;
  double entropy_ = 0;
};

/// Divergence in one window with one expert of `layer` in each format; [expert][format].
std::vector<std::vector<double>> expert_divergences(const Forward& forward, const ExpertStore& store,
                                                    const LayerRecorder::Layer& layer, const Predictions& wanted,
                                                    const std::vector<numerics::Format>& formats) {
  const MoeBatch& batch = layer.batch;
  const quantise::LayerScales& scales = store.scales(batch.layer);
  const float unit = std::ldexp(1.0F, -scales.output_exp);
  const numerics::Activations all =
      quantise::quantise_rows(batch.x, static_cast<std::int64_t>(batch.rows), static_cast<std::int64_t>(batch.hidden),
                              store.act_bits(), scales.x_exp);
  const std::vector<ExpertRows> by_expert = rows_by_expert(batch);
  std::vector<std::vector<double>> divergence(batch.experts, std::vector<double>(formats.size()));
  for (std::size_t e = 0; e < batch.experts; ++e) {
    const ExpertRows& mine = by_expert[e];
    if (mine.row.empty()) continue;
    const std::vector<float> x = gather_rows(batch, mine);
    const numerics::Activations integers = gather_rows(all, mine);
    std::vector<float> real(x.size());
    forward.float_experts().run_expert(batch.layer, static_cast<int>(e), x.data(), mine.row.size(), real.data());
    for (std::size_t f = 0; f < formats.size(); ++f) {
      const numerics::ExpertResult got =
          numerics::expert_ffn(*store.get(batch.layer, static_cast<int>(e), formats[f]), integers);
      std::vector<float> stream = layer.stream;
      for (std::size_t i = 0; i < mine.row.size(); ++i) {
        const float weight = batch.weights[mine.row[i] * batch.top_k + mine.slot[i]];
        for (std::size_t h = 0; h < batch.hidden; ++h)
          stream[mine.row[i] * batch.hidden + h] +=
              weight * (static_cast<float>(got.y[i * batch.hidden + h]) * unit - real[i * batch.hidden + h]);
      }
      divergence[e][f] = wanted.divergence(forward.resume(static_cast<std::size_t>(batch.layer) + 1, std::move(stream),
                                                          batch.rows, forward.float_experts()));
    }
  }
  return divergence;
}

/// Divergence in one window with all experts of `layer` as `quantised` has them.
double layer_divergence(const Forward& forward, const QuantisedExperts& quantised, const LayerRecorder::Layer& layer,
                        const Predictions& wanted) {
  const MoeBatch& batch = layer.batch;
  std::vector<float> stream = layer.stream;
  std::vector<float> got(stream.size()), real(stream.size());
  quantised.run(batch, got.data());
  forward.float_experts().run(batch, real.data());
  for (std::size_t i = 0; i < stream.size(); ++i) stream[i] += got[i] - real[i];
  return wanted.divergence(forward.resume(static_cast<std::size_t>(batch.layer) + 1, std::move(stream), batch.rows,
                                          forward.float_experts()));
}

std::size_t loss_windows(std::size_t windows, const CalibrateOptions& options) {
  return std::min(windows, options.loss_windows);
}

}  // namespace

double mean_divergence(const std::vector<float>& reference, const std::vector<float>& other, std::size_t vocab) {
  return Predictions(reference, vocab).divergence(other);
}

std::size_t calibrate_steps(const std::vector<std::uint32_t>& tokens, const CalibrateOptions& options) {
  const std::size_t windows = tokens.size() / options.window;
  return windows + loss_windows(windows, options);
}

std::vector<workloads::SensitivityRow> calibrate(const Forward& forward,
                                                 const std::shared_ptr<const ExpertStore>& store,
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
  const auto layers = static_cast<std::size_t>(network.layers);
  const auto experts = static_cast<std::size_t>(network.experts);
  const auto vocab = static_cast<std::size_t>(*network.vocab);

  std::vector<numerics::Format> with_probe = options.formats;
  const auto probe =
      static_cast<std::size_t>(std::find(with_probe.begin(), with_probe.end(), kProbe) - with_probe.begin());
  if (probe == with_probe.size()) with_probe.push_back(kProbe);
  ErrorObserver errors(forward, *store, with_probe, windows);
  for_each_window(
      windows, options.threads,
      [&](std::size_t w) {
        forward.run(tokens.data() + w * options.window, options.window, forward.float_experts(), w, &errors);
      },
      step);

  // Divergences of the windows chosen: [window][layer][expert][format measured], or [window][layer] of whole layers.
  std::vector<std::size_t> measured;  // indices into with_probe
  for (std::size_t f = 0; f < with_probe.size(); ++f)
    if (with_probe[f].planes() <= kMeasuredPlanes) measured.push_back(f);
  std::vector<numerics::Format> measured_formats;
  for (const std::size_t f : measured) measured_formats.push_back(with_probe[f]);
  const bool by_expert = options.loss == LossKind::kDivergence;
  std::unique_ptr<QuantisedExperts> whole;
  if (!by_expert)
    whole = std::make_unique<QuantisedExperts>(
        store, workloads::uniform_plan(network, std::string(64, '0'), kProbe, static_cast<int>(store->group_size())),
        options.threads);
  const std::size_t chosen = loss_windows(windows, options);
  std::vector<std::vector<std::vector<std::vector<double>>>> expert_loss(by_expert ? chosen : 0);
  std::vector<std::vector<double>> layer_loss(by_expert ? 0 : chosen);
  for_each_window(
      chosen, options.threads,
      [&](std::size_t i) {
        const std::uint32_t* first = tokens.data() + i * windows / chosen * options.window;
        LayerRecorder recorder;
        const Predictions wanted(forward.run(first, options.window, forward.float_experts(), i, &recorder), vocab);
        for (const LayerRecorder::Layer& layer : recorder.layers()) {
          if (by_expert)
            expert_loss[i].push_back(expert_divergences(forward, *store, layer, wanted, measured_formats));
          else
            layer_loss[i].push_back(layer_divergence(forward, *whole, layer, wanted));
        }
      },
      step);

  const double all_tokens = static_cast<double>(windows * options.window);
  const double share = 1.0 / static_cast<double>(chosen);
  std::vector<workloads::SensitivityRow> rows;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const LayerSums sums = errors.layer(layer);
    std::vector<std::vector<double>> divergence(experts, std::vector<double>(with_probe.size()));
    double layer_error = 0, layer_loss_sum = 0;
    for (const auto& window : layer_loss) layer_loss_sum += window[layer] * share;
    for (std::size_t e = 0; e < experts; ++e) {
      layer_error += sums.error[e][probe];
      for (const auto& window : expert_loss)
        for (std::size_t m = 0; m < measured.size(); ++m) divergence[e][measured[m]] += window[layer][e][m] * share;
      layer_loss_sum += divergence[e][probe];
    }
    const double layer_gain = layer_error > 0 ? layer_loss_sum / layer_error : 0;
    for (std::size_t e = 0; e < experts; ++e) {
      // An expert that the loss windows never reach has its errors weighed as the layer's others are.
      const bool reached = divergence[e][probe] > 0;
      const double gain = reached ? divergence[e][probe] / sums.error[e][probe] : layer_gain;
      for (std::size_t f = 0; f < options.formats.size(); ++f) {
        const bool direct = reached && with_probe[f].planes() <= kMeasuredPlanes;
        rows.push_back({static_cast<int>(layer), static_cast<int>(e), options.formats[f],
                        direct ? divergence[e][f] : sums.error[e][f] * gain, sums.tokens[e] / all_tokens,
                        sums.weight[e] / all_tokens});
      }
    }
  }
  return rows;
}

}  // namespace moesaic::network
