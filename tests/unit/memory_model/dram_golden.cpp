// models/memory/dram_channel, dram_memory: what they did when the policy of docs/memory.md was first written.
#include <catch2/catch.hpp>

#include "tests/unit/memory_model/dram_fingerprint.h"

using namespace moesaic;

// The numbers are what the two functions return: after a change of the policy, which must say what it does to results,
// write down the new ones. A change that only makes the model faster leaves them as they are.
TEST_CASE("the DRAM takes, refuses and finishes every beat when it always did, by the same commands",
          "[unit][memory]") {
  CHECK(testing::fingerprint_of_random_parts(1, 100) == 0x2630a04afa0100ab);
  CHECK(testing::fingerprint_of_presets(2, 5000) == 0x2d2857e99a8a4c5b);
}
