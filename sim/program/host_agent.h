#pragma once
/// The host's mind: which commands and loads there are, and when. Every engine asks the same object, so that a program
/// may come into being while it runs: routing known layer by layer, jobs in the order in which their planes arrive,
/// requests that arrive in time. Plain C++; an agent knows no engine, and follows from nothing but what it is told.
///
/// The timing contract. Cycle t lies between two rising edges; what crosses the chip's ports in cycle t is seen at the
/// edge that ends it, and told with now = t + 1, the first cycle after it. At one edge, in this order:
///
///   load_pushed       the host began the write to the I/O queue's push register in cycle now - 1
///   command_pushed    the host took the answer (B) to the write to the command queue's push register in cycle now - 1
///   load_completed    the core took the completion (io_done) in cycle now - 1
///   command_executed  retired_o was up in cycle now - 1; it may be up before the answer to the push is taken
///   phase_ended       all commands of the phase are executed and the core said in cycle now - 1 that it is idle; at
///                     most one phase an edge
///   woken             wake() is now or earlier
///
/// What is offered then may be pushed from cycle `now` on: the host, when it has no access under way in that cycle,
/// begins the next one in it. Loads go before commands. What has been offered stays, in its order, until it is
/// pushed. begin() comes before cycle 0. Time never goes back; between events, and before wake(), an agent offers
/// nothing new.
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "models/memory/memory_model.h"
#include "sim/program/commands.h"
#include "sim/program/engine_run.h"
#include "sim/program/load_program.h"
#include "sim/program/memory_image.h"

namespace moesaic::program {

/// A command that may be pushed. `tag` is the agent's name for it, which EngineRun::tags repeats.
struct OfferedCommand {
  Command command;
  std::uint64_t tag = 0;
};

/// What the host writes to the I/O queue before all else.
struct IoSettings {
  LoadOrder order = LoadOrder::kFifo;
  std::optional<unsigned> credits;  ///< without it, as many as the core has
};

struct ByteRange {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
};

class HostAgent {
 public:
  virtual ~HostAgent() = default;

  // ---- what an engine reads, at any time

  /// To be pushed from now on, the front first. The whole queue is known and will not change but at its end.
  const std::deque<OfferedCommand>& commands() const { return commands_; }
  const std::deque<Descriptor>& loads() const { return loads_; }
  /// No command of the running phase is left to push: it ends when all are executed and the core is idle.
  bool phase_is_pushed() const { return phase_closed_ && commands_.empty(); }
  /// Of the running phase: the agent's name for it, and the cycle in which its work was known. Cycles between the end
  /// of a phase and the beginning of the next one count as the next one's.
  struct PhaseMark {
    std::uint64_t tag = 0;
    std::uint64_t begin = 0;
  };
  PhaseMark phase() const { return phase_; }
  /// Nothing is left to do: all phases have ended, no load will be offered, and none is awaited.
  bool is_finished() const { return finished_ && commands_.empty() && loads_.empty(); }
  /// When the agent wants to be woken though nothing happens.
  std::optional<std::uint64_t> wake() const { return wake_; }
  /// What a cycle is called in which the core has nothing to do (cause_of() says kHost) and this says so: kIo while
  /// only loads can bring work, kHost while the host is at work. Constant between events.
  Cause idle_cause() const { return idle_cause_; }
  virtual IoSettings settings() const { return {}; }
  /// What lies at the loads' sources; null: no load is ever offered.
  virtual const MemoryImage* storage() const { return nullptr; }
  /// Of the commands executed so far, those that are not the program's: `wait`s.
  virtual std::size_t executed_waits() const { return 0; }
  /// Numbers of its own for the results (EngineRun::host_counters), at the end of the run.
  virtual std::vector<memory::Counter> counters() const { return {}; }
  /// The same by layer (EngineRun::cache_layers), of agents with an expert cache.
  virtual std::vector<EngineRun::CacheOfLayer> cache_layers() const { return {}; }

