#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/registry.h"
#include "cli/commands.h"
#include "reference/cuda/availability.h"
#include "reference/cuda/run_case.h"
#include "reference/numerics/case_file.h"

namespace moesaic::cli {

namespace {

/// Computes a case that read_case() has accepted; `where` is the case's file, for messages.
/// Every back end gives the same result, bit for bit, or throws base::InputError.
using KernelBackend =
    std::function<numerics::KernelResult(const numerics::KernelCase& kernel_case, const std::string& where)>;

base::Registry<KernelBackend> kernel_backends() {
  base::Registry<KernelBackend> backends;
  backends.add("cpu", [](const numerics::KernelCase& kernel_case, const std::string& where) {
    return numerics::run_case(kernel_case, numerics::Path::kVectorised, where);
  });
  backends.add("cuda", [](const numerics::KernelCase& kernel_case, const std::string& where) {
    cuda::require_available("moesaic kernel: --backend cuda");
    return cuda::run_case(kernel_case, where);
  });
  return backends;
}

struct KernelOptions {
  std::string in;
  std::string backend;
  std::string out;
};

void run_kernel(const KernelOptions& options) {
  const auto backends = kernel_backends();
  const KernelBackend& backend = backends.at(options.backend, "moesaic kernel", "--backend");
  const numerics::KernelCase kernel_case = numerics::read_case(options.in);
  numerics::write_result(options.out, kernel_case, backend(kernel_case, options.in));
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
  command->callback([options] { run_kernel(*options); });
}

}  // namespace moesaic::cli
