#include "sim/fast/engine.h"

#include <algorithm>
#include <array>
#include <deque>
#include <numeric>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <unordered_map>

#include "base/error.h"
#include "base/rng.h"
#include "sim/fast/core.h"
#include "sim/fast/feeds.h"
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
constexpr std::uint8_t kPollCycles = 3;  // of one read of the status register

constexpr unsigned kWeights = static_cast<unsigned>(MemoryPort::kWeightRead);
constexpr unsigned kActivations = static_cast<unsigned>(MemoryPort::kActivationRead);
constexpr unsigned kWrites = static_cast<unsigned>(MemoryPort::kWrite);

Cycles cycles(std::uint64_t count) { return Cycles(static_cast<std::int64_t>(count)); }

/// State to bytes: seven bits each, low first, a set eighth says that more follow.
class Writer {
 public:
  explicit Writer(std::string& bytes) : bytes_(bytes) {}
  template <class T>
  void operator()(const T& field) {
    put(static_cast<std::uint64_t>(field));
  }
  void put(std::uint64_t value) {
    for (; value >= 128; value >>= 7) bytes_.push_back(static_cast<char>(value | 128));
    bytes_.push_back(static_cast<char>(value));
  }

 private:
  std::string& bytes_;
};

class Reading {
 public:
  explicit Reading(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  void operator()(T& field) {
    field = static_cast<T>(get());
  }
  std::uint64_t get() {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(bytes_[at_++]);
      value |= std::uint64_t{byte & 127U} << shift;
      if (byte < 128) return value;
    }
  }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

/// The host and the core's registers, as cosim::AxilHost and the twin's AxilRegs behave together. Words themselves do
/// not matter, only how many are written.
struct Host {
  enum class Access : std::uint8_t { kStaging, kPush, kStatus };
  bool has_command = false;
  std::uint32_t words_left = 0, barriers = 0, room = 0, unfinished = 0;  // unfinished: pushed, not executed
  bool working = false;
  Access access = Access::kStaging;
  bool address_valid = false, data_valid = false, address_done = false, data_done = false;
  // registers
  bool aw_valid = false, w_valid = false, b_valid = false, ar_valid = false, r_valid = false;
  std::uint32_t r_free = 0;

  bool may_push() const { return has_command && barriers == 0; }
  /// Asks again and again whether the queue has room.
  bool polls() const { return may_push() && words_left == 0 && room == 0 && (!working || access == Access::kStatus); }

  template <class Visit>
  void visit_state(Visit& visit) {
    visit(has_command), visit(words_left), visit(barriers), visit(room), visit(unfinished), visit(working);
    visit(access), visit(address_valid), visit(data_valid), visit(address_done), visit(data_done), visit(aw_valid);
    visit(w_valid), visit(b_valid), visit(ar_valid), visit(r_valid), visit(r_free);
  }
};

/// Blocks' activity and causes over a stretch of cycles.
struct Counts {
  std::array<std::array<std::uint32_t, 4>, kNumBlocks> activity{};
  std::array<std::uint32_t, kNumCauses> causes{};
};

struct State;

/// What followed a state, once, up to the next one.
struct Outcome {
  State* next = nullptr;
  std::uint32_t cycles = 0;
  std::uint32_t still = 0;  // cycles at the end in which no block moved
  bool ends_phase = false;
  struct Taken {
    Feed feed;
    std::uint8_t count;
  };
  std::vector<Taken> taken;                                    // of each feed from which something was taken
  std::vector<Item> items;                                     // feed by feed
  std::vector<std::uint32_t> retired, tile_begins, tile_ends;  // cycles from the state on
  Counts counts;
  std::uint64_t times = 0;  // not yet in the run's counts
  std::size_t bytes() const {
    return sizeof *this + 2 * taken.size() + 8 * items.size() +
           4 * (retired.size() + tile_begins.size() + tile_ends.size());
  }
};

/// A stretch of what followed a state behind a memory that was asked as the run went: the beats that came, up to the
/// next time that the core asked for some, or to the end of the outcome.
struct Leg {
  std::vector<Outcome::Taken> taken;  // of each feed from which something was taken
  std::vector<Item> items;            // feed by feed
  std::vector<std::uint32_t> beats;   // that came, in which cycle from the state on; ascending
  std::vector<std::uint8_t> ports;    // on which ports; of a cycle ascending
  std::uint32_t until = 0;            // the cycle, from the state on, through which no others came
  std::uint8_t port = 0;              // asked for in that cycle
  std::uint8_t count = 0;             // beats; 0: the outcome ends
  std::int64_t item = 0;              // in which the beats lie: its number, from what the state has taken on
  std::int64_t offset = 0;            // bytes from its first on
  std::vector<std::unique_ptr<Leg>> next;
  std::unique_ptr<Outcome> outcome;
  std::size_t bytes() const { return sizeof *this + 2 * taken.size() + 8 * items.size() + 5 * beats.size() + 64; }
};

struct State {
  std::string key;
  std::vector<std::unique_ptr<Outcome>> outcomes;  // with the memory's state in the key
  std::vector<std::unique_ptr<Leg>> legs;          // without
  std::uint8_t still = 0;      // nothing moves until a beat comes: cycles to skip are a multiple of it
  std::uint32_t activity = 0;  // meanwhile
};

class Machine {
 public:
  Machine(const program::CoreParams& params, const std::vector<program::Command>& commands,
          const std::vector<std::size_t>& phases, const program::MemoryImage& image, const Options& options)
      : options_(options),
        phases_(phases.size()),
        num_commands_(commands.size()),
        beat_bytes_(params.beat_bytes()),
        feeds_(params, commands, phases, &image),
        core_(params, feeds_),
        memory_(options.make_memory ? options.make_memory() : memory::make_memory(options.memory, options.period)),
        rng_(options.stall_seed.value_or(0)) {
    // The order of CoreBench: each channel has a stream of its own.
    const auto channel = [this] { return Stalls::channel(options_.stall_seed, rng_); };
    host_stalls_ = channel();
    for (ReadPort* port : {&weights_, &activations_}) {
      port->address_stalls = channel();
      port->data_stalls = channel();
    }
    aw_stalls_ = channel();
    w_stalls_ = channel();
    b_stalls_ = channel();
    limit_ = options.watchdog_cycles + static_cast<std::uint64_t>(memory_->longest_wait().count());
    run_.memory_name = memory_->name();
    run_.engine.retired.reserve(commands.size());
    next_command();
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
      while (!done()) step();
    }
    add_counts();
    program::EngineRun& engine = run_.engine;
    engine.cycles = engine.phase_ends.empty() ? 0 : engine.phase_ends.back().cycles;
    engine.tags.resize(engine.retired.size());
    std::iota(engine.tags.begin(), engine.tags.end(), std::uint64_t{0});
    engine.traffic = feeds_.traffic();
    run_.command_error = core_.command_error();
    return std::move(run_);
  }

