#pragma once
/// The control of one core, clock by clock and without data: what every block of docs/core.md waits for, moves and
/// reports, in plain integers. Timing never depends on values, so this is all that decides it. One cycle is evaluate()
/// (what the SystemC twin's wires settle to) and clock() (its rising edge); the twin's ports, data apart, are equal in
/// every cycle, which tests/cosim/fast holds.
#include <array>
#include <cstdint>
#include <vector>

#include "sim/fast/feeds.h"
#include "sim/fast/io_queue.h"
#include "sim/program/core_params.h"

namespace moesaic::fast {

/// A stream reader: bits are counted, not kept.
struct Reader {
  explicit Reader(unsigned depth) : bursts(depth) {}
  struct Burst {
    std::uint16_t beats = 0;
    std::uint8_t skip = 0, end = 0;
    bool resume = false;  ///< its first beat is a kept one
  };
  bool segment = false;
  bool resume = false;           ///< the segment's next beat is a kept one
  std::uint32_t beats_left = 0;  ///< of the segment, not yet in a burst
  std::uint32_t page = 0;        ///< beats up to 4 KiB, at most beats_left
  std::uint8_t skip = 0, end = 0;
  std::uint32_t owed = 0, used = 0, avail = 0;
  std::uint32_t beat_in_burst = 0;
  std::vector<Burst> bursts;  ///< a ring: those with beats not yet in the gearbox
  std::uint32_t burst_read = 0, burst_count = 0;
  std::uint64_t item = 0;     ///< of the segment, by number in its feed
  std::uint64_t address = 0;  ///< the next to ask for; follows from the segment and what is left of it

  /// Beats of the next burst, and those of them that the memory is asked for.
  std::uint32_t burst() const { return page < 16 ? page : 16; }
  std::uint32_t asked() const { return burst() - (resume ? 1 : 0); }
  bool has_room(std::uint32_t depth) const { return used + asked() <= depth && burst_count != depth; }
  /// The next beat for the gearbox is a kept one.
  bool resumes() const { return burst_count != 0 && beat_in_burst == 0 && bursts[burst_read].resume; }
  std::uint32_t in_store() const { return used - owed; }  ///< beats that came and are not in the gearbox
  bool holds_beat() const { return in_store() != 0 || resumes(); }
  void join_bursts(unsigned beat_bytes, bool asks_for_all);
};

class Core {
 public:
  /// What the ports' other side says in one cycle.
  struct Inputs {
    bool push = false;  ///< a command is pushed (by the registers)
    bool wgt_ar_ready = false, wgt_r_valid = false, act_ar_ready = false, act_r_valid = false;
    bool aw_ready = false, w_ready = false, b_valid = false;
    IoQueue::Inputs io;
  };

  /// Of a stream reader: a burst is asked for; one is begun, if only of a kept beat; a segment is taken; a beat comes;
  /// one goes to the gearbox.
  struct ReaderWires {
    bool ar_fire = false, issue = false, seg_fire = false, r_fire = false, insert = false;
    bool any() const { return issue || seg_fire || r_fire || insert; }
  };

  /// What is on the wires in one cycle.
  struct Wires {
    bool results_rest = false;
    // output DMA
    bool dma_send = false, dma_moves = false, dma_ready = false, dma_fire = false, dma_idle = false;
    // drain and what it feeds
    bool h_fire = false, result_fire = false, acc_out = false, swiglu_fire = false, requant_ready = false;
    bool swiglu_ready = false, sends = false, release = false, rq_pop = false, drain_done = false;
    bool last_of_token = false, ends_block = false;
    // dequantisation and accumulators
    bool add_fire = false, advance3 = false, advance2 = false, leave1 = false, advance1 = false, direct_fire = false;
    bool param_pop = false, sum_fire = false;
    // array and sequencer
    bool advance = false, beat_fire = false, issues = false, sequence_done = false;
    // commands
    bool push = false, pop = false, start = false, finish = false, fetch_steps = false, dispatch_push = false;
    bool pass = false, retire = false;  ///< the fetch side steps over a wait; a wait is executed
    std::uint8_t pass_job = 0, retire_job = 0;
    Work work = Work::kUnknown;
    IoQueue::Wires io;
    // weights
    ReaderWires wgt;
    bool fetch_start = false, fetch_pop = false, loader_goes = false, loader_start = false, loader_pop = false;
    // activations
    ReaderWires act;
    bool load_step = false, combine_step = false, direct_offer = false;
    bool b_fire = false;

