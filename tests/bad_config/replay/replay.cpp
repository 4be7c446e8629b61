// moesaic replay: bad input ends in one line on standard error, exit code 2 and no output.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/bad_config/cli/run_program.h"

using namespace moesaic;
using testing::Folder;
using testing::Outcome;
using testing::run_program;

namespace {

constexpr const char* kTrace = "data/traces/moby_dick.csv.gz";
constexpr const char* kHeader = "request,step,phase,position,layer,experts,weights\n";

Outcome replay(const std::string& rest) { return run_program(std::string("replay --trace ") + kTrace + " " + rest); }

void check_refused(const Outcome& outcome, const std::string& what) {
  CAPTURE(outcome.err, what);
  CHECK(outcome.exit_code == 2);
  CHECK(outcome.one_error_line());
  CHECK(outcome.out.empty());
  CHECK_THAT(outcome.err, Catch::Contains(what));
}

nlohmann::json json_of(const std::string& rest) {
  const Outcome outcome = replay(rest + " --json");
  CAPTURE(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  CHECK(outcome.err.empty());
  return nlohmann::json::parse(outcome.out);
}

}  // namespace

TEST_CASE("replay refuses a cache smaller than one expert, unknown names and options that nothing reads",
          "[bad_config][cli]") {
  check_refused(replay("--capacity 0experts"), "--capacity: got 0experts, expected at least 1experts");
  check_refused(replay("--capacity 1000 --network data/model"),
                "--capacity: got 1000, expected at least 55680 bytes, one expert");
  check_refused(replay("--capacity 4experts,1KiB --network data/model"), "--capacity: got 1KiB, expected at least");
  check_refused(replay("--capacity 1MiB"), "--capacity: got '1MiB', expected a list of experts (4experts); bytes need");
  check_refused(replay("--capacity 1.5experts"), "--capacity: got '1.5experts'");
  check_refused(replay("--capacity=-1"), "--capacity");
  check_refused(replay("--capacity 4MB --network data/model"), "--capacity: got '4MB'");
  check_refused(replay(""), "--capacity");
  check_refused(replay("--capacity 2experts --policies fifo"),
                "--policies: got 'fifo', expected one of lru, lfu, belady, pinned, planes");
  check_refused(replay("--capacity 2experts --policies lru,lru"), "--policies: got lru twice");
  check_refused(replay("--capacity 2experts --scope all"), "--scope: got 'all', expected one of layer, global");
  check_refused(replay("--capacity 2experts --access any"), "--access: got 'any', expected one of sequence, set");
  check_refused(replay("--capacity 2experts --phase both"), "--phase: got 'both', expected one of prefill, decode");
  check_refused(replay("--capacity 2experts --batch 0"), "--batch");
  check_refused(replay("--capacity 2experts --seed 3"),
                "--seed: got a value, expected none: prefetch none does not guess");
  check_refused(replay("--capacity 2experts --batch 010"), "--batch: got 010, expected a whole number");
  check_refused(replay("--capacity 2experts --out ''"), "moesaic replay: --out: got nothing, expected a value");
  check_refused(replay("--capacity 2experts --warmup 256"), "--warmup: got 256, expected less than the trace's 256");
  check_refused(replay("--capacity 2experts --prefetch all"),
                "--prefetch: got 'all', expected one of none, next_layer, perfect");
  check_refused(replay("--capacity 2experts --recall 0.5"), "--recall: got a value, expected none");
  check_refused(replay("--capacity 2experts --prefetch perfect --precision 0.5"), "--precision: got a value");
  check_refused(replay("--capacity 2experts --prefetch next_layer --recall 1.5"),
                "moesaic replay: --recall: got 1.5, expected 0 to 1");
  check_refused(replay("--capacity 2experts --prefetch next_layer --precision 0"),
                "moesaic replay: --precision: got 0, expected above 0, at most 1");
  check_refused(replay("--capacity 2experts --format int4"), "--format: got int4, expected --network beside it");
  check_refused(replay("--capacity 2experts --layout plane_major"), "--layout: got plane_major, expected --network");
  check_refused(replay("--capacity 2experts --network data/model --format int9"), "--format: got 'int9'");
  check_refused(replay("--capacity 2experts --network data/model --layout rows"),
                "--layout: got 'rows', expected tile_major, plane_major or interleaved");
  check_refused(replay("--capacity 2experts --network data/model --group 60"), "--group: got 60");
  check_refused(replay("--capacity 2experts --network data/model --chip chips/demo.yaml --layout tile_major"),
                "--layout: got tile_major, expected none: the chip file says it");
  check_refused(replay("--capacity 2experts --network data/model --plan none.yaml"), "none.yaml");
  check_refused(replay("--capacity 2experts --network Mixtral-8x7B --plan none.yaml"),
                "--plan: got it with --network Mixtral-8x7B, expected it with a model folder");
  check_refused(replay("--capacity 2experts --network Mixtrel"), "--network: got 'Mixtrel'");
  check_refused(replay("--capacity 2experts --policies lru --popularity none.csv"), "--popularity: got none.csv");
}

TEST_CASE("an output file that is one of the command's own input files is refused, and stays", "[bad_config][cli]") {
  const Folder folder;
  const std::string trace = folder.file("t.csv.gz"), text = base::read_file(kTrace);
  base::write_file(trace, text);
  std::filesystem::create_symlink(trace, folder.file("link"));
  for (const std::string& out : {trace, folder.path() + "/./t.csv.gz", folder.file("link")})
    check_refused(run_program("replay --capacity 2experts --trace " + trace + " --out " + out),
                  "moesaic replay: --out: got the file of --trace, expected another file");
  CHECK(base::read_file(trace) == text);
}

TEST_CASE("replay refuses a trace longer than the network, a layer twice, levels that no plane is stored for",
          "[bad_config][cli]") {
  const Folder folder;
  const auto trace = [&](const std::string& text) {
    base::write_file(folder.file("t.csv"), text);
    return "replay --capacity 2experts --trace " + folder.file("t.csv") + " ";
  };
  const std::string good = "0,0,prefill,0,0,1;2,0.5;0.5\n";
  check_refused(run_program(trace(kHeader + good + "0,0,prefill,0,4,1;2,0.5;0.5\n") + "--network data/model"),
                "t.csv:3: layer: got 4, expected less than 4, the layers of model");
  check_refused(run_program(trace(kHeader + good + "0,0,prefill,0,0,3;4,0.5;0.5\n")),
                "t.csv:3: layer: got request 0 position 0 layer 0 a second time");
  check_refused(run_program(trace(kHeader)), "t.csv: rows: got none");
  check_refused(run_program(trace(kHeader + good) + "--phase decode"), "t.csv: rows: got none of phase decode");
  check_refused(run_program(trace(kHeader + std::string("0,0,prefill,0,0,70000,1\n"))), "t.csv:2: experts: got 70000");
  const std::string levels =
      trace("request,step,phase,position,layer,experts,weights,levels\n0,0,prefill,0,0,1;2,0.5;0.5,0;5\n");
  check_refused(run_program(levels + "--network data/model --format nested4 --layout plane_major"),
                "t.csv:2: levels: got 5, expected at most 4: nested4 stores 8 planes and reads 4");
  check_refused(run_program(levels + "--network data/model --format int4"),
                "t.csv:2: levels: got 5, expected at most 0");
  check_refused(run_program("replay --capacity 2experts --trace " + folder.file("none.csv")),
                "none.csv: read: got No such file or directory, expected a readable file");
  base::write_file(folder.file("p.csv"), "layer,expert,count\n0,8,3\n");
  check_refused(replay("--capacity 2experts --popularity " + folder.file("p.csv")), "p.csv:2: row: got '0,8,3'");
  base::write_file(folder.file("p.csv"), "layer,expert,count\n0,1,3\n0,1,3\n");
  check_refused(replay("--capacity 2experts --popularity " + folder.file("p.csv")), "p.csv:3: row: got");
  base::write_file(folder.file("p.csv"), "layer;expert\n");
  check_refused(replay("--capacity 2experts --popularity " + folder.file("p.csv")), "p.csv:1: header: got");
  check_refused(replay("--capacity 2experts --out " + folder.file("no/o.csv")), "no/o.csv");
}

TEST_CASE("replay says which policies know the future, and the sum of its layers is its total", "[bad_config][cli]") {
  const Folder folder;
  const nlohmann::json j = json_of(
      "--capacity 2experts,300KiB --network data/model --layout plane_major --format nested4 --scope layer --out " +
      folder.file("o.csv"));
  CHECK(j["tokens"] == 256);
  CHECK(j["belady_is_optimal"] == false);  // parameters and planes differ in size
  CHECK(j["results"].size() == 10);
  std::int64_t rows = 0;
  for (const auto& result : j["results"]) {
    const std::string policy = result["policy"];
    CHECK(result["needs_future"] == (policy == "belady" || policy == "pinned"));
    CHECK(result["requests"] == 2048);
    CHECK(result["bytes_requested"] == 2048 * j["expert_bytes"].get<std::int64_t>());
    CHECK(result["warm"]["requests"] == 2048);
    rows += 4;
  }
  const std::string csv = base::read_file(folder.file("o.csv"));
  CHECK(std::count(csv.begin(), csv.end(), '\n') == rows + 1);

  base::write_file(folder.file("p.csv"), "layer,expert,count\n0,1,3\n");
  const nlohmann::json given =
      json_of("--capacity 2experts --policies pinned,lru --popularity " + folder.file("p.csv"));
  CHECK(given["results"][0]["needs_future"] == false);
  CHECK(given["results"][0]["bytes_loaded"].is_null());
  CHECK(given["belady_is_optimal"] == true);
  CHECK(json_of("--capacity 2experts --access set --policies belady")["belady_is_optimal"] == true);
  CHECK(json_of("--capacity 1experts,4experts --access set --policies belady")["belady_is_optimal"] == false);
  CHECK(json_of("--capacity 4experts --prefetch perfect --policies belady")["belady_is_optimal"] == false);
  const std::string heuristic = "belady is a heuristic here";
  CHECK_THAT(replay("--capacity 2experts --prefetch perfect").out, Catch::Contains(heuristic));
  CHECK_THAT(replay("--capacity 2experts --prefetch perfect --policies lru").out, !Catch::Contains(heuristic));
  const Outcome table = replay("--capacity 2experts");
  CHECK_THAT(table.out, Catch::Contains("belady (needs the future)"));
  CHECK_THAT(table.out, Catch::Contains("pinned (counted on this trace: the future)"));
}

TEST_CASE("a batch asks once for an expert that several of its tokens chose", "[bad_config][cli]") {
  const Folder folder;
  base::write_file(folder.file("t.csv"), std::string(kHeader) +
                                             "0,0,decode,0,0,1;2,0.5;0.5\n1,0,decode,0,0,2;3,0.5;0.5\n"
                                             "0,1,decode,1,0,1;3,0.5;0.5\n");
  const auto requests = [&](const std::string& batch) {
    const Outcome outcome = run_program("replay --capacity 2experts --policies lru --json --batch " + batch +
                                        " --trace " + folder.file("t.csv"));
    REQUIRE(outcome.exit_code == 0);
    const nlohmann::json j = nlohmann::json::parse(outcome.out);
    CHECK(j["tokens"] == 3);
    return std::pair<int, int>(j["steps"], j["results"][0]["requests"]);
  };
  CHECK(requests("1") == std::pair<int, int>(3, 6));
  CHECK(requests("2") == std::pair<int, int>(2, 5));
  CHECK(requests("3") == std::pair<int, int>(1, 3));
}
