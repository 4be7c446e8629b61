#pragma once
#include <cstdint>
#include <memory>
#include <systemc>
#include <vector>

#include "sim/cycle/array/pe_array.h"
#include "sim/cycle/common/command_signal.h"
#include "sim/cycle/common/core_params.h"
#include "sim/cycle/core/drain.h"
#include "sim/cycle/core/scheduler.h"
#include "sim/cycle/core/tile_sequencer.h"
#include "sim/cycle/dequant/acc_buffer.h"
#include "sim/cycle/dequant/group_dequant.h"
#include "sim/cycle/dequant/requant.h"
#include "sim/cycle/dequant/swiglu.h"
#include "sim/cycle/memory/act_buffer.h"
#include "sim/cycle/memory/act_loader.h"
#include "sim/cycle/memory/beat.h"
#include "sim/cycle/memory/hidden_buffer.h"
#include "sim/cycle/memory/output_dma.h"
#include "sim/cycle/memory/stream_reader.h"
#include "sim/cycle/memory/weight_fetch.h"
#include "sim/cycle/memory/weight_loader.h"
#include "sim/cycle/queue/axil_regs.h"
#include "sim/cycle/queue/command_queue.h"
#include "sim/cycle/queue/counters.h"
#include "sim/cycle/queue/fetch_dispatch.h"
#include "sim/cycle/queue/io_queue.h"

