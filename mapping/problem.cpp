#include "mapping/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <initializer_list>
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

std::size_t index(int i) { return static_cast<std::size_t>(i); }

}  // namespace

MemoryTable::MemoryTable(const workloads::Network& network, std::int64_t group_size, const numerics::LayoutSpec& layout)
    : hidden_(network.hidden), intermediate_(network.expert_intermediate), group_size_(group_size), layout_(layout) {}

std::pair<std::int64_t, std::int64_t> MemoryTable::of(const numerics::ExpertFormats& formats) const {
  const std::lock_guard<std::mutex> lock(known_->mutex);
  const auto [at, is_new] = known_->bytes.try_emplace(formats);
  if (is_new) {
    const numerics::ExpertLayout stored(formats, hidden_, intermediate_, group_size_, layout_);
    at->second = {stored.total_bytes(), stored.read_bytes()};
  }
  return at->second;
}

Reading::Reading(const std::vector<Format>& of_classes) : reads(of_classes) {
  const auto widest =
      std::max_element(reads.begin(), reads.end(), [](Format a, Format b) { return a.planes() < b.planes(); });
  format = *widest;
  if (std::all_of(reads.begin(), reads.end(), [&](Format f) { return f == *widest; })) reads.clear();
}

std::string Reading::name() const {
  if (reads.empty()) return format.name();
  std::string name;
  for (const Format f : reads) name += (name.empty() ? "" : ":") + f.name();
  return name;
}

std::vector<std::pair<numerics::ExpertFormats, workloads::ClassSet>> Reading::widths(std::size_t classes) const {
  if (classes < 2) return {{format, workloads::kEveryRow}};
  if (reads.empty()) return {{format, (workloads::ClassSet{1} << classes) - 1}};
  std::map<int, std::pair<numerics::ExpertFormats, workloads::ClassSet>> by_planes;  // they are of one stored copy
  for (std::size_t c = 0; c < reads.size(); ++c) {
    auto& width = by_planes[reads[c].planes()];
    width.first = reads[c];
    width.second |= workloads::ClassSet{1} << c;
  }
  std::vector<std::pair<numerics::ExpertFormats, workloads::ClassSet>> widths;
  for (const auto& [planes, width] : by_planes) widths.push_back(width);
  return widths;
}

double Classes::factor(int layer, int expert, std::size_t number) const {
  const auto own = of_expert.find({layer, expert});
  const double share = (own == of_expert.end() ? shares : own->second).at(number);
  return weights.empty() ? share : share * weights.at(number);
}

namespace {

/// Calls visit(indices) with what each class reads of `formats`, in lexicographic order.
template <class Visit>
void for_each_reading(const std::vector<Format>& formats, std::size_t classes, bool rising, Visit visit) {
  std::vector<std::size_t> reads;
  const std::function<void()> next = [&] {
    if (reads.size() == classes) {
      visit(reads);
      return;
    }
    for (std::size_t f = 0; f < formats.size(); ++f) {
      if (!reads.empty()) {
        if (!formats[f].same_copy(formats[reads.front()])) continue;
        if (rising && formats[f].planes() < formats[reads.back()].planes()) continue;
      }
      reads.push_back(f);
      next();
      reads.pop_back();
    }
  };
  next();
}

}  // namespace

std::vector<Reading> readings(const std::vector<Format>& formats, std::size_t classes, bool rising) {
  std::vector<Reading> all;
  for_each_reading(formats, std::max<std::size_t>(classes, 1), rising, [&](const std::vector<std::size_t>& reads) {
    std::vector<Format> of_classes;
    for (const std::size_t f : reads) of_classes.push_back(formats[f]);
    all.emplace_back(of_classes);
  });
  return all;
}

std::size_t count_readings(const std::vector<Format>& formats, std::size_t classes, bool rising) {
  // Of the classes from one on, by what that one reads.
  std::vector<std::size_t> ways(formats.size(), 1);
  for (std::size_t c = 1; c < classes; ++c) {
    std::vector<std::size_t> longer(formats.size(), 0);
    for (std::size_t f = 0; f < formats.size(); ++f)
      for (std::size_t g = 0; g < formats.size(); ++g)
        if (formats[f].same_copy(formats[g]) && (!rising || formats[g].planes() >= formats[f].planes()))
          longer[f] = std::min(longer[f] + ways[g], kMostChoices + 1);
    ways = std::move(longer);
  }
  std::size_t sum = 0;
  for (const std::size_t w : ways) sum = std::min(sum + w, kMostChoices + 1);
  return sum;
}

