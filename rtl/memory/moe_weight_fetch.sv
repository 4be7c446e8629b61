/// Turns a matmul command into the byte segments of its weights, in the order in which moe_weight_loader consumes them:
/// per tile its bundle's parameters (if the tile ends the bundle's group sum), then the bundle's planes that are read;
/// after the last tile of a block the requantisation (if the command ends K). For each level the group's tiles are gone
/// over again. Of an interleaved object all of these follow each other in memory, but for the levels' parameters: the
/// base's are then stepped over where a level's are fetched. Parameters and requantisation take whole 64 bytes there.
/// One segment a cycle; one cycle from a command to its first segment.
/// Where a segment begins in the beat in which the command's segment of its kind before it ended, seg_resume_o says so,
/// and that beat is not read again. Between commands nothing is kept, as memory may be written.
/// cmd_i is stable until cmd_ready_o, which comes with the transfer of the command's last segment.
module moe_weight_fetch #(
  parameter int unsigned Rows         = 8,  // tile depth along k, weights
  parameter int unsigned Cols         = 8,  // tile width along n, columns
  parameter int unsigned AxiDataWidth = 64  // bits of one beat
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   cmd_valid_i,
  output logic                   cmd_ready_o,
  input  moe_commands_pkg::cmd_t cmd_i,
  output logic                   seg_valid_o,
  input  logic                   seg_ready_i,
  output logic [39:0]            seg_addr_o,
  output logic [31:0]            seg_bytes_o,
  output logic [1:0]             seg_keep_o,    // its kind: 0 parameters, 1 planes, 2 requantisation
  output logic                   seg_resume_o,  // its first beat is the last of its kind's segment before it
  output logic [1:0]             activity_o
);
  if (AxiDataWidth != 64 && AxiDataWidth != 128 && AxiDataWidth != 256 && AxiDataWidth != 512) begin : gen_bad_width
    $fatal(1, "moe_weight_fetch: AxiDataWidth must be 64, 128, 256 or 512");
  end

  localparam int unsigned ByteW = $clog2(AxiDataWidth / 8);

  typedef enum logic [1:0] {StParams, StPlanes, StRequant} stage_e;

  logic        start;
  stage_e      stage_d, stage_q, stage;
  logic [3:0]  plane_d, plane_q;
  logic [39:0] plane_offset_d, plane_offset_q;
  logic [39:0] weight_d, weight_q, params_d, params_q, requant_d, requant_q;
  logic [39:0] group_weight_d, group_weight_q;    // weight_q at the group's first tile
  logic [39:0] bundle_offset_d, bundle_offset_q;  // plane_major: the bundle's first plane, from the first of all
  logic [39:0] level_params_d, level_params_q;    // level 1's of this group
  logic [39:0] level_offset_d, level_offset_q;    // this level's parameters, from level 1's

  logic        tile_valid, tile_next, group_end, rewind, block_end, in_level;
  logic [2:0]  level;
  logic [6:0]  tile_k, cols;
  logic        unused_walk;

  logic which, group_first, acc_first, block_first, last;

  /// Bytes from parameters or requantisation to what follows them in an interleaved object: whole 64, a DRAM's burst.
  function automatic logic [8:0] in_bursts(input logic [8:0] bytes);
    in_bursts = (bytes + 9'd63) & 9'h1c0;
  endfunction

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
  assign unused_walk = ^{which, group_first, acc_first, block_first};

  logic [9:0]  plane_bytes;   // of one plane of the tile
  logic [3:0]  planes, rank;  // of the bundle: planes read, planes before it in a tile
  logic [3:0]  planes_before;     // before the present one
  logic [39:0] scattered_offset;  // of the present plane, from the first of all
  logic [13:0] read_bytes, stored_bytes, before_bytes;
  logic [8:0]  base_param_bytes, param_bytes, requant_bytes;
  logic        last_segment;  // of the tile's planes

  assign plane_bytes   = 10'((14'(tile_k) * 14'(cols) + 14'd7) >> 3);
  assign in_level      = level != '0;
  assign planes        = in_level ? 4'd1 : cmd_i.planes_read;
  assign rank          = in_level ? cmd_i.planes_read + 4'(level) - 4'd1 : '0;
  assign planes_before = rank + plane_q;
  assign read_bytes    = 14'(plane_bytes) * 14'(planes);
  assign before_bytes  = 14'(plane_bytes) * 14'(rank);
  assign stored_bytes  = 14'(plane_bytes) * 14'(cmd_i.planes_stored);
  assign requant_bytes = {1'b0, cols, 1'b0} + 9'(cols);
  assign base_param_bytes = cmd_i.offset_mode ? {1'b0, cols, 1'b0} : requant_bytes;
  assign param_bytes      = in_level ? {1'b0, cols, 1'b0} : base_param_bytes;
  assign last_segment  = !cmd_i.plane_major || plane_q + 4'd1 == planes;
  assign stage         = (stage_q == StParams && !group_end) ? StPlanes : stage_q;

  assign start       = cmd_valid_i && !tile_valid;
  assign cmd_ready_o = tile_next && last;
  assign seg_valid_o = tile_valid;

  always_comb begin
    if (start || (tile_valid && seg_ready_i)) begin
      activity_o = moe_commands_pkg::ActivityBusy;
    end else if (tile_valid) begin
      activity_o = moe_commands_pkg::ActivityBlocked;
    end else begin
      activity_o = moe_commands_pkg::ActivityIdle;
    end
  end

  always_comb begin
    unique case (planes_before)
      4'd1:    scattered_offset = cmd_i.plane_stride;
      4'd2:    scattered_offset = cmd_i.plane_offset_3;
      4'd3:    scattered_offset = cmd_i.plane_offset_4;
      4'd4:    scattered_offset = cmd_i.plane_offset_5;
      4'd5:    scattered_offset = cmd_i.plane_offset_6;
      4'd6:    scattered_offset = cmd_i.plane_offset_7;
      4'd7:    scattered_offset = cmd_i.plane_offset_8;
      default: scattered_offset = '0;
    endcase
  end

  always_comb begin
    seg_addr_o  = '0;
    seg_bytes_o = '0;
    if (tile_valid) begin
      unique case (stage)
        StParams: begin
          if (in_level) begin
            seg_addr_o = level_params_q + (cmd_i.scattered ? scattered_offset : level_offset_q);
          end else begin
            seg_addr_o = cmd_i.interleaved ? weight_q : params_q;
          end
          seg_bytes_o = 32'(param_bytes);
        end
        StRequant: begin
          seg_addr_o  = cmd_i.interleaved ? weight_q : requant_q;
          seg_bytes_o = 32'(requant_bytes);
        end
        default: begin
          seg_addr_o  = weight_q + (!cmd_i.plane_major ? 40'(before_bytes) :
                                    cmd_i.scattered    ? scattered_offset : plane_offset_q);
          seg_bytes_o = cmd_i.plane_major ? 32'(plane_bytes) : 32'(read_bytes);
        end
      endcase
    end
  end

  // ---- the beat in which the last segment of each kind ended ----
  logic [2:0]             ended_d, ended_q;          // one has in this command
  logic [2:0][39-ByteW:0] end_beat_d, end_beat_q;
  logic [39:0]            seg_end;                   // last byte
  logic [ByteW-1:0]       unused_end;

  assign seg_end      = seg_addr_o + 40'(seg_bytes_o) - 40'd1;
  assign unused_end   = seg_end[ByteW-1:0];
  assign seg_keep_o   = tile_valid ? 2'(stage) : '0;
  assign seg_resume_o = tile_valid && ended_q[stage] && end_beat_q[stage] == seg_addr_o[39:ByteW];

  always_comb begin
    ended_d    = ended_q;
    end_beat_d = end_beat_q;
    if (start) begin
      ended_d = '0;
    end else if (tile_valid && seg_ready_i) begin
      ended_d[stage]    = 1'b1;
      end_beat_d[stage] = seg_end[39:ByteW];
    end
  end

  always_comb begin
    stage_d        = stage_q;
    plane_d        = plane_q;
    plane_offset_d = plane_offset_q;
    weight_d       = weight_q;
    params_d       = params_q;
    requant_d      = requant_q;
    group_weight_d  = group_weight_q;
    bundle_offset_d = bundle_offset_q;
    level_params_d  = level_params_q;
    level_offset_d  = level_offset_q;
    tile_next      = 1'b0;
    if (start) begin
      weight_d        = cmd_i.weight_addr;
      params_d        = cmd_i.params_addr;
      requant_d       = cmd_i.requant_addr;
      group_weight_d  = cmd_i.weight_addr;
      plane_offset_d  = '0;
      bundle_offset_d = '0;
      level_params_d  = cmd_i.level_params_addr;
      level_offset_d  = '0;
    end else if (tile_valid && seg_ready_i) begin
      unique case (stage)
        StParams: begin
          if (!in_level) begin
            params_d = params_q + 40'(param_bytes);
          end else if (rewind) begin
            level_offset_d = level_offset_q + cmd_i.level_stride;
          end else begin
            level_offset_d = '0;
            level_params_d = level_params_q + 40'(param_bytes);
          end
          if (cmd_i.interleaved) begin
            weight_d = weight_q + 40'(in_bursts(base_param_bytes));
          end
          stage_d = StPlanes;
        end
        StRequant: begin
          requant_d = requant_q + 40'(requant_bytes);
          if (cmd_i.interleaved) begin
            weight_d       = weight_q + 40'(in_bursts(requant_bytes));
            group_weight_d = weight_d;
          end
          stage_d   = StParams;
          tile_next = 1'b1;
        end
        default: begin
          if (last_segment) begin
            weight_d = weight_q + (cmd_i.plane_major ? 40'(plane_bytes) : 40'(stored_bytes));
            plane_d  = '0;
            if (rewind) begin
              bundle_offset_d = plane_offset_q + (in_level ? cmd_i.level_stride : cmd_i.plane_stride);
              weight_d        = group_weight_q;
            end else if (group_end) begin
              bundle_offset_d = '0;
              group_weight_d  = weight_d;
            end
            plane_offset_d = bundle_offset_d;
            if (block_end && cmd_i.k_last) begin
              stage_d = StRequant;
            end else begin
              stage_d   = StParams;
              tile_next = 1'b1;
            end
          end else begin
            plane_d        = plane_q + 4'd1;
            plane_offset_d = plane_offset_q + cmd_i.plane_stride;
            stage_d        = StPlanes;
          end
        end
      endcase
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      stage_q        <= StParams;
      plane_q        <= '0;
      plane_offset_q <= '0;
      weight_q       <= '0;
      params_q       <= '0;
      requant_q      <= '0;
      group_weight_q  <= '0;
      bundle_offset_q <= '0;
      level_params_q  <= '0;
      level_offset_q  <= '0;
      ended_q         <= '0;
      end_beat_q      <= '0;
    end else begin
      stage_q        <= stage_d;
      plane_q        <= plane_d;
      plane_offset_q <= plane_offset_d;
      weight_q       <= weight_d;
      params_q       <= params_d;
      requant_q      <= requant_d;
      group_weight_q  <= group_weight_d;
      bundle_offset_q <= bundle_offset_d;
      level_params_q  <= level_params_d;
      level_offset_q  <= level_offset_d;
      ended_q         <= ended_d;
      end_beat_q      <= end_beat_d;
    end
  end

`ifndef SYNTHESIS
  moe_channel_check #(.Width(moe_commands_pkg::CommandBits)) u_check_cmd (
    .clk_i, .rst_ni, .valid_i(cmd_valid_i), .ready_i(cmd_ready_o), .payload_i({cmd_i})
  );
  moe_channel_check #(.Width(75)) u_check_seg (
    .clk_i, .rst_ni, .valid_i(seg_valid_o), .ready_i(seg_ready_i),
    .payload_i({seg_addr_o, seg_bytes_o, seg_keep_o, seg_resume_o})
  );
  SegmentIsNotEmpty_A: assert property (@(posedge clk_i) disable iff (!rst_ni) seg_valid_o |-> seg_bytes_o != '0);
  OneLayout_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      tile_valid |-> !(cmd_i.interleaved && cmd_i.plane_major));
  ReadsPlanes_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      tile_valid |-> cmd_i.planes_read inside {[1:8]} &&
                     cmd_i.planes_read + 4'(cmd_i.levels) <= cmd_i.planes_stored);
`endif
endmodule
