#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/registry.h"
#include "base/sha256.h"
#include "cli/commands.h"
#include "cli/quantiser_options.h"
#include "mapping/allocators.h"
#include "mapping/checker.h"
#include "mapping/problem.h"
#include "sim/program/chip.h"
#include "workloads/checkpoint.h"
#include "workloads/cost_table.h"
#include "workloads/plan.h"
#include "workloads/sensitivity.h"
#include "workloads/workload_file.h"

namespace moesaic::cli {
namespace {

constexpr const char* kWhere = "moesaic map";

struct MapCommand {
  std::string workload;
  std::string chip;
  std::string sensitivity;
  std::string costs;
  std::vector<std::string> memory_budgets, resident_budgets, latency_budgets, io_budgets, bits_budgets, limits;
  std::vector<std::string> at_least, tied, fixed;
  std::string formats;
  std::string loss = "table";
  std::string allocator = "optimal";
  std::uint64_t seed = 0;
  bool seed_given = false;
  mapping::SearchOptions search;
  double time_limit_s = 0;
  bool time_limit_given = false;
  std::int64_t group = 64;
  QuantiserOptions quantiser;
  std::string out;
  std::string check;
  bool json = false;
};

base::Registry<mapping::Allocator> allocators() {
  base::Registry<mapping::Allocator> all;
  mapping::add_builtin_allocators(all);
  return all;
}

std::size_t index(int i) { return static_cast<std::size_t>(i); }

/// How often the workload's tokens go to every expert: uses that are averages over tokens stay whole when they count
/// tokens. Without a workload, the table's frequencies, as they are when all are whole, else in parts of 2^20.
struct Routing {
  std::map<std::pair<int, int>, std::int64_t> tokens;
  std::int64_t scale = 1;
  std::int64_t at(int layer, int expert) const {
    const auto found = tokens.find({layer, expert});
    return found == tokens.end() ? 0 : found->second;
  }
};

Routing routing_of(const workloads::WorkloadFile& workload) {
  const workloads::WorkloadSlice slice = workloads::read_slice(workload);
  Routing routing;
  routing.scale = static_cast<std::int64_t>(slice.tokens.size());
  for (std::size_t l = 0; l < slice.layers.size(); ++l)
    for (const auto& row : slice.rows[l])
      for (const std::uint32_t e : row.experts)
        ++routing.tokens[{static_cast<int>(slice.layers[l]), static_cast<int>(e)}];
  return routing;
}

Routing routing_of(const std::vector<workloads::SensitivityRow>& rows, const std::string& path) {
  Routing routing;
  for (const auto& r : rows)
    if (r.frequency != std::floor(r.frequency)) routing.scale = 1 << 20;
  for (const auto& r : rows) {
    const double tokens = std::round(r.frequency * static_cast<double>(routing.scale));
    if (tokens > 0x1p50) throw base::ConfigError(path, "frequency", fmt::format("{}", r.frequency), "less");
    routing.tokens[{r.layer, r.expert}] = static_cast<std::int64_t>(tokens);
  }
  return routing;
}

/// Everything that the command's files say, and the problem they pose.
struct Inputs {
  std::optional<workloads::WorkloadFile> workload;
  std::optional<program::Chip> chip;
  std::optional<mapping::MemoryTable> memory;
  std::optional<workloads::CostTable> costs;
  std::string sensitivity_hash, costs_hash;
  std::vector<workloads::SensitivityRow> rows;  ///< with their losses as minimised
  workloads::Network network;
  Routing routing;
  mapping::Problem problem;
};

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
    const std::string expected = "two or more experts, each in one group only, as LAYER.EXPERT (0.1,0.5)";
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
  for (const std::string& text : command.fixed) {
    const std::string expected = "LAYER.EXPERT=FORMAT, a format that the table has for that expert (0.1=int8)";
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) throw base::ConfigError(kWhere, "--fix", "'" + text + "'", expected);
    mapping::Item& item =
        problem.items[index(find_item(problem, std::string_view(text).substr(0, equals), "--fix", text, expected))];
    const numerics::Format format = numerics::Format::parse(text.substr(equals + 1), kWhere, "--fix");
    const auto found = std::find_if(item.choices.begin(), item.choices.end(),
                                    [&](const mapping::Choice& c) { return c.format == format; });
    if (found == item.choices.end()) throw base::ConfigError(kWhere, "--fix", "'" + text + "'", expected);
    item.choices = {*found};
  }
}

