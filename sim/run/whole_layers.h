#pragma once
/// The products of a layer beside its experts, as phases: attention's projections, its scores and values over a cache,
/// and the language-model head. Shapes are the network's; matrices and rows are drawn from the seed, in integers, each
/// product's on its own: cycles and bytes do not depend on values, and every product is still held to the reference.
///
///   heads with keys and values (grouped or not):
///     projections  q [heads * d, hidden], k and v [kv_heads * d, hidden]; k and v to the cache, int8
///     scores       each kv head: the queries of its heads against its keys [context, d]
///     values       each kv head: probabilities against its values [d, context]; o [hidden, heads * d]
///   latent attention (DeepSeek-V2), with kv_b absorbed into queries and outputs, so that the cache holds latent rows:
///     projections  q_a [q_rank, hidden], kv_a [kv_rank + rope, hidden], the latter to the cache, int8
///     scores       q_b [heads * (nope + rope), q_rank]; each head's kv_b half [kv_rank, nope]; all heads against the
///                  latent rows [context, kv_rank + rope]
///     values       all heads against the latent rows [kv_rank, context]; each head's other half [d, kv_rank]; o
///
/// Keys and values are int8: a key has one scale, a value one for every 64 tokens and column. They are read in pages of
/// 64 tokens, as weights in the array's stored layout; a new token's row is written as it leaves the array, and what
/// puts it into the stored layout is not simulated. A step's tokens of one request all meet the context that the last
/// of them has: what a mask would cut off is computed.
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "reference/numerics/format.h"
#include "reference/numerics/mpgemm.h"
#include "sim/program/layer_program.h"
#include "workloads/workload_file.h"

namespace moesaic::run {

inline constexpr std::int64_t kCachePage = 64;  ///< tokens

/// What one request has of a step.
struct StepPart {
  std::uint64_t request = 0;
  std::int64_t tokens = 0;
  std::int64_t context = 0;   ///< positions up to its last token here
  std::int64_t capacity = 0;  ///< positions up to its last token in the whole run: the cache's size
};

/// Matrices drawn on first use, and kept. Thread-safe.
class DrawnMatrices {
 public:
  DrawnMatrices(std::uint64_t seed, int act_bits) : rng_(seed), act_bits_(act_bits) {}
  const numerics::WeightMatrix& get(const program::MatrixStack& stack, std::int64_t index);

 private:
  base::Rng rng_;
  int act_bits_;
  std::mutex mutex_;
  std::map<std::pair<std::string, std::int64_t>, numerics::WeightMatrix> kept_;
};

class WholeLayers {
 public:
  /// InputError when the heads do not divide into the network's key-value heads. `draws`: rows get values.
  WholeLayers(const workloads::WorkloadFile& workload, std::int64_t group_size, int act_bits, std::uint64_t seed,
              bool draws);

  /// Projections, scores, values of one layer in one step; `step` is its name.
  std::vector<program::LayerRows> attention(const std::string& step, int layer,
                                            const std::vector<StepPart>& parts) const;
  /// The head for the last token of each request; its layer is the one after the last.
  program::LayerRows head(const std::string& step, const std::vector<StepPart>& parts) const;

 private:
  program::LayerRows phase(const std::string& step, int layer, program::Part part) const;
  /// `rows` for each of the stack's matrices; `n` and `k` 0: all of them.
  void add(program::LayerRows& phase, const std::string& name, const program::MatrixStack& stack, std::int64_t rows,
           program::Kind in, program::Kind out, std::int64_t n = 0, std::int64_t k = 0,
           const std::string& of = "") const;
  program::MatrixStack weights(int layer, const std::string& name, std::int64_t n, std::int64_t k, int out_bits,
                               std::int64_t count = 1) const;
  program::MatrixStack cache(int layer, const StepPart& part, bool keys, std::int64_t count, std::int64_t width) const;
  void add_grouped(std::vector<program::LayerRows>& phases, int layer, const std::vector<StepPart>& parts,
                   std::int64_t tokens) const;
  void add_latent(std::vector<program::LayerRows>& phases, int layer, const std::vector<StepPart>& parts,
                  std::int64_t tokens) const;
  std::int64_t context(const StepPart& part) const;

  workloads::Network network_;
  numerics::Format attention_, head_;
  std::int64_t group_size_;
  int act_bits_;
  base::Rng rng_;
  bool draws_;
};

}  // namespace moesaic::run
