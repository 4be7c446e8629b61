/// Hands every matmul to the weight fetch and to the weight loader, each at its own pace: a copy in a FIFO of two apiece.
/// Takes a command when both FIFOs have room; latency 1 cycle.
module moe_fetch_dispatch (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   in_valid_i,
  output logic                   in_ready_o,
  input  moe_commands_pkg::cmd_t in_cmd_i,
  output logic                   fetch_valid_o,
  input  logic                   fetch_ready_i,
  output moe_commands_pkg::cmd_t fetch_cmd_o,
  output logic                   load_valid_o,
  input  logic                   load_ready_i,
  output moe_commands_pkg::cmd_t load_cmd_o
);
  logic fetch_room, load_room;

  assign in_ready_o = fetch_room && load_room;

  moe_command_fifo u_fetch_fifo (
    .clk_i, .rst_ni,
    .in_valid_i(in_valid_i && load_room), .in_ready_o(fetch_room), .in_cmd_i,
    .out_valid_o(fetch_valid_o), .out_ready_i(fetch_ready_i), .out_cmd_o(fetch_cmd_o)
  );
  moe_command_fifo u_load_fifo (
    .clk_i, .rst_ni,
    .in_valid_i(in_valid_i && fetch_room), .in_ready_o(load_room), .in_cmd_i,
    .out_valid_o(load_valid_o), .out_ready_i(load_ready_i), .out_cmd_o(load_cmd_o)
  );
endmodule
