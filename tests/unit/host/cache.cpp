// models/host: what is stored, where it lies, what leaves first.
#include <catch2/catch.hpp>
#include <map>

#include "base/rng.h"
#include "models/host/expert_cache.h"
#include "models/host/replay.h"

using namespace moesaic;
using base::Bytes;
using host::Evicted;
using host::ExpertBytes;
using host::ExpertCache;
using host::StoredExpert;
using host::UnitSpace;

namespace {

numerics::StoredLayout layout(const char* format, numerics::LayoutKind kind) {
  return numerics::stored_layout(numerics::Format::parse(format, "test", "format"), numerics::expert_shapes(96, 40, 32),
                                 {kind, 16, 16});
}

host::StoredExpert by_planes(std::initializer_list<std::int64_t> sizes) {
  host::StoredExpert kind;
  kind.by_planes = true;
  for (const std::int64_t bytes : sizes) {
    kind.units.push_back({kind.total, Bytes(bytes)});
    kind.total += Bytes(bytes);
  }
  kind.planes_read = static_cast<int>(sizes.size()) - 1;
  return kind;
}

std::unique_ptr<host::EvictionPolicy> policy(const std::string& name, const UnitSpace& space,
                                             std::vector<std::uint64_t> popularity = {}) {
  return host::eviction_policies().at(name, "test", "policy").make({space, std::move(popularity)});
}

std::vector<std::uint32_t> units(const std::vector<Evicted>& evicted) {
  std::vector<std::uint32_t> numbers;
  for (const Evicted& gone : evicted) numbers.push_back(gone.unit);
  return numbers;
}

void load(ExpertCache& cache, std::uint32_t unit, std::uint64_t next_use = host::kNeverUsed) {
  std::vector<Evicted> evicted;
  cache.use(unit, next_use);
  if (!cache.resident(unit)) REQUIRE(cache.insert(unit, evicted));
}

}  // namespace

TEST_CASE("the units of a stored expert are the bytes of its layout, each once, but for the planes' padding",
          "[unit][host]") {
  for (const char* format : {"int3", "int4", "nested4", "binary", "ternary", "mwq2+1of3"}) {
    const auto planes = layout(format, numerics::LayoutKind::kPlaneMajor);
    const host::StoredExpert expert = host::stored_expert(planes);
    CHECK(expert.units.size() == static_cast<std::size_t>(planes.format().stored_planes()) + 1);
    std::map<std::int64_t, std::int64_t> spans;
    for (const host::UnitSpan& unit : expert.units) spans[unit.offset.count()] = unit.bytes.count();
    std::int64_t end = 0;
    for (const auto& [offset, bytes] : spans) {
      CHECK(offset == (bytes == expert.units[0].bytes.count() ? base::round_up(end, 64) : end));  // planes are padded
      end = offset + bytes;
    }
    CHECK(end == planes.total_bytes());
    for (int rank = 1; rank <= planes.format().stored_planes(); ++rank) {
      const numerics::Segment first = planes.plane(0, 0, 0, 0, 0, rank);
      CHECK(expert.units[static_cast<std::size_t>(rank)].offset == Bytes(first.offset));
    }
    CHECK(expert.units[0].offset == Bytes(planes.params_offset(0)));
    for (const numerics::LayoutKind kind : {numerics::LayoutKind::kTileMajor, numerics::LayoutKind::kInterleaved}) {
      const numerics::StoredLayout whole = layout(format, kind);
      const host::StoredExpert one = host::stored_expert(whole);
      REQUIRE(one.units.size() == 1);
      CHECK(one.units[0].bytes == Bytes(whole.total_bytes()));
      CHECK_FALSE(one.by_planes);
    }
  }
  const auto three = host::stored_expert(layout("int3", numerics::LayoutKind::kPlaneMajor));
  const auto four = host::stored_expert(layout("int4", numerics::LayoutKind::kPlaneMajor));
  CHECK(three.bytes_read(0) < four.bytes_read(0));
  const auto nested = host::stored_expert(layout("nested4", numerics::LayoutKind::kPlaneMajor));
  CHECK(nested.units_read(0) == 5);
  CHECK(nested.bytes_read(0) == nested.bytes_read(4));
  CHECK(nested.bytes_read(8) == nested.total);
  CHECK_THROWS_AS(nested.units_read(9), std::logic_error);
}

