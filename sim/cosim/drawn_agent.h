#pragma once
/// A program that comes into being while it runs, at random: what program::FixedProgram offers at once is offered in
/// portions, at events and at times drawn from a seed, phases begin late, and the agent says for which of its causes an
/// idle core waits. The same events at the same times give the same offers, so that engines which differ anywhere
/// differ from there on.
#include <cstdint>
#include <vector>

#include "base/rng.h"
#include "sim/program/host_agent.h"

namespace moesaic::cosim {

class DrawnAgent final : public program::HostAgent {
 public:
  /// As FixedProgram. All outlive it.
  DrawnAgent(std::uint64_t seed, const std::vector<program::Command>& commands, const std::vector<std::size_t>& phases,
             const program::LoadProgram& loads)
      : rng_(seed), program_(commands), phases_(phases), loads_(loads) {}

  program::IoSettings settings() const override;
  const program::MemoryImage* storage() const override { return &loads_.storage; }
  std::vector<program::ByteRange> prepare(program::MemoryImage& image) override;
  std::vector<memory::Counter> counters() const override { return {{"events", events_}}; }

 private:
  void on_begin() override { heard(0); }
  void on_command_pushed(std::uint64_t now) override { heard(now); }
  void on_load_pushed(std::uint64_t now) override { heard(now); }
  void on_load_completed(std::size_t, std::uint64_t now) override { heard(now); }
  void on_command_executed(std::uint64_t now) override { heard(now); }
  void on_phase_ended(std::uint64_t now) override;
  void on_woken(std::uint64_t now) override;
  void heard(std::uint64_t now);
  void offer_some(std::uint64_t now);
  std::size_t end_of_phase() const { return phase_ + 1 < phases_.size() ? phases_[phase_ + 1] : program_.size(); }

  base::Rng rng_;
  const std::vector<program::Command>& program_;
  const std::vector<std::size_t>& phases_;
  const program::LoadProgram& loads_;
  std::size_t phase_ = 0, next_ = 0, next_load_ = 0;  // the running phase; not offered yet
  bool open_ = false, all_offered_ = false;           // the phase's work is known; all of it is offered
  std::uint64_t events_ = 0;
};

}  // namespace moesaic::cosim
