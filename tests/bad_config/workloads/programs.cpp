// moesaic workload and evaluate: bad input ends in one line on standard error, exit code 2 and no output.
#include <catch2/catch.hpp>

#include "tests/bad_config/cli/run_program.h"
#include "tests/unit/network/tiny_model.h"
#include "workloads/checkpoint.h"
#include "workloads/plan.h"

using namespace moesaic;
using testing::Outcome;
using testing::run_program;
using tests::TemporaryFolder;

namespace {

constexpr const char* kModel = "data/model";

void check_refused(const std::string& arguments, const std::string& what) {
  const Outcome outcome = run_program(arguments);
  CAPTURE(arguments, outcome.err);
  CHECK(outcome.exit_code == 2);
  CHECK(outcome.one_error_line());
  CHECK(outcome.out.empty());
  CHECK_THAT(outcome.err, Catch::Contains(what));
}

std::string evaluate(const std::string& model, const std::string& rest) {
  return "evaluate --model " + model + " " + rest;
}

std::string copy_model(const TemporaryFolder& folder, const std::string& name) {
  std::filesystem::copy(kModel, folder.file(name));
  return folder.file(name);
}

}  // namespace

TEST_CASE("evaluate refuses a model that is not a whole one", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string text = "--text " + folder.write("text", std::string(600, 'a')) + " --plan none";
  check_refused(evaluate(folder.file("none"), text), folder.file("none") + "/config.json");
  check_refused(evaluate(folder.path(), text), folder.path() + "/config.json");
  check_refused(evaluate("/proc/self/mem", text), "/proc/self/mem/config.json");
  const std::string model = copy_model(folder, "m");
  std::filesystem::resize_file(model + "/model.safetensors", 3000000);
  check_refused(evaluate(model, text), model + "/model.safetensors");
  std::filesystem::resize_file(model + "/model.safetensors", 4);
  check_refused(evaluate(model, text), model + "/model.safetensors");
  const std::string broken = copy_model(folder, "n");
  base::write_file(broken + "/model.safetensors", [text = base::read_file(broken + "/model.safetensors")]() mutable {
    return text.replace(text.size() - 4, 4, 4, '\xff');
  }());
  for (const char* plan : {" --plan none", " --plan int2"})
    check_refused(evaluate(broken, "--text " + folder.file("text") + plan), "nan as element ");
  const std::string tiny = tests::write_tiny_model(folder, "tiny", tests::tiny_tensors(1));
  check_refused(evaluate(tiny, text), "vocab_size: got 17, expected 256");
}

TEST_CASE("evaluate refuses what it is to read", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string brief = folder.write("brief", std::string(255, 'a'));
  check_refused(evaluate(kModel, "--text " + brief + " --plan none"),
                brief + ": length: got 255 bytes, expected at least one window of 256");
  check_refused(evaluate(kModel, "--text " + folder.path() + " --plan none"), folder.path());
  check_refused(evaluate(kModel, "--text " + folder.file("none") + " --plan none"), folder.file("none"));
  check_refused(evaluate(kModel, "--plan none"), "--text, --tokens: got neither");
  check_refused(evaluate(kModel, "--text " + brief + " --tokens " + brief + " --plan none"), "got both");
  check_refused(evaluate(kModel, "--text " + brief + " --plan none --window 1"), "--window");
  check_refused(evaluate(kModel, "--text " + brief + " --plan none --window 128 --backend gpu"),
                "--backend: got 'gpu', expected one of cpu");
  check_refused(evaluate(kModel, "--text " + brief + " --plan none --window 128 --act-bits 4"),
                "--act-bits: got it with the plan none");
  const std::string lengthy = folder.write("lengthy", std::string(2000, 'a'));
  check_refused(evaluate(kModel, "--text " + lengthy + " --plan none --window 1024"),
                "window: got 1024 tokens, expected at most 512");
  check_refused(evaluate(kModel, "--text " + brief + " --plan none --window 128 --per-window /dev/full"), "/dev/full");
}

