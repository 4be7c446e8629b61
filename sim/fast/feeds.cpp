#include "sim/fast/feeds.h"

#include <algorithm>
#include <stdexcept>

#include "base/error.h"
#include "sim/program/interleaved.h"
#include "sim/program/scattered_planes.h"

namespace moesaic::fast {

using program::Command;
using program::in_bursts;
using program::Kind;
using program::MemoryPort;
using program::Opcode;
using program::scattered_offset;

namespace {

constexpr std::uint64_t kAddrMask = (std::uint64_t{1} << program::CoreParams::kAddrBits) - 1;

enum : unsigned {
  kQueueRing,
  kExecuteRing,
  kSegmentRing,
  kTileRing,
  kActSegmentRing,
  kActStepRing,
  kBlockRing,
  kChunkRing
};

bool is_pair(const Command& c) { return c.paired || c.swiglu_part; }
bool drains(const Command& c) { return c.opcode == Opcode::kCombine || (c.opcode == Opcode::kMatmul && c.k_last); }

std::string at(std::uint64_t address) {
  std::string digits;
  for (int shift = 36; shift >= 0; shift -= 4) digits += "0123456789abcdef"[address >> shift & 15];
  return "address 0x" + digits;
}

}  // namespace

void TileCursor::start(const Command& command, std::uint32_t n, bool paired, bool k_last, unsigned levels) {
  k_ = command.k;
  group_size_ = command.group_size;
  group_begin_ = command.group_left;
  paired_ = paired;
  k_last_ = k_last;
  levels_ = levels;
  n_left_ = n;
  level_ = 0;
  k_left_ = begin_k_ = k_;
  group_left_ = begin_group_ = group_begin_;
  which_ = false;
  valid_ = true;
  settle();
}

void TileCursor::settle() {
  depth_ = std::min({group_left_, k_left_, static_cast<std::uint32_t>(rows_)});
  tile_cols_ = std::min(n_left_, static_cast<std::uint32_t>(cols_));
  const bool k_end = depth_ == k_left_;
  group_end_ = depth_ == group_left_ || (k_end && (k_last_ || levels_ != 0));
  rewind_ = group_end_ && level_ != levels_;
  block_end_ = k_end && !rewind_;
  last_ = block_end_ && n_left_ <= cols_ && (which_ || !paired_);
}

void TileCursor::advance() {
  if (last_) {
    valid_ = false;
    return;
  }
  if (block_end_) {
    if (which_ || !paired_) n_left_ -= tile_cols_;
    which_ = paired_ && !which_;
    level_ = 0;
    k_left_ = begin_k_ = k_;
    group_left_ = begin_group_ = group_begin_;
  } else if (rewind_) {
    ++level_;
    k_left_ = begin_k_;
    group_left_ = begin_group_;
  } else {
    k_left_ -= depth_;
    group_left_ = group_end_ ? group_size_ : group_left_ - depth_;
    if (group_end_) {
      level_ = 0;
      begin_k_ = k_left_;
      begin_group_ = group_left_;
    }
  }
  settle();
}

Feeds::Feeds(const program::CoreParams& params, const program::MemoryImage* image)
    : params_(params),
      beat_bytes_(params.beat_bytes()),
      beat_shift_(program::log2_ceil(params.beat_bytes())),
      image_(image),
      segment_tile_(params.rows, params.cols),
      tile_(params.rows, params.cols),
      step_tile_(params.rows, params.cols) {
  reset();
}

void Feeds::reset() {
  for (Ring& ring : rings_) {
    ring.made = 0;
    ring.command = 0;
  }
  taken_ = {};
  taken_singly_ = 0;
  commands_.clear();
  first_ = 0;
  segment_tile_ = tile_ = step_tile_ = TileCursor(params_.rows, params_.cols);
  stage_ = Stage::kParams;
  resumed_ = 0;
  act_rows_.assign(params_.max_tokens, Row{});
  chunk_rows_.assign(params_.max_tokens, Row{});
  act_left_ = step_combine_ = block_left_ = chunk_left_ = false;
  chunk_end_beat_ = ~std::uint64_t{0};
  traffic_ = image_ != nullptr ? program::Traffic(*image_) : program::Traffic();
  planes_range_ = params_range_ = requant_range_ = act_range_ = write_range_ = Range{};
  beat_open_ = false;
  writable_begin_ = writable_end_ = 0;
  written_begin_ = written_end_ = kNone;
}

void Feeds::append(const Command& command) {
  constexpr std::size_t kMany = 4096;
  if (commands_.size() >= kMany && commands_.size() % kMany == 0) {
    std::size_t first = rings_[0].command;
    for (const Ring& ring : rings_) first = std::min(first, ring.command);
    commands_.erase(commands_.begin(), commands_.begin() + static_cast<std::ptrdiff_t>(first - first_));
    first_ = first;
  }
  commands_.push_back(command);
}

void Feeds::put(unsigned ring, Item item, std::uint64_t address) {
  Ring& r = rings_[ring];
  r.item[r.made % kRing] = item;
  r.address[r.made % kRing] = address;
  ++r.made;
}

Item Feeds::take(Feed feed) {
  const Item item = peek(feed);
  if (item == kNoItem) throw std::logic_error("a block takes more than the program gives");
  ++taken_singly_;
  const bool counted = image_ != nullptr && kCounted[static_cast<unsigned>(feed)];
  if (counted && feed == Feed::kChunk) {
    account_chunks(1);
    return item;
  }
  ++taken_[static_cast<unsigned>(feed)];
  if (counted) account(feed);
  return item;
}

bool Feeds::asks_for_all(std::uint64_t beats, unsigned ahead) {
  constexpr unsigned kMost = 64;  // segments
  static_assert(kMost + kMostTaken + 1 <= kRing, "those of an outcome, these and the one at hand");
  const Ring& ring = rings_[kSegmentRing];
  const std::uint64_t first = taken(Feed::kSegment) + ahead, last = first + kMost;
  const auto until = [this](std::uint64_t end) { return end == 0 ? 0 : beats_until_[(end - 1) % kRing]; };
  while (ring.made < first || until(std::min(ring.made, last)) - until(first) < beats)
    if (ring.made >= last || !make(kSegmentRing)) return false;
  if (resumed_ <= first) return true;
  for (std::uint64_t end = first; until(end) - until(first) < beats; ++end)
    if (Segment::unpack(ring.item[end % kRing]).resume) return false;
  return true;
}

bool Feeds::make(unsigned ring) {
  switch (ring) {
    case kQueueRing:
      return make_queue();
    case kExecuteRing:
      return make_execute();
    case kSegmentRing:
      return make_segment();
    case kTileRing:
      return make_tile();
    case kActSegmentRing:
      return make_act_segment();
    case kActStepRing:
      return make_act_step();
    case kBlockRing:
      return make_block();
    default:
      return make_chunk();
  }
}

template <class Wanted>
const Command* Feeds::next_command(unsigned ring, const Wanted& wanted) {
  for (std::size_t& next = rings_[ring].command; next < first_ + commands_.size();) {
    const Command& command = commands_[next++ - first_];
    if (wanted(command)) return &command;
  }
  return nullptr;
}

bool Feeds::make_queue() {
  const Command* command = next_command(kQueueRing, [](const Command&) { return true; });
  if (command == nullptr) return false;
  if (is_wait(*command))
    put(kQueueRing, kQueuedWait | Item{command->job} << 8);
  else
    put(kQueueRing, command->opcode == Opcode::kMatmul ? kQueuedMatmul : kQueuedOther);
  return true;
}

bool Feeds::make_execute() {
  const Command* command = next_command(kExecuteRing, [](const Command&) { return true; });
  if (command == nullptr) return false;
  Work work = Work::kUnknown;
  if (command->opcode == Opcode::kSetRow) work = Work::kSetRow;
  if (command->opcode == Opcode::kLoadAct) work = Work::kLoad;
  if (command->opcode == Opcode::kMatmul) work = command->k_last ? Work::kMatmulAndDrain : Work::kMatmul;
  if (command->opcode == Opcode::kCombine) work = Work::kCombine;
  if (is_wait(*command)) work = Work::kWait;
  put(kExecuteRing, static_cast<Item>(work) | (work == Work::kWait ? Item{command->job} << 8 : 0));
  return true;
}

Segment Feeds::segment(std::uint64_t address, std::uint64_t bytes) const {
  Segment s;
  s.skip = static_cast<std::uint8_t>(in_beat(address));
  s.beats = static_cast<std::uint32_t>(beat_of(bytes + s.skip + beat_bytes_ - 1));
  s.end = static_cast<std::uint8_t>(in_beat(address + bytes - 1) + 1);
  const std::uint64_t page = beat_of(4096 - (address - s.skip) % 4096);
  s.page = static_cast<std::uint16_t>(std::min<std::uint64_t>(page, s.beats));
  return s;
}

bool Feeds::make_segment() {
  const auto start = [this](const Command& command) {
    segment_command_ = command;
    segment_tile_.start(command, command.n, command.paired, command.k_last, command.levels);
    weight_at_ = group_weight_at_ = command.weight_addr;
    level_params_at_ = command.level_params_addr;
    bundle_offset_ = level_offset_ = 0;
    params_at_ = command.params_addr;
    requant_at_ = command.requant_addr;
    plane_ = 0;
    plane_offset_ = 0;
    stage_ = Stage::kParams;
    kept_.fill(kNone);
  };
  if (!segment_tile_.valid()) {
    const Command* command = next_command(kSegmentRing, [](const Command& c) { return c.opcode == Opcode::kMatmul; });
    if (command == nullptr) return false;
    start(*command);
  }
  const Command& c = segment_command_;
  if (stage_ == Stage::kParams && !segment_tile_.group_end()) stage_ = Stage::kPlanes;
  segment_stage_[rings_[kSegmentRing].made % kRing] = static_cast<std::uint8_t>(stage_);
  std::uint64_t& kept = kept_[static_cast<std::size_t>(stage_)];
  const unsigned cols = segment_tile_.cols();
  const bool requant = segment_tile_.block_end() && c.k_last, in_level = segment_tile_.level() != 0;
  const unsigned planes = in_level ? 1U : c.planes_read;
  std::uint64_t address = 0, bytes = 0;
  bool tile_done = false;
  switch (stage_) {
    case Stage::kParams:
      bytes = cols * (c.offset_mode || in_level ? 2U : 3U);
      if (!in_level) {
        address = c.interleaved ? weight_at_ : params_at_;
        params_at_ = (params_at_ + bytes) & kAddrMask;
      } else {
        address = (level_params_at_ +
                   (c.scattered ? scattered_offset(c, c.planes_read + segment_tile_.level() - 1U) : level_offset_)) &
                  kAddrMask;
        level_offset_ = segment_tile_.rewind() ? (level_offset_ + c.level_stride) & kAddrMask : 0;
        if (!segment_tile_.rewind()) level_params_at_ = (level_params_at_ + bytes) & kAddrMask;
      }
      if (c.interleaved) weight_at_ = (weight_at_ + in_bursts(cols * (c.offset_mode ? 2U : 3U))) & kAddrMask;
      stage_ = Stage::kPlanes;
      break;
    case Stage::kPlanes: {
      const std::uint64_t plane = (segment_tile_.depth() * cols + 7) / 8;
      const std::uint64_t before = in_level ? c.planes_read + segment_tile_.level() - 1U : 0U;  // planes of the tile
      const std::uint64_t offset =
          c.scattered ? scattered_offset(c, static_cast<unsigned>(before) + plane_) : plane_offset_;
      address = (weight_at_ + (c.plane_major ? offset : plane * before)) & kAddrMask;
      bytes = plane * (c.plane_major ? 1U : planes);
      if (c.plane_major && plane_ + 1 != planes) {
        ++plane_;
        plane_offset_ = (plane_offset_ + c.plane_stride) & kAddrMask;
      } else {
        weight_at_ = (weight_at_ + plane * (c.plane_major ? 1U : c.planes_stored)) & kAddrMask;
        plane_ = 0;
        if (segment_tile_.rewind()) {
          bundle_offset_ = (plane_offset_ + (in_level ? c.level_stride : c.plane_stride)) & kAddrMask;
          weight_at_ = group_weight_at_;
        } else if (segment_tile_.group_end()) {
          bundle_offset_ = 0;
          group_weight_at_ = weight_at_;
        }
        plane_offset_ = bundle_offset_;
        tile_done = !requant;
        stage_ = requant ? Stage::kRequant : Stage::kParams;
      }
      break;
    }
    case Stage::kRequant:
      address = c.interleaved ? weight_at_ : requant_at_;
      bytes = 3 * cols;
      requant_at_ = (requant_at_ + bytes) & kAddrMask;
      if (c.interleaved) weight_at_ = group_weight_at_ = (weight_at_ + in_bursts(bytes)) & kAddrMask;
      tile_done = true;
      stage_ = Stage::kParams;
      break;
  }
  Segment s = segment(address, bytes);
  s.last = tile_done && segment_tile_.last();
  s.resume = beat_of(address) == kept;
  kept = beat_of((address + bytes - 1) & kAddrMask);
  const std::uint64_t number = rings_[kSegmentRing].made;
  beats_until_[number % kRing] = s.beats + (number == 0 ? 0 : beats_until_[(number - 1) % kRing]);
  if (s.resume) resumed_ = number + 1;
  put(kSegmentRing, s.pack(), address);
  if (tile_done) segment_tile_.advance();
  return true;
}

bool Feeds::make_tile() {
  if (!tile_.valid()) {
    const Command* command = next_command(kTileRing, [](const Command& c) { return c.opcode == Opcode::kMatmul; });
    if (command == nullptr) return false;
    tile_command_ = *command;
    tile_.start(*command, command->n, command->paired, command->k_last, command->levels);
  }
  Tile tile;
  tile.depth = static_cast<std::uint8_t>(tile_.depth());
  tile.cols = static_cast<std::uint8_t>(tile_.cols());
  const bool in_level = tile_.level() != 0;
  tile.planes = in_level ? std::uint8_t{1} : tile_command_.planes_read;
  tile.tokens = tile_command_.tokens;
  tile.group_end = tile_.group_end();
  tile.requant = tile_.block_end() && tile_command_.k_last;
  tile.offset_mode = tile_command_.offset_mode || in_level;
  tile.last = tile_.last();
  put(kTileRing, tile.pack());
  tile_.advance();
  return true;
}

void Feeds::set_row(std::vector<Row>& rows, const Command& c) const {
  if (c.opcode == Opcode::kSetRow && c.token < rows.size())
    rows[c.token] = {c.weight_addr, c.params_addr, c.requant_addr};
}

bool Feeds::make_act_segment() {
  if (!act_left_) {
    const Command* command = next_command(kActSegmentRing, [this](const Command& c) {
      set_row(act_rows_, c);
      return (c.opcode == Opcode::kLoadAct && !c.source_hidden) || c.opcode == Opcode::kCombine;
    });
    if (command == nullptr) return false;
    act_command_ = *command;
    act_left_ = true;
    act_row_ = false;
    act_token_ = 0;
    act_expert_ = 0;
    act_n_ = command->n;
    act_r_ = command->requant_addr;
    act_at_ = command->offset;
    act_step_ = 0;
  }
  const Command& c = act_command_;
  const std::uint64_t row = act_rows_[act_token_ % act_rows_.size()].in + act_at_ + act_step_;
  const std::uint32_t cols = std::min(act_n_, static_cast<std::uint32_t>(params_.cols));
  std::uint64_t address = row & kAddrMask, bytes = 0;
  if (c.opcode == Opcode::kLoadAct) {
    bytes = c.elem_bytes == 2 ? std::uint64_t{2} * c.k : c.k;
    act_left_ = ++act_token_ != c.tokens;
  } else if (!act_row_) {
    address = act_r_;
    bytes = 2;
    act_r_ = (act_r_ + 2) & kAddrMask;
    act_row_ = true;
  } else {
    bytes = 2 * cols;
    act_row_ = false;
    act_step_ = (act_step_ + c.plane_stride) & kAddrMask;
    if (++act_expert_ == c.k) {
      act_expert_ = 0;
      act_step_ = 0;
      if (++act_token_ == c.tokens) {
        act_token_ = 0;
        act_r_ = c.requant_addr;
        act_left_ = act_n_ > params_.cols;
        act_n_ -= cols;
        act_at_ = (act_at_ + 2 * cols) & kAddrMask;
      }
    }
  }
  Segment s = segment(address, bytes);
  s.last = !act_left_;
  put(kActSegmentRing, s.pack(), address);
  return true;
}

bool Feeds::make_act_step() {
  if (!step_combine_ && !step_tile_.valid()) {
    const Command* command = next_command(
        kActStepRing, [](const Command& c) { return c.opcode == Opcode::kLoadAct || c.opcode == Opcode::kCombine; });
    if (command == nullptr) return false;
    step_command_ = *command;
    step_combine_ = command->opcode == Opcode::kCombine;
    step_n_ = command->n;
    step_token_ = 0;
    step_expert_ = 0;
    if (!step_combine_) step_tile_.start(*command, command->tokens * params_.cols, false, false);
  }
  const Command& c = step_command_;
  ActStep step;
  step.combine = step_combine_;
  if (step_combine_) {
    const std::uint32_t cols = std::min(step_n_, static_cast<std::uint32_t>(params_.cols));
    step.size = static_cast<std::uint8_t>(cols);
    step.bytes = 2;
    if (++step_expert_ == c.k) {
      step_expert_ = 0;
      if (++step_token_ == c.tokens) {
        step_token_ = 0;
        step.block_end = true;
        step.last = step_n_ <= params_.cols;
        step_n_ -= cols;
      }
    }
    step_combine_ = !step.last;
  } else {
    step.size = static_cast<std::uint8_t>(step_tile_.depth());
    step.bytes = c.elem_bytes == 2 ? 2 : 1;
    step.hidden = c.source_hidden;
    step.last = step_tile_.last();
    step_tile_.advance();
  }
  put(kActStepRing, step.pack());
  return true;
}

bool Feeds::make_block() {
  if (!block_left_) {
    const Command* command = next_command(kBlockRing, drains);
    if (command == nullptr) return false;
    block_command_ = *command;
    block_left_ = true;
    block_which_ = false;
    block_col_ = 0;
  }
  const Command& c = block_command_;
  const std::uint32_t left = c.n - block_col_;
  Block block;
  block.cols = static_cast<std::uint8_t>(std::min(left, static_cast<std::uint32_t>(params_.cols)));
  block.tokens = c.tokens;
  block.up = c.paired ? block_which_ : c.which_up;
  block.last = left <= params_.cols && (block_which_ || !c.paired);
  block.pair = is_pair(c);
  block.combine = c.opcode == Opcode::kCombine;
  block.write_acc = c.write_acc;
  block.write_y = c.write_y;
  block.write_h = c.write_h;
  put(kBlockRing, block.pack());
  block_left_ = !block.last;
  if (block_which_ || !c.paired) block_col_ += params_.cols;
  block_which_ = c.paired && !block_which_;
  return true;
}

bool Feeds::make_chunk() {
  if (!chunk_left_) {
    const Command* command = next_command(kChunkRing, [this](const Command& c) {
      set_row(chunk_rows_, c);
      return drains(c) && (is_pair(c) ? c.write_h && (c.paired || c.which_up) : c.write_acc || c.write_y);
    });
    if (command == nullptr) return false;
    chunk_command_ = *command;
    chunk_left_ = chunk_first_ = true;
    chunk_col_ = 0;
    chunk_token_ = 0;
  }
  const Command& c = chunk_command_;
  const Row& row = chunk_rows_[chunk_token_ % chunk_rows_.size()];
  const std::uint32_t left = c.n - chunk_col_, cols = std::min(left, static_cast<std::uint32_t>(params_.cols));
  const bool sums = !is_pair(c) && c.write_acc, values = !sums || c.write_y;
  const unsigned element = is_pair(c) || c.elem_bytes == 2 ? 2 : 1;
  const std::uint64_t sum_at = row.aux + c.aux_offset + std::uint64_t{8} * chunk_col_;
  std::uint64_t value_at = row.out + (c.opcode == Opcode::kCombine ? c.aux_offset : c.offset);
  if (is_pair(c)) value_at = row.aux + c.aux_offset;
  value_at += std::uint64_t{element} * chunk_col_;
  const std::uint64_t one_at = values ? value_at : sum_at, other_at = sums ? sum_at : value_at;
  if (chunk_token_ == 0 || !repeat_chunks(one_at, other_at)) {
    Ring& ring = rings_[kChunkRing];
    const std::uint64_t first = ring.made;
    const auto put_chunk = [&](std::uint64_t at, unsigned bytes, unsigned run) {
      const std::uint64_t address = at & kAddrMask, beat = beat_of(address);
      Chunk chunk;
      chunk.offset = static_cast<std::uint8_t>(in_beat(address));
      chunk.bytes = static_cast<std::uint8_t>(bytes);
      chunk.same_beat = beat == chunk_end_beat_;
      chunk_end_beat_ = beat_of((address + bytes - 1) & kAddrMask);
      chunk_run_[ring.made % kRing] = static_cast<std::uint8_t>(run);
      put(kChunkRing, chunk.pack(), address);
    };
    // All of the token's columns in the block, four at a time.
    const bool wraps = ((one_at ^ (one_at + std::uint64_t{8} * cols)) & ~kAddrMask) != 0;
    const bool apart = wraps || (sums && values);
    for (unsigned part = 0; part < cols; part += 4) {
      const unsigned count = std::min(cols - part, 4U), run = apart ? 1 : (cols - part + 3) / 4;
      if (sums) put_chunk(sum_at + std::uint64_t{8} * part, 8 * count, run);
      if (values) put_chunk(value_at + element * part, element * count, run);
    }
    chunks_of_token_ = static_cast<unsigned>(ring.made - first);
    if (chunk_first_) chunk_run_[first % kRing] |= kBegins;
    chunk_first_ = false;
  }
  chunks_at_ = {one_at, other_at};
  if (++chunk_token_ != c.tokens) return true;
  chunk_token_ = 0;
  chunk_col_ += params_.cols;
  chunk_left_ = left > params_.cols;
  return true;
}

/// The chunks of a block's next token, which begin at these addresses (the same one twice if they are of one kind),
/// where they lie in beats as those of the token before do.
bool Feeds::repeat_chunks(std::uint64_t one_at, std::uint64_t other_at) {
  Ring& ring = rings_[kChunkRing];
  const std::uint64_t by = one_at - chunks_at_[0], count = chunks_of_token_;
  const bool may_wrap = ((one_at | other_at | chunks_at_[0] | chunks_at_[1]) & ~(kAddrMask >> 1)) != 0;
  if (may_wrap || in_beat(by) != 0 || other_at - chunks_at_[1] != by) return false;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t from = (ring.made + i - count) % kRing, to = (ring.made + i) % kRing;
    ring.item[to] = ring.item[from];
    ring.address[to] = ring.address[from] + by;
    chunk_run_[to] = chunk_run_[from];
  }
  const std::uint64_t first = ring.made % kRing;
  Chunk chunk = Chunk::unpack(ring.item[first]);
  chunk.same_beat = beat_of(ring.address[first]) == chunk_end_beat_;
  ring.item[first] = chunk.pack();
  chunk_run_[first] &= static_cast<std::uint8_t>(~kBegins);
  chunk_end_beat_ += static_cast<std::uint64_t>(static_cast<std::int64_t>(by) >> beat_shift_);
  ring.made += count;
  return true;
}

