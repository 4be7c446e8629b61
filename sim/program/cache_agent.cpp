#include "sim/program/cache_agent.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace moesaic::program {

using base::Bytes;
using base::Cycles;

namespace {

Cycles cycles(std::uint64_t count) { return Cycles(static_cast<std::int64_t>(count)); }
std::uint64_t plain(Bytes bytes) { return static_cast<std::uint64_t>(bytes.count()); }

}  // namespace

CacheAgent::CacheAgent(PhaseSource& source, const CacheConfig& config, unsigned io_jobs, const std::string& where)
    : CacheAgent(nullptr, &source, config, io_jobs, where) {}

CacheAgent::CacheAgent(const RunProgram& program, const CacheConfig& config, unsigned io_jobs, const std::string& where)
    : CacheAgent(std::make_unique<WholeProgram>(program), nullptr, config, io_jobs, where) {}

CacheAgent::CacheAgent(std::unique_ptr<PhaseSource> own, PhaseSource* source, const CacheConfig& config,
                       unsigned io_jobs, const std::string& where)
    : own_(std::move(own)),
      source_(source != nullptr ? *source : *own_),
      stored_(source_.offloaded()),
      config_(config) {
  for (const EarlierRows& rows : stored_.earlier) first_use_ += rows.readings.size();

  std::vector<host::StoredExpert> kinds;
  std::vector<std::uint32_t> kind_of;
  std::map<const numerics::ExpertLayout*, std::uint32_t> known;
  for (const auto& layout : stored_.layout) {
    const auto [kind, is_new] = known.try_emplace(layout.get(), static_cast<std::uint32_t>(kinds.size()));
    if (is_new) {
      const CacheBlock block = cache_block(*layout);
      host::StoredExpert& one = kinds.emplace_back();
      for (const CacheBlock::Piece& piece : block.pieces)
        one.units.push_back(
            {Bytes(static_cast<std::int64_t>(piece.from)), Bytes(static_cast<std::int64_t>(piece.bytes))});
      // An expert of several formats is read as it is, so that all of it is loaded.
      one.by_planes = block.by_planes;
      one.total = Bytes(layout->total_bytes());
      one.planes_read = layout->formats().gate.planes();
      if (!block.by_planes) one.room = Bytes(static_cast<std::int64_t>(block.bytes));
      blocks_.emplace(layout.get(), block);
    }
    kind_of.push_back(kind->second);
  }
  bytes_ = std::make_unique<host::ExpertBytes>(static_cast<std::uint32_t>(stored_.layers.size()),
                                               static_cast<std::uint32_t>(stored_.experts), std::move(kinds),
                                               std::move(kind_of));
  host::DriverConfig driver;
  driver.policy = config.policy;
  driver.capacity = Bytes(static_cast<std::int64_t>(stored_.cache_bytes));
  driver.cache_base = stored_.cache_address;
  driver.decision_cycles = config.decision_cycles;
  driver.prefetch = config.prefetch;
  driver.popularity = source_.uses().popularity;
  driver_ = std::make_unique<host::HostDriver>(*bytes_, driver, where);
  dropped_of_.assign(stored_.layers.size(), 0);
  free_entries_ = (std::uint64_t{1} << io_jobs) - 1;
  if (config.start_popular) start_popular();
  replay_earlier();
}

/// A job's number among all uses, those before the run included.
std::uint64_t CacheAgent::use_of(std::uint64_t job) const {
  return job == ExpertUses::kNever ? host::kNeverUsed : first_use_ + job;
}

/// The experts with the most rows of the run are there.
void CacheAgent::start_popular() {
  const std::vector<std::uint64_t>&popularity = source_.uses().popularity, &first = source_.uses().first;
  std::vector<std::size_t> order;
  for (std::size_t e = 0; e < popularity.size(); ++e)
    if (popularity[e] > 0) order.push_back(e);
  std::stable_sort(order.begin(), order.end(),
                   [&popularity](std::size_t a, std::size_t b) { return popularity[a] > popularity[b]; });
  for (const std::size_t e : order) {
    const auto experts = static_cast<std::size_t>(stored_.experts);
    const auto layer = static_cast<std::uint32_t>(e / experts), expert = static_cast<std::uint32_t>(e % experts);
    if (!driver_->prefill(layer, expert, use_of(first[e]))) break;
    warm_.push_back({e, driver_->places_of(layer, expert)});
  }
}

