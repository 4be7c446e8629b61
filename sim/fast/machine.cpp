#include "sim/fast/machine.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "base/error.h"
#include "base/rng.h"
#include "models/storage/dma_storage.h"
#include "sim/fast/state_bytes.h"

namespace moesaic::fast {

using base::CheckError;
using program::kNumBlocks;
using program::MemoryPort;
using program::Stalls;

namespace {

constexpr std::size_t kManyWaits = 1024, kFewWaits = 4;  // stretches kept before the memory is asked
constexpr std::size_t kStatesToResults = 16;             // bytes that are remembered of either
constexpr std::uint64_t kMostSkipped = std::uint64_t{1} << 30, kMuch = std::uint64_t{1} << 24;

}  // namespace

/// Each channel has a stream of its own.
Machine::ManyStalls Machine::draw_stalls(const Options& options) {
  base::Rng streams(options.stall_seed.value_or(0));
  ManyStalls all;
  for (Stalls& one : all) one = Stalls::channel(options.stall_seed, streams, options.stall_eighths);
  return all;
}

Machine::Machine(const program::CoreParams& params, program::HostAgent& agent, const program::MemoryImage& image,
                 const Options& options, const ManyStalls& stalls)
    : options_(options),
      agent_(agent),
      beat_bytes_(params.beat_bytes()),
      log_(run_.engine, options.sink),
      feeds_(params, &image),
      core_(params, feeds_),
      memory_(options.make_memory ? options.make_memory() : memory::make_memory(options.memory, options.period),
              beat_bytes_),
      counting_(memory_.model(), options.eager ? kFewWaits : kManyWaits, run_.engine.tiles),
      host_(agent.settings(), params, stalls[0]),
      storage_(agent, image,
               options.make_storage ? options.make_storage(memory_.model())
                                    : storage::make_storage(options.storage, memory_.model(), beat_bytes_),
               log_, {stalls[8], stalls[9]}),
      ports_(core_, memory_, beat_bytes_, image, storage_.awaited(),
             {stalls[1], stalls[2], stalls[3], stalls[4], stalls[5], stalls[6], stalls[7]}),
      results_(core_, ports_, memory_, feeds_, counting_, options.state_bytes / kStatesToResults) {
  limit_ = options.watchdog_cycles + static_cast<std::uint64_t>(memory_.model().longest_wait().count());
  run_.memory_name = memory_.model().name();
  run_.storage_name = storage_.model().name();
  asks_ = !memory_.model().export_state(cycles(0), exported_);
  takes_ports_apart_ = asks_ && memory_.model().takes_ports_apart();
  if (options.fresh_phases) host_.forget();
  for (const program::ByteRange& range : options.awaited) storage_.await(range);
  agent_.begin();
  hear();
}

Run Machine::finish() {
  program::EngineRun& engine = run_.engine;
  if (!agent_.is_finished()) {
    engine.cut = phase_end();
    engine.cut->refresh = log_.last_end().refresh;
    engine.cycles = now_;
  }
  engine.host_counters = agent_.counters();
  engine.cache_layers = agent_.cache_layers();
  engine.storage_bytes = log_.loaded_bytes();
  if (!engine.cut) engine.traffic = feeds_.traffic();
  run_.command_error = core_.command_error();
  run_.effort.stepped = counted_.stepped;
  run_.effort.skipped = counted_.skipped;
  run_.effort.streamed = counted_.streamed;
  run_.effort.repeated = counted_.repeated;
  run_.effort.stocked = counted_.stocked;
  run_.effort.apart = counted_.apart;
  run_.effort.unasked = counted_.unasked;
  run_.effort.linked = counted_.linked;
  run_.effort.refreshes = counted_.refreshes;
  run_.storage_error = core_.io_queue().error();
  if (!engine.cut && storage_.completed() != log_.loads_pushed())
    throw CheckError("storage port: got " + std::to_string(storage_.completed()) + " completed loads, expected " +
                     std::to_string(log_.loads_pushed()));
  return std::move(run_);
}

// ---- step ----

void Machine::step() {
  Core::Inputs in;
  events_ = Events{};
  const bool is_ahead = apart_ && results_.now() > now_;
  host_.drive(in);
  ports_.drive_reads(in, now_);
  if (!is_ahead) ports_.drive_writes(in, now_);
  storage_.drive(in.io, now_);

  const Core::Wires w = is_ahead ? core_.evaluate_others(in) : core_.evaluate(in);
  reader_works_ = w.wgt.issue || w.wgt.seg_fire || w.wgt.insert || w.loader_goes;
  count(apart_ ? count_results(w) : w.activity);
  const bool restless = core_.restless();
  const bool was_idle = core_.idle();

  const Host::Told host = host_.sample(core_, in, w);
  events_.load_pushed = host.load_pushed;
  events_.command_pushed = host.command_pushed;
  if (host.load_pushed) storage_.push(agent_.loads().front(), now_);
  bool submitted = ports_.sample_reads(w, now_);
  if (!is_ahead) submitted = ports_.sample_writes(in, w, now_) || submitted;
  const StoragePort::Told storage = storage_.sample(core_.io_queue(), in.io, w.io, now_);
  events_.completed = storage.completed;
  if (w.retired) {
    events_.executed = true;
    host_.executed();
  }
  if (options_.watch_tiles) watch_tiles(w);
  core_.clock(in, w);
  ++now_;
  ++run_.effort.stepped;
  events_.idle = was_idle && !w.retired && host_.unfinished() == 0;
  quiet_ = !counting_.moves() && !restless && !submitted && !storage.moved && !apart_ && !has_news();
  if (!quiet_) moved_at_ = now_;
  note_flow(w, restless || submitted || storage.moved);
  alone_ = alone_ && !w.io.any() && !w.pass && !w.retire && !storage.moved && host_.is_plain();
}

/// Since a token began, nothing but the array, what it feeds and the sequencer has moved, in cycles that all count the
/// same: where the next one begins it is seen whether the array is as it was then.
inline void Machine::note_flow(const Core::Wires& w, bool disturbed) {
  constexpr std::uint32_t kFlow = [] {
    std::uint32_t bits = 0;
    for (const program::Block block : {program::Block::kTileSequencer, program::Block::kPeArray,
                                       program::Block::kGroupDequant, program::Block::kAccBuffer})
      bits |= 3U << (2 * static_cast<unsigned>(block));
    return bits;
  }();
  flow_period_ = 0;
  if (disturbed || !w.issues || Counting::moves(w.activity & ~kFlow)) {
    flow_begin_ = kNever;
    return;
  }
  if (w.activity != flow_activity_) {
    flow_activity_ = w.activity;
    flow_begin_ = kNever;
  }
  if (!core_.at_token()) return;
  const Core::Flow flow = core_.flow();
  if (flow_begin_ != kNever && flow == flow_) flow_period_ = now_ - flow_begin_;
  flow_ = flow;
  flow_begin_ = now_;
}

/// While results are apart: counts what they do, and returns what the others do. Once they have touched it is counted
/// with theirs, as of one machine.
std::uint32_t Machine::count_results(const Core::Wires& w) {
  constexpr std::uint32_t kDrainBusy = std::uint32_t{1} << (2 * static_cast<unsigned>(program::Block::kDrain));
  constexpr std::uint32_t kResults = [] {
    std::uint32_t bits = 0;
    for (const program::Block block : Counting::kResultBlocks) bits |= 3U << (2 * static_cast<unsigned>(block));
    return bits;
  }();
  constexpr std::uint32_t kAccumulators = 3U << (2 * static_cast<unsigned>(program::Block::kAccBuffer));
  const bool is_ahead = results_.now() > now_;
  added_ = w.add_fire;
  std::uint32_t others = w.activity & ~kResults;
  const bool releases = is_ahead ? results_.released_at() == now_ : w.release;
  if (releases && !w.add_fire) others &= ~kAccumulators;
  touched_ = touched_ || core_.touches(w) || program::cause_of(others) != program::cause_of(others | kDrainBusy);
  if (touched_ && is_ahead) throw std::logic_error("fast: results ran ahead of what they see");
  const bool moves = Counting::moves(w.activity & kResults);
  if (!is_ahead) {
    results_.stepped(moves);
    note_results();
  }
  if (touched_) return w.activity;
  if (releases) results_.told_release();
  if (releases && !w.add_fire) counting_.released();
  if (is_ahead) return others;
  counting_.results(w.activity, 1, now_);
  return others;
}

inline void Machine::count(std::uint32_t activity) {
  counting_.cycle(activity, now_);
  const bool moves = counting_.moves();
  if (moves) last_busy_ = now_;
  if (moves || storage_.is_working(now_) || agent_.wake()) last_move_ = now_;
  if (is_at_limit()) throw CheckError(stuck());
}

void Machine::watch_tiles(const Core::Wires& w) {
  if (core_.tile_begins(w)) counting_.tile_begins(now_);
  if (core_.tile_ends(w)) counting_.tile_ends(now_);
}

std::string Machine::stuck() const {
  static const char* names[] = {"idle", "busy", "starved", "blocked"};
  std::string text = "stuck in cycle " + std::to_string(now_) + ": no block has moved for " + std::to_string(limit_) +
                     " cycles, command " + std::to_string(log_.executed()) + ":";
  for (unsigned b = 0; b < kNumBlocks; ++b) {
    const unsigned activity = counting_.activity() >> (2 * b) & 3;
    if (activity != 0) text += " " + std::string(program::kBlocks[b].name) + " " + names[activity] + ";";
  }
  return text + " the memory owes " + std::to_string(core_.weight_reader().owed) + " beats of weights, " +
         std::to_string(core_.act_reader().owed) + " of activations and " + std::to_string(ports_.answers()) +
         " answers to writes; the storage owes " + std::to_string(storage_.owed()) + " completions";
}

// ---- the host's agent ----

void Machine::tell() {
  if (!has_news()) return;
  counting_.flush(now_);
  rested_at_ = kNever;
  if (events_.load_pushed) agent_.load_pushed(now_);
  if (events_.command_pushed) {
    log_.command_pushed(agent_.commands().front());
    if (options_.keep_commands) run_.commands.push_back(agent_.commands().front().command);
    --known_;
    agent_.command_pushed(now_);
  }
  if (events_.completed) agent_.load_completed(*events_.completed, now_);
  if (events_.executed) {
    log_.command_executed(now_ - 1, counting_.take_work(now_));
    agent_.command_executed(now_);
    if (options_.progress) options_.progress(log_.executed());
  }
  if (events_.idle && agent_.phase_is_pushed()) end_phase();
  if (agent_.wake() && *agent_.wake() <= now_) {
    agent_.woken(now_);
    last_move_ = now_;
  }
  events_ = Events{};
  hear();
}

void Machine::hear() {
  for (; known_ < agent_.commands().size(); ++known_) feeds_.append(agent_.commands()[known_].command);
  if (!host_.has_command() && known_ != 0) host_.offer(agent_.commands().front().command);
  if (!host_.has_load() && !agent_.loads().empty()) host_.offer(agent_.loads().front());
  counting_.set_idle_cause(agent_.idle_cause(), now_);
}

/// As CoreBench: a phase ends in the first cycle in which all its commands are executed and the core is idle.
void Machine::end_phase() {
  program::EngineRun::PhaseEnd end = phase_end();
  end.refresh = counting_.refreshed(now_);
  for (std::size_t p = 0; p < kNumPorts; ++p)
    if (feeds_.total(static_cast<MemoryPort>(p)) != end.bytes[p])
      throw std::logic_error("fast: beats that were asked for have not crossed the port at a phase's end");
  log_.phase_ended(end);
  if (options_.fresh_phases) host_.forget();
  agent_.phase_ended(now_);
}

/// The counts so far, as of the running phase. The memory's go to the run.
program::EngineRun::PhaseEnd Machine::phase_end() {
  counting_.settle(now_);
  program::EngineRun::PhaseEnd end;
  end.tag = agent_.phase().tag;
  end.begin = agent_.phase().begin;
  end.cycles = now_;
  end.commands = log_.executed();
  end.activity = counting_.activities();
  end.causes = counting_.causes();
  for (std::size_t p = 0; p < kNumPorts; ++p) end.bytes[p] = ports_.beats()[p] * beat_bytes_;
  end.written_bytes = run_.engine.written_bytes = storage_.model().written_bytes();
  run_.engine.memory_counters = memory_.model().counters(cycles(now_));
  memory_.model().add_history(cycles(now_), run_.engine.memory_history);
  counted_at_ = now_;
  counted_ = run_.effort;
  return end;
}

// ---- skip ----

std::uint64_t Machine::stream(std::uint64_t most) {
  if (flow_period_ == 0 || apart_) return 0;
  if (!ports_.is_plain(false) || ports_.is_holding(false)) return 0;
  const std::uint64_t host = host_.period(core_);
  if (host == 0) return 0;
  most = std::min({most, most_skipped(), asks_ ? memory_.quiet(now_) : memory_.silence(now_)});
  std::uint64_t tokens = std::min<std::uint64_t>(core_.tokens_before_last(), most / flow_period_);
  tokens -= tokens % (host / std::gcd(host, flow_period_));
  if (tokens == 0) return 0;
  const std::uint64_t count = tokens * flow_period_;
  core_.pass_tokens(static_cast<unsigned>(tokens));
  counting_.more(count);
  now_ += count;
  run_.effort.skipped += count;
  run_.effort.streamed += count;
  last_busy_ = last_move_ = now_ - 1;
  moved_at_ = flow_begin_ = now_;
  return count;
}

void Machine::skip(unsigned period) {
  const std::uint64_t most = std::min(most_skipped(), silence());
  pass_still(most - most % period);
  if (most < kMuch) return;
  // Counts of a state are small numbers.
  counting_.settle(now_);
  alone_ = false;
}

std::uint64_t Machine::most_skipped() {
  const std::uint64_t last = now_ - 1;
  const bool works = storage_.is_working(last) || agent_.wake();
  std::uint64_t most = works ? kMostSkipped : last_move_ + limit_ - last;  // the watchdog's cycle is stepped
  most = std::min(most, until(storage_.next_word(now_)));
  if (agent_.wake()) most = std::min(most, until(*agent_.wake() - 1));
  if (options_.max_cycles) most = std::min(most, until(*options_.max_cycles - 1));
  return most;
}

void Machine::pass_still(std::uint64_t count) {
  const bool works = storage_.is_working(now_ - 1) || agent_.wake();
  counting_.more(count);
  now_ += count;
  run_.effort.skipped += count;
  if (works && count != 0) last_move_ = now_ - 1;
}

// ---- states ----

bool Machine::write_state(std::string& state) {
  if (!ports_.is_plain(apart_) || !host_.is_plain()) return false;
  exported_.clear();
  if (asks_ ? ports_.is_holding(apart_) : !memory_.model().export_state(cycles(now_), exported_)) return false;
  joins_ = core_.join_bursts();
  StateWriter write(state);
  write(apart_);
  visit_state(write);
  write.put(exported_.size());
  for (const std::int64_t value : exported_) write.put(static_cast<std::uint64_t>(value));
  return true;
}

void Machine::read_state(std::string_view state, std::uint32_t weights_owed) {
  StateReader read(state);
  if ((read.get() != 0) != apart_) throw std::logic_error("fast: a state of another kind");
  visit_state(read);
  core_.restored(weights_owed);
  exported_.resize(read.get());
  for (std::int64_t& value : exported_) value = static_cast<std::int64_t>(read.get());
  if (!asks_) memory_.model().import_state(cycles(now_), exported_);
  behind_ = false;
  flow_begin_ = kNever;
}

template <class Visit>
void Machine::visit_state(Visit& visit) {
  core_.visit_state(visit, apart_);
  host_.visit_state(visit);
  ports_.visit_state(visit, apart_);
  // What the core and the host see of the I/O queue and the agent while these rest. It is not put back: it is as it is.
  const IoQueue& queue = core_.io_queue();
  std::uint32_t seen = static_cast<std::uint32_t>(queue.activity({})) | (core_.passes() ? 4U : 0U) |
                       (core_.held() ? 8U : 0U) | (agent_.phase_is_pushed() ? 16U : 0U);
  visit(seen);
  if (!host_.has_load()) return;
  std::uint32_t free = queue.free(), used = queue.used_jobs();
  visit(free), visit(used);
}

// ---- outcomes ----

std::uint64_t Machine::undisturbed() {
  if (storage_.waits_for_memory()) return 0;
  const IoQueue& queue = core_.io_queue();
  if (queue.offers() ? !storage_.refuses() : queue.selects(host_.credits())) return 0;
  std::uint64_t end = storage_.next_word(now_);
  if (agent_.wake()) end = std::min(end, std::max(*agent_.wake(), now_ + 1));
  if (options_.max_cycles) end = std::min(end, *options_.max_cycles);
  return end - now_;
}

/// Waits that the fetch side comes upon held it when the outcome was seen.
bool Machine::are_held(const Item* items, unsigned count) const {
  for (unsigned i = 0; i < count; ++i)
    if ((items[i] & 0xff) == kQueuedWait && core_.io_queue().is_fetchable(static_cast<unsigned>(items[i] >> 8)))
      return false;
  return true;
}

void Machine::pass(Outcome& outcome, const Came& came) {
  if (apart_ && results_.released_at() != kNever) {
    const std::uint64_t cycle = results_.released_at() - now_;
    if ((outcome.stock->adds[cycle / 64] >> cycle % 64 & 1) == 0) counting_.released();
    results_.told_release();
  }
  pass(outcome, came.still);
  if (apart_) {
    note_results();
    moved_at_ = now_;
    run_.effort.apart += outcome.cycles;
  }
  run_.effort.stocked += outcome.cycles;
  counting_.reader_is_busy(came.busy);
  ports_.crossed(kWeights, came.beats);
}

void Machine::pass(Outcome& outcome, std::uint32_t still) {
  counting_.happens(outcome, now_);
  for (unsigned i = 0; i < outcome.num_taken; ++i) feeds_.take_seen(outcome.taken[i].feed, outcome.taken[i].count);
  ports_.crossed(outcome.beats);
  now_ += outcome.cycles;
  if (still <= outcome.cycles) last_move_ = last_busy_ = now_ - still;
  if (still == 1) moved_at_ = now_;
  if (storage_.is_working(now_ - 1) || agent_.wake()) last_move_ = now_ - 1;
  run_.effort.repeated += outcome.cycles;
  behind_ = true;
  static_cast<News&>(events_) = outcome.news;
  events_.completed.reset();
}

void Machine::begin_recording() {
  counting_.begin_recording(now_);
  record_begin_ = now_;
  begin_segments_ = feeds_.taken(Feed::kSegment);
  begin_beats_ = ports_.beats();
  record_most_ = undisturbed();
  alone_ = true;
  touched_ = false;
  if (apart_) results_.catch_up(now_);
}

/// As many cycles as an outcome has, a port moves at most.
Outcome& Machine::keep(State* next, Arena& arena) {
  Outcome& outcome = *arena.make<Outcome>();
  counting_.write(outcome, arena);
  outcome.next = next;
  outcome.cycles = static_cast<std::uint32_t>(now_ - record_begin_);
  outcome.still = static_cast<std::uint32_t>(now_ - last_busy_);
  outcome.news = events_;
  outcome.segments = static_cast<std::uint8_t>(feeds_.taken(Feed::kSegment) - begin_segments_);
  outcome.joins = joins_;
  for (std::size_t p = 0; p < kNumPorts; ++p)
    outcome.beats[p] = static_cast<std::uint16_t>(ports_.beats()[p] - begin_beats_[p]);
  if (apart_) outcome.beats[kWrites] = 0;
  return outcome;
}

// ---- results apart ----

void Machine::part() {
  apart_ = true;
  memory_.set_apart(true);
  results_.begin(now_);
}

/// What they moved last.
void Machine::note_results() {
  last_busy_ = std::max(last_busy_, results_.last_busy());
  last_move_ = std::max(last_move_, results_.last_busy());
}

void Machine::join() {
  results_.catch_up(now_);
  if (results_.now() != now_) throw std::logic_error("fast: results are ahead of the others");
  note_results();
  apart_ = false;
  memory_.set_apart(false);
}

}  // namespace moesaic::fast
