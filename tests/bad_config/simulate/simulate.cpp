// What `moesaic simulate` refuses: one line, exit code 2, and no folder.
#include <catch2/catch.hpp>
#include <string>

#include "tests/bad_config/cli/run_program.h"

using namespace moesaic;
using moesaic::testing::Folder;
using moesaic::testing::Outcome;
using moesaic::testing::run_program;

namespace {

struct Arguments {
  std::string chip = "chips/demo.yaml";
  std::string workload = "configs/demo_workload.yaml";
  std::string more;
};

/// The error line; checks what must hold of every refusal.
std::string refusal(const Folder& folder, const Arguments& arguments) {
  const Outcome outcome = run_program("simulate --chip " + arguments.chip + " --workload " + arguments.workload +
                                      " --out " + folder.file("run") + " " + arguments.more);
  CHECK(outcome.exit_code == 2);
  CHECK(outcome.out == "");
  CHECK(outcome.one_error_line());
  CHECK_FALSE(folder.has("run"));
  return outcome.err;
}

}  // namespace

TEST_CASE("simulate refuses a chip that is none", "[bad_config][simulate]") {
  const Folder folder;
  Arguments arguments;
  arguments.chip = folder.file("chip.yaml");
  CHECK(refusal(folder, arguments).find(arguments.chip) == 0);
  std::string text = base::read_file("chips/demo.yaml");
  text.replace(text.find("rows: 16"), 8, "rows: 0");
  base::write_file(arguments.chip, text);
  CHECK(refusal(folder, arguments) == arguments.chip + ":5: array.rows: got 0, expected a power of two in [4, 64]\n");
  base::write_file(arguments.chip, base::read_file("chips/demo.yaml") + "dram: {kind: ddr5}\n");
  CHECK(refusal(folder, arguments).find(arguments.chip + ":11: dram: ") == 0);
}

TEST_CASE("simulate refuses a DRAM that cannot be, and one that does not hold the workload", "[bad_config][simulate]") {
  const Folder folder;
  Arguments arguments;
  arguments.chip = folder.file("chip.yaml");
  const std::string text = base::read_file("chips/r16c16p2a8-ddr5.yaml");
  const auto with = [&](const std::string& more) {
    std::string chip = text;
    chip.insert(chip.find("}\n", chip.find("memory:")), more);
    base::write_file(arguments.chip, chip);
    return refusal(folder, arguments);
  };
  CHECK(with(", timing: {tREFI: 900}") ==
        arguments.chip + ":9: memory.timing.tREFI: got 900, expected at least tRFC + 1 = 945\n");
  CHECK(with(", banks: 0") == arguments.chip + ":9: memory.banks: got 0, expected a power of two in [1, 8]\n");
  CHECK(with(", rows: 1")
            .find(arguments.chip + ": memory: got a capacity of 262144 bytes, expected at least the " +
                  "workload's ") == 0);
}

TEST_CASE("simulate refuses an array that has no RTL and lists the builds", "[bad_config][simulate]") {
  const Folder folder;
  Arguments arguments;
  arguments.chip = "chips/large-64x64.yaml";
  arguments.more = "--engine rtl";
  const std::string line = refusal(folder, arguments);
  CHECK(line.find("chips/large-64x64.yaml") == 0);
  for (const char* build : {"r4c4p1a8", "r8c8p2a16", "r32c32p2a8"}) CHECK(line.find(build) != std::string::npos);
}

TEST_CASE("simulate refuses an engine, a plan and a seed that do not exist", "[bad_config][simulate]") {
  const Folder folder;
  Arguments arguments;
  arguments.more = "--engine faster";
  CHECK(refusal(folder, arguments).find("fast, cycle, rtl") != std::string::npos);
  for (const std::string option : {"--no-data", "--no-shortcuts"}) {
    arguments.more = "--engine cycle " + option;
    CHECK(refusal(folder, arguments) ==
          "moesaic simulate: " + option + ": got --engine cycle, expected --engine fast with it\n");
  }
  arguments.more = "--plan int9";
  CHECK(refusal(folder, arguments).find("int9") != std::string::npos);
  arguments.more = "--seed one";
  CHECK(refusal(folder, arguments).find("--seed") != std::string::npos);
}

