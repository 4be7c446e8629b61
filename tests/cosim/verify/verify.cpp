#include <tlm_utils/simple_target_socket.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "models/storage/storage_device.h"
#include "sim/cosim/core_bench.h"
#include "sim/cosim/kernel_run.h"
#include "sim/cosim/lockstep.h"
#include "sim/cosim/storage_port.h"
#include "sim/cosim/tlm_memory.h"
#include "sim/cosim/verify_case.h"
#include "sim/program/awaited_bytes.h"
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

cosim::Report run_behind_tlm(unsigned axi_data_bits) {
  program::CoreParams params;
  params.axi_data_bits = axi_data_bits;
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

/// Two products whose weights lie in storage: the second's descriptors go in with the first's, or when the core is
/// idle.
struct FromStorage {
  program::Loaded loaded;
  program::LoadProgram loads;
  std::vector<program::KernelPlaces> places;
  std::vector<std::size_t> phases{0};

  FromStorage(const program::CoreParams& params, bool prefetch) {
    base::Rng rng(5);
    unsigned next_job = 0;
    for (int kernel = 0; kernel < 2; ++kernel) {
      const std::size_t first = loaded.commands.size();
      if (kernel > 0) phases.push_back(first);
      places.push_back(program::append_kernel(small_product(), params, {}, "case", loaded));
      cosim::add_loads(rng, places.back(), params, first, first, next_job, loaded, loads);
    }
    for (program::PlaneLoad& load : loads.loads)
      load.command = prefetch ? 0 : phases[load.command >= phases[1] ? 1 : 0];
  }
  /// Empty, or what differs from the CPU's results.
  std::string difference(const program::MemoryImage& image) const {
    std::string text;
    for (const program::KernelPlaces& each : places)
      text += numerics::first_difference(small_product(), program::kernel_result(small_product(), each, image),
                                         numerics::run_case(small_product()));
    return text;
  }
};

std::uint64_t io_cycles(const cosim::BenchRun& run) {
  return run.engine.phase_ends.back().causes[static_cast<std::size_t>(program::Cause::kIo)];
}

/// The same work with and without a prefetch, on storage that is slower than the core.
cosim::Report run_from_storage() {
  program::CoreParams params;
  params.io_depth = params.io_credits = 16;
  cosim::CoreBench bench(cosim::make_cycle_engine(params));
  cosim::BenchOptions options;
  options.storage.latency_cycles = 2000;
  options.storage.bytes_per_cycle = 8;
  cosim::Report report;
  const auto run = [&](const FromStorage& work) {
    program::MemoryImage image = work.loaded.image;
    const cosim::BenchRun done = bench.run(work.loaded.commands, work.phases, image, options, &work.loads);
    report.message += work.difference(image);
    for (const auto& load : done.engine.loads) {
      if (load.completed < load.issued + 2000) report.message += "; a load was faster than the storage";
    }
    return done;
  };
  const cosim::BenchRun on_demand = run(FromStorage(params, false)), prefetched = run(FromStorage(params, true));
  const std::uint64_t demand_io = io_cycles(on_demand), prefetch_io = io_cycles(prefetched);
  const std::string numbers = " (io " + std::to_string(demand_io) + " and " + std::to_string(prefetch_io) +
                              " cycles of " + std::to_string(on_demand.engine.cycles) + " and " +
                              std::to_string(prefetched.engine.cycles) + ")";
  if (demand_io < 2500) report.message += "; two waits of 2000 cycles less some work do not show as io" + numbers;
  if (prefetch_io + 1000 > demand_io) report.message += "; a prefetch saves no io cycles" + numbers;
  if (prefetched.engine.cycles + 1000 > on_demand.engine.cycles)
    report.message += "; a prefetch saves no cycles" + numbers;
  if (on_demand.storage_name != "simple storage(latency 2000 to 2000 cycles, 8 bytes/cycle, 32 requests)")
    report.message += "; storage is " + on_demand.storage_name;
  return report;
}

/// The same on an NVMe drive, at 500 MHz.
cosim::Report run_from_nvme() {
  const program::CoreParams params;
  const base::Femtoseconds period(2000000);
  const storage::StorageConfig config = storage::storage_preset(storage::storage_preset_names("nvme").front());
  cosim::CoreBench bench(cosim::make_cycle_engine(params));
  cosim::BenchOptions options;
  options.make_storage = [&](memory::MemoryModel&) {
    return std::make_unique<storage::StorageDevice>(storage::make_storage(config), period);
  };
  const FromStorage work(params, true);
  program::MemoryImage image = work.loaded.image;
  const cosim::BenchRun done = bench.run(work.loaded.commands, work.phases, image, options, &work.loads);
  cosim::Report report;
  report.message = work.difference(image);
  const auto latency = static_cast<std::uint64_t>(config.latency / period);
  for (const auto& load : done.engine.loads)
    if (load.completed < load.issued + latency) report.message += "; a load was faster than the drive";
  if (io_cycles(done) < latency / 2) report.message += "; the drive's latency does not show as io";
  if (done.storage_name != storage::make_storage(config)->name()) report.message += "; it is " + done.storage_name;
  return report;
}

/// A program whose waits are left out: the fetch reads planes that are not there.
cosim::Report run_without_waits() {
  const program::CoreParams params;
  cosim::CoreBench bench(cosim::make_cycle_engine(params));
  FromStorage work(params, true);
  std::vector<program::Command> commands;
  for (const program::Command& command : work.loaded.commands)
    if (command.opcode != program::Opcode::kWait) commands.push_back(command);
  program::MemoryImage image = work.loaded.image;
  bench.run(commands, {0}, image, {}, &work.loads);
  return {};
}

/// One product after the other, each a phase whose work is known at a time of its own, or when the core is idle again
/// if that is later. Between them only loads could bring work, it says.
class ByTheClock final : public program::HostAgent {
 public:
  ByTheClock(const program::Loaded& loaded, std::vector<std::size_t> phases, std::vector<std::uint64_t> times)
      : loaded_(loaded), phases_(std::move(phases)), times_(std::move(times)) {
    phases_.push_back(loaded.commands.size());
  }

 private:
  void on_begin() override { next(0); }
  void on_phase_ended(std::uint64_t now) override {
    ++at_;
    next(now);
  }
  void on_woken(std::uint64_t now) override {
    set_wake(std::nullopt);
    next(now);
  }
  void next(std::uint64_t now) {
    if (at_ == times_.size()) return finish();
    set_idle_cause(now < times_[at_] ? program::Cause::kIo : program::Cause::kHost);
    if (now < times_[at_]) return set_wake(times_[at_]);
    open_phase({100 + at_, now});
    for (std::size_t i = phases_[at_]; i < phases_[at_ + 1]; ++i) offer(loaded_.commands[i], 7 * i);
    close_phase();
  }
  const program::Loaded& loaded_;
  std::vector<std::size_t> phases_;
  std::vector<std::uint64_t> times_;
  std::size_t at_ = 0;
};

cosim::Report run_by_the_clock() {
  const program::CoreParams params;
  cosim::CoreBench bench(cosim::make_cycle_engine(params));
  program::Loaded loaded;
  std::vector<program::KernelPlaces> places;
  std::vector<std::size_t> phases;
  for (int kernel = 0; kernel < 3; ++kernel) {
    phases.push_back(loaded.commands.size());
    places.push_back(program::append_kernel(small_product(), params, {}, "case", loaded));
  }
  cosim::BenchOptions options;
  options.watchdog_cycles = 5000;  // the agent's own wait is longer
  ByTheClock agent(loaded, phases, {9000, 0, 31000});
  program::MemoryImage image = loaded.image, known = loaded.image;
  const program::EngineRun run = bench.run(agent, image, options).engine;
  const program::EngineRun fixed = bench.run(loaded.commands, phases, known, options).engine;
  cosim::Report report;
  for (const program::KernelPlaces& each : places)
    report.message += numerics::first_difference(small_product(), program::kernel_result(small_product(), each, image),
                                                 numerics::run_case(small_product()));
  const auto expect = [&report](const std::string& what, std::uint64_t got, std::uint64_t expected) {
    if (got != expected)
      report.message += "; " + what + ": got " + std::to_string(got) + ", expected " + std::to_string(expected);
  };
  expect("phases", run.phase_ends.size(), 3);
  if (!report.ok()) return report;
  const std::uint64_t first_end = 9000 + fixed.phase_ends[0].cycles;
  expect("end of the first", run.phase_ends[0].cycles, first_end);
  expect("beginning of the second", run.phase_ends[1].begin, first_end);
  expect("beginning of the third", run.phase_ends[2].begin, 31000);
  expect("first command", run.retired[0], 9000 + fixed.retired[0]);
  for (std::size_t p = 0; p < 3; ++p) {
    expect("tag of a phase", run.phase_ends[p].tag, 100 + p);
    expect("commands of a phase", run.phase_ends[p].commands, fixed.phase_ends[p].commands);
  }
  for (std::size_t i = 0; i < run.tags.size(); ++i) expect("tag of a command", run.tags[i], 7 * i);
  const auto idle = [](const program::EngineRun& of, std::size_t phase, program::Cause cause) {
    return of.phase_ends[phase].causes[static_cast<std::size_t>(cause)];
  };
  expect("io cycles", idle(run, 2, program::Cause::kIo), 9000 + 31000 - run.phase_ends[1].cycles);
  expect("host cycles of the first", idle(run, 0, program::Cause::kHost), idle(fixed, 0, program::Cause::kHost));
  return report;
}

/// Takes requests and never completes one.
class DeadStorage final : public storage::CoreStorage {
 public:
  std::string name() const override { return "dead storage"; }
  bool submit(const storage::StorageRequest&, base::Cycles) override { return true; }
  std::optional<unsigned> finished(base::Cycles) override { return std::nullopt; }
  void take(unsigned) override {}
  std::optional<base::Cycles> next_change(base::Cycles) override { return std::nullopt; }
  Arrival arrival() const override { return {}; }
};

cosim::Report run_on_dead_storage() {
  const program::CoreParams params;
  cosim::CoreBench bench(cosim::make_cycle_engine(params));
  const FromStorage work(params, true);
  cosim::BenchOptions options;
  options.watchdog_cycles = 500;
  options.make_storage = [](memory::MemoryModel&) { return std::make_unique<DeadStorage>(); };
  program::MemoryImage image = work.loaded.image;
  bench.run(work.loaded.commands, work.phases, image, options, &work.loads);
  return {};
}

}  // namespace

