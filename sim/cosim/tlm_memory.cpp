#include "sim/cosim/tlm_memory.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"

namespace moesaic::cosim {

TlmMemory::TlmMemory(const sc_core::sc_module_name& name, sc_core::sc_time period, std::string target)
    : sc_module(name), period_(period), target_(std::move(target)) {}

bool TlmMemory::submit(const memory::Request& request, base::Cycles now) {
  std::vector<unsigned char> data(static_cast<std::size_t>(request.bytes.count()));
  tlm::tlm_generic_payload payload;
  payload.set_command(request.is_write ? tlm::TLM_WRITE_COMMAND : tlm::TLM_READ_COMMAND);
  payload.set_address(request.address);
  payload.set_data_ptr(data.data());
  payload.set_data_length(static_cast<unsigned>(data.size()));
  payload.set_streaming_width(static_cast<unsigned>(data.size()));
  payload.set_response_status(tlm::TLM_INCOMPLETE_RESPONSE);
  sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
  socket->b_transport(payload, delay);
  if (!payload.is_response_ok()) {
    throw base::CheckError(target_ + ": got " + payload.get_response_string() + ", expected TLM_OK_RESPONSE");
  }
  const auto cycles = static_cast<std::int64_t>((delay.value() + period_.value() - 1) / period_.value());
  if (request.posted) return true;
  auto& beats = due(request.port, request.is_write);
  const std::int64_t at = now.count() + std::max<std::int64_t>(cycles, 1);
  beats.push_back(beats.empty() ? at : std::max(at, beats.back()));
  return true;
}

std::int64_t TlmMemory::finished(unsigned port, bool is_write, base::Cycles now) {
  const auto& beats = due(port, is_write);
  return std::upper_bound(beats.begin(), beats.end(), now.count()) - beats.begin();
}

void TlmMemory::take(unsigned port, bool is_write) { due(port, is_write).pop_front(); }

std::optional<base::Cycles> TlmMemory::next_change(base::Cycles now) {
  std::optional<base::Cycles> next;
  for (const auto& beats : due_) {
    const auto later = std::upper_bound(beats.begin(), beats.end(), now.count());
    if (later != beats.end() && (!next || base::Cycles(*later) < *next)) next = base::Cycles(*later);
  }
  return next;
}

void TlmMemory::reset() {
  for (auto& beats : due_) beats.clear();
}

}  // namespace moesaic::cosim
