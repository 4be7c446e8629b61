// What evaluate prints, and that a quantised network is the same whoever names it.
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/bad_config/cli/run_program.h"
#include "workloads/checkpoint.h"
#include "workloads/plan.h"

using namespace moesaic;
using testing::run_program;

namespace {

/// Two windows of the evaluation tokens, and four to calibrate on.
struct Files {
  testing::Folder folder;
  std::string text = folder.file("text.bin"), calibration = folder.file("calibration.bin");
  Files() {
    base::write_file(text, base::read_file("data/tokens/evaluation.bin").substr(0, 512));
    base::write_file(calibration, base::read_file("data/tokens/calibration.bin").substr(0, 1024));
  }
  nlohmann::ordered_json evaluate(const std::string& rest) const {
    const auto outcome = run_program("evaluate --json --model data/model --tokens " + text + " " + rest);
    CAPTURE(outcome.err);
    REQUIRE(outcome.exit_code == 0);
    return nlohmann::ordered_json::parse(outcome.out);
  }
};

std::vector<std::string> keys(const nlohmann::ordered_json& j) {
  std::vector<std::string> all;
  for (const auto& [key, value] : j.items()) all.push_back(key);
  return all;
}

}  // namespace

TEST_CASE("evaluate --json keeps its first four keys and says divergence only against float", "[regress][evaluate]") {
  const Files files;
  const auto real = files.evaluate("--plan none");
  const std::vector<std::string> always = {"bits_per_byte", "windows",    "predicted",
                                           "stderr",        "perplexity", "perplexity_stderr"};
  CHECK(keys(real) == always);
  CHECK(real["windows"] == 2);
  CHECK(real["predicted"] == 510);
  CHECK(real["perplexity"].get<double>() == Approx(std::exp2(real["bits_per_byte"].get<double>())));
  CHECK(real["perplexity_stderr"].get<double>() ==
        Approx(real["perplexity"].get<double>() * std::log(2.0) * real["stderr"].get<double>()));

  // The deviation of one window is not known.
  const auto one = files.evaluate("--plan int2 --against-float --window 512");
  for (const char* key : {"stderr", "perplexity_stderr", "increase_stderr", "divergence_stderr"})
    CHECK(one[key].is_null());

  const std::string windows = files.folder.file("windows.csv");
  const auto two = files.evaluate("--plan int2 --against-float --per-window " + windows);
  std::vector<std::string> against = always;
  against.insert(against.end(),
                 {"float_bits_per_byte", "increase", "increase_stderr", "divergence", "divergence_stderr"});
  CHECK(keys(two) == against);
  CHECK(two["float_bits_per_byte"] == real["bits_per_byte"]);
  CHECK(two["increase"].get<double>() ==
        Approx(two["bits_per_byte"].get<double>() - real["bits_per_byte"].get<double>()));
  CHECK(two["divergence"].get<double>() > 0.05);
  CHECK(two["increase_stderr"].get<double>() > 0);
  CHECK(two["divergence_stderr"].get<double>() > 0);
  const std::string table = base::read_file(windows);
  CHECK(table.substr(0, table.find('\n')) == "window,bits_per_byte,float_bits_per_byte,divergence");
}

TEST_CASE("GPTQ by options and by a plan file give the same loss, with one layer in memory or all",
          "[regress][evaluate]") {
  const Files files;
  const auto by_options = files.evaluate("--plan int2 --quantiser gptq --calibration-tokens " + files.calibration);
  CHECK(by_options["bits_per_byte"] != files.evaluate("--plan int2")["bits_per_byte"]);
  const workloads::Checkpoint checkpoint("data/model");
  workloads::Plan plan =
      workloads::uniform_plan(checkpoint.network(), checkpoint.hash(), numerics::Format::integer(2), 64);
  plan.quantiser = workloads::gptq_quantiser(files.calibration);
  const std::string path = files.folder.file("plan.yaml");
  workloads::write_plan(plan, path);
  CHECK(files.evaluate("--plan " + path) == by_options);
  CHECK(files.evaluate("--resident-layers 1 --plan " + path) == by_options);
}
