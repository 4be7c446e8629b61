#include "sim/cycle/queue/io_queue.h"

#include <algorithm>

#include "sim/program/load_order.h"

namespace moesaic::cycle {

using program::Activity;
using program::Descriptor;
using program::LoadOrder;

IoQueue::IoQueue(sc_core::sc_module_name name, const CoreParams& params)
    : sc_module(name),
      depth_(params.io_depth),
      jobs_(params.io_jobs),
      id_busy_(params.io_credits),
      id_job_(params.io_credits) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_state);
  sensitive << changed_;
  SC_METHOD(drive_push);
  sensitive << changed_ << push_desc_i;
  SC_METHOD(drive_activity);
  sensitive << changed_ << push_valid_i << push_desc_i << credits_i << io_req_ready_i << io_done_valid_i;
}

bool IoQueue::accepts(const Descriptor& d) const {
  return waiting_.size() < depth_ && d.job < jobs_.size() && !jobs_[d.job].closed && d.bytes != 0 && d.plane <= 8;
}

bool IoQueue::selects() const {
  return !waiting_.empty() && outstanding_ < credits_i.read() && (!offered_ || io_req_ready_i.read());
}

/// A request that the storage has not accepted yet cannot have been completed.
bool IoQueue::is_owed(std::uint64_t id) const {
  return id < id_busy_.size() && id_busy_[id] && !(offered_ && offered_id_ == id);
}

void IoQueue::clear() {
  waiting_.clear();
  jobs_.assign(jobs_.size(), Job{});
  id_busy_.assign(id_busy_.size(), false);
  outstanding_ = offered_id_ = 0;
  offered_ = error_ = false;
  offered_load_ = {};
}

void IoQueue::on_clock() {
  if (!rst_ni.read()) {
    clear();
    changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  const bool push = pushes(), select = selects(), done = completes();
  const bool accepted = offered_ && io_req_ready_i.read();
  if (!push && !select && !done && !accepted && !pass_i.read() && !retire_i.read()) return;
  const std::uint64_t done_id = io_done_id_i.read();
  const bool known = done && is_owed(done_id);
  // The id of a new request is one that was free before this edge.
  const auto free_id = std::find(id_busy_.begin(), id_busy_.end(), false) - id_busy_.begin();

  if (known) {
    id_busy_[done_id] = false;
    --jobs_[id_job_[done_id]].missing;
    --outstanding_;
  }
  error_ = error_ || (done && !known);
  if (accepted) {
    offered_ = false;
    offered_id_ = 0;
    offered_load_ = {};
  }
  if (select) {
    const auto next = program::next_load(waiting_, static_cast<LoadOrder>(order_i.read()));
    offered_ = true;
    offered_id_ = static_cast<unsigned>(free_id);
    offered_load_ = waiting_[next];
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(next));
    id_busy_[offered_id_] = true;
    id_job_[offered_id_] = offered_load_.job;
    ++outstanding_;
  }
  if (push) {
    const Descriptor& d = push_desc_i.read();
    waiting_.push_back(d);
    Job& job = jobs_[d.job];
    job.used = true;
    job.closed = d.last;
    ++job.missing;
  }
  if (pass_i.read()) jobs_[pass_job_i.read()].passed = true;
  if (retire_i.read()) jobs_[retire_job_i.read()] = Job{};
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void IoQueue::drive_state() {
  free_o.write(depth_ - waiting_.size());
  outstanding_o.write(outstanding_);
  std::uint64_t used = 0, released = 0, fetchable = 0;
  for (std::size_t j = 0; j < jobs_.size(); ++j) {
    used |= std::uint64_t{jobs_[j].used} << j;
    released |= std::uint64_t{jobs_[j].released()} << j;
    fetchable |= std::uint64_t{jobs_[j].released() && !jobs_[j].passed} << j;
  }
  jobs_used_o.write(used);
  jobs_released_o.write(released);
  jobs_fetchable_o.write(fetchable);
  io_req_valid_o.write(offered_);
  io_req_id_o.write(offered_id_);
  io_req_source_o.write(offered_load_.source);
  io_req_destination_o.write(offered_load_.destination);
  io_req_bytes_o.write(offered_load_.bytes);
  io_done_ready_o.write(outstanding_ != 0);
  error_o.write(error_);
}

void IoQueue::drive_push() { push_accept_o.write(accepts(push_desc_i.read())); }

void IoQueue::drive_activity() {
  const bool accepted = offered_ && io_req_ready_i.read();
  const Activity activity = pushes() || selects() || accepted || completes() ? Activity::kBusy
                            : offered_                                       ? Activity::kBlocked
                            : outstanding_ != 0                              ? Activity::kStarved
                            : !waiting_.empty()                              ? Activity::kBlocked
                                                                             : Activity::kIdle;
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
