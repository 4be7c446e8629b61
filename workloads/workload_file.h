/// The workload file: which model does what. YAML, schema docs/schemas/workload.schema.json.
///
///   model: ../model              # a folder with config.json and safetensors, or a name of the zoo
///   trace: traces/prose.csv.gz   # routing trace of that model
///   tokens: prose.bin            # optional: what it read; gives simulate real activations
///   request_starts: [0, 256]     # with tokens: where in it each request begins, request 0 first
///   phase: prefill               # optional: prefill, decode; both when absent
///   requests: [0, 3]             # optional: only these; all when absent. Likewise:
///   steps: [0]
///   layers: [0, 1]
///   max_tokens: 32               # optional: stop after this many (request, position) pairs
///   batch_requests: 4            # optional: so many requests go through their steps together; 1 when absent
///   continuous_batching: {max_requests: 8}   # optional: batches are decided in time, by the trace's arrivals
///   whole_layers: {attention: int8, dense_layers: int4}   # optional: what else of a layer runs, in which format
///   act_bits: 4                  # optional: of every activation that feeds a product, 4 or 8; 8 when absent
///   routing: {prune_ratio: median, capacity_factor: 1.25, round_to: 8}   # optional: routing_rules.h
///
/// Paths are relative to the file. A model is a folder, a shape file (.yaml, in the zoo's form) or a name of the zoo.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "reference/numerics/format.h"
#include "workloads/network.h"
#include "workloads/routing_rules.h"
#include "workloads/trace.h"

namespace moesaic::workloads {

/// What of a layer runs beside its routed experts, and in which stored format; what is absent is left out.
struct WholeLayers {
  std::optional<numerics::Format> shared_experts, dense_layers, attention, head;
  bool any() const { return shared_experts || dense_layers || attention || head; }
  bool layers_without_experts() const { return dense_layers || attention; }
};

struct WorkloadFile {
  std::string path;
  std::string model;         ///< resolved folder, config.json or shape file, or a name of the zoo
  bool is_folder = false;    ///< model is one
  bool has_weights = false;  ///< and holds weights
  Network network;
  std::string trace;                          ///< resolved
  std::optional<std::string> tokens;          ///< resolved
  std::vector<std::uint64_t> request_starts;  ///< index in tokens of each request's first token; empty: not stated
  std::optional<Phase> phase;
  std::vector<std::uint64_t> requests;  ///< sorted; empty: all
  std::vector<std::uint64_t> steps;     ///< sorted; empty: all
  std::vector<std::uint32_t> layers;    ///< sorted; empty: all that `whole` lets run
  std::optional<std::uint64_t> max_tokens;
  std::uint64_t batch_requests = 1;
  std::optional<std::uint64_t> continuous_requests;  ///< continuous batching: so many requests run at most
  int act_bits = 8;                                  ///< of every activation that feeds a product
  RoutingRules routing;
  WholeLayers whole;

  /// The layers that run, ascending: those selected, or all with experts, and those without where `whole` has a part
  /// for them.
  std::vector<std::uint32_t> selected_layers() const;
  /// Those of them that have experts.
  std::vector<std::uint32_t> layers_with_experts() const;
  /// Whether a row of the trace is selected, but for its layer and max_tokens.
  bool selects(const TraceRow& row) const;
};

WorkloadFile read_workload(const std::string& path);

/// SHA-256 of what the file says but for its paths: which rows of the trace run, in which batches, under which rules
/// and with what beside their experts. With the hashes of model and trace it says what work is done.
std::string selection_hash(const WorkloadFile& workload);

/// One routed token of the slice, at every selected layer it appears in.
struct SliceToken {
  std::uint64_t request = 0;
  std::uint64_t step = 0;
  Phase phase = Phase::kPrefill;
  std::uint64_t position = 0;
};

/// The selected rows of the trace, gathered by layer. rows[l] are those of layers[l], in order of token.
struct WorkloadSlice {
  std::vector<SliceToken> tokens;     ///< in order of first appearance in the trace
  std::vector<std::uint32_t> layers;  ///< those of the selected layers that have experts
  struct Row {
    std::size_t token = 0;  ///< index in tokens
    std::vector<std::uint32_t> experts;
    std::vector<double> weights;
    std::vector<std::uint32_t> levels;
  };
  std::vector<std::vector<Row>> rows;
  std::map<std::uint64_t, double> arrival_us;  ///< by request; empty when the trace has none
};

/// Reads the whole trace, so that a bad row is found wherever it stands, and keeps what is selected in memory
/// (RoutingSlice does not). A (token, layer) that appears twice, a selection that nothing matches, and a token that
/// lacks a selected layer are base::InputErrors.
WorkloadSlice read_slice(const WorkloadFile& workload);

/// A step of the trace that comes before the slice, one of one request.
struct EarlierStep {
  std::uint64_t request = 0, step = 0;
  /// By layer, by (expert, level; 0 without levels in the trace): how many rows chose it.
  std::map<std::uint32_t, std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t>> rows;
};
/// Of the steps whose first row, among those of the layers that the slice selects, stands before the slice's first one
/// the last `most`, in the order of their first rows; without the slice's other selections and rules, as all of them
/// went through the chip before. std::map orders a step's layers and experts, which ascend as in a run.
std::vector<EarlierStep> read_earlier_steps(const WorkloadFile& workload, std::size_t most);

}  // namespace moesaic::workloads
