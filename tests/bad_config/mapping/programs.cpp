// moesaic calibrate and map: bad input ends in one line on standard error, exit code 2 and no output.
#include <catch2/catch.hpp>

#include "tests/bad_config/cli/run_program.h"
#include "tests/unit/network/tiny_model.h"
#include "workloads/plan.h"

using namespace moesaic;
using testing::Outcome;
using testing::run_program;
using tests::TemporaryFolder;

namespace {

constexpr const char* kHeader = "layer,expert,format,bits,loss,frequency,weight\n";
constexpr const char* kFiles = "--workload configs/demo_workload.yaml --chip chips/demo.yaml ";

void check_refused(const std::string& arguments, const std::string& what, const std::string& must_not_exist = "") {
  const Outcome outcome = run_program(arguments);
  CAPTURE(arguments, outcome.err);
  CHECK(outcome.exit_code == 2);
  CHECK(outcome.one_error_line());
  CHECK(outcome.out.empty());
  CHECK_THAT(outcome.err, Catch::Contains(what));
  if (!must_not_exist.empty()) CHECK_FALSE(std::filesystem::exists(must_not_exist));
}

/// A table for the shipped model: 4 layers of 8 experts.
std::string table(const std::string& skip = "") {
  std::string text = kHeader;
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      for (int bits = 2; bits <= 4; ++bits) {
        const std::string at = std::to_string(layer) + "," + std::to_string(expert) + ",";
        if (at != skip)
          text += at + "int," + std::to_string(bits) + "," + std::to_string(1.0 / (bits + layer)) + ",0.25,0.125\n";
      }
  return text;
}

}  // namespace

TEST_CASE("calibrate refuses what it cannot measure", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string text = folder.write("text", std::string(600, 'a'));
  const std::string out = folder.file("s.csv");
  const auto calibrate = [&](const std::string& rest) {
    return "calibrate --model data/model --out " + out + " " + rest;
  };
  check_refused(calibrate("--formats int4"), "--text, --tokens: got neither", out);
  check_refused(calibrate("--formats int4 --text " + text + " --tokens " + text), "--text, --tokens: got both", out);
  check_refused(calibrate("--formats itn4 --text " + text), "--formats: got 'itn4'", out);
  check_refused(calibrate("--formats int0..int4 --text " + text), "--formats: got 'int0'", out);
  check_refused(calibrate("--formats int4..int2 --text " + text), "--formats: got 'int4..int2'", out);
  check_refused(calibrate("--formats int4,int4 --text " + text), "--formats: got int4 twice", out);
  check_refused(calibrate("--formats int4 --group 12 --text " + text),
                "--group: got 12, expected a positive multiple of 8", out);
  check_refused(calibrate("--formats int4 --group 0 --text " + text), "--group", out);
  check_refused(calibrate("--formats int4 --loss hessian --text " + text),
                "--loss: got 'hessian', expected one of divergence, error", out);
  check_refused(calibrate("--formats int4 --window 601 --text " + text), text + ": length: got 600 tokens", out);
  check_refused(calibrate("--formats int4 --text " + folder.file("none")), folder.file("none"), out);
  check_refused(calibrate("--formats int4 --latency --text " + text), "--latency", out);
  check_refused("calibrate --model data/model --formats int4 --text " + text + " --out " + folder.file("no/s.csv"),
                folder.file("no/s.csv"));
  check_refused("calibrate --model data/model --formats int8 --text " + text + " --out /dev/full", "/dev/full");
  const std::string tiny = tests::write_tiny_model(folder, "tiny", tests::tiny_tensors(1));
  check_refused("calibrate --model " + tiny + " --formats int4 --text " + text + " --out " + out,
                "vocab_size: got 17, expected 256", out);
}

