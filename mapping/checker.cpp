#include "mapping/checker.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>

#include "base/error.h"

namespace moesaic::mapping {

using numerics::ExpertFormats;
using workloads::Projection;

namespace {

using Expert = std::pair<int, int>;

void expect(bool holds, const std::string& what, std::int64_t claimed, std::int64_t found) {
  if (!holds) throw base::CheckError(fmt::format("plan check: {}: claimed {}, found {}", what, claimed, found));
}

std::int64_t scaled(double loss, int exponent) { return std::llround(std::ldexp(loss, exponent)); }

/// What the table says of one expert in formats that it may take.
struct Chosen {
  std::int64_t loss = 0;
  double real_loss = 0;
};

/// Every expert's formats with their losses: of a row, or of one row each of gate, up and down.
class Tables {
 public:
  Tables(const Claim& claim, const std::vector<workloads::SensitivityRow>& rows) {
    std::map<Expert, std::map<Projection, std::vector<const workloads::SensitivityRow*>>> own;
    for (const workloads::SensitivityRow& row : rows) own[{row.layer, row.expert}][row.projection].push_back(&row);
    const auto add = [&](const Expert& expert, const ExpertFormats& formats,
                         const std::vector<const workloads::SensitivityRow*>& parts) {
      Chosen chosen;
      for (const workloads::SensitivityRow* part : parts) {
        chosen.loss += scaled(part->loss, claim.loss_exponent);
        chosen.real_loss += part->loss;
      }
      of_[expert][formats] = chosen;
    };
    for (auto& [expert, parts] : own) {
      of_[expert];
      for (const workloads::SensitivityRow* row : parts[Projection::kAll]) add(expert, row->format, {row});
      for (const workloads::SensitivityRow* gate : parts[Projection::kGate])
        for (const workloads::SensitivityRow* up : parts[Projection::kUp])
          for (const workloads::SensitivityRow* down : parts[Projection::kDown]) {
            const ExpertFormats formats(gate->format, up->format, down->format);
            const bool tied = claim.gate_with_up || claim.all_together;
            if ((tied && !formats.is_paired()) || (claim.all_together && !formats.is_one())) continue;
            add(expert, formats, {gate, up, down});
          }
    }
  }

  const std::map<Expert, std::map<ExpertFormats, Chosen>>& experts() const { return of_; }
  const Chosen* find(const Expert& expert, const ExpertFormats& formats) const {
    const auto own = of_.find(expert);
    if (own == of_.end()) return nullptr;
    const auto found = own->second.find(formats);
    return found == own->second.end() ? nullptr : &found->second;
  }

 private:
  std::map<Expert, std::map<ExpertFormats, Chosen>> of_;
};

/// min over the formats that all members share of their priced losses.
class Bound {
 public:
  Bound(const Claim& claim, const Tables& tables, const std::set<int>& layers) : claim_(claim), tables_(tables) {
    // Where each constraint's multipliers begin, and the constant part.
    for (const ClaimedBudget& budget : claim.budgets) {
      begin_.push_back(count_);
      for (std::size_t l = 0; l < (budget.per_layer ? layers.size() : 1); ++l)
        constant_ -= num(count_++) * static_cast<__int128>(budget.layer_capacity.empty() ? budget.capacity
                                                                                         : budget.layer_capacity.at(l));
    }
    for (const Claim::AtLeast& rule : claim.at_least) {
      begin_.push_back(count_);
      for (std::size_t l = 0; l < (rule.layer < 0 ? layers.size() : 1); ++l)
        constant_ += num(count_++) * static_cast<__int128>(rule.count);
    }
    int rank = 0;
    for (const int layer : layers) rank_of_[layer] = rank++;
  }

  bool complete() const { return count_ == claim_.certificate->num.size(); }

  __int128 value() const {
    __int128 sum = constant_;
    std::set<Expert> done;
    for (const auto& group : claim_.tied) {
      sum += least(group);
      done.insert(group.begin(), group.end());
    }
    for (const auto& [expert, own] : tables_.experts())
      if (done.count(expert) == 0) sum += least({expert});
    return sum;
  }

 private:
  __int128 num(std::size_t c) const { return claim_.certificate->num.at(c); }

  __int128 priced(const Expert& expert, const ExpertFormats& formats, const Chosen& chosen) const {
    __int128 value = static_cast<__int128>(chosen.loss) * claim_.certificate->den;
    const auto rank = static_cast<std::size_t>(rank_of_.at(expert.first));
    for (std::size_t b = 0; b < claim_.budgets.size(); ++b)
      value += num(begin_[b] + (claim_.budgets[b].per_layer ? rank : 0)) *
               claim_.budgets[b].use(expert.first, expert.second, formats);
    for (std::size_t r = 0; r < claim_.at_least.size(); ++r) {
      const Claim::AtLeast& rule = claim_.at_least[r];
      if (formats == ExpertFormats(rule.format) && (rule.layer < 0 || rule.layer == expert.first))
        value -= num(begin_[claim_.budgets.size() + r] + (rule.layer < 0 ? rank : 0));
    }
    return value;
  }

