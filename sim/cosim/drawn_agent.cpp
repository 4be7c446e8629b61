#include "sim/cosim/drawn_agent.h"

#include <algorithm>

namespace moesaic::cosim {

using program::Cause;

program::IoSettings DrawnAgent::settings() const { return {loads_.order, loads_.credits}; }

std::vector<program::ByteRange> DrawnAgent::prepare(program::MemoryImage& image) {
  return program::FixedProgram(program_, phases_, &loads_).prepare(image);
}

void DrawnAgent::on_phase_ended(std::uint64_t now) {
  ++phase_;
  open_ = all_offered_ = false;
  heard(now);
}

void DrawnAgent::on_woken(std::uint64_t now) {
  set_wake({});
  ++events_;
  offer_some(now);
}

/// Some events are let pass, and something may be said later. While anything is left to be offered, a time is set.
void DrawnAgent::heard(std::uint64_t now) {
  ++events_;
  if (rng_.chance(1, 4)) offer_some(now);
  const bool left = phase_ < phases_.size() && !all_offered_;
  const bool loads_left = next_load_ < loads_.loads.size();
  if (left || loads_left) {
    if (!wake() || rng_.chance(1, 8)) set_wake(now + rng_.below(rng_.chance(1, 8) ? 3000 : 60));
  } else if (phase_ == phases_.size()) {
    set_wake({});
    finish();
  }
  if (rng_.chance(1, 6)) set_idle_cause(rng_.chance(1, 2) ? Cause::kIo : Cause::kHost);
}

void DrawnAgent::offer_some(std::uint64_t now) {
  if (phase_ < phases_.size() && !open_) {
    open_phase({3 * phase_ + 1, now});
    open_ = true;
  } else if (phase_ < phases_.size() && !all_offered_) {
    const std::size_t end = end_of_phase(), many = rng_.below(rng_.chance(1, 3) ? 40 : 4);
    for (std::size_t i = 0; i < many && next_ < end; ++i, ++next_) offer(program_[next_], 5 * next_);
    all_offered_ = next_ == end && rng_.chance(1, 2);
    if (all_offered_) close_phase();
  }
  // A load is due as in FixedProgram, or at any time later.
  const std::size_t due = open_ ? next_ : 0, most = rng_.below(12);
  for (std::size_t i = 0; i < most && next_load_ < loads_.loads.size(); ++i) {
    const std::size_t command = loads_.loads[next_load_].command;
    if (command > due || (open_ && command >= end_of_phase() && phase_ + 1 < phases_.size())) break;
    offer(loads_.loads[next_load_++].descriptor);
  }
  const bool left = (phase_ < phases_.size() && !all_offered_) || next_load_ < loads_.loads.size();
  if (left && !wake()) set_wake(now + 1 + rng_.below(rng_.chance(1, 8) ? 3000 : 60));
}

}  // namespace moesaic::cosim