 private:
  struct ReadPort {
    Stalls address_stalls, data_stalls;
    bool holding = false;
    std::deque<std::uint64_t> waiting;  // addresses of beats that the memory has not taken yet
  };

  bool done() const { return run_.engine.phase_ends.size() == phases_; }

  // ---- one cycle ----

  void step() {
    Core::Inputs in;
    submitted_ = false;
    in.push = drive_host();
    drive_read(weights_, kWeights, core_.weight_reader(), in.wgt_ar_ready, in.wgt_r_valid);
    drive_read(activations_, kActivations, core_.act_reader(), in.act_ar_ready, in.act_r_valid);
    in.aw_ready = !aw_stalls_.now() && addresses_ < kWritesAccepted;
    in.w_ready = !w_stalls_.now() && beats_ < kWritesAccepted;
    const bool b_stall = b_stalls_.now();
    b_holding_ = b_holding_ || (!b_stall && answers_ > 0 && comes(kWrites, true));
    in.b_valid = b_holding_;

    const Core::Wires w = core_.evaluate(in);
    count(w.activity);
    const bool restless = core_.restless();
    const bool was_idle = core_.idle();

    sample_host();
    sample_read(weights_, kWeights, core_.weight_reader(), w.wgt_r_fire, w.wgt_ar_fire);
    sample_read(activations_, kActivations, core_.act_reader(), w.act_r_fire, w.act_ar_fire);
    sample_write(in, w);
    if (w.retired) retire();
    if (options_.watch_tiles) watch_tiles(w);
    core_.clock(in, w);
    ++now_;
    ++run_.effort.stepped;
    if (was_idle && !w.retired && host_.unfinished == 0) end_phase();
    quiet_ = !moves_ && !restless && !submitted_;
  }

  void count(std::uint32_t activity) {
    if (activity != activity_) {
      flush();
      activity_ = activity;
      moves_ = (activity & ~(activity >> 1) & 0x55555555U) != 0;
    }
    ++same_;
    if (moves_) last_move_ = now_;
    if (now_ - last_move_ > limit_) throw CheckError(stuck());
  }

  /// Adds the cycles of one activity to the counts.
  void flush() {
    if (same_ == 0) return;
    for (unsigned b = 0; b < kNumBlocks; ++b) counts_.activity[b][activity_ >> (2 * b) & 3] += same_;
    counts_.causes[static_cast<std::size_t>(program::cause_of(activity_))] += same_;
    same_ = 0;
  }

  void next_command() {
    const HostItem item = HostItem::unpack(feeds_.take(Feed::kHost));
    host_.has_command = item.has_command;
    host_.words_left = item.words;
    host_.barriers = item.barriers;
  }

