#include "cli/plan_check.h"

#include <optional>

#include "base/error.h"
#include "base/sha256.h"
#include "mapping/problem.h"

namespace moesaic::cli {

void check_made_for(const workloads::Plan& plan, const std::string& path, const program::Chip& chip,
                    const workloads::WorkloadFile& workload) {
  const auto same = [&path](const char* key, const std::optional<std::string>& stated, const std::string& found,
                            const std::string& what) {
    if (stated && *stated != found)
      throw base::ConfigError(path, std::string("made_from.") + key, *stated,
                              found + ", " + what + ", or --foreign-plan");
  };
  same("chip", plan.made_from.chip, chip.hash, "the hash of " + chip.path);
  same("memory", plan.made_from.memory, chip.memory_name(), "the memory of " + chip.path);
  if (plan.made_from.trace)
    same("trace", plan.made_from.trace, base::sha256_file(workload.trace), "the hash of " + workload.trace);
  same("work", plan.made_from.work, workloads::selection_hash(workload), "the hash of what " + workload.path + " runs");
}

void check_memory(const workloads::Plan& plan, const std::string& path, const program::Chip& chip,
                  const workloads::WorkloadFile& workload) {
  if (plan.made_from.chip != chip.hash) return;
  const mapping::MemoryTable memory(workload.network, plan.group_size, chip.layout_spec());
  std::int64_t bytes = 0;
  for (const workloads::PlanEntry& entry : plan.experts) bytes += memory.bytes(entry.format);
  if (bytes != plan.memory_bytes)
    throw base::ConfigError(path, "memory_bytes", std::to_string(plan.memory_bytes),
                            std::to_string(bytes) + ", what the plan's formats take on this chip");
}

void check_format(const program::Chip& chip, const numerics::ExpertFormats& formats, const std::string& where,
                  const std::string& key) {
  for (const numerics::Format format : {formats.gate, formats.up, formats.down})
    if (!chip.has(format))
      throw base::ConfigError(where, key, format.name(), "a format that " + chip.path + " has: " + chip.format_names());
}

void check_formats(const program::Chip& chip, const workloads::Plan& plan, const std::string& path) {
  for (const workloads::PlanEntry& entry : plan.experts) {
    const std::string where = path.empty()      ? "moesaic simulate"
                              : entry.line == 0 ? path
                                                : path + ":" + std::to_string(entry.line);
    check_format(chip, entry.format, where, path.empty() ? "--plan" : "format");
    check_formats(chip, entry.reads, where, "reads");
  }
}

void check_formats(const program::Chip& chip, const workloads::WorkloadFile& workload) {
  const workloads::WholeLayers& whole = workload.whole;
  for (const auto& format : {whole.shared_experts, whole.dense_layers, whole.attention, whole.head})
    if (format) check_format(chip, *format, workload.path, "whole_layers");
  if (whole.attention)
    check_format(chip, numerics::Format::integer(8), workload.path, "whole_layers.attention's cache");
}

}  // namespace moesaic::cli
