#pragma once
/// Writes chunks of 1..32 bytes through an AXI4 write manager, as single-beat bursts with strobes; consecutive chunks
/// in one beat are combined. RTL twin: rtl/memory/moe_output_dma.sv. Rate: the part of a chunk that lies in one beat a
/// cycle; two cycles from a chunk to its full beat on aw_* and w_*. At most 15 writes unacknowledged. Asynchronous
/// reset.
#include <cstdint>
#include <systemc>

#include "sim/cycle/common/core_params.h"
#include "sim/cycle/memory/beat.h"

namespace moesaic::cycle {

class OutputDma : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> in_valid_i{"in_valid_i"};
  sc_core::sc_out<bool> in_ready_o{"in_ready_o"};
  sc_core::sc_in<std::uint64_t> in_addr_i{"in_addr_i"};
  sc_core::sc_in<std::uint64_t> in_bytes_i{"in_bytes_i"};
  sc_core::sc_in<Beat> in_data_i{"in_data_i"};
  sc_core::sc_in<bool> flush_i{"flush_i"};
  sc_core::sc_out<bool> aw_valid_o{"aw_valid_o"};
  sc_core::sc_in<bool> aw_ready_i{"aw_ready_i"};
  sc_core::sc_out<std::uint64_t> aw_addr_o{"aw_addr_o"};
  sc_core::sc_out<std::uint64_t> aw_len_o{"aw_len_o"};
  sc_core::sc_out<std::uint64_t> aw_size_o{"aw_size_o"};
  sc_core::sc_out<std::uint64_t> aw_burst_o{"aw_burst_o"};
  sc_core::sc_out<bool> w_valid_o{"w_valid_o"};
  sc_core::sc_in<bool> w_ready_i{"w_ready_i"};
  sc_core::sc_out<Beat> w_data_o{"w_data_o"};
  sc_core::sc_out<std::uint64_t> w_strb_o{"w_strb_o"};
  sc_core::sc_out<bool> w_last_o{"w_last_o"};
  sc_core::sc_in<bool> b_valid_i{"b_valid_i"};
  sc_core::sc_out<bool> b_ready_o{"b_ready_o"};
  sc_core::sc_in<std::uint64_t> b_resp_i{"b_resp_i"};
  sc_core::sc_out<bool> idle_o{"idle_o"};
  sc_core::sc_out<bool> resp_error_o{"resp_error_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(OutputDma);
  OutputDma(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  struct WriteBeat {
    std::uint64_t index = 0;  // address / bytes of a beat
    Beat data;
    std::uint64_t strobe = 0;
  };
  bool wants_send() const;
  bool can_send() const;
  bool part_moves() const { return chunk_ && (!wants_send() || can_send()); }
  unsigned part_bytes() const;
  bool idle() const { return !chunk_ && !beat_valid_ && unanswered_ == 0; }
  void move_part();
  void reset();
  void on_clock();
  void drive_state();
  void drive_in_ready();
  void drive_activity();

  const unsigned beat_bytes_;
  bool chunk_ = false;
  std::uint64_t addr_ = 0;
  unsigned bytes_ = 0;
  unsigned chunk_at_ = 0;  // bytes of the chunk that have moved
  Beat chunk_data_;
  bool beat_valid_ = false;
  WriteBeat beat_;
  bool flush_ = false;
  bool aw_ = false, w_ = false;
  WriteBeat out_;
  unsigned unanswered_ = 0;
  bool error_ = false;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
