#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/latency_source.h"
#include "cli/plan_check.h"
#include "mapping/problem.h"
#include "sim/program/chip.h"
#include "workloads/sensitivity.h"
#include "workloads/workload_file.h"

namespace moesaic::cli {
namespace {

constexpr const char* kWhere = "moesaic profile";
constexpr const char* kAllFormats = "int,nested,binary,ternary";

struct ProfileCommand {
  std::string workload, chip, formats, out;
  std::string per = "expert", tie;
  std::int64_t group = 64;
  CacheOptions cache;
  bool json = false;
};

/// The formats named, else the chip's or all, or their combinations over gate, up and down.
std::vector<numerics::ExpertFormats> formats_of(const ProfileCommand& command, const program::Chip& chip) {
  const std::string named = !command.formats.empty() ? command.formats : chip.formats.empty() ? kAllFormats : "";
  if (command.per == "expert") {
    if (!command.tie.empty()) throw base::ConfigError(kWhere, "--tie", command.tie, "none without --per projection");
    if (named.empty()) return {chip.formats.begin(), chip.formats.end()};
    return workloads::parse_expert_formats(named, kWhere, "--formats");
  }
  const std::vector<numerics::Format> formats =
      named.empty() ? chip.formats : workloads::parse_formats(named, kWhere, "--formats");
  return mapping::combinations(formats, formats, formats,
                               command.tie.empty() ? mapping::Together::kNone : mapping::Together::kGateUp);
}

void run_profile(const ProfileCommand& command) {
  if (command.group % 8 != 0)
    throw base::ConfigError(kWhere, "--group", std::to_string(command.group), "a positive multiple of 8");
  const program::Chip chip = program::read_chip(command.chip);
  const std::vector<numerics::ExpertFormats> formats = formats_of(command, chip);
  check_formats(chip, formats, kWhere, "--formats");
  const workloads::WorkloadFile workload = workloads::read_workload(command.workload);
  if (chip.storage)
    throw base::ConfigError(chip.path, "storage", "experts that come from it while the chip runs",
                            "none: the table is of experts that are in the memory");
  check_formats(chip, workload);
  if (workload.continuous_requests)
    throw base::ConfigError(workload.path, "continuous_batching", "batches that the plan's own cycles decide",
                            "batches that are the same under every plan");
  const run::RunInputs inputs = latency_inputs(workload, command.group);
  const profile::Profile profile = make_profile(inputs, chip, workload, formats, command.cache, kWhere);
  if (!command.out.empty()) base::write_file(command.out, profile.table.text());

  struct Sum {
    std::int64_t cycles = 0, least = 0, most = 0;
  };
  const workloads::LatencyTable::Source& source = profile.table.source();
  std::vector<Sum> sums(formats.size());
  std::int64_t rest = 0;
  for (const workloads::LatencyRow& row : profile.table.rows()) {
    if (row.expert == workloads::LatencyRow::kRest) {
      rest += row.cycles;
      continue;
    }
    Sum& sum = sums[static_cast<std::size_t>(std::find(formats.begin(), formats.end(), row.format) - formats.begin())];
    sum.cycles += row.cycles;
    if (row.jobs > 0) sum.least = sum.least == 0 ? row.cycles : std::min(sum.least, row.cycles);
    sum.most = std::max(sum.most, row.cycles);
  }
  if (command.json) {
    nlohmann::ordered_json j;
    j["chip"] = source.chip;
    j["work"] = source.work;
    j["engine"] = source.engine;
    j["tokens"] = source.tokens;
    j["rest_cycles"] = rest;
    for (std::size_t f = 0; f < formats.size(); ++f) j["cycles"][formats[f].name()] = sums[f].cycles + rest;
    j["runs"] = profile.runs;
    j["cached"] = profile.cached;
    fmt::print("{}\n", j.dump());
    return;
  }
  fmt::print("{:<10} {:>16} {:>16} {:>24}\n", "format", "cycles", "cycles/token", "expert, least..most");
  for (std::size_t f = 0; f < formats.size(); ++f)
    fmt::print("{:<10} {:>16} {:>16.1f} {:>24}\n", formats[f].name(), sums[f].cycles + rest,
               static_cast<double>(sums[f].cycles + rest) / static_cast<double>(source.tokens),
               fmt::format("{}..{}", sums[f].least, sums[f].most));
  fmt::print("{} tokens; {} of these cycles beside the experts; {} of {} runs from the cache\n", source.tokens, rest,
             profile.cached, profile.runs);
}

}  // namespace

void add_profile(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("profile", "Measure what every expert takes in every format, for map's latency budget");
  const auto options = std::make_shared<ProfileCommand>();
  command->add_option("--workload", options->workload, "The workload, YAML")->required()->type_name("FILE");
  command->add_option("--chip", options->chip, "The chip, YAML")->required()->type_name("FILE");
  command
      ->add_option("--formats", options->formats,
                   std::string("Formats to measure; unless given, the chip's, or where it names none ") + kAllFormats)
      ->type_name("LIST");
  command
      ->add_option("--per", options->per,
                   "expert: each format for whole experts, or three named (int2/int2/int4); projection: every "
                   "combination over gate, up and down")
      ->check(CLI::IsMember({"expert", "projection"}))
      ->capture_default_str();
  command->add_option("--tie", options->tie, "With --per projection: gate and up have one format")
      ->check(CLI::IsMember({"gate,up"}));
  command->add_option("--group", options->group, "Weights that share a scale")
      ->check(CLI::Range(std::int64_t{8}, std::int64_t{1} << 24))
      ->capture_default_str();
  add_cache_options(*command, options->cache);
  command->add_option("--out", options->out, "The latency table, CSV; a summary is printed in any case")
      ->type_name("FILE");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] { run_profile(*options); });
}

}  // namespace moesaic::cli
