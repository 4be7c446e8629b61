// The mapper: exact minimum against brute force and against plain dynamic programming, allocators, checker, tables.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"
#include "mapping/allocators.h"
#include "mapping/cbc.h"
#include "mapping/checker.h"
#include "mapping/multiple_choice.h"
#include "mapping/problem.h"
#include "mapping/published.h"
#include "workloads/cost_table.h"

using namespace moesaic;
using mapping::MultipleChoice;
using numerics::ExpertFormats;
using numerics::Format;

namespace {

MultipleChoice random_problem(base::Rng& rng, std::size_t classes, std::size_t most_options, std::int64_t most_weight,
                              std::int64_t most_cost) {
  MultipleChoice p;
  std::int64_t least = 0, most = 0;
  for (std::size_t c = 0; c < classes; ++c) {
    auto& options = p.classes.emplace_back();
    const std::uint64_t count = 1 + rng.below(most_options);
    for (std::uint64_t o = 0; o < count; ++o) options.push_back({rng.range(0, most_weight), rng.range(0, most_cost)});
    std::int64_t lo = most_weight, hi = 0;
    for (const auto& o : options) {
      lo = std::min(lo, o.weight);
      hi = std::max(hi, o.weight);
    }
    least += lo;
    most += hi;
  }
  p.capacity = rng.range(least, most);
  return p;
}

struct Best {
  bool found = false;
  std::int64_t cost = 0, weight = 0;
  std::vector<int> choice;
};

/// Every combination in lexicographic order; keeps the first of the cheapest.
void brute_force(const MultipleChoice& p, std::vector<int>& choice, std::int64_t cost, std::int64_t weight,
                 Best& best) {
  if (choice.size() == p.classes.size()) {
    if (weight <= p.capacity && (!best.found || cost < best.cost)) best = {true, cost, weight, choice};
    return;
  }
  const auto& options = p.classes[choice.size()];
  for (std::size_t o = 0; o < options.size(); ++o) {
    choice.push_back(static_cast<int>(o));
    brute_force(p, choice, cost + options[o].cost, weight + options[o].weight, best);
    choice.pop_back();
  }
}

/// Least cost by a table over all weights.
std::int64_t table_minimum(const MultipleChoice& p) {
  constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max() / 2;
  std::vector<std::int64_t> best(static_cast<std::size_t>(p.capacity + 1), 0);
  for (const auto& options : p.classes) {
    std::vector<std::int64_t> next(best.size(), kNone);
    for (std::size_t w = 0; w < best.size(); ++w)
      for (const auto& o : options)
        if (o.weight <= static_cast<std::int64_t>(w))
          next[w] = std::min(next[w], best[w - static_cast<std::size_t>(o.weight)] + o.cost);
    best = next;
  }
  return best.back();
}

workloads::Network small_network() {
  workloads::Network n;
  n.name = "small";
  n.hidden = 32;
  n.expert_intermediate = 48;
  n.experts = 2;
  n.layers = 3;
  n.has_experts = {false, true, true};
  return n;
}

std::vector<workloads::SensitivityRow> small_table() {
  std::vector<workloads::SensitivityRow> rows;
  base::Rng rng(11);
  for (int layer = 1; layer < 3; ++layer)
    for (int expert = 0; expert < 2; ++expert)
      for (const Format f : {Format::integer(2), Format::integer(3), Format::integer(8), Format::binary()})
        rows.push_back({layer, expert, f, rng.uniform() / f.bits(), 0.5, 0.5});
  return rows;
}

const numerics::LayoutSpec kLayout{numerics::LayoutKind::kTileMajor, 8, 8};

mapping::MemoryTable small_memory() { return mapping::MemoryTable(small_network(), 16, kLayout); }

/// Stored bytes, and cycles that a table might hold.
mapping::Problem small_problem(const std::vector<workloads::SensitivityRow>& rows) {
  const mapping::MemoryTable memory = small_memory();
  return mapping::make_problem(
      rows, "t.csv", small_network(),
      {{"memory", "bytes", 1, [memory](int, int, const ExpertFormats& f) { return memory.bytes(f); }},
       {"latency", "cycles", 1, [](int l, int e, const ExpertFormats& f) {
          return std::int64_t{(3 + l + 2 * e) * (10 + 7 * f.gate.bits())};
        }}});
}

mapping::Problem with_memory_budget(mapping::Problem problem, const std::string& text) {
  const mapping::MemoryTable memory = small_memory();
  const auto parsed =
      mapping::parse_budget(text, mapping::BudgetUnit::kBytesOrAverageBits, {&memory, 4, 2}, "map", "--memory-budget");
  problem.budgets.push_back({0, parsed.per_layer, parsed.value, "--memory-budget"});
  return problem;
}

}  // namespace

TEST_CASE("no combination of options is better than the solver's, or comes before it", "[unit][mapping]") {
  base::Rng rng(1);
  for (int i = 0; i < 800; ++i) {
    // Small numbers make many ties.
    const MultipleChoice p = random_problem(rng, 1 + rng.below(6), 5, i % 2 == 0 ? 6 : 1000, i % 3 == 0 ? 4 : 1000);
    Best best;
    std::vector<int> choice;
    brute_force(p, choice, 0, 0, best);
    const auto solution = mapping::solve(p);
    REQUIRE(solution);
    CAPTURE(i);
    REQUIRE(solution->cost == best.cost);
    REQUIRE(solution->bound == best.cost);
    REQUIRE(solution->weight == best.weight);
    REQUIRE(solution->choice == best.choice);
    REQUIRE(solution->first);
    REQUIRE(solution->relaxed_bound <= best.cost);
  }
}

TEST_CASE("where ties take too much work the cheapest is found all the same, and said not to be the first",
          "[unit][mapping]") {
  MultipleChoice p;  // the heavier option of each class comes first, at the same cost
  for (int c = 0; c < 12; ++c) p.classes.push_back({{(2 << c) + 1, 3}, {1, 3}, {2 << c, 9}});
  p.capacity = (2 << 12) - 2;
  const auto first = mapping::solve(p), given_up = mapping::solve(p, 100);
  REQUIRE(first);
  REQUIRE(given_up);
  CHECK(first->first);
  CHECK_FALSE(given_up->first);
  CHECK(given_up->cost == first->cost);
  CHECK(given_up->choice == std::vector<int>(12, 1));  // of least weight
  CHECK(first->choice < given_up->choice);
}

TEST_CASE("a budget that does not bind changes no plan, ties or not", "[unit][mapping]") {
  // An expert that loses the same in every format; binary takes less than int2, and comes after it.
  std::vector<workloads::SensitivityRow> rows = small_table();
  for (std::size_t r = 0; r < 4; ++r) rows[r].loss = 0.25;
  for (const char* budget : {"2bits", "2.5bits", "3bits", "8bits"}) {
    mapping::Problem one = with_memory_budget(small_problem(rows), budget);
    mapping::Problem two = one;
    two.budgets.push_back({1, false, std::int64_t{1} << 40, "--latency-budget", {}});
    const mapping::Allocation a = mapping::allocate_optimal(one, {}), b = mapping::allocate_optimal(two, {});
    INFO(budget);
    CHECK(std::find(a.facts.begin(), a.facts.end(),
                    std::make_pair(std::string("method"), std::string("dynamic programming"))) != a.facts.end());
    CHECK(std::find(b.facts.begin(), b.facts.end(),
                    std::make_pair(std::string("method"), std::string("branch and bound"))) != b.facts.end());
    CHECK(a.assignment == b.assignment);
  }
}

