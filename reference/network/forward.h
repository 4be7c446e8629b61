/// Float forward pass of the Mixtral architecture: embedding, RMSNorm, grouped-query attention with rotary embedding,
/// softmax top-k router renormalised over the chosen experts, SwiGLU experts behind an ExpertBackend, lm_head.
/// Every sum has a fixed order and nothing is contracted, so the result is the same on any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "reference/network/expert_backend.h"
#include "reference/network/float_experts.h"
#include "workloads/checkpoint.h"
#include "workloads/network.h"

namespace moesaic::network {

/// The network without its experts, packed for the matrix product, and the float experts as a back end.
class Forward {
 public:
  /// Why config.json rules out the forward pass: another architecture, quantised weights, scaled rotary embedding,
  /// another activation. Nothing where the constructor reads the weights.
  static std::optional<base::ConfigError> refusal(const workloads::Checkpoint& checkpoint);
  /// Throws base::InputError where the checkpoint is not a Mixtral this code can run: missing or misshapen tensors,
  /// scaled rotary embedding, another activation. At most `resident_layers` layers are in memory at once, 0 meaning
  /// all; fewer are read from the checkpoint again whenever they are needed, with the same results.
  explicit Forward(const workloads::Checkpoint& checkpoint, std::size_t resident_layers = 0);
  ~Forward();
  Forward(Forward&&) noexcept;
  Forward& operator=(Forward&&) noexcept;

  const workloads::Network& network() const;
  /// False where layers are read again and again: run all windows through a layer before the next (run_windows()).
  bool is_resident() const;
  std::size_t resident_layers() const;

  /// Float experts of the checkpoint.
  const FloatExperts& float_experts() const;

  /// One window of `length` tokens through the network; causal, positions from 0. logits [length, vocab] row-major.
  /// `window` is only handed to the observer. Thread-safe.
  std::vector<float> run(const std::uint32_t* tokens, std::size_t length, const ExpertBackend& experts,
                         std::size_t window = 0, MoeObserver* observer = nullptr) const;

  /// The three parts of run(). The residual stream [length, hidden] of a window's tokens ...
  std::vector<float> embed(const std::uint32_t* tokens, std::size_t length, std::size_t window = 0) const;
  /// ... goes through one layer after the other ...
  void step(std::size_t layer, std::vector<float>& stream, std::size_t length, const ExpertBackend& experts,
            std::size_t window = 0, MoeObserver* observer = nullptr) const;
  /// ... and becomes logits [length, vocab].
  std::vector<float> logits(const std::vector<float>& stream, std::size_t length) const;

  /// The rest of a run: layers from `first_layer` on, given the residual stream [length, hidden] that enters it (what
  /// MoeObserver::after_layer() saw of the layer before). From an unchanged stream it gives the bits of run().
  std::vector<float> resume(std::size_t first_layer, std::vector<float> stream, std::size_t length,
                            const ExpertBackend& experts, std::size_t window = 0,
                            MoeObserver* observer = nullptr) const;

  /// Gradients of the float network's loss over a window, the sum of -ln p of its tokens 1..length-1, with respect to
  /// the residual stream that leaves each layer; [layer][length * hidden]. The routers' choices are taken as fixed,
  /// their weights are not.
  std::vector<std::vector<float>> output_gradients(const std::uint32_t* tokens, std::size_t length,
                                                   std::size_t window = 0) const;

 private:
  std::vector<float> step_back(std::size_t layer, const std::vector<float>& stream, std::vector<float> d,
                               std::size_t length) const;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Runs windows of `length` tokens, windows[w] the first token of each, through every back end. on_logits gets the
/// window and each back end's logits, in any order of windows and from several threads at once; it may be empty.
/// `observer` sees the first back end's run. `done` as in for_each_window(), once a window. Where all layers are
/// resident each window runs from end to end; else all of them go through a layer before the next, so that every layer
/// is read once, and their residual streams are in memory together. The bits are the same.
void run_windows(
    const Forward& forward, const std::vector<const std::uint32_t*>& windows, std::size_t length,
    const std::vector<const ExpertBackend*>& experts, unsigned threads, MoeObserver* observer,
    const std::function<void(std::size_t window, const std::vector<std::vector<float>>& logits)>& on_logits,
    const std::function<void(std::size_t)>& done = {});

/// Calls body(i) for i in [0, count) on up to `threads` threads; the first exception (lowest i) is rethrown.
/// done(i_finished) is called under a lock as tasks finish; may be empty.
void for_each_window(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& body,
                     const std::function<void(std::size_t)>& done = {});

}  // namespace moesaic::network
