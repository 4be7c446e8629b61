#pragma once
/// What `map` does, for every command that makes plans: the problem that files pose, and the plan of an allocator,
/// checked against the tables and, under a latency budget, simulated.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/registry.h"
#include "cli/class_options.h"
#include "cli/latency_source.h"
#include "cli/quantiser_options.h"
#include "mapping/allocators.h"
#include "mapping/problem.h"
#include "sim/program/chip.h"
#include "sim/run/timed_run.h"
#include "workloads/cost_table.h"
#include "workloads/latency_table.h"
#include "workloads/plan.h"
#include "workloads/sensitivity.h"
#include "workloads/workload_file.h"

namespace moesaic::cli {

/// What the command line says.
struct MapCommand {
  std::string workload;
  std::string chip;
  std::string sensitivity;
  std::string loss_column = workloads::kLossColumn;
  std::string costs, profile;
  CacheOptions cache;
  std::vector<std::string> memory_budgets, resident_budgets, latency_budgets, io_budgets, bits_budgets, limits;
  std::vector<std::string> at_least, tied, fixed;
  std::string formats;
  ClassOptions classes;
  std::string loss = "table";
  std::string allocator = "optimal";
  std::uint64_t seed = 0;
  bool seed_given = false;
  mapping::SearchOptions search;
  double time_limit_s = 0;
  bool time_limit_given = false, effort_given = false, allocator_given = false;
  std::int64_t group = 64;
  bool group_given = false;
  QuantiserOptions quantiser;
  std::string out;
  std::string check;
  bool json = false;
};

base::Registry<mapping::Allocator> allocators();

/// How often the workload's tokens go to every expert: uses that are averages over tokens stay whole when they count
/// tokens. Without a workload, the table's frequencies, as they are when all are whole, else in parts of 2^20.
struct Routing {
  std::map<std::pair<int, int>, std::vector<std::int64_t>>
      tokens;  ///< of each class; where there are none, of all rows
  std::int64_t scale = 1;
  bool has_levels = false;  ///< above 0
  std::int64_t at(int layer, int expert, workloads::ClassSet classes = workloads::kEveryRow) const {
    const auto found = tokens.find({layer, expert});
    std::int64_t sum = 0;
    for (std::size_t c = 0; found != tokens.end() && c < found->second.size(); ++c)
      if (classes == workloads::kEveryRow || workloads::contains(classes, c)) sum += found->second[c];
    return sum;
  }
};

/// Of the choices that the workload's rules on routing leave.
Routing workload_routing(const workloads::WorkloadFile& workload, std::int64_t group);

/// Everything that the command's files say, and the problem they pose.
struct Inputs {
  std::optional<workloads::WorkloadFile> workload;
  std::optional<program::Chip> chip;
  std::optional<mapping::MemoryTable> memory;
  std::optional<workloads::CostTable> costs;
  /// What the latency budgets are enforced on: the workload's batches, simulated under a plan.
  std::shared_ptr<const run::RunInputs> work;
  std::optional<workloads::LatencyTable> latencies;
  std::string sensitivity_hash, costs_hash;
  workloads::Quantiser quantiser;  ///< of the table, or of the options where it does not say it
  bool table_says_quantiser = false;
  std::optional<workloads::SensitivityRecord> record;  ///< what the table was measured at, where it says it
  std::int64_t group_size = 0;                         ///< of the table, or of the options where it does not say it
  std::vector<workloads::SensitivityRow> rows;         ///< with their losses as minimised
  workloads::Network network;
  Routing routing;
  mapping::Classes classes;
  mapping::Problem problem;
};

/// Throws base::InputError for everything that does not fit together.
Inputs read_inputs(const MapCommand& command);

/// No plan was found whose simulation keeps the latency budgets.
class LatencyMissed : public base::CheckError {
 public:
  using base::CheckError::CheckError;
};

/// The allocator's plan, checked against the tables. Where `in` has work to simulate, its simulation keeps the latency
/// budgets: the best of the plans that mapping::search_latency() tries. base::InputError when there is no plan within
/// the budgets, LatencyMissed when none was found that is fast enough.
workloads::Plan solve_plan(const Inputs& in, const MapCommand& command, const std::string& name,
                           const mapping::Allocator& allocator, const mapping::AllocatorOptions& options);

/// What `simulate` takes with the plan: on the chip with its storage, cache and stated costs, batches decided in time
/// where the workload's are. `work` is latency_inputs()'.
run::Timing simulated(const Inputs& in, const run::RunInputs& work, const workloads::Plan& plan);

/// How an entry is read: "int2", or by classes that differ "mwq2+0of2:mwq2+2".
std::string reading_name(const workloads::PlanEntry& entry);

/// How many experts have each format, or are read so: "3 int2, 5 int3".
std::string counts_text(const workloads::Plan& plan);

}  // namespace moesaic::cli
