// moesaic simulate, end to end.
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/bad_config/cli/run_program.h"

using namespace moesaic;
using moesaic::testing::Folder;
using moesaic::testing::Outcome;
using moesaic::testing::run_program;
using nlohmann::json;

namespace {

/// A workload over the shipped model with real activations, and these further lines.
std::string workload(const Folder& folder, const std::string& lines) {
  const std::string root = std::filesystem::current_path().string(), path = folder.file("workload.yaml");
  base::write_file(path, "model: " + root + "/data/model\ntrace: " + root + "/data/traces/evaluation.csv.gz\ntokens: " +
                             root + "/data/tokens/evaluation.bin\nrequest_starts: [0, 256]\n" + lines);
  return path;
}

Outcome simulate(const Folder& folder, const std::string& lines, const std::string& chip, const std::string& options) {
  return run_program("simulate --chip chips/" + chip + ".yaml --workload " + workload(folder, lines) + " " + options);
}

json summary(const Folder& folder, const std::string& run) {
  return json::parse(base::read_file(folder.file(run + "/summary.json")));
}

const char* const kSmall = "requests: [1]\nlayers: [2]\nmax_tokens: 3\n";

}  // namespace

TEST_CASE("cycle and rtl write the same files, but for the engine's name", "[regress][simulate]") {
  for (const std::string chip : {"demo", "r8c8p2a16"}) {
    const Folder folder;
    for (const std::string engine : {"cycle", "rtl"}) {
      const Outcome outcome = simulate(folder, "requests: [0]\nsteps: [0, 1]\nlayers: [0, 3]\nmax_tokens: 33\n", chip,
                                       "--plan int2 --engine " + engine + " --out " + folder.file(engine));
      INFO(chip << " " << engine << ": " << outcome.err);
      REQUIRE(outcome.exit_code == 0);
    }
    for (const char* name : {"layers.csv", "experts.csv", "steps.csv"})
      CHECK(base::read_file(folder.file(std::string("cycle/") + name)) ==
            base::read_file(folder.file(std::string("rtl/") + name)));
    std::string rtl = base::read_file(folder.file("rtl/summary.json"));
    const std::size_t at = rtl.find("\"engine\": \"rtl\"");
    REQUIRE(at != std::string::npos);
    rtl.replace(at, 15, "\"engine\": \"cycle\"");
    CHECK(rtl == base::read_file(folder.file("cycle/summary.json")));
    CHECK(summary(folder, "cycle")["tokens_decode"] == 1);
    CHECK(summary(folder, "cycle")["check"]["values_compared"] == 33 * 2 * (2 + 1) * 128);
  }
}

TEST_CASE("cycle and rtl agree with a DRAM behind the ports, and count its commands alike", "[regress][simulate]") {
  const Folder folder;
  for (const std::string engine : {"cycle", "rtl"}) {
    const Outcome outcome =
        simulate(folder, kSmall, "r16c16p2a8-ddr5", "--plan int2 --engine " + engine + " --out " + folder.file(engine));
    INFO(engine << ": " << outcome.err);
    REQUIRE(outcome.exit_code == 0);
  }
  json cycle = summary(folder, "cycle"), rtl = summary(folder, "rtl");
  CHECK(rtl["engine"] == "rtl");
  rtl["engine"] = "cycle";
  CHECK(cycle == rtl);
  const json& dram = cycle["memory"];
  CHECK(dram["refreshes"] > 0);
  CHECK(dram["port_bytes_read"].get<std::uint64_t>() + dram["port_bytes_written"].get<std::uint64_t>() ==
        cycle["bytes"]["total"]);
  CHECK(dram["row_hits"].get<std::uint64_t>() + dram["row_misses"].get<std::uint64_t>() +
            dram["row_conflicts"].get<std::uint64_t>() ==
        dram["reads"].get<std::uint64_t>() + dram["writes"].get<std::uint64_t>());
  CHECK(cycle["facts"]["memory_model"].get<std::string>().find("dram(ddr5-6400, 2 x 32 bits") == 0);
}

