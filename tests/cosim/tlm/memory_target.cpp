#include "sim/cosim/memory_target.h"

#include <tlm_utils/simple_initiator_socket.h>

#include <catch2/catch.hpp>
#include <string>

#include "base/rng.h"
#include "sim/cosim/lockstep.h"

using namespace moesaic;
using base::Bytes;
using base::Cycles;

namespace {

constexpr std::int64_t kPeriodPs = 2000;

memory::MemoryConfig small_dram() {
  memory::MemoryConfig config;
  config.kind = "dram";
  config.dram = memory::dram_preset("ddr5-6400");
  config.dram.read_queue = config.dram.write_queue = 8;
  config.dram.write_high = 6;
  config.dram.write_low = 2;
  return config;
}

sc_core::sc_time edge(std::int64_t cycle) {
  return sc_core::sc_time(static_cast<double>(cycle * kPeriodPs), sc_core::SC_PS);
}

std::vector<std::uint64_t> addresses(std::size_t count, unsigned beat) {
  base::Rng rng(6);
  std::vector<std::uint64_t> all;
  for (std::size_t i = 0; i < count; ++i) all.push_back(beat * (i % 40 < 30 ? i : rng.below(1 << 20)));
  return all;
}

/// Asks for all reads as fast as the target takes them; notes when each is answered.
class Reader : public sc_core::sc_module {
 public:
  tlm_utils::simple_initiator_socket<Reader> socket{"socket"};
  std::vector<std::int64_t> answered;

  Reader(const sc_core::sc_module_name& name, std::vector<std::uint64_t> reads, unsigned beat)
      : sc_module(name), beat_(beat), reads_(std::move(reads)), payloads_(reads_.size()), data_(beat * reads_.size()) {
    socket.register_nb_transport_bw(this, &Reader::answer);
    sc_core::sc_spawn([this] { ask(); });
  }

 private:
  void ask() {
    if (next_ == reads_.size()) return;
    tlm::tlm_generic_payload& payload = payloads_[next_];
    payload.set_command(tlm::TLM_READ_COMMAND);
    payload.set_address(reads_[next_]);
    payload.set_data_ptr(data_.data() + beat_ * next_);
    payload.set_data_length(beat_);
    payload.set_streaming_width(beat_);
    ++next_;
    tlm::tlm_phase phase = tlm::BEGIN_REQ;
    sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
    socket->nb_transport_fw(payload, phase, delay);
  }
  tlm::tlm_sync_enum answer(tlm::tlm_generic_payload& payload, tlm::tlm_phase& phase, sc_core::sc_time&) {
    if (phase == tlm::END_REQ) {
      ask();
      return tlm::TLM_ACCEPTED;
    }
    if (!payload.is_response_ok()) return tlm::TLM_COMPLETED;
    answered.push_back(static_cast<std::int64_t>(sc_core::sc_time_stamp().value() / edge(1).value()));
    phase = tlm::END_RESP;
    return tlm::TLM_UPDATED;
  }
  unsigned beat_;  // bytes
  std::vector<std::uint64_t> reads_;
  std::vector<tlm::tlm_generic_payload> payloads_;
  std::vector<unsigned char> data_;
  std::size_t next_ = 0;
};

cosim::Report read_pipelined(unsigned beat) {
  cosim::Report report;
  const auto reads = addresses(600, beat);
  cosim::MemoryTarget target("target", small_dram(), base::Femtoseconds(kPeriodPs * 1000));
  Reader reader("reader", reads, beat);
  reader.socket.bind(target.socket);
  sc_core::sc_start(edge(100000));

  // The same reads, given to the model itself.
  const auto model = memory::make_memory(small_dram(), base::Femtoseconds(kPeriodPs * 1000));
  std::vector<std::int64_t> expected;
  std::size_t next = 0;
  for (std::int64_t now = 0; expected.size() < reads.size(); ++now) {
    while (next < reads.size() && model->submit({0, false, reads[next], Bytes(beat)}, Cycles(now))) ++next;
    for (; model->finished(0, false, Cycles(now)) > 0; model->take(0, false)) expected.push_back(now);
  }
  if (reader.answered != expected) report.message = "reads were answered at other cycles than the model's own";
  if (expected.front() == expected.back()) report.message += "; the model took no time";
  return report;
}

/// A thread that writes, reads back, and asks for what is refused.
class Blocking : public sc_core::sc_module {
 public:
  tlm_utils::simple_initiator_socket<Blocking> socket{"socket"};
  std::string message = "the thread did not end";
  explicit Blocking(const sc_core::sc_module_name& name) : sc_module(name) {
    sc_core::sc_spawn([this] { run(); });
  }

