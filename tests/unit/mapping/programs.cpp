// Choice programs: branch and bound against brute force and against COIN-OR CBC, bounds at every moment, determinism.
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "base/rng.h"
#include "mapping/branch_and_bound.h"
#include "mapping/cbc.h"

using namespace moesaic;
using mapping::ChoiceProgram;
using mapping::Choices;
using mapping::SearchStatus;

namespace {

struct Sizes {
  std::uint64_t items, options, limits;
  std::int64_t most_cost, most_use;
  bool negative = false;    ///< uses too
  double tightness = 0.66;  ///< capacity between the least total use and this share of the way to the greatest
};

ChoiceProgram random_program(base::Rng& rng, const Sizes& sizes) {
  ChoiceProgram p;
  std::vector<std::int64_t> least(sizes.limits, 0), most(sizes.limits, 0);
  for (std::uint64_t i = 0; i < sizes.items; ++i) {
    mapping::ProgramItem item;
    for (std::uint64_t c = 0; c < sizes.limits; ++c)
      if (c == 0 || rng.below(4) != 0) item.limits.push_back(static_cast<int>(c));
    const std::uint64_t options = 1 + rng.below(sizes.options);
    for (std::uint64_t o = 0; o < options; ++o) {
      mapping::ProgramOption option;
      option.cost = rng.range(0, sizes.most_cost);
      for (std::size_t k = 0; k < item.limits.size(); ++k)
        option.use.push_back(rng.range(sizes.negative ? -sizes.most_use / 2 : 0, sizes.most_use));
      item.options.push_back(option);
    }
    for (std::size_t k = 0; k < item.limits.size(); ++k) {
      std::int64_t lo = item.options[0].use[k], hi = lo;
      for (const auto& o : item.options) {
        lo = std::min(lo, o.use[k]);
        hi = std::max(hi, o.use[k]);
      }
      least[static_cast<std::size_t>(item.limits[k])] += lo;
      most[static_cast<std::size_t>(item.limits[k])] += hi;
    }
    p.items.push_back(item);
  }
  for (std::size_t c = 0; c < least.size(); ++c) {
    const auto room = static_cast<std::int64_t>(sizes.tightness * static_cast<double>(most[c] - least[c]));
    p.capacity.push_back(least[c] + rng.range(room / 3, std::max(room, room / 3)));
  }
  return p;
}

struct Best {
  bool found = false;
  std::int64_t cost = 0;
  Choices choices;
};

/// Every combination in lexicographic order; keeps the first of the cheapest.
Best brute_force(const ChoiceProgram& p) {
  Best best;
  Choices now(p.items.size(), 0);
  const std::function<void(std::size_t)> visit = [&](std::size_t i) {
    if (i == p.items.size()) {
      const std::int64_t cost = mapping::program_cost(p, now);
      if ((!best.found || cost < best.cost) && mapping::within_limits(p, now)) best = {true, cost, now};
      return;
    }
    for (std::size_t o = 0; o < p.items[i].options.size(); ++o) {
      now[i] = static_cast<int>(o);
      visit(i + 1);
    }
  };
  visit(0);
  return best;
}

/// Recomputed with nothing of the solver's.
std::int64_t certified(const ChoiceProgram& p, const mapping::Certificate& c) {
  __int128 sum = 0;
  for (std::size_t l = 0; l < p.capacity.size(); ++l) {
    REQUIRE(c.num[l] >= 0);
    sum -= c.num[l] * p.capacity[l];
  }
  for (const auto& item : p.items) {
    __int128 least = 0;
    for (std::size_t o = 0; o < item.options.size(); ++o) {
      __int128 value = static_cast<__int128>(item.options[o].cost) * c.den;
      for (std::size_t k = 0; k < item.limits.size(); ++k)
        value += c.num[static_cast<std::size_t>(item.limits[k])] * item.options[o].use[k];
      if (o == 0 || value < least) least = value;
    }
    sum += least;
  }
  return static_cast<std::int64_t>(sum > 0 ? (sum + c.den - 1) / c.den : sum / c.den);
}

}  // namespace

