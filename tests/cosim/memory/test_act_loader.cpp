#include <catch2/catch.hpp>
#include <deque>

#include "Vrtl_moe_act_loader_32x16.h"
#include "Vrtl_moe_act_loader_4x4.h"
#include "Vrtl_moe_act_loader_8x64.h"
#include "Vrtl_moe_act_loader_8x8.h"
#include "reference/numerics/integer.h"
#include "reference/numerics/stored_layout.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/common/beat_tag.h"
#include "sim/cycle/memory/act_loader.h"
#include "tests/cosim/memory/memory_model.h"

namespace moesaic::cosim {
namespace {

using Word = cycle::Lanes<std::int32_t>;

struct ExpectedWord {
  std::uint64_t addr = 0;
  Word word;
};
struct ExpectedDirect {
  std::uint64_t token = 0, s = 0;
  Word d;
  bool first = false, done = false;
};
/// One command and everything that it must do.
struct LoaderCase {
  program::Command command;
  std::vector<std::uint64_t> row_in_addr;  // per token
  std::vector<std::uint64_t> eh;           // per token
  std::deque<numerics::Segment> segments;
  std::deque<ExpectedWord> words;
  std::deque<ExpectedDirect> directs;
};

std::int32_t int16_at(std::uint64_t addr) { return static_cast<std::int16_t>(bytes_at(addr, 2)); }

/// Hidden buffer word `index` holds the four int16 at byte 8 * index of the test's memory.
std::int32_t hidden_at(std::uint64_t index, unsigned lane) { return int16_at(8 * index + 2 * lane); }

LoaderCase random_load(base::Rng& rng, const cycle::CoreParams& params) {
  LoaderCase c;
  program::Command& command = c.command;
  command.opcode = program::Opcode::kLoadAct;
  command.tokens = static_cast<std::uint8_t>(1 + rng.below(4));
  command.group_size = rng.pick(std::vector<std::uint32_t>{8, 16, 24, 64, 1024});
  // A chunk of K may begin within a group, at a tile's start.
  const std::uint32_t tiles_in = command.group_size > params.rows ? (command.group_size - 1) / params.rows : 0;
  const std::uint32_t begun = rng.chance(1, 2) ? 0 : static_cast<std::uint32_t>(rng.below(tiles_in + 1)) * params.rows;
  command.group_left = command.group_size - begun;
  command.source_hidden = rng.chance(1, 3);
  command.shift_hidden = command.source_hidden || rng.chance(1, 3);
  command.elem_bytes = command.shift_hidden || (params.max_act_bits > 8 && rng.chance(1, 2)) ? 2 : 1;
  command.offset = static_cast<std::uint32_t>(rng.chance(1, 2) ? 0 : rng.below(std::uint64_t{1} << 32));
  // Both buffers hold all tokens: a tile is at least min(rows, 8) deep, but for the last.
  const unsigned deepest = std::min(4 * (params.hidden_depth / command.tokens - 2),
                                    std::min(params.rows, 8u) * (params.act_depth / command.tokens - 3));
  command.k = static_cast<std::uint32_t>(rng.chance(1, 3) ? 1 + rng.below(8) : 1 + rng.below(deepest));

  // Tiles of one token, by the stored layout: the k of group_left, then whole groups.
  std::vector<std::int64_t> tiles;
  const std::int64_t k = command.k;
  numerics::Tile tile;
  for (numerics::TileWalk walk({1, begun + k, command.group_size, 1}, static_cast<int>(params.rows), 1);
       walk.next(tile);) {
    if (tile.k0 >= begun) tiles.push_back(tile.tile_k);
  }
  command.act_stride = static_cast<std::uint16_t>(tiles.size() + rng.below(2));
  command.hidden_stride = static_cast<std::uint16_t>((k + 3) / 4 + static_cast<std::int64_t>(rng.below(2)));
  const std::uint64_t hidden_words = std::uint64_t{command.hidden_stride} * command.tokens;
  command.hidden_base = static_cast<std::uint16_t>(
      hidden_words < params.hidden_depth ? rng.below(params.hidden_depth - hidden_words) : 0);
  // With shift_hidden the shifted values fit the activations, as eh is defined.
  const std::uint64_t least_eh = command.shift_hidden ? 17 - params.max_act_bits : 0;

  for (unsigned token = 0; token < command.tokens; ++token) {
    c.row_in_addr.push_back(rng.below(std::uint64_t{1} << 39));
    c.eh.push_back(params.max_act_bits == 16 ? rng.below(14) : least_eh + rng.below(5));
    const std::uint64_t row = c.row_in_addr.back() + command.offset;
    if (!command.source_hidden) {
      c.segments.push_back({static_cast<std::int64_t>(row), static_cast<std::int64_t>(command.k * command.elem_bytes)});
    }
    std::uint64_t done = 0;
    for (std::size_t t = 0; t < tiles.size(); ++t) {
      ExpectedWord expected{token * command.act_stride + t, Word(params.rows)};
      for (std::int64_t i = 0; i < tiles[t]; ++i, ++done) {
        std::int32_t value = 0;
        if (command.source_hidden) {
          value = hidden_at(command.hidden_base + token * command.hidden_stride + done / 4, done % 4);
        } else if (command.elem_bytes == 2) {
          value = int16_at(row + 2 * done);
        } else {
          value = static_cast<std::int8_t>(byte_at(row + done));
        }
        if (command.shift_hidden) {
          value = static_cast<std::int32_t>(numerics::rshift_round(value, static_cast<int>(c.eh.back())));
        }
        expected.word[static_cast<std::size_t>(i)] = value;
      }
      c.words.push_back(expected);
    }
  }
  return c;
}

LoaderCase random_combine(base::Rng& rng, const cycle::CoreParams& params) {
  LoaderCase c;
  program::Command& command = c.command;
  command.opcode = program::Opcode::kCombine;
  command.tokens = static_cast<std::uint8_t>(1 + rng.below(4));
  command.k = static_cast<std::uint32_t>(1 + rng.below(5));
  command.n = static_cast<std::uint32_t>(1 + rng.below(3 * params.cols));
  command.requant_addr = rng.below(std::uint64_t{1} << 39);
  command.plane_stride = rng.below(std::uint64_t{1} << 36);
  command.offset = static_cast<std::uint32_t>(rng.below(1000));
  for (unsigned token = 0; token < command.tokens; ++token) {
    c.row_in_addr.push_back(rng.below(std::uint64_t{1} << 38));
    c.eh.push_back(0);
  }
  for (std::uint32_t n0 = 0; n0 < command.n; n0 += params.cols) {
    const std::uint32_t cols = std::min(params.cols, command.n - n0);
    for (unsigned token = 0; token < command.tokens; ++token) {
      for (std::uint32_t e = 0; e < command.k; ++e) {
        const std::uint64_t r = command.requant_addr + 2 * (token * command.k + e);
        const std::uint64_t row = c.row_in_addr[token] + command.offset + e * command.plane_stride + 2 * n0;
        c.segments.push_back({static_cast<std::int64_t>(r), 2});
        c.segments.push_back({static_cast<std::int64_t>(row), 2 * cols});
        ExpectedDirect direct{token, bytes_at(r, 2), Word(cols), e == 0,
                              e + 1 == command.k && token + 1u == command.tokens};
        for (std::uint32_t col = 0; col < cols; ++col) direct.d[col] = int16_at(row + 2 * col);
        c.directs.push_back(direct);
      }
    }
  }
  return c;
}

template <class V>
Report run_act_loader(const cycle::CoreParams& params, const Options& options) {
  const unsigned act_addr_bits = program::log2_ceil(params.act_depth);
  const unsigned hidden_addr_bits = program::log2_ceil(params.hidden_depth);
  Verilated<V> rtl;
  cycle::ActLoader twin("act_loader", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& start = bench.in("start_i", twin.start_i, rtl->start_i);
  auto& cmd = bench.in("cmd_i", twin.cmd_i, rtl->cmd_i, 32 * program::kCommandWords);
  auto& done = bench.out("done_o", twin.done_o, rtl->done_o);
  auto& row_token = bench.out("row_token_o", twin.row_token_o, rtl->row_token_o, cycle::BeatTag::kTokenBits);
  auto& row_in_addr = bench.in("row_in_addr_i", twin.row_in_addr_i, rtl->row_in_addr_i, 40);
  auto& seg_valid = bench.out("seg_valid_o", twin.seg_valid_o, rtl->seg_valid_o);
  auto& seg_ready = bench.in("seg_ready_i", twin.seg_ready_i, rtl->seg_ready_i);
  auto& seg_addr = bench.out("seg_addr_o", twin.seg_addr_o, rtl->seg_addr_o, 40);
  auto& seg_bytes = bench.out("seg_bytes_o", twin.seg_bytes_o, rtl->seg_bytes_o, 32);
  auto& avail = bench.in("avail_i", twin.avail_i, rtl->avail_i, avail_bits(params));
  auto& data = bench.in("data_i", twin.data_i, rtl->data_i, 64, params.axi_data_bits / 64);
  auto& pop = bench.out("pop_o", twin.pop_o, rtl->pop_o, avail_bits(params));
  auto& hidden_addr = bench.out("hidden_addr_o", twin.hidden_addr_o, rtl->hidden_addr_o, hidden_addr_bits);
  auto& hidden_data = bench.in("hidden_data_i", twin.hidden_data_i, rtl->hidden_data_i, 16, 4);
  auto& eh_token = bench.out("eh_token_o", twin.eh_token_o, rtl->eh_token_o, cycle::BeatTag::kTokenBits);
  auto& eh = bench.in("eh_i", twin.eh_i, rtl->eh_i, 5);
  auto& write_valid = bench.out("act_write_valid_o", twin.act_write_valid_o, rtl->act_write_valid_o);
  auto& write_addr = bench.out("act_write_addr_o", twin.act_write_addr_o, rtl->act_write_addr_o, act_addr_bits);
  auto& write_data =
      bench.out("act_write_data_o", twin.act_write_data_o, rtl->act_write_data_o, params.max_act_bits, params.rows);
  auto& direct_valid = bench.out("direct_valid_o", twin.direct_valid_o, rtl->direct_valid_o);
  auto& direct_ready = bench.in("direct_ready_i", twin.direct_ready_i, rtl->direct_ready_i);
  auto& direct_token =
      bench.out("direct_token_o", twin.direct_token_o, rtl->direct_token_o, cycle::BeatTag::kTokenBits);
  auto& direct_s = bench.out("direct_s_o", twin.direct_s_o, rtl->direct_s_o, 16);
  auto& direct_d = bench.out("direct_d_o", twin.direct_d_o, rtl->direct_d_o, 16, params.cols);
  auto& direct_first = bench.out("direct_first_o", twin.direct_first_o, rtl->direct_first_o);
  auto& direct_done = bench.out("direct_done_o", twin.direct_done_o, rtl->direct_done_o);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  base::Rng rng = bench.rng("commands");
  Pace start_pace(bench.rng("start"));
  BitStream stream(bench, params, avail, data, pop);
  LoaderCase now;
  bool working = false;
  bench.on_reset([&] {
    working = false;
    now = LoaderCase{};
    start.write(false);
    cmd.write(program::Command{});
  });
  bench.on_falling([&](std::uint64_t) {
    start.write(false);
    if (!working && start_pace.go()) {
      now = rng.chance(1, 3) ? random_combine(rng, params) : random_load(rng, params);
      cmd.write(now.command);
      start.write(true);
      working = true;
    }
    // The lookups are combinational on what the block's registers ask for.
    row_in_addr.write(row_token.read() < now.row_in_addr.size() ? now.row_in_addr[row_token.read()] : 0);
    eh.write(eh_token.read() < now.eh.size() ? now.eh[eh_token.read()] : 0);
    Word hidden(4);
    for (unsigned l = 0; l < 4; ++l) hidden[l] = hidden_at(hidden_addr.read(), l);
    hidden_data.write(hidden);
  });
  Sink segments(bench, "seg", seg_ready, seg_valid, [&] {
    if (now.segments.empty()) return bench.fail("a segment too many");
    const numerics::Segment got{static_cast<std::int64_t>(seg_addr.read()),
                                static_cast<std::int64_t>(seg_bytes.read())};
    if (!(got == now.segments.front())) bench.fail("the segment is not the row's");
    now.segments.pop_front();
    for (std::int64_t i = 0; i < got.bytes; ++i) {
      const std::uint8_t byte = byte_at(static_cast<std::uint64_t>(got.offset + i));
      stream.push(&byte, 1);
    }
  });
  Sink directs(bench, "direct", direct_ready, direct_valid, [&] {
    if (now.directs.empty()) return bench.fail("a row too many");
    const ExpectedDirect& e = now.directs.front();
    if (direct_token.read() != e.token || direct_s.read() != e.s || direct_d.read() != e.d ||
        direct_first.read() != e.first || direct_done.read() != e.done) {
      bench.fail("the row offered is not the expert's");
    }
    now.directs.pop_front();
  });
  bench.on_sample([&](std::uint64_t) {
    if (done.read()) {
      if (!working) bench.fail("done without work");
      if (!now.segments.empty() || !now.words.empty() || !now.directs.empty() || !stream.empty()) {
        bench.fail("done before everything is");
      }
      working = false;
      bench.count_transfer();
    }
    if (!write_valid.read()) return;
    if (now.words.empty()) return bench.fail("a word too many");
    const ExpectedWord& e = now.words.front();
    if (write_addr.read() != e.addr || write_data.read() != e.word) bench.fail("the word is not the token's tile");
    now.words.pop_front();
    bench.count_transfer();
  });
  return bench.run();
}

cycle::CoreParams core(unsigned rows, unsigned cols, unsigned act_bits, unsigned width, unsigned act_depth,
                       unsigned hidden_depth) {
  cycle::CoreParams params;
  params.rows = rows;
  params.cols = cols;
  params.max_act_bits = act_bits;
  params.axi_data_bits = width;
  params.act_depth = act_depth;
  params.hidden_depth = hidden_depth;
  return params;
}

void check(const Report& report, std::uint64_t transfers) {
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > transfers);
}

}  // namespace

TEST_CASE("moe_act_loader and its twin load every activation and offer every expert's row, in step",
          "[cosim][act_loader]") {
  const std::string title = "moe_act_loader and its twin load every activation and offer every expert's row, in step";
  check(run_forked([&] {
          return run_act_loader<Vrtl_moe_act_loader_4x4>(core(4, 4, 8, 64, 64, 64),
                                                         Options::from_environment(title, 1, 30000));
        }),
        5000);
  check(run_forked([&] {
          return run_act_loader<Vrtl_moe_act_loader_8x8>(core(8, 8, 16, 64, 128, 128),
                                                         Options::from_environment(title, 2, 30000));
        }),
        5000);
  check(run_forked([&] {
          return run_act_loader<Vrtl_moe_act_loader_32x16>(core(32, 16, 8, 128, 64, 256),
                                                           Options::from_environment(title, 3, 30000));
        }),
        4000);
  check(run_forked([&] {
          return run_act_loader<Vrtl_moe_act_loader_8x64>(core(8, 64, 8, 512, 64, 64),
                                                          Options::from_environment(title, 4, 30000));
        }),
        4000);
}

TEST_CASE("a flipped activation bit on its way to the buffer is reported as a difference", "[cosim][act_loader]") {
  Options options = Options::from_environment(
      "a flipped activation bit on its way to the buffer is reported as a difference", 1, 2000);
  options.injection = {"act_write_data_o", 9, 50};
  const Report report =
      run_forked([&] { return run_act_loader<Vrtl_moe_act_loader_4x4>(core(4, 4, 8, 64, 64, 64), options); });
  CHECK(report.differences == 1);
  CHECK_THAT(report.message, Catch::Contains("act_write_data_o"));
}

}  // namespace moesaic::cosim
