#include "sim/fast/engine.h"

#include <algorithm>
#include <array>
#include <deque>
#include <stdexcept>
#include <string_view>

#include "base/error.h"
#include "base/rng.h"
#include "base/varint.h"
#include "sim/fast/core.h"
#include "sim/fast/feeds.h"
#include "sim/fast/host.h"
#include "sim/fast/memo.h"
#include "sim/fast/storage_port.h"
#include "sim/program/refresh_waits.h"
#include "sim/program/stalls.h"

namespace moesaic::fast {

using base::Bytes;
using base::CheckError;
using base::Cycles;
using program::kNumBlocks;
using program::kNumCauses;
using program::MemoryPort;
using program::Stalls;

namespace {

constexpr unsigned kBeatsAccepted = 64;  // of a read port, before it refuses addresses
constexpr unsigned kWritesAccepted = 4;
constexpr std::size_t kManyWaits = 1024, kFewWaits = 4;  // stretches kept before the memory is asked

constexpr unsigned kWeights = static_cast<unsigned>(MemoryPort::kWeightRead);
constexpr unsigned kActivations = static_cast<unsigned>(MemoryPort::kActivationRead);
constexpr unsigned kWrites = static_cast<unsigned>(MemoryPort::kWrite);

Cycles cycles(std::uint64_t count) { return Cycles(static_cast<std::int64_t>(count)); }

std::string at_address(std::uint64_t address) {
  std::string digits;
  for (int shift = 36; shift >= 0; shift -= 4) digits += "0123456789abcdef"[address >> shift & 15];
  return "address 0x" + digits;
}

/// State to bytes and back, field by field.
struct Writer : base::VarintWriter {
  using base::VarintWriter::VarintWriter;
  template <class T>
  void operator()(const T& field) {
    put(static_cast<std::uint64_t>(field));
  }
};
struct Reading : base::VarintReader {
  using base::VarintReader::VarintReader;
  template <class T>
  void operator()(T& field) {
    field = static_cast<T>(get());
  }
};

/// What the host's agent is told at the edge that ends a cycle.
struct Events : News {
  std::optional<std::size_t> completed;
};

/// A stretch that is recorded: Outcome and Legs before they are kept.
struct RecordedLeg {
  std::vector<Taken> taken;
  std::vector<Item> items;
  std::vector<std::uint8_t> beats, ports;
  std::int64_t item = 0, offset = 0;
  std::uint8_t until = 0, port = 0, count = 0;
  void clear() {
    taken.clear(), items.clear(), beats.clear(), ports.clear();
    item = offset = 0;
    until = port = count = 0;
  }
};
struct Recorded {
  std::vector<std::uint32_t> tile_begins, tile_ends;
  std::vector<program::RefreshWaits::Wait> waits;
  program::CommandWork work;
  std::vector<RecordedLeg> legs;  // the first `num_legs`
  std::size_t num_legs = 0;
  void clear() {
    tile_begins.clear(), tile_ends.clear(), waits.clear();
    work = program::CommandWork();
    num_legs = 0;
  }
  RecordedLeg& leg(std::size_t back = 0) { return legs[num_legs - 1 - back]; }
  void begin_leg() {
    if (legs.size() == num_legs) legs.emplace_back();
    legs[num_legs++].clear();
  }
};

class Machine {
 public:
  Machine(const program::CoreParams& params, program::HostAgent& agent, const program::MemoryImage& image,
          const Options& options)
      : options_(options),
        agent_(agent),
        image_(image),
        beat_bytes_(params.beat_bytes()),
        log_(run_.engine, options.sink),
        feeds_(params, &image),
        core_(params, feeds_),
        memory_(options.make_memory ? options.make_memory() : memory::make_memory(options.memory, options.period)),
        recurring_(memory_->recurring()),
        refresh_waits_(*memory_, options.eager ? kFewWaits : kManyWaits),
        rng_(options.stall_seed.value_or(0)),
        // The order of CoreBench: each channel has a stream of its own.
        host_(agent.settings(), params, stalls()),
        weights_{stalls(), stalls()},
        activations_{stalls(), stalls()},
        aw_stalls_(stalls()),
        w_stalls_(stalls()),
        b_stalls_(stalls()),
        storage_(
            agent, image,
            options.make_storage ? options.make_storage() : std::make_unique<storage::SimpleStorage>(options.storage),
            log_, {stalls(), stalls()}) {
    limit_ = options.watchdog_cycles + static_cast<std::uint64_t>(memory_->longest_wait().count());
    run_.memory_name = memory_->name();
    run_.storage_name = storage_.model().name();
    if (options.fresh_phases) host_.forget();
    for (const program::ByteRange& range : options.awaited) storage_.await(range);
    agent_.begin();
    hear();
  }

  Run run() {
    const bool shortcuts = options_.shortcuts && !options_.stall_seed;
    if (shortcuts) {
      asks_ = !memory_->export_state(cycles(0), exported_);
      if (asks_)
        run_asking();
      else
        run_with_shortcuts();
    } else {
      while (!done()) {
        step();
        tell();
      }
    }
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
    run_.effort.stepped = effort_.stepped;
    run_.effort.skipped = effort_.skipped;
    run_.effort.repeated = effort_.repeated;
    run_.effort.unasked = effort_.unasked;
    run_.effort.linked = effort_.linked;
    run_.storage_error = core_.io_queue().error();
    if (!engine.cut && storage_.completed() != log_.loads_pushed())
      throw CheckError("storage port: got " + std::to_string(storage_.completed()) + " completed loads, expected " +
                       std::to_string(log_.loads_pushed()));
    return std::move(run_);
  }

 private:
  struct ReadPort {
    Stalls address_stalls, data_stalls;
    bool holding = false;
    std::deque<std::uint64_t> waiting{};  // addresses of beats that the memory has not taken yet
  };

  Stalls stalls() { return Stalls::channel(options_.stall_seed, rng_, options_.stall_eighths); }
  bool is_cut() const { return options_.max_cycles && now_ >= *options_.max_cycles; }
  bool done() const { return agent_.is_finished() || is_cut(); }

  // ---- one cycle ----

  void step() {
    Core::Inputs in;
    looked_ = false;
    submitted_ = false;
    events_ = Events{};
    host_.drive(in);
    drive_read(weights_, kWeights, core_.weight_reader(), in.wgt_ar_ready, in.wgt_r_valid);
    drive_read(activations_, kActivations, core_.act_reader(), in.act_ar_ready, in.act_r_valid);
    in.aw_ready = !aw_stalls_.now() && addresses_ < kWritesAccepted;
    in.w_ready = !w_stalls_.now() && beats_ < kWritesAccepted;
    const bool b_stall = b_stalls_.now();
    b_holding_ = b_holding_ || (!b_stall && answers_ > 0 && comes(kWrites, true));
    in.b_valid = b_holding_;
    storage_.drive(in.io, now_);

    const Core::Wires w = core_.evaluate(in);
    count(w.activity);
    const bool restless = core_.restless();
    const bool was_idle = core_.idle();

    sample_host(in, w);
    sample_read(weights_, kWeights, core_.weight_reader(), w.wgt.r_fire, w.wgt.ar_fire);
    sample_read(activations_, kActivations, core_.act_reader(), w.act.r_fire, w.act.ar_fire);
    sample_write(in, w);
    sample_storage(in, w);
    if (w.retired) {
      events_.executed = true;
      host_.executed();
    }
    if (options_.watch_tiles) watch_tiles(w);
    core_.clock(in, w);
    ++now_;
    ++run_.effort.stepped;
    events_.idle = was_idle && !w.retired && host_.unfinished() == 0;
    quiet_ = !moves_ && !restless && !submitted_ && !has_news();
    alone_ = alone_ && !w.io.any() && !w.pass && !w.retire && !submitted_io_ && host_.is_plain();
  }

  // ---- the host's agent ----

  /// Whether there is something to tell at this edge, or the run is cut there.
  bool has_news() const {
    return is_cut() || events_.load_pushed || events_.command_pushed || events_.executed || events_.completed ||
           (events_.idle && agent_.phase_is_pushed()) || (agent_.wake() && *agent_.wake() <= now_);
  }

