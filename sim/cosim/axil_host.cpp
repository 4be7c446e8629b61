#include "sim/cosim/axil_host.h"

#include "base/error.h"

namespace moesaic::cosim {

using namespace program;

AxilHost::AxilHost(const HostAgent& agent, Listener& listener, const CoreParams& params, Stalls stalls,
                   bool fresh_phases)
    : agent_(agent),
      listener_(listener),
      stalls_(stalls),
      fresh_phases_(fresh_phases),
      staged_known_(fresh_phases ? kNeverForgotten : ~0U) {
  const IoSettings settings = agent.settings();
  if (settings.credits.value_or(params.io_credits) != params.io_credits)
    settings_.emplace_back(kRegIoCredits, *settings.credits);
  if (settings.order != LoadOrder::kFifo)
    settings_.emplace_back(kRegIoOrder, static_cast<std::uint32_t>(settings.order));
}

void AxilHost::start(const Access& access) {
  access_ = access;
  working_ = true;
  address_valid_ = data_valid_ = address_done_ = data_done_ = answer_ready_ = false;
}

bool AxilHost::next_setting() {
  if (settings_.empty()) return false;
  start_write(settings_.back().first, settings_.back().second);
  settings_.pop_back();
  return true;
}

bool AxilHost::next_load_access() {
  if (agent_.loads().empty()) return false;
  const Descriptor& descriptor = agent_.loads().front();
  const bool job_is_closed = (closed_jobs_ >> descriptor.job & 1) != 0;
  if (job_is_closed || io_room_ == 0) {
    if (asked_) return false;
    asked_ = true;
    start_read(job_is_closed ? kRegIoJobs : kRegIoStatus);
    return true;
  }
  const DescriptorWords wanted = descriptor.pack();
  for (unsigned w = 0; w < kDescriptorWords; ++w) {
    if (io_staged_[w] != wanted[w]) {
      start_write(kRegIoStaging + 4 * w, wanted[w]);
      return true;
    }
  }
  start_write(kRegIoPush, 0);
  pushing_load_ = true;
  return true;
}

/// Picks what to do next; false: nothing in this cycle.
bool AxilHost::next_access(bool idle) {
  switch (stage_) {
    case Stage::kCommands: {
      if (next_setting() || next_load_access()) return true;
      asked_ = false;
      if (agent_.commands().empty()) {
        if (!idle || !agent_.is_finished()) return false;
        stage_ = Stage::kSnapshot;
        start_write(kRegSnapshot, 0);
        return true;
      }
      if (!has_wanted_) {
        wanted_ = agent_.commands().front().command.pack();
        has_wanted_ = true;
      }
      for (unsigned w = 0; w < kCommandWords; ++w) {
        if ((staged_known_ >> w & 1U) == 0 || staged_[w] != wanted_[w]) {
          start_write(kRegStaging + 4 * w, wanted_[w]);
          return true;
        }
      }
      if (room_ == 0)
        start_read(kRegStatus);
      else
        start_write(kRegPush, 0);
      return true;
    }
    case Stage::kSnapshot:
      stage_ = Stage::kStatus;
      start_read(kRegStatus);
      return true;
    case Stage::kStatus:
      stage_ = Stage::kCycles;
      word_ = 0;
      start_read(kRegCycles);
      return true;
    case Stage::kCycles:
      if (++word_ < 2) {
        start_read(kRegCycles + 4);
        return true;
      }
      stage_ = Stage::kCounters;
      word_ = 0;
      start_read(kRegCounters);
      return true;
    case Stage::kCounters:
      // A counter's high word is read only when the run was long enough for it to matter.
      word_ += cycles_ >> 32 != 0 ? 1 : 2;
      if (word_ < 8 * kNumBlocks) {
        start_read(kRegCounters + 4 * word_);
        return true;
      }
      stage_ = Stage::kDone;
      return false;
    case Stage::kDone:
      return false;
  }
  return false;
}

void AxilHost::drive(CoreInputs& in, bool idle) {
  const bool hold = stalls_.now();
  if (!working_ && !next_access(idle)) return;
  // A valid that is up stays up; a new one may be held back, address and data apart.
  address_valid_ = !address_done_ && (address_valid_ || !hold);
  data_valid_ = access_.write && !data_done_ && (data_valid_ || (address_done_ ? !hold : !stalls_.now()));
  answer_ready_ = !hold;
  if (access_.write) {
    in.axil_aw_valid_i = address_valid_;
    in.axil_aw_addr_i = address_valid_ ? access_.address : 0;
    in.axil_w_valid_i = data_valid_;
    in.axil_w_data_i = data_valid_ ? access_.data : 0;
    in.axil_w_strb_i = data_valid_ ? 0xf : 0;
    in.axil_b_ready_i = answer_ready_;
  } else {
    in.axil_ar_valid_i = address_valid_;
    in.axil_ar_addr_i = address_valid_ ? access_.address : 0;
    in.axil_r_ready_i = answer_ready_;
  }
}

void AxilHost::sample(const CoreInputs& in, const CoreOutputs& out) {
  if (!working_) return;
  if (pushing_load_) {
    pushing_load_ = false;
    const Descriptor& pushed = agent_.loads().front();
    if (pushed.last) closed_jobs_ |= std::uint64_t{1} << pushed.job;
    ++loads_pushed_;
    listener_.load_pushed(pushed);
  }
  if (access_.write) {
    if (in.axil_aw_valid_i != 0 && out.axil_aw_ready_o != 0) address_done_ = true;
    if (in.axil_w_valid_i != 0 && out.axil_w_ready_o != 0) data_done_ = true;
    if (in.axil_b_ready_i != 0 && out.axil_b_valid_o != 0) finish_write(out.axil_b_resp_o);
  } else {
    if (in.axil_ar_valid_i != 0 && out.axil_ar_ready_o != 0) address_done_ = true;
    if (in.axil_r_ready_i != 0 && out.axil_r_valid_o != 0) finish_read(out.axil_r_data_o, out.axil_r_resp_o);
  }
}

void AxilHost::finish_write(std::uint64_t response) {
  working_ = false;
  if (response != 0) throw base::CheckError("axil_b_resp_o: got " + std::to_string(response) + ", expected 0 (OKAY)");
  if (access_.address == kRegPush) {
    ++pushed_;
    --room_;
    has_wanted_ = false;
    listener_.command_pushed(agent_.commands().front());
  } else if (access_.address == kRegIoPush) {
    --io_room_;
  } else if (access_.address >= kRegIoStaging && access_.address < kRegIoStaging + 4 * kDescriptorWords) {
    io_staged_[(access_.address - kRegIoStaging) / 4] = access_.data;
  } else if (access_.address >= kRegStaging && access_.address < kRegStaging + 4 * kCommandWords) {
    staged_[(access_.address - kRegStaging) / 4] = access_.data;
    staged_known_ |= 1U << ((access_.address - kRegStaging) / 4);
  }
}

void AxilHost::finish_read(std::uint64_t data, std::uint64_t response) {
  working_ = false;
  if (response != 0) throw base::CheckError("axil_r_resp_o: got " + std::to_string(response) + ", expected 0 (OKAY)");
  if (access_.address == kRegStatus) {
    status_ = data;
    room_ = data >> 8 & 0xff;
  } else if (access_.address == kRegIoStatus) {
    io_room_ = data & 0xff;
  } else if (access_.address == kRegIoJobs) {
    closed_jobs_ &= data & 0xffff;
  } else if (access_.address >= kRegCounters) {
    counters_[word_ / 8][word_ / 2 % 4] |= data << (32 * (word_ % 2));
  } else {
    cycles_ |= data << (32 * word_);
  }
}

std::string AxilHost::waits() const {
  if (working_) return "host waits for an answer at address " + std::to_string(access_.address);
  return "host has pushed " + std::to_string(pushed_) + " commands and " + std::to_string(loads_pushed_) +
         " descriptors, and is offered " + std::to_string(agent_.commands().size()) + " and " +
         std::to_string(agent_.loads().size());
}

}  // namespace moesaic::cosim
