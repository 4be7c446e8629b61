// moesaic simulate, end to end.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/bad_config/cli/run_program.h"
#include "tests/timeline_spans.h"

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

/// The fast engine writes the same files with its shortcuts and without.
void check_shortcuts(const std::string& chip, const std::string& shape, const std::string& trace,
                     const std::string& rest, const std::string& plan) {
  const Folder folder;
  base::write_file(folder.file("chip.yaml"), chip);
  base::write_file(folder.file("shape.yaml"), shape);
  base::write_file(folder.file("trace.csv"), trace);
  base::write_file(folder.file("work.yaml"), "model: shape.yaml\ntrace: trace.csv\n" + rest);
  for (const std::string run : {"repeated", "stepped"}) {
    const Outcome outcome =
        run_program("simulate --engine fast --no-data" + std::string(run == "stepped" ? " --no-shortcuts" : "") +
                    " --chip " + folder.file("chip.yaml") + " --workload " + folder.file("work.yaml") + " --plan " +
                    plan + " --out " + folder.file(run));
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
  }
  for (const char* name : {"/summary.json", "/layers.csv", "/timeline.json"})
    CHECK(base::read_file(folder.file(std::string("repeated") + name)) ==
          base::read_file(folder.file(std::string("stepped") + name)));
}

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

