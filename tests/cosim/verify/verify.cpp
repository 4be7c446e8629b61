#include <tlm_utils/simple_target_socket.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "sim/cosim/core_bench.h"
#include "sim/cosim/kernel_run.h"
#include "sim/cosim/lockstep.h"
#include "sim/cosim/tlm_memory.h"
#include "tests/bad_config/cli/run_program.h"

using namespace moesaic;
using Catch::Matchers::Contains;

namespace {

/// Takes requests and never answers.
class DeadMemory final : public memory::MemoryModel {
 public:
  std::string name() const override { return "dead"; }
  bool submit(const memory::Request&, base::Cycles) override { return true; }
  std::int64_t finished(unsigned, bool, base::Cycles) override { return 0; }
  void take(unsigned, bool) override {}
  std::optional<base::Cycles> next_change(base::Cycles) override { return std::nullopt; }
  void reset() override {}
};

numerics::KernelCase small_product() {
  base::Rng rng(3);
  numerics::CaseOptions options;
  options.expert = options.combine = false;
  options.max_act_bits = 8;
  return numerics::random_case(rng, options);
}

/// A SystemC memory of somebody else's: 40 ns for a read, 20 ns for a write.
class SlowTarget : public sc_core::sc_module {
 public:
  tlm_utils::simple_target_socket<SlowTarget> socket{"socket"};
  int beats = 0;
  explicit SlowTarget(const sc_core::sc_module_name& name) : sc_module(name) {
    socket.register_b_transport(this, &SlowTarget::serve);
  }

 private:
  void serve(tlm::tlm_generic_payload& payload, sc_core::sc_time& delay) {
    delay += sc_core::sc_time(payload.is_read() ? 40 : 20, sc_core::SC_NS);
    payload.set_response_status(tlm::TLM_OK_RESPONSE);
    ++beats;
  }
};

/// The model is the socket's; the bench wants to own what it uses.
class Borrowed final : public memory::MemoryModel {
 public:
  explicit Borrowed(memory::MemoryModel& model) : model_(model) {}
  std::string name() const override { return model_.name(); }
  bool submit(const memory::Request& r, base::Cycles now) override { return model_.submit(r, now); }
  std::int64_t finished(unsigned p, bool w, base::Cycles now) override { return model_.finished(p, w, now); }
  void take(unsigned p, bool w) override { model_.take(p, w); }
  std::optional<base::Cycles> next_change(base::Cycles now) override { return model_.next_change(now); }
  void reset() override { model_.reset(); }

 private:
  memory::MemoryModel& model_;
};

cosim::Report run_behind_tlm() {
  const program::CoreParams params;
  cosim::CoreBench bench(cosim::make_cycle_engine(params));
  cosim::TlmMemory memory("memory", sc_core::sc_time(2, sc_core::SC_NS), "slow target");
  SlowTarget target("target");
  memory.socket.bind(target.socket);
  const program::KernelProgram program = program::kernel_program(small_product(), params, {}, "case");
  const auto run = [&](const cosim::BenchOptions& options, program::MemoryImage& image) {
    image = program.loaded.image;
    return bench.run(program.loaded.commands, {0}, image, options);
  };
  program::MemoryImage image;
  cosim::BenchOptions tlm, simple;
  tlm.make_memory = [&] { return std::make_unique<Borrowed>(memory); };
  simple.memory.read_latency_cycles = 19;  // and one cycle for the beat: 20 cycles of 2 ns
  simple.memory.write_latency_cycles = 9;
  simple.memory.bytes_per_cycle = 4096;
  const cosim::BenchRun behind_tlm = run(tlm, image);
  cosim::Report report;
  const auto result = program::kernel_result(small_product(), program, image);
  report.message = numerics::first_difference(small_product(), result, numerics::run_case(small_product()));
  if (behind_tlm.memory_name != "tlm(slow target)") report.message += "; name " + behind_tlm.memory_name;
  if (target.beats == 0) report.message += "; no beat reached the target";
  if (run(simple, image).engine.cycles != behind_tlm.engine.cycles)
    report.message += "; other cycles than the same latency's";
  return report;
}

}  // namespace