TEST_CASE("fast writes the cycle engine's files, with shortcuts, without, and without data", "[regress][simulate]") {
  for (const std::string chip : {"demo", "r4c4p1a8"}) {
    const Folder folder;
    const std::vector<std::pair<std::string, std::string>> runs{{"cycle", "--engine cycle"},
                                                                {"fast", "--engine fast"},
                                                                {"stepped", "--engine fast --no-shortcuts"},
                                                                {"timing", "--engine fast --no-data"}};
    for (const auto& [name, options] : runs) {
      const Outcome outcome = simulate(folder, "requests: [0]\nsteps: [0, 1]\nlayers: [0, 3]\nmax_tokens: 20\n", chip,
                                       "--plan int2 " + options + " --out " + folder.file(name));
      INFO(chip << " " << name << ": " << outcome.err);
      REQUIRE(outcome.exit_code == 0);
    }
    for (const std::string run : {"fast", "stepped", "timing"}) {
      INFO(chip << " " << run);
      for (const char* name : {"/layers.csv", "/experts.csv", "/steps.csv"})
        CHECK(base::read_file(folder.file(run + name)) == base::read_file(folder.file(std::string("cycle") + name)));
      json ours = summary(folder, run), theirs = summary(folder, "cycle");
      CHECK(ours["engine"] == "fast");
      ours.erase("engine");
      theirs.erase("engine");
      if (run == "timing") {
        CHECK(ours["check"]["values_compared"] == 0);
        CHECK(ours["facts"]["weights"] == "shapes only: nothing was computed");
        ours.erase("check");
        theirs.erase("check");
        ours["facts"].erase("weights");
        theirs["facts"].erase("weights");
      }
      CHECK(ours == theirs);
      const json host = json::parse(base::read_file(folder.file(run + "/host.json")))["shortcuts"];
      CHECK(host["cycles_stepped"].get<std::uint64_t>() + host["cycles_skipped"].get<std::uint64_t>() +
                host["cycles_repeated"].get<std::uint64_t>() ==
            theirs["cycles"]);
      CHECK(host["on"] == (run != "stepped"));
      CHECK((host["cycles_repeated"] > 0) == (run != "stepped"));
    }
  }
}

TEST_CASE("with barriers every engine takes the cycles that profile adds up", "[regress][simulate]") {
  const Folder folder;
  const std::string work = "requests: [0]\nsteps: [0, 1]\nlayers: [0, 3]\nmax_tokens: 20\n";
  for (const std::string engine : {"fast", "cycle", "rtl"}) {
    const Outcome outcome =
        simulate(folder, work, "demo", "--barriers --plan int2 --engine " + engine + " --out " + folder.file(engine));
    INFO(engine << ": " << outcome.err);
    REQUIRE(outcome.exit_code == 0);
  }
  const Outcome profile = run_program("profile --chip chips/demo.yaml --no-cache --json --formats int2 --workload " +
                                      folder.file("workload.yaml"));
  INFO(profile.err);
  REQUIRE(profile.exit_code == 0);
  const json fast = summary(folder, "fast");
  CHECK(json::parse(profile.out)["cycles"]["int2"] == fast["cycles"]);
  CHECK(fast["facts"]["barriers"].is_string());
  for (const char* name : {"/layers.csv", "/experts.csv", "/steps.csv"})
    for (const std::string engine : {"cycle", "rtl"})
      CHECK(base::read_file(folder.file("fast") + name) == base::read_file(folder.file(engine) + name));
}

