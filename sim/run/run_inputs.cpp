#include "sim/run/run_inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "base/spill_file.h"
#include "reference/network/forward.h"
#include "reference/network/quantised_experts.h"
#include "reference/numerics/combine.h"
#include "reference/quantise/expert.h"
#include "workloads/checkpoint.h"
#include "workloads/routing_slice.h"
#include "workloads/tokens.h"

namespace moesaic::run {

namespace {

using workloads::Plan;
using workloads::RoutingSlice;
using workloads::WorkloadFile;
using workloads::WorkloadSlice;

/// Two float passes reproduce each other's router logits to 1e-2: closer choices may differ.
constexpr float kNearTie = 2e-2F;
/// 65535.5 / 32768: greater ones would saturate.
constexpr double kMostRouterWeight = 1.99998;
/// Magnitudes that drawn weights and activations of deviation 1 lead to.
constexpr quantise::LayerRanges kDrawnRanges{5, 5, 10, 10};

/// Where weights and activations in integers come from.
class Source {
 public:
  virtual ~Source() = default;
  virtual numerics::ExpertWeights make(int layer, int expert, const numerics::ExpertFormats& format) const = 0;
  virtual int x_exp(int layer) const = 0;
  virtual int sigma_h(int layer) const = 0;

  numerics::ExpertFormats format(const WorkloadFile& workload, int layer, int expert) const {
    if (expert == shared_expert(workload.network)) return *workload.whole.shared_experts;
    if (expert == dense_expert(workload.network)) return *workload.whole.dense_layers;
    return plan.at(layer, expert).format;
  }

  /// Makes these (layer, expert) pairs, to be had from get().
  void prepare(const WorkloadFile& workload, const std::set<std::pair<int, int>>& experts,
               const InputOptions& options) {
    const std::vector<std::pair<int, int>> list(experts.begin(), experts.end());
    std::vector<numerics::ExpertWeights> made(list.size());
    std::size_t done = 0;
    network::for_each_window(
        list.size(), options.threads,
        [&](std::size_t i) {
          made[i] = make(list[i].first, list[i].second, format(workload, list[i].first, list[i].second));
        },
        [&](std::size_t) {
          if (options.progress) options.progress(++done, list.size());
        });
    for (std::size_t i = 0; i < list.size(); ++i) kept_.emplace(list[i], std::move(made[i]));
  }
  const numerics::ExpertWeights& get(int layer, int expert) const { return kept_.at({layer, expert}); }

  Plan plan;

 private:
  std::map<std::pair<int, int>, numerics::ExpertWeights> kept_;
};

/// Width of any expert's hidden rows.
std::int64_t intermediate_of(const workloads::Network& network, int expert) {
  if (expert == shared_expert(network)) return network.shared_intermediate;
  if (expert == dense_expert(network)) return network.dense_intermediate;
  return network.expert_intermediate;
}

class CheckpointSource : public Source {
 public:
  CheckpointSource(const workloads::Checkpoint& of, unsigned threads)
      : checkpoint(of), forward(checkpoint), threads_(threads) {}
  numerics::ExpertWeights make(int layer, int expert, const numerics::ExpertFormats& format) const override {
    return *store_->get(layer, expert, format);
  }
  int x_exp(int layer) const override { return store_->scales(layer).x_exp; }
  int sigma_h(int layer) const override { return store_->scales(layer).sigma_h(); }
  /// Once the plan is known.
  void open_store(int act_bits) {
    store_ = std::make_unique<network::ExpertStore>(forward, checkpoint, plan.group_size, threads_, act_bits,
                                                    plan.quantiser);
  }

  workloads::Checkpoint checkpoint;
  network::Forward forward;

 private:
  unsigned threads_;
  std::unique_ptr<network::ExpertStore> store_;
};

class DrawnSource : public Source {
 public:
  DrawnSource(workloads::Network network, std::uint64_t seed, int act_bits)
      : network_(std::move(network)),
        rng_(seed),
        act_bits_(act_bits),
        scales_(quantise::choose_scales(kDrawnRanges, act_bits)) {}
  numerics::ExpertWeights make(int layer, int expert, const numerics::ExpertFormats& format) const override {
    const std::int64_t hidden = network_.hidden, width = intermediate_of(network_, expert);
    const bool routed = expert < network_.experts;
    base::Rng rng = routed ? rng_.stream("weights", static_cast<std::uint64_t>(layer * network_.experts + expert))
                           : rng_.stream(expert_name(network_, expert), static_cast<std::uint64_t>(layer));
    const auto draw = [&rng](std::int64_t rows, std::int64_t k) {
      std::vector<float> w(static_cast<std::size_t>(rows * k));
      for (float& value : w) value = static_cast<float>(rng.normal() / std::sqrt(static_cast<double>(k)));
      return w;
    };
    const std::vector<float> gate = draw(width, hidden), up = draw(width, hidden), down = draw(hidden, width);
    return quantise::quantise_expert(
        gate.data(), up.data(), down.data(), hidden, width, format, plan.group_size, act_bits_, scales_,
        fmt::format("{}: layer {}, expert {}", network_.name, layer, expert_name(network_, expert)));
  }
  int x_exp(int) const override { return scales_.x_exp; }
  int sigma_h(int) const override { return scales_.sigma_h(); }

