// moesaic calibrate and map: bad input ends in one line on standard error, exit code 2 and no output.
#include <catch2/catch.hpp>

#include "base/sha256.h"
#include "tests/bad_config/cli/run_program.h"
#include "tests/unit/network/tiny_model.h"
#include "workloads/checkpoint.h"
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
                "--loss: got 'hessian', expected one of divergence, error, fisher", out);
  check_refused(calibrate("--formats int4 --loss error,hessian --text " + text), "--loss: got 'hessian'", out);
  check_refused(calibrate("--formats int4 --loss fisher,fisher --text " + text),
                "--loss: got fisher twice, expected each kind once", out);
  check_refused(calibrate("--formats int4 --act-bits 7 --text " + text), "--act-bits", out);
  check_refused(calibrate("--formats int4 --quantiser gtpq --text " + text),
                "--quantiser: got 'gtpq', expected one of rtn, gptq", out);
  check_refused(calibrate("--formats int4 --damping 0.1 --text " + text), "--damping: got it with --quantiser rtn",
                out);
  check_refused(
      calibrate("--formats int4 --quantiser gptq --calibration-tokens " + folder.file("none") + " --text " + text),
      folder.file("none"), out);
  check_refused(calibrate("--formats int4 --quantiser gptq --damping 0 --text " + text), "--damping", out);
  check_refused(calibrate("--formats int4 --per matrix --text " + text),
                "--per: got 'matrix', expected one of expert, projection", out);
  check_refused(calibrate("--formats int4 --resident-layers 1 --text " + text),
                "--loss: got 'divergence' with --resident-layers, expected error", out);
  check_refused(calibrate("--formats int4 --resident-layers 1 --loss error,fisher --text " + text),
                "--loss: got 'fisher' with --resident-layers, expected error", out);
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

TEST_CASE("calibrate states the windows that it compared, not those it might have", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string text = folder.write("text", std::string(600, 'a')), out = folder.file("s.csv");
  REQUIRE(run_program("calibrate --model data/model --formats int2 --loss error --text " + text + " --out " + out)
              .exit_code == 0);
  CHECK_THAT(base::read_file(out), Catch::Contains("# loss_windows: 2\n"));
}

