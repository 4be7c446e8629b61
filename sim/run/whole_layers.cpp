#include "sim/run/whole_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace moesaic::run {

using program::Kind;
using program::LayerRows;
using program::MatrixStack;

namespace {

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

/// Bits, uniform: 8 of one draw.
class Bytes {
 public:
  explicit Bytes(base::Rng& rng) : rng_(rng) {}
  unsigned next() {
    if (left_ == 0) {
      bits_ = rng_.next();
      left_ = 8;
    }
    const auto byte = static_cast<unsigned>(bits_ & 0xff);
    bits_ >>= 8;
    --left_;
    return byte;
  }

 private:
  base::Rng& rng_;
  std::uint64_t bits_ = 0;
  unsigned left_ = 0;
};

/// Uniform codes and group multipliers, and a requantisation under which uniform activations give results of a
/// deviation of a quarter of what out_bits hold.
numerics::WeightMatrix draw_matrix(const MatrixStack& stack, base::Rng rng, int act_bits) {
  Bytes bytes(rng);
  const numerics::Format& format = stack.format;
  numerics::WeightMatrix w;
  w.format = format;
  w.n = stack.n;
  w.k = stack.k;
  w.group_size = stack.group_size;
  const auto codes = static_cast<std::size_t>(w.n * w.k), groups = static_cast<std::size_t>(w.n * w.groups()),
             columns = static_cast<std::size_t>(w.n);
  const auto all = static_cast<unsigned>(format.max_code()) + 1;
  const auto levels = static_cast<unsigned>(format.max_code() >> format.stored_levels()) + 1;  // of the first bundle
  w.codes.resize(codes);
  for (std::uint8_t& code : w.codes) code = static_cast<std::uint8_t>(bytes.next() * all >> 8);
  if (format.has_zero_point()) w.zero_point.assign(groups, static_cast<std::uint8_t>(levels / 2));
  w.group_multiplier.resize(groups);
  for (std::uint16_t& s : w.group_multiplier) s = static_cast<std::uint16_t>(64 + bytes.next() % 192);
  // MWQ: what a level leaves is half of what it found.
  for (int level = 1; level <= format.stored_levels(); ++level)
    for (std::size_t g = 0; g < groups; ++g)
      w.level_multiplier.push_back(static_cast<std::uint16_t>(w.group_multiplier[g] >> (level + 1)));
  w.requant_multiplier.resize(columns);
  for (std::uint16_t& mu : w.requant_multiplier) mu = static_cast<std::uint16_t>(32768 + 128 * bytes.next());
  const double weight = std::ldexp(static_cast<double>(levels), format.kind() == numerics::FormatKind::kBinary),
               deviation = std::ldexp(1.0, act_bits) * weight / 12 * std::sqrt(static_cast<double>(w.k)) * 160 * 49152,
               wanted = std::ldexp(0.125, stack.out_bits);
  const long sigma = std::lround(std::log2(deviation / wanted));
  w.requant_shift.assign(columns, static_cast<std::uint8_t>(std::clamp(sigma, 0L, 62L)));
  return w;
}

}  // namespace

const numerics::WeightMatrix& DrawnMatrices::get(const MatrixStack& stack, std::int64_t index) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto key = std::make_pair(stack.name, index);
  const auto found = kept_.find(key);
  if (found != kept_.end()) return found->second;
  return kept_.emplace(key, draw_matrix(stack, rng_.stream(stack.name, static_cast<std::uint64_t>(index)), act_bits_))
      .first->second;
}

WholeLayers::WholeLayers(const workloads::WorkloadFile& workload, std::int64_t group_size, int act_bits,
                         std::uint64_t seed, bool draws)
    : network_(workload.network),
      attention_(workload.whole.attention.value_or(numerics::Format())),
      head_(workload.whole.head.value_or(numerics::Format())),
      group_size_(group_size),
      act_bits_(act_bits),
      rng_(seed),
      draws_(draws) {
  if (workload.whole.attention && !network_.latent && network_.heads % network_.kv_heads != 0)
    throw base::ConfigError(workload.path, "whole_layers.attention",
                            fmt::format("{} heads on {} key-value heads", network_.heads, network_.kv_heads),
                            "a multiple");
}

