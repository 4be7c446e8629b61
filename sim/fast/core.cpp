#include "sim/fast/core.h"

#include <algorithm>

namespace moesaic::fast {

using program::Activity;

namespace {

constexpr unsigned kMaxUnanswered = 15;
constexpr std::uint64_t kAddrMask = (std::uint64_t{1} << program::CoreParams::kAddrBits) - 1;

constexpr std::uint32_t code(program::Block block, Activity activity) {
  return static_cast<std::uint32_t>(activity) << (2 * static_cast<unsigned>(block));
}

/// The first that holds.
constexpr Activity name(bool busy, bool blocked, bool starved) {
  return busy ? Activity::kBusy : blocked ? Activity::kBlocked : starved ? Activity::kStarved : Activity::kIdle;
}

}  // namespace

Core::Core(const program::CoreParams& params, Feeds& feeds)
    : params_(params),
      feeds_(feeds),
      beat_bytes_(params.beat_bytes()),
      data_bits_(params.axi_data_bits),
      depth_(params.fifo_depth),
      stages_(params.log2_rows() + 1),
      wide_cols_(std::min(params.cols, params.axi_data_bits / 16)),
      narrow_cols_(std::min(params.cols, params.axi_data_bits / 8)),
      load_cols_(params.load_cols()),
      row_cols_(std::min(params.cols, params.axi_data_bits / 16)),
      all_strobes_(~std::uint64_t{0} >> (64 - params.beat_bytes())),
      pipe_mask_(~std::uint64_t{0} >> (64 - 8 * stages_)),
      io_(params),
      wgt_(params.fifo_depth),
      act_(params.fifo_depth) {}

void Core::reset() {
  const auto zero = [](auto& field) { field = {}; };
  wgt_.burst_count = act_.burst_count = 0;
  io_.reset();
  visit_state(zero);
  restored(0);
}

/// Nothing is between the accumulators and the memory, and nothing may come.
bool Core::results_rest() const {
  return (rq1_ | rq2_ | sw1_ | sw2_ | sw3_) == 0 && !chunk_ && !beat_valid_ && unanswered_ == 0 && !flush_ &&
         (acc_banks_ == 0 || !draining_) && (drain_ == Drain::kIdle || drain_ == Drain::kWalk);
}

void Core::evaluate_results(const Inputs& in, Wires& w) const {
  if (results_rest()) {
    w.results_rest = w.dma_ready = w.dma_idle = w.swiglu_ready = w.requant_ready = true;
    if (drain_ != Drain::kIdle) w.activity |= code(program::Block::kDrain, Activity::kStarved);
    return;
  }
  // Output DMA.
  const bool wants_send = beat_valid_ && (strobes_ == all_strobes_ || (chunk_ ? !same_beat_ : flush_));
  const bool can_send = (!aw_ || in.aw_ready) && (!w_ || in.w_ready) && unanswered_ != kMaxUnanswered;
  w.dma_send = wants_send && can_send;
  w.dma_moves = chunk_ && (!wants_send || can_send);
  w.dma_ready = !chunk_ || (w.dma_moves && chunk_bytes_ + chunk_offset_ <= beat_bytes_);
  w.dma_idle = !chunk_ && !beat_valid_ && unanswered_ == 0;
  w.b_fire = unanswered_ != 0 && in.b_valid;

  // SwiGLU, requantisation, drain.
  const bool h_valid = sw3_ != 0, result_valid = rq2_ != 0, up = (rq2_ & kUp) != 0;
  const bool h_ready = !block_.write_h || w.dma_ready;
  w.swiglu_ready = !h_valid || h_ready;
  w.swiglu_fire = result_valid && block_.pair && up && w.swiglu_ready;
  const bool wants_acc = block_.write_acc && !phase_;
  bool result_ready = false, dma_valid = false;
  if (block_.pair) {
    result_ready = !up || w.swiglu_ready;
    dma_valid = h_valid && block_.write_h;
  } else {
    result_ready = wants_acc ? w.dma_ready && !block_.write_y : !block_.write_y || w.dma_ready;
    dma_valid = result_valid && (wants_acc || block_.write_y);
  }
  w.requant_ready = !result_valid || result_ready;
  w.result_fire = result_valid && result_ready;
  w.h_fire = h_valid && h_ready;
  w.acc_out = result_valid && !block_.pair && wants_acc && block_.write_y && w.dma_ready;
  w.dma_fire = dma_valid && w.dma_ready;
  const bool offers = draining_ && acc_banks_ != 0 && (block_.combine || rq_count_ != 0);
  w.sends = offers && w.requant_ready;
  w.last_of_token = 4U * drain_chunk_ + 4 >= block_.cols;
  w.ends_block = w.last_of_token && drain_token_ + 1U == block_.tokens;
  w.release = w.sends && w.ends_block;
  w.rq_pop = w.release && !block_.combine;
  w.drain_done = drain_ == Drain::kSettle && w.dma_idle;

  // What those five blocks say.
  const bool dma_busy =
      w.dma_fire || w.dma_moves || w.dma_send || (aw_ && in.aw_ready) || (w_ && in.w_ready) || w.b_fire;
  const bool dma_blocked = !w.dma_idle && (chunk_ || unanswered_ != 0 || wants_send);
  w.activity |= code(program::Block::kOutputDma, name(dma_busy, dma_blocked, !w.dma_idle));
  const bool swiglu_in = result_valid && block_.pair && up;
  w.activity |= code(program::Block::kSwiglu,
                     !w.swiglu_ready ? Activity::kBlocked : name(swiglu_in || (sw1_ | sw2_ | sw3_) != 0, false, false));
  w.activity |= code(program::Block::kRequant,
                     !w.requant_ready ? Activity::kBlocked : name(offers || (rq1_ | rq2_) != 0, false, false));
  const bool drain_busy = w.sends || w.result_fire || w.h_fire || w.dma_fire || drain_ == Drain::kFlush || w.drain_done;
  w.activity |=
      code(program::Block::kDrain, name(drain_busy, offers || result_valid || h_valid, drain_ != Drain::kIdle));
}

void Core::evaluate_array(Wires& w) const {
  const bool add_ready = acc_banks_ != 2;
  w.add_fire = group3_ != 0 && add_ready;
  w.advance3 = group3_ == 0 || add_ready;
  w.advance2 = group2_ == 0 || w.advance3;
  w.leave1 = group1_ != 0 && param_count_ != 0 && w.advance2;
  w.advance1 = group1_ == 0 || w.leave1;
  w.param_pop = (group1_ & kLastToken) != 0 && param_count_ != 0 && w.advance2;
  w.direct_offer = act_works_ && act_step_.combine && part_ == Part::kOffer;
  w.direct_fire = w.direct_offer && group1_ == 0 && w.advance2;
  w.activity |= code(program::Block::kAccBuffer, name(w.release || w.add_fire, group3_ != 0, false));

  const bool sum_valid = oldest() != 0;
  w.sum_fire = sum_valid && w.advance1;
  w.advance = !sum_valid || w.advance1;
  const bool dequant_busy = w.sum_fire || w.leave1 || w.direct_fire || (group2_ != 0 && w.advance3) || w.add_fire;
  w.activity |= code(program::Block::kGroupDequant, name(dequant_busy, group3_ != 0, group1_ != 0 || group_open_));

  const bool beat_ready = banks_ != 0 && w.advance;
  w.beat_fire = beat_ != 0 && beat_ready;
  w.issues = walking_tiles_ && (beat_ == 0 || beat_ready);
  w.sequence_done = sequencing_ && !walking_tiles_ && beat_ == 0 && flight_ == 0;
  w.activity |= code(program::Block::kPeArray,
                     !w.advance ? Activity::kBlocked
                                : name(pipe_ != 0 || (beat_ != 0 && banks_ != 0), false, beat_ != 0 || banks_ != 0));
}

bool Core::held() const {
  if (queue_used_ == 0 || running_) return false;
  const Item item = feeds_.peek(Feed::kExecute);
  return (item & 0xff) == static_cast<Item>(Work::kWait) && !io_.is_released(static_cast<unsigned>(item >> 8));
}

void Core::evaluate_commands(const Inputs& in, Wires& w) const {
  w.finish = running_ && !load_wait_ && !sequence_wait_ && !drain_wait_ && (group1_ | group2_ | group3_) == 0;
  w.start = queue_used_ != 0 && !running_;
  bool any = false;
  bool held = false;
  if (w.start) {
    const Item item = feeds_.peek(Feed::kExecute);
    w.work = static_cast<Work>(item & 0xff);
    any = w.work >= Work::kLoad;
    if (w.work == Work::kWait) {
      w.retire_job = static_cast<std::uint8_t>(item >> 8);
      held = !io_.is_released(w.retire_job);
      w.retire = !held;
      w.start = !held;
    }
  }
  w.retired = w.finish || (w.start && !any);
  w.pop = w.retired;
  w.push = in.push && queue_used_ != params_.command_depth;
  const bool dispatch_room = dispatch_fetch_ != 2 && dispatch_load_ != 2;
  w.dispatch_push = queue_next_ == kQueuedMatmul && dispatch_room;
  w.pass = passes();
  w.pass_job = queue_job_;
  w.fetch_steps = w.dispatch_push || queue_next_ == kQueuedOther || w.pass;
  w.activity |= code(program::Block::kScheduler, name(w.start || w.finish, held, queue_used_ != 0));
  w.activity |= code(program::Block::kCommandQueue, name(w.push || w.pop || w.fetch_steps, queue_used_ != 0, false));
  const bool starts_sequence = w.start && (w.work == Work::kMatmul || w.work == Work::kMatmulAndDrain);
  w.activity |= code(program::Block::kTileSequencer,
                     name(starts_sequence || w.beat_fire || w.issues || w.sequence_done, beat_ != 0, sequencing_));
  if (w.start && (w.work == Work::kMatmulAndDrain || w.work == Work::kCombine)) {
    // A block that starts is busy whatever else it does.
    w.activity &= ~code(program::Block::kDrain, Activity::kBlocked);
    w.activity |= code(program::Block::kDrain, Activity::kBusy);
  }
}

Core::ReaderWires Core::evaluate_reader(const Reader& reader, bool segment_offered, bool ar_ready, bool r_valid) const {
  ReaderWires w;
  if (reader.segment && reader.has_room(depth_)) {
    const bool asks = reader.asked() != 0;
    w.ar_fire = asks && ar_ready;
    w.issue = !asks || ar_ready;
  }
  w.seg_fire = segment_offered && (!reader.segment || (w.issue && reader.burst() == reader.beats_left));
  w.r_fire = r_valid && reader.owed != 0;
  w.insert = reader.avail <= 2 * data_bits_ && reader.holds_beat();
  return w;
}

void Core::evaluate_streams(const Inputs& in, Wires& w) const {
  const auto reader_activity = [](const Reader& reader, bool busy) {
    const bool idle = !reader.segment && reader.burst_count == 0 && reader.avail == 0;
    return name(busy, !idle && (reader.holds_beat() || (reader.owed == 0 && !reader.segment)), !idle);
  };

  // Weights.
  w.wgt = evaluate_reader(wgt_, fetch_, in.wgt_ar_ready, in.wgt_r_valid);
  w.fetch_start = !fetch_ && dispatch_fetch_ != 0;
  w.fetch_pop = w.wgt.seg_fire && Segment::unpack(feeds_.peek(Feed::kSegment)).last;
  w.activity |= code(program::Block::kWeightFetch, name(w.wgt.seg_fire || w.fetch_start, fetch_, false));
  const bool enough = loader_ && wgt_.avail >= plan_bits_;
  bool room = param_count_ != 2;
  if (plan_stage_ == Stage::kPlane) room = banks_ != 2;
  if (plan_stage_ == Stage::kMu || plan_stage_ == Stage::kSigma) room = rq_count_ != 2;
  w.loader_goes = enough && room;
  w.loader_start = !loader_ && dispatch_load_ != 0;
  w.loader_pop = w.loader_goes && plan_tile_done_ && loader_tile_.last;
  w.activity |= code(program::Block::kWeightLoader, name(w.loader_goes || w.loader_start, enough, loader_));
  w.activity |= code(program::Block::kWeightReader, reader_activity(wgt_, w.wgt.any() || w.loader_goes));

  // Activations.
  w.act = evaluate_reader(act_, act_left_, in.act_ar_ready, in.act_r_valid);
  const bool there = act_works_ && act_.avail >= act_bits_;
  w.load_step = there && !act_step_.combine;
  w.combine_step = there && act_step_.combine && part_ != Part::kOffer;
  const bool starts = w.start && (w.work == Work::kLoad || w.work == Work::kCombine);
  w.activity |= code(
      program::Block::kActLoader,
      name(starts || w.act.seg_fire || w.load_step || w.combine_step || w.direct_fire, w.direct_offer, act_works_));
  const bool pops = (w.load_step && !act_step_.hidden) || w.combine_step;
  w.activity |= code(program::Block::kActReader, reader_activity(act_, w.act.any() || pops));
}

Core::Wires Core::evaluate(const Inputs& in) const {
  Wires w;
  evaluate_results(in, w);
  evaluate_rest(in, w);
  return w;
}

void Core::evaluate_rest(const Inputs& in, Wires& w) const {
  evaluate_array(w);
  evaluate_commands(in, w);
  evaluate_streams(in, w);
  w.io = io_.evaluate(in.io);
  w.activity |= code(program::Block::kIoQueue, io_.activity(w.io));
}

Core::Wires Core::evaluate_results(const Inputs& in) const {
  Wires w;
  evaluate_results(in, w);
  return w;
}

void Core::clock_results(const Inputs& in, const Wires& w) {
  if (w.results_rest) return;
  clock_output(in, w);
  clock_drain(w);
  if (w.release) --acc_banks_;
  if (w.rq_pop) --rq_count_;
}

Core::Wires Core::evaluate_others(const Inputs& in) const {
  Wires w;
  w.results_rest = true;
  evaluate_rest(in, w);
  return w;
}

bool Core::may_part(unsigned fewest_chunks) const {
  if (!draining_ || acc_banks_ != 1 || rq_count_ == 0 || !sequencing_ || block_.combine || block_.last) return false;
  const unsigned of_token = (block_.cols + 3U) / 4;
  const unsigned left = (block_.tokens - drain_token_) * of_token - drain_chunk_;
  return left >= fewest_chunks;
}

bool Core::touches(const Wires& w) const {
  const bool asks_for_room = loader_ && (plan_stage_ == Stage::kMu || plan_stage_ == Stage::kSigma);
  const bool block_done = w.add_fire && (group3_ & kBlockDone) != 0;
  return asks_for_room || block_done;
}

void Core::clock(const Inputs& in, const Wires& w) {
  // Each block must see the others as they were before the edge: who looks at another's registers goes first.
  if (!w.results_rest) clock_output(in, w);
  if (!w.results_rest || w.start) clock_drain(w);
  clock_array(w);
  clock_weights(w);
  clock_activations(w);
  if (queue_used_ != 0 || w.push) clock_commands(w);
  if (w.io.any()) io_.clock(in.io, w.io);
  if (w.pass) io_.pass(w.pass_job);
  if (w.retire) io_.retire(w.retire_job);
}

void Core::clock_commands(const Wires& w) {
  if (w.start) {
    feeds_.take(Feed::kExecute);
    const bool matmul = w.work == Work::kMatmul || w.work == Work::kMatmulAndDrain;
    running_ = w.work >= Work::kLoad;
    load_wait_ = w.work == Work::kLoad || w.work == Work::kCombine;
    sequence_wait_ = matmul;
    drain_wait_ = w.work == Work::kMatmulAndDrain || w.work == Work::kCombine;
    command_error_ = command_error_ || w.work == Work::kUnknown;
  } else if (running_) {
    sequence_wait_ = sequence_wait_ && !w.sequence_done;
    drain_wait_ = drain_wait_ && !w.drain_done;
    if (w.finish) running_ = false;
  }
  if (w.fetch_steps) queue_next_ = queue_job_ = 0;
  queue_fetch_ = queue_fetch_ + w.fetch_steps - w.pop;
  queue_used_ = queue_used_ + w.push - w.pop;
  if (queue_next_ == 0 && queue_fetch_ != queue_used_) {
    const Item item = feeds_.take(Feed::kQueue);
    queue_next_ = static_cast<std::uint8_t>(item);
    queue_job_ = static_cast<std::uint8_t>(item >> 8);
  }
}

void Core::clock_reader(Reader& reader, std::uint32_t pop, const ReaderWires& w) {
  const auto depth = static_cast<std::uint32_t>(reader.bursts.size());
  reader.avail -= pop;
  if (w.insert) {
    const Reader::Burst& burst = reader.bursts[reader.burst_read];
    const bool last = reader.beat_in_burst + 1 == burst.beats;
    const unsigned bytes = (last ? burst.end : beat_bytes_) - (reader.beat_in_burst == 0 ? burst.skip : 0U);
    reader.avail += 8 * bytes;
    if (!reader.resumes()) --reader.used;
    if (last) {
      reader.beat_in_burst = 0;
      --reader.burst_count;
      reader.burst_read = (reader.burst_read + 1) & (depth - 1);
    } else {
      ++reader.beat_in_burst;
    }
  }
  if (w.r_fire) --reader.owed;
  if (w.issue) {
    const std::uint32_t beats = reader.burst(), asked = reader.asked();
    const bool last = beats == reader.beats_left;
    reader.bursts[(reader.burst_read + reader.burst_count) & (depth - 1)] = {
        static_cast<std::uint16_t>(beats), reader.skip, last ? reader.end : static_cast<std::uint8_t>(beat_bytes_),
        reader.resume};
    ++reader.burst_count;
    reader.owed += asked;
    reader.used += asked;
    reader.beats_left -= beats;
    reader.page -= beats;
    reader.skip = 0;
    reader.resume = false;
    reader.address += std::uint64_t{asked} * beat_bytes_;
    if (last) {
      reader.segment = false;
      reader.page = 0;
      reader.end = 0;
    } else if (reader.page == 0) {
      reader.page = std::min(reader.beats_left, 4096 / beat_bytes_);
    }
  }
}

Segment Core::take_segment(Reader& reader, Feed feed) {
  const Segment segment = Segment::unpack(feeds_.take(feed));
  reader.segment = true;
  reader.resume = segment.resume;
  reader.beats_left = segment.beats;
  reader.page = segment.page;
  reader.skip = segment.skip;
  reader.end = segment.end;
  reader.item = feeds_.taken(feed) - 1;
  reader.address = feeds_.address(feed) - segment.skip + (segment.resume ? beat_bytes_ : 0);
  return segment;
}

void Core::restore_address(Reader& reader, Feed feed) const {
  if (!reader.segment) return;
  const Segment segment = Segment::unpack(feeds_.item(feed, reader.item));
  reader.address = feeds_.address_of(feed, reader.item) - segment.skip +
                   std::uint64_t{segment.beats - reader.beats_left + (reader.resume ? 1 : 0)} * beat_bytes_;
}

/// How many beats a burst in the ring has decides nothing but when the ring is full. It never is before the buffer is,
/// as every burst in it has a beat there, or else consists of a kept one. So bursts are joined as long as none in the
/// ring begins in a kept beat, and none can come before those in it are gone: before the memory is asked for as many
/// beats as the buffer holds.
bool Core::join_bursts() {
  act_.join_bursts(beat_bytes_, true);
  const bool joins = joins_after(0);
  wgt_.join_bursts(beat_bytes_, joins);
  return joins;
}

bool Core::joins_after(unsigned segments) const { return feeds_.asks_for_all(depth_, segments); }

void Reader::join_bursts(unsigned beat_bytes, bool asks_for_all) {
  if (burst_count == 0) return;
  const auto size = static_cast<std::uint32_t>(bursts.size());
  if (beat_in_burst != 0) {
    Burst& first = bursts[burst_read];
    first = {static_cast<std::uint16_t>(first.beats - beat_in_burst), 0, first.end, false};
    beat_in_burst = 0;
  }
  if (!asks_for_all || resume) return;
  for (std::uint32_t i = 0; i < burst_count; ++i)
    if (bursts[(burst_read + i) & (size - 1)].resume) return;
  std::uint32_t joined = 0;  // the last that stays
  for (std::uint32_t i = 1; i < burst_count; ++i) {
    const Burst& next = bursts[(burst_read + i) & (size - 1)];
    Burst& last = bursts[(burst_read + joined) & (size - 1)];
    if (last.end == beat_bytes && next.skip == 0) {
      last.beats = static_cast<std::uint16_t>(last.beats + next.beats);
      last.end = next.end;
    } else {
      bursts[(burst_read + ++joined) & (size - 1)] = next;
    }
  }
  burst_count = joined + 1;
}

/// What the loader's next step would take: it follows from the tile and where it stands in it.
void Core::plan_loader() {
  loader_tile_ = Tile::unpack(loader_item_);
  plan_stage_ = stage_ == Stage::kScale && !loader_tile_.group_end ? Stage::kPlane : stage_;
  unsigned most = wide_cols_, value_bits = 16;
  if (plan_stage_ == Stage::kZero || plan_stage_ == Stage::kSigma) {
    most = narrow_cols_;
    value_bits = 8;
  } else if (plan_stage_ == Stage::kPlane) {
    most = load_cols_;
    value_bits = loader_tile_.depth;
  }
  const unsigned left = loader_tile_.cols - static_cast<unsigned>(col_);
  plan_last_ = left <= most;
  plan_cols_ = static_cast<std::uint8_t>(std::min(left, most));
  plan_bits_ = plan_cols_ * value_bits;
  plan_pop_ = plan_bits_;
  if (plan_stage_ == Stage::kPlane && plan_last_)
    plan_pop_ += (8 - static_cast<unsigned>(loader_tile_.depth) * loader_tile_.cols % 8) % 8;
  plan_tile_done_ =
      plan_last_ && (plan_stage_ == Stage::kSigma ||
                     (plan_stage_ == Stage::kPlane && !loader_tile_.requant && plane_ + 1 == loader_tile_.planes));
}

void Core::step_loader() {
  col_ = plan_last_ ? std::uint8_t{0} : static_cast<std::uint8_t>(col_ + plan_cols_);
  stage_ = plan_stage_;
  if (plan_last_) {
    switch (plan_stage_) {
      case Stage::kScale:
        if (loader_tile_.offset_mode) ++param_count_;
        stage_ = loader_tile_.offset_mode ? Stage::kPlane : Stage::kZero;
        break;
      case Stage::kZero:
        ++param_count_;
        stage_ = Stage::kPlane;
        break;
      case Stage::kPlane:
        if (plane_ + 1 == loader_tile_.planes) {
          plane_ = 0;
          ++banks_;
          stage_ = plan_tile_done_ ? Stage::kScale : Stage::kMu;
        } else {
          ++plane_;
        }
        break;
      case Stage::kMu:
        stage_ = Stage::kSigma;
        break;
      case Stage::kSigma:
        stage_ = Stage::kScale;
        ++rq_count_;
        break;
    }
    if (plan_tile_done_) {
      loader_ = !loader_tile_.last;
      loader_item_ = loader_ ? feeds_.take(Feed::kLoadTile) : 0;
    }
  }
  plan_loader();
}

void Core::clock_weights(const Wires& w) {
  if (w.wgt.any() || w.loader_goes) clock_reader(wgt_, w.loader_goes ? plan_pop_ : 0, w.wgt);
  if (w.wgt.seg_fire) fetch_ = !take_segment(wgt_, Feed::kSegment).last;
  if (w.fetch_start) fetch_ = true;
  if (w.param_pop) --param_count_;
  if (w.rq_pop) --rq_count_;
  if (w.loader_goes) {
    step_loader();
  } else if (w.loader_start) {
    loader_ = true;
    stage_ = Stage::kScale;
    loader_item_ = feeds_.take(Feed::kLoadTile);
    plan_loader();
  }
  dispatch_fetch_ = static_cast<std::uint8_t>(dispatch_fetch_ + w.dispatch_push - w.fetch_pop);
  dispatch_load_ = static_cast<std::uint8_t>(dispatch_load_ + w.dispatch_push - w.loader_pop);
}

void Core::plan_act() {
  act_step_ = ActStep::unpack(act_item_);
  if (!act_step_.combine) {
    act_count_ = static_cast<std::uint8_t>(std::min(4, act_step_.size - act_row_));
    act_bits_ = act_step_.hidden ? 0 : 8U * act_count_ * act_step_.bytes;
  } else if (part_ == Part::kR) {
    act_count_ = 0;
    act_bits_ = 16;
  } else {
    act_count_ = static_cast<std::uint8_t>(std::min<unsigned>(act_step_.size - act_row_, row_cols_));
    act_bits_ = 16U * act_count_;
  }
}

void Core::clock_activations(const Wires& w) {
  const bool pops = w.load_step || w.combine_step;
  if (w.act.any() || pops) clock_reader(act_, pops ? act_bits_ : 0, w.act);
  if (load_done_) {
    load_wait_ = false;
    load_done_ = false;
  }
  if (w.start && (w.work == Work::kLoad || w.work == Work::kCombine)) {
    act_works_ = true;
    act_item_ = feeds_.take(Feed::kActStep);
    part_ = Part::kR;
    act_row_ = 0;
    plan_act();
    act_left_ = !act_step_.hidden;
    return;
  }
  if (w.act.seg_fire) act_left_ = !take_segment(act_, Feed::kActSegment).last;
  if (!pops && !w.direct_fire) return;
  bool step_done = false;
  if (w.load_step) {
    act_row_ = static_cast<std::uint8_t>(act_row_ + act_count_);
    step_done = act_row_ == act_step_.size;
  } else if (w.combine_step) {
    act_row_ = static_cast<std::uint8_t>(act_row_ + act_count_);
    if (part_ == Part::kR) {
      part_ = Part::kRow;
    } else if (act_row_ == act_step_.size) {
      act_row_ = 0;
      part_ = Part::kOffer;
    }
  } else {
    part_ = Part::kR;
    step_done = true;
  }
  if (step_done) {
    act_row_ = 0;
    act_works_ = !act_step_.last;
    load_done_ = act_step_.last;
    act_item_ = act_works_ ? feeds_.take(Feed::kActStep) : 0;
  }
  plan_act();
}

void Core::issue_beat() {
  const bool last_set = digit_ + params_.planes_per_cycle >= tile_.planes, last_token = token_ + 1 == tile_.tokens;
  std::uint8_t beat = kValid;
  if (token_ == 0 && digit_ == 0) beat |= kTileFirst;
  if (last_token) beat |= kLastToken;
  if (last_set && tile_.group_end) beat |= kGroupEnd;
  if (last_set && last_token) beat |= tile_.requant ? kTileLast | kBlockDone : kTileLast;
  beat_ = beat;
  digit_ = static_cast<std::uint8_t>(digit_ + params_.planes_per_cycle);
  if (!last_set) return;
  digit_ = 0;
  ++token_;
  if (!last_token) return;
  token_ = 0;
  walking_tiles_ = !tile_.last;
  tile_item_ = walking_tiles_ ? feeds_.take(Feed::kSequenceTile) : 0;
  tile_ = Tile::unpack(tile_item_);
}

void Core::clock_array(const Wires& w) {
  // Accumulators and dequantisation.
  const std::uint8_t sum = w.sum_fire ? oldest() : std::uint8_t{0};
  const std::uint8_t entered = beat_;
  if (w.add_fire && (group3_ & kBlockDone) != 0) ++acc_banks_;
  if (w.release) --acc_banks_;
  if (block_ahead_ && acc_banks_ != 0) {
    set_block(feeds_.take(Feed::kBlock));
    block_ahead_ = false;
  }
  if (w.advance3) group3_ = group2_;
  if (w.advance2) {
    group2_ = w.leave1 ? group1_ : std::uint8_t{0};
    if (w.direct_fire) group2_ = act_step_.block_end ? kValid | kBlockDone : kValid;
  }
  if (w.advance1) group1_ = 0;
  if (sum != 0) {
    group_open_ = (sum & (kGroupEnd | kLastToken)) != (kGroupEnd | kLastToken);
    if ((sum & kGroupEnd) != 0) group1_ = sum & (kValid | kLastToken | kBlockDone);
  }
  // Array.
  if (w.advance) pipe_ = ((pipe_ << 8) | (w.beat_fire ? entered : 0U)) & pipe_mask_;
  if (w.beat_fire && (entered & kTileLast) != 0) --banks_;
  // Sequencer.
  const bool starts = w.start && (w.work == Work::kMatmul || w.work == Work::kMatmulAndDrain);
  if (!sequencing_ && !starts) return;
  flight_ = flight_ + w.beat_fire - w.sum_fire;
  if (w.beat_fire) beat_ = 0;
  if (starts) {
    sequencing_ = walking_tiles_ = true;
    token_ = digit_ = 0;
    tile_item_ = feeds_.take(Feed::kSequenceTile);
    tile_ = Tile::unpack(tile_item_);
  } else if (w.issues) {
    issue_beat();
  }
  if (w.sequence_done) sequencing_ = false;
}

void Core::set_block(Item item) {
  block_item_ = item;
  block_ = fast::Block::unpack(item);
}

void Core::clock_drain(const Wires& w) {
  const bool starts = w.start && (w.work == Work::kMatmulAndDrain || w.work == Work::kCombine);
  if (drain_ == Drain::kIdle && !starts) return;
  const bool up_result = block_.pair && (rq2_ & kUp) != 0;
  const bool all_out = (w.result_fire && !up_result && (rq2_ & kLast) != 0) || (w.h_fire && (sw3_ & kLast) != 0);
  if (w.acc_out) phase_ = true;
  if (w.result_fire) phase_ = false;

  if (w.swiglu_ready) {
    sw3_ = sw2_;
    sw2_ = sw1_;
    sw1_ = w.swiglu_fire ? rq2_ & (kValid | kLast) : std::uint8_t{0};
  }
  if (w.requant_ready) {
    rq2_ = rq1_;
    rq1_ = 0;
    if (w.sends) rq1_ = kValid | (block_.up ? kUp : 0) | (w.ends_block && block_.last ? kLast : 0);
  }

  switch (drain_) {
    case Drain::kIdle:
      drain_ = Drain::kWalk;
      break;
    case Drain::kWalk:
      if (all_out) drain_ = Drain::kFlush;
      break;
    case Drain::kFlush:
      drain_ = Drain::kSettle;
      break;
    case Drain::kSettle:
      if (w.drain_done) {
        drain_ = Drain::kIdle;
        set_block(0);
      }
      break;
  }
  if (starts) {
    draining_ = true;
    drain_token_ = drain_chunk_ = 0;
    set_block(feeds_.take(Feed::kBlock));
  } else if (w.sends) {
    ++drain_chunk_;
    if (w.last_of_token) {
      drain_chunk_ = 0;
      ++drain_token_;
    }
    if (w.ends_block) {
      drain_token_ = 0;
      draining_ = block_ahead_ = !block_.last;
    }
  }
}

void Core::clock_output(const Inputs& in, const Wires& w) {
  flush_ = drain_ == Drain::kFlush || (flush_ && (chunk_ || (beat_valid_ && !w.dma_send)));
  if (in.aw_ready) aw_ = false;
  if (in.w_ready) w_ = false;
  if (w.dma_send) {
    out_beat_ = beat_index_;
    out_item_ = beat_item_;
    out_ahead_ = beat_ahead_;
    out_strobes_ = strobes_;
    beat_ahead_ = 0;
    beat_valid_ = false;
    strobes_ = 0;
    aw_ = w_ = true;
    ++unanswered_;
  }
  if (w.b_fire) --unanswered_;
  if (w.dma_moves) {
    const auto part = static_cast<std::uint8_t>(std::min<unsigned>(chunk_bytes_, beat_bytes_ - chunk_offset_));
    beat_valid_ = true;
    beat_index_ = chunk_address_ / beat_bytes_;
    beat_item_ = feeds_.taken(Feed::kChunk) - 1;
    beat_ahead_ = static_cast<std::uint32_t>(beat_index_ - feeds_.address(Feed::kChunk) / beat_bytes_);
    strobes_ |= (~std::uint64_t{0} >> (64 - part)) << chunk_offset_;
    chunk_address_ = (chunk_address_ + part) & kAddrMask;
    chunk_bytes_ = static_cast<std::uint8_t>(chunk_bytes_ - part);
    chunk_offset_ = 0;
    same_beat_ = false;
    chunk_ = chunk_bytes_ != 0;
  }
  if (w.dma_fire) {
    const Chunk chunk = Chunk::unpack(feeds_.take(Feed::kChunk));
    chunk_ = true;
    chunk_offset_ = chunk.offset;
    chunk_bytes_ = chunk.bytes;
    same_beat_ = chunk.same_beat && beat_valid_;
    chunk_address_ = feeds_.address(Feed::kChunk);
  }
}

void Core::restored(std::uint32_t weights_owed) {
  wgt_.owed = weights_owed;
  plan_loader();
  plan_act();
  tile_ = Tile::unpack(tile_item_);
  restore_address(wgt_, Feed::kSegment);
  restore_address(act_, Feed::kActSegment);
  restored_results();
}

void Core::restored_results() {
  block_ = fast::Block::unpack(block_item_);
  if (chunk_) {
    const Chunk chunk = Chunk::unpack(feeds_.item(Feed::kChunk, feeds_.taken(Feed::kChunk) - 1));
    chunk_address_ = (feeds_.address(Feed::kChunk) + chunk.bytes - chunk_bytes_) & kAddrMask;
  }
  if (beat_valid_) beat_index_ = feeds_.address_of(Feed::kChunk, beat_item_) / beat_bytes_ + beat_ahead_;
  if (aw_ || w_) out_beat_ = feeds_.address_of(Feed::kChunk, out_item_) / beat_bytes_ + out_ahead_;
}

}  // namespace moesaic::fast
