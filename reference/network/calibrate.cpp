#include "reference/network/calibrate.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
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

/// One expert over some rows of a batch, in float and as variants have it: outputs [rows, hidden] in real units.
class ExpertRuns {
 public:
  /// `all`: the batch's rows in integers.
  ExpertRuns(const Forward& forward, const ExpertStore& store, const MoeBatch& batch, const numerics::Activations& all,
             std::size_t expert, const ExpertRows& rows)
      : forward_(forward),
        store_(store),
        layer_(batch.layer),
        expert_(static_cast<int>(expert)),
        x_(gather_rows(batch, rows)),
        integers_(gather_rows(all, rows)),
        real_(x_.size()) {
    forward_.float_experts().run_expert(layer_, expert_, x_.data(), rows.row.size(), real_.data(), &inner_);
  }

  const std::vector<float>& real() const { return real_; }

  std::vector<float> run(const Variant& variant) const {
    const quantise::LayerScales& scales = store_.scales(layer_);
    const auto weights = store_.get(layer_, expert_, variant.format);
    switch (variant.projection) {
      case Projection::kAll: {
        const numerics::ExpertResult got = numerics::expert_ffn(*weights, integers_);
        const float unit = std::ldexp(1.0F, -scales.output_exp);
        std::vector<float> y(real_.size());
        for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<float>(got.y[i]) * unit;
        return y;
      }
      case Projection::kGate:
        return in_float(Projection::kGate, weights->gate, scales.x_exp, quantise::kGateExp);
      case Projection::kUp:
        return in_float(Projection::kUp, weights->up, scales.x_exp, scales.up_exp);
      case Projection::kDown:
        return in_float(Projection::kDown, weights->down, -scales.hidden_exp, scales.output_exp);
    }
    return {};
  }

 private:
  std::vector<float> in_float(Projection which, const numerics::WeightMatrix& w, int x_exp, int y_exp) const {
    const PackedMatrix instead =
        pack_rows(quantise::dequantise(w, std::ldexp(1.0, x_exp), std::ldexp(1.0, -y_exp)).data(),
                  static_cast<std::size_t>(w.n), static_cast<std::size_t>(w.k));
    std::vector<float> y(real_.size());
    forward_.float_experts().run_replaced(layer_, expert_, x_.data(), static_cast<std::size_t>(integers_.m), inner_,
                                          which, instead, y.data());
    return y;
  }

