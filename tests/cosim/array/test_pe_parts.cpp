#include <catch2/catch.hpp>

#include "Vrtl_adder_tree_16_w9.h"
#include "Vrtl_pe_column_8_p4_a16.h"
#include "Vrtl_pe_p4_a16.h"
#include "Vrtl_pe_per_weight_p2_a8.h"
#include "Vrtl_regfile_16x40_r2.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/array/pe.h"
#include "sim/cycle/array/pe_column.h"
#include "sim/cycle/common/adder_tree.h"
#include "sim/cycle/common/regfile.h"

namespace moesaic {
namespace {

using cosim::Lockstep;
using cosim::Options;
using cosim::Report;
using cycle::Lanes;

std::int32_t draw(base::Rng& rng, unsigned bits) {
  const std::int32_t top = (1 << (bits - 1)) - 1;
  return rng.chance(1, 8) ? -top - 1 : static_cast<std::int32_t>(rng.range(-top - 1, top));
}

template <class V>
Report run_pe(const Options& options, unsigned lanes, unsigned act_bits, cycle::DigitKind kind) {
  cosim::Verilated<V> rtl;
  cycle::Pe twin("pe", lanes, kind);
  Lockstep bench(options, rtl);
  const bool per_weight = kind == cycle::DigitKind::kPerWeight;
  auto& x = bench.in("x_i", twin.x_i, rtl->x_i, act_bits);
  auto& digit = bench.in("digit_i", twin.digit_i, rtl->digit_i, per_weight ? 5 : 1, lanes);
  bench.out("term_o", twin.term_o, rtl->term_o, act_bits + (per_weight ? 8 : 0), lanes);
  base::Rng rng = bench.rng("digits");
  bench.on_falling([&](std::uint64_t) {
    x.write(draw(rng, act_bits));
    Lanes<std::uint64_t> digits(lanes);
    for (auto& d : digits) d = rng.below(per_weight ? 32 : 2);
    digit.write(digits);
  });
  return bench.run();
}

Report run_column(const Options& options) {
  cycle::CoreParams params;
  params.rows = 8;
  params.planes_per_cycle = 4;
  params.max_act_bits = 16;
  cosim::Verilated<Vrtl_pe_column_8_p4_a16> rtl;
  cycle::PeColumn twin("pe_column", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& enable = bench.in("enable_i", twin.enable_i, rtl->enable_i, params.log2_rows());
  auto& advance = bench.in("advance_i", twin.advance_i, rtl->advance_i);
  auto& valid = bench.in("valid_i", twin.valid_i, rtl->valid_i);
  auto& shift = bench.in("shift_i", twin.shift_i, rtl->shift_i, 3);
  auto& x = bench.in("x_i", twin.x_i, rtl->x_i, params.max_act_bits, params.rows);
  auto& digit = bench.in("digit_i", twin.digit_i, rtl->digit_i, params.rows, params.planes_per_cycle);
  bench.out("sum_o", twin.sum_o, rtl->sum_o, params.sum_bits());
  base::Rng rng = bench.rng("beats");
  bench.on_falling([&](std::uint64_t cycle) {
    enable.write(rng.below(8));
    // Every lane is in use, so that no shift is below 3; the levels hold nothing known until they have been loaded.
    advance.write(cycle > 40 && rng.chance(3, 4));
    valid.write(rng.chance(3, 4));
    shift.write(3 + rng.below(5));
    Lanes<std::int32_t> values(params.rows);
    for (auto& v : values) v = draw(rng, params.max_act_bits);
    x.write(values);
    Lanes<std::uint64_t> digits(params.planes_per_cycle);
    for (auto& d : digits) d = rng.chance(1, 6) ? 255 : rng.below(256);
    digit.write(digits);
  });
  bench.on_reset([&] {
    enable.write(0);
    advance.write(false);
  });
  return bench.run();
}

Report run_tree(const Options& options) {
  cosim::Verilated<Vrtl_adder_tree_16_w9> rtl;
  cycle::AdderTree twin("adder_tree", 16);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i);
  auto& enable = bench.in("enable_i", twin.enable_i, rtl->enable_i, 4);
  auto& in = bench.in("in_i", twin.in_i, rtl->in_i, 9, 16);
  bench.out("sum_o", twin.sum_o, rtl->sum_o, 13);
  base::Rng rng = bench.rng("numbers");
  bench.on_falling([&](std::uint64_t) {
    enable.write(rng.chance(1, 4) ? rng.below(16) : 15);
    Lanes<std::int32_t> values(16);
    for (auto& v : values) v = draw(rng, 9);
    in.write(rng.chance(1, 10) ? Lanes<std::int32_t>(16, -256) : values);
  });
  return bench.run();
}

Report run_regfile(const Options& options) {
  cosim::Verilated<Vrtl_regfile_16x40_r2> rtl;
  cycle::Regfile twin("regfile", 16, 2);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i);
  auto& write = bench.in("write_i", twin.write_i, rtl->write_i);
  auto& write_addr = bench.in("write_addr_i", twin.write_addr_i, rtl->write_addr_i, 4);
  auto& write_data = bench.in("write_data_i", twin.write_data_i, rtl->write_data_i, 40);
  auto& read_addr = bench.in("read_addr_i", twin.read_addr_i, rtl->read_addr_i, 4, 2);
  bench.out("read_data_o", twin.read_data_o, rtl->read_data_o, 40, 2);
  base::Rng rng = bench.rng("words");
  bench.on_falling([&](std::uint64_t) {
    write.write(rng.chance(1, 2));
    write_addr.write(rng.below(16));
    write_data.write(rng.below(std::uint64_t{1} << 40));
    read_addr.write({rng.below(16), rng.below(16)});
  });
  return bench.run();
}

}  // namespace

TEST_CASE("the PE and its twin agree on every term", "[cosim][pe]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 1, 2000);
  const Report report =
      cosim::run_forked([&] { return run_pe<Vrtl_pe_p4_a16>(options, 4, 16, cycle::DigitKind::kCommonShift); });
  INFO(report.message);
  CHECK(report.ok());
}

TEST_CASE("the PE with a negation and a shift per digit and its twin agree on every term", "[cosim][pe]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 1, 2000);
  const Report report =
      cosim::run_forked([&] { return run_pe<Vrtl_pe_per_weight_p2_a8>(options, 2, 8, cycle::DigitKind::kPerWeight); });
  INFO(report.message);
  CHECK(report.ok());
}

TEST_CASE("the PE column and its twin agree in every cycle, whatever levels move", "[cosim][pe_column]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 1, 10000);
  const Report report = cosim::run_forked([&] { return run_column(options); });
  INFO(report.message);
  CHECK(report.ok());
}

TEST_CASE("the adder tree and its twin agree in every cycle, whatever levels move", "[cosim][adder_tree]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 1, 5000);
  const Report report = cosim::run_forked([&] { return run_tree(options); });
  INFO(report.message);
  CHECK(report.ok());
}

TEST_CASE("the register file and its twin agree on every read", "[cosim][regfile]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 1, 5000);
  const Report report = cosim::run_forked([&] { return run_regfile(options); });
  INFO(report.message);
  CHECK(report.ok());
}

}  // namespace moesaic