    std::uint32_t activity = 0;  ///< activity_o
    bool retired = false;
  };

  Core(const program::CoreParams& params, Feeds& feeds);
  void reset();

  Wires evaluate(const Inputs& in) const;
  void clock(const Inputs& in, const Wires& wires);

  // ---- results apart ----

  // Drain, requantisation, SwiGLU and output DMA, while they have a block to drain and another one is being computed,
  // look at none of the other blocks, and these look at none of them, until one of them touches(). Either side may
  // then be evaluated and clocked without the other.
  Wires evaluate_results(const Inputs& in) const;
  void clock_results(const Inputs& in, const Wires& wires);
  Wires evaluate_others(const Inputs& in) const;
  /// Whether results may go apart, with so many chunks left to drain at least.
  bool may_part(unsigned fewest_chunks) const;
  /// There is something between the accumulators and the memory, or will be without any other block.
  bool results_work() const { return !results_rest(); }
  /// In this cycle another block does what the results' blocks see, or sees what they do. A block that is released does
  /// not count: that frees a bank of accumulators where another one is free anyway.
  bool touches(const Wires& wires) const;

  const program::CoreParams& params() const { return params_; }
  bool idle() const { return queue_used_ == 0; }
  unsigned queue_free() const { return params_.command_depth - queue_used_; }
  bool shift_error() const { return false; }
  bool command_error() const { return command_error_; }
  const IoQueue& io_queue() const { return io_; }
  const Reader& weight_reader() const { return wgt_; }
  const Reader& act_reader() const { return act_; }
  bool asks(const Reader& reader) const { return reader.segment && reader.asked() != 0 && reader.has_room(depth_); }
  bool aw_valid() const { return aw_; }
  bool w_valid() const { return w_; }
  unsigned unanswered() const { return unanswered_; }
  std::uint64_t out_address() const { return out_beat_ * beat_bytes_; }
  /// The chunk, by number, of which the beat that is written has its last byte.
  std::uint64_t out_item() const { return out_item_; }
  std::uint32_t out_ahead() const { return out_ahead_; }  ///< beats from that chunk's first one on
  std::uint64_t out_strobes() const { return out_strobes_; }
  /// The fetch side steps over a wait now; a wait that is next to be executed is held.
  bool passes() const { return queue_next_ == kQueuedWait && io_.is_fetchable(queue_job_); }
  bool held() const;
  /// Something will change at the next edge though no block is busy.
  bool restless() const { return load_done_ || flush_; }
  /// The array's beats: whether the one taken in this cycle is its tile's first, and the sums taken their tile's last.
  bool tile_begins(const Wires& wires) const { return wires.beat_fire && (beat_ & kTileFirst) != 0; }
  bool tile_ends(const Wires& wires) const { return wires.sum_fire && (oldest() & kTileLast) != 0; }

  // ---- tokens that pass the array alike ----

  /// What the array and the blocks behind it up to the accumulators hold, but for the number of the token.
  struct Flow {
    std::uint64_t pipe = 0;
    std::uint32_t flight = 0;
    std::array<std::uint8_t, 8> rest{};
    bool operator==(const Flow& other) const {
      return pipe == other.pipe && flight == other.flight && rest == other.rest;
    }
  };
  Flow flow() const {
    return {pipe_, flight_, {beat_, group1_, group2_, group3_, group_open_, param_count_, banks_, acc_banks_}};
  }
  /// The next beat is a token's first, if not its tile's.
  bool at_token() const { return walking_tiles_ && digit_ == 0 && token_ != 0; }
  /// Tokens of the tile that are still to begin, but for its last.
  unsigned tokens_before_last() const { return tile_.tokens - 1U - token_; }
  /// So many tokens pass as the one before did, while nothing else moves.
  void pass_tokens(unsigned count) { token_ = static_cast<std::uint8_t>(token_ + count); }

  /// Readers whose bursts differ only in where the memory was asked for them become alike; nothing else changes.
  /// Returns whether those of the weights may: that depends on segments which are still to be taken.
  bool join_bursts();
  /// The same when so many segments of weights more have been taken.
  bool joins_after(unsigned segments) const;
  /// Calls visit(field) on everything that decides what comes next but the beats of weights that are owed, in a fixed
  /// order. A field that is missing here makes states equal that are not. `apart`: without the results.
  template <class Visit>
  void visit_state(Visit& visit, bool apart = false);
  /// After visit_state() has written new values.
  void restored(std::uint32_t weights_owed);
  /// The same of the results alone: what visit_state() leaves out.
  template <class Visit>
  void visit_results(Visit& visit);
  void restored_results();

