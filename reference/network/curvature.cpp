#include "reference/network/curvature.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "reference/network/vector_math.h"

namespace moesaic::network {

namespace {

/// Rows whose products are added in float before they are added to the sum in double.
constexpr std::size_t kChunk = 256;

/// Rows of the sum made together; a multiple of kPanel.
constexpr std::size_t kBand = 4 * kPanel;

/// sum[i, j] += sum over rows of rows[r, i] * rows[r, j], for j >= i.
void add_outer_products(const std::vector<float>& rows, std::size_t count, std::size_t k, std::vector<double>& sum) {
  std::vector<float> transposed(k * count);
  for (std::size_t r = 0; r < count; ++r)
    for (std::size_t i = 0; i < k; ++i) transposed[i * count + r] = rows[r * k + i];
  const PackedMatrix packed = pack_rows(transposed.data(), k, count);
  std::vector<float> products(kBand * k);
  for (std::size_t begin = 0; begin < k; begin += kBand) {
    const std::size_t height = std::min(kBand, k - begin), width = k - begin;
    multiply(transposed.data() + begin * count, height, count, packed.data.data() + begin * count, count, count, width,
             products.data(), width);
    for (std::size_t i = 0; i < height; ++i)
      for (std::size_t j = i; j < width; ++j)
        sum[(begin + i) * k + begin + j] += static_cast<double>(products[i * width + j]);
  }
}

/// Of the inputs that H was made from: its diagonal is the sum of their squares.
bool all_inputs_zero(const std::vector<double>& h, std::size_t k) {
  for (std::size_t i = 0; i < k; ++i)
    if (h[i * k + i] != 0) return false;
  return true;
}

void scale_rows(std::vector<float>& rows, std::size_t k, const ExpertSample* samples) {
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] *= std::sqrt(samples[i / k].weight);
}

}  // namespace

void LayerInputs::on_moe(std::size_t window, const MoeBatch& batch) {
  Seen& s = seen_[window];
  s.rows = batch.rows;
  s.hidden = batch.hidden;
  s.experts = batch.experts;
  s.top_k = batch.top_k;
  s.x.assign(batch.x, batch.x + batch.rows * batch.hidden);
  s.logits.assign(batch.router_logits, batch.router_logits + batch.rows * batch.experts);
  s.weights.assign(batch.weights, batch.weights + batch.rows * batch.top_k);
  s.chosen.assign(batch.chosen, batch.chosen + batch.rows * batch.top_k);
}

std::vector<ExpertSample> near_misses(std::size_t window, const MoeBatch& batch, std::size_t expert) {
  std::vector<ExpertSample> all;
  for (std::size_t row = 0; row < batch.rows; ++row) {
    const std::uint32_t* chosen = batch.chosen + row * batch.top_k;
    if (std::find(chosen, chosen + batch.top_k, static_cast<std::uint32_t>(expert)) != chosen + batch.top_k) continue;
    // Of the softmax over the experts only these terms are left when the weights are renormalised. With top_k 1 nothing
    // would be left but the expert itself, so the chosen one counts too.
    const float* logits = batch.router_logits + row * batch.experts;
    const float mine = exp_float(logits[expert] - logits[chosen[0]]);
    float total = mine;
    for (std::size_t slot = 0; slot < std::max<std::size_t>(batch.top_k - 1, 1); ++slot)
      total += exp_float(logits[chosen[slot]] - logits[chosen[0]]);
    all.push_back({window, row, mine / total});
  }
  return all;
}

void keep_nearest(std::vector<ExpertSample>& samples, std::size_t count) {
  std::stable_sort(samples.begin(), samples.end(),
                   [](const ExpertSample& a, const ExpertSample& b) { return a.weight > b.weight; });
  samples.resize(std::min(samples.size(), count));
}

std::vector<ExpertSample> LayerInputs::samples(std::size_t expert, std::size_t minimum_tokens) const {
  std::vector<ExpertSample> own;
  for (std::size_t w = 0; w < seen_.size(); ++w) {
    const MoeBatch batch = seen_[w].batch();
    const ExpertRows mine = rows_by_expert(batch)[expert];
    for (std::size_t i = 0; i < mine.row.size(); ++i)
      own.push_back({w, mine.row[i], batch.weights[mine.row[i] * batch.top_k + mine.slot[i]]});
  }
  if (own.size() >= minimum_tokens) return own;
  std::vector<ExpertSample> others;
  for (std::size_t w = 0; w < seen_.size(); ++w) {
    const std::vector<ExpertSample> more = near_misses(w, seen_[w].batch(), expert);
    others.insert(others.end(), more.begin(), more.end());
  }
  keep_nearest(others, minimum_tokens - own.size());
  own.insert(own.end(), others.begin(), others.end());
  std::sort(own.begin(), own.end(), [](const ExpertSample& a, const ExpertSample& b) {
    return a.window != b.window ? a.window < b.window : a.row < b.row;
  });
  return own;
}