TEST_CASE("the solver agrees with a table over all weights, correlated costs included", "[unit][mapping]") {
  base::Rng rng(2);
  for (int i = 0; i < 40; ++i) {
    MultipleChoice p = random_problem(rng, 40, 8, 60, 100000);
    if (i % 2 == 0)  // cost falls with weight, as a sensitivity table's does
      for (auto& options : p.classes)
        for (auto& o : options) o.cost = (60 - o.weight) * 1000 + rng.range(0, 50);
    const auto solution = mapping::solve(p);
    REQUIRE(solution);
    CHECK(solution->cost == table_minimum(p));
    CHECK(solution->weight <= p.capacity);
  }
}

TEST_CASE("a capacity below the lightest options has no solution, the lightest itself has one", "[unit][mapping]") {
  MultipleChoice p;
  p.classes = {{{5, 1}, {3, 9}}, {{4, 2}}};
  p.capacity = 6;
  CHECK_FALSE(mapping::solve(p));
  p.capacity = 7;
  CHECK(mapping::solve(p)->choice == std::vector<int>{1, 0});
  p.classes.clear();
  CHECK(mapping::solve(p)->cost == 0);
  p.classes = {{}};
  CHECK_THROWS_AS(mapping::solve(p), std::logic_error);
}

TEST_CASE("fourteen thousand experts at eight widths are solved to a gap of 0", "[unit][mapping]") {
  base::Rng rng(3);
  MultipleChoice p;
  for (int e = 0; e < 58 * 256; ++e) {
    auto& options = p.classes.emplace_back();
    const double scale = std::exp(2 * rng.normal()) * 1e6;
    for (int bits = 1; bits <= 8; ++bits)
      options.push_back(
          {12288 * bits + 6528, static_cast<std::int64_t>(scale * std::exp2(-2 * bits) * (0.8 + 0.4 * rng.uniform()))});
  }
  p.capacity = 58 * 256 * (12288 * 5 / 2 + 6528);
  const auto solution = mapping::solve(p);
  REQUIRE(solution);
  CHECK(solution->bound == solution->cost);
  CHECK(solution->weight <= p.capacity);
  CHECK(static_cast<double>(solution->cost - solution->relaxed_bound) <= 1e-4 * static_cast<double>(solution->cost));
}

TEST_CASE("stored bytes come from the layout, losses are scaled once", "[unit][mapping]") {
  const mapping::MemoryTable memory = small_memory();
  const auto layout = [](Format f) { return numerics::stored_layout(f, numerics::expert_shapes(32, 48, 16), kLayout); };
  CHECK(memory.bytes(Format::integer(3)) == layout(Format::integer(3)).total_bytes());
  CHECK(memory.bytes(Format::nested(3)) == memory.bytes(Format::nested(8)));
  CHECK(memory.read_bytes(Format::nested(3)) == layout(Format::nested(3)).read_bytes());
  CHECK(memory.read_bytes(Format::nested(3)) < memory.read_bytes(Format::nested(4)));
  // MWQ stores every level, and reads the parameters of those that it reads.
  CHECK(memory.bytes(Format::mwq(2, 2, 1)) == layout(Format::mwq(2, 2, 2)).total_bytes());
  CHECK(memory.read_bytes(Format::mwq(2, 2, 1)) == layout(Format::mwq(2, 2, 1)).read_bytes());
  CHECK(memory.read_bytes(Format::mwq(2, 2, 1)) < memory.read_bytes(Format::mwq(2, 2, 2)));
  const auto rows = small_table();
  const mapping::Problem problem = small_problem(rows);
  REQUIRE(problem.items.size() == 4);
  std::int64_t greatest = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const mapping::Item& item = problem.items[i];
    CHECK(item.layer == static_cast<int>(1 + i / 2));
    CHECK(item.expert == static_cast<int>(i % 2));
    REQUIRE(item.choices.size() == 4);
    std::int64_t most = 0;
    for (std::size_t c = 0; c < 4; ++c) {
      CHECK(item.choices[c].format == rows[4 * i + c].format);
      CHECK(item.choices[c].use[0] == memory.bytes(rows[4 * i + c].format));
      CHECK(item.choices[c].loss == std::llround(std::ldexp(rows[4 * i + c].loss, problem.loss_exponent)));
      most = std::max(most, item.choices[c].loss);
    }
    greatest += most;
  }
  CHECK(greatest <= std::int64_t{1} << 50);
  CHECK(greatest >= std::int64_t{1} << 48);
}

TEST_CASE("a table that does not fit the network is refused", "[unit][mapping]") {
  auto rows = small_table();
  rows.resize(12);
  CHECK_THROWS_WITH(small_problem(rows), "t.csv: layer 2, expert 1: got no row, expected at least one");
  rows = small_table();
  rows[0].layer = 0;
  CHECK_THROWS_WITH(small_problem(rows),
                    Catch::Contains("t.csv: layer: got 0, expected a layer of small that has experts"));
  rows[0].layer = 3;
  CHECK_THROWS_WITH(small_problem(rows), Catch::Contains("t.csv: layer: got 3"));
  rows[0].layer = 1;
  rows[0].expert = 2;
  CHECK_THROWS_WITH(small_problem(rows), Catch::Contains("t.csv: expert: got 2 in layer 1, expected 0 to 1"));
  rows = small_table();
  rows[1].frequency = 0.25;
  CHECK_THROWS_WITH(small_problem(rows), Catch::Contains("layer 1, expert 0: got rows that differ in frequency"));
}

TEST_CASE("budgets are numbers in their own unit, of the model or of each layer", "[unit][mapping]") {
  using mapping::BudgetUnit;
  const mapping::MemoryTable memory = small_memory();
  const auto parse = [&](const std::string& text, BudgetUnit unit = BudgetUnit::kBytesOrAverageBits) {
    return mapping::parse_budget(text, unit, {&memory, 4, 2}, "map", "--memory-budget");
  };
  CHECK(parse("123456").value == 123456);
  CHECK_FALSE(parse("123456").per_layer);
  CHECK(parse("0").value == 0);
  CHECK(parse("96KiB").value == 96 * 1024);
  CHECK(parse("1.5MiB").value == 3 * 512 * 1024);
  CHECK(parse("2GiB/layer").value == std::int64_t{1} << 31);
  CHECK(parse("2GiB/layer").per_layer);
  CHECK(parse("2.5bits").value == 2 * memory.bytes(Format::integer(2)) + 2 * memory.bytes(Format::integer(3)));
  CHECK(parse("2.5bits/layer").value == memory.bytes(Format::integer(2)) + memory.bytes(Format::integer(3)));
  CHECK(parse("8bits").value == 4 * memory.bytes(Format::integer(8)));
  CHECK(parse("1200cycles", BudgetUnit::kCycles).value == 1200);
  CHECK(parse("16bits/layer", BudgetUnit::kBits).value == 16);
  CHECK(parse("7", BudgetUnit::kPlain).value == 7);
  for (const char* bad : {"", "12.5", "-1", "1e6", "5kB", "5MB", "5 KiB", "0.5bits", "9bits", "nan", "inf", "bits",
                          "99999999999GiB", "2.5bit", "1200cycles", "5/layer/layer", "/layer", "5/layers"})
    CHECK_THROWS_WITH(parse(bad),
                      Catch::Contains(std::string("map: --memory-budget: got '") + bad + "', expected bytes"));
  for (const char* bad : {"40MiB", "1200", "1.5cycles", "cycles", "1200Cycles", "2bits"})
    CHECK_THROWS_WITH(parse(bad, BudgetUnit::kCycles), Catch::Contains("expected cycles (1200cycles)"));
  CHECK_THROWS_WITH(parse("2.5bits", BudgetUnit::kBytes), Catch::Contains("got '2.5bits', expected bytes"));
  CHECK_THROWS_WITH(parse("1.5bits", BudgetUnit::kBits), Catch::Contains("expected bits"));
  CHECK_THROWS_WITH(parse("1KiB", BudgetUnit::kPlain), Catch::Contains("expected a whole number"));
}