TEST_CASE("a file that only another input names is not written over", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string model = folder.file("model"), trace = folder.file("trace.csv"),
                    good = folder.write("s.csv", table());
  std::filesystem::copy("data/model", model);
  const std::string workload = folder.write("w.yaml", "model: model\ntrace: trace.csv\n");
  REQUIRE(
      run_program("workload synth --network " + model + " --requests 1 --prompt-tokens 2 --out " + trace).exit_code ==
      0);
  const std::string files = "--workload " + workload + " --chip chips/demo.yaml ", config = model + "/config.json",
                    text = folder.write("text", std::string(300, 'a'));
  const std::string rows = base::read_file(trace), shapes = base::read_file(config);
  const std::string lost = "', which is read, expected another file: that one would be lost";
  check_refused("map " + files + "--memory-budget 4bits --sensitivity " + good + " --out " + trace,
                "moesaic map: --out: got '" + trace + lost);
  check_refused("map " + files + "--memory-budget 4bits --sensitivity " + good + " --out " + config,
                "moesaic map: --out: got '" + config + lost);
  check_refused("profile " + files + "--no-cache --out " + trace, "moesaic profile: --out: got '" + trace + lost);
  check_refused("calibrate --model " + model + " --formats int2 --text " + text + " --out " + config,
                "moesaic calibrate: --out: got '" + config + lost);
  check_refused("evaluate --model " + model + " --plan none --text " + text + " --per-window " + config,
                "moesaic evaluate: --per-window: got '" + config + lost);
  const std::string shape = folder.write("n.csv.json", shapes);
  check_refused("workload synth --network " + shape + " --requests 1 --out " + folder.file("n.csv"),
                "moesaic workload synth: --out: got '" + shape + lost);
  // What lies beside the model's files is not the model's: the same command writes it again.
  for (int time = 0; time < 2; ++time)
    CHECK(run_program("map " + files + "--memory-budget 4bits --sensitivity " + good + " --out " + model + "/plan.yaml")
              .exit_code == 0);
  CHECK(base::read_file(trace) == rows);
  CHECK(base::read_file(config) == shapes);
  CHECK(base::read_file(shape) == shapes);
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
  refused_table("layer,expert,format,bits,loss,frequency,weight,projection\n0,0,int,2,0.5,0.25,0.125,gate\n",
                "bad.csv: layer 0, expert 0: got no row of up, expected at least one");
  refused_table("layer,expert,format,bits,loss,frequency,weight,projection\n0,0,int,2,0.5,0.25,0.125,left\n",
                "bad.csv:2: projection: got 'left', expected gate, up or down");
  check_refused(map(good, "--memory-budget 4bits --quantiser gptq"), "--calibration-tokens: got nothing", out);
  check_refused(map(good, "--memory-budget 4bits --minimum-tokens 3"), "--minimum-tokens: got it with --quantiser rtn",
                out);
  refused_table(table("3,7,"), "bad.csv: layer 3, expert 7: got no row, expected at least one");
  refused_table(table() + "0,0,int,2,0.5,0.25,0.125\n", "bad.csv:98: row: got layer 0, expert 0, int2 a second time");
  refused_table(table() + "0,8,int,2,0.5,0.25,0.125\n", "bad.csv: expert: got 8 in layer 0, expected 0 to 7");
  refused_table(table() + "4,0,int,2,0.5,0.25,0.125\n", "bad.csv: layer: got 4");
  refused_table(table() + "4000000000,0,int,2,0.5,0.25,0.125\n",
                "bad.csv:98: layer: got '4000000000', expected a whole number from 0 to 2147483647");
  refused_table(table() + "0,0,itn,5,0.5,0.25,0.125\n", "bad.csv:98: format: got");
  refused_table(table() + "0,0,int,5,-1e-9,0.25,0.125\n", "bad.csv:98: loss: got '-1e-9'");
  refused_table(table() + "0,0,int,5,nan,0.25,0.125\n", "bad.csv:98: loss: got 'nan'");
  refused_table("", "bad.csv: rows: got none");
  check_refused(map(folder.file("none.csv"), "--memory-budget 4bits"), folder.file("none.csv"), out);
  check_refused(map(folder.path(), "--memory-budget 4bits"), folder.path(), out);

  check_refused(map(good, "--memory-budget 1000"), "--memory-budget: got 1000 bytes, expected at least 995328 bytes",
                out);
  check_refused(std::string("map --memory-budget 1000 --allocator all ") + kFiles + "--sensitivity " + good,
                "--memory-budget: got 1000 bytes, expected at least 995328 bytes");
  check_refused(map(good, "--memory-budget 2.5MB"), "--memory-budget: got '2.5MB'", out);
  check_refused(map(good, "--memory-budget=-5"), "--memory-budget: got '-5'", out);
  check_refused(map(good, "--memory-budget 4bits --allocator best"),
                "--allocator: got 'best', expected one of optimal, cbc, greedy, hawq, baq, pmq, frequency, uniform, "
                "random, all",
                out);
  check_refused(map(good, "--memory-budget 4bits --allocator all"), "--out: got it with --allocator all", out);
  check_refused(map(good, "--memory-budget 4bits --seed 3"), "--seed: got 3, expected none", out);
  check_refused(map(good, "--memory-budget 4bits --allocator random --seed 010"), "--seed: got 010", out);
  check_refused(std::string("map ") + kFiles + "--sensitivty " + good, "arguments: got --sensitivty", out);
  check_refused(map(good, "--memory-budget 4bits --gap nan"), "--gap: got nan, expected a decimal number", out);
  check_refused(map(good, "--memory-budget 4bits --allocator greedy --gap 0.1"),
                "--allocator: got greedy with --gap or --node-limit", out);
  check_refused(map(good, "--memory-budget 4bits --allocator cbc --node-limit 9"),
                "--allocator: got cbc with --gap or --node-limit", out);
  check_refused(map(good, "--memory-budget 4bits --allocator uniform --time-limit 1"),
                "--allocator: got uniform with --time-limit", out);
  check_refused(map(good, "--memory-budget 4bits --fix 0.0=int2 --fix 0.0=int3"),
                "--fix: got '0.0=int3' of an expert that is fixed, expected each expert once", out);
  check_refused(map(good, "--memory-budget 4bits --group 60"), "--group: got 60", out);
  check_refused(map(good, ""), "--memory-budget", out);
  check_refused(std::string("map ") + kFiles + "--sensitivity " + good + " --memory-budget 4bits --out /dev/full",
                "/dev/full");
  check_refused("map --workload configs/demo_workload.yaml --chip " + good + " --sensitivity " + good +
                    " --memory-budget 4bits --out " + out,
                "good.csv", out);
}

