#pragma once
/// What every launcher shares: argument checks that name the extent and its limit, and the check after a launch.
/// A chain stops at the first failure:  Checker c("combine"); c.at_least("m", m, 1); c.present("r", r); if (!c.is_ok())
/// ...
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "reference/cuda/status.h"

namespace moesaic::cuda {

constexpr std::int64_t kMaxBlocks = 2147483647;  // grid.x of every device since compute capability 3.0

/// kOk, kOutOfMemory or kLaunchFailed with the runtime's own words.
[[nodiscard]] inline Status to_status(cudaError_t error, const std::string& doing) {
  if (error == cudaSuccess) return {};
  const StatusCode code = error == cudaErrorMemoryAllocation ? StatusCode::kOutOfMemory : StatusCode::kLaunchFailed;
  return {code, doing + ": " + cudaGetErrorString(error)};
}

/// To be called straight after a launch.
[[nodiscard]] inline Status launched(const char* launcher) { return to_status(cudaGetLastError(), launcher); }

class Checker {
 public:
  explicit Checker(const char* launcher) : launcher_(launcher) {}

  void in_range(const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
    if (status_.is_ok() && (value < low || value > high))
      status_ = {StatusCode::kBadShape, std::string(launcher_) + ": " + name + ": got " + std::to_string(value) +
                                            ", expected " + std::to_string(low) + ".." + std::to_string(high)};
  }
  void at_least(const char* name, std::int64_t value, std::int64_t low) {
    if (status_.is_ok() && value < low)
      status_ = {StatusCode::kBadShape, std::string(launcher_) + ": " + name + ": got " + std::to_string(value) +
                                            ", expected at least " + std::to_string(low)};
  }
  void multiple_of(const char* name, std::int64_t value, std::int64_t unit) {
    if (status_.is_ok() && (value < unit || value % unit != 0))
      status_ = {StatusCode::kBadShape, std::string(launcher_) + ": " + name + ": got " + std::to_string(value) +
                                            ", expected a positive multiple of " + std::to_string(unit)};
  }
  /// The widths of activations and outputs.
  void is_width(const char* name, int bits) {
    if (status_.is_ok() && bits != 4 && bits != 8 && bits != 16)
      status_ = {StatusCode::kBadShape,
                 std::string(launcher_) + ": " + name + ": got " + std::to_string(bits) + ", expected 4, 8 or 16"};
  }
  void present(const char* name, const void* pointer) {
    if (status_.is_ok() && pointer == nullptr)
      status_ = {StatusCode::kNullPointer, std::string(launcher_) + ": " + name + ": got a null pointer"};
  }
  bool is_ok() const { return status_.is_ok(); }
  Status status() const { return status_; }

 private:
  const char* launcher_;
  Status status_;
};

constexpr int kThreads = 256;

/// Blocks of kThreads for a grid-stride loop over `elements`: enough to fill any device, few enough for any grid.
inline unsigned stride_blocks(std::int64_t elements) {
  return static_cast<unsigned>(std::min<std::int64_t>((elements + kThreads - 1) / kThreads, 16384));
}

}  // namespace moesaic::cuda
