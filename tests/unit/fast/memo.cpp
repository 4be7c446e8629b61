// sim/fast/memo: what the fast engine remembers.
#include "sim/fast/memo.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

using namespace moesaic;
using namespace moesaic::fast;

namespace {

template <class T, class Count>
std::vector<T> list(const T* from, Count count) {
  return std::vector<T>(from, from + count);
}

struct Given {
  std::uint32_t cycles = 0, still = 0;
  std::vector<Taken> taken;
  std::vector<Item> items;
  std::vector<Asked> asked;
  std::vector<program::RefreshWaits::Wait> waits;
  std::vector<std::uint32_t> begins, ends;
  std::uint16_t beats = 0;
  std::uint64_t array_begin = 0, array_end = 0;
  bool reads_wait = false;
};

Round* make_round(const Given& given, State& next, Place& place, Arena& arena) {
  Outcome& outcome = *arena.make<Outcome>();
  outcome.next = &next;
  outcome.cycles = given.cycles;
  outcome.still = given.still;
  outcome.num_taken = static_cast<std::uint8_t>(given.taken.size());
  outcome.taken = arena.copy(given.taken);
  outcome.num_items = static_cast<std::uint16_t>(given.items.size());
  outcome.items = arena.copy(given.items);
  outcome.num_asked = static_cast<std::uint8_t>(given.asked.size());
  outcome.asked = arena.copy(given.asked);
  outcome.num_waits = static_cast<std::uint16_t>(given.waits.size());
  outcome.waits = arena.copy(given.waits);
  outcome.num_begins = static_cast<std::uint32_t>(given.begins.size());
  outcome.tile_begins = arena.copy(given.begins);
  outcome.num_ends = static_cast<std::uint32_t>(given.ends.size());
  outcome.tile_ends = arena.copy(given.ends);
  outcome.beats.fill(given.beats);
  outcome.work.array = {given.array_begin, given.array_end};
  Counts counts;
  counts.activity[2][1] = given.cycles;
  counts.causes[3] = given.still;
  outcome.counts = keep_counts(counts, arena);
  Round& round = *arena.make<Round>();
  round.outcome = &outcome;
  round.next = &place;
  std::vector<memory::Recurring::Pattern> patterns(given.asked.size());
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i].exact = given.cycles + i;
  round.patterns = arena.copy(patterns);
  round.stretch.waits = given.reads_wait;
  return &round;
}

}  // namespace

TEST_CASE("rounds put together are one behind the other", "[unit][fast]") {
  using Port = program::MemoryPort;
  Arena arena, places;
  State last_state;
  Place last_place, middle_place;
  Given first;
  first.cycles = 30;
  first.still = 4;
  first.taken = {{Feed::kSegment, 2}, {Feed::kLoadTile, 1}};
  first.items = {11, 12, 13};
  first.asked = {{64, 0, 16, Feed::kSegment}};
  first.waits = {{3, 7, Port::kWeightRead}};
  first.begins = {5};
  first.ends = {9, 29};
  first.beats = 200;
  first.array_begin = 2;
  first.array_end = 20;
  first.reads_wait = true;
  Given second = first;
  second.cycles = 40;
  second.taken = {{Feed::kSegment, 1}, {Feed::kSequenceTile, 1}};
  second.items = {21, 22};
  second.asked = {{0, 1, 8, Feed::kSegment}, {32, 0, 4, Feed::kLoadTile}};
  second.still = 41;  // all of it
  second.waits = {{0, 2, Port::kActivationRead}, {4, 6, Port::kWeightRead}};
  second.reads_wait = false;
  const std::vector<const Round*> rounds = {make_round(first, last_state, middle_place, arena),
                                            make_round(second, last_state, last_place, arena)};
  const std::string what = "changed";
  const Round* const chain = put_together(rounds, {what, false, false, {}}, arena, places);
  REQUIRE(chain != nullptr);
  CHECK(chain->next == &last_place);
  CHECK(chain->refresh == kNoRefresh);
  CHECK(chain->stretch.what == what);
  CHECK(chain->stretch.waits);  // how far the first reads on matters
  const Outcome& all = *chain->outcome;
  CHECK(all.next == &last_state);
  CHECK(all.cycles == 70);
  CHECK(all.still == 44);
  CHECK(list(all.items, all.num_items) == std::vector<Item>{11, 12, 21, 13, 22});
  REQUIRE(all.num_taken == 3);
  CHECK((all.taken[0].feed == Feed::kSegment && all.taken[0].count == 3));
  CHECK((all.taken[1].feed == Feed::kLoadTile && all.taken[1].count == 1));
  CHECK((all.taken[2].feed == Feed::kSequenceTile && all.taken[2].count == 1));
  REQUIRE(all.num_asked == 3);
  CHECK((all.asked[0].item == 0 && all.asked[0].offset == 64 && all.asked[0].beats == 16));
  CHECK((all.asked[1].item == 3 && all.asked[1].offset == 0 && all.asked[1].beats == 8));
  CHECK((all.asked[2].item == 1 && all.asked[2].feed == Feed::kLoadTile));
  CHECK((chain->patterns[0].exact == 30 && chain->patterns[1].exact == 40 && chain->patterns[2].exact == 41));
  REQUIRE(all.num_waits == 3);
  CHECK((all.waits[0].begin == 3 && all.waits[0].end == 7));
  CHECK((all.waits[1].begin == 30 && all.waits[1].end == 32 && all.waits[1].port == Port::kActivationRead));
  CHECK((all.waits[2].begin == 34 && all.waits[2].end == 36 && all.waits[2].port == Port::kWeightRead));
  CHECK(list(all.tile_begins, all.num_begins) == std::vector<std::uint32_t>{5, 35});
  CHECK(list(all.tile_ends, all.num_ends) == std::vector<std::uint32_t>{9, 29, 39, 59});
  CHECK(all.beats[0] == 400);
  CHECK((all.work.array.begin == 2 && all.work.array.end == 50));
  const Counts counts = read_counts(all.counts);
  CHECK(counts.activity[2][1] == 70);
  CHECK(counts.causes[3] == 45);
}

