#pragma once
/// Round-to-nearest quantisation of one group of weights: the scale, the zero point and the codes that come nearest to
/// the group in mean squared error, each weight rounded on its own.
///
///   int b     weight = scale * (code - zero point). For each zero point worth trying (all 2^b for b <= 3, else seven
///   around
///             the one that spans the group) the covering scale is shrunk in 1/32 steps down to a quarter (b <= 3), a
///             half (4) or four fifths, so that outliers may clip; the best is then refined by least squares.
///   nested b  the fit of int8, whatever b: one stored copy serves every width, read mid-point from its top b planes.
///   mwq b+l   the base as int b; then each level's scale is the mean magnitude of what the base and the levels above
///   it
///             leave, and its sign that of the weight's own: greedy, so that every width is a copy's own prefix.
///   binary    scale = mean |w|, the least-squares answer for signs.
///   ternary   the exact optimum: the t largest |w| share scale = their mean, for the best t.
///
/// All sums run in the order of k in double precision: the same group gives the same bits.
#include <array>
#include <cstdint>
#include <vector>

#include "reference/numerics/format.h"

namespace moesaic::quantise {

struct GroupFit {
  double scale = 0;  ///< >= 0; real value of one integer step
  std::uint8_t zero_point = 0;
};

/// Scale and zero point of w[0..count-1], of MWQ's base; every weight must be finite. A group of zeros has scale 0.
GroupFit fit_group(const float* w, std::int64_t count, numerics::Format format);

/// The code whose weight at this scale is nearest to w. A scale of 0 gives the code nearest to 0. For nested the code
/// is the 8-bit one, for MWQ the base's with its levels 0.
std::uint8_t encode(double w, double scale, std::uint8_t zero_point, numerics::Format format);

/// sum over the group of (w - scale * weight(code))^2; of MWQ the base alone.
double group_error(const float* w, std::int64_t count, double scale, std::uint8_t zero_point, numerics::Format format);

/// What the codes of one group stand for in a stored copy, whatever is read of it: nested 8 bits, MWQ all levels.
struct GroupGrid {
  /// `format` as it is to be read.
  GroupGrid(numerics::Format format, double scale, std::uint8_t zero_point);
  numerics::Format stored;
  double scale;
  std::uint8_t zero_point;
  std::array<double, 7> level{};  ///< scale of each level, 0 until fit_levels()

  std::uint8_t encode(double w) const;    ///< the whole code
  double value(std::uint8_t code) const;  ///< of all that is stored
};

/// Fits the levels of w[0..count-1] one below the other, each scale rounded to a multiple of `unit`, at most `top` of
/// them; returns the multiples, one a level.
std::vector<std::uint16_t> fit_levels(const float* w, std::int64_t count, double unit, int top, GroupGrid& grid);

}  // namespace moesaic::quantise
