#include "sim/cycle/array/pe_array.h"

#include <algorithm>

#include "sim/program/commands.h"

namespace moesaic::cycle {
namespace {

/// spread[b][r]: bit r of the byte b as a small integer.
struct SpreadTable {
  std::array<std::array<std::int16_t, 8>, 256> row{};
  constexpr SpreadTable() {
    for (unsigned b = 0; b < 256; ++b) {
      for (unsigned r = 0; r < 8; ++r) row[b][r] = static_cast<std::int16_t>(b >> r & 1);
    }
  }
};
constexpr SpreadTable kSpread;

}  // namespace

PeArray::PeArray(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_module(name),
      rows_(params.rows),
      cols_(params.cols),
      lanes_(params.planes_per_cycle),
      load_cols_(params.load_cols()),
      stages_(params.log2_rows() + 1) {
  for (auto& bank : bits_) bank.assign(static_cast<std::size_t>(kPlanes) * cols_, 0);
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_w_ready);
  sensitive << changed_;
  SC_METHOD(drive_beat_ready);
  sensitive << sum_ready_i << changed_;
  SC_METHOD(drive_activity);
  sensitive << beat_valid_i << sum_ready_i << changed_;
}

void PeArray::reset() {
  full_ = {};
  wr_ = 0;
  rd_ = 0;
  for (auto& bank : bits_) std::fill(bank.begin(), bank.end(), 0);
  for (Decoded& decoded : decoded_) decoded.valid = false;
  for (Stage& stage : stages_) stage = Stage{};
  valid_stages_ = 0;
  sum_valid_o.write(false);
  sum_o.write({});
  rowsum_o.write(0);
  sum_tag_o.write(0);
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void PeArray::free_bank(unsigned bank) {
  full_[bank] = false;
  std::fill(bits_[bank].begin(), bits_[bank].end(), 0);
  for (Decoded& decoded : decoded_) decoded.valid = false;
}

const std::int16_t* PeArray::decode(unsigned plane, std::uint64_t enable, std::uint64_t shift) {
  Decoded& decoded = decoded_[plane];
  if (decoded.valid && decoded.enable == enable && decoded.shift == shift) return decoded.weight.data();
  decoded.valid = true;
  decoded.enable = enable;
  decoded.shift = shift;
  const std::size_t pitch = (rows_ + 7) / 8 * 8;
  decoded.weight.assign(pitch * cols_, 0);
  for (unsigned j = 0; j < lanes_; ++j) {
    if ((enable >> j & 1) == 0) continue;
    const int factor = 1 << (shift - j);
    const std::uint64_t* column = &bits_[rd_][static_cast<std::size_t>((plane + j) % kPlanes) * cols_];
    for (unsigned c = 0; c < cols_; ++c) {
      std::int16_t* weight = &decoded.weight[c * pitch];
      for (unsigned r = 0; r < rows_; r += 8) {
        const auto& bit = kSpread.row[column[c] >> r & 0xff];
        for (unsigned i = 0; i < 8; ++i) weight[r + i] = static_cast<std::int16_t>(weight[r + i] + bit[i] * factor);
      }
    }
  }
  return decoded.weight.data();
}

void PeArray::take_beat(Stage& stage) {
  const Lanes<std::int32_t>& x = beat_x_i.read();
  const std::size_t pitch = (rows_ + 7) / 8 * 8;
  std::array<std::int16_t, 64> activation{};
  std::int64_t rowsum = 0;
  for (unsigned r = 0; r < std::min<std::size_t>(rows_, x.size()); ++r) {
    activation[r] = static_cast<std::int16_t>(x[r]);
    rowsum += x[r];
  }
  const std::int16_t* weight =
      decode(static_cast<unsigned>(beat_plane_i.read()), beat_enable_i.read(), beat_shift_i.read());
  stage.valid = true;
  stage.tag = beat_tag_i.read();
  stage.rowsum = rowsum;
  stage.sums.resize(cols_);
  for (unsigned c = 0; c < cols_; ++c) {
    std::int32_t sum = 0;  // at most 64 * 255 * 2^15 < 2^30
    for (std::size_t r = 0; r < pitch; ++r) sum += activation[r] * weight[c * pitch + r];
    stage.sums[c] = sum;
  }
}

void PeArray::on_clock() {
  if (!rst_ni.read()) return reset();
  bool changed = false;
  const bool w_fire = w_valid_i.read() && !full_[wr_];
  const bool moves = advance();
  const bool beat_fire = beat_valid_i.read() && full_[rd_] && moves;

  if (moves && (valid_stages_ > 0 || beat_fire)) {
    const bool output_was_valid = output().valid;
    head_ = (head_ + stages_.size() - 1) % stages_.size();
    Stage& youngest = stages_[head_];
    valid_stages_ -= youngest.valid ? 1 : 0;  // the slot of the sum that has left
    youngest.valid = false;
    if (beat_fire) {
      take_beat(youngest);
      ++valid_stages_;
    }
    const Stage& oldest = output();
    if (oldest.valid) {
      sum_o.write(oldest.sums);
      rowsum_o.write(oldest.rowsum);
      sum_tag_o.write(oldest.tag);
    } else if (output_was_valid) {
      sum_o.write({});
      rowsum_o.write(0);
      sum_tag_o.write(0);
    }
    sum_valid_o.write(oldest.valid);
    changed = true;
  }
  if (w_fire) {
    std::uint64_t* column = &bits_[wr_][static_cast<std::size_t>(w_plane_i.read()) * cols_ + w_first_col_i.read()];
    for (unsigned l = 0; l < load_cols_; ++l) {
      if ((w_mask_i.read() >> l & 1) != 0) column[l] = w_bits_i.read().at_or_zero(l);
    }
    if (w_last_i.read()) {
      full_[wr_] = true;
      wr_ ^= 1;
      changed = true;
    }
  }
  if (beat_fire && beat_last_i.read()) {
    free_bank(rd_);
    rd_ ^= 1;
  }
  if (changed) changed_.notify(sc_core::SC_ZERO_TIME);
}

void PeArray::drive_w_ready() { w_ready_o.write(!full_[wr_]); }

void PeArray::drive_beat_ready() { beat_ready_o.write(full_[rd_] && advance()); }

void PeArray::drive_activity() {
  program::Activity activity = program::Activity::kIdle;
  if (!advance()) {
    activity = program::Activity::kBlocked;
  } else if (valid_stages_ > 0 || (beat_valid_i.read() && full_[rd_])) {
    activity = program::Activity::kBusy;
  } else if (beat_valid_i.read() || full_[0] || full_[1]) {
    activity = program::Activity::kStarved;
  }
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