 private:
  workloads::Network network_;
  base::Rng rng_;
  int act_bits_;
  quantise::LayerScales scales_;
};

/// Collects what the experts of the selected layers read at the selected positions of one request.
class Collector : public network::MoeObserver {
 public:
  struct Row {
    std::vector<float> x, weights, logits;
    std::vector<std::uint32_t> chosen;
  };
  Collector(const std::vector<std::uint32_t>& layers, const std::map<std::uint64_t, std::size_t>& token_of,
            std::map<std::pair<std::uint32_t, std::size_t>, Row>& rows)
      : layers_(layers), token_of_(token_of), rows_(rows) {}
  void on_moe(std::size_t, const network::MoeBatch& batch) override {
    const auto layer = static_cast<std::uint32_t>(batch.layer);
    if (!std::binary_search(layers_.begin(), layers_.end(), layer)) return;
    for (const auto& [position, token] : token_of_) {
      Row& row = rows_[{layer, token}];
      const auto part = [position = position](const auto* values, std::size_t width) {
        return std::vector<std::decay_t<decltype(*values)>>(values + position * width, values + (position + 1) * width);
      };
      row.x = part(batch.x, batch.hidden);
      row.logits = part(batch.router_logits, batch.experts);
      row.chosen = part(batch.chosen, batch.top_k);
      row.weights = part(batch.weights, batch.top_k);
    }
  }

 private:
  const std::vector<std::uint32_t>& layers_;
  const std::map<std::uint64_t, std::size_t>& token_of_;
  std::map<std::pair<std::uint32_t, std::size_t>, Row>& rows_;
};

std::string list(const std::vector<std::uint32_t>& experts) {
  std::string text;
  for (const std::uint32_t e : experts) text += (text.empty() ? "" : ";") + std::to_string(e);
  return text;
}

/// Holds one row of the trace to the float pass. True when they chose differently, on a near-tie.
bool differs_on_near_tie(const WorkloadFile& workload, const workloads::SliceToken& token, std::uint32_t layer,
                         const std::vector<std::uint32_t>& traced, const Collector::Row& found) {
  std::vector<std::uint32_t> a = traced, b = found.chosen, missed, instead;
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  std::set_difference(b.begin(), b.end(), a.begin(), a.end(), std::back_inserter(missed));
  std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(instead));
  if (missed.empty() && instead.empty()) return false;
  for (const std::uint32_t m : missed)
    for (const std::uint32_t i : instead)
      if (found.logits[m] - found.logits[i] > kNearTie)
        throw base::ConfigError(workload.path, "tokens",
                                fmt::format("a text whose request {} position {} goes to experts {} at layer {}",
                                            token.request, token.position, list(found.chosen), layer),
                                fmt::format("the text of {}, where it goes to {}", workload.trace, list(traced)));
  return true;
}

Plan choose_plan(const InputOptions& options, const WorkloadFile& workload, const workloads::Checkpoint* checkpoint,
                 InputFacts& facts) {
  const std::string name = options.plan.empty() ? "int8" : options.plan;
  const std::string hash = checkpoint != nullptr ? checkpoint->hash() : std::string();
  if (auto named = workloads::named_plan(name, workload.network, hash)) {
    if (options.group_size) named->group_size = *options.group_size;
    named->class_shares.assign(options.classes, 1.0 / static_cast<double>(std::max<std::size_t>(options.classes, 1)));
    facts.plan = name + " everywhere, groups of " + std::to_string(named->group_size) +
                 (options.plan.empty() ? ", no plan given" : "");
    if (options.check_plan) options.check_plan(*named, false);
    return *std::move(named);
  }
  Plan plan = workloads::read_plan(name);
  if (checkpoint == nullptr)
    throw base::ConfigError(workload.path, "model", "'" + workload.model + "', a shape without weights",
                            "a model folder, which the plan " + name + " was made for, or a format as --plan");
  workloads::check_plan(plan, name, checkpoint->network(), checkpoint->hash());
  if (options.check_plan) options.check_plan(plan, true);
  facts.plan = name;
  facts.plan_hash = base::sha256_file(name);
  return plan;
}

/// What the float pass found for each (layer, token of the slice), in a temporary file.
class FloatRows {
 public:
  FloatRows(const workloads::Network& network, std::size_t layers)
      : hidden_(static_cast<std::size_t>(network.hidden)),
        top_k_(static_cast<std::size_t>(network.top_k)),
        layers_(layers) {}