  /// Returns whether the registers push a command in this cycle.
  bool drive_host() {
    Host& h = host_;
    const bool hold = host_stalls_.now();
    answer_ready_ = false;
    if (!h.working) {
      if (!h.may_push()) return false;
      h.access = h.words_left != 0 ? Host::Access::kStaging : h.room == 0 ? Host::Access::kStatus : Host::Access::kPush;
      h.working = true;
      h.address_valid = h.data_valid = h.address_done = h.data_done = false;
    }
    h.address_valid = !h.address_done && (h.address_valid || !hold);
    h.data_valid = h.access != Host::Access::kStatus && !h.data_done &&
                   (h.data_valid || (h.address_done ? !hold : !host_stalls_.now()));
    answer_ready_ = !hold;
    return h.aw_valid && h.w_valid && !h.b_valid && h.access == Host::Access::kPush;
  }

  void sample_host() {
    Host& h = host_;
    if (!h.working) return;
    if (h.access == Host::Access::kStatus) {
      const bool take = h.address_valid && !h.ar_valid, answer = h.ar_valid && !h.r_valid;
      if (take) h.address_done = true;
      const bool read = answer_ready_ && h.r_valid;
      if (read) {
        h.working = false;
        h.room = h.r_free;
        h.r_valid = false;
        h.r_free = 0;
      }
      if (take) h.ar_valid = true;
      if (answer) {
        h.ar_valid = false;
        h.r_valid = true;
        h.r_free = core_.queue_free();
      }
    } else {
      const bool written = h.aw_valid && h.w_valid && !h.b_valid;
      const bool take_address = h.address_valid && !h.aw_valid, take_data = h.data_valid && !h.w_valid;
      if (take_address) h.address_done = true;
      if (take_data) h.data_done = true;
      if (answer_ready_ && h.b_valid) {
        h.b_valid = false;
        finish_write();
      }
      if (take_address) h.aw_valid = true;
      if (take_data) h.w_valid = true;
      if (written) {
        h.aw_valid = h.w_valid = false;
        h.b_valid = true;
      }
    }
    if (!h.working) h.address_valid = h.data_valid = h.address_done = h.data_done = false;
  }

