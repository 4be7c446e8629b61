// What caches must do, whatever the trace: models/host/replay.h.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/rng.h"
#include "models/host/replay.h"

using namespace moesaic;
using base::Bytes;
using host::Access;
using host::Need;
using host::ReplayConfig;
using host::ReplayCounts;
using host::Scope;

namespace {

const std::vector<std::string> kPolicies = {"lru", "lfu", "belady", "pinned", "planes"};

std::vector<std::uint32_t> draw(base::Rng& rng, std::uint32_t experts, std::uint32_t top_k) {
  std::vector<std::uint32_t> chosen;
  while (chosen.size() < top_k) {
    const auto expert = static_cast<std::uint32_t>(rng.below(experts));
    if (std::find(chosen.begin(), chosen.end(), expert) == chosen.end()) chosen.push_back(expert);
  }
  return chosen;
}

std::vector<Need> needs_of(const std::vector<std::uint32_t>& experts) {
  std::vector<Need> needs;
  for (const std::uint32_t expert : experts) needs.push_back({expert, 0, 1, host::kNeverUsed});
  return needs;
}

host::ReplayTrace uniform_trace(base::Rng& rng, std::uint32_t experts, std::uint32_t top_k, std::uint64_t tokens) {
  host::ReplayTrace trace(1, experts);
  for (std::uint64_t t = 0; t < tokens; ++t) trace.add(0, needs_of(draw(rng, experts, top_k)), false, t);
  return trace;
}

std::vector<host::ReplayResult> run(const host::ReplayTrace& trace, const std::vector<std::string>& policies,
                                    std::int64_t capacity, ReplayConfig config = {}) {
  const host::ExpertBytes bytes(trace.layers(), trace.experts(), host::whole_expert(Bytes(1)));
  std::vector<host::ReplayCase> cases;
  for (const std::string& policy : policies) cases.push_back({policy, Bytes(capacity)});
  return host::replay(trace, bytes, config, cases, "test");
}

struct Moments {
  double mean = 0, variance = 0;
};

/// Total hits of `tokens` tokens from an empty cache of c, each k of N experts without replacement, uniformly: the
/// exact Markov chain over m, how many experts are resident. In sequence the j experts drawn before are among the m
/// (the last to be evicted), so the next one hits with (m - j) / (N - j); as a set, hits are hypergeometric in N, m, k.
Moments chain(std::uint32_t N, std::uint32_t k, std::uint32_t c, std::uint64_t tokens, bool set) {
  // Of each state: its probability, and the first two moments of the hits so far times it.
  struct State {
    double p = 0, first = 0, second = 0;
  };
  std::vector<State> at(c + 1);
  at[0].p = 1;
  const auto move = [](State& to, const State& from, double probability, double hits) {
    to.p += from.p * probability;
    to.first += (from.first + hits * from.p) * probability;
    to.second += (from.second + 2 * hits * from.first + hits * hits * from.p) * probability;
  };
  const auto choose = [](double n, double r) {
    return std::exp(std::lgamma(n + 1) - std::lgamma(r + 1) - std::lgamma(n - r + 1));
  };
  for (std::uint64_t t = 0; t < tokens; ++t) {
    if (set) {
      std::vector<State> next(c + 1);
      for (std::uint32_t m = 0; m <= c; ++m)
        for (std::uint32_t h = 0; h <= std::min(m, k); ++h) {
          if (at[m].p == 0 || k - h > N - m) continue;
          move(next[std::min(c, m + k - h)], at[m], choose(m, h) * choose(N - m, k - h) / choose(N, k), h);
        }
      at = next;
      continue;
    }
    for (std::uint32_t j = 0; j < k; ++j) {
      std::vector<State> next(c + 1);
      for (std::uint32_t m = 0; m <= c; ++m) {
        const double hit = m > j ? static_cast<double>(m - j) / (N - j) : 0.0;
        move(next[m], at[m], hit, 1);
        move(next[std::min(c, m + 1)], at[m], 1 - hit, 0);
      }
      at = next;
    }
  }
  Moments all;
  double second = 0;
  for (const State& s : at) {
    all.mean += s.first;
    second += s.second;
  }
  all.variance = second - all.mean * all.mean;
  return all;
}

/// Fewest misses of any demand eviction, by exhaustion over all sets that may be resident.
std::int64_t fewest_misses(const std::vector<std::uint32_t>& requests, std::uint32_t experts, std::uint32_t capacity) {
  std::map<std::uint32_t, std::int64_t> best = {{0, 0}};  // resident set -> misses
  for (const std::uint32_t request : requests) {
    std::map<std::uint32_t, std::int64_t> next;
    const auto reach = [&](std::uint32_t set, std::int64_t misses) {
      const auto [entry, fresh] = next.emplace(set, misses);
      if (!fresh) entry->second = std::min(entry->second, misses);
    };
    for (const auto& [set, misses] : best) {
      if ((set >> request & 1) != 0) {
        reach(set, misses);
        continue;
      }
      const std::uint32_t with = set | 1U << request;
      if (static_cast<std::uint32_t>(__builtin_popcount(set)) < capacity) reach(with, misses + 1);
      for (std::uint32_t victim = 0; victim < experts; ++victim)
        if ((set >> victim & 1) != 0) reach(with & ~(1U << victim), misses + 1);
    }
    best = std::move(next);
  }
  std::int64_t fewest = INT64_MAX;
  for (const auto& [set, misses] : best) fewest = std::min(fewest, misses);
  return fewest;
}

/// A trace with popular experts and reuse, of several layers.
host::ReplayTrace random_trace(base::Rng& rng, std::uint32_t layers, std::uint32_t experts, std::uint32_t top_k,
                               std::uint64_t tokens) {
  host::ReplayTrace trace(layers, experts);
  const std::uint64_t reuse = rng.below(80);
  const std::uint64_t popular = 1 + rng.below(experts);
  std::vector<std::vector<std::uint32_t>> previous(layers);
  for (std::uint64_t t = 0; t < tokens; ++t)
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      std::vector<std::uint32_t> chosen;
      for (const std::uint32_t expert : previous[layer])
        if (rng.chance(reuse, 100)) chosen.push_back(expert);
      while (chosen.size() < top_k) {
        const auto expert = static_cast<std::uint32_t>(rng.below(rng.chance(1, 2) ? popular : experts));
        if (std::find(chosen.begin(), chosen.end(), expert) == chosen.end())
          chosen.push_back(expert);
        else if (popular < top_k)
          break;
      }
      if (chosen.empty()) chosen.push_back(0);
      previous[layer] = chosen;
      trace.add(layer, needs_of(chosen), layer > 0, t);
    }
  return trace;
}

}  // namespace

