// sim/run/streamed_program, run_recorder: a run that comes into being step by step is the run that was whole before,
// and holds no more of it the longer it is.
#include "sim/run/streamed_program.h"

#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "sim/fast/engine.h"
#include "sim/program/cache_agent.h"
#include "sim/program/phase_source.h"
#include "sim/run/run_recorder.h"
#include "sim/run/summary.h"
#include "sim/run/timed_run.h"
#include "sim/run/timeline.h"
#include "sim/run/totals.h"
#include "tests/temporary_folder.h"
#include "tests/unit/run/tiny_shape.h"
#include "tests/unit/run/told_run.h"

using namespace moesaic;

namespace {

const char* const kStorage =
    "storage: {kind: nvme, preset: nvme-pcie4x4}\n"
    "cache: {policy: belady, capacity_bytes: 8192, load_order: fifo, decision_cycles: 10, prefetch: {kind: perfect}, "
    "start: popular}\n";

struct Folder : tests::TemporaryFolder {
  /// Two requests of 5 and 3 tokens that decode so many more, one after the other.
  workloads::WorkloadFile workload(int decoded, const std::string& lines) const {
    base::write_file(file("tiny.yaml"), tests::kTinyShape);
    std::string rows = "request,step,phase,position,layer,experts,weights\n";
    const auto add = [&rows](int request, int step, int position) {
      for (const int layer : {1, 2})
        rows += std::to_string(request) + "," + std::to_string(step) + (step == 0 ? ",prefill," : ",decode,") +
                std::to_string(position) + "," + std::to_string(layer) + "," + std::to_string((position + layer) % 4) +
                ";" + std::to_string((position * 3 + layer + 1 + 2 * (position % 2)) % 4) + ",0.6;0.4\n";
    };
    for (int request = 0; request < 2; ++request) {
      const int prompt = 5 - 2 * request;
      for (int position = 0; position < prompt; ++position) add(request, 0, position);
      for (int step = 1; step <= decoded; ++step) add(request, step, prompt - 1 + step);
    }
    base::write_file(file("t.csv"), rows);
    base::write_file(file("w.yaml"), "model: tiny.yaml\ntrace: t.csv\n" + lines);
    return workloads::read_workload(file("w.yaml"));
  }
  program::Chip chip(const std::string& name, bool storage) const {
    std::string text = base::read_file("chips/" + name + ".yaml");
    if (storage) text += kStorage;
    base::write_file(file("chip.yaml"), text);
    return program::read_chip(file("chip.yaml"));
  }
};

/// As StreamedProgram's, of a run with all steps at once.
program::RunProgram lowered_whole(const run::RunInputs& inputs, const program::Chip& chip, bool data) {
  program::Offloading offloading;
  program::LowerOptions options;
  options.shapes = inputs.shape;
  if (chip.cache) {
    offloading.capacity_bytes = chip.cache->capacity_bytes;
    offloading.experts = static_cast<int>(inputs.experts);
    options.offloading = &offloading;
  }
  program::RunProgram program =
      data ? program::lower_layers(inputs.layers, inputs.weights, chip.core, chip.layout, "chip", inputs.matrices,
                                   options)
           : program::lower_layers_without_data(inputs.layers, inputs.shape, chip.core, chip.layout, "chip", options);
  program.state_costs(inputs.layers, chip);
  return program;
}

}  // namespace