TEST_CASE("map refuses budgets in the wrong unit, cost tables and constraints that do not fit", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string good = folder.write("good.csv", table());
  const std::string out = folder.file("plan.yaml");
  std::string costs = "layer,expert,format,cycles,size\n", lacking;
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      for (int bits = 2; bits <= 4; ++bits) {
        lacking = costs;
        costs += std::to_string(layer) + "," + std::to_string(expert) + ",int" + std::to_string(bits) + "," +
                 std::to_string(100 * bits) + "," + std::to_string(bits) + "\n";
      }
  const std::string cost_file = folder.write("costs.csv", costs);
  const auto refused = [&](const std::string& rest, const std::string& what) {
    check_refused(std::string("map ") + kFiles + "--sensitivity " + good + " --out " + out + " " + rest, what, out);
  };
  refused("--latency-budget 40MiB --costs " + cost_file, "--latency-budget: got '40MiB', expected cycles (1200cycles)");
  refused("--latency-budget 1200 --costs " + cost_file, "--latency-budget: got '1200', expected cycles");
  refused("--memory-budget 1200cycles", "--memory-budget: got '1200cycles', expected bytes");
  refused("--resident-budget 2.5bits", "--resident-budget: got '2.5bits', expected bytes");
  refused("--io-budget 12cycles", "--io-budget: got '12cycles', expected bytes");
  refused("--bits-budget 16", "--bits-budget: got '16', expected bits");
  refused("--bits-budget 16bits/expert", "--bits-budget: got '16bits/expert'");
  refused("--memory-budget 3bits --memory-budget 4bits", "--memory-budget: got '4bits' after another");
  refused("--latency-budget 1200KiB", "--latency-budget: got '1200KiB', expected cycles");
  check_refused("map --sensitivity " + good + " --latency-budget 1200cycles",
                "--latency-budget: got it without --costs, or --workload and --chip");
  refused("--limit size=20", "--limit: got it without --costs");
  refused("--limit sice=20 --costs " + cost_file, "--limit: got 'sice=20', expected NAME=VALUE");
  std::string of_a_budget = costs;
  of_a_budget.replace(of_a_budget.find("size"), 4, "io");
  refused("--limit io=20 --costs " + folder.write("io.csv", of_a_budget),
          "--limit: got 'io=20', a column called as a budget of its own");
  refused("--limit size=20KiB --costs " + cost_file, "--limit: got '20KiB', expected a whole number");
  refused("--latency-budget 9999cycles --costs " + folder.write("l.csv", lacking),
          "l.csv: layer 3, expert 7: got no row for int4");
  refused("--latency-budget 9999cycles --costs " + folder.write("d.csv", costs + "0,0,int2,1,1\n"),
          "d.csv:98: row: got layer 0, expert 0, int2 a second time");
  refused("--latency-budget 9999cycles --costs " + folder.write("n.csv", costs + "0,0,int5,nan,1\n"),
          "n.csv:98: cycles: got 'nan'");
  refused("--latency-budget 1cycles --costs " + cost_file, "--latency-budget: got 1 cycles, expected at least ");
  refused("--memory-budget 4bits --formats int5..int8",
          "good.csv: layer 0, expert 0: got no row in the formats int5..int8");
  refused("--memory-budget 4bits --formats int9", "--formats: got 'int9'");
  refused("--memory-budget 4bits --at-least int3", "--at-least: got 'int3'");
  refused("--memory-budget 4bits --at-least 1:int3:9", "--at-least: got '1:int3:9'");
  refused("--memory-budget 4bits --at-least 9:int3", "--at-least, --tie, --fix: got constraints that no plan meets");
  refused("--memory-budget 4bits --tie 0.0", "--tie: got '0.0'");
  refused("--memory-budget 4bits --tie 0.0,0.8", "layer 0 has no expert 8");
  refused("--memory-budget 4bits --tie gate,up", "--tie: got 'gate,up' with a table of whole experts");
  refused("--memory-budget 4bits --tie gate,down", "--tie: got 'gate,down', expected two or more experts");
  refused("--memory-budget 4bits --fix 0.0=int2/int3", "--fix: got 'int2/int3', expected one format, or three");
  refused("--memory-budget 4bits --fix 0.0=int2/int3/int2", "--fix: got '0.0=int2/int3/int2'");
  refused("--memory-budget 4bits --fix 0.0=int8", "--fix: got '0.0=int8'");
  refused("--memory-budget 4bits --gap 2", "--gap");
  refused("--memory-budget 4bits --node-limit 0", "--node-limit");
  refused("", "got no budget");
  check_refused("map --sensitivity " + good + " --memory-budget 4bits", "--memory-budget: got it without --workload");
  check_refused("map --sensitivity " + good + " --bits-budget 80bits --out " + out, "--out: got it without --workload",
                out);
}

