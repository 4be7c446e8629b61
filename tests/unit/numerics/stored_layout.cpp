// reference/numerics/stored_layout: where every bit lies.
#include "reference/numerics/stored_layout.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <string>

#include "base/error.h"
#include "base/rng.h"

using namespace moesaic::numerics;
using moesaic::base::Rng;

namespace {

WeightMatrix random_matrix(Rng& rng, const Format& format, std::int64_t n, std::int64_t k, std::int64_t group_size) {
  WeightMatrix w;
  w.format = format;
  w.n = n;
  w.k = k;
  w.group_size = group_size;
  const auto most = static_cast<std::uint64_t>(format.max_code()) + 1;
  for (std::int64_t i = 0; i < n * k; ++i) w.codes.push_back(static_cast<std::uint8_t>(rng.below(most)));
  for (std::int64_t i = 0; i < n * w.groups(); ++i) {
    if (format.has_zero_point()) w.zero_point.push_back(static_cast<std::uint8_t>(rng.below(256)));
    w.group_multiplier.push_back(static_cast<std::uint16_t>(rng.below(65536)));
  }
  for (std::int64_t i = 0; i < format.stored_levels() * n * w.groups(); ++i)
    w.level_multiplier.push_back(static_cast<std::uint16_t>(rng.below(65536)));
  for (std::int64_t i = 0; i < n; ++i) {
    w.requant_multiplier.push_back(static_cast<std::uint16_t>(rng.below(65536)));
    w.requant_shift.push_back(static_cast<std::uint8_t>(rng.below(63)));
  }
  return w;
}

struct Object {
  StoredLayout layout;
  std::vector<WeightMatrix> parts;
  std::vector<const WeightMatrix*> pointers() const {
    std::vector<const WeightMatrix*> p;
    for (const auto& w : parts) p.push_back(&w);
    return p;
  }
};

Object random_object(Rng& rng) {
  const Format format = rng.pick(rng.chance(1, 2) ? one_bundle_formats() : mwq_formats());
  const LayoutSpec spec{rng.pick(layout_kinds()), static_cast<int>(rng.range(1, 20)),
                        static_cast<int>(rng.range(1, 20))};
  const std::int64_t a = rng.range(1, 50), b = rng.range(1, 90), g = 8 * rng.range(1, 14);
  if (rng.chance(1, 2))
    return {stored_layout(format, product_shapes(a, b, g), spec), {random_matrix(rng, format, a, b, g)}};
  return {
      stored_layout(format, expert_shapes(b, a, g), spec),
      {random_matrix(rng, format, a, b, g), random_matrix(rng, format, a, b, g), random_matrix(rng, format, b, a, g)}};
}

}  // namespace

TEST_CASE("packed weights unpack to themselves, in every format and layout", "[unit][numerics]") {
  const Rng root(31);
  for (std::uint64_t i = 0; i < 400; ++i) {
    Rng rng = root.stream("pack", i);
    const Object object = random_object(rng);
    CAPTURE(i, object.layout.format().name());
    const auto bytes = object.layout.pack(object.pointers());
    REQUIRE(static_cast<std::int64_t>(bytes.size()) == object.layout.total_bytes());
    REQUIRE(bytes.size() % 64 == 0);
    const auto parts = object.layout.unpack(bytes);
    REQUIRE(parts.size() == object.parts.size());
    for (std::size_t p = 0; p < parts.size(); ++p) {
      REQUIRE(parts[p].codes == object.parts[p].codes);
      REQUIRE(parts[p].zero_point == object.parts[p].zero_point);
      REQUIRE(parts[p].group_multiplier == object.parts[p].group_multiplier);
      REQUIRE(parts[p].level_multiplier == object.parts[p].level_multiplier);
      REQUIRE(parts[p].requant_multiplier == object.parts[p].requant_multiplier);
      REQUIRE(parts[p].requant_shift == object.parts[p].requant_shift);
    }
    // A pass over fewer planes gives the codes with their lower bits cut.
    const int planes = static_cast<int>(rng.range(1, object.layout.format().stored_planes()));
    const int cut = object.layout.format().stored_planes() - planes;
    const auto top = object.layout.unpack(bytes, planes);
    for (std::size_t p = 0; p < top.size(); ++p)
      for (std::size_t c = 0; c < top[p].codes.size(); ++c)
        REQUIRE(top[p].codes[c] == object.parts[p].codes[c] >> cut << cut);
  }
}

