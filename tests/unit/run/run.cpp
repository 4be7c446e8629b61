// sim/run: inputs of a run from a workload, and what its summary says.
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/atomic_file.h"
#include "base/error.h"
#include "sim/program/interpreter.h"
#include "sim/run/run_inputs.h"
#include "sim/run/summary.h"
#include "sim/run/timeline.h"
#include "tests/temporary_folder.h"
#include "tests/timeline_spans.h"
#include "tests/unit/run/told_run.h"
#include "workloads/checkpoint.h"
#include "workloads/plan.h"
#include "workloads/synth.h"
#include "workloads/trace.h"

using namespace moesaic;
namespace fs = std::filesystem;

namespace {

struct Folder : tests::TemporaryFolder {
  /// A workload over the shipped model with these further lines.
  workloads::WorkloadFile workload(const std::string& lines, const std::string& trace = "evaluation.csv.gz") const {
    const std::string root = fs::current_path().string();
    base::write_file(file("w.yaml"),
                     "model: " + root + "/data/model\ntrace: " + root + "/data/traces/" + trace + "\n" + lines);
    return workloads::read_workload(file("w.yaml"));
  }
  std::string tokens() const { return "tokens: " + fs::current_path().string() + "/data/tokens/evaluation.bin\n"; }
};

std::string refusal(const workloads::WorkloadFile& workload, const run::InputOptions& options = {}) {
  try {
    run::gather_inputs(workload, options);
  } catch (const base::InputError& error) {
    return error.what();
  }
  return "accepted";
}

/// What an engine would report, with cycles made up: command i retires in cycle 10 * (i + 1).
program::EngineRun made_up_run(const program::RunProgram& lowered) {
  program::EngineRun engine_run;
  engine_run.traffic = program::Traffic(lowered.loaded.image);
  for (std::size_t i = 0; i < lowered.loaded.commands.size(); ++i) {
    engine_run.retired.push_back(10 * (i + 1));
    engine_run.tags.push_back(i);
  }
  for (std::size_t r = 0; r < lowered.loaded.image.regions().size(); ++r) {
    const auto& region = lowered.loaded.image.regions()[r];
    engine_run.traffic.count(program::MemoryPort::kWeightRead, region.address, region.bytes);
  }
  for (std::size_t p = 0; p < lowered.phases.size(); ++p) {
    const std::size_t end =
        p + 1 < lowered.phases.size() ? lowered.phases[p + 1].first_command : engine_run.retired.size();
    program::EngineRun::PhaseEnd phase_end;
    phase_end.cycles = engine_run.retired[end - 1] + 5;
    phase_end.commands = end;
    phase_end.causes[0] = phase_end.cycles - 7;
    phase_end.causes[2] = 7;
    for (auto& block : phase_end.activity) block[1] = phase_end.cycles;
    engine_run.phase_ends.push_back(phase_end);
  }
  engine_run.cycles = engine_run.phase_ends.back().cycles;
  return engine_run;
}

}  // namespace

TEST_CASE("the demo's layers, executed by the rules of docs/core.md, give the reference's results", "[unit][run]") {
  const auto workload = workloads::read_workload("configs/demo_workload.yaml");
  const program::Chip chip = program::read_chip("chips/demo.yaml");
  run::InputOptions options;
  options.plan = "int2";
  options.threads = 2;
  const run::RunInputs inputs = run::gather_inputs(workload, options);
  REQUIRE(inputs.layers.size() == 4);
  CHECK(inputs.steps.size() == 1);
  CHECK(inputs.steps[0].tokens == 16);
  CHECK(inputs.facts.rows_held_to_trace == 64);
  CHECK(inputs.facts.rows_of_near_ties <= 1);
  program::RunProgram lowered =
      program::lower_layers(inputs.layers, inputs.weights, chip.core, chip.layout, "chips/demo.yaml");
  program::Interpreter(chip.core, lowered.loaded.image).run(lowered.loaded.commands);
  for (std::size_t p = 0; p < inputs.layers.size(); ++p) {
    const program::LayerResult expected = program::layer_reference(inputs.layers[p], inputs.weights);
    CHECK(program::first_layer_difference(inputs.layers[p], expected, lowered.phases[p], lowered.loaded.image) == "");
    // Real data: results are neither all zero nor saturated.
    std::size_t zero = 0, extreme = 0;
    for (const std::int16_t y : expected.y) {
      zero += y == 0;
      extreme += y == 32767 || y == -32768;
    }
    CHECK(zero < expected.y.size() / 10);
    CHECK(extreme == 0);
  }
}

