#include "mapping/branch_and_bound.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace moesaic::mapping {

namespace {

using Wide = __int128;
using Clock = std::chrono::steady_clock;

constexpr int kShift = 32;  // multipliers are integers over 2^kShift
constexpr Wide kDen = Wide{1} << kShift;
constexpr std::size_t kItemsPerCharge = 32;
constexpr double kNone = -std::numeric_limits<double>::infinity();

std::size_t index(int i) { return static_cast<std::size_t>(i); }

std::int64_t ceil_div(Wide a, Wide b) { return static_cast<std::int64_t>(a >= 0 ? (a + b - 1) / b : -((-a) / b)); }

/// Options of an item as bits: a word for up to 64, else many.
constexpr int kWord = 64;
class ManyBits {
 public:
  static constexpr int kMost = 1024;
  void set(int bit) { words_[index(bit / kWord)] |= std::uint64_t{1} << (bit % kWord); }
  std::uint64_t& word(std::size_t w) { return words_[w]; }
  std::uint64_t word(std::size_t w) const { return words_[w]; }
  static constexpr std::size_t words() { return kMost / kWord; }

 private:
  std::array<std::uint64_t, kMost / kWord> words_{};
};
class OneWord {
 public:
  static constexpr int kMost = kWord;
  void set(int bit) { word_ |= std::uint64_t{1} << bit; }
  std::uint64_t& word(std::size_t) { return word_; }
  std::uint64_t word(std::size_t) const { return word_; }
  static constexpr std::size_t words() { return 1; }

 private:
  std::uint64_t word_ = 0;
};

template <class Bits, class Visit>
void for_each(const Bits& bits, Visit visit) {
  for (std::size_t w = 0; w < Bits::words(); ++w)
    for (std::uint64_t left = bits.word(w); left != 0; left &= left - 1)
      visit(static_cast<int>(w) * kWord + __builtin_ctzll(left));
}

template <class Bits>
std::size_t count_of(const Bits& bits) {
  std::size_t count = 0;
  for (std::size_t w = 0; w < Bits::words(); ++w) count += static_cast<std::size_t>(__builtin_popcountll(bits.word(w)));
  return count;
}

/// Not more than one.
template <class Bits>
bool is_single(const Bits& bits) {
  std::uint64_t seen = 0;
  for (std::size_t w = 0; w < Bits::words(); ++w) {
    const std::uint64_t word = bits.word(w);
    if ((word & (word - 1)) != 0 || (word != 0 && seen != 0)) return false;
    seen |= word;
  }
  return true;
}

template <class Bits>
int lowest(const Bits& bits) {
  std::size_t w = 0;
  while (bits.word(w) == 0) ++w;
  return static_cast<int>(w) * kWord + __builtin_ctzll(bits.word(w));
}

template <class Bits>
bool is_empty(const Bits& bits) {
  return count_of(bits) == 0;
}

template <class Bits>
Bits common(Bits a, const Bits& b) {
  for (std::size_t w = 0; w < Bits::words(); ++w) a.word(w) &= b.word(w);
  return a;
}

template <class Bits>
void take_out(Bits& from, const Bits& what) {
  for (std::size_t w = 0; w < Bits::words(); ++w) from.word(w) &= ~what.word(w);
}

/// Those of `bits` below `end`.
template <class Bits>
Bits below(const Bits& bits, int end) {
  Bits kept;
  for_each(bits, [&](int o) {
    if (o < end) kept.set(o);
  });
  return kept;
}

struct Budget {  // shared by all parts of one problem
  std::int64_t nodes_left;
  double gap;
  std::optional<Clock::time_point> deadline;
  bool out_of_time() const { return deadline && Clock::now() >= *deadline; }
};

/// A decision and those before it.
struct Trail {
  int before;
  int item;
  int option;
};

template <class Bits>
struct NodeOf {
  Wide bound = 0;                   ///< times kDen
  std::vector<int> items;           ///< undecided, ascending
  std::vector<Bits> live;           ///< their options
  std::int64_t cost = 0;            ///< of what is decided
  std::vector<std::int64_t> slack;  ///< capacity that what is decided leaves
  std::vector<double> multiplier;   ///< to start from
  int trail = -1;
};

template <class Bits>
class PartSolver {
  using Node = NodeOf<Bits>;

 public:
  PartSolver(const ChoiceProgram& program, Budget& budget, std::function<void(const SearchState&)> progress)
      : program_(program), budget_(budget), progress_(std::move(progress)), limits_(program.capacity.size()) {
    for (const ProgramItem& item : program.items) {
      first_option_.push_back(cost_.size());
      first_use_.push_back(use_.size());
      for (const ProgramOption& o : item.options) {
        cost_.push_back(o.cost);
        use_.insert(use_.end(), o.use.begin(), o.use.end());
      }
    }
    cost_real_.assign(cost_.begin(), cost_.end());
    use_real_.assign(use_.begin(), use_.end());
    diff_.resize(cost_.size());
    pick_.resize(program.items.size());
    seen_.resize(program.items.size());
    scale_.assign(limits_, 1);
    std::vector<double> magnitude(limits_, 1);
    std::int64_t dearest_sum = 0;
    for (std::size_t i = 0; i < program.items.size(); ++i) {
      const ProgramItem& item = program.items[i];
      std::int64_t dearest = 0;
      for (const ProgramOption& o : item.options) dearest = std::max(dearest, o.cost);
      dearest_sum += dearest;
      for (std::size_t k = 0; k < item.limits.size(); ++k) {
        std::int64_t lo = item.options[0].use[k], hi = lo;
        for (const ProgramOption& o : item.options) {
          lo = std::min(lo, o.use[k]);
          hi = std::max(hi, o.use[k]);
        }
        scale_[index(item.limits[k])] += static_cast<double>(hi - lo);
        magnitude[index(item.limits[k])] += static_cast<double>(std::max(std::abs(lo), std::abs(hi)));
      }
    }
    cutoff_ = dearest_sum + 1;
    cost_scale_ = static_cast<double>(cutoff_);
    tighten_capacities();
    gradient_.resize(limits_);
    // 2^120 for a numerator times all that may be used: a bound of a few hundred limits cannot overflow. A limit that
    // nothing can break has no price.
    for (std::size_t c = 0; c < limits_; ++c)
      greatest_.push_back(most_[c] <= program.capacity[c] ? 0.0 : std::ldexp(1.0, 120 - kShift) / magnitude[c]);
  }