  void put(std::size_t layer, std::size_t token, const Collector::Row& row) {
    std::uint64_t at = place_of(layer, token);
    for (const std::vector<float>* part : {&row.x, &row.weights}) {
      rows_.write(at, part->data(), part->size() * sizeof(float));
      at += part->size() * sizeof(float);
    }
    rows_.write(at, row.chosen.data(), row.chosen.size() * sizeof(std::uint32_t));
  }
  /// Without the logits.
  Collector::Row get(std::size_t layer, std::size_t token) {
    Collector::Row row;
    row.x.resize(hidden_);
    row.weights.resize(top_k_);
    row.chosen.resize(top_k_);
    std::uint64_t at = place_of(layer, token);
    for (std::vector<float>* part : {&row.x, &row.weights}) {
      rows_.read(at, part->data(), part->size() * sizeof(float));
      at += part->size() * sizeof(float);
    }
    rows_.read(at, row.chosen.data(), row.chosen.size() * sizeof(std::uint32_t));
    return row;
  }

 private:
  std::uint64_t place_of(std::size_t layer, std::size_t token) const {
    static_assert(sizeof(float) == sizeof(std::uint32_t));
    return (std::uint64_t{token} * layers_ + layer) * (hidden_ + 2 * top_k_) * sizeof(float);
  }
  std::size_t hidden_, top_k_, layers_;
  base::SpillFile rows_;
};

/// Runs the requests, each as one window, and holds them to the trace.
std::unique_ptr<FloatRows> run_forward(const WorkloadFile& workload, RoutingSlice& slice,
                                       const CheckpointSource& source, unsigned threads, InputFacts& facts) {
  if (workload.request_starts.empty())
    throw base::ConfigError(workload.path, "request_starts", "nothing",
                            "where in tokens each request begins, [0] for one request");
  const std::vector<std::uint32_t> tokens = workloads::read_tokens(*workload.tokens);
  std::map<std::uint64_t, std::map<std::uint64_t, std::size_t>> requests;  // request -> position -> token of the slice
  for (std::size_t t = 0; t < slice.tokens(); ++t) {
    const workloads::SliceToken token = slice.token(t);
    requests[token.request][token.position] = t;
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> windows;  // start, length
  std::vector<const std::map<std::uint64_t, std::size_t>*> wanted;
  for (const auto& [request, positions] : requests) {
    if (request >= workload.request_starts.size())
      throw base::ConfigError(workload.path, "request_starts",
                              fmt::format("{} entries", workload.request_starts.size()),
                              fmt::format("one for request {} too", request));
    const std::uint64_t start = workload.request_starts[request], length = positions.rbegin()->first + 1;
    if (start > tokens.size() || length > tokens.size() - start)
      throw base::ConfigError(*workload.tokens, "length", fmt::format("{} tokens", tokens.size()),
                              fmt::format("at least {}, for request {}", start + length, request));
    windows.emplace_back(start, length);
    wanted.push_back(&positions);
  }
  auto all = std::make_unique<FloatRows>(workload.network, slice.layers().size());
  std::mutex mutex;  // of all that the windows share
  network::for_each_window(windows.size(), threads, [&](std::size_t w) {
    std::map<std::pair<std::uint32_t, std::size_t>, Collector::Row> found;
    Collector collector(slice.layers(), *wanted[w], found);
    source.forward.run(tokens.data() + windows[w].first, windows[w].second, source.forward.float_experts(), w,
                       &collector);
    const std::lock_guard<std::mutex> lock(mutex);
    for (const auto& [key, row] : found) {
      const auto& [layer, t] = key;
      const auto l = static_cast<std::size_t>(std::lower_bound(slice.layers().begin(), slice.layers().end(), layer) -
                                              slice.layers().begin());
      facts.rows_held_to_trace += 1;
      facts.rows_of_near_ties += differs_on_near_tie(workload, slice.token(t), layer, slice.row(t, l).experts, row);
      all->put(l, t, row);
    }
  });
  return all;
}

std::vector<float> draw_row(const base::Rng& rng, const workloads::SliceToken& token, std::uint32_t layer,
                            std::int64_t hidden) {
  std::uint64_t mixed = token.request;
  mixed = base::splitmix64(mixed) ^ token.position;
  mixed = base::splitmix64(mixed) ^ layer;
  base::Rng own = rng.stream("activations", mixed);
  std::vector<float> x(static_cast<std::size_t>(hidden));
  for (float& value : x) value = static_cast<float>(own.normal());
  return x;
}

/// The levels of a token's choices: the trace's, by expert; one that the float pass chose instead of another on a
/// near-tie has the level that stands in its place.
void add_levels(const WorkloadSlice::Row& traced, const std::vector<std::uint32_t>& chosen,
                std::vector<std::uint8_t>& levels) {
  if (traced.levels.empty()) return;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const auto same = std::find(traced.experts.begin(), traced.experts.end(), chosen[i]);
    const std::size_t at = same == traced.experts.end() ? i : static_cast<std::size_t>(same - traced.experts.begin());
    levels.push_back(static_cast<std::uint8_t>(traced.levels[at]));
  }
}

/// What rows of each level up to `greatest` read of a routed expert; nothing when there is no choice.
std::vector<numerics::ExpertFormats> reads_of(const Plan& plan, int layer, int expert, std::uint32_t greatest) {
  const workloads::PlanEntry& entry = plan.at(layer, expert);
  const auto classes = static_cast<std::uint32_t>(plan.class_shares.size());
  std::vector<numerics::ExpertFormats> reads;
  if (!plan.has_classes() && greatest == 0) return reads;
  for (std::uint32_t level = 0; level <= std::max(greatest, classes == 0 ? 0U : classes - 1); ++level) {
    const std::optional<numerics::ExpertFormats> read = plan.read(entry, level);
    if (!read) break;
    reads.push_back(*read);
  }
  return reads;
}

/// Every level is one that the plan knows of that expert. The greatest of them.
std::uint32_t check_levels(const WorkloadFile& workload, RoutingSlice& slice, const Plan& plan) {
  std::uint32_t greatest = 0;
  if (!slice.has_levels()) return greatest;
  for (std::size_t l = 0; l < slice.layers().size(); ++l)
    for (std::size_t t = 0; t < slice.tokens(); ++t) {
      const WorkloadSlice::Row row = slice.row(t, l);
      for (std::size_t i = 0; i < row.levels.size(); ++i) {
        const auto layer = slice.layers()[l];
        const workloads::PlanEntry& entry = plan.at(static_cast<int>(layer), static_cast<int>(row.experts[i]));
        if (!plan.read(entry, row.levels[i])) {
          const workloads::SliceToken token = slice.token(t);
          throw base::ConfigError(workload.trace, "levels",
                                  fmt::format("{} for expert {} of request {} position {} at layer {}", row.levels[i],
                                              row.experts[i], token.request, token.position, layer),
                                  plan.expected_level(entry));
        }
        greatest = std::max(greatest, row.levels[i]);
      }
    }
  return greatest;
}

/// A batch's choices after the rules, and the shared expert's for every row where it runs.
void add_choices(const WorkloadFile& workload, const workloads::RoutedRows& choices,
                 const std::vector<std::uint8_t>& levels, program::LayerRows& rows) {
  const std::size_t routed = static_cast<std::size_t>(choices.top_k);
  rows.top_k = choices.top_k + (workload.whole.shared_experts ? 1 : 0);
  for (std::size_t c = 0; c < choices.experts.size(); ++c) {
    const double weight = choices.weights[c];
    if (!(weight < kMostRouterWeight))
      throw base::ConfigError(workload.trace, "weights", fmt::format("{}", weight),
                              fmt::format("router weights below {}, what 16 bits hold", kMostRouterWeight));
    rows.chosen.push_back(choices.experts[c]);
    rows.r.push_back(quantise::router_weight(static_cast<float>(weight)));
    if (!levels.empty()) rows.levels.push_back(levels[c]);
    if (!workload.whole.shared_experts || (c + 1) % routed != 0) continue;
    rows.chosen.push_back(static_cast<std::uint32_t>(shared_expert(workload.network)));
    rows.r.push_back(numerics::kRouterOne);
    if (!levels.empty()) rows.levels.push_back(0);
  }
}

std::string whole_layers_fact(const workloads::WholeLayers& whole) {
  std::string text;
  const auto say = [&text](const char* what, const std::optional<numerics::Format>& format) {
    if (format) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", what, format->name());
  };
  say("shared experts", whole.shared_experts);
  say("dense layers", whole.dense_layers);
  say("attention's projections", whole.attention);
  say("head", whole.head);
  if (whole.attention) text += "; keys and values int8, in pages of 64 tokens";
  if (whole.attention || whole.head) text += "; matrices and rows of attention and head drawn";
  return text;
}

/// Which tokens of the slice each step is made of, in a temporary file.
class Batches {
 public:
  Batches(const WorkloadFile& workload, const Schedule* schedule) : workload_(workload), schedule_(schedule) {
    if (schedule == nullptr) return;
    open_.resize(schedule->size());
    for (std::size_t b = 0; b < schedule->size(); ++b)
      for (const auto& member : (*schedule)[b].members) batch_of_[member] = b;
  }

