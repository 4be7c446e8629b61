#pragma once
#include <cstdint>
#include <systemc>
#include <vector>

#include "sim/cycle/common/command_signal.h"
#include "sim/cycle/common/core_params.h"

namespace moesaic::cycle {

/// Descriptors of expert planes on their way to the storage, and the jobs that wait for them; docs/io_queue.md.
/// RTL twin: rtl/queue/moe_io_queue.sv. Rate one push, one request, one completion per cycle; latency push to request 2
/// cycles, completion to release 1; asynchronous reset. Vectors of jobs have job j at bit j.
class IoQueue : public sc_core::sc_module {
 public:
  sc_core::sc_in<bool> clk_i{"clk_i"};
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  sc_core::sc_in<std::uint64_t> order_i{"order_i"};
  sc_core::sc_in<std::uint64_t> credits_i{"credits_i"};
  sc_core::sc_in<bool> push_valid_i{"push_valid_i"};
  sc_core::sc_out<bool> push_accept_o{"push_accept_o"};
  sc_core::sc_in<program::Descriptor> push_desc_i{"push_desc_i"};
  sc_core::sc_out<std::uint64_t> free_o{"free_o"};
  sc_core::sc_out<std::uint64_t> outstanding_o{"outstanding_o"};
  sc_core::sc_out<std::uint64_t> jobs_used_o{"jobs_used_o"};
  sc_core::sc_out<std::uint64_t> jobs_released_o{"jobs_released_o"};
  sc_core::sc_out<std::uint64_t> jobs_fetchable_o{"jobs_fetchable_o"};
  sc_core::sc_in<bool> pass_i{"pass_i"};
  sc_core::sc_in<std::uint64_t> pass_job_i{"pass_job_i"};
  sc_core::sc_in<bool> retire_i{"retire_i"};
  sc_core::sc_in<std::uint64_t> retire_job_i{"retire_job_i"};
  sc_core::sc_out<bool> io_req_valid_o{"io_req_valid_o"};
  sc_core::sc_in<bool> io_req_ready_i{"io_req_ready_i"};
  sc_core::sc_out<std::uint64_t> io_req_id_o{"io_req_id_o"};
  sc_core::sc_out<std::uint64_t> io_req_source_o{"io_req_source_o"};
  sc_core::sc_out<std::uint64_t> io_req_destination_o{"io_req_destination_o"};
  sc_core::sc_out<std::uint64_t> io_req_bytes_o{"io_req_bytes_o"};
  sc_core::sc_in<bool> io_done_valid_i{"io_done_valid_i"};
  sc_core::sc_out<bool> io_done_ready_o{"io_done_ready_o"};
  sc_core::sc_in<std::uint64_t> io_done_id_i{"io_done_id_i"};
  sc_core::sc_out<bool> error_o{"error_o"};
  sc_core::sc_out<std::uint64_t> activity_o{"activity_o"};

  SC_HAS_PROCESS(IoQueue);
  IoQueue(sc_core::sc_module_name name, const CoreParams& params);

 private:
  struct Job {
    bool used = false, closed = false, passed = false;
    unsigned missing = 0;  // planes that are not resident
    bool released() const { return closed && missing == 0; }
  };
  bool accepts(const program::Descriptor& d) const;
  bool pushes() const { return push_valid_i.read() && accepts(push_desc_i.read()); }
  bool selects() const;
  bool completes() const { return io_done_valid_i.read() && outstanding_ != 0; }
  bool is_owed(std::uint64_t id) const;
  void clear();
  void on_clock();
  void drive_state();
  void drive_push();
  void drive_activity();

  std::size_t depth_;
  std::vector<program::Descriptor> waiting_;  // oldest first
  std::vector<Job> jobs_;
  std::vector<bool> id_busy_;
  std::vector<std::size_t> id_job_;
  unsigned outstanding_ = 0;  // requests offered or accepted and not completed
  bool offered_ = false, error_ = false;
  unsigned offered_id_ = 0;
  program::Descriptor offered_load_;
  sc_core::sc_event changed_;
};

}  // namespace moesaic::cycle