std::vector<int> Problem::layers() const {
  std::vector<int> all;
  for (const Item& item : items)
    if (all.empty() || all.back() != item.layer) all.push_back(item.layer);
  return all;
}

std::optional<int> Problem::resource(const std::string& name) const {
  for (std::size_t r = 0; r < resources.size(); ++r)
    if (resources[r].name == name) return static_cast<int>(r);
  return std::nullopt;
}

std::int64_t capacity_of(const Problem& problem, const Budget& budget, std::size_t layer_rank) {
  if (budget.capacity.empty()) return budget.value * problem.resources.at(index(budget.resource)).scale;
  return budget.capacity.at(budget.per_layer ? layer_rank : 0);
}

Totals totals(const Problem& problem, const Assignment& assignment) {
  if (assignment.size() != problem.items.size()) throw std::logic_error("assignment of another problem");
  Totals sum;
  sum.use.assign(problem.resources.size(), 0);
  for (std::size_t i = 0; i < assignment.size(); ++i) {
    const Choice& c = problem.items[i].choices.at(index(assignment[i]));
    sum.loss += c.loss;
    sum.real_loss += c.real_loss;
    for (std::size_t r = 0; r < c.use.size(); ++r) sum.use[r] += c.use[r];
  }
  return sum;
}

std::vector<std::int64_t> layer_use(const Problem& problem, const Assignment& assignment, int resource) {
  std::vector<std::int64_t> sums;
  int layer = -1;
  for (std::size_t i = 0; i < assignment.size(); ++i) {
    if (sums.empty() || problem.items[i].layer != layer) sums.push_back(0);
    layer = problem.items[i].layer;
    sums.back() += problem.items[i].choices.at(index(assignment[i])).use.at(index(resource));
  }
  return sums;
}

int loss_exponent_for(double greatest_sum) {
  // frexp: greatest_sum < 2^exponent, so that the scaled sum is below 2^50.
  int exponent = 0;
  std::frexp(greatest_sum, &exponent);
  return greatest_sum > 0 ? 50 - exponent : 0;
}

std::int64_t scaled_loss(double loss, int exponent) { return std::llround(std::ldexp(loss, exponent)); }

bool is_by_projection(const std::vector<workloads::SensitivityRow>& rows) {
  return !rows.empty() && rows.front().projection != workloads::Projection::kAll;
}

