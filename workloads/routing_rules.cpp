#include "workloads/routing_rules.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace moesaic::workloads {
namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

void drop(RoutedRows& rows, std::size_t choice, std::int64_t& count) {
  rows.experts[choice] = RoutedRows::kDropped;
  rows.weights[choice] = 0;
  ++count;
}

/// The choices that are left, by expert, each in the order of rows.
std::map<std::uint32_t, std::vector<std::size_t>> choices_by_expert(const RoutedRows& rows) {
  std::map<std::uint32_t, std::vector<std::size_t>> choices;
  for (std::size_t c = 0; c < rows.experts.size(); ++c)
    if (rows.experts[c] != RoutedRows::kDropped) choices[rows.experts[c]].push_back(c);
  return choices;
}

void prune(double ratio, RoutedRows& rows, Dropped& dropped) {
  const std::size_t top_k = size(rows.top_k);
  for (std::size_t first = 0; first < rows.experts.size(); first += top_k) {
    const auto begin = rows.weights.begin() + static_cast<std::ptrdiff_t>(first);
    const auto greatest = std::max_element(begin, begin + static_cast<std::ptrdiff_t>(top_k));
    if (*greatest <= 0) continue;
    const double most = *greatest;
    // The quotient, as MedianRatio has it: a row with that very ratio keeps its experts.
    for (std::size_t c = first; c < first + top_k; ++c)
      if (rows.experts[c] != RoutedRows::kDropped && rows.weights[c] / most < ratio) drop(rows, c, dropped.pruned);
  }
}

void limit(double factor, std::int64_t experts, RoutedRows& rows, Dropped& dropped) {
  const double mean = static_cast<double>(rows.experts.size()) / static_cast<double>(experts);
  const auto capacity = static_cast<std::size_t>(std::ceil(factor * mean));
  for (const auto& [expert, choices] : choices_by_expert(rows))
    for (std::size_t i = capacity; i < choices.size(); ++i) drop(rows, choices[i], dropped.over_capacity);
}

void round_down(std::int64_t multiple, RoutedRows& rows, Dropped& dropped) {
  for (auto& [expert, choices] : choices_by_expert(rows)) {
    std::vector<std::size_t> order = choices;
    std::stable_sort(order.begin(), order.end(),
                     [&rows](std::size_t a, std::size_t b) { return rows.weights[a] > rows.weights[b]; });
    for (std::size_t i = order.size() / size(multiple) * size(multiple); i < order.size(); ++i)
      drop(rows, order[i], dropped.rounded);
  }
}

void renormalise(const std::vector<double>& before, RoutedRows& rows) {
  const std::size_t top_k = size(rows.top_k);
  for (std::size_t first = 0; first < rows.weights.size(); first += top_k) {
    const auto sum = [first, top_k](const std::vector<double>& weights) {
      const auto begin = weights.begin() + static_cast<std::ptrdiff_t>(first);
      return std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(top_k), 0.0);
    };
    const double kept = sum(rows.weights), whole = sum(before);
    if (kept <= 0 || kept == whole) continue;
    for (std::size_t c = first; c < first + top_k; ++c) rows.weights[c] *= whole / kept;
  }
}

}  // namespace

RoutingRules read_routing_rules(const base::YamlNode& node) {
  RoutingRules rules;
  if (const auto ratio = node.find("prune_ratio")) {
    if (ratio->as_text() == "median") {
      rules.prune_at_median = true;
    } else {
      rules.prune_ratio = ratio->as_number(0, 1);
    }
  }
  if (node.has("capacity_factor")) rules.capacity_factor = node.number("capacity_factor", 1e-3, 1e6);
  if (node.has("round_to")) rules.round_to = node.integer("round_to", 1, 1 << 20);
  rules.renormalise = node.boolean_or("renormalise", false);
  if (!rules.any()) throw node.refused("at least one of prune_ratio, capacity_factor, round_to");
  return rules;
}

void MedianRatio::add(const RoutedRows& batch) {
  const std::size_t top_k = size(batch.top_k);
  if (top_k < 2) return;
  for (std::size_t first = 0; first < batch.weights.size(); first += top_k) {
    const auto begin = batch.weights.begin() + static_cast<std::ptrdiff_t>(first);
    std::vector<double> row(begin, begin + static_cast<std::ptrdiff_t>(top_k));
    std::partial_sort(row.begin(), row.begin() + 2, row.end(), std::greater<>());
    if (row[0] > 0) ratios_.push_back(row[1] / row[0]);
  }
}

std::optional<double> MedianRatio::median() {
  if (ratios_.empty()) return std::nullopt;
  const auto middle = ratios_.begin() + static_cast<std::ptrdiff_t>((ratios_.size() - 1) / 2);
  std::nth_element(ratios_.begin(), middle, ratios_.end());
  return *middle;
}

Dropped apply(const RoutingRules& rules, std::int64_t experts, std::optional<double> median, RoutedRows& rows) {
  const std::vector<double> before = rows.weights;
  Dropped dropped;
  const std::optional<double> ratio = rules.prune_at_median ? median : rules.prune_ratio;
  if (ratio) prune(*ratio, rows, dropped);
  if (rules.capacity_factor) limit(*rules.capacity_factor, experts, rows, dropped);
  if (rules.round_to) round_down(*rules.round_to, rows, dropped);
  if (rules.renormalise && dropped.total() > 0) renormalise(before, rows);
  return dropped;
}

}  // namespace moesaic::workloads
