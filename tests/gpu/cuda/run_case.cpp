#include "reference/cuda/run_case.h"

#include <catch2/catch.hpp>
#include <future>

#include "base/error.h"
#include "base/rng.h"
#include "reference/cuda/availability.h"

using namespace moesaic;
using cuda::MatmulClass;
using numerics::Format;

namespace {

bool has_gpu() {
  if (cuda::availability().is_available) return true;
  WARN("skipped: " << cuda::availability().reason);
  return false;
}

void require_equal(const numerics::KernelCase& kernel_case, numerics::Path path = numerics::Path::kVectorised) {
  CAPTURE(numerics::describe(kernel_case));
  const auto expected = numerics::run_case(kernel_case, path);
  REQUIRE(numerics::first_difference(kernel_case, cuda::run_case(kernel_case), expected) == "");
  REQUIRE(numerics::first_difference(kernel_case, cuda::run_case(kernel_case, "case", MatmulClass::kExact), expected) ==
          "");
}

/// A product in which every activation, code, zero point and multiplier has one value each.
numerics::MpgemmCase constant_case(Format format, std::int64_t m, std::int64_t n, std::int64_t k,
                                   std::int64_t group_size, int act_bits, std::int16_t x, std::uint8_t code,
                                   std::uint8_t zero_point, std::uint16_t s) {
  numerics::MpgemmCase c;
  c.w.format = format;
  c.w.n = n;
  c.w.k = k;
  c.w.group_size = group_size;
  c.w.codes.assign(static_cast<std::size_t>(n * k), code);
  if (format.has_zero_point()) c.w.zero_point.assign(static_cast<std::size_t>(n * c.w.groups()), zero_point);
  c.w.group_multiplier.assign(static_cast<std::size_t>(n * c.w.groups()), s);
  c.w.level_multiplier.assign(static_cast<std::size_t>(format.stored_levels() * n * c.w.groups()), s);
  c.w.requant_multiplier.assign(static_cast<std::size_t>(n), 65535);
  c.w.requant_shift.assign(static_cast<std::size_t>(n), 48);
  c.x.m = m;
  c.x.k = k;
  c.x.act_bits = act_bits;
  c.x.values.assign(static_cast<std::size_t>(m * k), x);
  c.out_bits = 16;
  numerics::validate(c, "constant_case");
  return c;
}

/// The longest K that the 48-bit bound allows.
std::int64_t longest_k(int act_bits, std::int64_t s) {
  return ((std::int64_t{1} << 47) - 1) / ((std::int64_t{1} << (act_bits - 1)) * 255 * s);
}

}  // namespace

TEST_CASE("small random cases of every operation equal the definition on the GPU", "[gpu][cuda]") {
  if (!has_gpu()) return;
  base::Rng rng(20240601);
  for (int i = 0; i < 400; ++i) require_equal(numerics::random_case(rng), numerics::Path::kReference);
  numerics::CaseOptions options;
  options.mpgemm = options.combine = false;
  options.mixed_experts = true;
  for (int i = 0; i < 100; ++i) require_equal(numerics::random_case(rng, options), numerics::Path::kReference);
}

TEST_CASE("every format, activation width and output width equals the definition on ragged shapes", "[gpu][cuda]") {
  if (!has_gpu()) return;
  base::Rng rng(7);
  for (const Format& format : numerics::all_formats()) {
    numerics::CaseOptions options;
    options.formats = {format};
    options.combine = false;
    for (int i = 0; i < (format.stored_levels() > 0 ? 6 : 25); ++i)
      require_equal(numerics::random_case(rng, options), numerics::Path::kReference);
  }
}

TEST_CASE("cases of many tiles equal the vectorised path", "[gpu][cuda]") {
  if (!has_gpu()) return;
  base::Rng rng(99);
  numerics::CaseOptions options;
  options.max_m = 90;
  options.max_n = 300;
  options.max_k = 1200;
  options.max_experts = 40;
  for (int i = 0; i < 60; ++i) require_equal(numerics::random_case(rng, options));
}

