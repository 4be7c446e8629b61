#include "cli/map_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <set>
#include <string_view>
#include <tuple>

#include "base/atomic_file.h"
#include "base/sha256.h"
#include "cli/plan_check.h"
#include "mapping/checker.h"
#include "mapping/latency_search.h"
#include "sim/profile/profile.h"
#include "workloads/checkpoint.h"

namespace moesaic::cli {
namespace {

constexpr const char* kWhere = "moesaic map";

std::size_t index(int i) { return static_cast<std::size_t>(i); }

/// What the workload's rules on routing leave of it: the choices that are computed.
void leave_out_dropped(const workloads::WorkloadFile& workload, std::int64_t group, std::size_t classes,
                       Routing& routing) {
  if (workload.continuous_requests && (workload.routing.capacity_factor || workload.routing.round_to))
    throw base::ConfigError(
        workload.path, "routing", "rules on batches that the plan's own cycles decide",
        "no capacity_factor or round_to with continuous_batching, where what a token uses is counted");
  workloads::WorkloadFile shapes = workload;
  shapes.tokens.reset();  // what they hold decides nothing here
  const run::RunInputs inputs = run::open_inputs(shapes, latency_options(group, classes));
  routing.tokens.clear();
  for (std::size_t s = 0; s < inputs.step_count; ++s)
    for (const program::LayerRows& rows : inputs.make_step(s, false).layers)
      for (std::size_t c = 0; rows.part == program::Part::kExperts && c < rows.chosen.size(); ++c) {
        if (rows.chosen[c] >= static_cast<std::uint32_t>(inputs.experts)) continue;  // dropped, or no router's
        auto& tokens = routing.tokens[{rows.layer, static_cast<int>(rows.chosen[c])}];
        tokens.resize(std::max<std::size_t>(classes, 1));
        ++tokens[rows.levels.empty() ? 0 : rows.levels[c]];
      }
}

/// All choices of the workload. `classes`: so many, numbered by the trace's levels; 0: levels above 0 are refused.
Routing routing_of(const workloads::WorkloadFile& workload, std::size_t classes) {
  const workloads::WorkloadSlice slice = workloads::read_slice(workload);
  Routing routing;
  routing.scale = static_cast<std::int64_t>(slice.tokens.size());
  for (std::size_t l = 0; l < slice.layers.size(); ++l)
    for (const auto& row : slice.rows[l])
      for (std::size_t i = 0; i < row.experts.size(); ++i) {
        const std::size_t level = row.levels.empty() ? 0 : row.levels[i];
        routing.has_levels |= level > 0;
        if (level > 0 && classes == 0)
          throw base::ConfigError(workload.trace, "levels", "rows that read an expert at several widths",
                                  "level 0 throughout, or --class-shares: without classes all rows of an expert read "
                                  "one width");
        if (classes > 0 && level >= classes)
          throw base::ConfigError(workload.trace, "levels",
                                  fmt::format("{} for expert {} at layer {}", level, row.experts[i], slice.layers[l]),
                                  fmt::format("below {}, the classes of --class-shares", classes));
        auto& tokens = routing.tokens[{static_cast<int>(slice.layers[l]), static_cast<int>(row.experts[i])}];
        tokens.resize(std::max<std::size_t>(classes, 1));
        ++tokens[level];
      }
  return routing;
}

/// Those that the workload's rules leave.
Routing kept_routing_of(const workloads::WorkloadFile& workload, std::int64_t group, std::size_t classes) {
  Routing routing = routing_of(workload, classes);
  if (workload.routing.any()) leave_out_dropped(workload, group, classes, routing);
  return routing;
}

/// The classes that the trace's levels number, with the shares that they have of each expert's rows.
mapping::Classes classes_of_trace(const workloads::WorkloadFile& workload, std::int64_t group,
                                  const ClassOptions& options) {
  const Routing of_trace = routing_of(workload, workloads::kMostClasses),
                routing = kept_routing_of(workload, group, workloads::kMostClasses);
  std::size_t count = 0;
  for (const auto& [expert, tokens] : of_trace.tokens)
    for (std::size_t c = 0; c < tokens.size(); ++c)
      if (tokens[c] != 0) count = std::max(count, c + 1);
  if (!routing.has_levels)
    throw base::ConfigError(workload.trace, "levels", "level 0 throughout",
                            "the classes that --class-shares trace takes from it");
  std::vector<std::int64_t> all(workloads::kMostClasses, 0);
  for (const auto& [expert, tokens] : routing.tokens)
    for (std::size_t c = 0; c < all.size(); ++c) all[c] += tokens[c];
  const auto shares_of = [count](const std::vector<std::int64_t>& tokens) {
    std::int64_t sum = 0;
    for (const std::int64_t t : tokens) sum += t;
    std::vector<double> shares;
    for (std::size_t c = 0; c < count; ++c) shares.push_back(static_cast<double>(tokens[c]) / static_cast<double>(sum));
    return shares;
  };
  mapping::Classes classes;
  classes.rising = options.order != kAnyOrder;
  classes.shares = shares_of(all);
  for (const auto& [expert, tokens] : routing.tokens) classes.of_expert[expert] = shares_of(tokens);
  parse_weights(options, kWhere, classes);
  return classes;
}

Routing routing_of(const std::vector<workloads::SensitivityRow>& rows, const std::string& path) {
  Routing routing;
  for (const auto& r : rows)
    if (r.frequency != std::floor(r.frequency)) routing.scale = 1 << 20;
  for (const auto& r : rows) {
    const double tokens = std::round(r.frequency * static_cast<double>(routing.scale));
    if (tokens > 0x1p50) throw base::ConfigError(path, "frequency", fmt::format("{}", r.frequency), "less");
    routing.tokens[{r.layer, r.expert}] = {static_cast<std::int64_t>(tokens)};
  }
  return routing;
}

[[noreturn]] void refuse_missing(const std::string& option, const std::string& needs) {
  throw base::ConfigError(kWhere, option, "it without " + needs, needs + " beside it");
}

int whole(std::string_view text, const std::string& key, const std::string& given, const std::string& expected) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    throw base::ConfigError(kWhere, key, "'" + given + "'", expected);
  return value;
}

int find_item(const mapping::Problem& problem, std::string_view text, const std::string& key, const std::string& given,
              const std::string& expected) {
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos) throw base::ConfigError(kWhere, key, "'" + given + "'", expected);
  const int layer = whole(text.substr(0, dot), key, given, expected);
  const int expert = whole(text.substr(dot + 1), key, given, expected);
  for (std::size_t i = 0; i < problem.items.size(); ++i)
    if (problem.items[i].layer == layer && problem.items[i].expert == expert) return static_cast<int>(i);
  throw base::ConfigError(kWhere, key, "'" + given + "'",
                          fmt::format("experts of the model; layer {} has no expert {}", layer, expert));
}

