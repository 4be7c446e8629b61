#include <array>
#include <catch2/catch.hpp>
#include <deque>
#include <optional>
#include <stdexcept>

#include "Vrtl_moe_stream_reader_128.h"
#include "Vrtl_moe_stream_reader_256.h"
#include "Vrtl_moe_stream_reader_512.h"
#include "Vrtl_moe_stream_reader_64.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/memory/stream_reader.h"
#include "tests/cosim/memory/memory_model.h"

namespace moesaic::cosim {
namespace {

enum class Fault { kNone, kErrorResponse, kLastMissing };

struct Burst {
  std::uint64_t addr = 0;
  unsigned beats = 0, done = 0;
};

/// The rules of AXI4 that a read manager must keep, written from the standard and the block's promise, not from its
/// code.
std::string broken_rule(std::uint64_t addr, std::uint64_t len, std::uint64_t size, std::uint64_t burst,
                        unsigned beat_bytes) {
  if (burst != 1) return "the burst is not INCR";
  if ((1u << size) != beat_bytes) return "the burst is not as wide as the bus";
  if (addr % beat_bytes != 0) return "the burst is not aligned to its beats";
  if (len > 15) return "the burst is longer than 16 beats";
  if (addr / 4096 != (addr + (len + 1) * beat_bytes - 1) / 4096) return "the burst crosses 4 KiB";
  return "";
}

template <class V>
Report run_stream_reader(unsigned width, unsigned depth, Fault fault, const Options& options) {
  cycle::CoreParams params;
  params.axi_data_bits = width;
  params.fifo_depth = depth;
  const unsigned beat_bytes = params.beat_bytes();
  Verilated<V> rtl;
  cycle::StreamReader twin("stream_reader", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& seg_valid = bench.in("seg_valid_i", twin.seg_valid_i, rtl->seg_valid_i);
  auto& seg_ready = bench.out("seg_ready_o", twin.seg_ready_o, rtl->seg_ready_o);
  auto& seg_addr = bench.in("seg_addr_i", twin.seg_addr_i, rtl->seg_addr_i, 40);
  auto& seg_bytes = bench.in("seg_bytes_i", twin.seg_bytes_i, rtl->seg_bytes_i, 32);
  auto& seg_keep = bench.in("seg_keep_i", twin.seg_keep_i, rtl->seg_keep_i, 2);
  auto& seg_resume = bench.in("seg_resume_i", twin.seg_resume_i, rtl->seg_resume_i);
  auto& ar_valid = bench.out("ar_valid_o", twin.ar_valid_o, rtl->ar_valid_o);
  auto& ar_ready = bench.in("ar_ready_i", twin.ar_ready_i, rtl->ar_ready_i);
  auto& ar_addr = bench.out("ar_addr_o", twin.ar_addr_o, rtl->ar_addr_o, 40);
  auto& ar_len = bench.out("ar_len_o", twin.ar_len_o, rtl->ar_len_o, 8);
  auto& ar_size = bench.out("ar_size_o", twin.ar_size_o, rtl->ar_size_o, 3);
  auto& ar_burst = bench.out("ar_burst_o", twin.ar_burst_o, rtl->ar_burst_o, 2);
  auto& r_valid = bench.in("r_valid_i", twin.r_valid_i, rtl->r_valid_i);
  auto& r_ready = bench.out("r_ready_o", twin.r_ready_o, rtl->r_ready_o);
  auto& r_data = bench.in("r_data_i", twin.r_data_i, rtl->r_data_i, 64, width / 64);
  auto& r_resp = bench.in("r_resp_i", twin.r_resp_i, rtl->r_resp_i, 2);
  auto& r_last = bench.in("r_last_i", twin.r_last_i, rtl->r_last_i);
  auto& avail = bench.out("avail_o", twin.avail_o, rtl->avail_o, avail_bits(params));
  auto& data = bench.out("data_o", twin.data_o, rtl->data_o, 64, width / 64);
  auto& pop = bench.in("pop_i", twin.pop_i, rtl->pop_i, avail_bits(params));
  auto& idle = bench.out("idle_o", twin.idle_o, rtl->idle_o);
  auto& resp_error = bench.out("resp_error_o", twin.resp_error_o, rtl->resp_error_o);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  base::Rng rng = bench.rng("segments");
  base::Rng pop_rng = bench.rng("pops");
  base::Rng fault_rng = bench.rng("faults");
  Pace pop_pace(bench.rng("pop_pace"));
  std::deque<std::uint8_t> expected;                   // bits
  std::deque<std::uint64_t> unasked;                   // beats' addresses, in order
  std::array<std::optional<std::uint64_t>, 3> kept{};  // addresses of the beats kept once all segments are read
  std::uint64_t resumed = 0;
  unsigned tiny = 0;  // segments of a byte of a kept beat that are to come
  std::deque<Burst> bursts;
  std::uint64_t owed_beats = 0;
  bool faulted = false;  // an error went over R
  std::uint64_t faulted_at = 0;
  bool ar_waits = false;
  std::array<std::uint64_t, 2> ar_payload{};

  bench.on_reset([&] {
    expected.clear();
    unasked.clear();
    kept = {};
    tiny = 0;
    bursts.clear();
    owed_beats = 0;
    faulted = ar_waits = false;
    pop.write(0);
  });
  bench.on_sample([&](std::uint64_t) {
    if (idle.read() && (!expected.empty() || owed_beats != 0)) bench.fail("idle while something is owed or stored");
  });
  // Segments of any address and length, often near a 4 KiB boundary, and often from a kept beat on.
  Source segments(
      bench, "seg", seg_valid, seg_ready,
      [&] {
        std::uint64_t addr = rng.below((std::uint64_t{1} << 40) - 65536);
        if (rng.chance(1, 2)) addr = addr / 4096 * 4096 + 4096 - rng.below(3 * beat_bytes);
        std::uint64_t bytes = 1 + rng.below(3 * beat_bytes);
        if (rng.chance(1, 8)) bytes = 1 + rng.below(6000);
        const std::uint64_t keep = rng.below(3);
        const bool resume = kept[keep].has_value() && (tiny > 0 || rng.chance(2, 3));
        if (resume) {
          addr = *kept[keep] + rng.below(beat_bytes);
          if (rng.chance(3, 4)) bytes = 1 + rng.below(beat_bytes);
          if (tiny > 0) {  // so many that want nothing of the memory fill the FIFO of bursts
            bytes = 1;
            --tiny;
          } else if (rng.chance(1, 32)) {
            tiny = 3 * depth;
          }
        }
        seg_addr.write(addr);
        seg_bytes.write(bytes);
        seg_keep.write(keep);
        seg_resume.write(resume);
        return true;
      },
      [&] {
        seg_addr.write(0);
        seg_bytes.write(0);
        seg_keep.write(0);
        seg_resume.write(false);
      },
      [&] {
        const std::uint64_t first = seg_addr.value() / beat_bytes, end = seg_addr.value() + seg_bytes.value();
        for (std::uint64_t beat = first + (seg_resume.value() ? 1 : 0); beat * beat_bytes < end; ++beat) {
          unasked.push_back(beat * beat_bytes);
        }
        kept[seg_keep.value()] = (end - 1) / beat_bytes * beat_bytes;
        resumed += seg_resume.value() ? 1 : 0;
        for (std::uint64_t i = 0; i < seg_bytes.value(); ++i) {
          const std::uint8_t byte = byte_at(seg_addr.value() + i);
          for (unsigned bit = 0; bit < 8; ++bit) expected.push_back((byte >> bit) & 1);
        }
      });
  Sink addresses(bench, "ar", ar_ready, ar_valid, [&] {
    const std::string rule = broken_rule(ar_addr.read(), ar_len.read(), ar_size.read(), ar_burst.read(), beat_bytes);
    if (!rule.empty()) bench.fail(rule);
    bursts.push_back({ar_addr.read(), static_cast<unsigned>(ar_len.read()) + 1, 0});
    for (std::uint64_t beat = 0; beat <= ar_len.read(); ++beat) {
      if (unasked.empty() || unasked.front() != ar_addr.read() + beat * beat_bytes) {
        return bench.fail("a beat is read that is kept or that no segment holds");
      }
      unasked.pop_front();
    }
    owed_beats += ar_len.read() + 1;
    if (owed_beats > depth) bench.fail("more beats are owed than the FIFO holds");
  });
  bench.on_sample([&](std::uint64_t) {
    if (ar_waits && (!ar_valid.read() || ar_payload != std::array<std::uint64_t, 2>{ar_addr.read(), ar_len.read()})) {
      bench.fail("a burst was withdrawn or changed before it was accepted");
    }
    ar_waits = ar_valid.read() && !ar_ready.value();
    ar_payload = {ar_addr.read(), ar_len.read()};
  });
  Source beats(
      bench, "r", r_valid, r_ready,
      [&] {
        if (bursts.empty()) return false;
        Burst& burst = bursts.front();
        cycle::Beat beat(width / 64);
        for (unsigned w = 0; w < width / 64; ++w) beat[w] = bytes_at(burst.addr + burst.done * beat_bytes + 8 * w, 8);
        const bool last = ++burst.done == burst.beats;
        if (last) bursts.pop_front();
        const bool bad = fault != Fault::kNone && fault_rng.chance(1, 2000);
        r_data.write(beat);
        r_resp.write(bad && fault == Fault::kErrorResponse ? 2 + fault_rng.below(2) : 0);
        r_last.write(bad && fault == Fault::kLastMissing ? !last : last);
        if (bad && !faulted) {
          faulted = true;
          faulted_at = bench.cycle();
        }
        return true;
      },
      [&] {
        r_data.write(cycle::Beat(width / 64));
        r_resp.write(0);
        r_last.write(false);
      },
      [&] { --owed_beats; });
  bench.on_sample([&](std::uint64_t) {
    if (r_valid.value() && !r_ready.read()) bench.fail("a beat that is owed was refused");
  });
  // Pops of any number of bits, full beats more often than not.
  bench.on_falling([&](std::uint64_t) {
    const std::uint64_t most = std::min<std::uint64_t>(avail.read(), width + 8);
    pop.write(!pop_pace.go() ? 0 : pop_rng.chance(1, 2) ? most : pop_rng.below(most + 1));
  });
  bench.on_sample([&](std::uint64_t now) {
    const std::uint64_t bits = avail.read();
    if (bits > expected.size()) return bench.fail("more bits are offered than were asked for");
    for (std::uint64_t i = 0; i < width; ++i) {
      const std::uint64_t bit = (data.read().at_or_zero(i / 64) >> (i % 64)) & 1;
      if (bit != (i < bits ? expected[i] : 0u)) return bench.fail("bit " + std::to_string(i) + " is not the memory's");
    }
    // An error is seen within the time it takes a beat through the FIFO.
    if (resp_error.read() && !faulted) bench.fail("an error is reported that did not happen");
    if (faulted && fault == Fault::kErrorResponse && now > faulted_at + 1 && !resp_error.read()) {
      bench.fail("an error response is not reported");
    }
    if (faulted && now > faulted_at + 4000 && !resp_error.read()) bench.fail("a misplaced r_last_i is not reported");
    expected.erase(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(pop.value()));
    if (pop.value() != 0) bench.count_transfer();
  });
  const Report report = bench.run();
  if (fault != Fault::kNone && !faulted && report.ok()) throw std::logic_error("the run was too short for a fault");
  if (fault == Fault::kNone && report.ok() && resumed < options.cycles / 100) {
    throw std::logic_error("too few segments resumed: " + std::to_string(resumed));
  }
  return report;
}

void check(const Report& report, std::uint64_t transfers) {
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > transfers);
}

}  // namespace

TEST_CASE("moe_stream_reader and its twin deliver the bytes of any segments by legal AXI4 reads, in step",
          "[cosim][stream_reader]") {
  const std::string title =
      "moe_stream_reader and its twin deliver the bytes of any segments by legal AXI4 reads, in step";
  check(run_forked([&] {
          return run_stream_reader<Vrtl_moe_stream_reader_64>(64, 16, Fault::kNone,
                                                              Options::from_environment(title, 1, 60000));
        }),
        25000);
  check(run_forked([&] {
          return run_stream_reader<Vrtl_moe_stream_reader_128>(128, 32, Fault::kNone,
                                                               Options::from_environment(title, 2, 60000));
        }),
        25000);
  check(run_forked([&] {
          return run_stream_reader<Vrtl_moe_stream_reader_256>(256, 64, Fault::kNone,
                                                               Options::from_environment(title, 3, 60000));
        }),
        8000);
  check(run_forked([&] {
          return run_stream_reader<Vrtl_moe_stream_reader_512>(512, 16, Fault::kNone,
                                                               Options::from_environment(title, 6, 60000));
        }),
        8000);
}

TEST_CASE("an error response to a read stays visible on resp_error_o until reset", "[cosim][stream_reader]") {
  const std::string title = "an error response to a read stays visible on resp_error_o until reset";
  check(run_forked([&] {
          return run_stream_reader<Vrtl_moe_stream_reader_64>(64, 16, Fault::kErrorResponse,
                                                              Options::from_environment(title, 4, 20000));
        }),
        8000);
}

TEST_CASE("a last beat away from the end of its burst is reported on resp_error_o", "[cosim][stream_reader]") {
  const std::string title = "a last beat away from the end of its burst is reported on resp_error_o";
  check(run_forked([&] {
          return run_stream_reader<Vrtl_moe_stream_reader_64>(64, 16, Fault::kLastMissing,
                                                              Options::from_environment(title, 5, 20000));
        }),
        8000);
}

TEST_CASE("a flipped bit of the stream is reported as a difference", "[cosim][stream_reader]") {
  Options options = Options::from_environment("a flipped bit of the stream is reported as a difference", 1, 2000);
  options.injection = {"data_o", 33, 500};
  const Report report =
      run_forked([&] { return run_stream_reader<Vrtl_moe_stream_reader_64>(64, 16, Fault::kNone, options); });
  CHECK(report.differences == 1);
  CHECK_THAT(report.message, Catch::Contains("data_o"));
}

}  // namespace moesaic::cosim
