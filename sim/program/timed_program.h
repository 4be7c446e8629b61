#pragma once
/// A program that is known from the beginning, whose phases do not begin before they may: so many cycles after the end
/// of the phase before (what goes on beside the chip meanwhile is stated, not simulated), and not before a cycle (when
/// a request arrives). Tags are the indices of commands and phases.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/program/commands.h"
#include "sim/program/host_agent.h"

namespace moesaic::program {

struct TimedPhase {
  std::size_t first_command = 0;
  std::uint64_t after = 0;  ///< cycles between the end of the phase before, or cycle 0, and the beginning of this one
  std::uint64_t at = 0;     ///< it begins in this cycle or later
};

class TimedProgram final : public HostAgent {
 public:
  /// Both outlive it. A phase has at least one command.
  TimedProgram(const std::vector<Command>& commands, const std::vector<TimedPhase>& phases)
      : program_(commands), phases_(phases) {}

 private:
  void on_begin() override { plan_phase(0); }
  void on_phase_ended(std::uint64_t now) override;
  void on_woken(std::uint64_t now) override;
  void plan_phase(std::uint64_t now);
  void begin_phase();

  const std::vector<Command>& program_;
  const std::vector<TimedPhase>& phases_;
  std::size_t at_ = 0;  // the running phase
};

}  // namespace moesaic::program
