#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/dump_json.h"
#include "base/error.h"
#include "base/registry.h"
#include "base/sha256.h"
#include "cli/commands.h"
#include "cli/latency_source.h"
#include "cli/lost_inputs.h"
#include "cli/map_plan.h"
#include "cli/quantiser_options.h"
#include "mapping/allocators.h"
#include "mapping/problem.h"
#include "workloads/checkpoint.h"
#include "workloads/plan.h"

namespace moesaic::cli {
namespace {

constexpr const char* kWhere = "moesaic map";
constexpr const char* kEvery = "all";  // allocators

std::size_t index(int i) { return static_cast<std::size_t>(i); }

[[noreturn]] void refuse_missing(const std::string& option, const std::string& needs) {
  throw base::ConfigError(kWhere, option, "it without " + needs, needs + " beside it");
}

std::string amount(std::int64_t uses, std::int64_t scale) {
  return scale == 1 ? std::to_string(uses)
                    : fmt::format("{:.10g}", static_cast<double>(uses) / static_cast<double>(scale));
}

nlohmann::ordered_json to_json(const workloads::Plan& plan, const std::string& allocator) {
  nlohmann::ordered_json j;
  j["allocator"] = allocator;
  j["memory_bytes"] = plan.memory_bytes;
  if (plan.memory_budget_bytes) j["memory_budget_bytes"] = *plan.memory_budget_bytes;
  for (const workloads::PlanBudget& b : plan.budgets) {
    j["budgets"].push_back({{"name", b.name},
                            {"unit", b.unit},
                            {"scope", b.per_layer ? "layer" : "model"},
                            {"budget", b.budget},
                            {"used", b.used},
                            {"scale", b.scale}});
    if (!b.simulated) continue;
    j["budgets"].back()["wanted"] = b.simulated->wanted;
    j["budgets"].back()["simulated"] = b.simulated->used;
    j["budgets"].back()["rounds"] = b.simulated->rounds;
  }
  j["loss"] = plan.loss;
  std::map<std::string, int> experts;
  for (const workloads::PlanEntry& e : plan.experts) ++experts[reading_name(e)];
  j["experts"] = experts;
  if (plan.has_classes()) j["class_shares"] = plan.class_shares;
  for (const auto& [key, value] : plan.solver) j["solver"][key] = value;
  return j;
}

void print(const workloads::Plan& plan, const MapCommand& command) {
  if (command.json) {
    fmt::print("{}\n", base::dump_json(to_json(plan, command.allocator)));
    return;
  }
  std::string uses;
  for (const workloads::PlanBudget& b : plan.budgets) {
    const std::string start =
        fmt::format("{} {}{} ", uses.empty() ? "in" : ",", b.name, b.per_layer ? " in a layer" : "");
    if (b.simulated)
      uses += start + fmt::format("{} of {} {} simulated ({} added up, round {})", amount(b.simulated->used, b.scale),
                                  amount(b.simulated->wanted, b.scale), b.unit, amount(b.used, b.scale),
                                  b.simulated->rounds);
    else
      uses += start + fmt::format("{} of {} {}", amount(b.used, b.scale), amount(b.budget, b.scale), b.unit);
  }
  fmt::print("{}: loss {:.10g} {}: {}\n", command.allocator, plan.loss, uses, counts_text(plan));
  for (const auto& [key, value] : plan.solver)
    if (key == "status" || key == "gap" || key == "objective" || key == "loss_of_classes")
      fmt::print("  {} {}\n", key, value);
}

/// Of a search that was stopped: how far its plan may be from the best.
std::string stopped_text(const workloads::Plan& plan) {
  std::string status, gap;
  for (const auto& [key, value] : plan.solver) {
    if (key == "status") status = value;
    if (key == "gap") gap = value;
  }
  if (status != "feasible") return {};
  return gap.empty() ? " (stopped)" : fmt::format(" (stopped, gap {})", gap);
}

void run_all(const Inputs& in, const MapCommand& command, const mapping::AllocatorOptions& options) {
  const auto known = allocators();
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  std::string header = fmt::format("{:<10} {:>14}", "allocator", "loss");
  for (const mapping::Budget& b : in.problem.budgets) {
    const mapping::Resource& r = in.problem.resources[index(b.resource)];
    header += fmt::format(" {:>22}", r.name + " [" + r.unit + (b.per_layer ? "/layer]" : "]"));
  }
  const auto none = [&](const std::string& name, const std::string& why) {
    if (command.json)
      json.push_back({{"allocator", name}, {"error", why}});
    else
      fmt::print("{:<10} {:>14}  {}\n", name, "none", why);
  };
  for (const std::string& name : known.names()) {
    workloads::Plan plan;
    try {
      const mapping::Allocator allocator = known.at(name, kWhere, "--allocator");
      plan = solve_plan(in, command, name, allocator, options);
    } catch (const base::InputError& error) {
      // No plan at all is the first allocator's to say; a heuristic that finds none is a row of the table.
      if (name == known.names().front()) throw;
      none(name, error.what());
      continue;
    } catch (const LatencyMissed& error) {
      if (name == known.names().front()) throw;
      none(name, error.what());
      continue;
    }
    // Not before: what the first allocator refuses is all that is printed.
    if (!command.json && name == known.names().front()) fmt::print("{}  formats\n", header);
    if (command.json) {
      json.push_back(to_json(plan, name));
      continue;
    }
    std::string line = fmt::format("{:<10} {:>14.8g}", name, plan.loss);
    for (const workloads::PlanBudget& b : plan.budgets)
      line += fmt::format(" {:>22}",
                          b.simulated ? amount(b.simulated->used, b.scale) + " simulated" : amount(b.used, b.scale));
    fmt::print("{}  {}{}\n", line, counts_text(plan), stopped_text(plan));
  }
  if (command.json) fmt::print("{}\n", base::dump_json(json, 2));
}

/// Refuses options that would say nothing.
void check_options(const MapCommand& command, const base::Registry<mapping::Allocator>& known) {
  const std::vector<std::pair<const char*, bool>> choosing{{"--out", !command.out.empty()},
                                                           {"--allocator", command.allocator_given},
                                                           {"--seed", command.seed_given},
                                                           {"--gap or --node-limit", command.effort_given},
                                                           {"--time-limit", command.time_limit_given}};
  if (!command.check.empty())
    for (const auto& [option, is_given] : choosing)
      if (is_given)
        throw base::ConfigError(kWhere, "--check", std::string("it with ") + option, "one of them: it chooses nothing");
  const std::vector<std::string> names = known.names();
  if (command.allocator == kEvery) {
    if (!command.out.empty())
      throw base::ConfigError(kWhere, "--out", "it with --allocator all", "one allocator: a plan is one allocator's");
    return;
  }
  if (std::find(names.begin(), names.end(), command.allocator) == names.end())
    throw base::ConfigError(kWhere, "--allocator", "'" + command.allocator + "'",
                            "one of " + known.choices() + ", " + kEvery);
  const mapping::Allocator allocator = known.at(command.allocator, kWhere, "--allocator");
  if (command.seed_given && !allocator.takes_seed)
    throw base::ConfigError(kWhere, "--seed", std::to_string(command.seed),
                            "none: allocator " + command.allocator + " draws nothing");
  if (command.effort_given && !allocator.takes_effort)
    throw base::ConfigError(kWhere, "--allocator", command.allocator + " with --gap or --node-limit",
                            "an allocator that they stop: optimal");
  if (command.time_limit_given && !allocator.takes_time)
    throw base::ConfigError(kWhere, "--allocator", command.allocator + " with --time-limit",
                            "an allocator that it stops: optimal or cbc");
}

/// Refuses a plan that was made from other files than these, and re-computes what it claims.
void run_check(const Inputs& in, const MapCommand& command) {
  const workloads::Plan plan = workloads::read_plan(command.check);
  workloads::check_plan(plan, command.check, in.network, workloads::Checkpoint(in.workload->model).hash());
  if (plan.class_shares != in.classes.shares)
    throw base::ConfigError(command.check, "class_shares", fmt::format("[{}]", fmt::join(plan.class_shares, ", ")),
                            fmt::format("[{}], as --class-shares says", fmt::join(in.classes.shares, ", ")));
  const auto same = [&](const std::string& what, const std::optional<std::string>& stated, const std::string& found,
                        const std::string& whose = "the hash of the file given") {
    if (stated && *stated != found)
      throw base::ConfigError(command.check, "made_from." + what, *stated, found + ", " + whose);
  };
  same("sensitivity", plan.made_from.sensitivity, in.sensitivity_hash);
  if (in.table_says_quantiser && !(plan.quantiser == in.quantiser))
    throw base::ConfigError(command.check, "quantiser", "another", "the one that " + command.sensitivity + " names");
  same("trace", plan.made_from.trace, base::sha256_file(in.workload->trace));
  same("work", plan.made_from.work, workloads::selection_hash(*in.workload));
  if (plan.made_from.chip && !in.chip) refuse_missing("--check", "--chip");
  if (in.chip) {
    same("chip", plan.made_from.chip, in.chip->hash);
    same("memory", plan.made_from.memory, in.chip->memory_name(), "the memory of " + command.chip);
  }
  if (plan.made_from.costs && !in.costs && !in.latencies)
    refuse_missing("--check", "--costs or the --latency-budget that the plan keeps");
  if (in.costs || in.latencies) same("costs", plan.made_from.costs, in.costs_hash);
  if (plan.group_size != in.group_size)
    throw base::ConfigError(command.check, "group_size", std::to_string(plan.group_size),
                            fmt::format("{}, that of {}", in.group_size, command.sensitivity));
  mapping::Allocation allocation;
  for (const mapping::Item& item : in.problem.items) {
    const workloads::PlanEntry& entry = plan.at(item.layer, item.expert);
    const mapping::Reading read = entry.reads.empty() ? mapping::Reading(entry.format) : mapping::Reading(entry.reads);
    const std::string where = fmt::format("layer {}, expert {}", item.layer, item.expert);
    if (read.format != entry.format)
      throw base::ConfigError(command.check, where, entry.format.name(),
                              read.format.name() + ", the widest of its reads");
    const auto found = std::find(item.choices.begin(), item.choices.end(), read);
    if (found == item.choices.end())
      throw base::ConfigError(command.check, where, read.name(),
                              "a format of the sensitivity table that the options allow");
    allocation.assignment.push_back(static_cast<int>(found - item.choices.begin()));
  }
  allocation.facts = {{"scaled_loss", std::to_string(mapping::totals(in.problem, allocation.assignment).loss)}};
  const std::string name = "check";
  const mapping::Allocator stated{[&](const mapping::Problem&, const mapping::AllocatorOptions&) { return allocation; },
                                  false};
  const mapping::AllocatorOptions options;
  const workloads::Plan found = solve_plan(in, command, name, stated, options);
  for (const workloads::PlanBudget& b : found.budgets)
    for (const workloads::PlanBudget& claimed : plan.budgets)
      if (b.name == claimed.name && b.per_layer == claimed.per_layer && b.simulated && claimed.simulated &&
          b.simulated->used != claimed.simulated->used)
        throw base::CheckError(fmt::format("plan check: the plan states {} simulated {}, the simulation took {}",
                                           claimed.simulated->used, b.unit, b.simulated->used));
  for (const auto& [fact, value] : found.solver)
    for (const auto& [claimed, claim] : plan.solver)
      if (fact == claimed && fact != "allocator" && value != claim)
        throw base::CheckError(fmt::format("plan check: the plan states {} {}, the tables say {}", fact, claim, value));
  if (found.loss != plan.loss || (in.memory && found.memory_bytes != plan.memory_bytes))
    throw base::CheckError(fmt::format("plan check: the plan states loss {} in {} bytes, the tables say {} in {}",
                                       plan.loss, plan.memory_bytes, found.loss, found.memory_bytes));
  print(found, command);
}

void run_map(const MapCommand& given) {
  MapCommand command = given;
  const auto known = allocators();
  check_options(command, known);
  if (command.time_limit_given) command.search.time_limit_s = command.time_limit_s;
  const Inputs in = read_inputs(command);
  if (in.workload) refuse_lost(kWhere, "--out", command.out, inputs_of(*in.workload));
  refuse_lost(kWhere, "--out", command.out, {in.quantiser.tokens});
  mapping::AllocatorOptions options{command.seed, command.search};
  if (!command.check.empty()) {
    command.allocator = "check";
    run_check(in, command);
    return;
  }
  if (command.allocator == kEvery) {
    run_all(in, command, options);
    return;
  }
  const mapping::Allocator allocator = known.at(command.allocator, kWhere, "--allocator");
  workloads::Plan plan = solve_plan(in, command, command.allocator, allocator, options);
  if (!command.out.empty()) {
    plan.made_from.checkpoint = workloads::Checkpoint(in.workload->model).hash();
    plan.made_from.trace = base::sha256_file(in.workload->trace);
    plan.made_from.work = workloads::selection_hash(*in.workload);
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
  command
      ->add_option("--loss-column", options->loss_column,
                   "Column of the table that holds the losses: loss, or another that calibrate wrote (loss_fisher)")
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--costs", options->costs, "Cost table, CSV: layer,expert,format,cycles and further columns")
      ->type_name("FILE");
  command
      ->add_option("--profile", options->profile,
                   "Latency table of this chip and workload, as profile writes it; measured now unless given")
      ->type_name("FILE");
  add_cache_options(*command, options->cache);
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
      ->add_option("--latency-budget", options->latency_budgets,
                   "Cycles a token of the simulated workload, 1200cycles; with --costs instead the table's, weighted "
                   "by how often "
                   "the workload chooses each expert")
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
  command
      ->add_option(
          "--tie", options->tied,
          "Experts that take one format: LAYER.EXPERT,LAYER.EXPERT. Of a table of projections: gate,up or gate,up,down")
      ->type_name("EXPERTS");
  command->add_option("--fix", options->fixed, "An expert's format: LAYER.EXPERT=FORMAT")->type_name("EXPERT=FORMAT");
  command->add_option("--formats", options->formats, "Formats that the hardware has; all of the table's unless given")
      ->type_name("LIST");
  command
      ->add_option("--class-shares", options->classes.shares,
                   "Classes of requests, which the trace's levels number: the share that each is expected to have of "
                   "every expert's rows, 0.5,0.3,0.2; or trace: those that they have in the trace, expert by expert. "
                   "Each may then read an expert's stored copy at a width of its own")
      ->type_name("LIST");
  command
      ->add_option("--class-weights", options->classes.weights,
                   "How much a class's loss counts beside the others', 1,1,3; 1 each unless given")
      ->type_name("LIST");
  command
      ->add_option("--class-order", options->classes.order,
                   "rising (unless given): no class reads a narrower width than one of a lower number; or any")
      ->check(CLI::IsMember({kRisingOrder, kAnyOrder}));
  command
      ->add_option("--loss", options->loss,
                   "What is summed: the table's losses, or significance: each times frequency * weight^1.5, as shares "
                   "of their layer's sum")
      ->check(CLI::IsMember({"table", "significance"}))
      ->capture_default_str();
  CLI::Option* allocator =
      command->add_option("--allocator", options->allocator, "How to choose: " + allocators().choices() + ", all")
          ->capture_default_str()
          ->type_name("NAME");
  CLI::Option* seed = command->add_option("--seed", options->seed, "Of an allocator that draws");
  CLI::Option* nodes =
      command
          ->add_option("--node-limit", options->search.node_limit,
                       "Effort of a search: a node counts 1, and 1 more for every 32 undecided experts")
          ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
          ->capture_default_str();
  CLI::Option* gap =
      command->add_option("--gap", options->search.gap, "Stop once (loss - bound) / loss is at most this")
          ->check(CLI::Range(0.0, 1.0))
          ->capture_default_str();
  CLI::Option* time = command
                          ->add_option("--time-limit", options->time_limit_s,
                                       "Seconds of a search; the plan then depends on the machine")
                          ->check(CLI::Range(0.001, 1e6));
  CLI::Option* group = command
                           ->add_option("--group", options->group,
                                        "Weights that share a scale, as calibrated: of a table that says it, its")
                           ->check(CLI::Range(std::int64_t{8}, std::int64_t{1} << 24))
                           ->capture_default_str();
  add_quantiser_options(*command, options->quantiser);
  command->add_option("--out", options->out, "The plan, YAML; a summary is printed in any case")->type_name("PLAN");
  command
      ->add_option("--check", options->check,
                   "Choose nothing: refuse this plan unless it was made from these files and keeps these budgets")
      ->type_name("PLAN");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, seed, time, group, nodes, gap, allocator] {
    options->seed_given = seed->count() > 0;
    options->group_given = group->count() > 0;
    options->time_limit_given = time->count() > 0;
    options->effort_given = nodes->count() > 0 || gap->count() > 0;
    options->allocator_given = allocator->count() > 0;
    run_map(*options);
  });
}

}  // namespace moesaic::cli
