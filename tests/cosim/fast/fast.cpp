// sim/fast against the SystemC twin: random cases on random cores.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "sim/cosim/core_bench.h"
#include "sim/cosim/lockstep.h"
#include "sim/cosim/verify_case.h"

using namespace moesaic;

namespace {

/// `cases` random cases on one random core, the fast engine's control as second engine.
cosim::Report in_lock_step(std::uint64_t seed, std::uint64_t core, std::uint64_t cases) {
  cosim::Report report;
  const cosim::Build build = cosim::draw_core(seed, core);
  cosim::CoreBench bench(cosim::make_cycle_engine(build.params), cosim::make_fast_engine(build.params));
  for (std::uint64_t i = 0; i < cases; ++i) {
    const cosim::VerifyCase c = cosim::draw_case(seed, core * 1000 + i, build, nullptr);
    try {
      const cosim::VerifyOutcome outcome = cosim::run_case(bench, c);
      report.cycles += outcome.cycles;
      report.port_values_compared += outcome.port_values;
      report.transfers += outcome.loads;
    } catch (const base::CheckError& error) {
      ++report.differences;
      report.message =
          "core " + std::to_string(core) + ", case " + std::to_string(i) + ", " + c.text + ": " + error.what();
      return report;
    }
  }
  return report;
}

/// The fast engine's own run, with its shortcuts and without, against the twin's run. `only_dram`: of the cases those
/// behind a DRAM in which shortcuts are taken, as there are no random stalls.
cosim::Report runs_alike(std::uint64_t seed, std::uint64_t core, std::uint64_t cases, bool fresh_phases = false,
                         bool only_dram = false) {
  cosim::Report report;
  const cosim::Build build = cosim::draw_core(seed, core);
  cosim::CoreBench bench(cosim::make_cycle_engine(build.params));
  for (std::uint64_t i = 0; i < cases; ++i) {
    cosim::VerifyCase c = cosim::draw_totals_case(seed, core * 1000 + i, build, nullptr);
    if (only_dram && (c.bench.memory.kind != "dram" || c.bench.stall_seed)) continue;
    ++report.port_values_compared;  // here: cases
    c.bench.fresh_phases = fresh_phases;
    c.in_phases = c.in_phases || fresh_phases;
    try {
      const cosim::TotalsOutcome outcome = cosim::run_totals_case(bench, build.params, c);
      report.cycles += outcome.cycles;
      report.transfers += outcome.shortened;
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
  std::uint64_t cycles = 0, loads = 0;
  for (std::uint64_t core = 0; core < cores; ++core) {
    const cosim::Report report = cosim::run_forked([&] { return in_lock_step(seed, core, 8); });
    INFO(report.message);
    REQUIRE(report.ok());
    cycles += report.cycles;
    loads += report.transfers;
  }
  CHECK(cycles > 10000);
  CHECK(loads > 100);
}

TEST_CASE("the fast engine ends every tile, command and phase in the twin's cycle, with and without shortcuts",
          "[cosim][fast]") {
  const std::uint64_t seed = from_environment("FAST_SEED", 2), cores = from_environment("FAST_CORES", 16);
  std::uint64_t cycles = 0, shortened = 0;
  for (std::uint64_t core = 0; core < cores; ++core) {
    const cosim::Report report = cosim::run_forked([&] { return runs_alike(seed, core, 10); });
    INFO(report.message);
    REQUIRE(report.ok());
    cycles += report.cycles;
    shortened += report.transfers;
  }
  CHECK(cycles > 10000);
  CHECK(shortened > 1000);
}

TEST_CASE("one in six cases of verify is behind a DRAM without stalls, and shortcuts through it change nothing",
          "[cosim][fast]") {
  const std::uint64_t seed = from_environment("FAST_SEED", 4), cores = from_environment("FAST_CORES", 6);
  std::uint64_t shortened = 0, cases = 0;
  for (std::uint64_t core = 0; core < cores; ++core) {
    const cosim::Report report = cosim::run_forked([&] { return runs_alike(seed, core, 40, false, true); });
    INFO(report.message);
    REQUIRE(report.ok());
    shortened += report.transfers;
    cases += report.port_values_compared;
  }
  CHECK(cases > 40 * cores / 9);
  CHECK(shortened > 1000);
}

TEST_CASE("a host that starts every phase knowing nothing is the same in both engines", "[cosim][fast]") {
  for (std::uint64_t core = 0; core < 5; ++core) {
    const cosim::Report report = cosim::run_forked([&] { return runs_alike(3, core, 8, true); });
    INFO(report.message);
    REQUIRE(report.ok());
    CHECK(report.cycles > 1000);
  }
}
