#pragma once
/// Files that a command reads and that no option names: an output must not be one of them. (Those that an option names:
/// option_values.h.)
#include <string>
#include <vector>

#include "workloads/quantiser.h"
#include "workloads/workload_file.h"

namespace moesaic::cli {

/// The trace, the tokens and the model, a folder or a file.
std::vector<std::string> inputs_of(const workloads::WorkloadFile& workload);
/// Those, of a plan's model folder and its quantiser.
std::vector<std::string> inputs_of(const std::string& model, const workloads::Quantiser& quantiser);

/// Refuses (base::ConfigError) an output that is one of the inputs, or a file of a model in one that is a folder.
void refuse_lost(const std::string& where, const std::string& option, const std::string& output,
                 const std::vector<std::string>& inputs);

}  // namespace moesaic::cli
