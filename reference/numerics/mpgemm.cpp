#include "reference/numerics/mpgemm.h"

#include <algorithm>

#include "base/error.h"
#include "reference/numerics/matmul_kernel.h"

namespace moesaic::numerics {

using base::ConfigError;

namespace {

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// Whether `size` elements are rows x columns, without forming a product that could overflow.
bool holds(std::size_t size, std::int64_t rows, std::int64_t columns) {
  return size % static_cast<std::size_t>(columns) == 0 &&
         size / static_cast<std::size_t>(columns) == static_cast<std::size_t>(rows);
}

void check_extent(std::int64_t value, const std::string& where, const std::string& key) {
  if (value < 1) throw ConfigError(where, key, std::to_string(value), "at least 1");
}

void check_holds(std::size_t size, std::int64_t rows, std::int64_t columns, const std::string& where,
                 const std::string& key) {
  if (!holds(size, rows, columns))
    throw ConfigError(where, key, std::to_string(size) + " elements",
                      "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]");
}

std::string element(const std::string& name, std::int64_t row, std::int64_t column) {
  return name + "[" + std::to_string(row) + ", " + std::to_string(column) + "]";
}

}  // namespace

std::int64_t WeightMatrix::multiplier_sum() const {
  std::int64_t most = 1;
  for (const auto s : group_multiplier) most = std::max<std::int64_t>(most, s);
  std::int64_t sum = most;
  for (int level = 0; level < format.stored_levels(); ++level) {
    most = 1;
    const auto begin = level_multiplier.begin() + level * n * groups();
    for (auto s = begin; s != begin + n * groups(); ++s) most = std::max<std::int64_t>(most, *s);
    sum += most;
  }
  return sum;
}

bool fits_accumulator(std::int64_t k, int act_bits, std::int64_t s_sum) {
  constexpr std::int64_t kMost = (std::int64_t{1} << (kAccumulatorBits - 1)) - 1;
  const std::int64_t per_k = (std::int64_t{255} << (act_bits - 1)) * std::max<std::int64_t>(1, s_sum);  // < 2^42
  return k <= kMost / per_k;
}

void validate(const WeightMatrix& w, int act_bits, const std::string& where, const std::string& prefix) {
  check_extent(w.n, where, prefix + "w: rows");
  check_extent(w.k, where, prefix + "w: columns");
  if (w.group_size < 8 || w.group_size % 8 != 0)
    throw ConfigError(where, "group_size", std::to_string(w.group_size), "a positive multiple of 8");
  const std::int64_t groups = w.groups();
  check_holds(w.codes.size(), w.n, w.k, where, prefix + "w");
  check_holds(w.group_multiplier.size(), w.n, groups, where, prefix + "group_multiplier");
  const std::int64_t levels = w.format.stored_levels();
  if (levels == 0 ? !w.level_multiplier.empty() : !holds(w.level_multiplier.size(), levels * w.n, groups))
    throw ConfigError(
        where, prefix + "level_multiplier", std::to_string(w.level_multiplier.size()) + " elements",
        levels == 0 ? "none for " + w.format.name()
                    : "[" + std::to_string(levels) + ", " + std::to_string(w.n) + ", " + std::to_string(groups) + "]");
  check_holds(w.requant_multiplier.size(), w.n, 1, where, prefix + "requant_multiplier");
  check_holds(w.requant_shift.size(), w.n, 1, where, prefix + "requant_shift");
  if (w.format.has_zero_point()) {
    check_holds(w.zero_point.size(), w.n, groups, where, prefix + "zero_point");
  } else if (!w.zero_point.empty()) {
    throw ConfigError(where, prefix + "zero_point", "zero points", "none for " + w.format.name());
  }
  const int most = w.format.max_code();
  const auto bad = std::find_if(w.codes.begin(), w.codes.end(), [most](std::uint8_t code) { return code > most; });
  if (bad != w.codes.end()) {
    const std::int64_t index = bad - w.codes.begin();
    throw ConfigError(where, element(prefix + "w", index / w.k, index % w.k), std::to_string(*bad),
                      "a code of " + w.format.name() + " from 0 to " + std::to_string(most));
  }
  if (!fits_accumulator(w.k, act_bits, w.multiplier_sum()))
    throw ConfigError(where, prefix + "group_multiplier",
                      (levels == 0 ? "a greatest of " : "greatest ones of base and levels that add up to ") +
                          std::to_string(w.multiplier_sum()) + " at k " + std::to_string(w.k),
                      "k * 2^" + std::to_string(act_bits - 1) + " * 255 * max(1, s) of at most 2^47 - 1");
}

void validate(const Activations& x, const std::string& where) {
  check_extent(x.m, where, "x: rows");
  check_extent(x.k, where, "x: columns");
  if (x.act_bits != 4 && x.act_bits != 8 && x.act_bits != 16)
    throw ConfigError(where, "act_bits", std::to_string(x.act_bits), "4, 8 or 16");
  check_holds(x.values.size(), x.m, x.k, where, "x");
  if (!x.token_shift.empty()) check_holds(x.token_shift.size(), x.m, 1, where, "token_shift");
  const int bits = x.act_bits;
  const auto bad = std::find_if(x.values.begin(), x.values.end(), [bits](std::int16_t v) { return !fits(v, bits); });
  if (bad != x.values.end()) {
    const std::int64_t index = bad - x.values.begin();
    const std::int64_t top = std::int64_t{1} << (bits - 1);
    throw ConfigError(where, element("x", index / x.k, index % x.k), std::to_string(*bad),
                      std::to_string(-top) + " to " + std::to_string(top - 1));
  }
}

void validate_shifts(const WeightMatrix& w, const Activations& x, const std::string& where, const std::string& prefix) {
  int most = 0;
  for (std::int64_t m = 0; m < x.m; ++m) most = std::max(most, x.shift(m));
  for (std::int64_t n = 0; n < w.n; ++n)
    if (w.requant_shift[at(n)] + most > kMaxRequantShift)
      throw ConfigError(where, prefix + "requant_shift[" + std::to_string(n) + "]",
                        std::to_string(w.requant_shift[at(n)]) + " and a token shift of " + std::to_string(most),
                        "a sum from 0 to " + std::to_string(kMaxRequantShift));
}

std::int64_t plane_sum(const WeightMatrix& w, std::int64_t row, std::int64_t g, const std::int16_t* x_row, int bundle) {
  const int planes = bundle == 0 ? w.format.base_planes() : 1;
  const int last_rank = w.format.base_planes() + bundle;
  std::int64_t p = 0;
  for (int j = 0; j < planes; ++j) {
    const int rank = last_rank - j;  // plane j weighs 2^j among those read, so the last rank read is plane 0
    std::int64_t sum = 0;
    for (std::int64_t k = w.group_begin(g); k < w.group_end(g); ++k)
      if (w.format.plane_bit(w.codes[at(row * w.k + k)], rank) != 0) sum += x_row[k];
    p += sum * (std::int64_t{1} << j);
  }
  return p;
}

std::int64_t activation_sum(const WeightMatrix& w, std::int64_t g, const std::int16_t* x_row) {
  std::int64_t sum = 0;
  for (std::int64_t k = w.group_begin(g); k < w.group_end(g); ++k) sum += x_row[k];
  return sum;
}

std::vector<std::int64_t> multiply_reference(const WeightMatrix& w, const Activations& x) {
  const std::int64_t groups = w.groups();
  std::vector<std::int64_t> acc(at(x.m * w.n));
  for (std::int64_t m = 0; m < x.m; ++m) {
    const std::int16_t* x_row = x.values.data() + m * x.k;
    for (std::int64_t n = 0; n < w.n; ++n)
      for (std::int64_t g = 0; g < groups; ++g)
        for (int bundle = 0; bundle <= w.format.levels(); ++bundle)
          acc[at(m * w.n + n)] +=
              dequantise_group(plane_sum(w, n, g, x_row, bundle), activation_sum(w, g, x_row),
                               bundle == 0 ? w.format.up() : Format::kLevelUp,
                               bundle == 0 ? w.offset(n, g) : Format::kLevelOffset, w.multipliers(bundle, n)[g]);
  }
  return acc;
}

std::vector<std::int64_t> multiply(const WeightMatrix& w, const Activations& x) {
  std::vector<std::int64_t> acc(at(x.m * w.n));
  multiply_part(w, x, 0, w.n, 0, x.m, acc.data());
  return acc;
}

void multiply_part(const WeightMatrix& w, const Activations& x, std::int64_t row_begin, std::int64_t row_end,
                   std::int64_t token_begin, std::int64_t token_end, std::int64_t* acc) {
  const std::int64_t groups = w.groups();
  const std::int64_t pairs = (w.k + 1) / 2;
  const std::int64_t group_pairs = std::min(w.group_size / 2, pairs);
  // |sum of a pair| <= 2 * 255 * 2^(act_bits-1)
  const std::int64_t chunk_pairs = ((std::int64_t{1} << 31) - 1) / (std::int64_t{510} << (x.act_bits - 1));
  const AccumulateRow accumulate = accumulate_row();

  // Tokens side by side: [block][pair][lane][2], zero where there is no token or no k.
  const std::int64_t blocks = (token_end - token_begin + kTokenLanes - 1) / kTokenLanes;
  std::vector<std::int16_t> lanes(at(blocks * pairs * kTokenLanes * 2));
  for (std::int64_t m = token_begin; m < token_end; ++m) {
    const std::int64_t block = (m - token_begin) / kTokenLanes;
    const std::int64_t lane = (m - token_begin) % kTokenLanes;
    std::int16_t* to = lanes.data() + (block * pairs * kTokenLanes + lane) * 2;
    const std::int16_t* from = x.values.data() + m * x.k;
    for (std::int64_t k = 0; k < x.k; ++k) to[(k / 2) * kTokenLanes * 2 + k % 2] = from[k];
  }

  const Format format = w.format;
  const int cut = format.base_cut();
  const int up = format.up();
  std::vector<std::int16_t> weights(at(pairs * 2));
  for (std::int64_t n = row_begin; n < row_end; ++n) {
    const std::uint8_t* codes = w.codes.data() + n * w.k;
    for (int bundle = 0; bundle <= format.levels(); ++bundle) {
      if (bundle == 0) {
        for (std::int64_t g = 0; g < groups; ++g) {
          const int z = w.offset(n, g);
          const std::int64_t end = w.group_end(g);
          for (std::int64_t k = w.group_begin(g); k < end; ++k)
            weights[at(k)] = static_cast<std::int16_t>(((codes[k] >> cut) << up) - z);
        }
      } else {
        for (std::int64_t k = 0; k < w.k; ++k)
          weights[at(k)] = static_cast<std::int16_t>(format.level_weight(codes[k], bundle));
      }
      for (std::int64_t block = 0; block < blocks; ++block) {
        std::int64_t sums[kTokenLanes] = {};
        accumulate(weights.data(), lanes.data() + block * pairs * kTokenLanes * 2, pairs, group_pairs, chunk_pairs,
                   w.multipliers(bundle, n), sums);
        const std::int64_t first = token_begin + block * kTokenLanes;
        const std::int64_t count = std::min<std::int64_t>(kTokenLanes, token_end - first);
        for (std::int64_t lane = 0; lane < count; ++lane) {
          std::int64_t& to = acc[(first + lane) * w.n + n];
          to = bundle == 0 ? sums[lane] : to + sums[lane];
        }
      }
    }
  }
}

std::vector<std::int16_t> requantise(const WeightMatrix& w, const std::vector<std::int64_t>& acc,
                                     const std::vector<int>& shift, int out_bits, const std::string& where,
                                     const std::string& prefix) {
  const auto m_count = static_cast<std::int64_t>(shift.size());
  std::vector<std::int16_t> y(acc.size());
  for (std::int64_t m = 0; m < m_count; ++m) {
    for (std::int64_t n = 0; n < w.n; ++n) {
      const int total = w.requant_shift[at(n)] + shift[at(m)];
      if (total < 0 || total > kMaxRequantShift)
        throw ConfigError(where, prefix + "requant_shift[" + std::to_string(n) + "]",
                          std::to_string(w.requant_shift[at(n)]) + (shift[at(m)] < 0 ? " - " : " + ") +
                              std::to_string(std::abs(shift[at(m)])) + " for token " + std::to_string(m),
                          "a shift from 0 to " + std::to_string(kMaxRequantShift));
      y[at(m * w.n + n)] = requantise(acc[at(m * w.n + n)], w.requant_multiplier[at(n)], total, out_bits);
    }
  }
  return y;
}

std::vector<int> token_shifts(const Activations& x) {
  std::vector<int> shifts;
  for (std::int64_t m = 0; m < x.m; ++m) shifts.push_back(x.shift(m));
  return shifts;
}

}  // namespace moesaic::numerics
