// sim/program/cache_agent: random runs through the expert cache on a host and chip without timing.
#include "sim/program/cache_agent.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>

#include "base/error.h"
#include "base/rng.h"
#include "models/host/replay.h"
#include "sim/program/cache_block.h"
#include "sim/program/interpreter.h"
#include "sim/program/load_order.h"
#include "sim/program/random_offload.h"
#include "sim/program/scattered_planes.h"

using namespace moesaic;
using namespace moesaic::program;

namespace {

CoreParams small_core() {
  CoreParams core;
  core.rows = 4;
  core.cols = 8;
  core.max_tokens = 2;
  core.act_depth = 16;
  core.hidden_depth = 32;
  core.io_jobs = 2;
  return core;
}

/// Pushes, loads and executes in a random order that a chip could have, and checks what a chip would not forgive. A
/// load's destination is spoilt when it is pushed and holds its bytes when it completes.
class Anything {
 public:
  Anything(HostAgent& agent, const CoreParams& core, MemoryImage& image, std::uint64_t seed)
      : agent_(agent), image_(image), interpreter_(core, image), rng_(seed), jobs_(core.io_jobs) {}

  /// Empty, or what went wrong.
  std::string run() {
    agent_.prepare(image_);
    agent_.begin();
    while (!agent_.is_finished() || !commands_.empty()) {
      ++now_;
      if (now_ > 200000) return "stuck";
      if (!agent_.loads().empty() && rng_.chance(1, 2)) push_load();
      if (!agent_.commands().empty() && rng_.chance(1, 2)) {
        commands_.push_back(agent_.commands().front());
        agent_.command_pushed(now_);
      }
      if (!on_their_way_.empty() && rng_.chance(1, 3)) complete(rng_.below(on_their_way_.size()));
      if (!commands_.empty() && rng_.chance(1, 2)) execute();
      if (!error_.empty()) return error_;
      if (commands_.empty() && agent_.phase_is_pushed()) {
        ends.push_back(now_);
        agent_.phase_ended(now_);
      }
      if (agent_.wake() && *agent_.wake() <= now_) agent_.woken(now_);
    }
    return on_their_way_.empty() ? "" : "finished before the last load";
  }

  std::vector<std::uint64_t> ends, tags;
  std::vector<Descriptor> loads;
  std::size_t uneven = 0;  ///< products whose planes do not lie at one distance from each other

 private:
  struct IoJob {
    bool used = false, closed = false;
    int pieces = 0;
  };
  void push_load() {
    const Descriptor d = agent_.loads().front();
    IoJob& job = jobs_.at(d.job);
    if (job.closed) error_ = "a descriptor for a job that is closed";
    job.used = true;
    job.closed = d.last;
    ++job.pieces;
    for (std::uint64_t i = 0; i < d.bytes; ++i)
      image_.write_byte(d.destination + i, static_cast<std::uint8_t>(~agent_.storage()->read(d.source + i)));
    on_their_way_.push_back(loads.size());
    loads.push_back(d);
    agent_.load_pushed(now_);
  }
  void complete(std::size_t which) {
    const std::size_t load = on_their_way_[which];
    on_their_way_.erase(on_their_way_.begin() + static_cast<std::ptrdiff_t>(which));
    const Descriptor& d = loads[load];
    for (std::uint64_t i = 0; i < d.bytes; ++i)
      image_.write_byte(d.destination + i, agent_.storage()->read(d.source + i));
    --jobs_[d.job].pieces;
    agent_.load_completed(load, now_);
  }
  void execute() {
    const OfferedCommand offered = commands_.front();
    commands_.pop_front();
    tags.push_back(offered.tag);
    if (offered.command.opcode == Opcode::kWait) {
      IoJob& job = jobs_.at(offered.command.job);
      if (!job.used || !job.closed || job.pieces != 0) error_ = "a wait for a job that is not released";
      job = {};
    } else {
      const Command& c = offered.command;
      const std::uint64_t twice = (2 * c.plane_stride) & kAddressMask;
      uneven += c.scattered && c.planes_read + c.levels >= 3 && c.plane_offset_3 != twice ? 1 : 0;
      interpreter_.run({c});
    }
    agent_.command_executed(now_);
  }

