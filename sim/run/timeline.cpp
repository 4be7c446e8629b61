#include "sim/run/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

namespace moesaic::run {
namespace {

using program::kCombination;
using program::Opcode;

enum Track { kLayers = 1, kExperts, kCommands, kStorage, kDram = 10 };

const char* opcode_name(Opcode opcode) {
  switch (opcode) {
    case Opcode::kLoadAct:
      return "load_act";
    case Opcode::kMatmul:
      return "matmul";
    case Opcode::kCombine:
      return "combine";
    default:
      return nullptr;
  }
}

std::uint64_t time_of(const Run& run, std::uint64_t cycles) {
  return static_cast<std::uint64_t>(run.chip.time(base::Cycles(static_cast<std::int64_t>(cycles))).count());
}

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

class Writer {
 public:
  explicit Writer(const Run& run) : run_(run) {}

  void name_track(int track, const std::string& name) {
    event(
        fmt::format(R"({{"ph":"M","pid":1,"tid":{},"name":"thread_name","args":{{"name":{}}}}})", track, quoted(name)));
    event(fmt::format(R"({{"ph":"M","pid":1,"tid":{},"name":"thread_sort_index","args":{{"sort_index":{}}}}})", track,
                      track));
  }
  void name_process(const std::string& name) {
    event(fmt::format(R"({{"ph":"M","pid":1,"name":"process_name","args":{{"name":{}}}}})", quoted(name)));
  }
  /// `arguments`: the inside of a JSON object.
  void span(Track track, const std::string& name, std::uint64_t begin, std::uint64_t end,
            const std::string& arguments) {
    event(fmt::format(R"({{"ph":"X","pid":1,"tid":{},"name":{},"ts":{},"dur":{},"args":{{"cycles":{}{}{}}}}})",
                      static_cast<int>(track), quoted(name), microseconds(begin), microseconds(end - begin),
                      end - begin, arguments.empty() ? "" : ",", arguments));
  }
  void counter(const std::string& name, std::uint64_t at, double value) {
    event(fmt::format(R"({{"ph":"C","pid":1,"name":{},"ts":{},"args":{{"bytes per cycle":{:.4f}}}}})", quoted(name),
                      microseconds(at), value));
  }
  /// Of a clock that is not the core's.
  void span_fs(int track, const std::string& name, std::uint64_t begin, std::uint64_t end,
               const std::string& arguments) {
    event(fmt::format(R"({{"ph":"X","pid":1,"tid":{},"name":{},"ts":{},"dur":{},"args":{{{}}}}})", track, quoted(name),
                      microseconds_of(begin), microseconds_of(end - begin), arguments));
  }
  void rate_fs(const std::string& name, std::uint64_t at, double value) {
    event(fmt::format(R"({{"ph":"C","pid":1,"name":{},"ts":{},"args":{{"GB/s":{:.3f}}}}})", quoted(name),
                      microseconds_of(at), value));
  }
  void count(const std::string& name, const char* what, std::uint64_t at, std::uint64_t value) {
    event(fmt::format(R"({{"ph":"C","pid":1,"name":{},"ts":{},"args":{{"{}":{}}}}})", quoted(name), microseconds(at),
                      what, value));
  }
  /// A span that may overlap others of its track: an asynchronous pair of events.
  void overlapping_span(Track track, std::size_t id, const std::string& name, std::uint64_t begin, std::uint64_t end,
                        const std::string& arguments) {
    for (const bool first : {true, false})
      event(fmt::format(R"({{"ph":"{}","cat":"storage","id":{},"pid":1,"tid":{},"name":{},"ts":{}{}}})",
                        first ? 'b' : 'e', id, static_cast<int>(track), quoted(name), microseconds(first ? begin : end),
                        first ? R"(,"args":{)" + arguments + "}" : ""));
  }
  std::string text() const { return text_ + "\n]}\n"; }

 private:
  std::string microseconds(std::uint64_t cycles) const { return microseconds_of(time_of(run_, cycles)); }
  static std::string microseconds_of(std::uint64_t fs) {
    return fmt::format("{}.{:09}", fs / 1000000000, fs % 1000000000);
  }
  void event(const std::string& json) {
    text_ += first_ ? "\n" : ",\n";
    text_ += json;
    first_ = false;
  }

