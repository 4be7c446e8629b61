#include "models/host/host_driver.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "base/error.h"

namespace moesaic::host {
namespace {

UnitSpace all_units(const ExpertBytes& bytes) {
  return {bytes.layers(), bytes.experts(), static_cast<std::uint32_t>(bytes.most_units())};
}

Bytes largest_with_rounding(const ExpertBytes& bytes) {
  Bytes largest;
  for (std::uint32_t layer = 0; layer < bytes.layers(); ++layer)
    for (std::uint32_t expert = 0; expert < bytes.experts(); ++expert) {
      Bytes sum;
      const StoredExpert& stored = bytes.at(layer, expert);
      sum += ByteSpace::rounded(stored.room);
      for (const UnitSpan& unit : stored.units)
        if (stored.room == Bytes(0)) sum += ByteSpace::rounded(unit.bytes);
      largest = std::max(largest, sum);
    }
  return largest;
}

std::unique_ptr<EvictionPolicy> make_policy(const ExpertBytes& bytes, const DriverConfig& config,
                                            const std::string& where) {
  const base::Registry<PolicyKind> policies = eviction_policies();
  const PolicyKind& kind = policies.at(config.policy, where, "policy");
  const Bytes least = largest_with_rounding(bytes);
  if (config.capacity.count() / ByteSpace::kAlignment * ByteSpace::kAlignment < least.count())
    throw base::ConfigError(where, "capacity", std::to_string(config.capacity.count()) + " bytes",
                            "at least " + std::to_string(least.count()) + " bytes, the largest expert");
  return kind.make({all_units(bytes), config.popularity});
}

}  // namespace

HostDriver::HostDriver(const ExpertBytes& bytes, const DriverConfig& config, const std::string& where)
    : bytes_(bytes),
      config_(config),
      space_(all_units(bytes)),
      cache_(bytes, 0, space_, config.capacity, make_policy(bytes, config, where)),
      predictor_(config.prefetch, bytes.experts(), where),
      layer_stats_(bytes.layers()) {
  cache_.give_addresses(config.cache_base);
}

void HostDriver::at_time(Cycles now) {
  if (now < now_) throw std::logic_error("HostDriver: time went back");
  now_ = now;
}

bool HostDriver::prefill(std::uint32_t layer, std::uint32_t expert, std::uint64_t next_use) {
  const std::size_t units = bytes_.at(layer, expert).units.size();
  const std::uint32_t first = space_.number(layer, expert, 0);
  Bytes sum = cache_.used_bytes();
  for (std::uint32_t u = 0; u < units; ++u) sum += cache_.bytes_of(first + u);
  if (sum.count() > cache_.capacity().count() / ByteSpace::kAlignment * ByteSpace::kAlignment) return false;
  for (std::uint32_t u = 0; u < units; ++u) {
    cache_.fetch(first + u, next_use);
    if (!cache_.insert(first + u, evicted_) || !evicted_.empty())
      throw std::logic_error("HostDriver: prefilled after the first event");
  }
  return true;
}

void HostDriver::replay(std::uint32_t layer, const std::vector<Need>& needs) {
  const DriverStats stats = stats_;
  const std::vector<LayerStats> layer_stats = layer_stats_;
  routed(now_, layer, needs);
  // A job is admitted with its loads in one answer; those behind it may find their places once it has finished.
  while (const std::optional<Answer> answer = take(Cycles(INT64_MAX))) {
    for (const Descriptor& load : answer->loads) completed(now_, load.id);
    for (const JobPlan& job : answer->jobs) {
      released(now_, job.id);
      finished(now_, job.id);
    }
  }
  if (!idle()) throw std::logic_error("HostDriver: a replayed step did not end");
  stats_ = stats;
  layer_stats_ = layer_stats;
  replayed_fragmentation_ = cache_.fragmentation_evictions();
}

HostDriver::Places HostDriver::places_of(std::uint32_t layer, std::uint32_t expert) const {
  Places places(bytes_.at(layer, expert).units.size());
  const std::uint32_t first = space_.number(layer, expert, 0);
  for (std::uint32_t u = 0; u < places.size(); ++u)
    if (cache_.resident(first + u)) places[u] = cache_.address_of(first + u);
  return places;
}

std::vector<JobId> HostDriver::routed(Cycles now, std::uint32_t layer, const std::vector<Need>& needs,
                                      const std::optional<NextStep>& next) {
  at_time(now);
  cache_.layer_begins(layer);
  // A request for b planes counts for units 0..b; several needs of one expert add up.
  std::map<std::uint32_t, std::vector<std::uint32_t>> requests;
  for (const Need& need : needs) {
    std::vector<std::uint32_t>& of = requests[need.expert];
    const StoredExpert& stored = bytes_.at(layer, need.expert);
    of.resize(stored.units.size(), 0);
    for (std::size_t u = 0; u < stored.units_read(need.planes); ++u) of[u] += need.requests;
  }
  std::vector<JobId> ids;
  for (const Need& need : needs) {
    Job job;
    job.id = ++last_job_;
    job.layer = layer;
    job.expert = need.expert;
    job.first_unit = space_.number(layer, need.expert, 0);
    job.units = static_cast<std::uint32_t>(bytes_.at(layer, need.expert).units_read(need.planes));
    job.requests = requests[need.expert];
    job.holds.assign(job.units, false);
    bool hit = true;
    for (std::uint32_t u = job.units; u-- > 0;) {  // the least significant plane first
      const std::uint32_t unit = job.first_unit + u;
      cache_.use(unit, need.next_use);
      if (cache_.resident(unit)) {
        cache_.hold(unit);
        job.holds[u] = true;
      }
      hit = hit && cache_.resident(unit) && descriptor_of_.count(unit) == 0;
    }
    ++stats_.jobs;
    stats_.hits += hit ? 1 : 0;
    ++layer_stats_[layer].jobs;
    layer_stats_[layer].hits += hit ? 1 : 0;
    ids.push_back(job.id);
    waiting_.push_back(job.id);
    jobs_.emplace(job.id, std::move(job));
  }
  guesses_.reset();
  if (next) {
    std::vector<Need> guesses = predictor_.guess(next->needs, next->same_tokens);
    if (!guesses.empty()) guesses_ = NextStep{next->layer, std::move(guesses), next->same_tokens};
  }
  work(now);
  return ids;
}

void HostDriver::completed(Cycles now, DescriptorId descriptor) {
  at_time(now);
  const auto load = in_flight_.find(descriptor);
  if (load == in_flight_.end())
    throw std::logic_error("HostDriver: completion of descriptor " + std::to_string(descriptor) +
                           ", which is not on its way");
  const std::uint32_t unit = load->second;
  in_flight_.erase(load);
  descriptor_of_.erase(unit);
  cache_.release(unit);
  work(now);
}

void HostDriver::released(Cycles now, JobId job) {
  at_time(now);
  Job& of = jobs_.at(job);
  if (!of.admitted) throw std::logic_error("HostDriver: job " + std::to_string(job) + " released without its places");
  for (std::uint32_t u = 0; u < of.units; ++u)
    if (descriptor_of_.count(of.first_unit + u) > 0)
      throw std::logic_error("HostDriver: job " + std::to_string(job) + " released before its unit " +
                             std::to_string(u) + " came");
  of.released = true;
}

void HostDriver::finished(Cycles now, JobId job) {
  at_time(now);
  const auto of = jobs_.find(job);
  if (of == jobs_.end() || !of->second.released)
    throw std::logic_error("HostDriver: job " + std::to_string(job) + " finished without being released");
  release_holds(of->second);
  jobs_.erase(of);
  work(now);
}

std::optional<Cycles> HostDriver::next_answer() const {
  if (answers_.empty()) return std::nullopt;
  return answers_.front().at;
}

std::optional<Answer> HostDriver::take(Cycles now) {
  if (answers_.empty() || now < answers_.front().at) return std::nullopt;
  Answer oldest = std::move(answers_.front());
  answers_.pop_front();
  return oldest;
}

DriverStats HostDriver::stats() const {
  DriverStats all = stats_;
  all.fragmentation_evictions = cache_.fragmentation_evictions() - replayed_fragmentation_;
  return all;
}

void HostDriver::release_holds(Job& job) {
  for (std::uint32_t u = 0; u < job.units; ++u)
    if (job.holds[u]) cache_.release(job.first_unit + u);
  job.holds.assign(job.units, false);
}

void HostDriver::note_evictions(Answer& answer) {
  for (const Evicted& gone : evicted_) {
    const std::uint32_t layer = space_.layer_of(gone.unit);
    answer.evictions.push_back({layer, space_.expert_of(gone.unit) - layer * space_.experts, space_.unit_of(gone.unit),
                                gone.address, cache_.bytes_of(gone.unit)});
  }
  stats_.evictions += static_cast<std::int64_t>(evicted_.size());
  evicted_.clear();
}

void HostDriver::issue(std::uint32_t layer, std::uint32_t expert, std::uint32_t unit, std::uint32_t requests,
                       Answer& answer) {
  const UnitSpan& span = bytes_.at(layer, expert).units[unit];
  const std::uint32_t number = space_.number(layer, expert, unit);
  const DescriptorId id = ++last_descriptor_;
  answer.loads.push_back(
      {id, layer, expert, unit, span.bytes,
       config_.storage_base + bytes_.source(layer, expert) + static_cast<std::uint64_t>(span.offset.count()),
       cache_.address_of(number), requests});
  cache_.hold(number);  // until it has come
  in_flight_.emplace(id, number);
  descriptor_of_.emplace(number, id);
}

bool HostDriver::give_up_a_waiting_hold(const Job& except) {
  for (std::size_t i = waiting_.size(); i-- > 0;) {
    Job& job = jobs_.at(waiting_[i]);
    if (job.id == except.id || std::find(job.holds.begin(), job.holds.end(), true) == job.holds.end()) continue;
    release_holds(job);
    return true;
  }
  return false;
}

void HostDriver::load(const Job& job, std::uint32_t unit, Answer& answer) {
  issue(job.layer, job.expert, unit, job.requests[unit], answer);
  const Bytes bytes = bytes_.at(job.layer, job.expert).units[unit].bytes;
  stats_.loaded += bytes;
  layer_stats_[job.layer].loaded += bytes;
}

bool HostDriver::place(Job& job, Answer& answer) {
  for (std::uint32_t u = 0; u < job.units; ++u) {
    const std::uint32_t unit = job.first_unit + u;
    if (job.holds[u]) continue;
    if (!cache_.resident(unit)) {
      while (!cache_.insert(unit, evicted_)) {
        note_evictions(answer);
        if (give_up_a_waiting_hold(job)) continue;
        return repack(job, answer);
      }
      note_evictions(answer);
      load(job, u, answer);
    }
    cache_.hold(unit);
    job.holds[u] = true;
  }
  return true;
}

/// With nothing resident but the job's own units, all of them come: start again with an empty cache.
bool HostDriver::repack(Job& job, Answer& answer) {
  if (!in_flight_.empty()) return false;
  for (const auto& [id, other] : jobs_)
    if (other.admitted) return false;
  release_holds(job);
  for (std::uint32_t u = 0; u < job.units; ++u)
    if (cache_.resident(job.first_unit + u)) cache_.drop(job.first_unit + u, evicted_);
  note_evictions(answer);
  ++stats_.repacked;
  for (std::uint32_t u = 0; u < job.units; ++u) {
    if (!cache_.insert(job.first_unit + u, evicted_))
      throw std::logic_error("HostDriver: an expert finds no room in an empty cache");
    load(job, u, answer);
    cache_.hold(job.first_unit + u);
    job.holds[u] = true;
  }
  return true;
}

void HostDriver::work(Cycles now) {
  const Cycles at = now + config_.decision_cycles;
  while (!waiting_.empty()) {
    Job& job = jobs_.at(waiting_.front());
    Answer reply;
    reply.at = at;
    const bool placed = place(job, reply);
    if (!placed) {
      stats_.waits += job.waited ? 0 : 1;
      job.waited = true;
      answer(std::move(reply));
      return;
    }
    job.admitted = true;
    waiting_.pop_front();
    JobPlan plan{job.id, job.layer, job.expert, {}, {}};
    for (std::uint32_t u = 0; u < job.units; ++u) {
      plan.addresses.push_back(cache_.address_of(job.first_unit + u));
      const auto on_its_way = descriptor_of_.find(job.first_unit + u);
      if (on_its_way != descriptor_of_.end()) plan.waits_for.push_back(on_its_way->second);
    }
    reply.jobs.push_back(std::move(plan));
    answer(std::move(reply));
  }
  Answer reply;
  reply.at = at;
  prefetch(reply);
  answer(std::move(reply));
}

void HostDriver::prefetch(Answer& answer) {
  if (!guesses_) return;
  const NextStep guesses = *std::exchange(guesses_, std::nullopt);
  std::vector<std::uint32_t> held;
  bool room = true;
  for (const Need& guess : guesses.needs) {
    const StoredExpert& stored = bytes_.at(guesses.layer, guess.expert);
    for (std::uint32_t u = 0; room && u < stored.units_read(guess.planes); ++u) {
      const std::uint32_t unit = space_.number(guesses.layer, guess.expert, u);
      if (!cache_.resident(unit)) {
        cache_.fetch(unit, guess.next_use);
        room = cache_.insert(unit, evicted_);
        note_evictions(answer);
        if (!room) break;
        issue(guesses.layer, guess.expert, u, 0, answer);
        stats_.prefetched += stored.units[u].bytes;
        layer_stats_[guesses.layer].prefetched += stored.units[u].bytes;
      }
      cache_.hold(unit);  // no guess makes room for another
      held.push_back(unit);
    }
    if (!room) break;
  }
  for (const std::uint32_t unit : held) cache_.release(unit);
}

void HostDriver::answer(Answer&& reply) {
  if (!reply.jobs.empty() || !reply.loads.empty() || !reply.evictions.empty()) answers_.push_back(std::move(reply));
}

}  // namespace moesaic::host
