// models/memory/dram_memory
#include "models/memory/dram_memory.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/rng.h"
#include "models/memory/dram_random.h"
#include "tests/unit/memory_model/dram_traffic.h"

using namespace moesaic;
using base::Bytes;
using base::Cycles;
using base::Femtoseconds;
using memory::DramConfig;
using memory::DramMemory;

namespace {

std::int64_t ceil_of(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::map<std::string, std::int64_t> counts(memory::MemoryModel& model, std::int64_t now) {
  std::map<std::string, std::int64_t> all;
  for (const memory::Counter& counter : model.counters(Cycles(now)))
    all[counter.name] = static_cast<std::int64_t>(counter.value);
  return all;
}

/// Cycle at which the beat that is submitted at `now` finishes; nothing else is under way.
std::int64_t lone_read(DramMemory& model, std::uint64_t address, std::int64_t now) {
  REQUIRE(model.submit({0, false, address, Bytes(8)}, Cycles(now)));
  std::int64_t at = now;
  while (model.finished(0, false, Cycles(at)) == 0) ++at;
  model.take(0, false);
  return at;
}

}  // namespace

TEST_CASE("the bound on how long a beat can take knows every distance between commands", "[unit][memory]") {
  using Timing = memory::DramTiming;
  for (std::int64_t Timing::*const distance :
       {&Timing::rcd_wr, &Timing::ccd_l, &Timing::ccd_l_mwr, &Timing::rrd_l, &Timing::faw, &Timing::rtp, &Timing::rtw,
        &Timing::wtr_l, &Timing::wr, &Timing::rfc}) {
    DramConfig config = memory::dram_preset("ddr5-6400");
    config.timing.refi = 4000000;
    config.timing.*distance = 400000;
    CHECK(std::make_unique<DramMemory>(config, Femtoseconds(config.clock_period_fs))->longest_wait() > Cycles(400000));
  }
}

TEST_CASE("a lone read takes the formula's time to the cycle: closed bank, open row, other row", "[unit][memory]") {
  for (const std::string& name : memory::dram_preset_names()) {
    for (const std::int64_t period : {2000000, 1000000, 333333, 1250000, 7654321}) {
      INFO(name << ", core clock of " << period << " fs");
      const DramConfig config = memory::dram_preset(name);
      const memory::DramTiming& t = config.timing;
      const std::int64_t clock = config.clock_period_fs;
      const std::int64_t burst = config.burst_length / config.transfers_per_clock;
      DramMemory model(config, Femtoseconds(period));
      // Arrives at the first DRAM edge at or after its time plus two; back likewise.
      const auto expected = [&](std::int64_t now, std::int64_t clocks) {
        const std::int64_t arrival = ceil_of(now * period, clock) + 2;
        return ceil_of((arrival + clocks + t.cl + burst) * clock, period) + 2;
      };
      const std::int64_t gap = ceil_of(400000000, period);  // 400 ns: all timings are over, no refresh yet
      const auto row = static_cast<std::uint64_t>(config.capacity().count() / config.rows);
      CHECK(lone_read(model, 64, 3) == expected(3, t.rcd));
      const auto neighbour = static_cast<std::uint64_t>(config.burst_bytes() * config.bank_groups);
      CHECK(lone_read(model, 64 + neighbour, gap) == expected(gap, 0));
      CHECK(lone_read(model, 64 + row, 2 * gap) == expected(2 * gap, t.rp + t.rcd));
      const auto c = counts(model, 3 * gap);
      CHECK(c.at("row_misses") == 1);
      CHECK(c.at("row_hits") == 1);
      CHECK(c.at("row_conflicts") == 1);
      CHECK(c.at("refreshes") == 0);
    }
  }
}

TEST_CASE("a write is acknowledged when the controller has it", "[unit][memory]") {
  const DramConfig config = memory::dram_preset("ddr5-6400");
  DramMemory model(config, Femtoseconds(2000000));
  REQUIRE(model.submit({2, true, 0, Bytes(16)}, Cycles(10)));
  const std::int64_t arrival = ceil_of(10 * 2000000, 312500) + 2;
  const std::int64_t expected = ceil_of(arrival * 312500, 2000000) + 2;
  CHECK(model.finished(2, true, Cycles(expected - 1)) == 0);
  CHECK(model.finished(2, true, Cycles(expected)) == 1);
}

TEST_CASE("the answers that a DRAM owes to writes are listed, each with the cycle in which it comes",
          "[unit][memory]") {
  base::Rng rng(5);
  for (const std::int64_t period : {2000000, 1250000, 333333}) {
    DramMemory model(memory::dram_preset("ddr5-6400"), Femtoseconds(period));
    std::size_t owed = 0, most = 0;
    for (std::int64_t now = 0; now < 3000; ++now) {
      std::vector<Cycles> answers;
      model.list_answers(2, answers);
      REQUIRE(answers.size() == owed);
      const auto there = std::count_if(answers.begin(), answers.end(), [now](Cycles at) { return at.count() <= now; });
      REQUIRE(model.finished(2, true, Cycles(now)) == there);
      if (there > 0 && rng.chance(1, 2)) {
        model.take(2, true);
        --owed;
      }
      if (rng.chance(1, 3)) owed += model.submit({2, true, 32 * rng.below(1 << 20), Bytes(32)}, Cycles(now)) ? 1 : 0;
      most = std::max(most, owed);
    }
    CHECK(most > 2);
  }
}

TEST_CASE("streamed reads reach the peak less refresh within one percent on every preset", "[unit][memory]") {
  for (const std::string& name : memory::dram_preset_names()) {
    for (const std::int64_t channels : {1, 2}) {
      DramConfig config = memory::dram_preset(name);
      config.channels = channels;
      const std::int64_t period = 400000;
      DramMemory model(config, Femtoseconds(period));
      // From the middle between two refreshes to the middle between two others.
      const std::int64_t interval = config.timing.refi * config.clock_period_fs / period;
      const std::int64_t begin = interval / 2, cycles = 20 * interval;
      std::uint64_t address = 0;
      std::int64_t taken = 0;
      for (std::int64_t now = 0; now < begin + cycles; ++now) {
        if (model.submit({0, false, address, Bytes(32)}, Cycles(now))) address += 32;
        for (; model.finished(0, false, Cycles(now)) > 0; model.take(0, false)) taken += now >= begin ? 1 : 0;
      }
      memory::MemoryConfig memory;
      memory.kind = "dram";
      memory.dram = config;
      const double peak = memory::peak_bytes(memory, Femtoseconds(period), Cycles(cycles));
      const memory::DramTiming& t = config.timing;
      const double refresh = static_cast<double>(t.rp_ab + t.rfc + t.rcd) / static_cast<double>(t.refi);
      const double reached = static_cast<double>(32 * taken) / (peak * (1 - refresh));
      INFO(name << ", " << channels << " channels: " << reached << " of the peak less refresh, "
                << static_cast<double>(32 * taken) / peak << " of the peak");
      CHECK(reached > 0.99);
      CHECK(reached <= 1.0);
      CHECK(counts(model, begin + cycles).at("refreshes") == 20 * channels);
    }
  }
}

TEST_CASE("beats that are submitted together are beats submitted one by one", "[unit][memory]") {
  base::Rng rng(23);
  for (int i = 0; i < 150; ++i) {
    DramConfig config = memory::random_dram(rng);
    if (rng.chance(1, 2)) config.mapping = memory::dram_preset("ddr5-6400").mapping;
    const Femtoseconds period(rng.range(300000, 4000000));
    testing::TrafficShape shape;
    shape.span = std::uint64_t{1} << rng.range(9, 20);
    testing::Traffic traffic = testing::random_traffic(rng, shape);
    const std::int64_t slow = rng.range(1, 40);
    for (auto& beats : traffic) {
      if (&beats != &traffic[0] && rng.chance(2, 3)) beats.clear();
      for (testing::PlannedBeat& beat : beats) beat.not_before *= slow;
    }
    INFO(i << ": " << memory::dram_name(config) << ", core clock of " << period.count() << " fs");
    DramMemory single(config, period), together(config, period);
    std::vector<std::pair<std::int64_t, std::int64_t>> first, second;
    single.trace(
        [&](const memory::DramCommand& c) { first.emplace_back(c.channel, c.clock * 8 + static_cast<int>(c.kind)); });
    together.trace(
        [&](const memory::DramCommand& c) { second.emplace_back(c.channel, c.clock * 8 + static_cast<int>(c.kind)); });
    const testing::TrafficRun a = testing::drive(single, traffic, false);
    const testing::TrafficRun b = testing::drive(together, traffic, rng.chance(1, 2), true);
    REQUIRE(a.ports == b.ports);
    REQUIRE(single.counters(Cycles(a.end + 1000)) == together.counters(Cycles(a.end + 1000)));
    std::stable_sort(first.begin(), first.end());
    std::stable_sort(second.begin(), second.end());
    REQUIRE(first == second);
  }
}

TEST_CASE("what is known at a cycle does not depend on how often the model is asked", "[unit][memory]") {
  base::Rng rng(21);
  std::uint64_t often = 0, seldom = 0;
  for (int i = 0; i < 150; ++i) {
    const DramConfig config = memory::random_dram(rng);
    const Femtoseconds period(rng.range(150000, 6000000));
    testing::TrafficShape shape;
    shape.span = std::uint64_t{1} << rng.range(9, 24);
    shape.base = rng.chance(1, 2) ? 0 : (std::uint64_t{1} << 40) - (std::uint64_t{1} << 25);
    const testing::Traffic traffic = testing::random_traffic(rng, shape);
    INFO(i << ": " << memory::dram_name(config) << ", core clock of " << period.count() << " fs");
    DramMemory every(config, period), skipping(config, period);
    std::vector<std::pair<std::int64_t, std::int64_t>> first, second;
    every.trace(
        [&](const memory::DramCommand& c) { first.emplace_back(c.channel, c.clock * 8 + static_cast<int>(c.kind)); });
    skipping.trace(
        [&](const memory::DramCommand& c) { second.emplace_back(c.channel, c.clock * 8 + static_cast<int>(c.kind)); });
    const testing::TrafficRun a = testing::drive(every, traffic, true);
    const testing::TrafficRun b = testing::drive(skipping, traffic, false);
    REQUIRE(a.ports == b.ports);
    REQUIRE(every.counters(Cycles(a.end + 1000)) == skipping.counters(Cycles(a.end + 1000)));
    std::stable_sort(first.begin(), first.end());
    std::stable_sort(second.begin(), second.end());
    REQUIRE(first == second);
    often += a.visits;
    seldom += b.visits;
  }
  CHECK(seldom < often);
}

TEST_CASE("every beat is answered, and every byte that crosses a port crosses the bus", "[unit][memory]") {
  base::Rng rng(8);
  for (int i = 0; i < 40; ++i) {
    const DramConfig config = memory::random_dram(rng);
    DramMemory model(config, Femtoseconds(rng.range(200000, 4000000)));
    testing::TrafficShape shape;
    shape.span = std::uint64_t{1} << rng.range(10, 20);
    const testing::Traffic traffic = testing::random_traffic(rng, shape);
    const testing::TrafficRun run = testing::drive(model, traffic, false);
    std::int64_t read = 0, written = 0, write_accesses = 0;
    for (std::size_t port = 0; port < traffic.size(); ++port) {
      CHECK(run.ports[port].size() == traffic[port].size());
      for (const testing::PlannedBeat& beat : traffic[port]) {
        (beat.request.is_write ? written : read) += beat.request.bytes.count();
        const auto size = static_cast<std::uint64_t>(config.burst_bytes());
        const std::uint64_t end = beat.request.address + static_cast<std::uint64_t>(beat.request.bytes.count()) - 1;
        if (beat.request.is_write)
          write_accesses += static_cast<std::int64_t>(end / size - beat.request.address / size + 1);
      }
    }
    INFO(memory::dram_name(config));
    const auto c = counts(model, run.end + 100000);
    CHECK(c.at("port_bytes_read") == read);
    CHECK(c.at("port_bytes_written") == written);
    CHECK(c.at("queued_writes") == 0);
    CHECK(c.at("writes") + c.at("joined_write_beats") == write_accesses);
    CHECK(c.at("row_hits") + c.at("row_misses") + c.at("row_conflicts") == c.at("reads") + c.at("writes"));
    CHECK(c.at("bus_bytes_read") == c.at("reads") * config.burst_bytes());
    CHECK(c.at("masked_writes") <= c.at("writes"));
  }
}

TEST_CASE("consecutive beats of a port within a burst are one access, others are not", "[unit][memory]") {
  DramConfig config = memory::dram_preset("ddr5-6400");
  DramMemory model(config, Femtoseconds(2000000));
  const auto submit = [&](unsigned port, bool is_write, std::uint64_t address, std::int64_t now) {
    REQUIRE(model.submit({port, is_write, address, Bytes(16)}, Cycles(now)));
  };
  for (std::uint64_t i = 0; i < 4; ++i) submit(0, false, 16 * i, 0);  // one burst of 64 bytes
  submit(1, false, 0, 0);                                             // another port: an access of its own
  CHECK(counts(model, 200).at("reads") == 2);
  submit(0, false, 48, 300);  // the port's last burst still, long after its data came
  CHECK(counts(model, 500).at("reads") == 2);
  submit(2, true, 32, 600);  // a write to it: the next read must go to the DRAM
  submit(0, false, 48, 600);
  CHECK(counts(model, 900).at("reads") == 3);
  CHECK(counts(model, 900).at("masked_writes") == 1);
  for (std::uint64_t i = 0; i < 4; ++i) submit(2, true, 4096 + 16 * i, 1000 + static_cast<std::int64_t>(i));
  const auto c = counts(model, 2000);
  CHECK(c.at("joined_write_beats") == c.at("written_beats") - c.at("writes"));
}

TEST_CASE("a read sees the writes to its burst that were submitted before it", "[unit][memory]") {
  // Order on the bus, from the commands: the write to the burst goes before the read of it, whatever the policy
  // prefers.
  base::Rng rng(4);
  for (int i = 0; i < 60; ++i) {
    const DramConfig config = memory::random_dram(rng);
    DramMemory model(config, Femtoseconds(1000000));
    std::vector<memory::DramCommand> commands;
    model.trace([&](const memory::DramCommand& c) { commands.push_back(c); });
    // Reads of other rows keep the bus busy.
    for (std::uint64_t k = 0; k < 6; ++k) REQUIRE(model.submit({1, false, 65536 * (k + 1), Bytes(8)}, Cycles(0)));
    REQUIRE(model.submit({2, true, 0, Bytes(8)}, Cycles(1)));
    REQUIRE(model.submit({0, false, 0, Bytes(8)}, Cycles(1)));
    REQUIRE(model.submit({3, true, 0, Bytes(8)}, Cycles(2)));
    model.counters(Cycles(200000));
    std::vector<memory::DramCommandKind> order;
    const auto row = static_cast<std::uint64_t>(0);
    for (const memory::DramCommand& c : commands) {
      const bool column = c.kind == memory::DramCommandKind::kRead || c.kind == memory::DramCommandKind::kWrite;
      if (column && c.channel == 0 && c.bank_group == 0 && c.bank == 0 && c.row == static_cast<std::int64_t>(row) &&
          c.column == 0)
        order.push_back(c.kind);
    }
    INFO(memory::dram_name(config));
    CHECK(order == std::vector<memory::DramCommandKind>{memory::DramCommandKind::kWrite, memory::DramCommandKind::kRead,
                                                        memory::DramCommandKind::kWrite});
  }
}

TEST_CASE("row hits overtake an older access of their bank at most as often as the cap says", "[unit][memory]") {
  for (const std::int64_t cap : {1, 4, 16}) {
    DramConfig config = memory::dram_preset("ddr5-6400");
    config.starvation_cap = cap;
    config.read_queue = 64;
    DramMemory model(config, Femtoseconds(1000000));
    std::vector<memory::DramCommand> commands;
    model.trace([&](const memory::DramCommand& c) { commands.push_back(c); });
    const auto row = static_cast<std::uint64_t>(config.capacity().count() / config.rows);
    const auto column = static_cast<std::uint64_t>(config.burst_bytes() * config.bank_groups);
    REQUIRE(model.submit({0, false, 0, Bytes(8)}, Cycles(0)));
    REQUIRE(model.submit({1, false, row, Bytes(8)}, Cycles(10)));  // same bank, another row
    for (std::uint64_t k = 1; k < 40; ++k) REQUIRE(model.submit({0, false, column * k, Bytes(8)}, Cycles(10)));
    model.counters(Cycles(5000));
    std::int64_t overtook = 0;
    for (const memory::DramCommand& c : commands) {
      if (c.kind != memory::DramCommandKind::kRead) continue;
      if (c.row == 1) break;
      ++overtook;
    }
    CHECK(overtook == 1 + cap);  // the first read was not overtaking anybody
  }
}

TEST_CASE("a port is refused when its places are taken and told when one is free", "[unit][memory]") {
  DramConfig config = memory::dram_preset("ddr5-6400");
  config.read_queue = 8;
  DramMemory model(config, Femtoseconds(2000000));
  for (std::uint64_t i = 0; i < 8; ++i) REQUIRE(model.submit({0, false, 64 * i, Bytes(32)}, Cycles(0)));
  CHECK_FALSE(model.submit({0, false, 64 * 8, Bytes(32)}, Cycles(0)));
  CHECK(model.submit({0, false, 64 * 7 + 32, Bytes(32)}, Cycles(0)));  // within the last burst: no place needed
  CHECK(model.submit({1, false, 0, Bytes(32)}, Cycles(0)));            // another port has places of its own
  std::int64_t now = 0;
  for (;;) {
    const auto next = model.next_change(Cycles(now));
    REQUIRE(next.has_value());
    for (++now; now < next->count(); ++now) REQUIRE_FALSE(model.submit({0, false, 64 * 8, Bytes(32)}, Cycles(now)));
    if (model.submit({0, false, 64 * 8, Bytes(32)}, Cycles(now))) break;
  }
  // The first read leaves the queue tRCD after it arrived at clock 2.
  CHECK(now == ceil_of((2 + config.timing.rcd) * 312500, 2000000) + 2);
}

TEST_CASE("the same beats give the same run, also after a reset", "[unit][memory]") {
  base::Rng rng(31);
  const DramConfig config = memory::random_dram(rng);
  const testing::Traffic traffic = testing::random_traffic(rng, {});
  DramMemory model(config, Femtoseconds(900000));
  const testing::TrafficRun first = testing::drive(model, traffic, false);
  const auto counted = model.counters(Cycles(first.end));
  model.reset();
  const testing::TrafficRun second = testing::drive(model, traffic, false);
  CHECK(first.ports == second.ports);
  CHECK(counted == model.counters(Cycles(second.end)));
}

TEST_CASE("a memory with no end of its address space is refused, and so is time that goes back", "[unit][memory]") {
  const DramConfig config = memory::dram_preset("gddr6-16000");
  DramMemory model(config, Femtoseconds(2000000));
  const auto end = static_cast<std::uint64_t>(config.capacity().count());
  CHECK(model.submit({0, false, end - 8, Bytes(8)}, Cycles(5)));
  CHECK_THROWS_AS(model.submit({0, false, end - 4, Bytes(8)}, Cycles(5)), base::CheckError);
  CHECK_THROWS_AS(model.submit({0, false, end, Bytes(8)}, Cycles(5)), base::CheckError);
  CHECK_THROWS_AS(model.submit({0, false, 0, Bytes(8)}, Cycles(4)), std::logic_error);
  CHECK_THROWS_AS(model.submit({99, false, 0, Bytes(8)}, Cycles(5)), std::logic_error);
}
