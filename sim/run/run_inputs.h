#pragma once
/// From a workload to what the chip gets to do: one entry per (request, step, layer), in integers.
///
///   model folder, tokens      activations and routing of the float forward pass at the trace's positions; the trace is
///                             held to the routing found (near-ties apart)
///   model folder, no tokens   routing and router weights of the trace, activations drawn from the seed
///   a shape alone             the same, and weights drawn from the seed
///
/// Weights are really quantised by the plan in every case. A step of one request, or of `batch_requests` requests
/// together, is one batch; batches run one after the other, in the order in which the trace names their first rows.
/// With `whole_layers` in the workload a batch has more phases than its layers' experts (whole_layers.h); the shared
/// and the dense experts are experts with numbers of their own, their weights drawn where a shape gives none.
///
/// Steps are made one at a time when somebody asks for them: what they are made from lies in temporary files. Memory
/// grows with the number of experts that run (their weights), of requests and, with continuous batching, of batches
/// (the schedule); while inputs are opened also with the trace (workloads::RoutingSlice, and 16 bytes a token here;
/// with prune_ratio: median 8 bytes a token), and with `tokens` with the length of the requests that the float pass
/// goes through at once.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "reference/numerics/expert_formats.h"
#include "sim/program/layer_program.h"
#include "sim/run/schedule.h"
#include "sim/run/whole_layers.h"
#include "workloads/plan.h"
#include "workloads/workload_file.h"

namespace moesaic::run {

/// One batch: the same step of one or several requests.
struct Step {
  using Part = StepPart;
  std::vector<Part> parts;  ///< in the order of the trace
  std::uint64_t step = 0;
  workloads::Phase phase = workloads::Phase::kPrefill;
  std::int64_t tokens = 0;
  bool scheduled = false;        ///< by continuous batching; `step` is then the batch's number
  std::uint64_t not_before = 0;  ///< cycle in which the request arrives that it waits for

  std::uint64_t first_request() const { return parts.front().request; }
  /// "request 3, step 0" or "requests 0 and 3 more, step 0"; "batch 5" where it is scheduled.
  std::string name() const;
};

/// Facts that decide the numbers, as they are stated on results.
struct InputFacts {
  std::string activations;
  std::string routing;
  std::string weights;
  std::string whole_layers;  ///< what runs beside the experts, and in which format; empty: nothing
  std::string plan;          ///< "int8 everywhere, no plan given", "plan.yaml"
  std::string plan_hash;     ///< SHA-256 of the plan file; empty without one
  std::string model_hash;    ///< of the checkpoint; empty for a zoo model
  std::int64_t group_size = 0;
  int act_bits = 0;
  std::int64_t rows_held_to_trace = 0;
  std::vector<std::int64_t> choices_by_level;  ///< routed and not dropped, where the trace has levels
  workloads::Dropped dropped;                  ///< choices that the workload's routing rules left out
  std::vector<double> prune_ratios;            ///< by selected layer, with prune_ratio: median
  std::int64_t rows_of_near_ties = 0;          ///< of those, where the trace chose otherwise on a near-tie
};

/// Experts that no router chooses, by number.
int shared_expert(const workloads::Network& network);
int dense_expert(const workloads::Network& network);
/// "3", "shared", "dense".
std::string expert_name(const workloads::Network& network, int expert);

/// A step and its phases.
struct StepInputs {
  Step step;
  std::vector<program::LayerRows> layers;
};

struct RunInputs {
  std::int64_t experts = 0;  ///< routed, of a layer: those of greater numbers are no plan's
  std::size_t step_count = 0;
  std::size_t phases_per_step = 0;  ///< the same number in all
  /// Makes one step's phases. Any step may be asked for, any number of times; by one thread at a time. Without `rows`
  /// activations have their extents only.
  std::function<StepInputs(std::size_t step, bool rows)> make_step;
  program::WeightsOf weights;  ///< of every expert that some row goes to; thread-safe; empty without weights
  std::map<std::uint64_t, std::uint64_t> arrivals;  ///< with continuous batching: of each request, in cycles
  program::MatrixOf matrices;                       ///< of every product; empty without weights
  program::ShapeOf shape;                           ///< of every expert, with weights or without
  std::function<numerics::ExpertFormats(int layer, int expert)> format;
  InputFacts facts;
  std::shared_ptr<void> owner;  ///< keeps the weights

  /// All steps at once: of gather_inputs() only.
  std::vector<Step> steps;
  std::vector<program::LayerRows> layers;  ///< for step, for layer, for part of it
  std::vector<std::size_t> step_of;        ///< index in steps of each entry of layers
};

struct InputOptions {
  std::string plan;  ///< a plan file, a format for every expert ("int4"), or empty: int8
  std::uint64_t seed = 1;
  std::optional<int> group_size;  ///< of a plan that is a format; workloads::kNamedPlanGroupSize when absent
  /// Of a plan that is a format: so many classes of requests read it, and the trace's levels are their numbers. 0: it
  /// knows none.
  std::size_t classes = 0;
  /// Called with the plan, once it is known to be one for the model; may be empty. What it throws ends gather_inputs().
  std::function<void(const workloads::Plan& plan, bool from_file)> check_plan;
  unsigned threads = 1;
  /// With continuous batching: what runs when; outlives the inputs.
  const Schedule* schedule = nullptr;
  bool weights = true;  ///< false: shapes only, for timing; nothing is quantised
  /// Called under a lock as experts are quantised; may be empty.
  std::function<void(std::size_t done, std::size_t total)> progress;
};

/// With continuous batching: who arrives when, in cycles of `period`, and has which steps.
std::vector<ScheduledRequest> scheduled_requests(const workloads::WorkloadFile& workload, base::Femtoseconds period);

/// Throws base::InputError for everything that does not fit together.
RunInputs open_inputs(const workloads::WorkloadFile& workload, const InputOptions& options);
/// The same, and every step made: for those who need all of them together.
RunInputs gather_inputs(const workloads::WorkloadFile& workload, const InputOptions& options);

}  // namespace moesaic::run
