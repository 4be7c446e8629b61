#include "sim/cycle/core/drain.h"

#include <algorithm>

#include "sim/cycle/common/beat_tag.h"

namespace moesaic::cycle {

using program::Activity;
using program::Command;

namespace {
constexpr std::uint64_t kAddrMask = (std::uint64_t{1} << CoreParams::kAddrBits) - 1;
constexpr unsigned kTokenMask = (1U << BeatTag::kTokenBits) - 1;
}  // namespace

std::uint64_t Drain::Meta::pack() const {
  constexpr unsigned kChunk = 32 + BeatTag::kTokenBits;
  return std::uint64_t{col} | std::uint64_t{token} << 32 | std::uint64_t{chunk} << kChunk |
         std::uint64_t{count} << (kChunk + 4) | std::uint64_t{up} << (kChunk + 7) | std::uint64_t{last} << (kChunk + 8);
}

Drain::Meta Drain::Meta::unpack(std::uint64_t bits) {
  Meta meta;
  meta.col = static_cast<std::uint32_t>(bits);
  meta.token = static_cast<unsigned>(bits >> 32 & kTokenMask);
  bits >>= 32 + BeatTag::kTokenBits;
  meta.chunk = static_cast<unsigned>(bits & 15);
  meta.count = static_cast<unsigned>(bits >> 4 & 7);
  meta.up = (bits >> 7 & 1) != 0;
  meta.last = (bits >> 8 & 1) != 0;
  return meta;
}

Drain::Drain(sc_core::sc_module_name name, const CoreParams& params)
    : sc_module(name), params_(params), chunks_(params.cols / 4), gate_(std::size_t{params.max_tokens} * chunks_) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_lookup);
  sensitive << walk_changed_;
  SC_METHOD(drive_requant);
  sensitive << walk_changed_ << cmd_i << acc_full_i << acc_i << rq_valid_i << rq_mu_i << rq_sigma_i << shift_i
            << hidden_shift_i;
  SC_METHOD(drive_release);
  sensitive << walk_changed_ << cmd_i << acc_full_i << rq_valid_i << requant_ready_i;
  SC_METHOD(drive_results);
  sensitive << changed_ << cmd_i << result_valid_i << result_y_i << result_meta_i << swiglu_ready_i << h_valid_i << h_i
            << h_meta_i << dma_ready_i;
  SC_METHOD(drive_dma);
  sensitive << changed_ << cmd_i << result_valid_i << result_y_i << result_acc_i << result_meta_i << h_valid_i << h_i
            << h_meta_i << out_addr_i << aux_addr_i;
  SC_METHOD(drive_control);
  sensitive << changed_ << start_i << cmd_i << dma_idle_i;
  SC_METHOD(drive_activity);
  sensitive << changed_ << walk_changed_ << start_i << cmd_i << acc_full_i << rq_valid_i << requant_ready_i
            << result_valid_i << result_meta_i << swiglu_ready_i << h_valid_i << dma_ready_i << dma_idle_i;
}

Drain::Chunk Drain::chunk() const {
  const Command& command = cmd_i.read();
  const std::uint32_t left = command.n - col_;
  const bool last_cols = left <= params_.cols;
  const unsigned cols = last_cols ? left : params_.cols;
  Chunk c{};
  c.last_of_token = 4 * chunk_ + 4 >= cols;
  c.count = c.last_of_token ? (cols - 4 * chunk_) & 7 : 4;
  c.ends_block = c.last_of_token && token_ + 1 == command.tokens;
  c.ends_walk = c.ends_block && last_cols && (which_ || !command.paired);
  return c;
}

bool Drain::result_ready(const Meta& result) const {
  const Command& command = cmd_i.read();
  if (is_pair()) return !result.up || swiglu_ready_i.read();
  if (wants_acc()) return dma_ready_i.read() && !command.write_y;
  return !command.write_y || dma_ready_i.read();
}

