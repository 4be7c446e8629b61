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
             level_stride = static_cast<std::uint64_t>(layout.level_stride()),
             params = static_cast<std::uint64_t>(layout.params_begin());
  const int planes = layout.format().base_planes(), levels = layout.format().levels();
  const std::uint64_t levels_begin = static_cast<std::uint64_t>(planes) * stride,
                      end = levels_begin + static_cast<std::uint64_t>(levels) * level_stride;
  block.params_moved = params - end;
  block.pieces.push_back({params, end, total - params, 0});
  for (int rank = 1; rank <= planes; ++rank) {
    const std::uint64_t at = static_cast<std::uint64_t>(rank - 1) * stride;
    block.pieces.push_back({at, at, stride, rank});
  }
  for (int level = 1; level <= levels; ++level) {
    const std::uint64_t at = levels_begin + static_cast<std::uint64_t>(level - 1) * level_stride;
    block.pieces.push_back({at, at, level_stride, planes + level});
  }
  block.bytes = end + total - params;
  return block;
}

}  // namespace moesaic::program