TEST_CASE("whole layers and requests that arrive in time are the same on all engines", "[regress][simulate]") {
  const Folder folder;
  base::write_file(folder.file("tiny.yaml"),
                   "name: tiny\nsource: made up\nhidden: 32\nexpert_intermediate: 24\nexperts: 4\ntop_k: 2\n"
                   "shared_experts: 1\nshared_intermediate: 16\nlayers: 2\ndense_first: 1\nmoe_every: 1\n"
                   "dense_intermediate: 40\nheads: 4\nkv_heads: 2\nhead_dim: 16\ngated: true\nvocab: 50\n"
                   "latent_attention: {q_rank: 12, kv_rank: 24, nope_dim: 8, rope_dim: 4}\n");
  std::string rows = "request,step,phase,position,layer,experts,weights,arrival_us\n";
  const char* const arrivals[] = {"1", "2", "15", "300"};
  for (int request = 0; request < 4; ++request)
    for (int position = 0; position < 6; ++position)
      rows += std::to_string(request) +
              (position < 3 ? ",0,prefill," : "," + std::to_string(position - 2) + ",decode,") +
              std::to_string(position) + ",1," + std::to_string((request + position) % 4) + ";" +
              std::to_string((request + position + 1) % 4) + ",0.6;0.4," + arrivals[request] + "\n";
  base::write_file(folder.file("t.csv"), rows);
  base::write_file(folder.file("w.yaml"),
                   "model: tiny.yaml\ntrace: t.csv\ncontinuous_batching: {max_requests: 2}\n"
                   "whole_layers: {shared_experts: int4, dense_layers: int3, attention: int5, head: int2}\n");
  const std::vector<std::pair<std::string, std::string>> runs{{"cycle", "--engine cycle"},
                                                              {"rtl", "--engine rtl"},
                                                              {"fast", "--engine fast"},
                                                              {"stepped", "--engine fast --no-shortcuts"},
                                                              {"timing", "--engine fast --no-data"}};
  for (const auto& [name, options] : runs) {
    const Outcome outcome = run_program("simulate --chip chips/r16c16p2a8.yaml --workload " + folder.file("w.yaml") +
                                        " --plan int3 " + options + " --out " + folder.file(name));
    INFO(name << ": " << outcome.err);
    REQUIRE(outcome.exit_code == 0);
  }
  const json cycle = summary(folder, "cycle");
  for (const std::string run : {"rtl", "fast", "stepped", "timing"}) {
    INFO(run);
    for (const char* name : {"/layers.csv", "/experts.csv", "/steps.csv", "/requests.csv"})
      CHECK(base::read_file(folder.file(run + name)) == base::read_file(folder.file(std::string("cycle") + name)));
    json ours = summary(folder, run);
    for (const char* key :
         {"cycles", "cycles_split", "cycles_by_cause", "blocks", "bytes", "parts", "products", "layers", "latency"})
      CHECK(ours[key] == cycle[key]);
    CHECK((ours["check"]["values_compared"] == cycle["check"]["values_compared"]) == (run != "timing"));
  }
  CHECK(cycle["check"]["values_compared"] > 1000);
  // Nothing runs before the first request is there, nor between the third and the fourth.
  CHECK(cycle["cycles_split"]["arrivals"] > 500);
  CHECK(cycle["cycles_split"]["stated"] > 0);
  for (const auto& layer : cycle["layers"]) CHECK(layer["cycles_split"]["idle"] < layer["cycles"]);
  CHECK(cycle["latency"]["requests"] == 4);
  std::uint64_t sum = 0;
  for (const auto& count : cycle["cycles_split"]) sum += count.get<std::uint64_t>();
  CHECK(sum == cycle["cycles"]);
  const std::string requests = base::read_file(folder.file("cycle/requests.csv"));
  CHECK(requests.find("\n0,3,3,0.001000000,0.001000000,") != std::string::npos);
  CHECK(requests.find("\n3,3,3,0.300000000,") != std::string::npos);
}