TEST_CASE("segments tile the regions: no overlap, no hole but the padding, in the order stated", "[unit][numerics]") {
  const Rng root(32);
  for (std::uint64_t i = 0; i < 450; ++i) {
    Rng rng = root.stream("segments", i);
    const Object object = random_object(rng);
    const StoredLayout& layout = object.layout;
    if (layout.is_interleaved()) continue;  // has no regions
    const int stored = layout.format().stored_planes(), levels = layout.format().stored_levels();
    const int matrices = static_cast<int>(layout.matrices().size());
    CAPTURE(i, layout.format().name(), layout_kind_name(layout.spec().kind));

    std::vector<Segment> planes, params, requants;
    const auto add_level = [&](int level, std::vector<Segment>& run) {
      for (int m = 0; m < matrices; ++m) {
        Tile t;
        for (TileWalk walk = layout.walk(m); walk.next(t);)
          if (t.group_last) run.push_back(layout.level_params(m, t.block, t.which, t.group, level));
      }
    };
    if (layout.spec().kind == LayoutKind::kTileMajor) {
      for (int m = 0; m < matrices; ++m) {
        Tile t;
        for (TileWalk walk = layout.walk(m); walk.next(t);)
          for (int rank = 1; rank <= stored; ++rank) planes.push_back(layout.plane(m, t, rank));
      }
    } else {
      for (int rank = 1; rank <= stored; ++rank) {
        for (int m = 0; m < matrices; ++m) {
          Tile t;
          for (TileWalk walk = layout.walk(m); walk.next(t);) planes.push_back(layout.plane(m, t, rank));
        }
        if (rank > stored - levels) add_level(rank - (stored - levels), planes);
      }
    }
    for (int m = 0; m < matrices; ++m) {
      Tile t;
      std::int64_t count = 0;
      for (TileWalk walk = layout.walk(m); walk.next(t); ++count) {
        if (t.group_last) params.push_back(layout.params(m, t.block, t.which, t.group));
        if (t.block_last) requants.push_back(layout.requant(m, t.block, t.which));
      }
      REQUIRE(count == layout.tiles(m));
      REQUIRE(t.tile_last);
    }
    std::vector<Segment> level_params;  // of one level
    if (levels > 0) add_level(1, level_params);
    std::int64_t level_bytes = 0;
    for (const Segment& segment : level_params) level_bytes += segment.bytes;
    if (layout.spec().kind == LayoutKind::kTileMajor)
      for (int level = 1; level <= levels; ++level) add_level(level, params);
    const std::int64_t in_planes = layout.spec().kind == LayoutKind::kPlaneMajor ? levels * level_bytes : 0;
    const auto check_run = [](const std::vector<Segment>& run, std::int64_t begin) {
      for (const auto& segment : run) {
        REQUIRE(segment.offset == begin);
        begin += segment.bytes;
      }
      return begin;
    };
    const std::int64_t planes_end = check_run(planes, 0);
    REQUIRE(planes_end == layout.plane_stride() * stored + in_planes);
    REQUIRE(layout.params_begin() == moesaic::base::round_up(planes_end, 64));
    const std::int64_t params_end = check_run(params, layout.params_begin());
    REQUIRE(layout.requant_begin() == moesaic::base::round_up(params_end, 64));
    const std::int64_t requant_end = check_run(requants, layout.requant_begin());
    REQUIRE(layout.total_bytes() == moesaic::base::round_up(requant_end, 64));

    const std::int64_t all_params = (params_end - layout.params_begin()) + in_planes;
    const std::int64_t other = all_params - levels * level_bytes + (requant_end - layout.requant_begin());
    for (int b = 1; b <= stored; ++b)
      REQUIRE(layout.read_bytes(b) ==
              b * layout.plane_stride() + std::max(0, b - (stored - levels)) * level_bytes + other);
    REQUIRE(layout.read_bytes() == layout.read_bytes(layout.format().planes()));
    for (int m = 0; m < matrices; ++m) {
      REQUIRE(layout.planes_offset(m) == layout.plane(m, 0, 0, 0, 0, 1).offset);
      REQUIRE(layout.params_offset(m) == layout.params(m, 0, 0, 0).offset);
      REQUIRE(layout.requant_offset(m) == layout.requant(m, 0, 0).offset);
      REQUIRE(layout.level_params_offset(m) == (levels == 0 ? 0 : layout.level_params(m, 0, 0, 0, 1).offset));
      // From one level to the next it is the same step everywhere.
      for (int level = 2; level <= levels; ++level) {
        REQUIRE(layout.level_params(m, 0, 0, 0, level).offset - layout.level_params(m, 0, 0, 0, level - 1).offset ==
                layout.level_stride());
        if (layout.spec().kind == LayoutKind::kPlaneMajor)
          REQUIRE(layout.plane(m, 0, 0, 0, 0, stored - levels + level).offset -
                      layout.plane(m, 0, 0, 0, 0, stored - levels + level - 1).offset ==
                  layout.level_stride());
      }
    }
  }
}

