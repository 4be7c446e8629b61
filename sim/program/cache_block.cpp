#include "sim/program/cache_block.h"

#include <algorithm>

#include "base/units.h"

namespace moesaic::program {

namespace {

/// Adds one object of the expert, `from` bytes into it.
void add(const numerics::StoredLayout& layout, std::uint64_t from, CacheBlock& block) {
  const auto total = static_cast<std::uint64_t>(layout.total_bytes());
  const std::uint64_t to = block.bytes;
  const auto piece = [&](std::uint64_t at, std::uint64_t moved_to, std::uint64_t bytes, int rank) {
    block.pieces.push_back({from + at, to + moved_to, bytes, rank});
  };
  if (layout.spec().kind == numerics::LayoutKind::kTileMajor) {
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

void CacheBlock::relocate(Command& product, std::uint64_t address) const {
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
  return block;
}

}  // namespace moesaic::program
