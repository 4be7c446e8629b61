#include "workloads/latency_table.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <set>
#include <stdexcept>
#include <string_view>

#include "base/error.h"

namespace moesaic::workloads {

using base::ConfigError;
using numerics::ExpertFormats;

namespace {

constexpr std::string_view kFirst = "# moesaic profile 2";
constexpr std::string_view kHeader = "layer,expert,format,jobs,rows,cycles";
constexpr std::string_view kClassHeader = "layer,expert,format,classes,jobs,rows,cycles";
constexpr std::string_view kClasses = "# classes: ";
constexpr std::size_t kColumns = 6;  // without classes
constexpr std::int64_t kMost = std::int64_t{1} << 50;

std::int64_t whole_number(std::string_view text, const std::string& where, const std::string& key, std::int64_t least,
                          std::int64_t greatest) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > greatest)
    throw ConfigError(where, key, "'" + std::string(text) + "'",
                      fmt::format("a whole number from {} to {}", least, greatest));
  return value;
}

std::string hash(std::string_view text, const std::string& where, const std::string& key) {
  if (text.size() != 64 || text.find_first_not_of("0123456789abcdef") != std::string_view::npos)
    throw ConfigError(where, key, "'" + std::string(text) + "'", "64 lower-case hexadecimal digits");
  return std::string(text);
}

std::string name_of(const LatencyRow& row) {
  return row.expert == LatencyRow::kRest ? std::string() : row.format.name();
}

std::tuple<int, int, ExpertFormats, ClassSet> key_of(const LatencyRow& row) {
  return {row.layer, row.expert, row.expert == LatencyRow::kRest ? ExpertFormats() : row.format, row.classes};
}

}  // namespace

LatencyTable::LatencyTable(Source source, std::vector<LatencyRow> rows, std::string path)
    : source_(std::move(source)), rows_(std::move(rows)), path_(std::move(path)) {
  for (const LatencyRow& row : rows_)
    if (!cycles_.emplace(key_of(row), row.cycles).second) throw std::logic_error("a latency twice");
}

