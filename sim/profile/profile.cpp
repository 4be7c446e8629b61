#include "sim/profile/profile.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
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

void make_cache(const fs::path& folder, bool by_default) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error && access(folder.c_str(), W_OK | X_OK) != 0) error.assign(errno, std::generic_category());
  if (!error) return;
  const std::string expected = "a folder that can be made and written to";
  throw by_default ? base::ConfigError(folder.string(), "default cache", error.message(),
                                       expected + "; --cache names another, --no-cache does without")
                   : base::ConfigError(folder.string(), "--cache", error.message(), expected);
}

void write_cache(const fs::path& path, const std::string& key, const std::vector<std::int64_t>& ends) {
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

std::vector<std::pair<numerics::ExpertFormats, workloads::ClassSet>> widths_of(const Reads& reads) {
  if (reads.size() == 1) return {{reads[0], workloads::kEveryRow}};
  std::vector<std::pair<numerics::ExpertFormats, workloads::ClassSet>> widths;
  for (std::size_t c = 0; c < reads.size(); ++c) {
    auto own = std::find_if(widths.begin(), widths.end(), [&](const auto& width) { return width.first == reads[c]; });
    if (own == widths.end()) own = widths.emplace(widths.end(), reads[c], workloads::kEveryRow);
    own->second |= workloads::ClassSet{1} << c;
  }
  return widths;
}

std::vector<Reads> covering(const std::vector<Reads>& wanted) {
  std::vector<std::vector<std::pair<numerics::ExpertFormats, workloads::ClassSet>>> widths;
  std::set<std::pair<numerics::ExpertFormats, workloads::ClassSet>> left;
  for (const Reads& reads : wanted) {
    widths.push_back(widths_of(reads));
    left.insert(widths.back().begin(), widths.back().end());
  }
  std::vector<Reads> chosen;
  while (!left.empty()) {
    std::size_t best = 0;
    std::ptrdiff_t most = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const auto fresh =
          std::count_if(widths[i].begin(), widths[i].end(), [&](const auto& width) { return left.count(width) != 0; });
      if (fresh == 0) widths[i].clear();  // never again
      if (fresh <= most) continue;
      most = fresh;
      best = i;
      if (most == static_cast<std::ptrdiff_t>(wanted[i].size())) break;  // none has more
    }
    chosen.push_back(wanted[best]);
    for (const auto& width : widths[best]) left.erase(width);
  }
  return chosen;
}

namespace {

/// What one run says.
struct Measured {
  std::vector<RunProgram::Job> jobs;
  std::vector<std::int64_t> ends;
  std::vector<std::int64_t> after;  ///< of each job, what is stated to pass before it
  bool cached = false;
};

/// Shapes of experts that are read so; those of greater numbers are no plan's.
program::ShapeOf shapes_of(const run::RunInputs& inputs, std::int64_t experts, const Reads& reads) {
  const auto widest = std::max_element(reads.begin(), reads.end(),
                                       [](const auto& a, const auto& b) { return a.planes() < b.planes(); });
  return [&inputs, experts, format = *widest, reads](int layer, int expert) {
    program::ExpertShape shape = inputs.shape(layer, expert);
    if (expert >= experts) return shape;
    shape.format = format;
    shape.reads = reads.size() == 1 ? Reads() : reads;
    return shape;
  };
}

Measured measure(const run::RunInputs& inputs, const program::Chip& chip, const program::ShapeOf& shapes,
                 const Options& options) {
  Measured measured;
  const RunProgram program = lowered(inputs, shapes, chip);
  measured.jobs = program.jobs;
  for (const program::TimedPhase& phase : program.timed_phases())
    measured.after.push_back(static_cast<std::int64_t>(phase.after));
  const bool cache = !options.cache.empty();
  const std::string key = cache ? key_of(program, chip) : std::string();
  const fs::path path = fs::path(options.cache) / (key + ".txt");
  if (cache) {
    if (auto found = read_cache(path, key, program.jobs.size())) {
      measured.ends = *std::move(found);
      measured.cached = true;
      return measured;
    }
  }
  if (cache) make_cache(options.cache, options.cache_by_default);
  measured.ends = run_program(program, chip);
  if (cache) write_cache(path, key, measured.ends);
  return measured;
}

}  // namespace

