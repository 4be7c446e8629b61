// sim/run/schedule: what a scheduler in the loop would have decided.
#include "sim/run/schedule.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "base/rng.h"

using namespace moesaic;
using run::Schedule;
using run::ScheduledRequest;
using run::Scheduler;

namespace {

using Members = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

ScheduledRequest request(std::uint64_t id, std::uint64_t arrival, std::uint64_t steps, std::int64_t prompt = 10) {
  ScheduledRequest r;
  r.id = id;
  r.arrival = arrival;
  for (std::uint64_t s = 0; s < steps; ++s) {
    r.steps.push_back(s);
    r.step_tokens.push_back(s == 0 ? prompt : 1);
  }
  return r;
}

/// A chip on which a batch takes as long as this says.
std::uint64_t cost(const run::ScheduledBatch& batch) {
  return 7 + 3 * static_cast<std::uint64_t>(batch.tokens) + batch.members.size();
}

std::vector<std::uint64_t> run_plan(const Schedule& plan) {
  std::vector<std::uint64_t> ends;
  std::uint64_t now = 0;
  for (const run::ScheduledBatch& batch : plan) {
    now = std::max(now, batch.not_before) + cost(batch);
    ends.push_back(now);
  }
  return ends;
}

/// The same policy with the clock in the loop, written down a second time.
Schedule in_the_loop(std::vector<ScheduledRequest> requests, std::uint64_t most) {
  struct Running {
    const ScheduledRequest* request;
    std::size_t step;
  };
  std::vector<const ScheduledRequest*> queue;
  for (const auto& r : requests) queue.push_back(&r);
  std::stable_sort(queue.begin(), queue.end(), [](const auto* a, const auto* b) { return a->arrival < b->arrival; });
  std::vector<Running> running;
  Schedule schedule;
  std::uint64_t now = 0;
  while (!queue.empty() || !running.empty()) {
    run::ScheduledBatch batch;
    if (running.empty() && queue.front()->arrival > now) batch.not_before = now = queue.front()->arrival;
    const std::size_t old = running.size();
    while (!queue.empty() && running.size() < most && queue.front()->arrival <= now) {
      running.push_back({queue.front(), 0});
      queue.erase(queue.begin());
    }
    for (std::size_t i = running.size() > old ? old : 0; i < running.size(); ++i) {
      Running& r = running[i];
      batch.members.emplace_back(r.request->id, r.request->steps[r.step]);
      batch.tokens += r.request->step_tokens[r.step++];
    }
    std::vector<Running> left;
    for (const Running& r : running)
      if (r.step < r.request->steps.size()) left.push_back(r);
    running = left;
    now += cost(batch);
    schedule.push_back(batch);
  }
  return schedule;
}

}  // namespace

TEST_CASE("what has arrived is prefilled together, what runs is decoded together, and nothing runs before it arrives",
          "[unit][run]") {
  // Cost of a batch: 7 + 3 a token + 1 a request.
  Scheduler scheduler({request(0, 100, 3), request(1, 100, 2), request(2, 139, 2), request(3, 500, 1)}, 8);
  while (!scheduler.settle(run_plan(scheduler.plan()))) {
  }
  const Schedule& plan = scheduler.plan();
  REQUIRE(plan.size() == 5);
  CHECK(plan[0].members == Members{{0, 0}, {1, 0}});
  CHECK(plan[0].not_before == 100);  // ends at 100 + 7 + 60 + 2 = 169, when request 2 is there
  CHECK(plan[1].members == Members{{2, 0}});
  CHECK(plan[2].members == Members{{0, 1}, {1, 1}, {2, 1}});
  CHECK(plan[3].members == Members{{0, 2}});
  CHECK(plan[4].members == Members{{3, 0}});
  CHECK(plan[4].not_before == 500);
}

TEST_CASE("no more requests run than may, and the next one comes when one leaves", "[unit][run]") {
  Scheduler scheduler({request(0, 0, 2), request(1, 0, 3), request(2, 0, 1)}, 2);
  while (!scheduler.settle(run_plan(scheduler.plan()))) {
  }
  std::vector<Members> batches;
  for (const auto& batch : scheduler.plan()) batches.push_back(batch.members);
  CHECK(batches == std::vector<Members>{{{0, 0}, {1, 0}}, {{0, 1}, {1, 1}}, {{2, 0}}, {{1, 2}}});
}

TEST_CASE("the schedule that settles is the one of a scheduler that sees the clock", "[unit][run]") {
  base::Rng rng(61);
  std::size_t runs = 0;
  for (int i = 0; i < 200; ++i) {
    std::vector<ScheduledRequest> requests;
    for (std::uint64_t id = 0, n = 1 + rng.below(12); id < n; ++id)
      requests.push_back(request(id, rng.below(900), 1 + rng.below(9), rng.range(1, 40)));
    const std::uint64_t most = 1 + rng.below(6);
    Scheduler scheduler(requests, most);
    do {
      ++runs;
      REQUIRE(runs < 100000);
    } while (!scheduler.settle(run_plan(scheduler.plan())));
    CHECK(scheduler.plan() == in_the_loop(requests, most));
    std::vector<std::uint64_t> ends = run_plan(scheduler.plan());
    CHECK(scheduler.follows_from(ends));
  }
  CHECK(runs > 200);       // guesses were wrong
  CHECK(runs < 200 * 12);  // but not often
}

TEST_CASE("ends from which another schedule follows are noticed", "[unit][run]") {
  Scheduler scheduler({request(0, 0, 2), request(1, 50, 1)}, 4);
  while (!scheduler.settle(run_plan(scheduler.plan()))) {
  }
  std::vector<std::uint64_t> ends = run_plan(scheduler.plan());  // the prefill ends at 38, the decode step at 49
  CHECK(scheduler.follows_from(ends));
  for (std::uint64_t& end : ends) end += 20;
  CHECK_FALSE(scheduler.follows_from(ends));
}
