// sim/fast's I/O queue by itself, where drawn programs rarely or never go. That it equals the twin in every cycle is
// shown in tests/cosim/fast.
#include "sim/fast/io_queue.h"

#include <algorithm>
#include <catch2/catch.hpp>

using namespace moesaic;
using program::Descriptor;

namespace {

class Bench {
 public:
  fast::IoQueue queue;

  explicit Bench(const program::CoreParams& params) : queue(params) { in_.credits = params.io_credits; }
  /// One cycle; returns what moved.
  fast::IoQueue::Wires cycle(const Descriptor* push, bool ready, int done = -1) {
    in_.push = push;
    in_.req_ready = ready;
    in_.done_valid = done >= 0;
    in_.done_id = static_cast<unsigned>(std::max(done, 0));
    const fast::IoQueue::Wires wires = queue.evaluate(in_);
    queue.clock(in_, wires);
    return wires;
  }

 private:
  fast::IoQueue::Inputs in_;
};

Descriptor load(unsigned job, bool last) {
  Descriptor d;
  d.job = static_cast<std::uint8_t>(job);
  d.last = last;
  d.bytes = 64;
  return d;
}

program::CoreParams small() {
  program::CoreParams params;
  params.io_depth = 4;
  params.io_credits = 2;
  params.io_jobs = 2;
  return params;
}

}  // namespace

TEST_CASE("the fetch side passes the wait of one use of a job once", "[unit][fast]") {
  Bench bench(small());
  const Descriptor d = load(1, true);
  for (int use = 0; use < 2; ++use) {
    CHECK_FALSE(bench.queue.is_fetchable(1));
    REQUIRE(bench.cycle(&d, true).push);
    REQUIRE(bench.cycle(nullptr, true).select);
    REQUIRE(bench.cycle(nullptr, true).accepted);
    CHECK_FALSE(bench.queue.is_released(1));
    REQUIRE(bench.cycle(nullptr, false, 0).done);
    CHECK(bench.queue.is_released(1));
    CHECK(bench.queue.is_fetchable(1));
    bench.queue.pass(1);
    CHECK(bench.queue.is_released(1));
    CHECK_FALSE(bench.queue.is_fetchable(1));
    bench.queue.retire(1);
    CHECK_FALSE(bench.queue.is_released(1));
    CHECK(bench.queue.used_jobs() == 0);
  }
}

TEST_CASE("a descriptor that cannot be is refused, and nothing happens", "[unit][fast]") {
  Bench bench(small());
  const auto refused = [&bench](Descriptor d) { return !bench.cycle(&d, false).push; };
  Descriptor d = load(0, false);
  d.plane = 9;
  CHECK(refused(d));
  CHECK(refused(load(2, false)));
  d = load(0, false);
  d.bytes = 0;
  CHECK(refused(d));
  CHECK(bench.queue.free() == 4);
  CHECK(bench.queue.used_jobs() == 0);
  CHECK_FALSE(refused(load(0, true)));
  CHECK(refused(load(0, false)));                                    // closed
  for (int i = 0; i < 4; ++i) CHECK_FALSE(refused(load(1, false)));  // one has gone to the port
  CHECK(bench.queue.free() == 0);
  CHECK(refused(load(1, false)));
}

TEST_CASE("a completion of a request that the storage has not accepted is dropped and remembered", "[unit][fast]") {
  Bench bench(small());
  const Descriptor d = load(0, true);
  bench.cycle(&d, false);
  bench.cycle(nullptr, false);
  REQUIRE(bench.queue.offers());
  CHECK_FALSE(bench.queue.error());
  CHECK(bench.cycle(nullptr, false, 0).done);
  CHECK(bench.queue.error());
  CHECK(bench.queue.outstanding() == 1);
  bench.cycle(nullptr, true);
  bench.cycle(nullptr, false, 0);
  CHECK(bench.queue.is_released(0));
  CHECK(bench.queue.error());
}
