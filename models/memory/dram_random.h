#pragma once
/// Random DRAMs that first_fault() accepts, for tests and for `moesaic verify`: presets with other controllers, and
/// small parts with timings of their own, refreshed often so that short runs meet refreshes.
#include "base/rng.h"
#include "models/memory/dram_config.h"

namespace moesaic::memory {

/// Capacity is 2^40 bytes, whatever the part.
DramConfig random_dram(base::Rng& rng);

}  // namespace moesaic::memory
