// Classes of requests: one stored copy of an expert, read by each class at a width of its own.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "base/error.h"
#include "base/registry.h"
#include "base/rng.h"
#include "mapping/allocators.h"
#include "mapping/cbc.h"
#include "mapping/checker.h"
#include "mapping/problem.h"

using namespace moesaic;
using mapping::Reading;
using numerics::ExpertFormats;
using numerics::Format;
using workloads::ClassSet;
using workloads::Projection;

namespace {

const numerics::LayoutSpec kLayout{numerics::LayoutKind::kPlaneMajor, 8, 8};
constexpr int kLayers = 2, kExperts = 3;

workloads::Network network() {
  workloads::Network n;
  n.name = "small";
  n.hidden = 32;
  n.expert_intermediate = 48;
  n.experts = kExperts;
  n.layers = kLayers;
  n.has_experts = {true, true};
  return n;
}

mapping::MemoryTable memory() { return mapping::MemoryTable(network(), 16, kLayout); }

/// Two copies that are read at several widths, and two that are read at one.
const std::vector<Format> kFormats{Format::integer(3),   Format::nested(2),    Format::nested(4),   Format::binary(),
                                   Format::mwq(2, 2, 0), Format::mwq(2, 2, 1), Format::mwq(2, 2, 2)};

std::vector<workloads::SensitivityRow> table(base::Rng& rng, const std::vector<Format>& formats) {
  std::vector<workloads::SensitivityRow> rows;
  for (int layer = 0; layer < kLayers; ++layer)
    for (int expert = 0; expert < kExperts; ++expert)
      for (const Format f : formats)
        rows.push_back({layer, expert, f, std::exp(rng.normal()) * std::pow(3.0, -f.bits()), 0.5, 0.5});
  return rows;
}

mapping::Classes three(bool rising) {
  mapping::Classes classes;
  classes.shares = {0.5, 0.3, 0.2};
  classes.rising = rising;
  return classes;
}

/// Rows of each class, of an expert: what a trace says.
std::int64_t tokens(int layer, int expert, ClassSet classes) {
  std::int64_t sum = 0;
  for (std::size_t c = 0; c < 3; ++c)
    if (classes == workloads::kEveryRow || workloads::contains(classes, c))
      sum += static_cast<std::int64_t>(1 + (layer + 2 * static_cast<int>(c) + expert) % 4);
  return sum;
}

/// Stored and read bytes, cycles of a table (a job takes longer than its rows), and I/O bytes.
std::vector<mapping::Resource> resources() {
  const mapping::MemoryTable m = memory();
  return {{"memory", "bytes", 1, [m](int, int, const ExpertFormats& f) { return m.bytes(f); }},
          {"latency",
           "cycles",
           1,
           {},
           [](int l, int e, const ExpertFormats& f, ClassSet classes) {
             return 5 + tokens(l, e, classes) * (5 + 7 * std::int64_t{f.gate.planes()});
           }},
          {"io", "bytes", 1, {}, [m](int l, int e, const ExpertFormats& f, ClassSet classes) {
             return tokens(l, e, classes) * m.read_bytes(f);
           }}};
}

mapping::Problem problem_of(const std::vector<workloads::SensitivityRow>& rows, const mapping::Classes& classes) {
  return mapping::make_problem(rows, "t.csv", network(), resources(), mapping::Together::kNone, classes);
}

/// Budgets of one to three resources from one on, each in the lower half of what plans use.
void add_budgets(base::Rng& rng, mapping::Problem& problem, int first, int budgets) {
  for (int n = 0; n < budgets; ++n) {
    const int b = (first + n) % 3;
    std::int64_t least = 0, most = 0;
    for (const mapping::Item& item : problem.items) {
      std::int64_t lo = item.choices[0].use[static_cast<std::size_t>(b)], hi = lo;
      for (const mapping::Choice& c : item.choices) {
        lo = std::min(lo, c.use[static_cast<std::size_t>(b)]);
        hi = std::max(hi, c.use[static_cast<std::size_t>(b)]);
      }
      least += lo;
      most += hi;
    }
    problem.budgets.push_back({b, false, least + rng.range((most - least) / 8, (most - least) / 2), "--budget"});
  }
}

workloads::Plan plan_of(const mapping::Problem& problem, const mapping::Assignment& assignment) {
  workloads::Plan plan;
  const mapping::Totals sum = mapping::totals(problem, assignment);
  plan.memory_bytes = sum.use[0];
  plan.loss = sum.real_loss;
  plan.class_shares = problem.classes.shares;
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    const mapping::Choice& c = problem.items[i].choices[static_cast<std::size_t>(assignment[i])];
    plan.experts.push_back({problem.items[i].layer, problem.items[i].expert, c.format, 0, c.reads});
  }
  return plan;
}

