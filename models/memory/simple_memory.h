#pragma once
#include <deque>
#include <vector>

#include "models/memory/memory_model.h"

namespace moesaic::memory {

/// Fixed latency, and one bandwidth that all ports share first come, first served: a beat of b bytes occupies the
/// memory for b / bytes_per_cycle cycles (no rounding between beats) and finishes latency cycles after its last byte.
/// Of posted writes, whose sender does not wait for them, 64 beats at most are taken ahead.
class SimpleMemory final : public MemoryModel {
 public:
  explicit SimpleMemory(const MemoryConfig& config) : config_(config) {}
  std::string name() const override;
  bool submit(const Request& request, Cycles now) override;
  std::int64_t finished(unsigned port, bool is_write, Cycles now) override;
  void take(unsigned port, bool is_write) override;
  std::optional<Cycles> next_change(Cycles now) override;
  void reset() override;
  Cycles longest_wait() const override;
  bool export_state(Cycles now, std::vector<std::int64_t>& state) const override;
  void import_state(Cycles now, const std::vector<std::int64_t>& state) override;

 private:
  std::deque<std::int64_t>& queue(unsigned port, bool is_write) {
    const std::size_t index = 2 * std::size_t{port} + (is_write ? 1 : 0);
    if (index >= due_.size()) due_.resize(index + 1);
    return due_[index];
  }
  static constexpr std::size_t kMostPosted = 64;
  MemoryConfig config_;
  std::int64_t next_byte_ = 0;                 // bytes the memory could have moved until it is free
  std::vector<std::deque<std::int64_t>> due_;  // cycle of each beat, ascending, by port and direction
  std::deque<std::int64_t> posted_;            // of each posted write what next_byte_ was behind it
};

}  // namespace moesaic::memory
