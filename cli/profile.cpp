#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/class_options.h"
#include "cli/commands.h"
#include "cli/latency_source.h"
#include "cli/lost_inputs.h"
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
  std::size_t classes = 0;
  std::string class_order;
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

/// What every class reads: each format for all, or with classes every way to read one stored copy.
std::vector<mapping::Reading> readings_of(const ProfileCommand& command, const program::Chip& chip) {
  const std::vector<numerics::ExpertFormats> formats = formats_of(command, chip);
  check_formats(chip, formats, kWhere, "--formats");
  if (command.classes < 2) return {formats.begin(), formats.end()};
  std::vector<numerics::Format> single;
  for (const numerics::ExpertFormats& format : formats) {
    if (!format.is_one())
      throw base::ConfigError(kWhere, "--classes", fmt::format("them with {}", format.name()),
                              "formats for whole experts");
    single.push_back(format.gate);
  }
  return class_readings(single, command.classes, command.class_order != kAnyOrder, kWhere, "--classes");
}

void refuse_levels(const workloads::WorkloadFile& workload) {
  for (const auto& rows : workloads::read_slice(workload).rows)
    for (const workloads::WorkloadSlice::Row& row : rows)
      if (std::any_of(row.levels.begin(), row.levels.end(), [](std::uint32_t level) { return level > 0; }))
        throw base::ConfigError(workload.trace, "levels", "rows that read an expert at several widths",
                                "level 0 throughout, or --classes: the levels' number");
}

void run_profile(const ProfileCommand& command) {
  if (command.group % 8 != 0)
    throw base::ConfigError(kWhere, "--group", std::to_string(command.group), "a positive multiple of 8");
  const program::Chip chip = program::read_chip(command.chip);
  if (!command.class_order.empty() && command.classes < 2)
    throw base::ConfigError(kWhere, "--class-order", command.class_order, "none without two or more --classes");
  const std::vector<mapping::Reading> readings = readings_of(command, chip);
  const workloads::WorkloadFile workload = workloads::read_workload(command.workload);
  refuse_lost(kWhere, "--out", command.out, inputs_of(workload));
  if (chip.storage)
    throw base::ConfigError(chip.path, "storage", "experts that come from it while the chip runs",
                            "none: the table is of experts that are in the memory");
  check_formats(chip, workload);
  if (workload.continuous_requests)
    throw base::ConfigError(workload.path, "continuous_batching", "batches that the plan's own cycles decide",
                            "batches that are the same under every plan");
  if (command.classes == 0) refuse_levels(workload);
  const run::RunInputs inputs = latency_inputs(workload, command.group, command.classes);
  const profile::Profile profile =
      make_profile(inputs, chip, workload, reads_of(readings, command.classes), command.cache, kWhere);
  if (!command.out.empty()) base::write_file(command.out, profile.table.text());

  // What every expert takes that is read so, and of these the least and the most.
  struct Sum {
    std::int64_t cycles = 0, least = 0, most = 0;
  };
  const workloads::LatencyTable::Source& source = profile.table.source();
  std::vector<Sum> sums;
  std::int64_t rest = 0;
  std::map<std::pair<int, int>, std::map<std::pair<numerics::ExpertFormats, workloads::ClassSet>, std::int64_t>>
      experts;
  for (const workloads::LatencyRow& row : profile.table.rows())
    if (row.expert == workloads::LatencyRow::kRest)
      rest += row.cycles;
    else
      experts[{row.layer, row.expert}][{row.format, row.classes}] = row.cycles;
  for (const mapping::Reading& reading : readings) {
    Sum& sum = sums.emplace_back();
    for (const auto& [expert, cycles] : experts) {
      std::int64_t own = 0;
      for (const auto& width : reading.widths(command.classes)) own += cycles.at(width);
      sum.cycles += own;
      if (own > 0) sum.least = sum.least == 0 ? own : std::min(sum.least, own);
      sum.most = std::max(sum.most, own);
    }
  }
  if (command.json) {
    nlohmann::ordered_json j;
    j["chip"] = source.chip;
    j["memory"] = source.memory;
    j["work"] = source.work;
    j["engine"] = source.engine;
    j["tokens"] = source.tokens;
    j["rest_cycles"] = rest;
    for (std::size_t f = 0; f < readings.size(); ++f) j["cycles"][readings[f].name()] = sums[f].cycles + rest;
    j["runs"] = profile.runs;
    j["cached"] = profile.cached;
    fmt::print("{}\n", j.dump());
    return;
  }
  std::size_t wide = 10;
  for (const mapping::Reading& reading : readings) wide = std::max(wide, reading.name().size());
  fmt::print("{:<{}} {:>16} {:>16} {:>24}\n", "format", wide, "cycles", "cycles/token", "expert, least..most");
  for (std::size_t f = 0; f < readings.size(); ++f)
    fmt::print("{:<{}} {:>16} {:>16.1f} {:>24}\n", readings[f].name(), wide, sums[f].cycles + rest,
               static_cast<double>(sums[f].cycles + rest) / static_cast<double>(source.tokens),
               fmt::format("{}..{}", sums[f].least, sums[f].most));
  fmt::print("{} tokens; {} of these cycles beside the experts; {} of {} runs from the cache\nmemory: {}\n",
             source.tokens, rest, profile.cached, profile.runs, source.memory);
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
  command
      ->add_option("--classes", options->classes,
                   "The trace's levels number so many classes of requests: every way in which they may read one stored "
                   "copy is summed up, width:width:... by class")
      ->check(CLI::Range(std::size_t{1}, workloads::kMostClasses));
  command
      ->add_option("--class-order", options->class_order,
                   "With --classes: rising (unless given), no class reads a narrower width than one of a lower number; "
                   "or any")
      ->check(CLI::IsMember({kRisingOrder, kAnyOrder}));
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
