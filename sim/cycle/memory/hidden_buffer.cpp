#include "sim/cycle/memory/hidden_buffer.h"

#include <algorithm>
#include <array>

#include "reference/numerics/swiglu.h"

namespace moesaic::cycle {

HiddenBuffer::HiddenBuffer(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_core::sc_module(name), memory_(std::size_t{4} * params.hidden_depth), extremes_(params.max_tokens) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_read);
  sensitive << words_changed_ << read_addr_i;
  SC_METHOD(drive_eh_a);
  sensitive << extremes_changed_ << eh_token_a_i << act_bits_i;
  SC_METHOD(drive_eh_b);
  sensitive << extremes_changed_ << eh_token_b_i << act_bits_i;
}

void HiddenBuffer::on_clock() {
  const bool reset = !rst_ni.read();
  if (reset || clear_i.read()) {
    std::fill(extremes_.begin(), extremes_.end(), Extremes{});
    extremes_changed_.notify(sc_core::SC_ZERO_TIME);
  }
  // The words have no reset: at a rising edge they are written in reset too.
  if (!write_valid_i.read() || (reset && !clk_i.posedge())) return;
  const Lanes<std::int32_t>& data = write_data_i.read();
  const std::uint64_t mask = write_mask_i.read();
  if (store_i.read()) {
    const std::size_t base = 4 * write_addr_i.read();
    for (unsigned l = 0; l < 4; ++l) {
      if ((mask >> l & 1) != 0) memory_[base + l] = data.at_or_zero(l);
    }
    if (write_addr_i.read() == read_addr_i.read()) words_changed_.notify(sc_core::SC_ZERO_TIME);
  }
  if (reset) return;
  Extremes& extremes = extremes_[write_token_i.read()];
  for (unsigned l = 0; l < 4; ++l) {
    if ((mask >> l & 1) == 0) continue;
    extremes.largest = std::max(extremes.largest, data.at_or_zero(l));
    extremes.smallest = std::min(extremes.smallest, data.at_or_zero(l));
  }
  extremes_changed_.notify(sc_core::SC_ZERO_TIME);
}

std::uint64_t HiddenBuffer::least_shift(std::uint64_t token) const {
  if (token >= extremes_.size()) return 0;
  const Extremes& extremes = extremes_[token];
  const unsigned act_bits = static_cast<unsigned>(act_bits_i.read());
  if (act_bits != 4 && act_bits != 8) return 0;  // int16 fits as it is
  const std::array<std::int16_t, 2> ends{static_cast<std::int16_t>(extremes.largest),
                                         static_cast<std::int16_t>(extremes.smallest)};
  return static_cast<std::uint64_t>(numerics::hidden_shift(ends.data(), 2, static_cast<int>(act_bits)));
}

void HiddenBuffer::drive_read() {
  Lanes<std::int32_t> word(4);
  const std::size_t base = 4 * read_addr_i.read();
  std::copy_n(memory_.begin() + static_cast<std::ptrdiff_t>(base), 4, word.begin());
  read_data_o.write(word);
}

void HiddenBuffer::drive_eh_a() { eh_a_o.write(least_shift(eh_token_a_i.read())); }

void HiddenBuffer::drive_eh_b() { eh_b_o.write(least_shift(eh_token_b_i.read())); }

}  // namespace moesaic::cycle
