// models/memory/dram_memory: what a refresh holds up.
#include <algorithm>
#include <catch2/catch.hpp>
#include <tuple>
#include <vector>

#include "models/memory/dram_memory.h"
#include "models/memory/dram_random.h"
#include "tests/unit/memory_model/dram_traffic.h"

using namespace moesaic;
using base::Bytes;
using base::Cycles;
using base::Femtoseconds;
using memory::DramConfig;
using memory::DramMemory;

namespace {

using Stretch = std::tuple<unsigned, std::int64_t, std::int64_t>;  // port, begin, end

/// Takes what is held whenever it is asked for finished beats, and holds it to what was said before.
class Watched final : public memory::MemoryModel {
 public:
  explicit Watched(DramMemory& dram) : dram_(dram) {}
  std::string name() const override { return dram_.name(); }
  bool submit(const memory::Request& request, Cycles now) override { return dram_.submit(request, now); }
  std::int64_t finished(unsigned port, bool is_write, Cycles now) override {
    const std::int64_t ready = dram_.finished(port, is_write, now);
    std::vector<Held> held;
    const Cycles from = dram_.take_held(held);
    for (const Held& one : held) {
      late_ += one.begin < from_;
      stretches.emplace_back(one.port, one.begin.count(), one.end.count());
    }
    from_ = from;
    return ready;
  }
  void take(unsigned port, bool is_write) override { dram_.take(port, is_write); }
  std::optional<Cycles> next_change(Cycles now) override { return dram_.next_change(now); }
  std::optional<Coming> coming(unsigned port, bool is_write, Cycles now) override {
    return dram_.coming(port, is_write, now);
  }
  void reset() override { dram_.reset(); }
  std::uint64_t late() const { return late_; }

  std::vector<Stretch> stretches;

 private:
  DramMemory& dram_;
  Cycles from_{0};
  std::uint64_t late_ = 0;
};

struct Refresh {
  std::int64_t due = 0, readable = 0;
};

/// Ports 0 and 1 read, 2 and 3 write, a burst a beat and never the same one twice running.
testing::Traffic bursts(base::Rng& rng, std::int64_t burst_bytes, std::uint64_t span, std::int64_t beats) {
  testing::Traffic traffic(4);
  for (unsigned port = 0; port < 4; ++port) {
    std::uint64_t burst = 0;
    std::int64_t now = 0;
    for (std::int64_t i = 0; i < beats; ++i) {
      burst = rng.chance(7, 8) ? burst + 1 : rng.below(span) + burst + 1;
      burst %= 2 * span;
      if (rng.chance(1, 4)) now += rng.range(0, 60);
      traffic[port].push_back(
          {now, {port, port >= 2, burst * static_cast<std::uint64_t>(burst_bytes), Bytes(burst_bytes)}});
    }
  }
  return traffic;
}

}  // namespace

TEST_CASE("a read that comes in the middle of a refresh is held up from then until a row can be read again",
          "[unit][memory]") {
  for (const std::string& preset : memory::dram_preset_names()) {
    const DramConfig config = memory::dram_preset(preset);
    DramMemory model(config, Femtoseconds(1000000));
    const auto& t = config.timing;
    const std::int64_t data = t.cl + config.burst_clocks();
    // So that it is in the controller some 20 core cycles after the refresh, which finds all banks closed.
    const std::int64_t at = t.refi * config.clock_period_fs / 1000000 + 20;
    REQUIRE(model.submit({1, false, 0, Bytes(8)}, Cycles(at)));
    std::int64_t end = at;
    while (model.finished(1, false, Cycles(end)) == 0) ++end;
    std::vector<memory::MemoryModel::Held> held;
    model.take_held(held);
    INFO(preset);
    REQUIRE(held.size() == 1);
    CHECK(held[0].port == 1);
    CHECK(held[0].begin.count() == model.to_core(model.to_dram(at) + data));
    CHECK(held[0].end.count() == model.to_core(t.refi + t.rfc + t.rcd + data));
    CHECK(held[0].end.count() == end);
    held.clear();
    model.take_held(held);
    CHECK(held.empty());  // once
  }
}

