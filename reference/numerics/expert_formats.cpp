#include "reference/numerics/expert_formats.h"

#include "base/error.h"

namespace moesaic::numerics {

std::string ExpertFormats::name() const {
  return is_one() ? gate.name() : gate.name() + "/" + up.name() + "/" + down.name();
}

ExpertFormats ExpertFormats::parse(const std::string& name, const std::string& where, const std::string& key) {
  const std::size_t first = name.find('/');
  if (first == std::string::npos) return Format::parse(name, where, key);
  const std::size_t second = name.find('/', first + 1);
  if (second == std::string::npos || name.find('/', second + 1) != std::string::npos)
    throw base::ConfigError(where, key, "'" + name + "'", "one format, or three: gate/up/down (int2/int2/int4)");
  return {Format::parse(name.substr(0, first), where, key),
          Format::parse(name.substr(first + 1, second - first - 1), where, key),
          Format::parse(name.substr(second + 1), where, key)};
}

}  // namespace moesaic::numerics