TEST_CASE("allocators keep the budget; random ones fill it and repeat with their seed", "[unit][mapping]") {
  const mapping::Problem problem = with_memory_budget(small_problem(small_table()), "2.5bits");
  const std::int64_t budget = problem.budgets[0].value;
  const mapping::Totals best = mapping::totals(problem, mapping::allocate_optimal(problem, {}).assignment);
  CHECK(best.use[0] <= budget);
  bool differ = false;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    const auto random = mapping::allocate_random(problem, {seed, {}});
    CHECK(random.assignment == mapping::allocate_random(problem, {seed, {}}).assignment);
    differ = differ || random.assignment != mapping::allocate_random(problem, {seed + 1, {}}).assignment;
    const mapping::Totals sum = mapping::totals(problem, random.assignment);
    CHECK(sum.use[0] <= budget);
    CHECK(sum.loss >= best.loss);
    for (std::size_t i = 0; i < problem.items.size(); ++i) {
      const auto& choices = problem.items[i].choices;
      const std::int64_t own = choices[static_cast<std::size_t>(random.assignment[i])].use[0];
      std::int64_t next = std::numeric_limits<std::int64_t>::max() / 2;
      for (const auto& c : choices)
        if (c.use[0] > own) next = std::min(next, c.use[0]);
      CHECK(sum.use[0] - own + next > budget);
    }
  }
  CHECK(differ);
  for (const int choice : mapping::allocate_uniform(problem, {}).assignment)
    CHECK(problem.items[0].choices[static_cast<std::size_t>(choice)].format == Format::integer(2));
  mapping::Problem tight = problem;
  const std::int64_t least = 4 * small_memory().bytes(Format::binary());
  tight.budgets[0].value = least - 1;
  for (const auto& allocate : {mapping::allocate_optimal, mapping::allocate_uniform, mapping::allocate_random,
                               mapping::allocate_greedy, mapping::allocate_hawq, mapping::allocate_baq})
    CHECK_THROWS_WITH(allocate(tight, {}), Catch::Contains("--memory-budget: got") &&
                                               Catch::Contains("at least " + std::to_string(least) + " bytes"));
  tight.budgets[0].value = least;
  CHECK_NOTHROW(mapping::allocate_optimal(tight, {}));
}

TEST_CASE("a budget with capacities of its own binds every layer by its own", "[unit][mapping]") {
  const auto rows = small_table();
  mapping::Problem problem = small_problem(rows);
  problem.budgets = {{1, true, 100000, "--latency-budget"}};
  const auto free = mapping::layer_use(problem, mapping::allocate_optimal(problem, {}).assignment, 1);
  problem.budgets[0].capacity = {free[0] - 1, free[1]};
  const mapping::Allocation allocation = mapping::allocate_optimal(problem, {});
  const auto held = mapping::layer_use(problem, allocation.assignment, 1);
  CHECK(held[0] < free[0]);
  CHECK(held[1] == free[1]);  // its own capacity leaves it as it was

  workloads::Plan plan;
  const mapping::Totals sum = mapping::totals(problem, allocation.assignment);
  plan.loss = sum.real_loss;
  for (std::size_t i = 0; i < 4; ++i) {
    const auto c = static_cast<std::size_t>(allocation.assignment[i]);
    plan.experts.push_back({problem.items[i].layer, problem.items[i].expert, problem.items[i].choices[c].format, 0});
  }
  mapping::Claim claim;
  claim.loss = sum.loss;
  claim.loss_exponent = problem.loss_exponent;
  const std::int64_t greatest = *std::max_element(held.begin(), held.end());
  claim.budgets = {{"latency", true, 100000, problem.resources[1].use, greatest, problem.budgets[0].capacity}};
  claim.certificate = mapping::Claim::Certificate{allocation.certificate->num, allocation.certificate->den,
                                                  allocation.certificate->bound};
  CHECK_NOTHROW(mapping::check_claim(plan, claim, rows));
  claim.certificate.reset();
  claim.budgets[0].layer_capacity[0] = held[0] - 1;
  CHECK_THROWS_WITH(mapping::check_claim(plan, claim, rows), Catch::Contains("latency within the budget"));
}

TEST_CASE("the checker accepts the solver's plan and refuses every altered claim", "[unit][mapping]") {
  const auto rows = small_table();
  mapping::Problem problem = small_problem(rows);
  problem.budgets = {{0, false, 9000, "--memory-budget"}, {1, true, 900, "--latency-budget"}};
  problem.at_least = {{1, Format::integer(2), -1}};
  problem.tied = {{0, 3}};
  const mapping::Allocation allocation = mapping::allocate_optimal(problem, {});
  const mapping::Totals sum = mapping::totals(problem, allocation.assignment);
  workloads::Plan plan;
  plan.memory_bytes = sum.use[0];
  plan.loss = sum.real_loss;
  for (std::size_t i = 0; i < 4; ++i) {
    const auto c = static_cast<std::size_t>(allocation.assignment[i]);
    plan.experts.push_back({problem.items[i].layer, problem.items[i].expert, problem.items[i].choices[c].format, 0});
  }
  const mapping::MemoryTable memory = small_memory();
  mapping::Claim claim;
  claim.loss = sum.loss;
  claim.loss_exponent = problem.loss_exponent;
  claim.bytes = sum.use[0];
  claim.bytes_of = [&](const ExpertFormats& f) { return memory.bytes(f); };
  const auto layers = mapping::layer_use(problem, allocation.assignment, 1);
  claim.budgets = {{"memory", false, 9000, problem.resources[0].use, sum.use[0]},
                   {"latency", true, 900, problem.resources[1].use, *std::max_element(layers.begin(), layers.end())}};
  claim.at_least = {{1, Format::integer(2), -1}};
  claim.tied = {{{1, 0}, {2, 1}}};
  REQUIRE(allocation.certificate);
  claim.certificate = mapping::Claim::Certificate{allocation.certificate->num, allocation.certificate->den,
                                                  allocation.certificate->bound};
  const auto check = [&](const workloads::Plan& p, const mapping::Claim& c) { mapping::check_claim(p, c, rows); };
  CHECK_NOTHROW(check(plan, claim));
  auto wrong = claim;
  *wrong.bytes += 1;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: bytes"));
  wrong = claim;
  wrong.loss -= 1;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: scaled loss"));
  wrong = claim;
  wrong.budgets[1].used += 1;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: latency: claimed"));
  wrong = claim;
  wrong.budgets[0].capacity = sum.use[0] - 1;
  wrong.certificate.reset();
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: memory within the budget"));
  wrong = claim;
  wrong.at_least[0].count = 3;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: experts of int2 in layer"));
  wrong = claim;
  wrong.certificate->bound += 1;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: relaxed bound"));
  wrong.certificate->bound -= 2;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: relaxed bound"));
  wrong = claim;
  wrong.certificate->num.pop_back();
  CHECK_THROWS(check(plan, wrong));
  auto other = plan;
  other.loss += 1e-9;
  CHECK_THROWS_WITH(check(other, claim), Catch::Contains("plan check: loss"));
  other = plan;
  other.memory_bytes += 1;
  CHECK_THROWS_WITH(check(other, claim), Catch::Contains("plan check: memory_bytes"));
  other = plan;
  other.experts[0].format = Format::integer(5);
  CHECK_THROWS_WITH(check(other, claim), Catch::Contains("layer 1, expert 0: 0 formats of the table chosen"));
  other = plan;
  other.experts.pop_back();
  CHECK_THROWS_WITH(check(other, claim), Catch::Contains("plan check: experts"));
  other.experts.push_back(other.experts[0]);
  CHECK_THROWS_WITH(check(other, claim), Catch::Contains("formats of the table chosen, expected 1"));
}

