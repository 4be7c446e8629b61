#pragma once
/// The latency table: how many cycles each expert of a workload takes in each format, all its rows together, measured
/// with a barrier between experts. What `profile` writes and `map` budgets. A CSV whose first lines say what it is of:
///
///   # moesaic profile 2
///   # chip: <SHA-256 of the chip file>
///   # memory: <the chip's memory, in words>
///   # work: <SHA-256 of the shapes, batches and routing that were run>
///   # engine: <SHA-256 of the engine's sources>
///   # group_size: 64
///   # tokens: 16
///   layer,expert,format,jobs,rows,cycles
///   0,0,int2,1,5,1834
///   0,rest,,1,16,911
///
/// Of a workload whose rows are of several classes of requests (plan.h), a line "# classes: 3" follows tokens, and a
/// column `classes` format: a row is then what the rows of these classes take together ("0;2") when they, and no
/// others, read the expert in this format. An expert's readings under a plan, each with the classes that read so, add
/// up.
///
/// format may be three of gate/up/down (int2/int2/int4). jobs counts the batches in which the expert has rows, rows
/// those of all of them; an expert that no row goes to has 0 of all three. `rest` is all else of the layer that is run,
/// its weighted sums at least: the same under any plan.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "reference/numerics/expert_formats.h"
#include "workloads/class_set.h"

namespace moesaic::workloads {

struct LatencyRow {
  static constexpr int kRest = -1;
  int layer = 0;
  int expert = 0;                  ///< or kRest
  numerics::ExpertFormats format;  ///< of an expert
  std::int64_t jobs = 0, rows = 0, cycles = 0;
  ClassSet classes = kEveryRow;  ///< where the table has classes, of an expert
};

class LatencyTable {
 public:
  struct Source {
    std::string chip, work, engine;  ///< hashes
    std::string memory;              ///< the chip's, in words
    std::int64_t group_size = 0;
    std::int64_t tokens = 0;  ///< (request, position) pairs of the workload
    std::size_t classes = 0;  ///< 2 or more; 0 where rows are not told apart
  };
  LatencyTable() = default;
  /// std::logic_error for a (layer, expert, format, classes) twice.
  LatencyTable(Source source, std::vector<LatencyRow> rows, std::string path);

  /// Refuses (InputError, `file:line: column: got, expected`) another form, an unknown or missing line at the top, a
  /// value that is no whole number, one (layer, expert, format) twice, a table without rows, a layer without rest.
  static LatencyTable parse(const std::string& text, const std::string& path);
  std::string text() const;

  const Source& source() const { return source_; }
  const std::vector<LatencyRow>& rows() const { return rows_; }
  const std::string& path() const { return path_; }
  /// Throws base::ConfigError, naming the row, when there is none.
  std::int64_t cycles(int layer, int expert, const numerics::ExpertFormats& format, ClassSet classes = kEveryRow) const;
  /// Of all in the layer but its routed experts.
  std::int64_t rest_cycles(int layer) const;

 private:
  Source source_;
  std::vector<LatencyRow> rows_;
  std::string path_;
  std::map<std::tuple<int, int, numerics::ExpertFormats, ClassSet>, std::int64_t> cycles_;
};

}  // namespace moesaic::workloads
