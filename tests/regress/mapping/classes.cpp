// moesaic map with classes of requests: from the trace's levels to a plan that simulate takes.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
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
namespace fs = std::filesystem;

namespace {

/// Losses of an integer, and of one stored copy that is read at three widths.
std::string table() {
  std::string text = "layer,expert,format,bits,loss,frequency,weight\n";
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      for (const auto& [format, loss] :
           {std::pair("int,2", 0.4), {"mwq2+0of2,2", 0.5}, {"mwq2+1of2,3", 0.125}, {"mwq2+2,4", 0.03}})
        text += std::to_string(layer) + "," + std::to_string(expert) + "," + format + "," +
                std::to_string(loss * (1.0 + layer + 0.3 * expert)) + ",0.25,0.125\n";
  return text;
}

/// A drawn trace of three classes on the shipped model.
struct Classes {
  Folder folder;
  std::string files;
  Classes() {
    base::write_file(folder.file("s.csv"), table());
    const Outcome synth = run_program(
        "workload synth --network data/model --requests 2 --prompt-tokens 5 --decode-tokens 1 --levels "
        "0.5,0.3,0.2 --out " +
        folder.file("t.csv"));
    INFO(synth.err);
    REQUIRE(synth.exit_code == 0);
    base::write_file(folder.file("w.yaml"), "model: " + fs::absolute("data/model").string() + "\ntrace: t.csv\n");
    files = " --chip chips/demo.yaml --workload " + folder.file("w.yaml");
  }
  json run(const std::string& arguments) const {
    const Outcome outcome = run_program(arguments + files + " --json");
    INFO(arguments << ": " << outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return json::parse(outcome.out);
  }
  std::string map() const {
    return "map --sensitivity " + folder.file("s.csv") + " --cache " + folder.file("cache") + " ";
  }
  json simulated(const std::string& plan, const std::string& more) const {
    return run("simulate --engine fast --plan " + plan + " --out " + folder.file("run") + " " + more);
  }
};

}  // namespace

TEST_CASE("a plan with classes adds up to its run with barriers, and states the cycles that simulate takes",
          "[regress][mapping]") {
  const Classes work;
  const std::string plan = work.folder.file("plan.yaml"), again = work.folder.file("again.yaml");
  const std::string budgets =
      work.map() + "--memory-budget 4.2bits --latency-budget 25000cycles --class-shares 0.5,0.3,0.2 ";
  const json held = work.run(budgets + "--out " + plan), free = work.run(work.map() +
                                                                         "--memory-budget 4.2bits "
                                                                         "--class-shares 0.5,0.3,0.2");
  CHECK(held["class_shares"].size() == 3);
  CHECK(held["loss"] > free["loss"]);
  const json& latency = held["budgets"][1];
  CHECK(latency["simulated"] <= latency["wanted"]);
  CHECK(work.simulated(plan, "--no-data")["cycles"] == latency["simulated"]);
  CHECK(work.simulated(plan, "--no-data --barriers")["cycles"] == latency["used"]);
  const json whole = work.simulated(plan, "");  // every result is the reference's
  CHECK(whole["cycles"] == latency["simulated"]);
  CHECK(whole["check"]["values_compared"] > 0);
  work.run(budgets + "--check " + plan);
  // Some expert is read at several widths, and the file says so in one way.
  const workloads::Plan read = workloads::read_plan(plan);
  CHECK(std::any_of(read.experts.begin(), read.experts.end(), [](const auto& e) { return !e.reads.empty(); }));
  workloads::write_plan(read, again);
  CHECK(base::read_file(again) == base::read_file(plan));
  // Classes that read more than the plan says it was made for are found out.
  workloads::Plan other = read;
  for (workloads::PlanEntry& e : other.experts) e.reads.clear();
  workloads::write_plan(other, again);
  const Outcome changed = run_program(budgets + "--check " + again + work.files);
  CHECK(changed.exit_code == 1);
  CHECK_THAT(changed.err, Catch::Contains("plan check: "));
  const Outcome without = run_program(work.map() + "--memory-budget 4.2bits --check " + plan + work.files);
  CHECK(without.exit_code == 2);
  CHECK_THAT(without.err, Catch::Contains("class_shares: got [") && Catch::Contains("expected [], as --class-shares"));
}

TEST_CASE("the profile's sum for classes that read so is the run with barriers of that plan", "[regress][mapping]") {
  const Classes work;
  const std::string table = work.folder.file("p.csv");
  const json profile = work.run("profile --no-cache --classes 3 --formats mwq2+0of2..mwq2+2 --out " + table);
  CHECK(profile["cycles"].size() == 10);
  CHECK(profile["runs"] < 10);
  for (const std::string reads : {"mwq2+0of2:mwq2+1of2:mwq2+2", "mwq2+0of2:mwq2+0of2:mwq2+2"}) {
    CAPTURE(reads);
    // Every expert fixed to it.
    std::string fixed;
    for (int layer = 0; layer < 4; ++layer)
      for (int expert = 0; expert < 8; ++expert)
        fixed += "--fix " + std::to_string(layer) + "." + std::to_string(expert) + "=" + reads + " ";
    const std::string plan = work.folder.file("plan.yaml");
    const json mapped = work.run(work.map() + fixed + "--class-shares 0.5,0.3,0.2 --latency-budget 90000cycles --out " +
                                 plan + " --formats mwq2+0of2..mwq2+2 --profile " + table);
    CHECK(mapped["experts"][reads] == 32);
    CHECK(mapped["budgets"][0]["used"] == profile["cycles"][reads]);
    CHECK(work.simulated(plan, "--no-data --barriers")["cycles"] == profile["cycles"][reads]);
  }
  const json any = work.run("profile --no-cache --classes 3 --class-order any --formats mwq2+0of2..mwq2+2");
  CHECK(any["cycles"].size() == 27);
  for (const auto& [reads, cycles] : profile["cycles"].items()) CHECK(any["cycles"][reads] == cycles);
  const auto refusal = [&](const std::string& shares) {
    const Outcome outcome =
        run_program(work.map() + "--latency-budget 90000cycles --formats mwq2+0of2..mwq2+2 --profile " + table +
                    " --class-shares " + shares + work.files);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.one_error_line());
    return outcome.err;
  };
  CHECK_THAT(refusal("0.25,0.25,0.25,0.25"), Catch::Contains("p.csv: classes: got 3, expected 4"));
  CHECK_THAT(refusal("0.5,0.3,0.2 --class-order any"), Catch::Contains("got no row for mwq2+0of2 of classes 0;2"));
}