MoeBatch LayerInputs::Seen::batch() const {
  MoeBatch b;
  b.rows = rows;
  b.hidden = hidden;
  b.experts = experts;
  b.top_k = top_k;
  b.x = x.data();
  b.router_logits = logits.data();
  b.weights = weights.data();
  b.chosen = chosen.data();
  return b;
}

std::vector<float> LayerInputs::gather(const std::vector<ExpertSample>& samples, std::size_t first,
                                       std::size_t count) const {
  std::vector<float> rows;
  for (std::size_t i = first; i < first + count; ++i) {
    const Seen& s = seen_[samples[i].window];
    const auto begin = s.x.begin() + static_cast<std::ptrdiff_t>(samples[i].row * s.hidden);
    rows.insert(rows.end(), begin, begin + static_cast<std::ptrdiff_t>(s.hidden));
  }
  return rows;
}

CurvatureSource::CurvatureSource(const Forward& forward, const workloads::Quantiser& quantiser, unsigned threads)
    : forward_(forward),
      quantiser_(quantiser),
      threads_(threads),
      tokens_(workloads::read_quantiser_tokens(quantiser)) {
  const workloads::Network& network = forward.network();
  length_ = static_cast<std::size_t>(std::min({quantiser.window, network.max_positions.value_or(quantiser.window),
                                               network.sliding_window.value_or(quantiser.window)}));
  next_ = static_cast<std::size_t>(network.layers);  // nothing embedded yet
}

void CurvatureSource::step(MoeObserver* observer) {
  forward_.float_experts().prepare(static_cast<int>(next_), threads_);
  for_each_window(streams_.size(), threads_, [&](std::size_t w) {
    forward_.step(next_, streams_[w], length_, forward_.float_experts(), w, observer);
  });
  ++next_;
}

LayerCurvature CurvatureSource::layer(std::size_t layer) {
  if (layer < next_) {
    streams_.resize(tokens_.size() / length_);
    for_each_window(streams_.size(), threads_,
                    [&](std::size_t w) { streams_[w] = forward_.embed(tokens_.data() + w * length_, length_, w); });
    next_ = 0;
  }
  while (next_ < layer) step(nullptr);
  LayerInputs inputs(streams_.size());
  step(&inputs);

  const auto hidden = static_cast<std::size_t>(forward_.network().hidden);
  const auto width = static_cast<std::size_t>(forward_.network().expert_intermediate);
  LayerCurvature curvature(static_cast<std::size_t>(forward_.network().experts));
  for_each_window(curvature.size(), threads_, [&](std::size_t e) {
    const std::vector<ExpertSample> samples = inputs.samples(e, static_cast<std::size_t>(quantiser_.minimum_tokens));
    if (samples.empty()) return;
    std::vector<double> of_x(hidden * hidden), of_hidden(width * width);
    for (std::size_t first = 0; first < samples.size(); first += kChunk) {
      const std::size_t count = std::min(kChunk, samples.size() - first);
      std::vector<float> x = inputs.gather(samples, first, count);
      std::vector<float> y(x.size());
      ExpertInner inner;
      forward_.float_experts().run_expert(static_cast<int>(layer), static_cast<int>(e), x.data(), count, y.data(),
                                          &inner);
      scale_rows(x, hidden, samples.data() + first);
      scale_rows(inner.hidden, width, samples.data() + first);
      add_outer_products(x, count, hidden, of_x);
      add_outer_products(inner.hidden, count, width, of_hidden);
    }
    const std::string where = fmt::format("{}: layer {}, expert {}", quantiser_.tokens, layer, e);
    const auto factor = [&](const std::vector<double>& h, std::size_t k, const char* of) {
      return all_inputs_zero(h, k) ? std::nullopt
                                   : std::make_optional(quantise::factor_inverse(h, static_cast<std::int64_t>(k),
                                                                                 quantiser_.damping, where + of));
    };
    curvature[e] = {factor(of_x, hidden, ": gate, up"), factor(of_hidden, width, ": down")};
  });
  return curvature;
}

}  // namespace moesaic::network
