#include "sim/profile/profile.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/sha256.h"
#include "reference/network/forward.h"
#include "sim/profile/engine_hash.h"
#include "sim/program/layer_program.h"
#include "sim/program/timed_program.h"

namespace moesaic::profile {

using program::RunProgram;
using workloads::LatencyRow;
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kCacheHeader = "moesaic profile cache 1";

/// With barriers, and every expert in the memory.
RunProgram lowered(const run::RunInputs& inputs, const program::ShapeOf& shapes, const program::Chip& chip) {
  program::LowerOptions options;
  options.barriers = true;
  RunProgram program =
      program::lower_layers_without_data(inputs.layers, shapes, chip.core, chip.layout, chip.path, options);
  program.state_costs(inputs.layers, chip);
  return program;
}

/// When each phase of the program ends.
std::vector<std::int64_t> run_program(const RunProgram& program, const program::Chip& chip) {
  fast::Options options;
  options.memory = chip.memory;
  options.period = chip.clock_period();
  options.fresh_phases = true;
  const std::vector<program::TimedPhase> phases = program.timed_phases();
  program::TimedProgram agent(program.loaded.commands, phases);
  const fast::Run run = fast::run(chip.core, agent, program.loaded.image, options);
  if (run.command_error) throw base::CheckError("the core reports an unknown command");
  std::vector<std::int64_t> ends;
  for (const auto& end : run.engine.phase_ends) ends.push_back(static_cast<std::int64_t>(end.cycles));
  return ends;
}

void add_number(base::Sha256& sum, std::uint64_t value) {
  unsigned char bytes[8];
  for (unsigned i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(value >> (8 * i));
  sum.add(bytes, sizeof bytes);
}

std::string key_of(const RunProgram& program, const program::Chip& chip) {
  base::Sha256 sum;
  sum.add(kCacheHeader);
  sum.add(engine_hash());
  sum.add(chip.hash);
  for (const program::TimedPhase& phase : program.timed_phases()) {
    add_number(sum, phase.first_command);
    if (phase.after != 0) sum.add(fmt::format("after {}", phase.after));
  }
  for (const program::Command& command : program.loaded.commands)
    for (const std::uint32_t word : command.pack()) add_number(sum, word);
  return sum.hex();
}

/// The ends of `count` phases, one a line, or nothing when the file is not there or says something else.
std::optional<std::vector<std::int64_t>> read_cache(const fs::path& path, const std::string& key, std::size_t count) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  const std::string text = base::read_file(path.string());
  const std::string start = fmt::format("{}\n{}\n", kCacheHeader, key);
  if (text.compare(0, start.size(), start) != 0) return std::nullopt;
  std::vector<std::int64_t> ends;
  const char *at = text.data() + start.size(), *const last = text.data() + text.size();
  while (at != last) {
    std::int64_t value = 0;
    const auto [end, failed] = std::from_chars(at, last, value);
    if (failed != std::errc() || end == last || *end != '\n' || value < (ends.empty() ? 0 : ends.back()))
      return std::nullopt;
    ends.push_back(value);
    at = end + 1;
  }
  if (ends.size() != count) return std::nullopt;
  return ends;
}

void write_cache(const fs::path& path, const std::string& key, const std::vector<std::int64_t>& ends) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error)
    throw base::ConfigError(path.parent_path().string(), "--cache", error.message(), "a folder that can be made");
  std::string text = fmt::format("{}\n{}\n", kCacheHeader, key);
  for (const std::int64_t end : ends) text += fmt::format("{}\n", end);
  base::write_file(path.string(), text);
}

}  // namespace

std::string engine_hash() { return MOESAIC_ENGINE_HASH; }

std::string work_hash(const run::RunInputs& inputs) {
  base::Sha256 sum;
  for (const program::LayerRows& rows : inputs.layers) {
    for (const std::int64_t value :
         {std::int64_t{rows.layer}, rows.x.m, rows.x.k, std::int64_t{rows.x.act_bits}, rows.top_k})
      add_number(sum, static_cast<std::uint64_t>(value));
    for (const std::uint32_t expert : rows.chosen) add_number(sum, expert);
    for (const std::uint8_t level : rows.levels) add_number(sum, level);
    std::set<std::uint32_t> chosen(rows.chosen.begin(), rows.chosen.end());
    chosen.erase(workloads::RoutedRows::kDropped);
    for (const std::uint32_t expert : chosen) {
      const program::ExpertShape shape = inputs.shape(rows.layer, static_cast<int>(expert));
      for (const std::int64_t value : {shape.hidden, shape.intermediate, shape.group_size})
        add_number(sum, static_cast<std::uint64_t>(value));
      if (expert >= inputs.experts) sum.add(shape.format.name());  // the workload's, not a plan's
    }
    if (rows.stated.any())
      sum.add(fmt::format("stated {} {} {}", rows.stated.norm_elements, rows.stated.router_macs,
                          rows.stated.softmax_elements));
    for (const program::Product& product : rows.products) {
      sum.add(product.stack.name + ";" + product.stack.format.name());
      for (const std::int64_t value : {product.stack.count, product.stack.n, product.stack.k, product.stack.group_size,
                                       product.n, product.k, product.rows})
        add_number(sum, static_cast<std::uint64_t>(value));
    }
  }
  return sum.hex();
}

