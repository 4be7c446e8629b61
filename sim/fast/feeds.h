#pragma once
/// What the blocks of a core take from a program, one item after the other: the segments that weight fetch asks for,
/// the tiles that weight loader and sequencer walk, the chunks that drain hands to the output DMA, and so on. Each list
/// follows from the commands alone and is made as it is read. An item holds only what decides timing, so that equal
/// items mean equal timing: of an address its place within a beat and what it has to do with 4 KiB. Taking an item
/// counts its bytes against the regions of the memory image, which a run's end therefore finds complete.
#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "sim/program/commands.h"
#include "sim/program/core_params.h"
#include "sim/program/engine_run.h"
#include "sim/program/memory_image.h"

namespace moesaic::fast {

/// Packed, see the structs below.
using Item = std::uint64_t;
inline constexpr Item kNoItem = ~Item{0};

enum class Feed : std::uint8_t {
  kQueue,         ///< Queued: each command of the queue's fetch side
  kExecute,       ///< Work and, of a wait, 256 times the job: each command that the scheduler starts
  kSegment,       ///< Segment: what weight fetch asks the weight reader for
  kLoadTile,      ///< Tile: as the weight loader walks them
  kSequenceTile,  ///< Tile: the same list, as the sequencer walks it
  kActSegment,    ///< Segment: what the activation loader asks its reader for
  kActStep,       ///< ActStep: a tile of load_act, or an expert's row of combine
  kBlock,         ///< Block: what drain walks
  kChunk,         ///< Chunk: what drain hands to the output DMA
};
inline constexpr unsigned kNumFeeds = 9;

/// As the queue's fetch side tells commands apart. A wait's item holds 256 times its job as well.
enum Queued : std::uint8_t { kNothing, kQueuedMatmul, kQueuedOther, kQueuedWait };

/// A wait for a job that does not exist is unknown, and only kQueuedOther above.
enum class Work : std::uint8_t { kUnknown, kSetRow, kWait, kLoad, kMatmul, kMatmulAndDrain, kCombine };

struct Segment {
  std::uint32_t beats = 0;  ///< of the data width, whole; the one that it resumes in included
  std::uint16_t page = 0;   ///< beats up to the next multiple of 4 KiB, at most `beats`
  std::uint8_t skip = 0;    ///< bytes of the first beat before the segment
  std::uint8_t end = 0;     ///< bytes of the last beat up to the segment's end
  bool last = false;        ///< of its command
  bool resume = false;      ///< its first beat was kept and is not asked for
  Item pack() const {
    return Item{beats} | Item{page} << 32 | Item{skip} << 44 | Item{end} << 50 | Item{last} << 57 | Item{resume} << 58;
  }
  static Segment unpack(Item item) {
    return {static_cast<std::uint32_t>(item),
            static_cast<std::uint16_t>(item >> 32 & 0xfff),
            static_cast<std::uint8_t>(item >> 44 & 0x3f),
            static_cast<std::uint8_t>(item >> 50 & 0x7f),
            (item >> 57 & 1) != 0,
            (item >> 58 & 1) != 0};
  }
};

struct Tile {
  std::uint8_t depth = 0, cols = 0, planes = 0, tokens = 0;
  bool group_end = false, requant = false, offset_mode = false, last = false;
  Item pack() const {
    return Item{depth} | Item{cols} << 8 | Item{planes} << 16 | Item{tokens} << 24 | Item{group_end} << 32 |
           Item{requant} << 33 | Item{offset_mode} << 34 | Item{last} << 35;
  }
  static Tile unpack(Item item) {
    return {static_cast<std::uint8_t>(item),
            static_cast<std::uint8_t>(item >> 8),
            static_cast<std::uint8_t>(item >> 16),
            static_cast<std::uint8_t>(item >> 24),
            (item >> 32 & 1) != 0,
            (item >> 33 & 1) != 0,
            (item >> 34 & 1) != 0,
            (item >> 35 & 1) != 0};
  }
};

struct ActStep {
  bool combine = false;
  std::uint8_t size = 0;   ///< load_act: depth of the tile; combine: columns
  std::uint8_t bytes = 0;  ///< load_act: of an element
  bool hidden = false;     ///< load_act from the hidden buffer
  bool block_end = false;  ///< combine: the last of its block of columns
  bool last = false;       ///< of its command
  Item pack() const {
    return Item{size} | Item{bytes} << 8 | Item{combine} << 16 | Item{hidden} << 17 | Item{block_end} << 18 |
           Item{last} << 19;
  }
  static ActStep unpack(Item item) {
    return {(item >> 16 & 1) != 0, static_cast<std::uint8_t>(item), static_cast<std::uint8_t>(item >> 8),
            (item >> 17 & 1) != 0, (item >> 18 & 1) != 0,           (item >> 19 & 1) != 0};
  }
};

struct Block {
  std::uint8_t cols = 0, tokens = 0;
  bool up = false, last = false, pair = false, combine = false, write_acc = false, write_y = false, write_h = false;
  Item pack() const {
    return Item{cols} | Item{tokens} << 8 | Item{up} << 16 | Item{last} << 17 | Item{pair} << 18 | Item{combine} << 19 |
           Item{write_acc} << 20 | Item{write_y} << 21 | Item{write_h} << 22;
  }
  static Block unpack(Item item) {
    return {static_cast<std::uint8_t>(item),
            static_cast<std::uint8_t>(item >> 8),
            (item >> 16 & 1) != 0,
            (item >> 17 & 1) != 0,
            (item >> 18 & 1) != 0,
            (item >> 19 & 1) != 0,
            (item >> 20 & 1) != 0,
            (item >> 21 & 1) != 0,
            (item >> 22 & 1) != 0};
  }
};

struct Chunk {
  std::uint8_t offset = 0;  ///< within a beat
  std::uint8_t bytes = 0;
  bool same_beat = false;  ///< begins in the beat in which the chunk before it ended
  Item pack() const { return Item{offset} | Item{bytes} << 8 | Item{same_beat} << 16; }
  static Chunk unpack(Item item) {
    return {static_cast<std::uint8_t>(item), static_cast<std::uint8_t>(item >> 8), (item >> 16 & 1) != 0};
  }
};

/// The walk of docs/core.md over one matmul, or, with tokens as blocks, over one load_act.
class TileCursor {
 public:
  TileCursor(unsigned rows, unsigned cols) : rows_(rows), cols_(cols) {}
  void start(const program::Command& command, std::uint32_t n, bool paired, bool k_last, unsigned levels = 0);
  void advance();
  bool valid() const { return valid_; }
  unsigned depth() const { return depth_; }
  unsigned cols() const { return tile_cols_; }
  unsigned level() const { return level_; }  ///< 0: the first bundle
  bool group_end() const { return group_end_; }
  bool rewind() const { return rewind_; }  ///< the next tile is the group's first again, of the next level
  bool block_end() const { return block_end_; }
  bool last() const { return last_; }

