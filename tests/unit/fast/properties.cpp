// What a designer may count on (docs/anomalies.md). More bits always move more bytes over the weight port, on any
// array. With the simple memory, everything resident and commands in order, more work never takes fewer cycles, as long
// as the memory serves all ports at once, readers hold what is on its way, and tokens make the same blocks.
#include <catch2/catch.hpp>
#include <memory>

#include "base/rng.h"
#include "sim/fast/engine.h"
#include "sim/program/chip.h"
#include "sim/program/program.h"

using namespace moesaic;
using program::CoreParams;
using program::Kind;
using program::MemoryPort;

namespace {

std::uint64_t bytes(std::int64_t count) { return static_cast<std::uint64_t>(count); }

/// One product or one expert behind a simple memory.
struct Work {
  CoreParams core;
  memory::MemoryConfig memory;
  bool expert = false;
  std::int64_t tokens = 1, n = 0, k = 0, group = 0;
  numerics::LayoutKind layout = numerics::LayoutKind::kTileMajor;
  int bits = 4;

  program::EngineRun run(const std::optional<std::uint64_t>& stall_seed = std::nullopt,
                         const std::optional<unsigned>& stall_eighths = std::nullopt) const {
    program::MemoryImage image = program::MemoryImage::without_bytes();
    program::ProgramBuilder builder(core, image);
    const std::uint64_t x = image.allocate("x", Kind::kActivations, bytes(tokens * k));
    const std::uint64_t y = image.allocate("y", Kind::kOutputs, bytes(tokens * (expert ? k : n) * 2));
    const numerics::LayoutSpec spec{layout, static_cast<int>(core.rows), static_cast<int>(core.cols)};
    const auto format = numerics::Format::integer(bits);
    std::vector<program::TokenRow> rows;
    for (std::int64_t t = 0; t < tokens; ++t)
      rows.push_back({x + bytes(t * k), y + bytes(t * (expert ? k : n) * 2), 0, 0});
    program::ProductOptions product;
    product.out_bits = 16;
    if (expert)
      builder.expert(builder.reserve("w", std::make_shared<const numerics::ExpertLayout>(format, k, n, group, spec)),
                     rows, {});
    else
      builder.product(builder.reserve("w", std::make_shared<const numerics::StoredLayout>(numerics::stored_layout(
                                               format, numerics::product_shapes(n, k, group), spec))),
                      rows, product);
    fast::Options options;
    options.memory = memory;
    options.stall_seed = stall_seed;
    options.stall_eighths = stall_eighths;
    const std::vector<program::Command> commands = builder.take();
    program::EngineRun result = fast::run(core, commands, {0}, image, options).engine;
    check_bytes(image, result);
    return result;
  }

  /// At every port regions and padding are all that crossed it, in whole beats.
  void check_bytes(const program::MemoryImage& image, const program::EngineRun& result) const {
    for (const MemoryPort port : {MemoryPort::kWeightRead, MemoryPort::kActivationRead, MemoryPort::kWrite}) {
      std::uint64_t named = result.traffic.padding(port);
      for (std::size_t c = 0; c < image.counters(); ++c) named += result.traffic.counted(port, c);
      CHECK(named == result.traffic.total(port));
      CHECK(named % core.beat_bytes() == 0);
      CHECK(named == result.phase_ends.back().bytes[static_cast<std::size_t>(port)]);
    }
  }

