// What the stored layout means for the weight port: which bytes are asked for in which order, and in how many cycles.
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/units.h"
#include "sim/fast/engine.h"
#include "sim/fast/feeds.h"
#include "sim/program/program.h"

using namespace moesaic;
using numerics::LayoutKind;
using program::CoreParams;
using program::Kind;
using program::MemoryPort;

namespace {

std::uint64_t bytes(std::int64_t count) { return static_cast<std::uint64_t>(count); }

struct Expert {
  numerics::ExpertFormats formats;
  std::int64_t hidden = 0, width = 0, group = 0, tokens = 1;
};

struct Lowered {
  program::MemoryImage image = program::MemoryImage::without_bytes();
  program::ExpertObject object;
  std::vector<program::Command> commands;
};

Lowered lower(const CoreParams& core, const Expert& expert, LayoutKind kind) {
  Lowered lowered;
  program::ProgramBuilder builder(core, lowered.image);
  lowered.object = builder.reserve(
      "expert", std::make_shared<const numerics::ExpertLayout>(
                    expert.formats, expert.hidden, expert.width, expert.group,
                    numerics::LayoutSpec{kind, static_cast<int>(core.rows), static_cast<int>(core.cols)}));
  lowered.image.skip_to(std::uint64_t{1} << 22);  // what follows lies at the same addresses in every layout
  const std::uint64_t x = lowered.image.allocate("x", Kind::kActivations, bytes(expert.tokens * expert.hidden)),
                      y = lowered.image.allocate("y", Kind::kOutputs, bytes(expert.tokens * expert.hidden * 2));
  std::vector<program::TokenRow> rows;
  for (std::int64_t t = 0; t < expert.tokens; ++t)
    rows.push_back({x + bytes(t * expert.hidden), y + bytes(t * expert.hidden * 2), 0, 0});
  builder.expert(lowered.object, rows, {});
  lowered.commands = builder.take();
  return lowered;
}

}  // namespace

TEST_CASE(
    "every pass over an interleaved object asks for all of its bytes but the padding, each where the one before ended",
    "[unit][fast]") {
  base::Rng rng(61);
  int in_chunks = 0, apart = 0, passes = 0;
  for (int i = 0; i < 150; ++i) {
    CoreParams core;
    core.rows = 4U << rng.below(4);
    core.cols = 4U << rng.below(4);
    core.axi_data_bits = 64U << rng.below(4);
    core.max_tokens = 1U << rng.below(4);
    core.act_depth = core.max_tokens << rng.below(6);
    core.hidden_depth = 64U << rng.below(5);
    // All that is stored is read, and levels do not go over a group again.
    const auto draw = [&rng] {
      return rng.chance(1, 4)
                 ? rng.pick(std::vector<numerics::Format>{numerics::Format::binary(), numerics::Format::ternary()})
                 : numerics::Format::integer(static_cast<int>(rng.range(1, 8)));
    };
    Expert expert{draw(), rng.range(1, 150), rng.range(1, 90), 8 * rng.range(1, 12), rng.range(1, 20)};
    if (i % 3 != 0) expert.formats.down = draw();
    if (i % 3 == 2) expert.formats.up = draw();
    const Lowered lowered = lower(core, expert, LayoutKind::kInterleaved);
    INFO("case " << i << ": " << expert.formats.name() << ", " << core.rows << "x" << core.cols << ", hidden "
                 << expert.hidden << ", width " << expert.width << ", groups of " << expert.group << ", "
                 << core.act_depth << " words");

    // Of each object, where it begins, where its last bytes' room ends, and how far the present pass is; of parameters
    // and requantisation, where their room ends.
    struct Pass {
      std::uint64_t end, at, bytes, read;
    };
    std::map<std::uint64_t, std::uint64_t> rooms;
    std::map<std::uint64_t, Pass> objects;
    for (std::size_t o = 0; o < lowered.object.layout->objects().size(); ++o) {
      const program::WeightObject object = lowered.object.object(o);
      const numerics::StoredLayout& layout = *object.layout;
      std::uint64_t end = 0;
      const auto add_room = [&](const numerics::Segment& segment) {
        const std::uint64_t begin = object.address + bytes(segment.offset);
        end = begin + bytes(base::round_up(segment.bytes, 64));
        rooms[begin] = end;
      };
      for (int m = 0; m < static_cast<int>(layout.matrices().size()); ++m) {
        numerics::Tile tile;
        for (numerics::TileWalk walk = layout.walk(m); walk.next(tile);) {
          if (tile.group_last) add_room(layout.params(m, tile.block, tile.which, tile.group));
          if (tile.block_last) add_room(layout.requant(m, tile.block, tile.which));
        }
      }
      objects[object.address] = {end, object.address, bytes(layout.read_bytes()), 0};
    }
    fast::Feeds feeds(core, nullptr);
    std::uint64_t commands = 0;
    for (const program::Command& command : lowered.commands) {
      feeds.append(command);
      commands += command.opcode == program::Opcode::kMatmul ? 1 : 0;
      in_chunks += command.opcode == program::Opcode::kMatmul && !command.k_last ? 1 : 0;
      while (feeds.peek(fast::Feed::kSegment) != fast::kNoItem) {
        const fast::Segment segment = fast::Segment::unpack(feeds.take(fast::Feed::kSegment));
        const std::uint64_t address = feeds.address(fast::Feed::kSegment);
        auto& [begin, pass] = *std::prev(objects.upper_bound(address));
        if (pass.at == pass.end) {
          REQUIRE(pass.read == pass.bytes);
          pass.at = begin;
          pass.read = 0;
          ++passes;
        }
        REQUIRE(address == pass.at);
        const std::uint64_t size = std::uint64_t{segment.beats - 1} * core.beat_bytes() + segment.end - segment.skip;
        const auto room = rooms.find(address);
        pass.at = room == rooms.end() ? address + size : room->second;
        pass.read += size;
      }
    }
    for (const auto& [begin, pass] : objects) {
      REQUIRE(pass.at == pass.end);
      REQUIRE(pass.read == pass.bytes);
    }
    apart += objects.size() == 3 ? 1 : 0;
  }
  CHECK(in_chunks > 500);
  CHECK(apart > 20);
  CHECK(passes > 100);
}

