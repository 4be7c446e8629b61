#include "mapping/nested_storage.h"

#include <stdexcept>

namespace moesaic::mapping {

NestedStorage nested_storage(int least, int most, std::int64_t group) {
  if (least < 1 || most < least || group < 1) throw std::logic_error("nested storage of no widths or no group");
  const double scale = 16.0 / static_cast<double>(group), zero = 8.0 / static_cast<double>(group);
  NestedStorage s;
  s.nested = most + (most - least + 1) * scale;
  s.nested_zero = s.nested + zero;
  for (int bits = least; bits <= most; ++bits) {
    s.separate += bits + scale;
    s.separate_zero += bits + scale + zero;
  }
  return s;
}

WholeModel whole_model_storage(const workloads::Network& n, const NestedStorage& storage, int least, int most,
                               int other_bits) {
  const auto matrices = static_cast<double>(n.gated ? 3 : 2);
  const auto hidden = static_cast<double>(n.hidden);
  const auto routed = static_cast<double>(n.routed_params());
  const double attention = static_cast<double>(n.layers) * hidden * static_cast<double>(n.head_dim) *
                           static_cast<double>(2 * n.heads + 2 * n.kv_heads);
  const double shared =
      static_cast<double>(n.moe_layers()) * matrices * hidden * static_cast<double>(n.shared_intermediate);
  const double dense =
      static_cast<double>(n.layers - n.moe_layers()) * matrices * hidden * static_cast<double>(n.dense_intermediate);
  const double other = attention + shared + dense;
  WholeModel model;
  model.expert_share = routed / (routed + other);
  model.ratio = (routed * storage.nested + other * other_bits) /
                (routed * storage.separate + (most - least + 1) * other * other_bits);
  return model;
}

}  // namespace moesaic::mapping