TEST_CASE("simulate refuses a plan for another model", "[bad_config][simulate]") {
  const Folder folder;
  std::string plan = "plan_version: 1\nmade_from:\n  checkpoint: " + std::string(64, 'a') +
                     "\ngroup_size: 64\nmemory_bytes: 1\nloss: 0\nexperts:\n";
  for (int layer = 0; layer < 4; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      plan +=
          "  - {layer: " + std::to_string(layer) + ", expert: " + std::to_string(expert) + ", format: int, bits: 3}\n";
  base::write_file(folder.file("plan.yaml"), plan);
  Arguments arguments;
  arguments.more = "--plan " + folder.file("plan.yaml");
  CHECK(refusal(folder, arguments).find(folder.file("plan.yaml")) == 0);
}

TEST_CASE("simulate refuses a folder it cannot make before it works", "[bad_config][simulate]") {
  const Folder folder;
  const std::string common = "simulate --chip chips/demo.yaml --workload configs/demo_workload.yaml --out ";
  for (const std::string& out : {std::string("/dev/full"), folder.file("missing/run"), std::string("/proc/run")}) {
    const Outcome outcome = run_program(common + out);
    INFO(out);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.one_error_line());
    CHECK(outcome.err.find("--out") != std::string::npos);
  }
}

TEST_CASE("simulate refuses activations wider than the array's", "[bad_config][simulate]") {
  const Folder folder;
  Arguments arguments;
  arguments.chip = "chips/r4c8p4a4.yaml";
  CHECK(refusal(folder, arguments) ==
        "chips/r4c8p4a4.yaml: array.max_act_bits: got 4, expected at least 8, the activations' bits\n");
}

TEST_CASE("simulate refuses a storage and a cache that cannot be", "[bad_config][simulate]") {
  const Folder folder;
  Arguments arguments;
  arguments.chip = folder.file("chip.yaml");
  const std::string storage = "storage: {kind: nvme, preset: nvme-pcie4x4}\n";
  const std::string cache =
      "cache: {policy: lru, capacity_experts: 4, load_order: hebf, decision_cycles: 10, prefetch: {kind: none}, start: "
      "cold}\n";
  const auto with = [&](const std::string& lines) {
    base::write_file(arguments.chip, base::read_file("chips/demo.yaml") + lines);
    return refusal(folder, arguments);
  };
  const auto cached = [&](const std::string& from, const std::string& to) {
    std::string text = cache;
    text.replace(text.find(from), from.size(), to);
    return with(storage + text);
  };
  const std::string at = arguments.chip + ":";
  CHECK(with(storage).find(at + "11: storage: ") == 0);
  CHECK(with(cache).find(at + "11: cache: ") == 0);
  CHECK(with("storage: {kind: nvme, preset: nvme-pcie4x4, queue_depth: 0}\n" + cache) ==
        at + "11: storage.queue_depth: got 0, expected an integer from 1 to 65536\n");
  CHECK(with("storage: {kind: nvme, preset: ufs4}\n" + cache).find(at + "11: storage.preset: ") == 0);
  CHECK(cached("lru", "mru") == at + "12: cache.policy: got 'mru', expected one of lru, lfu, belady, pinned, planes\n");
  CHECK(cached("hebf", "hottest") ==
        at + "12: cache.load_order: got 'hottest', expected one of fifo, expert_index, hebf\n");
  CHECK(cached("{kind: none}", "{kind: oracle}").find(at + "12: cache.prefetch.kind: got 'oracle', expected one of ") ==
        0);
  CHECK(cached("{kind: none}", "{kind: next_layer, recall: 2, precision: 1, seed: 1}")
            .find(at + "12: cache.prefetch.recall: got 2, ") == 0);
  CHECK(cached("{kind: none}", "{kind: none, recall: 1}").find(at + "12: cache.prefetch.recall: ") == 0);
  CHECK(cached("capacity_experts: 4", "capacity_bytes: 10000")
            .find(at + "12: cache.capacity_bytes: got 10000, expected at least ") == 0);
  CHECK(cached("capacity_experts: 4", "capacity_experts: 0").find(at + "12: cache.capacity_experts: got 0") == 0);
  CHECK(cached("capacity_experts: 4", "capacity_experts: 4, capacity_bytes: 400000").find(at + "12: cache.") == 0);
  CHECK(cached(", start: cold", "").find("cache.start") != std::string::npos);
  CHECK(cached("cold", "warm") == at + "12: cache.start: got warm, expected cold, popular or {replay: STEPS}\n");
  CHECK(cached("cold", "{replay: 0}") ==
        at + "12: cache.start.replay: got 0, expected an integer from 1 to 1000000000\n");
  CHECK(cached("cold", "{replay: 2, policy: lru}").find(at + "12: cache.start.policy: ") == 0);
  CHECK(
      cached("cold", "{replay: 2}").find(at + "12: cache.start.replay: got 2, expected at most 0: so many steps of ") ==
      0);
}
