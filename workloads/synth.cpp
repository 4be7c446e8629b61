#include "workloads/synth.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "base/error.h"

namespace moesaic::workloads {
namespace {

struct LayerState {
  std::vector<double> share;  // by expert
  base::Rng rng;
  std::vector<std::vector<std::uint32_t>> previous;  // of each request that is under way
};

void choose(LayerState& layer, std::vector<std::uint32_t>& previous, std::size_t top_k, double reuse,
            std::vector<std::uint32_t>& chosen) {
  chosen.clear();
  for (const std::uint32_t expert : previous)
    if (layer.rng.uniform() < reuse) chosen.push_back(expert);
  std::vector<double> left = layer.share;
  for (const std::uint32_t expert : chosen) left[expert] = 0;
  while (chosen.size() < top_k) {
    const std::size_t expert = layer.rng.weighted(left);
    left[expert] = 0;
    chosen.push_back(static_cast<std::uint32_t>(expert));
  }
  previous = chosen;
}

void weigh(base::Rng& rng, std::size_t top_k, double spread, std::vector<double>& weights) {
  weights.resize(top_k);
  double total = 0;
  for (double& w : weights) {
    w = std::exp(spread * rng.normal());
    total += w;
  }
  std::sort(weights.rbegin(), weights.rend());
  for (double& w : weights) w = std::round(w / total * 1e6) / 1e6;
}

}  // namespace

std::vector<double> zipf_shares(std::size_t experts, double zipf) {
  std::vector<double> share(experts);
  for (std::size_t r = 0; r < experts; ++r) share[r] = std::pow(static_cast<double>(r + 1), -zipf);
  const double total = std::accumulate(share.begin(), share.end(), 0.0);
  for (double& s : share) s /= total;
  return share;
}

std::vector<std::uint32_t> rank_to_expert(std::size_t experts, std::uint32_t layer, std::uint64_t seed) {
  std::vector<std::uint32_t> expert(experts);
  std::iota(expert.begin(), expert.end(), 0U);
  base::Rng(seed).stream("popularity", layer).shuffle(expert);
  return expert;
}

void check_parameters(const SynthParameters& p) {
  const auto in_range = [](const char* key, double value, double low, double high) {
    if (!(value >= low && value <= high))
      throw base::InputError(fmt::format("workload synth: {}: got {}, expected {} to {}", key, value, low, high));
  };
  in_range("--requests", static_cast<double>(p.requests), 1, 1e9);
  in_range("--prompt-tokens", static_cast<double>(p.prompt_tokens), 0, 1e9);
  in_range("--decode-tokens", static_cast<double>(p.decode_tokens), 0, 1e9);
  in_range("--prompt-tokens plus --decode-tokens", static_cast<double>(p.prompt_tokens + p.decode_tokens), 1, 2e9);
  in_range("--zipf", p.zipf, 0, 10);
  in_range("--reuse", p.reuse, 0, 1);
  in_range("--weight-spread", p.weight_spread, 0, 20);
  in_range("--concurrent", static_cast<double>(p.concurrent), 1, 1e6);
  in_range("--arrival-gap-us", p.arrival_gap_us, 0, 1e12);
  double sum = 0;
  for (const double share : p.levels) {
    in_range("--levels", share, 0, 1);
    sum += share;
  }
  if (!p.levels.empty() && std::fabs(sum - 1) > 1e-6)
    throw base::InputError(
        fmt::format("workload synth: --levels: got shares that add up to {}, expected a sum of 1", sum));
  if (p.level_of_request && p.levels.empty())
    throw base::InputError("workload synth: --level-of: got request, expected --levels beside it");
}

void synthesise(const Network& network, const SynthParameters& p, const std::function<void(const TraceRow&)>& sink) {
  check_parameters(p);
  const std::size_t experts = static_cast<std::size_t>(network.experts);
  const std::size_t top_k = static_cast<std::size_t>(network.top_k);
  const base::Rng root(p.seed);
  const std::vector<double> by_rank = zipf_shares(experts, p.zipf);
  std::vector<LayerState> layers;
  std::vector<std::uint32_t> layer_index;
  for (std::uint32_t layer = 0; layer < network.layers; ++layer) {
    if (!network.has_experts[layer]) continue;
    LayerState state{std::vector<double>(experts), root.stream("experts", layer), {}};
    const std::vector<std::uint32_t> expert = rank_to_expert(experts, layer, p.seed);
    for (std::size_t r = 0; r < experts; ++r) state.share[expert[r]] = by_rank[r];
    layers.push_back(std::move(state));
    layer_index.push_back(layer);
  }
  base::Rng weight_rng = root.stream("weights");
  base::Rng arrival_rng = root.stream("arrivals"), level_rng = root.stream("levels");
  std::vector<std::uint32_t> level(p.concurrent);
  double now_us = 0;
  TraceRow row;
  std::vector<std::optional<double>> arrival(p.concurrent);
  for (std::uint64_t first = 0; first < p.requests; first += p.concurrent) {
    const std::uint64_t together = std::min(p.concurrent, p.requests - first);
    for (std::uint64_t i = 0; i < together && p.arrival_gap_us > 0; ++i) {
      if (first + i > 0) now_us += std::round(-std::log(1.0 - arrival_rng.uniform()) * p.arrival_gap_us);
      arrival[i] = now_us;
    }
    for (std::uint64_t i = 0; i < together && p.level_of_request; ++i)
      level[i] = static_cast<std::uint32_t>(level_rng.weighted(p.levels));
    for (LayerState& layer : layers) layer.previous.assign(together, {});
    for (row.position = 0; row.position < p.prompt_tokens + p.decode_tokens; ++row.position) {
      const bool prefill = row.position < p.prompt_tokens;
      row.phase = prefill ? Phase::kPrefill : Phase::kDecode;
      row.step = prefill ? 0 : row.position - p.prompt_tokens + 1;
      for (std::uint64_t i = 0; i < together; ++i) {
        row.request = first + i;
        row.arrival_us = arrival[i];
        for (std::size_t l = 0; l < layers.size(); ++l) {
          row.layer = layer_index[l];
          choose(layers[l], layers[l].previous[i], top_k, p.reuse, row.experts);
          weigh(weight_rng, top_k, p.weight_spread, row.weights);
          if (!p.levels.empty()) {
            row.levels.assign(top_k, level[i]);
            if (!p.level_of_request)
              for (std::uint32_t& of_choice : row.levels)
                of_choice = static_cast<std::uint32_t>(level_rng.weighted(p.levels));
          }
          sink(row);
        }
      }
    }
  }
}

std::string describe_parameters(const Network& network, const SynthParameters& p) {
  nlohmann::ordered_json j;
  j["generator"] = "moesaic workload synth";
  j["network"] = {{"name", network.name},
                  {"layers", network.layers},
                  {"moe_layers", network.moe_layers()},
                  {"experts", network.experts},
                  {"top_k", network.top_k}};
  j["seed"] = p.seed;
  j["requests"] = p.requests;
  j["prompt_tokens"] = p.prompt_tokens;
  j["decode_tokens"] = p.decode_tokens;
  j["concurrent"] = p.concurrent;
  j["popularity"] = {{"kind", "zipf, an independent permutation for each layer"}, {"exponent", p.zipf}};
  j["locality"] = {{"kind", "each expert of the previous token is kept with this probability"}, {"reuse", p.reuse}};
  j["weights"] = {{"kind", "softmax of normal logits, largest first"}, {"spread_nats", p.weight_spread}};
  j["arrivals"] = {{"kind", p.arrival_gap_us > 0 ? "exponential gaps" : "none"}, {"mean_gap_us", p.arrival_gap_us}};
  if (!p.levels.empty()) j["levels"] = {{"of", p.level_of_request ? "request" : "choice"}, {"shares", p.levels}};
  return j.dump(2) + "\n";
}

}  // namespace moesaic::workloads
