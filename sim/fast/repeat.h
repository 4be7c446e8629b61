#pragma once
/// Runs a machine to its end by what it did before: its states are compared again and again, and where one was met with
/// the same work ahead, what followed it then follows now.
#include "sim/fast/machine.h"

namespace moesaic::fast {

/// The machine as a whole: its memory exports its state.
void repeat_all(Machine& machine);
/// The core, while the memory is asked; and both, where the memory comes back to moments.
void repeat_core(Machine& machine);

}  // namespace moesaic::fast
