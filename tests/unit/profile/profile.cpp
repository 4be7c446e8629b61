// sim/profile: the table of latencies adds up to what is simulated with barriers, and is found again by its content.
#include "sim/profile/profile.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
#include <set>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/rng.h"
#include "sim/run/timed_run.h"
#include "tests/temporary_folder.h"

using namespace moesaic;
using numerics::Format;
namespace fs = std::filesystem;

namespace {

using Folder = tests::TemporaryFolder;

constexpr int kLayers = 2, kExperts = 5;
constexpr std::int64_t kHidden = 40, kIntermediate = 56;

/// Gives the layers, as they are now, step by step.
void step_by_step(run::RunInputs& inputs) {
  inputs.step_count = inputs.steps.size();
  inputs.phases_per_step = kLayers;
  inputs.make_step = [steps = inputs.steps, layers = inputs.layers](std::size_t s, bool) {
    const auto first = layers.begin() + static_cast<std::ptrdiff_t>(s * kLayers);
    return run::StepInputs{steps[s], {first, first + kLayers}};
  };
}

/// Three batches through two layers of five experts, routed at random; expert 4 of layer 1 gets no row.
run::RunInputs inputs_of(std::uint64_t seed) {
  base::Rng rng(seed);
  run::RunInputs inputs;
  inputs.experts = kExperts;
  inputs.facts.group_size = 16;
  for (int s = 0; s < 3; ++s) {
    run::Step step;
    step.step = static_cast<std::uint64_t>(s);
    step.tokens = s == 0 ? 9 : 1;
    step.parts = {{0, step.tokens}};
    inputs.steps.push_back(step);
    for (int layer = 0; layer < kLayers; ++layer) {
      program::LayerRows rows;
      rows.name = "step " + std::to_string(s) + ", layer " + std::to_string(layer);
      rows.layer = layer;
      rows.x.m = step.tokens;
      rows.x.k = kHidden;
      rows.top_k = 2;
      for (std::int64_t m = 0; m < step.tokens; ++m) {
        rows.x.token_shift.push_back(static_cast<std::uint8_t>(rng.below(4)));
        const auto experts = static_cast<std::uint64_t>(layer == 1 ? kExperts - 1 : kExperts);
        const auto first = static_cast<std::uint32_t>(rng.below(experts));
        rows.chosen.push_back(first);
        rows.chosen.push_back(static_cast<std::uint32_t>((first + 1 + rng.below(experts - 1)) % experts));
        rows.r.insert(rows.r.end(), 2, 16384);
      }
      inputs.layers.push_back(rows);
      inputs.step_of.push_back(static_cast<std::size_t>(s));
    }
  }
  inputs.shape = [](int, int) { return program::ExpertShape{Format::integer(8), kHidden, kIntermediate, 16, 10}; };
  step_by_step(inputs);
  return inputs;
}

program::Chip chip_of(unsigned max_tokens, unsigned act_depth, unsigned hidden_depth, unsigned commands,
                      numerics::LayoutKind layout = numerics::LayoutKind::kTileMajor) {
  program::Chip chip;
  chip.hash = std::string(64, 'a');
  chip.core.rows = 4;
  chip.core.cols = 8;
  chip.core.max_tokens = max_tokens;
  chip.core.act_depth = act_depth;
  chip.core.hidden_depth = hidden_depth;
  chip.core.command_depth = commands;
  chip.layout = layout;
  chip.memory.read_latency_cycles = 13;
  chip.memory.write_latency_cycles = 7;
  chip.memory.bytes_per_cycle = 5;
  return chip;
}

using Plan = std::map<std::pair<int, int>, numerics::ExpertFormats>;

std::vector<numerics::ExpertFormats> every_format() {
  return {numerics::all_formats().begin(), numerics::all_formats().end()};
}

program::ShapeOf shapes_of(const run::RunInputs& inputs, const Plan& plan) {
  return [&inputs, &plan](int layer, int expert) {
    program::ExpertShape shape = inputs.shape(layer, expert);
    shape.format = plan.at({layer, expert});
    return shape;
  };
}

/// What `simulate` takes with these shapes.
run::Timing simulated(const run::RunInputs& inputs, const run::ShapesOf& shapes, const program::Chip& chip,
                      bool barriers) {
  run::LowerChoices choices;
  choices.barriers = barriers;
  choices.data = false;
  choices.shapes = shapes;
  run::StreamedProgram program({}, inputs, chip, choices);
  run::Timing timing;
  run::RecorderOptions options;
  options.phase_ended = [&timing](const run::PhaseRecord& record) {
    timing.layer_cycles[record.rows.layer] += static_cast<std::int64_t>(record.end.cycles - record.before.cycles);
  };
  run::RunRecorder recorder(inputs, program, options);
  timing.cycles = static_cast<std::int64_t>(run::run_fast(chip, program, recorder).run.cycles);
  return timing;
}

/// The same for a plan.
run::Timing simulated(const run::RunInputs& inputs, const Plan& plan, const program::Chip& chip, bool barriers) {
  return simulated(
      inputs, [&plan](const run::RunInputs& in) { return shapes_of(in, plan); }, chip, barriers);
}

}  // namespace

