#include "workloads/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>
#include <stdexcept>
#include <string_view>
#include <tuple>

#include "base/error.h"

namespace moesaic::workloads {

using numerics::Format;

namespace {

constexpr std::string_view kHeader = "layer,expert,format,bits,loss,frequency,weight";
constexpr std::string_view kProjectionColumn = ",projection";
constexpr std::string_view kOtherLoss = "loss_";
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
    throw base::ConfigError(where, key, "'" + std::string(text) + "'",
                            fmt::format("a whole number from 0 to {}", std::numeric_limits<int>::max()));
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

std::string losses_text(const std::vector<LossKind>& losses) {
  std::string text;
  for (const LossKind kind : losses) text += (text.empty() ? "" : ",") + std::string(loss_name(kind));
  return text;
}

std::string record_lines(const SensitivityRecord& r) {
  return fmt::format(
      "# checkpoint: {}\n# group_size: {}\n# act_bits: {}\n# text_hash: {}\n# text_window: {}\n"
      "# text_minimum_tokens: {}\n# loss: {}\n# loss_windows: {}\n",
      r.checkpoint, r.group_size, r.act_bits, r.text_hash, r.text_window, r.text_minimum_tokens, losses_text(r.losses),
      r.loss_windows);
}

/// The lines above the header, each `# key: value`, in one order.
class TopLines {
 public:
  TopLines(std::string_view& rest, const std::string& path) : rest_(rest), path_(path) {}

  bool has_more() const { return !rest_.empty() && rest_.front() == '#'; }
  /// Number of the line that comes next.
  int line() const { return line_; }

  std::string text(const std::string& key) {
    const std::string start = "# " + key + ": ";
    const std::string_view content = take_line(rest_);
    if (content.substr(0, start.size()) != start)
      throw base::ConfigError(fmt::format("{}:{}", path_, line_), "header",
                              "'" + std::string(content.substr(0, 80)) + "'", "'" + start + "...'");
    ++line_;
    return std::string(content.substr(start.size()));
  }
  /// What the line taken last says is not what was expected.
  base::ConfigError refused(const std::string& key, const std::string& value, const std::string& expected) const {
    return base::ConfigError(fmt::format("{}:{}", path_, line_ - 1), key, "'" + value + "'", expected);
  }
  std::int64_t whole(const std::string& key, std::int64_t least, std::int64_t most) {
    const std::string value = text(key);
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < least || number > most)
      throw refused(key, value, fmt::format("a whole number from {} to {}", least, most));
    return number;
  }
  double number(const std::string& key, double least, double most) {
    const std::string value = text(key);
    double number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || !(number >= least && number <= most))
      throw refused(key, value, fmt::format("a number from {} to {}", least, most));
    return number;
  }
  std::string hash(const std::string& key) {
    std::string value = text(key);
    if (value.size() != 64 || value.find_first_not_of("0123456789abcdef") != std::string::npos)
      throw refused(key, value, "64 lower-case hexadecimal digits");
    return value;
  }

 private:
  std::string_view& rest_;
  const std::string& path_;
  int line_ = 1;
};

Quantiser read_quantiser(TopLines& lines, const std::string& path) {
  Quantiser q;
  const std::string kind = lines.text("quantiser");
  if (kind == "rtn") return q;
  if (kind != "gptq") throw lines.refused("quantiser", kind, "rtn or gptq");
  q.kind = QuantiserKind::kGptq;
  const std::string tokens = lines.text("tokens");
  if (tokens.empty()) throw lines.refused("tokens", tokens, "the path of the calibration tokens");
  q.tokens = (std::filesystem::path(path).parent_path() / tokens).string();
  q.tokens_hash = lines.hash("tokens_hash");
  q.window = lines.whole("window", 1, std::int64_t{1} << 24);
  q.damping = lines.number("damping", 1e-9, 1e9);
  q.minimum_tokens = lines.whole("minimum_tokens", 0, std::int64_t{1} << 40);
  return q;
}

