#include "sim/run/run_inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "reference/network/forward.h"
#include "reference/network/quantised_experts.h"
#include "reference/numerics/combine.h"
#include "reference/quantise/expert.h"
#include "workloads/checkpoint.h"
#include "workloads/tokens.h"

namespace moesaic::run {

namespace {

using workloads::Plan;
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
  CheckpointSource(const std::string& folder, unsigned threads) : checkpoint(folder), forward(checkpoint) {
    threads_ = threads;
  }
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

struct RealRows {
  std::map<std::pair<std::uint32_t, std::size_t>, Collector::Row> rows;  ///< by layer and token of the slice
};

RealRows run_forward(const WorkloadFile& workload, const WorkloadSlice& slice, const CheckpointSource& source,
                     unsigned threads) {
  if (workload.request_starts.empty())
    throw base::ConfigError(workload.path, "request_starts", "nothing",
                            "where in tokens each request begins, [0] for one request");
  const std::vector<std::uint32_t> tokens = workloads::read_tokens(*workload.tokens);
  std::map<std::uint64_t, std::map<std::uint64_t, std::size_t>> requests;  // request -> position -> token of the slice
  for (std::size_t t = 0; t < slice.tokens.size(); ++t) requests[slice.tokens[t].request][slice.tokens[t].position] = t;
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
  std::vector<std::map<std::pair<std::uint32_t, std::size_t>, Collector::Row>> found(windows.size());
  network::for_each_window(windows.size(), threads, [&](std::size_t w) {
    Collector collector(slice.layers, *wanted[w], found[w]);
    source.forward.run(tokens.data() + windows[w].first, windows[w].second, source.forward.float_experts(), w,
                       &collector);
  });
  RealRows real;
  for (auto& part : found) real.rows.merge(part);
  return real;
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

/// The workload's rules on the choices of every batch, [layer][step].
void apply_rules(const WorkloadFile& workload, std::vector<std::vector<workloads::RoutedRows>>& routed,
                 InputFacts& facts) {
  if (!workload.routing.any()) return;
  for (std::vector<workloads::RoutedRows>& batches : routed) {
    std::optional<double> median;
    if (workload.routing.prune_at_median) {
      median = workloads::median_ratio(batches);
      if (!median)
        throw base::ConfigError(workload.path, "routing.prune_ratio", "median",
                                "rows with two choices, whose weights it is taken from");
      facts.prune_ratios.push_back(*median);
    }
    for (workloads::RoutedRows& rows : batches) {
      const workloads::Dropped dropped = workloads::apply(workload.routing, workload.network.experts, median, rows);
      facts.dropped.pruned += dropped.pruned;
      facts.dropped.over_capacity += dropped.over_capacity;
      facts.dropped.rounded += dropped.rounded;
    }
  }
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
std::uint32_t check_levels(const WorkloadFile& workload, const WorkloadSlice& slice, const Plan& plan) {
  std::uint32_t greatest = 0;
  for (std::size_t l = 0; l < slice.rows.size(); ++l)
    for (const WorkloadSlice::Row& row : slice.rows[l])
      for (std::size_t i = 0; i < row.levels.size(); ++i) {
        const auto layer = slice.layers[l];
        const workloads::PlanEntry& entry = plan.at(static_cast<int>(layer), static_cast<int>(row.experts[i]));
        if (!plan.read(entry, row.levels[i])) {
          const workloads::SliceToken& token = slice.tokens[row.token];
          throw base::ConfigError(workload.trace, "levels",
                                  fmt::format("{} for expert {} of request {} position {} at layer {}", row.levels[i],
                                              row.experts[i], token.request, token.position, layer),
                                  plan.expected_level(entry));
        }
        greatest = std::max(greatest, row.levels[i]);
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

/// Groups the slice's tokens into batches; returns the tokens of each.
std::vector<std::vector<std::size_t>> make_batches(const WorkloadFile& workload, const WorkloadSlice& slice,
                                                   const Schedule* schedule, std::vector<Step>& steps) {
  std::map<std::uint64_t, std::uint64_t> group_of;                            // by request
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::size_t> step_index;  // (group, step)
  std::vector<std::vector<std::size_t>> tokens_of;
  std::map<std::uint64_t, std::int64_t> capacity;  // by request
  for (const workloads::SliceToken& token : slice.tokens) {
    std::int64_t& positions = capacity[token.request];
    positions = std::max(positions, static_cast<std::int64_t>(token.position) + 1);
  }
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::size_t> batch_of;  // (request, step)
  if (schedule != nullptr) {
    tokens_of.resize(schedule->size());
    for (std::size_t b = 0; b < schedule->size(); ++b) {
      Step step;
      step.step = b;
      step.scheduled = true;
      step.not_before = (*schedule)[b].not_before;
      steps.push_back(step);
      for (const auto& member : (*schedule)[b].members) batch_of[member] = b;
    }
  }
  for (std::size_t t = 0; t < slice.tokens.size(); ++t) {
    const workloads::SliceToken& token = slice.tokens[t];
    const auto position = static_cast<std::int64_t>(token.position);
    std::size_t index = 0;
    if (schedule != nullptr) {
      index = batch_of.at({token.request, token.step});
      if (steps[index].tokens == 0) steps[index].phase = token.phase;
    } else {
      const std::uint64_t group =
          group_of.emplace(token.request, group_of.size() / workload.batch_requests).first->second;
      const auto [at, is_new] = step_index.emplace(std::make_pair(group, token.step), steps.size());
      index = at->second;
      if (is_new) {
        Step step;
        step.step = token.step;
        step.phase = token.phase;
        steps.push_back(step);
        tokens_of.emplace_back();
      }
    }
    Step& step = steps[index];
    if (step.phase != token.phase)
      throw base::ConfigError(workload.path, "batch_requests",
                              fmt::format("{}, but step {} is {} for request {} and {} for request {}",
                                          workload.batch_requests, token.step, workloads::phase_name(step.phase),
                                          step.first_request(), workloads::phase_name(token.phase), token.request),
                              "requests whose steps are of one phase");
    const auto part = std::find_if(step.parts.begin(), step.parts.end(),
                                   [&token](const Step::Part& p) { return p.request == token.request; });
    if (part == step.parts.end())
      step.parts.push_back({token.request, 1, position + 1, capacity.at(token.request)});
    else
      part->tokens += 1, part->context = std::max(part->context, position + 1);
    ++step.tokens;
    tokens_of[index].push_back(t);
  }
  return tokens_of;
}

}  // namespace

int shared_expert(const workloads::Network& network) { return static_cast<int>(network.experts); }
int dense_expert(const workloads::Network& network) { return static_cast<int>(network.experts) + 1; }
std::string expert_name(const workloads::Network& network, int expert) {
  if (expert == shared_expert(network)) return "shared";
  if (expert == dense_expert(network)) return "dense";
  return std::to_string(expert);
}

std::vector<ScheduledRequest> scheduled_requests(const WorkloadFile& workload, base::Femtoseconds period) {
  const WorkloadSlice slice = workloads::read_slice(workload);
  std::map<std::uint64_t, std::map<std::uint64_t, std::int64_t>> tokens;  // by request, then step
  for (const workloads::SliceToken& token : slice.tokens) ++tokens[token.request][token.step];
  std::vector<ScheduledRequest> requests;
  for (const auto& [id, steps] : tokens) {
    ScheduledRequest request;
    request.id = id;
    const double cycles = std::ceil(slice.arrival_us.at(id) * 1e9 / static_cast<double>(period.count()));
    if (!(cycles >= 0 && cycles < 1e18))
      throw base::ConfigError(workload.trace, "arrival_us", fmt::format("{}", slice.arrival_us.at(id)),
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
  const workloads::Network& network = workload.network;
  if (!network.gated)
    throw base::ConfigError(workload.path, "model", "'" + network.name + "', whose experts have no gate",
                            "experts of three matrices");
  if (workload.tokens && !workload.has_weights)
    throw base::ConfigError(workload.path, "tokens", "it with the shape '" + workload.model + "'",
                            "a model folder, whose weights give the activations");
  const WorkloadSlice slice = workloads::read_slice(workload);

  RunInputs inputs;
  inputs.experts = network.experts;
  InputFacts& facts = inputs.facts;
  std::shared_ptr<Source> source;
  std::optional<RealRows> real;
  if (workload.has_weights) {
    const auto own = std::make_shared<CheckpointSource>(workload.model, options.threads);
    own->plan = choose_plan(options, workload, &own->checkpoint, facts);
    own->open_store(workload.act_bits);
    facts.model_hash = own->checkpoint.hash();
    facts.weights = "the model's, quantised by the plan";
    if (workload.tokens) real = run_forward(workload, slice, *own, options.threads);
    source = own;
  } else {
    source = std::make_shared<DrawnSource>(network, options.seed, workload.act_bits);
    source->plan = choose_plan(options, workload, nullptr, facts);
    facts.weights =
        fmt::format("drawn from seed {} (normal, deviation 1 / sqrt(k)), quantised by the plan", options.seed);
  }
  if (!options.weights) facts.weights = "shapes only: nothing was computed";
  facts.activations = real ? "float forward pass over " + *workload.tokens
                           : fmt::format("drawn from seed {} (normal, deviation 1)", options.seed);
  facts.routing = real ? "float forward pass, held to the trace " + workload.trace : "the trace " + workload.trace;
  facts.group_size = source->plan.group_size;
  facts.act_bits = workload.act_bits;
  const std::uint32_t greatest_level = check_levels(workload, slice, source->plan);

  const std::vector<std::vector<std::size_t>> tokens_of = make_batches(workload, slice, options.schedule, inputs.steps);

  const base::Rng rng(options.seed);
  const workloads::WholeLayers& whole = workload.whole;
  std::vector<std::vector<workloads::RoutedRows>> routed(slice.layers.size());  // by layer, then step
  std::vector<std::vector<std::vector<std::uint8_t>>> levels(slice.layers.size());
  std::vector<std::vector<numerics::Activations>> routed_rows(slice.layers.size());
  const auto quantised = [&](std::vector<float>& x, std::size_t rows, int layer) {
    return quantise::quantise_rows(x.data(), static_cast<std::int64_t>(rows), network.hidden, facts.act_bits,
                                   source->x_exp(layer));
  };
  for (std::size_t s = 0; s < inputs.steps.size(); ++s)
    for (std::size_t l = 0; l < slice.layers.size(); ++l) {
      const std::uint32_t layer = slice.layers[l];
      workloads::RoutedRows choices;
      choices.top_k = network.top_k;
      std::vector<float> x;
      std::vector<std::uint8_t>& own_levels = levels[l].emplace_back();
      for (const std::size_t t : tokens_of[s]) {
        const WorkloadSlice::Row& traced = slice.rows[l][t];
        std::vector<float> row;
        if (real) {
          const Collector::Row& found = real->rows.at({layer, t});
          facts.rows_held_to_trace += 1;
          facts.rows_of_near_ties += differs_on_near_tie(workload, slice.tokens[t], layer, traced.experts, found);
          row = found.x;
          add_levels(traced, found.chosen, own_levels);
          choices.experts.insert(choices.experts.end(), found.chosen.begin(), found.chosen.end());
          choices.weights.insert(choices.weights.end(), found.weights.begin(), found.weights.end());
        } else {
          row = draw_row(rng, slice.tokens[t], layer, network.hidden);
          add_levels(traced, traced.experts, own_levels);
          choices.experts.insert(choices.experts.end(), traced.experts.begin(), traced.experts.end());
          choices.weights.insert(choices.weights.end(), traced.weights.begin(), traced.weights.end());
        }
        x.insert(x.end(), row.begin(), row.end());
      }
      routed_rows[l].push_back(quantised(x, tokens_of[s].size(), static_cast<int>(layer)));
      routed[l].push_back(std::move(choices));
    }
  apply_rules(workload, routed, facts);

  const WholeLayers parts(workload, facts.group_size, facts.act_bits, options.seed, options.weights);
  const auto add_phase = [&inputs](std::size_t s, program::LayerRows rows) {
    inputs.layers.push_back(std::move(rows));
    inputs.step_of.push_back(s);
  };
  for (std::size_t s = 0; s < inputs.steps.size(); ++s) {
    const Step& step = inputs.steps[s];
    for (const std::uint32_t layer : workload.selected_layers()) {
      const int id = static_cast<int>(layer);
      if (whole.attention)
        for (program::LayerRows& rows : parts.attention(step.name(), id, step.parts)) add_phase(s, std::move(rows));
      program::LayerRows rows;
      rows.name = fmt::format("{}, layer {}", step.name(), layer);
      rows.layer = id;
      if (whole.any()) rows.stated.norm_elements = step.tokens * network.hidden;
      const auto l = static_cast<std::size_t>(std::lower_bound(slice.layers.begin(), slice.layers.end(), layer) -
                                              slice.layers.begin());
      if (network.has_experts[layer]) {
        add_choices(workload, routed[l][s], levels[l][s], rows);
        rows.x = std::move(routed_rows[l][s]);
        if (whole.any()) rows.stated.router_macs = step.tokens * network.hidden * network.experts;
        add_phase(s, std::move(rows));
      } else if (whole.dense_layers) {
        rows.part = program::Part::kDense;
        rows.top_k = 1;
        rows.chosen.assign(static_cast<std::size_t>(step.tokens), static_cast<std::uint32_t>(dense_expert(network)));
        rows.r.assign(rows.chosen.size(), numerics::kRouterOne);
        std::vector<float> x;
        for (const std::size_t t : tokens_of[s]) {
          const std::vector<float> row = draw_row(rng, slice.tokens[t], layer, network.hidden);
          x.insert(x.end(), row.begin(), row.end());
        }
        rows.x = quantised(x, tokens_of[s].size(), id);
        add_phase(s, std::move(rows));
      }
    }
    if (whole.head) add_phase(s, parts.head(step.name(), step.parts));
  }
  facts.whole_layers = whole_layers_fact(whole);

  std::set<std::pair<int, int>> experts;
  for (const program::LayerRows& rows : inputs.layers)
    for (std::size_t c = 0; c < rows.levels.size(); ++c) {
      if (rows.chosen[c] >= static_cast<std::uint32_t>(network.experts)) continue;  // dropped, or no router's
      facts.choices_by_level.resize(std::max<std::size_t>(facts.choices_by_level.size(), rows.levels[c] + 1U));
      ++facts.choices_by_level[rows.levels[c]];
    }
  for (const program::LayerRows& rows : inputs.layers)
    for (const std::uint32_t expert : rows.chosen)
      if (expert != workloads::RoutedRows::kDropped) experts.emplace(rows.layer, static_cast<int>(expert));
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
