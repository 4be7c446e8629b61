// moesaic pareto: a sweep's table, plot, plans, and going on with what an earlier run measured.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "tests/bad_config/cli/run_program.h"

using namespace moesaic;
using moesaic::testing::Folder;
using moesaic::testing::Outcome;
using moesaic::testing::run_program;
using nlohmann::json;

namespace {

/// Losses that fall to a third with every bit, the same for all, so that allocators may differ in what they take.
std::string table() {
  std::string text = "layer,expert,format,bits,loss,frequency,weight\n";
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert) {
      double loss = 0.01 * (1 + layer) * (1 + expert % 3);
      for (int bits = 2; bits <= 4; ++bits, loss /= 3)
        text += std::to_string(layer) + "," + std::to_string(expert) + ",int," + std::to_string(bits) + "," +
                std::to_string(loss) + ",0.25,0.125\n";
    }
  return text;
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t found = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("a sweep writes every plan with its loss, bytes and cycles, and goes on where it was", "[regress][mapping]") {
  const Folder folder;
  base::write_file(folder.file("s.csv"), table());
  const std::string start = "pareto --workload configs/demo_workload.yaml --chip chips/demo.yaml --sensitivity " +
                            folder.file("s.csv") + " --no-cache ",
                    out = folder.file("out");
  const std::string sweep = start + "--memory-budgets 2bits,2.5bits --allocators optimal,uniform,hawq --json --out " +
                            out + " --evaluate data/tokens/evaluation.bin --windows 2";
  const Outcome first = run_program(sweep);
  INFO(first.err);
  REQUIRE(first.exit_code == 0);
  const std::string csv = base::read_file(out + "/pareto.csv"), svg = base::read_file(out + "/pareto.svg");
  const json result = json::parse(first.out);
  REQUIRE(result["points"].size() == 6);
  CHECK(count(csv, "\n") == 7);
  // Two bits leave one plan, int2 everywhere, to all three: one plan and the float model are evaluated for it; hawq and
  // optimal differ at 2.5 bits.
  CHECK(result["evaluations"]["measured"] == 4);
  CHECK(result["evaluations"]["found"] == 3);
  for (const json& point : result["points"]) {
    CHECK(point["increase"] > 0.0);
    const Outcome simulated = run_program(
        "simulate --engine fast --no-data --json --chip chips/demo.yaml --workload configs/demo_workload.yaml --plan " +
        out + "/plans/" + point["budget"].get<std::string>() + "-" + point["allocator"].get<std::string>() +
        ".yaml --out " + folder.file("run"));
    REQUIRE(simulated.exit_code == 0);
    CHECK(json::parse(simulated.out)["cycles"] == point["cycles"]);
    if (point["allocator"] == "optimal") CHECK(point["above_optimal"] == 0.0);
  }
  // Three panels, three lines in each.
  CHECK(count(svg, "<polyline") == 9);
  CHECK(svg.find("http://www.w3.org/2000/svg") != std::string::npos);
  CHECK(count(svg, "http") == 1);
  const Outcome again = run_program(sweep);
  REQUIRE(again.exit_code == 0);
  CHECK(json::parse(again.out)["evaluations"]["measured"] == 0);
  CHECK(base::read_file(out + "/pareto.csv") == csv);
  CHECK(base::read_file(out + "/pareto.svg") == svg);

  const auto refused = [&](const std::string& options, const std::string& what) {
    const Outcome outcome = run_program(start + options);
    INFO(options);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.one_error_line());
    CHECK_THAT(outcome.err, Catch::Contains(what));
  };
  const std::string to = " --out " + folder.file("other");
  refused("--memory-budgets 2bits --allocators best" + to, "--allocators: got 'best', expected a list of");
  refused("--memory-budgets 2bits --allocators hawq,hawq" + to, "--allocators: got hawq twice");
  refused("--memory-budgets 2bits,2bits" + to, "--memory-budgets: got '2bits' twice");
  refused("--memory-budgets 2cycles" + to, "--memory-budget: got '2cycles', expected bytes");
  refused("--memory-budgets 2bits --windows 3" + to, "--windows: got it without --evaluate");
  refused("--memory-budgets 2bits --evaluate data/tokens/evaluation.bin --windows 100000" + to, "length: got 131072");
  refused("--memory-budgets 2bits --out " + folder.file("s.csv"), "--out: got");
}
