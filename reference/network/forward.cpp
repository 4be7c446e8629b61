#include "reference/network/forward.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/error.h"
#include "reference/network/forward_impl.h"
#include "reference/network/gemm.h"
#include "reference/network/vector_math.h"

namespace moesaic::network {
namespace {

// Query rows whose scores are held at once; a multiple of the matrix product's row block.
constexpr std::size_t kQueryRows = 48;

void add_into(float* x, const std::vector<float>& y) {
  for (std::size_t i = 0; i < y.size(); ++i) x[i] += y[i];
}

PackedMatrix read_packed(const workloads::Checkpoint& checkpoint, const std::string& name, std::int64_t out,
                         std::int64_t in) {
  const workloads::FloatTensor t = checkpoint.read(name, {out, in});
  return pack_rows(t.data.data(), static_cast<std::size_t>(out), static_cast<std::size_t>(in));
}

/// A layer's tensors but its experts': two norms, q, k, v, output, router.
std::vector<std::pair<std::string, std::vector<std::int64_t>>> layer_tensors(const workloads::Checkpoint& checkpoint,
                                                                             std::size_t layer) {
  const workloads::Network& n = checkpoint.network();
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const std::string gate = prefix + "mlp.gate.weight";  // Transformers 5 spelling
  return {{prefix + "input_layernorm.weight", {n.hidden}},
          {prefix + "post_attention_layernorm.weight", {n.hidden}},
          {prefix + "self_attn.q_proj.weight", {n.heads * n.head_dim, n.hidden}},
          {prefix + "self_attn.k_proj.weight", {n.kv_heads * n.head_dim, n.hidden}},
          {prefix + "self_attn.v_proj.weight", {n.kv_heads * n.head_dim, n.hidden}},
          {prefix + "self_attn.o_proj.weight", {n.hidden, n.heads * n.head_dim}},
          {checkpoint.has(gate) ? gate : prefix + "block_sparse_moe.gate.weight", {n.experts, n.hidden}}};
}

Layer read_layer(const workloads::Checkpoint& checkpoint, std::size_t index) {
  const workloads::Network& n = checkpoint.network();
  const auto tensors = layer_tensors(checkpoint, index);
  const auto read = [&](std::size_t i) { return checkpoint.read(tensors[i].first, tensors[i].second).data; };
  Layer layer;
  layer.attention_norm = read(0);
  layer.expert_norm = read(1);
  std::vector<float> qkv = read(2);
  for (const std::size_t part : {3U, 4U}) {
    const std::vector<float> more = read(part);
    qkv.insert(qkv.end(), more.begin(), more.end());
  }
  layer.qkv = pack_rows(qkv.data(), static_cast<std::size_t>((n.heads + 2 * n.kv_heads) * n.head_dim),
                        static_cast<std::size_t>(n.hidden));
  layer.output = read_packed(checkpoint, tensors[5].first, n.hidden, n.heads * n.head_dim);
  layer.router = read_packed(checkpoint, tensors[6].first, n.experts, n.hidden);
  return layer;
}

}  // namespace

void rms_norm(const float* x, std::size_t rows, const std::vector<float>& weight, float eps, float* y) {
  const std::size_t n = weight.size();
  for (std::size_t r = 0; r < rows; ++r) {
    const float* xr = x + r * n;
    const float inverse = 1.0F / std::sqrt(sum_of_squares(xr, n) / static_cast<float>(n) + eps);
    for (std::size_t i = 0; i < n; ++i) y[r * n + i] = weight[i] * (xr[i] * inverse);
  }
}

void choose_experts(Routing& routing, std::size_t rows, std::size_t experts, std::size_t top_k) {
  routing.chosen.resize(rows * top_k);
  routing.weights.resize(rows * top_k);
  std::vector<float> share(experts);
  for (std::size_t r = 0; r < rows; ++r) {
    const float* logits = routing.logits.data() + r * experts;
    std::copy_n(logits, experts, share.begin());
    const float total = exponentials(share.data(), experts);
    for (float& s : share) s /= total;
    float kept = 0;
    for (std::size_t slot = 0; slot < top_k; ++slot) {
      // Equal logits go to the lower index.
      std::size_t best = experts;
      for (std::size_t e = 0; e < experts; ++e) {
        const bool taken = std::find(&routing.chosen[r * top_k], &routing.chosen[r * top_k] + slot,
                                     static_cast<std::uint32_t>(e)) != &routing.chosen[r * top_k] + slot;
        if (!taken && (best == experts || logits[e] > logits[best])) best = e;
      }
      routing.chosen[r * top_k + slot] = static_cast<std::uint32_t>(best);
      routing.weights[r * top_k + slot] = share[best];
      kept += share[best];
    }
    for (std::size_t slot = 0; slot < top_k; ++slot) routing.weights[r * top_k + slot] /= kept;
  }
}

// Rotary embedding of every query and key head: the first half of a head is turned with the second.
void Forward::Impl::rotate(std::vector<float>& qkv, std::size_t length, bool back) const {
  const std::size_t row_size = (heads + 2 * kv_heads) * head_dim;
  const std::size_t half = head_dim / 2;
  std::vector<float> cosine(half);
  std::vector<float> sine(half);
  for (std::size_t t = 0; t < length; ++t) {
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(t) * inverse_frequency[i];
      cosine[i] = static_cast<float>(std::cos(angle));
      sine[i] = static_cast<float>(back ? -std::sin(angle) : std::sin(angle));
    }
    for (std::size_t head = 0; head < heads + kv_heads; ++head) {
      float* x = qkv.data() + t * row_size + head * head_dim;
      for (std::size_t i = 0; i < half; ++i) {
        const float a = x[i];
        const float b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
      }
    }
  }
}

