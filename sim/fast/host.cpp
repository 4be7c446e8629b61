#include "sim/fast/host.h"

#include "base/error.h"
#include "sim/program/scattered_planes.h"

namespace moesaic::fast {

using program::Command;
using program::Descriptor;

namespace {

constexpr unsigned kReadCycles = 3;  // of one read of a register, without stalls

template <class Words>
std::uint32_t differing(const Words& a, const Words& b, std::size_t from = 0) {
  std::uint32_t count = 0;
  for (std::size_t w = from; w < a.size(); ++w) count += a[w] != b[w] ? 1 : 0;
  return count;
}

}  // namespace

Host::Host(const program::IoSettings& settings, const program::CoreParams& params, program::Stalls stalls)
    : stalls_(stalls), credits_(params.io_credits) {
  if (settings.credits.value_or(params.io_credits) != params.io_credits)
    settings_.emplace_back(true, *settings.credits);
  if (settings.order != program::LoadOrder::kFifo)
    settings_.emplace_back(false, static_cast<std::uint32_t>(settings.order));
}

void Host::offer(const Command& command) {
  const program::CommandWords words = command.pack();
  constexpr unsigned kForgotten = program::kFirstScatteredWord;
  words_left_ = staged_known_ ? differing(words, staged_) : kForgotten + differing(words, staged_, kForgotten);
  staged_ = words;
  staged_known_ = true;
  has_command_ = true;
}

void Host::offer(const Descriptor& load) {
  load_ = load;
  load_job_ = load.job;
  io_words_left_ = differing(load.pack(), io_staged_);
  has_load_ = true;
}

void Host::start(Access access) {
  access_ = access;
  working_ = true;
  address_valid_ = data_valid_ = address_done_ = data_done_ = false;
}

/// Picks what to do next; false: nothing in this cycle. Descriptors go before commands; while one has to wait the host
/// asks for room between any two accesses for commands.
bool Host::begins() {
  if (!settings_.empty()) {
    start(Access::kSetting);
    return true;
  }
  if (has_load_) {
    if (!load_waits()) {
      begins_load_ = io_words_left_ == 0;
      if (begins_load_) pushing_ = load_;
      start(begins_load_ ? Access::kIoPush : Access::kIoStaging);
      return true;
    }
    if (!asked_) {
      asked_ = true;
      start((closed_jobs_ >> load_job_ & 1) != 0 ? Access::kIoJobs : Access::kIoStatus);
      return true;
    }
  }
  asked_ = false;
  if (!has_command_) return false;
  start(words_left_ != 0 ? Access::kStaging : room_ == 0 ? Access::kStatus : Access::kPush);
  return true;
}

void Host::drive(Core::Inputs& in) {
  const bool hold = stalls_.now();
  in.io.order = order_;
  in.io.credits = credits_;
  answer_ready_ = false;
  if (!working_ && !begins()) return;
  address_valid_ = !address_done_ && (address_valid_ || !hold);
  data_valid_ = is_write(access_) && !data_done_ && (data_valid_ || (address_done_ ? !hold : !stalls_.now()));
  answer_ready_ = !hold;
  if (!aw_valid_ || !w_valid_ || b_valid_) return;
  in.push = access_ == Access::kPush;
  if (access_ == Access::kIoPush) in.io.push = &pushing_;
}

Host::Told Host::sample(const Core& core, const Core::Inputs& in, const Core::Wires& wires) {
  Told told;
  if (!working_) return told;
  if (begins_load_) {
    begins_load_ = false;
    has_load_ = false;
    io_staged_ = pushing_.pack();
    if (pushing_.last) closed_jobs_ |= 1U << pushing_.job;
    told.load_pushed = true;
  }
  if (!is_write(access_)) {
    const bool take = address_valid_ && !ar_valid_, answer = ar_valid_ && !r_valid_;
    if (take) address_done_ = true;
    if (answer_ready_ && r_valid_) {
      finish_read();
      r_valid_ = false;
      r_value_ = 0;
    }
    if (take) ar_valid_ = true;
    if (answer) {
      ar_valid_ = false;
      r_valid_ = true;
      r_value_ = access_ == Access::kStatus     ? core.queue_free()
                 : access_ == Access::kIoStatus ? core.io_queue().free()
                                                : core.io_queue().used_jobs();
    }
  } else {
    const bool written = aw_valid_ && w_valid_ && !b_valid_;
    const bool take_address = address_valid_ && !aw_valid_, take_data = data_valid_ && !w_valid_;
    if (take_address) address_done_ = true;
    if (take_data) data_done_ = true;
    if (answer_ready_ && b_valid_) {
      b_valid_ = false;
      finish_write(told);
    }
    if (take_address) aw_valid_ = true;
    if (take_data) w_valid_ = true;
    if (written) {
      aw_valid_ = w_valid_ = false;
      b_valid_ = true;
      if (access_ == Access::kIoPush) refused_ = !wires.io.push;
      if (access_ == Access::kPush) refused_ = in.push && !wires.push;
      if (access_ == Access::kSetting && settings_.back().first) {
        refused_ = settings_.back().second > core.params().io_credits;
        credits_ = settings_.back().second;
      } else if (access_ == Access::kSetting) {
        order_ = static_cast<program::LoadOrder>(settings_.back().second);
      }
    }
  }
  if (!working_) address_valid_ = data_valid_ = address_done_ = data_done_ = false;
  return told;
}

void Host::finish_write(Told& told) {
  working_ = false;
  if (refused_) throw base::CheckError("axil_b_resp_o: got 2, expected 0 (OKAY)");
  switch (access_) {
    case Access::kStaging:
      --words_left_;
      break;
    case Access::kPush:
      ++unfinished_;
      --room_;
      has_command_ = false;
      told.command_pushed = true;
      break;
    case Access::kIoStaging:
      --io_words_left_;
      break;
    case Access::kIoPush:
      --io_room_;
      break;
    default:
      settings_.pop_back();
      break;
  }
}

void Host::finish_read() {
  working_ = false;
  if (access_ == Access::kStatus) room_ = r_value_;
  if (access_ == Access::kIoStatus) io_room_ = r_value_;
  if (access_ == Access::kIoJobs) closed_jobs_ &= r_value_;
}

unsigned Host::period(const Core& core) const {
  if (!settings_.empty()) return 0;
  // An answer on its way may be older than the registers.
  const auto stays = [this](Access access, std::uint32_t value) {
    return !r_valid_ || access_ != access || r_value_ == value;
  };
  const bool asks = has_command_ && words_left_ == 0 && room_ == 0 && core.queue_free() == 0;
  if (has_command_ && !asks) return 0;
  if (asks && !stays(Access::kStatus, 0)) return 0;
  bool asks_for_loads = false;
  if (has_load_) {
    const std::uint32_t used = core.io_queue().used_jobs(), job = 1U << load_job_;
    asks_for_loads = (closed_jobs_ & job) != 0 ? (used & job) != 0 && (closed_jobs_ & ~used) == 0
                                               : io_room_ == 0 && core.io_queue().free() == 0;
    if (!asks_for_loads || !stays(Access::kIoStatus, 0)) return 0;
    if (r_valid_ && access_ == Access::kIoJobs && (closed_jobs_ & ~r_value_) != 0) return 0;
  }
  const bool polls = (asks && access_ == Access::kStatus) ||
                     (asks_for_loads && (access_ == Access::kIoStatus || access_ == Access::kIoJobs));
  if (working_ && !polls) return 0;
  if (asks_for_loads) return asks ? 2 * kReadCycles : kReadCycles + 1;
  return asks ? kReadCycles : 1;
}

}  // namespace moesaic::fast
