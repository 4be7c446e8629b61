#include "mapping/allocators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <stdexcept>

#include "base/error.h"
#include "base/rng.h"
#include "mapping/cbc.h"
#include "mapping/multiple_choice.h"
#include "mapping/published.h"

namespace moesaic::mapping {

namespace {

std::size_t index(int i) { return static_cast<std::size_t>(i); }

using Facts = std::vector<std::pair<std::string, std::string>>;

std::string decimal(__int128 value) {
  if (value == 0) return "0";
  std::string digits;
  for (__int128 v = value; v > 0; v /= 10)
    digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(v % 10)));
  return digits;
}

/// The multiple-choice knapsack, where the program is one: a single limit that every item has and nothing uses
/// negatively.
std::optional<MultipleChoice> as_knapsack(const ChoiceProgram& program) {
  if (program.capacity.size() != 1) return std::nullopt;
  MultipleChoice knapsack;
  knapsack.capacity = program.capacity[0];
  for (const ProgramItem& item : program.items) {
    if (item.limits.size() != 1) return std::nullopt;
    knapsack.classes.emplace_back();
    for (const ProgramOption& o : item.options) {
      if (o.use[0] < 0) return std::nullopt;
      knapsack.classes.back().push_back({o.use[0], o.cost});
    }
  }
  return knapsack;
}

/// What is used of every limit, kept up to date move by move.
class Usage {
 public:
  Usage(const ChoiceProgram& program, const Choices& choices)
      : program_(&program), excess_(program_use(program, choices)) {
    for (std::size_t c = 0; c < excess_.size(); ++c) excess_[c] -= program.capacity[c];
    std::vector<std::int64_t> range(excess_.size(), 0);
    for (const ProgramItem& item : program.items)
      for (std::size_t k = 0; k < item.limits.size(); ++k) {
        std::int64_t lo = item.options[0].use[k], hi = lo;
        for (const ProgramOption& o : item.options) {
          lo = std::min(lo, o.use[k]);
          hi = std::max(hi, o.use[k]);
        }
        range[index(item.limits[k])] += hi - lo;
      }
    for (const std::int64_t r : range) scale_.push_back(static_cast<double>(r) + 1);
  }

  bool violated() const {
    return std::any_of(excess_.begin(), excess_.end(), [](std::int64_t e) { return e > 0; });
  }
  bool fits(std::size_t i, int from, int to) const {
    const ProgramItem& item = program_->items[i];
    for (std::size_t k = 0; k < item.limits.size(); ++k)
      if (excess_[index(item.limits[k])] + change(item, k, from, to) > 0) return false;
    return true;
  }
  /// Excess removed, every limit as a share of its range.
  double removed(std::size_t i, int from, int to) const {
    const ProgramItem& item = program_->items[i];
    double sum = 0;
    for (std::size_t k = 0; k < item.limits.size(); ++k) {
      const std::int64_t now = excess_[index(item.limits[k])];
      const std::int64_t then = now + change(item, k, from, to);
      sum += static_cast<double>(std::max<std::int64_t>(now, 0) - std::max<std::int64_t>(then, 0)) /
             scale_[index(item.limits[k])];
    }
    return sum;
  }
  /// What a move uses more, every limit as a share of its range.
  double added(std::size_t i, int from, int to) const {
    const ProgramItem& item = program_->items[i];
    double sum = 0;
    for (std::size_t k = 0; k < item.limits.size(); ++k)
      sum += static_cast<double>(change(item, k, from, to)) / scale_[index(item.limits[k])];
    return sum;
  }
  void move(std::size_t i, int from, int to) {
    const ProgramItem& item = program_->items[i];
    for (std::size_t k = 0; k < item.limits.size(); ++k) excess_[index(item.limits[k])] += change(item, k, from, to);
  }

 private:
  static std::int64_t change(const ProgramItem& item, std::size_t k, int from, int to) {
    return item.options[index(to)].use[k] - item.options[index(from)].use[k];
  }
  const ChoiceProgram* program_;
  std::vector<std::int64_t> excess_;
  std::vector<double> scale_;
};

