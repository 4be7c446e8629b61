#include "sim/run/schedule.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace moesaic::run {

Scheduler::Scheduler(std::vector<ScheduledRequest> requests, std::uint64_t max_requests)
    : requests_(std::move(requests)), max_requests_(max_requests) {
  std::stable_sort(requests_.begin(), requests_.end(),
                   [](const auto& a, const auto& b) { return a.arrival < b.arrival; });
  plan_ = decide({}, 0);
}

/// Cycles of a batch that has not run: those of the one that is nearest in tokens among those that have.
std::uint64_t Scheduler::guess(const ScheduledBatch& batch) const {
  std::uint64_t cycles = 1;
  std::int64_t nearest = -1;
  for (const auto& [tokens, cost] : costs_) {
    const std::int64_t distance = std::abs(tokens - batch.tokens);
    if (nearest >= 0 && distance > nearest) continue;
    nearest = distance;
    cycles = cost;
  }
  return cycles;
}

/// The first `known` batches end when `ends` says, the others when guessed.
Schedule Scheduler::decide(const std::vector<std::uint64_t>& ends, std::size_t known) const {
  Schedule schedule;
  std::vector<std::size_t> next_step(requests_.size());
  std::vector<std::size_t> running;
  std::size_t waiting = 0;  // the first that is not admitted
  std::uint64_t now = 0;
  while (waiting < requests_.size() || !running.empty()) {
    ScheduledBatch batch;
    const auto add = [&](std::size_t r) {
      const std::size_t step = next_step[r]++;
      batch.members.emplace_back(requests_[r].id, requests_[r].steps[step]);
      batch.tokens += requests_[r].step_tokens[step];
    };
    if (running.empty() && requests_[waiting].arrival > now) now = batch.not_before = requests_[waiting].arrival;
    std::vector<std::size_t> took_part;
    while (waiting < requests_.size() && running.size() < max_requests_ && requests_[waiting].arrival <= now) {
      running.push_back(waiting);
      took_part.push_back(waiting++);
    }
    if (took_part.empty()) took_part = running;
    for (const std::size_t r : took_part) add(r);
    running.erase(std::remove_if(running.begin(), running.end(),
                                 [&](std::size_t r) { return next_step[r] == requests_[r].steps.size(); }),
                  running.end());
    now = schedule.size() < known ? ends[schedule.size()] : now + guess(batch);
    schedule.push_back(std::move(batch));
  }
  return schedule;
}

bool Scheduler::follows_from(const std::vector<std::uint64_t>& ends) const {
  return ends.size() == plan_.size() && decide(ends, ends.size()) == plan_;
}

bool Scheduler::settle(const std::vector<std::uint64_t>& ends) {
  if (ends.size() != plan_.size()) throw std::logic_error("a run of another schedule");
  const Schedule wanted = decide(ends, ends.size());
  if (wanted == plan_) return true;
  // Ends hold up to the first batch that would have been another one.
  const auto different = std::mismatch(wanted.begin(), wanted.end(), plan_.begin(), plan_.end()).second;
  const auto known = static_cast<std::size_t>(different - plan_.begin());
  costs_.clear();
  for (std::size_t b = 0; b < plan_.size(); ++b) {
    const std::uint64_t begin = std::max(b == 0 ? 0 : ends[b - 1], plan_[b].not_before);
    costs_.emplace_back(plan_[b].tokens, ends[b] - begin);
  }
  plan_ = decide(ends, known);
  return false;
}

}  // namespace moesaic::run
