/// Constants and functions that every module shares.
package moe_pkg;
  /// What a PE does with a digit. CommonShift: a digit is one bit of a plane, all of a lane's digits have one shift, applied after
  /// the adder tree. PerWeight: every digit carries its own negation and shift (FP4, FP6, powers of two).
  /// An integer, so that a tool's command line can set it.
  parameter int unsigned CommonShift = 0;
  parameter int unsigned PerWeight = 1;

  parameter int unsigned WeightPlanes = 8;    // digits that a weight bank holds per weight
  parameter int unsigned AccBits = 48;        // P, X, D and the accumulators, signed
  parameter int unsigned PostLanes = 4;       // elements per cycle after the accumulators
  parameter int unsigned SBits = 16;          // group multiplier s, unsigned
  parameter int unsigned ZBits = 10;          // offset z, signed
  parameter int unsigned MuBits = 16;         // requantisation multiplier mu, unsigned
  parameter int unsigned SigmaBits = 8;       // requantisation shift sigma, unsigned
  parameter int unsigned TokenBits = 7;       // token index within a command
  parameter int unsigned MaxRequantShift = 62;

  // The tag that travels with a beat through the array: bit positions.
  parameter int unsigned TagBits = TokenBits + 5;
  parameter int unsigned TagDigitFirst = TokenBits;       // first beat of this token and tile
  parameter int unsigned TagGroupFirst = TokenBits + 1;   // first tile of the group: P and X start anew
  parameter int unsigned TagGroupEnd = TokenBits + 2;     // last digit of the group's last tile: the group is dequantised
  parameter int unsigned TagAccFirst = TokenBits + 3;     // first group of the block: the accumulator starts anew
  parameter int unsigned TagBlockDone = TokenBits + 4;    // group end of the last token of a block whose K is complete

  function automatic bit is_pow2(input int unsigned value);
    is_pow2 = (value != 0) && ((value & (value - 1)) == 0);
  endfunction

  /// v >> shift, arithmetic, rounded half up; shift 0..62. Never adds 2^(shift-1), which would need 65 bits.
  function automatic logic signed [63:0] rshift_round(input logic signed [63:0] v, input logic [5:0] shift);
    logic half;
    half = v[shift-6'd1];
    rshift_round = (shift == 6'd0) ? v : ((v >>> shift) + $signed({63'd0, half}));
  endfunction

  /// The nearest value that fits bits (4, 8 or 16) signed bits, sign-extended.
  function automatic logic signed [15:0] saturate(input logic signed [63:0] v, input logic [4:0] bits);
    logic signed [63:0] top;
    top = (bits == 5'd4) ? 64'sd7 : (bits == 5'd8) ? 64'sd127 : 64'sd32767;
    saturate = (v > top) ? 16'(top) : (v < ~top) ? 16'(~top) : 16'(v);
  endfunction
endpackage
