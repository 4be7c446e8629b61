#pragma once
/// Stands between an engine and results: makes a PhaseRecord of what the engine tells, holds the phase's data to
/// reference/numerics, tells those who sum up, and has the program forget the phase.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sim/program/host_agent.h"
#include "sim/program/interpreter.h"
#include "sim/program/layer_program.h"
#include "sim/program/run_log.h"
#include "sim/run/phase_record.h"
#include "sim/run/streamed_program.h"
#include "sim/run/timeline.h"
#include "sim/run/totals.h"

namespace moesaic::run {

/// Called with a run's name and the number of its phases when it begins; what it gives is called with how many
/// thousandths of phases are done, and is gone when the run ends. May be empty.
using RunProgress = std::function<std::function<void(std::size_t)>(const std::string& label, std::size_t phases)>;

struct RecorderOptions {
  /// All may be empty or null; they are told in this order.
  Totals* totals = nullptr;
  Timeline* timeline = nullptr;
  std::function<void(const PhaseRecord& record)> phase_ended;
  /// Results are held to the reference: the program was lowered with data.
  bool check = false;
  /// For the reference's results: those of so many phases are computed at once, and are in memory together.
  unsigned threads = 1;
  /// Called as the run goes on with the share of it that is done, in thousandths of phases. May be empty.
  std::function<void(std::size_t thousandths)> progress;
};

class RunRecorder final : public program::RunSink {
 public:
  /// `program` and what the options name outlive it.
  RunRecorder(const RunInputs& inputs, StreamedProgram& program, RecorderOptions options)
      : inputs_(inputs), program_(program), options_(std::move(options)) {}

  /// For an engine without data: commands and loads are also executed here, when the engine has (program::Interpreter).
  /// Both outlive it.
  void compute_data(const program::CoreParams& core, const program::MemoryImage* storage);

  void command(const program::OfferedCommand& command, std::uint64_t executed,
               const program::CommandWork& work) override;
  /// base::CheckError: a result differs, or counts do not add up.
  void phase(const program::EngineRun::PhaseEnd& end) override;
  void load_issued(std::size_t number, const program::EngineRun::Load& load) override;
  void load_completed(std::size_t number, const program::EngineRun::Load& load) override;

  std::int64_t values_compared() const { return values_compared_; }
  /// Some shift was out of range; of data that was computed here.
  bool shift_error() const { return interpreter_ && interpreter_->shift_error(); }
  /// Spent here and on the program's steps, which is not the engine's time.
  double seconds_beside() const { return seconds_ + program_.seconds(); }

 private:
  void check(const program::LoweredPhase& lowered);
  void report_progress();

  const RunInputs& inputs_;
  StreamedProgram& program_;
  RecorderOptions options_;
  std::optional<program::Interpreter> interpreter_;
  const program::MemoryImage* storage_ = nullptr;
  std::size_t phase_ = 0;       // that runs
  std::size_t jobs_ended_ = 0;  // of it, with barriers
  std::size_t done_ = 0;        // commands of it
  std::uint64_t last_executed_ = 0;
  std::vector<std::uint64_t> executed_, executed_before_;  // of the phase's commands
  std::vector<program::CommandWork> work_;                 // likewise
  program::EngineRun::PhaseEnd before_;
  std::deque<program::LayerResult> expected_;  // from phase_ on
  std::int64_t values_compared_ = 0;
  double seconds_ = 0;
};

}  // namespace moesaic::run
