#pragma once
/// The inner loops of the vectorised product. One source, compiled for AVX-512, AVX2 and the baseline, chosen at run
/// time; integer sums have one answer, so the choice cannot change a bit.
#include <cstdint>

namespace moesaic::numerics {

/// Tokens that one call computes side by side.
constexpr int kTokenLanes = 32;

/// acc[lane] += s[g] * sum over the group's k of w[k] * x[k][lane], for every group; exact.
///   w      effective weights, [pairs * 2], |w| <= 255, zero beyond the last k
///   x      [pairs][kTokenLanes][2]: two consecutive k of a token lie together
///   group_pairs  pairs in a group (the last group may be shorter); groups start at even k
///   chunk_pairs  pairs whose sum fits 32 bits for these activations
using AccumulateRow = void (*)(const std::int16_t* w, const std::int16_t* x, std::int64_t pairs,
                               std::int64_t group_pairs, std::int64_t chunk_pairs, const std::uint16_t* s,
                               std::int64_t* acc);

/// The best one for this machine.
AccumulateRow accumulate_row();
/// All that this machine can run, the baseline first: for tests.
struct NamedKernel {
  const char* name;
  AccumulateRow run;
};
int runnable_kernels(NamedKernel (&kernels)[3]);

}  // namespace moesaic::numerics