/// The segment that was taken last.
void Feeds::account(Feed feed) {
  const unsigned f = static_cast<unsigned>(feed);
  const std::uint64_t slot = (taken_[f] - 1) % kRing;
  const Ring& ring = rings_[kRingOf[f]];
  const std::uint64_t address = ring.address[slot];
  if (feed == Feed::kActSegment) {
    account_read(MemoryPort::kActivationRead, act_range_, address, Segment::unpack(ring.item[slot]));
  } else {
    Range& range = segment_stage_[slot] == static_cast<std::uint8_t>(Stage::kPlanes)   ? planes_range_
                   : segment_stage_[slot] == static_cast<std::uint8_t>(Stage::kParams) ? params_range_
                                                                                       : requant_range_;
    account_read(MemoryPort::kWeightRead, range, address, Segment::unpack(ring.item[slot]));
  }
}

/// Takes them.
void Feeds::account_chunks(unsigned count) {
  const Ring& ring = rings_[kChunkRing];
  std::uint64_t& taken = taken_[static_cast<unsigned>(Feed::kChunk)];
  while (count > 0) {
    const std::uint64_t slot = taken % kRing;
    const bool begins = (chunk_run_[slot] & kBegins) != 0;
    const unsigned run = std::min<unsigned>(chunk_run_[slot] & ~kBegins, count);
    const std::uint64_t last = (taken + run - 1) % kRing, address = ring.address[slot];
    account_write(address, ring.address[last] + Chunk::unpack(ring.item[last]).bytes - address, begins);
    taken += run;
    count -= run;
  }
}

