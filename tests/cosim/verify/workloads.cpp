// `moesaic verify --workloads`: drawn workloads on the fast engine, with its shortcuts and without.
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "base/atomic_file.h"
#include "tests/bad_config/cli/run_program.h"

using namespace moesaic;
using Catch::Contains;

TEST_CASE("drawn workloads meet all that the fast engine remembers, and no result differs for it", "[cosim][verify]") {
  const testing::Outcome run = testing::run_program("verify --workloads 16 --seed 1 --max-cycles 1500000 --json");
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto json = nlohmann::json::parse(run.out);
  CHECK(json.at("workloads") == 16);
  CHECK(json.at("configurations") == 16);
  CHECK(json.at("differences") == 0);
  CHECK(json.at("whole_runs") > 0);
  CHECK(json.at("whole_runs") < 16);
  CHECK(json.at("cycles_compared") > 15000000);
  CHECK(json.at("workloads_repeated_unasked") > 10);  // where nothing was, little is proved
  for (const char* ways : {"shortcuts", "eager_shortcuts"}) {
    const auto& effort = json.at(ways);
    INFO(ways << effort.dump());
    const auto share = [&](const char* field) {
      return effort.at(field).get<double>() / json.at("cycles_compared").get<double>();
    };
    CHECK(effort.at("moments") > 1000);
    CHECK(effort.at("refreshes_repeated_unasked") > 50);
    CHECK(share("cycles_repeated") > 0.3);
    CHECK(share("cycles_repeated_stocked") > 0.02);
    CHECK(effort.at("cycles_repeated_apart") > 2000);
    CHECK(share("cycles_repeated_unasked") > 0.1);
    CHECK(share("cycles_linked") > 0.01);
    CHECK(share("cycles_stepped") + share("cycles_skipped") + share("cycles_repeated") == Approx(1));
  }
}

TEST_CASE("a drawn workload's difference is named, and one command replays it alone", "[cosim][verify]") {
  const testing::Folder folder;
  const std::string options = " --seed 1 --max-cycles 60000";
  const testing::Outcome run = testing::run_program("verify --workloads 2 --first 3 --inject fast:3 --json" + options);
  CHECK(run.exit_code == 1);
  CHECK(run.one_error_line());
  const auto json = nlohmann::json::parse(run.out);
  CHECK(json.at("differences") == 1);
  const auto difference = json.at("first_difference").get<std::string>();
  CHECK_THAT(difference, Contains("workload 3: ") && Contains("shortcuts ") && Contains(", none "));
  const auto replay = json.at("replay").get<std::string>();
  CHECK(replay == "moesaic verify --workloads 1 --seed 1 --first 3 --max-cycles 60000 --inject fast:3");
  const testing::Outcome again = testing::run_program(replay.substr(8) + " --keep " + folder.file("kept"));
  CHECK(again.exit_code == 1);
  CHECK_THAT(again.err, Contains(difference) && Contains(replay));
  CHECK(testing::run_program("verify --workloads 1 --first 3" + options).exit_code == 0);
  // The files that were kept are the workload.
  const std::string command = base::read_file(folder.file("kept/run.txt"));
  const std::size_t plan = command.find("--plan "), out = command.find(" --out");
  REQUIRE(plan < out);
  const std::string kept = "verify --engines fast --chip " + folder.file("kept/chip.yaml") + " --workload " +
                           folder.file("kept/workload.yaml") + " " + command.substr(plan, out - plan) +
                           " --max-cycles 60000 --json";
  const testing::Outcome by_hand = testing::run_program(kept);
  INFO(by_hand.err);
  REQUIRE(by_hand.exit_code == 0);
  CHECK(nlohmann::json::parse(by_hand.out).at("cycles_compared") == 60000);
  CHECK(testing::run_program(kept + " --inject fast:1").exit_code == 1);
}

TEST_CASE("drawn workloads leave no files behind, not even when they are interrupted or killed", "[cosim][verify]") {
  for (const char* signal : {"INT", "TERM", "KILL"}) {
    const testing::Folder folder;
    const std::string command = "TMPDIR=" + folder.path() + " timeout -s " + signal +
                                " 2 " MOESAIC_PROGRAM " verify --workloads 50 --seed 1 > /dev/null 2>&1";
    const int status = std::system(command.c_str());
    INFO(signal << " " << status);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == (std::string(signal) == "KILL" ? 137 : 124));
    int waited = 0;  // tenths of a second
    for (; waited < 100 && folder.count() != 0; ++waited) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    CHECK(folder.count() == 0);
  }
}