TEST_CASE("in every layout and format the segments of an expert's products are the layout's, bundle by bundle",
          "[unit][fast]") {
  base::Rng rng(63);
  for (int i = 0; i < 120; ++i) {
    CoreParams core;
    core.rows = 4U << rng.below(4);
    core.cols = 4U << rng.below(4);
    core.max_tokens = 1;
    core.act_depth = 4096;
    core.hidden_depth = 4096;
    const numerics::Format format = rng.pick(rng.chance(1, 2) ? numerics::mwq_formats() : numerics::all_formats());
    const Expert expert{format, rng.range(1, 100), rng.range(1, 60), 8 * rng.range(1, 8), 1};
    const LayoutKind kind = rng.pick(numerics::layout_kinds());
    const Lowered lowered = lower(core, expert, kind);
    INFO("case " << i << ": " << format.name() << " " << numerics::layout_kind_name(kind) << ", " << core.rows << "x"
                 << core.cols << ", hidden " << expert.hidden << ", width " << expert.width << ", groups of "
                 << expert.group);
    const program::WeightObject object = lowered.object.object(0);
    const numerics::StoredLayout& layout = *object.layout;

    std::vector<numerics::Segment> expected;
    const auto add_tile = [&](int m, const numerics::Tile& t, int level) {
      if (t.group_last)
        expected.push_back(level == 0 ? layout.params(m, t.block, t.which, t.group)
                                      : layout.level_params(m, t.block, t.which, t.group, level));
      const int first = level == 0 ? 1 : format.base_planes() + level, last = level == 0 ? format.base_planes() : first;
      for (int rank = first; rank <= last; ++rank) {
        const numerics::Segment plane = layout.plane(m, t, rank);
        if (rank == first || kind == LayoutKind::kPlaneMajor) {
          expected.push_back(plane);
          continue;
        }
        REQUIRE(plane.offset == expected.back().offset + expected.back().bytes);
        expected.back().bytes += plane.bytes;
      }
    };
    for (int m = 0; m < 2; ++m) {
      std::vector<numerics::Tile> group;
      numerics::Tile tile;
      for (numerics::TileWalk walk = layout.walk(m); walk.next(tile);) {
        group.push_back(tile);
        if (!tile.group_last) continue;
        for (int level = 0; level <= format.levels(); ++level)
          for (const numerics::Tile& t : group) add_tile(m, t, level);
        if (tile.block_last) expected.push_back(layout.requant(m, tile.block, tile.which));
        group.clear();
      }
    }

    fast::Feeds feeds(core, nullptr);
    for (const program::Command& command : lowered.commands) feeds.append(command);
    for (const numerics::Segment& segment : expected) {
      REQUIRE(feeds.peek(fast::Feed::kSegment) != fast::kNoItem);
      const fast::Segment got = fast::Segment::unpack(feeds.take(fast::Feed::kSegment));
      REQUIRE(feeds.address(fast::Feed::kSegment) == object.address + bytes(segment.offset));
      REQUIRE(std::uint64_t{got.beats - 1} * core.beat_bytes() + got.end - got.skip == bytes(segment.bytes));
    }
    REQUIRE(feeds.peek(fast::Feed::kSegment) == fast::kNoItem);
  }
}

