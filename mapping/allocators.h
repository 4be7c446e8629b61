#pragma once
/// Ways to choose the formats, all on the same problem: its budgets and its side constraints bind every one of them.
///
///   optimal    the exact minimum of the additive loss: dynamic programming for one budget over the whole model
///              (multiple_choice.h), branch and bound otherwise (branch_and_bound.h)
///   cbc        the same problem solved by COIN-OR CBC, re-evaluated in integers (cbc.h)
///   uniform    one format for every expert, or of classes one reading: of those that all have and that fit, the one of
///              least loss
///   random     every expert draws a format; experts drawn at random fall to a smaller one until the plan fits, then
///              rise to the next larger while any rise still fits
///   greedy     from everyone's smallest format, the rise that saves most loss per share of the budgets, while any fits
///   frequency, pmq, baq, hawq    published heuristics and programs (published.h); they know no classes of requests,
///   and
///              give all of them one format
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/registry.h"
#include "mapping/branch_and_bound.h"
#include "mapping/problem.h"

namespace moesaic::mapping {

struct AllocatorOptions {
  std::uint64_t seed = 0;
  SearchOptions search;
};

struct Allocation {
  Assignment assignment;
  /// For the plan file: "status", "bound" ..., in this order.
  std::vector<std::pair<std::string, std::string>> facts;
  /// Over lower(problem).limits, where the allocator proves a bound.
  std::optional<Certificate> certificate;
  std::optional<std::int64_t> bound;  ///< no plan's scaled loss is less
};

/// InputError when no plan within the budgets exists, as explain_infeasible() words it, or when this allocator finds
/// none.
struct Allocator {
  std::function<Allocation(const Problem&, const AllocatorOptions&)> allocate;
  bool takes_seed = false;
  bool takes_time = false;    ///< SearchOptions::time_limit_s decides when it stops
  bool takes_effort = false;  ///< and its other limits do
};

void add_builtin_allocators(base::Registry<Allocator>& allocators);

Allocation allocate_optimal(const Problem& problem, const AllocatorOptions& options);
Allocation allocate_cbc(const Problem& problem, const AllocatorOptions& options);
Allocation allocate_uniform(const Problem& problem, const AllocatorOptions& options);
Allocation allocate_random(const Problem& problem, const AllocatorOptions& options);
Allocation allocate_greedy(const Problem& problem, const AllocatorOptions& options);

/// Always throws: names the first budget that cannot be met with the others, the least value that could, and what the
/// plan would then lose; or every budget that nothing meets; or the side constraints, where they alone cannot hold.
[[noreturn]] void explain_infeasible(const Problem& problem, const SearchOptions& options);

/// Throws base::ConfigError "moesaic map: --allocator: got NAME, expected ...".
[[noreturn]] void refuse(const std::string& allocator, const std::string& expected);

/// explain_infeasible() when no plan meets the problem's budgets, else refuse().
[[noreturn]] void give_up(const Problem& problem, const SearchOptions& options, const std::string& allocator,
                          const std::string& expected);

/// Facts of a choice that proves nothing.
Allocation heuristic(const Problem& problem, const Lowered& lowered, const Choices& choices);

/// Moves, each the one of least added cost per excess removed, until the limits hold. False, with `choices` as far as
/// it got, when no move helps. Then with `fill` the move that saves most cost per share of the budgets, while any fits.
/// Only options in `allowed` (of every item, ascending; all when there is no list) are taken.
bool repair(const ChoiceProgram& program, Choices& choices, bool fill,
            const std::vector<std::vector<int>>& allowed = {});

}  // namespace moesaic::mapping