  /// Tokens come in their order.
  void add(const workloads::SliceToken& token) {
    std::int64_t& positions = capacity_[token.request];
    positions = std::max(positions, static_cast<std::int64_t>(token.position) + 1);
    const std::size_t index = index_of(token);
    Open& step = open_[index];
    if (step.tokens == 0) {
      step.phase = token.phase;
      step.first_request = token.request;
    }
    if (step.phase != token.phase)
      throw base::ConfigError(workload_.path, "batch_requests",
                              fmt::format("{}, but step {} is {} for request {} and {} for request {}",
                                          workload_.batch_requests, token.step, workloads::phase_name(step.phase),
                                          step.first_request, workloads::phase_name(token.phase), token.request),
                              "requests whose steps are of one phase");
    ++step.tokens;
    step_of_.push_back(static_cast<std::uint32_t>(index));
  }
  /// After the last one.
  void close() {
    steps_ = open_.size();
    std::vector<std::uint64_t> next(steps_ + 1);  // where each step's next token goes
    for (std::size_t s = 0; s < steps_; ++s) next[s + 1] = next[s] + open_[s].tokens;
    begins_.write(0, next.data(), next.size() * sizeof next[0]);
    std::vector<std::uint32_t> order(step_of_.size());
    for (std::size_t t = 0; t < step_of_.size(); ++t) order[next[step_of_[t]]++] = static_cast<std::uint32_t>(t);
    order_.write(0, order.data(), order.size() * sizeof order[0]);
    begins_.flush();
    order_.flush();
    open_ = {};
    step_of_ = {};
    step_index_.clear();
    batch_of_.clear();
  }

