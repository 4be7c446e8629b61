// Generated from rtl/pkg/commands.yaml by tools/generate_commands.py: change that, not this.
// clang-format off
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace moesaic::program {

inline constexpr unsigned kCommandWords = 26;
using CommandWords = std::array<std::uint32_t, kCommandWords>;
inline constexpr unsigned kDescriptorWords = 8;
using DescriptorWords = std::array<std::uint32_t, kDescriptorWords>;

enum class Opcode : std::uint8_t {
  kNone = 0,  ///< no command; the queue never offers it
  kSetRow = 1,  ///< row table entry token := in_addr, out_addr, aux_addr, token_shift
  kLoadAct = 2,  ///< fill the activation buffer with k elements of each token
  kMatmul = 3,  ///< n columns against the activation buffer
  kCombine = 4,  ///< router-weighted sum of the experts' rows
  kWait = 5,  ///< holds until every plane of a job is resident, then frees the job
};

/// One command of the core, unpacked. pack() gives the words of the staging registers.
struct Command {
  Opcode opcode = Opcode::kNone;  ///< 4 bits: one of the opcodes
  std::uint8_t tokens = 0;  ///< 8 bits: tokens of the command, 1..MaxTokens
  std::uint8_t token = 0;  ///< 8 bits: set_row: which entry
  std::uint8_t token_shift = 0;  ///< 8 bits: set_row: e of the token, unsigned
  std::uint8_t planes_read = 0;  ///< 4 bits: planes read and computed, 1..8; with levels: of the base
  std::uint8_t planes_stored = 0;  ///< 4 bits: planes of a tile in memory, >= planes_read
  std::uint8_t up = 0;  ///< 3 bits: left shift of P before the offset
  bool offset_mode = false;  ///< 1 bits: 0: z = stored zero point - z_adjust; 1: z = 1, none stored
  std::uint8_t z_adjust = 0;  ///< 8 bits: what is subtracted from a stored zero point
  std::uint8_t act_bits = 0;  ///< 5 bits: 4, 8 or 16
  std::uint8_t elem_bytes = 0;  ///< 2 bits: 1 or 2: load_act, of an input element; matmul and combine, of an output element
  std::uint8_t out_bits = 0;  ///< 5 bits: 4, 8 or 16: saturation of the result
  std::uint8_t levels = 0;  ///< 3 bits: bundles of one plane read after the first of each group, 0..7
  bool scattered = false;  ///< 1 bits: plane_major: planes lie anywhere, each at its own distance from the first
  bool plane_major = false;  ///< 1 bits: 0: all planes of a tile together; 1: each plane contiguous, plane_stride apart
  bool paired = false;  ///< 1 bits: blocks alternate gate and up
  bool acc_continue = false;  ///< 1 bits: the first group adds to the accumulators
  bool group_continue = false;  ///< 1 bits: the first tile continues P and X; 0 with levels
  bool k_last = false;  ///< 1 bits: this command ends K: the last group closes and the block drains
  bool shift_hidden = false;  ///< 1 bits: matmul: token shift is -eh[m]; load_act: values are rshift_round(h, eh[m])
  bool source_hidden = false;  ///< 1 bits: load_act reads the hidden buffer
  bool write_y = false;  ///< 1 bits: results to out_addr + offset
  bool write_acc = false;  ///< 1 bits: int64 accumulators to aux_addr + aux_offset
  bool write_hidden = false;  ///< 1 bits: h to the hidden buffer
  bool write_h = false;  ///< 1 bits: h, int16, to aux_addr + aux_offset
  bool hidden_clear = false;  ///< 1 bits: forget the running extremes of h at the start
  bool swiglu_part = false;  ///< 1 bits: with paired 0: the block is one half of a pair
  bool which_up = false;  ///< 1 bits: with swiglu_part: 0 gate, 1 up
  std::uint8_t sigma_h = 0;  ///< 5 bits: shift of h, 0..31
  bool interleaved = false;  ///< 1 bits: 1, with plane_major 0: parameters and requantisation lie where they are fetched, between the tiles
  std::uint32_t n = 0;  ///< 32 bits: columns
  std::uint32_t k = 0;  ///< 32 bits: elements per token; combine: experts
  std::uint32_t group_size = 0;  ///< 32 bits: weights of one group
  std::uint32_t group_left = 0;  ///< 32 bits: what is left of the first group; group_size for a fresh one
  std::uint16_t act_stride = 0;  ///< 16 bits: activation buffer words per token
  std::uint16_t hidden_stride = 0;  ///< 16 bits: hidden buffer words per token
  std::uint16_t hidden_base = 0;  ///< 16 bits: first hidden buffer word of token 0
  std::uint8_t job = 0;  ///< 8 bits: wait: which job
  std::uint64_t weight_addr = 0;  ///< 40 bits: matmul: planes of the first tile; interleaved, what is fetched first; set_row: in_addr
  std::uint64_t params_addr = 0;  ///< 40 bits: matmul: parameters of the first group, not read with interleaved; set_row: out_addr
  std::uint64_t requant_addr = 0;  ///< 40 bits: matmul: mu and sigma of the first block, not read with interleaved; combine: r; set_row: aux_addr
  std::uint64_t plane_stride = 0;  ///< 40 bits: plane_major: bytes between planes, scattered: from the first to the second; combine: bytes between experts' rows
  std::uint32_t offset = 0;  ///< 32 bits: bytes added to in_addr (load_act, combine's rows) or out_addr (matmul)
  std::uint32_t aux_offset = 0;  ///< 32 bits: bytes added to aux_addr; combine: bytes added to out_addr
  std::uint64_t level_params_addr = 0;  ///< 40 bits: matmul with levels: parameters of the first group's level 1, scattered: less the distance of that level's plane
  std::uint64_t level_stride = 0;  ///< 40 bits: bytes between the parameters of one level and the next, with plane_major also between their planes
  std::uint64_t plane_offset_3 = 0;  ///< 40 bits: scattered: bytes from the first plane to the third, modulo 2^40
  std::uint64_t plane_offset_4 = 0;  ///< 40 bits: scattered: bytes from the first plane to the fourth, modulo 2^40
  std::uint64_t plane_offset_5 = 0;  ///< 40 bits: scattered: bytes from the first plane to the fifth, modulo 2^40
  std::uint64_t plane_offset_6 = 0;  ///< 40 bits: scattered: bytes from the first plane to the sixth, modulo 2^40
  std::uint64_t plane_offset_7 = 0;  ///< 40 bits: scattered: bytes from the first plane to the seventh, modulo 2^40
  std::uint64_t plane_offset_8 = 0;  ///< 40 bits: scattered: bytes from the first plane to the eighth, modulo 2^40

  CommandWords pack() const;
  static Command unpack(const CommandWords& words);
};

/// One plane of an expert to be loaded. pack() gives the words of the I/O staging registers.
struct Descriptor {
  std::uint8_t job = 0;  ///< 8 bits: the compute job that waits for it
  std::uint8_t plane = 0;  ///< 4 bits: rank, 1 (most significant) to 8; 0: the parameters, or all planes together
  bool last = false;  ///< 1 bits: the job's last descriptor: it closes the job
  std::uint16_t layer = 0;  ///< 16 bits: of the expert
  std::uint16_t expert = 0;  ///< 16 bits: within the layer
  std::uint32_t requests = 0;  ///< 32 bits: rows that use this plane: a request for b bits counts for ranks 1..b
  std::uint32_t bytes = 0;  ///< 32 bits: of the plane, at least 1
  std::uint64_t source = 0;  ///< 48 bits: byte address in the storage
  std::uint64_t destination = 0;  ///< 40 bits: byte address in the memory

  DescriptorWords pack() const;
  static Descriptor unpack(const DescriptorWords& words);
};

/// Which of the waiting descriptors the I/O queue issues next.
enum class LoadOrder : std::uint8_t {
  kFifo = 0,  ///< as pushed
  kExpertIndex = 1,  ///< lowest layer, expert, plane; then as pushed
  kHebf = 2,  ///< hottest expert bit first: of every expert's most significant waiting plane the one with the most requests; then lowest layer, expert
};
inline constexpr std::array<std::string_view, 3> kLoadOrderNames{"fifo", "expert_index", "hebf"};

namespace detail {
template <class Words>
constexpr void put_bits(Words& words, unsigned lsb, unsigned bits, std::uint64_t value) {
  for (unsigned done = 0; done < bits;) {
    const unsigned at = lsb + done, in_word = at % 32, take = bits - done < 32 - in_word ? bits - done : 32 - in_word;
    const std::uint64_t mask = (std::uint64_t{1} << take) - 1;
    words[at / 32] |= static_cast<std::uint32_t>(((value >> done) & mask) << in_word);
    done += take;
  }
}
template <class Words>
constexpr std::uint64_t take_bits(const Words& words, unsigned lsb, unsigned bits) {
  std::uint64_t value = 0;
  for (unsigned done = 0; done < bits;) {
    const unsigned at = lsb + done, in_word = at % 32, take = bits - done < 32 - in_word ? bits - done : 32 - in_word;
    const std::uint64_t mask = (std::uint64_t{1} << take) - 1;
    value |= ((std::uint64_t{words[at / 32]} >> in_word) & mask) << done;
    done += take;
  }
  return value;
}
}  // namespace detail

inline CommandWords Command::pack() const {
  CommandWords words{};
  detail::put_bits(words, 0, 4, static_cast<std::uint64_t>(opcode));
  detail::put_bits(words, 4, 8, static_cast<std::uint64_t>(tokens));
  detail::put_bits(words, 12, 8, static_cast<std::uint64_t>(token));
  detail::put_bits(words, 20, 8, static_cast<std::uint64_t>(token_shift));
  detail::put_bits(words, 28, 4, static_cast<std::uint64_t>(planes_read));
  detail::put_bits(words, 32, 4, static_cast<std::uint64_t>(planes_stored));
  detail::put_bits(words, 36, 3, static_cast<std::uint64_t>(up));
  detail::put_bits(words, 39, 1, static_cast<std::uint64_t>(offset_mode));
  detail::put_bits(words, 40, 8, static_cast<std::uint64_t>(z_adjust));
  detail::put_bits(words, 48, 5, static_cast<std::uint64_t>(act_bits));
  detail::put_bits(words, 53, 2, static_cast<std::uint64_t>(elem_bytes));
  detail::put_bits(words, 55, 5, static_cast<std::uint64_t>(out_bits));
  detail::put_bits(words, 60, 3, static_cast<std::uint64_t>(levels));
  detail::put_bits(words, 63, 1, static_cast<std::uint64_t>(scattered));
  detail::put_bits(words, 64, 1, static_cast<std::uint64_t>(plane_major));
  detail::put_bits(words, 65, 1, static_cast<std::uint64_t>(paired));
  detail::put_bits(words, 66, 1, static_cast<std::uint64_t>(acc_continue));
  detail::put_bits(words, 67, 1, static_cast<std::uint64_t>(group_continue));
  detail::put_bits(words, 68, 1, static_cast<std::uint64_t>(k_last));
  detail::put_bits(words, 69, 1, static_cast<std::uint64_t>(shift_hidden));
  detail::put_bits(words, 70, 1, static_cast<std::uint64_t>(source_hidden));
  detail::put_bits(words, 71, 1, static_cast<std::uint64_t>(write_y));
  detail::put_bits(words, 72, 1, static_cast<std::uint64_t>(write_acc));
  detail::put_bits(words, 73, 1, static_cast<std::uint64_t>(write_hidden));
  detail::put_bits(words, 74, 1, static_cast<std::uint64_t>(write_h));
  detail::put_bits(words, 75, 1, static_cast<std::uint64_t>(hidden_clear));
  detail::put_bits(words, 76, 1, static_cast<std::uint64_t>(swiglu_part));
  detail::put_bits(words, 77, 1, static_cast<std::uint64_t>(which_up));
  detail::put_bits(words, 78, 5, static_cast<std::uint64_t>(sigma_h));
  detail::put_bits(words, 83, 1, static_cast<std::uint64_t>(interleaved));
  detail::put_bits(words, 96, 32, static_cast<std::uint64_t>(n));
  detail::put_bits(words, 128, 32, static_cast<std::uint64_t>(k));
  detail::put_bits(words, 160, 32, static_cast<std::uint64_t>(group_size));
  detail::put_bits(words, 192, 32, static_cast<std::uint64_t>(group_left));
  detail::put_bits(words, 224, 16, static_cast<std::uint64_t>(act_stride));
  detail::put_bits(words, 240, 16, static_cast<std::uint64_t>(hidden_stride));
  detail::put_bits(words, 256, 16, static_cast<std::uint64_t>(hidden_base));
  detail::put_bits(words, 272, 8, static_cast<std::uint64_t>(job));
  detail::put_bits(words, 288, 40, static_cast<std::uint64_t>(weight_addr));
  detail::put_bits(words, 328, 40, static_cast<std::uint64_t>(params_addr));
  detail::put_bits(words, 368, 40, static_cast<std::uint64_t>(requant_addr));
  detail::put_bits(words, 408, 40, static_cast<std::uint64_t>(plane_stride));
  detail::put_bits(words, 448, 32, static_cast<std::uint64_t>(offset));
  detail::put_bits(words, 480, 32, static_cast<std::uint64_t>(aux_offset));
  detail::put_bits(words, 512, 40, static_cast<std::uint64_t>(level_params_addr));
  detail::put_bits(words, 552, 40, static_cast<std::uint64_t>(level_stride));
  detail::put_bits(words, 592, 40, static_cast<std::uint64_t>(plane_offset_3));
  detail::put_bits(words, 632, 40, static_cast<std::uint64_t>(plane_offset_4));
  detail::put_bits(words, 672, 40, static_cast<std::uint64_t>(plane_offset_5));
  detail::put_bits(words, 712, 40, static_cast<std::uint64_t>(plane_offset_6));
  detail::put_bits(words, 752, 40, static_cast<std::uint64_t>(plane_offset_7));
  detail::put_bits(words, 792, 40, static_cast<std::uint64_t>(plane_offset_8));
  return words;
}

inline Command Command::unpack(const CommandWords& words) {
  Command c;
  c.opcode = static_cast<Opcode>(detail::take_bits(words, 0, 4));
  c.tokens = static_cast<std::uint8_t>(detail::take_bits(words, 4, 8));
  c.token = static_cast<std::uint8_t>(detail::take_bits(words, 12, 8));
  c.token_shift = static_cast<std::uint8_t>(detail::take_bits(words, 20, 8));
  c.planes_read = static_cast<std::uint8_t>(detail::take_bits(words, 28, 4));
  c.planes_stored = static_cast<std::uint8_t>(detail::take_bits(words, 32, 4));
  c.up = static_cast<std::uint8_t>(detail::take_bits(words, 36, 3));
  c.offset_mode = detail::take_bits(words, 39, 1) != 0;
  c.z_adjust = static_cast<std::uint8_t>(detail::take_bits(words, 40, 8));
  c.act_bits = static_cast<std::uint8_t>(detail::take_bits(words, 48, 5));
  c.elem_bytes = static_cast<std::uint8_t>(detail::take_bits(words, 53, 2));
  c.out_bits = static_cast<std::uint8_t>(detail::take_bits(words, 55, 5));
  c.levels = static_cast<std::uint8_t>(detail::take_bits(words, 60, 3));
  c.scattered = detail::take_bits(words, 63, 1) != 0;
  c.plane_major = detail::take_bits(words, 64, 1) != 0;
  c.paired = detail::take_bits(words, 65, 1) != 0;
  c.acc_continue = detail::take_bits(words, 66, 1) != 0;
  c.group_continue = detail::take_bits(words, 67, 1) != 0;
  c.k_last = detail::take_bits(words, 68, 1) != 0;
  c.shift_hidden = detail::take_bits(words, 69, 1) != 0;
  c.source_hidden = detail::take_bits(words, 70, 1) != 0;
  c.write_y = detail::take_bits(words, 71, 1) != 0;
  c.write_acc = detail::take_bits(words, 72, 1) != 0;
  c.write_hidden = detail::take_bits(words, 73, 1) != 0;
  c.write_h = detail::take_bits(words, 74, 1) != 0;
  c.hidden_clear = detail::take_bits(words, 75, 1) != 0;
  c.swiglu_part = detail::take_bits(words, 76, 1) != 0;
  c.which_up = detail::take_bits(words, 77, 1) != 0;
  c.sigma_h = static_cast<std::uint8_t>(detail::take_bits(words, 78, 5));
  c.interleaved = detail::take_bits(words, 83, 1) != 0;
  c.n = static_cast<std::uint32_t>(detail::take_bits(words, 96, 32));
  c.k = static_cast<std::uint32_t>(detail::take_bits(words, 128, 32));
  c.group_size = static_cast<std::uint32_t>(detail::take_bits(words, 160, 32));
  c.group_left = static_cast<std::uint32_t>(detail::take_bits(words, 192, 32));
  c.act_stride = static_cast<std::uint16_t>(detail::take_bits(words, 224, 16));
  c.hidden_stride = static_cast<std::uint16_t>(detail::take_bits(words, 240, 16));
  c.hidden_base = static_cast<std::uint16_t>(detail::take_bits(words, 256, 16));
  c.job = static_cast<std::uint8_t>(detail::take_bits(words, 272, 8));
  c.weight_addr = static_cast<std::uint64_t>(detail::take_bits(words, 288, 40));
  c.params_addr = static_cast<std::uint64_t>(detail::take_bits(words, 328, 40));
  c.requant_addr = static_cast<std::uint64_t>(detail::take_bits(words, 368, 40));
  c.plane_stride = static_cast<std::uint64_t>(detail::take_bits(words, 408, 40));
  c.offset = static_cast<std::uint32_t>(detail::take_bits(words, 448, 32));
  c.aux_offset = static_cast<std::uint32_t>(detail::take_bits(words, 480, 32));
  c.level_params_addr = static_cast<std::uint64_t>(detail::take_bits(words, 512, 40));
  c.level_stride = static_cast<std::uint64_t>(detail::take_bits(words, 552, 40));
  c.plane_offset_3 = static_cast<std::uint64_t>(detail::take_bits(words, 592, 40));
  c.plane_offset_4 = static_cast<std::uint64_t>(detail::take_bits(words, 632, 40));
  c.plane_offset_5 = static_cast<std::uint64_t>(detail::take_bits(words, 672, 40));
  c.plane_offset_6 = static_cast<std::uint64_t>(detail::take_bits(words, 712, 40));
  c.plane_offset_7 = static_cast<std::uint64_t>(detail::take_bits(words, 752, 40));
  c.plane_offset_8 = static_cast<std::uint64_t>(detail::take_bits(words, 792, 40));
  return c;
}

inline bool operator==(const Command& a, const Command& b) {
  return a.opcode == b.opcode &&
         a.tokens == b.tokens &&
         a.token == b.token &&
         a.token_shift == b.token_shift &&
         a.planes_read == b.planes_read &&
         a.planes_stored == b.planes_stored &&
         a.up == b.up &&
         a.offset_mode == b.offset_mode &&
         a.z_adjust == b.z_adjust &&
         a.act_bits == b.act_bits &&
         a.elem_bytes == b.elem_bytes &&
         a.out_bits == b.out_bits &&
         a.levels == b.levels &&
         a.scattered == b.scattered &&
         a.plane_major == b.plane_major &&
         a.paired == b.paired &&
         a.acc_continue == b.acc_continue &&
         a.group_continue == b.group_continue &&
         a.k_last == b.k_last &&
         a.shift_hidden == b.shift_hidden &&
         a.source_hidden == b.source_hidden &&
         a.write_y == b.write_y &&
         a.write_acc == b.write_acc &&
         a.write_hidden == b.write_hidden &&
         a.write_h == b.write_h &&
         a.hidden_clear == b.hidden_clear &&
         a.swiglu_part == b.swiglu_part &&
         a.which_up == b.which_up &&
         a.sigma_h == b.sigma_h &&
         a.interleaved == b.interleaved &&
         a.n == b.n &&
         a.k == b.k &&
         a.group_size == b.group_size &&
         a.group_left == b.group_left &&
         a.act_stride == b.act_stride &&
         a.hidden_stride == b.hidden_stride &&
         a.hidden_base == b.hidden_base &&
         a.job == b.job &&
         a.weight_addr == b.weight_addr &&
         a.params_addr == b.params_addr &&
         a.requant_addr == b.requant_addr &&
         a.plane_stride == b.plane_stride &&
         a.offset == b.offset &&
         a.aux_offset == b.aux_offset &&
         a.level_params_addr == b.level_params_addr &&
         a.level_stride == b.level_stride &&
         a.plane_offset_3 == b.plane_offset_3 &&
         a.plane_offset_4 == b.plane_offset_4 &&
         a.plane_offset_5 == b.plane_offset_5 &&
         a.plane_offset_6 == b.plane_offset_6 &&
         a.plane_offset_7 == b.plane_offset_7 &&
         a.plane_offset_8 == b.plane_offset_8;
}
inline bool operator!=(const Command& a, const Command& b) { return !(a == b); }

inline DescriptorWords Descriptor::pack() const {
  DescriptorWords words{};
  detail::put_bits(words, 0, 8, static_cast<std::uint64_t>(job));
  detail::put_bits(words, 8, 4, static_cast<std::uint64_t>(plane));
  detail::put_bits(words, 12, 1, static_cast<std::uint64_t>(last));
  detail::put_bits(words, 16, 16, static_cast<std::uint64_t>(layer));
  detail::put_bits(words, 32, 16, static_cast<std::uint64_t>(expert));
  detail::put_bits(words, 64, 32, static_cast<std::uint64_t>(requests));
  detail::put_bits(words, 96, 32, static_cast<std::uint64_t>(bytes));
  detail::put_bits(words, 128, 48, static_cast<std::uint64_t>(source));
  detail::put_bits(words, 192, 40, static_cast<std::uint64_t>(destination));
  return words;
}

inline Descriptor Descriptor::unpack(const DescriptorWords& words) {
  Descriptor d;
  d.job = static_cast<std::uint8_t>(detail::take_bits(words, 0, 8));
  d.plane = static_cast<std::uint8_t>(detail::take_bits(words, 8, 4));
  d.last = detail::take_bits(words, 12, 1) != 0;
  d.layer = static_cast<std::uint16_t>(detail::take_bits(words, 16, 16));
  d.expert = static_cast<std::uint16_t>(detail::take_bits(words, 32, 16));
  d.requests = static_cast<std::uint32_t>(detail::take_bits(words, 64, 32));
  d.bytes = static_cast<std::uint32_t>(detail::take_bits(words, 96, 32));
  d.source = static_cast<std::uint64_t>(detail::take_bits(words, 128, 48));
  d.destination = static_cast<std::uint64_t>(detail::take_bits(words, 192, 40));
  return d;
}

inline bool operator==(const Descriptor& a, const Descriptor& b) {
  return a.job == b.job &&
         a.plane == b.plane &&
         a.last == b.last &&
         a.layer == b.layer &&
         a.expert == b.expert &&
         a.requests == b.requests &&
         a.bytes == b.bytes &&
         a.source == b.source &&
         a.destination == b.destination;
}
inline bool operator!=(const Descriptor& a, const Descriptor& b) { return !(a == b); }

/// Bit position and width of each field in the packed command, in order.
struct FieldInfo {
  std::string_view name;
  unsigned lsb;
  unsigned bits;
};
inline constexpr std::array<FieldInfo, 52> kFields{{
    {"opcode", 0, 4},
    {"tokens", 4, 8},
    {"token", 12, 8},
    {"token_shift", 20, 8},
    {"planes_read", 28, 4},
    {"planes_stored", 32, 4},
    {"up", 36, 3},
    {"offset_mode", 39, 1},
    {"z_adjust", 40, 8},
    {"act_bits", 48, 5},
    {"elem_bytes", 53, 2},
    {"out_bits", 55, 5},
    {"levels", 60, 3},
    {"scattered", 63, 1},
    {"plane_major", 64, 1},
    {"paired", 65, 1},
    {"acc_continue", 66, 1},
    {"group_continue", 67, 1},
    {"k_last", 68, 1},
    {"shift_hidden", 69, 1},
    {"source_hidden", 70, 1},
    {"write_y", 71, 1},
    {"write_acc", 72, 1},
    {"write_hidden", 73, 1},
    {"write_h", 74, 1},
    {"hidden_clear", 75, 1},
    {"swiglu_part", 76, 1},
    {"which_up", 77, 1},
    {"sigma_h", 78, 5},
    {"interleaved", 83, 1},
    {"n", 96, 32},
    {"k", 128, 32},
    {"group_size", 160, 32},
    {"group_left", 192, 32},
    {"act_stride", 224, 16},
    {"hidden_stride", 240, 16},
    {"hidden_base", 256, 16},
    {"job", 272, 8},
    {"weight_addr", 288, 40},
    {"params_addr", 328, 40},
    {"requant_addr", 368, 40},
    {"plane_stride", 408, 40},
    {"offset", 448, 32},
    {"aux_offset", 480, 32},
    {"level_params_addr", 512, 40},
    {"level_stride", 552, 40},
    {"plane_offset_3", 592, 40},
    {"plane_offset_4", 632, 40},
    {"plane_offset_5", 672, 40},
    {"plane_offset_6", 712, 40},
    {"plane_offset_7", 752, 40},
    {"plane_offset_8", 792, 40},
}};

/// AXI4-Lite byte addresses.
inline constexpr std::uint32_t kRegIdentity = 0x000;  ///< 0x4d6f4531, 'MoE1'
inline constexpr std::uint32_t kRegRows = 0x004;  ///< PEs along k
inline constexpr std::uint32_t kRegCols = 0x008;  ///< columns along n
inline constexpr std::uint32_t kRegPlanesPerCycle = 0x00c;  ///< digits a PE adds in a cycle
inline constexpr std::uint32_t kRegMaxActBits = 0x010;  ///< widest activation
inline constexpr std::uint32_t kRegAxiDataBits = 0x014;  ///< bits of one memory beat
inline constexpr std::uint32_t kRegMaxTokens = 0x018;  ///< tokens per command
inline constexpr std::uint32_t kRegActDepth = 0x01c;  ///< activation buffer words
inline constexpr std::uint32_t kRegHiddenDepth = 0x020;  ///< hidden buffer words
inline constexpr std::uint32_t kRegFifoDepth = 0x024;  ///< beats a stream reader may have outstanding or stored
inline constexpr std::uint32_t kRegCommandDepth = 0x028;  ///< commands the queue holds
inline constexpr std::uint32_t kRegBlocks = 0x02c;  ///< blocks with counters
inline constexpr std::uint32_t kRegStatus = 0x030;  ///< bit 0 busy, bit 1 shift error, bit 2 memory error, bit 3 command error, bit 4 storage error, bits 15:8 free queue entries
inline constexpr std::uint32_t kRegPush = 0x034;  ///< any write pushes the staging words as a command; SLVERR when the queue is full
inline constexpr std::uint32_t kRegSnapshot = 0x038;  ///< any write copies all counters to their windows
inline constexpr std::uint32_t kRegIoPush = 0x03c;  ///< any write pushes the I/O staging words as a descriptor; SLVERR when the I/O queue is full or refuses it
inline constexpr std::uint32_t kRegIoOrder = 0x040;  ///< load order, 0 after reset; SLVERR for an unknown one
inline constexpr std::uint32_t kRegIoCredits = 0x044;  ///< requests that may be outstanding, io_max_credits after reset; SLVERR for more
inline constexpr std::uint32_t kRegIoStatus = 0x048;  ///< bits 7:0 free descriptor entries, bits 15:8 requests outstanding
inline constexpr std::uint32_t kRegIoJobs = 0x04c;  ///< bit j: job j has descriptors and its wait has not been executed; bit 16 + j: released, all its planes are resident
inline constexpr std::uint32_t kRegIoDepth = 0x050;  ///< descriptors that may wait to be issued
inline constexpr std::uint32_t kRegIoMaxCredits = 0x054;  ///< requests that may ever be outstanding
inline constexpr std::uint32_t kRegIoMaxJobs = 0x058;  ///< jobs
inline constexpr std::uint32_t kRegIoStaging = 0x060;  ///< words of the next descriptor; they keep their values
inline constexpr std::uint32_t kRegStaging = 0x080;  ///< words of the next command; they keep their values
inline constexpr std::uint32_t kRegCycles = 0x100;  ///< snapshot: cycles since reset, low word first
inline constexpr std::uint32_t kRegCounters = 0x200;  ///< snapshot: block b, kind c (activity code) at 8 * (4 * b + c), low word first
inline constexpr std::uint32_t kIdentityValue = 0x4d6f4531;

/// What a block did in a cycle: exactly one of these.
enum class Activity : std::uint8_t {
  kIdle = 0,
  kBusy = 1,
  kStarved = 2,
  kBlocked = 3,
};

inline constexpr unsigned kNumBlocks = 16;
enum class Block : std::uint8_t {
  kCommandQueue = 0,
  kScheduler = 1,
  kWeightFetch = 2,
  kWeightReader = 3,
  kWeightLoader = 4,
  kActLoader = 5,
  kActReader = 6,
  kTileSequencer = 7,
  kPeArray = 8,
  kGroupDequant = 9,
  kAccBuffer = 10,
  kDrain = 11,
  kRequant = 12,
  kSwiglu = 13,
  kOutputDma = 14,
  kIoQueue = 15,
};
struct BlockInfo {
  std::string_view name;
  std::string_view event;  ///< what one busy cycle costs energy for
};
inline constexpr std::array<BlockInfo, kNumBlocks> kBlocks{{
    {"command_queue", "command_moved"},
    {"scheduler", "command_step"},
    {"weight_fetch", "segment_issued"},
    {"weight_reader", "memory_beat_read"},
    {"weight_loader", "weight_column_write"},
    {"act_loader", "activation_load_step"},
    {"act_reader", "memory_beat_read"},
    {"tile_sequencer", "activation_word_read"},
    {"pe_array", "array_beat"},
    {"group_dequant", "group_step"},
    {"acc_buffer", "accumulator_access"},
    {"drain", "result_chunk_moved"},
    {"requant", "requant_chunk"},
    {"swiglu", "swiglu_chunk"},
    {"output_dma", "memory_beat_write"},
    {"io_queue", "descriptor_step"},
}};

}  // namespace moesaic::program
