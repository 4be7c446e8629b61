#include "workloads/json_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace moesaic::workloads {

base::YamlNode parse_json(const std::string& text, const std::string& file) {
  // nlohmann-json is strict but forgets the lines; YAML holds JSON and keeps them, but alone would also take what is
  // no JSON. JSON allows tabs between tokens only, where YAML wants spaces.
  try {
    const nlohmann::json document = nlohmann::json::parse(text);
    if (!document.is_object()) throw base::ConfigError(file + ":1", "document", document.type_name(), "an object");
  } catch (const nlohmann::json::parse_error& error) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(error.byte, text.size()));
    const auto line = 1 + std::count(text.begin(), end, '\n');
    throw base::ConfigError(file + ":" + std::to_string(line), "document",
                            "no JSON (" + std::string(error.what()) + ")", "a JSON document");
  } catch (const nlohmann::json::exception& error) {  // a number that no double holds
    throw base::ConfigError(file + ":1", "document", "no JSON (" + std::string(error.what()) + ")", "a JSON document");
  }
  std::string spaced = text;
  std::replace(spaced.begin(), spaced.end(), '\t', ' ');
  return base::YamlNode::parse(spaced, file);
}

}  // namespace moesaic::workloads
