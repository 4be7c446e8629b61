// sim/fast by itself: shortcuts change nothing. That it equals the cycle engine is shown in tests/cosim/fast.
#include "sim/fast/engine.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"
#include "models/memory/dram_random.h"
#include "sim/program/load_program.h"
#include "sim/program/program.h"
#include "sim/program/refresh_waits.h"

using namespace moesaic;
using program::CoreParams;
using program::Kind;

namespace {

struct Work {
  CoreParams core;
  program::MemoryImage image = program::MemoryImage::without_bytes();
  std::vector<program::Command> commands;
  std::vector<std::size_t> phases{0};
  memory::MemoryConfig memory;
  base::Femtoseconds period{2000000};
  program::LoadProgram loads;
  storage::SimpleStorageConfig storage;
};

CoreParams draw_core(base::Rng& rng) {
  CoreParams core;
  core.rows = 8U << rng.below(3);
  core.cols = 8U << rng.below(3);
  core.planes_per_cycle = 1U << rng.below(3);
  core.max_act_bits = 8;
  core.axi_data_bits = 64U << rng.below(4);
  core.max_tokens = 1U << rng.below(6);
  core.act_depth = 32U << rng.below(7);
  core.hidden_depth = 64U << rng.below(5);
  core.fifo_depth = 16U << rng.below(4);
  core.command_depth = 4U << rng.below(3);
  return core;
}

/// Bounds of an expert's extents, in eights.
struct Extents {
  std::int64_t hidden_from = 8, hidden_to = 40, width_from = 4, width_to = 28;
};

/// Experts and a combination, larger than a test with data could afford; between the objects up to `gaps` bytes.
Work draw_work(base::Rng& rng, std::uint64_t gaps = 0, const Extents& extents = {}) {
  Work work;
  const auto gap = [&] {
    if (gaps != 0) work.image.allocate("gap", Kind::kRouting, 1 + rng.below(gaps));
  };
  work.core = draw_core(rng);
  work.memory = {"simple", rng.range(1, 90), rng.range(1, 40),
                 rng.pick(std::vector<std::int64_t>{3, 8, 13, 16, 32, 102})};
  program::ProgramBuilder builder(work.core, work.image);
  const std::int64_t hidden = 8 * rng.range(extents.hidden_from, extents.hidden_to),
                     width = 8 * rng.range(extents.width_from, extents.width_to), group = 8 * rng.range(1, 16);
  const auto bytes = [](std::int64_t count) { return static_cast<std::uint64_t>(count); };
  const std::uint64_t skew = rng.below(64);
  const auto tokens = rng.range(1, 24);
  const std::uint64_t x =
      work.image.allocate("x", Kind::kActivations, bytes(tokens * hidden), static_cast<unsigned>(skew));
  gap();
  const std::uint64_t r = work.image.allocate("r", Kind::kRouting, bytes(tokens * 4));
  const std::uint64_t down = work.image.allocate("down", Kind::kExpertRows, bytes(tokens * 2 * hidden * 2));
  gap();
  const std::uint64_t y = work.image.allocate("y", Kind::kOutputs, bytes(tokens * hidden * 2));
  const numerics::LayoutKind layout_kind = rng.pick(numerics::layout_kinds());
  for (std::int64_t expert = 0; expert < 2; ++expert) {
    const auto format = expert == 0        ? numerics::Format::integer(static_cast<int>(rng.range(1, 8)))
                        : rng.chance(1, 2) ? numerics::Format::nested(static_cast<int>(rng.range(1, 8)))
                                           : rng.pick(numerics::mwq_formats());
    gap();
    const auto object = builder.reserve(
        "expert",
        std::make_shared<const numerics::ExpertLayout>(
            format, hidden, width, group,
            numerics::LayoutSpec{layout_kind, static_cast<int>(work.core.rows), static_cast<int>(work.core.cols)}));
    std::vector<program::TokenRow> rows;
    for (std::int64_t t = 0; t < tokens; ++t)
      rows.push_back({x + bytes(t * hidden), down + bytes((2 * t + expert) * hidden * 2), 0, 0});
    builder.expert(object, rows, {});
    if (rng.chance(1, 2)) work.phases.push_back(builder.commands().size());
  }
  std::vector<program::TokenRow> rows;
  for (std::int64_t t = 0; t < tokens; ++t)
    rows.push_back({down + bytes(2 * t * hidden * 2), y + bytes(t * hidden * 2), 0, 0});
  builder.combine(rows, r, 2, hidden * 2, hidden);
  work.commands = builder.take();
  return work;
}

fast::Run run(const Work& work, fast::Options options) {
  options.memory = work.memory;
  options.period = work.period;
  options.storage = work.storage;
  options.watch_tiles = true;
  return fast::run(work.core, work.commands, work.phases, work.image, options, &work.loads);
}

/// The weights of every weight region come from storage, in up to `pieces` pieces: a job and a wait each, before the
/// first command that reads it or a few commands earlier; pushed when they are waited for, a few commands earlier or
/// all at once.
void load_from_storage(base::Rng& rng, Work& work, std::int64_t pieces = 4) {
  work.core.io_depth = 4U << rng.below(4);
  work.core.io_credits = 1U << rng.below(5);
  work.core.io_jobs = 2U << rng.below(4);
  work.storage = {rng.range(1, 4000), rng.pick(std::vector<std::int64_t>{2, 16, 100}), rng.range(1, 16),
                  rng.chance(1, 2) ? rng.range(1, 2000) : 0, rng.next()};
  work.loads.order = static_cast<program::LoadOrder>(rng.below(3));
  if (rng.chance(1, 3)) work.loads.credits = static_cast<unsigned>(rng.range(1, work.core.io_credits));
  work.loads.storage = program::MemoryImage::without_bytes();
  const std::uint64_t ahead = rng.pick(std::vector<std::uint64_t>{0, 3, 1000000});
  std::vector<program::Command> commands;
  unsigned job = 0;
  std::size_t waited = 0;
  for (std::size_t i = 0; i < work.commands.size(); ++i) {
    const auto phase = std::find(work.phases.begin(), work.phases.end(), i);
    if (phase != work.phases.end() && *phase != 0) *phase = commands.size();
    const program::Command& command = work.commands[i];
    if (command.opcode != program::Opcode::kMatmul || command.weight_addr < waited) {
      commands.push_back(command);
      continue;
    }
    const program::MemoryImage::Region* region = work.image.region_at(command.weight_addr);
    program::Command wait;
    wait.opcode = program::Opcode::kWait;
    wait.job = static_cast<std::uint8_t>(job++ % work.core.io_jobs);
    const std::size_t due = commands.size() > ahead ? commands.size() - ahead : 0;
    const std::size_t at = work.loads.loads.empty() ? due : std::max(due, work.loads.loads.back().command);
    // All that the expert reads lies in a few regions one behind the other.
    std::uint64_t end = region->address;
    while (region != nullptr && region->kind != Kind::kHidden) {
      end = region->address + region->bytes;
      const std::uint64_t piece = region->bytes / static_cast<std::uint64_t>(rng.range(1, pieces)) + 1;
      for (std::uint64_t from = 0; from < region->bytes; from += piece) {
        program::Descriptor d;
        d.job = wait.job;
        d.plane = static_cast<std::uint8_t>(rng.below(9));
        d.layer = static_cast<std::uint16_t>(work.loads.loads.size() / 20);
        d.expert = static_cast<std::uint16_t>(rng.below(6));
        d.requests = static_cast<std::uint32_t>(rng.below(5));
        d.bytes = static_cast<std::uint32_t>(std::min(piece, region->bytes - from));
        d.destination = region->address + from;
        d.source = work.loads.storage.allocate("planes", Kind::kWeights, d.bytes);
        work.loads.loads.push_back({d, at});
      }
      region = work.image.region_at((end + 63) / 64 * 64);
      if (region != nullptr && region->name != "expert") region = nullptr;
      if (region != nullptr && region->kind == Kind::kWeights) region = nullptr;
    }
    work.loads.loads.back().descriptor.last = true;
    waited = end;
    commands.push_back(wait);
    commands.push_back(command);
  }
  work.commands = commands;
}

std::string difference(const fast::Run& a, const fast::Run& b) {
  return program::first_run_difference(a.engine, b.engine, "one", "other");
}

/// With shortcuts and without: the same; adds up where the cycles went. Returns how many a refresh took.
std::uint64_t compare_shortcuts(const Work& work, fast::Options options, fast::Effort& effort) {
  const fast::Run with = run(work, options);
  options.shortcuts = false;
  const fast::Run without = run(work, options);
  REQUIRE(difference(with, without) == "");
  REQUIRE(with.effort.stepped >= with.effort.states);
  REQUIRE(with.effort.stepped + with.effort.skipped + with.effort.repeated == with.engine.cycles);
  effort.stepped += with.effort.stepped;
  effort.skipped += with.effort.skipped;
  effort.streamed += with.effort.streamed;
  effort.repeated += with.effort.repeated;
  effort.stocked += with.effort.stocked;
  effort.apart += with.effort.apart;
  effort.unasked += with.effort.unasked;
  effort.linked += with.effort.linked;
  effort.forgotten += with.effort.forgotten;
  const auto& end = with.engine.phase_ends.back();
  REQUIRE(end.refresh[0] <= end.causes[static_cast<std::size_t>(program::Cause::kWeights)]);
  REQUIRE(end.refresh[1] <= end.causes[static_cast<std::size_t>(program::Cause::kActivations)]);
  REQUIRE(end.refresh[2] == 0);
  return end.refresh[0] + end.refresh[1];
}

/// A memory with room for so many beats of each port, whose state nobody can have.
class NarrowMemory final : public memory::MemoryModel {
 public:
  NarrowMemory(const memory::MemoryConfig& config, std::int64_t room)
      : memory_(memory::make_memory(config, base::Femtoseconds(2000000))), room_(room) {}
  std::string name() const override { return "narrow"; }
  bool submit(const memory::Request& request, base::Cycles now) override {
    if (inside_[request.port] == room_) return false;
    ++inside_[request.port];
    return memory_->submit(request, now);
  }
  std::int64_t finished(unsigned port, bool is_write, base::Cycles now) override {
    return memory_->finished(port, is_write, now);
  }
  void take(unsigned port, bool is_write) override {
    --inside_[port];
    memory_->take(port, is_write);
  }
  std::optional<base::Cycles> next_change(base::Cycles now) override { return memory_->next_change(now); }
  void reset() override { memory_->reset(); }