TEST_CASE("a timeline parses back into spans that lie within their parents and cover the run exactly", "[unit][run]") {
  const Folder folder;
  const auto workload = folder.workload("requests: [0]\nsteps: [0, 1]\nlayers: [1, 3]\n");
  const program::Chip chip = program::read_chip("chips/demo.yaml");
  run::InputOptions options;
  options.plan = "int2";
  const run::RunInputs inputs = run::gather_inputs(workload, options);
  const program::RunProgram lowered =
      program::lower_layers(inputs.layers, inputs.weights, chip.core, chip.layout, "chip");
  const program::EngineRun engine_run = made_up_run(lowered);
  const tests::ToldRun told(chip, workload, inputs, lowered, engine_run);
  const auto trace = nlohmann::json::parse(told.timeline_json);
  CHECK(trace["displayTimeUnit"] == "ns");
  // Times are whole cycles of the 2 ns clock.
  const auto cycles_of = [](long long femtoseconds) {
    CHECK(femtoseconds % 2000000 == 0);
    return static_cast<std::uint64_t>(femtoseconds / 2000000);
  };
  std::map<int, std::vector<std::pair<std::uint64_t, std::uint64_t>>> spans;
  for (const tests::TimelineSpan& span : tests::timeline_spans(trace)) {
    const std::uint64_t begin = cycles_of(span.begin), end = cycles_of(span.end);
    CHECK(span.args["cycles"] == end - begin);
    spans[span.track].push_back({begin, end});
  }
  std::map<int, std::string> names;
  std::size_t counters = 0;
  for (const auto& event : trace["traceEvents"]) {
    const std::string kind = event["ph"];
    CHECK(event["pid"] == 1);
    if (kind == "M" && event["name"] == "thread_name") names[event["tid"]] = event["args"]["name"];
    counters += kind == "C";
  }
  CHECK(names == std::map<int, std::string>{
                     {1, "layers"}, {2, "experts"}, {3, "commands"}, {4, "array"}, {5, "post-processing"}});
  CHECK(counters == 3 * 4 + 3);
  // Layers follow each other without a gap from 0 to the end; experts and commands lie within, in order, and touch.
  REQUIRE(spans[1].size() == 4);
  CHECK(spans[1].front().first == 0);
  CHECK(spans[1].back().second == engine_run.cycles);
  for (std::size_t i = 1; i < spans[1].size(); ++i) CHECK(spans[1][i].first == spans[1][i - 1].second);
  CHECK(spans[2].size() == lowered.jobs.size());
  for (const int track : {2, 3})
    for (std::size_t i = 0; i < spans[track].size(); ++i) {
      const auto& [begin, end] = spans[track][i];
      CHECK(begin < end);
      if (i > 0) CHECK(begin >= spans[track][i - 1].second);
      CHECK(std::any_of(spans[1].begin(), spans[1].end(),
                        [&, b = begin, e = end](const auto& layer) { return layer.first <= b && e <= layer.second; }));
    }
}

