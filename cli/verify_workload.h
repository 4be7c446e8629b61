#pragma once
/// `verify` of a workload: the engines beside each other on the first cycles of a real run.
#include <cstdint>
#include <optional>
#include <string>

#include "cli/workload_run.h"
#include "sim/cosim/core_bench.h"
#include "sim/fast/engine.h"
#include "sim/program/chip.h"

namespace moesaic::cli {

struct VerifyWorkloadOptions {
  program::Chip chip;
  std::string workload;  ///< file
  WorkloadRunOptions run;
  bool rtl = false;                         ///< in lock step with the twin
  std::optional<std::uint64_t> max_cycles;  ///< to the run's end without
  std::optional<cosim::BenchOptions::Injection> injection;
  std::int64_t slower = 0;  ///< of verify_shortcuts(): clocks that reads take longer where no shortcut is taken
  std::string waves;
};

struct VerifyWorkloadTotals {
  std::uint64_t cycles = 0, commands = 0, tiles = 0, loads = 0, port_values = 0;
  bool ended = false;  ///< the run is whole
};

/// Runs of the fast engine alone, with its shortcuts: `plain` as `simulate` has them, `eager` with more of them
/// remembered at once.
struct VerifyShortcutsTotals {
  std::uint64_t cycles = 0;  ///< of the run
  bool ended = false;        ///< the run is whole
  fast::Effort plain, eager;
};

/// The workload on the fast engine alone, stepped cycle by cycle and twice with its shortcuts, from its shapes: all
/// that `simulate` writes is equal, byte for byte; of a run that is cut at `max_cycles` every number of EngineRun is.
/// base::CheckError at the first difference.
VerifyShortcutsTotals verify_shortcuts(const VerifyWorkloadOptions& options);

/// The workload on the twin, with `rtl` in lock step with the RTL, and on the fast engine with its shortcuts and
/// without: every number of EngineRun is equal. base::CheckError at the first difference.
VerifyWorkloadTotals verify_workload(const VerifyWorkloadOptions& options);

}  // namespace moesaic::cli
