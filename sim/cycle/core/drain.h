#pragma once
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/command_signal.h"
#include "sim/cycle/common/core_params.h"
#include "sim/cycle/common/lanes.h"
#include "sim/cycle/memory/beat.h"

namespace moesaic::cycle {

/// Takes finished accumulator blocks through requantisation and SwiGLU to where the command says.
/// RTL twin: rtl/core/moe_drain.sv. Rate one chunk of four columns per cycle, asynchronous reset.
class Drain : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> start_i{"start_i"};
  sc_core::sc_in<program::Command> cmd_i{"cmd_i"};
  sc_core::sc_out<bool> done_o{"done_o"};
  sc_core::sc_in<bool> acc_full_i{"acc_full_i"};
  sc_core::sc_out<std::uint64_t> acc_token_o{"acc_token_o"};
  sc_core::sc_out<std::uint64_t> acc_chunk_o{"acc_chunk_o"};
  sc_core::sc_in<Lanes<std::int64_t>> acc_i{"acc_i"};
  sc_core::sc_out<bool> acc_release_o{"acc_release_o"};
  sc_core::sc_in<bool> rq_valid_i{"rq_valid_i"};
  sc_core::sc_out<bool> rq_ready_o{"rq_ready_o"};
  sc_core::sc_in<Lanes<std::uint32_t>> rq_mu_i{"rq_mu_i"};
  sc_core::sc_in<Lanes<std::uint32_t>> rq_sigma_i{"rq_sigma_i"};
  sc_core::sc_out<std::uint64_t> shift_token_o{"shift_token_o"};
  sc_core::sc_in<std::uint64_t> shift_i{"shift_i"};
  sc_core::sc_in<std::uint64_t> hidden_shift_i{"hidden_shift_i"};
  sc_core::sc_out<std::uint64_t> out_token_o{"out_token_o"};
  sc_core::sc_in<std::uint64_t> out_addr_i{"out_addr_i"};
  sc_core::sc_in<std::uint64_t> aux_addr_i{"aux_addr_i"};
  sc_core::sc_out<bool> requant_valid_o{"requant_valid_o"};
  sc_core::sc_in<bool> requant_ready_i{"requant_ready_i"};
  sc_core::sc_out<Lanes<std::int64_t>> requant_acc_o{"requant_acc_o"};
  sc_core::sc_out<Lanes<std::uint32_t>> requant_mu_o{"requant_mu_o"};
  sc_core::sc_out<Lanes<std::uint32_t>> requant_sigma_o{"requant_sigma_o"};
  sc_core::sc_out<std::uint64_t> requant_mask_o{"requant_mask_o"};
  sc_core::sc_out<std::int64_t> requant_shift_o{"requant_shift_o"};
  sc_core::sc_out<std::uint64_t> requant_out_bits_o{"requant_out_bits_o"};
  sc_core::sc_out<std::uint64_t> requant_meta_o{"requant_meta_o"};
  sc_core::sc_in<bool> result_valid_i{"result_valid_i"};
  sc_core::sc_out<bool> result_ready_o{"result_ready_o"};
  sc_core::sc_in<Lanes<std::int32_t>> result_y_i{"result_y_i"};
  sc_core::sc_in<Lanes<std::int64_t>> result_acc_i{"result_acc_i"};
  sc_core::sc_in<std::uint64_t> result_meta_i{"result_meta_i"};
  sc_core::sc_out<bool> swiglu_valid_o{"swiglu_valid_o"};
  sc_core::sc_in<bool> swiglu_ready_i{"swiglu_ready_i"};
  sc_core::sc_out<Lanes<std::int32_t>> swiglu_g_o{"swiglu_g_o"};
  sc_core::sc_out<Lanes<std::int32_t>> swiglu_u_o{"swiglu_u_o"};
  sc_core::sc_out<std::uint64_t> swiglu_sigma_h_o{"swiglu_sigma_h_o"};
  sc_core::sc_out<std::uint64_t> swiglu_meta_o{"swiglu_meta_o"};
  sc_core::sc_in<bool> h_valid_i{"h_valid_i"};
  sc_core::sc_out<bool> h_ready_o{"h_ready_o"};
  sc_core::sc_in<Lanes<std::int32_t>> h_i{"h_i"};
  sc_core::sc_in<std::uint64_t> h_meta_i{"h_meta_i"};
  sc_core::sc_out<bool> hidden_valid_o{"hidden_valid_o"};
  sc_core::sc_out<std::uint64_t> hidden_addr_o{"hidden_addr_o"};
  sc_core::sc_out<std::uint64_t> hidden_token_o{"hidden_token_o"};
  sc_core::sc_out<std::uint64_t> hidden_mask_o{"hidden_mask_o"};
  sc_core::sc_out<Lanes<std::int32_t>> hidden_data_o{"hidden_data_o"};
  sc_core::sc_out<bool> hidden_clear_o{"hidden_clear_o"};
  sc_core::sc_out<bool> dma_valid_o{"dma_valid_o"};
  sc_core::sc_in<bool> dma_ready_i{"dma_ready_i"};
  sc_core::sc_out<std::uint64_t> dma_addr_o{"dma_addr_o"};
  sc_core::sc_out<std::uint64_t> dma_bytes_o{"dma_bytes_o"};
  sc_core::sc_out<Beat> dma_data_o{"dma_data_o"};
  sc_core::sc_out<bool> dma_flush_o{"dma_flush_o"};
  sc_core::sc_in<bool> dma_idle_i{"dma_idle_i"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(Drain);
  Drain(sc_core::sc_module_name name, const CoreParams& params);

 private:
  enum class State { kIdle, kWalk, kFlush, kSettle };
  /// What travels with a chunk through requantisation and SwiGLU: meta_t of the RTL.
  struct Meta {
    std::uint32_t col = 0;
    unsigned token = 0, chunk = 0, count = 0;
    bool up = false, last = false;
    std::uint64_t pack() const;
    static Meta unpack(std::uint64_t bits);
  };
  /// The chunk that is next to be sent.
  struct Chunk {
    unsigned count;
    bool last_of_token, ends_block, ends_walk;
  };
  Chunk chunk() const;
  bool is_combine() const { return cmd_i.read().opcode == program::Opcode::kCombine; }
  bool is_pair() const { return cmd_i.read().paired || cmd_i.read().swiglu_part; }
  bool offers() const { return walking_ && acc_full_i.read() && (is_combine() || rq_valid_i.read()); }
  bool wants_acc() const { return cmd_i.read().write_acc && !phase_; }
  bool result_ready(const Meta& result) const;
  bool h_fires() const { return h_valid_i.read() && (!cmd_i.read().write_h || dma_ready_i.read()); }
  std::size_t gate_index(const Meta& result) const {
    return (std::size_t{result.token} * chunks_ + result.chunk) % gate_.size();
  }
  void on_clock();
  void drive_lookup();
  void drive_requant();
  void drive_release();
  void drive_results();
  void drive_dma();
  void drive_control();
  void drive_activity();

  CoreParams params_;
  unsigned chunks_;
  State state_ = State::kIdle;
  bool walking_ = false, which_ = false, phase_ = false;
  std::uint32_t col_ = 0;
  unsigned token_ = 0, chunk_ = 0;
  std::vector<Lanes<std::int32_t, 4>> gate_;
  sc_core::sc_event changed_, walk_changed_;
};

}  // namespace moesaic::cycle
