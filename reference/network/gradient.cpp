// The way back through the float network, in the arithmetic of the way there: a layer is computed again from the stream
// that entered it, and gradients go down from its output to its input.
#include <cmath>
#include <utility>

#include "reference/network/forward_impl.h"
#include "reference/network/vector_math.h"

namespace moesaic::network {
namespace {

/// dx += gradient through rms_norm of dy, x the norm's input.
void add_rms_norm_back(const float* x, std::size_t rows, const std::vector<float>& weight, float eps, const float* dy,
                       float* dx) {
  const std::size_t n = weight.size();
  for (std::size_t r = 0; r < rows; ++r) {
    const float* xr = x + r * n;
    const float* dyr = dy + r * n;
    const float inverse = 1.0F / std::sqrt(sum_of_squares(xr, n) / static_cast<float>(n) + eps);
    float dot = 0;
    for (std::size_t i = 0; i < n; ++i) dot += weight[i] * dyr[i] * xr[i];
    const float share = dot * inverse * inverse / static_cast<float>(n);
    for (std::size_t i = 0; i < n; ++i) dx[r * n + i] += inverse * (weight[i] * dyr[i] - xr[i] * share);
  }
}

struct Heads {
  std::size_t heads, kv_heads, head_dim;
};

/// Gradient of attend() with respect to qkv (rotated), given d [length, heads * head_dim] of its output.
std::vector<float> attend_back(const Heads& m, const std::vector<float>& qkv, std::size_t length,
                               const std::vector<float>& d) {
  const std::size_t row_size = (m.heads + 2 * m.kv_heads) * m.head_dim, out_size = m.heads * m.head_dim;
  const float scale = 1.0F / std::sqrt(static_cast<float>(m.head_dim));
  std::vector<float> dqkv(qkv.size());
  std::vector<float> share(length), d_share(length);
  const auto dot = [&](const float* a, const float* b) {
    float sum = 0;
    for (std::size_t i = 0; i < m.head_dim; ++i) sum += a[i] * b[i];
    return sum;
  };
  const auto add = [&](float* to, float factor, const float* from) {
    for (std::size_t i = 0; i < m.head_dim; ++i) to[i] += factor * from[i];
  };
  for (std::size_t head = 0; head < m.heads; ++head) {
    const std::size_t q_at = head * m.head_dim, k_at = (m.heads + head / (m.heads / m.kv_heads)) * m.head_dim,
                      v_at = k_at + m.kv_heads * m.head_dim;
    for (std::size_t t = 0; t < length; ++t) {
      const float* q = qkv.data() + t * row_size + q_at;
      const float* dt = d.data() + t * out_size + q_at;
      for (std::size_t i = 0; i <= t; ++i) share[i] = scale * dot(q, qkv.data() + i * row_size + k_at);
      const float total = exponentials(share.data(), t + 1);
      float mean = 0;
      for (std::size_t i = 0; i <= t; ++i) {
        share[i] /= total;
        d_share[i] = dot(dt, qkv.data() + i * row_size + v_at);
        mean += share[i] * d_share[i];
      }
      for (std::size_t i = 0; i <= t; ++i) {
        const float d_score = scale * share[i] * (d_share[i] - mean);
        add(dqkv.data() + i * row_size + v_at, share[i], dt);
        add(dqkv.data() + t * row_size + q_at, d_score, qkv.data() + i * row_size + k_at);
        add(dqkv.data() + i * row_size + k_at, d_score, q);
      }
    }
  }
  return dqkv;
}

}  // namespace

std::vector<float> Forward::step_back(std::size_t index, const std::vector<float>& x, std::vector<float> d,
                                      std::size_t length) const {
  const Impl& m = *impl_;
  const std::shared_ptr<const Layer> weights = m.weights->get(index);
  const Layer& layer = *weights;
  std::vector<float> normed(length * m.hidden), branch(length * m.hidden), middle = x;
  std::vector<float> qkv(length * (m.heads + 2 * m.kv_heads) * m.head_dim);
  std::vector<float> attended(length * m.heads * m.head_dim);
  rms_norm(x.data(), length, layer.attention_norm, m.eps, normed.data());
  multiply(normed.data(), length, layer.qkv, qkv.data());
  m.rotate(qkv, length);
  m.attend(qkv, length, attended);
  multiply(attended.data(), length, layer.output, branch.data());
  for (std::size_t i = 0; i < middle.size(); ++i) middle[i] += branch[i];
  rms_norm(middle.data(), length, layer.expert_norm, m.eps, normed.data());
  Routing routing;
  routing.logits.resize(length * m.experts);
  multiply(normed.data(), length, layer.router, routing.logits.data());
  choose_experts(routing, length, m.experts, m.top_k);

  MoeBatch batch;
  batch.rows = length;
  batch.hidden = m.hidden;
  batch.experts = m.experts;
  batch.top_k = m.top_k;
  batch.x = normed.data();
  batch.chosen = routing.chosen.data();
  std::vector<float> d_normed(length * m.hidden), d_weights(length * m.top_k);
  const std::vector<ExpertRows> by_expert = rows_by_expert(batch);
  for (std::size_t e = 0; e < by_expert.size(); ++e) {
    const ExpertRows& mine = by_expert[e];
    if (mine.row.empty()) continue;
    const std::vector<float> rows = gather_rows(batch, mine);
    std::vector<float> dy(rows.size()), y(rows.size()), dx(rows.size());
    for (std::size_t i = 0; i < dy.size(); ++i) {
      const std::size_t row = mine.row[i / m.hidden];
      dy[i] = routing.weights[row * m.top_k + mine.slot[i / m.hidden]] * d[row * m.hidden + i % m.hidden];
    }
    m.float_experts->run_expert_back(static_cast<int>(index), static_cast<int>(e), rows.data(), mine.row.size(),
                                     dy.data(), y.data(), dx.data());
    for (std::size_t i = 0; i < dy.size(); ++i) {
      const std::size_t row = mine.row[i / m.hidden], h = i % m.hidden;
      d_normed[row * m.hidden + h] += dx[i];
      d_weights[row * m.top_k + mine.slot[i / m.hidden]] += d[row * m.hidden + h] * y[i];
    }
  }
  // The weights are the softmax over the chosen experts' logits.
  std::vector<float> d_logits(length * m.experts);
  for (std::size_t row = 0; row < length; ++row) {
    float mean = 0;
    for (std::size_t slot = 0; slot < m.top_k; ++slot)
      mean += routing.weights[row * m.top_k + slot] * d_weights[row * m.top_k + slot];
    for (std::size_t slot = 0; slot < m.top_k; ++slot) {
      const std::size_t at = row * m.top_k + slot;
      d_logits[row * m.experts + routing.chosen[at]] = routing.weights[at] * (d_weights[at] - mean);
    }
  }
  multiply(d_logits.data(), length, transpose(layer.router), branch.data());
  for (std::size_t i = 0; i < branch.size(); ++i) d_normed[i] += branch[i];
  add_rms_norm_back(middle.data(), length, layer.expert_norm, m.eps, d_normed.data(), d.data());

  multiply(d.data(), length, transpose(layer.output), attended.data());
  std::vector<float> dqkv = attend_back(Heads{m.heads, m.kv_heads, m.head_dim}, qkv, length, attended);
  m.rotate(dqkv, length, true);
  multiply(dqkv.data(), length, transpose(layer.qkv), d_normed.data());
  add_rms_norm_back(x.data(), length, layer.attention_norm, m.eps, d_normed.data(), d.data());
  return d;
}

std::vector<std::vector<float>> Forward::output_gradients(const std::uint32_t* tokens, std::size_t length,
                                                          std::size_t window) const {
  const Impl& m = *impl_;
  std::vector<std::vector<float>> streams = {
      embed(tokens, length, window)};  // entering each layer, and the last's output
  for (std::size_t layer = 0; layer < m.layers; ++layer) {
    streams.push_back(streams.back());
    step(layer, streams.back(), length, *m.float_experts, window);
  }
  std::vector<float> d_logits = logits(streams.back(), length);
  for (std::size_t t = 0; t < length; ++t) {
    float* row = d_logits.data() + t * m.vocab;
    const float total = exponentials(row, m.vocab);
    for (std::size_t v = 0; v < m.vocab; ++v) row[v] = t + 1 < length ? row[v] / total : 0.0F;
    if (t + 1 < length) row[tokens[t + 1]] -= 1.0F;
  }
  std::vector<float> d_normed(length * m.hidden), d(length * m.hidden);
  multiply(d_logits.data(), length, transpose(m.lm_head), d_normed.data());
  add_rms_norm_back(streams.back().data(), length, m.final_norm, m.eps, d_normed.data(), d.data());
  std::vector<std::vector<float>> gradients(m.layers);
  for (std::size_t layer = m.layers; layer-- > 0;) {
    gradients[layer] = d;
    if (layer > 0) d = step_back(layer, streams[layer], std::move(d), length);
  }
  return gradients;
}

}  // namespace moesaic::network
