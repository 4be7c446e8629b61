#pragma once
/// The PE array: columns of shift-and-add PEs, a row sum for X, two banks of weights (DigitKind::common_shift).
/// RTL twin: rtl/array/moe_pe_array.sv. Rate 1 beat/cycle, latency log2(rows) + 1 cycles, asynchronous reset; the whole
/// pipeline stands still while sum_valid_o && !sum_ready_i. Every cycle has one name on activity_o.
/// A beat's sums are computed as it enters and then carried along: the digits of a bank are decoded once for all
/// tokens.
#include <array>
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/lanes.h"

namespace moesaic::cycle {

class PeArray : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};

  sc_core::sc_in<bool> w_valid_i{"w_valid_i"};
  sc_core::sc_out<bool> w_ready_o{"w_ready_o"};
  sc_core::sc_in<std::uint64_t> w_plane_i{"w_plane_i"};
  sc_core::sc_in<std::uint64_t> w_first_col_i{"w_first_col_i"};
  sc_core::sc_in<Lanes<std::uint64_t>> w_bits_i{"w_bits_i"};  // one lane a column, bit r is row r
  sc_core::sc_in<std::uint64_t> w_mask_i{"w_mask_i"};
  sc_core::sc_in<bool> w_last_i{"w_last_i"};

  sc_core::sc_in<bool> beat_valid_i{"beat_valid_i"};
  sc_core::sc_out<bool> beat_ready_o{"beat_ready_o"};
  sc_core::sc_in<Lanes<std::int32_t>> beat_x_i{"beat_x_i"};
  sc_core::sc_in<std::uint64_t> beat_plane_i{"beat_plane_i"};
  sc_core::sc_in<std::uint64_t> beat_enable_i{"beat_enable_i"};
  sc_core::sc_in<std::uint64_t> beat_shift_i{"beat_shift_i"};
  sc_core::sc_in<std::uint64_t> beat_tag_i{"beat_tag_i"};
  sc_core::sc_in<bool> beat_last_i{"beat_last_i"};

  sc_core::sc_out<bool> sum_valid_o{"sum_valid_o"};
  sc_core::sc_in<bool> sum_ready_i{"sum_ready_i"};
  sc_core::sc_out<Lanes<std::int64_t>> sum_o{"sum_o"};
  sc_core::sc_out<std::int64_t> rowsum_o{"rowsum_o"};
  sc_core::sc_out<std::uint64_t> sum_tag_o{"sum_tag_o"};

  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(PeArray);
  PeArray(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  static constexpr unsigned kBanks = 2;
  static constexpr unsigned kPlanes = 8;
  struct Stage {
    bool valid = false;
    Lanes<std::int64_t> sums;
    std::int64_t rowsum = 0;
    std::uint64_t tag = 0;
  };
  /// One set of digits of one bank as small integers, [column][row]; valid until the bank is freed.
  struct Decoded {
    bool valid = false;
    std::uint64_t enable = 0;
    std::uint64_t shift = 0;
    std::vector<std::int16_t> weight;
  };

  void on_clock();
  void reset();
  void drive_w_ready();
  void drive_beat_ready();
  void drive_activity();
  bool advance() const { return !output().valid || sum_ready_i.read(); }
  const Stage& output() const { return stages_[(head_ + stages_.size() - 1) % stages_.size()]; }
  void take_beat(Stage& stage);
  const std::int16_t* decode(unsigned plane, std::uint64_t enable, std::uint64_t shift);
  void free_bank(unsigned bank);

  const unsigned rows_;
  const unsigned cols_;
  const unsigned lanes_;
  const unsigned load_cols_;
  std::array<bool, kBanks> full_{};
  unsigned wr_ = 0;                                      // bank being loaded
  unsigned rd_ = 0;                                      // bank being read
  std::array<std::vector<std::uint64_t>, kBanks> bits_;  // [plane][column]
  std::array<Decoded, kPlanes> decoded_;                 // of bank rd_, by the plane of lane 0
  std::vector<Stage> stages_;                            // a ring: head_ is the youngest
  std::size_t head_ = 0;
  unsigned valid_stages_ = 0;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
