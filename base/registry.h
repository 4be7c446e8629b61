#pragma once
/// Named choices of one role. Filled by an explicit list (never by static objects); a name added twice throws
/// std::logic_error ("registered twice: hebf"); an unknown name throws ConfigError listing the choices in the order
/// added.
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace moesaic::base {

template <class T>
class Registry {
 public:
  void add(std::string name, T value) {
    for (const auto& entry : entries_)
      if (entry.first == name) throw std::logic_error("registered twice: " + name);
    entries_.emplace_back(std::move(name), std::move(value));
  }
  /// `where` and `key` say who asked: ("chip.yaml:12", "io.order") or ("moesaic kernel", "--backend").
  const T& at(const std::string& name, const std::string& where, const std::string& key) const {
    for (const auto& entry : entries_)
      if (entry.first == name) return entry.second;
    throw ConfigError(where, key, "'" + name + "'", "one of " + choices());
  }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : entries_) all.push_back(entry.first);
    return all;
  }
  /// "cpu, cycle, rtl"
  std::string choices() const {
    std::string text;
    for (const auto& entry : entries_) text += (text.empty() ? "" : ", ") + entry.first;
    return text;
  }

 private:
  std::vector<std::pair<std::string, T>> entries_;
};

}  // namespace moesaic::base