 private:
  // A beat on its way through the array.
  static constexpr std::uint8_t kValid = 1, kGroupEnd = 2, kLastToken = 4, kBlockDone = 8, kTileLast = 16,
                                kTileFirst = 32;
  enum class Stage : std::uint8_t { kScale, kZero, kPlane, kMu, kSigma };
  enum class Part : std::uint8_t { kR, kRow, kOffer };
  enum class Drain : std::uint8_t { kIdle, kWalk, kFlush, kSettle };

  template <class Visit>
  void visit_place(Visit& visit, bool known, Feed feed, std::uint64_t& item);
  std::uint8_t oldest() const { return static_cast<std::uint8_t>(pipe_ >> (8 * (stages_ - 1))); }
  bool results_rest() const;
  void evaluate_results(const Inputs& in, Wires& w) const;
  void evaluate_rest(const Inputs& in, Wires& w) const;
  void evaluate_array(Wires& w) const;
  void evaluate_commands(const Inputs& in, Wires& w) const;
  ReaderWires evaluate_reader(const Reader& reader, bool segment_offered, bool ar_ready, bool r_valid) const;
  void evaluate_streams(const Inputs& in, Wires& w) const;
  std::uint32_t activity(const Inputs& in, const Wires& w) const;
  void clock_commands(const Wires& w);
  void clock_weights(const Wires& w);
  void clock_activations(const Wires& w);
  void clock_array(const Wires& w);
  void clock_drain(const Wires& w);
  void clock_output(const Inputs& in, const Wires& w);
  void clock_reader(Reader& reader, std::uint32_t pop, const ReaderWires& w);
  Segment take_segment(Reader& reader, Feed feed);
  void restore_address(Reader& reader, Feed feed) const;
  void issue_beat();
  void step_loader();
  void plan_loader();
  void plan_act();
  void set_block(Item item);

  program::CoreParams params_;
  Feeds& feeds_;
  unsigned beat_bytes_, data_bits_, depth_, stages_, wide_cols_, narrow_cols_, load_cols_, row_cols_;
  std::uint64_t all_strobes_, pipe_mask_;

  // command queue, dispatch, scheduler
  std::uint32_t queue_used_ = 0, queue_fetch_ = 0;  // entries; entries that the fetch side has passed
  std::uint8_t queue_next_ = 0;                     // the fetch side's next: 0 none, or what Feed::kQueue says
  std::uint8_t queue_job_ = 0;                      // of a wait there
  IoQueue io_;
  std::uint8_t dispatch_fetch_ = 0, dispatch_load_ = 0;
  bool running_ = false, load_wait_ = false, sequence_wait_ = false, drain_wait_ = false, command_error_ = false;
  // weight fetch
  bool fetch_ = false;  // a segment is offered
  Reader wgt_;
  // weight loader
  bool loader_ = false;
  Item loader_item_ = 0;
  Stage stage_ = Stage::kScale;
  std::uint8_t plane_ = 0, col_ = 0, param_count_ = 0, rq_count_ = 0;
  // activation loader
  bool act_left_ = false;  // a segment is offered
  Reader act_;
  bool act_works_ = false, load_done_ = false;
  Item act_item_ = 0;
  Part part_ = Part::kR;
  std::uint8_t act_row_ = 0;
  // sequencer
  bool sequencing_ = false, walking_tiles_ = false;
  Item tile_item_ = 0;
  std::uint8_t token_ = 0, digit_ = 0, beat_ = 0;
  std::uint32_t flight_ = 0;
  // array, dequantisation, accumulators
  std::uint8_t banks_ = 0;
  std::uint64_t pipe_ = 0;  // a byte a stage, the youngest lowest
  std::uint8_t group1_ = 0, group2_ = 0, group3_ = 0, acc_banks_ = 0;
  bool group_open_ = false;
  // drain, requantisation, SwiGLU
  Drain drain_ = Drain::kIdle;
  bool draining_ = false, phase_ = false;
  bool block_ahead_ = false;  // the block that is walked next is not taken yet: none is in the accumulators
  Item block_item_ = 0;
  std::uint8_t drain_token_ = 0, drain_chunk_ = 0;
  std::uint8_t rq1_ = 0, rq2_ = 0, sw1_ = 0, sw2_ = 0, sw3_ = 0;  // kValid, kUp, kLast
  static constexpr std::uint8_t kUp = 2, kLast = 4;
  // output DMA
  bool chunk_ = false, same_beat_ = false, beat_valid_ = false, flush_ = false, aw_ = false, w_ = false;
  std::uint8_t chunk_offset_ = 0, chunk_bytes_ = 0, unanswered_ = 0;
  std::uint64_t strobes_ = 0;
  std::uint64_t beat_item_ = 0, out_item_ = 0;                       // chunks, by number, that ended in the beats
  std::uint32_t beat_ahead_ = 0, out_ahead_ = 0;                     // beats, from those chunks' first bytes on
  std::uint64_t chunk_address_ = 0, beat_index_ = 0, out_beat_ = 0;  // follow from the above
  std::uint64_t out_strobes_ = 0;                                    // decides nothing

