#include "cli/class_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "base/error.h"

namespace moesaic::cli {

namespace {

constexpr double kShareSlack = 1e-6;  // as in a plan: shares of a few decimals need not add up to 1 exactly

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text)
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

std::vector<double> numbers(const std::string& text, double most, const std::string& where, const std::string& key,
                            const std::string& expected) {
  std::vector<double> values;
  for (const std::string& part : split(text, ',')) {
    double value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc() || end != part.data() + part.size() || !(value >= 0 && value <= most))
      throw base::ConfigError(where, key, "'" + text + "'", expected);
    values.push_back(value);
  }
  return values;
}

}  // namespace

mapping::Classes parse_classes(const ClassOptions& options, const std::string& where) {
  mapping::Classes classes;
  classes.rising = options.order != kAnyOrder;
  if (options.shares.empty()) {
    for (const auto& [key, value] : {std::pair("--class-weights", options.weights), {"--class-order", options.order}})
      if (!value.empty()) throw base::ConfigError(where, key, "it without --class-shares", "--class-shares beside it");
    return classes;
  }
  if (options.shares == kSharesOfTrace) return classes;
  classes.shares = numbers(options.shares, 1, where, "--class-shares",
                           "the share of each class, from 0 to 1 (0.5,0.3,0.2), or trace");
  if (classes.shares.size() > workloads::kMostClasses)
    throw base::ConfigError(where, "--class-shares", fmt::format("{} classes", classes.shares.size()),
                            fmt::format("at most {}", workloads::kMostClasses));
  double sum = 0;
  for (const double share : classes.shares) sum += share;
  if (std::fabs(sum - 1) > kShareSlack)
    throw base::ConfigError(where, "--class-shares", fmt::format("shares that add up to {}", sum), "a sum of 1");
  parse_weights(options, where, classes);
  return classes;
}

void parse_weights(const ClassOptions& options, const std::string& where, mapping::Classes& classes) {
  if (options.weights.empty()) return;
  const std::string expected =
      fmt::format("{} numbers from 0 to 1e9 that are not all 0, one for each class", classes.count());
  classes.weights = numbers(options.weights, 1e9, where, "--class-weights", expected);
  const bool all_zero = std::all_of(classes.weights.begin(), classes.weights.end(), [](double w) { return !(w > 0); });
  if (classes.weights.size() != classes.count() || all_zero)
    throw base::ConfigError(where, "--class-weights", "'" + options.weights + "'", expected);
}

void check_widths(const std::vector<numerics::Format>& formats, std::size_t classes, const std::string& where,
                  const std::string& key) {
  for (const numerics::Format a : formats)
    for (const numerics::Format b : formats)
      if (a != b && a.same_copy(b)) return;
  std::string names;
  for (const numerics::Format format : formats) names += (names.empty() ? "" : ",") + format.name();
  throw base::ConfigError(where, key, fmt::format("{} classes, of formats {}", classes, names),
                          "two widths of one stored copy among the formats (nested2,nested4, mwq2+0of2,mwq2+2)");
}

std::vector<mapping::Reading> class_readings(const std::vector<numerics::Format>& formats, std::size_t classes,
                                             bool rising, const std::string& where, const std::string& key) {
  check_widths(formats, classes, where, key);
  if (mapping::count_readings(formats, classes, rising) > mapping::kMostChoices)
    throw base::ConfigError(where, key,
                            fmt::format("{} classes that read {} formats in more than {} ways", classes, formats.size(),
                                        mapping::kMostChoices),
                            "fewer classes, fewer formats, or --class-order rising");
  return mapping::readings(formats, classes, rising);
}

std::vector<profile::Reads> reads_of(const std::vector<mapping::Reading>& readings, std::size_t classes) {
  std::vector<profile::Reads> all;
  for (const mapping::Reading& reading : readings) {
    profile::Reads& reads = all.emplace_back(std::max<std::size_t>(classes, 1), reading.format);
    for (std::size_t c = 0; c < reading.reads.size(); ++c) reads[c] = reading.reads[c];
  }
  return all;
}

mapping::Reading parse_reading(const std::string& text, std::size_t classes, const std::string& where,
                               const std::string& key) {
  const std::vector<std::string> parts = split(text, ':');
  if (parts.size() == 1) return numerics::ExpertFormats::parse(text, where, key);
  if (parts.size() != classes)
    throw base::ConfigError(where, key, fmt::format("'{}'", text),
                            classes < 2
                                ? std::string("one format, as there are no classes of requests")
                                : fmt::format("one format, or {} with : between them, one for each class", classes));
  std::vector<numerics::Format> reads;
  for (const std::string& part : parts) reads.push_back(numerics::Format::parse(part, where, key));
  for (const numerics::Format read : reads)
    if (!read.same_copy(reads.front()))
      throw base::ConfigError(
          where, key, fmt::format("'{}'", text),
          fmt::format("readings of one stored copy: {} is none of {}'s", read.name(), reads.front().name()));
  return mapping::Reading(reads);
}

}  // namespace moesaic::cli
