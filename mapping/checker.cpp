#include "mapping/checker.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"

namespace moesaic::mapping {

using numerics::ExpertFormats;
using numerics::Format;
using workloads::Projection;

namespace {

using Expert = std::pair<int, int>;

void expect(bool holds, const std::string& what, std::int64_t claimed, std::int64_t found) {
  if (!holds) throw base::CheckError(fmt::format("plan check: {}: claimed {}, found {}", what, claimed, found));
}

std::int64_t scaled(double loss, int exponent) { return std::llround(std::ldexp(loss, exponent)); }

/// How an expert is read: in these formats by every class, or by each in its own.
using Way = std::pair<ExpertFormats, std::vector<Format>>;

/// The entry's, said in one way only.
Way way_of(const workloads::PlanEntry& entry) {
  for (const Format read : entry.reads)
    if (read != entry.format.gate) return {entry.format, entry.reads};
  return {entry.format, {}};
}

std::string name_of(const Way& way) {
  std::string name = way.first.name();
  for (const Format read : way.second) name += " " + read.name();
  return name;
}

/// What the table says of one expert that is read in some way.
struct Chosen {
  std::int64_t loss = 0;
  double real_loss = 0;
};

/// Every expert's ways with their losses: of a row, or of one row each of gate, up and down; of classes, of what each
/// reads of one stored copy.
class Tables {
 public:
  Tables(const workloads::Plan& plan, const Claim& claim, const std::vector<workloads::SensitivityRow>& rows) {
    std::map<Expert, std::map<Projection, std::vector<const workloads::SensitivityRow*>>> own;
    for (const workloads::SensitivityRow& row : rows) own[{row.layer, row.expert}][row.projection].push_back(&row);
    const auto add = [&](const Expert& expert, const ExpertFormats& formats,
                         const std::vector<const workloads::SensitivityRow*>& parts) {
      Chosen chosen;
      for (const workloads::SensitivityRow* part : parts) {
        chosen.loss += scaled(part->loss, claim.loss_exponent);
        chosen.real_loss += part->loss;
      }
      of_[expert][Way(formats, {})] = chosen;
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
    if (claim.classes > 1 || !claim.class_weights.empty())
      for (auto& [expert, ways] : of_) ways = by_class(expert, ways, plan, claim);
    for (const workloads::PlanEntry& entry : claim.fixed) {
      auto& ways = of_[{entry.layer, entry.expert}];
      const auto kept = ways.find(way_of(entry));
      ways = kept == ways.end() ? Ways() : Ways{*kept};
    }
  }

  using Ways = std::map<Way, Chosen>;
  const std::map<Expert, Ways>& experts() const { return of_; }
  const Chosen* find(const Expert& expert, const Way& way) const {
    const auto own = of_.find(expert);
    if (own == of_.end()) return nullptr;
    const auto found = own->second.find(way);
    return found == own->second.end() ? nullptr : &found->second;
  }

 private:
  /// From what all classes may read alike to what each may read of one stored copy.
  static Ways by_class(const Expert& expert, const Ways& alike, const workloads::Plan& plan, const Claim& claim) {
    const auto own = claim.shares.find(expert);
    const std::vector<double>& shares = own == claim.shares.end() ? plan.class_shares : own->second;
    // Partial ways, class by class: what is read so far with its loss.
    std::vector<std::pair<std::vector<Format>, double>> partial{{{}, 0.0}};
    for (std::size_t c = 0; c < claim.classes; ++c) {
      const double weight = claim.class_weights.empty() ? 1 : claim.class_weights.at(c);
      std::vector<std::pair<std::vector<Format>, double>> longer;
      for (const auto& [reads, loss] : partial)
        for (const auto& [way, chosen] : alike) {
          const Format read = way.first.gate;
          if (!reads.empty() && !read.same_copy(reads.back())) continue;
          if (!reads.empty() && claim.rising && read.planes() < reads.back().planes()) continue;
          longer.emplace_back(reads, loss + shares.at(c) * weight * chosen.real_loss);
          longer.back().first.push_back(read);
        }
      partial = std::move(longer);
    }
    Ways all;
    for (auto& [reads, loss] : partial) {
      workloads::PlanEntry entry;
      entry.reads = reads;
      entry.format = reads.front();
      for (const Format read : reads)
        if (read.planes() > entry.format.gate.planes()) entry.format = read;
      all[way_of(entry)] = {scaled(loss, claim.loss_exponent), loss};
    }
    return all;
  }

  std::map<Expert, Ways> of_;
};

/// What an expert that is read in some way uses of a budget.
std::int64_t use_of(const ClaimedBudget& budget, const Claim& claim, const Expert& expert, const Way& way) {
  if (!budget.class_use) return budget.use(expert.first, expert.second, way.first);
  if (claim.classes < 2) return budget.class_use(expert.first, expert.second, way.first, workloads::kEveryRow);
  std::map<Format, workloads::ClassSet> readers;
  for (std::size_t c = 0; c < claim.classes; ++c)
    readers[way.second.empty() ? way.first.gate : way.second.at(c)] |= workloads::ClassSet{1} << c;
  std::int64_t sum = 0;
  for (const auto& [format, classes] : readers) sum += budget.class_use(expert.first, expert.second, format, classes);
  return sum;
}

/// min over the ways that all members share of their priced losses.
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