 private:
  std::unique_ptr<memory::MemoryModel> memory_;
  std::int64_t room_;
  std::int64_t inside_[3] = {};
};

class DeadMemory final : public memory::MemoryModel {
 public:
  std::string name() const override { return "dead"; }
  bool submit(const memory::Request&, base::Cycles) override { return true; }
  std::int64_t finished(unsigned, bool, base::Cycles) override { return 0; }
  void take(unsigned, bool) override {}
  std::optional<base::Cycles> next_change(base::Cycles) override { return std::nullopt; }
  void reset() override {}
};

}  // namespace

TEST_CASE("a run with shortcuts is the run without them, tile by tile, and most cycles are repeated", "[unit][fast]") {
  base::Rng rng(17);
  std::uint64_t cycles = 0, repeated = 0, skipped = 0;
  for (int i = 0; i < 30; ++i) {
    const Work work = draw_work(rng);
    fast::Options options;
    const fast::Run with = run(work, options);
    options.shortcuts = false;
    const fast::Run without = run(work, options);
    INFO("case " << i);
    REQUIRE(difference(with, without) == "");
    REQUIRE(with.effort.stepped + with.effort.skipped + with.effort.repeated == with.engine.cycles);
    REQUIRE(without.effort.stepped == without.engine.cycles);
    REQUIRE(with.engine.phase_ends.size() == work.phases.size());
    REQUIRE(with.engine.phase_ends.back().refresh == program::RefreshWaits::Counts{});
    REQUIRE(with.engine.retired.size() == work.commands.size());
    cycles += with.engine.cycles;
    repeated += with.effort.repeated;
    skipped += with.effort.skipped;
  }
  CHECK(repeated > cycles / 2);
  CHECK(skipped > 0);
}

