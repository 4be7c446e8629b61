#pragma once
/// Requantisation of four accumulators: y = saturate(rshift_round(acc * mu, sigma + shift)).
/// RTL twin: rtl/dequant/moe_requant.sv. Rate 1 chunk/cycle, latency 2 cycles, asynchronous reset.
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

class Requant : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};

  sc_core::sc_in<bool> in_valid_i{"in_valid_i"};
  sc_core::sc_out<bool> in_ready_o{"in_ready_o"};
  sc_core::sc_in<Lanes<std::int64_t>> in_acc_i{"in_acc_i"};
  sc_core::sc_in<Lanes<std::uint32_t>> in_mu_i{"in_mu_i"};
  sc_core::sc_in<Lanes<std::uint32_t>> in_sigma_i{"in_sigma_i"};
  sc_core::sc_in<std::uint64_t> in_mask_i{"in_mask_i"};
  sc_core::sc_in<std::int64_t> in_shift_i{"in_shift_i"};
  sc_core::sc_in<std::uint64_t> in_out_bits_i{"in_out_bits_i"};
  sc_core::sc_in<std::uint64_t> in_meta_i{"in_meta_i"};

  sc_core::sc_out<bool> out_valid_o{"out_valid_o"};
  sc_core::sc_in<bool> out_ready_i{"out_ready_i"};
  sc_core::sc_out<Lanes<std::int32_t>> out_y_o{"out_y_o"};
  sc_core::sc_out<Lanes<std::int64_t>> out_acc_o{"out_acc_o"};
  sc_core::sc_out<std::uint64_t> out_meta_o{"out_meta_o"};

  sc_core::sc_out<bool> shift_error_o{"shift_error_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(Requant);
  explicit Requant(const sc_core::sc_module_name& name);

 private:
  struct Stage {
    bool valid = false;
    Lanes<std::int32_t> y;
    Lanes<std::int64_t> acc;
    std::uint64_t meta = 0;
  };
  void on_clock();
  void reset();
  void drive_in_ready();
  void drive_activity();
  bool advance() const { return !stage2_valid_ || out_ready_i.read(); }

  Stage stage1_;
  bool stage2_valid_ = false;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
