// The mapper: exact minimum against brute force and against plain dynamic programming, allocators, checker, tables.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"
#include "mapping/allocators.h"
#include "mapping/checker.h"
#include "mapping/multiple_choice.h"
#include "mapping/problem.h"

using namespace moesaic;
using mapping::MultipleChoice;
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

/// Every combination in lexicographic order; keeps the first of the best by (cost, weight).
void brute_force(const MultipleChoice& p, std::vector<int>& choice, std::int64_t cost, std::int64_t weight,
                 Best& best) {
  if (choice.size() == p.classes.size()) {
    if (weight <= p.capacity && (!best.found || cost < best.cost || (cost == best.cost && weight < best.weight)))
      best = {true, cost, weight, choice};
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
    REQUIRE(solution->relaxed_bound <= best.cost);
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
  const mapping::MemoryTable memory(small_network(), 16, kLayout);
  CHECK(memory.bytes(Format::integer(3)) ==
        numerics::stored_layout(Format::integer(3), numerics::expert_shapes(32, 48, 16), kLayout).total_bytes());
  const auto rows = small_table();
  const mapping::Problem problem = mapping::make_problem(rows, "t.csv", small_network(), memory);
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
      CHECK(item.choices[c].loss == std::llround(std::ldexp(rows[4 * i + c].loss, problem.loss_exponent)));
      most = std::max(most, item.choices[c].loss);
    }
    greatest += most;
  }
  CHECK(greatest <= std::int64_t{1} << 50);
  CHECK(greatest >= std::int64_t{1} << 48);
  CHECK(problem.least_bytes() == 4 * memory.bytes(Format::binary()));
}

TEST_CASE("a table that does not fit the network is refused", "[unit][mapping]") {
  const mapping::MemoryTable memory(small_network(), 16, kLayout);
  const auto make = [&](const std::vector<workloads::SensitivityRow>& rows) {
    return mapping::make_problem(rows, "t.csv", small_network(), memory);
  };
  auto rows = small_table();
  rows.resize(12);
  CHECK_THROWS_WITH(make(rows), "t.csv: layer 2, expert 1: got no row, expected at least one");
  rows = small_table();
  rows[0].layer = 0;
  CHECK_THROWS_WITH(make(rows), Catch::Contains("t.csv: layer: got 0, expected a layer of small that has experts"));
  rows[0].layer = 3;
  CHECK_THROWS_WITH(make(rows), Catch::Contains("t.csv: layer: got 3"));
  rows[0].layer = 1;
  rows[0].expert = 2;
  CHECK_THROWS_WITH(make(rows), Catch::Contains("t.csv: expert: got 2 in layer 1, expected 0 to 1"));
}

TEST_CASE("budgets are bytes, binary multiples of them, or average bits", "[unit][mapping]") {
  const mapping::MemoryTable memory(small_network(), 16, kLayout);
  const auto parse = [&](const std::string& text) {
    return mapping::parse_budget(text, memory, 4, "map", "--memory-budget");
  };
  CHECK(parse("123456") == 123456);
  CHECK(parse("0") == 0);
  CHECK(parse("96KiB") == 96 * 1024);
  CHECK(parse("1.5MiB") == 3 * 512 * 1024);
  CHECK(parse("2GiB") == std::int64_t{1} << 31);
  CHECK(parse("2.5bits") == 2 * memory.bytes(Format::integer(2)) + 2 * memory.bytes(Format::integer(3)));
  CHECK(parse("8bits") == 4 * memory.bytes(Format::integer(8)));
  for (const char* bad : {"", "12.5", "-1", "1e6", "5kB", "5MB", "5 KiB", "0.5bits", "9bits", "nan", "inf", "bits",
                          "99999999999GiB", "2.5bit"})
    CHECK_THROWS_WITH(parse(bad),
                      Catch::Contains(std::string("map: --memory-budget: got '") + bad + "', expected bytes"));
}

