#include "sim/program/phase_source.h"

#include <algorithm>
#include <utility>

namespace moesaic::program {

bool is_offloaded(const OffloadedExperts& stored, const RunProgram::Job& job) {
  return job.expert >= 0 && job.expert < stored.experts;
}

std::size_t stored_index(const OffloadedExperts& stored, int layer, int expert) {
  const auto at = std::lower_bound(stored.layers.begin(), stored.layers.end(), layer) - stored.layers.begin();
  return static_cast<std::size_t>(at) * static_cast<std::size_t>(stored.experts) + static_cast<std::size_t>(expert);
}

TimedProgram::Next timed_work(PhaseSource& source, bool barriers) {
  return [&source, barriers, p = std::size_t{0}, j = std::size_t{0}]() mutable -> std::optional<TimedWork> {
    if (p == source.phases()) return std::nullopt;
    const LoweredPhase& phase = source.phase(p);
    TimedWork work;
    work.phase = {phase.phase.first_command, phase.phase.after, phase.phase.at};
    std::size_t end = phase.command_end();
    if (barriers) {  // what a layer waits for its first job waits for
      if (j > 0) work.phase = {phase.jobs[j].first_command, 0, 0};
      end = phase.job_end(j);
    }
    work.commands = phase.commands.data() + (work.phase.first_command - phase.phase.first_command);
    work.count = end - work.phase.first_command;
    if (!barriers || ++j == phase.jobs.size()) {
      ++p;
      j = 0;
    }
    return work;
  };
}

WholeProgram::WholeProgram(const RunProgram& program) : program_(program) {
  const auto& commands = program.loaded.commands;
  std::size_t job = 0;
  for (std::size_t p = 0; p < program.phases.size(); ++p) {
    LoweredPhase& phase = phases_.emplace_back();
    phase.phase = program.phases[p];
    phase.number = p;
    phase.first_job = job;
    while (job < program.jobs.size() && program.jobs[job].phase == p) phase.jobs.push_back(program.jobs[job++]);
    const std::size_t end = p + 1 < program.phases.size() ? program.phases[p + 1].first_command : commands.size();
    phase.commands.assign(commands.begin() + static_cast<std::ptrdiff_t>(phase.phase.first_command),
                          commands.begin() + static_cast<std::ptrdiff_t>(end));
  }
  if (!program.offloaded) return;
  const OffloadedExperts& stored = *program.offloaded;
  uses_.popularity.assign(stored.layout.size(), 0);
  uses_.first.assign(stored.layout.size(), ExpertUses::kNever);
  next_use_.assign(program.jobs.size(), ExpertUses::kNever);
  for (std::size_t j = program.jobs.size(); j-- > 0;) {
    const RunProgram::Job& one = program.jobs[j];
    if (!is_offloaded(stored, one)) continue;
    const std::size_t expert = stored_index(stored, program.phases[one.phase].layer, one.expert);
    uses_.popularity[expert] += static_cast<std::uint64_t>(one.rows);
    next_use_[j] = std::exchange(uses_.first[expert], j);
  }
}

}  // namespace moesaic::program
