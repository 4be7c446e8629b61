#pragma once
/// Where every bit of a stored weight object lies: the only place that knows. DMA, cache, mapper and summaries ask
/// here.
///
/// An object is a list of matrices. A product is one matrix; an expert is {gate and up, interleaved} then {down}.
/// A chip tile is at most `rows` weights deep (k) and `cols` wide (n). Tile order within a matrix:
///
///   for block (of `cols` columns, the last may be narrower)
///     for which in 0..interleave-1            gate block 0, up block 0, gate block 1, ...
///       for group (of group_size k, the last may be shorter)
///         for tile in group                   tile_k = min(rows, what is left of the group): never crosses a group
///
/// A (tile, plane) is a bit string, k fastest: bit = col * tile_k + k, bit i in byte i / 8 at position i % 8, padded to
/// whole bytes. The object:
///
///   planes   tile_major:  for matrix, for tile: rank 1 .. stored_planes
///            plane_major: for rank 1 .. stored_planes: for matrix, for tile
///   params   for matrix, block, which, group: s u16 x cols, then zero point u8 x cols (not binary and ternary)
///   requant  for matrix, block, which: mu u16 x cols, then sigma u8 x cols
///
/// Each of the three regions is padded to 64 bytes. In interleaved there are no regions: everything lies in the order
/// in which the core fetches it, so that a pass over the object is one run of bytes (but for planes and levels that are
/// not read). params and requant then take whole 64 bytes, a DRAM's burst, and its end is padded to 64:
///
///   interleaved  for matrix, for tile: if the tile is its group's last, params of the group; rank 1 .. stored_planes;
///                if it is the last of (block, which), requant of these
///
/// MWQ's levels have parameters of their own, level after level,
///
///   level params  for matrix, block, which, group: s u16 x cols
///
/// in tile_major straight after params, in interleaved straight after everything else, in plane_major each straight
/// after its level's plane: a level is then one run of level_stride() bytes, that can be left out.
///
/// All numbers are little-endian. A read of b planes addresses ranks 1..b, and the parameters of the levels among them,
/// only; lower planes are never touched.
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "reference/numerics/expert.h"
#include "reference/numerics/expert_formats.h"
#include "reference/numerics/format.h"
#include "reference/numerics/mpgemm.h"

namespace moesaic::numerics {

enum class LayoutKind : std::uint8_t { kTileMajor, kPlaneMajor, kInterleaved };
/// Their names, in this order.
const std::vector<std::string>& layout_kind_names();
const std::vector<LayoutKind>& layout_kinds();
/// One of layout_kind_names(); anything else is a ConfigError.
LayoutKind parse_layout_kind(const std::string& name, const std::string& where, const std::string& key);
const char* layout_kind_name(LayoutKind kind);

struct LayoutSpec {
  LayoutKind kind = LayoutKind::kTileMajor;
  int rows = 0;  ///< array rows R, >= 1
  int cols = 0;  ///< array columns C, >= 1
};

struct MatrixShape {
  std::int64_t n = 0;  ///< columns of each interleaved part
  std::int64_t k = 0;
  std::int64_t group_size = 0;
  int interleave = 1;
};

/// Bytes offset..offset+bytes-1 of the object.
struct Segment {
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
  friend bool operator==(const Segment& a, const Segment& b) { return a.offset == b.offset && a.bytes == b.bytes; }
};

/// One stop of a TileWalk.
struct Tile {
  std::int64_t block = 0;  ///< of columns
  int which = 0;           ///< 0..interleave-1
  std::int64_t group = 0;
  std::int64_t tile = 0;     ///< within the group
  std::int64_t n0 = 0;       ///< first column
  int cols = 0;              ///< 1..C
  std::int64_t k0 = 0;       ///< first k
  int tile_k = 0;            ///< 1..R
  bool group_first = false;  ///< first tile of its group
  bool group_last = false;   ///< last tile of its group: the group sum is complete
  bool block_last = false;   ///< last tile of (block, which): the accumulators are complete
  bool tile_last = false;    ///< last tile of the matrix
};

/// All tiles of one matrix in stored order:  Tile t;  for (TileWalk walk(shape, rows, cols); walk.next(t);) ...
class TileWalk {
 public:
  TileWalk(const MatrixShape& shape, int rows, int cols);
  /// False, and `tile` untouched, when there are no more.
  bool next(Tile& tile);

