/// Routing trace: which experts the router chose for each token at each layer, and how much it trusted them.
/// CSV with exactly the columns `request,step,phase,position,layer,experts,weights`, then optionally `arrival_us`, then
/// optionally `levels`; experts, weights and levels are lists separated by `;`. JSONL: one object a line, the same
/// keys, lists as arrays. Either may end in .gz or .zst. Rows stand in any order; one row is in memory at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "workloads/lines.h"
#include "workloads/network.h"

namespace moesaic::workloads {

enum class Phase : std::uint8_t { kPrefill, kDecode };
const char* phase_name(Phase phase);

struct TraceRow {
  std::uint64_t request = 0;
  std::uint64_t step = 0;  ///< of the request: 0 is its prefill, then one per decoded token
  Phase phase = Phase::kPrefill;
  std::uint64_t position = 0;  ///< index of the token in its request, never the token itself
  std::uint32_t layer = 0;
  std::vector<std::uint32_t> experts;  ///< distinct
  std::vector<double> weights;         ///< the router's, one per expert, finite and >= 0
  std::optional<double> arrival_us;    ///< when the request came, in microseconds
  /// How wide each expert is read, 0..255; empty when the trace does not say, which is level 0 throughout. Under a plan
  /// with classes the number of a class (plan.h); else so many planes more than the expert's format reads.
  std::vector<std::uint32_t> levels;

  bool operator==(const TraceRow& o) const {
    return request == o.request && step == o.step && phase == o.phase && position == o.position && layer == o.layer &&
           experts == o.experts && weights == o.weights && arrival_us == o.arrival_us && levels == o.levels;
  }
};

class TraceReader {
 public:
  /// With a network, every row is held to it: layers with experts, expert ids, exactly top_k experts.
  explicit TraceReader(const std::string& path, const Network* network = nullptr);
  /// False after the last row. A row that breaks a rule is a base::ConfigError with file, line and column.
  bool next(TraceRow& row);
  std::string where() const { return lines_.where(); }
  bool has_arrival() const { return has_arrival_; }  ///< CSV: from the header; JSONL: known after the first row
  bool has_levels() const { return has_levels_; }

 private:
  void parse_csv(const std::string& line, TraceRow& row) const;
  void parse_jsonl(const std::string& line, TraceRow& row);
  void check(const TraceRow& row) const;

  LineReader lines_;
  std::optional<Network> network_;
  bool jsonl_ = false;
  bool first_row_ = true;
  bool has_arrival_ = false;
  bool has_levels_ = false;
};

/// The form follows from the name, as for the reader. Nothing is at `path` before commit().
class TraceWriter {
 public:
  TraceWriter(const std::string& path, bool has_arrival, bool has_levels);
  void write(const TraceRow& row);
  void commit() { writer_.commit(); }

 private:
  TextWriter writer_;
  bool jsonl_;
  bool has_arrival_;
  bool has_levels_;
  std::string line_;
};

}  // namespace moesaic::workloads
