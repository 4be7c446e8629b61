#pragma once
#include <cstdint>
#include <optional>

#include "base/rng.h"

namespace moesaic::program {

/// Random stalls of one channel: in a share of all cycles, drawn once per channel, the channel holds back.
class Stalls {
 public:
  /// Never stalls.
  Stalls() : rng_(0) {}
  /// A channel of its own stream; without `seed` it never stalls. In `eighths` of all cycles, or a share that is drawn:
  /// of the same seed, the cycles of a smaller share are among those of a larger one.
  static Stalls channel(const std::optional<std::uint64_t>& seed, base::Rng& streams,
                        const std::optional<unsigned>& eighths = std::nullopt) {
    Stalls stalls;
    if (!seed) return stalls;
    stalls.rng_ = base::Rng(streams.next());
    static constexpr unsigned kEighths[] = {0, 0, 1, 2, 4, 7};
    const unsigned drawn = kEighths[stalls.rng_.below(6)];
    stalls.eighths_ = eighths.value_or(drawn);
    return stalls;
  }
  /// Whether the channel holds back in this cycle. One call a cycle.
  bool now() { return eighths_ != 0 && rng_.chance(eighths_, 8); }

 private:
  base::Rng rng_;
  unsigned eighths_ = 0;
};

}  // namespace moesaic::program
