// sim/program/timed_program: phases that wait; and how cycles are named.
#include "sim/program/timed_program.h"

#include <catch2/catch.hpp>

#include "sim/program/chip.h"
#include "sim/program/engine_run.h"

using namespace moesaic::program;

TEST_CASE("a phase begins its stated cycles after the one before, and not before its cycle", "[unit][program]") {
  const std::vector<Command> commands(4);
  // At once after 5 cycles; 7 after the end; at cycle 100, which is later than 3 after the end; at once.
  const std::vector<TimedPhase> phases{{0, 5, 0}, {1, 7, 0}, {2, 3, 100}, {3, 0, 100}};
  TimedProgram agent(commands, phases);
  const auto run_phase = [&](std::uint64_t end) {
    REQUIRE(agent.commands().size() == 1);
    agent.command_pushed(end - 1);
    CHECK(agent.phase_is_pushed());
    agent.phase_ended(end);
  };
  const auto waits_until = [&](std::uint64_t cycle) {
    CHECK(agent.commands().empty());
    CHECK_FALSE(agent.phase_is_pushed());
    CHECK_FALSE(agent.is_finished());
    CHECK(agent.phase().begin == cycle);
    REQUIRE(agent.wake() == cycle);
    agent.woken(cycle);
    CHECK_FALSE(agent.wake());
  };
  agent.begin();
  waits_until(5);
  CHECK(agent.phase().tag == 0);
  run_phase(20);
  waits_until(27);
  run_phase(50);
  waits_until(100);
  run_phase(130);
  CHECK(agent.phase().begin == 130);
  CHECK(agent.phase().tag == 3);
  CHECK(agent.commands().front().tag == 3);
  run_phase(140);
  CHECK(agent.is_finished());
}

TEST_CASE("a stated cost is its cycles and one for every part of its rate, and nothing costs nothing",
          "[unit][program]") {
  const StatedCost cost{40, 64};
  CHECK(cost.of(0) == 0);
  CHECK(cost.of(1) == 41);
  CHECK(cost.of(64) == 41);
  CHECK(cost.of(65) == 42);
}

TEST_CASE("a blocked array waits for parameters or for the drain, and the last sums are dequantisation",
          "[unit][program]") {
  const auto with = [](std::initializer_list<std::pair<Block, Activity>> blocks) {
    std::uint64_t activity = 0;
    for (const auto& [block, kind] : blocks)
      activity |= static_cast<std::uint64_t>(kind) << (2 * static_cast<unsigned>(block));
    return cause_of(activity);
  };
  using B = Block;
  using A = Activity;
  CHECK(with({{B::kPeArray, A::kBusy}, {B::kGroupDequant, A::kStarved}}) == Cause::kComputing);
  CHECK(with({{B::kPeArray, A::kBlocked}, {B::kGroupDequant, A::kStarved}}) == Cause::kWeights);
  CHECK(with({{B::kPeArray, A::kBlocked}, {B::kGroupDequant, A::kBlocked}}) == Cause::kResults);
  CHECK(with({{B::kTileSequencer, A::kStarved}, {B::kDrain, A::kStarved}}) == Cause::kWeights);
  CHECK(with({{B::kActLoader, A::kBusy}, {B::kGroupDequant, A::kBusy}}) == Cause::kActivations);
  CHECK(with({{B::kGroupDequant, A::kBusy}, {B::kDrain, A::kStarved}}) == Cause::kDequantisation);
  CHECK(with({{B::kDrain, A::kBusy}}) == Cause::kDrain);
  CHECK(with({{B::kScheduler, A::kBlocked}}) == Cause::kIo);
  CHECK(with({{B::kScheduler, A::kBusy}}) == Cause::kCommands);
  CHECK(with({}) == Cause::kHost);
}