  std::string text() const {
    return std::to_string(core.rows) + "x" + std::to_string(core.cols) + ", " + std::to_string(core.planes_per_cycle) +
           " planes a cycle, beats of " + std::to_string(core.axi_data_bits) + " bits, " +
           std::to_string(memory.bytes_per_cycle) + " bytes a cycle after " +
           std::to_string(memory.read_latency_cycles) + ", " + std::to_string(tokens) + " tokens, n " +
           std::to_string(n) + ", k " + std::to_string(k) + ", groups of " + std::to_string(group) + ", int" +
           std::to_string(bits) + (expert ? ", expert" : "") + ", act_depth " + std::to_string(core.act_depth) +
           ", max_tokens " + std::to_string(core.max_tokens) +
           (layout == numerics::LayoutKind::kPlaneMajor ? ", plane_major" : "");
  }
};

/// Any array, any memory, whole tiles. The buffers hold everything, so that what is to be loaded does not depend on
/// bits.
Work draw(base::Rng& rng) {
  Work work;
  work.core.rows = 4U << rng.below(4);
  work.core.cols = 4U << rng.below(4);
  work.core.planes_per_cycle = 1U << rng.below(3);
  work.core.max_act_bits = 8;
  work.core.axi_data_bits = 64U << rng.below(4);
  work.core.max_tokens = 32;
  work.core.act_depth = 4096;
  work.core.hidden_depth = 4096;
  work.core.fifo_depth = 16U << rng.below(4);
  work.core.command_depth = 4U << rng.below(3);
  work.memory = {"simple", rng.range(1, 90), rng.range(1, 40), rng.pick(std::vector<std::int64_t>{3, 8, 16, 32, 102})};
  work.expert = rng.chance(1, 2);
  work.tokens = rng.range(1, 12);
  work.group = std::int64_t{work.core.rows} * rng.range(1, 4);
  work.k = work.group * rng.range(1, 4);
  work.n = std::int64_t{work.core.cols} * rng.range(1, 6);
  if (work.expert) {
    work.n = 32 * rng.range(1, 4);
    work.k = 32 * rng.range(1, 4);
    work.group = 32;
  }
  work.layout = rng.chance(1, 2) ? numerics::LayoutKind::kTileMajor : numerics::LayoutKind::kPlaneMajor;
  return work;
}

/// The same, and ports do not meet: the memory takes two bursts and a beat that is written in one cycle, so that none
/// waits for another, and a reader holds what is on its way and some bursts more.
Work draw_ample(base::Rng& rng) {
  Work work = draw(rng);
  work.memory.read_latency_cycles = rng.range(1, 32);
  work.memory.bytes_per_cycle = 33 * std::int64_t{work.core.beat_bytes()};
  work.core.fifo_depth = 64U << rng.below(3);
  return work;
}

/// A plane of every command is two beats at least. Shorter ones may lie across a beat's end with fewer bits only.
bool has_two_beats(const Work& work) { return work.n * work.k >= 16 * std::int64_t{work.core.beat_bytes()}; }

std::uint64_t weight_bytes(const program::EngineRun& run) { return run.traffic.total(MemoryPort::kWeightRead); }

/// Beats that a range of bytes touches, in bytes.
std::int64_t touched(std::int64_t begin, std::int64_t bytes_of_range, std::int64_t beat) {
  return ((begin + bytes_of_range - 1) / beat - begin / beat + 1) * beat;
}

}  // namespace

TEST_CASE("the bytes read always rise with the bits, on any array, in either layout, whatever the shape",
          "[unit][fast]") {
  base::Rng rng(106);
  for (int i = 0; i < 60; ++i) {
    Work work = draw(rng);
    if (rng.chance(1, 2)) {
      work.group = 8 * rng.range(1, 8);
      work.n = rng.range(1, 70);
      work.k = rng.range(1, 70);
    }
    if (!has_two_beats(work)) work.k = work.n = 4 * std::int64_t{work.core.beat_bytes()};
    std::uint64_t before = 0;
    for (work.bits = 1; work.bits <= 8; ++work.bits) {
      INFO(i << ": " << work.text());
      const std::uint64_t now = weight_bytes(work.run());
      CHECK(now > before);
      before = now;
    }
  }
}

TEST_CASE("every beat of a product's planes, parameters and requantisation is read once", "[unit][fast]") {
  base::Rng rng(107);
  for (int i = 0; i < 100; ++i) {
    Work work = draw(rng);
    work.expert = false;
    work.layout = numerics::LayoutKind::kTileMajor;
    work.tokens = 1;
    work.bits = static_cast<int>(rng.range(1, 8));
    work.group = 8 * rng.range(1, 8);
    work.n = rng.range(1, 80);
    work.k = rng.range(1, 80);
    const numerics::LayoutSpec spec{work.layout, static_cast<int>(work.core.rows), static_cast<int>(work.core.cols)};
    const numerics::StoredLayout layout = numerics::stored_layout(
        numerics::Format::integer(work.bits), numerics::product_shapes(work.n, work.k, work.group), spec);
    const std::int64_t beat = work.core.beat_bytes();
    INFO(i << ": " << work.text());
    CHECK(weight_bytes(work.run()) == bytes(touched(0, layout.plane_stride() * work.bits, beat) +
                                            touched(layout.params_offset(0), 3 * work.n * layout.groups(0), beat) +
                                            touched(layout.requant_offset(0), 3 * work.n, beat)));
  }
}

TEST_CASE("on every shipped chip the bytes read rise with the bits", "[unit][fast]") {
  for (const char* name : {"r4c4p1a8", "r4c8p4a4", "r8c4p2a8", "r8c8p2a16", "r16c8p1a8", "r16c16p2a8", "r16c32p4a8",
                           "r32c32p2a8", "r4c8p1a8", "demo", "large-64x64"}) {
    const program::Chip chip = program::read_chip(std::string("chips/") + name + ".yaml");
    for (const bool expert : {false, true}) {
      Work work;
      work.core = chip.core;
      work.memory = {"simple", 20, 10, 8};
      work.layout = numerics::LayoutKind::kTileMajor;
      work.expert = expert;
      work.tokens = 2;
      work.n = work.k = 96;
      work.group = 32;
      std::uint64_t before = 0;
      for (work.bits = 1; work.bits <= 8; ++work.bits) {
        INFO(name << ": " << work.text());
        const std::uint64_t now = weight_bytes(work.run());
        CHECK(now > before);
        before = now;
      }
    }
  }
}

