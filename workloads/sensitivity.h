#pragma once
/// The sensitivity table: what storing one expert in one format costs in accuracy. CSV with the header
///
///   layer,expert,format,bits,loss,frequency,weight
///
/// layer counts every decoder layer; format is int, nested, binary or ternary, bits its width. loss >= 0 adds up over
/// experts (calibrate writes bits per byte; any additive unit will do); frequency is the share of tokens that chose the
/// expert, weight the mean over all tokens of the router weight they gave it. A mapper reads only the loss.
#include <cstdint>
#include <string>
#include <vector>

#include "reference/numerics/format.h"

namespace moesaic::workloads {

struct SensitivityRow {
  int layer = 0;
  int expert = 0;
  numerics::Format format;
  double loss = 0;
  double frequency = 0;
  double weight = 0;
};

/// Refuses (InputError, `file:line: column: got, expected`) another header, a missing or extra field, an unknown
/// format, a number that is negative or not finite, one (layer, expert, format) twice, an empty table. Rows stay in
/// file order.
std::vector<SensitivityRow> parse_sensitivity(const std::string& text, const std::string& path);

/// The file's text; every number in the fewest digits that read back to the same bits.
std::string format_sensitivity(const std::vector<SensitivityRow>& rows);

/// "int1..int8,binary,nested" -> formats in the order named; `nested` and `int` alone mean all eight widths. Refuses
/// unknown names, empty ranges and repeats at `where`, `key`.
std::vector<numerics::Format> parse_formats(const std::string& text, const std::string& where, const std::string& key);

}  // namespace moesaic::workloads
