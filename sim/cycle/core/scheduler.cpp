#include "sim/cycle/core/scheduler.h"

namespace moesaic::cycle {

using program::Activity;
using program::Command;
using program::Opcode;

namespace {

struct Starts {
  bool load, sequence, drain;
  bool any() const { return load || sequence; }
};

Starts starts_of(const Command& command) {
  const bool load = command.opcode == Opcode::kLoadAct, combine = command.opcode == Opcode::kCombine;
  const bool matmul = command.opcode == Opcode::kMatmul;
  return {load || combine, matmul, combine || (matmul && command.k_last)};
}

}  // namespace

Scheduler::Scheduler(sc_core::sc_module_name name, const CoreParams& params)
    : sc_module(name), io_jobs_(params.io_jobs), rows_(params.max_tokens) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_control);
  sensitive << changed_ << exec_valid_i << exec_cmd_i << dequant_idle_i << released_i;
  SC_METHOD(drive_rows);
  sensitive << rows_changed_ << load_token_i << shift_token_i << out_token_i;
}

void Scheduler::on_clock() {
  if (!rst_ni.read()) {
    rows_.assign(rows_.size(), Row{});
    running_ = load_wait_ = sequence_wait_ = drain_wait_ = command_error_ = false;
    changed_.notify(sc_core::SC_ZERO_TIME);
    rows_changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  if (!exec_valid_i.read() || held()) return;
  if (running_) {
    const bool finish = finishes();
    if (!finish && !load_done_i.read() && !sequence_done_i.read() && !drain_done_i.read()) return;
    load_wait_ = load_wait_ && !load_done_i.read();
    sequence_wait_ = sequence_wait_ && !sequence_done_i.read();
    drain_wait_ = drain_wait_ && !drain_done_i.read();
    if (finish) running_ = false;
  } else {
    const Command& command = exec_cmd_i.read();
    const Starts starts = starts_of(command);
    running_ = starts.any();
    load_wait_ = starts.load;
    sequence_wait_ = starts.sequence;
    drain_wait_ = starts.drain;
    if (command.opcode == Opcode::kSetRow) {
      if (command.token < rows_.size()) {
        rows_[command.token] = {command.weight_addr, command.params_addr, command.requant_addr, command.token_shift};
        rows_changed_.notify(sc_core::SC_ZERO_TIME);
      }
    } else if (!starts.any() && !is_wait()) {
      command_error_ = true;
    }
  }
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void Scheduler::drive_control() {
  const bool start = starts(), finish = finishes();
  const Starts which = start ? starts_of(exec_cmd_i.read()) : Starts{false, false, false};
  load_start_o.write(which.load);
  sequence_start_o.write(which.sequence);
  drain_start_o.write(which.drain);
  exec_ready_o.write(finish || (start && !which.any()));
  const bool retire = start && is_wait();
  retire_o.write(retire);
  retire_job_o.write(retire ? exec_cmd_i.read().job : 0);
  command_error_o.write(command_error_);
  const Activity activity = start || finish       ? Activity::kBusy
                            : held()              ? Activity::kBlocked
                            : exec_valid_i.read() ? Activity::kStarved
                                                  : Activity::kIdle;
  activity_o.write(static_cast<std::uint64_t>(activity));
}

void Scheduler::drive_rows() {
  load_in_addr_o.write(row(load_token_i.read()).in_addr);
  shift_o.write(row(shift_token_i.read()).shift);
  out_addr_o.write(row(out_token_i.read()).out_addr);
  aux_addr_o.write(row(out_token_i.read()).aux_addr);
}

}  // namespace moesaic::cycle
