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
///                          above, where activations' own rounding hides it, error(l, e, f) * D(l, e, int4) /
///                          error(l, e, int4)
///   LossKind::kError       loss = error(l, e, f) * gain(l), gain(l) = D / error with the whole layer in int4: one
///                          pass a layer instead of one an expert and format
///   LossKind::kFisher      loss = sum over tokens of 1/2 r^2 * sum over h of grad_h^2 * (y_f - y_float)_h^2, in bits
///                          per token: the second-order term with the diagonal of the empirical Fisher matrix, grad the
///                          gradient of a window's loss (gradient.h) with respect to the layer's output; over the loss
///                          windows, one pass back a window
///
/// Several kinds may be asked for together. They share the passes over the text and every expert's runs, and each is,
/// bit for bit, what it is alone.
///
/// Per projection the same measurements are made of gate, up and down apart: one of the three is what its integers
/// stand for, the other two and the activations are float.
///
/// minimum_tokens: an expert that fewer tokens reach is measured on borrowed ones too (curvature.h). Its error is then
/// the mean over all of them, times its own number of tokens, or one where it has none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "reference/network/quantised_experts.h"
#include "workloads/sensitivity.h"

namespace moesaic::network {

using workloads::LossKind;

struct CalibrateOptions {
  std::vector<numerics::Format> formats;
  std::size_t window = 256;
  std::vector<LossKind> losses{LossKind::kDivergence};  ///< at least one, each once
  std::size_t loss_windows = 32;                        ///< evenly spaced among all; all when there are fewer
  bool per_projection = false;
  std::size_t minimum_tokens = 0;
  unsigned threads = 1;
};

/// Windows that predictions are compared on, of so many tokens.
std::size_t loss_windows(std::size_t tokens, const CalibrateOptions& options);
/// How many times calibrate() calls `done`: once a window of each pass.
std::size_t calibrate_steps(const std::vector<std::uint32_t>& tokens, const CalibrateOptions& options);

/// Rows by layer, expert, projection, format (in the order given); `loss` of the first kind, `other_losses` of the
/// others. Throws base::InputError when the tokens hold not one
/// whole window, and where the forward pass is not resident for losses that would read its layers again and again
/// (kDivergence, kFisher). Memory grows with the model and the formats, not with the tokens, where all layers are
/// resident; else with the resident layers and the tokens. The result depends neither on that nor on the number of
/// threads.
std::vector<workloads::SensitivityRow> calibrate(const Forward& forward,
                                                 const std::shared_ptr<const ExpertStore>& store,
                                                 const std::vector<std::uint32_t>& tokens,
                                                 const CalibrateOptions& options,
                                                 const std::function<void()>& done = {});

}  // namespace moesaic::network
