// models/memory/dram_moment: a stretch that is passed leaves the memory that living through it leaves.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/rng.h"
#include "models/memory/dram_memory.h"
#include "models/memory/dram_random.h"

using namespace moesaic;
using base::Bytes;
using base::Cycles;
using base::Femtoseconds;
using memory::DramMemory;
using memory::Recurring;

namespace {

constexpr unsigned kReader = 0, kWriter = 1;
constexpr std::int64_t kBeat = 32, kSteps = 24;

/// What a port did in so many cycles: rows of beats that it asked for, cycles in which beats were there.
struct Plan {
  struct Row {
    std::int64_t at = 0, beats = 0;
    std::int64_t skipped = 0;  ///< bytes, before it; below 0: it goes back
  };
  std::vector<Row> rows;
};

/// A port that reads on and on, in one of a few ways at a time, and another that writes now and then.
class Driver {
 public:
  Driver(const memory::DramConfig& config, Femtoseconds period) : memory(config, period) {}

  /// Lives through one plan from `now` on; returns when beats came, from there on. False: the memory took less.
  bool live(const Plan& plan, std::vector<std::int64_t>& came) {
    bool all = true;
    std::size_t next = 0;
    for (std::int64_t i = 0; i < kSteps; ++i, ++now) {
      for (std::int64_t left = memory.finished(kReader, false, Cycles(now)); left > 0; --left) {
        memory.take(kReader, false);
        came.push_back(i);
      }
      for (; next < plan.rows.size() && plan.rows[next].at == i; ++next) {
        address += static_cast<std::uint64_t>(plan.rows[next].skipped);
        const std::int64_t taken =
            memory.submit_row({kReader, false, address, Bytes(kBeat)}, plan.rows[next].beats, Cycles(now));
        all = all && taken == plan.rows[next].beats;
        address += static_cast<std::uint64_t>(taken * kBeat);
      }
    }
    return all;
  }

  void write(std::uint64_t at) {
    for (std::int64_t beat = 0; beat < 2; ++beat)
      memory.submit({kWriter, true, at + static_cast<std::uint64_t>(beat * kBeat), Bytes(kBeat)}, Cycles(now));
  }
  void take_written() {
    for (std::int64_t left = memory.finished(kWriter, true, Cycles(now)); left > 0; --left) memory.take(kWriter, true);
  }