namespace {

using workloads::Projection;

/// Losses of gate, up and down in a few formats; up of one expert lacks one.
std::vector<workloads::SensitivityRow> projection_table(std::uint64_t seed, const std::vector<Format>& formats) {
  std::vector<workloads::SensitivityRow> rows;
  base::Rng rng(seed);
  for (int layer = 1; layer < 3; ++layer)
    for (int expert = 0; expert < 2; ++expert)
      for (const Projection p : {Projection::kGate, Projection::kUp, Projection::kDown})
        for (const Format f : formats) {
          if (layer == 2 && expert == 0 && p == Projection::kUp && f == formats[1]) continue;
          rows.push_back({layer, expert, f, std::exp(rng.normal()) * std::pow(3.0, -f.bits()), 0.5, 0.5, p});
        }
  return rows;
}

const std::vector<Format> kFew{Format::integer(2), Format::integer(3), Format::integer(8), Format::binary()};

mapping::Problem projection_problem(const std::vector<workloads::SensitivityRow>& rows, mapping::Together together) {
  const mapping::MemoryTable memory = small_memory();
  mapping::Problem problem = mapping::make_problem(
      rows, "t.csv", small_network(),
      {{"memory", "bytes", 1, [memory](int, int, const ExpertFormats& f) { return memory.bytes(f); }},
       {"latency", "cycles", 1,
        [](int l, int e, const ExpertFormats& f) {
          return std::int64_t{(3 + l + 2 * e) * (7 * f.planes() + (f.is_paired() ? 10 : 17))};
        }}},
      together);
  return problem;
}

/// The least loss over every assignment within the budgets; -1 without one.
std::int64_t least_loss(const mapping::Problem& problem) {
  std::int64_t best = -1;
  mapping::Assignment now(problem.items.size(), 0);
  const std::function<void(std::size_t)> visit = [&](std::size_t i) {
    if (i < now.size()) {
      for (std::size_t c = 0; c < problem.items[i].choices.size(); ++c) {
        now[i] = static_cast<int>(c);
        visit(i + 1);
      }
      return;
    }
    const mapping::Totals sum = mapping::totals(problem, now);
    for (const mapping::Budget& b : problem.budgets)
      if (sum.use[static_cast<std::size_t>(b.resource)] > b.value) return;
    if (best < 0 || sum.loss < best) best = sum.loss;
  };
  visit(0);
  return best;
}

}  // namespace

TEST_CASE("losses of gate, up and down make a choice of every combination that is allowed", "[unit][mapping]") {
  const auto rows = projection_table(3, kFew);
  const mapping::Problem apart = projection_problem(rows, mapping::Together::kNone),
                         paired = projection_problem(rows, mapping::Together::kGateUp),
                         whole = projection_problem(rows, mapping::Together::kAll);
  REQUIRE(apart.items.size() == 4);
  CHECK(apart.items[0].choices.size() == 64);
  CHECK(apart.items[2].choices.size() == 48);  // three formats of up
  CHECK(paired.items[0].choices.size() == 16);
  CHECK(paired.items[2].choices.size() == 12);
  CHECK(whole.items[0].choices.size() == 4);
  CHECK(whole.items[2].choices.size() == 3);
  const mapping::MemoryTable memory = small_memory();
  const auto loss_of = [&](int layer, int expert, Format f, Projection p) {
    for (const auto& r : rows)
      if (r.layer == layer && r.expert == expert && r.format == f && r.projection == p) return r.loss;
    return -1.0;
  };
  for (const mapping::Problem* problem : {&apart, &paired, &whole})
    for (const mapping::Item& item : problem->items)
      for (std::size_t c = 0; c < item.choices.size(); ++c) {
        const mapping::Choice& choice = item.choices[c];
        const ExpertFormats& f = choice.format;
        if (problem != &apart) CHECK(f.is_paired());
        if (problem == &whole) CHECK(f.is_one());
        const double g = loss_of(item.layer, item.expert, f.gate, Projection::kGate),
                     u = loss_of(item.layer, item.expert, f.up, Projection::kUp),
                     d = loss_of(item.layer, item.expert, f.down, Projection::kDown);
        CHECK(choice.real_loss == g + u + d);
        CHECK(choice.loss == mapping::scaled_loss(g, problem->loss_exponent) +
                                 mapping::scaled_loss(u, problem->loss_exponent) +
                                 mapping::scaled_loss(d, problem->loss_exponent));
        CHECK(choice.use[0] == numerics::ExpertLayout(f, 32, 48, 16, kLayout).total_bytes());
      }
  // One format for all is one object, with its bytes.
  CHECK(memory.bytes({Format::integer(3), Format::integer(3), Format::integer(3)}) == memory.bytes(Format::integer(3)));

  const auto refused = [&](std::vector<workloads::SensitivityRow> wrong, mapping::Together together,
                           const std::string& what) {
    CHECK_THROWS_WITH(projection_problem(wrong, together), Catch::Contains(what));
  };
  auto wrong = rows;
  wrong.erase(std::remove_if(wrong.begin(), wrong.end(),
                             [](const auto& r) { return r.layer == 1 && r.projection == Projection::kUp; }),
              wrong.end());
  refused(wrong, mapping::Together::kNone, "t.csv: layer 1, expert 0: got no row of up, expected at least one");
  wrong = rows;
  wrong.back().weight = 0.25;
  refused(wrong, mapping::Together::kNone, "rows that differ in frequency or weight");
  wrong.clear();
  for (const auto& r : rows)
    if (r.format == (r.projection == Projection::kGate ? Format::integer(2) : Format::integer(8))) wrong.push_back(r);
  refused(wrong, mapping::Together::kGateUp, "rows of gate, up and down in no format together");
  CHECK_NOTHROW(projection_problem(wrong, mapping::Together::kNone));
}

TEST_CASE("formats for every matrix never lose more than formats for whole experts in the same bytes",
          "[unit][mapping]") {
  base::Rng rng(5);
  bool better = false, between = false;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    auto rows = projection_table(seed, {Format::integer(2), Format::integer(4), Format::binary()});
    mapping::Problem apart = projection_problem(rows, mapping::Together::kNone),
                     paired = projection_problem(rows, mapping::Together::kGateUp),
                     whole = projection_problem(rows, mapping::Together::kAll);
    const std::int64_t memory = 4 * small_memory().bytes(Format::integer(2)) + rng.range(0, 3000);
    for (const bool latency : {false, true}) {
      CAPTURE(seed, latency, memory);
      std::vector<std::int64_t> losses;
      for (mapping::Problem* problem : {&apart, &paired, &whole}) {
        problem->budgets = {{0, false, memory, "--memory-budget"}};
        if (latency)
          problem->budgets.push_back({1, false, 1000 + 20 * static_cast<std::int64_t>(seed), "--latency-budget"});
        const mapping::Allocation a = mapping::allocate_optimal(*problem, {});
        losses.push_back(mapping::totals(*problem, a.assignment).loss);
        // Against every assignment where there are few, against CBC where there is one.
        if (problem != &apart) CHECK(losses.back() == least_loss(*problem));
        if (mapping::has_cbc())
          CHECK(mapping::totals(*problem, mapping::allocate_cbc(*problem, {}).assignment).loss == losses.back());
      }
      CHECK(losses[0] <= losses[1]);
      CHECK(losses[1] <= losses[2]);
      better = better || losses[0] < losses[1];
      between = between || losses[1] < losses[2];
    }
  }
  CHECK(better);
  CHECK(between);
}

