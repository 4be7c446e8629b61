#pragma once
/// A workload's run on a chip as commands open it: the plan held to chip and workload, the inputs, and with continuous
/// batching the schedule.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/progress.h"
#include "sim/program/chip.h"
#include "sim/run/run_inputs.h"
#include "sim/run/timed_run.h"
#include "workloads/workload_file.h"

namespace moesaic::cli {

struct WorkloadRunOptions {
  std::string plan;           ///< a file, one format for every expert, or empty
  bool foreign_plan = false;  ///< take a file that was made for something else
  std::uint64_t seed = 1;
  std::int64_t threads = 0;  ///< 0: all
  bool data = true, barriers = false;
  bool shortcuts = true;  ///< of the runs that find a schedule
};

class WorkloadRun {
 public:
  /// `chip` and `workload` outlive it. InputError for what does not fit together.
  WorkloadRun(const program::Chip& chip, const workloads::WorkloadFile& workload, const WorkloadRunOptions& options);
  WorkloadRun(const WorkloadRun&) = delete;
  WorkloadRun& operator=(const WorkloadRun&) = delete;

  const run::RunInputs& inputs() const { return inputs_; }
  const run::Scheduler* scheduler() const { return scheduled_ ? &scheduled_->scheduler : nullptr; }
  unsigned threads() const { return options_.threads; }

 private:
  run::InputOptions options_;
  std::unique_ptr<base::Progress> preparing_;
  std::optional<run::ScheduledRun> scheduled_;
  run::RunInputs inputs_;
};

/// Shows a run's share that is done; what it gives is called with thousandths of phases.
std::function<void(std::size_t)> phase_progress(const std::string& label, std::size_t phases);

}  // namespace moesaic::cli
