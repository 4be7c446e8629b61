/// Runs load_act and combine.
///   load_act: for each token, k elements from memory (its stream reader) or from the hidden buffer, walked in tiles; each
///     tile becomes one word of the activation buffer, zero-filled, at token * act_stride + tile. 4 elements a cycle.
///   combine: for block of columns, token, expert: r, then the expert's row of the block; offered on direct_*. Per (token,
///     expert) one cycle for r, one per AxiDataWidth bits of the row, one to offer.
/// Segments are issued ahead of what is consumed, one a cycle. done_o pulses the cycle after the last write or transfer.
module moe_act_loader #(
  parameter int unsigned Rows         = 8,   // activations per word
  parameter int unsigned Cols         = 8,   // columns per block
  parameter int unsigned MaxActBits   = 8,   // bits of an activation in the buffer
  parameter int unsigned AxiDataWidth = 64,  // bits of the stream seen at once
  parameter int unsigned ActDepth     = 64,  // words of the activation buffer
  parameter int unsigned HiddenDepth  = 64,  // words of the hidden buffer
  localparam int unsigned ActAddrW    = $clog2(ActDepth),
  localparam int unsigned HiddenAddrW = $clog2(HiddenDepth),
  localparam int unsigned AvailW      = $clog2(3 * AxiDataWidth + 1)  // of the stream reader
) (
  input  logic                       clk_i,
  input  logic                       rst_ni,
  input  logic                       start_i,            // pulse; only while idle
  input  moe_commands_pkg::cmd_t     cmd_i,              // load_act or combine, stable from start_i to done_o
  output logic                       done_o,
  output logic [moe_pkg::TokenBits-1:0] row_token_o,        // row table lookup
  input  logic [39:0]                row_in_addr_i,
  output logic                       seg_valid_o,
  input  logic                       seg_ready_i,
  output logic [39:0]                seg_addr_o,
  output logic [31:0]                seg_bytes_o,
  input  logic [AvailW-1:0]          avail_i,
  input  logic [AxiDataWidth-1:0]    data_i,
  output logic [AvailW-1:0]          pop_o,
  output logic [HiddenAddrW-1:0]     hidden_addr_o,      // hidden buffer read
  input  logic [63:0]                hidden_data_i,
  output logic [moe_pkg::TokenBits-1:0] eh_token_o,
  input  logic [4:0]                 eh_i,
  output logic                       act_write_valid_o,  // activation buffer write
  output logic [ActAddrW-1:0]        act_write_addr_o,
  output logic [Rows*MaxActBits-1:0] act_write_data_o,
  output logic                       direct_valid_o,     // r * row to the accumulators
  input  logic                       direct_ready_i,
  output logic [moe_pkg::TokenBits-1:0] direct_token_o,
  output logic [15:0]                direct_s_o,
  output logic [Cols*16-1:0]         direct_d_o,
  output logic                       direct_first_o,     // first expert
  output logic                       direct_done_o,      // last expert of the block's last token
  output logic [1:0]                 activity_o
);
  if (Rows < 4 || Rows % 4 != 0) begin : gen_bad_rows
    $fatal(1, "moe_act_loader: Rows must be a multiple of 4");
  end
  if (MaxActBits > 16) begin : gen_bad_act_bits
    $fatal(1, "moe_act_loader: MaxActBits must be at most 16");
  end
  if (AxiDataWidth < 64) begin : gen_bad_width
    $fatal(1, "moe_act_loader: AxiDataWidth must be at least 64");
  end

  localparam int unsigned RowCols = (AxiDataWidth / 16 < Cols) ? AxiDataWidth / 16 : Cols;  // int16 taken a cycle

  typedef enum logic [1:0] {StIdle, StLoad, StCombine} state_e;
  typedef enum logic [1:0] {PartR, PartRow, PartOffer} part_e;

  state_e state_d, state_q;
  logic   done_d, done_q;

  logic start_load, start_combine, load_memory, finish;
  assign start_load    = start_i && cmd_i.opcode == moe_commands_pkg::OpLoadAct;
  assign start_combine = start_i && cmd_i.opcode == moe_commands_pkg::OpCombine;
  assign load_memory   = !cmd_i.source_hidden;

  logic unused_data;  // a narrow block takes only the low bits
  assign unused_data = ^data_i;

  // ---- segments ----
  logic        issue_d, issue_q;            // segments are left
  logic        issue_row_d, issue_row_q;    // combine: the row follows its r
  logic [7:0]  issue_token_d, issue_token_q;
  logic [31:0] issue_expert_d, issue_expert_q;
  logic [31:0] issue_n_d, issue_n_q;        // combine: columns left, this block's included
  logic [39:0] issue_r_d, issue_r_q;        // address of the next r
  logic [39:0] issue_at_d, issue_at_q;      // bytes from the token's row to the block
  logic [39:0] issue_step_d, issue_step_q;  // bytes from the first expert's row to this one's
  logic        issue_combine, issue_fire, issue_token_last, issue_expert_last, issue_n_last;
  logic [6:0]  issue_cols;

  assign issue_combine     = state_q == StCombine;
  assign issue_n_last      = issue_n_q <= 32'(Cols);
  assign issue_cols        = issue_n_last ? issue_n_q[6:0] : 7'(Cols);
  assign issue_token_last  = issue_token_q + 8'd1 == cmd_i.tokens;
  assign issue_expert_last = issue_expert_q + 32'd1 == cmd_i.k;
  assign issue_fire        = seg_valid_o && seg_ready_i;

  assign row_token_o = issue_q ? issue_token_q[moe_pkg::TokenBits-1:0] : '0;
  assign seg_valid_o = issue_q;
  always_comb begin
    seg_addr_o  = '0;
    seg_bytes_o = '0;
    if (issue_q) begin
      if (issue_combine && !issue_row_q) begin
        seg_addr_o  = issue_r_q;
        seg_bytes_o = 32'd2;
      end else begin
        seg_addr_o  = row_in_addr_i + issue_at_q + issue_step_q;
        seg_bytes_o = issue_combine ? {24'b0, issue_cols, 1'b0} : (cmd_i.elem_bytes == 2'd2) ? cmd_i.k << 1 : cmd_i.k;
      end
    end
  end

  always_comb begin
    issue_d        = issue_q;
    issue_row_d    = issue_row_q;
    issue_token_d  = issue_token_q;
    issue_expert_d = issue_expert_q;
    issue_n_d      = issue_n_q;
    issue_r_d      = issue_r_q;
    issue_at_d     = issue_at_q;
    issue_step_d   = issue_step_q;
    if (start_i) begin
      issue_d        = start_combine || (start_load && load_memory);
      issue_row_d    = 1'b0;
      issue_token_d  = '0;
      issue_expert_d = '0;
      issue_n_d      = cmd_i.n;
      issue_r_d      = cmd_i.requant_addr;
      issue_at_d     = 40'(cmd_i.offset);
      issue_step_d   = '0;
    end else if (issue_fire && !issue_combine) begin
      issue_token_d = issue_token_q + 8'd1;
      issue_d       = !issue_token_last;
    end else if (issue_fire && !issue_row_q) begin
      issue_row_d = 1'b1;
      issue_r_d   = issue_r_q + 40'd2;
    end else if (issue_fire) begin
      issue_row_d    = 1'b0;
      issue_expert_d = issue_expert_last ? '0 : issue_expert_q + 32'd1;
      issue_step_d   = issue_expert_last ? '0 : issue_step_q + cmd_i.plane_stride;
      if (issue_expert_last) begin
        issue_token_d = issue_token_last ? '0 : issue_token_q + 8'd1;
        if (issue_token_last) begin
          issue_n_d  = issue_n_q - 32'(issue_cols);
          issue_at_d = issue_at_q + 40'({issue_cols, 1'b0});
          issue_r_d  = cmd_i.requant_addr;
          issue_d    = !issue_n_last;
        end
      end
    end
  end

  // ---- load_act: tiles of each token in turn (the walker's blocks are tokens) ----
  logic       tile_valid, tile_next, tile_last, block_end, unused_walk;
  logic       which, group_first, group_end, rewind, acc_first, block_first;
  logic [2:0] level;
  logic [6:0] tile_k, walk_cols;

  moe_tile_walker #(
    .Rows(Rows),
    .Cols(Cols)
  ) u_walker (
    .clk_i,
    .rst_ni,
    .start_i         (start_load),
    .n_i             (32'(cmd_i.tokens) * 32'(Cols)),
    .k_i             (cmd_i.k),
    .group_size_i    (cmd_i.group_size),
    .group_left_i    (cmd_i.group_left),
    .paired_i        (1'b0),
    .acc_continue_i  (1'b0),
    .group_continue_i(1'b0),
    .k_last_i        (1'b0),
    .levels_i        ('0),
    .valid_o         (tile_valid),
    .ready_i         (tile_next),
    .tile_k_o        (tile_k),
    .cols_o          (walk_cols),
    .which_o         (which),
    .level_o         (level),
    .group_first_o   (group_first),
    .group_end_o     (group_end),
    .rewind_o        (rewind),
    .acc_first_o     (acc_first),
    .block_first_o   (block_first),
    .block_end_o     (block_end),
    .last_o          (tile_last)
  );
  assign unused_walk = ^{which, level, group_first, group_end, rewind, acc_first, block_first, walk_cols};

  logic [6:0]                 row_d, row_q;                // first activation of this step in its word
  logic [moe_pkg::TokenBits-1:0] token_d, token_q;            // consumed; load_act and combine
  logic [ActAddrW-1:0]        act_base_d, act_base_q;      // token's first word
  logic [ActAddrW-1:0]        act_addr_d, act_addr_q;
  logic [HiddenAddrW-1:0]     hidden_base_d, hidden_base_q;
  logic [HiddenAddrW-1:0]     hidden_addr_d, hidden_addr_q;
  logic [Rows*MaxActBits-1:0] word_d, word_q;

  logic [6:0] rows_left;
  logic [2:0] load_count;  // elements of this step
  logic [AvailW-1:0] load_bits;
  logic       load_step, load_end;

  assign rows_left  = tile_k - row_q;
  assign load_count = (rows_left < 7'd4) ? rows_left[2:0] : 3'd4;
  assign load_end   = rows_left <= 7'd4;
  assign load_bits  = (cmd_i.elem_bytes == 2'd2) ? AvailW'({load_count, 4'b0}) : AvailW'({load_count, 3'b0});
  assign load_step  = tile_valid && (cmd_i.source_hidden || avail_i >= load_bits);
  assign tile_next  = load_step && load_end;

  logic [3:0][MaxActBits-1:0] lane;
  for (genvar l = 0; l < 4; l++) begin : gen_lane
    logic [15:0]        raw;
    logic signed [17:0] twice, shifted;
    always_comb begin
      if (cmd_i.source_hidden) begin
        raw = hidden_data_i[16*l +: 16];
      end else if (cmd_i.elem_bytes == 2'd2) begin
        raw = data_i[16*l +: 16];
      end else begin
        raw = {{8{data_i[8*l+7]}}, data_i[8*l +: 8]};
      end
      // rshift_round on twice the value: the bit that is rounded lands in bit 0.
      twice   = $signed({raw[15], raw, 1'b0});
      shifted = twice >>> (cmd_i.shift_hidden ? eh_i : 5'd0);
      lane[l] = (3'(l) < load_count) ? MaxActBits'(17'(shifted >>> 1) + {16'b0, shifted[0]}) : '0;
    end
  end

  always_comb begin
    word_d = word_q;
    for (int unsigned q = 0; q < Rows / 4; q++) begin
      if (load_step && row_q == 7'(4 * q)) begin
        word_d[q*4*MaxActBits +: 4*MaxActBits] = lane;
      end else if (load_step && row_q == '0) begin
        word_d[q*4*MaxActBits +: 4*MaxActBits] = '0;
      end
    end
  end

  assign act_write_valid_o = tile_next;
  assign act_write_addr_o  = tile_next ? act_addr_q : '0;
  assign act_write_data_o  = tile_next ? word_d : '0;
  assign hidden_addr_o     = (tile_valid && cmd_i.source_hidden) ? hidden_addr_q : '0;
  assign eh_token_o        = (tile_valid && cmd_i.shift_hidden) ? token_q : '0;

  // ---- combine ----
  part_e              part_d, part_q;
  logic [31:0]        expert_d, expert_q;
  logic [31:0]        n_d, n_q;        // columns left, this block's included
  logic [6:0]         col_d, col_q;
  logic [15:0]        s_d, s_q;
  logic [Cols*16-1:0] row_data_d, row_data_q;
  logic [6:0]         cols, cols_left, take_cols;
  logic [AvailW-1:0]  combine_bits;
  logic               combine_step, take_last, token_last, expert_last, n_last, direct_fire;

  assign n_last       = n_q <= 32'(Cols);
  assign cols         = n_last ? n_q[6:0] : 7'(Cols);
  assign cols_left    = cols - col_q;
  assign take_last    = cols_left <= 7'(RowCols);
  assign take_cols    = take_last ? cols_left : 7'(RowCols);
  assign combine_bits = (part_q == PartR) ? AvailW'(16) : AvailW'({take_cols, 4'b0});
  assign combine_step = state_q == StCombine && part_q != PartOffer && avail_i >= combine_bits;
  assign token_last   = 8'(token_q) + 8'd1 == cmd_i.tokens;
  assign expert_last  = expert_q + 32'd1 == cmd_i.k;
  assign direct_fire  = direct_valid_o && direct_ready_i;

  assign direct_valid_o = state_q == StCombine && part_q == PartOffer;
  assign direct_token_o = direct_valid_o ? token_q : '0;
  assign direct_s_o     = direct_valid_o ? s_q : '0;
  assign direct_d_o     = direct_valid_o ? row_data_q : '0;
  assign direct_first_o = direct_valid_o && expert_q == '0;
  assign direct_done_o  = direct_valid_o && expert_last && token_last;

  for (genvar c = 0; c < int'(Cols); c++) begin : gen_col
    localparam int unsigned At = c % RowCols;
    always_comb begin
      row_data_d[c*16 +: 16] = row_data_q[c*16 +: 16];
      if (combine_step && part_q == PartRow) begin
        if (col_q == 7'(c - At)) begin
          row_data_d[c*16 +: 16] = (7'(c) < cols) ? data_i[At*16 +: 16] : '0;
        end else if (col_q == '0) begin
          row_data_d[c*16 +: 16] = '0;
        end
      end
    end
  end

  assign finish = (tile_next && tile_last) || (direct_fire && direct_done_o && n_last);
  assign done_o = done_q;

  always_comb begin
    pop_o = '0;
    if (load_step && load_memory) pop_o = load_bits;
    if (combine_step) pop_o = combine_bits;
  end

  always_comb begin
    state_d       = state_q;
    done_d        = finish;
    row_d         = row_q;
    token_d       = token_q;
    act_base_d    = act_base_q;
    act_addr_d    = act_addr_q;
    hidden_base_d = hidden_base_q;
    hidden_addr_d = hidden_addr_q;
    part_d        = part_q;
    expert_d      = expert_q;
    n_d           = n_q;
    col_d         = col_q;
    s_d           = s_q;
    if (start_i) begin
      state_d       = start_combine ? StCombine : start_load ? StLoad : StIdle;
      row_d         = '0;
      token_d       = '0;
      act_base_d    = '0;
      act_addr_d    = '0;
      hidden_base_d = HiddenAddrW'(cmd_i.hidden_base);
      hidden_addr_d = HiddenAddrW'(cmd_i.hidden_base);
      part_d        = PartR;
      expert_d      = '0;
      n_d           = cmd_i.n;
      col_d         = '0;
    end else if (finish) begin
      state_d = StIdle;
    end
    if (load_step) begin
      row_d         = load_end ? '0 : row_q + 7'd4;
      hidden_addr_d = hidden_addr_q + HiddenAddrW'(1);
      if (load_end) begin
        act_addr_d = act_addr_q + ActAddrW'(1);
        if (block_end) begin
          token_d       = token_q + moe_pkg::TokenBits'(1);
          act_base_d    = act_base_q + ActAddrW'(cmd_i.act_stride);
          act_addr_d    = act_base_q + ActAddrW'(cmd_i.act_stride);
          hidden_base_d = hidden_base_q + HiddenAddrW'(cmd_i.hidden_stride);
          hidden_addr_d = hidden_base_q + HiddenAddrW'(cmd_i.hidden_stride);
        end
      end
    end
    if (combine_step) begin
      if (part_q == PartR) begin
        s_d    = data_i[15:0];
        part_d = PartRow;
      end else begin
        col_d  = take_last ? '0 : col_q + take_cols;
        part_d = take_last ? PartOffer : PartRow;
      end
    end
    if (direct_fire) begin
      part_d   = PartR;
      expert_d = expert_last ? '0 : expert_q + 32'd1;
      if (expert_last) begin
        token_d = token_last ? '0 : token_q + moe_pkg::TokenBits'(1);
        n_d     = token_last ? n_q - 32'(cols) : n_q;
      end
    end
  end

  always_comb begin
    if (start_i || issue_fire || load_step || combine_step || direct_fire) begin
      activity_o = moe_commands_pkg::ActivityBusy;
    end else if (state_q == StIdle) begin
      activity_o = moe_commands_pkg::ActivityIdle;
    end else if (direct_valid_o) begin
      activity_o = moe_commands_pkg::ActivityBlocked;
    end else begin
      activity_o = moe_commands_pkg::ActivityStarved;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      state_q        <= StIdle;
      done_q         <= 1'b0;
      issue_q        <= 1'b0;
      issue_row_q    <= 1'b0;
      issue_token_q  <= '0;
      issue_expert_q <= '0;
      issue_n_q      <= '0;
      issue_r_q      <= '0;
      issue_at_q     <= '0;
      issue_step_q   <= '0;
      row_q          <= '0;
      token_q        <= '0;
      act_base_q     <= '0;
      act_addr_q     <= '0;
      hidden_base_q  <= '0;
      hidden_addr_q  <= '0;
      word_q         <= '0;
      part_q         <= PartR;
      expert_q       <= '0;
      n_q            <= '0;
      col_q          <= '0;
      s_q            <= '0;
      row_data_q     <= '0;
    end else begin
      state_q        <= state_d;
      done_q         <= done_d;
      issue_q        <= issue_d;
      issue_row_q    <= issue_row_d;
      issue_token_q  <= issue_token_d;
      issue_expert_q <= issue_expert_d;
      issue_n_q      <= issue_n_d;
      issue_r_q      <= issue_r_d;
      issue_at_q     <= issue_at_d;
      issue_step_q   <= issue_step_d;
      row_q          <= row_d;
      token_q        <= token_d;
      act_base_q     <= act_base_d;
      act_addr_q     <= act_addr_d;
      hidden_base_q  <= hidden_base_d;
      hidden_addr_q  <= hidden_addr_d;
      word_q         <= word_d;
      part_q         <= part_d;
      expert_q       <= expert_d;
      n_q            <= n_d;
      col_q          <= col_d;
      s_q            <= s_d;
      row_data_q     <= row_data_d;
    end
  end

`ifndef SYNTHESIS
  StartsOnlyWhenIdle_A: assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> state_q == StIdle);
  KnowsTheCommand_A: assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> start_load || start_combine);
  CommandStable_A: assert property (@(posedge clk_i) disable iff (!rst_ni) state_q != StIdle |-> $stable(cmd_i));
  moe_channel_check #(.Width(72)) u_check_seg (
    .clk_i, .rst_ni, .valid_i(seg_valid_o), .ready_i(seg_ready_i), .payload_i({seg_addr_o, seg_bytes_o})
  );
  moe_channel_check #(.Width(Cols*16 + moe_pkg::TokenBits + 18)) u_check_direct (
    .clk_i, .rst_ni, .valid_i(direct_valid_o), .ready_i(direct_ready_i),
    .payload_i({direct_token_o, direct_s_o, direct_d_o, direct_first_o, direct_done_o})
  );
  PopsWhatIsThere_A: assert property (@(posedge clk_i) disable iff (!rst_ni) pop_o <= avail_i);
  // A word of the hidden buffer belongs to one tile: only the last step of a token may be short.
  ShortStepsEndTokens_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      load_step && load_count != 3'd4 |-> block_end);
`endif
endmodule