TEST_CASE("loading from storage, a run with shortcuts is the run without them, and waiting for the storage is skipped",
          "[unit][fast]") {
  base::Rng rng(22);
  std::uint64_t cycles = 0, repeated = 0, skipped = 0, loads = 0, io = 0;
  for (int i = 0; i < 28; ++i) {
    Work work = draw_work(rng);
    load_from_storage(rng, work);
    if (i % 7 == 3) {
      work.memory.kind = "dram";
      work.memory.dram = memory::random_dram(rng);
      work.period = base::Femtoseconds(rng.range(300000, 4000000));
    }
    fast::Options options;
    const fast::Run with = run(work, options);
    options.shortcuts = false;
    const fast::Run without = run(work, options);
    INFO("case " << i);
    REQUIRE(difference(with, without) == "");
    REQUIRE(with.effort.stepped + with.effort.skipped + with.effort.repeated == with.engine.cycles);
    REQUIRE(with.engine.loads.size() == work.loads.loads.size());
    REQUIRE_FALSE(with.storage_error);
    cycles += with.engine.cycles;
    repeated += with.effort.repeated;
    skipped += with.effort.skipped;
    loads += with.engine.loads.size();
    io += with.engine.phase_ends.back().causes[static_cast<std::size_t>(program::Cause::kIo)];
  }
  CHECK(loads > 300);
  CHECK(io > cycles / 20);
  CHECK(repeated > cycles / 5);
  CHECK(skipped > cycles / 20);
}

TEST_CASE("what the storage writes to the memory, a run with shortcuts meets as the run without them does",
          "[unit][fast]") {
  base::Rng rng(23);
  std::uint64_t cycles = 0, repeated = 0, later = 0;
  const std::vector<std::string> presets = memory::dram_preset_names();
  for (std::size_t i = 0; i < 45; ++i) {
    Work work = draw_work(rng);
    load_from_storage(rng, work, 12);
    work.storage.bytes_per_cycle = rng.pick(std::vector<std::int64_t>{2, 16, 100});
    if (i % 3 != 2) {
      work.memory.kind = "dram";
      work.memory.dram = i % 3 == 0 ? memory::random_dram(rng) : memory::dram_preset(presets[i % presets.size()]);
      work.period = base::Femtoseconds(rng.range(300000, 4000000));
    }
    fast::Options options;
    options.eager = rng.chance(1, 2);
    const fast::Run free = run(work, options);
    work.storage.dma_bytes = rng.pick(std::vector<std::int64_t>{64, 1000, 4096});
    const fast::Run with = run(work, options);
    options.shortcuts = false;
    const fast::Run without = run(work, options);
    INFO("case " << i);
    REQUIRE(difference(with, without) == "");
    REQUIRE(with.engine.loads.size() == work.loads.loads.size());
    for (const memory::Counter& counter : with.engine.memory_counters)
      if (counter.name == "port_bytes_written")
        REQUIRE(counter.value == with.engine.storage_bytes + with.engine.traffic.total(program::MemoryPort::kWrite));
    cycles += with.engine.cycles;
    repeated += with.effort.repeated;
    later += with.engine.cycles > free.engine.cycles;
  }
  CHECK(repeated > cycles / 20);
  CHECK(later > 20);
}

