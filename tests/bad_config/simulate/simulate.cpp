// What `moesaic simulate` refuses: one line, exit code 2, and no folder.
#include <catch2/catch.hpp>
#include <filesystem>
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
  CHECK(refusal(folder, arguments) == "moesaic: --seed: got one, expected a number\n");
  arguments.more = "--seed 1 --seed 2";
  CHECK(refusal(folder, arguments) == "moesaic: --seed: got it 2 times, expected it once\n");
  arguments.more = "--threads 5000";
  CHECK(refusal(folder, arguments) == "moesaic: --threads: got 5000, expected a number from 0 to 1024\n");
  arguments.more = "--sede 1";
  CHECK(refusal(folder, arguments).find("expected none of that") != std::string::npos);
  arguments.more = "--plan";
  CHECK(refusal(folder, arguments) == "moesaic: --plan: got nothing, expected PLAN|FORMAT\n");
  CHECK(run_program("simulate").err == "moesaic: --chip: got nothing, expected a value\n");
  CHECK(run_program("profile --per all --chip a --workload b").err ==
        "moesaic: --per: got all, expected one of expert,projection\n");
  for (const std::string seed : {"-5", "010", "0x10", "18446744073709551616"}) {
    arguments.more = "--seed " + seed;
    CHECK(refusal(folder, arguments) ==
          "moesaic simulate: --seed: got " + seed + ", expected a whole number from 0 on\n");
  }
  arguments.more = "--plan ''";
  CHECK(refusal(folder, arguments) == "moesaic simulate: --plan: got nothing, expected a value, or not the option\n");
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
    CHECK(outcome.err.find(out + ": --out: got ") == 0);
  }
}

TEST_CASE("simulate refuses to replace the folder it runs in, or one around it, and leaves it",
          "[bad_config][simulate]") {
  const Folder folder;
  const std::string here = std::filesystem::current_path().string();
  base::write_file(folder.file("summary.json"), "{}");
  std::filesystem::create_directory_symlink(folder.path(), folder.file("link"));
  for (const char* out : {".", "../$(basename $PWD)", "link", "link/"}) {
    const std::string command = "cd " + folder.path() + " && " + MOESAIC_PROGRAM + " simulate --chip " + here +
                                "/chips/demo.yaml --workload " + here + "/configs/demo_workload.yaml --out " + out +
                                " 2>" + folder.file("../moesaic_err_") + "$$; code=$?; rm -f " +
                                folder.file("../moesaic_err_") + "$$; exit $code";
    INFO(out);
    CHECK(WEXITSTATUS(std::system(command.c_str())) == 2);
    CHECK(base::read_file(folder.file("summary.json")) == "{}");
  }
}

TEST_CASE("a link to a run stays a link, whichever way it is written", "[bad_config][simulate]") {
  const Folder folder;
  std::filesystem::create_directory_symlink("run", folder.file("link"));
  for (const char* out : {"run", "link", "link/"}) {
    INFO(out);
    REQUIRE(run_program(
                "simulate --engine fast --no-data --chip chips/demo.yaml --workload configs/demo_workload.yaml --out " +
                folder.file(out))
                .exit_code == 0);
    CHECK(std::filesystem::is_symlink(folder.file("link")));
    CHECK(std::filesystem::exists(folder.file("run/summary.json")));
  }
}

