#include "mapping/multiple_choice.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace moesaic::mapping {

namespace {

using Wide = __int128;

constexpr std::int64_t kTotalLimit = std::int64_t{1} << 51;

struct Live {  // an option that survived, with its index in the class
  std::int64_t weight, cost;
  int index;
};

struct Step {  // from one corner of a class's convex hull to the next heavier one
  std::int64_t weight, saving;
};

struct Multiplier {
  std::int64_t num, den;
};

/// Options no other is at least as good as, by (cost, weight, index); lightest first, costs falling. With `ties` also
/// those that cost the same as a lighter one but come before it.
std::vector<Live> undominated(const std::vector<Option>& options, bool ties) {
  std::vector<Live> all;
  for (std::size_t i = 0; i < options.size(); ++i)
    all.push_back({options[i].weight, options[i].cost, static_cast<int>(i)});
  std::sort(all.begin(), all.end(), [](const Live& a, const Live& b) {
    return a.weight != b.weight ? a.weight < b.weight : a.cost != b.cost ? a.cost < b.cost : a.index < b.index;
  });
  std::vector<Live> kept;
  for (const Live& o : all)
    if (kept.empty() || o.cost < kept.back().cost ||
        (ties && o.cost == kept.back().cost && o.index < kept.back().index))
      kept.push_back(o);
  return kept;
}

/// a steeper than b: saves more per unit of weight.
bool steeper(const Step& a, const Step& b) {
  return static_cast<Wide>(a.saving) * b.weight > static_cast<Wide>(b.saving) * a.weight;
}

std::vector<Step> hull_steps(const std::vector<Live>& options) {
  std::vector<Live> corner;
  for (const Live& o : options) {
    while (corner.size() >= 2) {
      const Live& a = corner[corner.size() - 2];
      const Live& b = corner.back();
      if (steeper({b.weight - a.weight, a.cost - b.cost}, {o.weight - b.weight, b.cost - o.cost})) break;
      corner.pop_back();
    }
    corner.push_back(o);
  }
  std::vector<Step> steps;
  for (std::size_t i = 1; i < corner.size(); ++i)
    steps.push_back({corner[i].weight - corner[i - 1].weight, corner[i - 1].cost - corner[i].cost});
  return steps;
}

Wide reduced(const Live& o, const Multiplier& m) {
  return static_cast<Wide>(o.cost) * m.den + static_cast<Wide>(o.weight) * m.num;
}

/// Least reduced cost; of equals the lightest.
const Live& best_at(const std::vector<Live>& options, const Multiplier& m) {
  const Live* best = &options.front();
  for (const Live& o : options)
    if (reduced(o, m) < reduced(*best, m)) best = &o;
  return *best;
}

Wide ceil_div(Wide a, Wide b) { return a >= 0 ? (a + b - 1) / b : -((-a) / b); }

struct State {
  std::int64_t weight, cost;
  std::int64_t node;
};

struct Node {  // how a state came about
  std::int64_t parent;
  int option;  // index into the live options of the class of its depth
};

class Search {
 public:
  /// `ties`: keep tied states until it is known which of them comes first.
  Search(const MultipleChoice& problem, std::vector<std::vector<Live>> classes, bool ties, std::int64_t tie_effort)
      : capacity_(problem.capacity),
        ties_(ties),
        tie_effort_(tie_effort),
        live_(std::move(classes)),
        order_(live_.size()) {}

  /// Nothing when the ties took more than the effort.
  std::optional<MultipleChoiceSolution> run() {
    choose_multipliers();
    order_classes();
    drop_hopeless_options();
    sum_suffixes();
    if (!extend_all()) return std::nullopt;
    return best();
  }

 private:
  // The multipliers that bound states: that of the linear relaxation's break step, and those of steps ever further from
  // it.
  void choose_multipliers() {
    std::vector<Step> steps;
    std::int64_t weight = 0;
    std::int64_t cost = 0;
    for (const auto& options : live_) {
      weight += options.front().weight;
      cost += options.front().cost;
      const std::vector<Step> own = hull_steps(options);
      steps.insert(steps.end(), own.begin(), own.end());
    }
    std::stable_sort(steps.begin(), steps.end(), steeper);
    // Steps are taken while they fit; the first that does not is the break step. (A class's own steps come in order.)
    std::size_t break_at = 0;
    for (; break_at < steps.size() && weight + steps[break_at].weight <= capacity_; ++break_at) {
      weight += steps[break_at].weight;
      cost -= steps[break_at].saving;
    }
    incumbent_ = cost;
    if (break_at == steps.size()) {
      multipliers_.push_back({0, 1});
      return;
    }
    const auto add = [&](std::size_t i) { multipliers_.push_back({steps[i].saving, steps[i].weight}); };
    add(break_at);
    for (std::size_t far = 1; far < steps.size(); far *= 2) {
      if (break_at + far < steps.size()) add(break_at + far);
      if (break_at >= far) add(break_at - far);
    }
    multipliers_.push_back({0, 1});
  }

