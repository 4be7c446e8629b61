/// Sums Inputs signed numbers in a binary tree with a register after each level.
/// Rate 1 sum/cycle, latency log2(Inputs) cycles. Never overflows: each level is one bit wider. The registers are not reset:
/// who uses the tree carries the valid bits and derives enable_i from them.
module moe_adder_tree #(
  parameter int unsigned Inputs = 8,   // numbers, a power of two, at least 2
  parameter int unsigned InWidth = 8,  // bits of a number
  localparam int unsigned Levels = $clog2(Inputs),
  localparam int unsigned OutWidth = InWidth + Levels
) (
  input  logic                           clk_i,
  input  logic [Levels-1:0]              enable_i,  // level l loads its register
  input  logic [Inputs-1:0][InWidth-1:0] in_i,
  output logic [OutWidth-1:0]            sum_o
);
  if (Inputs < 2 || !moe_pkg::is_pow2(Inputs)) begin : gen_bad_inputs
    $fatal(1, "moe_adder_tree: Inputs must be a power of two, at least 2");
    assign sum_o = '0;
  end else begin : gen_tree
    for (genvar l = 0; l < Levels; l++) begin : gen_level
      for (genvar i = 0; i < (Inputs >> (l + 1)); i++) begin : gen_node
        logic signed [InWidth+l-1:0] a, b;
        logic signed [InWidth+l:0]   sum_d, sum_q;
        if (l == 0) begin : gen_leaf
          assign a = in_i[2*i];
          assign b = in_i[2*i+1];
        end else begin : gen_inner
          assign a = gen_level[l-1].gen_node[2*i].sum_q;
          assign b = gen_level[l-1].gen_node[2*i+1].sum_q;
        end
        assign sum_d = enable_i[l] ? {a[InWidth+l-1], a} + {b[InWidth+l-1], b} : sum_q;
        always_ff @(posedge clk_i) sum_q <= sum_d;
      end
    end
    assign sum_o = gen_level[Levels-1].gen_node[0].sum_q;
  end
endmodule
