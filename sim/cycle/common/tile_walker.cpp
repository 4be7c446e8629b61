#include "sim/cycle/common/tile_walker.h"

#include <algorithm>

namespace moesaic::cycle {

void TileWalk::reset() {
  n_left_ = k_left_ = group_left_ = begin_k_ = begin_group_ = 0;
  level_ = 0;
  which_ = block_first_ = group_first_ = acc_first_ = false;
  tile_ = Tile{};
}

void TileWalk::start(const program::Command& c) {
  Fields fields;
  fields.n = c.n;
  fields.k = c.k;
  fields.group_size = c.group_size;
  fields.group_left = c.group_left;
  fields.paired = c.paired;
  fields.acc_continue = c.acc_continue;
  fields.group_continue = c.group_continue;
  fields.k_last = c.k_last;
  fields.levels = c.levels;
  start(fields);
}

void TileWalk::start(const Fields& fields) {
  fields_ = fields;
  n_left_ = fields.n;
  which_ = false;
  begin_block();
  settle();
}

void TileWalk::begin_block() {
  block_first_ = true;
  group_first_ = !fields_.group_continue;
  acc_first_ = !fields_.acc_continue;
  k_left_ = begin_k_ = fields_.k;
  group_left_ = begin_group_ = fields_.group_left;
  level_ = 0;
}

void TileWalk::settle() {
  tile_.valid = true;
  tile_.tile_k = std::min({group_left_, k_left_, static_cast<std::uint32_t>(rows_)});
  tile_.cols = std::min(n_left_, static_cast<std::uint32_t>(cols_));
  tile_.which = which_;
  tile_.level = level_;
  tile_.group_first = group_first_;
  tile_.block_first = block_first_;
  tile_.acc_first = acc_first_;
  const bool k_end = tile_.tile_k == k_left_;
  tile_.group_end = tile_.tile_k == group_left_ || (k_end && (fields_.k_last || fields_.levels != 0));
  tile_.rewind = tile_.group_end && level_ != fields_.levels;
  tile_.block_end = k_end && !tile_.rewind;
  tile_.last = tile_.block_end && n_left_ <= cols_ && (which_ || !fields_.paired);
}

void TileWalk::advance() {
  if (tile_.last) {
    reset();
    return;
  }
  if (tile_.block_end) {
    if (which_ || !fields_.paired) n_left_ -= tile_.cols;
    which_ = fields_.paired && !which_;
    begin_block();
  } else {
    if (tile_.rewind) {
      ++level_;
      k_left_ = begin_k_;
      group_left_ = begin_group_;
    } else {
      k_left_ -= tile_.tile_k;
      group_left_ = tile_.group_end ? fields_.group_size : group_left_ - tile_.tile_k;
      if (tile_.group_end) {
        level_ = 0;
        begin_k_ = k_left_;
        begin_group_ = group_left_;
      }
    }
    block_first_ = false;
    group_first_ = tile_.group_end;
    acc_first_ = acc_first_ && !tile_.group_end;
  }
  settle();
}

TileWalker::TileWalker(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_core::sc_module(name), walk_(params.rows, params.cols) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_tile);
  sensitive << changed_;
}

void TileWalker::on_clock() {
  if (!rst_ni.read()) {
    walk_.reset();
  } else if (start_i.read()) {
    TileWalk::Fields fields;
    fields.n = static_cast<std::uint32_t>(n_i.read());
    fields.k = static_cast<std::uint32_t>(k_i.read());
    fields.group_size = static_cast<std::uint32_t>(group_size_i.read());
    fields.group_left = static_cast<std::uint32_t>(group_left_i.read());
    fields.paired = paired_i.read();
    fields.acc_continue = acc_continue_i.read();
    fields.group_continue = group_continue_i.read();
    fields.k_last = k_last_i.read();
    fields.levels = static_cast<unsigned>(levels_i.read());
    walk_.start(fields);
  } else if (walk_.valid() && ready_i.read()) {
    walk_.advance();
  } else {
    return;
  }
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void TileWalker::drive_tile() {
  const TileWalk::Tile& tile = walk_.tile();
  valid_o.write(tile.valid);
  tile_k_o.write(tile.tile_k);
  cols_o.write(tile.cols);
  which_o.write(tile.which);
  level_o.write(tile.level);
  group_first_o.write(tile.group_first);
  group_end_o.write(tile.group_end);
  rewind_o.write(tile.rewind);
  acc_first_o.write(tile.acc_first);
  block_first_o.write(tile.block_first);
  block_end_o.write(tile.block_end);
  last_o.write(tile.last);
}

}  // namespace moesaic::cycle
