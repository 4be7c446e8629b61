#pragma once
/// How an expert lies in the expert cache: one block, which holds what a pass over the expert reads and nothing else.
///
///   tile_major   the stored object as it is, in one piece
///   plane_major  the planes that are read, rank 1 first, plane_stride apart as in the store; behind them parameters
///                and requantisation. Planes of a nested expert and levels of an MWQ expert that are not
///                read are neither loaded nor given room.
///
/// An expert whose matrices differ in format is stored as several objects: its block is theirs, one behind the other.
///
/// Where rows read an expert at several widths, the block has room for the widest of them, and a narrower reading uses
/// its first planes. The pieces are loaded one by one, those that are read and not there, so that
/// hottest-expert-bit-first has planes to choose from; the block has its place, and leaves it, as a whole: the core
/// reads planes at one distance from each other.
#include <cstdint>
#include <vector>

#include "reference/numerics/stored_layout.h"
#include "sim/program/commands.h"

namespace moesaic::program {

struct CacheBlock {
  struct Piece {
    std::uint64_t from = 0;  ///< within the stored object
    std::uint64_t to = 0;    ///< within the block
    std::uint64_t bytes = 0;
    int rank = 0;  ///< as Descriptor::plane
  };
  /// One stored object of the expert.
  struct Object {
    std::uint64_t from = 0;          ///< within the stored expert
    std::uint64_t to = 0;            ///< within the block
    std::uint64_t params_moved = 0;  ///< parameters lie so much earlier than in the stored object
  };
  std::vector<Piece> pieces;  ///< parameters first, then ranks 1, 2, ...
  std::vector<Object> objects;
  std::uint64_t bytes = 0;  ///< of all pieces; its place is rounded up to 64

  /// A product whose weight addresses count from the beginning of the stored expert, for the block at `address`.
  void relocate(Command& product, std::uint64_t address) const;
};

/// `layout`: of the widest reading.
CacheBlock cache_block(const numerics::ExpertLayout& layout);

}  // namespace moesaic::program
