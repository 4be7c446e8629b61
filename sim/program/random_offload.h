#pragma once
/// Small random runs of layers whose experts lie in a storage, for tests and `moesaic verify`.
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "reference/numerics/expert.h"
#include "sim/program/cache_config.h"
#include "sim/program/core_params.h"
#include "sim/program/layer_program.h"

namespace moesaic::program {

struct OffloadCase {
  std::map<std::pair<int, int>, numerics::ExpertWeights> weights;
  /// What rows of each level read of an expert; without an entry all of it that its format says.
  std::map<std::pair<int, int>, std::vector<numerics::ExpertFormats>> reads;
  std::vector<LayerRows> layers;
  int experts = 0;
  numerics::LayoutKind layout = numerics::LayoutKind::kTileMajor;
  CacheConfig cache;
  std::vector<EarlierRows> earlier;
  std::string text;  ///< "plane_major planes hebf next_layer popular, 300 of 4 x 200 bytes, batch 3"

  const numerics::ExpertWeights& weights_of(int layer, int expert) const { return weights.at({layer, expert}); }
  ExpertShape shape_of(int layer, int expert) const;
  /// Lowered for the core. `offloaded` false: the same work with every expert in the memory.
  RunProgram lower(const CoreParams& core, bool offloaded = true) const;
  /// What phase `phase` of a run of `program` left in memory, held to reference/numerics: empty, or the difference.
  std::string difference(const RunProgram& program, const MemoryImage& memory) const;
};

/// Experts of random formats, now and then of several, and sizes around the array's, one or two layers, a few steps of
/// a few tokens; in half of the cases rows of three levels, which read an expert at several widths; every policy, load
/// order and prefetch, capacities from the largest expert to all experts. `layout`, when given, is not drawn.
OffloadCase random_offload(base::Rng& rng, const CoreParams& core,
                           const std::optional<numerics::LayoutKind>& layout = std::nullopt);

}  // namespace moesaic::program
