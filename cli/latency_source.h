#pragma once
/// Latencies for commands that budget them: what a workload gives the fast engine, and its profile, from the cache
/// where it was measured before.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "sim/profile/profile.h"
#include "sim/program/chip.h"
#include "sim/run/run_inputs.h"
#include "workloads/workload_file.h"

namespace CLI {
class App;
}

namespace moesaic::cli {

struct CacheOptions {
  std::string folder;  ///< --cache; profile::default_cache() when empty
  bool none = false;   ///< --no-cache
  std::int64_t threads = 0;
};

/// Adds --cache, --no-cache, --threads.
void add_cache_options(CLI::App& command, CacheOptions& options);

/// How latency_inputs() gathers: shapes, experts in int8 with groups of `group`; the trace's levels number so many
/// classes of requests, or without them are 0.
run::InputOptions latency_options(std::int64_t group, std::size_t classes = 0);

/// The workload's batches and routing in shapes, as latency_options() says. With continuous batching, in batches as if
/// they were not decided in time.
run::RunInputs latency_inputs(const workloads::WorkloadFile& workload, std::int64_t group, std::size_t classes = 0);

/// Refuses (InputError at `where`) --cache with --no-cache.
profile::Profile make_profile(const run::RunInputs& inputs, const program::Chip& chip,
                              const workloads::WorkloadFile& workload, const std::vector<profile::Reads>& wanted,
                              const CacheOptions& options, const std::string& where);

}  // namespace moesaic::cli