TEST_CASE("a timeline shows each DRAM channel's refreshes and what it moved between them, and all bytes are there",
          "[unit][run]") {
  const Folder folder;
  const auto workload = folder.workload("requests: [0]\nsteps: [0, 1, 2]\nlayers: [1, 3]\n");
  const program::Chip chip = program::read_chip("chips/demo.yaml");
  run::InputOptions options;
  options.plan = "int2";
  options.weights = false;
  const run::RunInputs inputs = run::gather_inputs(workload, options);
  const program::RunProgram lowered =
      program::lower_layers_without_data(inputs.layers, inputs.shape, chip.core, chip.layout, "chip");
  program::EngineRun engine_run = made_up_run(lowered);
  const std::uint64_t end_fs = engine_run.cycles * 2000000;
  // Two channels: one whose every refresh is kept, the last under way at the end, and one with every fourth.
  memory::History& history = engine_run.memory_history;
  history.channels.resize(2);
  const auto counts = [](std::uint64_t n) { return memory::History::Counts{640 * n, 64 * n, n, 9 * n, n, n}; };
  const std::uint64_t gap = end_fs / 10;
  for (std::uint64_t i = 1; i <= 9; ++i)
    history.channels[0].refreshes.push_back({i * gap, i * gap + (i == 9 ? 2 * gap : gap / 8 + 1), counts(i)});
  history.channels[0].all = counts(9);
  history.channels[1].every = 4;
  for (std::uint64_t i = 1; i <= 2; ++i) history.channels[1].refreshes.push_back({4 * i * gap, 4 * i * gap + 7, {}});

  const tests::ToldRun told(chip, workload, inputs, lowered, engine_run);
  const auto parse = [&](const std::string& text, std::map<int, std::string>& names, std::string& process) {
    std::map<int, std::vector<tests::TimelineSpan>> spans;
    const auto trace = nlohmann::json::parse(text);
    for (const auto& event : trace["traceEvents"]) {
      if (event["ph"] == "M" && event["name"] == "thread_name") names[event["tid"]] = event["args"]["name"];
      if (event["ph"] == "M" && event["name"] == "process_name") process = event["args"]["name"];
    }
    for (tests::TimelineSpan& span : tests::timeline_spans(trace)) spans[span.track].push_back(std::move(span));
    return spans;
  };
  std::map<int, std::string> names;
  std::string process;
  const auto spans = parse(told.timeline_json, names, process);
  CHECK(process == "chip demo, engine cycle");
  CHECK(names.at(10) == "DRAM channel 0");
  CHECK(names.at(11) == "DRAM channel 1 (one refresh of 4 shown)");
  std::uint64_t read = 0, refreshes = 0;
  long long at = 0;
  for (const tests::TimelineSpan& span : spans.at(10)) {  // without a gap to the end
    CHECK(span.begin == at);
    at = span.end;
    if (span.name == "refresh")
      CHECK(span.args["number"] == ++refreshes);
    else
      read += span.args["bytes_read"].get<std::uint64_t>();
  }
  CHECK(at == static_cast<long long>(end_fs));
  CHECK(refreshes == 9);
  CHECK(read == 640 * 9);
  CHECK(spans.at(10)[0].name == fmt::format("{:.1f} GB/s, row hits 82 %", 704e6 / static_cast<double>(gap)));
  CHECK(spans.at(11)[0].name == "no data");
  CHECK(spans.at(11)[3].args["number"] == 8);

  // With room for fewer phases all tracks end with the last of them.
  names.clear();
  const auto cut = parse(tests::ToldRun(chip, workload, inputs, lowered, engine_run, 2).timeline_json, names, process);
  const std::uint64_t shown = engine_run.phase_ends[0].cycles;
  CHECK(process == fmt::format("chip demo, engine cycle, the first {} of {} cycles", shown, engine_run.cycles));
  CHECK(cut.at(1).size() == 1);
  CHECK(cut.at(2).size() < lowered.jobs.size());
  for (const auto& [track, of] : cut)
    for (const tests::TimelineSpan& span : of) CHECK(span.end <= static_cast<long long>(shown * 2000000));
  CHECK(tests::ToldRun(chip, workload, inputs, lowered, engine_run, 1000000).timeline_json == told.timeline_json);
}