  DramMemory memory;
  std::int64_t now = 0;
  std::uint64_t address = std::uint64_t{1} << 26;
};

/// Everything that a memory counted, held up, and has under way.
std::string account(DramMemory& memory, std::int64_t now) {
  std::string text;
  for (const memory::Counter& counter : memory.counters(Cycles(now)))
    text += counter.name + std::to_string(counter.value) + ' ';
  memory::History history;
  memory.add_history(Cycles(now), history);
  history.for_each_count([&text](std::uint64_t& count) { text += std::to_string(count) + ' '; }, [](auto&) {});
  text += "held:";
  std::vector<memory::MemoryModel::Held> held;
  memory.take_held(held);
  for (const auto& one : held)
    text += 'h' + std::to_string(one.port) + ' ' + std::to_string(one.begin.count()) + ' ' +
            std::to_string(one.end.count()) + ' ';
  return text;
}

Plan random_plan(base::Rng& rng) {
  Plan plan;
  std::int64_t at = rng.range(0, 6);
  for (std::int64_t row = rng.range(1, 3); row > 0 && at < kSteps; --row, at += rng.range(1, 8))
    plan.rows.push_back({at, rng.range(1, 8), rng.chance(1, 4) ? 32 * rng.range(-12, 40) : 0});
  if (rng.chance(1, 2)) {  // back to where reads wait
    plan.rows.push_back({kSteps - 1, rng.range(4, 8), 0});
    plan.rows.push_back({kSteps - 1, rng.range(1, 2), -32 * rng.range(4, 12)});
  }
  return plan;
}

/// What decides whether a stretch may come again, apart from the moment and the plan: in how many of the memory's
/// clocks a refresh is due, if one is in it.
std::int64_t refresh_of(const DramMemory& memory, std::int64_t now) {
  if (now + kSteps <= memory.undisturbed_until(Cycles(now)).count()) return -1;
  return memory.until_refresh(Cycles(now));
}

struct Known {
  std::vector<Recurring::Pattern> patterns;
  std::string what;
  Recurring::Stretch stretch;  ///< but for its bytes
  std::string open;
  std::string next;
  std::vector<std::int64_t> came;
};

struct Tally {
  std::uint64_t passed = 0, with_rows = 0, with_writes = 0, with_refreshes = 0, with_held = 0;
};

/// Of a plan from here on; empty where one cannot be told.
std::vector<Recurring::Pattern> patterns_of(Driver& driver, std::uint64_t address, std::uint64_t origin,
                                            const Plan& plan, bool at_mark, std::uint64_t& end) {
  std::vector<Recurring::Pattern> patterns;
  end = origin;
  for (const Plan::Row& row : plan.rows) {
    address += static_cast<std::uint64_t>(row.skipped);
    const auto bytes = static_cast<std::uint64_t>(row.beats * kBeat);
    const auto pattern = driver.memory.pattern(origin, end, address, bytes, at_mark);
    if (!pattern) return {};
    patterns.push_back(*pattern);
    end = driver.memory.end_of(address, bytes);
    address += bytes;
  }
  return patterns;
}

std::uint64_t count_of(DramMemory& memory, std::int64_t now, const std::string& name) {
  for (const memory::Counter& counter : memory.counters(Cycles(now)))
    if (counter.name == name) return counter.value;
  return 0;
}

/// Lives through random plans from a small set; whenever one follows a moment that was met before, in reading that
/// looks the same, a copy of the memory passes the stretch instead and must be what living through it left.
void repeat(const memory::DramConfig& config, Femtoseconds period, base::Rng& rng, int plans, Tally& tally) {
  Driver driver(config, period);
  if (driver.memory.recurring() == nullptr) return;
  std::vector<Plan> choice;
  for (int i = 0; i < 2; ++i) choice.push_back(random_plan(rng));
  std::map<std::tuple<std::string, std::size_t, std::int64_t>, std::vector<Known>> known;
  std::map<std::string, std::uint64_t> glances;
  const std::uint64_t results = std::uint64_t{1} << 29;
  std::uint64_t written = results;
  for (int i = 0; i < plans; ++i) {
    if (rng.chance(1, 12)) {
      // Far from what is read, or in its way.
      driver.write(rng.chance(1, 3) ? (driver.address / 64 + rng.below(256)) * 64 : written);
      written += 64;
    }
    driver.take_written();
    const std::size_t which = rng.chance(1, 10) ? 1 : 0;
    const Plan& plan = choice[which];
    std::string moment;
    const bool is_moment = driver.memory.export_moment(kReader, Cycles(driver.now), moment);
    std::unique_ptr<Driver> other;
    const Known* expected = nullptr;
    const std::int64_t begin = driver.now;
    const std::int64_t refresh = refresh_of(driver.memory, driver.now);
    if (is_moment) {
      const auto glance = driver.memory.glance(kReader, Cycles(driver.now));
      REQUIRE(glance);
      CHECK(glances.emplace(moment, *glance).first->second == *glance);
      std::uint64_t end = 0;
      const auto patterns = patterns_of(driver, driver.address, driver.memory.end(kReader), plan, false, end);
      for (const Known& one : known[{moment, which, refresh}]) {
        if (patterns.size() != one.patterns.size()) continue;
        const Recurring::Stretch stretch{one.what, one.stretch.waits, one.stretch.closes, one.open};
        if (refresh >= 0 && !driver.memory.is_open_alike(kReader, stretch.open)) continue;
        if (!std::equal(patterns.begin(), patterns.end(), one.patterns.begin(),
                        [&stretch](const auto& a, const auto& b) { return a.equals(b, stretch); }))
          continue;
        expected = &one;
        other = std::make_unique<Driver>(driver);
        other->memory.pass(kReader, stretch, end, Cycles(other->now));
        other->now += kSteps;
        other->memory.import_moment(kReader, Cycles(other->now), one.next);
        break;
      }
    }
    const std::uint64_t counts_before[] = {count_of(driver.memory, begin, "activates"),
                                           count_of(driver.memory, begin, "writes"),
                                           count_of(driver.memory, begin, "refreshes")};
    driver.memory.mark(kReader, Cycles(driver.now));
    const std::uint64_t before = driver.address, origin = driver.memory.end(kReader);
    std::vector<std::int64_t> came;
    const bool all = driver.live(plan, came);
    std::string next;
    const bool is_next = driver.memory.export_moment(kReader, Cycles(driver.now), next);
    std::uint64_t end = 0;
    const auto patterns =
        is_moment ? patterns_of(driver, before, origin, plan, true, end) : std::vector<Recurring::Pattern>{};
    if (expected != nullptr) {
      REQUIRE(all);
      REQUIRE(is_next);
      CHECK(came == expected->came);
      other->address = driver.address;
      const std::string ours_text = account(driver.memory, driver.now);
      REQUIRE(account(other->memory, other->now) == ours_text);
      tally.with_held += ours_text.back() != ':';
      ++tally.passed;
      tally.with_rows += count_of(driver.memory, driver.now, "activates") != counts_before[0];
      tally.with_writes += count_of(driver.memory, driver.now, "writes") != counts_before[1];
      tally.with_refreshes += count_of(driver.memory, driver.now, "refreshes") != counts_before[2];
      // And it goes on alike.
      Driver ours(driver);
      for (int more = 0; more < 3; ++more) {
        std::vector<std::int64_t> mine, others;
        const Plan& after = choice[rng.below(2)];
        const bool took = ours.live(after, mine);
        REQUIRE(other->live(after, others) == took);
        REQUIRE(others == mine);
      }
      REQUIRE(account(other->memory, other->now) == account(ours.memory, ours.now));
    } else if (is_moment && all && is_next && patterns.size() == plan.rows.size()) {
      Known one{patterns, {}, {}, {}, next, came};
      if (const auto stretch = driver.memory.stretch(one.what)) {
        one.stretch = *stretch;
        if (count_of(driver.memory, driver.now, "refreshes") != counts_before[2]) REQUIRE(stretch->closes);
        driver.memory.export_open(one.open);
        known[{moment, which, refresh}].push_back(one);
      }
    }
  }
}

}  // namespace

