/// Issues the beats of one matmul: for tile (a group's once a bundle), for token, for digit set. Reads one activation
/// word per beat.
/// Rate one beat per cycle; the first beat leaves 2 cycles after start_i. Done when the array has answered every beat.
module moe_tile_sequencer #(
  parameter int unsigned Rows           = 8,   // PEs along k
  parameter int unsigned Cols           = 8,   // columns along n
  parameter int unsigned PlanesPerCycle = 2,   // digits a PE adds in a cycle
  parameter int unsigned MaxActBits     = 16,  // one activation, bits
  parameter int unsigned ActDepth       = 256  // activation buffer, words
) (
  input  logic                        clk_i,
  input  logic                        rst_ni,
  input  logic                        start_i,  // cmd_i is a matmul, stable until done_o
  input  moe_commands_pkg::cmd_t      cmd_i,
  output logic                        done_o,   // one cycle

  output logic [$clog2(ActDepth)-1:0] read_addr_o,  // activation buffer, combinational answer
  input  logic [Rows*MaxActBits-1:0]  read_data_i,

  output logic                        beat_valid_o,
  input  logic                        beat_ready_i,
  output logic [Rows*MaxActBits-1:0]  beat_x_o,
  output logic [2:0]                  beat_plane_o,   // stored plane of lane 0
  output logic [PlanesPerCycle-1:0]   beat_enable_o,  // lanes that carry a plane
  output logic [2:0]                  beat_shift_o,   // lane j counts 2^(beat_shift - j)
  output logic [moe_pkg::TagBits-1:0] beat_tag_o,     // see docs/core.md
  output logic                        beat_last_o,    // last beat of the tile
  input  logic                        sum_fire_i,     // one beat's sums have left the array
  output logic [1:0]                  activity_o
);
  if (PlanesPerCycle != 1 && PlanesPerCycle != 2 && PlanesPerCycle != 4) begin : gen_bad_planes
    $fatal(1, "moe_tile_sequencer: PlanesPerCycle must be 1, 2 or 4");
  end
  localparam int unsigned AddrBits = $clog2(ActDepth);

  logic                active_d, active_q;
  logic [AddrBits-1:0] tile_d, tile_q, row_d, row_q;  // tile of the block; first word of the token
  logic [AddrBits-1:0] group_tile_d, group_tile_q;    // tile_q at the group's first tile
  logic [7:0]          token_d, token_q;
  logic [3:0]          plane_d, plane_q;
  logic [7:0]          flight_d, flight_q;            // beats issued to the array, not yet answered

  logic                       beat_valid_d, beat_valid_q;
  logic [Rows*MaxActBits-1:0] beat_x_d, beat_x_q;
  logic [2:0]                 beat_plane_d, beat_plane_q, beat_shift_d, beat_shift_q;
  logic [PlanesPerCycle-1:0]  beat_enable_d, beat_enable_q;
  logic [moe_pkg::TagBits-1:0] beat_tag_d, beat_tag_q;
  logic                       beat_last_d, beat_last_q;

  logic       tile_valid, tile_ready, group_first, group_end, rewind, acc_first, block_end;
  logic       issue, beat_fire, last_set, last_token;
  logic [2:0] level;
  logic [3:0] planes;  // read of the bundle

  moe_tile_walker #(.Rows(Rows), .Cols(Cols)) u_walker (
    .clk_i, .rst_ni,
    .start_i,
    .n_i(cmd_i.n), .k_i(cmd_i.k), .group_size_i(cmd_i.group_size), .group_left_i(cmd_i.group_left),
    .paired_i(cmd_i.paired), .acc_continue_i(cmd_i.acc_continue), .group_continue_i(cmd_i.group_continue),
    .k_last_i(cmd_i.k_last), .levels_i(cmd_i.levels),
    .valid_o(tile_valid), .ready_i(tile_ready),
    .tile_k_o(), .cols_o(), .which_o(), .level_o(level),
    .group_first_o(group_first), .group_end_o(group_end), .rewind_o(rewind), .acc_first_o(acc_first),
    .block_first_o(), .block_end_o(block_end), .last_o()
  );

  assign beat_fire   = beat_valid_q && beat_ready_i;
  assign issue       = tile_valid && (!beat_valid_q || beat_ready_i);
  assign planes      = (level != '0) ? 4'd1 : cmd_i.planes_read;
  assign last_set    = plane_q + 4'(PlanesPerCycle) >= planes;
  assign last_token  = token_q + 8'd1 == cmd_i.tokens;
  assign tile_ready  = issue && last_set && last_token;
  assign read_addr_o = row_q + tile_q;
  assign done_o      = active_q && !tile_valid && !beat_valid_q && flight_q == '0;

  assign beat_valid_o  = beat_valid_q;
  assign beat_x_o      = beat_x_q;
  assign beat_plane_o  = beat_plane_q;
  assign beat_enable_o = beat_enable_q;
  assign beat_shift_o  = beat_shift_q;
  assign beat_tag_o    = beat_tag_q;
  assign beat_last_o   = beat_last_q;

  always_comb begin
    active_d = (active_q || start_i) && !done_o;
    tile_d   = tile_q;
    group_tile_d = group_tile_q;
    row_d    = row_q;
    token_d  = token_q;
    plane_d  = plane_q;
    flight_d = flight_q + 8'(beat_fire) - 8'(sum_fire_i);
    if (start_i) begin
      tile_d  = '0;
      group_tile_d = '0;
      row_d   = '0;
      token_d = '0;
      plane_d = '0;
    end else if (issue) begin
      plane_d = plane_q + 4'(PlanesPerCycle);
      if (last_set) begin
        plane_d = '0;
        token_d = token_q + 8'd1;
        row_d   = row_q + AddrBits'(cmd_i.act_stride);
        if (last_token) begin
          token_d = '0;
          row_d   = '0;
          tile_d  = block_end ? '0 : rewind ? group_tile_q : tile_q + AddrBits'(1);
          if (group_end && !rewind) group_tile_d = tile_d;
        end
      end
    end
  end

  always_comb begin
    beat_valid_d  = beat_valid_q && !beat_ready_i;
    beat_x_d      = beat_valid_d ? beat_x_q : '0;
    beat_plane_d  = beat_valid_d ? beat_plane_q : '0;
    beat_enable_d = beat_valid_d ? beat_enable_q : '0;
    beat_shift_d  = beat_valid_d ? beat_shift_q : '0;
    beat_tag_d    = beat_valid_d ? beat_tag_q : '0;
    beat_last_d   = beat_valid_d && beat_last_q;
    if (issue) begin
      beat_valid_d = 1'b1;
      beat_x_d     = read_data_i;
      beat_plane_d = plane_q[2:0];
      beat_shift_d = 3'(planes - 4'd1 - plane_q);
      for (int j = 0; j < PlanesPerCycle; j++) beat_enable_d[j] = plane_q + 4'(j) < planes;
      beat_tag_d[moe_pkg::TokenBits-1:0] = token_q[moe_pkg::TokenBits-1:0];
      beat_tag_d[moe_pkg::TagDigitFirst] = plane_q == '0;
      beat_tag_d[moe_pkg::TagGroupFirst] = group_first;
      beat_tag_d[moe_pkg::TagGroupEnd]   = group_end && last_set;
      beat_tag_d[moe_pkg::TagAccFirst]   = acc_first;
      beat_tag_d[moe_pkg::TagBlockDone]  = block_end && cmd_i.k_last && last_set && last_token;
      beat_last_d     = last_set && last_token;
    end
  end

  always_comb begin
    activity_o = moe_commands_pkg::ActivityIdle;
    if (start_i || beat_fire || issue || done_o) activity_o = moe_commands_pkg::ActivityBusy;
    else if (beat_valid_q)                       activity_o = moe_commands_pkg::ActivityBlocked;
    else if (active_q)                           activity_o = moe_commands_pkg::ActivityStarved;
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      active_q      <= 1'b0;
      tile_q        <= '0;
      group_tile_q  <= '0;
      row_q         <= '0;
      token_q       <= '0;
      plane_q       <= '0;
      flight_q      <= '0;
      beat_valid_q  <= 1'b0;
      beat_x_q      <= '0;
      beat_plane_q  <= '0;
      beat_enable_q <= '0;
      beat_shift_q  <= '0;
      beat_tag_q    <= '0;
      beat_last_q   <= 1'b0;
    end else begin
      active_q      <= active_d;
      tile_q        <= tile_d;
      group_tile_q  <= group_tile_d;
      row_q         <= row_d;
      token_q       <= token_d;
      plane_q       <= plane_d;
      flight_q      <= flight_d;
      beat_valid_q  <= beat_valid_d;
      beat_x_q      <= beat_x_d;
      beat_plane_q  <= beat_plane_d;
      beat_enable_q <= beat_enable_d;
      beat_shift_q  <= beat_shift_d;
      beat_tag_q    <= beat_tag_d;
      beat_last_q   <= beat_last_d;
    end
  end

  // The sequencer reads few of the command's fields.
  logic unused_fields;
  assign unused_fields = ^cmd_i;

`ifndef SYNTHESIS
  BeatStaysUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      beat_valid_o && !beat_ready_i |=> beat_valid_o &&
      $stable({beat_x_o, beat_plane_o, beat_enable_o, beat_shift_o, beat_tag_o, beat_last_o}));
  BeatZeroWhileInvalid_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      !beat_valid_o |-> {beat_x_o, beat_plane_o, beat_enable_o, beat_shift_o, beat_tag_o, beat_last_o} == '0);
  WordInRange_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      issue |-> 32'(token_q) * 32'(cmd_i.act_stride) + 32'(tile_q) < 32'(ActDepth));
  FlightCountHolds_A: assert property (@(posedge clk_i) disable iff (!rst_ni) sum_fire_i |-> flight_q != '0);
`endif
endmodule
