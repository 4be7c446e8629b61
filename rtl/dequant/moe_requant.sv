/// Requantisation of four accumulators: y = saturate(rshift_round(acc * mu, sigma + shift)).
/// Two stages: product and shift amount; shift, round and saturate. Rate 1 chunk/cycle, latency 2 cycles, stands still while refused.
/// A lane whose shift leaves 0..62 gives 0 and sets shift_error_o; lowering never lets that happen.
module moe_requant #(
  parameter int unsigned MetaBits = 64  // bits that travel with the chunk
) (
  input  logic                                              clk_i,
  input  logic                                              rst_ni,

  input  logic                                              in_valid_i,
  output logic                                              in_ready_o,
  input  logic [moe_pkg::PostLanes-1:0][moe_pkg::AccBits-1:0]   in_acc_i,    // signed
  input  logic [moe_pkg::PostLanes-1:0][moe_pkg::MuBits-1:0]    in_mu_i,     // unsigned
  input  logic [moe_pkg::PostLanes-1:0][moe_pkg::SigmaBits-1:0] in_sigma_i,  // unsigned
  input  logic [moe_pkg::PostLanes-1:0]                     in_mask_i,       // lanes that hold a column; the others give 0
  input  logic [7:0]                                        in_shift_i,      // signed: +e or -eh of the token
  input  logic [4:0]                                        in_out_bits_i,   // 4, 8 or 16
  input  logic [MetaBits-1:0]                               in_meta_i,

  output logic                                              out_valid_o,
  input  logic                                              out_ready_i,
  output logic [moe_pkg::PostLanes-1:0][15:0]               out_y_o,         // signed, sign-extended to 16 bits
  output logic [moe_pkg::PostLanes-1:0][moe_pkg::AccBits-1:0] out_acc_o,     // the accumulators, unchanged
  output logic [MetaBits-1:0]                               out_meta_o,

  output logic                                              shift_error_o,   // sticky until reset
  output logic [1:0]                                        activity_o
);
  if (MetaBits == 0) begin : gen_bad_meta
    $fatal(1, "moe_requant: MetaBits must be at least 1");
  end

  localparam int unsigned Lanes = moe_pkg::PostLanes;

  logic                                   advance, in_fire;
  logic                                   valid1_d, valid1_q, valid2_d, valid2_q, error_d, error_q;
  logic [Lanes-1:0][63:0]                 product1_d, product1_q;
  logic [Lanes-1:0][5:0]                  shift1_d, shift1_q;
  logic [Lanes-1:0]                       good1_d, good1_q, bad;
  logic [4:0]                             bits1_d, bits1_q;
  logic [Lanes-1:0][moe_pkg::AccBits-1:0] acc1_d, acc1_q, acc2_d, acc2_q;
  logic [MetaBits-1:0]                    meta1_d, meta1_q, meta2_d, meta2_q;
  logic [Lanes-1:0][15:0]                 y2_d, y2_q;

  assign advance    = !valid2_q || out_ready_i;
  assign in_ready_o = advance;
  assign in_fire    = in_valid_i && in_ready_o;

  logic [Lanes-1:0][9:0]  shift;    // signed sum of sigma and the token's shift
  logic [Lanes-1:0]       legal;
  logic [Lanes-1:0][63:0] rounded;  // signed

  for (genvar i = 0; i < Lanes; i++) begin : gen_lane
    assign shift[i]   = {2'b00, in_sigma_i[i]} + {{2{in_shift_i[7]}}, in_shift_i};
    assign legal[i]   = !shift[i][9] && (shift[i][8:0] <= 9'(moe_pkg::MaxRequantShift));
    assign bad[i]     = in_mask_i[i] && !legal[i];
    assign rounded[i] = moe_pkg::rshift_round($signed(product1_q[i]), shift1_q[i]);
  end

  always_comb begin
    valid1_d   = valid1_q;
    product1_d = product1_q;
    shift1_d   = shift1_q;
    good1_d    = good1_q;
    bits1_d    = bits1_q;
    acc1_d     = acc1_q;
    meta1_d    = meta1_q;
    valid2_d   = valid2_q;
    y2_d       = y2_q;
    acc2_d     = acc2_q;
    meta2_d    = meta2_q;
    error_d    = error_q;
    if (advance) begin
      valid1_d = in_fire;
      valid2_d = valid1_q;
      acc2_d   = valid1_q ? acc1_q : '0;
      meta2_d  = valid1_q ? meta1_q : '0;
      for (int unsigned i = 0; i < Lanes; i++) begin
        y2_d[i] = (valid1_q && good1_q[i]) ? moe_pkg::saturate($signed(rounded[i]), bits1_q) : '0;
      end
    end
    if (in_fire) begin
      error_d = error_q || (bad != '0);
      bits1_d = in_out_bits_i;
      acc1_d  = in_acc_i;
      meta1_d = in_meta_i;
      for (int unsigned i = 0; i < Lanes; i++) begin
        product1_d[i] = 64'($signed(in_acc_i[i])) * 64'($signed({1'b0, in_mu_i[i]}));
        shift1_d[i]   = shift[i][5:0];
        good1_d[i]    = in_mask_i[i] && legal[i];
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      valid1_q <= 1'b0;
      valid2_q <= 1'b0;
      y2_q     <= '0;
      acc2_q   <= '0;
      meta2_q  <= '0;
      error_q  <= 1'b0;
    end else begin
      valid1_q <= valid1_d;
      valid2_q <= valid2_d;
      y2_q     <= y2_d;
      acc2_q   <= acc2_d;
      meta2_q  <= meta2_d;
      error_q  <= error_d;
    end
  end
  // Payload behind a valid bit needs no reset.
  always_ff @(posedge clk_i) begin
    product1_q <= product1_d;
    shift1_q   <= shift1_d;
    good1_q    <= good1_d;
    bits1_q    <= bits1_d;
    acc1_q     <= acc1_d;
    meta1_q    <= meta1_d;
  end

  assign out_valid_o   = valid2_q;
  assign out_y_o       = y2_q;
  assign out_acc_o     = acc2_q;
  assign out_meta_o    = meta2_q;
  assign shift_error_o = error_q;

  always_comb begin
    activity_o = moe_commands_pkg::ActivityIdle;
    if (in_fire || (advance && (valid1_q || valid2_q))) activity_o = moe_commands_pkg::ActivityBusy;
    else if (!advance) activity_o = moe_commands_pkg::ActivityBlocked;
  end

`ifndef SYNTHESIS
  OutBitsKnown_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
    in_valid_i |-> in_out_bits_i == 5'd4 || in_out_bits_i == 5'd8 || in_out_bits_i == 5'd16);
  moe_channel_check #(
    .Width(Lanes * (moe_pkg::AccBits + moe_pkg::MuBits + moe_pkg::SigmaBits + 1) + 13 + MetaBits)
  ) u_check_in (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(in_valid_i), .ready_i(in_ready_o),
    .payload_i({in_acc_i, in_mu_i, in_sigma_i, in_mask_i, in_shift_i, in_out_bits_i, in_meta_i}));
  moe_channel_check #(.Width(Lanes * (moe_pkg::AccBits + 16) + MetaBits)) u_check_out (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(out_valid_o), .ready_i(out_ready_i),
    .payload_i({out_y_o, out_acc_o, out_meta_o}));
`endif
endmodule