mapping::Claim claim_of(const mapping::Problem& problem, const mapping::Allocation& allocation) {
  mapping::Claim claim;
  const mapping::Totals sum = mapping::totals(problem, allocation.assignment);
  claim.loss = sum.loss;
  claim.loss_exponent = problem.loss_exponent;
  claim.bytes = sum.use[0];
  claim.bytes_of = [m = memory()](const ExpertFormats& f) { return m.bytes(f); };
  claim.classes = problem.classes.count();
  claim.class_weights = problem.classes.weights;
  claim.rising = problem.classes.rising;
  claim.shares = problem.classes.of_expert;
  for (const mapping::Budget& b : problem.budgets) {
    const auto r = static_cast<std::size_t>(b.resource);
    const mapping::Resource& resource = problem.resources[r];
    claim.budgets.push_back({resource.name, false, b.value, resource.use, sum.use[r], {}, resource.class_use});
  }
  if (allocation.certificate)
    claim.certificate = mapping::Claim::Certificate{allocation.certificate->num, allocation.certificate->den,
                                                    allocation.certificate->bound};
  return claim;
}

/// The same problem with the choices alone in which all classes read alike.
mapping::Problem alike(mapping::Problem problem) {
  for (mapping::Item& item : problem.items)
    item.choices.erase(std::remove_if(item.choices.begin(), item.choices.end(),
                                      [](const mapping::Choice& c) { return !c.reads.empty(); }),
                       item.choices.end());
  return problem;
}

}  // namespace

TEST_CASE("classes read one stored copy, in every way or in every rising way", "[unit][mapping]") {
  for (const bool rising : {true, false})
    for (std::size_t classes = 1; classes <= 4; ++classes) {
      CAPTURE(rising, classes);
      const std::vector<Reading> all = mapping::readings(kFormats, classes, rising);
      CHECK(all.size() == mapping::count_readings(kFormats, classes, rising));
      std::set<std::string> names;
      for (const Reading& reading : all) {
        names.insert(reading.name());
        if (reading.reads.empty()) continue;
        REQUIRE(reading.reads.size() == classes);
        for (std::size_t c = 0; c < classes; ++c) {
          CHECK(reading.format.gate.same_copy(reading.reads[c]));
          CHECK(reading.reads[c].planes() <= reading.format.gate.planes());
          if (rising && c > 0) CHECK(reading.reads[c - 1].planes() <= reading.reads[c].planes());
        }
      }
      CHECK(names.size() == all.size());
    }
  // Two copies of one width, one of two, one of three.
  CHECK(mapping::readings(kFormats, 1, true).size() == kFormats.size());
  CHECK(mapping::readings(kFormats, 3, true).size() == 1 + 1 + 4 + 10);
  CHECK(mapping::readings(kFormats, 3, false).size() == 1 + 1 + 8 + 27);
  CHECK(mapping::count_readings(numerics::all_formats(), 16, false) == mapping::kMostChoices + 1);
  const Reading reading(std::vector<Format>{Format::mwq(2, 2, 0), Format::mwq(2, 2, 2), Format::mwq(2, 2, 0)});
  CHECK(reading.name() == "mwq2+0of2:mwq2+2:mwq2+0of2");
  CHECK(reading.format == ExpertFormats(Format::mwq(2, 2, 2)));
  const auto widths = reading.widths(3);
  REQUIRE(widths.size() == 2);
  CHECK(widths[0] == std::pair(ExpertFormats(Format::mwq(2, 2, 0)), ClassSet{5}));
  CHECK(widths[1] == std::pair(ExpertFormats(Format::mwq(2, 2, 2)), ClassSet{2}));
  CHECK(Reading(Format::binary()).widths(3) == decltype(widths){{Format::binary(), 7}});
  CHECK(Reading(Format::binary()).widths(1) == decltype(widths){{Format::binary(), workloads::kEveryRow}});
}

