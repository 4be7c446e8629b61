// sim/program/load_order
#include "sim/program/load_order.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "base/error.h"
#include "base/rng.h"

using namespace moesaic;
using program::Descriptor;
using program::LoadOrder;

namespace {

Descriptor plane(unsigned expert, unsigned rank, unsigned requests, unsigned layer = 0) {
  Descriptor d;
  d.layer = static_cast<std::uint16_t>(layer);
  d.expert = static_cast<std::uint16_t>(expert);
  d.plane = static_cast<std::uint8_t>(rank);
  d.requests = requests;
  return d;
}

using Sequence = std::vector<std::size_t>;

}  // namespace

TEST_CASE("hottest expert bit first takes the most wanted of the experts' next planes", "[unit][program]") {
  // Expert 0: three rows want 2, 1 and 1 bits. Expert 1: five rows, two of them 3 bits. Expert 2: five rows of 1 bit.
  const std::vector<Descriptor> set{plane(0, 2, 1), plane(2, 1, 5), plane(1, 3, 2),
                                    plane(1, 2, 2), plane(0, 1, 3), plane(1, 1, 5)};
  CHECK(program::load_sequence(set, LoadOrder::kHebf) == Sequence{5, 1, 4, 3, 2, 0});
  CHECK(program::load_sequence(set, LoadOrder::kExpertIndex) == Sequence{4, 0, 5, 3, 2, 1});
  CHECK(program::load_sequence(set, LoadOrder::kFifo) == Sequence{0, 1, 2, 3, 4, 5});
}

TEST_CASE("a wanted plane waits for its expert's more significant one", "[unit][program]") {
  CHECK(program::load_sequence({plane(0, 2, 9), plane(1, 1, 4), plane(0, 1, 3)}, LoadOrder::kHebf) ==
        Sequence{1, 2, 0});
}

TEST_CASE("of equals the lower layer, the lower expert, then the older descriptor goes first", "[unit][program]") {
  const std::vector<Descriptor> set{plane(0, 1, 2, 1), plane(3, 1, 2), plane(2, 1, 2), plane(2, 1, 2)};
  CHECK(program::load_sequence(set, LoadOrder::kHebf) == Sequence{2, 3, 1, 0});
  CHECK(program::load_sequence(set, LoadOrder::kExpertIndex) == Sequence{2, 3, 1, 0});
}

TEST_CASE("every order takes every descriptor once and an expert's planes by rank", "[unit][program]") {
  base::Rng rng(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Descriptor> set;
    for (std::int64_t i = rng.range(1, 20); i > 0; --i)
      set.push_back(plane(static_cast<unsigned>(rng.below(4)), static_cast<unsigned>(rng.range(1, 8)),
                          static_cast<unsigned>(rng.below(5))));
    for (const LoadOrder order : {LoadOrder::kFifo, LoadOrder::kExpertIndex, LoadOrder::kHebf}) {
      Sequence sequence = program::load_sequence(set, order);
      if (order != LoadOrder::kFifo) {
        unsigned rank[4] = {};
        for (const std::size_t i : sequence) {
          CHECK(set[i].plane >= rank[set[i].expert]);
          rank[set[i].expert] = set[i].plane;
        }
      }
      std::sort(sequence.begin(), sequence.end());
      for (std::size_t i = 0; i < sequence.size(); ++i) CHECK(sequence[i] == i);
      CHECK(sequence.size() == set.size());
    }
  }
}

TEST_CASE("a load order is known by its name alone", "[unit][bad_config][program]") {
  CHECK(program::parse_load_order("hebf", "run.yaml:3", "order") == LoadOrder::kHebf);
  CHECK_THROWS_WITH(program::parse_load_order("hottest", "run.yaml:3", "order"),
                    "run.yaml:3: order: got 'hottest', expected one of fifo, expert_index, hebf");
}