TEST_CASE("a run that is cut is the beginning of the whole run, with shortcuts and without", "[unit][fast]") {
  base::Rng rng(31);
  std::uint64_t repeated = 0, skipped = 0, under_way = 0;
  for (int i = 0; i < 50; ++i) {
    Work work = draw_work(rng);
    if (i % 3 == 1) load_from_storage(rng, work);
    if (i % 4 == 2) {
      work.memory.kind = "dram";
      work.memory.dram = memory::random_dram(rng);
    }
    fast::Options options;
    const fast::Run whole = run(work, options);
    options.max_cycles = static_cast<std::uint64_t>(rng.range(1, static_cast<std::int64_t>(whole.engine.cycles)));
    INFO("case " << i << ", " << *options.max_cycles << " of " << whole.engine.cycles << " cycles");
    const fast::Run with = run(work, options);
    options.shortcuts = false;
    const fast::Run without = run(work, options);
    REQUIRE(difference(with, without) == "");
    REQUIRE(with.engine.cycles == *options.max_cycles);
    REQUIRE(with.effort.stepped + with.effort.skipped + with.effort.repeated == with.engine.cycles);
    REQUIRE(with.engine.cut.has_value() == (with.engine.cycles < whole.engine.cycles));
    repeated += with.effort.repeated;
    skipped += with.effort.skipped;
    if (!with.engine.cut) continue;
    for (const auto& block : with.engine.cut->activity)
      REQUIRE(std::accumulate(block.begin(), block.end(), std::uint64_t{0}) == with.engine.cycles);
    REQUIRE(with.engine.retired.size() <= whole.engine.retired.size());
    REQUIRE(std::equal(with.engine.retired.begin(), with.engine.retired.end(), whole.engine.retired.begin()));
    REQUIRE((with.engine.retired.size() == whole.engine.retired.size() ||
             whole.engine.retired[with.engine.retired.size()] >= with.engine.cycles));
    for (std::size_t t = 0; t < with.engine.tiles.size(); ++t) {
      const program::TileTime& tile = with.engine.tiles[t];
      REQUIRE(tile.begin == whole.engine.tiles[t].begin);
      REQUIRE(
          (tile.end == 0 ? whole.engine.tiles[t].end >= with.engine.cycles : tile.end == whole.engine.tiles[t].end));
      under_way += tile.end == 0 ? 1 : 0;
    }
  }
  CHECK(repeated > 1000);
  CHECK(skipped > 100);
  CHECK(under_way > 20);
}

// Six of the eight among 2215 cases in which a run goes wrong whose states leave out the room in the I/O queue and
// the jobs that it uses: what the host reads between two commands of a few cycles, while planes come as quickly.
TEST_CASE("a host that asks for room goes on as before only where it reads what it read before", "[unit][fast]") {
  for (const std::uint64_t seed : {192, 670, 753, 1020, 1094, 2170}) {
    base::Rng rng(seed);
    Work work = draw_work(rng, 0, {2, 12, 2, 12});
    load_from_storage(rng, work, 12);
    work.core.io_depth = static_cast<unsigned>(1 + rng.below(2));
    work.core.io_credits = static_cast<unsigned>(1 + rng.below(2));
    work.loads.credits.reset();
    work.storage = {rng.range(1, 60), rng.pick(std::vector<std::int64_t>{16, 100}), rng.range(1, 4),
                    rng.chance(1, 2) ? rng.range(1, 60) : 0, rng.next()};
    if (rng.chance(1, 2)) work.memory = {"simple", rng.range(1, 10), rng.range(1, 6), 102};
    fast::Options options;
    const fast::Run with = run(work, options);
    options.shortcuts = false;
    INFO("seed " << seed);
    CHECK(difference(with, run(work, options)) == "");
    CHECK(with.effort.repeated > 0);
  }
}

TEST_CASE("states that had to be forgotten change nothing", "[unit][fast]") {
  base::Rng rng(18);
  std::uint64_t forgotten = 0;
  for (int i = 0; i < 8; ++i) {
    const Work work = draw_work(rng);
    fast::Options options;
    const fast::Run with = run(work, options);
    options.state_bytes = 30000;
    const fast::Run narrow = run(work, options);
    INFO("case " << i);
    REQUIRE(difference(with, narrow) == "");
    forgotten += narrow.effort.forgotten;
  }
  CHECK(forgotten > 10);
}

