/// What GPTQ needs to know of every expert's inputs (quantise::ExpertCurvature), from the float network's own run over
/// a plan's calibration tokens: each expert sees the rows that the float router sends to it, and down sees the hidden
/// rows that the float gate and up make of them. So one expert's integers depend on no other expert's format.
///
///   H = sum over rows of r * x x^T           r the router weight of that row and expert
///
/// the affinity-guided Hessian of MoEQuant (Chen et al., ICML 2025): rows that count for little in the layer's output
/// count for little here.
///
/// An expert with fewer rows than the plan's minimum_tokens borrows: of the rows that went elsewhere it gets those that
/// the router came nearest to sending to it, with the weight r that it would have had as the last of their top_k; equal
/// ones go to the earlier row. An expert without any row has no curvature, and is rounded to nearest; so is a matrix of
/// a pruned expert whose inputs are all zero.
///
/// Sums have a fixed order: the same bits on any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "reference/network/forward.h"
#include "reference/quantise/gptq.h"
#include "workloads/quantiser.h"

namespace moesaic::network {

/// A row that calibrates an expert.
struct ExpertSample {
  std::size_t window = 0;
  std::size_t row = 0;
  float weight = 0;  ///< r
};

/// The rows of a batch that did not choose `expert`, in order, each with the weight that it would have given it as the
/// last of its top_k.
std::vector<ExpertSample> near_misses(std::size_t window, const MoeBatch& batch, std::size_t expert);
/// The `count` of greatest weight, in that order, equal ones in theirs.
void keep_nearest(std::vector<ExpertSample>& samples, std::size_t count);

/// What one layer's experts saw in every window.
class LayerInputs : public MoeObserver {
 public:
  explicit LayerInputs(std::size_t windows) : seen_(windows) {}
  void on_moe(std::size_t window, const MoeBatch& batch) override;
  /// The rows of `expert` in order, borrowed ones among them; at least minimum_tokens of them where there are as many.
  std::vector<ExpertSample> samples(std::size_t expert, std::size_t minimum_tokens) const;
  /// [samples, hidden] of samples first..first+count-1.
  std::vector<float> gather(const std::vector<ExpertSample>& samples, std::size_t first, std::size_t count) const;

 private:
  struct Seen {
    std::size_t rows = 0, hidden = 0, experts = 0, top_k = 0;
    std::vector<float> x, logits, weights;
    std::vector<std::uint32_t> chosen;
    MoeBatch batch() const;
  };
  std::vector<Seen> seen_;
};

/// One layer's experts; no value where an expert has no row.
using LayerCurvature = std::vector<std::optional<quantise::ExpertCurvature>>;

/// Runs the calibration tokens through the float network, layer by layer, as layers are asked for: in rising order each
/// is run once. All windows' residual streams are kept. Not thread-safe.
class CurvatureSource {
 public:
  /// Keeps a reference to the forward pass. Windows hold the quantiser's window of tokens, or as many as the network's
  /// positions allow. InputError for what read_quantiser_tokens() refuses.
  CurvatureSource(const Forward& forward, const workloads::Quantiser& quantiser, unsigned threads);

  LayerCurvature layer(std::size_t layer);

 private:
  void step(MoeObserver* observer);
  const Forward& forward_;
  workloads::Quantiser quantiser_;
  unsigned threads_;
  std::size_t length_ = 0;
  std::vector<std::uint32_t> tokens_;
  std::size_t next_ = 0;                     // the layer that streams_ enter
  std::vector<std::vector<float>> streams_;  // [window][length * hidden]
};

}  // namespace moesaic::network