 private:
  MatrixShape shape_;
  int rows_, cols_;
  std::int64_t block_ = 0, group_ = 0, tile_ = 0;
  int which_ = 0;
};

class StoredLayout {
 public:
  StoredLayout(const Format& format, std::vector<MatrixShape> matrices, const LayoutSpec& spec);

  const Format& format() const { return format_; }
  const LayoutSpec& spec() const { return spec_; }
  const std::vector<MatrixShape>& matrices() const { return matrices_; }

  std::int64_t total_bytes() const { return total_bytes_; }
  /// Bytes from one plane of the whole object to the next, up to the first level's: plane_major only steps by this; it
  /// is also one plane's size.
  std::int64_t plane_stride() const { return plane_bytes_; }
  /// Bytes from a level's parameters to the next level's, and in plane_major from its plane to the next level's; 0
  /// without levels.
  std::int64_t level_stride() const { return level_stride_; }
  /// Bytes that one pass over the object reads: planes() of the stored planes (unpadded), the parameters, the
  /// requantisation. read_bytes(b) is the same with the top b planes.
  std::int64_t read_bytes() const { return read_bytes(format_.planes()); }
  std::int64_t read_bytes(int planes) const;

  /// First byte of the matrix's tiles (rank 1), of its parameters, of its requantisation. Interleaved: planes_offset()
  /// is the first of all bytes of the matrix, and the other two are a std::logic_error.
  std::int64_t planes_offset(int matrix) const;
  std::int64_t params_offset(int matrix) const;
  std::int64_t level_params_offset(int matrix) const;  ///< of level 1; 0 without levels
  std::int64_t requant_offset(int matrix) const;
  /// Region starts: the plane region is at 0. Interleaved: std::logic_error.
  std::int64_t params_begin() const { return need_regions(params_begin_); }
  std::int64_t requant_begin() const { return need_regions(requant_begin_); }
  bool is_interleaved() const { return spec_.kind == LayoutKind::kInterleaved; }

  std::int64_t blocks(int matrix) const;
  std::int64_t groups(int matrix) const;
  std::int64_t group_length(int matrix, std::int64_t group) const;  ///< in k
  std::int64_t tiles_in_group(int matrix, std::int64_t group) const;
  std::int64_t tiles(int matrix) const;  ///< over all blocks and parts
  int block_cols(int matrix, std::int64_t block) const;

  /// The bits of one plane (rank 1 = most significant) of one tile; rank 1..stored_planes.
  Segment plane(int matrix, std::int64_t block, int which, std::int64_t group, std::int64_t tile, int rank) const;
  Segment plane(int matrix, const Tile& t, int rank) const {
    return plane(matrix, t.block, t.which, t.group, t.tile, rank);
  }
  /// Where a fetch begins whose first tile this is: at its first plane; interleaved, at the parameters before it if it
  /// is its group's last.
  std::int64_t fetch_offset(int matrix, std::int64_t block, int which, std::int64_t group, std::int64_t tile) const;
  /// s, then the zero points, of one (block, which, group).
  Segment params(int matrix, std::int64_t block, int which, std::int64_t group) const;
  /// s of level 1..stored_levels there.
  Segment level_params(int matrix, std::int64_t block, int which, std::int64_t group, int level) const;
  /// mu, then sigma, of one (block, which).
  Segment requant(int matrix, std::int64_t block, int which) const;

