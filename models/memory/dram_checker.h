#pragma once
/// Re-reads DRAM commands and fails on the first illegal one. Knows the standard's rules and nothing of the controller:
/// it shares the table of timings and the command's struct with it, and no code.
#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "models/memory/dram_command.h"
#include "models/memory/dram_config.h"

namespace moesaic::memory {

class DramChecker {
 public:
  explicit DramChecker(const DramConfig& config);

  /// base::CheckError "DRAM command 17, channel 0: RD group 1 bank 2 row 5 column 3 at clock 900: tRCD: got 20 clocks
  /// after ACT, expected at least 52".
  void check(const DramCommand& command);
  /// No refresh is overdue at `clock`, the end of the trace.
  void finish(std::int64_t clock) const;

  std::uint64_t commands() const { return seen_; }
  /// Bursts read and written.
  std::uint64_t bursts() const { return bursts_; }

 private:
  enum class Scope : std::uint8_t { kBank, kGroup, kChannel };
  using Kind = DramCommandKind;
  /// From the last `before` in the same bank, group or channel to `after` at least `clocks`.
  struct Spacing {
    const char* name;
    Kind before, after;
    Scope scope;
    std::int64_t clocks;
    bool masked_only = false;
  };
  static constexpr std::size_t kKinds = 6;
  using Last = std::array<std::optional<std::int64_t>, kKinds>;
  struct Channel {
    Last channel;
    std::vector<Last> groups, banks;
    std::vector<std::optional<std::int64_t>> open;  // row of each bank
    std::optional<std::int64_t> last_command;
    std::deque<std::int64_t> acts;  // the last four
    std::int64_t bus_free = 0;      // clock after the last data
    std::int64_t refreshes = 0;
  };

  [[noreturn]] void fail(const DramCommand& command, const std::string& rule, const std::string& got,
                         const std::string& expected) const;
  std::size_t bank_of(const DramCommand& command) const;
  void check_place(const DramCommand& command) const;
  void check_spacing(const DramCommand& command, const Channel& channel) const;
  void check_state(const DramCommand& command, const Channel& channel) const;
  std::int64_t closing_time() const;
  void check_refresh(const DramCommand& command, const Channel& channel) const;
  void check_data(const DramCommand& command, Channel& channel);
  void apply(const DramCommand& command, Channel& channel);

  DramConfig config_;
  std::vector<Spacing> spacings_;
  std::vector<Channel> channels_;
  std::uint64_t seen_ = 0, bursts_ = 0;
};

}  // namespace moesaic::memory
