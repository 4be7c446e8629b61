#pragma once
/// The fast engine: a program on one core behind a memory, without data. Its cycle counts, the end of every phase and
/// tile, the blocks' activity, the causes and the traffic are those of the cycle engine under cosim::CoreBench, to the
/// cycle. Plain C++: any number of runs in one process.
///
/// Ways through time, all exact:
///   step     one cycle: what every block would do, in integers (fast::Core)
///   skip     nothing moves and nothing can until the memory or the storage answers or the host's agent wakes: on to
///            that cycle at once
///   stream   a tile's tokens pass the array, nothing else moves, and the one before found all as this one does: on to
///            the last token, or to where one of those three says something
///   repeat   the whole state (core, host, ports and memory, relative to now) was met before, with the same work ahead,
///            and neither storage nor agent will say anything meanwhile: what followed then follows now (memoisation,
///            after Schnarr and Larus, "Fast Out-Of-Order Processor Simulation Using Memoization", ASPLOS 1998). States
///            are compared in full, never by hash alone.
/// With random stalls every cycle is stepped. Of a memory that does not export its state the core alone is repeated
/// while the memory is asked, or both while the memory is at a moment that it knows (memory::Recurring).
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "models/memory/memory_model.h"
#include "models/storage/core_storage.h"
#include "sim/program/commands.h"
#include "sim/program/core_params.h"
#include "sim/program/engine_run.h"
#include "sim/program/host_agent.h"
#include "sim/program/load_program.h"
#include "sim/program/memory_image.h"
#include "sim/program/run_log.h"

namespace moesaic::fast {

struct Options {
  memory::MemoryConfig memory;
  base::Femtoseconds period{2000000};  ///< of the core's clock, for memories with a clock of their own
  /// Another model in the place of the one that `memory` describes.
  std::function<std::unique_ptr<memory::MemoryModel>()> make_memory;
  storage::SimpleStorageConfig storage;
  /// Another model in the place of the one that `storage` describes; told which memory it may write to.
  std::function<std::unique_ptr<storage::CoreStorage>(memory::MemoryModel&)> make_storage;
  /// Random stalls: the same as CoreBench's of this seed.
  std::optional<std::uint64_t> stall_seed;
  /// So many eighths of all cycles on every channel, instead of a share drawn for each.
  std::optional<unsigned> stall_eighths;
  /// Cycles in which no block does anything before the run counts as stuck, on top of the memory's latencies.
  std::uint64_t watchdog_cycles = 20000;
  /// Bytes in which nothing lies at the start (HostAgent::prepare()): reading them before a load has filled them is an
  /// error.
  std::vector<program::ByteRange> awaited;
  bool keep_commands = false;  ///< fill Run::commands
  bool shortcuts = true;       ///< skip and repeat; without them every cycle is stepped
  bool watch_tiles = false;    ///< fill EngineRun::tiles
  /// The host starts every phase knowing nothing: it writes all staging words and asks for room. What a phase takes
  /// then does not depend on the phases before it.
  bool fresh_phases = false;
  /// Stop when so many cycles have passed, if the run has not ended by then: EngineRun::cut says where it was.
  std::optional<std::uint64_t> max_cycles;
  /// Room for the states that are remembered; past it all are forgotten. Half as much more for those of the memory.
  std::size_t state_bytes = std::size_t{128} << 20;
  /// Remember states of the memory at once, not only those that are met again, and put the few first stretches from
  /// one on together.
  bool eager = false;
  /// Called with the number of commands executed so far.
  std::function<void(std::size_t)> progress;
  /// Told what happens, in the place of the lists of Run::engine.
  program::RunSink* sink = nullptr;
};

/// Where the cycles went: they add up to the run's.
struct Effort {
  std::uint64_t stepped = 0, skipped = 0, repeated = 0;
  std::uint64_t streamed = 0;             ///< of those skipped: tokens of a tile that passed the array alike
  std::uint64_t stocked = 0;              ///< of those repeated: behind a DRAM, whenever it answered
  std::uint64_t apart = 0;                ///< of those stocked: while results were on their way out on their own
  std::uint64_t unasked = 0;              ///< of those repeated, others: without asking a DRAM
  std::uint64_t linked = 0;               ///< of those unasked: many stretches at once
  std::uint64_t refreshes = 0;            ///< stretches repeated unasked, or skipped so, in which a refresh was due
  std::uint64_t states = 0, moments = 0;  ///< remembered, all in all: of the machine, and of it with a DRAM
  /// Times that all states were forgotten to make room, and times that only moments were.
  std::uint64_t forgotten = 0, moments_forgotten = 0;
};

struct Run {
  program::EngineRun engine;
  bool command_error = false, storage_error = false;
  std::string memory_name, storage_name;
  std::vector<program::Command> commands;  ///< in the order of their execution, when asked for
  Effort effort;
};

/// Runs what `agent` offers until it is finished. Of `image` only the regions count: what lies where, not the bytes;
/// the agent may add regions before it offers commands that use them, and the sink remove those of a phase when it
/// ends. base::CheckError: a read or write outside its regions, a read of a plane whose load is under way, a run that
/// is stuck.
Run run(const program::CoreParams& params, program::HostAgent& agent, const program::MemoryImage& image,
        const Options& options);

/// A program that is known from the beginning: `phases` holds the first command of each phase ([0] is 0).
Run run(const program::CoreParams& params, const std::vector<program::Command>& commands,
        const std::vector<std::size_t>& phases, const program::MemoryImage& image, const Options& options,
        const program::LoadProgram* loads = nullptr);

}  // namespace moesaic::fast
