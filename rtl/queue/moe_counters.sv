/// Every cycle out of reset counts once per block, under the block's activity; a snapshot copies all counters at one edge,
/// so that each block's four add up to the cycle counter. 48 bits each. Read latency 0.
module moe_counters #(
  parameter int unsigned NumBlocks = moe_commands_pkg::NumBlocks  // blocks watched, 1..16
) (
  input  logic                                     clk_i,
  input  logic                                     rst_ni,
  input  logic [2*NumBlocks-1:0]                   activity_i,
  input  logic                                     snapshot_i,
  input  logic [moe_commands_pkg::RegAddrBits-1:2] window_addr_i,  // word address
  output logic [31:0]                              window_data_o  // 0 outside the windows
);
  if (NumBlocks < 1 || NumBlocks > 16) begin : gen_bad_blocks
    $fatal(1, "moe_counters: NumBlocks must be 1..16");
  end
  localparam int unsigned AddrBits  = moe_commands_pkg::RegAddrBits;
  localparam int unsigned CountBits = 48;

  logic [CountBits-1:0] cycles_d, cycles_q, snapshot_d, snapshot_q;
  logic                 read_cycles, read_counters;
  logic [NumBlocks-1:0][31:0] block_data;
  logic [31:0]          cycles_data;

  assign read_cycles   = window_addr_i[AddrBits-1:3] == moe_commands_pkg::RegCycles[AddrBits-1:3];
  assign read_counters = window_addr_i[AddrBits-1:9] == moe_commands_pkg::RegCounters[AddrBits-1:9];
  assign cycles_d      = cycles_q + CountBits'(1);
  assign snapshot_d    = snapshot_i ? cycles_q : snapshot_q;
  assign cycles_data   = !read_cycles     ? '0
                       : window_addr_i[2] ? 32'(snapshot_q[CountBits-1:32])
                                          : snapshot_q[31:0];

  for (genvar b = 0; b < NumBlocks; b++) begin : gen_block
    moe_block_counter u_counter (
      .clk_i, .rst_ni,
      .activity_i(activity_i[2*b +: 2]),
      .snapshot_i,
      .read_i(read_counters && window_addr_i[8:5] == 4'(b)),
      .read_word_i(window_addr_i[4:2]),
      .read_data_o(block_data[b])
    );
  end

  always_comb begin
    window_data_o = cycles_data;
    for (int b = 0; b < NumBlocks; b++) window_data_o |= block_data[b];
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      cycles_q   <= '0;
      snapshot_q <= '0;
    end else begin
      cycles_q   <= cycles_d;
      snapshot_q <= snapshot_d;
    end
  end
endmodule
