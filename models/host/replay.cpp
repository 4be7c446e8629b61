#include "models/host/replay.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "base/error.h"

namespace moesaic::host {

ReplayTrace::ReplayTrace(std::uint32_t layers, std::uint32_t experts) : layers_(layers), experts_(experts) {
  if (layers == 0 || experts == 0 || layers > UINT16_MAX || experts > UINT16_MAX)
    throw std::logic_error("ReplayTrace: expected 1 to 65535 layers and experts");
  last_.assign(static_cast<std::size_t>(layers) * experts, UINT32_MAX);
  popularity_.assign(last_.size(), 0);
}

void ReplayTrace::add(std::uint32_t layer, const std::vector<Need>& needs, bool same_tokens,
                      std::uint64_t tokens_before) {
  constexpr std::size_t kMostExperts = (1U << 15) - 1;
  if (needs.empty() || needs.size() > kMostExperts || layer >= layers_)
    throw std::logic_error("ReplayTrace: expected 1 to 32767 experts of a layer of the trace");
  if (expert_.size() + needs.size() >= UINT32_MAX) throw base::InputError("replay: trace: more than 2^32 - 2 requests");
  steps_.push_back({static_cast<std::uint32_t>(std::min<std::uint64_t>(tokens_before, UINT32_MAX)),
                    static_cast<std::uint16_t>(layer), static_cast<std::uint16_t>(needs.size() & kMostExperts),
                    static_cast<std::uint16_t>(same_tokens ? 1 : 0)});
  largest_step_ = std::max(largest_step_, needs.size());
  for (const Need& need : needs) {
    const std::size_t at = static_cast<std::size_t>(layer) * experts_ + need.expert;
    const auto index = static_cast<std::uint32_t>(expert_.size());
    if (last_.at(at) != UINT32_MAX) next_[last_[at]] = index;
    last_[at] = index;
    popularity_[at] += need.requests;
    expert_.push_back(static_cast<std::uint16_t>(need.expert));
    planes_.push_back(static_cast<std::uint8_t>(need.planes));
    next_.push_back(UINT32_MAX);
  }
}

std::uint64_t ReplayTrace::distinct_experts() const {
  return static_cast<std::uint64_t>(
      std::count_if(last_.begin(), last_.end(), [](std::uint32_t last) { return last != UINT32_MAX; }));
}

std::int64_t ReplayTrace::memory_bytes() const {
  return static_cast<std::int64_t>(steps_.capacity() * sizeof(Step) + expert_.capacity() * 2 + planes_.capacity() +
                                   next_.capacity() * 4 + last_.capacity() * 4 + popularity_.capacity() * 8);
}

ReplayCounts& ReplayCounts::operator+=(const ReplayCounts& o) {
  requests += o.requests;
  hits += o.hits;
  prefetch_hits += o.prefetch_hits;
  first_requests += o.first_requests;
  requested += o.requested;
  loaded += o.loaded;
  prefetched += o.prefetched;
  wasted += o.wasted;
  return *this;
}

ReplayCounts& ReplayCounts::operator-=(const ReplayCounts& o) {
  requests -= o.requests;
  hits -= o.hits;
  prefetch_hits -= o.prefetch_hits;
  first_requests -= o.first_requests;
  requested -= o.requested;
  loaded -= o.loaded;
  prefetched -= o.prefetched;
  wasted -= o.wasted;
  return *this;
}

namespace {
ReplayCounts sum(const std::vector<ReplayCounts>& layers) {
  ReplayCounts all;
  for (const ReplayCounts& layer : layers) all += layer;
  return all;
}

/// One capacity and policy: its caches and what it counts.
class Case {
 public:
  Case(const ReplayTrace& trace, const ExpertBytes& bytes, const ReplayConfig& config, const ReplayCase& what,
       const PolicyKind& policy)
      : bytes_(bytes), access_(config.access), scope_(config.scope), counts_(trace.layers()) {
    const std::vector<std::uint64_t>& popularity = config.popularity.empty() ? trace.popularity() : config.popularity;
    const std::uint32_t layers = scope_ == Scope::kLayer ? 1 : trace.layers();
    const UnitSpace space{layers, trace.experts(), static_cast<std::uint32_t>(bytes.most_units())};
    for (std::uint32_t first = 0; first < trace.layers(); first += layers) {
      PolicyInputs inputs{space, {}};
      if (policy.needs_popularity) {
        const auto begin = popularity.begin() + static_cast<std::ptrdiff_t>(first) * trace.experts();
        inputs.popularity.assign(begin, begin + static_cast<std::ptrdiff_t>(layers) * trace.experts());
      }
      caches_.emplace_back(bytes, first, space, what.capacity, policy.make(inputs));
      fetched_.emplace_back(space.units(), false);
    }
  }

