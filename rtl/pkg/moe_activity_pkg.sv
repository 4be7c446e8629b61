/// What a block did in a cycle. Each block reports exactly one of these every cycle; moe_counters adds them up.
package moe_activity_pkg;
  localparam logic [1:0] Idle    = 2'd0;  // no work assigned
  localparam logic [1:0] Busy    = 2'd1;  // something moved or was computed
  localparam logic [1:0] Starved = 2'd2;  // work assigned, waits for input
  localparam logic [1:0] Blocked = 2'd3;  // its output was refused
endpackage