TEST_CASE("evaluate refuses a plan for another model", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const workloads::Checkpoint checkpoint(kModel);
  workloads::Plan plan =
      workloads::uniform_plan(checkpoint.network(), std::string(64, '0'), numerics::Format::integer(4), 64);
  const std::string path = folder.file("plan.yaml");
  const std::string text = " --window 128 --text " + folder.write("text", std::string(300, 'a'));
  workloads::write_plan(plan, path);
  check_refused(evaluate(kModel, "--plan " + path + text), path + ":3: made_from.checkpoint: got 0000");
  plan.made_from.checkpoint = checkpoint.hash();
  plan.experts.pop_back();
  workloads::write_plan(plan, path);
  check_refused(evaluate(kModel, "--plan " + path + text), path + ": experts: got 31 entries, expected 32");
  check_refused(evaluate(kModel, "--plan int9" + text), "int9");
  plan = workloads::uniform_plan(checkpoint.network(), checkpoint.hash(), numerics::Format::integer(4), 64);
  const std::string tokens = folder.write("calibration.bin", std::string(256, 'b'));
  plan.quantiser = workloads::gptq_quantiser(tokens);
  workloads::write_plan(plan, path);
  check_refused(evaluate(kModel, "--quantiser rtn --plan " + path + text), "--quantiser: got it with the plan " + path);
  folder.write("calibration.bin", std::string(256, 'c'));
  check_refused(evaluate(kModel, "--plan " + path + text), path + ":7: quantiser.tokens: got " + tokens + " of hash ");
  check_refused(evaluate(kModel, "--plan none --damping 0.1" + text), "--damping: got it with the plan none");
  check_refused(evaluate(kModel, "--plan none --against-float" + text), "--against-float: got it with the plan none");
  check_refused(evaluate(kModel, "--plan int4 --quantiser gptq" + text), "--calibration-tokens: got nothing");
  check_refused(evaluate(kModel, "--plan int4 --class-of choice" + text),
                "--class-of: got it with the plan int4, expected a plan with class_shares");
  check_refused(evaluate(kModel, "--plan none --class-seed 2" + text),
                "--class-seed: got it with the plan none, expected a plan with class_shares");
  check_refused(evaluate(kModel, "--plan " + folder.path() + text), folder.path());
}

TEST_CASE("workload import refuses a trace that names expert 9 of 8, and writes nothing", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const std::string header = "request,step,phase,position,layer,experts,weights\n";
  const std::string trace =
      folder.write("t.csv", header + "0,0,prefill,0,0,1;2,0.5;0.5\n0,0,prefill,0,1,9;2,0.5;0.5\n");
  const std::string out = folder.file("out.jsonl.gz");
  check_refused("workload import --in " + trace + " --out " + out + " --network " + kModel,
                trace + ":3: experts: got 9, expected less than 8, the experts of model");
  CHECK_FALSE(std::filesystem::exists(out));
  CHECK(run_program("workload import --in " + trace + " --out " + out).exit_code == 0);
  CHECK(std::filesystem::exists(out));
  check_refused("workload synth --network Mixtral-8x7B --requests '' --out t.csv",
                "moesaic workload synth: --requests: got nothing, expected a value");
  check_refused("workload describe Mixtral-8x7B --list", "NETWORK: got Mixtral-8x7B, expected none with --list");
  check_refused("workload import --in " + folder.file("none.csv"),
                "none.csv: read: got No such file or directory, expected a readable file");
  check_refused("workload import --in " + folder.file("none.txt"), "expected a name ending in .csv or .jsonl");
  check_refused("workload import --in " + trace + " --out " + folder.file("o.csv") + " --network Mixtral",
                "--network: got 'Mixtral'");
  const std::string empty = folder.write("empty.csv", header), copy = folder.file("copy.csv");
  check_refused("workload import --in " + empty, "empty.csv: rows: got none, expected at least one");
  check_refused("workload import --in " + empty + " --out " + copy, "empty.csv: rows: got none");
  CHECK_FALSE(std::filesystem::exists(copy));
}