TEST_CASE(
    "an interleaved object is in the order of the fetch, and only parameters, requantisation and its end are padded",
    "[unit][numerics]") {
  const Rng root(34);
  for (std::uint64_t i = 0; i < 300; ++i) {
    Rng rng = root.stream("interleaved", i);
    const Object drawn = random_object(rng);
    const LayoutSpec array = drawn.layout.spec();
    const LayoutSpec spec{LayoutKind::kInterleaved, array.rows, array.cols};
    const StoredLayout layout = stored_layout(drawn.layout.format(), drawn.layout.matrices(), spec);
    const int stored = layout.format().stored_planes(), levels = layout.format().stored_levels();
    const int matrices = static_cast<int>(layout.matrices().size());
    CAPTURE(i, layout.format().name());

    std::int64_t at = 0, planes = 0, params = 0;
    const auto next = [&at](const Segment& segment) {
      REQUIRE(segment.offset == at);
      REQUIRE(segment.bytes > 0);
      at += segment.bytes;
      return segment.bytes;
    };
    std::vector<Segment> padding;
    const auto next_in_bursts = [&](const Segment& segment) {
      next(segment);
      const std::int64_t rest = (64 - segment.bytes % 64) % 64;
      padding.push_back({at, rest});
      at += rest;
      return segment.bytes;
    };
    for (int m = 0; m < matrices; ++m) {
      REQUIRE(layout.planes_offset(m) == at);
      Tile t;
      for (TileWalk walk = layout.walk(m); walk.next(t);) {
        REQUIRE(layout.fetch_offset(m, t.block, t.which, t.group, t.tile) == at);
        if (t.group_last) params += next_in_bursts(layout.params(m, t.block, t.which, t.group));
        for (int rank = 1; rank <= stored; ++rank) planes += next(layout.plane(m, t, rank));
        if (t.block_last) params += next_in_bursts(layout.requant(m, t.block, t.which));
      }
    }
    REQUIRE(planes == layout.plane_stride() * stored);
    const std::int64_t levels_begin = at;
    for (int level = 1; level <= levels; ++level)
      for (int m = 0; m < matrices; ++m) {
        Tile t;
        for (TileWalk walk = layout.walk(m); walk.next(t);)
          if (t.group_last) next(layout.level_params(m, t.block, t.which, t.group, level));
      }
    REQUIRE(at - levels_begin == levels * layout.level_stride());
    REQUIRE(layout.level_params_offset(0) == (levels == 0 ? 0 : levels_begin));
    REQUIRE(layout.total_bytes() == moesaic::base::round_up(at, 64));

    padding.push_back({at, layout.total_bytes() - at});

    // What is read are the bytes of tile_major in another order.
    const StoredLayout apart =
        stored_layout(layout.format(), layout.matrices(), {LayoutKind::kTileMajor, spec.rows, spec.cols});
    for (int b = 1; b <= stored; ++b) REQUIRE(layout.read_bytes(b) == apart.read_bytes(b));
    REQUIRE(layout.read_bytes(stored) == params + levels * layout.level_stride() + planes);
    const std::vector<std::uint8_t> bytes = layout.pack(drawn.pointers()), others = apart.pack(drawn.pointers());
    const auto same = [&](const Segment& a, const Segment& b) {
      REQUIRE(a.bytes == b.bytes);
      REQUIRE(std::equal(bytes.begin() + a.offset, bytes.begin() + a.offset + a.bytes, others.begin() + b.offset));
    };
    for (int m = 0; m < matrices; ++m) {
      Tile t;
      for (TileWalk walk = layout.walk(m); walk.next(t);) {
        for (int rank = 1; rank <= stored; ++rank) same(layout.plane(m, t, rank), apart.plane(m, t, rank));
        same(layout.params(m, t.block, t.which, t.group), apart.params(m, t.block, t.which, t.group));
        same(layout.requant(m, t.block, t.which), apart.requant(m, t.block, t.which));
        for (int level = 1; level <= levels; ++level)
          same(layout.level_params(m, t.block, t.which, t.group, level),
               apart.level_params(m, t.block, t.which, t.group, level));
      }
    }
    for (const Segment& gap : padding)
      REQUIRE(std::all_of(bytes.begin() + gap.offset, bytes.begin() + gap.offset + gap.bytes,
                          [](std::uint8_t byte) { return byte == 0; }));

    REQUIRE_THROWS_AS(layout.params_begin(), std::logic_error);
    REQUIRE_THROWS_AS(layout.requant_begin(), std::logic_error);
    REQUIRE_THROWS_AS(layout.params_offset(0), std::logic_error);
    REQUIRE_THROWS_AS(layout.requant_offset(0), std::logic_error);
  }
}

