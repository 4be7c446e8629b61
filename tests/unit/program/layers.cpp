// sim/program/layer_program: whole layers, executed by the rules of docs/core.md.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "base/error.h"
#include "base/rng.h"
#include "sim/program/engine_run.h"
#include "sim/program/interpreter.h"
#include "sim/program/layer_program.h"

using namespace moesaic;
using namespace moesaic::program;
using numerics::LayoutKind;

namespace {

/// Two layers of four experts of random formats, hidden 24, intermediate 40.
struct Bench {
  std::map<std::pair<int, int>, numerics::ExpertWeights> weights;
  std::vector<LayerRows> layers;
  WeightsOf weights_of = [this](int layer, int expert) -> const numerics::ExpertWeights& {
    return weights.at({layer, expert});
  };

  explicit Bench(std::uint64_t seed, bool mixed = false) {
    base::Rng rng(seed);
    for (int layer = 0; layer < 2; ++layer)
      for (int expert = 0; expert < 4; ++expert) weights[{layer, expert}] = expert_of(rng, mixed);
    for (int step = 0; step < 3; ++step)
      for (int layer = 0; layer < 2; ++layer) layers.push_back(rows_of(rng, step, layer));
  }

  static numerics::WeightMatrix matrix(base::Rng& rng, numerics::Format format, std::int64_t n, std::int64_t k) {
    numerics::WeightMatrix w;
    w.format = format;
    w.n = n;
    w.k = k;
    w.group_size = 16;
    const auto count = static_cast<std::size_t>(n), groups = static_cast<std::size_t>(n * w.groups());
    for (std::size_t i = 0; i < count * static_cast<std::size_t>(k); ++i)
      w.codes.push_back(static_cast<std::uint8_t>(rng.below(static_cast<std::uint64_t>(format.max_code()) + 1)));
    for (std::size_t i = 0; i < groups; ++i) {
      if (format.has_zero_point()) w.zero_point.push_back(static_cast<std::uint8_t>(rng.below(256)));
      w.group_multiplier.push_back(static_cast<std::uint16_t>(rng.below(5000)));
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(format.stored_levels()) * groups; ++i)
      w.level_multiplier.push_back(static_cast<std::uint16_t>(rng.below(2000)));
    for (std::size_t i = 0; i < count; ++i) {
      w.requant_multiplier.push_back(static_cast<std::uint16_t>(30000 + rng.below(30000)));
      w.requant_shift.push_back(static_cast<std::uint8_t>(26 + rng.below(4)));
    }
    return w;
  }

  static numerics::ExpertWeights expert_of(base::Rng& rng, bool mixed) {
    const auto draw = [&rng] {
      return rng.pick(rng.chance(1, 3) ? numerics::mwq_formats() : numerics::one_bundle_formats());
    };
    numerics::ExpertFormats formats = draw();
    if (mixed) formats.down = draw();
    if (mixed && rng.chance(1, 2)) formats.up = draw();
    numerics::ExpertWeights w;
    w.gate = matrix(rng, formats.gate, 40, 24);
    w.up = matrix(rng, formats.up, 40, 24);
    w.down = matrix(rng, formats.down, 24, 40);
    w.sigma_h = 10;
    return w;
  }

  static LayerRows rows_of(base::Rng& rng, int step, int layer) {
    LayerRows rows;
    rows.name = "step " + std::to_string(step) + ", layer " + std::to_string(layer);
    rows.layer = layer;
    rows.x.m = step == 0 ? 11 : 1;
    rows.x.k = 24;
    rows.top_k = 2;
    for (std::int64_t i = 0; i < rows.x.m * 24; ++i)
      rows.x.values.push_back(static_cast<std::int16_t>(rng.range(-128, 127)));
    for (std::int64_t m = 0; m < rows.x.m; ++m) {
      rows.x.token_shift.push_back(static_cast<std::uint8_t>(rng.below(4)));
      const auto first = static_cast<std::uint32_t>(rng.below(4));
      rows.chosen.push_back(first);
      rows.chosen.push_back((first + 1 + static_cast<std::uint32_t>(rng.below(3))) % 4);
      rows.r.push_back(static_cast<std::uint16_t>(rng.below(32769)));
      rows.r.push_back(static_cast<std::uint16_t>(32768 - rows.r.back()));
    }
    return rows;
  }
};

CoreParams core_with(unsigned max_tokens, unsigned act_depth, unsigned hidden_depth) {
  CoreParams core;
  core.rows = 4;
  core.cols = 8;
  core.max_tokens = max_tokens;
  core.act_depth = act_depth;
  core.hidden_depth = hidden_depth;
  return core;
}

}  // namespace

