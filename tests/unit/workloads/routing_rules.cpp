// workloads/routing_rules: what a serving system leaves out of a router's choices.
#include "workloads/routing_rules.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"

using namespace moesaic;
using workloads::RoutedRows;
using workloads::RoutingRules;

namespace {

constexpr std::uint32_t kGone = RoutedRows::kDropped;

RoutedRows random_rows(std::uint64_t seed, std::size_t rows, std::uint32_t experts, std::int64_t top_k) {
  base::Rng rng(seed);
  RoutedRows routed;
  routed.top_k = top_k;
  for (std::size_t row = 0; row < rows; ++row) {
    std::vector<std::uint32_t> ids(experts);
    std::iota(ids.begin(), ids.end(), 0U);
    for (std::int64_t j = 0; j < top_k; ++j) {
      const auto at = static_cast<std::size_t>(j);
      std::swap(ids[at], ids[at + rng.below(experts - static_cast<std::uint32_t>(j))]);
      routed.experts.push_back(ids[at]);
      routed.weights.push_back(static_cast<double>(1 + rng.below(1000)) / 1000);
    }
  }
  return routed;
}

std::map<std::uint32_t, std::int64_t> loads(const RoutedRows& rows) {
  std::map<std::uint32_t, std::int64_t> load;
  for (const std::uint32_t expert : rows.experts)
    if (expert != kGone) ++load[expert];
  return load;
}

RoutingRules parse(const std::string& text) {
  return workloads::read_routing_rules(base::YamlNode::parse("routing: " + text, "w.yaml").at("routing"));
}

}  // namespace

TEST_CASE("a choice is pruned exactly when its weight is below the ratio times its row's greatest",
          "[unit][workloads]") {
  RoutedRows rows{2, {3, 5, 1, 0, 2, 4}, {0.8, 0.2, 0.5, 0.5, 0.4, 0.6}};
  RoutingRules rules;
  rules.prune_ratio = 0.25;
  CHECK(workloads::apply(rules, 8, {}, rows).total() == 0);  // 0.2 is a quarter of 0.8, not below it
  rules.prune_ratio = 0.7;
  const workloads::Dropped dropped = workloads::apply(rules, 8, {}, rows);
  CHECK(dropped.pruned == 2);
  CHECK(rows.experts == std::vector<std::uint32_t>{3, kGone, 1, 0, kGone, 4});
  CHECK(rows.weights == std::vector<double>{0.8, 0, 0.5, 0.5, 0, 0.6});
}

TEST_CASE("pruning at the layer's median drops at most half of all second experts, and close to half",
          "[unit][workloads]") {
  std::vector<RoutedRows> batches{random_rows(1, 301, 8, 2), random_rows(2, 200, 8, 2)};
  workloads::MedianRatio ratios;
  for (const RoutedRows& rows : batches) ratios.add(rows);
  const std::optional<double> median = ratios.median();
  REQUIRE(median.has_value());
  RoutingRules rules;
  rules.prune_at_median = true;
  std::int64_t pruned = 0;
  for (RoutedRows& rows : batches) pruned += workloads::apply(rules, 8, median, rows).pruned;
  CHECK(pruned <= 250);
  CHECK(pruned >= 235);  // equal ratios stay
  for (const RoutedRows& rows : batches)
    for (std::size_t row = 0; row < rows.experts.size(); row += 2)
      CHECK((rows.experts[row] != kGone || rows.experts[row + 1] != kGone));
}

TEST_CASE("a row whose ratio is the median itself keeps its experts, whatever a product would round to",
          "[unit][workloads]") {
  RoutingRules rules;
  rules.prune_at_median = true;
  unsigned rounded = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    RoutedRows row = random_rows(seed, 1, 8, 2);
    workloads::MedianRatio ratio;
    ratio.add(row);
    const double greater = std::max(row.weights[0], row.weights[1]), less = std::min(row.weights[0], row.weights[1]);
    rounded += less < *ratio.median() * greater ? 1 : 0;
    CHECK(workloads::apply(rules, 8, ratio.median(), row).pruned == 0);
  }
  CHECK(rounded > 0);
}

