#include "sim/cycle/dequant/acc_buffer.h"

#include "sim/cycle/common/wrap.h"
#include "sim/program/commands.h"

namespace moesaic::cycle {

AccBuffer::AccBuffer(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_module(name), cols_(params.cols) {
  for (auto& bank : acc_) bank.assign(static_cast<std::size_t>(params.max_tokens) * cols_, 0);
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_add_ready);
  sensitive << changed_;
  SC_METHOD(drive_full);
  sensitive << changed_;
  SC_METHOD(drive_read_acc);
  sensitive << read_token_i << read_chunk_i << changed_;
  SC_METHOD(drive_activity);
  sensitive << add_valid_i << release_i << changed_;
}

void AccBuffer::reset() {
  full_ = {};
  wr_ = 0;
  rd_ = 0;
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void AccBuffer::on_clock() {
  if (!rst_ni.read()) return reset();
  bool changed = false;
  const unsigned drained = rd_;
  if (add_valid_i.read() && !full_[wr_]) {
    const Lanes<std::int64_t>& value = add_value_i.read();
    std::int64_t* acc = &acc_[wr_][add_token_i.read() * cols_];
    const bool first = add_first_i.read();
    for (unsigned c = 0; c < cols_; ++c) acc[c] = add48(first ? 0 : acc[c], value.at_or_zero(c));
    if (add_done_i.read()) {
      full_[wr_] = true;
      wr_ ^= 1;
      changed = true;
    }
  }
  if (release_i.read()) {
    full_[drained] = false;
    rd_ ^= 1;
    changed = true;
  }
  if (changed) changed_.notify(sc_core::SC_ZERO_TIME);
}

void AccBuffer::drive_add_ready() { add_ready_o.write(!full_[wr_]); }

void AccBuffer::drive_full() { full_o.write(full_[rd_]); }

void AccBuffer::drive_read_acc() {
  Lanes<std::int64_t> acc;
  if (full_[rd_]) {
    acc.resize(CoreParams::kPostLanes);
    const std::int64_t* row = &acc_[rd_][read_token_i.read() * cols_ + read_chunk_i.read() * CoreParams::kPostLanes];
    std::copy_n(row, acc.size(), acc.begin());
  }
  read_acc_o.write(acc);
}

void AccBuffer::drive_activity() {
  program::Activity activity = program::Activity::kIdle;
  if (release_i.read() || (add_valid_i.read() && !full_[wr_])) {
    activity = program::Activity::kBusy;
  } else if (add_valid_i.read()) {
    activity = program::Activity::kBlocked;
  }
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
