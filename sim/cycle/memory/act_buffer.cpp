#include "sim/cycle/memory/act_buffer.h"

#include <algorithm>

namespace moesaic::cycle {

ActBuffer::ActBuffer(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_core::sc_module(name), rows_(params.rows), memory_(std::size_t{params.rows} * params.act_depth) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos();
  dont_initialize();
  SC_METHOD(drive_read);
  sensitive << changed_ << read_addr_i;
}

void ActBuffer::on_clock() {
  if (!write_valid_i.read()) return;
  const Lanes<std::int32_t>& word = write_data_i.read();
  const std::size_t base = write_addr_i.read() * rows_;
  for (unsigned r = 0; r < rows_; ++r) memory_[base + r] = word.at_or_zero(r);
  if (write_addr_i.read() == read_addr_i.read()) changed_.notify(sc_core::SC_ZERO_TIME);
}

void ActBuffer::drive_read() {
  Lanes<std::int32_t> word(rows_);
  const std::size_t base = read_addr_i.read() * rows_;
  std::copy_n(memory_.begin() + static_cast<std::ptrdiff_t>(base), rows_, word.begin());
  read_data_o.write(word);
}

}  // namespace moesaic::cycle