TEST_CASE("a choice loses what its classes lose, by share and weight, and uses what each width takes",
          "[unit][mapping]") {
  base::Rng rng(3);
  const auto rows = table(rng, kFormats);
  mapping::Classes classes = three(true);
  classes.weights = {1, 2, 4};
  classes.of_expert[{1, 2}] = {0.125, 0.25, 0.625};
  const mapping::Problem problem = problem_of(rows, classes);
  const mapping::MemoryTable m = memory();
  const auto loss_of = [&](const mapping::Item& item, Format f) {
    for (const auto& row : rows)
      if (row.layer == item.layer && row.expert == item.expert && row.format == f) return row.loss;
    return -1.0;
  };
  REQUIRE(problem.items.size() == kLayers * kExperts);
  for (const mapping::Item& item : problem.items) {
    REQUIRE(item.choices.size() == 16);
    const bool own = item.layer == 1 && item.expert == 2;
    const std::vector<double> shares = own ? std::vector<double>{0.125, 0.25, 0.625} : classes.shares;
    for (const mapping::Choice& choice : item.choices) {
      double loss = 0;
      std::map<int, std::pair<Format, ClassSet>> widths;
      for (std::size_t c = 0; c < 3; ++c) {
        const Format read = choice.reads.empty() ? choice.format.gate : choice.reads[c];
        loss += shares[c] * classes.weights[c] * loss_of(item, read);
        widths[read.planes()].first = read;
        widths[read.planes()].second |= ClassSet{1} << c;
      }
      CHECK(choice.real_loss == loss);
      CHECK(choice.loss == std::llround(std::ldexp(loss, problem.loss_exponent)));
      CHECK(choice.use[0] == m.bytes(choice.format));
      std::int64_t cycles = 0, io = 0;
      for (const auto& [planes, width] : widths) {
        cycles += 5 + tokens(item.layer, item.expert, width.second) * (5 + 7 * planes);
        io += tokens(item.layer, item.expert, width.second) * m.read_bytes(width.first);
      }
      CHECK(choice.use[1] == cycles);
      CHECK(choice.use[2] == io);
    }
  }
}

TEST_CASE("one class of share 1 poses the problem without classes", "[unit][mapping]") {
  base::Rng rng(4);
  const auto rows = table(rng, kFormats);
  mapping::Classes one;
  one.shares = {1};
  mapping::Problem without = problem_of(rows, {}), with = problem_of(rows, one);
  CHECK(with.loss_exponent == without.loss_exponent);
  for (std::size_t i = 0; i < with.items.size(); ++i) {
    REQUIRE(with.items[i].choices.size() == without.items[i].choices.size());
    for (std::size_t c = 0; c < with.items[i].choices.size(); ++c) {
      const mapping::Choice &a = with.items[i].choices[c], &b = without.items[i].choices[c];
      CHECK(a == b);
      CHECK(a.loss == b.loss);
      CHECK(a.real_loss == b.real_loss);
      CHECK(a.use == b.use);
    }
  }
  add_budgets(rng, without, 0, 3);
  with.budgets = without.budgets;
  CHECK(mapping::allocate_optimal(with, {}).assignment == mapping::allocate_optimal(without, {}).assignment);
}

TEST_CASE("with classes the optimum is CBC's, never above the best plan in which all read alike, and checks",
          "[unit][mapping]") {
  REQUIRE(mapping::has_cbc());  // Debian package coinor-cbc, which packages.txt lists
  base::Rng rng(5);
  int better = 0, feasible = 0;
  for (int i = 0; i < 60; ++i) {
    CAPTURE(i);
    const auto rows = table(rng, kFormats);
    mapping::Problem problem = problem_of(rows, three(i % 2 == 0));
    add_budgets(rng, problem, i % 3, 1 + i / 3 % 3);
    const mapping::CbcAnswer cbc = mapping::solve_with_cbc(mapping::lower(problem).program, std::nullopt);
    REQUIRE(cbc.proved);
    mapping::Allocation best;
    try {
      best = mapping::allocate_optimal(problem, {});
    } catch (const base::InputError&) {
      CHECK(cbc.infeasible);
      continue;
    }
    ++feasible;
    REQUIRE_FALSE(cbc.choices.empty());
    const mapping::Totals sum = mapping::totals(problem, best.assignment);
    CHECK(sum.loss == cbc.cost);
    CHECK(best.bound == sum.loss);
    const workloads::Plan plan = plan_of(problem, best.assignment);
    CHECK_NOTHROW(mapping::check_claim(plan, claim_of(problem, best), rows));
    try {
      const mapping::Problem uniform = alike(problem);
      const mapping::Totals other = mapping::totals(uniform, mapping::allocate_optimal(uniform, {}).assignment);
      CHECK(sum.loss <= other.loss);
      better += sum.loss < other.loss;
    } catch (const base::InputError&) {
      ++better;  // there is none
    }
  }
  CHECK(feasible > 30);
  CHECK(better > 10);
}

