#include <catch2/catch.hpp>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <string>

#include "Vrtl_pe_array_16x8_p4_a4.h"
#include "Vrtl_pe_array_4x4_p1_a8.h"
#include "Vrtl_pe_array_8x4_p2_a16.h"
#include "base/atomic_file.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/array/pe_array.h"
#include "sim/cycle/common/beat_tag.h"
#include "tests/temporary_folder.h"

namespace moesaic {
namespace {

using cosim::In;
using cosim::Lockstep;
using cosim::Options;
using cosim::Report;
using cycle::CoreParams;
using cycle::Lanes;

CoreParams array_params(unsigned rows, unsigned cols, unsigned planes, unsigned act_bits) {
  CoreParams params;
  params.rows = rows;
  params.cols = cols;
  params.planes_per_cycle = planes;
  params.max_act_bits = act_bits;
  params.axi_data_bits = 64;
  return params;
}

/// Extremes often, so that sums reach their bounds.
std::int32_t draw_activation(base::Rng& rng, unsigned bits) {
  const std::int32_t top = (1 << (bits - 1)) - 1;
  const std::uint64_t kind = rng.below(8);
  return kind == 0 ? top : kind == 1 ? -top - 1 : static_cast<std::int32_t>(rng.range(-top - 1, top));
}

/// What a beat must give, by the formula: the sum over rows and lanes of 2^(shift - lane) * digit * x.
struct Expected {
  Lanes<std::int64_t> sums;
  std::int64_t rowsum = 0;
  std::uint64_t tag = 0;
};

/// Tiles of random planes, columns, masks and rows, each followed by random beats; random stalls everywhere. What
/// arrives is also checked against the formula of the arithmetic.
template <class V>
Report run_array(const Options& options, const CoreParams& params) {
  cosim::Verilated<V> rtl;
  cycle::PeArray twin("pe_array", params);
  Lockstep bench(options, rtl);
  const unsigned rows = params.rows;
  const unsigned cols = params.cols;
  const unsigned lanes = params.planes_per_cycle;
  const unsigned load = params.load_cols();
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& w_valid = bench.in("w_valid_i", twin.w_valid_i, rtl->w_valid_i);
  auto& w_ready = bench.out("w_ready_o", twin.w_ready_o, rtl->w_ready_o);
  auto& w_plane = bench.in("w_plane_i", twin.w_plane_i, rtl->w_plane_i, 3);
  auto& w_first_col = bench.in("w_first_col_i", twin.w_first_col_i, rtl->w_first_col_i, 6);
  auto& w_bits = bench.in("w_bits_i", twin.w_bits_i, rtl->w_bits_i, rows, load);
  auto& w_mask = bench.in("w_mask_i", twin.w_mask_i, rtl->w_mask_i, load);
  auto& w_last = bench.in("w_last_i", twin.w_last_i, rtl->w_last_i);
  auto& beat_valid = bench.in("beat_valid_i", twin.beat_valid_i, rtl->beat_valid_i);
  auto& beat_ready = bench.out("beat_ready_o", twin.beat_ready_o, rtl->beat_ready_o);
  auto& beat_x = bench.in("beat_x_i", twin.beat_x_i, rtl->beat_x_i, params.max_act_bits, rows);
  auto& beat_plane = bench.in("beat_plane_i", twin.beat_plane_i, rtl->beat_plane_i, 3);
  auto& beat_enable = bench.in("beat_enable_i", twin.beat_enable_i, rtl->beat_enable_i, lanes);
  auto& beat_shift = bench.in("beat_shift_i", twin.beat_shift_i, rtl->beat_shift_i, 3);
  auto& beat_tag = bench.in("beat_tag_i", twin.beat_tag_i, rtl->beat_tag_i, cycle::BeatTag::kBits);
  auto& beat_last = bench.in("beat_last_i", twin.beat_last_i, rtl->beat_last_i);
  auto& sum_valid = bench.out("sum_valid_o", twin.sum_valid_o, rtl->sum_valid_o);
  auto& sum_ready = bench.in("sum_ready_i", twin.sum_ready_i, rtl->sum_ready_i);
  auto& sum = bench.out("sum_o", twin.sum_o, rtl->sum_o, params.sum_bits(), cols);
  auto& rowsum = bench.out("rowsum_o", twin.rowsum_o, rtl->rowsum_o, params.rowsum_bits());
  auto& sum_tag = bench.out("sum_tag_o", twin.sum_tag_o, rtl->sum_tag_o, cycle::BeatTag::kBits);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  // One tile: its planes, how many writes are left, its weights.
  struct Tile {
    unsigned planes = 0;
    unsigned writes = 0;
    unsigned drawn = 0;  // writes offered
    unsigned writes_done = 0;
    unsigned row_count = 0;
    std::uint64_t columns = 0;  // mask
    unsigned beats = 0;
    std::vector<std::uint64_t> bits;  // [plane][column]
  };
  base::Rng rng = bench.rng("tiles");
  std::deque<Tile> tiles;  // the front is computing, the back may be loading
  std::size_t loading = 0;
  std::deque<Expected> expected;

  const auto new_tile = [&] {
    Tile tile;
    tile.planes = 1 + static_cast<unsigned>(rng.below(8));
    tile.row_count = rng.chance(1, 2) ? rows : 1 + static_cast<unsigned>(rng.below(rows));
    const unsigned col_count = rng.chance(1, 2) ? cols : 1 + static_cast<unsigned>(rng.below(cols));
    tile.columns = (std::uint64_t{1} << col_count) - 1;
    tile.writes = tile.planes * (cols / load);
    tile.beats = 1 + static_cast<unsigned>(rng.below(24));
    tile.bits.assign(std::size_t{8} * cols, 0);
    return tile;
  };
  cosim::Source w_source(
      bench, "w", w_valid, w_ready,
      [&] {
        if (loading == tiles.size()) tiles.push_back(new_tile());
        Tile& tile = tiles[loading];
        const unsigned plane = tile.writes_done / (cols / load);
        const unsigned first = tile.writes_done % (cols / load) * load;
        const std::uint64_t mask = tile.columns >> first & ((std::uint64_t{1} << load) - 1);
        Lanes<std::uint64_t> bits(load);
        const bool full = rng.chance(1, 6);
        for (unsigned l = 0; l < load; ++l) {
          const std::uint64_t used =
              tile.row_count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << tile.row_count) - 1;
          bits[l] = (full ? ~std::uint64_t{0} : rng.next()) & used;
          if ((mask >> l & 1) != 0) tile.bits[plane * cols + first + l] = bits[l];
        }
        w_plane.write(plane);
        w_first_col.write(first);
        w_bits.write(bits);
        w_mask.write(mask);
        w_last.write(tile.writes_done + 1 == tile.writes);
        ++tile.drawn;
        return true;
      },
      [&] {
        w_plane.write(0);
        w_first_col.write(0);
        w_bits.write({});
        w_mask.write(0);
        w_last.write(false);
      },
      [&] {
        if (++tiles[loading].writes_done == tiles[loading].writes) ++loading;
      });
  Expected next;
  cosim::Source beat_source(
      bench, "beat", beat_valid, beat_ready,
      [&] {
        // A beat may be offered while the last write of its tile is still refused or stalled: it has to wait for the
        // bank.
        if (tiles.empty() || tiles[0].drawn < tiles[0].writes) return false;
        const Tile& tile = tiles.front();
        const unsigned plane = static_cast<unsigned>(rng.below(tile.planes) / lanes * lanes);
        const unsigned shift = tile.planes - 1 - plane;
        std::uint64_t enable = 0;
        for (unsigned j = 0; j < lanes; ++j) {
          if (plane + j < tile.planes && rng.chance(7, 8)) enable |= std::uint64_t{1} << j;
        }
        Lanes<std::int32_t> x(rows);
        for (unsigned r = 0; r < rows; ++r) x[r] = draw_activation(rng, params.max_act_bits);
        if (rng.chance(1, 8)) x = Lanes<std::int32_t>(rows, -(1 << (params.max_act_bits - 1)));
        next = {};
        next.tag = rng.below(1 << cycle::BeatTag::kBits);
        next.sums.resize(cols);
        for (unsigned r = 0; r < rows; ++r) next.rowsum += x[r];
        for (unsigned c = 0; c < cols; ++c) {
          for (unsigned j = 0; j < lanes; ++j) {
            if ((enable >> j & 1) == 0) continue;
            for (unsigned r = 0; r < rows; ++r) {
              const auto digit = static_cast<std::int64_t>(tile.bits[(plane + j) * cols + c] >> r & 1);
              next.sums[c] += digit * x[r] * (std::int64_t{1} << (shift - j));
            }
          }
        }
        beat_x.write(x);
        beat_plane.write(plane);
        beat_enable.write(enable);
        beat_shift.write(shift);
        beat_tag.write(next.tag);
        beat_last.write(tile.beats == 1);
        return true;
      },
      [&] {
        beat_x.write({});
        beat_plane.write(0);
        beat_enable.write(0);
        beat_shift.write(0);
        beat_tag.write(0);
        beat_last.write(false);
      },
      [&] {
        expected.push_back(next);
        if (--tiles.front().beats == 0) {
          tiles.pop_front();
          --loading;
        }
      });
  cosim::Sink sink(bench, "sum", sum_ready, sum_valid, [&] {
    if (expected.empty()) return bench.fail("a sum that no beat asked for");
    const Expected& e = expected.front();
    if (sum.read() != e.sums || rowsum.read() != e.rowsum || sum_tag.read() != e.tag) {
      return bench.fail("the sums are not what the formula gives");
    }
    expected.pop_front();
  });
  bench.on_reset([&] {
    tiles.clear();
    loading = 0;
    expected.clear();
  });
  return bench.run();
}

}  // namespace