TEST_CASE("every allocator takes losses of gate, up and down, and none is below the optimum", "[unit][mapping]") {
  std::vector<workloads::SensitivityRow> rows;
  base::Rng rng(9);
  for (int layer = 1; layer < 3; ++layer)
    for (int expert = 0; expert < 2; ++expert)
      for (const Projection p : {Projection::kGate, Projection::kUp, Projection::kDown}) {
        const double scale = std::exp(2 * rng.normal());
        rows.push_back({layer, expert, Format::binary(), scale, 0.5, 0.5, p});
        for (const int bits : {2, 3, 4, 8})
          rows.push_back({layer, expert, Format::integer(bits), scale * std::pow(4, -bits), 0.5, 0.5, p});
      }
  base::Registry<mapping::Allocator> all;
  mapping::add_builtin_allocators(all);
  for (const mapping::Together together : {mapping::Together::kNone, mapping::Together::kGateUp}) {
    mapping::Problem problem = projection_problem(rows, together);
    problem.budgets = {{0, false, 4 * small_memory().bytes(Format::integer(3)), "--memory-budget"}};
    const std::int64_t best = mapping::totals(problem, mapping::allocate_optimal(problem, {}).assignment).loss;
    std::map<std::string, int> mixed;
    for (const std::string& name : all.names()) {
      CAPTURE(name);
      if (name == "cbc" && !mapping::has_cbc()) continue;
      const mapping::Allocation a = all.at(name, "", "").allocate(problem, {});
      const mapping::Totals sum = mapping::totals(problem, a.assignment);
      CHECK(sum.loss >= best);
      CHECK(sum.use[0] <= problem.budgets[0].value);
      for (std::size_t i = 0; i < problem.items.size(); ++i) {
        const ExpertFormats& f = problem.items[i].choices[static_cast<std::size_t>(a.assignment[i])].format;
        mixed[name] += !f.is_one();
        if (together == mapping::Together::kGateUp) CHECK(f.is_paired());
        if (name == "hawq")
          for (const Format one : {f.gate, f.up, f.down})
            CHECK((one.bits() == 2 || one.bits() == 4 || one.bits() == 8));
      }
    }
    for (const char* name : {"optimal", "baq", "hawq", "greedy"}) CHECK(mixed[name] > 0);
    for (const char* name : {"uniform", "frequency", "pmq"}) CHECK(mixed[name] == 0);  // methods for whole experts
  }
}

TEST_CASE("the checker adds up rows of gate, up and down, and refuses formats that are tied apart", "[unit][mapping]") {
  const auto rows = projection_table(4, kFew);
  mapping::Problem problem = projection_problem(rows, mapping::Together::kGateUp);
  problem.budgets = {{0, false, 4 * small_memory().bytes(Format::integer(3)), "--memory-budget"},
                     {1, false, 1 << 20, "--latency-budget"}};
  const mapping::Allocation allocation = mapping::allocate_optimal(problem, {});
  const mapping::Totals sum = mapping::totals(problem, allocation.assignment);
  workloads::Plan plan;
  plan.memory_bytes = sum.use[0];
  plan.loss = sum.real_loss;
  for (std::size_t i = 0; i < 4; ++i)
    plan.experts.push_back({problem.items[i].layer, problem.items[i].expert,
                            problem.items[i].choices[static_cast<std::size_t>(allocation.assignment[i])].format, 0});
  const mapping::MemoryTable memory = small_memory();
  mapping::Claim claim;
  claim.loss = sum.loss;
  claim.loss_exponent = problem.loss_exponent;
  claim.bytes = sum.use[0];
  claim.bytes_of = [&](const ExpertFormats& f) { return memory.bytes(f); };
  claim.gate_with_up = true;
  for (const mapping::Budget& b : problem.budgets) {
    const auto r = static_cast<std::size_t>(b.resource);
    claim.budgets.push_back({problem.resources[r].name, false, b.value, problem.resources[r].use, sum.use[r]});
  }
  REQUIRE(allocation.certificate);
  claim.certificate = mapping::Claim::Certificate{allocation.certificate->num, allocation.certificate->den,
                                                  allocation.certificate->bound};
  CHECK_NOTHROW(mapping::check_claim(plan, claim, rows));
  auto wrong = claim;
  wrong.loss += 1;
  CHECK_THROWS_WITH(mapping::check_claim(plan, wrong, rows), Catch::Contains("plan check: scaled loss"));
  wrong = claim;
  wrong.certificate->bound += 1;
  CHECK_THROWS_WITH(mapping::check_claim(plan, wrong, rows), Catch::Contains("plan check: relaxed bound"));
  auto other = plan;
  other.experts[0].format.up =
      other.experts[0].format.gate == Format::integer(2) ? Format::integer(3) : Format::integer(2);
  CHECK_THROWS_WITH(mapping::check_claim(other, claim, rows),
                    Catch::Contains("layer 1, expert 0: 0 formats of the table chosen"));
  wrong = claim;
  wrong.all_together = true;
  CHECK_THROWS(mapping::check_claim(plan, wrong, rows));
}

TEST_CASE("ties, fixed experts and counts bind every allocator", "[unit][mapping]") {
  base::Rng rng(4);
  std::vector<workloads::SensitivityRow> rows;
  for (int layer = 0; layer < 3; ++layer)
    for (int expert = 0; expert < 6; ++expert) {
      const double scale = std::exp(2 * rng.normal()), frequency = rng.uniform(), weight = rng.uniform();
      rows.push_back({layer, expert, Format::binary(), 0.6 * scale, frequency, weight});
      for (const int bits : {2, 3, 4, 8})
        rows.push_back({layer, expert, Format::integer(bits), scale * std::pow(4, -bits), frequency, weight});
    }
  mapping::Resource bits{"bits", "bits", 1,
                         [](int, int, const ExpertFormats& f) { return std::int64_t{f.gate.bits()}; }};
  mapping::Resource cycles{"latency", "cycles", 1, [](int l, int e, const ExpertFormats& f) {
                             return std::int64_t{(1 + l + e) * (3 + f.gate.bits())};
                           }};
  mapping::Problem problem = mapping::make_problem(rows, "t.csv", mapping::network_of(rows, "t.csv"), {bits, cycles});
  problem.budgets = {{0, false, 52, "--bits-budget"}, {1, true, 190, "--latency-budget"}};
  problem.at_least = {{1, Format::integer(3), -1}, {1, Format::integer(2), -1}};
  const std::int64_t best = mapping::totals(problem, mapping::allocate_optimal(problem, {}).assignment).loss;
  base::Registry<mapping::Allocator> all;
  mapping::add_builtin_allocators(all);
  int plans = 0;
  for (const std::string& name : all.names()) {
    CAPTURE(name);
    if (name == "cbc" && !mapping::has_cbc()) continue;
    mapping::Allocation a;
    try {
      a = all.at(name, "", "").allocate(problem, {});
    } catch (const base::InputError& error) {
      CHECK_THAT(error.what(), Catch::Contains("--allocator: got " + name));
      continue;
    }
    ++plans;
    const mapping::Totals sum = mapping::totals(problem, a.assignment);
    CHECK(sum.loss >= best);
    if (name == "cbc") CHECK(sum.loss == best);
    CHECK(sum.use[0] <= 52);
    for (const std::int64_t use : mapping::layer_use(problem, a.assignment, 1)) CHECK(use <= 190);
    for (int layer = 0; layer < 3; ++layer)
      for (const int width : {2, 3}) {
        int count = 0;
        for (std::size_t i = 0; i < problem.items.size(); ++i)
          count += problem.items[i].layer == layer &&
                   problem.items[i].choices[static_cast<std::size_t>(a.assignment[i])].format == Format::integer(width);
        CHECK(count >= 1);
      }
  }
  CHECK(plans >= 5);
  problem.tied = {{0, 7, 13}};
  const mapping::Allocation tied = mapping::allocate_optimal(problem, {});
  CHECK(tied.assignment[0] == tied.assignment[7]);
  CHECK(tied.assignment[0] == tied.assignment[13]);
  CHECK(mapping::totals(problem, tied.assignment).loss >= best);
  if (mapping::has_cbc())
    CHECK(mapping::totals(problem, mapping::allocate_cbc(problem, {}).assignment).loss ==
          mapping::totals(problem, tied.assignment).loss);
}

