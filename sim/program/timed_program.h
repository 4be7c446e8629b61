#pragma once
/// A program whose phases follow each other and do not begin before they may: so many cycles after the end of the phase
/// before (what goes on beside the chip meanwhile is stated, not simulated), and not before a cycle (when a request
/// arrives). Each is asked for when the one before it has ended. Tags are the numbers of commands and phases in the
/// run.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "sim/program/commands.h"
#include "sim/program/host_agent.h"

namespace moesaic::program {

struct TimedPhase {
  std::size_t first_command = 0;
  std::uint64_t after = 0;  ///< cycles between the end of the phase before, or cycle 0, and the beginning of this one
  std::uint64_t at = 0;     ///< it begins in this cycle or later
};

/// A phase with its commands, at least one, which stay where they are until it has ended.
struct TimedWork {
  TimedPhase phase;
  const Command* commands = nullptr;
  std::size_t count = 0;
};

class TimedProgram final : public HostAgent {
 public:
  /// Gives one phase after the other, then nothing.
  using Next = std::function<std::optional<TimedWork>()>;
  explicit TimedProgram(Next next) : next_(std::move(next)) {}
  /// Of a program that is known from the beginning. Both outlive it.
  TimedProgram(const std::vector<Command>& commands, const std::vector<TimedPhase>& phases);

 private:
  void on_begin() override { plan_phase(0); }
  void on_phase_ended(std::uint64_t now) override { plan_phase(now); }
  void on_woken(std::uint64_t now) override;
  void plan_phase(std::uint64_t now);
  void begin_phase();

  Next next_;
  std::size_t phases_ = 0;  // that were asked for
  TimedWork running_;
};

}  // namespace moesaic::program
