#pragma once
/// How the fast engine got through its cycles, as JSON has it.
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "sim/fast/engine.h"

namespace moesaic::cli {

inline constexpr std::array<std::pair<const char*, std::uint64_t fast::Effort::*>, 13> kEffortFields{{
    {"cycles_stepped", &fast::Effort::stepped},
    {"cycles_skipped", &fast::Effort::skipped},
    {"cycles_streamed", &fast::Effort::streamed},
    {"cycles_repeated", &fast::Effort::repeated},
    {"cycles_repeated_stocked", &fast::Effort::stocked},
    {"cycles_repeated_apart", &fast::Effort::apart},
    {"cycles_repeated_unasked", &fast::Effort::unasked},
    {"cycles_linked", &fast::Effort::linked},
    {"refreshes_repeated_unasked", &fast::Effort::refreshes},
    {"states", &fast::Effort::states},
    {"states_forgotten", &fast::Effort::forgotten},
    {"moments", &fast::Effort::moments},
    {"moments_forgotten", &fast::Effort::moments_forgotten},
}};

/// Adds the fields to a JSON object.
inline void put_effort(const fast::Effort& effort, nlohmann::ordered_json& to) {
  for (const auto& [name, field] : kEffortFields) to[name] = effort.*field;
}

}  // namespace moesaic::cli
