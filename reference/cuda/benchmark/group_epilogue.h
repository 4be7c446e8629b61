#pragma once
/// What the group epilogue costs on Hopper's tensor cores: acc += s * (P - z * X) once per group of 128, fused into an
/// int8 matrix product (wgmma, TMA, persistent grid of 128 x 128 tiles), in each way that keeps the sum exact and one
/// that does not. Weights are int4 codes already unpacked to a byte each, so that operand traffic equals a plain int8
/// product's and the difference is the epilogue alone. Every exact variant's 64-bit sums are compared with
/// matmul_s16_u8_s64.
///
/// Beside it: the epilogue with no product at all (its own ceiling), cuBLASLt's int8 product of the same operands where
/// that library can be loaded, and a device copy. Method: operand sets that together exceed the L2 are used in turn;
/// all variants take turns within a round, which is queued whole so that no launch waits for the CPU; times are medians
/// of CUDA events after warm-up rounds.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace moesaic::cuda {

struct EpilogueProblem {
  std::int64_t m = 0, n = 0, k = 0;  ///< multiples of 128
};

struct EpilogueTiming {
  std::string name;
  std::string what;          ///< one line for the record
  bool is_compared = false;  ///< whether every sum was compared with the exact reference
  std::uint64_t mismatches = 0;
  double median_ms = 0, fastest_ms = 0, slowest_ms = 0;
  double tops = 0;  ///< 2 m n k / median
};

struct EpilogueReport {
  EpilogueProblem problem;
  int rounds = 0, operand_sets = 0;
  double operand_mib = 0;                ///< of all sets together
  std::int64_t groups_per_widening = 0;  ///< of the int32 class for this problem's s, z and codes
  std::vector<EpilogueTiming> products;  ///< fused into the product
  std::vector<EpilogueTiming> alone;     ///< the epilogue without a product: TOPS it would allow at most
  double activation_sums_ms = 0;         ///< X, once per token and group, a kernel of its own
  double copy_tb_per_s = 0;              ///< device-to-device, bytes read and written
  std::string cublaslt;                  ///< version, or why it was not measured
};

/// Empty when the benchmark can run here, else why not (it needs compute capability 9.0).
std::string epilogue_benchmark_obstacle();

/// `progress` is called with a short text as the work goes on. Throws std::runtime_error when a CUDA call fails.
EpilogueReport measure_group_epilogue(const EpilogueProblem& problem, int rounds, std::uint64_t seed,
                                      const std::function<void(const std::string&)>& progress);

}  // namespace moesaic::cuda
