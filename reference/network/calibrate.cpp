#include "reference/network/calibrate.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "reference/network/predictions.h"

namespace moesaic::network {

using workloads::Projection;

namespace {

/// Formats of at most this many planes have their divergence measured; the widest of them scales the errors of the
/// rest.
constexpr int kMeasuredPlanes = 4;
const numerics::Format kProbe = numerics::Format::integer(kMeasuredPlanes);

std::size_t index(int i) { return static_cast<std::size_t>(i); }

/// What is measured of an expert: all of it in a format, in integers, or one of its matrices, in float.
struct Variant {
  numerics::Format format;
  Projection projection = Projection::kAll;
};

/// Outputs [rows, hidden] of one expert as a variant has it, in real units, over rows in float and in integers.
std::vector<float> run_variant(const Forward& forward, const ExpertStore& store, int layer, int expert,
                               const Variant& variant, const std::vector<float>& x,
                               const numerics::Activations& integers) {
  const quantise::LayerScales& scales = store.scales(layer);
  const auto weights = store.get(layer, expert, variant.format);
  std::vector<float> y(x.size());
  const auto in_float = [&](const numerics::WeightMatrix& w, int x_exp, int y_exp) {
    const PackedMatrix instead =
        pack_rows(quantise::dequantise(w, std::ldexp(1.0, x_exp), std::ldexp(1.0, -y_exp)).data(),
                  static_cast<std::size_t>(w.n), static_cast<std::size_t>(w.k));
    forward.float_experts().run_expert(layer, expert, x.data(), static_cast<std::size_t>(integers.m), y.data(), nullptr,
                                       variant.projection, &instead);
  };
  switch (variant.projection) {
    case Projection::kAll: {
      const numerics::ExpertResult got = numerics::expert_ffn(*weights, integers);
      const float unit = std::ldexp(1.0F, -scales.output_exp);
      for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<float>(got.y[i]) * unit;
      break;
    }
    case Projection::kGate:
      in_float(weights->gate, scales.x_exp, quantise::kGateExp);
      break;
    case Projection::kUp:
      in_float(weights->up, scales.x_exp, scales.up_exp);
      break;
    case Projection::kDown:
      in_float(weights->down, -scales.hidden_exp, scales.output_exp);
      break;
  }
  return y;
}

/// What windows add to a layer's sums.
struct LayerSums {
  std::vector<std::vector<double>> error;     // [expert][variant]
  std::vector<std::vector<double>> borrowed;  // the same, over borrowed rows
  std::vector<double> tokens;                 // [expert]
  std::vector<double> lent;                   // [expert], borrowed rows
  std::vector<double> weight;                 // [expert]
};

/// Rows that experts borrow: [window][layer][expert].
using Borrowed = std::vector<std::vector<std::vector<std::vector<ExpertSample>>>>;

/// Finds the rows that experts short of tokens borrow.
class ShortageObserver : public MoeObserver {
 public:
  ShortageObserver(const workloads::Network& network, std::size_t windows, std::size_t minimum_tokens)
      : layers_(static_cast<std::size_t>(network.layers)),
        experts_(static_cast<std::size_t>(network.experts)),
        minimum_(minimum_tokens),
        found_(windows, std::vector<std::vector<Found>>(layers_)) {}

  void on_moe(std::size_t window, const MoeBatch& batch) override {
    std::vector<Found>& found = found_[window][index(batch.layer)];
    found.resize(experts_);
    const std::vector<ExpertRows> by_expert = rows_by_expert(batch);
    for (std::size_t e = 0; e < experts_; ++e) {
      found[e].own = by_expert[e].row.size();
      found[e].misses = near_misses(window, batch, e);
      keep_nearest(found[e].misses, minimum_);
    }
  }

  Borrowed borrowed() const {
    Borrowed all(found_.size(), std::vector<std::vector<std::vector<ExpertSample>>>(
                                    layers_, std::vector<std::vector<ExpertSample>>(experts_)));
    for (std::size_t layer = 0; layer < layers_; ++layer)
      for (std::size_t e = 0; e < experts_; ++e) {
        std::size_t own = 0;
        std::vector<ExpertSample> misses;
        for (const auto& window : found_) {
          const Found& found = window[layer][e];
          own += found.own;
          misses.insert(misses.end(), found.misses.begin(), found.misses.end());
        }
        keep_nearest(misses, minimum_ - std::min(minimum_, own));
        for (const ExpertSample& sample : misses) all[sample.window][layer][e].push_back(sample);
      }
    return all;
  }