void Forward::Impl::attend(const std::vector<float>& qkv, std::size_t length, std::vector<float>& out) const {
  const std::size_t row_size = (heads + 2 * kv_heads) * head_dim;
  const std::size_t out_size = heads * head_dim;
  const std::size_t group = heads / kv_heads;
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  std::vector<float> dense(length * head_dim);
  std::vector<float> transposed(head_dim * length);
  std::vector<float> scores(kQueryRows * length);
  for (std::size_t kv = 0; kv < kv_heads; ++kv) {
    for (std::size_t t = 0; t < length; ++t)
      std::copy_n(qkv.data() + t * row_size + (heads + kv) * head_dim, head_dim, dense.data() + t * head_dim);
    const PackedMatrix keys = pack_rows(dense.data(), length, head_dim);
    for (std::size_t t = 0; t < length; ++t) {
      const float* value = qkv.data() + t * row_size + (heads + kv_heads + kv) * head_dim;
      for (std::size_t d = 0; d < head_dim; ++d) transposed[d * length + t] = value[d];
    }
    const PackedMatrix values = pack_rows(transposed.data(), head_dim, length);
    for (std::size_t head = kv * group; head < (kv + 1) * group; ++head) {
      for (std::size_t first = 0; first < length; first += kQueryRows) {
        const std::size_t last = std::min(length, first + kQueryRows);
        multiply(qkv.data() + first * row_size + head * head_dim, last - first, row_size, keys.data.data(), head_dim,
                 head_dim, last, scores.data(), length);
        for (std::size_t t = first; t < last; ++t) {
          float* row = scores.data() + (t - first) * length;
          for (std::size_t i = 0; i <= t; ++i) row[i] *= scale;
          const float total = exponentials(row, t + 1);
          for (std::size_t i = 0; i <= t; ++i) row[i] /= total;
          std::fill(row + t + 1, row + last, 0.0F);
        }
        multiply(scores.data(), last - first, length, values.data.data(), length, last, head_dim,
                 out.data() + first * out_size + head * head_dim, out_size);
      }
    }
  }
}

std::optional<base::ConfigError> Forward::refusal(const workloads::Checkpoint& checkpoint) {
  const workloads::Network& n = checkpoint.network();
  const auto refuse = [&](const char* key, const std::string& got, const std::string& expected) {
    return base::ConfigError(checkpoint.folder() + "/config.json", key, got, expected);
  };
  if (n.architecture != "mixtral")
    return refuse("model_type", n.architecture, "mixtral (the forward pass runs no other)");
  if (n.activation != std::string("silu")) return refuse("hidden_act", n.activation.value_or("nothing"), "silu");
  if (n.rope_type != std::string("default")) return refuse("rope_type", n.rope_type.value_or("nothing"), "default");
  if (!n.vocab || !n.rope_theta || !n.rms_eps || !n.max_positions)
    return refuse("vocab_size, rope_theta, rms_norm_eps, max_position_embeddings", "one of them missing",
                  "all of them");
  if (n.head_dim % 2 != 0) return refuse("head_dim", std::to_string(n.head_dim), "an even number");
  return checkpoint.quantised();
}

