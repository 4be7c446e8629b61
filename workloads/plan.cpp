#include "workloads/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <tuple>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/yaml.h"

namespace moesaic::workloads {
namespace {

constexpr int kVersion = 1;
constexpr double kShareSlack = 1e-6;  // shares of a few decimals need not add up to 1 exactly

std::string read_hash(const base::YamlNode& node) {
  const std::string text = node.as_text();
  if (text.size() != 64 || text.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw node.refused("64 lower-case hexadecimal digits");
  return text;
}

std::optional<std::string> find_hash(const base::YamlNode& map, const std::string& key) {
  const std::optional<base::YamlNode> node = map.find(key);
  if (!node) return std::nullopt;
  return read_hash(*node);
}

// A JSON string is a YAML double-quoted scalar: any text survives.
std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

/// A format's name, or a map of the three matrices'.
numerics::ExpertFormats read_formats(const base::YamlNode& node) {
  const auto parsed = [](const base::YamlNode& one) {
    return numerics::Format::parse(one.as_text(), one.where(), one.key());
  };
  if (!node.is_map()) return parsed(node);
  return {parsed(node.at("gate")), parsed(node.at("up")), parsed(node.at("down"))};
}

std::string formats_text(const numerics::ExpertFormats& f) {
  return f.is_one() ? f.gate.name()
                    : fmt::format("{{gate: {}, up: {}, down: {}}}", f.gate.name(), f.up.name(), f.down.name());
}

bool before(const PlanEntry& a, const PlanEntry& b) {
  return std::tie(a.layer, a.expert) < std::tie(b.layer, b.expert);
}

}  // namespace

const PlanEntry& Plan::at(int layer, int expert) const {
  PlanEntry wanted;
  wanted.layer = layer;
  wanted.expert = expert;
  const auto found = std::lower_bound(experts.begin(), experts.end(), wanted, before);
  if (found == experts.end() || found->layer != layer || found->expert != expert)
    throw std::logic_error(fmt::format("plan asked for layer {} expert {}, which it does not hold", layer, expert));
  return *found;
}

std::optional<numerics::ExpertFormats> Plan::read(const PlanEntry& entry, std::uint32_t level) const {
  if (has_classes()) {
    if (level >= class_shares.size()) return std::nullopt;
    return entry.reads.empty() ? entry.format : numerics::ExpertFormats(entry.reads[level]);
  }
  if (level == 0) return entry.format;
  if (level > 8 || !entry.format.is_one()) return std::nullopt;
  return entry.format.gate.read_at(entry.format.gate.planes() + static_cast<int>(level));
}

std::string Plan::expected_level(const PlanEntry& entry) const {
  if (has_classes()) return fmt::format("below {}, the plan's classes", class_shares.size());
  int most = 0;
  while (read(entry, static_cast<std::uint32_t>(most + 1))) ++most;
  if (!entry.format.is_one()) return fmt::format("0: {} is read as it is", entry.format.name());
  return fmt::format("at most {}: {} stores {} planes and reads {}", most, entry.format.name(),
                     entry.format.gate.stored_planes(), entry.format.gate.planes());
}

numerics::ExpertFormats Plan::widest_read(const PlanEntry& entry, std::uint32_t greatest) const {
  numerics::ExpertFormats widest = *read(entry, 0);
  for (std::uint32_t level = 1; level <= greatest; ++level) {
    const std::optional<numerics::ExpertFormats> format = read(entry, level);
    if (format && format->planes() > widest.planes()) widest = *format;
  }
  return widest;
}

namespace {

std::vector<double> read_shares(const base::YamlNode& node) {
  std::vector<double> shares;
  double sum = 0;
  for (const base::YamlNode& item : node.items()) sum += shares.emplace_back(item.as_number(0, 1));
  if (std::fabs(sum - 1) > kShareSlack)
    throw base::ConfigError(node.where(), node.key(), fmt::format("shares that add up to {}", sum), "a sum of 1");
  return shares;
}

/// What each class reads: formats of the one stored copy.
std::vector<numerics::Format> read_reads(const base::YamlNode& node, const PlanEntry& entry, std::size_t classes) {
  std::vector<numerics::Format> reads;
  if (!entry.format.is_one())
    throw base::ConfigError(node.where(), node.key(), "them of an expert of " + entry.format.name(),
                            "one format for gate, up and down, or no reads");
  for (const base::YamlNode& item : node.items()) {
    reads.push_back(numerics::Format::parse(item.as_text(), item.where(), node.key()));
    if (!entry.format.gate.same_copy(reads.back()))
      throw base::ConfigError(item.where(), node.key(), reads.back().name(),
                              fmt::format("a reading of {}'s stored copy", entry.format.name()));
  }
  if (reads.size() != classes)
    throw base::ConfigError(node.where(), node.key(), fmt::format("{} formats", reads.size()),
                            classes == 0 ? std::string("class_shares in a plan with reads")
                                         : fmt::format("{}, one for each of class_shares", classes));
  return reads;
}

}  // namespace

Plan read_plan(const std::string& path) {
  const base::YamlNode root = base::YamlNode::load(path);
  Plan plan;
  root.integer("plan_version", kVersion, kVersion);
  const base::YamlNode sources = root.at("made_from");
  const base::YamlNode checkpoint = sources.at("checkpoint");
  plan.made_from.checkpoint = read_hash(checkpoint);
  plan.made_from.checkpoint_line = checkpoint.line();
  plan.made_from.sensitivity = find_hash(sources, "sensitivity");
  plan.made_from.trace = find_hash(sources, "trace");
  plan.made_from.work = find_hash(sources, "work");
  plan.made_from.chip = find_hash(sources, "chip");
  if (const std::optional<base::YamlNode> memory = sources.find("memory")) plan.made_from.memory = memory->as_text();
  plan.made_from.costs = find_hash(sources, "costs");
  const base::YamlNode group = root.at("group_size");
  plan.group_size = static_cast<int>(group.as_integer(8, 1 << 24));
  if (plan.group_size % 8 != 0) throw group.refused("a multiple of 8");
  if (const std::optional<base::YamlNode> quantiser = root.find("quantiser"))
    plan.quantiser = parse_quantiser(*quantiser, path);
  plan.memory_bytes = root.integer("memory_bytes", 0, std::int64_t{1} << 62);
  if (root.has("memory_budget_bytes"))
    plan.memory_budget_bytes = root.integer("memory_budget_bytes", 0, std::int64_t{1} << 62);
  plan.loss = root.number("loss", -1e300, 1e300);
  if (const std::optional<base::YamlNode> budgets = root.find("budgets"))
    for (const base::YamlNode& item : budgets->items()) {
      constexpr std::int64_t kMost = std::int64_t{1} << 62;
      PlanBudget b;
      b.name = item.text("name");
      b.unit = item.text("unit");
      b.per_layer = item.choice("scope", {"model", "layer"}) == "layer";
      b.budget = item.integer("budget", 0, kMost);
      b.used = item.integer("used", 0, kMost);
      b.scale = item.integer("scale", 1, kMost);
      if (b.used > b.budget) throw item.at("used").refused(fmt::format("at most the budget, {}", b.budget));
      if (b.name == "memory" && !b.per_layer) {
        if (b.used != plan.memory_bytes)
          throw item.at("used").refused(fmt::format("memory_bytes, {}", plan.memory_bytes));
        if (plan.memory_budget_bytes && b.budget != *plan.memory_budget_bytes)
          throw item.at("budget").refused(fmt::format("memory_budget_bytes, {}", *plan.memory_budget_bytes));
      }
      if (item.has("simulated")) {
        PlanBudget::Simulated simulated;
        simulated.used = item.integer("simulated", 0, kMost);
        simulated.wanted = item.integer("wanted", 0, kMost);
        simulated.rounds = item.integer("rounds", 1, 1 << 20);
        if (simulated.used > simulated.wanted)
          throw item.at("simulated").refused(fmt::format("at most what was wanted, {}", simulated.wanted));
        b.simulated = simulated;
      }
      plan.budgets.push_back(b);
    }
  if (const std::optional<base::YamlNode> solver = root.find("solver"))
    for (const std::string& key : solver->keys()) plan.solver.emplace_back(key, solver->text(key));
  if (const std::optional<base::YamlNode> shares = root.find("class_shares")) plan.class_shares = read_shares(*shares);
  for (const base::YamlNode& item : root.at("experts").items()) {
    PlanEntry entry;
    entry.line = item.line();
    entry.layer = static_cast<int>(item.integer("layer", 0, 1 << 20));
    entry.expert = static_cast<int>(item.integer("expert", 0, 1 << 20));
    entry.format = read_formats(item.at("format"));
    if (const std::optional<base::YamlNode> reads = item.find("reads"))
      entry.reads = read_reads(*reads, entry, plan.class_shares.size());
    plan.experts.push_back(entry);
  }
  root.finish();
  std::stable_sort(plan.experts.begin(), plan.experts.end(), before);
  for (std::size_t i = 1; i < plan.experts.size(); ++i) {
    const PlanEntry& a = plan.experts[i - 1];
    const PlanEntry& b = plan.experts[i];
    if (!before(a, b))
      throw base::ConfigError(path + ":" + std::to_string(b.line), "experts",
                              fmt::format("layer {} expert {} a second time", b.layer, b.expert),
                              fmt::format("one entry (the first is at line {})", a.line));
  }
  return plan;
}

void check_plan(const Plan& plan, const std::string& path, const Network& network, const std::string& checkpoint_hash) {
  const auto at = [&](int line) { return line > 0 ? path + ":" + std::to_string(line) : path; };
  if (plan.made_from.checkpoint != checkpoint_hash)
    throw base::ConfigError(at(plan.made_from.checkpoint_line), "made_from.checkpoint",
                            plan.made_from.checkpoint + " (another model)",
                            checkpoint_hash + ", the hash of " + network.name);
  for (const PlanEntry& entry : plan.experts) {
    if (entry.layer >= network.layers || !network.has_experts[static_cast<std::size_t>(entry.layer)])
      throw base::ConfigError(at(entry.line), "layer", std::to_string(entry.layer),
                              "a layer with experts of " + network.name);
    if (entry.expert >= network.experts)
      throw base::ConfigError(at(entry.line), "expert", std::to_string(entry.expert),
                              "less than " + std::to_string(network.experts));
  }
  // No entry twice and each one legal: the right number of them covers everything.
  const std::int64_t wanted = network.moe_layers() * network.experts;
  if (static_cast<std::int64_t>(plan.experts.size()) != wanted)
    throw base::ConfigError(path, "experts", std::to_string(plan.experts.size()) + " entries",
                            std::to_string(wanted) + ", one for each (layer, expert)");
}

void write_plan(const Plan& plan, const std::string& path) { base::write_file(path, plan_text(plan, path)); }

std::string plan_text(const Plan& plan, const std::string& path) {
  std::string text =
      fmt::format("plan_version: {}\nmade_from:\n  checkpoint: {}\n", kVersion, quoted(plan.made_from.checkpoint));
  if (plan.made_from.sensitivity) text += "  sensitivity: " + quoted(*plan.made_from.sensitivity) + "\n";
  if (plan.made_from.trace) text += "  trace: " + quoted(*plan.made_from.trace) + "\n";
  if (plan.made_from.work) text += "  work: " + quoted(*plan.made_from.work) + "\n";
  if (plan.made_from.chip) text += "  chip: " + quoted(*plan.made_from.chip) + "\n";
  if (plan.made_from.memory) text += "  memory: " + quoted(*plan.made_from.memory) + "\n";
  if (plan.made_from.costs) text += "  costs: " + quoted(*plan.made_from.costs) + "\n";
  text += fmt::format("group_size: {}\n", plan.group_size) + format_quantiser(plan.quantiser, path);
  text += fmt::format("memory_bytes: {}\n", plan.memory_bytes);
  if (plan.memory_budget_bytes) text += fmt::format("memory_budget_bytes: {}\n", *plan.memory_budget_bytes);
  if (!plan.budgets.empty()) text += "budgets:\n";
  for (const PlanBudget& b : plan.budgets) {
    text += fmt::format("  - {{name: {}, unit: {}, scope: {}, budget: {}, used: {}, scale: {}", quoted(b.name),
                        quoted(b.unit), b.per_layer ? "layer" : "model", b.budget, b.used, b.scale);
    if (b.simulated)
      text += fmt::format(", wanted: {}, simulated: {}, rounds: {}", b.simulated->wanted, b.simulated->used,
                          b.simulated->rounds);
    text += "}\n";
  }
  text += fmt::format("loss: {}\n", plan.loss);
  if (!plan.solver.empty()) text += "solver:\n";
  for (const auto& fact : plan.solver) text += fmt::format("  {}: {}\n", quoted(fact.first), quoted(fact.second));
  if (plan.has_classes()) text += fmt::format("class_shares: [{}]\n", fmt::join(plan.class_shares, ", "));
  std::vector<PlanEntry> sorted = plan.experts;
  std::stable_sort(sorted.begin(), sorted.end(), before);
  text += "experts:\n";
  for (const PlanEntry& entry : sorted) {
    std::string reads;
    for (const numerics::Format format : entry.reads) reads += (reads.empty() ? "" : ", ") + format.name();
    if (!reads.empty()) reads = ", reads: [" + reads + "]";
    text += fmt::format("  - {{layer: {}, expert: {}, format: {}{}}}\n", entry.layer, entry.expert,
                        formats_text(entry.format), reads);
  }
  return text;
}

Plan uniform_plan(const Network& network, const std::string& checkpoint_hash, const numerics::ExpertFormats& format,
                  int group_size) {
  Plan plan;
  plan.made_from.checkpoint = checkpoint_hash;
  plan.group_size = group_size;
  for (int layer = 0; layer < static_cast<int>(network.layers); ++layer) {
    if (!network.has_experts[static_cast<std::size_t>(layer)]) continue;
    for (int expert = 0; expert < static_cast<int>(network.experts); ++expert)
      plan.experts.push_back({layer, expert, format, 0});
  }
  return plan;
}

namespace {

/// Of the one, or of gate/up/down; nothing for any other text.
std::optional<numerics::ExpertFormats> formats_named(const std::string& name) {
  const std::vector<numerics::Format>& all = numerics::all_formats();
  std::vector<numerics::Format> found;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const auto format = std::find_if(
        all.begin(), all.end(), [&](const numerics::Format& f) { return f.name() == name.substr(begin, end - begin); });
    if (format == all.end()) return std::nullopt;
    found.push_back(*format);
    begin = end + 1;
  }
  if (found.size() == 1) return found[0];
  if (found.size() == 3) return numerics::ExpertFormats(found[0], found[1], found[2]);
  return std::nullopt;
}

/// "int2+int3": the formats named; none when a part is no format's name. A part may hold a + itself ("mwq2+1+int3").
std::vector<numerics::ExpertFormats> formats_in(const std::string& names) {
  std::vector<numerics::ExpertFormats> found;
  for (std::size_t begin = 0; begin <= names.size();) {
    std::optional<numerics::ExpertFormats> format;
    std::size_t end = begin;
    while (!format) {
      end = std::min(names.find('+', end), names.size());
      format = formats_named(names.substr(begin, end - begin));
      if (!format && end++ == names.size()) return {};
    }
    found.push_back(*format);
    begin = end + 1;
  }
  return found;
}

}  // namespace

std::optional<Plan> named_plan(const std::string& name, const Network& network, const std::string& checkpoint_hash) {
  const std::vector<numerics::ExpertFormats> formats = formats_in(name);
  if (!formats.empty()) {
    Plan plan = uniform_plan(network, checkpoint_hash, formats.front(), kNamedPlanGroupSize);
    for (PlanEntry& entry : plan.experts)
      entry.format = formats[static_cast<std::size_t>(entry.layer + entry.expert) % formats.size()];
    return plan;
  }
  if (!std::filesystem::exists(name))
    throw base::InputError("--plan: got '" + name +
                           "', expected a format (int1..int8, nested1..nested8, binary, ternary, mwq2+1, mwq2+1of3, "
                           "...), three for gate/up/down (int2/int2/int4), several of either with + between them, or "
                           "a plan file");
  return std::nullopt;
}

}  // namespace moesaic::workloads
