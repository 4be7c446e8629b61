#include "sim/run/run_recorder.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "reference/network/forward.h"

namespace moesaic::run {

void RunRecorder::compute_data(const program::CoreParams& core, const program::MemoryImage* storage) {
  interpreter_.emplace(core, program_.program().loaded.image);
  storage_ = storage;
}

void RunRecorder::command(const program::OfferedCommand& command, std::uint64_t executed,
                          const program::CommandWork& work) {
  if (interpreter_) {
    const Stopwatch stopwatch(seconds_);
    interpreter_->run({command.command});
  }
  if (options_.totals != nullptr) options_.totals->command();
  const program::LoweredPhase& lowered = program_.phase(phase_);
  const std::uint64_t before = std::exchange(last_executed_, executed);
  if (command.tag < lowered.phase.first_command || command.tag >= lowered.command_end()) return;  // the host's wait
  executed_.resize(lowered.commands.size());
  executed_before_.resize(lowered.commands.size());
  work_.resize(lowered.commands.size());
  const std::size_t index = command.tag - lowered.phase.first_command;
  executed_[index] = executed;
  executed_before_[index] = before;
  work_[index] = work;
  ++done_;
  report_progress();
}

void RunRecorder::report_progress() {
  if (!options_.progress) return;
  options_.progress(1000 * phase_ + 1000 * done_ / program_.phase(phase_).commands.size());
}

void RunRecorder::phase(const program::EngineRun::PhaseEnd& end) {
  const program::LoweredPhase& lowered = program_.phase(phase_);
  if (program_.program().barriers && ++jobs_ended_ < lowered.jobs.size()) return;
  const Stopwatch stopwatch(seconds_);
  if (options_.check) check(lowered);
  const PhaseRecord record{phase_,
                           program_.step_of(phase_),
                           program_.opens_step(phase_),
                           program_.closes_step(phase_),
                           program_.rows(phase_),
                           lowered,
                           before_,
                           end,
                           std::move(executed_),
                           std::move(executed_before_),
                           std::move(work_)};
  if (options_.totals != nullptr) options_.totals->phase(record);
  if (options_.timeline != nullptr) options_.timeline->phase(record);
  if (options_.phase_ended) options_.phase_ended(record);
  executed_.clear();
  executed_before_.clear();
  work_.clear();
  before_ = end;
  jobs_ended_ = done_ = 0;
  ++phase_;
  program_.release();
}

/// What the phase left in memory against reference/numerics.
void RunRecorder::check(const program::LoweredPhase& lowered) {
  if (expected_.empty()) {
    expected_.resize(std::min<std::size_t>(options_.threads, program_.phases() - phase_));
    std::vector<const program::LayerRows*> rows;
    for (std::size_t i = 0; i < expected_.size(); ++i) rows.push_back(&program_.rows(phase_ + i));
    network::for_each_window(expected_.size(), options_.threads, [&](std::size_t i) {
      expected_[i] = program::layer_reference(*rows[i], inputs_.weights, inputs_.matrices, inputs_.shape);
    });
  }
  const std::string difference = program::first_layer_difference(program_.rows(phase_), expected_.front(),
                                                                 lowered.phase, program_.program().loaded.image);
  if (!difference.empty()) throw base::CheckError(difference);
  values_compared_ += static_cast<std::int64_t>(expected_.front().values());
  expected_.pop_front();
}

void RunRecorder::load_issued(std::size_t number, const program::EngineRun::Load& load) {
  if (options_.timeline != nullptr) options_.timeline->load_issued(number, load);
}

void RunRecorder::load_completed(std::size_t number, const program::EngineRun::Load& load) {
  if (interpreter_) {
    const Stopwatch stopwatch(seconds_);
    const program::Descriptor& d = load.descriptor;
    std::vector<std::uint8_t> bytes(d.bytes);
    storage_->read(d.source, bytes.data(), d.bytes);
    program_.program().loaded.image.write(d.destination, bytes.data(), d.bytes);
  }
  if (options_.totals != nullptr) options_.totals->load(load);
  if (options_.timeline != nullptr) options_.timeline->load_completed(number, load);
}

}  // namespace moesaic::run
