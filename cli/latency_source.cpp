#include "cli/latency_source.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <thread>

#include "base/error.h"
#include "base/progress.h"

namespace moesaic::cli {

void add_cache_options(CLI::App& command, CacheOptions& options) {
  command
      .add_option("--cache", options.folder,
                  "Folder of profiled runs, found again by their content; $XDG_CACHE_HOME/moesaic/profile or "
                  "~/.cache/moesaic/profile unless given")
      ->type_name("DIR");
  command.add_flag("--no-cache", options.none, "Neither read nor write profiled runs");
  command.add_option("--threads", options.threads, "Threads; 0 takes all. The result does not depend on it")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1024}))
      ->capture_default_str();
}

run::InputOptions latency_options(std::int64_t group, std::size_t classes) {
  run::InputOptions options;
  options.weights = false;
  options.classes = classes;
  options.group_size = static_cast<int>(group);
  options.threads = std::max(1U, std::thread::hardware_concurrency());
  return options;
}

run::RunInputs latency_inputs(const workloads::WorkloadFile& workload, std::int64_t group, std::size_t classes) {
  return run::gather_inputs(workload, latency_options(group, classes));
}

profile::Profile make_profile(const run::RunInputs& inputs, const program::Chip& chip,
                              const workloads::WorkloadFile& workload, const std::vector<profile::Reads>& wanted,
                              const CacheOptions& options, const std::string& where) {
  if (options.none && !options.folder.empty())
    throw base::ConfigError(where, "--cache", "it with --no-cache", "one of them");
  profile::Options profile_options;
  profile_options.cache_by_default = options.folder.empty();
  if (!options.none) profile_options.cache = options.folder.empty() ? profile::default_cache() : options.folder;
  profile_options.threads =
      options.threads > 0 ? static_cast<unsigned>(options.threads) : std::max(1U, std::thread::hardware_concurrency());
  std::unique_ptr<base::Progress> progress;
  profile_options.progress = [&progress](std::size_t done, std::size_t total) {
    if (!progress) progress = std::make_unique<base::Progress>("profile", static_cast<std::int64_t>(total));
    progress->step();
    if (done == total) progress.reset();
  };
  return profile::profile(inputs, chip, workload.network.experts, wanted, profile_options);
}

}  // namespace moesaic::cli