Forward::Forward(const workloads::Checkpoint& checkpoint, std::size_t resident_layers)
    : impl_(std::make_unique<Impl>()) {
  if (const std::optional<base::ConfigError> error = refusal(checkpoint)) throw base::ConfigError(*error);
  Impl& m = *impl_;
  m.network = checkpoint.network();
  const workloads::Network& n = m.network;
  m.config = checkpoint.folder() + "/config.json";

  m.hidden = static_cast<std::size_t>(n.hidden);
  m.heads = static_cast<std::size_t>(n.heads);
  m.kv_heads = static_cast<std::size_t>(n.kv_heads);
  m.head_dim = static_cast<std::size_t>(n.head_dim);
  m.experts = static_cast<std::size_t>(n.experts);
  m.top_k = static_cast<std::size_t>(n.top_k);
  m.vocab = static_cast<std::size_t>(*n.vocab);
  m.eps = static_cast<float>(*n.rms_eps);
  for (std::size_t i = 0; i < m.head_dim / 2; ++i) {
    // Transformers keeps these in float; the angle is then formed in double from the same value.
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(m.head_dim);
    m.inverse_frequency.push_back(static_cast<double>(static_cast<float>(1.0 / std::pow(*n.rope_theta, exponent))));
  }

  m.embedding = checkpoint.read("model.embed_tokens.weight", {*n.vocab, n.hidden}).data;
  m.final_norm = checkpoint.read("model.norm.weight", {n.hidden}).data;
  const bool tied = n.tie_embeddings.value_or(false);
  m.lm_head = read_packed(checkpoint, tied ? "model.embed_tokens.weight" : "lm_head.weight", *n.vocab, n.hidden);
  m.layers = static_cast<std::size_t>(n.layers);
  m.resident = resident_layers == 0 ? m.layers : std::min(resident_layers, m.layers);
  m.weights = std::make_unique<LayerCache<Layer>>(
      m.resident, [checkpoint](std::size_t layer) { return read_layer(checkpoint, layer); });
  for (std::size_t layer = 0; layer < m.layers; ++layer) {
    if (is_resident())
      m.weights->get(layer);
    else
      for (const auto& [name, shape] : layer_tensors(checkpoint, layer)) checkpoint.check(name, shape);
  }
  m.float_experts = std::make_unique<FloatExperts>(checkpoint, m.resident);
}

Forward::~Forward() = default;
Forward::Forward(Forward&&) noexcept = default;
Forward& Forward::operator=(Forward&&) noexcept = default;

const workloads::Network& Forward::network() const { return impl_->network; }
const FloatExperts& Forward::float_experts() const { return *impl_->float_experts; }

bool Forward::is_resident() const { return impl_->resident == impl_->layers; }
std::size_t Forward::resident_layers() const { return impl_->resident; }

std::vector<float> Forward::run(const std::uint32_t* tokens, std::size_t length, const ExpertBackend& experts,
                                std::size_t window, MoeObserver* observer) const {
  return resume(0, embed(tokens, length, window), length, experts, window, observer);
}

std::vector<float> Forward::resume(std::size_t first_layer, std::vector<float> x, std::size_t length,
                                   const ExpertBackend& experts, std::size_t window, MoeObserver* observer) const {
  for (std::size_t layer = first_layer; layer < impl_->layers; ++layer)
    step(layer, x, length, experts, window, observer);
  return logits(x, length);
}

std::vector<float> Forward::embed(const std::uint32_t* tokens, std::size_t length, std::size_t window) const {
  const Impl& m = *impl_;
  if (static_cast<std::int64_t>(length) > *m.network.max_positions)
    throw base::ConfigError(m.config, "window", std::to_string(length) + " tokens",
                            "at most " + std::to_string(*m.network.max_positions) + " (max_position_embeddings)");
  if (m.network.sliding_window && static_cast<std::int64_t>(length) > *m.network.sliding_window)
    throw base::ConfigError(m.config, "window", std::to_string(length) + " tokens",
                            "at most " + std::to_string(*m.network.sliding_window) + " (sliding_window)");
  std::vector<float> x(length * m.hidden);
  for (std::size_t t = 0; t < length; ++t) {
    if (tokens[t] >= m.vocab)
      throw base::ConfigError(m.config, "token " + std::to_string(t) + " of window " + std::to_string(window),
                              std::to_string(tokens[t]), "less than the vocabulary, " + std::to_string(m.vocab));
    std::copy_n(m.embedding.data() + tokens[t] * m.hidden, m.hidden, x.data() + t * m.hidden);
  }
  return x;
}