TEST_CASE("every row and every combination of a run of layers is the reference's, on any core", "[unit][program]") {
  const Bench bench(11);
  for (const LayoutKind layout : numerics::layout_kinds())
    for (const CoreParams& core :
         {core_with(8, 256, 512), core_with(2, 32, 32), core_with(8, 8, 8), core_with(1, 4, 4)}) {
      INFO(core.max_tokens << " tokens, " << core.act_depth << " words, " << core.hidden_depth << " hidden words");
      RunProgram run = lower_layers(bench.layers, bench.weights_of, core, layout, "bench");
      REQUIRE(run.phases.size() == bench.layers.size());
      REQUIRE(run.tags.size() == run.loaded.image.counters());
      Interpreter(core, run.loaded.image).run(run.loaded.commands);
      for (std::size_t p = 0; p < run.phases.size(); ++p)
        CHECK(first_layer_difference(bench.layers[p], layer_reference(bench.layers[p], bench.weights_of), run.phases[p],
                                     run.loaded.image) == "");
    }
}

TEST_CASE("rows of one expert that read it at several widths each read their planes of the one stored copy",
          "[unit][program]") {
  Bench bench(17);
  base::Rng rng(18);
  // Expert 0 nested, 1 MWQ, 2 MWQ with two levels of one width; 3 has one width only.
  const std::vector<std::vector<std::string>> names{{"nested2", "nested5", "nested8"},
                                                    {"mwq2+0of2", "mwq2+1of2", "mwq2+2"},
                                                    {"mwq1+3of4", "mwq1+1of4", "mwq1+1of4"},
                                                    {}};
  std::map<int, ExpertShape> shapes;
  for (auto& [key, weights] : bench.weights) {
    ExpertShape& shape = shapes[key.second];
    for (const std::string& name : names[static_cast<std::size_t>(key.second)])
      shape.reads.push_back(numerics::Format::parse(name, "test", "reads"));
    if (shape.reads.size() > 3) shape.reads.resize(3);
    const numerics::Format stored = shape.reads.empty() ? numerics::Format::integer(3) : shape.reads[1].gate;
    weights.gate = Bench::matrix(rng, stored, 40, 24);
    weights.up = Bench::matrix(rng, stored, 40, 24);
    weights.down = Bench::matrix(rng, stored, 24, 40);
    shape = {stored, 24, 40, 16, weights.sigma_h, shape.reads};
  }
  for (LayerRows& layer : bench.layers)
    for (std::size_t c = 0; c < layer.chosen.size(); ++c)
      layer.levels.push_back(static_cast<std::uint8_t>(rng.below(3)));
  const ShapeOf shape_of = [&shapes](int, int expert) { return shapes.at(expert); };
  LowerOptions options;
  options.shapes = shape_of;
  for (const LayoutKind layout : numerics::layout_kinds()) {
    const CoreParams core = core_with(8, 256, 512);
    RunProgram run = lower_layers(bench.layers, bench.weights_of, core, layout, "bench", {}, options);
    Interpreter interpreter(core, run.loaded.image);
    interpreter.run(run.loaded.commands);
    // A pass over an expert reads what its width reads, and one job has one width.
    std::uint64_t read = 0;
    std::map<std::size_t, std::map<int, std::set<int>>> widths;  // phase, expert, planes
    for (const RunProgram::Job& job : run.jobs) {
      if (job.expert == kCombination) continue;
      const std::int64_t passes = (job.rows + core.max_tokens - 1) / core.max_tokens;
      read += static_cast<std::uint64_t>(
          passes *
          numerics::stored_layout(job.format.gate, numerics::expert_shapes(24, 40, 16), {layout, 4, 8}).read_bytes());
      CHECK(widths[job.phase][job.expert].insert(job.format.gate.planes()).second);
    }
    CHECK(interpreter.weight_bytes == read);
    CHECK(widths[0].at(0) == std::set<int>{2, 5, 8});
    CHECK(widths[0].at(1) == std::set<int>{2, 3, 4});
    CHECK(widths[0].at(2) == std::set<int>{2, 4});
    CHECK(widths[0].at(3) == std::set<int>{3});
    for (std::size_t p = 0; p < run.phases.size(); ++p) {
      const LayerRows& layer = bench.layers[p];
      const LayerResult expected = layer_reference(layer, bench.weights_of, {}, shape_of);
      CHECK(first_layer_difference(layer, expected, run.phases[p], run.loaded.image) == "");
      // One choice at a time, as numerics computes the expert in the format that the choice reads.
      for (std::size_t c = 0; c < layer.chosen.size(); ++c) {
        const int expert = static_cast<int>(layer.chosen[c]);
        numerics::ExpertWeights w = bench.weights_of(layer.layer, expert);
        if (expert < 3)
          for (numerics::WeightMatrix* m : {&w.gate, &w.up, &w.down})
            m->format = numerics::Format::parse(names[static_cast<std::size_t>(expert)][layer.levels[c]], "test", "");
        numerics::Activations x;
        x.m = 1;
        x.k = 24;
        const auto row = layer.x.values.begin() + static_cast<std::ptrdiff_t>(c / 2 * 24);
        x.values.assign(row, row + 24);
        x.token_shift = {layer.x.token_shift[c / 2]};
        const numerics::ExpertResult one = numerics::expert_ffn(w, x, numerics::Path::kReference);
        REQUIRE(
            std::equal(one.y.begin(), one.y.end(), expected.expert_rows.begin() + static_cast<std::ptrdiff_t>(c * 24)));
      }
    }
  }
}

