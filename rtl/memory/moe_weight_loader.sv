/// Takes the bit stream of a matmul apart: weight planes to the array, group parameters and requantisation to two-entry
/// FIFOs of their own. The stream's order is that of moe_weight_fetch. Rate: per cycle LoadCols columns of one plane, or
/// AxiDataWidth bits of parameters; one cycle between commands. cmd_i is stable until cmd_ready_o, which comes with the
/// last bits of the command. Lanes and columns beyond the tile's are 0.
module moe_weight_loader #(
  parameter int unsigned Rows         = 8,   // tile depth along k, weights
  parameter int unsigned Cols         = 8,   // tile width along n, columns
  parameter int unsigned AxiDataWidth = 64,  // bits popped a cycle (and up to 7 of padding), >= Rows
  localparam int unsigned LoadCols    = (AxiDataWidth / Rows < Cols) ? AxiDataWidth / Rows : Cols,
  localparam int unsigned AvailW      = $clog2(3 * AxiDataWidth + 1)  // of the stream reader
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  input  logic                      cmd_valid_i,
  output logic                      cmd_ready_o,
  input  moe_commands_pkg::cmd_t    cmd_i,
  input  logic [AvailW-1:0]         avail_i,        // bits in the stream
  input  logic [AxiDataWidth-1:0]   data_i,         // the first of them
  output logic [AvailW-1:0]         pop_o,          // bits consumed at this edge
  output logic                      w_valid_o,
  input  logic                      w_ready_i,
  output logic [2:0]                w_plane_o,      // 0: the most significant plane
  output logic [5:0]                w_first_col_o,  // column of lane 0
  output logic [LoadCols*Rows-1:0]  w_bits_o,       // lane l at l*Rows
  output logic [LoadCols-1:0]       w_mask_o,       // lanes that carry a column
  output logic                      w_last_o,       // last write of the tile
  output logic                      param_valid_o,
  input  logic                      param_ready_i,
  output logic [Cols*16-1:0]        param_s_o,
  output logic [Cols*10-1:0]        param_z_o,      // signed
  output logic [2:0]                param_up_o,     // left shift of P
  output logic                      rq_valid_o,
  input  logic                      rq_ready_i,
  output logic [Cols*16-1:0]        rq_mu_o,
  output logic [Cols*8-1:0]         rq_sigma_o,
  output logic [1:0]                activity_o
);
  if (AxiDataWidth < Rows || AxiDataWidth < 64) begin : gen_bad_width
    $fatal(1, "moe_weight_loader: AxiDataWidth must be at least 64 and at least Rows");
  end

  localparam int unsigned WideCols   = (AxiDataWidth / 16 < Cols) ? AxiDataWidth / 16 : Cols;  // 16-bit values a cycle
  localparam int unsigned NarrowCols = (AxiDataWidth / 8 < Cols) ? AxiDataWidth / 8 : Cols;    // 8-bit values a cycle
  localparam int unsigned BitW       = $clog2(AxiDataWidth);

  typedef enum logic [2:0] {StScale, StZero, StPlane, StMu, StSigma} stage_e;

  stage_e     stage_d, stage_q, stage;
  logic [2:0] plane_d, plane_q;
  logic [6:0] col_d, col_q;  // first column of this step

  // Two-entry FIFOs, filled in place.
  logic [1:0][Cols*16-1:0] s_d, s_q, mu_d, mu_q;
  logic [1:0][Cols*10-1:0] z_d, z_q;
  logic [1:0][Cols*8-1:0]  sigma_d, sigma_q;
  logic [1:0][2:0]         up_d, up_q;
  logic       param_write_d, param_write_q, param_read_d, param_read_q;
  logic       rq_write_d, rq_write_q, rq_read_d, rq_read_q;
  logic [1:0] param_count_d, param_count_q, rq_count_d, rq_count_q;

  logic       start, tile_valid, tile_next, group_end, block_end, last, unused_walk;
  logic       which, group_first, rewind, acc_first, block_first;
  logic [2:0] level;
  logic [6:0] tile_k, cols;
  logic       in_level, offset_mode;  // of the bundle
  logic [3:0] planes;                 // that it reads

  moe_tile_walker #(
    .Rows(Rows),
    .Cols(Cols)
  ) u_walker (
    .clk_i,
    .rst_ni,
    .start_i         (start),
    .n_i             (cmd_i.n),
    .k_i             (cmd_i.k),
    .group_size_i    (cmd_i.group_size),
    .group_left_i    (cmd_i.group_left),
    .paired_i        (cmd_i.paired),
    .acc_continue_i  (cmd_i.acc_continue),
    .group_continue_i(cmd_i.group_continue),
    .k_last_i        (cmd_i.k_last),
    .levels_i        (cmd_i.levels),
    .valid_o         (tile_valid),
    .ready_i         (tile_next),
    .tile_k_o        (tile_k),
    .cols_o          (cols),
    .which_o         (which),
    .level_o         (level),
    .group_first_o   (group_first),
    .group_end_o     (group_end),
    .rewind_o        (rewind),
    .acc_first_o     (acc_first),
    .block_first_o   (block_first),
    .block_end_o     (block_end),
    .last_o          (last)
  );
  assign unused_walk = ^{which, group_first, rewind, acc_first, block_first};

  // A level is one plane of +1 and -1: 2 * bit - 1.
  assign in_level    = level != '0;
  assign offset_mode = cmd_i.offset_mode || in_level;
  assign planes      = in_level ? 4'd1 : cmd_i.planes_read;

  assign start = cmd_valid_i && !tile_valid;
  assign stage = (stage_q == StScale && !group_end) ? StPlane : stage_q;

  // ---- what this step takes from the stream ----
  logic [6:0]  cols_left, step_max, step_cols;
  logic        step_last;  // of the stage (for planes: of one plane)
  logic [13:0] step_bits;
  logic [2:0]  padding;    // to the next whole byte, after a plane
  logic        enough, room, step;

  always_comb begin
    unique case (stage)
      StZero, StSigma: step_max = 7'(NarrowCols);
      StPlane:         step_max = 7'(LoadCols);
      default:         step_max = 7'(WideCols);
    endcase
  end
  assign cols_left = cols - col_q;
  assign step_last = cols_left <= step_max;
  assign step_cols = step_last ? cols_left : step_max;
  assign padding   = 3'd0 - 3'(tile_k[2:0] * cols[2:0]);

  always_comb begin
    unique case (stage)
      StPlane: begin
        step_bits = 14'(step_cols) * 14'(tile_k);
        room      = w_ready_i;
      end
      StZero: begin
        step_bits = {4'b0, step_cols, 3'b0};
        room      = param_count_q != 2'd2;
      end
      StSigma: begin
        step_bits = {4'b0, step_cols, 3'b0};
        room      = rq_count_q != 2'd2;
      end
      StMu: begin
        step_bits = {3'b0, step_cols, 4'b0};
        room      = rq_count_q != 2'd2;
      end
      default: begin
        step_bits = {3'b0, step_cols, 4'b0};
        room      = param_count_q != 2'd2;
      end
    endcase
  end
  assign enough = tile_valid && 14'(avail_i) >= step_bits;
  assign step   = enough && room;
  assign pop_o  = !step ? '0 : AvailW'(step_bits) + ((stage == StPlane && step_last) ? AvailW'(padding) : '0);

  // ---- weights ----
  logic            plane_last;
  logic [Rows-1:0] row_mask;
  assign plane_last    = {1'b0, plane_q} + 4'd1 == planes;
  assign row_mask      = ~({Rows{1'b1}} << tile_k);
  assign w_valid_o     = enough && stage == StPlane;
  assign w_plane_o     = w_valid_o ? plane_q : '0;
  assign w_first_col_o = w_valid_o ? col_q[5:0] : '0;
  assign w_last_o      = w_valid_o && step_last && plane_last;
  for (genvar l = 0; l < int'(LoadCols); l++) begin : gen_lane
    logic [BitW-1:0] base;  // first bit of the lane's column
    assign base        = BitW'(BitW'(l) * BitW'(tile_k));
    assign w_mask_o[l] = w_valid_o && 7'(l) < step_cols;
    assign w_bits_o[l*Rows +: Rows] = w_mask_o[l] ? data_i[base +: Rows] & row_mask : '0;
  end

  // ---- parameters ----
  assign param_valid_o = param_count_q != '0;
  assign param_s_o     = param_valid_o ? s_q[param_read_q] : '0;
  assign param_z_o     = param_valid_o ? z_q[param_read_q] : '0;
  assign param_up_o    = param_valid_o ? up_q[param_read_q] : '0;
  assign rq_valid_o    = rq_count_q != '0;
  assign rq_mu_o       = rq_valid_o ? mu_q[rq_read_q] : '0;
  assign rq_sigma_o    = rq_valid_o ? sigma_q[rq_read_q] : '0;

  for (genvar c = 0; c < int'(Cols); c++) begin : gen_param
    localparam int unsigned WideAt   = c % WideCols;
    localparam int unsigned NarrowAt = c % NarrowCols;
    logic        used, wide_here, narrow_here;
    logic [15:0] wide;
    logic [7:0]  narrow;
    assign used        = 7'(c) < cols;
    assign wide_here   = col_q == 7'(c - WideAt);
    assign narrow_here = col_q == 7'(c - NarrowAt);
    assign wide        = (used && wide_here) ? data_i[WideAt*16 +: 16] : '0;
    assign narrow      = (used && narrow_here) ? data_i[NarrowAt*8 +: 8] : '0;

    always_comb begin
      for (int unsigned e = 0; e < 2; e++) begin
        s_d[e][c*16 +: 16]   = s_q[e][c*16 +: 16];
        z_d[e][c*10 +: 10]   = z_q[e][c*10 +: 10];
        mu_d[e][c*16 +: 16]  = mu_q[e][c*16 +: 16];
        sigma_d[e][c*8 +: 8] = sigma_q[e][c*8 +: 8];
        // The first step of a stage also clears the columns of later steps, so that unused ones are 0.
        if (step && param_write_q == 1'(e)) begin
          if (stage == StScale && (wide_here || col_q == '0)) begin
            s_d[e][c*16 +: 16] = wide;
            z_d[e][c*10 +: 10] = 10'(offset_mode && used);
          end
          if (stage == StZero && (narrow_here || col_q == '0)) begin
            z_d[e][c*10 +: 10] = (used && narrow_here) ? 10'(narrow) - 10'(cmd_i.z_adjust) : '0;
          end
        end
        if (step && rq_write_q == 1'(e)) begin
          if (stage == StMu && (wide_here || col_q == '0)) mu_d[e][c*16 +: 16] = wide;
          if (stage == StSigma && (narrow_here || col_q == '0)) sigma_d[e][c*8 +: 8] = narrow;
        end
      end
    end
  end

  always_comb begin
    up_d = up_q;
    if (step && stage == StScale) up_d[param_write_q] = in_level ? 3'd1 : cmd_i.up;
  end

  // ---- control ----
  logic param_push, rq_push;
  always_comb begin
    stage_d    = stage_q;
    plane_d    = plane_q;
    col_d      = col_q;
    tile_next  = 1'b0;
    param_push = 1'b0;
    rq_push    = 1'b0;
    if (step) begin
      col_d   = step_last ? '0 : col_q + step_cols;
      stage_d = stage;
      if (step_last) begin
        unique case (stage)
          StScale: begin
            stage_d    = offset_mode ? StPlane : StZero;
            param_push = offset_mode;
          end
          StZero: begin
            stage_d    = StPlane;
            param_push = 1'b1;
          end
          StMu: stage_d = StSigma;
          StSigma: begin
            stage_d   = StScale;
            rq_push   = 1'b1;
            tile_next = 1'b1;
          end
          default: begin
            plane_d = plane_last ? '0 : plane_q + 3'd1;
            if (plane_last) begin
              stage_d   = (block_end && cmd_i.k_last) ? StMu : StScale;
              tile_next = !(block_end && cmd_i.k_last);
            end
          end
        endcase
      end
    end
  end
  assign cmd_ready_o = tile_next && last;

  always_comb begin
    param_write_d = param_write_q ^ param_push;
    param_read_d  = param_read_q ^ (param_valid_o && param_ready_i);
    param_count_d = param_count_q + 2'(param_push) - 2'(param_valid_o && param_ready_i);
    rq_write_d    = rq_write_q ^ rq_push;
    rq_read_d     = rq_read_q ^ (rq_valid_o && rq_ready_i);
    rq_count_d    = rq_count_q + 2'(rq_push) - 2'(rq_valid_o && rq_ready_i);
  end

  always_comb begin
    if (step || start) begin
      activity_o = moe_commands_pkg::ActivityBusy;
    end else if (!tile_valid) begin
      activity_o = moe_commands_pkg::ActivityIdle;
    end else if (enough) begin
      activity_o = moe_commands_pkg::ActivityBlocked;
    end else begin
      activity_o = moe_commands_pkg::ActivityStarved;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      stage_q       <= StScale;
      plane_q       <= '0;
      col_q         <= '0;
      s_q           <= '0;
      z_q           <= '0;
      mu_q          <= '0;
      sigma_q       <= '0;
      up_q          <= '0;
      param_write_q <= 1'b0;
      param_read_q  <= 1'b0;
      param_count_q <= '0;
      rq_write_q    <= 1'b0;
      rq_read_q     <= 1'b0;
      rq_count_q    <= '0;
    end else begin
      stage_q       <= stage_d;
      plane_q       <= plane_d;
      col_q         <= col_d;
      s_q           <= s_d;
      z_q           <= z_d;
      mu_q          <= mu_d;
      sigma_q       <= sigma_d;
      up_q          <= up_d;
      param_write_q <= param_write_d;
      param_read_q  <= param_read_d;
      param_count_q <= param_count_d;
      rq_write_q    <= rq_write_d;
      rq_read_q     <= rq_read_d;
      rq_count_q    <= rq_count_d;
    end
  end

`ifndef SYNTHESIS
  moe_channel_check #(.Width(moe_commands_pkg::CommandBits)) u_check_cmd (
    .clk_i, .rst_ni, .valid_i(cmd_valid_i), .ready_i(cmd_ready_o), .payload_i({cmd_i})
  );
  moe_channel_check #(.Width(LoadCols*Rows + LoadCols + 10)) u_check_w (
    .clk_i, .rst_ni, .valid_i(w_valid_o), .ready_i(w_ready_i), .payload_i({w_plane_o, w_first_col_o, w_bits_o, w_mask_o, w_last_o})
  );
  moe_channel_check #(.Width(Cols*26 + 3)) u_check_param (
    .clk_i, .rst_ni, .valid_i(param_valid_o), .ready_i(param_ready_i), .payload_i({param_s_o, param_z_o, param_up_o})
  );
  moe_channel_check #(.Width(Cols*24)) u_check_rq (
    .clk_i, .rst_ni, .valid_i(rq_valid_o), .ready_i(rq_ready_i), .payload_i({rq_mu_o, rq_sigma_o})
  );
  PopsWhatIsThere_A: assert property (@(posedge clk_i) disable iff (!rst_ni) pop_o <= avail_i);
`endif
endmodule
