#include "workloads/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <set>
#include <string_view>
#include <tuple>

#include "base/error.h"

namespace moesaic::workloads {

using numerics::Format;

namespace {

constexpr std::string_view kHeader = "layer,expert,format,bits,loss,frequency,weight";
constexpr std::string_view kProjectionHeader = "layer,expert,format,bits,loss,frequency,weight,projection";
constexpr std::size_t kColumns = 7;

Projection parse_projection(std::string_view name, const std::string& where) {
  for (const Projection p : {Projection::kGate, Projection::kUp, Projection::kDown})
    if (name == projection_name(p)) return p;
  throw base::ConfigError(where, "projection", "'" + std::string(name) + "'", "gate, up or down");
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

int whole_number(std::string_view text, const std::string& where, const std::string& key) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    throw base::ConfigError(where, key, "'" + std::string(text) + "'", "a whole number of at least 0");
  return value;
}

double real_number(std::string_view text, const std::string& where, const std::string& key) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || value < 0)
    throw base::ConfigError(where, key, "'" + std::string(text) + "'", "a finite number of at least 0");
  return value + 0.0;  // "-0" is 0
}

/// The next line, without its end.
std::string_view take_line(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

std::string quantiser_lines(const Quantiser& q, const std::string& path) {
  if (q.kind == QuantiserKind::kRoundToNearest) return "# quantiser: rtn\n";
  return fmt::format(
      "# quantiser: gptq\n# tokens: {}\n# tokens_hash: {}\n# window: {}\n# damping: {}\n# minimum_tokens: {}\n",
      tokens_seen_from(q, path), q.tokens_hash, q.window, q.damping, q.minimum_tokens);
}

/// Takes the lines at the top that say the quantiser off `rest`; the number of the line after them.
int parse_quantiser_lines(std::string_view& rest, const std::string& path, std::optional<Quantiser>& quantiser) {
  int line = 1;
  if (rest.empty() || rest.front() != '#') return line;
  const auto value_of = [&](const std::string& key) {
    const std::string start = "# " + key + ": ";
    const std::string_view content = take_line(rest);
    if (content.substr(0, start.size()) != start)
      throw base::ConfigError(fmt::format("{}:{}", path, line), "header",
                              "'" + std::string(content.substr(0, 80)) + "'", "'" + start + "...'");
    ++line;
    return content.substr(start.size());
  };
  const auto refused = [&](const std::string& key, std::string_view value, const std::string& expected) {
    return base::ConfigError(fmt::format("{}:{}", path, line - 1), key, "'" + std::string(value) + "'", expected);
  };
  const auto whole = [&](const std::string& key, std::int64_t least, std::int64_t most) {
    const std::string_view value = value_of(key);
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < least || number > most)
      throw refused(key, value, fmt::format("a whole number from {} to {}", least, most));
    return number;
  };
  const std::string_view kind = value_of("quantiser");
  Quantiser& q = quantiser.emplace();
  if (kind == "rtn") return line;
  if (kind != "gptq") throw refused("quantiser", kind, "rtn or gptq");
  q.kind = QuantiserKind::kGptq;
  const std::string_view tokens = value_of("tokens");
  if (tokens.empty()) throw refused("tokens", tokens, "the path of the calibration tokens");
  q.tokens = (std::filesystem::path(path).parent_path() / tokens).string();
  q.tokens_hash = value_of("tokens_hash");
  if (q.tokens_hash.size() != 64 || q.tokens_hash.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw refused("tokens_hash", q.tokens_hash, "64 lower-case hexadecimal digits");
  q.window = whole("window", 1, std::int64_t{1} << 24);
  const std::string_view damping = value_of("damping");
  const auto [end, error] = std::from_chars(damping.data(), damping.data() + damping.size(), q.damping);
  if (error != std::errc() || end != damping.data() + damping.size() || !(q.damping >= 1e-9 && q.damping <= 1e9))
    throw refused("damping", damping, "a number from 1e-9 to 1e9");
  q.minimum_tokens = whole("minimum_tokens", 0, std::int64_t{1} << 40);
  return line;
}

}  // namespace

const char* projection_name(Projection projection) {
  switch (projection) {
    case Projection::kAll:
      return "all";
    case Projection::kGate:
      return "gate";
    case Projection::kUp:
      return "up";
    case Projection::kDown:
      return "down";
  }
  return "";
}

