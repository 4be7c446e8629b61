#pragma once
/// A run: layers, one after the other, as one program. A part of a layer is a phase. Of experts: each over the rows
/// routed to it, in ascending order (rows are gathered by address, never copied), those that read the fewest planes of
/// it first, each width on its own; then the combination of every row's choices. Or of products: rows against matrices,
/// such as the projections of attention, or its scores against a cache of keys. What a phase reads lies in memory once,
/// whatever the number of phases that read it.
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reference/numerics/expert.h"
#include "reference/numerics/stored_layout.h"
#include "sim/program/chip.h"
#include "sim/program/engine_run.h"
#include "sim/program/kernel_program.h"
#include "sim/program/program.h"
#include "sim/program/timed_program.h"
#include "workloads/routing_rules.h"

namespace moesaic::program {

/// What of a layer a phase is.
enum class Part : std::uint8_t {
  kExperts,      ///< routed experts, the shared one where it runs, their combination
  kDense,        ///< the feed-forward network of a layer without experts
  kProjections,  ///< into attention: queries, keys, values; with latent attention, the latent rows
  kScores,       ///< queries against the cache of keys; before them, with latent attention, the queries' own products
  kValues,       ///< probabilities against the cache of values, then the way back to the hidden row
  kHead,         ///< the language-model head
};
inline constexpr std::array<std::string_view, 6> kPartNames{"experts", "dense",  "projections",
                                                            "scores",  "values", "head"};
inline constexpr std::size_t kNumParts = kPartNames.size();

/// `count` equal matrices that lie in memory together: one weight, or those of every head.
struct MatrixStack {
  std::string name;  ///< of the object: products of one name read the same bytes
  numerics::Format format;
  std::int64_t count = 1, n = 0, k = 0, group_size = 0;
  int out_bits = 8;       ///< of what it is multiplied to: 8 or 16
  bool is_cache = false;  ///< keys or values: Kind::kCache
};

/// Rows against each matrix of a stack, or against its first n columns and k rows.
struct Product {
  std::string name;  ///< what results call it: "q", "scores"
  std::string of;    ///< whose it is within the step: "request 3", or nothing
  MatrixStack stack;
  std::int64_t n = 0, k = 0;  ///< what is used of each matrix; n in whole blocks of columns, or all of it
  std::int64_t rows = 0;      ///< for each matrix
  Kind in = Kind::kActivations, out = Kind::kOutputs;
  /// [count * rows, k], the first matrix's rows first. Without data only its extents count.
  numerics::Activations x;
};

/// What goes on beside the chip before a phase begins, in units of work: what it costs is stated (chip file,
/// stated_costs), not simulated.
struct StatedWork {
  std::int64_t norm_elements = 0, router_macs = 0, softmax_elements = 0;
  bool any() const { return norm_elements != 0 || router_macs != 0 || softmax_elements != 0; }
};

/// One phase: a part of one layer in one step. Rows and their routing, or products.
struct LayerRows {
  std::string name;  ///< "request 0, step 3, layer 2"
  int layer = 0;
  Part part = Part::kExperts;
  StatedWork stated;
  std::vector<Product> products;  ///< kProjections, kScores, kValues, kHead: these, and nothing of what follows
  numerics::Activations x;        ///< [rows, H]
  std::int64_t top_k = 0;         ///< kDense: 1, and the results are the expert's, without a combination
  /// [rows, top_k], distinct in a row; a choice that was dropped (workloads::RoutedRows::kDropped) is not computed: its
  /// row stays 0, and the combination reads it with r = 0.
  std::vector<std::uint32_t> chosen;
  std::vector<std::uint16_t> r;  ///< [rows, top_k], 1.0 = 32768
  /// [rows, top_k], how wide each choice reads its expert (ExpertShape::reads); empty: level 0.
  std::vector<std::uint8_t> levels;
};

/// The weights of (layer, expert); the reference stays valid.
using WeightsOf = std::function<const numerics::ExpertWeights&(int layer, int expert)>;

/// What lowering needs to know of an expert.
struct ExpertShape {
  numerics::ExpertFormats format;
  std::int64_t hidden = 0, intermediate = 0, group_size = 0;
  int sigma_h = 0;
  /// What rows of each level read of the one stored copy; empty: all of them `format`.
  std::vector<numerics::ExpertFormats> reads{};
  const numerics::ExpertFormats& read(std::uint8_t level) const { return reads.empty() ? format : reads.at(level); }
  numerics::ExpertFormats widest_read() const;
};
using ShapeOf = std::function<ExpertShape(int layer, int expert)>;
/// One matrix of a stack; the reference stays valid.
using MatrixOf = std::function<const numerics::WeightMatrix&(const MatrixStack& stack, std::int64_t index)>;

inline constexpr int kCombination = -1;
inline constexpr int kProduct = -2;
inline constexpr int kSeveralLayers = -1;

/// A step of one layer before the run, of which only its experts count.
struct EarlierRows {
  int layer = 0;
  struct Reading {
    int expert = 0;
    std::uint32_t level = 0;  ///< what the rows read, as LayerRows::levels
    int planes = 0;           ///< the same in planes; known once lowered
    std::uint32_t rows = 0;
  };
  std::vector<Reading> readings;  ///< lowered: by expert, the narrowest first, as jobs of a run
};

/// Routed experts lie in a storage and come into a cache in the memory while the run goes on (cache_agent.h).
struct Offloading {
  std::int64_t capacity_bytes = 0;    ///< of the cache, rounded down to 64; 0: capacity_experts says it
  std::int64_t capacity_experts = 0;  ///< times the largest expert of the run
  int experts = 0;                    ///< of a layer
  bool store_all = false;             ///< also those that no row goes to, which a prefetch may guess
  std::vector<EarlierRows> earlier;   ///< what went through the cache before the run, in order
  std::string where;                  ///< of the capacity, for messages
};

struct OffloadedExperts {
  std::vector<int> layers;  ///< with experts that the run has, ascending
  int experts = 0;          ///< of each: those below this number; others are in the memory
  /// Of layers[l], expert e at l * experts + e; its format is the widest that is read.
  std::vector<std::shared_ptr<const numerics::ExpertLayout>> layout;
  std::vector<std::optional<std::uint64_t>> source;  ///< address in the storage
  MemoryImage storage;                               ///< experts that nobody computes with are zeros there
  std::uint64_t cache_address = 0, cache_bytes = 0;  ///< a region of the memory
  std::vector<EarlierRows> earlier;                  ///< what went through the cache before the run
};

struct RunProgram {
  struct Phase {
    int layer = 0;
    std::size_t first_command = 0;
    std::uint64_t after = 0, at = 0;      ///< when it may begin, as in TimedPhase
    std::uint64_t expert_rows = 0;        ///< address of [rows, top_k, H] int16: each choice's expert output
    std::uint64_t y = 0;                  ///< address of [rows, H] int16
    std::vector<std::uint64_t> products;  ///< of each product, address of its results: [count * rows, n]
  };
  /// The commands of one expert in one phase for the rows that read it at one width, of the phase's combination, or of
  /// one of its products. Jobs follow each other without gaps.
  struct Job {
    std::size_t phase = 0;
    int expert = kCombination;  ///< or kProduct
    std::int64_t rows = 0;
    std::size_t first_command = 0;
    std::size_t product = 0;           ///< kProduct: index in the phase's products
    std::uint64_t plane_adds = 0;      ///< of all rows: weights that they meet, times bit planes read
    numerics::ExpertFormats format{};  ///< of an expert: what the rows read
  };
  /// Whose bytes a region of the image holds.
  struct Tag {
    int layer = 0;              ///< kSeveralLayers: hidden rows that went through memory share one region
    int expert = kCombination;  ///< kCombination: of no single expert
    Part part = Part::kExperts;
  };
  struct Stored {
    int layer = 0, expert = 0;
    ExpertObject object;  ///< offloaded: `address` is the storage's
  };
  Loaded loaded;
  std::vector<Phase> phases;
  std::vector<Job> jobs;
  std::vector<Stored> experts;  ///< those that are placed, by layer and expert
  std::vector<Tag> tags;        ///< one per counter of the image (MemoryImage::counters())
  /// When set, weight addresses of these experts' products count from the beginning of their object, and jobs may run
  /// in any order within their phase, before the combination.
  std::optional<OffloadedExperts> offloaded;

