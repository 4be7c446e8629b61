#include "sim/run/totals.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/units.h"

namespace moesaic::run {

using program::kCombination;
using program::Kind;
using program::kNumCauses;
using program::kNumMemoryPorts;
using program::MemoryPort;

namespace {

constexpr std::array<MemoryPort, kNumMemoryPorts> kPorts{MemoryPort::kWeightRead, MemoryPort::kActivationRead,
                                                         MemoryPort::kWrite};

constexpr std::size_t index(Kind kind) { return static_cast<std::size_t>(kind); }

}  // namespace

Totals::Totals(const program::Chip& chip, const workloads::WorkloadFile& workload, const RunInputs& inputs,
               std::function<void(const Step& step, const StepTimes& times)> step_ended)
    : chip_(chip),
      experts_of_layer_(workload.network.experts),
      arrival_of_(inputs.arrivals),
      step_ended_(std::move(step_ended)) {}

void Totals::phase(const PhaseRecord& record) {
  check_phase(record.number, record.before, record.end);
  if (record.opens_step) {
    step_ = {std::max(record.before.cycles, record.lowered.phase.at), 0, 0};
    open_layer_.reset();
  }
  add_times(record);
  for (std::size_t j = 0; j < record.lowered.jobs.size(); ++j)
    if (record.lowered.jobs[j].expert != kCombination) add_job(record, j);
  last = record.end;
  if (record.closes_step) end_step(record.step);
}

/// Cycles, causes and bytes at the ports.
void Totals::add_times(const PhaseRecord& record) {
  const auto &before = record.before, &end = record.end;
  const program::LayerRows& rows = record.rows;
  const std::uint64_t cycles = end.cycles - before.cycles;
  LayerTotals& layer = layers[rows.layer];
  PartTotals& part = parts[static_cast<std::size_t>(rows.part)];
  layer.cycles += cycles;
  layer.part_cycles[static_cast<std::size_t>(rows.part)] += cycles;
  part.cycles += cycles;
  ++part.phases;
  if (open_layer_ != rows.layer)
    layer.rows +=
        static_cast<std::uint64_t>(rows.part == program::Part::kHead ? rows.products.front().x.m : record.step.tokens);
  open_layer_ = rows.layer;
  for (std::size_t c = 0; c < kNumCauses; ++c) {
    layer.causes[c] += end.causes[c] - before.causes[c];
    part.causes[c] += end.causes[c] - before.causes[c];
  }
  layer.written_bytes += end.written_bytes - before.written_bytes;
  for (std::size_t i = 0; i < kNumMemoryPorts; ++i) {
    layer.port_bytes[i] += end.bytes[i] - before.bytes[i];
    part.port_bytes[i] += end.bytes[i] - before.bytes[i];
    layer.refresh[i] += end.refresh[i] - before.refresh[i];
    part.refresh[i] += end.refresh[i] - before.refresh[i];
  }
  for (std::size_t b = 0; b < program::kNumBlocks; ++b)
    for (std::size_t a = 0; a < 4; ++a) layer.activity[b][a] += end.activity[b][a] - before.activity[b][a];
  step_.cycles += cycles;
  step_.end = end.cycles;
  // Before a phase begins, what is stated goes on, and then it may wait for a request.
  const std::uint64_t costs = record.lowered.phase.after, wait = record.begin() - before.cycles - costs;
  layer.stated += costs;
  part.stated += costs;
  stated += costs;
  layer.arrivals += wait;
  arrivals += wait;
}

/// A job's cycles run from the command before it (or the phase's beginning) to its last command.
void Totals::add_job(const PhaseRecord& record, std::size_t job) {
  const program::RunProgram::Job& one = record.lowered.jobs[job];
  const program::LayerRows& phase = record.rows;
  const auto rows = static_cast<std::uint64_t>(one.rows);
  const std::uint64_t adds = one.plane_adds,
                      cycles = record.executed[record.end_of(job) - 1] - record.command_begin(record.first_of(job));
  layers[phase.layer].plane_adds += adds;
  parts[static_cast<std::size_t>(phase.part)].plane_adds += adds;
  plane_adds += adds;
  if (one.expert == program::kProduct) {
    ProductTotals& product = products[phase.products[one.product].name];
    product.rows += rows;
    product.cycles += cycles;
    product.plane_adds += adds;
    return;
  }
  ExpertTotals& expert = experts[{phase.layer, one.expert}];
  expert.cycles += cycles;
  expert.rows += rows;
  // The rows of one step that read the expert at several widths are several jobs, one after the other.
  const bool is_new = job == 0 || record.lowered.jobs[job - 1].expert != one.expert;
  expert.steps += is_new ? 1 : 0;
  expert.plane_adds += adds;
  if (one.expert >= experts_of_layer_) return;
  expert_rows += rows;
  expert_plane_adds += adds;
}

void Totals::end_step(const Step& step) {
  ++steps;
  (step.phase == workloads::Phase::kPrefill ? prefill_tokens : decode_tokens) += step.tokens;
  for (const Step::Part& part : step.parts) {
    const auto [at, is_new] = requests.try_emplace(part.request);
    RequestTimes& times = at->second;
    if (is_new) {
      times.begin = step_.begin;
      const auto arrival = arrival_of_.find(part.request);
      times.arrival = arrival == arrival_of_.end() ? times.begin : arrival->second;
      times.first_end = step_.end;
      times.begins_with_prefill = step.phase == workloads::Phase::kPrefill;
    }
    times.end = step_.end;
    (step.phase == workloads::Phase::kPrefill ? times.prefill_tokens : times.decode_tokens) += part.tokens;
  }
  if (step_ended_) step_ended_(step, step_);
}

void Totals::load(const program::EngineRun::Load& load) {
  const std::uint64_t size = load.descriptor.bytes;
  ExpertTotals& expert = experts[{load.descriptor.layer, load.descriptor.expert}];
  ++expert.loads;
  expert.loaded_bytes += size;
  ++loads;
  loaded_bytes += size;
  if (chip_.storage)
    loaded_granules +=
        static_cast<std::uint64_t>(base::round_up(static_cast<std::int64_t>(size), chip_.storage->granularity_bytes));
}

void Totals::close(const program::RunProgram& program, const program::EngineRun& run) {
  check_loads(run, loaded_bytes);
  check_memory(run);
  for (const program::EngineRun::CacheOfLayer& of : run.cache_layers) layers[static_cast<int>(of.layer)].cache = of;
  // Weights and caches are read in whole beats: what of a layer's come from no region of its own, come from the cache.
  constexpr auto kCache = index(Kind::kExpertCache);
  constexpr auto kWeights = static_cast<std::size_t>(MemoryPort::kWeightRead);
  if (program.offloaded)
    for (auto& [number, layer] : layers) layer.bytes[kCache] += layer.port_bytes[kWeights];
  const program::MemoryImage& image = program.loaded.image;
  for (std::size_t c = 0; c < image.counters(); ++c) {
    std::uint64_t counted = 0;
    for (const MemoryPort port : kPorts) counted += run.traffic.counted(port, c);
    const std::size_t kind = index(image.counter_kind(c));
    const program::RunProgram::Tag& tag = program.tags[c];
    if (program.offloaded && tag.layer != program::kSeveralLayers)
      layers[tag.layer].bytes[kCache] -= run.traffic.counted(MemoryPort::kWeightRead, c);
    bytes[kind] += counted;
    if (tag.layer != program::kSeveralLayers) layers[tag.layer].bytes[kind] += counted;
    if (tag.expert != kCombination) experts[{tag.layer, tag.expert}].bytes_read += counted;
  }
  for (const MemoryPort port : kPorts) {
    padding += run.traffic.padding(port);
    all_bytes += run.traffic.total(port);
  }
}

void check_phase(std::size_t number, const program::EngineRun::PhaseEnd& before,
                 const program::EngineRun::PhaseEnd& end) {
  const auto fail = [number](const std::string& what, std::uint64_t sum, std::uint64_t cycles) {
    throw base::CheckError(
        fmt::format("phase {}: {}: got {} cycles, expected {}, all cycles until its end", number, what, sum, cycles));
  };
  std::uint64_t causes = 0;
  for (const std::uint64_t count : end.causes) causes += count;
  if (causes != end.cycles) fail("causes", causes, end.cycles);
  for (const auto& [port, cause] : {std::pair(MemoryPort::kWeightRead, program::Cause::kWeights),
                                    std::pair(MemoryPort::kActivationRead, program::Cause::kActivations)}) {
    const auto c = static_cast<std::size_t>(cause), p = static_cast<std::size_t>(port);
    const std::uint64_t waited = end.causes[c] - before.causes[c], refresh = end.refresh[p] - before.refresh[p];
    if (refresh > waited)
      throw base::CheckError(fmt::format("phase {}: refresh: got {} cycles, expected at most the {} that waited for {}",
                                         number, refresh, waited, program::kCauseNames[c]));
  }
  for (std::size_t b = 0; b < program::kNumBlocks; ++b) {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : end.activity[b]) sum += count;
    if (sum != end.cycles) fail(std::string(program::kBlocks[b].name), sum, end.cycles);
  }
}