  HostAgent& agent_;
  MemoryImage& image_;
  Interpreter interpreter_;
  base::Rng rng_;
  std::vector<IoJob> jobs_;
  std::deque<OfferedCommand> commands_;
  std::vector<std::size_t> on_their_way_;
  std::string error_;
  std::uint64_t now_ = 0;
};

std::map<std::string, std::uint64_t> counters_of(const CacheAgent& agent) {
  std::map<std::string, std::uint64_t> counters;
  for (const memory::Counter& counter : agent.counters()) counters[counter.name] = counter.value;
  return counters;
}

}  // namespace

TEST_CASE("layers through an expert cache leave the reference's results, whatever comes when", "[unit][program]") {
  base::Rng rng(21);
  const CoreParams core = small_core();
  std::uint64_t evictions = 0, hits = 0, ahead = 0, warm = 0, replayed = 0, reordered = 0, uneven = 0;
  for (int i = 0; i < 120; ++i) {
    const OffloadCase c = random_offload(rng, core);
    INFO("case " << i << ": " << c.text);
    RunProgram program = c.lower(core);
    CacheAgent agent(program, c.cache, core.io_jobs, "case");
    Anything host(agent, core, program.loaded.image, rng.next());
    REQUIRE(host.run() == "");
    REQUIRE(c.difference(program, program.loaded.image) == "");
    REQUIRE(host.ends.size() == c.layers.size());
    // Every command once, beside the waits.
    std::vector<std::uint64_t> tags = host.tags;
    tags.erase(std::remove(tags.begin(), tags.end(), CacheAgent::kWaitTag), tags.end());
    reordered += std::is_sorted(tags.begin(), tags.end()) ? 0 : 1;
    std::sort(tags.begin(), tags.end());
    REQUIRE(tags.size() == program.loaded.commands.size());
    for (std::size_t t = 0; t < tags.size(); ++t) REQUIRE(tags[t] == t);
    // Bytes asked for are bytes loaded.
    std::uint64_t bytes = 0;
    for (const Descriptor& load : host.loads) bytes += load.bytes;
    const auto counters = counters_of(agent);
    CHECK(counters.at("loaded_bytes") + counters.at("prefetched_bytes") - counters.at("dropped_bytes") == bytes);
    std::map<std::string, std::uint64_t> of_layers;
    for (const EngineRun::CacheOfLayer& of : agent.cache_layers()) {
      of_layers["jobs"] += of.jobs;
      of_layers["hits"] += of.hits;
      of_layers["loaded_bytes"] += of.loaded_bytes;
      of_layers["prefetched_bytes"] += of.prefetched_bytes;
      of_layers["dropped_bytes"] += of.dropped_bytes;
      // What of a layer was loaded, on demand or ahead, is what its descriptors say.
      std::uint64_t loaded = 0;
      for (const Descriptor& load : host.loads) loaded += load.layer == of.layer ? load.bytes : 0;
      CHECK(of.loaded_bytes + of.prefetched_bytes - of.dropped_bytes == loaded);
    }
    for (const auto& [name, sum] : of_layers) CHECK(counters.at(name) == sum);
    uneven += host.uneven;
    evictions += counters.at("evictions");
    hits += counters.at("hits");
    ahead += counters.at("prefetched_bytes");
    warm += counters.at("warm_experts");
    replayed += c.earlier.empty() ? 0 : counters.at("warm_experts");
  }
  CHECK(evictions > 100);
  CHECK(hits > 100);
  CHECK(ahead > 0);
  CHECK(warm > 20);
  CHECK(replayed > 10);
  CHECK(reordered > 10);
  CHECK(uneven > 100);
}

namespace {

/// Runs phase after phase: all loads come, then all commands are executed.
void run_in_order(HostAgent& agent) {
  agent.begin();
  std::uint64_t now = 0;
  std::size_t loads = 0;
  while (!agent.is_finished()) {
    REQUIRE(++now < 100000);
    while (!agent.loads().empty()) {
      agent.load_pushed(now);
      agent.load_completed(loads++, now);
    }
    if (!agent.commands().empty()) {
      agent.command_pushed(now);
      agent.command_executed(now);
    } else if (agent.phase_is_pushed()) {
      agent.phase_ended(now);
    } else if (agent.wake() && *agent.wake() <= now) {
      agent.woken(now);
    }
  }
}

}  // namespace

