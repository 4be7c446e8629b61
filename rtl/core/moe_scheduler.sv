/// Executes one command at a time, each to completion, and holds the row table. set_row takes one cycle; load_act starts
/// the activation loader; matmul the tile sequencer and, when it ends K, the drain; combine the activation loader and
/// the drain; wait takes one cycle, but does not start before its job is released. An unknown opcode and a wait for a job
/// that does not exist are dropped and raise command_error_o (sticky until reset).
module moe_scheduler #(
  parameter int unsigned MaxTokens = 8,  // entries of the row table, a power of two in 1..128
  parameter int unsigned IoJobs    = 4   // jobs that a wait may name, a power of two in 2..16
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   exec_valid_i,
  output logic                   exec_ready_o,  // the command has been executed
  input  moe_commands_pkg::cmd_t exec_cmd_i,

  output logic                   load_start_o,  // to the activation loader, one cycle
  input  logic                   load_done_i,
  output logic                   sequence_start_o,  // to the tile sequencer, one cycle
  input  logic                   sequence_done_i,
  output logic                   drain_start_o,  // to the drain, one cycle
  input  logic                   drain_done_i,
  input  logic                   dequant_idle_i,  // nothing is left between the array and the accumulators

  input  logic [IoJobs-1:0]      released_i,    // by job: all its planes are resident
  output logic                   retire_o,      // the wait for retire_job_o is executed now, one cycle
  output logic [7:0]             retire_job_o,

  input  logic [moe_pkg::TokenBits-1:0] load_token_i,  // row lookups, combinational
  output logic [39:0]            load_in_addr_o,
  input  logic [moe_pkg::TokenBits-1:0] shift_token_i,
  output logic [7:0]             shift_o,
  input  logic [moe_pkg::TokenBits-1:0] out_token_i,
  output logic [39:0]            out_addr_o,
  output logic [39:0]            aux_addr_o,

  output logic                   command_error_o,
  output logic [1:0]             activity_o
);
  if (MaxTokens < 1 || MaxTokens > 128 || (MaxTokens & (MaxTokens - 1)) != 0) begin : gen_bad_tokens
    $fatal(1, "moe_scheduler: MaxTokens must be a power of two in 1..128");
  end
  if (!moe_pkg::is_pow2(IoJobs) || IoJobs < 2 || IoJobs > 16) begin : gen_bad_jobs
    $fatal(1, "moe_scheduler: IoJobs must be a power of two in 2..16");
  end
  localparam int unsigned TokenBits = (MaxTokens > 1) ? $clog2(MaxTokens) : 1;
  localparam int unsigned JobBits   = $clog2(IoJobs);

  logic [39:0] in_addr_q [MaxTokens];
  logic [39:0] out_addr_q [MaxTokens];
  logic [39:0] aux_addr_q [MaxTokens];
  logic [7:0]  shift_q [MaxTokens];

  logic running_d, running_q, load_wait_d, load_wait_q, sequence_wait_d, sequence_wait_q, drain_wait_d, drain_wait_q;
  logic command_error_d, command_error_q;
  logic start, held, is_set_row, is_load, is_matmul, is_combine, is_wait, set_row, finish;

  assign is_set_row = exec_cmd_i.opcode == moe_commands_pkg::OpSetRow;
  assign is_load    = exec_cmd_i.opcode == moe_commands_pkg::OpLoadAct;
  assign is_matmul  = exec_cmd_i.opcode == moe_commands_pkg::OpMatmul;
  assign is_combine = exec_cmd_i.opcode == moe_commands_pkg::OpCombine;
  assign is_wait    = exec_cmd_i.opcode == moe_commands_pkg::OpWait && exec_cmd_i.job < 8'(IoJobs);
  assign held       = exec_valid_i && is_wait && !released_i[exec_cmd_i.job[JobBits-1:0]];
  assign start      = exec_valid_i && !running_q && !held;
  assign set_row    = start && is_set_row;

  assign load_start_o     = start && (is_load || is_combine);
  assign sequence_start_o = start && is_matmul;
  assign retire_o         = start && is_wait;
  assign retire_job_o     = retire_o ? exec_cmd_i.job : '0;
  assign drain_start_o    = start && ((is_matmul && exec_cmd_i.k_last) || is_combine);

  assign finish       = running_q && !load_wait_q && !sequence_wait_q && !drain_wait_q && dequant_idle_i;
  assign exec_ready_o = finish || (start && !is_load && !is_matmul && !is_combine);

  assign command_error_o = command_error_q;

  always_comb begin
    running_d       = running_q;
    load_wait_d     = load_wait_q && !load_done_i;
    sequence_wait_d = sequence_wait_q && !sequence_done_i;
    drain_wait_d    = drain_wait_q && !drain_done_i;
    command_error_d = command_error_q;
    if (start) begin
      running_d       = is_load || is_matmul || is_combine;
      load_wait_d     = load_start_o;
      sequence_wait_d = sequence_start_o;
      drain_wait_d    = drain_start_o;
      command_error_d = command_error_q || !(is_set_row || is_load || is_matmul || is_combine || is_wait);
    end else if (finish) begin
      running_d = 1'b0;
    end
  end

  assign load_in_addr_o = in_addr_q[load_token_i[TokenBits-1:0]];
  assign shift_o        = shift_q[shift_token_i[TokenBits-1:0]];
  assign out_addr_o     = out_addr_q[out_token_i[TokenBits-1:0]];
  assign aux_addr_o     = aux_addr_q[out_token_i[TokenBits-1:0]];

  if (TokenBits < moe_pkg::TokenBits) begin : gen_unused_token_bits
    logic unused_token_bits;
    assign unused_token_bits = ^{load_token_i[moe_pkg::TokenBits-1:TokenBits], shift_token_i[moe_pkg::TokenBits-1:TokenBits],
                                out_token_i[moe_pkg::TokenBits-1:TokenBits]};
  end

  // Blocked: held by a wait, and by nothing else.
  always_comb begin
    activity_o = moe_commands_pkg::ActivityIdle;
    if (start || finish)   activity_o = moe_commands_pkg::ActivityBusy;
    else if (held)         activity_o = moe_commands_pkg::ActivityBlocked;
    else if (exec_valid_i) activity_o = moe_commands_pkg::ActivityStarved;
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      running_q       <= 1'b0;
      load_wait_q     <= 1'b0;
      sequence_wait_q <= 1'b0;
      drain_wait_q    <= 1'b0;
      command_error_q <= 1'b0;
    end else begin
      running_q       <= running_d;
      load_wait_q     <= load_wait_d;
      sequence_wait_q <= sequence_wait_d;
      drain_wait_q    <= drain_wait_d;
      command_error_q <= command_error_d;
    end
  end

  for (genvar t = 0; t < MaxTokens; t++) begin : gen_row
    always_ff @(posedge clk_i or negedge rst_ni) begin
      if (!rst_ni) begin
        in_addr_q[t]  <= '0;
        out_addr_q[t] <= '0;
        aux_addr_q[t] <= '0;
        shift_q[t]    <= '0;
      end else if (set_row && exec_cmd_i.token == 8'(t)) begin
        in_addr_q[t]  <= exec_cmd_i.weight_addr;
        out_addr_q[t] <= exec_cmd_i.params_addr;
        aux_addr_q[t] <= exec_cmd_i.requant_addr;
        shift_q[t]    <= exec_cmd_i.token_shift;
      end
    end
  end

  // The scheduler reads few of the command's fields.
  logic unused_fields;
  assign unused_fields = ^exec_cmd_i;

`ifndef SYNTHESIS
  RowInRange_A: assert property (@(posedge clk_i) disable iff (!rst_ni) set_row |-> exec_cmd_i.token < 8'(MaxTokens));
  DoneOnlyWhenAwaited_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      {load_done_i && !load_wait_q, sequence_done_i && !sequence_wait_q, drain_done_i && !drain_wait_q} == '0);
`endif
endmodule
