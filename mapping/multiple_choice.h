#pragma once
/// Exact minimum of a multiple-choice knapsack: one option of every class, least cost, total weight within the
/// capacity.
///
/// Dynamic programming over undominated (weight, cost) states, class after class, where a state is kept only while a
/// Lagrangian lower bound of its best completion does not exceed the best complete solution known. Classes come in the
/// order of how undecided they are at the break multiplier of the linear relaxation (the "core" of Pisinger, A minimal
/// algorithm for the multiple-choice knapsack problem, EJOR 83, 1995), so that most later classes have one live option
/// left. All comparisons are exact: multipliers are ratios of integers and sums have 128 bits.
///
/// Among optimal solutions the lexicographically first is returned. Where ties are so many that finding it takes too
/// much work, the one of least weight is, and `first` is false. The worst case is pseudo-polynomial: as many states as
/// there are distinct weights below the capacity.
#include <cstdint>
#include <optional>
#include <vector>

namespace moesaic::mapping {

struct Option {
  std::int64_t weight = 0;  ///< 0..2^50 in total
  std::int64_t cost = 0;    ///< 0..2^50 in total
};

struct MultipleChoice {
  std::vector<std::vector<Option>> classes;  ///< none empty
  std::int64_t capacity = 0;
};

struct MultipleChoiceSolution {
  std::vector<int> choice;  ///< an option of every class
  std::int64_t cost = 0;
  std::int64_t weight = 0;
  /// Proved lower bound of any solution's cost. The search is exhaustive, so it equals `cost`.
  std::int64_t bound = 0;
  /// The bound that the relaxation alone proves: min over all choices of cost + multiplier * (weight - capacity),
  /// rounded up, at multiplier = multiplier_num / multiplier_den. Anyone can recompute it.
  std::int64_t relaxed_bound = 0;
  std::int64_t multiplier_num = 0;
  std::int64_t multiplier_den = 1;
  std::int64_t states = 0;  ///< created and kept, over all classes
  bool first = true;        ///< proved: no optimal choice is lexicographically before `choice`
};

/// Nothing when no choice fits the capacity. Throws std::logic_error for an empty class, a negative number or totals
/// that reach 2^51. `tie_effort`: steps of comparing tied states after which the lexicographically first is given up.
std::optional<MultipleChoiceSolution> solve(const MultipleChoice& problem,
                                            std::int64_t tie_effort = std::int64_t{1} << 24);

}  // namespace moesaic::mapping