TEST_CASE("a run hits and loads what a replay of its routing does, where planes and parameters have one size",
          "[unit][program]") {
  base::Rng rng(27);
  const CoreParams core = small_core();
  constexpr int kLayers = 2, kExperts = 6;
  std::int64_t hits = 0, found = 0;
  for (int round = 0; round < 40; ++round) {
    // With these sizes the parameters of an expert take as many bytes as one of its planes.
    std::map<std::pair<int, int>, ExpertShape> shapes;
    for (int layer = 0; layer < kLayers; ++layer)
      for (int expert = 0; expert < kExperts; ++expert)
        shapes[{layer, expert}] = {numerics::Format::integer(static_cast<int>(rng.range(2, 4))), 64, 32, 64, 10, {}};
    std::vector<LayerRows> layers;
    host::ReplayTrace trace(kLayers, kExperts);
    for (int step = 0; step < 12; ++step)
      for (int layer = 0; layer < kLayers; ++layer) {
        LayerRows& l = layers.emplace_back();
        l.name = "step " + std::to_string(step) + ", layer " + std::to_string(layer);
        l.layer = layer;
        l.x.m = rng.range(1, 2);
        l.x.k = 64;
        l.x.act_bits = 8;
        l.top_k = 2;
        std::map<std::uint32_t, std::uint32_t> rows;
        for (std::int64_t m = 0; m < l.x.m; ++m) {
          l.x.token_shift.push_back(0);
          const auto first = static_cast<std::uint32_t>(rng.below(kExperts));
          const auto second = static_cast<std::uint32_t>((first + 1 + rng.below(kExperts - 1)) % kExperts);
          for (const std::uint32_t expert : {first, second}) {
            l.chosen.push_back(expert);
            l.r.push_back(16384);
            ++rows[expert];
          }
        }
        std::vector<host::Need> needs;
        for (const auto& [expert, count] : rows) needs.push_back({expert, 0, count, host::kNeverUsed});
        trace.add(static_cast<std::uint32_t>(layer), needs, layer > 0, static_cast<std::uint64_t>(step));
      }
    std::vector<host::StoredExpert> kinds;
    std::vector<std::uint32_t> kind_of;
    for (const auto& [key, shape] : shapes) {
      const numerics::ExpertLayout layout(shape.format, 64, 32, 64, {numerics::LayoutKind::kPlaneMajor, 4, 8});
      kind_of.push_back(static_cast<std::uint32_t>(kinds.size()));
      kinds.push_back(host::stored_expert(*layout.objects().front().layout));
      for (const host::UnitSpan& unit : kinds.back().units) REQUIRE(unit.bytes == base::Bytes(768));
    }
    const host::ExpertBytes bytes(kLayers, kExperts, kinds, kind_of);
    const std::vector<std::string> policies = host::eviction_policies().names();
    CacheConfig cache;
    cache.policy = round % 2 == 0 ? "planes" : policies[static_cast<std::size_t>(round / 2) % policies.size()];
    cache.capacity_bytes = 768 * rng.range(20, 40);  // of 48 on average; a step's four experts take 20 at most
    cache.decision_cycles = base::Cycles(rng.range(0, 20));
    host::ReplayConfig config;
    config.scope = host::Scope::kGlobal;
    config.access = host::Access::kSet;
    const host::ReplayResult replayed =
        host::replay(trace, bytes, config, {{cache.policy, base::Bytes(cache.capacity_bytes)}}, "case").front();

    Offloading offloading;
    offloading.capacity_bytes = cache.capacity_bytes;
    offloading.experts = kExperts;
    offloading.where = "case";
    LowerOptions options;
    options.offloading = &offloading;
    options.shapes = [&shapes](int layer, int expert) { return shapes.at({layer, expert}); };
    const RunProgram program =
        lower_layers_without_data(layers, options.shapes, core, numerics::LayoutKind::kPlaneMajor, "case", options);
    CacheAgent agent(program, cache, core.io_jobs, "case");
    run_in_order(agent);
    INFO("round " << round << ", " << cache.policy << ", " << cache.capacity_bytes);
    const std::vector<EngineRun::CacheOfLayer> of_layers = agent.cache_layers();
    REQUIRE(of_layers.size() == kLayers);
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      const host::ReplayCounts& counts = replayed.layers[layer];
      CHECK(of_layers[layer].jobs == static_cast<std::uint64_t>(counts.requests));
      CHECK(of_layers[layer].hits == static_cast<std::uint64_t>(counts.hits));
      CHECK(of_layers[layer].loaded_bytes == static_cast<std::uint64_t>(counts.loaded.count()));
    }
    CHECK(counters_of(agent).at("fragmentation_evictions") == 0);
    hits += replayed.total().hits;
    if (cache.policy == "planes") found += (replayed.total().requested - replayed.total().loaded).count() / 768;
  }
  CHECK(hits > 200);
  CHECK(found > 500);
}