TEST_CASE("all engines agree with a DRAM behind the ports, count its commands and the waits for its refresh alike",
          "[regress][simulate]") {
  const Folder folder;
  for (const std::string engine : {"cycle", "rtl", "fast"}) {
    const Outcome outcome =
        simulate(folder, kSmall, "r16c16p2a8-ddr5", "--plan int2 --engine " + engine + " --out " + folder.file(engine));
    INFO(engine << ": " << outcome.err);
    REQUIRE(outcome.exit_code == 0);
  }
  json cycle = summary(folder, "cycle"), rtl = summary(folder, "rtl"), fast = summary(folder, "fast");
  CHECK(rtl["engine"] == "rtl");
  CHECK(fast["engine"] == "fast");
  rtl["engine"] = fast["engine"] = "cycle";
  CHECK(cycle == rtl);
  CHECK(cycle == fast);
  std::uint64_t split = 0, refresh = 0;
  for (const auto& cycles : cycle["cycles_split"]) split += cycles.get<std::uint64_t>();
  for (const auto& layer : cycle["layers"]) refresh += layer["cycles_split"]["refresh"].get<std::uint64_t>();
  CHECK(split == cycle["cycles"]);
  CHECK(refresh > 0);
  CHECK(refresh == cycle["cycles_split"]["refresh"]);
  const json& dram = cycle["memory"];
  CHECK(dram["refreshes"] > 0);
  CHECK(dram["port_bytes_read"].get<std::uint64_t>() + dram["port_bytes_written"].get<std::uint64_t>() ==
        cycle["bytes"]["total"]);
  CHECK(dram["row_hits"].get<std::uint64_t>() + dram["row_misses"].get<std::uint64_t>() +
            dram["row_conflicts"].get<std::uint64_t>() ==
        dram["reads"].get<std::uint64_t>() + dram["writes"].get<std::uint64_t>());
  CHECK(cycle["facts"]["memory_model"].get<std::string>().find("dram(ddr5-6400, 2 x 32 bits") == 0);

  // The timeline is the same, its channels' refreshes and bytes are those that were counted.
  std::string rtl_timeline = base::read_file(folder.file("rtl/timeline.json"));
  const std::string timeline = base::read_file(folder.file("cycle/timeline.json"));
  rtl_timeline.replace(rtl_timeline.find("engine rtl"), 10, "engine cycle");
  CHECK(rtl_timeline == timeline);
  std::uint64_t refreshes = 0, read = 0, written = 0;
  std::map<int, std::string> tracks;
  // By track and name, of commands; by track, of the array and results.
  std::map<std::string, std::vector<tests::TimelineSpan>> spans;
  const json trace = json::parse(timeline);
  for (const json& event : trace["traceEvents"])
    if (event["ph"] == "M" && event["name"] == "thread_name") tracks[event["tid"]] = event["args"]["name"];
  for (const tests::TimelineSpan& span : tests::timeline_spans(trace)) {
    const std::string& track = tracks[span.track];
    if (track == "commands") spans[span.name].push_back(span);
    if (track == "array" || track == "post-processing") spans[track].push_back(span);
    if (span.track < 10) continue;
    if (span.name == "refresh") {
      ++refreshes;  // tRFC is 295 ns
      CHECK((span.end - span.begin >= 295000000 || span.end == cycle["time_fs"].get<long long>()));
      continue;
    }
    read += span.args["bytes_read"].get<std::uint64_t>();
    written += span.args["bytes_written"].get<std::uint64_t>();
  }
  // The array works within each product, and what follows it within each product and combination; none are left out.
  REQUIRE(spans["matmul"].size() > 4);
  REQUIRE(spans["array"].size() == spans["matmul"].size());
  REQUIRE(spans["post-processing"].size() == spans["matmul"].size() + spans["combine"].size());
  std::size_t product = 0;
  for (std::size_t i = 0; i < spans["array"].size(); ++i) {
    const tests::TimelineSpan &array = spans["array"][i], &matmul = spans["matmul"][i];
    CHECK(array.begin >= matmul.begin);
    CHECK(array.end <= matmul.end);
    CHECK(array.name.find("expert ") == 0);
    for (const char* extent : {"tokens", "n", "k"}) CHECK(array.args[extent] == matmul.args[extent]);
    // Post-processing ends behind the array.
    while (spans["post-processing"][product].name == "combination") ++product;
    const tests::TimelineSpan& results = spans["post-processing"][product++];
    CHECK(results.name == array.name);
    CHECK(results.begin >= matmul.begin);
    CHECK(results.end > array.end);
    CHECK(results.end <= matmul.end);
  }
  CHECK(tracks.at(10) == "DRAM channel 0");
  CHECK(tracks.at(11) == "DRAM channel 1");
  CHECK(refreshes == dram["refreshes"]);
  CHECK(read == dram["bus_bytes_read"]);
  CHECK(written == dram["bus_bytes_written"]);
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

TEST_CASE("a refresh that finds a DRAM's banks closed is not repeated where one finds them open",
          "[regress][simulate]") {
  check_shortcuts(R"(name: closed-banks
clock_mhz: 1000
array: {rows: 32, cols: 32, planes_per_cycle: 4, max_act_bits: 8}
axi_data_bits: 64
buffers: {max_tokens: 16, activation_words: 256, hidden_words: 1024, reader_beats: 32, commands: 8}
io_queue: {descriptors: 32, requests: 64, jobs: 8}
layout: plane_major
memory: {kind: dram, preset: gddr6-16000, channels: 1, rows: 524288, starvation_cap: 3, timing: {tREFI: 1900}}
storage: {kind: nvme, preset: nvme-pcie4x4}
cache: {policy: lfu, capacity_experts: 8, load_order: fifo, decision_cycles: 100, prefetch: {kind: perfect}, start: cold}
)",
                  R"(name: S
source: drawn
hidden: 2048
expert_intermediate: 512
experts: 8
top_k: 2
shared_experts: 0
shared_intermediate: 0
layers: 3
dense_first: 0
moe_every: 1
dense_intermediate: 0
heads: 8
kv_heads: 2
head_dim: 64
gated: true
vocab: 4096
)",
                  R"(request,step,phase,position,layer,experts,weights
0,0,prefill,0,0,0;4,0.725916;0.274084
0,0,prefill,0,1,2;4,0.532179;0.467821
0,0,prefill,0,2,2;5,0.805958;0.194042
0,1,decode,1,0,0;3,0.663165;0.336835
0,1,decode,1,1,5;6,0.64288;0.35712
0,1,decode,1,2,2;5,0.559222;0.440778
0,2,decode,2,0,4;0,0.890436;0.109564
0,2,decode,2,1,0;5,0.753432;0.246568
0,2,decode,2,2,2;7,0.899135;0.100865
0,3,decode,3,0,0;7,0.967586;0.032414
0,3,decode,3,1,5;2,0.521711;0.478289
0,3,decode,3,2,7;2,0.588021;0.411979
0,4,decode,4,0,6;4,0.543812;0.456188
0,4,decode,4,1,5;4,0.527801;0.472199
0,4,decode,4,2,5;2,0.616543;0.383457
0,5,decode,5,0,4;6,0.615836;0.384164
0,5,decode,5,1,5;2,0.848103;0.151897
0,5,decode,5,2,2;3,0.87595;0.12405
0,6,decode,6,0,4;7,0.954266;0.045734
0,6,decode,6,1,2;6,0.559304;0.440696
0,6,decode,6,2,6;7,0.725435;0.274565
)",
                  "layers: [0]\nsteps: [2, 3]\n", "int4");
}

