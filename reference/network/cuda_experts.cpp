#include "reference/network/cuda_experts.h"

#include <variant>

namespace moesaic::network {

CudaExperts::CudaExperts(std::shared_ptr<const ExpertStore> store, const workloads::Plan& plan, unsigned threads,
                         const ClassDraw& draw)
    : QuantisedExperts(store, plan, threads, draw) {
  on_device_.resize(static_cast<std::size_t>(store->network().layers));
  for (auto& layer : on_device_) layer.resize(static_cast<std::size_t>(store->network().experts));
  for (const workloads::PlanEntry& entry : plan.experts)
    for (std::size_t c = 0; c < classes(); ++c)
      on_device_[static_cast<std::size_t>(entry.layer)][static_cast<std::size_t>(entry.expert)].push_back(
          std::make_unique<cuda::DeviceExpert>(*weights(entry.layer, entry.expert, c)));
}

numerics::ExpertResult CudaExperts::compute_expert(int layer, int expert, std::size_t of_class,
                                                   const numerics::Activations& x) const {
  return on_device_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(expert)][of_class]->run(x);
}

std::vector<std::int16_t> CudaExperts::compute_combination(const std::vector<std::int16_t>& down,
                                                           const std::vector<std::uint16_t>& r, std::int64_t top_k,
                                                           std::int64_t rows, std::int64_t hidden) const {
  return std::get<numerics::CombineResult>(cuda::run_case(numerics::CombineCase{top_k, rows, hidden, down, r})).y;
}

}  // namespace moesaic::network