TEST_CASE("the table's sum over any plan is the cycles of simulating it with barriers", "[unit][profile]") {
  const run::RunInputs inputs = inputs_of(5);
  base::Rng rng(6);
  for (const program::Chip& chip : {chip_of(8, 256, 512, 8), chip_of(2, 32, 16, 3), chip_of(8, 8, 512, 2),
                                    chip_of(8, 256, 32, 8), chip_of(4, 64, 8, 8, numerics::LayoutKind::kPlaneMajor)}) {
    INFO(chip.core.max_tokens << " tokens, " << chip.core.act_depth << " words, " << chip.core.hidden_depth
                              << " hidden words");
    const workloads::LatencyTable table =
        profile::profile(inputs, chip, kExperts, every_format(), profile::Options{}).table;
    bool overlap_saves = false;
    for (int trial = 0; trial < 6; ++trial) {
      Plan plan;
      std::map<int, std::int64_t> layers;
      for (int layer = 0; layer < kLayers; ++layer) {
        layers[layer] = table.rest_cycles(layer);
        for (int expert = 0; expert < kExperts; ++expert) {
          plan[{layer, expert}] = rng.pick(numerics::all_formats());
          layers[layer] += table.cycles(layer, expert, plan[{layer, expert}]);
        }
      }
      const run::Timing apart = simulated(inputs, plan, chip, true);
      CHECK(apart.layer_cycles == layers);
      CHECK(apart.cycles == layers[0] + layers[1]);
      overlap_saves |= simulated(inputs, plan, chip, false).cycles < apart.cycles;
    }
    CHECK(overlap_saves);  // barriers do something
  }
}

TEST_CASE("the sum is as exact where gate, up and down differ in format", "[unit][profile]") {
  const run::RunInputs inputs = inputs_of(15);
  base::Rng rng(16);
  std::vector<numerics::ExpertFormats> formats;
  while (formats.size() < 24) {
    numerics::ExpertFormats f = rng.pick(numerics::all_formats());
    f.down = rng.pick(numerics::all_formats());
    if (formats.size() % 2 == 0) f.up = rng.pick(numerics::all_formats());
    if (std::find(formats.begin(), formats.end(), f) == formats.end()) formats.push_back(f);
  }
  for (const program::Chip& chip :
       {chip_of(8, 256, 512, 8), chip_of(2, 32, 16, 3), chip_of(4, 64, 8, 8, numerics::LayoutKind::kPlaneMajor)}) {
    const workloads::LatencyTable table = profile::profile(inputs, chip, kExperts, formats, profile::Options{}).table;
    CHECK(workloads::LatencyTable::parse(table.text(), "t.csv").text() == table.text());
    for (int trial = 0; trial < 4; ++trial) {
      Plan plan;
      std::int64_t sum = table.rest_cycles(0) + table.rest_cycles(1);
      for (int layer = 0; layer < kLayers; ++layer)
        for (int expert = 0; expert < kExperts; ++expert) {
          plan[{layer, expert}] = rng.pick(formats);
          sum += table.cycles(layer, expert, plan[{layer, expert}]);
        }
      CHECK(simulated(inputs, plan, chip, true).cycles == sum);
    }
  }
}

namespace {

/// The same routing, with a class drawn for every choice of an expert.
run::RunInputs with_levels(run::RunInputs inputs, std::uint64_t classes) {
  base::Rng rng(31);
  for (program::LayerRows& rows : inputs.layers)
    for (std::size_t i = 0; i < rows.chosen.size(); ++i)
      rows.levels.push_back(static_cast<std::uint8_t>(rng.below(classes)));
  step_by_step(inputs);
  return inputs;
}

/// Every way of three classes to read one of these copies, each at three widths or more; without `rising` those that
/// fall too.
std::vector<profile::Reads> class_reads(bool rising) {
  const std::vector<std::vector<Format>> copies{
      {Format::mwq(2, 2, 0), Format::mwq(2, 2, 1), Format::mwq(2, 2, 2)},
      {Format::nested(1), Format::nested(2), Format::nested(5), Format::nested(8)},
      {Format::integer(3)}};
  std::vector<profile::Reads> all;
  for (const std::vector<Format>& copy : copies)
    for (const Format a : copy)
      for (const Format b : copy)
        for (const Format c : copy)
          if (!rising || (a.planes() <= b.planes() && b.planes() <= c.planes())) all.push_back({a, b, c});
  return all;
}

}  // namespace

