#include "sim/run/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>
#include <vector>

#include "base/dump_json.h"

namespace moesaic::run {
namespace {

using program::kCombination;
using program::Opcode;

enum Track { kLayers = 1, kExperts, kCommands, kArray, kResults, kStorage, kDram = 10 };
constexpr const char *kWaiting = "waiting descriptors", *kWaitingUnit = "descriptors",
                     *kOutstanding = "outstanding requests", *kOutstandingUnit = "requests";

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

std::uint64_t time_of(const program::Chip& chip, std::uint64_t cycles) {
  return static_cast<std::uint64_t>(chip.time(base::Cycles(static_cast<std::int64_t>(cycles))).count());
}

std::string quoted(const std::string& text) { return base::dump_json(nlohmann::json(text)); }

}  // namespace

/// Writes events to one of the files, each after a comma.
class Timeline::Events {
 public:
  Events(const program::Chip& chip, base::SpillFile& file) : chip_(chip), file_(file) {}

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
    span_fs(static_cast<int>(track), name, time_of(chip_, begin), time_of(chip_, end),
            fmt::format(R"("cycles":{}{}{})", end - begin, arguments.empty() ? "" : ",", arguments));
  }
  void counter(const std::string& name, std::uint64_t at, double value) {
    event(fmt::format(R"({{"ph":"C","pid":1,"name":{},"ts":{},"args":{{"bytes per cycle":{:.4f}}}}})", quoted(name),
                      microseconds(at), value));
  }
  /// Of any clock. A beginning and an end, not a beginning and a duration: viewers add these two in floating point, and
  /// take a span that so ends behind the beginning of the next for one that holds it.
  void span_fs(int track, const std::string& name, std::uint64_t begin, std::uint64_t end,
               const std::string& arguments) {
    const std::string label = quoted(name);
    event(fmt::format(R"({{"ph":"B","pid":1,"tid":{},"name":{},"ts":{},"args":{{{}}}}})", track, label,
                      microseconds_of(begin), arguments));
    event(fmt::format(R"({{"ph":"E","pid":1,"tid":{},"name":{},"ts":{}}})", track, label, microseconds_of(end)));
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

 private:
  std::string microseconds(std::uint64_t cycles) const { return microseconds_of(time_of(chip_, cycles)); }
  static std::string microseconds_of(std::uint64_t fs) {
    return fmt::format("{}.{:09}", fs / 1000000000, fs % 1000000000);
  }
  void event(const std::string& json) { file_.append(",\n" + json); }

  const program::Chip& chip_;
  base::SpillFile& file_;
};

Timeline::Timeline(const program::Chip& chip, const workloads::Network& network, const std::string& folder,
                   std::size_t most)
    : chip_(chip),
      network_(network),
      most_(most),
      head_(folder),
      phases_(folder),
      jobs_(folder),
      commands_(folder),
      array_(folder),
      results_(folder),
      loads_(folder),
      waiting_file_(folder),
      outstanding_file_(folder),
      dram_(folder) {}

/// "expert 3, int2", "combination", "scores of request 3, int8".
std::string Timeline::job_name(const PhaseRecord& record, std::size_t number) const {
  const program::RunProgram::Job& job = record.lowered.jobs[number];
  if (job.expert == kCombination) return "combination";
  if (job.expert == program::kProduct) {
    const program::Product& product = record.rows.products[job.product];
    return fmt::format("{}{}, {}", product.name, product.of.empty() ? "" : " of " + product.of,
                       product.stack.format.name());
  }
  return fmt::format("expert {}, {}", expert_name(network_, job.expert), job.format.name());
}

/// Up to here no track is longer than it may be. One phase is shown at least.
bool Timeline::is_shown(const PhaseRecord& record) const {
  if (!whole_ || record.number >= most_) return false;
  if (record.number == 0) return true;
  return record.end.commands <= most_ && !(issued_of_most_ && record.end.cycles > *issued_of_most_);
}

void Timeline::phase(const PhaseRecord& record) {
  whole_ = is_shown(record);
  if (!whole_) return show_loads(false);
  const program::EngineRun::PhaseEnd &before = record.before, &end = record.end;
  shown_cycles_ = end.cycles;
  Events phases(chip_, phases_), jobs(chip_, jobs_), commands(chip_, commands_), array(chip_, array_),
      results(chip_, results_);
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
    phases.counter(std::string(program::kMemoryPortNames[port]), before.cycles, static_cast<double>(bytes) / cycles);
  }
  phases.span(kLayers, record.rows.name, before.cycles, end.cycles, arguments);