TEST_CASE("planes of an expert are loaded one by one, those that are not read never", "[unit][program]") {
  for (const bool by_planes : {false, true}) {
    const numerics::Format format = numerics::Format::nested(3);
    const numerics::ExpertLayout expert(
        format, 24, 40, 16, {by_planes ? numerics::LayoutKind::kPlaneMajor : numerics::LayoutKind::kTileMajor, 4, 8});
    const numerics::StoredLayout& layout = *expert.objects().front().layout;
    const CacheBlock block = cache_block(expert);
    const auto params = static_cast<std::uint64_t>(layout.total_bytes() - layout.params_begin()),
               stride = static_cast<std::uint64_t>(layout.plane_stride());
    REQUIRE(block.pieces.size() == (by_planes ? 4 : 1));
    CHECK(block.bytes == (by_planes ? 3 * stride + params : static_cast<std::uint64_t>(layout.total_bytes())));
    std::uint64_t sum = 0;
    for (const CacheBlock::Piece& piece : block.pieces) sum += piece.bytes;
    CHECK(sum == block.bytes);
    if (!by_planes) continue;
    for (std::size_t rank = 0; rank <= 3; ++rank) CHECK(block.pieces[rank].rank == static_cast<int>(rank));
    for (const CacheBlock::Piece& piece : block.pieces) CHECK(piece.to == 0);  // each has a place of its own
    CHECK(block.by_planes);
    CHECK(block.pieces[3].from == 2 * stride);
  }
}

TEST_CASE("an interleaved expert is loaded in one piece, and its products only move with it", "[unit][program]") {
  for (const numerics::ExpertFormats& formats : {numerics::ExpertFormats(numerics::Format::nested(3)),
                                                 numerics::ExpertFormats(numerics::Format::mwq(2, 3, 1))}) {
    const numerics::ExpertLayout expert(formats, 24, 40, 16, {numerics::LayoutKind::kInterleaved, 4, 8});
    const CacheBlock block = cache_block(expert);
    REQUIRE(block.pieces.size() == 1);
    CHECK(block.pieces[0].from == 0);
    CHECK(block.pieces[0].to == 0);
    CHECK(block.pieces[0].bytes == static_cast<std::uint64_t>(expert.total_bytes()));
    CHECK(block.bytes == block.pieces[0].bytes);
    Command product;
    product.interleaved = true;
    product.levels = static_cast<std::uint8_t>(formats.gate.levels());
    product.weight_addr = 7;
    product.level_params_addr = 9;
    block.relocate(product, {4096});
    CHECK(product.weight_addr == 4103);
    CHECK(product.level_params_addr == (formats.gate.levels() == 0 ? 9U : 4105U));
  }
}

