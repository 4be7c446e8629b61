// moesaic map under a latency budget that the simulated plan has to keep.
#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "mapping/latency_search.h"
#include "tests/bad_config/cli/run_program.h"
#include "workloads/latency_table.h"
#include "workloads/plan.h"

using namespace moesaic;
using moesaic::testing::Folder;
using moesaic::testing::Outcome;
using moesaic::testing::run_program;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

/// Losses that fall by half with every bit, for 4 layers of 8 experts.
std::string table() {
  std::string text = "layer,expert,format,bits,loss,frequency,weight\n";
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      for (int bits = 2; bits <= 6; ++bits)
        text += std::to_string(layer) + "," + std::to_string(expert) + ",int," + std::to_string(bits) + "," +
                std::to_string((1.0 + layer + 0.1 * expert) / (1 << bits)) + ",0.25,0.125\n";
  return text;
}

struct Map {
  Folder folder;
  std::string start;
  Map() {
    base::write_file(folder.file("s.csv"), table());
    start = "map --workload configs/demo_workload.yaml --chip chips/demo.yaml --sensitivity " + folder.file("s.csv") +
            " --cache " + folder.file("cache") + " ";
  }
  json run(const std::string& options) {
    const Outcome outcome = run_program(start + options + " --json");
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return json::parse(outcome.out);
  }
  json simulated(const std::string& plan) {
    const Outcome outcome = run_program(
        "simulate --engine fast --no-data --json --chip chips/demo.yaml --workload configs/demo_workload.yaml --plan " +
        plan + " --out " + folder.file("run"));
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return json::parse(outcome.out);
  }
};

}  // namespace

TEST_CASE("a plan under a latency budget states what simulate takes with it, within the budget", "[regress][mapping]") {
  Map map;
  const std::string plan = map.folder.file("plan.yaml");
  const json free = map.run("--memory-budget 4bits"),
             held = map.run("--memory-budget 4bits --latency-budget 12000cycles --out " + plan);
  const json& latency = held["budgets"][1];
  CHECK(latency["name"] == "latency");
  CHECK(latency["scale"] == 16);
  CHECK(latency["wanted"] == 12000 * 16);
  CHECK(latency["simulated"] <= latency["wanted"]);
  CHECK(latency["rounds"] > 1);
  CHECK(latency["rounds"] <= mapping::kMostLatencyPlans);
  CHECK(latency["used"] <= latency["budget"]);
  CHECK(held["loss"] > free["loss"]);
  const json summary = map.simulated(plan);
  CHECK(summary["cycles"] == latency["simulated"]);
  // Close to the budget: what an expert in one bit more would take is some 1,500 cycles.
  CHECK(latency["wanted"].get<std::int64_t>() - latency["simulated"].get<std::int64_t>() < 3000);
  CHECK(run_program(map.start + "--memory-budget 4bits --latency-budget 12000cycles --check " + plan).exit_code == 0);
  const workloads::Plan read = workloads::read_plan(plan);
  REQUIRE(read.budgets[1].simulated.has_value());
  CHECK(read.budgets[1].simulated->used == latency["simulated"]);
  // A plan that states another simulation is found out.
  std::string text = base::read_file(plan);
  const std::string stated = "simulated: " + std::to_string(read.budgets[1].simulated->used);
  const std::size_t at = text.find(stated);
  REQUIRE(at != std::string::npos);
  text.replace(at, stated.size(), "simulated: " + std::to_string(read.budgets[1].simulated->used - 1));
  base::write_file(map.folder.file("changed.yaml"), text);
  const Outcome changed = run_program(map.start + "--memory-budget 4bits --latency-budget 12000cycles --check " +
                                      map.folder.file("changed.yaml"));
  CHECK(changed.exit_code == 1);
  CHECK_THAT(changed.err, Catch::Contains("simulation took"));
  // So is one that is held to less than it takes.
  const Outcome less = run_program(map.start + "--memory-budget 4bits --latency-budget 11500cycles --check " + plan);
  CHECK(less.exit_code == 1);
  CHECK(less.err == "plan check: latency within the budget: " + std::to_string(read.budgets[1].simulated->used) +
                        " simulated, 184000 wanted\n");
}

