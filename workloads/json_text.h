/// JSON read for its values and for the line each stands on.
#pragma once

#include <string>

#include "base/yaml.h"

namespace moesaic::workloads {

/// Checks that `text` is JSON and gives it as a tree that knows its lines. Throws base::ConfigError at the first
/// malformed line.
base::YamlNode parse_json(const std::string& text, const std::string& file);

}  // namespace moesaic::workloads
