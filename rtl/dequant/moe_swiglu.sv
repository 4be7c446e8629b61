/// SwiGLU of four elements: h = saturate16(rshift_round(rshift_round(g * S, 15) * u, sigma_h)), S the sigmoid of g by a table of
/// 65 entries with linear interpolation. Three stages: S; g * S; the product with u, shifted and saturated.
/// Rate 1 chunk/cycle, latency 3 cycles, stands still while refused.
module moe_swiglu #(
  parameter int unsigned MetaBits = 64  // bits that travel with the chunk
) (
  input  logic                                clk_i,
  input  logic                                rst_ni,

  input  logic                                in_valid_i,
  output logic                                in_ready_o,
  input  logic [moe_pkg::PostLanes-1:0][15:0] in_g_i,        // signed, 1.0 = 2^10
  input  logic [moe_pkg::PostLanes-1:0][15:0] in_u_i,        // signed
  input  logic [4:0]                          in_sigma_h_i,  // 0..31
  input  logic [MetaBits-1:0]                 in_meta_i,

  output logic                                out_valid_o,
  input  logic                                out_ready_i,
  output logic [moe_pkg::PostLanes-1:0][15:0] out_h_o,       // signed
  output logic [MetaBits-1:0]                 out_meta_o,

  output logic [1:0]                          activity_o
);
  if (MetaBits == 0) begin : gen_bad_meta
    $fatal(1, "moe_swiglu: MetaBits must be at least 1");
  end

  localparam int unsigned Lanes = moe_pkg::PostLanes;

  // round(32768 / (1 + exp(-i/8))), i = 64 down to 0, 16 bits each.
  localparam logic [65*16-1:0] Rom = {
    16'd32757, 16'd32756, 16'd32754, 16'd32752, 16'd32750, 16'd32747, 16'd32745, 16'd32742,
    16'd32738, 16'd32734, 16'd32730, 16'd32725, 16'd32719, 16'd32712, 16'd32705, 16'd32696,
    16'd32687, 16'd32676, 16'd32664, 16'd32650, 16'd32635, 16'd32617, 16'd32597, 16'd32574,
    16'd32549, 16'd32520, 16'd32487, 16'd32450, 16'd32408, 16'd32361, 16'd32307, 16'd32247,
    16'd32179, 16'd32102, 16'd32015, 16'd31917, 16'd31807, 16'd31684, 16'd31545, 16'd31389,
    16'd31214, 16'd31018, 16'd30799, 16'd30555, 16'd30282, 16'd29979, 16'd29644, 16'd29272,
    16'd28862, 16'd28411, 16'd27917, 16'd27377, 16'd26790, 16'd26155, 16'd25471, 16'd24737,
    16'd23955, 16'd23127, 16'd22255, 16'd21344, 16'd20397, 16'd19420, 16'd18421, 16'd17407,
    16'd16384
  };

  logic                   advance, in_fire;
  logic                   valid1_d, valid1_q, valid2_d, valid2_q, valid3_d, valid3_q;
  logic [Lanes-1:0][15:0] s1_d, s1_q;  // sigmoid, unsigned, 1.0 = 2^15
  logic [Lanes-1:0][15:0] g1_d, g1_q, u1_d, u1_q, q2_d, q2_q, u2_d, u2_q, h3_d, h3_q;
  logic [4:0]             sigma1_d, sigma1_q, sigma2_d, sigma2_q;
  logic [MetaBits-1:0]    meta1_d, meta1_q, meta2_d, meta2_q, meta3_d, meta3_q;

  assign advance    = !valid3_q || out_ready_i;
  assign in_ready_o = advance;
  assign in_fire    = in_valid_i && in_ready_o;

  logic [Lanes-1:0][15:0] sigmoid;
  logic [Lanes-1:0][22:0] slope;             // interpolation: 7 fractional bits
  logic [Lanes-1:0][63:0] weighted, scaled;  // signed, rounded

  for (genvar i = 0; i < Lanes; i++) begin : gen_lane
    logic [15:0] magnitude, low, high, rising;
    assign magnitude = in_g_i[i][15] ? -in_g_i[i] : in_g_i[i];
    assign low       = Rom[32'(magnitude[12:7])*16+:16];
    assign high      = Rom[32'(magnitude[12:7])*16+16+:16];
    assign slope[i]  = (23'(high) - 23'(low)) * 23'(magnitude[6:0]) + 23'd64;
    assign rising    = (magnitude[15:13] != '0) ? Rom[64*16+:16] : low + slope[i][22:7];
    assign sigmoid[i] = in_g_i[i][15] ? 16'd32768 - rising : rising;

    assign weighted[i] = moe_pkg::rshift_round(64'($signed(g1_q[i])) * 64'($signed({1'b0, s1_q[i]})), 6'd15);
    assign scaled[i]   = moe_pkg::rshift_round(64'($signed(q2_q[i])) * 64'($signed(u2_q[i])), {1'b0, sigma2_q});
  end

  always_comb begin
    valid1_d = valid1_q;
    valid2_d = valid2_q;
    valid3_d = valid3_q;
    s1_d     = s1_q;
    g1_d     = g1_q;
    u1_d     = u1_q;
    sigma1_d = sigma1_q;
    meta1_d  = meta1_q;
    q2_d     = q2_q;
    u2_d     = u2_q;
    sigma2_d = sigma2_q;
    meta2_d  = meta2_q;
    h3_d     = h3_q;
    meta3_d  = meta3_q;
    if (advance) begin
      valid1_d = in_fire;
      valid2_d = valid1_q;
      valid3_d = valid2_q;
      meta3_d  = valid2_q ? meta2_q : '0;
      for (int unsigned i = 0; i < Lanes; i++) begin
        h3_d[i] = valid2_q ? moe_pkg::saturate($signed(scaled[i]), 5'd16) : '0;
      end
      if (valid1_q) begin
        for (int unsigned i = 0; i < Lanes; i++) q2_d[i] = weighted[i][15:0];
        u2_d     = u1_q;
        sigma2_d = sigma1_q;
        meta2_d  = meta1_q;
      end
    end
    if (in_fire) begin
      s1_d     = sigmoid;
      g1_d     = in_g_i;
      u1_d     = in_u_i;
      sigma1_d = in_sigma_h_i;
      meta1_d  = in_meta_i;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      valid1_q <= 1'b0;
      valid2_q <= 1'b0;
      valid3_q <= 1'b0;
      h3_q     <= '0;
      meta3_q  <= '0;
    end else begin
      valid1_q <= valid1_d;
      valid2_q <= valid2_d;
      valid3_q <= valid3_d;
      h3_q     <= h3_d;
      meta3_q  <= meta3_d;
    end
  end
  // Payload behind a valid bit needs no reset.
  always_ff @(posedge clk_i) begin
    s1_q     <= s1_d;
    g1_q     <= g1_d;
    u1_q     <= u1_d;
    sigma1_q <= sigma1_d;
    meta1_q  <= meta1_d;
    q2_q     <= q2_d;
    u2_q     <= u2_d;
    sigma2_q <= sigma2_d;
    meta2_q  <= meta2_d;
  end

  assign out_valid_o = valid3_q;
  assign out_h_o     = h3_q;
  assign out_meta_o  = meta3_q;

  always_comb begin
    activity_o = moe_commands_pkg::ActivityIdle;
    if (in_fire || (advance && (valid1_q || valid2_q || valid3_q))) activity_o = moe_commands_pkg::ActivityBusy;
    else if (!advance) activity_o = moe_commands_pkg::ActivityBlocked;
  end

  // |g * S| < 2^30, so the rounded product fits 16 bits; the slope's fraction has been rounded away.
  logic unused_bits;
  always_comb begin
    unused_bits = 1'b0;
    for (int unsigned i = 0; i < Lanes; i++) unused_bits = unused_bits ^ (^weighted[i][63:16]) ^ (^slope[i][6:0]);
  end

`ifndef SYNTHESIS
  moe_channel_check #(.Width(Lanes * 32 + 5 + MetaBits)) u_check_in (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(in_valid_i), .ready_i(in_ready_o),
    .payload_i({in_g_i, in_u_i, in_sigma_h_i, in_meta_i}));
  moe_channel_check #(.Width(Lanes * 16 + MetaBits)) u_check_out (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(out_valid_o), .ready_i(out_ready_i),
    .payload_i({out_h_o, out_meta_o}));
`endif
endmodule