TEST_CASE("behind any DRAM a run with shortcuts is the run without them, to the last command of the DRAM",
          "[unit][fast]") {
  base::Rng rng(31);
  fast::Effort effort;
  std::uint64_t refresh = 0;
  for (int i = 0; i < 24; ++i) {
    Work work = draw_work(rng, rng.pick(std::vector<std::uint64_t>{0, 300, 70000}));
    work.memory.kind = "dram";
    work.memory.dram = memory::random_dram(rng);
    work.period = base::Femtoseconds(rng.range(300000, 4000000));
    fast::Options options;
    if (rng.chance(1, 4)) options.state_bytes = 100000;
    options.eager = rng.chance(3, 4);
    INFO("case " << i << ", " << memory::dram_name(work.memory.dram));
    refresh += compare_shortcuts(work, options, effort);
  }
  CHECK(refresh > 1000);
  CHECK(effort.repeated > 100000);
  CHECK(effort.skipped > 0);
  CHECK(effort.forgotten > 0);
}

/// One product of `tokens` x `k` by `k` x `n`, in groups of `group`.
void add_product(Work& work, const numerics::Format& format, numerics::LayoutKind layout, std::int64_t k,
                 std::int64_t n, std::int64_t group, std::int64_t tokens) {
  program::ProgramBuilder builder(work.core, work.image);
  const program::WeightObject object =
      builder.reserve("weights", std::make_shared<const numerics::StoredLayout>(numerics::stored_layout(
                                     format, numerics::product_shapes(n, k, group),
                                     {layout, static_cast<int>(work.core.rows), static_cast<int>(work.core.cols)})));
  const auto bytes = [](std::int64_t count) { return static_cast<std::uint64_t>(count); };
  const std::uint64_t x = work.image.allocate("x", Kind::kActivations, bytes(tokens * k)),
                      y = work.image.allocate("y", Kind::kOutputs, bytes(tokens * 2 * n));
  std::vector<program::TokenRow> rows;
  for (std::int64_t t = 0; t < tokens; ++t) rows.push_back({x + bytes(t * k), y + bytes(t * 2 * n), 0, 0});
  program::ProductOptions product;
  product.out_bits = 16;
  builder.product(object, rows, product);
  work.commands = builder.take();
}

TEST_CASE("long products repeat with the DRAM unasked, and are the runs without shortcuts", "[unit][fast]") {
  base::Rng rng(33);
  fast::Effort effort;
  for (const std::string& preset : memory::dram_preset_names()) {
    for (int i = 0; i < 5; ++i) {
      Work work;
      work.core.rows = work.core.cols = 32;
      work.core.planes_per_cycle = 1U << rng.below(3);
      work.core.max_act_bits = 8;
      work.core.axi_data_bits = i % 2 == 0 ? 256 : 512;
      work.core.max_tokens = 16;
      work.core.act_depth = 512;
      work.core.hidden_depth = 64;
      work.core.fifo_depth = 32U << rng.below(4);
      work.core.command_depth = 8;
      work.memory.kind = "dram";
      work.memory.dram = memory::dram_preset(preset);
      work.memory.dram.channels = std::int64_t{1} << rng.below(3);
      work.period = base::Femtoseconds(rng.pick(std::vector<std::int64_t>{1000000, 500000, 1250000, 2000000}));
      const std::int64_t n = 32 * rng.range(100, 300), tokens = rng.pick(std::vector<std::int64_t>{1, 1, 3, 16});
      const auto format = rng.chance(1, 3) ? numerics::Format::nested(static_cast<int>(rng.range(2, 5)))
                                           : numerics::Format::integer(static_cast<int>(rng.range(2, 5)));
      add_product(work, format, rng.pick(numerics::layout_kinds()), 512, n, 128, tokens);
      fast::Options options;
      options.eager = true;
      if (i == 4) options.state_bytes = 400000;
      INFO(preset << ", case " << i << ": " << format.name() << ", " << n << " columns, " << tokens << " tokens, "
                  << work.period.count() << " fs");
      compare_shortcuts(work, options, effort);
    }
  }
  CHECK(effort.unasked > 30000);
  CHECK(effort.forgotten > 0);
}

TEST_CASE("where a long product goes on alike, many stretches are passed at once", "[unit][fast]") {
  fast::Effort effort;
  for (const std::string& preset : memory::dram_preset_names())
    for (const numerics::LayoutKind layout : numerics::layout_kinds())
      for (const std::int64_t tokens : {1, 6}) {
        Work work;
        work.core.rows = work.core.cols = 32;
        work.core.planes_per_cycle = 2;
        work.core.max_act_bits = 8;
        work.core.axi_data_bits = 256;
        work.core.max_tokens = 8;
        work.core.act_depth = 512;
        work.core.hidden_depth = 64;
        work.core.fifo_depth = 64;
        work.core.command_depth = 8;
        work.memory.kind = "dram";
        work.memory.dram = memory::dram_preset(preset);
        work.memory.dram.channels = 2;
        add_product(work, numerics::Format::integer(4), layout, 2048, 2048, 128, tokens);
        fast::Options options;
        options.eager = true;
        INFO(preset << ", " << numerics::layout_kind_name(layout) << ", " << tokens << " tokens");
        compare_shortcuts(work, options, effort);
      }
  CHECK(effort.linked > 10000);
}

