#include "mapping/latency_search.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace moesaic::mapping {
namespace {

using Limits = std::vector<std::int64_t>;
using Capacity = std::vector<std::optional<std::int64_t>>;

bool keeps(const LatencyTrial& trial, const Limits& limits) {
  for (std::size_t l = 0; l < limits.size(); ++l)
    if (trial.simulated[l] > limits[l]) return false;
  return true;
}

bool is_within(const LatencyTrial& trial, const Capacity& capacity) {
  for (std::size_t l = 0; l < capacity.size(); ++l)
    if (capacity[l] && trial.used[l] > *capacity[l]) return false;
  return true;
}

class Search {
 public:
  Search(const Limits& wanted, const LatencyQuestions& ask) : wanted_(wanted), ask_(ask) {}

  LatencyAnswer run() {
    if (wanted_.size() == 1)
      descend();
    else
      descend_together();
    for (const LatencyTrial& trial : answer_.tried)
      if (keeps(trial, wanted_) && (!answer_.kept || trial.loss < answer_.kept->loss)) answer_.kept = trial;
    return std::move(answer_);
  }

 private:
  struct Rung {
    LatencyTrial trial;
    Capacity capacity;
  };

  LatencyTrial remember(LatencyTrial trial) {
    if (std::none_of(answer_.tried.begin(), answer_.tried.end(),
                     [&](const LatencyTrial& known) { return known.plan == trial.plan; }))
      answer_.tried.push_back(trial);
    return trial;
  }

  /// Rung after rung, until one keeps what is wanted, and the halvings above it; or, if none does, above the one whose
  /// plan has the least latency.
  void descend() {
    Capacity capacity(1);
    std::vector<Rung> ladder = {{remember(*ask_.within(capacity)), capacity}};
    if (keeps(ladder.back().trial, wanted_)) return;
    const std::int64_t most = ladder.front().trial.used[0], least = ask_.least()[0];
    for (int rung = 1; rung <= kLatencyRungs; ++rung) {
      capacity[0] = most - (most - least) * rung / kLatencyRungs;
      if (is_within(ladder.back().trial, capacity)) continue;  // it is this rung's plan too
      std::optional<LatencyTrial> trial = ask_.within(capacity);
      if (!trial) break;
      ladder.push_back({remember(*std::move(trial)), capacity});
      if (!keeps(ladder.back().trial, wanted_)) continue;
      halve(std::prev(ladder.end(), 2)->trial.used, capacity);
      return;
    }
    ladder.push_back({remember(ask_.fastest()), {}});
    ladder.back().capacity = {ladder.back().trial.used[0]};
    const auto best = std::min_element(ladder.begin(), ladder.end(), [](const Rung& a, const Rung& b) {
      return a.trial.simulated < b.trial.simulated;
    });
    if (best == ladder.begin()) return;
    halve(std::prev(best)->trial.used, best->capacity);
  }

  /// Of several limits each falls by what it is missed by, until all are kept, and the halvings above.
  void descend_together() {
    Capacity capacity(wanted_.size());
    LatencyTrial last = remember(*ask_.within(capacity));
    if (keeps(last, wanted_)) return;
    const Limits least = ask_.least();
    Limits above = last.used;
    for (int step = 2; step <= kLatencySteps; ++step) {
      for (std::size_t l = 0; l < wanted_.size(); ++l) {
        if (last.simulated[l] > wanted_[l]) {
          above[l] = last.used[l];
          capacity[l] = std::max(least[l], last.used[l] - (last.simulated[l] - wanted_[l]));
        }
        // Behind the simple memory no run takes longer than its table.
        if (step == kLatencySteps) capacity[l] = std::min(wanted_[l], capacity[l].value_or(wanted_[l]));
      }
      const std::optional<LatencyTrial> trial = is_within(last, capacity) ? std::nullopt : ask_.within(capacity);
      if (!trial) break;
      last = remember(*trial);
      if (keeps(last, wanted_)) return halve_if_far(last, above, capacity);
    }
    last = remember(ask_.fastest());
    if (!keeps(last, wanted_)) return;
    for (std::size_t l = 0; l < wanted_.size(); ++l)
      if (capacity[l]) capacity[l] = last.used[l];
    halve_if_far(last, above, capacity);
  }

  void halve_if_far(const LatencyTrial& kept, const Limits& above, const Capacity& below) {
    if (!is_near(kept, below)) halve(above, below);
  }

  /// Of several limits, those that bind are used but for a hundredth: not worth more plans.
  bool is_near(const LatencyTrial& trial, const Capacity& capacity) const {
    for (std::size_t l = 0; l < wanted_.size(); ++l)
      if (capacity[l] && trial.simulated[l] < wanted_[l] - wanted_[l] / 100) return false;
    return wanted_.size() > 1;
  }

  /// Between a plan that adds up to `above` and misses the limits, and additive budgets `below` whose plan keeps them.
  void halve(Limits above, Capacity below) {
    for (int step = 0; step < kLatencyHalvings; ++step) {
      Capacity middle = below;
      for (std::size_t l = 0; l < wanted_.size(); ++l)
        if (below[l] && above[l] > *below[l]) *middle[l] += (above[l] - *below[l]) / 2;
      if (middle == below) return;
      std::optional<LatencyTrial> trial = ask_.within(middle);
      if (trial) remember(*trial);
      if (trial && keeps(*trial, wanted_)) {
        if (is_near(*trial, middle)) return;
        below = middle;
        continue;
      }
      for (std::size_t l = 0; l < wanted_.size(); ++l)
        if (below[l] && (!trial || trial->simulated[l] > wanted_[l]))
          above[l] = trial ? std::clamp(trial->used[l], *below[l], *middle[l]) : *middle[l];
    }
  }

  const Limits& wanted_;
  const LatencyQuestions& ask_;
  LatencyAnswer answer_;
};

}  // namespace

LatencyAnswer search_latency(const std::vector<std::int64_t>& wanted, const LatencyQuestions& ask) {
  return Search(wanted, ask).run();
}

}  // namespace moesaic::mapping
