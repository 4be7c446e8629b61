/// The plan file: one stored format for every (layer, expert) of one checkpoint, or one each for an expert's three
/// matrices, and the facts it was made from.
/// YAML, schema docs/schemas/plan.schema.json. What `map` writes and `evaluate`, `simulate` read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reference/numerics/expert_formats.h"
#include "workloads/network.h"
#include "workloads/quantiser.h"

namespace moesaic::workloads {

/// Hashes are lower-case hexadecimal SHA-256. The checkpoint's is that of workloads/checkpoint.h.
struct PlanSources {
  std::string checkpoint;
  std::optional<std::string> sensitivity;
  std::optional<std::string> trace;
  std::optional<std::string> work;  ///< selection_hash() of the workload file
  std::optional<std::string> chip;
  std::optional<std::string> memory;  ///< the chip's, in words
  std::optional<std::string> costs;   ///< of the cost table or the latency table
  int checkpoint_line = 0;            ///< of the file it was read from, for messages; 0 when not read
  bool operator==(const PlanSources& o) const {
    return checkpoint == o.checkpoint && sensitivity == o.sensitivity && trace == o.trace && work == o.work &&
           chip == o.chip && memory == o.memory && costs == o.costs;
  }
};

struct PlanEntry {
  int layer = 0;
  int expert = 0;
  numerics::ExpertFormats format;
  int line = 0;  ///< of the file it was read from, for messages; 0 when not read
  /// What each class of requests reads of the stored copy (Plan::class_shares); empty: all of them read `format`.
  std::vector<numerics::Format> reads{};
  bool operator==(const PlanEntry& o) const {
    return layer == o.layer && expert == o.expert && format == o.format && reads == o.reads;
  }
};

/// One budget that the plan keeps. `used` and `budget` count uses, `scale` of them a unit: an average over the tokens
/// of a trace has the number of tokens as scale.
struct PlanBudget {
  std::string name;  ///< memory, resident, latency, io, bits, or a column of the cost table
  std::string unit;
  bool per_layer = false;  ///< the greatest layer's use, within a budget for each layer
  std::int64_t budget = 0;
  std::int64_t used = 0;
  std::int64_t scale = 1;
  /// Of a budget that is enforced on the simulated plan: what was asked for, what the simulation took (of the greatest
  /// layer), and how many plans were simulated. `budget` and `used` are then the additive problem's.
  struct Simulated {
    std::int64_t wanted = 0, used = 0, rounds = 0;
    bool operator==(const Simulated& o) const { return wanted == o.wanted && used == o.used && rounds == o.rounds; }
  };
  std::optional<Simulated> simulated{};
  bool operator==(const PlanBudget& o) const {
    return name == o.name && unit == o.unit && per_layer == o.per_layer && budget == o.budget && used == o.used &&
           scale == o.scale && simulated == o.simulated;
  }
};

struct Plan {
  PlanSources made_from;
  int group_size = 0;
  Quantiser quantiser;
  std::int64_t memory_bytes = 0;                    ///< stored bytes of all experts under this plan
  std::optional<std::int64_t> memory_budget_bytes;  ///< what the allocator was given
  std::vector<PlanBudget> budgets;                  ///< all of them, memory too
  double loss = 0;                                  ///< sum of the sensitivity table's losses under this plan
  /// Facts the allocator states about its answer, in the order they are written (allocator, status, bound ...).
  std::vector<std::pair<std::string, std::string>> solver;
  /// Share of each class of requests, by number, adding up to 1: a level of the trace (trace.h) is then a class. Empty:
  /// the plan knows no classes, and a level is so many planes more than the expert's format reads.
  std::vector<double> class_shares;
  std::vector<PlanEntry> experts;  ///< sorted by layer, then expert

  bool has_classes() const { return !class_shares.empty(); }
  /// What a row of level `level` reads of an expert; nothing where the plan has no such class, or the stored copy no
  /// such planes. An expert of several formats is read as it is.
  std::optional<numerics::ExpertFormats> read(const PlanEntry& entry, std::uint32_t level) const;
  /// What is expected of a level that read() does not know: "at most 2: nested6 stores 8 planes and reads 6".
  std::string expected_level(const PlanEntry& entry) const;
  /// The widest reading of an expert, where no level is above `greatest`.
  numerics::ExpertFormats widest_read(const PlanEntry& entry, std::uint32_t greatest) const;

  /// The entry of one expert; the plan must have been checked to cover it.
  const PlanEntry& at(int layer, int expert) const;
};

/// Reads and checks a plan on its own: keys, formats, no expert twice.
Plan read_plan(const std::string& path);

/// Throws base::InputError unless the plan was made for the checkpoint of this hash and covers exactly its routed
/// experts. `path` is the plan's, for the message.
void check_plan(const Plan& plan, const std::string& path, const Network& network, const std::string& checkpoint_hash);

/// Writes atomically; the same plan gives the same bytes.
void write_plan(const Plan& plan, const std::string& path);
/// What that writes: the file's text at this path, from which the quantiser's tokens are found.
std::string plan_text(const Plan& plan, const std::string& path);

/// One format for every routed expert; `--plan int8` is this with int8. Bound to no sensitivity table.
Plan uniform_plan(const Network& network, const std::string& checkpoint_hash, const numerics::ExpertFormats& format,
                  int group_size);

/// Group size of plans that are a format's name, which have no file to say one.
inline constexpr int kNamedPlanGroupSize = 64;

/// The uniform plan if `name` is a format's name ("int4", "int2/int2/int4"); of several ("int2+int3"), expert e of
/// layer l has number (l + e) modulo their count. Nothing if it is the path of a plan file; anything else is an error.
std::optional<Plan> named_plan(const std::string& name, const Network& network, const std::string& checkpoint_hash);

}  // namespace moesaic::workloads
