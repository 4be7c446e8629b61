#include "reference/network/float_experts.h"

#include <algorithm>
#include <string>
#include <utility>

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

void check_experts(const workloads::Checkpoint& checkpoint, int layer) {
  const workloads::Network& network = checkpoint.network();
  const std::int64_t hidden = network.hidden;
  const std::int64_t width = network.expert_intermediate;
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  if (checkpoint.has(prefix + "mlp.experts.gate_up_proj")) {
    checkpoint.check(prefix + "mlp.experts.gate_up_proj", {network.experts, 2 * width, hidden});
    checkpoint.check(prefix + "mlp.experts.down_proj", {network.experts, hidden, width});
    return;
  }
  for (std::int64_t expert = 0; expert < network.experts; ++expert) {
    const std::string one = prefix + "block_sparse_moe.experts." + std::to_string(expert) + ".";
    checkpoint.check(one + "w1.weight", {width, hidden});
    checkpoint.check(one + "w3.weight", {width, hidden});
    checkpoint.check(one + "w2.weight", {hidden, width});
  }
}

FloatExperts::FloatExperts(const workloads::Checkpoint& checkpoint, std::size_t resident_layers)
    : hidden_(static_cast<std::size_t>(checkpoint.network().hidden)),
      intermediate_(static_cast<std::size_t>(checkpoint.network().expert_intermediate)),
      layers_(resident_layers, [this, checkpoint](std::size_t layer) {
        std::vector<Expert> experts;
        for (int expert = 0; expert < static_cast<int>(checkpoint.network().experts); ++expert) {
          const ExpertMatrices m = read_expert(checkpoint, static_cast<int>(layer), expert);
          experts.push_back({pack_rows(m.gate.data(), intermediate_, hidden_),
                             pack_rows(m.up.data(), intermediate_, hidden_),
                             pack_rows(m.down.data(), hidden_, intermediate_)});
        }
        return experts;
      }) {
  const auto layers = static_cast<std::size_t>(checkpoint.network().layers);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    if (resident_layers >= layers)
      layers_.get(layer);
    else
      check_experts(checkpoint, static_cast<int>(layer));
  }
}

void FloatExperts::run_expert(int layer, int expert, const float* x, std::size_t rows, float* y,
                              ExpertInner* inner) const {
  const auto weights = layers_.get(static_cast<std::size_t>(layer));
  const Expert& e = (*weights)[static_cast<std::size_t>(expert)];
  std::vector<float> gate(rows * intermediate_), up(rows * intermediate_), hidden(rows * intermediate_);
  multiply(x, rows, e.gate, gate.data());
  multiply(x, rows, e.up, up.data());
  for (std::size_t i = 0; i < gate.size(); ++i) {
    gate[i] = silu(gate[i]);
    hidden[i] = gate[i] * up[i];
  }
  multiply(hidden.data(), rows, e.down, y);
  if (inner != nullptr) *inner = {std::move(gate), std::move(up), std::move(hidden)};
}

void FloatExperts::run_replaced(int layer, int expert, const float* x, std::size_t rows, const ExpertInner& inner,
                                workloads::Projection which, const PackedMatrix& instead, float* y) const {
  if (which == workloads::Projection::kDown) {
    multiply(inner.hidden.data(), rows, instead, y);
    return;
  }
  const bool is_gate = which == workloads::Projection::kGate;
  const std::vector<float>& other = is_gate ? inner.up : inner.gate;
  std::vector<float> hidden(rows * intermediate_);
  multiply(x, rows, instead, hidden.data());
  for (std::size_t i = 0; i < hidden.size(); ++i) hidden[i] = (is_gate ? silu(hidden[i]) : hidden[i]) * other[i];
  const auto weights = layers_.get(static_cast<std::size_t>(layer));
  multiply(hidden.data(), rows, (*weights)[static_cast<std::size_t>(expert)].down, y);
}

void FloatExperts::run_expert_back(int layer, int expert, const float* x, std::size_t rows, const float* dy, float* y,
                                   float* dx) const {
  const auto weights = layers_.get(static_cast<std::size_t>(layer));
  const Expert& e = (*weights)[static_cast<std::size_t>(expert)];
  std::vector<float> gate(rows * intermediate_), up(gate.size()), hidden(gate.size()), d_hidden(gate.size());
  multiply(x, rows, e.gate, gate.data());
  multiply(x, rows, e.up, up.data());
  for (std::size_t i = 0; i < gate.size(); ++i) hidden[i] = silu(gate[i]) * up[i];
  multiply(hidden.data(), rows, e.down, y);
  multiply(dy, rows, transpose(e.down), d_hidden.data());
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const float sigmoid = 1.0F / (1.0F + exp_float(-gate[i]));
    const float d_silu = sigmoid * (1.0F + gate[i] * (1.0F - sigmoid));
    const float d_gate = d_hidden[i] * up[i] * d_silu;
    up[i] = d_hidden[i] * gate[i] * sigmoid;  // of up
    gate[i] = d_gate;
  }
  std::vector<float> of_gate(rows * hidden_);
  multiply(gate.data(), rows, transpose(e.gate), of_gate.data());
  multiply(up.data(), rows, transpose(e.up), dx);
  for (std::size_t i = 0; i < of_gate.size(); ++i) dx[i] += of_gate[i];
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
