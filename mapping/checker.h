#pragma once
/// Re-computes from the tables what a plan claims. Written against the rows, the cost functions and the plan file's own
/// entries; shares no code with the allocators, the solvers or the problem they solve.
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "workloads/class_set.h"
#include "workloads/plan.h"
#include "workloads/sensitivity.h"

namespace moesaic::mapping {

struct ClaimedBudget {
  std::string name;        ///< of the resource
  bool per_layer = false;  ///< every layer's sum is bounded
  std::int64_t capacity = 0;
  std::function<std::int64_t(int layer, int expert, const numerics::ExpertFormats& formats)> use;
  std::int64_t used = 0;                       ///< claimed: the sum, or the greatest layer's
  std::vector<std::int64_t> layer_capacity{};  ///< of each layer, ascending, where they differ
  /// In the place of `use`: what the rows of these classes use that read an expert so, and no others. kEveryRow where
  /// there are fewer than two classes.
  std::function<std::int64_t(int layer, int expert, const numerics::ExpertFormats& formats,
                             workloads::ClassSet classes)>
      class_use{};
};

struct Claim {
  std::int64_t loss = 0;  ///< sum of round(loss * 2^loss_exponent)
  int loss_exponent = 0;
  std::optional<std::int64_t> bytes;  ///< stored, where they are known
  std::function<std::int64_t(const numerics::ExpertFormats&)> bytes_of;
  std::vector<ClaimedBudget> budgets;
  /// Of rows of gate, up and down: matrices of an expert that take one format.
  bool gate_with_up = false, all_together = false;
  /// Classes of requests, as many as the plan's class_shares; 0: it must have none.
  std::size_t classes = 0;
  std::vector<double> class_weights;  ///< of each; empty: 1
  bool rising = false;                ///< no class reads fewer planes than one of a lower number
  std::map<std::pair<int, int>, std::vector<double>> shares;  ///< of (layer, expert), in the place of class_shares
  /// Experts that may be read in one way only.
  std::vector<workloads::PlanEntry> fixed;
  /// At least `count` experts of a format, for every class, in a layer, or (-1) in every layer.
  struct AtLeast {
    int count = 0;
    numerics::Format format;
    int layer = -1;
  };
  std::vector<AtLeast> at_least;
  std::vector<std::vector<std::pair<int, int>>> tied;  ///< groups of (layer, expert)
  /// A lower bound by multipliers num / den of the limits: for every budget one, or one a layer (ascending), then for
  /// every at_least one, or one a layer.
  struct Certificate {
    std::vector<__int128> num;
    std::int64_t den = 1;
    std::int64_t bound = 0;
  };
  std::optional<Certificate> certificate;
};

/// Throws base::CheckError, saying which number differs, unless every expert of the rows has exactly one entry whose
/// format has a row (or whose matrices' formats have one each, or what each class reads has one and is of one stored
/// copy, of which `format` is the widest that is read), loss, bytes and uses add up to the claim, every budget
/// and side constraint holds, the plan file's own figures agree, and the certificate holds.
void check_claim(const workloads::Plan& plan, const Claim& claim, const std::vector<workloads::SensitivityRow>& rows);

}  // namespace moesaic::mapping