TEST_CASE("an infeasible problem names the budget, the least value that would do, and what it would lose",
          "[unit][mapping]") {
  const auto rows = small_table();
  mapping::Problem problem = small_problem(rows);
  problem.budgets = {{0, false, 1 << 20, "--memory-budget"}, {1, false, 100, "--latency-budget"}};
  std::string text;
  try {
    mapping::allocate_optimal(problem, {});
  } catch (const base::InputError& error) {
    text = error.what();
  }
  CHECK_THAT(text, Catch::Contains("moesaic map: --latency-budget: got 100 cycles, expected at least ") &&
                       Catch::Contains("the least that the other budgets allow, where the loss is "));
  // The least that it names is enough, and one less is not.
  std::int64_t least = 0;
  REQUIRE(std::sscanf(text.c_str() + text.find("at least "), "at least %ld", &least) == 1);
  problem.budgets[1].value = least;
  CHECK_NOTHROW(mapping::allocate_optimal(problem, {}));
  problem.budgets[1].value = least - 1;
  CHECK_THROWS(mapping::allocate_optimal(problem, {}));
  problem.budgets[1] = {1, true, 100, "--latency-budget"};
  try {
    mapping::allocate_optimal(problem, {});
  } catch (const base::InputError& error) {
    text = error.what();
  }
  REQUIRE(std::sscanf(text.c_str() + text.find("at least "), "at least %ld", &least) == 1);
  problem.budgets[1].value = least;
  CHECK_NOTHROW(mapping::allocate_optimal(problem, {}));
  problem.budgets[1].value = least - 1;
  CHECK_THROWS(mapping::allocate_optimal(problem, {}));
  problem.budgets = {{0, false, 10, "--memory-budget"}, {1, false, 10, "--latency-budget"}};
  CHECK_THROWS_WITH(mapping::allocate_optimal(problem, {}), Catch::Contains("--memory-budget: got 10 bytes") &&
                                                                Catch::Contains("even without the other budgets"));
  problem.budgets = {{0, false, 1 << 20, "--memory-budget"}};
  problem.at_least = {{3, Format::integer(2), -1}};
  CHECK_THROWS_WITH(mapping::allocate_optimal(problem, {}), Catch::Contains("constraints that no plan meets"));
}

TEST_CASE("one budget over the model is never worse than the same bits in every layer", "[unit][mapping]") {
  base::Rng rng(6);
  std::vector<workloads::SensitivityRow> rows;
  for (int layer = 0; layer < 6; ++layer)
    for (int expert = 0; expert < 8; ++expert) {
      const double scale = std::exp(layer + 2 * rng.normal()), frequency = rng.uniform(), weight = rng.uniform();
      rows.push_back({layer, expert, Format::binary(), scale, frequency, weight});
      rows.push_back({layer, expert, Format::integer(2), scale * (0.3 + 0.2 * rng.uniform()), frequency, weight});
      rows.push_back({layer, expert, Format::integer(3), scale * 0.1, frequency, weight});
    }
  rows = mapping::with_significance(rows, "t.csv");
  mapping::Problem problem = mapping::make_problem(
      rows, "t.csv", mapping::network_of(rows, "t.csv"),
      {{"bits", "bits", 1, [](int, int, const ExpertFormats& f) { return std::int64_t{f.gate.bits()}; }}});
  problem.significance = true;
  bool better = false;
  for (std::int64_t bits = 12; bits <= 20; ++bits) {
    problem.budgets = {{0, true, bits, "--bits-budget"}};
    const mapping::Allocation pmq = mapping::allocate_pmq(problem, {});
    const mapping::Totals layered = mapping::totals(problem, pmq.assignment);
    for (const std::int64_t use : mapping::layer_use(problem, pmq.assignment, 0)) CHECK(use <= bits);
    // The same program by our own search.
    mapping::Problem stated = problem;
    stated.at_least = {{1, Format::integer(3), -1}, {1, Format::integer(2), -1}};
    CHECK(mapping::totals(stated, mapping::allocate_optimal(stated, {}).assignment).loss == layered.loss);
    problem.budgets = {{0, false, 6 * bits, "--bits-budget"}};
    const mapping::Totals global = mapping::totals(problem, mapping::allocate_optimal(problem, {}).assignment);
    CHECK(global.use[0] <= 6 * bits);
    CHECK(global.loss <= layered.loss);
    better = better || global.loss < layered.loss;
  }
  CHECK(better);
}

TEST_CASE("baq follows its closed form where the table does", "[unit][mapping]") {
  // Losses c * 4^-b with c = 4^k: the real widths are mean + k - mean of k, whole numbers.
  std::vector<workloads::SensitivityRow> rows;
  for (int expert = 0; expert < 4; ++expert)
    for (int bits = 1; bits <= 8; ++bits)
      rows.push_back({0, expert, Format::integer(bits), std::pow(4.0, expert - bits), 0.25, 0.25});
  mapping::Problem problem = mapping::make_problem(
      rows, "t.csv", mapping::network_of(rows, "t.csv"),
      {{"bits", "bits", 1, [](int, int, const ExpertFormats& f) { return std::int64_t{f.gate.bits()}; }}});
  problem.budgets = {{0, false, 14, "--bits-budget"}};
  const mapping::Allocation a = mapping::allocate_baq(problem, {});
  for (std::size_t e = 0; e < 4; ++e)
    CHECK(problem.items[e].choices[static_cast<std::size_t>(a.assignment[e])].format.gate.bits() ==
          static_cast<int>(2 + e));
  CHECK(a.assignment == mapping::allocate_optimal(problem, {}).assignment);
}

TEST_CASE("frequency gives a layer's most chosen experts the wider width", "[unit][mapping]") {
  std::vector<workloads::SensitivityRow> rows;
  for (int expert = 0; expert < 4; ++expert)
    for (const int bits : {2, 4}) rows.push_back({0, expert, Format::integer(bits), 1.0 / bits, 0.1 * (expert % 3), 1});
  mapping::Problem problem = mapping::make_problem(
      rows, "t.csv", mapping::network_of(rows, "t.csv"),
      {{"bits", "bits", 1, [](int, int, const ExpertFormats& f) { return std::int64_t{f.gate.bits()}; }}});
  problem.budgets = {{0, false, 12, "--bits-budget"}};
  const mapping::Allocation a = mapping::allocate_frequency(problem, {});
  CHECK(a.assignment == std::vector<int>{0, 1, 1, 0});  // frequencies 0, 0.1, 0.2, 0
}