LayerRows WholeLayers::phase(const std::string& step, int layer, program::Part part) const {
  LayerRows rows;
  rows.layer = layer;
  rows.part = part;
  const std::string name(program::kPartNames[static_cast<std::size_t>(part)]);
  rows.name =
      part == program::Part::kHead ? fmt::format("{}, head", step) : fmt::format("{}, layer {}, {}", step, layer, name);
  return rows;
}

void WholeLayers::add(LayerRows& phase, const std::string& name, const MatrixStack& stack, std::int64_t rows, Kind in,
                      Kind out, std::int64_t n, std::int64_t k, const std::string& of) const {
  program::Product product;
  product.name = name;
  product.of = of;
  product.stack = stack;
  product.n = n == 0 ? stack.n : n;
  product.k = k == 0 ? stack.k : k;
  product.rows = rows;
  product.in = in;
  product.out = out;
  product.x.m = stack.count * rows;
  product.x.k = product.k;
  product.x.act_bits = act_bits_;
  if (draws_) {
    base::Rng rng = rng_.stream(phase.name + name + of);
    Bytes bytes(rng);
    product.x.values.resize(static_cast<std::size_t>(product.x.m * product.x.k));
    for (std::int16_t& value : product.x.values)
      value = static_cast<std::int16_t>((static_cast<int>(bytes.next()) - 128) >> (8 - act_bits_));
  }
  phase.products.push_back(std::move(product));
}

MatrixStack WholeLayers::weights(int layer, const std::string& name, std::int64_t n, std::int64_t k, int out_bits,
                                 std::int64_t count) const {
  MatrixStack stack;
  stack.name = fmt::format("layer {}, {}", layer, name);
  stack.format = attention_;
  stack.count = count;
  stack.n = n;
  stack.k = k;
  stack.group_size = group_size_;
  stack.out_bits = out_bits;
  return stack;
}

MatrixStack WholeLayers::cache(int layer, const StepPart& part, bool keys, std::int64_t count,
                               std::int64_t width) const {
  const std::int64_t tokens = round_up(part.capacity, kCachePage);
  MatrixStack stack;
  stack.name = fmt::format("layer {}, request {}, {}", layer, part.request, keys ? "keys" : "values");
  stack.format = numerics::Format::integer(8);
  stack.count = count;
  stack.n = keys ? tokens : width;
  stack.k = keys ? width : tokens;
  stack.group_size = keys ? round_up(width, 8) : kCachePage;
  stack.out_bits = keys ? 16 : 8;
  stack.is_cache = true;
  return stack;
}

/// Positions that the cache is read for: all, or those of a sliding window.
std::int64_t WholeLayers::context(const StepPart& part) const {
  const std::int64_t seen = network_.sliding_window ? std::min(part.context, *network_.sliding_window) : part.context;
  return std::min(round_up(seen, kCachePage), round_up(part.capacity, kCachePage));
}

void WholeLayers::add_grouped(std::vector<LayerRows>& phases, int layer, const std::vector<StepPart>& parts,
                              std::int64_t tokens) const {
  const std::int64_t heads = network_.heads, kv_heads = network_.kv_heads, dim = network_.head_dim,
                     hidden = network_.hidden;
  add(phases[0], "q", weights(layer, "q", heads * dim, hidden, 8), tokens, Kind::kActivations, Kind::kActivations);
  for (const char* name : {"k", "v"})
    add(phases[0], name, weights(layer, name, kv_heads * dim, hidden, 8), tokens, Kind::kActivations, Kind::kCache);
  for (const StepPart& part : parts) {
    const std::string of = fmt::format("request {}", part.request);
    const std::int64_t rows = heads / kv_heads * part.tokens;
    add(phases[1], "scores", cache(layer, part, true, kv_heads, dim), rows, Kind::kActivations, Kind::kScores,
        context(part), 0, of);
    add(phases[2], "values", cache(layer, part, false, kv_heads, dim), rows, Kind::kScores, Kind::kActivations, 0,
        context(part), of);
  }
}