SensitivityTable parse_sensitivity(const std::string& text, const std::string& path) {
  SensitivityTable table;
  std::vector<SensitivityRow>& rows = table.rows;
  std::set<std::tuple<int, int, Format, Projection>> seen;
  bool by_projection = false;
  std::string_view rest = text;
  const int header = parse_quantiser_lines(rest, path, table.quantiser);
  for (int line = header; !rest.empty(); ++line) {
    const std::string_view content = take_line(rest);
    const std::string where = fmt::format("{}:{}", path, line);
    if (line == header) {
      by_projection = content == kProjectionHeader;
      if (content != kHeader && !by_projection)
        throw base::ConfigError(where, "header", "'" + std::string(content.substr(0, 80)) + "'",
                                std::string(kHeader) + "[,projection]");
      continue;
    }
    if (content.empty() && rest.empty()) break;
    const std::vector<std::string_view> field = split(content, ',');
    const std::size_t columns = by_projection ? kColumns + 1 : kColumns;
    if (field.size() != columns)
      throw base::ConfigError(where, "row", fmt::format("{} fields", field.size()), fmt::format("{}", columns));
    SensitivityRow row;
    row.layer = whole_number(field[0], where, "layer");
    row.expert = whole_number(field[1], where, "expert");
    if (field[3].empty()) throw base::ConfigError(where, "bits", "''", "a whole number of at least 0");
    row.format = Format::from_metadata(std::string(field[2]), std::string(field[3]), where);
    row.loss = real_number(field[4], where, "loss");
    row.frequency = real_number(field[5], where, "frequency");
    row.weight = real_number(field[6], where, "weight");
    if (by_projection) row.projection = parse_projection(field[kColumns], where);
    if (!seen.emplace(row.layer, row.expert, row.format, row.projection).second)
      throw base::ConfigError(where, "row",
                              fmt::format("layer {}, expert {}, {}{}{} a second time", row.layer, row.expert,
                                          by_projection ? projection_name(row.projection) : "",
                                          by_projection ? " in " : "", row.format.name()),
                              "each once");
    rows.push_back(row);
  }
  if (rows.empty()) throw base::ConfigError(path, "rows", "none", "at least one");
  return table;
}

std::string format_sensitivity(const std::vector<SensitivityRow>& rows, const std::optional<Quantiser>& quantiser,
                               const std::string& path) {
  const bool by_projection =
      std::any_of(rows.begin(), rows.end(), [](const SensitivityRow& r) { return r.projection != Projection::kAll; });
  std::string text = quantiser ? quantiser_lines(*quantiser, path) : std::string();
  text += by_projection ? kProjectionHeader : kHeader;
  text += '\n';
  for (const SensitivityRow& r : rows) {
    text += fmt::format("{},{},{},{},{},{},{}", r.layer, r.expert, r.format.kind_name(), r.format.bits(), r.loss,
                        r.frequency, r.weight);
    if (by_projection) text += fmt::format(",{}", projection_name(r.projection));
    text += '\n';
  }
  return text;
}

std::vector<Format> parse_formats(const std::string& text, const std::string& where, const std::string& key) {
  std::vector<Format> formats;
  const auto add = [&](Format f) {
    if (std::find(formats.begin(), formats.end(), f) != formats.end())
      throw base::ConfigError(where, key, f.name() + " twice", "each format once");
    formats.push_back(f);
  };
  for (const std::string_view part : split(text, ',')) {
    const std::size_t dots = part.find("..");
    if (dots != std::string_view::npos) {
      const Format first = Format::parse(std::string(part.substr(0, dots)), where, key);
      const Format last = Format::parse(std::string(part.substr(dots + 2)), where, key);
      const bool is_mwq = first.kind() == numerics::FormatKind::kMwq;
      const bool one_copy = first.base_planes() == last.base_planes() && first.stored_levels() == last.stored_levels();
      if (!first.has_zero_point() || first.kind() != last.kind() || first.bits() > last.bits() || (is_mwq && !one_copy))
        throw base::ConfigError(where, key, "'" + std::string(part) + "'",
                                "a range of widths of one format, the smaller first (int1..int8, mwq2+0of3..mwq2+3)");
      for (int b = first.bits(); b <= last.bits(); ++b)
        add(is_mwq ? Format::mwq(first.base_planes(), first.stored_levels(), b - first.base_planes())
            : first.kind() == numerics::FormatKind::kInt ? Format::integer(b)
                                                         : Format::nested(b));
    } else if (part == "int" || part == "nested") {
      for (int b = 1; b <= 8; ++b) add(part == "int" ? Format::integer(b) : Format::nested(b));
    } else {
      add(Format::parse(std::string(part), where, key));
    }
  }
  return formats;
}

std::vector<numerics::ExpertFormats> parse_expert_formats(const std::string& text, const std::string& where,
                                                          const std::string& key) {
  std::vector<numerics::ExpertFormats> formats;
  const auto add = [&](const numerics::ExpertFormats& f) {
    if (std::find(formats.begin(), formats.end(), f) != formats.end())
      throw base::ConfigError(where, key, f.name() + " twice", "each format once");
    formats.push_back(f);
  };
  for (const std::string_view part : split(text, ',')) {
    if (part.find('/') != std::string_view::npos)
      add(numerics::ExpertFormats::parse(std::string(part), where, key));
    else
      for (const Format f : parse_formats(std::string(part), where, key)) add(f);
  }
  return formats;
}

}  // namespace moesaic::workloads