  ProgramSolution run() {
    ProgramSolution s;
    Node root = whole_program(false);
    --budget_.nodes_left;
    nodes_ = 1;
    root_certificate(root, s.certificate);
    bool complete = true;
    if (settle(root, true)) {
      std::vector<Node> open;
      open.push_back(std::move(root));
      complete = search(open, false);
    }
    s.bound = complete ? cutoff_ : lower_bound_;
    if (best_.empty()) {
      s.status = complete ? SearchStatus::kInfeasible : SearchStatus::kUnknown;
    } else {
      s.choices = best_;
      s.cost = cutoff_;
      s.status = complete ? SearchStatus::kOptimal : SearchStatus::kFeasible;
      s.bound = std::min(s.bound, s.cost);
      if (s.bound == s.cost) s.status = SearchStatus::kOptimal;
      if (s.status == SearchStatus::kOptimal) {
        s.first = first_in_order();
        s.choices = best_;
      }
    }
    s.nodes = nodes_;
    return s;
  }

  Wide root_bound() const { return root_bound_; }

 private:
  const ProgramItem& item(int i) const { return program_.items[index(i)]; }
  const std::int64_t* uses(int i, int o) const {
    return use_.data() + first_use_[index(i)] + index(o) * item(i).limits.size();
  }
  const double* uses_real(int i, int o) const {
    return use_real_.data() + first_use_[index(i)] + index(o) * item(i).limits.size();
  }

  /// Whether b makes a superfluous. With `keep_ties`, only where b also comes first or costs less.
  bool dominates(int i, int b, int a, bool keep_ties) const {
    const std::int64_t cost_a = cost_[first_option_[index(i)] + index(a)];
    const std::int64_t cost_b = cost_[first_option_[index(i)] + index(b)];
    if (cost_b > cost_a) return false;
    bool equal = cost_a == cost_b;
    for (std::size_t k = 0; k < item(i).limits.size(); ++k) {
      if (uses(i, b)[k] > uses(i, a)[k]) return false;
      equal = equal && uses(i, b)[k] == uses(i, a)[k];
    }
    if (equal) return b < a;
    return !keep_ties || cost_b < cost_a || b < a;
  }

  /// Uses come in steps of a common divisor above the least, so that a capacity between two steps is the lower one.
  void tighten_capacities() {
    std::vector<std::int64_t> divisor(limits_, 0), least(limits_, 0);
    most_.assign(limits_, 0);
    for (const ProgramItem& item : program_.items)
      for (std::size_t k = 0; k < item.limits.size(); ++k) {
        std::int64_t own = item.options[0].use[k], most = own;
        for (const ProgramOption& o : item.options) {
          own = std::min(own, o.use[k]);
          most = std::max(most, o.use[k]);
        }
        least[index(item.limits[k])] += own;
        most_[index(item.limits[k])] += most;
        for (const ProgramOption& o : item.options)
          divisor[index(item.limits[k])] = std::gcd(divisor[index(item.limits[k])], o.use[k] - own);
      }
    capacity_ = program_.capacity;
    for (std::size_t c = 0; c < limits_; ++c)
      if (divisor[c] > 1 && capacity_[c] >= least[c]) capacity_[c] -= (capacity_[c] - least[c]) % divisor[c];
  }

  Node whole_program(bool keep_ties) const {
    Node n;
    n.slack = capacity_;
    n.multiplier.assign(limits_, 0.0);
    for (int i = 0; i < static_cast<int>(program_.items.size()); ++i) {
      const int count = static_cast<int>(item(i).options.size());
      Bits live;
      for (int a = 0; a < count; ++a) {
        bool dominated = false;
        for (int b = 0; b < count && !dominated; ++b) dominated = b != a && dominates(i, b, a, keep_ties);
        if (!dominated) live.set(a);
      }
      n.items.push_back(i);
      n.live.push_back(live);
    }
    return n;
  }

  // --- Bounds in floating point: they choose multipliers and branches and prove nothing. ---

  /// The relaxation's value at the multipliers; pick_ and gradient_ are its minimiser's options and excess uses.
  double evaluate(const Node& n, const std::vector<double>& multiplier) {
    double value = static_cast<double>(n.cost);
    for (std::size_t c = 0; c < limits_; ++c) {
      gradient_[c] = -static_cast<double>(n.slack[c]);
      value -= multiplier[c] * static_cast<double>(n.slack[c]);
    }
    for (std::size_t j = 0; j < n.items.size(); ++j) {
      const int i = n.items[j];
      const std::vector<int>& own = item(i).limits;
      const double* cost = cost_real_.data() + first_option_[index(i)];
      double best = std::numeric_limits<double>::infinity();
      int chosen = 0;
      for_each(n.live[j], [&](int o) {
        double reduced = cost[o];
        const double* use = uses_real(i, o);
        for (std::size_t k = 0; k < own.size(); ++k) reduced += multiplier[index(own[k])] * use[k];
        if (reduced < best) {
          best = reduced;
          chosen = o;
        }
      });
      value += best;
      pick_[index(i)] = chosen;
      const double* use = uses_real(i, chosen);
      for (std::size_t k = 0; k < own.size(); ++k) gradient_[index(own[k])] += use[k];
    }
    return value;
  }

