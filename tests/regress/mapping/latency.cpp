// moesaic map under a latency budget that the simulated plan has to keep.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "base/atomic_file.h"
#include "tests/bad_config/cli/run_program.h"
#include "workloads/plan.h"

using namespace moesaic;
using moesaic::testing::Folder;
using moesaic::testing::Outcome;
using moesaic::testing::run_program;
using nlohmann::json;

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
  CHECK(latency["rounds"] <= 8);
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
