#include "mapping/published.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "base/error.h"

namespace moesaic::mapping {

using numerics::Format;

namespace {

std::size_t index(int i) { return static_cast<std::size_t>(i); }

/// The option of a unit in which all matrices, read by any class, have the format that stands for a width: int, else
/// nested, else (1 bit) binary. -1 without one.
int option_of_width(const std::vector<Reading>& formats, int bits) {
  std::vector<Format> wanted = {Format::integer(bits), Format::nested(bits)};
  if (bits == 1) wanted.push_back(Format::binary());
  for (const Format f : wanted) {
    const auto found = std::find(formats.begin(), formats.end(), Reading(f));
    if (found != formats.end()) return static_cast<int>(found - formats.begin());
  }
  return -1;
}

/// Widths that every unit has, ascending.
std::vector<int> common_widths(const Lowered& lowered) {
  std::vector<int> widths;
  for (int bits = 1; bits <= 8; ++bits)
    if (std::all_of(lowered.formats.begin(), lowered.formats.end(),
                    [&](const auto& formats) { return option_of_width(formats, bits) >= 0; }))
      widths.push_back(bits);
  return widths;
}

double factor(const Problem& problem, const Item& item, const std::map<int, std::pair<double, double>>& of_layer) {
  if (problem.significance) return 1;
  const auto [frequencies, weights] = of_layer.at(item.layer);
  if (!(frequencies > 0) || !(weights > 0)) refuse("pmq", "frequencies and weights that do not sum to 0 in a layer");
  return item.frequency / frequencies * std::pow(item.weight / weights, 1.5);
}

}  // namespace

Allocation allocate_frequency(const Problem& problem, const AllocatorOptions& options) {
  const Lowered lowered = lower(problem);
  const std::vector<int> widths = common_widths(lowered);
  if (widths.empty()) refuse("frequency", "a table with a width that all experts have");
  // Units by layer (of their first expert), the most chosen first.
  std::map<int, std::vector<std::size_t>> by_layer;
  const auto frequency = [&](std::size_t u) {
    double sum = 0;
    for (const int i : lowered.units[u]) sum += problem.items[index(i)].frequency;
    return sum;
  };
  for (std::size_t u = 0; u < lowered.units.size(); ++u)
    by_layer[problem.items[index(lowered.units[u][0])].layer].push_back(u);
  std::size_t most = 0;
  for (auto& [layer, units] : by_layer) {
    std::stable_sort(units.begin(), units.end(),
                     [&](std::size_t a, std::size_t b) { return frequency(a) > frequency(b); });
    most = std::max(most, units.size());
  }
  for (std::size_t w = widths.size(); w-- > 0;) {
    const int low = widths[w], high = w + 1 < widths.size() ? widths[w + 1] : low;
    for (std::size_t hot = high == low ? 0 : most;; --hot) {
      Choices choices(lowered.units.size());
      for (const auto& [layer, units] : by_layer)
        for (std::size_t r = 0; r < units.size(); ++r)
          choices[units[r]] = option_of_width(lowered.formats[units[r]], r < hot ? high : low);
      if (within_limits(lowered.program, choices)) {
        Allocation a = heuristic(problem, lowered, choices);
        a.facts.emplace_back("widths", fmt::format("{} and {}", low, high));
        a.facts.emplace_back("hot_experts_per_layer", std::to_string(hot));
        return a;
      }
      if (hot == 0) break;
    }
  }
  give_up(problem, options.search, "frequency",
          "budgets and constraints that two neighbouring widths meet, and none do");
}

Allocation allocate_pmq(const Problem& problem, const AllocatorOptions& options) {
  const Lowered lowered = lower(problem);
  std::map<int, std::pair<double, double>> of_layer;
  std::map<int, int> experts;
  for (const Item& item : problem.items) {
    of_layer[item.layer].first += item.frequency;
    of_layer[item.layer].second += item.weight;
    ++experts[item.layer];
  }
  if (!problem.tied.empty()) refuse("pmq", "no tied experts: its program knows none");
  const std::vector<int> layers = problem.layers();
  // Limits of layer l: bits, at least one int3, at least one int2.
  ChoiceProgram program;
  program.capacity.assign(3 * layers.size(), -1);
  const std::vector<Format> widths = {Format::binary(), Format::integer(2), Format::integer(3)};
  std::vector<std::vector<double>> real(problem.items.size());
  double greatest_sum = 0;
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    const Item& item = problem.items[i];
    const double significance = factor(problem, item, of_layer);
    double greatest = 0;
    for (const Format f : widths) {
      const auto found =
          std::find_if(item.choices.begin(), item.choices.end(), [&](const Choice& c) { return c == Reading(f); });
      if (found == item.choices.end())
        refuse("pmq", fmt::format("binary, int2 and int3 for every expert, and layer {}, expert {} lacks {}",
                                  item.layer, item.expert, f.name()));
      real[i].push_back(found->real_loss * significance);
      greatest = std::max(greatest, real[i].back());
    }
    greatest_sum += greatest;
  }
  const int exponent = loss_exponent_for(greatest_sum);
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    const auto rank =
        static_cast<int>(std::lower_bound(layers.begin(), layers.end(), problem.items[i].layer) - layers.begin());
    ProgramItem item;
    item.limits = {3 * rank, 3 * rank + 1, 3 * rank + 2};
    for (int w = 0; w < 3; ++w)
      item.options.push_back({scaled_loss(real[i][index(w)], exponent), {w + 1, w == 2 ? -1 : 0, w == 1 ? -1 : 0}});
    program.items.push_back(std::move(item));
  }
  struct Answer {
    Choices choices;  // of lowered
    double objective = 0;
  };
  const auto with_bits = [&](std::int64_t bits) -> std::optional<Answer> {
    for (std::size_t l = 0; l < layers.size(); ++l) program.capacity[3 * l] = bits;
    const ProgramSolution s = solve_program(program, options.search);
    if (s.status != SearchStatus::kOptimal) return std::nullopt;
    Answer answer;
    for (std::size_t i = 0; i < s.choices.size(); ++i) {
      const Format f = widths[index(s.choices[i])];
      answer.objective += real[i][index(s.choices[i])];
      const auto& formats = lowered.formats[i];
      const auto found = std::find(formats.begin(), formats.end(), Reading(f));
      answer.choices.push_back(static_cast<int>(found - formats.begin()));
    }
    if (!within_limits(lowered.program, answer.choices)) return std::nullopt;
    return answer;
  };
  std::optional<Answer> best;
  std::int64_t bits = 0;
  for (const Budget& b : problem.budgets)
    if (problem.resources[index(b.resource)].name == "bits" && b.per_layer) bits = b.value;
  if (bits > 0) {
    best = with_bits(bits);
  } else {
    // Fewer bits use less, so that halving finds the most that fit.
    std::int64_t enough = 0, beyond = 0;
    for (const auto& [layer, count] : experts) {
      enough = std::max<std::int64_t>(enough, count + 3);
      beyond = std::max<std::int64_t>(beyond, 3 * count);
    }
    bits = enough;
    best = with_bits(enough);
    while (best && beyond - bits > 1) {
      const std::int64_t middle = bits + (beyond - bits) / 2;
      if (auto answer = with_bits(middle)) {
        best = answer;
        bits = middle;
      } else {
        beyond = middle;
      }
    }
  }
  if (!best)
    give_up(problem, options.search, "pmq",
            "budgets that its program meets: per layer one expert of 3 bits, one of 2, the others of at least 1");
  Allocation a = heuristic(problem, lowered, best->choices);
  a.facts[0].second = "optimal for its own program";
  a.facts.emplace_back("bits_per_layer", std::to_string(bits));
  a.facts.emplace_back("objective", fmt::format("{}", best->objective));
  return a;
}