TEST_CASE("requests of one batch share its weights, and their latencies are those of their batches", "[unit][run]") {
  const Folder folder;
  const auto workload = folder.workload("requests: [0, 1]\nsteps: [0, 1, 2]\nlayers: [1]\nbatch_requests: 2\n");
  const program::Chip chip = program::read_chip("chips/demo.yaml");
  run::InputOptions options;
  options.plan = "int2";
  const run::RunInputs inputs = run::gather_inputs(workload, options);
  REQUIRE(inputs.steps.size() == 3);
  CHECK(inputs.steps[0].tokens == 64);
  CHECK(inputs.steps[0].parts.size() == 2);
  CHECK(inputs.steps[2].tokens == 2);
  CHECK(inputs.layers[1].name == "requests 0 and 1 more, step 1, layer 1");
  CHECK(inputs.layers[1].x.m == 2);
  const program::RunProgram lowered =
      program::lower_layers(inputs.layers, inputs.weights, chip.core, chip.layout, "chip");
  const program::EngineRun engine_run = made_up_run(lowered);
  const tests::ToldRun told(chip, workload, inputs, lowered, engine_run);
  const run::Run& run = told.run;
  const auto j = nlohmann::json::parse(run::summary_json(run));
  const auto& ends = engine_run.phase_ends;
  const auto ms = [](std::uint64_t cycles) { return static_cast<double>(cycles) * 2e-6; };
  CHECK(j["latency"]["requests"] == 2);
  CHECK(j["latency"]["time_to_first_token"]["p50_ms"].get<double>() == Approx(ms(ends[0].cycles)));
  CHECK(j["latency"]["time_per_output_token"]["p99_ms"].get<double>() ==
        Approx(ms(ends[2].cycles - ends[0].cycles) / 2));
  CHECK(j["latency"]["end_to_end"]["p95_ms"].get<double>() == Approx(ms(ends[2].cycles)));
  const std::string requests = run::requests_csv(run);
  CHECK(std::count(requests.begin(), requests.end(), '\n') == 3);
  CHECK(requests.find("\n1,32,2,0.000000000,") != std::string::npos);

  // One at a time the second request begins where the first ends.
  const auto apart = folder.workload("requests: [0, 1]\nsteps: [0, 1, 2]\nlayers: [1]\n");
  const run::RunInputs single = run::gather_inputs(apart, options);
  CHECK(single.steps.size() == 6);
  const program::RunProgram lowered_apart =
      program::lower_layers(single.layers, single.weights, chip.core, chip.layout, "chip");
  const program::EngineRun run_apart = made_up_run(lowered_apart);
  const tests::ToldRun told_apart(chip, apart, single, lowered_apart, run_apart);
  const run::Run& one_by_one = told_apart.run;
  CHECK(run::requests_csv(one_by_one).find("\n1,32,2," + fmt::format("{:.9f}", ms(run_apart.phase_ends[2].cycles))) !=
        std::string::npos);
}

TEST_CASE("choices that routing rules leave out are not computed, and the rest equals the reference", "[unit][run]") {
  const Folder folder;
  const auto workload =
      folder.workload("requests: [0]\nsteps: [0]\nlayers: [1, 2]\nrouting: {prune_ratio: median, round_to: 2}\n");
  const program::Chip chip = program::read_chip("chips/demo.yaml");
  run::InputOptions options;
  options.plan = "int2";
  const run::RunInputs inputs = run::gather_inputs(workload, options);
  REQUIRE(inputs.layers.size() == 2);
  CHECK(inputs.facts.prune_ratios.size() == 2);
  CHECK(inputs.facts.dropped.pruned > 16);  // of 64 second choices about half
  CHECK(inputs.facts.dropped.pruned <= 32);
  std::int64_t dropped = 0;
  for (const program::LayerRows& rows : inputs.layers)
    for (std::size_t c = 0; c < rows.chosen.size(); ++c)
      if (rows.chosen[c] == workloads::RoutedRows::kDropped) {
        ++dropped;
        CHECK(rows.r[c] == 0);
      }
  CHECK(dropped == inputs.facts.dropped.total());
  program::RunProgram lowered =
      program::lower_layers(inputs.layers, inputs.weights, chip.core, chip.layout, "chips/demo.yaml");
  std::int64_t rows_computed = 0;
  for (const auto& job : lowered.jobs) rows_computed += job.expert == program::kCombination ? 0 : job.rows;
  CHECK(rows_computed == 2 * 32 * 2 - dropped);
  program::Interpreter(chip.core, lowered.loaded.image).run(lowered.loaded.commands);
  for (std::size_t p = 0; p < inputs.layers.size(); ++p) {
    const program::LayerResult expected = program::layer_reference(inputs.layers[p], inputs.weights);
    CHECK(program::first_layer_difference(inputs.layers[p], expected, lowered.phases[p], lowered.loaded.image) == "");
  }
}