  // With experts in a storage jobs are executed in another order than they were planned in.
  const auto in_time = [&record](std::vector<std::size_t>& numbers, const auto& command_of) {
    std::stable_sort(numbers.begin(), numbers.end(), [&](std::size_t a, std::size_t b) {
      return record.executed[command_of(a)] < record.executed[command_of(b)];
    });
  };
  std::vector<std::size_t> order;
  for (std::size_t j = 0; j < record.lowered.jobs.size(); ++j)
    if (record.first_of(j) != record.end_of(j)) order.push_back(j);
  in_time(order, [&record](std::size_t job) { return record.first_of(job); });
  for (const std::size_t j : order) {
    const std::size_t first = record.first_of(j), after = record.end_of(j);
    const std::string name = job_name(record, j);
    jobs.span(kExperts, name, record.command_begin(first), record.executed[after - 1],
              fmt::format(R"("layer":{},"rows":{})", record.rows.layer, record.lowered.jobs[j].rows));
    for (std::size_t i = first; i < after; ++i) {
      const program::CommandWork& work = record.work[i];
      const program::Command& command = record.lowered.commands[i];
      const std::string extent = fmt::format(R"("tokens":{},"n":{},"k":{})", command.tokens, command.n, command.k);
      if (!work.array.is_empty()) array.span(kArray, name, work.array.begin, work.array.end, extent);
      if (!work.results.is_empty()) results.span(kResults, name, work.results.begin, work.results.end, extent);
    }
  }
  order.resize(record.lowered.commands.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  in_time(order, [](std::size_t command) { return command; });
  for (const std::size_t i : order) {
    const program::Command& command = record.lowered.commands[i];
    const char* name = opcode_name(command.opcode);
    if (name == nullptr) continue;
    commands.span(kCommands, name, record.command_begin(i), record.executed[i],
                  fmt::format(R"("tokens":{},"n":{},"k":{},"planes":{})", command.tokens, command.n, command.k,
                              command.planes_read + command.levels));
  }
  show_loads(false);
}

void Timeline::load_issued(std::size_t number, const program::EngineRun::Load& load) {
  if (!std::exchange(has_loads_, true)) Events(chip_, loads_).name_track(kStorage, "storage");
  if (number == most_) issued_of_most_ = load.issued;
}

void Timeline::load_completed(std::size_t number, const program::EngineRun::Load& load) {
  if (loads_over_) return;
  completed_.emplace(number, load);
  show_loads(false);
}

/// In their order, as far as they have completed and it is known whether they are shown: those that were issued before
/// the end of the last phase that is.
void Timeline::show_loads(bool all) {
  while (!loads_over_ && !completed_.empty() && completed_.begin()->first == next_load_) {
    const program::EngineRun::Load& load = completed_.begin()->second;
    if (!all && load.issued >= shown_cycles_) {
      loads_over_ = !whole_;
      if (loads_over_) completed_.clear();
      return;
    }
    show_load(next_load_++, load);
    completed_.erase(completed_.begin());
  }
}

void Timeline::show_load(std::size_t number, const program::EngineRun::Load& load) {
  Events loads(chip_, loads_), waiting(chip_, waiting_file_), outstanding(chip_, outstanding_file_);
  const program::Descriptor& d = load.descriptor;
  const std::string plane = d.plane == 0 ? std::string() : fmt::format(", plane {}", d.plane);
  loads.overlapping_span(
      kStorage, number, fmt::format("layer {}, expert {}{}", d.layer, d.expert, plane), load.issued, load.completed + 1,
      fmt::format(R"("layer":{},"expert":{},"plane":{},"bytes":{},"requests":{},"job":{},"cycles_waiting":{})", d.layer,
                  d.expert, d.plane, d.bytes, d.requests, d.job, load.issued - load.pushed));
  // Loads come in the order in which they were pushed: none that comes later begins or ends before.
  settle(waiting_, waiting, kWaiting, kWaitingUnit, load.pushed);
  settle(outstanding_, outstanding, kOutstanding, kOutstandingUnit, load.pushed);
  ++waiting_.changes[load.pushed];
  --waiting_.changes[load.issued];
  ++outstanding_.changes[load.issued];
  --outstanding_.changes[load.completed + 1];
}

/// Writes what is known of the depth in cycles before `until`.
void Timeline::settle(Depth& depth, Events& events, const char* name, const char* what, std::uint64_t until) {
  std::map<std::uint64_t, std::int64_t>& changes = depth.changes;
  while (!changes.empty() && changes.begin()->first < until) {
    const auto [at, change] = *changes.begin();
    changes.erase(changes.begin());
    if (change == 0) continue;
    depth.depth += change;
    events.count(name, what, at, static_cast<std::uint64_t>(depth.depth));
  }
}

namespace {

memory::History::Counts since(const memory::History::Counts& before, const memory::History::Counts& all) {
  return {all.bytes_read - before.bytes_read, all.bytes_written - before.bytes_written,
          all.activates - before.activates,   all.row_hits - before.row_hits,
          all.row_misses - before.row_misses, all.row_conflicts - before.row_conflicts};
}

/// What a channel did in a stretch of time: its bandwidth and row hits as label.
template <class Writer>
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
template <class Writer>
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

}  // namespace

void Timeline::finish(const program::EngineRun& run, const std::string& engine) {
  show_loads(whole_);
  Events waiting(chip_, waiting_file_), outstanding(chip_, outstanding_file_), head(chip_, head_),
      phases(chip_, phases_), dram(chip_, dram_);
  settle(waiting_, waiting, kWaiting, kWaitingUnit, UINT64_MAX);
  settle(outstanding_, outstanding, kOutstanding, kOutstandingUnit, UINT64_MAX);
  head.name_process(fmt::format("chip {}, engine {}", chip_.name, engine) +
                    (whole_ ? std::string() : fmt::format(", the first {} of {} cycles", shown_cycles_, run.cycles)));
  head.name_track(kLayers, "layers");
  head.name_track(kExperts, "experts");
  head.name_track(kCommands, "commands");
  head.name_track(kArray, "array");
  head.name_track(kResults, "post-processing");
  if (run.cycles > 0)
    for (const auto name : program::kMemoryPortNames) phases.counter(std::string(name), shown_cycles_, 0);
  write_dram(dram, run.memory_history, time_of(chip_, shown_cycles_), whole_);
  for (base::SpillFile* file :
       {&head_, &phases_, &jobs_, &commands_, &array_, &results_, &loads_, &waiting_file_, &outstanding_file_, &dram_})
    file->flush();
}

void Timeline::write(const std::function<void(std::string_view)>& to) {
  to(R"({"displayTimeUnit":"ns","traceEvents":[)");
  std::size_t skip = 1;  // no comma before the first event
  for (base::SpillFile* file :
       {&head_, &phases_, &jobs_, &commands_, &array_, &results_, &loads_, &waiting_file_, &outstanding_file_, &dram_})
    file->read_all([&to, &skip](std::string_view piece) { to(piece.substr(std::exchange(skip, 0))); });
  to("\n]}\n");
}

}  // namespace moesaic::run
