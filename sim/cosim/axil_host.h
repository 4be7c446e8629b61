#pragma once
/// The host: writes staging words that changed, pushes commands while the queue has room, waits, reads status and
/// counters.
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "sim/cosim/core_ports.h"
#include "sim/program/engine_run.h"
#include "sim/program/stalls.h"

namespace moesaic::cosim {

class AxilHost {
 public:
  AxilHost(const std::vector<program::Command>& commands, const std::vector<std::size_t>& phases,
           program::Stalls stalls);

  /// Falling edge. `idle`: the core has executed everything that was pushed.
  void drive(CoreInputs& in, bool idle);
  /// Just before the rising edge.
  void sample(const CoreInputs& in, const CoreOutputs& out);
  /// The bench has noted the end of a phase: the next one's commands may be pushed.
  void begin_phase() { ++phase_; }

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
  void start_write(std::uint32_t address, std::uint32_t data) { start({true, address, data}); }
  void start_read(std::uint32_t address) { start({false, address, 0}); }
  void start(const Access& access);
  void finish_write(std::uint64_t response);
  void finish_read(std::uint64_t data, std::uint64_t response);

  const std::vector<program::Command>& commands_;
  const std::vector<std::size_t>& phases_;
  program::Stalls stalls_;
  Stage stage_ = Stage::kCommands;
  std::size_t pushed_ = 0, phase_ = 0;
  program::CommandWords staged_{}, wanted_{};
  std::uint64_t room_ = 0;  // free queue entries, at least
  bool working_ = false;    // an access is under way
  Access access_;
  bool address_valid_ = false, data_valid_ = false;  // offered now
  bool address_done_ = false, data_done_ = false, answer_ready_ = false;
  unsigned word_ = 0;  // of cycles or counters being read
  std::uint64_t status_ = 0, cycles_ = 0;
  program::ActivityCounts counters_{};
};

}  // namespace moesaic::cosim