TEST_CASE("allocators keep the budget; random ones fill it and repeat with their seed", "[unit][mapping]") {
  const mapping::MemoryTable memory(small_network(), 16, kLayout);
  const mapping::Problem problem = mapping::make_problem(small_table(), "t.csv", small_network(), memory);
  const std::int64_t budget = mapping::parse_budget("2.5bits", memory, 4, "", "");
  const auto optimal = mapping::allocate_optimal(problem, budget);
  const mapping::Totals best = mapping::totals(problem, optimal.assignment);
  CHECK(best.bytes <= budget);
  bool differ = false;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    const auto random = mapping::allocate_random(problem, budget, seed);
    CHECK(random.assignment == mapping::allocate_random(problem, budget, seed).assignment);
    differ = differ || random.assignment != mapping::allocate_random(problem, budget, seed + 1).assignment;
    const mapping::Totals sum = mapping::totals(problem, random.assignment);
    CHECK(sum.bytes <= budget);
    CHECK(sum.loss >= best.loss);
    for (std::size_t i = 0; i < problem.items.size(); ++i) {
      const auto& choices = problem.items[i].choices;
      const std::int64_t own = choices[static_cast<std::size_t>(random.assignment[i])].bytes;
      std::int64_t next = std::numeric_limits<std::int64_t>::max() / 2;
      for (const auto& c : choices)
        if (c.bytes > own) next = std::min(next, c.bytes);
      CHECK(sum.bytes - own + next > budget);
    }
  }
  CHECK(differ);
  for (const int choice : mapping::allocate_uniform(problem, budget).assignment)
    CHECK(problem.items[0].choices[static_cast<std::size_t>(choice)].format == Format::integer(2));
  CHECK_THROWS_WITH(mapping::allocate_optimal(problem, problem.least_bytes() - 1),
                    Catch::Contains("--memory-budget: got") && Catch::Contains(std::to_string(problem.least_bytes())));
  CHECK_NOTHROW(mapping::allocate_optimal(problem, problem.least_bytes()));
}

TEST_CASE("the checker accepts the solver's plan and refuses every altered claim", "[unit][mapping]") {
  const mapping::MemoryTable memory(small_network(), 16, kLayout);
  const auto rows = small_table();
  const mapping::Problem problem = mapping::make_problem(rows, "t.csv", small_network(), memory);
  const std::int64_t budget = mapping::parse_budget("2.5bits", memory, 4, "", "");
  const auto allocation = mapping::allocate_optimal(problem, budget);
  const mapping::Totals sum = mapping::totals(problem, allocation.assignment);
  workloads::Plan plan;
  plan.memory_bytes = sum.bytes;
  for (std::size_t i = 0; i < 4; ++i) {
    const auto c = static_cast<std::size_t>(allocation.assignment[i]);
    plan.experts.push_back({problem.items[i].layer, problem.items[i].expert, problem.items[i].choices[c].format, 0});
    plan.loss += rows[4 * i + c].loss;
  }
  const mapping::Claim claim{sum.bytes, sum.loss, problem.loss_exponent, budget, allocation.certificate};
  const auto check = [&](const workloads::Plan& p, const mapping::Claim& c) {
    mapping::check_claim(p, c, rows, [&](Format f) { return memory.bytes(f); });
  };
  CHECK_NOTHROW(check(plan, claim));
  auto wrong = claim;
  wrong.bytes += 1;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: bytes"));
  wrong = claim;
  wrong.loss -= 1;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: scaled loss"));
  wrong = claim;
  wrong.budget = sum.bytes - 1;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: bytes within the budget"));
  wrong = claim;
  wrong.certificate->bound += 1;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: relaxed bound"));
  wrong.certificate->bound -= 2;
  CHECK_THROWS_WITH(check(plan, wrong), Catch::Contains("plan check: relaxed bound"));
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

TEST_CASE("a sensitivity table reads back as it was written and says where it is wrong", "[unit][mapping]") {
  const auto rows = small_table();
  const std::string text = workloads::format_sensitivity(rows);
  const auto back = workloads::parse_sensitivity(text, "t.csv");
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
}

TEST_CASE("format lists take ranges and families", "[unit][mapping]") {
  const auto parse = [](const std::string& text) { return workloads::parse_formats(text, "calibrate", "--formats"); };
  CHECK(parse("int1..int8,binary,nested").size() == 17);
  CHECK(parse("nested") == parse("nested1..nested8"));
  CHECK(parse("ternary,int3") == std::vector<Format>{Format::ternary(), Format::integer(3)});
  for (const char* bad : {"", "int9", "itn4", "int4..int2", "int4..nested6", "binary..ternary", "int3,int3",
                          "int1..int4,int2", "int4,", "int2...int4", "INT4"})
    CHECK_THROWS_WITH(parse(bad), Catch::Contains("calibrate: --formats: got"));
}