 private:
  struct Found {
    std::size_t own = 0;
    std::vector<ExpertSample> misses;
  };
  std::size_t layers_, experts_, minimum_;
  std::vector<std::vector<std::vector<Found>>> found_;  // [window][layer][expert]: windows run at once
};

class ErrorObserver : public MoeObserver {
 public:
  ErrorObserver(const Forward& forward, const ExpertStore& store, std::vector<Variant> variants, std::size_t windows,
                Borrowed borrowed)
      : forward_(forward),
        store_(store),
        variants_(std::move(variants)),
        borrowed_(std::move(borrowed)),
        sums_(windows, std::vector<LayerSums>(static_cast<std::size_t>(store.network().layers))) {}

  void on_moe(std::size_t window, const MoeBatch& batch) override {
    LayerSums& sums = sums_[window][index(batch.layer)];
    sums.error.assign(batch.experts, std::vector<double>(variants_.size()));
    sums.borrowed = sums.error;
    sums.tokens.assign(batch.experts, 0);
    sums.lent = sums.tokens;
    sums.weight = sums.tokens;
    const numerics::Activations all =
        quantise::quantise_rows(batch.x, static_cast<std::int64_t>(batch.rows), static_cast<std::int64_t>(batch.hidden),
                                store_.act_bits(), store_.scales(batch.layer).x_exp);
    const std::vector<ExpertRows> by_expert = rows_by_expert(batch);
    for (std::size_t e = 0; e < by_expert.size(); ++e) {
      const ExpertRows& mine = by_expert[e];
      std::vector<double> weight;
      for (std::size_t i = 0; i < mine.row.size(); ++i) {
        weight.push_back(static_cast<double>(batch.weights[mine.row[i] * batch.top_k + mine.slot[i]]));
        sums.weight[e] += weight.back();
      }
      sums.tokens[e] += static_cast<double>(mine.row.size());
      add_errors(batch, all, e, mine, weight, sums.error[e]);
      if (borrowed_.empty()) continue;
      ExpertRows others;
      weight.clear();
      for (const ExpertSample& sample : borrowed_[window][index(batch.layer)][e]) {
        others.row.push_back(static_cast<std::uint32_t>(sample.row));
        weight.push_back(static_cast<double>(sample.weight));
      }
      sums.lent[e] += static_cast<double>(others.row.size());
      add_errors(batch, all, e, others, weight, sums.borrowed[e]);
    }
  }

  /// All windows, added in their order; errors of experts that borrowed are put on their own number of tokens.
  LayerSums layer(std::size_t layer) const {
    LayerSums all = sums_.front()[layer];
    for (std::size_t w = 1; w < sums_.size(); ++w) {
      const LayerSums& own = sums_[w][layer];
      for (std::size_t e = 0; e < all.error.size(); ++e) {
        for (std::size_t v = 0; v < variants_.size(); ++v) {
          all.error[e][v] += own.error[e][v];
          all.borrowed[e][v] += own.borrowed[e][v];
        }
        all.tokens[e] += own.tokens[e];
        all.lent[e] += own.lent[e];
        all.weight[e] += own.weight[e];
      }
    }
    for (std::size_t e = 0; e < all.error.size(); ++e) {
      if (all.lent[e] == 0) continue;
      for (std::size_t v = 0; v < variants_.size(); ++v)
        all.error[e][v] =
            (all.error[e][v] + all.borrowed[e][v]) / (all.tokens[e] + all.lent[e]) * std::max(all.tokens[e], 1.0);
    }
    return all;
  }

 private:
  void add_errors(const MoeBatch& batch, const numerics::Activations& all, std::size_t expert, const ExpertRows& rows,
                  const std::vector<double>& weight, std::vector<double>& sum) const {
    if (rows.row.empty()) return;
    const std::vector<float> x = gather_rows(batch, rows);
    std::vector<float> wanted(x.size());
    forward_.float_experts().run_expert(batch.layer, static_cast<int>(expert), x.data(), rows.row.size(),
                                        wanted.data());
    const numerics::Activations integers = gather_rows(all, rows);
    for (std::size_t v = 0; v < variants_.size(); ++v) {
      const std::vector<float> got =
          run_variant(forward_, store_, batch.layer, static_cast<int>(expert), variants_[v], x, integers);
      double error = 0;
      for (std::size_t i = 0; i < rows.row.size(); ++i) {
        double row_error = 0;
        for (std::size_t h = i * batch.hidden; h < (i + 1) * batch.hidden; ++h) {
          const double d = static_cast<double>(got[h]) - static_cast<double>(wanted[h]);
          row_error += d * d;
        }
        error += weight[i] * weight[i] * row_error;
      }
      sum[v] += error;
    }
  }