/// The rows in formats that the hardware has; every expert must keep one.
std::vector<workloads::SensitivityRow> in_formats(const std::vector<workloads::SensitivityRow>& rows,
                                                  const std::string& list, const std::string& path) {
  const std::vector<numerics::Format> formats = workloads::parse_formats(list, kWhere, "--formats");
  std::set<std::pair<int, int>> left;
  std::vector<workloads::SensitivityRow> kept;
  for (const auto& r : rows) {
    left.insert({r.layer, r.expert});
    if (std::find(formats.begin(), formats.end(), r.format) != formats.end()) kept.push_back(r);
  }
  for (const auto& r : kept) left.erase({r.layer, r.expert});
  if (!left.empty())
    throw base::ConfigError(path, fmt::format("layer {}, expert {}", left.begin()->first, left.begin()->second),
                            "no row in the formats " + list, "at least one that the hardware has");
  return kept;
}

Inputs read_inputs(const MapCommand& command) {
  Inputs in;
  if (command.group % 8 != 0)
    throw base::ConfigError(kWhere, "--group", std::to_string(command.group), "a positive multiple of 8");
  if (!command.workload.empty()) {
    in.workload = workloads::read_workload(command.workload);
    if (!in.workload->has_weights && !command.out.empty())
      throw base::ConfigError(command.workload, "model", in.workload->model + " (a shape of the zoo)",
                              "a folder with weights: a plan is bound to a checkpoint");
  } else if (!command.out.empty() || !command.check.empty()) {
    refuse_missing(command.out.empty() ? "--check" : "--out", "--workload");
  }
  if (!command.out.empty() && command.chip.empty()) refuse_missing("--out", "--chip");
  if (!command.chip.empty()) in.chip = program::read_chip(command.chip);
  const std::string table = base::read_file(command.sensitivity);
  in.sensitivity_hash = base::sha256_hex(table);
  in.rows = workloads::parse_sensitivity(table, command.sensitivity);
  if (!command.formats.empty()) in.rows = in_formats(in.rows, command.formats, command.sensitivity);
  in.network = in.workload ? in.workload->network : mapping::network_of(in.rows, command.sensitivity);
  if (in.workload && in.chip) in.memory.emplace(in.network, command.group, in.chip->layout_spec());
  if (!command.costs.empty()) {
    const std::string text = base::read_file(command.costs);
    in.costs_hash = base::sha256_hex(text);
    in.costs = workloads::CostTable::parse(text, command.costs);
  }

  // A missing expert is found before its share of the significance is.
  mapping::make_problem(in.rows, command.sensitivity, in.network, {});
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
    if (!in.costs) refuse_missing("--limit", "--costs");
    wanted.push_back({name, "--limit", {text.substr(equals + 1)}, BudgetUnit::kPlain});
  }
  const bool any = std::any_of(wanted.begin(), wanted.end(), [](const Wanted& w) { return !w.values.empty(); });
  if (!any)
    throw base::ConfigError(kWhere, "--memory-budget", "no budget",
                            "one of --memory-budget, --resident-budget, --latency-budget, --io-budget, --bits-budget, "
                            "--limit");
  const bool averages = !command.latency_budgets.empty() || !command.io_budgets.empty();
  if (averages) in.routing = in.workload ? routing_of(*in.workload) : routing_of(in.rows, command.sensitivity);

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
      resource.use = [m = *in.memory](int, int, numerics::Format f) { return m.bytes(f); };
    } else if (w.name == "resident") {
      resource.use = [m = *in.memory](int, int, numerics::Format f) { return m.read_bytes(f); };
    } else if (w.name == "io") {
      resource.scale = in.routing.scale;
      resource.use = [m = *in.memory, r = in.routing](int l, int e, numerics::Format f) {
        return r.at(l, e) * m.read_bytes(f);
      };
    } else if (w.name == "latency") {
      if (!in.costs) refuse_missing(w.key, "--costs");
      resource.unit = "cycles";
      resource.scale = in.routing.scale;
      resource.use = [c = *in.costs, r = in.routing](int l, int e, numerics::Format f) {
        const std::int64_t cycles = c.at("cycles", l, e, f), tokens = r.at(l, e);
        if (cycles > 0 && tokens > (std::int64_t{1} << 50) / cycles)
          throw base::ConfigError(c.path(), "cycles", std::to_string(cycles),
                                  "fewer: times its tokens it is too great");
        return tokens * cycles;
      };
    } else if (w.name == "bits") {
      resource.unit = "bits";
      resource.use = [](int, int, numerics::Format f) { return std::int64_t{f.bits()}; };
    } else {
      resource.unit = "of " + w.name;
      resource.use = [c = *in.costs, name = w.name](int l, int e, numerics::Format f) { return c.at(name, l, e, f); };
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
      budgets.push_back({r, parsed.per_layer, parsed.value, w.key});
    }
  }
  in.problem = mapping::make_problem(in.rows, command.sensitivity, in.network, resources);
  in.problem.budgets = budgets;
  in.problem.significance = command.loss == "significance";
  add_constraints(command, in.problem);
  return in;
}