  // ---- what an engine tells

  /// Before begin(), from engines whose memory has bytes: the agent makes the image what it is at the start. Returns
  /// the ranges in which nothing lies yet: reading them before a load has filled them is an error.
  virtual std::vector<ByteRange> prepare(MemoryImage& image);
  void begin() { on_begin(); }
  void command_pushed(std::uint64_t now) {
    commands_.pop_front();
    on_command_pushed(now);
  }
  void load_pushed(std::uint64_t now) {
    loads_.pop_front();
    on_load_pushed(now);
  }
  /// `load`: how many were pushed before it.
  void load_completed(std::size_t load, std::uint64_t now) { on_load_completed(load, now); }
  /// Commands are executed in the order in which they were pushed.
  void command_executed(std::uint64_t now) { on_command_executed(now); }
  void phase_ended(std::uint64_t now) {
    phase_closed_ = false;
    on_phase_ended(now);
  }
  void woken(std::uint64_t now) { on_woken(now); }

 protected:
  virtual void on_begin() = 0;
  virtual void on_command_pushed(std::uint64_t) {}
  virtual void on_load_pushed(std::uint64_t) {}
  virtual void on_load_completed(std::size_t, std::uint64_t) {}
  virtual void on_command_executed(std::uint64_t) {}
  /// Opens the next phase, or finishes, now or later.
  virtual void on_phase_ended(std::uint64_t now) = 0;
  /// Moves wake() on, or clears it.
  virtual void on_woken(std::uint64_t) { wake_.reset(); }

  void open_phase(const PhaseMark& phase) {
    phase_ = phase;
    phase_closed_ = false;
  }
  void offer(const Command& command, std::uint64_t tag) { commands_.push_back({command, tag}); }
  void offer(const Descriptor& load) { loads_.push_back(load); }
  /// The running phase gets no more commands.
  void close_phase() { phase_closed_ = true; }
  void set_wake(std::optional<std::uint64_t> wake) { wake_ = wake; }
  void set_idle_cause(Cause cause) { idle_cause_ = cause; }
  void finish() { finished_ = true; }

 private:
  std::deque<OfferedCommand> commands_;
  std::deque<Descriptor> loads_;
  PhaseMark phase_;
  bool phase_closed_ = false, finished_ = false;
  std::optional<std::uint64_t> wake_;
  Cause idle_cause_ = Cause::kHost;
};

/// A program that is known from the beginning: the agent of fixed commands, phases and loads. Tags are the indices of
/// commands and phases.
class FixedProgram final : public HostAgent {
 public:
  /// `phases` holds the first command of each phase ([0] is 0). All outlive it; `loads` may be null.
  FixedProgram(const std::vector<Command>& commands, const std::vector<std::size_t>& phases,
               const LoadProgram* loads = nullptr)
      : program_(commands), phases_(phases), load_program_(loads) {}

  IoSettings settings() const override;
  const MemoryImage* storage() const override { return load_program_ == nullptr ? nullptr : &load_program_->storage; }
  /// Destinations of loads hold the complement of what they will. std::logic_error when a source is not in the storage
  /// or a destination not in the image.
  std::vector<ByteRange> prepare(MemoryImage& image) override;

 private:
  void on_begin() override { begin_phase(0); }
  void on_command_pushed(std::uint64_t) override;
  void on_phase_ended(std::uint64_t now) override;
  void begin_phase(std::uint64_t now);
  void offer_due_loads();
  std::size_t phase_end() const { return at_ + 1 < phases_.size() ? phases_[at_ + 1] : program_.size(); }

  const std::vector<Command>& program_;
  const std::vector<std::size_t>& phases_;
  const LoadProgram* load_program_;
  std::size_t at_ = 0;  // the running phase
  std::size_t pushed_ = 0, next_load_ = 0;
};

}  // namespace moesaic::program
