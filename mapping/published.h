#pragma once
/// Published ways to choose bit-widths, on our problem. Each ends in a plan within the problem's budgets and
/// constraints, or refuses (InputError `--allocator: got NAME, expected ...`).
///
///   frequency  QuantMoE-Bench (Li et al., Examining Post-Training Quantization for Mixture-of-Experts: A Benchmark,
///              2024): the experts of a layer that are chosen most often get the wider of two widths. The two are
///              neighbours on the ladder of widths; as many experts a layer as fit are wide. Its rule that attention
///              and shared experts come first says nothing here: a sensitivity table holds routed experts alone.
///   pmq        MC-MoE (Huang et al., MC-MoE: Mixture Compressor for Mixture-of-Experts LLMs Gains More, 2024): in each
///              layer the least sum of frequency * weight^1.5 * loss (with_significance()) with at most B bits in all,
///              at least one expert of 3 and one of 2 bits, widths binary, int2, int3; solved exactly. B is the
///              problem's bits budget a layer, else the greatest for which the plan keeps every budget.
///   baq        BAQ (Zhang et al., BAQ: Efficient Bit Allocation Quantization for Large Language Models, 2025): for
///              losses c * 4^-b the best real widths are b = mean + 1/2 log2(c / geometric mean of c). c is the
///              geometric mean over the table's widths of loss * 4^bits. Rounded to the table's widths; the mean is the
///              greatest multiple of 1/64 under which the rounded plan fits; what then is left is filled greedily.
///   hawq       HAWQ-V3 (Yao et al., HAWQ-V3: Dyadic Neural Network Quantization, ICML 2021): the integer program that
///              minimises the perturbation under limits of size, operations or latency, solved exactly over widths 2, 4
///              and 8 (HAWQ-V3 itself has 4 and 8).
#include "mapping/allocators.h"

namespace moesaic::mapping {

Allocation allocate_frequency(const Problem& problem, const AllocatorOptions& options);
Allocation allocate_pmq(const Problem& problem, const AllocatorOptions& options);
Allocation allocate_baq(const Problem& problem, const AllocatorOptions& options);
Allocation allocate_hawq(const Problem& problem, const AllocatorOptions& options);

}  // namespace moesaic::mapping
