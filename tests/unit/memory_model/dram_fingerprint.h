#pragma once
/// One number for all that a DRAM did in random runs: when beats were taken, refused and finished, every command at its
/// clock, every count. Two builds whose numbers agree have the same DRAM; nothing is said on which of two is right.
#include <cstdint>

namespace moesaic::testing {

/// `runs` of random parts under random traffic, asked in every cycle or only when something can change.
std::uint64_t fingerprint_of_random_parts(std::uint64_t seed, int runs);
/// Every preset with 1, 2 and 4 channels under eight ports that read and write streams, or addresses far apart.
std::uint64_t fingerprint_of_presets(std::uint64_t seed, std::int64_t cycles);

}  // namespace moesaic::testing