LatencyTable LatencyTable::parse(const std::string& text, const std::string& path) {
  constexpr std::array<std::string_view, 6> kKeys{"chip", "memory", "work", "engine", "group_size", "tokens"};
  LatencyTable table;
  table.path_ = path;
  std::set<int> layers, rested;
  bool begun = false;  // the rows
  std::string_view rest = text;
  for (std::size_t line = 1; !rest.empty(); ++line) {
    const std::size_t end = rest.find('\n');
    std::string_view content = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    const std::string where = fmt::format("{}:{}", path, line);
    const auto expect_line = [&](std::string_view wanted) {
      if (content != wanted)
        throw ConfigError(where, "header", "'" + std::string(content.substr(0, 80)) + "'", std::string(wanted));
    };
    if (line == 1) {
      expect_line(kFirst);
      continue;
    }
    if (line <= 1 + kKeys.size()) {
      const std::string key(kKeys[line - 2]);
      const std::string start = "# " + key + ": ";
      if (content.substr(0, start.size()) != start)
        throw ConfigError(where, "header", "'" + std::string(content.substr(0, 80)) + "'", "'" + start + "...'");
      const std::string_view value = content.substr(start.size());
      if (key == "chip") table.source_.chip = hash(value, where, key);
      if (key == "memory") table.source_.memory = value;
      if (key == "work") table.source_.work = hash(value, where, key);
      if (key == "engine") table.source_.engine = hash(value, where, key);
      if (key == "group_size") table.source_.group_size = whole_number(value, where, key, 8, 1 << 24);
      if (key == "tokens") table.source_.tokens = whole_number(value, where, key, 1, kMost);
      continue;
    }
    const bool has_classes = table.source_.classes > 0;
    if (!begun) {
      if (!has_classes && content.substr(0, kClasses.size()) == kClasses) {
        table.source_.classes = static_cast<std::size_t>(
            whole_number(content.substr(kClasses.size()), where, "classes", 2, std::int64_t{kMostClasses}));
        continue;
      }
      expect_line(has_classes ? kClassHeader : kHeader);
      begun = true;
      continue;
    }
    if (content.empty() && rest.empty()) break;
    std::vector<std::string_view> field;
    for (std::string_view left = content;;) {
      const std::size_t comma = left.find(',');
      field.push_back(left.substr(0, comma));
      if (comma == std::string_view::npos) break;
      left.remove_prefix(comma + 1);
    }
    const std::size_t columns = kColumns + (has_classes ? 1 : 0);
    if (field.size() != columns)
      throw ConfigError(where, "row", fmt::format("{} fields", field.size()), fmt::format("{}", columns));
    LatencyRow row;
    row.layer = static_cast<int>(whole_number(field[0], where, "layer", 0, 1 << 20));
    layers.insert(row.layer);
    if (field[1] == "rest") {
      row.expert = LatencyRow::kRest;
      rested.insert(row.layer);
      if (!field[2].empty()) throw ConfigError(where, "format", "'" + std::string(field[2]) + "'", "none for the rest");
      if (has_classes && !field[3].empty())
        throw ConfigError(where, "classes", "'" + std::string(field[3]) + "'", "none for the rest");
    } else {
      row.expert = static_cast<int>(whole_number(field[1], where, "expert", 0, 1 << 20));
      row.format = ExpertFormats::parse(std::string(field[2]), where, "format");
      if (has_classes) row.classes = parse_class_set(field[3], table.source_.classes, where, "classes");
    }
    row.jobs = whole_number(field[columns - 3], where, "jobs", 0, kMost);
    row.rows = whole_number(field[columns - 2], where, "rows", 0, kMost);
    row.cycles = whole_number(field[columns - 1], where, "cycles", 0, kMost);
    if (!table.cycles_.emplace(key_of(row), row.cycles).second)
      throw ConfigError(where, "row", fmt::format("layer {}, {} a second time", field[0], field[1]), "each once");
    table.rows_.push_back(row);
  }
  if (table.rows_.empty()) throw ConfigError(path, "rows", "none", "at least one");
  for (const int layer : layers)
    if (rested.count(layer) == 0)
      throw ConfigError(path, fmt::format("layer {}", layer), "no row rest", "one for every layer");
  return table;
}

std::string LatencyTable::text() const {
  const bool has_classes = source_.classes > 0;
  std::string text =
      fmt::format("{}\n# chip: {}\n# memory: {}\n# work: {}\n# engine: {}\n# group_size: {}\n# tokens: {}\n", kFirst,
                  source_.chip, source_.memory, source_.work, source_.engine, source_.group_size, source_.tokens);
  if (has_classes) text += fmt::format("{}{}\n", kClasses, source_.classes);
  text += fmt::format("{}\n", has_classes ? kClassHeader : kHeader);
  for (const LatencyRow& row : rows_)
    text += fmt::format("{},{},{},{}{},{},{}\n", row.layer,
                        row.expert == LatencyRow::kRest ? "rest" : std::to_string(row.expert), name_of(row),
                        has_classes ? class_set_name(row.classes) + "," : "", row.jobs, row.rows, row.cycles);
  return text;
}

std::int64_t LatencyTable::cycles(int layer, int expert, const ExpertFormats& format, ClassSet classes) const {
  const auto found = cycles_.find({layer, expert, format, classes});
  if (found == cycles_.end())
    throw ConfigError(path_, fmt::format("layer {}, expert {}", layer, expert),
                      "no row for " + format.name() +
                          (classes == kEveryRow ? std::string() : " of classes " + class_set_name(classes)),
                      "one for every row of the sensitivity table");
  return found->second;
}

std::int64_t LatencyTable::rest_cycles(int layer) const {
  const auto found = cycles_.find({layer, LatencyRow::kRest, ExpertFormats(), kEveryRow});
  if (found == cycles_.end())
    throw ConfigError(path_, fmt::format("layer {}", layer), "no row rest", "one for every layer");
  return found->second;
}

}  // namespace moesaic::workloads
