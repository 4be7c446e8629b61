/// Fills the sensitivity table: what each expert's output loses in each format, in bits per byte of the whole network.
///
/// For expert e of layer l in format f, over the tokens that the float network routes to it, with the inputs that the
/// float network gives it:
///
///   error(l, e, f) = sum over tokens of r^2 * ||y_f - y_float||^2            r the router weight
///   loss(l, e, f)  = error(l, e, f) * gain(l)
///
/// The same error matters more in one layer than in another. gain(l) is measured once a layer: all its experts in a
/// probing format, every other layer in float; the divergence D of the network's predictions from the float ones
/// (Kullback-Leibler, mean bits per token over all positions) over the sum of the errors that caused it, gain(l) = D /
/// sum over e of error(l, e, probe). To first order losses then add up to the increase of the loss in bits per byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "reference/network/quantised_experts.h"
#include "workloads/sensitivity.h"

namespace moesaic::network {

struct CalibrateOptions {
  std::vector<numerics::Format> formats;
  std::size_t window = 256;
  unsigned threads = 1;
};

/// Mean over positions of the Kullback-Leibler divergence sum p log2(p / q), p = softmax(reference), q =
/// softmax(other).
double mean_divergence(const std::vector<float>& reference, const std::vector<float>& other, std::size_t vocab);

/// How many times `done` is called: once a window and pass.
std::size_t calibrate_steps(const Forward& forward, const std::vector<std::uint32_t>& tokens,
                            const CalibrateOptions& options);

/// Rows by layer, expert, format (in the order given). Throws base::InputError when the tokens hold not one whole
/// window. Memory grows with the model and the formats, not with the tokens; the result does not depend on the number
/// of threads.
std::vector<workloads::SensitivityRow> calibrate(const Forward& forward, const std::shared_ptr<const ExpertStore>& store,
                                                const std::vector<std::uint32_t>& tokens,
                                                const CalibrateOptions& options,
                                                const std::function<void()>& done = {});

}  // namespace moesaic::network
