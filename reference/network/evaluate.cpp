#include "reference/network/evaluate.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "reference/network/predictions.h"
#include "reference/network/vector_math.h"

namespace moesaic::network {

double window_bits(const std::vector<float>& logits, const std::uint32_t* tokens, std::size_t length,
                   std::size_t vocab) {
  double bits = 0;
  std::vector<float> row(vocab);
  for (std::size_t t = 0; t + 1 < length; ++t) {
    std::copy_n(logits.data() + t * vocab, vocab, row.data());
    const float wanted = row[tokens[t + 1]];
    const float largest = *std::max_element(row.begin(), row.end());
    const double total = static_cast<double>(exponentials(row.data(), vocab));
    bits += std::log2(total) - (static_cast<double>(wanted) - static_cast<double>(largest)) / std::log(2.0);
  }
  return bits / static_cast<double>(length - 1);
}

std::optional<double> standard_error(const std::vector<double>& values) {
  if (values.size() < 2) return std::nullopt;
  const double count = static_cast<double>(values.size());
  double mean = 0;
  for (const double v : values) mean += v;
  mean /= count;
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / (count - 1) / count);
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

std::vector<double> differences(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> d(a.size());
  for (std::size_t i = 0; i < d.size(); ++i) d[i] = a[i] - b[i];
  return d;
}

double mean_divergence(const std::vector<float>& reference, const std::vector<float>& other, std::size_t vocab) {
  return Predictions(reference, vocab).divergence(other);
}

double Evaluation::perplexity() const { return std::exp2(bits_per_byte); }
std::optional<double> Evaluation::perplexity_error() const {
  if (!standard_error) return std::nullopt;
  return perplexity() * std::log(2.0) * *standard_error;
}

Evaluation evaluate(const Forward& forward, const ExpertBackend& experts, const std::vector<std::uint32_t>& tokens,
                    std::size_t window, unsigned threads, const std::function<void(std::size_t)>& done,
                    const ExpertBackend* reference) {
  if (window < 2) throw base::InputError("--window: got " + std::to_string(window) + ", expected at least 2 tokens");
  Evaluation result;
  result.windows = tokens.size() / window;
  if (result.windows == 0)
    throw base::InputError("text: got " + std::to_string(tokens.size()) + " tokens, expected at least one window of " +
                           std::to_string(window));
  result.predicted = result.windows * (window - 1);
  result.window_bits.resize(result.windows);
  std::vector<const ExpertBackend*> backends = {&experts};
  if (reference != nullptr) {
    backends.push_back(reference);
    result.reference_bits.resize(result.windows);
    result.divergence.resize(result.windows);
  }
  std::vector<const std::uint32_t*> windows;
  for (std::size_t w = 0; w < result.windows; ++w) windows.push_back(tokens.data() + w * window);
  const std::size_t vocab = static_cast<std::size_t>(*forward.network().vocab);
  run_windows(
      forward, windows, window, backends, threads, nullptr,
      [&](std::size_t w, const std::vector<std::vector<float>>& logits) {
        result.window_bits[w] = window_bits(logits[0], windows[w], window, vocab);
        if (reference == nullptr) return;
        result.reference_bits[w] = window_bits(logits[1], windows[w], window, vocab);
        const auto predicting = [&](const std::vector<float>& all) {
          return std::vector<float>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>((window - 1) * vocab));
        };
        result.divergence[w] = mean_divergence(predicting(logits[1]), predicting(logits[0]), vocab);
      },
      done);
  for (const std::vector<double>* of : {&result.window_bits, &result.reference_bits, &result.divergence})
    for (std::size_t w = 0; w < of->size(); ++w)
      if (!std::isfinite((*of)[w]))
        throw base::InputError("window " + std::to_string(w) + ": got " + (std::isnan((*of)[w]) ? "nan" : "infinite") +
                               " bits per byte, expected a finite number: the model's activations overflow");
  result.bits_per_byte = mean(result.window_bits);
  result.standard_error = standard_error(result.window_bits);
  return result;
}

}  // namespace moesaic::network