TEST_CASE("with classes the sum over the widths of any plan is the cycles of simulating it with barriers",
          "[unit][profile]") {
  const run::RunInputs inputs = with_levels(inputs_of(35), 3);
  base::Rng rng(36);
  for (const bool rising : {true, false})
    for (const program::Chip& chip :
         {chip_of(8, 256, 512, 8), chip_of(2, 32, 16, 3, numerics::LayoutKind::kPlaneMajor)}) {
      INFO(rising << ", " << chip.core.max_tokens << " tokens");
      const std::vector<profile::Reads> wanted = class_reads(rising);
      const profile::Profile profile = profile::profile(inputs, chip, kExperts, wanted, profile::Options{});
      const workloads::LatencyTable& table = profile.table;
      CHECK(table.source().classes == 3);
      CHECK(profile.runs < wanted.size());
      CHECK(workloads::LatencyTable::parse(table.text(), "t.csv").text() == table.text());
      for (int trial = 0; trial < 4; ++trial) {
        std::map<std::pair<int, int>, profile::Reads> plan;
        std::int64_t sum = table.rest_cycles(0) + table.rest_cycles(1);
        for (int layer = 0; layer < kLayers; ++layer)
          for (int expert = 0; expert < kExperts; ++expert) {
            const profile::Reads& reads = plan[{layer, expert}] = rng.pick(wanted);
            for (const auto& [format, classes] : profile::widths_of(reads))
              sum += table.cycles(layer, expert, format, classes);
          }
        const run::ShapesOf shapes = [&plan](const run::RunInputs& in) -> program::ShapeOf {
          return [&in, &plan](int layer, int expert) {
            program::ExpertShape shape = in.shape(layer, expert);
            shape.reads = plan.at({layer, expert});
            shape.format = shape.reads[0];
            return shape;
          };
        };
        CHECK(simulated(inputs, shapes, chip, true).cycles == sum);
      }
    }
}

TEST_CASE("what some classes take at a width is the same in every run that has it", "[unit][profile]") {
  const run::RunInputs inputs = with_levels(inputs_of(45), 3);
  const program::Chip chip = chip_of(8, 256, 512, 8);
  const std::vector<profile::Reads> wanted = class_reads(false);
  const workloads::LatencyTable together = profile::profile(inputs, chip, kExperts, wanted, profile::Options{}).table;
  for (std::size_t i = 0; i < wanted.size(); i += 13) {
    const workloads::LatencyTable alone =
        profile::profile(inputs, chip, kExperts, std::vector<profile::Reads>{wanted[i]}, profile::Options{}).table;
    for (const workloads::LatencyRow& row : alone.rows())
      CHECK(row.cycles == (row.expert == workloads::LatencyRow::kRest
                               ? together.rest_cycles(row.layer)
                               : together.cycles(row.layer, row.expert, row.format, row.classes)));
  }
}

TEST_CASE("runs cover every width by every set of classes, each run as many as it can", "[unit][profile]") {
  using profile::Reads;
  const Format a = Format::mwq(2, 2, 0), b = Format::mwq(2, 2, 1), c = Format::mwq(2, 2, 2);
  CHECK(profile::widths_of(Reads{a, b, a}) ==
        std::vector<std::pair<numerics::ExpertFormats, workloads::ClassSet>>{{a, 5}, {b, 2}});
  CHECK(profile::widths_of(Reads{a}) ==
        std::vector<std::pair<numerics::ExpertFormats, workloads::ClassSet>>{{a, workloads::kEveryRow}});
  CHECK(profile::covering({{a, a}, {a, b}, {a, c}, {b, b}, {b, c}, {c, c}}) ==
        std::vector<Reads>{{a, b}, {b, c}, {a, a}, {b, b}, {c, c}});
  // Formats of one class: each, in their order.
  CHECK(profile::covering({{c}, {a}, {b}, {a}}) == std::vector<Reads>{{c}, {a}, {b}});
  for (const bool rising : {true, false}) {
    std::set<std::pair<numerics::ExpertFormats, workloads::ClassSet>> widths, covered;
    for (const Reads& reads : class_reads(rising))
      for (const auto& width : profile::widths_of(reads)) widths.insert(width);
    for (const Reads& reads : profile::covering(class_reads(rising)))
      for (const auto& width : profile::widths_of(reads)) covered.insert(width);
    CHECK(widths == covered);
  }
}

