/// The library in a build without CUDA: it says so, and computes nothing.
#include "base/error.h"
#include "reference/cuda/availability.h"
#include "reference/cuda/run_case.h"

namespace moesaic::cuda {

struct DeviceExpert::Impl {};

const Availability& availability() {
  static const Availability kAnswer{false, "no CUDA: built without"};
  return kAnswer;
}

void require_available(const std::string& where) { throw base::InputError(where + ": " + availability().reason); }

DeviceFacts device_facts() { return {}; }

numerics::KernelResult run_case(const numerics::KernelCase&, const std::string& where, MatmulClass) {
  throw base::InputError(where + ": " + availability().reason);
}

DeviceExpert::DeviceExpert(const numerics::ExpertWeights&, MatmulClass) { require_available("expert"); }
DeviceExpert::~DeviceExpert() = default;
DeviceExpert::DeviceExpert(DeviceExpert&&) noexcept = default;
DeviceExpert& DeviceExpert::operator=(DeviceExpert&&) noexcept = default;
numerics::ExpertResult DeviceExpert::run(const numerics::Activations&, const std::string& where) const {
  throw base::InputError(where + ": " + availability().reason);
}

}  // namespace moesaic::cuda