TEST_CASE("rows of several levels read what the plan says of their class, or so many planes more than its format",
          "[unit][run]") {
  const Folder folder;
  const workloads::Checkpoint model("data/model");
  workloads::SynthParameters p;
  p.requests = 1;
  p.prompt_tokens = 12;
  p.decode_tokens = 0;
  p.levels = {0.5, 0.3, 0.2};
  workloads::TraceWriter trace(folder.file("levels.csv"), false, true);
  workloads::synthesise(model.network(), p, [&](const workloads::TraceRow& row) { trace.write(row); });
  trace.commit();
  folder.write("levels.yaml", "model: " + fs::current_path().string() +
                                  "/data/model\ntrace: levels.csv\nlayers: [1]\nmax_tokens: 12\n");
  const auto workload = workloads::read_workload(folder.file("levels.yaml"));

  workloads::Plan plan = workloads::uniform_plan(model.network(), model.hash(), numerics::Format::mwq(2, 2, 2), 64);
  plan.class_shares = p.levels;
  for (workloads::PlanEntry& entry : plan.experts)
    entry.reads = {numerics::Format::mwq(2, 2, 0), numerics::Format::mwq(2, 2, 1), numerics::Format::mwq(2, 2, 2)};
  workloads::write_plan(plan, folder.file("plan.yaml"));
  std::vector<std::vector<std::int16_t>> results;
  const program::Chip chip = program::read_chip("chips/demo.yaml");
  for (const std::string& name : {folder.file("plan.yaml"), std::string("mwq2+0of2")}) {
    run::InputOptions options;
    options.plan = name;
    const run::RunInputs inputs = run::gather_inputs(workload, options);
    REQUIRE(inputs.layers.size() == 1);
    REQUIRE(inputs.facts.choices_by_level.size() == 3);
    CHECK(inputs.facts.choices_by_level[0] + inputs.facts.choices_by_level[1] + inputs.facts.choices_by_level[2] == 24);
    program::LowerOptions lower;
    lower.shapes = inputs.shape;
    program::RunProgram lowered =
        program::lower_layers(inputs.layers, inputs.weights, chip.core, chip.layout, "chip", {}, lower);
    std::vector<std::int64_t> rows(3);
    for (const auto& job : lowered.jobs)
      if (job.expert != program::kCombination)
        rows.at(static_cast<std::size_t>(job.format.gate.planes() - 2)) += job.rows;
    CHECK(rows == inputs.facts.choices_by_level);
    program::Interpreter(chip.core, lowered.loaded.image).run(lowered.loaded.commands);
    const auto expected = program::layer_reference(inputs.layers[0], inputs.weights, {}, inputs.shape);
    CHECK(program::first_layer_difference(inputs.layers[0], expected, lowered.phases[0], lowered.loaded.image) == "");
    results.push_back(expected.y);
  }
  CHECK(results[0] == results[1]);  // the same readings of the same copy

  run::InputOptions options;
  options.plan = "mwq2+1of2";
  CHECK_THAT(refusal(workload, options),
             Catch::Contains("levels.csv: levels: got 2 for expert ") &&
                 Catch::Contains(" at layer 1, expected at most 1: mwq2+1of2 stores 4 planes and reads 3"));
  options.plan = "int4";
  CHECK_THAT(refusal(workload, options), Catch::Contains("expected at most 0: int4 stores 4 planes and reads 4"));
  plan.class_shares = {0.6, 0.4};
  for (workloads::PlanEntry& entry : plan.experts) entry.reads.pop_back();
  workloads::write_plan(plan, folder.file("plan.yaml"));
  options.plan = folder.file("plan.yaml");
  CHECK_THAT(refusal(workload, options), Catch::Contains(", expected below 2, the plan's classes"));
}