constexpr std::string_view kTieGateUp = "gate,up", kTieAll = "gate,up,down";

/// What --tie says of an expert's own matrices.
mapping::Together together_of(const MapCommand& command, bool by_projection) {
  mapping::Together together = mapping::Together::kNone;
  for (const std::string& text : command.tied) {
    if (text != kTieGateUp && text != kTieAll) continue;
    if (!by_projection)
      throw base::ConfigError(kWhere, "--tie", "'" + text + "' with a table of whole experts",
                              "a table with the column projection (calibrate --per projection)");
    together = std::max(together, text == kTieAll ? mapping::Together::kAll : mapping::Together::kGateUp);
  }
  return together;
}

void add_constraints(const MapCommand& command, mapping::Problem& problem) {
  for (const std::string& text : command.at_least) {
    const std::string expected = "N:FORMAT, or N:FORMAT:LAYER with a layer that has experts (1:int3, 2:int4:0)";
    const std::size_t first = text.find(':');
    const std::size_t second = first == std::string::npos ? first : text.find(':', first + 1);
    if (first == std::string::npos) throw base::ConfigError(kWhere, "--at-least", "'" + text + "'", expected);
    mapping::AtLeast rule;
    rule.count = whole(std::string_view(text).substr(0, first), "--at-least", text, expected);
    rule.format = numerics::Format::parse(
        text.substr(first + 1, second == std::string::npos ? second : second - first - 1), kWhere, "--at-least");
    if (second != std::string::npos) {
      rule.layer = whole(std::string_view(text).substr(second + 1), "--at-least", text, expected);
      const std::vector<int> layers = problem.layers();
      if (std::find(layers.begin(), layers.end(), rule.layer) == layers.end())
        throw base::ConfigError(kWhere, "--at-least", "'" + text + "'", expected);
    }
    problem.at_least.push_back(rule);
  }
  std::set<int> in_a_group;
  for (const std::string& text : command.tied) {
    if (text == kTieGateUp || text == kTieAll) continue;  // together_of()
    const std::string expected =
        "two or more experts, each in one group only, as LAYER.EXPERT (0.1,0.5), or gate,up or gate,up,down";
    std::vector<int> group;
    for (std::string_view rest = text;;) {
      const std::size_t comma = rest.find(',');
      group.push_back(find_item(problem, rest.substr(0, comma), "--tie", text, expected));
      if (!in_a_group.insert(group.back()).second) throw base::ConfigError(kWhere, "--tie", "'" + text + "'", expected);
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
    if (group.size() < 2) throw base::ConfigError(kWhere, "--tie", "'" + text + "'", expected);
    problem.tied.push_back(group);
  }
  std::set<int> fixed;
  for (const std::string& text : command.fixed) {
    const std::string expected =
        "LAYER.EXPERT=FORMAT, a format that the table has for that expert (0.1=int8, 0.1=int2/int2/int4), or with "
        "classes what each of them may read of one stored copy (0.1=mwq2+0of2:mwq2+2)";
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) throw base::ConfigError(kWhere, "--fix", "'" + text + "'", expected);
    const int place = find_item(problem, std::string_view(text).substr(0, equals), "--fix", text, expected);
    if (!fixed.insert(place).second)
      throw base::ConfigError(kWhere, "--fix", "'" + text + "' of an expert that is fixed", "each expert once");
    mapping::Item& item = problem.items[index(place)];
    const mapping::Reading reading = parse_reading(text.substr(equals + 1), problem.classes.count(), kWhere, "--fix");
    const auto found = std::find(item.choices.begin(), item.choices.end(), reading);
    if (found == item.choices.end()) throw base::ConfigError(kWhere, "--fix", "'" + text + "'", expected);
    item.choices = {*found};
  }
}

/// The rows in formats that the hardware has; every expert, or every matrix of it, must keep one.
std::vector<workloads::SensitivityRow> in_formats(const std::vector<workloads::SensitivityRow>& rows,
                                                  const std::string& list, const std::string& path) {
  const std::vector<numerics::Format> formats = workloads::parse_formats(list, kWhere, "--formats");
  std::set<std::tuple<int, int, workloads::Projection>> left;
  std::vector<workloads::SensitivityRow> kept;
  for (const auto& r : rows) {
    left.insert({r.layer, r.expert, r.projection});
    if (std::find(formats.begin(), formats.end(), r.format) != formats.end()) kept.push_back(r);
  }
  for (const auto& r : kept) left.erase({r.layer, r.expert, r.projection});
  if (!left.empty()) {
    const auto& [layer, expert, projection] = *left.begin();
    throw base::ConfigError(path,
                            fmt::format("layer {}, expert {}{}", layer, expert,
                                        projection == workloads::Projection::kAll
                                            ? std::string()
                                            : fmt::format(", {}", workloads::projection_name(projection))),
                            "no row in the formats " + list, "at least one that the hardware has");
  }
  return kept;
}

constexpr std::size_t kMostRuns = 4096;