  void serve(std::uint32_t layer, const std::vector<Need>& needs, const std::vector<char>& first) {
    ExpertCache& cache = cache_of(layer);
    cache.layer_begins(local(layer));
    ReplayCounts& counts = counts_[layer];
    counts.requests += static_cast<std::int64_t>(needs.size());
    for (const char is_first : first) counts.first_requests += is_first;
    if (access_ == Access::kSet && needs.size() > 1)
      serve_set(cache, layer, needs);
    else
      for (const Need& need : needs) serve_one(cache, layer, need);
  }

  void fetch_ahead(std::uint32_t layer, const std::vector<Need>& guesses) {
    ExpertCache& cache = cache_of(layer);
    held_.clear();
    for (const Need& guess : guesses)
      if (!fetch_one(cache, layer, guess)) break;
    for (const std::uint32_t unit : held_) cache.release(unit);
  }

  const std::vector<ReplayCounts>& counts() const { return counts_; }

  /// What was fetched ahead and never used.
  void finish() {
    for (std::uint32_t layer = 0; layer < counts_.size(); ++layer) {
      const UnitSpace& space = cache_of(layer).space();
      std::vector<bool>& fetched = fetched_of(layer);
      for (std::uint32_t u = 0; u < space.experts * space.stride; ++u) {
        const std::uint32_t unit = space.number(local(layer), 0, 0) + u;
        if (fetched[unit]) counts_[layer].wasted += cache_of(layer).bytes_of(unit);
      }
    }
  }

 private:
  std::uint32_t local(std::uint32_t layer) const { return scope_ == Scope::kLayer ? 0 : layer; }
  ExpertCache& cache_of(std::uint32_t layer) { return caches_[scope_ == Scope::kLayer ? layer : 0]; }
  std::vector<bool>& fetched_of(std::uint32_t layer) { return fetched_[scope_ == Scope::kLayer ? layer : 0]; }

  bool make_resident(ExpertCache& cache, std::uint32_t layer, std::uint32_t unit) {
    evicted_.clear();
    const bool done = cache.insert(unit, evicted_);
    std::vector<bool>& fetched = fetched_of(layer);
    for (const Evicted& gone : evicted_)
      if (fetched[gone.unit]) {
        fetched[gone.unit] = false;
        // A global cache evicts units of other layers too.
        const std::uint32_t of = scope_ == Scope::kLayer ? layer : cache.space().layer_of(gone.unit);
        counts_[of].wasted += cache.bytes_of(gone.unit);
      }
    return done;
  }

  /// A use; true when the unit was fetched ahead and this is its first.
  bool use(ExpertCache& cache, std::uint32_t layer, std::uint32_t unit, std::uint64_t next_use) {
    cache.use(unit, next_use);
    std::vector<bool>& fetched = fetched_of(layer);
    if (!fetched[unit]) return false;
    fetched[unit] = false;
    return true;
  }

  void load(ExpertCache& cache, std::uint32_t layer, std::uint32_t unit) {
    if (!make_resident(cache, layer, unit)) throw std::logic_error("replay: a capacity below one request");
    counts_[layer].loaded += cache.bytes_of(unit);
  }

  void serve_one(ExpertCache& cache, std::uint32_t layer, const Need& need) {
    const StoredExpert& stored = bytes_.at(layer, need.expert);
    const auto units = static_cast<std::uint32_t>(stored.units_read(need.planes));
    const std::uint32_t first = cache.space().number(local(layer), need.expert, 0);
    ReplayCounts& counts = counts_[layer];
    if (units == 1) {
      const bool hit = cache.resident(first);
      counts.requested += stored.units[0].bytes;
      counts.prefetch_hits += use(cache, layer, first, need.next_use) ? 1 : 0;
      if (hit)
        ++counts.hits;
      else
        load(cache, layer, first);
      return;
    }
    bool hit = true, ahead = false;
    held_.clear();
    for (std::uint32_t u = units; u-- > 0;) {  // the least significant plane first
      const std::uint32_t unit = first + u;
      counts.requested += stored.units[u].bytes;
      ahead = use(cache, layer, unit, need.next_use) || ahead;
      if (cache.resident(unit)) {
        cache.hold(unit);
        held_.push_back(unit);
      } else {
        hit = false;
      }
    }
    if (hit) {
      ++counts.hits;
      counts.prefetch_hits += ahead ? 1 : 0;
    } else {
      for (std::uint32_t u = 0; u < units; ++u)
        if (!cache.resident(first + u)) {
          load(cache, layer, first + u);
          cache.hold(first + u);
          held_.push_back(first + u);
        }
    }
    for (const std::uint32_t unit : held_) cache.release(unit);
  }

