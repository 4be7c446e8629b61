#pragma once
/// What a serving system may change about a router's choices before the experts run: leave choices out, so that less is
/// computed or loaded. A rule only ever drops choices; it never invents one, because a trace holds the router's weights
/// of the chosen experts alone.
///
///   prune     drops a choice whose weight is below `ratio` times the greatest of its row: with top-2 routing, the
///             second expert of MC-MoE's online dynamic pruning (Huang et al., "Mixture Compressor for
///             Mixture-of-Experts LLMs Gains More", ICLR 2025). That method keeps tokens which attention marks as
///             important; a trace does not hold attention, so no token is exempt here. `median` stands for the
///             method's own threshold: at each layer the median over all rows of (second greatest / greatest).
///   capacity  of an expert in one batch: ceil(factor * rows * top_k / experts) choices; further ones, in the order of
///             rows, are dropped (Fedus et al., "Switch Transformers", JMLR 23, 2022).
///   round     every expert's choices in one batch are cut to a multiple of `multiple`, those of least weight first:
///   the
///             DOWN variant of token rounding (Guo et al., "SonicMoE", arXiv 2512.14080). Rounding up needs scores of
///             experts that were not chosen.
///
/// Rules apply in this order; a later one sees what the earlier ones left.
#include <cstdint>
#include <optional>
#include <vector>

#include "base/yaml.h"

namespace moesaic::workloads {

struct RoutingRules {
  std::optional<double> prune_ratio;  ///< in [0, 1]
  bool prune_at_median = false;       ///< prune_ratio is then the layer's median
  std::optional<double> capacity_factor;
  std::optional<std::int64_t> round_to;
  /// The weights that a row keeps are scaled so that their sum is what it was.
  bool renormalise = false;

  bool any() const { return prune_ratio || prune_at_median || capacity_factor || round_to; }
};

/// The `routing:` part of a workload file: {prune_ratio: 0.4 | median, capacity_factor, round_to, renormalise}.
RoutingRules read_routing_rules(const base::YamlNode& node);

/// The rows of one batch at one layer. Dropped choices have expert kDropped and weight 0.
struct RoutedRows {
  static constexpr std::uint32_t kDropped = 0xffffffff;
  std::int64_t top_k = 0;
  std::vector<std::uint32_t> experts;  ///< [rows, top_k]
  std::vector<double> weights;         ///< [rows, top_k]
};

struct Dropped {
  std::int64_t pruned = 0, over_capacity = 0, rounded = 0;
  std::int64_t total() const { return pruned + over_capacity + rounded; }
};

/// The median over rows of (second greatest weight / greatest): the lower one of an even number. Rows of one choice or
/// of weights 0 do not count; nothing when none counts. Eight bytes a row.
class MedianRatio {
 public:
  void add(const RoutedRows& batch);
  std::optional<double> median();

 private:
  std::vector<double> ratios_;
};

/// Applies the rules to one batch of a layer with `experts` experts. With prune_at_median, `median` is the layer's.
/// A row's greatest choice is never pruned, but capacity and rounding may leave a row without any.
Dropped apply(const RoutingRules& rules, std::int64_t experts, std::optional<double> median, RoutedRows& rows);

}  // namespace moesaic::workloads