TEST_CASE("a 3-bit and a 4-bit plan differ in bytes and in cycles", "[regress][simulate]") {
  const Folder folder;
  for (const std::string plan : {"int3", "int4"})
    REQUIRE(simulate(folder, kSmall, "demo", "--plan " + plan + " --out " + folder.file(plan)).exit_code == 0);
  const json three = summary(folder, "int3"), four = summary(folder, "int4");
  CHECK(three["cycles"] < four["cycles"]);
  CHECK(three["bytes"]["by_kind"]["weights"].get<std::int64_t>() * 4 ==
        four["bytes"]["by_kind"]["weights"].get<std::int64_t>() * 3);
  CHECK(three["bytes"]["by_kind"]["activations"] == four["bytes"]["by_kind"]["activations"]);
}

TEST_CASE("cycles, causes and blocks of a run add up, and every run of the same inputs is the same",
          "[regress][simulate]") {
  const Folder folder;
  const Outcome printed = simulate(folder, kSmall, "r4c4p1a8", "--plan nested3 --json --out " + folder.file("a"));
  REQUIRE(printed.exit_code == 0);
  CHECK(printed.err == "");
  CHECK(printed.out == base::read_file(folder.file("a/summary.json")));
  const json j = json::parse(printed.out);
  std::uint64_t causes = 0, kinds = 0, ports = 0;
  for (const auto& count : j["cycles_by_cause"]) causes += count.get<std::uint64_t>();
  CHECK(causes == j["cycles"]);
  CHECK(j["blocks"].size() == 16);
  for (const auto& block : j["blocks"]) {
    std::uint64_t sum = 0;
    for (const auto& count : block) sum += count.get<std::uint64_t>();
    CHECK(sum == j["cycles"]);
  }
  for (const auto& count : j["bytes"]["by_kind"]) kinds += count.get<std::uint64_t>();
  for (const auto& count : j["bytes"]["by_port"]) ports += count.get<std::uint64_t>();
  CHECK(kinds == j["bytes"]["total"]);
  CHECK(ports == j["bytes"]["total"]);
  CHECK(j["utilisation"]["array"] > 0.0);
  CHECK(j["utilisation"]["array"] <= j["utilisation"]["array_computing"]);
  CHECK(j["utilisation"]["memory"] <= 1.0);
  REQUIRE(simulate(folder, kSmall, "r4c4p1a8", "--plan nested3 --threads 1 --out " + folder.file("b")).exit_code == 0);
  CHECK(base::read_file(folder.file("b/summary.json")) == printed.out);
}

TEST_CASE("an earlier run's folder is replaced, any other is left alone", "[regress][simulate]") {
  const Folder folder;
  const std::string out = " --out " + folder.file("run");
  REQUIRE(simulate(folder, kSmall, "demo", "--plan int1" + out).exit_code == 0);
  REQUIRE(simulate(folder, kSmall, "demo", "--plan binary" + out).exit_code == 0);
  CHECK(summary(folder, "run")["bits"]["experts_by_format"]["binary"] == 8);
  base::write_file(folder.file("run/notes.txt"), "mine");
  const Outcome refused = simulate(folder, kSmall, "demo", "--plan int2" + out);
  CHECK(refused.exit_code == 2);
  CHECK(refused.err == folder.file("run") +
                           ": --out: got a folder that holds notes.txt, expected a new folder, an empty one or an "
                           "earlier run's\n");
  CHECK(summary(folder, "run")["bits"]["experts_by_format"]["binary"] == 8);
  CHECK(folder.count() == 2);  // the workload and the run: nothing hidden is left
}

TEST_CASE("an interrupted run leaves nothing", "[regress][simulate]") {
  const Folder folder;
  const std::string path = workload(folder, "requests: [0]\n");
  const std::string command = std::string("timeout -s INT 2 ") + MOESAIC_PROGRAM +
                              " simulate --chip chips/r4c4p1a8.yaml --workload " + path + " --out " +
                              folder.file("run") + " >/dev/null 2>&1";
  const int status = std::system(command.c_str());
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 124);
  CHECK(folder.count() == 1);
}
