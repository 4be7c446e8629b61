#pragma once
/// Whether a plan file is one for a chip and a workload, and states what its formats take.
#include <string>
#include <vector>

#include "reference/numerics/expert_formats.h"
#include "sim/program/chip.h"
#include "workloads/plan.h"
#include "workloads/workload_file.h"

namespace moesaic::cli {

/// Refuses (InputError) a plan that says that it was made for another chip, trace or selection of the trace's rows.
void check_made_for(const workloads::Plan& plan, const std::string& path, const program::Chip& chip,
                    const workloads::WorkloadFile& workload);

/// Refuses (InputError) a plan for this chip whose memory_bytes are not the stored bytes of its formats; of a plan for
/// another chip, or for none, nothing is known.
void check_memory(const workloads::Plan& plan, const std::string& path, const program::Chip& chip,
                  const workloads::WorkloadFile& workload);

/// Refuses (InputError) a format that the hardware lacks.
void check_format(const program::Chip& chip, const numerics::ExpertFormats& formats, const std::string& where,
                  const std::string& key);
template <class Formats>
void check_formats(const program::Chip& chip, const Formats& formats, const std::string& where,
                   const std::string& key) {
  for (const auto& format : formats) check_format(chip, format, where, key);
}

/// The same for every format of a plan (`path` is "" for one without a file), and for what of the workload's layers
/// runs beside the experts.
void check_formats(const program::Chip& chip, const workloads::Plan& plan, const std::string& path);
void check_formats(const program::Chip& chip, const workloads::WorkloadFile& workload);

}  // namespace moesaic::cli