TEST_CASE("phases that are lowered one by one and forgotten are those of the whole run, bytes in memory included",
          "[unit][run]") {
  const Folder folder;
  for (const bool storage : {false, true}) {
    CAPTURE(storage);
    const auto workload = folder.workload(4, tests::kTinyWholeLayers);
    const program::Chip chip = folder.chip("r16c16p2a8", storage);
    const run::RunInputs inputs = run::gather_inputs(workload, {});
    const program::RunProgram whole = lowered_whole(inputs, chip, true);
    program::WholeProgram pieces(whole);
    run::StreamedProgram streamed(workload, inputs, chip, {});
    REQUIRE(streamed.phases() == whole.phases.size());
    const program::MemoryImage &image = streamed.program().loaded.image, &all = whole.loaded.image;
    std::size_t regions = 0;
    for (std::size_t p = 0; p < streamed.phases(); ++p) {
      CAPTURE(p);
      const program::LoweredPhase &one = streamed.phase(p), &expected = pieces.phase(p);
      CHECK(one.commands == expected.commands);
      CHECK(one.phase.first_command == expected.phase.first_command);
      CHECK(one.phase.after == expected.phase.after);
      CHECK(one.first_job == expected.first_job);
      REQUIRE(one.jobs.size() == expected.jobs.size());
      for (std::size_t j = 0; j < one.jobs.size(); ++j) {
        CHECK(one.jobs[j].phase == p);
        CHECK(one.jobs[j].first_command == expected.jobs[j].first_command);
        CHECK(one.jobs[j].plane_adds == expected.jobs[j].plane_adds);
        const bool offloaded = storage && program::is_offloaded(streamed.offloaded(), one.jobs[j]);
        if (offloaded) CHECK(streamed.next_use(one.first_job + j) == pieces.next_use(one.first_job + j));
      }
      bool same = true;
      for (const auto& region : image.regions())
        for (std::uint64_t at = region.address; at < region.end(); ++at) same &= image.read(at) == all.read(at);
      CHECK(same);
      regions += one.regions.size();
      streamed.release();
    }
    CHECK(image.regions().size() + regions == all.regions().size());
    CHECK(image.end() == all.end());
    if (!storage) continue;
    CHECK(streamed.uses().popularity == pieces.uses().popularity);
    CHECK(streamed.uses().first == pieces.uses().first);
  }
}

TEST_CASE("a longer run holds no more phases, steps and regions at once", "[unit][run]") {
  const Folder folder;
  for (const bool storage : {false, true})
    for (const bool data : {false, true}) {
      CAPTURE(storage, data);
      std::map<std::string, std::size_t> held[2];
      for (const bool is_long : {false, true}) {
        // Attention's cache grows with a request, as it must, and its region with it.
        const auto workload = folder.workload(is_long ? 64 : 4, "");
        const program::Chip chip = folder.chip("r16c16p2a8", storage);
        run::InputOptions options;
        options.weights = data;
        const run::RunInputs inputs = run::open_inputs(workload, options);
        CHECK(inputs.layers.empty());
        run::LowerChoices choices;
        choices.data = data;
        run::StreamedProgram program(workload, inputs, chip, choices);
        std::map<std::string, std::size_t>& most = held[is_long ? 1 : 0];
        run::RecorderOptions recording;
        recording.check = data;
        recording.threads = 3;
        recording.phase_ended = [&](const run::PhaseRecord&) {
          const program::MemoryImage& image = program.program().loaded.image;
          most["regions"] = std::max(most["regions"], image.regions().size());
          most["counters"] = std::max(most["counters"], image.counters());
        };
        run::RunRecorder recorder(inputs, program, recording);
        const run::FastRun run = run::run_fast(chip, program, recorder);
        CHECK((recorder.values_compared() > 0) == data);
        CHECK(run.run.retired.empty());
        CHECK(run.run.tags.empty());
        CHECK(run.run.phase_ends.empty());
        CHECK(run.run.loads.empty());
        CHECK(run.run.cycles > 0);
        most["phases"] = program.most_phases_held();
        most["steps"] = program.most_steps_held();
      }
      CHECK(held[0] == held[1]);
      CHECK(held[0].at("phases") <= 2);
      CHECK(held[0].at("steps") <= 3);
    }
}