 private:
  void settle();
  unsigned rows_, cols_;
  std::uint32_t k_ = 0, group_size_ = 0, group_begin_ = 0;
  bool paired_ = false, k_last_ = false;
  unsigned levels_ = 0, level_ = 0;
  std::uint32_t n_left_ = 0, k_left_ = 0, group_left_ = 0;
  std::uint32_t begin_k_ = 0, begin_group_ = 0;  // k_left_ and group_left_ at the group's first tile
  bool which_ = false, valid_ = false;
  unsigned depth_ = 0, tile_cols_ = 0;
  bool group_end_ = false, rewind_ = false, block_end_ = false, last_ = false;
};

class Feeds {
 public:
  /// `image`, when given, is what traffic is counted against and what reads and writes must lie in.
  Feeds(const program::CoreParams& params, const program::MemoryImage* image);
  void reset();

  /// The program's next command. Commands that all feeds have left behind are forgotten.
  void append(const program::Command& command);

  /// The item `ahead` places after the next one, or kNoItem where the program ends as yet; less than kRemembered
  /// places.
  Item peek(Feed feed, unsigned ahead = 0) {
    const unsigned f = static_cast<unsigned>(feed);
    Ring& ring = rings_[kRingOf[f]];
    while (ring.made <= taken_[f] + ahead) {
      if (!make(kRingOf[f])) return kNoItem;
    }
    return ring.item[(taken_[f] + ahead) % kRing];
  }
  /// Takes the next item, which must exist. base::CheckError when it reads or writes where it may not.
  Item take(Feed feed);

