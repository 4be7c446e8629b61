/// The activations of one command: a word is one tile's depth of one token. One write a cycle, visible the next cycle;
/// combinational read. Contents are not reset.
module moe_act_buffer #(
  parameter int unsigned Rows       = 8,   // activations per word
  parameter int unsigned MaxActBits = 8,   // bits per activation
  parameter int unsigned ActDepth   = 64,  // words, power of two
  localparam int unsigned AddrW     = $clog2(ActDepth)
) (
  input  logic                       clk_i,
  input  logic                       write_valid_i,
  input  logic [AddrW-1:0]           write_addr_i,
  input  logic [Rows*MaxActBits-1:0] write_data_i,  // activation r at r*MaxActBits
  input  logic [AddrW-1:0]           read_addr_i,
  output logic [Rows*MaxActBits-1:0] read_data_o
);
  if (ActDepth < 2 || (ActDepth & (ActDepth - 1)) != 0) begin : gen_bad_depth
    $fatal(1, "moe_act_buffer: ActDepth must be a power of two");
  end

  logic [Rows*MaxActBits-1:0] mem_q [ActDepth];

  assign read_data_o = mem_q[read_addr_i];

  always_ff @(posedge clk_i) begin
    if (write_valid_i) mem_q[write_addr_i] <= write_data_i;
  end
endmodule
