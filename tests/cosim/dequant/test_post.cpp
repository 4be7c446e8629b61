#include <catch2/catch.hpp>
#include <deque>

#include "Vrtl_acc_buffer_4_t1.h"
#include "Vrtl_acc_buffer_8_t4.h"
#include "Vrtl_requant.h"
#include "Vrtl_swiglu.h"
#include "reference/numerics/integer.h"
#include "reference/numerics/swiglu.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/common/beat_tag.h"
#include "sim/cycle/common/wrap.h"
#include "sim/cycle/dequant/acc_buffer.h"
#include "sim/cycle/dequant/requant.h"
#include "sim/cycle/dequant/swiglu.h"

namespace moesaic {
namespace {

using cosim::Lockstep;
using cosim::Options;
using cosim::Report;
using cycle::CoreParams;
using cycle::Lanes;

constexpr unsigned kLanes = CoreParams::kPostLanes;
constexpr std::int64_t kTop48 = (std::int64_t{1} << 47) - 1;

std::int64_t draw48(base::Rng& rng) {
  const std::uint64_t kind = rng.below(8);
  return kind == 0 ? kTop48 : kind == 1 ? -kTop48 - 1 : rng.range(-kTop48 - 1, kTop48) >> rng.below(40);
}

std::int32_t draw16(base::Rng& rng) {
  const std::uint64_t kind = rng.below(8);
  return kind == 0 ? 32767 : kind == 1 ? -32768 : static_cast<std::int32_t>(rng.range(-32768, 32767));
}

template <class V>
Report run_acc_buffer(const Options& options, unsigned cols, unsigned max_tokens) {
  CoreParams params;
  params.cols = cols;
  params.max_tokens = max_tokens;
  cosim::Verilated<V> rtl;
  cycle::AccBuffer twin("acc_buffer", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& add_valid = bench.in("add_valid_i", twin.add_valid_i, rtl->add_valid_i);
  auto& add_ready = bench.out("add_ready_o", twin.add_ready_o, rtl->add_ready_o);
  auto& add_token = bench.in("add_token_i", twin.add_token_i, rtl->add_token_i, cycle::BeatTag::kTokenBits);
  auto& add_first = bench.in("add_first_i", twin.add_first_i, rtl->add_first_i);
  auto& add_done = bench.in("add_done_i", twin.add_done_i, rtl->add_done_i);
  auto& add_value = bench.in("add_value_i", twin.add_value_i, rtl->add_value_i, 48, cols);
  auto& full = bench.out("full_o", twin.full_o, rtl->full_o);
  auto& read_token = bench.in("read_token_i", twin.read_token_i, rtl->read_token_i, cycle::BeatTag::kTokenBits);
  auto& read_chunk = bench.in("read_chunk_i", twin.read_chunk_i, rtl->read_chunk_i, 4);
  auto& read_acc = bench.out("read_acc_o", twin.read_acc_o, rtl->read_acc_o, 48, kLanes);
  auto& release = bench.in("release_i", twin.release_i, rtl->release_i);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  // A block is its tokens in order, group by group; a bank's contents are known once every token has been written
  // first.
  using Bank = std::vector<std::int64_t>;
  base::Rng rng = bench.rng("values");
  Bank collecting(cols * max_tokens);
  std::deque<Bank> filled;
  unsigned token = 0;
  unsigned group = 0;
  unsigned groups = 1;
  unsigned reads = 0;
  cosim::Source source(
      bench, "add", add_valid, add_ready,
      [&] {
        Lanes<std::int64_t> value(cols);
        for (auto& v : value) v = draw48(rng);
        add_value.write(value);
        add_token.write(token);
        add_first.write(group == 0);
        add_done.write(group + 1 == groups && token + 1 == max_tokens);
        return true;
      },
      [&] {
        add_value.write({});
        add_token.write(0);
        add_first.write(false);
        add_done.write(false);
      },
      [&] {
        for (unsigned c = 0; c < cols; ++c) {
          std::int64_t& acc = collecting[token * cols + c];
          acc = cycle::add48(group == 0 ? 0 : acc, add_value.value()[c]);
        }
        if (++token < max_tokens) return;
        token = 0;
        if (++group < groups) return;
        group = 0;
        groups = 1 + static_cast<unsigned>(rng.below(4));
        filled.push_back(collecting);
      });
  cosim::Pace pace(bench.rng("release"));
  bench.on_falling([&](std::uint64_t) {
    read_token.write(rng.below(max_tokens));
    read_chunk.write(rng.below(cols / kLanes));
    release.write(full.read() && pace.go() && rng.chance(1, 4));
  });
  bench.on_sample([&](std::uint64_t) {
    // The bank that fills at this edge is not yet full: the model's newest entry counts one cycle later.
    if (full.read()) {
      ++reads;
      for (unsigned l = 0; l < kLanes; ++l) {
        const std::size_t at = read_token.value() * cols + read_chunk.value() * kLanes + l;
        if (filled.empty() || read_acc.read().at_or_zero(l) != filled.front()[at]) {
          return bench.fail("an accumulator is not the sum of what was added");
        }
      }
    }
    if (release.value()) filled.pop_front();
  });
  bench.on_reset([&] {
    token = group = 0;
    groups = 1;
    filled.clear();
    release.write(false);
  });
  Report report = bench.run();
  if (report.ok() && reads < 1000) report.message = "too few reads were checked: " + std::to_string(reads);
  return report;
}

/// `illegal`: now and then a shift outside 0..62.
Report run_requant(const Options& options, bool illegal) {
  cosim::Verilated<Vrtl_requant> rtl;
  cycle::Requant twin("requant");
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& in_valid = bench.in("in_valid_i", twin.in_valid_i, rtl->in_valid_i);
  auto& in_ready = bench.out("in_ready_o", twin.in_ready_o, rtl->in_ready_o);
  auto& in_acc = bench.in("in_acc_i", twin.in_acc_i, rtl->in_acc_i, 48, kLanes);
  auto& in_mu = bench.in("in_mu_i", twin.in_mu_i, rtl->in_mu_i, 16, kLanes);
  auto& in_sigma = bench.in("in_sigma_i", twin.in_sigma_i, rtl->in_sigma_i, 8, kLanes);
  auto& in_mask = bench.in("in_mask_i", twin.in_mask_i, rtl->in_mask_i, kLanes);
  auto& in_shift = bench.in("in_shift_i", twin.in_shift_i, rtl->in_shift_i, 8);
  auto& in_out_bits = bench.in("in_out_bits_i", twin.in_out_bits_i, rtl->in_out_bits_i, 5);
  auto& in_meta = bench.in("in_meta_i", twin.in_meta_i, rtl->in_meta_i, 64);
  auto& out_valid = bench.out("out_valid_o", twin.out_valid_o, rtl->out_valid_o);
  auto& out_ready = bench.in("out_ready_i", twin.out_ready_i, rtl->out_ready_i);
  auto& out_y = bench.out("out_y_o", twin.out_y_o, rtl->out_y_o, 16, kLanes);
  auto& out_acc = bench.out("out_acc_o", twin.out_acc_o, rtl->out_acc_o, 48, kLanes);
  auto& out_meta = bench.out("out_meta_o", twin.out_meta_o, rtl->out_meta_o, 64);
  auto& shift_error = bench.out("shift_error_o", twin.shift_error_o, rtl->shift_error_o);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  struct Result {
    Lanes<std::int32_t> y{0, 0, 0, 0};
    Lanes<std::int64_t> acc;
    std::uint64_t meta = 0;
    bool error = false;
  };
  base::Rng rng = bench.rng("chunks");
  Result next;
  std::deque<Result> expected;
  bool error_seen = false;  // a chunk with an illegal shift has been taken
  bool error_ever = false;
  cosim::Source source(
      bench, "in", in_valid, in_ready,
      [&] {
        next = {};
        next.acc.resize(kLanes);
        Lanes<std::uint32_t> mu(kLanes);
        Lanes<std::uint32_t> sigma(kLanes);
        const auto shift = static_cast<std::int64_t>(rng.range(-13, 20));
        const std::uint64_t mask = rng.chance(3, 4) ? 15 : (1U << rng.below(5)) - 1;
        const int out_bits = rng.pick(std::vector<int>{4, 8, 16});
        next.meta = rng.next();
        for (unsigned l = 0; l < kLanes; ++l) {
          next.acc[l] = draw48(rng);
          mu[l] = rng.chance(1, 4) ? 65535 : static_cast<std::uint32_t>(rng.below(65536));
          std::int64_t total = rng.chance(1, 6) ? (rng.chance(1, 2) ? 0 : 62) : rng.range(0, 62);
          if (total < shift) total = shift;
          sigma[l] = static_cast<std::uint32_t>(total - shift);
          const bool bad = illegal && rng.chance(1, 400);
          if (bad) sigma[l] = rng.chance(1, 2) ? 255 : 70 + static_cast<std::uint32_t>(rng.below(100));
          if ((mask >> l & 1) == 0) {
            sigma[l] = 0;  // as an absent column's is; with a negative shift this is no error
            continue;
          }
          const std::int64_t t = sigma[l] + shift;
          if (t < 0 || t > 62) {
            next.error = true;
          } else {
            next.y[l] =
                numerics::requantise(next.acc[l], static_cast<std::uint16_t>(mu[l]), static_cast<int>(t), out_bits);
          }
        }
        in_acc.write(next.acc);
        in_mu.write(mu);
        in_sigma.write(sigma);
        in_mask.write(mask);
        in_shift.write(shift);
        in_out_bits.write(static_cast<std::uint64_t>(out_bits));
        in_meta.write(next.meta);
        return true;
      },
      [&] {
        in_acc.write({});
        in_mu.write({});
        in_sigma.write({});
        in_mask.write(0);
        in_shift.write(0);
        in_out_bits.write(0);
        in_meta.write(0);
      },
      [&] {
        expected.push_back(next);
        error_seen |= next.error;
      });
  cosim::Sink sink(bench, "out", out_ready, out_valid, [&] {
    if (expected.empty()) return bench.fail("a chunk that nobody asked for");
    const Result& e = expected.front();
    if (out_y.read() != e.y) return bench.fail("y is not what numerics::requantise gives");
    if (out_acc.read() != e.acc || out_meta.read() != e.meta) return bench.fail("acc or meta did not pass unchanged");
    expected.pop_front();
  });
  bool error_before = false;
  bench.on_sample([&](std::uint64_t) {
    if (shift_error.read() != error_before) bench.fail("shift_error_o does not tell whether a shift left 0..62");
    error_before = error_seen;
    error_ever |= error_seen;
  });
  bench.on_reset([&] {
    expected.clear();
    error_seen = false;
    error_before = false;
  });
  Report report = bench.run();
  if (report.ok() && error_ever != illegal) report.message = "shift errors were not as intended";
  return report;
}

Report run_swiglu(const Options& options) {
  cosim::Verilated<Vrtl_swiglu> rtl;
  cycle::Swiglu twin("swiglu");
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& in_valid = bench.in("in_valid_i", twin.in_valid_i, rtl->in_valid_i);
  auto& in_ready = bench.out("in_ready_o", twin.in_ready_o, rtl->in_ready_o);
  auto& in_g = bench.in("in_g_i", twin.in_g_i, rtl->in_g_i, 16, kLanes);
  auto& in_u = bench.in("in_u_i", twin.in_u_i, rtl->in_u_i, 16, kLanes);
  auto& in_sigma_h = bench.in("in_sigma_h_i", twin.in_sigma_h_i, rtl->in_sigma_h_i, 5);
  auto& in_meta = bench.in("in_meta_i", twin.in_meta_i, rtl->in_meta_i, 64);
  auto& out_valid = bench.out("out_valid_o", twin.out_valid_o, rtl->out_valid_o);
  auto& out_ready = bench.in("out_ready_i", twin.out_ready_i, rtl->out_ready_i);
  auto& out_h = bench.out("out_h_o", twin.out_h_o, rtl->out_h_o, 16, kLanes);
  auto& out_meta = bench.out("out_meta_o", twin.out_meta_o, rtl->out_meta_o, 64);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  struct Result {
    Lanes<std::int32_t> h;
    std::uint64_t meta = 0;
  };
  base::Rng rng = bench.rng("chunks");
  std::int32_t g_next = -32768;  // every g in turn
  std::vector<bool> g_done(65536);
  Result next;
  std::deque<Result> expected;
  cosim::Source source(
      bench, "in", in_valid, in_ready,
      [&] {
        Lanes<std::int32_t> g(kLanes);
        Lanes<std::int32_t> u(kLanes);
        const std::uint64_t sigma_h = rng.below(32);
        next.h = Lanes<std::int32_t>(kLanes);
        next.meta = rng.next();
        for (unsigned l = 0; l < kLanes; ++l) {
          g[l] = g_next;
          g_next = g_next == 32767 ? -32768 : g_next + 1;
          u[l] = draw16(rng);
          next.h[l] = numerics::swiglu(static_cast<std::int16_t>(g[l]), static_cast<std::int16_t>(u[l]),
                                       static_cast<int>(sigma_h));
        }
        in_g.write(g);
        in_u.write(u);
        in_sigma_h.write(sigma_h);
        in_meta.write(next.meta);
        return true;
      },
      [&] {
        in_g.write({});
        in_u.write({});
        in_sigma_h.write(0);
        in_meta.write(0);
      },
      [&] {
        for (const std::int32_t g : in_g.value()) g_done[static_cast<std::size_t>(g + 32768)] = true;
        expected.push_back(next);
      });
  cosim::Sink sink(bench, "out", out_ready, out_valid, [&] {
    if (expected.empty()) return bench.fail("a chunk that nobody asked for");
    if (out_h.read() != expected.front().h) return bench.fail("h is not what numerics::swiglu gives");
    if (out_meta.read() != expected.front().meta) return bench.fail("meta did not pass unchanged");
    expected.pop_front();
  });
  bench.on_reset([&] { expected.clear(); });
  Report report = bench.run();
  if (report.ok() && std::find(g_done.begin(), g_done.end(), false) != g_done.end()) {
    report.message = "not every g was tried: more cycles are needed";
  }
  return report;
}

/// A producer that breaks the rules: valid comes and goes whatever ready says.
Report run_rule_breaker(const Options& options) {
  cosim::Verilated<Vrtl_swiglu> rtl;
  cycle::Swiglu twin("swiglu");
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& in_valid = bench.in("in_valid_i", twin.in_valid_i, rtl->in_valid_i);
  bench.out("in_ready_o", twin.in_ready_o, rtl->in_ready_o);
  bench.in("in_g_i", twin.in_g_i, rtl->in_g_i, 16, kLanes);
  bench.in("in_u_i", twin.in_u_i, rtl->in_u_i, 16, kLanes);
  bench.in("in_sigma_h_i", twin.in_sigma_h_i, rtl->in_sigma_h_i, 5);
  bench.in("in_meta_i", twin.in_meta_i, rtl->in_meta_i, 64);
  bench.out("out_valid_o", twin.out_valid_o, rtl->out_valid_o);
  auto& out_ready = bench.in("out_ready_i", twin.out_ready_i, rtl->out_ready_i);
  bench.out("out_h_o", twin.out_h_o, rtl->out_h_o, 16, kLanes);
  bench.out("out_meta_o", twin.out_meta_o, rtl->out_meta_o, 64);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);
  bench.on_falling([&](std::uint64_t cycle) {
    in_valid.write(cycle % 3 != 0);
    out_ready.write(cycle % 5 == 0);
  });
  bench.on_reset([&] { in_valid.write(false); });
  return bench.run();
}

}  // namespace

TEST_CASE("a producer that takes back its valid is stopped by the RTL's assertion", "[cosim][swiglu]") {
  Options options;
  options.title = Catch::getResultCapture().getCurrentTestName();
  options.cycles = 200;
  const Report report = cosim::run_forked([&] { return run_rule_breaker(options); });
  CHECK_FALSE(report.ok());
  CHECK_THAT(report.message, Catch::Contains("ValidStaysUntilReady_A"));
}

TEST_CASE("the accumulators, their twin and plain sums agree, with 48-bit extremes", "[cosim][acc_buffer]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 1, 20000);
  const Report wide = cosim::run_forked([&] { return run_acc_buffer<Vrtl_acc_buffer_8_t4>(options, 8, 4); });
  INFO(wide.message);
  CHECK(wide.ok());
  const Report narrow = cosim::run_forked([&] { return run_acc_buffer<Vrtl_acc_buffer_4_t1>(options, 4, 1); });
  INFO(narrow.message);
  CHECK(narrow.ok());
}

TEST_CASE("requantisation, its twin and numerics agree for every shift and 48-bit extremes", "[cosim][requant]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 1, 40000);
  const Report report = cosim::run_forked([&] { return run_requant(options, false); });
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > 20000);
}

