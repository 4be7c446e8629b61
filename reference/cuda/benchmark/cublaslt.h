#pragma once
/// cuBLASLt's int8 product, loaded at run time: nothing but the benchmark needs the library, and nothing links to it.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>

namespace moesaic::cuda {

/// out[m][n] = sum over k of x[m][k] * w[n][k], int32; x [M, K], w [N, K] int8 on the device.
class CublasLt {
 public:
  CublasLt(std::int64_t m, std::int64_t n, std::int64_t k, cudaStream_t stream);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  bool is_available() const;
  /// "cuBLASLt 13.0.2", or why it cannot be used.
  const std::string& description() const { return description_; }
  /// Times each algorithm that the library proposes and keeps the quickest.
  void choose_algorithm(const void* x, const void* w, std::int32_t* out);
  void run(const void* x, const void* w, std::int32_t* out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string description_;
};

}  // namespace moesaic::cuda
