// sim/fast against the SystemC twin: random cases on random cores.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "base/rng.h"
#include "sim/cosim/core_bench.h"
#include "sim/cosim/lockstep.h"
#include "sim/cosim/verify_case.h"

using namespace moesaic;

namespace {

/// Any core of docs/core.md's table, small ones more often.
cosim::Build random_build(base::Rng& rng) {
  cosim::Build build;
  program::CoreParams& p = build.params;
  p.rows = 4U << rng.below(rng.chance(1, 4) ? 5 : 3);
  p.cols = 4U << rng.below(rng.chance(1, 4) ? 5 : 3);
  p.planes_per_cycle = 1U << rng.below(3);
  p.max_act_bits = 4U << rng.below(3);
  p.axi_data_bits = 64U << rng.below(3);
  p.max_tokens = 1U << rng.below(5);
  p.act_depth = 32U << rng.below(4);
  p.hidden_depth = 32U << rng.below(6);
  p.fifo_depth = 16U << rng.below(3);
  p.command_depth = 4U << rng.below(3);
  build.name = "r" + std::to_string(p.rows) + "c" + std::to_string(p.cols) + "p" + std::to_string(p.planes_per_cycle) +
               "a" + std::to_string(p.max_act_bits) + "w" + std::to_string(p.axi_data_bits) + "t" +
               std::to_string(p.max_tokens) + "f" + std::to_string(p.fifo_depth) + "q" +
               std::to_string(p.command_depth);
  return build;
}

/// `cases` random cases on one random core, the fast engine's control as second engine.
cosim::Report in_lock_step(std::uint64_t seed, std::uint64_t core, std::uint64_t cases) {
  cosim::Report report;
  base::Rng rng = base::Rng(seed).stream("core", core);
  const cosim::Build build = random_build(rng);
  cosim::CoreBench bench(cosim::make_cycle_engine(build.params), cosim::make_fast_engine(build.params));
  for (std::uint64_t i = 0; i < cases; ++i) {
    const cosim::VerifyCase c = cosim::draw_case(seed, core * 1000 + i, build, nullptr);
    try {
      const cosim::VerifyOutcome outcome = cosim::run_case(bench, c);
      report.cycles += outcome.cycles;
      report.port_values_compared += outcome.port_values;
    } catch (const base::CheckError& error) {
      ++report.differences;
      report.message =
          "core " + std::to_string(core) + ", case " + std::to_string(i) + ", " + c.text + ": " + error.what();
      return report;
    }
  }
  return report;
}

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

}  // namespace

TEST_CASE("the fast engine's control equals the twin on every port without data, in every cycle", "[cosim][fast]") {
  const std::uint64_t seed = from_environment("FAST_SEED", 1), cores = from_environment("FAST_CORES", 12);
  std::uint64_t cycles = 0;
  for (std::uint64_t core = 0; core < cores; ++core) {
    const cosim::Report report = cosim::run_forked([&] { return in_lock_step(seed, core, 8); });
    INFO(report.message);
    REQUIRE(report.ok());
    cycles += report.cycles;
  }
  CHECK(cycles > 10000);
}