TEST_CASE("experts whose gate, up and down differ in format give the reference's rows, on any core",
          "[unit][program]") {
  for (const std::uint64_t seed : {21U, 22U, 23U}) {
    const Bench bench(seed, true);
    for (const LayoutKind layout : numerics::layout_kinds())
      for (const CoreParams& core :
           {core_with(8, 256, 512), core_with(2, 32, 32), core_with(8, 8, 8), core_with(1, 4, 4)}) {
        INFO("seed " << seed << ", " << core.max_tokens << " tokens, " << core.act_depth << " words");
        RunProgram run = lower_layers(bench.layers, bench.weights_of, core, layout, "bench");
        REQUIRE(run.tags.size() == run.loaded.image.counters());
        Interpreter interpreter(core, run.loaded.image);
        interpreter.run(run.loaded.commands);
        for (std::size_t p = 0; p < run.phases.size(); ++p)
          CHECK(first_layer_difference(bench.layers[p], layer_reference(bench.layers[p], bench.weights_of),
                                       run.phases[p], run.loaded.image) == "");
        // The same commands from shapes alone.
        const ShapeOf shapes = [&](int layer, int expert) {
          const numerics::ExpertWeights& w = bench.weights.at({layer, expert});
          return ExpertShape{w.formats(), 24, 40, 16, w.sigma_h};
        };
        CHECK(lower_layers_without_data(bench.layers, shapes, core, layout, "bench").loaded.commands ==
              run.loaded.commands);
      }
  }
}