TEST_CASE("imports and storage refuse what they do not know", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string head = "layer,expert,act_tokens,routing_weight_sum,qloss_1bit,qloss_2bit,qloss_3bit\n";
  const std::string out = folder.file("s.csv");
  const auto refused = [&](const std::string& text, const std::string& what) {
    check_refused("sensitivity import --from mc-moe --in " + folder.write("in.csv", text) + " --out " + out, what, out);
  };
  refused("layer,expert\n", "in.csv:1: header");
  refused(head, "in.csv: rows: got none");
  refused(head + "0,0,1,1,1,1\n", "in.csv:2: row: got 6 fields");
  refused(head + "0,0,1,1,-1,1,1\n", "in.csv:2: qloss_1bit: got '-1'");
  refused(head + "0,0,1,1,1,nan,1\n", "in.csv:2: qloss_2bit: got 'nan'");
  refused(head + "0,0,1,1,1,1,1\n0,0,1,1,1,1,1\n", "in.csv:3: row: got layer 0, expert 0 a second time");
  refused(head + "2000000000,0,1,1,1,1,1\n", "in.csv:2: layer: got 2000000000, expected a whole number up to 1048576");
  const std::string costs = folder.file("c.csv");
  const auto hawq = [&](const std::string& text, const std::string& what) {
    check_refused("sensitivity import --from hawq-v3 --network A --in " + folder.write("x", text) + " --out " + out +
                      " --costs-out " + costs,
                  what, out);
    CHECK_FALSE(std::filesystem::exists(costs));
  };
  const auto network = [](const std::string& parameters, const std::string& bops, const std::string& latency) {
    return R"({"B": [1], "A": {"Hutchinson_trace": [1, 1], "delta_weights_8bit_square": [1, 1],
      "delta_weights_4bit_square": [2, 2], "parameters": [)" +
           parameters + R"(], "bops": [)" + bops + R"(], "latency_int4": [1, )" + latency +
           R"(], "latency_int8": [1, 1]}})";
  };
  hawq("{}", "x: document: got no network, expected an object of arrays for each network");
  hawq(R"({"A": [1]})", "x: document: got no network");
  hawq(R"({"B": {}, "C": 1})", "x: --network: got 'A', expected one of B\n");
  hawq(network("8, 8", "1e18, 8", "1"), "x: A.bops: got 1e+18, expected at most 140737488355328");
  hawq(network("8, 8", "1e300, 8", "1"), "x: A.bops: got 1e+300, expected at most ");
  hawq(network("0.25, 1000000000.5", "8, 8", "1"),
       "x: A.parameters: got 1000000000.5, expected at most 140737488.355328");
  hawq(network("8, 8", "8, 8", "1e9"), "x: A.latency_int4: got 1000000000");
  hawq(network("8, 8", "8, 8.5", "1"),
       "x: A.bops: got 8.5 beside 8, expected whole numbers, or millions that all have");
  hawq(network("0.5, 8", "8, 8", "1"), "x: A.parameters: got 8 beside 0.5");
  hawq(network("8, 8", "8, 8", "0.123456789"), "x: A.latency_int4: got 0.123456789, expected at most 8 decimals");
  hawq(network("0.5, 0.0000001", "8, 8", "1"), "x: A.parameters: got 1e-07, expected at most 6 decimals");
  const std::string import = "sensitivity import --from hawq-v3 --network A --in " +
                             folder.write("x", network("0.000004, 2.359296", "8, 16", "1"));
  check_refused(import + " --out " + folder.file("none/s.csv") + " --costs-out " + costs, "none/s.csv", costs);
  check_refused(import + " --out " + out + " --costs-out /dev/full", "/dev/full", out);
  check_refused(import + " --out /dev/full --costs-out " + costs, "/dev/full", costs);
  CHECK(run_program(import + " --out " + out + " --costs-out " + costs).exit_code == 0);
  CHECK(base::read_file(costs) ==
        "layer,expert,format,cycles,size,bops\n0,0,int4,100000000,2,128\n0,0,int8,100000000,4,512\n"
        "1,0,int4,100000000,1179648,256\n1,0,int8,100000000,2359296,1024\n");
  std::filesystem::remove(out);
  check_refused("sensitivity import --from hawq-v3 --network A --in " + folder.write("x", "[1") + " --out " + out +
                    " --costs-out " + folder.file("c.csv"),
                "got text that is no JSON", out);
  check_refused("sensitivity import --from hawq-v3 --network A --in " + folder.write("x", "{}") + " --out " + out +
                    " --costs-out " + out,
                "--out: got the file of --costs-out, expected another file", out);
  check_refused("sensitivity import --from other --in x --out " + out, "--from", out);
  check_refused("storage --other-bits 8", "--other-bits: got it without --model");
  CHECK(run_program("storage --model data/model").exit_code == 0);
  check_refused("storage --from 4 --to 2", "--to: got 2, expected at least --from, 4");
  check_refused("storage --model nothing", "--model: got 'nothing'");
  check_refused("benchmark --projection --clock-mhz 3", "--clock-mhz: got 3, expected a divisor of 10^9");
  check_refused("benchmark --build r4c4p1a8 --clock-mhz 500", "--clock-mhz: got it with --build");
  check_refused("benchmark --projection --build nothing", "--projection: got it with --build, expected one of them");
  check_refused("map-benchmark --problem nothing", "--problem: got 'nothing', expected one of demo");
}

TEST_CASE("profile refuses what it cannot measure", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string out = folder.file("p.csv"), start = std::string("profile ") + kFiles + "--out " + out + " ";
  check_refused(start + "--formats itn4", "--formats: got 'itn4'", out);
  check_refused(start + "--formats int4,int4", "--formats: got int4 twice", out);
  check_refused(start + "--group 12", "--group: got 12, expected a positive multiple of 8", out);
  check_refused(start + "--no-cache --cache " + folder.file("c"), "--cache: got it with --no-cache", out);
  check_refused(start + "--formats int2 --cache " + folder.write("file", "x") + "/c", "/file/c: --cache: got ", out);
  setenv("XDG_CACHE_HOME", folder.file("file").c_str(), 1);
  check_refused(start + "--formats int2",
                folder.file("file/moesaic/profile: default cache: got Not a directory, expected a folder that "
                            "can be made and written to; --cache names another, --no-cache does without"),
                out);
  unsetenv("XDG_CACHE_HOME");
  check_refused("profile --chip chips/demo.yaml --workload " + folder.file("none.yaml"), folder.file("none.yaml"));
  check_refused(std::string("profile ") + kFiles + "--formats int2 --no-cache --out " + folder.file("no/p.csv"),
                folder.file("no/p.csv"));
}