  void order_classes() {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::vector<Wide> doubt(live_.size());  // how much worse the second best option is
    for (std::size_t c = 0; c < live_.size(); ++c) {
      const Live& best = best_at(live_[c], multipliers_[0]);
      doubt[c] = static_cast<Wide>(kTotalLimit) * kTotalLimit;
      for (const Live& o : live_[c])
        if (o.index != best.index)
          doubt[c] = std::min(doubt[c], reduced(o, multipliers_[0]) - reduced(best, multipliers_[0]));
    }
    std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) { return doubt[a] < doubt[b]; });
  }

  void drop_hopeless_options() {
    const Multiplier& m = multipliers_[0];
    relaxed_ = -static_cast<Wide>(capacity_) * m.num;
    for (const auto& options : live_) relaxed_ += reduced(best_at(options, m), m);
    for (auto& options : live_) {
      const Wide least = reduced(best_at(options, m), m);
      options.erase(std::remove_if(options.begin(), options.end(),
                                   [&](const Live& o) {
                                     return relaxed_ + reduced(o, m) - least > static_cast<Wide>(incumbent_) * m.den;
                                   }),
                    options.end());
    }
  }

  // For every multiplier and every depth: what the classes not yet decided add at their best.
  void sum_suffixes() {
    const std::size_t n = order_.size(), k = multipliers_.size();
    reduced_suffix_.assign((n + 1) * k, 0);
    cost_suffix_.assign((n + 1) * k, 0);
    weight_suffix_.assign((n + 1) * k, 0);
    least_weight_.assign(n + 1, 0);
    for (std::size_t d = n; d-- > 0;) {
      const auto& options = live_[order_[d]];
      least_weight_[d] = least_weight_[d + 1] + options.front().weight;
      for (std::size_t j = 0; j < k; ++j) {
        const Live& best = best_at(options, multipliers_[j]);
        reduced_suffix_[d * k + j] = reduced_suffix_[(d + 1) * k + j] + reduced(best, multipliers_[j]);
        cost_suffix_[d * k + j] = cost_suffix_[(d + 1) * k + j] + best.cost;
        weight_suffix_[d * k + j] = weight_suffix_[(d + 1) * k + j] + best.weight;
      }
    }
  }

  bool hopeless(std::int64_t weight, std::int64_t cost, std::size_t depth) const {
    if (weight + least_weight_[depth] > capacity_) return true;
    const std::size_t k = multipliers_.size();
    for (std::size_t j = 0; j < k; ++j) {
      const Multiplier& m = multipliers_[j];
      const Wide bound = static_cast<Wide>(cost - incumbent_) * m.den + reduced_suffix_[depth * k + j] -
                         static_cast<Wide>(capacity_ - weight) * m.num;
      if (bound > 0) return true;
    }
    return false;
  }

  void improve_incumbent(std::int64_t weight, std::int64_t cost, std::size_t depth) {
    const std::size_t k = multipliers_.size();
    for (std::size_t j = 0; j < k; ++j)
      if (weight + weight_suffix_[depth * k + j] <= capacity_)
        incumbent_ = std::min(incumbent_, cost + cost_suffix_[depth * k + j]);
  }

  /// Of two states the heavier is kept where it costs less; with ties also where it costs the same and comes first:
  /// what completes both is the same, so that the order of their choices decides.
  bool extend_all() {
    nodes_.push_back({-1, -1});
    states_.push_back({0, 0, 0});
    improve_incumbent(0, 0, 0);
    std::vector<State> next;
    for (std::size_t d = 0; d < order_.size(); ++d) {
      const auto& options = live_[order_[d]];
      next.clear();
      for (const State& s : states_)
        for (std::size_t o = 0; o < options.size(); ++o) {
          const std::int64_t weight = s.weight + options[o].weight, cost = s.cost + options[o].cost;
          if (hopeless(weight, cost, d + 1)) continue;
          improve_incumbent(weight, cost, d + 1);
          // The node is made once the state is known to stay.
          next.push_back(
              {weight, cost, s.node * static_cast<std::int64_t>(options.size()) + static_cast<std::int64_t>(o)});
        }
      std::sort(next.begin(), next.end(), [](const State& a, const State& b) {
        return a.weight != b.weight ? a.weight < b.weight : a.cost != b.cost ? a.cost < b.cost : a.node < b.node;
      });
      const auto width = static_cast<std::int64_t>(options.size());
      states_.clear();
      for (const State& s : next) {
        if (ties_ && tie_effort_ < 0) return false;
        const Node made{s.node / width, static_cast<int>(s.node % width)};
        if (!states_.empty() && states_.back().cost <= s.cost) {
          const State& kept = states_.back();
          const bool equal = kept.weight == s.weight;
          if (kept.cost < s.cost || !(equal || ties_)) continue;
          if (!first_in_order(made, nodes_[static_cast<std::size_t>(kept.node)], d)) continue;
          if (equal) {
            nodes_[static_cast<std::size_t>(kept.node)] = made;
            continue;
          }
        }
        states_.push_back({s.weight, s.cost, static_cast<std::int64_t>(nodes_.size())});
        nodes_.push_back(made);
      }
    }
    return true;
  }

  // The choices that lead to `node`, which decides order_[depth], as (class, option index), by class.
  std::vector<std::pair<std::size_t, int>> choices(Node node, std::size_t depth) const {
    std::vector<std::pair<std::size_t, int>> made;
    for (std::size_t d = depth + 1; d-- > 0; node = nodes_[static_cast<std::size_t>(node.parent)])
      made.emplace_back(order_[d], live_[order_[d]][static_cast<std::size_t>(node.option)].index);
    std::sort(made.begin(), made.end());
    return made;
  }

  /// Whether the choices of `a` come before those of `b`; both decide order_[depth]. Walks back to where they part.
  bool first_in_order(Node a, Node b, std::size_t depth) {
    std::size_t first = order_.size();  // the first class that they decide differently
    bool before = false;
    for (std::size_t d = depth;; --d) {
      --tie_effort_;
      if (a.option != b.option && order_[d] < first) {
        const auto& options = live_[order_[d]];
        first = order_[d];
        before = options[static_cast<std::size_t>(a.option)].index < options[static_cast<std::size_t>(b.option)].index;
      }
      if (a.parent == b.parent) return before;
      a = nodes_[static_cast<std::size_t>(a.parent)];
      b = nodes_[static_cast<std::size_t>(b.parent)];
    }
  }

  MultipleChoiceSolution best() const {
    // Costs fall as weights rise, so the last state costs least.
    const State& last = states_.back();
    MultipleChoiceSolution solution;
    solution.cost = last.cost;
    solution.bound = last.cost;
    solution.weight = last.weight;
    solution.choice.resize(order_.size());
    for (const auto& [c, option] : choices(nodes_[static_cast<std::size_t>(last.node)], order_.size() - 1))
      solution.choice[c] = option;
    solution.multiplier_num = multipliers_[0].num;
    solution.multiplier_den = multipliers_[0].den;
    solution.relaxed_bound = static_cast<std::int64_t>(ceil_div(relaxed_, multipliers_[0].den));
    solution.states = static_cast<std::int64_t>(nodes_.size());
    solution.first = ties_;
    return solution;
  }

  std::int64_t capacity_;
  bool ties_;
  std::int64_t tie_effort_;              // left
  std::vector<std::vector<Live>> live_;  // by class
  std::vector<std::size_t> order_;       // classes in the order of decision
  std::vector<Multiplier> multipliers_;
  std::int64_t incumbent_ = 0;  // cost of the best complete solution known
  Wide relaxed_ = 0;            // the relaxation's bound times the first multiplier's den
  std::vector<Wide> reduced_suffix_;
  std::vector<std::int64_t> cost_suffix_, weight_suffix_, least_weight_;
  std::vector<Node> nodes_;
  std::vector<State> states_;  // lightest first
};

}  // namespace