TEST_CASE("gate and up take turns in one command, and block by block where their formats differ", "[unit][program]") {
  const CoreParams core = core_with(8, 256, 512);
  const auto products = [&](const numerics::ExpertFormats& formats) {
    LayerRows layer = Bench(31).layers[0];
    layer.top_k = 1;
    layer.chosen.assign(11, 0);
    layer.r.assign(11, 32768);
    const ShapeOf shapes = [&](int, int) { return ExpertShape{formats, 24, 40, 16, 10}; };
    const RunProgram run = lower_layers_without_data({layer}, shapes, core, LayoutKind::kTileMajor, "bench");
    std::vector<Command> all;
    for (const Command& command : run.loaded.commands)
      if (command.opcode == Opcode::kMatmul) all.push_back(command);
    return all;
  };
  const auto int2 = numerics::Format::integer(2), int3 = numerics::Format::integer(3);
  // Eleven rows in blocks of 8 and 3.
  const auto together = products({int2, int2, int3}), apart = products({int2, int3, int3});
  REQUIRE(together.size() == 4);
  CHECK(together[0].paired);
  CHECK(together[0].planes_read == 2);
  CHECK_FALSE(together[1].paired);
  CHECK(together[1].planes_read == 3);
  REQUIRE(apart.size() == 2 * (5 * 2 + 1));  // 40 columns are five blocks of gate and of up
  for (std::size_t i = 0; i < 10; ++i) {
    CHECK(apart[i].swiglu_part);
    CHECK(apart[i].which_up == (i % 2 == 1));
    CHECK(apart[i].planes_read == (i % 2 == 1 ? 3 : 2));
    CHECK(apart[i].hidden_clear == (i == 0));
  }
}

TEST_CASE("with barriers no address of any region depends on an expert's formats", "[unit][program]") {
  // Hidden rows go through memory, in blocks of tokens whose number depends on the formats.
  LowerOptions options;
  options.barriers = true;
  const Bench bench(17);
  for (const CoreParams& core : {core_with(8, 256, 32), core_with(16, 256, 512), core_with(4, 64, 8)})
    for (const LayoutKind layout : numerics::layout_kinds()) {
      const auto lowered = [&](const numerics::ExpertFormats& formats) {
        const ShapeOf shapes = [formats](int, int) { return ExpertShape{formats, 24, 40, 16, 10}; };
        return lower_layers_without_data(bench.layers, shapes, core, layout, "bench", options);
      };
      const auto places = [](const RunProgram& run) {
        std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> of;
        for (const MemoryImage::Region& region : run.loaded.image.regions())
          if (region.kind != Kind::kWeights && region.kind != Kind::kParams && region.kind != Kind::kRequant)
            of[region.name] = {region.address, region.bytes};
        return of;
      };
      const RunProgram narrow = lowered(numerics::Format::binary());
      for (const numerics::ExpertFormats& formats :
           {numerics::ExpertFormats(numerics::Format::integer(8)), numerics::ExpertFormats(numerics::Format::nested(2)),
            numerics::ExpertFormats(numerics::Format::mwq(1, 7, 7)),
            numerics::ExpertFormats(numerics::Format::integer(1), numerics::Format::mwq(1, 7, 7),
                                    numerics::Format::integer(8))}) {
        CAPTURE(formats.name(), core.max_tokens, core.hidden_depth);
        const RunProgram wide = lowered(formats);
        CHECK(places(wide) == places(narrow));
        REQUIRE(wide.experts.size() == narrow.experts.size());
        for (std::size_t e = 0; e < wide.experts.size(); ++e)
          CHECK(wide.experts[e].object.address == narrow.experts[e].object.address);
      }
    }
}

TEST_CASE("a dense layer is one expert for every row, whose results no combination follows", "[unit][program]") {
  const Bench bench(15);
  LayerRows layer = bench.layers[0];
  layer.part = Part::kDense;
  layer.top_k = 1;
  layer.chosen.assign(11, 3);
  layer.r.assign(11, 32768);
  const CoreParams core = core_with(4, 64, 64);
  RunProgram run = lower_layers({layer}, bench.weights_of, core, LayoutKind::kTileMajor, "bench");
  REQUIRE(run.jobs.size() == 1);
  CHECK(run.jobs[0].rows == 11);
  Interpreter(core, run.loaded.image).run(run.loaded.commands);
  const LayerResult expected = layer_reference(layer, bench.weights_of);
  CHECK(expected.values() == 11 * 24);
  CHECK(first_layer_difference(layer, expected, run.phases[0], run.loaded.image) == "");
}