namespace {

/// chips/demo.yaml, by planes, with these lines.
std::string chip_with(const Folder& folder, const std::string& lines) {
  std::string text = base::read_file("chips/demo.yaml");
  text.replace(text.find("tile_major"), 10, "plane_major");
  base::write_file(folder.file("chip.yaml"), text + lines);
  return folder.file("chip.yaml");
}

constexpr const char* kStorage =
    "storage: {kind: nvme, preset: nvme-pcie4x4, latency_ns: 4000}\n"
    "cache: {policy: lru, capacity_experts: 6, load_order: hebf, decision_cycles: 100, prefetch: {kind: none}, "
    "start: cold}\n";
constexpr const char* kCosts =
    "stated_costs: {norm: {cycles: 20, elements_per_cycle: 4}, router: {cycles: 10, macs_per_cycle: 16}, "
    "softmax: {cycles: 30, scores_per_cycle: 2}}\n";

/// The cycles that map and pareto state of a plan are those that simulate takes with it.
void check_simulated(const Map& map, const std::string& chip, const std::string& workload, const std::string& budget) {
  const std::string files = " --chip " + chip + " --workload " + workload, plan = map.folder.file("plan.yaml"),
                    given = files + " --sensitivity " + map.folder.file("s.csv") + " --cache " +
                            map.folder.file("cache") + " --formats int2..int4 --json";
  const Outcome mapped = run_program("map --memory-budget 4bits --latency-budget " + budget + " --out " + plan + given);
  INFO(mapped.err);
  REQUIRE(mapped.exit_code == 0);
  const json latency = json::parse(mapped.out)["budgets"][1];
  const auto simulated = [&](const std::string& of) {
    const Outcome outcome = run_program("simulate --engine fast --no-data --json --plan " + of + files + " --out " +
                                        map.folder.file("run"));
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return json::parse(outcome.out);
  };
  const json summary = simulated(plan);
  CHECK(latency["simulated"] == summary["cycles"]);
  CHECK(latency["simulated"] <= latency["wanted"]);
  const std::string sweep = map.folder.file("sweep");
  const Outcome swept = run_program("pareto --memory-budgets 3bits --allocators optimal --out " + sweep + given);
  INFO(swept.err);
  REQUIRE(swept.exit_code == 0);
  CHECK(json::parse(swept.out)["points"][0]["cycles"] == simulated(sweep + "/plans/3bits-optimal.yaml")["cycles"]);
}

/// Requests of three tokens at their arrivals, for 4 layers of 8 experts: what continuous batching needs.
std::string arriving_trace() {
  std::string rows = "request,step,phase,position,layer,experts,weights,arrival_us\n";
  const char* const arrivals[] = {"1", "2", "15", "300"};
  for (int request = 0; request < 4; ++request)
    for (int position = 0; position < 3; ++position)
      for (int layer = 0; layer < 4; ++layer)
        rows += std::to_string(request) + (position < 2 ? ",0,prefill," : ",1,decode,") + std::to_string(position) +
                "," + std::to_string(layer) + "," + std::to_string((request + position + layer) % 8) + ";" +
                std::to_string((request + 2 * position + layer + 3) % 8) + ",0.6;0.4," + arrivals[request] + "\n";
  return rows;
}

}  // namespace

TEST_CASE("on a chip with a storage and a cache a plan states the cycles that simulate takes with it",
          "[regress][mapping]") {
  const Map map;
  const std::string chip = chip_with(map.folder, kStorage);
  check_simulated(map, chip, "configs/demo_workload.yaml", "14000cycles");
  const Outcome profile =
      run_program("profile --no-cache --formats int2 --workload configs/demo_workload.yaml --chip " + chip);
  CHECK(profile.exit_code == 2);
  CHECK(profile.err == chip +
                           ": storage: got experts that come from it while the chip runs, expected none: the table "
                           "is of experts that are in the memory\n");
}

