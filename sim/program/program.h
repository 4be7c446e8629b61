#pragma once
/// Lowering: work on matrices, experts and tokens becomes commands of one core and a memory image. The same commands
/// for every engine.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "reference/numerics/stored_layout.h"
#include "sim/program/commands.h"
#include "sim/program/core_params.h"
#include "sim/program/memory_image.h"

namespace moesaic::program {

/// A packed weight object in memory: where numerics::stored_layout says, from `address` on.
struct WeightObject {
  std::shared_ptr<const numerics::StoredLayout> layout;
  std::uint64_t address = 0;
};

/// An expert's packed weights in memory: where numerics::ExpertLayout says, from `address` on.
struct ExpertObject {
  std::shared_ptr<const numerics::ExpertLayout> layout;
  std::uint64_t address = 0;
  /// One of the objects that it is made of.
  WeightObject object(std::size_t index) const {
    const numerics::ExpertLayout::Object& one = layout->objects()[index];
    return {one.layout, address + static_cast<std::uint64_t>(one.offset)};
  }
};

/// One token's addresses. Rows need no alignment.
struct TokenRow {
  std::uint64_t in = 0;   ///< input row
  std::uint64_t out = 0;  ///< output row
  std::uint64_t aux = 0;  ///< row of accumulators (product) or of h (expert)
  unsigned shift = 0;     ///< e of the token
};

struct ProductOptions {
  int act_bits = 8;
  int out_bits = 8;
  bool write_y = true;
  bool write_acc = false;  ///< int64 accumulators to aux
  int matrix = 0;          ///< which of the object's matrices, of interleave 1
  /// What of it is used: its first `n` columns, whole blocks or all, and its first `k` rows; 0: all. Of an interleaved
  /// object all rows.
  std::int64_t n = 0, k = 0;
};

struct ExpertOptions {
  int act_bits = 8;
  int sigma_h = 0;
  bool write_h = false;  ///< h, int16, to aux
};

/// Appends commands for one core. Tokens go in blocks. What t tokens need of the activation buffer beyond its depth is
/// cut into chunks of K; hidden rows that do not fit the hidden buffer together go through memory. t in 1..max_tokens
/// is the number that moves the fewest bytes over the ports (weights once a block, activations once a block or, in
/// chunks, once a block of columns, hidden rows out and in again); of equals the greatest.
class ProgramBuilder {
 public:
  /// `params` outlive the builder's calls; nothing is allocated but a spill region when an expert needs one.
  ProgramBuilder(const CoreParams& params, MemoryImage& image) : params_(params), image_(image) {}

  /// Puts an object's bytes into the image.
  WeightObject place(const std::string& name, std::shared_ptr<const numerics::StoredLayout> layout,
                     const std::vector<std::uint8_t>& bytes);

  /// Only the room of an object: its bytes are 0, or none in an image without bytes.
  WeightObject reserve(const std::string& name, std::shared_ptr<const numerics::StoredLayout> layout);
  /// The same for an expert, all of its objects as one region.
  ExpertObject place(const std::string& name, std::shared_ptr<const numerics::ExpertLayout> layout,
                     const std::vector<std::uint8_t>& bytes);
  ExpertObject reserve(const std::string& name, std::shared_ptr<const numerics::ExpertLayout> layout);
  /// The same for keys or values that a cache holds: all of its bytes are Kind::kCache.
  WeightObject reserve_cache(const std::string& name, std::shared_ptr<const numerics::StoredLayout> layout);

  /// y = x * W for every row, with one of the object's matrices or with a part of it.
  void product(const WeightObject& object, const std::vector<TokenRow>& rows, const ProductOptions& options);
  /// The expert FFN for every row. Where gate and up have one format their blocks alternate in one command; else each
  /// block of either is a command of its own.
  void expert(const ExpertObject& expert, const std::vector<TokenRow>& rows, const ExpertOptions& options);
  /// y = sum over `experts` of r * down: row t's down vectors are n int16 at in + e * expert_stride; r is uint16
  /// [rows, experts] at r_address.
  void combine(const std::vector<TokenRow>& rows, std::uint64_t r_address, std::int64_t experts,
               std::int64_t expert_stride, std::int64_t n);

  /// Allocates the region of hidden rows that go through memory now instead of when an expert first needs it.
  void reserve_hidden(std::int64_t intermediate);
  /// The row table is unknown from here on: what follows may run in any order with what came before.
  void forget_rows() { row_known_.assign(row_known_.size(), false); }

  const std::vector<Command>& commands() const { return commands_; }
  std::vector<Command> take() { return std::move(commands_); }

 private:
  struct Chunk {
    std::int64_t k0, length, tiles;
  };
  struct Source;
  /// One of an object's matrices, of which the first n columns and k rows are used.
  struct Part {
    int matrix;
    std::int64_t n, k;
  };
  /// A matrix, or one of two that are interleaved.
  struct Half {
    WeightObject object;
    int matrix, which;
  };
  void check_layout(const numerics::LayoutSpec& spec) const;
  void label(const WeightObject& object);
  Part whole(const WeightObject& object, int matrix) const;
  std::int64_t read_bytes(const WeightObject& object, const Part& part) const;
  std::int64_t product_block_tokens(const WeightObject& object, const Part& part, std::int64_t rows,
                                    int act_bits) const;
  std::int64_t tiles_in(std::int64_t k, std::int64_t group_size) const;
  std::int64_t block_tokens(const numerics::ExpertLayout& layout, std::int64_t rows, int act_bits, bool writes_h) const;
  std::int64_t block_bytes(const numerics::ExpertLayout& layout, std::int64_t tokens, int act_bits,
                           bool writes_h) const;
  bool spills(std::int64_t intermediate, std::int64_t tokens) const;
  std::vector<Chunk> chunks(std::int64_t k, std::int64_t group_size, std::int64_t max_tiles, bool apart) const;
  void set_rows(const std::vector<TokenRow>& rows, std::size_t first, std::size_t count);
  void load(const Chunk& chunk, std::int64_t group_size, const Part& part, const Source& source, unsigned tokens);
  Command matmul(const WeightObject& object, const Part& part, std::int64_t block, int which, const Chunk& chunk,
                 unsigned tokens) const;
  void run_matrix(const WeightObject& object, const Part& part, const Source& source, unsigned tokens,
                  const Command& flags);
  void run_blocks(const std::vector<Half>& halves, const Part& part, const Source& source, unsigned tokens,
                  const Command& flags);
  void push(const Command& command) { commands_.push_back(command); }

  CoreParams params_;
  MemoryImage& image_;
  std::vector<Command> commands_;
  std::vector<TokenRow> row_table_;
  std::vector<bool> row_known_;
  std::uint64_t spill_ = 0, spill_bytes_ = 0;
};

}  // namespace moesaic::program