TEST_CASE("a shift outside 0..62 gives 0 and is remembered until reset", "[cosim][requant]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 2, 10000);
  const Report report = cosim::run_forked([&] { return run_requant(options, true); });
  INFO(report.message);
  CHECK(report.ok());
}

TEST_CASE("SwiGLU, its twin and numerics agree for every g", "[cosim][swiglu]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 1, 60000);
  const Report report = cosim::run_forked([&] { return run_swiglu(options); });
  INFO(report.message);
  CHECK(report.ok());
}

TEST_CASE("one flipped bit after the accumulators is reported", "[cosim][dequant]") {
  Options options;
  options.title = Catch::getResultCapture().getCurrentTestName();
  options.injection = {"out_y_o", 63, 300};
  CHECK_THAT(cosim::run_forked([&] { return run_requant(options, false); }).message,
             Catch::Contains("cycle 300: port out_y_o"));
  options.injection = {"out_h_o", 0, 300};
  CHECK_THAT(cosim::run_forked([&] { return run_swiglu(options); }).message,
             Catch::Contains("cycle 300: port out_h_o"));
  options.injection = {"read_acc_o", 191, 300};
  CHECK_THAT(cosim::run_forked([&] { return run_acc_buffer<Vrtl_acc_buffer_8_t4>(options, 8, 4); }).message,
             Catch::Contains("cycle 300: port read_acc_o"));
}

}  // namespace moesaic