TEST_CASE("any TLM-2.0 target can be the memory behind the ports", "[cosim][verify]") {
  const cosim::Report report = cosim::run_forked(run_behind_tlm);
  INFO(report.message);
  CHECK(report.ok());
}

// SystemC elaborates once per process: the only test here that makes an engine in this one.
TEST_CASE("a run that cannot go on says who waits for whom, and the bench is good for another run", "[cosim][verify]") {
  const program::CoreParams params;
  cosim::CoreBench bench(cosim::make_cycle_engine(params));
  cosim::BenchOptions options;
  options.watchdog_cycles = 500;
  options.make_memory = [] { return std::make_unique<DeadMemory>(); };
  try {
    cosim::run_kernel(bench, params, small_product(), {}, options, "case");
    FAIL("a dead memory went unnoticed");
  } catch (const base::CheckError& error) {
    CHECK_THAT(error.what(), Contains("stuck in cycle"));
    CHECK_THAT(error.what(), Contains("act_loader starved"));
    CHECK_THAT(error.what(), Contains("scheduler starved"));
    CHECK_THAT(error.what(), Contains("activation_read port owes"));
  }
  options.make_memory = {};
  const numerics::KernelResult result = cosim::run_kernel(bench, params, small_product(), {}, options, "case");
  CHECK(numerics::first_difference(small_product(), result, numerics::run_case(small_product())).empty());
  // Random stalls, same data; same seed, same cycles.
  options.stall_seed = 5;
  program::KernelProgram program = program::kernel_program(small_product(), params, {}, "case");
  program::MemoryImage first = program.loaded.image, second = program.loaded.image;
  const cosim::BenchRun a = bench.run(program.loaded.commands, {0}, first, options);
  const cosim::BenchRun b = bench.run(program.loaded.commands, {0}, second, options);
  CHECK(a.engine.cycles == b.engine.cycles);
  CHECK(numerics::first_difference(small_product(), program::kernel_result(small_product(), program, first), result)
            .empty());
}

TEST_CASE("verify counts what it compared and finds no difference", "[cosim][verify]") {
  const testing::Outcome run = testing::run_program("verify --cases 40 --seed 9 --against rtl --json");
  REQUIRE(run.exit_code == 0);
  const auto json = nlohmann::json::parse(run.out);
  CHECK(json.at("cases") == 40);
  CHECK(json.at("differences") == 0);
  CHECK(json.at("configurations").get<int>() > 20);
  CHECK(json.at("cycles_compared").get<std::uint64_t>() > 10000);
  // Every output port in every cycle.
  CHECK(json.at("port_values_compared").get<std::uint64_t>() % json.at("cycles_compared").get<std::uint64_t>() == 0);
}

TEST_CASE("the engines' totals are compared on drawn cores and on the builds, in lock step there", "[cosim][verify]") {
  const testing::Outcome drawn = testing::run_program("verify --cases 20 --seed 3 --engines fast,cycle --json");
  INFO(drawn.err);
  REQUIRE(drawn.exit_code == 0);
  const auto json = nlohmann::json::parse(drawn.out);
  CHECK(json.at("cases") == 20);
  CHECK(json.at("differences") == 0);
  CHECK(json.at("tiles_compared").get<std::uint64_t>() > 100);
  CHECK(json.at("port_values_compared") == 0);
  const testing::Outcome builds = testing::run_program("verify --cases 8 --seed 3 --engines fast,cycle,rtl --json");
  REQUIRE(builds.exit_code == 0);
  CHECK(nlohmann::json::parse(builds.out).at("port_values_compared").get<std::uint64_t>() > 10000);
  const testing::Outcome chip =
      testing::run_program("verify --cases 2 --seed 3 --engines fast,cycle --chip chips/large-64x64.yaml");
  CHECK(chip.exit_code == 0);
  // A difference in the lock step ends it too, and its replay names the engines.
  const testing::Outcome flipped =
      testing::run_program("verify --cases 2 --seed 3 --engines fast,cycle,rtl --inject rtl:0");
  CHECK(flipped.exit_code == 1);
  CHECK_THAT(flipped.err, Contains("--engines fast,cycle,rtl --inject rtl:0"));
}

