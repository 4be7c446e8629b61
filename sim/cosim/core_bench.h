#pragma once
/// The bench around one core: a host on AXI4-Lite, a memory on the AXI4 ports and a storage on the storage port, for
/// the twin, a Verilated build, or both in lock step: every output port is compared in every cycle, just before the
/// rising edge. Same seed, same run.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/memory/memory_model.h"
#include "models/storage/core_storage.h"
#include "sim/cosim/core_engine.h"
#include "sim/program/engine_run.h"
#include "sim/program/host_agent.h"
#include "sim/program/load_program.h"
#include "sim/program/run_log.h"

namespace moesaic::cosim {

struct BenchOptions {
  memory::MemoryConfig memory;
  base::Femtoseconds period{2000000};  ///< of the core's clock, for memories with a clock of their own
  /// Another model in the place of the one that `memory` describes.
  std::function<std::unique_ptr<memory::MemoryModel>()> make_memory;
  storage::SimpleStorageConfig storage;
  /// Another model in the place of the one that `storage` describes; told which memory it may write to.
  std::function<std::unique_ptr<storage::CoreStorage>(memory::MemoryModel&)> make_storage;
  /// Random stalls on every channel of every port, each with its own rate.
  std::optional<std::uint64_t> stall_seed;
  /// Flips bit `bit` of the second engine's outputs (all ports' bits in order) in cycle `cycle`: the run must then
  /// fail.
  struct Injection {
    unsigned bit = 0;
    std::uint64_t cycle = 0;
  };
  std::optional<Injection> injection;
  /// Cycles in which no block does anything before the run counts as stuck, on top of the memory's longest wait.
  std::uint64_t watchdog_cycles = 20000;
  /// Fill EngineRun::tiles, from the first engine, which must show its array's beats (the twin does).
  bool watch_tiles = false;
  /// The host starts every phase knowing nothing: it writes all staging words and asks for room. What a phase takes
  /// then does not depend on the phases before it.
  bool fresh_phases = false;
  /// Stop when so many cycles have passed, if the run has not ended by then: EngineRun::cut says where it was.
  std::optional<std::uint64_t> max_cycles;
  /// Called with the number of commands executed so far.
  std::function<void(std::size_t)> progress;
  /// Told what happens, in the place of the lists of BenchRun::engine.
  program::RunSink* sink = nullptr;
};

struct BenchRun {
  program::EngineRun engine;
  std::uint64_t bench_cycles = 0;          ///< with reset and the reading of the counters
  std::uint64_t port_values_compared = 0;  ///< 0 without a second engine
  bool shift_error = false, memory_error = false, command_error = false, storage_error = false;
  std::string memory_name, storage_name;
  bool any_error() const { return shift_error || memory_error || command_error || storage_error; }
};

/// Sum of the output ports' bits.
unsigned output_bits(const program::CoreParams& params);

class CoreBench {
 public:
  /// The host and the memory follow `engine`; `second`, when given, is compared with it.
  explicit CoreBench(std::unique_ptr<CoreEngine> engine, std::unique_ptr<CoreEngine> second = nullptr);
  ~CoreBench();
  CoreBench(const CoreBench&) = delete;
  CoreBench& operator=(const CoreBench&) = delete;

  /// Waves of both engines; returns the files' names. Before the first run.
  std::vector<std::string> open_waves(const std::string& path);

  /// Resets the core, pushes what the agent offers until it is finished and the core idle, reads and checks the core's
  /// counters. `image` is updated in place; the agent may add regions before it offers commands that use them, and the
  /// sink remove those of a phase when it ends. A run that is cut ends where it is:
  /// its counters are not read.
  /// base::CheckError: a difference between the engines, a broken protocol, a read of a plane that is not loaded,
  /// counters that do not add up, a stuck run.
  BenchRun run(program::HostAgent& agent, program::MemoryImage& image, const BenchOptions& options);
  /// The same for a program that is known from the beginning (program::FixedProgram).
  BenchRun run(const std::vector<program::Command>& commands, const std::vector<std::size_t>& phases,
               program::MemoryImage& image, const BenchOptions& options, const program::LoadProgram* loads = nullptr);

 private:
  class Run;
  std::unique_ptr<CoreEngine> engine_, second_;
};

}  // namespace moesaic::cosim