  /// How many items were taken.
  std::uint64_t taken(Feed feed) const { return taken_[static_cast<unsigned>(feed)]; }
  /// The item taken as number `index`, which must be one of the last kRemembered.
  Item item(Feed feed, std::uint64_t index) const {
    return rings_[kRingOf[static_cast<unsigned>(feed)]].item[index % kRing];
  }
  /// Whether the items that come after the next `ahead` ones are these.
  bool matches(Feed feed, const Item* items, unsigned count, unsigned ahead = 0) {
    if (count == 0) return true;
    if (peek(feed, ahead + count - 1) == kNoItem) return false;
    const unsigned f = static_cast<unsigned>(feed);
    const Ring& ring = rings_[kRingOf[f]];
    const auto begin = static_cast<unsigned>((taken_[f] + ahead) % kRing), first = std::min(count, kRing - begin);
    for (unsigned i = 0; i < first; ++i)  // one to three as a rule
      if (items[i] != ring.item[begin + i]) return false;
    for (unsigned i = first; i < count; ++i)
      if (items[i] != ring.item[i - first]) return false;
    return true;
  }
  /// Whether the next `beats` beats of weights, behind the next `ahead` segments, belong to segments that the memory is
  /// asked for in full: none begins in a kept beat. False where that is not known.
  bool asks_for_all(std::uint64_t beats, unsigned ahead = 0);
  /// Takes the next `count` items, which have been looked at.
  void take_seen(Feed feed, unsigned count) {
    const unsigned f = static_cast<unsigned>(feed);
    if (image_ == nullptr || !kCounted[f]) {
      taken_[f] += count;
      return;
    }
    if (feed == Feed::kChunk) return account_chunks(count);
    for (; count > 0; --count) {
      ++taken_[f];
      account(feed);
    }
  }
  static constexpr unsigned kRemembered = 200;
  /// Items of all feeds that were taken one by one, not as seen before. Who looks back at what was taken of late stops
  /// when these are kMostTaken more: of one feed it is then no more than is remembered, whatever the next cycle takes.
  std::uint64_t taken_singly() const { return taken_singly_; }
  static constexpr unsigned kMostTaken = kRemembered - kNumFeeds;

  /// First byte of the segment or chunk taken last.
  std::uint64_t address(Feed feed) const { return address_of(feed, taken(feed) - 1); }
  /// Of the one with number `index`, which must be one that item() has or one that was peeked at.
  std::uint64_t address_of(Feed feed, std::uint64_t index) const {
    return rings_[kRingOf[static_cast<unsigned>(feed)]].address[index % kRing];
  }
  /// The beat so far ahead of the first one of the item that was taken so long ago.
  std::uint64_t beat_address(Feed feed, std::uint64_t back, std::uint64_t ahead) const {
    return (beat_of(address_of(feed, taken(feed) - back)) + ahead) * beat_bytes_;
  }
  /// Where a state counts an item's beats from: a chunk's first beat, or behind a segment's last. Of a segment that was
  /// taken before, a state knows how many beats are left, not how many it had, nor where in a beat it begins.
  std::uint64_t origin_of(Feed feed, std::uint64_t index) const {
    std::uint64_t address = address_of(feed, index);
    address -= in_beat(address);
    if (feed == Feed::kChunk) return address;
    return address + std::uint64_t{Segment::unpack(item(feed, index)).beats} * beat_bytes_;
  }

  /// Traffic of everything taken so far.
  const program::Traffic& traffic();
  /// Bytes over each port so far.
  std::uint64_t total(program::MemoryPort port) { return traffic().total(port); }

