// sim/program/scattered_planes: which fields of a command say where its planes lie.
#include "sim/program/scattered_planes.h"

#include <catch2/catch.hpp>

using namespace moesaic::program;

TEST_CASE("the last words of a command hold distances of scattered planes and nothing else", "[unit][program]") {
  Command all;
  for (std::size_t before = 2; before < 8; ++before) all.*kPlaneOffsets.at(before - 1) = kAddressMask;
  const CommandWords words = all.pack();
  for (unsigned w = 0; w < kCommandWords; ++w) CHECK((words[w] == 0xffffffffU) == (w >= kFirstScatteredWord));
  for (std::size_t before = 1; before < 8; ++before) {
    Command one;
    one.*kPlaneOffsets.at(before - 1) = 77 + before;
    CHECK(scattered_offset(one, before) == 77 + before);
    CHECK(scattered_offset(one, 0) == 0);
    CHECK(scattered_offset(one, before % 7 + 1) == 0);
  }
}
