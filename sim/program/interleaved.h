#pragma once
/// How the pieces of an interleaved weight object follow each other: reference/numerics/stored_layout.h.
#include <cstdint>

namespace moesaic::program {

/// Bytes from parameters or requantisation, so many bytes long, to what follows them: they take whole 64 bytes, a
/// DRAM's burst.
constexpr std::uint64_t in_bursts(std::uint64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace moesaic::program