TEST_CASE("an item may have any number of options, and ties fall as with few", "[unit][mapping]") {
  base::Rng rng(77);
  int feasible = 0, wide = 0;
  for (int i = 0; i < 60; ++i) {
    CAPTURE(i);
    // Two limits and costs that pull against each other: half of the programs keep more than 64 options of an item.
    const bool against = i % 2 == 0;
    ChoiceProgram p = random_program(rng, {2 + rng.below(2), 150, 2, i % 3 == 0 ? 12 : 1000, 400, i % 5 == 0, 0.8});
    if (against)
      for (mapping::ProgramItem& item : p.items)
        for (mapping::ProgramOption& o : item.options)
          if (o.use.size() == 2) o.cost = std::max<std::int64_t>(0, 900 - o.use[0] - o.use[1] + rng.range(0, 3));
    for (const mapping::ProgramItem& item : p.items) wide += item.options.size() > 64;
    const Best best = brute_force(p);
    const mapping::ProgramSolution s = mapping::solve_program(p, {});
    if (!best.found) {
      CHECK(s.status == SearchStatus::kInfeasible);
      continue;
    }
    ++feasible;
    REQUIRE(s.status == SearchStatus::kOptimal);
    CHECK(s.cost == best.cost);
    CHECK(s.first);
    CHECK(s.choices == best.choices);
    CHECK(certified(p, s.certificate) == s.certificate.bound);
  }
  CHECK(feasible > 30);
  CHECK(wide > 60);
}

TEST_CASE("no combination within the limits is cheaper than the search's, or as cheap and before it",
          "[unit][mapping]") {
  base::Rng rng(3);
  int feasible = 0, infeasible = 0;
  for (int i = 0; i < 1500; ++i) {
    // Small numbers make many ties.
    const ChoiceProgram p = random_program(rng, {1 + rng.below(7), 4, 1 + rng.below(4), i % 2 == 0 ? 5 : 1000,
                                                 i % 3 == 0 ? 1000 : 6, i % 5 == 0, i % 4 == 0 ? 0.3 : 0.9});
    const Best best = brute_force(p);
    const mapping::ProgramSolution s = mapping::solve_program(p, {});
    CAPTURE(i);
    if (!best.found) {
      ++infeasible;
      REQUIRE(s.status == SearchStatus::kInfeasible);
      continue;
    }
    ++feasible;
    REQUIRE(s.status == SearchStatus::kOptimal);
    REQUIRE(s.cost == best.cost);
    REQUIRE(s.bound == best.cost);
    REQUIRE(s.first);
    REQUIRE(s.choices == best.choices);
    REQUIRE(s.certificate.bound <= best.cost);
    REQUIRE(s.certificate.bound == certified(p, s.certificate));
  }
  CHECK(feasible > 500);
  CHECK(infeasible > 100);
}

TEST_CASE("at every moment the bound is at most the optimum and the cost at least", "[unit][mapping]") {
  base::Rng rng(5);
  int watched_programs = 0;
  for (int i = 0; i < 30; ++i) {
    const ChoiceProgram p = random_program(rng, {14, 6, 3, 100000, 100000});
    const mapping::ProgramSolution s = mapping::solve_program(p, {});
    if (s.status == SearchStatus::kInfeasible) continue;
    REQUIRE(s.status == SearchStatus::kOptimal);
    ++watched_programs;
    std::int64_t moments = 0;
    mapping::SearchOptions watched;
    watched.progress = [&](const mapping::SearchState& state) {
      ++moments;
      CHECK(state.bound <= s.cost);
      if (state.cost) CHECK(*state.cost >= s.cost);
    };
    CHECK(mapping::solve_program(p, watched).choices == s.choices);
    CHECK(moments > 0);
    for (const std::int64_t nodes : {1, 2, 5, 20}) {
      mapping::SearchOptions few;
      few.node_limit = nodes;
      const mapping::ProgramSolution cut = mapping::solve_program(p, few);
      CHECK(cut.bound <= s.cost);
      if (cut.choices.empty()) continue;
      CHECK(mapping::within_limits(p, cut.choices));
      CHECK(mapping::program_cost(p, cut.choices) == cut.cost);
      CHECK(cut.cost >= s.cost);
      CHECK(mapping::solve_program(p, few).choices == cut.choices);
    }
    mapping::SearchOptions loose;
    loose.gap = 0.05;
    const mapping::ProgramSolution near = mapping::solve_program(p, loose);
    CHECK(near.bound <= s.cost);
    CHECK(static_cast<double>(near.cost - near.bound) <= 0.05 * static_cast<double>(near.cost));
  }
  CHECK(watched_programs > 10);
}

TEST_CASE("the search's optimum equals CBC's proved optimum on 200 random programs of one to three budgets",
          "[unit][mapping]") {
  REQUIRE(mapping::has_cbc());  // Debian package coinor-cbc, which packages.txt lists
  base::Rng rng(9);
  int proved = 0;
  for (int i = 0; i < 200; ++i) {
    ChoiceProgram p =
        random_program(rng, {6 + rng.below(20), 8, 1 + static_cast<std::uint64_t>(i % 3), 100000, 10000, false, 0.7});
    // Half of them as formats are: what costs less uses more.
    if (i % 2 == 0)
      for (auto& item : p.items)
        for (auto& o : item.options) o.cost = std::llround(1e9 / static_cast<double>(1000 + o.use[0])) + o.cost / 20;
    const mapping::CbcAnswer cbc = mapping::solve_with_cbc(p, std::nullopt);
    const mapping::ProgramSolution s = mapping::solve_program(p, {});
    CAPTURE(i, cbc.status);
    REQUIRE(cbc.proved);
    if (cbc.infeasible) {
      REQUIRE(s.status == SearchStatus::kInfeasible);
      continue;
    }
    ++proved;
    REQUIRE(!cbc.choices.empty());
    REQUIRE(s.status == SearchStatus::kOptimal);
    REQUIRE(s.cost == cbc.cost);
  }
  CHECK(proved > 150);
}