bool is_allowed(const std::vector<std::vector<int>>& allowed, std::size_t i, int o) {
  return allowed.empty() || std::binary_search(allowed[i].begin(), allowed[i].end(), o);
}

/// Options in the order in which bits, then what they use of the first limit, rise.
std::vector<int> ladder(const Lowered& lowered, std::size_t i) {
  const ProgramItem& item = lowered.program.items[i];
  std::vector<int> rungs(item.options.size());
  for (std::size_t o = 0; o < rungs.size(); ++o) rungs[o] = static_cast<int>(o);
  const auto use = [&](int o) { return item.limits.empty() ? 0 : item.options[index(o)].use[0]; };
  std::stable_sort(rungs.begin(), rungs.end(), [&](int a, int b) { return use(a) < use(b); });
  return rungs;
}

Choices smallest(const Lowered& lowered) {
  Choices choices;
  for (std::size_t i = 0; i < lowered.program.items.size(); ++i) choices.push_back(ladder(lowered, i).front());
  return choices;
}

std::string use_text(const Problem& problem, const Budget& budget, std::int64_t uses) {
  const Resource& resource = problem.resources[index(budget.resource)];
  return fmt::format("{} {}{}", (uses + resource.scale - 1) / resource.scale, resource.unit,
                     budget.per_layer ? " in every layer" : "");
}

/// The least uses that one budget needs while the problem's others hold, if they can.
std::optional<std::int64_t> least_use(const Problem& problem, std::size_t budget, const SearchOptions& options) {
  Problem others = problem;
  const Budget own = problem.budgets[budget];
  const std::int64_t scale = problem.resources[index(own.resource)].scale;
  if (!own.per_layer) {
    others.budgets.erase(others.budgets.begin() + static_cast<std::ptrdiff_t>(budget));
    for (Item& item : others.items)
      for (Choice& c : item.choices) c.loss = c.use[index(own.resource)];
    const ProgramSolution s = solve_program(lower(others).program, options);
    if (s.choices.empty()) return std::nullopt;
    return s.cost;
  }
  // The least value that every layer can keep, by halving.
  for (Item& item : others.items)
    for (Choice& c : item.choices) c.loss = 0;
  const auto feasible = [&](std::int64_t value) {
    others.budgets[budget].value = value;
    others.budgets[budget].capacity.clear();
    return !solve_program(lower(others).program, options).choices.empty();
  };
  std::int64_t below = own.value, enough = own.value + 1;
  for (const Item& item : problem.items)
    for (const Choice& c : item.choices) enough += c.use[index(own.resource)] / scale + 1;
  if (!feasible(enough)) return std::nullopt;
  while (enough - below > 1) {
    const std::int64_t middle = below + (enough - below) / 2;
    (feasible(middle) ? enough : below) = middle;
  }
  return enough * scale;
}

}  // namespace

void refuse(const std::string& allocator, const std::string& expected) {
  throw base::ConfigError("moesaic map", "--allocator", allocator, expected);
}

void give_up(const Problem& problem, const SearchOptions& options, const std::string& allocator,
             const std::string& expected) {
  Problem any = problem;
  for (Item& item : any.items)
    for (Choice& c : item.choices) c.loss = 0;
  if (solve_program(lower(any).program, options).status == SearchStatus::kInfeasible)
    explain_infeasible(problem, options);
  refuse(allocator, expected);
}