void check_memory(const program::EngineRun& run) {
  const auto total = [&run](MemoryPort port) { return run.traffic.total(port); };
  const std::uint64_t read = total(MemoryPort::kWeightRead) + total(MemoryPort::kActivationRead),
                      written = total(MemoryPort::kWrite) + run.written_bytes;
  for (const memory::Counter& counter : run.memory_counters)
    for (const auto& [name, bytes] : {std::pair("port_bytes_read", read), std::pair("port_bytes_written", written)})
      if (counter.name == name && counter.value != bytes)
        throw base::CheckError(
            fmt::format("memory: {}: got {}, expected {}, those of all ports", name, counter.value, bytes));
}

void check_loads(const program::EngineRun& run, std::uint64_t loaded) {
  std::uint64_t asked = 0;
  for (const memory::Counter& counter : run.host_counters) {
    if (counter.name == "loaded_bytes" || counter.name == "prefetched_bytes") asked += counter.value;
    if (counter.name == "dropped_bytes") asked -= counter.value;
  }
  const auto conserved = [loaded](const char* what, std::uint64_t bytes) {
    if (loaded != bytes)
      throw base::CheckError(
          fmt::format("storage: {}: got {} bytes, expected {}, the descriptors'", what, bytes, loaded));
  };
  conserved("bytes that came", run.storage_bytes);
  if (!run.host_counters.empty()) conserved("bytes that the host asked for", asked);
  // Layer by layer it is the same.
  program::EngineRun::CacheOfLayer sum;
  for (const program::EngineRun::CacheOfLayer& of : run.cache_layers) {
    sum.jobs += of.jobs;
    sum.hits += of.hits;
    sum.loaded_bytes += of.loaded_bytes;
    sum.prefetched_bytes += of.prefetched_bytes;
    sum.dropped_bytes += of.dropped_bytes;
  }
  if (run.cache_layers.empty()) return;
  for (const memory::Counter& counter : run.host_counters)
    for (const auto& [name, of_layers] :
         {std::pair("jobs", sum.jobs), std::pair("hits", sum.hits), std::pair("loaded_bytes", sum.loaded_bytes),
          std::pair("prefetched_bytes", sum.prefetched_bytes), std::pair("dropped_bytes", sum.dropped_bytes)})
      if (counter.name == name && counter.value != of_layers)
        throw base::CheckError(
            fmt::format("cache: {}: got {} in all layers, expected the run's {}", name, of_layers, counter.value));
}

}  // namespace moesaic::run
