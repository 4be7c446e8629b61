#pragma once
/// One kernel case as a program: where its operands lie, its commands, and where its results will be.
#include <cstdint>
#include <string>
#include <vector>

#include "base/rng.h"
#include "reference/numerics/case_file.h"
#include "sim/program/program.h"

namespace moesaic::program {

/// A program and the memory that it runs against.
struct Loaded {
  std::vector<Command> commands;
  MemoryImage image;
};

/// Where a case's results lie, and its weights.
struct KernelPlaces {
  std::uint64_t first = 0;                            ///< acc (product), h (expert)
  std::uint64_t second = 0;                           ///< y
  std::uint64_t first_stride = 0, second_stride = 0;  ///< bytes from token to token
  std::vector<WeightObject> weights;                  ///< by address; none in a combination
};

struct KernelProgram : KernelPlaces {
  Loaded loaded;
};

struct KernelPlacement {
  numerics::LayoutKind layout = numerics::LayoutKind::kTileMajor;
  std::uint64_t base = 0;  ///< of the memory image, a multiple of 64
  bool scatter = false;    ///< rows at odd addresses with gaps between them, drawn from `seed`
  std::uint64_t seed = 0;
};

/// Appends a case to a program that may hold others already; `placement.base` is not used. InputError when the core
/// cannot run the case (activations wider than its PEs).
KernelPlaces append_kernel(const numerics::KernelCase& kernel_case, const CoreParams& params,
                           const KernelPlacement& placement, const std::string& where, Loaded& to);
/// A program of one case.
KernelProgram kernel_program(const numerics::KernelCase& kernel_case, const CoreParams& params,
                             const KernelPlacement& placement, const std::string& where);
/// The results, out of the memory after a run.
numerics::KernelResult kernel_result(const numerics::KernelCase& kernel_case, const KernelPlaces& places,
                                     const MemoryImage& memory);

}  // namespace moesaic::program
