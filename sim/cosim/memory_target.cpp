#include "sim/cosim/memory_target.h"

#include <cmath>
#include <stdexcept>

namespace moesaic::cosim {

namespace {

constexpr std::uint64_t kPageBytes = 4096;

sc_core::sc_time time_of(base::Femtoseconds period) {
  const sc_core::sc_time time(static_cast<double>(period.count()), sc_core::SC_FS);
  const auto resolution =
      static_cast<std::int64_t>(std::llround(sc_core::sc_get_time_resolution().to_seconds() * 1e15));
  if (static_cast<std::int64_t>(time.value()) * resolution != period.count())
    throw std::logic_error("MemoryTarget: a period that is no multiple of SystemC's time resolution");
  return time;
}

}  // namespace

MemoryTarget::MemoryTarget(const sc_core::sc_module_name& name, const memory::MemoryConfig& config,
                           base::Femtoseconds period)
    : sc_module(name),
      period_(time_of(period)),
      capacity_(memory::capacity(config)),
      model_(memory::make_memory(config, period)) {
  socket.register_nb_transport_fw(this, &MemoryTarget::nb_transport_fw);
  sc_core::sc_spawn_options options;
  options.spawn_method();
  options.dont_initialize();
  options.set_sensitivity(&wake_);
  sc_core::sc_spawn([this] { step(); }, "step", &options);
}

tlm::tlm_response_status MemoryTarget::refusal(const Payload& payload) const {
  const std::uint64_t bytes = payload.get_data_length(), address = payload.get_address();
  if (!payload.is_read() && !payload.is_write()) return tlm::TLM_COMMAND_ERROR_RESPONSE;
  if (bytes == 0 || payload.get_streaming_width() < bytes) return tlm::TLM_BURST_ERROR_RESPONSE;
  if (payload.get_byte_enable_ptr() != nullptr) return tlm::TLM_BYTE_ENABLE_ERROR_RESPONSE;
  const std::uint64_t end = capacity_ ? static_cast<std::uint64_t>(capacity_->count()) : UINT64_MAX;
  if (address >= end || bytes > end - address) return tlm::TLM_ADDRESS_ERROR_RESPONSE;
  return tlm::TLM_OK_RESPONSE;
}

tlm::tlm_sync_enum MemoryTarget::nb_transport_fw(Payload& payload, tlm::tlm_phase& phase, sc_core::sc_time& delay) {
  const sc_core::sc_time at = sc_core::sc_time_stamp() + delay;
  if (phase == tlm::END_RESP) {
    if (responding_ == &payload) responding_ = nullptr;
    if (payload.has_mm()) payload.release();
    wake_at(edge_at(at));
    return tlm::TLM_COMPLETED;
  }
  if (phase != tlm::BEGIN_REQ) return tlm::TLM_ACCEPTED;
  const tlm::tlm_response_status status = refusal(payload);
  if (status != tlm::TLM_OK_RESPONSE) {
    payload.set_response_status(status);
    return tlm::TLM_COMPLETED;
  }
  if (payload.has_mm()) payload.acquire();
  arrivals_.push_back({&payload, at});
  wake_at(edge_at(at));
  return tlm::TLM_ACCEPTED;
}

sc_core::sc_time MemoryTarget::edge_at(const sc_core::sc_time& time) const {
  return period_ * static_cast<double>((time.value() + period_.value() - 1) / period_.value());
}

void MemoryTarget::wake_at(const sc_core::sc_time& time) { wake_.notify(time - sc_core::sc_time_stamp()); }

/// At an edge at which something may happen.
void MemoryTarget::step() {
  const base::Cycles now(static_cast<std::int64_t>(sc_core::sc_time_stamp().value() / period_.value()));
  accept(now);
  respond(now);
  if (const auto change = model_->next_change(now)) wake_at(period_ * static_cast<double>(change->count()));
  if (!arrivals_.empty()) {
    const sc_core::sc_time edge = edge_at(arrivals_.front().at);
    if (edge > sc_core::sc_time_stamp()) wake_at(edge);
  }
}

void MemoryTarget::accept(base::Cycles now) {
  while (!arrivals_.empty() && edge_at(arrivals_.front().at) <= sc_core::sc_time_stamp()) {
    Payload& payload = *arrivals_.front().payload;
    const memory::Request request{0, payload.is_write(), payload.get_address(),
                                  base::Bytes(static_cast<std::int64_t>(payload.get_data_length()))};
    if (!model_->submit(request, now)) return;
    arrivals_.pop_front();
    move_bytes(payload);
    owed_[payload.is_write() ? 1 : 0].push_back(&payload);
    tlm::tlm_phase phase = tlm::END_REQ;
    sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
    socket->nb_transport_bw(payload, phase, delay);
  }
}

void MemoryTarget::respond(base::Cycles now) {
  for (const bool is_write : {false, true}) {
    auto& owed = owed_[is_write ? 1 : 0];
    while (responding_ == nullptr && !owed.empty() && model_->finished(0, is_write, now) > 0) {
      model_->take(0, is_write);
      Payload& payload = *owed.front();
      owed.pop_front();
      payload.set_response_status(tlm::TLM_OK_RESPONSE);
      responding_ = &payload;
      tlm::tlm_phase phase = tlm::BEGIN_RESP;
      sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
      const tlm::tlm_sync_enum answer = socket->nb_transport_bw(payload, phase, delay);
      const bool over = answer == tlm::TLM_COMPLETED || (answer == tlm::TLM_UPDATED && phase == tlm::END_RESP);
      if (!over || responding_ != &payload) continue;
      responding_ = nullptr;
      if (payload.has_mm()) payload.release();
    }
  }
}

void MemoryTarget::move_bytes(Payload& payload) {
  for (unsigned i = 0; i < payload.get_data_length(); ++i) {
    const std::uint64_t address = payload.get_address() + i;
    const auto page = pages_.find(address / kPageBytes);
    std::uint8_t& outside = payload.get_data_ptr()[i];
    if (payload.is_write()) {
      auto& bytes = page == pages_.end() ? pages_[address / kPageBytes] : page->second;
      bytes.resize(kPageBytes);
      bytes[address % kPageBytes] = outside;
    } else {
      outside = page == pages_.end() ? std::uint8_t{0} : page->second[address % kPageBytes];
    }
  }
}

}  // namespace moesaic::cosim
