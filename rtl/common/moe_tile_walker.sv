/// Walks the tiles of one command: for block of columns, for which (gate, up), for group, for bundle (the first, then
/// levels_i levels), for tile over the group's k. A tile is at most Rows deep, at most Cols wide and never crosses a
/// group. With levels a command that ends inside a group closes it there: the sums are linear, so the next command may
/// open the rest as a group of its own. The first tile is valid the cycle after start_i, then one a cycle.
/// The command's fields stay stable from start_i to the last transfer.
module moe_tile_walker #(
  parameter int unsigned Rows = 8,  // tile depth along k, weights
  parameter int unsigned Cols = 8   // tile width along n, columns
) (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic        start_i,           // begin the walk; only while !valid_o
  input  logic [31:0] n_i,               // columns, >= 1
  input  logic [31:0] k_i,               // weights per column, >= 1
  input  logic [31:0] group_size_i,      // weights per group, >= 1
  input  logic [31:0] group_left_i,      // weights left of the group that the first tile belongs to
  input  logic        paired_i,          // every block twice: gate, then up
  input  logic        acc_continue_i,    // the first group adds to the accumulators
  input  logic        group_continue_i,  // the first tile continues a group
  input  logic        k_last_i,          // the last tile ends K, so it closes its group
  input  logic [2:0]  levels_i,          // walks over a group's tiles after the first
  output logic        valid_o,
  input  logic        ready_i,
  output logic [6:0]  tile_k_o,          // 1..Rows
  output logic [6:0]  cols_o,            // 1..Cols
  output logic        which_o,           // 1: the up half of a pair
  output logic [2:0]  level_o,           // 0: the first bundle
  output logic        group_first_o,     // starts a bundle's group sum
  output logic        group_end_o,       // closes a bundle's group sum
  output logic        rewind_o,          // and the next tile is the group's first again, of the next level
  output logic        acc_first_o,       // its group overwrites the accumulators
  output logic        block_first_o,     // first tile of the block
  output logic        block_end_o,       // last tile of the block
  output logic        last_o             // last tile of the command
);
  if (Rows < 4 || Rows > 64) begin : gen_bad_rows
    $fatal(1, "moe_tile_walker: Rows must be 4..64");
  end
  if (Cols < 4 || Cols > 64) begin : gen_bad_cols
    $fatal(1, "moe_tile_walker: Cols must be 4..64");
  end

  logic        active_d, active_q;
  logic        which_d, which_q;
  logic        block_first_d, block_first_q;
  logic        group_first_d, group_first_q;
  logic        acc_first_d, acc_first_q;
  logic [31:0] n_left_d, n_left_q;
  logic [31:0] k_left_d, k_left_q;
  logic [31:0] group_left_d, group_left_q;
  logic [2:0]  level_d, level_q;
  logic [31:0] begin_k_d, begin_k_q, begin_group_d, begin_group_q;  // k_left and group_left at the group's first tile

  logic [31:0] span;
  logic [6:0]  tile_k, cols;
  logic        k_end, group_end, rewind, block_end, last_cols, last;

  assign span      = (group_left_q < k_left_q) ? group_left_q : k_left_q;
  assign tile_k    = (span < 32'(Rows)) ? span[6:0] : 7'(Rows);
  assign last_cols = n_left_q <= 32'(Cols);
  assign cols      = last_cols ? n_left_q[6:0] : 7'(Cols);
  assign k_end     = 32'(tile_k) == k_left_q;
  assign group_end = (32'(tile_k) == group_left_q) || (k_end && (k_last_i || levels_i != '0));
  assign rewind    = group_end && level_q != levels_i;
  assign block_end = k_end && !rewind;
  assign last      = block_end && last_cols && (which_q || !paired_i);

  assign valid_o       = active_q;
  assign tile_k_o      = active_q ? tile_k : '0;
  assign cols_o        = active_q ? cols : '0;
  assign which_o       = active_q && which_q;
  assign level_o       = active_q ? level_q : '0;
  assign group_first_o = active_q && group_first_q;
  assign group_end_o   = active_q && group_end;
  assign rewind_o      = active_q && rewind;
  assign acc_first_o   = active_q && acc_first_q;
  assign block_first_o = active_q && block_first_q;
  assign block_end_o   = active_q && block_end;
  assign last_o        = active_q && last;

  always_comb begin
    active_d      = active_q;
    which_d       = which_q;
    block_first_d = block_first_q;
    group_first_d = group_first_q;
    acc_first_d   = acc_first_q;
    n_left_d      = n_left_q;
    k_left_d      = k_left_q;
    group_left_d  = group_left_q;
    level_d       = level_q;
    begin_k_d     = begin_k_q;
    begin_group_d = begin_group_q;
    if (start_i) begin
      active_d      = 1'b1;
      which_d       = 1'b0;
      block_first_d = 1'b1;
      group_first_d = !group_continue_i;
      acc_first_d   = !acc_continue_i;
      n_left_d      = n_i;
      k_left_d      = k_i;
      group_left_d  = group_left_i;
      level_d       = '0;
      begin_k_d     = k_i;
      begin_group_d = group_left_i;
    end else if (active_q && ready_i) begin
      if (block_end) begin
        active_d      = !last;
        which_d       = paired_i && !which_q;
        block_first_d = 1'b1;
        group_first_d = !group_continue_i;
        acc_first_d   = !acc_continue_i;
        n_left_d      = (which_q || !paired_i) ? n_left_q - 32'(cols) : n_left_q;
        k_left_d      = k_i;
        group_left_d  = group_left_i;
        level_d       = '0;
        begin_k_d     = k_i;
        begin_group_d = group_left_i;
      end else begin
        block_first_d = 1'b0;
        group_first_d = group_end;
        acc_first_d   = acc_first_q && !group_end;
        if (rewind) begin
          level_d      = level_q + 3'd1;
          k_left_d     = begin_k_q;
          group_left_d = begin_group_q;
        end else begin
          k_left_d     = k_left_q - 32'(tile_k);
          group_left_d = group_end ? group_size_i : group_left_q - 32'(tile_k);
          if (group_end) begin
            level_d       = '0;
            begin_k_d     = k_left_d;
            begin_group_d = group_size_i;
          end
        end
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      active_q      <= 1'b0;
      which_q       <= 1'b0;
      block_first_q <= 1'b0;
      group_first_q <= 1'b0;
      acc_first_q   <= 1'b0;
      n_left_q      <= '0;
      k_left_q      <= '0;
      group_left_q  <= '0;
      level_q       <= '0;
      begin_k_q     <= '0;
      begin_group_q <= '0;
    end else begin
      active_q      <= active_d;
      which_q       <= which_d;
      block_first_q <= block_first_d;
      group_first_q <= group_first_d;
      acc_first_q   <= acc_first_d;
      n_left_q      <= n_left_d;
      k_left_q      <= k_left_d;
      group_left_q  <= group_left_d;
      level_q       <= level_d;
      begin_k_q     <= begin_k_d;
      begin_group_q <= begin_group_d;
    end
  end

`ifndef SYNTHESIS
  StartsOnlyWhenIdle_A: assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> !valid_o);
  StartsWithWork_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      start_i |-> n_i != '0 && k_i != '0 && group_size_i != '0 && group_left_i != '0);
  NoOpenGroupWithLevels_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      start_i |-> levels_i == '0 || !group_continue_i);
  moe_channel_check #(.Width(25)) u_check_tile (
    .clk_i, .rst_ni, .valid_i(valid_o), .ready_i(ready_i),
    .payload_i({tile_k_o, cols_o, which_o, level_o, group_first_o, group_end_o, rewind_o, acc_first_o, block_first_o,
                block_end_o, last_o})
  );
`endif
endmodule