TEST_CASE("the 4x4 PE array, its twin and the formula agree under random stalls", "[cosim][pe_array]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 1, 20000);
  const Report report =
      cosim::run_forked([&] { return run_array<Vrtl_pe_array_4x4_p1_a8>(options, array_params(4, 4, 1, 8)); });
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > 5000);
}

TEST_CASE("the 8x4 PE array with two planes a cycle, its twin and the formula agree under random stalls",
          "[cosim][pe_array]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 2, 20000);
  const Report report =
      cosim::run_forked([&] { return run_array<Vrtl_pe_array_8x4_p2_a16>(options, array_params(8, 4, 2, 16)); });
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > 5000);
}

TEST_CASE("the 16x8 PE array with four planes a cycle, its twin and the formula agree under random stalls",
          "[cosim][pe_array]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 3, 20000);
  const Report report =
      cosim::run_forked([&] { return run_array<Vrtl_pe_array_16x8_p4_a4>(options, array_params(16, 8, 4, 4)); });
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > 5000);
}

TEST_CASE("one flipped output bit of the PE array is reported with its cycle, port and replay command",
          "[cosim][pe_array]") {
  Options options;
  options.title = Catch::getResultCapture().getCurrentTestName();
  options.seed = 4;
  options.cycles = 2000;
  options.injection = {"sum_o", 5, 700};
  const Report report =
      cosim::run_forked([&] { return run_array<Vrtl_pe_array_4x4_p1_a8>(options, array_params(4, 4, 1, 8)); });
  CHECK(report.differences == 1);
  CHECK(report.cycles <= 701);
  CHECK_THAT(report.message, Catch::Contains("cycle 700: port sum_o"));
  CHECK_THAT(report.message, Catch::Contains("LOCKSTEP_INJECT=sum_o:5@700 LOCKSTEP_SEED=4 LOCKSTEP_CYCLES=2000"));
}

