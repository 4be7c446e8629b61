#pragma once
/// Of a matmul whose planes lie anywhere (Command::scattered): how far each is from the first. Addresses have 40 bits,
/// and so do distances: a plane before the first is 2^40 less something behind it.
#include <array>
#include <cstddef>
#include <cstdint>

#include "sim/program/commands.h"
#include "sim/program/core_params.h"

namespace moesaic::program {

inline constexpr std::uint64_t kAddressMask = (std::uint64_t{1} << CoreParams::kAddrBits) - 1;

/// The field for each plane but the first.
inline constexpr std::array<std::uint64_t Command::*, 7> kPlaneOffsets{
    &Command::plane_stride,   &Command::plane_offset_3, &Command::plane_offset_4, &Command::plane_offset_5,
    &Command::plane_offset_6, &Command::plane_offset_7, &Command::plane_offset_8};

/// Command words from this one on hold nothing but such distances.
inline constexpr unsigned kFirstScatteredWord = 19;

/// Of the plane that has `before` planes, levels' among them, before it: 0 to 7.
inline std::uint64_t scattered_offset(const Command& command, std::size_t before) {
  return before == 0 ? 0 : command.*kPlaneOffsets.at(before - 1);
}

}  // namespace moesaic::program