TEST_CASE("where rows are opened, or closed and opened again, it matters how far away they lie", "[unit][memory]") {
  Recurring::Pattern one, other;
  other.blocks = 1U << 6;
  CHECK(one.equals(other, {{}, false, false, {}}));
  CHECK_FALSE(one.equals(other, {{}, false, true, {}}));
  one.rows = other.rows = 1;
  CHECK_FALSE(one.equals(other, {{}, false, false, {}}));
  other.blocks = 0;
  CHECK(one.equals(other, {{}, false, true, {}}));
  one.blocks = other.blocks = Recurring::Pattern::kFar;
  CHECK_FALSE(one.equals(other, {{}, false, false, {}}));
}

TEST_CASE("a stretch of reading that is passed leaves the memory that living through it leaves", "[unit][memory]") {
  base::Rng rng(20261126);
  Tally tally;
  for (const std::string& preset : memory::dram_preset_names()) {
    memory::DramConfig config = memory::dram_preset(preset);
    config.channels = 2;
    for (const std::int64_t period : {1000000, 937500, 2000000}) repeat(config, Femtoseconds(period), rng, 1200, tally);
  }
  CHECK(tally.passed > 5000);
  CHECK(tally.with_rows > 100);
  CHECK(tally.with_writes > 5);
}

TEST_CASE("a stretch in which a refresh is due may be passed where another is due as soon", "[unit][memory]") {
  base::Rng rng(3);
  Tally tally;
  for (const std::string& preset : memory::dram_preset_names()) {
    memory::DramConfig config = memory::dram_preset(preset);
    config.channels = 2;
    for (const std::int64_t clocks : {72 * 40, 72 * 40 + 24}) {
      config.timing.refi = clocks;  // plans take 72
      repeat(config, Femtoseconds(3 * config.clock_period_fs), rng, 2000, tally);
    }
  }
  CHECK(tally.with_refreshes > 100);
  CHECK(tally.with_held > 100);
  CHECK(tally.with_rows > 100);
}