namespace {

/// Calls visit(gate, up, down) for every combination of elements that `together` allows, in lexicographic order;
/// `same(a, b)`: whether two elements have one format.
template <class List, class Same, class Visit>
void for_each_combination(const List& gate, const List& up, const List& down, Together together, Same same,
                          Visit visit) {
  for (const auto& g : gate)
    for (const auto& u : up) {
      if (together != Together::kNone && !same(g, u)) continue;
      for (const auto& d : down)
        if (together != Together::kAll || same(g, d)) visit(g, u, d);
    }
}

/// Rows of one expert: all of its matrices together, or of gate, up, down.
using OwnRows = std::array<std::vector<const workloads::SensitivityRow*>, 4>;

/// What classes may read, where each choice of the item is one format that all of them could.
std::vector<Choice> of_classes(const Item& item, const Problem& problem) {
  const Classes& classes = problem.classes;
  std::vector<Format> formats;
  for (const Choice& choice : item.choices) formats.push_back(choice.format.gate);
  std::vector<Choice> choices;
  for_each_reading(formats, classes.count(), classes.rising, [&](const std::vector<std::size_t>& reads) {
    Choice choice;
    std::vector<Format> read;
    for (std::size_t c = 0; c < reads.size(); ++c) {
      read.push_back(formats[reads[c]]);
      choice.real_loss += classes.factor(item.layer, item.expert, c) * item.choices[reads[c]].real_loss;
    }
    static_cast<Reading&>(choice) = Reading(read);
    choice.loss = scaled_loss(choice.real_loss, problem.loss_exponent);
    choices.push_back(std::move(choice));
  });
  return choices;
}

Item item_of(const OwnRows& own, const std::string& path, const Problem& problem) {
  using workloads::SensitivityRow;
  const auto of = [&own](workloads::Projection p) -> const std::vector<const SensitivityRow*>& {
    return own[static_cast<std::size_t>(p)];
  };
  const SensitivityRow* first = nullptr;
  for (const auto& rows : own)
    if (first == nullptr && !rows.empty()) first = rows[0];
  Item item;
  item.layer = first->layer;
  item.expert = first->expert;
  item.frequency = first->frequency;
  item.weight = first->weight;
  const auto add = [&](const numerics::ExpertFormats& formats, std::initializer_list<const SensitivityRow*> rows) {
    Choice choice;
    choice.format = formats;
    for (const SensitivityRow* r : rows) {
      choice.loss += scaled_loss(r->loss, problem.loss_exponent);
      choice.real_loss += r->loss;
    }
    item.choices.push_back(std::move(choice));
  };
  for (const SensitivityRow* r : of(workloads::Projection::kAll)) add(r->format, {r});
  for_each_combination(
      of(workloads::Projection::kGate), of(workloads::Projection::kUp), of(workloads::Projection::kDown),
      problem.together, [](const SensitivityRow* a, const SensitivityRow* b) { return a->format == b->format; },
      [&](const SensitivityRow* g, const SensitivityRow* u, const SensitivityRow* d) {
        add({g->format, u->format, d->format}, {g, u, d});
      });
  if (problem.classes.any()) item.choices = of_classes(item, problem);
  for (Choice& choice : item.choices) {
    const auto widths = choice.widths(problem.classes.count());
    for (const Resource& resource : problem.resources) {
      std::int64_t use = 0;
      if (resource.class_use)
        for (const auto& [format, classes] : widths)
          use += resource.class_use(item.layer, item.expert, format, classes);
      else
        use = resource.use(item.layer, item.expert, choice.format);
      choice.use.push_back(use);
    }
  }
  for (std::size_t m = 0; m < item.matrices.size(); ++m)
    for (const SensitivityRow* r : own[m + 1])  // the order of workloads::Projection
      item.matrices[m].emplace_back(r->format, scaled_loss(r->loss, problem.loss_exponent));
  if (item.choices.empty())
    throw ConfigError(path, fmt::format("layer {}, expert {}", item.layer, item.expert),
                      "rows of gate, up and down in no format together",
                      problem.together == Together::kAll ? "one format in which all three have a row"
                                                         : "one in which gate and up have a row, and a row of down");
  return item;
}

}  // namespace

std::vector<numerics::ExpertFormats> combinations(const std::vector<Format>& gate, const std::vector<Format>& up,
                                                  const std::vector<Format>& down, Together together) {
  std::vector<numerics::ExpertFormats> all;
  for_each_combination(
      gate, up, down, together, [](Format a, Format b) { return a == b; },
      [&all](Format g, Format u, Format d) { all.emplace_back(g, u, d); });
  return all;
}

namespace {

/// Times which an expert's losses count, at most.
double weight_of(const Classes& classes, int layer, int expert) {
  if (!classes.any()) return 1;
  double sum = 0;
  for (std::size_t c = 0; c < classes.count(); ++c) sum += classes.factor(layer, expert, c);
  return sum;
}

}  // namespace