/// What went through the cache before the run.
void CacheAgent::replay_earlier() {
  if (stored_.earlier.empty()) return;
  std::vector<std::vector<host::Need>> needs(stored_.earlier.size());
  std::vector<std::uint64_t> later;  // of each expert, its next use
  for (const std::uint64_t job : source_.uses().first) later.push_back(use_of(job));
  std::uint64_t use = first_use_;
  for (std::size_t step = needs.size(); step-- > 0;) {
    const EarlierRows& rows = stored_.earlier[step];
    needs[step].resize(rows.readings.size());
    for (std::size_t i = rows.readings.size(); i-- > 0;) {
      const EarlierRows::Reading& reading = rows.readings[i];
      std::uint64_t& next = later[number(layer_index(rows.layer), reading.expert)];
      needs[step][i] = {static_cast<std::uint32_t>(reading.expert), reading.planes, reading.rows,
                        std::exchange(next, --use)};
    }
  }
  for (std::size_t step = 0; step < needs.size(); ++step)
    driver_->replay(layer_index(stored_.earlier[step].layer), needs[step]);
  for (std::uint32_t layer = 0; layer < stored_.layers.size(); ++layer)
    for (int expert = 0; expert < stored_.experts; ++expert) {
      host::HostDriver::Places places = driver_->places_of(layer, static_cast<std::uint32_t>(expert));
      const bool any = std::any_of(places.begin(), places.end(), [](const auto& place) { return place.has_value(); });
      if (any) warm_.push_back({number(layer, expert), std::move(places)});
    }
}

IoSettings CacheAgent::settings() const { return {config_.load_order, std::nullopt}; }

std::vector<ByteRange> CacheAgent::prepare(MemoryImage& image) {
  std::map<std::uint64_t, std::uint64_t> filled;  // end by begin
  for (const Warm& warm : warm_) {
    const CacheBlock& block = blocks_.at(stored_.layout[warm.expert].get());
    for (std::size_t i = 0; i < warm.places.size(); ++i) {
      if (!warm.places[i]) continue;
      const CacheBlock::Piece& piece = block.pieces[i];
      const std::uint64_t begin = *warm.places[i] + piece.to;
      filled[begin] = begin + piece.bytes;
      if (!image.has_bytes() || !stored_.source[warm.expert]) continue;  // nobody computes with it
      std::vector<std::uint8_t> bytes(piece.bytes);
      stored_.storage.read(*stored_.source[warm.expert] + piece.from, bytes.data(), bytes.size());
      image.write(begin, bytes.data(), bytes.size());
    }
  }
  std::vector<ByteRange> empty;
  std::uint64_t at = stored_.cache_address;
  for (const auto& [begin, end] : filled) {
    if (at < begin) empty.push_back({at, begin - at});
    at = end;
  }
  const std::uint64_t end = stored_.cache_address + stored_.cache_bytes;
  if (at < end) empty.push_back({at, end - at});
  return empty;
}

std::vector<memory::Counter> CacheAgent::counters() const {
  const host::DriverStats stats = driver_->stats();
  std::uint64_t warm_bytes = 0;
  for (const Warm& warm : warm_)
    for (std::size_t i = 0; i < warm.places.size(); ++i)
      if (warm.places[i]) warm_bytes += blocks_.at(stored_.layout[warm.expert].get()).pieces[i].bytes;
  const auto count = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
  return {{"jobs", count(stats.jobs)},
          {"hits", count(stats.hits)},
          {"loaded_bytes", plain(stats.loaded)},
          {"prefetched_bytes", plain(stats.prefetched)},
          {"dropped_bytes", dropped_bytes_},
          {"evictions", count(stats.evictions)},
          {"fragmentation_evictions", count(stats.fragmentation_evictions)},
          {"repacked", count(stats.repacked)},
          {"waits_for_room", count(stats.waits)},
          {"warm_experts", warm_.size()},
          {"warm_bytes", warm_bytes}};
}

