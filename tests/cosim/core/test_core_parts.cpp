#include <catch2/catch.hpp>
#include <deque>

#include "Vrtl_moe_drain_16.h"
#include "Vrtl_moe_drain_4.h"
#include "Vrtl_moe_scheduler_4.h"
#include "Vrtl_moe_tile_sequencer_4x4.h"
#include "Vrtl_moe_tile_sequencer_8x8.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/common/beat_tag.h"
#include "sim/cycle/core/drain.h"
#include "sim/cycle/core/scheduler.h"
#include "sim/cycle/core/tile_sequencer.h"

namespace moesaic::cosim {

using cycle::Beat;
using cycle::Lanes;
using program::Command;
using program::Opcode;

namespace {

std::int64_t signed_bits(base::Rng& rng, unsigned bits) { return static_cast<std::int64_t>(rng.next()) >> (64 - bits); }

/// Blocks that answer a start after a while; the row table must return what set_row stored.
Report run_scheduler(const Options& options) {
  cycle::CoreParams params;
  params.max_tokens = 4;
  Verilated<Vrtl_moe_scheduler_4> rtl;
  cycle::Scheduler twin("scheduler", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& valid = bench.in("exec_valid_i", twin.exec_valid_i, rtl->exec_valid_i);
  auto& cmd = bench.in("exec_cmd_i", twin.exec_cmd_i, rtl->exec_cmd_i, 32 * program::kCommandWords);
  auto& load_done = bench.in("load_done_i", twin.load_done_i, rtl->load_done_i);
  auto& sequence_done = bench.in("sequence_done_i", twin.sequence_done_i, rtl->sequence_done_i);
  auto& drain_done = bench.in("drain_done_i", twin.drain_done_i, rtl->drain_done_i);
  auto& dequant_idle = bench.in("dequant_idle_i", twin.dequant_idle_i, rtl->dequant_idle_i);
  auto& released = bench.in("released_i", twin.released_i, rtl->released_i, params.io_jobs);
  auto& retire = bench.out("retire_o", twin.retire_o, rtl->retire_o);
  auto& retire_job = bench.out("retire_job_o", twin.retire_job_o, rtl->retire_job_o, 8);
  auto& load_token = bench.in("load_token_i", twin.load_token_i, rtl->load_token_i, cycle::BeatTag::kTokenBits);
  auto& shift_token = bench.in("shift_token_i", twin.shift_token_i, rtl->shift_token_i, cycle::BeatTag::kTokenBits);
  auto& out_token = bench.in("out_token_i", twin.out_token_i, rtl->out_token_i, cycle::BeatTag::kTokenBits);
  auto& ready = bench.out("exec_ready_o", twin.exec_ready_o, rtl->exec_ready_o);
  auto& load_start = bench.out("load_start_o", twin.load_start_o, rtl->load_start_o);
  auto& sequence_start = bench.out("sequence_start_o", twin.sequence_start_o, rtl->sequence_start_o);
  auto& drain_start = bench.out("drain_start_o", twin.drain_start_o, rtl->drain_start_o);
  auto& in_addr = bench.out("load_in_addr_o", twin.load_in_addr_o, rtl->load_in_addr_o, 40);
  auto& shift = bench.out("shift_o", twin.shift_o, rtl->shift_o, 8);
  auto& out_addr = bench.out("out_addr_o", twin.out_addr_o, rtl->out_addr_o, 40);
  auto& aux_addr = bench.out("aux_addr_o", twin.aux_addr_o, rtl->aux_addr_o, 40);
  auto& command_error = bench.out("command_error_o", twin.command_error_o, rtl->command_error_o);
  auto& activity = bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  base::Rng rng = bench.rng("stimuli");
  bool error = false;
  bool load = false, sequence = false, drain = false, offered = false;
  std::array<Command, 4> rows{};
  bench.on_reset([&] {
    load = sequence = drain = offered = error = false;
    rows = {};
    released.write(0);
    valid.write(false);
    cmd.write({});
    for (auto* done : {&load_done, &sequence_done, &drain_done}) done->write(false);
  });
  bench.on_falling([&](std::uint64_t) {
    if (!offered && rng.chance(3, 4)) {
      Command c;
      c.opcode = static_cast<Opcode>(rng.chance(1, 50) ? rng.range(6, 15) : rng.range(1, 5));
      c.job = static_cast<std::uint8_t>(rng.chance(1, 50) ? rng.below(256) : rng.below(params.io_jobs));
      c.token = static_cast<std::uint8_t>(rng.below(4));
      c.k_last = rng.chance(1, 2);
      c.weight_addr = rng.below(std::uint64_t{1} << 40);
      c.params_addr = rng.below(std::uint64_t{1} << 40);
      c.requant_addr = rng.below(std::uint64_t{1} << 40);
      c.token_shift = static_cast<std::uint8_t>(rng.below(63));
      cmd.write(c);
      offered = true;
    }
    valid.write(offered);
    if (!offered) cmd.write({});
    const auto answer = [&rng](bool& waits, In<bool>& done) {
      const bool now = waits && rng.chance(1, 4);
      done.write(now);
      waits = waits && !now;
    };
    answer(load, load_done);
    answer(sequence, sequence_done);
    answer(drain, drain_done);
    released.write(rng.chance(1, 2) ? 0 : rng.below(std::uint64_t{1} << params.io_jobs));
    dequant_idle.write(rng.chance(1, 2));
    load_token.write(rng.below(4));
    shift_token.write(rng.below(4));
    out_token.write(rng.below(4));
  });
  bench.on_sample([&](std::uint64_t) {
    if (in_addr.read() != rows[load_token.value()].weight_addr ||
        shift.read() != rows[shift_token.value()].token_shift ||
        out_addr.read() != rows[out_token.value()].params_addr ||
        aux_addr.read() != rows[out_token.value()].requant_addr) {
      bench.fail("the row table returns another row than was set");
    }
    const bool waits = offered && cmd.value().opcode == Opcode::kWait && cmd.value().job < params.io_jobs;
    const bool free = waits && (released.value() >> cmd.value().job & 1) != 0;
    if (retire.read() != free || (free && retire_job.read() != cmd.value().job))
      bench.fail("a wait retires exactly when its job is released");
    if (waits && ready.read() != free) bench.fail("a wait ended before its job was released, or later");
    const bool blocked = activity.read() == static_cast<std::uint64_t>(program::Activity::kBlocked);
    if (blocked != (waits && !free)) bench.fail("blocked must mean: held by a wait");
    if (command_error.read() != error) bench.fail("the command error is wrong");
    if (offered && ready.read() && !waits && cmd.value().opcode >= Opcode::kWait) error = true;
    load = load || load_start.read();
    sequence = sequence || sequence_start.read();
    drain = drain || drain_start.read();
    if (offered && ready.read()) {
      if (load || sequence || drain) bench.fail("a command ended before its blocks did");
      if (cmd.value().opcode == Opcode::kSetRow) rows[cmd.value().token] = cmd.value();
      offered = false;
      bench.count_transfer();
    }
  });
  return bench.run();
}

/// Random matmuls; the array answers each beat some cycles later.
template <class Rtl>
Report run_sequencer(const Options& options, const cycle::CoreParams& params) {
  Verilated<Rtl> rtl;
  cycle::TileSequencer twin("sequencer", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  const unsigned act_bits = params.max_act_bits;
  auto& start = bench.in("start_i", twin.start_i, rtl->start_i);
  auto& cmd = bench.in("cmd_i", twin.cmd_i, rtl->cmd_i, 32 * program::kCommandWords);
  auto& data = bench.in("read_data_i", twin.read_data_i, rtl->read_data_i, act_bits, params.rows);
  auto& ready = bench.in("beat_ready_i", twin.beat_ready_i, rtl->beat_ready_i);
  auto& fire = bench.in("sum_fire_i", twin.sum_fire_i, rtl->sum_fire_i);
  auto& done = bench.out("done_o", twin.done_o, rtl->done_o);
  bench.out("read_addr_o", twin.read_addr_o, rtl->read_addr_o, program::log2_ceil(params.act_depth));
  auto& valid = bench.out("beat_valid_o", twin.beat_valid_o, rtl->beat_valid_o);
  bench.out("beat_x_o", twin.beat_x_o, rtl->beat_x_o, act_bits, params.rows);
  bench.out("beat_plane_o", twin.beat_plane_o, rtl->beat_plane_o, 3);
  bench.out("beat_enable_o", twin.beat_enable_o, rtl->beat_enable_o, params.planes_per_cycle);
  bench.out("beat_shift_o", twin.beat_shift_o, rtl->beat_shift_o, 3);
  bench.out("beat_tag_o", twin.beat_tag_o, rtl->beat_tag_o, cycle::BeatTag::kBits);
  bench.out("beat_last_o", twin.beat_last_o, rtl->beat_last_o);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  base::Rng rng = bench.rng("stimuli");
  bool working = false;
  std::uint64_t unanswered = 0, beats = 0, expected = 0;
  bench.on_reset([&] {
    working = false;
    unanswered = 0;
    start.write(false);
    cmd.write({});
    fire.write(false);
    data.write({});
  });
  bench.on_falling([&](std::uint64_t) {
    start.write(false);
    if (!working && rng.chance(1, 4)) {
      Command c;
      c.opcode = Opcode::kMatmul;
      c.tokens = static_cast<std::uint8_t>(rng.range(1, 4));
      c.planes_read = static_cast<std::uint8_t>(rng.range(1, 8));
      c.levels = static_cast<std::uint8_t>(rng.chance(1, 2) ? 0 : rng.range(0, 8 - c.planes_read));
      c.n = static_cast<std::uint32_t>(rng.range(1, 3 * params.cols));
      c.k = static_cast<std::uint32_t>(rng.range(1, 3 * params.rows));
      c.group_size = static_cast<std::uint32_t>(8 * rng.range(1, 4));
      c.group_continue = c.levels == 0 && rng.chance(1, 4);
      c.group_left = c.group_continue ? static_cast<std::uint32_t>(rng.range(1, c.group_size)) : c.group_size;
      c.acc_continue = rng.chance(1, 4);
      c.k_last = rng.chance(3, 4);
      c.paired = rng.chance(1, 4);
      std::uint32_t tiles = 0;
      for (std::uint32_t k = 0, left = c.group_left; k < c.k; ++tiles) {
        const std::uint32_t tile = std::min({params.rows, left, c.k - k});
        k += tile;
        left = tile == left ? c.group_size : left - tile;
      }
      c.act_stride = static_cast<std::uint16_t>(tiles);
      const std::uint64_t blocks = (c.n + params.cols - 1) / params.cols * (c.paired ? 2 : 1);
      const std::uint64_t sets = (c.planes_read + params.planes_per_cycle - 1) / params.planes_per_cycle;
      expected = blocks * tiles * c.tokens * (sets + c.levels);
      beats = 0;
      cmd.write(c);
      start.write(true);
      working = true;
    } else if (!working) {
      cmd.write({});
    }
    const bool answers = unanswered != 0 && rng.chance(2, 3);
    fire.write(answers);
    Lanes<std::int32_t> word(params.rows);
    for (auto& value : word) value = static_cast<std::int32_t>(signed_bits(rng, act_bits));
    data.write(word);
  });
  Sink beat(bench, "beat", ready, valid, [&] { ++beats; });
  bench.on_sample([&](std::uint64_t) {
    unanswered += valid.read() && ready.value();
    unanswered -= fire.value();
    if (done.read()) {
      if (beats != expected || unanswered != 0) bench.fail("a matmul ended before all its beats were answered");
      working = false;
    }
  });
  return bench.run();
}

/// Random matmuls and combinations; requantisation and SwiGLU are queues that give random values, in order, to each
/// chunk.
template <class Rtl>
Report run_drain(const Options& options, const cycle::CoreParams& params) {
  Verilated<Rtl> rtl;
  cycle::Drain twin("drain", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& start = bench.in("start_i", twin.start_i, rtl->start_i);
  auto& cmd = bench.in("cmd_i", twin.cmd_i, rtl->cmd_i, 32 * program::kCommandWords);
  auto& full = bench.in("acc_full_i", twin.acc_full_i, rtl->acc_full_i);
  auto& acc = bench.in("acc_i", twin.acc_i, rtl->acc_i, 48, 4);
  auto& rq_valid = bench.in("rq_valid_i", twin.rq_valid_i, rtl->rq_valid_i);
  auto& rq_mu = bench.in("rq_mu_i", twin.rq_mu_i, rtl->rq_mu_i, 16, params.cols);
  auto& rq_sigma = bench.in("rq_sigma_i", twin.rq_sigma_i, rtl->rq_sigma_i, 8, params.cols);
  auto& shift = bench.in("shift_i", twin.shift_i, rtl->shift_i, 8);
  auto& hidden_shift = bench.in("hidden_shift_i", twin.hidden_shift_i, rtl->hidden_shift_i, 5);
  auto& out_addr = bench.in("out_addr_i", twin.out_addr_i, rtl->out_addr_i, 40);
  auto& aux_addr = bench.in("aux_addr_i", twin.aux_addr_i, rtl->aux_addr_i, 40);
  auto& requant_ready = bench.in("requant_ready_i", twin.requant_ready_i, rtl->requant_ready_i);
  auto& result_valid = bench.in("result_valid_i", twin.result_valid_i, rtl->result_valid_i);
  auto& result_y = bench.in("result_y_i", twin.result_y_i, rtl->result_y_i, 16, 4);
  auto& result_acc = bench.in("result_acc_i", twin.result_acc_i, rtl->result_acc_i, 48, 4);
  auto& result_meta = bench.in("result_meta_i", twin.result_meta_i, rtl->result_meta_i, 64);
  auto& swiglu_ready = bench.in("swiglu_ready_i", twin.swiglu_ready_i, rtl->swiglu_ready_i);
  auto& h_valid = bench.in("h_valid_i", twin.h_valid_i, rtl->h_valid_i);
  auto& h = bench.in("h_i", twin.h_i, rtl->h_i, 16, 4);
  auto& h_meta = bench.in("h_meta_i", twin.h_meta_i, rtl->h_meta_i, 64);
  auto& dma_ready = bench.in("dma_ready_i", twin.dma_ready_i, rtl->dma_ready_i);
  auto& dma_idle = bench.in("dma_idle_i", twin.dma_idle_i, rtl->dma_idle_i);

  auto& done = bench.out("done_o", twin.done_o, rtl->done_o);
  bench.out("acc_token_o", twin.acc_token_o, rtl->acc_token_o, cycle::BeatTag::kTokenBits);
  bench.out("acc_chunk_o", twin.acc_chunk_o, rtl->acc_chunk_o, 4);
  auto& release = bench.out("acc_release_o", twin.acc_release_o, rtl->acc_release_o);
  auto& rq_ready = bench.out("rq_ready_o", twin.rq_ready_o, rtl->rq_ready_o);
  bench.out("shift_token_o", twin.shift_token_o, rtl->shift_token_o, cycle::BeatTag::kTokenBits);
  bench.out("out_token_o", twin.out_token_o, rtl->out_token_o, cycle::BeatTag::kTokenBits);
  auto& requant_valid = bench.out("requant_valid_o", twin.requant_valid_o, rtl->requant_valid_o);
  bench.out("requant_acc_o", twin.requant_acc_o, rtl->requant_acc_o, 48, 4);
  bench.out("requant_mu_o", twin.requant_mu_o, rtl->requant_mu_o, 16, 4);
  bench.out("requant_sigma_o", twin.requant_sigma_o, rtl->requant_sigma_o, 8, 4);
  bench.out("requant_mask_o", twin.requant_mask_o, rtl->requant_mask_o, 4);
  bench.out("requant_shift_o", twin.requant_shift_o, rtl->requant_shift_o, 8);
  bench.out("requant_out_bits_o", twin.requant_out_bits_o, rtl->requant_out_bits_o, 5);
  auto& requant_meta = bench.out("requant_meta_o", twin.requant_meta_o, rtl->requant_meta_o, 64);
  auto& result_ready = bench.out("result_ready_o", twin.result_ready_o, rtl->result_ready_o);
  auto& swiglu_valid = bench.out("swiglu_valid_o", twin.swiglu_valid_o, rtl->swiglu_valid_o);
  bench.out("swiglu_g_o", twin.swiglu_g_o, rtl->swiglu_g_o, 16, 4);
  bench.out("swiglu_u_o", twin.swiglu_u_o, rtl->swiglu_u_o, 16, 4);
  bench.out("swiglu_sigma_h_o", twin.swiglu_sigma_h_o, rtl->swiglu_sigma_h_o, 5);
  auto& swiglu_meta = bench.out("swiglu_meta_o", twin.swiglu_meta_o, rtl->swiglu_meta_o, 64);
  auto& h_ready = bench.out("h_ready_o", twin.h_ready_o, rtl->h_ready_o);
  bench.out("hidden_valid_o", twin.hidden_valid_o, rtl->hidden_valid_o);
  bench.out("hidden_addr_o", twin.hidden_addr_o, rtl->hidden_addr_o, program::log2_ceil(params.hidden_depth));
  bench.out("hidden_token_o", twin.hidden_token_o, rtl->hidden_token_o, cycle::BeatTag::kTokenBits);
  bench.out("hidden_mask_o", twin.hidden_mask_o, rtl->hidden_mask_o, 4);
  bench.out("hidden_data_o", twin.hidden_data_o, rtl->hidden_data_o, 16, 4);
  bench.out("hidden_clear_o", twin.hidden_clear_o, rtl->hidden_clear_o);
  auto& dma_valid = bench.out("dma_valid_o", twin.dma_valid_o, rtl->dma_valid_o);
  bench.out("dma_addr_o", twin.dma_addr_o, rtl->dma_addr_o, 40);
  auto& dma_bytes = bench.out("dma_bytes_o", twin.dma_bytes_o, rtl->dma_bytes_o, 6);
  bench.out("dma_data_o", twin.dma_data_o, rtl->dma_data_o, 64, 4);
  bench.out("dma_flush_o", twin.dma_flush_o, rtl->dma_flush_o);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  base::Rng rng = bench.rng("stimuli");
  bool working = false;
  std::deque<std::uint64_t> results, hidden;  // metas under way
  std::uint64_t bytes = 0, expected = 0;
  const auto lanes = [&rng](unsigned bits, auto zero) {
    Lanes<decltype(zero)> all(4);
    for (auto& value : all) value = static_cast<decltype(zero)>(signed_bits(rng, bits));
    return all;
  };
  bench.on_reset([&] {
    working = false;
    results.clear();
    hidden.clear();
    start.write(false);
    cmd.write({});
    full.write(false);
    acc.write({});
    rq_mu.write({});
    rq_sigma.write({});
    rq_valid.write(false);
  });
  bool flip = false;
  bench.on_falling([&](std::uint64_t) {
    start.write(false);
    if (!working && rng.chance(1, 3)) {
      Command c;
      c.opcode = rng.chance(1, 5) ? Opcode::kCombine : Opcode::kMatmul;
      c.tokens = static_cast<std::uint8_t>(rng.range(1, params.max_tokens));
      c.n = static_cast<std::uint32_t>(rng.range(1, 3 * params.cols));
      c.k_last = true;
      c.elem_bytes = static_cast<std::uint8_t>(rng.range(1, 2));
      c.out_bits = static_cast<std::uint8_t>(4 << rng.below(3));
      c.offset = static_cast<std::uint32_t>(rng.below(1 << 20));
      c.aux_offset = static_cast<std::uint32_t>(rng.below(1 << 20));
      c.write_y = rng.chance(3, 4);
      const bool matmul = c.opcode == Opcode::kMatmul;
      c.write_acc = matmul && rng.chance(1, 2);
      c.shift_hidden = matmul && rng.chance(1, 3);
      c.paired = matmul && rng.chance(1, 3);
      c.swiglu_part = matmul && !c.paired && rng.chance(1, 3);
      c.which_up = c.swiglu_part && rng.chance(1, 2);
      c.write_h = rng.chance(1, 2);
      c.hidden_clear = rng.chance(1, 2);
      c.hidden_stride = static_cast<std::uint16_t>(rng.below(64));
      c.hidden_base = static_cast<std::uint16_t>(rng.below(64));
      c.sigma_h = static_cast<std::uint8_t>(rng.below(32));
      const std::uint64_t elements = std::uint64_t{c.n} * c.tokens;
      const bool up = c.paired || (c.swiglu_part && c.which_up);
      expected = c.paired || c.swiglu_part ? (up && c.write_h ? 2 * elements : 0)
                                           : elements * ((c.write_acc ? 8u : 0u) + (c.write_y ? c.elem_bytes : 0u));
      bytes = 0;
      cmd.write(c);
      start.write(true);
      working = true;
    } else if (!working) {
      cmd.write({});
    }
    // Accumulators and parameters are stable while they are offered.
    if (!full.value() || flip) {
      full.write(rng.chance(1, 2));
      acc.write(full.value() ? lanes(48, std::int64_t{0}) : Lanes<std::int64_t>{});
    }
    if (!rq_valid.value() || flip) {
      rq_valid.write(rng.chance(1, 2));
      Lanes<std::uint32_t> mu(params.cols), sigma(params.cols);
      for (auto& value : mu) value = static_cast<std::uint32_t>(rng.below(65536));
      for (auto& value : sigma) value = static_cast<std::uint32_t>(rng.below(63));
      rq_mu.write(rq_valid.value() ? mu : Lanes<std::uint32_t>{});
      rq_sigma.write(rq_valid.value() ? sigma : Lanes<std::uint32_t>{});
    }
    flip = false;
    // Row table and hidden shifts are stable while a command works.
    if (!working || start.value()) {
      shift.write(rng.below(63));
      hidden_shift.write(rng.below(13));
      out_addr.write(rng.below(std::uint64_t{1} << 40));
      aux_addr.write(rng.below(std::uint64_t{1} << 40));
    }
    dma_idle.write(rng.chance(1, 4));
  });
  Sink requant(bench, "requant", requant_ready, requant_valid, [&] { results.push_back(requant_meta.read()); });
  Source result(
      bench, "result", result_valid, result_ready,
      [&] {
        if (results.empty()) return false;
        result_meta.write(results.front());
        result_y.write(lanes(16, std::int32_t{0}));
        result_acc.write(lanes(48, std::int64_t{0}));
        return true;
      },
      [&] {
        result_meta.write(0);
        result_y.write({});
        result_acc.write({});
      },
      [&] { results.pop_front(); });
  Sink swiglu(bench, "swiglu", swiglu_ready, swiglu_valid, [&] { hidden.push_back(swiglu_meta.read()); });
  Source hs(
      bench, "h", h_valid, h_ready,
      [&] {
        if (hidden.empty()) return false;
        h_meta.write(hidden.front());
        h.write(lanes(16, std::int32_t{0}));
        return true;
      },
      [&] {
        h_meta.write(0);
        h.write({});
      },
      [&] { hidden.pop_front(); });
  Sink dma(bench, "dma", dma_ready, dma_valid, [&] { bytes += dma_bytes.read(); });
  bench.on_sample([&](std::uint64_t) {
    flip = release.read();
    if (rq_ready.read() && !release.read()) bench.fail("parameters left without their block");
    if (done.read()) {
      if (bytes != expected || !results.empty() || !hidden.empty())
        bench.fail("a command ended before all its bytes were written");
      working = false;
    }
  });
  return bench.run();
}

cycle::CoreParams shape(unsigned rows, unsigned cols, unsigned planes, unsigned act_bits, unsigned act_depth) {
  cycle::CoreParams params;
  params.rows = rows;
  params.cols = cols;
  params.planes_per_cycle = planes;
  params.max_act_bits = act_bits;
  params.act_depth = act_depth;
  return params;
}

}  // namespace

TEST_CASE("the scheduler ends a command only when its blocks have", "[cosim][core]") {
  const std::string title = "the scheduler ends a command only when its blocks have";
  const Report r = run_forked([&] { return run_scheduler(Options::from_environment(title, 1, 20000)); });
  INFO(r.message);
  CHECK(r.ok());
  CHECK(r.transfers > 1000);
}

TEST_CASE("the tile sequencer issues every beat of a matmul and waits for its answer", "[cosim][core]") {
  const std::string title = "the tile sequencer issues every beat of a matmul and waits for its answer";
  const Report small = run_forked([&] {
    return run_sequencer<Vrtl_moe_tile_sequencer_4x4>(Options::from_environment(title, 1, 20000),
                                                      shape(4, 4, 1, 8, 64));
  });
  INFO(small.message);
  CHECK(small.ok());
  CHECK(small.transfers > 1000);
  const Report large = run_forked([&] {
    return run_sequencer<Vrtl_moe_tile_sequencer_8x8>(Options::from_environment(title, 2, 20000),
                                                      shape(8, 8, 4, 16, 128));
  });
  INFO(large.message);
  CHECK(large.ok());
}

TEST_CASE("the drain writes every byte of a command before it ends", "[cosim][core]") {
  const std::string title = "the drain writes every byte of a command before it ends";
  cycle::CoreParams narrow = shape(4, 4, 1, 8, 64), wide = shape(4, 16, 1, 8, 64);
  narrow.max_tokens = 2;
  narrow.hidden_depth = 32;
  wide.max_tokens = 8;
  wide.hidden_depth = 256;
  const Report small =
      run_forked([&] { return run_drain<Vrtl_moe_drain_4>(Options::from_environment(title, 1, 30000), narrow); });
  INFO(small.message);
  CHECK(small.ok());
  CHECK(small.transfers > 1000);
  const Report large =
      run_forked([&] { return run_drain<Vrtl_moe_drain_16>(Options::from_environment(title, 2, 30000), wide); });
  INFO(large.message);
  CHECK(large.ok());
}

}  // namespace moesaic::cosim
