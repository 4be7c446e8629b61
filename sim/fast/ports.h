#pragma once
/// The memory's ports, as the fast engine's parts number them.
#include <cstdint>

#include "base/units.h"
#include "sim/fast/feeds.h"
#include "sim/program/engine_run.h"

namespace moesaic::fast {

inline constexpr unsigned kWeights = static_cast<unsigned>(program::MemoryPort::kWeightRead);
inline constexpr unsigned kActivations = static_cast<unsigned>(program::MemoryPort::kActivationRead);
inline constexpr unsigned kWrites = static_cast<unsigned>(program::MemoryPort::kWrite);
inline constexpr unsigned kNumPorts = program::kNumMemoryPorts;

/// Beats that a read port owes before it takes no more addresses.
inline constexpr unsigned kBeatsAccepted = 64;

/// Of cycles: not that anybody knows.
inline constexpr std::uint64_t kNever = ~std::uint64_t{0};

inline base::Cycles cycles(std::uint64_t count) { return base::Cycles(static_cast<std::int64_t>(count)); }

/// The list whose items a port moves.
inline Feed feed_of(unsigned port) {
  return port == kWeights ? Feed::kSegment : port == kActivations ? Feed::kActSegment : Feed::kChunk;
}

}  // namespace moesaic::fast