TEST_CASE("where objects have regions a fetch begins at its first tile's planes", "[unit][numerics]") {
  for (const LayoutKind kind : {LayoutKind::kTileMajor, LayoutKind::kPlaneMajor}) {
    const StoredLayout layout = stored_layout(Format::integer(3), expert_shapes(40, 24, 16), {kind, 8, 8});
    for (int m = 0; m < 2; ++m) {
      Tile t;
      for (TileWalk walk = layout.walk(m); walk.next(t);)
        REQUIRE(layout.fetch_offset(m, t.block, t.which, t.group, t.tile) == layout.plane(m, t, 1).offset);
    }
  }
}

TEST_CASE("tiles cover every weight once and never cross a group or a block", "[unit][numerics]") {
  Rng rng(33);
  for (int i = 0; i < 200; ++i) {
    const MatrixShape shape{rng.range(1, 40), rng.range(1, 80), 8 * rng.range(1, 12),
                            static_cast<int>(rng.range(1, 2))};
    const int rows = static_cast<int>(rng.range(1, 20)), cols = static_cast<int>(rng.range(1, 20));
    std::map<std::pair<std::int64_t, std::int64_t>, int> seen[2];
    Tile t;
    std::int64_t groups_closed = 0, blocks_closed = 0;
    for (TileWalk walk(shape, rows, cols); walk.next(t);) {
      REQUIRE(t.tile_k >= 1);
      REQUIRE(t.tile_k <= rows);
      REQUIRE(t.cols <= cols);
      REQUIRE(t.k0 / shape.group_size == t.group);
      REQUIRE((t.k0 + t.tile_k - 1) / shape.group_size == t.group);
      REQUIRE(t.group_first == (t.k0 % shape.group_size == 0));
      for (int c = 0; c < t.cols; ++c)
        for (int k = 0; k < t.tile_k; ++k) ++seen[t.which][{t.n0 + c, t.k0 + k}];
      groups_closed += t.group_last ? 1 : 0;
      blocks_closed += t.block_last ? 1 : 0;
    }
    for (int which = 0; which < shape.interleave; ++which) {
      REQUIRE(static_cast<std::int64_t>(seen[which].size()) == shape.n * shape.k);
      for (const auto& entry : seen[which]) REQUIRE(entry.second == 1);
    }
    const std::int64_t blocks = (shape.n + cols - 1) / cols * shape.interleave;
    REQUIRE(blocks_closed == blocks);
    REQUIRE(groups_closed == blocks * ((shape.k + shape.group_size - 1) / shape.group_size));
  }
}

