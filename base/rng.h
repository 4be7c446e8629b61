#pragma once
/// Seeded random numbers that are the same on every platform: xoshiro256** (Blackman and Vigna, 2018) seeded by
/// splitmix64, with integer distributions of our own (the standard library's are implementation-defined).
/// uniform() is exact too; normal() goes through libm and may differ in the last bit between C libraries.
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace moesaic::base {

/// One step of splitmix64; also a good 64-bit mixer of ids.
std::uint64_t splitmix64(std::uint64_t& state);

class Rng {
 public:
  explicit Rng(std::uint64_t seed);
  /// An independent stream of the same seed, named by what it is for; drawing from it does not move this one.
  Rng stream(std::string_view name, std::uint64_t index = 0) const;

  std::uint64_t next();
  /// Uniform in 0..n-1, unbiased; n >= 1.
  std::uint64_t below(std::uint64_t n);
  /// Uniform in lo..hi, both included; lo <= hi.
  std::int64_t range(std::int64_t lo, std::int64_t hi);
  /// True with probability numerator / denominator.
  bool chance(std::uint64_t numerator, std::uint64_t denominator) { return below(denominator) < numerator; }
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Mean 0, standard deviation 1.
  double normal();
  /// Index i with probability weights[i] / sum; weights >= 0 with a positive sum.
  std::size_t weighted(const std::vector<double>& weights);

  template <class T>
  const T& pick(const std::vector<T>& choices) {
    return choices[below(choices.size())];
  }
  template <class T>
  void shuffle(std::vector<T>& v) {
    for (std::size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[below(i)]);
  }

 private:
  std::uint64_t seed_;
  std::uint64_t s_[4];
};

}  // namespace moesaic::base