namespace moesaic::cycle {

/// One core, the twin of rtl/core/moe_core.sv with the same ports: every output equal in every cycle. Any parameters of
/// docs/core.md's table. Asynchronous reset; no combinational path from an input to an output.
class Core : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};

  sc_core::sc_in<bool> axil_aw_valid_i{"axil_aw_valid_i"};
  sc_core::sc_out<bool> axil_aw_ready_o{"axil_aw_ready_o"};
  sc_core::sc_in<std::uint64_t> axil_aw_addr_i{"axil_aw_addr_i"};
  sc_core::sc_in<bool> axil_w_valid_i{"axil_w_valid_i"};
  sc_core::sc_out<bool> axil_w_ready_o{"axil_w_ready_o"};
  sc_core::sc_in<std::uint64_t> axil_w_data_i{"axil_w_data_i"};
  sc_core::sc_in<std::uint64_t> axil_w_strb_i{"axil_w_strb_i"};
  sc_core::sc_out<bool> axil_b_valid_o{"axil_b_valid_o"};
  sc_core::sc_in<bool> axil_b_ready_i{"axil_b_ready_i"};
  sc_core::sc_out<std::uint64_t> axil_b_resp_o{"axil_b_resp_o"};
  sc_core::sc_in<bool> axil_ar_valid_i{"axil_ar_valid_i"};
  sc_core::sc_out<bool> axil_ar_ready_o{"axil_ar_ready_o"};
  sc_core::sc_in<std::uint64_t> axil_ar_addr_i{"axil_ar_addr_i"};
  sc_core::sc_out<bool> axil_r_valid_o{"axil_r_valid_o"};
  sc_core::sc_in<bool> axil_r_ready_i{"axil_r_ready_i"};
  sc_core::sc_out<std::uint64_t> axil_r_data_o{"axil_r_data_o"};
  sc_core::sc_out<std::uint64_t> axil_r_resp_o{"axil_r_resp_o"};

  sc_core::sc_out<bool> wgt_ar_valid_o{"wgt_ar_valid_o"};
  sc_core::sc_in<bool> wgt_ar_ready_i{"wgt_ar_ready_i"};
  sc_core::sc_out<std::uint64_t> wgt_ar_addr_o{"wgt_ar_addr_o"};
  sc_core::sc_out<std::uint64_t> wgt_ar_len_o{"wgt_ar_len_o"};
  sc_core::sc_out<std::uint64_t> wgt_ar_size_o{"wgt_ar_size_o"};
  sc_core::sc_out<std::uint64_t> wgt_ar_burst_o{"wgt_ar_burst_o"};
  sc_core::sc_in<bool> wgt_r_valid_i{"wgt_r_valid_i"};
  sc_core::sc_out<bool> wgt_r_ready_o{"wgt_r_ready_o"};
  sc_core::sc_in<Beat> wgt_r_data_i{"wgt_r_data_i"};
  sc_core::sc_in<std::uint64_t> wgt_r_resp_i{"wgt_r_resp_i"};
  sc_core::sc_in<bool> wgt_r_last_i{"wgt_r_last_i"};

  sc_core::sc_out<bool> act_ar_valid_o{"act_ar_valid_o"};
  sc_core::sc_in<bool> act_ar_ready_i{"act_ar_ready_i"};
  sc_core::sc_out<std::uint64_t> act_ar_addr_o{"act_ar_addr_o"};
  sc_core::sc_out<std::uint64_t> act_ar_len_o{"act_ar_len_o"};
  sc_core::sc_out<std::uint64_t> act_ar_size_o{"act_ar_size_o"};
  sc_core::sc_out<std::uint64_t> act_ar_burst_o{"act_ar_burst_o"};
  sc_core::sc_in<bool> act_r_valid_i{"act_r_valid_i"};
  sc_core::sc_out<bool> act_r_ready_o{"act_r_ready_o"};
  sc_core::sc_in<Beat> act_r_data_i{"act_r_data_i"};
  sc_core::sc_in<std::uint64_t> act_r_resp_i{"act_r_resp_i"};
  sc_core::sc_in<bool> act_r_last_i{"act_r_last_i"};

  sc_core::sc_out<bool> out_aw_valid_o{"out_aw_valid_o"};
  sc_core::sc_in<bool> out_aw_ready_i{"out_aw_ready_i"};
  sc_core::sc_out<std::uint64_t> out_aw_addr_o{"out_aw_addr_o"};
  sc_core::sc_out<std::uint64_t> out_aw_len_o{"out_aw_len_o"};
  sc_core::sc_out<std::uint64_t> out_aw_size_o{"out_aw_size_o"};
  sc_core::sc_out<std::uint64_t> out_aw_burst_o{"out_aw_burst_o"};
  sc_core::sc_out<bool> out_w_valid_o{"out_w_valid_o"};
  sc_core::sc_in<bool> out_w_ready_i{"out_w_ready_i"};
  sc_core::sc_out<Beat> out_w_data_o{"out_w_data_o"};
  sc_core::sc_out<std::uint64_t> out_w_strb_o{"out_w_strb_o"};
  sc_core::sc_out<bool> out_w_last_o{"out_w_last_o"};
  sc_core::sc_in<bool> out_b_valid_i{"out_b_valid_i"};
  sc_core::sc_out<bool> out_b_ready_o{"out_b_ready_o"};
  sc_core::sc_in<std::uint64_t> out_b_resp_i{"out_b_resp_i"};

  sc_core::sc_out<bool> io_req_valid_o{"io_req_valid_o"};
  sc_core::sc_in<bool> io_req_ready_i{"io_req_ready_i"};
  sc_core::sc_out<std::uint64_t> io_req_id_o{"io_req_id_o"};
  sc_core::sc_out<std::uint64_t> io_req_source_o{"io_req_source_o"};
  sc_core::sc_out<std::uint64_t> io_req_destination_o{"io_req_destination_o"};
  sc_core::sc_out<std::uint64_t> io_req_bytes_o{"io_req_bytes_o"};
  sc_core::sc_in<bool> io_done_valid_i{"io_done_valid_i"};
  sc_core::sc_out<bool> io_done_ready_o{"io_done_ready_o"};
  sc_core::sc_in<std::uint64_t> io_done_id_i{"io_done_id_i"};

  sc_core::sc_out<bool> retired_o{"retired_o"};
  sc_core::sc_out<bool> idle_o{"idle_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(Core);
  Core(sc_core::sc_module_name name, const CoreParams& params);

  /// What crosses the array's ports at the next rising edge, for who watches tiles.
  bool beat_fires() const { return beat_valid_->read() && beat_ready_->read(); }
  bool beat_is_last() const { return beat_last_->read(); }
  bool sum_fires() const { return sum_valid_->read() && sum_ready_->read(); }

 private:
  /// A wire between the named ports; the first is its driver.
  template <class T, class... Ports>
  sc_core::sc_signal<T>& wire(sc_core::sc_out<T>& driver, Ports&... readers) {
    auto signal = std::make_shared<sc_core::sc_signal<T>>(sc_core::sc_gen_unique_name("wire"));
    sc_core::sc_signal<T>& reference = *signal;
    driver.bind(reference);
    (readers.bind(reference), ...);
    wires_.push_back(std::move(signal));
    return reference;
  }
  void drive_fields();
  void drive_status();
  void drive_activity();

  AxilRegs regs_;
  Counters counters_;
  CommandQueue queue_;
  IoQueue io_queue_;
  FetchDispatch dispatch_;
  Scheduler scheduler_;
  WeightFetch weight_fetch_;
  StreamReader weight_reader_;
  WeightLoader weight_loader_;
  ActLoader act_loader_;
  StreamReader act_reader_;
  ActBuffer act_buffer_;
  HiddenBuffer hidden_buffer_;
  TileSequencer sequencer_;
  PeArray array_;
  GroupDequant dequant_;
  AccBuffer acc_buffer_;
  Drain drain_;
  Requant requant_;
  Swiglu swiglu_;
  OutputDma output_dma_;

  std::vector<std::shared_ptr<void>> wires_;
  std::vector<sc_core::sc_signal<std::uint64_t>*> activity_;  // by block
  sc_core::sc_signal<program::Command>* exec_cmd_ = nullptr;
  sc_core::sc_signal<bool>* exec_valid_ = nullptr;
  sc_core::sc_signal<bool>* exec_ready_ = nullptr;
  sc_core::sc_signal<bool>* beat_valid_ = nullptr;
  sc_core::sc_signal<bool>* beat_ready_ = nullptr;
  sc_core::sc_signal<bool>* beat_last_ = nullptr;
  sc_core::sc_signal<bool>* sum_valid_ = nullptr;
  sc_core::sc_signal<bool>* sum_ready_ = nullptr;
  std::vector<sc_core::sc_signal<bool>*> resp_errors_;
  // Fields of the executing command, and what else RTL writes in a port's place.
  sc_core::sc_signal<bool> store_hidden_{"store_hidden"}, sum_fire_{"sum_fire"}, resp_error_{"resp_error"};
  sc_core::sc_signal<std::uint64_t> act_bits_{"act_bits"}, tokens_{"tokens"};
  // The activation loader's segments never resume; never written.
  sc_core::sc_signal<std::uint64_t> no_keep_{"no_keep"};
  sc_core::sc_signal<bool> no_resume_{"no_resume"};
};

}  // namespace moesaic::cycle