TEST_CASE("the bytes of a small object are where the header's picture puts them", "[unit][numerics]") {
  // int2, n 3, k 10, group 8, on an array of 4 rows and 2 columns: blocks of 2 and 1 columns, tiles of k 4, 4 and 2.
  WeightMatrix w;
  w.format = Format::integer(2);
  w.n = 3;
  w.k = 10;
  w.group_size = 8;
  w.codes = {3, 0, 2, 1, 0, 0, 0, 0, 1, 2,  //
             0, 1, 2, 3, 1, 1, 1, 1, 3, 3,  //
             2, 2, 2, 2, 1, 1, 1, 1, 0, 3};
  w.zero_point = {1, 2, 3, 4, 5, 6};
  w.group_multiplier = {0x0101, 0x0202, 0x0303, 0x0404, 0x0505, 0x0606};
  w.requant_multiplier = {0x1111, 0x2222, 0x3333};
  w.requant_shift = {7, 8, 9};
  const StoredLayout tile_major = stored_layout(w.format, product_shapes(3, 10, 8), {LayoutKind::kTileMajor, 4, 2});
  const auto bytes = tile_major.pack({&w});
  // Tile (block 0, group 0, tile 0), plane 1: column 0 has high bits 1,0,1,0, column 1 has 0,0,1,1.
  CHECK(bytes[0] == 0b11000101);
  CHECK(bytes[1] == 0b10101001);  // plane 2: 1,0,0,1 and 0,1,0,1
  CHECK(bytes[2] == 0);           // tile 1, plane 1
  CHECK(bytes[3] == 0b11110000);  // tile 1, plane 2: zeros, then ones
  CHECK(bytes[4] == 0b00001110);  // group 1 (k 8 and 9), plane 1: 0,1 and 1,1
  CHECK(bytes[5] == 0b00001101);
  CHECK(bytes[6] == 0b00001111);  // block 1 has one column
  CHECK(tile_major.params_begin() == 64);
  CHECK(bytes[64] == 0x01);  // s of columns 0 and 1 in group 0
  CHECK(bytes[66] == 0x03);
  CHECK(bytes[68] == 1);  // their zero points
  CHECK(bytes[69] == 3);
  CHECK(bytes[70] == 0x02);  // group 1
  CHECK(bytes[76] == 0x05);  // block 1, one column
  CHECK(bytes[78] == 5);
  CHECK(bytes[128] == 0x11);
  CHECK(bytes[130] == 0x22);
  CHECK(bytes[132] == 7);
  CHECK(bytes[133] == 8);
  CHECK(bytes[134] == 0x33);
  CHECK(bytes[136] == 9);
  CHECK(bytes.size() == 192);

  const StoredLayout plane_major = stored_layout(w.format, product_shapes(3, 10, 8), {LayoutKind::kPlaneMajor, 4, 2});
  const auto planes = plane_major.pack({&w});
  CHECK(plane_major.plane_stride() == 6);
  CHECK(planes[0] == bytes[0]);
  CHECK(planes[1] == bytes[2]);
  CHECK(planes[2] == bytes[4]);
  CHECK(planes[6] == bytes[1]);

  // Group 0 has tiles 0 and 1: its parameters lie between them. Group 1 has one tile, then the block ends.
  const auto mixed = stored_layout(w.format, product_shapes(3, 10, 8), {LayoutKind::kInterleaved, 4, 2}).pack({&w});
  const auto piece = [&bytes](std::size_t begin, std::size_t count) {
    return std::vector<std::uint8_t>(bytes.begin() + static_cast<std::ptrdiff_t>(begin),
                                     bytes.begin() + static_cast<std::ptrdiff_t>(begin + count));
  };
  std::vector<std::uint8_t> expected;
  for (const auto& [begin, count] : std::vector<std::pair<std::size_t, std::size_t>>{
           {0, 2}, {64, 6}, {2, 2}, {70, 6}, {4, 2}, {128, 6}, {6, 2}, {76, 3}, {8, 2}, {79, 3}, {10, 2}, {134, 3}}) {
    const std::vector<std::uint8_t> part = piece(begin, count);
    expected.insert(expected.end(), part.begin(), part.end());
    if (begin >= 64) expected.resize(expected.size() + 64 - count);  // not a tile
  }
  CHECK(expected.size() == 12 + 6 * 64);
  expected.resize(448);
  CHECK(mixed == expected);
}

