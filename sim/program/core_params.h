#pragma once
#include <algorithm>
#include <cstdint>

namespace moesaic::program {

constexpr unsigned log2_ceil(std::uint64_t value) {
  unsigned bits = 0;
  while ((std::uint64_t{1} << bits) < value) ++bits;
  return bits;
}

/// The parameters of one core: the SystemVerilog parameters of rtl/core/moe_core.sv, under their register names.
struct CoreParams {
  unsigned rows = 8;              ///< PEs along k
  unsigned cols = 8;              ///< columns along n
  unsigned planes_per_cycle = 2;  ///< digits a PE adds in a cycle: 1, 2 or 4
  unsigned max_act_bits = 16;     ///< widest activation: 4, 8 or 16
  unsigned axi_data_bits = 64;    ///< bits of one memory beat: 64, 128, 256 or 512
  unsigned max_tokens = 8;        ///< tokens per command
  unsigned act_depth = 256;       ///< words of the activation buffer (rows activations each)
  unsigned hidden_depth = 512;    ///< words of the hidden buffer (4 int16 each)
  unsigned fifo_depth = 32;       ///< beats a stream reader may have outstanding or stored
  unsigned command_depth = 8;     ///< commands the queue holds
  unsigned io_depth = 8;          ///< descriptors that may wait to be issued
  unsigned io_credits = 4;        ///< storage requests that may ever be outstanding
  unsigned io_jobs = 4;           ///< compute jobs that may wait for planes

  static constexpr unsigned kPostLanes = 4;  ///< elements per cycle after the accumulators
  static constexpr unsigned kTagBits = 10;   ///< bits that travel with a beat through the array
  static constexpr unsigned kAddrBits = 40;  ///< bits of a byte address

  /// Columns written into the array per cycle.
  unsigned load_cols() const { return std::min(cols, axi_data_bits / rows); }
  unsigned log2_rows() const { return log2_ceil(rows); }
  /// Bits of one column sum that leaves the array, signed.
  unsigned sum_bits() const { return max_act_bits + log2_rows() + 8; }
  /// Bits of the row sum (X) that leaves the array, signed.
  unsigned rowsum_bits() const { return max_act_bits + log2_rows(); }
  unsigned beat_bytes() const { return axi_data_bits / 8; }
};

inline bool operator==(const CoreParams& a, const CoreParams& b) {
  return a.rows == b.rows && a.cols == b.cols && a.planes_per_cycle == b.planes_per_cycle &&
         a.max_act_bits == b.max_act_bits && a.axi_data_bits == b.axi_data_bits && a.max_tokens == b.max_tokens &&
         a.act_depth == b.act_depth && a.hidden_depth == b.hidden_depth && a.fifo_depth == b.fifo_depth &&
         a.command_depth == b.command_depth && a.io_depth == b.io_depth && a.io_credits == b.io_credits &&
         a.io_jobs == b.io_jobs;
}

}  // namespace moesaic::program
