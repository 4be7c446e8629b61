#include "sim/fast/storage_port.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "base/error.h"

namespace moesaic::fast {

using base::Cycles;
using program::Descriptor;

namespace {

Cycles cycles(std::uint64_t count) { return Cycles(static_cast<std::int64_t>(count)); }

}  // namespace

void StoragePort::push(const Descriptor& d, std::uint64_t now) {
  if (agent_.storage() == nullptr || !agent_.storage()->contains(d.source, d.bytes))
    throw std::logic_error("a load's source is not in the storage");
  if (!image_.contains(d.destination, d.bytes)) throw std::logic_error("a load's destination is not in the memory");
  waiting_.push_back(log_.load_pushed(d, now));
}

void StoragePort::drive(IoQueue::Inputs& in, std::uint64_t now) {
  const bool stall = answer_stalls_.now();
  in.req_ready = !request_stalls_.now() && !refused_;
  if (under_way_ == 0) return;
  if (model_->waits_for_memory()) next_ = 0;
  model_->advance(cycles(now));
  if (model_->waits_for_memory()) next_ = 0;
  if (!holding_ && !stall) holding_ = model_->finished(cycles(now));
  in.done_valid = holding_.has_value();
  in.done_id = holding_.value_or(0);
}

StoragePort::Told StoragePort::sample(const IoQueue& queue, const IoQueue::Inputs& in, const IoQueue::Wires& wires,
                                      std::uint64_t now) {
  Told told;
  if (under_way_ == 0 && !wires.accepted) return told;
  if (wires.done) {
    const std::size_t load = load_of_[in.done_id];
    const Descriptor& d = log_.load(load).descriptor;
    awaited_.remove(d.destination, d.destination + d.bytes);
    log_.load_completed(load, now);
    --under_way_;
    ++completed_;
    told.completed = load;
    model_->take(in.done_id);
    holding_.reset();
    told.moved = true;
  }
  if (wires.accepted) {
    const Descriptor& d = queue.offered();
    accept(d, queue.offered_id(), now);
    refused_ = storage::StorageRequest{queue.offered_id(), d.source, d.destination,
                                       base::Bytes(static_cast<std::int64_t>(d.bytes))};
    told.moved = true;
  }
  if (refused_ && model_->submit(*refused_, cycles(now))) {
    refused_.reset();
    told.moved = true;
  }
  if (told.moved || refused_) next_ = 0;
  return told;
}

void StoragePort::accept(const Descriptor& request, unsigned id, std::uint64_t now) {
  const auto found = std::find_if(waiting_.begin(), waiting_.end(), [&](std::size_t load) {
    const Descriptor& d = log_.load(load).descriptor;
    return d.source == request.source && d.destination == request.destination && d.bytes == request.bytes;
  });
  if (found == waiting_.end()) throw std::logic_error("the I/O queue asks for what was not pushed");
  load_of_[id] = *found;
  log_.load_issued(*found, now);
  waiting_.erase(found);
  ++under_way_;
  awaited_.add(request.destination, request.destination + request.bytes);
}

std::uint64_t StoragePort::next_change(std::uint64_t now) {
  if (next_ <= now) {
    const auto next = model_->next_change(cycles(now));
    next_ = next ? static_cast<std::uint64_t>(next->count()) : kNever;
  }
  return next_;
}

std::uint64_t StoragePort::next_word(std::uint64_t now) {
  if (under_way_ == 0) return kNever;
  if (holding_ || model_->finished(cycles(now))) return now;
  return now == 0 ? now : next_change(now - 1);
}

}  // namespace moesaic::fast
