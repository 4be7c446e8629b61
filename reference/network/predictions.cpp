#include "reference/network/predictions.h"

#include <algorithm>
#include <cmath>

namespace moesaic::network {

Predictions::Predictions(const std::vector<float>& logits, std::size_t vocab) : vocab_(vocab), p_(logits.size()) {
  for (std::size_t row = 0; row < logits.size() / vocab; ++row) {
    const float* z = logits.data() + row * vocab;
    const double shift = log_total(z);
    for (std::size_t v = 0; v < vocab; ++v) {
      const double log_p = static_cast<double>(z[v]) - shift;
      p_[row * vocab + v] = std::exp(log_p);
      entropy_ -= p_[row * vocab + v] * log_p;
    }
  }
}

double Predictions::divergence(const std::vector<float>& other) const {
  double cross = 0;
  const std::size_t rows = p_.size() / vocab_;
  for (std::size_t row = 0; row < rows; ++row) {
    const float* z = other.data() + row * vocab_;
    const double* p = p_.data() + row * vocab_;
    double mean = 0, mass = 0;
    for (std::size_t v = 0; v < vocab_; ++v) {
      mean += p[v] * static_cast<double>(z[v]);
      mass += p[v];
    }
    cross += mass * log_total(z) - mean;
  }
  return std::max(0.0, cross - entropy_) / std::log(2.0) / static_cast<double>(rows);
}

double Predictions::log_total(const float* z) const {
  const double largest = static_cast<double>(*std::max_element(z, z + vocab_));
  double total = 0;
  for (std::size_t v = 0; v < vocab_; ++v) total += std::exp(static_cast<double>(z[v]) - largest);
  return largest + std::log(total);
}

}  // namespace moesaic::network
