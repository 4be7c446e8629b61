#pragma once
/// A workload's run that comes into being while it runs: steps are made, and their phases lowered, when the host's
/// agent asks for them, and forgotten when they are over. A survey goes over all steps before: it says what lies in
/// memory from the beginning and what a cache may know of the future.
///
/// In memory are the steps and phases from the running one to the last that was asked for: with a storage the next
/// phase with routed experts, else none beyond the running one. With a policy that needs the future 12 bytes a job lie
/// in temporary files.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/spill_file.h"
#include "sim/program/chip.h"
#include "sim/program/host_agent.h"
#include "sim/program/layer_program.h"
#include "sim/program/phase_source.h"
#include "sim/run/run_inputs.h"
#include "workloads/workload_file.h"

namespace moesaic::run {

/// What experts are in the place of what the inputs say: another plan's formats. Empty: the inputs' own.
using ShapesOf = std::function<program::ShapeOf(const RunInputs& inputs)>;

struct LowerChoices {
  bool barriers = false;  ///< not with a storage
  bool data = true;       ///< false: shapes only
  ShapesOf shapes;        ///< without data only
};

/// Adds the time that it lives.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), start_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point start_;
};

class StreamedProgram final : public program::PhaseSource {
 public:
  /// Inputs and chip outlive it. InputError as program::PhaseLowering and stated_cycles() say, and for a memory that
  /// does not hold the run; ConfigError when the trace has fewer steps before the run than the cache is to start with.
  StreamedProgram(const workloads::WorkloadFile& workload, const RunInputs& inputs, const program::Chip& chip,
                  const LowerChoices& choices);

  std::size_t phases() const override { return inputs_.step_count * inputs_.phases_per_step; }
  /// Of the running phase or a later one.
  const program::LoweredPhase& phase(std::size_t number) override;
  const program::OffloadedExperts& offloaded() const override { return lowering_->program().offloaded.value(); }
  const program::ExpertUses& uses() const override { return uses_; }
  std::uint64_t next_use(std::size_t job) override;

  /// The same phase's inputs. Need not be lowered yet.
  const program::LayerRows& rows(std::size_t number);
  const Step& step_of(std::size_t number) { return step(number / inputs_.phases_per_step).step; }
  bool opens_step(std::size_t number) const { return number % inputs_.phases_per_step == 0; }
  bool closes_step(std::size_t number) const { return opens_step(number + 1); }
  /// The running phase is over and forgotten, its regions too: the next one runs.
  void release();

  /// Without phases, jobs and commands.
  program::RunProgram& program() { return lowering_->program(); }

  double seconds() const { return seconds_; }  ///< spent on making phases

  /// Phases that are lowered and not forgotten, and steps that are made and not forgotten: the most there ever were.
  std::size_t most_phases_held() const { return most_phases_; }
  std::size_t most_steps_held() const { return most_steps_; }

 private:
  StepInputs& step(std::size_t number);
  void survey();
  void survey_jobs(const program::LayerRows& rows);
  void find_next_uses();
  void check_addresses(const program::MemoryImage& image) const;
  void check_capacity();
  std::unique_ptr<program::PhaseLowering> make_lowering(bool data) const;

  const RunInputs& inputs_;
  const program::Chip& chip_;
  LowerChoices choices_;
  std::optional<program::Offloading> offloading_;
  program::ShapeOf shapes_;
  std::unique_ptr<program::PhaseLowering> lowering_;
  std::deque<StepInputs> steps_;  // from number first_step_ on
  std::size_t first_step_ = 0;
  std::deque<program::LoweredPhase> lowered_;  // from number running_ on
  std::size_t running_ = 0;
  std::size_t most_phases_ = 0, most_steps_ = 0;
  double seconds_ = 0;

  // Known from the survey, with a storage.
  struct Use {
    std::uint64_t rows = 0, first = program::ExpertUses::kNever;
  };
  std::map<std::uint32_t, Use> use_of_;  // by key_of(); empty once uses_ is made
  program::ExpertUses uses_;
  std::size_t jobs_ = 0;
  std::unique_ptr<base::SpillFile> expert_of_job_, next_use_;  // where a policy needs the future
};

/// Who offers the program's commands: the chip's cache, or the program with the times before its phases. `program`
/// outlives it.
std::unique_ptr<program::HostAgent> make_agent(const program::Chip& chip, StreamedProgram& program);

}  // namespace moesaic::run