  std::size_t steps() const { return steps_; }
  std::vector<std::uint32_t> tokens_of(std::size_t step) {
    std::uint64_t range[2];
    begins_.read(std::uint64_t{step} * sizeof range[0], range, sizeof range);
    std::vector<std::uint32_t> tokens(range[1] - range[0]);
    order_.read(range[0] * sizeof tokens[0], tokens.data(), tokens.size() * sizeof tokens[0]);
    return tokens;
  }
  /// Positions of a request up to its last token.
  std::int64_t capacity(std::uint64_t request) const { return capacity_.at(request); }

 private:
  struct Open {
    std::uint64_t tokens = 0, first_request = 0;
    workloads::Phase phase = workloads::Phase::kPrefill;
  };
  std::size_t index_of(const workloads::SliceToken& token) {
    if (schedule_ != nullptr) return batch_of_.at({token.request, token.step});
    const std::uint64_t group =
        group_of_.emplace(token.request, group_of_.size() / workload_.batch_requests).first->second;
    const auto [at, is_new] = step_index_.emplace(std::make_pair(group, token.step), open_.size());
    if (is_new) open_.emplace_back();
    return at->second;
  }

  const WorkloadFile& workload_;
  const Schedule* schedule_;
  std::map<std::uint64_t, std::uint64_t> group_of_;                            // by request
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::size_t> step_index_;  // (group, step)
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::size_t> batch_of_;    // (request, step)
  std::map<std::uint64_t, std::int64_t> capacity_;                             // by request
  std::vector<Open> open_;
  std::vector<std::uint32_t> step_of_;  // of each token
  std::size_t steps_ = 0;
  base::SpillFile begins_, order_;
};

/// Makes steps from what lies in the temporary files.
class StepMaker {
 public:
  StepMaker(const WorkloadFile& workload, const InputOptions& options)
      : workload_(workload),
        schedule_(options.schedule),
        rng_(options.seed),
        batches_(workload_, schedule_),
        slice_(workload_, [this](std::size_t, const workloads::SliceToken& token) { batches_.add(token); }) {
    batches_.close();
  }
  StepMaker(const StepMaker&) = delete;
  StepMaker& operator=(const StepMaker&) = delete;

  RoutingSlice& slice() { return slice_; }
  std::size_t steps() const { return batches_.steps(); }

