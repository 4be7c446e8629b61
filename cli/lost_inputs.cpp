#include "cli/lost_inputs.h"

#include <filesystem>
#include <system_error>

#include "base/error.h"

namespace moesaic::cli {

namespace fs = std::filesystem;

namespace {

/// What a checkpoint is read from.
bool is_of_a_model(const fs::path& path) {
  return path.filename() == "config.json" || path.filename() == "model.safetensors.index.json" ||
         path.extension() == ".safetensors";
}

}  // namespace

std::vector<std::string> inputs_of(const workloads::WorkloadFile& workload) {
  std::vector<std::string> files{workload.trace, workload.model};
  if (workload.tokens) files.push_back(*workload.tokens);
  return files;
}

std::vector<std::string> inputs_of(const std::string& model, const workloads::Quantiser& quantiser) {
  return {model, quantiser.tokens};
}

void refuse_lost(const std::string& where, const std::string& option, const std::string& output,
                 const std::vector<std::string>& inputs) {
  std::error_code none;
  if (output.empty() || !fs::is_regular_file(output, none)) return;
  const auto check = [&](const fs::path& input) {
    if (fs::equivalent(output, input, none))
      throw base::ConfigError(where, option, "'" + output + "', which is read", "another file: that one would be lost");
  };
  for (const std::string& input : inputs) {
    check(input);
    for (fs::directory_iterator file(input, none), end; !none && file != end; file.increment(none))
      if (is_of_a_model(file->path())) check(file->path());
  }
}

}  // namespace moesaic::cli