TEST_CASE("map and profile refuse classes of requests that table, trace and chip do not know", "[bad_config][cli]") {
  const TemporaryFolder folder;
  std::string rows = kHeader, parts = "layer,expert,format,bits,loss,frequency,weight,projection\n";
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      for (const char* format : {"int,3", "mwq2+0of2,2", "mwq2+1of2,3", "mwq2+2,4"}) {
        const std::string row = std::to_string(layer) + "," + std::to_string(expert) + "," + format + ",0.5,0.25,0.125";
        rows += row + "\n";
        for (const char* part : {"gate", "up", "down"}) parts += row + "," + part + "\n";
      }
  const std::string out = folder.file("plan.yaml"), model = std::filesystem::absolute("data/model").string();
  const std::string good = folder.write("s.csv", rows), apart = folder.write("p.csv", parts),
                    integers = folder.write("i.csv", table());
  std::string trace = "request,step,phase,position,layer,experts,weights,levels\n";
  for (int layer = 0; layer < 4; ++layer) trace += "0,0,prefill,0," + std::to_string(layer) + ",1;2,0.6;0.4,0;2\n";
  folder.write("t.csv", trace);
  const std::string levels = folder.write("w.yaml", "model: " + model + "\ntrace: t.csv\n");
  const auto map = [&](const std::string& workload, const std::string& sensitivity, const std::string& rest) {
    return "map --chip chips/demo.yaml --workload " + workload + " --sensitivity " + sensitivity +
           " --memory-budget 4bits --out " + out + " " + rest;
  };
  const std::string demo = "configs/demo_workload.yaml";
  const auto refused = [&](const std::string& rest, const std::string& what) {
    check_refused(map(demo, good, rest), what, out);
  };
  refused("--class-shares 0.5,0.3", "--class-shares: got shares that add up to 0.8, expected a sum of 1");
  refused("--class-shares 0.5,0.5,0.5", "--class-shares: got shares that add up to 1.5");
  for (const char* bad : {"0.5,x", "1.5,-0.5", "0.5,,0.5", "nan,1", "0.5;0.5", "traces"})
    refused(std::string("--class-shares '") + bad + "'",
            std::string("--class-shares: got '") + bad + "', expected the");
  refused("--class-shares 0.04,0.06,0.06,0.06,0.06,0.06,0.06,0.06,0.06,0.06,0.06,0.06,0.06,0.06,0.06,0.06,0.06",
          "--class-shares: got 17 classes, expected at most 16");
  refused("--class-weights 1,2", "--class-weights: got it without --class-shares");
  refused("--class-order any", "--class-order: got it without --class-shares");
  refused("--class-shares 0.5,0.5 --class-order falling", "--class-order");
  for (const char* bad : {"1", "1,1,1", "1,-1", "0,0", "1,inf"})
    refused(std::string("--class-shares 0.5,0.5 --class-weights ") + bad,
            std::string("--class-weights: got '") + bad + "', expected 2 numbers");
  check_refused(map(demo, integers, "--class-shares 0.5,0.5"),
                "--class-shares: got 2 classes, of formats int2,int3,int4, expected two widths of one stored copy",
                out);
  check_refused(map(demo, apart, "--class-shares 0.5,0.5"),
                "p.csv: projection: got losses of gate, up and down for classes of requests", out);
  refused("--class-shares trace", "levels: got level 0 throughout, expected the classes that");
  refused("--class-shares 0.5,0.5 --io-budget 1GiB",
          "levels: got level 0 throughout, expected the numbers of 2 classes");
  refused("--class-shares 0.5,0.5 --latency-budget 99999cycles",
          "levels: got level 0 throughout, expected the numbers");
  check_refused(map(levels, good, "--class-shares 0.5,0.5"),
                "t.csv: levels: got 2 for expert 2 at layer 0, expected below 2, the classes of --class-shares", out);
  check_refused(map(levels, good, "--io-budget 1GiB"),
                "t.csv: levels: got rows that read an expert at several widths, expected level 0 throughout, or "
                "--class-shares",
                out);
  check_refused("map --sensitivity " + good + " --class-shares trace --bits-budget 80bits",
                "--class-shares trace: got it without --workload");
  std::string costs = "layer,expert,format,cycles,size\n0,0,int3,1,1\n";
  refused("--class-shares 0.5,0.5 --costs " + folder.write("c.csv", costs) + " --limit size=20",
          "--limit: got 'size=20' with classes of requests");
  // What is read is of the one stored copy, and no wider; and something that the hardware has.
  refused("--class-shares 0.5,0.5 --fix 0.0=mwq2+1:mwq2+2",
          "--fix: got 'mwq2+1:mwq2+2', expected readings of one stored");
  refused("--class-shares 0.5,0.5 --fix 0.0=int3:int4", "--fix: got 'int3:int4', expected readings of one stored copy");
  refused("--class-shares 0.5,0.5 --fix 0.0=mwq2+2:mwq2+1of2", "--fix: got '0.0=mwq2+2:mwq2+1of2', expected LAYER");
  refused("--class-shares 0.5,0.5 --fix 0.0=mwq2+0of2:mwq2+1of2:mwq2+2",
          "--fix: got 'mwq2+0of2:mwq2+1of2:mwq2+2', expected one format, or 2 with : between them");
  refused("--fix 0.0=mwq2+0of2:mwq2+2", "--fix: got 'mwq2+0of2:mwq2+2', expected one format, as there are no classes");
  const std::string chip =
      folder.write("chip.yaml", base::read_file("chips/demo.yaml") + "formats: [int3, mwq2+0of2, mwq2+1of2]\n");
  const std::string lacking = "map --chip " + chip + " --workload " + demo + " --sensitivity " + good +
                              " --memory-budget 5bits --class-shares 0.5,0.5 --out " + out;
  check_refused(lacking + " --formats mwq2+0of2..mwq2+2",
                "--formats: got mwq2+2, expected a format that " + chip + " has", out);
  check_refused(lacking + " --fix 0.0=mwq2+0of2:mwq2+2", "--fix: got '0.0=mwq2+0of2:mwq2+2'", out);
  CHECK(run_program(lacking + " --fix 0.0=mwq2+0of2:mwq2+1of2").exit_code == 0);

  const std::string profile = "profile --no-cache --chip chips/demo.yaml --workload ";
  check_refused(
      profile + levels + " --formats mwq2+0of2..mwq2+2",
      "t.csv: levels: got rows that read an expert at several widths, expected level 0 throughout, or --classes");
  check_refused(profile + levels + " --formats mwq2+0of2..mwq2+2 --classes 2", "t.csv: levels: got 2 for expert 2");
  check_refused(profile + levels + " --formats int2,int3 --classes 3",
                "--classes: got 3 classes, of formats int2,int3");
  check_refused(profile + levels + " --formats int2/int3/int2 --classes 3", "--classes: got them with int2/int3/int2");
  check_refused(profile + levels + " --formats int2 --classes 17", "--classes");
  check_refused(profile + demo + " --formats int2 --class-order any", "--class-order: got any, expected none without");
}

