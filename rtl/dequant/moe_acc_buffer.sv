/// The accumulators of two blocks: MaxTokens x Cols of 48 bits each; one bank collects while the other is drained.
///   acc[token] = add_first_i ? add_value_i : acc[token] + add_value_i
/// The add marked done fills the bank. Rate 1 add/cycle; reads are combinational.
/// Activity: busy when an add is taken or a bank released, blocked when an add is refused, otherwise idle.
module moe_acc_buffer #(
  parameter int unsigned Cols = 8,       // columns, a power of two in 4..64
  parameter int unsigned MaxTokens = 8,  // tokens, a power of two in 1..128
  localparam int unsigned ReadBits = moe_pkg::PostLanes * moe_pkg::AccBits
) (
  input  logic                                  clk_i,
  input  logic                                  rst_ni,

  input  logic                                  add_valid_i,
  output logic                                  add_ready_o,   // the bank that collects is not full
  input  logic [moe_pkg::TokenBits-1:0]         add_token_i,
  input  logic                                  add_first_i,
  input  logic                                  add_done_i,
  input  logic [Cols-1:0][moe_pkg::AccBits-1:0] add_value_i,   // signed

  output logic                                  full_o,        // a bank waits to be drained
  input  logic [moe_pkg::TokenBits-1:0]         read_token_i,
  input  logic [3:0]                            read_chunk_i,  // columns 4*chunk .. 4*chunk+3
  output logic [ReadBits-1:0]                   read_acc_o,    // signed; 0 while !full_o
  input  logic                                  release_i,     // the drained bank is free; only while full_o

  output logic [1:0]                            activity_o
);
  if (MaxTokens > 128 || !moe_pkg::is_pow2(MaxTokens)) begin : gen_bad_tokens
    $fatal(1, "moe_acc_buffer: MaxTokens must be a power of two in 1..128");
  end
  if (Cols < 4 || Cols > 64 || !moe_pkg::is_pow2(Cols)) begin : gen_bad_cols
    $fatal(1, "moe_acc_buffer: Cols must be a power of two in 4..64");
  end

  localparam int unsigned AccBits = moe_pkg::AccBits;
  localparam int unsigned Chunks = Cols / moe_pkg::PostLanes;
  localparam int unsigned AddrBits = $clog2(2 * MaxTokens);

  logic [1:0]                        full_d, full_q;
  logic                              wr_d, wr_q, rd_d, rd_q;
  logic                              add_fire;
  logic [Cols-1:0][AccBits-1:0]      sum;
  logic [1:0][AddrBits-1:0]          address;
  logic [1:0][Cols-1:0][AccBits-1:0] row;  // 0: the token that collects, 1: the token that is read

  assign add_ready_o = !full_q[wr_q];
  assign add_fire    = add_valid_i && add_ready_o;
  assign full_o      = full_q[rd_q];

  if (MaxTokens > 1) begin : gen_address
    assign address[0] = {wr_q, add_token_i[AddrBits-2:0]};
    assign address[1] = {rd_q, read_token_i[AddrBits-2:0]};
  end else begin : gen_address_one
    assign address[0] = wr_q;
    assign address[1] = rd_q;
  end

  moe_regfile #(.Width(Cols * AccBits), .Depth(2 * MaxTokens), .NumReads(2)) u_acc (
    .clk_i(clk_i), .write_i(add_fire), .write_addr_i(address[0]), .write_data_i(sum),
    .read_addr_i(address), .read_data_o(row));

  for (genvar c = 0; c < Cols; c++) begin : gen_add
    assign sum[c] = (add_first_i ? '0 : row[0][c]) + add_value_i[c];
  end

  logic [Chunks-1:0][ReadBits-1:0] chunks;
  assign chunks = row[1];
  if (Chunks > 1) begin : gen_chunk
    assign read_acc_o = full_o ? chunks[read_chunk_i[$clog2(Chunks)-1:0]] : '0;
  end else begin : gen_chunk_one
    assign read_acc_o = full_o ? chunks[0] : '0;
  end

  always_comb begin
    full_d = full_q;
    wr_d   = wr_q;
    rd_d   = rd_q;
    if (add_fire && add_done_i) begin
      full_d[wr_q] = 1'b1;
      wr_d         = !wr_q;
    end
    if (release_i) begin
      full_d[rd_q] = 1'b0;
      rd_d         = !rd_q;
    end
  end
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      full_q <= '0;
      wr_q   <= 1'b0;
      rd_q   <= 1'b0;
    end else begin
      full_q <= full_d;
      wr_q   <= wr_d;
      rd_q   <= rd_d;
    end
  end

  always_comb begin
    activity_o = moe_commands_pkg::ActivityIdle;
    if (add_fire || release_i) activity_o = moe_commands_pkg::ActivityBusy;
    else if (add_valid_i) activity_o = moe_commands_pkg::ActivityBlocked;
  end

`ifndef SYNTHESIS
  ReleaseOnlyWhenFull_A: assert property (@(posedge clk_i) disable iff (!rst_ni) release_i |-> full_o);
  TokenInRange_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
    32'(add_token_i) < MaxTokens && 32'(read_token_i) < MaxTokens);
  ChunkInRange_A: assert property (@(posedge clk_i) disable iff (!rst_ni) 32'(read_chunk_i) < Chunks);
  moe_channel_check #(.Width(Cols * AccBits + moe_pkg::TokenBits + 2)) u_check_add (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(add_valid_i), .ready_i(add_ready_o),
    .payload_i({add_value_i, add_token_i, add_first_i, add_done_i}));
`endif
endmodule
