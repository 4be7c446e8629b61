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

StoragePort::StoragePort(const program::LoadProgram* program, program::MemoryImage& image, storage::CoreStorage& model,
                         std::vector<program::EngineRun::LoadTimes>& times,
                         const std::optional<std::uint64_t>& stall_seed, base::Rng& streams)
    : program_(program),
      image_(image),
      model_(model),
      times_(times),
      request_stalls_(program::Stalls::channel(stall_seed, streams)),
      answer_stalls_(program::Stalls::channel(stall_seed, streams)) {
  if (program_ == nullptr) return;
  issued_.resize(program_->loads.size());
  times_.resize(program_->loads.size());
  for (const program::PlaneLoad& load : program_->loads) {
    const Descriptor& d = load.descriptor;
    if (!program_->storage.contains(d.source, d.bytes)) throw std::logic_error("a load's source is not in the storage");
    if (!image_.contains(d.destination, d.bytes)) throw std::logic_error("a load's destination is not in the memory");
    poison(d);
  }
}

void StoragePort::poison(const Descriptor& d) {
  for (std::uint64_t i = 0; i < d.bytes; ++i)
    image_.write_byte(d.destination + i, static_cast<std::uint8_t>(~program_->storage.read(d.source + i)));
  awaited_.add(d.destination, d.destination + d.bytes);
}

void StoragePort::drive(CoreInputs& in, std::uint64_t now) {
  const bool stall = answer_stalls_.now();
  in.io_req_ready_i = !request_stalls_.now() && !refused_;
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
  const std::size_t loads = program_ == nullptr ? 0 : program_->loads.size();
  for (std::size_t i = 0; i < loads; ++i) {
    const Descriptor& d = program_->loads[i].descriptor;
    if (issued_[i] || d.source != request.source || d.destination != request.destination ||
        static_cast<std::int64_t>(d.bytes) != request.bytes.count()) {
      continue;
    }
    if (!load_of_.emplace(request.id, i).second)
      throw base::CheckError("storage port: got id " + std::to_string(request.id) +
                             " again, expected one that is free");
    issued_[i] = true;
    times_[i].issued = now;
    poison(d);  // from now on the storage may write there
    return;
  }
  throw base::CheckError("storage port: got a request for " + std::to_string(request.bytes.count()) +
                         " bytes, expected one that a descriptor asks for");
}

void StoragePort::complete(unsigned id, std::uint64_t now) {
  const std::size_t load = load_of_.at(id);
  load_of_.erase(id);
  const Descriptor& d = program_->loads[load].descriptor;
  for (std::uint64_t i = 0; i < d.bytes; ++i)
    image_.write_byte(d.destination + i, program_->storage.read(d.source + i));
  awaited_.remove(d.destination, d.destination + d.bytes);
  times_[load].completed = now;
  ++completed_;
}

bool StoragePort::is_working(std::uint64_t now) const { return model_.next_change(cycles(now)).has_value(); }

std::string StoragePort::waits(const CoreOutputs& out) const {
  return "storage port owes " + std::to_string(load_of_.size()) + " completions" +
         (out.io_req_valid_o != 0 ? " and is asked for more" : "");
}

}  // namespace moesaic::cosim
