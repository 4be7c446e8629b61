/// Two commands deep FIFO: keeps a command stable for a block that works on it while the next one waits.
/// Rate one command per cycle, latency 1 cycle.
module moe_command_fifo (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   in_valid_i,
  output logic                   in_ready_o,
  input  moe_commands_pkg::cmd_t in_cmd_i,
  output logic                   out_valid_o,
  input  logic                   out_ready_i,
  output moe_commands_pkg::cmd_t out_cmd_o
);
  moe_commands_pkg::cmd_t first_d, first_q, second_d, second_q;
  logic [1:0] used_d, used_q;

  assign in_ready_o  = used_q != 2'd2;
  assign out_valid_o = used_q != 2'd0;
  assign out_cmd_o   = first_q;

  always_comb begin
    first_d  = first_q;
    second_d = second_q;
    used_d   = used_q;
    if (out_valid_o && out_ready_i) begin
      first_d  = second_q;
      second_d = '0;
      used_d   = used_d - 2'd1;
    end
    if (in_valid_i && in_ready_o) begin
      if (used_d == 2'd0) first_d = in_cmd_i;
      else                second_d = in_cmd_i;
      used_d = used_d + 2'd1;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      first_q  <= '0;
      second_q <= '0;
      used_q   <= '0;
    end else begin
      first_q  <= first_d;
      second_q <= second_d;
      used_q   <= used_d;
    end
  end

`ifndef SYNTHESIS
  OutStaysUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
      out_valid_o && !out_ready_i |=> out_valid_o && $stable(out_cmd_o));
  OutZeroWhileInvalid_A: assert property (@(posedge clk_i) disable iff (!rst_ni) !out_valid_o |-> out_cmd_o == '0);
`endif
endmodule