TEST_CASE("what a chip states to pass beside the core is in the sum, as the rest of its layer", "[unit][profile]") {
  run::RunInputs inputs = inputs_of(25);
  program::Chip chip = chip_of(8, 256, 512, 8);
  const std::vector<numerics::ExpertFormats> formats{Format::integer(2), Format::integer(5)};
  const auto table_of = [&] { return profile::profile(inputs, chip, kExperts, formats, profile::Options{}).table; };
  const workloads::LatencyTable plain = table_of();
  const std::string hash = profile::work_hash(inputs);
  for (program::LayerRows& rows : inputs.layers) rows.stated.router_macs = rows.layer == 0 ? 100 : 70;
  step_by_step(inputs);
  CHECK(profile::work_hash(inputs) != hash);
  CHECK_THROWS_WITH(table_of(), Catch::Contains("stated_costs: got nothing"));
  chip.stated_costs = program::StatedCosts{};
  chip.stated_costs->router = {11, 10};
  const workloads::LatencyTable stated = table_of();
  // Three batches of 11 + 10 and of 11 + 7 cycles.
  CHECK(stated.rest_cycles(0) == plain.rest_cycles(0) + 3 * 21);
  CHECK(stated.rest_cycles(1) == plain.rest_cycles(1) + 3 * 18);
  std::int64_t sum = stated.rest_cycles(0) + stated.rest_cycles(1);
  Plan plan;
  for (int layer = 0; layer < kLayers; ++layer)
    for (int expert = 0; expert < kExperts; ++expert) {
      plan[{layer, expert}] = formats[static_cast<std::size_t>(layer + expert) % 2];
      CHECK(stated.cycles(layer, expert, formats[0]) == plain.cycles(layer, expert, formats[0]));
      sum += stated.cycles(layer, expert, plan[{layer, expert}]);
    }
  CHECK(simulated(inputs, plan, chip, true).cycles == sum);
}

TEST_CASE("an expert that no row goes to takes no cycles, and a wider format never fewer", "[unit][profile]") {
  const run::RunInputs inputs = inputs_of(7);
  const workloads::LatencyTable table =
      profile::profile(inputs, chip_of(8, 256, 512, 8), kExperts, every_format(), profile::Options{}).table;
  CHECK(table.source().tokens == 11);
  CHECK(table.rows().size() == kLayers * (kExperts * numerics::all_formats().size() + 1));
  for (const Format format : numerics::all_formats()) CHECK(table.cycles(1, 4, format) == 0);
  for (int expert = 0; expert < kExperts; ++expert)
    for (int bits = 1; bits < 8; ++bits)
      CHECK(table.cycles(0, expert, Format::integer(bits)) <= table.cycles(0, expert, Format::integer(bits + 1)));
  // What was written reads back.
  CHECK(workloads::LatencyTable::parse(table.text(), "t.csv").text() == table.text());
}

TEST_CASE("profiled runs are found again by content, and not for another chip, format or routing", "[unit][profile]") {
  const Folder folder;
  const run::RunInputs inputs = inputs_of(8);
  const program::Chip chip = chip_of(8, 256, 512, 8);
  profile::Options options;
  options.cache = folder.file("a/b");
  const std::vector<numerics::ExpertFormats> formats{Format::integer(2), Format::integer(3)};
  const auto run = [&](const run::RunInputs& of, const program::Chip& on,
                       const std::vector<numerics::ExpertFormats>& in) {
    return profile::profile(of, on, kExperts, in, options);
  };
  const profile::Profile first = run(inputs, chip, formats);
  CHECK(first.cached == 0);
  const profile::Profile again = run(inputs, chip, formats);
  CHECK(again.cached == 2);
  CHECK(again.table.text() == first.table.text());
  CHECK(run(inputs, chip, {Format::integer(3), Format::integer(4)}).cached == 1);
  CHECK(run(inputs_of(9), chip, formats).cached == 0);
  program::Chip other = chip;
  other.hash = std::string(64, 'b');
  CHECK(run(inputs, other, formats).cached == 0);
  // A file that was cut short is measured again and replaced.
  for (const auto& entry : fs::directory_iterator(options.cache)) {
    const std::string text = base::read_file(entry.path().string());
    base::write_file(entry.path().string(), text.substr(0, text.size() - 3));
  }
  const profile::Profile repaired = run(inputs, chip, formats);
  CHECK(repaired.cached == 0);
  CHECK(repaired.table.text() == first.table.text());
  CHECK(run(inputs, chip, formats).cached == 2);
}