  void finish_write() {
    host_.working = false;
    if (host_.access == Host::Access::kStaging) {
      --host_.words_left;
    } else {
      ++host_.unfinished;
      --host_.room;
      next_command();
    }
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
      port.holding = false;
    }
    if (ar_fire) {
      unsigned i = 0;
      if (port.waiting.empty()) {  // most memories take all at once
        while (i < reader.burst() && submit(number, false, reader.address + i * beat_bytes_)) ++i;
        if (i == reader.burst()) return;
      }
      const bool refused = port.waiting.empty();
      for (; i < reader.burst(); ++i) port.waiting.push_back(reader.address + i * beat_bytes_);
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
      --addresses_;
      --beats_;
      ++answers_;
    }
  }

  /// The memory may take what it refused while no block moves, which makes room at the ports.
  bool submit(unsigned port, bool is_write, std::uint64_t address) {
    bool taken = true;
    if (submits_known_ > 0)
      --submits_known_;
    else
      taken = memory_->submit({port, is_write, address, Bytes(static_cast<std::int64_t>(beat_bytes_))}, cycles(now_));
    submitted_ = submitted_ || taken;
    if (leg_ != nullptr) note_submit(port, address, taken);
    return taken;
  }

  /// Whether the port's next beat is there. What was asked before is not asked again.
  bool comes(unsigned port, bool is_write) {
    bool yes = false;
    const auto cycle = static_cast<std::uint32_t>(now_ - record_begin_);
    if (came_at_ < came_.size() && came_[came_at_] == cycle && came_ports_[came_at_] == port) {
      yes = true;
      ++came_at_;
    } else if (now_ >= ask_from_) {
      yes = memory_->finished(port, is_write, cycles(now_)) > 0;
      if (yes) take_ |= 1U << port;
    }
    if (yes && leg_ != nullptr) {
      leg_->beats.push_back(cycle);
      leg_->ports.push_back(static_cast<std::uint8_t>(port));
    }
    return yes;
  }

  void take(unsigned port, bool is_write) {
    if ((take_ >> port & 1) == 0) return;
    take_ &= ~(1U << port);
    memory_->take(port, is_write);
  }

  void retire() {
    --host_.unfinished;
    run_.engine.retired.push_back(now_);
    if (recording_ != nullptr) recording_->retired.push_back(static_cast<std::uint32_t>(now_ - record_begin_));
    if (options_.progress) options_.progress(run_.engine.retired.size());
  }

  void watch_tiles(const Core::Wires& w) {
    if (core_.tile_begins(w)) {
      run_.engine.tiles.push_back({now_, 0});
      if (recording_ != nullptr) recording_->tile_begins.push_back(static_cast<std::uint32_t>(now_ - record_begin_));
    }
    if (core_.tile_ends(w)) {
      run_.engine.tiles[tiles_ended_++].end = now_;
      if (recording_ != nullptr) recording_->tile_ends.push_back(static_cast<std::uint32_t>(now_ - record_begin_));
    }
  }

  /// As CoreBench: a phase ends in the first cycle in which all its commands are executed and the core is idle.
  void end_phase() {
    if (done() || host_.may_push()) return;
    phase_ended_ = true;
    if (recording_ == nullptr) note_phase_end();
  }

  void note_phase_end() {
    add_counts();
    program::EngineRun::PhaseEnd end;
    end.tag = run_.engine.phase_ends.size();
    end.begin = end.tag == 0 ? 0 : run_.engine.phase_ends.back().cycles;
    end.cycles = now_;
    end.commands = run_.engine.retired.size();
    end.activity = total_;
    end.causes = total_causes_;
    for (std::size_t p = 0; p < program::kNumMemoryPorts; ++p) end.bytes[p] = feeds_.total(static_cast<MemoryPort>(p));
    run_.engine.phase_ends.push_back(end);
    run_.engine.memory_counters = memory_->counters(cycles(now_));
    if (host_.barriers > 0) --host_.barriers;
  }

  std::string stuck() const {
    static const char* names[] = {"idle", "busy", "starved", "blocked"};
    std::string text = "stuck in cycle " + std::to_string(now_) + ": no block has moved for " + std::to_string(limit_) +
                       " cycles, command " + std::to_string(run_.engine.retired.size()) + " of " +
                       std::to_string(num_commands_) + ":";
    for (unsigned b = 0; b < kNumBlocks; ++b) {
      const unsigned activity = activity_ >> (2 * b) & 3;
      if (activity != 0) text += " " + std::string(program::kBlocks[b].name) + " " + names[activity] + ";";
    }
    return text + " the memory owes " + std::to_string(core_.weight_reader().owed) + " beats of weights, " +
           std::to_string(core_.act_reader().owed) + " of activations and " + std::to_string(answers_) +
           " answers to writes";
  }

  // ---- skip ----

  /// After a cycle in which nothing changed: the cycles in which nothing will.
  void skip() {
    const std::uint8_t still = stillness();
    if (still != 0) skip_cycles(still == kPollCycles);
  }

  /// 0: something changes in the next cycle. Otherwise nothing does until the memory answers, but that after so many
  /// cycles the host is where it was.
  std::uint8_t stillness() const {
    if (!quiet_) return 0;
    if (host_.polls() && core_.queue_free() == 0 && host_.r_free == 0) return kPollCycles;
    return host_.working || host_.may_push() ? 0 : 1;
  }

  void skip_cycles(bool polls) {
    const std::uint64_t last = now_ - 1;
    std::uint64_t most = last_move_ + limit_ - last;  // the watchdog's cycle is stepped
    if (const auto next = memory_->next_change(cycles(last))) {
      const auto at = static_cast<std::uint64_t>(next->count());
      most = std::min(most, at > now_ ? at - now_ : 0);
    }
    if (polls) most -= most % kPollCycles;
    same_ += static_cast<std::uint32_t>(most);
    now_ += most;
    run_.effort.skipped += most;
  }

  // ---- repeat ----

  void run_with_shortcuts() {
    State* state = nullptr;  // the machine's, or null when it is not known
    while (!done()) {
      if (state_bytes_ > options_.state_bytes) {
        if (moved_) restore(*state);
        forget();
        state = nullptr;
      }
      if (state == nullptr) state = find();
      if (state == nullptr) {  // cannot be remembered
        advance();
        continue;
      }
      Outcome* const outcome = match(*state);
      if (outcome != nullptr) {
        apply(*outcome);
        state = outcome->next;
        continue;
      }
      if (moved_) restore(*state);
      state = record(*state);
    }
    if (moved_) restore(*state);
  }

  /// Steps to the next place where states are compared.
  void advance() {
    phase_ended_ = false;
    const std::uint64_t begin = run_.effort.stepped;
    do {
      const std::uint64_t marks = marked();
      step();
      if (phase_ended_) return;
      skip();
      const std::uint64_t stepped = run_.effort.stepped - begin;
      if (stepped >= kMostStepped || (stepped >= kFewestStepped && marked() != marks)) return;
    } while (true);
  }

  /// Grows with every tile, activation step and command: where states are likely to repeat.
  std::uint64_t marked() const {
    return feeds_.taken(Feed::kSequenceTile) + feeds_.taken(Feed::kActStep) + feeds_.taken(Feed::kExecute);
  }

  bool write_key() {
    if (!weights_.waiting.empty() || !activations_.waiting.empty() || addresses_ != 0 || beats_ != 0) return false;
    exported_.clear();
    if (asks_ ? weights_.holding || activations_.holding || b_holding_
              : !memory_->export_state(cycles(now_), exported_))
      return false;
    key_.clear();
    Writer write(key_);
    core_.visit_state(write);
    host_.visit_state(write);
    write(answers_), write(weights_.holding), write(activations_.holding), write(b_holding_);
    write.put(exported_.size());
    for (const std::int64_t value : exported_) write.put(static_cast<std::uint64_t>(value));
    return true;
  }

  /// The machine's state among those remembered, new if need be; null when it cannot be remembered.
  State* find() {
    if (!write_key()) return nullptr;
    const auto found = states_.find(key_);
    if (found != states_.end()) return found->second.get();
    auto state = std::make_unique<State>();
    state->key = key_;
    state_bytes_ += sizeof(State) + key_.capacity() + 64;
    ++run_.effort.states;
    State* const result = state.get();
    states_.emplace(std::string_view(result->key), std::move(state));
    return result;
  }

  void forget() {
    add_counts();
    states_.clear();
    state_bytes_ = 0;
    ++run_.effort.forgotten;
  }

  /// Makes the machine what the state says: it has followed outcomes without moving itself.
  void restore(const State& state) {
    Reading read(state.key);
    core_.visit_state(read);
    core_.restored();
    host_.visit_state(read);
    read(answers_), read(weights_.holding), read(activations_.holding), read(b_holding_);
    exported_.resize(read.get());
    for (std::int64_t& value : exported_) value = static_cast<std::int64_t>(read.get());
    if (!asks_) memory_->import_state(cycles(now_), exported_);
    moved_ = false;
  }

  Outcome* match(State& state) {
    for (std::size_t i = 0; i < state.outcomes.size(); ++i) {
      Outcome& outcome = *state.outcomes[i];
      const Item* items = outcome.items.data();
      bool same = true;
      for (const Outcome::Taken& taken : outcome.taken) {
        same = feeds_.matches(taken.feed, items, taken.count);
        if (!same) break;
        items += taken.count;
      }
      if (!same) continue;
      if (i != 0) std::swap(state.outcomes[i], state.outcomes[i / 2]);
      return &outcome;
    }
    return nullptr;
  }

  /// The outcome happens now: everything but the machine's own state moves on.
  void apply(Outcome& outcome) {
    for (const Outcome::Taken& taken : outcome.taken) feeds_.take_seen(taken.feed, taken.count);
    for (const std::uint32_t at : outcome.retired) {
      run_.engine.retired.push_back(now_ + at);
      if (options_.progress) options_.progress(run_.engine.retired.size());
    }
    for (const std::uint32_t at : outcome.tile_begins) run_.engine.tiles.push_back({now_ + at, 0});
    for (const std::uint32_t at : outcome.tile_ends) run_.engine.tiles[tiles_ended_++].end = now_ + at;
    if (outcome.times++ == 0) used_.push_back(&outcome);
    now_ += outcome.cycles;
    if (outcome.still < outcome.cycles) last_move_ = now_ - outcome.still;
    run_.effort.repeated += outcome.cycles;
    moved_ = true;
    if (outcome.ends_phase) note_phase_end();
  }

  /// Steps on from a state and remembers what happened. Returns the state after it.
  State* record(State& state) {
    add_counts();
    auto outcome = std::make_unique<Outcome>();
    std::array<std::uint64_t, kNumFeeds> taken{};
    for (unsigned f = 0; f < kNumFeeds; ++f) taken[f] = feeds_.taken(static_cast<Feed>(f));
    record_begin_ = now_;
    recording_ = outcome.get();
    advance();
    recording_ = nullptr;

    flush();
    outcome->counts = counts_;
    outcome->cycles = static_cast<std::uint32_t>(now_ - record_begin_);
    outcome->still = static_cast<std::uint32_t>(now_ - last_move_);
    outcome->ends_phase = phase_ended_;
    for (unsigned f = 0; f < kNumFeeds; ++f) {
      const auto feed = static_cast<Feed>(f);
      if (feeds_.taken(feed) == taken[f]) continue;
      outcome->taken.push_back({feed, static_cast<std::uint8_t>(feeds_.taken(feed) - taken[f])});
      for (std::uint64_t i = taken[f]; i < feeds_.taken(feed); ++i) outcome->items.push_back(feeds_.item(feed, i));
    }
    if (phase_ended_) note_phase_end();
    outcome->next = find();
    if (outcome->next == nullptr) return nullptr;
    State* const next = outcome->next;
    state_bytes_ += outcome->bytes();
    state.outcomes.push_back(std::move(outcome));
    return next;
  }

  // ---- repeat the core, ask the memory ----

  void run_asking() {
    State* state = nullptr;
    while (!done()) {
      if (state_bytes_ > options_.state_bytes) {
        if (moved_) restore(*state);
        forget();
        state = nullptr;
      }
      if (state == nullptr) state = find();
      if (state == nullptr) {
        advance();
        continue;
      }
      if (state->still != 0 && now_ - last_move_ <= limit_) skip_still(*state);
      if (now_ - last_move_ > limit_) {  // the watchdog's cycle
        if (moved_) restore(*state);
        step();
        state = nullptr;
        continue;
      }
      Outcome* const outcome = follow(*state);
      if (outcome != nullptr) {
        came_.clear();
        submits_known_ = ask_from_ = 0;
        apply(*outcome);
        state = outcome->next;
        continue;
      }
      if (moved_) restore(*state);
      state = record_asking(*state);
    }
    if (moved_) restore(*state);
  }

  /// As skip(), from a state from which nothing changes until a beat comes.
  void skip_still(const State& state) {
    flush();
    activity_ = state.activity;
    moves_ = false;
    skip_cycles(state.still == kPollCycles);
  }

  /// Goes on from the state as it did before, as long as the memory answers as it did before. Returns the outcome, or
  /// null where this is something new: beats that came are then in came_, those asked for in submits_known_.
  Outcome* follow(State& state) {
    record_begin_ = now_;
    came_.clear();
    came_ports_.clear();
    came_at_ = 0;
    path_.clear();
    ahead_ = {};
    ask_from_ = now_;
    for (unsigned p = 0; p < kNumPorts; ++p) look(p, now_, now_);
    std::vector<std::unique_ptr<Leg>>* legs = &state.legs;
    for (;;) {
      Leg* const leg = follow_leg(*legs);
      if (leg == nullptr) return nullptr;
      if (leg->outcome != nullptr) return leg->outcome.get();
      const bool is_write = leg->port == kWrites;
      const Feed feed = feed_of(leg->port);
      const std::uint64_t item = feeds_.taken(feed) + static_cast<std::uint64_t>(leg->item);
      const std::uint64_t address = feeds_.address_of(feed, item) + static_cast<std::uint64_t>(leg->offset);
      const Cycles at = cycles(record_begin_ + leg->until);
      const std::int64_t accepted = memory_->submit_row(
          {leg->port, is_write, address, Bytes(static_cast<std::int64_t>(beat_bytes_))}, leg->count, at);
      submits_known_ += static_cast<std::uint64_t>(accepted);
      if (accepted != leg->count) return nullptr;
      path_.push_back(leg);
      for (const Outcome::Taken& taken : leg->taken) ahead_[static_cast<unsigned>(taken.feed)] += taken.count;
      for (unsigned p = 0; p < kNumPorts; ++p)
        if (!coming_[p].known) look(p, record_begin_ + leg->until, ask_from_);
      legs = &leg->next;
    }
  }

  Leg* follow_leg(std::vector<std::unique_ptr<Leg>>& legs) {
    const std::size_t begin = came_.size();
    for (std::size_t i = 0; i < legs.size(); ++i) {
      const Leg& leg = *legs[i];
      if (leg.beats.size() < came_.size() - begin) continue;
      const auto from = static_cast<std::ptrdiff_t>(begin);
      if (!std::equal(came_.begin() + from, came_.end(), leg.beats.begin()) ||
          !std::equal(came_ports_.begin() + from, came_ports_.end(), leg.ports.begin()))
        continue;
      const Item* items = leg.items.data();
      bool same = true;
      for (const Outcome::Taken& taken : leg.taken) {
        same = feeds_.matches(taken.feed, items, taken.count, ahead_[static_cast<unsigned>(taken.feed)]);
        if (!same) break;
        items += taken.count;
      }
      if (!same || !beats_come(leg, came_.size() - begin)) continue;
      if (i != 0) std::swap(legs[i], legs[i / 2]);
      return legs[i / 2].get();
    }
    return nullptr;
  }

  /// Takes beats as they come while they come as they did on this leg, of which `done` have.
  bool beats_come(const Leg& leg, std::size_t done) {
    const std::uint64_t until = record_begin_ + leg.until;
    for (;;) {
      const bool more = done < leg.beats.size();
      const std::uint64_t expected = more ? record_begin_ + leg.beats[done] : until + 1;
      unsigned port = 0;
      for (;;) {
        port = 0;
        for (unsigned p = 1; p < kNumPorts; ++p)
          if (coming_[p].cycle < coming_[port].cycle) port = p;
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
    std::size_t end = done + 1;
    while (end < leg.beats.size() && leg.ports[end] == port && record_begin_ + leg.beats[end] < limit) ++end;
    const std::size_t taken =
        memory_->take_as(port, port == kWrites, cycles(record_begin_), leg.beats[done], &leg.beats[done], end - done);
    if (taken == 0) throw std::logic_error("fast: a beat that was known to come did not");
    const auto from = static_cast<std::ptrdiff_t>(done), to = static_cast<std::ptrdiff_t>(done + taken);
    came_.insert(came_.end(), leg.beats.begin() + from, leg.beats.begin() + to);
    came_ports_.insert(came_ports_.end(), leg.ports.begin() + from, leg.ports.begin() + to);
    done += taken;
    const std::uint64_t last = record_begin_ + leg.beats[done - 1];
    look(port, last, last + 1);
  }

  /// When the port's next beat comes, at `first` or later, as the memory knows at `now`.
  void look(unsigned port, std::uint64_t now, std::uint64_t first) {
    const auto coming = memory_->coming(port, port == kWrites, cycles(now));
    coming_[port].known = coming && coming->known;
    coming_[port].cycle = !coming ? kNever : std::max(first, static_cast<std::uint64_t>(coming->cycle.count()));
  }

  static Feed feed_of(unsigned port) {
    return port == kWeights ? Feed::kSegment : port == kActivations ? Feed::kActSegment : Feed::kChunk;
  }

  std::uint64_t item_of(unsigned port) const {
    return port == kWeights       ? core_.weight_reader().item
           : port == kActivations ? core_.act_reader().item
                                  : core_.out_item();
  }

  /// Steps on from a state, with what follow() came to know of it, and remembers what happened.
  State* record_asking(State& state) {
    add_counts();
    auto outcome = std::make_unique<Outcome>();
    for (unsigned f = 0; f < kNumFeeds; ++f) begin_taken_[f] = leg_taken_[f] = feeds_.taken(static_cast<Feed>(f));
    recording_ = outcome.get();
    came_at_ = 0;
    recorded_.clear();
    recordable_ = true;
    begin_leg();
    const std::uint8_t still = advance_asking();
    end_leg();
    leg_ = nullptr;
    recording_ = nullptr;
    check_followed();
    came_.clear();
    ask_from_ = 0;

    flush();
    outcome->counts = counts_;
    outcome->cycles = static_cast<std::uint32_t>(now_ - record_begin_);
    outcome->still = static_cast<std::uint32_t>(now_ - last_move_);
    outcome->ends_phase = phase_ended_;
    for (unsigned f = 0; f < kNumFeeds; ++f) {
      const std::uint64_t count = feeds_.taken(static_cast<Feed>(f)) - begin_taken_[f];
      if (count != 0) outcome->taken.push_back({static_cast<Feed>(f), static_cast<std::uint8_t>(count)});
    }
    const std::uint32_t activity = activity_;
    if (phase_ended_) note_phase_end();
    State* const next = find();
    if (next == nullptr) return nullptr;
    if (still != 0) {
      next->still = still;
      next->activity = activity;
    }
    if (!recordable_) return next;
    outcome->next = next;
    state_bytes_ += outcome->bytes();
    recorded_.back()->outcome = std::move(outcome);
    std::vector<std::unique_ptr<Leg>>* legs = path_.empty() ? &state.legs : &path_.back()->next;
    for (std::size_t i = path_.size(); i < recorded_.size(); ++i) {
      state_bytes_ += recorded_[i]->bytes();
      legs->push_back(std::move(recorded_[i]));
      legs = &legs->back()->next;
    }
    return next;
  }

  /// The core did again what it had done on the path that was followed.
  void check_followed() const {
    bool same = came_at_ == came_.size() && submits_known_ == 0 && (!recordable_ || path_.size() < recorded_.size());
    for (std::size_t i = 0; same && recordable_ && i < path_.size(); ++i)
      same = recorded_[i]->until == path_[i]->until && recorded_[i]->count == path_[i]->count;
    if (!same) throw std::logic_error("fast: a core in a known state did not do what it had done");
  }

  /// Steps to the next place where states are compared, at the latest until nothing moves; returns what State::still
  /// says.
  std::uint8_t advance_asking() {
    phase_ended_ = false;
    const std::uint64_t begin = run_.effort.stepped;
    do {
      const std::uint64_t marks = marked();
      step();
      if (phase_ended_) return 0;
      const std::uint8_t still = stillness();
      const std::uint64_t stepped = run_.effort.stepped - begin;
      if (still != 0 || stepped >= kMostStepped || (stepped >= kFewestAsked && marked() != marks)) return still;
    } while (true);
  }

  void begin_leg() {
    recorded_.push_back(std::make_unique<Leg>());
    leg_ = recorded_.back().get();
  }

  /// Of the leg: what was taken since the one before.
  void end_leg() {
    for (unsigned f = 0; f < kNumFeeds; ++f) {
      const auto feed = static_cast<Feed>(f);
      const std::uint64_t taken = feeds_.taken(feed);
      if (taken == leg_taken_[f]) continue;
      leg_->taken.push_back({feed, static_cast<std::uint8_t>(taken - leg_taken_[f])});
      for (; leg_taken_[f] < taken; ++leg_taken_[f]) leg_->items.push_back(feeds_.item(feed, leg_taken_[f]));
    }
    leg_->until = static_cast<std::uint32_t>(now_ - record_begin_) - (leg_->count == 0 ? 1 : 0);
  }

  void note_submit(unsigned port, std::uint64_t address, bool taken) {
    recordable_ = recordable_ && taken;
    if (!recordable_) return;
    const Feed feed = feed_of(port);
    const std::uint64_t item = item_of(port);
    const auto from_begin = static_cast<std::int64_t>(item - begin_taken_[static_cast<unsigned>(feed)]);
    const auto offset = static_cast<std::int64_t>(address - feeds_.address_of(feed, item));
    if (recorded_.size() > 1 && leg_->beats.empty()) {  // more beats of the one before?
      Leg& last = *recorded_[recorded_.size() - 2];
      if (last.until == now_ - record_begin_ && last.port == port && last.item == from_begin &&
          last.offset + std::int64_t{last.count} * beat_bytes_ == offset) {
        ++last.count;
        return;
      }
    }
    leg_->port = static_cast<std::uint8_t>(port);
    leg_->count = 1;
    leg_->item = from_begin;
    leg_->offset = offset;
    end_leg();
    begin_leg();
  }

  void add_counts() {
    flush();
    const auto add = [this](const Counts& counts, std::uint64_t times) {
      for (unsigned b = 0; b < kNumBlocks; ++b) {
        for (unsigned a = 0; a < 4; ++a) total_[b][a] += times * counts.activity[b][a];
      }
      for (std::size_t c = 0; c < kNumCauses; ++c) total_causes_[c] += times * counts.causes[c];
    };
    add(counts_, 1);
    counts_ = Counts{};
    for (Outcome* outcome : used_) {
      add(outcome->counts, outcome->times);
      outcome->times = 0;
    }
    used_.clear();
  }

  static constexpr std::uint64_t kFewestStepped = 64, kMostStepped = 180;
  static constexpr std::uint64_t kFewestAsked = 24;  // shorter: what the memory answers repeats less
  static constexpr unsigned kNumPorts = 3;
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  const Options& options_;
  const std::size_t phases_, num_commands_;
  const unsigned beat_bytes_;
  Run run_;
  Feeds feeds_;
  Core core_;
  std::unique_ptr<memory::MemoryModel> memory_;
  base::Rng rng_;
  Stalls host_stalls_, aw_stalls_, w_stalls_, b_stalls_;
  Host host_;
  bool answer_ready_ = false;
  ReadPort weights_, activations_;
  std::uint32_t addresses_ = 0, beats_ = 0, answers_ = 0;
  std::deque<std::uint64_t> write_addresses_;
  bool b_holding_ = false;
  std::uint64_t now_ = 0, last_move_ = 0, limit_ = 0;
  std::size_t tiles_ended_ = 0;

  // Counts: the last activity and for how many cycles, what is not yet in the total, the total.
  std::uint32_t activity_ = 0, same_ = 0;
  bool moves_ = false, quiet_ = false, submitted_ = false, phase_ended_ = false;
  Counts counts_;
  program::ActivityCounts total_{};
  std::array<std::uint64_t, kNumCauses> total_causes_{};

  std::unordered_map<std::string_view, std::unique_ptr<State>> states_;
  std::size_t state_bytes_ = 0;
  std::vector<Outcome*> used_;  // outcomes that happened since counts were added
  Outcome* recording_ = nullptr;
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
  std::array<unsigned, kNumFeeds> ahead_{};  // items that the path takes
  std::vector<Leg*> path_;                   // that was followed, but for its last leg
  std::vector<std::uint32_t> came_;          // on it, as Leg::beats
  std::vector<std::uint8_t> came_ports_;     // as Leg::ports
  std::size_t came_at_ = 0;                  // those before were told to the core
  std::uint64_t ask_from_ = 0;               // cycle; of earlier ones came_ says all
  std::uint64_t submits_known_ = 0;          // that the memory took and the core has not yet made
  unsigned take_ = 0;                        // ports whose beat is the memory's still
  std::array<std::uint64_t, kNumFeeds> begin_taken_{}, leg_taken_{};
  std::vector<std::unique_ptr<Leg>> recorded_;
  Leg* leg_ = nullptr;  // that is recorded
  bool recordable_ = false;
};

}  // namespace

Run run(const program::CoreParams& params, const std::vector<program::Command>& commands,
        const std::vector<std::size_t>& phases, const program::MemoryImage& image, const Options& options) {
  for (const program::Command& command : commands)
    if (command.opcode == program::Opcode::kWait)
      throw std::logic_error("the fast engine has no I/O queue: it runs no program that waits for loads");
  return Machine(params, commands, phases, image, options).run();
}

}  // namespace moesaic::fast
