// moesaic simulate: a run's memory does not grow with its steps.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/bad_config/cli/run_program.h"

using namespace moesaic;
using moesaic::testing::Folder;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

const char* const kShape = R"(name: tiny
source: made up
hidden: 32
expert_intermediate: 16
experts: 4
top_k: 2
shared_experts: 0
shared_intermediate: 0
layers: 3
dense_first: 0
moe_every: 1
dense_intermediate: 0
heads: 2
kv_heads: 1
head_dim: 16
gated: true
)";
const char* const kStorage =
    "storage: {kind: nvme, preset: nvme-pcie4x4}\n"
    "cache: {policy: belady, capacity_bytes: 8192, load_order: fifo, decision_cycles: 10, "
    "prefetch: {kind: perfect}, start: cold}\n";

/// The greatest resident set, in KiB, of the program and of the processes that it waited for.
std::int64_t peak_kib(const std::vector<std::string>& arguments, const std::string& output) {
  std::vector<char*> argv;
  std::vector<std::string> words = arguments;
  words.insert(words.begin(), MOESAIC_PROGRAM);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const int to = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(to, STDOUT_FILENO);
    dup2(to, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  rusage used{};
  REQUIRE(wait4(child, &status, 0, &used) == child);
  INFO(base::read_file(output));
  REQUIRE((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  return used.ru_maxrss;
}

/// Of one request that decodes `tokens`.
std::int64_t peak_of(const Folder& folder, int tokens, const std::string& chip, const std::vector<std::string>& more) {
  base::write_file(folder.file("tiny.yaml"), kShape);
  std::string rows = "request,step,phase,position,layer,experts,weights\n";
  for (int token = 0; token < tokens; ++token)
    for (int layer = 0; layer < 3; ++layer)
      rows += "0," + std::to_string(token) + (token == 0 ? ",prefill," : ",decode,") + std::to_string(token) + "," +
              std::to_string(layer) + "," + std::to_string((token + layer) % 4) + ";" +
              std::to_string((3 * token + layer + 1 + 2 * (token % 2)) % 4) + ",0.6;0.4\n";
  base::write_file(folder.file("t.csv"), rows);
  base::write_file(folder.file("w.yaml"), "model: tiny.yaml\ntrace: t.csv\n");
  base::write_file(folder.file("chip.yaml"), chip);
  std::vector<std::string> arguments{"simulate",
                                     "--chip",
                                     folder.file("chip.yaml"),
                                     "--workload",
                                     folder.file("w.yaml"),
                                     "--plan",
                                     "int4",
                                     "--threads",
                                     "1",
                                     "--out",
                                     folder.file("out")};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return peak_kib(arguments, folder.file("output"));
}

}  // namespace

// When all steps were lowered at once, each left some 40 KiB behind. Allowed is what fills up once in any run that is
// not quite short: buffers of the files in which results wait, up to 128 KiB each.
TEST_CASE("a run of sixteen times the steps takes at most 4 MiB more memory on every engine", "[regress][simulate]") {
  if (kSanitized) {
    // Freed memory stays in a sanitizer's quarantine, so that a resident set says nothing of what is in use; the unit
    // test that counts live phases holds there too.
    WARN("not under a sanitizer, which keeps freed memory");
    return;
  }
  const std::string simple = base::read_file("chips/r8c4p2a8.yaml"),
                    dram = base::read_file("chips/r16c16p2a8-ddr5.yaml");
  struct Case {
    std::string name, chip;
    int steps;
    std::vector<std::string> options;
  };
  // Every cycle is stepped: states that the fast engine remembers for its shortcuts have a bound of their own.
  const std::vector<std::string> fast{"--engine", "fast", "--no-shortcuts"};
  const std::vector<std::string> timing{"--engine", "fast", "--no-shortcuts", "--no-data"};
  for (const Case& c :
       {Case{"fast", simple, 64, fast}, Case{"fast, no data", simple, 64, timing},
        Case{"fast, storage", simple + kStorage, 64, timing}, Case{"fast, DRAM", dram, 64, timing},
        Case{"cycle", simple, 16, {"--engine", "cycle"}}, Case{"rtl", simple, 16, {"--engine", "rtl"}}}) {
    const Folder folder;
    const std::int64_t few = peak_of(folder, c.steps, c.chip, c.options),
                       many = peak_of(folder, 16 * c.steps, c.chip, c.options);
    INFO(c.name << ": " << few << " KiB, " << many << " KiB");
    CHECK(many - few <= 4096);
  }
}
