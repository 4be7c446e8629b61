#include "mapping/allocators.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/rng.h"
#include "mapping/multiple_choice.h"

namespace moesaic::mapping {

namespace {

void check_feasible(const Problem& problem, std::int64_t budget) {
  if (budget < problem.least_bytes())
    throw base::ConfigError(
        "moesaic map", "--memory-budget", fmt::format("{} bytes", budget),
        fmt::format("at least {} bytes, which every expert in its smallest format takes", problem.least_bytes()));
}

std::size_t index(int i) { return static_cast<std::size_t>(i); }

/// The choices in which bytes rise: the ladder that a plan's repairs climb. Of equal bytes the first.
std::vector<int> ladder(const Item& item) {
  std::vector<int> rungs(item.choices.size());
  for (std::size_t c = 0; c < rungs.size(); ++c) rungs[c] = static_cast<int>(c);
  const auto bytes = [&](int c) { return item.choices[index(c)].bytes; };
  std::stable_sort(rungs.begin(), rungs.end(), [&](int a, int b) { return bytes(a) < bytes(b); });
  return rungs;
}

}  // namespace

Allocation allocate_optimal(const Problem& problem, std::int64_t budget) {
  check_feasible(problem, budget);
  MultipleChoice knapsack;
  knapsack.capacity = budget;
  for (const Item& item : problem.items) {
    knapsack.classes.emplace_back();
    for (const Choice& c : item.choices) knapsack.classes.back().push_back({c.bytes, c.loss});
  }
  const auto solution = solve(knapsack);
  if (!solution) throw std::logic_error("a feasible problem was found infeasible");
  Allocation a;
  a.assignment = solution->choice;
  a.certificate = Claim::Certificate{solution->relaxed_bound, solution->multiplier_num, solution->multiplier_den};
  a.facts = {{"status", "optimal"},
             {"scaled_loss", std::to_string(solution->cost)},
             {"bound", std::to_string(solution->bound)},
             {"gap", std::to_string(solution->cost - solution->bound)},
             {"relaxed_bound", std::to_string(solution->relaxed_bound)},
             {"multiplier", fmt::format("{}/{}", solution->multiplier_num, solution->multiplier_den)},
             {"states", std::to_string(solution->states)}};
  return a;
}

Allocation allocate_uniform(const Problem& problem, std::int64_t budget) {
  check_feasible(problem, budget);
  std::optional<Assignment> best;
  Totals best_totals;
  for (const numerics::Format format : numerics::all_formats()) {
    Assignment assignment;
    for (const Item& item : problem.items) {
      const auto found =
          std::find_if(item.choices.begin(), item.choices.end(), [&](const Choice& c) { return c.format == format; });
      if (found == item.choices.end()) break;
      assignment.push_back(static_cast<int>(found - item.choices.begin()));
    }
    if (assignment.size() != problem.items.size()) continue;
    const Totals sum = totals(problem, assignment);
    if (sum.bytes > budget) continue;
    if (!best || sum.loss < best_totals.loss || (sum.loss == best_totals.loss && sum.bytes < best_totals.bytes)) {
      best = assignment;
      best_totals = sum;
    }
  }
  if (!best)
    throw base::ConfigError("moesaic map", "--memory-budget", fmt::format("{} bytes", budget),
                            "enough for one format that every expert has");
  return {*best, {{"status", "heuristic"}, {"scaled_loss", std::to_string(best_totals.loss)}}, std::nullopt};
}

Allocation allocate_random(const Problem& problem, std::int64_t budget, std::uint64_t seed) {
  check_feasible(problem, budget);
  base::Rng rng = base::Rng(seed).stream("mapping random");
  std::vector<std::vector<int>> ladders;
  std::vector<std::size_t> rung;
  std::int64_t bytes = 0;
  const auto bytes_at = [&](std::size_t i, std::size_t r) {
    return problem.items[i].choices[index(ladders[i][r])].bytes;
  };
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    ladders.push_back(ladder(problem.items[i]));
    rung.push_back(rng.below(ladders.back().size()));
    bytes += bytes_at(i, rung.back());
  }
  while (bytes > budget) {
    std::vector<std::size_t> able;
    for (std::size_t i = 0; i < rung.size(); ++i)
      if (rung[i] > 0) able.push_back(i);
    const std::size_t i = rng.pick(able);
    const std::size_t lower = rng.below(rung[i]);
    bytes += bytes_at(i, lower) - bytes_at(i, rung[i]);
    rung[i] = lower;
  }
  for (;;) {
    std::vector<std::size_t> able;
    for (std::size_t i = 0; i < rung.size(); ++i)
      if (rung[i] + 1 < ladders[i].size() && bytes + bytes_at(i, rung[i] + 1) - bytes_at(i, rung[i]) <= budget)
        able.push_back(i);
    if (able.empty()) break;
    const std::size_t i = rng.pick(able);
    bytes += bytes_at(i, rung[i] + 1) - bytes_at(i, rung[i]);
    ++rung[i];
  }
  Allocation a;
  for (std::size_t i = 0; i < rung.size(); ++i) a.assignment.push_back(ladders[i][rung[i]]);
  a.facts = {{"status", "heuristic"},
             {"seed", std::to_string(seed)},
             {"scaled_loss", std::to_string(totals(problem, a.assignment).loss)}};
  return a;
}

void add_builtin_allocators(base::Registry<Allocator>& allocators) {
  allocators.add(
      "optimal",
      {[](const Problem& p, std::int64_t budget, std::uint64_t) { return allocate_optimal(p, budget); }, false});
  allocators.add(
      "uniform",
      {[](const Problem& p, std::int64_t budget, std::uint64_t) { return allocate_uniform(p, budget); }, false});
  allocators.add("random", {allocate_random, true});
}

}  // namespace moesaic::mapping
