#include <catch2/catch.hpp>

#include "Vrtl_moe_act_buffer_8.h"
#include "Vrtl_moe_hidden_buffer_128.h"
#include "Vrtl_moe_hidden_buffer_4.h"
#include "reference/numerics/swiglu.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/common/beat_tag.h"
#include "sim/cycle/memory/act_buffer.h"
#include "sim/cycle/memory/hidden_buffer.h"

namespace moesaic::cosim {
namespace {

/// The activation buffer has no reset; the bench wants one to pull.
SC_MODULE(NoReset) {
  sc_core::sc_in<bool> rst_ni{"rst_ni"};
  SC_CTOR(NoReset) {}
};

Report run_act_buffer(const Options& options) {
  cycle::CoreParams params;
  params.rows = 8;
  params.act_depth = 16;
  constexpr unsigned kBits = 8;
  Verilated<Vrtl_moe_act_buffer_8> rtl;
  cycle::ActBuffer twin("act_buffer", params);
  NoReset no_reset("no_reset");
  std::uint8_t rtl_no_reset = 0;
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, no_reset.rst_ni, rtl_no_reset);
  auto& write_valid = bench.in("write_valid_i", twin.write_valid_i, rtl->write_valid_i);
  auto& write_addr = bench.in("write_addr_i", twin.write_addr_i, rtl->write_addr_i, 4);
  auto& write_data = bench.in("write_data_i", twin.write_data_i, rtl->write_data_i, kBits, params.rows);
  auto& read_addr = bench.in("read_addr_i", twin.read_addr_i, rtl->read_addr_i, 4);
  auto& read_data = bench.out("read_data_o", twin.read_data_o, rtl->read_data_o, kBits, params.rows);

