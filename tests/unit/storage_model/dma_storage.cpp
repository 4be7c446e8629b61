#include "models/storage/dma_storage.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "models/storage/storage_device.h"

using namespace moesaic;
using base::Bytes;
using base::Cycles;
using storage::CoreStorage;
using storage::DmaStorage;

namespace {

struct Beat {
  std::int64_t cycle;
  std::uint64_t address;
  std::int64_t bytes;
};
bool operator==(const Beat& a, const Beat& b) {
  return a.cycle == b.cycle && a.address == b.address && a.bytes == b.bytes;
}
std::ostream& operator<<(std::ostream& out, const Beat& beat) {
  return out << beat.bytes << " bytes at " << beat.address << " in cycle " << beat.cycle;
}

/// Takes up to `most` beats in every `every` cycles.
class NarrowMemory final : public memory::MemoryModel {
 public:
  NarrowMemory(std::int64_t most, std::int64_t every) : most_(most), every_(every) {}
  const std::vector<Beat>& beats() const { return beats_; }

  std::string name() const override { return "narrow"; }
  bool submit(const memory::Request& request, Cycles now) override {
    CHECK(request.port == DmaStorage::kPort);
    CHECK(request.is_write);
    CHECK(request.posted);
    const std::int64_t turn = now.count() / every_;
    if (turn != turn_) taken_ = 0;
    turn_ = turn;
    if (taken_ == most_) return false;
    ++taken_;
    beats_.push_back({now.count(), request.address, request.bytes.count()});
    return true;
  }
  std::int64_t finished(unsigned, bool, Cycles) override { return 0; }
  void take(unsigned, bool) override {}
  std::optional<Cycles> next_change(Cycles now) override {
    return Cycles((now.count() / every_ + 1) * every_);  // when a refused beat may be taken
  }
  void reset() override {}

 private:
  std::int64_t most_, every_, turn_ = -1, taken_ = 0;
  std::vector<Beat> beats_;
};

storage::SimpleStorageConfig simple(std::int64_t latency, std::int64_t bytes_per_cycle) {
  storage::SimpleStorageConfig config;
  config.latency_cycles = latency;
  config.bytes_per_cycle = bytes_per_cycle;
  return config;
}

std::unique_ptr<CoreStorage> simple_dma(const storage::SimpleStorageConfig& config, memory::MemoryModel& memory,
                                        std::int64_t piece) {
  return storage::through_memory(std::make_unique<storage::SimpleStorage>(config), memory, piece, 16);
}

std::unique_ptr<CoreStorage> draw_inner(base::Rng& rng) {
  if (rng.chance(1, 2)) {
    storage::SimpleStorageConfig config = simple(rng.range(1, 300), rng.range(1, 40));
    config.queue_depth = rng.range(1, 6);
    config.spread_cycles = rng.chance(1, 2) ? rng.range(1, 400) : 0;
    config.seed = rng.next();
    return std::make_unique<storage::SimpleStorage>(config);
  }
  storage::StorageConfig config = storage::storage_preset(rng.pick(storage::storage_preset_names()));
  config.latency = base::Femtoseconds(rng.range(0, 900000000));
  config.bytes_per_second = rng.range(1000000000, 60000000000);
  config.queue_depth = rng.range(1, 6);
  return std::make_unique<storage::StorageDevice>(storage::make_storage(config),
                                                  base::Femtoseconds(rng.range(300000, 2500000)));
}

}  // namespace

TEST_CASE("a load's bytes are written piece by piece, in the cycle in which each has come through", "[unit][storage]") {
  NarrowMemory memory(1000, 1);
  const auto storage = simple_dma(simple(10, 4), memory, 64);
  REQUIRE(storage->submit({5, 0, 0x1004, Bytes(100)}, Cycles(3)));
  CHECK(storage->next_change(Cycles(3)) == Cycles(3 + 16 + 10));
  for (std::int64_t now = 4; now < 100; ++now) {
    storage->advance(Cycles(now));
    CHECK(storage->finished(Cycles(now)).has_value() == (now >= 3 + 25 + 10));
  }
  CHECK(memory.beats() == std::vector<Beat>{{29, 0x1004, 12},
                                            {29, 0x1010, 16},
                                            {29, 0x1020, 16},
                                            {29, 0x1030, 16},
                                            {29, 0x1040, 4},
                                            {38, 0x1044, 12},
                                            {38, 0x1050, 16},
                                            {38, 0x1060, 8}});
  CHECK(storage->finished(Cycles(99)) == 5U);
  storage->take(5);
  CHECK_FALSE(storage->finished(Cycles(99)).has_value());
  CHECK_FALSE(storage->next_change(Cycles(99)).has_value());
}

