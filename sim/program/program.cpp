#include "sim/program/program.h"

#include <algorithm>
#include <stdexcept>

#include "base/units.h"

namespace moesaic::program {

using base::ceil_div;

/// Where load_act finds its elements.
struct ProgramBuilder::Source {
  int act_bits = 8;
  bool hidden_buffer = false;  ///< else memory, at the token's in row
  bool hidden_shift = false;   ///< elements are h: shift by eh[m]
  int elem_bytes = 1;
};

WeightObject ProgramBuilder::place(const std::string& name, std::shared_ptr<const numerics::StoredLayout> layout,
                                   const std::vector<std::uint8_t>& bytes) {
  if (static_cast<std::int64_t>(bytes.size()) != layout->total_bytes())
    throw std::logic_error("object of another layout");
  const WeightObject object = reserve(name, std::move(layout));
  image_.write(object.address, bytes.data(), bytes.size());
  return object;
}

void ProgramBuilder::check_layout(const numerics::LayoutSpec& spec) const {
  if (spec.rows != static_cast<int>(params_.rows) || spec.cols != static_cast<int>(params_.cols))
    throw std::logic_error("layout of another array");
}

WeightObject ProgramBuilder::reserve(const std::string& name, std::shared_ptr<const numerics::StoredLayout> layout) {
  check_layout(layout->spec());
  const auto total = static_cast<std::uint64_t>(layout->total_bytes());
  WeightObject object{std::move(layout), image_.allocate(name, Kind::kWeights, total)};
  label(object);
  return object;
}

ExpertObject ProgramBuilder::reserve(const std::string& name, std::shared_ptr<const numerics::ExpertLayout> layout) {
  check_layout(layout->spec());
  const auto total = static_cast<std::uint64_t>(layout->total_bytes());
  ExpertObject expert{std::move(layout), image_.allocate(name, Kind::kWeights, total)};
  for (std::size_t i = 0; i < expert.layout->objects().size(); ++i) label(expert.object(i));
  return expert;
}

ExpertObject ProgramBuilder::place(const std::string& name, std::shared_ptr<const numerics::ExpertLayout> layout,
                                   const std::vector<std::uint8_t>& bytes) {
  if (static_cast<std::int64_t>(bytes.size()) != layout->total_bytes())
    throw std::logic_error("expert of another layout");
  const ExpertObject expert = reserve(name, std::move(layout));
  image_.write(expert.address, bytes.data(), bytes.size());
  return expert;
}

/// Says of an object's bytes what they are. An interleaved object's are weights, all of them: a region for every piece
/// would be one for every group and block of columns.
void ProgramBuilder::label(const WeightObject& object) {
  if (object.layout->is_interleaved()) return;
  const auto total = static_cast<std::uint64_t>(object.layout->total_bytes());
  const auto params = static_cast<std::uint64_t>(object.layout->params_begin());
  const auto requant = static_cast<std::uint64_t>(object.layout->requant_begin());
  image_.relabel(object.address + params, requant - params, Kind::kParams);
  image_.relabel(object.address + requant, total - requant, Kind::kRequant);
  if (object.layout->spec().kind == numerics::LayoutKind::kPlaneMajor) {  // each level's parameters follow its plane
    const auto levels = static_cast<std::uint64_t>(object.layout->format().stored_levels());
    const auto stride = static_cast<std::uint64_t>(object.layout->level_stride()),
               first = static_cast<std::uint64_t>(object.layout->level_params_offset(0)),
               bytes = stride - (levels == 0 ? 0 : static_cast<std::uint64_t>(object.layout->plane_stride()));
    for (std::uint64_t level = 0; level < levels; ++level)
      image_.relabel(object.address + first + level * stride, bytes, Kind::kParams);
  }
}

WeightObject ProgramBuilder::reserve_cache(const std::string& name,
                                           std::shared_ptr<const numerics::StoredLayout> layout) {
  check_layout(layout->spec());
  const auto total = static_cast<std::uint64_t>(layout->total_bytes());
  return {std::move(layout), image_.allocate(name, Kind::kCache, total)};
}

ProgramBuilder::Part ProgramBuilder::whole(const WeightObject& object, int matrix) const {
  const numerics::MatrixShape& shape = object.layout->matrices().at(static_cast<std::size_t>(matrix));
  return {matrix, shape.n, shape.k};
}

/// What one pass over the part reads; of a whole object of one matrix StoredLayout::read_bytes().
std::int64_t ProgramBuilder::read_bytes(const WeightObject& object, const Part& part) const {
  const numerics::MatrixShape& shape = object.layout->matrices()[static_cast<std::size_t>(part.matrix)];
  const numerics::Format& format = object.layout->format();
  const std::int64_t group = std::min(shape.group_size, shape.k), rows = params_.rows;
  const auto block = [&](std::int64_t cols) {
    const auto planes_of = [&](std::int64_t k) {  // of one group
      return k / rows * ceil_div(rows * cols, 8) + ceil_div(k % rows * cols, 8);
    };
    const std::int64_t planes = part.k / group * planes_of(group) + planes_of(part.k % group);
    const std::int64_t params =
        ceil_div(part.k, group) * cols * ((format.has_zero_point() ? 3 : 2) + 2 * format.levels());
    return planes * format.planes() + params + 3 * cols;
  };
  return part.n / params_.cols * block(params_.cols) + (part.n % params_.cols == 0 ? 0 : block(part.n % params_.cols));
}

std::int64_t ProgramBuilder::tiles_in(std::int64_t k, std::int64_t group_size) const {
  const std::int64_t rows = params_.rows;
  return k / group_size * ceil_div(group_size, rows) + ceil_div(k % group_size, rows);
}

/// Whether the hidden rows of so many tokens go through memory.
bool ProgramBuilder::spills(std::int64_t intermediate, std::int64_t tokens) const {
  return tokens * ceil_div(intermediate, 4) > params_.hidden_depth;
}

/// What a block of so many tokens moves over the ports, without what is the same for any blocks: its results.
std::int64_t ProgramBuilder::block_bytes(const numerics::ExpertLayout& layout, std::int64_t tokens, int act_bits,
                                         bool writes_h) const {
  const auto shape_of = [&](const numerics::ExpertLayout::Place& place) {
    return layout.objects()[place.object].layout->matrices()[static_cast<std::size_t>(place.matrix)];
  };
  const numerics::MatrixShape gate = shape_of(layout.gate()), down = shape_of(layout.down());
  const auto loads = [&](const numerics::MatrixShape& shape, int halves) {
    const bool whole = tokens * tiles_in(shape.k, std::min(shape.group_size, shape.k)) <= params_.act_depth;
    return whole ? 1 : ceil_div(shape.n, std::int64_t{params_.cols}) * halves;
  };
  std::int64_t bytes = layout.read_bytes() + tokens * gate.k * (act_bits == 16 ? 2 : 1) * loads(gate, 2);
  if (spills(gate.n, tokens)) bytes += tokens * down.k * 2 * ((writes_h ? 0 : 1) + loads(down, 1));
  return bytes;
}

std::int64_t ProgramBuilder::block_tokens(const numerics::ExpertLayout& layout, std::int64_t rows, int act_bits,
                                          bool writes_h) const {
  std::int64_t best = 1, fewest = 0;
  for (std::int64_t tokens = 1; tokens <= std::min<std::int64_t>(rows, params_.max_tokens); ++tokens) {
    const std::int64_t rest = rows % tokens;
    const std::int64_t bytes = rows / tokens * block_bytes(layout, tokens, act_bits, writes_h) +
                               (rest == 0 ? 0 : block_bytes(layout, rest, act_bits, writes_h));
    if (tokens > 1 && bytes > fewest) continue;
    best = tokens;
    fewest = bytes;
  }
  return best;
}

/// As block_tokens(), of a product.
std::int64_t ProgramBuilder::product_block_tokens(const WeightObject& object, const Part& part, std::int64_t rows,
                                                  int act_bits) const {
  const numerics::MatrixShape& shape = object.layout->matrices()[static_cast<std::size_t>(part.matrix)];
  const std::int64_t weights = read_bytes(object, part), blocks = ceil_div(part.n, std::int64_t{params_.cols}),
                     tiles = tiles_in(part.k, std::min(shape.group_size, shape.k));
  const auto bytes_of = [&](std::int64_t tokens) {
    const std::int64_t loads = tokens * tiles <= params_.act_depth ? 1 : blocks;
    return weights + tokens * part.k * (act_bits == 16 ? 2 : 1) * loads;
  };
  std::int64_t best = 1, fewest = 0;
  for (std::int64_t tokens = 1; tokens <= std::min<std::int64_t>(rows, params_.max_tokens); ++tokens) {
    const std::int64_t rest = rows % tokens,
                       bytes = rows / tokens * bytes_of(tokens) + (rest == 0 ? 0 : bytes_of(rest));
    if (tokens > 1 && bytes > fewest) continue;
    best = tokens;
    fewest = bytes;
  }
  return best;
}

/// `apart`: a chunk that ends within a group holds nothing of another.
std::vector<ProgramBuilder::Chunk> ProgramBuilder::chunks(std::int64_t k, std::int64_t group_size,
                                                          std::int64_t max_tiles, bool apart) const {
  std::vector<Chunk> all;
  Chunk chunk{0, 0, 0};
  for (std::int64_t at = 0; at < k;) {
    const bool group_fits =
        at % group_size != 0 || chunk.tiles + tiles_in(std::min(group_size, k - at), group_size) <= max_tiles;
    if (chunk.tiles == max_tiles || (apart && chunk.tiles > 0 && !group_fits)) {
      all.push_back(chunk);
      chunk = {at, 0, 0};
    }
    const std::int64_t left = std::min(group_size - at % group_size, k - at),
                       tile = std::min<std::int64_t>(params_.rows, left);
    chunk.length += tile;
    ++chunk.tiles;
    at += tile;
  }
  all.push_back(chunk);
  return all;
}

void ProgramBuilder::set_rows(const std::vector<TokenRow>& rows, std::size_t first, std::size_t count) {
  row_table_.resize(params_.max_tokens);
  row_known_.resize(params_.max_tokens);
  for (std::size_t i = 0; i < count; ++i) {
    const TokenRow& row = rows[first + i];
    TokenRow& known = row_table_[i];
    if (row_known_[i] && known.in == row.in && known.out == row.out && known.aux == row.aux && known.shift == row.shift)
      continue;
    known = row;
    row_known_[i] = true;
    Command command;
    command.opcode = Opcode::kSetRow;
    command.token = static_cast<std::uint8_t>(i);
    command.token_shift = static_cast<std::uint8_t>(row.shift);
    command.weight_addr = row.in;
    command.params_addr = row.out;
    command.requant_addr = row.aux;
    push(command);
  }
}

void ProgramBuilder::load(const Chunk& chunk, std::int64_t group, const Part& part, const Source& source,
                          unsigned tokens) {
  Command command;
  command.opcode = Opcode::kLoadAct;
  command.tokens = static_cast<std::uint8_t>(tokens);
  command.k = static_cast<std::uint32_t>(chunk.length);
  command.group_size = static_cast<std::uint32_t>(group);
  command.group_left = static_cast<std::uint32_t>(group - chunk.k0 % group);
  command.k_last = chunk.k0 + chunk.length == part.k;
  command.act_bits = static_cast<std::uint8_t>(source.act_bits);
  command.act_stride = static_cast<std::uint16_t>(chunk.tiles);
  command.shift_hidden = source.hidden_shift;
  command.source_hidden = source.hidden_buffer;
  command.elem_bytes = static_cast<std::uint8_t>(source.elem_bytes);
  if (source.hidden_buffer) {
    command.hidden_stride = static_cast<std::uint16_t>(ceil_div(part.k, 4));
    command.hidden_base = static_cast<std::uint16_t>(chunk.k0 / 4);
  } else {
    command.offset = static_cast<std::uint32_t>(chunk.k0 * source.elem_bytes);
  }
  push(command);
}

Command ProgramBuilder::matmul(const WeightObject& object, const Part& part, std::int64_t block, int which,
                               const Chunk& chunk, unsigned tokens) const {
  const numerics::StoredLayout& layout = *object.layout;
  const int matrix = part.matrix;
  const numerics::MatrixShape& shape = layout.matrices()[static_cast<std::size_t>(matrix)];
  const numerics::Format& format = layout.format();
  const std::int64_t group = std::min(shape.group_size, shape.k);
  const std::int64_t group_index = chunk.k0 / group, tile = chunk.k0 % group / params_.rows;
  const auto at = [&](std::int64_t offset) { return object.address + static_cast<std::uint64_t>(offset); };
  Command command;
  command.opcode = Opcode::kMatmul;
  command.tokens = static_cast<std::uint8_t>(tokens);
  command.planes_read = static_cast<std::uint8_t>(format.base_planes());
  command.levels = static_cast<std::uint8_t>(format.levels());
  command.planes_stored = static_cast<std::uint8_t>(format.stored_planes());
  command.up = static_cast<std::uint8_t>(format.up());
  command.offset_mode = !format.has_zero_point();
  command.z_adjust = format.has_zero_point() ? static_cast<std::uint8_t>(-format.offset(0)) : std::uint8_t{0};
  command.k = static_cast<std::uint32_t>(chunk.length);
  command.group_size = static_cast<std::uint32_t>(group);
  command.group_left = static_cast<std::uint32_t>(group - chunk.k0 % group);
  // With levels a chunk closes the group that it ends in, and the next one opens the rest of it.
  command.group_continue = format.levels() == 0 && chunk.k0 % group != 0;
  command.acc_continue = chunk.k0 >= (format.levels() == 0 ? group : 1);
  command.k_last = chunk.k0 + chunk.length == part.k;
  command.act_stride = static_cast<std::uint16_t>(chunk.tiles);
  command.plane_major = layout.spec().kind == numerics::LayoutKind::kPlaneMajor;
  command.plane_stride = static_cast<std::uint64_t>(layout.plane_stride());
  command.interleaved = layout.is_interleaved();
  const std::int64_t end = chunk.k0 + chunk.length;
  if (layout.is_interleaved() && format.levels() > 0 && end % group != 0 && end != shape.k) {
    // The chunk closes a group before its end. What it has of the group lies without a gap; the parameters do not.
    if ((end - 1) / group != group_index) throw std::logic_error("an interleaved chunk that ends in its second group");
    command.interleaved = false;
  }
  command.weight_addr = at(layout.fetch_offset(matrix, block, which, group_index, tile));
  command.params_addr = at(layout.params(matrix, block, which, group_index).offset);
  if (format.levels() > 0) {
    command.level_params_addr = at(layout.level_params(matrix, block, which, group_index, 1).offset);
    command.level_stride = static_cast<std::uint64_t>(layout.level_stride());
  }
  command.requant_addr = at(layout.requant(matrix, block, which).offset);
  return command;
}

namespace {

Command with_flags(Command command, const Command& flags) {
  command.act_bits = flags.act_bits;
  command.out_bits = flags.out_bits;
  command.elem_bytes = flags.elem_bytes;
  command.sigma_h = flags.sigma_h;
  command.write_y = flags.write_y;
  command.write_acc = flags.write_acc;
  command.write_hidden = flags.write_hidden;
  command.write_h = flags.write_h;
  command.shift_hidden = flags.shift_hidden;
  command.hidden_stride = flags.hidden_stride;
  command.hidden_clear = flags.hidden_clear;
  return command;
}

}  // namespace

/// Loads the activations and multiplies one matrix or a part of it, whole or in chunks: a command runs through blocks
/// of columns only where all of K is used, as its addresses go on from block to block. `flags` gives what the results'
/// fields are.
void ProgramBuilder::run_matrix(const WeightObject& object, const Part& part, const Source& source, unsigned tokens,
                                const Command& flags) {
  const numerics::MatrixShape& shape = object.layout->matrices()[static_cast<std::size_t>(part.matrix)];
  const std::int64_t group = std::min(shape.group_size, shape.k);
  const std::int64_t tiles = tiles_in(part.k, group), room = params_.act_depth / tokens;
  if (tiles <= room && part.k == shape.k) {
    const Chunk all{0, part.k, tiles};
    load(all, group, part, source, tokens);
    Command command = with_flags(matmul(object, part, 0, 0, all, tokens), flags);
    command.n = static_cast<std::uint32_t>(part.n);
    command.paired = shape.interleave == 2;
    push(command);
    return;
  }
  std::vector<Half> halves;
  for (int which = 0; which < shape.interleave; ++which) halves.push_back({object, part.matrix, which});
  run_blocks(halves, part, source, tokens, flags);
}

/// The same with a command for every block of columns and chunk of K; of two halves of a pair, which may lie anywhere
/// and have formats of their own, each block of the first, then of the second.
void ProgramBuilder::run_blocks(const std::vector<Half>& halves, const Part& part, const Source& source,
                                unsigned tokens, const Command& flags) {
  const numerics::StoredLayout& layout = *halves[0].object.layout;
  const numerics::MatrixShape& shape = layout.matrices()[static_cast<std::size_t>(part.matrix)];
  const std::int64_t group = std::min(shape.group_size, shape.k);
  const bool pair = halves.size() == 2;
  const bool apart = std::any_of(halves.begin(), halves.end(), [](const Half& half) {
    return half.object.layout->is_interleaved() && half.object.layout->format().levels() > 0;
  });
  const std::vector<Chunk> parts = chunks(part.k, group, params_.act_depth / tokens, apart);
  for (std::int64_t first_col = 0; first_col < part.n; first_col += params_.cols) {
    const std::int64_t block = first_col / params_.cols;
    for (std::size_t h = 0; h < halves.size(); ++h) {
      const Half& half = halves[h];
      for (const Chunk& chunk : parts) {
        // All of K in one chunk stays in the buffer.
        if (parts.size() > 1 || (block == 0 && h == 0)) load(chunk, group, part, source, tokens);
        Command command =
            with_flags(matmul(half.object, {half.matrix, part.n, part.k}, block, half.which, chunk, tokens), flags);
        command.n = static_cast<std::uint32_t>(layout.block_cols(part.matrix, block));
        command.swiglu_part = pair;
        command.which_up = h == 1;
        command.offset = static_cast<std::uint32_t>(first_col * flags.elem_bytes);
        command.aux_offset = static_cast<std::uint32_t>(first_col * (pair ? 2 : 8));
        command.hidden_base = static_cast<std::uint16_t>(first_col / 4);
        // The extremes of h are forgotten once, by the first block that drains.
        command.hidden_clear = flags.hidden_clear && command.k_last && block == 0 && h == 0;
        push(command);
      }
    }
  }
}

void ProgramBuilder::product(const WeightObject& object, const std::vector<TokenRow>& rows,
                             const ProductOptions& options) {
  Part part = whole(object, options.matrix);
  if (options.n != 0) part.n = options.n;
  if (options.k != 0) part.k = options.k;
  const numerics::MatrixShape& shape = object.layout->matrices()[static_cast<std::size_t>(options.matrix)];
  if (part.n < 1 || part.n > shape.n || part.k < 1 || part.k > shape.k || shape.interleave != 1 ||
      (part.n != shape.n && part.n % params_.cols != 0) || (part.k != shape.k && object.layout->is_interleaved()))
    throw std::logic_error("a product with no part of its matrix");
  const std::int64_t block =
      product_block_tokens(object, part, static_cast<std::int64_t>(rows.size()), options.act_bits);
  Source source;
  source.act_bits = options.act_bits;
  source.elem_bytes = options.act_bits == 16 ? 2 : 1;
  Command flags;
  flags.act_bits = static_cast<std::uint8_t>(options.act_bits);
  flags.out_bits = static_cast<std::uint8_t>(options.out_bits);
  flags.elem_bytes = options.out_bits == 16 ? 2 : 1;
  flags.write_y = options.write_y;
  flags.write_acc = options.write_acc;
  for (std::size_t first = 0; first < rows.size(); first += static_cast<std::size_t>(block)) {
    const std::size_t count = std::min(static_cast<std::size_t>(block), rows.size() - first);
    set_rows(rows, first, count);
    run_matrix(object, part, source, static_cast<unsigned>(count), flags);
  }
}

void ProgramBuilder::reserve_hidden(std::int64_t intermediate) {
  const std::uint64_t room = std::uint64_t{params_.max_tokens} * static_cast<std::uint64_t>(2 * intermediate);
  if (params_.max_tokens * ceil_div(intermediate, 4) <= params_.hidden_depth || room <= spill_bytes_) return;
  spill_bytes_ = room;
  spill_ = image_.allocate("hidden rows", Kind::kHidden, room);
}

void ProgramBuilder::expert(const ExpertObject& expert, const std::vector<TokenRow>& rows,
                            const ExpertOptions& options) {
  const numerics::ExpertLayout& layout = *expert.layout;
  const auto object_of = [&](const numerics::ExpertLayout::Place& place) { return expert.object(place.object); };
  const WeightObject gate = object_of(layout.gate()), up = object_of(layout.up()), down = object_of(layout.down());
  const Part inner = whole(gate, layout.gate().matrix), outer = whole(down, layout.down().matrix);
  const std::int64_t intermediate = inner.n;
  const std::int64_t block =
      block_tokens(layout, static_cast<std::int64_t>(rows.size()), options.act_bits, options.write_h);
  const std::uint64_t hidden_row = static_cast<std::uint64_t>(2 * intermediate),
                      room = static_cast<std::uint64_t>(block) * hidden_row;
  if (spills(intermediate, block) && !options.write_h && spill_bytes_ < room) {
    spill_bytes_ = room;
    spill_ = image_.allocate("hidden rows", Kind::kHidden, room);
  }

  Source x;
  x.act_bits = options.act_bits;
  x.elem_bytes = options.act_bits == 16 ? 2 : 1;
  Command to_memory;
  to_memory.act_bits = static_cast<std::uint8_t>(options.act_bits);
  to_memory.out_bits = 16;
  to_memory.elem_bytes = 2;
  to_memory.write_y = true;
  to_memory.shift_hidden = true;

  for (std::size_t first = 0; first < rows.size(); first += static_cast<std::size_t>(block)) {
    const std::size_t count = std::min(static_cast<std::size_t>(block), rows.size() - first);
    const bool spill = spills(intermediate, static_cast<std::int64_t>(count));
    Source h;
    h.act_bits = options.act_bits;
    h.hidden_shift = true;
    h.hidden_buffer = !spill;
    h.elem_bytes = 2;
    Command to_hidden;
    to_hidden.act_bits = static_cast<std::uint8_t>(options.act_bits);
    to_hidden.out_bits = 16;
    to_hidden.elem_bytes = 2;
    to_hidden.sigma_h = static_cast<std::uint8_t>(options.sigma_h);
    to_hidden.write_hidden = !spill;
    to_hidden.write_h = spill || options.write_h;
    to_hidden.hidden_stride = spill ? std::uint16_t{0} : static_cast<std::uint16_t>(ceil_div(intermediate, 4));
    to_hidden.hidden_clear = true;

    std::vector<TokenRow> part(rows.begin() + static_cast<std::ptrdiff_t>(first),
                               rows.begin() + static_cast<std::ptrdiff_t>(first + count));
    for (std::size_t i = 0; i < count; ++i) {
      if (spill && !options.write_h) part[i].aux = spill_ + i * hidden_row;
    }
    set_rows(part, 0, count);
    if (layout.formats().is_paired())
      run_matrix(gate, inner, x, static_cast<unsigned>(count), to_hidden);
    else
      run_blocks({{gate, inner.matrix, 0}, {up, layout.up().matrix, 0}}, inner, x, static_cast<unsigned>(count),
                 to_hidden);
    if (spill) {
      for (TokenRow& row : part) row.in = row.aux;
      set_rows(part, 0, count);
    }
    run_matrix(down, outer, h, static_cast<unsigned>(count), to_memory);
  }
}

void ProgramBuilder::combine(const std::vector<TokenRow>& rows, std::uint64_t r_address, std::int64_t experts,
                             std::int64_t expert_stride, std::int64_t n) {
  for (std::size_t first = 0; first < rows.size(); first += params_.max_tokens) {
    const std::size_t count = std::min<std::size_t>(params_.max_tokens, rows.size() - first);
    set_rows(rows, first, count);
    Command command;
    command.opcode = Opcode::kCombine;
    command.tokens = static_cast<std::uint8_t>(count);
    command.n = static_cast<std::uint32_t>(n);
    command.k = static_cast<std::uint32_t>(experts);
    command.plane_stride = static_cast<std::uint64_t>(expert_stride);
    command.requant_addr = r_address + first * static_cast<std::uint64_t>(experts) * 2;
    command.elem_bytes = 2;
    command.out_bits = 16;
    command.write_y = true;
    push(command);
  }
}

}  // namespace moesaic::program
