// sim/run/drawn_workload, run_files: what is drawn is read by those that read chips and workloads, and is what it has
// to be; a difference of two files is named.
#include "sim/run/drawn_workload.h"

#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "base/atomic_file.h"
#include "sim/program/chip.h"
#include "sim/run/run_files.h"
#include "sim/run/run_inputs.h"
#include "sim/run/streamed_program.h"
#include "tests/temporary_folder.h"
#include "workloads/workload_file.h"

using namespace moesaic;
using nlohmann::json;

namespace {

struct Drawn {
  explicit Drawn(std::uint64_t index) : drawn(run::draw_workload(3, index)) {
    chip = json::parse(drawn.chip);
    network = json::parse(drawn.network);
    workload = json::parse(drawn.workload);
  }
  bool is_dram() const { return chip["memory"]["kind"] == "dram"; }
  /// The DRAM's tREFI in its own preset's place.
  std::string preset() const { return is_dram() ? chip["memory"]["preset"].get<std::string>() : ""; }
  bool has_refresh() const { return chip["memory"].contains("timing") && chip["memory"]["timing"].contains("tREFI"); }
  json cache(const char* key) const { return chip.contains("cache") ? chip["cache"][key] : json(); }

  run::DrawnWorkload drawn;
  json chip, network, workload;
};

}  // namespace

TEST_CASE("a drawn workload is its seed's and number's, and no other's", "[unit][run]") {
  const run::DrawnWorkload one = run::draw_workload(3, 5), again = run::draw_workload(3, 5);
  CHECK(one.chip == again.chip);
  CHECK(one.network == again.network);
  CHECK(one.workload == again.workload);
  CHECK(one.plan == again.plan);
  CHECK(one.trace.seed == again.trace.seed);
  CHECK(one.text == again.text);
  CHECK(run::draw_workload(3, 6).chip != one.chip);
  CHECK(run::draw_workload(4, 5).chip != one.chip);
}

TEST_CASE("every drawn chip and workload is read and lowered", "[unit][run]") {
  for (std::uint64_t i = 0; i < 400; ++i) {
    const run::DrawnWorkload drawn = run::draw_workload(3, i);
    INFO(i << ": " << drawn.text);
    REQUIRE_NOTHROW(program::parse_chip(drawn.chip, "chip.yaml"));
    if (i % 8 != 0) continue;
    const tests::TemporaryFolder folder;
    run::write_files(drawn, folder.path());
    const program::Chip chip = program::read_chip(folder.file("chip.yaml"));
    const workloads::WorkloadFile workload = workloads::read_workload(folder.file("workload.yaml"));
    if (workload.continuous_requests) continue;  // has no steps before it ran
    run::InputOptions options;
    options.plan = drawn.plan;
    options.weights = false;
    const run::RunInputs inputs = run::open_inputs(workload, options);
    run::LowerChoices choices;
    choices.data = false;
    choices.barriers = drawn.barriers;
    run::StreamedProgram program(workload, inputs, chip, choices);
    CHECK_FALSE(program.phase(0).jobs.empty());
    CHECK(base::read_file(folder.file("run.txt")).find("--plan " + drawn.plan) != std::string::npos);
  }
}

