/// One core: runs commands that a host writes over AXI4-Lite; weights, activations and results live behind AXI4.
/// Commands execute in order; weights of the next product load while the present one computes. See docs/core.md.
/// No combinational path leads from an input to an output.
module moe_core #(
  parameter int unsigned Rows           = 8,    // PEs along k, a power of two in 4..64
  parameter int unsigned Cols           = 8,    // columns along n, a power of two in 4..64
  parameter int unsigned PlanesPerCycle = 2,    // digits a PE adds in a cycle: 1, 2 or 4
  parameter int unsigned MaxActBits     = 16,   // widest activation, bits: 4, 8 or 16
  parameter int unsigned AxiDataWidth   = 64,   // one memory beat, bits: 64, 128, 256 or 512, at least Rows
  parameter int unsigned MaxTokens      = 8,    // tokens per command, a power of two in 1..128
  parameter int unsigned ActDepth       = 256,  // activation buffer, words, a power of two
  parameter int unsigned HiddenDepth    = 512,  // hidden buffer, words of four, a power of two
  parameter int unsigned FifoDepth      = 32,   // beats a stream reader may hold, a power of two >= 16
  parameter int unsigned CommandDepth   = 8,    // commands the queue holds, a power of two >= 4
  parameter int unsigned IoDepth        = 8,    // descriptors that may wait to be issued, a power of two in 4..32
  parameter int unsigned IoCredits      = 4,    // storage requests that may ever be outstanding, a power of two in 1..64
  parameter int unsigned IoJobs         = 4     // jobs that may wait for planes, a power of two in 2..16
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

  output logic                      wgt_ar_valid_o,  // weights, parameters, requantisation
  input  logic                      wgt_ar_ready_i,
  output logic [39:0]               wgt_ar_addr_o,
  output logic [7:0]                wgt_ar_len_o,
  output logic [2:0]                wgt_ar_size_o,
  output logic [1:0]                wgt_ar_burst_o,
  input  logic                      wgt_r_valid_i,
  output logic                      wgt_r_ready_o,
  input  logic [AxiDataWidth-1:0]   wgt_r_data_i,
  input  logic [1:0]                wgt_r_resp_i,
  input  logic                      wgt_r_last_i,

  output logic                      act_ar_valid_o,  // activations, router weights, experts' rows
  input  logic                      act_ar_ready_i,
  output logic [39:0]               act_ar_addr_o,
  output logic [7:0]                act_ar_len_o,
  output logic [2:0]                act_ar_size_o,
  output logic [1:0]                act_ar_burst_o,
  input  logic                      act_r_valid_i,
  output logic                      act_r_ready_o,
  input  logic [AxiDataWidth-1:0]   act_r_data_i,
  input  logic [1:0]                act_r_resp_i,
  input  logic                      act_r_last_i,

  output logic                      out_aw_valid_o,  // results
  input  logic                      out_aw_ready_i,
  output logic [39:0]               out_aw_addr_o,
  output logic [7:0]                out_aw_len_o,
  output logic [2:0]                out_aw_size_o,
  output logic [1:0]                out_aw_burst_o,
  output logic                      out_w_valid_o,
  input  logic                      out_w_ready_i,
  output logic [AxiDataWidth-1:0]   out_w_data_o,
  output logic [AxiDataWidth/8-1:0] out_w_strb_o,
  output logic                      out_w_last_o,
  input  logic                      out_b_valid_i,
  output logic                      out_b_ready_o,
  input  logic [1:0]                out_b_resp_i,

  output logic                      io_req_valid_o,  // to the storage: copy bytes from source (its) to destination (memory's)
  input  logic                      io_req_ready_i,
  output logic [7:0]                io_req_id_o,
  output logic [47:0]               io_req_source_o,
  output logic [39:0]               io_req_destination_o,
  output logic [31:0]               io_req_bytes_o,
  input  logic                      io_done_valid_i,  // all bytes of a request are in the memory; any order
  output logic                      io_done_ready_o,
  input  logic [7:0]                io_done_id_i,

  output logic                                     retired_o,  // a command has been executed: one cycle each
  output logic                                     idle_o,     // no command is queued or executing
  output logic [2*moe_commands_pkg::NumBlocks-1:0] activity_o  // of block b at bits 2b+1:2b, order of moe_commands_pkg
);
  if (AxiDataWidth != 64 && AxiDataWidth != 128 && AxiDataWidth != 256 && AxiDataWidth != 512) begin : gen_bad_width
    $fatal(1, "moe_core: AxiDataWidth must be 64, 128, 256 or 512");
  end
  if (AxiDataWidth < Rows) begin : gen_narrow
    $fatal(1, "moe_core: AxiDataWidth must be at least Rows");
  end
  if (MaxActBits != 4 && MaxActBits != 8 && MaxActBits != 16) begin : gen_bad_act_bits
    $fatal(1, "moe_core: MaxActBits must be 4, 8 or 16");
  end
  if (ActDepth < MaxTokens || (ActDepth & (ActDepth - 1)) != 0 || (HiddenDepth & (HiddenDepth - 1)) != 0) begin : gen_bad_depth
    $fatal(1, "moe_core: ActDepth must be a power of two and at least MaxTokens, HiddenDepth a power of two");
  end

  localparam int unsigned LoadCols   = (Cols < AxiDataWidth / Rows) ? Cols : AxiDataWidth / Rows;
  localparam int unsigned AvailW     = $clog2(3 * AxiDataWidth + 1);  // of a stream reader
  localparam int unsigned RowSumBits = MaxActBits + $clog2(Rows);
  localparam int unsigned SumBits    = RowSumBits + 8;
  localparam int unsigned ActAddrW   = $clog2(ActDepth);
  localparam int unsigned HiddenAddrW = $clog2(HiddenDepth);
  localparam int unsigned MetaBits   = 64;

  // --- commands
  logic                   push_valid, push_ready, fetch_valid, fetch_ready, exec_valid, exec_ready;
  moe_commands_pkg::cmd_t push_cmd, fetch_cmd, exec_cmd, weight_cmd, loader_cmd;
  logic                   weight_cmd_valid, weight_cmd_ready, loader_cmd_valid, loader_cmd_ready;
  logic [7:0]             queue_free;
  logic                   snapshot;
  logic [moe_commands_pkg::RegAddrBits-1:2] window_addr;
  logic [31:0]            window_data;
  logic                   io_push_valid, io_push_accept, io_error, pass, retire;
  moe_commands_pkg::desc_t io_push_desc;
  logic [1:0]             io_order;
  logic [7:0]             io_credits, io_free, io_outstanding, pass_job, retire_job;
  logic [IoJobs-1:0]      jobs_used, jobs_released, jobs_fetchable;
  logic                   shift_error, command_error, weight_resp_error, act_resp_error, out_resp_error;

  moe_axil_regs #(
    .Rows(Rows), .Cols(Cols), .PlanesPerCycle(PlanesPerCycle), .MaxActBits(MaxActBits), .AxiDataWidth(AxiDataWidth),
    .MaxTokens(MaxTokens), .ActDepth(ActDepth), .HiddenDepth(HiddenDepth), .FifoDepth(FifoDepth), .CommandDepth(CommandDepth),
    .IoDepth(IoDepth), .IoCredits(IoCredits), .IoJobs(IoJobs)
  ) u_regs (
    .clk_i, .rst_ni,
    .axil_aw_valid_i, .axil_aw_ready_o, .axil_aw_addr_i, .axil_w_valid_i, .axil_w_ready_o, .axil_w_data_i, .axil_w_strb_i,
    .axil_b_valid_o, .axil_b_ready_i, .axil_b_resp_o, .axil_ar_valid_i, .axil_ar_ready_o, .axil_ar_addr_i,
    .axil_r_valid_o, .axil_r_ready_i, .axil_r_data_o, .axil_r_resp_o,
    .push_valid_o(push_valid), .push_cmd_o(push_cmd), .push_free_i(queue_free),
    .busy_i(exec_valid), .shift_error_i(shift_error),
    .resp_error_i(weight_resp_error || act_resp_error || out_resp_error), .command_error_i(command_error), .io_error_i(io_error),
    .io_push_valid_o(io_push_valid), .io_push_accept_i(io_push_accept), .io_push_desc_o(io_push_desc),
    .io_order_o(io_order), .io_credits_o(io_credits), .io_free_i(io_free), .io_outstanding_i(io_outstanding),
    .io_jobs_used_i(16'(jobs_used)), .io_jobs_released_i(16'(jobs_released)),
    .snapshot_o(snapshot), .window_addr_o(window_addr), .window_data_i(window_data)
  );

  moe_counters #(.NumBlocks(moe_commands_pkg::NumBlocks)) u_counters (
    .clk_i, .rst_ni, .activity_i(activity_o), .snapshot_i(snapshot),
    .window_addr_i(window_addr), .window_data_o(window_data)
  );

  moe_command_queue #(.CommandDepth(CommandDepth), .IoJobs(IoJobs)) u_queue (
    .clk_i, .rst_ni,
    .push_valid_i(push_valid), .push_ready_o(push_ready), .push_cmd_i(push_cmd),
    .fetch_valid_o(fetch_valid), .fetch_ready_i(fetch_ready), .fetch_cmd_o(fetch_cmd),
    .exec_valid_o(exec_valid), .exec_ready_i(exec_ready), .exec_cmd_o(exec_cmd),
    .fetchable_i(jobs_fetchable), .pass_o(pass), .pass_job_o(pass_job),
    .free_o(queue_free),
    .activity_o(activity_o[2*moe_commands_pkg::BlockCommandQueue +: 2])
  );

  moe_io_queue #(.IoDepth(IoDepth), .IoCredits(IoCredits), .IoJobs(IoJobs)) u_io_queue (
    .clk_i, .rst_ni,
    .order_i(io_order), .credits_i(io_credits),
    .push_valid_i(io_push_valid), .push_accept_o(io_push_accept), .push_desc_i(io_push_desc),
    .free_o(io_free), .outstanding_o(io_outstanding),
    .jobs_used_o(jobs_used), .jobs_released_o(jobs_released), .jobs_fetchable_o(jobs_fetchable),
    .pass_i(pass), .pass_job_i(pass_job), .retire_i(retire), .retire_job_i(retire_job),
    .io_req_valid_o, .io_req_ready_i, .io_req_id_o, .io_req_source_o, .io_req_destination_o, .io_req_bytes_o,
    .io_done_valid_i, .io_done_ready_o, .io_done_id_i,
    .error_o(io_error),
    .activity_o(activity_o[2*moe_commands_pkg::BlockIoQueue +: 2])
  );

  moe_fetch_dispatch u_dispatch (
    .clk_i, .rst_ni,
    .in_valid_i(fetch_valid), .in_ready_o(fetch_ready), .in_cmd_i(fetch_cmd),
    .fetch_valid_o(weight_cmd_valid), .fetch_ready_i(weight_cmd_ready), .fetch_cmd_o(weight_cmd),
    .load_valid_o(loader_cmd_valid), .load_ready_i(loader_cmd_ready), .load_cmd_o(loader_cmd)
  );

  logic        load_start, load_done, sequence_start, sequence_done, drain_start, drain_done, dequant_idle;
  logic [moe_pkg::TokenBits-1:0] load_token, shift_token, out_token;
  logic [39:0] load_in_addr, row_out_addr, row_aux_addr;
  logic [7:0]  row_shift;

  moe_scheduler #(.MaxTokens(MaxTokens), .IoJobs(IoJobs)) u_scheduler (
    .clk_i, .rst_ni,
    .exec_valid_i(exec_valid), .exec_ready_o(exec_ready), .exec_cmd_i(exec_cmd),
    .load_start_o(load_start), .load_done_i(load_done),
    .sequence_start_o(sequence_start), .sequence_done_i(sequence_done),
    .drain_start_o(drain_start), .drain_done_i(drain_done), .dequant_idle_i(dequant_idle),
    .released_i(jobs_released), .retire_o(retire), .retire_job_o(retire_job),
    .load_token_i(load_token), .load_in_addr_o(load_in_addr),
    .shift_token_i(shift_token), .shift_o(row_shift),
    .out_token_i(out_token), .out_addr_o(row_out_addr), .aux_addr_o(row_aux_addr),
    .command_error_o(command_error),
    .activity_o(activity_o[2*moe_commands_pkg::BlockScheduler +: 2])
  );

  assign idle_o    = !exec_valid;
  assign retired_o = exec_valid && exec_ready;

  // --- weights
  logic                     wgt_seg_valid, wgt_seg_ready;
  logic [39:0]              wgt_seg_addr;
  logic [31:0]              wgt_seg_bytes;
  logic [1:0]               wgt_seg_keep;
  logic                     wgt_seg_resume;
  logic [AvailW-1:0]        wgt_avail, wgt_pop;
  logic [AxiDataWidth-1:0]  wgt_data;
  logic                     w_valid, w_ready, w_last;
  logic [2:0]               w_plane;
  logic [5:0]               w_first_col;
  logic [LoadCols*Rows-1:0] w_bits;
  logic [LoadCols-1:0]      w_mask;
  logic                     param_valid, param_ready, rq_valid, rq_ready;
  logic [Cols*16-1:0]       param_s, rq_mu;
  logic [Cols*10-1:0]       param_z;
  logic [2:0]               param_up;
  logic [Cols*8-1:0]        rq_sigma;

  moe_weight_fetch #(.Rows(Rows), .Cols(Cols), .AxiDataWidth(AxiDataWidth)) u_weight_fetch (
    .clk_i, .rst_ni,
    .cmd_valid_i(weight_cmd_valid), .cmd_ready_o(weight_cmd_ready), .cmd_i(weight_cmd),
    .seg_valid_o(wgt_seg_valid), .seg_ready_i(wgt_seg_ready), .seg_addr_o(wgt_seg_addr), .seg_bytes_o(wgt_seg_bytes),
    .seg_keep_o(wgt_seg_keep), .seg_resume_o(wgt_seg_resume),
    .activity_o(activity_o[2*moe_commands_pkg::BlockWeightFetch +: 2])
  );

  moe_stream_reader #(.AxiDataWidth(AxiDataWidth), .FifoDepth(FifoDepth)) u_weight_reader (
    .clk_i, .rst_ni,
    .seg_valid_i(wgt_seg_valid), .seg_ready_o(wgt_seg_ready), .seg_addr_i(wgt_seg_addr), .seg_bytes_i(wgt_seg_bytes),
    .seg_keep_i(wgt_seg_keep), .seg_resume_i(wgt_seg_resume),
    .ar_valid_o(wgt_ar_valid_o), .ar_ready_i(wgt_ar_ready_i), .ar_addr_o(wgt_ar_addr_o), .ar_len_o(wgt_ar_len_o),
    .ar_size_o(wgt_ar_size_o), .ar_burst_o(wgt_ar_burst_o),
    .r_valid_i(wgt_r_valid_i), .r_ready_o(wgt_r_ready_o), .r_data_i(wgt_r_data_i), .r_resp_i(wgt_r_resp_i),
    .r_last_i(wgt_r_last_i),
    .avail_o(wgt_avail), .data_o(wgt_data), .pop_i(wgt_pop),
    .idle_o(), .resp_error_o(weight_resp_error),
    .activity_o(activity_o[2*moe_commands_pkg::BlockWeightReader +: 2])
  );

  moe_weight_loader #(.Rows(Rows), .Cols(Cols), .AxiDataWidth(AxiDataWidth)) u_weight_loader (
    .clk_i, .rst_ni,
    .cmd_valid_i(loader_cmd_valid), .cmd_ready_o(loader_cmd_ready), .cmd_i(loader_cmd),
    .avail_i(wgt_avail), .data_i(wgt_data), .pop_o(wgt_pop),
    .w_valid_o(w_valid), .w_ready_i(w_ready), .w_plane_o(w_plane), .w_first_col_o(w_first_col), .w_bits_o(w_bits),
    .w_mask_o(w_mask), .w_last_o(w_last),
    .param_valid_o(param_valid), .param_ready_i(param_ready), .param_s_o(param_s), .param_z_o(param_z),
    .param_up_o(param_up),
    .rq_valid_o(rq_valid), .rq_ready_i(rq_ready), .rq_mu_o(rq_mu), .rq_sigma_o(rq_sigma),
    .activity_o(activity_o[2*moe_commands_pkg::BlockWeightLoader +: 2])
  );

  // --- activations
  logic                       act_seg_valid, act_seg_ready;
  logic [39:0]                act_seg_addr;
  logic [31:0]                act_seg_bytes;
  logic [AvailW-1:0]          act_avail, act_pop;
  logic [AxiDataWidth-1:0]    act_data;
  logic                       act_write_valid;
  logic [ActAddrW-1:0]        act_write_addr, act_read_addr;
  logic [Rows*MaxActBits-1:0] act_write_data, act_read_data;
  logic                       hidden_valid, hidden_clear;
  logic [HiddenAddrW-1:0]     hidden_write_addr, hidden_read_addr;
  logic [moe_pkg::TokenBits-1:0] hidden_token, load_eh_token;
  logic [4:0]                 load_eh, drain_eh;
  logic [3:0]                 hidden_mask;
  logic [63:0]                hidden_write_data, hidden_read_data;
  logic                       direct_valid, direct_ready, direct_first, direct_done;
  logic [moe_pkg::TokenBits-1:0] direct_token;
  logic [15:0]                direct_s;
  logic [Cols*16-1:0]         direct_d;

  moe_act_loader #(
    .Rows(Rows), .Cols(Cols), .MaxActBits(MaxActBits), .AxiDataWidth(AxiDataWidth), .ActDepth(ActDepth), .HiddenDepth(HiddenDepth)
  ) u_act_loader (
    .clk_i, .rst_ni,
    .start_i(load_start), .cmd_i(exec_cmd), .done_o(load_done),
    .row_token_o(load_token), .row_in_addr_i(load_in_addr),
    .seg_valid_o(act_seg_valid), .seg_ready_i(act_seg_ready), .seg_addr_o(act_seg_addr), .seg_bytes_o(act_seg_bytes),
    .avail_i(act_avail), .data_i(act_data), .pop_o(act_pop),
    .hidden_addr_o(hidden_read_addr), .hidden_data_i(hidden_read_data),
    .eh_token_o(load_eh_token), .eh_i(load_eh),
    .act_write_valid_o(act_write_valid), .act_write_addr_o(act_write_addr), .act_write_data_o(act_write_data),
    .direct_valid_o(direct_valid), .direct_ready_i(direct_ready), .direct_token_o(direct_token), .direct_s_o(direct_s),
    .direct_d_o(direct_d), .direct_first_o(direct_first), .direct_done_o(direct_done),
    .activity_o(activity_o[2*moe_commands_pkg::BlockActLoader +: 2])
  );

  moe_stream_reader #(.AxiDataWidth(AxiDataWidth), .FifoDepth(FifoDepth), .KeepsBeats(1'b0)) u_act_reader (
    .clk_i, .rst_ni,
    .seg_valid_i(act_seg_valid), .seg_ready_o(act_seg_ready), .seg_addr_i(act_seg_addr), .seg_bytes_i(act_seg_bytes),
    .seg_keep_i('0), .seg_resume_i(1'b0),
    .ar_valid_o(act_ar_valid_o), .ar_ready_i(act_ar_ready_i), .ar_addr_o(act_ar_addr_o), .ar_len_o(act_ar_len_o),
    .ar_size_o(act_ar_size_o), .ar_burst_o(act_ar_burst_o),
    .r_valid_i(act_r_valid_i), .r_ready_o(act_r_ready_o), .r_data_i(act_r_data_i), .r_resp_i(act_r_resp_i),
    .r_last_i(act_r_last_i),
    .avail_o(act_avail), .data_o(act_data), .pop_i(act_pop),
    .idle_o(), .resp_error_o(act_resp_error),
    .activity_o(activity_o[2*moe_commands_pkg::BlockActReader +: 2])
  );

  moe_act_buffer #(.Rows(Rows), .MaxActBits(MaxActBits), .ActDepth(ActDepth)) u_act_buffer (
    .clk_i,
    .write_valid_i(act_write_valid), .write_addr_i(act_write_addr), .write_data_i(act_write_data),
    .read_addr_i(act_read_addr), .read_data_o(act_read_data)
  );

  moe_hidden_buffer #(.HiddenDepth(HiddenDepth), .MaxTokens(MaxTokens)) u_hidden_buffer (
    .clk_i, .rst_ni,
    .write_valid_i(hidden_valid), .write_addr_i(hidden_write_addr), .write_token_i(hidden_token),
    .write_mask_i(hidden_mask), .write_data_i(hidden_write_data), .store_i(exec_cmd.write_hidden), .clear_i(hidden_clear),
    .act_bits_i(exec_cmd.act_bits),
    .read_addr_i(hidden_read_addr), .read_data_o(hidden_read_data),
    .eh_token_a_i(load_eh_token), .eh_a_o(load_eh), .eh_token_b_i(shift_token), .eh_b_o(drain_eh)
  );

  // --- array and accumulators
  logic                       beat_valid, beat_ready, beat_last;
  logic [Rows*MaxActBits-1:0] beat_x;
  logic [2:0]                 beat_plane, beat_shift;
  logic [PlanesPerCycle-1:0]  beat_enable;
  logic [moe_pkg::TagBits-1:0] beat_tag, sum_tag;
  logic                       sum_valid, sum_ready;
  logic [Cols*SumBits-1:0]    sum;
  logic [RowSumBits-1:0]      rowsum;
  logic                       add_valid, add_ready, add_first, add_done;
  logic [moe_pkg::TokenBits-1:0] add_token;
  logic [Cols*48-1:0]         add_value;
  logic                       acc_full, acc_release;
  logic [moe_pkg::TokenBits-1:0] acc_token;
  logic [3:0]                 acc_chunk;
  logic [4*48-1:0]            acc;

  moe_tile_sequencer #(
    .Rows(Rows), .Cols(Cols), .PlanesPerCycle(PlanesPerCycle), .MaxActBits(MaxActBits), .ActDepth(ActDepth)
  ) u_sequencer (
    .clk_i, .rst_ni,
    .start_i(sequence_start), .cmd_i(exec_cmd), .done_o(sequence_done),
    .read_addr_o(act_read_addr), .read_data_i(act_read_data),
    .beat_valid_o(beat_valid), .beat_ready_i(beat_ready), .beat_x_o(beat_x), .beat_plane_o(beat_plane),
    .beat_enable_o(beat_enable), .beat_shift_o(beat_shift), .beat_tag_o(beat_tag), .beat_last_o(beat_last),
    .sum_fire_i(sum_valid && sum_ready),
    .activity_o(activity_o[2*moe_commands_pkg::BlockTileSequencer +: 2])
  );

  moe_pe_array #(
    .Rows(Rows), .Cols(Cols), .PlanesPerCycle(PlanesPerCycle), .MaxActBits(MaxActBits), .AxiDataWidth(AxiDataWidth)
  ) u_array (
    .clk_i, .rst_ni,
    .w_valid_i(w_valid), .w_ready_o(w_ready), .w_plane_i(w_plane), .w_first_col_i(w_first_col), .w_bits_i(w_bits),
    .w_mask_i(w_mask), .w_last_i(w_last),
    .beat_valid_i(beat_valid), .beat_ready_o(beat_ready), .beat_x_i(beat_x), .beat_plane_i(beat_plane),
    .beat_enable_i(beat_enable), .beat_shift_i(beat_shift), .beat_tag_i(beat_tag), .beat_last_i(beat_last),
    .sum_valid_o(sum_valid), .sum_ready_i(sum_ready), .sum_o(sum), .rowsum_o(rowsum), .sum_tag_o(sum_tag),
    .activity_o(activity_o[2*moe_commands_pkg::BlockPeArray +: 2])
  );

  moe_group_dequant #(.Rows(Rows), .Cols(Cols), .MaxActBits(MaxActBits), .MaxTokens(MaxTokens)) u_dequant (
    .clk_i, .rst_ni,
    .sum_valid_i(sum_valid), .sum_ready_o(sum_ready), .sum_i(sum), .rowsum_i(rowsum), .sum_tag_i(sum_tag),
    .param_valid_i(param_valid), .param_ready_o(param_ready), .param_s_i(param_s), .param_z_i(param_z),
    .param_up_i(param_up), .tokens_i(exec_cmd.tokens),
    .direct_valid_i(direct_valid), .direct_ready_o(direct_ready), .direct_token_i(direct_token), .direct_s_i(direct_s),
    .direct_d_i(direct_d), .direct_first_i(direct_first), .direct_done_i(direct_done),
    .add_valid_o(add_valid), .add_ready_i(add_ready), .add_token_o(add_token), .add_first_o(add_first),
    .add_done_o(add_done), .add_value_o(add_value),
    .idle_o(dequant_idle),
    .activity_o(activity_o[2*moe_commands_pkg::BlockGroupDequant +: 2])
  );

  moe_acc_buffer #(.Cols(Cols), .MaxTokens(MaxTokens)) u_acc_buffer (
    .clk_i, .rst_ni,
    .add_valid_i(add_valid), .add_ready_o(add_ready), .add_token_i(add_token), .add_first_i(add_first),
    .add_done_i(add_done), .add_value_i(add_value),
    .full_o(acc_full), .read_token_i(acc_token), .read_chunk_i(acc_chunk), .read_acc_o(acc), .release_i(acc_release),
    .activity_o(activity_o[2*moe_commands_pkg::BlockAccBuffer +: 2])
  );

  // --- results
  logic                requant_valid, requant_ready, result_valid, result_ready;
  logic [4*48-1:0]     requant_acc, result_acc;
  logic [4*16-1:0]     requant_mu, result_y;
  logic [4*8-1:0]      requant_sigma;
  logic [3:0]          requant_mask;
  logic [7:0]          requant_shift;
  logic [4:0]          requant_out_bits;
  logic [MetaBits-1:0] requant_meta, result_meta, swiglu_meta, h_meta;
  logic                swiglu_valid, swiglu_ready, h_valid, h_ready;
  logic [4*16-1:0]     swiglu_g, swiglu_u, h;
  logic [4:0]          swiglu_sigma_h;
  logic                dma_valid, dma_ready, dma_flush, dma_idle;
  logic [39:0]         dma_addr;
  logic [5:0]          dma_bytes;
  logic [255:0]        dma_data;

  moe_drain #(.Cols(Cols), .MaxTokens(MaxTokens), .HiddenDepth(HiddenDepth)) u_drain (
    .clk_i, .rst_ni,
    .start_i(drain_start), .cmd_i(exec_cmd), .done_o(drain_done),
    .acc_full_i(acc_full), .acc_token_o(acc_token), .acc_chunk_o(acc_chunk), .acc_i(acc), .acc_release_o(acc_release),
    .rq_valid_i(rq_valid), .rq_ready_o(rq_ready), .rq_mu_i(rq_mu), .rq_sigma_i(rq_sigma),
    .shift_token_o(shift_token), .shift_i(row_shift), .hidden_shift_i(drain_eh),
    .out_token_o(out_token), .out_addr_i(row_out_addr), .aux_addr_i(row_aux_addr),
    .requant_valid_o(requant_valid), .requant_ready_i(requant_ready), .requant_acc_o(requant_acc),
    .requant_mu_o(requant_mu), .requant_sigma_o(requant_sigma), .requant_mask_o(requant_mask),
    .requant_shift_o(requant_shift), .requant_out_bits_o(requant_out_bits), .requant_meta_o(requant_meta),
    .result_valid_i(result_valid), .result_ready_o(result_ready), .result_y_i(result_y), .result_acc_i(result_acc),
    .result_meta_i(result_meta),
    .swiglu_valid_o(swiglu_valid), .swiglu_ready_i(swiglu_ready), .swiglu_g_o(swiglu_g), .swiglu_u_o(swiglu_u), .swiglu_sigma_h_o(swiglu_sigma_h),
    .swiglu_meta_o(swiglu_meta),
    .h_valid_i(h_valid), .h_ready_o(h_ready), .h_i(h), .h_meta_i(h_meta),
    .hidden_valid_o(hidden_valid), .hidden_addr_o(hidden_write_addr), .hidden_token_o(hidden_token),
    .hidden_mask_o(hidden_mask), .hidden_data_o(hidden_write_data), .hidden_clear_o(hidden_clear),
    .dma_valid_o(dma_valid), .dma_ready_i(dma_ready), .dma_addr_o(dma_addr), .dma_bytes_o(dma_bytes),
    .dma_data_o(dma_data), .dma_flush_o(dma_flush), .dma_idle_i(dma_idle),
    .activity_o(activity_o[2*moe_commands_pkg::BlockDrain +: 2])
  );

  moe_requant #(.MetaBits(MetaBits)) u_requant (
    .clk_i, .rst_ni,
    .in_valid_i(requant_valid), .in_ready_o(requant_ready), .in_acc_i(requant_acc), .in_mu_i(requant_mu),
    .in_sigma_i(requant_sigma), .in_mask_i(requant_mask), .in_shift_i(requant_shift), .in_out_bits_i(requant_out_bits),
    .in_meta_i(requant_meta),
    .out_valid_o(result_valid), .out_ready_i(result_ready), .out_y_o(result_y), .out_acc_o(result_acc),
    .out_meta_o(result_meta),
    .shift_error_o(shift_error),
    .activity_o(activity_o[2*moe_commands_pkg::BlockRequant +: 2])
  );

  moe_swiglu #(.MetaBits(MetaBits)) u_swiglu (
    .clk_i, .rst_ni,
    .in_valid_i(swiglu_valid), .in_ready_o(swiglu_ready), .in_g_i(swiglu_g), .in_u_i(swiglu_u),
    .in_sigma_h_i(swiglu_sigma_h), .in_meta_i(swiglu_meta),
    .out_valid_o(h_valid), .out_ready_i(h_ready), .out_h_o(h), .out_meta_o(h_meta),
    .activity_o(activity_o[2*moe_commands_pkg::BlockSwiglu +: 2])
  );

  moe_output_dma #(.AxiDataWidth(AxiDataWidth)) u_output_dma (
    .clk_i, .rst_ni,
    .in_valid_i(dma_valid), .in_ready_o(dma_ready), .in_addr_i(dma_addr), .in_bytes_i(dma_bytes), .in_data_i(dma_data),
    .flush_i(dma_flush),
    .aw_valid_o(out_aw_valid_o), .aw_ready_i(out_aw_ready_i), .aw_addr_o(out_aw_addr_o), .aw_len_o(out_aw_len_o),
    .aw_size_o(out_aw_size_o), .aw_burst_o(out_aw_burst_o),
    .w_valid_o(out_w_valid_o), .w_ready_i(out_w_ready_i), .w_data_o(out_w_data_o), .w_strb_o(out_w_strb_o),
    .w_last_o(out_w_last_o),
    .b_valid_i(out_b_valid_i), .b_ready_o(out_b_ready_o), .b_resp_i(out_b_resp_i),
    .idle_o(dma_idle), .resp_error_o(out_resp_error),
    .activity_o(activity_o[2*moe_commands_pkg::BlockOutputDma +: 2])
  );

`ifndef SYNTHESIS
  PushFindsRoom_A: assert property (@(posedge clk_i) disable iff (!rst_ni) push_valid |-> push_ready);
`else
  logic unused_push_ready;
  assign unused_push_ready = push_ready;
`endif
endmodule