TEST_CASE("a plan that was made from other files, or that a file contradicts, is refused by --check",
          "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string good = folder.write("good.csv", table());
  const std::string plan = folder.file("plan.yaml");
  const std::string base = std::string("map ") + kFiles + "--memory-budget 2.5bits --at-least 1:int3 ";
  REQUIRE(run_program(base + "--sensitivity " + good + " --out " + plan).exit_code == 0);
  const workloads::Plan read = workloads::read_plan(plan);
  REQUIRE(read.budgets.size() == 1);
  CHECK(read.budgets[0].used == read.memory_bytes);
  CHECK(run_program(base + "--sensitivity " + good + " --check " + plan).exit_code == 0);
  const std::string other = folder.write("other.csv", table() + "0,0,int,8,0.001,0.25,0.125\n");
  check_refused(base + "--sensitivity " + other + " --check " + plan, "made_from.sensitivity: got ");
  const std::string chip = folder.write("chip.yaml", base::read_file("chips/demo.yaml") + "# another\n");
  check_refused("map --workload configs/demo_workload.yaml --chip " + chip + " --memory-budget 2.5bits --sensitivity " +
                    good + " --check " + plan,
                "made_from.chip: got ");
  for (const char* option : {"--out x.yaml", "--allocator greedy", "--seed 1", "--gap 0.5", "--time-limit 1"})
    check_refused(base + "--sensitivity " + good + " --check " + plan + " " + option, "--check: got it with --");
  std::string text = base::read_file(plan);
  const auto with = [&](const std::string& key, const std::string& value) {
    std::string changed = text;
    const std::size_t at = changed.find(key);
    REQUIRE(at != std::string::npos);
    changed.replace(at, changed.find('\n', at) - at, key + value);
    return base + "--sensitivity " + good + " --check " + folder.write("with.yaml", changed);
  };
  CHECK_THAT(read.made_from.memory.value(), Catch::StartsWith("simple(read latency "));
  check_refused(with("  memory: ", "\"faster\""), "made_from.memory: got faster, expected simple");
  check_refused(with("group_size: ", "32"), "group_size: got 32, expected 64, that of " + good);
  for (const char* fact : {"scaled_loss", "loss_exponent", "measured"}) {
    const Outcome outcome = run_program(with(std::string("  \"") + fact + "\": ", "\"7\""));
    INFO(fact);
    CHECK(outcome.exit_code == 1);
    CHECK_THAT(outcome.err,
               Catch::Contains(std::string("plan check: the plan states ") + fact + " 7, the tables say "));
  }
  std::string classes = text;
  classes.insert(classes.find("experts:"), "class_shares: [0.5, 0.5]\n");
  check_refused(base + "--sensitivity " + good + " --check " + folder.write("classes.yaml", classes),
                "class_shares: got [0.5, 0.5], expected [], as --class-shares says");
  const std::size_t at = text.find("\nloss: ");
  text.replace(at, text.find('\n', at + 1) - at, "\nloss: 0.5");
  const Outcome outcome =
      run_program(base + "--sensitivity " + good + " --check " + folder.write("changed.yaml", text));
  CHECK(outcome.exit_code == 1);
  CHECK_THAT(outcome.err, Catch::Contains("plan check: the plan states loss 0.5"));
}

