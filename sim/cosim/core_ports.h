#pragma once
/// The ports of one core as plain values, in the order of rtl/core/moe_core.sv. Data ports are eight 64-bit words, low
/// word first; words beyond the port's width are 0.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "sim/program/commands.h"
#include "sim/program/core_params.h"

namespace moesaic::cosim {

using DataWords = std::array<std::uint64_t, 8>;

// clang-format off
// X(name, bits): ports of at most 64 bits; a port of 1 bit is a bool on the SystemC side.
#define MOESAIC_CORE_SCALAR_INPUTS(X) \
  X(axil_aw_valid_i, 1) X(axil_aw_addr_i, 12) X(axil_w_valid_i, 1) X(axil_w_data_i, 32) X(axil_w_strb_i, 4) \
  X(axil_b_ready_i, 1) X(axil_ar_valid_i, 1) X(axil_ar_addr_i, 12) X(axil_r_ready_i, 1) \
  X(wgt_ar_ready_i, 1) X(wgt_r_valid_i, 1) X(wgt_r_resp_i, 2) X(wgt_r_last_i, 1) \
  X(act_ar_ready_i, 1) X(act_r_valid_i, 1) X(act_r_resp_i, 2) X(act_r_last_i, 1) \
  X(out_aw_ready_i, 1) X(out_w_ready_i, 1) X(out_b_valid_i, 1) X(out_b_resp_i, 2) \
  X(io_req_ready_i, 1) X(io_done_valid_i, 1) X(io_done_id_i, 8)
#define MOESAIC_CORE_DATA_INPUTS(X) X(wgt_r_data_i) X(act_r_data_i)
#define MOESAIC_CORE_SCALAR_OUTPUTS(X) \
  X(axil_aw_ready_o, 1) X(axil_w_ready_o, 1) X(axil_b_valid_o, 1) X(axil_b_resp_o, 2) \
  X(axil_ar_ready_o, 1) X(axil_r_valid_o, 1) X(axil_r_data_o, 32) X(axil_r_resp_o, 2) \
  X(wgt_ar_valid_o, 1) X(wgt_ar_addr_o, 40) X(wgt_ar_len_o, 8) X(wgt_ar_size_o, 3) X(wgt_ar_burst_o, 2) X(wgt_r_ready_o, 1) \
  X(act_ar_valid_o, 1) X(act_ar_addr_o, 40) X(act_ar_len_o, 8) X(act_ar_size_o, 3) X(act_ar_burst_o, 2) X(act_r_ready_o, 1) \
  X(out_aw_valid_o, 1) X(out_aw_addr_o, 40) X(out_aw_len_o, 8) X(out_aw_size_o, 3) X(out_aw_burst_o, 2) \
  X(out_w_valid_o, 1) X(out_w_strb_o, 64) X(out_w_last_o, 1) X(out_b_ready_o, 1) \
  X(io_req_valid_o, 1) X(io_req_id_o, 8) X(io_req_source_o, 48) X(io_req_destination_o, 40) X(io_req_bytes_o, 32) \
  X(io_done_ready_o, 1) X(retired_o, 1) X(idle_o, 1) X(activity_o, 32)
#define MOESAIC_CORE_DATA_OUTPUTS(X) X(out_w_data_o)
// clang-format on

#define MOESAIC_MEMBER(name, bits) std::uint64_t name = 0;
#define MOESAIC_DATA_MEMBER(name) DataWords name{};
struct CoreInputs {
  MOESAIC_CORE_SCALAR_INPUTS(MOESAIC_MEMBER)
  MOESAIC_CORE_DATA_INPUTS(MOESAIC_DATA_MEMBER)
};
struct CoreOutputs {
  MOESAIC_CORE_SCALAR_OUTPUTS(MOESAIC_MEMBER)
  MOESAIC_CORE_DATA_OUTPUTS(MOESAIC_DATA_MEMBER)
};
#undef MOESAIC_MEMBER
#undef MOESAIC_DATA_MEMBER
static_assert(2 * program::kNumBlocks == 32, "activity_o has two bits a block");

/// One output port: where its words lie in CoreOutputs.
struct OutputPort {
  std::string_view name;
  unsigned bits;  ///< of the widest core; data and strobe ports of a narrower one have fewer
  unsigned word;  ///< first 64-bit word within CoreOutputs
};
#define MOESAIC_PORT(name, bits) OutputPort{#name, bits, offsetof(CoreOutputs, name) / 8},
#define MOESAIC_DATA_PORT(name) OutputPort{#name, 512, offsetof(CoreOutputs, name) / 8},
inline constexpr OutputPort kOutputPorts[] = {MOESAIC_CORE_SCALAR_OUTPUTS(MOESAIC_PORT)
                                                  MOESAIC_CORE_DATA_OUTPUTS(MOESAIC_DATA_PORT)};
#undef MOESAIC_PORT
#undef MOESAIC_DATA_PORT
inline constexpr std::size_t kNumOutputPorts = sizeof(kOutputPorts) / sizeof(kOutputPorts[0]);

/// Bits of a port in a core of these parameters.
constexpr unsigned port_bits(const OutputPort& port, const program::CoreParams& params) {
  if (port.name == "out_w_data_o") return params.axi_data_bits;
  if (port.name == "out_w_strb_o") return params.axi_data_bits / 8;
  return port.bits;
}

}  // namespace moesaic::cosim
