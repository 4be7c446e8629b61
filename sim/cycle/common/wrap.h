#pragma once
/// Two's complement arithmetic of P, X, D and the accumulators: 48 bits, wrapping, as the RTL's registers do.
#include <cstdint>

#include "reference/numerics/integer.h"

namespace moesaic::cycle {

/// The low 48 bits, sign-extended.
constexpr std::int64_t wrap48(std::uint64_t v) {
  constexpr int kDrop = 64 - numerics::kAccumulatorBits;
  return static_cast<std::int64_t>(v << kDrop) >> kDrop;
}
constexpr std::int64_t add48(std::int64_t a, std::int64_t b) {
  return wrap48(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
constexpr std::int64_t mul48(std::int64_t a, std::int64_t b) {
  return wrap48(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}

}  // namespace moesaic::cycle
