/// Loss of a network over a text, in bits per predicted token (bits per byte for a byte-level model).
/// Windows start at 0, W, 2W ...; each predicts its tokens 1..W-1 from those before it; a partial last window is
/// dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "reference/network/forward.h"

namespace moesaic::network {

struct Evaluation {
  double bits_per_byte = 0;  ///< mean over all predicted tokens
  std::size_t windows = 0;
  std::size_t predicted = 0;  ///< windows * (window - 1)
  /// Of bits_per_byte: sample deviation of the windows' means / sqrt(windows); none of one window.
  std::optional<double> standard_error;
  std::vector<double> window_bits;  ///< mean bits per predicted token of each window

  double perplexity() const;  ///< 2^bits_per_byte
  /// Its standard error to first order: perplexity * ln 2 * that of bits_per_byte.
  std::optional<double> perplexity_error() const;

  // Against a reference run on the same windows; empty without one.
  std::vector<double> reference_bits;  ///< as window_bits, of the reference
  std::vector<double> divergence;      ///< of each window: mean over predicted tokens of KL(reference || this), in bits
};

double mean(const std::vector<double>& values);  ///< of at least one
/// a[i] - b[i]: what a paired standard error is taken of.
std::vector<double> differences(const std::vector<double>& a, const std::vector<double>& b);

/// Throws base::InputError when there is not one whole window, a token is not in the vocabulary, or a window's loss is
/// not finite. The result does not
/// depend on the number of threads. `done` is called under a lock once a window. With a `reference` its experts run on
/// the same windows too.
Evaluation evaluate(const Forward& forward, const ExpertBackend& experts, const std::vector<std::uint32_t>& tokens,
                    std::size_t window, unsigned threads, const std::function<void(std::size_t)>& done = {},
                    const ExpertBackend* reference = nullptr);

/// Mean bits per predicted token of one window, from its logits [length, vocab].
double window_bits(const std::vector<float>& logits, const std::uint32_t* tokens, std::size_t length,
                   std::size_t vocab);

/// Mean over positions of sum p log2(p / q), p = softmax(reference), q = softmax(other); logits [rows, vocab] each.
double mean_divergence(const std::vector<float>& reference, const std::vector<float>& other, std::size_t vocab);

/// Standard error of the mean of `values` (sample deviation / sqrt(count)); none for fewer than two.
std::optional<double> standard_error(const std::vector<double>& values);

}  // namespace moesaic::network
