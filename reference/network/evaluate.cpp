#include "reference/network/evaluate.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
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

double standard_error(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double count = static_cast<double>(values.size());
  double mean = 0;
  for (const double v : values) mean += v;
  mean /= count;
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / (count - 1) / count);
}

Evaluation evaluate(const Forward& forward, const ExpertBackend& experts, const std::vector<std::uint32_t>& tokens,
                    std::size_t window, unsigned threads, const std::function<void(std::size_t)>& done) {
  if (window < 2) throw base::InputError("--window: got " + std::to_string(window) + ", expected at least 2 tokens");
  Evaluation result;
  result.windows = tokens.size() / window;
  if (result.windows == 0)
    throw base::InputError("text: got " + std::to_string(tokens.size()) + " tokens, expected at least one window of " +
                           std::to_string(window));
  result.predicted = result.windows * (window - 1);
  result.window_bits.resize(result.windows);
  const std::size_t vocab = static_cast<std::size_t>(*forward.network().vocab);
  for_each_window(
      result.windows, threads,
      [&](std::size_t w) {
        const std::uint32_t* first = tokens.data() + w * window;
        result.window_bits[w] = window_bits(forward.run(first, window, experts, w), first, window, vocab);
      },
      done);
  for (const double bits : result.window_bits) result.bits_per_byte += bits;
  result.bits_per_byte /= static_cast<double>(result.windows);
  result.standard_error = standard_error(result.window_bits);
  return result;
}

}  // namespace moesaic::network
