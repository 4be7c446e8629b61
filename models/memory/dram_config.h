#pragma once
/// What a DRAM is: organisation, timings in DRAM clocks, controller, and the presets. Definitions are in
/// docs/memory.md. A preset is one row of data; every number of it can be given anew in the chip file.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "base/yaml.h"

namespace moesaic::memory {

/// In DRAM clocks, from command to command, JEDEC's names. "same bank group" and "other bank group" are _L and _S.
struct DramTiming {
  std::int64_t cl = 0;         ///< RD to its first data
  std::int64_t cwl = 0;        ///< WR to its first data
  std::int64_t rcd = 0;        ///< ACT to RD of the bank
  std::int64_t rcd_wr = 0;     ///< ACT to WR of the bank
  std::int64_t rp = 0;         ///< PRE to ACT of the bank
  std::int64_t rp_ab = 0;      ///< PREA (all banks) to ACT or REF
  std::int64_t ras = 0;        ///< ACT to PRE of the bank
  std::int64_t rc = 0;         ///< ACT to ACT of the bank
  std::int64_t ccd_s = 0;      ///< RD to RD and WR to WR
  std::int64_t ccd_l = 0;      ///< RD to RD, same bank group
  std::int64_t ccd_l_wr = 0;   ///< WR to WR, same bank group
  std::int64_t ccd_l_mwr = 0;  ///< WR to a masked WR, same bank group
  std::int64_t rrd_s = 0;      ///< ACT to ACT
  std::int64_t rrd_l = 0;      ///< ACT to ACT, same bank group
  std::int64_t faw = 0;        ///< any five ACT span at least this
  std::int64_t wr = 0;         ///< last data of a WR to PRE of the bank
  std::int64_t wtr_s = 0;      ///< last data of a WR to RD
  std::int64_t wtr_l = 0;      ///< last data of a WR to RD, same bank group
  std::int64_t rtp = 0;        ///< RD to PRE of the bank
  std::int64_t rtw = 0;        ///< RD to WR
  std::int64_t refi = 0;       ///< from one REF's due time to the next one's
  std::int64_t rfc = 0;        ///< REF to the next ACT or REF
  std::int64_t cmd = 1;        ///< command to command on a channel's command bus
};

/// One entry of the table of timings: its key in a chip file and its member.
struct DramTimingField {
  const char* key;
  std::int64_t DramTiming::*member;
};
extern const std::array<DramTimingField, 23> kDramTimings;

enum class AddressField : std::uint8_t { kRow, kBank, kBankGroup, kColumn, kChannel };
inline constexpr std::size_t kNumAddressFields = 5;

/// Ports of a model: ports 0..kMaxPorts-1 may submit.
inline constexpr unsigned kMaxPorts = 8;

struct DramConfig {
  std::string preset;
  std::int64_t channels = 1;     ///< independent, each with its own bus (HBM: pseudo-channels)
  std::int64_t bank_groups = 1;  ///< of a channel (one rank)
  std::int64_t banks = 1;        ///< of a bank group
  std::int64_t rows = 1;         ///< of a bank
  std::int64_t row_bytes = 64;   ///< of a row over the whole width of a channel
  std::int64_t width_bits = 8;   ///< of a channel's data bus
  std::int64_t burst_length = 2;
  std::int64_t transfers_per_clock = 2;  ///< data transfers a pin makes in one DRAM clock
  std::int64_t clock_period_fs = 1;
  /// From the most significant field to the least; below the last one lie the bytes of a burst.
  std::array<AddressField, kNumAddressFields> mapping{AddressField::kRow, AddressField::kBank, AddressField::kColumn,
                                                      AddressField::kBankGroup, AddressField::kChannel};
  std::int64_t read_queue = 0;      ///< accesses a port may have in a channel's read queue
  std::int64_t write_queue = 0;     ///< the same for writes
  std::int64_t write_high = 0;      ///< queued writes of a channel at which a drain begins
  std::int64_t write_low = 0;       ///< and at which it ends
  std::int64_t starvation_cap = 0;  ///< row hits that may overtake an older access of the same bank
  DramTiming timing;

  std::int64_t burst_bytes() const { return width_bits / 8 * burst_length; }
  std::int64_t burst_clocks() const { return burst_length / transfers_per_clock; }
  std::int64_t columns() const { return row_bytes / burst_bytes(); }  ///< bursts of a row
  std::int64_t banks_per_channel() const { return bank_groups * banks; }
  /// Of all channels. Addresses at or beyond it are refused.
  base::Bytes capacity() const { return base::Bytes(channels * banks_per_channel() * rows * row_bytes); }
  /// Longest time from a REF's due clock to its issue: the last command before is recovered from, all banks are closed.
  std::int64_t longest_close() const;
};
bool operator==(const DramConfig& a, const DramConfig& b);
inline bool operator!=(const DramConfig& a, const DramConfig& b) { return !(a == b); }

/// "row:bank:column:bankgroup:channel".
std::string mapping_text(const DramConfig& config);

/// The presets' names in fixed order, a preset (base::InputError for an unknown name), and where its numbers are from.
std::vector<std::string> dram_preset_names();
DramConfig dram_preset(const std::string& name);
std::string dram_preset_source(const std::string& name);

/// The first rule that the numbers break. `keys` are those that could mend it, with what each would have to be.
struct DramFault {
  struct Key {
    std::string key, got, expected;
  };
  std::vector<Key> keys;
};
std::optional<DramFault> first_fault(const DramConfig& config);

/// Reads {kind: dram, preset, channels, ...}: docs/memory.md has the keys. Refuses what cannot be built.
DramConfig read_dram_config(const base::YamlNode& node);

/// Everything that decides timing, on one line: what results are labelled with.
std::string dram_name(const DramConfig& config);

}  // namespace moesaic::memory
