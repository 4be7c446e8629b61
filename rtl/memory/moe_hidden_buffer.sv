/// The hidden rows h, 4 int16 a word, and per token the largest and smallest h seen, from which eh follows: the least
/// e >= 0 for which both (and so every h between them) fit act_bits after rshift_round(h, e). One write a cycle, visible
/// the next cycle; combinational reads. The words are not reset, the extremes are.
module moe_hidden_buffer #(
  parameter int unsigned HiddenDepth = 64,  // words, power of two
  parameter int unsigned MaxTokens   = 4,   // tokens tracked, power of two, 1..128
  localparam int unsigned AddrW      = $clog2(HiddenDepth)
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             write_valid_i,
  input  logic [AddrW-1:0] write_addr_i,
  input  logic [moe_pkg::TokenBits-1:0] write_token_i,
  input  logic [3:0]       write_mask_i,   // lanes written and tracked
  input  logic [63:0]      write_data_i,   // lane l at 16*l
  input  logic             store_i,        // 0: only track
  input  logic             clear_i,        // forget the extremes; a write at the same edge counts
  input  logic [4:0]       act_bits_i,     // 4, 8 or 16
  input  logic [AddrW-1:0] read_addr_i,
  output logic [63:0]      read_data_o,
  input  logic [moe_pkg::TokenBits-1:0] eh_token_a_i,
  output logic [4:0]       eh_a_o,
  input  logic [moe_pkg::TokenBits-1:0] eh_token_b_i,
  output logic [4:0]       eh_b_o
);
  if (HiddenDepth < 2 || (HiddenDepth & (HiddenDepth - 1)) != 0) begin : gen_bad_depth
    $fatal(1, "moe_hidden_buffer: HiddenDepth must be a power of two");
  end
  if (MaxTokens < 1 || MaxTokens > 128 || (MaxTokens & (MaxTokens - 1)) != 0) begin : gen_bad_tokens
    $fatal(1, "moe_hidden_buffer: MaxTokens must be a power of two in 1..128");
  end

  logic [3:0][15:0] mem_q [HiddenDepth];
  logic [MaxTokens-1:0][15:0] max_d, max_q, min_d, min_q;  // signed; never above and below 0, which always fits

  assign read_data_o = mem_q[read_addr_i];

  always_comb begin
    max_d = clear_i ? '0 : max_q;
    min_d = clear_i ? '0 : min_q;
    for (int unsigned t = 0; t < MaxTokens; t++) begin
      for (int unsigned l = 0; l < 4; l++) begin
        if (write_valid_i && write_token_i == moe_pkg::TokenBits'(t) && write_mask_i[l]) begin
          if ($signed(write_data_i[16*l +: 16]) > $signed(max_d[t])) max_d[t] = write_data_i[16*l +: 16];
          if ($signed(write_data_i[16*l +: 16]) < $signed(min_d[t])) min_d[t] = write_data_i[16*l +: 16];
        end
      end
    end
  end

  // Whether rshift_round(v, e) fits act_bits, e = 0..15 as a bit vector; 16 bits always fit.
  function automatic logic [15:0] fit_mask(logic [15:0] v, logic [4:0] act_bits);
    logic signed [17:0] twice, rounded, limit;
    limit    = (act_bits == 5'd4) ? 18'sd8 : (act_bits == 5'd8) ? 18'sd128 : 18'sd32768;
    twice    = $signed({v[15], v, 1'b0});
    fit_mask = '0;
    for (int unsigned e = 0; e < 16; e++) begin
      rounded     = (twice >>> (e + 1)) + $signed({17'b0, twice[e]});  // twice[0] is 0: nothing to round at e = 0
      fit_mask[e] = rounded < limit && rounded >= -limit;
    end
  endfunction

  function automatic logic [4:0] least_shift(logic [15:0] largest, logic [15:0] smallest, logic [4:0] act_bits);
    logic [15:0] fit;
    fit         = fit_mask(largest, act_bits) & fit_mask(smallest, act_bits);
    least_shift = '0;
    for (int unsigned e = 16; e > 0; e--) begin
      if (fit[e-1]) least_shift = 5'(e - 1);
    end
  endfunction

  logic [15:0] max_a, min_a, max_b, min_b;
  always_comb begin
    max_a = '0;
    min_a = '0;
    max_b = '0;
    min_b = '0;
    for (int unsigned t = 0; t < MaxTokens; t++) begin
      if (eh_token_a_i == moe_pkg::TokenBits'(t)) begin
        max_a = max_q[t];
        min_a = min_q[t];
      end
      if (eh_token_b_i == moe_pkg::TokenBits'(t)) begin
        max_b = max_q[t];
        min_b = min_q[t];
      end
    end
  end
  assign eh_a_o = least_shift(max_a, min_a, act_bits_i);
  assign eh_b_o = least_shift(max_b, min_b, act_bits_i);

  always_ff @(posedge clk_i) begin
    for (int unsigned l = 0; l < 4; l++) begin
      if (write_valid_i && store_i && write_mask_i[l]) mem_q[write_addr_i][l] <= write_data_i[16*l +: 16];
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      max_q <= '0;
      min_q <= '0;
    end else begin
      max_q <= max_d;
      min_q <= min_d;
    end
  end

`ifndef SYNTHESIS
  WritesTrackedToken_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      write_valid_i |-> 32'(write_token_i) < MaxTokens);
`endif
endmodule
