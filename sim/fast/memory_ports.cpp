#include "sim/fast/memory_ports.h"

#include <string>

#include "base/error.h"

namespace moesaic::fast {

namespace {

constexpr unsigned kWritesAccepted = 4;

std::string at_address(std::uint64_t address) {
  std::string digits;
  for (int shift = 36; shift >= 0; shift -= 4) digits += "0123456789abcdef"[address >> shift & 15];
  return "address 0x" + digits;
}

}  // namespace

void MemoryPorts::drive_reads(Core::Inputs& in, std::uint64_t now) {
  memory_.step();
  drive_read(weights_, kWeights, core_.weight_reader(), in.wgt_ar_ready, in.wgt_r_valid, now);
  drive_read(activations_, kActivations, core_.act_reader(), in.act_ar_ready, in.act_r_valid, now);
}

void MemoryPorts::drive_writes(Core::Inputs& in, std::uint64_t now) {
  in.aw_ready = !aw_stalls_.now() && addresses_ < kWritesAccepted;
  in.w_ready = !w_stalls_.now() && write_beats_ < kWritesAccepted;
  const bool b_stall = b_stalls_.now();
  b_holding_ = b_holding_ || (!b_stall && answers_ > 0 && memory_.comes(kWrites, true, now));
  in.b_valid = b_holding_;
}

bool MemoryPorts::sample_reads(const Core::Wires& w, std::uint64_t now) {
  submitted_ = false;
  sample_read(weights_, kWeights, core_.weight_reader(), w.wgt.r_fire, w.wgt.ar_fire, now);
  sample_read(activations_, kActivations, core_.act_reader(), w.act.r_fire, w.act.ar_fire, now);
  return submitted_;
}

inline void MemoryPorts::drive_read(ReadPort& port, unsigned number, const Reader& reader, bool& ar_ready,
                                    bool& r_valid, std::uint64_t now) {
  ar_ready = !port.address_stalls.now() && reader.owed < kBeatsAccepted;
  const bool stall = port.data_stalls.now();
  port.holding = port.holding || (!stall && reader.owed > port.waiting.size() && memory_.comes(number, false, now));
  r_valid = port.holding;
}

inline void MemoryPorts::sample_read(ReadPort& port, unsigned number, const Reader& reader, bool r_fire, bool ar_fire,
                                     std::uint64_t now) {
  if (r_fire) {
    memory_.take(number, false);
    ++beats_[number];
    port.holding = false;
  }
  if (ar_fire) {
    const unsigned asked = reader.asked();
    if (awaited_.contains_any(reader.address, reader.address + asked * beat_bytes_)) check_awaited(number, reader);
    unsigned i = 0;
    if (port.waiting.empty()) {  // most memories take all at once
      i = memory_.submit_reads(number, reader.address, asked, now);
      submitted_ = submitted_ || i > 0;
      if (i == asked) return;
    }
    const bool refused = port.waiting.empty();
    for (; i < asked; ++i) port.waiting.push_back(reader.address + i * beat_bytes_);
    if (refused) return;
  }
  while (!port.waiting.empty() && submit(number, false, port.waiting.front(), now)) port.waiting.pop_front();
}

bool MemoryPorts::sample_writes(const Core::Inputs& in, const Core::Wires& w, std::uint64_t now) {
  submitted_ = false;
  if (w.b_fire) {
    memory_.take(kWrites, true);
    --answers_;
    b_holding_ = false;
  }
  if (core_.aw_valid() && in.aw_ready) {
    ++addresses_;
    write_addresses_.push_back(core_.out_address());
  }
  if (core_.w_valid() && in.w_ready) ++write_beats_;
  while (addresses_ > 0 && write_beats_ > 0 && submit(kWrites, true, write_addresses_.front(), now)) {
    write_addresses_.pop_front();
    --addresses_;
    --write_beats_;
    ++beats_[kWrites];
    ++answers_;
  }
  return submitted_;
}

/// The memory may take what it refused while no block moves, which makes room at the ports.
inline bool MemoryPorts::submit(unsigned port, bool is_write, std::uint64_t address, std::uint64_t now) {
  const bool taken = memory_.submit(port, is_write, address, now);
  submitted_ = submitted_ || taken;
  return taken;
}

/// A beat was asked for because of one of its bytes at least; its other bytes may be a neighbour's.
void MemoryPorts::check_awaited(unsigned number, const Reader& reader) const {
  for (unsigned i = 0; i < reader.asked(); ++i) {
    const std::uint64_t beat = reader.address + i * beat_bytes_;
    bool named = false, there = false;
    for (std::uint64_t byte = beat; byte < beat + beat_bytes_ && !there; ++byte) {
      if (image_.region_at(byte) == nullptr) continue;
      named = true;
      there = !awaited_.contains(byte);
    }
    if (named && !there)
      throw base::CheckError(std::string(program::kMemoryPortNames[number]) + " port: got a read at " +
                             at_address(beat) + ", expected none before the load of that plane has completed");
  }
}

}  // namespace moesaic::fast
