#pragma once
/// The hidden rows h, 4 int16 a word, and per token the largest and smallest h seen, from which eh follows.
/// RTL twin: rtl/memory/moe_hidden_buffer.sv. One write a cycle, visible the next cycle; combinational reads. The words
/// are not reset, the extremes are (asynchronously).
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

class HiddenBuffer : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> write_valid_i{"write_valid_i"};
  sc_core::sc_in<std::uint64_t> write_addr_i{"write_addr_i"};
  sc_core::sc_in<std::uint64_t> write_token_i{"write_token_i"};
  sc_core::sc_in<std::uint64_t> write_mask_i{"write_mask_i"};
  sc_core::sc_in<Lanes<std::int32_t>> write_data_i{"write_data_i"};
  sc_core::sc_in<bool> store_i{"store_i"};
  sc_core::sc_in<bool> clear_i{"clear_i"};
  sc_core::sc_in<std::uint64_t> act_bits_i{"act_bits_i"};
  sc_core::sc_in<std::uint64_t> read_addr_i{"read_addr_i"};
  sc_core::sc_out<Lanes<std::int32_t>> read_data_o{"read_data_o"};
  sc_core::sc_in<std::uint64_t> eh_token_a_i{"eh_token_a_i"};
  sc_core::sc_out<std::uint64_t> eh_a_o{"eh_a_o"};
  sc_core::sc_in<std::uint64_t> eh_token_b_i{"eh_token_b_i"};
  sc_core::sc_out<std::uint64_t> eh_b_o{"eh_b_o"};

  SC_HAS_PROCESS(HiddenBuffer);
  HiddenBuffer(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  struct Extremes {  // with 0, which always fits
    std::int32_t largest = 0;
    std::int32_t smallest = 0;
  };
  std::uint64_t least_shift(std::uint64_t token) const;
  void on_clock();
  void drive_read();
  void drive_eh_a();
  void drive_eh_b();

  std::vector<std::int32_t> memory_;  // 4 values a word
  std::vector<Extremes> extremes_;    // per token
  sc_core::sc_event words_changed_, extremes_changed_;
};

}  // namespace moesaic::cycle
