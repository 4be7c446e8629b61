#include "reference/cuda/availability.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdint>
#include <stdexcept>

#include "base/error.h"
#include "reference/cuda/mpgemm.h"

namespace moesaic::cuda {
namespace {

/// Freed device memory stays with the process: a run of many small products would else return and fetch it each time.
cudaError_t keep_freed_memory() {
  cudaMemPool_t pool = nullptr;
  const cudaError_t error = cudaDeviceGetDefaultMemPool(&pool, 0);
  std::uint64_t all = UINT64_MAX;
  return error != cudaSuccess ? error : cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all);
}

Availability ask() {
  int devices = 0;
  cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices == 0) error = cudaErrorNoDevice;
  if (error == cudaSuccess) error = cudaFree(nullptr);  // makes the context: a device that cannot be used fails here
  if (error == cudaSuccess) error = can_run_kernels();
  if (error == cudaSuccess) error = keep_freed_memory();
  if (error == cudaSuccess) return {true, ""};
  cudaGetLastError();  // so that the next launch is not blamed for it
  return {false, std::string("no GPU: ") + cudaGetErrorString(error)};
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

/// The driver's own version, from NVIDIA's management library, which comes with the driver.
std::string driver_text() {
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return "";
  using Init = int (*)();
  using Version = int (*)(char*, unsigned);
  const auto init = reinterpret_cast<Init>(dlsym(library, "nvmlInit_v2"));
  const auto version = reinterpret_cast<Version>(dlsym(library, "nvmlSystemGetDriverVersion"));
  char text[96] = "";
  if (init == nullptr || version == nullptr || init() != 0 || version(text, sizeof text) != 0) return "";
  return text;
}

}  // namespace

const Availability& availability() {
  static const Availability kAnswer = ask();
  return kAnswer;
}

void require_available(const std::string& where) {
  if (!availability().is_available) throw base::InputError(where + ": " + availability().reason);
}

DeviceFacts device_facts() {
  DeviceFacts facts;
  if (!availability().is_available) return facts;
  cudaDeviceProp properties{};
  int driver = 0, runtime = 0;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess || cudaDriverGetVersion(&driver) != cudaSuccess ||
      cudaRuntimeGetVersion(&runtime) != cudaSuccess)
    throw std::runtime_error(std::string("device_facts: ") + cudaGetErrorString(cudaGetLastError()));
  facts.name = properties.name;
  facts.compute_capability = std::to_string(properties.major) + "." + std::to_string(properties.minor);
  facts.driver = driver_text();
  facts.driver_version = version_text(driver);
  facts.runtime_version = version_text(runtime);
  facts.multiprocessors = properties.multiProcessorCount;
  facts.memory_gib = static_cast<double>(properties.totalGlobalMem) / (1024.0 * 1024 * 1024);
  facts.l2_mib = static_cast<double>(properties.l2CacheSize) / (1024.0 * 1024);
  return facts;
}

}  // namespace moesaic::cuda