void Drain::on_clock() {
  if (!rst_ni.read()) {
    state_ = State::kIdle;
    walking_ = which_ = phase_ = false;
    col_ = 0;
    token_ = chunk_ = 0;
    changed_.notify(sc_core::SC_ZERO_TIME);
    walk_changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  if (state_ == State::kIdle && !start_i.read()) return;
  const Command& command = cmd_i.read();
  const bool sends = offers() && requant_ready_i.read();
  const Chunk sent = sends ? chunk() : Chunk{};

  // Results first: they see the state of before the edge.
  const Meta result = Meta::unpack(result_meta_i.read());
  const bool result_fires = result_valid_i.read() && result_ready(result), h_fire = h_fires();
  const bool up_result = is_pair() && result.up;
  if (result_fires && is_pair() && !result.up) {
    Lanes<std::int32_t, 4>& word = gate_[gate_index(result)];
    word.resize(4);
    for (std::size_t i = 0; i < 4; ++i) word[i] = result_y_i.read().at_or_zero(i);
  }
  const bool acc_out = result_valid_i.read() && !is_pair() && wants_acc() && command.write_y && dma_ready_i.read();
  if (acc_out) phase_ = true;
  if (result_fires) phase_ = false;
  const bool all_out = (result_fires && !up_result && result.last) || (h_fire && Meta::unpack(h_meta_i.read()).last);

  const State before = state_;
  switch (state_) {
    case State::kIdle:
      state_ = start_i.read() ? State::kWalk : State::kIdle;
      break;
    case State::kWalk:
      state_ = all_out ? State::kFlush : State::kWalk;
      break;
    case State::kFlush:
      state_ = State::kSettle;
      break;
    case State::kSettle:
      state_ = dma_idle_i.read() ? State::kIdle : State::kSettle;
      break;
  }
  if (before != state_ || result_fires || acc_out) changed_.notify(sc_core::SC_ZERO_TIME);

  if (start_i.read()) {
    walking_ = true;
    which_ = false;
    col_ = 0;
    token_ = chunk_ = 0;
  } else if (sends) {
    ++chunk_;
    if (sent.last_of_token) {
      chunk_ = 0;
      token_ = sent.ends_block ? 0 : token_ + 1;
    }
    if (sent.ends_block) {
      if (which_ || !command.paired) col_ += params_.cols;
      which_ = command.paired && !which_;
    }
    if (sent.ends_walk) walking_ = false;
  } else {
    return;
  }
  walk_changed_.notify(sc_core::SC_ZERO_TIME);
}

void Drain::drive_lookup() {
  acc_token_o.write(token_ & kTokenMask);
  acc_chunk_o.write(chunk_ & 15);
  shift_token_o.write(token_ & kTokenMask);
}

void Drain::drive_requant() {
  const bool valid = offers();
  requant_valid_o.write(valid);
  if (!valid) {
    requant_acc_o.write({});
    requant_mu_o.write({});
    requant_sigma_o.write({});
    requant_mask_o.write(0);
    requant_shift_o.write(0);
    requant_out_bits_o.write(0);
    requant_meta_o.write(0);
    return;
  }
  const Command& command = cmd_i.read();
  const Chunk c = chunk();
  const bool combine = is_combine();
  Lanes<std::int64_t> acc(4);
  Lanes<std::uint32_t> mu(4), sigma(4);
  for (unsigned i = 0; i < std::min(c.count, 4u); ++i) {
    acc[i] = acc_i.read().at_or_zero(i);
    mu[i] = combine ? 1 : rq_mu_i.read().at_or_zero(4 * chunk_ + i);
    sigma[i] = combine ? 15 : rq_sigma_i.read().at_or_zero(4 * chunk_ + i);
  }
  requant_acc_o.write(acc);
  requant_mu_o.write(mu);
  requant_sigma_o.write(sigma);
  requant_mask_o.write((1u << c.count) - 1);
  const std::int64_t shift = combine                ? 0
                             : command.shift_hidden ? -static_cast<std::int64_t>(hidden_shift_i.read())
                                                    : static_cast<std::int8_t>(shift_i.read());
  requant_shift_o.write(shift);
  requant_out_bits_o.write(combine ? 16 : command.out_bits);
  Meta meta;
  meta.col = col_ + 4 * chunk_;
  meta.token = token_ & kTokenMask;
  meta.chunk = chunk_ & 15;
  meta.count = c.count;
  meta.up = command.paired ? which_ : command.which_up;
  meta.last = c.ends_walk;
  requant_meta_o.write(meta.pack());
}

void Drain::drive_release() {
  const bool ends = offers() && requant_ready_i.read() && chunk().ends_block;
  acc_release_o.write(ends);
  rq_ready_o.write(ends && !is_combine());
}

void Drain::drive_results() {
  const Command& command = cmd_i.read();
  const Meta result = Meta::unpack(result_meta_i.read()), hidden = Meta::unpack(h_meta_i.read());
  const bool to_swiglu = result_valid_i.read() && is_pair() && result.up;
  swiglu_valid_o.write(to_swiglu);
  swiglu_sigma_h_o.write(to_swiglu ? command.sigma_h : 0);
  if (to_swiglu) {
    Lanes<std::int32_t> g(4);
    for (std::size_t i = 0; i < 4; ++i) g[i] = gate_[gate_index(result)].at_or_zero(i);
    swiglu_g_o.write(g);
    swiglu_u_o.write(result_y_i.read());
    swiglu_meta_o.write(result_meta_i.read());
  } else {
    swiglu_g_o.write({});
    swiglu_u_o.write({});
    swiglu_meta_o.write(0);
  }
  result_ready_o.write(result_ready(result));
  h_ready_o.write(!command.write_h || dma_ready_i.read());
  const bool h_fire = h_fires();
  hidden_valid_o.write(h_fire);
  const std::uint64_t word = (command.hidden_base + hidden.token * command.hidden_stride + (hidden.col >> 2)) & 0xffff;
  hidden_addr_o.write(h_fire ? word % params_.hidden_depth : 0);
  hidden_token_o.write(h_fire ? hidden.token : 0);
  hidden_mask_o.write(h_fire ? (1u << hidden.count) - 1 : 0);
  hidden_data_o.write(h_fire ? h_i.read() : Lanes<std::int32_t>{});
  out_token_o.write(is_pair() ? hidden.token : result.token);
}

void Drain::drive_dma() {
  const Command& command = cmd_i.read();
  std::uint64_t base = 0, bytes = 0;
  unsigned element = 0;
  Beat data;
  const auto pack = [&data](unsigned count, unsigned size, const auto& lanes) {
    data.resize(4);
    const std::uint64_t mask = size == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * size)) - 1;
    for (unsigned i = 0; i < std::min(count, 4u); ++i) {
      data[i * size / 8] |= (static_cast<std::uint64_t>(lanes.at_or_zero(i)) & mask) << (8 * (i * size % 8));
    }
  };
  bool valid = false;
  Meta meta;
  if (is_pair()) {
    if (h_valid_i.read() && command.write_h) {
      valid = true;
      meta = Meta::unpack(h_meta_i.read());
      element = 2;
      base = aux_addr_i.read() + command.aux_offset;
      pack(meta.count, 2, h_i.read());
    }
  } else if (result_valid_i.read() && (wants_acc() || command.write_y)) {
    valid = true;
    meta = Meta::unpack(result_meta_i.read());
    if (wants_acc()) {
      element = 8;
      base = aux_addr_i.read() + command.aux_offset;
      pack(meta.count, 8, result_acc_i.read());
    } else {
      element = command.elem_bytes == 2 ? 2 : 1;
      base = out_addr_i.read() + (is_combine() ? command.aux_offset : command.offset);
      pack(meta.count, element, result_y_i.read());
    }
  }
  bytes = std::uint64_t{meta.count} * element;
  dma_valid_o.write(valid);
  dma_addr_o.write(valid ? (base + std::uint64_t{meta.col} * element) & kAddrMask : 0);
  dma_bytes_o.write(valid ? bytes : 0);
  dma_data_o.write(data);
}

void Drain::drive_control() {
  dma_flush_o.write(state_ == State::kFlush);
  done_o.write(state_ == State::kSettle && dma_idle_i.read());
  hidden_clear_o.write(start_i.read() && cmd_i.read().hidden_clear);
}

void Drain::drive_activity() {
  const Command& command = cmd_i.read();
  const bool offer = offers(), result = result_valid_i.read(), h = h_valid_i.read();
  const bool result_fires = result && result_ready(Meta::unpack(result_meta_i.read()));
  const bool dma_valid = is_pair() ? h && command.write_h : result && (wants_acc() || command.write_y);
  const bool moves = start_i.read() || (offer && requant_ready_i.read()) || result_fires || h_fires() ||
                     (dma_valid && dma_ready_i.read()) || state_ == State::kFlush ||
                     (state_ == State::kSettle && dma_idle_i.read());
  const Activity activity = moves                    ? Activity::kBusy
                            : offer || result || h   ? Activity::kBlocked
                            : state_ != State::kIdle ? Activity::kStarved
                                                     : Activity::kIdle;
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
