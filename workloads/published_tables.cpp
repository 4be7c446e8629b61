#include "workloads/published_tables.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace moesaic::workloads {

using base::ConfigError;
using numerics::Format;

namespace {

double number(std::string_view text, const std::string& where, const std::string& key) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || value < 0)
    throw ConfigError(where, key, "'" + std::string(text) + "'", "a finite number of at least 0");
  return value;
}

/// Of what HAWQ-V3's tables count: times 64, for two operands of 8 bits, it stays a whole number in a double.
constexpr double kMostCount = 0x1p47;

/// Of parameters and bops: HAWQ-V3 counts ResNet18's, and states ResNet50's in millions with six decimals.
double unit_of(const std::vector<double>& values, const std::string& path, const std::string& key) {
  const bool in_millions = values.front() != std::floor(values.front());
  for (const double v : values) {
    if ((v != std::floor(v)) != in_millions)
      throw ConfigError(path, key, fmt::format("{} beside {}", v, values.front()),
                        "whole numbers, or millions that all have decimals");
  }
  return in_millions ? 1e6 : 1;
}

}  // namespace

std::vector<SensitivityRow> import_mc_moe(const std::string& text, const std::string& path) {
  constexpr std::string_view kHeader = "layer,expert,act_tokens,routing_weight_sum,qloss_1bit,qloss_2bit,qloss_3bit";
  const std::vector<std::string> columns = {"layer",      "expert",     "act_tokens", "routing_weight_sum",
                                            "qloss_1bit", "qloss_2bit", "qloss_3bit"};
  std::vector<std::vector<double>> table;
  std::map<int, double> tokens;  // of a layer
  std::set<std::pair<int, int>> seen;
  std::string_view rest = text;
  for (int line = 1; !rest.empty(); ++line) {
    const std::size_t end = rest.find('\n');
    std::string_view content = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (!content.empty() && content.back() == '\r') content.remove_suffix(1);
    const std::string where = fmt::format("{}:{}", path, line);
    if (line == 1) {
      if (content != kHeader)
        throw ConfigError(where, "header", "'" + std::string(content.substr(0, 80)) + "'", std::string(kHeader));
      continue;
    }
    if (content.empty() && rest.empty()) break;
    std::vector<double> values;
    for (std::string_view fields = content;;) {
      const std::size_t comma = fields.find(',');
      if (values.size() == columns.size()) throw ConfigError(where, "row", "more fields", "7 fields");
      values.push_back(number(fields.substr(0, comma), where, columns[values.size()]));
      if (comma == std::string_view::npos) break;
      fields.remove_prefix(comma + 1);
    }
    if (values.size() != columns.size())
      throw ConfigError(where, "row", fmt::format("{} fields", values.size()), "7 fields");
    for (std::size_t c = 0; c < 2; ++c)
      if (values[c] != std::floor(values[c]) || values[c] > 1 << 20)
        throw ConfigError(where, columns[c], fmt::format("{}", values[c]), "a whole number up to 1048576");
    const std::pair<int, int> expert{static_cast<int>(values[0]), static_cast<int>(values[1])};
    if (!seen.insert(expert).second)
      throw ConfigError(where, "row", fmt::format("layer {}, expert {} a second time", expert.first, expert.second),
                        "each once");
    tokens[expert.first] += values[2] / 2;
    table.push_back(values);
  }
  if (table.empty()) throw ConfigError(path, "rows", "none", "at least one");
  std::vector<SensitivityRow> rows;
  for (const auto& v : table) {
    const auto layer = static_cast<int>(v[0]);
    const double all = tokens[layer];
    if (!(all > 0)) throw ConfigError(path, fmt::format("layer {}", layer), "no tokens", "act_tokens above 0");
    const Format formats[] = {Format::binary(), Format::integer(2), Format::integer(3)};
    for (std::size_t f = 0; f < 3; ++f)
      rows.push_back({layer, static_cast<int>(v[1]), formats[f], v[4 + f], v[2] / all, v[3] / all});
  }
  return rows;
}

HawqTables import_hawq_v3(const std::string& text, const std::string& path, const std::string& network) {
  nlohmann::json all;
  try {
    all = nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception&) {
    throw ConfigError(path, "document", "text that is no JSON", "HAWQ-V3's tables");
  }
  std::string names;
  if (all.is_object())
    for (const auto& [name, value] : all.items())
      if (value.is_object()) names += (names.empty() ? "" : ", ") + name;
  if (names.empty()) throw ConfigError(path, "document", "no network", "an object of arrays for each network");
  if (!all.contains(network) || !all[network].is_object())
    throw ConfigError(path, "--network", "'" + network + "'", "one of " + names);
  std::map<std::string, std::vector<double>> arrays;
  std::size_t layers = 0;
  for (const char* key : {"Hutchinson_trace", "delta_weights_8bit_square", "delta_weights_4bit_square", "parameters",
                          "bops", "latency_int4", "latency_int8"}) {
    const auto found = all[network].find(key);
    if (found == all[network].end() || !found->is_array() || found->empty())
      throw ConfigError(path, network + "." + key, "no array", "one number a layer");
    for (const auto& value : *found) {
      if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() < 0)
        throw ConfigError(path, network + "." + key, value.dump(), "finite numbers of at least 0");
      arrays[key].push_back(value.get<double>());
    }
    if (layers == 0) layers = arrays[key].size();
    if (arrays[key].size() != layers)
      throw ConfigError(path, network + "." + key, fmt::format("{} numbers", arrays[key].size()),
                        fmt::format("{}, as many as layers", layers));
  }
  const auto counts = [&](const char* key, double unit) {
    std::vector<std::int64_t> whole;
    for (const double v : arrays[key]) {
      if (std::round(v * unit) / unit != v)
        throw ConfigError(path, network + "." + key, fmt::format("{}", v),
                          fmt::format("at most {} decimals", std::lround(std::log10(unit))));
      if (v * unit > kMostCount)
        throw ConfigError(path, network + "." + key, fmt::format("{}", v),
                          fmt::format("at most {}", kMostCount / unit));
      whole.push_back(std::llround(v * unit));
    }
    return whole;
  };
  const auto size = counts("parameters", unit_of(arrays["parameters"], path, network + ".parameters"));
  const auto bops = counts("bops", unit_of(arrays["bops"], path, network + ".bops"));
  const auto latency4 = counts("latency_int4", 1e8), latency8 = counts("latency_int8", 1e8);
  HawqTables tables;
  tables.costs = "layer,expert,format,cycles,size,bops\n";
  for (std::size_t l = 0; l < layers; ++l)
    for (const int bits : {4, 8}) {
      const std::string b = std::to_string(bits);
      const auto layer = static_cast<int>(l);
      tables.rows.push_back({layer, 0, Format::integer(bits),
                             arrays["Hutchinson_trace"][l] * arrays["delta_weights_" + b + "bit_square"][l], 1, 1});
      tables.costs += fmt::format("{},0,int{},{},{},{}\n", layer, bits, (bits == 4 ? latency4 : latency8)[l],
                                  (size[l] * bits + 7) / 8, bops[l] * bits * bits);
    }
  return tables;
}

}  // namespace moesaic::workloads