TEST_CASE("pieces of a space never overlap, never leave it, and all its bytes come back", "[unit][host]") {
  base::Rng rng(3);
  constexpr std::uint64_t kBase = 1 << 20;
  host::ByteSpace space(kBase, Bytes(64 * 100 + 63));
  CHECK(space.capacity() == Bytes(6400));
  std::map<std::uint64_t, std::int64_t> pieces;  // address -> bytes asked for
  std::int64_t refused = 0;
  for (int round = 0; round < 20000; ++round) {
    if (rng.chance(1, 2)) {
      const std::int64_t bytes = rng.range(1, 900);
      const auto address = space.allocate(Bytes(bytes));
      if (!address) {
        ++refused;
        CHECK(space.largest_hole() < Bytes(base::round_up(bytes, 64)));
        continue;
      }
      CHECK(*address % 64 == 0);
      CHECK(*address >= kBase);
      CHECK(*address + static_cast<std::uint64_t>(base::round_up(bytes, 64)) <= kBase + 6400);
      const auto after = pieces.lower_bound(*address);
      if (after != pieces.end()) CHECK(*address + static_cast<std::uint64_t>(bytes) <= after->first);
      if (after != pieces.begin()) {
        const auto before = std::prev(after);
        CHECK(before->first + static_cast<std::uint64_t>(before->second) <= *address);
      }
      pieces[*address] = bytes;
    } else if (!pieces.empty()) {
      const auto piece = std::next(pieces.begin(), static_cast<std::ptrdiff_t>(rng.below(pieces.size())));
      space.release(piece->first, Bytes(piece->second));
      pieces.erase(piece);
    }
  }
  CHECK(refused > 100);
  for (const auto& [address, bytes] : pieces) space.release(address, Bytes(bytes));
  CHECK(space.free_bytes() == Bytes(6400));
  CHECK(space.largest_hole() == Bytes(6400));
  CHECK_THROWS_AS(space.release(kBase, Bytes(64)), std::logic_error);
}

TEST_CASE("a piece goes into the smallest hole that holds it", "[unit][host]") {
  host::ByteSpace space(0, Bytes(64 * 10));
  std::vector<std::uint64_t> at;
  for (const std::int64_t blocks : {3, 1, 2, 1, 3}) at.push_back(*space.allocate(Bytes(64 * blocks)));
  space.release(at[0], Bytes(192));
  space.release(at[2], Bytes(128));
  CHECK(space.allocate(Bytes(100)) == at[2]);
  CHECK(space.allocate(Bytes(64)) == at[0]);
  CHECK_FALSE(space.allocate(Bytes(192)).has_value());
}

TEST_CASE("lru, lfu, belady and pinned each give up the unit that its rule says, ties as stated", "[unit][host]") {
  const UnitSpace space{1, 6, 1};
  const ExpertBytes bytes(1, 6, host::whole_expert(Bytes(1)));
  std::vector<Evicted> gone;
  ExpertCache lru(bytes, 0, space, Bytes(3), policy("lru", space));
  for (const std::uint32_t unit : {0, 1, 2, 0, 1}) load(lru, unit);
  REQUIRE(lru.insert(3, gone));
  CHECK(units(gone) == std::vector<std::uint32_t>{2});

  gone.clear();
  ExpertCache lfu(bytes, 0, space, Bytes(3), policy("lfu", space));
  for (const std::uint32_t unit : {0, 0, 0, 1, 2, 1, 2}) load(lfu, unit);  // 1 and 2 twice each, 1 longer ago
  lfu.use(3, 0);
  REQUIRE(lfu.insert(3, gone));
  CHECK(units(gone) == std::vector<std::uint32_t>{1});
  gone.clear();
  lfu.use(1, 0);  // its uses count on while it is away: three against one of unit 3
  REQUIRE(lfu.insert(1, gone));
  CHECK(units(gone) == std::vector<std::uint32_t>{3});

  gone.clear();
  ExpertCache belady(bytes, 0, space, Bytes(3), policy("belady", space));
  load(belady, 0, 10);
  load(belady, 1, 30);
  load(belady, 2, 20);
  REQUIRE(belady.insert(3, gone));
  CHECK(units(gone) == std::vector<std::uint32_t>{1});

  gone.clear();
  ExpertCache pinned(bytes, 0, space, Bytes(3), policy("pinned", space, {5, 9, 5, 1, 7, 0}));
  for (const std::uint32_t unit : {0, 1, 2}) load(pinned, unit);
  REQUIRE(pinned.insert(4, gone));
  CHECK(units(gone) == std::vector<std::uint32_t>{2});  // as popular as 0, the higher number
  REQUIRE(pinned.insert(3, gone));
  REQUIRE(pinned.insert(5, gone));
  CHECK(units(gone) == std::vector<std::uint32_t>{2, 0, 3});
  CHECK_THROWS_AS(policy("pinned", space, {1, 2}), std::logic_error);
}