  void serve_set(ExpertCache& cache, std::uint32_t layer, const std::vector<Need>& needs) {
    ReplayCounts& counts = counts_[layer];
    order_.clear();
    misses_.clear();
    holds_.assign(needs.size(), {});
    for (std::size_t i = 0; i < needs.size(); ++i) {
      const StoredExpert& stored = bytes_.at(layer, needs[i].expert);
      const auto units = static_cast<std::uint32_t>(stored.units_read(needs[i].planes));
      const std::uint32_t first = cache.space().number(local(layer), needs[i].expert, 0);
      bool ahead = false;
      for (std::uint32_t u = units; u-- > 0;) {  // the least significant plane first
        counts.requested += stored.units[u].bytes;
        ahead = use(cache, layer, first + u, needs[i].next_use) || ahead;
        if (!cache.resident(first + u)) continue;
        cache.hold(first + u);
        holds_[i].push_back(first + u);
      }
      if (holds_[i].size() < units) {
        misses_.push_back(i);
        continue;
      }
      ++counts.hits;
      counts.prefetch_hits += ahead ? 1 : 0;
      order_.push_back(i);
    }
    for (const std::size_t i : misses_) {
      const auto units = static_cast<std::uint32_t>(bytes_.at(layer, needs[i].expert).units_read(needs[i].planes));
      const std::uint32_t first = cache.space().number(local(layer), needs[i].expert, 0);
      for (std::uint32_t u = 0; u < units; ++u) {
        if (cache.resident(first + u)) {
          if (std::find(holds_[i].begin(), holds_[i].end(), first + u) == holds_[i].end()) {
            cache.hold(first + u);
            holds_[i].push_back(first + u);
          }
          continue;
        }
        while (!make_resident(cache, layer, first + u)) give_up_one(cache, i);
        counts.loaded += cache.bytes_of(first + u);
        cache.hold(first + u);
        holds_[i].push_back(first + u);
      }
      order_.push_back(i);
    }
    for (const std::vector<std::uint32_t>& units : holds_)
      for (const std::uint32_t unit : units) cache.release(unit);
  }

  /// Lets go of the expert used first; if none is left, of what the last miss still waiting holds.
  void give_up_one(ExpertCache& cache, std::size_t current) {
    for (const std::size_t i : order_)
      if (i != current && let_go(cache, i)) return;
    for (std::size_t m = misses_.size(); m-- > 0;)
      if (misses_[m] != current && let_go(cache, misses_[m])) return;
    throw std::logic_error("replay: a capacity below one request");
  }
  bool let_go(ExpertCache& cache, std::size_t i) {
    if (holds_[i].empty()) return false;
    for (const std::uint32_t unit : holds_[i]) cache.release(unit);
    holds_[i].clear();
    return true;
  }

  /// False when there is no room for more.
  bool fetch_one(ExpertCache& cache, std::uint32_t layer, const Need& guess) {
    const auto units = static_cast<std::uint32_t>(bytes_.at(layer, guess.expert).units_read(guess.planes));
    const std::uint32_t first = cache.space().number(local(layer), guess.expert, 0);
    for (std::uint32_t u = 0; u < units; ++u) {
      if (!cache.resident(first + u)) {
        cache.fetch(first + u, guess.next_use);
        if (!make_resident(cache, layer, first + u)) return false;
        counts_[layer].prefetched += cache.bytes_of(first + u);
        fetched_of(layer)[first + u] = true;
      }
      cache.hold(first + u);
      held_.push_back(first + u);
    }
    return true;
  }

  const ExpertBytes& bytes_;
  Access access_;
  Scope scope_;
  std::vector<ExpertCache> caches_;
  std::vector<std::vector<bool>> fetched_;  // per cache and unit: loaded ahead and not used since
  std::vector<ReplayCounts> counts_;
  // Working space of one step.
  std::vector<Evicted> evicted_;
  std::vector<std::uint32_t> held_;
  std::vector<std::vector<std::uint32_t>> holds_;
  std::vector<std::size_t> order_, misses_;
};

}  // namespace

ReplayCounts ReplayResult::total() const { return sum(layers); }
ReplayCounts ReplayResult::warm() const { return sum(warm_layers); }

/// Unpacks the steps of a trace.
class Replay {
 public:
  explicit Replay(const ReplayTrace& trace) : trace_(trace) {}
  bool done() const { return step_ == trace_.steps_.size(); }
  std::uint32_t layer() const { return head().layer; }
  bool same_tokens() const { return head().same_tokens != 0; }
  std::uint64_t tokens_before() const { return head().tokens_before; }
  /// next_use: the request after each one.
  void needs(std::vector<Need>& out) const {
    fill(out, [&](std::size_t i) { return trace_.next_[i] == UINT32_MAX ? kNeverUsed : trace_.next_[i]; });
  }
  /// next_use: each request itself, for one who looks at it from before.
  void ahead(std::vector<Need>& out) const {
    fill(out, [](std::size_t i) { return static_cast<std::uint64_t>(i); });
  }
  void advance() {
    request_ += head().count;
    ++step_;
  }

