#pragma once
/// A run as a timeline that opens in the Perfetto UI (https://ui.perfetto.dev) or another viewer: the JSON form of the
/// Trace Event Format. One process, named after the chip, with these tracks:
///
///   layers          each (step, layer); its arguments give cycles by cause and bytes by port
///   experts         each expert's commands ("expert 3, int2"), with rows, the combination, and products of whole
///                   layers
///   commands        load_act, matmul and combine; set_row entries, a cycle each, are left out
///   array           of each command: from the first cycle in which the PE array was busy to the last, with the expert
///   and
///                   its format
///   post-processing the same of the blocks behind the array, from group dequantisation to the output DMA
///   storage         with experts in a storage: each request to it, from the cycle in which it was accepted to the one
///                   in which it was done. They overlap; beside them counters of waiting descriptors and outstanding
///                   requests
///   DRAM channel c  of a memory that refreshes: its refreshes and, between two of them, what it moved (bandwidth, row
///                   hits); beside it counters of its bandwidth, read and written. Of long runs only every 2nd, 4th, …
///                   refresh is there (memory::History)
///
/// and one counter a memory port, in bytes per cycle, constant over a layer. A command's span begins when the command
/// before it was executed. Times are exact: whole femtoseconds, written as microseconds with nine decimals. A span is a
/// beginning and an end; where one follows another without a gap, both have the same number there.
///
/// Events are written as they come, each track's to a temporary file of its own; the timeline has the tracks one after
/// the other. In memory are those requests to the storage that wait for an earlier one.
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/spill_file.h"
#include "models/memory/memory_model.h"
#include "sim/program/chip.h"
#include "sim/program/engine_run.h"
#include "sim/run/phase_record.h"

namespace moesaic::run {

class Timeline {
 public:
  static constexpr std::size_t kMost = 100000;
  /// Files go to `folder` (base::SpillFile). `most`: phases, commands and requests that are shown at most, so that a
  /// file stays below 100 MB whatever the run; the timeline then ends with a phase, and the process's name says in
  /// which cycle of how many. The chip outlives it. A fork may come before the first event: then the process that runs
  /// the engine calls finish(), and either one write().
  Timeline(const program::Chip& chip, const workloads::Network& network, const std::string& folder = "",
           std::size_t most = kMost);

  void phase(const PhaseRecord& record);
  void load_issued(std::size_t number, const program::EngineRun::Load& load);
  void load_completed(std::size_t number, const program::EngineRun::Load& load);
  /// The run is over.
  void finish(const program::EngineRun& run, const std::string& engine);

  void write(const std::function<void(std::string_view)>& to);

 private:
  /// How many of something there are over time: spans whose ends come in any order, but from the horizon on.
  struct Depth {
    std::map<std::uint64_t, std::int64_t> changes;
    std::int64_t depth = 0;
  };
  class Events;
  bool is_shown(const PhaseRecord& record) const;
  void show_loads(bool all);
  void show_load(std::size_t number, const program::EngineRun::Load& load);
  void settle(Depth& depth, Events& events, const char* name, const char* what, std::uint64_t until);
  std::string job_name(const PhaseRecord& record, std::size_t job) const;

  const program::Chip& chip_;
  const workloads::Network& network_;
  std::size_t most_;
  base::SpillFile head_, phases_, jobs_, commands_, array_, results_, loads_, waiting_file_, outstanding_file_, dram_;
  bool whole_ = true;               // no phase was left out
  std::uint64_t shown_cycles_ = 0;  // up to the end of the last phase shown
  std::optional<std::uint64_t> issued_of_most_;
  std::map<std::size_t, program::EngineRun::Load> completed_;  // not shown yet
  std::size_t next_load_ = 0;
  bool has_loads_ = false;
  bool loads_over_ = false;  // those from next_load_ on are left out
  Depth waiting_, outstanding_;
};

}  // namespace moesaic::run