TEST_CASE("a refresh holds up a stream from the last data before it to the first after it", "[unit][memory]") {
  const DramConfig config = memory::dram_preset("ddr5-6400");
  DramMemory model(config, Femtoseconds(1000000));
  testing::Traffic traffic(1);
  for (std::int64_t i = 0; i < 4000; ++i)
    traffic[0].push_back({0, {0, false, static_cast<std::uint64_t>(64 * i), Bytes(64)}});
  const testing::TrafficRun run = testing::drive(model, traffic, false);
  std::vector<memory::MemoryModel::Held> held;
  model.take_held(held);
  const auto counters = model.counters(Cycles(run.end));
  const auto refreshes =
      std::find_if(counters.begin(), counters.end(), [](const auto& counter) { return counter.name == "refreshes"; });
  REQUIRE(held.size() == refreshes->value);
  REQUIRE(held.size() >= 2);
  for (const auto& one : held) {
    // PREA, REF and ACT keep the data away for tRP_AB + tRFC + tRCD and what is left of the last burst's tRTP.
    const double clocks =
        static_cast<double>((one.end - one.begin).count()) * 1e6 / static_cast<double>(config.clock_period_fs);
    CHECK(clocks > static_cast<double>(config.timing.rp_ab + config.timing.rfc + config.timing.rcd - 8));
    CHECK(clocks <
          static_cast<double>(config.timing.rp_ab + config.timing.rfc + config.timing.rcd + config.timing.ras));
    for (const testing::Done& done : run.ports[0])
      CHECK((done.finished <= one.begin.count() || done.finished >= one.end.count()));
  }
}

TEST_CASE("what is held up follows from beats and refreshes alone, by its definition", "[unit][memory]") {
  base::Rng rng(77);
  std::uint64_t stretches = 0, channels = 0;
  for (int i = 0; i < 60; ++i) {
    DramConfig config = memory::random_dram(rng);
    config.channels = 1;
    if (i % 3 == 0) {  // the channel is the lowest field of an address
      config = memory::dram_preset(rng.pick(memory::dram_preset_names()));
      config.channels = std::int64_t{1} << rng.below(3);
    }
    const Femtoseconds period(rng.range(300000, 3000000));
    const testing::Traffic traffic = bursts(rng, config.burst_bytes(), std::uint64_t{1} << rng.range(4, 10), 1500);
    DramMemory model(config, period);
    std::vector<std::vector<Refresh>> refreshes(static_cast<std::size_t>(config.channels));
    model.trace([&](const memory::DramCommand& c) {
      if (c.kind != memory::DramCommandKind::kRefresh) return;
      auto& of = refreshes[c.channel];
      of.push_back({static_cast<std::int64_t>(of.size() + 1) * config.timing.refi,
                    c.clock + config.timing.rfc + config.timing.rcd});
    });
    Watched watched(model);
    const testing::TrafficRun run = testing::drive(watched, traffic, rng.chance(1, 2));
    std::vector<memory::MemoryModel::Held> rest;
    model.take_held(rest);
    CHECK(rest.empty());
    CHECK(watched.late() == 0);

    std::vector<Stretch> expected;
    const std::int64_t data = config.timing.cl + config.burst_clocks();
    for (unsigned port = 0; port < 2; ++port) {
      std::int64_t before = 0;
      for (std::size_t b = 0; b < traffic[port].size(); ++b) {
        const testing::Done& done = run.ports[port][b];
        const auto channel = static_cast<std::size_t>(traffic[port][b].request.address /
                                                      static_cast<std::uint64_t>(config.burst_bytes())) %
                             refreshes.size();
        const std::int64_t arrival = model.to_dram(done.submitted);
        const Refresh* last = nullptr;
        for (const Refresh& refresh : refreshes[channel])
          if (model.to_core(refresh.readable + data) <= done.finished) last = &refresh;
        if (last != nullptr && arrival < last->readable && done.finished > before) {
          const std::int64_t begin = std::max(before, model.to_core(std::max(arrival, last->due) + data)),
                             end = std::min(done.finished, model.to_core(last->readable + data));
          if (begin < end) expected.emplace_back(port, begin, end);
        }
        before = done.finished;
      }
    }
    std::sort(watched.stretches.begin(), watched.stretches.end());
    std::sort(expected.begin(), expected.end());
    INFO(i << ": " << memory::dram_name(config) << ", core clock of " << period.count() << " fs");
    REQUIRE(watched.stretches == expected);
    stretches += expected.size();
    channels += expected.empty() ? 0 : refreshes.size();
  }
  CHECK(stretches > 200);
  CHECK(channels > 60);
}

TEST_CASE("a memory without refresh holds up nothing", "[unit][memory]") {
  const auto simple = memory::make_memory({}, Femtoseconds(1000000));
  std::vector<memory::MemoryModel::Held> held;
  CHECK(simple->take_held(held) == memory::MemoryModel::kNeverHeld);
  CHECK(held.empty());
}