  /// Of the float pass, where there is one.
  void set_rows(std::unique_ptr<FloatRows> rows) { float_rows_ = std::move(rows); }
  void set_source(std::shared_ptr<const Source> source, const InputFacts& facts, const InputOptions& options) {
    source_ = std::move(source);
    act_bits_ = facts.act_bits;
    parts_ = std::make_unique<WholeLayers>(workload_, facts.group_size, act_bits_, options.seed, options.weights);
    extents_ = std::make_unique<WholeLayers>(workload_, facts.group_size, act_bits_, options.seed, false);
  }
  /// Where rows are pruned at the median of their layer: what that is.
  void find_medians(InputFacts& facts) {
    if (!workload_.routing.prune_at_median) return;
    for (std::size_t l = 0; l < slice_.layers().size(); ++l) {
      workloads::MedianRatio ratios;
      for (std::size_t s = 0; s < steps(); ++s) ratios.add(choices_of(batches_.tokens_of(s), l).routed);
      medians_.push_back(ratios.median());
      if (!medians_.back())
        throw base::ConfigError(workload_.path, "routing.prune_ratio", "median",
                                "rows with two choices, whose weights it is taken from");
      facts.prune_ratios.push_back(*medians_.back());
    }
  }

  /// `dropped`, when given, receives what the rules left out.
  StepInputs make(std::size_t number, bool rows, workloads::Dropped* dropped = nullptr) {
    const workloads::Network& network = workload_.network;
    const workloads::WholeLayers& whole = workload_.whole;
    const std::vector<std::uint32_t> tokens = batches_.tokens_of(number);
    std::vector<workloads::SliceToken> of;
    for (const std::uint32_t t : tokens) of.push_back(slice_.token(t));
    StepInputs made;
    made.step = step_of(number, of);
    const Step& step = made.step;
    const WholeLayers& parts = rows ? *parts_ : *extents_;
    for (const std::uint32_t layer : workload_.selected_layers()) {
      const int id = static_cast<int>(layer);
      if (whole.attention)
        for (program::LayerRows& phase : parts.attention(step.name(), id, step.parts))
          made.layers.push_back(std::move(phase));
      program::LayerRows phase;
      phase.name = fmt::format("{}, layer {}", step.name(), layer);
      phase.layer = id;
      if (whole.any()) phase.stated.norm_elements = step.tokens * network.hidden;
      if (network.has_experts[layer]) {
        const auto l = static_cast<std::size_t>(
            std::lower_bound(slice_.layers().begin(), slice_.layers().end(), layer) - slice_.layers().begin());
        Choices choices = choices_of(tokens, l);
        if (workload_.routing.any()) {
          const workloads::Dropped left_out = workloads::apply(
              workload_.routing, network.experts, medians_.empty() ? std::nullopt : medians_[l], choices.routed);
          if (dropped != nullptr) {
            dropped->pruned += left_out.pruned;
            dropped->over_capacity += left_out.over_capacity;
            dropped->rounded += left_out.rounded;
          }
        }
        add_choices(workload_, choices.routed, choices.levels, phase);
        phase.x = activations(rows, tokens, of, layer, &choices.x);
        if (whole.any()) phase.stated.router_macs = step.tokens * network.hidden * network.experts;
        made.layers.push_back(std::move(phase));
      } else if (whole.dense_layers) {
        phase.part = program::Part::kDense;
        phase.top_k = 1;
        phase.chosen.assign(static_cast<std::size_t>(step.tokens), static_cast<std::uint32_t>(dense_expert(network)));
        phase.r.assign(phase.chosen.size(), numerics::kRouterOne);
        phase.x = activations(rows, tokens, of, layer, nullptr);
        made.layers.push_back(std::move(phase));
      }
    }
    if (whole.head) made.layers.push_back(parts.head(step.name(), step.parts));
    return made;
  }

 private:
  struct Choices {
    workloads::RoutedRows routed;
    std::vector<std::uint8_t> levels;
    std::vector<float> x;  // of the float pass
  };
  /// Before the rules.
  Choices choices_of(const std::vector<std::uint32_t>& tokens, std::size_t l) {
    Choices choices;
    choices.routed.top_k = workload_.network.top_k;
    const auto add = [&routed = choices.routed](const auto& experts, const auto& weights) {
      routed.experts.insert(routed.experts.end(), experts.begin(), experts.end());
      routed.weights.insert(routed.weights.end(), weights.begin(), weights.end());
    };
    for (const std::uint32_t t : tokens) {
      const WorkloadSlice::Row traced = slice_.row(t, l);
      if (float_rows_) {
        const Collector::Row found = float_rows_->get(l, t);
        choices.x.insert(choices.x.end(), found.x.begin(), found.x.end());
        add_levels(traced, found.chosen, choices.levels);
        add(found.chosen, found.weights);
      } else {
        add_levels(traced, traced.experts, choices.levels);
        add(traced.experts, traced.weights);
      }
    }
    return choices;
  }

