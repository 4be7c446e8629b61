#include "cli/workload_run.h"

#include <algorithm>
#include <thread>

#include "base/error.h"
#include "cli/plan_check.h"

namespace moesaic::cli {
namespace {

class PhaseProgress {
 public:
  PhaseProgress(const std::string& label, std::size_t phases)
      : progress_(label, static_cast<std::int64_t>(phases), 1000) {}
  void operator()(std::size_t thousandths) {
    progress_.step(static_cast<std::int64_t>(thousandths - done_));
    done_ = thousandths;
  }

 private:
  base::Progress progress_;
  std::size_t done_ = 0;
};

}  // namespace

std::function<void(std::size_t)> phase_progress(const std::string& label, std::size_t phases) {
  return [progress = std::make_shared<PhaseProgress>(label, phases)](std::size_t done) { (*progress)(done); };
}

WorkloadRun::WorkloadRun(const program::Chip& chip, const workloads::WorkloadFile& workload,
                         const WorkloadRunOptions& options) {
  options_.plan = options.plan;
  options_.seed = options.seed;
  options_.weights = options.data;
  options_.threads =
      options.threads > 0 ? static_cast<unsigned>(options.threads) : std::max(1U, std::thread::hardware_concurrency());
  bool is_foreign = false;
  check_formats(chip, workload);
  options_.check_plan = [&](const workloads::Plan& plan, bool from_file) {
    check_formats(chip, plan, from_file ? options.plan : "");
    if (!from_file) return;
    check_memory(plan, options.plan, chip, workload);
    try {
      check_made_for(plan, options.plan, chip, workload);
    } catch (const base::InputError&) {
      if (!options.foreign_plan) throw;
      is_foreign = true;
    }
  };
  options_.progress = [this](std::size_t done, std::size_t total) {
    if (!preparing_) preparing_ = std::make_unique<base::Progress>("quantise", static_cast<std::int64_t>(total));
    preparing_->step();
    if (done == total) preparing_.reset();
  };
  if (workload.continuous_requests) {
    scheduled_ = run::find_schedule(workload, chip, options_, options.barriers, {}, options.shortcuts, phase_progress);
    options_.schedule = &scheduled_->scheduler.plan();
  }
  inputs_ = run::open_inputs(workload, options_);
  options_.check_plan = nullptr;  // it looks at what is here
  if (scheduled_)
    for (const run::ScheduledRequest& request : run::scheduled_requests(workload, chip.clock_period()))
      inputs_.arrivals[request.id] = request.arrival;
  if (is_foreign) inputs_.facts.plan += ", made for another chip, trace or selection of its rows";
}

}  // namespace moesaic::cli
