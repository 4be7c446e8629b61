// models/storage
#include "models/storage/storage_model.h"

#include <catch2/catch.hpp>

#include "base/error.h"
#include "base/rng.h"

using namespace moesaic;
using base::Bytes;
using base::Femtoseconds;
using Catch::Matchers::Contains;
using storage::Completion;
using storage::StorageConfig;

namespace {

constexpr std::int64_t kNs = 1000000;  // femtoseconds

/// 1 byte takes a nanosecond.
StorageConfig slow_link() { return {"nvme", "nvme-pcie5x4", Femtoseconds(5000 * kNs), 1000000000, 4, 64}; }

Femtoseconds ns(std::int64_t count) { return Femtoseconds(count * kNs); }

StorageConfig read(const std::string& text) {
  const base::YamlNode root = base::YamlNode::parse("storage: {" + text + "}\n", "chip.yaml");
  const StorageConfig config = storage::read_storage_config(root.at("storage"));
  root.finish();
  return config;
}

std::string refusal(const std::string& text) {
  try {
    read(text);
  } catch (const base::InputError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("a request finishes one latency after its last byte, rounded up to whole granules", "[unit][storage]") {
  const auto link = storage::make_storage(slow_link());
  REQUIRE(link->submit(7, Bytes(65), ns(100)));  // 128 bytes
  CHECK(link->next_change(ns(100)) == ns(100 + 128 + 5000));
  CHECK_FALSE(link->finished(ns(100 + 128 + 5000) - Femtoseconds(1)).has_value());
  CHECK(link->finished(ns(100 + 128 + 5000)) == Completion{7, ns(100 + 128 + 5000)});
  CHECK_FALSE(link->finished(ns(1000000)).has_value());
  CHECK_FALSE(link->next_change(ns(1000000)).has_value());
  CHECK(link->moved() == Bytes(128));
  // A rate that does not divide a second: rounded up to the femtosecond.
  StorageConfig third = slow_link();
  third.bytes_per_second = 3000000000;
  third.granularity_bytes = 1;
  const auto odd = storage::make_storage(third);
  REQUIRE(odd->submit(1, Bytes(1), ns(0)));
  CHECK(odd->next_change(ns(0)) == Femtoseconds(333334) + ns(5000));
}

TEST_CASE("requests share the bandwidth first come, first served, and their latencies overlap", "[unit][storage]") {
  const auto link = storage::make_storage(slow_link());
  for (std::uint64_t id = 0; id < 3; ++id) REQUIRE(link->submit(id, Bytes(640), ns(0)));
  for (std::int64_t id = 0; id < 3; ++id) {
    const Completion expected{static_cast<std::uint64_t>(id), ns(640 * (id + 1) + 5000)};
    CHECK(link->finished(ns(100000)) == expected);
  }
}

TEST_CASE("the queue refuses beyond its depth and takes again when a request completes", "[unit][storage]") {
  const auto link = storage::make_storage(slow_link());
  for (std::uint64_t id = 0; id < 4; ++id) REQUIRE(link->submit(id, Bytes(64), ns(0)));
  CHECK_FALSE(link->submit(4, Bytes(64), ns(0)));
  const Femtoseconds first = ns(64 + 5000);
  CHECK(link->next_change(ns(0)) == first);
  CHECK_FALSE(link->submit(4, Bytes(64), first - Femtoseconds(1)));
  CHECK(link->outstanding(first) == 3);
  CHECK(link->submit(4, Bytes(64), first));  // nobody has asked for the completion yet
  CHECK_FALSE(link->submit(5, Bytes(64), first));
  CHECK(link->finished(first) == Completion{0, first});
}

TEST_CASE("a stream moves the lesser of the bandwidth and what the queue can hold of a latency", "[unit][storage]") {
  for (const std::int64_t depth : {1, 2, 4, 16, 64}) {
    StorageConfig config = slow_link();
    config.queue_depth = depth;
    const auto link = storage::make_storage(config);
    const std::int64_t bytes = 1024, requests = 2000;
    Femtoseconds now(0);
    for (std::int64_t id = 0; id < requests;) {
      if (link->submit(static_cast<std::uint64_t>(id), Bytes(bytes), now)) {
        ++id;
        continue;
      }
      now = link->next_change(now).value();
      while (link->finished(now)) continue;
    }
    // The last request was taken when the one `depth` before it completed: behind a full link one transfer (1024 ns)
    // after the other; behind a link that waits, in rounds of `depth` requests, each a latency and a transfer (6024 ns)
    // after the last.
    const std::int64_t last = requests - 1 - depth;
    const std::int64_t full = (last + 1) * 1024 + 5000;
    const std::int64_t held = (last / depth) * (5000 + 1024) + (last % depth + 1) * 1024 + 5000;
    CHECK(now == ns(std::max(full, held)));
  }
}

TEST_CASE("completions do not depend on how often the link is asked", "[unit][storage]") {
  base::Rng rng(2);
  for (int i = 0; i < 50; ++i) {
    StorageConfig config = storage::storage_preset(rng.pick(storage::storage_preset_names()));
    config.queue_depth = rng.range(1, 20);
    const auto asked = storage::make_storage(config), left_alone = storage::make_storage(config);
    Femtoseconds now(0);
    std::vector<Completion> first, second;
    for (std::uint64_t id = 0; id < 200; ++id) {
      now += Femtoseconds(rng.range(0, 40000) * kNs);
      const Bytes bytes(rng.range(1, 300000));
      while (const auto done = asked->finished(now)) first.push_back(*done);
      const bool taken = asked->submit(id, bytes, now);
      REQUIRE(taken == left_alone->submit(id, bytes, now));
      asked->next_change(now);
    }
    const Femtoseconds end = now + Femtoseconds(std::int64_t{1} << 50);
    while (const auto done = asked->finished(end)) first.push_back(*done);
    while (const auto done = left_alone->finished(end)) second.push_back(*done);
    CHECK(first == second);
  }
}

TEST_CASE("every storage preset states its source, and a file may change its numbers", "[unit][storage]") {
  CHECK(storage::storage_preset_names() == std::vector<std::string>{"nvme-pcie3x4", "nvme-pcie4x4", "nvme-pcie5x4",
                                                                    "host-pcie3x16", "host-pcie4x16", "host-pcie5x16",
                                                                    "ufs4"});
  for (const std::string& name : storage::storage_preset_names()) {
    CHECK(storage::storage_preset_source(name).size() > 40);
    const StorageConfig config = storage::storage_preset(name);
    CHECK(read("kind: " + config.kind + ", preset: " + name) == config);
  }
  StorageConfig changed = storage::storage_preset("nvme-pcie4x4");
  changed.queue_depth = 8;
  changed.latency = ns(20000);
  CHECK(read("kind: nvme, preset: nvme-pcie4x4, queue_depth: 8, latency_ns: 20000") == changed);
  CHECK(storage::make_storage(changed)->name() ==
        "nvme(nvme-pcie4x4, latency 20000 ns, 6800000000 bytes/s, queue depth 8, granularity 4096 bytes)");
  CHECK(storage::describe_storage(changed) ==
        storage::make_storage(changed)->name() + ", loads take none of the memory's bandwidth");
  changed.dma_bytes = 256;
  CHECK(read("kind: nvme, preset: nvme-pcie4x4, queue_depth: 8, latency_ns: 20000, dma_bytes: 256") == changed);
  CHECK(storage::describe_storage(changed) ==
        storage::make_storage(changed)->name() + ", written to the memory in pieces of 256 bytes");
}

TEST_CASE("a storage that cannot be is refused with file, line and key", "[unit][bad_config][storage]") {
  const std::string nvme = "kind: nvme, preset: nvme-pcie4x4, ";
  CHECK_THAT(refusal(nvme + "queue_depth: 0"), Contains("chip.yaml:1: storage.queue_depth: got 0, expected"));
  CHECK_THAT(refusal(nvme + "bytes_per_second: 0"), Contains("chip.yaml:1: storage.bytes_per_second: got 0, expected"));
  CHECK_THAT(refusal(nvme + "granularity_bytes: 0"), Contains("storage.granularity_bytes: got 0, expected"));
  CHECK_THAT(refusal(nvme + "latency_ns: -1"), Contains("storage.latency_ns: got -1, expected"));
  CHECK_THAT(refusal(nvme + "dma_bytes: 0"), Contains("chip.yaml:1: storage.dma_bytes: got 0, expected"));
  CHECK_THAT(refusal(nvme + "dma_bytes: 2097152"), Contains("storage.dma_bytes: got 2097152, expected"));
  CHECK_THAT(refusal(nvme + "depth: 3"), Contains("chip.yaml:1: storage.depth: "));
  CHECK_THAT(refusal("kind: nvme, preset: ufs4"), Contains("storage.preset: got ufs4, expected"));
  CHECK_THAT(refusal("kind: tape, preset: ufs4"), Contains("storage.kind: got tape, expected"));
  CHECK_THAT(refusal("kind: ufs"), Contains("storage.preset: got nothing"));
}