std::vector<EngineRun::CacheOfLayer> CacheAgent::cache_layers() const {
  std::vector<EngineRun::CacheOfLayer> layers;
  for (std::size_t l = 0; l < stored_.layers.size(); ++l) {
    const host::LayerStats& stats = driver_->layer_stats()[l];
    layers.push_back({static_cast<std::uint64_t>(stored_.layers[l]), static_cast<std::uint64_t>(stats.jobs),
                      static_cast<std::uint64_t>(stats.hits), plain(stats.loaded), plain(stats.prefetched),
                      dropped_of_[l]});
  }
  return layers;
}

std::uint32_t CacheAgent::layer_index(int layer) const {
  return static_cast<std::uint32_t>(std::lower_bound(stored_.layers.begin(), stored_.layers.end(), layer) -
                                    stored_.layers.begin());
}

std::size_t CacheAgent::number(std::uint32_t layer, int expert) const {
  return layer * static_cast<std::size_t>(stored_.experts) + static_cast<std::size_t>(expert);
}

/// Numbers within the phase.
std::vector<std::size_t> CacheAgent::offloaded_jobs(const LoweredPhase& phase) const {
  std::vector<std::size_t> jobs;
  for (std::size_t j = 0; j < phase.jobs.size(); ++j)
    if (is_offloaded(stored_, phase.jobs[j])) jobs.push_back(j);
  return jobs;
}

std::vector<host::Need> CacheAgent::needs_of(const LoweredPhase& phase, const std::vector<std::size_t>& jobs) {
  std::vector<host::Need> needs;
  for (const std::size_t j : jobs) {
    const RunProgram::Job& job = phase.jobs[j];
    needs.push_back({static_cast<std::uint32_t>(job.expert), job.format.gate.planes(),
                     static_cast<std::uint32_t>(job.rows), use_of(source_.next_use(phase.first_job + j))});
  }
  return needs;
}

/// Of a phase that has not begun: each expert once, at its widest reading. Seen from before, its next use is there.
std::vector<host::Need> CacheAgent::coming_needs(const LoweredPhase& phase, const std::vector<std::size_t>& jobs) {
  std::vector<host::Need> needs = needs_of(phase, jobs), merged;
  for (std::size_t i = 0; i < needs.size(); ++i) {
    if (merged.empty() || merged.back().expert != needs[i].expert) {  // jobs of one expert follow each other
      merged.push_back(needs[i]);
      merged.back().next_use = use_of(phase.first_job + jobs[i]);
      continue;
    }
    merged.back().planes = std::max(merged.back().planes, needs[i].planes);
    merged.back().requests += needs[i].requests;
  }
  return merged;
}

void CacheAgent::plan_phase(std::uint64_t now) {
  const RunProgram::Phase& phase = running().phase;
  const std::uint64_t begin = std::max(now + phase.after, phase.at);
  open_phase({phase_index_, begin});
  planned_ = begin > now;
  if (planned_)
    settle(now);
  else
    begin_phase(now);
}

void CacheAgent::on_woken(std::uint64_t now) {
  if (!planned_ || now < phase().begin) return settle(now);
  planned_ = false;
  begin_phase(now);
}

