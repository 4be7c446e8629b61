#pragma once
/// Executes commands by the rules of docs/core.md, one after the other and without time: what the hardware computes,
/// written down a second time. Commands run strictly in order, so the memory image afterwards is the one that every
/// engine leaves: the fast engine's data. Every address must lie in a region of the kind the command is about, every
/// buffer word in its buffer; anything else is a std::logic_error that names the command.
#include <cstdint>
#include <vector>

#include "sim/program/commands.h"
#include "sim/program/core_params.h"
#include "sim/program/engine_run.h"
#include "sim/program/memory_image.h"

namespace moesaic::program {

class Interpreter {
 public:
  Interpreter(const CoreParams& params, MemoryImage& image);
  void run(const std::vector<Command>& commands);

  /// As the core's status says: some shift was out of 0..62, and that result is 0.
  bool shift_error() const { return shift_error_; }

  std::uint64_t commands_with_k_chunks = 0;  ///< matmuls that did not begin or did not end K
  std::uint64_t loads_of_spilled_rows = 0;
  std::uint64_t weight_bytes = 0;  ///< planes, parameters and requantisation read

 private:
  struct Row {
    std::uint64_t in = 0, out = 0, aux = 0;
    int shift = 0;
  };
  struct Walk;
  void load_act(const Command& c);
  void matmul(const Command& c);
  void close_group(const Command& c, unsigned level, std::uint32_t cols, std::uint64_t params, bool acc_first);
  void drain(const Command& c, std::uint32_t col, std::uint32_t cols, bool up, std::uint64_t requant);
  void combine(const Command& c);
  int hidden_shift(unsigned token, int act_bits) const;
  void tile_products(const Command& c, unsigned level, unsigned tile, std::uint32_t depth, std::uint32_t cols,
                     std::uint64_t from, std::uint64_t plane_bytes);
  void check_read(std::uint64_t address, std::uint64_t bytes, Kind kind) const;
  std::uint64_t read(std::uint64_t address, unsigned bytes, Kind kind);
  std::int64_t read_signed(std::uint64_t address, unsigned bytes, Kind kind);
  void write(std::uint64_t address, unsigned bytes, std::int64_t value, Kind kind);
  [[noreturn]] void fail(const std::string& what) const;
  void need(bool holds, const char* what) const;

  CoreParams params_;
  MemoryImage& image_;
  std::size_t at_ = 0;  ///< command
  std::vector<Row> rows_;
  std::vector<std::int32_t> act_;     ///< [ActDepth, R]
  std::vector<std::int16_t> hidden_;  ///< [HiddenDepth, 4]
  std::vector<std::int16_t> most_, least_;
  std::vector<std::int64_t> p_, acc_;  ///< [T, C]
  std::vector<std::int64_t> x_;        ///< [T]
  std::vector<std::int16_t> gate_;     ///< [T, C]
  std::vector<std::uint8_t> plane_;    ///< of the tile at hand
  std::vector<std::int32_t> weights_;  ///< of the tile at hand, [C, R], planes summed up
  bool shift_error_ = false;
  bool reads_interleaved_ = false;  ///< the command at hand may find parameters among the weights
};

/// The data of a run whose engine keeps none: executes `commands`, all that `run` executed, and copies from `storage`
/// what was loaded, each load where the run completed it. Returns Interpreter::shift_error().
bool execute_run(const CoreParams& params, const std::vector<Command>& commands, const EngineRun& run,
                 const MemoryImage* storage, MemoryImage& image);

}  // namespace moesaic::program
