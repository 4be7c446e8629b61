#include "cli/option_values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace moesaic::cli {

namespace fs = std::filesystem;

namespace {

/// "moesaic workload synth".
std::string shown(const CLI::App& command) {
  const CLI::App* const above = command.get_parent();
  return (above == nullptr ? "" : shown(*above) + " ") + command.get_name();
}

template <class T>
bool is_decimal(const std::string& text) {
  const std::size_t sign = text.size() > 1 && text[0] == '-' ? 1 : 0;
  if (text.size() > sign + 1 && text[sign] == '0') return false;  // octal, or hexadecimal
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

/// infinity and nan are not: no option means them.
bool is_finite(const std::string& text) {
  double value = 0;
  const char *const begin = text.data() + (text.size() > 1 && text[0] == '+' ? 1 : 0),
                    *last = text.data() + text.size();
  const auto [end, error] = std::from_chars(begin, last, value);
  return error == std::errc() && end == last && std::isfinite(value);
}

void check_value(const CLI::App& command, const CLI::Option& option, const std::string& value) {
  const std::string type = option.get_type_name();
  if (value.empty())
    throw base::ConfigError(shown(command), option.get_name(), "nothing", "a value, or not the option");
  const bool is_natural = type.rfind("UINT", 0) == 0;
  if (is_natural ? !is_decimal<std::uint64_t>(value) : type.rfind("INT", 0) == 0 && !is_decimal<std::int64_t>(value))
    throw base::ConfigError(shown(command), option.get_name(), value,
                            is_natural ? "a whole number from 0 on" : "a whole number");
  if (type.rfind("FLOAT", 0) == 0 && !is_finite(value))
    throw base::ConfigError(shown(command), option.get_name(), value, "a decimal number");
}

bool is_output(const CLI::Option& option) {
  return option.check_lname("out") || option.check_lname("per-window") || option.check_lname("costs-out") ||
         option.check_lname("waves");
}

using Options = std::vector<const CLI::Option*>;

void check_output(const CLI::App& command, const CLI::Option& output, const Options& options) {
  std::error_code none;
  const auto place = [&none](const CLI::Option& option) {  // none where nothing is lost
    const fs::path path = fs::weakly_canonical(option.results().front(), none);
    return fs::exists(path, none) && !fs::is_regular_file(path, none) ? fs::path() : path;
  };
  for (const CLI::Option* other : options)
    if (other != &output && is_output(*other) && !place(output).empty() && place(*other) == place(output))
      throw base::ConfigError(shown(command), output.get_name(), "the file of " + other->get_name(), "another file");
  for (const std::string& file : output.results()) {
    if (!fs::is_regular_file(file, none)) continue;
    for (const CLI::Option* input : options)
      for (const std::string& other : input->results())
        if (input != &output && !is_output(*input) && fs::equivalent(file, other, none))
          throw base::ConfigError(shown(command), output.get_name(), "the file of " + input->get_name(),
                                  "another file: that one would be lost");
  }
}

void check(const CLI::App& command) {
  const Options options = command.get_options([](const CLI::Option* option) { return !option->results().empty(); });
  for (const CLI::Option* option : options) {
    const bool is_flag = option->get_items_expected_max() == 0;
    for (const std::string& value : option->results())
      if (!is_flag) check_value(command, *option, value);
    if (is_output(*option)) check_output(command, *option, options);
  }
}

}  // namespace

std::string refusal_of(const CLI::ParseError& error) {
  static const std::pair<const char*, const char*> kWordings[] = {
      {"^(\\S+): Value (.*) not in range (\\S+) to (\\S+)$", "$1: got $2, expected a number from $3 to $4"},
      {"^(\\S+): (.*) not in \\{(.*)\\}$", "$1: got $2, expected one of $3"},
      {"^Could not convert: (\\S+) = (.*)$", "$1: got $2, expected a number"},
      {"^(\\S+): At Most 1 required but received (\\d+)$", "$1: got it $2 times, expected it once"},
      {"^(\\S+): 1 required (\\S+) missing$", "$1: got nothing, expected $2"},
      {"^A subcommand is required$", "command: got none, expected one"},
      {"^(\\S+) is required$", "$1: got nothing, expected a value"},
      {"^The following arguments? (?:was|were) not expected: (.*)$", "arguments: got $1, expected none of that"},
  };
  const std::string text = error.what();
  for (const auto& [theirs, ours] : kWordings) {
    const std::regex wording(theirs);
    if (std::regex_match(text, wording)) return std::regex_replace(text, wording, ours);
  }
  return text;
}

void check_option_values(CLI::App& command) {
  command.parse_complete_callback([&command] { check(command); });
  for (CLI::App* const one : command.get_subcommands([](const CLI::App*) { return true; })) check_option_values(*one);
}

}  // namespace moesaic::cli
