#pragma once
/// Group dequantisation: P and X over a group's tiles, D = P * 2^up - z * X once per group, then s * D.
/// RTL twin: rtl/dequant/moe_group_dequant.sv. Rate 1 beat/cycle, latency 3 cycles from a group's last beat to add_*,
/// asynchronous reset (P and X are not reset). Every cycle has one name on activity_o.
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

class GroupDequant : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};

  sc_core::sc_in<bool> sum_valid_i{"sum_valid_i"};
  sc_core::sc_out<bool> sum_ready_o{"sum_ready_o"};
  sc_core::sc_in<Lanes<std::int64_t>> sum_i{"sum_i"};
  sc_core::sc_in<std::int64_t> rowsum_i{"rowsum_i"};
  sc_core::sc_in<std::uint64_t> sum_tag_i{"sum_tag_i"};

  sc_core::sc_in<bool> param_valid_i{"param_valid_i"};
  sc_core::sc_out<bool> param_ready_o{"param_ready_o"};
  sc_core::sc_in<Lanes<std::uint32_t>> param_s_i{"param_s_i"};
  sc_core::sc_in<Lanes<std::int32_t>> param_z_i{"param_z_i"};
  sc_core::sc_in<std::uint64_t> param_up_i{"param_up_i"};
  sc_core::sc_in<std::uint64_t> tokens_i{"tokens_i"};

  sc_core::sc_in<bool> direct_valid_i{"direct_valid_i"};
  sc_core::sc_out<bool> direct_ready_o{"direct_ready_o"};
  sc_core::sc_in<std::uint64_t> direct_token_i{"direct_token_i"};
  sc_core::sc_in<std::uint64_t> direct_s_i{"direct_s_i"};
  sc_core::sc_in<Lanes<std::int32_t>> direct_d_i{"direct_d_i"};
  sc_core::sc_in<bool> direct_first_i{"direct_first_i"};
  sc_core::sc_in<bool> direct_done_i{"direct_done_i"};

  sc_core::sc_out<bool> add_valid_o{"add_valid_o"};
  sc_core::sc_in<bool> add_ready_i{"add_ready_i"};
  sc_core::sc_out<std::uint64_t> add_token_o{"add_token_o"};
  sc_core::sc_out<bool> add_first_o{"add_first_o"};
  sc_core::sc_out<bool> add_done_o{"add_done_o"};
  sc_core::sc_out<Lanes<std::int64_t>> add_value_o{"add_value_o"};

  sc_core::sc_out<bool> idle_o{"idle_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(GroupDequant);
  GroupDequant(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  struct Stage {
    bool valid = false;
    bool last = false;  // last token of the command
    bool first = false;
    bool done = false;
    std::uint64_t token = 0;
  };
  void on_clock();
  void reset();
  void drive_sum_ready();
  void drive_param_ready();
  void drive_direct_ready();
  void drive_idle();
  void drive_activity();
  bool advance3() const { return !stage3_.valid || add_ready_i.read(); }
  bool advance2() const { return !stage2_.valid || advance3(); }
  bool leave1() const { return stage1_.valid && param_valid_i.read() && advance2(); }
  bool advance1() const { return !stage1_.valid || leave1(); }
  bool direct_ready() const { return !stage1_.valid && advance2(); }

  const unsigned cols_;
  std::vector<std::int64_t> p_;  // [token][column]
  std::vector<std::int64_t> x_;  // [token]
  bool open_ = false;            // a group has begun and not ended for all tokens
  Stage stage1_;
  Lanes<std::int64_t> p1_;
  std::int64_t x1_ = 0;
  Stage stage2_;
  Lanes<std::int64_t> d2_;
  Lanes<std::uint32_t> s2_;
  Stage stage3_;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
