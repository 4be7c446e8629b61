#pragma once
/// The sensitivity table: what storing one expert in one format costs in accuracy. CSV; its first lines may say which
/// quantiser's integers were measured, with all that decides them (workloads/quantiser.h):
///
///   # quantiser: gptq                                or rtn, which has no more lines
///   # tokens: ../data/tokens/calibration.bin         relative to the table; the rest of the line
///   # tokens_hash: <SHA-256 of that file>
///   # window: 256
///   # damping: 0.01
///   # minimum_tokens: 0
///   layer,expert,format,bits,loss,frequency,weight[,projection]
///
/// A table without these lines does not say it.
///
/// layer counts every decoder layer; format is int, nested, binary or ternary, bits its width. loss >= 0 adds up over
/// experts (calibrate writes bits per byte; any additive unit will do); frequency is the share of tokens that chose the
/// expert, weight the mean over all tokens of the router weight they gave it. A mapper reads only the loss. With the
/// column projection a row is about one of an expert's three matrices, gate, up or down, alone in that format; without
/// it about all three.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "reference/numerics/expert_formats.h"
#include "reference/numerics/format.h"
#include "workloads/quantiser.h"

namespace moesaic::workloads {

enum class Projection : std::uint8_t { kAll, kGate, kUp, kDown };
const char* projection_name(Projection projection);  ///< "all", "gate", "up", "down"

struct SensitivityRow {
  int layer = 0;
  int expert = 0;
  numerics::Format format;
  double loss = 0;
  double frequency = 0;
  double weight = 0;
  Projection projection = Projection::kAll;
};

struct SensitivityTable {
  std::optional<Quantiser> quantiser;  ///< whose integers were measured, where the table says it
  std::vector<SensitivityRow> rows;    ///< in file order
};

/// Refuses (InputError, `file:line: column: got, expected`) another header, a missing, extra or misplaced line about
/// the quantiser, a missing or extra field, an unknown format or projection, a number that is negative or not finite,
/// one (layer, expert, format, projection) twice, an empty table.
SensitivityTable parse_sensitivity(const std::string& text, const std::string& path);

/// The text of the file at `path`; every number in the fewest digits that read back to the same bits. The column
/// projection is there when a row names one, the quantiser's lines when there is one.
std::string format_sensitivity(const std::vector<SensitivityRow>& rows,
                               const std::optional<Quantiser>& quantiser = std::nullopt, const std::string& path = "");

/// "int1..int8,binary,nested" -> formats in the order named; `nested` and `int` alone mean all eight widths. Refuses
/// unknown names, empty ranges and repeats at `where`, `key`.
std::vector<numerics::Format> parse_formats(const std::string& text, const std::string& where, const std::string& key);

/// The same, with three formats of gate/up/down among them: "int4,int2/int2/int4".
std::vector<numerics::ExpertFormats> parse_expert_formats(const std::string& text, const std::string& where,
                                                          const std::string& key);

}  // namespace moesaic::workloads
