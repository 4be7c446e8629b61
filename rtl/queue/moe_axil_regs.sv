/// Registers of the core behind AXI4-Lite: identity, parameters, status, the staging words of the next command and of the
/// next descriptor, the settings of the I/O queue, and the windows on the counters. Rate: one write and one read per two
/// cycles; latency 2 cycles each. A refused access (unknown or wrong-way address, partial write, push into a full queue, a
/// descriptor that the I/O queue does not accept, a setting out of range) answers SLVERR and does nothing.
module moe_axil_regs #(
  parameter int unsigned Rows           = 8,    // PEs along k
  parameter int unsigned Cols           = 8,    // columns along n
  parameter int unsigned PlanesPerCycle = 2,    // digits a PE adds in a cycle
  parameter int unsigned MaxActBits     = 16,   // widest activation, bits
  parameter int unsigned AxiDataWidth   = 64,   // one memory beat, bits
  parameter int unsigned MaxTokens      = 8,    // tokens per command
  parameter int unsigned ActDepth       = 256,  // activation buffer, words
  parameter int unsigned HiddenDepth    = 512,  // hidden buffer, words
  parameter int unsigned FifoDepth      = 32,   // beats a stream reader may hold
  parameter int unsigned CommandDepth   = 8,    // commands the queue holds
  parameter int unsigned IoDepth        = 8,    // descriptors that may wait to be issued
  parameter int unsigned IoCredits      = 4,    // storage requests that may ever be outstanding
  parameter int unsigned IoJobs         = 4     // jobs that may wait for planes, at most 16
) (
  input  logic        clk_i,
  input  logic        rst_ni,

  input  logic        axil_aw_valid_i,
  output logic        axil_aw_ready_o,
  input  logic [moe_commands_pkg::RegAddrBits-1:0] axil_aw_addr_i,
  input  logic        axil_w_valid_i,
  output logic        axil_w_ready_o,
  input  logic [31:0] axil_w_data_i,
  input  logic [3:0]  axil_w_strb_i,
  output logic        axil_b_valid_o,
  input  logic        axil_b_ready_i,
  output logic [1:0]  axil_b_resp_o,
  input  logic        axil_ar_valid_i,
  output logic        axil_ar_ready_o,
  input  logic [moe_commands_pkg::RegAddrBits-1:0] axil_ar_addr_i,
  output logic        axil_r_valid_o,
  input  logic        axil_r_ready_i,
  output logic [31:0] axil_r_data_o,
  output logic [1:0]  axil_r_resp_o,

  output logic                     push_valid_o,  // only when push_free_i says that there is room
  output moe_commands_pkg::cmd_t   push_cmd_o,
  input  logic [7:0]               push_free_i,   // free entries of the queue
  input  logic                     busy_i,        // a command is queued or executing
  input  logic                     shift_error_i,
  input  logic                     resp_error_i,
  input  logic                     command_error_i,
  input  logic                     io_error_i,

  output logic                     io_push_valid_o,
  input  logic                     io_push_accept_i,  // of io_push_desc_o
  output moe_commands_pkg::desc_t  io_push_desc_o,
  output logic [1:0]               io_order_o,        // moe_commands_pkg::Order*
  output logic [7:0]               io_credits_o,      // requests that may be outstanding
  input  logic [7:0]               io_free_i,         // descriptors that a push may still take
  input  logic [7:0]               io_outstanding_i,
  input  logic [15:0]              io_jobs_used_i,
  input  logic [15:0]              io_jobs_released_i,

  output logic                                     snapshot_o,     // copy all counters at this edge
  output logic [moe_commands_pkg::RegAddrBits-1:2] window_addr_o,  // word address being read, 0 when none
  input  logic [31:0]                              window_data_i   // the counter word there, combinational
);
  localparam logic [1:0] RespOkay   = 2'b00;
  localparam logic [1:0] RespSlverr = 2'b10;
  localparam int unsigned AddrBits  = moe_commands_pkg::RegAddrBits;

  logic                aw_valid_d, aw_valid_q, w_valid_d, w_valid_q, b_valid_d, b_valid_q;
  logic [AddrBits-1:0] aw_addr_d, aw_addr_q;
  logic [31:0]         w_data_d, w_data_q;
  logic                w_whole_d, w_whole_q;
  logic [1:0]          b_resp_d, b_resp_q;
  logic                ar_valid_d, ar_valid_q, r_valid_d, r_valid_q;
  logic [AddrBits-1:0] ar_addr_d, ar_addr_q;
  logic [31:0]         r_data_d, r_data_q;
  logic [1:0]          r_resp_d, r_resp_q;
  logic [moe_commands_pkg::CommandBits-1:0] staging_d, staging_q;
  logic [moe_commands_pkg::DescriptorBits-1:0] io_staging_d, io_staging_q;
  logic [1:0]          io_order_d, io_order_q;
  logic [7:0]          io_credits_d, io_credits_q;

  logic write, write_staging, write_push, write_snapshot, write_io_staging, write_io_push, write_io_order, write_io_credits;
  logic write_good;
  logic read, read_good;
  logic [31:0] read_data;

  // --- writes: address and data are held until both are here and the previous answer has gone
  assign axil_aw_ready_o = !aw_valid_q;
  assign axil_w_ready_o  = !w_valid_q;
  assign axil_b_valid_o  = b_valid_q;
  assign axil_b_resp_o   = b_resp_q;

  assign write          = aw_valid_q && w_valid_q && !b_valid_q;
  assign write_staging  = w_whole_q && aw_addr_q[1:0] == 2'b00 &&
                          aw_addr_q[AddrBits-1:7] == moe_commands_pkg::RegStaging[AddrBits-1:7] &&
                          32'(aw_addr_q[6:2]) < moe_commands_pkg::RegStagingCount;
  assign write_push     = w_whole_q && aw_addr_q == moe_commands_pkg::RegPush && push_free_i != '0;
  assign write_snapshot = w_whole_q && aw_addr_q == moe_commands_pkg::RegSnapshot;
  assign write_io_staging = w_whole_q && aw_addr_q[1:0] == 2'b00 &&
                            aw_addr_q[AddrBits-1:5] == moe_commands_pkg::RegIoStaging[AddrBits-1:5];
  assign write_io_push    = w_whole_q && aw_addr_q == moe_commands_pkg::RegIoPush;
  assign write_io_order   = w_whole_q && aw_addr_q == moe_commands_pkg::RegIoOrder &&
                            w_data_q <= 32'(moe_commands_pkg::OrderHebf);
  assign write_io_credits = w_whole_q && aw_addr_q == moe_commands_pkg::RegIoCredits && w_data_q <= 32'(IoCredits);
  assign write_good       = write_staging || write_push || write_snapshot || write_io_staging ||
                            (write_io_push && io_push_accept_i) || write_io_order || write_io_credits;

  assign push_valid_o = write && write_push;
  assign snapshot_o   = write && write_snapshot;

  assign io_push_valid_o = write && write_io_push;
  assign io_order_o      = io_order_q;
  assign io_credits_o    = io_credits_q;

  // Reserved bits go no further than the staging words.
  always_comb begin
    io_push_desc_o            = io_push_valid_o ? moe_commands_pkg::desc_t'(io_staging_q) : '0;
    io_push_desc_o.reserved_1 = '0;
    io_push_desc_o.reserved_2 = '0;
    io_push_desc_o.reserved_3 = '0;
    io_push_desc_o.reserved_4 = '0;
  end

  always_comb begin
    push_cmd_o            = push_valid_o ? moe_commands_pkg::cmd_t'(staging_q) : '0;
    push_cmd_o.reserved_1 = '0;
    push_cmd_o.reserved_2 = '0;
  end

  always_comb begin
    aw_valid_d = aw_valid_q;
    aw_addr_d  = aw_addr_q;
    w_valid_d  = w_valid_q;
    w_data_d   = w_data_q;
    w_whole_d  = w_whole_q;
    b_valid_d  = b_valid_q && !axil_b_ready_i;
    b_resp_d   = b_valid_d ? b_resp_q : RespOkay;
    staging_d  = staging_q;
    io_staging_d = io_staging_q;
    io_order_d   = io_order_q;
    io_credits_d = io_credits_q;
    if (axil_aw_valid_i && axil_aw_ready_o) begin
      aw_valid_d = 1'b1;
      aw_addr_d  = axil_aw_addr_i;
    end
    if (axil_w_valid_i && axil_w_ready_o) begin
      w_valid_d = 1'b1;
      w_data_d  = axil_w_data_i;
      w_whole_d = axil_w_strb_i == '1;
    end
    if (write) begin
      aw_valid_d = 1'b0;
      w_valid_d  = 1'b0;
      b_valid_d  = 1'b1;
      b_resp_d   = write_good ? RespOkay : RespSlverr;
      if (write_staging) staging_d[{aw_addr_q[6:2], 5'd0} +: 32] = w_data_q;
      if (write_io_staging) io_staging_d[{aw_addr_q[4:2], 5'd0} +: 32] = w_data_q;
      if (write_io_order) io_order_d = w_data_q[1:0];
      if (write_io_credits) io_credits_d = w_data_q[7:0];
    end
  end

  // --- reads
  assign axil_ar_ready_o = !ar_valid_q;
  assign axil_r_valid_o  = r_valid_q;
  assign axil_r_data_o   = r_data_q;
  assign axil_r_resp_o   = r_resp_q;
  assign window_addr_o   = ar_valid_q ? ar_addr_q[AddrBits-1:2] : '0;
  assign read            = ar_valid_q && !r_valid_q;

  always_comb begin
    read_good = 1'b1;
    read_data = '0;
    unique case (ar_addr_q)
      moe_commands_pkg::RegIdentity:       read_data = moe_commands_pkg::IdentityValue;
      moe_commands_pkg::RegRows:           read_data = 32'(Rows);
      moe_commands_pkg::RegCols:           read_data = 32'(Cols);
      moe_commands_pkg::RegPlanesPerCycle: read_data = 32'(PlanesPerCycle);
      moe_commands_pkg::RegMaxActBits:     read_data = 32'(MaxActBits);
      moe_commands_pkg::RegAxiDataBits:    read_data = 32'(AxiDataWidth);
      moe_commands_pkg::RegMaxTokens:      read_data = 32'(MaxTokens);
      moe_commands_pkg::RegActDepth:       read_data = 32'(ActDepth);
      moe_commands_pkg::RegHiddenDepth:    read_data = 32'(HiddenDepth);
      moe_commands_pkg::RegFifoDepth:      read_data = 32'(FifoDepth);
      moe_commands_pkg::RegCommandDepth:   read_data = 32'(CommandDepth);
      moe_commands_pkg::RegBlocks:         read_data = 32'(moe_commands_pkg::NumBlocks);
      moe_commands_pkg::RegStatus:
        read_data = {16'd0, push_free_i, 3'd0, io_error_i, command_error_i, resp_error_i, shift_error_i, busy_i};
      moe_commands_pkg::RegIoOrder:        read_data = 32'(io_order_q);
      moe_commands_pkg::RegIoCredits:      read_data = 32'(io_credits_q);
      moe_commands_pkg::RegIoStatus:       read_data = {16'd0, io_outstanding_i, io_free_i};
      moe_commands_pkg::RegIoJobs:         read_data = {io_jobs_released_i, io_jobs_used_i};
      moe_commands_pkg::RegIoDepth:        read_data = 32'(IoDepth);
      moe_commands_pkg::RegIoMaxCredits:   read_data = 32'(IoCredits);
      moe_commands_pkg::RegIoMaxJobs:      read_data = 32'(IoJobs);
      default: begin
        if (ar_addr_q[1:0] != 2'b00) begin
          read_good = 1'b0;
        end else if (ar_addr_q[AddrBits-1:7] == moe_commands_pkg::RegStaging[AddrBits-1:7] &&
                     32'(ar_addr_q[6:2]) < moe_commands_pkg::RegStagingCount) begin
          read_data = staging_q[{ar_addr_q[6:2], 5'd0} +: 32];
        end else if (ar_addr_q[AddrBits-1:5] == moe_commands_pkg::RegIoStaging[AddrBits-1:5]) begin
          read_data = io_staging_q[{ar_addr_q[4:2], 5'd0} +: 32];
        end else if (ar_addr_q[AddrBits-1:3] == moe_commands_pkg::RegCycles[AddrBits-1:3] ||
                     ar_addr_q[AddrBits-1:9] == moe_commands_pkg::RegCounters[AddrBits-1:9]) begin
          read_data = window_data_i;
        end else begin
          read_good = 1'b0;
        end
      end
    endcase
  end

  always_comb begin
    ar_valid_d = ar_valid_q;
    ar_addr_d  = ar_addr_q;
    r_valid_d  = r_valid_q && !axil_r_ready_i;
    r_data_d   = r_valid_d ? r_data_q : '0;
    r_resp_d   = r_valid_d ? r_resp_q : RespOkay;
    if (axil_ar_valid_i && axil_ar_ready_o) begin
      ar_valid_d = 1'b1;
      ar_addr_d  = axil_ar_addr_i;
    end
    if (read) begin
      ar_valid_d = 1'b0;
      r_valid_d  = 1'b1;
      r_data_d   = read_data;
      r_resp_d   = read_good ? RespOkay : RespSlverr;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      aw_valid_q <= 1'b0;
      aw_addr_q  <= '0;
      w_valid_q  <= 1'b0;
      w_data_q   <= '0;
      w_whole_q  <= 1'b0;
      b_valid_q  <= 1'b0;
      b_resp_q   <= RespOkay;
      ar_valid_q <= 1'b0;
      ar_addr_q  <= '0;
      r_valid_q  <= 1'b0;
      r_data_q   <= '0;
      r_resp_q   <= RespOkay;
      staging_q  <= '0;
      io_staging_q <= '0;
      io_order_q   <= moe_commands_pkg::OrderFifo;
      io_credits_q <= 8'(IoCredits);
    end else begin
      aw_valid_q <= aw_valid_d;
      aw_addr_q  <= aw_addr_d;
      w_valid_q  <= w_valid_d;
      w_data_q   <= w_data_d;
      w_whole_q  <= w_whole_d;
      b_valid_q  <= b_valid_d;
      b_resp_q   <= b_resp_d;
      ar_valid_q <= ar_valid_d;
      ar_addr_q  <= ar_addr_d;
      r_valid_q  <= r_valid_d;
      r_data_q   <= r_data_d;
      r_resp_q   <= r_resp_d;
      staging_q  <= staging_d;
      io_staging_q <= io_staging_d;
      io_order_q   <= io_order_d;
      io_credits_q <= io_credits_d;
    end
  end

`ifndef SYNTHESIS
  BStaysUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      axil_b_valid_o && !axil_b_ready_i |=> axil_b_valid_o && $stable(axil_b_resp_o));
  RStaysUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      axil_r_valid_o && !axil_r_ready_i |=> axil_r_valid_o && $stable({axil_r_data_o, axil_r_resp_o}));
  BZeroWhileInvalid_A: assert property (@(posedge clk_i) disable iff (!rst_ni) !axil_b_valid_o |-> axil_b_resp_o == '0);
  RZeroWhileInvalid_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      !axil_r_valid_o |-> {axil_r_data_o, axil_r_resp_o} == '0);
`endif
endmodule