namespace {

constexpr std::int64_t kInterval = 960;  // from a refresh to the next, in cycles of the reader

/// Bytes that lie in one row of every group of every channel: their rows are in one bank, those of the next bytes in
/// the next, and after all banks in the first one's next row.
std::uint64_t block_bytes(const memory::DramConfig& config) {
  return static_cast<std::uint64_t>(config.channels * config.bank_groups * config.row_bytes);
}

/// Shortly before refresh `number`. Since the refresh before it the first bursts of some blocks were read, one after
/// the other.
Driver before_refresh(const memory::DramConfig& config, std::int64_t number, const std::vector<std::uint64_t>& blocks) {
  Driver driver(config, Femtoseconds(3 * config.clock_period_fs));
  const auto wait = [&driver](std::int64_t until) {
    for (; driver.now < until; ++driver.now)
      for (std::int64_t left = driver.memory.finished(kReader, false, Cycles(driver.now)); left > 0; --left)
        driver.memory.take(kReader, false);
  };
  wait((number - 1) * kInterval + kInterval / 2);
  for (const std::uint64_t block : blocks) {
    driver.address = block * block_bytes(config);
    const std::int64_t beats = config.burst_bytes() / kBeat;
    REQUIRE(driver.memory.submit_row({kReader, false, driver.address, Bytes(kBeat)}, beats, Cycles(driver.now)) ==
            beats);
    driver.address += static_cast<std::uint64_t>(config.burst_bytes());
    wait(driver.now + kInterval / 10);
  }
  wait(number * kInterval - 6);
  return driver;
}

std::string moment_of(Driver& driver) {
  std::string moment;
  REQUIRE(driver.memory.export_moment(kReader, Cycles(driver.now), moment));
  return moment;
}

/// What happens from there on when the next row of the bank is read that was read last: it is closed before the
/// refresh.
Known live_through(Driver driver, const Plan& plan) {
  Known known;
  driver.memory.mark(kReader, Cycles(driver.now));
  const std::uint64_t address = driver.address, origin = driver.memory.end(kReader);
  REQUIRE(driver.live(plan, known.came));
  known.next = moment_of(driver);
  std::uint64_t end = 0;
  known.patterns = patterns_of(driver, address, origin, plan, true, end);
  const auto stretch = driver.memory.stretch(known.what);
  REQUIRE(stretch);
  known.stretch = *stretch;
  driver.memory.export_open(known.open);
  return known;
}

/// Whether the memory is the same for having passed the stretch as for having lived through it.
bool passes(const Driver& driver, const Plan& plan, const Known& known) {
  Driver lived = driver, passed = driver;
  const Recurring::Stretch stretch{known.what, known.stretch.waits, known.stretch.closes, known.open};
  std::uint64_t end = 0;
  const auto patterns = patterns_of(passed, passed.address, passed.memory.end(kReader), plan, false, end);
  // All else is alike.
  REQUIRE(patterns.size() == 1);
  REQUIRE(patterns.front().equals(known.patterns.front(), stretch));
  std::vector<std::int64_t> came;
  lived.live(plan, came);
  passed.memory.pass(kReader, stretch, end, Cycles(passed.now));
  passed.now += kSteps;
  passed.memory.import_moment(kReader, Cycles(passed.now), known.next);
  passed.address = lived.address;
  bool same = came == known.came;
  for (int more = 0; more < 60; ++more) {
    std::vector<std::int64_t> one, other;
    const Plan after{{{1, 2, 0}}};
    same = lived.live(after, one) == passed.live(after, other) && one == other && same;
  }
  return account(lived.memory, lived.now) == account(passed.memory, passed.now) && same;
}

}  // namespace

TEST_CASE("a refresh that finds other banks open is another one, though the moment and what is read are the same",
          "[unit][memory]") {
  for (const std::string& preset : memory::dram_preset_names()) {
    INFO(preset);
    memory::DramConfig config = memory::dram_preset(preset);
    config.channels = 2;
    config.timing.refi = 3 * kInterval;
    const auto rows_on = static_cast<std::uint64_t>(config.banks);  // in blocks
    const Plan plan{{{2, config.burst_bytes() / kBeat,
                      static_cast<std::int64_t>(rows_on * block_bytes(config)) - config.burst_bytes()}}};
    // Open in the end: a bank; the one before it as well; and the one before that. The read closes the first.
    const auto before = [&](std::int64_t number, std::uint64_t first, std::uint64_t second, std::uint64_t third) {
      return before_refresh(config, number, {first, second, third});
    };
    Driver one = before(2, 64 - 2 * rows_on, 64 - rows_on, 64), later = before(5, 96 - 2 * rows_on, 96 - rows_on, 96);
    Driver two = before(2, 63, 64 - rows_on, 64), two_later = before(4, 95, 96 - rows_on, 96);
    Driver three = before(3, 62, 63, 64), others = before(3, 62, 64 - rows_on, 64);
    for (Driver* driver : {&later, &two, &two_later, &three, &others}) REQUIRE((moment_of(*driver) == moment_of(one)));
    const auto is_alike = [](const Driver& driver, const Known& known) {
      return driver.memory.is_open_alike(kReader, known.open);
    };
    const Known of_one = live_through(one, plan), of_two = live_through(two, plan);
    CHECK(is_alike(later, of_one));
    CHECK(passes(later, plan, of_one));
    CHECK(is_alike(two_later, of_two));
    CHECK(passes(two_later, plan, of_two));
    CHECK(is_alike(three, of_two));
    CHECK(passes(three, plan, of_two));

    CHECK_FALSE(is_alike(two, of_one));
    CHECK_FALSE(passes(two, plan, of_one));
    CHECK_FALSE(is_alike(three, of_one));
    CHECK_FALSE(is_alike(one, of_two));
    CHECK_FALSE(passes(one, plan, of_two));
    CHECK_FALSE(is_alike(others, of_two));
  }
}

TEST_CASE("behind random DRAMs a stretch that is passed is one that was lived through", "[unit][memory]") {
  base::Rng rng(7);
  Tally tally;
  for (int i = 0; i < 120; ++i)
    repeat(memory::random_dram(rng), Femtoseconds(rng.range(400, 2500) * 1000), rng, 1200, tally);
  CHECK(tally.passed > 1000);
}
