#pragma once
/// A run: Mixture-of-Experts layers, one after the other, as one program. Each layer is a phase: its experts in
/// ascending order, each over the rows routed to it (rows are gathered by address, never copied), then the combination
/// of every row's choices. The weights of a (layer, expert) lie in memory once, whatever the number of phases that read
/// them.
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "reference/numerics/expert.h"
#include "reference/numerics/stored_layout.h"
#include "sim/program/kernel_program.h"
#include "sim/program/program.h"
#include "workloads/routing_rules.h"

namespace moesaic::program {

/// What one layer gets to do in one step: rows and their routing.
struct LayerRows {
  std::string name;  ///< "request 0, step 3, layer 2"
  int layer = 0;
  numerics::Activations x;  ///< [rows, H]
  std::int64_t top_k = 0;
  /// [rows, top_k], distinct in a row; a choice that was dropped (workloads::RoutedRows::kDropped) is not computed: its
  /// row stays 0, and the combination reads it with r = 0.
  std::vector<std::uint32_t> chosen;
  std::vector<std::uint16_t> r;  ///< [rows, top_k], 1.0 = 32768
};

/// The weights of (layer, expert); the reference stays valid.
using WeightsOf = std::function<const numerics::ExpertWeights&(int layer, int expert)>;

/// What lowering needs to know of an expert.
struct ExpertShape {
  numerics::Format format;
  std::int64_t hidden = 0, intermediate = 0, group_size = 0;
  int sigma_h = 0;
};
using ShapeOf = std::function<ExpertShape(int layer, int expert)>;

inline constexpr int kCombination = -1;
inline constexpr int kSeveralLayers = -1;

struct RunProgram {
  struct Phase {
    std::size_t first_command = 0;
    std::uint64_t expert_rows = 0;  ///< address of [rows, top_k, H] int16: each choice's expert output
    std::uint64_t y = 0;            ///< address of [rows, H] int16
  };
  /// The commands of one expert in one phase, or of the phase's combination. Jobs follow each other without gaps.
  struct Job {
    std::size_t phase = 0;
    int expert = kCombination;
    std::int64_t rows = 0;
    std::size_t first_command = 0;
  };
  /// Whose bytes a region of the image holds.
  struct Tag {
    int layer = 0;              ///< kSeveralLayers: hidden rows that went through memory share one region
    int expert = kCombination;  ///< kCombination: of no single expert
  };
  struct Stored {
    int layer = 0, expert = 0;
    WeightObject object;
  };
  Loaded loaded;
  std::vector<Phase> phases;
  std::vector<Job> jobs;
  std::vector<Stored> experts;  ///< those that are placed, by layer and expert
  std::vector<Tag> tags;        ///< one per region of the image

  std::vector<std::size_t> phase_begin() const;
};

/// InputError (`where`) when the core cannot run it: activations wider than its PEs.
RunProgram lower_layers(const std::vector<LayerRows>& layers, const WeightsOf& weights, const CoreParams& core,
                        numerics::LayoutKind layout, const std::string& where);

/// The same commands and regions, from shapes alone: the memory image is without bytes, for timing. Of the layers' `x`
/// only its extents, act_bits and token shifts are read.
RunProgram lower_layers_without_data(const std::vector<LayerRows>& layers, const ShapeOf& shapes,
                                     const CoreParams& core, numerics::LayoutKind layout, const std::string& where);

/// What reference/numerics says.
struct LayerResult {
  std::vector<std::int16_t> expert_rows;  ///< [rows, top_k, H]
  std::vector<std::int16_t> y;            ///< [rows, H]
};
LayerResult layer_reference(const LayerRows& layer, const WeightsOf& weights);

/// Empty when phase `phase` left in memory what `expected` says; else the first difference, with layer, expert, token,
/// column and both values.
std::string first_layer_difference(const LayerRows& layer, const LayerResult& expected, const RunProgram::Phase& phase,
                                   const MemoryImage& memory);

}  // namespace moesaic::program