  bool barriers = false;  ///< as lowered

  /// Before the phases of `layers` begin, what is stated beside them goes on: stated_cycles() of each.
  void state_costs(const std::vector<LayerRows>& layers, const Chip& chip);
  /// The phases that an engine is to keep apart: of every layer, or with barriers of every job.
  std::vector<TimedPhase> timed_phases() const;
};

/// Cycles that pass before a phase begins, by the chip file. ConfigError when there is such work and the file says no
/// costs.
std::uint64_t stated_cycles(const StatedWork& work, const Chip& chip);

/// One phase of a run, lowered. Numbers of commands and jobs count from the run's first.
struct LoweredPhase {
  RunProgram::Phase phase;
  std::size_t number = 0;  ///< of the phase
  std::size_t first_job = 0;
  std::vector<RunProgram::Job> jobs;
  std::vector<Command> commands;
  std::vector<std::uint64_t> regions;  ///< addresses of those that are this phase's alone

  std::size_t command_end() const { return phase.first_command + commands.size(); }
  /// Behind the last command of jobs[job].
  std::size_t job_end(std::size_t job) const {
    return job + 1 < jobs.size() ? jobs[job + 1].first_command : command_end();
  }
  const Command& command(std::size_t number_in_run) const { return commands.at(number_in_run - phase.first_command); }
};

struct LowerOptions {
  /// Experts one at a time: an engine waits for the core to be idle after every job (with its option fresh_phases), and
  /// no command or address of a job depends on any expert's format but its own: each expert has room for any format.
  /// (Rows that the table knows are not set again; those of two jobs never agree, as every choice has its own output.)
  /// Then a job takes the same cycles whatever runs before it, behind a memory that keeps nothing from before.
  bool barriers = false;
  /// Experts are not in the memory but in RunProgram::offloaded. Outlives the call; not with barriers.
  const Offloading* offloading = nullptr;
  ShapeOf shapes;  ///< what experts are that no row goes to; needed with offloading, and with rows of several levels
};

/// InputError (`where`) when the core cannot run it: activations wider than its PEs. ConfigError for a cache that is
/// smaller than an expert.
RunProgram lower_layers(const std::vector<LayerRows>& layers, const WeightsOf& weights, const CoreParams& core,
                        numerics::LayoutKind layout, const std::string& where, const MatrixOf& matrices = {},
                        const LowerOptions& options = {});

/// The same commands and regions, from shapes alone: memory and storage are without bytes, for timing. Of the layers'
/// `x` only its extents, act_bits and token shifts are read.
RunProgram lower_layers_without_data(const std::vector<LayerRows>& layers, const ShapeOf& shapes,
                                     const CoreParams& core, numerics::LayoutKind layout, const std::string& where,
                                     const LowerOptions& options = {});

/// Lowers a run of any length phase by phase, so that no more of it is in memory than somebody still needs. The image
/// and the commands are those of lower_layers(): addresses of a phase follow those of the phase before it, and are not
/// used again.
///
///   survey(phase)   of every phase, in order: what lies in memory from the beginning is known afterwards
///   place()         puts it there
///   lower(phase)    of every phase, in the same order
///   forget(phase)   its regions leave the image
class PhaseLowering {
 public:
  /// `weights` and `matrices` null: an image without bytes. Errors as lower_layers(). `options.offloading` outlives it.
  PhaseLowering(const ShapeOf& shapes, const WeightsOf* weights, const MatrixOf* matrices, const CoreParams& core,
                numerics::LayoutKind layout, const std::string& where, const LowerOptions& options);
  ~PhaseLowering();
  PhaseLowering(const PhaseLowering&) = delete;
  PhaseLowering& operator=(const PhaseLowering&) = delete;