TEST_CASE("with classes no allocator is below the optimum, and the published ones have all classes read alike",
          "[unit][mapping]") {
  base::Rng rng(6);
  base::Registry<mapping::Allocator> all;
  mapping::add_builtin_allocators(all);
  std::map<std::string, int> made, apart;
  for (int i = 0; i < 12; ++i) {
    // With and without what hawq, baq, pmq and frequency want.
    std::vector<Format> formats = kFormats;
    if (i % 2 == 0) formats.insert(formats.begin(), Format::integer(2));
    const auto rows = table(rng, formats);
    mapping::Problem problem = problem_of(rows, three(true));
    add_budgets(rng, problem, 1 + i % 2, 1 + i / 2 % 3);
    for (mapping::Budget& b : problem.budgets) b.value += b.value / 4;
    const std::int64_t best = mapping::totals(problem, mapping::allocate_optimal(problem, {}).assignment).loss;
    for (const std::string& name : all.names()) {
      CAPTURE(i, name);
      mapping::Allocation allocation;
      try {
        allocation = all.at(name, "test", "allocator").allocate(problem, {7, {}});
      } catch (const base::InputError& refused) {
        CHECK_THAT(refused.what(), Catch::StartsWith("moesaic map: --allocator: got " + name + ", expected "));
        continue;
      }
      ++made[name];
      const mapping::Totals sum = mapping::totals(problem, allocation.assignment);
      CHECK(sum.loss >= best);
      for (const mapping::Budget& b : problem.budgets) CHECK(sum.use[static_cast<std::size_t>(b.resource)] <= b.value);
      const workloads::Plan plan = plan_of(problem, allocation.assignment);
      CHECK_NOTHROW(mapping::check_claim(plan, claim_of(problem, allocation), rows));
      for (const workloads::PlanEntry& entry : plan.experts) apart[name] += !entry.reads.empty();
    }
  }
  for (const char* name : {"optimal", "cbc", "greedy", "random", "uniform"}) {
    CAPTURE(name);
    CHECK(made[name] == 12);
    CHECK(apart[name] > 0);
  }
  for (const char* name : {"hawq", "baq", "pmq", "frequency"}) {
    CAPTURE(name);
    CHECK(made[name] > 0);
    CHECK(apart[name] == 0);
  }
}

