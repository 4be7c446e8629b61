#include "sim/cosim/core_bench.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <stdexcept>

#include "base/error.h"
#include "base/rng.h"
#include "models/storage/dma_storage.h"
#include "sim/cosim/axil_host.h"
#include "sim/cosim/memory_ports.h"
#include "sim/program/refresh_waits.h"

namespace moesaic::cosim {

using base::CheckError;
using program::ActivityCounts;
using program::Cause;
using program::MemoryImage;
using program::Stalls;

namespace {

constexpr unsigned kResetCycles = 2;
constexpr std::size_t kOutputWords = sizeof(CoreOutputs) / sizeof(std::uint64_t);

std::string hex(const std::uint64_t* words, unsigned bits) {
  std::string text;
  static const char* digits = "0123456789abcdef";
  for (unsigned nibble = (bits + 3) / 4; nibble-- > 0;) text += digits[words[nibble / 16] >> (4 * (nibble % 16)) & 15];
  return "0x" + text;
}

/// Flips one bit, counted over all ports in order.
void flip(CoreOutputs& outputs, unsigned bit, const program::CoreParams& params) {
  std::uint64_t words[kOutputWords];
  std::memcpy(words, &outputs, sizeof outputs);
  for (const OutputPort& port : kOutputPorts) {
    const unsigned bits = port_bits(port, params);
    if (bit < bits) {
      words[port.word + bit / 64] ^= std::uint64_t{1} << (bit % 64);
      break;
    }
    bit -= bits;
  }
  std::memcpy(&outputs, words, sizeof outputs);
}

/// "out_w_data_o: twin 0x12, rtl 0x13" for the first port that differs.
std::string first_port_difference(const CoreOutputs& a, const CoreOutputs& b, const std::string& a_name,
                                  const std::string& b_name, const program::CoreParams& params) {
  std::uint64_t left[kOutputWords], right[kOutputWords];
  std::memcpy(left, &a, sizeof a);
  std::memcpy(right, &b, sizeof b);
  for (const OutputPort& port : kOutputPorts) {
    const unsigned words = (port.bits + 63) / 64;
    if (!std::equal(left + port.word, left + port.word + words, right + port.word)) {
      const unsigned bits = port_bits(port, params);
      return std::string(port.name) + ": " + a_name + " " + hex(left + port.word, bits) + ", " + b_name + " " +
             hex(right + port.word, bits);
    }
  }
  return "no port differs";
}

}  // namespace

unsigned output_bits(const program::CoreParams& params) {
  unsigned bits = 0;
  for (const OutputPort& port : kOutputPorts) bits += port_bits(port, params);
  return bits;
}

/// One run: the loop over cycles.
class CoreBench::Run final : private AxilHost::Listener {
 public:
  Run(CoreEngine& engine, CoreEngine* second, program::HostAgent& agent, MemoryImage& image,
      const BenchOptions& options)
      : engine_(engine),
        second_(second),
        agent_(agent),
        options_(options),
        memory_(options.make_memory ? options.make_memory() : memory::make_memory(options.memory, options.period)),
        refresh_waits_(*memory_),
        log_(result_.engine, options.sink),
        storage_(options.make_storage ? options.make_storage(*memory_)
                                      : storage::make_storage(options.storage, *memory_, engine.params().beat_bytes())),
        rng_(options.stall_seed.value_or(0)),
        host_(agent, *this, engine.params(), Stalls::channel(options.stall_seed, rng_), options.fresh_phases),
        weights_(program::MemoryPort::kWeightRead, image, *memory_, result_.engine.traffic, engine.params(),
                 options.stall_seed, rng_),
        activations_(program::MemoryPort::kActivationRead, image, *memory_, result_.engine.traffic, engine.params(),
                     options.stall_seed, rng_),
        results_(image, *memory_, result_.engine.traffic, engine.params(), options.stall_seed, rng_),
        loads_(agent, image, *storage_, log_, options.stall_seed, rng_) {
    weights_.refuse(loads_.awaited());
    activations_.refuse(loads_.awaited());
    result_.engine.traffic = program::Traffic(image);
    result_.memory_name = memory_->name();
    result_.storage_name = storage_->name();
    limit_ = options.watchdog_cycles + static_cast<std::uint64_t>(memory_->longest_wait().count());
  }

  BenchRun run() {
    reset();
    agent_.begin();
    while (!host_.done() && now_ != options_.max_cycles) cycle();
    if (agent_.is_finished()) {
      while (!host_.done()) cycle();  // reads the counters
      finish();
    } else {
      result_.engine.cut = phase_end();
      result_.engine.cut->refresh = log_.last_end().refresh;
      result_.engine.cycles = now_;
      result_.engine.traffic = program::Traffic();
      finish_agent();
    }
    return std::move(result_);
  }

 private:
  void reset() {
    for (CoreEngine* engine : engines()) engine->set_reset(true);
    for (unsigned i = 0; i < kResetCycles; ++i) {
      in_ = CoreInputs{};
      settle();
      for (CoreEngine* engine : engines()) engine->rise();
      ++result_.bench_cycles;
    }
    for (CoreEngine* engine : engines()) engine->set_reset(false);
  }

