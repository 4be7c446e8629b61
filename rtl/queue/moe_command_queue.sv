/// Commands in order, with two readers: the fetch side sees the next matmul whose weights have not been fetched, the
/// execute side the oldest command. The fetch side does not step over a wait before its job is released. An entry leaves
/// when it has been executed. Rate: one command per cycle on each side.
module moe_command_queue #(
  parameter int unsigned CommandDepth = 8,  // commands, a power of two >= 4
  parameter int unsigned IoJobs       = 4   // jobs that a wait may name, a power of two in 2..16
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   push_valid_i,
  output logic                   push_ready_o,
  input  moe_commands_pkg::cmd_t push_cmd_i,
  output logic                   fetch_valid_o,
  input  logic                   fetch_ready_i,
  output moe_commands_pkg::cmd_t fetch_cmd_o,
  output logic                   exec_valid_o,
  input  logic                   exec_ready_i,
  output moe_commands_pkg::cmd_t exec_cmd_o,
  input  logic [IoJobs-1:0]      fetchable_i,  // by job: the fetch side may step over its wait
  output logic                   pass_o,       // it does so now, for pass_job_o
  output logic [7:0]             pass_job_o,
  output logic [7:0]             free_o,       // entries that a push may still take
  output logic [1:0]             activity_o
);
  if (CommandDepth < 4 || CommandDepth > 128 || (CommandDepth & (CommandDepth - 1)) != 0) begin : gen_bad_depth
    $fatal(1, "moe_command_queue: CommandDepth must be a power of two in 4..128");
  end
  if (!moe_pkg::is_pow2(IoJobs) || IoJobs < 2 || IoJobs > 16) begin : gen_bad_jobs
    $fatal(1, "moe_command_queue: IoJobs must be a power of two in 2..16");
  end
  localparam int unsigned PtrBits = $clog2(CommandDepth);
  localparam int unsigned JobBits = $clog2(IoJobs);

  // Plain vectors: Yosys 0.55 misreads arrays of structures.
  logic [moe_commands_pkg::CommandBits-1:0] entry_q [CommandDepth];
  moe_commands_pkg::cmd_t fetch_entry;
  // Pointers carry one wrap bit: head <= fetch <= tail.
  logic [PtrBits:0] head_d, head_q, fetch_d, fetch_q, tail_d, tail_q;
  logic [PtrBits:0] used;
  logic             push, pop, fetch_any, fetch_is_matmul, fetch_is_wait, fetch_held, fetch_step;

  assign used            = tail_q - head_q;
  assign free_o          = 8'(CommandDepth) - 8'(used);
  assign push_ready_o    = free_o != '0;
  assign push            = push_valid_i && push_ready_o;
  assign exec_valid_o    = used != '0;
  assign pop             = exec_valid_o && exec_ready_i;
  assign fetch_any       = fetch_q != tail_q;
  assign fetch_entry     = entry_q[fetch_q[PtrBits-1:0]];
  assign fetch_is_matmul = fetch_entry.opcode == moe_commands_pkg::OpMatmul;
  // A wait for a job that does not exist holds nobody up: the scheduler drops it.
  assign fetch_is_wait   = fetch_entry.opcode == moe_commands_pkg::OpWait && fetch_entry.job < 8'(IoJobs);
  assign fetch_held      = fetch_is_wait && !fetchable_i[fetch_entry.job[JobBits-1:0]];
  assign fetch_valid_o   = fetch_any && fetch_is_matmul;
  assign fetch_step      = fetch_any && !fetch_held && (!fetch_is_matmul || fetch_ready_i);
  assign pass_o          = fetch_step && fetch_is_wait;
  assign pass_job_o      = pass_o ? fetch_entry.job : '0;
  assign fetch_cmd_o     = fetch_valid_o ? fetch_entry : '0;
  assign exec_cmd_o      = exec_valid_o ? entry_q[head_q[PtrBits-1:0]] : '0;

  always_comb begin
    head_d  = head_q + (PtrBits+1)'(pop);
    fetch_d = fetch_q + (PtrBits+1)'(fetch_step);
    tail_d  = tail_q + (PtrBits+1)'(push);
  end

  always_comb begin
    activity_o = moe_commands_pkg::ActivityIdle;
    if (push || pop || fetch_step) activity_o = moe_commands_pkg::ActivityBusy;
    else if (exec_valid_o)         activity_o = moe_commands_pkg::ActivityBlocked;
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      head_q  <= '0;
      fetch_q <= '0;
      tail_q  <= '0;
    end else begin
      head_q  <= head_d;
      fetch_q <= fetch_d;
      tail_q  <= tail_d;
    end
  end

  // Entries need no reset: none is visible before it has been written.
  always_ff @(posedge clk_i) begin
    if (push) entry_q[tail_q[PtrBits-1:0]] <= push_cmd_i;
  end

`ifndef SYNTHESIS
  FetchStaysUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      fetch_valid_o && !fetch_ready_i |=> fetch_valid_o && $stable(fetch_cmd_o));
  ExecStaysUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      exec_valid_o && !exec_ready_i |=> exec_valid_o && $stable(exec_cmd_o));
  MatmulLeavesAfterItsFetch_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      pop && exec_cmd_o.opcode == moe_commands_pkg::OpMatmul |-> fetch_q != head_q);
  WaitLeavesAfterItsFetch_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      pop && exec_cmd_o.opcode == moe_commands_pkg::OpWait |-> fetch_q != head_q || fetch_step);
  PushOnlyWithRoom_A: assert property (@(posedge clk_i) disable iff (!rst_ni) push_valid_i |-> push_ready_o);
`endif
endmodule
