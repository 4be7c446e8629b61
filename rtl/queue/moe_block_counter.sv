/// Cycles that one block spent in each activity, live and as of the last snapshot.
module moe_block_counter (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic [1:0]  activity_i,
  input  logic        snapshot_i,
  input  logic        read_i,       // the window below is being read
  input  logic [2:0]  read_word_i,  // {activity, high word}
  output logic [31:0] read_data_o   // 0 while !read_i
);
  localparam int unsigned CountBits = 48;

  logic [3:0][CountBits-1:0] shown;  // as of the last snapshot, by activity
  logic [63:0]               selected;

  assign selected    = 64'(shown[read_word_i[2:1]]);
  assign read_data_o = !read_i ? '0 : read_word_i[0] ? selected[63:32] : selected[31:0];

  for (genvar a = 0; a < 4; a++) begin : gen_activity
    logic [CountBits-1:0] count_d, count_q, snapshot_d, snapshot_q;
    assign count_d    = count_q + CountBits'(activity_i == 2'(a));
    assign snapshot_d = snapshot_i ? count_q : snapshot_q;
    assign shown[a]   = snapshot_q;

    always_ff @(posedge clk_i or negedge rst_ni) begin
      if (!rst_ni) begin
        count_q    <= '0;
        snapshot_q <= '0;
      end else begin
        count_q    <= count_d;
        snapshot_q <= snapshot_d;
      end
    end
  end
endmodule
