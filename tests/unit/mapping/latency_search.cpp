// The search for a plan whose simulated latency keeps its budgets, on plans that are numbers and simulations that are
// drawn: what it promises whatever the simulation says.
#include "mapping/latency_search.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "base/rng.h"

using namespace moesaic;
using mapping::LatencyAnswer;
using mapping::LatencyTrial;

namespace {

/// Plan i adds up to used[i], rising, and loses loss[i], falling: what an exact solver makes of additive budgets.
struct Plans {
  std::vector<std::int64_t> used, loss, simulated;

  LatencyTrial trial(std::size_t i) const { return {i, loss[i], {used[i]}, {simulated[i]}}; }
  std::optional<LatencyTrial> within(std::int64_t capacity) const {
    const auto above = std::upper_bound(used.begin(), used.end(), capacity);
    if (above == used.begin()) return {};
    return trial(static_cast<std::size_t>(above - used.begin()) - 1);
  }
  LatencyAnswer search(std::int64_t wanted) const {
    return mapping::search_latency(
        {wanted}, {[this](const auto& capacity) { return within(capacity[0].value_or(used.back())); },
                   [this] { return std::vector<std::int64_t>{used.front()}; }, [this] { return trial(0); }});
  }
  /// All that a search may be asked for and see a difference.
  std::vector<std::int64_t> limits() const {
    std::set<std::int64_t> all{0};
    for (const std::int64_t s : simulated) {
      all.insert(s);
      all.insert(s - 1);
    }
    return {all.begin(), all.end()};
  }
};

/// `times` of what adds up, and a noise of up to `noise` beside it.
Plans draw_plans(base::Rng& rng, std::int64_t times, std::int64_t noise, std::int64_t most_apart = 50) {
  Plans plans;
  std::int64_t used = rng.range(0, 1000), loss = 1'000'000;
  for (std::uint64_t i = 0, count = 1 + rng.below(300); i < count; ++i) {
    used += rng.range(1, most_apart);
    loss -= rng.range(1, 100);
    plans.used.push_back(used);
    plans.loss.push_back(loss);
    plans.simulated.push_back(used * times + rng.range(0, noise));
  }
  return plans;
}

}  // namespace

TEST_CASE("more latency is never refused where less was kept, and never loses more, whatever the simulation says",
          "[unit][mapping]") {
  base::Rng rng(5);
  for (int round = 0; round < 200; ++round) {
    const Plans plans = draw_plans(rng, rng.range(0, 5), rng.range(0, 20000));
    std::optional<std::int64_t> loss;
    for (const std::int64_t wanted : plans.limits()) {
      INFO("round " << round << ", wanted " << wanted);
      const LatencyAnswer answer = plans.search(wanted);
      if (loss) REQUIRE(answer.kept);
      if (!answer.kept) continue;
      REQUIRE(answer.kept->simulated[0] <= wanted);
      if (loss) REQUIRE(answer.kept->loss <= *loss);
      loss = answer.kept->loss;
    }
    REQUIRE(loss);
  }
}

TEST_CASE("a latency that one of the rungs' plans keeps is not refused, and loses no more than that plan",
          "[unit][mapping]") {
  base::Rng rng(6);
  for (int round = 0; round < 200; ++round) {
    const Plans plans = draw_plans(rng, rng.range(0, 5), rng.range(0, 20000));
    const std::int64_t least = plans.used.front(), most = plans.used.back();
    for (int rung = 0; rung <= mapping::kLatencyRungs; ++rung) {
      const LatencyTrial of_rung = *plans.within(most - (most - least) * rung / mapping::kLatencyRungs);
      const LatencyAnswer answer = plans.search(of_rung.simulated[0]);
      REQUIRE(answer.kept);
      REQUIRE(answer.kept->loss <= of_rung.loss);
    }
  }
}

