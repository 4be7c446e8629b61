#pragma once
/// Exact minimum of a ChoiceProgram: branch and bound with Lagrangian bounds.
///
/// Every limit is priced by a multiplier; what is left decomposes by item, so that a bound costs one look at every
/// option (Fisher, The Lagrangian relaxation method for solving integer programming
/// problems, Management Science 27, 1981). Multipliers come from exact line
/// searches along one limit at a time and along the last round's direction, then from subgradient steps with Polyak's
/// length; they are rounded to num / 2^32, so that every bound that prunes is a ratio of integers evaluated in 128
/// bits. A bound drops options whose reduced cost shows that no better answer takes them, which leaves the few
/// undecided items that are branched on (the core), depth first, most promising option first. Dominated options go
/// before. Items that share no limit, directly or through others, are solved apart.
///
/// Anytime: `bound` never exceeds the optimum and `cost` never falls below it, whenever the search stops. Deterministic
/// unless a time limit stops it. Of several optimal choices the lexicographically first is returned.
#include <cstdint>
#include <functional>
#include <optional>

#include "mapping/choice_program.h"

namespace moesaic::mapping {

struct SearchState {
  std::optional<std::int64_t> cost;  ///< of the best choice known
  std::int64_t bound = 0;            ///< no choice costs less
  std::int64_t nodes = 0;
};

struct SearchOptions {
  /// Effort, all phases together: a node counts 1, and 1 more for every 32 undecided items in it.
  std::int64_t node_limit = 200000;
  double gap = 0;                        ///< stop once cost - bound <= gap * cost
  std::optional<double> time_limit_s{};  ///< of wall-clock time: where the search then stops depends on the machine
  std::function<void(const SearchState&)> progress;  ///< called after the root and at each improvement
};

enum class SearchStatus {
  kOptimal,     ///< cost == bound
  kFeasible,    ///< stopped by the gap or a limit; cost - bound is the gap
  kInfeasible,  ///< proved
  kUnknown      ///< stopped before any choice within the limits was found
};

struct ProgramSolution {
  SearchStatus status = SearchStatus::kUnknown;
  Choices choices;          ///< kOptimal and kFeasible
  std::int64_t cost = 0;    ///< of choices
  std::int64_t bound = 0;   ///< of every choice; nothing proves more
  Certificate certificate;  ///< the root's bound alone
  std::int64_t nodes = 0;
  bool first = false;  ///< proved: no optimal choice is lexicographically before `choices`
};

ProgramSolution solve_program(const ChoiceProgram& program, const SearchOptions& options);

}  // namespace moesaic::mapping