TEST_CASE("the replay command that a difference prints finds it again, in its one test, and writes the waves",
          "[cosim][pe_array]") {
  const tests::TemporaryFolder folder;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string first = folder.file("first"), again = folder.file("again");
  // A title with a comma.
  CHECK(std::system(
            ("LOCKSTEP_CYCLES=3000 LOCKSTEP_INJECT=sum_o:3@700 " + program + " 'the 4x4*' > " + first).c_str()) != 0);
  const std::string output = base::read_file(first), mark = "replay with waves: ";
  const std::size_t begin = output.find(mark) + mark.size();
  REQUIRE(begin > mark.size());
  const std::string command = output.substr(begin, output.find('\n', begin) - begin);
  INFO(command);
  CHECK(std::system(("cd " + folder.path() + " && " + command + " > " + again).c_str()) != 0);
  CHECK_THAT(base::read_file(again),
             Catch::Contains("cycle 700: port sum_o [72 bits]") && Catch::Contains("Failed 1 test case"));
  CHECK(std::filesystem::file_size(folder.file("lockstep.fst")) > 0);
}

TEST_CASE("settings of a lock-step run that mean nothing are refused, and so is a name that no test has",
          "[cosim][pe_array]") {
  const tests::TemporaryFolder folder;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const auto output = [&](const std::string& settings, const std::string& name) {
    CHECK(std::system((settings + " " + program + " '" + name + "' > " + folder.file("out") + " 2>&1").c_str()) != 0);
    return base::read_file(folder.file("out"));
  };
  const std::string test = "the 4x4 PE array*";
  CHECK_THAT(output("LOCKSTEP_SEED=abc", test), Catch::Contains("LOCKSTEP_SEED: got abc, expected a number"));
  CHECK_THAT(output("LOCKSTEP_CYCLES=9x", test), Catch::Contains("LOCKSTEP_CYCLES: got 9x, expected a number"));
  CHECK_THAT(output("LOCKSTEP_INJECT=sum_o:3", test),
             Catch::Contains("LOCKSTEP_INJECT: got sum_o:3, expected port:bit@cycle"));
  CHECK_THAT(output("LOCKSTEP_INJECT=sum_o:72@9", test),
             Catch::Contains("injection: got bit 72 of sum_o, expected one below 72"));
  CHECK_THAT(output("LOCKSTEP_INJECT=total_o:0@9", test),
             Catch::Contains("injection: got total_o, expected one of w_ready_o"));
  CHECK_THAT(output("LOCKSTEP_CYCLES=900 LOCKSTEP_INJECT=sum_o:3@9999", test),
             Catch::Contains("the run ended before the injection in cycle 9999"));
  CHECK_THAT(output("", "no such test"), Catch::Contains("No test cases matched 'no such test'"));
}

}  // namespace moesaic