  TileWalk walk(int matrix) const {
    return TileWalk(matrices_[static_cast<std::size_t>(matrix)], spec_.rows, spec_.cols);
  }

  /// The object's bytes; `parts` are the matrices with interleaved ones apart: {w}, or {gate, up, down}. Throws
  /// std::logic_error when they are not of this layout's format and shapes.
  std::vector<std::uint8_t> pack(const std::vector<const WeightMatrix*>& parts) const;
  /// The reverse: codes from the top `planes` planes (others read as 0) and all parameters. Throws InputError when
  /// `bytes` is not total_bytes() long.
  std::vector<WeightMatrix> unpack(const std::vector<std::uint8_t>& bytes, int planes) const;
  std::vector<WeightMatrix> unpack(const std::vector<std::uint8_t>& bytes) const {
    return unpack(bytes, format_.stored_planes());
  }

 private:
  std::int64_t group_plane_bytes(std::int64_t length, int cols) const;
  std::int64_t block_plane_bytes(int matrix, int cols) const;
  std::int64_t columns_before(int matrix, std::int64_t block, int which, std::int64_t group) const;
  std::int64_t requant_columns_before(int matrix, std::int64_t block, int which) const;
  std::int64_t need_regions(std::int64_t offset) const;
  Format format_;
  std::vector<MatrixShape> matrices_;
  LayoutSpec spec_;
  std::int64_t plane_bytes_ = 0, params_begin_ = 0, requant_begin_ = 0, total_bytes_ = 0;
  std::int64_t level_stride_ = 0, level_params_begin_ = 0;
  std::vector<std::int64_t> plane_base_, params_base_, requant_base_;  // per matrix, within one plane or region
  std::vector<std::int64_t> level_base_;
};

/// The layout of `matrices` in `format`; std::logic_error for an empty list or extents below 1.
StoredLayout stored_layout(const Format& format, const std::vector<MatrixShape>& matrices, const LayoutSpec& spec);
/// The matrices of a product, and of an expert with hidden size H and intermediate size I.
std::vector<MatrixShape> product_shapes(std::int64_t n, std::int64_t k, std::int64_t group_size);
std::vector<MatrixShape> expert_shapes(std::int64_t hidden, std::int64_t intermediate, std::int64_t group_size);

/// How an expert is stored whose matrices may have formats of their own: an object for what shares a format, one after
/// the other, each padded as an object is.
///
///   one format                {gate and up, down}, as every object of an expert
///   gate's and up's the same  {gate and up}, {down}
///   gate's and up's differ    {gate}, {up}, {down}: their tiles cannot take turns
class ExpertLayout {
 public:
  ExpertLayout(const ExpertFormats& formats, std::int64_t hidden, std::int64_t intermediate, std::int64_t group_size,
               const LayoutSpec& spec);

  struct Object {
    std::shared_ptr<const StoredLayout> layout;
    std::int64_t offset = 0;  ///< from the expert's first byte
  };
  /// A matrix: which object, and its number there; of gate and up together `which` is part of the tile.
  struct Place {
    std::size_t object = 0;
    int matrix = 0;
  };

  const ExpertFormats& formats() const { return formats_; }
  const LayoutSpec& spec() const { return objects_.front().layout->spec(); }
  const std::vector<Object>& objects() const { return objects_; }
  Place gate() const { return {0, 0}; }
  Place up() const { return {formats_.is_paired() ? std::size_t{0} : std::size_t{1}, 0}; }
  Place down() const { return {objects_.size() - 1, objects_.size() == 1 ? 1 : 0}; }

  std::int64_t total_bytes() const;
  std::int64_t read_bytes() const;  ///< of one pass over the expert

  /// The expert's bytes; std::logic_error for weights of other formats or shapes.
  std::vector<std::uint8_t> pack(const ExpertWeights& weights) const;

 private:
  ExpertFormats formats_;
  std::vector<Object> objects_;
};

}  // namespace moesaic::numerics