std::int64_t used_of(const mapping::Problem& problem, const mapping::Assignment& assignment,
                     const mapping::Budget& budget) {
  const std::vector<std::int64_t> layers = mapping::layer_use(problem, assignment, budget.resource);
  if (budget.per_layer) return *std::max_element(layers.begin(), layers.end());
  std::int64_t sum = 0;
  for (const std::int64_t l : layers) sum += l;
  return sum;
}

/// A plan of this allocation, checked against the tables.
workloads::Plan make_plan(const Inputs& in, const MapCommand& command, const std::string& allocator,
                          const mapping::Allocation& allocation) {
  const mapping::Problem& problem = in.problem;
  workloads::Plan plan;
  plan.made_from.sensitivity = in.sensitivity_hash;
  if (in.chip) plan.made_from.chip = in.chip->hash;
  if (in.costs) plan.made_from.costs = in.costs_hash;
  plan.group_size = static_cast<int>(command.group);
  const mapping::Totals totals = mapping::totals(problem, allocation.assignment);
  plan.loss = totals.real_loss;

  mapping::Claim claim;
  claim.loss = totals.loss;
  claim.loss_exponent = problem.loss_exponent;
  if (in.memory) {
    plan.memory_bytes = totals.use[index(*problem.resource("memory"))];
    claim.bytes = plan.memory_bytes;
    claim.bytes_of = [&](numerics::Format f) { return in.memory->bytes(f); };
  }
  for (const mapping::Budget& b : problem.budgets) {
    const mapping::Resource& r = problem.resources[index(b.resource)];
    const std::int64_t used = used_of(problem, allocation.assignment, b);
    plan.budgets.push_back({r.name, r.unit, b.per_layer, b.value * r.scale, used, r.scale});
    if (r.name == "memory" && !b.per_layer) plan.memory_budget_bytes = b.value;
    claim.budgets.push_back({r.name, b.per_layer, b.value * r.scale, r.use, used});
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
    plan.experts.push_back({item.layer, item.expert, item.choices[index(allocation.assignment[i])].format, 0});
  }
  plan.solver = {{"allocator", allocator}};
  plan.solver.insert(plan.solver.end(), allocation.facts.begin(), allocation.facts.end());
  plan.solver.emplace_back("loss_exponent", std::to_string(problem.loss_exponent));
  plan.solver.emplace_back("loss_rounding", "nearest");
  if (command.loss != "table") plan.solver.emplace_back("loss_model", command.loss);
  // The certificate is about every format of the table; a fixed expert's other rows are no choice.
  std::vector<workloads::SensitivityRow> rows;
  std::map<std::pair<int, int>, const mapping::Item*> item_of;
  for (const mapping::Item& item : problem.items) item_of[{item.layer, item.expert}] = &item;
  for (const auto& row : in.rows) {
    const auto& choices = item_of.at({row.layer, row.expert})->choices;
    if (choices.size() > 1 || choices[0].format == row.format) rows.push_back(row);
  }
  mapping::check_claim(plan, claim, rows);
  return plan;
}