/// What experts may be stored in under this table: what is to be profiled.
std::vector<numerics::ExpertFormats> formats_of(const std::vector<workloads::SensitivityRow>& rows,
                                                mapping::Together together) {
  const auto with = [&rows](workloads::Projection projection) {
    std::vector<numerics::Format> formats;
    for (const numerics::Format format : numerics::all_formats())
      if (std::any_of(rows.begin(), rows.end(),
                      [&](const auto& row) { return row.format == format && row.projection == projection; }))
        formats.push_back(format);
    return formats;
  };
  if (!mapping::is_by_projection(rows)) {
    const std::vector<numerics::Format> formats = with(workloads::Projection::kAll);
    return {formats.begin(), formats.end()};
  }
  const std::vector<numerics::ExpertFormats> all =
      mapping::combinations(with(workloads::Projection::kGate), with(workloads::Projection::kUp),
                            with(workloads::Projection::kDown), together);
  if (all.size() > kMostRuns)
    throw base::ConfigError(kWhere, "--latency-budget",
                            fmt::format("{} combinations of formats to profile", all.size()),
                            fmt::format("at most {}: fewer formats (--formats), or --tie gate,up", kMostRuns));
  return all;
}

/// What experts may be read in under this table: what is to be profiled.
std::vector<profile::Reads> reads_to_profile(const std::vector<workloads::SensitivityRow>& rows,
                                             mapping::Together together, const mapping::Classes& classes) {
  const std::vector<numerics::ExpertFormats> formats = formats_of(rows, together);
  if (classes.count() < 2) return reads_of({formats.begin(), formats.end()}, 0);
  std::vector<numerics::Format> single;  // matrices of several formats have no classes
  for (const numerics::ExpertFormats& format : formats) single.push_back(format.gate);
  return reads_of(class_readings(single, classes.count(), classes.rising, kWhere, "--class-shares"), classes.count());
}

/// The workload's latency table, from the file given, which must be of this chip, work and engine, or measured now.
void read_latencies(const MapCommand& command, mapping::Together together, Inputs& in) {
  if (!in.workload) refuse_missing("--latency-budget", "--costs, or --workload and --chip");
  if (!in.chip) refuse_missing("--latency-budget", "--costs, or --workload and --chip");
  const std::size_t classes = in.classes.count();
  in.work = std::make_shared<const run::RunInputs>(latency_inputs(*in.workload, in.group_size, classes));
  if (command.profile.empty()) {
    in.latencies = make_profile(*in.work, *in.chip, *in.workload, reads_to_profile(in.rows, together, in.classes),
                                command.cache, kWhere)
                       .table;
  } else {
    in.latencies = workloads::LatencyTable::parse(base::read_file(command.profile), command.profile);
    const workloads::LatencyTable::Source& source = in.latencies->source();
    const auto same = [&](const std::string& key, const std::string& found, const std::string& expected,
                          const std::string& what) {
      if (found != expected) throw base::ConfigError(command.profile, key, found, expected + ", " + what);
    };
    same("chip", source.chip, in.chip->hash, "the hash of " + command.chip);
    same("memory", source.memory, in.chip->memory_name(), "the memory of " + command.chip);
    same("group_size", std::to_string(source.group_size), std::to_string(in.group_size),
         command.group_given ? "--group" : "that of " + command.sensitivity);
    same("work", source.work, profile::work_hash(*in.work), "the hash of what " + command.workload + " does");
    same("classes", std::to_string(source.classes), std::to_string(classes < 2 ? 0 : classes),
         "the classes of --class-shares that read differently");
    same("engine", source.engine, profile::engine_hash(), "this program's engine: profile again");
  }
  in.costs_hash = base::sha256_hex(in.latencies->text());
}

std::int64_t used_of(const mapping::Problem& problem, const mapping::Assignment& assignment,
                     const mapping::Budget& budget) {
  const std::vector<std::int64_t> layers = mapping::layer_use(problem, assignment, budget.resource);
  if (budget.per_layer) return *std::max_element(layers.begin(), layers.end());
  std::int64_t sum = 0;
  for (const std::int64_t l : layers) sum += l;
  return sum;
}

numerics::Format format_in(const numerics::ExpertFormats& formats, workloads::Projection projection) {
  return projection == workloads::Projection::kUp     ? formats.up
         : projection == workloads::Projection::kDown ? formats.down
                                                      : formats.gate;
}

/// What a plan says of how the losses it adds up were measured.
std::string measured_text(const std::optional<workloads::SensitivityRecord>& record, const std::string& column) {
  if (!record) return "unknown: the sensitivity table does not say it";
  workloads::LossKind kind = record->losses.front();
  const std::vector<std::string> others = workloads::other_loss_columns(record->losses);
  for (std::size_t i = 0; i < others.size(); ++i)
    if (others[i] == column) kind = record->losses[i + 1];
  return fmt::format("{} over {} windows of {}, groups of {}, {}-bit activations", workloads::loss_name(kind),
                     record->loss_windows, record->text_window, record->group_size, record->act_bits);
}

/// What the model's experts lose by the table if every row of theirs were of one class, for each class.
std::string losses_text(const std::vector<workloads::SensitivityRow>& rows, const workloads::Plan& plan) {
  std::map<std::tuple<int, int, numerics::Format>, double> loss_of;
  for (const workloads::SensitivityRow& row : rows) loss_of[{row.layer, row.expert, row.format}] += row.loss;
  std::string text;
  for (std::uint32_t c = 0; c < plan.class_shares.size(); ++c) {
    double sum = 0;
    for (const workloads::PlanEntry& entry : plan.experts)
      sum += loss_of.at({entry.layer, entry.expert, plan.read(entry, c)->gate});
    text += fmt::format("{}{}", text.empty() ? "" : " ", sum);
  }
  return text;
}

