/// One processing element: PlanesPerCycle digits of one weight applied to one activation, without a multiplier.
/// CommonShift: a term is the activation where the digit is 1. PerWeight: it is also negated and shifted, digit by digit.
/// Combinational.
module moe_pe #(
  parameter int unsigned PlanesPerCycle = 1,  // digits a cycle: 1, 2 or 4
  parameter int unsigned MaxActBits = 8,      // bits of an activation: 4, 8 or 16
  parameter int unsigned DigitKind = moe_pkg::CommonShift,  // or moe_pkg::PerWeight
  localparam int unsigned DigitBits = (DigitKind == moe_pkg::PerWeight) ? 5 : 1,
  localparam int unsigned TermBits = MaxActBits + ((DigitKind == moe_pkg::PerWeight) ? 8 : 0)
) (
  input  logic [MaxActBits-1:0]                    x_i,      // signed
  input  logic [PlanesPerCycle-1:0][DigitBits-1:0] digit_i,  // {shift[2:0], negate, enable} or {enable}
  output logic [PlanesPerCycle-1:0][TermBits-1:0]  term_o    // signed
);
  if (DigitKind != moe_pkg::CommonShift && DigitKind != moe_pkg::PerWeight) begin : gen_bad_kind
    $fatal(1, "moe_pe: DigitKind must be CommonShift (0) or PerWeight (1)");
  end
  if (PlanesPerCycle != 1 && PlanesPerCycle != 2 && PlanesPerCycle != 4) begin : gen_bad_planes
    $fatal(1, "moe_pe: PlanesPerCycle must be 1, 2 or 4");
  end
  if (MaxActBits != 4 && MaxActBits != 8 && MaxActBits != 16) begin : gen_bad_act
    $fatal(1, "moe_pe: MaxActBits must be 4, 8 or 16");
  end

  for (genvar j = 0; j < PlanesPerCycle; j++) begin : gen_lane
    if (DigitKind == moe_pkg::PerWeight) begin : gen_per_weight
      logic signed [MaxActBits:0] signed_x;
      assign signed_x  = digit_i[j][1] ? -$signed({x_i[MaxActBits-1], x_i}) : $signed({x_i[MaxActBits-1], x_i});
      assign term_o[j] = digit_i[j][0] ? {{7{signed_x[MaxActBits]}}, signed_x} << digit_i[j][4:2] : '0;
    end else begin : gen_common_shift
      assign term_o[j] = digit_i[j][0] ? x_i : '0;
    end
  end
endmodule