TEST_CASE("awaited are the bytes that were added and not removed since", "[cosim][verify]") {
  base::Rng rng(8);
  program::AwaitedBytes awaited;
  std::vector<bool> expected(300);
  for (int step = 0; step < 3000; ++step) {
    const std::uint64_t begin = rng.below(300), end = begin + rng.below(std::min<std::uint64_t>(60, 301 - begin));
    const bool add = rng.chance(1, 2);
    add ? awaited.add(begin, end) : awaited.remove(begin, end);
    std::fill(expected.begin() + static_cast<std::ptrdiff_t>(begin),
              expected.begin() + static_cast<std::ptrdiff_t>(end), add);
    bool any = false;
    for (std::uint64_t i = 0; i < 300; ++i) {
      any = any || expected[i];
      if (awaited.contains(i) != expected[i]) FAIL("byte " << i << " in step " << step);
    }
    CHECK(awaited.empty() == !any);
    const std::uint64_t from = rng.below(300), to = from + 1 + rng.below(300 - from);
    const auto first = expected.begin() + static_cast<std::ptrdiff_t>(from);
    const auto last = expected.begin() + static_cast<std::ptrdiff_t>(to);
    if (awaited.contains_any(from, to) != (std::find(first, last, true) != last))
      FAIL("bytes " << from << " to " << to << " in step " << step);
  }
}

