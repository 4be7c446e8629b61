#pragma once
/// The Verilated builds of rtl/builds.yaml. The table is generated when CMake configures.
#include <string>
#include <vector>

#include "sim/cosim/core_engine.h"

namespace moesaic::cosim {

/// In the order of the file.
const std::vector<Build>& builds();
/// "r4c4p1a8, r4c8p4a4, ..."
std::string build_names();
/// ConfigError listing the builds when there is none of that name.
const Build& find_build(const std::string& name, const std::string& where, const std::string& key);
/// The build with exactly these parameters; ConfigError listing the builds when there is none.
const Build& find_build(const program::CoreParams& params, const std::string& where, const std::string& key);
/// The build whose PEs take 16 bits: what `moesaic kernel` uses unless told otherwise.
const Build& default_build();

}  // namespace moesaic::cosim
