#include <catch2/catch.hpp>
#include <deque>
#include <stdexcept>

#include "Vrtl_moe_tile_walker_32x16.h"
#include "Vrtl_moe_tile_walker_4x4.h"
#include "Vrtl_moe_weight_fetch_32x16_128.h"
#include "Vrtl_moe_weight_fetch_32x16_512.h"
#include "Vrtl_moe_weight_fetch_4x4.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/common/tile_walker.h"
#include "sim/cycle/memory/weight_fetch.h"
#include "tests/cosim/memory/matmul_cases.h"

namespace moesaic::cosim {
namespace {

cycle::CoreParams array(unsigned rows, unsigned cols, unsigned axi_data_bits = 64) {
  cycle::CoreParams params;
  params.rows = rows;
  params.cols = cols;
  params.axi_data_bits = axi_data_bits;
  return params;
}

template <class V>
Report run_tile_walker(const cycle::CoreParams& params, const Options& options) {
  Verilated<V> rtl;
  cycle::TileWalker twin("tile_walker", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& start = bench.in("start_i", twin.start_i, rtl->start_i);
  auto& n = bench.in("n_i", twin.n_i, rtl->n_i, 32);
  auto& k = bench.in("k_i", twin.k_i, rtl->k_i, 32);
  auto& group_size = bench.in("group_size_i", twin.group_size_i, rtl->group_size_i, 32);
  auto& group_left = bench.in("group_left_i", twin.group_left_i, rtl->group_left_i, 32);
  auto& paired = bench.in("paired_i", twin.paired_i, rtl->paired_i);
  auto& acc_continue = bench.in("acc_continue_i", twin.acc_continue_i, rtl->acc_continue_i);
  auto& group_continue = bench.in("group_continue_i", twin.group_continue_i, rtl->group_continue_i);
  auto& k_last = bench.in("k_last_i", twin.k_last_i, rtl->k_last_i);
  auto& levels = bench.in("levels_i", twin.levels_i, rtl->levels_i, 3);
  auto& valid = bench.out("valid_o", twin.valid_o, rtl->valid_o);
  auto& ready = bench.in("ready_i", twin.ready_i, rtl->ready_i);
  auto& tile_k = bench.out("tile_k_o", twin.tile_k_o, rtl->tile_k_o, 7);
  auto& cols = bench.out("cols_o", twin.cols_o, rtl->cols_o, 7);
  auto& which = bench.out("which_o", twin.which_o, rtl->which_o);
  auto& level = bench.out("level_o", twin.level_o, rtl->level_o, 3);
  auto& rewind = bench.out("rewind_o", twin.rewind_o, rtl->rewind_o);
  auto& group_first = bench.out("group_first_o", twin.group_first_o, rtl->group_first_o);
  auto& group_end = bench.out("group_end_o", twin.group_end_o, rtl->group_end_o);
  auto& acc_first = bench.out("acc_first_o", twin.acc_first_o, rtl->acc_first_o);
  auto& block_first = bench.out("block_first_o", twin.block_first_o, rtl->block_first_o);
  auto& block_end = bench.out("block_end_o", twin.block_end_o, rtl->block_end_o);
  auto& last = bench.out("last_o", twin.last_o, rtl->last_o);

  base::Rng rng = bench.rng("commands");
  std::deque<MatmulCase> cases;
  std::deque<ExpectedTile> tiles;
  Pace pace(bench.rng("start"));
  bench.on_reset([&] {
    cases.clear();
    tiles.clear();
    start.write(false);
  });
  bench.on_falling([&](std::uint64_t) {
    start.write(false);
    if (valid.read() || !pace.go()) return;
    if (!tiles.empty()) return bench.fail("the walk ended " + std::to_string(tiles.size()) + " tiles early");
    if (cases.empty()) {
      for (MatmulCase& c : random_matmuls(rng, params)) cases.push_back(c);
    }
    const program::Command& c = cases.front().command;
    n.write(c.n);
    k.write(c.k);
    group_size.write(c.group_size);
    group_left.write(c.group_left);
    paired.write(c.paired);
    acc_continue.write(c.acc_continue);
    group_continue.write(c.group_continue);
    k_last.write(c.k_last);
    levels.write(c.levels);
    tiles.assign(cases.front().tiles.begin(), cases.front().tiles.end());
    cases.pop_front();
    start.write(true);
  });
  Sink sink(bench, "tile", ready, valid, [&] {
    if (tiles.empty()) return bench.fail("a tile too many");
    const ExpectedTile& e = tiles.front();
    if (tile_k.read() != e.tile_k || cols.read() != e.cols || which.read() != e.which ||
        group_first.read() != e.group_first || group_end.read() != e.group_end || acc_first.read() != e.acc_first ||
        level.read() != e.level || rewind.read() != e.rewind || block_first.read() != e.block_first ||
        block_end.read() != e.block_end || last.read() != e.last) {
      bench.fail("the tile is not the stored layout's");
    }
    tiles.pop_front();
  });
  return bench.run();
}

/// What a fetch of the case's segments must be, written from the promise: of each kind a beat that the one before ended
/// in is not read again.
struct ExpectedSegment {
  numerics::Segment at;
  unsigned kind = 0;
  bool resume = false;
};

std::deque<ExpectedSegment> expected_segments(const MatmulCase& c, unsigned beat_bytes) {
  std::deque<ExpectedSegment> all;
  for (std::size_t i = 0; i < c.segments.size(); ++i) {
    ExpectedSegment expected{c.segments[i], c.kinds[i], false};
    for (std::size_t before = i; before-- > 0;) {
      if (c.kinds[before] != c.kinds[i]) continue;
      const std::int64_t end = c.segments[before].offset + c.segments[before].bytes - 1;
      expected.resume = end / beat_bytes == c.segments[i].offset / beat_bytes;
      break;
    }
    all.push_back(expected);
  }
  return all;
}

template <class V>
Report run_weight_fetch(const cycle::CoreParams& params, const Options& options) {
  Verilated<V> rtl;
  cycle::WeightFetch twin("weight_fetch", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& cmd_valid = bench.in("cmd_valid_i", twin.cmd_valid_i, rtl->cmd_valid_i);
  auto& cmd_ready = bench.out("cmd_ready_o", twin.cmd_ready_o, rtl->cmd_ready_o);
  auto& cmd = bench.in("cmd_i", twin.cmd_i, rtl->cmd_i, 32 * program::kCommandWords);
  auto& seg_valid = bench.out("seg_valid_o", twin.seg_valid_o, rtl->seg_valid_o);
  auto& seg_ready = bench.in("seg_ready_i", twin.seg_ready_i, rtl->seg_ready_i);
  auto& seg_addr = bench.out("seg_addr_o", twin.seg_addr_o, rtl->seg_addr_o, 40);
  auto& seg_bytes = bench.out("seg_bytes_o", twin.seg_bytes_o, rtl->seg_bytes_o, 32);
  auto& seg_keep = bench.out("seg_keep_o", twin.seg_keep_o, rtl->seg_keep_o, 2);
  auto& seg_resume = bench.out("seg_resume_o", twin.seg_resume_o, rtl->seg_resume_o);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  base::Rng rng = bench.rng("commands");
  std::deque<MatmulCase> cases;
  std::deque<ExpectedSegment> segments;
  std::uint64_t resumed = 0;
  bench.on_reset([&] {
    cases.clear();
    segments.clear();
  });
  Source source(
      bench, "cmd", cmd_valid, cmd_ready,
      [&] {
        if (cases.empty()) {
          for (MatmulCase& c : random_matmuls(rng, params)) cases.push_back(c);
        }
        cmd.write(cases.front().command);
        segments = expected_segments(cases.front(), params.beat_bytes());
        cases.pop_front();
        return true;
      },
      [&] { cmd.write(program::Command{}); },
      [&] {
        if (segments.size() > 1) bench.fail("the command ended before its last segment");
      });
  Sink sink(bench, "seg", seg_ready, seg_valid, [&] {
    if (segments.empty()) return bench.fail("a segment too many");
    const numerics::Segment got{static_cast<std::int64_t>(seg_addr.read()),
                                static_cast<std::int64_t>(seg_bytes.read())};
    const ExpectedSegment& expected = segments.front();
    if (!(got == expected.at)) {
      bench.fail("got segment " + std::to_string(got.offset) + "+" + std::to_string(got.bytes) + ", the layout says " +
                 std::to_string(expected.at.offset) + "+" + std::to_string(expected.at.bytes));
    }
    if (seg_keep.read() != expected.kind) bench.fail("the segment is kept as another kind's");
    if (seg_resume.read() != expected.resume) {
      bench.fail(expected.resume ? "a beat is read again" : "a segment resumes in a beat that is not kept");
    }
    resumed += expected.resume ? 1 : 0;
    if (segments.size() == 1 && !cmd_ready.read()) bench.fail("the last segment does not end the command");
    segments.pop_front();
  });
  const Report report = bench.run();
  if (report.ok() && resumed < options.cycles / 100)
    throw std::logic_error("too few segments resumed: " + std::to_string(resumed));
  return report;
}

void check(const Report& report, std::uint64_t transfers) {
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > transfers);
}

}  // namespace

TEST_CASE("moe_tile_walker and its twin walk the stored layout's tiles, in step", "[cosim][tile_walker]") {
  const std::string title = "moe_tile_walker and its twin walk the stored layout's tiles, in step";
  check(run_forked([&] {
          return run_tile_walker<Vrtl_moe_tile_walker_4x4>(array(4, 4), Options::from_environment(title, 1, 60000));
        }),
        20000);
  check(run_forked([&] {
          return run_tile_walker<Vrtl_moe_tile_walker_32x16>(array(32, 16), Options::from_environment(title, 2, 60000));
        }),
        20000);
}

TEST_CASE("moe_weight_fetch and its twin ask for exactly the stored layout's segments, in step",
          "[cosim][weight_fetch]") {
  const std::string title = "moe_weight_fetch and its twin ask for exactly the stored layout's segments, in step";
  check(run_forked([&] {
          return run_weight_fetch<Vrtl_moe_weight_fetch_4x4>(array(4, 4), Options::from_environment(title, 3, 60000));
        }),
        20000);
  check(run_forked([&] {
          return run_weight_fetch<Vrtl_moe_weight_fetch_32x16_128>(array(32, 16, 128),
                                                                   Options::from_environment(title, 4, 60000));
        }),
        20000);
  check(run_forked([&] {
          return run_weight_fetch<Vrtl_moe_weight_fetch_32x16_512>(array(32, 16, 512),
                                                                   Options::from_environment(title, 5, 60000));
        }),
        20000);
}

TEST_CASE("a flipped bit of a segment's address is reported as a difference", "[cosim][weight_fetch]") {
  Options options =
      Options::from_environment("a flipped bit of a segment's address is reported as a difference", 3, 2000);
  options.injection = {"seg_addr_o", 7, 100};
  const Report report = run_forked([&] { return run_weight_fetch<Vrtl_moe_weight_fetch_4x4>(array(4, 4), options); });
  CHECK(report.differences == 1);
  CHECK_THAT(report.message, Catch::Contains("seg_addr_o"));
}

}  // namespace moesaic::cosim
