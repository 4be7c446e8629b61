/// Takes finished accumulator blocks through requantisation: walks blocks, tokens and chunks of four columns, and puts the
/// results where the command says: gate buffer, SwiGLU and from there the hidden buffer and memory, or memory.
/// Rate one chunk per cycle into requantisation; a result takes one output transfer per destination in memory.
/// Done when everything is acknowledged by the memory.
module moe_drain #(
  parameter int unsigned Cols        = 8,   // columns of a block
  parameter int unsigned MaxTokens   = 8,   // tokens per command
  parameter int unsigned HiddenDepth = 512  // hidden buffer, words of four
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   start_i,  // cmd_i is a matmul that ends K, or a combine; stable until done_o
  input  moe_commands_pkg::cmd_t cmd_i,
  output logic                   done_o,   // one cycle

  input  logic                   acc_full_i,  // accumulators: a finished block is readable
  output logic [moe_pkg::TokenBits-1:0] acc_token_o,
  output logic [3:0]             acc_chunk_o,
  input  logic [4*48-1:0]        acc_i,  // combinational
  output logic                   acc_release_o,

  input  logic                   rq_valid_i,  // the block's mu and sigma; not used by combine
  output logic                   rq_ready_o,
  input  logic [Cols*16-1:0]     rq_mu_i,
  input  logic [Cols*8-1:0]      rq_sigma_i,

  output logic [moe_pkg::TokenBits-1:0] shift_token_o,  // row table and hidden shift, combinational
  input  logic [7:0]             shift_i,
  input  logic [4:0]             hidden_shift_i,  // eh of shift_token_o
  output logic [moe_pkg::TokenBits-1:0] out_token_o,
  input  logic [39:0]            out_addr_i,
  input  logic [39:0]            aux_addr_i,

  output logic                   requant_valid_o,
  input  logic                   requant_ready_i,
  output logic [4*48-1:0]        requant_acc_o,
  output logic [4*16-1:0]        requant_mu_o,
  output logic [4*8-1:0]         requant_sigma_o,
  output logic [3:0]             requant_mask_o,   // lanes that carry a column
  output logic [7:0]             requant_shift_o,  // signed
  output logic [4:0]             requant_out_bits_o,
  output logic [63:0]            requant_meta_o,
  input  logic                   result_valid_i,
  output logic                   result_ready_o,
  input  logic [4*16-1:0]        result_y_i,
  input  logic [4*48-1:0]        result_acc_i,
  input  logic [63:0]            result_meta_i,

  output logic                   swiglu_valid_o,
  input  logic                   swiglu_ready_i,
  output logic [4*16-1:0]        swiglu_g_o,
  output logic [4*16-1:0]        swiglu_u_o,
  output logic [4:0]             swiglu_sigma_h_o,
  output logic [63:0]            swiglu_meta_o,
  input  logic                   h_valid_i,
  output logic                   h_ready_o,
  input  logic [4*16-1:0]        h_i,
  input  logic [63:0]            h_meta_i,

  output logic                           hidden_valid_o,
  output logic [$clog2(HiddenDepth)-1:0] hidden_addr_o,
  output logic [moe_pkg::TokenBits-1:0]  hidden_token_o,
  output logic [3:0]                     hidden_mask_o,
  output logic [4*16-1:0]                hidden_data_o,
  output logic                           hidden_clear_o,  // forget the extremes of h

  output logic                   dma_valid_o,
  input  logic                   dma_ready_i,
  output logic [39:0]            dma_addr_o,
  output logic [5:0]             dma_bytes_o,
  output logic [255:0]           dma_data_o,
  output logic                   dma_flush_o,
  input  logic                   dma_idle_i,
  output logic [1:0]             activity_o
);
  if (Cols < 4 || Cols > 64) begin : gen_bad_cols
    $fatal(1, "moe_drain: Cols must be 4..64");
  end
  localparam int unsigned Chunks     = Cols / 4;
  localparam int unsigned HiddenBits = $clog2(HiddenDepth);
  localparam int unsigned GateBits   = (MaxTokens * Chunks > 1) ? $clog2(MaxTokens * Chunks) : 1;

  typedef enum logic [1:0] {Idle, Walk, Flush, Settle} state_e;

  // What travels with a chunk through requantisation and SwiGLU.
  typedef struct packed {
    logic [22-moe_pkg::TokenBits:0] unused;
    logic        last;   // last chunk of the command
    logic        up;     // of the up half of a pair
    logic [2:0]  count;  // columns, 1..4
    logic [3:0]  chunk;  // within the block
    logic [moe_pkg::TokenBits-1:0]  token;
    logic [31:0] col;    // first column
  } meta_t;

  state_e      state_d, state_q;
  logic        walking_d, walking_q;  // chunks are left to send
  logic        which_d, which_q;
  logic [31:0] col_d, col_q;          // first column of the block
  logic [7:0]  token_d, token_q;
  logic [4:0]  chunk_d, chunk_q;
  logic        phase_d, phase_q;      // the accumulators of the result are out, y comes next

  logic [4*16-1:0] gate_q [MaxTokens*Chunks];  // g of one block: word token * Chunks + chunk

  logic is_combine, is_pair;
  assign is_combine = cmd_i.opcode == moe_commands_pkg::OpCombine;
  assign is_pair    = cmd_i.paired || cmd_i.swiglu_part;

  // --- towards requantisation
  logic [31:0] n_left;
  logic [6:0]  cols, chunk_col;
  logic [2:0]  count;
  logic        send, last_chunk, last_token, last_cols, end_block, end_walk;
  meta_t       send_meta;

  assign n_left     = cmd_i.n - col_q;
  assign last_cols  = n_left <= 32'(Cols);
  assign cols       = last_cols ? n_left[6:0] : 7'(Cols);
  assign chunk_col  = {chunk_q, 2'b00};
  assign last_chunk = chunk_col + 7'd4 >= cols;
  assign count      = last_chunk ? 3'(cols - chunk_col) : 3'd4;
  assign last_token = token_q + 8'd1 == cmd_i.tokens;
  assign requant_valid_o = walking_q && acc_full_i && (is_combine || rq_valid_i);
  assign send       = requant_valid_o && requant_ready_i;
  assign end_block  = send && last_chunk && last_token;
  assign end_walk   = end_block && last_cols && (which_q || !cmd_i.paired);

  assign acc_token_o   = token_q[moe_pkg::TokenBits-1:0];
  assign acc_chunk_o   = chunk_q[3:0];
  assign shift_token_o = token_q[moe_pkg::TokenBits-1:0];
  assign acc_release_o = end_block;
  assign rq_ready_o    = end_block && !is_combine;

  always_comb begin
    send_meta        = '0;
    send_meta.last   = last_chunk && last_token && last_cols && (which_q || !cmd_i.paired);
    send_meta.up     = cmd_i.paired ? which_q : cmd_i.which_up;
    send_meta.count  = count;
    send_meta.chunk  = chunk_q[3:0];
    send_meta.token  = token_q[moe_pkg::TokenBits-1:0];
    send_meta.col    = col_q + 32'(chunk_col);
  end

  always_comb begin
    requant_acc_o      = '0;
    requant_mu_o       = '0;
    requant_sigma_o    = '0;
    requant_mask_o     = '0;
    requant_shift_o    = '0;
    requant_out_bits_o = '0;
    requant_meta_o     = '0;
    if (requant_valid_o) begin
      for (int i = 0; i < 4; i++) begin
        if (3'(i) < count) begin
          requant_mask_o[i]         = 1'b1;
          requant_sigma_o[8*i +: 8] = is_combine ? 8'd15 : rq_sigma_i[8*(32'(chunk_col) + i) +: 8];
          requant_acc_o[48*i +: 48] = acc_i[48*i +: 48];
          requant_mu_o[16*i +: 16]  = is_combine ? 16'd1 : rq_mu_i[16*(32'(chunk_col) + i) +: 16];
        end
      end
      requant_shift_o    = is_combine ? '0 : cmd_i.shift_hidden ? 8'd0 - 8'(hidden_shift_i) : shift_i;
      requant_out_bits_o = is_combine ? 5'd16 : cmd_i.out_bits;
      requant_meta_o     = send_meta;
    end
  end

  // --- from requantisation
  meta_t result, hidden;
  logic  to_gate, to_swiglu, to_memory, want_acc, result_fire, h_fire, all_out;
  logic [GateBits-1:0] gate_index;

  assign result     = meta_t'(result_meta_i);
  assign hidden     = meta_t'(h_meta_i);
  assign to_gate    = is_pair && !result.up;
  assign to_swiglu  = is_pair && result.up;
  assign to_memory  = !is_pair;
  assign want_acc   = cmd_i.write_acc && !phase_q;
  assign gate_index = GateBits'(32'(result.token) * Chunks + 32'(result.chunk));

  assign swiglu_valid_o = result_valid_i && to_swiglu;
  assign swiglu_g_o     = swiglu_valid_o ? gate_q[gate_index] : '0;
  assign swiglu_u_o     = swiglu_valid_o ? result_y_i : '0;
  assign swiglu_sigma_h_o = swiglu_valid_o ? cmd_i.sigma_h : '0;
  assign swiglu_meta_o  = swiglu_valid_o ? result_meta_i : '0;

  always_comb begin
    result_ready_o = 1'b1;
    if (to_swiglu)                                               result_ready_o = swiglu_ready_i;
    else if (to_memory && want_acc)                              result_ready_o = dma_ready_i && !cmd_i.write_y;
    else if (to_memory && cmd_i.write_y)                         result_ready_o = dma_ready_i;
  end
  assign result_fire = result_valid_i && result_ready_o;

  assign h_ready_o      = !cmd_i.write_h || dma_ready_i;
  assign h_fire         = h_valid_i && h_ready_o;
  assign hidden_valid_o = h_fire;
  assign hidden_clear_o = start_i && cmd_i.hidden_clear;
  assign out_token_o    = is_pair ? hidden.token : result.token;

  always_comb begin
    hidden_addr_o  = '0;
    hidden_token_o = '0;
    hidden_mask_o  = '0;
    hidden_data_o  = '0;
    if (h_fire) begin
      hidden_addr_o  = HiddenBits'(cmd_i.hidden_base + 16'(hidden.token) * cmd_i.hidden_stride + hidden.col[17:2]);
      hidden_token_o = hidden.token;
      for (int i = 0; i < 4; i++) hidden_mask_o[i] = 3'(i) < hidden.count;
      hidden_data_o  = h_i;
    end
  end

  always_comb begin
    dma_valid_o = 1'b0;
    dma_addr_o  = '0;
    dma_bytes_o = '0;
    dma_data_o  = '0;
    if (is_pair) begin
      if (h_valid_i && cmd_i.write_h) begin
        dma_valid_o = 1'b1;
        dma_addr_o  = aux_addr_i + 40'(cmd_i.aux_offset) + {7'd0, hidden.col, 1'b0};
        dma_bytes_o = 6'({hidden.count, 1'b0});
        for (int i = 0; i < 4; i++) if (3'(i) < hidden.count) dma_data_o[16*i +: 16] = h_i[16*i +: 16];
      end
    end else if (result_valid_i && want_acc) begin
      dma_valid_o = 1'b1;
      dma_addr_o  = aux_addr_i + 40'(cmd_i.aux_offset) + {5'd0, result.col, 3'd0};
      dma_bytes_o = {result.count, 3'd0};
      for (int i = 0; i < 4; i++) begin
        if (3'(i) < result.count) begin
          dma_data_o[64*i +: 64] = {{16{result_acc_i[48*i + 47]}}, result_acc_i[48*i +: 48]};
        end
      end
    end else if (result_valid_i && cmd_i.write_y) begin
      dma_valid_o = 1'b1;
      dma_addr_o  = out_addr_i + (is_combine ? 40'(cmd_i.aux_offset) : 40'(cmd_i.offset)) +
                    (cmd_i.elem_bytes == 2'd2 ? {7'd0, result.col, 1'b0} : {8'd0, result.col});
      dma_bytes_o = cmd_i.elem_bytes == 2'd2 ? 6'({result.count, 1'b0}) : 6'(result.count);
      for (int i = 0; i < 4; i++) begin
        if (3'(i) < result.count) begin
          if (cmd_i.elem_bytes == 2'd2) dma_data_o[16*i +: 16] = result_y_i[16*i +: 16];
          else                          dma_data_o[8*i +: 8]   = result_y_i[16*i +: 8];
        end
      end
    end
  end

  // --- control
  assign all_out     = to_swiglu ? 1'b0 : result_fire && result.last;
  assign dma_flush_o = state_q == Flush;
  assign done_o      = state_q == Settle && dma_idle_i;

  always_comb begin
    state_d   = state_q;
    walking_d = walking_q;
    which_d   = which_q;
    col_d     = col_q;
    token_d   = token_q;
    chunk_d   = chunk_q;
    phase_d   = phase_q;
    unique case (state_q)
      Idle:    if (start_i) state_d = Walk;
      Walk:    if (all_out || (h_fire && hidden.last)) state_d = Flush;
      Flush:   state_d = Settle;
      Settle:  if (dma_idle_i) state_d = Idle;
      default: state_d = Idle;
    endcase
    if (start_i) begin
      walking_d = 1'b1;
      which_d   = 1'b0;
      col_d     = '0;
      token_d   = '0;
      chunk_d   = '0;
    end else if (send) begin
      chunk_d = chunk_q + 5'd1;
      if (last_chunk) begin
        chunk_d = '0;
        token_d = last_token ? '0 : token_q + 8'd1;
      end
      if (end_block) begin
        which_d = cmd_i.paired && !which_q;
        if (which_q || !cmd_i.paired) col_d = col_q + 32'(Cols);
      end
      if (end_walk) walking_d = 1'b0;
    end
    if (result_valid_i && to_memory && want_acc && cmd_i.write_y && dma_ready_i) phase_d = 1'b1;
    if (result_fire) phase_d = 1'b0;
  end

  always_comb begin
    activity_o = moe_commands_pkg::ActivityIdle;
    if (start_i || send || result_fire || h_fire || (dma_valid_o && dma_ready_i) || state_q == Flush || done_o) begin
      activity_o = moe_commands_pkg::ActivityBusy;
    end else if (requant_valid_o || result_valid_i || h_valid_i) begin
      activity_o = moe_commands_pkg::ActivityBlocked;
    end else if (state_q != Idle) begin
      activity_o = moe_commands_pkg::ActivityStarved;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      state_q   <= Idle;
      walking_q <= 1'b0;
      which_q   <= 1'b0;
      col_q     <= '0;
      token_q   <= '0;
      chunk_q   <= '0;
      phase_q   <= 1'b0;
    end else begin
      state_q   <= state_d;
      walking_q <= walking_d;
      which_q   <= which_d;
      col_q     <= col_d;
      token_q   <= token_d;
      chunk_q   <= chunk_d;
      phase_q   <= phase_d;
    end
  end

  // The gate buffer needs no reset: the gate block always comes before the up block that reads it.
  always_ff @(posedge clk_i) begin
    if (result_fire && to_gate) gate_q[gate_index] <= result_y_i;
  end

  // The drain reads few of the command's fields and some of each chunk's.
  logic unused_fields;
  assign unused_fields = ^{cmd_i, result, hidden};

`ifndef SYNTHESIS
  RequantStaysUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      requant_valid_o && !requant_ready_i |=> requant_valid_o && $stable({requant_acc_o, requant_mu_o, requant_sigma_o,
                                                                          requant_mask_o, requant_shift_o, requant_meta_o}));
  SwigluStaysUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      swiglu_valid_o && !swiglu_ready_i |=> swiglu_valid_o && $stable({swiglu_g_o, swiglu_u_o, swiglu_meta_o}));
  DmaStaysUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      dma_valid_o && !dma_ready_i |=> dma_valid_o && $stable({dma_addr_o, dma_bytes_o, dma_data_o}));
  ResultsOnlyWhileWorking_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      result_valid_i || h_valid_i |-> state_q == Walk);
`endif
endmodule