  // Derived from the above.
  Tile loader_tile_, tile_;
  std::uint32_t plan_bits_ = 0, plan_pop_ = 0;
  Stage plan_stage_ = Stage::kScale;
  std::uint8_t plan_cols_ = 0;
  bool plan_last_ = false, plan_tile_done_ = false;
  ActStep act_step_;
  std::uint32_t act_bits_ = 0;
  std::uint8_t act_count_ = 0;
  Block block_;
};

/// An item by its distance from the next one to take: equal states then have equal addresses as far as the items do.
template <class Visit>
void Core::visit_place(Visit& visit, bool known, Feed feed, std::uint64_t& item) {
  std::uint64_t back = known ? feeds_.taken(feed) - item : 0;
  visit(back);
  item = feeds_.taken(feed) - back;
}

template <class Visit>
void Core::visit_state(Visit& visit, bool apart) {
  const auto reader = [this, &visit](Reader& r) {
    visit(r.segment), visit(r.resume), visit(r.beats_left), visit(r.page), visit(r.skip), visit(r.end);
    if (&r != &wgt_) visit(r.owed);
    visit(r.used), visit(r.avail), visit(r.beat_in_burst), visit(r.burst_count);
    const auto size = static_cast<std::uint32_t>(r.bursts.size());
    for (std::uint32_t i = 0; i < r.burst_count; ++i) {
      Reader::Burst& burst = r.bursts[(r.burst_read + i) % size];
      visit(burst.beats), visit(burst.skip), visit(burst.end), visit(burst.resume);
    }
  };
  visit(queue_used_), visit(queue_fetch_), visit(queue_next_), visit(queue_job_), visit(dispatch_fetch_),
      visit(dispatch_load_);
  visit(running_), visit(load_wait_), visit(sequence_wait_), visit(drain_wait_), visit(command_error_);
  visit(fetch_), reader(wgt_);
  visit(loader_), visit(loader_item_), visit(stage_), visit(plane_), visit(col_), visit(param_count_);
  visit(act_left_), reader(act_);
  visit(act_works_), visit(load_done_), visit(act_item_), visit(part_), visit(act_row_);
  visit(sequencing_), visit(walking_tiles_), visit(tile_item_), visit(token_), visit(digit_), visit(beat_);
  visit(flight_), visit(banks_), visit(pipe_), visit(group1_), visit(group2_), visit(group3_);
  visit(group_open_);
  visit_place(visit, wgt_.segment, Feed::kSegment, wgt_.item);
  visit_place(visit, act_.segment, Feed::kActSegment, act_.item);
  if (!apart) visit_results(visit);
}

template <class Visit>
void Core::visit_results(Visit& visit) {
  visit(rq_count_), visit(acc_banks_), visit(drain_), visit(draining_), visit(phase_), visit(block_item_),
      visit(block_ahead_), visit(drain_token_);
  visit(drain_chunk_), visit(rq1_), visit(rq2_), visit(sw1_), visit(sw2_), visit(sw3_);
  visit(chunk_), visit(same_beat_), visit(beat_valid_), visit(flush_), visit(aw_), visit(w_), visit(chunk_offset_);
  visit(chunk_bytes_), visit(unanswered_), visit(strobes_);
  visit_place(visit, beat_valid_, Feed::kChunk, beat_item_), visit(beat_ahead_);
  const bool out = aw_ || w_;
  visit_place(visit, out, Feed::kChunk, out_item_);
  out_ahead_ = out ? out_ahead_ : 0;
  visit(out_ahead_);
}

}  // namespace moesaic::fast