std::vector<LossKind> read_losses(TopLines& lines) {
  const std::string value = lines.text("loss");
  std::vector<LossKind> losses;
  for (const std::string_view name : split(value, ',')) {
    const auto kind =
        std::find_if(kLossKinds.begin(), kLossKinds.end(), [&](LossKind k) { return name == loss_name(k); });
    if (kind == kLossKinds.end() || std::find(losses.begin(), losses.end(), *kind) != losses.end())
      throw lines.refused("loss", value, "one or more of divergence, error, fisher, each once");
    losses.push_back(*kind);
  }
  return losses;
}

SensitivityRecord read_record(TopLines& lines) {
  SensitivityRecord r;
  r.line = lines.line();
  r.checkpoint = lines.hash("checkpoint");
  r.group_size = lines.whole("group_size", 8, std::int64_t{1} << 24);
  if (r.group_size % 8 != 0) throw lines.refused("group_size", std::to_string(r.group_size), "a multiple of 8");
  r.act_bits = lines.whole("act_bits", 4, 16);
  if (r.act_bits != 4 && r.act_bits != 8 && r.act_bits != 16)
    throw lines.refused("act_bits", std::to_string(r.act_bits), "4, 8 or 16");
  r.text_hash = lines.hash("text_hash");
  r.text_window = lines.whole("text_window", 2, std::int64_t{1} << 24);
  r.text_minimum_tokens = lines.whole("text_minimum_tokens", 0, std::int64_t{1} << 40);
  r.losses = read_losses(lines);
  r.loss_windows = lines.whole("loss_windows", 1, std::int64_t{1} << 40);
  return r;
}

/// What a header says beyond the columns that every table has.
struct Columns {
  bool by_projection = false;
  std::vector<std::string> other_losses;
  std::size_t count() const { return kColumns + (by_projection ? 1 : 0) + other_losses.size(); }
};

