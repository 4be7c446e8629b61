#pragma once
/// One kernel case on one core.
#include <string>

#include "reference/numerics/case_file.h"
#include "sim/cosim/core_bench.h"
#include "sim/program/kernel_program.h"

namespace moesaic::cosim {

/// Lowers, runs and reads back. InputError when the core cannot run the case (wider activations than its PEs) or the
/// case is illegal in a way that only shows when it runs (a hidden shift out of 0..62).
numerics::KernelResult run_kernel(CoreBench& bench, const program::CoreParams& params,
                                  const numerics::KernelCase& kernel_case, const program::KernelPlacement& placement,
                                  const BenchOptions& options, const std::string& where);

}  // namespace moesaic::cosim