TEST_CASE("a plan names the quantiser that its table was measured with, and no option may say another",
          "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string tokens = folder.write("tokens.bin", std::string(600, 'a'));
  const std::string hash = base::sha256_file(tokens);
  const std::string gptq = folder.write("gptq.csv", "# quantiser: gptq\n# tokens: tokens.bin\n# tokens_hash: " + hash +
                                                        "\n# window: 256\n# damping: 0.02\n# minimum_tokens: 5\n" +
                                                        table()),
                    rtn = folder.write("rtn.csv", "# quantiser: rtn\n" + table()),
                    silent = folder.write("silent.csv", table());
  const std::string plan = folder.file("plan.yaml");
  const auto map = [&](const std::string& sensitivity, const std::string& rest) {
    return std::string("map ") + kFiles + "--memory-budget 2.5bits --sensitivity " + sensitivity + " " + rest;
  };
  const auto made = [&](const std::string& arguments) {
    const Outcome outcome = run_program(arguments + " --out " + plan);
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return workloads::read_plan(plan).quantiser;
  };
  const workloads::Quantiser stated = made(map(gptq, ""));
  CHECK(stated.kind == workloads::QuantiserKind::kGptq);
  CHECK(stated.tokens_hash == hash);
  CHECK(stated.damping == 0.02);
  CHECK(stated.minimum_tokens == 5);
  CHECK(std::filesystem::equivalent(stated.tokens, tokens));
  CHECK(run_program(map(gptq, "--check " + plan)).exit_code == 0);
  CHECK(made(map(gptq, "--quantiser gptq --damping 0.02 --calibration-tokens " +
                           folder.write("copy", base::read_file(tokens)))) == stated);
  CHECK(made(map(rtn, "")) == workloads::Quantiser());
  CHECK(made(map(silent, "")) == workloads::Quantiser());
  CHECK(made(map(silent, "--quantiser gptq --calibration-tokens " + tokens)).tokens_hash == hash);

  const std::string out = folder.file("none.yaml");
  const auto refused = [&](const std::string& arguments, const std::string& what) {
    check_refused(arguments + " --out " + out, what, out);
  };
  refused(map(gptq, "--quantiser rtn"), "--quantiser: got rtn, expected gptq, as " + gptq + " was measured with");
  refused(map(rtn, "--quantiser gptq --calibration-tokens " + tokens), "--quantiser: got gptq, expected rtn");
  refused(map(rtn, "--damping 0.02"), "--damping: got it, expected --quantiser rtn, which has none");
  refused(map(gptq, "--damping 0.01"), "--damping: got 0.01, expected 0.02");
  refused(map(gptq, "--minimum-tokens 4"), "--minimum-tokens: got 4, expected 5");
  refused(map(gptq, "--calibration-tokens " + folder.write("b", "bbbb")), "expected " + hash);

  // A plan of the same table and formats whose quantiser was taken out.
  std::string text = base::read_file(plan);
  REQUIRE(made(map(gptq, "")) == stated);
  text = base::read_file(plan);
  const std::size_t begin = text.find("quantiser:"), end = text.find("memory_bytes:");
  REQUIRE(begin < end);
  check_refused(map(gptq, "--check " + folder.write("changed.yaml", text.erase(begin, end - begin))),
                "changed.yaml: quantiser: got another, expected the one that " + gptq + " names");
}

