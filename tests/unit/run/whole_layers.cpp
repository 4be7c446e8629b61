// sim/run/whole_layers: shared and dense experts, attention and head of a workload, executed and held to the reference.
#include <array>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/atomic_file.h"
#include "base/error.h"
#include "sim/program/interpreter.h"
#include "sim/run/run_inputs.h"
#include "sim/run/summary.h"
#include "sim/run/timeline.h"
#include "tests/temporary_folder.h"
#include "tests/unit/run/tiny_shape.h"
#include "tests/unit/run/told_run.h"

using namespace moesaic;
using program::Part;

namespace {

const char* const kLatent = "latent_attention: {q_rank: 12, kv_rank: 24, nope_dim: 8, rope_dim: 4}\n";

struct Folder : tests::TemporaryFolder {
  /// Two requests of 70 and 3 tokens, and two decode steps of each, in one batch.
  workloads::WorkloadFile workload(const std::string& shape, const std::string& lines) const {
    base::write_file(file("tiny.yaml"), shape);
    std::string rows = "request,step,phase,position,layer,experts,weights\n";
    const auto add = [&rows](int request, int step, int position) {
      for (const int layer : {1, 2})
        rows += std::to_string(request) + "," + std::to_string(step) + (step == 0 ? ",prefill," : ",decode,") +
                std::to_string(position) + "," + std::to_string(layer) + "," + std::to_string((position + layer) % 4) +
                ";" + std::to_string((position + layer + 1 + request) % 4) + ",0.6;0.4\n";
    };
    for (int position = 0; position < 70; ++position) add(0, 0, position);
    for (int position = 0; position < 3; ++position) add(1, 0, position);
    for (int step = 1; step < 3; ++step) {
      add(0, step, 69 + step);
      add(1, step, 2 + step);
    }
    base::write_file(file("t.csv"), rows);
    base::write_file(file("w.yaml"), "model: tiny.yaml\ntrace: t.csv\nbatch_requests: 2\n" + lines);
    return workloads::read_workload(file("w.yaml"));
  }
};

program::CoreParams small_core() {
  program::CoreParams core;
  core.rows = 8;
  core.cols = 8;
  core.max_tokens = 4;
  core.act_depth = 32;
  core.hidden_depth = 64;
  return core;
}

std::vector<std::string> products_of(const program::LayerRows& rows) {
  std::vector<std::string> names;
  for (const program::Product& product : rows.products)
    names.push_back(product.name + (product.of.empty() ? "" : " of " + product.of));
  return names;
}

}  // namespace

