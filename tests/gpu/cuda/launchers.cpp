/// Arguments are refused before anything is launched, so these need no GPU.
#include <catch2/catch.hpp>

#include "reference/cuda/combine.h"
#include "reference/cuda/mpgemm.h"
#include "reference/cuda/requantise.h"
#include "reference/cuda/swiglu.h"

using namespace moesaic;
using cuda::StatusCode;

namespace {

// Addresses that are never followed: a launcher that launched with them would fail otherwise than checked here.
template <class T>
T* somewhere() {
  return reinterpret_cast<T*>(16);
}

cuda::Status product(const cuda::MatmulShape& shape, const std::int16_t* x = somewhere<const std::int16_t>()) {
  return cuda::matmul_s16_u8_s64(shape, x, somewhere<const std::uint8_t>(), somewhere<const std::int16_t>(),
                                 somewhere<const std::uint16_t>(), somewhere<std::int64_t>(), nullptr);
}

cuda::MatmulShape shape(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t group_size) {
  cuda::MatmulShape s;
  s.m = m;
  s.n = n;
  s.k = k;
  s.group_size = group_size;
  return s;
}

}  // namespace

TEST_CASE("a product launcher names the extent that it refuses, and its limit", "[gpu][cuda]") {
  CHECK(product(shape(0, 1, 1, 8)).code() == StatusCode::kBadShape);
  CHECK(product(shape(0, 1, 1, 8)).text() == "matmul_s16_u8_s64: m: got 0, expected at least 1");
  CHECK(product(shape(1, -3, 1, 8)).text() == "matmul_s16_u8_s64: n: got -3, expected at least 1");
  CHECK(product(shape(1, 1, 0, 8)).text() == "matmul_s16_u8_s64: k: got 0, expected at least 1");
  CHECK(product(shape(1, 1, 1, 12)).text() ==
        "matmul_s16_u8_s64: group_size: got 12, expected a positive multiple of 8");
  CHECK(product(shape(1, 1, 1, 0)).text() == "matmul_s16_u8_s64: group_size: got 0, expected a positive multiple of 8");
  auto cut = shape(1, 1, 1, 8);
  cut.cut = 8;
  CHECK(product(cut).text() == "matmul_s16_u8_s64: cut: got 8, expected 0..7");
  auto levels = shape(1, 1, 1, 8);
  levels.cut = 2;
  levels.levels = 3;
  CHECK(product(levels).text() == "matmul_s16_u8_s64: levels: got 3, expected 0..2");
  CHECK(product(shape(std::int64_t{1} << 40, std::int64_t{1} << 30, 1, 8)).text() ==
        "matmul_s16_u8_s64: tiles of 16 tokens: got 68719476736, expected 1..31");
}

TEST_CASE("a product launcher names the operand that is missing", "[gpu][cuda]") {
  const cuda::Status status = product(shape(1, 1, 1, 8), nullptr);
  CHECK(status.code() == StatusCode::kNullPointer);
  CHECK(status.text() == "matmul_s16_u8_s64: x: got a null pointer");
}

TEST_CASE("the int32 class cannot be launched without its check's answer", "[gpu][cuda]") {
  const cuda::Status status = cuda::matmul_s8_u8_s64_partial_s32(
      shape(1, 1, 1, 8), 0, somewhere<const std::int8_t>(), somewhere<const std::uint8_t>(),
      somewhere<const std::int16_t>(), somewhere<const std::uint16_t>(), somewhere<std::int64_t>(), nullptr);
  CHECK(status.text() == "matmul_s8_u8_s64_partial_s32: groups_per_widening: got 0, expected at least 1");
}

TEST_CASE("the element-wise launchers refuse widths, shifts and extents outside the contract", "[gpu][cuda]") {
  auto* s16 = somewhere<std::int16_t>();
  auto* s32 = somewhere<std::int32_t>();
  auto* u16 = somewhere<std::uint16_t>();
  CHECK(cuda::requantise_s64_s16(1, 1, 12, somewhere<std::int64_t>(), u16, somewhere<std::uint8_t>(), s32, s16, nullptr)
            .text() == "requantise_s64_s16: out_bits: got 12, expected 4, 8 or 16");
  CHECK(cuda::requantise_s64_s16(1, 1, 8, somewhere<std::int64_t>(), nullptr, somewhere<std::uint8_t>(), s32, s16,
                                 nullptr)
            .text() == "requantise_s64_s16: mu: got a null pointer");
  CHECK(cuda::swiglu_s16_s16_s16(1, 32, s16, s16, s16, nullptr).text() ==
        "swiglu_s16_s16_s16: sigma_h: got 32, expected 0..31");
  CHECK(cuda::swiglu_s16_s16_s16(0, 0, s16, s16, s16, nullptr).text() ==
        "swiglu_s16_s16_s16: elements: got 0, expected at least 1");
  CHECK(cuda::shift_rows_s16_s16(1, 1, 9, s16, s32, s16, nullptr).text() ==
        "shift_rows_s16_s16: act_bits: got 9, expected 4, 8 or 16");
  CHECK(cuda::shift_rows_s16_s16(std::int64_t{1} << 31, 1, 8, s16, s32, s16, nullptr).text() ==
        "shift_rows_s16_s16: m: got 2147483648, expected 1..2147483647");
  CHECK(cuda::combine_s16_u16_s16({0, 1, 1}, s16, u16, s16, nullptr).text() ==
        "combine_s16_u16_s16: experts: got 0, expected 1..2147483647");
  CHECK(cuda::combine_s16_u16_s16({1, 1, 1}, s16, u16, nullptr, nullptr).code() == StatusCode::kNullPointer);
  CHECK(cuda::narrow_s16_s8(0, s16, somewhere<std::int8_t>(), nullptr).text() ==
        "narrow_s16_s8: elements: got 0, expected at least 1");
}
