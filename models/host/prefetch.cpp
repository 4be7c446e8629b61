#include "models/host/prefetch.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace moesaic::host {

base::Registry<PrefetchKind> prefetch_kinds() {
  base::Registry<PrefetchKind> kinds;
  kinds.add("none", {false, false, false});
  kinds.add("next_layer", {true, true, false});
  kinds.add("perfect", {false, true, true});
  return kinds;
}

PrefetchKind check_prefetch(const PrefetchConfig& config, const std::string& where, const std::string& prefix) {
  const PrefetchKind kind = prefetch_kinds().at(config.kind, where, prefix + "prefetch");
  if (!(config.recall >= 0 && config.recall <= 1))
    throw base::ConfigError(where, prefix + "recall", fmt::format("{:g}", config.recall), "0 to 1");
  if (!(config.precision > 0 && config.precision <= 1))
    throw base::ConfigError(where, prefix + "precision", fmt::format("{:g}", config.precision), "above 0, at most 1");
  return kind;
}

Predictor::Predictor(const PrefetchConfig& config, std::uint32_t experts, const std::string& where)
    : config_(config),
      kind_(check_prefetch(config, where)),
      experts_(experts),
      rng_(base::Rng(config.seed).stream("prefetch")) {}

std::vector<Need> Predictor::guess(const std::vector<Need>& truth, bool same_token) {
  if (!kind_.at_all || (!same_token && !kind_.across_tokens)) return {};
  if (!kind_.guesses) return truth;
  std::vector<Need> guesses;
  std::vector<bool> taken(experts_, false);
  for (const Need& need : truth) {
    taken[need.expert] = true;
    if (rng_.uniform() < config_.recall) guesses.push_back(need);
  }
  // On average (1 - p) / p wrong guesses for each right one; the fraction is drawn.
  const double wrong = static_cast<double>(guesses.size()) * (1 - config_.precision) / config_.precision;
  std::size_t left = static_cast<std::size_t>(wrong);
  if (rng_.uniform() < wrong - static_cast<double>(left)) ++left;
  left = std::min(left, static_cast<std::size_t>(experts_) - truth.size());
  while (left > 0) {
    const auto expert = static_cast<std::uint32_t>(rng_.below(experts_));
    if (taken[expert]) continue;
    taken[expert] = true;
    guesses.push_back({expert, 0, 0, UINT64_MAX});
    --left;
  }
  return guesses;
}

}  // namespace moesaic::host
