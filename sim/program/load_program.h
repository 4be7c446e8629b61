#pragma once
/// What the host has loaded from storage while a program runs: descriptors, when it pushes them, and the bytes.
#include <cstddef>
#include <optional>
#include <vector>

#include "sim/program/commands.h"
#include "sim/program/memory_image.h"

namespace moesaic::program {

struct PlaneLoad {
  Descriptor descriptor;
  /// Of a command: the host pushes the descriptor once it has pushed the commands before that one, and not before that
  /// one's phase begins. So the first command of a phase means "as soon as the phase is known", an earlier one a
  /// prefetch.
  std::size_t command = 0;
};

/// Every job's descriptors precede those of its id's next use, and its `wait` follows the command of each of them.
struct LoadProgram {
  std::vector<PlaneLoad> loads;  ///< in the order in which the host pushes them
  LoadOrder order = LoadOrder::kFifo;
  std::optional<unsigned> credits;  ///< requests outstanding at most; without it, as many as the core has
  MemoryImage storage;              ///< what lies at the descriptors' sources
};

}  // namespace moesaic::program