TEST_CASE("map refuses a table that was measured at something else, and takes from it the group size and a loss",
          "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string checkpoint = workloads::Checkpoint("data/model").hash(), text_hash(64, 'e');
  const auto written = [&](const std::string& name, const std::string& model, int group, int act_bits) {
    std::string text =
        "# quantiser: rtn\n# checkpoint: " + model + "\n# group_size: " + std::to_string(group) +
        "\n# act_bits: " + std::to_string(act_bits) + "\n# text_hash: " + text_hash +
        "\n# text_window: 256\n# text_minimum_tokens: 0\n# loss: divergence,fisher\n# loss_windows: 32\n" +
        "layer,expert,format,bits,loss,frequency,weight,loss_fisher\n";
    // By one loss the first layers want the wide format, by the other the last.
    for (int layer = 0; layer < 4; ++layer)
      for (int expert = 0; expert < 8; ++expert)
        for (const int bits : {2, 4})
          text += std::to_string(layer) + "," + std::to_string(expert) + ",int," + std::to_string(bits) + "," +
                  std::to_string((bits == 2 ? 4.0 : 1.0) * (4 - layer)) + ",0.25,0.125," +
                  std::to_string((bits == 2 ? 4.0 : 1.0) * (layer + 1)) + "\n";
    return folder.write(name, text);
  };
  const std::string table = written("s.csv", checkpoint, 128, 8), plan = folder.file("plan.yaml");
  const auto map = [&](const std::string& sensitivity, const std::string& rest) {
    return std::string("map ") + kFiles + "--memory-budget 3bits --sensitivity " + sensitivity + " " + rest;
  };
  const auto made = [&](const std::string& arguments) {
    const Outcome outcome = run_program(arguments + " --out " + plan);
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return workloads::read_plan(plan);
  };
  const auto fact = [](const workloads::Plan& of, const std::string& key) {
    for (const auto& [name, value] : of.solver)
      if (name == key) return value;
    return std::string("none");
  };
  const workloads::Plan first = made(map(table, ""));
  CHECK(first.group_size == 128);
  CHECK(fact(first, "measured") == "divergence over 32 windows of 256, groups of 128, 8-bit activations");
  CHECK(fact(first, "loss_column") == "none");
  CHECK(first.at(0, 0).format == numerics::Format::integer(4));
  CHECK(first.at(3, 0).format == numerics::Format::integer(2));
  CHECK(made(map(table, "--group 128")).experts == first.experts);
  const workloads::Plan second = made(map(table, "--loss-column loss_fisher"));
  CHECK(fact(second, "measured") == "fisher over 32 windows of 256, groups of 128, 8-bit activations");
  CHECK(fact(second, "loss_column") == "loss_fisher");
  CHECK(second.at(0, 0).format == numerics::Format::integer(2));
  CHECK(second.at(3, 0).format == numerics::Format::integer(4));
  CHECK(run_program(map(table, "--loss-column loss_fisher --check " + plan)).exit_code == 0);
  CHECK(run_program(map(table, "--check " + plan)).exit_code == 1);

  const std::string silent = folder.write("silent.csv", ::table());
  CHECK(made(map(silent, "")).group_size == 64);
  const workloads::Plan unknown = made(map(silent, "--group 128"));
  CHECK(unknown.group_size == 128);
  CHECK_THAT(fact(unknown, "measured"), Catch::StartsWith("unknown"));

  const std::string out = folder.file("none.yaml");
  const auto refused = [&](const std::string& arguments, const std::string& what) {
    check_refused(arguments + " --out " + out, what, out);
  };
  refused(map(table, "--group 64"), table + ":3: group_size: got 128, expected 64, --group");
  const std::string other(64, 'a');
  refused(map(written("other.csv", other, 64, 8), ""),
          "other.csv:2: checkpoint: got " + other + ", expected " + checkpoint + ", the hash of ");
  refused(map(written("narrow.csv", checkpoint, 64, 4), ""),
          "narrow.csv:4: act_bits: got 4, expected 8, the activations of configs/demo_workload.yaml");
  refused(map(table, "--loss-column fisher"),
          "--loss-column: got 'fisher', expected a column of losses of " + table + ": loss, loss_fisher");
  refused(map(silent, "--loss-column loss_fisher"), "--loss-column: got 'loss_fisher', expected a column of losses of");
  const std::string sweep = std::string("pareto ") + kFiles + "--memory-budgets 3bits --sensitivity " + table;
  check_refused(sweep + " --group 64 --out " + folder.file("sweep"), table + ":3: group_size: got 128, expected 64");
  check_refused(sweep + " --loss-column loss_error --out " + folder.file("sweep2"), "--loss-column: got 'loss_error'");
}

TEST_CASE("from losses of gate, up and down map chooses for each, ties what it is told to, and checks its plan",
          "[bad_config][cli]") {
  const TemporaryFolder folder;
  std::string text = "layer,expert,format,bits,loss,frequency,weight,projection\n";
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      for (int part = 0; part < 3; ++part)
        for (int bits = 2; bits <= 4; ++bits)
          text += std::to_string(layer) + "," + std::to_string(expert) + ",int," + std::to_string(bits) + "," +
                  std::to_string((1.0 + (layer + expert + 2 * part) % 5) / (1 << 2 * bits)) + ",0.25,0.125," +
                  (part == 0   ? "gate"
                   : part == 1 ? "up"
                               : "down") +
                  "\n";
  const std::string table = folder.write("p.csv", text), plan = folder.file("plan.yaml");
  const std::string start = std::string("map ") + kFiles + "--memory-budget 2.5bits --sensitivity " + table + " ";
  double before = 0;
  for (const std::string tie : {"", "--tie gate,up ", "--tie gate,up,down "}) {
    CAPTURE(tie);
    const Outcome outcome = run_program(start + tie + "--out " + plan);
    CAPTURE(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    const workloads::Plan read = workloads::read_plan(plan);
    int apart = 0, mixed = 0;
    for (const workloads::PlanEntry& entry : read.experts) {
      apart += !entry.format.is_paired();
      mixed += !entry.format.is_one();
    }
    CHECK((apart > 0) == (tie == ""));
    CHECK((mixed > 0) == (tie != "--tie gate,up,down "));
    CHECK(read.memory_bytes <= *read.memory_budget_bytes);
    CHECK(read.loss >= before);
    before = read.loss;
    CHECK(run_program(start + tie + "--check " + plan).exit_code == 0);
    if (tie == "")
      check_refused(start + "--tie gate,up --check " + plan,
                    "a format of the sensitivity table that the options allow");
  }
  CHECK(run_program(start + "--fix 0.3=int2/int4/int3 --out " + plan).exit_code == 0);
  CHECK(workloads::read_plan(plan).at(0, 3).format.name() == "int2/int4/int3");
  check_refused(start + "--tie gate,up --fix 0.3=int2/int4/int3", "--fix: got '0.3=int2/int4/int3'");
  check_refused(std::string("map ") + kFiles + "--memory-budget 2.5bits --formats int2..int5 --sensitivity " +
                    folder.write("few.csv", text.substr(0, text.rfind("3,7,int,2,"))),
                "few.csv: layer 3, expert 7: got no row of down");
  // All allocators make a plan or say why.
  const Outcome all = run_program(start + "--allocator all");
  CHECK(all.exit_code == 0);
  CHECK_THAT(all.out, Catch::Contains("baq") && Catch::Contains("int2/int"));
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