  /// `found`: of the float pass, or nothing; else they are drawn.
  numerics::Activations activations(bool values, const std::vector<std::uint32_t>& tokens,
                                    const std::vector<workloads::SliceToken>& of, std::uint32_t layer,
                                    std::vector<float>* found) const {
    const std::int64_t hidden = workload_.network.hidden, rows = static_cast<std::int64_t>(tokens.size());
    if (!values) {
      numerics::Activations x;
      x.m = rows;
      x.k = hidden;
      x.act_bits = act_bits_;
      return x;
    }
    std::vector<float> x;
    if (found != nullptr && !found->empty()) x = std::move(*found);
    if (x.empty())
      for (const workloads::SliceToken& token : of) {
        const std::vector<float> row = draw_row(rng_, token, layer, hidden);
        x.insert(x.end(), row.begin(), row.end());
      }
    return quantise::quantise_rows(x.data(), rows, hidden, act_bits_, source_->x_exp(static_cast<int>(layer)));
  }

  Step step_of(std::size_t number, const std::vector<workloads::SliceToken>& tokens) const {
    Step step;
    step.step = tokens.front().step;
    step.phase = tokens.front().phase;
    if (schedule_ != nullptr) {
      step.step = number;
      step.scheduled = true;
      step.not_before = (*schedule_)[number].not_before;
    }
    for (const workloads::SliceToken& token : tokens) {
      const auto position = static_cast<std::int64_t>(token.position);
      const auto part = std::find_if(step.parts.begin(), step.parts.end(),
                                     [&token](const Step::Part& p) { return p.request == token.request; });
      if (part == step.parts.end())
        step.parts.push_back({token.request, 1, position + 1, batches_.capacity(token.request)});
      else
        part->tokens += 1, part->context = std::max(part->context, position + 1);
      ++step.tokens;
    }
    return step;
  }

  const WorkloadFile workload_;
  const Schedule* schedule_;
  base::Rng rng_;
  Batches batches_;
  RoutingSlice slice_;
  std::unique_ptr<FloatRows> float_rows_;
  std::shared_ptr<const Source> source_;
  int act_bits_ = 8;
  std::unique_ptr<WholeLayers> parts_, extents_;
  std::vector<std::optional<double>> medians_;  // by layer with experts
};

}  // namespace

int shared_expert(const workloads::Network& network) { return static_cast<int>(network.experts); }
int dense_expert(const workloads::Network& network) { return static_cast<int>(network.experts) + 1; }
std::string expert_name(const workloads::Network& network, int expert) {
  if (expert == shared_expert(network)) return "shared";
  if (expert == dense_expert(network)) return "dense";
  return std::to_string(expert);
}

