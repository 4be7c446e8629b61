#include "reference/network/forward.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "base/error.h"
#include "reference/network/gemm.h"
#include "reference/network/vector_math.h"

namespace moesaic::network {
namespace {

// Query rows whose scores are held at once; a multiple of the matrix product's row block.
constexpr std::size_t kQueryRows = 48;

void rms_norm(const float* x, std::size_t rows, const std::vector<float>& weight, float eps, float* y) {
  const std::size_t n = weight.size();
  for (std::size_t r = 0; r < rows; ++r) {
    const float* xr = x + r * n;
    const float inverse = 1.0F / std::sqrt(sum_of_squares(xr, n) / static_cast<float>(n) + eps);
    for (std::size_t i = 0; i < n; ++i) y[r * n + i] = weight[i] * (xr[i] * inverse);
  }
}

void add_into(float* x, const std::vector<float>& y) {
  for (std::size_t i = 0; i < y.size(); ++i) x[i] += y[i];
}

struct Layer {
  std::vector<float> attention_norm;
  std::vector<float> expert_norm;
  PackedMatrix qkv;
  PackedMatrix output;
  PackedMatrix router;
};

struct Routing {
  std::vector<float> logits;          // [rows, experts]
  std::vector<std::uint32_t> chosen;  // [rows, top_k]
  std::vector<float> weights;         // [rows, top_k]
};

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

}  // namespace

struct Forward::Impl {
  workloads::Network network;
  std::size_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, experts = 0, top_k = 0, vocab = 0;
  float eps = 0;
  std::vector<float> embedding;  // [vocab, hidden]
  std::vector<Layer> layers;
  std::vector<float> final_norm;
  PackedMatrix lm_head;
  std::vector<double> inverse_frequency;  // [head_dim / 2]
  std::unique_ptr<FloatExperts> float_experts;