TEST_CASE("planes gives up the previous layer's least significant planes first and its first plane last",
          "[unit][host]") {
  const UnitSpace space{3, 2, 3};  // parameters and two planes
  const ExpertBytes bytes(3, 2, by_planes({1, 1, 1}));
  ExpertCache cache(bytes, 0, space, Bytes(12), policy("planes", space));
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    cache.layer_begins(layer);
    for (std::uint32_t expert = 0; expert < 2; ++expert)
      for (std::uint32_t unit = 3; unit-- > 0;) load(cache, space.number(layer, expert, unit));
  }
  cache.layer_begins(2);
  std::vector<Evicted> gone;
  for (std::uint32_t expert = 0; expert < 2; ++expert)
    for (std::uint32_t unit = 0; unit < 3; ++unit) {
      cache.use(space.number(2, expert, unit), 0);
      REQUIRE(cache.insert(space.number(2, expert, unit), gone));
    }
  // Layer 1 ran last: its second planes, then its first, then its parameters; the older use first among equals.
  std::vector<std::uint32_t> expected;
  for (const std::uint32_t unit : {2, 1, 0})
    for (const std::uint32_t expert : {0, 1}) expected.push_back(space.number(1, expert, unit));
  CHECK(units(gone) == expected);
  gone.clear();
  REQUIRE(cache.insert(space.number(1, 0, 1), gone));  // then layer 0's
  CHECK(units(gone) == std::vector<std::uint32_t>{space.number(0, 0, 2)});
}

TEST_CASE("lru gives up the least significant plane of an expert before its first", "[unit][host]") {
  host::ReplayTrace trace(1, 3);
  for (const std::uint32_t expert : {0U, 1U}) trace.add(0, {{expert, 0, 1, 0}}, false, 0);
  trace.add(0, {{0, 2, 1, 0}}, false, 0);  // two of three planes: still there
  const ExpertBytes bytes(1, 3, by_planes({1, 1, 1, 1}));
  const auto result = host::replay(trace, bytes, {}, {{"lru", Bytes(7)}}, "test")[0].total();
  CHECK(result.loaded == Bytes(8));
  CHECK(result.hits == 1);
}

TEST_CASE("units of one room come in order, take its bytes once, and leave together", "[unit][host]") {
  StoredExpert kind = by_planes({100, 640, 640});
  kind.room = Bytes(1400);
  const ExpertBytes bytes(1, 3, kind);
  const UnitSpace space{1, 3, 3};
  ExpertCache cache(bytes, 0, space, Bytes(2900), policy("lru", space));
  cache.give_addresses(0);
  std::vector<Evicted> gone;
  CHECK_THROWS_WITH(cache.insert(1, gone), "ExpertCache: insert of a unit without its room");
  for (const std::uint32_t expert : {0U, 1U}) {
    cache.use(space.number(0, expert, 0), host::kNeverUsed);
    REQUIRE(cache.insert(space.number(0, expert, 0), gone));
    REQUIRE(cache.insert(space.number(0, expert, 1), gone));
  }
  CHECK(cache.used_bytes() == Bytes(2 * 1408));
  CHECK(cache.address_of(4) == cache.address_of(3));
  CHECK(cache.resident(1));
  CHECK_FALSE(cache.resident(2));
  REQUIRE(cache.insert(2, gone));  // there is room for it already
  CHECK(cache.used_bytes() == Bytes(2 * 1408));
  CHECK_THROWS_WITH(cache.drop(2, gone), Catch::Contains("in a room of others"));
  cache.hold(1);  // holds the room, though expert 0 was used longer ago
  CHECK(gone.empty());
  REQUIRE(cache.insert(6, gone));
  REQUIRE(gone.size() == 1);
  CHECK(gone[0].unit == 3);
  CHECK_FALSE(cache.resident(4));
  CHECK(cache.resident(2));
  cache.hold(6);
  CHECK_FALSE(cache.insert(3, gone));
  cache.release(1);
  REQUIRE(cache.insert(3, gone));
  CHECK(gone.back().unit == 0);
  for (const std::uint32_t unit : {0U, 1U, 2U}) CHECK_FALSE(cache.resident(unit));
  CHECK(cache.used_bytes() == Bytes(2 * 1408));
}