  __int128 least(const std::vector<Expert>& group) const {
    bool any = false;
    __int128 best = 0;
    for (const auto& first : tables_.experts().at(group[0])) {
      __int128 sum = 0;
      std::size_t found = 0;
      for (const Expert& member : group)
        if (const Chosen* chosen = tables_.find(member, first.first)) {
          sum += priced(member, first.first, *chosen);
          ++found;
        }
      if (found != group.size()) continue;
      if (!any || sum < best) best = sum;
      any = true;
    }
    return best;
  }

  const Claim& claim_;
  const Tables& tables_;
  std::map<int, int> rank_of_;
  std::vector<std::size_t> begin_;
  std::size_t count_ = 0;
  __int128 constant_ = 0;
};

}  // namespace

void check_claim(const workloads::Plan& plan, const Claim& claim, const std::vector<workloads::SensitivityRow>& rows) {
  const Tables tables(claim, rows);
  std::map<Expert, int> chosen;  // how often an expert's entry found its formats
  std::set<int> layers;
  for (const auto& [expert, own] : tables.experts()) {
    chosen[expert] = 0;
    layers.insert(expert.first);
  }

  std::int64_t bytes = 0, loss = 0;
  double real_loss = 0;
  std::map<Expert, ExpertFormats> format_of;
  for (const workloads::PlanEntry& entry : plan.experts) {
    const Chosen* found = tables.find({entry.layer, entry.expert}, entry.format);
    if (found == nullptr) continue;
    ++chosen[{entry.layer, entry.expert}];
    format_of[{entry.layer, entry.expert}] = entry.format;
    if (claim.bytes) bytes += claim.bytes_of(entry.format);
    loss += found->loss;
    real_loss += found->real_loss;
  }
  expect(plan.experts.size() == chosen.size(), "experts", static_cast<std::int64_t>(plan.experts.size()),
         static_cast<std::int64_t>(chosen.size()));
  for (const auto& [expert, times] : chosen)
    if (times != 1)
      throw base::CheckError(fmt::format("plan check: layer {}, expert {}: {} formats of the table chosen, expected 1",
                                         expert.first, expert.second, times));
  if (claim.bytes) {
    expect(bytes == *claim.bytes, "bytes", *claim.bytes, bytes);
    expect(bytes == plan.memory_bytes, "memory_bytes", plan.memory_bytes, bytes);
  }
  expect(loss == claim.loss, "scaled loss", claim.loss, loss);
  // Both are sums of the same doubles in the same order.
  if (real_loss != plan.loss)
    throw base::CheckError(fmt::format("plan check: loss: claimed {}, found {}", plan.loss, real_loss));

  for (const ClaimedBudget& budget : claim.budgets) {
    std::map<int, std::int64_t> sums;  // by layer, or all in one
    for (const auto& [expert, format] : format_of)
      sums[budget.per_layer ? expert.first : 0] += budget.use(expert.first, expert.second, format);
    std::int64_t greatest = 0;
    std::size_t rank = 0;
    for (const auto& [layer, sum] : sums) {
      greatest = std::max(greatest, sum);
      const std::int64_t capacity = budget.layer_capacity.empty() ? budget.capacity : budget.layer_capacity.at(rank++);
      expect(sum <= capacity, budget.name + " within the budget", capacity, sum);
    }
    expect(greatest == budget.used, budget.name, budget.used, greatest);
  }
  for (const Claim::AtLeast& rule : claim.at_least)
    for (const int layer : layers) {
      if (rule.layer >= 0 && rule.layer != layer) continue;
      int count = 0;
      for (const auto& [expert, format] : format_of)
        count += expert.first == layer && format == ExpertFormats(rule.format);
      expect(count >= rule.count, fmt::format("experts of {} in layer {}", rule.format.name(), layer), rule.count,
             count);
    }
  for (const auto& group : claim.tied)
    for (const Expert& expert : group)
      if (format_of.at(expert) != format_of.at(group[0]))
        throw base::CheckError(fmt::format("plan check: layer {}, expert {}: {} though tied to an expert of {}",
                                           expert.first, expert.second, format_of.at(expert).name(),
                                           format_of.at(group[0]).name()));

  if (claim.certificate) {
    const Bound bound(claim, tables, layers);
    if (!bound.complete()) throw base::CheckError("plan check: multipliers: another number than limits");
    const __int128 sum = bound.value();
    // The bound is the least, rounded up to whole losses: bound * den >= sum > (bound - 1) * den.
    const __int128 stated = static_cast<__int128>(claim.certificate->bound) * claim.certificate->den;
    bool holds = stated >= sum && stated - claim.certificate->den < sum && claim.certificate->bound <= claim.loss;
    for (const __int128 num : claim.certificate->num) holds = holds && num >= 0;
    if (!holds)
      throw base::CheckError(
          fmt::format("plan check: relaxed bound {} is not what its multipliers prove", claim.certificate->bound));
  }
}

}  // namespace moesaic::mapping
