#include <algorithm>

#include "reference/numerics/case_file.h"
#include "reference/numerics/swiglu.h"

namespace moesaic::numerics {

namespace {

/// How values are drawn: spread out, all at the ends of their range, or mostly zero.
enum class Draw { kUniform, kLowest, kHighest, kEnds, kSparse };

Draw draw_kind(base::Rng& rng, bool extremes) {
  if (!extremes || rng.chance(3, 4)) return Draw::kUniform;
  return rng.pick(std::vector<Draw>{Draw::kLowest, Draw::kHighest, Draw::kEnds, Draw::kSparse});
}

template <class T>
std::vector<T> draw(base::Rng& rng, Draw kind, std::int64_t count, std::int64_t lo, std::int64_t hi) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (auto& value : values) {
    std::int64_t v = 0;
    switch (kind) {
      case Draw::kUniform:
        v = rng.range(lo, hi);
        break;
      case Draw::kLowest:
        v = lo;
        break;
      case Draw::kHighest:
        v = hi;
        break;
      case Draw::kEnds:
        v = rng.chance(1, 2) ? lo : hi;
        break;
      case Draw::kSparse:
        v = rng.chance(1, 8) ? rng.range(lo, hi) : std::clamp<std::int64_t>(0, lo, hi);
        break;
    }
    value = static_cast<T>(v);
  }
  return values;
}

// 1..most, with a liking for the sizes of arrays and one either side.
std::int64_t draw_extent(base::Rng& rng, std::int64_t most) {
  std::int64_t extent = rng.range(1, most);
  if (rng.chance(1, 3))
    extent = std::int64_t{4} * (std::int64_t{1} << rng.below(4)) * rng.range(1, 2) + rng.range(-1, 1);
  return std::clamp<std::int64_t>(extent, 1, most);
}

std::int64_t draw_group_size(base::Rng& rng, std::int64_t k) {
  switch (rng.below(4)) {
    case 0:
      return std::int64_t{8} << rng.below(5);  // 8 to 128
    case 1:
      return 8 * rng.range(1, std::max<std::int64_t>(1, k / 8));
    case 2:
      return (k + 7) / 8 * 8 + 8 * rng.range(0, 2);  // one group, perhaps larger than k
    default:
      return 8 * rng.range(1, 12);
  }
}

int bit_length(std::int64_t magnitude) {
  int bits = 0;
  for (; magnitude > 0; magnitude >>= 1) ++bits;
  return bits;
}

WeightMatrix draw_weights(base::Rng& rng, const Format& format, std::int64_t n, std::int64_t k, std::int64_t group_size,
                          int act_bits, bool extremes) {
  WeightMatrix w;
  w.format = format;
  w.n = n;
  w.k = k;
  w.group_size = group_size;
  const std::int64_t parameters = n * w.groups();
  w.codes = draw<std::uint8_t>(rng, draw_kind(rng, extremes), n * k, 0, format.max_code());
  const int base_top = format.kind() == FormatKind::kMwq ? (1 << format.base_planes()) - 1 : format.max_code();
  if (format.has_zero_point()) {
    // Near the middle of the codes, as a quantiser places it, or anywhere.
    const bool anywhere = extremes && rng.chance(1, 3);
    w.zero_point = draw<std::uint8_t>(rng, anywhere ? draw_kind(rng, true) : Draw::kUniform, parameters, 0,
                                      anywhere ? 255 : base_top);
  }
  std::int64_t most = (std::int64_t{1} << rng.pick(std::vector<int>{1, 4, 8, 12, 16})) - 1;
  const int bundles = 1 + format.stored_levels();
  while (!fits_accumulator(k, act_bits, bundles * std::max<std::int64_t>(1, most))) most /= 2;
  w.group_multiplier = draw<std::uint16_t>(rng, draw_kind(rng, extremes), parameters, 0, most);
  const Draw mu = draw_kind(rng, extremes);
  w.requant_multiplier = draw<std::uint16_t>(rng, mu, n, mu == Draw::kUniform ? 1 : 0, 65535);
  w.requant_shift.resize(static_cast<std::size_t>(n));
  if (format.stored_levels() > 0)
    w.level_multiplier =
        draw<std::uint16_t>(rng, draw_kind(rng, extremes), format.stored_levels() * parameters, 0, most);
  return w;
}

// Shifts for which outputs fill about `bits` bits, some columns saturating and some nearly vanishing, and
// lo <= sigma <= hi.
void choose_shifts(base::Rng& rng, WeightMatrix& w, const std::vector<std::int64_t>& acc, int bits, int lo, int hi,
                   bool extremes) {
  const bool anywhere = extremes && rng.chance(1, 6);
  const auto n_count = static_cast<std::size_t>(w.n);
  for (std::size_t n = 0; n < n_count; ++n) {
    std::int64_t most = 0;
    for (std::size_t i = n; i < acc.size(); i += n_count) most = std::max(most, acc[i] < 0 ? -acc[i] : acc[i]);
    const std::int64_t tuned = bit_length(most * w.requant_multiplier[n]) - (bits - 1) + rng.range(-1, 2);
    w.requant_shift[n] =
        static_cast<std::uint8_t>(anywhere ? rng.range(lo, hi) : std::clamp<std::int64_t>(tuned, lo, hi));
  }
}

Activations draw_activations(base::Rng& rng, std::int64_t m, std::int64_t k, int act_bits, bool extremes) {
  Activations x;
  x.m = m;
  x.k = k;
  x.act_bits = act_bits;
  const std::int64_t top = std::int64_t{1} << (act_bits - 1);
  x.values = draw<std::int16_t>(rng, draw_kind(rng, extremes), m * k, -top, top - 1);
  if (rng.chance(1, 2)) x.token_shift = draw<std::uint8_t>(rng, Draw::kUniform, m, 0, 6);
  if (extremes && rng.chance(1, 8)) x.token_shift = draw<std::uint8_t>(rng, Draw::kUniform, m, 0, kMaxRequantShift);
  return x;
}

int greatest_shift(const Activations& x) {
  int most = 0;
  for (std::int64_t m = 0; m < x.m; ++m) most = std::max(most, x.shift(m));
  return most;
}

// 257 * 2^15 * 255 * 65535 is the last product at or below 2^47 - 1: every factor is at its greatest.
MpgemmCase bound_case(base::Rng& rng, const Format& format) {
  MpgemmCase c;
  c.x = draw_activations(rng, rng.range(1, 2), 257, 16, true);
  const Draw end = rng.chance(1, 2) ? Draw::kLowest : Draw::kHighest;
  c.x.values = draw<std::int16_t>(rng, end, c.x.m * c.x.k, -32768, 32767);
  c.w = draw_weights(rng, format, rng.range(1, 5), 257, draw_group_size(rng, 257), 16, true);
  const std::int64_t parameters = c.w.n * c.w.groups();
  c.w.codes =
      draw<std::uint8_t>(rng, rng.chance(1, 2) ? Draw::kLowest : Draw::kHighest, c.w.n * c.w.k, 0, format.max_code());
  const std::int64_t share = 65535 / (1 + format.stored_levels());  // of a level; the base takes what is left
  c.w.group_multiplier =
      draw<std::uint16_t>(rng, Draw::kHighest, parameters, 0, 65535 - format.stored_levels() * share);
  c.w.level_multiplier.assign(static_cast<std::size_t>(format.stored_levels() * parameters),
                              static_cast<std::uint16_t>(share));
  if (format.has_zero_point())
    c.w.zero_point = draw<std::uint8_t>(rng, rng.chance(1, 2) ? Draw::kLowest : Draw::kHighest, parameters, 0, 255);
  c.w.requant_multiplier =
      draw<std::uint16_t>(rng, rng.chance(1, 2) ? Draw::kHighest : Draw::kUniform, c.w.n, 0, 65535);
  return c;
}

MpgemmCase random_mpgemm(base::Rng& rng, const CaseOptions& options, const Format& format, int act_bits) {
  MpgemmCase c;
  if (options.extremes && options.max_act_bits == 16 && rng.chance(1, 20)) {
    c = bound_case(rng, format);
  } else {
    const std::int64_t k = draw_extent(rng, options.max_k);
    c.x = draw_activations(rng, draw_extent(rng, options.max_m), k, act_bits, options.extremes);
    c.w = draw_weights(rng, format, draw_extent(rng, options.max_n), k, draw_group_size(rng, k), act_bits,
                       options.extremes);
  }
  c.out_bits = rng.pick(std::vector<int>{4, 8, 16});
  choose_shifts(rng, c.w, multiply(c.w, c.x), c.out_bits, 0, kMaxRequantShift - greatest_shift(c.x), options.extremes);
  return c;
}

Format draw_format(base::Rng& rng, const CaseOptions& options) {
  return options.formats.empty() ? rng.pick(rng.chance(1, 4) ? mwq_formats() : one_bundle_formats())
                                 : rng.pick(options.formats);
}

ExpertCase random_expert(base::Rng& rng, const CaseOptions& options, const ExpertFormats& formats, int act_bits) {
  ExpertCase c;
  const std::int64_t hidden = draw_extent(rng, std::min(options.max_k, options.max_n));
  const std::int64_t intermediate = draw_extent(rng, std::min(options.max_k, options.max_n));
  const std::int64_t group = draw_group_size(rng, std::max(hidden, intermediate));
  c.x = draw_activations(rng, draw_extent(rng, options.max_m), hidden, act_bits, options.extremes);
  c.w.gate = draw_weights(rng, formats.gate, intermediate, hidden, group, act_bits, options.extremes);
  c.w.up = draw_weights(rng, formats.up, intermediate, hidden, group, act_bits, options.extremes);
  c.w.down = draw_weights(rng, formats.down, hidden, intermediate, group, act_bits, options.extremes);
  const int top = kMaxRequantShift - greatest_shift(c.x);
  // The sigmoid bends where 11 to 14 bits are filled.
  const auto gate_acc = multiply(c.w.gate, c.x);
  const auto up_acc = multiply(c.w.up, c.x);
  choose_shifts(rng, c.w.gate, gate_acc, static_cast<int>(rng.range(11, 16)), 0, top, options.extremes);
  choose_shifts(rng, c.w.up, up_acc, static_cast<int>(rng.range(8, 16)), 0, top, options.extremes);

  // The least sigma_h that does not saturate, give or take a few, so that h fills its 16 bits.
  const std::vector<int> shifts = token_shifts(c.x);
  const auto g = requantise(c.w.gate, gate_acc, shifts, 16, "random case", "gate.");
  const auto u = requantise(c.w.up, up_acc, shifts, 16, "random case", "up.");
  std::int64_t most = 0;
  for (std::size_t i = 0; i < g.size(); ++i) {
    const std::int64_t h = rshift_round(static_cast<std::int64_t>(g[i]) * sigmoid(g[i]), 15) * u[i];
    most = std::max(most, h < 0 ? -h : h);
  }
  c.w.sigma_h = static_cast<int>(std::clamp<std::int64_t>(bit_length(most) - 15 + rng.range(-2, 6), 0, kMaxSigmaH));
  std::vector<std::int16_t> h(g.size());
  for (std::size_t i = 0; i < g.size(); ++i) h[i] = swiglu(g[i], u[i], c.w.sigma_h);
  std::vector<std::uint8_t> eh;
  const Activations down_x = hidden_activations(h, c.x.m, intermediate, act_bits, eh);
  const int least_eh = *std::min_element(eh.begin(), eh.end());
  const int most_eh = *std::max_element(eh.begin(), eh.end());
  choose_shifts(rng, c.w.down, multiply(c.w.down, down_x), 16, most_eh, kMaxRequantShift + least_eh, options.extremes);
  for (auto& sigma : c.w.down.requant_shift)  // eh is taken off again
    if (sigma + most_eh <= kMaxRequantShift) sigma = static_cast<std::uint8_t>(sigma + rng.range(0, most_eh));
  return c;
}

CombineCase random_combine(base::Rng& rng, const CaseOptions& options) {
  CombineCase c;
  c.experts = rng.range(1, options.max_experts);
  c.m = draw_extent(rng, options.max_m);
  c.hidden = draw_extent(rng, options.max_n);
  c.down = draw<std::int16_t>(rng, draw_kind(rng, options.extremes), c.experts * c.m * c.hidden, -32768, 32767);
  c.r = draw<std::uint16_t>(rng, draw_kind(rng, options.extremes), c.m * c.experts, 0,
                            options.extremes && rng.chance(1, 4) ? 65535 : kRouterOne);
  return c;
}

}  // namespace

KernelCase random_case(base::Rng& rng, const CaseOptions& options) {
  const Format format = draw_format(rng, options);
  std::vector<int> widths = {4};
  if (options.max_act_bits >= 8) widths.push_back(8);
  if (options.max_act_bits >= 16) widths.push_back(16);
  const int act_bits = rng.pick(widths);
  const std::size_t operation =
      rng.weighted({options.mpgemm ? 6.0 : 0, options.expert ? 3.0 : 0, options.combine ? 1.0 : 0});
  if (operation == 0) return random_mpgemm(rng, options, format, act_bits);
  if (operation == 1) {
    ExpertFormats formats = format;
    if (options.mixed_experts && rng.chance(1, 2)) {
      formats.down = draw_format(rng, options);
      if (rng.chance(1, 2)) formats.up = draw_format(rng, options);
    }
    return random_expert(rng, options, formats, act_bits);
  }
  return random_combine(rng, options);
}

}  // namespace moesaic::numerics