std::string counts_text(const workloads::Plan& plan) {
  std::map<std::string, int> experts;
  for (const workloads::PlanEntry& e : plan.experts) ++experts[e.format.name()];
  std::string counts;
  for (const auto& [format, count] : experts)
    counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count, format);
  return counts;
}

std::string amount(std::int64_t uses, std::int64_t scale) {
  return scale == 1 ? std::to_string(uses)
                    : fmt::format("{:.6g}", static_cast<double>(uses) / static_cast<double>(scale));
}

nlohmann::ordered_json to_json(const workloads::Plan& plan, const std::string& allocator) {
  nlohmann::ordered_json j;
  j["allocator"] = allocator;
  j["memory_bytes"] = plan.memory_bytes;
  if (plan.memory_budget_bytes) j["memory_budget_bytes"] = *plan.memory_budget_bytes;
  for (const workloads::PlanBudget& b : plan.budgets)
    j["budgets"].push_back({{"name", b.name},
                            {"unit", b.unit},
                            {"scope", b.per_layer ? "layer" : "model"},
                            {"budget", b.budget},
                            {"used", b.used},
                            {"scale", b.scale}});
  j["loss"] = plan.loss;
  std::map<std::string, int> experts;
  for (const workloads::PlanEntry& e : plan.experts) ++experts[e.format.name()];
  j["experts"] = experts;
  for (const auto& [key, value] : plan.solver) j["solver"][key] = value;
  return j;
}

void print(const workloads::Plan& plan, const MapCommand& command) {
  if (command.json) {
    fmt::print("{}\n", to_json(plan, command.allocator).dump());
    return;
  }
  std::string uses;
  for (const workloads::PlanBudget& b : plan.budgets)
    uses += fmt::format("{} {}{} {} of {}", uses.empty() ? "in" : ",", b.name, b.per_layer ? " in a layer" : "",
                        amount(b.used, b.scale), amount(b.budget, b.scale) + " " + b.unit);
  fmt::print("{}: loss {:.10g} {}: {}\n", command.allocator, plan.loss, uses, counts_text(plan));
  for (const auto& [key, value] : plan.solver)
    if (key == "status" || key == "gap" || key == "objective") fmt::print("  {} {}\n", key, value);
}

void run_all(const Inputs& in, const MapCommand& command, const mapping::AllocatorOptions& options) {
  const auto known = allocators();
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  std::string header = fmt::format("{:<10} {:>14}", "allocator", "loss");
  for (const mapping::Budget& b : in.problem.budgets) {
    const mapping::Resource& r = in.problem.resources[index(b.resource)];
    header += fmt::format(" {:>22}", r.name + " [" + r.unit + (b.per_layer ? "/layer]" : "]"));
  }
  if (!command.json) fmt::print("{}  formats\n", header);
  for (const std::string& name : known.names()) {
    workloads::Plan plan;
    try {
      plan = make_plan(in, command, name, known.at(name, kWhere, "--allocator").allocate(in.problem, options));
    } catch (const base::InputError& error) {
      // No plan at all is the first allocator's to say; a heuristic that finds none is a row of the table.
      if (name == known.names().front()) throw;
      if (command.json)
        json.push_back({{"allocator", name}, {"error", error.what()}});
      else
        fmt::print("{:<10} {:>14}  {}\n", name, "none", error.what());
      continue;
    }
    if (command.json) {
      json.push_back(to_json(plan, name));
      continue;
    }
    std::string line = fmt::format("{:<10} {:>14.8g}", name, plan.loss);
    for (const workloads::PlanBudget& b : plan.budgets) line += fmt::format(" {:>22}", amount(b.used, b.scale));
    fmt::print("{}  {}\n", line, counts_text(plan));
  }
  if (command.json) fmt::print("{}\n", json.dump(2));
}

