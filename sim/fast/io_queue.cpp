#include "sim/fast/io_queue.h"

#include "sim/program/load_order.h"

namespace moesaic::fast {

using program::Activity;
using program::Descriptor;

IoQueue::IoQueue(const program::CoreParams& params)
    : depth_(params.io_depth), credits_(params.io_credits), jobs_(params.io_jobs) {
  waiting_.reserve(depth_);
}

void IoQueue::reset() {
  waiting_.clear();
  used_ = closed_ = passed_ = 0;
  missing_ = {};
  busy_ids_ = 0;
  job_of_id_ = {};
  outstanding_ = offered_id_ = 0;
  offered_ = error_ = false;
  offered_load_ = {};
}

bool IoQueue::accepts(const Descriptor& d) const {
  return waiting_.size() < depth_ && d.job < jobs_ && (closed_ >> d.job & 1) == 0 && d.bytes != 0 && d.plane <= 8;
}

IoQueue::Wires IoQueue::evaluate(const Inputs& in) const {
  Wires w;
  w.push = in.push != nullptr && accepts(*in.push);
  w.accepted = offered_ && in.req_ready;
  w.select = !waiting_.empty() && outstanding_ < in.credits && (!offered_ || in.req_ready);
  w.done = in.done_valid && outstanding_ != 0;
  return w;
}

Activity IoQueue::activity(const Wires& w) const {
  if (w.any()) return Activity::kBusy;
  if (offered_) return Activity::kBlocked;
  if (outstanding_ != 0) return Activity::kStarved;
  return waiting_.empty() ? Activity::kIdle : Activity::kBlocked;
}

void IoQueue::clock(const Inputs& in, const Wires& w) {
  // The id of a new request is one that was free before this edge.
  unsigned free_id = 0;
  while (free_id < 64 && (busy_ids_ >> free_id & 1) != 0) ++free_id;
  const bool known = w.done && is_owed(in.done_id);
  if (known) {
    busy_ids_ &= ~(std::uint64_t{1} << in.done_id);
    --missing_[job_of_id_[in.done_id]];
    --outstanding_;
  }
  error_ = error_ || (w.done && !known);
  if (w.accepted) {
    offered_ = false;
    offered_id_ = 0;
    offered_load_ = {};
  }
  if (w.select) {
    const std::size_t next = program::next_load(waiting_, in.order);
    offered_ = true;
    offered_id_ = free_id;
    offered_load_ = waiting_[next];
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(next));
    busy_ids_ |= std::uint64_t{1} << free_id;
    job_of_id_[free_id] = offered_load_.job;
    ++outstanding_;
  }
  if (w.push) {
    const Descriptor& d = *in.push;
    waiting_.push_back(d);
    used_ |= 1U << d.job;
    if (d.last) closed_ |= 1U << d.job;
    ++missing_[d.job];
  }
}

void IoQueue::retire(unsigned job) {
  used_ &= ~(1U << job);
  closed_ &= ~(1U << job);
  passed_ &= ~(1U << job);
  missing_[job] = 0;
}

std::uint32_t IoQueue::released_jobs() const {
  std::uint32_t released = 0;
  for (unsigned j = 0; j < jobs_; ++j) released |= (is_released(j) ? 1U : 0U) << j;
  return released;
}

}  // namespace moesaic::fast