  __int128 priced(const Expert& expert, const Way& way, const Chosen& chosen) const {
    __int128 value = static_cast<__int128>(chosen.loss) * claim_.certificate->den;
    const auto rank = static_cast<std::size_t>(rank_of_.at(expert.first));
    for (std::size_t b = 0; b < claim_.budgets.size(); ++b)
      value +=
          num(begin_[b] + (claim_.budgets[b].per_layer ? rank : 0)) * use_of(claim_.budgets[b], claim_, expert, way);
    for (std::size_t r = 0; r < claim_.at_least.size(); ++r) {
      const Claim::AtLeast& rule = claim_.at_least[r];
      if (way == Way(rule.format, {}) && (rule.layer < 0 || rule.layer == expert.first))
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
  expect(plan.class_shares.size() == claim.classes, "classes", static_cast<std::int64_t>(plan.class_shares.size()),
         static_cast<std::int64_t>(claim.classes));
  for (const workloads::PlanEntry& entry : plan.experts)
    if (!entry.reads.empty() && entry.reads.size() != claim.classes)
      throw base::CheckError(fmt::format("plan check: layer {}, expert {}: reads of {} classes, expected {}",
                                         entry.layer, entry.expert, entry.reads.size(), claim.classes));
  const Tables tables(plan, claim, rows);
  std::map<Expert, int> chosen;  // how often an expert's entry found its formats
  std::set<int> layers;
  for (const auto& [expert, own] : tables.experts()) {
    chosen[expert] = 0;
    layers.insert(expert.first);
  }

  std::int64_t bytes = 0, loss = 0;
  double real_loss = 0;
  std::map<Expert, Way> way_chosen;
  for (const workloads::PlanEntry& entry : plan.experts) {
    const Chosen* found = tables.find({entry.layer, entry.expert}, way_of(entry));
    if (found == nullptr) continue;
    ++chosen[{entry.layer, entry.expert}];
    way_chosen[{entry.layer, entry.expert}] = way_of(entry);
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
    for (const auto& [expert, way] : way_chosen)
      sums[budget.per_layer ? expert.first : 0] += use_of(budget, claim, expert, way);
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
      for (const auto& [expert, way] : way_chosen) count += expert.first == layer && way == Way(rule.format, {});
      expect(count >= rule.count, fmt::format("experts of {} in layer {}", rule.format.name(), layer), rule.count,
             count);
    }
  for (const auto& group : claim.tied)
    for (const Expert& expert : group)
      if (way_chosen.at(expert) != way_chosen.at(group[0]))
        throw base::CheckError(fmt::format("plan check: layer {}, expert {}: {} though tied to an expert of {}",
                                           expert.first, expert.second, name_of(way_chosen.at(expert)),
                                           name_of(way_chosen.at(group[0]))));

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
