#include "sim/program/timed_program.h"

#include <algorithm>

namespace moesaic::program {

TimedProgram::TimedProgram(const std::vector<Command>& commands, const std::vector<TimedPhase>& phases)
    : next_([&commands, &phases, at = std::size_t{0}]() mutable -> std::optional<TimedWork> {
        if (at == phases.size()) return std::nullopt;
        const TimedPhase& phase = phases[at++];
        const std::size_t end = at < phases.size() ? phases[at].first_command : commands.size();
        return TimedWork{phase, commands.data() + phase.first_command, end - phase.first_command};
      }) {}

/// Opens the next phase; its commands are offered when it begins.
void TimedProgram::plan_phase(std::uint64_t now) {
  const std::optional<TimedWork> next = next_();
  if (!next) return finish();
  running_ = *next;
  const std::uint64_t begin = std::max(now + running_.phase.after, running_.phase.at);
  open_phase({phases_++, begin});
  if (begin > now)
    set_wake(begin);
  else
    begin_phase();
}

void TimedProgram::begin_phase() {
  for (std::size_t i = 0; i < running_.count; ++i) offer(running_.commands[i], running_.phase.first_command + i);
  close_phase();
}

void TimedProgram::on_woken(std::uint64_t) {
  set_wake(std::nullopt);
  begin_phase();
}

}  // namespace moesaic::program