  const Forward& forward_;
  const ExpertStore& store_;
  std::vector<Variant> variants_;
  Borrowed borrowed_;                         // empty when nothing is
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

/// Divergence in one window with one expert of `layer` as each variant has it; [expert][variant].
std::vector<std::vector<double>> expert_divergences(const Forward& forward, const ExpertStore& store,
                                                    const LayerRecorder::Layer& layer, const Predictions& wanted,
                                                    const std::vector<Variant>& variants) {
  const MoeBatch& batch = layer.batch;
  const numerics::Activations all =
      quantise::quantise_rows(batch.x, static_cast<std::int64_t>(batch.rows), static_cast<std::int64_t>(batch.hidden),
                              store.act_bits(), store.scales(batch.layer).x_exp);
  const std::vector<ExpertRows> by_expert = rows_by_expert(batch);
  std::vector<std::vector<double>> divergence(batch.experts, std::vector<double>(variants.size()));
  for (std::size_t e = 0; e < batch.experts; ++e) {
    const ExpertRows& mine = by_expert[e];
    if (mine.row.empty()) continue;
    const std::vector<float> x = gather_rows(batch, mine);
    const numerics::Activations integers = gather_rows(all, mine);
    std::vector<float> real(x.size());
    forward.float_experts().run_expert(batch.layer, static_cast<int>(e), x.data(), mine.row.size(), real.data());
    for (std::size_t v = 0; v < variants.size(); ++v) {
      const std::vector<float> got =
          run_variant(forward, store, batch.layer, static_cast<int>(e), variants[v], x, integers);
      std::vector<float> stream = layer.stream;
      for (std::size_t i = 0; i < mine.row.size(); ++i) {
        const float weight = batch.weights[mine.row[i] * batch.top_k + mine.slot[i]];
        for (std::size_t h = 0; h < batch.hidden; ++h)
          stream[mine.row[i] * batch.hidden + h] += weight * (got[i * batch.hidden + h] - real[i * batch.hidden + h]);
      }
      divergence[e][v] = wanted.divergence(forward.resume(static_cast<std::size_t>(batch.layer) + 1, std::move(stream),
                                                          batch.rows, forward.float_experts()));
    }
  }
  return divergence;
}

/// Second-order loss in one window with one expert of `layer` as each variant has it, in bits per token;
/// [expert][variant]. `gradient` is of the window's loss, with respect to the layer's output [rows, hidden].
std::vector<std::vector<double>> fisher_losses(const Forward& forward, const ExpertStore& store,
                                               const LayerRecorder::Layer& layer, const std::vector<float>& gradient,
                                               const std::vector<Variant>& variants) {
  const MoeBatch& batch = layer.batch;
  const numerics::Activations all =
      quantise::quantise_rows(batch.x, static_cast<std::int64_t>(batch.rows), static_cast<std::int64_t>(batch.hidden),
                              store.act_bits(), store.scales(batch.layer).x_exp);
  const std::vector<ExpertRows> by_expert = rows_by_expert(batch);
  std::vector<std::vector<double>> loss(batch.experts, std::vector<double>(variants.size()));
  for (std::size_t e = 0; e < batch.experts; ++e) {
    const ExpertRows& mine = by_expert[e];
    if (mine.row.empty()) continue;
    const std::vector<float> x = gather_rows(batch, mine);
    const numerics::Activations integers = gather_rows(all, mine);
    std::vector<float> real(x.size());
    forward.float_experts().run_expert(batch.layer, static_cast<int>(e), x.data(), mine.row.size(), real.data());
    for (std::size_t v = 0; v < variants.size(); ++v) {
      const std::vector<float> got =
          run_variant(forward, store, batch.layer, static_cast<int>(e), variants[v], x, integers);
      double sum = 0;
      for (std::size_t i = 0; i < mine.row.size(); ++i) {
        const auto weight = static_cast<double>(batch.weights[mine.row[i] * batch.top_k + mine.slot[i]]);
        for (std::size_t h = 0; h < batch.hidden; ++h) {
          const double change = weight * (static_cast<double>(got[i * batch.hidden + h]) -
                                          static_cast<double>(real[i * batch.hidden + h]));
          const auto slope = static_cast<double>(gradient[mine.row[i] * batch.hidden + h]);
          sum += change * change * slope * slope;
        }
      }
      loss[e][v] = 0.5 * sum / std::log(2.0) / static_cast<double>(batch.rows);
    }
  }
  return loss;
}

/// Divergences in each window with all experts of one layer as `quantised` has them; [window][layer]. All windows go
/// through a layer before the next: the float run, and beside it one run for each layer behind, in which that layer
/// alone was quantised.
std::vector<std::vector<double>> layer_divergences(const Forward& forward, const QuantisedExperts& quantised,
                                                   const std::vector<const std::uint32_t*>& windows, std::size_t length,
                                                   unsigned threads) {
  const auto layers = static_cast<std::size_t>(forward.network().layers);
  const FloatExperts& real_experts = forward.float_experts();
  std::vector<std::vector<float>> streams(windows.size());
  std::vector<std::vector<std::vector<float>>> behind(windows.size());  // [window][layer that was quantised]
  for_each_window(windows.size(), threads, [&](std::size_t w) { streams[w] = forward.embed(windows[w], length, w); });
  for (std::size_t layer = 0; layer < layers; ++layer) {
    quantised.prepare(static_cast<int>(layer), threads);
    for_each_window(windows.size(), threads, [&](std::size_t w) {
      for (std::vector<float>& stream : behind[w]) forward.step(layer, stream, length, real_experts);
      LayerRecorder recorder;
      forward.step(layer, streams[w], length, real_experts, w, &recorder);
      const MoeBatch& batch = recorder.layers().back().batch;
      std::vector<float> stream = streams[w];
      std::vector<float> got(stream.size()), real(stream.size());
      quantised.run(batch, got.data());
      real_experts.run(batch, real.data());
      for (std::size_t i = 0; i < stream.size(); ++i) stream[i] += got[i] - real[i];
      behind[w].push_back(std::move(stream));
    });
  }
  std::vector<std::vector<double>> divergence(windows.size());
  for_each_window(windows.size(), threads, [&](std::size_t w) {
    const Predictions wanted(forward.logits(streams[w], length), static_cast<std::size_t>(*forward.network().vocab));
    for (const std::vector<float>& stream : behind[w])
      divergence[w].push_back(wanted.divergence(forward.logits(stream, length)));
  });
  return divergence;
}

std::size_t loss_windows(std::size_t windows, const CalibrateOptions& options) {
  return std::min(windows, options.loss_windows);
}

}  // namespace

std::size_t calibrate_steps(const std::vector<std::uint32_t>& tokens, const CalibrateOptions& options) {
  const std::size_t windows = tokens.size() / options.window;
  return windows * (options.minimum_tokens > 0 ? 2 : 1) + loss_windows(windows, options);
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
  if (!forward.is_resident() && options.loss != LossKind::kError)
    throw base::InputError(
        "loss: got one that runs every expert's change through the layers above, expected error where not all layers "
        "are "
        "resident");
  const auto step = [&](std::size_t) {
    if (done) done();
  };
  const auto layers = static_cast<std::size_t>(network.layers);
  const auto experts = static_cast<std::size_t>(network.experts);
  const auto vocab = static_cast<std::size_t>(*network.vocab);

  // Variants: for each projection the formats and the probing one; then all of an expert in the probing format, which
  // weighs a layer's errors.
  std::vector<numerics::Format> with_probe = options.formats;
  const auto probe =
      static_cast<std::size_t>(std::find(with_probe.begin(), with_probe.end(), kProbe) - with_probe.begin());
  if (probe == with_probe.size()) with_probe.push_back(kProbe);
  const std::vector<Projection> projections =
      options.per_projection ? std::vector<Projection>{Projection::kGate, Projection::kUp, Projection::kDown}
                             : std::vector<Projection>{Projection::kAll};
  std::vector<Variant> variants;
  for (const Projection p : projections)
    for (const numerics::Format f : with_probe) variants.push_back({f, p});
  if (options.per_projection) variants.push_back({kProbe, Projection::kAll});
  const std::size_t whole_probe = options.per_projection ? variants.size() - 1 : probe;

  std::vector<const std::uint32_t*> all_windows;
  for (std::size_t w = 0; w < windows; ++w) all_windows.push_back(tokens.data() + w * options.window);
  const std::vector<const ExpertBackend*> in_float = {&forward.float_experts()};
  Borrowed borrowed;
  if (options.minimum_tokens > 0) {
    ShortageObserver shortage(network, windows, options.minimum_tokens);
    run_windows(forward, all_windows, options.window, in_float, options.threads, &shortage, {}, step);
    borrowed = shortage.borrowed();
  }
  ErrorObserver errors(forward, *store, variants, windows, std::move(borrowed));
  run_windows(forward, all_windows, options.window, in_float, options.threads, &errors, {}, step);

  // Losses in the windows chosen: [window][layer][expert][variant measured], or [window][layer] of whole layers.
  const auto is_measured = [&](numerics::Format f) {
    return options.loss == LossKind::kFisher || f.planes() <= kMeasuredPlanes;
  };
  std::vector<std::size_t> measured;  // indices into variants
  for (std::size_t v = 0; v < variants.size(); ++v)
    if (is_measured(variants[v].format)) measured.push_back(v);
  std::vector<Variant> measured_variants;
  for (const std::size_t v : measured) measured_variants.push_back(variants[v]);
  const bool by_expert = options.loss != LossKind::kError;
  std::unique_ptr<QuantisedExperts> whole;
  if (!by_expert) {
    workloads::Plan plan =
        workloads::uniform_plan(network, std::string(64, '0'), kProbe, static_cast<int>(store->group_size()));
    plan.quantiser = store->quantiser();
    whole = std::make_unique<QuantisedExperts>(store, plan, options.threads);
  }
  const std::size_t chosen = loss_windows(windows, options);
  std::vector<const std::uint32_t*> chosen_windows;
  for (std::size_t i = 0; i < chosen; ++i)
    chosen_windows.push_back(tokens.data() + i * windows / chosen * options.window);
  std::vector<std::vector<std::vector<std::vector<double>>>> expert_loss(by_expert ? chosen : 0);
  std::vector<std::vector<double>> layer_loss(by_expert ? 0 : chosen);
  if (!by_expert && !forward.is_resident()) {
    layer_loss = layer_divergences(forward, *whole, chosen_windows, options.window, options.threads);
    for (std::size_t i = 0; i < chosen; ++i) step(i);
  } else {
    for_each_window(
        chosen, options.threads,
        [&](std::size_t i) {
          if (!by_expert) {
            layer_loss[i] = layer_divergences(forward, *whole, {chosen_windows[i]}, options.window, 1).front();
            return;
          }
          LayerRecorder recorder;
          if (options.loss == LossKind::kFisher) {
            forward.run(chosen_windows[i], options.window, forward.float_experts(), i, &recorder);
            const auto gradients = forward.output_gradients(chosen_windows[i], options.window, i);
            for (const LayerRecorder::Layer& layer : recorder.layers())
              expert_loss[i].push_back(
                  fisher_losses(forward, *store, layer, gradients[index(layer.batch.layer)], measured_variants));
            return;
          }
          const Predictions wanted(
              forward.run(chosen_windows[i], options.window, forward.float_experts(), i, &recorder), vocab);
          for (const LayerRecorder::Layer& layer : recorder.layers())
            expert_loss[i].push_back(expert_divergences(forward, *store, layer, wanted, measured_variants));
        },
        step);
  }

  const double all_tokens = static_cast<double>(windows * options.window);
  const double share = 1.0 / static_cast<double>(chosen);
  std::vector<workloads::SensitivityRow> rows;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const LayerSums sums = errors.layer(layer);
    std::vector<std::vector<double>> divergence(experts, std::vector<double>(variants.size()));
    double layer_error = 0, layer_loss_sum = 0;
    for (const auto& window : layer_loss) layer_loss_sum += window[layer] * share;
    for (std::size_t e = 0; e < experts; ++e) {
      layer_error += sums.error[e][whole_probe];
      for (const auto& window : expert_loss)
        for (std::size_t m = 0; m < measured.size(); ++m) divergence[e][measured[m]] += window[layer][e][m] * share;
      layer_loss_sum += divergence[e][whole_probe];
    }
    const double layer_gain = layer_error > 0 ? layer_loss_sum / layer_error : 0;
    for (std::size_t e = 0; e < experts; ++e)
      for (std::size_t p = 0; p < projections.size(); ++p) {
        // What the loss windows never reach has its errors weighed as the layer's others are.
        const std::size_t first = p * with_probe.size();
        const bool reached = divergence[e][first + probe] > 0;
        const double gain = reached ? divergence[e][first + probe] / sums.error[e][first + probe] : layer_gain;
        for (std::size_t f = 0; f < options.formats.size(); ++f) {
          const bool direct = reached && is_measured(with_probe[f]);
          workloads::SensitivityRow row;
          row.layer = static_cast<int>(layer);
          row.expert = static_cast<int>(e);
          row.format = options.formats[f];
          row.loss = direct ? divergence[e][first + f] : sums.error[e][first + f] * gain;
          row.frequency = sums.tokens[e] / all_tokens;
          row.weight = sums.weight[e] / all_tokens;
          row.projection = projections[p];
          rows.push_back(row);
        }
      }
  }
  return rows;
}

}  // namespace moesaic::network