  /// The multipliers after the best step from them along `direction` (limit, change); they stay at or above 0.
  void line_search(const Node& n, std::vector<double>& multiplier,
                   const std::vector<std::pair<int, double>>& direction) {
    std::vector<double> change(limits_, 0.0);
    double slack = 0;
    double least_step = kNone, greatest_step = -kNone;
    for (const auto& [c, d] : direction) {
      change[index(c)] = d;
      slack += d * static_cast<double>(n.slack[index(c)]);
      if (d > 0) least_step = std::max(least_step, -multiplier[index(c)] / d);
      if (d < 0) greatest_step = std::min(greatest_step, -multiplier[index(c)] / d);
    }
    // Value and slope of every option along the step; items that the direction leaves alone are left out.
    line_value_.clear();
    line_slope_.clear();
    line_end_.clear();
    for (std::size_t j = 0; j < n.items.size(); ++j) {
      const int i = n.items[j];
      const std::vector<int>& own = item(i).limits;
      bool touched = false;
      for (const int c : own) touched = touched || change[index(c)] != 0;
      if (!touched) continue;
      for_each(n.live[j], [&](int o) {
        double value = cost_real_[first_option_[index(i)] + index(o)], slope = 0;
        const double* use = uses_real(i, o);
        for (std::size_t k = 0; k < own.size(); ++k) {
          value += multiplier[index(own[k])] * use[k];
          slope += change[index(own[k])] * use[k];
        }
        line_value_.push_back(value);
        line_slope_.push_back(slope);
      });
      line_end_.push_back(line_value_.size());
    }
    if (line_end_.empty()) return;
    struct Point {
      double step, value, slope;
    };
    const auto at = [&](double step) {
      Point p{step, -step * slack, -slack};
      std::size_t o = 0;
      for (const std::size_t end : line_end_) {
        double best = line_value_[o] + step * line_slope_[o];
        double slope = line_slope_[o];
        for (++o; o < end; ++o) {
          const double value = line_value_[o] + step * line_slope_[o];
          if (value < best) {
            best = value;
            slope = line_slope_[o];
          }
        }
        p.value += best;
        p.slope += slope;
      }
      return p;
    };
    Point low = at(0), high = low;  // low.slope >= 0 >= high.slope once bracketed
    double length = 0;              // a first guess: as far as the multipliers are large, or as costs are to uses
    for (const auto& [c, d] : direction) {
      const double natural = cost_scale_ / scale_[index(c)] / 64;
      const double own = multiplier[index(c)] > natural / 0x1p40 ? multiplier[index(c)] / 8 : natural;
      length = std::max(length, own / std::abs(d));
    }
    if (low.slope > 0) {
      for (double step = length; std::isfinite(step); step *= 4) {
        high = at(std::min(step, greatest_step));
        if (high.slope <= 0 || step >= greatest_step || high.value > 4 * cost_scale_) break;
        low = high;
      }
      if (high.slope > 0) low = high;
    } else if (low.slope < 0) {
      for (double step = length; std::isfinite(step); step *= 4) {
        low = at(std::max(-step, least_step));
        if (low.slope >= 0 || -step <= least_step) break;
        high = low;
      }
      if (low.slope < 0) high = low;
    }
    Point best = low.value >= high.value ? low : high;
    if (low.slope > 0 && high.slope < 0) {
      for (int round = 0; round < 24; ++round) {
        const double step =
            (high.value - low.value + low.slope * low.step - high.slope * high.step) / (low.slope - high.slope);
        if (!(step > low.step && step < high.step)) break;
        const Point p = at(step);
        if (p.value > best.value) best = p;
        const double promised = low.value + low.slope * (step - low.step);
        if (promised - p.value <= 1e-12 * std::abs(promised)) break;
        if (p.slope > 0)
          low = p;
        else if (p.slope < 0)
          high = p;
        else
          break;
      }
    }
    for (const auto& [c, d] : direction)
      multiplier[index(c)] = std::clamp(multiplier[index(c)] + best.step * d, 0.0, greatest_[index(c)]);
  }

  /// Rounds of line searches from n.multiplier.
  void coordinate_ascent(Node& n, int rounds) {
    double value = evaluate(n, n.multiplier);
    std::vector<double> before = n.multiplier;
    for (int round = 0; round < rounds; ++round) {
      for (std::size_t c = 0; c < limits_; ++c) line_search(n, n.multiplier, {{static_cast<int>(c), 1.0}});
      std::vector<std::pair<int, double>> along;
      for (std::size_t c = 0; c < limits_; ++c)
        if (n.multiplier[c] != before[c]) along.emplace_back(static_cast<int>(c), n.multiplier[c] - before[c]);
      if (round > 0 && along.size() > 1) line_search(n, n.multiplier, along);
      before = n.multiplier;
      const double next = evaluate(n, n.multiplier);
      consider_pick(n);
      if (next - value <= 1e-7 * std::abs(next) || budget_.out_of_time()) break;
      value = next;
    }
  }