TEST_CASE("a command that does not exist is named, with those that do", "[bad_config][cli]") {
  check_refused("simulat --help", "moesaic: command: got 'simulat', expected one of ");
  check_refused("compare", "moesaic: command: got 'compare', expected one of ");
}

TEST_CASE("workload describe reads a shape file as it reads the zoo's", "[bad_config][cli]") {
  const Outcome zoo = run_program("workload describe OLMoE-1B-7B"),
                file = run_program("workload describe data/zoo/OLMoE-1B-7B.yaml");
  CHECK(zoo.exit_code == 0);
  CHECK(zoo.out == file.out);
  const TemporaryFolder folder;
  check_refused("workload describe " + folder.write("shape.yaml", "name: x\n"),
                "shape.yaml:1: source: got nothing, expected this key");
}

TEST_CASE("workload describe prints JSON of a model whose folder's name is no UTF-8", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const Outcome outcome = run_program("workload describe --json " + copy_model(folder, "m\xff"));
  CAPTURE(outcome.err);
  CHECK(outcome.exit_code == 0);
  CHECK_THAT(outcome.out, Catch::Contains("\"name\": \"m\xef\xbf\xbd\""));
}

TEST_CASE("workload describe and synth refuse unknown networks and impossible parameters", "[bad_config][cli]") {
  const TemporaryFolder folder;
  check_refused("workload describe Mixtrel-8x7B", "NETWORK: got 'Mixtrel-8x7B', expected a model folder");
  check_refused("workload describe", "NETWORK: got nothing");
  check_refused("workload describe " + folder.path(), folder.path() + "/config.json");
  check_refused("workload", "");
  const std::string out = folder.file("t.csv");
  const std::string synth = "workload synth --network Mixtral-8x7B --out " + out;
  check_refused(synth + " --reuse 1.5", "--reuse: got 1.5, expected 0 to 1");
  check_refused(synth + " --zipf -1", "--zipf: got -1");
  check_refused(synth + " --requests 0", "--requests: got 0");
  check_refused(synth + " --requests many", "--requests");
  check_refused(synth + " --levels 0.5,0.3", "--levels: got shares that add up to 0.8, expected a sum of 1");
  check_refused(synth + " --level-of request", "--level-of: got request, expected --levels beside it");
  check_refused(synth + " --levels 1 --level-of token", "--level-of");
  check_refused("workload synth --network Mixtral-8x7B --out /dev/full", "expected a name ending in .csv or .jsonl");
  CHECK(std::filesystem::is_empty(folder.path()));
  std::filesystem::create_symlink("/dev/full", out);
  check_refused(synth, out);
}

TEST_CASE("workload synth writes a trace and its parameters, the same bytes for the same seed", "[bad_config][cli]") {
  const TemporaryFolder folder;
  const auto synth = [&](const std::string& name, const std::string& seed) {
    const Outcome outcome =
        run_program("workload synth --network OLMoE-1B-7B --requests 2 --seed " + seed + " --out " + folder.file(name));
    CHECK(outcome.exit_code == 0);
    CHECK(outcome.out.empty());
    CHECK(outcome.err.empty());
    return base::read_file(folder.file(name)) + base::read_file(folder.file(name + ".json"));
  };
  CHECK(synth("a.csv.zst", "3") == synth("b.csv.zst", "3"));
  CHECK(synth("a.csv.zst", "3") != synth("c.csv.zst", "4"));
  const Outcome valid = run_program("workload import --network OLMoE-1B-7B --in " + folder.file("a.csv.zst"));
  CHECK(valid.exit_code == 0);
  CHECK(valid.out == "3072 rows, each valid\n");
}
