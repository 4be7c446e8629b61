#include "mapping/checker.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <utility>

#include "base/error.h"

namespace moesaic::mapping {

namespace {

void expect(bool holds, const char* what, std::int64_t claimed, std::int64_t found) {
  if (!holds) throw base::CheckError(fmt::format("plan check: {}: claimed {}, found {}", what, claimed, found));
}

std::int64_t scaled(double loss, int exponent) { return std::llround(std::ldexp(loss, exponent)); }

}  // namespace

void check_claim(const workloads::Plan& plan, const Claim& claim, const std::vector<workloads::SensitivityRow>& rows,
                 const std::function<std::int64_t(numerics::Format)>& bytes_of) {
  std::map<std::pair<int, int>, int> chosen;  // how often an expert's entry found its row
  for (const workloads::SensitivityRow& row : rows) chosen[{row.layer, row.expert}] = 0;

  std::int64_t bytes = 0, loss = 0;
  double real_loss = 0;
  for (const workloads::PlanEntry& entry : plan.experts) {
    for (const workloads::SensitivityRow& row : rows) {
      if (row.layer != entry.layer || row.expert != entry.expert || row.format != entry.format) continue;
      ++chosen[{row.layer, row.expert}];
      bytes += bytes_of(row.format);
      loss += scaled(row.loss, claim.loss_exponent);
      real_loss += row.loss;
    }
  }
  expect(plan.experts.size() == chosen.size(), "experts", static_cast<std::int64_t>(plan.experts.size()),
         static_cast<std::int64_t>(chosen.size()));
  for (const auto& [expert, times] : chosen)
    if (times != 1)
      throw base::CheckError(fmt::format("plan check: layer {}, expert {}: {} formats of the table chosen, expected 1",
                                         expert.first, expert.second, times));
  expect(bytes == claim.bytes, "bytes", claim.bytes, bytes);
  expect(bytes == plan.memory_bytes, "memory_bytes", plan.memory_bytes, bytes);
  expect(loss == claim.loss, "scaled loss", claim.loss, loss);
  // Both are sums of the same doubles in the same order.
  if (real_loss != plan.loss)
    throw base::CheckError(fmt::format("plan check: loss: claimed {}, found {}", plan.loss, real_loss));
  if (claim.budget) expect(bytes <= *claim.budget, "bytes within the budget", *claim.budget, bytes);

  if (claim.certificate) {
    const Claim::Certificate& c = *claim.certificate;
    std::map<std::pair<int, int>, __int128> least;
    for (const workloads::SensitivityRow& row : rows) {
      const __int128 value = static_cast<__int128>(scaled(row.loss, claim.loss_exponent)) * c.den +
                             static_cast<__int128>(bytes_of(row.format)) * c.num;
      const auto [at, first] = least.emplace(std::make_pair(row.layer, row.expert), value);
      if (!first && value < at->second) at->second = value;
    }
    __int128 bound = -static_cast<__int128>(claim.budget.value_or(0)) * c.num;
    for (const auto& [expert, value] : least) bound += value;
    // bound is the least, rounded up to whole losses: bound * den >= sum > (bound - 1) * den.
    const __int128 stated = static_cast<__int128>(c.bound) * c.den;
    if (stated < bound || stated - c.den >= bound || c.bound > claim.loss)
      throw base::CheckError(
          fmt::format("plan check: relaxed bound {} is not what multiplier {}/{} proves", c.bound, c.num, c.den));
  }
}

}  // namespace moesaic::mapping