/// Refuses a plan that was made from other files than these, and re-computes what it claims.
void run_check(const Inputs& in, const MapCommand& command) {
  const workloads::Plan plan = workloads::read_plan(command.check);
  workloads::check_plan(plan, command.check, in.network, workloads::Checkpoint(in.workload->model).hash());
  const auto same = [&](const std::string& what, const std::optional<std::string>& stated, const std::string& found) {
    if (stated && *stated != found)
      throw base::ConfigError(command.check, "made_from." + what, *stated, found + ", the hash of the file given");
  };
  same("sensitivity", plan.made_from.sensitivity, in.sensitivity_hash);
  same("trace", plan.made_from.trace, base::sha256_file(in.workload->trace));
  if (plan.made_from.chip && !in.chip) refuse_missing("--check", "--chip");
  if (in.chip) same("chip", plan.made_from.chip, in.chip->hash);
  if (plan.made_from.costs && !in.costs) refuse_missing("--check", "--costs");
  if (in.costs) same("costs", plan.made_from.costs, in.costs_hash);
  mapping::Allocation allocation;
  for (const mapping::Item& item : in.problem.items) {
    const numerics::Format format = plan.at(item.layer, item.expert).format;
    const auto found = std::find_if(item.choices.begin(), item.choices.end(),
                                    [&](const mapping::Choice& c) { return c.format == format; });
    if (found == item.choices.end())
      throw base::ConfigError(command.check, fmt::format("layer {}, expert {}", item.layer, item.expert), format.name(),
                              "a format of the sensitivity table");
    allocation.assignment.push_back(static_cast<int>(found - item.choices.begin()));
  }
  const workloads::Plan found = make_plan(in, command, "check", allocation);
  if (found.loss != plan.loss || (in.memory && found.memory_bytes != plan.memory_bytes))
    throw base::CheckError(fmt::format("plan check: the plan states loss {} in {} bytes, the tables say {} in {}",
                                       plan.loss, plan.memory_bytes, found.loss, found.memory_bytes));
  print(found, command);
}

void run_map(const MapCommand& given) {
  MapCommand command = given;
  const auto known = allocators();
  const bool all = command.allocator == "all";
  if (all && !command.out.empty())
    throw base::ConfigError(kWhere, "--out", "it with --allocator all", "one allocator: a plan is one allocator's");
  const auto expected_names = [&] { return known.choices() + ", all"; };
  const std::vector<std::string> names = known.names();
  if (!all && std::find(names.begin(), names.end(), command.allocator) == names.end())
    throw base::ConfigError(kWhere, "--allocator", "'" + command.allocator + "'", "one of " + expected_names());
  if (command.seed_given && !all && !known.at(command.allocator, kWhere, "--allocator").takes_seed)
    throw base::ConfigError(kWhere, "--seed", std::to_string(command.seed),
                            "none: allocator " + command.allocator + " draws nothing");
  const workloads::Quantiser quantiser = chosen_quantiser(command.quantiser, kWhere);
  if (command.time_limit_given) command.search.time_limit_s = command.time_limit_s;
  const Inputs in = read_inputs(command);
  mapping::AllocatorOptions options{command.seed, command.search};
  if (!command.check.empty()) {
    command.allocator = "check";
    run_check(in, command);
    return;
  }
  if (all) {
    run_all(in, command, options);
    return;
  }
  workloads::Plan plan = make_plan(in, command, command.allocator,
                                   known.at(command.allocator, kWhere, "--allocator").allocate(in.problem, options));
  if (!command.out.empty()) {
    plan.made_from.checkpoint = workloads::Checkpoint(in.workload->model).hash();
    plan.made_from.trace = base::sha256_file(in.workload->trace);
    plan.quantiser = quantiser;
    workloads::write_plan(plan, command.out);
  }
  print(plan, command);
}

}  // namespace

