#pragma once
/// What an engine is given to run and what it reports, the same for every engine. Cycles count from the release of
/// reset.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/memory/memory_model.h"
#include "sim/program/command_work.h"
#include "sim/program/commands.h"
#include "sim/program/memory_image.h"

namespace moesaic::program {

enum class MemoryPort : std::uint8_t { kWeightRead, kActivationRead, kWrite };
inline constexpr std::size_t kNumMemoryPorts = 3;
inline constexpr std::array<std::string_view, kNumMemoryPorts> kMemoryPortNames{"weight_read", "activation_read",
                                                                                "write"};

/// Bytes that crossed each port, by the counters of the image's regions. Beats are whole, what the core asked for need
/// not be: bytes of a beat that lie in no region are padding. For each port, counters and padding add up to beats *
/// beat bytes.
class Traffic {
 public:
  Traffic() = default;
  /// Counts against the regions that `image` has when a beat comes; it outlives the last count().
  explicit Traffic(const MemoryImage& image) : image_(&image) {}

  /// One beat: bytes address .. address + bytes - 1.
  void count(MemoryPort port, std::uint64_t address, std::uint64_t bytes);

  /// Of regions counted under `counter`.
  std::uint64_t counted(MemoryPort port, std::size_t counter) const {
    const std::vector<std::uint64_t>& counts = counts_[index(port)];
    return counter < counts.size() ? counts[counter] : 0;
  }
  std::uint64_t padding(MemoryPort port) const { return padding_[index(port)]; }
  std::uint64_t total(MemoryPort port) const { return total_[index(port)]; }
  /// So many counters, of which those behind the last one here have counted nothing.
  std::size_t counters() const;

 private:
  static std::size_t index(MemoryPort port) { return static_cast<std::size_t>(port); }
  const MemoryImage* image_ = nullptr;
  std::array<std::vector<std::uint64_t>, kNumMemoryPorts> counts_;
  std::array<std::uint64_t, kNumMemoryPorts> padding_{}, total_{};
  std::array<std::size_t, kNumMemoryPorts> last_{};  ///< region of the last beat: streams stay
};

/// Why a cycle passed: exactly one cause each, the first of this list that holds.
enum class Cause : std::uint8_t {
  kComputing,       ///< the PE array is busy
  kResults,         ///< the array is blocked: its sums are not taken, because a finished block waits to be drained
  kWeights,         ///< a product is being sequenced and the array waits: for a full bank of weights, or for a group's
                    ///< parameters
  kActivations,     ///< activations are loaded, or expert rows for a combination
  kDequantisation,  ///< the last sums of a command are in group dequantisation
  kDrain,           ///< the last results of a command are on their way out
  kIo,              ///< a wait holds the core, or the host holds its commands back: planes of a job are not resident
  kCommands,        ///< a command starts, ends, or waits in the queue
  kHost,            ///< nothing to do: the host decides, or pushes the next command
};
inline constexpr std::size_t kNumCauses = 9;
inline constexpr std::array<std::string_view, kNumCauses> kCauseNames{
    "computing", "results", "weights", "activations", "dequantisation", "drain", "io", "commands", "host"};
/// `activity`: the core's activity_o, block b at bits 2b+1:2b. Where it says kHost, the host agent's idle_cause() names
/// the cycle.
Cause cause_of(std::uint64_t activity);

using ActivityCounts = std::array<std::array<std::uint64_t, 4>, kNumBlocks>;  ///< [block][Activity]

/// When the array worked on one tile of a product.
struct TileTime {
  std::uint64_t begin = 0;  ///< cycle in which the array took the tile's first beat
  std::uint64_t end = 0;    ///< cycle in which group dequantisation took the sums of its last beat
};
inline bool operator==(const TileTime& a, const TileTime& b) { return a.begin == b.begin && a.end == b.end; }

/// Commands run in order. A phase begins (its first command is pushed) only when the core is idle: the host waits for a
/// layer's results before it knows the next layer's routing. Which commands and phases there are is the host agent's to
/// say, while it runs (host_agent.h): tags are its names for them.
struct EngineRun {
  struct PhaseEnd {
    std::uint64_t tag = 0;
    std::uint64_t begin = 0;     ///< when its work was known: at the end of the phase before it, or later
    std::uint64_t cycles = 0;    ///< when the core became idle after the phase's last command
    std::uint64_t commands = 0;  ///< executed until then
    ActivityCounts activity{};   ///< of all cycles until then: every block's four counts add up to `cycles`
    std::array<std::uint64_t, kNumCauses> causes{};      ///< of all cycles until then, adding up to `cycles`
    std::array<std::uint64_t, kNumMemoryPorts> bytes{};  ///< Traffic::total() then
    std::uint64_t written_bytes = 0;                     ///< that the storage had written to the memory's model then
    /// Of the cycles of causes kWeights and kActivations: those in which a refresh of the memory held up the next beat
    /// of weight_read, of activation_read (refresh_waits.h).
    std::array<std::uint64_t, kNumMemoryPorts> refresh{};
  };
  /// What the expert cache did for one layer, as the host agent counts it.
  struct CacheOfLayer {
    std::uint64_t layer = 0;
    std::uint64_t jobs = 0, hits = 0;  ///< experts that a step needed; those of them that were there
    std::uint64_t loaded_bytes = 0, prefetched_bytes = 0, dropped_bytes = 0;
  };
  /// One load from storage.
  struct Load {
    Descriptor descriptor;
    std::uint64_t pushed = 0;     ///< cycle in which the host began the write that pushes it
    std::uint64_t issued = 0;     ///< cycle in which the storage accepted the request
    std::uint64_t completed = 0;  ///< cycle in which the core took its completion
  };
  std::uint64_t cycles = 0;  ///< of the whole run: those of the last phase's end, or of the cut
  // Some grow with the run: an engine that was given a RunSink (run_log.h) leaves commands, phases and loads empty.
  std::vector<std::uint64_t> retired;  ///< cycle in which each command was executed, ascending
  std::vector<std::uint64_t> tags;     ///< of each command
  std::vector<CommandWork> work;       ///< of each executed command
  std::vector<PhaseEnd> phase_ends;
  /// Of a run that was stopped at a cycle before its end: the counts then, and the tag and the beginning of the phase
  /// that was open. What was under way has end or completion 0. What a refresh holds up is known only when it comes:
  /// `refresh` is that of the last phase that ended.
  std::optional<PhaseEnd> cut;
  std::vector<Load> loads;                       ///< in the order in which they were pushed
  std::vector<TileTime> tiles;                   ///< in order; only of engines that were asked to watch them
  Traffic traffic;                               ///< by counter; of a run that is cut, none
  std::uint64_t storage_bytes = 0;               ///< that came from the storage
  std::uint64_t written_bytes = 0;               ///< of these to the memory's model, at the last phase's end or the cut
  std::vector<memory::Counter> memory_counters;  ///< of the memory's model, at the last phase's end or the cut
  memory::History memory_history;                ///< of the memory's model, until then
  std::vector<memory::Counter> host_counters;    ///< of the host agent, at the end
  std::vector<CacheOfLayer> cache_layers;        ///< of the host agent, at the end; by layer
};

/// Empty when two engines' runs are the same in everything; else the first number that differs, with both values.
std::string first_run_difference(const EngineRun& a, const EngineRun& b, const std::string& a_name,
                                 const std::string& b_name);

}  // namespace moesaic::program
