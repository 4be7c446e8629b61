/// Reads byte segments through an AXI4 read manager and hands them out as one gapless bit stream, lowest address and
/// least significant bit first. Bursts are INCR, beat-aligned, at most 16 beats and never cross 4 KiB; one is issued only
/// when the FIFO has room for all of it (credits), so a beat that is owed is always accepted. Only the bytes of a
/// segment enter the stream. Rate: one burst, one beat and one pop (of at most AxiDataWidth + 8 bits) a cycle; two cycles
/// from a beat on r_* to its bits on data_o.
/// Three beats are kept: of the segments of each seg_keep_i the one read last. A segment that begins in it, which
/// seg_resume_i says, takes it from there; the memory is asked for the beats after it only.
module moe_stream_reader #(
  parameter int unsigned AxiDataWidth = 64,    // bits of one beat: 64, 128, 256 or 512
  parameter int unsigned FifoDepth    = 16,    // beats outstanding or stored, power of two >= 16
  parameter bit          KeepsBeats   = 1'b1,  // 0: no beat is kept, seg_resume_i must be 0
  localparam int unsigned AvailW      = $clog2(3 * AxiDataWidth + 1)
) (
  input  logic                    clk_i,
  input  logic                    rst_ni,
  input  logic                    seg_valid_i,
  output logic                    seg_ready_o,
  input  logic [39:0]             seg_addr_i,    // first byte
  input  logic [31:0]             seg_bytes_i,   // >= 1
  input  logic [1:0]              seg_keep_i,    // where its beats are kept: 0, 1 or 2
  input  logic                    seg_resume_i,  // its first beat is the one kept there, once all before it are read
  output logic                    ar_valid_o,
  input  logic                    ar_ready_i,
  output logic [39:0]             ar_addr_o,
  output logic [7:0]              ar_len_o,
  output logic [2:0]              ar_size_o,
  output logic [1:0]              ar_burst_o,
  input  logic                    r_valid_i,
  output logic                    r_ready_o,
  input  logic [AxiDataWidth-1:0] r_data_i,
  input  logic [1:0]              r_resp_i,
  input  logic                    r_last_i,
  output logic [AvailW-1:0]       avail_o,       // bits that may be popped
  output logic [AxiDataWidth-1:0] data_o,        // the first of them; bits beyond avail_o are 0
  input  logic [AvailW-1:0]       pop_i,         // bits consumed at this edge, <= avail_o, <= AxiDataWidth + 8
  output logic                    idle_o,        // nothing owed, nothing stored
  output logic                    resp_error_o,  // sticky: an error response, or r_last_i away from a burst's end
  output logic [1:0]              activity_o
);
  if (AxiDataWidth != 64 && AxiDataWidth != 128 && AxiDataWidth != 256 && AxiDataWidth != 512) begin : gen_bad_width
    $fatal(1, "moe_stream_reader: AxiDataWidth must be 64, 128, 256 or 512");
  end
  if (FifoDepth < 16 || FifoDepth > 1024 || (FifoDepth & (FifoDepth - 1)) != 0) begin : gen_bad_depth
    $fatal(1, "moe_stream_reader: FifoDepth must be a power of two in 16..1024");
  end

  localparam int unsigned BeatBytes  = AxiDataWidth / 8;
  localparam int unsigned ByteW      = $clog2(BeatBytes);
  localparam int unsigned PtrW       = $clog2(FifoDepth);
  localparam int unsigned BoxWidth   = 3 * AxiDataWidth;
  localparam int unsigned PageBeats  = 4096 / BeatBytes;
  localparam int unsigned PageCountW = $clog2(PageBeats) + 1;
  localparam int unsigned CountW     = PtrW + 1;
  localparam int unsigned BytesW     = ByteW + 1;

  // A burst in flight or stored: whether its first beat is the kept one, where its beats are kept, bytes skipped in its
  // first beat, its beats - 1, the last byte used of its last beat.
  typedef struct packed {
    logic             resume;
    logic [1:0]       keep;
    logic [ByteW-1:0] skip;
    logic [3:0]       len;
    logic [ByteW-1:0] last_byte;
  } burst_t;

  // The segment being issued.
  logic        seg_d, seg_q;                // there is one
  logic [39:0] addr_d, addr_q;
  logic [31:0] bytes_d, bytes_q;
  logic [1:0]  keep_d, keep_q;
  logic        resume_d, resume_q;          // its next beat is the kept one
  // Beats owed by the memory, and owed or stored.
  logic [CountW-1:0] owed_d, owed_q, used_d, used_q;
  // Beat FIFO and burst FIFO.
  logic [AxiDataWidth:0] beat_mem_q [FifoDepth];    // r_last, data
  logic [2*ByteW+6:0]    burst_mem_q [FifoDepth];   // burst_t, as a vector: Yosys 0.55 misreads arrays of structures
  logic [PtrW-1:0] beat_write_d, beat_write_q, beat_read_d, beat_read_q;
  logic [PtrW-1:0] burst_write_d, burst_write_q, burst_read_d, burst_read_q;
  logic [CountW-1:0] bursts_d, bursts_q;              // stored
  logic [3:0]      beat_in_burst_d, beat_in_burst_q;  // of the oldest stored beat
  // Gearbox.
  logic [BoxWidth-1:0] box_d, box_q;
  logic [AvailW-1:0]   avail_d, avail_q;
  logic                error_d, error_q;

  // ---- issue ----
  logic [32:0]          seg_beats;    // that the rest of the segment touches
  logic [PageCountW-1:0] page_beats;   // left in the 4 KiB page
  logic [4:0]           page_limit, burst_beats;
  logic [4:0]           ask_beats;    // of the burst, without a kept one
  logic [31:0]          burst_bytes;  // of the segment in this burst
  logic                 burst_last, credit, ar_fire, issue, seg_fire;
  burst_t               burst_new;

  assign seg_beats   = (33'(bytes_q) + 33'(addr_q[ByteW-1:0]) + 33'(BeatBytes - 1)) >> ByteW;
  assign page_beats  = PageCountW'(PageBeats) - {1'b0, addr_q[11:ByteW]};
  assign page_limit  = (page_beats < PageCountW'(16)) ? page_beats[4:0] : 5'd16;
  assign burst_last  = seg_beats <= 33'(page_limit);
  assign burst_beats = burst_last ? seg_beats[4:0] : page_limit;
  assign burst_bytes = (32'(burst_beats) << ByteW) - 32'(addr_q[ByteW-1:0]);
  assign ask_beats   = burst_beats - 5'(resume_q);
  assign credit      = 32'(used_q) + 32'(ask_beats) <= FifoDepth && 32'(bursts_q) != FifoDepth;
  assign ar_fire     = ar_valid_o && ar_ready_i;
  assign issue       = ar_fire || (seg_q && credit && ask_beats == '0);
  assign seg_fire    = seg_valid_i && seg_ready_o;
  assign burst_new.resume    = resume_q;
  assign burst_new.keep      = keep_q;
  assign burst_new.skip      = addr_q[ByteW-1:0];
  assign burst_new.len       = 4'(burst_beats - 5'd1);
  assign burst_new.last_byte = burst_last ? addr_q[ByteW-1:0] + bytes_q[ByteW-1:0] - ByteW'(1) : '1;

  assign ar_valid_o  = seg_q && credit && ask_beats != '0;
  assign ar_addr_o   = ar_valid_o ? {addr_q[39:12], addr_q[11:ByteW] + (12-ByteW)'(resume_q), ByteW'(0)} : '0;
  assign ar_len_o    = ar_valid_o ? 8'(ask_beats) - 8'd1 : '0;
  assign ar_size_o   = ar_valid_o ? 3'(ByteW) : '0;
  assign ar_burst_o  = ar_valid_o ? 2'b01 : '0;
  assign seg_ready_o = !seg_q || (issue && burst_last);

  always_comb begin
    seg_d    = seg_q;
    addr_d   = addr_q;
    bytes_d  = bytes_q;
    keep_d   = keep_q;
    resume_d = resume_q;
    if (issue) begin
      seg_d    = !burst_last;
      addr_d   = addr_q + 40'(burst_bytes);
      bytes_d  = bytes_q - burst_bytes;
      resume_d = 1'b0;
    end
    if (seg_fire) begin
      seg_d    = 1'b1;
      addr_d   = seg_addr_i;
      bytes_d  = seg_bytes_i;
      keep_d   = seg_keep_i;
      resume_d = KeepsBeats && seg_resume_i;
    end
  end

  // ---- beats in, gearbox out ----
  logic                    r_fire, stored, resumes, insert, insert_read, beat_first, beat_last, beat_r_last;
  burst_t                  burst_now;
  logic [AxiDataWidth-1:0] read_data, kept_data, beat_data, beat_bits;
  logic [ByteW-1:0]        beat_skip;
  logic [BytesW-1:0]       beat_bytes;
  logic [AvailW-1:0]       avail_popped;

  assign r_ready_o  = owed_q != '0;
  assign r_fire     = r_valid_i && r_ready_o;
  assign stored     = used_q != owed_q;
  assign burst_now  = burst_mem_q[burst_read_q];
  assign beat_first = beat_in_burst_q == '0;
  assign beat_last  = beat_in_burst_q == burst_now.len;
  assign resumes    = bursts_q != '0 && beat_first && burst_now.resume;
  assign insert     = (stored || resumes) && avail_q <= AvailW'(BoxWidth - AxiDataWidth);
  assign insert_read = insert && !resumes;
  assign {beat_r_last, read_data} = beat_mem_q[beat_read_q];
  assign beat_data  = resumes ? kept_data : read_data;
  assign beat_skip  = beat_first ? burst_now.skip : '0;
  assign beat_bytes = (beat_last ? {1'b0, burst_now.last_byte} + BytesW'(1) : BytesW'(BeatBytes)) - {1'b0, beat_skip};
  assign beat_bits  = (beat_data >> {beat_skip, 3'b000}) & ~({AxiDataWidth{1'b1}} << {beat_bytes, 3'b000});

  assign avail_popped = avail_q - pop_i;
  assign avail_o      = avail_q;
  assign data_o       = box_q[AxiDataWidth-1:0];
  assign idle_o       = !seg_q && bursts_q == '0 && avail_q == '0;
  assign resp_error_o = error_q;

  always_comb begin
    owed_d          = owed_q - CountW'(r_fire);
    used_d          = used_q - CountW'(insert_read);
    beat_write_d    = beat_write_q + PtrW'(r_fire);
    beat_read_d     = beat_read_q + PtrW'(insert_read);
    burst_write_d   = burst_write_q + PtrW'(issue);
    burst_read_d    = burst_read_q + PtrW'(insert && beat_last);
    bursts_d        = bursts_q + CountW'(issue) - CountW'(insert && beat_last);
    beat_in_burst_d = beat_in_burst_q;
    box_d           = box_q >> pop_i;
    avail_d         = avail_popped;
    error_d         = error_q || (r_fire && r_resp_i != 2'b00) || (insert_read && beat_r_last != beat_last);
    if (ar_fire) begin
      owed_d = owed_d + CountW'(ask_beats);
      used_d = used_d + CountW'(ask_beats);
    end
    if (insert) begin
      beat_in_burst_d = beat_last ? '0 : beat_in_burst_q + 4'd1;
      box_d           = box_d | (BoxWidth'(beat_bits) << avail_popped);
      avail_d         = avail_popped + AvailW'({beat_bytes, 3'b000});
    end
  end

  always_comb begin
    if (seg_fire || issue || r_fire || insert || pop_i != '0) begin
      activity_o = moe_commands_pkg::ActivityBusy;
    end else if (idle_o) begin
      activity_o = moe_commands_pkg::ActivityIdle;
    end else if (stored || resumes || (owed_q == '0 && !seg_q)) begin  // bits wait for the consumer
      activity_o = moe_commands_pkg::ActivityBlocked;
    end else begin
      activity_o = moe_commands_pkg::ActivityStarved;
    end
  end

  always_ff @(posedge clk_i) begin
    if (r_fire) beat_mem_q[beat_write_q] <= {r_last_i, r_data_i};
    if (issue) burst_mem_q[burst_write_q] <= burst_new;
  end

  if (KeepsBeats) begin : gen_kept
    logic [AxiDataWidth-1:0] kept_q [3];
    assign kept_data = kept_q[burst_now.keep];
    always_ff @(posedge clk_i) begin
      if (insert_read) kept_q[burst_now.keep] <= read_data;
    end
  end else begin : gen_none_kept
    logic unused_keep;
    assign unused_keep = ^burst_now.keep;
    assign kept_data   = '0;
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      seg_q           <= 1'b0;
      addr_q          <= '0;
      bytes_q         <= '0;
      keep_q          <= '0;
      resume_q        <= 1'b0;
      owed_q          <= '0;
      used_q          <= '0;
      beat_write_q    <= '0;
      beat_read_q     <= '0;
      burst_write_q   <= '0;
      burst_read_q    <= '0;
      bursts_q        <= '0;
      beat_in_burst_q <= '0;
      box_q           <= '0;
      avail_q         <= '0;
      error_q         <= 1'b0;
    end else begin
      seg_q           <= seg_d;
      addr_q          <= addr_d;
      bytes_q         <= bytes_d;
      keep_q          <= keep_d;
      resume_q        <= resume_d;
      owed_q          <= owed_d;
      used_q          <= used_d;
      beat_write_q    <= beat_write_d;
      beat_read_q     <= beat_read_d;
      burst_write_q   <= burst_write_d;
      burst_read_q    <= burst_read_d;
      bursts_q        <= bursts_d;
      beat_in_burst_q <= beat_in_burst_d;
      box_q           <= box_d;
      avail_q         <= avail_d;
      error_q         <= error_d;
    end
  end

`ifndef SYNTHESIS
  moe_channel_check #(.Width(75)) u_check_seg (
    .clk_i, .rst_ni, .valid_i(seg_valid_i), .ready_i(seg_ready_o),
    .payload_i({seg_addr_i, seg_bytes_i, seg_keep_i, seg_resume_i})
  );
  SegmentIsNotEmpty_A: assert property (@(posedge clk_i) disable iff (!rst_ni) seg_valid_i |-> seg_bytes_i != '0);
  SegmentKeepsItsBeats_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      seg_valid_i |-> seg_keep_i != 2'd3 && (KeepsBeats || !seg_resume_i));
  moe_channel_check #(.Width(53)) u_check_ar (
    .clk_i, .rst_ni, .valid_i(ar_valid_o), .ready_i(ar_ready_i), .payload_i({ar_addr_o, ar_len_o, ar_size_o, ar_burst_o})
  );
  BurstStaysInPage_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      ar_valid_o |-> 32'(ar_addr_o[11:0]) + ((32'(ar_len_o) + 1) << ByteW) <= 4096);
  CreditsHold_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      32'(used_q) <= FifoDepth && owed_q <= used_q && 32'(bursts_q) <= FifoDepth);
  NoBeatUnasked_A: assert property (@(posedge clk_i) disable iff (!rst_ni) r_valid_i |-> r_ready_o);
  PopsWhatIsThere_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      pop_i <= avail_o && 32'(pop_i) <= AxiDataWidth + 8);
  NothingBeyondAvail_A: assert property (@(posedge clk_i) disable iff (!rst_ni) (box_q >> avail_q) == '0);
`endif
endmodule
