#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/registry.h"
#include "cli/commands.h"
#include "reference/cuda/availability.h"
#include "reference/cuda/run_case.h"
#include "reference/numerics/case_file.h"
#include "sim/cosim/builds.h"
#include "sim/cosim/kernel_run.h"
#include "sim/program/chip.h"

namespace moesaic::cli {

namespace {

/// The simulated core that the back ends cycle and rtl use; the others refuse these options.
struct CoreChoice {
  std::string chip;
  std::string build;
  bool is_given() const { return !chip.empty() || !build.empty(); }
};

/// Computes a case that read_case() has accepted; `where` is the case's file, for messages.
/// Every back end gives the same result, bit for bit, or throws base::InputError.
using KernelBackend = std::function<numerics::KernelResult(const numerics::KernelCase& kernel_case,
                                                           const CoreChoice& core, const std::string& where)>;

void refuse_core(const CoreChoice& core, const std::string& backend) {
  if (!core.is_given()) return;
  const std::string key = core.chip.empty() ? "--build" : "--chip";
  throw base::ConfigError("moesaic kernel", key, "'" + (core.chip.empty() ? core.build : core.chip) + "'",
                          "it only with --backend cycle or rtl, not with " + backend);
}

numerics::KernelResult run_on_core(const numerics::KernelCase& kernel_case, const CoreChoice& core,
                                   const std::string& where, bool rtl) {
  program::Chip chip;
  if (!core.chip.empty() && !core.build.empty()) {
    throw base::ConfigError("moesaic kernel", "--build", "'" + core.build + "'", "either --chip or --build");
  }
  if (!core.chip.empty())
    chip = program::read_chip(core.chip);
  else
    chip.core = core.build.empty() ? cosim::default_build().params
                                   : cosim::find_build(core.build, "moesaic kernel", "--build").params;
  std::unique_ptr<cosim::CoreEngine> engine;
  if (rtl)
    engine = cosim::find_build(chip.core, core.chip, "array").make(chip.core);
  else
    engine = cosim::make_cycle_engine(chip.core);
  cosim::CoreBench bench(std::move(engine));
  program::KernelPlacement placement;
  placement.layout = chip.layout;
  cosim::BenchOptions options;
  options.memory = chip.memory;
  options.period = chip.clock_period();
  return cosim::run_kernel(bench, chip.core, kernel_case, placement, options, where);
}

base::Registry<KernelBackend> kernel_backends() {
  base::Registry<KernelBackend> backends;
  backends.add("cpu", [](const numerics::KernelCase& kernel_case, const CoreChoice& core, const std::string& where) {
    refuse_core(core, "cpu");
    return numerics::run_case(kernel_case, numerics::Path::kVectorised, where);
  });
  backends.add("cycle", [](const numerics::KernelCase& kernel_case, const CoreChoice& core, const std::string& where) {
    return run_on_core(kernel_case, core, where, false);
  });
  backends.add("rtl", [](const numerics::KernelCase& kernel_case, const CoreChoice& core, const std::string& where) {
    return run_on_core(kernel_case, core, where, true);
  });
  backends.add("cuda", [](const numerics::KernelCase& kernel_case, const CoreChoice& core, const std::string& where) {
    refuse_core(core, "cuda");
    cuda::require_available("moesaic kernel: --backend cuda");
    return cuda::run_case(kernel_case, where);
  });
  return backends;
}

struct KernelOptions {
  std::string in;
  std::string backend;
  std::string out;
  CoreChoice core;
};

void run_kernel(const KernelOptions& options) {
  const auto backends = kernel_backends();
  const KernelBackend& backend = backends.at(options.backend, "moesaic kernel", "--backend");
  const numerics::KernelCase kernel_case = numerics::read_case(options.in);
  numerics::write_result(options.out, kernel_case, backend(kernel_case, options.core, options.in));
}

}  // namespace

void add_kernel(CLI::App& app) {
  CLI::App* command = app.add_subcommand("kernel", "Compute one matrix product, expert or combination from a file");
  const auto options = std::make_shared<KernelOptions>();
  command->add_option("--in", options->in, "The case, safetensors")->required()->type_name("FILE");
  command->add_option("--backend", options->backend, "Who computes it: " + kernel_backends().choices())
      ->required()
      ->type_name("NAME");
  command->add_option("--out", options->out, "The result, safetensors")->required()->type_name("FILE");
  command->add_option("--chip", options->core.chip, "cycle, rtl: the chip to simulate")->type_name("FILE");
  command
      ->add_option("--build", options->core.build,
                   "cycle, rtl: the build to simulate; the one with 16-bit activations unless given")
      ->type_name("NAME");
  command->callback([options] { run_kernel(*options); });
}

}  // namespace moesaic::cli
