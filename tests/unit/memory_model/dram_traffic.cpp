#include "tests/unit/memory_model/dram_traffic.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>

namespace moesaic::testing {

using base::Bytes;
using base::Cycles;

Traffic random_traffic(base::Rng& rng, const TrafficShape& shape) {
  Traffic traffic(4);
  for (unsigned port = 0; port < 4; ++port) {
    const std::int64_t beat = std::int64_t{8} << rng.below(3);
    std::uint64_t address = shape.base;
    std::int64_t now = rng.range(0, 50);
    for (std::int64_t left = 0; static_cast<std::int64_t>(traffic[port].size()) < shape.beats; --left) {
      if (left <= 0) {
        left = rng.chance(1, 2) ? rng.range(1, 64) : rng.range(1, 3);
        address =
            shape.base + rng.below(shape.span) / static_cast<std::uint64_t>(beat) * static_cast<std::uint64_t>(beat);
        if (rng.chance(1, 8)) now += rng.range(0, 2000);
      } else if (rng.chance(9, 10)) {
        address += static_cast<std::uint64_t>(beat);  // else the same beat once more
      }
      if (rng.chance(1, 4)) now += rng.range(0, 4);
      traffic[port].push_back({now, {port, port >= 2, address, Bytes(beat)}});
    }
  }
  return traffic;
}

namespace {

/// From beat `first` on: how many may be submitted now that lie one behind the other.
std::size_t row_from(const std::vector<PlannedBeat>& beats, std::size_t first, std::int64_t now) {
  std::size_t count = 1;
  for (; first + count < beats.size() && beats[first + count].not_before <= now; ++count) {
    const memory::Request &before = beats[first + count - 1].request, &beat = beats[first + count].request;
    if (beat.address != before.address + static_cast<std::uint64_t>(before.bytes.count())) break;
  }
  return count;
}

}  // namespace

TrafficRun drive(memory::MemoryModel& model, const Traffic& traffic, bool every_cycle, bool rows) {
  TrafficRun run;
  run.ports.resize(traffic.size());
  std::vector<std::size_t> next(traffic.size(), 0), taken(traffic.size(), 0);
  std::vector<std::optional<memory::MemoryModel::Coming>> promise(traffic.size());  // of each port's oldest beat
  const auto keeps = [&promise](std::size_t port, std::int64_t now) {
    if (!promise[port]) return;
    const std::int64_t cycle = promise[port]->cycle.count();
    if (promise[port]->known ? cycle != now : cycle > now)
      throw std::logic_error("a beat was promised for cycle " + std::to_string(cycle) + " and came in " +
                             std::to_string(now));
    promise[port].reset();
  };
  for (std::int64_t now = 0;;) {
    ++run.visits;
    bool left = false;
    std::int64_t due = INT64_MAX;  // the next planned beat
    for (std::size_t port = 0; port < traffic.size(); ++port) {
      const auto& beats = traffic[port];
      auto& done = run.ports[port];
      if (beats.empty()) continue;
      const bool is_write = beats.front().request.is_write;
      for (std::int64_t ready = model.finished(static_cast<unsigned>(port), is_write, Cycles(now)); ready > 0;
           --ready) {
        keeps(port, now);
        model.take(static_cast<unsigned>(port), is_write);
        done[taken[port]++].finished = now;
        run.end = now;
      }
      while (next[port] < beats.size() && beats[next[port]].not_before <= now) {
        const std::size_t count = rows ? row_from(beats, next[port], now) : 1;
        const memory::Request& request = beats[next[port]].request;
        const std::size_t accepted =
            rows ? static_cast<std::size_t>(model.submit_row(request, static_cast<std::int64_t>(count), Cycles(now)))
                 : std::size_t{model.submit(request, Cycles(now))};
        done.resize(done.size() + accepted, {now, -1});
        next[port] += accepted;
        if (accepted < count) break;
        for (auto& other : promise)
          if (other && !other->known) other.reset();
      }
      if (next[port] < beats.size() && beats[next[port]].not_before > now)
        due = std::min(due, beats[next[port]].not_before);
      left = left || next[port] < beats.size() || taken[port] < beats.size();
    }
    if (!left) return run;
    for (std::size_t port = 0; port < traffic.size(); ++port) {
      if (traffic[port].empty() || promise[port]) continue;
      promise[port] = model.coming(static_cast<unsigned>(port), traffic[port].front().request.is_write, Cycles(now));
      if (promise[port] && promise[port]->cycle <= Cycles(now)) throw std::logic_error("a beat that was not finished");
      if (!promise[port] && taken[port] < next[port]) throw std::logic_error("a beat of which the model knows nothing");
    }
    if (every_cycle) {
      ++now;
      continue;
    }
    const auto change = model.next_change(Cycles(now));
    if (change && *change <= Cycles(now)) throw std::logic_error("a next change that is not after now");
    const std::int64_t to = std::min(due, change ? change->count() : INT64_MAX);
    if (to == INT64_MAX) throw std::logic_error("beats are owed and nothing ever changes");
    now = to;
  }
}

}  // namespace moesaic::testing