TEST_CASE("behind a storage that takes most of the time the best plan is found, not the fastest of the table",
          "[regress][mapping]") {
  // nested2 takes the least cycles once it is in the memory, and the most to load: all eight planes. So the plan that
  // adds up to least is none of the fastest, and what a plan is too slow by is more than it adds up to.
  const Folder folder;
  std::string chip = base::read_file("chips/demo.yaml"), text = "layer,expert,format,bits,loss,frequency,weight\n";
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      for (const auto& [format, share] :
           {std::pair("nested,2", 0.3), {"int,3", 0.125}, {"int,4", 0.0625}, {"int,5", 0.03125}, {"int,6", 0.015625}})
        text += std::to_string(layer) + "," + std::to_string(expert) + "," + format + "," +
                std::to_string((1.0 + layer + 0.1 * expert) * share) + ",0.25,0.125\n";
  base::write_file(folder.file("s.csv"), text);
  base::write_file(folder.file("chip.yaml"),
                   chip +
                       "storage: {kind: ufs, preset: ufs4}\n"
                       "cache: {policy: lru, capacity_experts: 6, load_order: hebf, decision_cycles: 100, "
                       "prefetch: {kind: none}, start: cold}\n");
  base::write_file(folder.file("w.yaml"), "model: " + fs::absolute("data/model").string() +
                                              "\ntrace: " + fs::absolute("data/traces/evaluation.csv.gz").string() +
                                              "\nrequests: [0]\nsteps: [1, 2, 3, 4, 5, 6, 7, 8]\n");
  const std::string start = "map --memory-budget 8bits --workload " + folder.file("w.yaml") + " --chip " +
                            folder.file("chip.yaml") + " --sensitivity " + folder.file("s.csv") + " --cache " +
                            folder.file("cache") + " --json --latency-budget ";
  double loss = 0;
  for (const int wanted : {290000, 282000, 274000, 266000}) {
    INFO(wanted);
    const std::string budget = std::to_string(wanted) + "cycles";
    const Outcome outcome = run_program(start + budget + " --out " + folder.file("plan.yaml"));
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    const json plan = json::parse(outcome.out), &latency = plan["budgets"][1];
    CHECK(latency["simulated"] <= latency["wanted"]);
    CHECK(latency["rounds"] <= mapping::kMostLatencyPlans);
    CHECK(plan["loss"] >= loss);
    CHECK(plan["loss"] < 7);  // all nested2 loses 26
    loss = plan["loss"];
    CHECK(run_program(start + budget + " --check " + folder.file("plan.yaml")).exit_code == 0);
  }
  const Outcome refused = run_program(start + "250000cycles");
  CHECK(refused.exit_code == 1);
  const std::string said = " too many; ";
  const std::size_t at = refused.err.find(said);
  REQUIRE(at != std::string::npos);
  const std::string least = refused.err.substr(at + said.size(), refused.err.find(" can be kept") - at - said.size());
  CHECK(run_program(start + least).exit_code == 0);
}

TEST_CASE("with whole layers and stated costs a plan states the cycles that simulate takes with it",
          "[regress][mapping]") {
  const Map map;
  base::write_file(map.folder.file("w.yaml"),
                   "model: " + fs::absolute("data/model").string() +
                       "\ntrace: " + fs::absolute("data/traces/evaluation.csv.gz").string() +
                       "\nrequests: [0]\nmax_tokens: 4\nwhole_layers: {attention: int4, head: int4}\n");
  check_simulated(map, chip_with(map.folder, kCosts), map.folder.file("w.yaml"), "60000cycles");
}

TEST_CASE("with continuous batching a plan states the cycles of its own schedule", "[regress][mapping]") {
  const Map map;
  base::write_file(map.folder.file("t.csv"), arriving_trace());
  base::write_file(map.folder.file("w.yaml"), "model: " + fs::absolute("data/model").string() +
                                                  "\ntrace: t.csv\ncontinuous_batching: {max_requests: 2}\n");
  check_simulated(map, "chips/demo.yaml", map.folder.file("w.yaml"), "34000cycles");
  const Outcome profile =
      run_program("profile --no-cache --formats int2 --chip chips/demo.yaml --workload " + map.folder.file("w.yaml"));
  CHECK(profile.exit_code == 2);
  CHECK_THAT(profile.err, Catch::StartsWith(map.folder.file("w.yaml") + ": continuous_batching: got "));
}

