#include "sim/cycle/queue/fetch_dispatch.h"

namespace moesaic::cycle {

using program::Command;

void CommandFifo::clear() {
  entry_ = {};
  used_ = 0;
}

void CommandFifo::step(bool pop, bool push, const Command& pushed) {
  if (pop) {
    entry_[0] = entry_[1];
    entry_[1] = Command{};
    --used_;
  }
  if (push) entry_[used_++] = pushed;
}

FetchDispatch::FetchDispatch(sc_core::sc_module_name name) : sc_module(name) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive);
  sensitive << changed_;
}

void FetchDispatch::on_clock() {
  if (!rst_ni.read()) {
    fetch_.clear();
    load_.clear();
    changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  const bool push = in_valid_i.read() && fetch_.has_room() && load_.has_room();
  const bool pop_fetch = fetch_.has_command() && fetch_ready_i.read();
  const bool pop_load = load_.has_command() && load_ready_i.read();
  if (!push && !pop_fetch && !pop_load) return;
  fetch_.step(pop_fetch, push, in_cmd_i.read());
  load_.step(pop_load, push, in_cmd_i.read());
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void FetchDispatch::drive() {
  in_ready_o.write(fetch_.has_room() && load_.has_room());
  fetch_valid_o.write(fetch_.has_command());
  fetch_cmd_o.write(fetch_.front());
  load_valid_o.write(load_.has_command());
  load_cmd_o.write(load_.front());
}

}  // namespace moesaic::cycle