TEST_CASE("what a summary counts adds up to the run, over layers, steps and experts", "[unit][run]") {
  const Folder folder;
  const auto workload = folder.workload("requests: [0]\nsteps: [0, 1, 2]\nlayers: [1, 3]\n");
  const program::Chip chip = program::read_chip("chips/demo.yaml");
  run::InputOptions options;
  options.plan = "int4";
  const run::RunInputs inputs = run::gather_inputs(workload, options);
  REQUIRE(inputs.layers.size() == 6);
  const program::RunProgram lowered =
      program::lower_layers(inputs.layers, inputs.weights, chip.core, chip.layout, "chip");
  const program::EngineRun engine_run = made_up_run(lowered);
  CHECK_NOTHROW(tests::check_counts(engine_run));
  const tests::ToldRun told(chip, workload, inputs, lowered, engine_run);
  const run::Run& run = told.run;
  const auto j = nlohmann::json::parse(run::summary_json(run));
  CHECK(j["tokens"] == 34);
  CHECK(j["tokens_prefill"] == 32);
  CHECK(j["tokens_decode"] == 2);
  CHECK(j["expert_rows"] == 34 * 2 * 2);
  CHECK(j["cycles"] == engine_run.cycles);
  CHECK(j["time_fs"] == static_cast<std::int64_t>(engine_run.cycles) * 2000000);
  CHECK(j["plane_additions"] == 34LL * 2 * 2 * 3 * 128 * 256 * 4);
  // 512 slots a cycle; the made-up traffic goes over the weight port alone, 16 bytes a beat, 8 bytes a cycle of memory.
  const auto total_bytes = j["bytes"]["total"].get<std::int64_t>();
  CHECK(j["roofline"]["least_cycles"]["array"] == 34LL * 2 * 2 * 3 * 128 * 256 * 4 / 512);
  CHECK(j["roofline"]["least_cycles"]["memory"] == (total_bytes + 7) / 8);
  CHECK(j["roofline"]["least_cycles"]["weight_read_port"] == (total_bytes + 15) / 16);
  CHECK(j["roofline"]["least_cycles"]["write_port"] == 0);
  CHECK(j["roofline"]["bound_by"] ==
        ((total_bytes + 7) / 8 > 34LL * 2 * 2 * 3 * 128 * 256 * 4 / 512 ? "memory" : "array"));
  CHECK(j["bits"]["average"] == 4.0);
  CHECK(j["bits"]["experts_by_format"]["int4"] == 16);
  CHECK(j["facts"]["memory_model"] == "simple(read latency 20 cycles, write latency 10 cycles, 8 bytes/cycle)");
  std::uint64_t cycles = 0, bytes = 0;
  for (const auto& layer : j["layers"]) {
    cycles += layer["cycles"].get<std::uint64_t>();
    std::uint64_t causes = 0;
    for (const auto& cause : layer["cycles_by_cause"]) causes += cause.get<std::uint64_t>();
    CHECK(causes == layer["cycles"]);
    for (const auto& block : layer["blocks"]) {
      std::uint64_t sum = 0;
      for (const auto& count : block) sum += count.get<std::uint64_t>();
      CHECK(sum == layer["cycles"]);
    }
  }
  CHECK(cycles == engine_run.cycles);
  for (const auto& kind : j["bytes"]["by_kind"]) bytes += kind.get<std::uint64_t>();
  CHECK(bytes == j["bytes"]["total"]);
  CHECK(j["cycles_split"]["refresh"] == 0);

  const std::string experts = run::experts_csv(run), steps = told.steps_csv, layers = run::layers_csv(run);
  CHECK(static_cast<std::size_t>(std::count(experts.begin(), experts.end(), '\n')) == lowered.experts.size() + 1);
  CHECK(std::count(steps.begin(), steps.end(), '\n') == 4);
  CHECK(std::count(layers.begin(), layers.end(), '\n') == 3);
  CHECK(run::page(run).find("34 (32 prefill, 2 decode) through 2 layers") != std::string::npos);

  run::Run other = run;
  other.engine = "rtl";
  std::string text = run::summary_json(other);
  text.replace(text.find("\"rtl\""), 5, "\"cycle\"");
  CHECK(text == run::summary_json(run));
}

