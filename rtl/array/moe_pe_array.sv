/// The PE array: Cols columns of Rows PEs, one row-sum tree for X, and two banks of weights (one computes while the other loads).
/// Load: up to LoadCols columns of one plane a cycle; the write marked last fills the bank. A bank is cleared when its last beat
/// is taken, so that columns and rows that are never written count 0.
/// Beat: one activation vector times PlanesPerCycle digits of every weight of the bank. Rate 1 beat/cycle, latency log2(Rows) + 1;
/// the whole pipeline stands still while sum_valid_o && !sum_ready_i.
/// Activity: busy while a beat is taken or under way, blocked when the sum is refused, starved when weights or beats are missing.
module moe_pe_array #(
  parameter int unsigned Rows = 8,            // PEs along k, a power of two in 4..64
  parameter int unsigned Cols = 8,            // columns along n, a power of two in 4..64
  parameter int unsigned PlanesPerCycle = 1,  // digits a PE adds in a cycle: 1, 2 or 4
  parameter int unsigned MaxActBits = 8,      // bits of an activation: 4, 8 or 16
  parameter int unsigned AxiDataWidth = 64,   // bits of a beat of memory: 64, 128, 256 or 512, at least Rows
  parameter int unsigned DigitKind = moe_pkg::CommonShift,  // or moe_pkg::PerWeight
  localparam int unsigned LoadCols = (Cols < AxiDataWidth / Rows) ? Cols : AxiDataWidth / Rows,
  localparam int unsigned DigitBits = (DigitKind == moe_pkg::PerWeight) ? 5 : 1,
  localparam int unsigned Levels = $clog2(Rows),
  localparam int unsigned RowSumBits = MaxActBits + Levels,
  localparam int unsigned SumBits =
      MaxActBits + Levels + 8 + ((DigitKind == moe_pkg::PerWeight) ? $clog2(PlanesPerCycle) : 0)
) (
  input  logic                                     clk_i,
  input  logic                                     rst_ni,

  input  logic                                     w_valid_i,
  output logic                                     w_ready_o,      // the bank being loaded is not full
  input  logic [2:0]                               w_plane_i,      // 0 is the most significant
  input  logic [5:0]                               w_first_col_i,  // a multiple of LoadCols
  input  logic [LoadCols-1:0][Rows*DigitBits-1:0]  w_bits_i,
  input  logic [LoadCols-1:0]                      w_mask_i,       // columns that are written
  input  logic                                     w_last_i,       // last write of the tile

  input  logic                                     beat_valid_i,
  output logic                                     beat_ready_o,
  input  logic [Rows-1:0][MaxActBits-1:0]          beat_x_i,       // signed
  input  logic [2:0]                               beat_plane_i,   // plane of lane 0; lane j takes the j-th after it
  input  logic [PlanesPerCycle-1:0]                beat_enable_i,  // lanes that count
  input  logic [2:0]                               beat_shift_i,   // lane j is shifted by beat_shift_i - j
  input  logic [moe_pkg::TagBits-1:0]              beat_tag_i,
  input  logic                                     beat_last_i,    // last beat of the tile: frees the bank

  output logic                                     sum_valid_o,
  input  logic                                     sum_ready_i,
  output logic [Cols-1:0][SumBits-1:0]             sum_o,          // signed
  output logic [RowSumBits-1:0]                    rowsum_o,       // signed
  output logic [moe_pkg::TagBits-1:0]              sum_tag_o,

  output logic [1:0]                               activity_o
);
  if (Cols < 4 || Cols > 64 || !moe_pkg::is_pow2(Cols)) begin : gen_bad_cols
    $fatal(1, "moe_pe_array: Cols must be a power of two in 4..64");
  end
  if (Rows < 4 || Rows > 64 || !moe_pkg::is_pow2(Rows)) begin : gen_bad_rows
    $fatal(1, "moe_pe_array: Rows must be a power of two in 4..64");
  end
  if ((AxiDataWidth != 64 && AxiDataWidth != 128 && AxiDataWidth != 256 && AxiDataWidth != 512) || AxiDataWidth < Rows) begin : gen_bad_axi
    $fatal(1, "moe_pe_array: AxiDataWidth must be 64, 128, 256 or 512, and at least Rows");
  end

  localparam int unsigned Planes = moe_pkg::WeightPlanes;
  localparam int unsigned PlaneBits = Rows * DigitBits;    // one plane of one column
  localparam int unsigned BankBits = Planes * PlaneBits;  // one bank of one column

  // Weight banks.
  logic       w_fire, beat_fire, advance;
  logic [1:0] full_d, full_q;
  logic       wr_d, wr_q;  // bank being loaded
  logic       rd_d, rd_q;  // bank being read
  logic [1:0] clear;       // bank is freed at this edge

  assign w_ready_o    = !full_q[wr_q];
  assign w_fire       = w_valid_i && w_ready_o;
  assign beat_ready_o = full_q[rd_q] && advance;
  assign beat_fire    = beat_valid_i && beat_ready_o;

  always_comb begin
    full_d = full_q;
    wr_d   = wr_q;
    rd_d   = rd_q;
    clear  = '0;
    if (w_fire && w_last_i) begin
      full_d[wr_q] = 1'b1;
      wr_d         = !wr_q;
    end
    if (beat_fire && beat_last_i) begin
      full_d[rd_q] = 1'b0;
      clear[rd_q]  = 1'b1;
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

  // Stages 0..Levels: what travels beside the trees. Stage Levels is the output register.
  logic [Levels:0]                       valid_d, valid_q;
  logic [Levels:0][moe_pkg::TagBits-1:0] tag_d, tag_q;
  logic [Levels-1:0][2:0]                shift_d, shift_q;
  logic [Levels-1:0]                     enable;

  assign advance = !valid_q[Levels] || sum_ready_i;
  assign enable  = {Levels{advance}} & {valid_q[Levels-2:0], beat_fire};

  always_comb begin
    valid_d = valid_q;
    tag_d   = tag_q;
    shift_d = shift_q;
    if (advance) begin
      valid_d    = {valid_q[Levels-1:0], beat_fire};
      tag_d[0]   = beat_fire ? beat_tag_i : '0;
      shift_d[0] = beat_fire ? beat_shift_i : '0;
      for (int unsigned s = 1; s <= Levels; s++) tag_d[s] = tag_q[s-1];
      for (int unsigned s = 1; s < Levels; s++) shift_d[s] = shift_q[s-1];
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      valid_q <= '0;
      tag_q   <= '0;
      shift_q <= '0;
    end else begin
      valid_q <= valid_d;
      tag_q   <= tag_d;
      shift_q <= shift_d;
    end
  end

  // Columns.
  logic [PlanesPerCycle-1:0][2:0] lane_plane;
  for (genvar j = 0; j < PlanesPerCycle; j++) begin : gen_lane_plane
    assign lane_plane[j] = beat_plane_i + 3'(j);
  end
  for (genvar c = 0; c < Cols; c++) begin : gen_col
    localparam int unsigned LoadLane = c % LoadCols;
    // Flat: synthesis takes no multi-dimensional array inside a generate block. Plane p of bank b is at b * BankBits + p * PlaneBits.
    logic [2*BankBits-1:0]                   bank_d, bank_q;
    logic [PlanesPerCycle*PlaneBits-1:0]     digit;
    logic                                    write;

    assign write = w_fire && w_mask_i[LoadLane] && (w_first_col_i == 6'(c - LoadLane));

    always_comb begin
      bank_d = bank_q;
      if (clear[0]) bank_d[0+:BankBits] = '0;
      if (clear[1]) bank_d[BankBits+:BankBits] = '0;
      if (write) bank_d[32'({wr_q, w_plane_i})*PlaneBits+:PlaneBits] = w_bits_i[LoadLane];
    end
    always_ff @(posedge clk_i or negedge rst_ni) begin
      if (!rst_ni) begin
        bank_q <= '0;
      end else begin
        bank_q <= bank_d;
      end
    end

    for (genvar j = 0; j < PlanesPerCycle; j++) begin : gen_lane
      assign digit[j*PlaneBits+:PlaneBits] =
          beat_enable_i[j] ? bank_q[32'({rd_q, lane_plane[j]})*PlaneBits+:PlaneBits] : '0;
    end

    moe_pe_column #(
      .Rows(Rows), .PlanesPerCycle(PlanesPerCycle), .MaxActBits(MaxActBits), .DigitKind(DigitKind)
    ) u_column (
      .clk_i(clk_i), .rst_ni(rst_ni), .enable_i(enable), .advance_i(advance), .valid_i(valid_q[Levels-1]),
      .shift_i(shift_q[Levels-1]), .x_i(beat_x_i), .digit_i(digit), .sum_o(sum_o[c])
    );
  end

  // The row sum takes the same time as a column.
  logic [RowSumBits-1:0] row_total, rowsum_d, rowsum_q;
  moe_adder_tree #(
    .Inputs(Rows), .InWidth(MaxActBits)
  ) u_row_tree (
    .clk_i(clk_i), .enable_i(enable), .in_i(beat_x_i), .sum_o(row_total)
  );
  always_comb begin
    rowsum_d = rowsum_q;
    if (advance) rowsum_d = valid_q[Levels-1] ? row_total : '0;
  end
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      rowsum_q <= '0;
    end else begin
      rowsum_q <= rowsum_d;
    end
  end

  assign sum_valid_o = valid_q[Levels];
  assign rowsum_o    = rowsum_q;
  assign sum_tag_o   = tag_q[Levels];

  always_comb begin
    activity_o = moe_commands_pkg::ActivityIdle;
    if (!advance) activity_o = moe_commands_pkg::ActivityBlocked;
    else if (beat_fire || (valid_q != '0)) activity_o = moe_commands_pkg::ActivityBusy;
    else if (beat_valid_i || (full_q != '0)) activity_o = moe_commands_pkg::ActivityStarved;
  end

`ifndef SYNTHESIS
  WriteIsAligned_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
    w_valid_i |-> (32'(w_first_col_i) % LoadCols == 0) && (32'(w_first_col_i) < Cols));
  if (DigitKind == moe_pkg::CommonShift) begin : gen_check_lanes
    for (genvar j = 1; j < PlanesPerCycle; j++) begin : gen_check_lane
      EnabledLaneHasItsShift_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
        beat_valid_i && beat_enable_i[j] |-> beat_shift_i >= 3'(j));
      EnabledLaneHasItsPlane_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
        beat_valid_i && beat_enable_i[j] |-> 32'(beat_plane_i) + j < Planes);
    end
  end
  moe_channel_check #(.Width(LoadCols * (Rows * DigitBits + 1) + 10)) u_check_w (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(w_valid_i), .ready_i(w_ready_o),
    .payload_i({w_plane_i, w_first_col_i, w_bits_i, w_mask_i, w_last_i}));
  moe_channel_check #(.Width(Rows * MaxActBits + PlanesPerCycle + 7 + moe_pkg::TagBits)) u_check_beat (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(beat_valid_i), .ready_i(beat_ready_o),
    .payload_i({beat_x_i, beat_plane_i, beat_enable_i, beat_shift_i, beat_tag_i, beat_last_i}));
  moe_channel_check #(.Width(Cols * SumBits + RowSumBits + moe_pkg::TagBits)) u_check_sum (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(sum_valid_o), .ready_i(sum_ready_i),
    .payload_i({sum_o, rowsum_o, sum_tag_o}));
`endif
endmodule
