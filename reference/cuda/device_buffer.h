#pragma once
/// Owners of what the CUDA runtime hands out: a stream, and memory ordered by it. Failures throw: base::InputError when
/// the device has too little memory, std::runtime_error otherwise. A buffer must not outlive its stream.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "reference/cuda/launch.h"

namespace moesaic::cuda {

inline void require(const Status& status) {
  if (status.is_ok()) return;
  if (status.code() == StatusCode::kOutOfMemory) throw base::InputError(status.text());
  throw std::runtime_error(status.text());
}

class Stream {
 public:
  Stream() { require(to_status(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate")); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t handle() const { return stream_; }
  void wait() const { require(to_status(cudaStreamSynchronize(stream_), "cudaStreamSynchronize")); }

 private:
  cudaStream_t stream_ = nullptr;
};

template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer(const Stream& stream, std::size_t elements) : stream_(stream.handle()), elements_(elements) {
    require(to_status(cudaMallocAsync(&data_, elements * sizeof(T), stream_),
                      "GPU memory for " + std::to_string(elements * sizeof(T)) + " bytes"));
  }
  DeviceBuffer(const Stream& stream, const std::vector<T>& values) : DeviceBuffer(stream, values.size()) {
    require(to_status(cudaMemcpyAsync(data_, values.data(), elements_ * sizeof(T), cudaMemcpyHostToDevice, stream_),
                      "copy to the GPU"));
  }
  ~DeviceBuffer() { cudaFreeAsync(data_, stream_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* data() { return static_cast<T*>(data_); }
  const T* data() const { return static_cast<const T*>(data_); }
  /// The values; waits for everything queued on the stream.
  std::vector<T> read() const {
    std::vector<T> values(elements_);
    require(to_status(cudaMemcpyAsync(values.data(), data_, elements_ * sizeof(T), cudaMemcpyDeviceToHost, stream_),
                      "copy from the GPU"));
    require(to_status(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"));
    return values;
  }

 private:
  cudaStream_t stream_;
  void* data_ = nullptr;
  std::size_t elements_;
};

}  // namespace moesaic::cuda
