/// A Hugging Face model folder: config.json and its safetensors, single or sharded (model.safetensors.index.json),
/// stored as bf16, f16 or f32 and read as float. Tensors are read one at a time, on request.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "workloads/network.h"

namespace moesaic::workloads {

struct FloatTensor {
  std::vector<std::int64_t> shape;
  std::vector<float> data;  ///< row-major
};

/// Whether a model folder holds weights beside its config.json.
bool holds_weights(const std::string& folder);

class Checkpoint {
 public:
  /// Opens a model folder and checks the headers of all its shards. Throws base::InputError, also for tensors of layers
  /// that config.json does not count.
  explicit Checkpoint(const std::string& folder);
  ~Checkpoint();
  /// A copy shares the open files.
  Checkpoint(const Checkpoint&);
  Checkpoint& operator=(const Checkpoint&);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;

  const std::string& folder() const;
  const Network& network() const;

  bool has(const std::string& tensor) const;
  std::vector<std::string> tensor_names() const;  ///< sorted
  /// What read() throws where config.json says that the weights are quantised already.
  const std::optional<base::ConfigError>& quantised() const;
  /// The refusals of read(), from the headers alone.
  void check(const std::string& tensor, const std::vector<std::int64_t>& shape) const;
  /// Throws base::InputError when config.json says that the checkpoint is quantised, or when it is missing, of another
  /// type than bf16, f16 or f32, of another shape, or not finite.
  FloatTensor read(const std::string& tensor, const std::vector<std::int64_t>& shape) const;

  /// tensor[outer] of a tensor of this shape: shape without its first extent.
  FloatTensor read_outer(const std::string& tensor, const std::vector<std::int64_t>& shape, std::int64_t outer) const;

  /// SHA-256 over config.json and every shard: what a plan is bound to. Computed on first use.
  const std::string& hash() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace moesaic::workloads
