#pragma once
/// Continuous batching (iteration-level scheduling, Orca, OSDI 2022): between two steps the scheduler looks at the
/// clock and decides what the next step is.
///
///   prefill first   requests that have arrived are admitted, in the order of their arrival, while fewer than
///                   `max_requests` run; all that were admitted have their first step together
///   else            every running request has its next step, together
///   else            nothing runs: the chip waits for the next arrival
///
/// A request leaves with its last step. What each request would do in each step is the trace's; when is decided here.
///
/// Decisions depend on when steps end, and that on the decisions before. The whole schedule is found by running it:
/// settle() plans with the ends that are known, guesses the others, and is told what really happened, until the plan
/// that follows from the run's own ends is the plan that ran. What ran is then what a scheduler in the loop would have
/// decided; guesses decide only how often the run is repeated.
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace moesaic::run {

struct ScheduledRequest {
  std::uint64_t id = 0;
  std::uint64_t arrival = 0;              ///< cycle
  std::vector<std::uint64_t> steps;       ///< in order
  std::vector<std::int64_t> step_tokens;  ///< of each
};

struct ScheduledBatch {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> members;  ///< request, step
  std::uint64_t not_before = 0;                                  ///< cycle: the arrival that it waits for, else 0
  std::int64_t tokens = 0;
  bool operator==(const ScheduledBatch& o) const { return members == o.members && not_before == o.not_before; }
};
using Schedule = std::vector<ScheduledBatch>;

class Scheduler {
 public:
  /// `requests` in order of arrival, then as given. max_requests >= 1.
  Scheduler(std::vector<ScheduledRequest> requests, std::uint64_t max_requests);

  /// The plan to run next.
  const Schedule& plan() const { return plan_; }
  /// When each batch of the plan ended. True: the plan follows from these ends; false: there is a new plan.
  bool settle(const std::vector<std::uint64_t>& ends);
  /// Whether the plan follows from these ends; changes nothing.
  bool follows_from(const std::vector<std::uint64_t>& ends) const;

 private:
  Schedule decide(const std::vector<std::uint64_t>& ends, std::size_t known) const;
  std::uint64_t guess(const ScheduledBatch& batch) const;

  std::vector<ScheduledRequest> requests_;
  std::uint64_t max_requests_;
  Schedule plan_;
  std::vector<std::pair<std::int64_t, std::uint64_t>> costs_;  ///< tokens and cycles of batches that ran
};

}  // namespace moesaic::run
