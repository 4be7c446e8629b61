// sim/program/refresh_waits
#include "sim/program/refresh_waits.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "base/rng.h"

using namespace moesaic;
using base::Cycles;
using program::Cause;
using program::MemoryPort;
using program::RefreshWaits;

namespace {

/// Says only what was held up, at the cycle at which it knows.
class Scripted final : public memory::MemoryModel {
 public:
  struct Line {
    Held held;
    std::int64_t known = 0;
  };
  std::string name() const override { return "scripted"; }
  bool submit(const memory::Request&, Cycles) override { return true; }
  std::int64_t finished(unsigned, bool, Cycles) override { return 0; }
  void take(unsigned, bool) override {}
  std::optional<Cycles> next_change(Cycles) override { return std::nullopt; }
  void reset() override {}
  Cycles take_held(std::vector<Held>& held) override {
    std::int64_t from = now;
    std::vector<Line> left;
    for (const Line& line : lines) {
      if (line.known <= now) {
        held.push_back(line.held);
      } else {
        left.push_back(line);
        from = std::min(from, line.held.begin.count());
      }
    }
    lines = left;
    return Cycles(from);
  }

  std::int64_t now = 0;
  std::vector<Line> lines;
};

/// Stretches of both ports up to `end`, each known some time before or after its end.
std::vector<Scripted::Line> draw_lines(base::Rng& rng, std::int64_t end, std::int64_t latest) {
  std::vector<Scripted::Line> lines;
  for (unsigned port = 0; port < 2; ++port)
    for (std::int64_t at = rng.range(0, 200); at + 400 < end; at += rng.range(1, 900)) {
      const std::int64_t begin = at;
      at += rng.range(1, 300);
      lines.push_back({{port, Cycles(begin), Cycles(at)}, std::min(latest, at + rng.range(-100, 60))});
    }
  return lines;
}

}  // namespace

TEST_CASE("of each port's waits those cycles are counted in which a refresh held it up, however late that is known",
          "[unit][program]") {
  base::Rng rng(5);
  std::uint64_t counted = 0;
  for (int round = 0; round < 60; ++round) {
    // Few and many, so that what has passed must be forgotten.
    const std::int64_t end = round % 6 == 0 ? 60000 : 5000;
    Scripted memory;
    memory.lines = draw_lines(rng, end, end);
    std::vector<std::vector<bool>> held(2, std::vector<bool>(static_cast<std::size_t>(end)));
    for (const auto& line : memory.lines)
      std::fill(held[line.held.port].begin() + line.held.begin.count(),
                held[line.held.port].begin() + line.held.end.count(), true);
    RefreshWaits waits(memory);
    REQUIRE_FALSE(waits.is_off());
    RefreshWaits::Counts expected{};
    std::vector<std::unique_ptr<std::vector<RefreshWaits::Wait>>> known;
    std::uint64_t now = 0;
    const auto pass = [&](MemoryPort port, std::uint64_t from, std::uint64_t to) {
      for (std::uint64_t cycle = from; cycle < to; ++cycle)
        expected[static_cast<std::size_t>(port)] += held[static_cast<std::size_t>(port)][cycle];
    };
    const auto limit = static_cast<std::uint64_t>(end) - 200;
    while (now < limit) {
      const auto port = rng.chance(1, 2) ? MemoryPort::kWeightRead : MemoryPort::kActivationRead;
      const std::uint64_t kind = rng.below(8);
      memory.now = static_cast<std::int64_t>(now + rng.below(3));  // may have been asked about what is to come
      if (kind == 0) {
        now += rng.below(40);  // computing
      } else if (kind == 1) {
        auto list = std::make_unique<std::vector<RefreshWaits::Wait>>();
        std::uint32_t at = static_cast<std::uint32_t>(rng.below(4));
        for (std::uint64_t left = 1 + rng.below(6); left > 0; --left) {
          const std::uint32_t stop = at + 1 + static_cast<std::uint32_t>(rng.below(20));
          list->push_back({at, stop, rng.chance(1, 2) ? MemoryPort::kWeightRead : MemoryPort::kActivationRead});
          pass(list->back().port, now + at, now + stop);
          at = stop + static_cast<std::uint32_t>(rng.below(10));
        }
        waits.passed(list->data(), list->size(), now);
        now += list->back().end;
        known.push_back(std::move(list));
      } else if (kind == 2 && rng.chance(1, 20)) {
        waits.detach();
        known.clear();
      } else {
        const std::uint64_t stop = now + 1 + rng.below(8);
        pass(port, now, stop);
        waits.passed(port, now, stop);
        now = stop;
      }
    }
    memory.now = end;
    INFO("round " << round);
    REQUIRE(waits.counts(static_cast<std::uint64_t>(end)) == expected);
    counted += expected[0] + expected[1];
  }
  CHECK(counted > 10000);
}

TEST_CASE("only waits for weights and activations can be a refresh's, and behind a memory without one none is",
          "[unit][program]") {
  CHECK(RefreshWaits::awaited(Cause::kWeights) == MemoryPort::kWeightRead);
  CHECK(RefreshWaits::awaited(Cause::kActivations) == MemoryPort::kActivationRead);
  for (const Cause cause : {Cause::kComputing, Cause::kResults, Cause::kDequantisation, Cause::kDrain, Cause::kIo,
                            Cause::kCommands, Cause::kHost})
    CHECK_FALSE(RefreshWaits::awaited(cause));
  const auto simple = memory::make_memory({}, base::Femtoseconds(1000000));
  RefreshWaits waits(*simple);
  CHECK(waits.is_off());
  waits.passed(MemoryPort::kWeightRead, 0, 100);
  CHECK(waits.counts(100) == RefreshWaits::Counts{});
}

TEST_CASE("a phase that ends while a beat is held up is an error of the engine", "[unit][program]") {
  Scripted memory;
  memory.lines.push_back({{0, Cycles(10), Cycles(30)}, 0});
  RefreshWaits waits(memory);
  waits.passed(MemoryPort::kWeightRead, 0, 20);
  CHECK_THROWS_AS(waits.counts(20), std::logic_error);
}