  const Run& run_;
  std::string text_ = R"({"displayTimeUnit":"ns","traceEvents":[)";
  bool first_ = true;
};

/// "expert 3, int2", "combination", "scores of request 3, int8".
std::string job_name(const Run& run, const program::LayerRows& phase, const program::RunProgram::Job& job) {
  if (job.expert == kCombination) return "combination";
  if (job.expert == program::kProduct) {
    const program::Product& product = phase.products[job.product];
    return fmt::format("{}{}, {}", product.name, product.of.empty() ? "" : " of " + product.of,
                       product.stack.format.name());
  }
  return fmt::format("expert {}, {}", expert_name(run.workload.network, job.expert), job.format.name());
}

/// How many of something there are over time: begins and ends, each in a cycle.
void write_depth(Writer& writer, const std::string& name, const char* what,
                 const std::vector<std::pair<std::uint64_t, std::uint64_t>>& spans) {
  std::map<std::uint64_t, std::int64_t> steps;
  for (const auto& [begin, end] : spans) {
    ++steps[begin];
    --steps[end];
  }
  std::int64_t depth = 0;
  for (const auto& [at, step] : steps) {
    if (step == 0) continue;
    depth += step;
    writer.count(name, what, at, static_cast<std::uint64_t>(depth));
  }
}

/// The first `count` requests.
void write_loads(Writer& writer, const program::EngineRun& engine, std::size_t count) {
  if (engine.loads.empty()) return;
  writer.name_track(kStorage, "storage");
  std::vector<std::pair<std::uint64_t, std::uint64_t>> waiting, outstanding;
  for (std::size_t i = 0; i < count; ++i) {
    const program::EngineRun::Load& load = engine.loads[i];
    const program::Descriptor& d = load.descriptor;
    const std::string plane = d.plane == 0 ? std::string() : fmt::format(", plane {}", d.plane);
    writer.overlapping_span(
        kStorage, i, fmt::format("layer {}, expert {}{}", d.layer, d.expert, plane), load.issued, load.completed + 1,
        fmt::format(R"("layer":{},"expert":{},"plane":{},"bytes":{},"requests":{},"job":{},"cycles_waiting":{})",
                    d.layer, d.expert, d.plane, d.bytes, d.requests, d.job, load.issued - load.pushed));
    waiting.emplace_back(load.pushed, load.issued);
    outstanding.emplace_back(load.issued, load.completed + 1);
  }
  write_depth(writer, "waiting descriptors", "descriptors", waiting);
  write_depth(writer, "outstanding requests", "requests", outstanding);
}

memory::History::Counts since(const memory::History::Counts& before, const memory::History::Counts& all) {
  return {all.bytes_read - before.bytes_read, all.bytes_written - before.bytes_written,
          all.activates - before.activates,   all.row_hits - before.row_hits,
          all.row_misses - before.row_misses, all.row_conflicts - before.row_conflicts};
}

/// What a channel did in a stretch of time: its bandwidth and row hits as label.
void write_traffic(Writer& writer, std::size_t channel, std::uint64_t begin, std::uint64_t end,
                   const memory::History::Counts& counts) {
  if (begin >= end) return;
  const auto rate = [begin, end](std::uint64_t bytes) {  // bytes a femtosecond are 10^6 GB/s
    return 1e6 * static_cast<double>(bytes) / static_cast<double>(end - begin);
  };
  const std::uint64_t accesses = counts.row_hits + counts.row_misses + counts.row_conflicts;
  const std::string label =
      accesses == 0 ? "no data"
                    : fmt::format("{:.1f} GB/s, row hits {:.0f} %", rate(counts.bytes_read + counts.bytes_written),
                                  100 * static_cast<double>(counts.row_hits) / static_cast<double>(accesses));
  const std::string arguments = fmt::format(
      R"("bytes_read":{},"bytes_written":{},"activates":{},"row_hits":{},"row_misses":{},"row_conflicts":{})",
      counts.bytes_read, counts.bytes_written, counts.activates, counts.row_hits, counts.row_misses,
      counts.row_conflicts);
  writer.span_fs(kDram + static_cast<int>(channel), label, begin, end, arguments);
  for (const bool written : {false, true}) {
    const std::string name = fmt::format("DRAM channel {}, {}", channel, written ? "written" : "read");
    writer.rate_fs(name, begin, rate(written ? counts.bytes_written : counts.bytes_read));
    writer.rate_fs(name, end, 0);
  }
}

/// Each channel's refreshes, and between them what it moved, up to `end`: of the whole run or of some of it.
void write_dram(Writer& writer, const memory::History& history, std::uint64_t end, bool whole) {
  for (std::size_t c = 0; c < history.channels.size(); ++c) {
    const memory::History::Channel& channel = history.channels[c];
    const int track = kDram + static_cast<int>(c);
    writer.name_track(
        track, fmt::format("DRAM channel {}", c) +
                   (channel.every == 1 ? std::string() : fmt::format(" (one refresh of {} shown)", channel.every)));
    std::uint64_t from = 0, number = 0;
    memory::History::Counts before;
    for (const memory::History::Refresh& refresh : channel.refreshes) {
      if (refresh.begin_fs >= end) break;
      write_traffic(writer, c, from, refresh.begin_fs, since(before, refresh.before));
      from = std::min(end, refresh.end_fs);
      before = refresh.before;
      number += channel.every;
      writer.span_fs(track, "refresh", refresh.begin_fs, from, fmt::format(R"("number":{})", number));
    }
    if (whole) write_traffic(writer, c, from, end, since(before, channel.all));
  }
}

/// So many phases from the first on that no track is longer than it may be; one at least.
std::size_t phases_shown(const program::EngineRun& engine, std::size_t most) {
  const auto& ends = engine.phase_ends;
  std::size_t shown = std::min(ends.size(), most);
  while (shown > 1 && ends[shown - 1].commands > most) --shown;
  if (engine.loads.size() > most)
    while (shown > 1 && ends[shown - 1].cycles > engine.loads[most].issued) --shown;
  return shown;
}

}  // namespace

std::string timeline_json(const Run& run, std::size_t most) {
  const program::EngineRun& engine = run.engine_run;
  const auto& commands = run.program.loaded.commands;
  const std::size_t shown = phases_shown(engine, most);
  const bool whole = shown == engine.phase_ends.size();
  const std::uint64_t shown_cycles = shown == 0 ? 0 : engine.phase_ends[shown - 1].cycles;
  Writer writer(run);
  writer.name_process(
      fmt::format("chip {}, engine {}", run.chip.name, run.engine) +
      (whole ? std::string() : fmt::format(", the first {} of {} cycles", shown_cycles, engine.cycles)));
  writer.name_track(kLayers, "layers");
  writer.name_track(kExperts, "experts");
  writer.name_track(kCommands, "commands");

  const program::EngineRun::PhaseEnd zero;
  const std::vector<std::size_t> place = places_of_commands(run);
  std::vector<std::uint64_t> begin_of(engine.retired.size());  // of each command, as executed
  for (std::size_t p = 0; p < shown; ++p) {
    const auto& before = p == 0 ? zero : engine.phase_ends[p - 1];
    const auto& end = engine.phase_ends[p];
    std::string arguments;
    for (std::size_t c = 0; c < program::kNumCauses; ++c)
      arguments +=
          fmt::format(R"({}"{}":{})", c == 0 ? "" : ",", program::kCauseNames[c], end.causes[c] - before.causes[c]);
    std::uint64_t refresh = 0;
    for (std::size_t port = 0; port < program::kNumMemoryPorts; ++port)
      refresh += end.refresh[port] - before.refresh[port];
    arguments += fmt::format(R"(,"refresh":{})", refresh);
    const double cycles = static_cast<double>(std::max<std::uint64_t>(end.cycles - before.cycles, 1));
    for (std::size_t port = 0; port < program::kNumMemoryPorts; ++port) {
      const std::uint64_t bytes = end.bytes[port] - before.bytes[port];
      arguments += fmt::format(R"(,"bytes_{}":{})", program::kMemoryPortNames[port], bytes);
      writer.counter(std::string(program::kMemoryPortNames[port]), before.cycles, static_cast<double>(bytes) / cycles);
    }
    writer.span(kLayers, run.inputs.layers[p].name, before.cycles, end.cycles, arguments);

    for (std::size_t i = before.commands; i < end.commands; ++i)
      begin_of[i] = std::max(phase_begin(run, p), i == 0 ? 0 : engine.retired[i - 1]);
  }
  if (!engine.phase_ends.empty())
    for (const auto name : program::kMemoryPortNames) writer.counter(std::string(name), shown_cycles, 0);

  const auto& jobs = run.program.jobs;
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const std::size_t end = j + 1 < jobs.size() ? jobs[j + 1].first_command : commands.size();
    if (end == jobs[j].first_command || jobs[j].phase >= shown) continue;
    const program::LayerRows& phase = run.inputs.layers[jobs[j].phase];
    writer.span(kExperts, job_name(run, phase, jobs[j]), begin_of[place[jobs[j].first_command]],
                engine.retired[place[end - 1]], fmt::format(R"("layer":{},"rows":{})", phase.layer, jobs[j].rows));
  }
  for (std::size_t i = 0; i < commands.size(); ++i) {
    const program::Command& command = commands[i];
    const char* name = opcode_name(command.opcode);
    if (name == nullptr || (!whole && engine.retired[place[i]] > shown_cycles)) continue;
    writer.span(kCommands, name, begin_of[place[i]], engine.retired[place[i]],
                fmt::format(R"("tokens":{},"n":{},"k":{},"planes":{})", command.tokens, command.n, command.k,
                            command.planes_read + command.levels));
  }
  const auto loads = std::find_if(engine.loads.begin(), engine.loads.end(),
                                  [&](const auto& load) { return !whole && load.issued >= shown_cycles; });
  write_loads(writer, engine, static_cast<std::size_t>(loads - engine.loads.begin()));
  write_dram(writer, engine.memory_history, time_of(run, shown_cycles), whole);
  return writer.text();
}

}  // namespace moesaic::run