TEST_CASE("under a model's and every layer's budget at once the search still equals CBC", "[unit][mapping]") {
  REQUIRE(mapping::has_cbc());  // Debian package coinor-cbc, which packages.txt lists
  base::Rng rng(12);
  for (int i = 0; i < 6; ++i) {
    ChoiceProgram p;  // 5 layers of 8 experts: bits of the model, bits and cycles of every layer
    p.capacity.push_back(40 * 2 + 3);
    for (int layer = 0; layer < 5; ++layer) {
      p.capacity.push_back(18);
      p.capacity.push_back(330 + 10 * i);
      for (int expert = 0; expert < 8; ++expert) {
        mapping::ProgramItem item{{0, 1 + 2 * layer, 2 + 2 * layer}, {}};
        const double scale = std::exp(2 * rng.normal());
        for (int bits = 1; bits <= 4; ++bits)
          item.options.push_back(
              {std::llround(1e6 * scale * std::pow(3.0, -bits)), {bits, bits, bits * rng.range(10, 25)}});
        p.items.push_back(item);
      }
    }
    const mapping::CbcAnswer cbc = mapping::solve_with_cbc(p, std::nullopt);
    const mapping::ProgramSolution s = mapping::solve_program(p, {});
    CAPTURE(i);
    REQUIRE(cbc.proved);
    if (cbc.infeasible) {
      CHECK(s.status == SearchStatus::kInfeasible);
      continue;
    }
    CHECK(s.status == SearchStatus::kOptimal);
    CHECK(s.cost == cbc.cost);
    CHECK(s.certificate.bound == certified(p, s.certificate));
  }
}

TEST_CASE("items that share no limit are solved apart and add up", "[unit][mapping]") {
  base::Rng rng(2);
  ChoiceProgram whole;
  std::int64_t sum = 0;
  for (int part = 0; part < 40; ++part) {
    const ChoiceProgram p = random_program(rng, {8, 3, 2, 1000, 100});
    const mapping::ProgramSolution s = mapping::solve_program(p, {});
    if (s.status != SearchStatus::kOptimal) continue;
    sum += s.cost;
    const int shift = static_cast<int>(whole.capacity.size());
    whole.capacity.insert(whole.capacity.end(), p.capacity.begin(), p.capacity.end());
    for (auto item : p.items) {
      for (int& c : item.limits) c += shift;
      whole.items.push_back(item);
    }
  }
  const mapping::ProgramSolution s = mapping::solve_program(whole, {});
  CHECK(s.status == SearchStatus::kOptimal);
  CHECK(s.cost == sum);
  CHECK(s.bound == sum);
  CHECK(s.certificate.bound == certified(whole, s.certificate));
}

TEST_CASE("a limit that no item has is still a limit", "[unit][mapping]") {
  ChoiceProgram p;
  p.items.push_back({{}, {{3, {}}, {1, {}}}});
  p.capacity = {0};
  CHECK(mapping::solve_program(p, {}).cost == 1);
  p.capacity = {-1};
  CHECK(mapping::solve_program(p, {}).status == SearchStatus::kInfeasible);
  // One that nothing can break, however wide, changes nothing and has no price.
  p.items[0] = {{0, 1}, {{3, {1, 1}}, {1, {5, 1}}}};
  p.capacity = {4, std::int64_t{1} << 62};
  const mapping::ProgramSolution s = mapping::solve_program(p, {});
  CHECK(s.cost == 3);
  CHECK(s.certificate.num[1] == 0);
}

TEST_CASE("programs out of range are refused", "[unit][mapping]") {
  ChoiceProgram p;
  p.capacity = {5};
  p.items.push_back({{0}, {{1, {1}}}});
  CHECK_NOTHROW(mapping::check_program(p));
  p.items[0].options[0].cost = -1;
  CHECK_THROWS_AS(mapping::check_program(p), std::logic_error);
  p.items[0].options[0] = {1, {1, 2}};
  CHECK_THROWS_AS(mapping::check_program(p), std::logic_error);
  p.items[0].options[0] = {1, {std::int64_t{1} << 51}};
  CHECK_THROWS_AS(mapping::check_program(p), std::logic_error);
  p.items[0].options.clear();
  CHECK_THROWS_AS(mapping::check_program(p), std::logic_error);
}