TEST_CASE("weights loaded from storage give the same results, and loading overlaps computing", "[cosim][verify]") {
  const cosim::Report report = cosim::run_forked(run_from_storage);
  INFO(report.message);
  CHECK(report.ok());
}

TEST_CASE("an agent's work is pushed from the cycle on in which it is offered, and not before", "[cosim][verify]") {
  const cosim::Report report = cosim::run_forked(run_by_the_clock);
  INFO(report.message);
  CHECK(report.ok());
}

TEST_CASE("a drive of models/storage can be behind the storage port", "[cosim][verify]") {
  const cosim::Report report = cosim::run_forked(run_from_nvme);
  INFO(report.message);
  CHECK(report.ok());
}

TEST_CASE("a product that reads a plane before its load has completed is caught", "[cosim][verify]") {
  const cosim::Report report = cosim::run_forked(run_without_waits);
  CHECK_THAT(report.message, Contains("weight_read port: got a read at address 0x") &&
                                 Contains("expected none before the load of that plane has completed"));
}

TEST_CASE("a storage that never answers leaves a wait held, and the run says so", "[cosim][verify]") {
  const cosim::Report report = cosim::run_forked(run_on_dead_storage);
  CHECK_THAT(report.message, Contains("stuck in cycle") && Contains("scheduler blocked") &&
                                 Contains("io_queue starved") && Contains("storage port owes"));
}

