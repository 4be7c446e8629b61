#include "workloads/class_set.h"

#include <fmt/format.h>

#include <charconv>

#include "base/error.h"

namespace moesaic::workloads {

std::string class_set_name(ClassSet classes) {
  std::string name;
  for (std::size_t c = 0; c < kMostClasses; ++c)
    if (contains(classes, c)) name += (name.empty() ? "" : ";") + std::to_string(c);
  return name;
}

ClassSet parse_class_set(std::string_view text, std::size_t count, const std::string& where, const std::string& key) {
  ClassSet classes = kEveryRow;
  for (std::string_view rest = text;;) {
    const std::string_view part = rest.substr(0, rest.find(';'));
    std::size_t number = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    // Ascending: each once.
    if (error != std::errc() || end != part.data() + part.size() || number >= count || classes >> number != 0)
      throw base::ConfigError(where, key, "'" + std::string(text) + "'",
                              fmt::format("classes below {}, ascending, with ; between them", count));
    classes |= ClassSet{1} << number;
    if (part.size() == rest.size()) break;
    rest.remove_prefix(part.size() + 1);
  }
  return classes;
}

}  // namespace moesaic::workloads
