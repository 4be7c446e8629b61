#include "reference/network/float_experts.h"

#include <algorithm>
#include <string>

#include "reference/network/vector_math.h"

namespace moesaic::network {

ExpertMatrices read_expert(const workloads::Checkpoint& checkpoint, int layer, int expert) {
  const workloads::Network& network = checkpoint.network();
  const std::int64_t hidden = network.hidden;
  const std::int64_t width = network.expert_intermediate;
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  ExpertMatrices m;
  const std::string fused = prefix + "mlp.experts.gate_up_proj";
  if (checkpoint.has(fused)) {
    // Transformers 5 in memory, and on disk with save_original_format=False: gate rows first, then up rows.
    workloads::FloatTensor both = checkpoint.read_outer(fused, {network.experts, 2 * width, hidden}, expert);
    const auto half = both.data.begin() + static_cast<std::ptrdiff_t>(width * hidden);
    m.gate.assign(both.data.begin(), half);
    m.up.assign(half, both.data.end());
    m.down = checkpoint.read_outer(prefix + "mlp.experts.down_proj", {network.experts, hidden, width}, expert).data;
    return m;
  }
  const std::string one = prefix + "block_sparse_moe.experts." + std::to_string(expert) + ".";
  m.gate = checkpoint.read(one + "w1.weight", {width, hidden}).data;
  m.up = checkpoint.read(one + "w3.weight", {width, hidden}).data;
  m.down = checkpoint.read(one + "w2.weight", {hidden, width}).data;
  return m;
}

FloatExperts::FloatExperts(const workloads::Checkpoint& checkpoint)
    : hidden_(static_cast<std::size_t>(checkpoint.network().hidden)),
      intermediate_(static_cast<std::size_t>(checkpoint.network().expert_intermediate)) {
  const workloads::Network& network = checkpoint.network();
  layers_.resize(static_cast<std::size_t>(network.layers));
  for (int layer = 0; layer < static_cast<int>(network.layers); ++layer) {
    for (int expert = 0; expert < static_cast<int>(network.experts); ++expert) {
      const ExpertMatrices m = read_expert(checkpoint, layer, expert);
      layers_[static_cast<std::size_t>(layer)].push_back({pack_rows(m.gate.data(), intermediate_, hidden_),
                                                          pack_rows(m.up.data(), intermediate_, hidden_),
                                                          pack_rows(m.down.data(), hidden_, intermediate_)});
    }
  }
}

void FloatExperts::run_expert(int layer, int expert, const float* x, std::size_t rows, float* y) const {
  const Expert& e = layers_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(expert)];
  std::vector<float> gate(rows * intermediate_);
  std::vector<float> up(rows * intermediate_);
  multiply(x, rows, e.gate, gate.data());
  multiply(x, rows, e.up, up.data());
  for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = silu(gate[i]) * up[i];
  multiply(gate.data(), rows, e.down, y);
}

void FloatExperts::run(const MoeBatch& batch, float* y) const {
  std::fill_n(y, batch.rows * batch.hidden, 0.0F);
  const std::vector<ExpertRows> rows = rows_by_expert(batch);
  std::vector<float> out;
  for (std::size_t expert = 0; expert < rows.size(); ++expert) {
    const ExpertRows& mine = rows[expert];
    if (mine.row.empty()) continue;
    const std::vector<float> x = gather_rows(batch, mine);
    out.resize(x.size());
    run_expert(batch.layer, static_cast<int>(expert), x.data(), mine.row.size(), out.data());
    for (std::size_t i = 0; i < mine.row.size(); ++i) {
      const float weight = batch.weights[mine.row[i] * batch.top_k + mine.slot[i]];
      float* row = y + mine.row[i] * hidden_;
      for (std::size_t h = 0; h < hidden_; ++h) row[h] += weight * out[i * hidden_ + h];
    }
  }
}

}  // namespace moesaic::network
