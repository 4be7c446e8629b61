// docs/reproductions/read-me.md: its commands print what it shows, on a trace with the published reuse.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <sstream>
#include <vector>

#include "base/atomic_file.h"
#include "tests/bad_config/cli/run_program.h"
#include "workloads/synth.h"
#include "workloads/zoo.h"

using namespace moesaic;
using testing::Folder;
using testing::Outcome;
using testing::run_program;

namespace {

struct Block {
  std::string command;  ///< without the program's name
  std::vector<std::string> shown;
};

/// The indented lines that begin with `$ moesaic`, each with the indented lines after it.
std::vector<Block> blocks_of(const std::string& page) {
  const std::string prompt = "    $ moesaic ";
  std::vector<Block> blocks;
  std::istringstream lines(base::read_file(page));
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, prompt.size(), prompt) == 0) {
      blocks.push_back({line.substr(prompt.size()), {}});
      inside = true;
    } else if (inside && line.compare(0, 4, "    ") == 0) {
      blocks.back().shown.push_back(line.substr(4));
    } else {
      inside = false;
    }
  }
  return blocks;
}

std::string with_folder(std::string text, const std::string& folder) {
  for (std::size_t at = text.find("$T"); at != std::string::npos; at = text.find("$T")) text.replace(at, 2, folder);
  return text;
}

}  // namespace

TEST_CASE("the commands of the Read-ME page print the page's numbers", "[regress]") {
  const Folder folder;
  const std::vector<Block> blocks = blocks_of("docs/reproductions/read-me.md");
  REQUIRE(blocks.size() == 8);
  for (const Block& block : blocks) {
    CAPTURE(block.command);
    const Outcome outcome = run_program(with_folder(block.command, folder.path()));
    REQUIRE(outcome.exit_code == 0);
    std::vector<std::string> printed;
    std::istringstream lines(outcome.out);
    for (std::string line; std::getline(lines, line);) {
      line.erase(line.find_last_not_of(' ') + 1);
      printed.push_back(line);
    }
    if (!printed.empty()) printed.erase(printed.begin());  // names the trace's path
    CHECK(printed == block.shown);
  }
}

TEST_CASE("the Read-ME traces reuse the last token's experts as often as published, within 3 standard errors",
          "[regress]") {
  constexpr double kPublished = 2921.0 / 4096.0;
  for (const int top_k : {1, 2}) {
    const workloads::Network network =
        workloads::find_network("docs/reproductions/read-me/top" + std::to_string(top_k), "test", "network");
    REQUIRE(network.top_k == top_k);
    REQUIRE(network.experts == 8);
    workloads::SynthParameters p;
    p.requests = 24;
    p.prompt_tokens = 4096;
    p.decode_tokens = 0;
    p.zipf = 0;
    p.reuse = top_k == 1 ? 0.672154 : 0.268176;
    double pairs = 0, reused = 0;
    std::vector<std::uint32_t> before;
    workloads::synthesise(network, p, [&](const workloads::TraceRow& row) {
      if (row.position > 0) {
        pairs += 1;
        bool any = false;
        for (const std::uint32_t expert : row.experts)
          any = any || std::find(before.begin(), before.end(), expert) != before.end();
        reused += any ? 1 : 0;
      }
      before = row.experts;
    });
    const double error = std::sqrt(kPublished * (1 - kPublished) / pairs);
    CHECK(std::abs(reused / pairs - kPublished) < 3 * error);
  }
}