TEST_CASE("hawq keeps to 2, 4 and 8 bits, and is exact among them", "[unit][mapping]") {
  base::Rng rng(8);
  std::vector<workloads::SensitivityRow> rows, few;
  for (int expert = 0; expert < 12; ++expert)
    for (int bits = 2; bits <= 8; ++bits) {
      rows.push_back({0, expert, Format::integer(bits), rng.uniform() * std::pow(4.0, -bits), 1, 1});
      if (bits == 2 || bits == 4 || bits == 8) few.push_back(rows.back());
    }
  const mapping::Resource bits{"bits", "bits", 1,
                               [](int, int, const ExpertFormats& f) { return std::int64_t{f.gate.bits()}; }};
  mapping::Problem problem = mapping::make_problem(rows, "t.csv", mapping::network_of(rows, "t.csv"), {bits});
  mapping::Problem restricted = mapping::make_problem(few, "t.csv", mapping::network_of(few, "t.csv"), {bits});
  problem.budgets = restricted.budgets = {{0, false, 50, "--bits-budget"}};
  const mapping::Allocation hawq = mapping::allocate_hawq(problem, {});
  const mapping::Allocation exact = mapping::allocate_optimal(restricted, {});
  for (std::size_t e = 0; e < 12; ++e)
    CHECK(problem.items[e].choices[static_cast<std::size_t>(hawq.assignment[e])].format ==
          restricted.items[e].choices[static_cast<std::size_t>(exact.assignment[e])].format);
}

TEST_CASE("a cost table reads what it holds and says where it is wrong", "[unit][mapping]") {
  const std::string head = "layer,expert,format,cycles,size\n";
  const auto table = workloads::CostTable::parse(head + "0,1,int4,100,7\n0,1,binary,30,2\n", "c.csv");
  CHECK(table.columns() == std::vector<std::string>{"cycles", "size"});
  CHECK(table.at("cycles", 0, 1, Format::integer(4)) == 100);
  CHECK(table.at("size", 0, 1, Format::binary()) == 2);
  CHECK_THROWS_WITH(
      table.at("cycles", 0, 0, Format::integer(4)),
      "c.csv: layer 0, expert 0: got no row for int4, expected one for every row of the sensitivity table");
  CHECK_THROWS_WITH(table.at("bops", 0, 1, Format::integer(4)), Catch::Contains("c.csv: header: got no column bops"));
  const auto refused = [&](const std::string& text, const std::string& what) {
    CHECK_THROWS_WITH(workloads::CostTable::parse(text, "c.csv"), Catch::Contains(what));
  };
  refused("", "c.csv: rows: got none");
  refused(head, "c.csv: rows: got none");
  refused("layer,expert,format\n", "c.csv:1: header: got 'layer,expert,format'");
  refused("layer,expert,format,cyclesize\n", "c.csv:1: header");
  refused("# moesaic profile 2\n", "and further columns; map reads a latency table by --profile");
  refused("layer,expert,format,cycles,Size\n", "c.csv:1: header: got column 'Size'");
  refused("layer,expert,format,cycles,cycles\n", "c.csv:1: header: got column 'cycles'");
  refused(head + "0,0,int4,1\n", "c.csv:2: row: got 4 fields, expected 5");
  refused(head + "0,0,int9,1,1\n", "c.csv:2: format: got");
  refused(head + "0,0,int4,-1,1\n", "c.csv:2: cycles: got '-1'");
  refused(head + "0,0,int4,1.5,1\n", "c.csv:2: cycles: got '1.5'");
  refused(head + "0,0,int4,nan,1\n", "c.csv:2: cycles: got 'nan'");
  refused(head + "0,0,int4,1,1\n0,0,int4,1,1\n", "c.csv:3: row: got layer 0, expert 0, int4 a second time");
}

TEST_CASE("a sensitivity table reads back as it was written and says where it is wrong", "[unit][mapping]") {
  const auto rows = small_table();
  const std::string text = workloads::format_sensitivity(rows);
  const auto back = workloads::parse_sensitivity(text, "t.csv").rows;
  REQUIRE(back.size() == rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(back[i].loss == rows[i].loss);
    CHECK(back[i].format == rows[i].format);
  }
  const std::string head = "layer,expert,format,bits,loss,frequency,weight\n";
  const auto refused = [&](const std::string& body, const std::string& what) {
    CHECK_THROWS_WITH(workloads::parse_sensitivity(body, "t.csv"), Catch::Contains(what));
  };
  refused("", "t.csv: rows: got none");
  refused(head, "t.csv: rows: got none");
  refused("layer,expert\n0,0\n", "t.csv:1: header: got 'layer,expert'");
  refused(head + "0,0,int,4,0.5,1\n", "t.csv:2: row: got 6 fields, expected 7");
  refused(head + "0,0,itn,4,0.5,1,1\n", "t.csv:2: format: got");
  refused(head + "0,0,int,9,0.5,1,1\n", "t.csv:2: bits: got");
  refused(head + "0,0,int,,0.5,1,1\n", "t.csv:2: bits: got");
  refused(head + "0,0,int,4,-0.5,1,1\n", "t.csv:2: loss: got '-0.5', expected a finite number of at least 0");
  refused(head + "0,0,int,4,nan,1,1\n", "t.csv:2: loss: got 'nan'");
  refused(head + "0,0,int,4,inf,1,1\n", "t.csv:2: loss: got 'inf'");
  refused(head + "0,0,int,4,1e999,1,1\n", "t.csv:2: loss: got '1e999'");
  refused(head + "0,0,int,4,1,x,1\n", "t.csv:2: frequency: got 'x'");
  refused(head + "-1,0,int,4,1,1,1\n", "t.csv:2: layer: got '-1'");
  refused(head + "0,1.5,int,4,1,1,1\n", "t.csv:2: expert: got '1.5'");
  refused(head + "0,0,int,4,1,1,1\n\n0,0,int,5,1,1,1\n", "t.csv:3: row: got 1 fields");
  refused(head + "0,0,int,4,1,1,1\n0,0,int,5,1,1,1\n0,0,int,4,2,1,1\n",
          "t.csv:4: row: got layer 0, expert 0, int4 a second time");
  // As many bits, but another format.
  refused(head + "0,0,mwq1+2,3,1,1,1\n0,0,mwq2+1,3,1,1,1\n0,0,mwq2+1of2,3,1,1,1\n0,0,mwq2+1,3,1,1,1\n",
          "t.csv:5: row: got layer 0, expert 0, mwq2+1 a second time");
  refused(head + "0,0,mwq2+1,2,1,1,1\n", "t.csv:2: bits: got '2', expected 3 for mwq2+1");
}

TEST_CASE("a sensitivity table says whose integers it measured, or says nothing", "[unit][mapping]") {
  const auto rows = small_table();
  CHECK_FALSE(workloads::parse_sensitivity(workloads::format_sensitivity(rows), "t.csv").quantiser);

  workloads::SensitivityTable table;
  table.rows = rows;
  table.quantiser = workloads::Quantiser();
  const auto rounded = workloads::parse_sensitivity(workloads::format_sensitivity(table, "t.csv"), "t.csv");
  REQUIRE(rounded.quantiser);
  CHECK(*rounded.quantiser == workloads::Quantiser());
  CHECK(rounded.rows.size() == rows.size());

  workloads::Quantiser gptq;
  gptq.kind = workloads::QuantiserKind::kGptq;
  gptq.tokens = "texts/a b.bin";
  gptq.tokens_hash = std::string(64, 'a');
  gptq.window = 128;
  gptq.damping = 0.05;
  gptq.minimum_tokens = 7;
  table.quantiser = gptq;
  const std::string text = workloads::format_sensitivity(table, "tables/t.csv");
  CHECK_THAT(text, Catch::StartsWith("# quantiser: gptq\n# tokens: ../texts/a b.bin\n# tokens_hash: aaaa"));
  const auto back = workloads::parse_sensitivity(text, "tables/t.csv");
  REQUIRE(back.quantiser);
  CHECK(*back.quantiser == gptq);
  CHECK(back.quantiser->tokens == "tables/../texts/a b.bin");
  CHECK_FALSE(back.record);
  CHECK(workloads::format_sensitivity(back, "tables/t.csv") == text);

  const auto changed = [&](const std::string& from, const std::string& to, const std::string& what) {
    std::string wrong = text;
    REQUIRE(wrong.find(from) != std::string::npos);
    wrong.replace(wrong.find(from), from.size(), to);
    CHECK_THROWS_WITH(workloads::parse_sensitivity(wrong, "t.csv"), Catch::Contains(what));
  };
  changed("gptq", "gtpq", "t.csv:1: quantiser: got 'gtpq', expected rtn or gptq");
  changed("# quantiser: gptq\n", "", "t.csv:1: header: got '# tokens: ");
  changed("# window: 128\n", "", "t.csv:4: header: got '# damping: 0.05', expected '# window: ...'");
  changed("window: 128", "window: 0", "t.csv:4: window: got '0', expected a whole number from 1");
  changed("damping: 0.05", "damping: nan", "t.csv:5: damping: got 'nan'");
  changed("damping: 0.05", "damping: 0", "t.csv:5: damping: got '0'");
  changed("minimum_tokens: 7", "minimum_tokens: 7x", "t.csv:6: minimum_tokens: got '7x'");
  changed(std::string(64, 'a'), std::string(63, 'a'), "t.csv:3: tokens_hash: got '");
  changed("../texts/a b.bin", "", "t.csv:2: tokens: got ''");
  changed("minimum_tokens: 7\n", "minimum_tokens: 7\n# more: 1\n", "t.csv:7: header: got '# more: 1'");
}

