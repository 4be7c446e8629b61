#pragma once
/// Ways to choose the formats, all on the same problem.
///
///   optimal  the exact minimum of the additive loss within the budget (multiple_choice.h)
///   uniform  one format for every expert: of those that all have and that fit, the one of least loss
///   random   every expert draws a format at random; experts drawn at random fall to a cheaper format until the plan
///   fits,
///            then rise to the next dearer one while any rise still fits: at most the budget, and near it
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/registry.h"
#include "mapping/checker.h"
#include "mapping/problem.h"

namespace moesaic::mapping {

struct Allocation {
  Assignment assignment;
  /// For the plan file: "status", "bound" ..., in this order.
  std::vector<std::pair<std::string, std::string>> facts;
  std::optional<Claim::Certificate> certificate;
};

/// A problem, its budget and a seed -> an assignment within the budget. InputError when the budget is below
/// least_bytes(), with that number in the text.
struct Allocator {
  std::function<Allocation(const Problem&, std::int64_t budget, std::uint64_t seed)> allocate;
  bool takes_seed = false;
};

void add_builtin_allocators(base::Registry<Allocator>& allocators);

Allocation allocate_optimal(const Problem& problem, std::int64_t budget);
Allocation allocate_uniform(const Problem& problem, std::int64_t budget);
Allocation allocate_random(const Problem& problem, std::int64_t budget, std::uint64_t seed);

}  // namespace moesaic::mapping