void CacheAgent::begin_phase(std::uint64_t now) {
  const LoweredPhase& phase = running();
  const std::vector<std::size_t> jobs = offloaded_jobs(phase);
  jobs_left_ = jobs.size();
  for (std::size_t j = 0; j < phase.jobs.size(); ++j)
    if (!is_offloaded(stored_, phase.jobs[j]) && phase.jobs[j].expert != kCombination)
      offer_commands(j, nullptr, std::nullopt);
  end_if_all_offered();
  if (jobs.empty()) return settle(now);
  std::optional<host::NextStep> next;
  for (std::size_t q = phase_index_ + 1; q < source_.phases() && !next; ++q) {
    const LoweredPhase& coming = source_.phase(q);
    const std::vector<std::size_t> then = offloaded_jobs(coming);
    if (then.empty()) continue;
    // A step's layers ascend, so a layer that does not begins another step.
    next = host::NextStep{layer_index(coming.phase.layer), coming_needs(coming, then),
                          phase.phase.layer < coming.phase.layer};
  }
  const std::vector<host::JobId> ids =
      driver_->routed(cycles(now), layer_index(phase.phase.layer), needs_of(phase, jobs), next);
  for (std::size_t i = 0; i < ids.size(); ++i) jobs_[ids[i]].job = jobs[i];
  settle(now);
}

/// The combination, if there is one, comes last.
void CacheAgent::end_if_all_offered() {
  if (jobs_left_ > 0) return;
  const std::vector<RunProgram::Job>& jobs = running().jobs;
  if (jobs.back().expert == kCombination) offer_commands(jobs.size() - 1, nullptr, std::nullopt);
  close_phase();
}

/// Takes what the driver has to say by now, and says when to ask again.
void CacheAgent::settle(std::uint64_t now) {
  while (const auto answer = driver_->take(cycles(now))) take(*answer, now);
  offer_loads();
  std::optional<std::uint64_t> wake;
  if (planned_) wake = phase().begin;
  if (const auto next = driver_->next_answer())
    wake = std::min(wake.value_or(UINT64_MAX), static_cast<std::uint64_t>(next->count()));
  set_wake(wake);
  name_idle_cycles();
}

void CacheAgent::take(const host::Answer& answer, std::uint64_t now) {
  if (!answer.loads.empty()) add_loads(answer.loads);
  for (const host::JobPlan& plan : answer.jobs) {
    Job& job = jobs_.at(plan.id);
    job.places = plan.addresses;
    for (const host::DescriptorId load : plan.waits_for) {
      const auto on_its_way = loads_.find(load);
      if (on_its_way == loads_.end()) continue;  // completed since the driver decided
      on_its_way->second.insert(plan.id);
      ++job.waits_for;
    }
    if (job.waits_for == 0)
      offer_job(plan.id, now);
    else
      ++waiting_jobs_;
  }
}

void CacheAgent::add_loads(const std::vector<host::Descriptor>& loads) {
  Group& group = groups_[++last_group_];
  for (const host::Descriptor& load : loads) {
    const std::size_t expert = number(load.layer, static_cast<int>(load.expert));
    const CacheBlock& block = blocks_.at(stored_.layout[expert].get());
    const CacheBlock::Piece& piece = block.pieces[load.plane];
    Piece staged;
    staged.group = last_group_;
    staged.load = load.id;
    Descriptor& d = staged.descriptor;
    d.plane = static_cast<std::uint8_t>(piece.rank);
    d.layer = static_cast<std::uint16_t>(stored_.layers[load.layer]);
    d.expert = static_cast<std::uint16_t>(load.expert);
    d.requests = load.requests;
    d.bytes = static_cast<std::uint32_t>(piece.bytes);
    d.source = stored_.source[expert].value() + piece.from;
    d.destination = load.destination + piece.to;
    staged_.push_back(staged);
    loads_[load.id] = {};
  }
  group.pieces = loads.size();
  staged_.back().descriptor.last = true;
}

void CacheAgent::offer_loads() {
  while (!staged_.empty()) {
    Piece& piece = staged_.front();
    Group& group = groups_.at(piece.group);
    if (!group.job) {
      if (free_entries_ == 0) return;
      unsigned entry = 0;
      while ((free_entries_ >> entry & 1) == 0) ++entry;
      free_entries_ &= free_entries_ - 1;
      group.job = entry;
    }
    piece.descriptor.job = static_cast<std::uint8_t>(*group.job);
    offer(piece.descriptor);
    offered_.emplace(offers_++, piece);
    staged_.pop_front();
  }
}

