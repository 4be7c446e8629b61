#pragma once
/// Division by a number that is fixed for a run: a multiplication by its reciprocal and one correction, exact.
#include <cstdint>

namespace moesaic::memory {

class Divider {
 public:
  Divider() = default;
  explicit Divider(std::int64_t divisor)
      : divisor_(static_cast<std::uint64_t>(divisor)), reciprocal_(~std::uint64_t{0} / divisor_) {}
  /// floor(value / divisor) for 0 <= value < 2^63. The reciprocal is at most one short of 2^64 / divisor, so that the
  /// product's upper half is at most one short of the quotient.
  std::int64_t floor(std::int64_t value) const {
    const auto n = static_cast<std::uint64_t>(value);
    __extension__ using Wide = unsigned __int128;
    const auto quotient = static_cast<std::uint64_t>(Wide{n} * reciprocal_ >> 64);
    return static_cast<std::int64_t>(quotient + (n - quotient * divisor_ >= divisor_ ? 1 : 0));
  }
  /// ceil(value / divisor) for 0 <= value, value + divisor <= 2^63.
  std::int64_t ceil(std::int64_t value) const { return floor(value + static_cast<std::int64_t>(divisor_) - 1); }

 private:
  std::uint64_t divisor_ = 1, reciprocal_ = ~std::uint64_t{0};
};

}  // namespace moesaic::memory