TEST_CASE("gate and up blocks alternate, and the down matrix follows", "[unit][numerics]") {
  const StoredLayout layout =
      stored_layout(Format::binary(), expert_shapes(16, 20, 16), {LayoutKind::kTileMajor, 16, 8});
  // Blocks of 8, 8 and 4 columns of k 16: 16, 16 and 8 bytes a part.
  CHECK(layout.plane(0, 0, 0, 0, 0, 1) == Segment{0, 16});
  CHECK(layout.plane(0, 0, 1, 0, 0, 1) == Segment{16, 16});
  CHECK(layout.plane(0, 1, 0, 0, 0, 1) == Segment{32, 16});
  CHECK(layout.plane(0, 2, 1, 0, 0, 1) == Segment{72, 8});
  CHECK(layout.planes_offset(1) == 80);
  CHECK(layout.params(0, 0, 0, 0).bytes == 16);  // no zero points
}

TEST_CASE("a nested read of 3 planes never addresses the 5 lower ones", "[unit][numerics]") {
  for (const LayoutKind kind : layout_kinds()) {
    const StoredLayout read = stored_layout(Format::nested(3), expert_shapes(40, 24, 16), {kind, 8, 8});
    const StoredLayout whole = stored_layout(Format::nested(8), expert_shapes(40, 24, 16), {kind, 8, 8});
    CHECK(read.total_bytes() == whole.total_bytes());
    CHECK(read.plane(1, 2, 0, 1, 0, 3) == whole.plane(1, 2, 0, 1, 0, 3));
    CHECK(whole.read_bytes() - read.read_bytes() == 5 * whole.plane_stride());
  }
}

TEST_CASE("in plane_major an MWQ level is one run of bytes after all that fewer levels read", "[unit][numerics]") {
  const LayoutSpec spec{LayoutKind::kPlaneMajor, 8, 8};
  const std::vector<MatrixShape> shapes = expert_shapes(40, 24, 16);
  const StoredLayout whole = stored_layout(Format::mwq(2, 2, 2), shapes, spec);
  const StoredLayout less = stored_layout(Format::mwq(2, 2, 1), shapes, spec);
  CHECK(less.total_bytes() == whole.total_bytes());
  // Level 2: planes 1 and 2, then level 1; 2 bytes for each column and group: 2 * 24 * 3 + 40 * 2.
  const std::int64_t begin = 2 * whole.plane_stride() + whole.level_stride();
  CHECK(whole.level_stride() == whole.plane_stride() + 2 * (2 * 24 * 3 + 40 * 2));
  CHECK(whole.plane(0, 0, 0, 0, 0, 4).offset == begin);
  CHECK(whole.level_params(0, 0, 0, 0, 2).offset == begin + whole.plane_stride());
  const Segment last = whole.level_params(1, 4, 0, 1, 2);
  CHECK(last.offset + last.bytes == begin + whole.level_stride());
  CHECK(whole.read_bytes() - less.read_bytes() == whole.level_stride());
  CHECK(stored_layout(Format::mwq(2, 2, 0), shapes, spec).read_bytes() ==
        stored_layout(Format::integer(2), shapes, spec).read_bytes());
}