/// For a product on a square array, without it.
Work square_work(unsigned size, unsigned data_bits, unsigned buffer, const std::string& preset) {
  Work work;
  work.core.rows = work.core.cols = size;
  work.core.planes_per_cycle = 2;
  work.core.max_act_bits = 8;
  work.core.axi_data_bits = data_bits;
  work.core.max_tokens = 8;
  work.core.act_depth = 512;
  work.core.hidden_depth = 64;
  work.core.fifo_depth = buffer;
  work.core.command_depth = 8;
  work.memory.kind = "dram";
  work.memory.dram = memory::dram_preset(preset);
  return work;
}

TEST_CASE("joined bursts are not seen by a burst of a kept beat, which comes when a block of columns ends",
          "[unit][fast]") {
  fast::Effort effort;
  for (const std::int64_t n : {330, 338, 346})
    for (const std::int64_t k : {880, 912, 944}) {
      Work work = square_work(16, 256, 64, "hbm2e-3200");
      add_product(work, numerics::Format::integer(4), numerics::LayoutKind::kInterleaved, k, n, 128, 8);
      fast::Options options;
      options.eager = true;
      INFO(k << " x " << n);
      compare_shortcuts(work, options, effort);
    }
}

TEST_CASE("where the array is the bound, stretches repeat whenever the DRAM answers", "[unit][fast]") {
  base::Rng rng(47);
  fast::Effort effort;
  for (const std::string& preset : memory::dram_preset_names())
    for (const numerics::LayoutKind layout : numerics::layout_kinds())
      for (int i = 0; i < 4; ++i) {
        Work work = square_work(16U << rng.below(2), 128U << rng.below(2), 32U << rng.below(3), preset);
        work.core.planes_per_cycle = 1U << rng.below(2);
        work.memory.dram.channels = 1 << rng.below(2);
        if (rng.below(3) == 0) work.period = base::Femtoseconds(700000 + static_cast<std::int64_t>(rng.below(1000000)));
        const auto tokens = static_cast<std::int64_t>(3 + rng.below(6));
        const auto k = static_cast<std::int64_t>(256 + 8 * rng.below(96)),
                   n = static_cast<std::int64_t>(300 + rng.below(600)), group = std::int64_t{64} << rng.below(2);
        const numerics::Format format = numerics::Format::integer(3 + static_cast<int>(rng.below(2)));
        add_product(work, format, layout, k, n, group, tokens);
        fast::Options options;
        options.eager = i % 2 == 1;
        INFO(preset << ", " << numerics::layout_kind_name(layout) << ", case " << i << ": " << format.name() << ", "
                    << k << " x " << n << ", " << tokens << " tokens");
        compare_shortcuts(work, options, effort);
      }
  CHECK(2 * effort.stocked > effort.stepped);
}

TEST_CASE("while results of many tokens are written, the others repeat without them", "[unit][fast]") {
  base::Rng rng(59);
  fast::Effort effort;
  for (const std::string& preset : memory::dram_preset_names())
    for (int i = 0; i < 12; ++i) {
      Work work = square_work(16U << rng.below(2), 128U << rng.below(2), 32U << rng.below(3), preset);
      work.core.planes_per_cycle = 1U << rng.below(2);
      work.core.max_tokens = 64;
      work.memory.dram.channels = 1 << rng.below(2);
      if (rng.chance(1, 2)) {  // writes are refused
        work.memory.dram.write_queue = rng.range(8, 16);
        work.memory.dram.write_high = rng.range(2, work.memory.dram.write_queue);
        work.memory.dram.write_low = rng.range(0, work.memory.dram.write_high - 1);
      }
      if (rng.chance(1, 3)) work.period = base::Femtoseconds(rng.range(500000, 2000000));
      const std::int64_t tokens = rng.range(3, 64), k = 8 * rng.range(16, 64), n = 8 * rng.range(10, 60);
      const int bits = static_cast<int>(rng.range(2, 4));
      const auto format = rng.chance(1, 3) ? numerics::Format::nested(bits) : numerics::Format::integer(bits);
      add_product(work, format, rng.pick(numerics::layout_kinds()), k, n, std::int64_t{64} << rng.below(2), tokens);
      fast::Options options;
      options.eager = i % 3 != 0;
      if (i % 5 == 4) options.state_bytes = 100000;
      INFO(preset << ", case " << i << ": " << format.name() << ", " << k << " x " << n << ", " << tokens
                  << " tokens, write queue " << work.memory.dram.write_queue);
      compare_shortcuts(work, options, effort);
    }
  CHECK(effort.apart > 100000);
  CHECK(effort.forgotten > 0);
}

