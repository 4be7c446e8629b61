#include <catch2/catch.hpp>
#include <deque>

#include "Vrtl_moe_weight_loader_32x16_128.h"
#include "Vrtl_moe_weight_loader_32x32_512.h"
#include "Vrtl_moe_weight_loader_4x4_64.h"
#include "Vrtl_moe_weight_loader_8x8_64.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/memory/weight_loader.h"
#include "tests/cosim/memory/matmul_cases.h"
#include "tests/cosim/memory/memory_model.h"

namespace moesaic::cosim {
namespace {

cycle::CoreParams array(unsigned rows, unsigned cols, unsigned width) {
  cycle::CoreParams params;
  params.rows = rows;
  params.cols = cols;
  params.axi_data_bits = width;
  return params;
}

template <class T, class E>
bool same(const cycle::Lanes<T>& got, const std::vector<E>& expected) {
  for (std::size_t i = 0; i < std::max(got.size(), expected.size()); ++i) {
    const E value = i < expected.size() ? expected[i] : E{};
    if (static_cast<E>(got.at_or_zero(i)) != value) return false;
  }
  return true;
}

template <class V>
Report run_weight_loader(const cycle::CoreParams& params, const Options& options) {
  Verilated<V> rtl;
  cycle::WeightLoader twin("weight_loader", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& cmd_valid = bench.in("cmd_valid_i", twin.cmd_valid_i, rtl->cmd_valid_i);
  auto& cmd_ready = bench.out("cmd_ready_o", twin.cmd_ready_o, rtl->cmd_ready_o);
  auto& cmd = bench.in("cmd_i", twin.cmd_i, rtl->cmd_i, 32 * program::kCommandWords);
  auto& avail = bench.in("avail_i", twin.avail_i, rtl->avail_i, avail_bits(params));
  auto& data = bench.in("data_i", twin.data_i, rtl->data_i, 64, params.axi_data_bits / 64);
  auto& pop = bench.out("pop_o", twin.pop_o, rtl->pop_o, avail_bits(params));
  auto& w_valid = bench.out("w_valid_o", twin.w_valid_o, rtl->w_valid_o);
  auto& w_ready = bench.in("w_ready_i", twin.w_ready_i, rtl->w_ready_i);
  auto& w_plane = bench.out("w_plane_o", twin.w_plane_o, rtl->w_plane_o, 3);
  auto& w_first_col = bench.out("w_first_col_o", twin.w_first_col_o, rtl->w_first_col_o, 6);
  auto& w_bits = bench.out("w_bits_o", twin.w_bits_o, rtl->w_bits_o, params.rows, params.load_cols());
  auto& w_mask = bench.out("w_mask_o", twin.w_mask_o, rtl->w_mask_o, params.load_cols());
  auto& w_last = bench.out("w_last_o", twin.w_last_o, rtl->w_last_o);
  auto& param_valid = bench.out("param_valid_o", twin.param_valid_o, rtl->param_valid_o);
  auto& param_ready = bench.in("param_ready_i", twin.param_ready_i, rtl->param_ready_i);
  auto& param_s = bench.out("param_s_o", twin.param_s_o, rtl->param_s_o, 16, params.cols);
  auto& param_z = bench.out("param_z_o", twin.param_z_o, rtl->param_z_o, 10, params.cols);
  auto& param_up = bench.out("param_up_o", twin.param_up_o, rtl->param_up_o, 3);
  auto& rq_valid = bench.out("rq_valid_o", twin.rq_valid_o, rtl->rq_valid_o);
  auto& rq_ready = bench.in("rq_ready_i", twin.rq_ready_i, rtl->rq_ready_i);
  auto& rq_mu = bench.out("rq_mu_o", twin.rq_mu_o, rtl->rq_mu_o, 16, params.cols);
  auto& rq_sigma = bench.out("rq_sigma_o", twin.rq_sigma_o, rtl->rq_sigma_o, 8, params.cols);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  base::Rng rng = bench.rng("commands");
  BitStream stream(bench, params, avail, data, pop);
  std::deque<MatmulCase> cases;
  std::deque<ExpectedWrite> writes;
  std::deque<ExpectedParams> group_params;
  std::deque<ExpectedRequant> requants;
  bench.on_reset([&] {
    cases.clear();
    writes.clear();
    group_params.clear();
    requants.clear();
  });
  Source source(
      bench, "cmd", cmd_valid, cmd_ready,
      [&] {
        if (cases.empty()) {
          for (MatmulCase& c : random_matmuls(rng, params)) cases.push_back(c);
        }
        const MatmulCase& c = cases.front();
        cmd.write(c.command);
        stream.push(c.stream.data(), c.stream.size());
        writes.insert(writes.end(), c.writes.begin(), c.writes.end());
        group_params.insert(group_params.end(), c.params.begin(), c.params.end());
        requants.insert(requants.end(), c.requants.begin(), c.requants.end());
        cases.pop_front();
        return true;
      },
      [&] { cmd.write(program::Command{}); });
  Sink weights(bench, "w", w_ready, w_valid, [&] {
    if (writes.empty()) return bench.fail("a weight write too many");
    const ExpectedWrite& e = writes.front();
    const std::uint64_t mask = (std::uint64_t{1} << e.column_bits.size()) - 1;
    if (w_plane.read() != e.plane || w_first_col.read() != e.first_col || w_last.read() != e.last ||
        w_mask.read() != mask || !same(w_bits.read(), e.column_bits)) {
      bench.fail("the written weights are not the matrix's");
    }
    writes.pop_front();
  });
  Sink group(bench, "param", param_ready, param_valid, [&] {
    if (group_params.empty()) return bench.fail("parameters too many");
    if (!same(param_s.read(), group_params.front().s) || !same(param_z.read(), group_params.front().z) ||
        param_up.read() != group_params.front().up) {
      bench.fail("the group's parameters are not the matrix's");
    }
    group_params.pop_front();
  });
  Sink requant(bench, "rq", rq_ready, rq_valid, [&] {
    if (requants.empty()) return bench.fail("requantisation too many");
    if (!same(rq_mu.read(), requants.front().mu) || !same(rq_sigma.read(), requants.front().sigma)) {
      bench.fail("the block's requantisation is not the matrix's");
    }
    requants.pop_front();
  });
  // When a command ends, everything of the stream has been taken.
  bench.on_sample([&](std::uint64_t) {
    if (cmd_valid.value() && cmd_ready.read() && !stream.empty())
      bench.fail("bits of the command are left in the stream");
  });
  return bench.run();
}

void check(const Report& report, std::uint64_t transfers) {
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > transfers);
}

}  // namespace

TEST_CASE("moe_weight_loader and its twin deliver every stored weight and parameter, in step",
          "[cosim][weight_loader]") {
  const std::string title = "moe_weight_loader and its twin deliver every stored weight and parameter, in step";
  check(run_forked([&] {
          return run_weight_loader<Vrtl_moe_weight_loader_4x4_64>(array(4, 4, 64),
                                                                  Options::from_environment(title, 1, 60000));
        }),
        12000);
  check(run_forked([&] {
          return run_weight_loader<Vrtl_moe_weight_loader_8x8_64>(array(8, 8, 64),
                                                                  Options::from_environment(title, 2, 60000));
        }),
        12000);
  check(run_forked([&] {
          return run_weight_loader<Vrtl_moe_weight_loader_32x16_128>(array(32, 16, 128),
                                                                     Options::from_environment(title, 3, 60000));
        }),
        12000);
  check(run_forked([&] {
          return run_weight_loader<Vrtl_moe_weight_loader_32x32_512>(array(32, 32, 512),
                                                                     Options::from_environment(title, 4, 60000));
        }),
        12000);
}

TEST_CASE("a flipped weight bit on its way to the array is reported as a difference", "[cosim][weight_loader]") {
  Options options =
      Options::from_environment("a flipped weight bit on its way to the array is reported as a difference", 1, 2000);
  options.injection = {"w_bits_o", 5, 100};
  const Report report =
      run_forked([&] { return run_weight_loader<Vrtl_moe_weight_loader_4x4_64>(array(4, 4, 64), options); });
  CHECK(report.differences == 1);
  CHECK_THAT(report.message, Catch::Contains("w_bits_o"));
}

}  // namespace moesaic::cosim