  /// Of `layer` routing, extents and names are read, no activation.
  void survey(const LayerRows& layer);
  /// The jobs that lower() will make of it, as far as survey() sees: their experts and rows.
  std::vector<RunProgram::Job> jobs_of(const LayerRows& layer) const;
  void place();
  LoweredPhase lower(const LayerRows& layer);
  void forget(const LoweredPhase& phase);

  /// Everything but its phases, jobs and commands; complete after place(), but for the image and the tags, which grow.
  RunProgram& program();

 private:
  class Lowering;
  std::unique_ptr<Lowering> lowering_;
};

/// What reference/numerics says.
struct LayerResult {
  std::vector<std::int16_t> expert_rows;            ///< [rows, top_k, H]
  std::vector<std::int16_t> y;                      ///< [rows, H]
  std::vector<std::vector<std::int16_t>> products;  ///< of each, [count * rows, n]
  std::size_t values() const;
};
/// `shapes`: needed where the rows have levels.
LayerResult layer_reference(const LayerRows& layer, const WeightsOf& weights, const MatrixOf& matrices = {},
                            const ShapeOf& shapes = {});

/// Empty when phase `phase` left in memory what `expected` says; else the first difference, with layer, expert, token,
/// column and both values.
std::string first_layer_difference(const LayerRows& layer, const LayerResult& expected, const RunProgram::Phase& phase,
                                   const MemoryImage& memory);

}  // namespace moesaic::program