TEST_CASE("products read whole matrices, every head's, or the part of a cache that is filled", "[unit][program]") {
  base::Rng rng(16);
  std::map<std::pair<std::string, std::int64_t>, numerics::WeightMatrix> drawn;
  const MatrixOf matrix_of = [&](const MatrixStack& stack, std::int64_t index) -> const numerics::WeightMatrix& {
    const auto key = std::make_pair(stack.name, index);
    if (drawn.count(key) == 0) drawn[key] = Bench::matrix(rng, stack.format, stack.n, stack.k);
    return drawn.at(key);
  };
  const auto product = [&](const char* name, const MatrixStack& stack, std::int64_t n, std::int64_t k,
                           std::int64_t rows, int out_bits) {
    Product p;
    p.name = name;
    p.stack = stack;
    p.stack.group_size = 16;
    p.n = n;
    p.k = k;
    p.rows = rows;
    p.stack.out_bits = out_bits;
    if (p.stack.is_cache) p.in = p.out = Kind::kScores;
    p.x.m = stack.count * rows;
    p.x.k = k;
    for (std::int64_t i = 0; i < p.x.m * k; ++i) p.x.values.push_back(static_cast<std::int16_t>(rng.range(-128, 127)));
    return p;
  };
  const auto int8 = numerics::Format::integer(8);
  LayerRows in, scores;
  in.name = "layer 0, projections";
  in.part = Part::kProjections;
  in.products = {product("q", {"wq", numerics::Format::integer(3), 1, 37, 24, 16, 8, false}, 37, 24, 5, 8),
                 product("kv_b", {"wb", numerics::Format::ternary(), 3, 20, 24, 16, 8, false}, 20, 24, 5, 16)};
  scores.name = "layer 0, scores";
  scores.part = Part::kScores;
  scores.products = {product("scores", {"keys", int8, 2, 64, 24, 16, 8, true}, 24, 24, 7, 16),
                     product("values", {"values", int8, 2, 20, 64, 16, 8, true}, 20, 24, 7, 8),
                     product("values", {"values", int8, 2, 20, 64, 16, 8, true}, 20, 64, 2, 8)};
  for (const LayoutKind layout : numerics::layout_kinds())
    for (const CoreParams& core :
         {core_with(8, 256, 512), core_with(2, 32, 32), core_with(4, 8, 8), core_with(1, 4, 4)}) {
      INFO(core.max_tokens << " tokens, " << core.act_depth << " words");
      RunProgram run = lower_layers({in, scores}, {}, core, layout, "bench", matrix_of);
      REQUIRE(run.jobs.size() == 5);
      CHECK(run.jobs[2].plane_adds == 2 * 7 * 24 * 24 * 8);
      Interpreter(core, run.loaded.image).run(run.loaded.commands);
      CHECK(first_layer_difference(in, layer_reference(in, {}, matrix_of), run.phases[0], run.loaded.image) == "");
      const LayerResult expected = layer_reference(scores, {}, matrix_of);
      CHECK(first_layer_difference(scores, expected, run.phases[1], run.loaded.image) == "");
      std::size_t zero = 0;
      for (const std::int16_t y : expected.products[0]) zero += y == 0;
      CHECK(zero < expected.products[0].size() / 2);
      // Without data the commands and regions are the same.
      const RunProgram shapes = lower_layers_without_data({in, scores}, {}, core, layout, "bench");
      CHECK(shapes.loaded.commands == run.loaded.commands);
      CHECK(shapes.loaded.image.end() == run.loaded.image.end());
      // A wrong byte is named.
      const std::uint64_t at = run.phases[1].products[1] + 20 + 3;
      run.loaded.image.write_byte(at, static_cast<std::uint8_t>(run.loaded.image.read(at) ^ 1));
      CHECK(first_layer_difference(scores, expected, run.phases[1], run.loaded.image)
                .find("layer 0, scores: values, row 1, column 3: got ") == 0);
    }
}

TEST_CASE("a wrong byte in a result is named with layer, expert, token, column and both values", "[unit][program]") {
  const Bench bench(12);
  const CoreParams core = core_with(4, 64, 64);
  RunProgram run = lower_layers(bench.layers, bench.weights_of, core, LayoutKind::kTileMajor, "bench");
  Interpreter(core, run.loaded.image).run(run.loaded.commands);
  const LayerRows& layer = bench.layers[1];
  const LayerResult expected = layer_reference(layer, bench.weights_of);
  const std::size_t at = (3 * 2 + 1) * 24 + 5;  // token 3, second choice, column 5
  const std::uint64_t address = run.phases[1].expert_rows + 2 * at;
  run.loaded.image.write_byte(address, static_cast<std::uint8_t>(run.loaded.image.read(address) ^ 1));
  const int right = expected.expert_rows[at];
  CHECK(first_layer_difference(layer, expected, run.phases[1], run.loaded.image) ==
        "step 0, layer 1: expert " + std::to_string(layer.chosen[7]) + ", token 3, column 5: got " +
            std::to_string(right ^ 1) + ", expected " + std::to_string(right));
}

