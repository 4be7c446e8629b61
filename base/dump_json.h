#pragma once
/// JSON as text, whatever bytes its strings hold: a file's name need not be UTF-8, which JSON is.
#include <nlohmann/json.hpp>
#include <string>

namespace moesaic::base {

/// On one line, or with `indent` spaces a level. Bytes that are not UTF-8 become U+FFFD.
template <class Json>
std::string dump_json(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace moesaic::base