TEST_CASE("a layer is projections, scores, values and experts, a step ends with the head, and all equals the reference",
          "[unit][run]") {
  const Folder folder;
  for (const bool latent : {false, true}) {
    const auto workload =
        folder.workload(latent ? std::string(tests::kTinyShape) + kLatent : tests::kTinyShape, tests::kTinyWholeLayers);
    const run::RunInputs inputs = run::gather_inputs(workload, {});
    REQUIRE(inputs.steps.size() == 3);
    REQUIRE(inputs.layers.size() == 3 * (3 * 4 + 1));
    const std::vector<Part> parts{Part::kProjections, Part::kScores, Part::kValues, Part::kDense,
                                  Part::kProjections, Part::kScores, Part::kValues, Part::kExperts};
    for (std::size_t p = 0; p < parts.size(); ++p) CHECK(inputs.layers[p].part == parts[p]);
    CHECK(inputs.layers[12].part == Part::kHead);
    CHECK(inputs.layers[12].name == "requests 0 and 1 more, step 0, head");
    CHECK(inputs.layers[13].name == "requests 0 and 1 more, step 1, layer 0, projections");

    using Names = std::vector<std::string>;
    CHECK(products_of(inputs.layers[0]) == (latent ? Names{"q_a", "kv_a"} : Names{"q", "k", "v"}));
    CHECK(products_of(inputs.layers[1]) ==
          (latent ? Names{"q_b", "kv_b keys", "scores of request 0", "scores of request 1"}
                  : Names{"scores of request 0", "scores of request 1"}));
    CHECK(products_of(inputs.layers[2]) ==
          (latent ? Names{"values of request 0", "values of request 1", "kv_b values", "o"}
                  : Names{"values of request 0", "values of request 1", "o"}));
    // A decode step of both: request 0 at position 70 reads two pages of its cache, request 1 one.
    const auto& scores = inputs.layers[14].products;
    const std::size_t first = latent ? 2 : 0;
    CHECK(scores[first].n == 128);
    CHECK(scores[first + 1].n == 64);
    CHECK(scores[first].rows == (latent ? 4 : 2));  // all heads on one latent row, or two heads a key-value head
    CHECK(scores[first].k == (latent ? 28 : 16));
    CHECK(inputs.layers[15].products[0].k == 128);
    CHECK(inputs.layers[12].products[0].rows == 2);
    // The shared expert takes every row, at 1.0.
    const program::LayerRows& experts = inputs.layers[7];
    CHECK(experts.top_k == 3);
    CHECK(experts.chosen[2] == 4);
    CHECK(experts.r[2] == 32768);
    CHECK(inputs.shape(1, 4).intermediate == 16);
    CHECK(inputs.shape(0, 5).intermediate == 40);
    CHECK(inputs.shape(0, 5).format == numerics::Format::integer(3));
    CHECK(experts.stated.norm_elements == 73 * 32);
    CHECK(experts.stated.router_macs == 73 * 32 * 4);
    CHECK(inputs.layers[2].stated.softmax_elements == 4 * (70 * 128 + 3 * 64));

    const program::CoreParams core = small_core();
    const numerics::LayoutKind layout = latent ? numerics::LayoutKind::kInterleaved : numerics::LayoutKind::kTileMajor;
    program::RunProgram lowered =
        program::lower_layers(inputs.layers, inputs.weights, core, layout, "chip", inputs.matrices);
    // Weights lie as the chip says; of caches a part may be read, and they are never interleaved.
    std::array<int, 2> products{};  // of weights, of caches
    for (const program::Command& command : lowered.loaded.commands) {
      if (command.opcode != program::Opcode::kMatmul) continue;
      const bool cache = lowered.loaded.image.region_at(command.weight_addr)->kind == program::Kind::kCache;
      REQUIRE(command.interleaved == (latent && !cache));
      ++products.at(cache ? 1 : 0);
    }
    CHECK(products[0] > 0);
    CHECK(products[1] > 0);
    program::Interpreter interpreter(core, lowered.loaded.image);
    interpreter.run(lowered.loaded.commands);
    CHECK_FALSE(interpreter.shift_error());
    for (std::size_t p = 0; p < inputs.layers.size(); ++p) {
      const program::LayerResult expected = program::layer_reference(inputs.layers[p], inputs.weights, inputs.matrices);
      CHECK(expected.values() > 0);
      CHECK(program::first_layer_difference(inputs.layers[p], expected, lowered.phases[p], lowered.loaded.image) == "");
      // Drawn data are worth comparing: results are neither all zero nor saturated.
      for (std::size_t i = 0; i < expected.products.size(); ++i) {
        const int most = inputs.layers[p].products[i].stack.out_bits == 16 ? 32767 : 127;
        std::size_t dull = 0;
        for (const std::int16_t y : expected.products[i]) dull += y == 0 || y >= most || y < -most;
        INFO(inputs.layers[p].name << ", " << inputs.layers[p].products[i].name);
        CHECK(dull < expected.products[i].size() / 3);
      }
    }

    // Without weights the same commands on the same regions.
    run::InputOptions shapes_only;
    shapes_only.weights = false;
    const run::RunInputs shapes = run::gather_inputs(workload, shapes_only);
    const program::RunProgram timing =
        program::lower_layers_without_data(shapes.layers, shapes.shape, core, layout, "chip");
    CHECK(timing.loaded.commands == lowered.loaded.commands);
    CHECK(timing.loaded.image.end() == lowered.loaded.image.end());
  }
}

