#pragma once
/// The files that a run leaves behind, but for what depends on the machine that simulated: the same for every engine
/// and for every command that makes or compares them.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/spill_file.h"
#include "sim/program/chip.h"
#include "sim/program/engine_run.h"
#include "sim/run/run_inputs.h"
#include "sim/run/run_recorder.h"
#include "sim/run/schedule.h"
#include "sim/run/streamed_program.h"
#include "sim/run/timeline.h"
#include "workloads/workload_file.h"

namespace moesaic::run {

struct FilesOptions {
  std::string engine;  ///< as results name it
  std::uint64_t seed = 1;
  bool barriers = false, data = true;
  unsigned threads = 1;
  const Scheduler* scheduler = nullptr;  ///< with continuous batching: the schedule must follow from the run
  RunProgress progress;                  ///< may be empty
};

/// What is short: the timeline and the steps' table lie in temporary files.
struct RunTexts {
  std::string summary, layers, experts, requests;
  std::string page;  ///< for people, no file
  std::uint64_t cycles = 0;
};

class RunFiles {
 public:
  /// Temporary files go to `folder` (base::SpillFile). All outlive it. A process may fork between here and make();
  /// either one may then write.
  RunFiles(const program::Chip& chip, const workloads::WorkloadFile& workload, const RunInputs& inputs,
           const std::string& folder)
      : chip_(chip), workload_(workload), inputs_(inputs), timeline_(chip, workload.network, folder), steps_(folder) {}

  /// Runs the program on some engine, which tells `recorder`.
  using Engine = std::function<program::EngineRun(StreamedProgram& program, RunRecorder& recorder)>;
  /// Once. Nothing when the run was cut: then there are no results. base::CheckError when a result differs from the
  /// reference, counts do not add up, or another schedule follows from the run.
  std::optional<RunTexts> make(const FilesOptions& options, const Engine& engine);

  /// After make(), in pieces.
  void write_timeline(const std::function<void(std::string_view piece)>& to) { timeline_.write(to); }
  void write_steps(const std::function<void(std::string_view piece)>& to);

 private:
  const program::Chip& chip_;
  const workloads::WorkloadFile& workload_;
  const RunInputs& inputs_;
  Timeline timeline_;
  base::SpillFile steps_;
};

/// Empty when two texts are equal; else "NAME:LINE: A_NAME `...`, B_NAME `...`": the first lines that differ, from
/// shortly before where they do; of a table (a name that ends in .csv) "NAME:LINE: COLUMN: ...", and its two cells.
std::string first_text_difference(const std::string& name, std::string_view a, std::string_view b,
                                  const std::string& a_name, const std::string& b_name);

/// The same of all files of two runs, in the order in which steps, layers, experts, requests, summary and timeline are
/// worth reading.
std::string first_file_difference(RunFiles& a, const RunTexts& a_texts, RunFiles& b, const RunTexts& b_texts,
                                  const std::string& a_name, const std::string& b_name);

}  // namespace moesaic::run