TEST_CASE("one copy for 2, 3 and 4 bits takes 4.4375 bits a weight in groups of 128", "[unit][numerics]") {
  for (const LayoutKind kind : layout_kinds()) {
    const StoredLayout copy = stored_layout(Format::mwq(2, 2, 2), product_shapes(64, 512, 128), {kind, 16, 16});
    const std::int64_t requantisation = 64 * 3;
    CHECK((copy.read_bytes() - requantisation) * 8 * 10000 == 64 * 512 * 44375);
    // Nothing is padded at these extents but 48 bytes to 64: for each of 4 blocks, of 4 groups and the requantisation.
    CHECK(copy.total_bytes() == copy.read_bytes() + (copy.is_interleaved() ? 4 * 5 * 16 : 0));
  }
}

TEST_CASE("extents far beyond memory are laid out without overflow", "[unit][numerics]") {
  const StoredLayout layout = stored_layout(
      Format::integer(4), product_shapes(std::int64_t{1} << 20, std::int64_t{1} << 22, std::int64_t{1} << 62),
      {LayoutKind::kPlaneMajor, 32, 32});
  CHECK(layout.plane_stride() == std::int64_t{1} << 39);
  CHECK(layout.groups(0) == 1);
}

TEST_CASE("a misspelt layout and stored weights of the wrong length are refused", "[unit][numerics]") {
  CHECK(parse_layout_kind("plane_major", "c", "k") == LayoutKind::kPlaneMajor);
  CHECK(parse_layout_kind("interleaved", "c", "k") == LayoutKind::kInterleaved);
  for (const LayoutKind kind : layout_kinds()) CHECK(parse_layout_kind(layout_kind_name(kind), "c", "k") == kind);
  CHECK_THROWS_WITH(parse_layout_kind("tilemajor", "chip.yaml:9", "layout"),
                    "chip.yaml:9: layout: got 'tilemajor', expected tile_major, plane_major or interleaved");
  const StoredLayout layout =
      stored_layout(Format::integer(4), product_shapes(8, 8, 8), {LayoutKind::kTileMajor, 4, 4});
  CHECK_THROWS_AS(layout.unpack(std::vector<std::uint8_t>(5)), moesaic::base::InputError);
  CHECK_THROWS_AS(layout.pack({}), std::logic_error);
  CHECK_THROWS_AS(stored_layout(Format::integer(4), {}, {LayoutKind::kTileMajor, 4, 4}), std::logic_error);
}

TEST_CASE("formats of one stored copy have its bytes in common, and others do not say that they are",
          "[unit][numerics]") {
  Rng rng(11);
  const std::vector<MatrixShape> shapes = product_shapes(10, 24, 16);
  for (const LayoutKind kind : layout_kinds())
    for (const Format& stored : all_formats()) {
      WeightMatrix w = random_matrix(rng, stored, 10, 24, 16);
      const std::vector<std::uint8_t> bytes = stored_layout(stored, shapes, {kind, 8, 4}).pack({&w});
      int readings = 0;
      for (int planes = 0; planes <= 9; ++planes) {
        const auto read = stored.read_at(planes);
        if (!read) continue;
        ++readings;
        INFO(stored.name() << " read as " << read->name());
        REQUIRE(read->planes() == planes);
        REQUIRE(read->same_copy(stored));
        REQUIRE(stored.same_copy(*read));
        w.format = *read;
        REQUIRE(stored_layout(*read, shapes, {kind, 8, 4}).pack({&w}) == bytes);
      }
      CHECK(readings == (stored.kind() == FormatKind::kNested ? 8 : 1 + stored.stored_levels()));
    }
  CHECK_FALSE(Format::integer(4).same_copy(Format::integer(3)));
  CHECK_FALSE(Format::integer(4).same_copy(Format::nested(4)));
  CHECK_FALSE(Format::mwq(2, 2, 1).same_copy(Format::mwq(2, 3, 1)));
  CHECK_FALSE(Format::mwq(2, 2, 1).same_copy(Format::mwq(1, 2, 2)));
}

