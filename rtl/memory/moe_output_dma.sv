/// Writes chunks of 1..32 bytes through an AXI4 write manager, as single-beat bursts with strobes. Consecutive chunks that
/// fall into one beat are combined; a beat leaves when it is full, when a chunk lies in another one, or on a flush.
/// At most 15 writes are unacknowledged. AW and W are independent channels. Rate: the part of a chunk that lies in one
/// beat a cycle; two cycles from a chunk to its full beat on aw_* and w_*.
module moe_output_dma #(
  parameter int unsigned AxiDataWidth = 64,  // bits of one beat: 64, 128, 256 or 512
  localparam int unsigned BeatBytes   = AxiDataWidth / 8
) (
  input  logic                    clk_i,
  input  logic                    rst_ni,
  input  logic                    in_valid_i,
  output logic                    in_ready_o,
  input  logic [39:0]             in_addr_i,     // any byte address
  input  logic [5:0]              in_bytes_i,    // 1..32
  input  logic [255:0]            in_data_i,     // byte i at 8*i
  input  logic                    flush_i,       // write out what is there once the chunks accepted so far are in
  output logic                    aw_valid_o,
  input  logic                    aw_ready_i,
  output logic [39:0]             aw_addr_o,
  output logic [7:0]              aw_len_o,
  output logic [2:0]              aw_size_o,
  output logic [1:0]              aw_burst_o,
  output logic                    w_valid_o,
  input  logic                    w_ready_i,
  output logic [AxiDataWidth-1:0] w_data_o,      // bytes without strobe are 0
  output logic [BeatBytes-1:0]    w_strb_o,
  output logic                    w_last_o,
  input  logic                    b_valid_i,
  output logic                    b_ready_o,
  input  logic [1:0]              b_resp_i,
  output logic                    idle_o,        // nothing stored, nothing unacknowledged
  output logic                    resp_error_o,  // sticky
  output logic [1:0]              activity_o
);
  if (AxiDataWidth != 64 && AxiDataWidth != 128 && AxiDataWidth != 256 && AxiDataWidth != 512) begin : gen_bad_width
    $fatal(1, "moe_output_dma: AxiDataWidth must be 64, 128, 256 or 512");
  end

  localparam int unsigned ByteW         = $clog2(BeatBytes);
  localparam int unsigned MaxUnanswered = 15;

  // The chunk being taken apart.
  logic         chunk_d, chunk_q;
  logic [39:0]  addr_d, addr_q;
  logic [5:0]   bytes_d, bytes_q;
  logic [255:0] data_d, data_q;
  // The beat being put together.
  logic                    beat_d, beat_q;
  logic [39-ByteW:0]       beat_addr_d, beat_addr_q;
  logic [AxiDataWidth-1:0] beat_data_d, beat_data_q;
  logic [BeatBytes-1:0]    beat_strb_d, beat_strb_q;
  logic                    flush_d, flush_q;
  // The beat being written.
  logic                    aw_d, aw_q, w_d, w_q;
  logic [39-ByteW:0]       aw_addr_d, aw_addr_q;
  logic [AxiDataWidth-1:0] w_data_d, w_data_q;
  logic [BeatBytes-1:0]    w_strb_d, w_strb_q;
  logic [3:0]              unanswered_d, unanswered_q;
  logic                    error_d, error_q;

  logic in_fire, aw_fire, w_fire, b_fire;
  assign in_fire = in_valid_i && in_ready_o;
  assign aw_fire = aw_valid_o && aw_ready_i;
  assign w_fire  = w_valid_o && w_ready_i;
  assign b_fire  = b_valid_i && b_ready_o;

  // ---- the part of the chunk that lies in one beat ----
  logic [ByteW-1:0]        offset;
  logic [ByteW:0]          room_bytes;  // left in the beat
  logic [5:0]              take;
  logic [39-ByteW:0]       part_addr;
  logic [AxiDataWidth-1:0] part_data;
  logic [BeatBytes-1:0]    part_strb;
  logic                    part_last;
  assign offset     = addr_q[ByteW-1:0];
  assign room_bytes = (ByteW+1)'(BeatBytes) - {1'b0, offset};
  assign part_last  = 7'(bytes_q) <= 7'(room_bytes);
  assign take       = part_last ? bytes_q : 6'(room_bytes);
  assign part_addr  = addr_q[39:ByteW];
  assign part_strb  = ~({BeatBytes{1'b1}} << take) << offset;
  assign part_data  = AxiDataWidth'(data_q) << {offset, 3'b000};

  logic beat_full, same_beat, want_send, can_send, send, part_fire;
  assign beat_full = &beat_strb_q;
  assign same_beat = beat_addr_q == part_addr;
  assign want_send = beat_q && (beat_full || (chunk_q ? !same_beat : flush_q));
  assign can_send  = (!aw_q || aw_ready_i) && (!w_q || w_ready_i) && unanswered_q != 4'(MaxUnanswered);
  assign send      = want_send && can_send;
  assign part_fire = chunk_q && (!want_send || can_send);

  assign in_ready_o = !chunk_q || (part_fire && part_last);

  always_comb begin
    chunk_d = chunk_q;
    addr_d  = addr_q;
    bytes_d = bytes_q;
    data_d  = data_q;
    if (part_fire) begin
      chunk_d = !part_last;
      addr_d  = addr_q + 40'(take);
      bytes_d = bytes_q - take;
      data_d  = data_q >> {take, 3'b000};
    end
    if (in_fire) begin
      chunk_d = 1'b1;
      addr_d  = in_addr_i;
      bytes_d = in_bytes_i;
      data_d  = in_data_i;
    end
  end

  always_comb begin
    beat_d      = beat_q && !send;
    beat_addr_d = beat_addr_q;
    beat_data_d = send ? '0 : beat_data_q;
    beat_strb_d = send ? '0 : beat_strb_q;
    flush_d     = flush_i || (flush_q && (chunk_q || (beat_q && !send)));
    if (part_fire) begin
      beat_d      = 1'b1;
      beat_addr_d = part_addr;
      beat_strb_d = beat_strb_d | part_strb;
      for (int unsigned b = 0; b < BeatBytes; b++) begin
        if (part_strb[b]) beat_data_d[8*b +: 8] = part_data[8*b +: 8];
      end
    end
  end

  always_comb begin
    aw_d         = send || (aw_q && !aw_ready_i);
    w_d          = send || (w_q && !w_ready_i);
    aw_addr_d    = send ? beat_addr_q : aw_addr_q;
    w_data_d     = send ? beat_data_q : w_data_q;
    w_strb_d     = send ? beat_strb_q : w_strb_q;
    unanswered_d = unanswered_q + 4'(send) - 4'(b_fire);
    error_d      = error_q || (b_fire && b_resp_i != 2'b00);
  end

  assign aw_valid_o   = aw_q;
  assign aw_addr_o    = aw_q ? {aw_addr_q, ByteW'(0)} : '0;
  assign aw_len_o     = '0;
  assign aw_size_o    = aw_q ? 3'(ByteW) : '0;
  assign aw_burst_o   = aw_q ? 2'b01 : '0;
  assign w_valid_o    = w_q;
  assign w_data_o     = w_q ? w_data_q : '0;
  assign w_strb_o     = w_q ? w_strb_q : '0;
  assign w_last_o     = w_q;
  assign b_ready_o    = unanswered_q != '0;
  assign idle_o       = !chunk_q && !beat_q && unanswered_q == '0;
  assign resp_error_o = error_q;

  always_comb begin
    if (in_fire || part_fire || send || aw_fire || w_fire || b_fire) begin
      activity_o = moe_commands_pkg::ActivityBusy;
    end else if (idle_o) begin
      activity_o = moe_commands_pkg::ActivityIdle;
    end else if (chunk_q || unanswered_q != '0 || want_send) begin
      activity_o = moe_commands_pkg::ActivityBlocked;
    end else begin  // a beat is partly filled
      activity_o = moe_commands_pkg::ActivityStarved;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      chunk_q      <= 1'b0;
      addr_q       <= '0;
      bytes_q      <= '0;
      data_q       <= '0;
      beat_q       <= 1'b0;
      beat_addr_q  <= '0;
      beat_data_q  <= '0;
      beat_strb_q  <= '0;
      flush_q      <= 1'b0;
      aw_q         <= 1'b0;
      w_q          <= 1'b0;
      aw_addr_q    <= '0;
      w_data_q     <= '0;
      w_strb_q     <= '0;
      unanswered_q <= '0;
      error_q      <= 1'b0;
    end else begin
      chunk_q      <= chunk_d;
      addr_q       <= addr_d;
      bytes_q      <= bytes_d;
      data_q       <= data_d;
      beat_q       <= beat_d;
      beat_addr_q  <= beat_addr_d;
      beat_data_q  <= beat_data_d;
      beat_strb_q  <= beat_strb_d;
      flush_q      <= flush_d;
      aw_q         <= aw_d;
      w_q          <= w_d;
      aw_addr_q    <= aw_addr_d;
      w_data_q     <= w_data_d;
      w_strb_q     <= w_strb_d;
      unanswered_q <= unanswered_d;
      error_q      <= error_d;
    end
  end

`ifndef SYNTHESIS
  moe_channel_check #(.Width(302)) u_check_in (
    .clk_i, .rst_ni, .valid_i(in_valid_i), .ready_i(in_ready_o), .payload_i({in_addr_i, in_bytes_i, in_data_i})
  );
  ChunkHasBytes_A: assert property (@(posedge clk_i) disable iff (!rst_ni) in_valid_i |-> in_bytes_i inside {[1:32]});
  moe_channel_check #(.Width(53)) u_check_aw (
    .clk_i, .rst_ni, .valid_i(aw_valid_o), .ready_i(aw_ready_i), .payload_i({aw_addr_o, aw_len_o, aw_size_o, aw_burst_o})
  );
  moe_channel_check #(.Width(AxiDataWidth + BeatBytes + 1)) u_check_w (
    .clk_i, .rst_ni, .valid_i(w_valid_o), .ready_i(w_ready_i), .payload_i({w_data_o, w_strb_o, w_last_o})
  );
  NoAnswerUnasked_A: assert property (@(posedge clk_i) disable iff (!rst_ni) b_valid_i |-> b_ready_o);
  AnswersFollowWrites_A: assert property (@(posedge clk_i) disable iff (!rst_ni) aw_q || w_q |-> unanswered_q != '0);
`endif
endmodule
