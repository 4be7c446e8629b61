#include "models/memory/dram_checker.h"

#include <algorithm>

#include "base/error.h"

namespace moesaic::memory {

namespace {

std::string name_of(DramCommandKind kind) {
  switch (kind) {
    case DramCommandKind::kActivate:
      return "ACT";
    case DramCommandKind::kPrecharge:
      return "PRE";
    case DramCommandKind::kPrechargeAll:
      return "PREA";
    case DramCommandKind::kRead:
      return "RD";
    case DramCommandKind::kWrite:
      return "WR";
    case DramCommandKind::kRefresh:
      return "REF";
  }
  return "?";
}

bool names_bank(DramCommandKind kind) {
  return kind != DramCommandKind::kPrechargeAll && kind != DramCommandKind::kRefresh;
}

bool moves_data(DramCommandKind kind) { return kind == DramCommandKind::kRead || kind == DramCommandKind::kWrite; }

}  // namespace

DramChecker::DramChecker(const DramConfig& config) : config_(config) {
  const DramTiming& t = config.timing;
  const std::int64_t burst = config.burst_length / config.transfers_per_clock;
  const std::int64_t written = t.cwl + burst;
  constexpr Kind kAct = Kind::kActivate, kPre = Kind::kPrecharge, kPreA = Kind::kPrechargeAll, kRd = Kind::kRead,
                 kWr = Kind::kWrite, kRef = Kind::kRefresh;
  spacings_ = {
      {"tRCD", kAct, kRd, Scope::kBank, t.rcd},
      {"tRCD_WR", kAct, kWr, Scope::kBank, t.rcd_wr},
      {"tRAS", kAct, kPre, Scope::kBank, t.ras},
      {"tRAS", kAct, kPreA, Scope::kChannel, t.ras},
      {"tRC", kAct, kAct, Scope::kBank, t.rc},
      {"tRC", kAct, kRef, Scope::kChannel, t.rc},
      {"tRP", kPre, kAct, Scope::kBank, t.rp},
      {"tRP", kPre, kRef, Scope::kChannel, t.rp},
      {"tRP_AB", kPreA, kAct, Scope::kChannel, t.rp_ab},
      {"tRP_AB", kPreA, kRef, Scope::kChannel, t.rp_ab},
      {"tRRD_S", kAct, kAct, Scope::kChannel, t.rrd_s},
      {"tRRD_L", kAct, kAct, Scope::kGroup, t.rrd_l},
      {"tCCD_S", kRd, kRd, Scope::kChannel, t.ccd_s},
      {"tCCD_L", kRd, kRd, Scope::kGroup, t.ccd_l},
      {"tCCD_S", kWr, kWr, Scope::kChannel, t.ccd_s},
      {"tCCD_L_WR", kWr, kWr, Scope::kGroup, t.ccd_l_wr},
      {"tCCD_L_MWR", kWr, kWr, Scope::kGroup, t.ccd_l_mwr, true},
      {"tRTW", kRd, kWr, Scope::kChannel, t.rtw},
      {"tWTR_S", kWr, kRd, Scope::kChannel, written + t.wtr_s},
      {"tWTR_L", kWr, kRd, Scope::kGroup, written + t.wtr_l},
      {"tRTP", kRd, kPre, Scope::kBank, t.rtp},
      {"tRTP", kRd, kPreA, Scope::kChannel, t.rtp},
      {"tWR", kWr, kPre, Scope::kBank, written + t.wr},
      {"tWR", kWr, kPreA, Scope::kChannel, written + t.wr},
      {"tRFC", kRef, kAct, Scope::kChannel, t.rfc},
      {"tRFC", kRef, kPre, Scope::kChannel, t.rfc},
      {"tRFC", kRef, kPreA, Scope::kChannel, t.rfc},
      {"tRFC", kRef, kRef, Scope::kChannel, t.rfc},
  };
  channels_.resize(static_cast<std::size_t>(config.channels));
  for (Channel& channel : channels_) {
    channel.groups.resize(static_cast<std::size_t>(config.bank_groups));
    channel.banks.resize(static_cast<std::size_t>(config.bank_groups * config.banks));
    channel.open.resize(channel.banks.size());
  }
}

void DramChecker::fail(const DramCommand& c, const std::string& rule, const std::string& got,
                       const std::string& expected) const {
  std::string text = "DRAM command " + std::to_string(seen_) + ", channel " + std::to_string(c.channel) + ": " +
                     (c.masked ? "masked " : "") + name_of(c.kind);
  if (names_bank(c.kind)) text += " group " + std::to_string(c.bank_group) + " bank " + std::to_string(c.bank);
  if (c.kind == Kind::kActivate || moves_data(c.kind)) text += " row " + std::to_string(c.row);
  if (moves_data(c.kind)) text += " column " + std::to_string(c.column);
  throw base::CheckError(text + " at clock " + std::to_string(c.clock) + ": " + rule + ": got " + got + ", expected " +
                         expected);
}

std::size_t DramChecker::bank_of(const DramCommand& c) const {
  return static_cast<std::size_t>(c.bank_group) * static_cast<std::size_t>(config_.banks) + c.bank;
}

void DramChecker::check(const DramCommand& command) {
  check_place(command);
  Channel& channel = channels_[command.channel];
  if (channel.last_command && command.clock < *channel.last_command + config_.timing.cmd) {
    fail(command, "tCMD", std::to_string(command.clock - *channel.last_command) + " clocks after the last command",
         "at least " + std::to_string(config_.timing.cmd));
  }
  check_spacing(command, channel);
  check_state(command, channel);
  check_refresh(command, channel);
  check_data(command, channel);
  apply(command, channel);
  ++seen_;
}

void DramChecker::check_place(const DramCommand& c) const {
  const auto within = [&](const char* what, std::int64_t value, std::int64_t count) {
    if (value < 0 || value >= count) fail(c, what, std::to_string(value), "one of 0.." + std::to_string(count - 1));
  };
  if (c.channel >= channels_.size())
    fail(c, "channel", std::to_string(c.channel), "one of 0.." + std::to_string(channels_.size() - 1));
  if (names_bank(c.kind)) {
    within("bank group", c.bank_group, config_.bank_groups);
    within("bank", c.bank, config_.banks);
  }
  if (c.kind == Kind::kActivate || moves_data(c.kind)) within("row", c.row, config_.rows);
  if (moves_data(c.kind))
    within("column", c.column, config_.row_bytes / (config_.width_bits / 8 * config_.burst_length));
}

void DramChecker::check_spacing(const DramCommand& c, const Channel& channel) const {
  for (const Spacing& rule : spacings_) {
    if (rule.after != c.kind || (rule.masked_only && !c.masked)) continue;
    const Last& last = rule.scope == Scope::kChannel ? channel.channel
                       : rule.scope == Scope::kGroup ? channel.groups[c.bank_group]
                                                     : channel.banks[bank_of(c)];
    const auto& before = last[static_cast<std::size_t>(rule.before)];
    if (before && c.clock - *before < rule.clocks) {
      fail(c, rule.name, std::to_string(c.clock - *before) + " clocks after " + name_of(rule.before),
           "at least " + std::to_string(rule.clocks));
    }
  }
  if (c.kind == Kind::kActivate && channel.acts.size() == 4 && c.clock - channel.acts.front() < config_.timing.faw) {
    fail(c, "tFAW", std::to_string(c.clock - channel.acts.front()) + " clocks after the fourth last ACT",
         "at least " + std::to_string(config_.timing.faw));
  }
}

void DramChecker::check_state(const DramCommand& c, const Channel& channel) const {
  if (c.kind == Kind::kActivate && channel.open[bank_of(c)])
    fail(c, "bank state", "row " + std::to_string(*channel.open[bank_of(c)]) + " open", "a closed bank");
  if (moves_data(c.kind) && channel.open[bank_of(c)] != c.row) {
    const auto& open = channel.open[bank_of(c)];
    fail(c, "bank state", open ? "row " + std::to_string(*open) + " open" : "a closed bank",
         "row " + std::to_string(c.row) + " open");
  }
  if (c.kind == Kind::kRefresh) {
    for (std::size_t bank = 0; bank < channel.open.size(); ++bank)
      if (channel.open[bank]) fail(c, "bank state", "bank " + std::to_string(bank) + " open", "all banks closed");
  }
}

/// After the last command before a refresh is due: a row is open long enough, its data are there, banks are closed.
std::int64_t DramChecker::closing_time() const {
  const DramTiming& t = config_.timing;
  const std::int64_t written = t.cwl + config_.burst_length / config_.transfers_per_clock + t.wr;
  const std::int64_t close = std::max(t.rp, t.rp_ab);
  return std::max({t.rc, t.ras + close, t.rtp + close, written + close}) + 2 * t.cmd;
}

/// The k-th refresh is due at k * tREFI: never before, and as soon as the banks can be closed. Nothing else is begun
/// meanwhile.
void DramChecker::check_refresh(const DramCommand& c, const Channel& channel) const {
  const std::int64_t due = (channel.refreshes + 1) * config_.timing.refi;
  const std::int64_t latest = due + closing_time();
  if (c.kind == Kind::kRefresh && c.clock < due)
    fail(c, "tREFI", std::to_string(c.clock), "not before clock " + std::to_string(due));
  if (c.kind == Kind::kRefresh && c.clock > latest)
    fail(c, "tREFI", std::to_string(c.clock), "at the latest clock " + std::to_string(latest));
  if ((c.kind == Kind::kActivate || moves_data(c.kind)) && c.clock >= due)
    fail(c, "tREFI", "no REF since clock " + std::to_string(due), "the refresh that is due first");
}

void DramChecker::check_data(const DramCommand& c, Channel& channel) {
  if (!moves_data(c.kind)) return;
  const DramTiming& t = config_.timing;
  const std::int64_t first = c.clock + (c.kind == Kind::kRead ? t.cl : t.cwl);
  if (first < channel.bus_free) {
    fail(c, "data bus", "data at clock " + std::to_string(first),
         "none before clock " + std::to_string(channel.bus_free));
  }
  channel.bus_free = first + config_.burst_length / config_.transfers_per_clock;
  ++bursts_;
}

void DramChecker::apply(const DramCommand& c, Channel& channel) {
  const auto kind = static_cast<std::size_t>(c.kind);
  channel.last_command = c.clock;
  channel.channel[kind] = c.clock;
  if (names_bank(c.kind)) {
    channel.groups[c.bank_group][kind] = c.clock;
    channel.banks[bank_of(c)][kind] = c.clock;
  }
  switch (c.kind) {
    case Kind::kActivate:
      channel.open[bank_of(c)] = c.row;
      channel.acts.push_back(c.clock);
      if (channel.acts.size() > 4) channel.acts.pop_front();
      break;
    case Kind::kPrecharge:
      channel.open[bank_of(c)].reset();
      break;
    case Kind::kPrechargeAll:
      std::fill(channel.open.begin(), channel.open.end(), std::nullopt);
      break;
    case Kind::kRefresh:
      ++channel.refreshes;
      break;
    case Kind::kRead:
    case Kind::kWrite:
      break;
  }
}

void DramChecker::finish(std::int64_t clock) const {
  for (std::size_t i = 0; i < channels_.size(); ++i) {
    const std::int64_t due = (channels_[i].refreshes + 1) * config_.timing.refi;
    if (clock <= due + closing_time()) continue;
    throw base::CheckError("DRAM channel " + std::to_string(i) + ": tREFI: got " +
                           std::to_string(channels_[i].refreshes) + " refreshes until clock " + std::to_string(clock) +
                           ", expected the one that is due at clock " + std::to_string(due));
  }
}

}  // namespace moesaic::memory