void Feeds::account_read(MemoryPort port, Range& range, std::uint64_t address, const Segment& segment) {
  const std::uint64_t kept = segment.resume ? 1 : 0, beats = segment.beats - kept;
  if (beats == 0) return;
  const std::uint64_t begin = address - in_beat(address) + kept * beat_bytes_;
  if (begin != range.end) {
    count(port, range);
    range.begin = range.end = begin;
  }
  range.end += beats * beat_bytes_;
}

void Feeds::check_reads(MemoryPort port, const Range& range) const {
  for (std::uint64_t beat = range.begin; beat < range.end; beat += beat_bytes_) {
    bool named = false;
    for (std::uint64_t i = 0; i < beat_bytes_ && !named; ++i) named = image_->region_at(beat + i) != nullptr;
    if (!named)
      throw base::CheckError(std::string(program::kMemoryPortNames[static_cast<std::size_t>(port)]) +
                             " port: got a read at " + at(beat) + ", expected one within a region");
  }
}

void Feeds::count(MemoryPort port, Range& range) {
  if (range.begin == range.end) return;
  const std::uint64_t padding = traffic_.padding(port);
  traffic_.count(port, range.begin, range.end - range.begin);
  // A beat without a single byte of a region shows as padding.
  if (port != MemoryPort::kWrite && traffic_.padding(port) - padding >= beat_bytes_) check_reads(port, range);
  range = Range{};
}