TEST_CASE("the least latency that a refused search met is kept when it is asked for", "[unit][mapping]") {
  base::Rng rng(7);
  for (int round = 0; round < 200; ++round) {
    const Plans plans = draw_plans(rng, rng.range(0, 5), rng.range(0, 20000));
    const LatencyAnswer refused = plans.search(-1);
    REQUIRE_FALSE(refused.kept);
    const auto least = std::min_element(refused.tried.begin(), refused.tried.end(),
                                        [](const auto& a, const auto& b) { return a.simulated < b.simulated; });
    const LatencyAnswer answer = plans.search(least->simulated[0]);
    REQUIRE(answer.kept);
    REQUIRE(answer.kept->loss <= least->loss);
  }
}

TEST_CASE("where the simulation rises with what adds up, the best plan that keeps the latency is found",
          "[unit][mapping]") {
  base::Rng rng(8);
  for (const std::int64_t times : {1, 8}) {
    // At most 300 * 13: less than 16 rungs, each halved 8 times.
    const Plans plans = draw_plans(rng, times, 0, 13);
    for (const std::int64_t wanted : plans.limits()) {
      const std::optional<LatencyTrial> best = plans.within(wanted / times);
      const LatencyAnswer answer = plans.search(wanted);
      REQUIRE(answer.kept.has_value() == best.has_value());
      if (best) REQUIRE(answer.kept->plan == best->plan);
    }
  }
}

TEST_CASE("no search for a latency tries more plans than it says, or one of them twice", "[unit][mapping]") {
  base::Rng rng(9);
  for (int round = 0; round < 50; ++round) {
    const Plans plans = draw_plans(rng, rng.range(0, 5), rng.range(0, 20000));
    for (const std::int64_t wanted : plans.limits()) {
      const LatencyAnswer answer = plans.search(wanted);
      std::set<std::size_t> tried;
      for (const LatencyTrial& trial : answer.tried) tried.insert(trial.plan);
      REQUIRE(tried.size() == answer.tried.size());
      REQUIRE(answer.tried.size() <= static_cast<std::size_t>(mapping::kMostLatencyPlans));
    }
  }
}

TEST_CASE("a first plan that keeps the latency is the only one tried", "[unit][mapping]") {
  base::Rng rng(10);
  const Plans plans = draw_plans(rng, 2, 100);
  const LatencyAnswer answer = plans.search(plans.simulated.back());
  CHECK(answer.tried.size() == 1);
  CHECK(answer.kept->plan == plans.used.size() - 1);
}

TEST_CASE("of two layers only the one that is too slow is made faster", "[unit][mapping]") {
  // A layer adds up to 100..200 and takes three times that in the first, half of it in the second.
  const auto trial = [](std::int64_t first, std::int64_t second) {
    return LatencyTrial{static_cast<std::size_t>(first * 1000 + second),
                        400 - first - second,
                        {first, second},
                        {3 * first, second / 2}};
  };
  const auto search = [&](std::vector<std::int64_t> wanted) {
    return mapping::search_latency(
        wanted, {[&](const auto& capacity) -> std::optional<LatencyTrial> {
                   const std::int64_t first = std::min<std::int64_t>(200, capacity[0].value_or(200)),
                                      second = std::min<std::int64_t>(200, capacity[1].value_or(200));
                   if (first < 100 || second < 100) return {};
                   return trial(first, second);
                 },
                 [] {
                   return std::vector<std::int64_t>{100, 100};
                 },
                 [&] { return trial(100, 100); }});
  };
  for (const std::int64_t wanted : {300, 301, 400, 500, 599}) {
    const LatencyAnswer answer = search({wanted, 1000});
    REQUIRE(answer.kept);
    CHECK(answer.kept->used[1] == 200);
    CHECK(answer.kept->simulated[0] <= wanted);
    CHECK(answer.kept->simulated[0] > wanted - wanted / 100 - 3);
    CHECK(answer.tried.size() <= static_cast<std::size_t>(mapping::kMostLatencyPlans));
  }
  CHECK_FALSE(search({299, 1000}).kept);
}
