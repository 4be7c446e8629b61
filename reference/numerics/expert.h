#pragma once
/// One expert's feed-forward network: gate and up products to int16, SwiGLU, the hidden row's own power of two, down to
/// int16.
///   x [M, H] -> g, u [M, I] -> h [M, I] int16 -> h >> eh[m] in act_bits -> y [M, H] int16
/// The down projection shifts by sigma[n] - eh[m]. eh depends on the data, so that range (0..62) can only be checked
/// once h is known: expert_ffn() throws InputError then, naming the token and the column. An implementation that cannot
/// throw (hardware) is to be given only cases that have passed validate_hidden_shifts() here.
#include <cstdint>
#include <string>
#include <vector>

#include "reference/numerics/expert_formats.h"
#include "reference/numerics/mpgemm.h"

namespace moesaic::numerics {

struct ExpertWeights {
  WeightMatrix gate;  ///< [I, H]
  WeightMatrix up;    ///< [I, H]
  WeightMatrix down;  ///< [H, I]
  int sigma_h = 0;    ///< 0..31
  ExpertFormats formats() const { return {gate.format, up.format, down.format}; }
  std::int64_t hidden() const { return gate.k; }        ///< H
  std::int64_t intermediate() const { return gate.n; }  ///< I
};

struct ExpertResult {
  std::vector<std::int16_t> h;   ///< [M, I]
  std::vector<std::uint8_t> eh;  ///< [M]
  std::vector<std::int16_t> y;   ///< [M, H]
};

enum class Path { kReference, kVectorised };

/// Everything that can be refused without computing: shapes, codes, bounds, sigma_h, one group size, gate and up
/// shifts. Each matrix may have a format of its own.
void validate(const ExpertWeights& w, const Activations& x, const std::string& where);
/// sigma[n] - eh[m] in 0..62 for every column of `down`.
void validate_hidden_shifts(const WeightMatrix& down, const std::vector<std::uint8_t>& eh, const std::string& where);

/// The operands have passed validate(); throws InputError for a hidden shift out of range.
ExpertResult expert_ffn(const ExpertWeights& w, const Activations& x, Path path = Path::kVectorised,
                        const std::string& where = "expert");

/// The down projection's input: rshift_round(h[m, i], eh[m]) in act_bits, no token shift (the shift is -eh).
Activations hidden_activations(const std::vector<std::int16_t>& h, std::int64_t m, std::int64_t intermediate,
                               int act_bits, std::vector<std::uint8_t>& eh);

}  // namespace moesaic::numerics