Profile profile(const run::RunInputs& inputs, const program::Chip& chip, std::int64_t experts,
                const std::vector<Reads>& wanted, const Options& options) {
  const std::vector<Reads> runs = covering(wanted);
  std::vector<Measured> measured(runs.size());
  std::size_t done = 0;
  network::for_each_window(
      runs.size(), options.threads,
      [&](std::size_t r) { measured[r] = measure(inputs, chip, shapes_of(inputs, experts, runs[r]), options); },
      [&](std::size_t) {
        if (options.progress) options.progress(++done, runs.size());
      });

  Profile result;
  result.runs = runs.size();
  for (const Measured& run : measured) result.cached += run.cached;
  std::set<int> layers, with_experts;
  std::int64_t tokens = 0;
  for (const run::Step& step : inputs.steps) tokens += step.tokens;
  for (const program::LayerRows& rows : inputs.layers) {
    layers.insert(rows.layer);
    if (rows.part == program::Part::kExperts) with_experts.insert(rows.layer);
  }
  // By layer, expert or kRest, and of an expert by what is read and by whom. The first run that has a width says it.
  using Width = std::pair<numerics::ExpertFormats, workloads::ClassSet>;
  std::map<std::pair<int, int>, std::map<Width, LatencyRow>> sums;
  std::vector<Width> widths;  // in the order of runs
  for (std::size_t r = 0; r < runs.size(); ++r) {
    std::vector<Width> fresh = widths_of(runs[r]);
    fresh.erase(
        std::remove_if(fresh.begin(), fresh.end(),
                       [&](const Width& w) { return std::find(widths.begin(), widths.end(), w) != widths.end(); }),
        fresh.end());
    const Measured& run = measured[r];
    for (std::size_t j = 0; j < run.jobs.size(); ++j) {
      const RunProgram::Job& job = run.jobs[j];
      const int layer = inputs.layers[job.phase].layer;
      const std::int64_t cycles = run.ends[j] - (j == 0 ? 0 : run.ends[j - 1]);
      const auto add = [&](int expert, const Width& width, std::int64_t own) {
        LatencyRow& row = sums[{layer, expert}][width];
        ++row.jobs;
        row.rows += job.rows;
        row.cycles += own;
      };
      if (job.expert < 0 || job.expert >= experts) {
        if (r == 0) add(LatencyRow::kRest, {}, cycles);
        continue;
      }
      for (const Width& width : fresh)
        if (width.first == job.format) add(job.expert, width, cycles - run.after[j]);
      // What is stated to go on beside the chip is of no expert.
      if (r == 0) sums[{layer, LatencyRow::kRest}][{}].cycles += run.after[j];
    }
    widths.insert(widths.end(), fresh.begin(), fresh.end());
  }
  std::vector<LatencyRow> rows;
  const auto add = [&](int layer, int expert, const Width& width) {
    LatencyRow row = sums[{layer, expert}][width];
    row.layer = layer;
    row.expert = expert;
    row.format = width.first;
    row.classes = width.second;
    rows.push_back(row);
  };
  for (const int layer : layers) {
    for (int expert = 0; with_experts.count(layer) != 0 && expert < static_cast<int>(experts); ++expert)
      for (const Width& width : widths) add(layer, expert, width);
    add(layer, LatencyRow::kRest, {});
  }
  workloads::LatencyTable::Source source;
  source.chip = chip.hash;
  source.memory = chip.memory_name();
  source.work = work_hash(inputs);
  source.engine = engine_hash();
  source.group_size = inputs.facts.group_size;
  source.tokens = tokens;
  if (wanted.front().size() > 1) source.classes = wanted.front().size();
  result.table = workloads::LatencyTable(source, std::move(rows), "the profile");
  return result;
}

Profile profile(const run::RunInputs& inputs, const program::Chip& chip, std::int64_t experts,
                const std::vector<numerics::ExpertFormats>& formats, const Options& options) {
  std::vector<Reads> wanted;
  for (const numerics::ExpertFormats& format : formats) wanted.push_back({format});
  return profile(inputs, chip, experts, wanted, options);
}

}  // namespace moesaic::profile
