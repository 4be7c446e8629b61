#include "workloads/routing_slice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace moesaic::workloads {

namespace {

/// The tokens of one request by position; in most traces positions ascend.
class Positions {
 public:
  /// Null: not there.
  const std::size_t* find(std::uint64_t position) const {
    const auto found = at(position);
    return found != tokens_.end() && found->first == position ? &found->second : nullptr;
  }
  void add(std::uint64_t position, std::size_t token) {
    if (tokens_.empty() || tokens_.back().first < position)
      tokens_.emplace_back(position, token);
    else
      tokens_.emplace(at(position), position, token);
  }

 private:
  std::vector<std::pair<std::uint64_t, std::size_t>>::const_iterator at(std::uint64_t position) const {
    return std::lower_bound(tokens_.begin(), tokens_.end(), position,
                            [](const auto& one, std::uint64_t p) { return one.first < p; });
  }
  std::vector<std::pair<std::uint64_t, std::size_t>> tokens_;
};

}  // namespace

RoutingSlice::RoutingSlice(const WorkloadFile& workload,
                           const std::function<void(std::size_t token, const SliceToken&)>& each)
    : layers_(workload.layers_with_experts()), top_k_(static_cast<std::size_t>(workload.network.top_k)) {
  record_.resize(top_k_ * (sizeof(std::uint32_t) + sizeof(double) + 1));
  std::map<std::uint64_t, Positions> token_of;  // by request
  std::vector<SliceToken> tokens;
  std::vector<bool> seen;  // [token, layer]
  TraceReader reader(workload.trace, &workload.network);
  TraceRow row;
  while (reader.next(row)) {
    if (!workload.selects(row)) continue;
    const auto layer = std::lower_bound(layers_.begin(), layers_.end(), row.layer);
    if (layer == layers_.end() || *layer != row.layer) continue;
    Positions& positions = token_of[row.request];
    const std::size_t* const found = positions.find(row.position);
    const std::size_t t = found != nullptr ? *found : tokens.size();
    if (found == nullptr) {
      if (workload.max_tokens && tokens.size() >= *workload.max_tokens) continue;
      positions.add(row.position, t);
      tokens.push_back({row.request, row.step, row.phase, row.position});
      seen.resize(tokens.size() * layers_.size());
    }
    const SliceToken& token = tokens[t];
    if (row.arrival_us) {
      const auto arrival = arrival_us_.emplace(row.request, *row.arrival_us).first;
      if (arrival->second != *row.arrival_us)
        throw base::ConfigError(reader.where(), "arrival_us",
                                fmt::format("{} for request {}", *row.arrival_us, row.request),
                                fmt::format("{}, as its first row says", arrival->second));
    }
    if (token.step != row.step || token.phase != row.phase)
      throw base::ConfigError(reader.where(), "step",
                              fmt::format("step {} ({}) for request {} position {}", row.step, phase_name(row.phase),
                                          row.request, row.position),
                              fmt::format("step {} ({}), as its first row says", token.step, phase_name(token.phase)));
    const auto l = static_cast<std::size_t>(layer - layers_.begin());
    if (seen[t * layers_.size() + l])
      throw base::ConfigError(
          reader.where(), "layer",
          fmt::format("request {} position {} layer {} a second time", row.request, row.position, row.layer),
          "one row each");
    seen[t * layers_.size() + l] = true;
    has_levels_ = has_levels_ || !row.levels.empty();
    write_row(t, l, row);
  }
  if (workload.continuous_requests && arrival_us_.empty() && !tokens.empty())
    throw base::ConfigError(workload.trace, "arrival_us", "no such column",
                            "when each request arrives, as the workload has continuous_batching");
  if (tokens.empty())
    throw base::ConfigError(workload.path, "requests, steps, phase",
                            "a selection that no row of " + workload.trace + " matches", "at least one token");
  for (std::size_t l = 0; l < layers_.size(); ++l)
    for (std::size_t t = 0; t < tokens.size(); ++t)
      if (!seen[t * layers_.size() + l])
        throw base::ConfigError(workload.trace, "layer",
                                fmt::format("no row for request {} position {} at layer {}", tokens[t].request,
                                            tokens[t].position, layers_[l]),
                                "every token at every selected layer");
  tokens_ = tokens.size();
  rows_.flush();
  token_list_.write(0, tokens.data(), tokens.size() * sizeof(SliceToken));
  token_list_.flush();
  for (std::size_t t = 0; each && t < tokens.size(); ++t) each(t, tokens[t]);
}

void RoutingSlice::write_row(std::size_t token, std::size_t layer, const TraceRow& row) {
  unsigned char* to = record_.data();
  const auto put = [&to](const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
    to += bytes;
  };
  put(row.experts.data(), top_k_ * sizeof(std::uint32_t));
  put(row.weights.data(), top_k_ * sizeof(double));
  for (std::size_t i = 0; i < top_k_; ++i)  // 0 to 255 by the trace's own rule
    *to++ = row.levels.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(row.levels[i]);
  rows_.write(row_at(token, layer), record_.data(), record_.size());
}

SliceToken RoutingSlice::token(std::size_t index) {
  SliceToken token;
  token_list_.read(std::uint64_t{index} * sizeof token, &token, sizeof token);
  return token;
}

WorkloadSlice::Row RoutingSlice::row(std::size_t token, std::size_t layer) {
  rows_.read(row_at(token, layer), record_.data(), record_.size());
  WorkloadSlice::Row row;
  row.token = token;
  row.experts.resize(top_k_);
  row.weights.resize(top_k_);
  const unsigned char* from = record_.data();
  std::memcpy(row.experts.data(), from, top_k_ * sizeof(std::uint32_t));
  from += top_k_ * sizeof(std::uint32_t);
  std::memcpy(row.weights.data(), from, top_k_ * sizeof(double));
  from += top_k_ * sizeof(double);
  if (has_levels_) row.levels.assign(from, from + top_k_);
  return row;
}

}  // namespace moesaic::workloads