TEST_CASE("with classes a plan in the same bytes loses no more, and with one class it is the plan without",
          "[regress][mapping]") {
  const Classes work;
  const std::string one = work.folder.file("one.yaml"), none = work.folder.file("none.yaml");
  // The demo's trace has no levels.
  const std::string demo = work.map() +
                           "--chip chips/demo.yaml --workload configs/demo_workload.yaml --memory-budget "
                           "3.5bits --latency-budget 12500cycles --io-budget 400KiB ";
  REQUIRE(run_program(demo + "--class-shares 1 --out " + one).exit_code == 0);
  REQUIRE(run_program(demo + "--out " + none).exit_code == 0);
  std::string text = base::read_file(one);
  const std::string key = "class_shares: [1]\n";
  REQUIRE(text.find(key) != std::string::npos);
  CHECK(text.erase(text.find(key), key.size()) == base::read_file(none));
  const std::string budgets = "--memory-budget 4.5bits --io-budget 330000 --class-shares 0.5,0.3,0.2 ";
  const json apart = work.run(work.map() + budgets + "--allocator all");
  double best = 0;
  for (const json& row : apart) {
    if (row["allocator"] == "optimal") best = row["loss"];
    if (row.contains("loss")) CHECK(row["loss"] >= best);
    if (row["allocator"] == "cbc") CHECK(row["solver"]["scaled_loss"] == apart[0]["solver"]["scaled_loss"]);
  }
  CHECK(best > 0);
  // uniform may give the classes widths of their own, all experts alike.
  for (const json& row : apart)
    if (row["allocator"] == "uniform") CHECK(row["loss"] > best);
}
