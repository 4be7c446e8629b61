#include "sim/cycle/memory/output_dma.h"

#include <algorithm>

#include "sim/program/commands.h"

namespace moesaic::cycle {

using program::Activity;

namespace {
constexpr unsigned kMaxUnanswered = 15;
}

OutputDma::OutputDma(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_core::sc_module(name), beat_bytes_(params.beat_bytes()) {
  beat_.data = Beat(params.axi_data_bits / 64);
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_state);
  sensitive << changed_;
  SC_METHOD(drive_in_ready);
  sensitive << changed_ << aw_ready_i << w_ready_i;
  SC_METHOD(drive_activity);
  sensitive << changed_ << aw_ready_i << w_ready_i << in_valid_i << b_valid_i;
}

bool OutputDma::wants_send() const {
  if (!beat_valid_) return false;
  const std::uint64_t all = ~std::uint64_t{0} >> (64 - beat_bytes_);
  return beat_.strobe == all || (chunk_ ? addr_ / beat_bytes_ != beat_.index : flush_);
}

bool OutputDma::can_send() const {
  return (!aw_ || aw_ready_i.read()) && (!w_ || w_ready_i.read()) && unanswered_ != kMaxUnanswered;
}

unsigned OutputDma::part_bytes() const {
  return std::min(bytes_, beat_bytes_ - static_cast<unsigned>(addr_ % beat_bytes_));
}

void OutputDma::move_part() {
  const unsigned count = part_bytes();
  if (!beat_valid_) {
    std::fill(beat_.data.begin(), beat_.data.end(), 0);
    beat_.strobe = 0;
  }
  beat_valid_ = true;
  beat_.index = addr_ / beat_bytes_;
  for (unsigned i = 0, at = static_cast<unsigned>(addr_ % beat_bytes_); i < count; ++i, ++at) {
    std::uint64_t& word = beat_.data[at / 8];
    const unsigned shift = at % 8 * 8;
    word = (word & ~(std::uint64_t{0xff} << shift)) | take_bits(chunk_data_, 8 * (chunk_at_ + i), 8) << shift;
    beat_.strobe |= std::uint64_t{1} << at;
  }
  addr_ = (addr_ + count) & ((std::uint64_t{1} << CoreParams::kAddrBits) - 1);
  bytes_ -= count;
  chunk_at_ += count;
  chunk_ = bytes_ != 0;
}

void OutputDma::reset() {
  chunk_ = beat_valid_ = flush_ = aw_ = w_ = error_ = false;
  unanswered_ = 0;
}

void OutputDma::on_clock() {
  if (!rst_ni.read()) {
    reset();
    changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  const bool send = wants_send() && can_send();
  const bool moves = part_moves();
  const bool in_fire = in_valid_i.read() && (!chunk_ || (moves && part_bytes() == bytes_));
  const bool aw_fire = aw_ && aw_ready_i.read(), w_fire = w_ && w_ready_i.read();
  const bool b_fire = unanswered_ != 0 && b_valid_i.read();
  if (!send && !moves && !in_fire && !aw_fire && !w_fire && !b_fire && !flush_ && !flush_i.read()) return;

  flush_ = flush_i.read() || (flush_ && (chunk_ || (beat_valid_ && !send)));
  if (aw_fire) aw_ = false;
  if (w_fire) w_ = false;
  if (send) {
    out_ = beat_;
    beat_valid_ = false;
    aw_ = w_ = true;
    ++unanswered_;
  }
  if (b_fire) {
    --unanswered_;
    error_ = error_ || b_resp_i.read() != 0;
  }
  if (moves) move_part();
  if (in_fire) {
    chunk_ = true;
    addr_ = in_addr_i.read();
    bytes_ = static_cast<unsigned>(in_bytes_i.read());
    chunk_at_ = 0;
    chunk_data_ = in_data_i.read();
  }
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void OutputDma::drive_state() {
  const unsigned size = program::log2_ceil(beat_bytes_);
  aw_valid_o.write(aw_);
  aw_addr_o.write(aw_ ? out_.index * beat_bytes_ : 0);
  aw_len_o.write(0);
  aw_size_o.write(aw_ ? size : 0);
  aw_burst_o.write(aw_ ? 1 : 0);
  w_valid_o.write(w_);
  w_data_o.write(w_ ? out_.data : Beat{});
  w_strb_o.write(w_ ? out_.strobe : 0);
  w_last_o.write(w_);
  b_ready_o.write(unanswered_ != 0);
  idle_o.write(idle());
  resp_error_o.write(error_);
}

void OutputDma::drive_in_ready() { in_ready_o.write(!chunk_ || (part_moves() && part_bytes() == bytes_)); }

void OutputDma::drive_activity() {
  const bool send = wants_send() && can_send();
  const bool moves = part_moves();
  const bool in_fire = in_valid_i.read() && (!chunk_ || (moves && part_bytes() == bytes_));
  Activity activity = Activity::kStarved;
  if (in_fire || moves || send || (aw_ && aw_ready_i.read()) || (w_ && w_ready_i.read()) ||
      (unanswered_ != 0 && b_valid_i.read())) {
    activity = Activity::kBusy;
  } else if (idle()) {
    activity = Activity::kIdle;
  } else if (chunk_ || unanswered_ != 0 || wants_send()) {
    activity = Activity::kBlocked;
  }
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