TEST_CASE("the checker finds every change of what a class reads, of shares, order and uses", "[unit][mapping]") {
  base::Rng rng(9);
  const auto rows = table(rng, {Format::mwq(2, 2, 0), Format::mwq(2, 2, 1), Format::mwq(2, 2, 2)});
  mapping::Problem problem = problem_of(rows, three(true));
  for (int r = 0; r < 3; ++r) {
    std::int64_t most = 0;
    for (const mapping::Item& item : problem.items) most += item.choices.back().use[static_cast<std::size_t>(r)];
    problem.budgets.push_back({r, false, r == 0 ? most : most * 3 / 4, "--budget"});
  }
  const mapping::Allocation allocation = mapping::allocate_optimal(problem, {});
  const workloads::Plan plan = plan_of(problem, allocation.assignment);
  const mapping::Claim claim = claim_of(problem, allocation);
  const auto refusal = [&](const workloads::Plan& p, const mapping::Claim& c) -> std::string {
    try {
      mapping::check_claim(p, c, rows);
    } catch (const base::CheckError& error) {
      return error.what();
    }
    return "accepted";
  };
  REQUIRE(refusal(plan, claim) == "accepted");
  const auto apart = std::find_if(plan.experts.begin(), plan.experts.end(),
                                  [](const workloads::PlanEntry& e) { return !e.reads.empty(); });
  REQUIRE(apart != plan.experts.end());
  const auto at = static_cast<std::size_t>(apart - plan.experts.begin());
  workloads::Plan other = plan;
  // What every class reads said twice is the same plan.
  for (workloads::PlanEntry& entry : other.experts)
    if (entry.reads.empty()) entry.reads.assign(3, entry.format.gate);
  CHECK(refusal(other, claim) == "accepted");
  other = plan;
  other.experts[at].reads[1] = apart->reads[1] == apart->reads[0] ? apart->reads[2] : apart->reads[0];
  CHECK_THAT(refusal(other, claim), Catch::StartsWith("plan check: scaled loss"));
  // The same loss, from other uses.
  mapping::Claim wrong = claim;
  for (std::size_t b = 0; b < 3; ++b) {
    wrong = claim;
    wrong.budgets[b].used -= 1;
    CHECK_THAT(refusal(plan, wrong), Catch::StartsWith("plan check: " + wrong.budgets[b].name + ": claimed"));
    wrong = claim;
    wrong.budgets[b].capacity = wrong.budgets[b].used - 1;
    CHECK_THAT(refusal(plan, wrong), Catch::StartsWith("plan check: " + wrong.budgets[b].name + " within the budget"));
  }
  other = plan;
  std::reverse(other.experts[at].reads.begin(), other.experts[at].reads.end());
  CHECK_THAT(refusal(other, claim), Catch::Contains("0 formats of the table chosen"));  // falls
  other = plan;
  other.experts[at].reads.pop_back();
  CHECK_THAT(refusal(other, claim), Catch::Contains("reads of 2 classes, expected 3"));
  other = plan;
  other.experts[at].format = other.experts[at].reads[0];  // not the widest
  CHECK_THAT(refusal(other, claim), Catch::Contains("0 formats of the table chosen"));
  other = plan;
  other.class_shares = {0.2, 0.3, 0.5};
  CHECK_THAT(refusal(other, claim), Catch::StartsWith("plan check: scaled loss"));
  other.class_shares = {0.5, 0.5};
  CHECK_THAT(refusal(other, claim), Catch::StartsWith("plan check: classes: claimed 2, found 3"));
  wrong = claim;
  wrong.class_weights = {1, 1, 2};
  CHECK_THAT(refusal(plan, wrong), Catch::StartsWith("plan check: scaled loss"));
  wrong = claim;
  wrong.certificate->bound -= 1;
  CHECK_THAT(refusal(plan, wrong), Catch::StartsWith("plan check: relaxed bound"));
}

TEST_CASE("experts that are tied, fixed or counted are so in what every class reads", "[unit][mapping]") {
  base::Rng rng(10);
  const auto rows = table(rng, kFormats);
  mapping::Problem problem = problem_of(rows, three(true));
  problem.tied = {{0, 4}};
  problem.at_least = {{1, Format::mwq(2, 2, 0), 0}};
  const Reading fixed(std::vector<Format>{Format::nested(2), Format::nested(4), Format::nested(4)});
  mapping::Item& item = problem.items[2];
  item.choices = {*std::find(item.choices.begin(), item.choices.end(), fixed)};
  problem.budgets = {{2, false, 1 << 30, "--io-budget"}, {1, false, 1 << 30, "--latency-budget"}};
  const mapping::Allocation allocation = mapping::allocate_optimal(problem, {});
  const workloads::Plan plan = plan_of(problem, allocation.assignment);
  CHECK(plan.experts[0].format == plan.experts[4].format);
  CHECK(plan.experts[0].reads == plan.experts[4].reads);
  CHECK(plan.experts[2].reads == fixed.reads);
  CHECK((plan.experts[0].format == ExpertFormats(Format::mwq(2, 2, 0)) ||
         plan.experts[1].format == ExpertFormats(Format::mwq(2, 2, 0))));
  mapping::Claim claim = claim_of(problem, allocation);
  claim.at_least = {{1, Format::mwq(2, 2, 0), 0}};
  claim.tied = {{{0, 0}, {1, 1}}};
  claim.fixed = {plan.experts[2]};
  CHECK_NOTHROW(mapping::check_claim(plan, claim, rows));
  claim.fixed[0].reads = {Format::nested(2), Format::nested(2), Format::nested(4)};
  CHECK_THROWS_WITH(mapping::check_claim(plan, claim, rows), Catch::Contains("layer 0, expert 2: 0 formats"));
}

