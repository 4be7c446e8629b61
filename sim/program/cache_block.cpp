#include "sim/program/cache_block.h"

#include <algorithm>

#include "sim/program/scattered_planes.h"

namespace moesaic::program {

namespace {

/// Adds one object of the expert, `from` bytes into it.
void add(const numerics::StoredLayout& layout, std::uint64_t from, CacheBlock& block) {
  const auto total = static_cast<std::uint64_t>(layout.total_bytes());
  const std::uint64_t to = block.bytes;
  const auto piece = [&](std::uint64_t at, std::uint64_t moved_to, std::uint64_t bytes, int rank) {
    block.pieces.push_back({from + at, to + moved_to, bytes, rank});
  };
  if (layout.spec().kind != numerics::LayoutKind::kPlaneMajor) {
    piece(0, 0, total, 0);
    block.objects.push_back({from, to, 0});
    block.bytes += total;
    return;
  }
  const auto stride = static_cast<std::uint64_t>(layout.plane_stride()),
             level_stride = static_cast<std::uint64_t>(layout.level_stride()),
             params = static_cast<std::uint64_t>(layout.params_begin());
  const int planes = layout.format().base_planes(), levels = layout.format().levels();
  const std::uint64_t levels_begin = static_cast<std::uint64_t>(planes) * stride,
                      end = levels_begin + static_cast<std::uint64_t>(levels) * level_stride;
  block.objects.push_back({from, to, params - end});
  piece(params, end, total - params, 0);
  for (int rank = 1; rank <= planes; ++rank) {
    const std::uint64_t at = static_cast<std::uint64_t>(rank - 1) * stride;
    piece(at, at, stride, rank);
  }
  for (int level = 1; level <= levels; ++level) {
    const std::uint64_t at = levels_begin + static_cast<std::uint64_t>(level - 1) * level_stride;
    piece(at, at, level_stride, planes + level);
  }
  block.bytes += end + total - params;
}

}  // namespace

std::uint64_t CacheBlock::room() const {
  const auto rounded = [](std::uint64_t taken) { return (taken + 63) / 64 * 64; };
  if (!by_planes) return rounded(bytes);
  std::uint64_t sum = 0;
  for (const Piece& piece : pieces) sum += rounded(piece.bytes);
  return sum;
}

void CacheBlock::relocate(Command& product, const std::vector<std::uint64_t>& places) const {
  if (by_planes) {
    const std::uint64_t params_moved = places.front() - pieces.front().from;
    const auto distance = [&places](std::size_t rank) { return (places.at(rank) - places[1]) & kAddressMask; };
    product.weight_addr += places.at(1) - pieces[1].from;
    product.params_addr += params_moved;
    product.requant_addr += params_moved;
    product.scattered = true;
    const std::size_t base = product.planes_read, read = base + product.levels;
    for (std::size_t rank = 2; rank <= 8; ++rank) product.*kPlaneOffsets[rank - 2] = rank <= read ? distance(rank) : 0;
    if (product.levels > 0) {
      product.level_params_addr += places[1] - pieces.at(base + 1).from;  // less the distance of level 1's plane
      product.level_params_addr &= kAddressMask;
      product.level_stride = 0;
    }
    return;
  }
  const std::uint64_t address = places.front();
  // All addresses of a product are in one object.
  const auto object =
      std::find_if(objects.rbegin(), objects.rend(), [&](const Object& o) { return product.weight_addr >= o.from; });
  const std::uint64_t moved = address + object->to - object->from;
  product.weight_addr += moved;
  product.params_addr += moved - object->params_moved;
  product.requant_addr += moved - object->params_moved;
  if (product.levels > 0) product.level_params_addr += moved;
}

CacheBlock cache_block(const numerics::ExpertLayout& layout) {
  CacheBlock block;
  for (const numerics::ExpertLayout::Object& object : layout.objects())
    add(*object.layout, static_cast<std::uint64_t>(object.offset), block);
  std::stable_sort(block.pieces.begin(), block.pieces.end(),
                   [](const CacheBlock::Piece& a, const CacheBlock::Piece& b) { return a.rank < b.rank; });
  block.by_planes = layout.spec().kind == numerics::LayoutKind::kPlaneMajor && layout.formats().is_one();
  if (block.by_planes)
    for (CacheBlock::Piece& piece : block.pieces) piece.to = 0;
  return block;
}

}  // namespace moesaic::program
