#include "mapping/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace moesaic::mapping {

using base::ConfigError;
using numerics::Format;

namespace {

std::size_t rank(Format format) {
  const std::vector<Format>& all = numerics::all_formats();
  return static_cast<std::size_t>(std::find(all.begin(), all.end(), format) - all.begin());
}

}  // namespace

MemoryTable::MemoryTable(const workloads::Network& network, std::int64_t group_size,
                         const numerics::LayoutSpec& layout) {
  const auto shapes = numerics::expert_shapes(network.hidden, network.expert_intermediate, group_size);
  for (const Format format : numerics::all_formats())
    bytes_.push_back(numerics::stored_layout(format, shapes, layout).total_bytes());
}

std::int64_t MemoryTable::bytes(Format format) const { return bytes_.at(rank(format)); }

std::int64_t Problem::least_bytes() const {
  std::int64_t sum = 0;
  for (const Item& item : items)
    sum += std::min_element(item.choices.begin(), item.choices.end(), [](const Choice& a, const Choice& b) {
             return a.bytes < b.bytes;
           })->bytes;
  return sum;
}

Totals totals(const Problem& problem, const Assignment& assignment) {
  if (assignment.size() != problem.items.size()) throw std::logic_error("assignment of another problem");
  Totals sum;
  for (std::size_t i = 0; i < assignment.size(); ++i) {
    const Choice& c = problem.items[i].choices.at(static_cast<std::size_t>(assignment[i]));
    sum.bytes += c.bytes;
    sum.loss += c.loss;
  }
  return sum;
}

Problem make_problem(const std::vector<workloads::SensitivityRow>& rows, const std::string& path,
                     const workloads::Network& network, const MemoryTable& memory) {
  std::map<std::pair<int, int>, std::vector<const workloads::SensitivityRow*>> by_expert;
  for (const workloads::SensitivityRow& r : rows) {
    if (r.layer >= network.layers || !network.has_experts[static_cast<std::size_t>(r.layer)])
      throw ConfigError(path, "layer", std::to_string(r.layer),
                        fmt::format("a layer of {} that has experts ({} layers)", network.name, network.layers));
    if (r.expert >= network.experts)
      throw ConfigError(path, "expert", fmt::format("{} in layer {}", r.expert, r.layer),
                        fmt::format("0 to {} ({})", network.experts - 1, network.name));
    by_expert[{r.layer, r.expert}].push_back(&r);
  }

  Problem problem;
  double greatest_sum = 0;
  for (int layer = 0; layer < network.layers; ++layer) {
    if (!network.has_experts[static_cast<std::size_t>(layer)]) continue;
    for (int expert = 0; expert < network.experts; ++expert) {
      const auto found = by_expert.find({layer, expert});
      if (found == by_expert.end())
        throw ConfigError(path, fmt::format("layer {}, expert {}", layer, expert), "no row", "at least one");
      std::vector<const workloads::SensitivityRow*>& own = found->second;
      std::sort(own.begin(), own.end(), [](const auto* a, const auto* b) { return rank(a->format) < rank(b->format); });
      double greatest = 0;
      for (const auto* r : own) greatest = std::max(greatest, r->loss);
      greatest_sum += greatest;
    }
  }
  if (!std::isfinite(greatest_sum)) throw ConfigError(path, "loss", "a sum beyond a double", "a finite sum");
  // frexp: greatest_sum < 2^exponent, so that the scaled sum is below 2^50.
  int exponent = 0;
  std::frexp(greatest_sum, &exponent);
  problem.loss_exponent = greatest_sum > 0 ? 50 - exponent : 0;

  for (const auto& [where, own] : by_expert) {
    Item item;
    item.layer = where.first;
    item.expert = where.second;
    for (const auto* r : own)
      item.choices.push_back(
          {r->format, memory.bytes(r->format), std::llround(std::ldexp(r->loss, problem.loss_exponent))});
    problem.items.push_back(std::move(item));
  }
  return problem;
}

std::int64_t parse_budget(const std::string& text, const MemoryTable& memory, std::int64_t items,
                          const std::string& where, const std::string& key) {
  const ConfigError refused(where, key, "'" + text + "'",
                            "bytes (123456, 96KiB, 1.5MiB, 2GiB) or average bits of a weight from 1 to 8 (2.5bits)");
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (error != std::errc() || !std::isfinite(value) || value < 0) throw refused;
  if (unit == "bits") {
    if (value < 1 || value > 8) throw refused;
    const int below = std::min(static_cast<int>(value), 7);
    const auto low = static_cast<double>(memory.bytes(Format::integer(below)));
    const auto high = static_cast<double>(memory.bytes(Format::integer(below + 1)));
    return static_cast<std::int64_t>(std::floor((low + (high - low) * (value - below)) * static_cast<double>(items)));
  }
  double scale = 0;
  if (unit.empty()) {
    scale = 1;
    if (value != std::floor(value)) throw refused;
  }
  if (unit == "KiB") scale = 1024;
  if (unit == "MiB") scale = 1024.0 * 1024;
  if (unit == "GiB") scale = 1024.0 * 1024 * 1024;
  if (scale == 0 || value * scale > 0x1p53) throw refused;
  return static_cast<std::int64_t>(std::floor(value * scale));
}

}  // namespace moesaic::mapping
