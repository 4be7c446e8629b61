/// Checks the rules of a valid/ready channel: valid stays until the transfer, the payload is stable meanwhile, and 0 without valid.
/// Simulation only: instantiate under `ifndef SYNTHESIS.
module moe_channel_check #(
  parameter int unsigned Width = 1  // bits of payload
) (
  input logic             clk_i,
  input logic             rst_ni,
  input logic             valid_i,
  input logic             ready_i,
  input logic [Width-1:0] payload_i
);
`ifndef SYNTHESIS
  ValidStaysUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
    valid_i && !ready_i |=> valid_i);
  PayloadStableUntilReady_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
    valid_i && !ready_i |=> $stable(payload_i));
  PayloadZeroWithoutValid_A: assert property (@(posedge clk_i) disable iff (!rst_ni)
    !valid_i |-> payload_i == '0);
`endif
endmodule
