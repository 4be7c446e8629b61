#include "sim/cycle/memory/act_loader.h"

#include <algorithm>

#include "reference/numerics/integer.h"

namespace moesaic::cycle {

using program::Activity;
using program::Opcode;

namespace {
constexpr std::uint64_t kAddrMask = (std::uint64_t{1} << CoreParams::kAddrBits) - 1;

std::int32_t sign_extend(std::uint64_t value, unsigned bits) {
  return static_cast<std::int32_t>(static_cast<std::int64_t>(value << (64 - bits)) >> (64 - bits));
}
}  // namespace

ActLoader::ActLoader(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_core::sc_module(name),
      params_(params),
      row_cols_(std::min(params.cols, params.axi_data_bits / 16)),
      walk_(params.rows, params.cols) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_state);
  sensitive << changed_;
  SC_METHOD(drive_issue);
  sensitive << issue_changed_;
  SC_METHOD(drive_seg_addr);
  sensitive << issue_changed_ << row_in_addr_i;
  SC_METHOD(drive_act_write);
  sensitive << changed_ << avail_i << data_i << hidden_data_i << eh_i;
  SC_METHOD(drive_pop);
  sensitive << changed_ << avail_i;
  SC_METHOD(drive_activity);
  sensitive << changed_ << issue_changed_ << start_i << seg_ready_i << avail_i << direct_ready_i;
}

unsigned ActLoader::load_count() const { return std::min(4u, walk_.tile().tile_k - row_); }

unsigned ActLoader::load_bits() const { return load_count() * (command_.elem_bytes == 2 ? 16 : 8); }

bool ActLoader::load_steps() const {
  return walk_.valid() && (command_.source_hidden || avail_i.read() >= load_bits());
}

bool ActLoader::load_ends() const { return walk_.tile().tile_k - row_ <= 4; }

unsigned ActLoader::take_cols() const { return std::min(combine_cols() - col_, row_cols_); }

unsigned ActLoader::combine_bits() const { return part_ == Part::kR ? 16 : 16 * take_cols(); }

bool ActLoader::combine_steps() const {
  return state_ == State::kCombine && part_ != Part::kOffer && avail_i.read() >= combine_bits();
}

bool ActLoader::last_direct() const { return expert_ + 1 == command_.k && token_ + 1 == command_.tokens; }

Lanes<std::int32_t> ActLoader::merged_word() const {
  Lanes<std::int32_t> word = row_ == 0 ? Lanes<std::int32_t>{} : word_;
  word.resize(params_.rows);
  const int shift = command_.shift_hidden ? static_cast<int>(eh_i.read()) : 0;
  for (unsigned i = 0; i < load_count(); ++i) {
    std::int32_t raw = 0;
    if (command_.source_hidden) {
      raw = hidden_data_i.read().at_or_zero(i);
    } else if (command_.elem_bytes == 2) {
      raw = sign_extend(take_bits(data_i.read(), 16 * i, 16), 16);
    } else {
      raw = sign_extend(take_bits(data_i.read(), 8 * i, 8), 8);
    }
    word[row_ + i] = sign_extend(static_cast<std::uint64_t>(numerics::rshift_round(raw, shift)), params_.max_act_bits);
  }
  return word;
}

void ActLoader::start() {
  command_ = cmd_i.read();
  const bool load = command_.opcode == Opcode::kLoadAct, combine = command_.opcode == Opcode::kCombine;
  state_ = load ? State::kLoad : combine ? State::kCombine : State::kIdle;
  if (load) {
    TileWalk::Fields fields;  // the walk's blocks are tokens
    fields.n = command_.tokens * params_.cols;
    fields.k = command_.k;
    fields.group_size = command_.group_size;
    fields.group_left = command_.group_left;
    walk_.start(fields);
  }
  issue_ = Issue{};
  issue_.left = combine || (load && !command_.source_hidden);
  issue_.n = command_.n;
  issue_.r = command_.requant_addr;
  issue_.at = command_.offset;
  row_ = token_ = col_ = 0;
  act_base_ = act_addr_ = 0;
  hidden_base_ = hidden_addr_ = command_.hidden_base % params_.hidden_depth;
  part_ = Part::kR;
  expert_ = 0;
  n_ = command_.n;
}

void ActLoader::advance_issue() {
  if (state_ == State::kLoad) {
    issue_.left = ++issue_.token != command_.tokens;
    return;
  }
  issue_.row = !issue_.row;
  if (issue_.row) {
    issue_.r = (issue_.r + 2) & kAddrMask;
    return;
  }
  issue_.step = (issue_.step + command_.plane_stride) & kAddrMask;
  if (++issue_.expert != command_.k) return;
  issue_.expert = 0;
  issue_.step = 0;
  if (++issue_.token != command_.tokens) return;
  issue_.token = 0;
  issue_.r = command_.requant_addr;
  issue_.left = issue_.n > params_.cols;
  const std::uint32_t cols = std::min(issue_.n, static_cast<std::uint32_t>(params_.cols));
  issue_.n -= cols;
  issue_.at = (issue_.at + 2 * cols) & kAddrMask;
}

