#pragma once
/// The mapper's problem: one format for every (layer, expert), or one for each of its matrices, least additive loss,
/// within any number of budgets and side constraints. Losses and uses come as tables; losses are scaled once to
/// integers and budgets are integers, so that solvers, checker and bounds compare with ==.
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mapping/choice_program.h"
#include "reference/numerics/expert_formats.h"
#include "reference/numerics/format.h"
#include "reference/numerics/stored_layout.h"
#include "workloads/class_set.h"
#include "workloads/network.h"
#include "workloads/sensitivity.h"

namespace moesaic::mapping {

/// Bytes of one expert in any formats, as numerics::ExpertLayout stores it. Thread-safe; copies share what they know.
class MemoryTable {
 public:
  MemoryTable(const workloads::Network& network, std::int64_t group_size, const numerics::LayoutSpec& layout);
  /// Stored: a nested expert stores all eight planes.
  std::int64_t bytes(const numerics::ExpertFormats& formats) const { return of(formats).first; }
  /// What products read: a nested expert's top planes only.
  std::int64_t read_bytes(const numerics::ExpertFormats& formats) const { return of(formats).second; }

 private:
  std::pair<std::int64_t, std::int64_t> of(const numerics::ExpertFormats& formats) const;
  struct Known {
    std::mutex mutex;
    std::map<numerics::ExpertFormats, std::pair<std::int64_t, std::int64_t>> bytes;
  };
  std::int64_t hidden_, intermediate_, group_size_;
  numerics::LayoutSpec layout_;
  std::shared_ptr<Known> known_ = std::make_shared<Known>();
};

/// Which matrices of an expert take one format, where a table has losses of each.
enum class Together : std::uint8_t { kNone, kGateUp, kAll };

/// How an expert is stored, and what each class of requests reads of its stored copy.
struct Reading {
  numerics::ExpertFormats format;         ///< the widest that any class reads
  std::vector<numerics::Format> reads{};  ///< of each class; empty: every class reads `format`

  Reading() = default;
  Reading(const numerics::ExpertFormats& all) : format(all) {}  // NOLINT(google-explicit-constructor)
  Reading(numerics::Format all) : format(all) {}                // NOLINT(google-explicit-constructor)
  /// One format a class; all of them of one stored copy.
  explicit Reading(const std::vector<numerics::Format>& of_classes);

  /// "mwq2+2"; of classes that differ "mwq2+0of2:mwq2+1of2:mwq2+2".
  std::string name() const;
  /// The formats read, each with the classes that read it: kEveryRow where every class reads it and `classes` is less
  /// than 2.
  std::vector<std::pair<numerics::ExpertFormats, workloads::ClassSet>> widths(std::size_t classes) const;
  friend bool operator==(const Reading& a, const Reading& b) { return a.format == b.format && a.reads == b.reads; }
  friend bool operator!=(const Reading& a, const Reading& b) { return !(a == b); }
};

/// Classes of requests. The loss of an expert is expected over its rows: of each class its share of them, times its
/// weight, times the loss of what it reads.
struct Classes {
  std::vector<double> shares;   ///< of all rows, adding up to 1; empty: there are no classes
  std::vector<double> weights;  ///< of each class; empty: 1
  bool rising = true;           ///< no class reads fewer planes than one of a lower number
  std::map<std::pair<int, int>, std::vector<double>> of_expert;  ///< by (layer, expert), in the place of `shares`

  std::size_t count() const { return shares.size(); }
  /// Classes may read differently, or weigh differently from a table of rows.
  bool any() const { return count() > 1 || !weights.empty(); }
  double factor(int layer, int expert, std::size_t number) const;
};

/// Every way of `classes` to read one of these formats, in lexicographic order of the formats as they stand. 0 and 1
/// classes: each format.
std::vector<Reading> readings(const std::vector<numerics::Format>& formats, std::size_t classes, bool rising);
/// How many they are, or, if more, kMostChoices + 1.
std::size_t count_readings(const std::vector<numerics::Format>& formats, std::size_t classes, bool rising);

/// Something that a choice uses and a budget may bound. A budget of v units is v * scale uses; what is an average over
/// the tokens of a trace has their number as scale, so that the uses stay whole.
struct Resource {
  std::string name;  ///< "memory"
  std::string unit;  ///< "bytes"
  std::int64_t scale = 1;
  /// At least 0; `formats` is Reading::format.
  std::function<std::int64_t(int layer, int expert, const numerics::ExpertFormats& formats)> use;
  /// In its place, where it depends on what each row reads: of the rows of these classes, which read `formats`, and no
  /// others; a choice uses the sum over Reading::widths().
  std::function<std::int64_t(int layer, int expert, const numerics::ExpertFormats& formats,
                             workloads::ClassSet classes)>
      class_use{};
};

struct Choice : Reading {
  /// round(real_loss * 2^loss_exponent), of the table's row; of rows of gate, up and down the sum of theirs.
  std::int64_t loss = 0;
  /// Of the table: a row's, or gate's + up's + down's; of classes the sum of factor * that of what each reads.
  double real_loss = 0;
  std::vector<std::int64_t> use;  ///< of every resource
};

/// Losses of one of an expert's matrices, scaled, in the order of numerics::all_formats().
using MatrixLosses = std::vector<std::pair<numerics::Format, std::int64_t>>;

struct Item {
  int layer = 0;
  int expert = 0;
  double frequency = 0;  ///< of the table
  double weight = 0;
  /// In the order of numerics::all_formats() of gate, then up, then down; of what class 0 reads, then class 1, ...: the
  /// order that ties are broken in.
  std::vector<Choice> choices;
  /// Of gate, up and down, where the table has them apart; those of a format that the matrices cannot take together
  /// with the others are among them.
  std::array<MatrixLosses, 3> matrices;
};

struct Budget {
  int resource = 0;        ///< index into Problem::resources
  bool per_layer = false;  ///< every layer's sum, instead of the model's
  std::int64_t value = 0;  ///< in the resource's unit
  std::string key;         ///< "--memory-budget", for messages
  /// In uses, instead of value * scale: one for the model, or one a layer in the order of Problem::layers(). What is
  /// left of a budget once something that does not add up has been taken off.
  std::vector<std::int64_t> capacity{};
};

/// At least `count` experts all of whose matrices, read by any class, have a format, in a layer; layer -1: in every
/// layer.
struct AtLeast {
  int count = 0;
  numerics::Format format;
  int layer = -1;
};

struct Problem {
  std::vector<Item> items;  ///< sorted by layer, then expert
  int loss_exponent = 0;
  bool significance = false;   ///< losses were multiplied by with_significance()
  bool by_projection = false;  ///< from losses of gate, up and down
  Together together = Together::kAll;
  Classes classes;
  std::vector<Resource> resources;
  std::vector<Budget> budgets;
  std::vector<AtLeast> at_least;
  std::vector<std::vector<int>> tied;  ///< groups of items that take one format or reading; disjoint