TEST_CASE("results that are behind the others catch up where something new begins", "[unit][fast]") {
  fast::Effort effort;
  Work work = square_work(32, 256, 64, "ddr5-6400");
  work.core.planes_per_cycle = 4;
  work.core.max_tokens = 128;
  work.core.act_depth = 16384;
  work.memory.dram.channels = 2;
  add_product(work, numerics::Format::integer(4), numerics::LayoutKind::kInterleaved, 4096, 480, 128, 37);
  compare_shortcuts(work, {}, effort);
  CHECK(effort.apart > 1000);
}

TEST_CASE("where a tile takes hundreds of cycles, and its results as many chunks, the run is the run without shortcuts",
          "[unit][fast]") {
  base::Rng rng(67);
  fast::Effort effort;
  for (int i = 0; i < 24; ++i) {
    Work work = square_work(16, 128U << rng.below(2), 64, "ddr5-6400");
    work.core.planes_per_cycle = 1U << rng.below(2);
    work.core.max_tokens = 128;
    if (i % 2 == 0) work.memory = {"simple", rng.range(1, 90), rng.range(1, 40), rng.range(16, 64)};
    const std::int64_t tokens = rng.range(60, 128), k = 8 * rng.range(16, 48), n = 8 * rng.range(6, 20);
    add_product(work, numerics::Format::integer(4), rng.pick(numerics::layout_kinds()), k, n, 64, tokens);
    fast::Options options;
    options.eager = i % 3 == 0;
    INFO("case " << i << ": " << k << " x " << n << ", " << tokens << " tokens, " << work.core.planes_per_cycle
                 << " planes a cycle");
    compare_shortcuts(work, options, effort);
  }
  CHECK(effort.repeated > effort.stepped);
  CHECK(effort.streamed > effort.stepped / 10);
}

TEST_CASE("results stay with the others behind a memory whose ports must be asked together", "[unit][fast]") {
  base::Rng rng(61);
  fast::Effort effort;
  for (int i = 0; i < 12; ++i) {
    Work work = square_work(16, 128, 64, "ddr5-6400");
    work.core.max_tokens = 32;
    if (i % 2 == 0) work.memory = {"simple", rng.range(1, 90), rng.range(1, 40), rng.range(8, 64)};
    const std::int64_t tokens = rng.range(8, 32), k = 8 * rng.range(16, 64), n = 8 * rng.range(10, 40);
    add_product(work, numerics::Format::integer(3), rng.pick(numerics::layout_kinds()), k, n, 64, tokens);
    fast::Options options;
    options.eager = i % 3 != 0;
    const memory::MemoryConfig config = work.memory;
    options.make_memory = [config] { return std::make_unique<NarrowMemory>(config, 1000); };
    INFO("case " << i << ": " << k << " x " << n << ", " << tokens << " tokens");
    compare_shortcuts(work, options, effort);
  }
  CHECK(effort.repeated > 50000);
  CHECK(effort.apart == 0);
}

TEST_CASE("where tiles share beats, long products repeat with the DRAM unasked, and are the runs without shortcuts",
          "[unit][fast]") {
  base::Rng rng(34);
  fast::Effort effort;
  for (const std::string& preset : memory::dram_preset_names()) {
    for (int i = 0; i < 5; ++i) {
      Work work;
      work.core.rows = 4U << rng.below(3);
      work.core.cols = 4U << rng.below(3);
      work.core.planes_per_cycle = 1U << rng.below(3);
      work.core.max_act_bits = 8;
      work.core.axi_data_bits = 64U << rng.below(4);
      work.core.max_tokens = 4;
      work.core.act_depth = 512;
      work.core.hidden_depth = 64;
      work.core.fifo_depth = 16U << rng.below(4);
      work.core.command_depth = 8;
      work.memory.kind = "dram";
      work.memory.dram = memory::dram_preset(preset);
      work.memory.dram.channels = std::int64_t{1} << rng.below(2);
      work.period = base::Femtoseconds(rng.pick(std::vector<std::int64_t>{1000000, 500000, 2000000}));
      const std::int64_t k = rng.range(60, 128), n = rng.range(400, 1600), tokens = rng.range(1, 4),
                         group = 8 * rng.range(2, 16);
      const auto format = rng.pick(std::vector<numerics::Format>{
          numerics::Format::integer(static_cast<int>(rng.range(1, 8))),
          numerics::Format::nested(static_cast<int>(rng.range(1, 8))), rng.pick(numerics::mwq_formats())});
      const auto layout = rng.pick(numerics::layout_kinds());
      add_product(work, format, layout, k, n, group, tokens);
      fast::Options options;
      options.eager = true;
      INFO(preset << ", case " << i << ": " << format.name() << ", " << n << " columns, k " << k << ", " << tokens
                  << " tokens, groups of " << group << ", " << work.core.rows << "x" << work.core.cols << ", beats of "
                  << work.core.axi_data_bits << " bits");
      compare_shortcuts(work, options, effort);
    }
  }
  CHECK(effort.unasked > 9000);
}