TEST_CASE("cycles never fall when bits rise", "[unit][fast]") {
  base::Rng rng(101);
  for (int i = 0; i < 60; ++i) {
    Work work = draw_ample(rng);
    std::uint64_t before = 0;
    for (work.bits = 1; work.bits <= 8; ++work.bits) {
      const program::EngineRun run = work.run();
      INFO(i << ": " << work.text());
      CHECK(run.cycles >= before);
      before = run.cycles;
    }
  }
}

TEST_CASE("cycles never fall when tokens rise", "[unit][fast]") {
  base::Rng rng(102);
  for (int i = 0; i < 60; ++i) {
    Work work = draw_ample(rng);
    work.bits = static_cast<int>(rng.range(1, 8));
    std::uint64_t before = 0;
    for (work.tokens = 1; work.tokens <= 36; work.tokens += 1 + work.tokens / 4) {
      const program::EngineRun run = work.run();
      INFO(i << ": " << work.text());
      CHECK(run.cycles >= before);
      before = run.cycles;
    }
  }
}

TEST_CASE("cycles never fall when channels stall", "[unit][fast]") {
  base::Rng rng(103);
  for (int i = 0; i < 60; ++i) {
    Work work = draw_ample(rng);
    work.bits = static_cast<int>(rng.range(1, 8));
    INFO(i << ": " << work.text());
    const std::uint64_t free = work.run().cycles;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) CHECK(work.run(seed).cycles >= free);
  }
}

TEST_CASE("cycles never fall when the memory answers later, whatever the readers hold", "[unit][fast]") {
  base::Rng rng(108);
  for (int i = 0; i < 60; ++i) {
    Work work = draw_ample(rng);
    work.core.fifo_depth = 16U << rng.below(4);
    work.bits = static_cast<int>(rng.range(1, 8));
    INFO(i << ": " << work.text());
    std::uint64_t before = 0;
    for (const std::int64_t latency : {1, 2, 5, 11, 30, 31, 80, 200}) {
      work.memory.read_latency_cycles = latency;
      const std::uint64_t now = work.run().cycles;
      INFO("latency " << latency);
      CHECK(now >= before);
      before = now;
    }
  }
}

TEST_CASE("a run whose channels stall in any share of cycles never ends before one without stalls", "[unit][fast]") {
  base::Rng rng(105);
  for (int i = 0; i < 40; ++i) {
    Work work = draw_ample(rng);
    work.bits = static_cast<int>(rng.range(1, 8));
    INFO(i << ": " << work.text());
    const std::uint64_t free = work.run().cycles;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      CHECK(work.run(seed, 0).cycles == free);
      for (unsigned eighths = 1; eighths <= 7; ++eighths) {
        INFO("seed " << seed << ", " << eighths << " eighths");
        CHECK(work.run(seed, eighths).cycles >= free);
      }
      CHECK(work.run(seed, 7).cycles > work.run(seed, 1).cycles);
    }
  }
}

TEST_CASE("3 and 4 bits differ in cycles at one plane a cycle, and at any rate where weights are the bound",
          "[unit][fast]") {
  base::Rng rng(104);
  for (int i = 0; i < 60; ++i) {
    Work work = draw_ample(rng);
    const bool one_plane = rng.chance(1, 2);
    if (one_plane) {
      work.core.planes_per_cycle = 1;
    } else {
      work.memory.bytes_per_cycle = 3;
      work.tokens = 1;
    }
    work.bits = 3;
    const std::uint64_t three = work.run().cycles;
    work.bits = 4;
    INFO(i << ": " << work.text());
    CHECK(work.run().cycles > three);
  }
}

// Why the properties above ask for more than a memory and a reader: numbers of docs/anomalies.md.
TEST_CASE("ports that share a memory, and a reader that does not hold a latency, make more work end sooner",
          "[unit][fast]") {
  Work work;
  work.core.max_act_bits = 8;
  work.core.max_tokens = 32;
  work.core.act_depth = 4096;
  work.core.hidden_depth = 4096;
  work.core.command_depth = 8;
  work.core.planes_per_cycle = 4;
  work.k = work.group = 32;

  work.core.rows = 4;
  work.core.cols = 8;
  work.core.axi_data_bits = 64;
  work.core.fifo_depth = 16;
  work.memory = {"simple", 20, 10, 8};
  work.tokens = 6;
  work.n = 8;
  work.bits = 6;
  CHECK(work.run().cycles == 316);
  work.bits = 7;
  CHECK(work.run().cycles == 315);

  work.core.rows = 16;
  work.core.cols = 32;
  work.core.axi_data_bits = 256;
  work.core.fifo_depth = 32;
  work.memory = {"simple", 80, 10, 33 * 32};
  work.n = 64;
  work.k = 96;
  work.bits = 8;
  work.tokens = 2;
  CHECK(work.run().cycles == 992);
  work.tokens = 3;
  CHECK(work.run().cycles == 953);
}
