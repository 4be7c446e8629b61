#include "reference/numerics/stored_layout.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "base/error.h"

namespace moesaic::numerics {

using base::ceil_div;
using base::round_up;

namespace {

constexpr std::int64_t kRegionAlignment = 64;  // bytes
constexpr std::int64_t kBurst = 64;            // bytes of a DRAM's burst

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

std::int64_t group_count(const MatrixShape& shape) { return (shape.k - 1) / shape.group_size + 1; }

// The length of every group but the last; a group size far beyond k must not enter a product.
std::int64_t whole_group(const MatrixShape& shape) { return std::min(shape.group_size, shape.k); }

std::int64_t length_of_group(const MatrixShape& shape, std::int64_t group) {
  return std::min(shape.group_size, shape.k - group * shape.group_size);
}

std::int64_t count_parts(const std::vector<MatrixShape>& matrices) {
  std::int64_t parts = 0;
  for (const auto& shape : matrices) parts += shape.interleave;
  return parts;
}

constexpr std::int64_t kLevelBytesPerColumn = 2;
constexpr std::int64_t kRequantBytesPerColumn = 3;

std::int64_t params_bytes_per_column(const Format& format) { return format.has_zero_point() ? 3 : 2; }

// From the parameters, or the requantisation, of so many columns to what follows them.
std::int64_t room(const StoredLayout& layout, std::int64_t bytes) {
  return layout.is_interleaved() ? round_up(bytes, kBurst) : bytes;
}
std::int64_t params_room(const StoredLayout& layout, std::int64_t cols) {
  return room(layout, cols * params_bytes_per_column(layout.format()));
}
std::int64_t requant_room(const StoredLayout& layout, std::int64_t cols) {
  return room(layout, cols * kRequantBytesPerColumn);
}

void store_u16(std::vector<std::uint8_t>& bytes, std::int64_t offset, std::uint16_t value) {
  bytes[at(offset)] = static_cast<std::uint8_t>(value & 255);
  bytes[at(offset + 1)] = static_cast<std::uint8_t>(value >> 8);
}

std::uint16_t load_u16(const std::vector<std::uint8_t>& bytes, std::int64_t offset) {
  return static_cast<std::uint16_t>(bytes[at(offset)] | bytes[at(offset + 1)] << 8);
}

}  // namespace

const std::vector<std::string>& layout_kind_names() {
  static const std::vector<std::string> names{"tile_major", "plane_major", "interleaved"};
  return names;
}

const std::vector<LayoutKind>& layout_kinds() {
  static const std::vector<LayoutKind> kinds{LayoutKind::kTileMajor, LayoutKind::kPlaneMajor, LayoutKind::kInterleaved};
  return kinds;
}

LayoutKind parse_layout_kind(const std::string& name, const std::string& where, const std::string& key) {
  for (const LayoutKind kind : layout_kinds())
    if (name == layout_kind_name(kind)) return kind;
  throw base::ConfigError(where, key, "'" + name + "'", "tile_major, plane_major or interleaved");
}

const char* layout_kind_name(LayoutKind kind) { return layout_kind_names()[static_cast<std::size_t>(kind)].c_str(); }

TileWalk::TileWalk(const MatrixShape& shape, int rows, int cols) : shape_(shape), rows_(rows), cols_(cols) {}

bool TileWalk::next(Tile& tile) {
  const std::int64_t blocks = ceil_div(shape_.n, cols_);
  if (block_ == blocks) return false;
  const std::int64_t groups = group_count(shape_);
  const std::int64_t length = length_of_group(shape_, group_);
  const std::int64_t tiles = ceil_div(length, rows_);
  tile.block = block_;
  tile.which = which_;
  tile.group = group_;
  tile.tile = tile_;
  tile.n0 = block_ * cols_;
  tile.cols = static_cast<int>(std::min<std::int64_t>(cols_, shape_.n - tile.n0));
  tile.k0 = group_ * shape_.group_size + tile_ * rows_;
  tile.tile_k = static_cast<int>(std::min<std::int64_t>(rows_, length - tile_ * rows_));
  tile.group_first = tile_ == 0;
  tile.group_last = tile_ + 1 == tiles;
  tile.block_last = tile.group_last && group_ + 1 == groups;
  tile.tile_last = tile.block_last && which_ + 1 == shape_.interleave && block_ + 1 == blocks;

  if (++tile_ < tiles) return true;
  tile_ = 0;
  if (++group_ < groups) return true;
  group_ = 0;
  if (++which_ < shape_.interleave) return true;
  which_ = 0;
  ++block_;
  return true;
}

StoredLayout::StoredLayout(const Format& format, std::vector<MatrixShape> matrices, const LayoutSpec& spec)
    : format_(format), matrices_(std::move(matrices)), spec_(spec) {
  if (matrices_.empty()) throw std::logic_error("a stored layout of no matrix");
  if (spec_.rows < 1 || spec_.cols < 1) throw std::logic_error("a stored layout for an array without rows or columns");
  std::int64_t params = 0;
  std::int64_t requant = 0;
  std::int64_t level = 0;  // bytes of one level's parameters
  for (int i = 0; i < static_cast<int>(matrices_.size()); ++i) {
    const MatrixShape& shape = matrices_[at(i)];
    if (shape.n < 1 || shape.k < 1 || shape.group_size < 1 || shape.interleave < 1)
      throw std::logic_error("a stored layout of a matrix with an extent below 1");
    plane_base_.push_back(plane_bytes_);
    params_base_.push_back(params);
    requant_base_.push_back(requant);
    level_base_.push_back(level);
    const std::int64_t last = blocks(i) - 1;
    plane_bytes_ +=
        shape.interleave * (last * block_plane_bytes(i, spec_.cols) + block_plane_bytes(i, block_cols(i, last)));
    params += shape.interleave * groups(i) *
              (last * params_room(*this, spec_.cols) + params_room(*this, block_cols(i, last)));
    requant += shape.interleave * (last * requant_room(*this, spec_.cols) + requant_room(*this, block_cols(i, last)));
    level += shape.interleave * shape.n * groups(i) * kLevelBytesPerColumn;
  }
  const int levels = format_.stored_levels();
  const bool by_planes = spec_.kind == LayoutKind::kPlaneMajor;
  if (levels > 0) level_stride_ = by_planes ? plane_bytes_ + level : level;
  if (is_interleaved()) {
    level_params_begin_ = plane_bytes_ * format_.stored_planes() + params + requant;
    total_bytes_ = round_up(level_params_begin_ + levels * level, kRegionAlignment);
    return;
  }
  params_begin_ = round_up(plane_bytes_ * format_.stored_planes() + (by_planes ? levels * level : 0), kRegionAlignment);
  level_params_begin_ = by_planes ? plane_bytes_ * (format_.stored_planes() - levels + 1) : params_begin_ + params;
  if (!by_planes) params += levels * level;
  requant_begin_ = params_begin_ + round_up(params, kRegionAlignment);
  total_bytes_ = requant_begin_ + round_up(requant, kRegionAlignment);
}

std::int64_t StoredLayout::need_regions(std::int64_t offset) const {
  if (is_interleaved()) throw std::logic_error("a region of an interleaved object");
  return offset;
}

std::int64_t StoredLayout::group_plane_bytes(std::int64_t length, int cols) const {
  const std::int64_t rest = length % spec_.rows;
  return length / spec_.rows * ceil_div(static_cast<std::int64_t>(cols) * spec_.rows, 8) + ceil_div(cols * rest, 8);
}

std::int64_t StoredLayout::block_plane_bytes(int matrix, int cols) const {
  const MatrixShape& shape = matrices_[at(matrix)];
  const std::int64_t last = groups(matrix) - 1;
  return last * group_plane_bytes(whole_group(shape), cols) + group_plane_bytes(length_of_group(shape, last), cols);
}

std::int64_t StoredLayout::read_bytes(int planes) const {
  const std::int64_t levels = std::max(0, planes - (format_.stored_planes() - format_.stored_levels()));
  std::int64_t bytes = plane_bytes_ * planes;
  for (int i = 0; i < static_cast<int>(matrices_.size()); ++i) {
    const MatrixShape& shape = matrices_[at(i)];
    bytes += shape.interleave * shape.n *
             (groups(i) * (params_bytes_per_column(format_) + levels * kLevelBytesPerColumn) + kRequantBytesPerColumn);
  }
  return bytes;
}

std::int64_t StoredLayout::planes_offset(int matrix) const {
  const std::int64_t base = plane_base_[at(matrix)];
  if (spec_.kind == LayoutKind::kPlaneMajor) return base;
  const std::int64_t between = is_interleaved() ? params_base_[at(matrix)] + requant_base_[at(matrix)] : 0;
  return base * format_.stored_planes() + between;
}
std::int64_t StoredLayout::params_offset(int matrix) const { return params_begin() + params_base_[at(matrix)]; }
std::int64_t StoredLayout::level_params_offset(int matrix) const {
  return format_.stored_levels() == 0 ? 0 : level_params_begin_ + level_base_[at(matrix)];
}
std::int64_t StoredLayout::requant_offset(int matrix) const { return requant_begin() + requant_base_[at(matrix)]; }

std::int64_t StoredLayout::blocks(int matrix) const { return ceil_div(matrices_[at(matrix)].n, spec_.cols); }
std::int64_t StoredLayout::groups(int matrix) const { return group_count(matrices_[at(matrix)]); }
std::int64_t StoredLayout::group_length(int matrix, std::int64_t group) const {
  return length_of_group(matrices_[at(matrix)], group);
}
std::int64_t StoredLayout::tiles_in_group(int matrix, std::int64_t group) const {
  return ceil_div(group_length(matrix, group), spec_.rows);
}
std::int64_t StoredLayout::tiles(int matrix) const {
  const MatrixShape& shape = matrices_[at(matrix)];
  const std::int64_t last = groups(matrix) - 1;
  const std::int64_t per_block = last * ceil_div(whole_group(shape), spec_.rows) + tiles_in_group(matrix, last);
  return blocks(matrix) * shape.interleave * per_block;
}
int StoredLayout::block_cols(int matrix, std::int64_t block) const {
  return static_cast<int>(std::min<std::int64_t>(spec_.cols, matrices_[at(matrix)].n - block * spec_.cols));
}

Segment StoredLayout::plane(int matrix, std::int64_t block, int which, std::int64_t group, std::int64_t tile,
                            int rank) const {
  const MatrixShape& shape = matrices_[at(matrix)];
  const int cols = block_cols(matrix, block);
  const std::int64_t tile_k = std::min<std::int64_t>(spec_.rows, group_length(matrix, group) - tile * spec_.rows);
  // Bytes of one plane of this matrix before the tile: whole blocks, whole parts of this block, whole groups, whole
  // tiles.
  const std::int64_t before = block * shape.interleave * block_plane_bytes(matrix, spec_.cols) +
                              which * block_plane_bytes(matrix, cols) +
                              group * group_plane_bytes(whole_group(shape), cols) +
                              tile * ceil_div(static_cast<std::int64_t>(cols) * spec_.rows, 8);
  const std::int64_t bytes = ceil_div(cols * tile_k, 8);
  if (spec_.kind != LayoutKind::kPlaneMajor) {
    std::int64_t between = 0;  // of the matrix, what parameters and requantisation take before the tile
    if (is_interleaved()) {
      const std::int64_t blocks_before = block * shape.interleave, all = groups(matrix);
      const std::int64_t own = tile + 1 == tiles_in_group(matrix, group) ? 1 : 0;
      between = blocks_before * (all * params_room(*this, spec_.cols) + requant_room(*this, spec_.cols)) +
                which * (all * params_room(*this, cols) + requant_room(*this, cols)) +
                (group + own) * params_room(*this, cols);
    }
    return {planes_offset(matrix) + before * format_.stored_planes() + between + (rank - 1) * bytes, bytes};
  }
  const std::int64_t in_plane = plane_base_[at(matrix)] + before;
  const int level = rank - (format_.stored_planes() - format_.stored_levels());
  const std::int64_t before_level = level > 0 ? (level - 1) * (level_stride_ - plane_bytes_) : 0;
  return {(rank - 1) * plane_bytes_ + before_level + in_plane, bytes};
}

std::int64_t StoredLayout::fetch_offset(int matrix, std::int64_t block, int which, std::int64_t group,
                                        std::int64_t tile) const {
  const bool params_first = is_interleaved() && tile + 1 == tiles_in_group(matrix, group);
  return params_first ? params(matrix, block, which, group).offset : plane(matrix, block, which, group, tile, 1).offset;
}

// Columns of the matrix's parts, one a group, before those of (block, which, group).
std::int64_t StoredLayout::columns_before(int matrix, std::int64_t block, int which, std::int64_t group) const {
  const std::int64_t cols = block_cols(matrix, block);
  return block * matrices_[at(matrix)].interleave * spec_.cols * groups(matrix) + which * cols * groups(matrix) +
         group * cols;
}

// The same of the requantisation: one each.
std::int64_t StoredLayout::requant_columns_before(int matrix, std::int64_t block, int which) const {
  return block * matrices_[at(matrix)].interleave * spec_.cols + which * std::int64_t{block_cols(matrix, block)};
}

Segment StoredLayout::params(int matrix, std::int64_t block, int which, std::int64_t group) const {
  const std::int64_t per_column = params_bytes_per_column(format_), bytes = block_cols(matrix, block) * per_column;
  if (is_interleaved())
    return {plane(matrix, block, which, group, tiles_in_group(matrix, group) - 1, 1).offset -
                params_room(*this, block_cols(matrix, block)),
            bytes};
  return {params_offset(matrix) + columns_before(matrix, block, which, group) * per_column, bytes};
}

Segment StoredLayout::level_params(int matrix, std::int64_t block, int which, std::int64_t group, int level) const {
  return {level_params_offset(matrix) + (level - 1) * level_stride_ +
              columns_before(matrix, block, which, group) * kLevelBytesPerColumn,
          block_cols(matrix, block) * kLevelBytesPerColumn};
}

Segment StoredLayout::requant(int matrix, std::int64_t block, int which) const {
  const std::int64_t bytes = block_cols(matrix, block) * kRequantBytesPerColumn;
  if (is_interleaved()) {
    const std::int64_t group = groups(matrix) - 1;
    const Segment last = plane(matrix, block, which, group, tiles_in_group(matrix, group) - 1, format_.stored_planes());
    return {last.offset + last.bytes, bytes};
  }
  return {requant_offset(matrix) + requant_columns_before(matrix, block, which) * kRequantBytesPerColumn, bytes};
}

std::vector<std::uint8_t> StoredLayout::pack(const std::vector<const WeightMatrix*>& parts) const {
  if (static_cast<std::int64_t>(parts.size()) != count_parts(matrices_))
    throw std::logic_error("pack() was given " + std::to_string(parts.size()) + " matrices");
  std::vector<std::uint8_t> bytes(at(total_bytes()));
  std::size_t part = 0;
  for (int i = 0; i < static_cast<int>(matrices_.size());
       part += static_cast<std::size_t>(matrices_[at(i++)].interleave)) {
    const MatrixShape& shape = matrices_[at(i)];
    for (int which = 0; which < shape.interleave; ++which) {
      const WeightMatrix& w = *parts[part + at(which)];
      if (w.format.stored_planes() != format_.stored_planes() || w.format.kind() != format_.kind() ||
          w.format.stored_levels() != format_.stored_levels() || w.n != shape.n || w.k != shape.k ||
          w.group_size != shape.group_size)
        throw std::logic_error("pack() was given a matrix of another format or shape");
    }
    Tile t;
    for (TileWalk tiles = walk(i); tiles.next(t);) {
      const WeightMatrix& w = *parts[part + at(t.which)];
      for (int rank = 1; rank <= format_.stored_planes(); ++rank) {
        const Segment segment = plane(i, t, rank);
        for (int col = 0; col < t.cols; ++col)
          for (int k = 0; k < t.tile_k; ++k) {
            const std::int64_t bit = static_cast<std::int64_t>(col) * t.tile_k + k;
            const int value = format_.plane_bit(w.codes[at((t.n0 + col) * w.k + t.k0 + k)], rank);
            auto& byte = bytes[at(segment.offset + bit / 8)];
            byte = static_cast<std::uint8_t>(byte | value << (bit % 8));
          }
      }
      if (t.group_first) {
        const Segment segment = params(i, t.block, t.which, t.group);
        for (int col = 0; col < t.cols; ++col) {
          const std::int64_t index = (t.n0 + col) * w.groups() + t.group;
          store_u16(bytes, segment.offset + 2 * col, w.group_multiplier[at(index)]);
          if (format_.has_zero_point()) bytes[at(segment.offset + 2 * t.cols + col)] = w.zero_point[at(index)];
        }
        for (int level = 1; level <= format_.stored_levels(); ++level) {
          const Segment scales = level_params(i, t.block, t.which, t.group, level);
          for (int col = 0; col < t.cols; ++col)
            store_u16(bytes, scales.offset + 2 * col, w.multipliers(level, t.n0 + col)[t.group]);
        }
      }
      if (t.block_last) {
        const Segment segment = requant(i, t.block, t.which);
        for (int col = 0; col < t.cols; ++col) {
          store_u16(bytes, segment.offset + 2 * col, w.requant_multiplier[at(t.n0 + col)]);
          bytes[at(segment.offset + 2 * t.cols + col)] = w.requant_shift[at(t.n0 + col)];
        }
      }
    }
  }
  return bytes;
}

std::vector<WeightMatrix> StoredLayout::unpack(const std::vector<std::uint8_t>& bytes, int planes) const {
  if (static_cast<std::int64_t>(bytes.size()) != total_bytes())
    throw base::ConfigError("stored weights", "size", std::to_string(bytes.size()) + " bytes",
                            std::to_string(total_bytes()));
  std::vector<WeightMatrix> parts;
  for (int i = 0; i < static_cast<int>(matrices_.size()); ++i) {
    const MatrixShape& shape = matrices_[at(i)];
    const std::size_t first = parts.size();
    for (int which = 0; which < shape.interleave; ++which) {
      WeightMatrix w;
      w.format = format_;
      w.n = shape.n;
      w.k = shape.k;
      w.group_size = shape.group_size;
      w.codes.resize(at(w.n * w.k));
      w.group_multiplier.resize(at(w.n * w.groups()));
      w.level_multiplier.resize(at(format_.stored_levels() * w.n * w.groups()));
      if (format_.has_zero_point()) w.zero_point.resize(at(w.n * w.groups()));
      w.requant_multiplier.resize(at(w.n));
      w.requant_shift.resize(at(w.n));
      parts.push_back(std::move(w));
    }
    Tile t;
    for (TileWalk tiles = walk(i); tiles.next(t);) {
      WeightMatrix& w = parts[first + at(t.which)];
      for (int rank = 1; rank <= planes; ++rank) {
        const Segment segment = plane(i, t, rank);
        for (int col = 0; col < t.cols; ++col)
          for (int k = 0; k < t.tile_k; ++k) {
            const std::int64_t bit = static_cast<std::int64_t>(col) * t.tile_k + k;
            const int value = bytes[at(segment.offset + bit / 8)] >> (bit % 8) & 1;
            auto& code = w.codes[at((t.n0 + col) * w.k + t.k0 + k)];
            code = static_cast<std::uint8_t>(code | value << (format_.stored_planes() - rank));
          }
      }
      const Segment param_bytes = params(i, t.block, t.which, t.group);
      const Segment requant_bytes = requant(i, t.block, t.which);
      for (int col = 0; col < t.cols; ++col) {
        const std::int64_t index = (t.n0 + col) * w.groups() + t.group;
        w.group_multiplier[at(index)] = load_u16(bytes, param_bytes.offset + 2 * col);
        if (format_.has_zero_point()) w.zero_point[at(index)] = bytes[at(param_bytes.offset + 2 * t.cols + col)];
        w.requant_multiplier[at(t.n0 + col)] = load_u16(bytes, requant_bytes.offset + 2 * col);
        w.requant_shift[at(t.n0 + col)] = bytes[at(requant_bytes.offset + 2 * t.cols + col)];
      }
      for (int level = 1; level <= format_.stored_levels(); ++level) {
        const Segment scales = level_params(i, t.block, t.which, t.group, level);
        for (int col = 0; col < t.cols; ++col)
          w.level_multiplier[at(((level - 1) * w.n + t.n0 + col) * w.groups() + t.group)] =
              load_u16(bytes, scales.offset + 2 * col);
      }
    }
  }
  return parts;
}

StoredLayout stored_layout(const Format& format, const std::vector<MatrixShape>& matrices, const LayoutSpec& spec) {
  return StoredLayout(format, matrices, spec);
}

std::vector<MatrixShape> product_shapes(std::int64_t n, std::int64_t k, std::int64_t group_size) {
  return {{n, k, group_size, 1}};
}

std::vector<MatrixShape> expert_shapes(std::int64_t hidden, std::int64_t intermediate, std::int64_t group_size) {
  return {{intermediate, hidden, group_size, 2}, {hidden, intermediate, group_size, 1}};
}

ExpertLayout::ExpertLayout(const ExpertFormats& formats, std::int64_t hidden, std::int64_t intermediate,
                           std::int64_t group_size, const LayoutSpec& spec)
    : formats_(formats) {
  const auto add = [&](Format format, const std::vector<MatrixShape>& matrices) {
    const std::int64_t offset = objects_.empty() ? 0 : objects_.back().offset + objects_.back().layout->total_bytes();
    objects_.push_back({std::make_shared<const StoredLayout>(stored_layout(format, matrices, spec)), offset});
  };
  const std::vector<MatrixShape> both = expert_shapes(hidden, intermediate, group_size);
  if (formats.is_one()) {
    add(formats.gate, both);
    return;
  }
  if (formats.is_paired()) {
    add(formats.gate, {both[0]});
  } else {
    add(formats.gate, product_shapes(intermediate, hidden, group_size));
    add(formats.up, product_shapes(intermediate, hidden, group_size));
  }
  add(formats.down, {both[1]});
}

std::int64_t ExpertLayout::total_bytes() const {
  return objects_.back().offset + objects_.back().layout->total_bytes();
}

std::int64_t ExpertLayout::read_bytes() const {
  std::int64_t bytes = 0;
  for (const Object& object : objects_) bytes += object.layout->read_bytes();
  return bytes;
}

std::vector<std::uint8_t> ExpertLayout::pack(const ExpertWeights& w) const {
  const std::array<const WeightMatrix*, 3> matrices{&w.gate, &w.up, &w.down};
  std::vector<std::uint8_t> bytes;
  std::size_t next = 0;
  for (const Object& object : objects_) {
    std::vector<const WeightMatrix*> own;
    for (const MatrixShape& shape : object.layout->matrices())
      for (int which = 0; which < shape.interleave; ++which) own.push_back(matrices.at(next++));
    const std::vector<std::uint8_t> part = object.layout->pack(own);
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  return bytes;
}

}  // namespace moesaic::numerics
