#include "tests/cosim/memory/matmul_cases.h"

#include <algorithm>
#include <stdexcept>

#include "sim/program/scattered_planes.h"

namespace moesaic::cosim {
namespace {

using numerics::Segment;
using numerics::Tile;

numerics::WeightMatrix random_matrix(base::Rng& rng, const numerics::Format& format,
                                     const numerics::MatrixShape& shape) {
  numerics::WeightMatrix w;
  w.format = format;
  w.n = shape.n;
  w.k = shape.k;
  w.group_size = shape.group_size;
  const auto fill = [&rng](auto& values, std::int64_t count, std::uint64_t limit) {
    values.resize(static_cast<std::size_t>(count));
    for (auto& value : values) value = static_cast<std::remove_reference_t<decltype(value)>>(rng.below(limit));
  };
  fill(w.codes, w.n * w.k, static_cast<std::uint64_t>(format.max_code()) + 1);
  if (format.has_zero_point()) fill(w.zero_point, w.n * w.groups(), 256);
  fill(w.group_multiplier, w.n * w.groups(), 65536);
  fill(w.level_multiplier, format.stored_levels() * w.n * w.groups(), 65536);
  fill(w.requant_multiplier, w.n, 65536);
  fill(w.requant_shift, w.n, 63);
  return w;
}

/// One object in memory at `base`.
struct Object {
  numerics::StoredLayout layout;
  std::vector<numerics::WeightMatrix> parts;  // {w}, or {gate, up, down}
  std::vector<std::uint8_t> bytes;
  std::int64_t base = 0;
  std::vector<std::int64_t> moved;  // of each rank from the first, scattered: how far from where the layout has it

