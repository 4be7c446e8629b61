#pragma once
/// The chip file (docs/schemas/chip.schema.json): what every engine is built from. Unknown keys are errors.
#include <cstdint>
#include <string>

#include "models/memory/memory_model.h"
#include "reference/numerics/stored_layout.h"
#include "sim/program/core_params.h"

namespace moesaic::program {

struct Chip {
  std::string name;
  CoreParams core;
  std::int64_t clock_mhz = 500;                ///< divides 10^9, so that the period is a whole number of femtoseconds
  numerics::LayoutKind layout = numerics::LayoutKind::kTileMajor;
  memory::MemoryConfig memory;

  base::Femtoseconds clock_period() const { return base::Femtoseconds(1000000000 / clock_mhz); }
};

/// InputError `file:line: key: got X, expected Y` for anything that does not hold.
Chip read_chip(const std::string& path);
Chip parse_chip(const std::string& text, const std::string& name);

/// Refuses (std::logic_error) parameters outside docs/core.md's table: for parameters that are not from a file.
void check(const CoreParams& params);

}  // namespace moesaic::program
