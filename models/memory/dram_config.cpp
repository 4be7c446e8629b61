#include "models/memory/dram_config.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"

namespace moesaic::memory {

const std::array<DramTimingField, 23> kDramTimings{{
    {"tCL", &DramTiming::cl},
    {"tCWL", &DramTiming::cwl},
    {"tRCD", &DramTiming::rcd},
    {"tRCD_WR", &DramTiming::rcd_wr},
    {"tRP", &DramTiming::rp},
    {"tRP_AB", &DramTiming::rp_ab},
    {"tRAS", &DramTiming::ras},
    {"tRC", &DramTiming::rc},
    {"tCCD_S", &DramTiming::ccd_s},
    {"tCCD_L", &DramTiming::ccd_l},
    {"tCCD_L_WR", &DramTiming::ccd_l_wr},
    {"tCCD_L_MWR", &DramTiming::ccd_l_mwr},
    {"tRRD_S", &DramTiming::rrd_s},
    {"tRRD_L", &DramTiming::rrd_l},
    {"tFAW", &DramTiming::faw},
    {"tWR", &DramTiming::wr},
    {"tWTR_S", &DramTiming::wtr_s},
    {"tWTR_L", &DramTiming::wtr_l},
    {"tRTP", &DramTiming::rtp},
    {"tRTW", &DramTiming::rtw},
    {"tREFI", &DramTiming::refi},
    {"tRFC", &DramTiming::rfc},
    {"tCMD", &DramTiming::cmd},
}};

namespace {

constexpr std::array<const char*, kNumAddressFields> kFieldNames{"row", "bank", "bankgroup", "column", "channel"};

using Order = std::array<AddressField, kNumAddressFields>;
constexpr Order kStreaming{AddressField::kRow, AddressField::kBank, AddressField::kColumn, AddressField::kBankGroup,
                           AddressField::kChannel};

struct Preset {
  const char* name;
  const char* source;
  std::int64_t channels, bank_groups, banks, rows, row_bytes, width_bits, burst_length, transfers_per_clock,
      clock_period_fs;
  std::int64_t read_queue, write_queue, write_high, write_low, starvation_cap;
  DramTiming timing;
};

// Timings are minima in ns (or in clocks where the standard says so) rounded up to clocks; docs/memory.md says where
// each is from.
//                                        CL CWL RCD RCDW RP RPAB RAS RC | CCD_S _L _L_WR _L_MWR | RRD_S _L FAW |
//                                        WR WTR_S _L RTP RTW | REFI RFC | CMD
const std::array<Preset, 6> kPresets{{
    {"ddr5-6400",
     "JESD79-5 speed bin DDR5-6400B (CL-nRCD-nRP 52-52-52), 16 Gb x8 dies, four on a 32-bit subchannel; tRFC1 295 ns, "
     "tREFI 3.9 us",
     1,
     8,
     4,
     65536,
     4096,
     32,
     16,
     2,
     312500,
     32,
     32,
     24,
     8,
     16,
     {52, 50, 52, 52, 52, 52, 103, 155, 8, 16, 32, 64, 8, 16, 32, 96, 8, 32, 24, 14, 12480, 944, 2}},
    {"lpddr5-6400",
     "JESD209-5, 16 Gb x16 die, bank-group mode, BL16, WCK:CK 4:1, RL set 0 and WL set A at 6400 Mb/s; tRFCab 280 ns, "
     "tREFI 3.906 us",
     1,
     4,
     4,
     65536,
     2048,
     16,
     16,
     8,
     1250000,
     32,
     32,
     24,
     8,
     16,
     {17, 9, 15, 15, 15, 17, 34, 49, 2, 4, 4, 16, 4, 4, 16, 28, 5, 10, 6, 12, 3124, 224, 1}},
    {"lpddr5x-8533",
     "JESD209-5 with the 5X speed grade, 16 Gb x16 die, bank-group mode, BL16, WCK:CK 4:1, RL set 0 and WL set A at "
     "8533 Mb/s; tRFCab 280 ns, tREFI 3.906 us",
     1,
     4,
     4,
     65536,
     2048,
     16,
     16,
     8,
     937500,
     32,
     32,
     24,
     8,
     16,
     {23, 12, 20, 20, 20, 23, 45, 65, 2, 4, 4, 16, 4, 4, 16, 37, 7, 13, 8, 15, 4166, 299, 1}},
    {"hbm2e-3200",
     "JESD235 for organisation, burst and refresh (3.2 Gb/s a pin, 64-bit pseudo-channels, BL4); core timings are the "
     "vendors' and not public: figures as research simulators use them",
     1,
     4,
     4,
     32768,
     1024,
     64,
     4,
     2,
     625000,
     64,
     32,
     24,
     8,
     16,
     {23, 11, 23, 16, 23, 23, 53, 76, 2, 4, 4, 4, 4, 6, 26, 26, 6, 13, 6, 16, 6240, 416, 1}},
    {"hbm3-6400",
     "JESD238 for organisation, burst and refresh (6.4 Gb/s a pin, 32-bit pseudo-channels, BL8); core timings are the "
     "vendors' and not public: figures as Ramulator 2's preset HBM3_6400Mbps has them",
     1,
     4,
     4,
     32768,
     1024,
     32,
     8,
     4,
     625000,
     64,
     32,
     24,
     8,
     16,
     {20, 10, 31, 15, 26, 26, 45, 72, 2, 4, 4, 4, 4, 5, 24, 33, 7, 10, 9, 20, 6240, 560, 1}},
    {"gddr6-16000",
     "JESD250 for organisation, burst and refresh (16 Gb/s a pin, two 16-bit channels a die, BL16); core timings are "
     "the vendors': ns figures as Ramulator 2's preset GDDR6_2000_1350mV has them at 14 Gb/s",
     1,
     4,
     4,
     16384,
     2048,
     16,
     16,
     8,
     500000,
     64,
     32,
     24,
     8,
     16,
     {28, 8, 30, 19, 30, 30, 61, 91, 2, 4, 4, 4, 8, 8, 32, 30, 11, 13, 5, 26, 3800, 240, 1}},
}};

const Preset& find_preset(const std::string& name) {
  for (const Preset& preset : kPresets)
    if (name == preset.name) return preset;
  std::string choices;
  for (const Preset& preset : kPresets) choices += (choices.empty() ? "" : ", ") + std::string(preset.name);
  throw base::InputError("memory preset: got " + name + ", expected one of " + choices);
}

/// Key and member of what is a power of two, with its largest value.
struct Extent {
  const char* key;
  std::int64_t DramConfig::*member;
  std::int64_t max;
};
const std::array<Extent, 8> kExtents{{
    {"channels", &DramConfig::channels, 64},
    {"bank_groups", &DramConfig::bank_groups, 8},
    {"banks", &DramConfig::banks, 8},
    {"rows", &DramConfig::rows, std::int64_t{1} << 40},
    {"row_bytes", &DramConfig::row_bytes, 65536},
    {"width_bits", &DramConfig::width_bits, 256},
    {"burst_length", &DramConfig::burst_length, 32},
    {"transfers_per_clock", &DramConfig::transfers_per_clock, 16},
}};

struct Control {
  const char* key;
  std::int64_t DramConfig::*member;
  std::int64_t min, max;
};
const std::array<Control, 6> kControls{{
    {"clock_period_fs", &DramConfig::clock_period_fs, 1000, 1000000000},
    {"read_queue", &DramConfig::read_queue, 8, 256},
    {"write_queue", &DramConfig::write_queue, 8, 256},
    {"write_high", &DramConfig::write_high, 1, 256},
    {"write_low", &DramConfig::write_low, 0, 255},
    {"starvation_cap", &DramConfig::starvation_cap, 1, 1000000},
}};
constexpr std::int64_t kMaxTiming = 10000000;
constexpr const char* kAnyMapping = "row, bank, bankgroup, column and channel, each once, joined by ':'";

constexpr int kMaxAddressBits = 48;

int log2_of(std::int64_t power) { return __builtin_ctzll(static_cast<std::uint64_t>(power)); }

bool is_power_of_two(std::int64_t value) { return value > 0 && (value & (value - 1)) == 0; }

std::optional<Order> parse_mapping(const std::string& text) {
  Order order{};
  std::array<bool, kNumAddressFields> seen{};
  std::size_t at = 0;
  for (std::size_t i = 0; i < kNumAddressFields; ++i) {
    const std::size_t end = std::min(text.find(':', at), text.size());
    const std::string name = text.substr(at, end - at);
    const auto found = std::find(kFieldNames.begin(), kFieldNames.end(), name);
    if (found == kFieldNames.end()) return std::nullopt;
    const auto field = static_cast<std::size_t>(found - kFieldNames.begin());
    if (seen[field]) return std::nullopt;
    seen[field] = true;
    order[i] = static_cast<AddressField>(field);
    if ((end == text.size()) != (i + 1 == kNumAddressFields)) return std::nullopt;
    at = end + 1;
  }
  return order;
}

std::int64_t value_of(const DramTiming& timing, const char* key) {
  for (const DramTimingField& field : kDramTimings)
    if (std::string(key) == field.key) return timing.*field.member;
  return 0;
}

/// Collects the first broken rule.
class Rules {
 public:
  explicit Rules(const DramConfig& config) : config_(config) {}
  /// key >= floor, where floor is `what`.
  void at_least(const char* key, std::int64_t floor, const std::string& what) {
    const std::int64_t value = value_of(config_.timing, key);
    if (value < floor) fail({{key, std::to_string(value), "at least " + what + " = " + std::to_string(floor)}});
  }
  /// key >= other, two timings: either may be mended.
  void at_least(const char* key, const char* other) {
    const std::int64_t value = value_of(config_.timing, key), floor = value_of(config_.timing, other);
    if (value >= floor) return;
    fail({{key, std::to_string(value), std::string("at least ") + other + " = " + std::to_string(floor)},
          {other, std::to_string(floor), std::string("at most ") + key + " = " + std::to_string(value)}});
  }
  void fail(std::vector<DramFault::Key> keys) {
    if (!fault_) fault_ = DramFault{std::move(keys)};
  }
  std::optional<DramFault> fault() const { return fault_; }

