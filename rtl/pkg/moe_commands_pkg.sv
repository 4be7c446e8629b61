// Generated from rtl/pkg/commands.yaml by tools/generate_commands.py: change that, not this.

/// Commands, register addresses and activity blocks of the core.
package moe_commands_pkg;
  parameter int unsigned CommandWords = 26;
  parameter int unsigned CommandBits = 832;

  parameter logic [3:0] OpNone = 4'd0;  // no command; the queue never offers it
  parameter logic [3:0] OpSetRow = 4'd1;  // row table entry token := in_addr, out_addr, aux_addr, token_shift
  parameter logic [3:0] OpLoadAct = 4'd2;  // fill the activation buffer with k elements of each token
  parameter logic [3:0] OpMatmul = 4'd3;  // n columns against the activation buffer
  parameter logic [3:0] OpCombine = 4'd4;  // router-weighted sum of the experts' rows
  parameter logic [3:0] OpWait = 4'd5;  // holds until every plane of a job is resident, then frees the job

  typedef struct packed {
    logic [39:0] plane_offset_8;  // scattered: bytes from the first plane to the eighth, modulo 2^40
    logic [39:0] plane_offset_7;  // scattered: bytes from the first plane to the seventh, modulo 2^40
    logic [39:0] plane_offset_6;  // scattered: bytes from the first plane to the sixth, modulo 2^40
    logic [39:0] plane_offset_5;  // scattered: bytes from the first plane to the fifth, modulo 2^40
    logic [39:0] plane_offset_4;  // scattered: bytes from the first plane to the fourth, modulo 2^40
    logic [39:0] plane_offset_3;  // scattered: bytes from the first plane to the third, modulo 2^40
    logic [39:0] level_stride;  // bytes between the parameters of one level and the next, with plane_major also between their planes
    logic [39:0] level_params_addr;  // matmul with levels: parameters of the first group's level 1, scattered: less the distance of that level's plane
    logic [31:0] aux_offset;  // bytes added to aux_addr; combine: bytes added to out_addr
    logic [31:0] offset;  // bytes added to in_addr (load_act, combine's rows) or out_addr (matmul)
    logic [39:0] plane_stride;  // plane_major: bytes between planes, scattered: from the first to the second; combine: bytes between experts' rows
    logic [39:0] requant_addr;  // matmul: mu and sigma of the first block, not read with interleaved; combine: r; set_row: aux_addr
    logic [39:0] params_addr;  // matmul: parameters of the first group, not read with interleaved; set_row: out_addr
    logic [39:0] weight_addr;  // matmul: planes of the first tile; interleaved, what is fetched first; set_row: in_addr
    logic [7:0] reserved_2;  // zero
    logic [7:0] job;  // wait: which job
    logic [15:0] hidden_base;  // first hidden buffer word of token 0
    logic [15:0] hidden_stride;  // hidden buffer words per token
    logic [15:0] act_stride;  // activation buffer words per token
    logic [31:0] group_left;  // what is left of the first group; group_size for a fresh one
    logic [31:0] group_size;  // weights of one group
    logic [31:0] k;  // elements per token; combine: experts
    logic [31:0] n;  // columns
    logic [11:0] reserved_1;  // zero
    logic interleaved;  // 1, with plane_major 0: parameters and requantisation lie where they are fetched, between the tiles
    logic [4:0] sigma_h;  // shift of h, 0..31
    logic which_up;  // with swiglu_part: 0 gate, 1 up
    logic swiglu_part;  // with paired 0: the block is one half of a pair
    logic hidden_clear;  // forget the running extremes of h at the start
    logic write_h;  // h, int16, to aux_addr + aux_offset
    logic write_hidden;  // h to the hidden buffer
    logic write_acc;  // int64 accumulators to aux_addr + aux_offset
    logic write_y;  // results to out_addr + offset
    logic source_hidden;  // load_act reads the hidden buffer
    logic shift_hidden;  // matmul: token shift is -eh[m]; load_act: values are rshift_round(h, eh[m])
    logic k_last;  // this command ends K: the last group closes and the block drains
    logic group_continue;  // the first tile continues P and X; 0 with levels
    logic acc_continue;  // the first group adds to the accumulators
    logic paired;  // blocks alternate gate and up
    logic plane_major;  // 0: all planes of a tile together; 1: each plane contiguous, plane_stride apart
    logic scattered;  // plane_major: planes lie anywhere, each at its own distance from the first
    logic [2:0] levels;  // bundles of one plane read after the first of each group, 0..7
    logic [4:0] out_bits;  // 4, 8 or 16: saturation of the result
    logic [1:0] elem_bytes;  // 1 or 2: load_act, of an input element; matmul and combine, of an output element
    logic [4:0] act_bits;  // 4, 8 or 16
    logic [7:0] z_adjust;  // what is subtracted from a stored zero point
    logic offset_mode;  // 0: z = stored zero point - z_adjust; 1: z = 1, none stored
    logic [2:0] up;  // left shift of P before the offset
    logic [3:0] planes_stored;  // planes of a tile in memory, >= planes_read
    logic [3:0] planes_read;  // planes read and computed, 1..8; with levels: of the base
    logic [7:0] token_shift;  // set_row: e of the token, unsigned
    logic [7:0] token;  // set_row: which entry
    logic [7:0] tokens;  // tokens of the command, 1..MaxTokens
    logic [3:0] opcode;  // one of the opcodes
  } cmd_t;

  parameter int unsigned DescriptorWords = 8;
  parameter int unsigned DescriptorBits = 256;

  parameter logic [1:0] OrderFifo = 2'd0;  // as pushed
  parameter logic [1:0] OrderExpertIndex = 2'd1;  // lowest layer, expert, plane; then as pushed
  parameter logic [1:0] OrderHebf = 2'd2;  // hottest expert bit first: of every expert's most significant waiting plane the one with the most requests; then lowest layer, expert

  typedef struct packed {
    logic [23:0] reserved_4;  // zero
    logic [39:0] destination;  // byte address in the memory
    logic [15:0] reserved_3;  // zero
    logic [47:0] source;  // byte address in the storage
    logic [31:0] bytes;  // of the plane, at least 1
    logic [31:0] requests;  // rows that use this plane: a request for b bits counts for ranks 1..b
    logic [15:0] reserved_2;  // zero
    logic [15:0] expert;  // within the layer
    logic [15:0] layer;  // of the expert
    logic [2:0] reserved_1;  // zero
    logic last;  // the job's last descriptor: it closes the job
    logic [3:0] plane;  // rank, 1 (most significant) to 8; 0: the parameters, or all planes together
    logic [7:0] job;  // the compute job that waits for it
  } desc_t;

  parameter int unsigned RegAddrBits = 12;
  parameter logic [11:0] RegIdentity = 12'h000;  // 0x4d6f4531, 'MoE1'
  parameter logic [11:0] RegRows = 12'h004;  // PEs along k
  parameter logic [11:0] RegCols = 12'h008;  // columns along n
  parameter logic [11:0] RegPlanesPerCycle = 12'h00c;  // digits a PE adds in a cycle
  parameter logic [11:0] RegMaxActBits = 12'h010;  // widest activation
  parameter logic [11:0] RegAxiDataBits = 12'h014;  // bits of one memory beat
  parameter logic [11:0] RegMaxTokens = 12'h018;  // tokens per command
  parameter logic [11:0] RegActDepth = 12'h01c;  // activation buffer words
  parameter logic [11:0] RegHiddenDepth = 12'h020;  // hidden buffer words
  parameter logic [11:0] RegFifoDepth = 12'h024;  // beats a stream reader may have outstanding or stored
  parameter logic [11:0] RegCommandDepth = 12'h028;  // commands the queue holds
  parameter logic [11:0] RegBlocks = 12'h02c;  // blocks with counters
  parameter logic [11:0] RegStatus = 12'h030;  // bit 0 busy, bit 1 shift error, bit 2 memory error, bit 3 command error, bit 4 storage error, bits 15:8 free queue entries
  parameter logic [11:0] RegPush = 12'h034;  // any write pushes the staging words as a command; SLVERR when the queue is full
  parameter logic [11:0] RegSnapshot = 12'h038;  // any write copies all counters to their windows
  parameter logic [11:0] RegIoPush = 12'h03c;  // any write pushes the I/O staging words as a descriptor; SLVERR when the I/O queue is full or refuses it
  parameter logic [11:0] RegIoOrder = 12'h040;  // load order, 0 after reset; SLVERR for an unknown one
  parameter logic [11:0] RegIoCredits = 12'h044;  // requests that may be outstanding, io_max_credits after reset; SLVERR for more
  parameter logic [11:0] RegIoStatus = 12'h048;  // bits 7:0 free descriptor entries, bits 15:8 requests outstanding
  parameter logic [11:0] RegIoJobs = 12'h04c;  // bit j: job j has descriptors and its wait has not been executed; bit 16 + j: released, all its planes are resident
  parameter logic [11:0] RegIoDepth = 12'h050;  // descriptors that may wait to be issued
  parameter logic [11:0] RegIoMaxCredits = 12'h054;  // requests that may ever be outstanding
  parameter logic [11:0] RegIoMaxJobs = 12'h058;  // jobs
  parameter logic [11:0] RegIoStaging = 12'h060;  // words of the next descriptor; they keep their values
  parameter int unsigned RegIoStagingCount = 8;
  parameter logic [11:0] RegStaging = 12'h080;  // words of the next command; they keep their values
  parameter int unsigned RegStagingCount = 26;
  parameter logic [11:0] RegCycles = 12'h100;  // snapshot: cycles since reset, low word first
  parameter int unsigned RegCyclesCount = 2;
  parameter logic [11:0] RegCounters = 12'h200;  // snapshot: block b, kind c (activity code) at 8 * (4 * b + c), low word first
  parameter int unsigned RegCountersCount = 128;
  parameter logic [31:0] IdentityValue = 32'h4d6f4531;

  parameter logic [1:0] ActivityIdle = 2'd0;
  parameter logic [1:0] ActivityBusy = 2'd1;
  parameter logic [1:0] ActivityStarved = 2'd2;
  parameter logic [1:0] ActivityBlocked = 2'd3;

  parameter int unsigned NumBlocks = 16;
  parameter int unsigned BlockCommandQueue = 0;
  parameter int unsigned BlockScheduler = 1;
  parameter int unsigned BlockWeightFetch = 2;
  parameter int unsigned BlockWeightReader = 3;
  parameter int unsigned BlockWeightLoader = 4;
  parameter int unsigned BlockActLoader = 5;
  parameter int unsigned BlockActReader = 6;
  parameter int unsigned BlockTileSequencer = 7;
  parameter int unsigned BlockPeArray = 8;
  parameter int unsigned BlockGroupDequant = 9;
  parameter int unsigned BlockAccBuffer = 10;
  parameter int unsigned BlockDrain = 11;
  parameter int unsigned BlockRequant = 12;
  parameter int unsigned BlockSwiglu = 13;
  parameter int unsigned BlockOutputDma = 14;
  parameter int unsigned BlockIoQueue = 15;
endpackage