TEST_CASE("what is not asked for is left out, and what the network lacks is refused", "[unit][bad_config][run]") {
  const Folder folder;
  const auto parts_of = [&](const std::string& lines) {
    std::vector<Part> parts;
    for (const auto& rows : run::gather_inputs(folder.workload(tests::kTinyShape, lines), {}).layers)
      parts.push_back(rows.part);
    return std::vector<Part>(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(parts.size() / 3));
  };
  CHECK(parts_of("") == std::vector<Part>{Part::kExperts, Part::kExperts});
  CHECK(parts_of("whole_layers: {dense_layers: int2}\n") ==
        std::vector<Part>{Part::kDense, Part::kExperts, Part::kExperts});
  CHECK(parts_of("layers: [2]\nwhole_layers: {head: ternary}\n") == std::vector<Part>{Part::kExperts, Part::kHead});

  const auto refusal = [&](const std::string& shape, const std::string& lines) {
    try {
      folder.workload(shape, lines);
    } catch (const base::InputError& error) {
      return std::string(error.what()).substr(folder.path().size() + 1);
    }
    return std::string("accepted");
  };
  std::string plain = tests::kTinyShape;
  plain.replace(plain.find("shared_experts: 1"), 17, "shared_experts: 0");
  plain.replace(plain.find("shared_intermediate: 16"), 23, "shared_intermediate: 0");
  plain.replace(plain.find("dense_first: 1"), 14, "dense_first: 0");
  plain.erase(plain.find("vocab: 50\n"));
  CHECK(refusal(plain, "whole_layers: {shared_experts: int4}\n") ==
        "w.yaml:4: whole_layers.shared_experts: got it with tiny, expected a network with shared experts");
  CHECK(refusal(plain, "whole_layers: {dense_layers: int4}\n") ==
        "w.yaml:4: whole_layers.dense_layers: got it with tiny, expected a network with layers without experts");
  CHECK(refusal(plain, "whole_layers: {head: int4}\n") ==
        "w.yaml:4: whole_layers.head: got it with tiny, expected a network whose file says its vocabulary (vocab)");
  CHECK(refusal(tests::kTinyShape, "whole_layers: {}\n").find("w.yaml:4: whole_layers: got an empty map, expected") ==
        0);
  CHECK(refusal(tests::kTinyShape, "whole_layers: {attention: int9}\n").find("w.yaml:4: whole_layers.attention: got") ==
        0);
  CHECK(refusal(tests::kTinyShape, "whole_layers: {head: int2, router: int8}\n")
            .find("w.yaml:4: whole_layers.router: got") == 0);
  CHECK(refusal(tests::kTinyShape, "layers: [0, 1]\n").find("w.yaml:4: layers: got 0, a layer without experts") == 0);
  CHECK(refusal(tests::kTinyShape, "layers: [0]\nwhole_layers: {attention: int8}\n")
            .find("w.yaml:4: layers: got only layers without experts, expected at least one with experts") == 0);
}

