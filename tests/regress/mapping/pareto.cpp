// moesaic pareto: a sweep's table, plot, plans, and going on with what an earlier run measured.
#include <sys/resource.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
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
namespace fs = std::filesystem;

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
  CHECK(count(csv, "\n") == 4 + 7);
  CHECK(csv.find("\n# memory: simple") != std::string::npos);
  CHECK(csv.find("\n# storage: none") != std::string::npos);
  // Two bits leave one plan, int2 everywhere, to all three: one plan and the float model are evaluated for it; hawq and
  // optimal differ at 2.5 bits.
  CHECK(result["evaluations"]["measured"] == 4);
  CHECK(result["evaluations"]["equal"] == 3);
  CHECK(result["evaluations"]["found"] == 0);
  for (const json& point : result["points"]) {
    CHECK(point["increase"] > 0.0);
    const Outcome simulated = run_program(
        "simulate --engine fast --no-data --json --chip chips/demo.yaml --workload configs/demo_workload.yaml --plan " +
        out + "/plans/" + point["budget"].get<std::string>() + "-" + point["allocator"].get<std::string>() +
        ".yaml --out " + folder.file("run"));
    REQUIRE(simulated.exit_code == 0);
    CHECK(json::parse(simulated.out)["cycles"] == point["cycles"]);
    // Two of eight experts of the same size in each layer.
    if (point["budget"] == "2bits") CHECK(point["io_bytes_per_token"].get<double>() * 4 == point["memory_bytes"]);
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
  refused("--memory-budgets 2cycles" + to, "moesaic pareto: --memory-budgets: got '2cycles', expected bytes");
  refused("--allocators optimal" + to, "moesaic pareto: --memory-budgets: got no budgets");
  refused("--latency-budgets 9999cycles --latency-budget 1cycles" + to, "--latency-budget: got it with");
  // Nobody else's folder is written to.
  const std::string theirs = folder.file("theirs");
  fs::create_directories(theirs + "/plans");
  base::write_file(theirs + "/plans/notes.txt", "x");
  refused("--memory-budgets 2bits --out " + theirs, theirs + ": --out: got a folder that holds plans/notes.txt");
  fs::rename(theirs + "/plans/notes.txt", theirs + "/notes.txt");
  refused("--memory-budgets 2bits --out " + theirs, theirs + ": --out: got a folder that holds notes.txt");
  fs::remove(theirs + "/notes.txt");
  base::write_file(theirs + "/plans/mine.yaml", "x");
  refused("--memory-budgets 2bits --out " + theirs, theirs + ": --out: got a folder that holds plans/mine.yaml");
  base::write_file(out + "/plans/mine.yaml", "x");
  refused("--memory-budgets 2bits --out " + out, out + ": --out: got a folder that holds plans/mine.yaml");
  CHECK(base::read_file(out + "/plans/mine.yaml") == "x");
  refused("--memory-budgets 2bits --window 3" + to, "--window: got it without --evaluate");
  refused("--memory-budgets 2bits --allocators greedy --seed 3" + to, "--seed: got 3, expected none");
  refused("--memory-budgets 2bits --windows 3" + to, "--windows: got it without --evaluate");
  refused("--memory-budgets 2bits --evaluate data/tokens/evaluation.bin --windows 100000" + to, "length: got 131072");
  refused("--memory-budgets 2bits --out " + folder.file("s.csv"), "--out: got");
}

TEST_CASE("a sweep that cannot be written leaves the earlier one as it was", "[regress][mapping]") {
  const Folder folder;
  base::write_file(folder.file("s.csv"), table());
  const std::string
      out = folder.file("out"),
      start = "pareto --workload configs/demo_workload.yaml --chip chips/demo.yaml --no-cache --sensitivity " +
              folder.file("s.csv") + " --out " + out + " --allocators optimal --memory-budgets ";
  REQUIRE(run_program(start + "2bits,3bits").exit_code == 0);
  const auto files = [&out] {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(out))
      all[entry.path().string()] = entry.is_regular_file() ? base::read_file(entry.path().string()) : "folder";
    return all;
  };
  const auto before = files();
  CHECK(before.size() == 5);
  rlimit whole{};
  getrlimit(RLIMIT_FSIZE, &whole);
  rlimit small = whole;
  small.rlim_cur = 2048;  // a file as long as the picture does not fit
  setrlimit(RLIMIT_FSIZE, &small);
  const Outcome outcome = run_program(start + "2.5bits");
  setrlimit(RLIMIT_FSIZE, &whole);
  CHECK(outcome.exit_code == 2);
  CHECK(outcome.one_error_line());
  CHECK(files() == before);
  REQUIRE(run_program(start + "2.5bits").exit_code == 0);
  CHECK(files().size() == 4);
  fs::create_directory(out + "/.old-77");
  const Outcome killed = run_program(start + "2.5bits");
  CHECK(killed.exit_code == 2);
  CHECK_THAT(killed.err,
             Catch::Contains("a folder that holds .old-77, where a sweep that was killed put an earlier one"));
}

