/// What stands between the router and the residual sum of one Mixture-of-Experts layer: the float forward pass hands a
/// batch of routed rows to an ExpertBackend and takes back the combined output. The back end owns the whole block,
/// not one expert, because the integer arithmetic combines int16 expert outputs before anything becomes real again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moesaic::network {

/// Rows of one window (or of several) at one layer's MoE block. All arrays are row-major and belong to the caller.
struct MoeBatch {
  int layer = 0;
  std::size_t rows = 0;
  std::size_t hidden = 0;
  std::size_t experts = 0;  ///< experts in this layer
  std::size_t top_k = 0;
  std::size_t window = 0;                 ///< that the rows are of: row i is its token i
  const float* x = nullptr;               ///< [rows, hidden] after the post-attention norm: what every expert reads
  const float* router_logits = nullptr;   ///< [rows, experts]
  const std::uint32_t* chosen = nullptr;  ///< [rows, top_k], largest weight first, distinct in a row
  const float* weights = nullptr;         ///< [rows, top_k], >= 0, renormalised to sum 1
};

/// The rows one expert receives, in row order.
struct ExpertRows {
  std::vector<std::uint32_t> row;   ///< row of the batch
  std::vector<std::uint32_t> slot;  ///< which of the row's top_k choices
};

/// Splits a batch by expert: result[e] lists the rows that chose e. Size batch.experts; an expert nobody chose is
/// empty.
std::vector<ExpertRows> rows_by_expert(const MoeBatch& batch);

/// Copies the rows of `which` into a dense [which.row.size(), hidden] array.
std::vector<float> gather_rows(const MoeBatch& batch, const ExpertRows& which);

class ExpertBackend {
 public:
  virtual ~ExpertBackend() = default;
  /// y [rows, hidden] = sum over chosen experts of weight * expert(x); overwritten. Called from several threads at once
  /// on different batches, and must give the same bits whatever the number of threads and however rows are batched.
  virtual void run(const MoeBatch& batch, float* y) const = 0;
  /// Called before the first batch of a layer where windows go through the network layer by layer: what the layer needs
  /// is made now, by `threads`. Nothing depends on it.
  virtual void prepare(int /*layer*/, unsigned /*threads*/) const {}
};

/// Sees every batch before the back end does. Called from several threads at once, for different windows.
class MoeObserver {
 public:
  virtual ~MoeObserver() = default;
  virtual void on_moe(std::size_t window, const MoeBatch& batch) = 0;
  /// The residual stream [rows, hidden] that leaves a layer, its experts' output included.
  virtual void after_layer(std::size_t /*window*/, int /*layer*/, const float* /*stream*/, std::size_t /*rows*/,
                           std::size_t /*hidden*/) {}
};

}  // namespace moesaic::network