namespace {

/// What takes one width in BAQ's closed form: a unit, or where the table has losses of matrices, some of a unit's.
struct BaqPart {
  std::size_t unit = 0;
  bool gate = true, up = true, down = true;
};

/// The parts of every unit: the matrices that need not agree.
std::vector<BaqPart> baq_parts(const Problem& problem, const Lowered& lowered) {
  std::vector<BaqPart> parts;
  for (std::size_t u = 0; u < lowered.units.size(); ++u) {
    if (problem.together == Together::kAll) {
      parts.push_back({u});
    } else if (problem.together == Together::kGateUp) {
      parts.push_back({u, true, true, false});
      parts.push_back({u, false, false, true});
    } else {
      parts.push_back({u, true, false, false});
      parts.push_back({u, false, true, false});
      parts.push_back({u, false, false, true});
    }
  }
  return parts;
}

/// The scaled loss of a part in one format.
double baq_loss(const Problem& problem, const Lowered& lowered, const BaqPart& part, int whole, Format format) {
  if (problem.together == Together::kAll)
    return static_cast<double>(lowered.program.items[part.unit].options[index(whole)].cost);
  double sum = 0;
  const std::array<bool, 3> own{part.gate, part.up, part.down};
  for (const int i : lowered.units[part.unit])
    for (std::size_t m = 0; m < own.size(); ++m)
      for (const auto& [of, loss] : problem.items[index(i)].matrices[m])
        if (own[m] && of == format) sum += static_cast<double>(loss);
  return sum;
}

}  // namespace

