#include "sim/program/interpreter.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "reference/numerics/integer.h"
#include "reference/numerics/swiglu.h"
#include "sim/program/interleaved.h"
#include "sim/program/scattered_planes.h"

namespace moesaic::program {

Interpreter::Interpreter(const CoreParams& params, MemoryImage& image) : params_(params), image_(image) {
  const std::size_t block = std::size_t{params.max_tokens} * params.cols;
  rows_.resize(params.max_tokens);
  act_.resize(std::size_t{params.act_depth} * params.rows);
  hidden_.resize(std::size_t{params.hidden_depth} * 4);
  most_.resize(params.max_tokens);
  least_.resize(params.max_tokens);
  p_.resize(block);
  acc_.resize(block);
  gate_.resize(block);
  x_.resize(params.max_tokens);
}

void Interpreter::fail(const std::string& what) const {
  throw std::logic_error("command " + std::to_string(at_) + ": " + what);
}

void Interpreter::need(bool holds, const char* what) const {
  if (!holds) fail(what);
}

void Interpreter::check_read(std::uint64_t address, std::uint64_t bytes, Kind kind) const {
  const MemoryImage::Region* region = image_.region_at(address);
  need(region != nullptr, "read outside every region");
  need(address + bytes <= region->address + region->bytes, "read past the end of a region");
  const bool as_weights = kind == Kind::kWeights || kind == Kind::kParams || kind == Kind::kRequant;
  const bool holds_all = region->kind == Kind::kCache || region->kind == Kind::kExpertCache ||
                         (region->kind == Kind::kWeights && reads_interleaved_);
  const bool stands_for = (holds_all && as_weights) || (region->kind == Kind::kScores && kind == Kind::kActivations);
  if (region->kind != kind && !stands_for)
    fail("read of " + std::string(kKindNames[static_cast<std::size_t>(region->kind)]) + " as " +
         std::string(kKindNames[static_cast<std::size_t>(kind)]));
}

std::uint64_t Interpreter::read(std::uint64_t address, unsigned bytes, Kind kind) {
  check_read(address, bytes, kind);
  std::uint64_t value = 0;
  for (unsigned i = 0; i < bytes; ++i) value |= std::uint64_t{image_.read(address + i)} << (8 * i);
  if (kind == Kind::kWeights || kind == Kind::kParams || kind == Kind::kRequant) weight_bytes += bytes;
  return value;
}

std::int64_t Interpreter::read_signed(std::uint64_t address, unsigned bytes, Kind kind) {
  const unsigned unused = 64 - 8 * bytes;
  return static_cast<std::int64_t>(read(address, bytes, kind) << unused) >> unused;
}

void Interpreter::write(std::uint64_t address, unsigned bytes, std::int64_t value, Kind kind) {
  const MemoryImage::Region* region = image_.region_at(address);
  need(region != nullptr && address + bytes <= region->address + region->bytes, "write outside every region");
  need(region->kind == kind, "write into a region of another kind");
  for (unsigned i = 0; i < bytes; ++i)
    image_.write_byte(address + i, static_cast<std::uint8_t>(static_cast<std::uint64_t>(value) >> (8 * i)));
}

void Interpreter::run(const std::vector<Command>& commands) {
  for (at_ = 0; at_ < commands.size(); ++at_) {
    const Command c = Command::unpack(commands[at_].pack());
    need(c == commands[at_], "a field does not fit its bits");
    switch (c.opcode) {
      case Opcode::kSetRow:
        need(c.token < params_.max_tokens, "row outside the table");
        rows_[c.token] = {c.weight_addr, c.params_addr, c.requant_addr, c.token_shift};
        break;
      case Opcode::kLoadAct:
        load_act(c);
        break;
      case Opcode::kMatmul:
        matmul(c);
        break;
      case Opcode::kCombine:
        combine(c);
        break;
      case Opcode::kWait:  // here everything is resident
        break;
      case Opcode::kNone:
        fail("no opcode");
    }
  }
}

int Interpreter::hidden_shift(unsigned token, int act_bits) const {
  const std::int16_t ends[2] = {most_[token], least_[token]};
  return numerics::hidden_shift(ends, 2, act_bits);
}

/// Tiles of one block of columns, as docs/core.md lists them.
struct Interpreter::Walk {
  std::uint32_t k_left, group_left, group_size;
  bool group_fresh;
  unsigned rows;
  std::uint32_t tile() const { return std::min({rows, group_left, k_left}); }
};

void Interpreter::load_act(const Command& c) {
  need(c.tokens >= 1 && c.tokens <= params_.max_tokens, "token count");
  need(c.k >= 1 && c.group_size >= 1 && c.group_left >= 1, "k and groups");
  need(c.act_bits <= params_.max_act_bits, "activations wider than the array's");
  for (unsigned t = 0; t < c.tokens; ++t) {
    Walk walk{c.k, c.group_left, c.group_size, true, params_.rows};
    std::uint32_t element = 0, hidden_word = 0;
    for (unsigned tile = 0; walk.k_left > 0; ++tile) {
      const std::uint32_t depth = walk.tile();
      const std::size_t word = std::size_t{t} * c.act_stride + tile;
      need(word < params_.act_depth, "activation word outside the buffer");
      need(tile < c.act_stride, "more tiles than the stride holds");
      for (std::uint32_t i = 0; i < params_.rows; ++i) act_[word * params_.rows + i] = 0;
      for (std::uint32_t i = 0; i < depth; ++i) {
        std::int64_t value = 0;
        if (c.source_hidden) {
          // Four elements a step; every tile begins with a new word.
          const std::size_t at = c.hidden_base + std::size_t{t} * c.hidden_stride + hidden_word + i / 4;
          need(at < params_.hidden_depth, "hidden word outside the buffer");
          value = hidden_[at * 4 + i % 4];
        } else {
          value = read_signed(rows_[t].in + c.offset + std::uint64_t{element + i} * c.elem_bytes, c.elem_bytes,
                              c.shift_hidden ? (image_.region_at(rows_[t].in)->kind) : Kind::kActivations);
        }
        if (c.shift_hidden) value = numerics::rshift_round(value, hidden_shift(t, c.act_bits));
        need(numerics::fits(value, c.act_bits), "activation out of range");
        act_[word * params_.rows + i] = static_cast<std::int32_t>(value);
      }
      element += depth;
      hidden_word += (depth + 3) / 4;
      walk.k_left -= depth;
      walk.group_left = walk.group_left == depth ? c.group_size : walk.group_left - depth;
    }
    if (c.shift_hidden && !c.source_hidden) ++loads_of_spilled_rows;
  }
}

/// Adds one tile's products to P: the planes make whole weights, which then meet each token's activations.
void Interpreter::tile_products(const Command& c, unsigned level, unsigned tile, std::uint32_t depth,
                                std::uint32_t cols, std::uint64_t from, std::uint64_t plane_bytes) {
  const std::size_t rows = params_.rows;
  weights_.assign(rows * cols, 0);
  plane_.resize(plane_bytes);
  const unsigned planes = level == 0 ? c.planes_read : 1U;
  for (unsigned plane = 0; plane < planes; ++plane) {
    std::uint64_t at = from + plane * (c.plane_major ? c.plane_stride : plane_bytes);
    if (c.scattered)
      at = (from + scattered_offset(c, level == 0 ? plane : c.planes_read + level - 1U)) & kAddressMask;
    else if (level != 0)
      at += c.plane_major ? c.planes_read * c.plane_stride + (level - 1) * c.level_stride
                          : (c.planes_read + level - 1) * plane_bytes;
    check_read(at, plane_bytes, Kind::kWeights);
    image_.read(at, plane_.data(), plane_bytes);
    weight_bytes += plane_bytes;
    const unsigned shift = planes - 1U - plane;
    std::uint32_t bit = 0;
    for (std::uint32_t n = 0; n < cols; ++n)
      for (std::uint32_t i = 0; i < depth; ++i, ++bit)
        weights_[n * rows + i] |= (plane_[bit / 8] >> (bit % 8) & 1) << shift;
  }
  for (unsigned t = 0; t < c.tokens; ++t) {
    const std::int32_t* x = &act_[(std::size_t{t} * c.act_stride + tile) * rows];
    for (std::uint32_t n = 0; n < cols; ++n) {
      const std::int32_t* w = &weights_[n * rows];
      std::int32_t sum = 0;  // at most 64 * 255 * 2^15 < 2^30
      for (std::uint32_t i = 0; i < depth; ++i) sum += w[i] * x[i];
      p_[t * params_.cols + n] += sum;
    }
  }
}

void Interpreter::matmul(const Command& c) {
  need(c.tokens >= 1 && c.tokens <= params_.max_tokens, "token count");
  need(c.n >= 1 && c.k >= 1 && c.group_size >= 1 && c.group_left >= 1 && c.group_left <= c.group_size, "extents");
  need(c.planes_read >= 1 && c.planes_read + c.levels <= c.planes_stored && c.planes_stored <= 8, "planes");
  need(c.levels == 0 || !c.group_continue, "an open group with levels");
  need(!c.interleaved || !c.plane_major, "two layouts");
  if (c.group_continue || c.acc_continue || !c.k_last) ++commands_with_k_chunks;
  if (c.hidden_clear && c.k_last) {
    std::fill(most_.begin(), most_.end(), std::int16_t{0});
    std::fill(least_.begin(), least_.end(), std::int16_t{0});
  }
  std::uint64_t weights = c.weight_addr, params = c.params_addr, requant = c.requant_addr;
  std::uint64_t level_params = c.level_params_addr;
  // A piece of a group with levels is read without the flag even of an interleaved object.
  const std::uint64_t params_bytes = c.offset_mode ? 2 : 3;  // of a column
  reads_interleaved_ = c.interleaved || (c.levels != 0 && !c.k_last && !c.plane_major);
  for (std::uint32_t col = 0; col < c.n; col += params_.cols) {
    const std::uint32_t cols = std::min(params_.cols, c.n - col);
    for (unsigned which = 0; which < (c.paired ? 2U : 1U); ++which) {
      Walk walk{c.k, c.group_left, c.group_size, !c.group_continue, params_.rows};
      bool acc_first = !c.acc_continue;
      unsigned tile = 0;
      while (walk.k_left > 0) {
        // One group, or what the command has of it, bundle by bundle: each goes over the same tiles.
        const Walk begin = walk;
        const unsigned begin_tile = tile;
        const std::uint64_t begin_weights = weights;
        for (unsigned level = 0; level <= c.levels; ++level) {
          walk = begin;
          tile = begin_tile;
          weights = begin_weights;
          for (bool group_end = false; !group_end && walk.k_left > 0; ++tile) {
            const std::uint32_t depth = walk.tile();
            group_end = depth == walk.group_left || (depth == walk.k_left && (c.k_last || c.levels != 0));
            const std::uint64_t plane_bytes = (std::uint64_t{depth} * cols + 7) / 8;
            for (unsigned t = 0; t < c.tokens; ++t) {
              const std::size_t word = std::size_t{t} * c.act_stride + tile;
              need(word < params_.act_depth, "activation word outside the buffer");
              const std::int32_t* x = &act_[word * params_.rows];
              if (walk.group_fresh) x_[t] = 0;
              for (std::uint32_t i = 0; i < params_.rows; ++i) x_[t] += x[i];
              for (std::uint32_t n = 0; n < cols; ++n) {
                std::int64_t& p = p_[t * params_.cols + n];
                if (walk.group_fresh) p = 0;
              }
            }
            if (group_end && c.interleaved) {
              params = weights;
              weights += in_bursts(params_bytes * cols);
            }
            tile_products(c, level, tile, depth, cols, weights, plane_bytes);
            weights += c.plane_major ? plane_bytes : c.planes_stored * plane_bytes;
            if (group_end) {
              const std::uint64_t of_level =
                  level == 0    ? 0
                  : c.scattered ? (level_params + scattered_offset(c, c.planes_read + level - 1U)) & kAddressMask
                                : level_params + (level - 1) * c.level_stride;
              close_group(c, level, cols, level == 0 ? params : of_level, acc_first);
              acc_first = false;
            }
            walk.group_fresh = group_end;
            walk.group_left = group_end ? c.group_size : walk.group_left - depth;
            walk.k_left -= depth;
          }
        }
        if (walk.group_fresh) {
          params += params_bytes * cols;
          level_params += 2U * cols;
        }
      }
      if (c.k_last) {
        drain(c, col, cols, c.paired ? which == 1 : c.which_up, c.interleaved ? weights : requant);
        requant += 3U * cols;
        if (c.interleaved) weights += in_bursts(3U * cols);
      }
    }
  }
}

/// Adds s * (P * 2^up - z * X) of one bundle to the accumulators.
void Interpreter::close_group(const Command& c, unsigned level, std::uint32_t cols, std::uint64_t params,
                              bool acc_first) {
  for (std::uint32_t n = 0; n < cols; ++n) {
    const auto s = static_cast<std::uint16_t>(read(params + 2 * n, 2, Kind::kParams));
    const bool is_one = c.offset_mode || level != 0;
    const int z = is_one ? 1 : static_cast<int>(read(params + 2 * cols + n, 1, Kind::kParams)) - c.z_adjust;
    for (unsigned t = 0; t < c.tokens; ++t) {
      const std::size_t at = t * params_.cols + n;
      const std::int64_t d = numerics::dequantise_group(p_[at], x_[t], level == 0 ? c.up : 1, z, s);
      acc_[at] = acc_first ? d : acc_[at] + d;
    }
  }
}

void Interpreter::drain(const Command& c, std::uint32_t col, std::uint32_t cols, bool up, std::uint64_t requant) {
  const bool pair = c.paired || c.swiglu_part;
  for (std::uint32_t n = 0; n < cols; ++n) {
    const auto mu = static_cast<std::uint16_t>(read(requant + 2 * n, 2, Kind::kRequant));
    const int sigma = static_cast<int>(read(requant + 2 * cols + n, 1, Kind::kRequant));
    for (unsigned t = 0; t < c.tokens; ++t) {
      const std::size_t at = t * params_.cols + n;
      const int shift = sigma + (c.shift_hidden ? -hidden_shift(t, c.act_bits) : rows_[t].shift);
      const bool shift_fits = shift >= 0 && shift <= numerics::kMaxRequantShift;
      shift_error_ = shift_error_ || !shift_fits;
      const std::int16_t y = shift_fits ? numerics::requantise(acc_[at], mu, shift, c.out_bits) : std::int16_t{0};
      const std::uint64_t column = std::uint64_t{col} + n;
      if (pair && !up) {
        gate_[at] = y;
      } else if (pair) {
        const std::int16_t h = numerics::swiglu(gate_[at], y, c.sigma_h);
        most_[t] = std::max(most_[t], h);
        least_[t] = std::min(least_[t], h);
        if (c.write_hidden) {
          const std::size_t word = c.hidden_base + std::size_t{t} * c.hidden_stride + column / 4;
          need(word < params_.hidden_depth, "hidden word outside the buffer");
          hidden_[word * 4 + column % 4] = h;
        }
        if (c.write_h) {
          const std::uint64_t to = rows_[t].aux + c.aux_offset + 2 * column;
          write(to, 2, h, image_.region_at(to) == nullptr ? Kind::kHidden : image_.region_at(to)->kind);
        }
      } else {
        if (c.write_acc) write(rows_[t].aux + c.aux_offset + 8 * column, 8, acc_[at], Kind::kOutputs);
        if (c.write_y) {
          const std::uint64_t to = rows_[t].out + c.offset + c.elem_bytes * column;
          write(to, c.elem_bytes, y, image_.region_at(to) == nullptr ? Kind::kOutputs : image_.region_at(to)->kind);
        }
      }
    }
  }
}

void Interpreter::combine(const Command& c) {
  need(c.tokens >= 1 && c.tokens <= params_.max_tokens && c.k >= 1 && c.n >= 1, "extents");
  for (unsigned t = 0; t < c.tokens; ++t) {
    for (std::uint32_t n = 0; n < c.n; ++n) {
      std::int64_t sum = 0;
      for (std::uint32_t e = 0; e < c.k; ++e) {
        const std::uint64_t from = rows_[t].in + c.offset + e * c.plane_stride + 2 * n;
        need(image_.region_at(from) != nullptr, "read outside every region");
        sum += static_cast<std::int64_t>(read(c.requant_addr + 2 * (std::uint64_t{t} * c.k + e), 2, Kind::kRouting)) *
               read_signed(from, 2, image_.region_at(from)->kind);
      }
      need(numerics::fits(sum, numerics::kAccumulatorBits), "combination past 48 bits");
      write(rows_[t].out + c.aux_offset + 2 * n, 2, numerics::requantise(sum, 1, 15, 16), Kind::kOutputs);
    }
  }
}

bool execute_run(const CoreParams& params, const std::vector<Command>& commands, const EngineRun& run,
                 const MemoryImage* storage, MemoryImage& image) {
  std::vector<const EngineRun::Load*> loads;  // in the order of completion
  for (const EngineRun::Load& load : run.loads) loads.push_back(&load);
  std::stable_sort(loads.begin(), loads.end(),
                   [](const EngineRun::Load* a, const EngineRun::Load* b) { return a->completed < b->completed; });
  Interpreter interpreter(params, image);
  std::size_t done = 0;
  // What a command reads was complete before its job's wait was executed; what it does not read may come at any time.
  const auto load_until = [&](std::uint64_t cycle) {
    for (; done < loads.size() && loads[done]->completed < cycle; ++done) {
      const Descriptor& d = loads[done]->descriptor;
      std::vector<std::uint8_t> bytes(d.bytes);
      storage->read(d.source, bytes.data(), d.bytes);
      image.write(d.destination, bytes.data(), d.bytes);
    }
  };
  for (std::size_t i = 0; i < commands.size(); ++i) {
    load_until(run.retired.at(i));
    interpreter.run({commands[i]});
  }
  load_until(UINT64_MAX);
  return interpreter.shift_error();
}

}  // namespace moesaic::program