  /// Subgradient steps from n.multiplier, which becomes the best met.
  void subgradient_ascent(Node& n, int steps, int patience) {
    double theta = 1;
    std::vector<double> multiplier = n.multiplier;
    double best = kNone;
    int stalled = 0;
    for (const int i : n.items) seen_[index(i)] = Bits();
    for (int step = 0; step < steps; ++step) {
      const double value = evaluate(n, multiplier);
      for (const int i : n.items) seen_[index(i)].set(pick_[index(i)]);
      consider_pick(n);
      if (value > best) {
        best = value;
        n.multiplier = multiplier;
        stalled = 0;
      } else if (++stalled >= patience) {
        theta /= 2;
        stalled = 0;
        multiplier = n.multiplier;
        continue;
      }
      if (best >= static_cast<double>(cutoff_)) break;
      double norm = 0;
      for (std::size_t c = 0; c < limits_; ++c)
        if (multiplier[c] > 0 || gradient_[c] > 0) norm += gradient_[c] / scale_[c] * (gradient_[c] / scale_[c]);
      if (norm == 0 || (step % 16 == 15 && budget_.out_of_time())) break;
      const double target =
          best_.empty() ? best + 0.02 * (static_cast<double>(cutoff_) - best) + 1 : static_cast<double>(cutoff_);
      const double length = theta * (target - value) / norm;
      for (std::size_t c = 0; c < limits_; ++c)
        multiplier[c] = std::clamp(multiplier[c] + length * gradient_[c] / scale_[c] / scale_[c], 0.0, greatest_[c]);
    }
  }

  // --- Choices ---

  /// Takes the minimiser of the last evaluate() if it is within the limits and better than the best known.
  void consider_pick(const Node& n) {
    for (std::size_t c = 0; c < limits_; ++c)
      if (gradient_[c] > 0) return;
    std::int64_t cost = n.cost;
    for (const int i : n.items) cost += cost_[first_option_[index(i)] + index(pick_[index(i)])];
    if (cost < cutoff_) take(n, cost, pick_);
  }

  void take(const Node& n, std::int64_t cost, const std::vector<int>& option_of) {
    cutoff_ = cost;
    best_.assign(program_.items.size(), 0);
    for (int t = n.trail; t >= 0; t = trail_[index(t)].before)
      best_[index(trail_[index(t)].item)] = trail_[index(t)].option;
    for (const int i : n.items) best_[index(i)] = option_of[index(i)];
    improved_ = true;
  }

  /// From the minimiser at n.multiplier: the moves that mend its excess at the least reduced cost, then those that fit
  /// and lower the cost, alone and in pairs.
  void repair(const Node& n) {
    evaluate(n, n.multiplier);
    std::vector<int> option = pick_;
    std::vector<std::int64_t> excess(limits_);
    for (std::size_t c = 0; c < limits_; ++c) excess[c] = -n.slack[c];
    std::int64_t cost = n.cost;
    const auto apply = [&](int i, int from, int to) {
      for (std::size_t k = 0; k < item(i).limits.size(); ++k)
        excess[index(item(i).limits[k])] += uses(i, to)[k] - (from >= 0 ? uses(i, from)[k] : 0);
      cost +=
          cost_[first_option_[index(i)] + index(to)] - (from >= 0 ? cost_[first_option_[index(i)] + index(from)] : 0);
      option[index(i)] = to;
    };
    for (const int i : n.items) apply(i, -1, option[index(i)]);
    const auto violation_change = [&](int i, int to) {
      double change = 0;
      const std::int64_t* now = uses(i, option[index(i)]);
      const std::int64_t* then = uses(i, to);
      for (std::size_t k = 0; k < item(i).limits.size(); ++k) {
        const std::size_t c = index(item(i).limits[k]);
        const std::int64_t after = excess[c] + then[k] - now[k];
        change +=
            static_cast<double>(std::max<std::int64_t>(after, 0) - std::max<std::int64_t>(excess[c], 0)) / scale_[c];
      }
      return change;
    };
    const auto reduced_change = [&](int i, int to) {
      const int from = option[index(i)];
      double change =
          cost_real_[first_option_[index(i)] + index(to)] - cost_real_[first_option_[index(i)] + index(from)];
      for (std::size_t k = 0; k < item(i).limits.size(); ++k)
        change += n.multiplier[index(item(i).limits[k])] * (uses_real(i, to)[k] - uses_real(i, from)[k]);
      return change;
    };
    const auto violated = [&] {
      return std::any_of(excess.begin(), excess.end(), [](std::int64_t e) { return e > 0; });
    };
    struct Move {
      double key;
      int item, to;
    };
    std::vector<Move> moves;
    const auto keep_best = [&moves](std::size_t count) {
      const auto less = [](const Move& a, const Move& b) {
        return a.key != b.key ? a.key < b.key : a.item != b.item ? a.item < b.item : a.to < b.to;
      };
      if (moves.size() > count) {
        std::nth_element(moves.begin(), moves.begin() + static_cast<std::ptrdiff_t>(count), moves.end(), less);
        moves.resize(count);
      }
      std::sort(moves.begin(), moves.end(), less);
    };
    for (int round = 0; round < 40 && violated(); ++round) {
      moves.clear();
      for (std::size_t j = 0; j < n.items.size(); ++j)
        for_each(n.live[j], [&](int o) {
          const int i = n.items[j];
          if (o == option[index(i)]) return;
          const double change = violation_change(i, o);
          if (change < 0) moves.push_back({std::max(reduced_change(i, o), 0.0) / -change, i, o});
        });
      if (moves.empty()) return;
      keep_best(4096);
      for (const Move& m : moves)
        if (m.to != option[index(m.item)] && violation_change(m.item, m.to) < 0) {
          apply(m.item, option[index(m.item)], m.to);
          if (!violated()) break;
        }
    }
    if (violated()) return;
    const auto fits = [&](int i, int to) {
      for (std::size_t k = 0; k < item(i).limits.size(); ++k)
        if (excess[index(item(i).limits[k])] + uses(i, to)[k] - uses(i, option[index(i)])[k] > 0) return false;
      return true;
    };
    const auto cost_change = [&](int i, int to) {
      return cost_[first_option_[index(i)] + index(to)] - cost_[first_option_[index(i)] + index(option[index(i)])];
    };
    for (int round = 0; round < 40; ++round) {
      moves.clear();
      for (std::size_t j = 0; j < n.items.size(); ++j)
        for_each(n.live[j], [&](int o) {
          const int i = n.items[j];
          if (cost_change(i, o) < 0 && fits(i, o)) moves.push_back({reduced_change(i, o), i, o});
        });
      if (moves.empty()) break;
      keep_best(4096);
      for (const Move& m : moves)
        if (cost_change(m.item, m.to) < 0 && fits(m.item, m.to)) apply(m.item, option[index(m.item)], m.to);
    }
    // Pairs among the moves of least reduced cost.
    for (int round = 0; round < 60; ++round) {
      moves.clear();
      for (std::size_t j = 0; j < n.items.size(); ++j)
        for_each(n.live[j], [&](int o) {
          if (o != option[index(n.items[j])]) moves.push_back({reduced_change(n.items[j], o), n.items[j], o});
        });
      keep_best(192);
      std::int64_t best_change = 0;
      std::size_t best_a = 0, best_b = 0;
      for (std::size_t a = 0; a < moves.size(); ++a)
        for (std::size_t b = a + 1; b < moves.size(); ++b) {
          if (moves[a].item == moves[b].item) continue;
          const std::int64_t change = cost_change(moves[a].item, moves[a].to) + cost_change(moves[b].item, moves[b].to);
          if (change >= best_change) continue;
          const int from = option[index(moves[a].item)];
          apply(moves[a].item, from, moves[a].to);
          bool both = fits(moves[b].item, moves[b].to);
          // Limits that only the first touches.
          for (const int c : item(moves[a].item).limits) {
            std::int64_t after = excess[index(c)];
            for (std::size_t k = 0; k < item(moves[b].item).limits.size(); ++k)
              if (item(moves[b].item).limits[k] == c)
                after += uses(moves[b].item, moves[b].to)[k] - uses(moves[b].item, option[index(moves[b].item)])[k];
            both = both && after <= 0;
          }
          apply(moves[a].item, moves[a].to, from);
          if (both) {
            best_change = change;
            best_a = a;
            best_b = b;
          }
        }
      if (best_change == 0) break;
      for (const std::size_t m : {best_a, best_b}) apply(moves[m].item, option[index(moves[m].item)], moves[m].to);
    }
    if (cost < cutoff_) take(n, cost, option);
  }

