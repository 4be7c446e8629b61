#pragma once
/// Some of the classes of requests that a plan knows (plan.h, Plan::class_shares): the rows of an expert that are read
/// alike.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moesaic::workloads {

/// Bit c: class c. Of what knows no classes, or one, kEveryRow.
using ClassSet = std::uint32_t;
inline constexpr ClassSet kEveryRow = 0;
inline constexpr std::size_t kMostClasses = 16;

inline bool contains(ClassSet classes, std::size_t number) { return (classes >> number & 1U) != 0; }

/// "0;2", ascending; empty for kEveryRow.
std::string class_set_name(ClassSet classes);
/// The reverse, of classes below `count`; anything else, the empty text too, is a ConfigError at `where`, `key`.
ClassSet parse_class_set(std::string_view text, std::size_t count, const std::string& where, const std::string& key);

}  // namespace moesaic::workloads
