#include "workloads/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"

namespace moesaic::workloads {
namespace {

constexpr const char* kColumns = "request,step,phase,position,layer,experts,weights";
constexpr std::uint64_t kLargestExact = (1ULL << 53) - 1;  // what a JSON reader can hold anywhere
constexpr std::uint64_t kMostLevels = 255;

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() > end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool is_jsonl(const std::string& path) {
  const std::string name = uncompressed_name(path);
  if (ends_with(name, ".jsonl")) return true;
  if (ends_with(name, ".csv")) return false;
  throw base::ConfigError(path, "trace", "this file name",
                          "a name ending in .csv or .jsonl, then optionally .gz or .zst");
}

std::string shown(std::string_view text) {
  constexpr std::size_t kLongest = 60;
  std::string out = "'";
  for (const char c : text.substr(0, kLongest)) {
    if (c == '\r')
      out += "\\r";
    else if (static_cast<unsigned char>(c) < 0x20)
      out += "\\x" + fmt::format("{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  return out + (text.size() > kLongest ? "...'" : "'");
}

std::uint64_t parse_index(std::string_view text, const std::string& where, const char* key, std::uint64_t largest) {
  std::uint64_t value = 0;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != end || value > largest)
    throw base::ConfigError(where, key, shown(text), fmt::format("an integer from 0 to {}", largest));
  return value;
}

double parse_number(std::string_view text, const std::string& where, const char* key) {
  double value = 0;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(value) || value < 0)
    throw base::ConfigError(where, key, shown(text), "a finite number, at least 0");
  return value;
}

Phase parse_phase(std::string_view text, const std::string& where) {
  if (text == "prefill") return Phase::kPrefill;
  if (text == "decode") return Phase::kDecode;
  throw base::ConfigError(where, "phase", shown(text), "prefill or decode");
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

std::uint64_t json_index(const nlohmann::json& value, const std::string& where, const char* key,
                         std::uint64_t largest) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > largest)
    throw base::ConfigError(where, key, value.dump(), fmt::format("an integer from 0 to {}", largest));
  return value.get<std::uint64_t>();
}

double json_number(const nlohmann::json& value, const std::string& where, const char* key) {
  const double number = value.is_number() ? value.get<double>() : -1.0;
  if (!std::isfinite(number) || number < 0)
    throw base::ConfigError(where, key, value.dump(), "a finite number, at least 0");
  return number;
}

const nlohmann::json& json_list(const nlohmann::json& value, const std::string& where, const char* key) {
  if (!value.is_array()) throw base::ConfigError(where, key, value.dump(), "an array");
  return value;
}

template <class T>
void append_list(std::string& line, const std::vector<T>& values, char separator) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) line += separator;
    fmt::format_to(std::back_inserter(line), "{}", values[i]);
  }
}

}  // namespace

const char* phase_name(Phase phase) { return phase == Phase::kPrefill ? "prefill" : "decode"; }

TraceReader::TraceReader(const std::string& path, const Network* network) : lines_((is_jsonl(path), path)) {
  if (network != nullptr) network_ = *network;
  jsonl_ = is_jsonl(path);
  if (jsonl_) return;
  std::string header;
  const std::string columns = kColumns;
  if (!lines_.next(header)) throw base::ConfigError(path + ":1", "header", "an empty file", columns);
  if (header == columns + ",arrival_us" || header == columns + ",arrival_us,levels") has_arrival_ = true;
  if (header == columns + ",levels" || header == columns + ",arrival_us,levels") has_levels_ = true;
  if (header != columns && !has_arrival_ && !has_levels_)
    throw base::ConfigError(lines_.where(), "header", shown(header), columns + "[,arrival_us][,levels]");
}

bool TraceReader::next(TraceRow& row) {
  std::string line;
  if (!lines_.next(line)) return false;
  if (jsonl_)
    parse_jsonl(line, row);
  else
    parse_csv(line, row);
  check(row);
  first_row_ = false;
  return true;
}