TEST_CASE("levels of an expert are loaded one by one with their parameters, those that are not read never",
          "[unit][program]") {
  const numerics::ExpertLayout expert(numerics::Format::mwq(2, 3, 1), 24, 40, 16,
                                      {numerics::LayoutKind::kPlaneMajor, 4, 8});
  const numerics::StoredLayout& layout = *expert.objects().front().layout;
  const CacheBlock block = cache_block(expert);
  const auto params = static_cast<std::uint64_t>(layout.total_bytes() - layout.params_begin()),
             stride = static_cast<std::uint64_t>(layout.plane_stride()),
             level = static_cast<std::uint64_t>(layout.level_stride());
  REQUIRE(block.pieces.size() == 4);
  CHECK(block.bytes == 2 * stride + level + params);
  CHECK(block.pieces[3].rank == 3);
  CHECK(block.pieces[3].bytes == level);
  CHECK(block.pieces[3].from == 2 * stride);
  CHECK(block.room() == (stride + 63) / 64 * 64 * 2 + (level + 63) / 64 * 64 + params);
}

namespace {

/// One expert of which row 0 reads two planes and rows 1 and 2 all four, and one that only row 3 reads, at two.
OffloadCase two_widths(LoadOrder order) {
  base::Rng rng(31);
  OffloadCase c;
  do {
    c = random_offload(rng, small_core(), numerics::LayoutKind::kPlaneMajor);
  } while (c.reads.empty() || !c.weights.begin()->second.gate.format.same_copy(numerics::Format::mwq(2, 2, 2)));
  LayerRows& layer = c.layers.front();
  for (int expert = 0; expert < c.experts; ++expert) {
    c.weights[{layer.layer, expert}] = c.weights.at({layer.layer, 0});
    c.reads[{layer.layer, expert}] = {numerics::Format::mwq(2, 2, 0), numerics::Format::mwq(2, 2, 2)};
  }
  c.layers.resize(1);
  const auto hidden = static_cast<std::size_t>(layer.x.k);
  layer.x.m = 4;
  layer.x.values.resize(4 * hidden, 1);
  layer.x.token_shift.assign(4, 0);
  layer.top_k = 1;
  layer.chosen = {0, 0, 0, 1};
  layer.levels = {0, 1, 1, 0};
  layer.r.assign(4, 32768);
  c.cache.capacity_bytes = 1 << 20;
  c.cache.start_popular = false;
  c.cache.prefetch.kind = "none";
  c.cache.policy = "lru";
  c.cache.load_order = order;
  c.cache.decision_cycles = base::Cycles(0);
  return c;
}

}  // namespace

TEST_CASE("each plane of an expert is loaded once for all its widths, and its narrow rows do not wait for the rest",
          "[unit][program]") {
  const CoreParams core = small_core();
  const OffloadCase c = two_widths(LoadOrder::kFifo);
  RunProgram program = c.lower(core);
  REQUIRE(program.jobs.size() == 4);  // expert 0 at two planes, at four; expert 1; the combination
  CHECK(program.jobs[0].rows == 1);
  CHECK(program.jobs[1].rows == 2);
  CacheAgent agent(program, c.cache, core.io_jobs, "case");
  agent.prepare(program.loaded.image);
  agent.begin();
  std::vector<Descriptor> loads;
  std::uint64_t now = 1;
  const auto push_all = [&] {
    while (!agent.loads().empty()) {
      loads.push_back(agent.loads().front());
      agent.load_pushed(now);
    }
  };
  push_all();
  // Parameters and two planes for three rows, two levels for two; the I/O queue has two entries, so expert 1 waits.
  REQUIRE(loads.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(loads[i].expert == 0);
    CHECK(loads[i].plane == i);
    CHECK(loads[i].requests == (i < 3 ? 3 : 2));
  }
  CHECK(loads[0].job == loads[2].job);
  CHECK(loads[3].job != loads[2].job);
  CHECK(agent.commands().empty());
  for (const std::size_t load : {2, 0, 4}) agent.load_completed(load, ++now);
  CHECK(agent.commands().empty());
  agent.load_completed(1, ++now);  // the second of the two planes
  std::size_t narrow = 0;
  for (const OfferedCommand& command : agent.commands())
    if (command.tag != CacheAgent::kWaitTag) {
      ++narrow;
      CHECK(command.tag < program.jobs[1].first_command);
    }
  CHECK(narrow == program.jobs[1].first_command);
  agent.load_completed(3, ++now);
  std::size_t offered = 0;
  for (const OfferedCommand& command : agent.commands()) offered += command.tag != CacheAgent::kWaitTag ? 1 : 0;
  CHECK(offered == program.jobs[2].first_command);

  // The whole of it, in a random order.
  RunProgram again = c.lower(core);
  CacheAgent other(again, c.cache, core.io_jobs, "case");
  Anything host(other, core, again.loaded.image, 3);
  REQUIRE(host.run() == "");
  CHECK(c.difference(again, again.loaded.image) == "");
  CHECK(host.loads.size() == 8);
}

