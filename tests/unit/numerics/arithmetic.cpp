// reference/numerics: format, integer, mpgemm, swiglu, expert, combine.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"
#include "base/rng.h"
#include "reference/numerics/case_file.h"
#include "reference/numerics/combine.h"
#include "reference/numerics/expert.h"
#include "reference/numerics/matmul_kernel.h"
#include "reference/numerics/mpgemm.h"
#include "reference/numerics/swiglu.h"

using namespace moesaic::numerics;
using moesaic::base::InputError;
using moesaic::base::Rng;

namespace {

/// One row, one group, requantisation that passes the accumulator through.
WeightMatrix row_of(const Format& format, std::vector<std::uint8_t> codes, std::uint8_t zero_point, std::uint16_t s) {
  WeightMatrix w;
  w.format = format;
  w.n = 1;
  w.k = static_cast<std::int64_t>(codes.size());
  w.group_size = (w.k + 7) / 8 * 8;
  w.codes = std::move(codes);
  if (format.has_zero_point()) w.zero_point = {zero_point};
  w.group_multiplier = {s};
  w.requant_multiplier = {1};
  w.requant_shift = {0};
  return w;
}

Activations token(std::vector<std::int16_t> values, int act_bits) {
  Activations x;
  x.m = 1;
  x.k = static_cast<std::int64_t>(values.size());
  x.act_bits = act_bits;
  x.values = std::move(values);
  return x;
}

}  // namespace

TEST_CASE("every format's planes and offset rebuild the weight that its definition gives", "[unit][numerics]") {
  for (const Format& format : all_formats()) {
    CAPTURE(format.name());
    CHECK(Format::parse(format.name(), "w", "k") == format);
    for (int code = 0; code <= format.max_code(); ++code) {
      for (const int zp : {0, 1, 100, 128, 255}) {
        const auto c = static_cast<std::uint8_t>(code);
        const auto z = static_cast<std::uint8_t>(zp);
        int p = 0;
        for (int rank = 1; rank <= format.base_planes(); ++rank)
          p += format.plane_bit(c, rank) << (format.base_planes() - rank);
        const int weight = (p << format.up()) - format.offset(z);
        CHECK(weight == format.weight(c, z));
        CHECK(weight >= -255);
        CHECK(weight <= 255);
        switch (format.kind()) {
          case FormatKind::kInt:
            CHECK(weight == code - zp);
            break;
          case FormatKind::kNested: {
            const int cut = 8 - format.bits();
            CHECK(weight == (code >> cut << cut) + (cut > 0 ? 1 << (cut - 1) : 0) - zp);
            break;
          }
          case FormatKind::kBinary:
            CHECK(weight == (code == 1 ? 1 : -1));
            break;
          case FormatKind::kTernary:
            CHECK(weight == code - 1);
            break;
          case FormatKind::kMwq:
            CHECK(weight == (code >> format.stored_levels()) - zp);
            for (int level = 1; level <= format.stored_levels(); ++level)
              CHECK(format.level_weight(c, level) == ((code >> (format.stored_levels() - level)) % 2 == 1 ? 1 : -1));
            break;
        }
      }
    }
  }
}