TEST_CASE("what is summed up while a run goes on is what its lists say afterwards, the timeline too", "[unit][run]") {
  const Folder folder;
  for (const bool storage : {false, true})
    for (const std::size_t most : {std::size_t{40}, std::size_t{100000}}) {
      CAPTURE(storage, most);
      const auto workload = folder.workload(6, tests::kTinyWholeLayers);
      const program::Chip chip = folder.chip("r16c16p2a8", storage);
      run::InputOptions options;
      options.weights = false;
      const run::RunInputs inputs = run::gather_inputs(workload, options);
      run::LowerChoices choices;
      choices.data = false;

      // The same program and agent, engine and sink apart.
      run::StreamedProgram program(workload, inputs, chip, choices);
      std::string steps(run::kStepsCsvHeader);
      run::Totals totals(chip, workload, inputs, [&steps](const run::Step& step, const run::StepTimes& times) {
        steps += run::steps_csv_row(step, times);
      });
      run::Timeline timeline(chip, workload.network, "", most);
      run::RecorderOptions recording;
      recording.totals = &totals;
      recording.timeline = &timeline;
      run::RunRecorder recorder(inputs, program, recording);
      const run::FastRun streamed = run::run_fast(chip, program, recorder);
      totals.close(program.program(), streamed.run);
      timeline.finish(streamed.run, "cycle");
      std::string timeline_json;
      timeline.write([&timeline_json](std::string_view piece) { timeline_json += piece; });
      const run::Run run{chip, workload, inputs, program.program(), streamed.run, totals, "cycle", 1, 1234};

      const program::RunProgram whole = lowered_whole(inputs, chip, false);
      fast::Options fast_options;
      fast_options.memory = chip.memory;
      fast_options.period = chip.clock_period();
      fast_options.make_storage = run::storage_of(chip);
      program::MemoryImage image = whole.loaded.image;
      program::WholeProgram pieces(whole);
      std::unique_ptr<program::HostAgent> agent;
      if (storage)
        agent = std::make_unique<program::CacheAgent>(whole, *chip.cache, chip.core.io_jobs, "chip");
      else
        agent = std::make_unique<program::TimedProgram>(program::timed_work(pieces, false));
      fast_options.awaited = agent->prepare(image);
      const fast::Run listed = fast::run(chip.core, *agent, image, fast_options);
      REQUIRE(listed.engine.phase_ends.size() == program.phases());
      CHECK((listed.engine.loads.size() > 40) == storage);
      const tests::ToldRun told(chip, workload, inputs, whole, listed.engine, most);

      CHECK(run::summary_json(run) == run::summary_json(told.run));
      CHECK(run::layers_csv(run) == run::layers_csv(told.run));
      CHECK(run::experts_csv(run) == run::experts_csv(told.run));
      CHECK(run::requests_csv(run) == run::requests_csv(told.run));
      CHECK(steps == told.steps_csv);
      CHECK(timeline_json == told.timeline_json);
      CHECK((timeline_json.find(", the first ") != std::string::npos) == (most == 40));
    }
}

TEST_CASE("a memory that does not hold all steps' rows is refused before the run, with what would", "[unit][run]") {
  const Folder folder;
  program::Chip chip = program::read_chip("chips/r16c16p2a8-ddr5.yaml");
  chip.memory.dram.rows = 1;
  const std::int64_t holds = memory::capacity(chip.memory)->count();
  for (const int decoded : {100, 600}) {
    const auto workload = folder.workload(decoded, "");
    run::InputOptions options;
    options.weights = false;
    run::LowerChoices choices;
    choices.data = false;
    const run::RunInputs inputs = run::gather_inputs(workload, options);
    const auto needed = static_cast<std::int64_t>(lowered_whole(inputs, chip, false).loaded.image.end());
    REQUIRE((needed > holds) == (decoded == 600));
    if (needed <= holds)
      CHECK_NOTHROW(run::StreamedProgram(workload, inputs, chip, choices));
    else
      CHECK_THROWS_WITH(run::StreamedProgram(workload, inputs, chip, choices),
                        chip.path + ": memory: got a capacity of " + std::to_string(holds) +
                            " bytes, expected at least the workload's " + std::to_string(needed));
  }
}