  std::vector<int> layers() const;  ///< ascending, each once
  std::optional<int> resource(const std::string& name) const;
};

/// The uses that a budget allows, in the model or in the layer of this rank in Problem::layers().
std::int64_t capacity_of(const Problem& problem, const Budget& budget, std::size_t layer_rank);

/// One index into Item::choices for every item.
using Assignment = std::vector<int>;

struct Totals {
  std::int64_t loss = 0;
  double real_loss = 0;           ///< summed in the order of items
  std::vector<std::int64_t> use;  ///< of every resource
};
Totals totals(const Problem& problem, const Assignment& assignment);
/// Every layer's use of one resource, in the order of Problem::layers().
std::vector<std::int64_t> layer_use(const Problem& problem, const Assignment& assignment, int resource);

/// The problem that a sensitivity table poses on this network, without budgets or constraints. Refuses (InputError,
/// `path: key: got, expected`) a row for an expert that the network lacks, an expert without rows, rows of one expert
/// that differ in frequency or weight, more than kMostChoices choices. The exponent is the greatest for which the sum
/// of every item's greatest loss stays within 2^50 (0 when all losses are 0).
///
/// Of rows of gate, up and down every combination that `together` allows is a choice. With classes every way of theirs
/// to read one stored copy is, of copies whose formats have rows; matrices of several formats are then refused.
Problem make_problem(const std::vector<workloads::SensitivityRow>& rows, const std::string& path,
                     const workloads::Network& network, std::vector<Resource> resources,
                     Together together = Together::kNone, const Classes& classes = {});
inline constexpr std::size_t kMostChoices = std::size_t{1} << 20;

bool is_by_projection(const std::vector<workloads::SensitivityRow>& rows);

/// Every combination of formats that an expert may take of these three lists.
std::vector<numerics::ExpertFormats> combinations(const std::vector<numerics::Format>& gate,
                                                  const std::vector<numerics::Format>& up,
                                                  const std::vector<numerics::Format>& down, Together together);

/// The network that a table speaks of when nothing else says: all layers it names, all experts up to the greatest.
workloads::Network network_of(const std::vector<workloads::SensitivityRow>& rows, const std::string& path);

/// MC-MoE's significance (Huang et al., MC-MoE: Mixture Compressor for Mixture-of-Experts LLMs Gains More, 2024): every
/// loss times frequency * weight^1.5, both as shares of their layer's sum. Refuses a layer whose frequencies or weights
/// sum to 0.
std::vector<workloads::SensitivityRow> with_significance(std::vector<workloads::SensitivityRow> rows,
                                                         const std::string& path);

/// The exponent for losses whose sum is at most `greatest_sum`, and a loss under it.
int loss_exponent_for(double greatest_sum);
std::int64_t scaled_loss(double loss, int exponent);

/// The problem as a choice program: tied items become one item.
struct Lowered {
  struct Limit {
    int budget = -1;    ///< index into Problem::budgets, or
    int at_least = -1;  ///< into Problem::at_least
    int layer = -1;     ///< -1: all
  };
  ChoiceProgram program;
  std::vector<Limit> limits;                  ///< of program.capacity
  std::vector<std::vector<int>> units;        ///< the items of every program item
  std::vector<std::vector<Reading>> formats;  ///< of every option
  Assignment assignment(const Problem& problem, const Choices& choices) const;
};

/// Refuses (InputError) tied items that share no format, and totals too great to be exact.
Lowered lower(const Problem& problem);

/// What a user may write for a budget.
enum class BudgetUnit : std::uint8_t { kBytes, kBytesOrAverageBits, kCycles, kBits, kPlain };
struct ParsedBudget {
  std::int64_t value = 0;
  bool per_layer = false;
};
/// Bytes: "123456", "96KiB", "1.5MiB", "2GiB"; with an average-bits table also "2.5bits": as many bytes as `items`
/// experts take when half of them are int2 and half int3 (any width from 1 to 8 in between in proportion). Cycles:
/// "1200cycles". Bits: "16bits". Each may end in "/layer". Fractions are cut off. Refuses anything else at `where`,
/// `key`.
struct AverageBits {
  const MemoryTable* memory = nullptr;
  std::int64_t items = 0;            ///< experts of the model
  std::int64_t items_per_layer = 0;  ///< for "/layer"
};
ParsedBudget parse_budget(const std::string& text, BudgetUnit unit, const AverageBits& average,
                          const std::string& where, const std::string& key);

}  // namespace moesaic::mapping