/// What the plan says of its classes and cannot be read from their shares.
void add_class_facts(const Inputs& in, const MapCommand& command, workloads::Plan& plan) {
  if (in.classes.count() > 1) {
    plan.solver.emplace_back("class_order", in.classes.rising ? kRisingOrder : kAnyOrder);
    if (!in.classes.of_expert.empty()) plan.solver.emplace_back("class_shares_of", "each expert's rows of the trace");
    plan.solver.emplace_back("loss_of_classes", losses_text(in.rows, plan));
  }
  if (!in.classes.weights.empty()) plan.solver.emplace_back("class_weights", command.classes.weights);
}

/// A plan of this allocation, checked against the tables.
workloads::Plan make_plan(const Inputs& in, const MapCommand& command, const std::string& allocator,
                          const mapping::Problem& problem, const mapping::Allocation& allocation) {
  workloads::Plan plan;
  plan.made_from.sensitivity = in.sensitivity_hash;
  if (in.chip) {
    plan.made_from.chip = in.chip->hash;
    plan.made_from.memory = in.chip->memory_name();
  }
  if (in.costs || in.latencies) plan.made_from.costs = in.costs_hash;
  plan.group_size = static_cast<int>(in.group_size);
  plan.quantiser = in.quantiser;
  const mapping::Totals totals = mapping::totals(problem, allocation.assignment);
  plan.loss = totals.real_loss;

  mapping::Claim claim;
  claim.gate_with_up = problem.together == mapping::Together::kGateUp;
  claim.all_together = problem.together == mapping::Together::kAll;
  claim.loss = totals.loss;
  claim.loss_exponent = problem.loss_exponent;
  if (in.memory) {
    plan.memory_bytes = totals.use[index(*problem.resource("memory"))];
    claim.bytes = plan.memory_bytes;
    claim.bytes_of = [&](const numerics::ExpertFormats& f) { return in.memory->bytes(f); };
  }
  for (const mapping::Budget& b : problem.budgets) {
    const mapping::Resource& r = problem.resources[index(b.resource)];
    const std::int64_t used = used_of(problem, allocation.assignment, b);
    const std::int64_t capacity =
        b.capacity.empty() ? b.value * r.scale : *std::max_element(b.capacity.begin(), b.capacity.end());
    plan.budgets.push_back({r.name, r.unit, b.per_layer, capacity, used, r.scale, {}});
    if (r.name == "memory" && !b.per_layer) plan.memory_budget_bytes = b.value;
    claim.budgets.push_back({r.name, b.per_layer, capacity, r.use, used,
                             b.per_layer ? b.capacity : std::vector<std::int64_t>{}, r.class_use});
  }
  for (const mapping::AtLeast& rule : problem.at_least) claim.at_least.push_back({rule.count, rule.format, rule.layer});
  for (const auto& group : problem.tied) {
    claim.tied.emplace_back();
    for (const int i : group)
      claim.tied.back().emplace_back(problem.items[index(i)].layer, problem.items[index(i)].expert);
  }
  if (allocation.certificate)
    claim.certificate = mapping::Claim::Certificate{allocation.certificate->num, allocation.certificate->den,
                                                    allocation.certificate->bound};
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    const mapping::Item& item = problem.items[i];
    const mapping::Choice& choice = item.choices[index(allocation.assignment[i])];
    plan.experts.push_back({item.layer, item.expert, choice.format, 0, choice.reads});
    // A certificate is about every way of the table; a fixed expert has one.
    if (problem.classes.any() && item.choices.size() == 1) claim.fixed.push_back(plan.experts.back());
  }
  plan.class_shares = problem.classes.shares;
  claim.classes = problem.classes.count();
  claim.class_weights = problem.classes.weights;
  claim.rising = problem.classes.rising;
  claim.shares = problem.classes.of_expert;
  plan.solver = {{"allocator", allocator}};
  if (problem.by_projection)
    plan.solver.emplace_back("formats_of", claim.all_together   ? "whole experts"
                                           : claim.gate_with_up ? "gate with up, and down"
                                                                : "gate, up and down");
  plan.solver.insert(plan.solver.end(), allocation.facts.begin(), allocation.facts.end());
  plan.solver.emplace_back("loss_exponent", std::to_string(problem.loss_exponent));
  plan.solver.emplace_back("loss_rounding", "nearest");
  if (command.loss != "table") plan.solver.emplace_back("loss_model", command.loss);
  if (command.loss_column != workloads::kLossColumn) plan.solver.emplace_back("loss_column", command.loss_column);
  plan.solver.emplace_back("measured", measured_text(in.record, command.loss_column));
  add_class_facts(in, command, plan);
  // Without classes a fixed expert's other rows are no choice.
  std::vector<workloads::SensitivityRow> rows;
  std::map<std::pair<int, int>, const mapping::Item*> item_of;
  for (const mapping::Item& item : problem.items) item_of[{item.layer, item.expert}] = &item;
  for (const auto& row : in.rows) {
    const auto& choices = item_of.at({row.layer, row.expert})->choices;
    if (problem.classes.any() || choices.size() > 1 || format_in(choices[0].format, row.projection) == row.format)
      rows.push_back(row);
  }
  mapping::check_claim(plan, claim, rows);
  return plan;
}

/// Allocates within additive latency budgets that mapping::search_latency() proposes, until the simulated plan keeps
/// the latency budgets.
class Enforcement {
 public:
  Enforcement(const Inputs& in, const MapCommand& command, const std::string& name, const mapping::Allocator& allocator,
              const mapping::AllocatorOptions& options)
      : in_(in), command_(command), name_(name), allocator_(allocator), options_(options), problem_(in.problem) {
    for (std::size_t b = 0; b < problem_.budgets.size(); ++b) {
      const mapping::Budget& budget = problem_.budgets[b];
      if (!in.work || problem_.resources[index(budget.resource)].name != "latency") continue;
      enforced_.push_back(b);
      wanted_.insert(wanted_.end(), limits_of(budget), wanted_of(b));
    }
  }