TEST_CASE("uniform independent top-1 routing hits c of N times under lru, lfu and pinned, within 3 standard errors",
          "[unit][host]") {
  base::Rng rng(11);
  constexpr std::uint64_t kTokens = 100000, kWarmup = 1000;
  for (const std::uint32_t experts : {8U, 64U}) {
    const host::ReplayTrace trace = uniform_trace(rng, experts, 1, kTokens);
    for (const std::uint32_t c : {1U, experts / 4, experts / 2, experts - 1}) {
      ReplayConfig config;
      config.warmup_tokens = kWarmup;
      // Popularity from elsewhere: the trace's own counts would know the future.
      for (std::uint32_t e = 0; e < experts; ++e) config.popularity.push_back(rng.below(100));
      const std::vector<std::string> policies = {"lru", "lfu", "pinned"};
      const auto results = run(trace, policies, c, config);
      const double p = static_cast<double>(c) / experts;
      const double error = std::sqrt(p * (1 - p) / static_cast<double>(kTokens - kWarmup));
      for (std::size_t i = 0; i < policies.size(); ++i) {
        CAPTURE(policies[i], experts, c, p, error);
        CHECK(results[i].warm().requests == kTokens - kWarmup);
        CHECK(std::abs(results[i].warm().hit_rate() - p) < 3 * error);
      }
    }
  }
}

TEST_CASE("uniform top-k routing under lru matches the exact Markov chain, from the empty cache and in the long run",
          "[unit][host]") {
  base::Rng rng(12);
  struct Shape {
    std::uint32_t experts, top_k, capacity;
  };
  for (const Shape s : {Shape{8, 2, 1}, {8, 2, 2}, {8, 2, 5}, {8, 4, 3}, {64, 8, 24}, {60, 4, 59}})
    for (const Access access : {Access::kSequence, Access::kSet}) {
      ReplayConfig config;
      config.access = access;
      const bool set = access == Access::kSet;
      // Many short runs, in which the cache fills, then one long one.
      for (const auto& [runs, tokens] : {std::pair<int, std::uint64_t>{4000, 6}, {1, 20000}}) {
        const Moments one = chain(s.experts, s.top_k, s.capacity, tokens, set);
        std::int64_t hits = 0;
        for (int r = 0; r < runs; ++r)
          hits += run(uniform_trace(rng, s.experts, s.top_k, tokens), {"lru"}, s.capacity, config)[0].total().hits;
        CAPTURE(s.experts, s.top_k, s.capacity, set, runs, tokens, hits, one.mean * runs);
        CHECK(std::abs(static_cast<double>(hits) - one.mean * runs) < 3 * std::sqrt(one.variance * runs));
      }
      // The long run's rate in closed form.
      constexpr std::uint64_t kLong = 4000;
      double rate = static_cast<double>(s.capacity) / s.experts;
      if (!set) {
        rate = 0;
        for (std::uint32_t j = 0; j < std::min(s.top_k, s.capacity); ++j)
          rate += static_cast<double>(s.capacity - j) / (s.experts - j) / s.top_k;
      }
      const double fill = chain(s.experts, s.top_k, s.capacity, kLong / 2, set).mean;
      const double late = chain(s.experts, s.top_k, s.capacity, kLong, set).mean - fill;
      CHECK(late / (kLong / 2.0 * s.top_k) == Approx(rate).epsilon(1e-6));
    }
}

