#pragma once
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/command_signal.h"
#include "sim/cycle/common/core_params.h"

namespace moesaic::cycle {

/// Registers of the core behind AXI4-Lite. RTL twin: rtl/queue/moe_axil_regs.sv.
/// Rate one write and one read per two cycles, latency 2 cycles each, asynchronous reset; refused accesses answer
/// SLVERR.
class AxilRegs : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> axil_aw_valid_i{"axil_aw_valid_i"};
  sc_core::sc_out<bool> axil_aw_ready_o{"axil_aw_ready_o"};
  sc_core::sc_in<std::uint64_t> axil_aw_addr_i{"axil_aw_addr_i"};
  sc_core::sc_in<bool> axil_w_valid_i{"axil_w_valid_i"};
  sc_core::sc_out<bool> axil_w_ready_o{"axil_w_ready_o"};
  sc_core::sc_in<std::uint64_t> axil_w_data_i{"axil_w_data_i"};
  sc_core::sc_in<std::uint64_t> axil_w_strb_i{"axil_w_strb_i"};
  sc_core::sc_out<bool> axil_b_valid_o{"axil_b_valid_o"};
  sc_core::sc_in<bool> axil_b_ready_i{"axil_b_ready_i"};
  sc_core::sc_out<std::uint64_t> axil_b_resp_o{"axil_b_resp_o"};
  sc_core::sc_in<bool> axil_ar_valid_i{"axil_ar_valid_i"};
  sc_core::sc_out<bool> axil_ar_ready_o{"axil_ar_ready_o"};
  sc_core::sc_in<std::uint64_t> axil_ar_addr_i{"axil_ar_addr_i"};
  sc_core::sc_out<bool> axil_r_valid_o{"axil_r_valid_o"};
  sc_core::sc_in<bool> axil_r_ready_i{"axil_r_ready_i"};
  sc_core::sc_out<std::uint64_t> axil_r_data_o{"axil_r_data_o"};
  sc_core::sc_out<std::uint64_t> axil_r_resp_o{"axil_r_resp_o"};

  sc_core::sc_out<bool> push_valid_o{"push_valid_o"};
  sc_core::sc_out<program::Command> push_cmd_o{"push_cmd_o"};
  sc_core::sc_in<std::uint64_t> push_free_i{"push_free_i"};
  sc_core::sc_in<bool> busy_i{"busy_i"};
  sc_core::sc_in<bool> shift_error_i{"shift_error_i"};
  sc_core::sc_in<bool> resp_error_i{"resp_error_i"};
  sc_core::sc_in<bool> command_error_i{"command_error_i"};
  sc_core::sc_in<bool> io_error_i{"io_error_i"};

  sc_core::sc_out<bool> io_push_valid_o{"io_push_valid_o"};
  sc_core::sc_in<bool> io_push_accept_i{"io_push_accept_i"};
  sc_core::sc_out<program::Descriptor> io_push_desc_o{"io_push_desc_o"};
  sc_core::sc_out<std::uint64_t> io_order_o{"io_order_o"};
  sc_core::sc_out<std::uint64_t> io_credits_o{"io_credits_o"};
  sc_core::sc_in<std::uint64_t> io_free_i{"io_free_i"};
  sc_core::sc_in<std::uint64_t> io_outstanding_i{"io_outstanding_i"};
  sc_core::sc_in<std::uint64_t> io_jobs_used_i{"io_jobs_used_i"};
  sc_core::sc_in<std::uint64_t> io_jobs_released_i{"io_jobs_released_i"};

  sc_core::sc_out<bool> snapshot_o{"snapshot_o"};
  sc_core::sc_out<std::uint64_t> window_addr_o{"window_addr_o"};
  sc_core::sc_in<std::uint64_t> window_data_i{"window_data_i"};

  SC_HAS_PROCESS(AxilRegs);
  AxilRegs(sc_core::sc_module_name name, const CoreParams& params);

 private:
  enum class Write { kNone, kRefused, kStaging, kPush, kSnapshot, kIoStaging, kIoPush, kIoOrder, kIoCredits };
  Write pending_write() const;
  void step_write();
  void step_read();
  std::uint64_t read_register(std::uint64_t address, bool& good) const;
  void on_clock();
  void drive_state();
  void drive_write();

  CoreParams params_;
  bool aw_valid_ = false, w_valid_ = false, w_whole_ = false, b_valid_ = false, ar_valid_ = false, r_valid_ = false;
  std::uint64_t aw_addr_ = 0, w_data_ = 0, b_resp_ = 0, ar_addr_ = 0, r_data_ = 0, r_resp_ = 0;
  program::CommandWords staging_{};
  program::DescriptorWords io_staging_{};
  std::uint64_t io_order_ = 0, io_credits_ = 0;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
