/// One column: Rows PEs, one pipelined adder tree per lane, then the lanes shifted and added.
///   sum = sum over lanes j of 2^(shift - j) * sum over rows of digit[j] * x          (CommonShift)
/// Rate 1 beat/cycle, latency log2(Rows) + 1 cycles. Exact: SumBits holds the largest sum.
/// Only the output register is reset; the array carries the valid bits.
module moe_pe_column #(
  parameter int unsigned Rows = 8,            // PEs, a power of two in 4..64
  parameter int unsigned PlanesPerCycle = 1,  // lanes: 1, 2 or 4
  parameter int unsigned MaxActBits = 8,      // bits of an activation: 4, 8 or 16
  parameter int unsigned DigitKind = moe_pkg::CommonShift,  // or moe_pkg::PerWeight
  localparam int unsigned DigitBits = (DigitKind == moe_pkg::PerWeight) ? 5 : 1,
  localparam int unsigned Levels = $clog2(Rows),
  localparam int unsigned SumBits =
      MaxActBits + Levels + 8 + ((DigitKind == moe_pkg::PerWeight) ? $clog2(PlanesPerCycle) : 0)
) (
  input  logic                                               clk_i,
  input  logic                                               rst_ni,
  input  logic [Levels-1:0]                                  enable_i,   // level l of the trees takes a beat
  input  logic                                               advance_i,  // the output register moves
  input  logic                                               valid_i,    // it takes a beat (0: it becomes 0)
  input  logic [2:0]                                         shift_i,    // of the beat that it takes
  input  logic [Rows-1:0][MaxActBits-1:0]                    x_i,        // signed
  input  logic [PlanesPerCycle-1:0][Rows-1:0][DigitBits-1:0] digit_i,
  output logic [SumBits-1:0]                                 sum_o       // signed
);
  if (Rows < 4 || Rows > 64 || !moe_pkg::is_pow2(Rows)) begin : gen_bad_rows
    $fatal(1, "moe_pe_column: Rows must be a power of two in 4..64");
  end

  localparam int unsigned TermBits = MaxActBits + ((DigitKind == moe_pkg::PerWeight) ? 8 : 0);
  localparam int unsigned LaneBits = TermBits + Levels;

  logic [PlanesPerCycle-1:0][Rows-1:0][TermBits-1:0] term;
  logic [PlanesPerCycle-1:0][LaneBits-1:0]           lane_sum;
  logic [SumBits-1:0]                                total, sum_d, sum_q;

  for (genvar r = 0; r < Rows; r++) begin : gen_row
    // Flat: synthesis takes no multi-dimensional array inside a generate block.
    logic [PlanesPerCycle*DigitBits-1:0] digit;
    logic [PlanesPerCycle*TermBits-1:0]  row_term;
    for (genvar j = 0; j < PlanesPerCycle; j++) begin : gen_lane
      assign digit[j*DigitBits+:DigitBits] = digit_i[j][r];
      assign term[j][r]                    = row_term[j*TermBits+:TermBits];
    end
    moe_pe #(
      .PlanesPerCycle(PlanesPerCycle), .MaxActBits(MaxActBits), .DigitKind(DigitKind)
    ) u_pe (
      .x_i(x_i[r]), .digit_i(digit), .term_o(row_term)
    );
  end

  for (genvar j = 0; j < PlanesPerCycle; j++) begin : gen_tree
    moe_adder_tree #(
      .Inputs(Rows), .InWidth(TermBits)
    ) u_tree (
      .clk_i(clk_i), .enable_i(enable_i), .in_i(term[j]), .sum_o(lane_sum[j])
    );
  end

  if (DigitKind == moe_pkg::PerWeight) begin : gen_add
    logic unused_shift;
    assign unused_shift = ^shift_i;
    always_comb begin
      total = '0;
      for (int unsigned j = 0; j < PlanesPerCycle; j++) total = total + SumBits'($signed(lane_sum[j]));
    end
  end else begin : gen_shift_add
    // Lanes at their distance first, then one shifter. A lane whose own shift would be negative is disabled, so that nothing is cut.
    localparam int unsigned WideBits = SumBits + PlanesPerCycle - 1;
    logic signed [WideBits-1:0] joined, shifted;
    always_comb begin
      joined = '0;
      for (int unsigned j = 0; j < PlanesPerCycle; j++) begin
        joined = joined + (WideBits'($signed(lane_sum[j])) << (PlanesPerCycle - 1 - j));
      end
      shifted = (joined << shift_i) >>> (PlanesPerCycle - 1);
    end
    assign total = shifted[SumBits-1:0];
    if (PlanesPerCycle > 1) begin : gen_unused
      logic unused_top;
      assign unused_top = ^shifted[WideBits-1:SumBits];
    end
  end

  always_comb begin
    sum_d = sum_q;
    if (advance_i) sum_d = valid_i ? total : '0;
  end
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      sum_q <= '0;
    end else begin
      sum_q <= sum_d;
    end
  end
  assign sum_o = sum_q;
endmodule