TEST_CASE("classes are refused where matrices have formats of their own, and where there are too many ways",
          "[unit][mapping]") {
  base::Rng rng(11);
  std::vector<workloads::SensitivityRow> rows;
  for (const auto& row : table(rng, kFormats))
    for (const Projection p : {Projection::kGate, Projection::kUp, Projection::kDown}) {
      rows.push_back(row);
      rows.back().projection = p;
    }
  CHECK_THROWS_WITH(problem_of(rows, three(true)),
                    "t.csv: projection: got losses of gate, up and down for classes of requests, expected a table of "
                    "whole experts, or --tie gate,up,down: a class reads one format");
  // Tied, they are the choices of whole experts.
  const mapping::Problem tied =
      mapping::make_problem(rows, "t.csv", network(), resources(), mapping::Together::kAll, three(true));
  mapping::Problem budgeted = tied;
  budgeted.budgets = {{1, false, 1 << 30, "--latency-budget"}, {2, false, 1 << 30, "--io-budget"}};
  const mapping::Allocation allocation = mapping::allocate_optimal(budgeted, {});
  mapping::Claim claim = claim_of(budgeted, allocation);
  claim.all_together = true;
  CHECK_NOTHROW(mapping::check_claim(plan_of(budgeted, allocation.assignment), claim, rows));
  std::vector<Format> nested;
  for (int bits = 1; bits <= 8; ++bits) nested.push_back(Format::nested(bits));
  mapping::Classes many;
  many.shares.assign(8, 0.125);
  many.rising = false;
  CHECK_THROWS_WITH(problem_of(table(rng, nested), many),
                    Catch::Contains("--class-shares: got 8 classes that read in more than 1048576 ways"));
  many.rising = true;
  CHECK(problem_of(table(rng, nested), many).items[0].choices.size() == 6435);
}

TEST_CASE("levels of one MWQ copy are ways to read it, those of a copy that stores fewer are another's",
          "[unit][mapping]") {
  const std::vector<Format> formats{Format::mwq(2, 1, 0), Format::mwq(2, 1, 1), Format::mwq(2, 2, 0),
                                    Format::mwq(2, 2, 1), Format::mwq(2, 2, 2), Format::mwq(3, 1, 0)};
  CHECK(mapping::readings(formats, 2, true).size() == 3 + 6 + 1);
  CHECK(mapping::readings(formats, 2, false).size() == 4 + 9 + 1);
  base::Rng rng(12);
  mapping::Classes two;
  two.shares = {0.75, 0.25};
  mapping::Problem problem = problem_of(table(rng, formats), two);
  const auto stored = [](Format all) {
    return numerics::stored_layout(all, numerics::expert_shapes(32, 48, 16), kLayout).total_bytes();
  };
  std::int64_t narrow = 0, wide = 0;
  for (const mapping::Item& item : problem.items)
    for (const mapping::Choice& choice : item.choices) {
      const Format format = choice.format.gate;
      // Of a copy every level is stored, whatever is read.
      CHECK(choice.use[0] == stored(Format::mwq(format.base_planes(), format.stored_levels(), format.stored_levels())));
      for (const Format read : choice.reads) CHECK(read.stored_levels() == format.stored_levels());
      narrow += item.expert == 0 && format.stored_levels() == 1;
      wide += item.expert == 0 && format.stored_levels() == 2;
    }
  CHECK(narrow == kLayers * 4);
  CHECK(wide == kLayers * 6);
  // One byte less than every expert with two levels: some are stored with one.
  problem.budgets = {{0, false, kLayers * kExperts * stored(Format::mwq(2, 2, 2)) - 1, "--memory-budget"}};
  const workloads::Plan plan = plan_of(problem, mapping::allocate_optimal(problem, {}).assignment);
  CHECK(plan.memory_bytes <= problem.budgets[0].value);
  CHECK(std::any_of(plan.experts.begin(), plan.experts.end(),
                    [](const auto& entry) { return entry.format.gate.stored_levels() == 1; }));
}
