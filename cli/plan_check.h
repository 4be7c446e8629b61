#pragma once
/// Whether a plan file is one for a chip and a workload, and states what its formats take.
#include <string>

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

}  // namespace moesaic::cli
