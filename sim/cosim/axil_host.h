#pragma once
/// The host: pushes what its agent offers (program/host_agent.h). Writes staging words that changed, pushes commands
/// while the queue has room, waits, reads status and counters. Descriptors go first whenever one is offered, the I/O
/// queue has room and its job's entry is free; while it is not, the host asks for room once between any two accesses
/// for commands.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sim/cosim/core_ports.h"
#include "sim/program/core_params.h"
#include "sim/program/engine_run.h"
#include "sim/program/host_agent.h"
#include "sim/program/scattered_planes.h"
#include "sim/program/stalls.h"

namespace moesaic::cosim {

class AxilHost {
 public:
  /// Who is told what is pushed, in sample(): a command when the answer to its push was taken, a load when the write
  /// that pushes it began.
  class Listener {
   public:
    virtual void command_pushed(const program::OfferedCommand& command) = 0;
    virtual void load_pushed(const program::Descriptor& load) = 0;

   protected:
    ~Listener() = default;
  };

  AxilHost(const program::HostAgent& agent, Listener& listener, const program::CoreParams& params,
           program::Stalls stalls, bool fresh_phases = false);

  /// Falling edge. `idle`: the core has executed everything that was pushed.
  void drive(CoreInputs& in, bool idle);
  /// Just before the rising edge.
  void sample(const CoreInputs& in, const CoreOutputs& out);
  /// The bench has noted the end of a phase. With `fresh_phases` the host forgets what it staged and how much room
  /// there was.
  void phase_ended() {
    if (!fresh_phases_) return;
    staged_known_ = kNeverForgotten;
    room_ = 0;
  }

  std::size_t pushed() const { return pushed_; }
  bool done() const { return stage_ == Stage::kDone; }
  /// All commands are executed: the host is reading counters.
  bool finishing() const { return stage_ > Stage::kCommands; }
  bool snapshot_in_flight() const { return stage_ == Stage::kSnapshot; }

  std::uint64_t status() const { return status_; }
  std::uint64_t cycles() const { return cycles_; }
  const program::ActivityCounts& counters() const { return counters_; }
  std::string waits() const;

 private:
  enum class Stage { kCommands, kSnapshot, kStatus, kCycles, kCounters, kDone };
  struct Access {
    bool write = false;
    std::uint32_t address = 0, data = 0;
  };
  bool next_access(bool idle);
  bool next_setting();
  bool next_load_access();
  void start_write(std::uint32_t address, std::uint32_t data) { start({true, address, data}); }
  void start_read(std::uint32_t address) { start({false, address, 0}); }
  void start(const Access& access);
  void finish_write(std::uint64_t response);
  void finish_read(std::uint64_t data, std::uint64_t response);

  /// Programs with fresh phases have no scattered planes, so these words stay as the reset left them.
  static constexpr std::uint32_t kNeverForgotten = ~0U << program::kFirstScatteredWord;

  const program::HostAgent& agent_;
  Listener& listener_;
  program::Stalls stalls_;
  Stage stage_ = Stage::kCommands;
  std::size_t pushed_ = 0, loads_pushed_ = 0;
  program::CommandWords staged_{}, wanted_{};
  bool has_wanted_ = false;  // wanted_ is the offered command
  bool fresh_phases_;
  std::uint32_t staged_known_;                                     // word w at bit w: staged_[w] is what the core has
  std::uint64_t room_ = 0;                                         // free queue entries, at least
  std::vector<std::pair<std::uint32_t, std::uint32_t>> settings_;  // address and value, still to be written
  program::DescriptorWords io_staged_{};
  bool pushing_load_ = false;      // the write that pushes a descriptor began in this cycle
  std::uint64_t io_room_ = 0;      // free descriptor entries, at least
  std::uint64_t closed_jobs_ = 0;  // job j at bit j: closed, and its wait not known to be executed
  bool asked_ = false;             // for room in the I/O queue, since the last access for commands
  bool working_ = false;           // an access is under way
  Access access_;
  bool address_valid_ = false, data_valid_ = false;  // offered now
  bool address_done_ = false, data_done_ = false, answer_ready_ = false;
  unsigned word_ = 0;  // of cycles or counters being read
  std::uint64_t status_ = 0, cycles_ = 0;
  program::ActivityCounts counters_{};
};

}  // namespace moesaic::cosim
