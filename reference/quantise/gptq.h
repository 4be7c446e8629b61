#pragma once
/// GPTQ (Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR
/// 2023), group by group: columns are rounded one after the other, and what rounding a column does to the output is
/// made up for by the columns that are still real. Minimises tr((W - Q) H (W - Q)^T) greedily, H the Hessian of the
/// squared output error over calibration inputs, H = sum over tokens of c * x x^T.
///
/// What comes out are the same deployable integers that round-to-nearest writes. A group's scale and zero point are
/// fitted as round_to_nearest.h fits them, on the weights as they are when the group's first column is reached; columns
/// keep their order. `nested` rounds to the 8-bit code whatever its width, and MWQ to all the levels stored, so that
/// one stored copy serves every width.
///
/// Plain double precision in a fixed order without contraction: the same bits on every machine.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "reference/numerics/format.h"
#include "reference/numerics/mpgemm.h"
#include "reference/quantise/fold.h"

namespace moesaic::quantise {

/// U, upper triangular, with U^T U = (H + damping * mean(diagonal of H) * I)^-1: what GPTQ needs to know of H.
struct InverseFactor {
  std::int64_t k = 0;
  std::vector<double> u;  ///< [k, k], row-major, zeros below the diagonal
};

/// h [k, k], row-major and symmetric; only its upper triangle is read. damping > 0. InputError (`where`) when the
/// diagonal holds nothing above 0 or something not finite, or when the damped matrix is not positive definite.
InverseFactor factor_inverse(const std::vector<double>& h, std::int64_t k, double damping, const std::string& where);

/// Of one expert's inputs: x for gate and up [hidden], the hidden row for down [intermediate]. Absent: all of them are
/// zero, and what they multiply is rounded to nearest.
struct ExpertCurvature {
  std::optional<InverseFactor> x;
  std::optional<InverseFactor> hidden;
};

/// Quantises w [n, k], row-major. The greatest group multiplier is at most half of what round-to-nearest would allow
/// itself, twice its greatest scale: room for groups that the compensation makes wider. InputError as
/// quantise_matrix().
numerics::WeightMatrix quantise_matrix_gptq(const float* w, std::int64_t n, std::int64_t k, const InverseFactor& factor,
                                            numerics::Format format, std::int64_t group_size, const MatrixUnits& units,
                                            const std::string& where);

}  // namespace moesaic::quantise
