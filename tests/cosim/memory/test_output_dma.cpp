#include <catch2/catch.hpp>
#include <deque>
#include <map>
#include <stdexcept>

#include "Vrtl_moe_output_dma_128.h"
#include "Vrtl_moe_output_dma_256.h"
#include "Vrtl_moe_output_dma_512.h"
#include "Vrtl_moe_output_dma_64.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/memory/output_dma.h"
#include "tests/cosim/memory/memory_model.h"

namespace moesaic::cosim {
namespace {

struct Chunk {
  std::uint64_t addr = 0;
  unsigned bytes = 0;
};

/// Rows of chunks as the drain writes them (4 elements of 1, 2 or 8 bytes, the last chunk shorter), and single chunks
/// of any size at any address. No byte is asked for twice.
class Chunks {
 public:
  explicit Chunks(base::Rng rng) : rng_(rng) {}
  Chunk next() {
    if (row_.empty()) fill();
    const Chunk chunk = row_.front();
    row_.pop_front();
    return chunk;
  }

 private:
  void fill() {
    free_ += rng_.chance(1, 2) ? rng_.below(100) : rng_.below(4) * 64;
    if (rng_.chance(1, 3)) {
      row_.push_back({free_, static_cast<unsigned>(1 + rng_.below(32))});
    } else {
      const unsigned element = rng_.pick(std::vector<unsigned>{1, 2, 8});
      const unsigned count = static_cast<unsigned>(1 + rng_.below(40));
      std::uint64_t addr = free_;
      for (unsigned done = 0; done < count; done += 4) {
        const unsigned bytes = element * std::min(4u, count - done);
        row_.push_back({addr, bytes});
        addr += bytes;
      }
    }
    free_ = row_.back().addr + row_.back().bytes;
  }
  base::Rng rng_;
  std::uint64_t free_ = 0xff'0000'0000;
  std::deque<Chunk> row_;
};

struct WrittenBeat {
  cycle::Beat data;
  std::uint64_t strobe = 0;
};

template <class V>
Report run_output_dma(unsigned width, bool faults, const Options& options) {
  cycle::CoreParams params;
  params.axi_data_bits = width;
  const unsigned beat_bytes = params.beat_bytes();
  Verilated<V> rtl;
  cycle::OutputDma twin("output_dma", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& in_valid = bench.in("in_valid_i", twin.in_valid_i, rtl->in_valid_i);
  auto& in_ready = bench.out("in_ready_o", twin.in_ready_o, rtl->in_ready_o);
  auto& in_addr = bench.in("in_addr_i", twin.in_addr_i, rtl->in_addr_i, 40);
  auto& in_bytes = bench.in("in_bytes_i", twin.in_bytes_i, rtl->in_bytes_i, 6);
  auto& in_data = bench.in("in_data_i", twin.in_data_i, rtl->in_data_i, 64, 4);
  auto& flush = bench.in("flush_i", twin.flush_i, rtl->flush_i);
  auto& aw_valid = bench.out("aw_valid_o", twin.aw_valid_o, rtl->aw_valid_o);
  auto& aw_ready = bench.in("aw_ready_i", twin.aw_ready_i, rtl->aw_ready_i);
  auto& aw_addr = bench.out("aw_addr_o", twin.aw_addr_o, rtl->aw_addr_o, 40);
  auto& aw_len = bench.out("aw_len_o", twin.aw_len_o, rtl->aw_len_o, 8);
  auto& aw_size = bench.out("aw_size_o", twin.aw_size_o, rtl->aw_size_o, 3);
  auto& aw_burst = bench.out("aw_burst_o", twin.aw_burst_o, rtl->aw_burst_o, 2);
  auto& w_valid = bench.out("w_valid_o", twin.w_valid_o, rtl->w_valid_o);
  auto& w_ready = bench.in("w_ready_i", twin.w_ready_i, rtl->w_ready_i);
  auto& w_data = bench.out("w_data_o", twin.w_data_o, rtl->w_data_o, 64, width / 64);
  auto& w_strb = bench.out("w_strb_o", twin.w_strb_o, rtl->w_strb_o, beat_bytes);
  auto& w_last = bench.out("w_last_o", twin.w_last_o, rtl->w_last_o);
  auto& b_valid = bench.in("b_valid_i", twin.b_valid_i, rtl->b_valid_i);
  auto& b_ready = bench.out("b_ready_o", twin.b_ready_o, rtl->b_ready_o);
  auto& b_resp = bench.in("b_resp_i", twin.b_resp_i, rtl->b_resp_i, 2);
  auto& idle = bench.out("idle_o", twin.idle_o, rtl->idle_o);
  auto& resp_error = bench.out("resp_error_o", twin.resp_error_o, rtl->resp_error_o);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  base::Rng rng = bench.rng("data");
  base::Rng fault_rng = bench.rng("faults");
  Chunks chunks(bench.rng("chunks"));
  std::map<std::uint64_t, std::uint8_t> expected;  // bytes asked for and not yet written
  std::deque<std::uint64_t> addresses;             // AW without its W
  std::deque<WrittenBeat> beats;                   // W without its AW
  unsigned answers_due = 0, unanswered = 0;        // both channels done; AW done
  unsigned until_flush = 0;                        // chunks
  bool draining = false, faulted = false;
  std::uint64_t drain_since = 0;
  bool aw_waits = false, w_waits = false;
  std::uint64_t aw_before = 0;
  WrittenBeat w_before;
  bench.on_reset([&] {
    expected.clear();
    addresses.clear();
    beats.clear();
    answers_due = unanswered = until_flush = 0;
    draining = faulted = aw_waits = w_waits = false;
    flush.write(false);
  });

  const auto pair_up = [&] {
    while (!addresses.empty() && !beats.empty()) {
      for (unsigned i = 0; i < beat_bytes; ++i) {
        const std::uint8_t byte = static_cast<std::uint8_t>(cycle::take_bits(beats.front().data, 8 * i, 8));
        if ((beats.front().strobe >> i & 1) == 0) {
          if (byte != 0) bench.fail("a byte without strobe is not 0");
          continue;
        }
        const auto at = expected.find(addresses.front() + i);
        if (at == expected.end()) return bench.fail("a byte was written that was not asked for, or twice");
        if (at->second != byte) return bench.fail("a byte was written with another value");
        expected.erase(at);
      }
      addresses.pop_front();
      beats.pop_front();
      ++answers_due;
    }
  };

  Source source(
      bench, "in", in_valid, in_ready,
      [&] {
        if (draining) return false;
        const Chunk chunk = chunks.next();
        cycle::Beat data(4);
        for (std::uint64_t& word : data) word = rng.next();
        in_addr.write(chunk.addr);
        in_bytes.write(chunk.bytes);
        in_data.write(data);
        return true;
      },
      [&] {
        in_addr.write(0);
        in_bytes.write(0);
        in_data.write(cycle::Beat(4));
      },
      [&] {
        for (unsigned i = 0; i < in_bytes.value(); ++i) {
          expected[in_addr.value() + i] = static_cast<std::uint8_t>(cycle::take_bits(in_data.value(), 8 * i, 8));
        }
        if (until_flush > 0) --until_flush;
      });
  // Every so many chunks: stop, flush, and everything must come out.
  bench.on_falling([&](std::uint64_t now) {
    flush.write(rng.chance(1, 50));  // a flush at any time loses nothing
    if (!draining && until_flush == 0 && !in_valid.value()) {
      draining = true;
      drain_since = now;
      flush.write(true);
    } else if (draining && idle.read()) {
      if (!expected.empty()) bench.fail("idle with " + std::to_string(expected.size()) + " bytes unwritten");
      draining = false;
      until_flush = static_cast<unsigned>(1 + rng.below(60));
    } else if (draining && now > drain_since + 3000) {
      bench.fail("a flush did not end");
    }
  });
  Sink aw(bench, "aw", aw_ready, aw_valid, [&] {
    if (aw_len.read() != 0 || aw_burst.read() != 1 || (1u << aw_size.read()) != beat_bytes ||
        aw_addr.read() % beat_bytes != 0) {
      bench.fail("the write is not one whole beat");
    }
    addresses.push_back(aw_addr.read());
    if (++unanswered > 15) bench.fail("more than 15 writes are unanswered");
    pair_up();
  });
  Sink w(bench, "w", w_ready, w_valid, [&] {
    if (!w_last.read()) bench.fail("a single beat is not the last of its burst");
    if (w_strb.read() == 0) bench.fail("a beat writes nothing");
    beats.push_back({w_data.read(), w_strb.read()});
    pair_up();
  });
  bench.on_sample([&](std::uint64_t) {
    if (aw_waits && (!aw_valid.read() || aw_addr.read() != aw_before))
      bench.fail("an address was withdrawn or changed");
    if (w_waits && (!w_valid.read() || w_data.read() != w_before.data || w_strb.read() != w_before.strobe)) {
      bench.fail("a beat was withdrawn or changed");
    }
    aw_waits = aw_valid.read() && !aw_ready.value();
    w_waits = w_valid.read() && !w_ready.value();
    aw_before = aw_addr.read();
    w_before = {w_data.read(), w_strb.read()};
    if (resp_error.read() != faulted) bench.fail("resp_error_o does not tell the responses so far");
  });
  Source b(
      bench, "b", b_valid, b_ready,
      [&] {
        if (answers_due == 0) return false;
        const bool bad = faults && fault_rng.chance(1, 500);
        b_resp.write(bad ? 2 + fault_rng.below(2) : 0);
        return true;
      },
      [&] { b_resp.write(0); },
      [&] {
        --answers_due;
        --unanswered;
        faulted = faulted || b_resp.value() != 0;
      });
  bench.on_sample([&](std::uint64_t) {
    if (b_valid.value() && !b_ready.read()) bench.fail("an answer that is due was refused");
  });
  return bench.run();
}

/// Beats that one row of `chunks` consecutive chunks of `bytes` each takes, with nothing stalling.
template <class V>
Report run_row(unsigned width, unsigned chunks, unsigned bytes, std::uint64_t expected_beats, const Options& options) {
  cycle::CoreParams params;
  params.axi_data_bits = width;
  Verilated<V> rtl;
  cycle::OutputDma twin("output_dma", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& in_valid = bench.in("in_valid_i", twin.in_valid_i, rtl->in_valid_i);
  auto& in_ready = bench.out("in_ready_o", twin.in_ready_o, rtl->in_ready_o);
  auto& in_addr = bench.in("in_addr_i", twin.in_addr_i, rtl->in_addr_i, 40);
  auto& in_bytes = bench.in("in_bytes_i", twin.in_bytes_i, rtl->in_bytes_i, 6);
  auto& in_data = bench.in("in_data_i", twin.in_data_i, rtl->in_data_i, 64, 4);
  auto& flush = bench.in("flush_i", twin.flush_i, rtl->flush_i);
  auto& aw_valid = bench.out("aw_valid_o", twin.aw_valid_o, rtl->aw_valid_o);
  auto& aw_ready = bench.in("aw_ready_i", twin.aw_ready_i, rtl->aw_ready_i);
  bench.out("aw_addr_o", twin.aw_addr_o, rtl->aw_addr_o, 40);
  bench.out("aw_len_o", twin.aw_len_o, rtl->aw_len_o, 8);
  bench.out("aw_size_o", twin.aw_size_o, rtl->aw_size_o, 3);
  bench.out("aw_burst_o", twin.aw_burst_o, rtl->aw_burst_o, 2);
  auto& w_valid = bench.out("w_valid_o", twin.w_valid_o, rtl->w_valid_o);
  auto& w_ready = bench.in("w_ready_i", twin.w_ready_i, rtl->w_ready_i);
  bench.out("w_data_o", twin.w_data_o, rtl->w_data_o, 64, width / 64);
  bench.out("w_strb_o", twin.w_strb_o, rtl->w_strb_o, width / 8);
  bench.out("w_last_o", twin.w_last_o, rtl->w_last_o);
  auto& b_valid = bench.in("b_valid_i", twin.b_valid_i, rtl->b_valid_i);
  bench.out("b_ready_o", twin.b_ready_o, rtl->b_ready_o);
  auto& b_resp = bench.in("b_resp_i", twin.b_resp_i, rtl->b_resp_i, 2);
  auto& idle = bench.out("idle_o", twin.idle_o, rtl->idle_o);
  bench.out("resp_error_o", twin.resp_error_o, rtl->resp_error_o);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  unsigned sent = 0;
  std::uint64_t written = 0, answered = 0;
  bench.on_reset([&] {
    in_valid.write(false);
    in_addr.write(0);
    in_bytes.write(0);
    in_data.write(cycle::Beat(4));
    flush.write(false);
    aw_ready.write(true);
    w_ready.write(true);
    b_valid.write(false);
    b_resp.write(0);
  });
  bench.on_falling([&](std::uint64_t) {
    in_valid.write(sent < chunks);
    in_addr.write(sent < chunks ? 4096 + sent * bytes : 0);
    in_bytes.write(sent < chunks ? bytes : 0);
    b_valid.write(answered < written);
  });
  bench.on_sample([&](std::uint64_t) {
    if (in_valid.value() && in_ready.read()) ++sent;
    if (b_valid.value()) ++answered;
    if (aw_valid.read() != w_valid.read()) bench.fail("address and data of a single beat part without a stall");
    if (aw_valid.read()) {
      ++written;
      bench.count_transfer();
    }
  });
  const Report report = bench.run();
  if (report.ok() && (written != expected_beats || !idle.read()))
    throw std::logic_error("the row took " + std::to_string(written) + " beats");
  return report;
}

void check(const Report& report, std::uint64_t transfers) {
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > transfers);
}

}  // namespace

TEST_CASE("moe_output_dma and its twin write every byte exactly once by legal AXI4 writes, in step",
          "[cosim][output_dma]") {
  const std::string title = "moe_output_dma and its twin write every byte exactly once by legal AXI4 writes, in step";
  check(run_forked([&] {
          return run_output_dma<Vrtl_moe_output_dma_64>(64, false, Options::from_environment(title, 1, 30000));
        }),
        15000);
  check(run_forked([&] {
          return run_output_dma<Vrtl_moe_output_dma_128>(128, false, Options::from_environment(title, 2, 30000));
        }),
        15000);
  check(run_forked([&] {
          return run_output_dma<Vrtl_moe_output_dma_256>(256, false, Options::from_environment(title, 3, 30000));
        }),
        15000);
  check(run_forked([&] {
          return run_output_dma<Vrtl_moe_output_dma_512>(512, false, Options::from_environment(title, 5, 30000));
        }),
        15000);
}

TEST_CASE("an error response to a write stays visible on resp_error_o until reset", "[cosim][output_dma]") {
  const std::string title = "an error response to a write stays visible on resp_error_o until reset";
  check(run_forked([&] {
          return run_output_dma<Vrtl_moe_output_dma_64>(64, true, Options::from_environment(title, 4, 10000));
        }),
        4000);
}

TEST_CASE("chunks that fall into one beat leave as one beat", "[cosim][output_dma]") {
  Options options = Options::from_environment("chunks that fall into one beat leave as one beat", 1, 200);
  options.mid_reset = false;
  check(run_forked([&] { return run_row<Vrtl_moe_output_dma_64>(64, 16, 4, 8, options); }), 7);
  check(run_forked([&] { return run_row<Vrtl_moe_output_dma_256>(256, 16, 8, 4, options); }), 3);
  check(run_forked([&] { return run_row<Vrtl_moe_output_dma_512>(512, 8, 32, 4, options); }), 3);
  check(run_forked([&] { return run_row<Vrtl_moe_output_dma_64>(64, 4, 32, 16, options); }), 15);
}

TEST_CASE("a flipped write strobe is reported as a difference", "[cosim][output_dma]") {
  Options options = Options::from_environment("a flipped write strobe is reported as a difference", 1, 2000);
  options.injection = {"w_strb_o", 2, 300};
  const Report report = run_forked([&] { return run_output_dma<Vrtl_moe_output_dma_64>(64, false, options); });
  CHECK(report.differences == 1);
  CHECK_THAT(report.message, Catch::Contains("w_strb_o"));
}

}  // namespace moesaic::cosim
