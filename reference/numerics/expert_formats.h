#pragma once
/// The formats of an expert's three matrices: one for all, or one each. Written "int4", or gate/up/down:
/// "int2/int2/int4".
#include <cstdint>
#include <string>

#include "reference/numerics/format.h"

namespace moesaic::numerics {

struct ExpertFormats {
  Format gate, up, down;

  ExpertFormats() = default;
  /// One for all three. Not explicit: a format is also an expert's.
  ExpertFormats(Format all) : gate(all), up(all), down(all) {}  // NOLINT(google-explicit-constructor)
  ExpertFormats(Format gate_format, Format up_format, Format down_format)
      : gate(gate_format), up(up_format), down(down_format) {}

  bool is_one() const { return gate == up && up == down; }
  bool is_paired() const { return gate == up; }
  /// Bit planes that a product reads of the three together.
  int planes() const { return gate.planes() + up.planes() + down.planes(); }

  std::string name() const;
  /// The reverse of name(), three equal ones included; anything else is a ConfigError at `where`, `key`.
  static ExpertFormats parse(const std::string& name, const std::string& where, const std::string& key);

  friend bool operator==(const ExpertFormats& a, const ExpertFormats& b) {
    return a.gate == b.gate && a.up == b.up && a.down == b.down;
  }
  friend bool operator!=(const ExpertFormats& a, const ExpertFormats& b) { return !(a == b); }
  /// Some order, for use as a key.
  friend bool operator<(const ExpertFormats& a, const ExpertFormats& b) {
    if (a.gate != b.gate) return a.gate < b.gate;
    return a.up != b.up ? a.up < b.up : a.down < b.down;
  }
};

}  // namespace moesaic::numerics