TEST_CASE("there are 130 formats and a misspelt one is refused", "[unit][numerics]") {
  CHECK(one_bundle_formats().size() == 18);
  CHECK(mwq_formats().size() == 112);
  CHECK(all_formats().size() == 130);
  for (const char* name : {"int9", "int0", "int", "nested", "int10", "Int4", "binary1", "fp4", "", "mwq", "mwq2",
                           "mwq2+0", "mwq5+4", "mwq8+1", "mwq2+3of2", "mwq2+2of2", "mwq2+1of", "mwq0+1"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(Format::parse(name, "plan.yaml:3", "format"), InputError);
  }
  CHECK_THROWS_WITH(Format::parse("inr4", "plan.yaml:3", "format"),
                    "plan.yaml:3: format: got 'inr4', expected int1 to int8, nested1 to nested8, binary, ternary or "
                    "mwqB+L, mwqB+RofL");
  CHECK(Format::from_metadata("ternary", "", "case") == Format::ternary());
  CHECK(Format::from_metadata("binary", "1", "case") == Format::binary());
  CHECK_THROWS_WITH(Format::from_metadata("ternary", "3", "case"), "case: bits: got '3', expected 2 for ternary");
  CHECK_THROWS_WITH(Format::from_metadata("int", "9", "case"), "case: bits: got '9', expected 1 to 8");
  CHECK_THROWS_WITH(Format::from_metadata("nestd", "3", "case"),
                    "case: format: got 'nestd', expected one of int, nested, binary, ternary, mwqB+L, mwqB+RofL");
}

TEST_CASE("an MWQ format says its base, its levels and how many of them are read", "[unit][numerics]") {
  const Format format = Format::parse("mwq2+1of3", "w", "k");
  CHECK(format == Format::mwq(2, 3, 1));
  CHECK(format != Format::mwq(2, 3, 2));
  CHECK(format.bits() == 3);
  CHECK(format.stored_planes() == 5);
  CHECK(Format::parse("mwq2+3", "w", "k") == Format::mwq(2, 3, 3));
  CHECK(Format::from_metadata("mwq2+1of3", "3", "case") == format);
  CHECK(Format::from_metadata("mwq2+1of3", "", "case") == format);
  CHECK_THROWS_WITH(Format::from_metadata("mwq2+1of3", "2", "case"), "case: bits: got '2', expected 3 for mwq2+1of3");
  CHECK_THROWS_AS(Format::mwq(5, 4, 0), std::logic_error);
  CHECK_THROWS_AS(Format::mwq(2, 1, 2), std::logic_error);
}

TEST_CASE("an MWQ weight is its base and each level read, each times its own multiplier", "[unit][numerics]") {
  // Base 2 bits, two levels: codes 11'10, 01'11, 00'01; zero point 1.
  WeightMatrix w = row_of(Format::mwq(2, 2, 2), {0b1110, 0b0111, 0b0001}, 1, 100);
  w.level_multiplier = {30, 7};
  const Activations x = token({5, -3, 4}, 8);
  // 100 * (2 * 5 + 0 * -3 - 1 * 4) + 30 * (5 - 3 - 4) + 7 * (-5 - 3 + 4)
  CHECK(multiply_reference(w, x) == std::vector<std::int64_t>{600 - 60 - 28});
  w.format = Format::mwq(2, 2, 1);
  CHECK(multiply_reference(w, x) == std::vector<std::int64_t>{600 - 60});
  w.format = Format::mwq(2, 2, 0);
  CHECK(multiply_reference(w, x) == std::vector<std::int64_t>{600});
  CHECK(multiply_reference(row_of(Format::integer(2), {3, 1, 0}, 1, 100), x) == std::vector<std::int64_t>{600});
}

TEST_CASE("a level that is not read changes nothing, whatever its plane and multiplier", "[unit][numerics]") {
  Rng rng(16);
  CaseOptions options;
  options.expert = options.combine = false;
  for (int i = 0; i < 60; ++i) {
    const int base = static_cast<int>(rng.range(1, 6)), stored = static_cast<int>(rng.range(1, 8 - base));
    const int read = static_cast<int>(rng.range(0, stored - 1));
    options.formats = {Format::mwq(base, stored, read)};
    auto c = std::get<MpgemmCase>(random_case(rng, options));
    const auto expected = multiply(c.w, c.x);
    for (auto& code : c.w.codes)
      code = static_cast<std::uint8_t>(code ^ rng.below(std::uint64_t{1} << (stored - read)));
    const auto unread = static_cast<std::size_t>(read * c.w.n * c.w.groups());
    for (std::size_t at = unread; at < c.w.level_multiplier.size(); ++at)
      c.w.level_multiplier[at] = static_cast<std::uint16_t>(rng.below(65536));
    REQUIRE(multiply(c.w, c.x) == expected);
    REQUIRE(multiply_reference(c.w, c.x) == expected);
  }
}

TEST_CASE("rshift_round rounds half up and never needs more than 64 bits", "[unit][numerics]") {
  CHECK(rshift_round(5, 0) == 5);
  CHECK(rshift_round(5, 1) == 3);
  CHECK(rshift_round(-5, 1) == -2);
  CHECK(rshift_round(-6, 2) == -1);
  CHECK(rshift_round(std::numeric_limits<std::int64_t>::max(), 62) == 2);
  CHECK(rshift_round(std::numeric_limits<std::int64_t>::min(), 62) == -2);
  CHECK(rshift_round(std::numeric_limits<std::int64_t>::max(), 1) == std::int64_t{1} << 62);
  // Against floor(v / 2^t + 1/2) in wide integers.
  Rng rng(3);
  for (int i = 0; i < 20000; ++i) {
    const auto v = static_cast<std::int64_t>(rng.next()) >> rng.below(64);
    const int t = static_cast<int>(rng.below(63));
    const __int128 half = t == 0 ? 0 : static_cast<__int128>(1) << (t - 1);
    REQUIRE(rshift_round(v, t) == static_cast<std::int64_t>((static_cast<__int128>(v) + half) >> t));
  }
}

TEST_CASE("saturation keeps what fits and clips the rest", "[unit][numerics]") {
  CHECK(saturate(7, 4) == 7);
  CHECK(saturate(8, 4) == 7);
  CHECK(saturate(-8, 4) == -8);
  CHECK(saturate(-9, 4) == -8);
  CHECK(saturate(40000, 16) == 32767);
  CHECK_FALSE(fits(128, 8));
  CHECK(fits(-128, 8));
}

TEST_CASE("the 48-bit bound holds up to its last value and not one further", "[unit][numerics]") {
  CHECK(fits_accumulator(257, 16, 65535));  // 257 * 255 = 65535: every factor at its greatest
  CHECK_FALSE(fits_accumulator(258, 16, 65535));
  CHECK(fits_accumulator((((std::int64_t{1} << 47) - 1) / (255 * 128)), 8, 0));
  CHECK_FALSE(fits_accumulator((((std::int64_t{1} << 47) - 1) / (255 * 128)) + 1, 8, 1));
  CHECK_FALSE(fits_accumulator(std::numeric_limits<std::int64_t>::max(), 16, 65535));

  const auto at_bound = [](std::size_t k) {
    return row_of(Format::integer(8), std::vector<std::uint8_t>(k, 255), 0, 65535);
  };
  const Activations x = token(std::vector<std::int16_t>(257, -32768), 16);
  const WeightMatrix w = at_bound(257);
  CHECK_NOTHROW(validate(w, 16, "case"));
  const std::int64_t expected = -std::int64_t{257} * 32768 * 255 * 65535;
  CHECK(multiply_reference(w, x) == std::vector<std::int64_t>{expected});
  CHECK(multiply(w, x) == std::vector<std::int64_t>{expected});
  CHECK_THROWS_WITH(
      validate(at_bound(258), 16, "case"),
      "case: group_multiplier: got a greatest of 65535 at k 258, expected k * 2^15 * 255 * max(1, s) of at "
      "most 2^47 - 1");

  // Base and levels share the bound, also those that are not read.
  WeightMatrix levels = row_of(Format::mwq(2, 2, 1), std::vector<std::uint8_t>(257, 15), 0, 65535 - 400);
  levels.level_multiplier = {300, 102};  // 65535 * 65537 = 2^32 - 1
  CHECK(levels.multiplier_sum() == 65537);
  CHECK_NOTHROW(validate(levels, 16, "case"));
  levels.level_multiplier = {300, 103};
  CHECK_THROWS_WITH(validate(levels, 16, "case"),
                    "case: group_multiplier: got greatest ones of base and levels that add up to 65538 at k 257, "
                    "expected k * 2^15 * 255 * max(1, s) of at most 2^47 - 1");
  levels.level_multiplier = {300};
  CHECK_THROWS_WITH(validate(levels, 16, "case"), "case: level_multiplier: got 1 elements, expected [2, 1, 1]");
}

TEST_CASE("the greatest accumulator times the greatest multiplier survives requantisation", "[unit][numerics]") {
  constexpr std::int64_t kMost = (std::int64_t{1} << 47) - 1;
  CHECK(requantise(kMost, 65535, 62, 16) == 2);
  CHECK(requantise(-kMost, 65535, 62, 16) == -2);
  CHECK(requantise(kMost, 65535, 0, 4) == 7);
  CHECK(requantise(-kMost, 65535, 47, 16) == -32768);
}

TEST_CASE("a zero group multiplier still allows a sum only within the bound of one", "[unit][numerics]") {
  WeightMatrix w = row_of(Format::integer(1), std::vector<std::uint8_t>(16, 1), 0, 0);
  CHECK(w.multiplier_sum() == 1);
  CHECK(multiply(w, token(std::vector<std::int16_t>(16, 7), 4)) == std::vector<std::int64_t>{0});
}

TEST_CASE("the vectorised path equals the bit planes on every random case", "[unit][numerics]") {
  const Rng root(20240601);
  for (std::uint64_t i = 0; i < 1500; ++i) {
    Rng rng = root.stream("paths", i);
    const KernelCase c = random_case(rng);
    CAPTURE(i, describe(c));
    REQUIRE_NOTHROW(validate(c, "case"));
    REQUIRE(first_difference(c, run_case(c, Path::kVectorised), run_case(c, Path::kReference)).empty());
  }
}

TEST_CASE("long rows with one huge group agree on both paths", "[unit][numerics]") {
  // Longer than a 32-bit partial sum allows, at every activation width.
  Rng rng(9);
  for (const int act_bits : {4, 8, 16}) {
    const std::int64_t k = act_bits == 16 ? 3001 : 70001;
    const int top = 1 << (act_bits - 1);
    WeightMatrix w = row_of(Format::integer(8), std::vector<std::uint8_t>(static_cast<std::size_t>(k), 255), 0, 3);
    const Activations x =
        token(std::vector<std::int16_t>(static_cast<std::size_t>(k), static_cast<std::int16_t>(-top)), act_bits);
    CHECK(multiply(w, x) == multiply_reference(w, x));
    CHECK(multiply(w, x)[0] == -std::int64_t{3} * 255 * top * k);
  }
}

TEST_CASE("every instruction set gives the same sums", "[unit][numerics]") {
  NamedKernel kernels[3] = {};
  const int count = runnable_kernels(kernels);
  Rng rng(77);
  for (int round = 0; round < 200; ++round) {
    const std::int64_t pairs = rng.range(1, 400);
    const std::int64_t group_pairs = 4 * rng.range(1, 40);
    std::vector<std::int16_t> w, x;
    std::vector<std::uint16_t> s;
    for (std::int64_t i = 0; i < 2 * pairs; ++i)
      w.push_back(static_cast<std::int16_t>(rng.chance(1, 3) ? -255 : rng.range(-255, 255)));
    for (std::int64_t i = 0; i < 2 * pairs * kTokenLanes; ++i)
      x.push_back(static_cast<std::int16_t>(rng.chance(1, 3) ? -32768 : rng.range(-32768, 32767)));
    for (std::int64_t g = 0; g <= pairs / group_pairs; ++g) s.push_back(static_cast<std::uint16_t>(rng.below(65536)));
    std::vector<std::int64_t> expected(kTokenLanes, 5);
    kernels[0].run(w.data(), x.data(), pairs, group_pairs, 128, s.data(), expected.data());
    for (int i = 1; i < count; ++i) {
      CAPTURE(kernels[i].name);
      std::vector<std::int64_t> got(kTokenLanes, 5);
      kernels[i].run(w.data(), x.data(), pairs, group_pairs, 128, s.data(), got.data());
      REQUIRE(got == expected);
    }
  }
}

TEST_CASE("a part of a product equals the same part of the whole", "[unit][numerics]") {
  Rng rng(5);
  CaseOptions options;
  options.max_m = 80;
  options.expert = options.combine = false;
  for (int i = 0; i < 50; ++i) {
    const auto c = std::get<MpgemmCase>(random_case(rng, options));
    const auto whole = multiply(c.w, c.x);
    std::vector<std::int64_t> parts(whole.size());
    const std::int64_t n = rng.range(0, c.w.n), m = rng.range(0, c.x.m);
    multiply_part(c.w, c.x, 0, n, 0, m, parts.data());
    multiply_part(c.w, c.x, 0, n, m, c.x.m, parts.data());
    multiply_part(c.w, c.x, n, c.w.n, 0, c.x.m, parts.data());
    REQUIRE(parts == whole);
  }
}

TEST_CASE("a nested weight read at fewer bits ignores every lower plane", "[unit][numerics]") {
  Rng rng(15);
  for (int bits = 1; bits <= 7; ++bits) {
    std::vector<std::uint8_t> codes(40), cut;
    for (auto& c : codes) c = static_cast<std::uint8_t>(rng.below(256));
    for (const auto c : codes) cut.push_back(static_cast<std::uint8_t>(c >> (8 - bits) << (8 - bits)));
    const Activations x = token(std::vector<std::int16_t>(40, 11), 8);
    CHECK(multiply(row_of(Format::nested(bits), codes, 99, 7), x) ==
          multiply(row_of(Format::nested(bits), cut, 99, 7), x));
  }
}

TEST_CASE("the sigmoid table is round(32768 / (1 + exp(-i / 8)))", "[unit][numerics]") {
  for (int i = 0; i <= 64; ++i)
    CHECK(kSigmoidRom[static_cast<std::size_t>(i)] == std::lround(32768 / (1 + std::exp(-i / 8.0))));
}

TEST_CASE("the interpolated sigmoid is odd about a half, monotonic and near the real one", "[unit][numerics]") {
  std::int32_t last = 0;
  for (int g = -32768; g <= 32767; ++g) {
    const std::int32_t s = sigmoid(static_cast<std::int16_t>(g));
    REQUIRE(s >= last);
    REQUIRE(std::abs(s / 32768.0 - 1 / (1 + std::exp(-g / 1024.0))) < 4e-4);
    if (g > -32768) REQUIRE(s + sigmoid(static_cast<std::int16_t>(-g)) == 32768);
    last = s;
  }
}

TEST_CASE("the hidden shift is the least that fits, even when rounding carries", "[unit][numerics]") {
  const auto shift = [](std::vector<std::int16_t> h, int bits) {
    return hidden_shift(h.data(), static_cast<std::int64_t>(h.size()), bits);
  };
  CHECK(shift({0, 0}, 8) == 0);
  CHECK(shift({127, -128}, 8) == 0);
  CHECK(shift({128}, 8) == 1);
  CHECK(shift({255}, 8) == 2);   // 255 >> 1 rounds to 128, which does not fit
  CHECK(shift({-257}, 8) == 1);  // -128.5 rounds up to -128
  CHECK(shift({32767}, 8) == 9);
  CHECK(shift({-32768}, 8) == 8);
  CHECK(shift({32767}, 4) == 13);
  CHECK(shift({32767, -32768}, 16) == 0);
  // Against the definition, over all int16.
  for (const int bits : {4, 8, 16})
    for (int h = -32768; h <= 32767; ++h) {
      int least = 0;
      while (!fits(rshift_round(h, least), bits)) ++least;
      const auto value = static_cast<std::int16_t>(h);
      REQUIRE(hidden_shift(&value, 1, bits) == least);
    }
}

TEST_CASE("an expert whose down shift leaves 0 to 62 for its data is refused by token and column", "[unit][numerics]") {
  Rng rng(1);
  CaseOptions options;
  options.mpgemm = options.combine = false;
  options.extremes = false;
  options.max_act_bits = 4;
  ExpertCase c;
  ExpertResult result;
  do {
    c = std::get<ExpertCase>(random_case(rng, options));
    result = expert_ffn(c.w, c.x);
  } while (result.eh[0] == 0);
  c.w.down.requant_shift[0] = static_cast<std::uint8_t>(result.eh[0] - 1);
  CHECK_NOTHROW(validate(c.w, c.x, "case"));
  CHECK_THROWS_WITH(expert_ffn(c.w, c.x, Path::kVectorised, "case"),
                    "case: down.requant_shift[0]: got " + std::to_string(result.eh[0] - 1) + " - " +
                        std::to_string(result.eh[0]) + " for token 0, expected a shift from 0 to 62");
  c.w.down.requant_shift[0] = static_cast<std::uint8_t>(63 + result.eh[0]);
  CHECK_THROWS_AS(expert_ffn(c.w, c.x), InputError);
}

TEST_CASE("combination weights of 1.0 on one expert return that expert", "[unit][numerics]") {
  const std::vector<std::int16_t> down = {100, -32768, 5, 32767};  // [2, 1, 2]
  CHECK(combine(down, {32768, 0}, 2, 1, 2) == std::vector<std::int16_t>{100, -32768});
  CHECK(combine(down, {0, 32768}, 2, 1, 2) == std::vector<std::int16_t>{5, 32767});
  CHECK(combine(down, {16384, 16384}, 2, 1, 2) == std::vector<std::int16_t>{53, 0});
  CHECK(combine(down, {65535, 65535}, 2, 1, 2) == std::vector<std::int16_t>{210, -2});
}

TEST_CASE("what no implementation may see is refused with its element", "[unit][numerics]") {
  const WeightMatrix good = row_of(Format::ternary(), {0, 1, 2}, 0, 1);
  WeightMatrix w = good;
  w.codes[1] = 3;
  CHECK_THROWS_WITH(validate(w, 8, "case", "gate."),
                    "case: gate.w[0, 1]: got 3, expected a code of ternary from 0 to 2");
  w = good;
  w.group_size = 12;
  CHECK_THROWS_WITH(validate(w, 8, "case"), "case: group_size: got 12, expected a positive multiple of 8");
  w = good;
  w.requant_shift = {63};
  CHECK_THROWS_WITH(validate_shifts(w, token({1, 1, 1}, 8), "case"),
                    "case: requant_shift[0]: got 63 and a token shift of 0, expected a sum from 0 to 62");
  CHECK_THROWS_WITH(validate(token({0, 8}, 4), "case"), "case: x[0, 1]: got 8, expected -8 to 7");
  CHECK_THROWS_WITH(validate(token({0}, 5), "case"), "case: act_bits: got 5, expected 4, 8 or 16");
}