TEST_CASE("waits of a refresh leave the waits for weights and activations, in each layer, and all adds up",
          "[unit][run]") {
  const Folder folder;
  const auto workload = folder.workload("requests: [0]\nsteps: [1, 2]\nlayers: [1, 3]\n");
  const program::Chip chip = program::read_chip("chips/demo.yaml");
  run::InputOptions options;
  options.plan = "int4";
  options.weights = false;
  const run::RunInputs inputs = run::gather_inputs(workload, options);
  const program::RunProgram lowered =
      program::lower_layers_without_data(inputs.layers, inputs.shape, chip.core, chip.layout, "chip");
  program::EngineRun engine_run = made_up_run(lowered);
  // Of each phase 40 cycles wait for weights, 3 of them in a refresh, and 20 for activations, 2 of them in one.
  for (std::size_t p = 0; p < 4; ++p) {
    auto& end = engine_run.phase_ends[p];
    end.causes = {};
    end.causes[static_cast<std::size_t>(program::Cause::kWeights)] = 40 * (p + 1);
    end.causes[static_cast<std::size_t>(program::Cause::kActivations)] = 20 * (p + 1);
    end.causes[0] = end.cycles - 60 * (p + 1);
    end.refresh = {3 * (p + 1), 2 * (p + 1), 0};
  }
  CHECK_NOTHROW(tests::check_counts(engine_run));
  const tests::ToldRun told(chip, workload, inputs, lowered, engine_run);
  const run::Run& run = told.run;
  const auto j = nlohmann::json::parse(run::summary_json(run));
  const auto check = [](const nlohmann::json& of, std::uint64_t phases) {
    const auto& split = of["cycles_split"];
    CHECK(split["weight_wait"] == 37 * phases);
    CHECK(split["activation_wait"] == 18 * phases);
    CHECK(split["refresh"] == 5 * phases);
    std::uint64_t sum = 0;
    for (const auto& cycles : split) sum += cycles.get<std::uint64_t>();
    CHECK(sum == of["cycles"]);
  };
  check(j, 4);
  REQUIRE(j["layers"].size() == 2);
  for (const auto& layer : j["layers"]) check(layer, 2);
  CHECK(j["parts"]["experts"]["refresh_cycles"] == 20);
  const std::string layers = run::layers_csv(run);
  CHECK(layers.find(",refresh_of_weights,refresh_of_activations,") != std::string::npos);
  CHECK(layers.find(",0,0,6,4,") != std::string::npos);  // no cycles of commands and host before them
  CHECK(run::page(run).find("while the memory refreshed: 12 of weights, 8 of activations") != std::string::npos);

  engine_run.phase_ends[1].refresh[1] = 23;  // 21 in a phase that waited 20 cycles
  CHECK_THROWS_WITH(tests::check_counts(engine_run),
                    "phase 1: refresh: got 21 cycles, expected at most the 20 that waited for activations");
}