TEST_CASE("belady misses as rarely as the best eviction that exhaustive search finds", "[unit][host]") {
  base::Rng rng(13);
  for (int round = 0; round < 60; ++round) {
    const auto experts = static_cast<std::uint32_t>(rng.range(3, 7));
    const auto capacity = static_cast<std::uint32_t>(rng.range(1, experts - 1));
    host::ReplayTrace trace(1, experts);
    std::vector<std::uint32_t> requests;
    for (std::uint64_t t = 0; t < 24; ++t) {
      const auto chosen = draw(rng, experts, static_cast<std::uint32_t>(rng.range(1, 2)));
      requests.insert(requests.end(), chosen.begin(), chosen.end());
      trace.add(0, needs_of(chosen), false, t);
    }
    const ReplayCounts got = run(trace, {"belady"}, capacity)[0].total();
    CHECK(got.requests - got.hits == fewest_misses(requests, experts, capacity));
  }
}

TEST_CASE(
    "belady is never below any policy on random traces, in either access, with a cache for each layer or one for all",
    "[unit][host]") {
  base::Rng rng(14);
  int strictly = 0;
  for (int round = 0; round < 150; ++round) {
    const auto experts = static_cast<std::uint32_t>(rng.range(4, 20));
    const auto top_k = static_cast<std::uint32_t>(rng.range(1, 3));
    const host::ReplayTrace trace = random_trace(rng, static_cast<std::uint32_t>(rng.range(1, 4)), experts, top_k, 120);
    for (const Access access : {Access::kSequence, Access::kSet})
      for (const Scope scope : {Scope::kLayer, Scope::kGlobal}) {
        ReplayConfig config;
        config.access = access;
        config.scope = scope;
        // As a set, the cache holds a whole step.
        const std::int64_t least = access == Access::kSet ? top_k : 1;
        const std::int64_t capacity = rng.range(least, scope == Scope::kLayer ? experts : experts * trace.layers());
        const auto results = run(trace, kPolicies, capacity, config);
        const ReplayCounts best = results[2].total();
        for (std::size_t p = 0; p < kPolicies.size(); ++p) {
          CAPTURE(kPolicies[p], round, capacity);
          CHECK(results[p].total().hits <= best.hits);
          CHECK(results[p].total().requests == best.requests);
          strictly += results[p].total().hits < best.hits ? 1 : 0;
        }
      }
  }
  CHECK(strictly > 1000);  // else the traces could not tell
}

TEST_CASE("a larger cache never hits less under lru or belady, and one that holds all misses only first requests",
          "[unit][host]") {
  base::Rng rng(15);
  const host::ReplayTrace trace = random_trace(rng, 2, 12, 2, 400);
  std::vector<std::int64_t> before(2, -1);
  for (std::int64_t c = 1; c <= 12; ++c) {
    const auto results = run(trace, {"lru", "belady"}, c);
    for (std::size_t p = 0; p < 2; ++p) {
      CHECK(results[p].total().hits >= before[p]);
      before[p] = results[p].total().hits;
    }
  }
  for (const host::ReplayResult& result : run(trace, kPolicies, 12)) {
    const ReplayCounts all = result.total();
    CHECK(all.requests - all.hits == all.first_requests);
    CHECK(all.loaded == Bytes(static_cast<std::int64_t>(trace.distinct_experts())));
  }
}

TEST_CASE("one pass over several cases counts what each alone would", "[unit][host]") {
  base::Rng rng(16);
  const host::ReplayTrace trace = random_trace(rng, 3, 10, 2, 200);
  const auto together = run(trace, kPolicies, 4);
  for (std::size_t p = 0; p < kPolicies.size(); ++p)
    CHECK(run(trace, {kPolicies[p]}, 4)[0].total().hits == together[p].total().hits);
}