Problem make_problem(const std::vector<workloads::SensitivityRow>& rows, const std::string& path,
                     const workloads::Network& network, std::vector<Resource> resources, Together together,
                     const Classes& classes) {
  std::map<std::pair<int, int>, OwnRows> by_expert;
  Problem problem;
  problem.by_projection = is_by_projection(rows);
  problem.together = problem.by_projection ? together : Together::kAll;
  problem.classes = classes;
  if (classes.any() && problem.together != Together::kAll)
    throw ConfigError(path, "projection", "losses of gate, up and down for classes of requests",
                      "a table of whole experts, or --tie gate,up,down: a class reads one format");
  for (const workloads::SensitivityRow& r : rows) {
    if (r.layer >= network.layers || !network.has_experts[index(r.layer)])
      throw ConfigError(path, "layer", std::to_string(r.layer),
                        fmt::format("a layer of {} that has experts ({} layers)", network.name, network.layers));
    if (r.expert >= network.experts)
      throw ConfigError(path, "expert", fmt::format("{} in layer {}", r.expert, r.layer),
                        fmt::format("0 to {} ({})", network.experts - 1, network.name));
    by_expert[{r.layer, r.expert}][static_cast<std::size_t>(r.projection)].push_back(&r);
  }

  problem.resources = std::move(resources);
  double greatest_sum = 0;
  std::size_t choices = 0;
  for (int layer = 0; layer < network.layers; ++layer) {
    if (!network.has_experts[index(layer)]) continue;
    for (int expert = 0; expert < network.experts; ++expert) {
      const std::string where = fmt::format("layer {}, expert {}", layer, expert);
      const auto found = by_expert.find({layer, expert});
      if (found == by_expert.end()) throw ConfigError(path, where, "no row", "at least one");
      const workloads::SensitivityRow* first = nullptr;
      std::size_t combined = 1;
      for (std::size_t p = 0; p < found->second.size(); ++p) {
        std::vector<const workloads::SensitivityRow*>& own = found->second[p];
        if ((p == 0) == problem.by_projection) continue;
        if (own.empty())
          throw ConfigError(
              path, where,
              p == 0 ? std::string("no row")
                     : std::string("no row of ") + workloads::projection_name(static_cast<workloads::Projection>(p)),
              "at least one");
        std::sort(own.begin(), own.end(),
                  [](const auto* a, const auto* b) { return rank(a->format) < rank(b->format); });
        if (first == nullptr) first = own[0];
        double greatest = 0;
        for (const auto* r : own) {
          greatest = std::max(greatest, r->loss);
          if (r->frequency != first->frequency || r->weight != first->weight)
            throw ConfigError(path, where, "rows that differ in frequency or weight",
                              "the same in every row of an expert");
        }
        greatest_sum += greatest * weight_of(classes, layer, expert);
        if (problem.together != Together::kAll && !(problem.together == Together::kGateUp && p == 2))
          combined *= own.size();
      }
      if (classes.any()) {
        std::vector<Format> formats;
        for (const auto* r : found->second[problem.by_projection ? 1 : 0]) formats.push_back(r->format);
        combined = count_readings(formats, classes.count(), classes.rising);
      }
      choices += combined;
    }
  }
  if (!std::isfinite(greatest_sum)) throw ConfigError(path, "loss", "a sum beyond a double", "a finite sum");
  if (choices > kMostChoices && classes.any())
    throw ConfigError(
        "moesaic map", "--class-shares",
        fmt::format("{} classes that read in more than {} ways over all experts", classes.count(), kMostChoices),
        "fewer of them, fewer formats (--formats), or --class-order rising");
  if (choices > kMostChoices)
    throw ConfigError(path, "projection", fmt::format("{} combinations of formats over all experts", choices),
                      fmt::format("at most {}: fewer formats (--formats), or --tie gate,up", kMostChoices));
  problem.loss_exponent = loss_exponent_for(greatest_sum);
  for (const auto& [where, own] : by_expert) problem.items.push_back(item_of(own, path, problem));
  return problem;
}

workloads::Network network_of(const std::vector<workloads::SensitivityRow>& rows, const std::string& path) {
  workloads::Network network;
  network.name = "the table " + path;
  for (const workloads::SensitivityRow& r : rows) {
    network.layers = std::max<std::int64_t>(network.layers, r.layer + 1);
    network.experts = std::max<std::int64_t>(network.experts, r.expert + 1);
  }
  network.has_experts.assign(static_cast<std::size_t>(network.layers), false);
  for (const workloads::SensitivityRow& r : rows) network.has_experts[index(r.layer)] = true;
  return network;
}

std::vector<workloads::SensitivityRow> with_significance(std::vector<workloads::SensitivityRow> rows,
                                                         const std::string& path) {
  std::map<std::pair<int, int>, std::pair<double, double>> of_expert;
  for (const auto& r : rows) of_expert[{r.layer, r.expert}] = {r.frequency, r.weight};
  std::map<int, std::pair<double, double>> of_layer;
  for (const auto& [where, values] : of_expert) {
    of_layer[where.first].first += values.first;
    of_layer[where.first].second += values.second;
  }
  for (auto& r : rows) {
    const auto [frequencies, weights] = of_layer[r.layer];
    if (!(frequencies > 0) || !(weights > 0))
      throw ConfigError(path, fmt::format("layer {}", r.layer), "frequencies or weights that sum to 0",
                        "a positive sum: significance divides by it");
    r.loss *= r.frequency / frequencies * std::pow(r.weight / weights, 1.5);
  }
  return rows;
}

