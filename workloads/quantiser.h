/// Which quantiser makes a network's integers, and from what: everything but the checkpoint, the formats and the group
/// size that a quantised network depends on. A section of the plan file:
///
///   quantiser:
///     kind: gptq
///     tokens: "../tokens/calibration.bin"      # as workloads/tokens.h reads it; relative to the plan file
///     tokens_hash: "64 hexadecimal digits"     # SHA-256 of that file; another text is refused
///     window: 256                              # tokens of a calibration window
///     damping: 0.01                            # share of the Hessian's mean diagonal that is added to it
///     minimum_tokens: 0                        # rows that every expert is calibrated on at least
///
/// Without the section every weight is rounded to nearest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/yaml.h"

namespace moesaic::workloads {

enum class QuantiserKind : std::uint8_t { kRoundToNearest, kGptq };

struct Quantiser {
  QuantiserKind kind = QuantiserKind::kRoundToNearest;
  // Of kGptq only.
  std::string tokens;       ///< path, as it can be opened from here
  std::string tokens_hash;  ///< SHA-256 of the file
  std::int64_t window = 0;
  double damping = 0;
  std::int64_t minimum_tokens = 0;
  int tokens_line = 0;  ///< of the plan it was read from, for messages; 0 when not read
  std::string plan;     ///< that plan's path

  /// By what decides the integers: not by where the tokens lie.
  bool operator==(const Quantiser& o) const {
    return kind == o.kind && tokens_hash == o.tokens_hash && window == o.window && damping == o.damping &&
           minimum_tokens == o.minimum_tokens;
  }
};

inline constexpr std::int64_t kQuantiserWindow = 256;
inline constexpr double kQuantiserDamping = 0.01;

/// GPTQ on this token file, hashed now. InputError when unreadable.
Quantiser gptq_quantiser(const std::string& tokens, std::int64_t minimum_tokens = 0, double damping = kQuantiserDamping,
                         std::int64_t window = kQuantiserWindow);

/// The section of a plan file.
Quantiser parse_quantiser(const base::YamlNode& section, const std::string& plan);

/// The path of its calibration tokens from the folder of the file at `path`.
std::string tokens_seen_from(const Quantiser& quantiser, const std::string& path);

/// The section as text for the plan file at `plan`; empty for round-to-nearest.
std::string format_quantiser(const Quantiser& quantiser, const std::string& plan);

/// The calibration tokens. InputError when the file is missing, is another than the hash says, or holds no window.
std::vector<std::uint32_t> read_quantiser_tokens(const Quantiser& quantiser);

}  // namespace moesaic::workloads