void Forward::step(std::size_t index, std::vector<float>& x, std::size_t length, const ExpertBackend& experts,
                   std::size_t window, MoeObserver* observer) const {
  const Impl& m = *impl_;
  const std::shared_ptr<const Layer> weights = m.weights->get(index);
  const Layer& layer = *weights;
  std::vector<float> normed(length * m.hidden);
  std::vector<float> qkv(length * (m.heads + 2 * m.kv_heads) * m.head_dim);
  std::vector<float> attended(length * m.heads * m.head_dim);
  std::vector<float> branch(length * m.hidden);
  Routing routing;
  rms_norm(x.data(), length, layer.attention_norm, m.eps, normed.data());
  multiply(normed.data(), length, layer.qkv, qkv.data());
  m.rotate(qkv, length);
  m.attend(qkv, length, attended);
  multiply(attended.data(), length, layer.output, branch.data());
  add_into(x.data(), branch);

  rms_norm(x.data(), length, layer.expert_norm, m.eps, normed.data());
  routing.logits.resize(length * m.experts);
  multiply(normed.data(), length, layer.router, routing.logits.data());
  choose_experts(routing, length, m.experts, m.top_k);
  MoeBatch batch;
  batch.layer = static_cast<int>(index);
  batch.rows = length;
  batch.hidden = m.hidden;
  batch.experts = m.experts;
  batch.top_k = m.top_k;
  batch.window = window;
  batch.x = normed.data();
  batch.router_logits = routing.logits.data();
  batch.chosen = routing.chosen.data();
  batch.weights = routing.weights.data();
  if (observer != nullptr) observer->on_moe(window, batch);
  experts.run(batch, branch.data());
  add_into(x.data(), branch);
  if (observer != nullptr) observer->after_layer(window, batch.layer, x.data(), length, m.hidden);
}

std::vector<float> Forward::logits(const std::vector<float>& x, std::size_t length) const {
  const Impl& m = *impl_;
  std::vector<float> normed(length * m.hidden);
  rms_norm(x.data(), length, m.final_norm, m.eps, normed.data());
  std::vector<float> logits(length * m.vocab);
  multiply(normed.data(), length, m.lm_head, logits.data());
  return logits;
}

void run_windows(
    const Forward& forward, const std::vector<const std::uint32_t*>& windows, std::size_t length,
    const std::vector<const ExpertBackend*>& experts, unsigned threads, MoeObserver* observer,
    const std::function<void(std::size_t window, const std::vector<std::vector<float>>& logits)>& on_logits,
    const std::function<void(std::size_t)>& done) {
  const auto finish = [&](std::size_t w, const std::vector<std::vector<float>>& streams) {
    if (!on_logits) return;
    std::vector<std::vector<float>> logits;
    for (const std::vector<float>& stream : streams) logits.push_back(forward.logits(stream, length));
    on_logits(w, logits);
  };
  const auto layers = static_cast<std::size_t>(forward.network().layers);
  const auto step = [&](std::size_t layer, std::size_t w, std::vector<std::vector<float>>& streams) {
    for (std::size_t b = 0; b < experts.size(); ++b)
      forward.step(layer, streams[b], length, *experts[b], w, b == 0 ? observer : nullptr);
  };
  const auto begin = [&](std::size_t w) {
    return std::vector<std::vector<float>>(experts.size(), forward.embed(windows[w], length, w));
  };
  if (forward.is_resident()) {
    for_each_window(
        windows.size(), threads,
        [&](std::size_t w) {
          std::vector<std::vector<float>> streams = begin(w);
          for (std::size_t layer = 0; layer < layers; ++layer) step(layer, w, streams);
          finish(w, streams);
        },
        done);
    return;
  }
  std::vector<std::vector<std::vector<float>>> streams(windows.size());  // [window][back end]
  for_each_window(windows.size(), threads, [&](std::size_t w) { streams[w] = begin(w); });
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (const ExpertBackend* backend : experts) backend->prepare(static_cast<int>(layer), threads);
    for_each_window(windows.size(), threads, [&](std::size_t w) { step(layer, w, streams[w]); });
  }
  for_each_window(
      windows.size(), threads,
      [&](std::size_t w) {
        finish(w, streams[w]);
        streams[w] = {};
      },
      done);
}

void for_each_window(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& body,
                     const std::function<void(std::size_t)>& done) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  std::size_t error_index = count;
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        body(i);
      } catch (...) {  // handed to the caller below, never dropped
        const std::lock_guard<std::mutex> lock(mutex);
        if (i < error_index) {
          error_index = i;
          error = std::current_exception();
        }
        next = count;
        return;
      }
      if (done) {
        const std::lock_guard<std::mutex> lock(mutex);
        done(i);
      }
    }
  };
  const unsigned used = static_cast<unsigned>(std::min<std::size_t>(std::max(threads, 1U), count));
  std::vector<std::thread> pool;
  for (unsigned t = 1; t < used; ++t) pool.emplace_back(work);
  work();
  for (std::thread& t : pool) t.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace moesaic::network