TEST_CASE("of rounds put together the last end where bursts were joined is known, if it is not the last of all",
          "[unit][fast]") {
  Arena arena, places;
  State state;
  Place place;
  Given given;
  given.cycles = 30;
  given.asked = {{0, 0, 16, Feed::kSegment}};
  const auto chain_of = [&](const std::vector<bool>& joins) {
    std::vector<const Round*> rounds;
    for (const bool joined : joins) {
      Round* const round = make_round(given, state, place, arena);
      round->outcome->segments = 3;
      round->outcome->joins = joined;
      rounds.push_back(round);
    }
    const Round* const chain = put_together(rounds, {"", false, false, {}}, arena, places);
    REQUIRE(chain != nullptr);
    CHECK(chain->outcome->segments == 3 * joins.size());
    CHECK(chain->outcome->joins == joins.back());
    return chain->outcome->joined;
  };
  CHECK(chain_of({false, false}) == Outcome::kNotJoined);
  CHECK(chain_of({true, false, true}) == Outcome::kNotJoined);
  CHECK(chain_of({true, true, false}) == 6);
  CHECK(chain_of({true, false, false}) == 3);
}

TEST_CASE("a stocked outcome is kept without the beats that came, and has a variant with each that come",
          "[unit][fast]") {
  constexpr auto kReader = static_cast<std::size_t>(program::Block::kWeightReader);
  Arena arena;
  State next, other;
  Outcome outcome;
  Counts counts;
  counts.activity[kReader][1] = 20;  // busy
  counts.activity[kReader][3] = 10;  // blocked
  outcome.cycles = 30;
  outcome.counts = keep_counts(counts, arena);
  outcome.beats[0] = 9;
  outcome.still = 2;
  Stock stock;
  stock.works[0] = 0b1010;
  outcome.stock = &stock;
  const std::vector<fast::LegCycle> beats{0, 1, 2, 3, 70};
  CHECK(stock.count_others(beats) == 3);
  leave_out_beats(outcome, {9, 3, 31}, arena);
  CHECK(outcome.beats[0] == 0);
  CHECK(outcome.still == 31);
  CHECK(read_counts(outcome.counts).activity[kReader][1] == 17);
  CHECK(read_counts(outcome.counts).activity[kReader][3] == 13);
  const Outcome& variant = with_beats(outcome, {5, 4, 1}, &next, arena);
  CHECK(variant.next == &next);
  CHECK(variant.stock == nullptr);
  CHECK(variant.beats[0] == 5);
  CHECK(variant.still == 1);
  CHECK(read_counts(variant.counts).activity[kReader][1] == 21);
  CHECK(read_counts(variant.counts).activity[kReader][3] == 9);
  CHECK(&with_beats(outcome, {5, 4, 1}, &next, arena) == &variant);
  for (const Came& came : {Came{6, 4, 1}, Came{5, 3, 1}, Came{5, 4, 2}})
    CHECK(&with_beats(outcome, came, &next, arena) != &variant);
  CHECK(&with_beats(outcome, {5, 4, 1}, &other, arena) != &variant);
}

TEST_CASE("rounds of which the agent hears, with a refresh or with closed rows are not linked", "[unit][fast]") {
  Arena arena;
  State state;
  Place place;
  Given given;
  given.cycles = 30;
  given.asked = {{0, 0, 16, Feed::kSegment}};
  CHECK(may_link(*make_round(given, state, place, arena)));
  Round& refreshed = *make_round(given, state, place, arena);
  refreshed.refresh = 7;
  CHECK_FALSE(may_link(refreshed));
  for (bool News::*const what : {&News::load_pushed, &News::command_pushed, &News::executed, &News::idle}) {
    Round& heard = *make_round(given, state, place, arena);
    heard.outcome->news.*what = true;
    CHECK_FALSE(may_link(heard));
  }
  Round& closed = *make_round(given, state, place, arena);
  memory::Recurring::Pattern pattern;
  pattern.rows = 1;
  closed.patterns = arena.copy(&pattern, 1);
  CHECK_FALSE(may_link(closed));
}

TEST_CASE("what is remembered is found by its whole key, and forgotten at once", "[unit][fast]") {
  Memo<Kind> memo;
  const std::size_t hash = 5;  // of all keys
  Kind* const one = memo.add("one", hash);
  Kind* const two = memo.add("two", hash);
  CHECK(memo.find("one", hash) == one);
  CHECK(memo.find("two", hash) == two);
  CHECK(memo.find("three", hash) == nullptr);
  CHECK(memo.find("one", hash + 1) == nullptr);
  CHECK(memo.bytes() >= 2 * sizeof(Kind));
  memo.clear();
  CHECK(memo.find("one", hash) == nullptr);
  CHECK(memo.bytes() < sizeof(Kind));
}
