// sim/program/chip
#include "sim/program/chip.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "base/error.h"

using namespace moesaic;
using program::Chip;

namespace {

const std::string kGood =
    "name: small\n"
    "clock_mhz: 500\n"
    "array: {rows: 8, cols: 16, planes_per_cycle: 2, max_act_bits: 8}\n"
    "axi_data_bits: 128\n"
    "buffers: {max_tokens: 4, activation_words: 64, hidden_words: 256, reader_beats: 32, commands: 8}\n"
    "io_queue: {descriptors: 16, requests: 8, jobs: 4}\n"
    "layout: plane_major\n"
    "memory: {kind: simple, read_latency_cycles: 20, write_latency_cycles: 10, bytes_per_cycle: 16}\n";

std::string with(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("a chip file says everything a core is built from", "[unit][program]") {
  const Chip chip = program::parse_chip(kGood, "chip.yaml");
  program::CoreParams core;
  core.rows = 8;
  core.cols = 16;
  core.planes_per_cycle = 2;
  core.max_act_bits = 8;
  core.axi_data_bits = 128;
  core.max_tokens = 4;
  core.act_depth = 64;
  core.hidden_depth = 256;
  core.fifo_depth = 32;
  core.command_depth = 8;
  core.io_depth = 16;
  core.io_credits = 8;
  core.io_jobs = 4;
  CHECK(chip.core == core);
  CHECK(chip.name == "small");
  CHECK(chip.clock_period() == base::Femtoseconds(2000000));
  CHECK(chip.time(base::Cycles(3)) == base::Femtoseconds(6000000));
  CHECK(chip.layout == numerics::LayoutKind::kPlaneMajor);
  CHECK(chip.memory == memory::MemoryConfig{"simple", 20, 10, 16});
  CHECK(chip.hash.size() == 64);
  CHECK(chip.hash != program::parse_chip(with("small", "large"), "chip.yaml").hash);
}

TEST_CASE("a clock may be given as a period in femtoseconds", "[unit][program]") {
  CHECK(program::parse_chip(with("clock_mhz: 500", "clock_period_fs: 1666667"), "c").clock_period() ==
        base::Femtoseconds(1666667));
}

TEST_CASE("a chip that cannot be built is refused with file, line and key", "[unit][bad_config][program]") {
  const auto refusal = [](const std::string& from, const std::string& to) -> std::string {
    try {
      program::parse_chip(with(from, to), "chip.yaml");
    } catch (const base::InputError& error) {
      return error.what();
    }
    return "accepted";
  };
  CHECK(refusal("rows: 8", "rows: 0") == "chip.yaml:3: array.rows: got 0, expected a power of two in [4, 64]");
  CHECK(refusal("rows: 8", "rows: 12") == "chip.yaml:3: array.rows: got 12, expected a power of two in [4, 64]");
  CHECK(refusal("cols: 16", "cols: sixteen") ==
        "chip.yaml:3: array.cols: got sixteen, expected a power of two in [4, 64]");
  CHECK(refusal("planes_per_cycle: 2", "planes_per_cycle: 3") ==
        "chip.yaml:3: array.planes_per_cycle: got 3, expected 1, 2 or 4");
  CHECK(refusal("max_act_bits: 8", "max_act_bits: 12") ==
        "chip.yaml:3: array.max_act_bits: got 12, expected 4, 8 or 16");
  CHECK(refusal("axi_data_bits: 128", "axi_data_bits: 1024") ==
        "chip.yaml:4: axi_data_bits: got 1024, expected 64, 128, 256 or 512");
  CHECK(refusal("max_tokens: 4", "max_tokens: 256") ==
        "chip.yaml:5: buffers.max_tokens: got 256, expected a power of two in [1, 128]");
  CHECK(refusal("max_tokens: 4", "max_tokens: 128") ==
        "chip.yaml:5: buffers.activation_words: got 64, expected a power of two in [128, 65536]");
  CHECK(
      refusal("clock_mhz: 500", "clock_mhz: 300") ==
      "chip.yaml:2: clock_mhz: got 300, expected a divisor of 10^9, or clock_period_fs: a period is a whole number of "
      "femtoseconds");
  CHECK(refusal("clock_mhz: 500", "clock_mhz: 500\nclock_period_fs: 2000000") ==
        "chip.yaml:3: clock_period_fs: got 2000000, expected either clock_period_fs or clock_mhz");
  CHECK(refusal("layout: plane_major", "layout: row_major") ==
        "chip.yaml:7: layout: got row_major, expected one of tile_major, plane_major, interleaved");
  CHECK(refusal("kind: simple", "kind: sram").find("chip.yaml:8: memory.kind: got sram, expected") == 0);
  CHECK(refusal("kind: simple", "kind: dram, preset: ddr5-6400, channels: 1").find("chip.yaml:8: memory.") == 0);
  CHECK(refusal("bytes_per_cycle: 16", "bytes_per_cycle: 0").find("chip.yaml:8: memory.bytes_per_cycle: got 0") == 0);
  CHECK(refusal("descriptors: 16", "descriptors: 64") ==
        "chip.yaml:6: io_queue.descriptors: got 64, expected a power of two in [4, 32]");
  CHECK(refusal("requests: 8", "requests: 0") ==
        "chip.yaml:6: io_queue.requests: got 0, expected a power of two in [1, 64]");
  CHECK(refusal("jobs: 4", "jobs: 1") == "chip.yaml:6: io_queue.jobs: got 1, expected a power of two in [2, 16]");
  CHECK(refusal("name: small", "name: small\nrow: 3").find("chip.yaml:2: row: ") == 0);
  CHECK(refusal("layout: plane_major\n", "").find("layout") != std::string::npos);
}

TEST_CASE("every shipped chip file is accepted and named after its file", "[unit][program]") {
  int chips = 0;
  for (const auto& entry : std::filesystem::directory_iterator("chips")) {
    INFO(entry.path().string());
    const Chip chip = program::read_chip(entry.path().string());
    CHECK(chip.name == entry.path().stem().string());
    ++chips;
  }
  CHECK(chips >= 9);
}
