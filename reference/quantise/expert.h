#pragma once
/// From real weights and activations to the integers that every implementation computes with, and back.
///
/// Real values live outside the arithmetic, as powers of two of a layer (LayerScales) and real scales of a group, which
/// are folded into s, mu and sigma:
///
///   x_real = x * 2^-e[m] * 2^x_exp                          x in act_bits, e[m] 0..kMaxTokenShift
///   gate   = g * 2^-10          up = u * 2^-up_exp           int16
///   h_real = h * 2^-hidden_exp                               sigma_h = 10 + up_exp - hidden_exp
///   y_real = y * 2^-output_exp                               int16, one exponent for all experts of a layer
///
///   w_real = scale[n, group] * (code - z);  s = round(scale / c[n]) with c[n] = max over groups of scale / max s
///   mu * 2^-sigma = c[n] * (output unit / input unit)
///
/// max s is 65535, or less where 48 bits would not hold K * 2^(act_bits-1) * 255 * max s. MWQ adds a scale a level, in
/// the same multiples of c[n], and shares that bound among its bundles.
#include <cstdint>
#include <string>
#include <vector>

#include "reference/numerics/expert.h"
#include "reference/numerics/format.h"
#include "reference/numerics/mpgemm.h"
#include "reference/quantise/fold.h"
#include "reference/quantise/gptq.h"

namespace moesaic::quantise {

/// A token row's own power of two is at most this; with it sigma + e stays within 62 for any data.
constexpr int kMaxTokenShift = 24;
/// The down projection shifts by sigma - eh, and eh is at most 13 (a 16-bit row cut to 4 bits).
constexpr int kMaxHiddenShift = 13;
constexpr int kGateExp = 10;

/// Greatest magnitudes seen in one layer, in real units; each > 0.
struct LayerRanges {
  double x = 0;       ///< an expert's input
  double up = 0;      ///< up projection
  double hidden = 0;  ///< silu(gate) * up
  double output = 0;  ///< one expert's output and the combined one
  void include(const LayerRanges& other);
};

struct LayerScales {
  int x_exp = 0;
  int up_exp = 0;
  int hidden_exp = 0;
  int output_exp = 0;
  int sigma_h() const { return kGateExp + up_exp - hidden_exp; }
};

/// Room left above the ranges: a factor of at least 4 for the int16 values, of 256 for x (where it costs nothing,
/// because the token's own shift takes it back).
LayerScales choose_scales(const LayerRanges& ranges, int act_bits);

/// Quantises w [n, k], row-major, each weight to its nearest. InputError (`where`) for a weight that is not finite or
/// too large for the units.
numerics::WeightMatrix quantise_matrix(const float* w, std::int64_t n, std::int64_t k, numerics::Format format,
                                       std::int64_t group_size, const MatrixUnits& units, const std::string& where);

/// The three matrices of an expert: gate and up [intermediate, hidden], down [hidden, intermediate], each in its
/// format. Round-to-nearest, or GPTQ where a curvature is given. A matrix's integers depend on no other's format.
numerics::ExpertWeights quantise_expert(const float* gate, const float* up, const float* down, std::int64_t hidden,
                                        std::int64_t intermediate, const numerics::ExpertFormats& formats,
                                        std::int64_t group_size, int act_bits, const LayerScales& scales,
                                        const std::string& where, const ExpertCurvature* curvature = nullptr);

/// Rows x [rows, k] to integers, each with the greatest token shift that fits. Beyond x_exp's range values saturate.
/// InputError for a value that is not finite.
numerics::Activations quantise_rows(const float* x, std::int64_t rows, std::int64_t k, int act_bits, int x_exp);

/// round(weight * 32768): a router weight in 0..1.
std::uint16_t router_weight(float weight);

/// The real weight that (row, k) of a quantised matrix stands for as its format reads it, given the units it was made
/// with.
double dequantise(const numerics::WeightMatrix& w, std::int64_t row, std::int64_t k, double x_unit, double y_unit);

/// All of them, [n, k] row-major.
std::vector<float> dequantise(const numerics::WeightMatrix& w, double x_unit, double y_unit);

}  // namespace moesaic::quantise