void Feeds::close_beat() {
  if (!beat_open_) return;
  beat_open_ = false;
  add_written(beat_ * beat_bytes_, beat_bytes_);
}

/// Whole beats.
void Feeds::add_written(std::uint64_t begin, std::uint64_t bytes) {
  if (begin != write_range_.end) {
    count(MemoryPort::kWrite, write_range_);
    write_range_.begin = write_range_.end = begin;
  }
  write_range_.end += bytes;
}

/// What lies one behind the other is one write.
void Feeds::account_write(std::uint64_t address, std::uint64_t bytes, bool first) {
  const std::uint64_t end = address + bytes;
  if (address < writable_begin_ || end > writable_end_) check_writes(address, end);
  if (address == written_end_ && !first) {
    written_end_ = end;
    return;
  }
  close_writes();
  if (first) close_beat();
  written_begin_ = address;
  written_end_ = end;
}

void Feeds::check_writes(std::uint64_t begin, std::uint64_t end) {
  for (std::uint64_t byte = begin; byte < end; ++byte) {
    const auto* region = image_->region_at(byte);
    const bool writable = region != nullptr && program::is_written(region->kind);
    if (!writable) throw base::CheckError("write port: got a write at " + at(byte) + ", expected one within results");
    writable_begin_ = region->address;
    writable_end_ = region->address + region->bytes;
  }
}