TEST_CASE("warm counts leave out exactly the tokens of the warm-up", "[unit][host]") {
  base::Rng rng(17);
  const host::ReplayTrace trace = uniform_trace(rng, 8, 2, 50);
  ReplayConfig config;
  config.warmup_tokens = 20;
  const host::ReplayResult result = run(trace, {"lru"}, 8, config)[0];
  CHECK(result.total().requests == 100);
  CHECK(result.warm().requests == 60);
  CHECK(result.total().hits == 92);  // eight experts, each missed once
  CHECK(result.warm().hits == 60);
  config.warmup_tokens = 0;
  CHECK(run(trace, {"lru"}, 8, config)[0].warm().requests == 100);
}

TEST_CASE("perfect prefetch leaves misses to the first step alone when the cache holds two steps", "[unit][host]") {
  base::Rng rng(18);
  const host::ReplayTrace trace = random_trace(rng, 3, 16, 2, 100);
  ReplayConfig config;
  config.scope = Scope::kGlobal;
  config.prefetch.kind = "perfect";
  for (const host::ReplayResult& result : run(trace, kPolicies, 4, config)) {
    const ReplayCounts all = result.total();
    CHECK(all.requests - all.hits <= 2);
    CHECK(all.requests - all.hits >= 1);
    CHECK(all.loaded + all.prefetched > Bytes(0));
    CHECK(all.wasted == Bytes(0));
    CHECK(all.prefetch_hits == all.prefetched.count());
  }
  config.prefetch.kind = "next_layer";  // the first layer of a token is never guessed
  const auto guessed = run(trace, {"lru"}, 4, config)[0];
  CHECK(guessed.layers[0].prefetched == Bytes(0));
  CHECK(guessed.layers[1].requests == guessed.layers[1].hits);
  CHECK(guessed.layers[2].requests == guessed.layers[2].hits);
}

TEST_CASE("guesses have the stated recall and precision, and follow from the seed", "[unit][host]") {
  base::Rng rng(19);
  for (const auto& [recall, precision] : {std::pair<double, double>{0.8, 0.9}, {0.5, 0.3}, {1.0, 0.6}, {0.3, 1.0}}) {
    host::Predictor predictor({"next_layer", recall, precision, 5}, 64, "test");
    host::Predictor again({"next_layer", recall, precision, 5}, 64, "test");
    double right = 0, wrong = 0, needed = 0;
    constexpr int kSteps = 20000;
    for (int i = 0; i < kSteps; ++i) {
      const std::vector<Need> truth = needs_of(draw(rng, 64, 4));
      const std::vector<Need> guesses = predictor.guess(truth, true);
      const std::vector<Need> same = again.guess(truth, true);
      REQUIRE(guesses.size() == same.size());
      std::set<std::uint32_t> distinct;
      for (std::size_t g = 0; g < guesses.size(); ++g) {
        REQUIRE(guesses[g].expert == same[g].expert);
        REQUIRE(distinct.insert(guesses[g].expert).second);
        const bool is_right =
            std::any_of(truth.begin(), truth.end(), [&](const Need& need) { return need.expert == guesses[g].expert; });
        (is_right ? right : wrong) += 1;
      }
      needed += 4;
    }
    CAPTURE(recall, precision);
    CHECK(std::abs(right / needed - recall) <= 3 * std::sqrt(recall * (1 - recall) / needed));
    // The wrong ones' expected number is right * (1 - p) / p, with at most a fraction drawn in each step.
    CHECK(std::abs(wrong - right * (1 - precision) / precision) <= 3 * std::sqrt(kSteps * 0.25));
    CHECK(predictor.guess(needs_of({1, 2}), false).empty());
  }
  CHECK_THROWS_WITH(host::Predictor({"some", 1, 1, 1}, 8, "test"),
                    "test: prefetch: got 'some', expected one of none, next_layer, perfect");
  CHECK_THROWS_WITH(host::Predictor({"next_layer", 1.5, 1, 1}, 8, "test"), Catch::Contains("recall: got 1.5"));
  CHECK_THROWS_WITH(host::Predictor({"next_layer", 1, 0, 1}, 8, "test"),
                    Catch::Contains("precision: got 0, expected above 0"));
  CHECK_THROWS_AS(host::Predictor({"next_layer", std::nan(""), 1, 1}, 8, "test"), base::ConfigError);
}

TEST_CASE("a replay refuses an unknown policy and a cache smaller than one expert", "[unit][host]") {
  base::Rng rng(20);
  const host::ReplayTrace trace = uniform_trace(rng, 8, 2, 5);
  CHECK_THROWS_WITH(run(trace, {"fifo"}, 2),
                    "test: policies: got 'fifo', expected one of lru, lfu, belady, pinned, planes");
  CHECK_THROWS_WITH(run(trace, {"lru"}, 0),
                    "test: capacity: got 0 bytes, expected at least 1 bytes, the largest expert of the trace");
}
