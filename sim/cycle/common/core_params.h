#pragma once
#include "sim/program/core_params.h"

namespace moesaic::cycle {
using program::CoreParams;
}  // namespace moesaic::cycle
