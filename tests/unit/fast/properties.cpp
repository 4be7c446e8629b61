// What a designer may count on (docs/anomalies.md): with the simple memory, everything resident and commands in order,
// more work never takes fewer cycles, as long as a tile's plane is whole beats and tokens make the same blocks.
#include <catch2/catch.hpp>
#include <memory>

#include "base/rng.h"
#include "sim/fast/engine.h"
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

/// Every plane of a tile is whole beats, and whole tiles make groups and matrices. The buffers hold everything, so that
/// what is to be loaded does not depend on bits.
Work draw(base::Rng& rng) {
  Work work;
  work.core.rows = 16U << rng.below(2);
  work.core.cols = 16U << rng.below(2);
  work.core.planes_per_cycle = 1U << rng.below(3);
  work.core.max_act_bits = 8;
  work.core.axi_data_bits = 64U << rng.below(3);
  work.core.max_tokens = 32;
  work.core.act_depth = 4096;
  work.core.hidden_depth = 4096;
  work.core.fifo_depth = 16U << rng.below(4);
  work.core.command_depth = 4U << rng.below(3);
  work.memory = {"simple", rng.range(1, 90), rng.range(1, 40), rng.pick(std::vector<std::int64_t>{3, 8, 16, 32, 102})};
  work.expert = rng.chance(1, 2);
  work.tokens = rng.range(1, 12);
  work.group = work.core.rows * rng.range(1, 4);
  work.k = work.group * rng.range(1, 4);
  work.n = work.core.cols * rng.range(1, 6);
  if (work.expert) {
    work.n = 32 * rng.range(1, 4);
    work.k = 32 * rng.range(1, 4);
    work.group = 32;
  }
  work.layout = rng.chance(1, 2) ? numerics::LayoutKind::kTileMajor : numerics::LayoutKind::kPlaneMajor;
  return work;
}

}  // namespace

TEST_CASE("cycles never fall when bits rise, and the bytes read always rise with them", "[unit][fast]") {
  base::Rng rng(101);
  for (int i = 0; i < 60; ++i) {
    Work work = draw(rng);
    std::uint64_t before = 0, bytes_before = 0;
    for (work.bits = 1; work.bits <= 8; ++work.bits) {
      const program::EngineRun run = work.run();
      INFO(i << ": " << work.text());
      CHECK(run.cycles >= before);
      CHECK(run.traffic.total(MemoryPort::kWeightRead) > bytes_before);
      before = run.cycles;
      bytes_before = run.traffic.total(MemoryPort::kWeightRead);
    }
  }
}

TEST_CASE("cycles never fall when tokens rise", "[unit][fast]") {
  base::Rng rng(102);
  for (int i = 0; i < 60; ++i) {
    Work work = draw(rng);
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

TEST_CASE("cycles never fall when the memory answers later, nor when channels stall", "[unit][fast]") {
  base::Rng rng(103);
  for (int i = 0; i < 60; ++i) {
    Work work = draw(rng);
    work.bits = static_cast<int>(rng.range(1, 8));
    INFO(i << ": " << work.text());
    const std::uint64_t free = work.run().cycles;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) CHECK(work.run(seed).cycles >= free);
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

TEST_CASE("cycles never fall when every channel stalls more often", "[unit][fast]") {
  base::Rng rng(105);
  for (int i = 0; i < 40; ++i) {
    Work work = draw(rng);
    work.bits = static_cast<int>(rng.range(1, 8));
    INFO(i << ": " << work.text());
    const std::uint64_t free = work.run().cycles;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      CHECK(work.run(seed, 0).cycles == free);
      std::uint64_t before = free;
      for (unsigned eighths = 1; eighths <= 7; ++eighths) {
        const std::uint64_t now = work.run(seed, eighths).cycles;
        INFO("seed " << seed << ", " << eighths << " eighths");
        CHECK(now >= before);
        before = now;
      }
      CHECK(before > free);
    }
  }
}

TEST_CASE("3 and 4 bits differ in cycles at one plane a cycle, and at any rate where weights are the bound",
          "[unit][fast]") {
  base::Rng rng(104);
  for (int i = 0; i < 60; ++i) {
    Work work = draw(rng);
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