std::string default_cache() {
  if (const char* folder = getenv("XDG_CACHE_HOME"); folder != nullptr && *folder != '\0')
    return (fs::path(folder) / "moesaic" / "profile").string();
  if (const char* home = getenv("HOME"); home != nullptr && *home != '\0')
    return (fs::path(home) / ".cache" / "moesaic" / "profile").string();
  return "";
}

Profile profile(const run::RunInputs& inputs, const program::Chip& chip, std::int64_t experts,
                const std::vector<numerics::ExpertFormats>& formats, const Options& options) {
  std::vector<std::vector<std::int64_t>> ends(formats.size());
  std::vector<RunProgram::Job> jobs;  // the same in every format, but for their first commands
  std::vector<std::int64_t> after;    // of each, what is stated to pass before it
  std::vector<char> was_cached(formats.size(), 0);
  std::size_t done = 0;
  network::for_each_window(
      formats.size(), options.threads,
      [&](std::size_t f) {
        const program::ShapeOf shapes = [&inputs, experts, format = formats[f]](int layer, int expert) {
          program::ExpertShape shape = inputs.shape(layer, expert);
          if (expert < experts) shape.format = format;  // others are no plan's
          return shape;
        };
        const RunProgram program = lowered(inputs, shapes, chip);
        if (f == 0) {
          jobs = program.jobs;
          for (const program::TimedPhase& phase : program.timed_phases())
            after.push_back(static_cast<std::int64_t>(phase.after));
        }
        const std::string key = options.cache.empty() ? std::string() : key_of(program, chip);
        const fs::path path = fs::path(options.cache) / (key + ".txt");
        if (!options.cache.empty()) {
          if (auto found = read_cache(path, key, program.jobs.size())) {
            ends[f] = *std::move(found);
            was_cached[f] = 1;
            return;
          }
        }
        ends[f] = run_program(program, chip);
        if (!options.cache.empty()) write_cache(path, key, ends[f]);
      },
      [&](std::size_t) {
        if (options.progress) options.progress(++done, formats.size());
      });

  Profile result;
  result.runs = formats.size();
  for (const char cached : was_cached) result.cached += cached != 0;
  std::set<int> layers, with_experts;
  std::int64_t tokens = 0;
  for (const run::Step& step : inputs.steps) tokens += step.tokens;
  for (const program::LayerRows& rows : inputs.layers) {
    layers.insert(rows.layer);
    if (rows.part == program::Part::kExperts) with_experts.insert(rows.layer);
  }
  std::map<std::pair<int, int>, std::vector<std::size_t>> jobs_of;  // by layer and expert, or kRest
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const bool routed = jobs[j].expert >= 0 && jobs[j].expert < experts;
    jobs_of[{inputs.layers[jobs[j].phase].layer, routed ? jobs[j].expert : LatencyRow::kRest}].push_back(j);
  }
  std::vector<LatencyRow> rows;
  const auto add = [&](int layer, int expert, std::size_t f) {
    LatencyRow row;
    row.layer = layer;
    row.expert = expert;
    row.format = formats[f];
    for (const std::size_t j : jobs_of[{layer, expert}]) {
      ++row.jobs;
      row.rows += jobs[j].rows;
      row.cycles += ends[f][j] - (j == 0 ? 0 : ends[f][j - 1]) - after[j];
    }
    // What is stated to go on beside the chip is of no expert.
    if (expert == LatencyRow::kRest)
      for (std::size_t j = 0; j < jobs.size(); ++j)
        if (inputs.layers[jobs[j].phase].layer == layer) row.cycles += after[j];
    rows.push_back(row);
  };
  for (const int layer : layers) {
    for (int expert = 0; with_experts.count(layer) != 0 && expert < static_cast<int>(experts); ++expert)
      for (std::size_t f = 0; f < formats.size(); ++f) add(layer, expert, f);
    add(layer, LatencyRow::kRest, 0);
  }
  workloads::LatencyTable::Source source;
  source.chip = chip.hash;
  source.work = work_hash(inputs);
  source.engine = engine_hash();
  source.group_size = inputs.facts.group_size;
  source.tokens = tokens;
  result.table = workloads::LatencyTable(source, std::move(rows), "the profile");
  return result;
}

}  // namespace moesaic::profile
