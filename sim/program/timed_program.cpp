#include "sim/program/timed_program.h"

#include <algorithm>

namespace moesaic::program {

/// Opens the next phase; its commands are offered when it begins.
void TimedProgram::plan_phase(std::uint64_t now) {
  const std::uint64_t begin = std::max(now + phases_[at_].after, phases_[at_].at);
  open_phase({at_, begin});
  if (begin > now)
    set_wake(begin);
  else
    begin_phase();
}

void TimedProgram::begin_phase() {
  const std::size_t end = at_ + 1 < phases_.size() ? phases_[at_ + 1].first_command : program_.size();
  for (std::size_t i = phases_[at_].first_command; i < end; ++i) offer(program_[i], i);
  close_phase();
}

void TimedProgram::on_woken(std::uint64_t) {
  set_wake(std::nullopt);
  begin_phase();
}

void TimedProgram::on_phase_ended(std::uint64_t now) {
  ++at_;
  if (at_ < phases_.size())
    plan_phase(now);
  else
    finish();
}

}  // namespace moesaic::program