  void rotate(std::vector<float>& qkv, std::size_t length) const;
  void attend(const std::vector<float>& qkv, std::size_t length, std::vector<float>& out) const;
};

// Rotary embedding of every query and key head: the first half of a head is turned with the second.
void Forward::Impl::rotate(std::vector<float>& qkv, std::size_t length) const {
  const std::size_t row_size = (heads + 2 * kv_heads) * head_dim;
  const std::size_t half = head_dim / 2;
  std::vector<float> cosine(half);
  std::vector<float> sine(half);
  for (std::size_t t = 0; t < length; ++t) {
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(t) * inverse_frequency[i];
      cosine[i] = static_cast<float>(std::cos(angle));
      sine[i] = static_cast<float>(std::sin(angle));
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

Forward::Forward(const workloads::Checkpoint& checkpoint) : impl_(std::make_unique<Impl>()) {
  Impl& m = *impl_;
  m.network = checkpoint.network();
  const workloads::Network& n = m.network;
  const std::string config = checkpoint.folder() + "/config.json";
  const auto refuse = [&](const char* key, const std::string& got, const std::string& expected) {
    throw base::ConfigError(config, key, got, expected);
  };
  if (n.architecture != "mixtral") refuse("model_type", n.architecture, "mixtral (the forward pass runs no other)");
  if (n.activation != std::string("silu")) refuse("hidden_act", n.activation.value_or("nothing"), "silu");
  if (n.rope_type != std::string("default")) refuse("rope_type", n.rope_type.value_or("nothing"), "default");
  if (!n.vocab || !n.rope_theta || !n.rms_eps || !n.max_positions)
    refuse("vocab_size, rope_theta, rms_norm_eps, max_position_embeddings", "one of them missing", "all of them");
  if (n.head_dim % 2 != 0) refuse("head_dim", std::to_string(n.head_dim), "an even number");
  if (n.heads % n.kv_heads != 0)
    refuse("num_key_value_heads", std::to_string(n.kv_heads), "a divisor of " + std::to_string(n.heads) + " heads");

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

  const auto packed = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    const workloads::FloatTensor t = checkpoint.read(name, {out, in});
    return pack_rows(t.data.data(), static_cast<std::size_t>(out), static_cast<std::size_t>(in));
  };
  m.embedding = checkpoint.read("model.embed_tokens.weight", {*n.vocab, n.hidden}).data;
  m.final_norm = checkpoint.read("model.norm.weight", {n.hidden}).data;
  const bool tied = n.tie_embeddings.value_or(false);
  m.lm_head = packed(tied ? "model.embed_tokens.weight" : "lm_head.weight", *n.vocab, n.hidden);
  for (std::int64_t index = 0; index < n.layers; ++index) {
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    Layer layer;
    layer.attention_norm = checkpoint.read(prefix + "input_layernorm.weight", {n.hidden}).data;
    layer.expert_norm = checkpoint.read(prefix + "post_attention_layernorm.weight", {n.hidden}).data;
    std::vector<float> qkv = checkpoint.read(prefix + "self_attn.q_proj.weight", {n.heads * n.head_dim, n.hidden}).data;
    for (const char* part : {"k", "v"}) {
      const std::vector<float> more =
          checkpoint.read(prefix + "self_attn." + part + "_proj.weight", {n.kv_heads * n.head_dim, n.hidden}).data;
      qkv.insert(qkv.end(), more.begin(), more.end());
    }
    layer.qkv = pack_rows(qkv.data(), (m.heads + 2 * m.kv_heads) * m.head_dim, m.hidden);
    layer.output = packed(prefix + "self_attn.o_proj.weight", n.hidden, n.heads * n.head_dim);
    const std::string gate = prefix + "mlp.gate.weight";  // Transformers 5 spelling
    layer.router = packed(checkpoint.has(gate) ? gate : prefix + "block_sparse_moe.gate.weight", n.experts, n.hidden);
    m.layers.push_back(std::move(layer));
  }
  m.float_experts = std::make_unique<FloatExperts>(checkpoint);
}

Forward::~Forward() = default;
Forward::Forward(Forward&&) noexcept = default;
Forward& Forward::operator=(Forward&&) noexcept = default;

const workloads::Network& Forward::network() const { return impl_->network; }
const FloatExperts& Forward::float_experts() const { return *impl_->float_experts; }

std::vector<float> Forward::run(const std::uint32_t* tokens, std::size_t length, const ExpertBackend& experts,
                                std::size_t window, MoeObserver* observer) const {
  const Impl& m = *impl_;
  if (static_cast<std::int64_t>(length) > *m.network.max_positions)
    throw base::InputError("window: got " + std::to_string(length) + " tokens, expected at most " +
                           std::to_string(*m.network.max_positions) + " (max_position_embeddings)");
  if (m.network.sliding_window && static_cast<std::int64_t>(length) > *m.network.sliding_window)
    throw base::InputError("window: got " + std::to_string(length) + " tokens, expected at most the sliding window, " +
                           std::to_string(*m.network.sliding_window));
  std::vector<float> x(length * m.hidden);
  for (std::size_t t = 0; t < length; ++t) {
    if (tokens[t] >= m.vocab)
      throw base::InputError("token " + std::to_string(t) + " of window " + std::to_string(window) + ": got " +
                             std::to_string(tokens[t]) + ", expected less than the vocabulary, " +
                             std::to_string(m.vocab));
    std::copy_n(m.embedding.data() + tokens[t] * m.hidden, m.hidden, x.data() + t * m.hidden);
  }
  return resume(0, std::move(x), length, experts, window, observer);
}

std::vector<float> Forward::resume(std::size_t first_layer, std::vector<float> x, std::size_t length,
                                   const ExpertBackend& experts, std::size_t window, MoeObserver* observer) const {
  const Impl& m = *impl_;
  std::vector<float> normed(length * m.hidden);
  std::vector<float> qkv(length * (m.heads + 2 * m.kv_heads) * m.head_dim);
  std::vector<float> attended(length * m.heads * m.head_dim);
  std::vector<float> branch(length * m.hidden);
  Routing routing;
  for (std::size_t index = first_layer; index < m.layers.size(); ++index) {
    const Layer& layer = m.layers[index];
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
    batch.x = normed.data();
    batch.router_logits = routing.logits.data();
    batch.chosen = routing.chosen.data();
    batch.weights = routing.weights.data();
    if (observer != nullptr) observer->on_moe(window, batch);
    experts.run(batch, branch.data());
    add_into(x.data(), branch);
    if (observer != nullptr) observer->after_layer(window, batch.layer, x.data(), length, m.hidden);
  }
  rms_norm(x.data(), length, m.final_norm, m.eps, normed.data());
  std::vector<float> logits(length * m.vocab);
  multiply(normed.data(), length, m.lm_head, logits.data());
  return logits;
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
