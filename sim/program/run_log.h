#pragma once
/// What an engine notes while it runs: in the lists of an EngineRun, which grow with the run, or told to a sink, one
/// thing after the other, and forgotten.
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>

#include "sim/program/commands.h"
#include "sim/program/engine_run.h"
#include "sim/program/host_agent.h"

namespace moesaic::program {

/// Told what happened in the order of time. Of one edge: commands, then the end of their phase, of which the host's
/// agent hears after that. What a sink throws ends the run.
class RunSink {
 public:
  virtual ~RunSink() = default;
  /// `executed`: in which cycle, as EngineRun::retired. Commands come in the order of their execution, those of a phase
  /// before its end.
  virtual void command(const OfferedCommand& command, std::uint64_t executed, const CommandWork& work) = 0;
  virtual void phase(const EngineRun::PhaseEnd& end) = 0;
  /// `number`: how many loads were pushed before it.
  virtual void load_issued(std::size_t number, const EngineRun::Load& load) = 0;
  virtual void load_completed(std::size_t number, const EngineRun::Load& load) = 0;
};

class RunLog {
 public:
  /// `sink` may be null: then the lists of `run` are filled. Both outlive the log.
  RunLog(EngineRun& run, RunSink* sink) : run_(run), sink_(sink) {}

  /// A command is pushed before it is executed, but for an instant: see HostAgent.
  void command_pushed(const OfferedCommand& command);
  void command_executed(std::uint64_t cycle, const CommandWork& work);
  std::size_t executed() const { return executed_; }
  /// std::logic_error when commands were pushed that are not executed, or executed that were not pushed.
  void phase_ended(const EngineRun::PhaseEnd& end);
  const EngineRun::PhaseEnd& last_end() const { return last_end_; }  ///< zeros before the first

  /// Returns the load's number.
  std::size_t load_pushed(const Descriptor& descriptor, std::uint64_t now);
  void load_issued(std::size_t number, std::uint64_t now);
  /// Afterwards load() knows it no more, where there is a sink.
  void load_completed(std::size_t number, std::uint64_t now);
  const EngineRun::Load& load(std::size_t number) const {
    return sink_ == nullptr ? run_.loads[number] : under_way_.at(number);
  }
  std::size_t loads_pushed() const { return loads_pushed_; }
  std::uint64_t loaded_bytes() const { return loaded_bytes_; }  ///< of completed loads

 private:
  EngineRun::Load& entry(std::size_t number) { return sink_ == nullptr ? run_.loads[number] : under_way_.at(number); }
  void tell();

  EngineRun& run_;
  RunSink* sink_;
  std::size_t executed_ = 0, loads_pushed_ = 0;
  std::uint64_t loaded_bytes_ = 0;
  EngineRun::PhaseEnd last_end_;
  // With a sink, what is not told yet.
  std::deque<OfferedCommand> pushed_;
  struct Executed {
    std::uint64_t cycle;
    CommandWork work;
  };
  std::deque<Executed> executed_at_;
  std::map<std::size_t, EngineRun::Load> under_way_;
};

}  // namespace moesaic::program
