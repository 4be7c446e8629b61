#include "sim/cycle/queue/command_queue.h"

namespace moesaic::cycle {

using program::Activity;
using program::Command;

CommandQueue::CommandQueue(sc_core::sc_module_name name, const CoreParams& params)
    : sc_module(name), io_jobs_(params.io_jobs), entries_(params.command_depth) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_state);
  sensitive << changed_;
  SC_METHOD(drive_pass);
  sensitive << changed_ << fetchable_i;
  SC_METHOD(drive_activity);
  sensitive << changed_ << push_valid_i << fetch_ready_i << exec_ready_i << fetchable_i;
}

void CommandQueue::on_clock() {
  if (!rst_ni.read()) {
    head_ = fetch_ = tail_ = 0;
    changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  const bool push = push_valid_i.read() && tail_ - head_ < entries_.size();
  const bool pop = head_ != tail_ && exec_ready_i.read();
  const bool step = fetch_steps();
  if (!push && !pop && !step) return;
  if (push) entries_[tail_ % entries_.size()] = push_cmd_i.read();
  head_ += pop;
  fetch_ += step;
  tail_ += push;
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void CommandQueue::drive_state() {
  const std::uint64_t room = entries_.size() - (tail_ - head_);
  push_ready_o.write(room != 0);
  free_o.write(room);
  exec_valid_o.write(head_ != tail_);
  exec_cmd_o.write(head_ != tail_ ? entry(head_) : Command{});
  const bool fetchable = fetch_ != tail_ && fetch_is_matmul();
  fetch_valid_o.write(fetchable);
  fetch_cmd_o.write(fetchable ? entry(fetch_) : Command{});
}

void CommandQueue::drive_pass() {
  const bool pass = fetch_ != tail_ && fetch_is_wait() && !fetch_held();
  pass_o.write(pass);
  pass_job_o.write(pass ? entry(fetch_).job : 0);
}

void CommandQueue::drive_activity() {
  const bool push = push_valid_i.read() && tail_ - head_ < entries_.size();
  const bool pop = head_ != tail_ && exec_ready_i.read();
  const Activity activity = push || pop || fetch_steps() ? Activity::kBusy
                            : head_ != tail_             ? Activity::kBlocked
                                                         : Activity::kIdle;
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
