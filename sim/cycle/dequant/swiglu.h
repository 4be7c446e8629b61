#pragma once
/// SwiGLU of four elements, h = silu(g) * u in integers (numerics::swiglu).
/// RTL twin: rtl/dequant/moe_swiglu.sv. Rate 1 chunk/cycle, latency 3 cycles, asynchronous reset.
#include <array>
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

class Swiglu : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};

  sc_core::sc_in<bool> in_valid_i{"in_valid_i"};
  sc_core::sc_out<bool> in_ready_o{"in_ready_o"};
  sc_core::sc_in<Lanes<std::int32_t>> in_g_i{"in_g_i"};
  sc_core::sc_in<Lanes<std::int32_t>> in_u_i{"in_u_i"};
  sc_core::sc_in<std::uint64_t> in_sigma_h_i{"in_sigma_h_i"};
  sc_core::sc_in<std::uint64_t> in_meta_i{"in_meta_i"};

  sc_core::sc_out<bool> out_valid_o{"out_valid_o"};
  sc_core::sc_in<bool> out_ready_i{"out_ready_i"};
  sc_core::sc_out<Lanes<std::int32_t>> out_h_o{"out_h_o"};
  sc_core::sc_out<std::uint64_t> out_meta_o{"out_meta_o"};

  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(Swiglu);
  explicit Swiglu(const sc_core::sc_module_name& name);

 private:
  struct Stage {
    bool valid = false;
    Lanes<std::int32_t, 4> h;
    std::uint64_t meta = 0;
  };
  void on_clock();
  void reset();
  void drive_in_ready();
  void drive_activity();
  bool advance() const { return !stage3_valid_ || out_ready_i.read(); }

  std::array<Stage, 2> stage_;  // stages 1 and 2, with the result already known
  bool stage3_valid_ = false;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
