#pragma once
/// The sensitivity table: what storing one expert in one format costs in accuracy. CSV; its first lines may say which
/// quantiser's integers were measured, with all that decides them (workloads/quantiser.h), and what they were measured
/// at:
///
///   # quantiser: gptq                                or rtn, which has no lines of its own
///   # tokens: ../data/tokens/calibration.bin         relative to the table; the rest of the line
///   # tokens_hash: <SHA-256 of that file>
///   # window: 256
///   # damping: 0.01
///   # minimum_tokens: 0
///   # checkpoint: <hash of the model, workloads/checkpoint.h>
///   # group_size: 64
///   # act_bits: 8
///   # text_hash: <SHA-256 of the file measured on>
///   # text_window: 256
///   # text_minimum_tokens: 0
///   # loss: divergence,fisher                        of the columns loss and loss_fisher
///   # loss_windows: 32
///   layer,expert,format,bits,loss,frequency,weight[,projection][,loss_fisher]
///
/// A table without these lines does not say it; lines from checkpoint on follow a quantiser only.
///
/// layer counts every decoder layer; format is int, nested, binary or ternary, bits its width. loss >= 0 adds up over
/// experts (calibrate writes bits per byte; any additive unit will do); frequency is the share of tokens that chose the
/// expert, weight the mean over all tokens of the router weight they gave it. A mapper reads only the loss. With the
/// column projection a row is about one of an expert's three matrices, gate, up or down, alone in that format; without
/// it about all three. Columns loss_NAME are other losses of the same rows, which a mapper may be told to read instead.
#include <array>
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

/// How calibrate makes a loss (reference/network/calibrate.h).
enum class LossKind : std::uint8_t { kDivergence, kError, kFisher };
inline constexpr std::array<LossKind, 3> kLossKinds{LossKind::kDivergence, LossKind::kError, LossKind::kFisher};
const char* loss_name(LossKind kind);  ///< "divergence", "error", "fisher"
/// The columns of losses of these kinds after the first, which is `loss`: "loss_fisher".
std::vector<std::string> other_loss_columns(const std::vector<LossKind>& kinds);
inline constexpr const char* kLossColumn = "loss";

struct SensitivityRow {
  int layer = 0;
  int expert = 0;
  numerics::Format format;
  double loss = 0;
  double frequency = 0;
  double weight = 0;
  Projection projection = Projection::kAll;
  std::vector<double> other_losses{};  ///< in the order of SensitivityTable::other_losses
};

/// Beside the quantiser: all that a table's losses depend on.
struct SensitivityRecord {
  std::string checkpoint;  ///< hash of the model
  std::int64_t group_size = 0;
  std::int64_t act_bits = 0;
  std::string text_hash;  ///< SHA-256 of the file measured on
  std::int64_t text_window = 0;
  std::int64_t text_minimum_tokens = 0;
  std::vector<LossKind> losses;  ///< of the column loss, then of the others
  std::int64_t loss_windows = 0;
  int line = 0;  ///< of its first key in the file it was read from, for messages; 0 when not read

  static constexpr std::array<const char*, 8> kKeys{"checkpoint",  "group_size",          "act_bits", "text_hash",
                                                    "text_window", "text_minimum_tokens", "loss",     "loss_windows"};
  /// Where the file at `path` says a key of kKeys: "s.csv:3".
  std::string where(const std::string& path, const std::string& key) const;

  bool operator==(const SensitivityRecord& o) const {
    return checkpoint == o.checkpoint && group_size == o.group_size && act_bits == o.act_bits &&
           text_hash == o.text_hash && text_window == o.text_window && text_minimum_tokens == o.text_minimum_tokens &&
           losses == o.losses && loss_windows == o.loss_windows;
  }
};

struct SensitivityTable {
  std::optional<Quantiser> quantiser;       ///< whose integers were measured, where the table says it
  std::optional<SensitivityRecord> record;  ///< what else they were measured at; only with a quantiser
  std::vector<std::string> other_losses;    ///< names of the columns, each loss_NAME
  std::vector<SensitivityRow> rows;         ///< in file order
};

/// Refuses (InputError, `file:line: column: got, expected`) another header, a missing, extra or misplaced line about
/// the quantiser or what was measured, columns of losses that these lines do not name, a missing or extra field, an
/// unknown format or projection, a number that is negative or not finite, one (layer, expert, format, projection)
/// twice, an empty table.
SensitivityTable parse_sensitivity(const std::string& text, const std::string& path);

/// The text of the file at `path`; every number in the fewest digits that read back to the same bits. The column
/// projection is there when a row names one, the lines at the top when the table has what they say.
std::string format_sensitivity(const SensitivityTable& table, const std::string& path = "");
/// Of rows of one loss.
std::string format_sensitivity(const std::vector<SensitivityRow>& rows);

/// Puts another column of losses in the place of `loss`. Refuses a column that the table lacks at `where`, `key`.
void use_loss_column(SensitivityTable& table, const std::string& column, const std::string& path,
                     const std::string& where, const std::string& key);

/// "int1..int8,binary,nested" -> formats in the order named; `nested` and `int` alone mean all eight widths. Refuses
/// unknown names, empty ranges and repeats at `where`, `key`.
std::vector<numerics::Format> parse_formats(const std::string& text, const std::string& where, const std::string& key);

/// The same, with three formats of gate/up/down among them: "int4,int2/int2/int4".
std::vector<numerics::ExpertFormats> parse_expert_formats(const std::string& text, const std::string& where,
                                                          const std::string& key);

}  // namespace moesaic::workloads