  const numerics::WeightMatrix& part(int matrix, int which) const {
    return parts[static_cast<std::size_t>(matrix == 0 ? which : 2)];
  }
  Segment at(Segment s, int rank) const {
    const std::int64_t from = rank == 0 || moved.empty() ? 0 : moved[static_cast<std::size_t>(rank - 1)];
    return {base + s.offset + from, s.bytes};
  }
};

/// `rank`: whose plane or parameters; 0: the first bundle's parameters, or the requantisation.
void fetch(const Object& object, MatmulCase& c, unsigned kind, Segment segment, int rank = 0) {
  c.segments.push_back(object.at(segment, rank));
  c.kinds.push_back(kind);
  c.stream.insert(c.stream.end(), object.bytes.begin() + segment.offset,
                  object.bytes.begin() + segment.offset + segment.bytes);
}

/// A tile's place in its command's walk.
struct Place {
  bool first = false, last = false;              // of the command's tiles
  bool group_first = false, group_last = false;  // of what the command has of the group
  unsigned level = 0;                            // 0: the first bundle
};

/// Appends what one tile costs and brings in one bundle.
void add_tile(const Object& object, const cycle::CoreParams& params, int matrix, const Tile& tile, const Place& place,
              bool paired, MatmulCase& c) {
  const numerics::Format& format = object.layout.format();
  const numerics::WeightMatrix& w = object.part(matrix, tile.which);
  const bool in_levels = format.levels() > 0, last_bundle = static_cast<int>(place.level) == format.levels();
  const int level = static_cast<int>(place.level);
  ExpectedTile expected;
  expected.tile_k = static_cast<unsigned>(tile.tile_k);
  expected.cols = static_cast<unsigned>(tile.cols);
  expected.which = paired && tile.which == 1;
  expected.level = place.level;
  expected.group_first = in_levels ? place.group_first : tile.group_first;
  expected.group_end = in_levels ? place.group_last : tile.group_last;
  expected.rewind = expected.group_end && !last_bundle;
  // With levels the command's first group overwrites with its first bundle, wherever the group was cut.
  expected.acc_first = tile.group == 0 && (!in_levels || (level == 0 && c.command.acc_continue == 0));
  expected.block_first = (place.first || tile.k0 == 0) && level == 0;
  expected.block_end = (place.last || tile.block_last) && last_bundle;
  expected.last = place.last && last_bundle;
  c.tiles.push_back(expected);

  if (expected.group_end) {
    if (level == 0)
      fetch(object, c, 0, object.layout.params(matrix, tile.block, tile.which, tile.group));
    else
      fetch(object, c, 0, object.layout.level_params(matrix, tile.block, tile.which, tile.group, level),
            format.base_planes() + level);
    ExpectedParams p;
    p.up = level == 0 ? static_cast<unsigned>(format.up()) : 1;
    for (int col = 0; col < tile.cols; ++col) {
      const std::int64_t row = tile.n0 + col;
      p.s.push_back(w.multipliers(level, row)[tile.group]);
      p.z.push_back(level == 0 ? w.offset(row, tile.group) : 1);
    }
    c.params.push_back(p);
  }
  const int first_rank = level == 0 ? 1 : format.base_planes() + level;
  const int last_rank = level == 0 ? format.base_planes() : first_rank;
  for (int rank = first_rank; rank <= last_rank; ++rank) {
    const Segment plane = object.layout.plane(matrix, tile, rank);
    if (object.layout.spec().kind != numerics::LayoutKind::kPlaneMajor && rank > first_rank) {
      Segment& before = c.segments.back();
      if (before.offset + before.bytes != object.base + plane.offset) throw std::logic_error("planes are not adjacent");
      before.bytes += plane.bytes;
      c.stream.insert(c.stream.end(), object.bytes.begin() + plane.offset,
                      object.bytes.begin() + plane.offset + plane.bytes);
    } else {
      fetch(object, c, 1, plane, rank);
    }
    const int lanes = static_cast<int>(params.load_cols());
    for (int col = 0; col < tile.cols; col += lanes) {
      ExpectedWrite write;
      write.plane = static_cast<unsigned>(rank - first_rank);
      write.first_col = static_cast<unsigned>(col);
      write.last = rank == last_rank && col + lanes >= tile.cols;
      for (int lane = 0; lane < std::min(lanes, tile.cols - col); ++lane) {
        std::uint64_t bits = 0;
        for (int k = 0; k < tile.tile_k; ++k) {
          const std::size_t at = static_cast<std::size_t>((tile.n0 + col + lane) * w.k + tile.k0 + k);
          bits |= static_cast<std::uint64_t>(format.plane_bit(w.codes[at], rank)) << k;
        }
        write.column_bits.push_back(bits);
      }
      c.writes.push_back(write);
    }
  }
  if (tile.block_last && last_bundle) {
    fetch(object, c, 2, object.layout.requant(matrix, tile.block, tile.which));
    ExpectedRequant rq;
    for (int col = 0; col < tile.cols; ++col) {
      rq.mu.push_back(w.requant_multiplier[static_cast<std::size_t>(tile.n0 + col)]);
      rq.sigma.push_back(w.requant_shift[static_cast<std::size_t>(tile.n0 + col)]);
    }
    c.requants.push_back(rq);
  }
}

/// The planes and levels of an object whose ranks are `moved`.
void scatter(const Object& object, int matrix, const Tile& first, program::Command& command) {
  const int planes = command.planes_read + command.levels;
  const auto address = [&](int rank) {
    return static_cast<std::uint64_t>(object.at(object.layout.plane(matrix, first, rank), rank).offset);
  };
  command.scattered = true;
  command.weight_addr = address(1);
  command.plane_stride = command.level_stride = 0;
  for (int rank = 2; rank <= planes; ++rank)
    command.*program::kPlaneOffsets.at(static_cast<std::size_t>(rank - 2)) =
        (address(rank) - address(1)) & program::kAddressMask;
  if (command.levels == 0) return;
  const int level_1 = command.planes_read + 1;
  const Segment params =
      object.at(object.layout.level_params(matrix, first.block, first.which, first.group, 1), level_1);
  command.level_params_addr =
      (static_cast<std::uint64_t>(params.offset) - (address(level_1) - address(1))) & program::kAddressMask;
}

/// Tiles [begin, end) of one (block, which), or of whole paired or unpaired blocks.
MatmulCase make_case(const Object& object, const cycle::CoreParams& params, int matrix, const std::vector<Tile>& tiles,
                     bool paired) {
  const Tile& first = tiles.front();
  const numerics::MatrixShape& shape = object.layout.matrices()[static_cast<std::size_t>(matrix)];
  const numerics::Format& format = object.layout.format();
  MatmulCase c;
  program::Command& command = c.command;
  command.opcode = program::Opcode::kMatmul;
  command.tokens = 1;
  command.planes_read = static_cast<std::uint8_t>(format.base_planes());
  command.levels = static_cast<std::uint8_t>(format.levels());
  command.planes_stored = static_cast<std::uint8_t>(format.stored_planes());
  command.up = static_cast<std::uint8_t>(format.up());
  command.offset_mode = !format.has_zero_point();
  command.z_adjust = static_cast<std::uint8_t>(format.has_zero_point() ? 0 - format.offset(0) : 0);
  command.plane_major = object.layout.spec().kind == numerics::LayoutKind::kPlaneMajor;
  // Of a group with levels that the command does not end, what it has lies without a gap.
  const bool piece = format.levels() > 0 && !tiles.back().group_last;
  command.interleaved = object.layout.is_interleaved() && !piece;
  command.paired = paired;
  command.acc_continue = format.levels() == 0 ? first.group != 0 : first.k0 != 0;
  command.group_continue = format.levels() == 0 && !first.group_first;
  command.k_last = tiles.back().block_last;
  std::int64_t n = 0, k = 0;
  for (const Tile& tile : tiles) {
    if (tile.block == first.block && tile.which == first.which) k += tile.tile_k;
    if (tile.which == first.which && tile.k0 == first.k0) n += tile.cols;
  }
  command.n = static_cast<std::uint32_t>(n);
  command.k = static_cast<std::uint32_t>(k);
  command.group_size = static_cast<std::uint32_t>(shape.group_size);
  command.group_left = static_cast<std::uint32_t>(shape.group_size - first.k0 % shape.group_size);
  command.weight_addr = static_cast<std::uint64_t>(
      object.base + object.layout.fetch_offset(matrix, first.block, first.which, first.group, first.tile));
  command.plane_stride = static_cast<std::uint64_t>(object.layout.plane_stride());
  command.params_addr = static_cast<std::uint64_t>(
      object.base + object.layout.params(matrix, first.block, first.which, first.group).offset);
  command.requant_addr =
      static_cast<std::uint64_t>(object.base + object.layout.requant(matrix, first.block, first.which).offset);
  if (format.levels() > 0) {
    command.level_params_addr = static_cast<std::uint64_t>(
        object.base + object.layout.level_params(matrix, first.block, first.which, first.group, 1).offset);
    command.level_stride = static_cast<std::uint64_t>(object.layout.level_stride());
  }
  if (!object.moved.empty()) scatter(object, matrix, first, command);
  if (command.interleaved) {  // what is not read may say anything
    command.params_addr ^= 0x5a5a5;
    command.requant_addr ^= 0xa5a5a;
  }
  for (std::size_t begin = 0, end = 0; begin < tiles.size(); begin = end) {
    while (end < tiles.size() && tiles[end].block == tiles[begin].block && tiles[end].which == tiles[begin].which &&
           tiles[end].group == tiles[begin].group)
      ++end;
    for (int level = 0; level <= format.levels(); ++level)
      for (std::size_t i = begin; i < end; ++i) {
        const Place place{i == 0, i + 1 == tiles.size(), i == begin, i + 1 == end, static_cast<unsigned>(level)};
        add_tile(object, params, matrix, tiles[i], place, paired, c);
      }
  }
  return c;
}

}  // namespace

std::vector<MatmulCase> random_matmuls(base::Rng& rng, const cycle::CoreParams& params) {
  const std::vector<std::int64_t> groups{8, 16, 24, 64, 1024};
  const std::int64_t rows = params.rows, cols = params.cols;
  const std::int64_t group = rng.pick(groups);
  const auto extent = [&rng](std::int64_t unit) {
    return rng.chance(1, 3) ? rng.range(1, unit - 1)
                            : rng.range(1, 3) * unit + rng.range(0, 1) * rng.range(0, unit - 1);
  };
  const bool expert = rng.chance(1, 2);
  const std::vector<numerics::MatrixShape> shapes = expert
                                                        ? numerics::expert_shapes(extent(rows), extent(cols), group)
                                                        : numerics::product_shapes(extent(cols), extent(rows), group);
  const numerics::Format format = rng.pick(rng.chance(1, 3) ? numerics::mwq_formats() : numerics::one_bundle_formats());
  const numerics::LayoutSpec spec{rng.pick(numerics::layout_kinds()), static_cast<int>(rows), static_cast<int>(cols)};
  Object object{numerics::stored_layout(format, shapes, spec), {}, {}, 0, {}};
  std::vector<const numerics::WeightMatrix*> parts;
  object.parts.reserve(3);
  for (const numerics::MatrixShape& shape : shapes) {
    for (int which = 0; which < shape.interleave; ++which) {
      object.parts.push_back(random_matrix(rng, format, shape));
      parts.push_back(&object.parts.back());
    }
  }
  object.bytes = object.layout.pack(parts);
  object.base = static_cast<std::int64_t>(rng.below(std::uint64_t{1} << 33)) * 64;
  if (spec.kind == numerics::LayoutKind::kPlaneMajor && rng.chance(1, 2))
    for (int rank = 1; rank <= format.stored_planes(); ++rank)
      object.moved.push_back(static_cast<std::int64_t>(rng.below(std::uint64_t{1} << 39)) - object.base);

  const int matrix = expert ? static_cast<int>(rng.below(2)) : 0;
  std::vector<Tile> all;
  Tile tile;
  for (numerics::TileWalk walk = object.layout.walk(matrix); walk.next(tile);) all.push_back(tile);

  std::vector<MatmulCase> cases;
  if (rng.chance(1, 2)) {
    cases.push_back(make_case(object, params, matrix, all, shapes[static_cast<std::size_t>(matrix)].interleave == 2));
    return cases;
  }
  const std::int64_t block =
      static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(object.layout.blocks(matrix))));
  for (int which = 0; which < shapes[static_cast<std::size_t>(matrix)].interleave; ++which) {
    std::vector<Tile> chunk;
    for (const Tile& t : all) {
      if (t.block != block || t.which != which) continue;
      chunk.push_back(t);
      // An interleaved chunk with levels ends with a group, or is of one.
      const bool may_end =
          !object.layout.is_interleaved() || format.levels() == 0 || t.group_last || chunk.front().group == t.group;
      if (t.block_last || (may_end && rng.chance(1, 2))) {
        cases.push_back(make_case(object, params, matrix, chunk, false));
        chunk.clear();
      }
    }
  }
  return cases;
}

}  // namespace moesaic::cosim
