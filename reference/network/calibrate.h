/// Fills the sensitivity table: what storing one expert in one format costs the whole network, in bits per byte.
///
/// First the routing-weighted error of every expert's output, over the tokens that the float network routes to it and
/// with the inputs that it gives them:
///
///   error(l, e, f) = sum over tokens of r^2 * ||y_f - y_float||^2            r the router weight
///
/// The same error matters more in one place than in another, so what it does to the predictions is measured too: the
/// divergence D from the float network's (Kullback-Leibler, mean bits per token over all positions of `loss_windows`
/// windows) when that expert alone is quantised. On text sampled from the network, D is the expected increase of its
/// loss.
///
///   LossKind::kDivergence  loss = D(l, e, f) for formats of at most 4 planes;
///                          above, where activations' own rounding hides it, error(l, e, f) * D(l, e, int4) / error(l,
///                          e, int4)
///   LossKind::kError       loss = error(l, e, f) * gain(l), gain(l) = D / error with the whole layer in int4: one pass
///   a layer
///                          instead of one an expert and format
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "reference/network/quantised_experts.h"
#include "workloads/sensitivity.h"

namespace moesaic::network {

enum class LossKind : std::uint8_t { kDivergence, kError };

struct CalibrateOptions {
  std::vector<numerics::Format> formats;
  std::size_t window = 256;
  LossKind loss = LossKind::kDivergence;
  std::size_t loss_windows = 32;  ///< evenly spaced among all; all when there are fewer
  unsigned threads = 1;
};

/// Mean over positions of sum p log2(p / q), p = softmax(reference), q = softmax(other); logits [rows, vocab] each.
double mean_divergence(const std::vector<float>& reference, const std::vector<float>& other, std::size_t vocab);

/// How many times calibrate() calls `done`: once a window of either pass.
std::size_t calibrate_steps(const std::vector<std::uint32_t>& tokens, const CalibrateOptions& options);

/// Rows by layer, expert, format (in the order given). Throws base::InputError when the tokens hold not one whole
/// window. Memory grows with the model and the formats, not with the tokens; the result does not depend on the number
/// of threads.
std::vector<workloads::SensitivityRow> calibrate(const Forward& forward,
                                                 const std::shared_ptr<const ExpertStore>& store,
                                                 const std::vector<std::uint32_t>& tokens,
                                                 const CalibrateOptions& options,
                                                 const std::function<void()>& done = {});

}  // namespace moesaic::network
