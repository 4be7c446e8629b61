// models/memory/dram_config
#include "models/memory/dram_config.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "base/error.h"
#include "models/memory/dram_random.h"
#include "models/memory/memory_model.h"

using namespace moesaic;
using Catch::Matchers::Contains;
using memory::DramConfig;

namespace {

memory::MemoryConfig read(const std::string& rest) {
  const base::YamlNode root = base::YamlNode::parse("memory:\n  kind: dram\n  preset: ddr5-6400\n" + rest, "chip.yaml");
  memory::MemoryConfig config = memory::read_memory_config(root.at("memory"));
  root.finish();
  return config;
}

std::string refusal(const std::string& rest) {
  try {
    read(rest);
  } catch (const base::InputError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("every preset keeps the rules and states its source and its peak", "[unit][memory]") {
  const std::vector<std::pair<std::string, double>> bytes_per_ns{{"ddr5-6400", 25.6},     {"lpddr5-6400", 12.8},
                                                                 {"lpddr5x-8533", 17.07}, {"hbm2e-3200", 25.6},
                                                                 {"hbm3-6400", 25.6},     {"gddr6-16000", 32.0}};
  CHECK(memory::dram_preset_names().size() == bytes_per_ns.size());
  for (const auto& [name, peak] : bytes_per_ns) {
    INFO(name);
    const DramConfig config = memory::dram_preset(name);
    CHECK_FALSE(memory::first_fault(config).has_value());
    CHECK_THAT(memory::dram_preset_source(name), Contains("JESD"));
    memory::MemoryConfig memory;
    memory.kind = "dram";
    memory.dram = config;
    const base::Femtoseconds period(1000000);
    CHECK(memory::peak_bytes(memory, period, base::Cycles(1000)) == Approx(1000 * peak).epsilon(0.001));
    const std::uint64_t least = memory::least_cycles(memory, period, base::Bytes(1 << 20));
    CHECK(memory::peak_bytes(memory, period, base::Cycles(static_cast<std::int64_t>(least))) >= 1 << 20);
    CHECK(memory::peak_bytes(memory, period, base::Cycles(static_cast<std::int64_t>(least) - 1)) < 1 << 20);
  }
}

TEST_CASE("a chip file chooses a preset, its channels and whatever is to differ", "[unit][memory]") {
  CHECK(read("  channels: 1\n").dram == memory::dram_preset("ddr5-6400"));
  const DramConfig config = read(
                                "  channels: 2\n  mapping: row:column:bank:bankgroup:channel\n  read_queue: 48\n"
                                "  timing: {tRCD: 60, tRC: 160}\n")
                                .dram;
  CHECK(config.channels == 2);
  CHECK(config.timing.rcd == 60);
  CHECK(config.timing.rc == 160);
  CHECK(config.timing.rp == 52);
  CHECK(memory::mapping_text(config) == "row:column:bank:bankgroup:channel");
  CHECK(memory::dram_name(config) ==
        "dram(ddr5-6400, 2 x 32 bits, burst 16 at 2 a clock of 312500 fs, 8 x 4 banks of 65536 rows of 4096 bytes, "
        "row:column:bank:bankgroup:channel, queues 48 and 32, drain 24 to 8, cap 16, tRCD 60, tRC 160)");
  CHECK(config.capacity().count() == std::int64_t{1} << 34);
}

TEST_CASE("a DRAM that cannot be is refused with file, line and key", "[unit][bad_config][memory]") {
  CHECK(refusal("") == "chip.yaml:1: memory.channels: got nothing, expected this key");
  CHECK(refusal("  channels: 3\n") == "chip.yaml:4: memory.channels: got 3, expected a power of two in [1, 64]");
  CHECK(refusal("  channels: 0\n") == "chip.yaml:4: memory.channels: got 0, expected a power of two in [1, 64]");
  CHECK(refusal("  channels: 1\n  banks: 0\n") ==
        "chip.yaml:5: memory.banks: got 0, expected a power of two in [1, 8]");
  CHECK(refusal("  channels: 1\n  timing: {tRAS: 51}\n") ==
        "chip.yaml:5: memory.timing.tRAS: got 51, expected at least tRCD = 52");
  CHECK(refusal("  channels: 1\n  timing:\n    tRCD: 104\n") ==
        "chip.yaml:6: memory.timing.tRCD: got 104, expected at most tRAS = 103");
  CHECK(refusal("  channels: 1\n  timing: {tREFI: 944}\n") ==
        "chip.yaml:5: memory.timing.tREFI: got 944, expected at least tRFC + 1 = 945");
  CHECK_THAT(refusal("  channels: 1\n  timing: {tREFI: 1000}\n"),
             Contains("memory.timing.tREFI: got 1000, expected at least tRFC, closing all banks, tRCD and a burst = "));
  CHECK(refusal("  channels: 1\n  timing: {tCCD_S: 7}\n") ==
        "chip.yaml:5: memory.timing.tCCD_S: got 7, expected at least a burst's clocks = 8");
  CHECK(refusal("  channels: 1\n  timing: {tRTP: 0}\n") ==
        "chip.yaml:5: memory.timing.tRTP: got 0, expected clocks, an integer in [1, 10000000]");
  CHECK_THAT(refusal("  channels: 1\n  timing: {tXYZ: 3}\n"), Contains("chip.yaml:5: memory.timing.tXYZ: "));
  CHECK_THAT(refusal("  channels: 1\n  rank: 2\n"), Contains("chip.yaml:5: memory.rank: "));
  const std::string mapping = ", expected row, bank, bankgroup, column and channel, each once, joined by ':'";
  for (const std::string bad :
       {"row:bank:column:channel", "row:bank:bank:column:channel", "row:bank:column:bankgroup:rank",
        "row:bank:column:bankgroup:channel:row", "row:bank:column:bankgroup:"})
    CHECK(refusal("  channels: 1\n  mapping: '" + bad + "'\n") ==
          "chip.yaml:5: memory.mapping: got '" + bad + "'" + mapping);
  CHECK(refusal("  channels: 1\n  write_high: 40\n") ==
        "chip.yaml:5: memory.write_high: got 40, expected at most write_queue = 32");
  CHECK(refusal("  channels: 1\n  write_low: 24\n") ==
        "chip.yaml:5: memory.write_low: got 24, expected less than write_high = 24");
  CHECK_THAT(refusal("  channels: 1\n  starvation_cap: 0\n"), Contains("memory.starvation_cap: got 0, expected"));
  CHECK_THAT(refusal("  channels: 1\n  width_bits: 128\n"),
             Contains("memory.burst_length: got 16, expected bursts of 8 to"));
}

TEST_CASE("random DRAMs keep the rules and differ", "[unit][memory]") {
  base::Rng rng(11);
  std::vector<std::string> names;
  for (int i = 0; i < 300; ++i) {
    const DramConfig config = memory::random_dram(rng);
    CHECK(config.capacity().count() == std::int64_t{1} << 40);
    names.push_back(memory::dram_name(config));
  }
  std::sort(names.begin(), names.end());
  CHECK(std::unique(names.begin(), names.end()) - names.begin() > 290);
}
