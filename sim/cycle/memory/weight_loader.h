#pragma once
/// Takes the bit stream of a matmul apart: weight planes to the array, group parameters and requantisation to two-entry
/// FIFOs. RTL twin: rtl/memory/moe_weight_loader.sv. Rate: per cycle load_cols() columns of one plane, or axi_data_bits
/// of parameters; one cycle between commands. cmd_i is stable until cmd_ready_o. Asynchronous reset.
#include <array>
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/command_signal.h"
#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/tile_walker.h"
#include "sim/cycle/memory/beat.h"

namespace moesaic::cycle {

class WeightLoader : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> cmd_valid_i{"cmd_valid_i"};
  sc_core::sc_out<bool> cmd_ready_o{"cmd_ready_o"};
  sc_core::sc_in<program::Command> cmd_i{"cmd_i"};
  sc_core::sc_in<std::uint64_t> avail_i{"avail_i"};
  sc_core::sc_in<Beat> data_i{"data_i"};
  sc_core::sc_out<std::uint64_t> pop_o{"pop_o"};
  sc_core::sc_out<bool> w_valid_o{"w_valid_o"};
  sc_core::sc_in<bool> w_ready_i{"w_ready_i"};
  sc_core::sc_out<std::uint64_t> w_plane_o{"w_plane_o"};
  sc_core::sc_out<std::uint64_t> w_first_col_o{"w_first_col_o"};
  sc_core::sc_out<Lanes<std::uint64_t>> w_bits_o{"w_bits_o"};
  sc_core::sc_out<std::uint64_t> w_mask_o{"w_mask_o"};
  sc_core::sc_out<bool> w_last_o{"w_last_o"};
  sc_core::sc_out<bool> param_valid_o{"param_valid_o"};
  sc_core::sc_in<bool> param_ready_i{"param_ready_i"};
  sc_core::sc_out<Lanes<std::uint32_t>> param_s_o{"param_s_o"};
  sc_core::sc_out<Lanes<std::int32_t>> param_z_o{"param_z_o"};
  sc_core::sc_out<std::uint64_t> param_up_o{"param_up_o"};
  sc_core::sc_out<bool> rq_valid_o{"rq_valid_o"};
  sc_core::sc_in<bool> rq_ready_i{"rq_ready_i"};
  sc_core::sc_out<Lanes<std::uint32_t>> rq_mu_o{"rq_mu_o"};
  sc_core::sc_out<Lanes<std::uint32_t>> rq_sigma_o{"rq_sigma_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(WeightLoader);
  WeightLoader(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  enum class Stage { kScale, kZero, kPlane, kMu, kSigma };
  struct Step {  // what this cycle would take from the stream
    Stage stage = Stage::kScale;
    unsigned cols = 0;
    unsigned bits = 0;
    unsigned pop = 0;   // bits, and the padding after a plane
    bool last = false;  // of the stage; for planes: of one plane
    bool tile_done = false;
    bool enough = false;  // the stream holds it
    bool goes = false;    // and its taker has room
  };
  struct Params {
    Lanes<std::uint32_t> s;
    Lanes<std::int32_t> z;
    unsigned up = 0;
  };
  struct Requant {
    Lanes<std::uint32_t> mu;
    Lanes<std::uint32_t> sigma;
  };
  bool in_level() const { return walk_.tile().level != 0; }
  bool offset_mode() const { return command_.offset_mode || in_level(); }
  unsigned planes() const { return in_level() ? 1 : command_.planes_read; }  // read of the bundle
  Step plan() const;
  void take(const Step& step);
  void reset();
  void on_clock();
  void drive_params();
  void drive_requant();
  void drive_weights();
  void drive_pop();
  void drive_cmd_ready();
  void drive_activity();

  const CoreParams params_;
  const unsigned wide_cols_, narrow_cols_;  // 16-bit and 8-bit values a cycle
  TileWalk walk_;
  program::Command command_;
  Stage stage_ = Stage::kScale;
  unsigned plane_ = 0, col_ = 0;
  std::array<Params, 2> param_{};
  std::array<Requant, 2> rq_{};
  unsigned param_write_ = 0, param_read_ = 0, param_count_ = 0;
  unsigned rq_write_ = 0, rq_read_ = 0, rq_count_ = 0;
  sc_core::sc_event changed_, params_changed_, requant_changed_;
};

}  // namespace moesaic::cycle
