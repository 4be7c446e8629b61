/// Seeded generator of routing traces with the two properties that decide what a cache is worth: some experts are more
/// popular than others (Zipf) and a token tends to take what the token before it took (Markov locality).
///
///   popularity  at each layer, the expert of rank r (1..E) is drawn with probability proportional to r^-zipf; which
///               expert has which rank is an independent random permutation for each layer
///   locality    each of the previous token's experts (same request, same layer) is kept with probability `reuse`;
///               the free places are then drawn one after the other by popularity from the experts not yet taken.
///               With top_k = 1 this leaves the popularity exactly as it is; with more, only nearly.
///   concurrent  so many requests advance together, one token each in turn; a token's predecessor is still its own
///               request's. What changes is the order of the rows: that of a decode batch.
///   levels      of each choice, or of each request, drawn with the stated shares (trace.h says what a level is)
///   weights     softmax of top_k normal variates of deviation weight_spread, largest first, rounded to 6 decimals
///
/// Defaults: zipf 0.5 gives a greatest share of 1.9 times the mean among 8 experts and 4.4 among 64; published counts
/// say 1.04 to 1.29 for Mixtral-8x7B on C4 and 2.5 to 7.8 for OLMoE-1B-7B. reuse 0.2 makes adjacent tokens share about
/// 0.4 of 2 of 8 experts; Mixtral's share 0.34 to 0.40.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "workloads/network.h"
#include "workloads/trace.h"

namespace moesaic::workloads {

struct SynthParameters {
  std::uint64_t requests = 8;
  std::uint64_t prompt_tokens = 64;  ///< of each request, all in step 0
  std::uint64_t decode_tokens = 32;  ///< of each request, one a step from step 1
  double zipf = 0.5;                 ///< 0 would be uniform popularity
  double reuse = 0.2;                ///< 0..1
  double weight_spread = 1.0;        ///< standard deviation of the router's logits, in nats
  std::uint64_t concurrent = 1;      ///< requests that advance together; 1: one request after the other
  double arrival_gap_us = 0;         ///< mean of exponential gaps between requests; 0 leaves arrival_us out
  std::vector<double> levels;        ///< share of each level, adding up to 1; empty leaves the column out
  bool level_of_request = false;     ///< one level for all of a request's choices, else one for each choice
  std::uint64_t seed = 1;
};

/// Throws base::InputError for a parameter out of its range.
void check_parameters(const SynthParameters& p);

/// Gives the rows in order of request, step, position, layer; with `concurrent` requests together, in order of
/// position, request, layer within each group of so many. One row is in memory at a time.
void synthesise(const Network& network, const SynthParameters& p, const std::function<void(const TraceRow&)>& sink);

/// Probability of each rank, most popular first.
std::vector<double> zipf_shares(std::size_t experts, double zipf);

/// Which expert has rank r at this layer: permutation[r].
std::vector<std::uint32_t> rank_to_expert(std::size_t experts, std::uint32_t layer, std::uint64_t seed);

/// All parameters and the network's facts as JSON: what is written beside the trace.
std::string describe_parameters(const Network& network, const SynthParameters& p);

}  // namespace moesaic::workloads
