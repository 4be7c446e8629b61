#pragma once
/// How an expert lies in the expert cache: in pieces, which are what a pass over the expert reads and nothing else.
///
///   tile_major, interleaved
///                one piece: the stored object as it is
///   plane_major  parameters and requantisation, then each plane that is read, rank 1 first. Each piece has a place of
///                its own, wherever there is room, and leaves it alone: the core is told where each plane lies
///                (scattered_planes.h). Planes of a nested expert and levels of an MWQ expert that are not read are
///                neither loaded nor given room.
///
/// An expert whose matrices differ in format is stored as several objects. In the cache it is one block, theirs one
/// behind the other, each with its planes, rank 1 first, at one distance as in the store and its parameters behind
/// them. The block has its place, and leaves it, as a whole, though its pieces are loaded one by one.
///
/// Where rows read an expert at several widths, its pieces are those of the widest of them, and a narrower reading uses
/// the first.
#include <cstdint>
#include <vector>

#include "reference/numerics/stored_layout.h"
#include "sim/program/commands.h"

namespace moesaic::program {

struct CacheBlock {
  struct Piece {
    std::uint64_t from = 0;  ///< within the stored object
    std::uint64_t to = 0;    ///< within the block; 0 of a piece with a place of its own
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
  std::uint64_t bytes = 0;  ///< of all pieces
  bool by_planes = false;   ///< each piece has a place of its own

  /// What all pieces take in the cache: each place is rounded up to 64 bytes.
  std::uint64_t room() const;
  /// A product whose weight addresses count from the beginning of the stored expert, for pieces at `places`: by planes
  /// at least those that it reads; else the block's place is the first.
  void relocate(Command& product, const std::vector<std::uint64_t>& places) const;
};

/// `layout`: of the widest reading.
CacheBlock cache_block(const numerics::ExpertLayout& layout);

}  // namespace moesaic::program