 private:
  const ReplayTrace::Step& head() const { return trace_.steps_[step_]; }
  template <class NextUse>
  void fill(std::vector<Need>& out, const NextUse& next_use) const {
    out.resize(head().count);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = {trace_.expert_[request_ + i], trace_.planes_[request_ + i], 1, next_use(request_ + i)};
  }
  const ReplayTrace& trace_;
  std::size_t step_ = 0, request_ = 0;
};

Bytes largest_request(const ReplayTrace& trace, const ExpertBytes& bytes) {
  Bytes largest;
  std::vector<Need> needs;
  // Few distinct (layer, expert, planes): remember the most planes asked of each expert.
  std::vector<std::uint8_t> most(static_cast<std::size_t>(trace.layers()) * trace.experts(), 0);
  std::vector<char> asked(most.size(), 0);
  for (Replay at(trace); !at.done(); at.advance()) {
    at.needs(needs);
    for (const Need& need : needs) {
      const std::size_t i = static_cast<std::size_t>(at.layer()) * trace.experts() + need.expert;
      const StoredExpert& stored = bytes.at(at.layer(), need.expert);
      const int planes = need.planes == 0 ? stored.planes_read : need.planes;
      if (asked[i] != 0 && planes <= most[i]) continue;
      asked[i] = 1;
      most[i] = static_cast<std::uint8_t>(planes);
      largest = std::max(largest, stored.bytes_read(planes));
    }
  }
  return largest;
}

std::vector<ReplayResult> replay(const ReplayTrace& trace, const ExpertBytes& bytes, const ReplayConfig& config,
                                 const std::vector<ReplayCase>& cases, const std::string& where,
                                 const std::function<void(std::int64_t)>& progress) {
  const base::Registry<PolicyKind> policies = eviction_policies();
  if (bytes.layers() != trace.layers() || bytes.experts() != trace.experts())
    throw std::logic_error("replay: expected the bytes of the trace's layers and experts");
  if (!config.popularity.empty() && config.popularity.size() != trace.popularity().size())
    throw std::logic_error("replay: expected one popularity for each expert");
  const Bytes least = largest_request(trace, bytes);
  Predictor predictor(config.prefetch, trace.experts(), where);
  std::vector<std::unique_ptr<Case>> running;
  for (const ReplayCase& what : cases) {
    const PolicyKind& kind = policies.at(what.policy, where, "policies");
    if (what.capacity < least)
      throw base::ConfigError(where, "capacity", std::to_string(what.capacity.count()) + " bytes",
                              "at least " + std::to_string(least.count()) + " bytes, the largest expert of the trace");
    running.push_back(std::make_unique<Case>(trace, bytes, config, what, kind));
  }
  std::vector<std::vector<ReplayCounts>> at_warm(cases.size());
  bool warm = false;
  std::vector<char> seen(trace.popularity().size(), 0), first;
  std::vector<Need> needs, truth;
  Replay now(trace), next(trace);
  if (!next.done()) next.advance();
  constexpr std::int64_t kTellEvery = 1 << 16;
  std::int64_t untold = 0;
  for (; !now.done(); now.advance()) {
    if (progress && ++untold == kTellEvery) progress(std::exchange(untold, 0));
    if (!warm && now.tokens_before() >= config.warmup_tokens) {
      warm = true;
      for (std::size_t c = 0; c < running.size(); ++c) at_warm[c] = running[c]->counts();
    }
    const std::uint32_t layer = now.layer();
    now.needs(needs);
    first.assign(needs.size(), 0);
    for (std::size_t i = 0; i < needs.size(); ++i) {
      char& before = seen[static_cast<std::size_t>(layer) * trace.experts() + needs[i].expert];
      first[i] = before == 0 ? 1 : 0;
      before = 1;
    }
    for (const auto& c : running) c->serve(layer, needs, first);
    if (next.done()) continue;
    if (predictor.kind().at_all) {
      next.ahead(truth);
      const std::vector<Need> guesses = predictor.guess(truth, next.same_tokens());
      if (!guesses.empty())
        for (const auto& c : running) c->fetch_ahead(next.layer(), guesses);
    }
    next.advance();
  }
  std::vector<ReplayResult> results(cases.size());
  for (std::size_t c = 0; c < running.size(); ++c) {
    running[c]->finish();
    results[c].layers = running[c]->counts();
    results[c].warm_layers = results[c].layers;
    for (std::size_t layer = 0; layer < results[c].layers.size(); ++layer)
      results[c].warm_layers[layer] -= warm ? at_warm[c][layer] : results[c].layers[layer];
  }
  return results;
}

}  // namespace moesaic::host