TEST_CASE("what is left of a segment is asked for where it lies, however long the segment was", "[regress][simulate]") {
  check_shortcuts(R"(name: long-segments
clock_mhz: 1000
array: {rows: 16, cols: 16, planes_per_cycle: 4, max_act_bits: 8}
axi_data_bits: 64
buffers: {max_tokens: 16, activation_words: 1024, hidden_words: 16384, reader_beats: 32, commands: 8}
io_queue: {descriptors: 32, requests: 8, jobs: 8}
layout: tile_major
memory: {kind: dram, preset: hbm2e-3200, channels: 2, rows: 524288, read_queue: 64, write_high: 20, write_low: 2}
storage: {kind: nvme, preset: nvme-pcie4x4}
cache: {policy: planes, capacity_experts: 2, load_order: fifo, decision_cycles: 100, prefetch: {kind: none}, start: popular}
stated_costs: {norm: {cycles: 20, elements_per_cycle: 8}, router: {cycles: 40, macs_per_cycle: 256}, softmax: {cycles: 20, scores_per_cycle: 8}}
)",
                  R"(name: S
source: drawn
hidden: 1024
expert_intermediate: 2816
experts: 16
top_k: 1
shared_experts: 0
shared_intermediate: 0
layers: 3
dense_first: 0
moe_every: 1
dense_intermediate: 0
heads: 8
kv_heads: 8
head_dim: 64
gated: true
vocab: 4096
)",
                  R"(request,step,phase,position,layer,experts,weights
0,0,prefill,0,0,10,1
0,0,prefill,0,1,11,1
0,0,prefill,0,2,4,1
0,1,decode,1,0,13,1
0,1,decode,1,1,11,1
0,1,decode,1,2,3,1
0,2,decode,2,0,13,1
0,2,decode,2,1,15,1
0,2,decode,2,2,0,1
1,0,prefill,0,0,6,1
1,0,prefill,0,1,15,1
1,0,prefill,0,2,6,1
1,1,decode,1,0,6,1
1,1,decode,1,1,15,1
1,1,decode,1,2,8,1
1,2,decode,2,0,15,1
1,2,decode,2,1,13,1
1,2,decode,2,2,5,1
)",
                  "batch_requests: 2\nwhole_layers: {attention: int8}\n", "int5");
}

