#pragma once
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/command_signal.h"
#include "sim/cycle/common/core_params.h"

namespace moesaic::cycle {

/// Commands in order, with a fetch side that runs ahead, but not past a wait whose job is not released. RTL twin:
/// rtl/queue/moe_command_queue.sv.
/// Rate one command per cycle on each side, asynchronous reset.
class CommandQueue : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> push_valid_i{"push_valid_i"};
  sc_core::sc_out<bool> push_ready_o{"push_ready_o"};
  sc_core::sc_in<program::Command> push_cmd_i{"push_cmd_i"};
  sc_core::sc_out<bool> fetch_valid_o{"fetch_valid_o"};
  sc_core::sc_in<bool> fetch_ready_i{"fetch_ready_i"};
  sc_core::sc_out<program::Command> fetch_cmd_o{"fetch_cmd_o"};
  sc_core::sc_out<bool> exec_valid_o{"exec_valid_o"};
  sc_core::sc_in<bool> exec_ready_i{"exec_ready_i"};
  sc_core::sc_out<program::Command> exec_cmd_o{"exec_cmd_o"};
  sc_core::sc_in<std::uint64_t> fetchable_i{"fetchable_i"};  ///< job j at bit j
  sc_core::sc_out<bool> pass_o{"pass_o"};
  sc_core::sc_out<std::uint64_t> pass_job_o{"pass_job_o"};
  sc_core::sc_out<std::uint64_t> free_o{"free_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(CommandQueue);
  CommandQueue(sc_core::sc_module_name name, const CoreParams& params);

 private:
  const program::Command& entry(std::uint64_t pointer) const { return entries_[pointer % entries_.size()]; }
  bool fetch_is_matmul() const { return entry(fetch_).opcode == program::Opcode::kMatmul; }
  bool fetch_is_wait() const { return entry(fetch_).opcode == program::Opcode::kWait && entry(fetch_).job < io_jobs_; }
  bool fetch_held() const { return fetch_is_wait() && (fetchable_i.read() >> entry(fetch_).job & 1) == 0; }
  bool fetch_steps() const { return fetch_ != tail_ && !fetch_held() && (!fetch_is_matmul() || fetch_ready_i.read()); }
  void on_clock();
  void drive_state();
  void drive_pass();
  void drive_activity();

  unsigned io_jobs_;
  std::vector<program::Command> entries_;
  std::uint64_t head_ = 0, fetch_ = 0, tail_ = 0;  // counts since reset: head <= fetch <= tail
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
