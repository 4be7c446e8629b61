/// The experts in integers: float rows become activations with a shift per token, every expert runs through
/// reference/numerics in its plan's format, the router's weights become 16-bit numbers, the experts' int16 outputs are
/// combined exactly, and only the sum becomes real again. What a chip computes, bit for bit.
///
/// A quantised network follows from the checkpoint, the plan, and the calibration tokens that the plan names, if any.
/// The powers of two of a layer (quantise::LayerScales) come from the greatest magnitudes in a float pass over seeded
/// random tokens, with room above them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "reference/network/curvature.h"
#include "reference/network/expert_backend.h"
#include "reference/network/forward.h"
#include "reference/network/layer_cache.h"
#include "reference/quantise/expert.h"
#include "workloads/plan.h"

namespace moesaic::network {

/// Bits of every activation that the quantised network feeds to a product.
inline constexpr int kNetworkActBits = 8;

/// Powers of two of every layer, from 8 windows of at most 256 random tokens.
std::vector<quantise::LayerScales> probe_scales(const Forward& forward, const workloads::Checkpoint& checkpoint,
                                                int act_bits, unsigned threads);

/// The experts of one checkpoint in any format, quantised on first use and kept, of as many layers as the forward pass
/// keeps resident. Thread-safe.
class ExpertStore {
 public:
  /// Keeps references to the forward pass and the checkpoint. `threads` for float passes: over the probe's tokens here,
  /// over the quantiser's calibration tokens when an expert is first asked for.
  ExpertStore(const Forward& forward, const workloads::Checkpoint& checkpoint, std::int64_t group_size,
              unsigned threads, int act_bits = kNetworkActBits, const workloads::Quantiser& quantiser = {});

  std::shared_ptr<const numerics::ExpertWeights> get(int layer, int expert,
                                                     const numerics::ExpertFormats& formats) const;
  const quantise::LayerScales& scales(int layer) const { return scales_[static_cast<std::size_t>(layer)]; }
  int act_bits() const { return act_bits_; }
  std::int64_t group_size() const { return group_size_; }
  const workloads::Quantiser& quantiser() const { return quantiser_; }
  const workloads::Network& network() const { return checkpoint_->network(); }
  /// Every layer's experts stay in memory.
  bool is_resident() const { return capacity_ == static_cast<std::size_t>(network().layers); }

 private:
  using Kept = std::map<std::pair<int, numerics::ExpertFormats>, std::shared_ptr<const numerics::ExpertWeights>>;
  Kept& kept_of(int layer) const;
  const workloads::Checkpoint* checkpoint_;
  std::int64_t group_size_;
  int act_bits_;
  workloads::Quantiser quantiser_;
  std::size_t capacity_;
  std::vector<quantise::LayerScales> scales_;
  std::unique_ptr<CurvatureSource> source_;
  std::unique_ptr<LayerCache<LayerCurvature>> curvature_;  // null for round-to-nearest
  mutable std::mutex mutex_;
  mutable std::list<std::pair<int, Kept>> kept_;  // [layer], by (expert, formats); the one asked for last first
};

/// Of which class of requests a row is, under a plan with classes (workloads::Plan::class_shares): drawn with the
/// plan's shares. What is drawn depends on the seed and on where the row stands, on nothing else.
struct ClassDraw {
  bool of_choice =
      false;  ///< each choice of an expert draws its own, as D2MoE's dual router; else a window is a request
  std::uint64_t seed = 1;
  /// The class of one choice of one row.
  std::size_t at(const std::vector<double>& shares, std::size_t window, int layer, std::size_t row,
                 std::size_t slot) const;
};

/// Rows of a batch as one expert receives them.
numerics::Activations gather_rows(const numerics::Activations& all, const ExpertRows& which);

class QuantisedExperts : public ExpertBackend {
 public:
  /// For a plan that check_plan() has accepted and whose group size and quantiser are the store's. Where the store
  /// keeps every layer, all experts of the plan are quantised now, else a layer's when it is run. `threads` share the
  /// work; the result does not depend on them. Under a plan with classes each row reads what its class reads.
  QuantisedExperts(std::shared_ptr<const ExpertStore> store, const workloads::Plan& plan, unsigned threads,
                   const ClassDraw& draw = {});

  void run(const MoeBatch& batch, float* y) const override;

  /// The whole block in integers, as a chip is to reproduce it.
  struct IntegerBlock {
    numerics::Activations x;         ///< [rows, hidden]
    std::vector<std::uint16_t> r;    ///< [rows, top_k]
    std::vector<std::int16_t> down;  ///< [top_k, rows, hidden], each choice's expert output
    std::vector<std::int16_t> y;     ///< [rows, hidden], combined; real value y * 2^-output_exp
  };
  IntegerBlock run_integers(const MoeBatch& batch) const;

  void prepare(int layer, unsigned threads) const override;

  /// What rows of a class read of an expert; without classes there is one, 0.
  std::shared_ptr<const numerics::ExpertWeights> weights(int layer, int expert, std::size_t of_class = 0) const;
  std::size_t classes() const { return shares_.empty() ? 1 : shares_.size(); }
  const quantise::LayerScales& scales(int layer) const { return store_->scales(layer); }

 protected:
  /// Who computes the integers: reference/numerics here, other implementations (cuda_experts.h) in derived classes.
  virtual numerics::ExpertResult compute_expert(int layer, int expert, std::size_t of_class,
                                                const numerics::Activations& x) const;
  virtual std::vector<std::int16_t> compute_combination(const std::vector<std::int16_t>& down,
                                                        const std::vector<std::uint16_t>& r, std::int64_t top_k,
                                                        std::int64_t rows, std::int64_t hidden) const;

 private:
  using OfClasses = std::vector<std::shared_ptr<const numerics::ExpertWeights>>;
  std::vector<ExpertRows> by_class(const MoeBatch& batch, const ExpertRows& rows) const;

  std::shared_ptr<const ExpertStore> store_;
  std::vector<double> shares_;  // of the plan's classes; none: one class
  ClassDraw draw_;
  std::vector<std::vector<std::vector<numerics::ExpertFormats>>> formats_;  // [layer][expert][class]
  std::vector<std::vector<OfClasses>> experts_;                             // the same; empty where the store keeps few
};

}  // namespace moesaic::network