TEST_CASE("behind each preset, at even and awkward core clocks, shortcuts change nothing and cycles are repeated",
          "[unit][fast]") {
  base::Rng rng(32);
  for (const std::string& preset : memory::dram_preset_names()) {
    fast::Effort effort;
    std::uint64_t refresh = 0;
    for (const std::int64_t period : {1000000, 625000, 1234567}) {
      Work work = draw_work(rng, 5000);
      work.memory.kind = "dram";
      work.memory.dram = memory::dram_preset(preset);
      work.memory.dram.channels = std::int64_t{1} << rng.below(3);
      work.period = base::Femtoseconds(period);
      INFO(preset << ", " << period << " fs");
      fast::Options options;
      options.eager = period != 1234567;
      refresh += compare_shortcuts(work, options, effort);
    }
    INFO(preset);
    CHECK(refresh > 100);
    CHECK(effort.repeated > effort.stepped / 10);
  }
}

TEST_CASE("a memory that refuses beats and does not tell its state changes nothing", "[unit][fast]") {
  base::Rng rng(19);
  std::uint64_t skipped = 0, repeated = 0;
  for (int i = 0; i < 10; ++i) {
    const Work work = draw_work(rng);
    const std::int64_t room = rng.range(1, 40);
    fast::Options options;
    options.make_memory = [&] { return std::make_unique<NarrowMemory>(work.memory, room); };
    const fast::Run with = run(work, options);
    options.shortcuts = false;
    const fast::Run without = run(work, options);
    INFO("case " << i);
    REQUIRE(difference(with, without) == "");
    CHECK(with.memory_name == "narrow");
    skipped += with.effort.skipped;
    repeated += with.effort.repeated;
  }
  CHECK(skipped > 1000);
  CHECK(repeated > 1000);
}

TEST_CASE("a run that cannot go on ends in the same cycle with shortcuts and without, and says who waits",
          "[unit][fast]") {
  base::Rng rng(20);
  const Work work = draw_work(rng);
  std::vector<std::string> messages;
  for (const bool shortcuts : {false, true}) {
    fast::Options options;
    options.watchdog_cycles = 700;
    options.shortcuts = shortcuts;
    options.make_memory = [] { return std::make_unique<DeadMemory>(); };
    try {
      run(work, options);
      FAIL("a dead memory went unnoticed");
    } catch (const base::CheckError& error) {
      messages.emplace_back(error.what());
    }
  }
  CHECK(messages[0] == messages[1]);
  CHECK_THAT(messages[0], Catch::Matchers::Contains("stuck in cycle"));
  CHECK_THAT(messages[0], Catch::Matchers::Contains("act_loader starved"));
}

TEST_CASE("a program that reads or writes where it may not is refused", "[unit][fast]") {
  base::Rng rng(21);
  Work work = draw_work(rng);
  for (program::Command& command : work.commands)
    if (command.opcode == program::Opcode::kMatmul) command.weight_addr = std::uint64_t{1} << 38;
  CHECK_THROWS_WITH(run(work, {}), Catch::Matchers::Contains("weight_read port: got a read at address 0x4000000000"));
  work = draw_work(rng);
  for (program::Command& command : work.commands)
    if (command.opcode == program::Opcode::kSetRow) command.params_addr = std::uint64_t{1} << 38;
  CHECK_THROWS_WITH(run(work, {}), Catch::Matchers::Contains("write port: got a write at address 0x40000"));
}

TEST_CASE("a product in bundles goes over its tiles once a bundle that is read", "[unit][fast]") {
  std::vector<std::uint64_t> cycles;
  for (int read = 0; read <= 2; ++read) {
    Work work;
    work.memory = {"simple", 4, 1, 64};
    program::ProgramBuilder builder(work.core, work.image);
    const auto layout = std::make_shared<const numerics::StoredLayout>(numerics::stored_layout(
        numerics::Format::mwq(2, 2, read), numerics::product_shapes(40, 100, 32),
        {numerics::LayoutKind::kPlaneMajor, static_cast<int>(work.core.rows), static_cast<int>(work.core.cols)}));
    const auto object = builder.reserve("w", layout);
    const std::uint64_t x = work.image.allocate("x", Kind::kActivations, 100),
                        y = work.image.allocate("y", Kind::kOutputs, 40);
    builder.product(object, {{x, y, 0, 0}}, {});
    work.commands = builder.take();
    const fast::Run done = run(work, {});
    CHECK(done.engine.tiles.size() == static_cast<std::size_t>((1 + read) * layout->tiles(0)));
    cycles.push_back(done.engine.cycles);
  }
  CHECK(cycles[0] < cycles[1]);
  CHECK(cycles[1] < cycles[2]);
}

TEST_CASE("a program without commands ends at once", "[unit][fast]") {
  Work work;
  const fast::Run nothing = run(work, {});
  CHECK(nothing.engine.phase_ends.size() == 1);
  CHECK(nothing.engine.cycles == 1);
}
