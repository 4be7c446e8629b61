#pragma once
/// Random beats for a memory, and two who submit them: one asks in every cycle, one only when something can change.
#include <cstdint>
#include <vector>

#include "base/rng.h"
#include "models/memory/memory_model.h"

namespace moesaic::testing {

struct PlannedBeat {
  std::int64_t not_before = 0;  ///< cycle
  memory::Request request;
};
/// Each port's beats, in its order.
using Traffic = std::vector<std::vector<PlannedBeat>>;

struct TrafficShape {
  std::int64_t beats = 400;      ///< of each port
  std::uint64_t span = 1 << 16;  ///< bytes that addresses are drawn from
  std::uint64_t base = 0;
};
/// Ports 0 and 1 read, ports 2 and 3 write: streams, single beats, the same burst again, pauses.
Traffic random_traffic(base::Rng& rng, const TrafficShape& shape);

struct Done {
  std::int64_t submitted = 0, finished = 0;
};
inline bool operator==(const Done& a, const Done& b) { return a.submitted == b.submitted && a.finished == b.finished; }
struct TrafficRun {
  std::vector<std::vector<Done>> ports;
  std::int64_t end = 0;      ///< cycle in which the last beat finished
  std::uint64_t visits = 0;  ///< cycles in which the model was asked
};

/// `every_cycle`: asks in each cycle; else only when a beat is due or next_change() says so. `pause` of 1 in n beats
/// finished are taken one cycle late. `rows`: beats that lie one behind the other are submitted together.
/// std::logic_error where next_change() or coming() is wrong.
TrafficRun drive(memory::MemoryModel& model, const Traffic& traffic, bool every_cycle, bool rows = false);

}  // namespace moesaic::testing