  workloads::Plan run() {
    if (enforced_.empty()) return make_plan(in_, command_, name_, problem_, allocator_.allocate(problem_, options_));
    if (!command_.check.empty()) return checked();
    const mapping::LatencyAnswer answer =
        mapping::search_latency(wanted_, {[this](const auto& capacity) { return within(capacity); },
                                          [this] { return least(); }, [this] { return fastest(); }});
    if (!answer.kept) throw missed();
    return stated(answer.kept->plan);
  }

 private:
  struct Tried {
    workloads::Plan plan;
    mapping::LatencyTrial trial;
  };

  std::size_t limits_of(const mapping::Budget& budget) const { return budget.per_layer ? problem_.layers().size() : 1; }
  std::int64_t wanted_of(std::size_t b) const {
    const mapping::Budget& budget = problem_.budgets[b];
    return budget.value * problem_.resources[index(budget.resource)].scale;
  }

  /// Sets what the additive problem allows: nothing is no bound.
  void bound(const std::vector<std::optional<std::int64_t>>& capacity) {
    auto next = capacity.begin();
    for (const std::size_t b : enforced_) {
      mapping::Budget& budget = problem_.budgets[b];
      std::int64_t most = 0;
      for (const mapping::Item& item : problem_.items) {
        std::int64_t greatest = 0;
        for (const mapping::Choice& c : item.choices) greatest = std::max(greatest, c.use[index(budget.resource)]);
        most += greatest;
      }
      budget.capacity.clear();
      for (std::size_t l = 0; l < limits_of(budget); ++l)
        budget.capacity.push_back(std::min(most, next++->value_or(most)));
    }
  }

  std::optional<mapping::LatencyTrial> within(const std::vector<std::optional<std::int64_t>>& capacity) {
    bound(capacity);
    try {
      return simulate(allocator_.allocate(problem_, options_));
    } catch (const base::InputError&) {
      if (tried_.empty()) throw;  // the other budgets' to say
      return {};
    }
  }

  /// A plan of these formats that was simulated before is not again.
  mapping::LatencyTrial simulate(const mapping::Allocation& allocation) {
    const auto known = plan_of_.emplace(allocation.assignment, tried_.size());
    if (!known.second) return tried_[known.first->second].trial;
    Tried tried{make_plan(in_, command_, name_, problem_, allocation), {}};
    const run::Timing simulated = cli::simulated(in_, *in_.work, tried.plan);
    tried.trial.plan = tried_.size();
    tried.trial.loss = mapping::totals(problem_, allocation.assignment).loss;
    for (const std::size_t b : enforced_) {
      const mapping::Budget& budget = problem_.budgets[b];
      const std::vector<std::int64_t> uses = mapping::layer_use(problem_, allocation.assignment, budget.resource);
      if (!budget.per_layer) {
        tried.trial.used.push_back(std::accumulate(uses.begin(), uses.end(), std::int64_t{0}));
        tried.trial.simulated.push_back(simulated.cycles);
        continue;
      }
      tried.trial.used.insert(tried.trial.used.end(), uses.begin(), uses.end());
      for (const int layer : problem_.layers()) {
        const auto found = simulated.layer_cycles.find(layer);
        tried.trial.simulated.push_back(found == simulated.layer_cycles.end() ? 0 : found->second);
      }
    }
    tried_.push_back(std::move(tried));
    return tried_.back().trial;
  }

  /// Of the model within the other budgets; of a layer whatever they say.
  std::vector<std::int64_t> least() {
    std::vector<std::int64_t> all;
    for (const std::size_t b : enforced_) {
      const mapping::Budget& budget = problem_.budgets[b];
      if (!budget.per_layer) {
        all.push_back(used_of(problem_, fastest_assignment(), budget));
        continue;
      }
      std::map<int, std::int64_t> layers;
      for (const mapping::Item& item : problem_.items) {
        std::int64_t fewest = item.choices.front().use[index(budget.resource)];
        for (const mapping::Choice& c : item.choices) fewest = std::min(fewest, c.use[index(budget.resource)]);
        layers[item.layer] += fewest;
      }
      for (const auto& [layer, uses] : layers) all.push_back(uses);
    }
    return all;
  }

  /// Of the plans of least additive latency within the other budgets.
  const mapping::Assignment& fastest_assignment() {
    if (!fastest_.empty()) return fastest_;
    mapping::Problem fastest = in_.problem;
    const int resource = problem_.budgets[enforced_.front()].resource;
    fastest.budgets.clear();
    for (std::size_t b = 0; b < problem_.budgets.size(); ++b)
      if (std::find(enforced_.begin(), enforced_.end(), b) == enforced_.end())
        fastest.budgets.push_back(problem_.budgets[b]);
    for (mapping::Item& item : fastest.items)
      for (mapping::Choice& c : item.choices) c.loss = c.use[index(resource)];
    fastest_ = mapping::allocate_optimal(fastest, options_).assignment;
    return fastest_;
  }

  /// Of those plans the one that loses least.
  mapping::LatencyTrial fastest() {
    mapping::Allocation allocation;
    allocation.assignment = fastest_assignment();
    allocation.facts = {{"status", "feasible"},
                        {"method", "least additive latency: no other plan tried was fast enough"}};
    for (const std::size_t b : enforced_) {  // its own uses are what the additive problem allows it
      mapping::Budget& budget = problem_.budgets[b];
      budget.capacity = budget.per_layer ? mapping::layer_use(problem_, allocation.assignment, budget.resource)
                                         : std::vector<std::int64_t>{used_of(problem_, allocation.assignment, budget)};
    }
    try {
      allocation.assignment = mapping::allocate_optimal(problem_, options_).assignment;
    } catch (const base::InputError&) {  // the search was stopped before it found the plan that is known
    }
    return simulate(allocation);
  }

  /// The plan, with what it takes simulated.
  workloads::Plan stated(std::size_t which) const {
    workloads::Plan plan = tried_[which].plan;
    for (const std::size_t b : enforced_)
      plan.budgets[b].simulated = workloads::PlanBudget::Simulated{wanted_of(b), simulated_of(tried_[which], b),
                                                                   static_cast<std::int64_t>(tried_.size())};
    return plan;
  }

