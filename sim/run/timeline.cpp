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

enum Track { kLayers = 1, kExperts, kCommands, kStorage };

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

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

class Writer {
 public:
  explicit Writer(const Run& run) : run_(run) {}

  void name_track(Track track, const char* name) {
    event(fmt::format(R"({{"ph":"M","pid":1,"tid":{},"name":"thread_name","args":{{"name":"{}"}}}})",
                      static_cast<int>(track), name));
    event(fmt::format(R"({{"ph":"M","pid":1,"tid":{},"name":"thread_sort_index","args":{{"sort_index":{}}}}})",
                      static_cast<int>(track), static_cast<int>(track)));
  }
  void name_process() {
    event(fmt::format(R"({{"ph":"M","pid":1,"name":"process_name","args":{{"name":{}}}}})",
                      quoted("chip " + run_.chip.name + ", engine " + run_.engine)));
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
  std::string microseconds(std::uint64_t cycles) const {
    const auto fs = static_cast<std::uint64_t>(run_.chip.time(base::Cycles(static_cast<std::int64_t>(cycles))).count());
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

void write_loads(Writer& writer, const program::EngineRun& engine) {
  if (engine.loads.empty()) return;
  writer.name_track(kStorage, "storage");
  std::vector<std::pair<std::uint64_t, std::uint64_t>> waiting, outstanding;
  for (std::size_t i = 0; i < engine.loads.size(); ++i) {
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

}  // namespace

std::string timeline_json(const Run& run) {
  const program::EngineRun& engine = run.engine_run;
  const auto& commands = run.program.loaded.commands;
  Writer writer(run);
  writer.name_process();
  writer.name_track(kLayers, "layers");
  writer.name_track(kExperts, "experts");
  writer.name_track(kCommands, "commands");

  const program::EngineRun::PhaseEnd zero;
  const std::vector<std::size_t> place = places_of_commands(run);
  std::vector<std::uint64_t> begin_of(engine.retired.size());  // of each command, as executed
  for (std::size_t p = 0; p < engine.phase_ends.size(); ++p) {
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
    for (const auto name : program::kMemoryPortNames) writer.counter(std::string(name), engine.cycles, 0);

  const auto& jobs = run.program.jobs;
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const std::size_t end = j + 1 < jobs.size() ? jobs[j + 1].first_command : commands.size();
    if (end == jobs[j].first_command) continue;
    const program::LayerRows& phase = run.inputs.layers[jobs[j].phase];
    writer.span(kExperts, job_name(run, phase, jobs[j]), begin_of[place[jobs[j].first_command]],
                engine.retired[place[end - 1]], fmt::format(R"("layer":{},"rows":{})", phase.layer, jobs[j].rows));
  }
  for (std::size_t i = 0; i < commands.size(); ++i) {
    const program::Command& command = commands[i];
    const char* name = opcode_name(command.opcode);
    if (name == nullptr) continue;
    writer.span(kCommands, name, begin_of[place[i]], engine.retired[place[i]],
                fmt::format(R"("tokens":{},"n":{},"k":{},"planes":{})", command.tokens, command.n, command.k,
                            command.planes_read + command.levels));
  }
  write_loads(writer, engine);
  return writer.text();
}

}  // namespace moesaic::run