  // --- Bounds in integers ---

  std::vector<Wide> numerators(const std::vector<double>& multiplier) const {
    std::vector<Wide> num(limits_);
    for (std::size_t c = 0; c < limits_; ++c)
      num[c] = static_cast<Wide>(std::ldexp(std::min(multiplier[c], greatest_[c]), kShift));
    return num;
  }

  /// The relaxation's value times kDen; diff_ becomes every live option's reduced cost above its item's least.
  Wide exact_bound(const Node& n, const std::vector<Wide>& num) {
    Wide total = static_cast<Wide>(n.cost) * kDen;
    for (std::size_t c = 0; c < limits_; ++c) total -= num[c] * n.slack[c];
    for (std::size_t j = 0; j < n.items.size(); ++j) {
      const int i = n.items[j];
      const std::vector<int>& own = item(i).limits;
      Wide* reduced = diff_.data() + first_option_[index(i)];
      bool any = false;
      Wide least = 0;
      for_each(n.live[j], [&](int o) {
        Wide value = static_cast<Wide>(cost_[first_option_[index(i)] + index(o)]) * kDen;
        for (std::size_t k = 0; k < own.size(); ++k) value += num[index(own[k])] * uses(i, o)[k];
        reduced[o] = value;
        if (!any || value < least) least = value;
        any = true;
      });
      for_each(n.live[j], [&](int o) { reduced[o] -= least; });
      total += least;
    }
    return total;
  }

  /// Nothing of that bound can be better than the best known.
  bool hopeless(Wide bound) const { return bound > static_cast<Wide>(cutoff_ - 1) * kDen; }

  void decide(Node& n, int i, int o) {
    n.cost += cost_[first_option_[index(i)] + index(o)];
    for (std::size_t k = 0; k < item(i).limits.size(); ++k) n.slack[index(item(i).limits[k])] -= uses(i, o)[k];
    trail_.push_back({n.trail, i, o});
    n.trail = static_cast<int>(trail_.size()) - 1;
  }

  void decide_singles(Node& n) {
    std::size_t kept = 0;
    for (std::size_t j = 0; j < n.items.size(); ++j) {
      if (is_single(n.live[j])) {
        decide(n, n.items[j], lowest(n.live[j]));
      } else {
        n.items[kept] = n.items[j];
        n.live[kept++] = n.live[j];
      }
    }
    n.items.resize(kept);
    n.live.resize(kept);
  }

  /// Drops options that no completion within the limits can take. False when there is none at all.
  bool propagate(Node& n) {
    for (bool changed = true; changed;) {
      changed = false;
      decide_singles(n);
      std::vector<std::int64_t> room = n.slack;  // beyond the least that the undecided use
      for (std::size_t j = 0; j < n.items.size(); ++j) {
        const int i = n.items[j];
        for (std::size_t k = 0; k < item(i).limits.size(); ++k) {
          std::int64_t least = std::numeric_limits<std::int64_t>::max();
          for_each(n.live[j], [&](int o) { least = std::min(least, uses(i, o)[k]); });
          room[index(item(i).limits[k])] -= least;
        }
      }
      for (const std::int64_t r : room)
        if (r < 0) return false;
      for (std::size_t j = 0; j < n.items.size(); ++j) {
        const int i = n.items[j];
        for (std::size_t k = 0; k < item(i).limits.size(); ++k) {
          std::int64_t least = std::numeric_limits<std::int64_t>::max();
          for_each(n.live[j], [&](int o) { least = std::min(least, uses(i, o)[k]); });
          Bits dead;
          for_each(n.live[j], [&](int o) {
            if (uses(i, o)[k] - least > room[index(item(i).limits[k])]) dead.set(o);
          });
          if (!is_empty(dead)) {
            take_out(n.live[j], dead);
            changed = true;
          }
        }
      }
    }
    return true;
  }