TEST_CASE("no expert of a batch keeps more than its capacity, and it keeps its first rows", "[unit][workloads]") {
  for (const double factor : {0.5, 1.0, 1.25}) {
    RoutedRows rows = random_rows(3, 100, 8, 2);
    const auto before = rows.experts;
    RoutingRules rules;
    rules.capacity_factor = factor;
    const workloads::Dropped dropped = workloads::apply(rules, 8, {}, rows);
    const auto capacity = static_cast<std::int64_t>(std::ceil(factor * 25));
    std::map<std::uint32_t, std::int64_t> seen;
    std::int64_t gone = 0;
    for (std::size_t c = 0; c < before.size(); ++c) {
      const bool kept = rows.experts[c] != kGone;
      CHECK(kept == (seen[before[c]]++ < capacity));
      gone += kept ? 0 : 1;
    }
    CHECK(dropped.over_capacity == gone);
  }
}

TEST_CASE(
    "rounding leaves every expert a multiple, less than one multiple below what it had, without its least weights",
    "[unit][workloads]") {
  RoutedRows rows = random_rows(4, 173, 8, 2);
  const RoutedRows before = rows;
  RoutingRules rules;
  rules.round_to = 16;
  const workloads::Dropped dropped = workloads::apply(rules, 8, {}, rows);
  const auto was = loads(before), is = loads(rows);
  std::int64_t gone = 0;
  for (const auto& [expert, count] : was) {
    const std::int64_t left = is.count(expert) != 0 ? is.at(expert) : 0;
    CHECK(left == count / 16 * 16);
    gone += count - left;
    double least_kept = 2, greatest_gone = 0;
    for (std::size_t c = 0; c < before.experts.size(); ++c) {
      if (before.experts[c] != expert) continue;
      if (rows.experts[c] != kGone)
        least_kept = std::min(least_kept, before.weights[c]);
      else
        greatest_gone = std::max(greatest_gone, before.weights[c]);
    }
    CHECK(greatest_gone <= least_kept);
  }
  CHECK(dropped.rounded == gone);
  CHECK(gone > 0);
}

TEST_CASE("renormalising keeps each row's sum where anything of the row is left", "[unit][workloads]") {
  RoutedRows rows{2, {0, 1, 0, 1, 2, 0}, {0.75, 0.25, 0.5, 0.5, 0.625, 0.375}};
  RoutingRules rules;
  rules.prune_ratio = 0.5;
  rules.renormalise = true;
  workloads::apply(rules, 4, {}, rows);
  CHECK(rows.weights == std::vector<double>{1, 0, 0.5, 0.5, 0.625, 0.375});
}

TEST_CASE("routing rules that say nothing, lie out of range or are misspelt are refused where they stand",
          "[unit][workloads]") {
  CHECK(parse("{prune_ratio: median}").prune_at_median);
  CHECK(parse("{prune_ratio: 0.5, round_to: 8}").round_to == 8);
  using Catch::Matchers::Contains;
  CHECK_THROWS_WITH(parse("{}"), Contains("w.yaml:1: routing: got ") && Contains("at least one of prune_ratio"));
  CHECK_THROWS_WITH(parse("{renormalise: true}"), Contains("at least one of prune_ratio"));
  CHECK_THROWS_WITH(parse("{prune_ratio: 1.5}"), Contains("w.yaml:1: routing.prune_ratio: got 1.5"));
  CHECK_THROWS_WITH(parse("{round_to: 0}"), Contains("w.yaml:1: routing.round_to: got 0"));
  CHECK_THROWS_WITH(parse("{capacity_factor: none}"), Contains("w.yaml:1: routing.capacity_factor: got none"));
}