TEST_CASE("drawn workloads without a place for temporary files are refused", "[cosim][verify]") {
  const testing::Folder folder;
  const std::string command = "TMPDIR=" + folder.file("none") +
                              " " MOESAIC_PROGRAM " verify --workloads 1 --seed 1 --max-cycles 10 2> " +
                              folder.file("err");
  const int status = std::system(command.c_str());
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 2);
  CHECK_THAT(base::read_file(folder.file("err")), Catch::StartsWith("TMPDIR: folder: got "));
}

TEST_CASE("drawn workloads run on the cycle engine too, and the same ones whatever the number of processes",
          "[cosim][verify]") {
  std::string options = "verify --workloads 4 --seed 2 --max-cycles 20000 --json";
  const testing::Outcome cycle = testing::run_program(options + " --engines fast,cycle");
  INFO(cycle.err);
  REQUIRE(cycle.exit_code == 0);
  const auto json = nlohmann::json::parse(cycle.out);
  CHECK(json.at("cycles_compared") == 80000);
  CHECK(json.at("tiles_compared") > 100);
  // All counts are equal, of what was repeated too.
  options = "verify --workloads 4 --seed 1 --first 1 --max-cycles 400000 --json";
  const testing::Outcome one = testing::run_program(options + " --jobs 1"),
                         two = testing::run_program(options + " --jobs 2");
  CHECK(one.exit_code == 0);
  CHECK(one.out == two.out);
}

TEST_CASE("verify refuses what does not go with drawn workloads", "[cosim][verify]") {
  const auto refused = [](const std::string& options, const std::string& text) {
    const testing::Outcome run = testing::run_program("verify " + options);
    INFO(options << "\n" << run.err);
    CHECK(run.exit_code == 2);
    CHECK(run.out.empty());
    CHECK(run.one_error_line());
    CHECK_THAT(run.err, Contains(text));
  };
  refused("--workloads 0 --seed 1", "--workloads");
  refused("--workloads some --seed 1", "--workloads");
  refused("--workloads 1", "--seed: got nothing, expected a seed with --workloads");
  refused("--workloads 1 --seed 1 --max-cycles 0", "--max-cycles");
  for (const std::string other :
       {"--cases 5", "--workload configs/demo_workload.yaml", "--chip chips/demo.yaml", "--against rtl", "--plan int4",
        "--foreign-plan", "--barriers", "--no-data", "--waves x.fst"})
    refused("--workloads 1 --seed 1 " + other,
            other.substr(0, other.find(' ')) + ": got it with --workloads, expected one of the two");
  refused("--workloads 1 --seed 1 --engines fast,cycle,rtl", "expected fast or fast,cycle with --workloads");
  refused("--workloads 1 --seed 1 --engines cycle", "--engines: got 'cycle'");
  CHECK(testing::run_program("verify --workloads 1 --seed 1 --max-cycles 10 --inject fast:3").exit_code == 1);
  refused("--workloads 1 --seed 1 --inject fast:03", "--inject: got 'fast:03'");
  refused("--workloads 2 --seed 1 --keep x", "--keep: got 'x', expected --workloads 1 with it");
  refused("--workloads 1 --seed 1 --max-cycles 9 --keep no/such/folder", "--keep: got ");
  refused("--workloads 1 --seed 1 --max-cycles 9 --keep tests",
          "--keep: got 'tests', expected a new folder or an empty one");
  refused("--workloads 2 --seed 1 --max-cycles 9 --first 18446744073709551615", "--first: got 18446744073709551615");
  refused("--workloads 1 --seed 1 --inject rtl:1", "--inject: got 'rtl:1', expected fast:CLOCKS");
  refused("--workloads 1 --seed 1 --inject fast:0", "--inject: got 'fast:0'");
  refused("--workloads 1 --seed 1 --engines fast,cycle --inject fast:1", "expected --engines fast with --workloads");
  refused("--cases 1 --seed 1 --engines fast", "--engines: got 'fast'");
  refused("--engines fast --workload configs/demo_workload.yaml", "--workload: got it without --chip");
}
