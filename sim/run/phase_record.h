#pragma once
/// A phase of a run that has ended: all that results take from it. When it was told to those who sum up (RunRecorder),
/// it is forgotten.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/program/engine_run.h"
#include "sim/program/layer_program.h"
#include "sim/run/run_inputs.h"

namespace moesaic::run {

struct PhaseRecord {
  std::size_t number = 0;
  const Step& step;
  bool opens_step = false, closes_step = false;
  const program::LayerRows& rows;
  const program::LoweredPhase& lowered;
  const program::EngineRun::PhaseEnd& before;  ///< the end of the phase before, or zeros
  const program::EngineRun::PhaseEnd& end;
  /// Of each command: when it was executed, and when the one before it was, in the order of execution, in which a
  /// `wait` may stand between any two; 0 for the run's first.
  std::vector<std::uint64_t> executed, executed_before;
  std::vector<program::CommandWork> work;  ///< of each command

  /// Cycle in which it began: when the phase before it had ended, what is stated had gone on and its request was there.
  std::uint64_t begin() const { return std::max(before.cycles + lowered.phase.after, lowered.phase.at); }
  /// The same of a command, by its index in the phase.
  std::uint64_t command_begin(std::size_t command) const { return std::max(begin(), executed_before[command]); }
  /// Index in the phase of a job's first command, and of the one behind its last.
  std::size_t first_of(std::size_t job) const { return lowered.jobs[job].first_command - lowered.phase.first_command; }
  std::size_t end_of(std::size_t job) const { return lowered.job_end(job) - lowered.phase.first_command; }
};

}  // namespace moesaic::run
