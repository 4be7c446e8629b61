#include "reference/numerics/expert.h"

#include "base/error.h"
#include "reference/numerics/swiglu.h"

namespace moesaic::numerics {

using base::ConfigError;

namespace {

void check_shape(const WeightMatrix& w, std::int64_t n, std::int64_t k, const std::string& where,
                 const std::string& name) {
  if (w.n != n || w.k != k)
    throw ConfigError(where, name, "[" + std::to_string(w.n) + ", " + std::to_string(w.k) + "]",
                      "[" + std::to_string(n) + ", " + std::to_string(k) + "]");
}

std::vector<std::int64_t> product(const WeightMatrix& w, const Activations& x, Path path) {
  return path == Path::kReference ? multiply_reference(w, x) : multiply(w, x);
}

}  // namespace

void validate(const ExpertWeights& w, const Activations& x, const std::string& where) {
  validate(x, where);
  for (const auto& [name, matrix] :
       {std::pair<const char*, const WeightMatrix*>{"gate.", &w.gate}, {"up.", &w.up}, {"down.", &w.down}}) {
    validate(*matrix, x.act_bits, where, name);
    if (matrix->group_size != w.gate.group_size)
      throw ConfigError(where, std::string(name) + "group_size", std::to_string(matrix->group_size),
                        std::to_string(w.gate.group_size));
  }
  check_shape(w.gate, w.gate.n, x.k, where, "gate.w");
  check_shape(w.up, w.gate.n, w.gate.k, where, "up.w");
  check_shape(w.down, w.gate.k, w.gate.n, where, "down.w");
  if (w.sigma_h < 0 || w.sigma_h > kMaxSigmaH)
    throw ConfigError(where, "sigma_h", std::to_string(w.sigma_h), "0 to " + std::to_string(kMaxSigmaH));
  validate_shifts(w.gate, x, where, "gate.");
  validate_shifts(w.up, x, where, "up.");
}

void validate_hidden_shifts(const WeightMatrix& down, const std::vector<std::uint8_t>& eh, const std::string& where) {
  for (std::size_t m = 0; m < eh.size(); ++m)
    for (std::size_t n = 0; n < down.requant_shift.size(); ++n) {
      const int total = down.requant_shift[n] - eh[m];
      if (total < 0 || total > kMaxRequantShift)
        throw ConfigError(
            where, "down.requant_shift[" + std::to_string(n) + "]",
            std::to_string(down.requant_shift[n]) + " - " + std::to_string(eh[m]) + " for token " + std::to_string(m),
            "a shift from 0 to " + std::to_string(kMaxRequantShift));
    }
}

Activations hidden_activations(const std::vector<std::int16_t>& h, std::int64_t m, std::int64_t intermediate,
                               int act_bits, std::vector<std::uint8_t>& eh) {
  Activations x;
  x.m = m;
  x.k = intermediate;
  x.act_bits = act_bits;
  x.values.reserve(h.size());
  eh.clear();
  for (std::int64_t token = 0; token < m; ++token) {
    const std::int16_t* row = h.data() + token * intermediate;
    const int e = hidden_shift(row, intermediate, act_bits);
    eh.push_back(static_cast<std::uint8_t>(e));
    for (std::int64_t i = 0; i < intermediate; ++i)
      x.values.push_back(static_cast<std::int16_t>(rshift_round(row[i], e)));
  }
  return x;
}

ExpertResult expert_ffn(const ExpertWeights& w, const Activations& x, Path path, const std::string& where) {
  const std::vector<int> shifts = token_shifts(x);
  const auto g = requantise(w.gate, product(w.gate, x, path), shifts, 16, where, "gate.");
  const auto u = requantise(w.up, product(w.up, x, path), shifts, 16, where, "up.");
  ExpertResult result;
  result.h.reserve(g.size());
  for (std::size_t i = 0; i < g.size(); ++i) result.h.push_back(swiglu(g[i], u[i], w.sigma_h));
  const Activations hidden = hidden_activations(result.h, x.m, w.intermediate(), x.act_bits, result.eh);
  validate_hidden_shifts(w.down, result.eh, where);
  const std::vector<std::int64_t> acc = product(w.down, hidden, path);
  result.y = requantise(
      w.down, acc,
      [&] {
        std::vector<int> down_shifts;
        for (const auto e : result.eh) down_shifts.push_back(-static_cast<int>(e));
        return down_shifts;
      }(),
      16, where, "down.");
  return result;
}

}  // namespace moesaic::numerics