TEST_CASE(
    "a plan for another chip, trace or work is refused unless it is said to be foreign, one that lies in any case",
    "[regress][mapping]") {
  Map map;
  const std::string plan = map.folder.file("plan.yaml");
  map.run("--memory-budget 3bits --out " + plan);
  const auto simulate = [&](const std::string& chip, const std::string& workload, const std::string& of,
                            const std::string& more = "") {
    return run_program("simulate --engine fast --no-data --json --chip " + chip + " --workload " + workload +
                       " --plan " + of + " --out " + map.folder.file("run") + more);
  };
  const std::string demo = "chips/demo.yaml", work = "configs/demo_workload.yaml";
  CHECK(simulate(demo, work, plan).exit_code == 0);
  const auto refused = [&](const Outcome& outcome, const std::string& what) {
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.one_error_line());
    CHECK_THAT(outcome.err, Catch::StartsWith(plan) && Catch::Contains(what));
  };
  const std::string chip = chip_with(map.folder, ""), other = map.folder.file("other.yaml");
  std::string text = base::read_file(work);
  for (std::size_t at = text.find("../"); at != std::string::npos; at = text.find("../"))
    text.replace(at, 3, fs::current_path().string() + "/");
  base::write_file(other, text);
  CHECK(simulate(demo, other, plan).exit_code == 0);  // the same work by another name
  base::write_file(other, text + "layers: [0, 1]\n");
  refused(simulate(chip, work, plan), "made_from.chip: got ");
  refused(simulate(demo, other, plan), "made_from.work: got ");
  const Outcome foreign = simulate(chip, other, plan, " --foreign-plan");
  REQUIRE(foreign.exit_code == 0);
  CHECK_THAT(json::parse(foreign.out)["facts"]["plan"].get<std::string>(), Catch::Contains("made for another chip"));
  text.replace(text.find("evaluation.csv.gz"), 17, "moby_dick.csv.gz");
  text.erase(text.find("tokens:"), text.find("requests: [0]") - text.find("tokens:"));
  base::write_file(other, text);
  refused(simulate(demo, other, plan), "made_from.trace: got ");
  CHECK(simulate(demo, work, "int3", " --foreign-plan").exit_code == 2);

  const workloads::Plan read = workloads::read_plan(plan);
  const auto edited = [&](const std::string& from, const std::string& to) {
    std::string lines = base::read_file(plan);
    const std::size_t at = lines.find(from);
    REQUIRE(at != std::string::npos);
    base::write_file(map.folder.file("plan.yaml.edited"), lines.replace(at, from.size(), to));
    return map.folder.file("plan.yaml.edited");
  };
  const std::string bytes = std::to_string(read.memory_bytes);
  refused(simulate(demo, work, edited("memory_bytes: " + bytes, "memory_bytes: 5")),
          "used: got " + bytes + ", expected memory_bytes, 5");
  const std::string format = read.experts[0].format.name();
  for (const char* more : {"", " --foreign-plan"})
    refused(simulate(demo, work,
                     edited("expert: 0, format: " + format,
                            format == "int6" ? "expert: 0, format: int5" : "expert: 0, format: int6"),
                     more),
            "memory_bytes: got " + bytes + ", expected ");
}

