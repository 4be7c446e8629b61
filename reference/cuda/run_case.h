#pragma once
/// The kernel contract on a GPU, from host memory to host memory: the same answers as reference/numerics, bit for bit.
/// In a build without CUDA, or on a machine without a GPU, everything here throws base::InputError with
/// availability()'s reason. A case larger than the device's memory is an InputError too; a failing CUDA call is a
/// std::runtime_error.
#include <memory>
#include <string>

#include "reference/numerics/case_file.h"
#include "reference/numerics/expert.h"

namespace moesaic::cuda {

/// Which product kernel to use (mpgemm.h). The answer never depends on it.
enum class MatmulClass {
  kChecked,  ///< int32 partial sums where check_partial_sums() allows them, else 64 bits throughout
  kExact,    ///< always 64 bits
};

/// As numerics::run_case(); the case has passed numerics::validate(). An ExpertResult carries its eh.
numerics::KernelResult run_case(const numerics::KernelCase& kernel_case, const std::string& where = "case",
                                MatmulClass matmul_class = MatmulClass::kChecked);

/// One expert whose weights stay on the device. run() may be called from several threads at once.
class DeviceExpert {
 public:
  explicit DeviceExpert(const numerics::ExpertWeights& weights, MatmulClass matmul_class = MatmulClass::kChecked);
  ~DeviceExpert();
  DeviceExpert(DeviceExpert&&) noexcept;
  DeviceExpert& operator=(DeviceExpert&&) noexcept;

  /// As numerics::expert_ffn(), its InputError for a hidden shift out of range included.
  numerics::ExpertResult run(const numerics::Activations& x, const std::string& where = "expert") const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moesaic::cuda