Allocation allocate_baq(const Problem& problem, const AllocatorOptions& options) {
  const Lowered lowered = lower(problem);
  const std::vector<int> widths = common_widths(lowered);
  if (widths.empty()) refuse("baq", "a table with a width that all experts have");
  const std::vector<BaqPart> parts = baq_parts(problem, lowered);
  const auto format_of = [&](std::size_t unit, int bits) {
    return lowered.formats[unit][index(option_of_width(lowered.formats[unit], bits))].format.gate;
  };
  // log4 of c for every part; a loss of 0 counts as the least positive one.
  const auto loss_of = [&](const BaqPart& part, int bits) {
    return baq_loss(problem, lowered, part, option_of_width(lowered.formats[part.unit], bits),
                    format_of(part.unit, bits));
  };
  double least = std::numeric_limits<double>::infinity();
  if (problem.together == Together::kAll) {
    for (const ProgramItem& item : lowered.program.items)
      for (const ProgramOption& o : item.options)
        if (o.cost > 0) least = std::min(least, static_cast<double>(o.cost));
  } else {
    for (const BaqPart& part : parts)
      for (const int bits : widths)
        if (loss_of(part, bits) > 0) least = std::min(least, loss_of(part, bits));
  }
  if (!std::isfinite(least)) least = 1;
  std::vector<double> sensitivity;
  double mean_sensitivity = 0;
  for (const BaqPart& part : parts) {
    double sum = 0;
    for (const int bits : widths) sum += std::log2(std::max(loss_of(part, bits), least)) / 2 + bits;
    sensitivity.push_back(sum / static_cast<double>(widths.size()));
    // Gate and up together are two of three matrices.
    const int matrices = int{part.gate} + int{part.up} + int{part.down};
    const double share = matrices == 3 ? sensitivity.back() : sensitivity.back() * matrices / 3;
    mean_sensitivity += share / static_cast<double>(lowered.units.size());
  }
  std::vector<std::vector<int>> allowed;
  for (std::size_t u = 0; u < lowered.units.size(); ++u) {
    allowed.emplace_back();
    const auto has = [&](Format f) {
      return std::any_of(widths.begin(), widths.end(), [&](int bits) { return format_of(u, bits) == f; });
    };
    for (std::size_t o = 0; o < lowered.formats[u].size(); ++o) {
      const numerics::ExpertFormats& f = lowered.formats[u][o].format;
      const bool is_one = lowered.formats[u][o].reads.empty();  // of all classes
      if (is_one && has(f.gate) && has(f.up) && has(f.down)) allowed.back().push_back(static_cast<int>(o));
    }
  }
  const auto rounded = [&](int mean_64ths) {
    std::vector<numerics::ExpertFormats> formats(lowered.units.size());
    for (std::size_t p = 0; p < parts.size(); ++p) {
      const double bits = mean_64ths / 64.0 + sensitivity[p] - mean_sensitivity;
      int best = widths[0];
      for (const int w : widths)
        if (std::abs(bits - w) < std::abs(bits - best)) best = w;
      numerics::ExpertFormats& own = formats[parts[p].unit];
      const Format format = format_of(parts[p].unit, best);
      if (parts[p].gate) own.gate = format;
      if (parts[p].up) own.up = format;
      if (parts[p].down) own.down = format;
    }
    Choices choices;
    for (std::size_t u = 0; u < formats.size(); ++u) {
      const auto& all = lowered.formats[u];
      choices.push_back(static_cast<int>(std::find(all.begin(), all.end(), Reading(formats[u])) - all.begin()));
    }
    return choices;
  };
  int mean = 64 * 8;
  while (mean > 64 && !within_limits(lowered.program, rounded(mean))) --mean;
  Choices choices = rounded(mean);
  if (!repair(lowered.program, choices, true, allowed))
    give_up(problem, options.search, "baq",
            "budgets and constraints that its rounded and repaired widths meet, and they do not");
  Allocation a = heuristic(problem, lowered, choices);
  a.facts.emplace_back("mean_bits", fmt::format("{}", mean / 64.0));
  return a;
}

Allocation allocate_hawq(const Problem& problem, const AllocatorOptions& options) {
  const Lowered lowered = lower(problem);
  ChoiceProgram program = lowered.program;
  std::vector<std::vector<int>> kept(program.items.size());
  for (std::size_t u = 0; u < program.items.size(); ++u) {
    std::vector<Format> widths;
    for (const int bits : {2, 4, 8}) {
      const int o = option_of_width(lowered.formats[u], bits);
      if (o >= 0) widths.push_back(lowered.formats[u][index(o)].format.gate);
    }
    std::vector<ProgramOption> own;
    for (const numerics::ExpertFormats& f : combinations(widths, widths, widths, problem.together)) {
      const auto found = std::find(lowered.formats[u].begin(), lowered.formats[u].end(), Reading(f));
      if (found == lowered.formats[u].end()) continue;
      kept[u].push_back(static_cast<int>(found - lowered.formats[u].begin()));
      own.push_back(program.items[u].options[index(kept[u].back())]);
    }
    if (own.empty()) refuse("hawq", "a table with 2, 4 or 8 bits for every expert");
    program.items[u].options = own;
  }
  const ProgramSolution s = solve_program(program, options.search);
  if (s.choices.empty())
    give_up(problem, options.search, "hawq", "budgets and constraints that widths 2, 4 and 8 meet, and none do");
  Choices choices;
  for (std::size_t u = 0; u < s.choices.size(); ++u) choices.push_back(kept[u][index(s.choices[u])]);
  Allocation a = heuristic(problem, lowered, choices);
  a.facts[0].second = s.status == SearchStatus::kOptimal ? "optimal for its own widths" : "feasible";
  return a;
}

}  // namespace moesaic::mapping
