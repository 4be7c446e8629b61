// models/memory
#include "models/memory/simple_memory.h"

#include <catch2/catch.hpp>
#include <vector>

#include "base/rng.h"

using namespace moesaic;
using base::Bytes;
using base::Cycles;
using memory::MemoryConfig;
using memory::Request;

namespace {

const base::Femtoseconds kPeriod(2000000);

Request beat(unsigned port, std::int64_t bytes, bool is_write = false) { return {port, is_write, 4096, Bytes(bytes)}; }

/// The first cycle at which `count` beats of a port have finished.
std::int64_t finish(memory::MemoryModel& model, unsigned port, std::int64_t count, bool is_write = false) {
  std::int64_t now = 0;
  while (model.finished(port, is_write, Cycles(now)) < count) ++now;
  return now;
}

}  // namespace

TEST_CASE("a lone beat finishes one transfer and one latency after it was asked for, and not a cycle earlier",
          "[unit][memory]") {
  const auto model = memory::make_memory({"simple", 20, 10, 8}, kPeriod);
  REQUIRE(model->submit(beat(0, 8), Cycles(100)));
  CHECK(model->finished(0, false, Cycles(120)) == 0);
  CHECK(model->finished(0, false, Cycles(121)) == 1);
  REQUIRE(model->submit(beat(0, 8, true), Cycles(200)));
  CHECK(model->finished(0, true, Cycles(210)) == 0);
  CHECK(model->finished(0, true, Cycles(211)) == 1);
}

TEST_CASE("no window of cycles moves more bytes than the bandwidth allows", "[unit][memory]") {
  const MemoryConfig config{"simple", 5, 7, 12};
  const auto model = memory::make_memory(config, kPeriod);
  base::Rng rng(7);
  std::vector<std::int64_t> moved(4000, 0);
  std::int64_t taken = 0, submitted = 0;
  for (std::int64_t now = 0; now < 4000; ++now) {
    for (unsigned port = 0; port < 3; ++port)
      if (now < 3000 && rng.below(3) == 0 && submitted - taken < 64) {
        REQUIRE(model->submit(beat(port, 8, port == 2), Cycles(now)));
        ++submitted;
      }
    for (unsigned port = 0; port < 3; ++port)
      while (model->finished(port, port == 2, Cycles(now)) > 0) {
        model->take(port, port == 2);
        // What finishes now was moved one latency ago.
        moved[static_cast<std::size_t>(now - (port == 2 ? 7 : 5))] += 8;
        ++taken;
      }
  }
  CHECK(taken == submitted);
  CHECK(taken > 1000);
  for (std::size_t first = 0; first < moved.size(); first += 37) {
    std::int64_t sum = 0;
    for (std::size_t length = 1; first + length <= moved.size() && length < 60; ++length) {
      sum += moved[first + length - 1];
      REQUIRE(sum <= 12 * static_cast<std::int64_t>(length) + 8);  // a beat may begin in the cycle before
    }
  }
}

TEST_CASE("ports share the bandwidth first come, first served, and each port's answers keep their order",
          "[unit][memory]") {
  const auto model = memory::make_memory({"simple", 3, 3, 8}, kPeriod);
  for (int i = 0; i < 4; ++i) REQUIRE(model->submit(beat(0, 8), Cycles(0)));
  REQUIRE(model->submit(beat(1, 8), Cycles(0)));
  CHECK(finish(*model, 0, 1) == 4);
  CHECK(finish(*model, 0, 4) == 7);
  CHECK(finish(*model, 1, 1) == 8);
  model->reset();
  CHECK(model->finished(0, false, Cycles(1000)) == 0);
  REQUIRE(model->submit(beat(1, 8), Cycles(0)));
  CHECK(finish(*model, 1, 1) == 4);
}

TEST_CASE("a beat wider than the bandwidth takes as many cycles as it needs", "[unit][memory]") {
  const auto model = memory::make_memory({"simple", 1, 1, 4}, kPeriod);
  for (int i = 0; i < 3; ++i) REQUIRE(model->submit(beat(0, 32), Cycles(0)));
  CHECK(finish(*model, 0, 1) == 9);
  CHECK(finish(*model, 0, 3) == 25);
}