TEST_CASE("a load is done when the memory has taken its last beat, and those behind it wait for that",
          "[unit][storage]") {
  NarrowMemory memory(1, 50);
  const auto storage = simple_dma(simple(1, 64), memory, 64);
  REQUIRE(storage->submit({1, 0, 0, Bytes(64)}, Cycles(0)));
  REQUIRE(storage->submit({2, 0, 256, Bytes(16)}, Cycles(0)));
  std::vector<std::pair<std::int64_t, unsigned>> done;
  for (std::int64_t now = 1; now < 400; ++now) {
    storage->advance(Cycles(now));
    CHECK(storage->waits_for_memory() == (now >= 2 && now < 200));
    if (const auto id = storage->finished(Cycles(now))) {
      done.emplace_back(now, *id);
      storage->take(*id);
    }
  }
  CHECK(memory.beats() == std::vector<Beat>{{2, 0, 16}, {50, 16, 16}, {100, 32, 16}, {150, 48, 16}, {200, 256, 16}});
  CHECK(done == std::vector<std::pair<std::int64_t, unsigned>>{{150, 1}, {200, 2}});
}

TEST_CASE("what is written, and when, does not depend on how often the storage is asked", "[unit][storage]") {
  base::Rng rng(41);
  std::size_t beats = 0, refused = 0;
  for (int i = 0; i < 200; ++i) {
    const base::Rng inner_rng(rng.next());
    const std::int64_t most = rng.range(1, 20), every = rng.range(1, 60), piece = rng.range(64, 5000);
    NarrowMemory memories[2] = {{most, every}, {most, every}};
    std::vector<std::pair<std::int64_t, unsigned>> done[2];
    std::vector<std::pair<std::int64_t, Bytes>> requests;
    std::int64_t at = 0, bytes = 0;
    for (int r = 0; r < 12; ++r) requests.emplace_back(at += rng.range(0, 400), Bytes(rng.range(1, 9000)));
    for (const auto& [cycle, size] : requests) bytes += size.count();
    for (const bool always : {false, true}) {
      base::Rng draws = inner_rng;
      const auto storage = storage::through_memory(draw_inner(draws), memories[always], piece, 32);
      std::size_t next = 0;
      std::uint64_t address = 7;
      for (std::int64_t now = 0; done[always].size() != requests.size(); ++now) {
        REQUIRE(now < 10000000);
        const auto change = now == 0 ? std::nullopt : storage->next_change(Cycles(now - 1));
        const bool asked = next < requests.size() && requests[next].first <= now;
        if (!always && !asked && (!change || change->count() > now)) continue;
        storage->advance(Cycles(now));
        refused += storage->waits_for_memory();
        while (const auto id = storage->finished(Cycles(now))) {
          done[always].emplace_back(now, *id);
          storage->take(*id);
        }
        if (!asked || !storage->submit({static_cast<unsigned>(next), 0, address, requests[next].second}, Cycles(now)))
          continue;
        address += static_cast<std::uint64_t>(requests[next++].second.count());
      }
    }
    REQUIRE(done[0] == done[1]);
    REQUIRE(memories[0].beats() == memories[1].beats());
    // Every byte once, in order.
    std::uint64_t address = 7;
    for (const Beat& beat : memories[0].beats()) {
      REQUIRE(beat.address == address);
      REQUIRE((beat.address % 32 + static_cast<std::uint64_t>(beat.bytes)) <= 32);
      address += static_cast<std::uint64_t>(beat.bytes);
    }
    REQUIRE(address == 7 + static_cast<std::uint64_t>(bytes));
    beats += memories[0].beats().size();
  }
  CHECK(beats > 100000);
  CHECK(refused > 10000);
}

TEST_CASE("bytes come through after they were asked for, in order, and all before the request is done",
          "[unit][storage]") {
  base::Rng rng(42);
  for (int i = 0; i < 300; ++i) {
    const auto storage = draw_inner(rng);
    const Cycles now(rng.range(0, 1000));
    const std::int64_t bytes = rng.range(1, 100000);
    REQUIRE(storage->submit({0, 0, 0, Bytes(bytes)}, now));
    const CoreStorage::Arrival arrival = storage->arrival();
    Cycles last = now;
    for (std::int64_t part = 1; part < bytes; part += 1 + bytes / 10) {
      REQUIRE(arrival(Bytes(part)) >= last);
      last = arrival(Bytes(part));
    }
    REQUIRE(arrival(Bytes(1)) > now);
    REQUIRE(arrival(Bytes(bytes)) >= last);
    REQUIRE_FALSE(storage->finished(arrival(Bytes(bytes)) - Cycles(1)).has_value());
  }
}