TEST_CASE("no policy ever holds more bytes than the capacity or gives up a held unit", "[unit][host]") {
  base::Rng rng(4);
  const UnitSpace space{3, 8, 4};
  const ExpertBytes bytes(3, 8, by_planes({100, 640, 700, 830}));
  for (const std::string& name : host::eviction_policies().names())
    for (const bool addresses : {false, true}) {
      CAPTURE(name, addresses);
      std::vector<std::uint64_t> popularity(24);
      for (auto& p : popularity) p = rng.below(10);
      ExpertCache cache(bytes, 0, space, Bytes(9000), policy(name, space, popularity));
      if (addresses) cache.give_addresses(4096);
      std::map<std::uint32_t, int> held;
      std::int64_t inserted = 0, left = 0;
      for (int round = 0; round < 4000; ++round) {
        const auto unit = static_cast<std::uint32_t>(rng.below(space.units()));
        if (rng.chance(1, 10)) cache.layer_begins(space.layer_of(unit));
        cache.use(unit, rng.below(1000));
        std::vector<Evicted> gone;
        if (!cache.resident(unit) && cache.insert(unit, gone)) inserted += cache.bytes_of(unit).count();
        for (const Evicted& e : gone) {
          CHECK(held[e.unit] == 0);
          CHECK_FALSE(cache.resident(e.unit));
          left += cache.bytes_of(e.unit).count();
        }
        REQUIRE(cache.used_bytes() <= cache.capacity());
        REQUIRE(cache.used_bytes() == Bytes(inserted - left));
        if (cache.resident(unit) && rng.chance(1, 4)) {
          cache.hold(unit);
          ++held[unit];
        }
        for (auto& [other, holds] : held)
          if (holds > 0 && rng.chance(1, 3)) {
            cache.release(other);
            --holds;
          }
      }
      CHECK(left > 100000);
      if (addresses) CHECK(cache.fragmentation_evictions() > 0);
    }
}

TEST_CASE("a cache of one request serves every step, plane by plane, and never loads more than was asked for",
          "[unit][host]") {
  base::Rng rng(9);
  const ExpertBytes bytes(2, 6, by_planes({100, 300, 310, 320}));
  host::ReplayTrace trace(2, 6);
  for (std::uint64_t t = 0; t < 300; ++t)
    for (std::uint32_t layer = 0; layer < 2; ++layer) {
      std::vector<std::uint32_t> experts = {0, 1, 2, 3, 4, 5};
      rng.shuffle(experts);
      std::vector<host::Need> needs;
      for (std::size_t i = 0; i < 4; ++i) needs.push_back({experts[i], static_cast<int>(rng.range(1, 3)), 1, 0});
      trace.add(layer, needs, layer > 0, t);
    }
  REQUIRE(host::largest_request(trace, bytes) == Bytes(1030));
  for (const host::Access access : {host::Access::kSequence, host::Access::kSet})
    for (const host::Scope scope : {host::Scope::kLayer, host::Scope::kGlobal})
      for (const char* prefetch : {"none", "perfect"})
        for (const std::int64_t capacity : {1030, 1500, 2500}) {
          host::ReplayConfig config;
          config.access = access;
          config.scope = scope;
          config.prefetch.kind = prefetch;
          std::vector<host::ReplayCase> cases;
          for (const std::string& name : host::eviction_policies().names()) cases.push_back({name, Bytes(capacity)});
          for (const host::ReplayResult& result : host::replay(trace, bytes, config, cases, "test")) {
            const host::ReplayCounts all = result.total();
            CHECK(all.requests == 2400);
            CHECK(all.loaded <= all.requested);
            CHECK(all.loaded > Bytes(0));
            CHECK(all.wasted <= all.prefetched);
            CHECK((all.prefetched > Bytes(0)) == (config.prefetch.kind == "perfect"));
          }
        }
}
