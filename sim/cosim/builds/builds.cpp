#include "sim/cosim/builds.h"

#include <stdexcept>

#include "base/error.h"

namespace moesaic::cosim {

std::string build_names() {
  std::string text;
  for (const Build& build : builds()) text += (text.empty() ? "" : ", ") + build.name;
  return text;
}

const Build& find_build(const std::string& name, const std::string& where, const std::string& key) {
  for (const Build& build : builds()) {
    if (build.name == name) return build;
  }
  throw base::ConfigError(where, key, "'" + name + "'", "one of " + build_names());
}

const Build& find_build(const program::CoreParams& params, const std::string& where, const std::string& key) {
  for (const Build& build : builds()) {
    if (build.params == params) return build;
  }
  const std::string got = std::to_string(params.rows) + "x" + std::to_string(params.cols) + ", " +
                          std::to_string(params.planes_per_cycle) + " planes per cycle, " +
                          std::to_string(params.max_act_bits) + "-bit activations and its buffers";
  throw base::ConfigError(where, key, got, "the parameters of one of " + build_names() + " (rtl/builds.yaml)");
}

const Build& default_build() {
  for (const Build& build : builds()) {
    if (build.params.max_act_bits == 16) return build;
  }
  throw std::logic_error("no build takes 16-bit activations");
}

}  // namespace moesaic::cosim