 private:
  static constexpr unsigned kRing = 256;
  static constexpr std::array<std::uint8_t, kNumFeeds> kRingOf{0, 1, 2, 3, 3, 4, 5, 6, 7};
  static constexpr unsigned kNumRings = 8;
  static constexpr std::array<bool, kNumFeeds> kCounted{false, false, true, false, false, true, false, false, true};
  struct Ring {
    std::array<Item, kRing> item{};
    std::array<std::uint64_t, kRing> address{};
    std::uint64_t made = 0;
    std::size_t command = 0;  // number of the next one to look at
  };
  struct Row {
    std::uint64_t in = 0, out = 0, aux = 0;
  };
  /// Beats in a row of one kind, not yet counted.
  struct Range {
    std::uint64_t begin = 0, end = 0;
  };
  enum class Stage : std::uint8_t { kParams, kPlanes, kRequant };
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  std::uint64_t beat_of(std::uint64_t address) const { return address >> beat_shift_; }
  std::uint64_t in_beat(std::uint64_t address) const { return address & (beat_bytes_ - 1); }
  bool make(unsigned ring);
  bool make_queue();
  bool make_execute();
  bool make_segment();
  bool make_tile();
  bool make_act_segment();
  bool make_act_step();
  bool make_block();
  bool make_chunk();
  void put(unsigned ring, Item item, std::uint64_t address = 0);
  Segment segment(std::uint64_t address, std::uint64_t bytes) const;
  bool is_wait(const program::Command& command) const {
    return command.opcode == program::Opcode::kWait && command.job < params_.io_jobs;
  }
  void set_row(std::vector<Row>& rows, const program::Command& command) const;
  /// Steps `ring` to its next command for which `wanted` holds; null at the end.
  template <class Wanted>
  const program::Command* next_command(unsigned ring, const Wanted& wanted);
  void account(Feed feed);
  void account_chunks(unsigned count);
  bool repeat_chunks(std::uint64_t one_at, std::uint64_t other_at);
  void account_read(program::MemoryPort port, Range& range, std::uint64_t address, const Segment& segment);
  void account_write(std::uint64_t address, std::uint64_t bytes, bool first);
  void check_writes(std::uint64_t begin, std::uint64_t end);
  void close_writes();
  void close_beat();
  void add_written(std::uint64_t begin, std::uint64_t bytes);
  void count(program::MemoryPort port, Range& range);
  void check_reads(program::MemoryPort port, const Range& range) const;

  program::CoreParams params_;
  unsigned beat_bytes_, beat_shift_;
  std::deque<program::Command> commands_;
  std::size_t first_ = 0;  // number of the first of commands_
  const program::MemoryImage* image_;
  std::array<Ring, kNumRings> rings_;
  std::array<std::uint64_t, kNumFeeds> taken_{};
  std::uint64_t taken_singly_ = 0;

  // weight fetch
  TileCursor segment_tile_;
  program::Command segment_command_;
  Stage stage_ = Stage::kParams;
  unsigned plane_ = 0;
  std::uint64_t plane_offset_ = 0, weight_at_ = 0, params_at_ = 0, requant_at_ = 0;
  std::uint64_t group_weight_at_ = 0, bundle_offset_ = 0, level_params_at_ = 0, level_offset_ = 0;
  std::array<std::uint64_t, 3> kept_{};  // of each stage the beat in which the command's last segment ended, or kNone
  std::array<std::uint64_t, kRing> beats_until_{};  // of all segments up to each in the ring
  std::uint64_t resumed_ = 0;                       // segments up to the last one that begins in a kept beat
  // tiles
  TileCursor tile_;
  program::Command tile_command_;
  // activation loader
  program::Command act_command_;
  std::vector<Row> act_rows_;
  bool act_left_ = false, act_row_ = false;
  unsigned act_token_ = 0;
  std::uint32_t act_expert_ = 0, act_n_ = 0;
  std::uint64_t act_r_ = 0, act_at_ = 0, act_step_ = 0;
  TileCursor step_tile_;
  program::Command step_command_;
  std::uint32_t step_n_ = 0, step_expert_ = 0;
  unsigned step_token_ = 0;
  bool step_combine_ = false;
  // drain
  program::Command block_command_;
  std::uint32_t block_col_ = 0;
  bool block_left_ = false, block_which_ = false;
  program::Command chunk_command_;
  std::vector<Row> chunk_rows_;
  std::uint32_t chunk_col_ = 0;
  unsigned chunk_token_ = 0;
  bool chunk_left_ = false, chunk_first_ = false;
  std::uint64_t chunk_end_beat_ = ~std::uint64_t{0};
  std::array<std::uint64_t, 2> chunks_at_{};  // those of the token made last, in the same block, which were so many
  unsigned chunks_of_token_ = 0;

  // traffic
  program::Traffic traffic_;
  Range planes_range_, params_range_, requant_range_, act_range_, write_range_;
  std::array<std::uint8_t, kRing> segment_stage_{};  // Stage of each entry of the segments' ring
  // Of each entry of the chunks' ring how many from it on lie one behind the other; and whether it begins a command.
  std::array<std::uint8_t, kRing> chunk_run_{};
  static constexpr std::uint8_t kBegins = 0x80;
  bool beat_open_ = false;
  std::uint64_t beat_ = 0, strobes_ = 0;
  std::uint64_t writable_begin_ = 0, writable_end_ = 0;
  std::uint64_t written_begin_ = kNone, written_end_ = kNone;  // chunks one behind the other, not yet in beats
};

}  // namespace moesaic::fast
