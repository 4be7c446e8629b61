#pragma once
/// Of the cycles in which a core waits for weights or for activations: those in which a refresh of the memory held up
/// the next beat of their port (memory::MemoryModel::take_held()). A memory says so when the beat is on its way, cycles
/// later, so what passed is kept until it has: a stretch of one cause at a time, or a known sequence of them.
/// Memory in use is bounded by what can happen while one beat is awaited.
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "models/memory/memory_model.h"
#include "sim/program/engine_run.h"

namespace moesaic::program {

class RefreshWaits {
 public:
  using Counts = std::array<std::uint64_t, kNumMemoryPorts>;

  /// Cycles `begin` to `end` - 1, from some cycle on, in which the core waits for `port`.
  struct Wait {
    std::uint32_t begin = 0, end = 0;
    MemoryPort port = MemoryPort::kWeightRead;
  };

  /// The memory is asked when so many stretches have been told and twice as many as were needed when last asked.
  explicit RefreshWaits(memory::MemoryModel& memory, std::size_t room = 1024);

  /// The memory knows no refresh: nothing need be told.
  bool is_off() const { return off_; }
  /// The port that is waited for in a cycle of this cause.
  static std::optional<MemoryPort> awaited(Cause cause) {
    if (cause == Cause::kWeights) return MemoryPort::kWeightRead;
    if (cause == Cause::kActivations) return MemoryPort::kActivationRead;
    return std::nullopt;
  }

  /// Cycles `begin` to `end` - 1 passed waiting for `port`. What is told ascends.
  void passed(MemoryPort port, std::uint64_t begin, std::uint64_t end);
  /// The same for waits that ascend, as seen from cycle `origin` on. They must stay where they are until detach() or
  /// the end.
  void passed(const Wait* waits, std::size_t count, std::uint64_t origin);
  /// Nothing that was handed over is looked at any more.
  void detach();

  /// All cycles before `now` have been told and no beat is awaited: by port, how many of all of them the memory
  /// refreshed away. std::logic_error when beats are awaited.
  const Counts& counts(std::uint64_t now);

 private:
  struct Passed {
    std::uint64_t begin = 0, end = 0;
    const Wait* waits = nullptr;  // so many from `begin` on, or all cycles are of `port`
    std::size_t count = 0;
    MemoryPort port = MemoryPort::kWeightRead;
  };

  void settle();
  void count(const memory::MemoryModel::Held& held);
  void make_room();

  memory::MemoryModel& memory_;
  bool off_ = false;
  std::deque<Passed> passed_;
  const std::size_t least_room_;
  std::size_t room_;
  std::vector<memory::MemoryModel::Held> held_;  // that reach beyond what has passed
  Counts counts_{};
};

}  // namespace moesaic::program
