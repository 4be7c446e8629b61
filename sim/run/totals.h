#pragma once
/// What a run's results are, summed up while it goes on: by layer, expert, part, product and request. Memory does not
/// grow with the number of steps; a request takes some 100 bytes.
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/program/chip.h"
#include "sim/program/engine_run.h"
#include "sim/program/layer_program.h"
#include "sim/run/phase_record.h"
#include "sim/run/run_inputs.h"

namespace moesaic::run {

using Causes = std::array<std::uint64_t, program::kNumCauses>;
using PortCounts = std::array<std::uint64_t, program::kNumMemoryPorts>;
using KindBytes = std::array<std::uint64_t, program::kNumKinds>;

struct PartTotals {
  std::uint64_t phases = 0, cycles = 0, plane_adds = 0, stated = 0;
  PortCounts port_bytes{}, refresh{};
  Causes causes{};
};

struct LayerTotals {
  std::uint64_t cycles = 0, rows = 0, plane_adds = 0;
  std::uint64_t stated = 0, arrivals = 0;  ///< cycles of stated costs, of waiting for a request
  std::array<std::uint64_t, program::kNumParts> part_cycles{};
  PortCounts port_bytes{}, refresh{};
  std::uint64_t written_bytes = 0;  ///< by the storage to the memory's model, in the layer's cycles
  Causes causes{};
  KindBytes bytes{};
  program::ActivityCounts activity{};
  program::EngineRun::CacheOfLayer cache;
};

struct ExpertTotals {
  std::uint64_t cycles = 0, rows = 0, steps = 0, plane_adds = 0, bytes_read = 0, loads = 0, loaded_bytes = 0;
};

/// Products of one name, over layers and steps.
struct ProductTotals {
  std::uint64_t rows = 0, cycles = 0, plane_adds = 0;
};

/// When a request's batches ran, in cycles.
struct RequestTimes {
  std::uint64_t arrival = 0, begin = 0, first_end = 0, end = 0;
  std::int64_t prefill_tokens = 0, decode_tokens = 0;
  bool begins_with_prefill = false;

  std::uint64_t end_to_end() const { return end - arrival; }
  std::optional<std::uint64_t> time_to_first_token() const {
    return begins_with_prefill ? std::optional<std::uint64_t>(first_end - arrival) : std::nullopt;
  }
  /// Of the decode steps.
  std::optional<double> time_per_output_token() const {
    if (decode_tokens == 0) return std::nullopt;
    return static_cast<double>(end - (begins_with_prefill ? first_end : begin)) / static_cast<double>(decode_tokens);
  }
};

/// A step that has ended.
struct StepTimes {
  std::uint64_t begin = 0, cycles = 0, end = 0;  ///< `begin`: of its first phase, without what is stated before it
};

class Totals {
 public:
  /// `step_ended` may be empty. Chip and inputs outlive it.
  Totals(const program::Chip& chip, const workloads::WorkloadFile& workload, const RunInputs& inputs,
         std::function<void(const Step& step, const StepTimes& times)> step_ended = {});

  /// base::CheckError when the phase's counts do not add up (check_phase()).
  void phase(const PhaseRecord& record);
  void command() { ++commands; }
  /// A load that has completed.
  void load(const program::EngineRun::Load& load);
  /// The run is over: traffic and caches. base::CheckError as check_loads().
  void close(const program::RunProgram& program, const program::EngineRun& run);

  std::map<int, LayerTotals> layers;
  std::map<std::pair<int, int>, ExpertTotals> experts;  ///< by layer and expert
  std::array<PartTotals, program::kNumParts> parts;
  std::map<std::string, ProductTotals> products;
  std::map<std::uint64_t, RequestTimes> requests;
  std::uint64_t stated = 0, arrivals = 0;
  KindBytes bytes{};
  std::uint64_t padding = 0, all_bytes = 0, plane_adds = 0;
  std::uint64_t expert_rows = 0, expert_plane_adds = 0;  ///< of routed experts
  std::uint64_t steps = 0, commands = 0;                 ///< commands with the host's waits
  std::int64_t prefill_tokens = 0, decode_tokens = 0;
  std::uint64_t loads = 0, loaded_bytes = 0, loaded_granules = 0;  ///< granules: bytes in the storage's whole ones
  program::EngineRun::PhaseEnd last;                               ///< of the run's phases

 private:
  void add_times(const PhaseRecord& record);
  void add_job(const PhaseRecord& record, std::size_t job);
  void end_step(const Step& step);

  const program::Chip& chip_;
  std::int64_t experts_of_layer_;
  const std::map<std::uint64_t, std::uint64_t>& arrival_of_;
  std::function<void(const Step&, const StepTimes&)> step_ended_;
  StepTimes step_;
  std::optional<int> open_layer_;  // of the step at hand
};

/// base::CheckError when the counts of phase `number` do not add up: every block's and the causes' to the cycles, and
/// no more cycles of refresh than waited.
void check_phase(std::size_t number, const program::EngineRun::PhaseEnd& before,
                 const program::EngineRun::PhaseEnd& end);

/// base::CheckError when a DRAM did not take what crossed the ports and what the storage wrote to it.
void check_memory(const program::EngineRun& run);
/// base::CheckError when counts of a run's loads, `loaded` bytes by their descriptors, do not add up: to the bytes that
/// came from the storage and to those that the host asked for; the cache's counts of layers to its counts of the run.
void check_loads(const program::EngineRun& run, std::uint64_t loaded);

}  // namespace moesaic::run
