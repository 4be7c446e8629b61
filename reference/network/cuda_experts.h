/// QuantisedExperts whose integers are computed on a GPU: the same bits, by reference/cuda.
/// The constructor throws base::InputError where there is no GPU, or not memory enough for all experts of the plan.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "reference/cuda/run_case.h"
#include "reference/network/quantised_experts.h"

namespace moesaic::network {

class CudaExperts : public QuantisedExperts {
 public:
  CudaExperts(std::shared_ptr<const ExpertStore> store, const workloads::Plan& plan, unsigned threads,
              const ClassDraw& draw = {});

 protected:
  numerics::ExpertResult compute_expert(int layer, int expert, std::size_t of_class,
                                        const numerics::Activations& x) const override;
  std::vector<std::int16_t> compute_combination(const std::vector<std::int16_t>& down,
                                                const std::vector<std::uint16_t>& r, std::int64_t top_k,
                                                std::int64_t rows, std::int64_t hidden) const override;

 private:
  std::vector<std::vector<std::vector<std::unique_ptr<cuda::DeviceExpert>>>>
      on_device_;  // [layer][expert][class], empty where the plan has none
};

}  // namespace moesaic::network
