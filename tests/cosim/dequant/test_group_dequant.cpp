#include <catch2/catch.hpp>
#include <deque>

#include "Vrtl_group_dequant_16x8_a4_t1.h"
#include "Vrtl_group_dequant_8x4_a16_t4.h"
#include "reference/numerics/integer.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/common/beat_tag.h"
#include "sim/cycle/dequant/group_dequant.h"

namespace moesaic {
namespace {

using cosim::Lockstep;
using cosim::Options;
using cosim::Report;
using cycle::BeatTag;
using cycle::CoreParams;
using cycle::Lanes;

std::int64_t draw_signed(base::Rng& rng, unsigned bits) {
  const std::int64_t top = (std::int64_t{1} << (bits - 1)) - 1;
  const std::uint64_t kind = rng.below(8);
  return kind == 0 ? top : kind == 1 ? -top - 1 : rng.range(-top - 1, top);
}

struct Added {
  std::uint64_t token = 0;
  bool first = false;
  bool done = false;
  Lanes<std::int64_t> value;
  bool fits = true;  // 48 bits hold the exact value; otherwise twin and RTL agree on the wrapped one
};

/// Random commands: groups of several tiles for several tokens, or direct values, with parameters that come early or
/// late. What is handed to the accumulators is also checked against numerics::dequantise_group.
template <class V>
Report run_group_dequant(const Options& options, const CoreParams& params) {
  cosim::Verilated<V> rtl;
  cycle::GroupDequant twin("group_dequant", params);
  Lockstep bench(options, rtl);
  const unsigned cols = params.cols;
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& sum_valid = bench.in("sum_valid_i", twin.sum_valid_i, rtl->sum_valid_i);
  auto& sum_ready = bench.out("sum_ready_o", twin.sum_ready_o, rtl->sum_ready_o);
  auto& sum = bench.in("sum_i", twin.sum_i, rtl->sum_i, params.sum_bits(), cols);
  auto& rowsum = bench.in("rowsum_i", twin.rowsum_i, rtl->rowsum_i, params.rowsum_bits());
  auto& sum_tag = bench.in("sum_tag_i", twin.sum_tag_i, rtl->sum_tag_i, BeatTag::kBits);
  auto& param_valid = bench.in("param_valid_i", twin.param_valid_i, rtl->param_valid_i);
  auto& param_ready = bench.out("param_ready_o", twin.param_ready_o, rtl->param_ready_o);
  auto& param_s = bench.in("param_s_i", twin.param_s_i, rtl->param_s_i, 16, cols);
  auto& param_z = bench.in("param_z_i", twin.param_z_i, rtl->param_z_i, 10, cols);
  auto& param_up = bench.in("param_up_i", twin.param_up_i, rtl->param_up_i, 3);
  auto& tokens = bench.in("tokens_i", twin.tokens_i, rtl->tokens_i, 8);
  auto& direct_valid = bench.in("direct_valid_i", twin.direct_valid_i, rtl->direct_valid_i);
  auto& direct_ready = bench.out("direct_ready_o", twin.direct_ready_o, rtl->direct_ready_o);
  auto& direct_token = bench.in("direct_token_i", twin.direct_token_i, rtl->direct_token_i, cycle::BeatTag::kTokenBits);
  auto& direct_s = bench.in("direct_s_i", twin.direct_s_i, rtl->direct_s_i, 16);
  auto& direct_d = bench.in("direct_d_i", twin.direct_d_i, rtl->direct_d_i, 16, cols);
  auto& direct_first = bench.in("direct_first_i", twin.direct_first_i, rtl->direct_first_i);
  auto& direct_done = bench.in("direct_done_i", twin.direct_done_i, rtl->direct_done_i);
  auto& add_valid = bench.out("add_valid_o", twin.add_valid_o, rtl->add_valid_o);
  auto& add_ready = bench.in("add_ready_i", twin.add_ready_i, rtl->add_ready_i);
  auto& add_token = bench.out("add_token_o", twin.add_token_o, rtl->add_token_o, cycle::BeatTag::kTokenBits);
  auto& add_first = bench.out("add_first_o", twin.add_first_o, rtl->add_first_o);
  auto& add_done = bench.out("add_done_o", twin.add_done_o, rtl->add_done_o);
  auto& add_value = bench.out("add_value_o", twin.add_value_o, rtl->add_value_o, 48, cols);
  auto& idle = bench.out("idle_o", twin.idle_o, rtl->idle_o);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  struct Group {
    Lanes<std::uint32_t> s;
    Lanes<std::int32_t> z;
    unsigned up = 0;
  };
  base::Rng rng = bench.rng("commands");
  // The command under way: groups left, then the position inside the group: tile, token, digit.
  bool is_direct = false;
  unsigned groups_left = 0;
  unsigned tiles = 0, digits = 0, tile = 0, token = 0, digit = 0;
  unsigned direct_left = 0;
  bool in_group = false;
  std::deque<Group> offered;  // parameters not yet on the port
  Group current;              // of the group whose beats are being made
  std::vector<std::vector<std::int64_t>> p(params.max_tokens, std::vector<std::int64_t>(cols));
  std::vector<std::int64_t> x(params.max_tokens);
  std::deque<Added> expected;
  unsigned pending = 0;  // beats, parameters and direct values on a port, not taken yet

  const auto begin_command = [&] {
    is_direct = rng.chance(1, 4);
    tokens.write(1 + rng.below(params.max_tokens));
    groups_left = is_direct ? 0 : 1 + static_cast<unsigned>(rng.below(6));
    direct_left = is_direct ? 1 + static_cast<unsigned>(rng.below(20)) : 0;
  };
  bench.on_falling([&](std::uint64_t) {
    if (groups_left == 0 && direct_left == 0 && !in_group && pending == 0 && offered.empty() && expected.empty() &&
        idle.read()) {
      begin_command();
    }
  });
  cosim::Source sum_source(
      bench, "sum", sum_valid, sum_ready,
      [&] {
        if (!in_group) {
          if (groups_left == 0) return false;
          --groups_left;
          in_group = true;
          tiles = 1 + static_cast<unsigned>(rng.below(4));
          digits = 1 + static_cast<unsigned>(rng.below(3));
          tile = token = digit = 0;
          current.s = Lanes<std::uint32_t>(cols);
          current.z = Lanes<std::int32_t>(cols);
          current.up = static_cast<unsigned>(rng.below(8));
          const bool small = rng.chance(3, 4);
          for (unsigned c = 0; c < cols; ++c) {
            current.s[c] = rng.chance(1, 5) ? 65535 : static_cast<std::uint32_t>(rng.below(small ? 256 : 65536));
            current.z[c] = static_cast<std::int32_t>(rng.chance(1, 8) ? -512 : rng.range(-64, 255));
          }
          offered.push_back(current);
        }
        BeatTag tag;
        const bool last_token = token + 1 == tokens.value();
        const bool last_digit = digit + 1 == digits;
        tag.token = token;
        tag.digit_first = digit == 0;
        tag.group_first = tile == 0;
        tag.group_end = tile + 1 == tiles && last_digit;
        tag.acc_first = rng.chance(1, 2);
        tag.block_done = tag.group_end && last_token && groups_left == 0;
        Lanes<std::int64_t> sums(cols);
        for (auto& s : sums) s = draw_signed(rng, params.sum_bits());
        const std::int64_t row = draw_signed(rng, params.rowsum_bits());
        sum.write(sums);
        rowsum.write(row);
        sum_tag.write(tag.pack());
        if (tag.digit_first && tag.group_first) {
          std::fill(p[token].begin(), p[token].end(), 0);
          x[token] = 0;
        }
        for (unsigned c = 0; c < cols; ++c) p[token][c] += sums[c];
        if (tag.digit_first) x[token] += row;
        if (tag.group_end) {
          Added added{token, tag.acc_first, tag.block_done, Lanes<std::int64_t>(cols), true};
          for (unsigned c = 0; c < cols; ++c) {
            added.value[c] = numerics::dequantise_group(p[token][c], x[token], static_cast<int>(current.up),
                                                        current.z[c], static_cast<std::uint16_t>(current.s[c]));
            added.fits &= numerics::fits(added.value[c], numerics::kAccumulatorBits);
          }
          expected.push_back(added);
        }
        // For tile, for token, for digit.
        if (++digit == digits) {
          digit = 0;
          if (++token == tokens.value()) {
            token = 0;
            in_group = ++tile != tiles;
          }
        }
        ++pending;
        return true;
      },
      [&] {
        sum.write({});
        rowsum.write(0);
        sum_tag.write(0);
      },
      [&] { --pending; });
  cosim::Source param_source(
      bench, "param", param_valid, param_ready,
      [&] {
        if (offered.empty()) return false;
        param_s.write(offered.front().s);
        param_z.write(offered.front().z);
        param_up.write(offered.front().up);
        offered.pop_front();
        ++pending;
        return true;
      },
      [&] {
        param_s.write({});
        param_z.write({});
        param_up.write(0);
      },
      [&] { --pending; });
  cosim::Source direct_source(
      bench, "direct", direct_valid, direct_ready,
      [&] {
        if (direct_left == 0) return false;
        --direct_left;
        Added added{rng.below(tokens.value()), rng.chance(1, 2), direct_left == 0, Lanes<std::int64_t>(cols), true};
        Lanes<std::int32_t> d(cols);
        for (auto& v : d) v = static_cast<std::int32_t>(draw_signed(rng, 16));
        const std::uint64_t s = rng.chance(1, 4) ? 65535 : rng.below(65536);
        for (unsigned c = 0; c < cols; ++c) added.value[c] = d[c] * static_cast<std::int64_t>(s);
        direct_token.write(added.token);
        direct_first.write(added.first);
        direct_done.write(added.done);
        direct_s.write(s);
        direct_d.write(d);
        expected.push_back(added);
        ++pending;
        return true;
      },
      [&] {
        direct_token.write(0);
        direct_first.write(false);
        direct_done.write(false);
        direct_s.write(0);
        direct_d.write({});
      },
      [&] { --pending; });
  unsigned exact = 0;
  unsigned wrapped = 0;
  cosim::Sink sink(bench, "add", add_ready, add_valid, [&] {
    if (expected.empty()) return bench.fail("a value that no group asked for");
    const Added& e = expected.front();
    if (add_token.read() != e.token || add_first.read() != e.first || add_done.read() != e.done) {
      return bench.fail("the value has the wrong token or flags");
    }
    ++(e.fits ? exact : wrapped);
    if (e.fits && add_value.read() != e.value) return bench.fail("the value is not s * (P * 2^up - z * X)");
    expected.pop_front();
  });
  bench.on_reset([&] {
    groups_left = direct_left = pending = 0;
    in_group = false;
    offered.clear();
    expected.clear();
    tokens.write(1);
  });
  Report report = bench.run();
  // 4 tiles * 3 digits * 2^(sum bits - 1) * 2^7 * 2^16: narrow sums cannot leave 48 bits.
  const bool can_wrap = params.sum_bits() > 20;
  if (report.ok() && (exact < 300 || (can_wrap && wrapped < 10))) {
    report.message =
        "too little was checked: " + std::to_string(exact) + " exact, " + std::to_string(wrapped) + " wrapped values";
  }
  return report;
}

CoreParams dequant_params(unsigned rows, unsigned cols, unsigned act_bits, unsigned max_tokens) {
  CoreParams params;
  params.rows = rows;
  params.cols = cols;
  params.max_act_bits = act_bits;
  params.max_tokens = max_tokens;
  return params;
}

}  // namespace

TEST_CASE("group dequantisation, its twin and the formula agree for several tokens, up to 48 bits and beyond",
          "[cosim][group_dequant]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 1, 30000);
  const Report report = cosim::run_forked(
      [&] { return run_group_dequant<Vrtl_group_dequant_8x4_a16_t4>(options, dequant_params(8, 4, 16, 4)); });
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > 5000);
}

TEST_CASE("group dequantisation, its twin and the formula agree for one token", "[cosim][group_dequant]") {
  const Options options = Options::from_environment(Catch::getResultCapture().getCurrentTestName(), 2, 30000);
  const Report report = cosim::run_forked(
      [&] { return run_group_dequant<Vrtl_group_dequant_16x8_a4_t1>(options, dequant_params(16, 8, 4, 1)); });
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > 5000);
}

TEST_CASE("one flipped bit of a group's value is reported", "[cosim][group_dequant]") {
  Options options;
  options.title = Catch::getResultCapture().getCurrentTestName();
  options.injection = {"add_value_o", 190, 500};
  const Report report = cosim::run_forked(
      [&] { return run_group_dequant<Vrtl_group_dequant_8x4_a16_t4>(options, dequant_params(8, 4, 16, 4)); });
  CHECK(report.differences == 1);
  CHECK_THAT(report.message, Catch::Contains("cycle 500: port add_value_o"));
}

}  // namespace moesaic