Columns read_header(std::string_view header, const std::string& where) {
  const auto refuse = [&] {
    throw base::ConfigError(where, "header", "'" + std::string(header.substr(0, 160)) + "'",
                            std::string(kHeader) + "[,projection][,loss_NAME...], each once");
  };
  Columns columns;
  std::string_view rest = header;
  if (rest.substr(0, kHeader.size()) != kHeader) refuse();
  rest.remove_prefix(kHeader.size());
  columns.by_projection = rest.substr(0, kProjectionColumn.size()) == kProjectionColumn;
  if (columns.by_projection) rest.remove_prefix(kProjectionColumn.size());
  if (rest.empty()) return columns;
  if (rest.front() != ',') refuse();
  for (const std::string_view name : split(rest.substr(1), ',')) {
    if (name.size() <= kOtherLoss.size() || name.substr(0, kOtherLoss.size()) != kOtherLoss ||
        name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string_view::npos ||
        std::find(columns.other_losses.begin(), columns.other_losses.end(), name) != columns.other_losses.end())
      refuse();
    columns.other_losses.emplace_back(name);
  }
  return columns;
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

const char* loss_name(LossKind kind) {
  switch (kind) {
    case LossKind::kDivergence:
      return "divergence";
    case LossKind::kError:
      return "error";
    case LossKind::kFisher:
      return "fisher";
  }
  return "";
}

std::vector<std::string> other_loss_columns(const std::vector<LossKind>& kinds) {
  std::vector<std::string> columns;
  for (std::size_t i = 1; i < kinds.size(); ++i) columns.push_back(std::string(kOtherLoss) + loss_name(kinds[i]));
  return columns;
}

std::string SensitivityRecord::where(const std::string& path, const std::string& key) const {
  const auto at = std::find(kKeys.begin(), kKeys.end(), key) - kKeys.begin();
  return fmt::format("{}:{}", path, line + at);
}

SensitivityTable parse_sensitivity(const std::string& text, const std::string& path) {
  SensitivityTable table;
  std::vector<SensitivityRow>& rows = table.rows;
  std::set<std::tuple<int, int, Format, Projection>> seen;
  std::string_view rest = text;
  TopLines top(rest, path);
  if (top.has_more()) table.quantiser = read_quantiser(top, path);
  if (top.has_more()) table.record = read_record(top);
  Columns columns;
  const int header = top.line();
  for (int line = header; !rest.empty(); ++line) {
    const std::string_view content = take_line(rest);
    const std::string where = fmt::format("{}:{}", path, line);
    if (line == header) {
      columns = read_header(content, where);
      if (table.record && other_loss_columns(table.record->losses) != columns.other_losses)
        throw base::ConfigError(where, "header", "'" + std::string(content) + "'",
                                fmt::format("the columns of losses that line {} names",
                                            table.record->where(path, "loss").substr(path.size() + 1)));
      table.other_losses = columns.other_losses;
      continue;
    }
    if (content.empty() && rest.empty()) break;
    const std::vector<std::string_view> field = split(content, ',');
    if (field.size() != columns.count())
      throw base::ConfigError(where, "row", fmt::format("{} fields", field.size()), fmt::format("{}", columns.count()));
    SensitivityRow row;
    row.layer = whole_number(field[0], where, "layer");
    row.expert = whole_number(field[1], where, "expert");
    if (field[3].empty()) throw base::ConfigError(where, "bits", "''", "a whole number of at least 0");
    row.format = Format::from_metadata(std::string(field[2]), std::string(field[3]), where);
    row.loss = real_number(field[4], where, kLossColumn);
    row.frequency = real_number(field[5], where, "frequency");
    row.weight = real_number(field[6], where, "weight");
    if (columns.by_projection) row.projection = parse_projection(field[kColumns], where);
    for (std::size_t i = 0; i < columns.other_losses.size(); ++i)
      row.other_losses.push_back(
          real_number(field[columns.count() - columns.other_losses.size() + i], where, columns.other_losses[i]));
    if (!seen.emplace(row.layer, row.expert, row.format, row.projection).second)
      throw base::ConfigError(where, "row",
                              fmt::format("layer {}, expert {}, {}{}{} a second time", row.layer, row.expert,
                                          columns.by_projection ? projection_name(row.projection) : "",
                                          columns.by_projection ? " in " : "", row.format.name()),
                              "each once");
    rows.push_back(row);
  }
  if (rows.empty()) throw base::ConfigError(path, "rows", "none", "at least one");
  return table;
}

std::string format_sensitivity(const SensitivityTable& table, const std::string& path) {
  const bool by_projection = std::any_of(table.rows.begin(), table.rows.end(),
                                         [](const SensitivityRow& r) { return r.projection != Projection::kAll; });
  if (table.record && !table.quantiser) throw std::logic_error("a record of what was measured without its quantiser");
  std::string text = table.quantiser ? quantiser_lines(*table.quantiser, path) : std::string();
  if (table.record) text += record_lines(*table.record);
  text += kHeader;
  if (by_projection) text += kProjectionColumn;
  for (const std::string& column : table.other_losses) text += "," + column;
  text += '\n';
  for (const SensitivityRow& r : table.rows) {
    if (r.other_losses.size() != table.other_losses.size()) throw std::logic_error("a row with losses of no column");
    text += fmt::format("{},{},{},{},{},{},{}", r.layer, r.expert, r.format.kind_name(), r.format.bits(), r.loss,
                        r.frequency, r.weight);
    if (by_projection) text += fmt::format(",{}", projection_name(r.projection));
    for (const double loss : r.other_losses) text += fmt::format(",{}", loss);
    text += '\n';
  }
  return text;
}

std::string format_sensitivity(const std::vector<SensitivityRow>& rows) {
  SensitivityTable table;
  table.rows = rows;
  return format_sensitivity(table);
}

void use_loss_column(SensitivityTable& table, const std::string& column, const std::string& path,
                     const std::string& where, const std::string& key) {
  if (column == kLossColumn) return;
  const auto found = std::find(table.other_losses.begin(), table.other_losses.end(), column);
  if (found == table.other_losses.end())
    throw base::ConfigError(where, key, "'" + column + "'",
                            fmt::format("a column of losses of {}: {}{}{}", path, kLossColumn,
                                        table.other_losses.empty() ? "" : ", ", fmt::join(table.other_losses, ", ")));
  const auto at = static_cast<std::size_t>(found - table.other_losses.begin());
  for (SensitivityRow& row : table.rows) row.loss = row.other_losses[at];
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