 private:
  const DramConfig& config_;
  std::optional<DramFault> fault_;
};

auto tie(const DramTiming& t) {
  return std::tie(t.cl, t.cwl, t.rcd, t.rcd_wr, t.rp, t.rp_ab, t.ras, t.rc, t.ccd_s, t.ccd_l, t.ccd_l_wr, t.ccd_l_mwr,
                  t.rrd_s, t.rrd_l, t.faw, t.wr, t.wtr_s, t.wtr_l, t.rtp, t.rtw, t.refi, t.rfc, t.cmd);
}

auto tie(const DramConfig& c) {
  return std::tie(c.preset, c.channels, c.bank_groups, c.banks, c.rows, c.row_bytes, c.width_bits, c.burst_length,
                  c.transfers_per_clock, c.clock_period_fs, c.mapping, c.read_queue, c.write_queue, c.write_high,
                  c.write_low, c.starvation_cap);
}

}  // namespace

bool operator==(const DramConfig& a, const DramConfig& b) { return tie(a) == tie(b) && tie(a.timing) == tie(b.timing); }

std::int64_t DramConfig::longest_close() const {
  const std::int64_t recovery = std::max({timing.ras, timing.rtp, timing.cwl + burst_clocks() + timing.wr});
  return std::max(timing.rc, recovery + std::max(timing.rp, timing.rp_ab)) + 2 * timing.cmd;
}

std::string mapping_text(const DramConfig& config) {
  std::string text;
  for (const AddressField field : config.mapping)
    text += (text.empty() ? "" : ":") + std::string(kFieldNames[static_cast<std::size_t>(field)]);
  return text;
}

std::vector<std::string> dram_preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

DramConfig dram_preset(const std::string& name) {
  const Preset& p = find_preset(name);
  DramConfig c;
  c.preset = p.name;
  c.channels = p.channels;
  c.bank_groups = p.bank_groups;
  c.banks = p.banks;
  c.rows = p.rows;
  c.row_bytes = p.row_bytes;
  c.width_bits = p.width_bits;
  c.burst_length = p.burst_length;
  c.transfers_per_clock = p.transfers_per_clock;
  c.clock_period_fs = p.clock_period_fs;
  c.mapping = kStreaming;
  c.read_queue = p.read_queue;
  c.write_queue = p.write_queue;
  c.write_high = p.write_high;
  c.write_low = p.write_low;
  c.starvation_cap = p.starvation_cap;
  c.timing = p.timing;
  return c;
}

std::string dram_preset_source(const std::string& name) { return find_preset(name).source; }

std::optional<DramFault> first_fault(const DramConfig& c) {
  Rules rules(c);
  for (const Extent& extent : kExtents) {
    const std::int64_t value = c.*extent.member;
    if (is_power_of_two(value) && value <= extent.max) continue;
    rules.fail({{extent.key, std::to_string(value), "a power of two in [1, " + std::to_string(extent.max) + "]"}});
  }
  for (const Control& control : kControls) {
    const std::int64_t value = c.*control.member;
    if (value >= control.min && value <= control.max) continue;
    rules.fail({{control.key, std::to_string(value),
                 "an integer in [" + std::to_string(control.min) + ", " + std::to_string(control.max) + "]"}});
  }
  for (const DramTimingField& field : kDramTimings) {
    const std::int64_t value = c.timing.*field.member;
    if (value >= 1 && value <= kMaxTiming) continue;
    rules.fail({{field.key, std::to_string(value), "clocks, an integer in [1, " + std::to_string(kMaxTiming) + "]"}});
  }
  if (rules.fault()) return rules.fault();

  if (c.width_bits < 8) rules.fail({{"width_bits", std::to_string(c.width_bits), "at least 8"}});
  if (c.burst_length % c.transfers_per_clock != 0) {
    rules.fail({{"burst_length", std::to_string(c.burst_length),
                 "a multiple of transfers_per_clock = " + std::to_string(c.transfers_per_clock)}});
  }
  if (rules.fault()) return rules.fault();
  if (c.burst_bytes() < 8 || c.burst_bytes() > 64) {
    rules.fail(
        {{"burst_length", std::to_string(c.burst_length),
          "bursts of 8 to 64 bytes, which are burst_length * width_bits / 8 = " + std::to_string(c.burst_bytes())}});
  }
  if (c.row_bytes < c.burst_bytes()) {
    rules.fail({{"row_bytes", std::to_string(c.row_bytes), "at least a burst's " + std::to_string(c.burst_bytes())}});
  }
  const int address_bits =
      log2_of(c.channels) + log2_of(c.bank_groups) + log2_of(c.banks) + log2_of(c.rows) + log2_of(c.row_bytes);
  if (address_bits > kMaxAddressBits) {
    rules.fail({{"rows", std::to_string(c.rows),
                 "a capacity of at most 2^" + std::to_string(kMaxAddressBits) + " bytes, not 2^" +
                     std::to_string(address_bits)}});
  }
  if (c.write_high > c.write_queue) {
    rules.fail(
        {{"write_high", std::to_string(c.write_high), "at most write_queue = " + std::to_string(c.write_queue)},
         {"write_queue", std::to_string(c.write_queue), "at least write_high = " + std::to_string(c.write_high)}});
  }
  if (c.write_low >= c.write_high) {
    rules.fail({{"write_low", std::to_string(c.write_low), "less than write_high = " + std::to_string(c.write_high)},
                {"write_high", std::to_string(c.write_high), "more than write_low = " + std::to_string(c.write_low)}});
  }

  const DramTiming& t = c.timing;
  const std::int64_t burst = c.burst_clocks();
  rules.at_least("tRAS", "tRCD");
  rules.at_least("tRC", t.ras + t.rp, "tRAS + tRP");
  rules.at_least("tRP_AB", "tRP");
  rules.at_least("tCCD_S", burst, "a burst's clocks");
  rules.at_least("tCCD_S", 2 * t.cmd, "two commands' clocks, for a row command between two column commands,");
  rules.at_least("tCCD_L", "tCCD_S");
  rules.at_least("tCCD_L_WR", "tCCD_S");
  rules.at_least("tCCD_L_MWR", "tCCD_L_WR");
  rules.at_least("tRRD_L", "tRRD_S");
  rules.at_least("tFAW", 4 * t.rrd_s, "4 tRRD_S");
  rules.at_least("tWTR_L", "tWTR_S");
  rules.at_least("tRTW", t.cl + burst - t.cwl, "tCL + a burst's clocks - tCWL");
  rules.at_least("tREFI", t.rfc + 1, "tRFC + 1");
  rules.at_least("tREFI", t.rfc + c.longest_close() + std::max(t.rcd, t.rcd_wr) + burst,
                 "tRFC, closing all banks, tRCD and a burst");
  return rules.fault();
}

DramConfig read_dram_config(const base::YamlNode& node) {
  DramConfig c = dram_preset(node.choice("preset", dram_preset_names()));
  node.at("channels");  // how many is no property of a part: always stated
  const auto read = [](const base::YamlNode& parent, const char* key, std::int64_t& value) {
    if (const auto found = parent.find(key)) value = found->as_integer(INT64_MIN, INT64_MAX);
  };
  for (const Extent& extent : kExtents) read(node, extent.key, c.*extent.member);
  for (const Control& control : kControls) read(node, control.key, c.*control.member);
  if (const auto mapping = node.find("mapping")) {
    const auto order = parse_mapping(mapping->as_text());
    if (!order) throw mapping->refused(kAnyMapping);
    c.mapping = *order;
  }
  const auto timing = node.find("timing");
  if (timing)
    for (const DramTimingField& field : kDramTimings) read(*timing, field.key, c.timing.*field.member);

  if (const auto fault = first_fault(c)) {
    for (const DramFault::Key& key : fault->keys) {
      if (node.has(key.key)) throw node.at(key.key).refused(key.expected);
      if (timing && timing->has(key.key)) throw timing->at(key.key).refused(key.expected);
    }
    const DramFault::Key& first = fault->keys.front();
    throw base::ConfigError(node.where(), node.key() + "." + first.key, first.got, first.expected);
  }
  return c;
}

std::string dram_name(const DramConfig& c) {
  const DramConfig preset = dram_preset(c.preset);
  std::string text =
      "dram(" + c.preset + ", " + std::to_string(c.channels) + " x " + std::to_string(c.width_bits) + " bits, burst " +
      std::to_string(c.burst_length) + " at " + std::to_string(c.transfers_per_clock) + " a clock of " +
      std::to_string(c.clock_period_fs) + " fs, " + std::to_string(c.bank_groups) + " x " + std::to_string(c.banks) +
      " banks of " + std::to_string(c.rows) + " rows of " + std::to_string(c.row_bytes) + " bytes, " + mapping_text(c) +
      ", queues " + std::to_string(c.read_queue) + " and " + std::to_string(c.write_queue) + ", drain " +
      std::to_string(c.write_high) + " to " + std::to_string(c.write_low) + ", cap " + std::to_string(c.starvation_cap);
  for (const DramTimingField& field : kDramTimings) {
    if (c.timing.*field.member != preset.timing.*field.member)
      text += ", " + std::string(field.key) + " " + std::to_string(c.timing.*field.member);
  }
  return text + ")";
}

}  // namespace moesaic::memory
