/// Group dequantisation: collects P (per token and column) and X (per token) over a group's tiles, then forms
///   value = s * (P * 2^up - z * X)
/// once per group, and once per bundle where weights have several. Three stages: P and X; D; s * D. Rate 1 beat/cycle, latency 3 cycles from the group's last beat to add_*.
/// `combine` brings its own D and s by direct_*, which enters at the second stage while the first is empty.
/// All values are 48 bits and wrap; lowering has proved that the final ones fit.
/// param_* is one group's s, z and up; it is consumed with the group end of the command's last token.
module moe_group_dequant #(
  parameter int unsigned Rows = 8,        // PEs along k, a power of two in 4..64
  parameter int unsigned Cols = 8,        // columns, a power of two in 4..64
  parameter int unsigned MaxActBits = 8,  // bits of an activation: 4, 8 or 16
  parameter int unsigned MaxTokens = 8,   // tokens, a power of two in 1..128
  localparam int unsigned RowSumBits = MaxActBits + $clog2(Rows),
  localparam int unsigned SumBits = RowSumBits + 8
) (
  input  logic                                        clk_i,
  input  logic                                        rst_ni,

  input  logic                                        sum_valid_i,
  output logic                                        sum_ready_o,
  input  logic [Cols-1:0][SumBits-1:0]                sum_i,          // signed
  input  logic [RowSumBits-1:0]                       rowsum_i,       // signed
  input  logic [moe_pkg::TagBits-1:0]                 sum_tag_i,

  input  logic                                        param_valid_i,
  output logic                                        param_ready_o,
  input  logic [Cols-1:0][moe_pkg::SBits-1:0]         param_s_i,      // unsigned
  input  logic [Cols-1:0][moe_pkg::ZBits-1:0]         param_z_i,      // signed
  input  logic [2:0]                                  param_up_i,
  input  logic [7:0]                                  tokens_i,       // 1..MaxTokens, stable while a command works

  input  logic                                        direct_valid_i,
  output logic                                        direct_ready_o,
  input  logic [moe_pkg::TokenBits-1:0]               direct_token_i,
  input  logic [moe_pkg::SBits-1:0]                   direct_s_i,     // unsigned
  input  logic [Cols-1:0][15:0]                       direct_d_i,     // signed
  input  logic                                        direct_first_i,
  input  logic                                        direct_done_i,

  output logic                                        add_valid_o,
  input  logic                                        add_ready_i,
  output logic [moe_pkg::TokenBits-1:0]               add_token_o,
  output logic                                        add_first_o,    // overwrites the accumulators
  output logic                                        add_done_o,     // the block is complete
  output logic [Cols-1:0][moe_pkg::AccBits-1:0]       add_value_o,    // signed

  output logic                                        idle_o,         // nothing inside
  output logic [1:0]                                  activity_o
);
  if (MaxTokens > 128 || !moe_pkg::is_pow2(MaxTokens)) begin : gen_bad_tokens
    $fatal(1, "moe_group_dequant: MaxTokens must be a power of two in 1..128");
  end
  if (Cols < 4 || Cols > 64 || !moe_pkg::is_pow2(Cols)) begin : gen_bad_cols
    $fatal(1, "moe_group_dequant: Cols must be a power of two in 4..64");
  end

  localparam int unsigned AccBits = moe_pkg::AccBits;
  localparam int unsigned TokenAddrBits = (MaxTokens > 1) ? $clog2(MaxTokens) : 1;

  // Stage 1: P and X of the token.
  logic                              sum_fire, fresh, sum_last, open_d, open_q;
  logic [TokenAddrBits-1:0]          token;
  logic [0:0][Cols-1:0][AccBits-1:0] p_old;
  logic [Cols-1:0][AccBits-1:0]      p_new;
  logic [0:0][AccBits-1:0]           x_old;
  logic [AccBits-1:0]                x_new;

  logic                              valid1_d, valid1_q, last1_d, last1_q, first1_d, first1_q, done1_d, done1_q;
  logic [moe_pkg::TokenBits-1:0]     token1_d, token1_q;
  logic [Cols-1:0][AccBits-1:0]      p1_d, p1_q;
  logic [AccBits-1:0]                x1_d, x1_q;

  // Stage 2: D. Stage 3: s * D.
  logic                              valid2_d, valid2_q, first2_d, first2_q, done2_d, done2_q;
  logic [moe_pkg::TokenBits-1:0]     token2_d, token2_q;
  logic [Cols-1:0][AccBits-1:0]      d2_d, d2_q;
  logic [Cols-1:0][moe_pkg::SBits-1:0] s2_d, s2_q;
  logic                              valid3_d, valid3_q, first3_d, first3_q, done3_d, done3_q;
  logic [moe_pkg::TokenBits-1:0]     token3_d, token3_q;
  logic [Cols-1:0][AccBits-1:0]      value3_d, value3_q;
  logic                              advance1, advance2, advance3, leave1, direct_fire;

  assign advance3       = !valid3_q || add_ready_i;
  assign advance2       = !valid2_q || advance3;
  assign leave1         = valid1_q && param_valid_i && advance2;
  assign advance1       = !valid1_q || leave1;
  assign sum_ready_o    = advance1;
  assign param_ready_o  = valid1_q && last1_q && advance2;
  assign direct_ready_o = !valid1_q && advance2;
  assign sum_fire       = sum_valid_i && sum_ready_o;
  assign direct_fire    = direct_valid_i && direct_ready_o;

  assign token    = sum_tag_i[TokenAddrBits-1:0];
  assign fresh    = sum_tag_i[moe_pkg::TagDigitFirst] && sum_tag_i[moe_pkg::TagGroupFirst];
  assign sum_last = 8'(sum_tag_i[moe_pkg::TokenBits-1:0]) == tokens_i - 8'd1;

  moe_regfile #(.Width(Cols * AccBits), .Depth(MaxTokens)) u_p (
    .clk_i(clk_i), .write_i(sum_fire), .write_addr_i(token), .write_data_i(p_new),
    .read_addr_i(token), .read_data_o(p_old));
  moe_regfile #(.Width(AccBits), .Depth(MaxTokens)) u_x (
    .clk_i(clk_i), .write_i(sum_fire), .write_addr_i(token), .write_data_i(x_new),
    .read_addr_i(token), .read_data_o(x_old));

  for (genvar c = 0; c < Cols; c++) begin : gen_p
    assign p_new[c] = (fresh ? '0 : p_old[0][c]) + AccBits'($signed(sum_i[c]));
  end
  // The activations of a tile count once, with its first digit.
  assign x_new = (fresh ? '0 : x_old[0]) +
                 (sum_tag_i[moe_pkg::TagDigitFirst] ? AccBits'($signed(rowsum_i)) : '0);

  always_comb begin
    valid1_d = valid1_q;
    last1_d  = last1_q;
    first1_d = first1_q;
    done1_d  = done1_q;
    token1_d = token1_q;
    p1_d     = p1_q;
    x1_d     = x1_q;
    open_d   = open_q;
    if (advance1) valid1_d = sum_fire && sum_tag_i[moe_pkg::TagGroupEnd];
    if (sum_fire) begin
      open_d   = !(sum_tag_i[moe_pkg::TagGroupEnd] && sum_last);
      last1_d  = sum_last;
      first1_d = sum_tag_i[moe_pkg::TagAccFirst];
      done1_d  = sum_tag_i[moe_pkg::TagBlockDone];
      token1_d = sum_tag_i[moe_pkg::TokenBits-1:0];
      p1_d     = p_new;
      x1_d     = x_new;
    end
  end

  // Signed by signed, so that synthesis sees multipliers as narrow as z and s are.
  logic [Cols-1:0][AccBits-1:0] offset, scaled;
  for (genvar c = 0; c < Cols; c++) begin : gen_product
    assign offset[c] = AccBits'($signed(param_z_i[c])) * $signed(x1_q);
    assign scaled[c] = AccBits'($signed({1'b0, s2_q[c]})) * $signed(d2_q[c]);
  end

  always_comb begin
    valid2_d = valid2_q;
    first2_d = first2_q;
    done2_d  = done2_q;
    token2_d = token2_q;
    s2_d     = s2_q;
    d2_d     = d2_q;
    if (advance2) valid2_d = leave1 || direct_fire;
    if (leave1) begin
      first2_d = first1_q;
      done2_d  = done1_q;
      token2_d = token1_q;
      s2_d     = param_s_i;
      for (int unsigned c = 0; c < Cols; c++) begin
        d2_d[c] = (p1_q[c] << param_up_i) - offset[c];
      end
    end else if (direct_fire) begin
      first2_d = direct_first_i;
      done2_d  = direct_done_i;
      token2_d = direct_token_i;
      s2_d     = {Cols{direct_s_i}};
      for (int unsigned c = 0; c < Cols; c++) d2_d[c] = AccBits'($signed(direct_d_i[c]));
    end
  end

  always_comb begin
    valid3_d = valid3_q;
    first3_d = first3_q;
    done3_d  = done3_q;
    token3_d = token3_q;
    value3_d = value3_q;
    if (advance3) begin
      valid3_d = valid2_q;
      first3_d = valid2_q && first2_q;
      done3_d  = valid2_q && done2_q;
      token3_d = valid2_q ? token2_q : '0;
      for (int unsigned c = 0; c < Cols; c++) value3_d[c] = valid2_q ? scaled[c] : '0;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      open_q   <= 1'b0;
      valid1_q <= 1'b0;
      last1_q  <= 1'b0;
      valid2_q <= 1'b0;
      valid3_q <= 1'b0;
      first3_q <= 1'b0;
      done3_q  <= 1'b0;
      token3_q <= '0;
      value3_q <= '0;
    end else begin
      open_q   <= open_d;
      valid1_q <= valid1_d;
      last1_q  <= last1_d;
      valid2_q <= valid2_d;
      valid3_q <= valid3_d;
      first3_q <= first3_d;
      done3_q  <= done3_d;
      token3_q <= token3_d;
      value3_q <= value3_d;
    end
  end
  // Payload behind a valid bit needs no reset.
  always_ff @(posedge clk_i) begin
    first1_q <= first1_d;
    done1_q  <= done1_d;
    token1_q <= token1_d;
    p1_q     <= p1_d;
    x1_q     <= x1_d;
    first2_q <= first2_d;
    done2_q  <= done2_d;
    token2_q <= token2_d;
    s2_q     <= s2_d;
    d2_q     <= d2_d;
  end

  assign add_valid_o = valid3_q;
  assign add_token_o = token3_q;
  assign add_first_o = first3_q;
  assign add_done_o  = done3_q;
  assign add_value_o = value3_q;
  assign idle_o      = !valid1_q && !valid2_q && !valid3_q;

  always_comb begin
    activity_o = moe_commands_pkg::ActivityIdle;
    if (sum_fire || leave1 || direct_fire || (valid2_q && advance3) || (valid3_q && add_ready_i)) begin
      activity_o = moe_commands_pkg::ActivityBusy;
    end else if (valid3_q) begin
      activity_o = moe_commands_pkg::ActivityBlocked;
    end else if (valid1_q || open_q) begin
      activity_o = moe_commands_pkg::ActivityStarved;
    end
  end