  base::Rng rng = bench.rng("words");
  std::vector<cycle::Lanes<std::int32_t>> words(params.act_depth);
  bench.on_reset([&] { write_valid.write(false); });
  bench.on_falling([&](std::uint64_t) {
    cycle::Lanes<std::int32_t> word(params.rows);
    for (std::int32_t& value : word) value = static_cast<std::int32_t>(rng.range(-128, 127));
    write_valid.write(rng.chance(1, 2));
    write_addr.write(rng.below(params.act_depth));
    write_data.write(word);
    read_addr.write(rng.chance(1, 4) ? write_addr.value() : rng.below(params.act_depth));
  });
  bench.on_sample([&](std::uint64_t) {
    if (read_data.read() != words[read_addr.value()]) bench.fail("the word read is not the word written");
    if (!write_valid.value()) return;
    words[write_addr.value()] = write_data.value();
    bench.count_transfer();
  });
  return bench.run();
}

template <class V>
Report run_hidden_buffer(unsigned depth, unsigned tokens, const Options& options) {
  cycle::CoreParams params;
  params.hidden_depth = depth;
  params.max_tokens = tokens;
  const unsigned addr_bits = program::log2_ceil(depth);
  Verilated<V> rtl;
  cycle::HiddenBuffer twin("hidden_buffer", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& write_valid = bench.in("write_valid_i", twin.write_valid_i, rtl->write_valid_i);
  auto& write_addr = bench.in("write_addr_i", twin.write_addr_i, rtl->write_addr_i, addr_bits);
  auto& write_token = bench.in("write_token_i", twin.write_token_i, rtl->write_token_i, cycle::BeatTag::kTokenBits);
  auto& write_mask = bench.in("write_mask_i", twin.write_mask_i, rtl->write_mask_i, 4);
  auto& write_data = bench.in("write_data_i", twin.write_data_i, rtl->write_data_i, 16, 4);
  auto& store = bench.in("store_i", twin.store_i, rtl->store_i);
  auto& clear = bench.in("clear_i", twin.clear_i, rtl->clear_i);
  auto& act_bits = bench.in("act_bits_i", twin.act_bits_i, rtl->act_bits_i, 5);
  auto& read_addr = bench.in("read_addr_i", twin.read_addr_i, rtl->read_addr_i, addr_bits);
  auto& read_data = bench.out("read_data_o", twin.read_data_o, rtl->read_data_o, 16, 4);
  auto& eh_token_a = bench.in("eh_token_a_i", twin.eh_token_a_i, rtl->eh_token_a_i, cycle::BeatTag::kTokenBits);
  auto& eh_a = bench.out("eh_a_o", twin.eh_a_o, rtl->eh_a_o, 5);
  auto& eh_token_b = bench.in("eh_token_b_i", twin.eh_token_b_i, rtl->eh_token_b_i, cycle::BeatTag::kTokenBits);
  auto& eh_b = bench.out("eh_b_o", twin.eh_b_o, rtl->eh_b_o, 5);

  base::Rng rng = bench.rng("writes");
  std::vector<std::int32_t> words(std::size_t{4} * depth);
  std::vector<std::vector<std::int16_t>> seen(tokens);  // every h since the last clear
  unsigned reach_bits = 1;                              // writes grow until the next clear
  bench.on_reset([&] {
    write_valid.write(false);
    clear.write(false);
    for (auto& h : seen) h.clear();
  });
  bench.on_falling([&](std::uint64_t) {
    if (rng.chance(1, 16)) reach_bits = std::min(16u, reach_bits + 1);
    clear.write(rng.chance(1, 150));
    if (clear.value()) reach_bits = static_cast<unsigned>(1 + rng.below(16));
    const std::int64_t reach = std::int64_t{1} << (reach_bits - 1);
    cycle::Lanes<std::int32_t> data(4);
    for (std::int32_t& h : data) {
      h = static_cast<std::int32_t>(rng.chance(1, 6)   ? -reach
                                    : rng.chance(1, 5) ? reach - 1
                                                       : rng.range(-reach, reach - 1));
    }
    write_valid.write(rng.chance(1, 2));
    write_addr.write(rng.below(depth));
    write_token.write(rng.below(tokens));
    write_mask.write(rng.below(16));
    write_data.write(data);
    store.write(rng.chance(3, 4));
    act_bits.write(std::uint64_t{4} << rng.below(3));
    read_addr.write(rng.chance(1, 4) ? write_addr.value() : rng.below(depth));
    eh_token_a.write(rng.chance(1, 2) ? write_token.value() : rng.below(tokens));
    eh_token_b.write(rng.below(tokens));
  });
  bench.on_sample([&](std::uint64_t) {
    const auto eh = [&](std::uint64_t token) {
      const std::vector<std::int16_t>& h = seen[token];
      return static_cast<std::uint64_t>(
          numerics::hidden_shift(h.data(), static_cast<std::int64_t>(h.size()), static_cast<int>(act_bits.value())));
    };
    if (eh_a.read() != eh(eh_token_a.value()) || eh_b.read() != eh(eh_token_b.value())) {
      bench.fail("eh is not that of the values written");
    }
    for (unsigned l = 0; l < 4; ++l) {
      if (read_data.read().at_or_zero(l) != words[4 * read_addr.value() + l])
        bench.fail("the word read is not the word written");
    }
    if (clear.value()) {
      for (auto& h : seen) h.clear();
    }
    if (!write_valid.value()) return;
    for (unsigned l = 0; l < 4; ++l) {
      if ((write_mask.value() >> l & 1) == 0) continue;
      seen[write_token.value()].push_back(static_cast<std::int16_t>(write_data.value()[l]));
      if (store.value()) words[4 * write_addr.value() + l] = write_data.value()[l];
    }
    bench.count_transfer();
  });
  return bench.run();
}

void check(const Report& report, std::uint64_t transfers) {
  INFO(report.message);
  CHECK(report.ok());
  CHECK(report.transfers > transfers);
}

}  // namespace

TEST_CASE("moe_act_buffer and its twin return the words written, in step", "[cosim][act_buffer]") {
  const std::string title = "moe_act_buffer and its twin return the words written, in step";
  check(run_forked([&] { return run_act_buffer(Options::from_environment(title, 1, 5000)); }), 2000);
}

TEST_CASE("moe_hidden_buffer and its twin know every token's words and eh, in step", "[cosim][hidden_buffer]") {
  const std::string title = "moe_hidden_buffer and its twin know every token's words and eh, in step";
  check(run_forked([&] {
          return run_hidden_buffer<Vrtl_moe_hidden_buffer_4>(16, 4, Options::from_environment(title, 1, 20000));
        }),
        8000);
  check(run_forked([&] {
          return run_hidden_buffer<Vrtl_moe_hidden_buffer_128>(64, 128, Options::from_environment(title, 2, 20000));
        }),
        8000);
}

TEST_CASE("a flipped bit of eh is reported as a difference", "[cosim][hidden_buffer]") {
  Options options = Options::from_environment("a flipped bit of eh is reported as a difference", 1, 2000);
  options.injection = {"eh_b_o", 0, 100};
  const Report report = run_forked([&] { return run_hidden_buffer<Vrtl_moe_hidden_buffer_4>(16, 4, options); });
  CHECK(report.differences == 1);
  CHECK_THAT(report.message, Catch::Contains("eh_b_o"));
}

}  // namespace moesaic::cosim
