#pragma once
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/command_signal.h"
#include "sim/cycle/common/core_params.h"

namespace moesaic::cycle {

/// Executes one command at a time and holds the row table; a wait is held until its job is released. RTL twin:
/// rtl/core/moe_scheduler.sv. Asynchronous reset.
class Scheduler : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> exec_valid_i{"exec_valid_i"};
  sc_core::sc_out<bool> exec_ready_o{"exec_ready_o"};
  sc_core::sc_in<program::Command> exec_cmd_i{"exec_cmd_i"};
  sc_core::sc_out<bool> load_start_o{"load_start_o"};
  sc_core::sc_in<bool> load_done_i{"load_done_i"};
  sc_core::sc_out<bool> sequence_start_o{"sequence_start_o"};
  sc_core::sc_in<bool> sequence_done_i{"sequence_done_i"};
  sc_core::sc_out<bool> drain_start_o{"drain_start_o"};
  sc_core::sc_in<bool> drain_done_i{"drain_done_i"};
  sc_core::sc_in<bool> dequant_idle_i{"dequant_idle_i"};
  sc_core::sc_in<std::uint64_t> released_i{"released_i"};  ///< job j at bit j
  sc_core::sc_out<bool> retire_o{"retire_o"};
  sc_core::sc_out<std::uint64_t> retire_job_o{"retire_job_o"};
  sc_core::sc_in<std::uint64_t> load_token_i{"load_token_i"};
  sc_core::sc_out<std::uint64_t> load_in_addr_o{"load_in_addr_o"};
  sc_core::sc_in<std::uint64_t> shift_token_i{"shift_token_i"};
  sc_core::sc_out<std::uint64_t> shift_o{"shift_o"};
  sc_core::sc_in<std::uint64_t> out_token_i{"out_token_i"};
  sc_core::sc_out<std::uint64_t> out_addr_o{"out_addr_o"};
  sc_core::sc_out<std::uint64_t> aux_addr_o{"aux_addr_o"};
  sc_core::sc_out<bool> command_error_o{"command_error_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(Scheduler);
  Scheduler(sc_core::sc_module_name name, const CoreParams& params);

 private:
  struct Row {
    std::uint64_t in_addr = 0, out_addr = 0, aux_addr = 0, shift = 0;
  };
  const Row& row(std::uint64_t token) const { return rows_[token % rows_.size()]; }
  bool finishes() const { return running_ && !load_wait_ && !sequence_wait_ && !drain_wait_ && dequant_idle_i.read(); }
  bool is_wait() const {
    return exec_cmd_i.read().opcode == program::Opcode::kWait && exec_cmd_i.read().job < io_jobs_;
  }
  bool held() const {
    return exec_valid_i.read() && is_wait() && (released_i.read() >> exec_cmd_i.read().job & 1) == 0;
  }
  bool starts() const { return exec_valid_i.read() && !running_ && !held(); }
  void on_clock();
  void drive_control();
  void drive_rows();

  unsigned io_jobs_;
  std::vector<Row> rows_;
  bool running_ = false, load_wait_ = false, sequence_wait_ = false, drain_wait_ = false, command_error_ = false;
  sc_core::sc_event changed_, rows_changed_;
};

}  // namespace moesaic::cycle
