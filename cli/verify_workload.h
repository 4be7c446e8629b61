#pragma once
/// `verify` of a workload: the engines beside each other on the first cycles of a real run.
#include <cstdint>
#include <optional>
#include <string>

#include "cli/workload_run.h"
#include "sim/cosim/core_bench.h"
#include "sim/program/chip.h"

namespace moesaic::cli {

struct VerifyWorkloadOptions {
  program::Chip chip;
  std::string workload;  ///< file
  WorkloadRunOptions run;
  bool rtl = false;                         ///< in lock step with the twin
  std::optional<std::uint64_t> max_cycles;  ///< to the run's end without
  std::optional<cosim::BenchOptions::Injection> injection;
  std::string waves;
};

struct VerifyWorkloadTotals {
  std::uint64_t cycles = 0, commands = 0, tiles = 0, loads = 0, port_values = 0;
  bool ended = false;  ///< the run is whole
};

/// The workload on the twin, with `rtl` in lock step with the RTL, and on the fast engine with its shortcuts and
/// without: every number of EngineRun is equal. base::CheckError at the first difference.
VerifyWorkloadTotals verify_workload(const VerifyWorkloadOptions& options);

}  // namespace moesaic::cli