Assignment Lowered::assignment(const Problem& problem, const Choices& choices) const {
  Assignment a(problem.items.size(), -1);
  for (std::size_t u = 0; u < units.size(); ++u) {
    const Reading& reading = formats[u].at(index(choices.at(u)));
    for (const int i : units[u]) {
      const auto& all = problem.items[index(i)].choices;
      a[index(i)] = static_cast<int>(std::find(all.begin(), all.end(), reading) - all.begin());
    }
  }
  return a;
}

Lowered lower(const Problem& problem) {
  Lowered lowered;
  std::vector<int> group(problem.items.size(), -1);
  for (std::size_t g = 0; g < problem.tied.size(); ++g)
    for (const int i : problem.tied[g]) {
      if (group.at(index(i)) >= 0) throw std::logic_error("an item tied twice");
      group[index(i)] = static_cast<int>(g);
    }
  for (int i = 0; i < static_cast<int>(problem.items.size()); ++i) {
    if (group[index(i)] < 0) {
      lowered.units.push_back({i});
    } else {
      std::vector<int> own = problem.tied[index(group[index(i)])];
      std::sort(own.begin(), own.end());
      if (own.front() == i) lowered.units.push_back(own);
    }
  }

  const std::vector<int> layers = problem.layers();
  const auto layer_rank = [&](int layer) {
    return std::lower_bound(layers.begin(), layers.end(), layer) - layers.begin();
  };
  std::vector<int> first_limit;  // of every budget, then of every rule
  for (std::size_t b = 0; b < problem.budgets.size(); ++b) {
    const Budget& budget = problem.budgets[b];
    const std::int64_t scale = problem.resources.at(index(budget.resource)).scale;
    if (budget.value > (std::int64_t{1} << 62) / scale)
      throw ConfigError("moesaic map", budget.key, std::to_string(budget.value),
                        fmt::format("at most {}", (std::int64_t{1} << 62) / scale));
    first_limit.push_back(static_cast<int>(lowered.limits.size()));
    for (std::size_t l = 0; l < (budget.per_layer ? layers.size() : 1); ++l) {
      lowered.limits.push_back({static_cast<int>(b), -1, budget.per_layer ? layers[l] : -1});
      lowered.program.capacity.push_back(capacity_of(problem, budget, l));
    }
  }
  for (std::size_t r = 0; r < problem.at_least.size(); ++r) {
    const AtLeast& rule = problem.at_least[r];
    first_limit.push_back(static_cast<int>(lowered.limits.size()));
    for (const int layer : layers) {
      if (rule.layer >= 0 && rule.layer != layer) continue;
      lowered.limits.push_back({-1, static_cast<int>(r), layer});
      lowered.program.capacity.push_back(-rule.count);
    }
  }

  for (const std::vector<int>& unit : lowered.units) {
    ProgramItem item;
    std::vector<Reading> formats;
    const Item& first = problem.items[index(unit[0])];
    std::map<int, std::size_t> place;  // of a limit in item.limits
    const auto place_of = [&](int limit) {
      const auto [at, fresh] = place.emplace(limit, item.limits.size());
      if (fresh) item.limits.push_back(limit);
      return at->second;
    };
    // The limits come first, so that every option's uses have one length.
    const auto limit_of = [&](std::size_t constraint, bool per_layer, int layer) {
      return first_limit[constraint] + (per_layer ? static_cast<int>(layer_rank(layer)) : 0);
    };
    for (const int i : unit) {
      for (std::size_t b = 0; b < problem.budgets.size(); ++b)
        place_of(limit_of(b, problem.budgets[b].per_layer, problem.items[index(i)].layer));
      for (std::size_t r = 0; r < problem.at_least.size(); ++r) {
        const AtLeast& rule = problem.at_least[r];
        if (rule.layer >= 0 && rule.layer != problem.items[index(i)].layer) continue;
        place_of(limit_of(problem.budgets.size() + r, rule.layer < 0, problem.items[index(i)].layer));
      }
    }
    for (const Choice& c : first.choices) {
      ProgramOption option;
      option.use.assign(item.limits.size(), 0);
      bool everywhere = true;
      for (const int i : unit) {
        const Item& member = problem.items[index(i)];
        const auto own = std::find(member.choices.begin(), member.choices.end(), c);
        if (own == member.choices.end()) {
          everywhere = false;
          break;
        }
        option.cost += own->loss;
        for (std::size_t b = 0; b < problem.budgets.size(); ++b)
          option.use[place_of(limit_of(b, problem.budgets[b].per_layer, member.layer))] +=
              own->use.at(index(problem.budgets[b].resource));
        for (std::size_t r = 0; r < problem.at_least.size(); ++r) {
          const AtLeast& rule = problem.at_least[r];
          if ((rule.layer >= 0 && rule.layer != member.layer) || c != Reading(rule.format)) continue;
          option.use[place_of(limit_of(problem.budgets.size() + r, rule.layer < 0, member.layer))] -= 1;
        }
      }
      if (!everywhere) continue;
      item.options.push_back(std::move(option));
      formats.push_back(c);
    }
    if (item.options.empty())
      throw ConfigError("moesaic map", "--tie",
                        fmt::format("layer {}, expert {} and others that share no format", first.layer, first.expert),
                        "experts with a format in common");
    lowered.program.items.push_back(std::move(item));
    lowered.formats.push_back(std::move(formats));
  }
  try {
    check_program(lowered.program);
  } catch (const std::logic_error& error) {
    throw base::InputError(std::string("moesaic map: ") + error.what() + ": the model or its costs are too great");
  }
  return lowered;
}