TEST_CASE("what does not fit into the addresses of a core is refused", "[bad_config][simulate]") {
  const Folder folder;
  Arguments arguments;
  arguments.chip = folder.file("chip.yaml");
  base::write_file(arguments.chip, base::read_file("chips/demo.yaml") +
                                       "storage: {kind: nvme, preset: nvme-pcie4x4}\n"
                                       "cache: {policy: lru, capacity_bytes: 1099511627776, load_order: fifo, "
                                       "decision_cycles: 10, prefetch: {kind: none}, start: cold}\n");
  arguments.more = "--engine fast --no-data --plan int2";
  CHECK_THAT(refusal(folder, arguments),
             Catch::Contains("expected at most 1099511627776: a core's addresses have 40 bits"));
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

TEST_CASE("simulate refuses units, numbers and keys that a storage and a cache do not have", "[bad_config][simulate]") {
  const Folder folder;
  Arguments arguments;
  arguments.chip = folder.file("chip.yaml");
  const std::string lines =
      "storage: {kind: nvme, preset: nvme-pcie4x4, latency_ns: 4000, bytes_per_second: 7000000000}\n"
      "cache: {policy: lru, capacity_experts: 4, load_order: hebf, decision_cycles: 10, prefetch: {kind: none}, start: "
      "cold}\n";
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = lines;
    text.replace(text.find(from), from.size(), to);
    base::write_file(arguments.chip, base::read_file("chips/demo.yaml") + text);
    return refusal(folder, arguments);
  };
  const std::string at = arguments.chip + ":",
                    unknown = ": got an unknown key, expected only keys that mean something here\n";
  CHECK(with("latency_ns: 4000", "latency_us: 4") == at + "11: storage.latency_us" + unknown);
  CHECK(with("latency_ns: 4000", "latency_ns: 4us") ==
        at + "11: storage.latency_ns: got 4us, expected an integer from 0 to 1000000000\n");
  CHECK(with("latency_ns: 4000", "latency_ns: -1") ==
        at + "11: storage.latency_ns: got -1, expected an integer from 0 to 1000000000\n");
  CHECK(with("7000000000", "0") ==
        at + "11: storage.bytes_per_second: got 0, expected an integer from 1 to 1000000000000000\n");
  CHECK(with("7000000000", "7GB").find(at + "11: storage.bytes_per_second: got 7GB, expected an integer ") == 0);
  CHECK(with("kind: nvme, ", "") == at + "11: storage.kind: got nothing, expected this key\n");
  CHECK(with("capacity_experts: 4", "capacity_gib: 4") ==
        at + "12: cache.capacity_experts: got nothing, expected this key\n");
  CHECK(with("capacity_experts: 4", "capacity_bytes: 8GB").find(at + "12: cache.capacity_bytes: got 8GB, ") == 0);
  CHECK(with("decision_cycles: 10", "decision_cycles: 10us") ==
        at + "12: cache.decision_cycles: got 10us, expected an integer from 0 to 1000000000\n");
  CHECK(with("{kind: none}", "none") == at + "12: cache.prefetch: got none, expected a map\n");
  CHECK(with("start: cold", "start: cold, warm: 3") == at + "12: cache.warm" + unknown);
}

TEST_CASE("simulate refuses stated costs that are none", "[bad_config][simulate]") {
  const Folder folder;
  Arguments arguments;
  arguments.chip = folder.file("chip.yaml");
  const std::string lines =
      "stated_costs:\n  norm: {cycles: 20, elements_per_cycle: 8}\n  router: {cycles: 40, macs_per_cycle: 256}\n"
      "  softmax: {cycles: 20, scores_per_cycle: 8}\n";
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = lines;
    text.replace(text.find(from), from.size(), to);
    base::write_file(arguments.chip, base::read_file("chips/demo.yaml") + text);
    return refusal(folder, arguments);
  };
  const std::string at = arguments.chip + ":";
  CHECK(with("elements_per_cycle: 8", "elements_per_cycle: 0") ==
        at + "12: stated_costs.norm.elements_per_cycle: got 0, expected an integer from 1 to 1073741824\n");
  CHECK(with("cycles: 20, e", "cycles: -1, e") ==
        at + "12: stated_costs.norm.cycles: got -1, expected an integer from 0 to 1073741824\n");
  CHECK(with("cycles: 40", "cycles: 40 ns") ==
        at + "13: stated_costs.router.cycles: got 40 ns, expected an integer from 0 to 1073741824\n");
  CHECK(with("elements_per_cycle", "elements_per_us") ==
        at + "12: stated_costs.norm.elements_per_cycle: got nothing, expected this key\n");
  CHECK(with("softmax:", "sofmax:") == at + "11: stated_costs.softmax: got nothing, expected this key\n");
  CHECK(with("stated_costs:\n", "stated_costs:\n  dma: {cycles: 1}\n") ==
        at + "12: stated_costs.dma: got an unknown key, expected only keys that mean something here\n");
  CHECK(with(lines, "stated_costs: 5\n") == at + "11: stated_costs: got 5, expected a map\n");
}

