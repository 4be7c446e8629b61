#include "sim/cosim/kernel_run.h"

#include "base/error.h"

namespace moesaic::cosim {

numerics::KernelResult run_kernel(CoreBench& bench, const program::CoreParams& params,
                                  const numerics::KernelCase& kernel_case, const program::KernelPlacement& placement,
                                  const BenchOptions& options, const std::string& where) {
  program::KernelProgram program = program::kernel_program(kernel_case, params, placement, where);
  program::MemoryImage& memory = program.loaded.image;
  const BenchRun run = bench.run(program.loaded.commands, {0}, memory, options);
  if (run.shift_error)
    throw base::ConfigError(where, "down.requant_shift", "a shift sigma - eh out of range", "0 to 62");
  if (run.any_error()) throw base::CheckError(where + ": status register: got an error, expected none");
  return program::kernel_result(kernel_case, program, memory);
}

}  // namespace moesaic::cosim
