/// Float forward pass of the Mixtral architecture: embedding, RMSNorm, grouped-query attention with rotary embedding,
/// softmax top-k router renormalised over the chosen experts, SwiGLU experts behind an ExpertBackend, lm_head.
/// Every sum has a fixed order and nothing is contracted, so the result is the same on any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "reference/network/expert_backend.h"
#include "reference/network/float_experts.h"
#include "workloads/checkpoint.h"
#include "workloads/network.h"

namespace moesaic::network {

/// The network without its experts, packed for the matrix product, and the float experts as a back end.
class Forward {
 public:
  /// Throws base::InputError where the checkpoint is not a Mixtral this code can run: missing or misshapen tensors,
  /// scaled rotary embedding, another activation.
  explicit Forward(const workloads::Checkpoint& checkpoint);
  ~Forward();
  Forward(Forward&&) noexcept;
  Forward& operator=(Forward&&) noexcept;

  const workloads::Network& network() const;

  /// Float experts of the checkpoint.
  const FloatExperts& float_experts() const;

  /// One window of `length` tokens through the network; causal, positions from 0. logits [length, vocab] row-major.
  /// `window` is only handed to the observer. Thread-safe.
  std::vector<float> run(const std::uint32_t* tokens, std::size_t length, const ExpertBackend& experts,
                         std::size_t window = 0, MoeObserver* observer = nullptr) const;

  /// The rest of a run: layers from `first_layer` on, given the residual stream [length, hidden] that enters it (what
  /// MoeObserver::after_layer() saw of the layer before). From an unchanged stream it gives the bits of run().
  std::vector<float> resume(std::size_t first_layer, std::vector<float> stream, std::size_t length,
                            const ExpertBackend& experts, std::size_t window = 0,
                            MoeObserver* observer = nullptr) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Calls body(i) for i in [0, count) on up to `threads` threads; the first exception (lowest i) is rethrown.
/// done(i_finished) is called under a lock as tasks finish; may be empty.
void for_each_window(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& body,
                     const std::function<void(std::size_t)>& done = {});

}  // namespace moesaic::network