/// Only the fields that count change: fewer words to write.
void CacheAgent::offer_wait(const Group& group) {
  Command wait = last_command_;
  wait.opcode = Opcode::kWait;
  wait.job = static_cast<std::uint8_t>(*group.job);
  offer(wait, kWaitTag);
  to_execute_.push_back({group.job, std::nullopt});
}

void CacheAgent::offer_job(host::JobId id, std::uint64_t now) {
  const auto job = jobs_.find(id);
  driver_->released(cycles(now), id);
  offer_commands(job->second.job, &job->second, id);
  jobs_.erase(job);
  --jobs_left_;
  end_if_all_offered();
}

void CacheAgent::offer_commands(std::size_t job, const Job* placed, std::optional<host::JobId> id) {
  const LoweredPhase& phase = running();
  const CacheBlock* block = nullptr;
  if (placed != nullptr) {
    const std::size_t expert = number(layer_index(phase.phase.layer), phase.jobs[job].expert);
    block = &blocks_.at(stored_.layout[expert].get());
  }
  for (std::size_t i = phase.jobs[job].first_command; i < phase.job_end(job); ++i) {
    Command command = phase.command(i);
    if (block != nullptr && command.opcode == Opcode::kMatmul) block->relocate(command, placed->places);
    offer(command, i);
    to_execute_.push_back({});
    last_command_ = command;
  }
  if (id) to_execute_.back().finishes = id;
}

void CacheAgent::on_load_completed(std::size_t load, std::uint64_t now) {
  ++completed_;
  const Piece piece = offered_.at(load);
  offered_.erase(load);
  const auto group = groups_.find(piece.group);
  if (--group->second.pieces == 0) {
    if (!over_) offer_wait(group->second);
    groups_.erase(group);
  }
  const auto of_driver = loads_.find(piece.load);
  const std::set<host::JobId> waiting = std::move(of_driver->second);
  loads_.erase(of_driver);
  if (!over_) driver_->completed(cycles(now), piece.load);
  for (const host::JobId id : waiting) {
    if (--jobs_.at(id).waits_for > 0) continue;
    --waiting_jobs_;
    offer_job(id, now);
  }
  if (over_) return finish_when_quiet();
  settle(now);
}

void CacheAgent::on_command_executed(std::uint64_t now) {
  const Executed executed = to_execute_.front();
  to_execute_.pop_front();
  executed_waits_ += executed.frees ? 1 : 0;
  if (executed.frees) free_entries_ |= std::uint64_t{1} << *executed.frees;
  if (executed.finishes) driver_->finished(cycles(now), *executed.finishes);
  if (executed.frees || executed.finishes) settle(now);
}

void CacheAgent::on_phase_ended(std::uint64_t now) {
  if (++phase_index_ < source_.phases()) return plan_phase(now);
  over_ = true;
  const auto drop = [this](std::uint32_t layer, std::uint64_t bytes) {
    dropped_bytes_ += bytes;
    dropped_of_.at(layer) += bytes;
  };
  for (const Piece& piece : staged_) drop(layer_index(piece.descriptor.layer), piece.descriptor.bytes);
  staged_.clear();
  while (const auto due = driver_->next_answer()) {
    const std::optional<host::Answer> answer = driver_->take(*due);
    for (const host::Descriptor& load : answer->loads) drop(load.layer, plain(load.bytes));
  }
  set_wake(std::nullopt);
  finish_when_quiet();
}

void CacheAgent::finish_when_quiet() {
  if (completed_ == offers_) finish();
}

/// Jobs wait for loads that the storage works on, and no job has all: only loads can bring work.
void CacheAgent::name_idle_cycles() {
  set_idle_cause(commands().empty() && waiting_jobs_ > 0 && pushed_ > completed_ ? Cause::kIo : Cause::kHost);
}

}  // namespace moesaic::program
