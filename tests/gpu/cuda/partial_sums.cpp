#include "reference/cuda/partial_sums.h"

#include <catch2/catch.hpp>

#include "base/rng.h"

using namespace moesaic;

namespace {

numerics::WeightMatrix matrix(numerics::Format format, std::int64_t k, std::int64_t group_size, std::uint8_t zero_point,
                              std::uint16_t s) {
  numerics::WeightMatrix w;
  w.format = format;
  w.n = 1;
  w.k = k;
  w.group_size = group_size;
  w.codes.assign(static_cast<std::size_t>(k), 0);
  if (format.has_zero_point()) w.zero_point.assign(static_cast<std::size_t>(w.groups()), zero_point);
  w.group_multiplier.assign(static_cast<std::size_t>(w.groups()), s);
  w.level_multiplier.assign(static_cast<std::size_t>(format.stored_levels() * w.groups()), s);
  w.requant_multiplier = {1};
  w.requant_shift = {0};
  return w;
}

}  // namespace

TEST_CASE("the check allows 34 groups of 128 for int4 with s below 2^8, and none for s of 2^8", "[gpu][cuda]") {
  const auto format = numerics::Format::integer(4);
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(matrix(format, 512, 128, 8, 255)), 8) == 64);  // |w| <= 8
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(matrix(format, 512, 128, 0, 255)), 8) == 34);
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(matrix(format, 512, 128, 15, 255)), 8) == 34);
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(matrix(format, 512, 128, 8, 256)), 8) == 0);
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(matrix(format, 512, 128, 8, 255)), 16) == 0);
}

TEST_CASE("the check refuses a group that could pass int32 on its own", "[gpu][cuda]") {
  const auto format = numerics::Format::integer(8);
  // 2^31 - 1 = 128 * 255 * 65793.19: one more k than 65793 could overflow.
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(matrix(format, 65793, 65800, 0, 1)), 8) == 1);
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(matrix(format, 65794, 65800, 0, 1)), 8) == 0);
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(matrix(format, 65794, 65800, 0, 1)), 4) == 15);
}

TEST_CASE("the bound holds every code, zero point and format, and is reached", "[gpu][cuda]") {
  for (const numerics::Format& format : numerics::all_formats())
    for (int zero_point = 0; zero_point <= 255; zero_point += format.has_zero_point() ? 1 : 256) {
      const auto bounds = cuda::weight_bounds(matrix(format, 8, 8, static_cast<std::uint8_t>(zero_point), 1));
      std::int64_t greatest = 0;
      for (int code = 0; code <= format.max_code(); ++code)
        greatest = std::max<std::int64_t>(
            greatest, std::abs(format.weight(static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(zero_point))));
      CAPTURE(format.name(), zero_point);
      REQUIRE(bounds.max_weight == greatest);
    }
}

TEST_CASE("a level's multiplier of 2^8 forbids the int32 class, unless the level is not read", "[gpu][cuda]") {
  auto read = matrix(numerics::Format::mwq(2, 2, 2), 512, 128, 1, 255);
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(read), 8) > 0);
  read.level_multiplier.back() = 256;  // of the second level
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(read), 8) == 0);
  auto left = read;
  left.format = numerics::Format::mwq(2, 2, 1);
  CHECK(cuda::check_partial_sums(cuda::weight_bounds(left), 8) > 0);
}

TEST_CASE("sums of as many extreme groups as the check allows fit int32, and one more group does not", "[gpu][cuda]") {
  base::Rng rng(11);
  for (int i = 0; i < 200; ++i) {
    const auto format = rng.pick(numerics::all_formats());
    const int act_bits = rng.chance(1, 2) ? 4 : 8;
    const auto w = matrix(format, 8 * rng.range(1, 64), 8 * rng.range(1, 32),
                          static_cast<std::uint8_t>(rng.range(0, 255)), static_cast<std::uint16_t>(rng.range(1, 255)));
    const auto bounds = cuda::weight_bounds(w);
    const std::int64_t groups = cuda::check_partial_sums(bounds, act_bits);
    const std::int64_t one =
        bounds.longest_group * (std::int64_t{1} << (act_bits - 1)) * bounds.max_weight * bounds.max_multiplier;
    REQUIRE(groups * one <= 2147483647);
    REQUIRE((groups + 1) * one > 2147483647);
  }
}
