#pragma once
/// Whether this program can run kernels here: it was built with CUDA, a driver and a device are there, and the device
/// can run the kernels that were built.
#include <string>

namespace moesaic::cuda {

struct Availability {
  bool is_available = false;
  std::string reason;  ///< when not: "no CUDA: built without", "no GPU: <the driver's words>"
};

/// Asked once a process; later calls repeat the answer.
const Availability& availability();

/// Throws base::InputError "<where>: <reason>" when there is none.
void require_available(const std::string& where);

/// Device 0 by name, and the versions that a record must carry. Empty strings without a device.
struct DeviceFacts {
  std::string name;                ///< "NVIDIA H200"
  std::string compute_capability;  ///< "9.0"
  std::string driver;              ///< "580.159.04"; empty where the management library cannot be asked
  std::string driver_version;      ///< of CUDA that the driver offers: "13.0"
  std::string runtime_version;     ///< of CUDA that the program was built with
  int multiprocessors = 0;
  double memory_gib = 0;
  double l2_mib = 0;
};
DeviceFacts device_facts();

}  // namespace moesaic::cuda
