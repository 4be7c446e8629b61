// The forward pass against what transformers computed on the same checkpoint, and the traces recorded from it.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/safetensors.h"
#include "reference/network/forward.h"
#include "workloads/trace.h"

using namespace moesaic;

namespace {

constexpr std::size_t kWindows = 2, kLength = 256, kLayers = 4, kExperts = 8, kTopK = 2, kVocab = 256;
/// Largest difference of a logit from the recorded one.
constexpr double kLogitTolerance = 1e-2;
/// The chosen experts may differ from the recorded ones only where the recorded router logits of the second and the
/// third best expert are at most this far apart. Two float computations of one router differ by less than a tenth of
/// it.
constexpr double kNearTie = 1e-4;

struct Recorder : network::MoeObserver {
  std::map<std::pair<std::size_t, int>, std::vector<std::uint32_t>> chosen;
  std::map<std::pair<std::size_t, int>, std::vector<float>> logits;
  void on_moe(std::size_t window, const network::MoeBatch& b) override {
    chosen[{window, b.layer}].assign(b.chosen, b.chosen + b.rows * b.top_k);
    logits[{window, b.layer}].assign(b.router_logits, b.router_logits + b.rows * b.experts);
  }
};

}  // namespace

TEST_CASE("logits and routing are those recorded from transformers", "[golden][network]") {
  const base::SafetensorsFile recorded("data/reference/logits.safetensors");
  const auto tokens = recorded.read<std::uint8_t>("tokens", {kWindows, kLength});
  const auto logits = recorded.read<float>("logits", {kWindows, kLength, kVocab});
  const auto router = recorded.read<float>("router_logits", {kWindows, kLayers, kLength, kExperts});
  const auto experts = recorded.read<std::uint8_t>("experts", {kWindows, kLayers, kLength, kTopK});
  const network::Forward forward(workloads::Checkpoint("data/model"));

  double worst = 0;
  double worst_router = 0;
  std::size_t different = 0, allowed = 0;
  for (std::size_t w = 0; w < kWindows; ++w) {
    Recorder seen;
    const std::vector<std::uint32_t> window(tokens.begin() + static_cast<std::ptrdiff_t>(w * kLength),
                                            tokens.begin() + static_cast<std::ptrdiff_t>((w + 1) * kLength));
    const std::vector<float> ours = forward.run(window.data(), kLength, forward.float_experts(), w, &seen);
    for (std::size_t i = 0; i < ours.size(); ++i)
      worst =
          std::max(worst, std::abs(static_cast<double>(ours[i]) - static_cast<double>(logits[w * ours.size() + i])));
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      const auto& chosen = seen.chosen.at({w, static_cast<int>(layer)});
      const auto& router_logits = seen.logits.at({w, static_cast<int>(layer)});
      for (std::size_t t = 0; t < kLength; ++t) {
        const std::size_t row = (w * kLayers + layer) * kLength + t;
        std::vector<double> sorted;
        for (std::size_t e = 0; e < kExperts; ++e) {
          sorted.push_back(static_cast<double>(router[row * kExperts + e]));
          worst_router =
              std::max(worst_router, std::abs(sorted.back() - static_cast<double>(router_logits[t * kExperts + e])));
        }
        std::sort(sorted.rbegin(), sorted.rend());
        const std::set<std::uint32_t> mine = {chosen[t * kTopK], chosen[t * kTopK + 1]};
        const std::set<std::uint32_t> theirs = {experts[row * kTopK], experts[row * kTopK + 1]};
        if (mine == theirs) continue;
        if (sorted[1] - sorted[2] <= kNearTie)
          ++allowed;
        else
          ++different;
      }
    }
  }
  INFO("largest difference of a logit " << worst << ", of a router logit " << worst_router << ", near-ties "
                                        << allowed);
  CHECK(worst < kLogitTolerance);
  CHECK(worst_router < kNearTie);
  CHECK(different == 0);
}

TEST_CASE("the recorded traces are traces of the shipped model, from real router weights", "[golden][network]") {
  const workloads::Checkpoint checkpoint("data/model");
  for (const char* text : {"grimm_tales", "moby_dick", "shakespeare", "wikitext2_valid"}) {
    INFO(text);
    workloads::TraceReader reader(std::string("data/traces/") + text + ".csv.gz", &checkpoint.network());
    workloads::TraceRow row;
    std::size_t rows = 0, off = 0;
    while (reader.next(row)) {
      ++rows;
      off += row.weights[0] < row.weights[1] || std::abs(row.weights[0] + row.weights[1] - 1) > 1e-5 ? 1U : 0U;
    }
    CHECK(rows > 0);
    CHECK(off == 0);
  }
}