TEST_CASE("formats that the chip lacks are refused by map, profile and simulate, and not chosen",
          "[regress][mapping]") {
  Map map;
  const std::string work = " --workload configs/demo_workload.yaml",
                    chip = chip_with(map.folder, "formats: [int2, int4]\n"), on = work + " --chip " + chip,
                    table = " --sensitivity " + map.folder.file("s.csv"), plan = map.folder.file("plan.yaml"),
                    out = " --out " + map.folder.file("run");
  const auto refused = [&](const std::string& command, const std::string& what) {
    const Outcome outcome = run_program(command);
    INFO(command << ": " << outcome.err);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.one_error_line());
    CHECK_THAT(outcome.err, Catch::Contains(what));
  };
  const std::string lacks = "got int3, expected a format that " + chip + " has: int2,int4";
  refused("map --memory-budget 3bits --formats int2..int4" + table + on, "--formats: " + lacks);
  refused("profile --no-cache --formats int2,int3" + on, "--formats: " + lacks);
  refused("simulate --engine fast --no-data --plan int3" + on + out, "--plan: " + lacks);
  refused("simulate --engine fast --no-data" + on + out, "--plan: got int8");
  REQUIRE(
      run_program("map --memory-budget 3bits" + table + work + " --chip chips/demo.yaml --fix 0.0=int3 --out " + plan)
          .exit_code == 0);
  refused("simulate --engine fast --no-data --foreign-plan --plan " + plan + on + out, "format: " + lacks);
  const Outcome mapped = run_program("map --memory-budget 3bits --json" + table + on);
  REQUIRE(mapped.exit_code == 0);
  const json plan_of_map = json::parse(mapped.out);
  for (const auto& [format, count] : plan_of_map["experts"].items()) CHECK((format == "int2" || format == "int4"));
  const Outcome profiled = run_program("profile --no-cache --json" + on);
  REQUIRE(profiled.exit_code == 0);
  CHECK(json::parse(profiled.out)["cycles"].size() == 2);
  refused("profile --no-cache" + work + " --chip " + chip_with(map.folder, "formats: [int2, int2]\n"),
          "formats[1]: got int2, expected each format once");
  refused("profile --no-cache" + work + " --chip " + chip_with(map.folder, "formats: [int9]\n"), "formats: got 'int9'");
  refused("profile --no-cache" + work + " --chip " + chip_with(map.folder, "formats: []\n"), "formats: got ");
}

TEST_CASE("a wide latency budget costs nothing, one for each layer holds in every layer", "[regress][mapping]") {
  Map map;
  const json free = map.run("--memory-budget 4bits"),
             wide = map.run("--memory-budget 4bits --latency-budget 20000cycles");
  CHECK(wide["loss"] == free["loss"]);
  CHECK(wide["budgets"][1]["rounds"] == 1);
  const std::string plan = map.folder.file("plan.yaml");
  const json held = map.run("--memory-budget 4bits --latency-budget 3200cycles/layer --out " + plan);
  const json summary = map.simulated(plan);
  std::int64_t greatest = 0;
  for (const json& layer : summary["layers"]) greatest = std::max(greatest, layer["cycles"].get<std::int64_t>());
  CHECK(greatest <= 3200 * 16);
  CHECK(held["budgets"][1]["simulated"] == greatest);
}

TEST_CASE("levels of MWQ are profiled, stored and simulated as the plan says", "[regress][mapping]") {
  Map map;
  std::string text = "layer,expert,format,bits,loss,frequency,weight\n";
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      for (const auto& [format, loss] : {std::pair("int,2", 0.25), {"mwq2+1of2,3", 0.06}, {"int,5", 0.05}})
        text += std::to_string(layer) + "," + std::to_string(expert) + "," + format + "," +
                std::to_string(loss * (1 + layer + 0.1 * expert)) + ",0.25,0.125\n";
  base::write_file(map.folder.file("s.csv"), text);
  const std::string plan = map.folder.file("plan.yaml");
  const json held = map.run("--memory-budget 4.5bits --latency-budget 12000cycles --out " + plan);
  const std::int64_t narrow = held["experts"]["int2"], levels = held["experts"]["mwq2+1of2"];
  CHECK(narrow + levels == 32);
  CHECK(narrow > 0);
  CHECK(levels > 0);
  // 98,304 weights in groups of 64: 2 or 4 planes, 3 bytes a group, 2 more for each of two levels; 640 columns of 3.
  const std::int64_t groups = 98304 / 64;
  CHECK(held["memory_bytes"] == narrow * (98304 / 4 + 3 * groups + 1920) + levels * (98304 / 2 + 7 * groups + 1920));
  const json& latency = held["budgets"][1];
  CHECK(latency["simulated"] <= latency["wanted"]);
  CHECK(map.simulated(plan)["cycles"] == latency["simulated"]);
  CHECK(run_program(map.start + "--memory-budget 4.5bits --latency-budget 12000cycles --check " + plan).exit_code == 0);
}

