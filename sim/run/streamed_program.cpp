#include "sim/run/streamed_program.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/error.h"
#include "models/host/eviction_policy.h"
#include "models/host/prefetch.h"
#include "sim/program/cache_agent.h"
#include "sim/program/timed_program.h"

namespace moesaic::run {

namespace {

/// The steps of the trace that the chip file has gone through the cache before the run.
std::vector<program::EarlierRows> earlier_rows(const program::CacheConfig& cache,
                                               const workloads::WorkloadFile& workload) {
  std::vector<program::EarlierRows> earlier;
  if (cache.replayed_steps == 0) return earlier;
  const auto wanted = static_cast<std::size_t>(cache.replayed_steps);
  const std::vector<workloads::EarlierStep> steps = workloads::read_earlier_steps(workload, wanted);
  if (steps.size() < wanted)
    throw base::ConfigError(
        cache.where_start, "cache.start.replay", std::to_string(wanted),
        fmt::format("at most {}: so many steps of {} come before the run's first", steps.size(), workload.trace));
  for (const workloads::EarlierStep& step : steps)
    for (const auto& [layer, experts] : step.rows) {
      program::EarlierRows rows;
      rows.layer = static_cast<int>(layer);
      for (const auto& [key, count] : experts)
        rows.readings.push_back({static_cast<int>(key.first), key.second, 0, count});
      earlier.push_back(std::move(rows));
    }
  return earlier;
}

/// What lowering has to know when the chip's experts lie in a storage.
std::optional<program::Offloading> offloading_of(const program::Chip& chip, const workloads::WorkloadFile& workload) {
  if (!chip.cache) return std::nullopt;
  program::Offloading offloading;
  offloading.capacity_bytes = chip.cache->capacity_bytes;
  offloading.capacity_experts = chip.cache->capacity_experts;
  offloading.experts = static_cast<int>(workload.network.experts);
  offloading.store_all = host::prefetch_kinds().at(chip.cache->prefetch.kind, chip.path, "cache.prefetch.kind").guesses;
  offloading.where = chip.cache->where;
  offloading.earlier = earlier_rows(*chip.cache, workload);
  return offloading;
}

constexpr std::uint32_t kNoExpert = UINT32_MAX;

std::uint32_t key_of(int layer, int expert) {
  return static_cast<std::uint32_t>(layer) << 16 | static_cast<std::uint32_t>(expert);
}

}  // namespace

StreamedProgram::StreamedProgram(const workloads::WorkloadFile& workload, const RunInputs& inputs,
                                 const program::Chip& chip, const LowerChoices& choices)
    : inputs_(inputs),
      chip_(chip),
      choices_(choices),
      offloading_(offloading_of(chip, workload)),
      shapes_(choices.shapes ? choices.shapes(inputs) : inputs.shape),
      lowering_(make_lowering(choices.data)) {
  survey();
  lowering_->place();
  check_addresses(lowering_->program().loaded.image);
  check_capacity();
  if (!offloading_) return;
  uses_.popularity.assign(offloaded().layout.size(), 0);
  uses_.first.assign(offloaded().layout.size(), program::ExpertUses::kNever);
  for (const auto& [key, use] : use_of_) {
    const std::size_t at =
        program::stored_index(offloaded(), static_cast<int>(key >> 16), static_cast<int>(key & 0xffff));
    uses_.popularity[at] = use.rows;
    uses_.first[at] = use.first;
  }
  use_of_.clear();
  find_next_uses();
}

std::unique_ptr<program::PhaseLowering> StreamedProgram::make_lowering(bool data) const {
  program::LowerOptions options;
  options.barriers = choices_.barriers;
  options.offloading = offloading_ ? &*offloading_ : nullptr;
  return std::make_unique<program::PhaseLowering>(shapes_, data ? &inputs_.weights : nullptr,
                                                  data ? &inputs_.matrices : nullptr, chip_.core, chip_.layout,
                                                  chip_.path, options);
}

void StreamedProgram::survey() {
  if (offloading_ && host::eviction_policies().at(chip_.cache->policy, chip_.path, "cache.policy").needs_future)
    expert_of_job_ = std::make_unique<base::SpillFile>();
  for (std::size_t s = 0; s < inputs_.step_count; ++s) {
    const StepInputs made = inputs_.make_step(s, false);
    if (made.layers.size() != inputs_.phases_per_step) throw std::logic_error("a step of another number of phases");
    for (const program::LayerRows& rows : made.layers) {
      lowering_->survey(rows);
      program::stated_cycles(rows.stated, chip_);
      if (offloading_) survey_jobs(rows);
    }
  }
}

void StreamedProgram::survey_jobs(const program::LayerRows& rows) {
  for (const program::RunProgram::Job& job : lowering_->jobs_of(rows)) {
    const bool offloaded = job.expert >= 0 && job.expert < offloading_->experts;
    const std::uint32_t key = offloaded ? key_of(rows.layer, job.expert) : kNoExpert;
    if (offloaded) {
      Use& use = use_of_[key];
      use.rows += static_cast<std::uint64_t>(job.rows);
      use.first = std::min<std::uint64_t>(use.first, jobs_);
    }
    if (expert_of_job_) expert_of_job_->write(std::uint64_t{jobs_} * sizeof key, &key, sizeof key);
    ++jobs_;
  }
}

/// From the last job to the first, in pieces.
void StreamedProgram::find_next_uses() {
  if (!expert_of_job_) return;
  constexpr std::size_t kPiece = 4096;
  next_use_ = std::make_unique<base::SpillFile>();
  std::map<std::uint32_t, std::uint64_t> next;  // by key
  std::vector<std::uint32_t> keys;
  std::vector<std::uint64_t> uses;
  for (std::size_t end = jobs_; end > 0;) {
    const std::size_t begin = end - std::min(end, kPiece);
    keys.resize(end - begin);
    uses.assign(end - begin, program::ExpertUses::kNever);
    expert_of_job_->read(std::uint64_t{begin} * sizeof keys[0], keys.data(), keys.size() * sizeof keys[0]);
    for (std::size_t i = keys.size(); i-- > 0;) {
      if (keys[i] == kNoExpert) continue;
      std::uint64_t& later = next.try_emplace(keys[i], program::ExpertUses::kNever).first->second;
      uses[i] = std::exchange(later, begin + i);
    }
    next_use_->write(std::uint64_t{begin} * sizeof uses[0], uses.data(), uses.size() * sizeof uses[0]);
    end = begin;
  }
  expert_of_job_.reset();
}

std::uint64_t StreamedProgram::next_use(std::size_t job) {
  std::uint64_t use = program::ExpertUses::kNever;
  if (next_use_) next_use_->read(std::uint64_t{job} * sizeof use, &use, sizeof use);
  return use;
}

/// Of what is in the image so far.
void StreamedProgram::check_addresses(const program::MemoryImage& image) const {
  constexpr std::uint64_t kMost = std::uint64_t{1} << program::CoreParams::kAddrBits;
  if (image.regions().empty() || image.regions().back().end() <= kMost) return;
  throw base::ConfigError(chip_.path, "memory", fmt::format("{} bytes to address", image.regions().back().end()),
                          fmt::format("at most {}: a core's addresses have {} bits", kMost,
                                      static_cast<unsigned>(program::CoreParams::kAddrBits)));
}

/// The chip's memory holds the whole run: addresses are not used twice. Where they end is known when all is lowered.
void StreamedProgram::check_capacity() {
  const auto holds = memory::capacity(chip_.memory);
  if (!holds) return;
  const std::unique_ptr<program::PhaseLowering> trial = make_lowering(false);
  const auto for_each_phase = [this](const auto& visit) {
    for (std::size_t s = 0; s < inputs_.step_count; ++s)
      for (const program::LayerRows& rows : inputs_.make_step(s, false).layers) visit(rows);
  };
  for_each_phase([&trial](const program::LayerRows& rows) { trial->survey(rows); });
  trial->place();
  std::uint64_t end = 0;
  const program::MemoryImage& image = trial->program().loaded.image;
  for_each_phase([&](const program::LayerRows& rows) {
    const program::LoweredPhase phase = trial->lower(rows);
    check_addresses(image);
    end = std::max(end, image.regions().back().end());
    trial->forget(phase);
  });
  if (end <= static_cast<std::uint64_t>(holds->count())) return;
  throw base::ConfigError(chip_.path, "memory", fmt::format("a capacity of {} bytes", holds->count()),
                          fmt::format("at least the workload's {}", end));
}

StepInputs& StreamedProgram::step(std::size_t number) {
  if (number < first_step_) throw std::logic_error("a step that is over");
  while (number >= first_step_ + steps_.size()) steps_.push_back(inputs_.make_step(first_step_ + steps_.size(), true));
  most_steps_ = std::max(most_steps_, steps_.size());
  return steps_[number - first_step_];
}

const program::LayerRows& StreamedProgram::rows(std::size_t number) {
  return step(number / inputs_.phases_per_step).layers[number % inputs_.phases_per_step];
}

const program::LoweredPhase& StreamedProgram::phase(std::size_t number) {
  if (number < running_) throw std::logic_error("a phase that is over");
  while (number >= running_ + lowered_.size()) {
    const Stopwatch stopwatch(seconds_);
    const std::size_t next = running_ + lowered_.size();
    const program::LayerRows& of = rows(next);
    program::LoweredPhase& phase = lowered_.emplace_back(lowering_->lower(of));
    check_addresses(lowering_->program().loaded.image);
    phase.phase.after = program::stated_cycles(of.stated, chip_);
    if (opens_step(next)) phase.phase.at = step_of(next).not_before;
  }
  most_phases_ = std::max(most_phases_, lowered_.size());
  return lowered_[number - running_];
}

void StreamedProgram::release() {
  lowering_->forget(lowered_.front());
  lowered_.pop_front();
  if (!closes_step(running_++)) return;
  steps_.pop_front();
  ++first_step_;
}

std::unique_ptr<program::HostAgent> make_agent(const program::Chip& chip, StreamedProgram& program) {
  if (chip.cache) return std::make_unique<program::CacheAgent>(program, *chip.cache, chip.core.io_jobs, chip.path);
  return std::make_unique<program::TimedProgram>(program::timed_work(program, program.program().barriers));
}

}  // namespace moesaic::run