`ifndef SYNTHESIS
  TokenInRange_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
    sum_valid_i |-> 8'(sum_tag_i[moe_pkg::TokenBits-1:0]) < tokens_i && 32'(tokens_i) <= MaxTokens);
  DirectNeverMeetsSums_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
    !(sum_valid_i && direct_valid_i));
  moe_channel_check #(.Width(Cols * SumBits + RowSumBits + moe_pkg::TagBits)) u_check_sum (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(sum_valid_i), .ready_i(sum_ready_o),
    .payload_i({sum_i, rowsum_i, sum_tag_i}));
  moe_channel_check #(.Width(Cols * (moe_pkg::SBits + moe_pkg::ZBits) + 3)) u_check_param (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(param_valid_i), .ready_i(param_ready_o),
    .payload_i({param_s_i, param_z_i, param_up_i}));
  moe_channel_check #(.Width(Cols * 16 + moe_pkg::SBits + moe_pkg::TokenBits + 2)) u_check_direct (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(direct_valid_i), .ready_i(direct_ready_o),
    .payload_i({direct_d_i, direct_s_i, direct_token_i, direct_first_i, direct_done_i}));
  moe_channel_check #(.Width(Cols * AccBits + moe_pkg::TokenBits + 2)) u_check_add (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(add_valid_o), .ready_i(add_ready_i),
    .payload_i({add_value_o, add_token_o, add_first_o, add_done_o}));
`endif
endmodule