TEST_CASE("a latency that no plan reaches ends with exit 1 and by how much", "[regress][mapping]") {
  Map map;
  const Outcome outcome = run_program(map.start + "--memory-budget 4bits --latency-budget 9000cycles --out " +
                                      map.folder.file("plan.yaml"));
  CHECK(outcome.exit_code == 1);
  CHECK(outcome.one_error_line());
  // int2 everywhere takes 150,781 cycles for 16 tokens.
  CHECK_THAT(outcome.err, Catch::Contains("--latency-budget: got 9423.81 simulated cycles a token") &&
                              Catch::Contains("expected at most 9000: 423.81 too many"));
  CHECK_FALSE(map.folder.has("plan.yaml"));
  // What it says can be kept can be, at the loss that it says.
  const std::string said = "9424cycles can be kept, with loss ";
  const std::size_t at = outcome.err.find(said);
  REQUIRE(at != std::string::npos);
  const json kept = map.run("--memory-budget 4bits --latency-budget 9424cycles");
  CHECK(std::stod(outcome.err.substr(at + said.size())) == Approx(kept["loss"].get<double>()).epsilon(1e-9));
}

TEST_CASE("a latency table of another chip, work, group or engine is refused", "[regress][mapping]") {
  Map map;
  const std::string profile = map.folder.file("p.csv"), other = map.folder.file("other.csv");
  const std::string measure = "profile --workload configs/demo_workload.yaml --formats int2..int6 --cache " +
                              map.folder.file("cache") + " --chip ";
  REQUIRE(run_program(measure + "chips/demo.yaml --out " + profile).exit_code == 0);
  const json from_file = map.run("--latency-budget 12000cycles --profile " + profile),
             measured = map.run("--latency-budget 12000cycles");
  CHECK(from_file == measured);
  const auto refusal = [&](const std::string& from, const std::string& to) {
    std::string text = base::read_file(profile);
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    base::write_file(other, text.replace(at, from.size() + 4, to));
    const Outcome outcome = run_program(map.start + "--latency-budget 12000cycles --profile " + other);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.one_error_line());
    return outcome.err;
  };
  CHECK_THAT(refusal("# chip: ", "# chip: 0000"),
             Catch::Contains("chip: got 0000") && Catch::Contains("chips/demo.yaml"));
  CHECK_THAT(refusal("# work: ", "# work: 0000"), Catch::Contains("work: got 0000"));
  CHECK_THAT(refusal("# engine: ", "# engine: 0000"),
             Catch::Contains("engine: got 0000") && Catch::Contains("profile again"));
  CHECK_THAT(refusal("# group_size: 64\n# t", "# group_size: 32\n# token"),
             Catch::Contains("group_size: got 32, expected 64"));
  const auto refused = [&](const std::string& options, const std::string& what) {
    const Outcome outcome = run_program(map.start + options);
    CHECK(outcome.exit_code == 2);
    CHECK_THAT(outcome.err, Catch::Contains(what));
  };
  base::write_file(other, "layer,expert,format,cycles\n0,0,int2,1\n");
  refused("--latency-budget 12000cycles --profile " + profile + " --costs " + other, "--profile: got it with --costs");
  refused("--memory-budget 4bits --profile " + profile, "--profile: got it without --latency-budget");
  refused("--latency-budget 12000", "--latency-budget: got '12000', expected cycles");
  refused("--latency-budget 12000KiB", "--latency-budget: got '12000KiB', expected cycles");
}