  /// More steps where one is cheap.
  int root_steps(const Node& root) const {
    std::size_t options = 0;
    for (const Bits& live : root.live) options += count_of(live);
    return static_cast<int>(std::clamp<std::size_t>(20000000 / (options + 1), 60, 2000));
  }

  /// The root's multipliers, bound and first choices.
  void root_certificate(Node& root, Certificate& certificate) {
    coordinate_ascent(root, 12);
    repair(root);
    if (!budget_.out_of_time()) {
      subgradient_ascent(root, root_steps(root), limits_ > 8 ? 12 : 3);
      coordinate_ascent(root, 3);
      repair(root);
    }
    certificate.num = numerators(root.multiplier);
    certificate.den = static_cast<std::int64_t>(kDen);
    root.bound = exact_bound(root, certificate.num);
    lower_bound_ = std::min(ceil_div(root.bound, kDen), cutoff_);
    // The certificate is about the capacities as given.
    root_bound_ = root.bound;
    for (std::size_t c = 0; c < limits_; ++c) root_bound_ -= certificate.num[c] * (program_.capacity[c] - capacity_[c]);
    certificate.bound = ceil_div(root_bound_, kDen);
    root_multiplier_ = root.multiplier;
    report(root.bound);
  }

  /// Narrows a node by limits and bounds. False when nothing below it can be better than the best known.
  bool settle(Node& n, bool is_root) {
    for (int round = 0;; ++round) {
      if (!propagate(n)) return false;
      if (n.items.empty()) {
        if (n.cost < cutoff_) take(n, n.cost, pick_);
        return false;
      }
      if (!is_root) subgradient_ascent(n, round == 0 ? 14 : 6, 3);
      const Wide bound = exact_bound(n, numerators(n.multiplier));
      n.bound = std::max(n.bound, bound);
      if (hopeless(n.bound)) return false;
      bool dropped = false, single = false;
      for (std::size_t j = 0; j < n.items.size(); ++j) {
        const Wide* above = diff_.data() + first_option_[index(n.items[j])];
        Bits dead;
        for_each(n.live[j], [&](int o) {
          if (hopeless(bound + above[o])) dead.set(o);
        });
        if (is_empty(dead)) continue;
        dropped = true;
        take_out(n.live[j], dead);
        single = single || is_single(n.live[j]);
      }
      if (!dropped || (!single && round > 0) || round == 8) return true;
      is_root = false;
    }
  }

  /// The undecided item whose minimisers differed most in priced uses while the multipliers moved, else the one whose
  /// second best option is nearest.
  std::size_t branch_item(const Node& n) const {
    std::size_t best = 0;
    double best_score = kNone;
    for (std::size_t j = 0; j < n.items.size(); ++j) {
      const int i = n.items[j];
      const Bits seen = common(seen_[index(i)], n.live[j]);
      double score = 0;
      if (!is_single(seen)) {
        double lo = -kNone, hi = kNone;
        for_each(seen, [&](int o) {
          const double cost = cost_real_[first_option_[index(i)] + index(o)];
          lo = std::min(lo, cost);
          hi = std::max(hi, cost);
        });
        score = 1 + hi - lo;
      } else {
        double second = -kNone;
        for_each(n.live[j], [&](int o) {
          const Wide above = diff_[first_option_[index(i)] + index(o)];
          if (above > 0) second = std::min(second, static_cast<double>(above));
        });
        score = -second;
      }
      if (score > best_score) {
        best_score = score;
        best = j;
      }
    }
    return best;
  }