  std::vector<CoreEngine*> engines() const {
    return second_ == nullptr ? std::vector<CoreEngine*>{&engine_} : std::vector<CoreEngine*>{&engine_, second_};
  }

  void settle() {
    engine_.settle(in_);
    out_ = engine_.outputs();
    if (second_ == nullptr) return;
    second_->settle(in_);
    CoreOutputs other = second_->outputs();
    if (options_.injection && options_.injection->cycle == now_) flip(other, options_.injection->bit, engine_.params());
    result_.port_values_compared += kNumOutputPorts;
    if (!second_->has_data()) {
      other.out_w_data_o = out_.out_w_data_o;
      --result_.port_values_compared;
    }
    if (std::memcmp(&out_, &other, sizeof out_) != 0) {
      throw CheckError("cycle " + std::to_string(now_) + ": " +
                       first_port_difference(out_, other, engine_.name(), second_->name(), engine_.params()));
    }
  }

  void cycle() {
    in_ = CoreInputs{};
    host_.drive(in_, idle_);
    weights_.drive(in_, now_);
    activations_.drive(in_, now_);
    results_.drive(in_, now_);
    loads_.drive(in_, now_);
    settle();
    count_activity();
    host_.sample(in_, out_);
    weights_.sample(in_, out_, now_);
    activations_.sample(in_, out_, now_);
    results_.sample(in_, out_, now_);
    loads_.sample(in_, out_, now_);
    if (options_.watch_tiles) watch_tiles();
    if (host_.snapshot_in_flight()) recent_.push_back(counts_);
    if (out_.retired_o != 0) {
      log_.command_executed(now_, work_);
      work_ = program::CommandWork();
      agent_.command_executed(now_ + 1);
      if (options_.progress) options_.progress(log_.executed());
    }
    engine_.rise();
    if (second_ != nullptr) second_->rise();
    ++now_;
    ++result_.bench_cycles;
    idle_ = out_.idle_o != 0 && out_.retired_o == 0 && host_.pushed() == log_.executed();
    if (idle_ && agent_.phase_is_pushed()) end_phase();
    if (agent_.wake() && *agent_.wake() <= now_) agent_.woken(now_);
  }

  void command_pushed(const program::OfferedCommand& command) override {
    log_.command_pushed(command);
    agent_.command_pushed(now_ + 1);
  }

  void load_pushed(const program::Descriptor& load) override {
    loads_.push(load, now_);
    agent_.load_pushed(now_ + 1);
  }

  /// The counts so far, as of the running phase. The memory's go to the result.
  program::EngineRun::PhaseEnd phase_end() {
    program::EngineRun::PhaseEnd end;
    end.tag = agent_.phase().tag;
    end.begin = agent_.phase().begin;
    end.cycles = now_;
    end.commands = log_.executed();
    end.activity = counts_;
    end.causes = causes_;
    for (std::size_t p = 0; p < program::kNumMemoryPorts; ++p)
      end.bytes[p] = result_.engine.traffic.total(static_cast<program::MemoryPort>(p));
    end.written_bytes = result_.engine.written_bytes = storage_->written_bytes();
    result_.engine.memory_counters = memory_->counters(base::Cycles(static_cast<std::int64_t>(now_)));
    memory_->add_history(base::Cycles(static_cast<std::int64_t>(now_)), result_.engine.memory_history);
    return end;
  }

  /// A phase ends in the first cycle in which all its commands are executed and the core says that it is idle.
  void end_phase() {
    program::EngineRun::PhaseEnd end = phase_end();
    end.refresh = refresh_waits_.counts(now_);
    log_.phase_ended(end);
    host_.phase_ended();
    agent_.phase_ended(now_);
  }

  void count_activity() {
    bool moves = false;
    for (std::size_t b = 0; b < counts_.size(); ++b) {
      const auto activity = static_cast<std::size_t>(out_.activity_o >> (2 * b) & 3);
      ++counts_[b][activity];
      moves = moves || activity == static_cast<std::size_t>(program::Activity::kBusy);
    }
    work_.passed(static_cast<std::uint32_t>(out_.activity_o), now_, now_ + 1);
    const Cause cause = program::cause_of(out_.activity_o);
    ++causes_[static_cast<std::size_t>(cause == Cause::kHost ? agent_.idle_cause() : cause)];
    if (const auto port = program::RefreshWaits::awaited(cause)) refresh_waits_.passed(*port, now_, now_ + 1);
    if (moves || host_.finishing() || loads_.is_working(now_) || agent_.wake()) last_move_ = now_;
    if (now_ - last_move_ > limit_) throw CheckError(stuck());
  }