void add_map(CLI::App& app) {
  CLI::App* command = app.add_subcommand("map", "Choose a format for every expert under budgets");
  const auto options = std::make_shared<MapCommand>();
  command->add_option("--workload", options->workload, "Workload file, YAML: network, routing, what a plan is bound to")
      ->type_name("FILE");
  command->add_option("--chip", options->chip, "Chip file, YAML: how experts are stored")->type_name("FILE");
  command->add_option("--sensitivity", options->sensitivity, "Sensitivity table, CSV, as calibrate writes it")
      ->required()
      ->type_name("FILE");
  command->add_option("--costs", options->costs, "Cost table, CSV: layer,expert,format,cycles and further columns")
      ->type_name("FILE");
  command
      ->add_option("--memory-budget", options->memory_budgets,
                   "Stored bytes of all experts: 123456, 96KiB, 1.5MiB, 2GiB, or average bits of a weight: 2.5bits. "
                   "This and every budget below: with /layer after it, for each layer")
      ->type_name("BYTES");
  command
      ->add_option("--resident-budget", options->resident_budgets,
                   "Bytes that products read: a nested expert's upper planes only")
      ->type_name("BYTES");
  command
      ->add_option(
          "--latency-budget", options->latency_budgets,
          "Cycles of the cost table a token, weighted by how often the workload chooses each expert: 1200cycles")
      ->type_name("CYCLES");
  command
      ->add_option("--io-budget", options->io_budgets,
                   "Bytes a token reads of the experts it chooses, as if none of them was cached")
      ->type_name("BYTES");
  command->add_option("--bits-budget", options->bits_budgets, "Sum of all experts' bits: 16bits/layer")
      ->type_name("BITS");
  command->add_option("--limit", options->limits, "NAME=VALUE: a limit of a column of the cost table")
      ->type_name("NAME=VALUE");
  command->add_option("--at-least", options->at_least, "At least N experts of a format in every layer, or in one")
      ->type_name("N:FORMAT[:LAYER]");
  command->add_option("--tie", options->tied, "Experts that take one format: LAYER.EXPERT,LAYER.EXPERT")
      ->type_name("EXPERTS");
  command->add_option("--fix", options->fixed, "An expert's format: LAYER.EXPERT=FORMAT")->type_name("EXPERT=FORMAT");
  command->add_option("--formats", options->formats, "Formats that the hardware has; all of the table's unless given")
      ->type_name("LIST");
  command
      ->add_option("--loss", options->loss,
                   "What is summed: the table's losses, or significance: each times frequency * weight^1.5, as shares "
                   "of their layer's sum")
      ->check(CLI::IsMember({"table", "significance"}))
      ->capture_default_str();
  command->add_option("--allocator", options->allocator, "How to choose: " + allocators().choices() + ", all")
      ->capture_default_str()
      ->type_name("NAME");
  CLI::Option* seed = command->add_option("--seed", options->seed, "Of an allocator that draws")->type_name("N");
  command
      ->add_option("--node-limit", options->search.node_limit,
                   "Effort of a search: a node counts 1, and 1 more for every 32 undecided experts")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--gap", options->search.gap, "Stop once (loss - bound) / loss is at most this")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  CLI::Option* time = command
                          ->add_option("--time-limit", options->time_limit_s,
                                       "Seconds of a search; the plan then depends on the machine")
                          ->check(CLI::Range(0.001, 1e6));
  command->add_option("--group", options->group, "Weights that share a scale, as calibrated")
      ->check(CLI::Range(std::int64_t{8}, std::int64_t{1} << 24))
      ->capture_default_str();
  add_quantiser_options(*command, options->quantiser);
  command->add_option("--out", options->out, "The plan, YAML; printed only unless given")->type_name("PLAN");
  command
      ->add_option("--check", options->check,
                   "Choose nothing: refuse this plan unless it was made from these files and keeps these budgets")
      ->type_name("PLAN");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, seed, time] {
    options->seed_given = seed->count() > 0;
    options->time_limit_given = time->count() > 0;
    run_map(*options);
  });
}

}  // namespace moesaic::cli