TEST_CASE("what long random runs once found a defect with is among what is drawn", "[unit][run]") {
  // By name: how many of the first 4000 have it. The last two are the runs of tests/regress/simulate, but for sizes.
  std::map<std::string, std::function<bool(const Drawn&)>> kinds;
  kinds["refreshes more often than the part's"] = [](const Drawn& d) {
    return d.has_refresh() && d.chip["memory"]["timing"]["tREFI"] < 3000;
  };
  kinds["simple memory"] = [](const Drawn& d) { return !d.is_dram(); };
  kinds["rows below columns"] = [](const Drawn& d) {
    return d.chip["memory"].value("mapping", "").rfind("row:column", 0) == 0;
  };
  kinds["an odd clock"] = [](const Drawn& d) { return d.chip.contains("clock_period_fs"); };
  kinds["a beat of 64 bytes"] = [](const Drawn& d) { return d.chip["axi_data_bits"] == 512; };
  kinds["128 tokens a command"] = [](const Drawn& d) {
    return d.chip["buffers"]["max_tokens"] == 128 && d.drawn.trace.prompt_tokens > 128;
  };
  kinds["barriers"] = [](const Drawn& d) { return d.drawn.barriers; };
  kinds["continuous batching"] = [](const Drawn& d) { return d.workload.contains("continuous_batching"); };
  kinds["levels"] = [](const Drawn& d) { return !d.drawn.trace.levels.empty(); };
  kinds["routing rules"] = [](const Drawn& d) { return d.workload.contains("routing"); };
  kinds["four-bit activations"] = [](const Drawn& d) { return d.workload.contains("act_bits"); };
  kinds["several formats"] = [](const Drawn& d) { return d.drawn.plan.find('+') != std::string::npos; };
  kinds["steps before the run"] = [](const Drawn& d) { return d.cache("start").is_object(); };
  kinds["latent attention"] = [](const Drawn& d) {
    return d.network.contains("latent_attention") && d.workload.contains("whole_layers") &&
           d.workload["whole_layers"].contains("attention");
  };
  for (const char* policy : {"lru", "lfu", "planes", "belady", "pinned"})
    kinds[policy] = [policy](const Drawn& d) { return d.cache("policy") == policy; };
  for (const char* layout : {"interleaved", "tile_major", "plane_major"})
    kinds[layout] = [layout](const Drawn& d) { return d.chip["layout"] == layout; };
  for (const char* preset : {"ddr5-6400", "lpddr5-6400", "lpddr5x-8533", "hbm2e-3200", "hbm3-6400", "gddr6-16000"})
    kinds[preset] = [preset](const Drawn& d) { return d.preset() == preset; };
  kinds["closed banks"] = [](const Drawn& d) {
    return d.chip["layout"] == "plane_major" && d.chip["axi_data_bits"] == 64 && d.has_refresh() &&
           d.cache("prefetch").is_object() && d.cache("prefetch")["kind"] == "perfect";
  };
  kinds["long segments"] = [](const Drawn& d) {
    return d.chip["layout"] == "tile_major" && d.chip["axi_data_bits"] == 64 && d.is_dram() &&
           d.workload.contains("batch_requests") && d.workload.contains("whole_layers") &&
           d.workload["whole_layers"].contains("attention") && d.chip.contains("cache");
  };
  std::map<std::string, int> counts;
  for (std::uint64_t i = 0; i < 4000; ++i) {
    const Drawn drawn(i);
    for (const auto& [name, is] : kinds) counts[name] += is(drawn) ? 1 : 0;
  }
  for (const auto& [name, is] : kinds) {
    INFO(name);
    CHECK(counts[name] >= 4);
  }
}

TEST_CASE("the first difference of two files is named with its line, its column and both values", "[unit][run]") {
  const auto difference = [](const std::string& name, const std::string& a, const std::string& b) {
    return run::first_text_difference(name, a, b, "left", "right");
  };
  CHECK(difference("x.csv", "a,b\n1,2\n", "a,b\n1,2\n").empty());
  CHECK(difference("x.csv", "layer,cycles,rows\n1,22,3\n4,55,6\n", "layer,cycles,rows\n1,22,3\n4,57,6\n") ==
        "x.csv:3: cycles: left `55`, right `57`");
  CHECK(difference("x.csv", "layer,cycles\n1,2\n", "layer,cycles\n1,23\n") == "x.csv:2: cycles: left `2`, right `23`");
  CHECK(difference("x.csv", "layer\n1\n", "layer\n1\n2\n") == "x.csv:3: layer: left ``, right `2`");
  CHECK(difference("x.csv", "a\n", "b\n") == "x.csv:1: left `a`, right `b`");
  CHECK(difference("x.json", "{\n  \"cycles\": 5,\n}", "{\n  \"cycles\": 6,\n}") ==
        "x.json:2: left `\"cycles\": 5,`, right `\"cycles\": 6,`");
  const std::string before(100, '.'), behind(200, '-');
  CHECK(difference("x.json", before + "1" + behind, before + "2" + behind) ==
        "x.json:1: left `..." + std::string(60, '.') + "1" + std::string(59, '-') + "...`, right `..." +
            std::string(60, '.') + "2" + std::string(59, '-') + "...`");
}
