#pragma once
/// Reads byte segments through an AXI4 read manager and hands them out as one gapless bit stream.
/// RTL twin: rtl/memory/moe_stream_reader.sv. Rate: one burst, one beat and one pop a cycle; two cycles from a beat on
/// r_* to its bits on data_o. Bursts are INCR, at most 16 beats, never across 4 KiB, and issued only with FIFO room for
/// all of it. Of the segments of each seg_keep_i (0, 1 or 2) the beat read last is kept; one with seg_resume_i begins
/// in it and asks for the beats after it only. Asynchronous reset.
#include <array>
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/core_params.h"
#include "sim/cycle/memory/beat.h"

namespace moesaic::cycle {

class StreamReader : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<bool> seg_valid_i{"seg_valid_i"};
  sc_core::sc_out<bool> seg_ready_o{"seg_ready_o"};
  sc_core::sc_in<std::uint64_t> seg_addr_i{"seg_addr_i"};
  sc_core::sc_in<std::uint64_t> seg_bytes_i{"seg_bytes_i"};
  sc_core::sc_in<std::uint64_t> seg_keep_i{"seg_keep_i"};
  sc_core::sc_in<bool> seg_resume_i{"seg_resume_i"};
  sc_core::sc_out<bool> ar_valid_o{"ar_valid_o"};
  sc_core::sc_in<bool> ar_ready_i{"ar_ready_i"};
  sc_core::sc_out<std::uint64_t> ar_addr_o{"ar_addr_o"};
  sc_core::sc_out<std::uint64_t> ar_len_o{"ar_len_o"};
  sc_core::sc_out<std::uint64_t> ar_size_o{"ar_size_o"};
  sc_core::sc_out<std::uint64_t> ar_burst_o{"ar_burst_o"};
  sc_core::sc_in<bool> r_valid_i{"r_valid_i"};
  sc_core::sc_out<bool> r_ready_o{"r_ready_o"};
  sc_core::sc_in<Beat> r_data_i{"r_data_i"};
  sc_core::sc_in<std::uint64_t> r_resp_i{"r_resp_i"};
  sc_core::sc_in<bool> r_last_i{"r_last_i"};
  sc_core::sc_out<std::uint64_t> avail_o{"avail_o"};
  sc_core::sc_out<Beat> data_o{"data_o"};
  sc_core::sc_in<std::uint64_t> pop_i{"pop_i"};
  sc_core::sc_out<bool> idle_o{"idle_o"};
  sc_core::sc_out<bool> resp_error_o{"resp_error_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(StreamReader);
  StreamReader(const sc_core::sc_module_name& name, const CoreParams& params);

 private:
  struct StoredBeat {
    Beat data;
    bool last = false;
  };
  struct Burst {
    unsigned skip = 0;  // bytes of the first beat before the segment
    unsigned beats = 0;
    unsigned end = 0;     // bytes of the last beat up to the segment's end
    bool resume = false;  // its first beat is the kept one
    unsigned keep = 0;
  };
  struct NextBurst {
    unsigned beats = 0;
    unsigned asked = 0;   // of the beats, without a kept one
    bool last = false;    // of the segment
    bool valid = false;   // the memory is asked
    bool silent = false;  // it need not be
    bool issues(bool ar_ready) const { return silent || (valid && ar_ready); }
  };
  NextBurst next_burst() const;
  bool stored() const { return used_ != owed_; }
  /// The next beat for the gearbox is a kept one.
  bool resumes() const { return burst_count_ != 0 && beat_in_burst_ == 0 && bursts_[burst_read_].resume; }
  bool inserts() const { return (stored() || resumes()) && avail_ <= 2 * data_bits_; }
  bool idle() const { return !segment_ && burst_count_ == 0 && avail_ == 0; }
  void drop(unsigned bits);
  void insert();
  void reset();
  void on_clock();
  void drive_state();
  void drive_seg_ready();
  void drive_activity();

  const unsigned data_bits_, beat_bytes_, depth_;
  bool segment_ = false;
  std::uint64_t addr_ = 0;
  std::uint64_t bytes_ = 0;
  unsigned keep_ = 0;
  bool resume_ = false;  // the segment's next beat is the kept one
  unsigned owed_ = 0, used_ = 0;
  std::vector<StoredBeat> beats_;
  std::vector<Burst> bursts_;
  std::array<Beat, 3> kept_;
  unsigned beat_write_ = 0, beat_read_ = 0, burst_write_ = 0, burst_read_ = 0, burst_count_ = 0, beat_in_burst_ = 0;
  std::array<std::uint64_t, 3 * Beat::kCapacity + 1> box_{};  // 3 beats and a word of slack
  unsigned avail_ = 0;
  bool error_ = false;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
