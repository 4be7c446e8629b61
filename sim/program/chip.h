#pragma once
/// The chip file (docs/schemas/chip.schema.json): what every engine is built from. Unknown keys are errors.
/// The clock is `clock_mhz`, which must divide 10^9, or `clock_period_fs`: a period is a whole number of femtoseconds.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "models/memory/memory_model.h"
#include "models/storage/storage_model.h"
#include "reference/numerics/format.h"
#include "reference/numerics/stored_layout.h"
#include "sim/program/cache_config.h"
#include "sim/program/core_params.h"

namespace moesaic::program {

/// What a piece of work beside the core costs: `cycles`, and one more for every `per_cycle` units or part of them.
struct StatedCost {
  std::int64_t cycles = 0;
  std::int64_t per_cycle = 1;
  std::uint64_t of(std::int64_t units) const {
    return units == 0 ? 0 : static_cast<std::uint64_t>(cycles + (units + per_cycle - 1) / per_cycle);
  }
};

/// Of what whole layers need and the core cannot do. Stated in the file, simulated nowhere.
struct StatedCosts {
  StatedCost norm;     ///< per element of a normalised row
  StatedCost router;   ///< per multiplication of the router's matrix
  StatedCost softmax;  ///< per score
};

struct Chip {
  std::string path;  ///< of the file, for messages
  std::string hash;  ///< SHA-256 of the file's bytes, lower-case hexadecimal
  std::string name;
  CoreParams core;
  base::Femtoseconds period{2000000};  ///< of the core's clock
  numerics::LayoutKind layout = numerics::LayoutKind::kTileMajor;
  memory::MemoryConfig memory;
  /// The formats that the hardware has; empty: all.
  std::vector<numerics::Format> formats;
  std::optional<StatedCosts> stated_costs;
  /// Where experts lie, and the cache of them in the memory: both or neither. Without them all experts are in the
  /// memory.
  std::optional<storage::StorageConfig> storage;
  std::optional<CacheConfig> cache;

  base::Femtoseconds clock_period() const { return period; }
  base::Femtoseconds time(base::Cycles cycles) const { return period * cycles.count(); }
  std::string memory_name() const;   ///< what results are labelled with
  std::string storage_name() const;  ///< the same
  bool has(numerics::Format format) const;
  std::string format_names() const;  ///< "int2,int4"
  /// The layout of every object stored for this chip.
  numerics::LayoutSpec layout_spec() const {
    return {layout, static_cast<int>(core.rows), static_cast<int>(core.cols)};
  }
};

/// InputError `file:line: key: got X, expected Y` for anything that does not hold.
Chip read_chip(const std::string& path);
Chip parse_chip(const std::string& text, const std::string& name);

/// Refuses (std::logic_error) parameters outside docs/core.md's table: for parameters that are not from a file.
void check(const CoreParams& params);

}  // namespace moesaic::program
