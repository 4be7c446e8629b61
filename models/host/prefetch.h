#pragma once
/// What is loaded before its layer's routing is known. Plug-ins by name:
///
///   none        nothing
///   next_layer  while a layer runs, a predictor guesses the next layer's experts of the same tokens. Each expert that
///               will be needed is guessed with probability `recall`; wrong guesses, any other expert of that layer
///               alike, are so many that on average the share `precision` of all guesses is right. No guess across the
///               end of a token: the first layer's experts are never guessed.
///   perfect     the next step's experts, all of them and no other, across the end of a token too: what pre-gating
///               gives (Read-ME, arXiv 2410.19123), where the router runs ahead of the network.
///
/// The guesses follow from the seed and from how many were made before, never from the cache.
#include <cstdint>
#include <string>
#include <vector>

#include "base/registry.h"
#include "base/rng.h"

namespace moesaic::host {

/// An expert that a layer's step needs.
struct Need {
  std::uint32_t expert = 0;
  int planes = 0;                       ///< bits that the request reads; 0: as many as the expert's format
  std::uint32_t requests = 1;           ///< tokens that chose it
  std::uint64_t next_use = UINT64_MAX;  ///< when the next request for it comes; UINT64_MAX: never, or unknown
};

struct PrefetchConfig {
  std::string kind = "none";
  double recall = 1;     ///< next_layer: 0..1
  double precision = 1;  ///< next_layer: above 0, at most 1
  std::uint64_t seed = 1;
};

/// How far a kind of prefetch sees.
struct PrefetchKind {
  bool guesses = false;        ///< recall and precision apply
  bool at_all = false;         ///< else nothing is ever fetched ahead
  bool across_tokens = false;  ///< the step after a token's last layer is known too
};
base::Registry<PrefetchKind> prefetch_kinds();
/// The kind. base::ConfigError (`where`, the key behind `prefix`) for an unknown one, and for a recall or precision out
/// of its range.
PrefetchKind check_prefetch(const PrefetchConfig& config, const std::string& where, const std::string& prefix = "");

class Predictor {
 public:
  /// The refusals of check_prefetch().
  Predictor(const PrefetchConfig& config, std::uint32_t experts, const std::string& where);
  const PrefetchKind& kind() const { return kind_; }
  /// What to fetch, given the truth about the next step; empty when this kind does not see it. Right guesses come
  /// first, in the order of `truth`; wrong ones follow, with planes 0, requests 0 and no known next use. `same_token`:
  /// the next step belongs to the tokens of this one.
  std::vector<Need> guess(const std::vector<Need>& truth, bool same_token);

 private:
  PrefetchConfig config_;
  PrefetchKind kind_;
  std::uint32_t experts_;
  base::Rng rng_;
};

}  // namespace moesaic::host
