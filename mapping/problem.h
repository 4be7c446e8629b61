#pragma once
/// The mapper's problem: one format for every (layer, expert), least additive loss, stored bytes within a budget.
/// Losses and bytes come as tables; losses are scaled once to integers, so that solver, checker and bounds compare with
/// ==.
#include <cstdint>
#include <string>
#include <vector>

#include "reference/numerics/format.h"
#include "reference/numerics/stored_layout.h"
#include "workloads/network.h"
#include "workloads/sensitivity.h"

namespace moesaic::mapping {

/// Stored bytes of one expert in every format, in the order of numerics::all_formats().
class MemoryTable {
 public:
  MemoryTable(const workloads::Network& network, std::int64_t group_size, const numerics::LayoutSpec& layout);
  std::int64_t bytes(numerics::Format format) const;

 private:
  std::vector<std::int64_t> bytes_;
};

struct Choice {
  numerics::Format format;
  std::int64_t bytes = 0;
  std::int64_t loss = 0;  ///< round(table's loss * 2^loss_exponent)
};

struct Item {
  int layer = 0;
  int expert = 0;
  std::vector<Choice> choices;  ///< in the order of numerics::all_formats(): the order that ties are broken in
};

struct Problem {
  std::vector<Item> items;  ///< sorted by layer, then expert
  int loss_exponent = 0;
  std::int64_t least_bytes() const;  ///< every item at its fewest bytes
};

/// One index into Item::choices for every item.
using Assignment = std::vector<int>;

struct Totals {
  std::int64_t bytes = 0;
  std::int64_t loss = 0;
};
Totals totals(const Problem& problem, const Assignment& assignment);

/// The problem that a sensitivity table poses on this network. Refuses (InputError, `path: key: got, expected`) a row
/// for an expert that the network lacks, and an expert without rows. The exponent is the greatest for which the sum of
/// every item's greatest loss stays within 2^50 (0 when all losses are 0).
Problem make_problem(const std::vector<workloads::SensitivityRow>& rows, const std::string& path,
                     const workloads::Network& network, const MemoryTable& memory);

/// Bytes: "123456", "96KiB", "1.5MiB", "2GiB"; or "2.5bits": as many bytes as `items` experts take when half of them
/// are int2 and half int3 (any width from 1 to 8 in between in proportion). Fractions of a byte are cut off. Refuses
/// anything else at `where`, `key`.
std::int64_t parse_budget(const std::string& text, const MemoryTable& memory, std::int64_t items,
                          const std::string& where, const std::string& key);

}  // namespace moesaic::mapping