TEST_CASE("hottest expert bit first sees what each plane is asked for by, over all widths", "[unit][program]") {
  const CoreParams core = [] {
    CoreParams wide = small_core();
    wide.io_jobs = 8;
    return wide;
  }();
  const OffloadCase c = two_widths(LoadOrder::kHebf);
  const RunProgram program = c.lower(core);
  CacheAgent agent(program, c.cache, core.io_jobs, "case");
  MemoryImage image = program.loaded.image;
  agent.prepare(image);
  agent.begin();
  std::vector<Descriptor> waiting(agent.loads().begin(), agent.loads().end());
  REQUIRE(waiting.size() == 8);
  std::vector<std::pair<int, int>> order;
  for (const std::size_t load : load_sequence(waiting, LoadOrder::kHebf))
    order.emplace_back(waiting[load].expert, waiting[load].plane);
  // Expert 0's shared planes have 3 requests, its levels 2, expert 1's planes 1.
  CHECK(order == std::vector<std::pair<int, int>>{{0, 0}, {0, 1}, {0, 2}, {0, 3}, {0, 4}, {1, 0}, {1, 1}, {1, 2}});
}

TEST_CASE("the block of an expert of three formats is its three objects', what is not read left out",
          "[unit][program]") {
  const numerics::ExpertFormats formats(numerics::Format::integer(3), numerics::Format::nested(2),
                                        numerics::Format::mwq(1, 2, 1));
  const numerics::ExpertLayout expert(formats, 24, 40, 16, {numerics::LayoutKind::kPlaneMajor, 4, 8});
  const CacheBlock block = cache_block(expert);
  REQUIRE(block.objects.size() == 3);
  CHECK(block.pieces.size() == 4 + 3 + 3);
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(block.objects[i].from == static_cast<std::uint64_t>(expert.objects()[i].offset));
    CHECK(block.objects[i].to == bytes);
    std::uint64_t own = 0;
    for (const CacheBlock::Piece& piece : block.pieces)
      if (piece.from >= block.objects[i].from && (i == 2 || piece.from < block.objects[i + 1].from)) own += piece.bytes;
    bytes += own;
  }
  CHECK(block.bytes == bytes);
  for (std::size_t i = 1; i < block.pieces.size(); ++i) CHECK(block.pieces[i - 1].rank <= block.pieces[i].rank);
}

TEST_CASE("a cache that holds every expert from the start loads nothing", "[unit][program]") {
  base::Rng rng(23);
  const CoreParams core = small_core();
  OffloadCase c = random_offload(rng, core);
  c.cache.capacity_bytes = 1 << 20;
  c.cache.start_popular = true;
  c.cache.prefetch.kind = "none";
  RunProgram program = c.lower(core);
  CacheAgent agent(program, c.cache, core.io_jobs, "case");
  Anything host(agent, core, program.loaded.image, 5);
  REQUIRE(host.run() == "");
  CHECK(c.difference(program, program.loaded.image) == "");
  CHECK(host.loads.empty());
  const auto counters = counters_of(agent);
  CHECK(counters.at("hits") == counters.at("jobs"));
}

TEST_CASE("a cache that is smaller than the largest expert is refused", "[unit][program]") {
  base::Rng rng(24);
  OffloadCase c = random_offload(rng, small_core());
  c.cache.capacity_bytes = 100;
  CHECK_THROWS_WITH(c.lower(small_core()),
                    Catch::Matchers::StartsWith("case: cache.capacity_bytes: got 100, expected at least "));
}
