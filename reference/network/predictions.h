/// Softmax distributions of a window, against which others are held.
#pragma once

#include <cstddef>
#include <vector>

namespace moesaic::network {

class Predictions {
 public:
  /// logits [rows, vocab].
  Predictions(const std::vector<float>& logits, std::size_t vocab);

  /// Sum over positions of p log(p / q), in bits, over the number of positions; q the softmax of `other` [rows, vocab].
  double divergence(const std::vector<float>& other) const;

 private:
  /// log of the sum of e^z.
  double log_total(const float* z) const;
  std::size_t vocab_;
  std::vector<double> p_;
  double entropy_ = 0;
};

}  // namespace moesaic::network