TEST_CASE("a sensitivity table says what it was measured at, and holds several losses", "[unit][mapping]") {
  workloads::SensitivityTable table;
  table.rows = small_table();
  for (std::size_t i = 0; i < table.rows.size(); ++i)
    table.rows[i].other_losses = {0.5 * static_cast<double>(i), 3 + static_cast<double>(i)};
  table.quantiser = workloads::Quantiser();
  table.other_losses = {"loss_fisher", "loss_error"};
  using workloads::LossKind;
  table.record = workloads::SensitivityRecord{std::string(64, 'c'),
                                              128,
                                              4,
                                              std::string(64, 'd'),
                                              256,
                                              5,
                                              {LossKind::kDivergence, LossKind::kFisher, LossKind::kError},
                                              32,
                                              0};
  CHECK(workloads::other_loss_columns(table.record->losses) == table.other_losses);
  const std::string text = workloads::format_sensitivity(table, "t.csv");
  CHECK_THAT(text, Catch::StartsWith("# quantiser: rtn\n# checkpoint: " + std::string(64, 'c') +
                                     "\n# group_size: 128\n# act_bits: 4\n# text_hash: " + std::string(64, 'd') +
                                     "\n# text_window: 256\n# text_minimum_tokens: 5\n# loss: "
                                     "divergence,fisher,error\n# loss_windows: 32\nlayer,expert,format,bits,loss,"
                                     "frequency,weight,loss_fisher,loss_error\n"));
  workloads::SensitivityTable back = workloads::parse_sensitivity(text, "t.csv");
  REQUIRE(back.record);
  CHECK(*back.record == *table.record);
  CHECK(back.record->where("t.csv", "checkpoint") == "t.csv:2");
  CHECK(back.record->where("t.csv", "loss_windows") == "t.csv:9");
  CHECK(back.other_losses == table.other_losses);
  CHECK(workloads::format_sensitivity(back, "t.csv") == text);

  workloads::use_loss_column(back, "loss", "t.csv", "map", "--loss-column");
  CHECK(back.rows[3].loss == table.rows[3].loss);
  workloads::use_loss_column(back, "loss_error", "t.csv", "map", "--loss-column");
  for (std::size_t i = 0; i < back.rows.size(); ++i) CHECK(back.rows[i].loss == 3 + static_cast<double>(i));
  CHECK_THROWS_WITH(workloads::use_loss_column(back, "fisher", "t.csv", "map", "--loss-column"),
                    "map: --loss-column: got 'fisher', expected a column of losses of t.csv: loss, loss_fisher, "
                    "loss_error");

  const auto changed = [&](const std::string& from, const std::string& to, const std::string& what) {
    std::string wrong = text;
    REQUIRE(wrong.find(from) != std::string::npos);
    wrong.replace(wrong.find(from), from.size(), to);
    CAPTURE(from, to);
    CHECK_THROWS_WITH(workloads::parse_sensitivity(wrong, "t.csv"), Catch::Contains(what));
  };
  changed("# quantiser: rtn\n", "", "t.csv:1: header: got '# checkpoint: ");
  changed("# act_bits: 4\n", "", "t.csv:4: header: got '# text_hash: ");
  changed(std::string(64, 'c'), "c", "t.csv:2: checkpoint: got 'c', expected 64 lower-case hexadecimal digits");
  changed("group_size: 128", "group_size: 12", "t.csv:3: group_size: got '12', expected a multiple of 8");
  changed("group_size: 128", "group_size: 0", "t.csv:3: group_size: got '0'");
  changed("act_bits: 4", "act_bits: 5", "t.csv:4: act_bits: got '5', expected 4, 8 or 16");
  changed("text_window: 256", "text_window: 1", "t.csv:6: text_window: got '1'");
  changed("divergence,fisher,error", "divergence,hessian,error", "t.csv:8: loss: got 'divergence,hessian,error'");
  changed("divergence,fisher,error", "divergence,divergence,error", "t.csv:8: loss: got");
  changed("divergence,fisher,error", "divergence,error,fisher",
          "t.csv:10: header: got 'layer,expert,format,bits,loss,frequency,weight,loss_fisher,loss_error', expected the "
          "columns of losses that line 8 names");
  changed("loss_windows: 32", "loss_windows: 32\n# more: 1", "t.csv:10: header: got '# more: 1'");
  changed("weight,loss_fisher", "weight,fisher", "t.csv:10: header: got");
  changed("weight,loss_fisher", "weight,loss_error", "t.csv:10: header: got");
  changed("weight,loss_fisher", "weight,loss_fisher,projection", "t.csv:10: header: got");
  changed(",3\n", ",nan\n", "t.csv:11: loss_error: got 'nan'");
  changed(",3\n", "\n", "t.csv:11: row: got 8 fields, expected 9");

  // Columns of a table that says nothing of itself may be anyone's.
  const auto own = workloads::parse_sensitivity(
      "layer,expert,format,bits,loss,frequency,weight,projection,loss_mine\n0,0,int,4,0.5,1,1,up,0.25\n", "t.csv");
  CHECK(own.other_losses == std::vector<std::string>{"loss_mine"});
  CHECK(own.rows[0].projection == workloads::Projection::kUp);
  CHECK(own.rows[0].other_losses == std::vector<double>{0.25});
}

TEST_CASE("format lists take ranges and families", "[unit][mapping]") {
  const auto parse = [](const std::string& text) { return workloads::parse_formats(text, "calibrate", "--formats"); };
  CHECK(parse("int1..int8,binary,nested").size() == 17);
  CHECK(parse("nested") == parse("nested1..nested8"));
  CHECK(parse("ternary,int3") == std::vector<Format>{Format::ternary(), Format::integer(3)});
  CHECK(parse("mwq2+0of2..mwq2+2") ==
        std::vector<Format>{Format::mwq(2, 2, 0), Format::mwq(2, 2, 1), Format::mwq(2, 2, 2)});
  for (const char* bad :
       {"", "mwq2+0of2..mwq3+2", "mwq2+1..mwq2+2", "mwq2+2..mwq2+1of2", "int9", "itn4", "int4..int2", "int4..nested6",
        "binary..ternary", "int3,int3", "int1..int4,int2", "int4,", "int2...int4", "INT4"})
    CHECK_THROWS_WITH(parse(bad), Catch::Contains("calibrate: --formats: got"));
}
