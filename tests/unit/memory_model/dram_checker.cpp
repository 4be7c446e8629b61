// models/memory/dram_checker
#include "models/memory/dram_checker.h"

#include <catch2/catch.hpp>

#include "base/error.h"
#include "models/memory/dram_memory.h"
#include "models/memory/dram_random.h"
#include "tests/unit/memory_model/dram_traffic.h"

using namespace moesaic;
using Catch::Matchers::Contains;
using memory::DramCommand;
using memory::DramConfig;
using Kind = memory::DramCommandKind;

namespace {

/// A part on which nothing takes any time: rules are lengthened one by one.
DramConfig quick_part() {
  DramConfig c = memory::dram_preset("ddr5-6400");
  for (const memory::DramTimingField& field : memory::kDramTimings) c.timing.*field.member = 1;
  c.burst_length = c.transfers_per_clock;  // one clock of data
  c.width_bits = 64;
  c.bank_groups = 4;
  c.timing.refi = 100000;
  return c;
}

DramCommand command(std::int64_t clock, Kind kind, unsigned group = 0, unsigned bank = 0, std::int64_t row = 0) {
  DramCommand c;
  c.clock = clock;
  c.kind = kind;
  c.bank_group = group;
  c.bank = bank;
  c.row = row;
  return c;
}

std::string verdict(const DramConfig& config, const std::vector<DramCommand>& trace) {
  memory::DramChecker checker(config);
  try {
    for (const DramCommand& c : trace) checker.check(c);
  } catch (const base::CheckError& error) {
    return error.what();
  }
  return "legal";
}

constexpr Kind kAct = Kind::kActivate, kPre = Kind::kPrecharge, kPreA = Kind::kPrechargeAll, kRd = Kind::kRead,
               kWr = Kind::kWrite, kRef = Kind::kRefresh;

}  // namespace

TEST_CASE("each spacing rule passes at its clocks and fails one clock earlier, by its name", "[unit][memory]") {
  struct Case {
    const char* key;
    std::vector<DramCommand> before;  // the last of them is what the spacing is measured from, at clock 1000
    DramCommand last;                 // its clock: extra to the rule's
    std::int64_t extra = 0;
    const char* named = nullptr;
  };
  const auto masked = [](DramCommand c) {
    c.masked = true;
    return c;
  };
  const std::vector<Case> cases{
      {"tRCD", {command(1000, kAct)}, command(0, kRd)},
      {"tRCD_WR", {command(1000, kAct)}, command(0, kWr)},
      {"tRAS", {command(1000, kAct)}, command(0, kPre)},
      {"tRAS", {command(1000, kAct)}, command(0, kPreA)},
      {"tRC", {command(1000, kAct), command(1001, kPre)}, command(0, kAct)},
      {"tRC", {command(1000, kAct), command(1001, kPre)}, command(0, kRef)},
      {"tRP", {command(900, kAct), command(1000, kPre)}, command(0, kAct)},
      {"tRP", {command(900, kAct), command(1000, kPre)}, command(0, kRef)},
      {"tRP_AB", {command(900, kAct), command(1000, kPreA)}, command(0, kAct)},
      {"tRP_AB", {command(900, kAct), command(1000, kPreA)}, command(0, kRef)},
      {"tRRD_S", {command(1000, kAct)}, command(0, kAct, 1)},
      {"tRRD_L", {command(1000, kAct)}, command(0, kAct, 0, 1)},
      {"tCCD_S", {command(900, kAct), command(902, kAct, 1), command(1000, kRd)}, command(0, kRd, 1)},
      {"tCCD_L", {command(900, kAct), command(1000, kRd)}, command(0, kRd)},
      {"tCCD_S", {command(900, kAct), command(902, kAct, 1), command(1000, kWr)}, command(0, kWr, 1)},
      {"tCCD_L_WR", {command(900, kAct), command(1000, kWr)}, command(0, kWr)},
      {"tCCD_L_MWR", {command(900, kAct), command(1000, kWr)}, masked(command(0, kWr))},
      {"tRTW", {command(900, kAct), command(1000, kRd)}, command(0, kWr)},
      {"tWTR_S", {command(900, kAct), command(902, kAct, 1), command(1000, kWr)}, command(0, kRd, 1), 2},
      {"tWTR_L", {command(900, kAct), command(1000, kWr)}, command(0, kRd), 2},
      {"tRTP", {command(900, kAct), command(1000, kRd)}, command(0, kPre)},
      {"tRTP", {command(900, kAct), command(1000, kRd)}, command(0, kPreA)},
      {"tWR", {command(900, kAct), command(1000, kWr)}, command(0, kPre), 2},
      {"tWR", {command(900, kAct), command(1000, kWr)}, command(0, kPreA), 2},
      {"tRFC", {command(1000, kRef)}, command(0, kAct)},
      {"tRFC", {command(1000, kRef)}, command(0, kPreA)},
      {"tFAW",
       {command(1000, kAct), command(1002, kAct, 1), command(1004, kAct, 2), command(1006, kAct, 3)},
       command(0, kAct, 0, 1)},
      {"tCMD", {command(900, kAct), command(1000, kAct, 1)}, command(0, kPre)},
  };
  for (const Case& one : cases) {
    INFO(one.key << " to " << static_cast<int>(one.last.kind));
    DramConfig config = quick_part();
    for (const memory::DramTimingField& field : memory::kDramTimings)
      if (std::string(field.key) == one.key) config.timing.*field.member = 50;
    if (one.last.kind == kRef) config.timing.refi = 1010;
    if (one.before.front().kind == kRef) config.timing.refi = 1000;
    std::vector<DramCommand> trace = one.before;
    trace.push_back(one.last);
    trace.back().clock = 1000 + 50 + one.extra;
    CHECK(verdict(config, trace) == "legal");
    --trace.back().clock;
    CHECK_THAT(verdict(config, trace), Contains(std::string(": ") + one.key + ": got ") && Contains("DRAM command "));
  }
}

