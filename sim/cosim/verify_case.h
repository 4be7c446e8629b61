#pragma once
/// One random case of `moesaic verify`: one to three kernel cases, one after the other on a build, with memory, layout,
/// placement and stalls, all drawn from (seed, index). In two cases of five the weights lie in storage at first and the
/// I/O queue loads them. One case of five is a run of layers in the kernels' place, its experts in a storage and the
/// host driver's cache between. Run on the twin and the RTL in lock step; outputs are compared with the CPU reference
/// as well.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "reference/numerics/case_file.h"
#include "sim/cosim/core_bench.h"
#include "sim/program/chip.h"
#include "sim/program/engine_run.h"
#include "sim/program/host_agent.h"
#include "sim/program/kernel_program.h"
#include "sim/program/load_program.h"

namespace moesaic::cosim {

/// Which build a case runs on: cheap, so that cases of one build can share a process.
std::size_t draw_build(std::uint64_t seed, std::uint64_t index, std::size_t builds);

struct VerifyCase {
  std::vector<numerics::KernelCase> kernels;  ///< the weights of one are fetched while the one before computes
  bool in_phases = false;                     ///< each kernel waits until the core is idle
  program::CoreParams lowering;  ///< the build's, now and then with smaller buffers, so that chunks and spills happen
  program::KernelPlacement placement;
  /// Weights come from storage: this is what their descriptors and the places of the waits are drawn from.
  std::optional<std::uint64_t> load_seed;
  /// Commands and loads come into being while the program runs, as a DrawnAgent of this seed offers them.
  std::optional<std::uint64_t> agent_seed;
  /// Layers with an expert cache (program::random_offload), drawn from this, in the kernels' place.
  std::optional<std::uint64_t> offload_seed;
  std::optional<numerics::LayoutKind> offload_layout;  ///< of the chip, when one is given
  BenchOptions bench;
  std::string text;  ///< "r8c8p2a16 tile_major simple stalls mpgemm int3 m3 n17 k70 ..."
  std::vector<std::string>
      configurations;  ///< build, layout, memory, operation, format and activation width of each kernel
};

/// `chip`, when given, fixes memory and layout.
VerifyCase draw_case(std::uint64_t seed, std::uint64_t index, const Build& build, const program::Chip* chip);

/// A case's kernels as one program.
struct LoweredCase {
  program::Loaded loaded;
  std::vector<std::size_t> phases;
  std::vector<program::KernelPlaces> places;  ///< of each kernel
  program::LoadProgram loads;
};
LoweredCase lower_case(const VerifyCase& verify_case);
/// Who offers it to an engine; one for each run.
std::unique_ptr<program::HostAgent> agent_of(const VerifyCase& verify_case, const LoweredCase& lowered);

struct VerifyOutcome {
  std::uint64_t cycles = 0;
  std::uint64_t port_values = 0;
  std::uint64_t loads = 0;  ///< descriptors whose planes were loaded from storage
  program::EngineRun run;
  program::MemoryImage memory;  ///< as the run left it
};

/// Moves the weights of the kernel whose commands begin at `first` from `to.image` to `loads.storage`, adds descriptors
/// for them and inserts waits before the products that read them. One or two jobs, with ids from `next_job` on, modulo
/// `params.io_jobs`; an expert's down projection may have its own. What is drawn: how planes are cut, experts,
/// requests, the order of pushing, when each is pushed (after `loads`' last, not before command `earliest`), and where
/// the waits stand.
void add_loads(base::Rng& rng, const program::KernelPlaces& places, const program::CoreParams& params,
               std::size_t first, std::size_t earliest, unsigned& next_job, program::Loaded& to,
               program::LoadProgram& loads);

/// base::CheckError at the first difference.
VerifyOutcome run_case(CoreBench& bench, const VerifyCase& verify_case);

/// Of draw_case(), for engines whose totals are compared: tiles are watched; half of all cases, those of even index,
/// have no stalls, which leaves room for shortcuts; one in three comes into being while it runs; one in eight is cut
/// before its end, unless it ends earlier, and its results are then not looked at.
VerifyCase draw_totals_case(std::uint64_t seed, std::uint64_t index, const Build& build, const program::Chip* chip);
/// Any core of docs/core.md's table, small ones more often: for engines that take any array.
Build draw_core(std::uint64_t seed, std::uint64_t index);

/// The fast engine beside another engine's run of the same work.
struct FastComparison {
  std::vector<program::Command> executed;  ///< in the order of their execution
  std::uint64_t shortened = 0;             ///< cycles that were not stepped
};
/// The same work for one run: the agent that offers it, the memory's image, and what both stand on.
struct Work {
  std::shared_ptr<void> owner;
  std::unique_ptr<program::HostAgent> agent;
  const program::MemoryImage* image = nullptr;
};
/// Runs on the fast engine, with its shortcuts and without, what `new_work` makes (once for each run) and compares
/// every number of EngineRun with `run`, that of the engine `name` under `bench`. base::CheckError at the first
/// difference.
FastComparison compare_with_fast(const program::EngineRun& run, const std::string& name,
                                 const program::CoreParams& params, const std::function<Work()>& new_work,
                                 const BenchOptions& bench);

struct TotalsOutcome {
  std::uint64_t cycles = 0, port_values = 0, tiles = 0, loads = 0;
  std::uint64_t shortened = 0;  ///< cycles that the fast engine did not step
};
/// Runs the case on the bench's engines (the first shows its array, as the twin does) and on the fast engine, with its
/// shortcuts and without: every number of EngineRun must be equal, and memory byte for byte. base::CheckError at the
/// first difference.
TotalsOutcome run_totals_case(CoreBench& bench, const program::CoreParams& params, const VerifyCase& verify_case);

}  // namespace moesaic::cosim