TEST_CASE("an I/O budget counts the choices that the workload's rules on routing leave", "[regress][mapping]") {
  Map map;
  const std::string here = fs::current_path().string(), workload = map.folder.file("w.yaml");
  const auto used = [&](const std::string& rules) {
    base::write_file(workload, "model: " + here + "/data/model\ntrace: " + here +
                                   "/data/traces/evaluation.csv.gz\nrequests: [0]\nmax_tokens: 16\n" + rules);
    const std::string files = "--workload " + workload + " --chip chips/demo.yaml ", table = map.folder.file("p.csv");
    const Outcome planned = run_program("map " + files + "--sensitivity " + map.folder.file("s.csv") +
                                        " --memory-budget 2bits --io-budget 1GiB --json");
    INFO(planned.err);
    REQUIRE(planned.exit_code == 0);
    const json plan = json::parse(planned.out);
    REQUIRE(run_program("profile " + files + "--no-cache --formats int2 --out " + table).exit_code == 0);
    std::int64_t rows = 0;
    const auto latencies = workloads::LatencyTable::parse(base::read_file(table), table);
    for (const workloads::LatencyRow& row : latencies.rows())
      if (row.expert != workloads::LatencyRow::kRest) rows += row.rows;
    for (const json& budget : plan["budgets"])
      if (budget["name"] == "io") CHECK(budget["used"] == rows * plan["memory_bytes"].get<std::int64_t>() / 32);
    return rows;
  };
  const std::int64_t all = used("");
  CHECK(all == 16 * 2 * 4);
  CHECK(used("routing: {prune_ratio: 0.5}\n") < all);
  CHECK(used("routing: {capacity_factor: 1}\n") < all);
  // With batches that a plan's own cycles decide, what a token reads under such a rule is not known before; bytes are.
  base::write_file(workload, "model: " + here + "/data/model\ntrace: " + here +
                                 "/data/traces/evaluation.csv.gz\ncontinuous_batching: {max_requests: 2}\n"
                                 "routing: {capacity_factor: 1}\n");
  const std::string start = "map --workload " + workload + " --chip chips/demo.yaml --sensitivity " +
                            map.folder.file("s.csv") + " --memory-budget 3bits";
  CHECK(run_program(start).exit_code == 0);
  const Outcome unknown = run_program(start + " --io-budget 1GiB");
  CHECK(unknown.exit_code == 2);
  CHECK_THAT(unknown.err, Catch::Contains("routing: got rules on batches that the plan's own cycles decide"));
}

TEST_CASE("the classes of a trace are those it numbers, whatever the rules leave of them", "[regress][mapping]") {
  Map map;
  const std::string here = fs::current_path().string(), workload = map.folder.file("w.yaml"),
                    plan = map.folder.file("plan.yaml"), table = map.folder.file("nested.csv");
  std::string trace = "request,step,phase,position,layer,experts,weights,levels\n";
  for (int layer = 0; layer < 4; ++layer)
    for (int position = 0; position < 4; ++position)
      trace += "0,0,prefill," + std::to_string(position) + "," + std::to_string(layer) + ",0;1,0.7;0.3," +
               std::to_string(position % 2) + ";2\n";
  base::write_file(map.folder.file("t.csv"), trace);
  std::string rows = "layer,expert,format,bits,loss,frequency,weight\n";
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      for (int bits = 2; bits <= 4; ++bits)
        rows += std::to_string(layer) + "," + std::to_string(expert) + ",nested," + std::to_string(bits) + "," +
                std::to_string(1.0 / (1 << bits)) + ",0.25,0.125\n";
  base::write_file(table, rows);
  base::write_file(workload,
                   "model: " + here + "/data/model\ntrace: t.csv\nrouting: {prune_ratio: 0.9}\n");  // all of level 2
  const std::string files = " --chip chips/demo.yaml --workload " + workload;
  const Outcome planned = run_program("map" + files + " --sensitivity " + table +
                                      " --memory-budget 10MiB --io-budget 1GiB --class-shares trace --out " + plan);
  INFO(planned.err);
  REQUIRE(planned.exit_code == 0);
  CHECK(workloads::read_plan(plan).class_shares == std::vector<double>{0.5, 0.5, 0});
  CHECK(run_program("simulate --engine fast --no-data" + files + " --plan " + plan + " --out " + map.folder.file("run"))
            .exit_code == 0);
}