TEST_CASE("commands to the wrong row, bank or state are refused", "[unit][memory]") {
  const DramConfig config = quick_part();
  CHECK_THAT(verdict(config, {command(10, kRd)}),
             Contains("DRAM command 0, channel 0: RD group 0 bank 0 row 0 column 0 at "
                      "clock 10: bank state: got a closed bank, expected row 0 open"));
  CHECK_THAT(verdict(config, {command(10, kAct), command(20, kWr, 0, 0, 1)}),
             Contains("bank state: got row 0 open, expected row 1"));
  CHECK_THAT(verdict(config, {command(10, kAct), command(20, kAct, 0, 0, 1)}),
             Contains("bank state: got row 0 open, expected a closed"));
  CHECK_THAT(verdict(config, {command(10, kAct), command(20, kPre), command(30, kRd)}), Contains("bank state"));
  CHECK_THAT(verdict(config, {command(10, kAct), command(20, kPreA), command(30, kRd)}), Contains("bank state"));
  CHECK_THAT(verdict(config, {command(10, kAct, 4)}), Contains("bank group: got 4, expected one of 0..3"));
  CHECK_THAT(verdict(config, {command(10, kAct, 0, 4)}), Contains("bank: got 4"));
  CHECK_THAT(verdict(config, {command(10, kAct, 0, 0, 65536)}), Contains("row: got 65536"));
  DramCommand wrong = command(20, kRd);
  wrong.column = 4096 / 16;
  CHECK_THAT(verdict(config, {command(10, kAct), wrong}), Contains("column: got 256, expected one of 0..255"));
  wrong = command(10, kAct);
  wrong.channel = 1;
  CHECK_THAT(verdict(config, {wrong}), Contains("channel: got 1"));
  DramConfig slow = config;
  slow.timing.cl = 20;
  CHECK_THAT(verdict(slow, {command(10, kAct), command(20, kRd), command(30, kWr)}),
             Contains("data bus: got data at clock 31"));
}

