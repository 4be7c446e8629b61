#include "workloads/cost_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/error.h"

namespace moesaic::workloads {

using base::ConfigError;
using numerics::ExpertFormats;

namespace {

constexpr std::string_view kHeader = "layer,expert,format,cycles";
constexpr std::size_t kKeys = 3;

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = text.find(',');
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::int64_t whole_number(std::string_view text, const std::string& where, const std::string& key,
                          std::int64_t greatest) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > greatest)
    throw ConfigError(where, key, "'" + std::string(text) + "'", fmt::format("a whole number from 0 to {}", greatest));
  return value;
}

}  // namespace

CostTable CostTable::parse(const std::string& text, const std::string& path) {
  CostTable table;
  table.path_ = path;
  std::string_view rest = text;
  for (int line = 1; !rest.empty(); ++line) {
    const std::size_t end = rest.find('\n');
    std::string_view content = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (!content.empty() && content.back() == '\r') content.remove_suffix(1);
    const std::string where = fmt::format("{}:{}", path, line);
    const std::vector<std::string_view> field = split(content);
    if (line == 1) {
      const bool known = content.substr(0, kHeader.size()) == kHeader &&
                         (content.size() == kHeader.size() || content[kHeader.size()] == ',');
      if (!known)
        throw ConfigError(
            where, "header", "'" + std::string(content.substr(0, 80)) + "'",
            std::string(kHeader) + ", and further columns" +
                (content.rfind("# moesaic profile", 0) == 0 ? "; map reads a latency table by --profile" : ""));
      for (std::size_t c = kKeys; c < field.size(); ++c) {
        const std::string name(field[c]);
        const bool good =
            !name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos;
        if (!good || table.has(name))
          throw ConfigError(where, "header", "column '" + name + "'",
                            "names of lower-case letters, digits and underscores, each once");
        table.columns_.push_back(name);
      }
      continue;
    }
    if (content.empty() && rest.empty()) break;
    if (field.size() != kKeys + table.columns_.size())
      throw ConfigError(where, "row", fmt::format("{} fields", field.size()),
                        fmt::format("{}", kKeys + table.columns_.size()));
    const auto layer = static_cast<int>(whole_number(field[0], where, "layer", 1 << 20));
    const auto expert = static_cast<int>(whole_number(field[1], where, "expert", 1 << 20));
    const ExpertFormats format = ExpertFormats::parse(std::string(field[2]), where, "format");
    std::vector<std::int64_t> values;
    for (std::size_t c = 0; c < table.columns_.size(); ++c)
      values.push_back(whole_number(field[kKeys + c], where, table.columns_[c], std::int64_t{1} << 50));
    if (!table.rows_.emplace(std::make_tuple(layer, expert, format.name()), values).second)
      throw ConfigError(where, "row",
                        fmt::format("layer {}, expert {}, {} a second time", layer, expert, format.name()),
                        "each once");
  }
  if (table.rows_.empty()) throw ConfigError(path, "rows", "none", "at least one");
  return table;
}

bool CostTable::has(const std::string& column) const {
  return std::find(columns_.begin(), columns_.end(), column) != columns_.end();
}

std::int64_t CostTable::at(const std::string& column, int layer, int expert, const ExpertFormats& format) const {
  const auto found = rows_.find({layer, expert, format.name()});
  const auto at = std::find(columns_.begin(), columns_.end(), column);
  if (at == columns_.end()) throw ConfigError(path_, "header", "no column " + column, "one: a budget needs it");
  if (found == rows_.end())
    throw ConfigError(path_, fmt::format("layer {}, expert {}", layer, expert), "no row for " + format.name(),
                      "one for every row of the sensitivity table");
  return found->second[static_cast<std::size_t>(at - columns_.begin())];
}

}  // namespace moesaic::workloads