void explain_infeasible(const Problem& problem, const SearchOptions& options) {
  SearchOptions search = options;
  search.progress = nullptr;
  search.gap = 0;
  const auto refused = [&](const Budget& budget, const std::string& expected) {
    const Resource& resource = problem.resources[index(budget.resource)];
    return base::ConfigError("moesaic map", budget.key,
                             fmt::format("{} {}{}", budget.value, resource.unit, budget.per_layer ? "/layer" : ""),
                             expected);
  };
  for (std::size_t b = 0; b < problem.budgets.size(); ++b) {
    const std::optional<std::int64_t> uses = least_use(problem, b, search);
    if (!uses) continue;
    const Budget& budget = problem.budgets[b];
    const std::int64_t scale = problem.resources[index(budget.resource)].scale;
    Problem mended = problem;
    mended.budgets[b].value = (*uses + scale - 1) / scale;
    mended.budgets[b].capacity.clear();
    const Lowered lowered = lower(mended);
    const ProgramSolution s = solve_program(lowered.program, search);
    std::string loss;
    if (!s.choices.empty())
      loss = fmt::format(", where the loss is {:.6g}", totals(mended, lowered.assignment(mended, s.choices)).real_loss);
    const std::string others = problem.budgets.size() > 1 ? "the least that the other budgets allow" : "the least";
    throw refused(budget, fmt::format("at least {}, {}{}", use_text(problem, budget, *uses), others, loss));
  }
  // No budget alone is to blame: name those that cannot be met even without the others.
  for (std::size_t b = 0; b < problem.budgets.size(); ++b) {
    Problem alone = problem;
    alone.budgets = {problem.budgets[b]};
    const std::optional<std::int64_t> uses = least_use(alone, 0, search);
    if (!uses)
      throw base::ConfigError("moesaic map", "--at-least, --tie, --fix", "constraints that no plan meets",
                              "some that can hold together");
    const Budget& budget = problem.budgets[b];
    if (*uses > budget.value * problem.resources[index(budget.resource)].scale)
      throw refused(budget, fmt::format("at least {} even without the other budgets, more than one of which must rise",
                                        use_text(problem, budget, *uses)));
  }
  if (problem.budgets.empty())
    throw base::ConfigError("moesaic map", "--at-least, --tie, --fix", "constraints that no plan meets",
                            "some that can hold together");
  throw refused(problem.budgets[0], "more, and more than one budget must rise: no plan meets them together");
}

bool repair(const ChoiceProgram& program, Choices& choices, bool fill, const std::vector<std::vector<int>>& allowed) {
  Usage usage(program, choices);
  const auto cost = [&](std::size_t i, int o) { return static_cast<double>(program.items[i].options[index(o)].cost); };
  while (usage.violated()) {
    double best = std::numeric_limits<double>::infinity();
    std::size_t best_item = 0;
    int best_option = -1;
    for (std::size_t i = 0; i < choices.size(); ++i)
      for (int o = 0; o < static_cast<int>(program.items[i].options.size()); ++o) {
        if (o == choices[i] || !is_allowed(allowed, i, o)) continue;
        const double removed = usage.removed(i, choices[i], o);
        if (!(removed > 1e-15)) continue;
        const double price = std::max(cost(i, o) - cost(i, choices[i]), 0.0) / removed;
        if (price < best) {
          best = price;
          best_item = i;
          best_option = o;
        }
      }
    if (best_option < 0) return false;
    usage.move(best_item, choices[best_item], best_option);
    choices[best_item] = best_option;
  }
  if (!fill) return true;
  struct Rise {
    double worth;
    std::size_t item;
    int from, to;
    bool operator<(const Rise& o) const {
      return worth != o.worth ? worth < o.worth : item != o.item ? item > o.item : to > o.to;
    }
  };
  std::priority_queue<Rise> rises;
  const auto offer = [&](std::size_t i) {
    std::optional<Rise> best;
    for (int o = 0; o < static_cast<int>(program.items[i].options.size()); ++o) {
      const double saved = cost(i, choices[i]) - cost(i, o);
      if (!(saved > 0) || !is_allowed(allowed, i, o) || !usage.fits(i, choices[i], o)) continue;
      const Rise rise{saved / std::max(usage.added(i, choices[i], o), 1e-15), i, choices[i], o};
      if (!best || *best < rise) best = rise;
    }
    if (best) rises.push(*best);
  };
  for (std::size_t i = 0; i < choices.size(); ++i) offer(i);
  while (!rises.empty()) {
    const Rise rise = rises.top();
    rises.pop();
    if (rise.from != choices[rise.item]) continue;
    if (usage.fits(rise.item, rise.from, rise.to)) {
      usage.move(rise.item, rise.from, rise.to);
      choices[rise.item] = rise.to;
    }
    offer(rise.item);
  }
  return true;
}

