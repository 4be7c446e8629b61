#include "sim/program/host_agent.h"

#include <catch2/catch.hpp>

using namespace moesaic::program;

namespace {

std::vector<Command> numbered(std::size_t count) {
  std::vector<Command> commands(count);
  for (std::size_t i = 0; i < count; ++i) commands[i].n = static_cast<std::uint32_t>(i);
  return commands;
}

void push_all(HostAgent& agent) {
  while (!agent.commands().empty()) agent.command_pushed(1);
}

}  // namespace

TEST_CASE("a fixed program offers a phase's commands once the phase before it has ended", "[unit][program]") {
  const std::vector<Command> commands = numbered(5);
  const std::vector<std::size_t> phases{0, 2, 2};
  FixedProgram program(commands, phases);
  CHECK(program.commands().empty());
  program.begin();
  REQUIRE(program.commands().size() == 2);
  CHECK(program.commands()[1].tag == 1);
  CHECK_FALSE(program.phase_is_pushed());
  push_all(program);
  CHECK(program.phase_is_pushed());
  CHECK(program.commands().empty());
  program.phase_ended(40);
  CHECK(program.phase_is_pushed());  // the second phase has no commands
  CHECK(program.phase().begin == 40);
  program.phase_ended(41);
  REQUIRE(program.commands().size() == 3);
  CHECK(program.commands()[0].command.n == 2);
  CHECK(program.phase().tag == 2);
  push_all(program);
  CHECK_FALSE(program.is_finished());
  program.phase_ended(90);
  CHECK(program.is_finished());
  CHECK_FALSE(program.phase_is_pushed());
}

TEST_CASE("a fixed program offers a load after the commands before its own, not before that one's phase",
          "[unit][program]") {
  const std::vector<Command> commands = numbered(4);
  const std::vector<std::size_t> phases{0, 2};
  LoadProgram loads;
  for (const std::size_t command : {0, 1, 2, 3}) {
    Descriptor d;
    d.expert = static_cast<std::uint16_t>(command);
    loads.loads.push_back({d, command});
  }
  FixedProgram program(commands, phases, &loads);
  program.begin();
  REQUIRE(program.loads().size() == 1);
  program.load_pushed(1);
  CHECK(program.loads().empty());
  program.command_pushed(2);
  CHECK(program.loads().size() == 1);
  program.command_pushed(3);
  CHECK(program.loads().size() == 1);  // the third one's phase has not begun
  program.phase_ended(4);
  CHECK(program.loads().size() == 2);
  program.command_pushed(5);
  REQUIRE(program.loads().size() == 3);
  CHECK(program.loads().back().expert == 3);
}