TEST_CASE("an interleaved chip reads the same weights as one stream, the same on all engines", "[regress][simulate]") {
  const Folder folder;
  std::map<std::string, json> runs;
  for (const std::string layout : {"tile_major", "interleaved"}) {
    std::string text = base::read_file("chips/r16c16p2a8-ddr5.yaml");
    text.replace(text.find("tile_major"), 10, layout);
    base::write_file(folder.file(layout + ".yaml"), text);
    for (const std::string engine : {"fast", "cycle", "rtl"}) {
      if (layout == "tile_major" && engine != "fast") continue;
      const std::string name = layout + "_" + engine;
      const Outcome outcome =
          run_program("simulate --chip " + folder.file(layout + ".yaml") + " --workload " + workload(folder, kSmall) +
                      " --plan int3/int3/mwq2+1 --engine " + engine + " --out " + folder.file(name));
      INFO(name << ": " << outcome.err);
      REQUIRE(outcome.exit_code == 0);  // results are the reference's
      json run = summary(folder, name);
      CHECK(run["facts"]["layout"] == layout);
      run["engine"] = "any";
      const auto [known, is_new] = runs.emplace(layout, run);
      if (!is_new) CHECK(known->second == run);
    }
  }
  const json &apart = runs["tile_major"], &mixed = runs["interleaved"];
  const auto of_kind = [](const json& run, const char* kind) {
    return run["bytes"]["by_kind"][kind].get<std::uint64_t>();
  };
  CHECK(of_kind(mixed, "params") == 0);
  CHECK(of_kind(mixed, "requant") == 0);
  // All pieces are whole beats here, so that the same bytes cross the port.
  CHECK(of_kind(mixed, "weights") == of_kind(apart, "weights") + of_kind(apart, "params") + of_kind(apart, "requant"));
  CHECK(mixed["bytes"]["by_port"] == apart["bytes"]["by_port"]);

  // In more memory than the open rows hold, parameters on their own close them.
  std::map<std::string, json> larger;
  for (const std::string layout : {"tile_major", "interleaved"}) {
    const Outcome outcome =
        run_program("simulate --engine fast --no-data --chip " + folder.file(layout + ".yaml") + " --workload " +
                    workload(folder, "requests: [0]\nlayers: [0, 1]\nmax_tokens: 40\n") + " --plan int4 --out " +
                    folder.file("larger_" + layout));
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    larger[layout] = summary(folder, "larger_" + layout)["memory"];
  }
  for (const char* count : {"row_conflicts", "activates"})
    CHECK(larger["interleaved"][count] < larger["tile_major"][count]);
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

TEST_CASE("experts whose gate, up and down differ in format run alike on every engine, and as the reference says",
          "[regress][simulate]") {
  for (const std::string chip : {"demo", "r4c4p1a8"}) {
    const Folder folder;
    const std::string work = "requests: [0]\nsteps: [0, 1]\nlayers: [0, 3]\nmax_tokens: 9\n";
    const std::string plan = "--plan int2/int2/int4+binary/int3/nested2+mwq2+1/mwq2+1/int2+int4 ";
    for (const auto& [name, options] : std::map<std::string, std::string>{{"cycle", "--engine cycle"},
                                                                          {"rtl", "--engine rtl"},
                                                                          {"fast", "--engine fast"},
                                                                          {"stepped", "--engine fast --no-shortcuts"},
                                                                          {"timing", "--engine fast --no-data"}}) {
      const Outcome outcome = simulate(folder, work, chip, plan + options + " --out " + folder.file(name));
      INFO(chip << " " << name << ": " << outcome.err);
      REQUIRE(outcome.exit_code == 0);
    }
    const json cycle = summary(folder, "cycle");
    CHECK(cycle["check"]["values_compared"] == 9 * 2 * (2 + 1) * 128);
    CHECK(cycle["bits"]["experts_by_format"]["int2/int2/int4"] == 4);
    CHECK(cycle["bits"]["experts_by_format"]["binary/int3/nested2"] == 4);
    CHECK(cycle["bits"]["experts_by_format"]["int4"] == 4);
    for (const std::string run : {"rtl", "fast", "stepped", "timing"}) {
      INFO(chip << " " << run);
      for (const char* name : {"/layers.csv", "/experts.csv", "/steps.csv"})
        CHECK(base::read_file(folder.file(run + name)) == base::read_file(folder.file(std::string("cycle") + name)));
      const json ours = summary(folder, run);
      for (const char* key : {"cycles", "cycles_split", "cycles_by_cause", "blocks", "bytes", "layers"})
        CHECK(ours[key] == cycle[key]);
    }
  }
}

TEST_CASE("profile adds up to a run with barriers also with whole layers, and for experts of several formats",
          "[regress][simulate]") {
  const Folder folder;
  base::write_file(folder.file("tiny.yaml"),
                   "name: tiny\nsource: made up\nhidden: 32\nexpert_intermediate: 24\nexperts: 4\ntop_k: 2\n"
                   "shared_experts: 1\nshared_intermediate: 16\nlayers: 3\ndense_first: 1\nmoe_every: 1\n"
                   "dense_intermediate: 40\nheads: 4\nkv_heads: 2\nhead_dim: 16\ngated: true\nvocab: 50\n");
  std::string rows = "request,step,phase,position,layer,experts,weights\n";
  for (int position = 0; position < 5; ++position)
    for (int layer = 1; layer < 3; ++layer)
      rows += std::string("0,") + (position < 3 ? "0,prefill," : std::to_string(position - 2) + ",decode,") +
              std::to_string(position) + "," + std::to_string(layer) + "," + std::to_string((layer + position) % 4) +
              ";" + std::to_string((layer + position + 1) % 4) + ",0.6;0.4\n";
  base::write_file(folder.file("t.csv"), rows);
  const std::string work =
      "model: tiny.yaml\ntrace: t.csv\n"
      "whole_layers: {shared_experts: int4, dense_layers: int3, attention: int5, head: int2}\n";
  base::write_file(folder.file("w.yaml"), work);
  const std::string files = " --chip chips/r16c16p2a8.yaml --workload " + folder.file("w.yaml");
  const std::string formats = "int3,int2/int2/int4,int2/int3/int4";
  const Outcome profile = run_program("profile" + files + " --no-cache --json --formats " + formats);
  INFO(profile.err);
  REQUIRE(profile.exit_code == 0);
  const json cycles = json::parse(profile.out)["cycles"];
  for (const std::string plan : {"int3", "int2/int2/int4", "int2/int3/int4"}) {
    const Outcome outcome = run_program("simulate" + files + " --engine fast --no-data --barriers --json --plan " +
                                        plan + " --out " + folder.file("run"));
    INFO(plan << ": " << outcome.err);
    REQUIRE(outcome.exit_code == 0);
    const json run = json::parse(outcome.out);
    CHECK(run["cycles_split"]["stated"] > 0);
    CHECK(cycles[plan] == run["cycles"]);
  }
  CHECK(cycles["int2/int2/int4"] < cycles["int2/int3/int4"]);
  const auto refused = [&](const std::string& arguments, const std::string& what) {
    const Outcome outcome = run_program(arguments);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.one_error_line());
    CHECK_THAT(outcome.err, Catch::Contains(what));
  };
  refused("profile --chip chips/demo.yaml --formats int3 --no-cache --workload " + folder.file("w.yaml"),
          "chips/demo.yaml: stated_costs: got nothing");
  base::write_file(folder.file("w.yaml"), work + "continuous_batching: {max_requests: 2}\n");
  refused("profile" + files + " --formats int3 --no-cache",
          "w.yaml: continuous_batching: got batches that the plan's own cycles decide");
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

TEST_CASE("a workload of 4-bit activations runs on the array that takes no more, the same on all engines",
          "[regress][simulate]") {
  const Folder folder;
  base::write_file(folder.file("tiny.yaml"),
                   "name: tiny\nsource: made up\nhidden: 32\nexpert_intermediate: 24\nexperts: 4\ntop_k: 2\n"
                   "shared_experts: 1\nshared_intermediate: 16\nlayers: 2\ndense_first: 1\nmoe_every: 1\n"
                   "dense_intermediate: 40\nheads: 4\nkv_heads: 2\nhead_dim: 16\ngated: true\nvocab: 50\n"
                   "latent_attention: {q_rank: 12, kv_rank: 24, nope_dim: 8, rope_dim: 4}\n");
  base::write_file(folder.file("t.csv"),
                   "request,step,phase,position,layer,experts,weights\n0,0,prefill,0,1,0;2,0.6;0.4\n"
                   "0,0,prefill,1,1,1;2,0.6;0.4\n0,0,prefill,2,1,3;0,0.6;0.4\n");
  const std::string start = "model: tiny.yaml\ntrace: t.csv\n",
                    run = "simulate --chip chips/r4c8p4a4.yaml --plan int3 ";
  base::write_file(folder.file("eight.yaml"), start);
  base::write_file(folder.file("four.yaml"), start + "act_bits: 4\n");
  CHECK(run_program(run + "--workload " + folder.file("eight.yaml") + " --out " + folder.file("no")).exit_code == 2);
  for (const std::string engine : {"fast", "cycle", "rtl"}) {
    const Outcome outcome = run_program(run + "--workload " + folder.file("four.yaml") + " --engine " + engine +
                                        " --out " + folder.file(engine));
    INFO(engine << ": " << outcome.err);
    REQUIRE(outcome.exit_code == 0);
    CHECK(summary(folder, engine)["check"]["values_compared"] == 3 * 2 * 32 + 3 * 32);
    for (const char* name : {"/layers.csv", "/experts.csv", "/steps.csv"})
      CHECK(base::read_file(folder.file(engine + name)) == base::read_file(folder.file(std::string("fast") + name)));
  }
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
  // A link to a run's folder stays one, and leads to the new run.
  std::filesystem::remove(folder.file("run/notes.txt"));
  std::filesystem::create_directory_symlink(folder.file("run"), folder.file("link"));
  REQUIRE(simulate(folder, kSmall, "demo", "--plan int2 --out " + folder.file("link")).exit_code == 0);
  CHECK(std::filesystem::is_symlink(folder.file("link")));
  CHECK(summary(folder, "run")["bits"]["experts_by_format"]["int2"] == 8);
  CHECK(folder.count() == 3);
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

namespace {

constexpr const char* kStorage = "storage: {kind: nvme, preset: nvme-pcie4x4, latency_ns: 4000}\n";

/// chips/demo.yaml by planes, with these lines and a cache of six experts of which `replaced` is something else.
std::string offloading_chip(const Folder& folder, const std::string& name, const std::string& from = "",
                            const std::string& to = "") {
  std::string text = base::read_file("chips/demo.yaml");
  text.replace(text.find("tile_major"), 10, "plane_major");
  text += kStorage;
  text +=
      "cache: {policy: lru, capacity_experts: 6, load_order: hebf, decision_cycles: 100, prefetch: {kind: none}, "
      "start: cold}\n";
  if (!from.empty()) text.replace(text.find(from), from.size(), to);
  base::write_file(folder.file(name + ".yaml"), text);
  return folder.file(name + ".yaml");
}

/// Three decode tokens through two layers.
Outcome decode(const Folder& folder, const std::string& chip, const std::string& options) {
  return run_program("simulate --chip " + chip + " --workload " +
                     workload(folder, "requests: [0]\nsteps: [1, 2, 3]\nlayers: [1, 3]\n") + " --plan int3 " + options);
}

std::uint64_t number(const json& j) { return j.get<std::uint64_t>(); }

}  // namespace

TEST_CASE("with experts in a storage all engines write the same files, bytes are conserved and requests are shown",
          "[regress][simulate]") {
  const Folder folder;
  const std::string chip = offloading_chip(folder, "chip");
  for (const std::string engine : {"cycle", "rtl", "fast"}) {
    const Outcome outcome = decode(folder, chip, "--engine " + engine + " --out " + folder.file(engine));
    INFO(engine << ": " << outcome.err);
    REQUIRE(outcome.exit_code == 0);
  }
  for (const char* name : {"layers.csv", "experts.csv", "steps.csv"})
    CHECK(base::read_file(folder.file(std::string("cycle/") + name)) ==
          base::read_file(folder.file(std::string("rtl/") + name)));
  json cycle = summary(folder, "cycle"), rtl = summary(folder, "rtl"), fast = summary(folder, "fast");
  CHECK(rtl["engine"] == "rtl");
  rtl["engine"] = fast["engine"] = "cycle";
  CHECK(cycle == rtl);
  CHECK(cycle == fast);
  const json& cache = cycle["cache"];
  CHECK(cycle["facts"]["storage"].get<std::string>().find("nvme(nvme-pcie4x4, latency 4000 ns") == 0);
  CHECK(cycle["storage"]["name"] == cycle["facts"]["storage"]);
  CHECK(number(cache["hits"]) + number(cache["misses"]) == number(cache["jobs"]));
  CHECK(cache["jobs"] == 3 * 2 * 2);
  CHECK(cache["hits"] > 0);
  // A block of 3 planes, parameters and requantisation, for each miss, in four pieces.
  CHECK(number(cache["loaded_bytes"]) == number(cache["misses"]) * (number(cache["capacity_bytes"]) / 6));
  CHECK(cycle["storage"]["bytes"] == cache["loaded_bytes"]);
  CHECK(number(cycle["storage"]["requests"]) == 4 * number(cache["misses"]));
  CHECK(number(cycle["cycles_by_cause"]["io"]) > 2000 * number(cache["misses"]) / 2 / 2);
  CHECK(cycle["bytes"]["by_kind"]["weights"] == 0);
  std::uint64_t of_layers = 0;
  for (const json& layer : cycle["layers"]) of_layers += number(layer["bytes_by_kind"]["expert_cache"]);
  CHECK(of_layers == number(cycle["bytes"]["by_kind"]["expert_cache"]));
  std::map<std::string, std::uint64_t> sums;
  for (const json& layer : cycle["layers"])
    for (const char* what : {"jobs", "hits", "misses", "loaded_bytes", "prefetched_bytes", "dropped_bytes"})
      sums[what] += number(layer["cache"][what]);
  for (const auto& [what, sum] : sums) CHECK(cache[what] == sum);
  CHECK(cycle["layers"][0]["cache"]["jobs"] == 6);
  std::uint64_t of_experts = 0;
  for (const json& layer : cycle["layers"]) {
    std::uint64_t loaded = 0;
    std::istringstream rows(base::read_file(folder.file("cycle/experts.csv")));
    const std::string prefix = std::to_string(number(layer["layer"])) + ",";
    for (std::string row; std::getline(rows, row);)
      if (row.compare(0, prefix.size(), prefix) == 0) loaded += std::stoull(row.substr(row.rfind(',') + 1));
    CHECK(layer["cache"]["loaded_bytes"] == loaded);
    of_experts += loaded;
  }
  CHECK(of_experts == number(cache["loaded_bytes"]));
  CHECK(cycle["roofline"]["least_cycles"]["storage"] > 0);

  // The timeline shows every request, and queues that fill and empty.
  const json trace = json::parse(base::read_file(folder.file("cycle/timeline.json")));
  std::map<std::uint64_t, double> begins;
  CHECK(tests::timeline_spans(trace).size() > 20);  // in the order of time, though experts are not
  std::map<std::string, std::vector<std::uint64_t>> depths;
  std::uint64_t bytes = 0, ended = 0;
  std::string track;
  for (const json& event : trace["traceEvents"]) {
    const std::string kind = event["ph"];
    if (kind == "M" && event["name"] == "thread_name" && event["tid"] == 6) track = event["args"]["name"];
    if (kind == "b") {
      CHECK(begins.emplace(number(event["id"]), event["ts"].get<double>()).second);
      bytes += number(event["args"]["bytes"]);
      CHECK(event["tid"] == 6);
      CHECK(event["name"].get<std::string>().find("layer ") == 0);
    }
    if (kind == "e") {
      // Never faster than the drive: 4 us.
      CHECK(event["ts"].get<double>() - begins.at(number(event["id"])) >= 4.0);
      ++ended;
    }
    if (kind != "C") continue;
    for (const char* what : {"descriptors", "requests"})
      if (event["args"].contains(what)) depths[what].push_back(number(event["args"][what]));
  }
  CHECK(track == "storage");
  CHECK(begins.size() == cycle["storage"]["requests"]);
  CHECK(ended == begins.size());
  CHECK(bytes == cycle["storage"]["bytes"]);
  for (const char* what : {"descriptors", "requests"}) {
    REQUIRE(depths[what].size() > 4);
    CHECK(depths[what].back() == 0);
  }
  CHECK(*std::max_element(depths["requests"].begin(), depths["requests"].end()) > 1);
  CHECK(*std::max_element(depths["requests"].begin(), depths["requests"].end()) <= 8);
}

TEST_CASE("loads that are written through the memory take its bandwidth, in every engine alike",
          "[regress][simulate]") {
  const Folder folder;
  const std::string dram = "memory: {kind: dram, preset: lpddr5-6400, channels: 1}";
  const auto chip = [&](const std::string& name, const std::string& dma) {
    const std::string path = offloading_chip(folder, name, "latency_ns: 4000", "latency_ns: 4000" + dma);
    std::string text = base::read_file(path);
    const std::size_t begin = text.find("memory:");
    text.replace(begin, text.find('\n', begin) - begin, dram);
    base::write_file(path, text);
    return path;
  };
  const std::string through = chip("through", ", bytes_per_second: 8000000000, dma_bytes: 512");
  for (const auto& [engine, options] :
       {std::pair("cycle", "--engine cycle"), std::pair("rtl", "--engine rtl"), std::pair("fast", "--engine fast"),
        std::pair("stepped", "--engine fast --no-shortcuts")}) {
    const Outcome outcome = decode(folder, through, std::string(options) + " --out " + folder.file(engine));
    INFO(engine << ": " << outcome.err);
    REQUIRE(outcome.exit_code == 0);
  }
  const json cycle = summary(folder, "cycle");
  for (const std::string engine : {"rtl", "fast", "stepped"}) {
    json other = summary(folder, engine);
    other["engine"] = "cycle";
    CHECK(cycle == other);
    for (const char* name : {"layers.csv", "experts.csv", "steps.csv"})
      CHECK(base::read_file(folder.file(std::string("cycle/") + name)) ==
            base::read_file(folder.file(engine + "/" + name)));
  }
  REQUIRE(
      decode(folder, chip("beside", ", bytes_per_second: 8000000000"), "--out " + folder.file("beside")).exit_code ==
      0);
  const json beside = summary(folder, "beside");
  const auto ends_with = [](const json& name, const std::string& end) {
    const std::string text = name.get<std::string>();
    return text.size() > end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
  };
  CHECK(ends_with(cycle["facts"]["storage"], ", written to the memory in pieces of 512 bytes"));
  CHECK(ends_with(beside["facts"]["storage"], ", loads take none of the memory's bandwidth"));
  CHECK(cycle["storage"]["name"] == cycle["facts"]["storage"]);
  CHECK(cycle["check"] == beside["check"]);
  CHECK(cycle["storage"]["bytes"] == beside["storage"]["bytes"]);
  CHECK(number(cycle["memory"]["port_bytes_written"]) ==
        number(beside["memory"]["port_bytes_written"]) + number(cycle["storage"]["bytes"]));
  CHECK(cycle["memory"]["port_bytes_read"] == beside["memory"]["port_bytes_read"]);
  CHECK(cycle["cycles"] > beside["cycles"]);
  CHECK(cycle["utilisation"]["memory"] > beside["utilisation"]["memory"]);
  CHECK(cycle["roofline"]["least_cycles"]["memory"] > beside["roofline"]["least_cycles"]["memory"]);
}

TEST_CASE("loads that are on their way when a run or a layer ends count as far as they are written",
          "[regress][simulate]") {
  const Folder folder;
  const auto run = [&](const std::string& name, const std::string& storage, const std::string& memory,
                       const std::string& prefetch, const std::string& options) {
    std::string text = base::read_file(offloading_chip(folder, name));
    const auto line = [&text](const std::string& key, const std::string& value) {
      const std::size_t begin = text.find(key);
      text.replace(begin, text.find('\n', begin) - begin, value);
    };
    line("storage:", "storage: " + storage);
    line("memory:", "memory: " + memory);
    text.replace(text.find("{kind: none}"), 12, prefetch);
    base::write_file(folder.file(name + ".yaml"), text);
    const Outcome outcome =
        decode(folder, folder.file(name + ".yaml"), options + " --out " + folder.file("run_" + name));
    INFO(name << ": " << outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return summary(folder, "run_" + name);
  };
  const std::string slow =
      "{kind: nvme, preset: nvme-pcie4x4, latency_ns: 4000, bytes_per_second: 500000000, dma_bytes: 4096}";
  const std::string guess = "{kind: next_layer, recall: 1.0, precision: 0.1, seed: 1}";
  const std::string dram = "{kind: dram, preset: lpddr5-6400, channels: 1}";
  const json cycle = run("cycle", slow, dram, guess, "--engine cycle");
  const json fast = run("fast", slow, dram, guess, "--engine fast");
  CHECK(fast["memory"] == cycle["memory"]);
  CHECK(fast["layers"] == cycle["layers"]);
  CHECK(number(cycle["memory"]["port_bytes_written"]) < number(cycle["storage"]["bytes"]));
  // A layer's bound is one, whosever the bytes are that come in its cycles.
  const json ahead = run("ahead", "{kind: host, preset: host-pcie5x16, dma_bytes: 4096}",
                         "{kind: simple, read_latency_cycles: 20, write_latency_cycles: 10, bytes_per_cycle: 8}",
                         "{kind: perfect}", "--engine fast");
  for (const json& layer : ahead["layers"]) CHECK(layer["roofline"]["share_of_bound"] <= 1);
}

TEST_CASE("experts in a storage change no result; a larger cache, a warm start and prefetch save io cycles",
          "[regress][simulate]") {
  const Folder folder;
  const auto run = [&](const std::string& name, const std::string& from, const std::string& to) {
    const Outcome outcome =
        decode(folder, offloading_chip(folder, name, from, to), "--out " + folder.file("run_" + name));
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    const json result = summary(folder, "run_" + name);
    // What is printed are the same bytes under the same names.
    std::string printed = outcome.out;
    printed.erase(std::remove(printed.begin(), printed.end(), ','), printed.end());
    const std::uint64_t loaded = number(result["cache"]["loaded_bytes"]),
                        prefetched = number(result["cache"]["prefetched_bytes"]);
    CHECK(result["cache"]["dropped_bytes"] == 0);
    CHECK(result["storage"]["bytes"] == loaded + prefetched);
    CHECK_THAT(printed,
               Catch::Contains(" " + std::to_string(loaded + prefetched) + " bytes moved: " + std::to_string(loaded) +
                               " on demand " + std::to_string(prefetched) + " ahead\n"));
    return result;
  };
  const json small = run("small", "capacity_experts: 6", "capacity_experts: 1"), cold = run("cold", "", ""),
             warm = run("warm", "start: cold", "start: popular"),
             ahead = run("ahead", "{kind: none}", "{kind: perfect}");
  const std::string text = base::read_file(folder.file("cold.yaml"));
  base::write_file(folder.file("resident.yaml"), text.substr(0, text.find("storage:")));
  REQUIRE(decode(folder, folder.file("resident.yaml"), "--out " + folder.file("resident")).exit_code == 0);
  const json resident = summary(folder, "resident");
  CHECK(resident["facts"]["storage"] == "none: every expert lies in the memory");
  CHECK_FALSE(resident.contains("cache"));
  CHECK(resident["cycles_by_cause"]["io"] == 0);
  const json& kinds = resident["bytes"]["by_kind"];
  const auto io = [](const json& j) { return number(j["cycles_by_cause"]["io"]); };
  for (const json& cached : {small, cold, warm, ahead}) {
    // Each held to reference/numerics, so equal to each other.
    CHECK(cached["check"] == resident["check"]);
    CHECK(number(cached["bytes"]["by_kind"]["expert_cache"]) ==
          number(kinds["weights"]) + number(kinds["params"]) + number(kinds["requant"]));
    CHECK(cached["bytes"]["total"] == resident["bytes"]["total"]);
    CHECK(cached["plane_additions"] == resident["plane_additions"]);
    CHECK(cached["cycles"] > resident["cycles"]);
    CHECK(io(cached) > 0);
  }
  CHECK(small["cache"]["hits"] == 0);
  CHECK(io(cold) < io(small));
  CHECK(cold["cache"]["start"] == "cold: the cache is empty");
  CHECK(warm["cache"]["start"] == "popular: 6 experts with the most rows of this run are there, known from the future");
  CHECK(io(warm) < io(cold));
  CHECK(io(ahead) < io(cold));
  CHECK(ahead["cache"]["prefetch"] == "perfect: the next layer's experts, known from the future");
  CHECK(ahead["cache"]["prefetched_bytes"] > 0);
}

TEST_CASE("a cache warmed by the steps before a run hits as often as one that ran them", "[regress][simulate]") {
  const Folder folder;
  const auto cache_of = [&](const std::string& name, const std::string& steps, const std::string& start) {
    const std::string chip = offloading_chip(folder, name, "start: cold", "start: " + start);
    const Outcome outcome = run_program("simulate --chip " + chip + " --workload " +
                                        workload(folder, "requests: [0]\nsteps: " + steps + "\nlayers: [1, 3]\n") +
                                        " --plan int3 --engine fast --no-data --out " + folder.file("run_" + name));
    INFO(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return summary(folder, "run_" + name)["cache"];
  };
  const json first = cache_of("first", "[1, 2, 3]", "cold"), second = cache_of("second", "[4, 5, 6]", "{replay: 3}"),
             whole = cache_of("whole", "[1, 2, 3, 4, 5, 6]", "cold"), cold = cache_of("cold", "[4, 5, 6]", "cold"),
             prefilled = cache_of("prefilled", "[1, 2, 3]", "{replay: 1}");
  CHECK(number(first["hits"]) + number(second["hits"]) == number(whole["hits"]));
  CHECK(number(first["loaded_bytes"]) + number(second["loaded_bytes"]) == number(whole["loaded_bytes"]));
  CHECK(number(second["hits"]) > number(cold["hits"]));
  CHECK(second["start"] == "replay: 3 steps of the trace before the run went through the cache, 6 experts are there");
  CHECK(prefilled["start"] == "replay: 1 step of the trace before the run went through the cache, 6 experts are there");
  // Full, but for holes that no plane fits into.
  CHECK(number(second["warm_bytes"]) <= number(second["capacity_bytes"]));
  CHECK(number(second["warm_bytes"]) > number(second["capacity_bytes"]) * 5 / 6);
}