 private:
  tlm::tlm_response_status move(tlm::tlm_command command, std::uint64_t address, unsigned char* data, unsigned bytes,
                                unsigned width) {
    tlm::tlm_generic_payload payload;
    payload.set_command(command);
    payload.set_address(address);
    payload.set_data_ptr(data);
    payload.set_data_length(bytes);
    payload.set_streaming_width(width);
    payload.set_response_status(tlm::TLM_INCOMPLETE_RESPONSE);
    sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
    socket->b_transport(payload, delay);
    wait(delay);
    return payload.get_response_status();
  }
  void run() {
    message.clear();
    unsigned char out[32], in[32] = {};
    for (unsigned i = 0; i < 32; ++i) out[i] = static_cast<unsigned char>(3 * i + 1);
    const auto expect = [this](bool good, const char* what) {
      if (!good) message += std::string(what) + "; ";
    };
    expect(move(tlm::TLM_WRITE_COMMAND, 4090, out, 32, 32) == tlm::TLM_OK_RESPONSE, "write refused");
    const sc_core::sc_time begun = sc_core::sc_time_stamp();
    expect(move(tlm::TLM_READ_COMMAND, 4090, in, 32, 32) == tlm::TLM_OK_RESPONSE, "read refused");
    expect(std::equal(out, out + 32, in), "other bytes read than written");
    expect(sc_core::sc_time_stamp() - begun > sc_core::sc_time(30, sc_core::SC_NS), "a read that took no time");
    move(tlm::TLM_READ_COMMAND, 1 << 20, in, 32, 32);
    expect(std::all_of(in, in + 32, [](unsigned char c) { return c == 0; }), "unwritten bytes are not 0");
    const auto end = static_cast<std::uint64_t>(small_dram().dram.capacity().count());
    expect(move(tlm::TLM_READ_COMMAND, end - 8, in, 32, 32) == tlm::TLM_ADDRESS_ERROR_RESPONSE, "address taken");
    expect(move(tlm::TLM_READ_COMMAND, 0, in, 32, 16) == tlm::TLM_BURST_ERROR_RESPONSE, "streaming taken");
    expect(move(tlm::TLM_IGNORE_COMMAND, 0, in, 32, 32) == tlm::TLM_COMMAND_ERROR_RESPONSE, "no command taken");
  }
};

cosim::Report write_and_read_back() {
  cosim::Report report;
  cosim::MemoryTarget target("target", small_dram(), base::Femtoseconds(kPeriodPs * 1000));
  Blocking blocking("blocking");
  blocking.socket.bind(target.socket);
  sc_core::sc_start(edge(100000));
  report.message = blocking.message;
  return report;
}

}  // namespace

TEST_CASE("reads through the target socket are answered in the model's own cycles", "[cosim][tlm]") {
  for (const unsigned beat : {32U, 64U}) {
    const cosim::Report report = cosim::run_forked([beat] { return read_pipelined(beat); });
    INFO(beat << " bytes a beat: " << report.message);
    CHECK(report.ok());
  }
}

TEST_CASE("a thread reads back what it wrote, and is told what the target does not do", "[cosim][tlm]") {
  const cosim::Report report = cosim::run_forked(write_and_read_back);
  INFO(report.message);
  CHECK(report.ok());
}