TEST_CASE("any TLM-2.0 target can be the memory behind the ports", "[cosim][verify]") {
  for (const unsigned bits : {64U, 512U}) {
    const cosim::Report report = cosim::run_forked([bits] { return run_behind_tlm(bits); });
    INFO(bits << " bits: " << report.message);
    CHECK(report.ok());
  }
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
  CHECK(json.at("planes_loaded").get<std::uint64_t>() > 50);
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

TEST_CASE("behind a machine at rest the other beats of a burst are not forgotten", "[cosim][verify]") {
  // Case 1416 had a machine rest behind the first beat of a burst of which all beats were there.
  const testing::Outcome run =
      testing::run_program("verify --cases 1 --seed 20261127 --first 1416 --engines fast,cycle");
  INFO(run.err);
  CHECK(run.exit_code == 0);
  CHECK_THAT(run.out, Catch::StartsWith("1 case in "));
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

TEST_CASE("a workload's first cycles are the same on all engines, on every shipped build", "[cosim][verify]") {
  const testing::Folder folder;
  const std::string four_bits = folder.file("act4.yaml");
  const std::string data = (std::filesystem::current_path() / "data").string();
  std::ofstream(four_bits) << "model: " << data << "/model\ntrace: " << data
                           << "/traces/evaluation.csv.gz\ntokens: " << data
                           << "/tokens/evaluation.bin\nrequest_starts: [0, 256]\nrequests: [0]\nsteps: [1]\n"
                           << "act_bits: 4\n";
  for (const std::string build : {"r4c4p1a8", "r4c8p4a4", "r8c4p2a8", "r8c8p2a16", "r16c8p1a8", "r16c16p2a8",
                                  "r16c16p2a8-ddr5", "r16c32p4a8", "r32c32p2a8", "r4c8p1a8"}) {
    const std::string workload = build == "r4c8p4a4" ? four_bits : "configs/decode_workload.yaml";
    const testing::Outcome run =
        testing::run_program("verify --engines fast,cycle,rtl --chip chips/" + build + ".yaml --workload " + workload +
                             " --plan int3 --max-cycles 6000 --json");
    INFO(build << run.err);
    REQUIRE(run.exit_code == 0);
    const auto json = nlohmann::json::parse(run.out);
    CHECK(json.at("cycles_compared") == 6000);
    CHECK(json.at("whole_run") == false);
    CHECK(json.at("commands_compared").get<int>() > 0);
    CHECK(json.at("tiles_compared").get<int>() > 50);
    CHECK(json.at("port_values_compared").get<int>() > 6000 * 30);
  }
}

TEST_CASE("a large model's first cycles are compared from its shapes alone, experts from storage", "[cosim][verify]") {
  const testing::Folder folder;
  const std::string trace = folder.file("trace.csv"), workload = folder.file("workload.yaml"),
                    chip = folder.file("chip.yaml");
  REQUIRE(testing::run_program("workload synth --network Mixtral-8x7B --requests 1 --prompt-tokens 1 --decode-tokens 1 "
                               "--out " +
                               trace)
              .exit_code == 0);
  std::ofstream(workload) << "model: Mixtral-8x7B\ntrace: " << trace << "\nphase: decode\nlayers: [0, 1]\n";
  std::ofstream(chip) << "name: offload\nclock_mhz: 500\n"
                         "array: {rows: 16, cols: 16, planes_per_cycle: 2, max_act_bits: 8}\naxi_data_bits: 128\n"
                         "buffers: {max_tokens: 16, activation_words: 256, hidden_words: 1024, reader_beats: 32, "
                         "commands: 8}\n"
                         "io_queue: {descriptors: 16, requests: 8, jobs: 8}\nlayout: plane_major\n"
                         "memory: {kind: dram, preset: hbm3-6400, channels: 2}\n"
                         "storage: {kind: host, preset: host-pcie5x16, latency_ns: 1000, "
                         "bytes_per_second: 1000000000000000}\n"
                         "cache: {policy: lru, capacity_experts: 3, load_order: hebf, decision_cycles: 5, "
                         "prefetch: {kind: none}, start: cold}\n";
  const std::string options = "verify --engines fast,cycle,rtl --chip " + chip + " --workload " + workload +
                              " --plan nested2 --no-data --max-cycles 20011 --json";
  const testing::Outcome run = testing::run_program(options);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto json = nlohmann::json::parse(run.out);
  CHECK(json.at("cycles_compared") == 20011);
  CHECK(json.at("planes_loaded").get<int>() > 0);
  CHECK(json.at("tiles_compared").get<int>() > 100);
  const testing::Outcome flipped = testing::run_program(options + " --inject rtl:9");
  CHECK(flipped.exit_code == 1);
  CHECK_THAT(flipped.err,
             Contains("cycle 100: ") && Contains("replay: moesaic verify --engines fast,cycle,rtl --chip"));
}

TEST_CASE("a run shorter than --max-cycles is compared to its end", "[cosim][verify]") {
  const testing::Outcome run = testing::run_program(
      "verify --engines fast,cycle --chip chips/large-64x64.yaml --workload "
      "configs/decode_workload.yaml --barriers --max-cycles 100000000 --json");
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(nlohmann::json::parse(run.out).at("whole_run") == true);
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
  refused("--seed 1 --against rtl", "--cases: got nothing, expected --cases and --seed, or a workload with --workload");
  refused("--cases 1 --against rtl", "--seed: got nothing");
  refused("--cases 1 --seed 1 --against rtl --max-cycles 5", "--max-cycles: got it without --workload");
  refused("--workload configs/demo_workload.yaml --engines fast,cycle", "--workload: got it without --chip");
  refused("--workload configs/demo_workload.yaml --chip chips/demo.yaml --against rtl", "--workload: got it without");
  refused("--workload configs/demo_workload.yaml --chip chips/demo.yaml --cases 3 --engines fast,cycle",
          "--workload: got it and cases");
  refused("--workload configs/demo_workload.yaml --chip chips/demo.yaml --max-cycles 0 --engines fast,cycle",
          "--max-cycles");
  refused("--workload configs/demo_workload.yaml --chip chips/large-64x64.yaml --engines fast,cycle,rtl", "array: got");
  refused("--cases 1 --seed 1 --against rtl --inject rtl:99999",
          "--inject: got 'rtl:99999', expected rtl:BIT with BIT in 0..");
  refused("--cases 1 --seed 1 --against rtl --inject twin:1", "--inject");
  refused("--cases 2 --seed 1 --against rtl --waves x.fst", "--waves");
  refused("--chip chips/demo.yaml --workload configs/demo_workload.yaml --engines fast,cycle --foreign-plan",
          "--foreign-plan: got it without --plan");
  refused("--cases 1 --seed 1 --against rtl --waves no/such/x.fst", "no/such/x.fst");
  refused("--cases 1 --seed 1 --against rtl --waves tests", "--waves: got 'tests', which is no file");
  refused("--cases 1 --seed 1 --against rtl --waves /dev/null", "--waves: got '/dev/null', which is no file");
  CHECK(std::filesystem::is_character_file("/dev/null"));
  const testing::Folder mine;
  base::write_file(mine.file("chip.yaml"), base::read_file("chips/demo.yaml"));
  refused("--chip " + mine.file("chip.yaml") + " --cases 1 --seed 1 --against rtl --waves " + mine.file("chip.yaml"),
          "--waves: got the file of --chip");
  const std::string here = std::filesystem::current_path().string();
  std::filesystem::copy_file("data/traces/evaluation.csv.gz", mine.file("t.csv.gz"));
  base::write_file(mine.file("w.yaml"), "model: " + here + "/data/model\ntrace: t.csv.gz\n");
  refused("--chip chips/demo.yaml --workload " + mine.file("w.yaml") + " --engines fast,cycle,rtl --waves " +
              mine.file("t.csv.gz"),
          "t.csv.gz', which is read");
  refused("--cases 2 --seed 1 --against rtl --first 18446744073709551615", "--first: got 18446744073709551615");
  refused("--cases 1 --seed 1 --against rtl --chip chips/large-64x64.yaml", "chips/large-64x64.yaml: array: got 64x64");
  refused("--cases 1 --seed 1 --against rtl --chip no-such-file.yaml", "no-such-file.yaml");
}
