#include "reference/network/expert_backend.h"

#include <algorithm>

namespace moesaic::network {

std::vector<ExpertRows> rows_by_expert(const MoeBatch& batch) {
  std::vector<ExpertRows> rows(batch.experts);
  for (std::size_t row = 0; row < batch.rows; ++row) {
    for (std::size_t slot = 0; slot < batch.top_k; ++slot) {
      ExpertRows& mine = rows[batch.chosen[row * batch.top_k + slot]];
      mine.row.push_back(static_cast<std::uint32_t>(row));
      mine.slot.push_back(static_cast<std::uint32_t>(slot));
    }
  }
  return rows;
}

std::vector<float> gather_rows(const MoeBatch& batch, const ExpertRows& which) {
  std::vector<float> dense(which.row.size() * batch.hidden);
  for (std::size_t i = 0; i < which.row.size(); ++i)
    std::copy_n(batch.x + which.row[i] * batch.hidden, batch.hidden, dense.data() + i * batch.hidden);
  return dense;
}

}  // namespace moesaic::network
