/// For comparison only, no part of the chip: a processing element that multiplies an activation by a whole 8-bit weight.
/// tools/synthesise.sh sets its area beside moe_pe's. Combinational.
module moe_pe_multiplier #(
  parameter int unsigned MaxActBits = 8,  // bits of an activation: 4, 8 or 16
  parameter int unsigned WeightBits = 8   // bits of a weight
) (
  input  logic [MaxActBits-1:0]            x_i,       // signed
  input  logic [WeightBits-1:0]            weight_i,  // signed
  output logic [MaxActBits+WeightBits-1:0] product_o  // signed
);
  if (MaxActBits != 4 && MaxActBits != 8 && MaxActBits != 16) begin : gen_bad_act
    $fatal(1, "moe_pe_multiplier: MaxActBits must be 4, 8 or 16");
  end
  if (WeightBits < 2) begin : gen_bad_weight
    $fatal(1, "moe_pe_multiplier: WeightBits must be at least 2");
  end

  localparam int unsigned ProductBits = MaxActBits + WeightBits;
  assign product_o = ProductBits'($signed(x_i)) * ProductBits'($signed(weight_i));
endmodule
