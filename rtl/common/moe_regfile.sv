/// A small memory: one write port, NumReads combinational read ports. Not reset: its reader masks what was never written.
/// Rate 1 write and NumReads reads a cycle; a read sees the writes of earlier edges only.
module moe_regfile #(
  parameter int unsigned Width = 8,     // bits of a word
  parameter int unsigned Depth = 8,     // words, a power of two
  parameter int unsigned NumReads = 1,  // read ports
  localparam int unsigned AddrBits = (Depth > 1) ? $clog2(Depth) : 1
) (
  input  logic                               clk_i,
  input  logic                               write_i,
  input  logic [AddrBits-1:0]                write_addr_i,
  input  logic [Width-1:0]                   write_data_i,
  input  logic [NumReads-1:0][AddrBits-1:0]  read_addr_i,
  output logic [NumReads-1:0][Width-1:0]     read_data_o
);
  if (!moe_pkg::is_pow2(Depth)) begin : gen_bad_depth
    $fatal(1, "moe_regfile: Depth must be a power of two");
  end
  if (Width == 0 || NumReads == 0) begin : gen_bad_width
    $fatal(1, "moe_regfile: Width and NumReads must be at least 1");
  end

  logic [Width-1:0] mem_q [Depth];

  always_ff @(posedge clk_i) begin
    if (write_i) mem_q[write_addr_i] <= write_data_i;
  end

  for (genvar r = 0; r < NumReads; r++) begin : gen_read
    assign read_data_o[r] = mem_q[read_addr_i[r]];
  end
endmodule