void TraceReader::parse_csv(const std::string& line, TraceRow& row) const {
  const std::string at = where();
  const std::vector<std::string_view> cells = split(line, ',');
  const std::size_t wanted = 7 + (has_arrival_ ? 1U : 0U) + (has_levels_ ? 1U : 0U);
  if (cells.size() != wanted)
    throw base::ConfigError(at, "row", fmt::format("{} columns", cells.size()),
                            fmt::format("{}, as the header says", wanted));
  row.request = parse_index(cells[0], at, "request", kLargestExact);
  row.step = parse_index(cells[1], at, "step", kLargestExact);
  row.phase = parse_phase(cells[2], at);
  row.position = parse_index(cells[3], at, "position", kLargestExact);
  row.layer = static_cast<std::uint32_t>(parse_index(cells[4], at, "layer", UINT32_MAX));
  row.experts.clear();
  for (const std::string_view part : split(cells[5], ';'))
    row.experts.push_back(static_cast<std::uint32_t>(parse_index(part, at, "experts", UINT32_MAX)));
  row.weights.clear();
  for (const std::string_view part : split(cells[6], ';')) row.weights.push_back(parse_number(part, at, "weights"));
  row.arrival_us.reset();
  if (has_arrival_) row.arrival_us = parse_number(cells[7], at, "arrival_us");
  row.levels.clear();
  if (has_levels_)
    for (const std::string_view part : split(cells.back(), ';'))
      row.levels.push_back(static_cast<std::uint32_t>(parse_index(part, at, "levels", kMostLevels)));
}

void TraceReader::parse_jsonl(const std::string& line, TraceRow& row) {
  const std::string at = where();
  nlohmann::json object;
  // nlohmann keeps the last of two equal keys; here the second is an error.
  std::vector<std::string> keys;
  try {
    object = nlohmann::json::parse(line, [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
      if (depth == 1 && event == nlohmann::json::parse_event_t::key) keys.push_back(value.get<std::string>());
      return true;
    });
  } catch (const nlohmann::json::exception& error) {
    throw base::ConfigError(at, "row", "no JSON (" + std::string(error.what()) + ")", "one JSON object");
  }
  if (!object.is_object()) throw base::ConfigError(at, "row", shown(line), "one JSON object");
  std::sort(keys.begin(), keys.end());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i > 0 && keys[i] == keys[i - 1]) throw base::ConfigError(at, keys[i], "the key twice", "once");
    static const std::vector<std::string> known = {"request", "step",    "phase",      "position", "layer",
                                                   "experts", "weights", "arrival_us", "levels"};
    if (std::find(known.begin(), known.end(), keys[i]) == known.end())
      throw base::ConfigError(at, keys[i], "an unknown key", std::string("one of ") + kColumns + ",arrival_us,levels");
  }
  const auto value = [&](const char* key) -> const nlohmann::json& {
    const auto found = object.find(key);
    if (found == object.end()) throw base::ConfigError(at, key, "nothing", "a value");
    return *found;
  };
  row.request = json_index(value("request"), at, "request", kLargestExact);
  row.step = json_index(value("step"), at, "step", kLargestExact);
  if (!value("phase").is_string()) throw base::ConfigError(at, "phase", value("phase").dump(), "prefill or decode");
  row.phase = parse_phase(value("phase").get<std::string>(), at);
  row.position = json_index(value("position"), at, "position", kLargestExact);
  row.layer = static_cast<std::uint32_t>(json_index(value("layer"), at, "layer", UINT32_MAX));
  row.experts.clear();
  for (const nlohmann::json& part : json_list(value("experts"), at, "experts"))
    row.experts.push_back(static_cast<std::uint32_t>(json_index(part, at, "experts", UINT32_MAX)));
  row.weights.clear();
  for (const nlohmann::json& part : json_list(value("weights"), at, "weights"))
    row.weights.push_back(json_number(part, at, "weights"));
  const bool arrival = object.contains("arrival_us");
  const bool levels = object.contains("levels");
  if (first_row_) {
    has_arrival_ = arrival;
    has_levels_ = levels;
  }
  if (arrival != has_arrival_)
    throw base::ConfigError(at, "arrival_us", arrival ? "a value" : "nothing", "as in the first row");
  if (levels != has_levels_)
    throw base::ConfigError(at, "levels", levels ? "a value" : "nothing", "as in the first row");
  row.arrival_us.reset();
  if (arrival) row.arrival_us = json_number(object["arrival_us"], at, "arrival_us");
  row.levels.clear();
  if (levels)
    for (const nlohmann::json& part : json_list(object["levels"], at, "levels"))
      row.levels.push_back(static_cast<std::uint32_t>(json_index(part, at, "levels", kMostLevels)));
}