void ActLoader::step_load() {
  const bool ends = load_ends();
  word_ = merged_word();
  row_ = ends ? 0 : row_ + 4;
  hidden_addr_ = (hidden_addr_ + 1) % params_.hidden_depth;
  if (!ends) return;
  act_addr_ = (act_addr_ + 1) % params_.act_depth;
  if (walk_.tile().block_end) {
    ++token_;
    act_base_ = act_addr_ = (act_base_ + command_.act_stride) % params_.act_depth;
    hidden_base_ = hidden_addr_ = (hidden_base_ + command_.hidden_stride) % params_.hidden_depth;
  }
  if (walk_.tile().last) {
    state_ = State::kIdle;
    done_ = true;
  }
  walk_.advance();
}

void ActLoader::step_combine() {
  if (part_ == Part::kR) {
    s_ = take_bits(data_i.read(), 0, 16);
    part_ = Part::kRow;
    return;
  }
  if (col_ == 0) row_data_.clear();
  const unsigned count = take_cols();
  for (unsigned i = 0; i < count; ++i) row_data_.push_back(sign_extend(take_bits(data_i.read(), 16 * i, 16), 16));
  col_ += count;
  if (col_ == combine_cols()) {
    col_ = 0;
    part_ = Part::kOffer;
  }
}

void ActLoader::reset() {
  walk_.reset();
  state_ = State::kIdle;
  done_ = false;
  issue_ = Issue{};
  token_ = row_ = col_ = 0;
  part_ = Part::kR;
}

void ActLoader::on_clock() {
  if (!rst_ni.read()) {
    reset();
    changed_.notify(sc_core::SC_ZERO_TIME);
    issue_changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  bool changed = done_;
  done_ = false;
  if (start_i.read()) {
    start();
    changed = true;
    issue_changed_.notify(sc_core::SC_ZERO_TIME);
  } else {
    if (issue_.left && seg_ready_i.read()) {
      advance_issue();
      issue_changed_.notify(sc_core::SC_ZERO_TIME);
    }
    if (load_steps()) {
      step_load();
      changed = true;
    } else if (combine_steps()) {
      step_combine();
      changed = true;
    } else if (state_ == State::kCombine && part_ == Part::kOffer && direct_ready_i.read()) {
      part_ = Part::kR;
      if (last_direct()) {
        if (n_ <= params_.cols) {
          state_ = State::kIdle;
          done_ = true;
        }
        n_ -= combine_cols();
        token_ = 0;
        expert_ = 0;
      } else if (++expert_ == command_.k) {
        expert_ = 0;
        ++token_;
      }
      changed = true;
    }
  }
  if (changed) changed_.notify(sc_core::SC_ZERO_TIME);
}

void ActLoader::drive_state() {
  done_o.write(done_);
  hidden_addr_o.write(walk_.valid() && command_.source_hidden ? hidden_addr_ : 0);
  eh_token_o.write(walk_.valid() && command_.shift_hidden ? token_ : 0);
  const bool offers = state_ == State::kCombine && part_ == Part::kOffer;
  direct_valid_o.write(offers);
  direct_token_o.write(offers ? token_ : 0);
  direct_s_o.write(offers ? s_ : 0);
  direct_d_o.write(offers ? row_data_ : Lanes<std::int32_t>{});
  direct_first_o.write(offers && expert_ == 0);
  direct_done_o.write(offers && last_direct());
}

void ActLoader::drive_issue() {
  row_token_o.write(issue_.left ? issue_.token : 0);
  seg_valid_o.write(issue_.left);
  std::uint64_t bytes = 0;
  if (issue_.left && state_ == State::kCombine) {
    bytes = issue_.row ? 2 * std::min(issue_.n, static_cast<std::uint32_t>(params_.cols)) : 2;
  } else if (issue_.left) {
    bytes = command_.elem_bytes == 2 ? 2 * command_.k : command_.k;
  }
  seg_bytes_o.write(bytes);
}

void ActLoader::drive_seg_addr() {
  std::uint64_t addr = 0;
  if (issue_.left) {
    addr = state_ == State::kCombine && !issue_.row ? issue_.r
                                                    : (row_in_addr_i.read() + issue_.at + issue_.step) & kAddrMask;
  }
  seg_addr_o.write(addr);
}

void ActLoader::drive_act_write() {
  const bool writes = load_steps() && load_ends();
  act_write_valid_o.write(writes);
  act_write_addr_o.write(writes ? act_addr_ : 0);
  act_write_data_o.write(writes ? merged_word() : Lanes<std::int32_t>{});
}

void ActLoader::drive_pop() {
  std::uint64_t pop = 0;
  if (load_steps() && !command_.source_hidden) pop = load_bits();
  if (combine_steps()) pop = combine_bits();
  pop_o.write(pop);
}

void ActLoader::drive_activity() {
  const bool offers = state_ == State::kCombine && part_ == Part::kOffer;
  Activity activity = Activity::kStarved;
  if (start_i.read() || (issue_.left && seg_ready_i.read()) || load_steps() || combine_steps() ||
      (offers && direct_ready_i.read())) {
    activity = Activity::kBusy;
  } else if (state_ == State::kIdle) {
    activity = Activity::kIdle;
  } else if (offers) {
    activity = Activity::kBlocked;
  }
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