TEST_CASE("a refresh that is early, late, missing or begun with an open bank is refused", "[unit][memory]") {
  const DramConfig config = quick_part();
  const std::int64_t due = config.timing.refi;
  CHECK(verdict(config, {command(due, kRef)}) == "legal");
  CHECK_THAT(verdict(config, {command(due - 1, kRef)}), Contains("tREFI: got 99999, expected not before clock 100000"));
  CHECK_THAT(verdict(config, {command(due + 50, kRef)}),
             Contains("tREFI: got 100050, expected at the latest clock 100006"));
  CHECK_THAT(verdict(config, {command(due, kAct)}), Contains("tREFI: got no REF since clock 100000"));
  CHECK_THAT(verdict(config, {command(due - 9, kAct), command(due, kRef)}), Contains("bank state: got bank 0 open"));
  memory::DramChecker checker(config);
  CHECK_NOTHROW(checker.finish(due));
  CHECK_THROWS_WITH(checker.finish(due + 50), Contains("tREFI: got 0 refreshes"));
}

TEST_CASE("random traffic on every preset and on random parts breaks no rule", "[unit][memory]") {
  base::Rng rng(5);
  std::uint64_t commands = 0;
  for (int i = 0; i < 120; ++i) {
    DramConfig config = memory::random_dram(rng);
    const auto presets = memory::dram_preset_names();
    if (i < 36) {
      config = memory::dram_preset(presets[static_cast<std::size_t>(i) % presets.size()]);
      config.channels = 1 + i % 2;
    }
    INFO(memory::dram_name(config));
    memory::DramMemory model(config, base::Femtoseconds(rng.range(200000, 3000000)));
    memory::DramChecker checker(config);
    model.trace([&](const DramCommand& c) { checker.check(c); });
    testing::TrafficShape shape;
    shape.beats = 1000;
    shape.span = std::uint64_t{1} << rng.range(12, 22);
    const testing::TrafficRun run = testing::drive(model, testing::random_traffic(rng, shape), false);
    model.counters(base::Cycles(run.end + 5000));
    CHECK_NOTHROW(checker.finish(model.to_dram(run.end + 5000) - 1));
    commands += checker.commands();
  }
  CHECK(commands > 100000);
}

TEST_CASE("a controller that is one clock too quick in any timing is caught, by the timing's name", "[unit][memory]") {
  DramConfig config = quick_part();
  // All rules bind: tRC beyond tRAS + tRP, tFAW beyond 4 tRRD_S.
  config.timing = {11, 9, 12, 10, 13, 15, 25, 41, 4, 7, 9, 13, 5, 8, 27, 14, 5, 9, 8, 6, 900, 60, 2};
  config.bank_groups = 2;
  config.banks = 4;
  config.rows = 256;
  config.row_bytes = 64;
  config.starvation_cap = 2;
  REQUIRE_FALSE(memory::first_fault(config).has_value());
  for (const memory::DramTimingField& field : memory::kDramTimings) {
    const std::string key = field.key;
    if (key == "tCL" || key == "tCWL") continue;  // when data come, not when commands may
    DramConfig quick = config;
    quick.timing.*field.member -= 1;
    INFO(key);
    // What the part's own rules would not let a file say is what a broken controller would do: the channel does not
    // ask.
    memory::DramChecker checker(config);
    memory::DramChannel channel(quick, 0);
    std::string message = "legal";
    channel.trace([&](const DramCommand& c) {
      if (message != "legal") return;
      try {
        checker.check(c);
      } catch (const base::CheckError& error) {
        message = error.what();
      }
    });
    base::Rng rng(3);
    std::vector<memory::DramOutcome> outcomes;
    std::int64_t clock = 0;
    for (int i = 0; i < 6000; ++i) {
      memory::DramAccess access;
      if (rng.chance(1, 40)) clock += rng.range(0, 200);
      clock += rng.range(0, 12);
      access.arrival = clock;
      access.is_write = (i / 40) % 2 == 1;
      access.flat_bank = static_cast<std::uint8_t>(rng.below(8));
      access.row = static_cast<std::int64_t>(rng.below(3));
      access.column = static_cast<std::int32_t>(rng.below(4));
      access.bytes = rng.chance(1, 3) ? 0xff : 0xffff;
      channel.arrive(access);
      channel.run(clock, outcomes);
    }
    CHECK_THAT(message, Contains(": " + key + ": got "));
  }
}
