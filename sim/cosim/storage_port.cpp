#include "sim/cosim/storage_port.h"

#include <algorithm>
#include <stdexcept>

#include "base/error.h"

namespace moesaic::cosim {

using base::Cycles;
using program::Descriptor;

namespace {

Cycles cycles(std::uint64_t count) { return Cycles(static_cast<std::int64_t>(count)); }

}  // namespace

StoragePort::StoragePort(program::HostAgent& agent, program::MemoryImage& image, storage::CoreStorage& model,
                         program::RunLog& log, const std::optional<std::uint64_t>& stall_seed, base::Rng& streams)
    : agent_(agent),
      image_(image),
      model_(model),
      log_(log),
      request_stalls_(program::Stalls::channel(stall_seed, streams)),
      answer_stalls_(program::Stalls::channel(stall_seed, streams)) {
  for (const program::ByteRange& range : agent_.prepare(image_))
    awaited_.add(range.address, range.address + range.bytes);
}

void StoragePort::push(const Descriptor& d, std::uint64_t now) {
  if (agent_.storage() == nullptr || !agent_.storage()->contains(d.source, d.bytes))
    throw std::logic_error("a load's source is not in the storage");
  if (!image_.contains(d.destination, d.bytes)) throw std::logic_error("a load's destination is not in the memory");
  waiting_.push_back(log_.load_pushed(d, now));
}

/// Until it completes, a load's destination holds the complement of what it will.
void StoragePort::poison(const Descriptor& d) {
  for (std::uint64_t i = 0; i < d.bytes; ++i)
    image_.write_byte(d.destination + i, static_cast<std::uint8_t>(~agent_.storage()->read(d.source + i)));
  awaited_.add(d.destination, d.destination + d.bytes);
}

void StoragePort::drive(CoreInputs& in, std::uint64_t now) {
  const bool stall = answer_stalls_.now();
  in.io_req_ready_i = !request_stalls_.now() && !refused_;
  model_.advance(cycles(now));
  if (!holding_ && !stall) holding_ = model_.finished(cycles(now));
  in.io_done_valid_i = holding_.has_value();
  in.io_done_id_i = holding_.value_or(0);
}

void StoragePort::sample(const CoreInputs& in, const CoreOutputs& out, std::uint64_t now) {
  if (holding_ && out.io_done_ready_o != 0) {
    complete(*holding_, now);
    model_.take(*holding_);
    holding_.reset();
  }
  if (out.io_req_valid_o != 0 && in.io_req_ready_i != 0) {
    const storage::StorageRequest request{static_cast<unsigned>(out.io_req_id_o), out.io_req_source_o,
                                          out.io_req_destination_o,
                                          base::Bytes(static_cast<std::int64_t>(out.io_req_bytes_o))};
    accept(request, now);
    refused_ = request;
  }
  if (refused_ && model_.submit(*refused_, cycles(now))) refused_.reset();
}

void StoragePort::accept(const storage::StorageRequest& request, std::uint64_t now) {
  for (auto waiting = waiting_.begin(); waiting != waiting_.end(); ++waiting) {
    const std::size_t load = *waiting;
    const Descriptor& d = log_.load(load).descriptor;
    if (d.source != request.source || d.destination != request.destination ||
        static_cast<std::int64_t>(d.bytes) != request.bytes.count()) {
      continue;
    }
    if (!load_of_.emplace(request.id, load).second)
      throw base::CheckError("storage port: got id " + std::to_string(request.id) +
                             " again, expected one that is free");
    waiting_.erase(waiting);
    log_.load_issued(load, now);
    poison(d);  // from now on the storage may write there
    return;
  }
  throw base::CheckError("storage port: got a request for " + std::to_string(request.bytes.count()) +
                         " bytes, expected one that a descriptor asks for");
}

void StoragePort::complete(unsigned id, std::uint64_t now) {
  const std::size_t load = load_of_.at(id);
  load_of_.erase(id);
  const Descriptor& d = log_.load(load).descriptor;
  for (std::uint64_t i = 0; i < d.bytes; ++i, ++bytes_)
    image_.write_byte(d.destination + i, agent_.storage()->read(d.source + i));
  awaited_.remove(d.destination, d.destination + d.bytes);
  log_.load_completed(load, now);
  ++completed_;
  agent_.load_completed(load, now + 1);
}

bool StoragePort::is_working(std::uint64_t now) const { return model_.next_change(cycles(now)).has_value(); }

std::string StoragePort::waits(const CoreOutputs& out) const {
  return "storage port owes " + std::to_string(load_of_.size()) + " completions" +
         (out.io_req_valid_o != 0 ? " and is asked for more" : "");
}

}  // namespace moesaic::cosim
