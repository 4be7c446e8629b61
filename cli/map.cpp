#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/registry.h"
#include "base/sha256.h"
#include "cli/commands.h"
#include "mapping/allocators.h"
#include "mapping/checker.h"
#include "mapping/problem.h"
#include "sim/program/chip.h"
#include "workloads/checkpoint.h"
#include "workloads/plan.h"
#include "workloads/sensitivity.h"
#include "workloads/workload_file.h"

namespace moesaic::cli {
namespace {

struct MapCommand {
  std::string workload;
  std::string chip;
  std::string sensitivity;
  std::string budget;
  std::string allocator = "optimal";
  std::uint64_t seed = 0;
  bool seed_given = false;
  std::int64_t group = 64;
  std::string out;
  bool json = false;
};

base::Registry<mapping::Allocator> allocators() {
  base::Registry<mapping::Allocator> all;
  mapping::add_builtin_allocators(all);
  return all;
}

void print(const workloads::Plan& plan, const MapCommand& command) {
  std::map<std::string, int> experts;
  for (const workloads::PlanEntry& e : plan.experts) ++experts[e.format.name()];
  if (command.json) {
    nlohmann::ordered_json j;
    j["allocator"] = command.allocator;
    j["memory_bytes"] = plan.memory_bytes;
    j["memory_budget_bytes"] = *plan.memory_budget_bytes;
    j["loss"] = plan.loss;
    j["experts"] = experts;
    for (const auto& [key, value] : plan.solver) j["solver"][key] = value;
    fmt::print("{}\n", j.dump());
    return;
  }
  std::string counts;
  for (const auto& [format, count] : experts)
    counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count, format);
  fmt::print("{}: loss {:.6g} in {} bytes of {}: {}\n", command.allocator, plan.loss, plan.memory_bytes,
             *plan.memory_budget_bytes, counts);
}

void run_map(const MapCommand& command) {
  const auto known = allocators();
  const mapping::Allocator& allocator = known.at(command.allocator, "moesaic map", "--allocator");
  if (command.seed_given && !allocator.takes_seed)
    throw base::ConfigError("moesaic map", "--seed", std::to_string(command.seed),
                            "none: allocator " + command.allocator + " draws nothing");
  if (command.group % 8 != 0)
    throw base::ConfigError("moesaic map", "--group", std::to_string(command.group), "a positive multiple of 8");
  const workloads::WorkloadFile workload = workloads::read_workload(command.workload);
  if (!workload.has_weights)
    throw base::ConfigError(command.workload, "model", workload.model + " (a shape of the zoo)",
                            "a folder with weights: a plan is bound to a checkpoint");
  const program::Chip chip = program::read_chip(command.chip);
  const std::string table = base::read_file(command.sensitivity);
  const std::vector<workloads::SensitivityRow> rows = workloads::parse_sensitivity(table, command.sensitivity);
  const mapping::MemoryTable memory(workload.network, command.group, chip.layout_spec());
  const mapping::Problem problem = mapping::make_problem(rows, command.sensitivity, workload.network, memory);
  const std::int64_t budget = mapping::parse_budget(
      command.budget, memory, static_cast<std::int64_t>(problem.items.size()), "moesaic map", "--memory-budget");
  const mapping::Allocation allocation = allocator.allocate(problem, budget, command.seed);

  workloads::Plan plan;
  plan.made_from.checkpoint = workloads::Checkpoint(workload.model).hash();
  plan.made_from.sensitivity = base::sha256_hex(table);
  plan.made_from.trace = base::sha256_file(workload.trace);
  plan.made_from.chip = chip.hash;
  plan.group_size = static_cast<int>(command.group);
  const mapping::Totals totals = mapping::totals(problem, allocation.assignment);
  plan.memory_bytes = totals.bytes;
  plan.memory_budget_bytes = budget;
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    const mapping::Item& item = problem.items[i];
    const numerics::Format format = item.choices[static_cast<std::size_t>(allocation.assignment[i])].format;
    plan.experts.push_back({item.layer, item.expert, format, 0});
    for (const workloads::SensitivityRow& row : rows)
      if (row.layer == item.layer && row.expert == item.expert && row.format == format) plan.loss += row.loss;
  }
  plan.solver = {{"allocator", command.allocator}};
  plan.solver.insert(plan.solver.end(), allocation.facts.begin(), allocation.facts.end());
  plan.solver.emplace_back("loss_exponent", std::to_string(problem.loss_exponent));
  mapping::check_claim(plan, {totals.bytes, totals.loss, problem.loss_exponent, budget, allocation.certificate}, rows,
                       [&](numerics::Format f) { return memory.bytes(f); });
  workloads::write_plan(plan, command.out);
  print(plan, command);
}

}  // namespace

void add_map(CLI::App& app) {
  CLI::App* command = app.add_subcommand("map", "Choose a format for every expert under a memory budget");
  const auto options = std::make_shared<MapCommand>();
  command->add_option("--workload", options->workload, "Workload file, YAML")->required()->type_name("FILE");
  command->add_option("--chip", options->chip, "Chip file, YAML")->required()->type_name("FILE");
  command->add_option("--sensitivity", options->sensitivity, "Sensitivity table, CSV, as calibrate writes it")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--memory-budget", options->budget,
                   "Stored bytes of all experts: 123456, 96KiB, 1.5MiB, 2GiB, or average bits of a weight: 2.5bits")
      ->required()
      ->type_name("BYTES");
  command->add_option("--allocator", options->allocator, "How to choose: " + allocators().choices())
      ->capture_default_str()
      ->type_name("NAME");
  CLI::Option* seed = command->add_option("--seed", options->seed, "Of an allocator that draws")->type_name("N");
  command->add_option("--group", options->group, "Weights that share a scale, as calibrated")
      ->check(CLI::Range(std::int64_t{8}, std::int64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--out", options->out, "The plan, YAML")->required()->type_name("PLAN");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, seed] {
    options->seed_given = seed->count() > 0;
    run_map(*options);
  });
}

}  // namespace moesaic::cli