  /// Of the model, or of the layer that takes longest.
  std::int64_t simulated_of(const Tried& tried, std::size_t b) const {
    auto first = tried.trial.simulated.begin();
    for (const std::size_t other : enforced_) {
      const auto end = first + static_cast<std::ptrdiff_t>(limits_of(problem_.budgets[other]));
      if (other == b) return *std::max_element(first, end);
      first = end;
    }
    return 0;
  }

  /// The one plan that the allocator states.
  workloads::Plan checked() {
    bound(std::vector<std::optional<std::int64_t>>(wanted_.size()));
    simulate(allocator_.allocate(problem_, options_));
    for (const std::size_t b : enforced_)
      if (simulated_of(tried_[0], b) > wanted_of(b))
        throw base::CheckError(fmt::format("plan check: latency within the budget: {} simulated, {} wanted",
                                           simulated_of(tried_[0], b), wanted_of(b)));
    return stated(0);
  }

  LatencyMissed missed() const {
    for (const std::size_t b : enforced_) {
      std::int64_t least = simulated_of(tried_[0], b);
      for (const Tried& tried : tried_) least = std::min(least, simulated_of(tried, b));
      const std::int64_t wanted = wanted_of(b);
      if (least <= wanted) continue;
      const mapping::Budget& budget = problem_.budgets[b];
      const std::int64_t scale = problem_.resources[index(budget.resource)].scale, whole = (least + scale - 1) / scale;
      const Tried* best = nullptr;
      for (const Tried& tried : tried_)
        if (simulated_of(tried, b) <= whole * scale && (best == nullptr || tried.trial.loss < best->trial.loss))
          best = &tried;
      const auto tokens = static_cast<double>(scale);
      return LatencyMissed(fmt::format(
          "moesaic map: {}: got {:.2f} simulated cycles a token{} with the fastest of {} plans, expected at most {}: "
          "{:.2f} too many; {}cycles{} can be kept, with loss {:.10g}",
          budget.key, static_cast<double>(least) / tokens, budget.per_layer ? " in a layer" : "", tried_.size(),
          budget.value, static_cast<double>(least - wanted) / tokens, whole, budget.per_layer ? "/layer" : "",
          best->plan.loss));
    }
    return LatencyMissed(fmt::format(
        "moesaic map: --latency-budget: got no plan of {} that keeps it for the model and in every layer together, "
        "expected one",
        tried_.size()));
  }

  const Inputs& in_;
  const MapCommand& command_;
  const std::string& name_;
  const mapping::Allocator& allocator_;
  const mapping::AllocatorOptions& options_;
  mapping::Problem problem_;
  std::vector<std::size_t> enforced_;  // budgets
  std::vector<std::int64_t> wanted_;   // of each of these the model's, or every layer's
  mapping::Assignment fastest_;
  std::vector<Tried> tried_;
  std::map<mapping::Assignment, std::size_t> plan_of_;
};

/// Refuses a table that was measured at something else than what the plan is for; the group size of the plan.
std::int64_t check_record(const MapCommand& command, const Inputs& in) {
  if (!in.record) return command.group;
  const workloads::SensitivityRecord& record = *in.record;
  const auto same = [&](const std::string& key, const std::string& found, const std::string& expected,
                        const std::string& what) {
    if (found != expected)
      throw base::ConfigError(record.where(command.sensitivity, key), key, found, expected + ", " + what);
  };
  if (command.group_given)
    same("group_size", std::to_string(record.group_size), std::to_string(command.group), "--group");
  if (in.workload) {
    if (in.workload->has_weights)
      same("checkpoint", record.checkpoint, workloads::Checkpoint(in.workload->model).hash(),
           "the hash of " + in.workload->model);
    same("act_bits", std::to_string(record.act_bits), std::to_string(in.workload->act_bits),
         "the activations of " + command.workload);
  }
  return record.group_size;
}

/// The classes that the options name.
void read_classes(const MapCommand& command, Inputs& in) {
  in.classes = parse_classes(command.classes, kWhere);
  if (command.classes.shares.empty()) return;
  if (command.classes.shares == kSharesOfTrace) {
    if (!in.workload) refuse_missing("--class-shares trace", "--workload");
    in.classes = classes_of_trace(*in.workload, in.group_size, command.classes);
  } else if (in.workload) {
    routing_of(*in.workload, in.classes.count());  // refuses classes that are not among them
  }
  if (in.classes.count() < 2) return;
  std::vector<numerics::Format> formats;
  for (const numerics::Format format : numerics::all_formats())
    if (std::any_of(in.rows.begin(), in.rows.end(), [&](const auto& row) { return row.format == format; }))
      formats.push_back(format);
  check_widths(formats, in.classes.count(), kWhere, "--class-shares");
}

}  // namespace

base::Registry<mapping::Allocator> allocators() {
  base::Registry<mapping::Allocator> all;
  mapping::add_builtin_allocators(all);
  return all;
}

