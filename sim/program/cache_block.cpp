#include "sim/program/cache_block.h"

#include "base/units.h"

namespace moesaic::program {

CacheBlock cache_block(const numerics::StoredLayout& layout) {
  const auto total = static_cast<std::uint64_t>(layout.total_bytes());
  CacheBlock block;
  if (layout.spec().kind == numerics::LayoutKind::kTileMajor) {
    block.pieces.push_back({0, 0, total, 0});
    block.bytes = total;
    return block;
  }
  const auto stride = static_cast<std::uint64_t>(layout.plane_stride()),
             params = static_cast<std::uint64_t>(layout.params_begin());
  const std::uint64_t planes = static_cast<std::uint64_t>(layout.format().planes()) * stride;
  block.params_moved = params - planes;
  block.pieces.push_back({params, planes, total - params, 0});
  for (int rank = 1; rank <= layout.format().planes(); ++rank) {
    const std::uint64_t at = static_cast<std::uint64_t>(rank - 1) * stride;
    block.pieces.push_back({at, at, stride, rank});
  }
  block.bytes = planes + total - params;
  return block;
}

}  // namespace moesaic::program
