#pragma once
/// Re-computes from the tables what a plan claims. Written against the rows and the plan file's own entries; shares no
/// code with the allocators, the solver or the problem they solve.
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "workloads/plan.h"
#include "workloads/sensitivity.h"

namespace moesaic::mapping {

struct Claim {
  std::int64_t bytes = 0;
  std::int64_t loss = 0;  ///< sum of round(loss * 2^loss_exponent)
  int loss_exponent = 0;
  std::optional<std::int64_t> budget;
  /// The relaxation's certificate, where an allocator gives one: for no choice within the budget is the loss below
  /// `bound`, because cost + num/den * (bytes - budget) is nowhere less.
  struct Certificate {
    std::int64_t bound = 0, num = 0, den = 1;
  };
  std::optional<Certificate> certificate;
};

/// Throws base::CheckError, saying which number differs, unless every expert of the rows has exactly one entry whose
/// format has a row, bytes and loss add up to the claim, the bytes are within the budget, the plan file's own figures
/// agree, and the certificate holds.
void check_claim(const workloads::Plan& plan, const Claim& claim, const std::vector<workloads::SensitivityRow>& rows,
                 const std::function<std::int64_t(numerics::Format)>& bytes_of);

}  // namespace moesaic::mapping