TEST_CASE("simulate refuses whole layers and batches that cannot be", "[bad_config][simulate]") {
  const Folder folder;
  const std::string root = std::filesystem::current_path().string();
  Arguments arguments;
  arguments.workload = folder.file("w.yaml");
  const auto with = [&](const std::string& line) {
    base::write_file(arguments.workload, "model: " + root + "/data/model\ntrace: " + root +
                                             "/data/traces/evaluation.csv.gz\nrequests: [0]\nmax_tokens: 2\n" + line +
                                             "\n");
    return refusal(folder, arguments);
  };
  const std::string at = arguments.workload + ":5: ",
                    unknown = ": got an unknown key, expected only keys that mean something here\n";
  CHECK(with("whole_layers: {shared_experts: int4}") ==
        at + "whole_layers.shared_experts: got it with model, expected a network with shared experts\n");
  CHECK(with("whole_layers: {dense_layers: int4}") ==
        at + "whole_layers.dense_layers: got it with model, expected a network with layers without experts\n");
  CHECK(with("whole_layers: {attention: int9}").find(at + "whole_layers.attention: got 'int9', expected int1 to ") ==
        0);
  CHECK(with("whole_layers: {}").find(at + "whole_layers: got an empty map, expected shared_experts, ") == 0);
  CHECK(with("whole_layers: {atention: int4}") == at + "whole_layers.atention" + unknown);
  CHECK(with("whole_layers: int4") == at + "whole_layers: got int4, expected a map\n");
  CHECK(with("whole_layers: {head: int4}") ==
        "chips/demo.yaml: stated_costs: got nothing, expected costs of norm, router and softmax, as the workload has "
        "whole_layers\n");
  CHECK(with("continuous_batching: {max_requests: 0}") ==
        at + "continuous_batching.max_requests: got 0, expected an integer from 1 to 1048576\n");
  CHECK(with("continuous_batching: {max_request: 2}") ==
        at + "continuous_batching.max_requests: got nothing, expected this key\n");
  CHECK(with("continuous_batching: {max_requests: 2, chunk: 4}") == at + "continuous_batching.chunk" + unknown);
  CHECK(with("continuous_batching: {max_requests: 2}\nbatch_requests: 2") ==
        at + "continuous_batching: got a map, expected either continuous_batching or batch_requests\n");
  CHECK(with("layers: [4]") == at + "layers[0]: got 4, expected an integer from 0 to 3\n");
}

