#include "reference/cuda/benchmark/cublaslt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <array>
#include <stdexcept>
#include <vector>

#include "reference/cuda/device_buffer.h"

namespace moesaic::cuda {
namespace {

void must(cublasStatus_t status, const char* doing) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string(doing) + ": cuBLAS status " + std::to_string(static_cast<int>(status)));
}

constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;

}  // namespace

struct CublasLt::Impl {
  explicit Impl(void* loaded) : library(loaded) {}
  template <class Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (function == nullptr) throw std::runtime_error(std::string("cuBLASLt has no ") + name);
  }
  void multiply(const cublasLtMatmulAlgo_t& with, const void* x, const void* w, std::int32_t* out) {
    const std::int32_t one = 1, zero = 0;
    must(matmul(handle, operation, &one, w, layout_w, x, layout_x, &zero, out, layout_out, out, layout_out, &with,
                workspace->data(), kWorkspaceBytes, stream),
         "cublasLtMatmul");
  }

  void* library;  // stays loaded: its own threads and handles outlive us
  cudaStream_t stream = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) propose = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmulDescDestroy) destroy_operation = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t layout_w = nullptr, layout_x = nullptr, layout_out = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  std::unique_ptr<Stream> own_stream;
  std::unique_ptr<DeviceBuffer<std::uint8_t>> workspace;
};

CublasLt::CublasLt(std::int64_t m, std::int64_t n, std::int64_t k, cudaStream_t stream) {
  void* library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    description_ = std::string("not measured: ") + dlerror();
    return;
  }
  impl_ = std::make_unique<Impl>(library);
  Impl& lt = *impl_;
  lt.stream = stream;
  decltype(&cublasLtGetVersion) version = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtMatmulDescCreate) create_operation = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_operation = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) create_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;
  lt.find(version, "cublasLtGetVersion");
  lt.find(create, "cublasLtCreate");
  lt.find(create_operation, "cublasLtMatmulDescCreate");
  lt.find(set_operation, "cublasLtMatmulDescSetAttribute");
  lt.find(create_layout, "cublasLtMatrixLayoutCreate");
  lt.find(create_preference, "cublasLtMatmulPreferenceCreate");
  lt.find(set_preference, "cublasLtMatmulPreferenceSetAttribute");
  lt.find(lt.matmul, "cublasLtMatmul");
  lt.find(lt.propose, "cublasLtMatmulAlgoGetHeuristic");
  lt.find(lt.destroy, "cublasLtDestroy");
  lt.find(lt.destroy_operation, "cublasLtMatmulDescDestroy");
  lt.find(lt.destroy_layout, "cublasLtMatrixLayoutDestroy");
  lt.find(lt.destroy_preference, "cublasLtMatmulPreferenceDestroy");

  const std::size_t number = version();
  description_ = "cuBLASLt " + std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
                 std::to_string(number % 100);
  must(create(&lt.handle), "cublasLtCreate");
  // The library thinks in columns: out, seen as [N, M] by columns, = transposed(w as [K, N]) * (x as [K, M]).
  must(create_operation(&lt.operation, CUBLAS_COMPUTE_32I, CUDA_R_32I), "cublasLtMatmulDescCreate");
  const cublasOperation_t transposed = CUBLAS_OP_T, plain = CUBLAS_OP_N;
  must(set_operation(lt.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), "transa");
  must(set_operation(lt.operation, CUBLASLT_MATMUL_DESC_TRANSB, &plain, sizeof plain), "transb");
  must(create_layout(&lt.layout_w, CUDA_R_8I, static_cast<std::uint64_t>(k), static_cast<std::uint64_t>(n), k),
       "layout of w");
  must(create_layout(&lt.layout_x, CUDA_R_8I, static_cast<std::uint64_t>(k), static_cast<std::uint64_t>(m), k),
       "layout of x");
  must(create_layout(&lt.layout_out, CUDA_R_32I, static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(m), n),
       "layout of out");
  must(create_preference(&lt.preference), "cublasLtMatmulPreferenceCreate");
  must(
      set_preference(lt.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes, sizeof kWorkspaceBytes),
      "workspace preference");
  lt.own_stream = std::make_unique<Stream>();
  lt.workspace = std::make_unique<DeviceBuffer<std::uint8_t>>(*lt.own_stream, kWorkspaceBytes);
  lt.own_stream->wait();
}

CublasLt::~CublasLt() {
  if (!impl_) return;
  cudaStreamSynchronize(impl_->stream);
  if (impl_->preference != nullptr) impl_->destroy_preference(impl_->preference);
  if (impl_->layout_out != nullptr) impl_->destroy_layout(impl_->layout_out);
  if (impl_->layout_x != nullptr) impl_->destroy_layout(impl_->layout_x);
  if (impl_->layout_w != nullptr) impl_->destroy_layout(impl_->layout_w);
  if (impl_->operation != nullptr) impl_->destroy_operation(impl_->operation);
  if (impl_->handle != nullptr) impl_->destroy(impl_->handle);
}

bool CublasLt::is_available() const { return impl_ != nullptr; }

void CublasLt::choose_algorithm(const void* x, const void* w, std::int32_t* out) {
  Impl& lt = *impl_;
  std::array<cublasLtMatmulHeuristicResult_t, 16> proposals{};
  int found = 0;
  must(lt.propose(lt.handle, lt.operation, lt.layout_w, lt.layout_x, lt.layout_out, lt.layout_out, lt.preference,
                  static_cast<int>(proposals.size()), proposals.data(), &found),
       "cublasLtMatmulAlgoGetHeuristic");
  if (found == 0) throw std::runtime_error("cuBLASLt proposes no algorithm for this int8 product");
  cudaEvent_t begin = nullptr, end = nullptr;
  require(to_status(cudaEventCreate(&begin), "cudaEventCreate"));
  require(to_status(cudaEventCreate(&end), "cudaEventCreate"));
  float quickest = -1;
  for (int i = 0; i < found; ++i) {
    const cublasLtMatmulAlgo_t& candidate = proposals[static_cast<std::size_t>(i)].algo;
    for (int warm_up = 0; warm_up < 2; ++warm_up) lt.multiply(candidate, x, w, out);
    require(to_status(cudaEventRecord(begin, lt.stream), "cudaEventRecord"));
    for (int repeat = 0; repeat < 5; ++repeat) lt.multiply(candidate, x, w, out);
    require(to_status(cudaEventRecord(end, lt.stream), "cudaEventRecord"));
    require(to_status(cudaEventSynchronize(end), "cudaEventSynchronize"));
    float elapsed = 0;
    require(to_status(cudaEventElapsedTime(&elapsed, begin, end), "cudaEventElapsedTime"));
    if (quickest < 0 || elapsed < quickest) {
      quickest = elapsed;
      lt.algorithm = candidate;
    }
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  description_ += ", the quickest of " + std::to_string(found) + " proposed algorithms";
}

void CublasLt::run(const void* x, const void* w, std::int32_t* out) { impl_->multiply(impl_->algorithm, x, w, out); }

}  // namespace moesaic::cuda