Inputs read_inputs(const MapCommand& command) {
  Inputs in;
  if (command.group % 8 != 0)
    throw base::ConfigError(kWhere, "--group", std::to_string(command.group), "a positive multiple of 8");
  if (!command.workload.empty()) {
    in.workload = workloads::read_workload(command.workload);
    if (!in.workload->has_weights && !command.out.empty())
      throw base::ConfigError(command.workload, "model", in.workload->model + " (a shape without weights)",
                              "a folder with weights: a plan is bound to a checkpoint");
  } else if (!command.out.empty() || !command.check.empty()) {
    refuse_missing(command.out.empty() ? "--check" : "--out", "--workload");
  }
  if (!command.out.empty() && command.chip.empty()) refuse_missing("--out", "--chip");
  if (!command.chip.empty()) in.chip = program::read_chip(command.chip);
  if (in.workload && in.chip) check_formats(*in.chip, *in.workload);
  const std::string table = base::read_file(command.sensitivity);
  in.sensitivity_hash = base::sha256_hex(table);
  workloads::SensitivityTable sensitivity = workloads::parse_sensitivity(table, command.sensitivity);
  workloads::use_loss_column(sensitivity, command.loss_column, command.sensitivity, kWhere, "--loss-column");
  in.record = sensitivity.record;
  in.group_size = check_record(command, in);
  in.rows = std::move(sensitivity.rows);
  in.table_says_quantiser = sensitivity.quantiser.has_value();
  in.quantiser = table_quantiser(command.quantiser, kWhere, sensitivity.quantiser, command.sensitivity);
  if (!command.formats.empty()) {
    if (in.chip)
      check_formats(*in.chip, workloads::parse_formats(command.formats, kWhere, "--formats"), kWhere, "--formats");
    in.rows = in_formats(in.rows, command.formats, command.sensitivity);
  } else if (in.chip && !in.chip->formats.empty()) {
    in.rows = in_formats(in.rows, in.chip->format_names(), command.sensitivity);
  }
  in.network = in.workload ? in.workload->network : mapping::network_of(in.rows, command.sensitivity);
  if (in.workload && in.chip && !in.network.gated)
    throw base::ConfigError(in.workload->path, "model", in.workload->model + ", whose experts have no gate",
                            "gated experts: no other has a stored layout");
  if (in.workload && in.chip) in.memory.emplace(in.network, in.group_size, in.chip->layout_spec());
  if (!command.profile.empty() && !command.costs.empty())
    throw base::ConfigError(kWhere, "--profile", "it with --costs", "one of them");
  if (!command.profile.empty() && command.latency_budgets.empty()) refuse_missing("--profile", "--latency-budget");
  if (!command.costs.empty()) {
    const std::string text = base::read_file(command.costs);
    in.costs_hash = base::sha256_hex(text);
    in.costs = workloads::CostTable::parse(text, command.costs);
  }

  const mapping::Together together = together_of(command, mapping::is_by_projection(in.rows));
  read_classes(command, in);
  // A missing expert is found before its share of the significance is.
  mapping::make_problem(in.rows, command.sensitivity, in.network, {}, together, in.classes);
  if (command.loss == "significance") in.rows = mapping::with_significance(in.rows, command.sensitivity);

  struct Wanted {
    std::string name, key;
    std::vector<std::string> values;
    mapping::BudgetUnit unit;
  };
  using mapping::BudgetUnit;
  std::vector<Wanted> wanted = {{"memory", "--memory-budget", command.memory_budgets, BudgetUnit::kBytesOrAverageBits},
                                {"resident", "--resident-budget", command.resident_budgets, BudgetUnit::kBytes},
                                {"latency", "--latency-budget", command.latency_budgets, BudgetUnit::kCycles},
                                {"io", "--io-budget", command.io_budgets, BudgetUnit::kBytes},
                                {"bits", "--bits-budget", command.bits_budgets, BudgetUnit::kBits}};
  for (const std::string& text : command.limits) {
    const std::size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    if (equals == std::string::npos || name == "cycles" || (in.costs && !in.costs->has(name)))
      throw base::ConfigError(kWhere, "--limit", "'" + text + "'",
                              "NAME=VALUE, a column of the cost table other than cycles");
    if (std::any_of(wanted.begin(), wanted.end(),
                    [&](const Wanted& w) { return w.key != "--limit" && w.name == name; }))
      throw base::ConfigError(kWhere, "--limit", "'" + text + "', a column called as a budget of its own",
                              "another name for the column: this one is --" + name + "-budget's");
    if (!in.costs) refuse_missing("--limit", "--costs");
    if (in.classes.count() > 1)
      throw base::ConfigError(kWhere, "--limit", "'" + text + "' with classes of requests",
                              "none: a column of the cost table does not say what each class of an expert uses");
    wanted.push_back({name, "--limit", {text.substr(equals + 1)}, BudgetUnit::kPlain});
  }
  const bool any = std::any_of(wanted.begin(), wanted.end(), [](const Wanted& w) { return !w.values.empty(); });
  if (!any)
    throw base::ConfigError(kWhere, "--memory-budget", "no budget",
                            "one of --memory-budget, --resident-budget, --latency-budget, --io-budget, --bits-budget, "
                            "--limit");
  const bool averages = !command.latency_budgets.empty() || !command.io_budgets.empty();
  if (averages && in.classes.count() > 1 && !in.workload)
    refuse_missing("--class-shares", "--workload, whose trace says which rows are of which class");
  const bool counts_uses = !command.io_budgets.empty() || in.costs;  // else what is simulated counts
  if (averages)
    in.routing = !in.workload  ? routing_of(in.rows, command.sensitivity)
                 : counts_uses ? kept_routing_of(*in.workload, in.group_size, in.classes.count())
                               : routing_of(*in.workload, in.classes.count());
  if (averages && in.classes.count() > 1 && !in.routing.has_levels)
    throw base::ConfigError(
        in.workload->trace, "levels", "level 0 throughout",
        fmt::format("the numbers of {} classes, as what a token reads and takes depends on its class",
                    in.classes.count()));
  if (!command.latency_budgets.empty() && !in.costs) read_latencies(command, together, in);

  std::vector<mapping::Resource> resources;
  std::vector<mapping::Budget> budgets;
  std::int64_t moe_layers = 0;
  for (const bool has : in.network.has_experts) moe_layers += has;
  const mapping::AverageBits average{in.memory ? &*in.memory : nullptr, moe_layers * in.network.experts,
                                     in.network.experts};
  for (const Wanted& w : wanted) {
    const bool is_memory = w.name == "memory" && in.memory;
    if (w.values.empty() && !is_memory) continue;
    mapping::Resource resource;
    resource.name = w.name;
    resource.unit = "bytes";
    if (w.name == "memory" || w.name == "resident" || w.name == "io") {
      if (!in.workload) refuse_missing(w.key, "--workload");
      if (!in.chip) refuse_missing(w.key, "--chip");
    }
    if (w.name == "memory") {
      resource.use = [m = *in.memory](int, int, const numerics::ExpertFormats& f) { return m.bytes(f); };
    } else if (w.name == "resident") {
      resource.use = [m = *in.memory](int, int, const numerics::ExpertFormats& f) { return m.read_bytes(f); };
    } else if (w.name == "io") {
      resource.scale = in.routing.scale;
      resource.class_use = [m = *in.memory, r = in.routing](int l, int e, const numerics::ExpertFormats& f,
                                                            workloads::ClassSet classes) {
        return r.at(l, e, classes) * m.read_bytes(f);
      };
    } else if (w.name == "latency") {
      resource.unit = "cycles";
      resource.scale = in.routing.scale;
      if (in.latencies) {
        // What is the same under any plan goes with an expert: the rest of a layer with its first, that of layers
        // without experts and of the head with the first of all.
        std::set<int> run;
        std::int64_t elsewhere = 0;
        int first = -1;
        for (const program::LayerRows& rows : in.work->layers) run.insert(rows.layer);
        for (const int l : run) {
          const bool has_experts = l < in.network.layers && in.network.has_experts[index(l)];
          if (has_experts && first < 0) first = l;
          if (!has_experts) elsewhere += in.latencies->rest_cycles(l);
        }
        for (const std::string& text : w.values)
          if (elsewhere > 0 && text.find("/layer") != std::string::npos)
            throw base::ConfigError(kWhere, w.key,
                                    "'" + text + "' for a workload that runs layers without experts, or the head",
                                    "a budget for the model: no plan changes what those take");
        resource.class_use = [t = *in.latencies, run, elsewhere, first](int l, int e, const numerics::ExpertFormats& f,
                                                                        workloads::ClassSet classes) {
          if (run.count(l) == 0) return std::int64_t{0};
          // Once, whatever the widths: with what class 0 reads.
          const bool and_rest = e == 0 && (classes == workloads::kEveryRow || workloads::contains(classes, 0));
          return t.cycles(l, e, f, classes) + (and_rest ? t.rest_cycles(l) : 0) +
                 (and_rest && l == first ? elsewhere : 0);
        };
      } else
        resource.class_use = [c = *in.costs, r = in.routing](int l, int e, const numerics::ExpertFormats& f,
                                                             workloads::ClassSet classes) {
          const std::int64_t cycles = c.at("cycles", l, e, f), tokens = r.at(l, e, classes);
          if (cycles > 0 && tokens > (std::int64_t{1} << 50) / cycles)
            throw base::ConfigError(c.path(), "cycles", std::to_string(cycles),
                                    "fewer: times its tokens it is too great");
          return tokens * cycles;
        };
    } else if (w.name == "bits") {
      resource.unit = "bits";
      // Of an expert: the mean over its matrices, which are of one size.
      if (mapping::is_by_projection(in.rows)) resource.scale = 3;
      resource.use = [all = resource.scale == 1](int, int, const numerics::ExpertFormats& f) {
        return std::int64_t{all ? f.gate.bits() : f.planes()};
      };
    } else {
      resource.unit = "of " + w.name;
      resource.use = [c = *in.costs, name = w.name](int l, int e, const numerics::ExpertFormats& f) {
        return c.at(name, l, e, f);
      };
    }
    const auto known =
        std::find_if(resources.begin(), resources.end(), [&](const auto& r) { return r.name == w.name; });
    const int r = static_cast<int>(known - resources.begin());
    if (known == resources.end()) resources.push_back(resource);
    for (const std::string& text : w.values) {
      const mapping::ParsedBudget parsed = mapping::parse_budget(text, w.unit, average, kWhere, w.key);
      for (const mapping::Budget& b : budgets)
        if (b.resource == r && b.per_layer == parsed.per_layer)
          throw base::ConfigError(kWhere, w.key, "'" + text + "' after another",
                                  "one for the model and one for each layer at most");
      budgets.push_back({r, parsed.per_layer, parsed.value, w.key, {}});
    }
  }
  in.problem = mapping::make_problem(in.rows, command.sensitivity, in.network, resources, together, in.classes);
  in.problem.budgets = budgets;
  in.problem.significance = command.loss == "significance";
  add_constraints(command, in.problem);
  return in;
}