TEST_CASE("an expert's weights lie in memory once, whatever the number of steps that read them", "[unit][program]") {
  const Bench bench(13);
  const RunProgram run =
      lower_layers(bench.layers, bench.weights_of, core_with(8, 64, 64), LayoutKind::kTileMajor, "bench");
  std::uint64_t stored = 0, in_image = 0;
  for (const auto& expert : run.experts) stored += static_cast<std::uint64_t>(expert.object.layout->total_bytes());
  for (const auto& region : run.loaded.image.regions())
    if (region.kind == Kind::kWeights || region.kind == Kind::kParams || region.kind == Kind::kRequant)
      in_image += region.bytes;
  CHECK(run.experts.size() == 8);
  CHECK(in_image == stored);
  std::size_t next = 0;
  for (const auto& job : run.jobs) {
    CHECK(job.first_command >= next);
    next = job.first_command;
  }
}

TEST_CASE("hidden rows go through memory rather than weights twice, where that moves fewer bytes", "[unit][program]") {
  const Bench bench(14);
  LayerRows layer = bench.layers[0];
  layer.top_k = 1;
  layer.chosen.assign(11, 2);
  layer.r.assign(11, 32768);
  using Passes = std::vector<std::uint64_t>;  // over the weights; rows that came back from memory
  const auto run_on = [&](unsigned max_tokens, unsigned hidden_depth) {
    const CoreParams core = core_with(max_tokens, 256, hidden_depth);
    RunProgram run = lower_layers({layer}, bench.weights_of, core, LayoutKind::kTileMajor, "bench");
    Interpreter interpreter(core, run.loaded.image);
    interpreter.run(run.loaded.commands);
    const auto once = static_cast<std::uint64_t>(run.experts[0].object.layout->read_bytes());
    return Passes{interpreter.weight_bytes / once, interpreter.loads_of_spilled_rows};
  };
  // 40 hidden values are 10 words a token: 16 tokens fit in 256 words, one in 16.
  CHECK(run_on(16, 256) == Passes{1, 0});
  CHECK(run_on(16, 16) == Passes{1, 11});
  CHECK(run_on(1, 16) == Passes{11, 0});
}

TEST_CASE("two regions never share the widest beat", "[unit][program]") {
  MemoryImage image(64);
  CoreParams widest;
  widest.axi_data_bits = 512;
  std::uint64_t end = 0;
  for (const unsigned skew : {0U, 1U, 63U, 0U, 17U}) {
    const std::uint64_t at = image.allocate("a", Kind::kActivations, 65, skew);
    CHECK(at / widest.beat_bytes() > (end == 0 ? 0 : (end - 1) / widest.beat_bytes()));
    end = at + 65;
  }
}

TEST_CASE("bytes of a beat are counted in every region they touch, and the rest is padding", "[unit][program]") {
  MemoryImage image(64);
  const std::uint64_t a = image.allocate("a", Kind::kActivations, 100);
  const std::uint64_t b = image.allocate("b", Kind::kOutputs, 10);
  Traffic traffic(image);
  for (std::uint64_t at = a; at < b + 16; at += 8) traffic.count(MemoryPort::kWrite, at, 8);
  traffic.count(MemoryPort::kWrite, a + 96, 8);
  CHECK(traffic.counted(MemoryPort::kWrite, 0) == 104);
  CHECK(traffic.counted(MemoryPort::kWrite, 1) == 10);
  CHECK(traffic.total(MemoryPort::kWrite) == 128 + 16 + 8);
  CHECK(traffic.padding(MemoryPort::kWrite) == 128 + 16 + 8 - 104 - 10);
  CHECK(traffic.total(MemoryPort::kWeightRead) == 0);
}