TEST_CASE("map refuses tables, budgets and options that do not fit", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string good = folder.write("good.csv", table());
  const std::string out = folder.file("plan.yaml");
  const auto map = [&](const std::string& sensitivity, const std::string& rest) {
    return std::string("map ") + kFiles + "--sensitivity " + sensitivity + " --out " + out + " " + rest;
  };
  const auto refused_table = [&](const std::string& text, const std::string& what) {
    check_refused(map(folder.write("bad.csv", text), "--memory-budget 4bits"), what, out);
  };
  refused_table(table("3,7,"), "bad.csv: layer 3, expert 7: got no row, expected at least one");
  refused_table(table() + "0,0,int,2,0.5,0.25,0.125\n", "bad.csv:98: row: got layer 0, expert 0, int2 a second time");
  refused_table(table() + "0,8,int,2,0.5,0.25,0.125\n", "bad.csv: expert: got 8 in layer 0, expected 0 to 7");
  refused_table(table() + "4,0,int,2,0.5,0.25,0.125\n", "bad.csv: layer: got 4");
  refused_table(table() + "0,0,itn,5,0.5,0.25,0.125\n", "bad.csv:98: format: got");
  refused_table(table() + "0,0,int,5,-1e-9,0.25,0.125\n", "bad.csv:98: loss: got '-1e-9'");
  refused_table(table() + "0,0,int,5,nan,0.25,0.125\n", "bad.csv:98: loss: got 'nan'");
  refused_table("", "bad.csv: rows: got none");
  check_refused(map(folder.file("none.csv"), "--memory-budget 4bits"), folder.file("none.csv"), out);
  check_refused(map(folder.path(), "--memory-budget 4bits"), folder.path(), out);

  check_refused(map(good, "--memory-budget 1000"), "--memory-budget: got 1000 bytes, expected at least 995328 bytes",
                out);
  check_refused(map(good, "--memory-budget 2.5MB"), "--memory-budget: got '2.5MB'", out);
  check_refused(map(good, "--memory-budget=-5"), "--memory-budget: got '-5'", out);
  check_refused(map(good, "--memory-budget 4bits --latency-budget 100"), "--latency-budget", out);
  check_refused(map(good, "--memory-budget 4bits --allocator best"),
                "--allocator: got 'best', expected one of optimal, uniform, random", out);
  check_refused(map(good, "--memory-budget 4bits --seed 3"), "--seed: got 3, expected none", out);
  check_refused(map(good, "--memory-budget 4bits --group 60"), "--group: got 60", out);
  check_refused(map(good, ""), "--memory-budget", out);
  check_refused(std::string("map ") + kFiles + "--sensitivity " + good + " --memory-budget 4bits --out /dev/full",
                "/dev/full");
  check_refused("map --workload configs/demo_workload.yaml --chip " + good + " --sensitivity " + good +
                    " --memory-budget 4bits --out " + out,
                "good.csv", out);
}

TEST_CASE("the same map writes the same plan, which evaluate takes for this model alone", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string good = folder.write("good.csv", table());
  const std::string first = folder.file("a.yaml"), second = folder.file("b.yaml");
  for (const std::string& out : {first, second}) {
    const Outcome outcome =
        run_program(std::string("map ") + kFiles + "--sensitivity " + good + " --memory-budget 2.5bits --out " + out);
    CAPTURE(outcome.err);
    REQUIRE(outcome.exit_code == 0);
  }
  CHECK(base::read_file(first) == base::read_file(second));
  const workloads::Plan plan = workloads::read_plan(first);
  CHECK(plan.experts.size() == 32);
  CHECK(plan.made_from.chip.has_value());
  CHECK(plan.made_from.trace.has_value());
  CHECK(plan.made_from.sensitivity.has_value());
  CHECK(plan.memory_bytes <= *plan.memory_budget_bytes);
  std::filesystem::copy("data/model", folder.file("other"));
  std::string config = base::read_file(folder.file("other") + "/config.json");
  config += "\n";
  folder.write("other/config.json", config);
  check_refused("evaluate --model " + folder.file("other") + " --text " + folder.write("t", std::string(600, 'a')) +
                    " --plan " + first,
                "made_from.checkpoint");
}