TEST_CASE(
    "within 4 KiB, where parameters are whole beats, an interleaved expert takes the cycles and bytes of tile_major",
    "[unit][fast]") {
  base::Rng rng(62);
  int compared = 0;
  for (int i = 0; i < 350; ++i) {
    CoreParams core;
    core.rows = 16U << rng.below(2);
    core.cols = 16U << rng.below(2);
    core.planes_per_cycle = 1U << rng.below(3);
    core.axi_data_bits = core.cols == 32 ? 64U << rng.below(3) : 64U << rng.below(2);
    core.max_tokens = 16;
    core.act_depth = 16U << rng.below(6);
    core.hidden_depth = 256U << rng.below(3);
    core.fifo_depth = 16U << rng.below(4);
    core.command_depth = 8;
    Expert expert;
    expert.formats = rng.chance(1, 4) ? numerics::Format::nested(static_cast<int>(rng.range(1, 8)))
                                      : numerics::Format::integer(static_cast<int>(rng.range(1, 8)));
    expert.group = 32 * rng.range(1, 2);
    expert.hidden = 32 * rng.range(1, 3);
    expert.width = 32 * rng.range(1, 3);
    expert.tokens = rng.range(1, 20);
    fast::Options options;
    options.memory = {"simple", rng.range(1, 90), rng.range(1, 40),
                      rng.pick(std::vector<std::int64_t>{3, 8, 16, 32, 102})};
    Lowered mixed = lower(core, expert, LayoutKind::kInterleaved);
    const Lowered apart = lower(core, expert, LayoutKind::kTileMajor);
    // What an interleaved command does not read; the host takes longer where more words change.
    REQUIRE(mixed.commands.size() == apart.commands.size());
    for (std::size_t c = 0; c < mixed.commands.size(); ++c) {
      mixed.commands[c].params_addr = apart.commands[c].params_addr;
      mixed.commands[c].requant_addr = apart.commands[c].requant_addr;
    }
    // Beyond it bursts are cut at other places.
    if (apart.object.layout->total_bytes() > 4096 || mixed.object.layout->total_bytes() > 4096) continue;
    ++compared;
    const auto run = [&](const Lowered& lowered) {
      return fast::run(core, lowered.commands, {0}, lowered.image, options).engine;
    };
    const program::EngineRun in_order = run(mixed), by_region = run(apart);
    INFO("case " << i << ": " << expert.formats.name() << ", " << core.rows << "x" << core.cols << ", hidden "
                 << expert.hidden << ", width " << expert.width << ", groups of " << expert.group << ", "
                 << core.act_depth << " words, " << expert.tokens << " tokens");
    CHECK(in_order.traffic.total(MemoryPort::kWeightRead) == by_region.traffic.total(MemoryPort::kWeightRead));
    CHECK(in_order.cycles == by_region.cycles);
    CHECK(in_order.retired == by_region.retired);
  }
  CHECK(compared > 60);
}