TEST_CASE("a summary's parts and products add up to the run, and the cache's bytes are those of its pages",
          "[unit][run]") {
  const Folder folder;
  const auto workload = folder.workload(tests::kTinyShape, std::string(tests::kTinyWholeLayers) + "steps: [1]\n");
  const run::RunInputs inputs = run::gather_inputs(workload, {});
  const program::Chip chip = program::read_chip("chips/r16c16p2a8.yaml");
  program::RunProgram lowered =
      program::lower_layers(inputs.layers, inputs.weights, chip.core, chip.layout, "chip", inputs.matrices);
  // 2 tokens of 32 elements at 8 a cycle, after 20 cycles; the router's 256 products in one cycle after 40.
  lowered.state_costs(inputs.layers, chip);
  CHECK(lowered.phases[0].after == 28);
  CHECK(lowered.phases[1].after == 0);
  CHECK(lowered.phases[2].after == 20 + 4 * (128 + 64) / 8);
  CHECK(lowered.phases[7].after == 28 + 41);
  CHECK(lowered.timed_phases()[7].after == 28 + 41);
  std::uint64_t stated = 0;
  for (const auto& phase : lowered.phases) stated += phase.after;
  try {
    lowered.state_costs(inputs.layers, program::read_chip("chips/demo.yaml"));
    FAIL("a chip without stated costs was accepted");
  } catch (const base::InputError& error) {
    CHECK(std::string(error.what()) ==
          "chips/demo.yaml: stated_costs: got nothing, expected costs of norm, router and softmax, as the workload has "
          "whole_layers");
  }
  program::EngineRun engine_run;
  engine_run.traffic = program::Traffic(lowered.loaded.image);
  std::uint64_t cache = 0;
  for (const auto& region : lowered.loaded.image.regions()) {
    engine_run.traffic.count(program::MemoryPort::kWeightRead, region.address, region.bytes);
    cache += region.kind == program::Kind::kCache ? region.bytes : 0;
  }
  for (std::size_t i = 0; i < lowered.loaded.commands.size(); ++i) {
    engine_run.retired.push_back(10 * (i + 1));
    engine_run.tags.push_back(i);
  }
  for (std::size_t p = 0; p < lowered.phases.size(); ++p) {
    program::EngineRun::PhaseEnd end;
    end.cycles =
        5 + (p + 1 < lowered.phases.size() ? 10 * lowered.phases[p + 1].first_command : engine_run.retired.back());
    end.commands = p + 1 < lowered.phases.size() ? lowered.phases[p + 1].first_command : engine_run.retired.size();
    auto& host = end.causes[static_cast<std::size_t>(program::Cause::kHost)];
    for (std::size_t q = 0; q <= p; ++q) host += lowered.phases[q].after;
    end.causes[0] = end.cycles - host;
    for (auto& block : end.activity) block[1] = end.cycles;
    engine_run.phase_ends.push_back(end);
  }
  engine_run.cycles = engine_run.phase_ends.back().cycles;
  const tests::ToldRun told(chip, workload, inputs, lowered, engine_run);
  const run::Run& run = told.run;
  const auto j = nlohmann::json::parse(run::summary_json(run));
  std::uint64_t part_cycles = 0, part_adds = 0, layer_parts = 0, product_adds = 0;
  for (const auto& part : j["parts"]) {
    part_cycles += part["cycles"].get<std::uint64_t>();
    part_adds += part["plane_additions"].get<std::uint64_t>();
  }
  for (const auto& layer : j["layers"])
    for (const auto& cycles : layer["cycles_by_part"]) layer_parts += cycles.get<std::uint64_t>();
  for (const auto& product : j["products"]) product_adds += product["plane_additions"].get<std::uint64_t>();
  CHECK(j["parts"].size() == 6);
  CHECK(part_cycles == engine_run.cycles);
  CHECK(layer_parts == engine_run.cycles);
  CHECK(part_adds == j["plane_additions"]);
  // 2 tokens: three layers of attention at int5 (scores and values int8), the head at int2.
  CHECK(product_adds ==
        2ULL * 3 * 5 * (64 * 32 + 2 * 32 * 32 + 32 * 64) + 3ULL * 8 * 4 * 2 * 16 * (128 + 64) + 2ULL * 2 * 50 * 32);
  const auto check_split = [](const nlohmann::json& of) {
    std::uint64_t sum = 0;
    for (const auto& cycles : of["cycles_split"]) sum += cycles.get<std::uint64_t>();
    CHECK(sum == of["cycles"]);
    return of["cycles_split"]["stated"].get<std::uint64_t>();
  };
  std::uint64_t stated_of_layers = 0, stated_of_parts = 0;
  for (const auto& layer : j["layers"]) stated_of_layers += check_split(layer);
  for (const auto& part : j["parts"]) stated_of_parts += part["stated_cycles"].get<std::uint64_t>();
  CHECK(check_split(j) == stated);
  CHECK(stated_of_layers == stated);
  CHECK(stated_of_parts == stated);
  CHECK(j["cycles_split"]["idle"] == 0);
  CHECK(j["facts"]["stated_costs"]["norm"] == "20 cycles and one for every 8 elements");
  CHECK(j["products"]["head"]["rows"] == 2);
  CHECK(j["expert_rows"] == 2 * 2 * 2);
  CHECK(j["layers"].back()["layer"] == "head");
  CHECK(j["layers"].size() == 4);
  CHECK(j["bytes"]["by_kind"]["cache"] == cache);
  CHECK(j["facts"]["left_out"] == "embeddings, rotary embedding and residual additions are not simulated");
  CHECK(j["facts"]["whole_layers"].get<std::string>().find("shared experts int4, dense layers int3") == 0);
  CHECK(run::layers_csv(run).find("\nhead,2,") != std::string::npos);
  CHECK(run::experts_csv(run).find("\n0,dense,int3,") != std::string::npos);
  CHECK(run::experts_csv(run).find("\n1,shared,int4,") != std::string::npos);
  CHECK(run::page(run).find("parts of the layers") != std::string::npos);
  CHECK(run::page(run).find("through 3 layers and the head") != std::string::npos);
  const std::string& timeline = told.timeline_json;
  for (const char* name : {"\"expert shared, int4\"", "\"scores of request 1, int8\"", "\"q, int5\"", "\"head, int2\""})
    CHECK(timeline.find(name) != std::string::npos);
}
