// What one nested copy of every expert takes, against separate copies at each width.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/dump_json.h"
#include "base/error.h"
#include "cli/commands.h"
#include "mapping/nested_storage.h"
#include "workloads/zoo.h"

namespace moesaic::cli {
namespace {

struct StorageCommand {
  std::string network;
  std::int64_t group = 128;
  int least = 2, most = 4;
  int other_bits = 16;
  bool other_given = false;
  bool json = false;
};

void run(const StorageCommand& command) {
  if (command.other_given && command.network.empty())
    throw base::ConfigError("moesaic storage", "--other-bits", "it without --model", "--model beside it");
  if (command.most < command.least)
    throw base::ConfigError("moesaic storage", "--to", std::to_string(command.most),
                            fmt::format("at least --from, {}", command.least));
  const mapping::NestedStorage s = mapping::nested_storage(command.least, command.most, command.group);
  nlohmann::ordered_json j = {{"widths", {command.least, command.most}},
                              {"group", command.group},
                              {"nested_bits_per_weight", s.nested},
                              {"separate_bits_per_weight", s.separate},
                              {"ratio", s.nested / s.separate},
                              {"nested_bits_per_weight_with_zero_points", s.nested_zero},
                              {"separate_bits_per_weight_with_zero_points", s.separate_zero},
                              {"ratio_with_zero_points", s.nested_zero / s.separate_zero}};
  std::optional<double> whole;
  double share = 0;
  if (!command.network.empty()) {
    const workloads::Network network = workloads::find_network(command.network, "moesaic storage", "--model");
    const mapping::WholeModel model =
        mapping::whole_model_storage(network, s, command.least, command.most, command.other_bits);
    whole = model.ratio;
    share = model.expert_share;
    j["model"] = command.network;
    j["expert_share"] = share;
    j["whole_model_ratio"] = *whole;
  }
  if (command.json) {
    fmt::print("{}\n", base::dump_json(j, 2));
    return;
  }
  fmt::print("experts, int{}..int{}, groups of {}: bits of a weight with its group's parameters\n", command.least,
             command.most, command.group);
  fmt::print("  16-bit scales                     nested {:.4f}, separate copies {:.4f}: {:.4f}\n", s.nested,
             s.separate, s.nested / s.separate);
  fmt::print("  16-bit scales, 8-bit zero points  nested {:.4f}, separate copies {:.4f}: {:.4f}\n", s.nested_zero,
             s.separate_zero, s.nested_zero / s.separate_zero);
  if (whole)
    fmt::print(
        "whole copies of {}, attention, shared experts and dense layers at {} bits in each, embeddings and routers "
        "left "
        "out ({:.1f}% of these weights in experts): {:.4f}\n",
        command.network, command.other_bits, 100 * share, *whole);
}

}  // namespace

void add_storage(CLI::App& app) {
  CLI::App* command = app.add_subcommand("storage", "Nested experts against separate copies at every width");
  const auto options = std::make_shared<StorageCommand>();
  command->add_option("--from", options->least, "Least width")->check(CLI::Range(1, 8))->capture_default_str();
  command->add_option("--to", options->most, "Greatest width")->check(CLI::Range(1, 8))->capture_default_str();
  command->add_option("--group", options->group, "Weights that share a scale")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
      ->capture_default_str();
  command
      ->add_option("--model", options->network,
                   "Whole copies too, of a model folder, a config.json, a shape file (.yaml) or a name of the zoo")
      ->type_name("NETWORK");
  CLI::Option* other =
      command->add_option("--other-bits", options->other_bits, "Of the weights that are no routed expert's")
          ->check(CLI::Range(1, 32))
          ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, other] {
    options->other_given = other->count() > 0;
    run(*options);
  });
}

}  // namespace moesaic::cli
