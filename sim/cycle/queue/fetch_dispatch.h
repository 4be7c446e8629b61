#pragma once
#include <array>
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/command_signal.h"

namespace moesaic::cycle {

/// Two commands deep FIFO. RTL twin: rtl/queue/moe_command_fifo.sv.
class CommandFifo {
 public:
  bool has_room() const { return used_ != 2; }
  bool has_command() const { return used_ != 0; }
  /// All zero when empty.
  const program::Command& front() const { return entry_[0]; }
  void clear();
  /// One clock edge. Only legal moves: pop of a command that is there, push into room.
  void step(bool pop, bool push, const program::Command& pushed);

 private:
  std::array<program::Command, 2> entry_{};
  unsigned used_ = 0;
};

/// Hands every matmul to the weight fetch and to the weight loader, each at its own pace.
/// RTL twin: rtl/queue/moe_fetch_dispatch.sv. Rate one command per cycle, latency 1 cycle, asynchronous reset.
class FetchDispatch : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> in_valid_i{"in_valid_i"};
  sc_core::sc_out<bool> in_ready_o{"in_ready_o"};
  sc_core::sc_in<program::Command> in_cmd_i{"in_cmd_i"};
  sc_core::sc_out<bool> fetch_valid_o{"fetch_valid_o"};
  sc_core::sc_in<bool> fetch_ready_i{"fetch_ready_i"};
  sc_core::sc_out<program::Command> fetch_cmd_o{"fetch_cmd_o"};
  sc_core::sc_out<bool> load_valid_o{"load_valid_o"};
  sc_core::sc_in<bool> load_ready_i{"load_ready_i"};
  sc_core::sc_out<program::Command> load_cmd_o{"load_cmd_o"};

  SC_HAS_PROCESS(FetchDispatch);
  explicit FetchDispatch(sc_core::sc_module_name name);

 private:
  void on_clock();
  void drive();

  CommandFifo fetch_, load_;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