Allocation heuristic(const Problem& problem, const Lowered& lowered, const Choices& choices) {
  Allocation a;
  a.assignment = lowered.assignment(problem, choices);
  a.facts = {{"status", "heuristic"}, {"scaled_loss", std::to_string(program_cost(lowered.program, choices))}};
  return a;
}

Allocation allocate_optimal(const Problem& problem, const AllocatorOptions& options) {
  const Lowered lowered = lower(problem);
  Allocation a;
  if (const std::optional<MultipleChoice> knapsack = as_knapsack(lowered.program)) {
    const auto solution = solve(*knapsack);
    if (!solution) explain_infeasible(problem, options.search);
    a.assignment = lowered.assignment(problem, solution->choice);
    a.certificate = Certificate{{solution->multiplier_num}, solution->multiplier_den, solution->relaxed_bound};
    a.bound = solution->bound;
    a.facts = {{"status", "optimal"},
               {"method", "dynamic programming"},
               {"scaled_loss", std::to_string(solution->cost)},
               {"bound", std::to_string(solution->bound)},
               {"gap", "0"},
               {"lexicographically_first", solution->first ? "proved" : "not proved"},
               {"relaxed_bound", std::to_string(solution->relaxed_bound)},
               {"multiplier", fmt::format("{}/{}", solution->multiplier_num, solution->multiplier_den)},
               {"states", std::to_string(solution->states)}};
    return a;
  }
  const ProgramSolution s = solve_program(lowered.program, options.search);
  if (s.status == SearchStatus::kInfeasible) explain_infeasible(problem, options.search);
  if (s.status == SearchStatus::kUnknown)
    throw base::ConfigError("moesaic map", "--node-limit, --time-limit",
                            fmt::format("no plan within the budgets in {} nodes", s.nodes), "more, or wider budgets");
  a.assignment = lowered.assignment(problem, s.choices);
  a.certificate = s.certificate;
  a.bound = s.bound;
  const double gap = s.cost > 0 ? static_cast<double>(s.cost - s.bound) / static_cast<double>(s.cost) : 0;
  a.facts = {{"status", s.status == SearchStatus::kOptimal ? "optimal" : "feasible"},
             {"method", "branch and bound"},
             {"scaled_loss", std::to_string(s.cost)},
             {"bound", std::to_string(s.bound)},
             {"gap", fmt::format("{:.3g}", gap)},
             {"lexicographically_first", s.first ? "proved" : "not proved"},
             {"relaxed_bound", std::to_string(s.certificate.bound)},
             {"nodes", std::to_string(s.nodes)}};
  std::string multipliers;
  for (const __int128 num : s.certificate.num) multipliers += (multipliers.empty() ? "" : " ") + decimal(num);
  a.facts.emplace_back("multipliers", multipliers + fmt::format(" / {}", s.certificate.den));
  return a;
}

Allocation allocate_cbc(const Problem& problem, const AllocatorOptions& options) {
  const Lowered lowered = lower(problem);
  const CbcAnswer answer = solve_with_cbc(lowered.program, options.search.time_limit_s);
  if (answer.choices.empty())
    give_up(problem, options.search, "cbc",
            fmt::format("a plan within the budgets in integers, and cbc gave none (it said: {})", answer.status));
  Allocation a = heuristic(problem, lowered, answer.choices);
  a.facts[0].second = answer.proved ? "optimal in cbc's floating point" : "feasible";
  a.facts.emplace_back("cbc", answer.status);
  return a;
}