std::optional<MultipleChoiceSolution> solve(const MultipleChoice& problem, std::int64_t tie_effort) {
  std::int64_t least = 0, heaviest_sum = 0, cost_sum = 0;
  for (const auto& options : problem.classes) {
    if (options.empty()) throw std::logic_error("multiple choice: a class without options");
    std::int64_t heaviest = 0, dearest = 0;
    for (const Option& o : options) {
      if (o.weight < 0 || o.cost < 0 || o.weight >= kTotalLimit || o.cost >= kTotalLimit)
        throw std::logic_error("multiple choice: a weight or cost out of range");
      heaviest = std::max(heaviest, o.weight);
      dearest = std::max(dearest, o.cost);
    }
    heaviest_sum += heaviest;
    cost_sum += dearest;
    if (heaviest_sum >= kTotalLimit || cost_sum >= kTotalLimit)
      throw std::logic_error("multiple choice: totals out of range");
    least += std::min_element(options.begin(), options.end(), [](const Option& a, const Option& b) {
               return a.weight < b.weight;
             })->weight;
  }
  if (least > problem.capacity) return std::nullopt;
  if (problem.classes.empty()) return MultipleChoiceSolution{};
  for (const bool ties : {true, false}) {
    std::vector<std::vector<Live>> classes;
    for (const auto& options : problem.classes) classes.push_back(undominated(options, ties));
    if (auto found = Search(problem, std::move(classes), ties, tie_effort).run()) return found;
  }
  throw std::logic_error("multiple choice: no answer without ties");
}

}  // namespace moesaic::mapping