Routing workload_routing(const workloads::WorkloadFile& workload, std::int64_t group) {
  return kept_routing_of(workload, group, 0);
}

workloads::Plan solve_plan(const Inputs& in, const MapCommand& command, const std::string& name,
                           const mapping::Allocator& allocator, const mapping::AllocatorOptions& options) {
  return Enforcement(in, command, name, allocator, options).run();
}

run::Timing simulated(const Inputs& in, const run::RunInputs& work, const workloads::Plan& plan) {
  const run::ShapesOf shapes = [&plan](const run::RunInputs& inputs) -> program::ShapeOf {
    return [&inputs, &plan](int layer, int expert) {
      program::ExpertShape shape = inputs.shape(layer, expert);
      if (expert >= inputs.experts) return shape;  // no plan's
      const workloads::PlanEntry& entry = plan.at(layer, expert);
      shape.format = entry.format;
      shape.reads.clear();
      for (std::uint32_t c = 0; c < plan.class_shares.size(); ++c) shape.reads.push_back(*plan.read(entry, c));
      return shape;
    };
  };
  return run::time_run(*in.workload, work, latency_options(plan.group_size, plan.class_shares.size()), *in.chip,
                       shapes);
}

std::string reading_name(const workloads::PlanEntry& entry) {
  mapping::Reading reading(entry.format);
  reading.reads = entry.reads;
  return reading.name();
}

std::string counts_text(const workloads::Plan& plan) {
  std::map<std::string, int> experts;
  for (const workloads::PlanEntry& e : plan.experts) ++experts[reading_name(e)];
  std::string counts;
  for (const auto& [format, count] : experts)
    counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count, format);
  return counts;
}

}  // namespace moesaic::cli