TEST_CASE("a profile's hash of its work sees routing, shapes and groups", "[unit][profile]") {
  run::RunInputs inputs = inputs_of(8);
  const std::string hash = profile::work_hash(inputs);
  CHECK(profile::work_hash(inputs_of(8)) == hash);
  CHECK(profile::work_hash(inputs_of(9)) != hash);
  inputs.shape = [](int, int) { return program::ExpertShape{Format::integer(8), kHidden, kIntermediate, 8, 10}; };
  CHECK(profile::work_hash(inputs) != hash);
}

TEST_CASE("a latency table refuses what it was not written as", "[unit][profile]") {
  const std::string hash(64, 'c'),
      start = "# moesaic profile 2\n# chip: " + hash + "\n# memory: m, of one line\n# work: " + hash +
              "\n# engine: " + hash + "\n# group_size: 64\n# tokens: 4\n",
      header = start + "layer,expert,format,jobs,rows,cycles\n";
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      workloads::LatencyTable::parse(text, "p.csv");
    } catch (const base::InputError& error) {
      return error.what();
    }
    return "accepted";
  };
  CHECK(refusal(header + "0,0,int2,1,4,10\n0,rest,,1,4,3\n") == "accepted");
  CHECK(refusal("layer,expert,format,cycles\n0,0,int2,1\n") ==
        "p.csv:1: header: got 'layer,expert,format,cycles', expected # moesaic profile 2");
  CHECK(refusal("# moesaic profile 2\n# work: x\n").find("p.csv:2: header") == 0);
  CHECK(refusal("# moesaic profile 2\n# chip: ab\n").find("p.csv:2: chip: got 'ab', expected 64") == 0);
  CHECK(refusal(header) == "p.csv: rows: got none, expected at least one");
  CHECK(refusal(header + "0,0,int2,1,4,-1\n").find("p.csv:9: cycles: got '-1', expected a whole number") == 0);
  CHECK(refusal(header + "0,0,int2,1,4,nan\n").find("p.csv:9: cycles: got 'nan'") == 0);
  CHECK(refusal(header + "0,0,int9,1,4,1\n").find("p.csv:9: format: got 'int9'") == 0);
  CHECK(refusal(header + "0,0,int2,1,4\n") == "p.csv:9: row: got 5 fields, expected 6");
  CHECK(refusal(header + "0,0,int2,1,4,1\n0,0,int2,1,4,1\n") ==
        "p.csv:10: row: got layer 0, 0 a second time, expected each once");
  CHECK(refusal(header + "0,0,int2,1,4,1\n") == "p.csv: layer 0: got no row rest, expected one for every layer");

  const std::string of_classes = "layer,expert,format,classes,jobs,rows,cycles\n", two = start + "# classes: 2\n",
                    rest = "0,rest,,,1,4,3\n";
  CHECK(refusal(two + of_classes + "0,0,int2,0,1,4,10\n0,0,int2,0;1,1,4,10\n" + rest) == "accepted");
  CHECK(refusal(start + "# classes: 1\n").find("p.csv:8: classes: got '1', expected a whole number from 2 to 16") == 0);
  CHECK(refusal(start + of_classes).find("p.csv:8: header: got 'layer,expert,format,classes") == 0);
  CHECK(refusal(two + "layer,expert,format,jobs,rows,cycles\n").find("p.csv:9: header: got ") == 0);
  for (const char* bad : {"", "2", "1;0", "0;0", "0;", ";1", "x", "-1"})
    CHECK(refusal(two + of_classes + "0,0,int2," + bad + ",1,4,10\n" + rest) ==
          std::string("p.csv:10: classes: got '") + bad +
              "', expected classes below 2, ascending, with ; between them");
  CHECK(refusal(two + of_classes + "0,0,int2,1,4,10\n") == "p.csv:10: row: got 6 fields, expected 7");
  CHECK(refusal(two + of_classes + "0,rest,,0,1,4,3\n") == "p.csv:10: classes: got '0', expected none for the rest");
  CHECK(refusal(two + of_classes + "0,0,int2,1,1,4,1\n0,0,int2,1,1,4,1\n")
            .find("p.csv:11: row: got layer 0, 0 a second") == 0);
}