/// Beats are written when they are full, or another follows.
void Feeds::close_writes() {
  const std::uint64_t all = ~std::uint64_t{0} >> (64 - beat_bytes_);
  for (std::uint64_t address = written_begin_; address < written_end_;) {
    const std::uint64_t offset = in_beat(address), left = written_end_ - address;
    if (beat_open_ && beat_ != beat_of(address)) close_beat();
    if (!beat_open_ && offset == 0 && left >= beat_bytes_) {
      const std::uint64_t whole = left & ~std::uint64_t{beat_bytes_ - 1};
      add_written(address, whole);
      address += whole;
      continue;
    }
    if (!beat_open_) {
      beat_open_ = true;
      beat_ = beat_of(address);
      strobes_ = 0;
    }
    const std::uint64_t part = std::min(left, beat_bytes_ - offset);
    strobes_ |= (~std::uint64_t{0} >> (64 - part)) << offset;
    if (strobes_ == all) close_beat();
    address += part;
  }
  written_begin_ = written_end_ = kNone;
}

const program::Traffic& Feeds::traffic() {
  close_writes();
  close_beat();
  count(MemoryPort::kWeightRead, planes_range_);
  count(MemoryPort::kWeightRead, params_range_);
  count(MemoryPort::kWeightRead, requant_range_);
  count(MemoryPort::kActivationRead, act_range_);
  count(MemoryPort::kWrite, write_range_);
  return traffic_;
}

}  // namespace moesaic::fast