  void branch(const Node& n, std::vector<Node>& open) {
    // settle() may have narrowed the node after its last bound.
    const Wide bound = exact_bound(n, numerators(n.multiplier));
    const std::size_t at = branch_item(n);
    const int i = n.items[at];
    std::vector<std::pair<Wide, int>> children;
    for_each(n.live[at], [&](int o) {
      const Wide child = std::max(n.bound, bound + diff_[first_option_[index(i)] + index(o)]);
      if (!hopeless(child)) children.emplace_back(child, o);
    });
    std::stable_sort(children.begin(), children.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    for (const auto& [child_bound, o] : children) {
      Node child = n;
      child.items.erase(child.items.begin() + static_cast<std::ptrdiff_t>(at));
      child.live.erase(child.live.begin() + static_cast<std::ptrdiff_t>(at));
      child.bound = child_bound;
      decide(child, i, o);
      open.push_back(std::move(child));
    }
  }

  /// Depth first over the open nodes. False when a limit or the gap stopped it, with lower_bound_ set; true when none
  /// is left, or with `any` as soon as one better choice is found.
  bool search(std::vector<Node>& open, bool any) {
    bool first = true;
    while (!open.empty()) {
      if (!any && (first || improved_ || nodes_ % 256 == 0)) {
        Wide least = static_cast<Wide>(cutoff_) * kDen;
        for (const Node& n : open) least = std::min(least, n.bound);
        lower_bound_ = std::max(lower_bound_, ceil_div(least, kDen));
        if (improved_) report(least);
        improved_ = false;
        if (!best_.empty() &&
            static_cast<double>(cutoff_ - lower_bound_) <= budget_.gap * static_cast<double>(cutoff_) &&
            cutoff_ != lower_bound_)
          return false;
      }
      if (budget_.nodes_left <= 0 || (nodes_ % 16 == 0 && budget_.out_of_time())) {
        Wide least = static_cast<Wide>(cutoff_) * kDen;
        for (const Node& n : open) least = std::min(least, n.bound);
        if (!any) lower_bound_ = std::max(lower_bound_, ceil_div(least, kDen));
        return false;
      }
      Node n = std::move(open.back());
      open.pop_back();
      if (hopeless(n.bound)) continue;
      ++nodes_;
      budget_.nodes_left -= 1 + static_cast<std::int64_t>(n.items.size() / kItemsPerCharge);
      if (settle(n, first && !any)) {
        if (nodes_ % 64 == 0) repair(n);
        if (!hopeless(n.bound)) branch(n, open);
      }
      first = false;
      if (any && improved_) return true;
    }
    return true;
  }

  /// Puts the lexicographically first optimal choice into best_. False when the node limit ended the search for it.
  bool first_in_order() {
    const std::int64_t least = cutoff_;
    cutoff_ = least + 1;  // now choices that cost as much are better than the best known
    Node n = whole_program(true);
    n.multiplier = root_multiplier_;
    std::vector<int> found = best_;
    bool complete = true;
    // Narrowed once by limits and the root's bound, with its multipliers.
    if (!propagate(n)) return false;
    if (!n.items.empty()) {
      const Wide bound = exact_bound(n, numerators(n.multiplier));
      for (std::size_t j = 0; j < n.items.size(); ++j) {
        Bits dead;
        for_each(n.live[j], [&](int o) {
          if (hopeless(bound + diff_[first_option_[index(n.items[j])] + index(o)])) dead.set(o);
        });
        take_out(n.live[j], dead);
      }
      n.bound = bound;
      if (!propagate(n)) return false;
    }
    while (!n.items.empty() && complete) {
      const int i = n.items.front();
      const Bits live = n.live.front();
      n.items.erase(n.items.begin());
      n.live.erase(n.live.begin());
      const int known = found[index(i)];
      for_each(below(live, known), [&](int o) {
        if (!complete || found[index(i)] < known) return;
        Node child = n;
        decide(child, i, o);
        std::vector<Node> open;
        open.push_back(std::move(child));
        cutoff_ = least + 1;
        improved_ = false;
        if (!search(open, true))
          complete = false;
        else if (improved_)
          found = best_;
      });
      decide(n, i, found[index(i)]);
    }
    cutoff_ = least;
    best_ = found;
    return complete;
  }

  void report(Wide bound) const {
    if (!progress_) return;
    SearchState state;
    if (!best_.empty()) state.cost = cutoff_;
    state.bound = std::min(ceil_div(bound, kDen), cutoff_);
    state.bound = std::max(state.bound, lower_bound_);
    state.nodes = nodes_;
    progress_(state);
  }

  const ChoiceProgram& program_;
  Budget& budget_;
  std::function<void(const SearchState&)> progress_;
  std::size_t limits_;
  std::vector<std::int64_t> most_;      ///< that can be used of every limit
  std::vector<std::int64_t> capacity_;  ///< of every limit, as tight as choices can use it
  std::vector<std::size_t> first_option_, first_use_;
  std::vector<std::int64_t> cost_, use_;
  std::vector<double> cost_real_, use_real_;
  std::vector<double> scale_;     ///< of every limit: what choices can change of its use
  std::vector<double> greatest_;  ///< multiplier of every limit
  double cost_scale_ = 0;         ///< above every cost
  std::int64_t cutoff_ = 0;       ///< cost of the best choice known; above every cost while there is none
  Choices best_;
  bool improved_ = false;
  std::int64_t nodes_ = 0;
  std::int64_t lower_bound_ = std::numeric_limits<std::int64_t>::min();
  Wide root_bound_ = 0;
  std::vector<double> root_multiplier_;
  std::vector<Trail> trail_;
  // Of the last evaluation.
  std::vector<int> pick_;
  std::vector<double> gradient_;
  std::vector<Bits> seen_;
  std::vector<Wide> diff_;
  std::vector<double> line_value_, line_slope_;
  std::vector<std::size_t> line_end_;
};

/// Items that share a limit, directly or through others, are in one part; items without limits are parts of one.
std::vector<std::vector<int>> parts_of(const ChoiceProgram& program) {
  std::vector<int> root(program.items.size());
  std::iota(root.begin(), root.end(), 0);
  const auto find = [&root](int i) {
    while (root[index(i)] != i) i = root[index(i)] = root[index(root[index(i)])];
    return i;
  };
  std::vector<int> user(program.capacity.size(), -1);
  for (int i = 0; i < static_cast<int>(program.items.size()); ++i)
    for (const int c : program.items[index(i)].limits) {
      if (user[index(c)] < 0) user[index(c)] = i;
      const int a = find(user[index(c)]), b = find(i);
      root[index(std::max(a, b))] = std::min(a, b);
    }
  std::vector<std::vector<int>> parts;
  std::vector<int> part_of(program.items.size(), -1);
  for (int i = 0; i < static_cast<int>(program.items.size()); ++i) {
    int& part = part_of[index(find(i))];
    if (part < 0) {
      part = static_cast<int>(parts.size());
      parts.emplace_back();
    }
    parts[index(part)].push_back(i);
  }
  return parts;
}

/// An item of more than a word's options without those that another makes superfluous, so that neither the least cost
/// nor the lexicographically first choice changes; `kept` says which are left. What Lagrangian multipliers prove is the
/// same: a dropped option is never the least.
ProgramItem without_dominated(const ProgramItem& item, std::vector<int>& kept) {
  std::vector<int> order(item.options.size());
  std::iota(order.begin(), order.end(), 0);
  kept = order;
  if (order.size() <= static_cast<std::size_t>(OneWord::kMost)) return item;
  const auto cost = [&](int o) { return item.options[index(o)].cost; };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return cost(a) < cost(b); });
  // One that costs less, or as much and comes first, and uses no more of anything. The order puts it before.
  kept.clear();
  for (const int a : order) {
    const std::vector<std::int64_t>& use = item.options[index(a)].use;
    const bool dominated = std::any_of(kept.begin(), kept.end(), [&](int b) {
      const std::vector<std::int64_t>& other = item.options[index(b)].use;
      for (std::size_t k = 0; k < use.size(); ++k)
        if (other[k] > use[k]) return false;
      return true;
    });
    if (!dominated) kept.push_back(a);
  }
  std::sort(kept.begin(), kept.end());
  ProgramItem less;
  less.limits = item.limits;
  for (const int o : kept) less.options.push_back(item.options[index(o)]);
  return less;
}

}  // namespace

