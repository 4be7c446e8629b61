/// The checkpoint's experts in float: the back end that quantised ones are measured against.
#pragma once

#include <cstddef>
#include <vector>

#include "reference/network/expert_backend.h"
#include "reference/network/gemm.h"
#include "reference/network/layer_cache.h"
#include "workloads/checkpoint.h"
#include "workloads/sensitivity.h"

namespace moesaic::network {

/// One dense float matrix [out, in] of an expert each, row-major, as stored in the checkpoint.
struct ExpertMatrices {
  std::vector<float> gate;  ///< [intermediate, hidden]
  std::vector<float> up;    ///< [intermediate, hidden]
  std::vector<float> down;  ///< [hidden, intermediate]
};

/// Reads one expert's weights in either spelling of Transformers; what a quantiser starts from.
ExpertMatrices read_expert(const workloads::Checkpoint& checkpoint, int layer, int expert);

/// Refuses (base::InputError) a layer whose experts read_expert() would refuse, from the headers alone.
void check_experts(const workloads::Checkpoint& checkpoint, int layer);

/// What an expert computes on its way.
struct ExpertInner {
  std::vector<float> gate;    ///< [rows, intermediate], silu of the gate projection
  std::vector<float> up;      ///< [rows, intermediate]
  std::vector<float> hidden;  ///< [rows, intermediate], gate * up
};

/// y = down(silu(gate(x)) * up(x)), weighted and added in the order of the experts' indices.
class FloatExperts : public ExpertBackend {
 public:
  /// Keeps the weights of at most `resident_layers` layers in memory. Where that is all of them they are read now, else
  /// when a layer is first run.
  FloatExperts(const workloads::Checkpoint& checkpoint, std::size_t resident_layers);
  void run(const MoeBatch& batch, float* y) const override;

  /// One expert over dense rows x [rows, hidden] -> y [rows, hidden], unweighted. `inner` may be null.
  void run_expert(int layer, int expert, const float* x, std::size_t rows, float* y,
                  ExpertInner* inner = nullptr) const;

  /// The same with `instead` in the place of the matrix that `which` names (gate, up or down). `inner` is what
  /// run_expert() said of these rows: only what depends on `instead` is computed.
  void run_replaced(int layer, int expert, const float* x, std::size_t rows, const ExpertInner& inner,
                    workloads::Projection which, const PackedMatrix& instead, float* y) const;

  /// The way back of run_expert(): given dy [rows, hidden], the gradient of something with respect to y, writes that
  /// with respect to x, and y itself.
  void run_expert_back(int layer, int expert, const float* x, std::size_t rows, const float* dy, float* y,
                       float* dx) const;

 private:
  struct Expert {
    PackedMatrix gate, up, down;
  };
  std::size_t hidden_;
  std::size_t intermediate_;
  LayerCache<std::vector<Expert>> layers_;
};

}  // namespace moesaic::network
