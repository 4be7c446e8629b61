#pragma once
/// The search for a plan whose simulated latency keeps its budgets. A solver adds latencies up; what counts is the
/// simulation, which may be below the sum or several times above it, and need not fall when the sum does. So additive
/// budgets are tried, and the plans that the solver makes within them are simulated.
///
/// A limit is the model's latency, or one layer's. The first plan has no additive budget; if it misses a limit,
///
///   one limit       the additive budget falls rung by rung, by kLatencyRungs equal steps from what the first plan adds
///                   up to, to the least, until a plan keeps the limit
///   several limits  the additive budget of each that is missed falls by what it is missed by, to no less than the
///                   least, until a plan keeps them all, for kLatencySteps plans at most
///
/// and kLatencyHalvings halvings follow between the budgets that are kept and those before; of several limits until
/// each that binds is used but for a hundredth. The answer is the best plan tried that keeps every limit.
///
/// With one limit the plans of the rungs do not depend on what is wanted, and where a halving is depends only on which
/// plans before it were too slow. So, whatever the simulation says:
///
///   - what a rung's plan keeps is never refused;
///   - a greater limit is never refused where a lesser one is kept;
///   - with a solver whose loss does not fall as its additive budget falls (an exact one that nothing stops), a greater
///     limit never gives a plan of greater loss: two searches part only where a plan keeps the greater limit and misses
///     the lesser, and from there on the first tries wider additive budgets and the second narrower ones.
///
/// Where no rung's plan keeps the limit, the halvings are above the one of least latency: the three hold of what they
/// find too.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace moesaic::mapping {

/// A plan of the solver's, simulated.
struct LatencyTrial {
  std::size_t plan = 0;  ///< the caller's name for it; equal plans have one
  std::int64_t loss = 0;
  std::vector<std::int64_t> used;       ///< added up, of every limit
  std::vector<std::int64_t> simulated;  ///< of every limit
};

/// What the search asks of its caller.
struct LatencyQuestions {
  /// The plan within these additive budgets, one a limit, nothing where one does not bind. Nothing when there is none
  /// within them; of budgets that do not bind at all there is one.
  std::function<std::optional<LatencyTrial>(const std::vector<std::optional<std::int64_t>>& capacity)> within;
  /// The least that a plan adds up to, of every limit. Asked when the first plan misses one.
  std::function<std::vector<std::int64_t>()> least;
  /// A plan of least latency, added up over the model. Asked when no rung keeps every limit.
  std::function<LatencyTrial()> fastest;
};

struct LatencyAnswer {
  std::optional<LatencyTrial> kept;  ///< the plan of least loss that keeps every limit, if any plan tried does
  /// Of the plans tried, in order; a plan that was met again stands here once.
  std::vector<LatencyTrial> tried;
};

inline constexpr int kLatencyRungs = 16;
inline constexpr int kLatencySteps = 8;
inline constexpr int kLatencyHalvings = 8;
/// The first plan, one a rung and a halving, and the fastest, which an exact solver finds as the last rung's.
inline constexpr int kMostLatencyPlans = 1 + kLatencyRungs + kLatencyHalvings + 1;

/// `wanted`: of every limit.
LatencyAnswer search_latency(const std::vector<std::int64_t>& wanted, const LatencyQuestions& ask);

}  // namespace moesaic::mapping
