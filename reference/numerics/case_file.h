#pragma once
/// Kernel cases: what `moesaic kernel` reads and writes, and what every back end computes.
///
/// In (safetensors; all metadata are strings):
///   op mpgemm (the default)
///     x i8 [M, K] (i16 for act_bits 16), w u8 [N, K] one code a byte, zero_point u8 [N, groups] (binary and ternary
///     ignore it and may leave it out), group_multiplier u16 [N, groups], level_multiplier u16 [levels stored, N,
///     groups] (MWQ only), requant_multiplier u16 [N], requant_shift u8 [N], token_shift u8 [M] (optional)
///     metadata: format, bits (only int and nested must have it), group_size, act_bits, out_bits
///   op expert
///     the weight tensors three times with prefixes gate. up. down., one x and token_shift
///     metadata: format, bits, group_size, act_bits, sigma_h; out_bits may be given and must be 16. Where the matrices'
///     formats differ: gate.format, gate.bits, up.format, ... instead of format and bits
///   op combine
///     down i16 [E, M, H], r u16 [M, E]
/// Out: mpgemm acc i64 [M, N], y i8 (i16 for out_bits 16) [M, N]; expert h i16 [M, I], y i16 [M, H]; combine y i16 [M,
/// H]. Any other tensor or key, dtype, shape, code, activation or sum that the contract forbids is an InputError.
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/rng.h"
#include "reference/numerics/combine.h"
#include "reference/numerics/expert.h"
#include "reference/numerics/mpgemm.h"

namespace moesaic::numerics {

struct MpgemmCase {
  WeightMatrix w;
  Activations x;
  int out_bits = 8;  ///< 4, 8 or 16
};
struct ExpertCase {
  ExpertWeights w;
  Activations x;
};
struct CombineCase {
  std::int64_t experts = 0, m = 0, hidden = 0;
  std::vector<std::int16_t> down;  ///< [E, M, H]
  std::vector<std::uint16_t> r;    ///< [M, E]
};
using KernelCase = std::variant<MpgemmCase, ExpertCase, CombineCase>;

struct MpgemmResult {
  std::vector<std::int64_t> acc;  ///< [M, N]
  std::vector<std::int16_t> y;    ///< [M, N] in out_bits
};
struct CombineResult {
  std::vector<std::int16_t> y;  ///< [M, H]
};
/// The alternative matches the case's. An ExpertResult's eh is not part of the file and may be empty.
using KernelResult = std::variant<MpgemmResult, ExpertResult, CombineResult>;

/// Reads and validates; what it returns is legal for every back end, but for an expert's hidden shifts (see expert.h).
KernelCase read_case(const std::string& path);
/// Refuses an illegal case as read_case() does.
void validate(const KernelCase& kernel_case, const std::string& where);
void write_case(const std::string& path, const KernelCase& kernel_case);
void write_result(const std::string& path, const KernelCase& kernel_case, const KernelResult& result);

/// The case's answer on the CPU.
KernelResult run_case(const KernelCase& kernel_case, Path path = Path::kVectorised, const std::string& where = "case");
/// Empty when equal, else the first difference: "y[3, 17]: got 5, expected 4". `expected` decides the kind.
std::string first_difference(const KernelCase& kernel_case, const KernelResult& got, const KernelResult& expected);
/// "mpgemm int3 m3 n17 k70 g64 act8 out16", for reports.
std::string describe(const KernelCase& kernel_case);

/// What random_case() may draw. The defaults cover everything the contract allows at sizes a simulator can run.
struct CaseOptions {
  std::int64_t max_m = 9, max_n = 40, max_k = 140;
  std::int64_t max_experts = 5;  ///< of a combination
  int max_act_bits = 16;         ///< 4, 8 or 16
  std::vector<Format> formats;   ///< empty: three times in four one of one bundle, else MWQ
  bool mpgemm = true, expert = true, combine = true;
  bool mixed_experts = false;  ///< half of all experts draw a format for each matrix, or one for gate and up
  bool extremes = true;  ///< now and then all-extreme data, greatest shifts, and (max_act_bits 16) k = 257 at the bound
};
/// A legal case, expert hidden shifts included. Same rng state and options, same case.
KernelCase random_case(base::Rng& rng, const CaseOptions& options = {});

}  // namespace moesaic::numerics