ProgramSolution solve_program(const ChoiceProgram& program, const SearchOptions& options) {
  check_program(program);
  Budget budget{options.node_limit, options.gap, std::nullopt};
  if (options.time_limit_s)
    budget.deadline = Clock::now() +
                      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*options.time_limit_s));
  const std::vector<std::vector<int>> parts = parts_of(program);
  ProgramSolution whole;
  whole.status = SearchStatus::kOptimal;
  whole.first = true;
  whole.choices.assign(program.items.size(), 0);
  whole.certificate.num.assign(program.capacity.size(), 0);
  whole.certificate.den = static_cast<std::int64_t>(kDen);
  Wide certified = 0;
  // A limit that no item has still holds or does not.
  std::vector<bool> used(program.capacity.size(), false);
  for (const ProgramItem& item : program.items)
    for (const int c : item.limits) used[index(c)] = true;
  for (std::size_t c = 0; c < used.size(); ++c)
    if (!used[c] && program.capacity[c] < 0) whole.status = SearchStatus::kInfeasible;

  std::vector<std::int64_t> least_after(parts.size() + 1, 0);  // what the parts not yet solved cost at least
  for (std::size_t p = parts.size(); p-- > 0;) {
    least_after[p] = least_after[p + 1];
    for (const int i : parts[p]) {
      std::int64_t least = std::numeric_limits<std::int64_t>::max();
      for (const ProgramOption& o : program.items[index(i)].options) least = std::min(least, o.cost);
      least_after[p] += least;
    }
  }
  for (std::size_t p = 0; p < parts.size() && whole.status != SearchStatus::kInfeasible; ++p) {
    ChoiceProgram part;
    std::vector<int> limit_of(program.capacity.size(), -1), limits;
    std::vector<std::vector<int>> options_of;
    std::size_t most = 0;
    for (const int i : parts[p]) {
      options_of.emplace_back();
      part.items.push_back(without_dominated(program.items[index(i)], options_of.back()));
      most = std::max(most, options_of.back().size());
      for (int& c : part.items.back().limits) {
        if (limit_of[index(c)] < 0) {
          limit_of[index(c)] = static_cast<int>(limits.size());
          limits.push_back(c);
          part.capacity.push_back(program.capacity[index(c)]);
        }
        c = limit_of[index(c)];
      }
    }
    std::function<void(const SearchState&)> progress;
    if (options.progress)
      progress = [&, last = p + 1 == parts.size()](const SearchState& s) {
        SearchState sum = s;
        sum.bound += whole.bound + least_after[p + 1];
        if (s.cost && last && whole.status != SearchStatus::kUnknown)
          sum.cost = whole.cost + *s.cost;
        else
          sum.cost.reset();
        sum.nodes += whole.nodes;
        options.progress(sum);
      };
    if (most > static_cast<std::size_t>(ManyBits::kMost))
      throw base::InputError("moesaic map: --formats: got " + std::to_string(most) +
                             " choices of one expert that none other makes superfluous, expected at most " +
                             std::to_string(ManyBits::kMost) + ": name fewer formats, fewer classes, or --tie gate,up");
    ProgramSolution s;
    const auto solve_part = [&](auto solver) {
      s = solver.run();
      certified += solver.root_bound();
    };
    if (most <= static_cast<std::size_t>(OneWord::kMost))
      solve_part(PartSolver<OneWord>(part, budget, progress));
    else
      solve_part(PartSolver<ManyBits>(part, budget, progress));
    whole.nodes += s.nodes;
    whole.bound += s.bound;
    for (std::size_t c = 0; c < limits.size(); ++c) whole.certificate.num[index(limits[c])] = s.certificate.num[c];
    whole.first = whole.first && s.first;
    switch (s.status) {
      case SearchStatus::kInfeasible:
        whole.status = SearchStatus::kInfeasible;
        break;
      case SearchStatus::kUnknown:
        whole.status = SearchStatus::kUnknown;
        break;
      case SearchStatus::kFeasible:
        if (whole.status == SearchStatus::kOptimal) whole.status = SearchStatus::kFeasible;
        [[fallthrough]];
      case SearchStatus::kOptimal:
        whole.cost += s.cost;
        for (std::size_t k = 0; k < parts[p].size(); ++k)
          whole.choices[index(parts[p][k])] = options_of[k][index(s.choices[k])];
        break;
    }
  }
  whole.certificate.bound = ceil_div(certified, kDen);
  if (whole.status == SearchStatus::kInfeasible || whole.status == SearchStatus::kUnknown) {
    whole.choices.clear();
    whole.cost = 0;
    whole.first = false;
    if (whole.status == SearchStatus::kInfeasible) whole.bound = 0;
  }
  return whole;
}

}  // namespace moesaic::mapping
