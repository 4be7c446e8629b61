#include "sim/cycle/queue/counters.h"

namespace moesaic::cycle {

namespace {
constexpr std::uint64_t kMask = (std::uint64_t{1} << 48) - 1;
}

Counters::Counters(sc_core::sc_module_name name, unsigned blocks)
    : sc_module(name), activity_i("activity_i", blocks), live_(blocks), snapshot_(blocks) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive);
  sensitive << changed_ << window_addr_i;
}

void Counters::on_clock() {
  if (!rst_ni.read()) {
    for (auto& block : live_) block.fill(0);
    for (auto& block : snapshot_) block.fill(0);
    cycles_ = cycles_snapshot_ = 0;
    changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  if (snapshot_i.read()) {
    snapshot_ = live_;
    cycles_snapshot_ = cycles_;
    changed_.notify(sc_core::SC_ZERO_TIME);
  }
  for (std::size_t b = 0; b < live_.size(); ++b) {
    std::uint64_t& count = live_[b][activity_i[b].read()];
    count = (count + 1) & kMask;
  }
  cycles_ = (cycles_ + 1) & kMask;
}

void Counters::drive() {
  const std::uint64_t address = window_addr_i.read() * 4;
  std::uint64_t value = 0;
  if (address >= program::kRegCycles && address < program::kRegCycles + 8) {
    value = cycles_snapshot_;
  } else if (address >= program::kRegCounters && address < program::kRegCounters + 32 * snapshot_.size()) {
    const std::uint64_t index = (address - program::kRegCounters) / 8;
    value = snapshot_[index / 4][index % 4];
  }
  window_data_o.write(address % 8 == 0 ? value & 0xffffffffu : value >> 32);
}

}  // namespace moesaic::cycle