  /// Tells the agent what happened at this edge, in the order of its contract, and hears what it answers.
  void tell() {
    if (!has_news()) return;
    flush();
    skips_ = kNever;
    if (events_.load_pushed) agent_.load_pushed(now_);
    if (events_.command_pushed) {
      log_.command_pushed(agent_.commands().front());
      if (options_.keep_commands) run_.commands.push_back(agent_.commands().front().command);
      --known_;
      agent_.command_pushed(now_);
    }
    if (events_.completed) agent_.load_completed(*events_.completed, now_);
    if (events_.executed) {
      log_.command_executed(now_ - 1, work_);
      work_ = program::CommandWork();
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

  void hear() {
    for (; known_ < agent_.commands().size(); ++known_) feeds_.append(agent_.commands()[known_].command);
    if (!host_.has_command() && known_ != 0) host_.offer(agent_.commands().front().command);
    if (!host_.has_load() && !agent_.loads().empty()) host_.offer(agent_.loads().front());
    if (agent_.idle_cause() == idle_cause_) return;
    add_counts();
    idle_cause_ = agent_.idle_cause();
  }

  void count(std::uint32_t activity) {
    if (activity != activity_) {
      flush();
      activity_ = activity;
      moves_ = (activity & ~(activity >> 1) & 0x55555555U) != 0;
    }
    ++same_;
    if (moves_) last_busy_ = now_;
    if (moves_ || storage_.is_working(now_) || agent_.wake()) last_move_ = now_;
    if (now_ - last_move_ > limit_) throw CheckError(stuck());
  }

  /// Adds the cycles of one activity to the counts.
  void flush() {
    if (same_ == 0) return;
    for (unsigned b = 0; b < kNumBlocks; ++b) counts_.activity[b][activity_ >> (2 * b) & 3] += same_;
    const program::Cause cause = program::cause_of(activity_);
    counts_.causes[static_cast<std::size_t>(cause)] += same_;
    work_.passed(activity_, now_ - same_, now_);
    if (recording_) recorded_.work.passed(activity_, now_ - same_ - record_begin_, now_ - record_begin_);
    if (!refresh_waits_.is_off()) note_wait(cause);
    same_ = 0;
  }

  /// The last cycles, all of one activity, may turn out to be a refresh's.
  void note_wait(program::Cause cause) {
    const auto port = program::RefreshWaits::awaited(cause);
    if (!port) return;
    refresh_waits_.passed(*port, now_ - same_, now_);
    if (!recording_) return;
    const auto end = static_cast<std::uint32_t>(now_ - record_begin_);
    recorded_.waits.push_back({end - same_, end, *port});
  }

  void sample_host(const Core::Inputs& in, const Core::Wires& w) {
    const Host::Told told = host_.sample(core_, in, w);
    events_.load_pushed = told.load_pushed;
    events_.command_pushed = told.command_pushed;
    if (told.load_pushed) storage_.push(agent_.loads().front(), now_);
  }

  void sample_storage(const Core::Inputs& in, const Core::Wires& w) {
    const StoragePort::Told told = storage_.sample(core_.io_queue(), in.io, w.io, now_);
    submitted_io_ = told.moved;
    submitted_ = submitted_ || told.moved;
    events_.completed = told.completed;
  }

  void drive_read(ReadPort& port, unsigned number, const Reader& reader, bool& ar_ready, bool& r_valid) {
    ar_ready = !port.address_stalls.now() && reader.owed < kBeatsAccepted;
    const bool stall = port.data_stalls.now();
    port.holding = port.holding || (!stall && reader.owed > port.waiting.size() && comes(number, false));
    r_valid = port.holding;
  }

  void sample_read(ReadPort& port, unsigned number, const Reader& reader, bool r_fire, bool ar_fire) {
    if (r_fire) {
      take(number, false);
      ++beats_moved_[number];
      port.holding = false;
    }
    if (ar_fire) {
      if (!storage_.awaited().empty()) check_awaited(number, reader);
      unsigned i = 0;
      if (port.waiting.empty()) {  // most memories take all at once
        while (i < reader.asked() && submit(number, false, reader.address + i * beat_bytes_)) ++i;
        if (i == reader.asked()) return;
      }
      const bool refused = port.waiting.empty();
      for (; i < reader.asked(); ++i) port.waiting.push_back(reader.address + i * beat_bytes_);
      if (refused) return;
    }
    while (!port.waiting.empty() && submit(number, false, port.waiting.front())) port.waiting.pop_front();
  }

  void sample_write(const Core::Inputs& in, const Core::Wires& w) {
    if (w.b_fire) {
      take(kWrites, true);
      --answers_;
      b_holding_ = false;
    }
    if (core_.aw_valid() && in.aw_ready) {
      ++addresses_;
      write_addresses_.push_back(core_.out_address());
    }
    if (core_.w_valid() && in.w_ready) ++beats_;
    while (addresses_ > 0 && beats_ > 0 && submit(kWrites, true, write_addresses_.front())) {
      write_addresses_.pop_front();
      ++beats_moved_[kWrites];
      --addresses_;
      --beats_;
      ++answers_;
    }
  }

  /// The memory may take what it refused while no block moves, which makes room at the ports.
  bool submit(unsigned port, bool is_write, std::uint64_t address) {
    bool taken = true;
    if (submits_known_ > 0) {
      --submits_known_;
    } else {
      taken = memory_->submit({port, is_write, address, Bytes(static_cast<std::int64_t>(beat_bytes_))}, cycles(now_));
      owed_[port] += taken ? 1 : 0;
    }
    submitted_ = submitted_ || taken;
    if (has_leg_) note_submit(port, address, taken);
    return taken;
  }

  /// Whether the port's next beat is there. What was asked before is not asked again.
  bool comes(unsigned port, bool is_write) {
    bool yes = false;
    const auto cycle = static_cast<std::uint8_t>(now_ - record_begin_);
    if (came_at_ < came_.size() && came_[came_at_] == cycle && came_ports_[came_at_] == port) {
      yes = true;
      ++came_at_;
    } else if (now_ >= ask_from_) {
      yes = memory_->finished(port, is_write, cycles(now_)) > 0;
      if (yes) take_ |= 1U << port;
    }
    if (yes && has_leg_) {
      recorded_.leg().beats.push_back(cycle);
      recorded_.leg().ports.push_back(static_cast<std::uint8_t>(port));
    }
    return yes;
  }

  void take(unsigned port, bool is_write) {
    if ((take_ >> port & 1) == 0) return;
    take_ &= ~(1U << port);
    --owed_[port];
    memory_->take(port, is_write);
  }

  /// A beat was asked for because of one of its bytes at least; its other bytes may be a neighbour's.
  void check_awaited(unsigned number, const Reader& reader) const {
    for (unsigned i = 0; i < reader.asked(); ++i) {
      const std::uint64_t beat = reader.address + i * beat_bytes_;
      bool named = false, there = false;
      for (std::uint64_t byte = beat; byte < beat + beat_bytes_ && !there; ++byte) {
        if (image_.region_at(byte) == nullptr) continue;
        named = true;
        there = !storage_.awaited().contains(byte);
      }
      if (named && !there)
        throw CheckError(std::string(program::kMemoryPortNames[number]) + " port: got a read at " + at_address(beat) +
                         ", expected none before the load of that plane has completed");
    }
  }

  void watch_tiles(const Core::Wires& w) {
    if (core_.tile_begins(w)) {
      run_.engine.tiles.push_back({now_, 0});
      if (recording_) recorded_.tile_begins.push_back(static_cast<std::uint32_t>(now_ - record_begin_));
    }
    if (core_.tile_ends(w)) {
      run_.engine.tiles[tiles_ended_++].end = now_;
      if (recording_) recorded_.tile_ends.push_back(static_cast<std::uint32_t>(now_ - record_begin_));
    }
  }

  /// The counts so far, as of the running phase. The memory's go to the run.
  program::EngineRun::PhaseEnd phase_end() {
    add_counts();
    program::EngineRun::PhaseEnd end;
    end.tag = agent_.phase().tag;
    end.begin = agent_.phase().begin;
    end.cycles = now_;
    end.commands = log_.executed();
    end.activity = total_;
    end.causes = total_causes_;
    for (std::size_t p = 0; p < program::kNumMemoryPorts; ++p) end.bytes[p] = beats_moved_[p] * beat_bytes_;
    run_.engine.memory_counters = memory_->counters(cycles(now_));
    memory_->add_history(cycles(now_), run_.engine.memory_history);
    counted_ = now_;
    effort_ = run_.effort;
    return end;
  }

  /// As CoreBench: a phase ends in the first cycle in which all its commands are executed and the core is idle.
  void end_phase() {
    program::EngineRun::PhaseEnd end = phase_end();
    end.refresh = refresh_waits_.counts(now_);
    for (std::size_t p = 0; p < program::kNumMemoryPorts; ++p)
      if (feeds_.total(static_cast<MemoryPort>(p)) != end.bytes[p])
        throw std::logic_error("fast: beats that were asked for have not crossed the port at a phase's end");
    log_.phase_ended(end);
    if (options_.fresh_phases) host_.forget();
    agent_.phase_ended(now_);
  }

  std::string stuck() const {
    static const char* names[] = {"idle", "busy", "starved", "blocked"};
    std::string text = "stuck in cycle " + std::to_string(now_) + ": no block has moved for " + std::to_string(limit_) +
                       " cycles, command " + std::to_string(log_.executed()) + ":";
    for (unsigned b = 0; b < kNumBlocks; ++b) {
      const unsigned activity = activity_ >> (2 * b) & 3;
      if (activity != 0) text += " " + std::string(program::kBlocks[b].name) + " " + names[activity] + ";";
    }
    return text + " the memory owes " + std::to_string(core_.weight_reader().owed) + " beats of weights, " +
           std::to_string(core_.act_reader().owed) + " of activations and " + std::to_string(answers_) +
           " answers to writes; the storage owes " + std::to_string(storage_.owed()) + " completions";
  }

  // ---- skip ----

  /// After a cycle in which nothing changed: the cycles in which nothing will.
  void skip() {
    const unsigned still = stillness();
    if (still != 0) skip_cycles(still);
  }

  /// 0: something changes in the next cycle. Otherwise nothing does until the memory, the storage or the agent says
  /// something, but that after so many cycles the host is where it was.
  unsigned stillness() const { return quiet_ ? host_.period(core_) : 0; }

  void skip_cycles(unsigned period) {
    const std::uint64_t most = std::min(most_skipped(), silence());
    pass_still(most - most % period);
    if (most < kMuch) return;
    // Counts of a state are small numbers.
    add_counts();
    alone_ = false;
  }

  /// Cycles in which the memory says nothing.
  std::uint64_t silence() {
    const bool asked = exported_at_ == now_;
    for (unsigned port = 0; asked && port < kNumPorts; ++port)
      if (memory_->finished(port, port == kWrites, cycles(now_)) > 0) return 0;
    const auto next = memory_->next_change(cycles(asked ? now_ : now_ - 1));
    return next ? until(static_cast<std::uint64_t>(next->count())) : kNever;
  }

  std::uint64_t until(std::uint64_t cycle) const { return cycle > now_ ? cycle - now_ : 0; }

  /// As far as the memory lets.
  std::uint64_t most_skipped() {
    const std::uint64_t last = now_ - 1;
    const bool works = storage_.is_working(last) || agent_.wake();
    std::uint64_t most = works ? kMostSkipped : last_move_ + limit_ - last;  // the watchdog's cycle is stepped
    most = std::min(most, until(storage_.next_word(now_)));
    if (agent_.wake()) most = std::min(most, until(*agent_.wake() - 1));
    if (options_.max_cycles) most = std::min(most, until(*options_.max_cycles - 1));
    return most;
  }

  void pass_still(std::uint64_t count) {
    const bool works = storage_.is_working(now_ - 1) || agent_.wake();
    same_ += static_cast<std::uint32_t>(count);
    now_ += count;
    run_.effort.skipped += count;
    if (works && count != 0) last_move_ = now_ - 1;
  }

  // ---- repeat ----

  void run_with_shortcuts() {
    State* state = nullptr;  // the machine's, or null when it is not known
    while (!done()) {
      if (states_.bytes() > options_.state_bytes) {
        if (moved_) restore(*state);
        forget();
        state = nullptr;
      }
      if (state == nullptr) state = find();
      if (state == nullptr) {  // cannot be remembered
        advance();
        tell();
        continue;
      }
      Outcome* const outcome = match(*state);
      if (outcome != nullptr) {
        apply(*outcome);
        state = outcome->next;
        if (!has_news()) continue;
        restore(*state);
        tell();
        state = nullptr;
        continue;
      }
      if (moved_) restore(*state);
      state = record(*state);
    }
  }

  /// Steps to the next place where states are compared, or until there is something to tell.
  void advance() {
    alone_ = true;
    const std::uint64_t begin = run_.effort.stepped;
    do {
      const std::uint64_t marks = marked();
      step();
      if (has_news()) return;
      skip();
      const std::uint64_t stepped = run_.effort.stepped - begin;
      if (stepped >= kMostStepped || (stepped >= kFewestStepped && marked() != marks)) return;
    } while (true);
  }

  /// The cycles through which nothing comes from outside, neither from the storage nor from the host's agent, and the
  /// I/O queue rests: only what happens in so many may be what happened before.
  std::uint64_t undisturbed() {
    const IoQueue& queue = core_.io_queue();
    if (queue.offers() ? !storage_.refuses() : queue.selects(host_.credits())) return 0;
    std::uint64_t until = storage_.next_word(now_);
    if (agent_.wake()) until = std::min(until, std::max(*agent_.wake(), now_ + 1));
    if (options_.max_cycles) until = std::min(until, *options_.max_cycles);
    return until - now_;
  }

  /// Grows with every tile, activation step and command: where states are likely to repeat.
  std::uint64_t marked() const {
    return feeds_.taken(Feed::kSequenceTile) + feeds_.taken(Feed::kActStep) + feeds_.taken(Feed::kExecute);
  }

  bool write_key() {
    if (!weights_.waiting.empty() || !activations_.waiting.empty() || addresses_ != 0 || beats_ != 0) return false;
    if (!host_.is_plain()) return false;
    exported_.clear();
    if (asks_ ? weights_.holding || activations_.holding || b_holding_
              : !memory_->export_state(cycles(now_), exported_))
      return false;
    key_.clear();
    Writer write(key_);
    core_.visit_state(write);
    host_.visit_state(write);
    visit_ports(write);
    write.put(exported_.size());
    for (const std::int64_t value : exported_) write.put(static_cast<std::uint64_t>(value));
    return true;
  }

  template <class Visit>
  void visit_ports(Visit& visit) {
    visit(answers_), visit(weights_.holding), visit(activations_.holding), visit(b_holding_);
    // What the core and the host see of the I/O queue and the agent while these rest. It is not put back: it is as it
    // is.
    const IoQueue& queue = core_.io_queue();
    std::uint32_t seen = static_cast<std::uint32_t>(queue.activity({})) | (core_.passes() ? 4U : 0U) |
                         (core_.held() ? 8U : 0U) | (agent_.phase_is_pushed() ? 16U : 0U);
    visit(seen);
    if (!host_.has_load()) return;
    std::uint32_t free = queue.free(), used = queue.used_jobs();
    visit(free), visit(used);
  }

  /// The machine's state among those remembered, new if need be; null when it cannot be remembered.
  State* find() {
    if (!write_key()) return nullptr;
    const std::size_t hash = states_.hash(key_);
    if (State* const found = states_.find(key_, hash)) return found;
    ++run_.effort.states;
    return states_.add(key_, hash);
  }

  void forget() {
    add_counts();
    refresh_waits_.detach();
    places_.clear();
    states_.clear();
    ++run_.effort.forgotten;
  }

  /// Makes the machine what the state says: it has followed outcomes without moving itself.
  void restore(const State& state) {
    Reading read(state.key);
    core_.visit_state(read);
    core_.restored();
    host_.visit_state(read);
    visit_ports(read);
    exported_.resize(read.get());
    for (std::int64_t& value : exported_) value = static_cast<std::int64_t>(read.get());
    if (!asks_) memory_->import_state(cycles(now_), exported_);
    moved_ = false;
  }

  Outcome* match(State& state) {
    const std::uint64_t most = undisturbed();
    Outcome* before = nullptr;
    for (Outcome* outcome = state.outcomes.first; outcome != nullptr; before = outcome, outcome = outcome->beside) {
      if (outcome->cycles > most || !are_next(outcome->taken, outcome->num_taken, outcome->items)) continue;
      state.outcomes.to_front(outcome, before);
      return outcome;
    }
    return nullptr;
  }

  /// Whether these items are the next of their feeds, behind those that the path takes.
  bool are_next(const Taken* taken, std::size_t count, const Item* items, const unsigned* ahead = nullptr) {
    for (std::size_t i = 0; i < count; ++i) {
      const Feed feed = taken[i].feed;
      if (!feeds_.matches(feed, items, taken[i].count, ahead == nullptr ? 0 : ahead[static_cast<unsigned>(feed)]))
        return false;
      if (feed == Feed::kQueue && !are_held(items, taken[i].count)) return false;
      items += taken[i].count;
    }
    return true;
  }

  /// Waits that the fetch side comes upon held it when the outcome was seen.
  bool are_held(const Item* items, unsigned count) const {
    for (unsigned i = 0; i < count; ++i)
      if ((items[i] & 0xff) == kQueuedWait && core_.io_queue().is_fetchable(static_cast<unsigned>(items[i] >> 8)))
        return false;
    return true;
  }

  /// The outcome happens now: everything but the machine's own state moves on.
  void apply(Outcome& outcome) {
    flush();
    refresh_waits_.passed(outcome.waits, outcome.num_waits, now_);
    for (unsigned i = 0; i < outcome.num_taken; ++i) feeds_.take_seen(outcome.taken[i].feed, outcome.taken[i].count);
    for (std::uint32_t i = 0; i < outcome.num_begins; ++i)
      run_.engine.tiles.push_back({now_ + outcome.tile_begins[i], 0});
    for (std::uint32_t i = 0; i < outcome.num_ends; ++i)
      run_.engine.tiles[tiles_ended_++].end = now_ + outcome.tile_ends[i];
    for (std::size_t p = 0; p < program::kNumMemoryPorts; ++p) beats_moved_[p] += outcome.beats[p];
    work_.passed(outcome.work, now_);
    if (outcome.times++ == 0) used_.push_back(&outcome);
    now_ += outcome.cycles;
    if (outcome.still < outcome.cycles) last_move_ = last_busy_ = now_ - outcome.still;
    if (storage_.is_working(now_ - 1) || agent_.wake()) last_move_ = now_ - 1;
    run_.effort.repeated += outcome.cycles;
    moved_ = true;
    static_cast<News&>(events_) = outcome.news;
    events_.completed.reset();
  }

  /// Steps on from a state and remembers what happened, unless something came from outside meanwhile. Returns the
  /// state after it, or null when the agent was told something.
  State* record(State& state) {
    add_stepped();
    std::array<std::uint64_t, kNumFeeds> taken{};
    for (unsigned f = 0; f < kNumFeeds; ++f) taken[f] = feeds_.taken(static_cast<Feed>(f));
    begin_recording();
    advance();
    flush();
    recording_ = false;
    const bool news = has_news();
    State* next = alone_ || !news ? find() : nullptr;
    if (next != nullptr && can_keep()) {
      Outcome& outcome = keep_outcome(next);
      taken_.clear();
      items_.clear();
      for (unsigned f = 0; f < kNumFeeds; ++f) {
        const auto feed = static_cast<Feed>(f);
        if (feeds_.taken(feed) == taken[f]) continue;
        taken_.push_back({feed, static_cast<std::uint8_t>(feeds_.taken(feed) - taken[f])});
        for (std::uint64_t i = taken[f]; i < feeds_.taken(feed); ++i) items_.push_back(feeds_.item(feed, i));
      }
      outcome.num_taken = static_cast<std::uint8_t>(taken_.size());
      outcome.taken = states_.arena().copy(taken_);
      outcome.num_items = static_cast<std::uint16_t>(items_.size());
      outcome.items = states_.arena().copy(items_);
      state.outcomes.add(&outcome);
    }
    if (!news) return next;
    tell();
    return nullptr;
  }

  void begin_recording() {
    record_begin_ = now_;
    begin_moved_ = beats_moved_;
    recorded_.clear();
    recording_ = true;
  }

  /// Whether what was recorded can happen again: nothing came from outside.
  bool can_keep() const { return alone_ && !events_.completed; }

  /// What was recorded, up to the state `next`. As many cycles as an outcome has, a port moves at most.
  Outcome& keep_outcome(State* next) {
    flush();
    Arena& arena = states_.arena();
    Outcome& outcome = *arena.make<Outcome>();
    outcome.counts = keep_counts(counts_, arena);
    outcome.next = next;
    outcome.cycles = static_cast<std::uint32_t>(now_ - record_begin_);
    outcome.still = static_cast<std::uint32_t>(now_ - last_busy_);
    outcome.news = events_;
    for (std::size_t p = 0; p < program::kNumMemoryPorts; ++p)
      outcome.beats[p] = static_cast<std::uint16_t>(beats_moved_[p] - begin_moved_[p]);
    outcome.num_begins = static_cast<std::uint32_t>(recorded_.tile_begins.size());
    outcome.tile_begins = arena.copy(recorded_.tile_begins);
    outcome.num_ends = static_cast<std::uint32_t>(recorded_.tile_ends.size());
    outcome.tile_ends = arena.copy(recorded_.tile_ends);
    outcome.num_waits = static_cast<std::uint16_t>(recorded_.waits.size());
    outcome.waits = arena.copy(recorded_.waits);
    outcome.work = recorded_.work;
    return outcome;
  }

  // ---- repeat the core, ask the memory ----

  void run_asking() {
    State* state = nullptr;
    Place* place = nullptr;  // of the state and the memory, where that is known
    while (!done()) {
      if (states_.bytes() > options_.state_bytes) {
        land(place);
        if (moved_) restore(*state);
        forget();
        state = nullptr;
        place = nullptr;
      }
      if (places_.bytes() > options_.state_bytes / 2) {
        land(place);
        places_.clear();
        ++run_.effort.moments_forgotten;
        place = nullptr;
      }
      if (place != nullptr) {
        const Round* const round = go_round(*state, place);
        if (round != nullptr) {
          state = round->outcome->next;
          place = round->next;
          if (!has_news()) continue;
          land(place);
          restore(*state);
          tell();
          state = nullptr;
          place = nullptr;
          continue;
        }
        land(place);
      }
      if (state == nullptr) state = find();
      if (state == nullptr) {
        advance();
        tell();
        place = nullptr;
        continue;
      }
      // The memory that was asked for its counters at a phase's end cannot be asked about the cycle before.
      if (state->still != 0 && skips_ != now_ && now_ - last_move_ <= limit_ && counted_ != now_ && undisturbed() != 0)
        place = skip_still(*state, place);
      if (now_ - last_move_ > limit_) {  // the watchdog's cycle
        if (moved_) restore(*state);
        step();
        tell();
        state = nullptr;
        place = nullptr;
        continue;
      }
      if (place != nullptr) mark();
      Outcome* const outcome = follow(*state);
      if (outcome != nullptr) {
        came_.clear();
        submits_known_ = ask_from_ = 0;
        apply(*outcome);
        state = outcome->next;
        if (has_news()) {
          restore(*state);
          tell();
          state = nullptr;
          place = nullptr;
          continue;
        }
        Place* const next = is_familiar(*outcome) ? find_place(*state) : nullptr;
        if (place != nullptr && next != nullptr) add_round(*place, *outcome, next);
        place = next;
        continue;
      }
      place = nullptr;
      if (moved_) restore(*state);
      state = record_asking(*state);
    }
    land(place);
  }

  /// As skip(), from a state from which nothing changes until a beat comes. Returns the place after it.
  Place* skip_still(State& state, Place* place) {
    flush();
    activity_ = state.activity;
    moves_ = false;
    const std::uint64_t begin = now_;
    const std::uint64_t of_memory = silence();
    if (place != nullptr) mark();
    const bool free = of_memory <= most_skipped();
    skip_cycles(state.still);
    skips_ = now_;
    if (place == nullptr) return nullptr;
    Place* next = place;
    if (now_ != begin) {
      next = free ? find_place(state) : nullptr;
      if (next != nullptr) add_skip(*place, of_memory, next);
    }
    return next;
  }

  // ---- repeat the core and the memory ----

  /// From here on a stretch of the memory.
  void mark() {
    recurring_->mark(kWeights, cycles(now_));
    marked_at_ = now_;
    mark_end_ = recurring_->end(kWeights);
  }

  /// Whether a refresh is due within so many cycles from now on.
  bool refreshes_within(std::uint64_t count) {
    if (now_ > quiet_until_)
      quiet_until_ = static_cast<std::uint64_t>(recurring_->undisturbed_until(cycles(now_)).count());
    return now_ + count > quiet_until_;
  }

  /// Of a stretch from the mark on that took so many cycles: Round::refresh.
  std::int64_t refresh_since_mark(std::uint64_t count) const {
    const Cycles begin = cycles(marked_at_);
    if (marked_at_ + count <= static_cast<std::uint64_t>(recurring_->undisturbed_until(begin).count()))
      return kNoRefresh;
    return recurring_->until_refresh(begin);
  }

  /// Whether the refreshes are now as they were at the beginning of a stretch of so many cycles.
  bool is_refreshed_alike(std::int64_t refresh, std::uint64_t count, const memory::Recurring::Stretch& stretch) {
    if (refresh == kNoRefresh) return !refreshes_within(count);
    return refreshes_within(count) && recurring_->until_refresh(cycles(now_)) == refresh &&
           recurring_->is_open_alike(kWeights, stretch.open);
  }

  /// Whether it is worth knowing at which moment the memory is after the outcome: it was followed often, and moments of
  /// its state have saved asking often enough.
  bool is_familiar(Outcome& outcome) const {
    constexpr std::uint8_t kFamiliar = 16;
    constexpr std::uint32_t kTrials = 64, kFewestSaved = 4;  // one of so many
    if (outcome.followed < kFamiliar) ++outcome.followed;
    const State& next = *outcome.next;
    const bool pays = next.tried < kTrials || kFewestSaved * next.passed >= next.tried;
    return (outcome.followed == kFamiliar && pays) || options_.eager;
  }

  /// The place at hand among those remembered, new if need be; null when the memory is not in a moment.
  Place* find_place(State& state) {
    if (recurring_ == nullptr) return nullptr;
    ++state.tried;
    exported_at_ = now_;
    plain_until_ = 0;
    place_key_.clear();
    const State* const which = &state;
    place_key_.append(reinterpret_cast<const char*>(&which), sizeof which);
    if (!recurring_->export_moment(kWeights, cycles(now_), place_key_)) return nullptr;
    const std::size_t hash = places_.hash(place_key_);
    if (Place* const found = places_.find(place_key_, hash)) return found;
    // Most moments are met once, and few of these again: only what is met a second time is kept.
    if (met_.empty()) met_.resize(std::size_t{1} << 18);
    std::uint32_t& met = met_[hash % met_.size()];
    const auto part = static_cast<std::uint32_t>(hash >> 32) | 1U;
    if (met != part && !options_.eager) {
      met = part;
      return nullptr;
    }
    ++run_.effort.moments;
    return places_.add(place_key_, hash);
  }

  /// Of the path that was followed, which led to the outcome: what was taken and asked for. All rounds of an outcome
  /// have the same path.
  bool note_path(Outcome& outcome) {
    for (const Leg* leg : path_)
      if (leg->port != kWeights) return false;
    if (outcome.items != nullptr || outcome.asked != nullptr) return true;
    const auto each_leg = [this](const auto& visit) {
      for (const Leg* leg : path_) visit(*leg);
      visit(*last_leg_);
    };
    items_.clear();
    for (unsigned i = 0; i < outcome.num_taken; ++i)
      each_leg([&](const Leg& leg) {
        const Item* item = leg.items;
        for (unsigned t = 0; t < leg.num_taken; ++t) {
          if (leg.taken[t].feed == outcome.taken[i].feed) items_.insert(items_.end(), item, item + leg.taken[t].count);
          item += leg.taken[t].count;
        }
      });
    asked_.clear();
    for (const Leg* leg : path_) asked_.push_back({leg->offset, leg->item, leg->count, feed_of(leg->port)});
    outcome.num_items = static_cast<std::uint16_t>(items_.size());
    outcome.items = states_.arena().copy(items_);
    outcome.num_asked = static_cast<std::uint8_t>(asked_.size());
    outcome.asked = states_.arena().copy(asked_);
    return true;
  }

  /// What happened since the mark.
  std::optional<memory::Recurring::Stretch> keep_stretch(std::int64_t refresh) {
    stretch_.clear();
    auto stretch = recurring_->stretch(stretch_);
    if (!stretch) return std::nullopt;
    stretch->what = {places_.arena().copy(stretch_.data(), stretch_.size()), stretch_.size()};
    if (refresh == kNoRefresh) return stretch;
    stretch_.clear();
    recurring_->export_open(stretch_);
    stretch->open = {places_.arena().copy(stretch_.data(), stretch_.size()), stretch_.size()};
    return stretch;
  }

  /// So many cycles were skipped from the mark to `next`.
  void add_skip(Place& place, std::uint64_t count, Place* next) {
    if (place.num_skips >= kMostRefreshed) return;
    const std::int64_t refresh = refresh_since_mark(count);
    const auto stretch = keep_stretch(refresh);
    if (!stretch) return;
    Skip& skip = *places_.arena().make<Skip>();
    skip.cycles = count;
    skip.next = next;
    skip.stretch = *stretch;
    skip.refresh = refresh;
    place.skips.add(&skip);
    ++place.num_skips;
  }

  /// The round that was followed from the mark to `next`.
  void add_round(Place& place, Outcome& outcome, Place* next) {
    const std::int64_t refresh = refresh_since_mark(outcome.cycles);
    const bool is_free = refresh == kNoRefresh;
    if (is_free ? place.num_rounds >= kMostRounds : place.num_refreshed >= kMostRefreshed) return;
    if (!note_path(outcome)) return;
    patterns_.clear();
    std::uint64_t end = mark_end_;
    for (std::size_t i = 0; i < outcome.num_asked; ++i) {
      const std::uint64_t bytes = std::uint64_t{outcome.asked[i].beats} * beat_bytes_;
      const auto pattern = recurring_->pattern(mark_end_, end, asked_at_[i], bytes, true);
      if (!pattern) return;
      patterns_.push_back(*pattern);
      end = recurring_->end_of(asked_at_[i], bytes);
    }
    const auto stretch = keep_stretch(refresh);
    if (!stretch) return;
    Round& round = *places_.arena().make<Round>();
    round.outcome = &outcome;
    round.patterns = places_.arena().copy(patterns_);
    round.stretch = *stretch;
    round.refresh = refresh;
    round.next = next;
    (is_free ? place.rounds : place.refreshed).add(&round);
    ++(is_free ? place.num_rounds : place.num_refreshed);
  }

  /// Goes on from a place as it did before; null, and nothing done but that cycles were skipped, where this is
  /// something new. The memory is left where it is, until land().
  const Round* go_round(State& state, Place*& place) {
    if (place->rounds.first == nullptr && place->refreshed.first == nullptr && place->skips.first == nullptr)
      return nullptr;
    if (state.still != 0 && skips_ != now_ && now_ - last_move_ <= limit_ && counted_ != now_) {
      const Skip* const skip = find_skip(*place);
      if (skip == nullptr) return nullptr;
      flush();
      activity_ = state.activity;
      moves_ = false;
      chain_.clear();
      pass(skip->stretch, recurring_->end(kWeights));
      pass_still(skip->cycles - skip->cycles % state.still);
      skips_ = now_;
      place = skip->next;
    }
    if (now_ - last_move_ > limit_) return nullptr;
    const std::uint64_t most = undisturbed();
    if (Round* const chain = place->chain; chain != nullptr && may_go(*chain, most)) {
      chain_.clear();
      run_.effort.linked += chain->outcome->cycles;
      ++state.passed;
      return go(*chain);
    }
    if (Round* const round = find_round(place->rounds, most)) {
      ++state.passed;
      begin_chain(*place);
      return go_on(*round);
    }
    chain_.clear();
    Round* const round = refreshes_within(kMostStepped) ? find_round(place->refreshed, most) : nullptr;
    return round != nullptr ? go(*round) : nullptr;
  }

  const Skip* find_skip(Place& place) {
    const std::uint64_t most = undisturbed() == 0 ? 0 : most_skipped();
    Skip* before = nullptr;
    for (Skip* skip = place.skips.first; skip != nullptr; before = skip, skip = skip->beside) {
      if (skip->cycles > most || !is_refreshed_alike(skip->refresh, skip->cycles, skip->stretch)) continue;
      place.skips.to_front(skip, before);
      return skip;
    }
    return nullptr;
  }

  bool may_go(const Round& round, std::uint64_t most) {
    const std::uint64_t count = round.outcome->cycles;
    return count <= most && is_refreshed_alike(round.refresh, count, round.stretch) && fits(round);
  }

  Round* find_round(Found<Round>& rounds, std::uint64_t most) {
    Round* before = nullptr;
    for (Round* round = rounds.first; round != nullptr; before = round, round = round->beside) {
      if (!may_go(*round, most)) continue;
      rounds.to_front(round, before);
      return round;
    }
    return nullptr;
  }

  const Round* go(const Round& round) {
    pass(round.stretch, round_end_);
    run_.effort.unasked += round.outcome->cycles;
    apply(*round.outcome);
    return &round;
  }

  // ---- several rounds as one ----

  /// Where the same place is passed again and again, the rounds from it on are put together.
  void begin_chain(Place& place) {
    const std::uint16_t often = options_.eager ? 2 : 32;
    if (!chain_.empty() || place.chain != nullptr || ++place.passes < often) return;
    place.passes = 0;
    mark();
    chain_from_ = &place;
    chain_begins_ = true;
  }

  const Round* go_on(const Round& round) {
    const bool links = (chain_begins_ || !chain_.empty()) && may_link(round);
    chain_begins_ = false;
    if (!links) {
      chain_.clear();
      return go(round);
    }
    chain_.push_back(&round);
    go(round);
    if (!same_rows_)
      chain_.clear();
    else if (chain_.size() == (options_.eager ? kFewLinks : kLinks))
      end_chain();
    return &round;
  }

  /// The rounds of the chain as one, with an outcome of its own.
  void end_chain() {
    const auto stretch = keep_stretch(kNoRefresh);
    if (stretch) chain_from_->chain = put_together(chain_, *stretch, states_.arena(), places_.arena());
    chain_.clear();
  }

  void pass(const memory::Recurring::Stretch& stretch, std::uint64_t end) {
    same_rows_ = !recurring_->pass(kWeights, stretch, end, cycles(now_));
    if (!same_rows_) plain_until_ = 0;
    away_ = true;
  }

  /// What is taken for reading straight on is that.
  void check_plain(std::uint64_t origin, std::uint64_t address, std::uint64_t bytes) {
    const auto pattern = recurring_->pattern(origin, round_end_, address, bytes, false);
    if (!pattern || !pattern->equals(memory::Recurring::Pattern(), {{}, true, true, {}}))
      throw std::logic_error("fast: reading that does not go straight on was taken for such");
  }

  bool fits(const Round& round) {
    const Outcome& outcome = *round.outcome;
    if (!are_next(outcome.taken, outcome.num_taken, outcome.items)) return false;
    const std::uint64_t origin = recurring_->end(kWeights);
    round_end_ = origin;
    if (origin < plain_from_ || origin >= plain_until_) {
      plain_from_ = origin;
      plain_until_ = recurring_->plain_until(kWeights);
    }
    for (std::size_t i = 0; i < outcome.num_asked; ++i) {
      const Asked& asked = outcome.asked[i];
      const std::uint64_t item = feeds_.taken(asked.feed) + static_cast<std::uint64_t>(asked.item);
      const std::uint64_t address = beat_of(asked.feed, item) + static_cast<std::uint64_t>(asked.offset);
      const std::uint64_t bytes = std::uint64_t{asked.beats} * beat_bytes_;
      if (address == round_end_ && address >= plain_from_ && address + bytes <= plain_until_) {
        if (options_.eager) check_plain(origin, address, bytes);
        if (!memory::Recurring::Pattern().equals(round.patterns[i], round.stretch)) return false;
      } else {
        const auto pattern = recurring_->pattern(origin, round_end_, address, bytes, false);
        if (!pattern || !pattern->equals(round.patterns[i], round.stretch)) return false;
      }
      round_end_ = recurring_->end_of(address, bytes);
    }
    return true;
  }

  /// The memory goes back to being asked, at the place where it would be.
  void land(const Place* place) {
    chain_.clear();
    if (!away_) return;
    recurring_->import_moment(kWeights, cycles(now_), place->moment());
    owed_ = {};
    owed_[kWeights] = recurring_->owed(kWeights);
    looked_ = false;
    away_ = false;
    exported_at_ = now_;
  }

  /// Goes on from the state as it did before, as long as the memory answers as it did before. Returns the outcome, or
  /// null where this is something new: beats that came are then in came_, those asked for in submits_known_.
  Outcome* follow(State& state) {
    record_begin_ = now_;
    came_.clear();
    came_ports_.clear();
    came_at_ = 0;
    path_.clear();
    asked_at_.clear();
    ahead_ = {};
    ask_from_ = now_;
    undisturbed_ = undisturbed();
    for (unsigned p = 0; p < kNumPorts; ++p) {
      if (looked_)
        coming_[p].cycle = std::max(coming_[p].cycle, now_);
      else
        look(p, now_, now_);
    }
    looked_ = true;
    Found<Leg>* legs = &state.legs;
    for (;;) {
      Leg* const leg = follow_leg(*legs);
      if (leg == nullptr) return nullptr;
      last_leg_ = leg;
      if (leg->outcome != nullptr) return leg->outcome;
      const bool is_write = leg->port == kWrites;
      const Feed feed = feed_of(leg->port);
      const std::uint64_t item = feeds_.taken(feed) + static_cast<std::uint64_t>(leg->item);
      const std::uint64_t address = beat_of(feed, item) + static_cast<std::uint64_t>(leg->offset);
      const Cycles at = cycles(record_begin_ + leg->until);
      const std::int64_t accepted = memory_->submit_row(
          {leg->port, is_write, address, Bytes(static_cast<std::int64_t>(beat_bytes_))}, leg->count, at);
      submits_known_ += static_cast<std::uint64_t>(accepted);
      owed_[leg->port] += static_cast<std::uint64_t>(accepted);
      if (accepted != leg->count) return nullptr;
      path_.push_back(leg);
      asked_at_.push_back(address);
      for (unsigned t = 0; t < leg->num_taken; ++t)
        ahead_[static_cast<unsigned>(leg->taken[t].feed)] += leg->taken[t].count;
      for (unsigned p = 0; p < kNumPorts; ++p)
        if (!coming_[p].known) look(p, record_begin_ + leg->until, ask_from_);
      legs = &leg->next;
    }
  }

  Leg* follow_leg(Found<Leg>& legs) {
    const std::size_t begin = came_.size();
    Leg* before = nullptr;
    for (Leg* leg = legs.first; leg != nullptr; before = leg, leg = leg->beside) {
      const std::size_t done = came_.size() - begin;
      if (leg->until >= undisturbed_ || leg->num_beats < done || !may_come(*leg, done)) continue;
      const auto from = static_cast<std::ptrdiff_t>(begin);
      if (!std::equal(came_.begin() + from, came_.end(), leg->beats) ||
          !std::equal(came_ports_.begin() + from, came_ports_.end(), leg->ports))
        continue;
      if (!are_next(leg->taken, leg->num_taken, leg->items, ahead_.data()) || !beats_come(*leg, done)) continue;
      legs.to_front(leg, before);
      return leg;
    }
    return nullptr;
  }

  /// Whether the next beat can be the leg's, as far as is known without asking.
  bool may_come(const Leg& leg, std::size_t done) const {
    const unsigned port = next_port();
    if (done == leg.num_beats) return !coming_[port].known || coming_[port].cycle > record_begin_ + leg.until;
    const std::uint64_t expected = record_begin_ + leg.beats[done];
    return coming_[port].known ? coming_[port].cycle == expected && leg.ports[done] == port
                               : coming_[port].cycle <= expected;
  }

  /// Where the next beat comes first.
  unsigned next_port() const {
    unsigned port = 0;
    for (unsigned p = 1; p < kNumPorts; ++p)
      if (coming_[p].cycle < coming_[port].cycle) port = p;
    return port;
  }

  /// Takes beats as they come while they come as they did on this leg, of which `done` have.
  bool beats_come(const Leg& leg, std::size_t done) {
    const std::uint64_t until = record_begin_ + leg.until;
    for (;;) {
      const bool more = done < leg.num_beats;
      const std::uint64_t expected = more ? record_begin_ + leg.beats[done] : until + 1;
      unsigned port = 0;
      for (;;) {
        port = next_port();
        if (coming_[port].known || coming_[port].cycle > expected || coming_[port].cycle > until) break;
        look(port, coming_[port].cycle, coming_[port].cycle);  // a cycle before which nothing comes
      }
      const std::uint64_t next = coming_[port].cycle;
      if (!more && next > until) {
        ask_from_ = until + 1;
        return true;
      }
      if (!more || next != expected || port != leg.ports[done]) {
        ask_from_ = std::max(ask_from_, std::min(next, expected));
        return false;
      }
      take_row(leg, done);
    }
  }

  /// Takes the leg's next beat, which is there, and those after it on the same port that are known to come as on the
  /// leg before any on another port does.
  void take_row(const Leg& leg, std::size_t& done) {
    const unsigned port = leg.ports[done];
    std::uint64_t limit = kNever;
    for (unsigned p = 0; p < kNumPorts; ++p)
      if (p != port) limit = std::min(limit, coming_[p].cycle);
    const std::uint8_t* const beats = leg.beats;
    const std::size_t all = leg.num_beats;
    std::size_t end = leg.of_one_port && record_begin_ + beats[all - 1] < limit ? all : done + 1;
    while (end < all && leg.ports[end] == port && record_begin_ + beats[end] < limit) ++end;
    const std::size_t taken =
        memory_->take_as(port, port == kWrites, cycles(record_begin_), beats[done], beats + done, end - done);
    if (taken == 0) throw std::logic_error("fast: a beat that was known to come did not");
    owed_[port] -= taken;
    came_.insert(came_.end(), beats + done, beats + done + taken);
    came_ports_.insert(came_ports_.end(), leg.ports + done, leg.ports + done + taken);
    done += taken;
    const std::uint64_t last = record_begin_ + beats[done - 1];
    look(port, last, last + 1);
  }

  /// When the port's next beat comes, at `first` or later, as the memory knows at `now`.
  void look(unsigned port, std::uint64_t now, std::uint64_t first) {
    if (owed_[port] == 0) {
      coming_[port] = {kNever, false};
      return;
    }
    const auto coming = memory_->coming(port, port == kWrites, cycles(now));
    coming_[port].known = coming && coming->known;
    coming_[port].cycle = !coming ? kNever : std::max(first, static_cast<std::uint64_t>(coming->cycle.count()));
  }

  static Feed feed_of(unsigned port) {
    return port == kWeights ? Feed::kSegment : port == kActivations ? Feed::kActSegment : Feed::kChunk;
  }

  /// The address of the chunk's first beat, or behind the segment's last: a state knows how many beats are left of a
  /// segment that was taken before, not how many it had, nor where in a beat it begins.
  std::uint64_t beat_of(Feed feed, std::uint64_t item) const {
    std::uint64_t address = feeds_.address_of(feed, item);
    address -= address % beat_bytes_;
    if (feed == Feed::kChunk) return address;
    return address + std::uint64_t{Segment::unpack(feeds_.item(feed, item)).beats} * beat_bytes_;
  }

  std::uint64_t item_of(unsigned port) const {
    return port == kWeights       ? core_.weight_reader().item
           : port == kActivations ? core_.act_reader().item
                                  : core_.out_item();
  }

  /// Steps on from a state, with what follow() came to know of it, and remembers what happened.
  State* record_asking(State& state) {
    add_stepped();
    for (unsigned f = 0; f < kNumFeeds; ++f) begin_taken_[f] = leg_taken_[f] = feeds_.taken(static_cast<Feed>(f));
    begin_recording();
    came_at_ = 0;
    recordable_ = true;
    recorded_.begin_leg();
    has_leg_ = true;
    const unsigned still = advance_asking();
    end_leg();
    has_leg_ = false;
    flush();
    recording_ = false;
    check_followed();
    came_.clear();
    ask_from_ = 0;

    const bool news = has_news();
    State* const next = (recordable_ && alone_) || !news ? find() : nullptr;
    if (next != nullptr && still != 0) {
      next->still = static_cast<std::uint8_t>(still);
      next->activity = activity_;
    }
    if (next != nullptr && recordable_ && can_keep()) keep(state, next);
    if (!news) return next;
    tell();
    return nullptr;
  }

  /// Hangs what record_asking() saw to the path that was followed.
  void keep(State& state, State* next) {
    Arena& arena = states_.arena();
    Outcome& outcome = keep_outcome(next);
    taken_.clear();
    for (unsigned f = 0; f < kNumFeeds; ++f) {
      const std::uint64_t count = feeds_.taken(static_cast<Feed>(f)) - begin_taken_[f];
      if (count != 0) taken_.push_back({static_cast<Feed>(f), static_cast<std::uint8_t>(count)});
    }
    outcome.num_taken = static_cast<std::uint8_t>(taken_.size());
    outcome.taken = arena.copy(taken_);
    if (path_.size() == recorded_.num_legs) throw std::logic_error("fast: a path that ends nowhere");
    Found<Leg>* legs = path_.empty() ? &state.legs : &path_.back()->next;
    for (std::size_t i = path_.size(); i < recorded_.num_legs; ++i) {
      const RecordedLeg& from = recorded_.legs[i];
      Leg& leg = *arena.make<Leg>();
      leg.num_taken = static_cast<std::uint8_t>(from.taken.size());
      leg.taken = arena.copy(from.taken);
      leg.items = arena.copy(from.items);
      leg.num_beats = static_cast<std::uint8_t>(from.beats.size());
      leg.beats = arena.copy(from.beats);
      leg.ports = arena.copy(from.ports);
      leg.of_one_port = !from.ports.empty() && std::count(from.ports.begin(), from.ports.end(), from.ports.front()) ==
                                                   static_cast<std::ptrdiff_t>(from.ports.size());
      leg.offset = from.offset;
      leg.item = static_cast<std::int32_t>(from.item);
      leg.until = from.until;
      leg.port = from.port;
      leg.count = from.count;
      if (i + 1 == recorded_.num_legs) leg.outcome = &outcome;
      legs->add(&leg);
      legs = &leg.next;
    }
  }

  /// The core did again what it had done on the path that was followed.
  void check_followed() const {
    bool same = came_at_ == came_.size() && submits_known_ == 0 && (!recordable_ || path_.size() < recorded_.num_legs);
    for (std::size_t i = 0; same && recordable_ && i < path_.size(); ++i)
      same = recorded_.legs[i].until == path_[i]->until && recorded_.legs[i].count == path_[i]->count &&
             recorded_.legs[i].port == path_[i]->port && recorded_.legs[i].item == path_[i]->item &&
             recorded_.legs[i].offset == path_[i]->offset;
    if (!same) throw std::logic_error("fast: a core in a known state did not do what it had done");
  }

  /// Steps to the next place where states are compared, at the latest until nothing moves or there is something to
  /// tell; returns what State::still says.
  unsigned advance_asking() {
    alone_ = true;
    const std::uint64_t begin = run_.effort.stepped;
    do {
      const std::uint64_t marks = marked();
      step();
      if (has_news()) return 0;
      const unsigned still = stillness();
      const std::uint64_t stepped = run_.effort.stepped - begin;
      if (still != 0 || stepped >= kMostStepped || (stepped >= kFewestAsked && marked() != marks)) return still;
    } while (true);
  }

  /// Of the leg: what was taken since the one before.
  void end_leg() {
    RecordedLeg& leg = recorded_.leg();
    for (unsigned f = 0; f < kNumFeeds; ++f) {
      const auto feed = static_cast<Feed>(f);
      const std::uint64_t taken = feeds_.taken(feed);
      if (taken == leg_taken_[f]) continue;
      leg.taken.push_back({feed, static_cast<std::uint8_t>(taken - leg_taken_[f])});
      for (; leg_taken_[f] < taken; ++leg_taken_[f]) leg.items.push_back(feeds_.item(feed, leg_taken_[f]));
    }
    leg.until = static_cast<std::uint8_t>(now_ - record_begin_ - (leg.count == 0 ? 1 : 0));
  }

  void note_submit(unsigned port, std::uint64_t address, bool taken) {
    recordable_ = recordable_ && taken;
    if (!recordable_) return;
    const Feed feed = feed_of(port);
    const std::uint64_t item = item_of(port);
    const auto from_begin = static_cast<std::int64_t>(item - begin_taken_[static_cast<unsigned>(feed)]);
    const auto offset = static_cast<std::int64_t>(address - beat_of(feed, item));
    if (recorded_.num_legs > 1 && recorded_.leg().beats.empty()) {  // more beats of the one before?
      RecordedLeg& last = recorded_.leg(1);
      if (last.until == now_ - record_begin_ && last.port == port && last.item == from_begin &&
          last.offset + std::int64_t{last.count} * beat_bytes_ == offset) {
        ++last.count;
        return;
      }
    }
    RecordedLeg& leg = recorded_.leg();
    leg.port = static_cast<std::uint8_t>(port);
    leg.count = 1;
    leg.item = from_begin;
    leg.offset = offset;
    end_leg();
    recorded_.begin_leg();
  }

  void add_counts() {
    add_stepped();
    for (Outcome* outcome : used_) {
      add(read_counts(outcome->counts), outcome->times);
      outcome->times = 0;
    }
    used_.clear();
  }

  /// Those of no outcome, so that what follows is counted apart.
  void add_stepped() {
    flush();
    add(counts_, 1);
    counts_ = Counts{};
  }

  void add(const Counts& counts, std::uint64_t times) {
    for (unsigned b = 0; b < kNumBlocks; ++b) {
      for (unsigned a = 0; a < 4; ++a) total_[b][a] += times * counts.activity[b][a];
    }
    for (std::size_t c = 0; c < kNumCauses; ++c) {
      const bool idle = c == static_cast<std::size_t>(program::Cause::kHost);
      total_causes_[idle ? static_cast<std::size_t>(idle_cause_) : c] += times * counts.causes[c];
    }
  }

  static constexpr std::uint64_t kFewestStepped = 64, kMostStepped = 180;
  static_assert(kMostStepped < 256, "cycles of a leg are bytes");
  static constexpr std::uint64_t kFewestAsked = 24;  // shorter: what the memory answers repeats less
  static constexpr unsigned kNumPorts = 3;
  static constexpr std::size_t kLinks = 8, kFewLinks = 3;           // rounds of a chain
  static constexpr unsigned kMostRounds = 16, kMostRefreshed = 64;  // that are kept of a place
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  static constexpr std::uint64_t kMostSkipped = std::uint64_t{1} << 30, kMuch = std::uint64_t{1} << 24;

  const Options& options_;
  program::HostAgent& agent_;
  const program::MemoryImage& image_;
  const unsigned beat_bytes_;
  Run run_;
  program::RunLog log_;
  Feeds feeds_;
  Core core_;
  std::unique_ptr<memory::MemoryModel> memory_;
  memory::Recurring* recurring_;
  program::RefreshWaits refresh_waits_;
  base::Rng rng_;
  Host host_;
  ReadPort weights_, activations_;
  Stalls aw_stalls_, w_stalls_, b_stalls_;
  StoragePort storage_;
  std::uint32_t addresses_ = 0, beats_ = 0, answers_ = 0;
  std::deque<std::uint64_t> write_addresses_;
  bool b_holding_ = false;
  std::uint64_t now_ = 0, limit_ = 0;
  std::uint64_t last_busy_ = 0, last_move_ = 0;  // of a block; of a block, the storage or the agent
  std::size_t tiles_ended_ = 0;
  std::array<std::uint64_t, program::kNumMemoryPorts> beats_moved_{}, begin_moved_{};  // now; where recording began

  program::CommandWork work_;  // on the command that is not executed yet

  Events events_;          // of the edge behind the last cycle, not told yet
  std::size_t known_ = 0;  // commands on offer that the feeds have
  program::Cause idle_cause_ = program::Cause::kHost;
  Effort effort_;              // up to the last phase's end
  std::uint64_t counted_ = 0;  // cycle of that

  // Counts: the last activity and for how many cycles, what is not yet in the total, the total.
  std::uint32_t activity_ = 0, same_ = 0;
  bool moves_ = false, quiet_ = false, submitted_ = false, submitted_io_ = false;
  bool alone_ = true;  // since the last place where states are compared nothing came from outside
  Counts counts_;
  program::ActivityCounts total_{};
  std::array<std::uint64_t, kNumCauses> total_causes_{};

  Memo<State> states_;
  std::vector<Outcome*> used_;  // outcomes that happened since counts were added
  bool recording_ = false;      // to recorded_
  Recorded recorded_;
  std::uint64_t record_begin_ = 0;
  bool moved_ = false;  // by outcomes: the state at hand is not the machine's
  std::string key_;
  std::vector<std::int64_t> exported_;

  // Repeating the core alone.
  bool asks_ = false;  // the memory does not export its state
  struct Coming {
    std::uint64_t cycle = 0;
    bool known = false;  // false: not before
  };
  std::array<Coming, kNumPorts> coming_{};
  bool looked_ = false;                          // coming_ is what the memory knew when last asked
  std::array<std::uint64_t, kNumPorts> owed_{};  // beats that the memory took and that were not taken
  std::array<unsigned, kNumFeeds> ahead_{};      // items that the path takes
  std::vector<Leg*> path_;                       // that was followed, but for its last leg
  std::vector<std::uint8_t> came_;               // on it, as Leg::beats
  std::vector<std::uint8_t> came_ports_;         // as Leg::ports
  std::size_t came_at_ = 0;                      // those before were told to the core
  std::uint64_t ask_from_ = 0;                   // cycle; of earlier ones came_ says all
  std::uint64_t submits_known_ = 0;              // that the memory took and the core has not yet made
  unsigned take_ = 0;                            // ports whose beat is the memory's still
  std::array<std::uint64_t, kNumFeeds> begin_taken_{}, leg_taken_{};
  bool has_leg_ = false;  // that is recorded
  bool recordable_ = false;
  std::uint64_t undisturbed_ = 0;  // cycles from record_begin_ on

  // Repeating the core and the memory.
  Memo<Place> places_;
  std::vector<std::uint32_t> met_;   // parts of hashes of place_key_
  bool away_ = false;                // by rounds: the memory is not where the place at hand is, which is
  std::uint64_t marked_at_ = 0;      // cycle of the last mark
  std::uint64_t mark_end_ = 0;       // Recurring::end() there
  std::vector<const Round*> chain_;  // of chain_from_, as far as it was passed
  Place* chain_from_ = nullptr;
  bool chain_begins_ = false;
  bool same_rows_ = false;                          // are open as before the last stretch that was passed
  std::uint64_t quiet_until_ = 0;                   // no refresh is due in cycles up to it
  std::uint64_t round_end_ = 0;                     // after the round that fits
  std::uint64_t plain_from_ = 0, plain_until_ = 0;  // from the one on, Recurring::plain_until() is the other
  std::uint64_t exported_at_ = kNever;
  std::uint64_t skips_ = kNever;  // the cycle to which was skipped
  const Leg* last_leg_ = nullptr;
  std::vector<std::uint64_t> asked_at_;  // addresses, of path_
  std::string place_key_;

  // Before they are kept.
  std::vector<Taken> taken_;
  std::vector<Item> items_;
  std::vector<Asked> asked_;
  std::vector<memory::Recurring::Pattern> patterns_;
  std::string stretch_;
};

}  // namespace

Run run(const program::CoreParams& params, program::HostAgent& agent, const program::MemoryImage& image,
        const Options& options) {
  return Machine(params, agent, image, options).run();
}

Run run(const program::CoreParams& params, const std::vector<program::Command>& commands,
        const std::vector<std::size_t>& phases, const program::MemoryImage& image, const Options& options,
        const program::LoadProgram* loads) {
  program::FixedProgram program(commands, phases, loads);
  return run(params, program, image, options);
}

}  // namespace moesaic::fast
