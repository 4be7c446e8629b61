// The mapper's search beside COIN-OR CBC on problems of published sizes.
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "cli/commands.h"
#include "mapping/branch_and_bound.h"
#include "mapping/cbc.h"

namespace moesaic::cli {
namespace {

struct BenchmarkCommand {
  std::string problem;
  std::uint64_t seed = 1;
  double gap = 1e-4;
  double cbc_seconds = 60;
  bool json = false;
};

struct Shape {
  const char* name;
  int layers, experts, budgets;
};

constexpr Shape kShapes[] = {
    {"demo", 4, 8, 2}, {"mixtral-8x7b", 32, 8, 2}, {"deepseek-v3", 58, 256, 2}, {"switch-c2048", 30, 2048, 2}};

/// Losses that fall about fourfold a bit, bytes that rise with it, cycles that rise with it and with how often an
/// expert is chosen: log-normal over experts, every number drawn from the seed. Budgets at two fifths of the way from
/// everyone at 1 bit to everyone at 8.
mapping::ChoiceProgram make_program(const Shape& shape, std::uint64_t seed) {
  base::Rng rng = base::Rng(seed).stream(shape.name);
  mapping::ChoiceProgram p;
  std::vector<std::int64_t> least(2, 0), most(2, 0);
  for (int i = 0; i < shape.layers * shape.experts; ++i) {
    mapping::ProgramItem item;
    item.limits = {0, 1};
    const double scale = std::exp(2 * rng.normal()), frequency = std::exp(1.2 * rng.normal());
    for (int bits = 1; bits <= 8; ++bits) {
      const double loss = 0x1p48 / (shape.layers * shape.experts) * std::min(scale / 64, 1.0) * std::pow(4, 1 - bits) *
                          (0.8 + 0.4 * rng.uniform());
      item.options.push_back(
          {std::llround(loss),
           {64 * (9 + 344 * bits), std::llround(1000 * frequency * (4 + bits * (0.8 + 0.4 * rng.uniform())))}});
    }
    for (std::size_t c = 0; c < 2; ++c) {
      least[c] += item.options.front().use[c];
      most[c] += item.options.back().use[c];
    }
    p.items.push_back(std::move(item));
  }
  for (std::size_t c = 0; c < 2; ++c) p.capacity.push_back(least[c] + (most[c] - least[c]) * (c == 0 ? 40 : 38) / 100);
  return p;
}

/// Processor time of this process, or of the children it has waited for: what else runs on the machine counts little.
double processor_seconds(int who) {
  rusage usage{};
  getrusage(who, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

void run(const BenchmarkCommand& command) {
  std::vector<Shape> shapes;
  std::string names;
  for (const Shape& s : kShapes) {
    names += (names.empty() ? "" : ", ") + std::string(s.name);
    if (command.problem.empty() || command.problem == s.name) shapes.push_back(s);
  }
  if (shapes.empty())
    throw base::ConfigError("moesaic map-benchmark", "--problem", "'" + command.problem + "'", "one of " + names);
  const bool cbc = command.cbc_seconds > 0 && mapping::has_cbc();
  if (!command.json)
    fmt::print("{:<14} {:>8} {:>12} {:>10} {:>8} {:>12} {:>10} {:>12}  {}\n", "problem", "experts", "search [s]", "gap",
               "nodes", "CBC [s]", "CBC/search", "cost - CBC's", "CBC says");
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Shape& shape : shapes) {
    const mapping::ChoiceProgram program = make_program(shape, command.seed);
    mapping::SearchOptions options;
    options.gap = command.gap;
    double begin = processor_seconds(RUSAGE_SELF);
    const mapping::ProgramSolution ours = mapping::solve_program(program, options);
    const double own_seconds = processor_seconds(RUSAGE_SELF) - begin;
    if (ours.choices.empty()) throw std::logic_error("a benchmark problem without a plan");
    const double gap = static_cast<double>(ours.cost - ours.bound) / static_cast<double>(ours.cost);
    mapping::CbcAnswer theirs;
    begin = processor_seconds(RUSAGE_CHILDREN);
    if (cbc) theirs = mapping::solve_with_cbc(program, command.cbc_seconds);
    const double cbc_seconds = processor_seconds(RUSAGE_CHILDREN) - begin;
    nlohmann::ordered_json row = {{"problem", shape.name},  {"experts", shape.layers * shape.experts},
                                  {"seconds", own_seconds}, {"cost", ours.cost},
                                  {"bound", ours.bound},    {"gap", gap},
                                  {"nodes", ours.nodes}};
    if (cbc) {
      row["cbc_seconds"] = cbc_seconds;
      row["cbc_status"] = theirs.status;
      if (!theirs.choices.empty()) row["cbc_cost"] = theirs.cost;
    }
    if (!command.json)
      fmt::print(
          "{:<14} {:>8} {:>12.3f} {:>10.2e} {:>8} {:>12} {:>10} {:>12}  {}\n", shape.name, shape.layers * shape.experts,
          own_seconds, gap, ours.nodes, cbc ? fmt::format("{:.3f}", cbc_seconds) : "-",
          cbc ? fmt::format("{:.1f}", cbc_seconds / own_seconds) : "-",
          theirs.choices.empty()
              ? "-"
              : fmt::format("{:.2e}", static_cast<double>(ours.cost - theirs.cost) / static_cast<double>(theirs.cost)),
          cbc ? theirs.status : "not run");
    std::fflush(stdout);  // a row as it comes: the next may take minutes
    rows.push_back(row);
  }
  if (command.json) fmt::print("{}\n", rows.dump(2));
}

}  // namespace

void add_map_benchmark(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("map-benchmark", "The mapper's search and COIN-OR CBC, side by side, in processor seconds");
  const auto options = std::make_shared<BenchmarkCommand>();
  command->add_option("--problem", options->problem, "demo, mixtral-8x7b, deepseek-v3, switch-c2048; all unless given")
      ->type_name("NAME");
  command->add_option("--seed", options->seed, "Of the problems' numbers")->capture_default_str();
  command->add_option("--gap", options->gap, "Where the search stops")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command
      ->add_option("--cbc-seconds", options->cbc_seconds,
                   "CBC's time limit; it is killed two seconds later. 0: not run")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] { run(*options); });
}

}  // namespace moesaic::cli
