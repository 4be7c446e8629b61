#pragma once
/// The memory's timing from any TLM-2.0 target: a MemoryModel whose socket another SystemC memory is bound to. Each
/// beat is one b_transport() of the generic payload; the delay that the target annotates, rounded up to whole cycles
/// and at least one, says when the beat is finished. The target must not call wait(): the bench is no SystemC thread.
/// Data stays in the bench's memory image (the target sees zeros); beats of a port and direction finish in order.
#include <tlm.h>
#include <tlm_utils/simple_initiator_socket.h>

#include <array>
#include <deque>
#include <optional>
#include <string>
#include <systemc>

#include "models/memory/memory_model.h"

namespace moesaic::cosim {

class TlmMemory final : public sc_core::sc_module, public memory::MemoryModel {
 public:
  tlm_utils::simple_initiator_socket<TlmMemory> socket{"socket"};

  /// `period` of the core's clock; `target` is what results are labelled with.
  TlmMemory(const sc_core::sc_module_name& name, sc_core::sc_time period, std::string target);

  std::string name() const override { return "tlm(" + target_ + ")"; }
  /// base::CheckError when the target answers anything but TLM_OK_RESPONSE.
  bool submit(const memory::Request& request, base::Cycles now) override;
  std::int64_t finished(unsigned port, bool is_write, base::Cycles now) override;
  void take(unsigned port, bool is_write) override;
  std::optional<base::Cycles> next_change(base::Cycles now) override;
  void reset() override;

 private:
  static constexpr std::size_t kPorts = 4;  // the core's, and the storage's
  std::deque<std::int64_t>& due(unsigned port, bool is_write) { return due_.at(2 * port + (is_write ? 1 : 0)); }

  sc_core::sc_time period_;
  std::string target_;
  std::array<std::deque<std::int64_t>, 2 * kPorts> due_;  // cycle of each beat, by port and direction
};

}  // namespace moesaic::cosim
