#pragma once
/// A memory model behind a TLM-2.0 target socket, for SystemC initiators of other projects: base protocol,
/// approximately timed (nb_transport), and b_transport for threads, which the socket turns into the same. A transaction
/// that begins at time t is submitted at the first edge of `period` at or after t, as a beat of port 0; END_REQ comes
/// when the model takes it, BEGIN_RESP at the edge at which it is finished. Reads answer in their order, writes in
/// theirs; of both, reads first. Bytes are kept, and read as 0 until written. Answers: TLM_BURST_ERROR_RESPONSE without
/// bytes or with a streaming width below the length, TLM_BYTE_ENABLE_ERROR_ RESPONSE with byte enables,
/// TLM_COMMAND_ERROR_RESPONSE for neither read nor write, TLM_ADDRESS_ERROR_RESPONSE beyond the memory's capacity.
#include <tlm.h>
#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <systemc>
#include <vector>

#include "models/memory/memory_model.h"

namespace moesaic::cosim {

class MemoryTarget final : public sc_core::sc_module {
 public:
  tlm_utils::simple_target_socket<MemoryTarget> socket{"socket"};

  /// std::logic_error when `period` is no multiple of the time resolution.
  MemoryTarget(const sc_core::sc_module_name& name, const memory::MemoryConfig& config, base::Femtoseconds period);
  const memory::MemoryModel& model() const { return *model_; }

 private:
  using Payload = tlm::tlm_generic_payload;
  struct Arrival {
    Payload* payload;
    sc_core::sc_time at;
  };
  tlm::tlm_sync_enum nb_transport_fw(Payload& payload, tlm::tlm_phase& phase, sc_core::sc_time& delay);
  tlm::tlm_response_status refusal(const Payload& payload) const;
  sc_core::sc_time edge_at(const sc_core::sc_time& time) const;
  void wake_at(const sc_core::sc_time& time);
  void step();
  void accept(base::Cycles now);
  void respond(base::Cycles now);
  void move_bytes(Payload& payload);

  sc_core::sc_time period_;
  std::optional<base::Bytes> capacity_;
  std::unique_ptr<memory::MemoryModel> model_;
  sc_core::sc_event wake_;
  std::deque<Arrival> arrivals_;
  std::deque<Payload*> owed_[2];   // reads, writes that the model has
  Payload* responding_ = nullptr;  // between BEGIN_RESP and END_RESP
  std::map<std::uint64_t, std::vector<std::uint8_t>> pages_;
};

}  // namespace moesaic::cosim
