/// The checkpoint's experts in float: the back end that quantised ones are measured against.
#pragma once

#include <cstddef>
#include <vector>

#include "reference/network/expert_backend.h"
#include "reference/network/gemm.h"
#include "workloads/checkpoint.h"

namespace moesaic::network {

/// One dense float matrix [out, in] of an expert each, row-major, as stored in the checkpoint.
struct ExpertMatrices {
  std::vector<float> gate;  ///< [intermediate, hidden]
  std::vector<float> up;    ///< [intermediate, hidden]
  std::vector<float> down;  ///< [hidden, intermediate]
};

/// Reads one expert's weights in either spelling of Transformers; what a quantiser starts from.
ExpertMatrices read_expert(const workloads::Checkpoint& checkpoint, int layer, int expert);

/// y = down(silu(gate(x)) * up(x)), weighted and added in the order of the experts' indices.
class FloatExperts : public ExpertBackend {
 public:
  explicit FloatExperts(const workloads::Checkpoint& checkpoint);
  void run(const MoeBatch& batch, float* y) const override;

  /// One expert over dense rows x [rows, hidden] -> y [rows, hidden], unweighted.
  void run_expert(int layer, int expert, const float* x, std::size_t rows, float* y) const;

 private:
  struct Expert {
    PackedMatrix gate, up, down;
  };
  std::size_t hidden_;
  std::size_t intermediate_;
  std::vector<std::vector<Expert>> layers_;
};

}  // namespace moesaic::network