TEST_CASE("an expert of several formats is an object for each, one after the other, and of one format the one object",
          "[unit][numerics]") {
  const Rng root(9090);
  for (std::uint64_t i = 0; i < 60; ++i) {
    CAPTURE(i);
    Rng rng = root.stream("expert", i);
    const auto draw = [&] { return rng.pick(rng.chance(1, 2) ? one_bundle_formats() : mwq_formats()); };
    ExpertFormats formats = draw();
    if (i % 3 != 0) formats.down = draw();
    if (i % 3 == 2) formats.up = draw();
    CAPTURE(formats.name());
    const LayoutSpec spec{rng.pick(layout_kinds()), static_cast<int>(rng.range(1, 20)),
                          static_cast<int>(rng.range(1, 20))};
    const std::int64_t hidden = rng.range(1, 50), inner = rng.range(1, 60), g = 8 * rng.range(1, 9);
    ExpertWeights w;
    w.gate = random_matrix(rng, formats.gate, inner, hidden, g);
    w.up = random_matrix(rng, formats.up, inner, hidden, g);
    w.down = random_matrix(rng, formats.down, hidden, inner, g);
    const ExpertLayout layout(formats, hidden, inner, g, spec);
    CHECK(layout.formats() == formats);
    REQUIRE(layout.objects().size() == (formats.is_one() ? 1U : formats.is_paired() ? 2U : 3U));
    const std::vector<std::uint8_t> bytes = layout.pack(w);
    REQUIRE(static_cast<std::int64_t>(bytes.size()) == layout.total_bytes());
    if (formats.is_one()) {
      const StoredLayout one = stored_layout(formats.gate, expert_shapes(hidden, inner, g), spec);
      CHECK(bytes == one.pack({&w.gate, &w.up, &w.down}));
      CHECK(layout.read_bytes() == one.read_bytes());
    }
    // What every matrix's place says is where it is.
    std::int64_t end = 0, read = 0;
    std::vector<WeightMatrix> found;
    for (const ExpertLayout::Object& object : layout.objects()) {
      CHECK(object.offset == end);
      CHECK(object.offset % 64 == 0);
      end += object.layout->total_bytes();
      read += object.layout->read_bytes();
      const std::vector<std::uint8_t> own(bytes.begin() + object.offset, bytes.begin() + end);
      for (WeightMatrix& part : object.layout->unpack(own)) found.push_back(std::move(part));
    }
    CHECK(end == layout.total_bytes());
    CHECK(read == layout.read_bytes());
    REQUIRE(found.size() == 3);
    CHECK(found[0].codes == w.gate.codes);
    CHECK(found[1].codes == w.up.codes);
    CHECK(found[1].group_multiplier == w.up.group_multiplier);
    CHECK(found[2].codes == w.down.codes);
    CHECK(found[2].requant_multiplier == w.down.requant_multiplier);
    const auto& down = layout.objects()[layout.down().object].layout;
    CHECK(down->matrices()[static_cast<std::size_t>(layout.down().matrix)].n == hidden);
    CHECK(layout.objects()[layout.up().object].layout->format() == formats.up);
    CHECK(down->format() == formats.down);
  }
}
