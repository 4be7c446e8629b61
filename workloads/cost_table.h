#pragma once
/// The cost table: what an expert in a format takes of something that a plan may budget. CSV with the header
///
///   layer,expert,format,cycles[,NAME...]
///
/// format is a name as in a plan (int4, nested3, binary, ternary), or three of gate/up/down (int2/int2/int4). cycles is
/// what one token through that expert takes; further columns, named by the user in lower-case letters, digits and
/// underscores, are anything else that adds up over experts. Values are whole numbers of at least 0.
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "reference/numerics/expert_formats.h"

namespace moesaic::workloads {

class CostTable {
 public:
  /// Refuses (InputError, `file:line: column: got, expected`) another header, a missing or extra field, a value that is
  /// no whole number, one (layer, expert, format) twice, an empty table.
  static CostTable parse(const std::string& text, const std::string& path);

  const std::string& path() const { return path_; }
  /// "cycles" and the further columns, in file order.
  const std::vector<std::string>& columns() const { return columns_; }
  bool has(const std::string& column) const;
  /// Throws base::ConfigError when there is no such row.
  std::int64_t at(const std::string& column, int layer, int expert, const numerics::ExpertFormats& format) const;

 private:
  std::string path_;
  std::vector<std::string> columns_;
  std::map<std::tuple<int, int, std::string>, std::vector<std::int64_t>> rows_;
};

}  // namespace moesaic::workloads