ParsedBudget parse_budget(const std::string& text, BudgetUnit unit, const AverageBits& average,
                          const std::string& where, const std::string& key) {
  std::string expected;
  switch (unit) {
    case BudgetUnit::kBytes:
      expected = "bytes (123456, 96KiB, 1.5MiB, 2GiB)";
      break;
    case BudgetUnit::kBytesOrAverageBits:
      expected = "bytes (123456, 96KiB, 1.5MiB, 2GiB) or average bits of a weight from 1 to 8 (2.5bits)";
      break;
    case BudgetUnit::kCycles:
      expected = "cycles (1200cycles)";
      break;
    case BudgetUnit::kBits:
      expected = "bits (16bits)";
      break;
    case BudgetUnit::kPlain:
      expected = "a whole number";
      break;
  }
  const ConfigError refused(where, key, "'" + text + "'", expected + ", or that for each layer with /layer after it");
  ParsedBudget parsed;
  std::string_view body = text;
  constexpr std::string_view kPerLayer = "/layer";
  if (body.size() > kPerLayer.size() && body.substr(body.size() - kPerLayer.size()) == kPerLayer) {
    parsed.per_layer = true;
    body.remove_suffix(kPerLayer.size());
  }
  double value = 0;
  const auto [end, error] = std::from_chars(body.data(), body.data() + body.size(), value, std::chars_format::fixed);
  const std::string_view suffix(end, static_cast<std::size_t>(body.data() + body.size() - end));
  if (error != std::errc() || !std::isfinite(value) || value < 0) throw refused;
  const bool whole = value == std::floor(value);
  double scale = 0;
  switch (unit) {
    case BudgetUnit::kBytesOrAverageBits:
      if (suffix == "bits") {
        if (value < 1 || value > 8) throw refused;
        const std::int64_t items = parsed.per_layer ? average.items_per_layer : average.items;
        const int below = std::min(static_cast<int>(value), 7);
        const auto low = static_cast<double>(average.memory->bytes(Format::integer(below)));
        const auto high = static_cast<double>(average.memory->bytes(Format::integer(below + 1)));
        parsed.value =
            static_cast<std::int64_t>(std::floor((low + (high - low) * (value - below)) * static_cast<double>(items)));
        return parsed;
      }
      [[fallthrough]];
    case BudgetUnit::kBytes:
      if (suffix.empty() && whole) scale = 1;
      if (suffix == "KiB") scale = 1024;
      if (suffix == "MiB") scale = 1024.0 * 1024;
      if (suffix == "GiB") scale = 1024.0 * 1024 * 1024;
      break;
    case BudgetUnit::kCycles:
      if (suffix == "cycles" && whole) scale = 1;
      break;
    case BudgetUnit::kBits:
      if (suffix == "bits" && whole) scale = 1;
      break;
    case BudgetUnit::kPlain:
      if (suffix.empty() && whole) scale = 1;
      break;
  }
  if (scale == 0 || value * scale > 0x1p53) throw refused;
  parsed.value = static_cast<std::int64_t>(std::floor(value * scale));
  return parsed;
}

}  // namespace moesaic::mapping