Allocation allocate_uniform(const Problem& problem, const AllocatorOptions& options) {
  const Lowered lowered = lower(problem);
  std::optional<Choices> best;
  std::int64_t best_cost = 0, best_use = 0;
  // What every unit has the first has too; its options are in the order of numerics::all_formats().
  const std::vector<Reading> candidates = lowered.formats.empty() ? std::vector<Reading>() : lowered.formats.front();
  for (const Reading& reading : candidates) {
    if (!reading.format.is_one()) continue;
    Choices choices;
    for (const auto& formats : lowered.formats) {
      const auto found = std::find(formats.begin(), formats.end(), reading);
      if (found == formats.end()) break;
      choices.push_back(static_cast<int>(found - formats.begin()));
    }
    if (choices.size() != lowered.formats.size() || !within_limits(lowered.program, choices)) continue;
    const std::int64_t cost = program_cost(lowered.program, choices);
    const std::vector<std::int64_t> use = program_use(lowered.program, choices);
    const std::int64_t first = use.empty() ? 0 : use[0];
    if (!best || cost < best_cost || (cost == best_cost && first < best_use)) {
      best = choices;
      best_cost = cost;
      best_use = first;
    }
  }
  if (!best)
    give_up(problem, options.search, "uniform",
            "budgets and constraints that one format for all experts meets, and none does");
  return heuristic(problem, lowered, *best);
}

Allocation allocate_random(const Problem& problem, const AllocatorOptions& options) {
  const Lowered lowered = lower(problem);
  base::Rng rng = base::Rng(options.seed).stream("mapping random");
  std::vector<std::vector<int>> ladders;
  std::vector<std::size_t> rung;
  Choices choices;
  for (std::size_t i = 0; i < lowered.program.items.size(); ++i) {
    ladders.push_back(ladder(lowered, i));
    rung.push_back(rng.below(ladders.back().size()));
    choices.push_back(ladders[i][rung[i]]);
  }
  Usage usage(lowered.program, choices);
  const auto go_to = [&](std::size_t i, std::size_t r) {
    usage.move(i, choices[i], ladders[i][r]);
    rung[i] = r;
    choices[i] = ladders[i][r];
  };
  while (usage.violated()) {
    std::vector<std::size_t> able;
    for (std::size_t i = 0; i < rung.size(); ++i)
      if (rung[i] > 0 && usage.removed(i, choices[i], ladders[i][0]) > 0) able.push_back(i);
    if (able.empty()) break;
    const std::size_t i = rng.pick(able);
    go_to(i, rng.below(rung[i]));
  }
  if (usage.violated()) {  // falling was not enough, as with "at least one int3"
    if (!repair(lowered.program, choices, false))
      give_up(problem, options.search, "random",
              "budgets and constraints that its falls and repairs meet, and they do not");
    usage = Usage(lowered.program, choices);
    for (std::size_t i = 0; i < rung.size(); ++i)
      rung[i] =
          index(static_cast<int>(std::find(ladders[i].begin(), ladders[i].end(), choices[i]) - ladders[i].begin()));
  }
  for (;;) {
    std::vector<std::size_t> able;
    for (std::size_t i = 0; i < rung.size(); ++i)
      if (rung[i] + 1 < ladders[i].size() && usage.fits(i, choices[i], ladders[i][rung[i] + 1])) able.push_back(i);
    if (able.empty()) break;
    const std::size_t i = rng.pick(able);
    go_to(i, rung[i] + 1);
  }
  Allocation a = heuristic(problem, lowered, choices);
  a.facts.insert(a.facts.begin() + 1, {"seed", std::to_string(options.seed)});
  return a;
}

Allocation allocate_greedy(const Problem& problem, const AllocatorOptions& options) {
  const Lowered lowered = lower(problem);
  Choices choices = smallest(lowered);
  if (!repair(lowered.program, choices, true))
    give_up(problem, options.search, "greedy", "budgets and constraints that its repairs meet, and they do not");
  return heuristic(problem, lowered, choices);
}

void add_builtin_allocators(base::Registry<Allocator>& allocators) {
  allocators.add("optimal", {allocate_optimal, false, true, true});
  allocators.add("cbc", {allocate_cbc, false, true});
  allocators.add("greedy", {allocate_greedy});
  allocators.add("hawq", {allocate_hawq});
  allocators.add("baq", {allocate_baq});
  allocators.add("pmq", {allocate_pmq});
  allocators.add("frequency", {allocate_frequency});
  allocators.add("uniform", {allocate_uniform});
  allocators.add("random", {allocate_random, true});
}

}  // namespace moesaic::mapping