  const Forward& forward_;
  const ExpertStore& store_;
  int layer_, expert_;
  std::vector<float> x_;
  numerics::Activations integers_;
  std::vector<float> real_;
  ExpertInner inner_;
};

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
    const ExpertRuns runs(forward_, store_, batch, all, expert, rows);
    const std::vector<float>& wanted = runs.real();
    for (std::size_t v = 0; v < variants_.size(); ++v) {
      const std::vector<float> got = runs.run(variants_[v]);
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

/// Losses in one window with one expert of a layer as each variant has it; [expert][variant], 0 of what is not asked
/// for.
struct WindowLosses {
  std::vector<std::vector<double>> divergence;
  std::vector<std::vector<double>> fisher;
};

/// What a window's losses are compared with; null where that loss is not asked for.
struct WindowTruth {
  const Predictions* predictions = nullptr;
  const std::vector<float>* gradient = nullptr;  ///< of the window's loss by the layer's output [rows, hidden]
};

WindowLosses window_losses(const Forward& forward, const ExpertStore& store, const LayerRecorder::Layer& layer,
                           const WindowTruth& truth, const std::vector<Variant>& variants) {
  const MoeBatch& batch = layer.batch;
  const numerics::Activations all =
      quantise::quantise_rows(batch.x, static_cast<std::int64_t>(batch.rows), static_cast<std::int64_t>(batch.hidden),
                              store.act_bits(), store.scales(batch.layer).x_exp);
  const std::vector<ExpertRows> by_expert = rows_by_expert(batch);
  WindowLosses losses;
  losses.divergence.assign(batch.experts, std::vector<double>(variants.size()));
  losses.fisher = losses.divergence;
  for (std::size_t e = 0; e < batch.experts; ++e) {
    const ExpertRows& mine = by_expert[e];
    if (mine.row.empty()) continue;
    const ExpertRuns runs(forward, store, batch, all, e, mine);
    const std::vector<float>& real = runs.real();
    const auto weight_of = [&](std::size_t i) { return batch.weights[mine.row[i] * batch.top_k + mine.slot[i]]; };
    for (std::size_t v = 0; v < variants.size(); ++v) {
      const bool diverges = truth.predictions != nullptr && variants[v].format.planes() <= kMeasuredPlanes;
      if (!diverges && truth.gradient == nullptr) continue;
      const std::vector<float> got = runs.run(variants[v]);
      if (diverges) {
        std::vector<float> stream = layer.stream;
        for (std::size_t i = 0; i < mine.row.size(); ++i) {
          const float weight = weight_of(i);
          for (std::size_t h = 0; h < batch.hidden; ++h)
            stream[mine.row[i] * batch.hidden + h] += weight * (got[i * batch.hidden + h] - real[i * batch.hidden + h]);
        }
        losses.divergence[e][v] = truth.predictions->divergence(forward.resume(
            static_cast<std::size_t>(batch.layer) + 1, std::move(stream), batch.rows, forward.float_experts()));
      }
      if (truth.gradient != nullptr) {
        double sum = 0;
        for (std::size_t i = 0; i < mine.row.size(); ++i) {
          const auto weight = static_cast<double>(weight_of(i));
          for (std::size_t h = 0; h < batch.hidden; ++h) {
            const double change = weight * (static_cast<double>(got[i * batch.hidden + h]) -
                                            static_cast<double>(real[i * batch.hidden + h]));
            const auto slope = static_cast<double>((*truth.gradient)[mine.row[i] * batch.hidden + h]);
            sum += change * change * slope * slope;
          }
        }
        losses.fisher[e][v] = 0.5 * sum / std::log(2.0) / static_cast<double>(batch.rows);
      }
    }
  }
  return losses;
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

}  // namespace

std::size_t loss_windows(std::size_t tokens, const CalibrateOptions& options) {
  return std::min(tokens / options.window, options.loss_windows);
}

std::size_t calibrate_steps(const std::vector<std::uint32_t>& tokens, const CalibrateOptions& options) {
  const std::size_t windows = tokens.size() / options.window;
  return windows * (options.minimum_tokens > 0 ? 2 : 1) + loss_windows(tokens.size(), options);
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
  if (options.losses.empty()) throw std::logic_error("calibrate without a kind of loss");
  const auto wants = [&](LossKind kind) {
    return std::find(options.losses.begin(), options.losses.end(), kind) != options.losses.end();
  };
  const bool by_expert = wants(LossKind::kDivergence) || wants(LossKind::kFisher);
  if (!forward.is_resident() && by_expert)
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

  // Losses in the windows chosen: [window][layer] of experts, [window][layer] of whole layers.
  const std::size_t chosen = loss_windows(tokens.size(), options);
  std::vector<const std::uint32_t*> chosen_windows;
  for (std::size_t i = 0; i < chosen; ++i)
    chosen_windows.push_back(tokens.data() + i * windows / chosen * options.window);
  std::vector<std::vector<WindowLosses>> expert_loss(chosen);
  std::vector<std::vector<double>> layer_loss(chosen);
  std::unique_ptr<QuantisedExperts> whole;
  if (wants(LossKind::kError)) {
    workloads::Plan plan =
        workloads::uniform_plan(network, std::string(64, '0'), kProbe, static_cast<int>(store->group_size()));
    plan.quantiser = store->quantiser();
    whole = std::make_unique<QuantisedExperts>(store, plan, options.threads);
  }
  if (!forward.is_resident()) {
    layer_loss = layer_divergences(forward, *whole, chosen_windows, options.window, options.threads);
    for (std::size_t i = 0; i < chosen; ++i) step(i);
  } else {
    for_each_window(
        chosen, options.threads,
        [&](std::size_t i) {
          if (whole) layer_loss[i] = layer_divergences(forward, *whole, {chosen_windows[i]}, options.window, 1).front();
          if (!by_expert) return;
          LayerRecorder recorder;
          const std::vector<float> logits =
              forward.run(chosen_windows[i], options.window, forward.float_experts(), i, &recorder);
          std::unique_ptr<Predictions> wanted;
          if (wants(LossKind::kDivergence)) wanted = std::make_unique<Predictions>(logits, vocab);
          std::vector<std::vector<float>> gradients;
          if (wants(LossKind::kFisher)) gradients = forward.output_gradients(chosen_windows[i], options.window, i);
          for (const LayerRecorder::Layer& layer : recorder.layers()) {
            const WindowTruth truth{wanted.get(), gradients.empty() ? nullptr : &gradients[index(layer.batch.layer)]};
            expert_loss[i].push_back(window_losses(forward, *store, layer, truth, variants));
          }
        },
        step);
  }

  const double all_tokens = static_cast<double>(windows * options.window);
  const double share = 1.0 / static_cast<double>(chosen);
  std::vector<workloads::SensitivityRow> rows;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const LayerSums sums = errors.layer(layer);
    for (std::size_t e = 0; e < experts; ++e)
      for (const Projection p : projections)
        for (const numerics::Format f : options.formats) {
          workloads::SensitivityRow row;
          row.layer = static_cast<int>(layer);
          row.expert = static_cast<int>(e);
          row.format = f;
          row.frequency = sums.tokens[e] / all_tokens;
          row.weight = sums.weight[e] / all_tokens;
          row.projection = p;
          rows.push_back(row);
        }
    const std::size_t first_row = rows.size() - experts * projections.size() * options.formats.size();
    for (std::size_t kind = 0; kind < options.losses.size(); ++kind) {
      // What this kind measures of experts alone, the mean over the windows: [expert][variant].
      std::vector<std::vector<double>> measured(experts, std::vector<double>(variants.size()));
      double layer_error = 0, of_layer = 0;
      if (options.losses[kind] == LossKind::kError)
        for (const auto& window : layer_loss) of_layer += window[layer] * share;
      for (std::size_t e = 0; e < experts; ++e) {
        layer_error += sums.error[e][whole_probe];
        if (options.losses[kind] == LossKind::kError) continue;
        for (const auto& window : expert_loss) {
          const WindowLosses& own = window[layer];
          const auto& of_expert = options.losses[kind] == LossKind::kFisher ? own.fisher[e] : own.divergence[e];
          for (std::size_t v = 0; v < variants.size(); ++v) measured[e][v] += of_expert[v] * share;
        }
        of_layer += measured[e][whole_probe];
      }
      const double layer_gain = layer_error > 0 ? of_layer / layer_error : 0;
      std::size_t at = first_row;
      for (std::size_t e = 0; e < experts; ++e)
        for (std::size_t p = 0; p < projections.size(); ++p) {
          // What the loss windows never reach has its errors weighed as the layer's others are. Without any error
          // (a pruned expert) what is measured is the rounding of the float network itself.
          const std::size_t first = p * with_probe.size();
          const bool reached = measured[e][first + probe] > 0 && sums.error[e][first + probe] > 0;
          const double gain = reached ? measured[e][first + probe] / sums.error[e][first + probe] : layer_gain;
          for (std::size_t f = 0; f < options.formats.size(); ++f, ++at) {
            const bool direct = reached && (options.losses[kind] == LossKind::kFisher ||
                                            options.formats[f].planes() <= kMeasuredPlanes);
            const double loss = direct ? measured[e][first + f] : sums.error[e][first + f] * gain;
            if (kind == 0)
              rows[at].loss = loss;
            else
              rows[at].other_losses.push_back(loss);
          }
        }
    }
  }
  return rows;
}

}  // namespace moesaic::network
