#pragma once
/// Strong 64-bit integer units. Two different units never mix; a count times a unit is that unit.
/// Overflow is the caller's to avoid: 2^63 fs is 2.5 hours, 2^63 pJ is 9.2 MJ.
#include <cstdint>

namespace moesaic::base {

template <class Tag>
class Unit {
 public:
  using rep = std::int64_t;
  constexpr Unit() = default;
  constexpr explicit Unit(rep count) : count_(count) {}
  constexpr rep count() const { return count_; }

  constexpr Unit& operator+=(Unit o) { return count_ += o.count_, *this; }
  constexpr Unit& operator-=(Unit o) { return count_ -= o.count_, *this; }
  constexpr Unit& operator++() { return ++count_, *this; }
  friend constexpr Unit operator+(Unit a, Unit b) { return Unit(a.count_ + b.count_); }
  friend constexpr Unit operator-(Unit a, Unit b) { return Unit(a.count_ - b.count_); }
  friend constexpr Unit operator*(Unit a, rep n) { return Unit(a.count_ * n); }
  friend constexpr Unit operator*(rep n, Unit a) { return Unit(a.count_ * n); }
  /// How many whole `b` fit into `a`.
  friend constexpr rep operator/(Unit a, Unit b) { return a.count_ / b.count_; }
  friend constexpr bool operator==(Unit a, Unit b) { return a.count_ == b.count_; }
  friend constexpr bool operator!=(Unit a, Unit b) { return a.count_ != b.count_; }
  friend constexpr bool operator<(Unit a, Unit b) { return a.count_ < b.count_; }
  friend constexpr bool operator<=(Unit a, Unit b) { return a.count_ <= b.count_; }
  friend constexpr bool operator>(Unit a, Unit b) { return a.count_ > b.count_; }
  friend constexpr bool operator>=(Unit a, Unit b) { return a.count_ >= b.count_; }

 private:
  rep count_ = 0;
};

using Cycles = Unit<struct CyclesTag>;
using Bytes = Unit<struct BytesTag>;
using Femtoseconds = Unit<struct FemtosecondsTag>;
using Picojoules = Unit<struct PicojoulesTag>;

/// ceil(a / b) for a >= 0, b > 0.
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
/// The least multiple of b that is >= a, for a >= 0, b > 0.
constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

}  // namespace moesaic::base
