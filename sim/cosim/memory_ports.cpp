#include "sim/cosim/memory_ports.h"

#include "base/error.h"

namespace moesaic::cosim {

using base::Bytes;
using base::CheckError;
using base::Cycles;
using program::Kind;
using program::MemoryPort;
using program::Stalls;

namespace {

constexpr std::size_t kBeatsAccepted = 64;  // of a read port, before it refuses addresses
constexpr std::size_t kWritesAccepted = 4;

Cycles cycles(std::uint64_t count) { return Cycles(static_cast<std::int64_t>(count)); }
unsigned number(MemoryPort port) { return static_cast<unsigned>(port); }

std::string port_name(MemoryPort port) { return std::string(program::kMemoryPortNames[number(port)]); }

std::string at(std::uint64_t address) {
  std::string digits;
  for (int shift = 36; shift >= 0; shift -= 4) digits += "0123456789abcdef"[address >> shift & 15];
  return "address 0x" + digits;
}

bool overlaps_region(const program::MemoryImage& image, std::uint64_t address, std::uint64_t bytes) {
  for (std::uint64_t i = 0; i < bytes; ++i) {
    if (image.region_at(address + i) != nullptr) return true;
  }
  return false;
}

}  // namespace

ReadPort::ReadPort(MemoryPort port, const program::MemoryImage& image, memory::MemoryModel& model,
                   program::Traffic& traffic, const program::CoreParams& params,
                   const std::optional<std::uint64_t>& stall_seed, base::Rng& streams)
    : port_(port),
      image_(image),
      model_(model),
      traffic_(traffic),
      beat_bytes_(params.beat_bytes()),
      address_stalls_(Stalls::channel(stall_seed, streams)),
      data_stalls_(Stalls::channel(stall_seed, streams)) {}

void ReadPort::drive(CoreInputs& in, std::uint64_t now) {
  const bool ready = !address_stalls_.now() && owed_.size() < kBeatsAccepted;
  const bool stall = data_stalls_.now();
  const bool valid = holding_ || (!stall && submitted_ > 0 && model_.finished(number(port_), false, cycles(now)) > 0);
  DataWords data{};
  bool last = false;
  if (valid) {
    std::uint8_t bytes[8 * std::tuple_size_v<DataWords>] = {};
    image_.read(owed_.front().address, bytes, beat_bytes_);
    for (unsigned i = 0; i < beat_bytes_; ++i) data[i / 8] |= std::uint64_t{bytes[i]} << (8 * (i % 8));
    last = owed_.front().last;
  }
  if (port_ == MemoryPort::kWeightRead) {
    in.wgt_ar_ready_i = ready;
    in.wgt_r_valid_i = valid;
    in.wgt_r_data_i = data;
    in.wgt_r_last_i = last;
  } else {
    in.act_ar_ready_i = ready;
    in.act_r_valid_i = valid;
    in.act_r_data_i = data;
    in.act_r_last_i = last;
  }
  holding_ = valid;
}

void ReadPort::sample(const CoreInputs& in, const CoreOutputs& out, std::uint64_t now) {
  const bool weights = port_ == MemoryPort::kWeightRead;
  const bool ready = (weights ? out.wgt_r_ready_o : out.act_r_ready_o) != 0;
  if (holding_ && ready) {
    model_.take(number(port_), false);
    traffic_.count(port_, owed_.front().address, beat_bytes_);
    owed_.pop_front();
    --submitted_;
    holding_ = false;
  }
  if (weights && out.wgt_ar_valid_o != 0 && in.wgt_ar_ready_i != 0) {
    accept(out.wgt_ar_addr_o, out.wgt_ar_len_o, out.wgt_ar_size_o, out.wgt_ar_burst_o);
  }
  if (!weights && out.act_ar_valid_o != 0 && in.act_ar_ready_i != 0) {
    accept(out.act_ar_addr_o, out.act_ar_len_o, out.act_ar_size_o, out.act_ar_burst_o);
  }
  while (submitted_ < owed_.size()) {
    const memory::Request request{number(port_), false, owed_[submitted_].address,
                                  Bytes(static_cast<std::int64_t>(beat_bytes_))};
    if (!model_.submit(request, cycles(now))) break;
    ++submitted_;
  }
}

void ReadPort::accept(std::uint64_t address, std::uint64_t len, std::uint64_t size, std::uint64_t burst) {
  const std::uint64_t bytes = (len + 1) * beat_bytes_;
  const bool legal = (std::uint64_t{1} << size) == beat_bytes_ && burst == 1 && address % beat_bytes_ == 0 &&
                     len < 16 && address / 4096 == (address + bytes - 1) / 4096;
  if (!legal) throw CheckError(port_name(port_) + " port: got an illegal burst at " + at(address));
  for (std::uint64_t i = 0; i <= len; ++i) {
    const std::uint64_t beat = address + i * beat_bytes_;
    if (!overlaps_region(image_, beat, beat_bytes_)) {
      throw CheckError(port_name(port_) + " port: got a read at " + at(beat) + ", expected one within a region");
    }
    if (is_awaited(beat)) {
      throw CheckError(port_name(port_) + " port: got a read at " + at(beat) +
                       ", expected none before the load of that plane has completed");
    }
    owed_.push_back({beat, i == len});
  }
}

/// A beat was asked for because of one of its bytes at least; its other bytes may be a neighbour's.
bool ReadPort::is_awaited(std::uint64_t beat) const {
  if (awaited_ == nullptr || awaited_->empty()) return false;
  for (std::uint64_t i = 0; i < beat_bytes_; ++i) {
    if (image_.region_at(beat + i) != nullptr && !awaited_->contains(beat + i)) return false;
  }
  return true;
}

std::string ReadPort::waits(const CoreOutputs& out) const {
  const bool asks = (port_ == MemoryPort::kWeightRead ? out.wgt_ar_valid_o : out.act_ar_valid_o) != 0;
  return port_name(port_) + " port owes " + std::to_string(owed_.size()) + " beats" +
         (asks ? " and is asked for more" : "");
}

WritePort::WritePort(program::MemoryImage& image, memory::MemoryModel& model, program::Traffic& traffic,
                     const program::CoreParams& params, const std::optional<std::uint64_t>& stall_seed,
                     base::Rng& streams)
    : image_(image),
      model_(model),
      traffic_(traffic),
      beat_bytes_(params.beat_bytes()),
      address_stalls_(Stalls::channel(stall_seed, streams)),
      data_stalls_(Stalls::channel(stall_seed, streams)),
      answer_stalls_(Stalls::channel(stall_seed, streams)) {}

void WritePort::drive(CoreInputs& in, std::uint64_t now) {
  in.out_aw_ready_i = !address_stalls_.now() && addresses_.size() < kWritesAccepted;
  in.out_w_ready_i = !data_stalls_.now() && data_.size() < kWritesAccepted;
  const bool stall = answer_stalls_.now();
  holding_ = holding_ || (!stall && owed_ > 0 && model_.finished(number(MemoryPort::kWrite), true, cycles(now)) > 0);
  in.out_b_valid_i = holding_;
}

void WritePort::sample(const CoreInputs& in, const CoreOutputs& out, std::uint64_t now) {
  if (holding_ && out.out_b_ready_o != 0) {
    model_.take(number(MemoryPort::kWrite), true);
    --owed_;
    holding_ = false;
  }
  if (out.out_aw_valid_o != 0 && in.out_aw_ready_i != 0) {
    const bool legal = (std::uint64_t{1} << out.out_aw_size_o) == beat_bytes_ && out.out_aw_burst_o == 1 &&
                       out.out_aw_addr_o % beat_bytes_ == 0 && out.out_aw_len_o == 0;
    if (!legal) throw CheckError("write port: got an illegal burst at " + at(out.out_aw_addr_o));
    addresses_.push_back(out.out_aw_addr_o);
  }
  if (out.out_w_valid_o != 0 && in.out_w_ready_i != 0) {
    if (out.out_w_last_o == 0) throw CheckError("write port: got a beat that is not the last of its burst");
    data_.push_back({out.out_w_data_o, out.out_w_strb_o});
  }
  while (!addresses_.empty() && !data_.empty()) {
    const memory::Request request{number(MemoryPort::kWrite), true, addresses_.front(),
                                  Bytes(static_cast<std::int64_t>(beat_bytes_))};
    if (!model_.submit(request, cycles(now))) break;
    store(addresses_.front(), data_.front());
    addresses_.pop_front();
    data_.pop_front();
    ++owed_;
  }
}

void WritePort::store(std::uint64_t address, const Data& data) {
  traffic_.count(MemoryPort::kWrite, address, beat_bytes_);
  for (unsigned i = 0; i < beat_bytes_; ++i) {
    if ((data.strobes >> i & 1) == 0) continue;
    const auto* region = image_.region_at(address + i);
    const bool writable = region != nullptr && program::is_written(region->kind);
    if (!writable) throw CheckError("write port: got a write at " + at(address + i) + ", expected one within results");
    image_.write_byte(address + i, static_cast<std::uint8_t>(data.words[i / 8] >> (8 * (i % 8))));
  }
}

std::string WritePort::waits(const CoreOutputs& out) const {
  return "write port owes " + std::to_string(owed_) + " answers, holds " + std::to_string(addresses_.size()) +
         " addresses and " + std::to_string(data_.size()) + " beats" +
         (out.out_aw_valid_o != 0 || out.out_w_valid_o != 0 ? " and is asked for more" : "");
}

}  // namespace moesaic::cosim