TEST_CASE("verify draws the same cases from the same seed whatever the number of processes", "[cosim][verify]") {
  const testing::Outcome one = testing::run_program("verify --cases 60 --seed 4 --against rtl --json --jobs 1");
  const testing::Outcome three = testing::run_program("verify --cases 60 --seed 4 --against rtl --json --jobs 3");
  CHECK(one.exit_code == 0);
  CHECK(one.out == three.out);
}

TEST_CASE("a flipped bit of any output port is found, named and replayed", "[cosim][verify]") {
  const testing::Folder folder;
  for (const int bit : {0, 40, 100, 200, 300}) {
    const std::string options = "verify --seed 2 --against rtl --inject rtl:" + std::to_string(bit);
    const testing::Outcome run = testing::run_program(options + " --cases 3 --json");
    INFO(run.err);
    REQUIRE(run.exit_code == 1);
    CHECK(run.one_error_line());
    const auto json = nlohmann::json::parse(run.out);
    CHECK(json.at("differences") == 1);
    CHECK_THAT(json.at("first_difference").get<std::string>(),
               Contains("cycle 100: ") && Contains(": twin 0x") && Contains(", rtl 0x"));
    CHECK_THAT(json.at("replay").get<std::string>(), Contains("--seed 2 --first 0 --cases 1"));
    if (bit != 0) continue;
    const testing::Outcome replay =
        testing::run_program(options + " --first 0 --cases 1 --waves " + folder.file("case.fst"));
    CHECK(replay.exit_code == 1);
    CHECK(folder.has("case.fst"));
    CHECK(folder.has("case.fst.twin.vcd"));
  }
}

TEST_CASE("verify refuses what it cannot do", "[cosim][verify]") {
  const auto refused = [](const std::string& options, const std::string& text) {
    const testing::Outcome run = testing::run_program("verify " + options);
    INFO(run.err);
    CHECK(run.exit_code == 2);
    CHECK(run.out.empty());
    CHECK(run.one_error_line());
    CHECK_THAT(run.err, Contains(text));
  };
  refused("--cases 1 --seed 1 --against gpu", "--against: got 'gpu', expected a list of rtl, cuda");
  refused("--cases 1 --seed 1", "--against: got nothing, expected either --against or --engines");
  refused("--cases 1 --seed 1 --against rtl --engines fast,cycle", "--against: got it and --engines");
  refused("--cases 1 --seed 1 --engines fast", "--engines: got 'fast', expected fast,cycle or fast,cycle,rtl");
  refused("--cases 1 --seed 1 --engines fast,rtl", "--engines");
  refused("--cases 1 --seed 1 --engines fast,cycle,cycle", "--engines");
  refused("--cases 1 --seed 1 --engines fast,cycle --waves x.fst", "--waves");
  refused("--cases 0 --seed 1 --against rtl", "--cases");
  refused("--cases 1 --seed 1 --against rtl --inject rtl:99999",
          "--inject: got 'rtl:99999', expected rtl:BIT with BIT in 0..");
  refused("--cases 1 --seed 1 --against rtl --inject twin:1", "--inject");
  refused("--cases 2 --seed 1 --against rtl --waves x.fst", "--waves");
  refused("--cases 1 --seed 1 --against rtl --chip chips/large-64x64.yaml", "chips/large-64x64.yaml: array: got 64x64");
  refused("--cases 1 --seed 1 --against rtl --chip no-such-file.yaml", "no-such-file.yaml");
}
