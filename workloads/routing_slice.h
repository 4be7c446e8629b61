#pragma once
/// The selected rows of a trace, of any number: they lie in a temporary file, and one at a time in memory. Read once,
/// so that a bad row is found wherever it stands; rows may stand in any order.
///
/// Memory: while the trace is read, 48 bytes a token and a bit a row; afterwards none that grows with the trace, but
/// for the requests' arrivals.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "base/spill_file.h"
#include "workloads/workload_file.h"

namespace moesaic::workloads {

class RoutingSlice {
 public:
  /// Errors as read_slice(). `each` is called with every token, in order, once all are known; may be empty.
  explicit RoutingSlice(const WorkloadFile& workload,
                        const std::function<void(std::size_t token, const SliceToken&)>& each = {});

  std::size_t tokens() const { return tokens_; }                        ///< in order of first appearance in the trace
  const std::vector<std::uint32_t>& layers() const { return layers_; }  ///< the selected ones that have experts
  /// By request; empty when the trace has none.
  const std::map<std::uint64_t, double>& arrival_us() const { return arrival_us_; }
  bool has_levels() const { return has_levels_; }

  SliceToken token(std::size_t index);
  /// What the router chose for a token at layers()[layer].
  WorkloadSlice::Row row(std::size_t token, std::size_t layer);

 private:
  void write_row(std::size_t token, std::size_t layer, const TraceRow& row);
  std::uint64_t row_at(std::size_t token, std::size_t layer) const {
    return (std::uint64_t{token} * layers_.size() + layer) * record_.size();
  }

  std::vector<std::uint32_t> layers_;
  std::map<std::uint64_t, double> arrival_us_;
  std::size_t tokens_ = 0, top_k_;
  bool has_levels_ = false;
  base::SpillFile rows_, token_list_;
  std::vector<unsigned char> record_;  ///< of one row, packed: experts, weights, levels
};

}  // namespace moesaic::workloads
