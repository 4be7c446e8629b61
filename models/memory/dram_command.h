#pragma once
/// One command on a channel's command bus, as a controller issues it and a checker reads it.
#include <cstdint>

namespace moesaic::memory {

enum class DramCommandKind : std::uint8_t { kActivate, kPrecharge, kPrechargeAll, kRead, kWrite, kRefresh };

struct DramCommand {
  std::int64_t clock = 0;  ///< DRAM clock edge
  unsigned channel = 0;
  DramCommandKind kind = DramCommandKind::kRefresh;
  unsigned bank_group = 0, bank = 0;  ///< of ACT, PRE, RD, WR; `bank` within its group
  std::int64_t row = 0;               ///< of ACT; of RD and WR the row they mean to hit
  std::int64_t column = 0;            ///< of RD, WR: burst within the row
  bool masked = false;                ///< a WR that does not write all bytes of its burst
};

}  // namespace moesaic::memory