TEST_CASE("a config.json, or a folder with nothing else, is simulated by its shapes", "[bad_config][simulate]") {
  const Folder folder;
  const std::string root = std::filesystem::current_path().string();
  std::filesystem::create_directory(folder.file("shapes"));
  std::filesystem::copy(root + "/data/model/config.json", folder.file("shapes"));
  const auto arguments = [&](const std::string& model, const std::string& out) {
    base::write_file(folder.file(out + ".yaml"), "model: " + model + "\ntrace: " + root +
                                                     "/data/traces/evaluation.csv.gz\nrequests: [0]\nmax_tokens: 2\n");
    Arguments all;
    all.workload = folder.file(out + ".yaml");
    return all;
  };
  const auto layers = [&](const std::string& model, const std::string& out) {
    const Outcome outcome = run_program("simulate --engine fast --no-data --chip chips/demo.yaml --workload " +
                                        arguments(model, out).workload + " --out " + folder.file(out));
    CAPTURE(model, outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return base::read_file(folder.file(out + "/layers.csv"));
  };
  const std::string of_model = layers(root + "/data/model", "of_model");
  CHECK(layers("shapes", "of_folder") == of_model);
  CHECK(layers("shapes/config.json", "of_config") == of_model);
  // A checkpoint that there is no forward pass for. A plan may be bound to it.
  std::filesystem::create_directory(folder.file("olmoe"));
  std::filesystem::copy(root + "/data/model/model.safetensors", folder.file("olmoe"));
  std::string config = base::read_file(root + "/data/model/config.json");
  for (const auto& [was, is] :
       {std::pair("\"mixtral\"", "\"olmoe\", \"norm_topk_prob\": true"), std::pair("num_local_experts", "num_experts")})
    config.replace(config.find(was), std::string(was).size(), is);
  base::write_file(folder.file("olmoe/config.json"), config);
  CHECK(layers("olmoe", "of_olmoe") == of_model);
  CHECK_THAT(base::read_file(folder.file("of_olmoe/summary.json")), !Catch::Contains("\"model_sha256\": null"));
  // And one that is quantised already.
  std::filesystem::create_directory(folder.file("quantised"));
  std::filesystem::copy(root + "/data/model/model.safetensors", folder.file("quantised"));
  config = base::read_file(root + "/data/model/config.json");
  config.insert(config.find('{') + 1, "\"quantization_config\": {\"quant_method\": \"gptq\"},");
  base::write_file(folder.file("quantised/config.json"), config);
  CHECK(layers("quantised", "of_quantised") == of_model);
  CHECK_THAT(refusal(folder, arguments("quantised", "quantised_whole")),
             Catch::Contains("quantised/config.json:1: quantization_config: got gptq, expected none"));
  CHECK_THAT(refusal(folder, arguments("olmoe", "olmoe_whole")),
             Catch::Contains("olmoe/config.json: model_type: got olmoe, expected mixtral"));
  CHECK(refusal(folder, arguments("shapes", "whole")) ==
        folder.file("shapes") +
            ": weights: got nothing, expected model.safetensors or model.safetensors.index.json, or --no-data\n");
  CHECK(refusal(folder, arguments("none/config.json", "none")) ==
        folder.file("none.yaml") + ":1: model: got none/config.json, expected an existing file (" +
            folder.file("none/config.json") + " is none)\n");
}

TEST_CASE("simulate refuses a trace that is cut off, and one of another network", "[bad_config][simulate]") {
  const Folder folder;
  const std::string root = std::filesystem::current_path().string(),
                    header = "request,step,phase,position,layer,experts,weights\n";
  Arguments arguments;
  arguments.workload = folder.file("w.yaml");
  const auto with = [&](const std::string& name, const std::string& text, const std::string& line = "") {
    base::write_file(folder.file(name), text);
    base::write_file(arguments.workload, "model: " + root + "/data/model\ntrace: " + name + "\n" + line);
    return refusal(folder, arguments);
  };
  CHECK(with("cut.csv.gz", base::read_file("data/traces/evaluation.csv.gz").substr(0, 3000))
            .find(folder.file("cut.csv.gz") + ":1: archive: got damaged or truncated data") == 0);
  CHECK(with("cut.csv", header + "0,0,prefill,0,0,1;2,0.5;0.5\n0,0,prefil")
            .find(folder.file("cut.csv") + ":3: line: got the end of the file inside it") == 0);
  CHECK(with("longer.csv", header + "0,0,prefill,0,4,1;2,0.5;0.5\n") ==
        folder.file("longer.csv") + ":2: layer: got 4, expected less than 4, the layers of model\n");
  CHECK(with("expert.csv", header + "0,0,prefill,0,0,1;8,0.5;0.5\n") ==
        folder.file("expert.csv") + ":2: experts: got 8, expected less than 8, the experts of model\n");
  CHECK(with("when.csv", header + "0,0,prefill,0,0,1;2,0.5;0.5\n", "continuous_batching: {max_requests: 2}\n") ==
        folder.file("when.csv") +
            ": arrival_us: got no such column, expected when each request arrives, as the workload has "
            "continuous_batching\n");
}

TEST_CASE("simulate refuses barriers, and profile anything, where experts lie in a storage", "[bad_config][simulate]") {
  const Folder folder;
  Arguments arguments;
  arguments.chip = folder.file("chip.yaml");
  arguments.more = "--engine fast --barriers";
  base::write_file(arguments.chip,
                   base::read_file("chips/demo.yaml") +
                       "storage: {kind: nvme, preset: nvme-pcie4x4}\n"
                       "cache: {policy: lru, capacity_experts: 4, load_order: hebf, decision_cycles: 1, prefetch: "
                       "{kind: none}, start: cold}\n");
  CHECK(refusal(folder, arguments) ==
        "moesaic simulate: --barriers: got a chip with a storage, expected one without\n");
  const Outcome profile =
      run_program("profile --no-cache --formats int2 --workload " + arguments.workload + " --chip " + arguments.chip);
  CHECK(profile.exit_code == 2);
  CHECK(profile.one_error_line());
  CHECK_THAT(profile.err,
             Catch::StartsWith(arguments.chip +
                               ": storage: got experts that come from it while the chip runs, expected none"));
}