void WholeLayers::add_latent(std::vector<LayerRows>& phases, int layer, const std::vector<StepPart>& parts,
                             std::int64_t tokens) const {
  const workloads::LatentAttention& latent = *network_.latent;
  const std::int64_t heads = network_.heads, hidden = network_.hidden, row = latent.kv_rank + latent.rope_dim,
                     query = heads * (latent.nope_dim + latent.rope_dim);
  if (latent.q_rank == 0)
    add(phases[0], "q", weights(layer, "q", query, hidden, 8), tokens, Kind::kActivations, Kind::kActivations);
  else
    add(phases[0], "q_a", weights(layer, "q_a", latent.q_rank, hidden, 16), tokens, Kind::kActivations,
        Kind::kActivations);
  add(phases[0], "kv_a", weights(layer, "kv_a", row, hidden, 8), tokens, Kind::kActivations, Kind::kCache);
  if (latent.q_rank != 0)
    add(phases[1], "q_b", weights(layer, "q_b", query, latent.q_rank, 8), tokens, Kind::kActivations,
        Kind::kActivations);
  add(phases[1], "kv_b keys", weights(layer, "kv_b keys", latent.kv_rank, latent.nope_dim, 8, heads), tokens,
      Kind::kActivations, Kind::kActivations);
  for (const StepPart& part : parts) {
    const std::string of = fmt::format("request {}", part.request);
    add(phases[1], "scores", cache(layer, part, true, 1, row), heads * part.tokens, Kind::kActivations, Kind::kScores,
        context(part), 0, of);
    add(phases[2], "values", cache(layer, part, false, 1, latent.kv_rank), heads * part.tokens, Kind::kScores,
        Kind::kActivations, 0, context(part), of);
  }
  add(phases[2], "kv_b values", weights(layer, "kv_b values", network_.head_dim, latent.kv_rank, 8, heads), tokens,
      Kind::kActivations, Kind::kActivations);
  phases[1].stated.norm_elements = tokens * (latent.q_rank + latent.kv_rank);
}

std::vector<LayerRows> WholeLayers::attention(const std::string& step, int layer,
                                              const std::vector<StepPart>& parts) const {
  std::vector<LayerRows> phases;
  for (const program::Part part : {program::Part::kProjections, program::Part::kScores, program::Part::kValues})
    phases.push_back(phase(step, layer, part));
  std::int64_t tokens = 0;
  for (const StepPart& part : parts) {
    tokens += part.tokens;
    phases[2].stated.softmax_elements += network_.heads * part.tokens * context(part);
  }
  phases[0].stated.norm_elements = tokens * network_.hidden;
  if (network_.latent)
    add_latent(phases, layer, parts, tokens);
  else
    add_grouped(phases, layer, parts, tokens);
  add(phases[2], "o", weights(layer, "o", network_.hidden, network_.heads * network_.head_dim, 16), tokens,
      Kind::kActivations, Kind::kOutputs);
  return phases;
}

LayerRows WholeLayers::head(const std::string& step, const std::vector<StepPart>& parts) const {
  LayerRows rows = phase(step, static_cast<int>(network_.layers), program::Part::kHead);
  const auto requests = static_cast<std::int64_t>(parts.size());
  rows.stated.norm_elements = requests * network_.hidden;
  MatrixStack stack = weights(rows.layer, "head", *network_.vocab, network_.hidden, 16);
  stack.name = "head";
  stack.format = head_;
  add(rows, "head", stack, requests, Kind::kActivations, Kind::kOutputs);
  return rows;
}

}  // namespace moesaic::run