TEST_CASE("the next change is the next finish of any port, and there is none when nothing is owed", "[unit][memory]") {
  const auto model = memory::make_memory({"simple", 20, 10, 8}, kPeriod);
  CHECK_FALSE(model->next_change(Cycles(0)).has_value());
  REQUIRE(model->submit(beat(0, 8), Cycles(100)));
  REQUIRE(model->submit(beat(2, 8, true), Cycles(100)));
  CHECK(model->next_change(Cycles(100)) == Cycles(112));
  CHECK(model->next_change(Cycles(111)) == Cycles(112));
  CHECK(model->next_change(Cycles(112)) == Cycles(121));
  CHECK_FALSE(model->next_change(Cycles(121)).has_value());
}

TEST_CASE("of posted writes 64 beats are taken ahead, which have no answer and take their bandwidth",
          "[unit][memory]") {
  const auto model = memory::make_memory({"simple", 20, 10, 8}, kPeriod);
  memory::Request posted = beat(3, 16, true);
  posted.posted = true;
  for (int i = 0; i < 64; ++i) CHECK(model->submit(posted, Cycles(100)));
  CHECK_FALSE(model->submit(posted, Cycles(100)));
  CHECK(model->next_change(Cycles(100)) == Cycles(102));  // two cycles a beat
  CHECK_FALSE(model->submit(posted, Cycles(101)));
  // A memory in the same state, at another time.
  std::vector<std::int64_t> state;
  REQUIRE(model->export_state(Cycles(101), state));
  const auto other = memory::make_memory({"simple", 20, 10, 8}, kPeriod);
  other->import_state(Cycles(1), state);
  CHECK(other->next_change(Cycles(1)) == Cycles(2));
  CHECK_FALSE(other->submit(posted, Cycles(1)));
  for (const auto& [memory, now] : {std::pair(model.get(), Cycles(102)), std::pair(other.get(), Cycles(2))}) {
    CHECK(memory->submit(posted, now));
    CHECK_FALSE(memory->submit(posted, now));
    CHECK(memory->finished(3, true, now + Cycles(1000)) == 0);
    // Another port's read waits for all of them: 64 are left.
    CHECK(memory->submit(beat(0, 8, false), now));
    CHECK(memory->finished(0, false, now + Cycles(128 + 1 + 20) - Cycles(1)) == 0);
    CHECK(memory->finished(0, false, now + Cycles(128 + 1 + 20)) == 1);
  }
}

TEST_CASE("a memory that takes over another's state at another time answers as the other does", "[unit][memory]") {
  base::Rng rng(8);
  for (int round = 0; round < 200; ++round) {
    const memory::MemoryConfig config{"simple", rng.range(1, 30), rng.range(1, 30), rng.range(1, 40)};
    const auto one = memory::make_memory(config, kPeriod), other = memory::make_memory(config, kPeriod);
    std::int64_t now = rng.range(0, 50);
    const auto act = [&](memory::MemoryModel& model, std::int64_t at, unsigned port, bool submits) {
      const bool is_write = port == 2;
      if (submits) model.submit(beat(port, 16, is_write), Cycles(at));
      const std::int64_t finished = model.finished(port, is_write, Cycles(at));
      if (finished > 0) model.take(port, is_write);
      return finished;
    };
    for (int i = 0; i < 40; ++i)
      act(*one, now += rng.range(0, 2), static_cast<unsigned>(rng.below(3)), rng.chance(2, 3));
    std::vector<std::int64_t> state, again;
    REQUIRE(one->export_state(Cycles(now), state));
    const std::int64_t shift = rng.range(0, 1000);
    other->submit(beat(1, 64), Cycles(3));  // forgotten
    other->import_state(Cycles(now + shift), state);
    REQUIRE(other->export_state(Cycles(now + shift), again));
    REQUIRE(again == state);
    for (int i = 0; i < 100; ++i) {
      const auto port = static_cast<unsigned>(rng.below(3));
      const bool submits = rng.chance(1, 3);
      now += rng.range(0, 3);
      REQUIRE(act(*one, now, port, submits) == act(*other, now + shift, port, submits));
      const auto next = one->next_change(Cycles(now)), other_next = other->next_change(Cycles(now + shift));
      REQUIRE(next.has_value() == other_next.has_value());
      if (next) REQUIRE(*other_next - *next == Cycles(shift));
    }
  }
}

TEST_CASE("results name the memory model with its numbers", "[unit][memory]") {
  CHECK(memory::make_memory({"simple", 20, 10, 16}, kPeriod)->name() ==
        "simple(read latency 20 cycles, write latency 10 cycles, 16 bytes/cycle)");
}