TEST_CASE("sums at the 48-bit bound are exact on the GPU, in both signs and both classes", "[gpu][cuda]") {
  if (!has_gpu()) return;
  const auto int8 = Format::integer(8);
  const std::int64_t wide = longest_k(16, 65535);
  require_equal(constant_case(int8, 2, 3, wide, 8, 16, -32768, 255, 0, 65535));
  require_equal(constant_case(int8, 2, 3, wide, 64, 16, -32768, 0, 255, 65535));
  require_equal(constant_case(Format::nested(8), 1, 1, wide, 1024, 16, 32767, 255, 0, 65535));
  const std::int64_t narrow = longest_k(8, 255);  // 16.9 million k: int32 partial sums of two groups, each widened
  require_equal(constant_case(int8, 1, 2, narrow, 128, 8, -128, 255, 0, 255));
  require_equal(constant_case(int8, 2, 1, narrow, 128, 8, -128, 0, 255, 255));
  // Five bundles share the bound.
  const auto levels = Format::mwq(4, 4, 4);
  require_equal(constant_case(levels, 2, 3, longest_k(16, 5 * 13107), 8, 16, -32768, 255, 0, 13107));
  require_equal(constant_case(levels, 1, 2, longest_k(8, 5 * 255), 128, 8, -128, 0, 255, 255));
  // One group over all of K leaves int32 by itself, so the checked class must stand aside.
  require_equal(constant_case(int8, 1, 1, 8000001, 1 << 26, 8, -128, 255, 0, 1));
}

TEST_CASE("as many extreme groups as fit int32, and one more, give the same bits", "[gpu][cuda]") {
  if (!has_gpu()) return;
  for (const std::int64_t groups : {33, 34, 35, 68, 69})
    for (const std::int16_t x : {std::int16_t{-128}, std::int16_t{127}})
      for (const auto& [format, code] : {std::pair{Format::integer(4), 15}, {Format::mwq(4, 2, 2), 63}})
        require_equal(constant_case(format, 3, 5, groups * 128, 128, 8, x, static_cast<std::uint8_t>(code), 0, 255));
}

TEST_CASE("a hidden shift out of range is refused on the GPU with the CPU's own words", "[gpu][cuda]") {
  if (!has_gpu()) return;
  base::Rng rng(5);
  numerics::CaseOptions options;
  options.mpgemm = options.combine = false;
  options.extremes = false;
  options.max_act_bits = 4;
  int refused = 0;
  for (int i = 0; i < 60; ++i) {
    auto c = std::get<numerics::ExpertCase>(numerics::random_case(rng, options));
    for (auto& sigma : c.w.down.requant_shift) sigma = 0;  // below any hidden shift that is not 0
    std::string cpu, gpu;
    try {
      numerics::expert_ffn(c.w, c.x, numerics::Path::kVectorised, "here");
    } catch (const base::InputError& error) {
      cpu = error.what();
    }
    try {
      cuda::DeviceExpert(c.w).run(c.x, "here");
    } catch (const base::InputError& error) {
      gpu = error.what();
    }
    REQUIRE(gpu == cpu);
    refused += cpu.empty() ? 0 : 1;
  }
  CHECK(refused > 0);
}

TEST_CASE("an expert on the device gives the same rows to several threads at once", "[gpu][cuda]") {
  if (!has_gpu()) return;
  base::Rng rng(17);
  numerics::CaseOptions options;
  options.mpgemm = options.combine = false;
  options.max_n = 200;
  options.max_k = 300;
  const auto c = std::get<numerics::ExpertCase>(numerics::random_case(rng, options));
  const auto expected = numerics::expert_ffn(c.w, c.x);
  const cuda::DeviceExpert expert(c.w);
  std::vector<std::future<numerics::ExpertResult>> runs;
  for (int i = 0; i < 16; ++i) runs.push_back(std::async(std::launch::async, [&] { return expert.run(c.x); }));
  for (auto& run : runs) {
    const auto got = run.get();
    REQUIRE(got.h == expected.h);
    REQUIRE(got.eh == expected.eh);
    REQUIRE(got.y == expected.y);
  }
}