TEST_CASE("a sweep without any plan ends as map does, and leaves the earlier one as it was", "[regress][mapping]") {
  const Folder folder;
  base::write_file(folder.file("s.csv"), table());
  const std::string out = folder.file("out"),
                    inputs = " --workload configs/demo_workload.yaml --chip chips/demo.yaml --cache " +
                             folder.file("cache") + " --sensitivity " + folder.file("s.csv"),
                    start = "pareto" + inputs + " --out " + out + " --allocators ";
  REQUIRE(run_program(start + "optimal --memory-budgets 2bits").exit_code == 0);
  const std::string before = base::read_file(out + "/pareto.csv");
  const auto ends_as_map = [&](const std::string& allocator, const std::string& budgets, int code,
                               const std::string& what) {
    const Outcome mapped = run_program("map" + inputs + " --allocator " + allocator + " --memory-budget " + budgets),
                  swept = run_program(start + allocator + " --memory-budgets " + budgets);
    INFO(mapped.err << swept.err);
    CHECK(mapped.exit_code == code);
    CHECK(swept.exit_code == code);
    CHECK(swept.one_error_line());
    CHECK(swept.out.empty());
    CHECK_THAT(swept.err, Catch::StartsWith("moesaic pareto: --" + what));
    CHECK(swept.err.substr(swept.err.find("got")) == mapped.err.substr(mapped.err.find("got")));
    CHECK(base::read_file(out + "/pareto.csv") == before);
  };
  ends_as_map("optimal", "1bits", 2, "memory-budgets: got ");
  ends_as_map("greedy", "1bits", 2, "memory-budgets: got ");
  ends_as_map("optimal", "4bits --latency-budget 9000cycles", 1, "latency-budget: got 9423.81");
  const Outcome several = run_program(start + "optimal,greedy --json --memory-budgets 1bits,1.5bits");
  CHECK(several.exit_code == 2);
  CHECK(several.out.empty());
  CHECK(several.one_error_line());
  CHECK_THAT(several.err, Catch::StartsWith("moesaic pareto: --memory-budgets: got ") &&
                              Catch::EndsWith("; none of 4 points has a plan\n"));
  CHECK(fs::exists(out + "/plans/2bits-optimal.yaml"));
  // One plan is enough.
  const Outcome one = run_program(start + "optimal --json --memory-budgets 1bits,2bits");
  CHECK(one.exit_code == 0);
  CHECK(json::parse(one.out)["points"][0].contains("error"));
}

TEST_CASE("a sweep takes lists of every budget, and leaves no plan of an earlier sweep behind", "[regress][mapping]") {
  const Folder folder;
  base::write_file(folder.file("s.csv"), table());
  const std::string out = folder.file("out"),
                    start = "pareto --workload configs/demo_workload.yaml --chip chips/demo.yaml --cache " +
                            folder.file("cache") + " --json --allocators optimal --sensitivity " +
                            folder.file("s.csv") + " --out " + out + " ";
  REQUIRE(run_program(start + "--memory-budgets 600KiB/layer").exit_code == 0);
  CHECK(fs::exists(out + "/plans/600KiB-per-layer-optimal.yaml"));
  const Outcome outcome =
      run_program(start + "--memory-budgets 2.5bits,4bits --latency-budgets 10000cycles,9000cycles --io-budgets 1MiB");
  INFO(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const json points = json::parse(outcome.out)["points"];
  REQUIRE(points.size() == 4);
  CHECK(points[0]["budget"] == "2.5bits+10000cycles+1MiB");
  CHECK(points[3]["budget"] == "4bits+9000cycles+1MiB");
  for (const json& point : points) {
    if (point["budget"].get<std::string>().find("+9000cycles") != std::string::npos) {
      // int2 everywhere takes 9423.81 cycles a token.
      CHECK_THAT(point["error"].get<std::string>(), Catch::StartsWith("moesaic pareto: --latency-budget: got 9423.81"));
      continue;
    }
    CHECK(point["cycles"] <= 10000 * 16);
    CHECK(point["io_bytes_per_token"] <= 1 << 20);
  }
  CHECK(fs::exists(out + "/plans/2.5bits+10000cycles+1MiB-optimal.yaml"));
  CHECK_FALSE(fs::exists(out + "/plans/600KiB-per-layer-optimal.yaml"));
}