TEST_CASE("a cache whose layers do not add up to the run is a failed check", "[unit][run]") {
  program::EngineRun engine_run;
  engine_run.phase_ends.resize(1);
  engine_run.host_counters = {{"jobs", 7}, {"hits", 4}};
  engine_run.cache_layers = {{1, 4, 3, 0, 0, 0}, {3, 3, 1, 0, 0, 0}};
  CHECK_NOTHROW(tests::check_counts(engine_run));
  engine_run.cache_layers[1].hits = 2;
  CHECK_THROWS_WITH(tests::check_counts(engine_run), "cache: hits: got 5 in all layers, expected the run's 4");
}

TEST_CASE("counts that do not add up to the cycles are a failed check", "[unit][run]") {
  program::EngineRun engine_run;
  engine_run.phase_ends.resize(1);
  auto& end = engine_run.phase_ends[0];
  end.cycles = 10;
  end.causes[0] = 10;
  for (auto& block : end.activity) block[2] = 10;
  CHECK_NOTHROW(tests::check_counts(engine_run));
  end.activity[8][1] = 1;
  CHECK_THROWS_WITH(tests::check_counts(engine_run),
                    "phase 0: pe_array: got 11 cycles, expected 10, all cycles until its end");
  end.activity[8][1] = 0;
  end.causes[3] = 2;
  CHECK_THROWS_AS(tests::check_counts(engine_run), base::CheckError);
}

TEST_CASE("the same seed draws the same activations, another seed others, and a plan changes neither", "[unit][run]") {
  const Folder folder;
  const auto workload = folder.workload("requests: [1]\nsteps: [3]\nlayers: [0]\n");
  const auto values = [&](std::uint64_t seed, const std::string& plan) {
    run::InputOptions options;
    options.seed = seed;
    options.plan = plan;
    return run::gather_inputs(workload, options).layers.at(0).x.values;
  };
  const auto first = values(1, "");
  CHECK(first == values(1, "int3"));
  CHECK(first != values(2, ""));
}

TEST_CASE("a shape without weights runs on drawn weights, in the plan's format", "[unit][run]") {
  const Folder folder;
  std::string rows = "request,step,phase,position,layer,experts,weights\n";
  rows += "0,0,prefill,0,0,1;2;3;4;5;6;7;0,0.2;0.2;0.1;0.1;0.1;0.1;0.1;0.1\n";
  base::write_file(folder.file("t.csv"), rows);
  base::write_file(folder.file("w.yaml"), "model: OLMoE-1B-7B\ntrace: t.csv\nlayers: [0]\n");
  const auto workload = workloads::read_workload(folder.file("w.yaml"));
  run::InputOptions options;
  options.plan = "ternary";
  const run::RunInputs inputs = run::gather_inputs(workload, options);
  const numerics::ExpertWeights& w = inputs.weights(0, 5);
  CHECK(w.gate.format == numerics::Format::ternary());
  CHECK(w.hidden() == 2048);
  CHECK(w.intermediate() == 1024);
  CHECK(inputs.facts.weights.find("drawn from seed 1") == 0);
  options.plan = "plan.yaml";
  CHECK(refusal(workload, options).find("plan.yaml") != std::string::npos);
}

TEST_CASE("tokens that are not the trace's are refused, with request, position and layer", "[unit][bad_config][run]") {
  const Folder folder;
  const std::string text = refusal(folder.workload(folder.tokens() + "request_starts: [700]\nrequests: [0]\n"));
  CHECK(text.find("w.yaml: tokens: got a text whose request 0 position ") != std::string::npos);
  CHECK(refusal(folder.workload(folder.tokens() + "requests: [0]\n")).find("w.yaml: request_starts: got nothing") !=
        std::string::npos);
  CHECK(refusal(folder.workload(folder.tokens() + "request_starts: [0]\nrequests: [1]\n")) ==
        folder.file("w.yaml") + ": request_starts: got 1 entries, expected one for request 1 too");
  CHECK(refusal(folder.workload(folder.tokens() + "request_starts: [131000]\nrequests: [0]\n"))
            .find("evaluation.bin: length: got 131072 tokens, expected at least 131256, for request 0") !=
        std::string::npos);
}