void TraceReader::check(const TraceRow& row) const {
  const std::size_t count = row.experts.size();
  if (count == 0) throw base::ConfigError(where(), "experts", "none", "at least one");
  if (row.weights.size() != count)
    throw base::ConfigError(where(), "weights", std::to_string(row.weights.size()),
                            fmt::format("{}, one per expert", count));
  if (has_levels_ && row.levels.size() != count)
    throw base::ConfigError(where(), "levels", std::to_string(row.levels.size()),
                            fmt::format("{}, one per expert", count));
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (row.experts[i] == row.experts[j])
        throw base::ConfigError(where(), "experts", fmt::format("expert {} twice", row.experts[i]), "distinct experts");
  if (!network_) return;
  const Network& n = *network_;
  if (row.layer >= n.layers)
    throw base::ConfigError(where(), "layer", std::to_string(row.layer),
                            fmt::format("less than {}, the layers of {}", n.layers, n.name));
  if (!n.has_experts[row.layer])
    throw base::ConfigError(where(), "layer", fmt::format("{}, a layer without experts", row.layer),
                            "a layer with experts of " + n.name);
  for (const std::uint32_t expert : row.experts)
    if (expert >= n.experts)
      throw base::ConfigError(where(), "experts", std::to_string(expert),
                              fmt::format("less than {}, the experts of {}", n.experts, n.name));
  if (static_cast<std::int64_t>(count) != n.top_k)
    throw base::ConfigError(where(), "experts", fmt::format("{} experts", count),
                            fmt::format("{}, the top_k of {}", n.top_k, n.name));
}

TraceWriter::TraceWriter(const std::string& path, bool has_arrival, bool has_levels)
    : writer_((is_jsonl(path), path)), jsonl_(is_jsonl(path)), has_arrival_(has_arrival), has_levels_(has_levels) {
  if (jsonl_) return;
  writer_.write(kColumns);
  if (has_arrival_) writer_.write(",arrival_us");
  if (has_levels_) writer_.write(",levels");
  writer_.write("\n");
}

void TraceWriter::write(const TraceRow& row) {
  line_.clear();
  auto out = std::back_inserter(line_);
  const char separator = jsonl_ ? ',' : ';';
  if (jsonl_)
    fmt::format_to(out, R"({{"request":{},"step":{},"phase":"{}","position":{},"layer":{},"experts":[)", row.request,
                   row.step, phase_name(row.phase), row.position, row.layer);
  else
    fmt::format_to(out, "{},{},{},{},{},", row.request, row.step, phase_name(row.phase), row.position, row.layer);
  append_list(line_, row.experts, separator);
  line_ += jsonl_ ? R"(],"weights":[)" : ",";
  append_list(line_, row.weights, separator);
  if (jsonl_) line_ += "]";
  if (has_arrival_) fmt::format_to(out, jsonl_ ? R"(,"arrival_us":{})" : ",{}", row.arrival_us.value());
  if (has_levels_) {
    line_ += jsonl_ ? R"(,"levels":[)" : ",";
    append_list(line_, row.levels, separator);
    if (jsonl_) line_ += "]";
  }
  line_ += jsonl_ ? "}\n" : "\n";
  writer_.write(line_);
}

}  // namespace moesaic::workloads
