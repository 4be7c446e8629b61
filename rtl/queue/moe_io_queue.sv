/// I/O queue: descriptors of expert planes wait here until they may go to the storage as requests; which goes next is a
/// register (docs/io_queue.md). For each compute job it counts the planes that are not resident yet, and releases the job.
/// Rate: one push, one request and one completion per cycle. Latency: push to request 2 cycles, completion to release 1.
module moe_io_queue #(
  parameter int unsigned IoDepth   = 8,  // descriptors that may wait to be issued, a power of two in 4..32
  parameter int unsigned IoCredits = 4,  // requests that may ever be outstanding, a power of two in 1..64
  parameter int unsigned IoJobs    = 4   // jobs, a power of two in 2..16
) (
  input  logic                    clk_i,
  input  logic                    rst_ni,
  input  logic [1:0]              order_i,    // moe_commands_pkg::Order*
  input  logic [7:0]              credits_i,  // requests that may be outstanding now, at most IoCredits

  input  logic                    push_valid_i,
  output logic                    push_accept_o,  // depends on push_desc_i; a descriptor that is not accepted is dropped
  input  moe_commands_pkg::desc_t push_desc_i,
  output logic [7:0]              free_o,         // entries that a push may still take
  output logic [7:0]              outstanding_o,  // requests offered or accepted and not completed

  output logic [IoJobs-1:0]       jobs_used_o,       // has descriptors, and its wait has not been executed
  output logic [IoJobs-1:0]       jobs_released_o,   // closed, and all its planes are resident
  output logic [IoJobs-1:0]       jobs_fetchable_o,  // released, and the fetch side has not stepped over its wait yet
  input  logic                    pass_i,            // the fetch side steps over the wait for pass_job_i
  input  logic [7:0]              pass_job_i,
  input  logic                    retire_i,          // the wait for retire_job_i has been executed: frees the job
  input  logic [7:0]              retire_job_i,

  output logic                    io_req_valid_o,  // to the storage: copy bytes from source to destination
  input  logic                    io_req_ready_i,
  output logic [7:0]              io_req_id_o,
  output logic [47:0]             io_req_source_o,
  output logic [39:0]             io_req_destination_o,
  output logic [31:0]             io_req_bytes_o,
  input  logic                    io_done_valid_i,  // the bytes of request io_done_id_i are resident; any order
  output logic                    io_done_ready_o,
  input  logic [7:0]              io_done_id_i,

  output logic                    error_o,  // sticky until reset: a completion of a request that was not outstanding
  output logic [1:0]              activity_o
);
  if (!moe_pkg::is_pow2(IoDepth) || IoDepth < 4 || IoDepth > 32) begin : gen_bad_depth
    $fatal(1, "moe_io_queue: IoDepth must be a power of two in 4..32");
  end
  if (!moe_pkg::is_pow2(IoCredits) || IoCredits > 64) begin : gen_bad_credits
    $fatal(1, "moe_io_queue: IoCredits must be a power of two in 1..64");
  end
  if (!moe_pkg::is_pow2(IoJobs) || IoJobs < 2 || IoJobs > 16) begin : gen_bad_jobs
    $fatal(1, "moe_io_queue: IoJobs must be a power of two in 2..16");
  end
  localparam int unsigned IndexBits   = $clog2(IoDepth);
  localparam int unsigned UsedBits    = $clog2(IoDepth + 1);
  localparam int unsigned IdBits      = (IoCredits > 1) ? $clog2(IoCredits) : 1;
  localparam int unsigned CreditBits  = $clog2(IoCredits + 1);
  localparam int unsigned JobBits     = $clog2(IoJobs);
  localparam int unsigned CountBits   = $clog2(IoDepth + IoCredits + 1);
  localparam int unsigned KeyBits     = 68;  // requests, layer, expert, plane
  localparam int unsigned PayloadBits = JobBits + 48 + 40 + 32;

  // --- waiting descriptors: what the order looks at, oldest first, without gaps. slot says where the rest lies; all of them
  // together are always a permutation of the slots.
  logic [IoDepth-1:0][31:0]          requests_d, requests_q;
  logic [IoDepth-1:0][31:0]          expert_d, expert_q;  // {layer, expert}
  logic [IoDepth-1:0][3:0]           plane_d, plane_q;
  logic [IoDepth-1:0][IndexBits-1:0] slot_d, slot_q;
  logic [UsedBits-1:0]               used_d, used_q, put, last;
  logic                              push, select;
  logic [IndexBits-1:0]              best, write_slot;
  logic [PayloadBits-1:0]            payload;
  logic [JobBits-1:0]                payload_job;

  // --- the offered request, and the ids that are outstanding
  logic                       req_valid_d, req_valid_q;
  logic [IdBits-1:0]          req_id_d, req_id_q, free_id;
  logic [47:0]                req_source_d, req_source_q;
  logic [39:0]                req_destination_d, req_destination_q;
  logic [31:0]                req_bytes_d, req_bytes_q;
  logic                       req_fire, done_fire, done_known;
  logic [CreditBits-1:0]      outstanding_d, outstanding_q;
  logic [IoCredits-1:0]       id_busy_d, id_busy_q;
  logic [IoCredits-1:0][JobBits-1:0] id_job_d, id_job_q;
  logic [IdBits-1:0]          done_id;
  logic [JobBits-1:0]         done_job;
  logic                       error_d, error_q;

  // --- jobs
  logic [IoJobs-1:0]          used_jobs, closed_jobs;
  logic [JobBits-1:0]         push_job;

  // --- push
  assign push_job      = push_desc_i.job[JobBits-1:0];
  assign free_o        = 8'(IoDepth) - 8'(used_q);
  assign push_accept_o = free_o != '0 && push_desc_i.job < 8'(IoJobs) && !closed_jobs[push_job] &&
                         push_desc_i.bytes != '0 && push_desc_i.plane <= 4'd8;
  assign push          = push_valid_i && push_accept_o;

  // --- selection: candidates, then a tree that keeps the lower key and, of equal keys, the older entry
  logic [IoDepth-1:0]                  candidate, behind;
  logic [2*IoDepth-1:0]                node_valid;
  logic [2*IoDepth-1:0][KeyBits-1:0]   node_key;
  logic [2*IoDepth-1:0][IndexBits-1:0] node_index;

  // A plane waits behind an expert's more significant ones, and behind an older one of the same rank.
  always_comb begin
    for (int unsigned i = 0; i < IoDepth; i++) begin
      behind[i] = 1'b0;
      for (int unsigned j = 0; j < IoDepth; j++) begin
        if (j != i && UsedBits'(j) < used_q && expert_q[j] == expert_q[i] &&
            (plane_q[j] < plane_q[i] || (j < i && plane_q[j] == plane_q[i]))) begin
          behind[i] = 1'b1;
        end
      end
      candidate[i] = UsedBits'(i) < used_q && (order_i != moe_commands_pkg::OrderHebf || !behind[i]);
    end
  end

  always_comb begin
    node_valid = '0;
    node_key   = '0;
    node_index = '0;
    for (int unsigned i = 0; i < IoDepth; i++) begin
      node_valid[IoDepth+i] = candidate[i];
      node_index[IoDepth+i] = IndexBits'(i);
      if (order_i == moe_commands_pkg::OrderHebf) begin
        node_key[IoDepth+i] = {~requests_q[i], expert_q[i], plane_q[i]};
      end else if (order_i == moe_commands_pkg::OrderExpertIndex) begin
        node_key[IoDepth+i] = {32'd0, expert_q[i], plane_q[i]};
      end
    end
    for (int unsigned n = IoDepth - 1; n >= 1; n--) begin
      node_valid[n] = node_valid[2*n] || node_valid[2*n+1];
      if (node_valid[2*n+1] && (!node_valid[2*n] || node_key[2*n+1] < node_key[2*n])) begin
        node_key[n]   = node_key[2*n+1];
        node_index[n] = node_index[2*n+1];
      end else begin
        node_key[n]   = node_key[2*n];
        node_index[n] = node_index[2*n];
      end
    end
  end

  assign best   = node_index[1];
  assign select = node_valid[1] && 8'(outstanding_q) < credits_i && (!req_valid_q || io_req_ready_i);

  // --- entries close up behind the one that leaves; a new one comes last
  assign last       = used_q - UsedBits'(1);
  assign put        = used_q - UsedBits'(select);
  assign write_slot = slot_q[select ? best : used_q[IndexBits-1:0]];

  always_comb begin
    used_d     = put + UsedBits'(push);
    requests_d = requests_q;
    expert_d   = expert_q;
    plane_d    = plane_q;
    slot_d     = slot_q;
    for (int unsigned i = 0; i < IoDepth; i++) begin
      if (select && IndexBits'(i) >= best) begin
        if (UsedBits'(i) < last) begin  // so i + 1 < IoDepth
          requests_d[i] = requests_q[(i + 1) % IoDepth];
          expert_d[i]   = expert_q[(i + 1) % IoDepth];
          plane_d[i]    = plane_q[(i + 1) % IoDepth];
          slot_d[i]     = slot_q[(i + 1) % IoDepth];
        end else if (UsedBits'(i) == last) begin
          slot_d[i] = slot_q[best];
        end
      end
      if (push && UsedBits'(i) == put) begin
        requests_d[i] = push_desc_i.requests;
        expert_d[i]   = {push_desc_i.layer, push_desc_i.expert};
        plane_d[i]    = push_desc_i.plane;
      end
    end
  end

  moe_regfile #(.Width(PayloadBits), .Depth(IoDepth), .NumReads(1)) u_payload (
    .clk_i,
    .write_i(push), .write_addr_i(write_slot),
    .write_data_i({push_job, push_desc_i.bytes, push_desc_i.destination, push_desc_i.source}),
    .read_addr_i(slot_q[best]), .read_data_o(payload)
  );
  assign payload_job = payload[PayloadBits-1 -: JobBits];

  // --- requests and completions
  assign req_fire        = req_valid_q && io_req_ready_i;
  assign io_done_ready_o = outstanding_q != '0;
  assign done_fire       = io_done_valid_i && io_done_ready_o;
  assign done_id         = io_done_id_i[IdBits-1:0];
  assign done_job        = id_job_q[done_id];
  // A request that the storage has not accepted yet cannot have been completed.
  assign done_known      = done_fire && io_done_id_i < 8'(IoCredits) && id_busy_q[done_id] &&
                           !(req_valid_q && req_id_q == done_id);

  always_comb begin
    free_id = '0;
    for (int unsigned i = IoCredits; i > 0; i--) begin
      if (!id_busy_q[i-1]) free_id = IdBits'(i - 1);
    end
  end

  always_comb begin
    req_valid_d       = req_valid_q && !io_req_ready_i;
    req_id_d          = req_valid_d ? req_id_q : '0;
    req_source_d      = req_valid_d ? req_source_q : '0;
    req_destination_d = req_valid_d ? req_destination_q : '0;
    req_bytes_d       = req_valid_d ? req_bytes_q : '0;
    id_busy_d         = id_busy_q;
    id_job_d          = id_job_q;
    outstanding_d     = outstanding_q + CreditBits'(select) - CreditBits'(done_known);
    error_d           = error_q || (done_fire && !done_known);
    if (done_known) id_busy_d[done_id] = 1'b0;
    if (select) begin
      req_valid_d        = 1'b1;
      req_id_d           = free_id;
      req_source_d       = payload[47:0];
      req_destination_d  = payload[87:48];
      req_bytes_d        = payload[119:88];
      id_busy_d[free_id] = 1'b1;
      id_job_d[free_id]  = payload_job;
    end
  end

  assign io_req_valid_o       = req_valid_q;
  assign io_req_id_o          = 8'(req_id_q);
  assign io_req_source_o      = req_source_q;
  assign io_req_destination_o = req_destination_q;
  assign io_req_bytes_o       = req_bytes_q;
  assign outstanding_o        = 8'(outstanding_q);
  assign error_o              = error_q;

  // --- jobs: the first descriptor takes an entry, the last one closes it, the executed wait frees it
  for (genvar j = 0; j < IoJobs; j++) begin : gen_job
    logic                 used_job_d, used_job_q, closed_d, closed_q, passed_d, passed_q;
    logic [CountBits-1:0] count_d, count_q;  // planes that are not resident
    logic                 take, give, retire;

    assign take   = push && push_job == JobBits'(j);
    assign give   = done_known && done_job == JobBits'(j);
    assign retire = retire_i && retire_job_i == 8'(j);

    assign used_job_d = (used_job_q || take) && !retire;
    assign closed_d   = (closed_q || (take && push_desc_i.last)) && !retire;
    assign passed_d   = (passed_q || (pass_i && pass_job_i == 8'(j))) && !retire;
    assign count_d    = count_q + CountBits'(take) - CountBits'(give);

    assign used_jobs[j]        = used_job_q;
    assign closed_jobs[j]      = closed_q;
    assign jobs_released_o[j]  = closed_q && count_q == '0;
    assign jobs_fetchable_o[j] = jobs_released_o[j] && !passed_q;

    always_ff @(posedge clk_i or negedge rst_ni) begin
      if (!rst_ni) begin
        used_job_q <= 1'b0;
        closed_q   <= 1'b0;
        passed_q   <= 1'b0;
        count_q    <= '0;
      end else begin
        used_job_q <= used_job_d;
        closed_q   <= closed_d;
        passed_q   <= passed_d;
        count_q    <= count_d;
      end
    end

`ifndef SYNTHESIS
    RetiresReleased_A: assert property (@(posedge clk_i) disable iff (!rst_ni) retire |-> jobs_released_o[j]);
    PassesFetchable_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
        pass_i && pass_job_i == 8'(j) |-> jobs_fetchable_o[j]);
    CompletesWhatItWaitsFor_A: assert property (@(posedge clk_i) disable iff (!rst_ni) give |-> count_q != '0);
`endif
  end
  assign jobs_used_o = used_jobs;

  // Starved: requests are at the storage. Blocked: the storage does not take the request, or there are no credits at all.
  always_comb begin
    activity_o = moe_commands_pkg::ActivityIdle;
    if (push || select || req_fire || done_fire)      activity_o = moe_commands_pkg::ActivityBusy;
    else if (req_valid_q)                             activity_o = moe_commands_pkg::ActivityBlocked;
    else if (outstanding_q != '0)                     activity_o = moe_commands_pkg::ActivityStarved;
    else if (used_q != '0)                            activity_o = moe_commands_pkg::ActivityBlocked;
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      used_q            <= '0;
      requests_q        <= '0;
      expert_q          <= '0;
      plane_q           <= '0;
      req_valid_q       <= 1'b0;
      req_id_q          <= '0;
      req_source_q      <= '0;
      req_destination_q <= '0;
      req_bytes_q       <= '0;
      id_busy_q         <= '0;
      id_job_q          <= '0;
      outstanding_q     <= '0;
      error_q           <= 1'b0;
      for (int unsigned i = 0; i < IoDepth; i++) slot_q[i] <= IndexBits'(i);
    end else begin
      used_q            <= used_d;
      requests_q        <= requests_d;
      expert_q          <= expert_d;
      plane_q           <= plane_d;
      slot_q            <= slot_d;
      req_valid_q       <= req_valid_d;
      req_id_q          <= req_id_d;
      req_source_q      <= req_source_d;
      req_destination_q <= req_destination_d;
      req_bytes_q       <= req_bytes_d;
      id_busy_q         <= id_busy_d;
      id_job_q          <= id_job_d;
      outstanding_q     <= outstanding_d;
      error_q           <= error_d;
    end
  end

  logic unused_reserved;
  assign unused_reserved = ^push_desc_i;

`ifndef SYNTHESIS
  moe_channel_check #(.Width(8 + 48 + 40 + 32)) u_request_check (
    .clk_i, .rst_ni, .valid_i(io_req_valid_o), .ready_i(io_req_ready_i),
    .payload_i({io_req_id_o, io_req_source_o, io_req_destination_o, io_req_bytes_o})
  );
  // A completion is offered until it is taken, with the same id.
  moe_channel_check #(.Width(8)) u_done_check (
    .clk_i, .rst_ni, .valid_i(io_done_valid_i), .ready_i(io_done_ready_o), .payload_i(io_done_id_i)
  );
  CreditsWithinLimit_A: assert property (@(posedge clk_i) disable iff (!rst_ni) credits_i <= 8'(IoCredits));
  OrderIsKnown_A: assert property (@(posedge clk_i) disable iff (!rst_ni) order_i <= moe_commands_pkg::OrderHebf);
  OutstandingHaveIds_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      $countones(id_busy_q) == 32'(outstanding_q));
  SelectFindsAnId_A: assert property (@(posedge clk_i) disable iff (!rst_ni) select |-> !id_busy_q[free_id]);
  PushIsZeroWhileInvalid_A: assert property (@(posedge clk_i) disable iff (!rst_ni) !push_valid_i |-> push_desc_i == '0);
  UsedWithinDepth_A: assert property (@(posedge clk_i) disable iff (!rst_ni) used_q <= UsedBits'(IoDepth));
`endif
endmodule