std::vector<ScheduledRequest> scheduled_requests(const WorkloadFile& workload, base::Femtoseconds period) {
  std::map<std::uint64_t, std::map<std::uint64_t, std::int64_t>> tokens;  // by request, then step
  const RoutingSlice slice(
      workload, [&tokens](std::size_t, const workloads::SliceToken& token) { ++tokens[token.request][token.step]; });
  std::vector<ScheduledRequest> requests;
  for (const auto& [id, steps] : tokens) {
    ScheduledRequest request;
    request.id = id;
    const double cycles = std::ceil(slice.arrival_us().at(id) * 1e9 / static_cast<double>(period.count()));
    if (!(cycles >= 0 && cycles < 1e18))
      throw base::ConfigError(workload.trace, "arrival_us", fmt::format("{}", slice.arrival_us().at(id)),
                              "microseconds from 0 on");
    request.arrival = static_cast<std::uint64_t>(cycles);
    for (const auto& [step, count] : steps) {
      request.steps.push_back(step);
      request.step_tokens.push_back(count);
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

std::string Step::name() const {
  if (scheduled) return fmt::format("batch {}", step);
  if (parts.size() == 1) return fmt::format("request {}, step {}", first_request(), step);
  return fmt::format("requests {} and {} more, step {}", first_request(), parts.size() - 1, step);
}

RunInputs gather_inputs(const WorkloadFile& workload, const InputOptions& options) {
  RunInputs inputs = open_inputs(workload, options);
  for (std::size_t s = 0; s < inputs.step_count; ++s) {
    StepInputs made = inputs.make_step(s, true);
    inputs.steps.push_back(std::move(made.step));
    for (program::LayerRows& rows : made.layers) {
      inputs.layers.push_back(std::move(rows));
      inputs.step_of.push_back(s);
    }
  }
  return inputs;
}

RunInputs open_inputs(const WorkloadFile& workload, const InputOptions& options) {
  const workloads::Network& network = workload.network;
  if (!network.gated)
    throw base::ConfigError(workload.path, "model", "'" + network.name + "', whose experts have no gate",
                            "experts of three matrices");
  if (workload.tokens && !workload.has_weights)
    throw base::ConfigError(workload.path, "tokens", "it with the shape '" + workload.model + "'",
                            "a model folder, whose weights give the activations");
  if (workload.is_folder && !workload.has_weights && options.weights)
    throw base::ConfigError(workload.model, "weights", "nothing",
                            "model.safetensors or model.safetensors.index.json, or --no-data");
  const auto maker = std::make_shared<StepMaker>(workload, options);

  RunInputs inputs;
  inputs.experts = network.experts;
  InputFacts& facts = inputs.facts;
  std::shared_ptr<Source> source;
  std::unique_ptr<FloatRows> real;
  std::optional<workloads::Checkpoint> checkpoint;
  if (workload.has_weights) {
    checkpoint.emplace(workload.model);
    facts.model_hash = checkpoint->hash();
  }
  // Without data shapes will do, of a checkpoint that there is no forward pass for.
  const bool needs_weights = options.weights || workload.tokens;
  if (checkpoint && (needs_weights || !network::Forward::refusal(*checkpoint))) {
    const auto own = std::make_shared<CheckpointSource>(*checkpoint, options.threads);
    own->plan = choose_plan(options, workload, &*checkpoint, facts);
    own->open_store(workload.act_bits);
    facts.weights = "the model's, quantised by the plan";
    if (workload.tokens) real = run_forward(workload, maker->slice(), *own, options.threads, facts);
    source = own;
  } else {
    source = std::make_shared<DrawnSource>(network, options.seed, workload.act_bits);
    source->plan = choose_plan(options, workload, checkpoint ? &*checkpoint : nullptr, facts);
    facts.weights =
        fmt::format("drawn from seed {} (normal, deviation 1 / sqrt(k)), quantised by the plan", options.seed);
  }
  if (!options.weights) facts.weights = "shapes only: nothing was computed";
  facts.activations = real ? "float forward pass over " + *workload.tokens
                           : fmt::format("drawn from seed {} (normal, deviation 1)", options.seed);
  facts.routing = real ? "float forward pass, held to the trace " + workload.trace : "the trace " + workload.trace;
  facts.group_size = source->plan.group_size;
  facts.act_bits = workload.act_bits;
  const std::uint32_t greatest_level = check_levels(workload, maker->slice(), source->plan);

  maker->set_rows(std::move(real));
  maker->set_source(source, facts, options);
  maker->find_medians(facts);
  inputs.step_count = maker->steps();
  inputs.make_step = [maker](std::size_t step, bool rows) { return maker->make(step, rows); };
  std::set<std::pair<int, int>> experts;
  for (std::size_t s = 0; s < inputs.step_count; ++s) {
    const StepInputs made = maker->make(s, false, &facts.dropped);
    inputs.phases_per_step = made.layers.size();
    for (const program::LayerRows& rows : made.layers) {
      for (std::size_t c = 0; c < rows.levels.size(); ++c) {
        if (rows.chosen[c] >= static_cast<std::uint32_t>(network.experts)) continue;  // dropped, or no router's
        facts.choices_by_level.resize(std::max<std::size_t>(facts.choices_by_level.size(), rows.levels[c] + 1U));
        ++facts.choices_by_level[rows.levels[c]];
      }
      for (const std::uint32_t expert : rows.chosen)
        if (expert != workloads::RoutedRows::kDropped) experts.emplace(rows.layer, static_cast<int>(expert));
    }
  }
  facts.whole_layers = whole_layers_fact(workload.whole);
  if (options.weights) {
    source->prepare(workload, experts, options);
    const auto matrices = std::make_shared<DrawnMatrices>(options.seed, facts.act_bits);
    inputs.matrices = [matrices](const program::MatrixStack& stack,
                                 std::int64_t index) -> const numerics::WeightMatrix& {
      return matrices->get(stack, index);
    };
    inputs.weights = [source](int layer, int expert) -> const numerics::ExpertWeights& {
      return source->get(layer, expert);
    };
  }
  inputs.shape = [source, workload, greatest_level](int layer, int expert) {
    const bool has_levels = expert < workload.network.experts;
    return program::ExpertShape{
        source->format(workload, layer, expert),
        workload.network.hidden,
        intermediate_of(workload.network, expert),
        source->plan.group_size,
        source->sigma_h(layer),
        has_levels ? reads_of(source->plan, layer, expert, greatest_level) : std::vector<numerics::ExpertFormats>()};
  };
  inputs.format = [source, workload](int layer, int expert) { return source->format(workload, layer, expert); };
  inputs.owner = source;
  return inputs;
}

}  // namespace moesaic::run