  /// The array answers its beats in order: the sums of a tile's last beat are as many as the tile had beats.
  void watch_tiles() {
    const auto events = engine_.array_events();
    if (!events) throw std::logic_error("tiles of an engine that does not show its array");
    auto& tiles = result_.engine.tiles;
    if (events->beat) {
      if (tile_beats_++ == 0) tiles.push_back({now_, 0});
      if (events->beat_last) {
        sums_of_tiles_.push_back(tile_beats_);
        tile_beats_ = 0;
      }
    }
    if (!events->sum || ++sums_ != (sums_of_tiles_.empty() ? 0 : sums_of_tiles_.front())) return;
    tiles[tiles_ended_++].end = now_;
    sums_of_tiles_.pop_front();
    sums_ = 0;
  }

  /// Who waits for whom.
  std::string stuck() const {
    static const char* names[] = {"idle", "busy", "starved", "blocked"};
    std::string text = "stuck in cycle " + std::to_string(now_) + ": no block has moved for " + std::to_string(limit_) +
                       " cycles, command " + std::to_string(log_.executed()) + ":";
    for (std::size_t b = 0; b < counts_.size(); ++b) {
      const auto activity = static_cast<std::size_t>(out_.activity_o >> (2 * b) & 3);
      if (activity != 0) text += " " + std::string(program::kBlocks[b].name) + " " + names[activity] + ";";
    }
    return text + " " + weights_.waits(out_) + "; " + activations_.waits(out_) + "; " + results_.waits(out_) + "; " +
           loads_.waits(out_) + "; " + host_.waits();
  }

  void finish_agent() {
    result_.engine.host_counters = agent_.counters();
    result_.engine.cache_layers = agent_.cache_layers();
    result_.engine.storage_bytes = loads_.bytes();
  }

  /// What the core counted is what was seen on its ports, and adds up.
  void finish() {
    finish_agent();
    const std::uint64_t status = host_.status();
    result_.shift_error = (status >> 1 & 1) != 0;
    result_.memory_error = (status >> 2 & 1) != 0;
    result_.command_error = (status >> 3 & 1) != 0;
    result_.storage_error = (status >> 4 & 1) != 0;
    if (loads_.completed() != log_.loads_pushed()) {
      throw CheckError("storage port: got " + std::to_string(loads_.completed()) + " completed loads, expected " +
                       std::to_string(log_.loads_pushed()));
    }
    const ActivityCounts& read = host_.counters();
    for (std::size_t b = 0; b < read.size(); ++b) {
      std::uint64_t sum = 0;
      for (const std::uint64_t count : read[b]) sum += count;
      if (sum != host_.cycles()) {
        throw CheckError("counters of " + std::string(program::kBlocks[b].name) + ": got a sum of " +
                         std::to_string(sum) + ", expected " + std::to_string(host_.cycles()) + " cycles");
      }
    }
    const bool seen =
        std::any_of(recent_.begin(), recent_.end(), [&](const ActivityCounts& counts) { return counts == read; });
    if (!seen) throw CheckError("counters: the values read are not those of activity_o in any cycle of the snapshot");
  }

  CoreEngine& engine_;
  CoreEngine* second_;
  program::HostAgent& agent_;
  const BenchOptions& options_;
  BenchRun result_;
  std::unique_ptr<memory::MemoryModel> memory_;
  program::RefreshWaits refresh_waits_;
  program::RunLog log_;
  std::unique_ptr<storage::CoreStorage> storage_;
  base::Rng rng_;
  AxilHost host_;
  ReadPort weights_, activations_;
  WritePort results_;
  StoragePort loads_;
  CoreInputs in_;
  CoreOutputs out_;
  ActivityCounts counts_{};
  std::array<std::uint64_t, program::kNumCauses> causes_{};
  program::CommandWork work_;  // on the command that is not executed yet
  std::vector<ActivityCounts> recent_;
  std::uint64_t tile_beats_ = 0, sums_ = 0;
  std::deque<std::uint64_t> sums_of_tiles_;  // of tiles whose last beat is in the array
  std::size_t tiles_ended_ = 0;
  bool idle_ = true;
  std::uint64_t now_ = 0, last_move_ = 0, limit_ = 0;
};

CoreBench::CoreBench(std::unique_ptr<CoreEngine> engine, std::unique_ptr<CoreEngine> second)
    : engine_(std::move(engine)), second_(std::move(second)) {}
CoreBench::~CoreBench() = default;

std::vector<std::string> CoreBench::open_waves(const std::string& path) {
  if (second_ == nullptr) return {engine_->open_waves(path)};
  return {second_->open_waves(path), engine_->open_waves(path + ".twin")};
}

BenchRun CoreBench::run(program::HostAgent& agent, MemoryImage& image, const BenchOptions& options) {
  return Run(*engine_, second_.get(), agent, image, options).run();
}

BenchRun CoreBench::run(const std::vector<program::Command>& commands, const std::vector<std::size_t>& phases,
                        MemoryImage& image, const BenchOptions& options, const program::LoadProgram* loads) {
  program::FixedProgram program(commands, phases, loads);
  return run(program, image, options);
}

}  // namespace moesaic::cosim
